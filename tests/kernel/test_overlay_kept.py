"""`pyspaces overlay`: the changes that an overlay has kept, listed and written."""

from __future__ import annotations

import fcntl
import json
import os
import shlex
import shutil
import signal
import stat
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from children import Child
from conftest import IS_ROOT, SCRIPT, outcome

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Wait = Callable[..., None]

pytestmark = pytest.mark.needs("userns", "overlay")
# Outside of user namespaces the kernel keeps its marks elsewhere: in attributes trusted.*.
SPACES = [["--user"]] + ([["--mount"]] if IS_ROOT else [])
NOBODY = 0xFFFFFFFF  # the id of those rows of an ACL that have none
PYTHON = [sys.executable, "-I", "-S"]
# Every kind of change, in the working directory.
CHANGES = """
import os, shutil, socket
def write(path, text):
    with open(path, "w") as file:
        file.write(text)
write("new", "new"); write("grown", "more than it was"); write("same", "same")
os.utime("same", ns=(1, 10**18)); os.utime("new", ns=(3, 5 * 10**17))
os.chmod("mode", 0o4751); os.chmod("sub", 0o700)
os.remove("sub/gone"); shutil.rmtree("again"); os.mkdir("again"); write("again/new", "x")
shutil.rmtree("deep"); os.makedirs("deep/in"); write("deep/in/new", "x")
os.makedirs("made/deep"); write("made/deep/file", "x"); os.utime("made", ns=(7, 10**18))
os.link("new", "new again"); os.link("last", "another of last")
os.mkfifo("fifo", 0o620); socket.socket(socket.AF_UNIX).bind("socket")
os.remove("link"); os.symlink("/nowhere", "link")
os.utime("link", ns=(1, 2), follow_symlinks=False)
os.remove("to directory"); os.mkdir("to directory"); write("to directory/x", "x")
shutil.rmtree("to file"); write("to file", "x")
os.setxattr("attribute", "user.k", b"v"); os.setxattr("sub", "user.d", b"w")
with open("holes", "w") as file:
    file.truncate(1 << 24)
    os.pwrite(file.fileno(), b"x", 1 << 20)
"""
# What is to be the same: everything of each file but its number.
SNAPSHOT = """
import json, os
found = {}
for here, directories, files in os.walk("."):
    for name in directories + files:
        path = os.path.join(here, name)
        status = os.lstat(path)
        names = os.listxattr(path, follow_symlinks=False)
        kept = {n: os.getxattr(path, n, follow_symlinks=False).decode() for n in names
            if ".overlay." not in n}
        size = 0 if name in directories else status.st_size
        row = [status.st_mode, status.st_uid, status.st_gid, status.st_mtime_ns, size, kept]
        if os.path.islink(path):
            row.append(os.readlink(path))
        elif os.path.isfile(path):
            row.append(open(path).read(100))
        if name in files:
            row.append(status.st_nlink)
        found[path] = row
print(json.dumps(found, sort_keys=True))
"""


@pytest.fixture
def low(tmp_path: Path) -> Path:
    """Return a directory to lay an overlay over."""
    directory = tmp_path / "low"
    names = ("grown", "same", "mode", "sub/gone", "sub/kept", "again/gone", "to directory", "last")
    for name in (*names, "to file/x/y", "attribute", "untouched", "deep/in/gone"):
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text("same" if name == "same" else "old")
    (directory / "link").symlink_to("same")
    return directory


