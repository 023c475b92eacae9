"""Capabilities of the command: capabilities(7); and how it is kept from gaining others.

Names of capabilities are `CAP_*`, in capitals.

Pure, but for what ends in _inner, which runs in the child.
"""

from __future__ import annotations

import errno
import os

from pyspaces.errors import BOUNDING, CAN_NEST, CAPABILITIES, Refusal
from pyspaces.feature import CONFINING, IDENTITY, Feature, Part, Step, flag, many
from pyspaces.kernel import constants, libc, procfs
from pyspaces.kernel.libc import KernelError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pyspaces.feature import Given, Setting
    from pyspaces.launch.inner.steps import Context
    from pyspaces.plan import Plan

ALL = "ALL"

# include/uapi/linux/capability.h, by number.
# fmt: off
_SHORT = (
    "CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID",
    "SETUID", "SETPCAP", "LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST",
    "NET_ADMIN", "NET_RAW", "IPC_LOCK", "IPC_OWNER", "SYS_MODULE", "SYS_RAWIO",
    "SYS_CHROOT", "SYS_PTRACE", "SYS_PACCT", "SYS_ADMIN", "SYS_BOOT", "SYS_NICE",
    "SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD", "LEASE", "AUDIT_WRITE",
    "AUDIT_CONTROL", "SETFCAP", "MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG", "WAKE_ALARM",
    "BLOCK_SUSPEND", "AUDIT_READ", "PERFMON", "BPF", "CHECKPOINT_RESTORE",
)
# fmt: on
NAMES = tuple(f"CAP_{name}" for name in _SHORT)
_EVERY = (1 << 64) - 1
_USER_LIMIT = "/proc/sys/user/max_user_namespaces"


def canonical(text: str) -> str:
    """Return a name in capitals and with `CAP_`; ALL stays as it is."""
    name = text.upper()
    return name if name == ALL or name.startswith("CAP_") else f"CAP_{name}"


class Privileges(Part):
    """The privileges of the command.

    keep_caps: whether a user other than root keeps its capabilities over exec.
    cap_drop, cap_add: capabilities (CAP_*) that the command cannot have, and that it has.
    no_new_privs: whether no program gives the command more than it has, not even a set-user-ID one.
    no_nested_users: whether no user namespace can be made inside the new one.
    assert_userns_disabled: whether it is an error if the command can make one all the same.
    """

    is_equipped = True

    keep_caps: bool = False
    cap_drop: tuple[str, ...] = ()
    cap_add: tuple[str, ...] = ()
    no_new_privs: bool = False
    no_nested_users: bool = False
    assert_userns_disabled: bool = False

    @property
    def changes(self) -> bool:
        """Whether the capability sets differ from what exec would give the command."""
        return bool(self.keep_caps or self.cap_drop or self.cap_add)

    def faults(self, plan: Plan) -> Iterator[str]:
        for setting, names in (("cap-drop", self.cap_drop), ("cap-add", self.cap_add)):
            for name in names:
                if name == ALL:
                    if setting == "cap-add":
                        yield "cap-add: ALL: name each; --keep-caps keeps those of the caller"
                elif name not in NAMES:
                    yield f"{setting}: {name}: is not a capability; capabilities(7) lists them"
        for name in self.cap_drop:
            if name in self.cap_add:
                yield f"cap-add: {name}: is dropped by cap-drop"
        if self.no_nested_users and not plan.has("user"):
            yield (
                "no-nested-users: needs a new user namespace: the limit holds in a whole one, and"
                " in the caller's own it would bind others too: add --user"
            )
        if self.no_nested_users and "CAP_SYS_RESOURCE" in self.cap_add:
            yield "cap-add: CAP_SYS_RESOURCE: whoever has it can undo no-nested-users"


def _read(given: Given, plan: Plan) -> Privileges:
    dropped = _names(given, "cap_drop")
    # Requested, or implied if the command gives up much.
    changes_user = plan.holds("identity") and bool(plan.identity.uid)
    gives_up = changes_user or ALL in dropped or any(map(given.has, CONFINING))
    implied = not given.flag("allow_new_privs") and gives_up
    return Privileges(
        keep_caps=given.flag("keep_caps"),
        cap_drop=dropped,
        cap_add=_names(given, "cap_add"),
        no_new_privs=given.flag("no_new_privs") or implied,
        no_nested_users=given.flag("no_nested_users"),
        assert_userns_disabled=given.flag("assert_userns_disabled"),
    )


