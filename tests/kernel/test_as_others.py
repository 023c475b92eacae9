"""`pyspaces as`: what a command sees, compared with what it sees when the tool itself runs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import IS_ROOT, PROBE, SCRIPT, outcome

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from conftest import Run

BASE = "--ro-bind / / --dev /dev --proc /proc"
BWRAP = (
    BASE,
    f"{BASE} --unshare-all --hostname box --tmpfs /mnt --dir /mnt/a --symlink a /mnt/b",
    f"{BASE} --unshare-pid --as-pid-1 --new-session --chdir /usr",
    f"{BASE} --unshare-user --uid 5 --gid 6 --clearenv --setenv A 1",
    f"{BASE} --setenv A 1 --unsetenv HOME --unshare-net --share-net --cap-drop ALL",
    f"{BASE} --unshare-user --uid 0 --cap-add CAP_NET_RAW --unshare-uts --unshare-ipc",
    f"{BASE} --unshare-user --cap-add ALL",
    "--bind / / --dev-bind /dev /dev --perms 0700 --tmpfs /mnt --remount-ro /mnt --bind-try /x /y",
)
UNSHARE = (
    "-U",
    "-r",
    "-c --keep-caps",
    "-Urnm --propagation slave",
    "-r --ipc --uts --cgroup --pid --fork --mount-proc",
    "-r --pid --fork --mount",
    "--user --map-user=5 --map-group=7",
    "--map-user=5",
    "-r -T --boottime 1000 --fork",
    "-r --wd=/usr",
)
SUBORDINATE = ("--map-auto -r", "--map-auto -c", "--map-users=auto --map-user=0 --map-group=0")
OF_ROOT = ("-m", "-n", "-m -p -f --mount-proc", "-p -f", "-ui", "-S 0 -G 0", "-R / -m")
# In which the two differ, and may: their own /dev, what is protected in /proc, the number that the
# file system of the root has.
_OWN = ("/dev", "/proc/", "/sys/firmware")
# A host whose root lacks capabilities gets them back in a user namespace of ours.
_CAPS = tuple(f"Cap{name}" for name in ("Inh", "Prm", "Eff", "Bnd", "Amb"))


def seen(*words: str) -> dict[str, Any]:
    """Return what a command sees that these words run."""
    probe = [sys.executable, "-I", "-S", PROBE, "seen"]
    variables = {"PATH": os.environ["PATH"], "HOME": "/", "A": "0"}
    done = outcome([*words, *probe], env=variables, cwd="/tmp", stdin=subprocess.DEVNULL)
    assert (done.returncode, done.stderr) == (0, ""), words
    found: dict[str, Any] = json.loads(done.stdout)
    own = {name: os.readlink(f"/proc/self/ns/{name}") for name in found["ns"]}
    # Of `_for_children`, only ours is in before it forks.
    found["ns"] = sorted(name for name, link in found["ns"].items() if link != own[name])
    found["mounts"] = sorted(
        (point, flags.split(",")[0], kind)
        for _, point, flags, kind in found["mounts"]
        if point != "/" and not point.startswith(_OWN)
    )
    if "pid" not in found["ns"]:
        del found["pid"]
    if IS_ROOT:
        found["caps"] &= int(
            Path("/proc/self/status").read_text().split("CapEff:")[1].split()[0], 16
        )
        found["status"] = {k: v for k, v in found["status"].items() if k not in _CAPS}
    return found


def differences(tool: str, line: str, adjust: Callable[[dict[str, Any]], None]) -> list[object]:
    """Return in what the two differ, each with what either has."""
    theirs, ours = seen(tool, *line.split()), seen(SCRIPT, "as", tool, *line.split())
    for found in (theirs, ours):
        adjust(found)
    return [[line, name, theirs[name], ours[name]] for name in theirs if theirs[name] != ours[name]]


def without_pwd(found: dict[str, Any]) -> None:
    """Take out what we set where the working directory is another one."""
    found["env"].pop("PWD", None)


@pytest.mark.needs("userns", "pidns", "netns", "proc", "bwrap")
def test_a_command_sees_what_bwrap_would_show_it() -> None:
    def adjust(found: dict[str, Any]) -> None:
        if found["ids"][0][0] == 0:  # who has them by being root
            found["status"].pop("CapInh", None)
            found["status"].pop("CapAmb", None)
        found["tree"]["/dev"] = sorted(set(found["tree"]["/dev"]) - {"core", "console"})

    assert [found for line in BWRAP for found in differences("bwrap", line, adjust)] == []


@pytest.mark.needs("userns", "pidns", "netns", "proc", "unshare")
def test_a_command_sees_what_unshare_would_show_it() -> None:
    lines = (*UNSHARE, *(OF_ROOT if IS_ROOT else ()))
    assert [found for line in lines for found in differences("unshare", line, without_pwd)] == []


@pytest.mark.as_ordinary
@pytest.mark.needs("userns", "unshare", "many")
def test_subordinate_ids_are_mapped_as_by_unshare() -> None:
    def adjust(found: dict[str, Any]) -> None:
        del found["ids"][2], found["status"]["Groups"]  # we drop them where that is allowed

    assert [found for line in SUBORDINATE for found in differences("unshare", line, adjust)] == []
    # With -r, our --map-auto maps the last of the range, too, for which unshare has no place.
    for line in SUBORDINATE[1:]:
        maps = [
            outcome([*words, *line.split(), "cat", "/proc/self/uid_map", "/proc/self/gid_map"])
            for words in (["unshare"], [SCRIPT, "as", "unshare"])
        ]
        theirs, ours = (sorted(done.stdout.split("\n")) for done in maps)
        assert theirs == ours


@pytest.mark.needs("userns", "netns", "nsenter")
def test_a_command_is_where_nsenter_would_put_it() -> None:
    box = subprocess.Popen(
        ["unshare", "-Urnm", "sh", "-c", "cd /usr; echo; exec sleep 600"], stdout=subprocess.PIPE
    )
    try:
        assert box.stdout is not None
        box.stdout.readline()
        lines = ["-U -n", "-U -m -r -w", f"-U --net=/proc/{box.pid}/ns/net -W /etc"]
        lines += ["-a"] if IS_ROOT else []  # nsenter joins those too that it is in
        # Without which an ordinary user cannot: setgroups(2) is denied.
        more = "" if IS_ROOT else " --preserve-credentials"
        for line in lines:
            assert differences("nsenter", f"-t {box.pid} {line}{more}", without_pwd) == []
    finally:
        box.kill()
        box.communicate()


@pytest.mark.needs("userns", "bwrap")
def test_a_link_with_the_name_of_a_tool_does_what_the_tool_does(
    tmp_path: Path, pyspaces: Run
) -> None:
    for name in ("bwrap", "unshare", "nsenter", "lsns"):
        (tmp_path / name).symlink_to(SCRIPT)
    word = ["--ro-bind", "/", "/", "--unshare-user", "--dev", "/dev", "id", "-u"]
    done = outcome([tmp_path / "bwrap", *word])
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{os.geteuid()}\n", "")
    assert outcome([tmp_path / "unshare", "-r", "id", "-u"]).stdout == "0\n"
    assert outcome([tmp_path / "unshare", "-r", "sh", "-c", "exit 33"]).returncode == 33
    assert outcome([tmp_path / "bwrap", "--help"]).stdout.startswith(f"usage: {tmp_path}/bwrap [")
    assert outcome([tmp_path / "lsns", "-n", "-o", "ns"]).returncode == 0
    assert pyspaces("as", "unshare", "-V").stdout.rstrip().endswith("as unshare")
    # What bwrap calls itself, so that another sandbox can be made inside.
    root = ["--unshare-user", "--uid", "0", "--gid", "0", "--cap-add", "ALL", "--bind", "/", "/"]
    line = [*root, "--bind", "/proc", "/proc", "--", "/proc/self/exe", "--unshare-all"]
    done = outcome([tmp_path / "bwrap", *line, "--ro-bind", "/", "/", "id", "-u"])
    assert (done.returncode, done.stdout, done.stderr) == (0, "0\n", "")
    # Where something has no counterpart, nothing is run.
    done = outcome([tmp_path / "bwrap", "--exec-label", "a", "--ro-bind", "/", "/", "echo", "ran"])
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "pyspaces: bwrap: --exec-label: labels of SELinux are not set here; runcon(1) sets one\n"
    )


@pytest.mark.needs("userns")
def test_bwraps_root_is_made_from_nothing(pyspaces: Run, tmp_path: Path) -> None:
    words = "--ro-bind /usr /usr --symlink usr/bin /bin --symlink usr/lib /lib --unshare-user"
    words += " --symlink usr/lib64 /lib64 --unshare-pid --proc /proc --file 0 etc/hosts"
    done = pyspaces(
        *("as", "bwrap", *words.split(), "--bind", str(tmp_path), "/data", "sh", "-c"),
        'echo $$ > /data/pid; echo /*; cat /etc/hosts; ls -d "$0"',
        str(tmp_path.parent),
        input="1.2.3.4 x\n",
    )
    shown, hosts, *_ = done.stdout.split("\n")
    assert (shown, hosts) == ("/bin /data /etc /lib /lib64 /proc /usr", "1.2.3.4 x")
    assert (done.returncode, (tmp_path / "pid").read_text()) == (2, "2\n")