def overlay(*words: object, inside: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    before = [SCRIPT, "run", *inside, "--"] if inside else []
    return outcome([*before, SCRIPT, "overlay", *map(str, words)])


def lay(low: Path, script: str, *spaces: str) -> tuple[Path, str]:
    """Run a Python program in an overlay over `low`; return the upper one, and its output."""
    upper, work = low.parent / "upper", low.parent / "work"
    upper.mkdir()
    work.mkdir()
    words = [SCRIPT, "run", *spaces, "--overlay-src", str(low), "--overlay", str(upper), str(work)]
    done = outcome([*words, str(low), "--workdir", str(low), "--", *PYTHON, "-c", script])
    assert (done.returncode, done.stderr) == (0, "")
    return upper, done.stdout


def snapshot(low: Path, *inside: str) -> dict[str, list[Any]]:
    before = [SCRIPT, "run", *inside, "--"] if inside else []
    done = outcome([*before, *PYTHON, "-c", SNAPSHOT], cwd=low)
    assert (done.returncode, done.stderr) == (0, "")
    found: dict[str, list[Any]] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("spaces", SPACES)
def test_what_is_written_is_what_the_command_saw(low: Path, spaces: list[str]) -> None:
    shutil.copytree(low, low.parent / "old", symlinks=True)
    upper, output = lay(low, CHANGES + SNAPSHOT, *spaces)
    seen = json.loads(output)
    listed = low.parent / "listed"
    # The same program in an overlay whose changes vanish: the same list.
    words = [SCRIPT, "run", *spaces, "--overlay-src", str(low), "--tmp-overlay", str(low)]
    words += ["--overlay-diff", str(listed), "--workdir", str(low), "--", *PYTHON, "-c", CHANGES]
    assert outcome(words).returncode == 0
    before, kept = snapshot(low), snapshot(upper)
    done = overlay("diff", upper, low)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == listed.read_text()
    kinds: dict[str, list[str]] = {kind: [] for kind in ("added", "changed", "deleted")}
    for line in done.stdout.splitlines():
        kinds[line[:8].strip()].append(line[8:])
    assert json.loads(overlay("diff", "--json", upper, low).stdout) == {"version": 1, **kinds}
    assert f"{low}/sub" in kinds["changed"]
    assert f"{low}/attribute" in kinds["changed"]
    assert overlay("apply", "--dry-run", upper, low).stdout == done.stdout
    assert snapshot(low) == before, "nothing was written up to here"
    done = overlay("apply", upper, low)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert snapshot(low, *spaces) == seen
    assert snapshot(upper) == kept
    assert (low / "holes").stat().st_blocks < 1000
    assert overlay("diff", upper, low).stdout == ""
    # Again: nothing to do, and nothing is replaced.
    numbers = {path: path.lstat().st_ino for path in low.rglob("*")}
    assert overlay("apply", upper, low).returncode == 0
    assert {path: path.lstat().st_ino for path in low.rglob("*")} == numbers


def acl(*rows: tuple[int, int, int]) -> bytes:
    """Return an ACL. rows: tag, permissions and id, as in acl(5) and linux/posix_acl_xattr.h."""
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *row) for row in rows)


def test_an_acl_for_an_id_that_is_not_mapped_has_a_cure_that_works(low: Path) -> None:
    """What the owner may give from outside cannot be given inside."""
    rows = (0x01, 6, NOBODY), (0x02, 4, 12345), (0x04, 4, NOBODY), (0x10, 4, NOBODY)
    os.setxattr(low / "same", "system.posix_acl_access", acl(*rows, (0x20, 0, NOBODY)))
    before = os.getxattr(low / "same", "system.posix_acl_access")
    upper, _ = lay(low, "open('same', 'w').write('new')", "--user")
    done = overlay("apply", upper, low, inside=("--user",))
    assert (done.returncode, done.stdout) == (125, "")
    assert f"{low}/same: has an ACL for a user or group that is not mapped here" in done.stderr
    assert "hint: run this as root, outside of user namespaces" in done.stderr
    assert (low / "same").read_text() == "same"
    done = overlay("apply", upper, low)
    assert (done.returncode, done.stderr) == (0, "")
    assert (low / "same").read_text() == "new"
    assert os.getxattr(low / "same", "system.posix_acl_access") == before


