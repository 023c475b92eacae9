"""What others rely on: documented names, one version, and the kernel's numbers."""

from __future__ import annotations

import ast
import importlib
import inspect
import os
import pkgutil
import re
import signal
import socket
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from conftest import outcome

import pyspaces
from pyspaces import cloning
from pyspaces.features.ids import capabilities
from pyspaces.kernel import constants, mountapi

MODULES = [
    "pyspaces",
    *(row.name for row in pkgutil.walk_packages(pyspaces.__path__, prefix="pyspaces.")),
]


def is_public(name: str) -> bool:
    return not name.startswith("_")


def is_lambda(value: object) -> bool:
    return getattr(value, "__name__", "") == "<lambda>"


def defined_in(module: str) -> Iterator[tuple[str, object]]:
    """Yield the public classes, methods and functions that `module` itself defines."""
    loaded = importlib.import_module(module)
    for name, value in vars(loaded).items():
        if not is_public(name) or getattr(value, "__module__", None) != module:
            continue
        if inspect.isclass(value):
            yield name, value
            for part, member in vars(value).items():
                function = getattr(member, "__func__", getattr(member, "fget", member))
                if is_public(part) and inspect.isfunction(function) and not is_lambda(function):
                    yield f"{name}.{part}", function
        elif inspect.isfunction(value):
            yield name, value


def test_there_are_modules_to_look_at() -> None:
    assert {"pyspaces.launch", "pyspaces.kernel.libc", "pyspaces.__main__"} <= set(MODULES)
    assert "run" in dict(defined_in("pyspaces.launch"))
    assert "Running.wait" in dict(defined_in("pyspaces.launch.running"))
    assert "Status.ok" in dict(defined_in("pyspaces.status"))


def test_every_public_name_has_a_docstring() -> None:
    bare = [name for name in MODULES if not (importlib.import_module(name).__doc__ or "").strip()]
    for module in MODULES:
        names = (
            name for name, value in defined_in(module) if not (inspect.getdoc(value) or "").strip()
        )
        bare.extend(f"{module}.{name}" for name in names)
    assert bare == []


def test_one_version_for_all() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+([a-z]+\d+|\.[a-z]+\d+)?", pyspaces.__version__)
    done = outcome([sys.executable, "-m", "pyspaces", "--version"], check=True)
    assert done.stdout == f"pyspaces {pyspaces.__version__}\n"
    assert done.stderr == ""


# --- the kernel's numbers --------------------------------------------------------------------

INCLUDE = Path("/usr/include")
# Debian keeps asm/ in a directory of the machine's own.
DIRECTORIES = (INCLUDE, *sorted(INCLUDE.glob(f"{os.uname().machine}-*")))

