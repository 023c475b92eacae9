"""What the command sees of the file system, as a plan has it: mount_namespaces(7).

Pure, but for the steps, which the child takes. Settings of the kind ORDERED are operations, carried
out in the order in which they are written: in a mapping they stand in one list, `mounts`.
"""

from __future__ import annotations

from pyspaces.errors import PROC
from pyspaces.feature import (
    MOUNTS,
    ORDERED,
    SETUP,
    Feature,
    Part,
    Probe,
    Setting,
    Step,
    flag,
    toggle,
    value,
)
from pyspaces.kernel.libc import c_string_fault
from pyspaces.mounts import proc, propagation, root

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from pyspaces.feature import Given
    from pyspaces.launch.inner.steps import Context
    from pyspaces.mounts.operations import Operation
    from pyspaces.plan import Plan
    from pyspaces.plan.equivalent import Caller

# Operations that are for a sandbox.
_SANDBOXES = frozenset(("host-ro", "throwaway", "read-only"))


class Mounts(Part):
    """What the command sees of the file system.

    propagation: of every mount in the new mount namespace, a word of `propagation.WORDS`.
    root: the directory that is the root inside; None for the caller's root. empty_root: whether it
    is an empty tmpfs instead.
    operations: of `mounts.operations`, carried out in their order on that root.
    mount_proc: whether /proc shows the new pid namespace.
    guard_proc: whether what user 0 of the host could do to it through /proc is out of reach.
    """

    propagation: str = propagation.PRIVATE
    root: str | None = None
    empty_root: bool = False
    operations: tuple[Operation, ...] = ()
    mount_proc: bool = False
    guard_proc: bool = False

    @classmethod
    def _from_plain(cls, name: str, data: Any) -> Any:
        if name == "operations" and data:
            from pyspaces.mounts.operations import Operation  # seldom needed

            return tuple(Operation.from_data(item) for item in data)
        return super()._from_plain(name, data)

    @property
    def builds_tree(self) -> bool:
        """Whether the command's root is one that the launch puts together."""
        return self.root is not None or self.empty_root or bool(self.operations)

    def faults(self, plan: Plan) -> Iterator[str]:
        del plan
        if self.root is not None and (fault := c_string_fault(self.root)):
            yield f"root: {self.root!r}: {fault}"
        if self.root == "":
            yield "root: a path cannot be empty"
        if self.propagation not in propagation.WORDS:
            yield f"propagation: {self.propagation}: is none of {', '.join(propagation.WORDS)}"
        elif self.builds_tree and self.propagation not in propagation.INWARD:
            yield (
                f"propagation: {self.propagation}: with root or mounts it can only be"
                f" {' or '.join(propagation.INWARD)}: the mounts for it must not reach the outside"
            )
        if self.operations:
            from pyspaces.mounts.operations import faults_of  # the plan has loaded it

            yield from faults_of(self.operations)
            if self.mount_proc:
                yield "mount-proc: with mounts it is one of them, Proc(), in its place among them"


def _read(given: Given, plan: Plan) -> Mounts:
    new_proc = given.values.get("mount_proc", plan.has("pid") and plan.has("mount"))
    empty_root, operations = _operations(given, plan, proc=new_proc)
    guards = plan.has("mount") and _guards_proc(given, plan, empty_root=empty_root)
    return Mounts(
        propagation=given.values.get("propagation", propagation.PRIVATE),
        root=given.text("root"),
        empty_root=empty_root,
        operations=operations,
        mount_proc=new_proc and not operations,
        guard_proc=guards,
    )


def _operations(given: Given, plan: Plan, *, proc: bool) -> tuple[bool, tuple[Operation, ...]]:
    """Return whether the root is an empty one, and the operations on it."""
    items = given.values.get("mounts", ())
    empty_root = given.flag("empty_root")
    if not items and not empty_root:
        return False, ()
    from pyspaces.mounts import words

    user = plan.has("user")
    operations = words.operations_from(
        items,
        given.faults,
        proc=proc,
        user=user,
        shared_pids="pid" not in (*given.namespaces, *given.joined),
    )
    empty_root = empty_root or words.needs_empty_root(items, user=user)
    return empty_root, words.with_what_follows(operations, empty_root=empty_root, proc=proc)


