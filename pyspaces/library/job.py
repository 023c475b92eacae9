"""One command of a run on many machines: its files, its namespaces, its result.

Runs in the worker, in any thread, but for `job_of` and `checked_name`, which the client calls.
"""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import tempfile
import threading
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

from pyspaces.errors import EXECUTE, SpaceError, UsageFault
from pyspaces.library import removing
from pyspaces.library.command import Popen, finished
from pyspaces.plan import Plan
from pyspaces.record import Record, told
from pyspaces.status import Status, Usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import TypeAlias

    Word = str | os.PathLike[str]
    Command: TypeAlias = "str | list[Word] | list[str] | tuple[Word, ...] | Job"

LARGEST_FILE = 256 << 20  # bytes of a file that is brought back


class Job(Record):
    """A command, with what it is given and what is brought back.

    words: the command and its arguments. input: its standard input. files: the contents of files in
    its own directory, by their names. collect: the names of files there to bring back.
    """

    words: tuple[str, ...]
    input: bytes | None = None
    files: dict[str, bytes] = {}  # noqa: RUF012 - frozen
    collect: tuple[str, ...] = ()


class Task(Record):
    """What all commands of a run have in common.

    run: its name. settings, plan: of the launch; plan is plain data, or None. place: the path
    inside of the command's own directory. shared: the directory in which that is made and stays.
    timeout: seconds.
    """

    run: str
    settings: dict[str, Any]
    plan: dict[str, Any] | None = None
    place: str | None = None
    shared: str | None = None
    timeout: float | None = None


class Result(Record):
    """What has become of a command.

    index: the number of the command, from 0. words: the command. worker: where it ran. returncode,
    status, usage, stdout, stderr: as of `pyspaces.run`; None and empty if it has not run. files:
    the contents of the files that were brought back. missing: the reasons for those that were not.
    directory: its own directory, if that is shared. timed_out: whether its time was over. error:
    why it could not be run, if so.
    """

    index: int
    words: tuple[str, ...]
    worker: str = ""
    returncode: int | None = None
    status: Status | None = None
    usage: Usage | None = None
    stdout: bytes = b""
    stderr: bytes = b""
    files: dict[str, bytes] = {}  # noqa: RUF012 - frozen
    missing: dict[str, str] = {}  # noqa: RUF012 - frozen
    directory: str | None = None
    timed_out: bool = False
    error: str | None = None

    @property
    def ok(self) -> bool:
        """Whether the command has run, and exited with 0 in time."""
        return self.returncode == 0 and not self.timed_out


class _Runs:
    """The commands of this worker that run, by the names of their runs; and runs that are over."""

    lock = threading.Lock()
    commands: ClassVar[dict[str, set[Popen]]] = {}
    over: ClassVar[set[str]] = set()


def checked_name(name: object) -> str:
    """Return the name of a file beneath a command's directory. Raises UsageFault for another."""
    path = PurePosixPath(name) if isinstance(name, str | os.PathLike) else None
    if path is None or path.is_absolute() or ".." in path.parts or not path.parts:
        raise UsageFault(
            [f"files: {str(name)[:80]!r}: takes names beneath the command's directory"]
        )
    return str(path)


def job_of(command: Command) -> Job:
    """Return a command as a Job. Raises UsageFault for what is none."""
    if isinstance(command, Job):
        one = command
    elif isinstance(command, str):
        one = Job(words=("/bin/sh", "-c", command))
    elif isinstance(command, list | tuple):
        one = Job(words=tuple(map(os.fsdecode, command)))
    else:
        raise UsageFault([f"commands: takes texts, lists and Jobs, and has one {told(command)}"])
    if not one.words:
        raise UsageFault(["commands: one has no words"])
    files = {checked_name(name): content for name, content in one.files.items()}
    names = tuple(checked_name(name) for name in one.collect)
    return one.replace(words=tuple(one.words), files=files, collect=names)


def refusal(task: Task) -> str | None:
    """Return why this host cannot run the commands of a run; None if it can."""
    try:
        with Popen(["true"], **_launch_of(task, None)) as process:
            process.wait()
    except SpaceError as error:
        # Whether there is a `true` inside does not matter.
        if error.report is None or error.report.code != EXECUTE.code:
            return "; ".join(line.strip() for line in str(error).splitlines())
    return None


def end(run: str) -> None:
    """Kill the commands of a run, and start no more of them."""
    with _Runs.lock:
        _Runs.over.add(run)
        for command in _Runs.commands.get(run, ()):
            command.kill()


