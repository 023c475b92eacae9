"""The filters that the package brings are those that libseccomp compiles of our own profile."""

from __future__ import annotations

import errno
import os
import signal
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest
from conftest import outcome

from pyspaces.errors import SpaceError
from pyspaces.features.confinement import seccomp
from pyspaces.features.confinement.compiling import compiled
from pyspaces.features.confinement.seccomp import DEFAULT, READY, Filter, Seccomp, ready
from pyspaces.features.ids import capabilities
from pyspaces.kernel import bpf, constants, libc

SCRIPT = Path(__file__).parents[2] / "scripts" / "write_profile.py"
DEFAULTS = Seccomp(profile=DEFAULT)
# AUDIT_ARCH_* of linux/audit.h: of the machines, and of the 32-bit programs that they may run.
ARCHITECTURES = {
    "x86_64": 0xC000003E,
    "aarch64": 0xC00000B7,
    "riscv64": 0xC00000F3,
    "ppc64le": 0xC0000015,
}
I386, ARM, PPC = 0x40000003, 0x40000028, 0x14
X32 = 0x40000000  # the bit of x32
_ALLOW, _KILL = constants.SECCOMP_RET_ALLOW, constants.SECCOMP_RET_KILL_PROCESS
_EPERM, _ENOSYS = (constants.SECCOMP_RET_ERRNO | number for number in (errno.EPERM, errno.ENOSYS))
# Of include/uapi/asm-generic/unistd.h, which aarch64 and riscv64 have: names for those who read.
GENERIC = {
    _ALLOW: {"openat": 56, "read": 63, "write": 64, "exit_group": 94, "execve": 221, "mmap": 222},
    _EPERM: dict(
        (
            *(("mount", 40), ("pivot_root", 41), ("unshare", 97), ("kexec_load", 104)),
            *(("init_module", 105), ("ptrace", 117), ("reboot", 142), ("add_key", 217)),
            *(("keyctl", 219), ("perf_event_open", 241), ("setns", 268), ("bpf", 280)),
            *(("userfaultfd", 282), ("io_uring_setup", 425), ("open_tree", 428), ("fsopen", 430)),
        )
    ),
    # What a C library does without, and what nobody knows.
    _ENOSYS: {"clone3": 435, "nobody": 599},
}
CLONE, IOCTL = 220, 29
TIOCSTI, TIOCLINUX, TCGETS = 0x5412, 0x541C, 0x5401

ours = pytest.mark.skipif(
    os.uname().machine not in READY or sys.maxsize < 1 << 32,
    reason=f"the filters are for {', '.join(READY)}",
)


def of_library(machine: str = "") -> tuple[Filter, ...]:
    try:
        return compiled(DEFAULTS, frozenset(), machine=machine)
    except SpaceError as error:
        pytest.skip(error.message)


def brought(machine: str) -> tuple[Filter, ...]:
    """Return the filters that the package has for a machine."""
    programs = seccomp._programs(machine)
    return tuple(Filter(program=bytes.fromhex(text)) for text in programs)


def verdict(filters: tuple[Filter, ...], number: int, architecture: int, *arguments: int) -> int:
    """Return the strictest answer, which is the kernel's: as signed numbers, the least one."""
    answers = [bpf.answer(one.program, number, architecture, *arguments) for one in filters]
    assert None not in answers
    signed = {((one or 0) & 0xFFFF0000) - ((one or 0) >> 31 << 32): one or 0 for one in answers}
    return signed[min(signed)]


def allowed(filters: tuple[Filter, ...], architectures: Iterable[int]) -> set[tuple[int, int]]:
    """Return the calls, as architecture and number, that every filter allows without arguments."""
    return {
        (architecture, number)
        for architecture in architectures
        for number in (*range(600), *range(X32, X32 + 600))
        if verdict(filters, number, architecture) == _ALLOW
    }


@ours
def test_they_are_what_the_script_writes() -> None:
    of_library()
    done = outcome([sys.executable, SCRIPT, "--check"])
    assert (done.returncode, done.stderr) == (0, "")


