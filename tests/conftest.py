"""Fixtures and marks of all tests.

`@pytest.mark.needs(...)` names what a test needs of the host; without it the test is skipped with
the reason, or fails where PYSPACES_TESTS_MUST_RUN=1. Every test is checked for leaks.
"""

from __future__ import annotations

import contextlib
import errno
import faulthandler
import fcntl
import gc
import itertools
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import termios
import time
from pathlib import Path

import hypothesis
import pytest
import warm
from terminal import Shell

from pyspaces import launch
from pyspaces.host import check as host_check

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any

    Run = Callable[..., subprocess.CompletedProcess[str]]

# With PYSPACES_TESTS_SERVER=1, launches in this process go through the launch server if they can;
# else none does. By default, the size of this process would decide.
SERVER = os.environ.get("PYSPACES_TESTS_SERVER") == "1"
MUST_RUN = os.environ.get("PYSPACES_TESTS_MUST_RUN") == "1"
# For the virtual machine that tests/vm/run starts, which has all controllers of cgroups.
collect_ignore = [] if os.environ.get("PYSPACES_TESTS_IN_VM") == "1" else ["vm/inside"]
# The functions that a plain `pytest` leaves out: scripts/write_slow.py.
SLOW = Path(__file__).with_name("slow.txt")
LIMIT = 240
IS_ROOT = os.geteuid() == 0
SCRIPT = str(Path(sys.executable).with_name("pyspaces"))
PROBE = str(Path(__file__).with_name("probe.py"))
DENY = str(Path(__file__).with_name("deny_call.py"))


# How long an example takes is the machine's business; time_limit ends one that hangs.
# A property test that takes more examples than others multiplies the profile's number. .ci/run runs
# them once more, with --hypothesis-profile=thorough.
hypothesis.settings.register_profile("pyspaces", deadline=None, max_examples=25)
hypothesis.settings.register_profile("thorough", deadline=None, max_examples=100)
hypothesis.settings.load_profile("pyspaces")


def again(few: int, many: int) -> list[object]:
    """Return parameters for that many tries, of which a plain run has but a few."""
    rare = (pytest.param(number, marks=pytest.mark.stress) for number in range(few, many))
    return [*range(few), *rare]


_SHOWN = pytest.StashKey[int]()
_PLACE = pytest.StashKey[str]()


def _interrupt(number: int, frame: object) -> None:
    raise TimeoutError(f"the test took more than {LIMIT} s")


def _leave_terminal() -> None:
    """Have no controlling terminal, which launches in the foreground of one have a process for.

    Ctrl-C still comes, to the process group; and what is open of the terminal stays open.
    """
    try:
        terminal = os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY)
    except OSError:
        return
    # The leader of a session is sent it then, as all in the foreground are.
    action = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with contextlib.suppress(OSError):
        fcntl.ioctl(terminal, termios.TIOCNOTTY)
    signal.signal(signal.SIGHUP, action)
    os.close(terminal)


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    if not config.option.basetemp:
        # pytest has one directory for all sessions of a user, and closes it to others whenever
        # one begins: a command of another user then lost its way.
        config.stash[_PLACE] = tempfile.mkdtemp(prefix="pyspaces-tests-")
        config.option.basetemp = f"{config.stash[_PLACE]}/pytest"
    launch.use_server(SERVER)
    _leave_terminal()
    # nohup, or a shell that starts a job in the background, has them ignored: what is tested here
    # would inherit it, and rightly keep it.
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
        if signal.getsignal(number) == signal.SIG_IGN:
            default = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
            signal.signal(number, default)
    # What is made, and how much of it can be open, is not for the caller to say.
    os.umask(0o022)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(4096, hard)), hard))
    # Set, every start of the launcher in a checkout would compile all of it again.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    signal.signal(signal.SIGALRM, _interrupt)
    # Where C code waits, and the handler cannot run, the place is shown all the same. Not by
    # `faulthandler_timeout`: it starts and ends a thread for each test.
    with config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        config.stash[_SHOWN] = os.dup(2)
    faulthandler.register(signal.SIGALRM, file=config.stash[_SHOWN], chain=True)
    config.addinivalue_line("markers", "needs(*features): what the test needs of the host")
    config.addinivalue_line(
        "markers",
        "crossed(strength=2): a cross product; what a plain run takes of it has each pair of values"
        " (1: each value) at least once, and the rest is `stress`",
    )
    config.addinivalue_line(
        "markers", "anyone: the same whoever runs it; of `stress`, .ci/run has it once"
    )
    config.addinivalue_line("markers", "as_root: only root can provoke this")
    config.addinivalue_line("markers", "as_ordinary: only an ordinary user can provoke this")


