"""`pyspaces.dask` over clusters of this machine.

Each cluster belongs to a program of its own, which ends with all its processes and connections.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from conftest import DENY, outcome, processes_with

from pyspaces import UsageFault, launch, settings
from pyspaces.library import job
from pyspaces.library.job import Job, Task

pytestmark = pytest.mark.needs("userns", "pidns", "proc")

# `cluster(n)` has n workers, each a process with one thread, which a nanny starts anew if it dies.
START = """
import contextlib, json, os, signal, subprocess, sys, time, warnings
import dask
from distributed import Client, LocalCluster
import pyspaces.dask as spaces
from pyspaces.errors import SpaceError

@contextlib.contextmanager
def cluster(workers, processes=True):
    patient = {"distributed.comm.timeouts.connect": "120s", "distributed.comm.timeouts.tcp": "120s"}
    # So often does a client ask for what it knows of the cluster by itself: without the workers.
    patient["distributed.client.scheduler-info-interval"] = "5ms"
    with dask.config.set(patient), LocalCluster(
        n_workers=workers, processes=processes, threads_per_worker=1, protocol="tcp",
        host="127.0.0.1", dashboard_address=":0", silence_logs=50,
    ) as local, Client(local) as client:
        client.wait_for_workers(workers, timeout=120)
        yield client
"""


def run_program(text: str, *words: str | Path) -> list[str]:
    done = outcome([sys.executable, "-c", START + text, *words], timeout=220)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


COMMANDS = """
def commands(client, place, given):
    results = spaces.run(client, (f"echo {n} $$; exit {n}" for n in range(9)))
    found = sorted(results, key=lambda r: r.index)
    assert [r.stdout for r in found] == [b"%d 1\\n" % n for n in range(9)], found
    assert [(r.returncode, r.ok) for r in found] == [(n, n == 0) for n in range(9)], found
    assert all(r.usage.wall > 0 and r.worker.startswith("tcp://") for r in found)

    script = "cat in/file - > out; ln -s /etc/passwd link; mkfifo fifo; ln -s .. up; pwd"
    one = spaces.Job(
        words=("sh", "-c", script), input=b" given", files={"in/file": b"sent"},
        collect=("out", "link", "fifo", "none", "up/etc"),
    )
    (done,) = spaces.run(client, [one], sandbox=True, place="/mnt")
    assert (done.stdout, done.files) == (b"/mnt\\n", {"out": b"sent given"}), done
    assert sorted(done.missing) == ["fifo", "link", "none", "up/etc"], done
    (done,) = spaces.run(client, [one], shared=place)
    assert done.directory.startswith(place)
    assert open(done.directory + "/out").read() == "sent given"

    (late,) = spaces.run(client, [["sleep", "1000"]], timeout=0.2, rlimit="core=0")
    assert (late.timed_out, late.ok, late.status.signal) == (True, False, 9), late
    (missing,) = spaces.run(client, [["no-such-command"]])
    assert "no-such-command: No such file" in missing.error, missing

    from pyspaces import settings
    plan = settings.plan_from({"command": ["x"], "user": True, "uts": True, "hostname": "planned"})
    (named,) = spaces.run(client, [["uname", "-n"]], plan=plan, progress=True)
    assert named.stdout == b"planned\\n", named

    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        try:
            list(spaces.run(client, ["true"], mounts=[["bind", "/no-such", "/mnt"]]))
        except SpaceError as error:
            assert len(error.details) == len(told) == 2 and "/no-such" in error.details[0]
    given_up = spaces.run(client, ["echo quick", f": {given}; sleep 1000"])
    assert next(given_up).stdout == b"quick\\n"
    given_up.close()
    assert list(given_up) == []
