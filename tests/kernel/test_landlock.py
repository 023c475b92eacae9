"""Access by Landlock, tried from inside: what is allowed works, all else is refused."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import SCRIPT, outcome, without

from pyspaces import Container, launch, settings
from pyspaces.features.confinement import ruleset
from pyspaces.host import check

TYPE_CHECKING = False
if TYPE_CHECKING:
    from conftest import Run

ABI = next(iter(check.examine(["landlock"]))).evidence.removeprefix("ABI ")
pytestmark = pytest.mark.skipif(
    not ABI.isdecimal() or int(ABI) < 6, reason=f"needs Landlock of ABI 6: {ABI}"
)
AROUND = pytest.mark.parametrize(
    "around",
    [
        pytest.param([], marks=pytest.mark.stress),  # as the next one, but for the fork
        ["--no-fork"],
        pytest.param(
            ["--user", "--pid"], marks=[pytest.mark.needs("userns", "pidns"), pytest.mark.stress]
        ),
        pytest.param(["--user", "--init"], marks=pytest.mark.needs("userns", "pidns")),
    ],
    ids=lambda words: "".join(words) or "plain",
)
# What the interpreter itself needs.
OF_PYTHON = [f"--allow-exec={path}" for path in {sys.base_prefix, sys.prefix, "/usr"}]
OF_PYTHON += [f"--allow-exec={path}" for path in ("/lib", "/lib64", "/bin") if os.path.exists(path)]


def attempts(pyspaces: Run, *words: str, code: list[str], **more: object) -> list[str]:
    """Run statements inside; return what each came to: `ok`, or the name of an errno."""
    script = "import errno, os, socket, sys\ndef attempt(text):\n  try: exec(text, globals())\n"
    script += "  except OSError as e: return errno.errorcode[e.errno]\n  return 'ok'\n"
    script += f"print(*[attempt(text) for text in {code!r}])"
    command = [sys.executable, "-I", "-S", "-c", script]
    done = pyspaces("run", *OF_PYTHON, *words, "--", *command, **more)
    assert (done.returncode, done.stderr) == (0, ""), done
    return done.stdout.split()


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in ("read", "write", "other"):
        (tmp_path / name / "inner").mkdir(parents=True)
        (tmp_path / name / "file").write_text(name)
    (tmp_path / "single").write_text("single")
    (tmp_path / "write" / "program").write_text("#!/bin/sh\n")
    (tmp_path / "write" / "program").chmod(0o755)
    return tmp_path


@AROUND
def test_files_can_be_read_written_or_neither(pyspaces: Run, tree: Path, around: list[str]) -> None:
    words = [f"--allow-read={tree / 'read'}", f"--allow-write={tree / 'write'}"]
    found = attempts(
        pyspaces,
        *around,
        *words,
        f"--allow-read={tree / 'single'}",
        code=[
            f"open('{tree}/read/file').read()",
            f"os.listdir('{tree}/read/inner')",
            f"open('{tree}/single').read()",
            f"open('{tree}/read/file', 'a')",
            f"os.mkdir('{tree}/read/new')",
            f"os.unlink('{tree}/read/file')",
            f"os.truncate('{tree}/read/file', 0)",
            f"open('{tree}/write/file', 'a').write('x')",
            f"os.truncate('{tree}/write/file', 0)",
            f"os.mkdir('{tree}/write/new')",
            f"os.rename('{tree}/write/file', '{tree}/write/new/file')",
            f"os.symlink('x', '{tree}/write/link')",
            f"open('{tree}/write/new/file').read()",
            f"open('{tree}/other/file')",
            f"os.listdir('{tree}')",
            f"os.rename('{tree}/write/new/file', '{tree}/other/file')",
            f"open('{tree}/write/../other/file')",
            "open('/etc/passwd')",
            f"os.execv('{tree}/write/program', ['x'])",
        ],
    )
    assert found == (["ok"] * 3 + ["EACCES"] * 4 + ["ok"] * 6 + ["EACCES"] * 6)


def test_links_lead_nowhere_else(pyspaces: Run, tree: Path) -> None:
    """A rule is for the file that its path leads to, and not for the path."""
    (tree / "read" / "link").symlink_to(tree / "other")
    (tree / "way").symlink_to(tree / "read")
    code = [f"open('{tree}/read/link/file')", f"open('{tree}/read/file')"]
    assert attempts(pyspaces, f"--allow-read={tree}/way", code=code) == ["EACCES", "ok"]


def test_paths_are_those_inside(pyspaces: Run, tree: Path) -> None:
    words = ["--user", "--pid"] if os.geteuid() else []
    words += ["--bind", str(tree / "read"), "/mnt", "--allow-read=/mnt", "--workdir", str(tree)]
    code = ["open('/mnt/file')", f"open('{tree}/read/file')", "open('single')"]
    # The same directory at another place: a rule is for what is there.
    assert attempts(pyspaces, *words, "--allow-read=single", code=code) == ["ok", "ok", "ok"]


def test_what_is_open_stays_open(pyspaces: Run, tree: Path) -> None:
    with open(tree / "other" / "file") as file:
        found = attempts(pyspaces, code=["assert sys.stdin.read() == 'other'"], stdin=file)
    assert found == ["ok"]


@AROUND
def test_ports(pyspaces: Run, around: list[str]) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as one,
        socket.create_server(("::1", 0), family=10) as two,
    ):
        ports = [server.getsockname()[1] for server in (one, two)]
        code = [
            f"socket.create_connection(('127.0.0.1', {ports[0]}))",
            f"socket.create_connection(('::1', {ports[1]}))",
            "socket.create_server(('127.0.0.1', 0))",
        ]
        assert attempts(
            pyspaces, *around, f"--allow-connect={ports[0]}", "--allow-bind=none", code=code
        ) == ["ok", "EACCES", "EACCES"]
        words = ["--allow-connect=none", "--allow-bind=0"]
        assert attempts(pyspaces, *around, *words, code=code) == ["EACCES", "EACCES", "ok"]
        words = [f"--allow-connect={ports[0]},{ports[1]}"]
        assert attempts(pyspaces, *around, *words, code=code) == ["ok", "ok", "ok"]


def test_what_it_does_not_cover_is_as_the_man_page_says(pyspaces: Run, tmp_path: Path) -> None:
    """UDP, and sockets that have a path."""
    with socket.socket(socket.AF_UNIX) as server, socket.socket(type=socket.SOCK_DGRAM) as udp:
        server.bind(str(tmp_path / "s"))
        server.listen()
        udp.bind(("127.0.0.1", 0))
        code = [
            f"socket.socket(socket.AF_UNIX).connect('{tmp_path}/s')",
            f"socket.socket(type=socket.SOCK_DGRAM).sendto(b'x', {udp.getsockname()!r})",
            "os.stat('/etc/passwd')",
        ]
        words = ["--allow-connect=none", "--allow-bind=none", "--scope=abstract,signal"]
        assert attempts(pyspaces, *words, code=code) == ["ok", "ok", "ok"]


@pytest.fixture
def abstract() -> Iterator[str]:
    name = f"pyspaces-{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(f"\0{name}")
        server.listen()
        yield name


@AROUND
def test_the_scope(pyspaces: Run, around: list[str], abstract: str) -> None:
    target = "1" if "--init" in around else str(os.getpid())
    code = [f"socket.socket(socket.AF_UNIX).connect('\\0{abstract}')", f"os.kill({target}, 0)"]
    code += ["os.kill(os.getpid(), 0)"]
    if around == ["--user", "--pid"]:
        code[1] = "os.kill(os.getpid(), 0)"  # nobody else is there
    outer = "ok" if around == ["--user", "--pid"] else "EPERM"
    found = attempts(pyspaces, *around, "--scope=abstract,signal", code=code)
    assert found == ["EPERM", outer, "ok"]
    assert attempts(pyspaces, *around, "--scope=abstract", code=code) == ["EPERM", "ok", "ok"]
    assert attempts(pyspaces, *around, "--scope", "signal", code=code) == ["ok", outer, "ok"]


def test_the_launcher_still_ends_the_command(pyspaces: Run) -> None:
    words = ["--scope=signal", "--timeout=0.3", "--", "sleep", "60"]
    assert pyspaces("run", *words, timeout=60).returncode == 124


@AROUND
def test_the_command_dies_with_its_launcher(around: list[str]) -> None:
    """A change of credentials may take the signal of the launcher's death; this one does not."""
    if around == ["--no-fork"]:
        pytest.skip("there is no launcher")
    words = [SCRIPT, "run", *around, "--allow-exec=/", "--allow-write=/dev", "--scope=signal"]
    words += ["--seccomp-deny=bpf", "--rlimit=core=0", "--", "sh", "-c", "echo; exec sleep 60"]
    launcher = subprocess.Popen(words, stdout=subprocess.PIPE)
    assert launcher.stdout is not None
    with launcher.stdout as output:
        try:
            output.readline()
        finally:
            launcher.kill()
            launcher.wait()
        assert output.read() == b""  # at once: nobody is left who holds the pipe


