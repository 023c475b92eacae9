"""--sandbox: an attempt at each thing that a command in it cannot reach, by the call that would."""

from __future__ import annotations

import ctypes.util
import os
import pty
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import SCRIPT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from conftest import Run

CALLS = str(Path(__file__).with_name("calls.py"))
pytestmark = [
    pytest.mark.needs("userns", "pidns", "netns", "proc"),
    pytest.mark.skipif(ctypes.util.find_library("seccomp") is None, reason="no libseccomp"),
]
# The interpreter of the tests, which may be anywhere.
PLACES = sorted({os.path.realpath(sys.base_prefix), sys.prefix} - {"/usr"})
PYTHON = [word for place in PLACES for word in ("--ro-bind", place, place)]
BOX = ["--sandbox", *PYTHON]


def attempts(pyspaces: Run, *code: str, words: list[str] | None = None) -> list[str]:
    """Run statements in the sandbox; return what each came to: `ok`, or the name of an errno."""
    script = "import errno, os, socket, sys\ndef attempt(text):\n  try: exec(text, globals())\n"
    script += "  except OSError as e: return errno.errorcode[e.errno]\n  return 'ok'\n"
    script += f"print(*[attempt(text) for text in {list(code)!r}])"
    command = [sys.executable, "-I", "-S", "-c", script]
    done = pyspaces("run", *BOX, *(words or []), "--", *command)
    assert (done.returncode, done.stderr) == (0, ""), done
    return done.stdout.split()


def calls(pyspaces: Run, *words: str) -> list[str]:
    around = ["run", *BOX, "--ro-bind", CALLS, "/calls.py", "--"]
    done = pyspaces(*around, sys.executable, "-I", "-S", "/calls.py", *words)
    assert (done.returncode, done.stderr) == (0, ""), done
    return done.stdout.split()


