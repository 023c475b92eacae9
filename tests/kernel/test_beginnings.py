"""How a command begins, and with whom it ends: argv0, death of the caller, process 1, nesting."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from conftest import SCRIPT, outcome
from usage import assert_refused, said

from pyspaces import launch, settings
from pyspaces.errors import SpaceError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import IO

    from conftest import Run

SHELL = ["/bin/sh", "-c", "printf '<%s>' \"$0\""]
AROUND = pytest.mark.parametrize(
    "around",
    [
        [],
        ["--no-fork"],
        ["--rlimit", "core=0"],
        pytest.param(["--user", "--init"], marks=pytest.mark.needs("userns", "pidns")),
    ],
    ids=lambda words: "".join(words) or "plain",
)
PLAIN = {**os.environ, "PATH": "/usr/bin:/bin"}
# What waits for a line, and shows that it is alive by printing it.
ECHO = ["cat"]
needs_bwrap = pytest.mark.skipif(shutil.which("bwrap") is None, reason="bwrap is not installed")


# --- argv0 ------------------------------------------------------------------------------------


@AROUND
def test_the_command_sees_the_name(pyspaces: Run, around: list[str]) -> None:
    name = "-sh ü"
    done = pyspaces("run", *around, "--argv0", name, "--", *SHELL)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"<{name}>"


def test_what_is_executed_stays_the_same(pyspaces: Run, tmp_path: Path) -> None:
    done = pyspaces("run", "--argv0", "nonesuch", "--", "sh", "-c", "readlink /proc/$$/exe")
    assert done.stdout.strip() == os.path.realpath(shutil.which("sh") or "")
    script = tmp_path / "script"
    script.write_text("echo $0 $1")  # has no #! line: a shell takes it, as with execvp(3)
    script.chmod(0o755)
    for around in ([], ["--rlimit", "core=0"]):
        done = pyspaces("run", *around, "--argv0", "other", "--", str(script), "x")
        assert done.stdout == f"{script} x\n"


def test_a_missing_command_is_named_as_it_was_given(pyspaces: Run) -> None:
    for around in ([], ["--rlimit", "core=0"]):
        done = pyspaces("run", *around, "--argv0", "other", "--", "nonesuch", env=PLAIN)
        assert (done.returncode, done.stderr) == (
            127,
            "pyspaces: cannot execute the command: nonesuch: No such file or directory\n",
        )


def test_a_plan_has_the_name() -> None:
    shown, read = said(
        [["run", "--argv0", "x", "--dry-run", "--json", "--", "true"], ["run", "--plan", "-"]],
        text=json.dumps(plan_with("a\0b")),
    )
    assert json.loads(shown[1])["life"]["argv0"] == "x"
    assert read[0] == 2
    assert "argv0: 'a\\x00b': holds a NUL" in read[1]


def plan_with(name: str) -> object:
    return {"version": 2, "command": ["true"], "life": {"argv0": name}}


# --- the death of the caller ------------------------------------------------------------------


@contextlib.contextmanager
def orphaned(*words: str) -> Iterator[tuple[IO[bytes], IO[bytes]]]:
    """Kill the caller of `words`, a command like cat; yield its input and its output."""
    # A shell, which gives its own input to what it runs, and does not keep it.
    script = 'exec 3<&0; "$@" <&3 3<&- & exec <&- 3<&-; wait'
    with subprocess.Popen(
        ["sh", "-c", script, "sh", *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as caller:
        try:
            assert caller.stdin is not None
            assert caller.stdout is not None
            caller.stdin.write(b"begin\n")
            caller.stdin.flush()
            assert caller.stdout.readline() == b"begin\n"
            caller.kill()
            caller.wait()
            yield caller.stdin, caller.stdout
        finally:
            caller.kill()


def answers(*words: str) -> bool:
    """Return whether a command like cat lives on without its caller."""
    with orphaned(*words) as (given, output):
        given.write(b"still\n")
        given.close()
        return output.read() == b"still\n"


def ends(*words: str) -> bool:
    """Return whether it ends with its caller, though its input does not."""
    with orphaned(*words) as (_, output):
        return output.read() == b""


@pytest.mark.parametrize(
    "around",
    [
        [],
        ["--no-fork"],
        pytest.param(["--no-fork", "--setuid", "1"], marks=pytest.mark.as_root),
        pytest.param(["--user", "--pid"], marks=pytest.mark.needs("userns", "pidns")),
        pytest.param(["--user", "--init"], marks=pytest.mark.needs("userns", "pidns")),
        pytest.param(["--user", "--no-fork"], marks=pytest.mark.needs("userns")),
    ],
    ids=lambda words: "".join(words) or "plain",
)
def test_the_command_dies_with_the_caller(around: list[str]) -> None:
    assert ends(SCRIPT, "run", "--die-with-parent", *around, "--", *ECHO)


def test_without_the_option_it_does_not() -> None:
    assert answers(SCRIPT, "run", "--", *ECHO)


@needs_bwrap
@pytest.mark.needs("userns")
def test_bwrap_does_the_same() -> None:
    assert ends("bwrap", "--dev-bind", "/", "/", "--die-with-parent", *ECHO)
    assert answers("bwrap", "--dev-bind", "/", "/", *ECHO)


def test_what_cannot_be_combined() -> None:
    rows = [
        (["--die-with-parent", "--no-kill-child"], "die-with-parent: cannot be combined with --no"),
        (["--argv0="], "argv0: '': is empty"),
        (["--as-pid-1", "--init"], "as-pid-1: cannot be combined with --init"),
        (["--as-pid-1", "--init-wait"], "as-pid-1: cannot be combined with --init"),
    ]
    assert_refused([(["--user", *words], error) for words, error in rows])
    held = ["run", "--hold", "--name", "x"]
    (first, second) = said([[*held, "--die-with-parent"], [*held, "--argv0", "x"]])
    assert "die-with-parent: cannot be combined with" in first[1]
    assert "hold: cannot be combined with --argv0" in second[1]
    assert (first[0], second[0]) == (2, 2)


# --- process 1 --------------------------------------------------------------------------------


@pytest.mark.needs("userns", "pidns")
def test_the_command_is_process_1(pyspaces: Run) -> None:
    assert pyspaces("run", "--user", "--as-pid-1", "--", "sh", "-c", "echo $$").stdout == "1\n"


# --- no user namespaces -----------------------------------------------------------------------

DISABLED = "cannot make sure that user namespaces are disabled: "


@pytest.mark.needs("userns")
@pytest.mark.parametrize("around", [[], ["--no-fork"], ["--init"], ["--seccomp", "default"]])
def test_what_can_create_user_namespaces_does_not_run(
    pyspaces: Run, tmp_path: Path, around: list[str]
) -> None:
    words = ("run", "--user", "--assert-userns-disabled", *around, "--", "touch")
    done = pyspaces(*words, str(tmp_path / "ran"))
    assert (done.returncode, list(tmp_path.iterdir())) == (125, [])
    assert done.stderr == (
        f"pyspaces: {DISABLED}the command can create user namespaces\n"
        "hint: add --no-nested-users, which prevents it\n"
    )


@pytest.mark.needs("userns", "pidns", "netns")
def test_what_cannot_create_any_runs(pyspaces: Run) -> None:
    for words in (["--user", "--no-nested-users"], ["--sandbox"]):
        done = pyspaces("run", *words, "--assert-userns-disabled", "--", "echo", "ran")
        assert (done.stdout, done.stderr) == ("ran\n", "")


@pytest.mark.needs("userns")
def test_who_could_raise_the_limit_again_does_not_run(pyspaces: Run) -> None:
    """A limit that nobody has made final: root of the namespace has CAP_SYS_RESOURCE."""
    limit = "echo 0 >/proc/sys/user/max_user_namespaces && exec"
    inner = [SCRIPT, "run", "--assert-userns-disabled", "--", "echo", "r"]
    words = ("run", "--user", "--", "sh", "-c", f'{limit} "$@"', "sh")
    done = pyspaces(*words, *inner)
    assert (done.returncode, done.stdout) == (125, "")
    assert done.stderr.startswith(f"pyspaces: {DISABLED}the command could raise the limit")
    dropped = [*inner[:2], "--cap-drop", "sys_resource", *inner[2:]]
    assert pyspaces(*words, *dropped).stdout == "r\n"


@needs_bwrap
@pytest.mark.needs("userns")
def test_the_answer_is_that_of_bwrap(pyspaces: Run) -> None:
    base = ["--dev-bind", "/", "/", "--assert-userns-disabled"]
    for ours, theirs in (
        (["--user"], ["--unshare-user"]),
        (["--user", "--no-nested-users"], ["--unshare-user", "--disable-userns"]),
    ):
        done = pyspaces("run", *ours, "--assert-userns-disabled", "--", "true")
        asked = outcome(["bwrap", *theirs, *base, "true"])
        assert (done.returncode == 0) == (asked.returncode == 0)


@pytest.mark.needs("userns", "pidns")
def test_a_program_asks_for_it_too() -> None:
    plan = settings.plan_from({"user": True, "assert_userns_disabled": True, "command": ["true"]})
    with pytest.raises(SpaceError, match="the command can create user namespaces"):
        launch.start(plan)


# --- priorities that a user cannot have -------------------------------------------------------


@pytest.mark.needs("userns")
@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["--nice", "-20"], "may set a nice value below"),
        (["--ionice", "realtime:0"], "may use the class realtime: --ionice best-effort:0"),
        (["--oom-score-adj", "-1000"], "outside of every user namespace may lower it: here it is"),
    ],
)
@pytest.mark.parametrize(
    "around", [pytest.param([], marks=pytest.mark.as_ordinary), ["--user"]], ids=["plain", "user"]
)
def test_a_priority_that_is_refused_has_a_hint(
    pyspaces: Run, tmp_path: Path, words: list[str], hint: str, around: list[str]
) -> None:
    inner = [SCRIPT, "run", *words, "--", "touch", str(tmp_path / "ran")]
    done = pyspaces("run", *around, "--", *inner)
    assert (done.returncode, list(tmp_path.iterdir())) == (125, [])
    assert hint in done.stderr