def pytest_unconfigure(config: pytest.Config) -> None:
    faulthandler.unregister(signal.SIGALRM)
    os.close(config.stash[_SHOWN])
    if place := config.stash.get(_PLACE, ""):
        shutil.rmtree(place, ignore_errors=True)


def pytest_collection_finish() -> None:
    # Thousands of tests, which stay: each collection would look at all of them again, and the tests
    # of CPython force three each.
    gc.collect()
    gc.freeze()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark what is slow, and leave most cases of a product that is `crossed` to `stress`."""
    # Whoever names files wants all that is in them.
    named = config.args_source is not pytest.Config.ArgsSource.TESTPATHS
    if not (named and "not slow" in config.option.markexpr):
        slow = frozenset(SLOW.read_text().split())
        for item in items:
            if item.nodeid.partition("[")[0] in slow:
                item.add_marker(pytest.mark.slow)
    products: dict[str, list[pytest.Function]] = {}
    for item in items:
        if item.path.parent.name in ("contract", "unit"):
            item.add_marker(pytest.mark.anyone)
        if isinstance(item, pytest.Function) and item.get_closest_marker("crossed"):
            products.setdefault(item.nodeid.partition("[")[0], []).append(item)
    for cases in products.values():
        mark = cases[0].get_closest_marker("crossed")
        strength = mark.args[0] if mark and mark.args else 2
        plain = [case for case in cases if not case.get_closest_marker("stress")]
        for case in set(plain) - set(covering(plain, strength)):
            case.add_marker(pytest.mark.stress)


def covering(cases: list[pytest.Function], strength: int) -> list[pytest.Function]:
    """Choose cases that have, between them, each value of each parameter; with 2, each pair."""
    missing: dict[pytest.Function, set[object]] = {}
    for case in cases:
        # Not equality, nor repr: of some values in tests neither can be had.
        axes = [(name, id(case.callspec.params[name])) for name in sorted(case.callspec.params)]
        missing[case] = set(itertools.combinations(axes, min(strength, len(axes))))
    chosen = []
    # The one that adds most, and of several the first: the same ones in every run.
    while any(missing.values()):
        chosen.append(best := max(cases, key=lambda case: len(missing[case])))
        new = set(missing[best])
        for case in cases:
            missing[case] -= new
    return chosen


def pytest_runtest_setup(item: pytest.Item) -> None:
    # These two are no missing features: the other run of the suite, as the other user, has them.
    if item.get_closest_marker("as_root") and not IS_ROOT:
        pytest.skip("needs root")
    if item.get_closest_marker("as_ordinary") and IS_ROOT:
        pytest.skip("needs an ordinary user")
    for mark in item.iter_markers("needs"):
        for feature in mark.args:
            if not _has(feature):
                reason = f"this host lacks: {feature}"
                pytest.fail(reason) if MUST_RUN else pytest.skip(reason)


_known: dict[str, bool] = {}


def _has(feature: str) -> bool:
    """Tell whether the host has a feature, by the probes of `pyspaces check`; a program by name."""
    if feature not in _known:
        if feature in _PROBES:
            (row,) = host_check.examine((_PROBES[feature],))
            _known[feature] = row.answer != host_check.NO
        else:
            _known[feature] = shutil.which(feature) is not None
    return _known[feature]


_PROBES = {
    "userns": "namespace-user",
    "pidns": "namespace-user-pid",
    "netns": "namespace-user-net",
    "bridge": "shared-network",
    "timens": "namespace-user-time",
    "proc": "mount-proc",
    "overlay": "mount-overlay",
    "many": "map-many",
    "tun": "tun",
}


_WALL = 0x40000000  # linux/wait.h: also children of clone(2) that send no SIGCHLD


def _descriptors() -> dict[str, str]:
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[name] = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            continue
    return found


def _children() -> set[int]:
    """Return the children of this process."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT | _WALL)
    except ChildProcessError:
        return set()
    return set(processes_of(os.getpid()))


