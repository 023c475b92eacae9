"""What the command sees of the file system: mount_namespaces(7).

Pure, except for the steps, which run in the child. Settings of the kind ORDERED are operations,
carried out in the order in which they are given: in a mapping, they are one list, `mounts`.
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

# With one of these operations, the launch is a sandbox.
_SANDBOXES = frozenset(("host-ro", "throwaway", "read-only"))


class Mounts(Part):
    """What the command sees of the file system.

    propagation: of all mounts in the new mount namespace, a word of `propagation.WORDS`. root: the
    directory that becomes the root; None for the caller's root. empty_root: whether the root is an
    empty tmpfs instead. operations: records of `mounts.operations`, carried out in their order on
    that root. create_targets: whether missing targets are created in directories of the host, too.
    mount_proc: whether to mount a new /proc. guard_proc: whether to protect the host's settings in
    /proc, which user 0 of the host could change.
    """

    propagation: str = propagation.PRIVATE
    root: str | None = None
    empty_root: bool = False
    operations: tuple[Operation, ...] = ()
    create_targets: bool = False
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
        """Whether the launch builds the command's root."""
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
        if self.create_targets and not self.operations:
            yield "create-targets: there is no operation that has a target"
        if self.operations:
            from pyspaces.mounts.operation import faults_of  # the plan has loaded it

            yield from faults_of(self.operations)
            if self.mount_proc:
                yield "mount-proc: with mounts, add Proc() to them instead"


def _read(given: Given, plan: Plan) -> Mounts:
    new_proc = given.values.get("mount_proc", plan.has("pid") and plan.has("mount"))
    names = {
        item[0].replace("_", "-")
        for item in given.values.get("mounts", ())
        if isinstance(item, list | tuple) and item and isinstance(item[0], str)
    }
    empty_root, operations = _operations(given, plan, names, proc=new_proc)
    # A sandbox protects the host's settings.
    powerless = plan.holds("privileges") and "ALL" in plan.privileges.cap_drop
    sandbox = empty_root or given.has("root") or powerless
    return Mounts(
        propagation=given.values.get("propagation", propagation.PRIVATE),
        root=given.text("root"),
        empty_root=empty_root,
        operations=operations,
        create_targets=given.flag("create_targets"),
        mount_proc=new_proc and not operations,
        guard_proc=plan.has("mount")
        and (sandbox or not names.isdisjoint(_SANDBOXES))
        and not given.flag("proc_open"),
    )


def _operations(
    given: Given, plan: Plan, names: set[str], *, proc: bool
) -> tuple[bool, tuple[Operation, ...]]:
    """Return whether the root is an empty tmpfs, and the operations on it."""
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
    if not empty_root and words.needs_empty_root(names, user=user):
        empty_root = not given.has("root")
        if not empty_root:
            name = words.HOST_RO if words.HOST_RO in names else words.THROWAWAY
            given.faults.append(f"{name}: cannot be combined with --root: it has a root of its own")
    return empty_root, words.with_implied(operations, empty_root=empty_root, proc=proc)


def _find_inner(context: Context) -> None:
    assert context.building
    context.building.find_inner()


