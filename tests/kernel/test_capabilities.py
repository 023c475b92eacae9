"""--keep-caps, --cap-drop and --cap-add: the five sets, as the kernel shows them of the command."""

from __future__ import annotations

import functools
import os
import sys

import pytest
from conftest import SCRIPT
from usage import assert_refused

from pyspaces import launch
from pyspaces.features.ids import capabilities
from pyspaces.features.ids.capabilities import Privileges
from pyspaces.features.ids.idmap import Extent
from pyspaces.features.ids.maps import Maps
from pyspaces.plan import Plan

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Run

pytestmark = pytest.mark.needs("userns")
UID, GID = os.geteuid(), os.getegid()
# Root inside, and somebody else.
ROOT = ("--user",)
OTHER = ("-M", f"5,{UID},1", "-G", f"5,{GID},1")
with open("/proc/sys/kernel/cap_last_cap") as file:
    EVERY = (1 << int(file.read()) + 1) - 1
NET_ADMIN, CHOWN, KILL = 1 << 12, 1, 1 << 5
# What the command's Python says: the signal of the launcher's death, and AT_SECURE of its start.
TIED = """
import ctypes
libc, signal = ctypes.CDLL(None), ctypes.c_int()
libc.getauxval.restype = ctypes.c_ulong
libc.prctl(2, ctypes.byref(signal))
print(signal.value, libc.getauxval(23))
"""


def sets(run: Run, *options: str) -> dict[str, int]:
    """Return the sets by the last letters of their names: Inh, Prm, Eff, Bnd, Amb."""
    done = run("run", *options, "--", "grep", "^Cap", "/proc/self/status")
    assert (done.returncode, done.stderr) == (0, "")
    rows = (line.split() for line in done.stdout.splitlines())
    return {name[3:6]: int(value, 16) for name, value in rows}


def test_root_loses_what_is_dropped(pyspaces: Run) -> None:
    left = EVERY & ~NET_ADMIN & ~CHOWN
    found = sets(pyspaces, *ROOT, "--cap-drop", "CAP_net_admin,chown")
    assert found["Bnd"] == found["Prm"] == found["Eff"] == left
    assert (found["Inh"] | found["Amb"]) & (NET_ADMIN | CHOWN) == 0


def test_root_without_any_capability(pyspaces: Run) -> None:
    assert set(sets(pyspaces, *ROOT, "--cap-drop", "all").values()) == {0}


def test_root_with_one_capability(pyspaces: Run) -> None:
    found = sets(pyspaces, *ROOT, "--cap-drop", "ALL", "--cap-add", "Net_Admin")
    assert found["Bnd"] == found["Prm"] == found["Eff"] == NET_ADMIN


def test_another_user_keeps_nothing_by_itself(pyspaces: Run) -> None:
    found = sets(pyspaces, *OTHER)
    assert (found["Prm"], found["Eff"], found["Amb"]) == (0, 0, 0)


def test_another_user_keeps_all(pyspaces: Run) -> None:
    assert set(sets(pyspaces, *OTHER, "--keep-caps").values()) == {EVERY}


def test_another_user_keeps_all_but_one(pyspaces: Run) -> None:
    found = sets(pyspaces, *OTHER, "--keep-caps", "--cap-drop", "kill")
    assert set(found.values()) == {EVERY & ~KILL}


def test_another_user_with_one_capability(pyspaces: Run) -> None:
    found = sets(pyspaces, *OTHER, "--cap-add", "net_admin")
    assert found == dict.fromkeys(("Inh", "Prm", "Eff", "Amb"), NET_ADMIN) | {"Bnd": EVERY}
    found = sets(pyspaces, *OTHER, "--cap-add", "net_admin", "--cap-drop", "all")
    assert set(found.values()) == {NET_ADMIN}


@pytest.mark.as_root
def test_capabilities_stay_over_a_change_of_ids(pyspaces: Run) -> None:
    options = ("-M", "0 0 100", "-G", "0 0 100", "--setuid", "33")
    assert set(sets(pyspaces, *options, "--keep-caps").values()) == {EVERY}
    found = sets(pyspaces, *options, "--cap-add", "chown", "--cap-drop", "all")
    assert set(found.values()) == {CHOWN}


@pytest.mark.needs("setpriv")
def test_root_that_is_not_to_be_root(pyspaces: Run) -> None:
    """SECBIT_NOROOT of the caller: exec gives user 0 nothing, so what it is to have is ambient."""
    some = "+kill,+chown,+setpcap"
    caller = ("setpriv", "--securebits", "+noroot", "--inh-caps", some, "--ambient-caps", some)
    inner = (*caller, SCRIPT, "run", "--cap-drop", "all", "--cap-add", "kill")
    assert set(sets(pyspaces, *ROOT, "--", *inner).values()) == {KILL}


