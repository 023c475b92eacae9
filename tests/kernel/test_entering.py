"""Entering what others made: unshare(1), bwrap(1) and pyspaces itself, as root and as the owner."""

from __future__ import annotations

import errno
import json
import os
import random
import subprocess
import sys
import threading
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from conftest import IS_ROOT, PROBE, SCRIPT, has_ended, outcome, processes_of

from pyspaces import launch, settings
from pyspaces.errors import SpaceError
from pyspaces.features.existing import joining
from pyspaces.features.existing.values import Existing, Join, Joining
from pyspaces.kernel import namespaces, processes
from pyspaces.kernel.libc import KernelError
from pyspaces.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from conftest import Run

    from pyspaces.plan import Plan

    Wait = Callable[..., None]

PYTHON = [sys.executable, "-I", "-S", PROBE]
LINKS = [row.link for row in namespaces.NAMESPACES]


def links(pid: int) -> dict[str, str]:
    found = {}
    for link in LINKS:
        with suppress(FileNotFoundError):
            found[link] = os.readlink(f"/proc/{pid}/ns/{link}")
    return found


class Sandbox(Record):
    """A process inside a sandbox, and what it says of itself."""

    pid: int
    links: dict[str, str]
    hostname: str
    uid: int
    mounts: str


def _innermost(pid: int) -> int:
    """Follow the children of a process down to the last one."""
    while below := processes_of(pid):
        pid = below[0]
    return pid