def test_an_acl_of_a_fifo_is_a_change(low: Path) -> None:
    """The mode stays: it has the permissions of the mask."""
    os.mkfifo(low / "fifo", 0o640)
    mine, name = os.geteuid(), "system.posix_acl_access"
    rows = [(0x01, 6, NOBODY), (0x02, 4, mine), (0x04, 4, NOBODY), (0x10, 4, NOBODY)]
    rows.append((0x20, 0, NOBODY))
    mapped = [(*row[:2], 0 if row[2] == mine else row[2]) for row in rows]
    upper, _ = lay(low, f"import os; os.setxattr('fifo', {name!r}, {acl(*mapped)!r})", "--user")
    assert stat.S_IMODE((upper / "fifo").lstat().st_mode) == 0o640
    assert overlay("diff", upper, low).stdout == f"changed {low}/fifo\n"
    done = overlay("apply", upper, low)
    assert (done.returncode, done.stderr) == (0, "")
    assert os.getxattr(low / "fifo", name) == acl(*rows)
    assert overlay("diff", upper, low).stdout == ""


@pytest.mark.parametrize("how", ["umask", "acl"])
def test_new_directories_where_bits_of_their_mode_are_taken(tmp_path: Path, how: str) -> None:
    upper, directory = tmp_path / "upper", tmp_path / "directory"
    (upper / "new" / "in").mkdir(parents=True)
    (upper / "new" / "in" / "file").write_text("x")
    (upper / "new").chmod(0o751)
    os.mkfifo(upper / "new" / "fifo", 0o640)
    directory.mkdir()
    if how == "acl":
        # The owner may read and write only.
        rows = ((0x01, 6, NOBODY), (0x04, 0, NOBODY), (0x20, 0, NOBODY))
        os.setxattr(directory, "system.posix_acl_default", acl(*rows))
    mask = "777" if how == "umask" else "22"
    words = [SCRIPT, "overlay", "apply", str(upper), str(directory)]
    done = outcome(["sh", "-c", f"umask {mask}; exec {shlex.join(words)}"])
    assert (done.returncode, done.stderr) == (0, "")
    assert snapshot(directory) == snapshot(upper)


def test_links_in_the_way_lead_nowhere(tmp_path: Path) -> None:
    """Whatever stands in DIR: nothing outside of it is read as it, or written."""
    low, upper, outside = (tmp_path / name for name in ("low", "upper", "outside"))
    for name in ("made", "again/deep"):
        (upper / name).mkdir(parents=True)
        (upper / name / "file").write_text("new")
    for path in (outside, low / "again"):
        path.mkdir(parents=True)
    for name in ("file", "linked", "twice"):
        (outside / name).write_text("outside")
    (low / "made").symlink_to(outside)
    (low / "again" / "deep").symlink_to("../../outside")
    # To a file with the same content, and to one with another name in DIR: times are set, too.
    (low / "linked").symlink_to(outside / "linked")
    os.link(outside / "twice", low / "twice")
    for name in ("linked", "twice"):
        (upper / name).write_text("outside")
        os.utime(upper / name, ns=(1, 1))
    (low / "waits").mkdir()
    os.mkfifo(low / "waits" / "file")
    (upper / "waits").mkdir()
    (upper / "waits" / "file").write_text("a FIFO in the place of a file")
    os.mkfifo(upper / "pipe")
    before = snapshot(outside)
    done = overlay("apply", upper, low)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    after = snapshot(outside)
    assert before.pop("./twice")[:-1] == after.pop("./twice")[:-1]  # it has a name less
    assert before == after
    assert overlay("diff", upper, low).stdout == ""
    assert (low / "again" / "deep" / "file").read_text() == "new"
    assert not (low / "made").is_symlink()
    assert stat.S_ISREG((low / "waits" / "file").lstat().st_mode)


RENAMES = """
import os, shutil, sys
def attempt(call, *words):
    try:
        call(*words)
    except OSError:
        return False
    return True
while True:
    attempt(os.rename, "d", "aside")
    attempt(os.symlink, sys.argv[1], "d")
    attempt(os.remove, "d")
    if not attempt(os.rename, "aside", "d"):
        shutil.rmtree("d", ignore_errors=True)
"""
MANY = pytest.mark.parametrize("tries", [3, pytest.param(100, marks=pytest.mark.stress)])


