"""Filters of system calls, asked of the kernel from inside."""

from __future__ import annotations

import ctypes.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import SCRIPT, outcome
from usage import assert_refused

from pyspaces import Container, launch, settings
from pyspaces.errors import SpaceError, UsageFault
from pyspaces.features.confinement import compiling
from pyspaces.features.confinement.groups import members
from pyspaces.features.confinement.seccomp import Seccomp
from pyspaces.kernel import bpf, constants, libseccomp

TYPE_CHECKING = False
if TYPE_CHECKING:
    from conftest import Run

CALLS = str(Path(__file__).parents[1] / "security" / "calls.py")
pytestmark = [
    pytest.mark.skipif(os.uname().machine != "x86_64", reason="the numbers are those of x86_64"),
    pytest.mark.skipif(ctypes.util.find_library("seccomp") is None, reason="no libseccomp"),
]
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
MKDIR, UNAME, MOUNT, KEYCTL, GETPPID = 83, 63, 165, 250, 110


def answers(pyspaces: Run, *words: str, calls: list[str]) -> list[str]:
    """Return what calls answer inside."""
    done = pyspaces("run", *words, "--", sys.executable, "-I", "-S", CALLS, *calls)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.split()


@AROUND
def test_what_is_denied_is_refused(pyspaces: Run, around: list[str]) -> None:
    words = ["--seccomp-deny", "mkdir,uname:ENOSYS,getppid:log", "--seccomp-deny", "@keyring:13"]
    calls = [f"native:{number}" for number in (MKDIR, UNAME, GETPPID, KEYCTL, 248, 39)]
    assert answers(pyspaces, *around, *words, calls=calls) == (
        ["EPERM", "ENOSYS", "ok", "EACCES", "EACCES", "ok"]
    )


@AROUND
def test_the_state_of_the_command(pyspaces: Run, around: list[str]) -> None:
    words = ["--seccomp-deny", "mkdir", "--no-terminal-injection"]
    done = pyspaces("run", *around, *words, "--", "cat", "/proc/self/status")
    rows = dict(line.split(":\t", 1) for line in done.stdout.splitlines())
    assert (rows["Seccomp"], rows["NoNewPrivs"]) == ("2", "1")
    before = int(dict(_status())["Seccomp_filters"])
    assert int(rows["Seccomp_filters"]) == before + 2


def _status() -> list[list[str]]:
    lines = Path("/proc/self/status").read_text().splitlines()
    return [line.split(":\t", 1) for line in lines]


@pytest.mark.needs("userns", "pidns", "proc")
def test_process_1_of_ours_has_no_filter(pyspaces: Run) -> None:
    words = ["--user", "--init", "--seccomp-deny", "mkdir"]
    done = pyspaces("run", *words, "--", "grep", "Seccomp:", "/proc/1/status", "/proc/self/status")
    lines = done.stdout.split()
    assert lines[1] == dict(_status())["Seccomp"]
    assert lines[3] == "2"


def test_what_is_allowed_is_all(pyspaces: Run) -> None:
    words = ["--seccomp-allow", "@system-service"]
    calls = ["native:83", "native:110", "native:165", "native:435", "native:425"]
    assert answers(pyspaces, *words, calls=calls) == ["EFAULT", "ok", "EPERM", "EINVAL", "EFAULT"]
    # EFAULT and EINVAL are the kernel's: @system-service has mkdir, clone3 and io_uring_setup.


def test_a_profile_a_denial_and_a_permission(pyspaces: Run, tmp_path: Path) -> None:
    """What is denied beside a profile is refused, what is allowed is not."""
    profile = tmp_path / "profile.json"
    rule = {"names": ["mkdir", "uname"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38}
    profile.write_text(json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]}))
    calls = ["native:83", "native:63", "native:110", "native:250"]
    words = ["--seccomp", str(profile)]
    assert answers(pyspaces, *words, calls=calls) == ["ENOSYS", "ENOSYS", "ok", "EINVAL"]
    words += ["--seccomp-allow", "uname,@keyring", "--seccomp-deny", "@keyring,getppid"]
    assert answers(pyspaces, *words, calls=calls) == ["ENOSYS", "EFAULT", "EPERM", "EINVAL"]


