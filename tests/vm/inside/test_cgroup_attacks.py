"""What a command can do about its own limits, and what it cannot."""

from __future__ import annotations

import json

import pytest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from conftest import Run

PYTHON = "/usr/bin/python3"  # one that is there in a sandbox too
# Tries to lift limits, its own and others, and to leave; prints how many files there were, and
# which could be written.
ATTACK = """
import json, os, sys
there, worked = 0, []
for top, _, _ in os.walk(sys.argv[1]):
    for name, text in (
        ("memory.max", "max"), ("memory.swap.max", "max"),
        ("pids.max", "max"), ("cpu.max", "max"), ("io.weight", "default 10000"),
        ("cgroup.subtree_control", "-memory"), ("cgroup.subtree_control", "-pids"),
        ("cgroup.procs", "0"), ("cgroup.threads", "0"),
    ):
        path = os.path.join(top, name)
        if os.path.exists(path):
            there += 1
            try:
                with open(path, "r+") as file:
                    file.write(text)
                worked.append(os.path.relpath(path, sys.argv[1]))
            except OSError:
                pass
print(json.dumps([there, worked]))
"""
LIMITS = ["--memory", "64M", "--pids", "20"]
# Not memory.oom.group, which the kernel leaves to whoever is in the cgroup: it is no limit.
OWN = {"memory.max", "memory.swap.max", "pids.max"}


def attacked(pyspaces: Run, *words: str, place: str = "/sys/fs/cgroup") -> tuple[int, list[str]]:
    """Return how many files were there, and those that could be written."""
    mount = "mount -t cgroup2 none /mnt && " if place == "/mnt" else ""
    script = f'{mount} exec {PYTHON} -I -S -c "$0" "$1"'
    done = pyspaces("run", *LIMITS, *words, "--", "sh", "-c", script, ATTACK, place)
    assert done.returncode == 0, done.stderr
    there, worked = json.loads(done.stdout)
    return there, worked


@pytest.mark.parametrize(
    "words",
    [
        ["--sandbox"],
        ["--user", "--cgroup", "--host-ro"],
        ["--user", "--cgroup", "--host-ro", "--cap-drop", "all"],
    ],
    ids=" ".join,
)
def test_a_command_that_sees_no_cgroups_has_nothing_to_write_to(
    pyspaces: Run, words: list[str]
) -> None:
    assert attacked(pyspaces, *words) == (0, [])


def test_a_read_only_view_is_no_way(pyspaces: Run) -> None:
    there, worked = attacked(pyspaces, "--sandbox", "--ro-bind", "/sys/fs/cgroup", "/sys/fs/cgroup")
    assert there > 0
    assert worked == []


def test_root_inside_that_mounts_its_cgroup_cannot_change_its_limits(pyspaces: Run) -> None:
    there, worked = attacked(
        pyspaces, "--user", "--cgroup", "--host-ro", "--tmpfs", "/mnt", place="/mnt"
    )
    assert there >= len(OWN)
    assert not OWN.intersection(worked)


def test_in_a_cgroup_namespace_it_cannot_change_its_own_files_or_leave(pyspaces: Run) -> None:
    _, worked = attacked(pyspaces, "--user", "--cgroup")
    own = [path for path in worked if "pyspaces-" in path]
    assert own  # its cgroup.procs, for one
    assert not [path for path in own if path.rpartition("/")[2] in OWN]
    assert not [path for path in set(worked) - set(own) if path.endswith(("procs", "threads"))]


def test_limits_that_were_taken_away_are_told(pyspaces: Run) -> None:
    # As the user who owns the cgroup above, which the manual says can be done, unless it is hidden.
    script = (
        "place=/sys/fs/cgroup$(cut -d: -f3 /proc/self/cgroup); echo max >$place/memory.max;"
        " echo -pids >${place%/*}/cgroup.subtree_control"
    )
    done = pyspaces("run", *LIMITS, "--", "sh", "-c", script)
    assert done.stderr.splitlines() == [
        "pyspaces: limits of the command were changed while it ran: memory.max, pids.max"
    ]
