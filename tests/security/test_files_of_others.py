"""--pid-file, --status-file and --overlay-diff in places where others have their hands.

A stranger is another user who can write to the directory: here an id of root's choice, or one of
the subordinate ids of an ordinary user. The command itself may do what its user may.
"""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from conftest import IS_ROOT, SCRIPT
from usage import assert_refused

from pyspaces import launch, settings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import Run

STRANGER = 65534
KEPT = "kept\n"
OPTIONS = [
    pytest.param(("--pid-file",), (), id="pid-file"),
    pytest.param(("--status-file",), (), id="status-file"),
    pytest.param(
        ("--overlay-diff",),
        ("--overlay-src", "/opt", "--tmp-overlay", "/opt"),
        id="overlay-diff",
        marks=pytest.mark.needs("overlay"),
    ),
]
each_option = pytest.mark.parametrize(("option", "more"), OPTIONS)


@pytest.fixture
def shared() -> Iterator[Path]:
    """Make a directory like /tmp: everybody can write to it, and remove what is theirs."""
    with tempfile.TemporaryDirectory() as path:
        shared = Path(path, "shared")
        shared.mkdir()
        Path(path).chmod(0o755)
        shared.chmod(0o1777)
        yield shared
        give_to(None, shared)


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    """Make a file of the launcher's user that nobody names."""
    path = tmp_path / "victim"
    path.write_text(KEPT)
    return path


def give_to(stranger: int | None, *paths: Path) -> None:
    """Give files to a stranger; to the caller, where None is given."""
    if IS_ROOT:
        for path in paths:
            number = stranger if stranger is not None else 0
            os.lchown(path, number, number)
        return
    owner = "0" if stranger is None else "1"  # the first subordinate id
    words = ["chown", "-hR", f"{owner}:{owner}", *map(str, paths)]
    subprocess.run([SCRIPT, "run", "--user", "--map-auto", "--", *words], check=True)


def launched(
    run: Run, option: tuple[str, ...], path: Path | str, more: tuple[str, ...], *command: str
) -> subprocess.CompletedProcess[str]:
    """Run a command in a place where it may write, with the file asked for."""
    base = ("run", "--user", "--mount")
    return run(*base, *more, *option, str(path), "--", *(command or ("true",)))


@pytest.mark.crossed(1)
@pytest.mark.needs("userns", "many")
@each_option
@pytest.mark.parametrize("leads", ["to a file", "to nothing", "through a directory"])
def test_a_link_of_a_stranger_is_not_followed(
    pyspaces: Run,
    shared: Path,
    victim: Path,
    tmp_path: Path,
    option: tuple[str, ...],
    more: tuple[str, ...],
    leads: str,
) -> None:
    link = shared / "file"
    goal = {"to a file": victim, "to nothing": tmp_path / "new"}.get(leads, tmp_path)
    link.symlink_to(goal)
    give_to(STRANGER, link)
    path = link / "victim" if goal is tmp_path else link
    done = launched(pyspaces, option, path, more, "touch", str(tmp_path / "ran"))
    assert done.returncode == 2
    owner = os.lstat(link).st_uid
    assert owner != os.geteuid()
    assert done.stderr == (
        f"pyspaces: {option[0]}: {path}: a symbolic link of user {owner} is in the way\n"
    )
    assert sorted(os.listdir(tmp_path)) == ["victim"]
    assert victim.read_text() == KEPT
    assert os.listdir(shared) == ["file"]


@pytest.mark.needs("userns", "many")
@each_option
def test_a_last_link_of_a_stranger_is_not_followed_in_his_own_directory_either(
    pyspaces: Run, shared: Path, victim: Path, option: tuple[str, ...], more: tuple[str, ...]
) -> None:
    his = shared / "his"
    his.mkdir()
    his.chmod(0o777)
    (his / "file").symlink_to(victim)
    give_to(STRANGER, his / "file")
    give_to(STRANGER, his)
    done = launched(pyspaces, option, his / "file", more)
    assert done.returncode == 2
    assert "a symbolic link of user" in done.stderr
    assert victim.read_text() == KEPT


@pytest.mark.needs("userns", "many")
@each_option
def test_a_file_of_a_stranger_is_not_replaced(
    pyspaces: Run, shared: Path, option: tuple[str, ...], more: tuple[str, ...]
) -> None:
    path = shared / "file"
    path.write_text(KEPT)
    give_to(STRANGER, path)
    done = launched(pyspaces, option, path, more)
    assert done.returncode == 2
    assert f"{path}: belongs to user {path.stat().st_uid}\n" in done.stderr
    assert path.read_text() == KEPT


