"""The compiler of seccomp filters: from a plan to the programs that the child installs.

Runs in the parent; off the launch path. Of several filters, the kernel takes the strictest answer.
So denied calls have a filter of their own, which no profile can undo.
"""

from __future__ import annotations

import errno
import os
import struct

from pyspaces.errors import SpaceError, UsageFault
from pyspaces.features.confinement import profile as profiles
from pyspaces.features.confinement.groups import NEW, members
from pyspaces.features.confinement.profile import Host, Profile, Rule, Unfit
from pyspaces.features.confinement.seccomp import DEFAULT, Filter, action_of
from pyspaces.kernel import bpf, constants
from pyspaces.kernel.libc import KernelError
from pyspaces.kernel.libseccomp import Comparison, Library, Missing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from pyspaces.features.confinement.seccomp import Seccomp

# Programs of which architectures a kernel runs, by the name that uname(2) gives, with those of
# libseccomp. x32 is left out where all that is not named is allowed: some kernels take the numbers
# of x86_64 with its bit set, as other names for the same calls.
_FAMILIES = {
    "x86_64": ("x86_64", "x86"),
    "i686": ("x86", "x86_64"),
    "aarch64": ("aarch64", "arm"),
    "armv7l": ("arm", "aarch64"),
    "s390x": ("s390x", "s390"),
}
_REFUSED = constants.SECCOMP_RET_ERRNO | errno.EPERM
_NOT_THERE = constants.SECCOMP_RET_ERRNO | errno.ENOSYS
_PERMISSIVE = (constants.SECCOMP_RET_ALLOW, constants.SECCOMP_RET_LOG)
# include/uapi/asm-generic/ioctls.h: input that the terminal did not have from its keyboard. The
# kernel looks at 32 bits of the argument, and so does the condition (CVE-2019-10063 of flatpak).
_INJECTING = tuple(
    Comparison(index=1, operator="MASKED_EQ", value=0xFFFFFFFF, other=number)
    for number in (0x5412, 0x541C)
)
# Calls of x86 and s390 that are others as well: socketcall(2), ipc(2).
_MULTIPLEXED = {
    "socketcall": ("socket", "socketpair", "bind", "connect", "listen", "setsockopt"),
    "ipc": ("shmget", "shmat", "shmctl", "semget", "semctl", "semop", "msgget", "msgctl"),
}
# What systemd.exec(5) lets through with every list of what is allowed.
_ALWAYS = ("@default", "execve", "exit", "exit_group", "rt_sigreturn", "sigreturn")
PACKAGES = "libseccomp2 (Debian, Ubuntu), libseccomp (Fedora, Alpine, Arch)"


def compiled(
    part: Seccomp, capabilities: frozenset[str], *, machine: str = ""
) -> tuple[Filter, ...]:
    """Return the filters of a plan, in their order.

    capabilities: those of the command, CAP_*, for the conditions of a profile. machine: that for
    which they are, as uname(2) has it, of the same byte order as this one, which it is if empty.
    Raises UsageFault for an invalid profile, name or descriptor; SpaceError if libseccomp is
    missing.
    """
    found = [Filter(program=_from_descriptor(number)) for number in part.descriptors]
    if part.profile or part.deny or part.allow or part.no_terminal_injection:
        found += _Compiler(part, capabilities, machine).filters()
    for one in found:
        if fault := bpf.fault(one.program):
            raise UsageFault([f"seccomp: the filter {fault}"])
    return tuple(found)


def _from_descriptor(number: int) -> bytes:
    most = constants.BPF_MAXINSNS * bpf.SIZE
    content = b""
    try:
        if number > 2:
            os.set_inheritable(number, False)
        while len(content) <= most and (piece := os.read(number, most + 1)):
            content += piece
    except (OSError, OverflowError) as error:
        why = error.strerror if isinstance(error, OSError) else "is not a descriptor"
        raise UsageFault([f"seccomp-fd: {number}: {why}"]) from None
    if fault := bpf.fault(content):
        raise UsageFault([f"seccomp-fd: {number}: the filter {fault}"])
    return content


