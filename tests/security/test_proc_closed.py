"""Nobody in a sandbox writes to the host's settings in /proc, root without capabilities neither."""

from __future__ import annotations

import json

import pytest
from conftest import IS_ROOT, SCRIPT, outcome, without

TYPE_CHECKING = False
if TYPE_CHECKING:
    from conftest import Run

# Tries to open for writing, which is all that the kernel asks about: nothing is written.
TRY = """
import errno, json, os, sys
def kind(path, flags):
    try:
        os.close(os.open(path, flags | os.O_NONBLOCK))
    except OSError as error:
        return errno.errorcode[error.errno]
    return "opened"
found = {}
for top in ("/proc/sys", "/proc/irq", "/proc/bus", "/proc/fs", "/proc/sysrq-trigger"):
    if not os.path.isdir(top):
        found[top] = kind(top, os.O_WRONLY)
    for directory, directories, names in os.walk(top):
        for name in names:
            path = f"{directory}/{name}"
            # What belongs to a namespace of one's own, and is not the host's.
            if not path.startswith((
                "/proc/sys/net", "/proc/sys/user", "/proc/sys/fs/binfmt",
                "/proc/sys/kernel/pid_max", "/proc/sys/kernel/ns_last_pid",
            )):
                found[path] = kind(path, os.O_WRONLY)
hidden = {}
for name in "acpi asound kcore keys latency_stats timer_list timer_stats sched_debug scsi".split():
    path = f"/proc/{name}"
    if os.path.isdir(path):
        hidden[path] = os.listdir(path)
    elif os.path.exists(path):
        try:
            hidden[path] = open(path, "rb").read(1).decode("latin-1")
        except OSError as error:
            hidden[path] = errno.errorcode[error.errno]
if os.path.exists("/sys/firmware"):
    hidden["/sys/firmware"] = os.listdir("/sys/firmware")
again = os.system("exec 2>/dev/null; umount /proc/sys || mount -o remount,rw /proc/sys"
                  " || mount -o remount,bind,rw /proc/sys || mount -t proc none /mnt")
print(json.dumps([found, hidden, again]))
"""
DROP = ["--cap-drop", "all"]
SANDBOXES: dict[str, list[str]] = {
    "no capabilities": ["--mount", "--pid", *DROP],
    "no capabilities, no pid namespace": ["--mount", *DROP],
    "read-only": ["--pid", "--read-only", *DROP],
    "read-only, no pid namespace": ["--read-only", *DROP],
    "host-ro": ["--pid", "--host-ro", *DROP],
    "throwaway": ["--pid", "--throwaway", *DROP],
    "a root": ["--pid", "--root", "/", *DROP],
    "an empty root": ["--pid", "--empty-root", "--bind", "/", "/", *DROP],
    "a second /proc": ["--pid", "--root", "/", "--proc", "/mnt", "--proc", "/proc", *DROP],
    "a user namespace": ["--user", "--pid", "--mount", *DROP],
    "a user namespace and a root": ["--user", "--pid", "--root", "/", *DROP],
    "our process 1": ["--pid", "--init", "--mount", *DROP],
    "in place": ["--mount", "--no-fork", *DROP],
}
# These differ from others in what is beneath, and not in how it is closed.
RARE = ("no capabilities, no pid namespace", "read-only, no pid namespace", "throwaway", "a root")
# Of these, root inside keeps its capabilities, and could open them again.
AGAINST_ACCIDENTS = {
    "read-only": ["--pid", "--read-only"],
    "host-ro": ["--pid", "--host-ro"],
    "a root": ["--pid", "--root", "/"],
    "a user namespace": ["--user", "--pid", "--host-ro"],
}


def attempt(run: Run, options: list[str]) -> tuple[dict[str, str], dict[str, str], int]:
    done = run("run", *options, "--", "/usr/bin/python3", "-I", "-S", "-c", TRY)
    assert done.returncode == 0, done.stderr
    found, hidden, again = json.loads(done.stdout)
    return found, hidden, again


@pytest.mark.needs("overlay", "proc", "/usr/bin/python3")
@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=pytest.mark.stress if n in RARE else ()) for n in SANDBOXES],
)
def test_nothing_of_the_host_can_be_written(pyspaces: Run, name: str) -> None:
    options = SANDBOXES[name]
    if not IS_ROOT and "--user" not in options:
        options = ["--user", *options]
    found, hidden, again = attempt(pyspaces, options)
    opened = [path for path, answer in found.items() if answer == "opened"]
    assert opened == []
    assert "/proc/sys/kernel/core_pattern" in found
    assert len(found) > 100
    if IS_ROOT:
        assert {path: what for path, what in hidden.items() if what} == {}
    assert again != 0