SCHED, MOUNT, CAPABILITY = "linux/sched.h", "linux/mount.h", "linux/capability.h"
MMAN = "asm-generic/mman-common.h"
# Where each constant stands, and under which name where that is another.
HEADERS = {
    **{
        name: (SCHED, name)
        for name in (
            *("CLONE_NEWTIME", "CLONE_PIDFD", "CLONE_PARENT", "CLONE_NEWNS", "CLONE_NEWCGROUP"),
            *("CLONE_NEWUTS", "CLONE_NEWIPC", "CLONE_NEWUSER", "CLONE_NEWPID", "CLONE_NEWNET"),
            *("CLONE_VM", "CLONE_FS", "CLONE_FILES", "CLONE_SIGHAND", "CLONE_PTRACE"),
            *("CLONE_VFORK", "CLONE_THREAD", "CLONE_SYSVSEM", "CLONE_SETTLS", "CLONE_IO"),
            *("CLONE_PARENT_SETTID", "CLONE_CHILD_CLEARTID", "CLONE_DETACHED", "CLONE_UNTRACED"),
            *("CLONE_CHILD_SETTID", "CLONE_CLEAR_SIGHAND", "CLONE_INTO_CGROUP"),
        )
    },
    **{
        name: (MOUNT, name)
        for name in (
            *("MS_NOSUID", "MS_NODEV", "MS_NOEXEC", "MS_REC", "MS_PRIVATE", "MS_SLAVE"),
            *("MS_BIND", "MS_SHARED", "MS_RDONLY", "MS_REMOUNT"),
            *("OPEN_TREE_CLONE", "MOVE_MOUNT_F_EMPTY_PATH", "MOVE_MOUNT_T_EMPTY_PATH"),
            *("MOUNT_ATTR_RDONLY", "MOUNT_ATTR_NODEV", "MOUNT_ATTR_NOSUID", "MOUNT_ATTR_NOEXEC"),
            *("FSOPEN_CLOEXEC", "FSMOUNT_CLOEXEC", "FSCONFIG_SET_FLAG", "FSCONFIG_SET_STRING"),
            "FSCONFIG_CMD_CREATE",
        )
    },
    **{
        name: (CAPABILITY, name)
        for name in (
            *("CAP_KILL", "CAP_SYS_ADMIN", "CAP_SYS_NICE", "CAP_SETGID", "CAP_SETUID"),
            *("CAP_SETPCAP", "CAP_SETFCAP", "CAP_SYS_RESOURCE", "CAP_NET_BIND_SERVICE"),
            "CAP_CHOWN",
        )
    },
    "SYS_openat2": ("asm-generic/unistd.h", "__NR_openat2"),
    "SYS_pidfd_open": ("asm-generic/unistd.h", "__NR_pidfd_open"),
    "SYS_pidfd_getfd": ("asm-generic/unistd.h", "__NR_pidfd_getfd"),
    "SYS_open_tree": ("asm-generic/unistd.h", "__NR_open_tree"),
    "SYS_move_mount": ("asm-generic/unistd.h", "__NR_move_mount"),
    "SYS_mount_setattr": ("asm-generic/unistd.h", "__NR_mount_setattr"),
    **{
        f"SYS_landlock_{name}": ("asm-generic/unistd.h", f"__NR_landlock_{name}")
        for name in ("create_ruleset", "add_rule", "restrict_self")
    },
    **{
        f"SECCOMP_{name}": ("linux/seccomp.h", f"SECCOMP_{name}")
        for name in (
            *("SET_MODE_FILTER", "RET_KILL_PROCESS", "RET_KILL_THREAD", "RET_TRAP", "RET_ERRNO"),
            *("RET_USER_NOTIF", "RET_TRACE", "RET_LOG", "RET_ALLOW", "RET_ACTION_FULL", "RET_DATA"),
            *("FILTER_FLAG_LOG", "FILTER_FLAG_SPEC_ALLOW", "FILTER_FLAG_NEW_LISTENER"),
        )
    },
    "BPF_MAXINSNS": ("linux/bpf_common.h", "BPF_MAXINSNS"),
    **{f"PROT_{name}": (MMAN, f"PROT_{name}") for name in ("READ", "WRITE")},
    "MAP_SHARED": ("linux/mman.h", "MAP_SHARED"),
    "MAP_ANONYMOUS": (MMAN, "MAP_ANONYMOUS"),
    "AT_FDCWD": ("linux/fcntl.h", "AT_FDCWD"),
    "AT_EMPTY_PATH": ("linux/fcntl.h", "AT_EMPTY_PATH"),
    "AT_RECURSIVE": ("linux/fcntl.h", "AT_RECURSIVE"),
    "MNT_DETACH": ("sys/mount.h", "MNT_DETACH"),
    "UMOUNT_NOFOLLOW": ("sys/mount.h", "UMOUNT_NOFOLLOW"),
    **{
        f"RESOLVE_{name}": ("linux/openat2.h", f"RESOLVE_{name}")
        for name in ("NO_XDEV", "NO_MAGICLINKS", "NO_SYMLINKS", "BENEATH", "IN_ROOT")
    },
    **{
        f"SYS_{name}": ("asm-generic/unistd.h", f"__NR_{name}")
        for name in ("fsopen", "fsconfig", "fsmount")
    },
    "SYS_pidfd_send_signal": ("asm-generic/unistd.h", "__NR_pidfd_send_signal"),
    "SYS_clone3": ("asm-generic/unistd.h", "__NR_clone3"),
    "SIGCHLD": ("asm-generic/signal.h", "SIGCHLD"),
    "SIGKILL": ("asm-generic/signal.h", "SIGKILL"),
    "SIGTERM": ("asm-generic/signal.h", "SIGTERM"),
    "KEYCTL_JOIN_SESSION_KEYRING": ("linux/keyctl.h", "KEYCTL_JOIN_SESSION_KEYRING"),
    "SECCOMP_MODE_FILTER": ("linux/seccomp.h", "SECCOMP_MODE_FILTER"),
    **{
        name: ("linux/prctl.h", name)
        for name in (
            *("PR_SET_KEEPCAPS", "PR_CAPBSET_DROP", "PR_GET_SECUREBITS"),
            *("PR_SET_PDEATHSIG", "PR_GET_DUMPABLE", "PR_SET_DUMPABLE", "PR_SET_NAME"),
            *("PR_SET_NO_NEW_PRIVS", "PR_SET_SECCOMP"),
            *("PR_CAP_AMBIENT", "PR_CAP_AMBIENT_RAISE"),
        )
    },
    **{name: ("linux/stat.h", name) for name in ("STATX_INO", "STATX_MNT_ID")},
    "SECURE_NOROOT": ("linux/securebits.h", "SECURE_NOROOT"),
    "LINUX_CAPABILITY_VERSION_3": (CAPABILITY, "_LINUX_CAPABILITY_VERSION_3"),
    "SIOCGIFFLAGS": ("linux/sockios.h", "SIOCGIFFLAGS"),
    "SIOCSIFFLAGS": ("linux/sockios.h", "SIOCSIFFLAGS"),
    "SIOCGSKNS": ("linux/sockios.h", "SIOCGSKNS"),
    "IFNAMSIZ": ("linux/if.h", "IFNAMSIZ"),
    "IFF_UP": ("linux/if.h", "IFF_UP"),
    "SFD_NONBLOCK": ("asm-generic/fcntl.h", "O_NONBLOCK"),
    "SFD_CLOEXEC": ("asm-generic/fcntl.h", "O_CLOEXEC"),
    "NETLINK_ROUTE": ("linux/netlink.h", "NETLINK_ROUTE"),
    "NLM_F_REQUEST": ("linux/netlink.h", "NLM_F_REQUEST"),
    "RTM_NEWNSID": ("linux/rtnetlink.h", "RTM_NEWNSID"),
    "RTM_GETNSID": ("linux/rtnetlink.h", "RTM_GETNSID"),
    "UTS_NAME_MAX": ("linux/utsname.h", "__NEW_UTS_LEN"),
}
# In no header that is installed, but in Python.
LIBRARY = {
    "AF_UNIX": socket.AF_UNIX,
    "AF_INET": socket.AF_INET,
    "SOCK_DGRAM": socket.SOCK_DGRAM,
    "SOCK_SEQPACKET": socket.SOCK_SEQPACKET,
    "SOCK_CLOEXEC": socket.SOCK_CLOEXEC,
    "SIGCHLD": signal.SIGCHLD,
    "SIGXCPU": signal.SIGXCPU,
    "SIGXFSZ": signal.SIGXFSZ,
    "SIGSYS": signal.SIGSYS,
    "SIGKILL": signal.SIGKILL,
    "SIGNAL_MAX": signal.SIGRTMAX,
    "SFD_NONBLOCK": os.O_NONBLOCK,
    "SFD_CLOEXEC": os.O_CLOEXEC,
}
# In neither; other tests hold them against the running kernel.
ELSEWHERE = {
    "PF_EXITING",  # inside the kernel only; test_child_killed
    "MSG_NOSIGNAL",  # test_channel: no SIGPIPE
    "SIGNALFD_SIGINFO_SIZE",  # a structure, below
    *("STATX_INO_OFFSET", "STATX_DEVICE_OFFSET", "STATX_MNT_ID_OFFSET", "STATX_SIZE"),  # the same
    *("SI_QUEUE", "SIGINFO_SIZE"),  # test_init: the mark arrives
    *("SI_TIMER", "CLOCK_MONOTONIC"),  # test_limits_hold: a launcher that is stopped goes on
    "MAP_MAX_EXTENTS",  # inside the kernel only; test_idmap
    "MAP_MAX_BYTES",
    *("SYS_clone", "SYS_keyctl", "SYS_seccomp", "SYS_ioprio_set", "SYS_rt_sigaction"),
    *("NS_GET_USERNS", "NS_GET_PARENT", "NS_GET_NSTYPE", "NS_GET_OWNER_UID"),  # macros: below
    "NS_GET_TGID_IN_PIDNS",  # in a header since Linux 6.11 only; test_running
    "PROC_USER_INIT_INO",  # in a header since Linux 6.18 only; test_overlays, by userxattr
    "PROC_ROOT_INO",  # of the kernel itself; test_proc_closed and test_mounts, by what is read-only
    *("NETNSA_NSID", "NETNSA_FD"),  # members of an enum without values: test_list, by ip-netns
}
VALUES = {
    **{name: value for name, value in vars(cloning).items() if name.startswith("CLONE_")},
    **{name: value for name, value in vars(constants).items() if name.partition("_")[0].isupper()},
}
NUMBERS = VALUES.keys()