class _Compiler:
    def __init__(self, part: Seccomp, capabilities: frozenset[str], target: str) -> None:
        try:
            self._library = Library(target=target)
        except Missing as error:
            raise SpaceError(
                f"cannot compile the seccomp filter: {error}",
                hint=f"install libseccomp: the package is {PACKAGES}",
            ) from None
        self._part = part
        machine = target or os.uname().machine
        family = _FAMILIES.get(machine, (machine,))
        numbers = {self._library.architecture(name): name for name in family}
        numbers.pop(0, None)
        native = self._library.native()
        release = os.uname().release.split(".")
        self._host = Host(
            architecture=numbers.get(native, machine),
            kernel=(int(release[0]), int("".join(filter(str.isdigit, release[1])) or 0)),
            capabilities=capabilities,
        )
        self._family = [number for number in numbers if number != native]

    def filters(self) -> Iterator[Filter]:
        part = self._part
        if part.profile or part.allow:
            profile = self._profile() if part.profile else _only(_expanded(_ALWAYS))
            named = "seccomp" if part.profile else "seccomp-allow"
            yield self._filter(self._with_allowed(profile), named)
            if rules := list(_blind(profile)):
                yield self._filter(_allowing(rules), named)
        if part.deny:
            yield from self._denied()
        if part.no_terminal_injection or part.profile == DEFAULT:
            rules = [Rule(names=("ioctl",), action=_REFUSED, conditions=(c,)) for c in _INJECTING]
            yield self._filter(_allowing(rules), "no-terminal-injection")

    def _profile(self) -> Profile:
        name = self._part.profile or ""
        try:
            if name == DEFAULT:
                from pyspaces.features.confinement._default import PROFILE

                return profiles.profile_of(PROFILE, self._host)
            return _with_clone3(profiles.parse(profiles.read(name), self._host))
        except Unfit as fault:
            raise UsageFault([f"seccomp: {name}: {fault}"]) from None

    def _with_allowed(self, profile: Profile) -> Profile:
        names = set(_expanded(self._part.allow))
        self._check_names(self._part.allow, "seccomp-allow")
        if not names:
            return profile
        kept = [
            rule.replace(names=tuple(name for name in rule.names if name not in names))
            for rule in profile.rules
        ]
        allowed = Rule(names=tuple(sorted(names)), action=constants.SECCOMP_RET_ALLOW)
        return profile.replace(rules=(*(rule for rule in kept if rule.names), allowed))

    def _denied(self) -> Iterator[Filter]:
        """Yield the filters of denied calls: by name, and by number if libseccomp is too old."""
        self._check_names([word.partition(":")[0] for word in self._part.deny], "seccomp-deny")
        answers: dict[str, int] = {}
        for word in self._part.deny:
            name, _, action = word.partition(":")
            answer = action_of(action) if action else _REFUSED
            answers.update(dict.fromkeys(_expanded((name,)), answer))
        if "clone" in answers:
            # Else there would be a way round; and the C library falls back for this errno alone.
            answers.setdefault("clone3", _NOT_THERE)
        for name in _expanded(self._part.allow):
            answers.pop(name, None)
        rules = [Rule(names=(name,), action=answer) for name, answer in answers.items()]
        if rules:
            yield self._filter(_allowing(rules), "seccomp-deny")
        newer = {NEW[n]: answers[n] for n in answers if n in NEW and self._lacks(n)}
        if newer:
            yield Filter(program=bpf.by_number(newer))

    def _lacks(self, name: str) -> bool:
        return self._library.number(name) is None

    def _check_names(self, words: Iterable[str], option: str) -> None:
        """Raise UsageFault for an unknown name, unless it comes from a group."""
        for name in words:
            if name.startswith("@") or not self._lacks(name):
                continue
            if name not in NEW:
                raise UsageFault([f"{option}: {name}: unknown system call"])
            if option == "seccomp-allow":
                version = self._library.version()
                raise UsageFault([f"{option}: {name}: libseccomp {version} does not know it"])

    def _filter(self, profile: Profile, named: str) -> Filter:
        permissive = profile.default in _PERMISSIVE
        others = self._family
        if not permissive:
            numbers = map(self._library.architecture, profile.architectures)
            others = [number for number in numbers if number and self._may_run(number)]
        foreign = _NOT_THERE if permissive else constants.SECCOMP_RET_KILL_PROCESS
        try:
            with self._library.filter(profile.default, others, foreign) as made:
                for rule in profile.rules:
                    for name in rule.names:
                        self._add(made, profile, rule, name, named)
                program = made.program()
        except KernelError as error:
            raise UsageFault([f"{named}: {error.call}: {error.strerror}"]) from None
        self._check_exec(program, named)
        return Filter(program=program, flags=profile.flags)

    def _may_run(self, architecture: int) -> bool:
        """Return whether this kernel may run programs of an architecture: same byte order."""
        native = self._library.native()
        x32 = self._library.architecture("x32")
        return architecture in (*self._family, native) or (
            architecture == x32 and self._host.architecture == "x86_64"
        )

    def _add(self, made: object, profile: Profile, rule: Rule, name: str, named: str) -> None:
        number = self._library.number(name)
        if rule.action == profile.default:
            return
        if number is not None:
            made.add(rule.action, number, rule.conditions)  # type: ignore[attr-defined]
        elif (
            profile.default in _PERMISSIVE
            and _rank(rule.action) < _rank(profile.default)
            and (name not in NEW or named == "seccomp")
        ):
            # Left out of what is allowed, it gets what the profile gives to every other call.
            raise UsageFault([f"{named}: {name}: libseccomp does not know it, to refuse it"])

    def _check_exec(self, program: bytes, named: str) -> None:
        """Raise UsageFault if the filter refuses to execute the command at all."""
        number = self._library.number_for("execve")
        assert number is not None
        answer = bpf.answer(program, number, self._library.native())
        if answer is not None and answer & constants.SECCOMP_RET_ACTION_FULL not in _PERMISSIVE:
            raise UsageFault([f"{named}: execve is refused, so that no command could be started"])