def _guards_proc(given: Given, plan: Plan, *, empty_root: bool) -> bool:
    """Tell whether this is a sandbox, in which the host's settings are out of reach."""
    from_sets = {
        item[0].replace("_", "-")
        for item in given.values.get("mounts", ())
        if isinstance(item, list | tuple) and item and isinstance(item[0], str)
    }
    sandbox = (
        (plan.holds("privileges") and "ALL" in plan.privileges.cap_drop)
        or empty_root
        or given.has("root")
        or from_sets.intersection(_SANDBOXES)
    )
    return bool(sandbox) and not given.flag("proc_open")


def _find_inner(context: Context) -> None:
    assert context.building
    context.building.find_inner()


def _attach_root_inner(context: Context) -> None:
    mounts = context.plan.mounts
    if mounts.empty_root:
        root.attach_empty_inner()
    else:
        # Operations on the caller's own tree are applied to a copy of it: what they take from
        # outside is then never what an earlier one has put there.
        root.attach_inner(mounts.root or "/")


def _build_tree_inner(context: Context) -> None:
    assert context.building
    context.building.mount_inner(context.tell)


def _guard_proc_inner(context: Context) -> None:
    assert context.guard
    context.guard()


SET_PROPAGATION = Step(
    title="set the propagation of mounts",
    applies=lambda plan: plan.has("mount"),
    act=lambda context: propagation.set_inner(context.plan.mounts.propagation),
    detail=lambda plan: plan.mounts.propagation,
)
FIND = Step(
    title="find what is to be mounted",
    applies=lambda plan: plan.mounts.operations,
    act=_find_inner,
)
ATTACH_ROOT = Step(
    title="attach the new root",
    applies=lambda plan: plan.mounts.builds_tree,
    act=_attach_root_inner,
    detail=lambda plan: "an empty tmpfs" if plan.mounts.empty_root else plan.mounts.root or "/",
)
BUILD_TREE = Step(
    title="build the tree",
    applies=lambda plan: plan.mounts.operations,
    act=_build_tree_inner,
    detail=lambda plan: f"{len(plan.mounts.operations)} operations",
    parts=lambda plan: (operation.describe() for operation in plan.mounts.operations),
)
MOUNT_PROC = Step(
    title=PROC,
    applies=lambda plan: plan.mounts.mount_proc,
    act=lambda context: proc.mount_inner(context.plan.mounts.root),
)
GUARD_PROC = Step(
    title="close what is the host's in /proc",
    applies=lambda plan: plan.mounts.guard_proc,
    act=_guard_proc_inner,
    detail=lambda plan: "where its root is inside",
)
CHANGE_ROOT = Step(
    title="change to the new root",
    applies=lambda plan: plan.mounts.builds_tree,
    act=lambda context: root.change_inner(),
)


def _equivalent(plan: Plan, caller: Caller) -> Iterator[str]:
    del caller
    if plan.mounts.propagation != propagation.PRIVATE:
        yield f"--propagation={plan.mounts.propagation}"
    if plan.mounts.mount_proc:
        yield "--mount-proc"


_MOUNT = ("mount",)


def _row(name: str, metavar: str, text: str) -> Setting:
    return Setting(
        name=name, kind=ORDERED, group=MOUNTS, metavar=metavar, implies=_MOUNT, help=text
    )


_TRY = "like the option without -try, but ignored if SRC does not exist"

