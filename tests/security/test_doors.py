"""Nobody who waits in a sandbox gets out by a process of ours that joins it."""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import IS_ROOT, SCRIPT, outcome, processes_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from conftest import Run

LURKER = str(Path(__file__).with_name("lurker.py"))
VISITS = pytest.mark.parametrize("visits", [2, pytest.param(20, marks=pytest.mark.stress)])

pytestmark = pytest.mark.needs("userns")


class Sandbox:
    """A sandbox with a lurker in it, from whom a file of the host is hidden."""

    def __init__(self, directory: Path, *words: str) -> None:
        self.secret = directory / "hidden" / "secret"
        self.secret.parent.mkdir()
        self.secret.write_text("secret\n")
        hide = ["--bind", "/", "/", "--tmpfs", str(self.secret.parent)]
        self.process = subprocess.Popen(
            [SCRIPT, "run", "--user", *hide, *words, "--",
             sys.executable, "-I", "-S", LURKER, str(self.secret)],
            stdout=subprocess.PIPE,
        )  # fmt: skip
        try:
            assert self.process.stdout
            assert self.process.stdout.readline() == b"ready\n"
            (self.target,) = processes_of(self.process.pid)
        except BaseException:
            self.process.kill()
            self.process.communicate()
            raise

    def visit(self, words: list[str], times: int) -> None:
        """Have a command come from the directory that is hidden, again and again."""
        for _ in range(times):
            done = outcome(words, cwd=self.secret.parent)
            assert (done.returncode, done.stderr) == (0, "")

    def joins(self) -> list[str]:
        """Return the options of `run` to join it."""
        names = ("user", "mount")
        return [word for name in names for word in ("--join", f"{name}={self.target}")]

    def caught(self) -> dict[str, int]:
        """End it, and return what was seen."""
        self.process.send_signal(signal.SIGTERM)
        out, _ = self.process.communicate(timeout=60)
        found = json.loads(out)
        assert found["came"] > 0
        seen: dict[str, int] = found["seen"]
        return seen


@contextlib.contextmanager
def sandbox(directory: Path, *words: str) -> Iterator[Sandbox]:
    made = Sandbox(directory, *words)
    try:
        yield made
        assert made.secret.read_text() == "secret\n"
    finally:
        made.process.terminate()
        made.process.communicate(timeout=60)


WAYS = {
    "enter": ["enter", "PID", "--", "/bin/true"],
    "enter, as who one is": ["enter", "PID", "--preserve-credentials", "--", "/bin/true"],
    "enter, without its root": ["enter", "PID", "-U", "-m", "--no-root", "--", "/bin/true"],
    "enter, becoming the command": ["enter", "PID", "--no-fork", "--", "/bin/true"],
    "run": ["run", "--join", "user=PID", "--join", "mount=PID", "--uts", "--", "/bin/true"],
}


@VISITS
@pytest.mark.parametrize("way", WAYS)
def test_a_visitor_is_no_door(tmp_path: Path, way: str, visits: int) -> None:
    """Without PR_SET_DUMPABLE the lurker opened the memory of every one of 60 visitors."""
    with sandbox(tmp_path) as made:
        words = [word.replace("PID", str(made.target)) for word in WAYS[way]]
        made.visit([SCRIPT, *words], 3 * visits if way == "enter" else visits)
        assert made.caught() == {}


@VISITS
def test_nor_where_the_namespaces_are_joined_one_by_one(tmp_path: Path, visits: int) -> None:
    """As before Linux 5.8: a pidfd is no namespace to setns(2)."""
    script = """
import sys
from pyspaces.features.existing import joining
from pyspaces.cli import main
joining._are_joined_at_once_inner = lambda process, names: False
sys.exit(main(["enter", sys.argv[1], "--", "/bin/true"]))
"""
    with sandbox(tmp_path) as made:
        made.visit([sys.executable, "-c", script, str(made.target)], visits)
        assert made.caught() == {}


