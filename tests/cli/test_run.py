"""`pyspaces run` as a person uses it: what is printed, and with which status it ends."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
from pathlib import Path

import pytest
from children import refused
from conftest import SCRIPT, outcome
from terminal import Screen

from pyspaces import settings
from pyspaces.commands import helping

TYPE_CHECKING = False
if TYPE_CHECKING:
    from conftest import Run
    from pytest_console_scripts import ScriptRunner

pytestmark = pytest.mark.needs("userns", "pidns")


def test_the_installed_console_script(script_runner: ScriptRunner) -> None:
    done = script_runner.run([SCRIPT, "run", "--user", "--pid", "--", "sh", "-c", "echo $$"])
    assert (done.returncode, done.stdout, done.stderr) == (0, "1\n", "")


@pytest.mark.parametrize(
    ("options", "command", "status"),
    [
        (["--user"], ["true"], 0),
        (["--user"], ["sh", "-c", "exit 42"], 42),
        (["--user", "--pid"], ["sh", "-c", "exit 255"], 255),
        (["--user"], ["sh", "-c", "kill -TERM $$"], 143),
        (["--user"], ["sh", "-c", "kill -KILL $$"], 137),
        (["--user"], ["/nonexistent"], 127),
        (["--user"], ["no-such-program-anywhere"], 127),
        (["--user"], ["/etc/passwd"], 126),
        (["--user"], ["/etc/passwd/x"], 127),
        (["--user"], ["/etc"], 126),
        ([], ["sh", "-c", "exit 3"], 3),
    ],
)
def test_exit_status(pyspaces: Run, options: list[str], command: list[str], status: int) -> None:
    done = pyspaces("run", *options, "--", *command)
    assert done.returncode == status
    if status in (126, 127):
        first, *details = done.stderr.splitlines()
        assert command[0] in first
        assert first.startswith("pyspaces: cannot execute the command: ")
        reasons = {
            "/etc/passwd": ["  nobody has the permission to execute this file"],
            "/etc": ["  it is a directory"],
        }
        assert details == reasons.get(command[0], [])
    else:
        assert done.stderr == ""


def test_options_end_at_the_first_word_that_is_none(pyspaces: Run) -> None:
    assert pyspaces("run", "--user", "echo", "-l", "--pid").stdout == "-l --pid\n"
    assert pyspaces("run", "--user", "--", "echo", "--", "-x").stdout == "-- -x\n"


def test_short_options_can_be_joined(pyspaces: Run) -> None:
    assert pyspaces("run", "-Upm", "readlink", "/proc/self").stdout == "1\n"


def test_a_script_without_an_interpreter_line_is_run_by_sh(pyspaces: Run, tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("echo $1 from $0\n")
    script.chmod(0o755)
    done = pyspaces("run", "--user", "--", str(script), "hello")
    assert done.stdout == f"hello from {script}\n", done.stderr


def test_a_missing_interpreter_is_told_from_a_missing_file(pyspaces: Run, tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("#!/no/such/interpreter\n")
    script.chmod(0o755)
    done = pyspaces("run", "--user", "--", str(script))
    assert done.returncode == 127
    assert "the file is there, but not the interpreter that it names" in done.stderr


def test_a_denied_directory_of_path_hides_no_later_program(pyspaces: Run, tmp_path: Path) -> None:
    """As execvp(3): EACCES is told only where nothing else is found."""
    first, second = tmp_path / "a", tmp_path / "b"
    for directory, mode in ((first, 0o644), (second, 0o755)):
        directory.mkdir()
        (directory / "tool").write_text("#!/bin/sh\necho found\n")
        (directory / "tool").chmod(mode)
    path = f"{first}:{second}"
    assert pyspaces("run", "--user", "tool", env={"PATH": f"{path}:/bin"}).stdout == "found\n"
    done = pyspaces("run", "--user", "tool", env={"PATH": str(first)})
    assert (done.returncode, f"{first}/tool" in done.stderr) == (126, True)


def test_no_command_without_a_terminal_is_wrong_usage(pyspaces: Run) -> None:
    done = pyspaces("run", "--user")
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "pyspaces: no command given, and standard input is not a terminal",
        "hint: put it after the options: pyspaces run --user -- ls -l",
    ]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--no-such-option", "true"], "no such option"),
        (["--hostname"], "--hostname requires a value"),
        (
            ["--map-uid", "x", "true"],
            "map-uid: x: is neither one of root, current, auto, subids, all, none",
        ),
        (["--map-uid", "0,1,0", "true"], "map-uid: 0,1,0: the count is 0"),
        (["--map-uid", "0,4294967294,2", "true"], "runs past 4294967294, the largest id"),
        (["-M", "0,0,2", "-M", "1,9,1", "true"], "-M: 1 9 1: overlaps with 0 0 2"),
        (["-r", "-c", "true"], "overlaps with"),
        (["-M", "none", "-M", "0,1,1", "true"], "none: leaves the map unwritten"),
        (["--share", "net", "true"], "share: requires --all"),
        (["--all", "--share", "nets", "true"], "share: 'nets' is not a namespace"),
        (["--all", "--share", "uts", "--hostname", "x", "true"], "--hostname asks for a new one"),
        (["--boottime", "soon", "true"], "boottime: 'soon' is not a number of seconds"),
        (["--propagation", "all", "true"], "propagation: all: is none of private"),
        (["--setgroups", "maybe", "true"], "setgroups: maybe: is neither allow nor deny"),
        (["--setenv", "A=B", "x", "true"], "cannot hold '='"),
        (["--hostname", "", "true"], "hostname: a name cannot be empty"),
        (["--workdir", "", "true"], "workdir: a path cannot be empty"),
    ],
)
def test_wrong_usage(capsys: pytest.CaptureFixture[str], words: list[str], message: str) -> None:
    code, output, told = refused(capsys, "run", *words)
    assert (code, output) == (2, "")
    assert message in told


def test_every_fault_is_told_at_once(pyspaces: Run) -> None:
    done = pyspaces("run", "-M", "x", "-G", "y", "--boottime", "z", "--hostname", "", "true")
    for setting in ("-M", "-G", "boottime", "hostname"):
        assert f"{setting}: " in done.stderr


def test_more_than_340_records_are_refused(pyspaces: Run) -> None:
    spec = ",".join(f"{2 * n} {2 * n} 1" for n in range(341))
    done = pyspaces("run", "-M", spec, "true")
    assert done.returncode == 2
    assert "680 680 1: is record 341 of 341; the kernel takes 340" in done.stderr


def test_a_map_over_4095_bytes_is_refused(pyspaces: Run) -> None:
    spec = ",".join(f"{2000000000 + 2 * n} {2000000000 + 2 * n} 1" for n in range(200))
    done = pyspaces("run", "-M", spec, "true")
    assert done.returncode == 2
    assert "the kernel takes 4095" in done.stderr


def test_an_error_on_a_terminal_names_the_section_with_more(pyspaces: Run) -> None:
    words = ["run", "--user", "--bind", "/nowhere", "/tmp", "--", "true"]
    with contextlib.closing(Screen([SCRIPT, *words])) as screen:
        screen.expect(b"hint: to ignore a missing source")
        screen.expect(b"see pyspaces-hints(7), missing-source\r\n")
        assert screen.end() == 125
    told = pyspaces(*words).stderr
    assert "missing source" in told
    assert "pyspaces-hints" not in told


def test_verbose_tells_each_step(pyspaces: Run) -> None:
    done = pyspaces("run", "-v", "--user", "--uts", "--hostname", "box", "--", "echo", "out")
    assert done.stdout == "out\n"
    lines = done.stderr.splitlines()
    assert all(line.startswith("pyspaces: ") for line in lines)
    told = "\n".join(lines)
    assert "create the namespaces: user, uts" in told
    assert f"map user ids: 0 → {os.geteuid()}, count 1" in told
    assert "set the host name: box" in told
    assert "execute the command: echo out" in told
    assert "exited with 0" in lines[-1]


def test_debug_adds_tracebacks_of_both_processes(pyspaces: Run) -> None:
    words = ["run", "--user", "-w", "/nonexistent", "--", "echo", "--debug"]
    assert "Traceback" not in pyspaces(*words).stderr
    done = pyspaces("run", "--debug", *words[1:])
    assert done.returncode == 125
    assert "in the new process:\n" in done.stderr
    assert "inner/directory.py:" in done.stderr
    assert "Traceback" in done.stderr


def test_help_has_three_lengths(pyspaces: Run) -> None:
    told = {}
    for option in ("-h", "--help", "--help-all"):
        done = pyspaces("run", option, env={**os.environ, "COLUMNS": "80"})
        assert done.returncode == 0
        lines = done.stdout.splitlines()
        assert max(map(len, lines)) <= 80
        headings = [line[:-1] for line in lines if line.endswith(":") and line[0] != " "]
        told[option] = headings, {line.split()[0].rstrip(",") for line in lines if "  -" in line}
    short, usual, whole = told.values()
    assert (short[0], usual[0]) == ([], ["Examples", *helping.WANTS])
    assert whole[0] == ["Examples", *settings.GROUPS, "General"]
    assert short[1] == usual[1] < whole[1]
    assert 20 <= len(usual[1]) <= 30


def test_every_group_is_one_that_people_want() -> None:
    groups = [group for groups in helping.WANTS.values() for group in groups]
    assert sorted(groups) == sorted([*settings.GROUPS, "General"])


def test_colours_of_help(pyspaces: Run) -> None:
    for words, environment, coloured in (
        (["--color=always"], {}, True),
        (["--color", "always"], {"NO_COLOR": "1"}, True),
        (["--color=never"], {}, False),
        ([], {}, False),
    ):
        done = pyspaces(*words, "run", "--help", env=os.environ | environment)
        assert ("\x1b[1m" in done.stdout, "\x1b[36m" in done.stdout) == (coloured, coloured)
    plain = re.sub(r"\x1b\[\d*m", "", pyspaces("--color=always", "run", "--help").stdout)
    assert plain == pyspaces("run", "--help").stdout


def test_help_opens_the_man_page(pyspaces: Run, tmp_path: Path) -> None:
    (tmp_path / "man").write_text('#!/bin/sh\necho "man $*"\n')
    (tmp_path / "man").chmod(0o755)
    path = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = pyspaces("help", "run", env=path)
    assert done.returncode == 0
    assert re.fullmatch(r"man /\S+/pyspaces-run\.1\n", done.stdout)
    assert "security" in pyspaces("help").stdout.splitlines()[-1]
    assert pyspaces("help", "rnu").stderr.endswith("hint: did you mean run?\n")


@pytest.mark.parametrize("words", [["--help"], ["run", "--help"], ["completion", "bash"]])
def test_a_full_disk_under_our_own_output_is_told(words: list[str]) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [SCRIPT, *words], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode == 125
    assert done.stderr == "pyspaces: standard output: cannot write: No space left on device\n"


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (["run", "--user", "/nonexistent"], 127),
        (["run", "-v", "--user", "--", "sh", "-c", "exit 7"], 7),
        (["run", "--no-such-option"], 2),
    ],
)
def test_a_full_disk_under_our_messages_changes_no_status(words: list[str], status: int) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run([SCRIPT, *words], stderr=full, check=False)
    assert done.returncode == status


def test_a_reader_that_has_gone_ends_our_output_quietly() -> None:
    done = outcome(["sh", "-c", f"{{ {SCRIPT} run --help; echo $? >&2; }} | true"])
    assert done.stderr.strip() in ("0", "141")  # written before it went, or SIGPIPE


def test_a_pipe_between_two_launches(pyspaces: Run) -> None:
    """SIGPIPE has its default action again: `yes` ends when its reader has gone."""
    done = outcome(
        ["sh", "-c", f"{{ {SCRIPT} run --user yes; echo $? >&2; }} | {SCRIPT} run --user head -n1"],
        timeout=60,
    )
    assert (done.stdout, done.stderr) == ("y\n", "141\n")
