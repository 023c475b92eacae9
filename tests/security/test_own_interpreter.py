"""A hostile root does not get at the interpreter that the launcher runs: CVE-2019-5736.

What is attacked is a copy of the interpreter.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import struct
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

import pytest
from children import program_of
from conftest import IS_ROOT, MUST_RUN, SCRIPT, outcome, processes_with

import pyspaces

TYPE_CHECKING = False
if TYPE_CHECKING:
    from conftest import Run

SOURCE = Path(__file__).with_name("loader.c")
LEADS = "leads to what is outside of the root, such as the launcher's own interpreter"
WAYS = ["--mount", "--user"] if IS_ROOT else ["--user"]


def elf(loader: bytes, *, order: int = 1) -> bytes:
    """Return an ELF program of this machine that names a loader, and is nothing else."""
    machine = Path(sys.executable).read_bytes()[18:20]
    head = b"\x7fELF" + bytes((2, order, 1)) + bytes(9) + struct.pack("=H", 2) + machine
    head += struct.pack("=IQQQIHHHHHH", 1, 0x400000, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    named = loader + b"\0"
    return head + struct.pack("=II6Q", 3, 4, 120, 0, 0, len(named), len(named), 1) + named


# What /bin/sh of the hostile root is: its content, or what it is a link to; and who is blamed.
HOSTILE: dict[str, tuple[bytes | str, str]] = {
    "script": (b"#!/proc/self/exe\n", "/proc/self/exe"),
    "script with blanks": (b"#! \t /proc/self/exe \t -x\n", "/proc/self/exe"),
    "script without end": (b"#!/proc/self/exe", "/proc/self/exe"),
    "script of a thread": (b"#!/proc/thread-self/exe\n", "/proc/thread-self/exe"),
    "script by a link": (b"#!/bin/link\n", "/bin/link"),
    "script with an odd blank": (b"#!/bin/odd\x0bname x\n", "/bin/odd\x0bname"),
    "script of a script": (b"#!/bin/script\n", "/proc/self/exe"),
    "script of the launcher": (b"#!/proc/LAUNCHER/exe\n", "/proc/LAUNCHER/exe"),
    "script by a root": (b"#!/proc/self/root/bin/link\n", "/proc/self/root/bin/link"),
    "link": ("/proc/self/exe", "/bin/sh"),
    "link to a link": ("link", "/bin/sh"),
    "program": (elf(b"/proc/self/exe"), "/proc/self/exe"),
    "program by a link": (elf(b"/bin/link"), "/bin/link"),
    "program that lies": (elf(b"/proc/self/exe", order=2), "/proc/self/exe"),
    # What a shell would run by itself.
    "nothing known": (b"exit 3\n", ""),
}


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    """Return a copy of the interpreter, in which pyspaces can be run."""
    copy = tmp_path / "copy" / "python3"
    copy.parent.mkdir()
    shutil.copy(Path(sys.executable).resolve(), copy)
    return copy


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Return a hostile root, whose loader needs a compiler."""
    root = tmp_path / "tree"
    for name in ("bin", "proc", "dev"):
        (root / name).mkdir(parents=True)
    (root / "bin/link").symlink_to("/proc/self/exe")
    (root / "bin/odd\x0bname").symlink_to("/proc/self/exe")
    (root / "bin/script").write_text("#!/proc/self/exe\n")
    (root / "bin/script").chmod(0o755)
    return root


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a loader, and the program that it starts, in a directory."""
    if not shutil.which("gcc"):
        reason = "this host lacks: gcc, for a loader"
        pytest.fail(reason) if MUST_RUN else pytest.skip(reason)
    made = tmp_path_factory.mktemp("loader")
    plain = ["gcc", "-nostdlib", "-fno-stack-protector", "-O1", str(SOURCE)]
    shared = ["-DLOADER", "-static-pie", "-fPIE", "-o", str(made / "loader")]
    subprocess.run([*plain, *shared], check=True)
    subprocess.run([*plain, "-static", "-o", str(made / "late")], check=True)
    return made


def put_loader(tree: Path, compiled: Path) -> None:
    """Put a loader of its own where the interpreter looks for one."""
    told = outcome(["readelf", "-l", str(Path(sys.executable).resolve())], check=True).stdout
    (path,) = (
        line.split()[-1].rstrip("]") for line in told.splitlines() if "program inter" in line
    )
    loader = tree / path.lstrip("/")
    loader.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(compiled / "loader", loader)
    shutil.copy(compiled / "late", tree / "late")


def launch(victim: Path, tree: Path, *words: str) -> subprocess.CompletedProcess[str]:
    paths = [str(Path(pyspaces.__file__).parents[1]), sysconfig.get_path("purelib")]
    base = sys.base_prefix
    return outcome(
        [str(victim), "-m", "pyspaces", "run", "--root", str(tree), *words],
        env={"PYTHONPATH": ":".join(paths), "PYTHONHOME": base, "PATH": "/bin"},
    )


def hostile(tree: Path, content: bytes | str, name: str = "bin/sh") -> None:
    if isinstance(content, str):
        (tree / name).symlink_to(content)
    else:
        (tree / name).write_bytes(content.replace(b"LAUNCHER", str(os.getpid()).encode()))
        (tree / name).chmod(0o755)


def late_ones() -> list[int]:
    """Return what runs of the program `/late`, and nothing with a word that begins like it."""
    return [pid for pid in processes_with("/late\0") if program_of(pid) == "late"]


@pytest.mark.crossed(1)
@pytest.mark.needs("userns")
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("variant", ["script", "link", "script of a script"])
def test_the_interpreter_is_not_overwritten(
    victim: Path, tree: Path, compiled: Path, variant: str, way: str
) -> None:
    """With the host's /proc, in which what is left behind lives on. Before, it was overwritten."""
    put_loader(tree, compiled)
    hostile(tree, HOSTILE[variant][0])
    before = victim.read_bytes()
    for more in ([], ["--cap-drop", "all"]):
        done = launch(victim, tree, way, "--bind", "/proc", "/proc", *more, "--", "/bin/sh")
        assert "the loader ran" not in done.stdout
        assert done.returncode == 126
    limit = time.monotonic() + 0.5
    while time.monotonic() < limit or late_ones():
        time.sleep(0.05)
        assert victim.read_bytes() == before