@contextmanager
def sandbox(*words: str) -> Iterator[Sandbox]:
    """Run a sandbox around a shell that tells about itself and waits."""
    script = "uname -n; id -u; echo; exec sleep 1000"
    with subprocess.Popen(
        [*words, "sh", "-c", script], stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        try:
            assert process.stdout
            hostname, uid, _ = (process.stdout.readline() for _ in range(3))
            pid = _innermost(process.pid)
            yield Sandbox(
                pid=pid,
                links=links(pid),
                hostname=hostname.strip(),
                uid=int(uid),
                mounts=Path(f"/proc/{pid}/mounts").read_text(),
            )
        finally:
            os.killpg(process.pid, 9)


BWRAP = "bwrap --unshare-all --hostname box --bind / / --proc /proc --tmpfs /mnt --die-with-parent"
SANDBOXES = {
    "unshare": (
        "unshare -UrpmfnuiC --mount-proc --kill-child setpriv --bounding-set +all"
        " sh -c 'hostname box; mount -t tmpfs none /mnt; exec \"$@\"' sh"
    ),
    # Without an id of its own, bwrap needs one user namespace; with one, a second one within.
    "bwrap": BWRAP,
    "bwrap with two user namespaces": f"{BWRAP} --uid 5 --gid 5",
    "pyspaces": f"{SCRIPT} run --all --hostname box",
}


def words_of(kind: str) -> list[str]:
    import shlex

    return shlex.split(SANDBOXES[kind])


@pytest.mark.needs("userns", "pidns", "netns", "proc", "bwrap", "ip")
@pytest.mark.parametrize("kind", SANDBOXES)
def test_a_sandbox_is_entered_whole(pyspaces: Run, kind: str) -> None:
    with sandbox(*words_of(kind)) as box:
        assert box.hostname == "box"
        enter = ["enter", str(box.pid), "--"]
        script = "readlink /proc/$$/ns/* | xargs; uname -n; id -u; ip -o link; cat /proc/mounts"
        done = pyspaces(*enter, "sh", "-c", script)
        inside, hostname, uid, link, mounts = done.stdout.split("\n", 4)
        assert set(box.links.values()) <= set(inside.split())
        assert (done.returncode, hostname, int(uid)) == (0, "box", box.uid)
        assert link.startswith("1: lo")
        assert mounts == box.mounts


@pytest.mark.needs("userns", "pidns", "proc", "netns", "nsenter")
def test_nsenter_enters_ours() -> None:
    with sandbox(SCRIPT, "run", "--all", "--share", "time", "--hostname", "box") as box:
        done = subprocess.run(
            # As an ordinary user it cannot drop the groups, and does not try when told so.
            [
                *("nsenter", "-t", str(box.pid), "-U", "-m", "-p", "-n", "-u", "-i"),
                *("--preserve-credentials", *PYTHON, "ns"),
            ],
            capture_output=True,
            text=True,
            check=True,
        )
        inside = json.loads(done.stdout)
        assert all(inside[link] == box.links[link] for link in ("user", "mnt", "pid", "net"))


@pytest.mark.needs("userns", "netns")
def test_only_what_was_named_is_entered(pyspaces: Run) -> None:
    with sandbox("unshare", "-Urnu") as box:
        inside = json.loads(
            pyspaces("enter", str(box.pid), "--user", "--net", "--", *PYTHON, "ns").stdout
        )
        own = links(os.getpid())
        assert (inside["user"], inside["net"]) == (box.links["user"], box.links["net"])
        assert inside["uts"] == own["uts"] != box.links["uts"]


@pytest.mark.as_ordinary
@pytest.mark.needs("userns", "netns")
def test_the_owner_is_joined_where_that_is_what_it_takes(pyspaces: Run) -> None:
    """An ordinary user cannot join a network namespace as what it is outside."""
    with sandbox("unshare", "-Urn") as box:
        inside = json.loads(pyspaces("enter", str(box.pid), "--net", "--", *PYTHON, "ns").stdout)
        assert (inside["user"], inside["net"]) == (box.links["user"], box.links["net"])


@pytest.mark.as_root
def test_root_joins_no_more_than_it_was_told(pyspaces: Run) -> None:
    with sandbox("unshare", "-Urn") as box:
        inside = json.loads(pyspaces("enter", str(box.pid), "--net", "--", *PYTHON, "ns").stdout)
        assert inside["net"] == box.links["net"]
        assert inside["user"] == links(os.getpid())["user"]


@pytest.mark.needs("userns", "netns")
def test_run_starts_in_old_namespaces_and_new_ones(pyspaces: Run) -> None:
    with sandbox("unshare", "-Urn") as box:
        joined = (f"--join=user=/proc/{box.pid}/ns/user", f"--join=net={box.pid}")
        done = pyspaces("run", *joined, "--uts", "--hostname", "new", "--", *PYTHON, "ns")
        inside = json.loads(done.stdout)
        own = links(os.getpid())
        assert (inside["user"], inside["net"]) == (box.links["user"], box.links["net"])
        assert inside["uts"] not in (own["uts"], box.links["uts"])
        done = pyspaces("run", "--all", *joined, "--", *PYTHON, "ns")
        inside = json.loads(done.stdout)
        assert (inside["user"], inside["net"]) == (box.links["user"], box.links["net"])
        assert not {inside["pid"], inside["mnt"], inside["ipc"]} & set(own.values())


@pytest.mark.needs("userns")
def test_ids_inside(pyspaces: Run) -> None:
    """Root of the user namespace where it is mapped, or the first id that is, or who one was."""
    with sandbox("unshare", "-Ur") as box:
        ids = json.loads(pyspaces("enter", str(box.pid), "--", *PYTHON, "ids").stdout)
        assert ids[:2] == [[0] * 3, [0] * 3]
        assert set(ids[2]) <= {0, 65534}  # they cannot be dropped, but none is mapped but one's own
    with sandbox("unshare", "-U", "--map-user=7", "--map-group=8") as box:
        ids = json.loads(pyspaces("enter", str(box.pid), "--", *PYTHON, "ids").stdout)
        assert ids[:2] == [[7] * 3, [8] * 3]
    with sandbox("unshare", "-U") as box:
        words = ("enter", str(box.pid), "--preserve-credentials", "--", *PYTHON, "ids")
        ids = json.loads(pyspaces(*words).stdout)
        assert ids[0] == [65534] * 3


@pytest.mark.as_root
@pytest.mark.needs("userns")
def test_other_ids_inside(pyspaces: Run) -> None:
    with sandbox(SCRIPT, "run", "--map-uid=0 0 10", "--map-gid=0 0 10") as box:
        words = ("enter", str(box.pid), "--setuid", "5", "--setgid", "6", "--groups", "7,8")
        # Not by Python: this interpreter may be root's alone.
        done = pyspaces(*words, "--", "grep", "-E", "^(Uid|Gid|Groups):", "/proc/self/status")
        ids = " ".join(done.stdout.split())
        assert ids == "Uid: 5 5 5 5 Gid: 6 6 6 6 Groups: 7 8"
        more = ("enter", str(box.pid), "--groups", "keep")
        kept = json.loads(pyspaces(*more, "--", *PYTHON, "ids", extra_groups=[9]).stdout)
        assert kept[2] == [9]
        done = pyspaces("enter", str(box.pid), "--setuid", "99", "--", "true")
        assert done.returncode == 125
        assert "setresuid: Invalid argument" in done.stderr


@pytest.mark.needs("userns")
def test_a_namespace_that_one_is_in_is_left_out(pyspaces: Run) -> None:
    words = ("enter", str(os.getpid()), "--all", "--no-root", "--", *PYTHON, "ids")
    done = pyspaces(*words)
    assert json.loads(done.stdout) == [
        list(os.getresuid()),
        list(os.getresgid()),
        os.getgroups(),
    ]


@pytest.mark.needs("userns", "proc")
def test_root_and_working_directory_of_the_target(pyspaces: Run, tmp_path: Path) -> None:
    # A chroot within the mount namespace is the target's own, as are its mounts.
    script = f"mount -t tmpfs none {tmp_path}; cd {tmp_path}; mkdir here; cd here; echo; exec cat"
    words = ["unshare", "-Urm", "sh", "-c", script]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout
            assert process.stdout.readline() == b"\n"
            enter = ("enter", str(process.pid))
            assert pyspaces(*enter, "pwd").stdout == f"{tmp_path}/here\n"
            assert pyspaces(*enter, "--no-root", "pwd").stdout == "/\n"
            assert pyspaces(*enter, "-w", str(tmp_path), "ls").stdout == "here\n"
            # Without the mount namespace neither is taken.
            assert pyspaces(*enter, "--user", "pwd", cwd="/usr").stdout == "/usr\n"
            # Unless they are asked for: the root is the same directory, but with its mounts.
            done = pyspaces(*enter, "--user", "--root", "sh", "-c", f"pwd; ls {tmp_path}")
            assert done.stdout == f"{tmp_path}/here\nhere\n"
        finally:
            process.kill()


@pytest.mark.needs("userns", "bwrap")
def test_the_root_is_that_of_the_target(pyspaces: Run, tmp_path: Path) -> None:
    words = "bwrap --unshare-user --ro-bind /usr /usr --symlink usr/lib /lib --symlink usr/lib64"
    more = "/lib64 --symlink usr/bin /bin --proc /proc --dir /only"
    with sandbox(*words.split(), *more.split()) as box:
        done = pyspaces("enter", str(box.pid), "ls", "/")
        assert done.stdout.split() == ["bin", "lib", "lib64", "only", "proc", "usr"]


@pytest.mark.needs("userns")
def test_the_environment_of_the_target(pyspaces: Run) -> None:
    variables = {"PATH": os.environ["PATH"], "ONLY": "there", "ODD": "a\nb="}
    pipe = subprocess.PIPE
    with subprocess.Popen(
        ["unshare", "-Ur", "cat"], env=variables, stdin=pipe, stdout=pipe
    ) as process:
        try:
            # It has its name before the kernel has its environment where /proc finds it.
            assert process.stdin
            assert process.stdout
            process.stdin.write(b"\n")
            process.stdin.flush()
            assert process.stdout.readline() == b"\n"
            enter = ("enter", str(process.pid), "--env-of-target", "--setenv", "MORE", "1")
            done = pyspaces(*enter, "--", "env", "-0", env=os.environ | {"HERE": "not"})
            found = dict(pair.split("=", 1) for pair in done.stdout.rstrip("\0").split("\0"))
            assert found == {**variables, "MORE": "1", "PWD": os.getcwd()}
        finally:
            process.kill()


@pytest.mark.as_root
def test_the_cgroups_of_the_target(pyspaces: Run, wait_until: Wait) -> None:
    from pyspaces.kernel import cgroupfs

    rows = cgroupfs.cgroups_of("self")
    try:
        file = cgroupfs.procs_file(*rows[0])
        directory = Path(file).with_name(f"pyspaces-test-{os.getpid()}")
        directory.mkdir()
    except (KernelError, OSError, IndexError) as error:
        pytest.skip(f"no cgroup can be made: {error}")
    try:
        with sandbox("unshare", "-u") as box:
            (directory / "cgroup.procs").write_text(str(box.pid))
            enter = ("enter", str(box.pid), "--uts")
            theirs = Path(f"/proc/{box.pid}/cgroup").read_text()
            assert pyspaces(*enter, "--join-cgroup", "cat", "/proc/self/cgroup").stdout == theirs
            assert pyspaces(*enter, "cat", "/proc/self/cgroup").stdout != theirs
    finally:
        wait_until(lambda: _removed(directory), "the cgroup is empty")


def _removed(directory: Path) -> bool:
    with suppress(OSError):
        directory.rmdir()
    return not directory.exists()


@pytest.mark.as_ordinary
def test_a_stranger_is_not_entered(pyspaces: Run) -> None:
    done = pyspaces("enter", "1", "true")
    assert done.returncode == 125
    assert done.stderr == (
        "pyspaces: cannot join the namespaces: open /proc/1/ns/user: Permission denied\n"
        "hint: process 1 belongs to user 0: only that user or root may enter it\n"
    )


@pytest.mark.as_ordinary
@pytest.mark.needs("userns", "netns")
def test_a_strangers_namespace_is_not_joined(pyspaces: Run, tmp_path: Path) -> None:
    """From within, the one around cannot be joined."""
    with sandbox("unshare", "-Urn") as box:
        own = os.open("/proc/self/ns/net", os.O_RDONLY)
        try:
            done = outcome(
                [
                    *("nsenter", "-t", str(box.pid), "-U", "-n", "--preserve-credentials"),
                    *(SCRIPT, "enter", "--net-file", f"/proc/self/fd/{own}", "true"),
                ],
                pass_fds=[own],
            )
        finally:
            os.close(own)
        assert done.returncode == 125
        assert f"setns /proc/self/fd/{own}: Operation not permitted" in done.stderr
        assert "hint: its owner is a user namespace outside this process's own" in done.stderr


@pytest.mark.as_root
@pytest.mark.needs("netns")
def test_who_has_no_right_is_told_whose_a_namespace_is() -> None:
    """The owner of a user namespace has the rights in it, and so has real root with its own."""
    with sandbox("setpriv", "--reuid=65534", "--clear-groups", "unshare", "-Urn") as box:
        file = os.open(f"/proc/{box.pid}/ns/net", os.O_RDONLY)
        enter = ["setpriv", "--bounding-set=-sys_admin", SCRIPT, "enter"]
        try:
            by_file, by_process = (
                outcome([*enter, *words, "true"], pass_fds=[file])
                for words in (["--net-file", f"/proc/self/fd/{file}"], [str(box.pid), "--net"])
            )
        finally:
            os.close(file)
        assert (by_file.returncode, by_process.returncode) == (125, 125)
        assert (
            f"setns /proc/self/fd/{file}: Operation not permitted\n"
            "hint: its user namespace belongs to user 65534: only that user or root may"
            " join it\n"
        ) in by_file.stderr
        assert by_process.stderr.endswith(
            f"/proc/{box.pid}/ns/net: Operation not permitted\n"
            f"hint: process {box.pid} belongs to user 65534: only that user or root may enter it\n"
        )


# --- a target that goes ----------------------------------------------------------------------


def test_no_such_process(pyspaces: Run) -> None:
    number = Path("/proc/sys/kernel/pid_max").read_text().strip()  # that of none, ever
    done = pyspaces("enter", number, "true")
    assert (done.returncode, done.stdout) == (125, "")
    assert done.stderr == (
        f"pyspaces: cannot join the namespaces: open /proc/{number}/ns: No such process\n"
    )


def test_a_zombie_is_no_process_to_enter() -> None:
    with subprocess.Popen(["true"]) as process:
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        with pytest.raises(KernelError) as caught:
            joining.open_visit(Joining(joins=(Join(namespace="net", pid=process.pid),)))
    assert caught.value.errno == errno.ESRCH


def test_a_later_process_of_the_same_number_is_refused() -> None:
    """A start time that is another's stands for a pid that was used again."""
    start = processes.start_time("self")
    assert start is not None
    joins = (Join(namespace="net", pid=os.getpid()),)
    joining.open_visit(Joining(joins=joins, target=os.getpid(), start=start)).close()
    with pytest.raises(KernelError) as caught:
        joining.open_visit(Joining(joins=joins, target=os.getpid(), start=start - 1))
    assert caught.value.errno == errno.ESRCH


@contextmanager
def _target() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(
        ["unshare", "-Urn", "sh", "-c", "echo; exec sleep 1000"], stdout=subprocess.PIPE
    ) as process:
        try:
            assert process.stdout
            assert process.stdout.readline() == b"\n"
            yield process
        finally:
            process.kill()


def _enter_once(plan: Plan) -> SpaceError | None:
    try:
        with launch.start(plan) as running:
            assert running.wait(timeout=60).ok
    except SpaceError as error:
        return error
    return None


@pytest.mark.needs("userns", "netns", "pidns")
@pytest.mark.parametrize("times", [8, pytest.param(200, marks=pytest.mark.stress)])
def test_a_target_that_is_killed_meanwhile_is_never_mistaken(tmp_path: Path, times: int) -> None:
    """Each target is killed around the moment of the enter: it works, or the target has gone."""
    answer = tmp_path / "answer"
    outcomes = {"entered": 0, "gone": 0}
    chance = random.Random(7)
    plan = settings.plan_from(
        {"command": ["sh", "-c", f"readlink /proc/self/ns/net > {answer}"], "setenv": [("A", "b")]}
    )
    for number in range(times):
        with _target() as target:
            expected = os.readlink(f"/proc/{target.pid}/ns/net")
            joins = tuple(Join(namespace=name, pid=target.pid) for name in ("user", "net"))
            killer = threading.Timer(chance.uniform(0, 0.006), target.kill)
            # The first is killed too late, the last too early: both outcomes are certain.
            if number == times - 1:
                target.kill()
                target.wait()
            elif number:
                killer.start()
            refusal = _enter_once(plan.replace(existing=Existing(joining=Joining(joins=joins))))
            if number not in (0, times - 1):
                killer.join()
        if refusal is None:
            assert answer.read_text().strip() == expected
            answer.unlink()
            outcomes["entered"] += 1
        else:
            assert refusal.report is not None
            assert refusal.report.errno == errno.ESRCH, str(refusal)
            assert not answer.exists()
            outcomes["gone"] += 1
    assert outcomes["entered"] >= 1
    assert outcomes["gone"] >= 1


@pytest.mark.needs("userns", "pidns")
def test_a_pid_namespace_without_its_first_process(pyspaces: Run, wait_until: Wait) -> None:
    with sandbox("unshare", "-Urpf", "--kill-child") as box:
        held = os.open(f"/proc/{box.pid}/ns/pid", os.O_RDONLY)
        user = os.open(f"/proc/{box.pid}/ns/user", os.O_RDONLY)
    try:
        # unshare(1) is killed with it, and does not wait for it.
        wait_until(lambda: has_ended(box.pid), "process 1 has ended")
        files = (f"--pid-file=/proc/self/fd/{held}", f"--user-file=/proc/self/fd/{user}")
        done = pyspaces("enter", *files, "true", pass_fds=[held, user])
    finally:
        os.close(held)
        os.close(user)
    assert done.returncode == 125
    assert "cannot create the namespaces: clone3: Cannot allocate memory" in done.stderr
    assert "hint: process 1 of the pid namespace has ended" in done.stderr


@pytest.mark.needs("userns", "pidns", "proc")
def test_a_pid_namespace_around_ones_own_is_out_of_reach() -> None:
    """Even with every right: both belong to one user namespace here."""
    enter = f"{SCRIPT} enter --pid-file=/proc/self/fd/9 true"
    script = f"exec 9</proc/self/ns/pid; unshare -pf --mount-proc {enter}; exit $?"
    done = outcome(["unshare", "-Urpf", "--mount-proc", "--kill-child", "sh", "-c", script])
    assert done.returncode == 125
    assert "setns /proc/self/fd/9: Invalid argument" in done.stderr
    assert "hint: a process can join only pid namespaces that are nested in its own" in done.stderr


# --- without a fork --------------------------------------------------------------------------


@pytest.mark.needs("userns", "netns")
def test_no_fork_keeps_the_process(tmp_path: Path) -> None:
    with sandbox("unshare", "-Urn") as box:
        script = "echo $$; readlink /proc/$$/ns/net"
        words = [SCRIPT, "enter", str(box.pid), "-F", "--", "sh", "-c", script]
        with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
            output, _ = process.communicate()
        assert output == f"{process.pid}\n{box.links['net']}\n"


@pytest.mark.needs("userns", "bwrap")
def test_what_fails_without_a_fork_is_told_from_within(pyspaces: Run) -> None:
    """The root has moved by then, and has no Python: nothing may be imported any more."""
    with sandbox(
        *("bwrap", "--unshare-user", "--ro-bind", "/usr", "/usr", "--symlink", "usr/lib", "/lib"),
        *("--symlink", "usr/lib64", "/lib64", "--symlink", "usr/bin", "/bin"),
    ) as box:
        done = pyspaces("enter", "-F", str(box.pid), "nosuch")
        assert (done.returncode, done.stderr) == (
            127,
            "pyspaces: cannot execute the command: nosuch: No such file or directory\n",
        )
        done = pyspaces("enter", "-F", str(box.pid), "-w", "/nonexistent", "--", "true")
        assert (done.returncode, done.stderr) == (
            125,
            "pyspaces: cannot change to the working directory: /nonexistent:"
            " No such file or directory\n",
        )
    if not IS_ROOT:
        done = pyspaces("enter", "-F", "1", "true")
        assert done.returncode == 125
        assert "Permission denied" in done.stderr


def test_plans_with_joins_are_plain_data() -> None:
    plan = settings.plan_from(
        {"command": ["x"], "join": ["net=/a", "user=7"], "keep": ["uts=/b"], "name": "n"}
    )
    again: Any = json.loads(json.dumps(plan.to_data()))
    assert type(plan).from_data(again) == plan
    assert plan.existing.joining.names() == ("user", "net")
    assert plan.namespaces == ("uts",)


@pytest.mark.as_ordinary
def test_a_new_user_namespace_below_the_one_of_a_sandbox() -> None:
    with subprocess.Popen(
        ["unshare", "-Urn", "sh", "-c", "echo; read x"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as sandbox:
        assert sandbox.stdout is not None
        sandbox.stdout.readline()
        join = ["--join", f"net=/proc/{sandbox.pid}/ns/net"]
        for more in ([], ["--read-only"]):
            done = outcome([SCRIPT, "run", "--user", *join, *more, "--", "true"])
            assert done.returncode == 125
            assert (
                "the new user namespace is nested in the one that owns the joined namespaces"
                in done.stderr
            )
        done = outcome([SCRIPT, "run", *join, "--", "id", "-u"])
        sandbox.kill()
    assert (done.returncode, done.stdout, done.stderr) == (0, "0\n", ""), "the hint's way out"
