"""The registry of names where others, or other programs of the same user, have been at it."""

from __future__ import annotations

import fcntl
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import IS_ROOT, SCRIPT, outcome
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pyspaces.errors import SpaceError
from pyspaces.features.existing import registry, runtime
from pyspaces.host import listing, targets
from pyspaces.host.stopping import Stopping

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Shell = Callable[..., subprocess.CompletedProcess[str]]

CHOWN = "chown" if IS_ROOT else f"{SCRIPT} run --user --map-auto -- chown"
STRANGER = "65534" if IS_ROOT else "1"  # as `chown` above counts: a subordinate id
# What stands where the directory of names should be, and what is said of it.
PLACES = {
    "a stranger's": (f"mkdir $D && {CHOWN} {STRANGER} $D", "belongs to user "),
    "closed": (f"mkdir -m 700 $D && {CHOWN} {STRANGER} $D", "belongs to user "),
    "open to all": ("mkdir $D && chmod 777 $D", "somebody else can write to this directory"),
    "a link": ("mkdir $D.2 && ln -s $D.2 $D", "is not a directory"),
    "a file": ("touch $D", "is not a directory"),
    "a FIFO": ("mkfifo $D", "is not a directory"),
}

RARE = ("closed", "a link", "a file")


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    """Run a shell script with a directory of names of its own, $D, which does not exist yet."""
    directory = tmp_path / "pyspaces"

    def run(script: str) -> subprocess.CompletedProcess[str]:
        if IS_ROOT:
            words = [
                "unshare",
                "-m",
                "sh",
                "-c",
                f"mount -t tmpfs -o mode=755 tmpfs /run; {script}",
            ]
            place = "/run/pyspaces"
        else:
            words = ["sh", "-c", script]
            place = str(directory)
        more = {"D": place, "XDG_RUNTIME_DIR": str(tmp_path), "S": SCRIPT}
        return outcome(words, env={**os.environ, **more}, stdin=subprocess.DEVNULL)

    yield run
    if directory.is_dir() and directory.stat().st_uid != os.getuid():
        # What a subordinate id owns, pytest could not remove: its fourth run would fail of it.
        words = [SCRIPT, "run", "--user", "--map-auto", "--", "chown", "0:0", str(directory)]
        subprocess.run(words, check=True)


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give this process a directory of names of its own, which exists."""
    path = tmp_path / "names"
    path.mkdir(mode=0o700)
    monkeypatch.setattr(runtime, "directory", lambda: str(path))
    return path


# --- the directory ---------------------------------------------------------------------------


@pytest.mark.needs("userns", "many")
@pytest.mark.parametrize(
    ("make", "why"),
    [
        # `closed` and `a file` are as these, and names are refused there, too.
        pytest.param(*row, id=name, marks=pytest.mark.stress if name in RARE else ())
        for name, row in PLACES.items()
    ],
)
def test_a_directory_that_is_not_ours_is_passed_over(shell: Shell, make: str, why: str) -> None:
    done = shell(f"""
        {make} || exit
        $S list --json > /dev/null && echo listed
        $S run --user -- true && echo run
        $S enter $$ -- true && echo entered
        export _PYSPACES_COMPLETE=bash_complete COMP_WORDS='pyspaces stop ' COMP_CWORD=2
        $S > /dev/null && echo known
    """)
    assert done.stdout == "listed\nrun\nentered\nknown\n"
    notes = [line for line in done.stderr.splitlines() if "not listed" not in line]
    assert len(notes) == 1
    assert notes[0].startswith("pyspaces: registered names are left out: /")
    assert why in notes[0]


@pytest.mark.crossed(1)
@pytest.mark.needs("userns", "many")
@pytest.mark.parametrize(("make", "why"), PLACES.values(), ids=PLACES)
@pytest.mark.parametrize(
    ("words", "what"),
    [
        ("run --name box --user -- true", "cannot be registered"),
        ("enter box -- true", "registered names cannot be used here"),
        ("stop box", "registered names cannot be used here"),
    ],
)
def test_and_names_are_refused(shell: Shell, make: str, why: str, words: str, what: str) -> None:
    done = shell(f"{make} && $S {words}")
    assert done.returncode == 125
    option = "--name" if "--name" in words else "name"
    assert done.stderr.startswith(f"pyspaces: {option}: box: {what}: /")
    assert why in done.stderr


@pytest.mark.as_ordinary
@pytest.mark.needs("userns", "many")
def test_a_stranger_was_first_in_tmp() -> None:
    """There is no runtime directory, and whoever comes first makes the other one.

    The user is root of a user namespace: with a /run that is not his, names go to /tmp.
    """
    script = f"""
        unset XDG_RUNTIME_DIR; P=/tmp/pyspaces-0
        mkdir $P && chown 1 $P || exit 99
        {SCRIPT} list -n -o type; code=$?
        chown 0 $P; rmdir $P
        exit $code
    """
    # In a /tmp of its own: other programs may have come first in that of the host.
    needed = (str(Path(SCRIPT).parents[2]), sys.base_prefix)
    words = [word for path in needed for word in ("--ro-bind", path, path)]
    box = [SCRIPT, "run", "--user", "--map-auto", "--mount", "--tmpfs", "/tmp", *words]
    done = outcome([*box, "--", "sh", "-c", script])
    assert done.returncode == 0, done.stderr
    assert "user" in done.stdout.split()
    told = "pyspaces: registered names are left out: /tmp/pyspaces-0: belongs to user 1\n"
    assert done.stderr.count(told) == 1


@pytest.mark.needs("userns")
@pytest.mark.parametrize(("pages", "code"), [(0, 125), (1, 125), (2, 0)])
def test_a_full_disk_leaves_no_half_of_an_entry(
    shell: Shell, tmp_path: Path, pages: int, code: int
) -> None:
    """A tmpfs gives a page to each file; an entry is written twice, first for the launcher."""
    where = "/run" if IS_ROOT else str(tmp_path)
    inner = f"""
        mount -t tmpfs -o mode=700,size={4 * pages + 4}k tmpfs {where} || exit
        printf x > {where}/full
        $S run --name box --user -- true; echo $?
        ls -A $D
    """
    prefix = "" if IS_ROOT else "exec unshare -Um --map-current-user --keep-caps "
    done = shell(f"{prefix}sh -c '{inner}'")
    assert done.stdout == f"{code}\n", done.stderr
    assert ("No space left on device" in done.stderr) == (code == 125)


# --- what is in it ---------------------------------------------------------------------------


def assert_no_name(directory: Path) -> None:
    """Nothing of what is there is a name, and nobody minds."""
    assert registry.find("box") is None
    assert registry.holders() == []
    assert targets.names() == []
    assert listing.listing(ours=True).rows is not None
    with pytest.raises(SpaceError, match="name: box: is not registered"):
        targets.find("box")
    with pytest.raises(SpaceError, match="name: box: is not registered"):
        Stopping("box")


def put_socket(path: Path) -> None:
    """Bind a socket, by a short path: sun_path has 108 bytes."""
    own = os.open(path.parent, os.O_PATH)
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(f"/proc/self/fd/{own}/{path.name}")
    os.close(own)


@pytest.mark.parametrize(
    "put",
    [
        os.mkfifo,
        lambda path: path.symlink_to("/etc/passwd"),
        lambda path: path.symlink_to("/dev/zero"),
        lambda path: path.symlink_to(path),
        put_socket,
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(bytes(range(256)) * 1000),
        lambda path: (path.write_bytes(b""), path.chmod(0)),
    ],
    ids=["FIFO", "link", "link to a device", "loop", "socket", "empty", "bytes", "closed"],
)
def test_what_is_no_entry_holds_no_name(directory: Path, put: Callable[[Path], object]) -> None:
    put(directory / "box")
    put(directory / "no name\x1b")
    put(directory / ".box")
    put(directory / "4711")
    assert_no_name(directory)
    put(directory / "box")
    claim = registry.Claim("box")
    assert [holder.name for holder in registry.holders()] == ["box"]
    claim.give_up()
    assert sorted(os.listdir(directory)) == ["4711", "no name\x1b"]  # which are none of ours


def test_a_directory_in_the_place_of_an_entry_is_refused(directory: Path) -> None:
    (directory / "box").mkdir()
    (directory / "box" / "file").touch()
    assert_no_name(directory)
    with pytest.raises(SpaceError, match=r"name: box: cannot be registered: .*: Is a directory"):
        registry.Claim("box")
    (directory / "bar").mkdir()
    (directory / ".foo").mkdir()
    with pytest.raises(SpaceError, match=r"name: foo: cannot be registered: .*: File exists"):
        registry.Claim("foo")
    assert sorted(os.listdir(directory)) == [".foo", "bar", "box"]


def entry(directory: Path) -> str:
    """Return the entry of a process that lives: this one."""
    claim = registry.Claim("box")
    text = (directory / "box").read_text()
    claim.give_up()
    return text


DAMAGE = [
    *(("view", value) for value in ("", "1", "1 2 3", "x y", "1 " + "9" * 5000)),
    *(("process", value) for value in ("", "0 0 0", "-1 0 0", f"{1 << 31} 0 1", "1 1")),
    *(("process", value) for value in (f"{10**30} 0 1", "1 0 1 1", f"1 {'1' * 5000} 1")),
    *(("launcher", value) for value in ("", "-1 0", f"{10**30} 0", "1")),
    *(("members", value) for value in ("net", "net=", "net=x", "nonsense=1", "=1")),
    ("made", "nonsense"),
    ("made", "\x1b"),
]


def test_an_entry_that_was_damaged_holds_no_name(directory: Path) -> None:
    text = entry(directory)
    for row, word in DAMAGE:
        lines = [
            f"{row} {word}" if line.split(" ")[0] == row else line for line in text.split("\n")
        ]
        (directory / "box").write_text("\n".join(lines))
        assert_no_name(directory)
        assert os.listdir(directory) == [], (row, word)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whatever_happens_to_an_entry(directory: Path, data: st.DataObject) -> None:
    """A piece is left out, or another one put in; it holds a name or none, and nothing raises."""
    text = entry(directory).encode()
    begin, end = sorted(data.draw(st.tuples(*[st.integers(0, len(text))] * 2)))
    piece = data.draw(st.binary(max_size=8) | st.sampled_from([b"9" * 40, b" ", b"\n", b"-", b"0"]))
    (directory / "box").write_bytes(text[:begin] + piece + text[end:])
    found = registry.find("box")
    assert found is None or found.name == "box"
    registry.holders()
    listing.listing(ours=True)
    (directory / "box").unlink(missing_ok=True)


# --- the lock --------------------------------------------------------------------------------


def test_a_lock_that_is_never_released_stops_nobody(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command is the same user, and may lock the directory for good."""
    monkeypatch.setattr(registry, "_PATIENCE", 0.2)
    claim = registry.Claim("box")
    own = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(own, fcntl.LOCK_EX)
        before = time.monotonic()
        assert registry.find("box")
        with pytest.raises(SpaceError, match="another process keeps it locked"):
            registry.Claim("other")
        claim.give_up()
        assert time.monotonic() - before < 60
        assert os.listdir(directory) == []
    finally:
        os.close(own)


@pytest.mark.needs("userns")
def test_nor_the_launcher_of_the_command_that_locks_it(shell: Shell) -> None:
    """Nor does a command that takes the directory away."""
    done = shell("""
        $S run --name box --user -- sh -c 'flock -F $D sleep 20 > /dev/null 2>&1 & echo $!
            until ! flock -n $D true; do :; done; exit 7' > $D.pid
        echo $?; kill $(cat $D.pid); ls -A $D; flock $D true
        $S run --name box --user -- sh -c 'chmod 777 $D; exit 7'; echo $?; rm -r $D
        $S run --name box --user -- sh -c 'rm -r $D; mkfifo $D; exit 7'; echo $?
    """)
    assert done.stdout == "7\n7\n7\n", done.stderr
    assert done.stderr == ""
