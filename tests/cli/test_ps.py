"""`pyspaces ps`: a row for each box; and what `stop` says of what is left of one."""

from __future__ import annotations

import json
import os
import signal
import subprocess

import pytest
from children import names_below, state_of
from conftest import SCRIPT, processes_of
from terminal import Screen
from test_list import on_terminal
from test_names import name, running

from pyspaces.commands import table
from pyspaces.features.existing import registry

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import Any

    from conftest import Run

    Wait = Callable[..., None]

__all__ = ["name"]


def boxes(pyspaces: Run) -> list[dict[str, Any]]:
    done = pyspaces("ps", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


@pytest.mark.needs("userns", "netns")
def test_each_box_has_one_row(pyspaces: Run, name: str, wait_until: Wait) -> None:
    with running(name, "--user", "--net", "--", "sh", "-c", "sleep 1000 & exec cat") as launcher:
        holder = registry.find(name)
        assert holder is not None
        wait_until(lambda: _row(pyspaces, name)["command"] == "cat", "the shell is cat")
        row = _row(pyspaces, name)
        assert (row["pid"], row["network"]) == (holder.pid, "none")
        assert row["memory"] > 100_000
        assert 0 <= row["age"] < 86400
        assert row["nprocs"] == 2
        heading, *lines = pyspaces("ps").stdout.splitlines()
        assert heading.split() == ["NAME", "PID", "AGE", "PROCS", "MEMORY", "NETWORK", "COMMAND"]
        (line,) = [line for line in lines if line.split()[0] == name]
        assert line.split()[1] == str(holder.pid)
        # Those with a name stand before those without one.
        unnamed = [box["name"] is None for box in boxes(pyspaces)]
        assert unnamed == sorted(unnamed)
        # And so they do in the list of namespaces.
        names = pyspaces("list", "-n", "-o", "name").stdout.split()
        assert [one == "-" for one in names] == sorted(one == "-" for one in names)
        assert name in names
        # Each of its namespaces there has the age and the memory of the box.
        data = json.loads(pyspaces("list", "--json").stdout)["namespaces"]
        own = [one for one in data if one["name"] == name]
        assert sorted(one["type"] for one in own) == ["net", "user"]  # by numbers, which are reused
        again = _row(pyspaces, name)
        for one in own:
            assert row["age"] <= one["age"] <= again["age"]
            assert one["memory"] > 100_000
        ours = {os.stat(f"/proc/self/ns/{kind}").st_ino for kind in ("user", "net", "mnt")}
        rest = [one for one in data if one["ns"] in ours]
        assert [(one["age"], one["memory"]) for one in rest] == [(None, None)] * 3
        # On a terminal, a column with something in it is there, and one without is not.
        shown = on_terminal("list", "-Q", f"name=='{name}'", columns=80)
        assert all(len(line) <= 80 for line in shown)
        words = shown[0].split()
        assert words == ["NS", "TYPE", "NPROCS", "PID", "USER", "NAME", "AGE", "MEMORY", "COMMAND"]
        assert "AGE" not in on_terminal("list", "-Q", "age==''", columns=80)[0]
        words = pyspaces("list", "-Q", f"name=='{name}'").stdout.split("\n")[0].split()
        assert words[5:8] == ["NETNSID", "NAME", "AGE"]
        done = pyspaces("stop", name)
        (left,) = done.stderr.splitlines()
        assert left.startswith(f"pyspaces: {name}: still runs in its namespaces: ")
        assert left.endswith(" (sleep 1000)")
        os.kill(int(left.rpartition(": ")[2].split()[0]), signal.SIGKILL)
        launcher.wait()


def _row(pyspaces: Run, name: str) -> dict[str, Any]:
    (row,) = [box for box in boxes(pyspaces) if box["name"] == name]
    return row


@pytest.mark.needs("userns")
def test_a_box_without_a_name(pyspaces: Run, wait_until: Wait) -> None:
    # Root sees those of others, too, who may test the same at the same time.
    command = f"sleep 1234.{os.getpid():07}"
    with subprocess.Popen([SCRIPT, "run", "--user", "--", *command.split()]) as launcher:
        try:

            def rows() -> list[dict[str, Any]]:
                return [box for box in boxes(pyspaces) if box["command"] == command]

            wait_until(rows, "the command runs")
            assert [(row["name"], row["network"], row["nprocs"]) for row in rows()] == [
                (None, "host", 1)
            ]
        finally:
            launcher.kill()


@pytest.mark.needs("userns")
def test_a_command_that_has_ended_has_no_row(pyspaces: Run, wait_until: Wait) -> None:
    """Its launcher may not have reaped it, or do so while ps reads: AGE was that of the host."""
    words = [SCRIPT, "run", "--user", "--", "sleep", "1000"]
    with subprocess.Popen(words) as launcher:
        try:
            wait_until(lambda: names_below(launcher.pid) == {"sleep"}, "the command runs")
            (command,) = processes_of(launcher.pid)
            assert command in {box["pid"] for box in boxes(pyspaces)}
            os.kill(launcher.pid, signal.SIGSTOP)
            os.kill(command, signal.SIGKILL)
            wait_until(lambda: state_of(command) == "Z", "nobody has reaped it")
            assert command not in {box["pid"] for box in boxes(pyspaces)}
        finally:
            launcher.kill()


@pytest.mark.needs("userns")
def test_stop_says_what_it_waits_for_on_a_terminal_only(
    name: str, tmp_path: Path, wait_until: Wait
) -> None:
    script = f"trap '' TERM; : > {tmp_path}/ready; exec cat"
    with running(name, "--user", "--", "sh", "-c", script) as launcher:
        wait_until((tmp_path / "ready").exists, "only KILL ends it now")
        holder = registry.find(name)
        assert holder is not None
        screen = Screen([SCRIPT, "stop", "--grace", "2", name])
        try:
            screen.expect(f"pyspaces: waiting for process {holder.pid} to end; KILL".encode())
            assert screen.end() == 0
        finally:
            screen.close()
        launcher.wait()


@pytest.mark.needs("userns")
def test_all_are_asked_to_end_before_any_is_awaited(
    name: str, tmp_path: Path, wait_until: Wait
) -> None:
    script = f"trap '' TERM; : > {tmp_path}/ready; exec cat"
    other = f"{name}-other"
    with (
        running(name, "--user", "--", "sh", "-c", script) as hung,
        running(other, "--user", "--", "sleep", "1000") as quick,
    ):
        wait_until((tmp_path / "ready").exists, "only KILL ends the first one now")
        with subprocess.Popen([SCRIPT, "stop", "--grace", "1000", name, other]) as stop:
            quick.wait(60)
            assert hung.poll() is None
            hung.kill()
            assert stop.wait(60) == 0


def test_watching_needs_a_terminal(pyspaces: Run) -> None:
    done = pyspaces("ps", "--watch")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "pyspaces: --watch: standard output is not a terminal\n"


def test_watching_goes_on_until_it_is_interrupted() -> None:
    screen = Screen([SCRIPT, "ps", "--watch"])
    try:
        for _ in range(2):
            screen.expect(b"NAME")
        screen.type(b"\x03")
        assert screen.end() in (-signal.SIGINT, 128 + signal.SIGINT)
    finally:
        screen.close()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0s"), (59, "59s"), (60, "1m"), (200, "3m20s"), (7320, "2h2m"), (86400 * 12, "12d")],
)
def test_durations(seconds: float, text: str) -> None:
    assert table.duration(seconds) == text


def test_sizes() -> None:
    sizes = (0, 999, 1000, 10 << 20, 1 << 30, 5 << 40)
    assert [table.in_units(size) for size in sizes] == ["0", "999", "1.0K", "10M", "1.0G", "5.0T"]
