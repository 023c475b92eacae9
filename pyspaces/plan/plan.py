"""A launch as frozen plain data, checked as a whole before anything is created.

Pure; runs in any process. Must not know click, TOML, pids or descriptors.
"""

from __future__ import annotations

from pyspaces.errors import UsageFault
from pyspaces.features.clocks import Clocks
from pyspaces.features.confinement.landlock import Landlock
from pyspaces.features.confinement.seccomp import Seccomp
from pyspaces.features.environment import Environment
from pyspaces.features.existing.values import Existing
from pyspaces.features.hostname import Uts
from pyspaces.features.ids import idmap
from pyspaces.features.ids.capabilities import Privileges
from pyspaces.features.ids.identity import Identity
from pyspaces.features.ids.maps import Maps
from pyspaces.features.life import Life
from pyspaces.features.limits import Limits
from pyspaces.features.loopback import Net
from pyspaces.features.outputs import Outputs
from pyspaces.kernel import namespaces
from pyspaces.kernel.libc import c_string_fault
from pyspaces.mounts.feature import Mounts
from pyspaces.plan.conflicts import conflicts
from pyspaces.plan.features import FEATURES
from pyspaces.record import Record, told

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from typing import Any, ClassVar, Self

    from pyspaces.feature import Feature

# Of the JSON; a change of its meaning raises it. Version 1 was flat, and had no number.
VERSION = 2


class Plan(Record):
    """What to run, in which new namespaces, and how they are set up.

    command: the words of the command; the first is looked up in the command's own PATH.
    namespaces: names of `namespaces.NAMES` that are new; the others are shared with the caller.
    workdir: the directory in which the command starts; None for the caller's, or, where that does
    not exist inside, $HOME or /. The other fields are the parts of the features, each described by
    its class.
    """

    command: tuple[str, ...]
    namespaces: tuple[str, ...] = ()
    workdir: str | None = None
    existing: Existing = Existing()
    maps: Maps = Maps()
    identity: Identity = Identity()
    privileges: Privileges = Privileges()
    landlock: Landlock = Landlock()
    seccomp: Seccomp = Seccomp()
    limits: Limits = Limits()
    uts: Uts = Uts()
    clocks: Clocks = Clocks()
    mounts: Mounts = Mounts()
    net: Net = Net()
    environment: Environment = Environment()
    life: Life = Life()
    outputs: Outputs = Outputs()

    _is_checked = False
    _nested: ClassVar = {feature.name: feature.part for feature in FEATURES}

    def has(self, namespace: str) -> bool:
        """Tell whether `namespace` is new for the command."""
        return namespace in self.namespaces

    def makes_clocks_by_joining(self) -> bool:
        """Tell whether who joins the namespaces makes the new time namespace, too.

        Its offsets are written by a file of /proc/self, and to open that is too late once there.
        """
        return bool(self.existing.joining) and self.has("time") and not self.has("user")

    def strands_groups(self) -> bool:
        """Tell whether nobody inside could give up the caller's groups, unless they are to stay."""
        denied = self.maps.setgroups == idmap.DENY or not self.maps.gid_map
        return self.has("user") and denied and not self.identity.keep_groups

    def to_data(self) -> dict[str, Any]:
        """Return the plan as dicts, lists, strings and numbers, ready for JSON."""
        return {"version": VERSION, **super().to_data()}

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> Self:
        """Rebuild a plan from what `to_data` gave. Raises UsageFault for another version.

        Raises TypeError for a missing or an unknown field.
        """
        if fault := version_fault(data):
            raise UsageFault([f"plan: {fault}"])
        return super().from_data({name: data[name] for name in data if name != "version"})

    def check(self, given: Iterable[str] = (), faults: Sequence[str] = ()) -> None:
        """Raise UsageFault with everything that is wrong, if anything is.

        given: as for `faults`. faults: what is wrong with what the plan was made of.
        """
        found = [*faults, *(fault for fault in self.faults(given) if fault not in faults)]
        if found:
            raise UsageFault(found)
        self.__dict__["_is_checked"] = True  # frozen, it stays so: nobody has to look again

    def faults(self, given: Iterable[str] = ()) -> Iterator[str]:
        """Yield what is wrong with the plan, a line each.

        given: names of further options that were used, though the plan does not show it.
        """
        if wrong := list(self._field_faults()):
            yield from wrong
            return
        yield from self._command_faults()
        for name in self.namespaces:
            if name not in namespaces.NAMES:
                yield f"{name}: is not a namespace: choose from {', '.join(namespaces.NAMES)}"
        used = {*self.namespaces, *given}
        for feature in FEATURES:
            fields = tuple(feature.used(self))
            used.update(map(feature.option, fields))
            yield from self._need_faults(feature, fields)
            if fields:
                yield from getattr(self, feature.name).faults(self)
        yield from conflicts(used)

    def _need_faults(self, feature: Feature, fields: Iterable[str]) -> Iterator[str]:
        for field in fields:
            for namespace in feature.needs.get(field, ()):
                if not self.has(namespace):
                    name = feature.option(field) or field.replace("_", "-")
                    yield f"{name}: needs a new {namespace} namespace"

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
        if self.workdir is not None and (fault := c_string_fault(self.workdir)):
            yield f"workdir: {self.workdir!r}: {fault}"
        if self.workdir == "":
            yield "workdir: a path cannot be empty"


def version_fault(data: object) -> str | None:
    """Say why data from JSON is not a plan of this version; None where it is."""
    if not isinstance(data, dict):
        return None  # which is told as what it is
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
    if not plan._is_checked:
        plan.check()
    return plan
