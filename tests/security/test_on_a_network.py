"""What a hostile command on a network can do to the network, to others on it, and to the host."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import networks
import pytest
from boxes import box, on_host
from conftest import SCRIPT, outcome
from networks import ask, members, network, own, run, server

pytestmark = pytest.mark.needs("userns", "netns", "bridge")
INTRUDER = Path(__file__).with_name("intruder.py")
REFUSED = {"EPERM", "EACCES"}
# As root inside, writes to its file of names, and does all to it that may keep others from that.
WILD = """
import contextlib, ctypes, fcntl, os, signal
ctypes.CDLL(None).mount(None, b"/etc/hosts", None, 32 | 4096, None)
with open("/etc/hosts", "w") as file:
    file.write("10.77.0.66 web\\n")
descriptor = os.open("/etc/hosts", os.O_RDONLY)
os.chmod("/etc/hosts", 0)
for lease in (fcntl.F_RDLCK, fcntl.F_WRLCK):
    with contextlib.suppress(OSError):
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, lease)
fcntl.flock(descriptor, fcntl.LOCK_SH)
print("done", flush=True)
signal.pause()
"""


def holder_of(name: str) -> int:
    (row,) = [row for row in networks.listed() if row["name"] == name]
    return int(row["pid"])


@pytest.mark.parametrize(
    "own_ids",
    [
        pytest.param((), id="root"),
        pytest.param(("--map-current",), id="oneself", marks=pytest.mark.stress),
    ],
)
def test_it_gets_into_no_other_namespace(own_ids: tuple[str, ...]) -> None:
    """Even with all capabilities in its own, and a look at the processes of the others."""
    with network() as name, server(name, "--hostname", "web") as running:
        pids = (str(holder_of(name)), str(running.record["pid"]))
        before = members(name)
        program = INTRUDER.read_text()
        told = run("run", *own(name, *own_ids, "--keep-caps"), "--",
                   "/usr/bin/python3", "-c", program, *pids)  # fmt: skip
        for way, answers in json.loads(told).items():
            assert REFUSED.issuperset(answers), (way, answers)
        assert members(name) == before
        assert ask(name, "web") == ["hello"]


def test_it_changes_no_names_but_its_own() -> None:
    with network() as name, server(name, "--hostname", "web"):
        words = own(name, "--hostname", "wild")
        with box("--", sys.executable, "-c", WILD, own=words) as wild:
            assert wild.line() == "done"
            # Who was there before, and who comes later, are not misled, and nobody waits for it.
            assert ask(name, "web", "wild") == ["hello", "ECONNREFUSED"]
            wild.end()
        assert set(members(name).values()) == {"web"}


def test_the_loopback_of_the_host_and_of_others_is_not_reached() -> None:
    with network() as name, on_host("echo") as port, server(name, "--hostname", "web"):
        assert (
            ask(name, f"127.0.0.1:{port}", f"10.77.0.1:{port}", f"web:{port}")
            == ["ECONNREFUSED"] * 3
        )


def test_its_files_belong_to_the_user_alone() -> None:
    with network() as name, server(name):
        directory = Path(networks.directory())
        assert directory.stat().st_mode & 0o777 == 0o700
        assert (directory / f"lock:{name}").stat().st_mode & 0o777 == 0o600


@pytest.mark.as_ordinary
def test_a_directory_that_others_can_write_to_has_no_networks(tmp_path: Path) -> None:
    with network() as name:
        there = tmp_path / "pyspaces"
        there.mkdir()
        for file in networks.files(name):
            (there / file).write_bytes((Path(networks.directory()) / file).read_bytes())
        own_directory = os.environ | {"XDG_RUNTIME_DIR": str(tmp_path)}
        assert name in outcome([SCRIPT, "network", "list"], env=own_directory).stdout
        there.chmod(0o777)
        assert name not in outcome([SCRIPT, "network", "list"], env=own_directory).stdout
        done = outcome([SCRIPT, "run", f"--net={name}", "--", "true"], env=own_directory)
        assert done.returncode == 125