@ours
def test_those_of_this_machine_are_those_that_a_launch_compiles() -> None:
    """Which shows on each type of machine what the script, on one, has made for it."""
    version = outcome([sys.executable, "-c", VERSIONS]).stdout.split()
    if len(set(version)) > 1:
        pytest.skip(f"another libseccomp: {version}")
    assert ready(DEFAULTS) == of_library() == brought(os.uname().machine)


VERSIONS = """
import importlib, os
from pyspaces.kernel.libseccomp import Library
room = "pyspaces.features.confinement"
print(importlib.import_module(f"{room}._ready_{os.uname().machine}").VERSION, Library().version())
"""


@ours
@pytest.mark.parametrize("machine", READY)
def test_they_allow_no_call_that_the_profile_refuses(machine: str) -> None:
    """Also if this libseccomp is another one, and knows more names."""
    architectures = (*ARCHITECTURES.values(), I386, ARM, PPC, 1)
    found = allowed(brought(machine), architectures)
    assert found <= allowed(of_library(machine), architectures)
    assert {architecture for architecture, _ in found} == {ARCHITECTURES[machine]}
    assert 250 < len(found) < 400


@pytest.mark.parametrize("machine", ["aarch64", "riscv64"])
def test_what_they_say_of_calls_by_the_numbers_of_the_kernel(machine: str) -> None:
    filters, architecture = brought(machine), ARCHITECTURES[machine]
    for answer, calls in GENERIC.items():
        said = {name: verdict(filters, number, architecture) for name, number in calls.items()}
        assert said == dict.fromkeys(calls, answer)
    # By their arguments: a new namespace, and input for a terminal. High bits change nothing.
    for flags, answer in ((0x11, _ALLOW), (0x10000000, _ENOSYS), (0x00020011, _ENOSYS)):
        assert verdict(filters, CLONE, architecture, flags) == answer
    for request, answer in ((TCGETS, _ALLOW), (TIOCSTI, _EPERM), (TIOCLINUX, _EPERM)):
        for high in (0, 1 << 32):
            assert verdict(filters, IOCTL, architecture, 0, request | high) == answer
    for other in (ARCHITECTURES["x86_64"], I386, ARM):
        assert verdict(filters, GENERIC[_ALLOW]["read"], other) == _KILL


@pytest.mark.parametrize("machine", READY)
def test_the_kernel_takes_them(machine: str) -> None:
    """It checks them as those of its own machine, and those of another kill whatever follows."""
    for one in brought(machine)[:1]:
        child = os.fork()
        if not child:
            try:
                libc.set_no_new_privs()
                libc.set_seccomp_filter(one.program)
                os._exit(0)
            finally:
                os._exit(1)
        status = os.waitpid(child, 0)[1]
        if machine == os.uname().machine:
            assert os.waitstatus_to_exitcode(status) == 0
        else:
            assert os.waitstatus_to_exitcode(status) == -signal.SIGSYS


@ours
def test_the_capabilities_of_the_command_change_nothing() -> None:
    assert of_library() == compiled(DEFAULTS, frozenset(capabilities.NAMES))


@ours
def test_a_profile_that_is_changed_is_compiled() -> None:
    assert ready(DEFAULTS.replace(no_terminal_injection=True)) == ready(DEFAULTS) != ()
    for part in (
        Seccomp(),
        DEFAULTS.replace(deny=("bpf",)),
        DEFAULTS.replace(allow=("bpf",)),
        DEFAULTS.replace(descriptors=(3,)),
        DEFAULTS.replace(profile="./default"),
    ):
        assert ready(part) == ()


def test_other_machines_compile(monkeypatch: pytest.MonkeyPatch) -> None:
    assert seccomp._programs("another") == ()
    with monkeypatch.context() as small:
        small.setattr(sys, "maxsize", (1 << 31) - 1)
        assert ready(DEFAULTS) == ()