@pytest.mark.as_root
def test_the_hosts_root_drops_and_keeps_without_a_user_namespace(pyspaces: Run) -> None:
    """Whatever the test's own root has: a container's has less than all."""
    with open("/proc/self/status") as status:
        own = {line.split()[0]: int(line.split()[1], 16) for line in status if line[:3] == "Cap"}
    found = sets(pyspaces, "--cap-drop", "kill")
    assert found["Eff"] == found["Bnd"] == own["CapBnd:"] & ~KILL
    found = sets(pyspaces, "--setuid", "33", "--keep-caps")
    assert found["Eff"] == found["Amb"] == own["CapPrm:"]


@pytest.mark.crossed(1)
@pytest.mark.parametrize("who", [ROOT, OTHER], ids=["root", "another"])
@pytest.mark.parametrize(
    "options", [["--cap-drop", "kill"], ["--cap-add", "kill", "--cap-drop", "all"], ["--keep-caps"]]
)
def test_the_command_still_dies_with_the_launcher(
    pyspaces: Run, who: tuple[str, ...], options: list[str]
) -> None:
    """A change of credentials can clear the signal, and so can an exec that gains capabilities."""
    done = pyspaces("run", *who, *options, "--", sys.executable, "-I", "-S", "-c", TIED)
    assert (done.stdout, done.stderr) == ("9 0\n", "")


@pytest.mark.crossed(1)
@pytest.mark.needs("proc")
@pytest.mark.parametrize("who", [ROOT, OTHER], ids=["root", "another"])
@pytest.mark.parametrize(
    ("options", "kept"),
    [
        (["--cap-drop", "net_admin"], KILL),
        (["--cap-drop", "all"], 0),
        (["--cap-drop", "kill,chown"], 0),
        (["--cap-add", "net_admin"], KILL),
    ],
)
def test_our_process_1_has_no_more(
    pyspaces: Run, who: tuple[str, ...], options: list[str], kept: int
) -> None:
    """With CAP_SYS_PTRACE the command could make it do what it may not do itself."""
    show = (
        "--pid",
        "--mount",
        "--init",
        "--",
        "grep",
        "^Cap",
        "/proc/self/status",
        "/proc/1/status",
    )
    done = pyspaces("run", *who, *options, *show)
    assert (done.returncode, done.stderr) == (0, "")
    rows = [line.rpartition(":") for line in done.stdout.splitlines()]
    found = {name[6:7] + name[-3:]: int(value, 16) for name, _, value in rows}
    assert (found["1Prm"], found["1Eff"], found["1Inh"], found["1Amb"]) == (kept, kept, 0, 0)
    assert found["1Bnd"] == found["sBnd"]


@pytest.mark.needs("proc")
def test_our_process_1_still_passes_signals_on(pyspaces: Run) -> None:
    script = "trap 'echo got it; exit 3' TERM; kill -TERM 1; while :; do sleep 0.01; done"
    for options in (["--cap-drop", "all"], ["--keep-caps"]):
        box = ("--user", "--pid", "--mount", "--init", *options)
        done = pyspaces("run", *box, "--", "sh", "-c", script)
        assert (done.returncode, done.stdout, done.stderr) == (3, "got it\n", "")


@pytest.mark.needs("capsh")
@pytest.mark.crossed(1)
@pytest.mark.parametrize("who", [ROOT, OTHER], ids=["root", "another"])
@pytest.mark.parametrize(
    "options",
    [
        ["--cap-drop", "net_admin,chown"],
        ["--cap-drop", "all"],
        ["--cap-drop", "all", "--cap-add", "kill,net_admin"],
        ["--keep-caps", "--cap-drop", "kill"],
    ],
)
def test_capsh_sees_the_same(pyspaces: Run, who: tuple[str, ...], options: list[str]) -> None:
    """A second reader of the sets, with names of its own: libcap's."""
    # `Current:` is in a grammar of its own; ask for capabilities of these sets by name instead.
    names = ("cap_kill", "cap_net_admin", "cap_chown", "cap_sys_admin")
    asked = {f"{letter}={name}": which for letter, which in LETTERS for name in names}
    ask = 'for i; do capsh --has-"$i" >/dev/null 2>&1 && echo "$i"; done; :'
    script = f"grep ^Cap /proc/self/status; capsh --print; echo --; {ask}"
    done = pyspaces("run", *who, *options, "--", "sh", "-c", script, "sh", *asked)
    assert (done.returncode, done.stderr) == (0, "")
    shown, _, told = done.stdout.partition("--\n")
    lines = shown.splitlines()
    found = {line[3:6]: int(line.split()[1], 16) for line in lines[:5]}
    rows = dict(line.split("=", 1) for line in lines[5:8] if "=" in line)
    assert named(rows["Bounding set "]) == found["Bnd"]
    assert named(rows["Ambient set "]) == found["Amb"]
    held = {word for word, which in asked.items() if found[which] & named(word[2:])}
    assert set(told.split()) == held