def test_conditions_on_arguments(pyspaces: Run, tmp_path: Path) -> None:
    profile = tmp_path / "profile.json"

    def rule(operator: str, value: int, other: int = 0) -> list[str]:
        args = [{"index": 0, "value": value, "valueTwo": other, "op": f"SCMP_CMP_{operator}"}]
        row = {"names": ["getpgid"], "action": "SCMP_ACT_ERRNO", "errnoRet": 5, "args": args}
        profile.write_text(json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [row]}))
        calls = [f"native:121:{n}" for n in (-1, 0x7FFFFFF0, 0x7FFFFFFF)]
        return answers(pyspaces, "--seccomp", str(profile), calls=calls)

    free = "ESRCH"
    assert rule("EQ", 0x7FFFFFF0) == [free, "EIO", free]
    assert rule("NE", 0x7FFFFFF0) == ["EIO", free, "EIO"]
    assert rule("LT", 0x7FFFFFFF) == [free, "EIO", free]
    assert rule("LE", 0x7FFFFFFF) == [free, "EIO", "EIO"]
    assert rule("GT", 0x7FFFFFFF) == ["EIO", free, free]
    assert rule("GE", 0x7FFFFFFF) == ["EIO", free, "EIO"]
    assert rule("MASKED_EQ", 0xF, 0xF) == ["EIO", free, "EIO"]


@pytest.mark.needs("userns")
def test_rules_go_by_the_capabilities_of_the_command(pyspaces: Run, tmp_path: Path) -> None:
    """As moby's profile has it: with CAP_SYS_ADMIN all namespaces, else clone without them."""
    profile, caps = tmp_path / "profile.json", {"caps": ["CAP_SYS_ADMIN"]}
    allow = {"action": "SCMP_ACT_ALLOW"}
    flags = {"index": 0, "value": 0x7E020000, "op": "SCMP_CMP_MASKED_EQ"}
    rules = [
        {"names": ["clone", "clone3", "unshare"], **allow, "includes": caps},
        {"names": ["clone"], **allow, "args": [flags], "excludes": caps},
        {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38, "excludes": caps},
        {"names": ["@"], **allow, "includes": {"arches": ["arm64"]}},
    ]
    names = [name for name in members("@system-service") if name not in ("clone", "clone3")]
    rules.append({"names": [name for name in names if name != "unshare"], **allow})
    architectures = {"architecture": "SCMP_ARCH_X86_64", "subArchitectures": None}
    data = {"defaultAction": "SCMP_ACT_ERRNO", "archMap": [architectures], "syscalls": rules}
    profile.write_text(json.dumps(data))
    words = ["--user", "--seccomp", str(profile)]
    calls = ["native:56:0x10000011", "native:435", "native:272:0x10000000"]
    assert answers(pyspaces, *words, calls=calls) == ["ok", "EINVAL", "ok"]
    words += ["--cap-drop", "all"]
    assert answers(pyspaces, *words, calls=calls) == ["EPERM", "ENOSYS", "EPERM"]


# --- no way round ----------------------------------------------------------------------------


def test_calls_of_other_architectures_are_no_way_round(pyspaces: Run) -> None:
    """int80: 39 mkdir, 122 uname, 20 getpid; with the bit of x32: whatever the number."""
    calls = ["native:83", "int80:39", "int80:122", "int80:20", "x32:83", "x32:39"]
    found = answers(pyspaces, "--seccomp-deny", "mkdir,uname:EIO", calls=calls)
    assert found == ["EPERM", "EPERM", "EIO", "ok", "ENOSYS", "ENOSYS"]


def test_calls_that_the_library_does_not_know_are_denied_by_number(pyspaces: Run) -> None:
    calls = ["native:467", "int80:467", "x32:467", "native:462", "native:428"]
    found = answers(pyspaces, "--seccomp-deny", "@mount,mseal:EIO", calls=calls)
    assert found == ["EPERM", "EPERM", "EPERM", "EIO", "EPERM"]


def test_to_deny_clone_denies_clone3(pyspaces: Run) -> None:
    calls = ["native:435", "native:56:17"]
    assert answers(pyspaces, "--seccomp-deny", "clone", calls=calls) == ["ENOSYS", "EPERM"]