def test_files_of_the_host(pyspaces: Run, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret")
    # But for the directories that lead to the interpreter.
    places = [
        place
        for place in ("/var", "/home", "/run")
        if not any(path.startswith(f"{place}/") for path in PLACES)
    ]
    found = attempts(
        pyspaces,
        *(f"os.listdir('{place}')" for place in places),
        f"open('{secret}')",
        f"open('/proc/self/root/..{secret}')",
        f"open('/..{secret}')",
        f"open('/proc/1/root{secret}')",
        "open('/usr/x', 'w')",
        "open('/etc/passwd', 'a')",
        "os.mkdir('/etc/x')",
        "open('/tmp/own', 'w')",
    )
    assert found[:-4] == ["ENOENT"] * (len(places) + 4)
    assert set(found[-4:-1]) <= {"EROFS", "EACCES"}
    assert found[-1] == "ok"


def test_what_is_added_is_all_that_is_opened(pyspaces: Run, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    words = ["--bind", str(tmp_path / "in"), "/mnt"]
    assert attempts(pyspaces, "open('/mnt/x', 'w')", f"open('{tmp_path}/y', 'w')", words=words) == [
        "ok",
        "ENOENT",
    ]
    assert (tmp_path / "in" / "x").exists()


def test_other_processes(pyspaces: Run) -> None:
    found = attempts(
        pyspaces,
        f"os.kill({os.getpid()}, 0)",
        "os.kill(-1, 0)",
        f"open('/proc/{os.getpid()}/status')",
        "assert not [n for n in os.listdir('/proc') if n.isdecimal() and n != str(os.getpid())]",
    )
    assert found == ["ESRCH", "ESRCH", "ENOENT", "ok"]


def test_the_network(pyspaces: Run) -> None:
    name = f"pyspaces-{os.getpid()}"
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket(socket.AF_UNIX) as other:
        other.bind(f"\0{name}")
        other.listen()
        port = server.getsockname()[1]
        found = attempts(
            pyspaces,
            f"socket.create_connection(('127.0.0.1', {port}), 5)",
            "socket.create_connection(('192.0.2.1', 80), 5)",
            f"socket.socket(socket.AF_UNIX).connect('\\0{name}')",
            "socket.socket(socket.AF_PACKET, socket.SOCK_RAW)",
            "socket.socket(40, 1)",
        )
    assert found == ["ECONNREFUSED", "ENETUNREACH", "ECONNREFUSED", "ENOSYS", "ENOSYS"]
    # Opened by a word.
    with socket.create_server(("127.0.0.1", 0)) as server:
        code = f"socket.create_connection(('127.0.0.1', {server.getsockname()[1]}), 5)"
        assert attempts(pyspaces, code, words=["--share", "net"]) == ["ok"]


REFUSED = {
    "native:272:0x10000000": "EPERM",  # unshare, of a user namespace
    "native:272:0x20000": "EPERM",  # of a mount namespace
    "native:56:0x10000011": "ENOSYS",  # clone
    "native:435": "ENOSYS",  # clone3
    "native:308": "EPERM",  # setns
    "native:165": "EPERM",  # mount
    "native:429": "EPERM",  # move_mount
    "native:155": "EPERM",  # pivot_root
    "native:161": "EPERM",  # chroot
    "native:250:1": "EPERM",  # keyctl
    "native:248": "EPERM",  # add_key
    "native:249": "EPERM",  # request_key
    "native:101": "EPERM",  # ptrace
    "native:310": "EPERM",  # process_vm_readv
    "native:321": "EPERM",  # bpf
    "native:425": "EPERM",  # io_uring_setup
    "native:298": "EPERM",  # perf_event_open
    "native:323": "EPERM",  # userfaultfd
    "native:304": "EPERM",  # open_by_handle_at
    "native:175": "EPERM",  # init_module
    "native:227": "EPERM",  # clock_settime
    "native:16:0:0x5412": "EPERM",  # TIOCSTI
    "native:16:0:0x541c": "EPERM",  # TIOCLINUX
}


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="the numbers are those of x86_64")
def test_calls_that_it_may_not_make(pyspaces: Run) -> None:
    assert dict(zip(REFUSED, calls(pyspaces, *REFUSED), strict=True)) == REFUSED


def test_privileges(pyspaces: Run) -> None:
    done = pyspaces("run", "--sandbox", "--", "cat", "/proc/self/status")
    rows = dict(line.split(":\t", 1) for line in done.stdout.splitlines())
    assert {rows[f"Cap{name}"] for name in ("Inh", "Prm", "Eff", "Bnd", "Amb")} == {"0" * 16}
    assert (rows["NoNewPrivs"], rows["Seccomp"]) == ("1", "2")
    assert rows["Uid"].split()[0] == str(os.geteuid())


def test_settings_of_the_host(pyspaces: Run) -> None:
    path = "/proc/sys/kernel/core_pattern"
    (found,) = attempts(pyspaces, f"open('{path}', 'w')")
    assert found in ("EROFS", "EACCES")


def test_the_terminal_of_the_caller() -> None:
    """It is not the controlling one, and takes no input from inside."""
    main, side = pty.openpty()
    code = (
        "import fcntl, os\n"
        "try: fcntl.ioctl(0, 0x5412, b'x'); print('put')\n"
        "except OSError as e: print(e.errno)\n"
        "try: os.open('/dev/tty', os.O_RDWR); print('open')\n"
        "except OSError as e: print(e.errno)\n"
    )
    command = [SCRIPT, "run", *BOX, "--", sys.executable, "-I", "-S", "-c", code]
    try:
        done = subprocess.run(
            command, stdin=side, stdout=subprocess.PIPE, text=True, check=False, timeout=60
        )
        assert done.stdout == "1\n6\n"
    finally:
        os.close(main)
        os.close(side)


def test_descriptors_of_the_launcher(pyspaces: Run) -> None:
    done = pyspaces("run", "--sandbox", "--", "ls", "/proc/self/fd")
    assert done.stdout.split() == ["0", "1", "2", "3"]


def test_it_ends_with_its_launcher(tmp_path: Path) -> None:
    words = [SCRIPT, "run", "--sandbox", "--", "sh", "-c", "echo; sleep 60 & wait"]
    launcher = subprocess.Popen(words, stdout=subprocess.PIPE)
    assert launcher.stdout is not None
    with launcher.stdout as output:
        try:
            output.readline()
        finally:
            launcher.kill()
            launcher.wait()
        begun = time.monotonic()
        assert output.read() == b""  # nobody is left who holds the pipe
        assert time.monotonic() - begun < 50


def test_what_it_comes_to_is_printed(pyspaces: Run) -> None:
    done = pyspaces("run", "--sandbox", "--dry-run", "--", "true")
    for line in (
        *("create the namespaces: user, mount, pid, net, uts, ipc, cgroup", "begin a new session"),
        *("forbid user namespaces inside", "forbid new privileges"),
        *("set the capabilities: without ALL", "install the seccomp filter: profile default"),
        "  bind /usr on /usr, read-only",
    ):
        assert f"{line}\n" in done.stdout
