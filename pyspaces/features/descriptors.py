"""Descriptors: those that the command gets, and those by which its caller and the launcher agree.

The words are those of bwrap(1), with the same meaning. Pure, but for the step, which the child
takes.
"""

from __future__ import annotations

from pyspaces.feature import DESCRIPTORS, Feature, Part, Step, descriptor_of, flag, many, value
from pyspaces.kernel.libc import path_fault

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyspaces.feature import Given
    from pyspaces.launch.inner.steps import Context
    from pyspaces.plan import Plan

_OPTIONS = {
    "keep": "keep-fd",
    "info": "info-fd",
    "json_status": "json-status-fd",
    "block": "block-fd",
    "userns_block": "userns-block-fd",
    "sync": "sync-fd",
}


class Descriptors(Part):
    """What the command inherits, and what the launcher and its caller do at the same time.

    close: whether the command gets no descriptors but its streams and those of `keep`. info: where
    the process id and the namespaces of the child are written, once they exist. json_status: the
    same, and the exit status once the command has ended. userns_block: what
    the launch waits for before the new user namespace is used, whose maps somebody else writes.
    block: what it waits for right before exec. sync: what the launcher keeps open while the command
    runs. locks: files, by their paths inside, that have a read lock meanwhile.
    """

    is_served = True
    is_equipped = True
    needs_fork = True

    close: bool = False
    keep: tuple[int, ...] = ()
    info: int | None = None
    json_status: int | None = None
    block: int | None = None
    userns_block: int | None = None
    sync: int | None = None
    locks: tuple[str, ...] = ()

    def numbers(self) -> Iterator[tuple[str, int]]:
        """Yield the option and the number of each descriptor."""
        for field, option in _OPTIONS.items():
            found = getattr(self, field)
            for number in found if isinstance(found, tuple) else (found,):
                if number is not None:
                    yield option, number

    def faults(self, plan: Plan) -> Iterator[str]:
        del plan
        users: dict[int, str] = {}
        for option, number in self.numbers():
            if number < 0:
                yield f"{option}: {number}: is not a descriptor"
            elif number in users:
                yield f"{option}: {number}: is the descriptor of --{users[number]} already"
            users[number] = option
        for path in self.locks:
            if fault := path_fault(path):
                yield f"lock-file: {fault}"


def _read(given: Given, plan: Plan) -> Descriptors:
    del plan
    return Descriptors(
        close=given.flag("close_fds"),
        keep=given.each("keep_fd", descriptor_of),
        info=given.parsed("info_fd", descriptor_of),
        json_status=given.parsed("json_status_fd", descriptor_of),
        block=given.parsed("block_fd", descriptor_of),
        userns_block=given.parsed("userns_block_fd", descriptor_of),
        sync=given.parsed("sync_fd", descriptor_of),
        locks=tuple(given.texts("lock_file")),
    )


def _lock_inner(context: Context) -> None:
    assert context.locking
    context.locking.lock_inner()


LOCK = Step(
    title="lock files",
    applies=lambda plan: plan.descriptors.locks,
    act=_lock_inner,
    detail=lambda plan: ", ".join(plan.descriptors.locks),
)
_NONE = "unshare(1) has no such descriptor"
FEATURE = Feature(
    name="descriptors",
    part=Descriptors,
    settings=(
        flag("close_fds", DESCRIPTORS, "pass on only descriptors 0 to 2 and those of --keep-fd"),
        many("keep_fd", DESCRIPTORS, "FD", "with --close-fds, pass on FD, too; repeatable"),
        value(
            *("info_fd", DESCRIPTORS, "FD"),
            "write process ID and namespaces to FD, as JSON, once they exist",
        ),
        value(
            *("json_status_fd", DESCRIPTORS, "FD"),
            "write the same to FD, in one line, and a line with the exit status at the end",
        ),
        value(
            *("block_fd", DESCRIPTORS, "FD"),
            "wait, with everything set up, until FD has something to read",
        ),
        value(
            *("userns_block_fd", DESCRIPTORS, "FD"),
            "write no ID maps, but wait until FD has something to read, and use those of others",
            implies=("user",),
        ),
        value("sync_fd", DESCRIPTORS, "FD", "keep FD open while the command runs"),
        many(
            *("lock_file", DESCRIPTORS, "PATH"),
            "hold a read lock on the file PATH inside while the command runs; repeatable",
        ),
    ),
    read=_read,
    needs={"userns_block": ("user",)},
    options={"close": "close-fds", "locks": "lock-file", **_OPTIONS},
    quiet=("locks",),
    no_equivalent={
        **dict.fromkeys(("info", "json_status", "block", "userns_block", "sync"), _NONE),
        **dict.fromkeys(("close", "keep"), "unshare(1) passes on what is open"),
        "locks": "unshare(1) locks no files; flock(1) does",
    },
)
