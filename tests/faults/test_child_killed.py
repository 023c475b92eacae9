"""The new process killed with SIGKILL at every point of the handshake: that is what is said."""

from __future__ import annotations

import signal
import sys
import time
import uuid
from pathlib import Path

import pytest
from conftest import again, outcome, processes_with

from pyspaces import launch, settings
from pyspaces.errors import SpaceError
from pyspaces.feature import Step
from pyspaces.kernel import nsfs
from pyspaces.launch import channel
from pyspaces.launch.channel import Conversation, Message
from pyspaces.launch.inner import steps
from pyspaces.launch.outer import prepare

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pyspaces.kernel.spawn import Spawned
    from pyspaces.plan import Plan

pytestmark = pytest.mark.needs("userns", "pidns", "timens", "proc")
HOMICIDE = Path(__file__).with_name("homicide.py")
PLANS: dict[str, dict[str, object]] = {
    "user": {"user": True, "hostname": "a", "uts": True},
    "all": {"all": True, "hostname": "a", "boottime": 1},
    "init": {"all": True, "hostname": "a", "init": True},
    "auto": {"user": True, "map_auto": True, "hostname": "a", "uts": True},
}
POINTS = ["before the maps", "before the word", "after the word", "at stage 1", "at stage 2"]


def halting(point: str) -> tuple[Step, ...]:
    """Return steps of which the one at that point is never over: the child waits to be killed."""
    last = 2 if point == "at stage 2" else 1
    taken: list[Step] = []

    def halt(step: Step) -> Step:
        def act(context: steps.Context) -> None:
            taken.append(step)
            if len(taken) == last:
                time.sleep(200)
            step.act(context)

        return step.replace(act=act)

    return tuple(halt(steps.step_of(name)) for name in steps.STEPS)


class Killer:
    """Kills the child of a launch at one point, and tells whether it came there."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, point: str, *, waits: bool) -> None:
        self.point, self.waits = point, waits
        self.stages = 0
        self.done = False
        self._write, self._accept = prepare.write_maps, Conversation.accept
        self._say = channel.Channel.say
        monkeypatch.setattr(prepare, "write_maps", self.write_maps)
        killer = self

        def accept(talk: Conversation, message: Message) -> Message:
            killer.stages += message.kind == channel.STAGE
            if killer.point == f"at stage {killer.stages}" and not killer.done:
                killer.kill()
            return killer._accept(talk, message)

        def say(ends: channel.Channel, kind: bytes, body: bytes = b"") -> None:
            # Seen in the launcher: the child's copy of this says nothing of the kind.
            killer._say(ends, kind, body)
            if kind == channel.MAPPED and killer.point == "after the word":
                killer.kill()

        monkeypatch.setattr(Conversation, "accept", accept)
        monkeypatch.setattr(channel.Channel, "say", say)

    def write_maps(self, plan: Plan, child: Spawned, observe: Callable[[str], None]) -> bool:
        self.child = child
        if self.point == "before the maps":
            self.kill()
        allowed = self._write(plan, child, observe)
        if self.point == "before the word":
            self.kill()
        return allowed

    def kill(self) -> None:
        self.done = True
        signal.pidfd_send_signal(self.child.pidfd, signal.SIGKILL)
        if self.waits:
            nsfs.has_ended(self.child.pidfd, timeout=None)


@pytest.mark.anyone
@pytest.mark.crossed(1)
@pytest.mark.parametrize("waits", [True, False], ids=["seen", "raced"])
@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize(
    "plan",
    [
        *("user", "all", "init"),
        pytest.param("auto", marks=[pytest.mark.needs("many"), pytest.mark.as_ordinary]),
    ],
)
def test_it_is_said_that_the_new_process_was_killed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, plan: str, point: str, *, waits: bool
) -> None:
    marker = tmp_path / "ran"
    monkeypatch.setattr(steps, "STEPS", halting(point))
    killer = Killer(monkeypatch, point, waits=waits)
    values = {**PLANS[plan], "command": ["touch", str(marker)]}
    with pytest.raises(
        SpaceError, match=r"^cannot .*: the new process was killed by SIGKILL$"
    ) as e:
        launch.start(settings.plan_from(values))
    assert killer.done
    assert e.value.exit_status == 125
    assert not e.value.details
    assert e.value.hint is None
    assert not marker.exists()


@pytest.mark.parametrize("victim", ["launcher", "helper"])
@pytest.mark.parametrize("point", ["before the maps", "before the word"])
@pytest.mark.parametrize("number", again(1, 3))
def test_in_place(victim: str, point: str, number: int, wait_until: Callable[..., None]) -> None:
    """--no-fork: the caller sees that the launcher was killed; of its helper the launcher tells."""
    token = uuid.uuid4().hex
    done = outcome([sys.executable, HOMICIDE, victim, point, token], timeout=60)
    if victim == "launcher":
        assert (done.returncode, done.stderr) == (-signal.SIGKILL, "")
    else:
        assert done.returncode == 125, done.stderr
        assert "the helper process, which writes the id maps, was killed" in done.stderr
        assert "Traceback" not in done.stderr
        assert done.stderr.count("\n") == 1
    assert done.stdout == ""
    wait_until(lambda: not processes_with(token), "everything gone")
