"""A service: a part of a launch besides its child, with six moments.

Runs in the parent but for `before`. Loaded with the first service that a launch asks for.
"""

from __future__ import annotations

from pyspaces.kernel import namespaces, nsfs, procfs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyspaces.kernel.spawn import Spawned
    from pyspaces.launch.services import Launch
    from pyspaces.status import Ended


class Service:
    """A part of a launch that lasts from before the child is created to the end of the command.

    Made if the plan asks for it, by a row of `loading.ROWS`. Each moment comes once at most;
    after `open` has returned, either `failed` or `ended` comes last. In a launch without a fork
    there are only `open` and `before`. It stores in `launch` what
    the child, the watch or another service needs.

    tells: whether it reports on the launch; such a service comes after all others, except in
    `open` and `before`. task: what it does in `failed` and `ended`, as in "cannot TASK: why".
    """

    tells = False
    task = "release the resources of the launch"

    def __init__(self, launch: Launch) -> None:
        self.launch = launch

    def open(self) -> None:
        """In the launcher, first of all: acquire what it needs, or raise and hold nothing."""

    def before(self) -> None:
        """In the process that creates the child, right before. A KernelError fails the launch."""

    def held(self, child: Spawned) -> None:
        """In the launcher, while the child, all set up, waits for this right before exec."""

    def started(self, child: Spawned) -> None:
        """In the launcher, once exec has succeeded: the command runs in `child`."""

    def failed(self, error: BaseException) -> None:
        """In the launcher, once the launch has failed with `error` and no child is left."""
        self.release()

    def ended(self, ended: Ended) -> None:
        """In the launcher, once the command has ended and was reaped."""
        self.release()

    def release(self) -> None:
        """Release what `open` took; what `failed` and `ended` do. More than once is fine."""

    @property
    def prepares(self) -> bool:
        """Whether it has something to do in `before`: that takes a process of its own."""
        return type(self).before is not Service.before

    @property
    def holds(self) -> bool:
        """Whether the child has to wait for `held`."""
        return type(self).held is not Service.held


def members_of(launch: Launch, child: Spawned) -> dict[str, int]:
    """Return the inode of each namespace that the command will be in, except unknown ones."""
    number = procfs.pid_of_pidfd(child.pidfd)
    told = dict(child.told)
    found = {}
    for row in namespaces.NAMESPACES:
        is_new = row.name in launch.plan.namespaces
        places = [f"/proc/{number}/ns/{row.link}"]
        if not is_new and row.name not in (*launch.inodes, "user"):
            places.append(f"/proc/self/ns/{row.link}")
        # What was joined, we have held in our hands; what is new, the child alone may see.
        inode = launch.inodes.get(row.name) or (told.get(row.name) if is_new else None)
        for place in places:
            inode = inode or nsfs.inode_or_none(place)
        if inode:
            found[row.name] = inode
    return found