"""


BAD_HOST = """
def bad_host(client, deny, number):
    address = client.scheduler.address
    other = subprocess.Popen(
        [sys.executable, deny, number, "1", sys.executable, "-m", "distributed.cli.dask_worker",
         address, "--no-nanny", "--nthreads", "1", "--no-dashboard", "--name", "bad"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )
    try:
        client.wait_for_workers(3, timeout=120)
        rows = client.sync(client.scheduler.identity, n_workers=-1)["workers"]
        (bad,) = [name for name, row in rows.items() if row["name"] == "bad"]
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            results = spaces.run(client, [["echo", str(n)] for n in range(20)], mount=True)
            found = list(results)
        assert all(r.ok and r.worker != bad for r in found), found
        assert list(results.refused) == [bad], results.refused
        assert [w.category for w in told if bad in str(w.message)] == [RuntimeWarning]
        assert "Operation not permitted" in results.refused[bad], results.refused
    finally:
        other.terminate()
        other.wait()
"""


def number_of(call: str) -> int:
    return {"x86_64": {"mount": 165}, "aarch64": {"mount": 40}}[os.uname().machine][call]


EXECUTOR = """
def where(number):
    return number, os.getuid(), os.getpid(), os.uname().nodename
def executor(client):
    client.register_plugin(spaces.Spaces(pid=True, hostname="box", processes=1))
    with dask.annotate(executor="pyspaces"):
        # Functions of this program, which no module has.
        assert client.submit(where, 4).result() == (4, 0, 1, "box")
        assert sorted(client.gather(client.map(lambda n: n * 2, range(5)))) == [0, 2, 4, 6, 8]
        try:
            client.submit(os._exit, 3).result()
        except Exception as error:
            assert "terminated abruptly" in str(error), error
        assert client.submit(where, 5).result() == (5, 0, 1, "box")
    assert client.submit(os.getpid, pure=False).result() != 1
"""
# In one program, over one cluster: to start one takes longer than all of it.
ONCE = """
def once(client, place):
    spaces._LOOK = 0.001  # so often are the workers looked at
    found = list(spaces.run(client, [f"echo run >> {place}/runs; sleep 1"] * 4))
    assert all(result.ok for result in found), found
    assert open(f"{place}/runs").read() == "run\\n" * 4
"""
IN_ONE_PROCESS = """
place, given = sys.argv[1:]
with cluster(2, processes=False) as client:
    commands(client, place, given)
    once(client, place)
print("done")
"""
IN_SEVERAL = """
place, given, deny, number = sys.argv[1:]
with cluster(2) as client:
    commands(client, place, given)
    executor(client)
    bad_host(client, deny, number)
print("done")
"""


def test_commands_run_on_workers_and_their_results_come_home(
    tmp_path: Path, wait_until: Any
) -> None:
    token = f"given up {time.monotonic_ns()}"
    assert run_program(COMMANDS + ONCE + IN_ONE_PROCESS, tmp_path, token)[-1] == "done"
    wait_until(lambda: not processes_with(token), "the command has been killed")


@pytest.mark.stress
def test_so_do_tasks_and_a_host_that_cannot_is_named_and_gets_no_command(
    tmp_path: Path, wait_until: Any
) -> None:
    token = f"given up {time.monotonic_ns()}"
    text = COMMANDS + EXECUTOR + BAD_HOST + IN_SEVERAL
    found = run_program(text, tmp_path, token, DENY, str(number_of("mount")))
    assert found[-1] == "done"
    wait_until(lambda: not processes_with(token), "the command has been killed")


DEATH = """
marker, token = sys.argv[1:]
first = f": {token}; mkdir {marker} 2>/dev/null && sleep 1000; echo again"
def parents():
    found = set()
    for pid in with_token():
        with contextlib.suppress(OSError):
            found.add(int(open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[1]))
    return found
def with_token():
    pids = [int(n) for n in os.listdir("/proc") if n.isdecimal() and int(n) != os.getpid()]
    for pid in pids:
        with contextlib.suppress(OSError):
            if token.encode() in open(f"/proc/{pid}/cmdline", "rb").read():
                yield pid
with cluster(2) as client:
    results = spaces.run(client, [first, *(f"echo {n}" for n in range(30))])
    found = []
    for result in results:
        found.append(result)
        if len(found) == 30:  # all but the first
            # It may have been begun last, and be on its way yet: before it has left its mark, it
            # would be the next one that sleeps.
            while not os.path.isdir(marker):
                time.sleep(0.05)
            # Asked anew each time: a nanny may have replaced a worker that was too slow to begin.
            while not (those := parents() & set(client.run(os.getpid).values())):
                time.sleep(0.05)
            (worker,) = those
            os.kill(worker, signal.SIGKILL)
    assert [r.index for r in found][-1] == 0, found
    assert found[-1].stdout == b"again\\n", found[-1]
    assert sorted(r.index for r in found) == list(range(31))
    assert all(r.ok for r in found), found
print("done")
"""


@pytest.mark.stress
def test_a_worker_that_dies_takes_its_command_along_and_another_runs_it(
    tmp_path: Path, wait_until: Any
) -> None:
    token = f"dying {time.monotonic_ns()}"
    assert run_program(DEATH, tmp_path / "marker", token)[-1] == "done"
    wait_until(lambda: not processes_with(token), "the first command has ended with its worker")


def test_what_cannot_be_meant_is_refused_in_the_client() -> None:
    import pyspaces.dask as spaces

    client: Any = type("Client", (), {"asynchronous": False})()  # of which nothing is asked
    plan = settings.plan_from({"command": ["true"]})
    with pytest.raises(UsageFault, match="share: requires all=True"):
        spaces.run(client, [], share="net")
    with pytest.raises(UsageFault, match="place: 'mnt' is not an absolute path"):
        spaces.run(client, [], place="mnt")
    with pytest.raises(UsageFault, match="place: cannot be combined with plan"):
        spaces.run(client, [], place="/mnt", plan=plan)
    with pytest.raises(UsageFault, match="plan: cannot be combined with net"):
        spaces.run(client, [], net=True, plan=plan)
    with pytest.raises(TypeError, match="not asynchronous"):
        spaces.run(type("Client", (), {"asynchronous": True})(), [])
    with pytest.raises(UsageFault, match="hold: "):
        spaces.Spaces(hold=True)  # type: ignore[call-arg]
    for name in ("/etc/passwd", "a/../../b", "", 3):
        with pytest.raises(UsageFault, match="takes names beneath"):
            job.checked_name(name)


def test_files_are_read_beneath_the_directory_only(tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "a").write_bytes(b"1")
    (tmp_path / "secret").write_bytes(b"2")
    (tmp_path / "own" / "link").symlink_to("../secret")
    (tmp_path / "own" / "up").symlink_to("..")
    os.mkfifo(tmp_path / "own" / "fifo")
    names = ["a", "link", "up/secret", "fifo", "b/c"]
    files, missing = job.collected(str(tmp_path / "own"), names)
    assert files == {"a": b"1"}
    assert sorted(missing) == sorted(names[1:])


def test_a_run_that_is_over_starts_nothing() -> None:
    task = Task(run=f"over {time.monotonic_ns()}", settings={"user": True, "pid": True})
    assert job.refusal(task) is None
    launch.use_server(False)  # else it would prefer one
    assert job.perform(task, 0, Job(words=("echo", "a")), "here").stdout == b"a\n"
    job.end(task.run)
    assert job.perform(task, 1, Job(words=("echo", "a")), "here").error == "the run is over"
