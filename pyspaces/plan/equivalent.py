"""The unshare(1) command that gives the namespaces and ids of a plan, where there is one.

Pure, but for `Caller.of_this_process`; runs in the parent. Must not know how the answer is shown.
What unshare(1) of util-linux 2.38 takes is the measure. Whatever field of a plan is not known here,
and is not as the plan has it by itself, counts as something that unshare(1) cannot do.
"""

from __future__ import annotations

import os

from pyspaces import status
from pyspaces.features.ids import idmap
from pyspaces.kernel import constants, procfs
from pyspaces.mounts import propagation
from pyspaces.plan.plan import Plan
from pyspaces.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pyspaces.features.clocks import Offset
    from pyspaces.features.ids.idmap import Extent

# What the methods below look at; `x.y` is the field y of the record x.
_KNOWN = frozenset(
    (
        *("command", "namespaces", "uid_map", "gid_map", "setgroups", "uid", "gid", "groups"),
        *("keep_groups", "keep_caps", "boottime", "monotonic", "propagation", "mount_proc"),
        *("loopback", "workdir", "life.kill_child", "life.in_place"),
    )
)
_REASONS = {
    "hostname": "unshare(1) sets none",
    "domainname": "unshare(1) sets none",
    "root": "unshare(1) changes it by chroot(2), which leaves the old one in reach",
    "empty_root": "unshare(1) makes none",
    "guard_proc": "unshare(1) leaves all of /proc as it is",
    "mounts": "unshare(1) mounts nothing but a fresh /proc",
    "environment": "unshare(1) leaves it as it is; env(1) changes it",
    "cap_drop": "unshare(1) drops none; setpriv(1) does",
    "cap_add": "unshare(1) keeps all of them or none",
    "no_new_privs": "unshare(1) does not set it; setpriv(1) does",
    "no_nested_users": "unshare(1) sets no limit",
    "joining": "unshare(1) joins none; nsenter(1) does",
    "keeps": "unshare(1) keeps a namespace only by a file that is there already",
    "name": "unshare(1) gives none",
    "hold": "unshare(1) always runs a command",
}


class Caller(Record):
    """Whose launch it is: the effective ids, and whether it may write any map by itself."""

    uid: int
    gid: int
    privileged: bool

    @classmethod
    def of_this_process(cls) -> Caller:
        """Describe this process."""
        may = procfs.has_capability(constants.CAP_SETGID)
        return cls(uid=os.geteuid(), gid=os.getegid(), privileged=may)


class Equivalent(Record):
    """The words of the command, or else what it cannot express, a line each."""

    words: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()


def of(plan: Plan, caller: Caller) -> Equivalent:
    """Translate a plan that `caller` would launch."""
    translation = _Translation(plan, caller)
    translation.translate()
    if translation.missing:
        return Equivalent(missing=tuple(translation.missing))
    return Equivalent(words=("unshare", *translation.words, "--", *plan.command))