def _state() -> tuple[set[str], set[int], str]:
    mounts = Path("/proc/self/mountinfo").read_text(errors="replace")
    return set(_descriptors()), _children(), mounts


@pytest.fixture(autouse=True)
def no_leaks() -> Iterator[None]:
    """Compare descriptors, children and mounts before and after each test."""
    before = _state()
    yield
    launch.use_server(False)
    launch.use_server(SERVER)
    limit = time.monotonic() + 30
    while (after := _state()) != before and time.monotonic() < limit:
        gc.collect()  # what multiprocessing ties in circles, a Pool above all, goes with it
        time.sleep(0.01)
    new = {name: _descriptors().get(name) for name in after[0] - before[0]}
    assert not new, f"descriptors left open: {new}"
    left = after[1] - before[1]
    for child in left:  # they would fail what comes after, too
        with contextlib.suppress(OSError):
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
    assert not left, "children left"
    assert after[2] == before[2], "mounts changed"


@pytest.fixture(autouse=True)
def time_limit() -> Iterator[None]:
    """Interrupt a test that hangs, with the place where it does."""
    signal.alarm(LIMIT)
    yield
    signal.alarm(0)


def outcome(
    words: Sequence[str | Path], *, check: bool = False, timeout: float = 120, **more: Any
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, with a time limit; its output and its errors are text.

    One that launches nothing is run by a process that has loaded click already.
    """
    if words[0] == SCRIPT and more.get("stdin") in (None, subprocess.DEVNULL):
        line = [str(word) for word in words[1:]]
        env, text = more.get("env"), more.get("input")
        if more.keys() <= {"env", "input", "stdin", "cwd"} and warm.fits(line, env, text):
            done = warm.run(line, env=env, cwd=more.get("cwd"), text=text, timeout=timeout)
            if check:
                done.check_returncode()
            return done
    return subprocess.run(
        words, capture_output=True, text=True, check=check, timeout=timeout, **more
    )


@pytest.fixture
def pyspaces() -> Run:
    """Run the console script to its end, with a time limit; standard input is empty."""

    def run(*words: str, **more: Any) -> subprocess.CompletedProcess[str]:
        empty = {} if "input" in more else {"stdin": subprocess.DEVNULL}
        return outcome([SCRIPT, *words], **empty | {"timeout": 60} | more)

    return run


@pytest.fixture
def shell() -> Iterator[Shell]:
    """An interactive bash at a terminal."""
    with contextlib.closing(Shell()) as bash:
        bash.expect(b"ready> ")
        yield bash


@pytest.fixture
def wait_until() -> Callable[..., None]:
    """Wait for a condition, and fail with its name when it does not come true in time."""

    def wait(condition: Callable[[], object], what: str, *, seconds: float = 60) -> None:
        began = time.monotonic()
        limit = began + seconds
        while not condition():
            assert time.monotonic() < limit, f"not after {seconds} s: {what}"
            # Who looks all the time takes the processor from what is waited for.
            time.sleep(min(max(0.005, time.monotonic() - began), 0.1))
            began = time.monotonic()

    return wait


def without(*numbers: int | str, answer: int = errno.ENOSYS) -> list[str]:
    """Return the words before a command for which filters answer system calls with an errno."""
    return [word for one in numbers for word in (sys.executable, DENY, str(one), str(answer))]


def processes_with(token: str) -> list[int]:
    """Return the processes whose command line holds `token`, zombies and this one left out."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal() or int(entry.name) == os.getpid():
            continue
        try:
            if token.encode() in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def has_ended(pid: int) -> bool:
    """Tell whether a process has ended: of an orphan, process 1 may leave the entry for seconds."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[0]
    except OSError:
        return True
    return state in "ZX"


def processes_of(parent: int) -> list[int]:
    """Return the children of a process, zombies included."""
    try:
        tasks = Path(f"/proc/{parent}/task")
        lists = [(tasks / thread / "children").read_text() for thread in os.listdir(tasks)]
    except OSError:  # it has ended, or a thread has, or the kernel has no such lists
        return _processes_of(parent)
    return [int(child) for text in lists for child in text.split()]


def _processes_of(parent: int) -> list[int]:
    """The same, but much slower: a look at every process."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                fields = (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()
            except OSError:
                continue
            if fields[1] == str(parent):
                found.append(int(entry.name))
    return found
