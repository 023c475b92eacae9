"""What the command inherits: environment, descriptors, signals; nothing of ours."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import PROBE, SCRIPT, outcome

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Run

pytestmark = pytest.mark.needs("userns")
PATH = os.environ["PATH"]


def environment(done: subprocess.CompletedProcess[str]) -> dict[str, str]:
    assert done.returncode == 0, done.stderr
    return dict(line.split("=", 1) for line in done.stdout.split("\0") if line)


def test_the_environment_passes_through_unchanged(pyspaces: Run) -> None:
    given = {"PATH": PATH, "A": "1", "EMPTY": "", "ODD": "a=b\nc"}
    done = pyspaces("run", "--user", "--", "env", "-0", env=given)
    assert environment(done) == given


@pytest.mark.parametrize("locale", [{}, {"LANG": "C"}, {"LC_CTYPE": "C.UTF-8"}])
def test_python_adds_no_locale(pyspaces: Run, locale: dict[str, str]) -> None:
    """PEP 538: started in the C locale, Python sets LC_CTYPE for its children."""
    given = {"PATH": PATH, **locale}
    assert environment(pyspaces("run", "--user", "--", "env", "-0", env=given)) == given


def test_precedence_of_the_environment_options(pyspaces: Run) -> None:
    given = {"PATH": PATH, "KEPT": "1", "LC_TIME": "C", "LC_ALL": "C", "GONE": "1", "BOTH": "old"}
    done = pyspaces(
        "run", "--user", "--clearenv", "--keep-env", "PATH,LC_*,KEPT", "--unsetenv", "LC_TIME",
        "--setenv", "BOTH", "new", "--setenv", "KEPT", "2", "--", "env", "-0",
        env=given,
    )  # fmt: skip
    assert environment(done) == {"PATH": PATH, "LC_ALL": "C", "KEPT": "2", "BOTH": "new"}


def test_path_of_the_new_environment_finds_the_command(pyspaces: Run, tmp_path: Path) -> None:
    tool = tmp_path / "tool"
    tool.write_text("#!/bin/sh\necho found\n")
    tool.chmod(0o755)
    done = pyspaces("run", "--user", "--setenv", "PATH", str(tmp_path), "--", "tool")
    assert done.stdout == "found\n"


def test_a_cleared_environment_cannot_be_read_from_the_launcher(pyspaces: Run) -> None:
    """Without a user namespace around it, the command may read its parent's environ."""
    script = "cat /proc/$PPID/environ | tr -d '\\0'"
    given = {"PATH": PATH, "SECRET": "sesame"}
    assert "sesame" in pyspaces("run", "--", "sh", "-c", script, env=given).stdout
    done = pyspaces(
        "run", "--clearenv", "--setenv", "PATH", PATH, "--", "sh", "-c", script, env=given
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_non_ascii_words_arrive_as_they_are() -> None:
    words = [b"\xff\xfe", "grün".encode(), b"a b", b""]
    done = subprocess.run(
        [SCRIPT, "run", "--user", "--", "printf", b"%s|", *words], capture_output=True, check=True
    )
    assert done.stdout == b"".join(word + b"|" for word in words)


def test_no_descriptor_of_ours_reaches_the_command(pyspaces: Run) -> None:
    done = pyspaces("run", "--all", "--", sys.executable, "-I", "-S", PROBE, "fds")
    assert json.loads(done.stdout) == [0, 1, 2]


def test_descriptors_that_the_caller_left_open_stay_open() -> None:
    reading, writing = os.pipe()
    try:
        done = subprocess.run(
            [
                SCRIPT,
                "run",
                "--user",
                "--pid",
                "--",
                "sh",
                "-c",
                f"echo passed > /dev/fd/{writing}",
            ],
            pass_fds=[writing],
            check=False,
        )
        assert done.returncode == 0
        assert os.read(reading, 100) == b"passed\n"
    finally:
        os.close(reading)
        os.close(writing)


def test_standard_streams_pass_through(pyspaces: Run) -> None:
    done = pyspaces("run", "--user", "--", "sh", "-c", "cat; echo error >&2", input="hi")
    assert (done.stdout, done.stderr) == ("hi", "error\n")


@pytest.mark.parametrize("closed", ["0<&-", "1>&-", "2>&-", "0<&- 1>&- 2>&-"])
def test_a_closed_standard_stream_stays_closed(tmp_path: Path, closed: str) -> None:
    report = tmp_path / "fds"
    script = "ls /proc/self/fd > " + str(report)
    subprocess.run(
        ["sh", "-c", f"{SCRIPT} run --user --pid -- sh -c '{script}' {closed}"], check=True
    )
    direct = tmp_path / "direct"
    subprocess.run(["sh", "-c", f"sh -c '{script.replace('fds', 'direct')}' {closed}"], check=True)
    assert report.read_text() == direct.read_text()


def test_an_error_with_closed_stderr_has_its_status() -> None:
    done = subprocess.run(f"{SCRIPT} run --user -- /nonexistent 2>&-", shell=True, check=False)
    assert done.returncode == 127


def test_a_message_does_not_go_to_the_file_that_has_taken_the_place_of_stderr() -> None:
    script = (
        "import os; from pyspaces.launch.services import tell_people;"
        "reading, writing = os.pipe(); os.set_blocking(reading, False); assert writing == 2;"
        "tell_people('to nobody'); os.close(writing); print(os.read(reading, 100))"
    )
    done = outcome(["sh", "-c", 'exec "$@" <&- 2>&-', "sh", sys.executable, "-c", script])
    assert done.stdout == "b''\n"


def masks(prefix: list[str], prepare: Callable[[], None]) -> dict[str, str]:
    done = outcome([*prefix, "cat", "/proc/self/status"], preexec_fn=prepare, check=True)
    rows = (line.split(":", 1) for line in done.stdout.splitlines())
    return {name: value.strip() for name, value in rows if name in ("SigBlk", "SigIgn", "SigCgt")}


def _nothing() -> None:
    pass


def _nohup() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


def _background() -> None:
    """What a shell without job control does for `command &`."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGQUIT, signal.SIG_IGN)


def _no_children() -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)


def _blocked() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1, signal.SIGTERM, signal.SIGRTMIN])


@pytest.mark.anyone
@pytest.mark.crossed(1)
@pytest.mark.parametrize("prepare", [_nothing, _nohup, _background, _no_children, _blocked])
@pytest.mark.parametrize("options", [["--user"], ["--all"], []])
def test_signals_are_those_of_the_caller(prepare: Callable[[], None], options: list[str]) -> None:
    """The same as without us: Python's own ignoring of SIGPIPE and SIGXFSZ is undone."""
    assert masks([SCRIPT, "run", *options, "--"], prepare) == masks([], prepare)


def test_sigchld_ignored_by_the_caller_loses_no_status() -> None:
    done = subprocess.run(
        [SCRIPT, "run", "--user", "--pid", "--", "sh", "-c", "exit 7"],
        preexec_fn=_no_children,
        check=False,
    )
    assert done.returncode == 7
