"""Commands in namespaces from Python: `run` and `Popen`, the interface of `subprocess`.

Runs in the parent. `subprocess.Popen` itself does the pipes, text, `communicate` and time limits;
only how the process is created, waited for and signalled is ours.
"""

from __future__ import annotations

import errno
import operator
import os
import subprocess
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

from pyspaces import launch
from pyspaces.errors import EXECUTE, SpaceError, UsageFault
from pyspaces.kernel import spawn
from pyspaces.launch import signals
from pyspaces.launch.handed import Handed
from pyspaces.launch.outer.ending import StatusLost
from pyspaces.library import space
from pyspaces.library.explaining import with_settings
from pyspaces.library.refusal import as_os_error
from pyspaces.plan import checked
from pyspaces.record import told

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Unpack

    from pyspaces.launch import Running
    from pyspaces.library import keywords as kw
    from pyspaces.library.keywords import BytesPath
    from pyspaces.plan import Plan
    from pyspaces.status import Status, Usage

    Words = str | bytes | os.PathLike[str] | os.PathLike[bytes]
    Args = Words | Sequence[Words]
    Input = str | bytes | bytearray | memoryview | None

# Keywords of subprocess.Popen that a setting replaces, and which.
_REPLACED = {"group": "setgid", "extra_groups": "groups"}
_SHELL, _INTS = "/bin/sh", 1 << 31  # a C int is below
# The arguments of subprocess.Popen._execute_child, in their order, in CPython 3.11 to 3.13.
_GIVEN = (
    *("args", "executable", "preexec_fn", "close_fds", "pass_fds", "cwd", "env"),
    *("startupinfo", "creationflags", "shell"),
    *("p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite"),
    *("restore_signals", "gid", "gids", "uid", "umask", "start_new_session", "process_group"),
)
_PIPES = slice(10, 16)
_CODE = subprocess.Popen.__init__.__code__
_OF_SUBPROCESS = _CODE.co_varnames[1 : _CODE.co_argcount + _CODE.co_kwonlyargcount]
_KNOWN = frozenset((*space.TAKEN, *_OF_SUBPROCESS))
# close_fds is that of subprocess.Popen.
_SETTINGS = {*space.TAKEN, *space.REFUSED} - {"close_fds"}