def header_path(header: str) -> Path | None:
    found = [directory / header for directory in DIRECTORIES if (directory / header).is_file()]
    return found[0] if found else None


@cache
def definitions(path: Path) -> dict[str, str]:
    """Return what a header defines, by #define or as `NAME = value` of an enum, unevaluated."""
    text = path.read_text(encoding="utf-8", errors="replace")
    text = re.sub(r"/\*.*?\*/", " ", text, flags=re.DOTALL)
    found: dict[str, str] = {}
    for name, value in re.findall(r"^\s*#\s*define\s+(\w+)[ \t]+(\S.*?)\s*$", text, re.MULTILINE):
        if value != name:
            found.setdefault(name, value)
    for name, value in re.findall(r"^\s*(\w+)\s*=\s*([^,=]+?)\s*,?\s*$", text, re.MULTILINE):
        found.setdefault(name, value)
    return found


def evaluate(text: str) -> int:
    """Compute `0x10`, `00004000`, `(1<<18)` and the like; nothing but numbers and shifts."""
    text = re.sub(r"(?<=[0-9a-fA-F])[uU]?[lL]{0,2}\b", "", text)
    text = re.sub(r"\b0+(?=[0-7])(?!x)", "0o", text)

    def compute(node: ast.expr) -> int:
        if isinstance(node, ast.Constant) and isinstance(node.value, int):
            return node.value
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            return -compute(node.operand)
        assert isinstance(node, ast.BinOp), ast.dump(node)
        left, right = compute(node.left), compute(node.right)
        assert isinstance(node.op, ast.LShift | ast.BitOr), ast.dump(node)
        return left << right if isinstance(node.op, ast.LShift) else left | right

    return compute(ast.parse(text.strip(), mode="eval").body)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *(("0", 0), ("16", 16), ("0x10", 16), ("0x02000000", 0x02000000), ("0x0000abcdL", 0xABCD)),
        *(("(1<<18)", 1 << 18), ("00004000", 0o4000), ("1UL << 3", 8), ("-100", -100)),
    ],
)
def test_numbers_of_headers_are_read_right(text: str, value: int) -> None:
    assert evaluate(text) == value