@pytest.mark.needs("userns")
@each_option
def test_an_own_link_is_followed(
    pyspaces: Run, shared: Path, victim: Path, option: tuple[str, ...], more: tuple[str, ...]
) -> None:
    (shared / "b").symlink_to(victim)
    (shared / "a").symlink_to("../shared/./b")
    done = launched(pyspaces, option, shared / "a", more)
    assert (done.returncode, done.stderr) == (0, "")
    assert (shared / "a").is_symlink()
    assert (shared / "b").is_symlink()
    assert victim.exists() == (option != ("--pid-file",))
    assert not victim.exists() or victim.read_text() != KEPT


@pytest.mark.needs("userns")
@pytest.mark.parametrize("path", ["/dev/stdout", "/proc/self/fd/1"])
def test_a_descriptor_that_is_a_file_can_be_named(tmp_path: Path, path: str) -> None:
    """As the shell redirected it: /dev/stdout is a link of root, and the next two are ours."""
    for words in ([], ["--user"]):
        file = tmp_path / "out"
        with open(file, "w") as out:
            inner = [SCRIPT, "run", "--user", "--status-file", path, "--", "true"]
            outer = [SCRIPT, "run", *words, "--"] if words else []
            subprocess.run([*outer, *inner], check=True, stdout=out)
        assert [json.loads(line)["event"] for line in file.read_text().splitlines()] == [
            "started",
            "exited",
        ]


NO_PLACES = [
    ("/proc/self/fd/99", "No such file or directory"),
    ("/", "is not a regular file"),
    ("/tmp/..", "is not a regular file"),
    ("/dev/null/x", "Not a directory"),
    ("loop", "Too many levels of symbolic links"),
    ("x" * 300, "File name too long"),
]


def test_what_can_be_no_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    rows = [
        (("--user", "--status-file", path), f"pyspaces: --status-file: {path}: {why}")
        for path, why in NO_PLACES
    ]
    assert_refused(rows, cwd=tmp_path)
    assert os.listdir(tmp_path) == ["loop"]


# What a command may put in the place of the pid file, or of the status file that is to come.
PUTS = {
    "a FIFO": "mkfifo $1",
    "a directory": "mkdir $1",
    "a link": "ln -s $2 $1",
    "a dangling link": "ln -s /nonexistent $1",
    "a hard link": "ln $2 $1",
    "a socket": (
        f"{sys.executable} -c 'import socket, sys;"
        ' socket.socket(socket.AF_UNIX).bind(sys.argv[1])\' "$1"'
    ),
}
each_put = pytest.mark.parametrize("put", PUTS.values(), ids=PUTS)


@pytest.mark.needs("userns")
@each_put
def test_what_stands_for_the_pid_file_is_left_alone(
    pyspaces: Run, shared: Path, victim: Path, put: str
) -> None:
    path = shared / "pid"
    script = f"rm $1; {put}; exit 7"
    words = ("sh", "-c", script, "sh", str(path), str(victim))
    done = launched(pyspaces, ("--pid-file",), path, (), *words)
    assert (done.returncode, done.stderr) == (7, "")
    assert os.listdir(shared) == ["pid"]
    assert victim.read_text() == KEPT


@pytest.mark.needs("userns")
def test_another_file_that_says_the_same_is_left_alone(pyspaces: Run, shared: Path) -> None:
    """It is another launch's, which has the same number in another pid namespace, say."""
    path = shared / "pid"
    script = "cp $1 $1.new; mv $1.new $1; exit 7"
    done = launched(pyspaces, ("--pid-file",), path, (), "sh", "-c", script, "sh", str(path))
    assert (done.returncode, done.stderr) == (7, "")
    assert os.listdir(shared) == ["pid"]


@pytest.mark.crossed(1)
@pytest.mark.needs("userns")
@each_put
@pytest.mark.parametrize(("option", "more"), OPTIONS[1:])
def test_what_stands_where_a_file_is_to_appear_is_left_alone(
    pyspaces: Run,
    shared: Path,
    victim: Path,
    put: str,
    option: tuple[str, ...],
    more: tuple[str, ...],
) -> None:
    path = shared / "file"
    script = f"{put}; exit 7"
    if put.startswith("ln $2"):  # a regular file of ours may be a launch's: the last one wins
        script = f"mkdir $1; {script}"
    words = ("sh", "-c", script, "sh", str(path), str(victim))
    done = launched(pyspaces, option, path, more, *words)
    assert done.returncode == 7
    (line,) = done.stderr.splitlines()
    assert line.startswith("pyspaces: cannot write ")
    assert line.endswith(f": {path}: somebody else has put something there meanwhile")
    assert os.listdir(shared) == ["file"]
    assert not stat.S_ISREG(os.lstat(path).st_mode)
    assert victim.read_text() == KEPT


@pytest.mark.needs("userns")
def test_the_last_of_several_launches_has_the_status_file(pyspaces: Run, shared: Path) -> None:
    path = shared / "file"
    done = launched(pyspaces, ("--status-file",), path, (), "sh", "-c", f"echo {KEPT} > {path}")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(path.read_text().splitlines()[-1])["code"] == 0