def test_flags_of_clone_are_not_hidden_in_clone3(pyspaces: Run, tmp_path: Path) -> None:
    profile = tmp_path / "profile.json"
    condition = {"index": 0, "value": 0x10000000, "valueTwo": 0x10000000}
    rule = {"names": ["clone"], "args": [condition | {"op": "SCMP_CMP_MASKED_EQ"}]}
    rule["action"] = "SCMP_ACT_ERRNO"
    data = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]}
    profile.write_text(json.dumps(data))
    calls = ["native:56:0x10000011", "native:56:17", "native:435"]
    words = ["--seccomp", str(profile)]
    assert answers(pyspaces, *words, calls=calls) == ["EPERM", "ok", "ENOSYS"]
    # Where the profile says what clone3 gets, it gets that.
    data["syscalls"] = [rule, {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 5}]
    profile.write_text(json.dumps(data))
    assert answers(pyspaces, *words, calls=calls) == ["EPERM", "ok", "EIO"]


def test_nothing_goes_into_a_terminals_input(pyspaces: Run) -> None:
    """The kernel looks at 32 bits of the request: with others set, it is the same."""
    requests = ("0x5412", "0x100005412", "0x541c", "0xff0000000000541c", "0x5401")
    calls = [f"native:16:0:{request}" for request in requests] + ["int80:54:0:0x5412"]
    for words in (["--no-terminal-injection"], ["--seccomp", "default"]):
        found = answers(pyspaces, *words, calls=calls[:5])
        assert found == ["EPERM", "EPERM", "EPERM", "EPERM", "ENOTTY"]
    assert answers(pyspaces, "--no-terminal-injection", calls=calls[5:]) == ["EPERM"]


# --- the profile of pyspaces -----------------------------------------------------------------


def test_the_default_profile_lets_programs_work(pyspaces: Run, tmp_path: Path) -> None:
    code = (
        "import threading, subprocess, socket, tempfile, multiprocessing, asyncio\n"
        "t = threading.Thread(target=print, args=('thread',)); t.start(); t.join()\n"
        "print(subprocess.run(['echo', 'process'], stdout=-1, text=True).stdout.strip())\n"
        "a, b = socket.socketpair(); a.send(b'x'); print(b.recv(1))\n"
        "s = socket.create_server(('127.0.0.1', 0))\n"
        "c = socket.create_connection(s.getsockname())\n"
        "print(tempfile.TemporaryFile().write(b'x'), asyncio.run(asyncio.sleep(0)))\n"
        "multiprocessing.Queue().put(1)\n"
    )
    done = pyspaces("run", "--seccomp", "default", "--", sys.executable, "-I", "-c", code)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split("\n")[:4] == ["thread", "process", "b'x'", "1 None"]


REFUSED = {
    **{f"native:{n}": "EPERM" for n in (165, 155, 101, 250, 248, 321, 425, 298, 272, 308)},
    **{f"native:{n}": "EPERM" for n in (428, 432, 246, 175, 161, 167, 303, 304, 323, 169)},
    "native:56:0x10000011": "ENOSYS",  # a user namespace
    "native:435": "ENOSYS",  # clone3
    **{f"native:41:{family}:1": "ENOSYS" for family in (40, 38, 17, 31)},
    "native:41:0xffffffff00000028:1": "ENOSYS",
    "native:135:0x40000": "ENOSYS",  # no address space layout randomisation
    "native:999": "ENOSYS",
}


def test_what_the_default_profile_refuses(pyspaces: Run) -> None:
    around = ["--user"] if os.geteuid() else []
    found = answers(pyspaces, *around, "--seccomp", "default", calls=[*REFUSED])
    assert dict(zip(REFUSED, found, strict=True)) == REFUSED


def test_programs_of_other_architectures_do_not_run_under_the_default(pyspaces: Run) -> None:
    for call in ("int80:20", "x32:39"):
        words = ["--seccomp", "default", "--", sys.executable, "-I", "-S", CALLS, call]
        done = pyspaces("run", *words)
        assert done.returncode == 128 + 31
        assert "ended by SIGSYS: the seccomp filter does not allow" in done.stderr


# --- told ------------------------------------------------------------------------------------