def changed(record: Record, default: Record, prefix: str = "") -> Iterator[str]:
    """Yield the fields in which a record differs from `default`; `x.y` for those of a part."""
    for name in record._fields:
        value, usual = getattr(record, name), getattr(default, name)
        if value == usual:
            continue
        if isinstance(value, Record) and isinstance(usual, Record) and name not in _REASONS:
            yield from changed(value, usual, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


class _Translation:
    """One walk over a plan, collecting words, and what there is no word for."""

    def __init__(self, plan: Plan, caller: Caller) -> None:
        self.plan = plan
        self.caller = caller
        self.words: list[str] = []
        self.missing: list[str] = []

    def translate(self) -> None:
        for name in changed(self.plan, Plan(command=self.plan.command)):
            if name not in _KNOWN:
                self.missing.append(f"{name}: {_REASONS.get(name, 'unshare(1) has no such thing')}")
        self.words += [f"--{name}" for name in self.plan.namespaces]
        self._fork()
        if self.plan.has("user"):
            self._map("user", self.plan.uid_map, self.caller.uid)
            self._map_groups()
        self._identity()
        self._clock("boottime", self.plan.boottime)
        self._clock("monotonic", self.plan.monotonic)
        if self.plan.propagation != propagation.PRIVATE:
            self.words.append(f"--propagation={self.plan.propagation}")
        if self.plan.mount_proc:
            self.words.append("--mount-proc")
        if self.plan.has("net") and self.plan.loopback:
            self.missing.append("loopback: unshare(1) leaves lo down, as --no-loopback does")
        if self.plan.workdir is not None:
            self.words.append(f"--wd={self.plan.workdir}")

    def _fork(self) -> None:
        """Fork where it has to be: otherwise unshare(1) becomes the command."""
        if not (self.plan.has("pid") or self.plan.has("time")):
            return
        self.words.append("--fork")
        number = self.plan.life.kill_child
        if number == constants.SIGKILL:
            self.words.append("--kill-child")
        elif number is not None:
            name = status.signal_name(number)
            self.words.append(f"--kill-child={name}")
            if not name.startswith("SIG"):
                self.missing.append(f"life.kill_child: {name} has no name for unshare(1)")

    def _map(self, kind: str, extents: Sequence[Extent], own: int) -> None:
        """Map the own id by one option, and a range by another, which has the outside id first."""
        alone = [row for row in extents if idmap.is_own([row], own)]
        ranges = [row for row in extents if row not in alone]
        # Before 2.40 newuidmap writes ranges, for root too, who has no subordinate ids as a rule.
        if ranges and self.caller.privileged:
            self.missing.append(f"{kind[0]}id_map: unshare(1) before 2.40 writes no range for root")
        elif len(ranges) > 1:
            self.missing.append(f"{kind[0]}id_map: unshare(1) before 2.40 takes one range only")
        self.words += [f"--map-{kind}={row.inside}" for row in alone]
        self.words += [f"--map-{kind}s={row.outside},{row.inside},{row.count}" for row in ranges]

    def _map_groups(self) -> None:
        """Map groups: --map-group alone always denies setgroups(2), a range leaves it as it is."""
        plan, own = self.plan, self.caller.gid
        if not plan.gid_map:
            self.words += [f"--setgroups={plan.setgroups}"] if plan.setgroups else []
        elif idmap.is_own(plan.gid_map, own):
            self.words.append(f"--map-group={plan.gid_map[0].inside}")
            if not self._denied():
                self.missing.append(
                    "setgroups: unshare(1) denies it here, as --setgroups deny does"
                )
        else:
            self._map("group", plan.gid_map, own)
            if plan.setgroups == idmap.DENY:
                self.missing.append(
                    "setgroups: unshare(1) denies it after the group map, which the kernel refuses"
                )

    def _denied(self) -> bool:
        """Tell whether setgroups(2) is denied inside; idmap.write_outer has the rule."""
        plan = self.plan
        if plan.setgroups is not None or not idmap.is_own(plan.gid_map, self.caller.gid):
            return plan.setgroups == idmap.DENY
        return not self.caller.privileged

    def _identity(self) -> None:
        plan, caller, user = self.plan, self.caller, self.plan.has("user")
        uid = _inside(plan.uid_map, caller.uid) if user else caller.uid
        gid = _inside(plan.gid_map, caller.gid) if user else caller.gid
        wanted_uid = plan.uid if plan.uid is not None else idmap.inside_id(plan.uid_map)
        wanted_gid = plan.gid if plan.gid is not None else idmap.inside_id(plan.gid_map)
        drops = user and bool(plan.gid_map) and not self._denied() and not plan.keep_groups
        if plan.groups:
            self.missing.append("groups: unshare(1) can drop them, and set none")
        elif plan.groups == () or drops:
            self.words.append(f"--setgid={gid if wanted_gid is None else wanted_gid}")
        elif wanted_gid not in (None, gid):
            self.missing.append("gid: unshare(1) drops the supplementary groups with --setgid")
        if changes := wanted_uid not in (None, uid):
            self.words.append(f"--setuid={wanted_uid}")
        self._keep_caps(uid if wanted_uid is None else wanted_uid, changes=changes)

    def _keep_caps(self, uid: int | None, *, changes: bool) -> None:
        """Keep those of anybody but user 0, who has them in any case."""
        if not self.plan.keep_caps or uid == 0:
            return
        if changes or not self.plan.has("user"):
            self.missing.append("keep_caps: unshare(1) keeps none over a change of the user")
        else:
            self.words.append("--keep-caps")

    def _clock(self, name: str, offset: Offset | None) -> None:
        if offset is not None and offset.nanoseconds:
            self.missing.append(f"{name}: unshare(1) takes whole seconds")
        elif offset is not None:
            self.words.append(f"--{name}={offset}")


def _inside(extents: Sequence[Extent], outside: int) -> int | None:
    """Return what the outside id is inside, or None where it is not mapped."""
    for row in extents:
        if row.outside <= outside < row.outside + row.count:
            return row.inside + outside - row.outside
    return None
