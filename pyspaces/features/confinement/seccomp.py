"""Filters of system calls: seccomp(2). They are compiled in the parent.

Pure, but for the step, which the child takes.
"""

from __future__ import annotations

import errno
import os
import sys

from pyspaces.errors import SECCOMP
from pyspaces.feature import (
    CONFINEMENT,
    Feature,
    Part,
    Step,
    descriptor_of,
    flag,
    is_number,
    many,
    value,
)
from pyspaces.kernel import constants, libc
from pyspaces.kernel.libc import path_fault
from pyspaces.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyspaces.feature import Given
    from pyspaces.launch.inner.steps import Context
    from pyspaces.plan import Plan

DEFAULT = "default"
_WORDS = {
    "kill": constants.SECCOMP_RET_KILL_PROCESS,
    "log": constants.SECCOMP_RET_LOG,
}
_MOST_NAMED = 5  # calls, in a message
_LAST_ERRNO = 4095  # MAX_ERRNO of the kernel


class Filter(Record):
    """One program, and the SECCOMP_FILTER_FLAG_* bits with which it is installed."""

    program: bytes
    flags: int = 0


class Seccomp(Part):
    """Which system calls the command may make.

    profile: the file of a profile in OCI's format; `default` is our own. deny: further
    calls and groups to refuse, NAME[:ACTION] each. allow: further calls and groups to allow;
    without a profile, the only ones. descriptors: open descriptors with
    compiled filters. no_terminal_injection: whether the command cannot put input into a terminal.
    learn: the file for a profile of what the command calls; nothing is refused then.
    """

    is_served = True
    is_equipped = True
    needs_fork = True

    profile: str | None = None
    deny: tuple[str, ...] = ()
    allow: tuple[str, ...] = ()
    descriptors: tuple[int, ...] = ()
    no_terminal_injection: bool = False
    learn: str | None = None

    def __bool__(self) -> bool:
        return self is not _NOTHING and self != _NOTHING

    def faults(self, plan: Plan) -> Iterator[str]:
        del plan
        for name, path in (("seccomp", self.profile), ("seccomp-learn", self.learn)):
            if fault := path_fault(path):
                yield f"{name}: {fault}"
        for name, words in (("seccomp-deny", self.deny), ("seccomp-allow", self.allow)):
            for word in words:
                if fault := _word_fault(word, with_action=name == "seccomp-deny"):
                    yield f"{name}: {fault}"
        for number in (number for number in self.descriptors if number < 0):
            yield f"seccomp-fd: {number}: is not a descriptor"
        if len(set(self.descriptors)) < len(self.descriptors):
            yield "seccomp-fd: a descriptor is given twice"

    def deadly(self) -> str:
        """Return what it can have been for which a filter has killed the command, if that is known.

        The kernel tells the number of the call to its audit log alone, which only root can read.
        """
        words = [word.partition(":") for word in self.deny]
        killed = {name for word, _, action in words if action == "kill" for name in _calls(word)}
        names = sorted(killed.difference(*map(_calls, self.allow)))
        # Filters of others may kill for anything; a list of what is allowed, for foreign programs.
        listed = self.profile or self.allow
        if not (listed or self.descriptors) and 0 < len(names) <= _MOST_NAMED:
            return (
                f"the system call {' or '.join(filter(None, (', '.join(names[:-1]), names[-1])))}"
            )
        if not (names or self.descriptors) and self.profile in (None, DEFAULT):
            return "system calls of another architecture, such as those of 32-bit programs"
        return (
            "a system call that it made: --seccomp-learn shows which it makes, and the action `log`"
            " in place of `kill` has the kernel log them"
        )


_NOTHING = Seccomp()
# Machines, as uname(2) has it, for which there are filters that are compiled.
READY = ("x86_64", "aarch64", "riscv64", "ppc64le")
# The profile as it is; with the option that it includes, or without.
_UNCHANGED = (
    Seccomp(profile=DEFAULT),
    Seccomp(profile=DEFAULT, no_terminal_injection=True),
)


def ready(part: Seccomp) -> tuple[Filter, ...]:
    """Return the filters of our own profile, compiled long ago; none if that is not all there is.

    They are for 64-bit programs of some types of machines: those of others are compiled.
    """
    if part not in _UNCHANGED or sys.maxsize < 1 << 32:
        return ()
    return tuple([Filter(program=bytes.fromhex(text)) for text in _programs(os.uname().machine)])


