"""What a launch takes along: the order of it, and that no part keeps another from its moment.

The services here are made for that, and put into the table by which a launch finds its own; the
launches are real.
"""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import SCRIPT

from pyspaces import launch, settings
from pyspaces.errors import SpaceError
from pyspaces.features.existing import runtime
from pyspaces.kernel import nsfs
from pyspaces.kernel.libc import KernelError
from pyspaces.launch import loading, services
from pyspaces.launch.loading import Row
from pyspaces.launch.service import Service

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TextIO

    from pyspaces.kernel.spawn import Spawned
    from pyspaces.plan import Plan
    from pyspaces.status import Ended

    Run = Callable[..., subprocess.CompletedProcess[str]]

pytestmark = pytest.mark.needs("userns")


class Diary:
    """What came to which service, and what people were told; `faults` says where one fails."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.told: list[str] = []
        self.faults: dict[str, BaseException] = {}

    def note(self, line: str) -> None:
        self.lines.append(line)
        if line in self.faults:
            raise self.faults[line]


class Noting(Service):
    """A service that notes each of its moments in the launcher."""

    name: str
    diary: Diary

    def open(self) -> None:
        self.diary.note(f"{self.name} open")
        self.descriptor = os.open("/", os.O_PATH)  # which leaks, unless it is released in the end

    def held(self, child: Spawned) -> None:
        assert not nsfs.has_ended(child.pidfd)
        self.diary.note(f"{self.name} held")

    def started(self, child: Spawned) -> None:
        self.diary.note(f"{self.name} started")

    def failed(self, error: BaseException) -> None:
        os.close(self.descriptor)
        self.diary.note(f"{self.name} failed")

    def ended(self, ended: Ended) -> None:
        os.close(self.descriptor)
        self.diary.note(f"{self.name} ended")


def row(name: str, diary: Diary, **members: Any) -> Row:
    """Return the row of a service that is always asked for."""
    kind = type(name, (Noting,), {"name": name, "diary": diary, "task": f"end {name}", **members})
    return Row(when=lambda launch: True, load=lambda: kind)


@pytest.fixture
def diary(monkeypatch: pytest.MonkeyPatch) -> Diary:
    """Have every launch take four services along; the first and the third tell of it."""
    diary = Diary()
    rows = (
        row("report", diary, tells=True),
        row("name", diary),
        row("journal", diary, tells=True),
        row("terminal", diary),
    )
    monkeypatch.setattr(services, "may_have_services", lambda launch: True)
    monkeypatch.setattr(loading, "ROWS", rows)
    return diary


def plan_of(*words: str) -> Plan:
    return settings.plan_from({"user": True, "command": words})


def run(diary: Diary, *words: str) -> Ended:
    return launch.run(plan_of(*(words or ("true",))), tell=diary.told.append)


OPENED = [f"{name} open" for name in ("report", "name", "journal", "terminal")]
# The last one opened is the first afterwards, and who tells of the launch comes last.
LATER = ("terminal", "name", "journal", "report")


def later(moment: str) -> list[str]:
    return [f"{name} {moment}" for name in LATER]


def test_the_order_of_a_launch_that_succeeds(diary: Diary) -> None:
    assert run(diary, "sh", "-c", "exit 3").status.code == 3
    assert diary.lines == [*OPENED, *later("held"), *later("started"), *later("ended")]
    assert diary.told == []


@pytest.mark.parametrize("index", range(4))
def test_what_was_opened_is_released_where_another_cannot_be_opened(
    diary: Diary, tmp_path: Path, index: int
) -> None:
    fault = SpaceError("no room")
    diary.faults[OPENED[index]] = fault
    with pytest.raises(SpaceError) as caught:
        run(diary, "touch", str(tmp_path / "ran"))
    assert caught.value is fault
    opened = {line.split()[0] for line in OPENED[:index]}
    released = [line for line in later("failed") if line.split()[0] in opened]
    assert diary.lines == [*OPENED[: index + 1], *released]
    assert not (tmp_path / "ran").exists()


def test_what_the_kernel_refuses_is_an_error_of_the_launch(diary: Diary) -> None:
    diary.faults["terminal open"] = KernelError(errno.ENXIO, "openpty", [], "/dev/ptmx")
    with pytest.raises(SpaceError, match="openpty") as caught:
        launch.start(plan_of("true"), tell=diary.told.append)
    assert caught.value.report
    assert (caught.value.report.call, caught.value.report.path) == ("openpty", "/dev/ptmx")
    assert diary.lines[-3:] == ["name failed", "journal failed", "report failed"]


@pytest.mark.parametrize("moment", ["held", "started"])
@pytest.mark.parametrize("name", LATER)
def test_one_that_fails_has_the_launch_fail_and_all_released(
    diary: Diary, moment: str, name: str
) -> None:
    diary.faults[f"{name} {moment}"] = SpaceError("no more")
    with pytest.raises(SpaceError, match="no more"):
        run(diary, "sleep", "100")
    done = later(moment)[: LATER.index(name) + 1]
    before = later("held") if moment == "started" else []
    assert diary.lines == [*OPENED, *before, *done, *later("failed")]


def test_a_command_does_not_run_where_one_fails_before(diary: Diary, tmp_path: Path) -> None:
    diary.faults["journal held"] = SpaceError("no more")
    with pytest.raises(SpaceError, match="no more"):
        run(diary, "touch", str(tmp_path / "ran"))
    assert not (tmp_path / "ran").exists()


def test_a_child_that_fails_is_told_to_all(diary: Diary, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[BaseException] = []

    def failed(service: Noting, error: BaseException) -> None:
        seen.append(error)
        Noting.failed(service, error)

    rows = [row(name, diary, failed=failed) for name in ("first", "second")]
    monkeypatch.setattr(services, "may_have_services", lambda launch: True)
    monkeypatch.setattr(loading, "ROWS", rows)
    with pytest.raises(SpaceError) as caught:
        run(diary, "/nonexistent")
    assert seen == [caught.value, caught.value]
    assert caught.value.exit_status == 127


@pytest.mark.parametrize("name", LATER)
def test_one_that_cannot_end_keeps_no_other_from_it(diary: Diary, name: str) -> None:
    diary.faults[f"{name} ended"] = ValueError("a fault of ours")
    assert run(diary, "sh", "-c", "exit 3").status.code == 3
    assert diary.lines[-4:] == later("ended")
    assert diary.told == [f"cannot end {name}: a fault of ours"]


def test_none_of_them_can_end_and_the_status_is_still_told(diary: Diary) -> None:
    diary.faults = {line: OSError(errno.EIO, "gone") for line in later("ended")}
    assert run(diary, "sh", "-c", "exit 3").status.code == 3
    assert diary.lines[-4:] == later("ended")
    assert diary.told == [f"cannot end {name}: [Errno 5] gone" for name in LATER]


@pytest.mark.parametrize("name", LATER)
def test_one_that_cannot_be_released_hides_neither_the_others_nor_the_reason(
    diary: Diary, name: str
) -> None:
    diary.faults[f"{name} failed"] = ValueError("a fault of ours")
    with pytest.raises(SpaceError, match="/nonexistent"):
        run(diary, "/nonexistent")
    assert diary.lines[-4:] == later("failed")
    assert diary.told == [f"cannot end {name}: a fault of ours"]


def test_an_interruption_comes_through_when_all_have_ended(diary: Diary) -> None:
    diary.faults["name ended"] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        run(diary)
    assert diary.lines[-4:] == later("ended")


def test_who_cannot_be_told_keeps_none_from_its_end(diary: Diary) -> None:
    def tell(text: str) -> None:
        raise BrokenPipeError(text)

    diary.faults["terminal ended"] = ValueError("a fault of ours")
    with pytest.raises(BrokenPipeError, match="cannot end terminal: a fault of ours"):
        launch.run(plan_of("true"), tell=tell)
    assert diary.lines[-4:] == later("ended")


# --- the child, and who creates it -----------------------------------------------------------


def test_the_child_waits_only_where_a_service_has_something_to_do_meanwhile(
    diary: Diary, monkeypatch: pytest.MonkeyPatch
) -> None:
    def holds(*rows: Row) -> bool:
        monkeypatch.setattr(services, "may_have_services", lambda launch: True)
        monkeypatch.setattr(loading, "ROWS", rows)
        asked = services.Launch(plan_of("true"), tell=diary.told.append, observe=diary.told.append)
        taken = services.Services(asked)
        try:
            return taken.holding() is not None
        finally:
            taken.failed(SpaceError("that is all"))

    assert holds(row("one", diary), row("two", diary, held=Service.held))
    assert not holds(row("two", diary, held=Service.held))
    assert not holds()


def test_what_is_done_before_is_done_by_who_creates_the_child(
    diary: Diary, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the order in which they were opened, by a process that is neither of the two."""
    reading, writing = os.pipe()

    def before(service: Noting) -> None:
        os.write(writing, f"{service.name} {os.getpid()} {os.getppid()}\n".encode())

    names = ("cgroup", "namespaces")
    monkeypatch.setattr(loading, "ROWS", [row(name, diary, before=before) for name in names])
    ended = run(diary)
    os.close(writing)
    with open(reading) as lines:
        rows = [line.split() for line in lines]
    assert [name for name, _, _ in rows] == ["cgroup", "namespaces"]
    (middle,) = {int(pid) for _, pid, _ in rows}
    assert middle not in (os.getpid(), ended.pid)
    assert {int(parent) for _, _, parent in rows} == {os.getpid()}


