"""Sandbox: one set of namespaces in which a program runs several commands and functions.

Runs in the caller, but for `_stay_inner`, which is process 1 of the sandbox.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
import warnings
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from typing import Any

from pyspaces import launch, settings
from pyspaces.errors import SpaceError, UsageFault
from pyspaces.features.existing import joining
from pyspaces.features.existing.values import Join, Joining
from pyspaces.kernel import ioctl_ns, libc, namespaces, nsfs, processes, procfs, spawn
from pyspaces.launch import signals
from pyspaces.launch.inner.join import join
from pyspaces.launch.outer.ending import StatusLost
from pyspaces.library import space
from pyspaces.library.command import Completed, Popen, finished, split
from pyspaces.library.function import FunctionProcess, label_of
from pyspaces.plan import Plan

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import Self, Unpack

    from pyspaces.kernel.spawn import Spawned
    from pyspaces.launch import Running
    from pyspaces.library import keywords as kw
    from pyspaces.library.command import Args, Input

# The parts of a plan that are for the commands, and not for the process that holds the namespaces.
_OF_COMMANDS = ("identity", "privileges", "environment")
_PAUSE = 0.01  # seconds between two looks at commands that are being killed
_PATIENCE = 1.0  # seconds until those that nobody knows of are looked for
_WITHOUT = {
    "init": "a Sandbox has a process 1 of its own",
    "init_wait": "a Sandbox has a process 1 of its own",
    "kill_child": "everything in a Sandbox ends with it",
    "registered": "a program enters its Sandbox by run(), popen() and call()",
    "new_session": "is for the commands: give it to run() or popen()",
}


class Sandbox:
    """Namespaces for several commands and functions, which end together: a context manager.

    Keywords: the settings of `Container`, with the same meaning. A new PID namespace is always
    among the namespaces: when the Sandbox is closed, or this process ends, the kernel kills every
    process in it. Those of identity, privileges and environment (setuid, cap_drop, setenv, ...) and
    workdir are for the commands.

    `run`, `popen` and `call` can be used from several threads at once. Commands do not share the
    memory of this process, and cannot look into the process that holds the namespaces.

    One that nobody refers to any more is closed, with a ResourceWarning.

    Raises UsageFault for invalid settings; entering the context raises SpaceError if the launch
    fails, as it does in a function that `call` has called: that has the memory of this process, and
    may not be looked into.
    """

    _running: Running | None = None  # for __del__, if __init__ has failed

    def __init__(self, **keywords: Unpack[kw.Space]) -> None:
        faults = [f"{name}: {_WITHOUT[name]}" for name in keywords if name in _WITHOUT]
        if not keywords.get("pid", True):
            faults.append("pid: a Sandbox always has a PID namespace: it ends everything inside")
        if faults:
            raise UsageFault(faults)
        given: dict[str, Any] = {"pid": True, **keywords}
        plan = space.plan_of(["sandbox"], given, what="Sandbox()", without=_WITHOUT)
        self._for_commands = {name: getattr(plan, name) for name in _OF_COMMANDS}
        self._workdir = plan.workdir
        plain = settings.plan_from({"command": ["true"]})
        self._plan = plan.replace(
            workdir=None, **{name: getattr(plain, name) for name in _OF_COMMANDS}
        )
        self._names: dict[str, int] = {}
        self._commands: list[Popen] = []  # that may still run
        # A handler of a signal may use the sandbox in the middle of what its thread does with it.
        self._lock = threading.RLock()

    @property
    def pid(self) -> int:
        """The process ID of process 1 of the sandbox, as the caller sees it."""
        return self._entered().pid

    def start(self) -> None:
        """Create the namespaces. Raises SpaceError if that fails."""
        if self._running:
            raise ValueError("the sandbox has been started already")
        opened = [nsfs.pidfd_open(os.getpid())]
        try:
            opened += os.pipe()
            caller, reading, writing = opened
            self._running = launch.start(
                self._plan, function=partial(_stay_inner, caller, writing), hold=self._open
            )
            # Until then, commands in the sandbox could trace it.
            if os.read(reading, 1) != b"1":
                self.close()
                raise SpaceError("cannot start the sandbox: its process 1 has ended")
        except BaseException as error:
            self.close()
            if isinstance(error, SpaceError):
                raise space.explained(error) from error.__cause__
            raise
        finally:
            for descriptor in opened:
                os.close(descriptor)

    def _open(self, child: Spawned) -> None:
        """Open the namespaces of the child, while it can still be inspected."""
        number = procfs.pid_of_pidfd(child.pidfd)  # which can be another one in this /proc
        for row in namespaces.NAMESPACES:
            if row.name in self._plan.namespaces:
                path = f"/proc/{number}/ns/{row.link}"
                with libc.Naming("open", path):
                    self._names[row.name] = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def popen(self, args: Args, bufsize: int = -1, **keywords: Unpack[kw.Command]) -> Popen:
        """Start a command in the sandbox; arguments as for `pyspaces.Popen`.

        Settings that create namespaces or mount file systems are those of the Sandbox, and are
        refused here. Raises what Popen raises.
        """
        given, rest = split(keywords)
        return self._started(given, args, bufsize, **rest)

    def run(
        self,
        args: Args,
        *,
        input: Input = None,  # noqa: A002 - the name that subprocess.run has
        capture_output: bool = False,
        timeout: float | None = None,
        check: bool = False,
        **keywords: Unpack[kw.Command],
    ) -> Completed:
        """Run a command in the sandbox, and return its result; arguments as for `pyspaces.run`."""
        given, rest = split(keywords)
        return finished(
            lambda **pipes: self._started(given, args, **{**rest, **pipes}),
            input=input,
            capture_output=capture_output,
            timeout=timeout,
            check=check,
            given=rest,
        )

    def call(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call a Python function in the sandbox, and return what it returns or raise its error.

        It runs in a fork of this process, whose memory it has.
        """
        with self._joining() as where:
            guest = _Guest(where, function, args, kwargs)
            guest.start()
        try:
            return guest.result()
        finally:
            guest.kill()  # if this was interrupted, by Ctrl-C for example: else it has ended
            guest.join()
            guest.close()

    def close(self) -> None:
        """End the sandbox and everything in it; more than once is fine.

        A copy of it in a forked process ends nothing: it only releases its descriptors.
        """
        with self._lock:
            running, self._running = self._running, None
            names, self._names = self._names, {}
        try:
            if running and _is_own_child(running.pidfd):
                self._end(running, names.get("pid", -1))
        except BaseException:
            # A handler of a signal has raised. It can be closed again; __del__ does that at last.
            with self._lock:
                self._running, self._names = running, names
            raise
        if running:
            running.close()
        for descriptor in names.values():
            os.close(descriptor)

    def _end(self, running: Running, pid_namespace: int) -> None:
        signals.send(running.pidfd, signal.SIGKILL)
        begun = time.monotonic()
        # The kernel keeps process 1 until everything inside has been reaped, and our commands are
        # ours to reap, as is an Inject: zap_pid_ns_processes() in kernel/pid_namespace.c.
        while not nsfs.has_ended(running.pidfd, timeout=_PAUSE):
            self._forget_ended()
            multiprocessing.active_children()  # reaps those that have ended
            if time.monotonic() - begun > _PATIENCE and pid_namespace >= 0:
                _reap_strays(pid_namespace)
        with suppress(StatusLost):  # nobody asks how it ended
            running.wait()
        self._forget_ended()

    def __del__(self, warn: Callable[..., None] = warnings.warn) -> None:
        """Close a sandbox that was forgotten, unless this is a copy of it in a forked process."""
        if self._running is None or not _is_own_child(self._running.pidfd):
            return
        warn(
            f"sandbox of process {self._running.pid} is still running", ResourceWarning, source=self
        )
        self.close()

    def _started(self, given: Mapping[str, Any], *args: Any, **rest: Any) -> Popen:
        """Start a command. given: its settings. args, rest: what else Popen gets."""
        with self._joining() as where:
            command = Popen(*args, plan=self._plan_of_command(given, where), **rest)
        self._forget_ended()
        with self._lock:
            self._commands.append(command)
        return command

    def _forget_ended(self) -> None:
        with self._lock:
            for command in [*self._commands]:
                if command.poll() is not None and command in self._commands:
                    self._commands.remove(command)

    def _entered(self) -> Running:
        if self._running is None:
            raise ValueError("the sandbox is not running: use it in a `with` statement")
        return self._running

    @contextmanager
    def _joining(self) -> Iterator[Joining]:
        """Keep the namespaces open for a launch, whatever another thread closes meanwhile.

        By descriptors of its own: those of the sandbox may be other files by then.
        """
        with ExitStack() as opened:
            joins = []
            with self._lock:
                self._entered()
                for name, descriptor in self._names.items():
                    copy = os.dup(descriptor)
                    opened.callback(os.close, copy)
                    joins.append(Join(namespace=name, path=f"/proc/self/fd/{copy}"))
            yield Joining(joins=tuple(joins))

    def _plan_of_command(self, given: Mapping[str, Any], where: Joining) -> Plan:
        plan = space.plan_of(["command"], given, what="Popen()")
        changed = plan.namespaces or plan.mounts != Plan(command=("true",)).mounts
        if changed:
            raise UsageFault(["namespaces and mounts are those of the Sandbox: give them to it"])
        own = {
            name: part
            for name, part in self._for_commands.items()
            if getattr(plan, name) == type(part)()
        }
        return plan.replace(
            existing=plan.existing.replace(joining=where),
            workdir=plan.workdir or self._workdir,
            **own,
        )

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Guest(FunctionProcess):
    """A process that calls a function in the sandbox."""

    def __init__(
        self,
        where: Joining,
        target: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> None:
        super().__init__(target, args=args, kwargs=kwargs)
        self._where = where
        plan = settings.plan_from({"command": [label_of(target)]})
        self._plan = space.outliving(plan)

    def _ends_with_parent(self) -> bool:
        return True  # its pid namespace does

    def _start_function(self, bootstrap: Callable[[], object]) -> Running:
        visit = joining.open_visit(self._where)
        try:
            return launch.start(self._plan, function=bootstrap, before=lambda: join(visit))
        finally:
            visit.close()


def _is_own_child(pidfd: int) -> bool:
    """Return whether a process, which may have ended, is a child of this one: waitid(2), ECHILD."""
    try:
        os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except OSError:
        return False
    return True


def _reap_strays(pid_namespace: int) -> None:
    """Reap the children of this process that have ended in a pid namespace, by its descriptor.

    A handler of a signal, such as that of Ctrl-C, can interrupt a launch right after the clone:
    then nobody knows of the child.
    """
    own = nsfs.pidfd_open(os.getpid())
    try:
        if procfs.pid_of_pidfd(own) != os.getpid():  # this /proc has other numbers
            return
    finally:
        os.close(own)
    for child in processes.children_of(os.getpid()):
        if ioctl_ns.holds(pid_namespace, child):
            with suppress(ChildProcessError):
                os.waitpid(child, os.WNOHANG)


def _stay_inner(caller: int, ready: int) -> None:
    """Be process 1 of the sandbox until the caller ends: reap orphans, and hold nothing open.

    Not dumpable: it has the caller's memory, and root inside could trace it otherwise.
    """
    libc.set_dumpable(dumpable=False)
    libc.set_name(spawn.INIT_NAME.encode())
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        # The kernel does not deliver signals without a handler to process 1.
        signal.signal(number, signal.SIG_IGN if number == signal.SIGCHLD else signal.SIG_DFL)
    os.setsid()
    os.chdir("/")
    os.write(ready, b"1")
    spawn.close_others(caller)
    nsfs.has_ended(caller, timeout=None)
