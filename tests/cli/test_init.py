"""--init: our process 1 reaps, passes signals on, ends as the command does, and shows nothing."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from children import Child
from conftest import IS_ROOT, SCRIPT, processes_of, processes_with

from pyspaces.kernel import procfs
from pyspaces.launch import signals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from terminal import Shell

    Launch = Callable[..., subprocess.CompletedProcess[str]]

pytestmark = pytest.mark.needs("userns", "pidns", "proc")
BASE = ["run", "--user", "--mount", "--init"]


@pytest.mark.parametrize(("script", "code"), [("exit 7", 7), ("kill -9 $$", 137), ("kill $$", 143)])
def test_the_status_is_that_of_the_command(pyspaces: Launch, script: str, code: int) -> None:
    done = pyspaces(*BASE, "--", "sh", "-c", script)
    assert (done.returncode, done.stderr) == (code, "")


def test_the_command_is_not_process_1(pyspaces: Launch) -> None:
    done = pyspaces(*BASE, "--", "sh", "-c", "echo $$ $PPID; cat /proc/1/comm")
    assert done.stdout == "2 1\npyspaces-init\n"


def test_process_1_shows_nothing_of_the_callers(pyspaces: Launch) -> None:
    """Nor does it keep a descriptor open but its own two, whose names only root's own user sees."""
    secret = "sesame-open"
    # The command may be up before process 1 has closed what it has no use for.
    script = (
        "cat /proc/1/cmdline /proc/1/environ | tr '\\0' ' '; echo; n=0;"
        f" until [ $(ls /proc/1/fd | wc -l) = {2 if IS_ROOT else 0} ] || [ $n = 600 ];"
        " do sleep 0.05; n=$((n+1)); done; ls /proc/1/fd | wc -l"
    )
    done = pyspaces(
        *(*BASE, "--setenv", "PASS", f"{secret}-1", "--", "sh", "-c", script),
        env=os.environ | {"TOKEN": f"{secret}-2"},
    )
    first, second = done.stdout.splitlines()
    assert first.strip() == "pyspaces-init"
    assert second == ("2" if IS_ROOT else "0")


def test_orphans_are_reaped(pyspaces: Launch) -> None:
    """Twenty processes whose parent has gone: none is a zombie once it has ended."""
    # Only the shell's own words: each program that it ran would be one process more.
    script = (
        "i=0; while [ $i -lt 20 ]; do (sh -c 'exit 3' & ) ; i=$((i+1)); done; n=0;"
        " while set -- /proc/[0-9]*; [ $# -gt 2 ] && [ $n -lt 1200 ];"
        " do sleep 0.05; n=$((n+1)); done; echo $#"
    )
    done = pyspaces(*BASE, "--", "sh", "-c", script)
    # Process 1 and the shell.
    assert (done.returncode, done.stdout) == (0, "2\n")


def test_without_it_they_stay(pyspaces: Launch) -> None:
    """That the test above can fail."""
    zombies = "grep -s '^State:.Z' /proc/[0-9]*/status"
    script = f"(sh -c 'exit 3' & ); until {zombies} > /dev/null; do :; done; {zombies} | wc -l"
    done = pyspaces(
        *("run", "--user", "--mount", "--pid", "--", "python3", "-c"),
        f"import os; os.system({script!r})",
    )
    assert int(done.stdout) == 1


def test_what_is_left_is_killed_with_the_command(
    pyspaces: Launch, wait_until: Callable[..., None]
) -> None:
    token = f"543.{os.getpid():07}"
    begun = time.monotonic()
    done = pyspaces(*BASE, "--", "sh", "-c", f"setsid sleep {token} & exit 2")
    assert done.returncode == 2
    assert time.monotonic() - begun < 60
    wait_until(lambda: not processes_with(token), "all gone")


def test_init_wait_waits_for_all(pyspaces: Launch) -> None:
    # The command is process 2: it comes after that one's end, however long that takes.
    late = "while kill -0 2 2>/dev/null; do sleep 0.05; done; echo late"
    script = f"(setsid sh -c '{late}' &); echo early; exit 2"
    done = pyspaces("run", "--user", "--init-wait", "--", "sh", "-c", script)
    assert (done.returncode, done.stdout) == (2, "early\nlate\n")


def test_init_wait_ends_what_is_left_when_asked(wait_until: Callable[..., None]) -> None:
    script = "(setsid sleep 100 &); echo up; exit 2"
    with Child[bytes](
        [SCRIPT, "run", "--user", "--init-wait", "--", "sh", "-c", script], stdout=subprocess.PIPE
    ) as launcher:
        assert launcher.stdout is not None
        assert launcher.stdout.readline() == b"up\n"
        (init,) = processes_of(launcher.pid)
        wait_until(lambda: len(processes_of(init)) == 1, "the command has ended")
        launcher.terminate()
        assert launcher.wait(60) == 2


ENDING = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT]


