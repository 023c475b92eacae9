"""Operations on the tree of a command, each looked at from inside; the host stays as it was."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import IS_ROOT, SCRIPT, outcome, processes_of, without
from usage import assert_refused, said

from pyspaces import Container, launch, settings
from pyspaces.errors import SpaceError
from pyspaces.mounts.feature import Mounts
from pyspaces.mounts.operations import Bind, Dir, File, Proc, ReadOnly, Symlink, Tmpfs
from pyspaces.plan import Plan

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from conftest import Run

pytestmark = pytest.mark.needs("userns", "unshare", "proc")


def inside(script: str, *options: str, code: int = 0, **more: Any) -> str:
    """Run `script` with options of a launch; return what it prints."""
    words = [SCRIPT, "run", "--user", *options, "--", "sh", "-ec", script]
    done = subprocess.run(
        words,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        **more,
    )
    assert (done.returncode, done.stderr) == (code, ""), done.stdout
    return str(done.stdout)


def refused(*options: str, **more: Any) -> str:
    """Return what a launch says that cannot be; its command must not run."""
    words = [SCRIPT, "run", "--user", *options, "--", "echo", "it ran"]
    done = subprocess.run(
        words,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        **more,
    )
    assert (done.returncode, done.stdout) == (125, "")
    return str(done.stderr)


def _shown_for_python() -> list[str]:
    """Return what shows this interpreter in a root that has /usr."""
    words = []
    for name in ("bin", "lib", "lib64"):
        if os.path.islink(f"/{name}"):
            words += ["--symlink", os.readlink(f"/{name}"), f"/{name}"]
        elif os.path.isdir(f"/{name}"):
            words += ["--ro-bind", f"/{name}", f"/{name}"]
    for path in sorted({sys.prefix, os.path.realpath(sys.base_prefix)}):
        if not path.startswith("/usr"):
            words += ["--ro-bind", path, path]
    return words


@pytest.fixture
def src(tmp_path: Path) -> Path:
    """Return a directory of the host with a file and a directory in it."""
    directory = tmp_path / "src"
    (directory / "sub").mkdir(parents=True)
    (directory / "file").write_text("text\n")
    return directory


# --- binds -----------------------------------------------------------------------------------


def test_bind(src: Path) -> None:
    assert inside("cat /mnt/file; echo new > /mnt/new", "--bind", str(src), "/mnt") == "text\n"
    assert (src / "new").read_text() == "new\n", "it is the host's directory"


def test_ro_bind(src: Path) -> None:
    script = "cat /mnt/file; touch /mnt/new 2>&1 || touch /mnt/sub/new 2>&1 || true"
    told = inside(script, "--ro-bind", str(src), "/mnt")
    assert told.startswith("text\n")
    assert told.count("Read-only file system") == 2


def test_a_relative_source_and_the_same_place(src: Path) -> None:
    assert inside("cat file; pwd", "--ro-bind", "sub", "/mnt", "--bind", ".", ".", cwd=src) == (
        f"text\n{src}\n"
    )


def test_the_last_of_two_is_seen(src: Path) -> None:
    options = ["--tmpfs", "/mnt", "--bind", str(src), "/mnt"]
    assert inside("ls /mnt", *options) == "file\nsub\n"
    assert inside("ls /mnt", *options[2:], *options[:2]) == ""


def test_what_is_mounted_beneath_comes_along_and_is_read_only_too(src: Path) -> None:
    script = "ls /mnt/sub; touch /mnt/sub/new 2>&1 || true"
    outer = ["--tmpfs", f"{src}/sub", "--file", "0", f"{src}/sub/deep"]
    words = [SCRIPT, "run", "--user", "--ro-bind", str(src), "/mnt", "--", "sh", "-ec", script]
    told = inside(" ".join(f"'{word}'" for word in words), *outer, input="x")
    assert told.startswith("deep\n")
    assert "Read-only file system" in told
    assert list((src / "sub").iterdir()) == []


def test_a_bind_has_no_devices_but_dev_bind() -> None:
    script = "if (: > {}/null) 2>/dev/null; then echo yes; else echo no; fi"
    assert inside(script.format("/mnt"), "--bind", "/dev", "/mnt") == "no\n"
    assert inside(script.format("/mnt"), "--dev-bind", "/dev", "/mnt") == "yes\n"


def test_a_bind_of_the_root_has_a_dev_that_works() -> None:
    assert inside("echo x > /dev/null; true & wait", "--ro-bind", "/", "/") == ""


def test_what_may_be_missing(src: Path) -> None:
    words = ["--tmpfs", "/mnt"]
    for kind in ("bind", "ro-bind", "dev-bind"):
        words += [f"--{kind}-try", "/no/such", "/mnt", "--dir", f"/mnt/{kind}"]
        words += [f"--{kind}-try", str(src), f"/mnt/{kind}"]
    shown = inside("ls -x /mnt /mnt/*", *words)
    assert shown.splitlines()[1].split() == ["bind", "dev-bind", "ro-bind"]
    assert shown.count("file  sub") == 3
    for kind in ("bind", "ro-bind", "dev-bind"):
        told = refused(f"--{kind}", "/no/such", "/mnt")
        assert "bind /no/such on /mnt" in told
        assert "source /no/such: No such file or directory" in told
        assert "hint: to ignore a missing source" in told


def test_descriptors_can_be_bound(src: Path) -> None:
    with open(src / "file") as file:
        number = str(file.fileno())
        given: dict[str, Any] = {"pass_fds": [file.fileno()]}
        script = f"cat /mnt/f; ls /proc/self/fd/{number} 2>/dev/null || echo closed"
        options = ["--tmpfs", "/mnt", "--ro-bind-fd", number, "/mnt/f"]
        assert inside(script, *options, **given) == "text\nclosed\n"
    assert "descriptor 99: Bad file descriptor" in refused("--bind-fd", "99", "/mnt")


def test_data_of_descriptors() -> None:
    script = "cat /etc/hostname; stat -c %a /etc/hostname; : > /etc/hostname"
    assert inside(script, "--bind-data", "0", "/etc/hostname", input="box\n") == "box\n600\n"
    options = ["--perms", "0444", "--ro-bind-data", "0", "/etc/hostname"]
    told = inside("stat -c %a /etc/hostname; (: > /etc/hostname) 2>&1 || true", *options, input="b")
    assert told.startswith("444\n")
    assert "Read-only file system" in told
    assert Path("/etc/hostname").read_text() != "b"


def test_a_file_is_made_only_in_what_is_ours(src: Path) -> None:
    options = ["--tmpfs", "/mnt", "--perms", "0640", "--file", "0", "/mnt/a/b/c"]
    assert inside("cat /mnt/a/b/c; stat -c %a /mnt/a/b/c", *options, input="x\n") == "x\n640\n"
    told = refused("--file", "0", f"{src}/new", input="x")
    assert "would have to be created in a directory of the host, which is left as it is" in told
    assert not (src / "new").exists()


def test_a_descriptor_that_cannot_be_read(tmp_path: Path) -> None:
    with open(tmp_path / "out", "w") as file:
        told = refused(
            *("--tmpfs", "/mnt", "--file", str(file.fileno()), "/mnt/f"), pass_fds=[file.fileno()]
        )
    assert "Bad file descriptor" in told
    directory = os.open(tmp_path, os.O_RDONLY)
    told = refused("--tmpfs", "/mnt", "--file", str(directory), "/mnt/f", pass_fds=[directory])
    os.close(directory)
    assert "Is a directory" in told


def test_a_file_system_that_is_full() -> None:
    told = refused("--size", "8K", "--tmpfs", "/mnt", "--file", "0", "/mnt/f", input="x" * 99999)
    assert "cannot write descriptor 0 to the file /mnt/f" in told
    assert "No space left on device" in told


# --- targets ---------------------------------------------------------------------------------


def test_targets_and_modifiers_that_cannot_be_meant() -> None:
    rows = [
        (["--tmpfs", target], repr(target)) for target in ("mnt", "../mnt", "/mnt/../usr", "/..")
    ]
    rows += [(["--size", word, "--tmpfs", "/mnt"], "is not a size") for word in ("x", "-1", "1X")]
    rows += [
        (["--size", "", "--tmpfs", "/mnt"], "is not a size"),
        (["--tmpfs", ""], "cannot be empty"),
        (["--size", "1M"], "size: no operation follows"),
        (["--perms", "0700", "--bind", "/usr", "/mnt"], "perms: does not apply to --bind"),
        (["--size", "1M", "--size", "1M", "--tmpfs", "/mnt"], "size: given twice"),
        (["--perms", "9", "--tmpfs", "/mnt"], "is not a mode"),
        (["--mask", "/"], "the root cannot be masked"),
        (["--tmp-overlay", "/mnt"], "requires a layer: add --overlay-src"),
        (["--overlay-src", "/usr", "--ro-overlay", "/mnt"], "requires two layers or more"),
        (["--overlay-src", "/usr"], "overlay-src: no operation follows"),
        (["--ro-bind-fd", "0", "/mnt", "--bind-fd", "0", "/srv"], "another operation uses the sam"),
    ]
    assert_refused([(["--user", *words], error) for words, error in rows])


def test_a_link_in_the_new_tree_leads_nowhere_outside(tmp_path: Path) -> None:
    root = tmp_path / "root"
    for name in ("proc", "etc"):
        (root / name).mkdir(parents=True)
    (root / "out").symlink_to("/etc")
    (root / "up").symlink_to("../../../../../../etc")
    outside = set(os.listdir("/etc"))
    for name in ("out", "up"):
        options = ["--root", str(root), "--tmpfs", f"/{name}", "--ro-bind", "/usr", "/mnt"]
        told = refused(*options)
        assert "/mnt: No such file or directory" in told, "the tmpfs was mounted inside"
    assert set(os.listdir("/etc")) == outside


def test_nothing_is_made_on_the_host(src: Path) -> None:
    before = sorted(str(path) for path in src.rglob("*"))
    for words in (
        ["--bind", "/usr", f"{src}/no"],
        ["--tmpfs", f"{src}/no/deep"],
        ["--symlink", "x", f"{src}/no"],
    ):
        told = refused(*words)
        assert f"{src}/no" in told
        assert (
            "it would have to be created in a directory of the host, which is left as it is" in told
        )
        assert told.endswith(
            "hint: create it first, or add --create-targets, which leaves it on the host\n"
        )
    assert sorted(str(path) for path in src.rglob("*")) == before


def test_what_is_missing_on_the_host_is_made_if_that_is_asked_for(src: Path) -> None:
    shown = ["--create-targets", "--bind", str(src), "/mnt"]
    inside(
        "touch /mnt/a/b/c; test -s /mnt/f; test $(cat /mnt/g) = x",
        *(*shown, "--perms", "0700", "--tmpfs", "/mnt/a/b", "--ro-bind", "/etc/passwd", "/mnt/f"),
        *("--file", "0", "/mnt/g", "--symlink", "g", "/mnt/link"),
        *("--dir", "/mnt/d", "--chmod", "1751", "/mnt/d"),
        input="x",
    )
    made = {str(path.relative_to(src)): path for path in src.rglob("*")}
    assert made.keys() == {"file", "sub", "a", "a/b", "f", "g", "link", "d"}
    modes = {name: made[name].stat().st_mode & 0o7777 for name in ("a", "a/b", "f", "d")}
    assert modes == {"a": 0o700, "a/b": 0o755, "f": 0o444, "d": 0o1751}
    assert (made["f"].read_text(), made["g"].read_text()) == ("", "x")
    assert {path.lstat().st_uid for path in made.values()} == {os.geteuid()}
    # What was there before is the host's as ever.
    told = refused(*shown, "--dir", "/mnt/sub", "--chmod", "0700", "/mnt/sub")
    assert "/mnt/sub: belongs to the host, and is not changed" in told
    told = refused("--create-targets", "--ro-bind", str(src), "/mnt", "--tmpfs", "/mnt/new")
    assert "/mnt/new: Read-only file system" in told


def test_to_make_targets_takes_targets() -> None:
    words = [SCRIPT, "run", "--user", "--create-targets", "--", "true"]
    done = outcome(words)
    assert done.returncode == 2
    assert done.stderr == "pyspaces: --create-targets: there is no operation that has a target\n"


def test_a_file_is_no_directory(src: Path) -> None:
    assert "is a directory, not a file" in refused("--bind", f"{src}/file", "/mnt")
    assert "is a file, not a directory" in refused("--bind", str(src), f"{src}/file")
    assert "is a file, not a directory" in refused("--tmpfs", f"{src}/file")


# --- what is made ----------------------------------------------------------------------------


def test_tmpfs_with_size_and_mode() -> None:
    script = "stat -c %a /mnt; df -k --output=size /mnt | tail -1; echo x > /mnt/f"
    told = inside(script, "--size", "1M", "--perms", "0711", "--tmpfs", "/mnt").split()
    assert told == ["711", "1024"]


def test_dir_symlink_chmod() -> None:
    options = [
        "--tmpfs",
        "/mnt",
        "--perms",
        "0700",
        "--dir",
        "/mnt/a/b",
        "--symlink",
        "a",
        "/mnt/l",
    ]
    options += ["--chmod", "01777", "/mnt/a", "--dir", "/mnt/l/c", "--symlink", "a", "/mnt/l"]
    script = "stat -c %a /mnt/a /mnt/a/b; readlink /mnt/l; ls /mnt/a"
    assert inside(script, *options).split() == ["1777", "700", "a", "b", "c"]
    assert "is not this link" in refused(*options, "--symlink", "b", "/mnt/l")
    assert "exists, and is not a directory" in refused("--dir", "/etc/passwd")
    assert "belongs to the host, and is not changed" in refused("--chmod", "0700", "/usr")


def test_proc_is_of_the_new_namespace() -> None:
    assert inside("echo /proc/[0-9]*", "--pid", "--tmpfs", "/mnt") == "/proc/1\n"
    told = inside("echo /mnt/[0-9]*", "--pid", "--tmpfs", "/mnt", "--proc", "/mnt")
    assert told == "/mnt/1\n"


def test_proc_of_a_shared_pid_namespace_is_the_existing_one() -> None:
    """The kernel allows no new one, as bwrap(1) knows too; what covers parts of it stays."""
    first = r"sed -n 's|^[^-]* \(/proc[^ ]*\) .* - \([a-z]*\) .*|\1 \2|p' /proc/self/mountinfo"
    script = f"ls -d /proc/$$; {first} | sort -u"
    told = inside(script, "--proc", "/proc").split("\n")
    assert told[0].startswith("/proc/")
    assert "/proc proc" in told
    outer = f"mount -t tmpfs none /proc/sys/kernel; {SCRIPT} run --user --empty-root"
    outer += " --ro-bind /usr /usr --ro-bind /bin /bin --ro-bind-try /lib /lib"
    outer += " --ro-bind-try /lib64 /lib64 --proc /proc -- ls -A /proc/sys/kernel"
    words = ["unshare", "-Urm", "sh", "-ec", outer]
    done = outcome(words, check=True)
    assert done.stdout == ""
    assert inside("ls -d /mnt/p/$$", "--tmpfs", "/mnt", "--proc", "/mnt/p").startswith("/mnt/p/")


@pytest.mark.parametrize("options", [("--user",), ("--user", "--cap-drop", "all")], ids=" ".join)
def test_that_proc_leads_into_no_other_process(options: tuple[str, ...]) -> None:
    """The kernel keeps what is in a user namespace from processes outside, of the same user too."""
    script = "for p in root cwd fd/0 environ ns/mnt map_files; do"
    script += f" ls /proc/{os.getpid()}/$p/ || cat /proc/{os.getpid()}/$p; done"
    words = [SCRIPT, "run", *options, "--proc", "/proc", "--", "sh", "-c", script]
    done = outcome(words)
    assert done.stdout == ""
    assert done.stderr.count("ermission denied") >= 6


def test_a_plan_with_a_new_proc_of_a_shared_pid_namespace() -> None:
    """What --proc never makes; as root without a user namespace it can be."""
    plan = Plan(
        command=("true",), namespaces=("user", "mount"), mounts=Mounts(operations=(Proc(),))
    )
    with pytest.raises(SpaceError, match="mount a new /proc: mount /proc: Operation not permitted"):
        launch.start(plan)
    with pytest.raises(SpaceError, match="add --pid, or use --bind /proc /proc to show"):
        launch.start(plan)


@pytest.mark.needs("pidns")
def test_proc_of_a_pid_namespace_that_is_joined() -> None:
    words = [SCRIPT, "run", "--user", "--pid", "--", "sh", "-c", "echo; exec sleep 1000"]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as first:
        try:
            assert first.stdout is not None
            first.stdout.readline()
            (pid,) = processes_of(first.pid)
            join = ["--join", f"user={pid}", "--join", f"pid={pid}", "--mount", "--proc", "/proc"]
            words = [SCRIPT, "run", *join, "--", "sh", "-c", "echo /proc/[0-9]*"]
            done = outcome(words)
        finally:
            first.kill()
    assert (done.stdout, done.stderr) == ("/proc/1 /proc/2\n", "")


def test_a_root_without_proc_where_proc_was_asked(tmp_path: Path) -> None:
    told = refused("--pid", "--root", str(tmp_path), "--proc", "/proc")
    assert "hint: the new root has no directory proc" in told


def test_sysfs_and_mqueue_are_of_new_namespaces() -> None:
    assert inside("ls /mnt/class/net", "--net", "--tmpfs", "/mnt", "--sysfs", "/mnt") == "lo\n"
    assert inside("ls /mnt", "--ipc", "--mqueue", "/mnt") == ""
    assert (
        "hint: in a user namespace, sysfs can be mounted only for a new net namespace"
        in refused("--sysfs", "/mnt")
    )
    assert (
        "hint: in a user namespace, mqueue can be mounted only for a new ipc namespace"
        in refused("--mqueue", "/mnt")
    )


def test_dev() -> None:
    script = """
        echo x > /dev/null; head -c 3 /dev/zero | wc -c; head -c 2 /dev/urandom | wc -c
        (echo x > /dev/full) 2>/dev/null || echo full; true & wait
        echo y > /dev/shm/f; cat /dev/shm/f; echo e > /dev/stderr; ls -d /dev/fd/0
        python3 -c 'import os; os.openpty(); print(os.listdir("/dev/pts"))'
        ls /dev"""
    done = outcome(
        [SCRIPT, "run", "--user", "--dev", "/dev", "--", "sh", "-ec", script],
        check=True,
        stdin=subprocess.DEVNULL,
    )
    first = ["3", "2", "full", "y", "/dev/fd/0"]
    assert done.stdout.split("\n")[:5] == first
    assert done.stderr == "e\n"
    names = ["core", "fd", "full", "null", "ptmx", "pts", "random", "shm"]
    names += ["stderr", "stdin", "stdout", "tty", "urandom", "zero"]
    assert done.stdout.split("\n")[6:-1] == names, "and no console, where there is no terminal"


# Prints what there is: path, kind and mode, device number, text of a link.
LIST = """
import os, sys
for top in sys.argv[1:]:
    for directory, names, files in os.walk(top):
        for path in (directory, *(os.path.join(directory, name) for name in files)):
            s = os.lstat(path)
            text = os.readlink(path) if os.path.islink(path) else ""
            print(path, oct(s.st_mode), s.st_rdev, text, file=sys.stderr)
