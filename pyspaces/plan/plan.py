"""A launch as frozen plain data, checked as a whole before anything is created.

Pure; runs in any process. Must not know click, TOML, pids or descriptors.
"""

from __future__ import annotations

from pyspaces.errors import UsageFault
from pyspaces.kernel import constants, namespaces
from pyspaces.kernel.libc import c_string_fault, path_fault
from pyspaces.record import Record, told

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from typing import Any, Self

    from pyspaces.feature import Feature, Part
    from pyspaces.features.cgroup.values import Resources
    from pyspaces.features.clocks import Clocks
    from pyspaces.features.confinement.landlock import Landlock
    from pyspaces.features.confinement.seccomp import Seccomp
    from pyspaces.features.descriptors import Descriptors
    from pyspaces.features.environment import Environment
    from pyspaces.features.existing.values import Existing, Joining
    from pyspaces.features.hostname import Uts
    from pyspaces.features.ids.capabilities import Privileges
    from pyspaces.features.ids.identity import Identity
    from pyspaces.features.ids.maps import Maps
    from pyspaces.features.life import Life
    from pyspaces.features.limits import Limits
    from pyspaces.features.loopback import Net
    from pyspaces.features.network.between import Between
    from pyspaces.features.network.naming import Naming
    from pyspaces.features.network.uplink import Uplink
    from pyspaces.features.network.values import Network
    from pyspaces.features.outputs import Outputs
    from pyspaces.mounts.feature import Mounts

# Of the JSON; a change of its meaning raises it. Version 1 was flat, and had no number.
VERSION = 2
_ONE_TEXT = "command: {!r} is one text, but a command is a list of words"
# Options of nearly every launch that are in no row of `conflicts`, like the namespaces alone; "" is
# a field without an option.
_EXCLUDE_NOTHING = ("command", "map-uid", "map-gid", "")


class PartField:
    """A field of Plan: the part of one feature, which is loaded when it is read.

    module: the module of its FEATURE. namespaces: the new namespaces for which the feature has a
    default setting or step.
    """

    def __init__(self, module: str, *namespaces: str) -> None:
        self.module = f"pyspaces.{module}"
        self.namespaces = namespaces
        self._default: Part | None = None

    def __get__(self, plan: Plan | None, owner: type[Plan]) -> Part:
        if self._default is None:
            self._default = self.feature.part()
        return self._default

    @property
    def feature(self) -> Feature:
        """The feature, loaded."""
        feature: Feature = loaded(self.module, "FEATURE")
        return feature


def loaded(module: str, name: str) -> Any:
    """Return `name` of a module. Every table that names modules loads them by this function."""
    return getattr(__import__(module, fromlist=(name,)), name)


def _part(module: str, *namespaces: str) -> Any:
    return PartField(module, *namespaces)


