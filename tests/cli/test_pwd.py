"""PWD of the command names the directory in which it starts."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from children import Child
from conftest import SCRIPT, outcome, processes_of

from pyspaces import Container

TYPE_CHECKING = False
if TYPE_CHECKING:
    from conftest import Run

WHERE = ("readlink", "/proc/self/cwd")

pytestmark = pytest.mark.needs("userns", "pidns")


def told(*options: str, pwd: str | None = "/stale", cwd: str = "/", program: str = "run") -> str:
    """Return PWD as the command has it, which is where it is unless it says nothing."""
    environment = {name: value for name, value in os.environ.items() if name != "PWD"}
    environment |= {} if pwd is None else {"PWD": pwd}

    def output(*command: str) -> str:
        return outcome(
            [SCRIPT, program, *options, "--", *command], check=True, cwd=cwd, env=environment
        ).stdout

    # Neither of these is a shell, which would set it.
    rows = dict(row.split("=", 1) for row in output("env").splitlines() if "=" in row)
    value = rows.get("PWD", "None")
    assert value in (pwd, "None") or os.path.realpath(value) == output(*WHERE).rstrip("\n")
    return value


@pytest.fixture
def link(tmp_path: Path) -> Path:
    """Return a symbolic link to a directory."""
    (tmp_path / "real" / "sub").mkdir(parents=True)
    (tmp_path / "link").symlink_to("real")
    return tmp_path / "link"


@pytest.mark.anyone
@pytest.mark.crossed(1)
@pytest.mark.parametrize("more", [(), ("--no-fork",), ("--pid",), ("--pid", "--init")], ids=str)
@pytest.mark.parametrize(
    ("workdir", "cwd", "expected"),
    [
        *(("/usr", "/", "/usr"), ("usr", "/", "/usr"), ("//usr/", "/", "/usr")),
        *(("/", "/", "/"), (".", "/", "/"), ("..", "/", "/")),
        ("/usr/../usr/./bin", "/", os.path.realpath("/usr/bin")),
        ("<link>", "/", "<link>"),  # the path that people know
        *(("sub", "<link>", "<real>/sub"), ("..", "<link>", "<real>/..")),
    ],
)
def test_with_workdir(
    more: tuple[str, ...], link: Path, workdir: str, cwd: str, expected: str
) -> None:
    def path(text: str) -> str:
        return text.replace("<link>", str(link)).replace("<real>", os.path.realpath(link))

    wanted = os.path.normpath(path(expected))
    assert told("--user", *more, "--workdir", path(workdir), cwd=path(cwd)) == wanted


def test_a_value_that_is_right_stays(link: Path) -> None:
    path = f"{link}/sub"
    assert told("--user", "--workdir", os.path.realpath(path), pwd=path) == path
    assert told("--user", "--tmpfs", "/mnt", cwd=path, pwd=path) == path
    assert told("--user", "--workdir", "/usr", pwd="/usr/../usr") == "/usr"
    assert told("--user", "--workdir", "/usr", pwd="usr") == "/usr"
    assert told("--user", "--workdir", "/usr", pwd=None) == "/usr"


def test_with_a_new_root(tmp_path: Path) -> None:
    home = ("--setenv", "HOME", "/usr")
    bare = ("--user", "--pid", "--host-ro", *home)
    assert told(*bare, cwd="/etc", pwd="/etc") == "/etc"
    assert told(*bare, cwd="/mnt", pwd="/mnt") == "/usr", "the directory is not there: HOME"
    assert told(*bare, "--setenv", "HOME", "/none", cwd="/mnt", pwd="/mnt") == "/"
    assert told("--user", "--root", "/", cwd="/usr") == "/usr"
    there = ("--bind", str(tmp_path), "/src", "--workdir", "/src")
    assert told(*bare, *there, cwd="/mnt", pwd="/mnt") == "/src"


def test_what_a_new_root_hides_is_named(pyspaces: Run, tmp_path: Path) -> None:
    program = tmp_path / "hidden-program"
    program.write_text("#!/bin/sh\necho ran\n")
    program.chmod(0o755)
    bare = ("run", "--user", "--pid", "--host-ro", "--setenv", "PATH", f"/usr/bin:/bin:{tmp_path}")
    environment = {**os.environ, "PATH": f"{os.environ['PATH']}:{tmp_path}"}
    told = f"hint: {program} is not shown inside: add --ro-bind {program} {program}, or --bind"
    for word in (program.name, str(program), f"./{program.name}"):
        done = pyspaces(*bare, "--", word, cwd=tmp_path, env=environment)
        assert (done.returncode, told in done.stderr) == (127, True), done.stderr
    shown = ("--ro-bind", str(program), str(program))
    for word in (program.name, str(program), f"./{program.name}"):
        done = pyspaces(*bare, *shown, "--", word, cwd=tmp_path, env=environment)
        assert done.stdout == "ran\n", done.stderr
    done = pyspaces(*bare, "--workdir", str(tmp_path), "--", "true")
    assert f"hint: {tmp_path} is not shown inside" in done.stderr
    # As python of a virtual environment: what the link leads to is shown, but not the link.
    link = tmp_path / "link"
    link.symlink_to("/usr/bin/true")
    done = pyspaces(*bare, "--", str(link))
    assert f"hint: {link} is not shown inside" in done.stderr
    assert pyspaces(*bare, "--ro-bind", str(link), str(link), "--", str(link)).returncode == 0
    # What is nowhere, and what is shown but has no interpreter, is not hidden.
    assert "hint" not in pyspaces(*bare, "--", "./no-such-program", cwd=tmp_path).stderr
    program.write_text("#!/no/such/interpreter\n")
    assert "not shown" not in pyspaces(*bare, *shown, "--", str(program)).stderr


def test_nothing_that_was_said_is_changed() -> None:
    there = ("--user", "--workdir", "/usr")
    assert told("--user", pwd="/stale") == "/stale", "nothing changes the directory"
    assert told("--user", "--pid", "--mount", pwd="/stale") == "/stale"
    assert told(*there, "--setenv", "PWD", "/stale") == "/stale"
    assert told(*there, "--unsetenv", "PWD") == "None"
    assert told(*there, "--clearenv", "--setenv", "PATH", os.environ["PATH"]) == "None"
    assert told(*there, "--keep-env", "PATH") == "None"
    assert told(*there, "--keep-env", "PATH,PWD") == "/usr"
    assert told(*there, "--keep-env", "P*") == "/usr"


def test_a_directory_without_a_path(tmp_path: Path) -> None:
    """Removed meanwhile: then it is better to say nothing than something wrong."""
    words = [SCRIPT, "run", "--user", "--workdir", ".", "--", "env"]
    gone = tmp_path / "gone"
    gone.mkdir()
    done = outcome(["sh", "-ec", f'cd {gone}; rmdir {gone}; exec "$@"', "sh", *words], check=True)
    assert "\nPWD=" not in f"\n{done.stdout}"


def test_enter(tmp_path: Path) -> None:
    words = [SCRIPT, "run", "--user", "--mount", "--tmpfs", "/mnt", "--workdir", "/mnt"]
    with Child[bytes](
        [*words, "--", "sh", "-c", "echo; exec sleep 1000"], stdout=subprocess.PIPE
    ) as first:
        assert first.stdout is not None
        first.stdout.readline()
        (pid,) = processes_of(first.pid)
        enter(str(pid), str(tmp_path))


def enter(target: str, here: str) -> None:
    assert told(target, program="enter", cwd=here) == "/mnt", "where the target is"
    assert told(target, "--workdir", "/usr", program="enter") == "/usr"
    assert told(target, "--user", "--workdir", "/usr", program="enter") == "/usr"
    assert told(target, "--user", program="enter", cwd=here) == "/stale", "nothing changes"
    assert told(target, "--no-root", program="enter", cwd=here) == "/"
    assert told(target, "--env-of-target", program="enter", pwd=None) == "/mnt"
    assert told(target, "--setenv", "PWD", "/stale", program="enter") == "/stale"


def _say(path: str) -> None:
    with open(path, "w") as file:
        file.write(os.environ["PWD"] + " " + os.getcwd())


def test_a_function(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PWD", "/stale")
    for workdir, expected in (("/usr", "/usr"), (None, "/stale")):
        out = tmp_path / "out"
        child = Container(target=_say, args=(str(out),), user=True, workdir=workdir)
        child.start()
        child.join(60)
        assert out.read_text().split()[0] == expected
    assert os.environ["PWD"] == "/stale"