class Popen(subprocess.Popen[Any]):
    """A command in new namespaces: `subprocess.Popen`, with the settings of a launch.

    args, and the keywords of `subprocess.Popen`: as there, but for those listed below. Further
    keywords are the settings of `Container`, with the same meaning: user=True, pid=True,
    uid_map=..., mounts=[...]; `pyspaces.library.keywords` has each with its type. plan: a Plan
    instead of settings; its command is replaced by `args`.

    user: whether the user namespace is new; for another user, use setuid, setgid and groups in
    place of user, group and extra_groups. cwd: the same as the setting workdir, a path inside.
    env: what setenv, unsetenv and the like apply to. start_new_session: the same as new_session.
    preexec_fn is refused. process_group=0 or new_session=True keeps a command from signalling the
    caller's process group, which kill(0, ...) reaches even out of a pid namespace.

    pid: the process ID of the command, outside; with init=True, that of the process 1 above it.
    returncode: as in `subprocess`, the exit status, or minus the signal; 0, and a status of None,
    if something else has reaped the process. A command that is process
    1 of a pid namespace ends by INT, TERM, HUP and QUIT as any other would.

    Raises UsageFault (a ValueError) for invalid settings, and SpaceError if the launch fails: if
    the kernel refused a call it is an OSError, too, of the right subclass, with `errno` and
    `filename`: FileNotFoundError if there is no such command. Nothing is left running then.
    """

    def __init__(
        self,
        args: Args,
        bufsize: int = -1,
        *,
        plan: Plan | None = None,
        **keywords: Unpack[kw.Command],
    ) -> None:
        self._running: Running | None = None
        self._usage: Usage | None = None
        self._status: Status | None = None
        self.args, self.returncode = args, None
        if callable(args):
            raise TypeError(
                f"args: takes a command, and is {told(args)}:"
                " pyspaces.Container(function) runs a function"
            )
        settings, rest = split(keywords)
        self._settings = _checked_settings(settings, rest, plan)
        self._plan = plan
        super().__init__(args, bufsize, **rest)

    @property
    def status(self) -> Status | None:
        """How the command ended, as exit status or signal; None while it runs."""
        self.poll()
        return self._status

    @property
    def usage(self) -> Usage | None:
        """The time and memory that the command used; None while it runs."""
        self.poll()
        return self._usage

    @property
    def pidfd(self) -> int:
        """A descriptor that polls readable once the command has ended; -1 after that was seen."""
        return self._running.pidfd if self._running else -1

    def send_signal(self, sig: int) -> None:
        """Send a signal to the command; one that has ended gets none."""
        self.poll()
        if self._running and self.returncode is None:
            self._running.send_signal(sig)

    def _execute_child(self, *values: Any) -> None:
        """Create the process, with the arguments that `subprocess.Popen.__init__` has prepared."""
        given = SimpleNamespace(**dict(zip(_GIVEN, values, strict=True)))
        if given.preexec_fn is not None:
            raise UsageFault(["preexec_fn: cannot run in the new namespaces: use a Container"])
        words = _words(given.args, shell=given.shell)
        umask = _c_int("umask", given.umask)
        process_group = _c_int("process_group", given.process_group)
        handed = Handed(
            streams=_streams(given.p2cread, given.c2pwrite, given.errwrite),
            kept=_kept(given.pass_fds) if given.close_fds else None,
            executable=_executable(given.executable, shell=given.shell),
            umask=umask if umask >= 0 else None,
            process_group=process_group if process_group >= 0 else None,
        )
        if given.shell and given.executable is not None:
            words[0] = os.fsdecode(given.executable)
        plan = self._plan_for(words, given.cwd, new_session=given.start_new_session)
        try:
            self._launch(plan, handed, given)
        except SpaceError as error:
            program = handed.executable or words[0]
            raise as_os_error(space.explained(error), _subject(error, program, given.cwd)) from None
        self._close_pipe_fds(*values[_PIPES])  # type: ignore[attr-defined]

    def _launch(self, plan: Plan, handed: Handed, given: SimpleNamespace) -> None:
        inherited = None if given.restore_signals else signals.Inherited.capture(with_python=True)
        with spawn.forks_held():
            opened: list[int] = []
            try:
                _open_streams(opened)
                # At once, and so without **: if a handler raises, __del__ has to know of it.
                self._running = launch.start(
                    plan, variables=_variables(given.env), inherited=inherited, handed=handed
                )
                self.pid, self._child_created = self._running.pid, True
            finally:
                for number in opened:
                    os.close(number)

    def _plan_for(self, words: list[str], cwd: BytesPath | None, *, new_session: bool) -> Plan:
        settings = dict(self._settings)
        if cwd is not None:
            settings["workdir"] = os.fsdecode(cwd)
        if new_session:
            settings["new_session"] = True
        if self._plan is None:
            return space.plan_of(words, settings, what="Popen()")
        plan = checked(self._plan).with_command(words)
        if plan.holds("network") and plan.network.listen:
            raise UsageFault([f"listen: {space.REFUSED_FOR_COMMAND['listen']}"])
        if cwd is not None:
            plan = plan.replace(workdir=os.fsdecode(cwd))
        return plan.replace(life=plan.life.replace(new_session=True)) if new_session else plan

    def _internal_poll(self, _deadstate: int | None = None, **_: object) -> int | None:
        if self.returncode is None and self._running:
            try:
                status = self._running.poll()
            except StatusLost:
                self._lose_status(0 if _deadstate is None else _deadstate)
            else:
                if status is not None:
                    self._settle(status)
        return self.returncode

    def _wait(self, timeout: float | None) -> int:
        if self.returncode is None and self._running:
            try:
                self._settle(self._running.wait(timeout))
            except StatusLost:
                self._lose_status(0)
            except TimeoutError:
                raise subprocess.TimeoutExpired(self.args, timeout or 0) from None
        return int(self.returncode)

    def _settle(self, status: Status) -> None:
        running = self._running
        if running and self.returncode is None:
            self._usage, self._status = running.usage, status
            self.returncode = -status.signal if status.signal is not None else status.code or 0
            running.close()

    def _lose_status(self, code: int) -> None:
        """Set the return code as `subprocess` does for a child that something else has reaped."""
        if self._running:
            self.returncode = code
            self._running.close()


class Completed(subprocess.CompletedProcess[Any]):
    """The result of `run`: a CompletedProcess that also has the status and the usage.

    status: how the command ended, as exit status or signal; None if something else has reaped it.
    usage: its time and memory.
    """

    status: Status | None
    usage: Usage | None


def run(
    args: Args,
    *,
    input: Input = None,  # noqa: A002 - the name that subprocess.run has
    capture_output: bool = False,
    timeout: float | None = None,
    check: bool = False,
    bufsize: int = -1,
    plan: Plan | None = None,
    **keywords: Unpack[kw.Command],
) -> Completed:
    """Run a command in new namespaces, wait for it, and return its result: `subprocess.run`.

    args, input, capture_output, timeout (seconds), check: as for `subprocess.run`. Further
    keywords: those of `subprocess.Popen` (stdin, stdout, stderr, text, encoding, cwd, env, shell,
    pass_fds, ...), and the settings of a launch, which are listed below. plan: a Plan instead of
    settings. What differs from `subprocess` is in the docstring of `Popen`.

        done = pyspaces.run(["id", "-u"], user=True, pid=True, capture_output=True, text=True)
        done.returncode, done.stdout, done.status, done.usage

    Returns a CompletedProcess that also has `status` and `usage`. Raises CalledProcessError if
    check is set and the command fails, TimeoutExpired when the time is over (the command is killed
    first), and what `Popen` raises.
    """
    return finished(
        lambda **pipes: Popen(args, bufsize, plan=plan, **{**keywords, **pipes}),
        input=input,
        capture_output=capture_output,
        timeout=timeout,
        check=check,
        given=keywords,
    )