def _names(given: Given, setting: str) -> tuple[str, ...]:
    names = tuple(canonical(text) for text in given.words(setting))
    option = setting.replace("_", "-")
    for unknown in unknown_here(names):
        given.faults.append(f"{option}: {unknown}: this kernel does not have it")
    return names


def unknown_here(names: Iterable[str]) -> list[str]:
    """Return those of `names` that the running kernel does not have."""
    known = [name for name in names if name in NAMES]
    if not known:
        return []
    last = int(procfs.sysctl("kernel.cap_last_cap") or len(NAMES) - 1)
    return [name for name in known if NAMES.index(name) > last]


def mask(names: Iterable[str]) -> int:
    """Return the bits of `names`; ALL is every bit."""
    bits = 0
    for name in names:
        bits |= _EVERY if name == ALL else 1 << NAMES.index(name)
    return bits


def drop_bounding_inner(drop: Iterable[str], add: Iterable[str]) -> None:
    """Remove `drop`, except for `add`, from the bounding set. Needs CAP_SETPCAP.

    Raises KernelError. Before the ids change, which may take CAP_SETPCAP away.
    """
    drop = tuple(drop)
    lost = mask(drop) & ~mask(add)
    for number in range(64):
        if not lost >> number & 1:
            continue
        try:
            libc.drop_bounding_capability(number)
        except KernelError as error:
            # Past the last one that this kernel has: ALL asks for no more than there is.
            if error.errno == errno.EINVAL and ALL in drop:
                return
            raise


def set_inner(drop: Iterable[str], add: Iterable[str], *, keep: bool) -> None:
    """Set permitted, effective, inheritable and ambient sets. Raises KernelError.

    keep: whether a user other than root keeps all that is not dropped, over exec. Root gets what
    the bounding set leaves; for anybody else, exec takes all that is not ambient. The kernel holds
    the ambient set within permitted and inheritable by itself, so that dropping from these is
    dropping from it.
    """
    add = tuple(add)
    wanted = mask(add)
    _, permitted, inheritable = libc.capabilities()
    if missing := [name for name in add if not permitted & mask([name])]:
        raise KernelError(errno.EPERM, "capset", missing, ",".join(missing))
    lost = mask(drop) & ~wanted
    permitted &= ~lost
    inheritable &= ~lost
    ambient = 0
    if (keep or add) and not _is_root():
        ambient = permitted = permitted if keep else wanted
        inheritable |= ambient
    libc.set_capabilities(permitted, permitted, inheritable)
    for number in range(64):
        if ambient >> number & 1:
            libc.raise_ambient_capability(number)


def keep_for_signals_inner(drop: Iterable[str], add: Iterable[str], *, always: bool) -> None:
    """Give up everything but CAP_KILL; that too if it is dropped, unless `always` is set."""
    number = constants.CAP_KILL
    dropped = (mask(drop) & ~mask(add)) >> number & 1
    _, permitted, _ = libc.capabilities()
    kept = permitted & (1 << number if always or not dropped else 0)
    libc.set_capabilities(kept, kept, 0)


def forbid_user_namespaces_inner() -> None:
    """Forbid user namespaces below that of this process, for good. Raises KernelError.

    user_namespaces(7), namespaces(7): each user namespace has a limit on those made in it. Only a
    process with CAP_SYS_RESOURCE in it may write the limit (set_permissions() of kernel/ucount.c),
    so that is given up, by everything that will ever run inside; seen on 6.18: with it, root inside
    raises the limit again.
    """
    procfs.write_once(_USER_LIMIT, "0")
    # By doing, before the way back is shut: a file that covers the real one takes a write as well.
    try:
        libc.unshare(constants.CLONE_NEWUSER)
    except KernelError as error:
        if error.errno != errno.ENOSPC:
            raise
    else:
        raise KernelError(errno.EOPNOTSUPP, "write", ["0"], _USER_LIMIT)
    kept = ~(1 << constants.CAP_SYS_RESOURCE)
    libc.drop_bounding_capability(constants.CAP_SYS_RESOURCE)
    effective, permitted, inheritable = libc.capabilities()
    libc.set_capabilities(effective & kept, permitted & kept, inheritable & kept)


# What unshare(2) says if there can be no user namespace: of a limit, of a policy, of the kernel.
_DISABLED = (errno.ENOSPC, errno.EUSERS, errno.EPERM, errno.EINVAL, errno.ENOSYS)