@pytest.mark.needs("userns", "many")
def test_a_file_of_a_stranger_that_came_meanwhile_is_not_replaced(shared: Path) -> None:
    path = shared / "file"
    with subprocess.Popen(
        [SCRIPT, "run", "--user", "--status-file", path, "--", "sh", "-c", "echo; read a; exit 7"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as launcher:
        assert launcher.stdout
        assert launcher.stdout.readline() == b"\n"
        path.write_text(KEPT)
        give_to(STRANGER, path)
        _, told = launcher.communicate(b"\n", timeout=60)
    assert launcher.returncode == 7
    assert b"somebody else has put something there meanwhile" in told
    assert path.read_text() == KEPT


@pytest.mark.needs("userns")
def test_a_directory_that_is_renamed_is_still_the_one(
    pyspaces: Run, shared: Path, tmp_path: Path
) -> None:
    """What was put in its place is somebody else's, whatever is in it."""
    decoy = tmp_path / "decoy"
    decoy.mkdir()
    for name in ("pid", "status"):
        (decoy / name).write_text(KEPT)
    own = shared / "own"
    own.mkdir()
    script = f"cp {own}/pid {decoy}/pid; mv {own} {shared}/moved; ln -s {decoy} {own}"
    words = ("--pid-file", str(own / "pid"), "--status-file", str(own / "status"))
    done = pyspaces("run", "--user", *words, "--", "sh", "-c", script)
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(os.listdir(decoy)) == ["pid", "status"]
    assert (decoy / "status").read_text() == KEPT
    assert os.listdir(shared / "moved") == ["status"]


@pytest.mark.needs("userns")
def test_a_full_disk_leaves_nothing_half_done(pyspaces: Run, tmp_path: Path) -> None:
    fill = f"cat /dev/zero > {tmp_path}/full; exit 7"
    script = f"""
        mount -t tmpfs -o size=4k,nr_inodes=5 tmpfs {tmp_path} && cd {tmp_path}
        {SCRIPT} run --status-file {tmp_path}/status -- sh -c '{fill}'
        echo $?; ls -A {tmp_path}
        {SCRIPT} run --pid-file {tmp_path}/pid -- true
        echo $?; ls -A {tmp_path}
    """
    done = pyspaces("run", "--user", "--mount", "--", "sh", "-c", script)
    assert done.stdout == "7\nfull\n125\nfull\n", done.stderr
    assert f"cannot write the status file: {tmp_path}/status: No space left" in done.stderr
    assert f"cannot write the pid file: {tmp_path}/pid: No space left" in done.stderr


@pytest.mark.needs("userns")
def test_a_function_in_the_child_has_no_descriptor_of_these_directories(shared: Path) -> None:
    """The child does not exec where it calls a function: close-on-exec does not help."""
    plan = settings.plan_from(
        {
            "command": ["function"],
            "user": True,
            "pid_file": str(shared / "pid"),
            "status_file": str(shared / "status"),
        }
    )
    reading, writing = os.pipe()

    def look() -> None:
        links = []
        for name in os.listdir("/proc/self/fd"):
            try:
                links.append(os.readlink(f"/proc/self/fd/{name}"))
            except OSError:
                continue
        os.write(writing, json.dumps(links).encode())

    try:
        with launch.start(plan, function=look) as running:
            running.wait(60)
        links = json.loads(os.read(reading, 1 << 16))
    finally:
        os.close(reading)
        os.close(writing)
    assert links
    assert not [link for link in links if link.startswith(str(shared))]


FLIPS = """
import os, sys
path, victim = sys.argv[1:]
os.setgid(65534); os.setuid(65534)
print(flush=True)
while True:
    for make in (lambda: os.symlink(victim, path), lambda: os.mkfifo(path),
                 lambda: os.close(os.open(path, os.O_CREAT | os.O_EXCL, 0o666))):
        for step in (make, lambda: os.unlink(path)):
            try:
                step()
            except OSError:
                pass
"""


@pytest.mark.as_root
@pytest.mark.parametrize("times", [4, pytest.param(40, marks=pytest.mark.stress)])
@pytest.mark.parametrize("option", ["--pid-file", "--status-file"])
def test_a_stranger_in_a_race_gains_nothing(
    pyspaces: Run, shared: Path, victim: Path, option: str, times: int
) -> None:
    victim.parent.chmod(0o755)
    path = shared / "file"
    with subprocess.Popen(
        [sys.executable, "-c", FLIPS, path, victim], stdout=subprocess.PIPE
    ) as stranger:
        try:
            assert stranger.stdout
            assert stranger.stdout.readline() == b"\n"
            ended = [pyspaces("run", option, str(path), "--", "true") for _ in range(times)]
        finally:
            stranger.kill()
    assert {done.returncode for done in ended} <= {0, 2, 125}
    assert not [done for done in ended if "Traceback" in done.stderr]
    assert victim.read_text() == KEPT
    assert os.listdir(shared) in ([], ["file"])