@pytest.mark.parametrize("number", ENDING)
def test_signals_reach_the_command(number: signal.Signals) -> None:
    with Child[bytes](
        [SCRIPT, *BASE, "--", "cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
    ) as launcher:
        assert launcher.stdin is not None
        assert launcher.stdout is not None
        launcher.stdin.write(b"up\n")
        assert launcher.stdout.read(3) == b"up\n"
        launcher.send_signal(number)
        assert launcher.wait(60) == -number


@pytest.mark.parametrize("number", ENDING)
def test_a_command_with_a_handler_decides_itself(number: signal.Signals) -> None:
    script = f"trap 'exit 9' {number.value}; echo up; while :; do sleep 0.01; done"
    with Child[bytes](
        [SCRIPT, *BASE, "--", "sh", "-c", script], stdout=subprocess.PIPE
    ) as launcher:
        assert launcher.stdout is not None
        assert launcher.stdout.readline() == b"up\n"
        launcher.send_signal(number)
        assert launcher.wait(60) == 9


def test_usr1_is_passed_on_once() -> None:
    script = "n=0; trap 'n=$((n+1)); echo n=$n' USR1; echo up; while :; do sleep 0.01; done"
    with Child[bytes](
        [SCRIPT, *BASE, "--", "sh", "-c", script], stdout=subprocess.PIPE
    ) as launcher:
        assert launcher.stdout is not None
        assert launcher.stdout.readline() == b"up\n"
        launcher.send_signal(signal.SIGUSR1)
        assert launcher.stdout.readline() == b"n=1\n"
        launcher.terminate()
        assert launcher.wait(60) == -signal.SIGTERM
        assert launcher.stdout.read() == b""


@pytest.mark.needs("bash")
def test_ctrl_z_and_fg(shell: Shell) -> None:
    shell.type(f"{SCRIPT} {' '.join(BASE)} -- sh -c 'echo up; exec cat'\n".encode())
    shell.expect(b"\n")
    shell.expect(b"up\r\n")
    for _ in range(3):
        shell.stop_job()
        shell.continue_job()
        shell.type(b"hello\n")
        shell.expect(b"hello\r\nhello\r\n")
    shell.type(b"\x03")
    shell.tells_status(130)


def test_a_continue_that_comes_late_is_not_passed_on(wait_until: Callable[..., None]) -> None:
    """It was for a stop that is over: the launcher was slow, and the command has stopped again."""

    def state(process: int) -> str:
        return (procfs.status_field(process, "State") or "?")[0]

    def turns(process: int) -> int:
        return int(procfs.status_field(process, "voluntary_ctxt_switches") or 0)

    def is_idle(process: int) -> bool:
        pending = procfs.status_field(process, "ShdPnd") or "0"
        return int(pending, 16) == 0 and state(process) == "S"

    with Child[bytes](
        [SCRIPT, *BASE, "--", "sh", "-c", "echo up; exec sleep 100"],
        stdout=subprocess.PIPE,
        start_new_session=True,
    ) as launcher:
        assert launcher.stdout is not None
        assert launcher.stdout.readline() == b"up\n"
        (init,) = processes_of(launcher.pid)
        (command,) = processes_of(init)
        pidfd = os.pidfd_open(init)
        try:
            for stop in range(1, 4):
                wait_until(lambda: is_idle(init), "process 1 has nothing to do")
                before = turns(init)
                os.kill(command, signal.SIGSTOP)
                wait_until(lambda: state(command) == "T", "stopped")
                # It is told a moment later, and counts stops by what it is told.
                wait_until(lambda: turns(init) > before and is_idle(init), "process 1 knows")  # noqa: B023
                signals.send_marked(pidfd, signal.SIGCONT, stop - 1)
                wait_until(lambda: is_idle(init), "process 1 has read it")
                assert state(command) == "T"
                signals.send_marked(pidfd, signal.SIGCONT, stop)
                wait_until(lambda: state(command) != "T", "continued")
        finally:
            os.close(pidfd)
            launcher.kill()


def test_a_command_that_is_not_found_is_told_as_ever(pyspaces: Launch) -> None:
    done = pyspaces(*BASE, "--", "/nonexistent")
    assert done.returncode == 127
    assert (
        done.stderr
        == "pyspaces: cannot execute the command: /nonexistent: No such file or directory\n"
    )


def test_killing_the_launcher_takes_everything(wait_until: Callable[..., None]) -> None:
    token = f"432.{os.getpid():07}"
    with Child[bytes](
        [SCRIPT, *BASE, "--", "sh", "-c", f"setsid sleep {token} & echo up; sleep {token}"],
        stdout=subprocess.PIPE,
    ) as launcher:
        assert launcher.stdout is not None
        assert launcher.stdout.readline() == b"up\n"
        wait_until(lambda: len(processes_with(token)) >= 2, "both run")
        launcher.kill()
    wait_until(lambda: not processes_with(token), "everything gone")


def test_the_reader_of_standard_output_sees_its_end(
    tmp_path: Path, wait_until: Callable[..., None]
) -> None:
    """Process 1 holds no copy: what has closed its output is done with it."""
    fifo = tmp_path / "go"
    os.mkfifo(fifo)
    with Child[bytes](
        [SCRIPT, *BASE, "--", "sh", "-c", f"echo up; exec >&- 2>&-; read line < {fifo}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as launcher:
        try:
            assert launcher.stdout is not None
            assert launcher.stdout.readline() == b"up\n"
            (init,) = processes_of(launcher.pid)
            output = os.readlink(f"/proc/self/fd/{launcher.stdout.fileno()}")
            if IS_ROOT:
                # The command may be up before process 1 is as far.
                wait_until(lambda: output not in _open_in(init), "the copy of process 1 closed")
            else:  # nobody else may look
                with pytest.raises(PermissionError):
                    os.listdir(f"/proc/{init}/fd")
            fifo.write_text("\n")
            assert launcher.wait(60) == 0
        finally:
            launcher.kill()


def _open_in(process: int) -> set[str]:
    found = set()
    for entry in Path(f"/proc/{process}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed in the meantime
            found.add(os.readlink(entry))
    return found