@pytest.mark.parametrize("through_another", [False, True])
def test_what_is_not_for_others_is_closed_in_every_new_process_and_only_there(
    diary: Diary, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, through_another: bool
) -> None:
    """Seen by a function, which otherwise keeps the descriptors of its caller."""

    def open_both(service: Noting) -> None:
        Noting.open(service)
        shared.append(service.descriptor)
        private.append(open("/dev/null"))  # noqa: SIM115 - closed below
        service.launch.not_for_others.append(private[0].close)

    def look(who: str) -> None:
        os.fstat(shared[0])
        (tmp_path / who).write_text(str(private[0].closed))

    shared: list[int] = []
    private: list[TextIO] = []
    members = {"before": lambda service: look("creator")} if through_another else {}
    monkeypatch.setattr(loading, "ROWS", [row("file", diary, open=open_both, **members)])
    with launch.start(plan_of("look"), function=lambda: look("child")) as running:
        assert running.wait(60).code == 0
    assert not private[0].closed
    private[0].close()
    seen = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert seen == dict.fromkeys(["child", *(["creator"] if through_another else [])], "True")


# --- those that there are ----------------------------------------------------------------------


SERVICES: dict[str, dict[str, object]] = {
    "existing.joined": {"join": ["uts=/proc/self/ns/uts"]},
    "existing.name": {"name": f"services-{os.getpid()}"},
    "outer.clock": {"timeout": 60},
    "outer.terminal": {"pty": True},
    "outer.link": {"pid": True, "init": True},
    "records.journal": {"status_fd": 1},
    "records.report": {"report": True},
}
LAUNCH = """
import sys
from pyspaces import launch, settings
launch.run(settings.plan_from({"user": True, "command": ["true"], **eval(sys.argv[1])}))
print(*sys.modules)
"""


