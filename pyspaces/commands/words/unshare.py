"""unshare(1): its options, and what a command line of it becomes. Written for util-linux 2.43."""

from __future__ import annotations

from pyspaces.commands.words import ids
from pyspaces.commands.words.table import (
    OPTIONAL,
    Line,
    Translation,
    Word,
    none,
    ours,
    same,
    scan,
    special,
)
from pyspaces.errors import UsageFault
from pyspaces.kernel import namespaces

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyspaces.commands.words.table import Caller

NAME = "unshare"
_NAMESPACES = tuple(f"--{name}" for name in namespaces.NAMES)
_BINFMT = "binfmt_misc is not mounted here; `mount -t binfmt_misc` inside does it"
TABLE: dict[str, Word] = {
    **special(" ".join(_NAMESPACES), OPTIONAL),
    **special("--fork --forward-signals"),
    **special("--map-user --map-group --map-users --map-groups", 1),
    **special("--map-root-user --map-current-user --map-auto --map-subids"),
    "--owner": none("the owner of a new user namespace is the caller", 1),
    **special("--kill-child --mount-proc", OPTIONAL),
    **special("--propagation --setgroups", 1),
    **same("--keep-caps"),
    **special("--root", 1),
    "--wd": ours("--workdir {0}", 1),
    **special("--setuid --setgid", 1),
    **same("--monotonic --boottime", 1),
    "--clear-env": ours("--clearenv"),
    "--whitelist-env": ours("--keep-env {0}", 1),
    "--mount-binfmt": none(_BINFMT, OPTIONAL),
    "--load-interp": none(_BINFMT, 1),
}
SHORT = {
    **dict(zip("UmpnuiCT", _NAMESPACES, strict=True)),
    "f": "--fork",
    "r": "--map-root-user",
    "c": "--map-current-user",
    "R": "--root",
    "w": "--wd",
    "S": "--setuid",
    "G": "--setgid",
    "l": "--load-interp",
}
_MAPS = tuple(name for name in TABLE if name[:6] == "--map-")
_DENYING = {"--map-root-user", "--map-current-user", "--map-group"}  # they deny setgroups(2)


def translate(words: Sequence[str], caller: Caller) -> Translation:
    """Translate the words behind `unshare`. Raises UsageFault for what it would refuse."""
    given, command = scan(NAME, words, TABLE, SHORT)
    last = dict(given)  # of most options, the last one counts
    _check(last)
    line = Line(NAME, caller)
    first = [*_namespaces(line, last), *_maps(line, given, last)]
    for option, values in last.items():
        if not TABLE[option].special:
            line.take(option, TABLE[option], values)
    _rest(line, last)
    return line.ended("run", first, command)


def _has_user(given: dict[str, tuple[str, ...]]) -> bool:
    return "--user" in given or bool(set(_MAPS) & given.keys())


def _check(given: dict[str, tuple[str, ...]]) -> None:
    """Refuse what unshare(1) refuses, and we would take as a wish for a namespace."""
    if {"--monotonic", "--boottime"} & given.keys() and "--time" not in given:
        raise UsageFault([f"{NAME}: --monotonic and --boottime require --time"])
    setgroups = given.get("--setgroups")
    if setgroups == ("allow",) and _DENYING & given.keys():
        raise UsageFault([f"{NAME}: --setgroups=allow: cannot be combined with a map of one group"])
    if setgroups and setgroups != ("allow",) and not _has_user(given):
        raise UsageFault([f"{NAME}: --setgroups={setgroups[0]}: requires --user"])


def _namespaces(line: Line, given: dict[str, tuple[str, ...]]) -> list[str]:
    found, kept = [], []
    for option, values in given.items():
        if option in _NAMESPACES and values:
            kept += ["--keep", f"{option[2:]}={values[0]}"]
        elif option in _NAMESPACES and not (option == "--user" and set(_MAPS) & given.keys()):
            found.append(option)
    if "--pid" in given and not {"--fork", "--kill-child", "--forward-signals"} & given.keys():
        line.notes.append("--pid without --fork: here, the command itself is in the namespace")
    if "--net" in given:
        found.append("--no-loopback")
    return found + kept


