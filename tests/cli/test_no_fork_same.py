"""--no-fork and a launch as ever: the command sees the same, whatever was asked for."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
from conftest import IS_ROOT, PROBE, SCRIPT, outcome
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

pytestmark = pytest.mark.needs("userns", "netns", "timens", "overlay")

ROOTS = (
    (),
    ("--bind", "/", "/"),
    ("--ro-bind", "/", "/"),
    ("--read-only",),
    ("--throwaway",),
    ("--root", "/"),
    ("--empty-root", "--bind", "/", "/"),
)
# Each on its own may be added to any of the above, in any order and number.
PIECES = (
    ("--tmpfs", "/mnt"),
    ("--size", "1M", "--perms", "0711", "--tmpfs", "/srv"),
    ("--ro-bind", "/usr", "/usr"),
    ("--bind", "/usr", "/media"),
    ("--bind-try", "/nonexistent", "/mnt"),
    ("--mask", "/etc/pass*"),
    ("--dev", "/dev"),
    ("--remount-ro", "/"),
    ("--overlay-src", "/usr", "--tmp-overlay", "/mnt"),
    ("--overlay-src", "/usr", "--overlay-src", "/etc", "--ro-overlay", "/mnt"),
    ("--bind-data", "0", "/etc/hostname"),
    ("--proc", "/proc"),
)
# Whether anybody may execute the interpreter that looks: one below /root only root can reach.
OPEN = all(place.stat().st_mode & 1 for place in Path(sys.executable).resolve().parents)
OTHERS = (
    ("--net",),
    ("--net", "--no-loopback"),
    ("--hostname", "box", "--domainname", "dom"),
    ("--ipc", "--mqueue", "/mnt"),
    ("--cgroup",),
    ("--boottime", "1000000000"),
    ("--workdir", "/usr"),
    ("--map-current",),
    ("--map-root",),
    ("--cap-drop", "all"),
    ("--cap-drop", "kill,chown", "--keep-caps"),
    ("--no-new-privs",),
    ("--no-nested-users",),
    ("--setenv", "A", "b"),
    ("--unsetenv", "HOME"),
    ("--clearenv",),
    ("--keep-env", "P*"),
    ("--groups", "keep"),
    *([("--map-uid", "0 1000 1,1 100000 65536", "--setuid", "5")] if IS_ROOT and OPEN else []),
)


def seen(words: list[str], directory: Path) -> tuple[int, str, Any]:
    """Return how a launch ends, what it says, and what its command sees."""
    command = [sys.executable, "-I", "-S", PROBE, "world"]
    done = outcome([SCRIPT, "run", *words, "--", *command], cwd=directory, input="given\n")
    return done.returncode, done.stderr, json.loads(done.stdout) if done.stdout else None


def same(words: list[str], directory: Path) -> tuple[int, str, Any]:
    in_place, launched = seen(["--no-fork", *words], directory), seen(words, directory)
    assert in_place == launched
    return launched


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("here")


def third(pieces: list[tuple[str, ...]]) -> list[object]:
    """Return parameters, of which a plain run has every third: random ones are tried besides."""
    return [
        pytest.param(piece, marks=pytest.mark.stress if place % 3 else ())
        for place, piece in enumerate(pieces)
    ]


@settings(
    max_examples=settings().max_examples // 4,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(
    st.sampled_from(ROOTS),
    st.lists(st.sampled_from(PIECES), max_size=3, unique=True),
    st.lists(st.sampled_from(OTHERS), max_size=4, unique=True),
)
def test_the_command_sees_the_same(
    directory: Path,
    root: tuple[str, ...],
    pieces: list[tuple[str, ...]],
    others: list[tuple[str, ...]],
) -> None:
    words = [word for group in (root, *pieces, *others) for word in group]
    same(["--user", *words], directory)


@pytest.mark.parametrize("words", third([*ROOTS[1:], *PIECES, *OTHERS]), ids=" ".join)
def test_each_on_its_own(directory: Path, words: tuple[str, ...]) -> None:
    code, told, _ = same(["--user", *words], directory)
    assert (code, told) == (0, "")


@pytest.mark.as_root
@pytest.mark.parametrize("words", third([*ROOTS[1:], *PIECES]), ids=" ".join)
def test_without_a_user_namespace(directory: Path, words: tuple[str, ...]) -> None:
    before = Path("/proc/self/mountinfo").read_text()
    code, told, _ = same([*words], directory)
    assert (code, told) == (0, "")
    assert Path("/proc/self/mountinfo").read_text() == before


@pytest.mark.parametrize(
    "words",
    [
        ("--bind", "/nonexistent", "/mnt"),
        ("--tmpfs", "/usr/nonexistent"),
        ("--sysfs", "/mnt"),
        ("--root", "/nonexistent"),
        ("--workdir", "/nonexistent", "--tmpfs", "/mnt"),
    ],
    ids=" ".join,
)
def test_what_fails_is_told_the_same(directory: Path, words: tuple[str, ...]) -> None:
    code, told, _ = same(["--user", *words], directory)
    assert code == 125
    assert told.startswith("pyspaces: cannot ")


def test_a_failure_in_place_shows_where_with_debug() -> None:
    """The process is sealed against imports by then, and has no `traceback` module."""
    words = [SCRIPT, "run", "--debug", "--no-fork", "--user", "--bind", "/nonexistent", "/mnt"]
    done = outcome([*words, "--", "true"])
    assert done.returncode == 125
    assert "source_inner" in done.stderr
    assert "import" not in done.stderr.replace("importlib", ""), os.linesep + done.stderr