@MANY
def test_a_directory_that_is_exchanged_meanwhile(tmp_path: Path, tries: int) -> None:
    """Written, or said to have been replaced; never through the link."""
    low, upper, outside = (tmp_path / name for name in ("low", "upper", "outside"))
    for path in (low / "d", upper / "d", outside):
        path.mkdir(parents=True)
    (outside / "f0").write_text("outside")
    with Child[bytes]([*PYTHON, "-c", RENAMES, str(outside)], cwd=low) as renaming:
        for number in range(tries):
            (upper / "d" / "f0").write_text(f"new {number}")
            (upper / "d" / "f1").write_text(f"new {number}")
            done = overlay("apply", upper, low)
            assert "Traceback" not in done.stderr
            assert os.listdir(outside) == ["f0"]
            assert (outside / "f0").read_text() == "outside"
        renaming.kill()


@pytest.mark.as_root
def test_a_mount_in_the_directory_is_not_written_to(tmp_path: Path) -> None:
    low, upper = tmp_path / "low", tmp_path / "upper"
    for path in (low / "sub", upper / "sub"):
        path.mkdir(parents=True)
    (upper / "sub" / "file").write_text("new")
    for task in ("diff", "apply"):
        done = overlay(task, upper, low, inside=("--mount", "--tmpfs", str(low / "sub")))
        assert (done.returncode, done.stdout) == (125, "")
        assert done.stderr == f"pyspaces: overlay: {low}/sub: is on another file system\n"


def test_marks_that_refer_to_something_else_are_named(tmp_path: Path) -> None:
    upper, low = tmp_path / "upper", tmp_path / "low"
    low.mkdir()
    prefixes = ["user.overlay."] + (["trusted.overlay."] if IS_ROOT else [])
    for mark in ("redirect", "metacopy", "whiteout", "overlay.opaque"):
        for prefix in prefixes:
            (upper / "d").mkdir(parents=True)
            (upper / "d" / "file").touch()
            os.setxattr(upper / "d" / "file", prefix + mark, b"y")
            for task in ("diff", "apply"):
                done = overlay(task, upper, low)
                assert (done.returncode, done.stdout) == (125, "")
                assert f"overlay: {upper}/d/file: has the mark {prefix}{mark}" in done.stderr
            assert os.listdir(low) == []
            shutil.rmtree(upper)


@pytest.mark.as_root
def test_marks_that_only_root_can_read(low: Path) -> None:
    """Inside of a user namespace, they seem not to be there: nothing would be deleted."""
    upper, _ = lay(low, "import os, shutil; shutil.rmtree('again'); os.mkdir('again')", "--mount")
    assert f"deleted {low}/again/gone\n" in overlay("diff", upper, low).stdout
    done = overlay("apply", upper, low, inside=("--user",))
    assert done.returncode == 125
    assert f"{upper}/again: belongs to root of the host, who alone can read its" in done.stderr
    assert (low / "again" / "gone").exists()


def cure_of(done: subprocess.CompletedProcess[str]) -> list[str]:
    """Return the command line that an error gives as its cure."""
    assert done.returncode == 125
    line = done.stderr.partition("hint: be root where its owner is mapped: ")[2]
    words = shlex.split(line)
    assert words[:3] == ["pyspaces", "run", "--user"]
    return [SCRIPT if word == "pyspaces" else word for word in words]


@pytest.mark.as_ordinary
@pytest.mark.needs("many")
def test_what_belongs_to_subordinate_ids_has_a_cure_that_works(low: Path) -> None:
    script = "import os; os.chown('grown', 5, 6); os.mkdir('d', 0o700); os.chown('d', 7, 0)"
    upper, _ = lay(low, script + SNAPSHOT.replace("print", "0 and print"), "--map-auto")
    before = snapshot(low)
    assert f"{upper}/d: Permission denied" in overlay("diff", upper, low).stderr
    (upper / "other").touch()
    done = overlay("apply", upper, low)
    assert "belongs to user" in done.stderr or "Permission denied" in done.stderr
    assert snapshot(low) == before, "nothing was changed before"
    cured = outcome(cure_of(done))
    assert (cured.returncode, cured.stderr) == (0, "")
    after = snapshot(low, "--map-auto")
    assert (after["./grown"][1:3], after["./d"][1:3]) == ([5, 6], [7, 0])
    assert overlay("diff", upper, low, inside=("--map-auto",)).stdout == ""