def test_every_constant_is_compared_with_something() -> None:
    assert HEADERS.keys() | LIBRARY.keys() | ELSEWHERE == NUMBERS


@pytest.mark.parametrize("name", HEADERS)
def test_a_constant_is_that_of_the_kernels_header(name: str) -> None:
    header, its_name = HEADERS[name]
    path = header_path(header)
    if path is None:
        pytest.skip(f"kernel headers: {header} is not installed")
    defined = definitions(path)
    if its_name not in defined:
        pytest.skip(f"kernel headers: {path} is older than {its_name}")
    assert evaluate(defined[its_name]) == VALUES[name]


def test_capabilities_have_the_numbers_of_the_header() -> None:
    path = header_path(CAPABILITY)
    if path is None:
        pytest.skip(f"kernel headers: {CAPABILITY} is not installed")
    defined = definitions(path)
    numbers = {name: defined[name] for name in capabilities.NAMES if name in defined}
    assert len(numbers) > 36
    assert all(int(value) == capabilities.NAMES.index(name) for name, value in numbers.items())


def test_constants_are_those_of_the_library() -> None:
    assert {name: getattr(constants, name) for name in LIBRARY} == LIBRARY


@pytest.mark.parametrize("name", ["clone", "keyctl", "seccomp", "ioprio_set", "rt_sigaction"])
def test_a_call_has_the_number_of_this_machine(name: str) -> None:
    machine = os.uname().machine
    path = header_path({"x86_64": "asm/unistd_64.h"}.get(machine, "asm-generic/unistd.h"))
    numbers = getattr(constants, f"SYS_{name}")
    if path is None or (machine, 8) not in numbers:
        pytest.skip(f"kernel headers: none for {name}(2) on {machine}")
    assert evaluate(definitions(path)[f"__NR_{name}"]) == numbers[machine, 8]


