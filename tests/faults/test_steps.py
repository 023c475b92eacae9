"""Every step of the child made to fail: the parent learns which, and nothing is left running."""

from __future__ import annotations

import errno
import os

import pytest
from networks import network

from pyspaces import launch, settings
from pyspaces.errors import REPORT_BUG, SpaceError
from pyspaces.feature import Step
from pyspaces.kernel.libc import KernelError
from pyspaces.launch.inner import steps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from pyspaces.plan import Plan

pytestmark = pytest.mark.needs("userns", "timens", "netns", "proc", "bridge")


STEPS = tuple(map(steps.step_of, steps.STEPS))
KEEPING = "have the namespaces kept"
# Of a launch with a cgroup of its own, which not every host lets us have: tests/vm has it.
OF_CGROUP = "create the cgroup namespace"
# Only of a launcher that becomes the command, which `start` does not do.
IN_PLACE = "tie the command to the life of the caller"
ATTACHING = "connect the network with that of the host"
# Steps that take a network of several commands, which is there while this module is tested.
SHARED = {"show the names on the network", "connect to the network"}
LAB = ""


@pytest.fixture(scope="module", autouse=True)
def lab() -> Iterator[None]:
    """A network that launches can be on."""
    global LAB
    with network() as LAB:
        yield


def net_for(title: str) -> str | bool:
    """Return the value of --net with which a step applies."""
    if title in SHARED:
        return LAB
    return "user" if title == ATTACHING else True


def whole_plan(marker: Path, index: int = 0, **more: object) -> Plan:
    """Return a plan in which step `index` applies, and whose command would leave a mark.

    Every other step applies too, but that a session begins with a terminal or without one, that a
    fresh /proc is one of the mounts where there are any, and that keeping namespaces, which takes
    root, a way out, which takes a program, and a network of several commands, only apply for their
    own sake.
    """
    plan = settings.plan_from(
        {
            "all": True,
            "hostname": "a",
            "domainname": "b",
            "boottime": 1,
            "root": "/",
            "mounts": [["ro-bind", "/usr", "/usr"], ["tmpfs", "/tmp"]],
            "workdir": "/",
            "setuid": 0,
            "cap_drop": "all",
            "no_new_privs": True,
            "no_nested_users": True,
            "assert_userns_disabled": True,
            "publish": ["0:80"],
            "forward": ["81:80"],
            "allow_host": [] if STEPS[index].title == ATTACHING else ["example.org"],
            "add_host": [] if STEPS[index].title in SHARED else ["a.test=192.0.2.1"],
            "listen": ["0"],
            "net": net_for(STEPS[index].title),
            "rlimit": ["core=0"],
            "umask": "022",
            "nice": 19,
            "lock_file": ["/etc/passwd"],
            "oom_score_adj": 900,
            "allow_exec": ["/"],
            "seccomp_deny": "bpf",
            "command": ["touch", str(marker)],
            "pty": True,
            "keep": [f"uts={marker}-kept"] if STEPS[index].title == KEEPING else [],
            **more,
        }
    )
    if not STEPS[index].applies(plan):
        session = plan.replace(life=plan.life.replace(pty=False, new_session=True))
        plan = (
            session
            if STEPS[index].applies(session)
            else plan.replace(mounts=plan.mounts.replace(operations=(), mount_proc=True))
        )
    assert STEPS[index].applies(plan)
    left = {step.title for step in STEPS if not step.applies(plan)}
    left -= {KEEPING, OF_CGROUP, ATTACHING, IN_PLACE, *SHARED}
    assert len(left) <= 3, left
    return plan


def broken_step(index: int, act: Callable[[steps.Context], None]) -> tuple[Step, ...]:
    return (*STEPS[:index], STEPS[index].replace(act=act), *STEPS[index + 1 :])


def refuse(context: steps.Context) -> None:
    raise KernelError(errno.EXDEV, "frobnicate", [1, 2], "/some/path")


def crash(context: steps.Context) -> None:
    raise ValueError("a fault of ours\nin two lines")


def die(context: steps.Context) -> None:
    os.kill(os.getpid(), 9)


def exit_early(context: steps.Context) -> None:
    os._exit(3)


def import_late(context: steps.Context) -> None:
    import this  # noqa: F401