def _attach_root_inner(context: Context) -> None:
    mounts = context.plan.mounts
    if mounts.empty_root:
        root.attach_empty_inner()
    else:
        # Operations on the caller's own tree are applied to a copy of it: a source is then never
        # what an earlier operation has mounted.
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
    title="open the sources of mounts",
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
    detail=lambda plan: (
        f"{len(plan.mounts.operations)} operations"
        + ", missing targets are created on the host, too" * plan.mounts.create_targets
    ),
    parts=lambda plan: (operation.describe() for operation in plan.mounts.operations),
)
MOUNT_PROC = Step(
    title=PROC,
    applies=lambda plan: plan.mounts.mount_proc,
    act=lambda context: proc.mount_inner(context.plan.mounts.root),
)
GUARD_PROC = Step(
    title="protect the host's settings in /proc",
    applies=lambda plan: plan.mounts.guard_proc,
    act=_guard_proc_inner,
    detail=lambda plan: "if user 0 of the host is mapped",
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


def _row(usage: str, text: str, *, everyday: bool = False) -> Setting:
    """Return the setting of an operation. usage: its name and its words. text: its help."""
    name, _, words = usage.partition(" ")
    more: Any = {"everyday": True} if everyday else {}  # what is the default is not kept
    return Setting(
        name=name, kind=ORDERED, group=MOUNTS, metavar=words, implies=_MOUNT, help=text, **more
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
            everyday=True,
        ),
        flag(
            "empty_root", MOUNTS, "start with an empty tmpfs as the root directory", implies=_MOUNT
        ),
        flag(
            "create_targets",
            MOUNTS,
            "create missing targets in writable directories of the host, too, where they stay",
            implies=_MOUNT,
        ),
        _row(
            "host_ro",
            "show the host's programs and /etc read-only, with /dev, /proc and an empty /tmp, and"
            " nothing else: no home directory; --bind or --ro-bind adds to it",
        ),
        _row(
            "throwaway",
            "show the host's files and discard changes at the end",
            everyday=True,
        ),
        _row("read_only", "make everything mounted so far read-only, including submounts"),
        _row(
            "bind SRC DST",
            "bind mount SRC on DST, and what is mounted below it",
            everyday=True,
        ),
        _row("ro_bind SRC DST", "like --bind, read-only", everyday=True),
        _row("dev_bind SRC DST", "like --bind, with access to device files"),
        _row("bind_suid SRC DST", "like --bind, with set-user-ID programs enabled"),
        _row("bind_try SRC DST", _TRY),
        _row("ro_bind_try SRC DST", _TRY),
        _row("dev_bind_try SRC DST", _TRY),
        _row("bind_fd FD DST", "bind mount the file or directory open as FD on DST"),
        _row("ro_bind_fd FD DST", "like --bind-fd, read-only"),
        _row("tmpfs DST", "mount a tmpfs on DST (--size, --perms)", everyday=True),
        _row("proc DST", "mount a procfs on DST: a new one with --pid, else the caller's /proc"),
        _row("dev DST", "set up a minimal /dev on DST, with its own terminals and shared memory"),
        _row("sysfs DST", "mount a sysfs on DST; requires --net"),
        _row(
            "mqueue DST", "mount the message queues of the new IPC namespace on DST; requires --ipc"
        ),
        _row("dir DST", "create the directory DST if it is missing (--perms)"),
        _row("symlink TEXT DST", "create a symbolic link to TEXT at DST"),
        _row("file FD DST", "create the file DST with what is read from FD (--perms)"),
        _row("bind_data FD DST", "bind mount a file with what is read from FD on DST (--perms)"),
        _row("ro_bind_data FD DST", "like --bind-data, read-only"),
        _row("remount_ro DST", "make the mount on DST read-only, but not those below it"),
        _row("chmod MODE DST", "change the mode of DST, which an earlier option has created"),
        _row(
            "mask PATH",
            "hide PATH: files and directories appear empty; * and ? match",
            everyday=True,
        ),
        _row(
            "overlay_src DIR",
            "add DIR as a layer of the next overlay option; repeatable, lowest first",
        ),
        _row("overlay UPPER WORK DST", "mount an overlay on DST; changes go to UPPER"),
        _row(
            "tmp_overlay DST", "mount an overlay on DST; changes are discarded at the end (--size)"
        ),
        value(
            "overlay_diff",
            MOUNTS,
            "FILE",
            "write a list of the discarded changes to FILE, as JSON if it ends in .json; - is"
            " standard output",
        ),
        _row("ro_overlay DST", "mount a read-only overlay of two or more layers on DST"),
        _row("size BYTES", "size limit for what the next option mounts, such as 512M"),
        _row("perms MODE", "octal mode for what the next option creates"),
        _row("noexec", "let no file be executed in what the next option mounts"),
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
        "root": "unshare(1) changes it by chroot(2), which leaves the old root within reach",
        "empty_root": "unshare(1) cannot create one",
        "guard_proc": "unshare(1) leaves all of /proc as it is",
        "operations": "unshare(1) mounts only a new /proc",
    },
)