"""
# What bwrap and we are both given, with a python in it.
USR = ["--ro-bind", "/usr", "/usr", *_shown_for_python()]


def listed(program: list[str], *options: str, tops: list[str], **more: Any) -> list[str]:
    """Return what there is in some directories, as a program makes it."""
    words = [*program, *USR, *options, "--", sys.executable, "-ISc", LIST, *tops]
    more = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL} | more
    done = subprocess.run(words, stderr=subprocess.PIPE, text=True, timeout=60, check=True, **more)
    return sorted(done.stderr.splitlines())


OURS, BWRAP = [SCRIPT, "run", "--user", "--empty-root"], ["bwrap", "--unshare-user"]


@pytest.mark.needs("bwrap")
@pytest.mark.parametrize("terminal", [False, True])
def test_dev_is_that_of_bwrap(terminal: bool) -> None:
    more: dict[str, Any] = {}
    opened = os.openpty() if terminal else ()
    if opened:
        more = {"stdin": opened[1], "stdout": opened[1]}
    try:
        ours, theirs = (
            listed(program, "--dev", "/dev", tops=["/dev"], **more) for program in (OURS, BWRAP)
        )
    finally:
        for descriptor in opened:
            os.close(descriptor)
    assert any(row.startswith("/dev/console ") for row in ours) == terminal
    # Shared memory is for every user, and bwrap has one user.
    assert "/dev/shm 0o41777 0 " in ours
    ours.remove("/dev/shm 0o41777 0 ")
    theirs.remove("/dev/shm 0o40755 0 ")
    assert ours == theirs


MODES = [[], *(["--perms", mode] for mode in ("0700", "0750", "0500"))]
MAKERS = [["--dir"], ["--tmpfs"], ["--file", "0"], ["--bind-data", "0"], ["--ro-bind-data", "0"]]


@pytest.mark.needs("bwrap")
def test_directories_on_the_way_have_the_mode_of_bwraps() -> None:
    options: list[str] = []
    tops: list[str] = []
    with contextlib.ExitStack() as stack:
        files = []
        for mode, (maker, *more) in itertools.product(MODES, MAKERS):
            tops.append(f"/{len(tops)}")
            options += [*mode, maker]
            if more:  # a descriptor can be used once
                files.append(stack.enter_context(open(os.devnull)).fileno())
                options.append(str(files[-1]))
            options.append(f"{tops[-1]}/b/c")
        ours, theirs = (
            listed(program, *options, tops=tops, pass_fds=files) for program in (OURS, BWRAP)
        )
    assert len(ours) == 3 * len(tops)
    assert ours == theirs


@pytest.mark.needs("bwrap")
def test_directories_that_are_there_keep_their_mode() -> None:
    options = ["--dir", "/a", "--perms", "0700", "--dir", "/a/b/c", "--dir", "/a/b/d/e"]
    ours, theirs = (listed(program, *options, tops=["/a"]) for program in (OURS, BWRAP))
    assert ours == theirs
    assert [row.split()[1] for row in ours] == ["0o40755", "0o40700", "0o40700"] + ["0o40755"] * 2


def test_a_mount_point_that_is_made() -> None:
    script = "umount /mnt/a/f /mnt/b/d; stat -c %a /mnt/a /mnt/a/f /mnt/b /mnt/b/d"
    options = ["--tmpfs", "/mnt", "--bind", "/etc/passwd", "/mnt/a/f", "--bind", "/usr", "/mnt/b/d"]
    assert inside(script, *options).split() == ["755", "444", "755", "755"]


@pytest.mark.needs("script")
def test_dev_has_a_console_where_the_caller_has_a_terminal(tmp_path: Path) -> None:
    script = "test -c /dev/console; script -qec tty /dev/null"
    command = f"{SCRIPT} run --user --dev /dev -- sh -ec '{script}'"
    words = ["script", "-qec", command, str(tmp_path / "log")]
    done = outcome(words, check=True, stdin=subprocess.DEVNULL)
    assert "/dev/pts/0" in done.stdout, "the terminals inside count from 0"


def test_mask(src: Path) -> None:
    for name in ("a.key", "b.key", ".c.key", "d"):
        (src / name).write_text("secret")
    options = ["--mask", f"{src}/*.key", "--mask", f"{src}/sub", "--mask", f"{src}/none/x"]
    script = f"cat {src}/*.key {src}/.c.key {src}/d; ls {src}/sub"
    assert inside(script, *options) == "secretsecret", "neither hidden files nor others"
    told = inside(f"(echo x > {src}/a.key) 2>&1; touch {src}/sub/x 2>&1 || true", *options)
    assert "Read-only file system" in told


@pytest.mark.as_ordinary
def test_a_directory_that_nobody_may_enter_can_be_masked() -> None:
    assert inside("ls -A /root", "--mask", "/root") == ""


# --- read-only -------------------------------------------------------------------------------


def test_the_whole_tree_is_read_only_and_has_holes(src: Path) -> None:
    options = ["--read-only", "--tmpfs", "/tmp", "--bind", str(src), "/mnt"]
    inside("echo x > /dev/null; echo x > /tmp/x; echo x > /mnt/hole", *options)
    assert (src / "hole").exists()
    points = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    script = 'for p in "$@"; do if touch "$p/pyspaces.x" 2>/dev/null; then echo "$p"; fi; done'
    words = [SCRIPT, "run", "--user", "--read-only", "--", "sh", "-c", script, "sh", *points]
    assert outcome(words, check=True).stdout == ""
    told = inside("touch /usr/x 2>&1 || true", "--read-only")
    assert "Read-only file system" in told


def _shown() -> list[str]:
    """Return what shows this program and its interpreter in a tree that has little else."""
    paths = {sys.prefix, os.path.realpath(sys.base_prefix), str(Path(__file__).parents[2])}
    return [word for path in sorted(paths) for word in ("--ro-bind", path, path)]


WITHIN = {
    "read-only": ["--read-only"],
    "throwaway": ["--throwaway"],
    "host-ro": ["--host-ro", *_shown()],
    "host-ro, read-only": ["--host-ro", *_shown(), "--read-only"],
    "throwaway, read-only": ["--throwaway", "--read-only"],
    "proc": ["--proc", "/proc"],
    "proc elsewhere too": ["--tmpfs", "/mnt", "--proc", "/mnt/p", "--read-only"],
    "root": ["--root", "/", "--read-only"],
}


@pytest.mark.crossed(1)
@pytest.mark.needs("overlay", "pidns")
@pytest.mark.parametrize("lacking", [(), (442,)], ids=str)
@pytest.mark.parametrize("space", ["", "--user --pid"])
@pytest.mark.parametrize("name", WITHIN)
def test_a_launch_within(name: str, space: str, lacking: tuple[int, ...], tmp_path: Path) -> None:
    """/proc is as the kernel has it: with a read-only one, no id map could be written."""
    if not space and not IS_ROOT:
        space = "--user"
    words = [SCRIPT, "run", *space.split(), *WITHIN[name], "--workdir", "/"]
    words += ["--", SCRIPT, "run", "--user", "--", "cat", "/proc/self/uid_map"]
    done = outcome([*without(*lacking), *words], cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split()[0::2] == ["0", "1"]


@pytest.mark.parametrize("lacking", [(), (442,)], ids=str)
def test_only_a_proc_that_could_be_written_to_stays_so(lacking: tuple[int, ...]) -> None:
    script = "import os; points = ('/proc', '/proc/sys/kernel', '/mnt/p');"
    script += " print(*(f'{p} {os.statvfs(p).f_flag & 1}' for p in points if os.path.ismount(p)),"
    script += " sep=chr(10))"
    outer = ["unshare", "-Urmpf", "sh", "-ec"]

    def told(set_up: str, *options: str) -> list[str]:
        words = [*without(*lacking), SCRIPT, "run", *options, "--read-only"]
        words += ["--", sys.executable, "-ISc", script]
        begin = f'mount -t proc none /proc; {set_up}exec "$@"'
        done = outcome([*outer, begin, "sh", *words], check=True)
        return done.stdout.splitlines()

    assert "/proc 0" in told("")
    beneath = "mount -t tmpfs none /proc/sys/kernel; "
    assert {"/proc 0", "/proc/sys/kernel 1"} <= set(told(beneath))
    seen = told("", "--tmpfs", "/mnt", "--dir", "/mnt/p", "--bind", "/proc", "/mnt/p")
    assert {"/proc 0", "/mnt/p 1"} <= set(seen)
    if lacking:
        return  # what is left alone is left alone in either way
    assert "/proc 1" in told("mount -o remount,bind,ro /proc; ")
    assert "/proc 1" in told("", "--ro-bind", "/proc", "/proc"), "it was asked for"
    assert "/proc 1" in told("", "--tmpfs", "/proc"), "it is none"
    assert "/proc 1" in told("", "--bind", "/proc/self", "/proc"), "it is a part of one"


def test_flags_that_a_mount_had_are_kept() -> None:
    """In a user namespace they are locked: mount_namespaces(7)."""
    outer = ["unshare", "-Urm", "sh", "-ec"]
    script = f"mount -t tmpfs -o nosuid,noexec,noatime none /mnt; {SCRIPT} run --user --read-only"
    script += " -- grep ' /mnt ' /proc/self/mountinfo"
    done = outcome([*outer, script], check=True)
    flags = done.stdout.split()[5].split(",")
    assert flags == ["ro", "nosuid", "noexec", "noatime"]


def test_remount_ro_is_about_one_mount() -> None:
    options = ["--tmpfs", "/mnt", "--dir", "/mnt/a", "--tmpfs", "/mnt/a", "--remount-ro", "/mnt"]
    script = "touch /mnt/a/x; touch /mnt/x 2>&1 || true"
    assert "Read-only file system" in inside(script, *options)
    assert "/mnt: is not a mount point" in refused("--remount-ro", "/mnt")


# --- roots -----------------------------------------------------------------------------------


def test_an_empty_root() -> None:
    options = ["--empty-root", "--ro-bind", "/usr", "/usr"]
    for name in ("bin", "lib", "lib64"):
        if os.path.islink(f"/{name}"):
            options += ["--symlink", f"usr/{name}", f"/{name}"]
        elif os.path.isdir(f"/{name}"):
            options += ["--ro-bind", f"/{name}", f"/{name}"]
    told = inside("ls /; touch /x; test -e /proc/1 || echo none", *options)
    assert set(told.split()) <= {"bin", "lib", "lib64", "usr", "none"}


@pytest.mark.needs("busybox")
def test_a_root_of_busybox_boots_a_shell(tmp_path: Path) -> None:
    busybox = shutil.which("busybox")
    assert busybox is not None
    if (
        b"not a dynamic executable"
        not in subprocess.run(["ldd", busybox], capture_output=True, check=False).stderr
    ):
        pytest.skip("busybox is not static here")
    for name in ("bin", "proc", "dev", "tmp"):
        (tmp_path / name).mkdir()
    shutil.copy(busybox, tmp_path / "bin" / "busybox")
    (tmp_path / "bin" / "sh").symlink_to("busybox")
    words = [SCRIPT, "run", "--user", "--pid", "--root", str(tmp_path), "--dev", "/dev"]
    script = "busybox ls /; echo x > /dev/null; busybox ps | busybox grep -c sh; pwd"
    done = outcome([*words, "--", "/bin/sh", "-ec", script], check=True, env={"HOME": "/tmp"})
    lines = done.stdout.split()
    assert lines[:4] == ["bin", "dev", "proc", "tmp"]
    assert lines[-1] == "/tmp", "the caller's directory is not there, and HOME is"


def test_where_the_command_starts(src: Path) -> None:
    shown = ["--empty-root", "--host-ro"]
    assert inside("pwd", *shown, "--bind", ".", str(src), cwd=src) == f"{src}\n"
    assert inside("pwd", *shown, cwd=src, env={"HOME": "/usr", "PATH": "/bin"}) == "/usr\n"
    assert inside("pwd", *shown, cwd=src, env={"HOME": "/nope", "PATH": "/bin"}) == "/\n"
    assert inside("pwd", *shown, "--workdir", "/etc", cwd=src) == "/etc\n"


def test_nothing_of_it_is_seen_outside(wait_until: Callable[..., None]) -> None:
    before = Path("/proc/self/mountinfo").read_text()
    words = [SCRIPT, "run", "--user", "--host-ro", "--tmpfs", "/mnt", "--", "sh", "-c"]
    with subprocess.Popen(
        [*words, "echo up; read line"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as launcher:
        assert launcher.stdout is not None
        launcher.stdout.readline()
        assert Path("/proc/self/mountinfo").read_text() == before
        launcher.communicate(b"\n", timeout=60)
    assert launcher.returncode == 0


# --- sets ------------------------------------------------------------------------------------


def test_host_ro(src: Path) -> None:
    script = "ls /; touch /tmp/x; getent hosts localhost; for p in /usr /etc; do"
    script += " touch $p/x 2>&1 || true; done; echo x > /dev/null; test ! -e /home"
    told = inside(script, "--pid", "--host-ro", cwd=src)
    shown = told.split("\n")
    assert {"usr", "etc", "dev", "proc", "tmp"} <= set(shown)
    assert not {"home", "root", "srv", "var"} & set(shown)
    assert "localhost" in told
    assert told.count("Read-only file system") == 2


@pytest.mark.needs("make")
def test_a_build_in_a_bare_host(src: Path) -> None:
    (src / "Makefile").write_text("out: file\n\tcat file > out; ls -d /home /root || true\n")
    words = [SCRIPT, "run", "--user", "--pid", "--host-ro", "--bind", ".", "/src"]
    words += ["--workdir", "/src", "--", "make"]
    done = outcome(words, check=True, cwd=src)
    assert (src / "out").read_text() == "text\n"
    assert done.stderr.count("No such file or directory") == 2


def test_a_resolv_conf_that_leads_elsewhere() -> None:
    """As systemd-resolved has it: a link to a file in /run."""
    set_up = "mount -t tmpfs none /run; mkdir /run/there; echo nameserver 192.0.2.1 > /run/there/r;"
    set_up += (
        " mkdir /run/etc; cp -a /etc/. /run/etc 2>/dev/null || true; rm -f /run/etc/resolv.conf;"
    )
    set_up += " ln -s ../run/there/r /run/etc/resolv.conf; mount --bind /run/etc /etc"
    words = [
        SCRIPT,
        "run",
        "--user",
        "--host-ro",
        "--",
        "sh",
        "-c",
        "cat /etc/resolv.conf; ls /run",
    ]
    done = outcome(["unshare", "-Urm", "sh", "-ec", f'{set_up}; exec "$@"', "sh", *words])
    assert (done.returncode, done.stdout) == (0, "nameserver 192.0.2.1\nthere\n"), done.stderr


@pytest.mark.needs("overlay")
def test_throwaway(src: Path) -> None:
    mine = (IS_ROOT and "rm -rf /usr/share/doc; test ! -e /usr/share/doc;") or ""
    script = f"{mine} echo new > {src}/new; rm {src}/file; cat {src}/new; echo x > /dev/null"
    assert inside(script, "--throwaway") == "new\n"
    assert os.path.isdir("/usr/share/doc")
    assert sorted(os.listdir(src)) == ["file", "sub"]


@pytest.mark.needs("overlay")
def test_throwaway_where_everybody_writes() -> None:
    """/var/tmp is root's, who is nobody inside: an overlay of /var alone gives EOVERFLOW there."""
    script, directories = "", ["/var/tmp", "/tmp", "/dev/shm"]
    names = [f"{one}/pyspaces.{os.getpid()}" for one in directories if os.path.realpath(one) == one]
    for name in names:
        script += f"mkdir {name}; echo x > {name}/f; mv {name}/f {name}.f; rmdir {name};"
        script += f" cat {name}.f; "
    assert inside(script, "--throwaway") == "x\n" * len(names)
    assert not [name for name in names if os.path.lexists(f"{name}.f")]


