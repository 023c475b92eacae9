"""A launch as frozen plain data, checked as a whole before anything is created.

Pure; runs in any process. Must not know click, TOML, pids or descriptors.
"""

from __future__ import annotations

from pyspaces.errors import UsageFault
from pyspaces.features import environment, hostname
from pyspaces.features.clocks import Offset
from pyspaces.features.environment import Environment
from pyspaces.features.existing.values import HOLDING, Joining, Keep, keep_faults
from pyspaces.features.ids import capabilities, idmap
from pyspaces.features.ids.idmap import Extent
from pyspaces.features.life import Life, Outputs
from pyspaces.kernel import namespaces
from pyspaces.kernel.libc import c_string_fault
from pyspaces.mounts import propagation
from pyspaces.record import Record, told

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, ClassVar

    from pyspaces.mounts.operations import Operation

_MOST_GROUPS = 65536  # NGROUPS_MAX of linux/limits.h


class Plan(Record):
    """What to run, in which new namespaces, and how they are set up.

    command: the words of the command; the first is looked up in the command's own PATH.
    namespaces: names of `namespaces.NAMES` that are new; the others are shared with the caller.
    uid_map, gid_map: extents of the new user namespace; empty leaves the map unwritten.
    setgroups: allow, deny, or None for the kernel's rule.
    uid, gid: ids that the command takes inside once it is set up; None for those of the map.
    groups: its supplementary groups; None for the rule: dropped where the kernel allows it.
    keep_groups: whether the caller's supplementary groups stay.
    keep_caps: whether a user other than root keeps its capabilities over exec.
    cap_drop, cap_add: capabilities (CAP_*) that the command cannot have, and that it has.
    no_new_privs: whether no program gives the command more than it has, not even a set-user-ID one.
    no_nested_users: whether no user namespace can be made inside the new one.
    hostname, domainname: names of the new UTS namespace.
    boottime, monotonic: how far the clocks of the new time namespace are ahead.
    propagation: of every mount in the new mount namespace, a word of `propagation.WORDS`.
    root: the directory that is the root inside; None for the caller's root. empty_root: whether it
    is an empty tmpfs instead.
    mounts: operations of `mounts.operations`, carried out in their order on that root.
    mount_proc: whether /proc shows the new pid namespace.
    guard_proc: whether what user 0 of the host could do to it through /proc is out of reach.
    loopback: whether `lo` of the new network namespace is brought up.
    workdir: the directory in which the command starts; None for the caller's, or, where that does
    not exist inside, $HOME or /.
    environment: changes to the caller's environment.
    life: how the launcher looks after the command. outputs: where it tells what became of it.
    name: under which the command is registered while it runs; None for none.
    hold: whether there is no command but a process that keeps the namespaces.
    joining: the existing namespaces in which the command starts.
    keeps: the files that keep new namespaces.
    """

    command: tuple[str, ...]
    namespaces: tuple[str, ...] = ()
    uid_map: tuple[Extent, ...] = ()
    gid_map: tuple[Extent, ...] = ()
    setgroups: str | None = None
    uid: int | None = None
    gid: int | None = None
    groups: tuple[int, ...] | None = None
    keep_groups: bool = False
    keep_caps: bool = False
    cap_drop: tuple[str, ...] = ()
    cap_add: tuple[str, ...] = ()
    no_new_privs: bool = False
    no_nested_users: bool = False
    hostname: str | None = None
    domainname: str | None = None
    boottime: Offset | None = None
    monotonic: Offset | None = None
    propagation: str = propagation.PRIVATE
    root: str | None = None
    empty_root: bool = False
    mounts: tuple[Operation, ...] = ()
    mount_proc: bool = False
    guard_proc: bool = False
    loopback: bool = True
    workdir: str | None = None
    environment: Environment = Environment()
    life: Life = Life()
    outputs: Outputs = Outputs()
    name: str | None = None
    hold: bool = False
    joining: Joining = Joining()
    keeps: tuple[Keep, ...] = ()

    _nested: ClassVar = {
        "uid_map": Extent,
        "gid_map": Extent,
        "boottime": Offset,
        "monotonic": Offset,
        "environment": Environment,
        "life": Life,
        "outputs": Outputs,
        "joining": Joining,
        "keeps": Keep,
    }

    def has(self, namespace: str) -> bool:
        """Tell whether `namespace` is new for the command."""
        return namespace in self.namespaces

    def builds_tree(self) -> bool:
        """Tell whether the command's root is one that the launch puts together."""
        return self.root is not None or self.empty_root or bool(self.mounts)

    def makes_clocks_by_joining(self) -> bool:
        """Tell whether who joins the namespaces makes the new time namespace, too.

        Its offsets are written by a file of /proc/self, and to open that is too late once there.
        """
        return bool(self.joining) and self.has("time") and not self.has("user")

    def strands_groups(self) -> bool:
        """Tell whether nobody inside could give up the caller's groups, unless they are to stay."""
        denied = self.setgroups == idmap.DENY or not self.gid_map
        return self.has("user") and denied and not self.keep_groups

    @classmethod
    def _from_plain(cls, name: str, value: Any) -> Any:
        if name == "mounts" and value:
            from pyspaces.mounts.operations import Operation  # noqa: PLC0415 - seldom needed

            return tuple(Operation.from_data(item) for item in value)
        return super()._from_plain(name, value)

    def check(self) -> None:
        """Raise UsageFault with everything that is wrong, if anything is."""
        if faults := list(self.faults()):
            raise UsageFault(faults)

    def faults(self) -> Iterator[str]:
        """Yield what is wrong with the plan, a line each."""
        if wrong := list(self._field_faults()):
            yield from wrong
            return
        yield from self._command_faults()
        yield from self._namespace_faults()
        yield from self._map_faults()
        yield from self._identity_faults()
        yield from self._privilege_faults()
        yield from self._environment_faults()
        yield from self._mount_faults()
        yield from self.life.faults()
        yield from self.outputs.faults()
        yield from self._in_place_faults()
        yield from self._existing_faults()
        for name, value in (("hostname", self.hostname), ("domainname", self.domainname)):
            if value is not None and (fault := hostname.name_fault(value)):
                yield f"{name}: {fault}"
        if self.propagation not in propagation.WORDS:
            yield f"propagation: {self.propagation}: is none of {', '.join(propagation.WORDS)}"
        elif self.builds_tree() and self.propagation not in propagation.INWARD:
            yield (
                f"propagation: {self.propagation}: with root or mounts it can only be"
                f" {' or '.join(propagation.INWARD)}: the mounts for it must not reach the outside"
            )

    def _field_faults(self) -> Iterator[str]:
        """Yield fields of a wrong type: every other rule relies on it that there are none."""
        if _is_text(self.command):
            yield f"command: {self.command!r} is one text, and a command is a list of words"
            return
        yield from self.type_faults()

    def _command_faults(self) -> Iterator[str]:
        if not self.command:
            yield "no command given"
        elif not self.command[0]:
            yield "command: the name of a command cannot be empty"
        for word in self.command:
            if fault := c_string_fault(word):
                yield f"command: {word!r}: {fault}"
        for setting, path in (("workdir", self.workdir), ("root", self.root)):
            if path is not None and (fault := c_string_fault(path)):
                yield f"{setting}: {path!r}: {fault}"
            if path == "":
                yield f"{setting}: a path cannot be empty"

    def _namespace_faults(self) -> Iterator[str]:
        for name in self.namespaces:
            if name not in namespaces.NAMES:
                yield f"{name}: is not a namespace: choose from {', '.join(namespaces.NAMES)}"
        needs = (
            ("map-uid", bool(self.uid_map), "user"),
            ("map-gid", bool(self.gid_map), "user"),
            ("setgroups", self.setgroups is not None, "user"),
            ("hostname", self.hostname is not None, "uts"),
            ("domainname", self.domainname is not None, "uts"),
            ("boottime", self.boottime is not None, "time"),
            ("monotonic", self.monotonic is not None, "time"),
            ("propagation", self.propagation != propagation.PRIVATE, "mount"),
            ("root", self.root is not None, "mount"),
            ("empty-root", self.empty_root, "mount"),
            ("mounts", bool(self.mounts), "mount"),
            ("mount-proc", self.mount_proc, "mount"),
            ("mount-proc", self.mount_proc, "pid"),
            ("guard-proc", self.guard_proc, "mount"),
            ("init", self.life.init, "pid"),
        )
        for setting, used, namespace in needs:
            if used and not self.has(namespace):
                yield f"{setting}: needs a new {namespace} namespace"

    def _mount_faults(self) -> Iterator[str]:
        if self.root is not None and self.empty_root:
            yield "empty-root: cannot be combined with root"
        if self.outputs.overlay_diff is not None and not any(
            type(one).__name__ == "TmpOverlay" for one in self.mounts
        ):
            yield "overlay-diff: needs --tmp-overlay or --throwaway, whose changes it tells"
        if not self.mounts:
            return
        from pyspaces.mounts.operations import faults_of  # noqa: PLC0415 - the plan has loaded it

        yield from faults_of(self.mounts)
        if self.mount_proc:
            yield "mount-proc: with mounts it is one of them, Proc(), in its place among them"

    def _in_place_faults(self) -> Iterator[str]:
        if not self.life.in_place:
            return
        if self.has("pid"):
            yield "no-fork: cannot be combined with --pid: process 1 is a child of the launcher"
        for name in self.outputs.used():
            yield f"no-fork: cannot be combined with --{name}: no launcher is left to write it"
        if self.name is not None:
            yield "no-fork: cannot be combined with --name: no launcher is left to release it"

    def _existing_faults(self) -> Iterator[str]:
        yield from self.joining.faults()
        yield from keep_faults(self.keeps, self.namespaces)
        for name in set(self.joining.names()).intersection(self.namespaces):
            yield f"join: {name}: a namespace cannot be both new and joined"
        if self.name is not None:
            from pyspaces.features.existing.names import name_fault  # noqa: PLC0415 - most launches have no name

            if fault := name_fault(self.name):
                yield f"name: {fault}"
        if self.hold:
            yield from self._hold_faults()

    def _hold_faults(self) -> Iterator[str]:
        if self.command != HOLDING:
            yield "hold: takes no command; without --hold, the command itself holds"
        if self.name is None:
            yield "hold: needs a name, by which to stop it: add --name"
        if not self.namespaces:
            yield "hold: no new namespace to keep"
        life = self.life
        rows = [
            ("init", life.init),
            ("no-fork", life.in_place),
            ("pty", life.pty),
            ("new-session", life.new_session),
            ("timeout", life.timeout is not None),
            ("setenv or another change of the environment", self.environment != Environment()),
        ]
        for setting in (*(name for name, used in rows if used), *self.outputs.used()):
            yield f"hold: cannot be combined with --{setting}: there is no command"

    def _map_faults(self) -> Iterator[str]:
        for setting, extents in (("map-uid", self.uid_map), ("map-gid", self.gid_map)):
            try:
                idmap.check(extents)
            except idmap.MapFault as fault:
                yield f"{setting}: {fault}"
        if self.setgroups not in (None, idmap.ALLOW, idmap.DENY):
            yield f"setgroups: {self.setgroups}: is neither {idmap.ALLOW} nor {idmap.DENY}"

    def _identity_faults(self) -> Iterator[str]:
        rows = [("setuid", self.uid, self.uid_map), ("setgid", self.gid, self.gid_map)]
        rows += [("groups", group, self.gid_map) for group in self.groups or ()]
        for setting, number, extents in rows:
            if number is None:
                continue
            if not 0 <= number <= idmap.LARGEST_ID:
                yield f"{setting}: {number}: is not an id; the largest is {idmap.LARGEST_ID}"
            elif self.has("user") and not idmap.maps(extents, number):
                yield (
                    f"{setting}: {number}: is not mapped inside"
                    f" (the map is {idmap.arrows(extents) or 'empty'})"
                )
        if self.groups is None:
            return
        if self.keep_groups:
            yield "groups: keep cannot be combined with other groups"
        if len(self.groups) > _MOST_GROUPS:
            yield f"groups: there are {len(self.groups)}; the kernel takes {_MOST_GROUPS}"
        if self.setgroups == idmap.DENY:
            yield f"groups: setgroups(2) is needed to set them, and setgroups is {idmap.DENY}"
        elif self.has("user") and not self.gid_map:
            yield "groups: setgroups(2) is needed to set them, and works only with a group map"

    def _privilege_faults(self) -> Iterator[str]:
        yield from capabilities.faults(self.cap_drop, self.cap_add)
        if not self.no_nested_users:
            return
        if not self.has("user"):
            yield (
                "no-nested-users: needs a new user namespace: the limit holds in a whole one, and"
                " in the caller's own it would bind others too: add --user"
            )
        if "CAP_SYS_RESOURCE" in self.cap_add:
            yield "cap-add: CAP_SYS_RESOURCE: whoever has it can undo no-nested-users"

    def _environment_faults(self) -> Iterator[str]:
        for name, value in self.environment.set:
            fault = environment.name_fault(name) or environment.value_fault(name, value)
            if fault:
                yield f"setenv: {fault}"
        for setting, names in (
            ("unsetenv", self.environment.unset),
            ("keep-env", self.environment.keep),
        ):
            for name in names:
                if fault := environment.name_fault(name):
                    yield f"{setting}: {fault}"


def _is_text(value: object) -> bool:
    """Tell a text from a tuple of texts, where a type checker did not look: data from JSON."""
    return isinstance(value, str)


def checked(plan: object) -> Plan:
    """Return a plan that can be meant. Raises UsageFault for one that cannot, and for what is none.

    Where a program calls us, no type checker need have looked.
    """
    if not isinstance(plan, Plan):
        raise UsageFault(
            [f"plan: has to be a Plan, as settings.plan_from makes it, and is {told(plan)}"]
        )
    plan.check()
    return plan