def test_a_command_that_may_not_be_executed(pyspaces: Run) -> None:
    done = pyspaces("run", "--allow-read", "/", "--", "true")
    assert done.returncode == 126
    assert "cannot execute the command: " in done.stderr
    assert "only files beneath --allow-exec be executed" in done.stderr
    # Another cause is not blamed on it.
    done = pyspaces("run", "--allow-exec", "/", "--", "/etc/passwd")
    assert done.returncode == 126
    assert "hint" not in done.stderr


def test_a_path_that_is_not_there(pyspaces: Run, tmp_path: Path) -> None:
    words = ["--allow-exec", "/", "--allow-read", "/nonexistent"]
    done = pyspaces("run", *words, "--", "touch", str(tmp_path / "ran"))
    assert done.returncode == 125
    assert "cannot restrict access by Landlock: /nonexistent: No such file" in done.stderr
    assert "hint" not in done.stderr
    done = pyspaces("run", "--sandbox", "--allow-read", str(tmp_path), "--", "true")
    assert f"hint: {tmp_path} is not shown inside: add --ro-bind {tmp_path}" in done.stderr
    assert not (tmp_path / "ran").exists()


@pytest.mark.as_ordinary
def test_without_no_new_privs_the_kernel_refuses(pyspaces: Run) -> None:
    done = pyspaces("run", "--allow-exec", "/", "--allow-new-privs", "--", "true")
    assert done.returncode == 125
    assert "landlock_restrict_self: Operation not permitted" in done.stderr
    assert "hint: a command that can gain privileges" in done.stderr


