"""The way from a plain mapping of settings to a Plan.

Pure but for the caller's own ids; runs in the parent.
"""

from __future__ import annotations

import os

from pyspaces.errors import UsageFault
from pyspaces.features import clocks
from pyspaces.features.environment import Environment
from pyspaces.features.ids import capabilities, idmap
from pyspaces.features.ids.idmap import MapFault
from pyspaces.kernel import namespaces, procfs
from pyspaces.mounts import propagation
from pyspaces.plan import Plan
from pyspaces.record import told
from pyspaces.settings import joining
from pyspaces.settings.fitting import Misfit, fitted, words_of
from pyspaces.settings.life import life_from, outputs_from
from pyspaces.settings.shape import ORDERED, TOGGLE, VALUE
from pyspaces.settings.table import BY_NAME

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from typing import Any

    from pyspaces.errors import SpaceError
    from pyspaces.features.life import Life
    from pyspaces.mounts.operations import Operation

# Operations that are for a sandbox.
_SANDBOXES = frozenset(("host-ro", "throwaway", "read-only"))


def plan_from(mapping: Mapping[str, Any]) -> Plan:
    """Build the plan that `mapping` asks for.

    mapping: `command` (a list of words) and names of SETTINGS, each with a value of its kind; an
    absent or None value is a setting not used. Those of the kind ORDERED stand in the list
    `mounts`, as lists of words (["ro-bind", "/usr", "/usr"]) or as operations.

    Raises UsageFault with every fault at once, and SpaceError where this host lacks what the
    settings name.
    """
    if not hasattr(mapping, "items"):
        raise UsageFault([f"settings: takes a mapping of names to values, and is {told(mapping)}"])
    reading = _Reading({name: value for name, value in mapping.items() if _is_used(name, value)})
    if reading.faults and reading.has_misfits:
        raise UsageFault(reading.faults)
    plan = reading.plan()
    if reading.lacking and not reading.faults:
        raise reading.lacking
    faults = [*reading.faults, *(fault for fault in plan.faults() if fault not in reading.faults)]
    if faults:
        raise UsageFault(faults)
    return plan


def _is_used(name: str, value: object) -> bool:
    """Tell whether a value says anything: the id 0 does, and so does the no of a TOGGLE."""
    kind = BY_NAME[name].kind if name in BY_NAME else VALUE
    if value is False:
        return kind == TOGGLE
    # An operation without words is counted by the command line.
    if kind == ORDERED and not value:
        return False
    return value is not None and not (isinstance(value, list | tuple) and not value)


def _fitted(given: Mapping[str, Any], faults: list[str]) -> Iterator[tuple[str, Any]]:
    """Yield the values of settings that are of the right type; tell of the others."""
    for name, value in given.items():
        try:
            if name == "command":
                yield name, words_of(value)
            elif name == "mounts":
                if not isinstance(value, list | tuple):
                    raise Misfit(f"takes a list of operations, and is {told(value)}")
                yield name, value
            elif name in BY_NAME and BY_NAME[name].kind != ORDERED:
                yield name, fitted(BY_NAME[name], value)
        except Misfit as fault:
            faults.append(f"{name.replace('_', '-')}: {fault}")