@pytest.mark.crossed(1)
@pytest.mark.needs("userns")
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("variant", [name for name in HOSTILE if HOSTILE[name][1]])
def test_each_way_to_it_is_refused(pyspaces: Run, tree: Path, variant: str, way: str) -> None:
    content, blamed = HOSTILE[variant]
    hostile(tree, content)
    blamed = blamed.replace("LAUNCHER", str(os.getpid()))
    # By PATH, and of each kind one by its path, too.
    for command in ("/bin/sh", "sh") if variant in ("script", "link", "program") else ("sh",):
        words = ("run", way, "--root", str(tree), "--bind", "/proc", "/proc", "--", command)
        done = pyspaces(*words, env={"PATH": "/bin"})
        assert done.returncode == 126
        if variant == "script of the launcher" and way == "--user":
            # From a user namespace below, the kernel itself lets nobody look.
            assert "/bin/sh: Permission denied" in done.stderr
        else:
            assert LEADS in done.stderr
            # How a name that cannot be shown is told is another matter.
            assert f"cannot execute the command: {blamed}: " in done.stderr or "\x0b" in blamed


@pytest.mark.needs("userns")
def test_and_by_the_shell_of_a_script_without_a_first_line(pyspaces: Run, tree: Path) -> None:
    hostile(tree, b"exit 3\n", "bin/command")
    hostile(tree, "/proc/self/exe")
    words = ("--user", "--root", str(tree), "--bind", "/proc", "/proc")
    done = pyspaces("run", *words, "--", "/bin/command")
    assert done.returncode == 126
    assert f"/bin/sh: {LEADS}" in done.stderr