LETTERS = (("p", "Prm"), ("i", "Inh"), ("a", "Amb"))


def named(text: str) -> int:
    """Return the bits of capsh's list of names."""
    return sum(1 << capabilities.NAMES.index(name.upper()) for name in text.split(",") if name)


def test_a_function_has_what_the_plan_leaves() -> None:
    """No exec is there to take anything: the sets of the process itself are limited."""
    for who, add, left in ((0, (), EVERY & ~KILL), (5, ("CAP_CHOWN",), CHOWN)):
        plan = Plan(
            command=("f",),
            namespaces=("user",),
            maps=Maps(
                uid_map=(Extent(inside=who, outside=UID, count=1),),
                gid_map=(Extent(inside=who, outside=GID, count=1),),
            ),
            privileges=Privileges(cap_drop=("CAP_KILL",), cap_add=add),
        )
        read, write = os.pipe()
        call = functools.partial(tell_sets, write)
        with open(read) as reading, launch.start(plan, function=call) as running:
            os.close(write)
            found = reading.read()
            assert running.wait(timeout=60).code == 0
        rows = {line[3:6]: int(line.split()[1], 16) for line in found.splitlines()}
        assert (rows["Prm"], rows["Eff"]) == (left, left)
        assert rows["Bnd"] == EVERY & ~KILL


def tell_sets(descriptor: int) -> None:
    with open("/proc/self/status") as status:
        os.write(descriptor, "".join(line for line in status if line[:3] == "Cap").encode())


def test_a_capability_that_nobody_has_to_give(pyspaces: Run) -> None:
    inner = (SCRIPT, "run", "--cap-add", "kill", "--", "true")
    done = pyspaces("run", *ROOT, "--cap-drop", "kill", "--", *inner)
    assert done.returncode == 125
    assert done.stderr == (
        "pyspaces: cannot set the capabilities: capset CAP_KILL: Operation not permitted\n"
        "hint: this process has no CAP_KILL to pass on to the command: add --user\n"
    )


def test_the_bounding_set_cannot_change_without_the_capability(pyspaces: Run) -> None:
    """An ordinary user of the host, and root inside that has lost it."""
    inner = (SCRIPT, "run", "--cap-drop", "kill", "--", "true")
    refused = pyspaces("run", *ROOT, "--cap-drop", "setpcap", "--", *inner)
    assert refused.returncode == 125
    assert refused.stderr == (
        "pyspaces: cannot limit the bounding set: prctl: Operation not permitted\n"
        "hint: without CAP_SETPCAP, capabilities cannot be dropped permanently: add --user\n"
    )
    if UID != 0:
        assert pyspaces(*inner[1:]).stderr == refused.stderr


def test_what_this_kernel_does_not_have(pyspaces: Run, tmp_path: Path) -> None:
    """On a kernel that says it has less: the file it says that in, covered by another one."""
    (tmp_path / "last").write_text("37\n")
    script = f'mount --bind {tmp_path}/last /proc/sys/kernel/cap_last_cap && exec "$@"'
    words = ("run", *ROOT, "--mount", "--", "sh", "-c", script, "sh", SCRIPT, "run")
    for option in ("--cap-drop", "--cap-add"):
        done = pyspaces(*words, option, "audit_read,bpf", "--", "echo", "ran")
        assert (done.returncode, done.stdout) == (2, "")
        assert f"{option[2:]}: CAP_BPF: this kernel does not have it\n" in done.stderr
        assert "AUDIT_READ" not in done.stderr
    assert pyspaces(*words, "--cap-drop", "all", "--", "echo", "ran").stdout == "ran\n"


def test_wrong_names_are_refused() -> None:
    rows = [
        (["--cap-drop", "flying"], "cap-drop: CAP_FLYING: is not a capability"),
        (["--cap-add", "all"], "cap-add: ALL: name each"),
        (["--cap-drop", "kill", "--cap-add", "cap_kill"], "CAP_KILL: is dropped by cap-drop"),
    ]
    assert_refused([([*ROOT, *words], error) for words, error in rows])
