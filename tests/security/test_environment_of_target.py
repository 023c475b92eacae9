"""The environment of a target does not decide what a program of the host loads."""

from __future__ import annotations

import os
import subprocess
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyspaces.features import environment
from pyspaces.features.existing.values import Join, Joining

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import Run

HARMLESS = {"PATH": os.environ["PATH"], "HOME": "/x", "LANG": "C", "LDFLAGS": "-g", "A_LD_X": "1"}
_NAMES = (
    *("LD_LIBRARY_PATH", "LD_AUDIT", "LD_PRELOAD", "LD_DEBUG_OUTPUT", "GCONV_PATH", "TMPDIR"),
    *("GLIBC_TUNABLES", "LOCPATH", "NLSPATH", "MALLOC_TRACE", "TZDIR", "BASH_ENV", "ENV", "PS4"),
    *("SHELLOPTS", "IFS", "PYTHONPATH", "PYTHONSTARTUP", "PERL5OPT", "RUBYOPT", "NODE_OPTIONS"),
    "BASH_FUNC_ls%%",
)
STEERING = dict.fromkeys(_NAMES, "/nonexistent/none") | {"ls": "() { echo; }"}


@contextmanager
def target(*words: str) -> Iterator[int]:
    """Give a process whose environment has all of these; it is told by its end of set-up."""
    script = (
        "import os, sys\n"
        'os.execve("/bin/cat", ["cat"], dict(a.split("=", 1) for a in sys.argv[1:]))'
    )
    variables = [f"{name}={value}" for name, value in (HARMLESS | STEERING).items()]
    with subprocess.Popen(
        ["unshare", *words, "python3", "-c", script, *variables],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            # It has its name before the kernel has its environment where /proc finds it.
            assert process.stdin
            assert process.stdout
            process.stdin.write(b"\n")
            process.stdin.flush()
            assert process.stdout.readline() == b"\n"
            yield process.pid
        finally:
            process.kill()


def entered(run: Run, *words: str) -> dict[str, str]:
    done = run("enter", *words, "--", "/usr/bin/env", "-0")
    assert done.returncode == 0, done.stderr
    variables = dict(pair.split("=", 1) for pair in done.stdout.rstrip("\0").split("\0"))
    variables.pop("PWD")  # it names where the program is, and is nobody's
    return variables


@pytest.mark.needs("userns")
def test_a_program_of_the_host_gets_the_harmless_ones(pyspaces: Run) -> None:
    with target("-Ur") as pid:
        assert entered(pyspaces, str(pid), "--env-of-target") == HARMLESS
        done = pyspaces("enter", str(pid), "--env-of-target", "--verbose", "--", "/bin/true")
        told = next(line for line in done.stderr.splitlines() if "leave out" in line)
        assert told.partition(": leave out of the environment: ")[2].split(", ") == sorted(STEERING)


@pytest.mark.needs("userns")
def test_a_program_of_the_target_gets_all(pyspaces: Run) -> None:
    with target("-Urm") as pid:
        assert entered(pyspaces, str(pid), "--env-of-target") == HARMLESS | STEERING
        assert entered(pyspaces, str(pid), "-U", "-m", "--env-of-target") == HARMLESS | STEERING


@pytest.mark.needs("userns")
@pytest.mark.parametrize("words", [["-U"], ["-n"], ["-U", "--mount-file", "/proc/self/ns/mnt"]])
def test_without_the_mount_namespace_it_is_refused(pyspaces: Run, words: list[str]) -> None:
    with target("-Urm") as pid:
        done = pyspaces(
            "enter", str(pid), *words, "--env-of-target", "--", "touch", "/nonexistent/x"
        )
        assert done.returncode == 2
        told = "env-of-target: requires the target's mount namespace: "
        assert told in done.stderr


def test_also_as_a_plan() -> None:
    one = Joining(joins=(Join(namespace="net", pid=4),), target=4, environment=True)
    assert [fault.partition(":")[0] for fault in one.faults()] == ["env-of-target"]
    assert list(one.replace(environment=False).faults()) == []
    other = one.replace(joins=(Join(namespace="mount", pid=5),))
    assert len(list(other.faults())) == 1


@given(st.dictionaries(st.binary(min_size=1), st.binary()))
def test_nothing_is_lost_but_what_is_named(variables: dict[bytes, bytes]) -> None:
    kept, dropped = environment.without_steering(variables)
    assert kept.keys() | set(map(os.fsencode, dropped)) == variables.keys()
    assert all(variables[name] == value for name, value in kept.items())
    assert not [name for name in kept if name.startswith((b"LD_", b"PYTHON"))]