class _Reading:
    """One walk over a mapping, collecting faults instead of stopping at the first."""

    def __init__(self, given: Mapping[str, Any]) -> None:
        self.lacking: SpaceError | None = None
        misfits: list[str] = []
        self.values: Mapping[str, Any] = dict(_fitted(given, misfits))
        values = given
        self.has_misfits = bool(misfits)
        self.faults = misfits + [
            f"{name}: unknown setting"
            for name in values
            if name not in BY_NAME and name not in ("command", "mounts")
        ]
        self.faults += [
            f"{name}: its place is in the list `mounts`, whose order counts"
            for name in values
            if name in BY_NAME and BY_NAME[name].kind == ORDERED
        ]

    def plan(self) -> Plan:
        names = self._namespaces()
        if "loopback" in self.values and "net" not in names:
            self.faults.append("loopback: needs a new net namespace: add --net")
        uid_map, gid_map = self._maps() if "user" in names else ((), ())
        proc = self.values.get("mount_proc", "pid" in names and "mount" in names)
        empty_root, mounts = self._mounts(names, proc=proc)
        groups, keep_groups = self._groups(names)
        hold = bool(self.values.get("hold"))
        uid, dropped = self._id("setuid", "uid_map", names), self._capabilities("cap_drop")
        return Plan(
            command=joining.command_from(self._command(), hold=hold, faults=self.faults),
            namespaces=names,
            uid_map=uid_map,
            gid_map=gid_map,
            setgroups=self._text("setgroups"),
            uid=uid,
            gid=self._id("setgid", "gid_map", names),
            groups=groups,
            keep_groups=keep_groups,
            keep_caps=bool(self.values.get("keep_caps")),
            cap_drop=dropped,
            cap_add=self._capabilities("cap_add"),
            no_new_privs=self._no_new_privs(uid, dropped),
            no_nested_users=bool(self.values.get("no_nested_users")),
            hostname=self._text("hostname"),
            domainname=self._text("domainname"),
            boottime=self._offset("boottime"),
            monotonic=self._offset("monotonic"),
            propagation=self.values.get("propagation", propagation.PRIVATE),
            root=self._text("root"),
            empty_root=empty_root,
            mounts=mounts,
            mount_proc=proc and not mounts,
            guard_proc="mount" in names and self._guards_proc(dropped, empty_root=empty_root),
            loopback=self.values.get("loopback", True),
            workdir=self._text("workdir"),
            environment=self._environment(),
            life=self._life(hold=hold),
            outputs=outputs_from(self.values, self.faults),
            name=self._text("name"),
            hold=hold,
            joining=joining.joining_from(self._texts("join"), self.faults),
            keeps=joining.keeps_from(self._texts("keep"), self.faults),
        )

    def _life(self, *, hold: bool) -> Life:
        life = life_from(self.values, self.faults)
        if not hold:
            return life
        if self.values.get("kill_child") is not None:
            self.faults.append(
                "kill-child: cannot be combined with --hold: the launcher does not stay"
            )
        return life.replace(kill_child=None)

    def _command(self) -> list[str]:
        return list(self.values.get("command", ()))

    def _text(self, name: str) -> str | None:
        value = self.values.get(name)
        return None if value is None else str(value)

    def _texts(self, name: str) -> list[str]:
        """Return a repeatable value as texts; a list of words is cut at its commas."""
        texts = self.values.get(name, ())
        if BY_NAME[name].listed:
            return [word.strip() for text in texts for word in str(text).split(",")]
        return [str(text) for text in texts]

    def _reasons(self) -> dict[str, str]:
        """Return the namespaces that are asked for, and by what."""
        reasons: dict[str, str] = {}
        for name, value in self.values.items():
            if name in BY_NAME and value is not False:
                for namespace in BY_NAME[name].implies:
                    reasons.setdefault(namespace, BY_NAME[name].option)
        for namespace in joining.namespaces_from(self._texts("keep")):
            reasons.setdefault(namespace, "--keep")
        if self.values.get("mounts"):
            reasons.setdefault("mount", "an operation on mounts")
        return reasons

    def _namespaces(self) -> tuple[str, ...]:
        reasons = self._reasons()
        wanted = set(reasons)
        joined = set(joining.namespaces_from(self._texts("join")))
        shared = self._texts("share")
        self.faults.extend(
            f"join: {name}: {reasons[name]} asks for a new one" for name in joined & wanted
        )
        if self.values.get("all"):
            wanted.update(set(namespaces.supported()).difference(shared, joined))
        elif shared:
            self.faults.append("share: requires --all")
        for name in shared:
            if name not in namespaces.NAMES:
                self.faults.append(
                    f"share: {name!r} is not a namespace: choose from {', '.join(namespaces.NAMES)}"
                )
            elif name in reasons:
                self.faults.append(f"share: {name}: {reasons[name]} asks for a new one")
        return tuple(name for name in namespaces.NAMES if name in wanted)

    def _maps(self) -> tuple[tuple[idmap.Extent, ...], tuple[idmap.Extent, ...]]:
        flags = (idmap.ROOT, idmap.CURRENT, idmap.AUTO)
        words = [word for word in flags if self.values.get(f"map_{word}")]
        uids = [*words, *self._map_items("map_uid")]
        gids = [*words, *self._map_items("map_gid")]
        if not gids:
            gids = [item for item in uids if isinstance(item, str)]
        return (
            self._extents("uid", uids or [idmap.ROOT], os.geteuid()),
            self._extents("gid", gids or [idmap.ROOT], os.getegid()),
        )

    def _map_items(self, name: str) -> list[idmap.Extent | str]:
        value = self.values.get(name)
        # A list of texts one by one, as options give them: each can have a fault of its own.
        of_texts = isinstance(value, list | tuple) and all(isinstance(one, str) for one in value)
        items: list[idmap.Extent | str] = []
        for given in value if of_texts and value else [value]:
            try:
                items.extend(idmap.entries([given] if of_texts else given))
            except MapFault as fault:
                self.faults.append(f"{BY_NAME[name].option[2:]}: {fault}")
        return items

    def _extents(
        self, kind: str, items: Iterable[idmap.Extent | str], caller: int
    ) -> tuple[idmap.Extent, ...]:
        items = list(items)
        own = procfs.id_map(f"{kind}_map") if idmap.ALL in items else []
        subordinate = idmap.AUTO in items or idmap.SUBIDS in items
        try:
            ranges = self._ranges(kind) if subordinate else []
            return idmap.build(items, caller=caller, own=own, ranges=ranges)
        except MapFault as fault:
            self.faults.append(f"map-{kind}: {fault}")
            return ()

    def _ranges(self, kind: str) -> list[tuple[int, int]]:
        from pyspaces.features.ids import accounts

        user = accounts.caller()
        ranges = accounts.subordinate_ranges(kind, user)
        if not ranges:
            self.lacking = self.lacking or accounts.no_ranges(kind, user)
        return ranges

    def _capabilities(self, name: str) -> tuple[str, ...]:
        names = tuple(capabilities.canonical(text) for text in self._texts(name))
        option = name.replace("_", "-")
        for unknown in capabilities.unknown_here(names):
            self.faults.append(f"{option}: {unknown}: this kernel does not have it")
        return names

    def _no_new_privs(self, uid: int | None, dropped: tuple[str, ...]) -> bool:
        """Tell whether exec gives the command nothing more: if asked, or where it gives up much."""
        asked, allowed = (
            bool(self.values.get(name)) for name in ("no_new_privs", "allow_new_privs")
        )
        if asked and allowed:
            self.faults.append("allow-new-privs: cannot be combined with no-new-privs")
        return asked or (not allowed and (bool(uid) or capabilities.ALL in dropped))

    def _groups(self, names: Iterable[str]) -> tuple[tuple[int, ...] | None, bool]:
        """Return the groups, or None; and whether the caller's are kept."""
        texts = self._texts("groups")
        if "groups" not in self.values or texts == ["keep"]:
            return None, bool(texts)
        if texts == ["none"]:
            return (), False
        for word in ("none", "keep"):
            if word in texts:
                self.faults.append(f"groups: {word} cannot be combined with other groups")
                return None, False
        found = [self._known_id("groups", text, "gid_map", names) for text in texts]
        return tuple(number for number in found if number is not None), False

    def _id(self, name: str, kind: str, names: Iterable[str]) -> int | None:
        text = self._text(name)
        return None if text is None else self._known_id(name, text, kind, names)

    def _known_id(self, name: str, text: str, kind: str, names: Iterable[str]) -> int | None:
        """Look a user or group up; in the caller's own user namespace it has to exist there."""
        from pyspaces.features.ids import accounts

        try:
            number = accounts.user_id(text) if kind == "uid_map" else accounts.group_id(text)
        except accounts.NoSuchName as fault:
            self.faults.append(f"{name}: {fault}")
            return None
        joined = joining.namespaces_from(self._texts("join"))
        if "user" not in (*names, *joined) and number <= idmap.LARGEST_ID:
            rows = procfs.id_map(kind)
            if not any(first <= number < first + count for first, _, count in rows):
                self.faults.append(f"{name}: {number}: does not exist in this user namespace")
        return number

    def _mounts(self, names: tuple[str, ...], *, proc: bool) -> tuple[bool, tuple[Operation, ...]]:
        """Return whether the root is an empty one, and the operations on it."""
        items = self.values.get("mounts", ())
        empty_root = bool(self.values.get("empty_root"))
        if not items and not empty_root:
            return False, ()
        from pyspaces.mounts import words

        user = "user" in names
        joined = joining.namespaces_from(self._texts("join"))
        operations = words.operations_from(
            items,
            self.faults,
            proc=proc,
            user=user,
            shared_pids="pid" not in (*names, *joined),
        )
        empty_root = empty_root or words.needs_empty_root(items, user=user)
        return empty_root, words.with_what_follows(operations, empty_root=empty_root, proc=proc)

    def _guards_proc(self, dropped: tuple[str, ...], *, empty_root: bool) -> bool:
        """Tell whether this is a sandbox, in which the host's settings are out of reach."""
        from_sets = {
            item[0].replace("_", "-")
            for item in self.values.get("mounts", ())
            if isinstance(item, list | tuple) and item and isinstance(item[0], str)
        }
        sandbox = (
            capabilities.ALL in dropped
            or empty_root
            or "root" in self.values
            or from_sets.intersection(_SANDBOXES)
        )
        return bool(sandbox) and not self.values.get("proc_open")

    def _offset(self, name: str) -> clocks.Offset | None:
        text = self._text(name)
        try:
            return None if text is None else clocks.parse(text)
        except ValueError as error:
            self.faults.append(f"{name}: {error}")
            return None

    def _environment(self) -> Environment:
        keep = tuple(self._texts("keep_env"))
        return Environment(
            clear=bool(keep or self.values.get("clearenv")),
            keep=keep,
            unset=tuple(self._texts("unsetenv")),
            set=tuple((str(name), str(value)) for name, value in self.values.get("setenv", ())),
        )
