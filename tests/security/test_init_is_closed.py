"""Process 1 of ours, and a process that holds namespaces, against the command beside them."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import SCRIPT

from pyspaces.launch.channel import ENDED, RECORD, STOPPED
from pyspaces.launch.outer.link import Link
from pyspaces.status import Status

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from conftest import Run

PROBER = str(Path(__file__).with_name("prober.py"))
PYTHON = [sys.executable, "-I", "-S"]
TOKEN = "open-sesame-4711-please"
CALLER = {**os.environ, "PYSPACES_TOKEN": TOKEN}


def probed(pyspaces: Run, *words: str, **more: Any) -> dict[str, list[str]]:
    """Run the prober against process 1, and return what it could do."""
    done = pyspaces("run", "--init", *words, "--", *PYTHON, PROBER, "1", TOKEN[::-1], **more)
    assert (done.returncode, done.stderr) == (0, "")
    found: dict[str, list[str]] = json.loads(done.stdout)
    return found


@pytest.mark.needs("userns", "proc")
@pytest.mark.parametrize("more", [[], ["--clearenv"], ["--map-current", "--keep-caps"]])
def test_a_command_with_all_capabilities_of_its_own(pyspaces: Run, more: list[str]) -> None:
    """Before: /proc/1/mem had what --clearenv removed, and /proc/1/fd/5 took any record."""
    found = probed(pyspaces, "--user", "--pid", "--mount", *more, env=CALLER)
    assert found == {"worked": [], "found": []}


@pytest.mark.as_ordinary
@pytest.mark.needs("userns", "proc", "many")
def test_nor_as_another_id(pyspaces: Run) -> None:
    for more in (["--map-auto"], ["--map-auto", "--setuid", "1", "--setgid", "1"]):
        # The interpreter may be readable for the caller alone.
        done = pyspaces(
            "run", "--user", "--pid", "--mount", "--init", *more, "--", "sh", "-c",
            "cat /proc/1/environ /proc/1/maps; head -c 1 /proc/1/mem; ls -l /proc/1/exe;"
            " echo x > /proc/1/fd/5; echo done",
            env=CALLER,
        )  # fmt: skip
        assert done.stdout.splitlines()[-1] == "done"
        assert "pyspaces" not in done.stdout.replace("pyspaces-init", "")
        assert TOKEN not in done.stdout
        assert done.returncode == 0


@pytest.mark.as_root
@pytest.mark.needs("proc")
def test_root_of_the_host_is_held_by_its_capabilities_alone(pyspaces: Run) -> None:
    """Without a user namespace of its own, the command may look into all there is.

    CAP_SYS_PTRACE, but also CAP_SYS_ADMIN or CAP_PERFMON: with one of these, what can be read may
    be read, of every process (may_access_mm() in kernel/fork.c; seen on 6.18).
    """
    assert "mem" in probed(pyspaces, "--pid", "--mount", env=CALLER)["worked"]
    limited = probed(pyspaces, "--pid", "--mount", "--cap-drop", "all", env=CALLER)
    assert limited == {"worked": [], "found": []}


@pytest.mark.as_root
@pytest.mark.needs("proc")
def test_what_was_cleared_is_not_there_even_for_root(pyspaces: Run) -> None:
    """What can be found of the environment is overwritten, for those who may look all the same."""
    # Process 1 does that when the command has begun.
    script = """
        until found=$("$@") && case $found in *'"found": []'*) ;; *) false;; esac; do :; done
        echo "$found"
    """
    words = ("/bin/sh", "-c", script, "sh", *PYTHON, PROBER, "1", TOKEN[::-1])
    done = pyspaces("run", "--init", "--pid", "--mount", "--clearenv", "--", *words, env=CALLER)
    assert (done.returncode, done.stderr) == (0, "")
    assert "mem" in json.loads(done.stdout)["worked"]


@pytest.mark.needs("userns")
def test_a_hold_has_nothing_to_read(pyspaces: Run) -> None:
    name = f"held-{os.getpid()}"
    with subprocess.Popen(
        [SCRIPT, "run", "--user", "--pid", "--mount", "--name", name, "--hold"],
        env=CALLER,
    ) as launcher:
        try:
            limit = time.monotonic() + 60
            while (
                done := pyspaces("enter", name, "--", *PYTHON, PROBER, "1", TOKEN[::-1])
            ).returncode and time.monotonic() < limit:
                time.sleep(0.05)
            assert done.returncode == 0, done.stderr
            assert json.loads(done.stdout)["found"] == []
        finally:
            launcher.wait(60)
            stopped = pyspaces("stop", "--grace", "0", name)
    assert stopped.returncode == 0, stopped.stderr


@pytest.mark.needs("userns", "pidns")
def test_its_owner_can_enter_all_the_same(pyspaces: Run, tmp_path: Path) -> None:
    """By what it has started: into process 1 itself nobody but root of the host may look."""
    pid_file = tmp_path / "pid"
    with subprocess.Popen(
        [SCRIPT, "run", "--user", "--pid", "--mount", "--init", "--pid-file", str(pid_file), "--",
         "sh", "-c", "echo up; exec sleep 100"], stdout=subprocess.PIPE, text=True,
    ) as launcher:  # fmt: skip
        try:
            assert launcher.stdout
            assert launcher.stdout.readline() == "up\n"
            target = pid_file.read_text().strip()
            done = pyspaces("enter", target, "--", "cat", "/proc/1/comm")
            assert (done.stdout, done.stderr) == ("pyspaces-init\n", "")
        finally:
            launcher.terminate()
            launcher.wait(60)


# --- the launcher's end ------------------------------------------------------------------------

WRONG = {
    "one byte": b"x",
    "an unknown kind": struct.pack(RECORD, b"?", 0),
    "a stop by no signal that stops": struct.pack(RECORD, STOPPED, 9),
    "a stop by a number that is none": struct.pack(RECORD, STOPPED, -1),
    "an end that is none": struct.pack(RECORD, ENDED, 0x137F),
    "half a record": struct.pack(RECORD, STOPPED, 19)[:3],
}


@pytest.mark.parametrize("record", WRONG)
@pytest.mark.parametrize("before", [b"", struct.pack(RECORD, STOPPED, 19)])
def test_a_wrong_record_ends_the_dialogue(record: str, before: bytes) -> None:
    reading, writing = os.pipe()
    link = Link(reading)
    os.write(writing, before + WRONG[record] + struct.pack(RECORD, ENDED, 0) * 3)
    assert list(link.stops()) == ([19] if before else [])
    assert link.fileno() == -1
    assert link.status() is None
    os.close(writing)


def test_a_flood_is_taken_in_pieces() -> None:
    reading, writing = os.pipe()
    link = Link(reading)
    os.write(writing, struct.pack(RECORD, STOPPED, 20) * 500 + struct.pack(RECORD, ENDED, 256))
    assert 0 < len(list(link.stops())) < 100
    assert link.status() == Status.from_wait(256)
    assert link.fileno() == -1
    os.close(writing)


@pytest.mark.needs("userns", "pidns")
@pytest.mark.parametrize("flood", ["one", "forever"])
def test_the_command_cannot_speak_for_process_1(pyspaces: Run, flood: str) -> None:
    """Before: a traceback for one byte; a flood took a CPU, and the limit never came."""
    script = "for f in 0 1 2 3 4 5 6 7 8 9 10; do"
    script += f" {'yes SSSS' if flood == 'forever' else 'printf x'} > /proc/1/fd/$f; done; exit 7"
    done = pyspaces(
        "run", "--user", "--pid", "--mount", "--init", "--timeout", "50", "--", "sh", "-c", script
    )
    assert done.returncode == 7
    assert "Traceback" not in done.stderr