def test_where_user_namespaces_are_refused_it_works() -> None:
    """By a filter that refuses clone3, clone with flags being left out: none is asked for."""
    words = without(272, answer=1) if os.uname().machine == "x86_64" else []
    done = outcome([*words, SCRIPT, "run", "--allow-exec", "/", "--", "sh", "-c", ": > /tmp/x"])
    assert done.returncode == 2
    assert "Permission denied" in done.stderr


def test_a_set_user_id_program_gains_nothing(pyspaces: Run) -> None:
    done = pyspaces("run", "--allow-exec", "/", "--", "grep", "NoNewPrivs", "/proc/self/status")
    assert done.stdout.split() == ["NoNewPrivs:", "1"]


def test_namespaces_inside_are_no_way_out(pyspaces: Run, tree: Path) -> None:
    """A process with a ruleset mounts nothing, whatever it is root of."""
    words = ["--user", "--mount"] if os.geteuid() else ["--mount"]
    words += ["--allow-exec", "/", "--", "mount", "--bind", str(tree / "other"), str(tree / "read")]
    done = pyspaces("run", *words)
    assert done.returncode != 0
    assert "permission denied" in done.stderr.lower() or "not permitted" in done.stderr.lower()


# --- other kernels ---------------------------------------------------------------------------


@pytest.mark.parametrize("abi", [2, 3, 5])
def test_on_an_older_kernel_the_rest_is_limited_and_recorded(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, abi: int
) -> None:
    """The kernel takes the shorter attributes of older versions: what they cover, it limits."""
    monkeypatch.setattr(ruleset, "version", lambda: abi)
    record = tmp_path / "record"
    words = {"scope": "signal", "allow_connect": "none", "allow_exec": ["/"]}
    command = ["sh", "-c", f": > {tmp_path}/x"]
    plan = settings.plan_from(
        {"command": command, "landlock_best_effort": True, "status_file": record, **words}
    )
    with launch.start(plan) as running:
        assert running.wait().code == 2
    started = json.loads(record.read_text().splitlines()[0])
    lacking = {
        2: ["truncating files", "connecting to ports", "the scope"],
        3: ["connecting to ports", "the scope"],
    }.get(abi, ["the scope"])
    assert started["landlock"] == {"abi": abi, "left_out": lacking}


def test_a_function_has_its_limits(tree: Path) -> None:
    def attempt() -> list[object]:
        found: list[object] = []
        for path in (tree / "read/file", tree / "other/file"):
            try:
                found.append(path.read_text())
            except OSError as error:
                found.append(error.errno)
        return found

    process = Container(target=attempt, allow_read=[tree / "read"], scope="signal", name="x")
    process.start()
    assert process.result() == ["read", 13]


@pytest.mark.needs("userns")
def test_enter_takes_it_too(pyspaces: Run, tree: Path) -> None:
    target = subprocess.Popen(
        [SCRIPT, "run", "--user", "--", "sh", "-c", "echo; sleep 60"], stdout=subprocess.PIPE
    )
    try:
        assert target.stdout is not None
        target.stdout.readline()
        words = ["enter", str(target.pid), "--allow-exec=/usr", "--allow-exec=/bin"]
        words += [f"--allow-exec={path}" for path in ("/lib", "/lib64") if os.path.exists(path)]
        done = pyspaces(*words, "--", "cat", str(tree / "other/file"))
        assert done.returncode == 1
        assert "Permission denied" in done.stderr
    finally:
        target.kill()
        target.wait()
        assert target.stdout is not None
        target.stdout.close()