@VISITS
def test_nor_is_python_that_is_injected(tmp_path: Path, visits: int) -> None:
    """It executes nothing, so for as long as it lives."""
    script = """
import sys, time
from pyspaces import Inject
for _ in range(int(sys.argv[2])):
    process = Inject(int(sys.argv[1]), target=time.sleep, args=(0.1,), user=True, mount=True)
    process.start()
    process.join()
    assert process.exitcode == 0
"""
    with sandbox(tmp_path) as made:
        made.visit([sys.executable, "-c", script, str(made.target), str(visits // 2)], 1)
        assert made.caught() == {}


@pytest.mark.needs("overlay")
@pytest.mark.parametrize("times", [1, pytest.param(5, marks=pytest.mark.stress)])
def test_nor_who_compares_overlays(tmp_path: Path, times: int) -> None:
    """What the command leaves behind waits for the process that looks at what was changed."""
    low, hidden = tmp_path / "low", tmp_path / "hidden"
    for directory in (low, hidden):
        directory.mkdir()
    (hidden / "secret").write_text("secret\n")
    told, ready = tmp_path / "out", tmp_path / "diff"
    python = f"{sys.executable} -I -S"
    script = (
        f"i=0; while [ $i -lt 1500 ]; do echo x > /mnt/$i; i=$((i+1)); done; cd /;"
        f" {python} {LURKER} {hidden}/secret > {told} 2>&1 &"
        f" while ! grep -q ready {told}; do sleep 0.05; done; echo $!"
    )
    hide = ["--bind", "/", "/", "--tmpfs", str(hidden), "--overlay-src", str(low)]
    caught = []
    told.touch()
    for _ in range(times):
        with subprocess.Popen(
            [SCRIPT, "run", "--user", *hide, "--tmp-overlay", "/mnt",
             "--overlay-diff", str(ready), "--", "sh", "-c", script],
            cwd=hidden, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        ) as launcher:  # fmt: skip
            _, error = launcher.communicate(timeout=60)
            assert (launcher.returncode, error) == (0, "")
        assert len(ready.read_text().splitlines()) == 1500
        end_lurkers()
        told_text = told.read_text().removeprefix("ready\n")
        caught.append(json.loads(told_text)["seen"])
        told.write_text("")
    assert caught == [{}] * times
    assert (hidden / "secret").read_text() == "secret\n"


def end_lurkers() -> None:
    """End what has been left behind, and wait for it."""
    for name in filter(str.isdecimal, os.listdir("/proc")):
        try:
            words = Path(f"/proc/{name}/cmdline").read_bytes()
            if LURKER.encode() in words:
                pidfd = os.pidfd_open(int(name))
                signal.pidfd_send_signal(pidfd, signal.SIGTERM)
                select.select([pidfd], [], [], 60)
                os.close(pidfd)
        except OSError:
            continue


@pytest.mark.parametrize("program", ["nsenter"])
def test_what_the_peers_do(
    tmp_path: Path, program: str, record_property: Callable[..., None]
) -> None:
    """For the note: how many of them could be used. Nothing of ours depends on it."""
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")
    with sandbox(tmp_path) as made:
        words = [program, "-t", str(made.target), "-U", "-m", "--preserve-credentials"]
        made.visit([*words, "/bin/true"], 3)
        record_property(program, made.caught())


@pytest.mark.parametrize("first", ["--map-root", "--map-current"])
def test_a_child_of_its_own_namespace_can_do_all_it_has_to(pyspaces: Run, first: str) -> None:
    """Where nobody else is: not dumpable is who joins, and nobody else."""
    words = ["run", "--user", first, "--time", "--boottime", "1000", "--", "true"]
    assert pyspaces(*words).returncode == 0


@pytest.mark.needs("timens")
@pytest.mark.parametrize("more", [[], ["--no-fork"]])
def test_clocks_are_set_where_one_has_joined(
    tmp_path: Path, pyspaces: Run, more: list[str]
) -> None:
    """timens_offsets of a process that is not dumpable belongs to root."""
    with sandbox(tmp_path) as made:
        done = pyspaces(
            "run", *made.joins(), "--time", "--boottime", "100000000", *more,
            "--", "cat", "/proc/uptime",
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, "")
        assert float(done.stdout.split()[0]) > 100000000


@pytest.mark.parametrize("more", [["--name", "visitor"], ["--status-file", "STATUS"]])
def test_a_visitor_is_recorded_all_the_same(tmp_path: Path, pyspaces: Run, more: list[str]) -> None:
    status = tmp_path / "status"
    more = [word.replace("STATUS", str(status)) for word in more]
    with sandbox(tmp_path) as made:
        done = pyspaces(
            "run", *made.joins(), "--net", *more, "--",
            "readlink", "/proc/self/ns/user", "/proc/self/ns/net",
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, "")
        if status.exists():
            links = dict(line.rstrip("]").split(":[") for line in done.stdout.splitlines())
            (started,) = [
                row for line in status.read_text().splitlines()
                if (row := json.loads(line)).get("event") == "started"
            ]  # fmt: skip
            for name, inode in links.items():
                assert started["namespaces"][name] == int(inode)


@pytest.mark.skipif(not IS_ROOT, reason="only root becomes another user")
def test_an_id_that_is_not_mapped_does_not_come_along(pyspaces: Run) -> None:
    """Root of the host would act as user 0 on what the owner of the namespace has put there."""
    with subprocess.Popen(
        ["setpriv", "--reuid", "65534", "--clear-groups", "unshare", "-U", "sleep", "100"]
    ) as target:
        try:
            wait_for_link(target.pid)
            done = pyspaces("enter", str(target.pid), "--", "true")
            assert done.returncode == 125
            assert "cannot join the namespaces" in done.stderr
            done = pyspaces("enter", str(target.pid), "--preserve-credentials", "--", "true")
            assert done.returncode == 0
        finally:
            target.kill()


def wait_for_link(pid: int) -> None:
    """Wait until a process has its own user namespace."""
    own = os.readlink("/proc/self/ns/user")
    while os.readlink(f"/proc/{pid}/ns/user") == own:
        pass