@pytest.mark.parametrize("around", [[], ["--user", "--init"]], ids=["plain", "init"])
def test_a_command_that_a_filter_kills(pyspaces: Run, tmp_path: Path, around: list[str]) -> None:
    record = tmp_path / "record"
    words = [*around, "--seccomp-deny", "uname:kill", "--status-file", str(record)]
    done = pyspaces("run", *words, "--", "uname")
    assert done.returncode == 128 + 31
    told = (
        "the command was ended by SIGSYS: the seccomp filter does not allow the system call uname"
    )
    assert f"{told}\n" in done.stderr
    assert json.loads(record.read_text().splitlines()[-1])["limit"] == "seccomp"
    done = pyspaces("run", *words, "--", "sh", "-c", "uname; exit $?")
    assert "a process of the command was probably ended by SIGSYS" in done.stderr


FAULTS = [
    (["--seccomp-deny", "execve"], "execve is refused"),
    (["--seccomp-deny", "@default"], "execve is refused"),
    (["--seccomp-deny", "nosuch"], "seccomp-deny: nosuch: unknown system call"),
    (["--seccomp-allow", "nosuch"], "seccomp-allow: nosuch: unknown system call"),
    (["--seccomp", "/nonexistent"], "seccomp: /nonexistent: No such file"),
    (["--seccomp", "/etc/passwd"], "seccomp: /etc/passwd: is not JSON"),
    (["--seccomp-fd", "99"], "seccomp-fd: 99: Bad file descriptor"),
]


def test_what_cannot_be_meant() -> None:
    assert_refused([(words, fault) for words, fault in FAULTS])
    assert_refused([(("--no-fork", *words), fault) for words, fault in FAULTS])


def test_a_failure_is_told_though_no_call_is_left_for_it(pyspaces: Run, tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("#!/nonexistent\n")
    script.chmod(0o755)
    for denied in ("write,sendto,sendmsg", "@basic-io:kill,@network-io:kill", "exit_group:kill"):
        done = pyspaces("run", "--seccomp-deny", denied, "--", str(script))
        assert done.returncode == 127, done
        assert "but not the interpreter that it names" in done.stderr


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--seccomp-deny", "uname:kill,mkdir:kill,bpf"], "the system call mkdir or uname"),
        (["--seccomp-deny", "@mount:kill,uname:kill"], "a system call that it made: --seccomp-l"),
        (["--seccomp", "default", "--seccomp-deny", "uname:kill"], "a system call that it made: "),
    ],
)
def test_of_what_could_have_killed_it_is_told_what_is_known(
    pyspaces: Run, words: list[str], told: str
) -> None:
    done = pyspaces("run", *words, "--", "uname")
    assert done.returncode == 128 + constants.SIGSYS
    assert f"does not allow {told}" in done.stderr


def test_without_the_library_the_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str = "", **options: str) -> libseccomp.Library:
        raise libseccomp.Missing("libseccomp.so.2: cannot open shared object file")

    with pytest.raises(libseccomp.Missing, match="libnothing"):
        libseccomp.Library("libnothing.so.2")
    monkeypatch.setattr(compiling, "Library", missing)
    plan = settings.plan_from({"command": ["true"], "seccomp_deny": "bpf"})
    with pytest.raises(SpaceError, match="cannot compile the seccomp filter: libseccomp") as caught:
        launch.start(plan)
    assert "libseccomp2 (Debian" in str(caught.value.hint)


@pytest.mark.as_ordinary
def test_without_no_new_privs_the_kernel_refuses(pyspaces: Run) -> None:
    done = pyspaces("run", "--seccomp-deny", "mkdir", "--allow-new-privs", "--", "true")
    assert done.returncode == 125
    assert "cannot install the seccomp filter: prctl: Permission denied" in done.stderr
    assert "hint: a command that can gain privileges" in done.stderr


# --- compiled filters; test_seccomp_stacked.py has those that are installed one over another --


def program(**answers: int) -> bytes:
    """Return a filter that libseccomp has compiled."""
    library = libseccomp.Library()
    with library.filter(constants.SECCOMP_RET_ALLOW, [], 0) as made:
        for name, answer in answers.items():
            number = library.number(name)
            assert number is not None
            made.add(answer, number)
        return made.program()


def with_filters(*programs: bytes, command: list[str]) -> subprocess.CompletedProcess[str]:
    files = [os.memfd_create("filter", 0) for _ in programs]
    try:
        for file, content in zip(files, programs, strict=True):
            os.write(file, content)
            os.lseek(file, 0, os.SEEK_SET)
        words = [word for file in files for word in ("--seccomp-fd", str(file))]
        return outcome([SCRIPT, "run", *words, "--", *command], pass_fds=files)
    finally:
        for file in files:
            os.close(file)