def _programs(machine: str) -> tuple[str, ...]:
    """Return the compiled filters for a machine, as uname(2) has it; none if there are none."""
    if machine == "x86_64":
        from pyspaces.features.confinement._ready_x86_64 import PROGRAMS
    elif machine == "aarch64":
        from pyspaces.features.confinement._ready_aarch64 import PROGRAMS
    elif machine == "riscv64":
        from pyspaces.features.confinement._ready_riscv64 import PROGRAMS
    elif machine == "ppc64le":
        from pyspaces.features.confinement._ready_ppc64le import PROGRAMS
    else:
        return ()
    return PROGRAMS


def _word_fault(word: str, *, with_action: bool) -> str | None:
    """Return what is wrong with NAME[:ACTION], or None. Call names are looked up later."""
    name, colon, action = word.partition(":")
    if colon and not with_action:
        return f"{word[:60]!r}: takes no action"
    if colon:
        try:
            action_of(action)
        except ValueError as error:
            return str(error)
    bare = name.removeprefix("@")
    if not bare.replace("_", "").replace("-", "").isalnum() or not bare.isascii():
        return f"{name[:60]!r} is not the name of a system call or of a group"
    if name.startswith("@"):
        from pyspaces.features.confinement.groups import GROUPS

        if name not in GROUPS:
            return f"{name[:60]}: unknown group: choose from {', '.join(sorted(GROUPS))}"
    return None


def _calls(word: str) -> tuple[str, ...]:
    """Return the calls of a group, or the call itself."""
    if not word.startswith("@"):
        return (word,)
    from pyspaces.features.confinement.groups import members

    return tuple(members(word))


def action_of(text: str) -> int:
    """Return SECCOMP_RET_* for kill, log, or the name or number of an errno. Raises ValueError."""
    if text in _WORDS:
        return _WORDS[text]
    number = getattr(errno, text, 0) if text.isupper() else 0
    if is_number(text, 4):
        number = int(text)
    if not 0 < number <= _LAST_ERRNO:
        raise ValueError(f"{text[:40]!r} is not kill, log, or an errno such as ENOSYS")
    return constants.SECCOMP_RET_ERRNO | number


def _read(given: Given, plan: Plan) -> Seccomp:
    del plan
    return Seccomp(
        profile=given.text("seccomp"),
        deny=tuple(given.words("seccomp_deny")),
        allow=tuple(given.words("seccomp_allow")),
        descriptors=given.each("seccomp_fd", descriptor_of),
        no_terminal_injection=given.flag("no_terminal_injection"),
        learn=given.text("seccomp_learn"),
    )


def _install_inner(context: Context) -> None:
    if context.handover:
        context.handover.install_inner()
    for one in context.filters:
        libc.set_seccomp_filter(one.program, one.flags)


def _text(plan: Plan) -> str:
    part = plan.seccomp
    if part.learn is not None:
        return f"watch all calls, for {part.learn}"
    rows = [f"descriptor {number}" for number in part.descriptors]
    rows += [f"profile {part.profile}"] if part.profile else []
    rows += [f"allow {','.join(part.allow)}"] if part.allow else []
    rows += [f"deny {','.join(part.deny)}"] if part.deny else []
    return ", ".join([*rows, *(["no terminal injection"] if part.no_terminal_injection else [])])


INSTALL = Step(
    title=SECCOMP,
    applies=lambda plan: plan.seccomp,
    act=_install_inner,
    detail=_text,
    for_command=True,
    at_exec=True,
)
_NONE = "unshare(1) has no filters"
FEATURE = Feature(
    name="seccomp",
    part=Seccomp,
    settings=(
        value(
            *("seccomp", CONFINEMENT, "FILE"),
            "filter system calls by a profile in OCI's JSON format; default is our own profile",
            words=(DEFAULT,),
        ),
        many(
            *("seccomp_deny", CONFINEMENT, "NAME[:ACTION],..."),
            "refuse these system calls or groups such as @mount; ACTION is an errno, kill or log",
        ),
        many(
            *("seccomp_allow", CONFINEMENT, "NAME,..."),
            "allow these besides those of the profile; without a profile, refuse all others",
        ),
        many(
            *("seccomp_fd", CONFINEMENT, "FD"),
            "install the compiled filter that the open descriptor FD holds; repeatable",
        ),
        flag(
            *("no_terminal_injection", CONFINEMENT),
            "do not let the command put input into a terminal (TIOCSTI, TIOCLINUX)",
        ),
        value(
            *("seccomp_learn", CONFINEMENT, "FILE"),
            "refuse nothing, and write a profile of what the command calls to FILE",
        ),
    ),
    read=_read,
    options={
        "profile": "seccomp",
        "deny": "seccomp-deny",
        "allow": "seccomp-allow",
        "descriptors": "seccomp-fd",
        "learn": "seccomp-learn",
    },
    quiet=Seccomp._fields,
    no_equivalent=dict.fromkeys(Seccomp._fields, _NONE),
)