def test_questions_to_a_namespace_have_their_numbers() -> None:
    """ioctl_ns(2): NSIO is 0xb7, and _IO() has neither size nor direction."""
    path = header_path("linux/nsfs.h")
    if path is None:
        pytest.skip("kernel headers: linux/nsfs.h is not installed")
    text = path.read_text()
    assert int(definitions(path)["NSIO"], 16) == 0xB7
    names = [name for name in NUMBERS if name.startswith("NS_GET_") and name[-6:] != "_PIDNS"]
    assert len(names) == 4
    for name in names:
        match = re.search(rf"#define\s+{name}\s+_IO\(NSIO, 0x([0-9a-f]+)\)", text)
        assert match
        assert getattr(constants, name) == 0xB700 + int(match[1], 16)


def test_what_signalfd_gives_has_its_size() -> None:
    """signalfd(2): reads give structures of 128 bytes."""
    from pyspaces.kernel import libc

    mask = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    descriptor = libc.signalfd([signal.SIGUSR1])
    try:
        signal.raise_signal(signal.SIGUSR1)
        assert len(os.read(descriptor, 4096)) == constants.SIGNALFD_SIGINFO_SIZE
    finally:
        os.close(descriptor)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def test_statx_tells_the_mount_id() -> None:
    """The same number as /proc/self/fdinfo has for the descriptor."""

    for place in ("/", "/proc", "/dev/null"):
        descriptor = os.open(place, os.O_PATH)
        try:
            told = Path(f"/proc/self/fdinfo/{descriptor}").read_text()
            assert mountapi.mount_id(descriptor) == int(re.findall(r"mnt_id:\s*(\d+)", told)[0])
        finally:
            os.close(descriptor)


def test_statx_tells_where_the_root_is() -> None:
    root = os.stat("/")
    descriptor = os.open("/", os.O_PATH)
    try:
        device = os.major(root.st_dev), os.minor(root.st_dev)
        found = (root.st_ino, *device, mountapi.mount_id(descriptor))
    finally:
        os.close(descriptor)
    assert mountapi.root_place() == " ".join(map(str, found))