@pytest.fixture
def deep(tmp_path: Path) -> Path:
    """Return a directory of the caller in one of somebody else, both below a common one."""
    mine = tmp_path / "theirs" / "mine" / "sub"
    mine.mkdir(parents=True)
    (mine / "file").write_text("text\n")
    os.chown(tmp_path / "theirs", 4711, 4712)
    (tmp_path / "theirs" / "open").mkdir()
    (tmp_path / "theirs" / "open").chmod(0o777)
    os.chown(tmp_path / "theirs" / "open", 4711, 4712)
    return mine


@pytest.mark.needs("overlay")
@pytest.mark.as_root
@pytest.mark.parametrize("way", ["the working directory", "HOME"])
def test_throwaway_below_a_directory_of_somebody_else(way: str, deep: Path, tmp_path: Path) -> None:
    script = f"rm {deep}/file; echo new > {deep.parent}/new; ls {deep.parent} {deep}"
    at = {"cwd": deep} if way != "HOME" else {"env": os.environ | {"HOME": str(deep)}}
    diff = tmp_path / "diff"
    shown = inside(script, "--throwaway", "--overlay-diff", str(diff), **at)
    assert shown == f"{deep.parent}:\nnew\nsub\n\n{deep}:\n"
    assert (deep / "file").read_text() == "text\n"
    assert diff.read_text() == f"added   {deep.parent}/new\ndeleted {deep}/file\n"