def assert_no_user_namespaces_inner() -> None:
    """Raise Refusal if this process can create a user namespace, or allow itself to.

    By doing: if that succeeds, the launch fails, and this process ends.
    """
    try:
        libc.unshare(constants.CLONE_NEWUSER)
    except KernelError as error:
        if error.errno not in _DISABLED:
            raise
        may_raise = error.errno == errno.ENOSPC and _is_root()
        if may_raise and libc.capabilities()[1] >> constants.CAP_SYS_RESOURCE & 1:
            raise Refusal(
                "the command could raise the limit of user namespaces: it has CAP_SYS_RESOURCE"
            ) from None
    else:
        raise Refusal(CAN_NEST)


def _is_root() -> bool:
    """Return whether exec gives this process the capabilities of root: capabilities(7).

    Not even user 0 gets them if the caller has set SECBIT_NOROOT; a new user namespace clears it.
    """
    return os.geteuid() == 0 and not libc.secure_bits() >> constants.SECURE_NOROOT & 1


def _drop_bounding_inner(context: Context) -> None:
    privileges = context.plan.privileges
    drop_bounding_inner(privileges.cap_drop, privileges.cap_add)


def _set_by_plan_inner(context: Context) -> None:
    privileges = context.plan.privileges
    set_inner(privileges.cap_drop, privileges.cap_add, keep=privileges.keep_caps)


def _text(plan: Plan) -> str:
    privileges = plan.privileges
    rows = [f"without {','.join(privileges.cap_drop)}"] if privileges.cap_drop else []
    rows += [f"with {','.join(privileges.cap_add)}"] if privileges.cap_add else []
    return ", ".join([*rows, *(["kept over exec"] if privileges.keep_caps else [])])


FORBID_USER_NAMESPACES = Step(
    title="forbid user namespaces inside",
    applies=lambda plan: plan.privileges.no_nested_users,
    act=lambda context: forbid_user_namespaces_inner(),
)
ASSERT_NO_USER_NAMESPACES = Step(
    title="make sure that user namespaces are disabled",
    applies=lambda plan: plan.privileges.assert_userns_disabled,
    act=lambda context: assert_no_user_namespaces_inner(),
    for_command=True,
)
DROP_BOUNDING = Step(
    title=BOUNDING,
    applies=lambda plan: plan.privileges.cap_drop,
    act=_drop_bounding_inner,
    detail=lambda plan: f"without {','.join(plan.privileges.cap_drop)}",
)
FORBID_NEW_PRIVILEGES = Step(
    title="forbid new privileges",
    applies=lambda plan: plan.privileges.no_new_privs,
    act=lambda context: libc.set_no_new_privs(),
)
SET_CAPABILITIES = Step(
    title=CAPABILITIES,
    applies=lambda plan: plan.privileges.changes,
    act=_set_by_plan_inner,
    detail=_text,
    for_command=True,
)


def _list(name: str, text: str, *words: str) -> Setting:
    names = (*words, *(cap.removeprefix("CAP_").lower() for cap in NAMES))
    return many(name, IDENTITY, "CAP[,CAP...]", text, words=names, listed=True)


FEATURE = Feature(
    name="privileges",
    part=Privileges,
    settings=(
        flag("keep_caps", IDENTITY, "let a user other than root retain its capabilities"),
        _list("cap_drop", "drop these capabilities from the command, or all of them", "all"),
        _list("cap_add", "give these capabilities to the command, whichever user it runs as"),
        flag(
            "no_new_privs",
            IDENTITY,
            "do not let programs such as set-user-ID ones gain privileges",
        ),
        flag(
            "allow_new_privs",
            IDENTITY,
            "do not imply --no-new-privs with --setuid, --cap-drop all and confinement",
        ),
        flag(
            "no_nested_users",
            IDENTITY,
            "prevent the creation of user namespaces inside; requires --user",
        ),
        flag(
            "assert_userns_disabled",
            IDENTITY,
            "fail if the command can create user namespaces, and do not run it",
        ),
    ),
    read=_read,
    also=("setuid", *CONFINING),  # another user, or a confined one, gets no new privileges
    quiet=Privileges._fields,
    translated=("keep_caps",),  # with the ids, whose change takes them
    no_equivalent={
        "cap_drop": "unshare(1) drops none; setpriv(1) does",
        "cap_add": "unshare(1) keeps all of them or none",
        "no_new_privs": "unshare(1) does not set it; setpriv(1) does",
        "no_nested_users": "unshare(1) sets no limit",
        "assert_userns_disabled": "unshare(1) has no such check",
    },
)