@pytest.mark.as_ordinary
def test_a_directory_counts_once_it_has_what_belongs_to_it(low: Path) -> None:
    """A mode that is set last was counted first, and told as the last change that was written."""
    upper, _ = lay(low, "import os; os.chmod('sub', 0o777); open('sub/new', 'w')", "--user")
    os.chmod(low / "sub", 0o555)
    done = overlay("apply", upper, low)
    assert f"{low}/sub/new: Permission denied\n  nothing was changed before\n" in done.stderr
    os.chmod(low / "sub", 0o755)
    assert overlay("apply", upper, low).returncode == 0
    assert stat.S_IMODE((low / "sub").stat().st_mode) == 0o777


@pytest.mark.as_ordinary
def test_root_inside_is_not_told_to_be_that(tmp_path: Path) -> None:
    (tmp_path / "new").touch()
    done = overlay("apply", tmp_path, "/usr", inside=("--user",))
    assert (done.returncode, done.stdout) == (125, "")
    assert "overlay: /usr/new: Permission denied\n  nothing was changed before" in done.stderr
    assert "hint: run this as root, outside of user namespaces" in done.stderr


@pytest.mark.as_ordinary
def test_a_mode_in_the_way_has_a_cure_that_works(low: Path) -> None:
    """Of the caller's own directory, which root inside may write to all the same."""
    os.chmod(low / "sub", 0o555)
    upper, _ = lay(
        low, "import os; os.remove('sub/gone'); open('first', 'w'); os.mkdir('z', 0)", "--user"
    )
    try:
        done = overlay("apply", upper, low)
        assert f"overlay: {upper}/z: Permission denied" in done.stderr
        os.chmod(upper / "z", 0o700)
        done = overlay("apply", upper, low)
        assert f"overlay: {low}/sub/gone: Permission denied" in done.stderr
        assert f"  2 of 3 changes were written before, the last one {low}/z\n" in done.stderr
        assert "--map-auto" not in done.stderr
        assert outcome(cure_of(done)).returncode == 0
        assert overlay("diff", upper, low).stdout == ""
    finally:
        os.chmod(low / "sub", 0o755)


def test_a_full_file_system_leaves_each_file_old_or_new(tmp_path: Path) -> None:
    low, upper = tmp_path / "low", tmp_path / "upper"
    for path in (low, upper):
        path.mkdir()
    for number in range(6):
        (upper / f"f{number}").write_text("x" * 300_000)
    script = f"""
        cd {low}; echo old > f4
        {SCRIPT} overlay apply {upper} {low}; echo $?
        cat f4; ls -A; {SCRIPT} overlay diff {upper} {low}
    """
    words = ("--user", "--size", "1M", "--tmpfs", str(low), "--", "sh", "-c", script)
    done = outcome([SCRIPT, "run", *words])
    assert done.stdout.split() == [
        *("125", "old", "f0", "f1", "f2", "f4"),
        *("added", f"{low}/f3", "changed", f"{low}/f4", "added", f"{low}/f5"),
    ]
    assert done.stderr == (
        f"pyspaces: overlay: {low}/f3: No space left on device\n"
        f"  3 of 6 changes were written before, the last one {low}/f2\n"
    )


