"""`pyspaces enter` as a command line: its target, its options, its signals and exit status."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess

import pytest
from children import Child
from conftest import SCRIPT
from terminal import Screen
from test_completion import in_bash

from pyspaces.features.existing import registry

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from conftest import Run

    Wait = Callable[..., None]

NO_TARGET = "pyspaces: no target given: give a process id, a name or a namespace file\n"


@pytest.fixture(scope="module")
def box() -> Iterator[str]:
    """Give the name of a hold with a user and a UTS namespace."""
    name = f"test-enter-{os.getpid()}"
    words = (SCRIPT, "run", "--name", name, "--user", "--uts", "--hostname", "box", "--hold")
    subprocess.run(words, check=True)
    yield name
    subprocess.run([SCRIPT, "stop", name], check=True)


def pid_of(name: str) -> int:
    holder = registry.find(name)
    assert holder is not None
    return holder.pid


@pytest.mark.needs("userns")
def test_options_stand_on_both_sides_of_the_target(pyspaces: Run, box: str) -> None:
    hostname = ("sh", "-c", "uname -n; id -u; echo $A")
    lines = {"box", "0", "b"}
    pid = str(pid_of(box))
    for words in (
        (box, "--setenv", "A", "b", "--", *hostname),
        ("--setenv", "A", "b", box, *hostname),
        ("--setenv", "A", "b", "-U", pid, "-u", "--", *hostname),
        ("--setenv", "A", "b", "-t", pid, "-a", "--", *hostname),
        ("--setenv", "A", "b", "--target", box, *hostname),
        ("--setenv=A", "b", f"--join=user={pid}", f"--uts-file=/proc/{pid}/ns/uts", *hostname),
        ("--setenv=A", "b", f"--user-file=/proc/{pid}/ns/user", "-t", box, "-u", *hostname),
    ):
        done = pyspaces("enter", *words)
        assert (set(done.stdout.split()), done.stderr) == (lines, ""), words


@pytest.mark.needs("userns")
def test_options_behind_the_command_are_its_own(pyspaces: Run, box: str) -> None:
    assert pyspaces("enter", box, "echo", "-n", "--net", "--").stdout == "--net --"
    assert pyspaces("enter", box, "--", "echo", "--", "-t").stdout == "-- -t\n"


@pytest.mark.needs("userns")
def test_a_file_is_one_namespace(pyspaces: Run, box: str) -> None:
    pid = pid_of(box)
    done = pyspaces("enter", f"/proc/{pid}/ns/user", "--", "readlink", "/proc/self/ns/user")
    assert done.stdout == f"{os.readlink(f'/proc/{pid}/ns/user')}\n"
    done = pyspaces("enter", f"/proc/{pid}/ns/user", "--net", "true")
    assert (done.returncode, done.stderr) == (
        2,
        f"pyspaces: target: /proc/{pid}/ns/user: is a user namespace: only --user applies\n",
    )


def test_no_target(pyspaces: Run) -> None:
    assert pyspaces("enter").stderr == NO_TARGET
    assert pyspaces("enter", "--", "true").stderr == NO_TARGET
    done = pyspaces("enter", "--uts", "--join=net=/proc/self/ns/net", "true")
    assert (done.returncode, done.stderr) == (
        2,
        "pyspaces: no target given for these namespaces\n",
    )
    for option in ("--root", "--join-cgroup", "--env-of-target"):
        done = pyspaces("enter", option, "--join=net=/proc/self/ns/net", "true")
        assert (done.returncode, done.stderr) == (
            2,
            f"pyspaces: {option}: requires a process as the target\n",
        )


def test_what_cannot_be_a_target(pyspaces: Run, tmp_path: object) -> None:
    for target, status, text in (
        ("0", 2, "target: 0 is not a process id"),
        ("9999999999", 2, "target: 9999999999 is not a process id"),
        ("what?", 2, "name: 'what?': a name is made of letters, digits and ._-"),
        ("no-such-name", 125, "name: no-such-name: is not registered"),
        ("/etc/passwd", 125, "target: /etc/passwd: is not a namespace"),
        ("./nonexistent", 125, "target: ./nonexistent: No such file or directory"),
    ):
        done = pyspaces("enter", target, "true")
        assert done.returncode == status
        assert done.stderr.startswith(f"pyspaces: {text}"), done.stderr


def test_a_file_is_named_with_a_slash(pyspaces: Run, tmp_path: Path) -> None:
    (tmp_path / "kept").touch()
    done = pyspaces("enter", "kept", "true", cwd=tmp_path)
    assert done.returncode == 125
    assert "name: kept: is not registered\n" in done.stderr
    assert done.stderr.endswith("hint: write ./kept to name the file\n")


def test_a_file_of_another_type(pyspaces: Run) -> None:
    done = pyspaces("enter", "--uts-file=/proc/self/ns/net", "true")
    assert (done.returncode, done.stderr) == (
        125,
        "pyspaces: cannot join the namespaces: open as a uts namespace /proc/self/ns/net:"
        " Invalid argument\n",
    )
    done = pyspaces("enter", "--join=net=/proc/self/ns/net", "--net-file=/x", "true")
    assert done.returncode == 2
    assert "a process is in one net namespace" in done.stderr


def test_a_fifo_is_no_namespace_and_nothing_waits_at_it(pyspaces: Run, tmp_path: object) -> None:
    os.mkfifo(f"{tmp_path}/fifo")
    done = pyspaces("enter", f"{tmp_path}/fifo", "true")
    assert (done.returncode, "is not a namespace" in done.stderr) == (125, True)


@pytest.mark.needs("userns")
def test_status_of_the_command(pyspaces: Run, box: str) -> None:
    assert pyspaces("enter", box, "--", "sh", "-c", "exit 42").returncode == 42
    assert pyspaces("enter", box, "--", "sh", "-c", "kill -9 $$").returncode == 137
    assert pyspaces("enter", box, "/nonexistent").returncode == 127
    assert pyspaces("enter", box, "/etc/passwd").returncode == 126


@pytest.mark.needs("userns")
def test_without_a_command_there_is_a_shell_at_a_terminal_only(pyspaces: Run, box: str) -> None:
    done = pyspaces("enter", box)
    assert done.returncode == 2
    assert "no command given, and standard input is not a terminal" in done.stderr


@pytest.mark.needs("userns")
def test_signals_are_passed_on(box: str) -> None:
    script = "trap 'echo got; exit 3' USR1; echo; while :; do sleep 0.01; done"
    with Child[str](
        [SCRIPT, "enter", box, "--", "sh", "-c", script], stdout=subprocess.PIPE, text=True
    ) as launcher:
        assert launcher.stdout
        launcher.stdout.readline()
        launcher.send_signal(signal.SIGUSR1)
        assert launcher.stdout.read() == "got\n"
        assert launcher.wait(60) == 3
    with Child[str](
        [SCRIPT, "enter", box, "--", "sh", "-c", "echo; exec sleep 1000"],
        stdout=subprocess.PIPE,
        text=True,
    ) as launcher:
        assert launcher.stdout
        launcher.stdout.readline()
        launcher.terminate()
        assert launcher.wait(60) == -signal.SIGTERM


@pytest.mark.needs("userns", "pidns", "proc")
def test_the_command_dies_with_the_launcher(wait_until: Wait) -> None:
    """It has its parent in another pid namespace, and so cannot see it go."""
    name = f"test-enter-pid-{os.getpid()}"
    words = (SCRIPT, "run", "--name", name, "--user", "--pid", "--mount", "--hold")
    subprocess.run(words, check=True)
    try:
        with Child[bytes](
            [SCRIPT, "enter", name, "--", "sh", "-c", "echo; exec sleep 1000"],
            stdout=subprocess.PIPE,
        ) as launcher:
            assert launcher.stdout
            launcher.stdout.readline()
            launcher.kill()
            assert launcher.stdout.read() == b""  # its end comes with that of the command
    finally:
        subprocess.run([SCRIPT, "stop", name], check=True)


@pytest.mark.needs("userns")
def test_verbose_tells_what_is_joined(pyspaces: Run, box: str) -> None:
    done = pyspaces("enter", "-v", "-U", "-u", box, "--", "true")
    assert "pyspaces: join the namespaces: user, uts\n" in done.stderr


@pytest.mark.needs("userns", "bash")
def test_names_and_pids_are_completed(box: str) -> None:
    pid = str(pid_of(box))
    rows = (
        ("pyspaces enter ", box),
        (f"pyspaces enter {box[:-1]}", box),
        (f"pyspaces enter {pid}", pid),
        ("pyspaces enter -t test-", box),
        ("pyspaces stop test-", box),
        (f"pyspaces list -p {pid}", pid),
        (f"pyspaces enter {box} unshar", "unshare"),
        (f"pyspaces enter {box} -- unshar", "unshare"),
        (f"pyspaces enter {box} --env-o", "--env-of-target"),
        ("pyspaces run --join n", "net="),
    )
    for told, (line, word) in zip(in_bash(*(line for line, _ in rows)), rows, strict=True):
        assert word in told, line


@pytest.mark.needs("userns")
@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_are_told_the_same(pyspaces: Run, box: str, shell: str) -> None:
    """What their scripts ask, with the answer that they read."""
    pid = str(pid_of(box))
    for words, word, answer in (
        ("pyspaces enter", "", box),
        ("pyspaces enter", pid[:-1], pid),
        ("pyspaces enter -t", box[:4], box),
        ("pyspaces stop", "", box),
    ):
        asked = {
            "_PYSPACES_COMPLETE": f"{shell}_complete",
            "COMP_WORDS": f"{words} {word}",
            "COMP_CWORD": word if shell == "fish" else str(len(words.split())),
        }
        shown = pyspaces(env=os.environ | asked).stdout.replace(",", "\n").replace("\t", "\n")
        assert answer in shown.splitlines(), (words, word)


# --- the life of the command, by the code that `run` has ---------------------------------------


@pytest.mark.needs("userns")
def test_its_time_is_kept(pyspaces: Run, box: str) -> None:
    done = pyspaces("enter", box, "--timeout", "0.6", "--", "sleep", "1000")
    assert done.returncode == 124
    assert "its time is 0.6 s: it was sent SIGTERM" in done.stderr


@pytest.mark.needs("userns")
def test_its_status_record_names_the_namespaces_that_it_is_in(
    pyspaces: Run, box: str, tmp_path: Path
) -> None:
    file = tmp_path / "record"
    assert pyspaces("enter", box, f"--status-file={file}", "sh", "-c", "exit 9").returncode == 9
    started, exited = map(json.loads, file.read_text().splitlines())
    inode = os.stat(f"/proc/{pid_of(box)}/ns/uts").st_ino
    assert (started["event"], started["namespaces"]["uts"]) == ("started", inode)
    assert (exited["event"], exited["code"]) == ("exited", 9)
    done = pyspaces("enter", box, "--report", "--", "true")
    assert "result       exited with 0" in done.stderr


@pytest.mark.needs("userns")
def test_a_terminal_of_its_own(box: str) -> None:
    script = (
        "test -t 0 && uname -n | tr a-z A-Z; trap 'echo caught; exit 5' INT; echo ready;"
        " while :; do sleep 0.02; done"
    )
    with contextlib.closing(Screen([SCRIPT, "enter", box, "--pty", "sh", "-c", script])) as screen:
        screen.expect(b"BOX")
        screen.expect(b"ready")
        screen.type(b"\x03")  # for the inside: the launcher has its terminal raw
        screen.expect(b"caught")
        assert screen.end() == 5


@pytest.mark.needs("userns")
def test_ctrl_c_at_the_callers_terminal_reaches_the_command_once(box: str) -> None:
    script = "trap 'echo caught; exit 4' INT; echo ready; while :; do sleep 0.02; done"
    words = [SCRIPT, "enter", box, "--", "sh", "-c", script]
    with contextlib.closing(Screen(words)) as screen:
        screen.expect(b"ready")
        screen.type(b"\x03")
        screen.expect(b"caught")
        assert screen.end() == 4


@pytest.mark.needs("userns")
def test_ctrl_z_stops_the_job_and_fg_goes_on(box: str) -> None:
    script = f"set -m; {SCRIPT} enter {box} -- sh -c 'echo ready; read l; echo got $l'; fg; exit 6"
    with contextlib.closing(Screen(["/bin/sh", "-c", script])) as screen:
        screen.expect(b"ready")
        screen.type(b"\x1a")
        screen.expect(b"enter")  # fg says what it continues
        screen.type(b"on\r")
        screen.expect(b"got on")
        assert screen.end() == 6


@pytest.mark.needs("userns")
def test_without_a_fork_nothing_that_needs_a_launcher(pyspaces: Run, box: str) -> None:
    for option in ("--timeout=1", "--pty", "--new-session", "--report", "--status-fd=1"):
        done = pyspaces("enter", box, "-F", option, "--", "true")
        assert done.returncode == 2
        assert f"-F: cannot be combined with {option.partition('=')[0]}: " in done.stderr


# --- without doing it --------------------------------------------------------------------------


@pytest.mark.needs("userns")
def test_what_would_happen(pyspaces: Run, box: str) -> None:
    pid = pid_of(box)
    done = pyspaces("enter", box, "-U", "-u", "--join-cgroup", "--dry-run", "--", "uname", "-n")
    lines = done.stdout.splitlines()
    assert f"join the namespaces of process {pid}: user, uts" in lines
    assert f"go into the cgroups of process {pid}" in lines
    assert "become root of the user namespace, or else the first id that is mapped there" in lines
    assert lines[-1] == "no equivalent: join: unshare(1) joins none; nsenter(1) does"
    assert pyspaces("enter", box, "--json", "true").returncode == 2


@pytest.mark.needs("userns")
def test_a_plan_is_of_this_process_and_no_later_one(
    pyspaces: Run, box: str, tmp_path: Path
) -> None:
    file = tmp_path / "plan"
    file.write_text(pyspaces("enter", box, "--dry-run", "--json", "--", "uname", "-n").stdout)
    done = pyspaces("run", "--plan", str(file))
    assert (done.stdout, done.stderr) == ("box\n", "")
    plan = json.loads(file.read_text())
    assert plan["existing"]["joining"]["start"] > 0
    plan["existing"]["joining"]["start"] -= 1
    file.write_text(json.dumps(plan))
    done = pyspaces("run", "--plan", str(file))
    assert done.returncode == 125
    assert "No such process" in done.stderr


@pytest.mark.needs("userns")
def test_one_is_where_one_is(pyspaces: Run) -> None:
    """Entering a process in one's own namespaces takes no right: its directory is the new one."""
    with Child[bytes](["sleep", "1000"], cwd="/usr") as process:
        done = pyspaces("enter", str(process.pid), "pwd")
        assert (done.stdout, done.stderr) == ("/usr\n", "")


def test_without_a_command_the_hint_is_about_enter(pyspaces: Run) -> None:
    done = pyspaces("enter", str(os.getpid()))
    assert done.returncode == 2
    assert "hint: put it after the options: pyspaces enter TARGET -- ls -l" in done.stderr
