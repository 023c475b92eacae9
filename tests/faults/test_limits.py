"""Limits of the host, each provoked for real: clear errors, and nothing left behind."""

from __future__ import annotations

import errno
import resource
import sys

import pytest
from conftest import SCRIPT, outcome, without

TYPE_CHECKING = False
if TYPE_CHECKING:
    from conftest import Run

pytestmark = pytest.mark.needs("userns")
SYS_CLONE3 = 435


@pytest.mark.parametrize(
    "limit", [*range(5, 12), *(pytest.param(n, marks=pytest.mark.stress) for n in range(12, 16))]
)
def test_few_descriptors(limit: int) -> None:
    """With too few the error says so; with enough it works; never anything in between.

    With 4, Python itself may fail before a line of ours runs.
    """
    done = outcome(
        [SCRIPT, "run", "--user", "--pid", "--", "true"],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit)),
    )
    if done.returncode == 0:
        assert done.stderr == ""
    else:
        assert done.returncode == 125
        assert "Too many open files" in done.stderr
        assert done.stderr.endswith("hint: this process cannot open more files: see `ulimit -n`\n")
        assert "Traceback" not in done.stderr
    assert limit < 10 or done.returncode == 0


@pytest.mark.needs("netns", "tun", "pasta")
@pytest.mark.parametrize("limit", [24, 64])
def test_few_descriptors_are_enough_for_a_way_out(limit: int) -> None:
    """For us: pasta takes more, and raises the soft limit itself."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    outcome(
        [SCRIPT, "run", "--user", "--net=user", "--", "true"],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard)),
        check=True,
    )


@pytest.mark.parametrize(
    ("option", "sysctl"),
    [
        ("--user", "max_user_namespaces"),
        ("--pid", "max_pid_namespaces"),
        ("--net", "max_net_namespaces"),
        ("--mount", "max_mnt_namespaces"),
        ("--uts", "max_uts_namespaces"),
        ("--ipc", "max_ipc_namespaces"),
        ("--cgroup", "max_cgroup_namespaces"),
    ],
)
def test_a_limit_on_namespaces_is_named(pyspaces: Run, option: str, sysctl: str) -> None:
    """The sysctls belong to the user namespace: a launch inside a launch may set its own."""
    script = f"echo 0 > /proc/sys/user/{sysctl} && {SCRIPT} run {option} -- true"
    done = pyspaces("run", "--user", "--", "sh", "-c", script)
    assert done.returncode == 125
    assert "cannot create the namespaces: clone3: No space left on device" in done.stderr
    assert f"hint: user.{sysctl} is 0, so none can be created" in done.stderr


def test_nesting_deeper_than_the_kernel_allows(pyspaces: Run) -> None:
    words = [word for _ in range(36) for word in ("unshare", "--user", "--map-root-user")]
    done = outcome([*words[: 3 * 33], SCRIPT, "run", "--user", "--", "true"])
    assert done.returncode == 125, done.stderr
    assert "hint: too many namespaces for this user, or more than 32 nested levels" in done.stderr


@pytest.mark.parametrize("options", [["--user", "--pid"], ["--all"], []])
def test_without_clone3_clone_does_it(options: list[str]) -> None:
    done = outcome([*without(SYS_CLONE3), SCRIPT, "run", *options, "--", "sh", "-c", "exit 9"])
    assert done.returncode == 9, done.stderr


def test_a_filter_that_forbids_clone3_is_named() -> None:
    done = outcome(
        [*without(SYS_CLONE3, answer=errno.EPERM), SCRIPT, "run", "--user", "--", "true"]
    )
    assert done.returncode == 125
    assert "clone3: Operation not permitted" in done.stderr
    assert "hint: a seccomp filter refuses" in done.stderr


@pytest.mark.as_ordinary
def test_too_many_processes(pyspaces: Run) -> None:
    done = pyspaces(
        "run", "--user", "--", "true",
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NPROC, (1, 1)),
    )  # fmt: skip
    assert done.returncode == 125
    assert "clone3: Resource temporarily unavailable" in done.stderr
    assert "hint: a limit on processes is reached" in done.stderr


IN_A_THREAD = """
import os, resource, threading
from pyspaces import launch, settings
from pyspaces.errors import SpaceError
stop = threading.Event()
threading.Thread(target=stop.wait).start()
plan = settings.plan_from({"user": True, "command": ("true",)})
launch.start(plan).wait()
before = os.listdir("/proc/self/fd")
resource.setrlimit(resource.RLIMIT_NPROC, (1, 1))
try:
    launch.start(plan)
except SpaceError as error:
    print(error, error.report.call, os.listdir("/proc/self/fd") == before, sep="\\n")
stop.set()
"""


@pytest.mark.as_ordinary
def test_too_many_processes_in_a_program_with_threads() -> None:
    done = outcome([sys.executable, "-c", IN_A_THREAD])
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        "cannot create the namespaces: fork: Resource temporarily unavailable",
        "hint: a limit on processes is reached: see `ulimit -u` and pids.max of this cgroup",
        "fork",
        "True",
    ]


@pytest.mark.as_ordinary
@pytest.mark.parametrize("option", ["--pid", "--net", "--mount", "--uts", "--ipc", "--cgroup"])
def test_an_ordinary_user_is_told_to_add_user(pyspaces: Run, option: str) -> None:
    done = pyspaces("run", option, "--", "true")
    assert done.returncode == 125
    assert "clone3: Operation not permitted" in done.stderr
    assert done.stderr.splitlines()[-1].endswith("needs a new user namespace around it: add --user")


@pytest.mark.as_ordinary
def test_an_ordinary_user_is_told_to_add_user_for_time(pyspaces: Run) -> None:
    done = pyspaces("run", "--time", "--", "true")
    assert done.returncode == 125
    assert "unshare: Operation not permitted" in done.stderr
    assert done.stderr.splitlines()[-1].endswith("needs a new user namespace around it: add --user")


FEW_FOR_A_SANDBOX = """
import os, resource
import pyspaces
with pyspaces.Sandbox(user=True) as box:  # loads all that it needs
    box.run(["true"])
before = os.listdir("/proc/self/fd")
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
for room in range(8):
    resource.setrlimit(resource.RLIMIT_NOFILE, (3 + room, hard))
    try:
        with pyspaces.Sandbox(user=True) as box:
            print("entered")
    except (pyspaces.SpaceError, OSError) as error:
        print(str(error).splitlines()[0])
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert os.listdir("/proc/self/fd") == before, room
"""


def test_few_descriptors_for_a_sandbox() -> None:
    done = outcome([sys.executable, "-c", FEW_FOR_A_SANDBOX])
    assert done.stderr == ""
    assert "Too many open files" in done.stdout


SUB_INTERPRETER = """
try:
    import _interpreters
    made = _interpreters.create()
except ImportError:
    import _xxsubinterpreters as _interpreters
    made = _interpreters.create(isolated=False)  # an isolated one of 3.12 does not load _ctypes
code = '''
import pyspaces
try:
    pyspaces.run(["true"], user=True)
except RuntimeError as error:
    print(error, flush=True)
'''
_interpreters.run_string(made, code)
"""


def test_a_sub_interpreter_cannot_launch() -> None:
    """CPython aborts the child of one: it has to be refused before there is one."""
    done = outcome([sys.executable, "-c", SUB_INTERPRETER])
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "a sub-interpreter cannot fork: launch from the main interpreter\n"
