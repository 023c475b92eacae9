"""A bug of ours is told as one: in the launcher, in the new process, and where both are one."""

from __future__ import annotations

import sys

import pytest
from conftest import outcome

HINT = "hint: this is a bug in pyspaces: please report it, with the output of --debug"
# Breaks the program in one place, and runs its command line.
BROKEN = """
import sys
from pyspaces import cli
from pyspaces.launch.inner import steps
from pyspaces.commands import launching

def crash(*values, **more):
    raise {error}

{place}
sys.exit(cli.main(sys.argv[1:]))
"""
STEP = """
own = steps.RESTORE_SIGNALS
steps.STEPS = tuple(row.replace(act=crash) if row is own else row for row in steps.STEPS)
"""
PLACES = {
    "the launcher": ("launching.plan_of = crash", [], "pyspaces: "),
    "the child": (STEP, [], "pyspaces: cannot restore the signals: "),
    "in place": (STEP, ["--no-fork"], "pyspaces: cannot restore the signals: "),
}
ERRORS = {
    "AssertionError": ("AssertionError", "internal error"),
    "KeyError": ("KeyError(7)", "internal error: 7"),
    "two lines": ("RuntimeError('a\\n  b')", "internal error: a b"),
}

pytestmark = pytest.mark.needs("userns")


def told(place: str, error: str, *words: str) -> str:
    script = BROKEN.format(place=place, error=error)
    done = outcome([sys.executable, "-c", script, "run", *words, "--user", "--", "echo", "it ran"])
    assert (done.returncode, done.stdout) == (125, "")
    return done.stderr


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("where", PLACES)
def test_a_bug_is_told_as_one(where: str, error: str) -> None:
    place, words, start = PLACES[where]
    raised, text = ERRORS[error]
    assert told(place, raised, *words) == f"{start}{text}\n{HINT}\n"


@pytest.mark.parametrize("where", PLACES)
def test_with_debug_it_is_told_where(where: str) -> None:
    place, words, _ = PLACES[where]
    # In the launcher, the option is known before anything else happens.
    stderr = told(place, "KeyError(7)", "--debug", *words)
    assert "in crash" in stderr
    assert "KeyError: 7" in stderr
    assert "Sealed" not in stderr


@pytest.mark.parametrize(
    "error", ["MemoryError", "ImportError('x.so: failed to map segment from shared object')"]
)
def test_too_little_memory_is_no_bug_of_ours(error: str) -> None:
    assert told(PLACES["the launcher"][0], error) == (
        "pyspaces: Cannot allocate memory\n"
        "hint: this process cannot get more memory: see `ulimit -v` and `ulimit -d`\n"
    )