def finished(
    start: Callable[..., Popen],
    *,
    input: Input,  # noqa: A002
    capture_output: bool,
    timeout: float | None,
    check: bool,
    given: Mapping[str, object],
) -> Completed:
    """Start a command with the pipes that it needs, and wait for it, as `run` describes.

    given: the other keywords.
    """
    pipes: dict[str, int] = {}
    if input is not None:
        if given.get("stdin") is not None:
            raise ValueError("stdin and input arguments may not both be used.")
        pipes["stdin"] = subprocess.PIPE
    if capture_output:
        if given.get("stdout") is not None or given.get("stderr") is not None:
            raise ValueError("stdout and stderr arguments may not be used with capture_output.")
        pipes["stdout"] = pipes["stderr"] = subprocess.PIPE
    with start(**pipes) as process:
        try:
            stdout, stderr = process.communicate(input, timeout=timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise
        except BaseException:  # Ctrl-C included: __exit__ waits for it
            process.kill()
            raise
        code = process.poll() or 0
    if check and code:
        raise subprocess.CalledProcessError(code, process.args, stdout, stderr)
    done = Completed(process.args, code, stdout, stderr)
    done.status, done.usage = process.status, process.usage
    return done


def split(keywords: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the settings of a launch among keywords, and those of `subprocess`.

    A umask is both: a number for `subprocess`, else a text in octal.
    """
    ours = {name: value for name, value in keywords.items() if name in _SETTINGS}
    if isinstance(ours.get("umask"), int):
        del ours["umask"]
    return ours, {name: value for name, value in keywords.items() if name not in ours}


def _checked_settings(
    settings: dict[str, Any], keywords: Mapping[str, Any], plan: Plan | None
) -> dict[str, Any]:
    """Return the settings. Raises UsageFault for invalid or conflicting keywords, and TypeError."""
    space.check_names("Popen()", keywords, _KNOWN)
    faults = [f"{name}: use {setting}" for name, setting in _REPLACED.items() if name in keywords]
    if "user" in settings and not isinstance(settings["user"], bool):
        faults.append("user: is whether the user namespace is new; for another user, use setuid")
    if plan is not None and settings:
        faults.append(f"plan: cannot be combined with {', '.join(settings)}")
    if faults:
        raise UsageFault(faults)
    return settings


def _words(args: Args, *, shell: bool) -> list[str]:
    if shell and isinstance(args, os.PathLike):
        raise TypeError("path-like args is not allowed when shell is true")
    each = [args] if isinstance(args, str | bytes | os.PathLike) else args
    words = [os.fsdecode(word) for word in each]
    return [_SHELL, "-c", *words] if shell else words


def _executable(executable: BytesPath | None, *, shell: bool) -> str | None:
    if executable is None:
        return _SHELL if shell else None
    return os.fsdecode(executable)


def _c_int(name: str, value: Any) -> int:
    """Return a number that the kernel can take. Raises TypeError and UsageFault."""
    number = operator.index(value)
    if not -_INTS <= number < _INTS:
        raise UsageFault([f"{name}: {told(value)} is too large"])
    return number


def _kept(descriptors: Iterable[Any]) -> tuple[int, ...]:
    kept = tuple(map(int, descriptors))
    if not all(0 <= descriptor < _INTS for descriptor in kept):
        raise ValueError("pass_fds: has a number that is not a descriptor")
    return kept


def _streams(stdin: int, stdout: int, stderr: int) -> tuple[int, int, int]:
    """Return the descriptors. Raises OSError for a negative one, but -1, which is the caller's."""
    if min(stdin, stdout, stderr) < -1:  # such as STDOUT for standard output
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))
    return stdin, stdout, stderr


def _variables(env: Mapping[Any, Any] | None) -> dict[bytes, bytes] | None:
    if env is None:
        return None
    if not isinstance(env, Mapping):
        raise TypeError(f"env: takes a mapping of names to values, and is {told(env)}")
    variables = {os.fsencode(name): os.fsencode(value) for name, value in env.items()}
    for name, value in variables.items():
        if b"=" in name or not name:
            raise ValueError("illegal environment variable name")
        if b"\0" in name + value:
            raise ValueError("embedded null byte")
    return variables


def _subject(error: SpaceError, program: str, cwd: BytesPath | None) -> str | None:
    """Return the file name for the error of a failed launch, as `subprocess` chooses it."""
    if error.report is None:
        return None
    if error.report.code == EXECUTE.code:
        return program if not error.report.call else None
    return os.fsdecode(cwd) if cwd is not None and error.report.path else error.report.path or None


def _open_streams(opened: list[int]) -> None:
    """Open those of 0, 1 and 2 that are closed, before a launch opens any; add them to `opened`."""
    while (descriptor := os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)) <= 2:
        opened.append(descriptor)
    os.close(descriptor)


for _target in (Popen, run):
    with_settings(_target, refused=space.REFUSED_FOR_COMMAND, more=space.FOR_COMMAND)