FEATURE = Feature(
    name="mounts",
    part=Mounts,
    settings=(
        toggle(
            "mount_proc",
            SETUP,
            "mount a new /proc for the new PID namespace (default with --pid and --mount)",
            implies=("pid", "mount"),
        ),
        flag("proc_open", SETUP, "do not protect the host's settings in /proc"),
        value(
            "propagation",
            SETUP,
            "|".join(propagation.WORDS),
            "propagation of mounts between inside and outside (private)",
            words=propagation.WORDS,
            implies=_MOUNT,
        ),
        value(
            "root",
            MOUNTS,
            "DIR",
            "use DIR as the root directory",
            short="-R",
            directory=True,
            implies=_MOUNT,
        ),
        flag(
            "empty_root", MOUNTS, "start with an empty tmpfs as the root directory", implies=_MOUNT
        ),
        _row(
            "host_ro",
            "",
            "show the host's programs and /etc read-only, with /dev, /proc and /tmp, on an empty"
            " root",
        ),
        _row("throwaway", "", "show the host's file systems, and discard all changes at the end"),
        _row("read_only", "", "make everything mounted so far read-only, including submounts"),
        _row("bind", "SRC DST", "bind mount SRC on DST, including what is mounted below it"),
        _row("ro_bind", "SRC DST", "like --bind, read-only"),
        _row("dev_bind", "SRC DST", "like --bind, with access to device files"),
        _row("bind_suid", "SRC DST", "like --bind, with set-user-ID programs enabled"),
        _row("bind_try", "SRC DST", _TRY),
        _row("ro_bind_try", "SRC DST", _TRY),
        _row("dev_bind_try", "SRC DST", _TRY),
        _row("bind_fd", "FD DST", "bind mount the file or directory open as FD on DST"),
        _row("ro_bind_fd", "FD DST", "like --bind-fd, read-only"),
        _row("tmpfs", "DST", "mount a tmpfs on DST (--size, --perms)"),
        _row("proc", "DST", "mount a procfs on DST: a new one with --pid, else the caller's /proc"),
        _row(
            "dev", "DST", "set up a minimal /dev on DST, with its own terminals and shared memory"
        ),
        _row("sysfs", "DST", "mount a sysfs on DST; requires --net"),
        _row(
            "mqueue",
            "DST",
            "mount the message queues of the new IPC namespace on DST; requires --ipc",
        ),
        _row("dir", "DST", "create the directory DST if it is missing (--perms)"),
        _row("symlink", "TEXT DST", "create a symbolic link to TEXT at DST"),
        _row("file", "FD DST", "create the file DST with what is read from FD (--perms)"),
        _row("bind_data", "FD DST", "bind mount a file with what is read from FD on DST (--perms)"),
        _row("ro_bind_data", "FD DST", "like --bind-data, read-only"),
        _row("remount_ro", "DST", "make the mount on DST read-only, but not those below it"),
        _row("chmod", "MODE DST", "change the mode of DST, which an earlier option has created"),
        _row(
            "mask", "PATH", "hide PATH: files read empty, directories appear empty; * and ? match"
        ),
        _row(
            "overlay_src",
            "DIR",
            "add DIR as a layer of the next overlay option; repeatable, lowest first",
        ),
        _row("overlay", "UPPER WORK DST", "mount an overlay on DST; changes go to UPPER"),
        _row(
            "tmp_overlay",
            "DST",
            "mount an overlay on DST; changes are discarded at the end (--size)",
        ),
        value(
            "overlay_diff",
            MOUNTS,
            "FILE",
            "write a list of the discarded changes to FILE; as JSON if it ends in .json",
        ),
        _row("ro_overlay", "DST", "mount a read-only overlay of two or more layers on DST"),
        _row("size", "BYTES", "size limit for what the next option mounts, such as 512M"),
        _row("perms", "MODE", "octal mode for what the next option creates"),
    ),
    read=_read,
    needs={
        **dict.fromkeys(("propagation", "root", "empty_root", "operations"), _MOUNT),
        "mount_proc": ("mount", "pid"),
        "guard_proc": _MOUNT,
    },
    options={"operations": "mounts"},
    quiet=Mounts._fields,
    probes=(
        Probe(
            name="mount-proc",
            settings={"pid": True, "mount": True, "mount_proc": True},
            works="a new /proc was mounted",
        ),
    ),
    equivalent=_equivalent,
    translated=("propagation", "mount_proc"),
    no_equivalent={
        "root": "unshare(1) changes it by chroot(2), which leaves the old one in reach",
        "empty_root": "unshare(1) makes none",
        "guard_proc": "unshare(1) leaves all of /proc as it is",
        "operations": "unshare(1) mounts nothing but a fresh /proc",
    },
)