def launch_with(
    monkeypatch: pytest.MonkeyPatch,
    marker: Path,
    index: int,
    act: Callable[[steps.Context], None],
    **more: object,
) -> SpaceError:
    monkeypatch.setattr(steps, "STEPS", broken_step(index, act))
    with pytest.raises(SpaceError) as caught:
        launch.start(whole_plan(marker, index, **more))
    assert list(marker.parent.iterdir()) == []
    return caught.value


def each(*, usual: int) -> pytest.MarkDecorator:
    """Parametrize over all steps; a plain run has every `usual`-th of them."""
    rows = []
    for index, step in enumerate(STEPS):
        # Without root nothing can be kept, and that is refused before any step.
        if step.title in (OF_CGROUP, IN_PLACE):
            continue
        marks = [pytest.mark.as_root] if step.title == KEEPING else []
        # Else the launch is refused before its steps.
        marks += [pytest.mark.needs("tun", "pasta")] if step.title == ATTACHING else []
        marks += [pytest.mark.stress] if index % usual else []
        rows.append(pytest.param(index, id=step.title.replace(" ", "-"), marks=marks))
    return pytest.mark.parametrize("index", rows)


@each(usual=1)
def test_a_refused_call_is_reported_whole(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, index: int
) -> None:
    error = launch_with(monkeypatch, tmp_path / "ran", index, refuse)
    assert error.exit_status == 125
    assert error.report is not None
    assert error.report.stage == STEPS[index].title
    assert (error.report.call, error.report.errno) == ("frobnicate", errno.EXDEV)
    assert error.report.path == "/some/path"
    assert error.message == (
        f"cannot {STEPS[index].title}: frobnicate /some/path: Invalid cross-device link"
    )


@pytest.mark.anyone
@each(usual=6)
def test_so_it_is_beneath_a_process_1_of_ours(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, index: int
) -> None:
    error = launch_with(monkeypatch, tmp_path / "ran", index, refuse, init=True)
    assert error.message == (
        f"cannot {STEPS[index].title}: frobnicate /some/path: Invalid cross-device link"
    )


@pytest.mark.anyone
@each(usual=6)
def test_a_fault_of_ours_is_reported_with_its_traceback(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, index: int
) -> None:
    error = launch_with(monkeypatch, tmp_path / "ran", index, crash)
    assert error.exit_status == 125
    title = STEPS[index].title
    assert error.message == f"cannot {title}: internal error: a fault of ours in two lines"
    assert error.hint == REPORT_BUG
    assert error.report is not None
    assert "in crash" in error.report.trace
    assert "ValueError: a fault of ours" in error.report.trace


@pytest.mark.anyone
@each(usual=6)
def test_a_child_that_ends_without_a_word_is_noticed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, index: int
) -> None:
    error = launch_with(monkeypatch, tmp_path / "ran", index, exit_early)
    assert error.exit_status == 125
    assert STEPS[index].title in error.message
    assert error.message.endswith(": the new process exited with 3")


def test_a_child_that_is_killed_on_the_way_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not in a pid namespace, whose first process cannot kill itself."""
    monkeypatch.setattr(steps, "STEPS", broken_step(0, die))
    with pytest.raises(SpaceError, match=r": the new process was killed by SIGKILL$"):
        launch.start(settings.plan_from({"user": True, "command": ["true"]}))


def test_nothing_is_imported_in_the_child(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    error = launch_with(monkeypatch, tmp_path / "ran", 0, import_late)
    assert "internal error: this: nothing is imported between the clone and exec" in error.message


def test_a_report_larger_than_a_message_is_cut(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def crash_at_length(context: steps.Context) -> None:
        raise ValueError("x" * 10_000_000)

    error = launch_with(monkeypatch, tmp_path / "ran", 0, crash_at_length)
    assert "internal error: xxx" in error.message


def test_a_failed_command_reaches_the_program_as_an_error() -> None:
    plan = settings.plan_from({"user": True, "command": ["/nonexistent"]})
    with pytest.raises(SpaceError) as caught:
        launch.start(plan)
    assert caught.value.exit_status == 127
    assert caught.value.report is not None
    assert caught.value.report.path == "/nonexistent"