@pytest.mark.as_root
@pytest.mark.needs("proc", "/usr/bin/python3")
@pytest.mark.parametrize("name", AGAINST_ACCIDENTS)
def test_nor_by_accident(pyspaces: Run, name: str) -> None:
    found, _, _ = attempt(pyspaces, AGAINST_ACCIDENTS[name])
    assert [path for path, answer in found.items() if answer == "opened"] == []


@pytest.mark.as_root
@pytest.mark.needs("proc", "/usr/bin/python3")
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in ("read-only", "a root") else pytest.mark.stress)
        for name in SANDBOXES
    ],
)
def test_all_of_it_is_open_where_that_is_asked_for(pyspaces: Run, name: str) -> None:
    """And so it was before: this is what the others are compared with."""
    found, _, _ = attempt(pyspaces, [*SANDBOXES[name], "--proc-open"])
    assert found["/proc/sys/kernel/core_pattern"] == "opened"


@pytest.mark.as_root
@pytest.mark.needs("proc")
def test_a_nested_user_namespace_does_not_help(pyspaces: Run) -> None:
    """Without capabilities, root can make one; a fresh /proc in it would show it all again."""
    inside = "mount -t proc none /proc && echo fresh; : 2>&- > /proc/sys/kernel/core_pattern"
    done = pyspaces("run", "--mount", "--pid", *DROP, "--", "unshare", "-Urpmf", "sh", "-c", inside)
    assert "fresh" not in done.stdout
    assert done.returncode != 0


@pytest.mark.needs("proc")
def test_launches_nest_or_say_how(pyspaces: Run) -> None:
    """For an ordinary user nothing is mounted over /proc, and a launch inside gets a fresh one."""
    inside = (SCRIPT, "run", "--user", "--pid", "--mount", "--", "readlink", "/proc/self")
    for options in (["--user", "--pid", "--read-only"], ["--user", "--pid", "--bind", "/", "/"]):
        done = pyspaces("run", *options, "--", *inside)
        if IS_ROOT and "--read-only" in options:
            assert done.returncode == 125
            assert "hint: parts of /proc are covered here" in done.stderr
            assert "--proc-open" in done.stderr
            done = pyspaces("run", *options, "--proc-open", "--", *inside)
        assert (done.returncode, done.stdout) == (0, "1\n"), done.stderr


@pytest.mark.as_root
@pytest.mark.needs("proc")
def test_who_is_not_root_of_the_host_is_left_alone(pyspaces: Run) -> None:
    """The rule: with user 0 of the host not mapped, the kernel refuses all by itself."""
    maps = ["-M", "0 100000 65536", "-G", "0 100000 65536"]
    options = ["--user", *maps, "--pid", "--mount", *DROP]
    done = pyspaces("run", *options, "--", "grep", "-c", " /proc/", "/proc/self/mounts")
    assert done.stdout == "0\n", done.stderr
    found, _, _ = attempt(pyspaces, options)
    assert [path for path, answer in found.items() if answer == "opened"] == []


@pytest.mark.as_root
@pytest.mark.needs("proc")
def test_the_rest_of_proc_works(pyspaces: Run) -> None:
    look = "cat /proc/sys/kernel/ostype; echo 5 > /proc/self/oom_score_adj; cat /proc/keys"
    done = pyspaces("run", "--pid", "--mount", *DROP, "--", "sh", "-ec", look)
    assert (done.returncode, done.stdout, done.stderr) == (0, "Linux\n", "")


@pytest.mark.as_root
def test_without_mount_setattr() -> None:
    look = "/usr/bin/python3", "-I", "-S", "-c", TRY
    for options in (SANDBOXES["no capabilities"], SANDBOXES["a root"], SANDBOXES["host-ro"]):
        done = outcome([*without(442), SCRIPT, "run", *options, "--", *look])
        assert done.returncode == 0, done.stderr
        found, hidden, _ = json.loads(done.stdout)
        assert [path for path, answer in found.items() if answer == "opened"] == []
        assert {path: what for path, what in hidden.items() if what} == {}
