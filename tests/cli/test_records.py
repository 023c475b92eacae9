"""The status record, the pid file and the report: what is told about a command, and to whom."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
from pathlib import Path

import pytest
from children import Child
from conftest import SCRIPT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Launch = Callable[..., subprocess.CompletedProcess[str]]
    Recorded = Callable[..., tuple[int, list[dict[str, Any]]]]

pytestmark = pytest.mark.needs("userns", "pidns")
PAGE = Path(__file__).parents[2] / "man" / "pyspaces-run.1"
FIELDS = {
    "started": {
        *("event", "time", "pid", "command", "start_ticks", "namespaces", "uid_map", "gid_map"),
        "landlock",
    },
    "exited": {
        *("event", "time", "pid", "code", "signal", "timed_out", "killed", "wall", "user"),
        *("limit", "system", "peak_memory", "peak_floor"),
    },
    "failed": {
        *("event", "time", "stage", "call", "errno", "path", "message", "hint", "signal"),
        "exit_status",
    },
}


# Where the launch has ports, allowed hosts or a cgroup: tests/kernel/test_network_*.py and tests/vm
# look at these.
OF_SOME = {
    "started": {"ports", "listen", "network", "addresses", "interface"},
    "exited": {"lost", "refused", "cgroup"},
    "failed": set[str](),
}


@pytest.fixture
def recorded(tmp_path: Path) -> Recorded:
    """Launch with --status-file; return the exit status and the records."""

    def launch(*words: str) -> tuple[int, list[dict[str, Any]]]:
        path = tmp_path / "status"
        done = subprocess.run(
            [SCRIPT, "run", "--status-file", str(path), *words],
            capture_output=True,
            timeout=60,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        for row in rows:
            assert set(row) == FIELDS[row["event"]]  # without OF_SOME
        assert os.listdir(tmp_path) == ["status"]
        return done.returncode, rows

    return launch


def test_a_command_that_returns_125_can_be_told_from_us(recorded: Recorded) -> None:
    code, (started, exited) = recorded("--user", "--", "sh", "-c", "exit 125")
    assert code == 125
    assert (started["event"], exited["event"]) == ("started", "exited")
    assert (exited["code"], exited["signal"]) == (125, None)
    code, (failed,) = recorded("--user", "--workdir", "/nonexistent", "--", "true")
    assert code == 125
    assert failed["event"] == "failed"
    assert failed["stage"] == "change to the working directory"
    assert (failed["errno"], failed["path"]) == ("ENOENT", "/nonexistent")
    assert failed["exit_status"] == 125


def test_what_could_not_be_executed_is_a_failure(recorded: Recorded) -> None:
    code, (failed,) = recorded("--user", "--", "/nonexistent")
    assert code == failed["exit_status"] == 127
    assert failed["stage"] == "execute the command"


def test_started_says_what_the_command_is_in(recorded: Recorded, tmp_path: Path) -> None:
    script = 'stat -L -c "%n %i" /proc/self/ns/[a-z]*; cat /proc/self/stat'
    seen = tmp_path.parent / f"{tmp_path.name}-seen"
    _, (started, _) = recorded(
        *("--user", "--net", "--uts", "--boottime", "1", "--", "sh", "-c", f"({script}) > {seen}")
    )
    lines = seen.read_text().splitlines()
    inodes = dict(line.removeprefix("/proc/self/ns/").split() for line in lines[:-1])
    links = {"mount": "mnt"}
    assert started["namespaces"] == {
        name: int(inodes[links.get(name, name)]) for name in started["namespaces"]
    }
    assert len(started["namespaces"]) == 8
    assert started["uid_map"] == [[0, os.geteuid(), 1]]
    assert started["gid_map"] == [[0, os.getegid(), 1]]
    assert started["command"][0] == "sh"


def test_pid_and_start_name_the_process(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    with Child[bytes](
        [SCRIPT, "run", "--user", "--status-fd", str(writing), "--", "cat"],
        stdin=subprocess.PIPE,
        pass_fds=[writing],
    ) as launcher:
        os.close(writing)
        with os.fdopen(reading) as lines:
            started = json.loads(lines.readline())
            stat = Path(f"/proc/{started['pid']}/stat").read_text().rpartition(")")[2].split()
            assert int(stat[1]) == launcher.pid
            assert int(stat[19]) == started["start_ticks"]
            # The command has no copy of the descriptor, or it could write records of its own.
            links = []
            for entry in Path(f"/proc/{started['pid']}/fd").iterdir():
                # It opens and closes files of its own while it starts.
                with contextlib.suppress(FileNotFoundError):
                    links.append(os.readlink(entry))
            assert os.readlink(f"/proc/self/fd/{reading}") not in links
            launcher.send_signal(signal.SIGTERM)
            exited = json.loads(lines.readline())
            assert (exited["code"], exited["signal"]) == (None, "SIGTERM")
            assert lines.readline() == ""


def test_usage_of_the_command(recorded: Recorded) -> None:
    script = "x = bytearray(1) * 60_000_000; [i * i for i in range(10**6)]"
    _, (_, exited) = recorded("--user", "--", "python3", "-c", script)
    assert 60_000_000 < exited["peak_memory"] < 200_000_000
    # Their sum is measured; how much of it is whose, the kernel estimates by where its ticks fell.
    assert min(exited["user"], exited["system"]) >= 0
    assert 0.01 < exited["user"] + exited["system"] <= exited["wall"] * 2 + 0.1
    assert 1_000_000 < exited["peak_floor"] < 60_000_000


def test_an_interrupted_launch_is_recorded(tmp_path: Path) -> None:
    """Whenever the signal comes: a file with a whole record, or none at all."""
    for moment in range(8):
        path = tmp_path / str(moment)
        with Child[bytes](
            [SCRIPT, "run", "--user", "--status-file", path, "--", "sleep", "100"]
        ) as launcher:
            try:
                launcher.wait(moment * 0.015)
            except subprocess.TimeoutExpired:
                launcher.terminate()
            launcher.wait(60)
        if path.exists():
            rows = [json.loads(line) for line in path.read_text().splitlines()]
            assert rows[-1]["event"] in ("exited", "failed")
            assert rows[-1]["signal"] == "SIGTERM"


def test_a_killed_launcher_leaves_no_file(tmp_path: Path) -> None:
    path = tmp_path / "status"
    path.write_text("old\n")
    with Child[bytes](
        [SCRIPT, "run", "--user", "--status-file", path, "sh", "-c", "echo up; exec sleep 900"],
        stdout=subprocess.PIPE,
    ) as launcher:
        assert launcher.stdout is not None
        assert launcher.stdout.readline() == b"up\n"
        launcher.kill()
    assert os.listdir(tmp_path) == []


def test_the_pid_file_is_there_while_the_command_runs(pyspaces: Launch, tmp_path: Path) -> None:
    path = tmp_path / "pid"
    done = pyspaces(
        "run", "--user", "--pid-file", str(path), "--", "sh", "-c", f"cat {path}; echo $$"
    )
    first, second = done.stdout.split()
    assert first == second
    assert os.listdir(tmp_path) == []


def test_a_pid_file_of_somebody_else_is_left_alone(pyspaces: Launch, tmp_path: Path) -> None:
    path = tmp_path / "pid"
    done = pyspaces("run", "--user", "--pid-file", str(path), "--", "sh", "-c", f"echo 1 > {path}")
    assert (done.returncode, done.stderr) == (0, "")
    assert path.read_text() == "1\n"


def test_no_pid_file_is_left_where_the_command_is_not_found(
    pyspaces: Launch, tmp_path: Path
) -> None:
    done = pyspaces("run", "--user", "--pid-file", str(tmp_path / "pid"), "--", "/nonexistent")
    assert done.returncode == 127
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        (["--status-fd", "77"], "status-fd: 77: is not open"),
        (["--status-fd", "0"], "status-fd: 0: is not open for writing"),
        (["--status-file", "/nonexistent/x"], "status-file: /nonexistent/x: No such file"),
        (["--pid-file", "/nonexistent/x"], "pid-file: /nonexistent/x: No such file"),
        (["--status-file", "/dev/null"], "status-file: /dev/null: is not a regular file"),
        (["--status-file", "/tmp"], "status-file: /tmp: is not a regular file"),
        (["--status-file", "/tmp/q", "--pid-file", "/tmp/../tmp/q"], "is the file of --status-fil"),
        (["--status-fd", "77", "--pid-file", "/nonexistent/x"], "pid-file: /nonexistent/x: No su"),
    ],
)
def test_a_place_that_cannot_be_is_refused_before_anything_runs(
    pyspaces: Launch, tmp_path: Path, words: list[str], fault: str
) -> None:
    with open(os.devnull) as only_to_read:
        done = pyspaces(
            *("run", "--user", *words, "--", "touch", str(tmp_path / "ran")), stdin=only_to_read
        )
    assert done.returncode == 2
    assert fault in done.stderr
    assert not (tmp_path / "ran").exists()


def test_a_full_disk_changes_nothing_and_is_told(pyspaces: Launch) -> None:
    with open("/dev/full", "w") as full:
        done = pyspaces(
            *("run", "--user", "--status-fd", str(full.fileno()), "--", "sh", "-c", "exit 6"),
            pass_fds=[full.fileno()],
        )
    assert done.returncode == 6
    told = "pyspaces: cannot write the status record: No space left on device\n"
    assert done.stderr == told * 2


def test_a_reader_that_has_gone_changes_nothing_and_is_told(pyspaces: Launch) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = pyspaces(
        *("run", "--user", "--status-fd", str(writing), "--", "sh", "-c", "exit 6"),
        pass_fds=[writing],
    )
    os.close(writing)
    assert done.returncode == 6
    assert "cannot write the status record: Broken pipe" in done.stderr


def test_a_file_that_cannot_be_written_at_the_end_is_told(pyspaces: Launch, tmp_path: Path) -> None:
    directory = tmp_path / "gone"
    directory.mkdir()
    done = pyspaces(
        *("run", "--user", "--status-file", str(directory / "x"), "--", "rmdir", str(directory)),
    )
    assert done.returncode == 0
    assert "cannot write the status file: " in done.stderr
    assert "No such file or directory" in done.stderr


def test_the_report_is_for_people(pyspaces: Launch) -> None:
    done = pyspaces("run", "--user", "--pid", "--report", "--", "sh", "-c", "exit 3")
    assert (done.returncode, done.stdout) == (3, "")
    first, *rows = done.stderr.splitlines()
    assert first == "pyspaces: report"
    assert [row[:15].strip() for row in rows] == [
        *("command", "process", "namespaces", "result", "wall time", "CPU time", "peak memory"),
    ]
    values = [row[15:] for row in rows]
    assert values[0] == "sh -c exit 3"
    assert values[2:4] == ["user pid", "exited with 3"]
    assert re.fullmatch(r"\d+\.\d{3} s", values[4])
    assert re.fullmatch(r"(at most )?\d+\.\d MiB", values[6])


def test_the_man_page_documents_each_field() -> None:
    section = PAGE.read_text().partition("\n.Sh STATUS RECORD\n")[2].partition("\n.Sh ")[0]
    events = re.split(r"^\.Ss .*Li (\w+)\n", section, flags=re.MULTILINE)
    common = set(re.findall(r"^\.It Li (\w+)", events[0], re.MULTILINE))
    found = {
        name: common | set(re.findall(r"^\.It Li (\w+)", text, re.MULTILINE))
        for name, text in zip(events[1::2], events[2::2], strict=True)
    }
    assert found == {name: fields | OF_SOME[name] for name, fields in FIELDS.items()}