@pytest.mark.needs("userns", "pidns", "netns", "proc")
def test_a_program_for_another_machine_is_not_given_to_the_shell(
    pyspaces: Run, tmp_path: Path
) -> None:
    program = tmp_path / "foreign"
    program.write_bytes(elf(b"/lib/x")[:18] + struct.pack("=H", 0x7777) + elf(b"/lib/x")[20:])
    program.chmod(0o755)
    bind = ("--ro-bind", str(program), "/tmp/foreign")
    done = pyspaces("run", "--sandbox", *bind, "--", "/tmp/foreign")
    assert (done.returncode, done.stdout) == (126, "")
    told = "pyspaces: cannot execute the command: /tmp/foreign: Exec format error\n"
    assert done.stderr.startswith(told)


@pytest.mark.needs("userns")
def test_one_that_cannot_be_read(pyspaces: Run, tree: Path, victim: Path) -> None:
    """Exec needs no right to read; a look into it does."""
    hostile(tree, b"#!/proc/self/exe\n")
    (tree / "bin/sh").chmod(0o111)
    words = ["--bind", "/proc", "/proc", "--cap-drop", "all", "--", "/bin/sh"]
    if IS_ROOT:
        os.chown(tree / "bin/sh", 1, 1)
    done = launch(victim, tree, "--mount" if IS_ROOT else "--user", *words)
    assert done.returncode == 126
    assert "cannot be read, so it is not known" in done.stderr


@pytest.mark.needs("userns", "proc", "busybox")
def test_what_is_visited_cannot_do_it_either(pyspaces: Run, tree: Path) -> None:
    hostile(tree, b"#!/proc/self/exe\n")
    shutil.copy(shutil.which("busybox") or "", tree / "bin/busybox")
    command = [SCRIPT, "run", "--user", "--pid", "--root", str(tree), "--", "/bin/busybox", "sleep",
               "60"]  # fmt: skip
    with subprocess.Popen(command) as target:
        try:
            children = Path(f"/proc/{target.pid}/task/{target.pid}/children")
            limit = time.monotonic() + 60
            # Before that it has the words of the launcher.
            while not (found := _command_of(children))[1].startswith("/bin/busybox\0sleep"):
                assert time.monotonic() < limit
                time.sleep(0.01)
            pid = found[0]
            done = pyspaces("enter", pid, "--", "/bin/sh")
            assert done.returncode == 126
            assert f"/proc/self/exe: {LEADS}" in done.stderr
            done = pyspaces("enter", pid, "--", "/bin/busybox", "echo", "fine")
            assert (done.returncode, done.stdout) == (0, "fine\n")
        finally:
            target.kill()


def _command_of(children: Path) -> tuple[str, str]:
    with contextlib.suppress(OSError):
        for pid in children.read_text().split():
            return pid, Path(f"/proc/{pid}/cmdline").read_text()
    return "", ""


@pytest.mark.needs("userns", "proc")
@pytest.mark.parametrize("way", [[], ["--root", "/"], ["--host-ro"]])
def test_the_interpreter_of_the_host_can_be_a_command(pyspaces: Run, way: list[str]) -> None:
    """Where it is mounted inside, its path leads to that mount."""
    options = ["--user", "--pid", "--mount", *way]
    done = pyspaces("run", *options, "--", "/usr/bin/python3", "-I", "-S", "-c", "print(5)")
    assert (done.returncode, done.stdout) == (0, "5\n"), done.stderr


@pytest.mark.needs("userns")
@pytest.mark.parametrize("place", ["/proc/self/fd", "/dev/fd"])
@pytest.mark.parametrize("way", [[], ["--ro-bind", "/", "/"]])
def test_a_descriptor_of_the_caller_can_be_a_command(place: str, way: list[str]) -> None:
    program = os.open(shutil.which("true") or "", os.O_RDONLY)
    own = os.open("/proc/self/exe", os.O_RDONLY)
    words = [SCRIPT, "run", "--user", "--pid", "--mount", *way, "--"]
    try:
        codes = [
            subprocess.run(
                [*words, f"{place}/{number}", "-V"],
                pass_fds=(program, own), capture_output=True, check=False,
            ).returncode
            for number in (program, own)
        ]  # fmt: skip
    finally:
        os.close(program)
        os.close(own)
    # The interpreter by a mount of outside is what is refused, in a root that is not the caller's.
    assert codes == [0, 126 if way else 0]