@pytest.mark.needs("overlay")
@pytest.mark.parametrize("home", ["", "relative", "/", "/etc/passwd/x"])
def test_throwaway_with_any_home_and_a_directory_that_has_gone(home: str, tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    words = [SCRIPT, "run", "--user", "--throwaway", "--workdir", "/", "--", "echo", "ran"]
    done = outcome(
        ["/bin/sh", "-ec", f'cd {gone}; rmdir {gone}; exec "$@"', "sh", *words],
        env=os.environ | {"HOME": home},
    )
    assert (done.returncode, done.stdout) == (0, "ran\n"), done.stderr


@pytest.mark.needs("overlay")
@pytest.mark.as_root
def test_a_directory_with_many_open_ones_has_no_overlay_for_each(tmp_path: Path) -> None:
    """Each takes a descriptor: the launch would fail where there are more than it may have."""
    options = ["--throwaway"]
    script = "grep -c ' /srv/.* overlay ' /proc/self/mountinfo || true"
    for count, overlays in ((16, 16), (17, 0)):
        make = "mount -t tmpfs none /srv; mkdir /srv/a; mount -t tmpfs none /srv/a; mkdir /srv/a/b;"
        make += f" mkdir /srv/b; for i in $(seq {count}); do mkdir -m 0777 /srv/b/$i; done;"
        make += " chown 5 /srv/b/*"
        words = [SCRIPT, "run", "--user", *options, "--", "sh", "-c", script]
        done = outcome(["unshare", "-m", "sh", "-ec", f'{make}; exec "$@"', "sh", *words], cwd="/")
        # And those of /srv/a and /srv/b.
        assert done.stdout == f"{overlays + 2}\n", done.stderr


@pytest.mark.needs("overlay")
@pytest.mark.as_root
def test_where_an_overlay_cannot_be_written_and_what_helps(deep: Path) -> None:
    place = deep.parents[1] / "open"
    script = f"touch {place}/x 2>&1 || true"
    assert "Value too large for defined data type" in inside(script, "--throwaway", cwd="/")
    cure = ["--overlay-src", str(place), "--tmp-overlay", str(place)]
    assert inside(f"{script}; ls {place}", "--throwaway", *cure, cwd="/") == "x\n"
    assert os.listdir(place) == []


# --- overlays --------------------------------------------------------------------------------


@pytest.mark.needs("overlay")
def test_overlays(src: Path, tmp_path: Path) -> None:
    over, upper, work = tmp_path / "over", tmp_path / "upper", tmp_path / "work"
    for directory in (over, upper, work):
        directory.mkdir()
    (over / "file").write_text("upper text\n")
    layers = ["--overlay-src", str(src), "--overlay-src", str(over)]
    assert inside("cat /mnt/file; ls /mnt", *layers, "--ro-overlay", "/mnt") == (
        "upper text\nfile\nsub\n"
    )
    told = inside("touch /mnt/x 2>&1 || true", *layers, "--ro-overlay", "/mnt")
    assert "Read-only file system" in told
    options = [*layers, "--size", "1M", "--tmp-overlay", "/mnt"]
    assert inside("echo x > /mnt/new; rm /mnt/file; ls /mnt", *options) == "new\nsub\n"
    assert sorted(os.listdir(src)) == ["file", "sub"]
    inside("echo x > /mnt/kept", *layers, "--overlay", str(upper), str(work), "/mnt")
    assert (upper / "kept").read_text() == "x\n"
    full = inside("(head -c 3000000 /dev/zero > /mnt/big) 2>&1 || true", *options)
    assert "No space left on device" in full


@pytest.mark.needs("overlay")
def test_overlays_that_cannot_be(src: Path) -> None:
    lower = ["--overlay-src", str(src)]
    assert "source /no/such: No such file" in refused(
        "--overlay-src", "/no/such", "--tmp-overlay", "/mnt"
    )
    told = refused(*lower, "--overlay", str(src), "/dev/shm", "/mnt")
    assert "is not on the same file system as the directory for changes" in told
    told = refused(*lower, "--overlay", "/dev/shm", "/dev/shm", "/mnt")
    assert "/dev/shm: cannot be the directory for changes as well" in told
    nested = [SCRIPT, "run", "--user", *lower, "--tmp-overlay", "/mnt", "--"]
    for _ in range(2):
        nested += [SCRIPT, "run", "--user", "--overlay-src", "/mnt", "--tmp-overlay", "/mnt", "--"]
    done = outcome([*nested, "true"])
    assert done.returncode == 125
    assert "overlayfs can be stacked two levels deep at most" in done.stderr


# --- from Python -----------------------------------------------------------------------------


def test_a_plan_of_records(src: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    plan = settings.plan_from(
        {
            "user": True,
            "mounts": [
                Tmpfs(target="/mnt", perms=0o700),
                Bind(source=str(src), target="/mnt/a", read_only=True),
                Dir(target="/mnt/d"),
                Symlink(text="a", target="/mnt/l"),
                ["bind", str(out), "/mnt/out"],
            ],
            "command": ["sh", "-ec", "ls /mnt > /mnt/out/list; cat /mnt/l/file > /mnt/out/text"],
        }
    )
    assert Plan.from_data(plan.to_data()) == plan
    with launch.start(plan) as running:
        assert running.wait().shell_code == 0
    assert (out / "list").read_text() == "a\nd\nl\nout\n"
    assert (out / "text").read_text() == "text\n"


def test_faults_are_told_all_at_once() -> None:
    plan = Plan(
        command=("true",),
        namespaces=("mount",),
        mounts=Mounts(
            operations=(Tmpfs(target="x", size=0), File(target="/a", fd=5), File(target="/b", fd=5))
        ),
    )
    told = "\n".join(plan.faults())
    assert "'x': a target is a path inside" in told
    assert "size: 0: is not a number of bytes" in told
    assert "another operation uses" in told


def _look(place: str) -> None:
    os.listdir(place)
    with open(f"{place}/a/file") as file:
        assert file.read() == "text\n"
    try:
        open("/usr/x", "w").close()
    except OSError:
        os._exit(7)


def test_a_container(src: Path) -> None:
    mounts: list[Any] = [ReadOnly(), Tmpfs(target="/mnt"), ["ro-bind", src, "/mnt/a"]]
    child = Container(target=_look, args=("/mnt",), user=True, mounts=mounts)
    child.start()
    child.join(60)
    assert child.exitcode == 7


def test_a_plan_goes_through_json(pyspaces: Run, src: Path, tmp_path: Path) -> None:
    words = ["--user", "--tmpfs", "/mnt", "--ro-bind", str(src), "/mnt/a", "--mask", f"{src}/file"]
    command = ["--", "cat", "/mnt/a/file"]
    (_, shown), (_, data) = said(
        [["run", *words, "--dry-run", *more, *command] for more in ((), ("--json",))]
    )
    assert "  mount a tmpfs on /mnt, mode 0755\n  bind" in shown
    plan = tmp_path / "plan"
    plan.write_text(data)
    done = pyspaces("run", "--plan", str(plan))
    assert (done.returncode, done.stdout, done.stderr) == (0, "text\n", "")
    plan.write_text(plan.read_text().replace('"Mask"', '"Flood"'))
    done = pyspaces("run", "--plan", str(plan))
    assert done.returncode == 2
    assert "mounts.operations[2].kind: 'Flood' is none of" in done.stderr


def test_values_of_mount_are_what_the_kernel_says(tmp_path: Path) -> None:
    """With the attributes that an option asks for, and those that hold anyway."""
    (tmp_path / "program").write_text("#!/bin/sh\necho ran\n")
    (tmp_path / "program").chmod(0o755)
    words = [
        "--mount=type=tmpfs,target=/mnt,size=1m,mode=710,noexec,ro",
        f"--mount=type=bind,source={tmp_path},target=/opt,noexec",
        "--noexec",
        *("--bind", str(tmp_path), "/srv"),
        *("--bind", str(tmp_path), "/media"),
    ]
    show = "cat /proc/self/mountinfo; stat -c %a /mnt; for d in opt srv media; do /$d/program; done"
    done = outcome([SCRIPT, "run", "--user", *words, "--", "sh", "-c", show])
    options = {row.split()[4]: row.split()[5] for row in done.stdout.splitlines() if " - " in row}
    assert options["/mnt"].startswith("ro,nosuid,nodev,noexec")
    assert options["/opt"].startswith("rw,nosuid,nodev,noexec")
    assert "noexec" in options["/srv"]
    assert "noexec" not in options["/media"]
    assert done.stdout.split()[-2:] == ["710", "ran"]
    assert done.stderr.count("Permission denied") == 2