def _maps(
    line: Line, given: list[tuple[str, tuple[str, ...]]], last: dict[str, tuple[str, ...]]
) -> list[str]:
    """Return the options for id maps."""
    asked = [option for option, _ in given if option in _MAPS]
    if not asked:
        return ["--map-uid", "none"] if "--user" in last else []
    deny = ["--setgroups", "deny"] if _DENYING & set(asked) and line.caller.is_root else []
    deny = [] if "--setgroups" in last else deny
    if set(asked) == {"--map-root-user"}:
        return ["--map-root", *deny]
    if set(asked) == {"--map-current-user"}:
        return ["--map-current", *deny]
    user, group = ids.Map("uid", line.caller.uid), ids.Map("gid", line.caller.gid)
    try:
        for option, values in given:
            if option in _MAPS:
                ids.take(option, values, user, group)
    except ValueError as fault:  # an unknown name
        raise UsageFault([f"{NAME}: {fault}"]) from None
    if set(asked) == {"--map-root-user", "--map-auto"}:
        # As many records as here, but for the range: unshare(1) takes the first one alone.
        return ["--map-auto"]
    try:
        words = [
            *("--map-uid", user.spec(line.caller.subordinate)),
            *("--map-gid", group.spec(line.caller.subordinate)),
        ]
    except ids.NoSubordinate as fault:
        line.lacks("--map-auto", str(fault))
        return []
    except ValueError as fault:
        raise UsageFault([f"{NAME}: {fault}"]) from None
    return [*words, *deny, *_become(line, user, group, last)]


def _become(
    line: Line, user: ids.Map, group: ids.Map, last: dict[str, tuple[str, ...]]
) -> list[str]:
    """Return what lets the caller stay who it is, if another id is taken instead."""
    found = []
    for option, ids_ in (("--setuid", user), ("--setgid", group)):
        becomes = ids_.becomes(line.caller.subordinate)
        if option in last or becomes == ids_.single:
            continue
        if ids_.single is None:
            text = f"the {ids_.kind} of the caller is not mapped: here, it becomes {becomes}"
            line.notes.append(text)
        else:
            found += [option, str(ids_.single)]
    return [*found, "--allow-new-privs"] if "--setuid" in found else found


def _rest(line: Line, given: dict[str, tuple[str, ...]]) -> None:
    if signal := given.get("--kill-child"):
        line.add("--kill-child", signal[0])
    if "--root" in given:
        line.add("--root", given["--root"][0])
        if line.caller.is_root:
            line.add("--proc-open")
        if "--wd" not in given:
            line.add("--workdir", "/")
    _of_namespaces(line, given)
    _proc(line, given)
    for option in ("--setuid", "--setgid"):
        if option in given:
            line.add(option, given[option][0])
    if "--setuid" in given and given["--setuid"][0] != "0":
        line.add("--allow-new-privs")
    if "--setgid" in given and not _has_user(given):
        line.add("--groups", "none")


def _of_namespaces(line: Line, given: dict[str, tuple[str, ...]]) -> None:
    """Add what means nothing there without its namespace, and would create one here."""
    if "--setgroups" in given and _has_user(given):
        line.add("--setgroups", *given["--setgroups"])
    if "--propagation" in given and {"--mount", "--mount-proc"} & given.keys():
        line.add("--propagation", *given["--propagation"])


def _proc(line: Line, given: dict[str, tuple[str, ...]]) -> None:
    """Add what is said of /proc; here, --pid and --mount bring a new one along."""
    path = (*given.get("--mount-proc", ()), "/proc")[0]
    pid = "--pid" in given
    if "--mount-proc" not in given:
        if pid and ("--mount" in given or "--root" in given):
            line.add("--no-mount-proc")
    elif path == "/proc" and pid:
        line.add("--mount-proc")
    else:
        line.add("--proc", path)
        if pid:
            line.add("--no-mount-proc")