@MANY
def test_killed_at_any_time_leaves_each_file_old_or_new(
    tmp_path: Path, wait_until: Wait, tries: int
) -> None:
    low, upper = tmp_path / "low", tmp_path / "upper"
    for path in (low, upper):
        path.mkdir()
    names = [f"f{number:02}" for number in range(40)]
    for name in names:
        (upper / name).write_bytes(b"new" * 20_000)
    for number in range(tries):
        for path in low.iterdir():
            path.unlink()
        for name in names:
            (low / name).write_bytes(b"old" * 20_000)
        mark = low / names[2 + number * 2 % len(names[3:])]
        with Child[bytes]([SCRIPT, "overlay", "apply", str(upper), str(low)]) as applying:
            wait_until(lambda path=mark: path.read_bytes()[:3] == b"new", "it is on its way")
            applying.send_signal(signal.SIGKILL)
            applying.wait()
        for name in names:
            assert (low / name).read_bytes() in (b"new" * 20_000, b"old" * 20_000)
        left = {path.name for path in low.iterdir()} - {*names}
        assert len(left) <= 1
        assert all(name.startswith(".pyspaces-") for name in left)
    assert overlay("apply", upper, low).returncode == 0
    assert all((low / name).read_bytes() == b"new" * 20_000 for name in names)


@pytest.mark.parametrize("depth", [60, pytest.param(1500, marks=pytest.mark.stress)])
def test_trees_of_any_depth(low: Path, depth: int) -> None:
    make = "import os\nfor i in range(%d): os.mkdir('d'); open('f', 'w').close(); os.chdir('d')"
    done = outcome([*PYTHON, "-c", make % depth], cwd=low / "again")
    assert done.returncode == 0
    script = "import os\nos.system('rm -r again')\nos.chdir('sub')\n"
    upper, _ = lay(low, script + make % depth, "--user")
    try:
        done = outcome(
            [
                "sh",
                "-c",
                'ulimit -n 128; exec "$@"',
                "sh",
                SCRIPT,
                *("overlay", "apply", str(upper), str(low)),
            ]
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert not (low / "again").exists()
        assert overlay("diff", upper, low).stdout == ""
    finally:
        for path in (low, upper):
            subprocess.run(["rm", "-rf", str(path)], check=True)


def test_changes_are_applied_by_one_at_a_time(tmp_path: Path) -> None:
    upper, low = tmp_path / "upper", tmp_path / "low"
    for directory in (upper, low):
        directory.mkdir()
    (upper / "new").touch()
    first = os.open(upper, os.O_RDONLY)
    fcntl.flock(first, fcntl.LOCK_EX)  # as one that is at work
    done = overlay("apply", str(upper), str(low))
    told = f"pyspaces: overlay: {upper}: is locked: its changes are being applied already\n"
    assert (done.returncode, done.stdout, done.stderr) == (125, "", told)
    assert overlay("diff", str(upper), str(low)).returncode == 0
    os.close(first)
    assert overlay("apply", str(upper), str(low)).returncode == 0
    assert (low / "new").exists()


@pytest.mark.parametrize("task", ["diff", "apply"])
def test_a_directory_within_the_upper_one_is_refused(low: Path, task: str) -> None:
    """To write all of it into a part of it has no end."""
    within = low / "sub" / "in"
    within.mkdir()
    before = snapshot(low)
    done = overlay(task, low, within)
    assert (done.returncode, done.stdout) == (125, "")
    assert f"{within}: is the directory to compare with" in done.stderr
    assert "hint: give the directory that took the changes, and then" in done.stderr
    assert snapshot(low) == before


def test_what_is_wrong_is_named(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "file").touch()
    for words, status, error in (
        (("diff", tmp_path / "a", tmp_path / "a"), 2, "are the same directory"),
        (("apply", tmp_path / "no", tmp_path / "a"), 125, "no: No such file or directory"),
        (("apply", tmp_path / "a", tmp_path / "file"), 125, "file: Not a directory"),
        (("diff", tmp_path / "a"), 2, "overlay diff: missing argument 'DIR'"),
        (("commit", "a", "b"), 2, "apply UPPER DIR"),
        ((), 2, "missing command"),
    ):
        done = overlay(*words)
        assert (done.returncode, done.stdout) == (status, "")
        assert error in done.stderr