def _blind(profile: Profile) -> Iterator[Rule]:
    """Yield rules against the ways by which 32-bit programs get round a profile's conditions.

    Some of their calls have a second form, with the arguments in memory, where no filter can read
    them: libseccomp lets that through, whatever they are. The C library does without it.
    """
    names = {name for rule in profile.rules for name in rule.names}
    conditional = {name for rule in profile.rules if rule.conditions for name in rule.names}
    for call, others in _MULTIPLEXED.items():
        if conditional & set(others) and call not in names:
            yield Rule(names=(call,), action=_NOT_THERE)


def _rank(action: int) -> int:
    """Return the place of an action in the order in which the kernel prefers them: seccomp(2)."""
    kind = action & constants.SECCOMP_RET_ACTION_FULL
    return int(struct.unpack("i", struct.pack("I", kind))[0])


def _expanded(words: Sequence[str]) -> Iterator[str]:
    for word in words:
        if word.startswith("@"):
            yield from members(word)
        else:
            yield word


def _only(names: Iterable[str]) -> Profile:
    """Return the profile that refuses everything but these."""
    rule = Rule(names=tuple(sorted(set(names))), action=constants.SECCOMP_RET_ALLOW)
    return Profile(default=_REFUSED, rules=(rule,))


def _allowing(rules: Sequence[Rule]) -> Profile:
    """Return the profile that allows everything but what the rules name."""
    return Profile(default=constants.SECCOMP_RET_ALLOW, rules=tuple(rules))


def _with_clone3(profile: Profile) -> Profile:
    """Answer clone3 with ENOSYS if the flags of clone are looked at, and nothing says otherwise.

    They are in memory for clone3, where no filter can read them; and with another errno the C
    library does not go back to clone.
    """
    names = {name for rule in profile.rules for name in rule.names}
    looked = any("clone" in rule.names and rule.conditions for rule in profile.rules)
    if not looked or "clone3" in names:
        return profile
    return profile.replace(rules=(*profile.rules, Rule(names=("clone3",), action=_NOT_THERE)))