def perform(task: Task, index: int, job: Job, worker: str) -> Result:
    """Run a command, and return its result. Raises nothing that the command or host can cause."""
    blank = Result(index=index, words=job.words, worker=worker)
    try:
        with _directory(task, index, job) as directory:
            done = _run(task, job, directory, blank)
            if directory is None:
                return done
            files, missing = collected(directory, job.collect)
            own = directory if task.shared else None
            return done.replace(files=files, missing=missing, directory=own)
    except (SpaceError, OSError) as error:
        return blank.replace(error=str(error))


def _run(task: Task, job: Job, directory: str | None, blank: Result) -> Result:
    """Run the command in its directory, with its time limit."""
    started: list[Popen] = []

    def start(**pipes: Any) -> Popen:
        started.append(_start(task, job, directory, pipes))
        return started[0]

    timed_out = False
    stdout = stderr = b""
    try:
        # Not the standard input of the worker.
        done = finished(
            start,
            input=job.input or b"",
            capture_output=True,
            timeout=task.timeout,
            check=False,
            given={},
        )
        stdout, stderr = done.stdout, done.stderr
    except subprocess.TimeoutExpired as error:
        timed_out = True
        stdout, stderr = error.stdout or b"", error.stderr or b""
    finally:
        with _Runs.lock:
            _Runs.commands.get(task.run, set()).difference_update(started)
    (command,) = started
    return blank.replace(
        returncode=command.returncode,
        status=command.status,
        usage=command.usage,
        stdout=stdout,
        stderr=stderr,
        timed_out=timed_out,
    )


def _start(task: Task, job: Job, directory: str | None, pipes: dict[str, Any]) -> Popen:
    """Start the command, where `end` finds it. Raises SpaceError if the run is over."""
    if task.run in _Runs.over:
        raise SpaceError("the run is over")
    command = Popen(job.words, **_launch_of(task, directory), **pipes)
    with _Runs.lock:
        _Runs.commands.setdefault(task.run, set()).add(command)
        is_over = task.run in _Runs.over
    if is_over:
        command.kill()
    return command


def _launch_of(task: Task, directory: str | None) -> dict[str, Any]:
    """Return the keywords of Popen for a command with this directory, if it has one."""
    if task.plan is not None:
        return {"plan": Plan.from_data(task.plan), **({"cwd": directory} if directory else {})}
    settings = dict(task.settings)
    if directory and task.place:
        settings["mounts"] = [*settings.get("mounts", ()), ["bind", directory, task.place]]
    if directory:
        settings["workdir"] = task.place or directory
    return settings


@contextmanager
def _directory(task: Task, index: int, job: Job) -> Iterator[str | None]:
    """Make the directory of a command, with its files; None if it needs none."""
    if task.shared:
        path = Path(task.shared, task.run, f"{index:06}")
        removing.remove(str(path))  # of an attempt whose worker has ended
        path.mkdir(parents=True)
        _write(path, job.files)
        yield str(path)
    elif job.files or job.collect or task.place:
        name = tempfile.mkdtemp(prefix="pyspaces-")
        try:
            _write(Path(name), job.files)
            yield name
        finally:
            removing.remove(name)
    else:
        yield None


def _write(directory: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def collected(directory: str, names: Sequence[str]) -> tuple[dict[str, bytes], dict[str, str]]:
    """Read files beneath a directory in which a command may have put anything.

    Returns the contents, and the reasons for files that are missing. No symbolic link is followed,
    and only regular files are read, so nothing outside can be had, and nothing blocks.
    """
    files: dict[str, bytes] = {}
    missing: dict[str, str] = {}
    for name in names:
        try:
            files[name] = _read_beneath(directory, PurePosixPath(name).parts)
        except OSError as error:
            missing[name] = error.strerror or str(error)
    return files, missing


def _read_beneath(directory: str, parts: Sequence[str]) -> bytes:
    plain = os.O_CLOEXEC | os.O_NOFOLLOW
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for number, part in enumerate(parts, 1):
            kind = os.O_NONBLOCK if number == len(parts) else os.O_DIRECTORY
            above = descriptor
            descriptor = os.open(part, os.O_RDONLY | plain | kind, dir_fd=above)
            os.close(above)
        with open(descriptor, "rb", closefd=False) as file:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise OSError(errno.EINVAL, "not a regular file")
            content = file.read(LARGEST_FILE + 1)
            if len(content) > LARGEST_FILE:
                raise OSError(errno.EFBIG, f"larger than {LARGEST_FILE} bytes")
            return content
    finally:
        os.close(descriptor)