EPERM = constants.SECCOMP_RET_ERRNO | 1
ASK = [sys.executable, "-I", "-S", CALLS]


def test_the_one_that_refuses_more_wins() -> None:
    kill = constants.SECCOMP_RET_KILL_PROCESS
    for pair in ((EPERM, kill), (kill, EPERM)):
        done = with_filters(*(program(mkdir=one) for one in pair), command=[*ASK, "native:83"])
        assert done.returncode == 128 + 31


NO_FILTERS = [
    (b"", "the filter is empty", 2),
    (b"x" * 9, "has 9 bytes, and an instruction has 8", 2),
    (bpf.constant(0x7FFF0000) * 4097, "more than 4096 instructions", 2),
    (b"\xff" * 8, "cannot install the seccomp filter: prctl: Invalid argument", 125),
    (bpf.constant(0x7FFF0000)[:0] + b"\x20\0\0\0\0\0\0\0", "Invalid argument", 125),
]


def test_a_filter_that_is_none(tmp_path: Path) -> None:
    for content, fault, code in NO_FILTERS:
        done = with_filters(content, command=["touch", str(tmp_path / "ran")])
        assert done.returncode == code
        assert fault in done.stderr
    assert not (tmp_path / "ran").exists()


def test_a_descriptor_that_can_be_none() -> None:
    plan = settings.plan_from({"command": ["true"], "seccomp_fd": "3"})
    plan = plan.replace(seccomp=plan.seccomp.replace(descriptors=(1 << 40,)))
    with pytest.raises(UsageFault, match="seccomp-fd: 1099511627776: is not a descriptor"):
        launch.start(plan)


def test_a_filter_on_standard_input(tmp_path: Path) -> None:
    """Read to its end, and the command has it all the same."""
    (tmp_path / "filter").write_bytes(program(mkdir=EPERM))
    with open(tmp_path / "filter", "rb") as file:
        words = [SCRIPT, "run", "--seccomp-fd", "0", "--", "sh", "-c", "cat; mkdir /tmp/x/y"]
        done = outcome(words, stdin=file)
    assert done.stdout == ""
    assert "Operation not permitted" in done.stderr


def test_the_command_does_not_have_the_descriptor() -> None:
    command = [
        sys.executable,
        "-I",
        "-S",
        "-c",
        "import os; print(sorted(os.listdir('/proc/self/fd'))[:-1])",
    ]
    assert with_filters(program(mkdir=EPERM), command=command).stdout == "['0', '1', '2']\n"


# --- elsewhere -------------------------------------------------------------------------------


def test_a_function_has_its_filter() -> None:
    def attempt() -> list[object]:
        found: list[object] = []
        for act in (lambda: os.mkdir("/tmp"), os.getppid):
            try:
                found.append(act())
            except OSError as error:
                found.append(error.errno)
        return found

    process = Container(target=attempt, seccomp_deny="mkdir:EIO,getppid:EIO", name="x")
    process.start()
    found = process.result()
    assert found[0] == 5
    with pytest.raises(UsageFault, match="unknown system call"):
        Container(target=attempt, seccomp_deny="nosuch").start()


@pytest.mark.needs("userns")
def test_enter_takes_it_too(pyspaces: Run) -> None:
    target = subprocess.Popen(
        [SCRIPT, "run", "--user", "--uts", "--", "sh", "-c", "echo; sleep 60"],
        stdout=subprocess.PIPE,
    )
    try:
        assert target.stdout is not None
        target.stdout.readline()
        words = ["enter", str(target.pid), "--seccomp-deny", "uname", "--rlimit", "core=0"]
        done = pyspaces(*words, "--", *ASK, "native:63", "native:39")
        own = pyspaces("enter", str(target.pid), "--", "true")
        assert own.returncode in (0, 125)
        if own.returncode == 0:
            assert done.stdout == "EPERM\nok\n"
    finally:
        target.kill()
        target.wait()
        assert target.stdout is not None
        target.stdout.close()


def test_the_filters_are_few(tmp_path: Path) -> None:
    """What the kernel runs at each call: measured in instructions, not in time."""
    found = compiling.compiled(Seccomp(profile="default"), frozenset())
    assert sum(len(one.program) // bpf.SIZE for one in found) < 700
