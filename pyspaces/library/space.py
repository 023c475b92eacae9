"""Make a plan from the keywords of Container; refuse those that a function cannot have.

Runs in the parent. `keywords.py` has the same names with their types, for type checkers.
"""

from __future__ import annotations

import os

from pyspaces import settings
from pyspaces.errors import SpaceError, UsageFault
from pyspaces.kernel import namespaces
from pyspaces.recent import Recent
from pyspaces.record import told
from pyspaces.settings import BY_NAME, FLAG, OPERATION, OPTIONAL, ORDERED, reading

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence
    from typing import Any

    from pyspaces.plan import Plan

# Settings whose keyword has another name: that of the first version; and `name` is the name of the
# process, which several processes may share.
RENAMED = {"map_uid": "uid_map", "map_gid": "gid_map", "name": "registered"}
# Operations without words, which are keywords: they come before those of `mounts`.
SETS = ("host_ro", "throwaway", "read_only")
# The names of the first version.
ALIASES = {
    "map_zero": "map_root",
    "newuser": "user",
    "newpid": "pid",
    "newnet": "net",
    "newns": "mount",
    "newuts": "uts",
    "newipc": "ipc",
}
_NO_CLOCK = "no timer runs in the parent: use join(timeout) and terminate()"
_INTERPRETER = "most of what a function calls is the interpreter's: learn from a command"
_TOLD = "the process object has it: pid, exitcode and result()"
# The settings that a function cannot have, and why.
REFUSED = {
    **{
        row.name: f"is an operation: use mounts=[[{row.name.replace('_', '-')!r}, ...]]"
        for row in settings.SETTINGS
        if row.kind == ORDERED and row.name not in SETS
    },
    "bundle": "has a command of its own: make a plan by plan_from, and give it to run() as plan",
    "hold": "a Container runs a function; one that sleeps holds the namespaces",
    "no_fork": "a Container is always a new process",
    "no_kill_child": "without kill_child, a Container outlives its parent anyway",
    "die_with_parent": "with kill_child, it dies with the thread that has started it",
    "argv0": "a function has no words: nothing is executed",
    **dict.fromkeys(
        ("info_fd", "block_fd", "userns_block_fd"),
        "the program that starts it can do this itself: launch.start(hold=...)",
    ),
    **dict.fromkeys(("sync_fd", "lock_file"), "the program that starts it can hold this itself"),
    "json_status_fd": _TOLD,
    "keep_fd": "requires close_fds, which a function cannot have",
    "close_fds": "a function has the descriptors of its interpreter",
    "timeout": _NO_CLOCK,
    "kill_after": _NO_CLOCK,
    "pty": "the parent does not relay a terminal while the function runs",
    "seccomp_learn": _INTERPRETER,
    "status_fd": _TOLD,
    "status_file": _TOLD,
    "pid_file": _TOLD,
    "report": _TOLD,
    "listen": "a function has the sockets that its caller has made: nothing is executed",
    "map_uid": "is called uid_map here",
    "map_gid": "is called gid_map here",
}
# Other reasons, for a command that a program starts.
REFUSED_FOR_COMMAND = {
    "pty": "use a pseudo-terminal of the program, as pty.openpty() makes it",
    "bundle": "make a plan by plan_from, and give it as plan",
    "hold": "there is always a command: `sleep infinity` holds the namespaces",
    "no_fork": "the command is always a new process",
    "no_kill_child": "it is so anyway: without kill_child a command outlives its parent",
    "argv0": "use executable, and this name as the first word",
    "timeout": "use the time limits of run(), wait() and communicate()",
    "kill_after": "use the time limits of run(), wait() and communicate()",
    **dict.fromkeys(
        ("status_fd", "status_file", "pid_file", "report", "json_status_fd"),
        "use pid, status and usage",
    ),
    "listen": "bind a socket in the program, and give it to the command by pass_fds",
    "keep_fd": "use pass_fds",
    "die_with_parent": "use kill_child: the command dies with the thread that has started it",
    **dict.fromkeys(
        ("info_fd", "block_fd", "userns_block_fd"),
        "the program can do this itself: launch.start(hold=...)",
    ),
    **dict.fromkeys(("sync_fd", "lock_file"), "the program can hold this itself"),
}
# What only a command can have.
FOR_COMMAND = ("seccomp_learn", "close_fds")
# Every keyword, and its setting.
TAKEN = {
    **{RENAMED.get(name, name): name for name in BY_NAME if name not in REFUSED or name in RENAMED},
    **ALIASES,
    "mounts": "mounts",
    "flags": "flags",
}

_NAMES = frozenset(namespaces.NAMES)
# The settings for a single process, which a context cannot have.
SINGLE = {
    "registered": "is the name of one process, and a context starts many",
    "overlay_diff": "is written for one process, and a context starts many",
}


def plan_of(
    words: Sequence[str],
    space: Mapping[str, Any],
    *,
    what: str,
    without: Mapping[str, str] = {},
) -> Plan:
    """Return the plan of a function or a command.

    words: the command, or a label in its place. space: the keywords. what: the callable,
    for the message. without: further settings that a profile cannot have there, and why. Raises
    UsageFault, and TypeError for unknown keywords.
    """
    made_of = _made_of(what, space)
    known: Plan | None = _plans.find(made_of) if made_of else None
    if known is not None:
        return known.with_command(words)
    plan = _new_plan(words, space, what=what, without=without)
    if made_of:
        _plans.keep(made_of, plan, sum(map(len, plan.command)))
    return plan


# Plans of nothing but namespaces and ids, by what they were made of.
_plans = Recent()