@pytest.mark.needs("pidns")
@pytest.mark.parametrize("module", SERVICES)
def test_each_is_loaded_where_it_is_asked_for_and_nowhere_else(module: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LAUNCH, repr(SERVICES[module])],
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, done.stderr
    loaded = {name.removeprefix("pyspaces.launch.") for name in done.stdout.split()}
    assert {"service", module} <= loaded
    assert not loaded & (SERVICES.keys() - {module})


def test_a_name_is_free_again_when_the_record_tells_of_the_end(tmp_path: Path) -> None:
    """Of a command that ran, and of one that could not be started."""
    name = f"services-{os.getpid()}"
    for command in ("true", "/nonexistent"):
        reading, writing = os.pipe()
        with subprocess.Popen(
            [SCRIPT, "run", "--user", "--name", name, "--status-fd", str(writing), "--", command],
            pass_fds=[writing],
            stderr=subprocess.DEVNULL,
        ) as launcher:
            os.close(writing)
            with open(reading) as lines:
                rows = (json.loads(line) for line in lines)
                assert any(row["event"] in ("exited", "failed") for row in rows)
                assert not os.path.lexists(os.path.join(runtime.directory(), name))
        assert launcher.returncode == (0 if command == "true" else 127)


def test_a_launch_that_is_refused_is_recorded_and_gives_its_name_up(
    pyspaces: Run, tmp_path: Path
) -> None:
    """What is opened behind the records and the name fails: nothing of either stays."""
    name, status = f"services-{os.getpid()}", tmp_path / "status"
    words = ["--name", name, "--status-file", str(status), "--pid-file", str(tmp_path / "pid")]
    done = pyspaces("run", *words, "--join", f"uts={tmp_path}", "--", "true")
    assert done.returncode == 125
    (failed,) = (json.loads(line) for line in status.read_text().splitlines())
    assert (failed["event"], failed["path"]) == ("failed", str(tmp_path))
    assert os.listdir(tmp_path) == ["status"]
    again = pyspaces("run", "--user", *words, "--", "true")
    assert (again.returncode, again.stderr) == (0, "")


@pytest.mark.needs("overlay")
def test_what_cannot_be_written_at_the_end_keeps_nothing_else_from_it(
    pyspaces: Run, tmp_path: Path
) -> None:
    """The message of the time limit comes first, and the report last."""
    gone, status = tmp_path / "gone", tmp_path / "status"
    gone.mkdir()
    for seconds in ("0.5", "5", "30"):  # it may be over before the command has come that far
        done = pyspaces(
            *("run", "--user", "--mount", "--name", f"services-{os.getpid()}"),
            *("--timeout", seconds, "--overlay-src", "/usr", "--tmp-overlay", "/usr"),
            *("--overlay-diff", str(gone / "diff"), "--report"),
            *("--status-file", str(status), "--", "sh", "-c", f"rmdir {gone}; exec sleep 100"),
        )
        if not gone.exists():
            break
    assert done.returncode == 124
    told = [line for line in done.stderr.splitlines() if line.startswith("pyspaces: ")]
    assert [line.split(":")[1].strip()[:12] for line in told] == [
        *("the command ", "cannot write", "report"),
    ]
    assert [json.loads(line)["event"] for line in status.read_text().splitlines()] == [
        *("started", "exited"),
    ]