class Plan(Record):
    """What to run, in which new namespaces, and how they are set up.

    command: the words of the command; the first is looked up in the command's own PATH.
    namespaces: names of `namespaces.NAMES` that are new; the others are shared with the caller.
    workdir: the directory in which the command starts; None for the caller's, or, if that does
    not exist inside, $HOME or /. The other fields are the parts of the features, each described by
    its class. They are read in this order: a feature sees the parts of those before it. A plan
    holds only the parts that differ from their defaults.
    """

    command: tuple[str, ...]
    namespaces: tuple[str, ...] = ()
    workdir: str | None = None
    existing: Existing = _part("features.existing.values")  # before life: a hold has no launcher
    maps: Maps = _part("features.ids.maps", "user")
    identity: Identity = _part("features.ids.identity")
    # After the identity: another user gets no new privileges.
    privileges: Privileges = _part("features.ids.capabilities")
    landlock: Landlock = _part("features.confinement.landlock")
    seccomp: Seccomp = _part("features.confinement.seccomp")
    limits: Limits = _part("features.limits")
    resources: Resources = _part("features.cgroup.values")
    uts: Uts = _part("features.hostname")
    clocks: Clocks = _part("features.clocks", "time")
    # After the capabilities: a command without any gets a guarded /proc.
    mounts: Mounts = _part("mounts.feature", "mount")
    net: Net = _part("features.loopback", "net")
    # After the loopback, by which ports are reached inside.
    network: Network = _part("features.network.values")
    uplink: Uplink = _part("features.network.uplink")
    between: Between = _part("features.network.between")
    # After the uplink, which may answer for the name servers of the host.
    naming: Naming = _part("features.network.naming")
    environment: Environment = _part("features.environment")
    life: Life = _part("features.life")
    descriptors: Descriptors = _part("features.descriptors")
    outputs: Outputs = _part("features.outputs")

    _is_checked = False

    def __init__(self, **values: Any) -> None:
        super().__init__(**values)
        for name in PARTS.keys() & values:
            if values[name] == getattr(Plan, name):
                del self.__dict__[name]

    def holds(self, *names: str) -> bool:
        """Return whether one of these fields differs from its default.

        Ask this before a part that the launch may not need: the part itself loads its feature,
        which nobody can in the child.
        """
        held = self.__dict__
        # any() would take three times as long, and this is asked a hundred times for each launch.
        for name in names:  # noqa: SIM110
            if held.get(name) is not None:
                return True
        return False

    def asks(self, what: str) -> bool:
        """Return whether one of the parts that it holds is such a one. what: a name of `Part`'s."""
        # A loop: asked of each launch several times, and any() of a generator takes twice as long.
        for name, part in self.__dict__.items():
            if name in PARTS and part is not None and getattr(part, what):
                return True
        return False

    def involved(self) -> set[str]:
        """Return the fields that do something in this plan, even by their defaults."""
        by_default = [BY_NAMESPACE.get(name, ()) for name in self.namespaces]
        held = {name for name, value in self.__dict__.items() if value is not None}
        return held.union(*by_default)

    def has(self, namespace: str) -> bool:
        """Return whether `namespace` is created for the command."""
        return namespace in self.namespaces

    def makes_clocks_by_joining(self) -> bool:
        """Return whether the process that joins namespaces also creates the new time namespace.

        It has to: once inside, /proc/self/timens_offsets cannot be opened any more.
        """
        return bool(self.joining() and self.has("time") and not self.has("user"))

    def joining(self) -> Joining | None:
        """Return the existing namespaces in which the command starts, or None."""
        return (self.holds("existing") and self.existing.joining) or None

    def builds_tree(self) -> bool:
        """Return whether the command's root is one that the launch puts together."""
        return self.holds("mounts") and self.mounts.builds_tree

    def kill_signal(self) -> int | None:
        """Return the signal that the command gets when its launcher dies, or None."""
        return self.life.kill_child if self.holds("life") else constants.SIGKILL

    def awaits_maps(self) -> bool:
        """Return whether somebody else writes the id maps of the new user namespace."""
        return self.holds("descriptors") and self.descriptors.userns_block is not None

    def strands_groups(self) -> bool:
        """Return whether the caller's groups stay, unasked, since setgroups(2) fails inside."""
        if not self.has("user") or (self.holds("identity") and self.identity.keep_groups):
            return False
        return self.maps.setgroups == "deny" or not self.maps.gid_map

    def _values(self) -> Mapping[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_is_checked"}

    def to_data(self, *, whole: bool = True) -> dict[str, Any]:
        """Return the plan as dicts, lists, strings and numbers, ready for JSON."""
        return {"version": VERSION, **super().to_data(whole=whole)}

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> Self:
        """Rebuild a plan from the result of `to_data`. Raises UsageFault for another version.

        Raises TypeError for a missing or an unknown field.
        """
        if fault := version_fault(data):
            raise UsageFault([f"plan: {fault}"])
        return super().from_data({name: data[name] for name in data if name != "version"})

    @classmethod
    def _from_plain(cls, name: str, value: Any) -> Any:
        if name in PARTS and value is not None:
            return PARTS[name].feature.part.from_data(value)
        return super()._from_plain(name, value)

    def check(
        self, given: Iterable[str] = (), faults: Sequence[str] = (), *, typed: bool = False
    ) -> None:
        """Raise UsageFault with everything that is wrong, if anything is.

        given, typed: as for `faults`. faults: what is wrong with what the plan was made of.
        """
        all_faults = self.faults(given, typed=typed)
        found = [*faults, *(fault for fault in all_faults if fault not in faults)]
        if found:
            raise UsageFault(found)
        self.__dict__["_is_checked"] = True  # a frozen plan stays valid

    def with_command(self, command: Iterable[str]) -> Self:
        """Return this plan with another command, checked. Raises UsageFault."""
        if _is_text(command):
            raise UsageFault([_ONE_TEXT.format(command)])
        plan = self.of_command(tuple(command))
        # No other field looks at the command, but one that holds namespaces without any.
        if not self._is_checked or plan.holds("existing"):
            plan.check()
        elif found := list(plan._command_faults()):
            raise UsageFault(found)
        plan.__dict__["_is_checked"] = True
        return plan

    def replace(self, **changes: Any) -> Self:
        """Return a copy with some fields changed, which is not checked yet."""
        return type(self)(**{**self._values(), **changes})

    def of_command(self, command: tuple[str, ...]) -> Self:
        """Return this plan with another command, not checked yet."""
        plan = object.__new__(type(self))
        plan.__dict__.update(self.__dict__, command=command, _is_checked=False)
        return plan

    def faults(self, given: Iterable[str] = (), *, typed: bool = False) -> Iterator[str]:
        """Yield what is wrong with the plan, a line each.

        given: names of further options that were used, though the plan does not show it. typed:
        whether every field is known to be of its type, being made of texts.
        """
        if not typed and (wrong := list(self._field_faults())):
            yield from wrong
            return
        yield from self._command_faults()
        for name in self.namespaces:
            if name not in namespaces.NAMES:
                yield f"{name}: is not a namespace: choose from {', '.join(namespaces.NAMES)}"
        used = set(given)
        for name in filter(self.holds, PARTS):
            feature = PARTS[name].feature
            fields = tuple(feature.used(self))
            used.update(map(feature.option, fields))
            yield from self._need_faults(feature, fields)
            yield from getattr(self, name).faults(self)
        if used.difference(self.namespaces, _EXCLUDE_NOTHING):
            from pyspaces.plan.conflicts import conflicts

            yield from conflicts(used.union(self.namespaces))

    def _need_faults(self, feature: Feature, fields: Iterable[str]) -> Iterator[str]:
        for field in fields:
            for namespace in feature.needs.get(field, ()):
                if not self.has(namespace):
                    name = feature.option(field) or field.replace("_", "-")
                    yield f"{name}: needs a new {namespace} namespace"

    def _field_faults(self) -> Iterator[str]:
        """Yield fields of a wrong type. All other checks rely on the types."""
        if _is_text(self.command):
            yield _ONE_TEXT.format(self.command)
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
        if fault := path_fault(self.workdir):
            yield f"workdir: {fault}"


PARTS = {name: field for name, field in vars(Plan).items() if isinstance(field, PartField)}
# The parts that do something by their defaults, by the new namespace in which they do it.
BY_NAMESPACE = {
    name: {part for part, field in PARTS.items() if name in field.namespaces}
    for name in namespaces.NAMES
}
Plan._defaults = {"namespaces": (), "workdir": None}


def version_fault(data: object) -> str | None:
    """Return why data from JSON is not a plan of this version, or None if it is."""
    if not isinstance(data, dict):
        return None  # reported as a wrong type
    version = data.get("version")
    if version == VERSION and not isinstance(version, bool):
        return None
    if version is None and "command" in data:
        return f"has no version, as before version {VERSION}: make it again with --dry-run --json"
    if version is None:
        return "version: is missing"
    shown = repr(version) if isinstance(version, int) and abs(version) < 1 << 31 else told(version)
    return f"version: is {shown}, and this program reads version {VERSION}"


def _is_text(value: object) -> bool:
    """Return whether a value is a text, though its annotation says that it is a tuple."""
    return isinstance(value, str)


def checked(plan: object) -> Plan:
    """Return a valid plan. Raises UsageFault for an invalid one, and for other objects.

    Programs call this, and not all of them are type-checked.
    """
    if not isinstance(plan, Plan):
        raise UsageFault(
            [f"plan: has to be a Plan, as settings.plan_from returns it, and is {told(plan)}"]
        )
    if not plan._is_checked:
        plan.check()
    return plan
