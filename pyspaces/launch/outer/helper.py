"""What is left of the parent if the launcher itself becomes the command.

Runs in a process of its own, outside the new namespaces, which ends when the launch does. Only from
there can the id maps be written, and only there does the state of the host explain a failure.
"""

from __future__ import annotations

import os

from pyspaces.errors import MAP, Report, SpaceError
from pyspaces.kernel import nsfs, spawn
from pyspaces.kernel.libc import KernelError
from pyspaces.kernel.spawn import Spawned
from pyspaces.launch import channel
from pyspaces.launch.channel import Conversation
from pyspaces.launch.outer.prepare import answer, failure, files_of, write_maps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyspaces.features.existing.keeping import Kept
    from pyspaces.launch.channel import Channel
    from pyspaces.launch.outer.prepare import Observer
    from pyspaces.plan import Plan


def start_helper(plan: Plan, observe: Observer) -> channel.Channel:
    """Start the process that writes the maps, not as a child, which the command would find."""
    launcher = Spawned(pid=os.getpid(), pidfd=nsfs.pidfd_open(os.getpid()))
    ours, theirs = channel.pair()

    def be_helper() -> None:
        theirs.close()
        attend(plan, launcher, ours, observe)

    try:
        middle = spawn.spawn(lambda: spawn.spawn_alone(be_helper))
        nsfs.has_ended(middle.pidfd, timeout=None)
        nsfs.reap(middle.pid)
        os.close(middle.pidfd)
    except BaseException:
        theirs.close()
        raise
    finally:
        ours.close()
        os.close(launcher.pidfd)
    return theirs


def attend(plan: Plan, launcher: Spawned, ends: Channel, observe: Observer) -> None:
    """Write the maps of the launcher, answer its messages, and explain what fails.

    launcher: the process that becomes the command, as a child would be.
    """
    talk = Conversation()
    kept = files_of(plan)
    try:
        message = ends.hear()
        if message is None:  # it could not create the namespaces, and knows why
            return
        talk.accept(message)
        allowed = write_maps(plan, launcher, observe)
        ends.say(channel.MAPPED, channel.ALLOWED if allowed else channel.DENIED)
        while message := ends.hear():
            talk.accept(message)
            answer(plan, launcher, ends, message, kept, observe)
    except (SpaceError, KernelError) as error:
        # Before the launcher ends: then everything is as it was.
        _undo(kept)
        # One that was killed needs no explanation: its caller sees that, and nobody hears us.
        if not nsfs.has_ended(launcher.pidfd):
            told = failure(Report.of(MAP, error), plan) if isinstance(error, KernelError) else error
            _say(ends, told)
    finally:
        if not talk.executing:
            _undo(kept)
        os.close(launcher.pidfd)


def _say(ends: Channel, error: SpaceError) -> None:
    try:
        ends.say(channel.REFUSED, error.to_bytes())
    except KernelError:  # it has ended meanwhile
        return


def _undo(kept: Kept | None) -> None:
    if kept:
        kept.undo_outer()
