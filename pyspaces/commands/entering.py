"""What `pyspaces enter` makes of the values of its command line: a plan.

Without click: whoever has read the command line, click or `fast`.
"""

from __future__ import annotations

from pyspaces.commands.launching import default_command
from pyspaces.errors import UsageFault
from pyspaces.feature import Given
from pyspaces.features.existing.values import Join, Joining, parse_join
from pyspaces.host import targets
from pyspaces.kernel import namespaces
from pyspaces.settings import _table, reading

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from pyspaces.host.targets import Target
    from pyspaces.plan import Plan

# The options that name a file of one namespace.
FILES = {name: f"{name}_file" for name in namespaces.NAMES}
# The values of our own options where they are not given.
_ABSENT: dict[str, Any] = {
    **dict.fromkeys(("target", "root", *FILES.values())),
    **dict.fromkeys((*namespaces.NAMES, "all"), False),
    **dict.fromkeys(("join_cgroup", "env_of_target", "preserve_credentials"), False),
    "join": (),
}


def taken() -> frozenset[str]:
    """Return the settings that `enter` takes: those of a command, and some of its set-up."""
    from pyspaces.feature import EXISTING, IDENTITY, MOUNTS, NAMESPACES, SETUP
    from pyspaces.settings import SETTINGS

    # Options under these headings describe new namespaces.
    for_new_ones = (NAMESPACES, EXISTING, IDENTITY, SETUP, MOUNTS)
    for_old_ones_too = ("join", "workdir", "setuid", "setgid", "groups", "keep_caps")
    # What is asserted holds, or does not, in those as well.
    asserted = ("assert_userns_disabled",)
    # A pid namespace that is entered has a process 1 already; and --pid-file is the file of a
    # namespace here, like the seven others: the status record has the pid.
    # A sandbox is made of new ones. A network that exists may have ways out, which an allow-list
    # would not close; its files of names are those of all that are in it.
    left = (
        *("init", "init_wait", "as_pid_1", "pid_file", "sandbox"),
        *(
            "allow_host",
            "veth",
            "ip",
            "gateway",
            "allow_host_loopback",
            "dns",
            "add_host",
            "userns_block_fd",
        ),
    )
    return frozenset(
        row.name
        for row in SETTINGS
        if (row.group not in for_new_ones and row.name not in left)
        or row.name in (*for_old_ones_too, *asserted)
    )


def with_target(args: list[str], count: int, values: Mapping[str, object]) -> list[str]:
    """Return `args` with the first word behind the options as --target, where nothing else is one.

    count: the words behind the options. values: what the options in front of them say.
    """
    # An option that was not given is missing or, in newer clicks, a sentinel object.
    kinds = (str, list, tuple)
    given = {name for name, value in values.items() if value and isinstance(value, kinds)}
    before = args[: len(args) - count]
    if not count or before[-1:] == ["--"] or {"target", "join", *FILES.values()} & given:
        return args
    return [*before, "--target", *args[len(before) :]]


def plan_of(command: tuple[str, ...], values: Mapping[str, Any]) -> Plan:
    """Return the plan of a command line. An option that is not in `values` was not given.

    Raises UsageFault, and SpaceError where there is no such target.
    """
    from pyspaces.feature import CONFINING

    values = {**_ABSENT, **values}
    target = targets.find(values["target"]) if values["target"] is not None else None
    joining = _joining(target, values)
    plan = reading.plan_from(
        {
            **{name: values[name] for name in values if name in _table.SETTINGS.keys() - _ABSENT},
            "join": [str(join) for join in joining.joins],
            "command": command or default_command("enter TARGET"),
            # Set-user-ID programs in there belong to the target, whose rules apply; but for one
            # that is confined, as everywhere.
            "allow_new_privs": not any(values.get(name) for name in CONFINING)
            and bool(values.get("setuid")),
        }
    )
    plan = plan.replace(existing=plan.existing.replace(joining=joining))
    plan.check()
    return plan


def _joining(target: Target | None, values: Mapping[str, Any]) -> Joining:
    """Return the namespaces to join. Raises UsageFault if none are given, or one twice."""
    faults: list[str] = []
    named = list(Given(values, faults).each("join", parse_join))
    named.extend(
        Join(namespace=name, path=_as_path(values[option]))
        for name, option in FILES.items()
        if values[option] is not None
    )
    flags = [name for name in namespaces.NAMES if values[name]]
    if target is None and (flags or values["all"]):
        faults.append("no target given for these namespaces")
    if target is None and not named and not faults:
        faults.append("no target given: give a process id, a name or a namespace file")
    if faults:
        raise UsageFault(faults)
    if target is None:
        for option in ("root", "join_cgroup", "env_of_target"):
            if values[option]:
                _require_process(option, target)
        return Joining(joins=tuple(named), keep_ids=values["preserve_credentials"])
    theirs: tuple[Join, ...] = ()
    if flags or values["all"] or not named:
        others = {join.namespace for join in named}
        chosen = target.joins(() if values["all"] else flags)
        theirs = tuple(join for join in chosen if join.namespace not in others or flags)
    entered = any(join.namespace == "mount" and join.pid for join in theirs)
    root = entered if values["root"] is None else values["root"]
    wanted = {"root": root, **{name: values[name] for name in ("join_cgroup", "env_of_target")}}
    for option, used in wanted.items():
        if used:
            _require_process(option, target)
    return target.joining(
        (*theirs, *named),
        root=root,
        cgroup=values["join_cgroup"],
        environment=values["env_of_target"],
        keep_ids=values["preserve_credentials"],
    )


def _require_process(option: str, target: Target | None) -> None:
    """Refuse an option that requires a process as the target."""
    if target is None or not target.pid:
        raise UsageFault([f"{option.replace('_', '-')}: requires a process as the target"])


def _as_path(text: str) -> str:
    """Return a path that cannot be mistaken for a process id."""
    return f"./{text}" if text.isdecimal() else text