def _made_of(what: str, space: Mapping[str, Any]) -> tuple[object, ...] | None:
    """Return all that the plan depends on besides its command; None if that cannot be told.

    Other settings than namespaces may depend on files. A plan costs a quarter of a launch, and
    programs launch the same way again and again.
    """
    if not _NAMES.issuperset(space) or not {bool}.issuperset(map(type, space.values())):
        return None
    return (what, *space.items(), os.geteuid(), os.getegid())


def _new_plan(
    words: Sequence[str], space: Mapping[str, Any], *, what: str, without: Mapping[str, str]
) -> Plan:
    refused = REFUSED | {"get_context()": SINGLE, "Popen()": REFUSED_FOR_COMMAND}.get(what, {})
    own = FOR_COMMAND if what == "Popen()" else ()
    faults = [f"{name}: {refused[name]}" for name in space if name in refused and name not in own]
    if faults:
        raise UsageFault(faults)
    check_names(what, [name for name in space if name not in own], TAKEN)
    mapping = _mapping_of(space, faults)
    if faults:
        raise UsageFault(faults)
    if mapping.get("profile"):
        unfit = {name: why for name, why in {**refused, **without}.items() if name not in own}
        mapping = _with_profiles(mapping, unfit)
    # The thread that starts it may end long before it does.
    change = outliving if mapping.get("kill_child") is None else None
    try:
        return reading.planned({**mapping, "command": words}, change)
    except UsageFault as fault:
        raise UsageFault([in_python(text) for text in fault.faults], hint=fault.hint) from None


def outliving(plan: Plan) -> Plan:
    """Return a plan whose command does not die with the thread that has started it."""
    return plan.replace(life=plan.life.replace(kill_child=None))


def check_names(what: str, given: Iterable[str], known: Collection[str]) -> None:
    """Raise TypeError, worded as Python's own, for a keyword that the callable does not have."""
    for name in given:
        if name not in known:
            from pyspaces.settings import nearest  # what only this error needs

            near = nearest.words(name[:80], known, most=1)
            meant = f". Did you mean {near[0]!r}?" if near else ""
            raise TypeError(f"{what} got an unexpected keyword argument {name!r}{meant}")


def _with_profiles(mapping: Mapping[str, Any], refused: Mapping[str, str]) -> dict[str, Any]:
    """Return the settings with those of their profiles. Raises UsageFault if one is refused."""
    from pyspaces.settings import beneath  # tomllib, 10 ms

    found = beneath.expanded(mapping, reading.warn)
    keywords = {RENAMED.get(name, name) for name in found if not mapping.get(name)}
    if faults := [f"profile: {name}: {refused[name]}" for name in refused if name in keywords]:
        raise UsageFault(faults)
    return found


def _mapping_of(space: Mapping[str, Any], faults: list[str]) -> dict[str, Any]:
    """Return the settings for the keywords, and add what is wrong with them to `faults`."""
    mapping: dict[str, Any] = {}
    for name, value in space.items():
        if not _is_fitting(name, value):
            faults.append(f"{name}: takes True or False, and is {told(value)}")
        elif (setting := TAKEN.get(name, name)) in BY_NAME and name not in SETS:
            # Of two names for a setting, one may be False.
            mapping[setting] = mapping.get(setting) or value
    # What a profile has, False takes away.
    mapping |= {name: False for name in SETS if space.get(name) is False}
    mounts = space.get("mounts", ())
    if isinstance(mounts, list | tuple):
        mapping["mounts"] = [*([name] for name in SETS if space.get(name)), *mounts]
    else:
        faults.append(f"mounts: takes a list of operations, and is {told(mounts)}")
    for name in _of_flags(space.get("flags", 0), faults):
        mapping[name] = mapping.get(name) or True
    return mapping


def _is_fitting(name: str, value: object) -> bool:
    """Return False for a flag whose value is not a bool."""
    row = BY_NAME.get(TAKEN.get(name, name))
    is_flag = name in SETS or name in ALIASES or (row is not None and row.kind in (FLAG, OPERATION))
    return not is_flag or value is None or isinstance(value, bool)


def _of_flags(flags: object, faults: list[str]) -> list[str]:
    """Return the namespaces of CLONE_NEW* bits. Raises ValueError for other bits."""
    if not isinstance(flags, int) or isinstance(flags, bool):
        faults.append(f"flags: takes CLONE_NEW* bits, and is {told(flags)}")
        return []
    if rest := flags & ~namespaces.flags_of(namespaces.NAMES):
        shown = hex(rest) if 0 < rest < 1 << 64 else told(rest)
        raise ValueError(f"flags: {shown}: only CLONE_NEW* bits can be given")
    return [row.name for row in namespaces.NAMESPACES if flags & row.flag]


def in_python(text: str) -> str:
    """Return a fault or a hint with keywords of Python instead of options."""
    head, colon, rest = text.partition(": ")
    name = head.replace("-", "_")
    if colon and name in BY_NAME:
        return f"{RENAMED.get(name, name)}: {with_keywords(rest)}"
    return with_keywords(text)


def with_keywords(text: str) -> str:
    """Return a text with keywords of Python instead of options."""
    words = []
    for word in text.split(" "):
        option = word.rstrip(",:;.)")
        name, _, text = option.removeprefix("--").partition("=")
        name = name.replace("-", "_")
        if option.startswith("--") and name in BY_NAME:
            value = "True" if BY_NAME[name].kind in (FLAG, OPTIONAL, OPERATION) else "..."
            value = repr(text) if text else value
            words.append(f"{RENAMED.get(name, name)}={value}{word[len(option) :]}")
        else:
            words.append(word)
    return " ".join(words)


def explained(error: SpaceError) -> SpaceError:
    """Replace the options in the hint of an error by keywords of Python; return the error."""
    before, add, what = (error.hint or "").rpartition(": add --")
    if add:
        error.hint = f"{before}: add {with_keywords('--' + what)}"
    return error
