"""The filters that the package brings are those that libseccomp compiles of our own profile."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from conftest import outcome

from pyspaces.errors import SpaceError
from pyspaces.features.confinement import _ready
from pyspaces.features.confinement.compiling import compiled
from pyspaces.features.confinement.seccomp import DEFAULT, Filter, Seccomp, ready
from pyspaces.features.ids import capabilities
from pyspaces.kernel import bpf

SCRIPT = Path(__file__).parents[2] / "scripts" / "write_profile.py"
DEFAULTS = Seccomp(profile=DEFAULT)
# AUDIT_ARCH_X86_64 and AUDIT_ARCH_I386 of linux/audit.h, and the bit of x32.
X86_64, I386, X32 = 0xC000003E, 0x40000003, 0x40000000
_ALLOW = 0x7FFF0000

ours = pytest.mark.skipif(
    os.uname().machine != _ready.MACHINE or sys.maxsize < 1 << 32,
    reason=f"the filters are for {_ready.MACHINE}",
)


def of_library() -> tuple[Filter, ...]:
    try:
        return compiled(DEFAULTS, frozenset())
    except SpaceError as error:
        pytest.skip(error.message)


def allowed(filters: tuple[Filter, ...]) -> set[tuple[int, int]]:
    """Return the calls, as architecture and number, that every filter allows without arguments."""
    calls = [
        (architecture, number + extra)
        for architecture, extra in ((X86_64, 0), (X86_64, X32), (I386, 0), (1, 0))
        for number in range(600)
    ]
    return {
        (architecture, number)
        for architecture, number in calls
        if all(bpf.answer(one.program, number, architecture) == _ALLOW for one in filters)
    }


@ours
def test_they_are_what_the_script_writes() -> None:
    of_library()
    done = outcome([sys.executable, SCRIPT, "--check"])
    assert (done.returncode, done.stderr) == (0, "")


@ours
def test_they_allow_no_call_that_the_profile_refuses() -> None:
    """Also if this libseccomp is another one, and knows more names."""
    found = allowed(ready(DEFAULTS))
    assert found <= allowed(of_library())
    assert {architecture for architecture, _ in found} == {X86_64}
    assert 250 < len(found) < 400


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
    with monkeypatch.context() as another:
        another.setattr(_ready, "MACHINE", "another")
        assert ready(DEFAULTS) == ()
    with monkeypatch.context() as small:
        small.setattr(_ready, "MACHINE", os.uname().machine)
        small.setattr(sys, "maxsize", (1 << 31) - 1)
        assert ready(DEFAULTS) == ()
