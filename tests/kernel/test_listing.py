"""The namespaces of the host, held against lsns(8), which reads them in the same moment."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from conftest import SCRIPT, outcome

from pyspaces.errors import SpaceError
from pyspaces.host import listing
from pyspaces.kernel import namespaces, netproc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

AS_LSNS = [SCRIPT, "as", "lsns"]
LSNS = ["lsns", "--json", "--list", "-o", "NS,TYPE,NPROCS,PID,PPID,UID,USER,COMMAND"]
LINKS = {row.link: row.name for row in namespaces.NAMESPACES}


@contextmanager
def sandbox(*words: str) -> Iterator[int]:
    """Run unshare(1) around a command that waits; give its pid once it is inside."""
    with subprocess.Popen(
        ["unshare", *words, "sh", "-c", "echo; read line"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout
        process.stdout.readline()
        try:
            yield process.pid
        finally:
            process.kill()


def inodes(pid: int) -> dict[str, int]:
    directory = Path(f"/proc/{pid}/ns")
    return {
        LINKS[link]: os.stat(directory / link).st_ino
        for link in LINKS
        if (directory / link).exists()
    }


def by_inode(found: listing.Listing) -> dict[int, listing.Row]:
    return {row.ns: row for row in found.rows}


def comparable(rows: list[dict[str, Any]]) -> dict[int, dict[str, Any]]:
    """Leave out what the two do not have in common: themselves, and types by another name."""
    found = {}
    for row in rows:
        command = row.pop("command") or ""
        row["command"] = None if "lsns" in command or "pyspaces" in command else command
        row["type"] = LINKS.get(row["type"], row["type"])
        found[int(row["ns"])] = {key: row[key] for key in sorted(row)} | {"ns": int(row["ns"])}
    return found


@pytest.mark.needs("userns", "pidns", "proc", "netns", "lsns")
def test_the_same_rows_as_lsns() -> None:
    """In a pid namespace of their own nothing comes or goes while the two look."""
    script = f"""
        for flags in -n -m '-u -i' -U -C; do
            unshare $flags sleep 1000 & unshare $flags sleep 1000 &
        done
        # Not by their names, which they have before the kernel has their words in /proc. And not
        # by grep, for which a word of `unshare $flags sleep` begins a line: it takes NUL for one.
        ready() {{ sed -sn '1{{/^sleep/F}}' /proc/[0-9]*/cmdline 2>/dev/null | wc -l; }}
        until [ "$(ready)" = 10 ]; do :; done
        {" ".join(LSNS)}
        {SCRIPT} list --json -o ns,type,nprocs,pid,ppid,uid,user,command
    """
    done = outcome(
        ["unshare", "-Urpfm", "--mount-proc", "--kill-child", "sh", "-c", script], check=True
    )
    decoder = json.JSONDecoder()
    theirs, end = decoder.raw_decode(done.stdout)
    ours = json.loads(done.stdout[end:])
    assert (ours["unreadable"], ours["hidden"]) == (0, False)
    rows = comparable([row for row in ours["namespaces"] if row["nprocs"]])
    assert rows == comparable(theirs["namespaces"])
    assert len([row for row in rows.values() if row["command"] == "sleep 1000"]) == 12


@pytest.mark.needs("userns", "pidns", "netns", "lsns")
def test_the_same_words_print_the_same_as_lsns() -> None:
    with sandbox("-Urn") as pid:
        inode = os.stat(f"/proc/{pid}/ns/net").st_ino
        lines = (
            f"-n -r -t net -p {pid} -o NS,TYPE,NPROCS,PID,PPID,UID",
            f"--noheadings --list -t user --task={pid} -o NS,PNS,ONS",
            f"-rntnet -p{pid} -oCOMMAND,NSFS",
        )
        for line in lines:
            theirs, ours = (outcome([*tool, *line.split()]) for tool in (["lsns"], AS_LSNS))
            assert (ours.stdout.split(), ours.stderr) == (theirs.stdout.split(), "")
            assert len(ours.stdout.splitlines()) == 1
        # A namespace by its number: it, and not what is in it.
        done = outcome([*AS_LSNS, "-n", "-o", "ns", str(inode)])
        assert (done.returncode, done.stdout, done.stderr) == (0, f"{inode}\n", "")


@pytest.mark.needs("lsns")
def test_every_namespace_of_this_host_that_lsns_sees_is_listed() -> None:
    """Of the whole host: what is there before and after must be there in between."""

    def seen() -> set[tuple[int, str]]:
        # It fails where a process that it has listed has gone when it looks at it. The command line
        # of whatever else this host runs is any bytes.
        while (done := outcome(LSNS, errors="replace")).returncode:
            continue
        rows = json.loads(done.stdout)["namespaces"]
        return {(int(row["ns"]), LINKS[row["type"]]) for row in rows}

    for _ in range(50):
        before = seen()
        between = {(row.ns, row.type) for row in listing.listing().rows}
        # The number of one that ends may be that of a new one at once.
        if before & seen() <= between:
            break
    else:
        pytest.fail("lsns sees what is not listed, each time")
    assert before


@pytest.mark.needs("userns", "pidns")
def test_the_namespaces_of_a_zombie_are_listed() -> None:
    """What is left of it: its user and its pid namespace."""
    with subprocess.Popen(["unshare", "-Urp", "true"]) as process:
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        inode = os.stat(f"/proc/{process.pid}/ns/user").st_ino
        row = by_inode(listing.listing())[inode]
        assert (row.type, row.nprocs, row.pid) == ("user", 1, process.pid)


@pytest.mark.needs("userns", "netns")
def test_a_row_says_who_is_inside_and_who_owns_it() -> None:
    with sandbox("-Urn") as pid:
        own = inodes(pid)
        rows = by_inode(listing.listing())
        outer = inodes(os.getpid())
        user, net = rows[own["user"]], rows[own["net"]]
        assert (net.type, net.nprocs, net.pid, net.ppid) == ("net", 1, pid, os.getpid())
        assert (net.uid, net.command) == (os.geteuid(), "sh -c echo; read line")
        assert net.user == subprocess.check_output(["id", "-un"], text=True).strip()
        assert (net.owner, net.parent) == (own["user"], None)
        assert (user.owner, user.parent) == (outer["user"], outer["user"])
        # As long as it is open here, its number is given to no other one.
        held = os.open(f"/proc/{pid}/ns/user", os.O_RDONLY)
    try:
        row = by_inode(listing.listing()).get(own["net"])
        assert row is None or row.owner != own["user"], "another one has got its number"
    finally:
        os.close(held)


@pytest.mark.needs("userns", "pidns")
def test_namespaces_above_have_rows_though_nobody_is_in_them() -> None:
    """Of two user namespaces in each other, the outer one is kept by the inner one alone."""
    with sandbox("-Ur", "unshare", "-Urpf", "--kill-child") as pid:
        rows = by_inode(listing.listing())
        outer_user = rows[inodes(pid)["user"]].owner
        assert outer_user is not None
        above = rows[outer_user]
        assert (above.type, above.nprocs, above.pid, above.command) == ("user", 0, None, None)
        assert above.owner == inodes(os.getpid())["user"]
        child = next(row for row in rows.values() if row.parent == inodes(os.getpid())["pid"])
        assert child.type == "pid"


@pytest.mark.needs("userns", "netns")
def test_types_and_pid_choose() -> None:
    with sandbox("-Urn") as pid:
        found = listing.listing(pid=pid)
        assert {row.type: row.ns for row in found.rows} == inodes(pid)
        found = listing.listing(pid=pid, types=["net", "uts"])
        assert {row.type for row in found.rows} == {"net", "uts"}


def test_a_process_that_is_not_there() -> None:
    number = int(Path("/proc/sys/kernel/pid_max").read_text())  # that of none, ever
    with pytest.raises(SpaceError, match=f"process {number}: no such process"):
        listing.listing(pid=number)


def test_rows_are_plain_data() -> None:
    found = listing.listing(pid=os.getpid())
    data = json.loads(json.dumps(found.to_data()))
    assert listing.Listing.from_data(data) == found


@pytest.mark.as_ordinary
def test_processes_of_others_are_counted_and_do_no_harm() -> None:
    found = listing.listing()
    # Process 1 is root's, and there as long as this test runs.
    assert os.stat("/proc/1").st_uid != os.geteuid()
    assert found.unreadable > 0
    assert all(row.uid is None or row.uid == os.geteuid() for row in found.rows)


@pytest.mark.as_root
def test_what_is_bound_to_a_file_has_a_row_without_processes(tmp_path: Path) -> None:
    file = tmp_path / "kept net"
    file.touch()
    subprocess.run(["unshare", f"--net={file}", "true"], check=True)
    try:
        inode = os.stat(file).st_ino
        row = by_inode(listing.listing())[inode]
        assert (row.type, row.nprocs, row.files) == ("net", 0, (str(file),))
        assert row.owner == inodes(os.getpid())["user"]
    finally:
        subprocess.run(["umount", str(file)], check=True)


@pytest.mark.as_root
@pytest.mark.needs("ip", "netns")
def test_network_ids_are_those_of_ip() -> None:
    """Two namespaces joined by a veth pair know each other by ids: ip-netns(8)."""
    script = f"""
        unshare -n sleep 1000 & pid=$!
        until [ "$(cat /proc/$pid/comm)" = sleep ]; do :; done
        ip link add here type veth peer name there netns $pid || exit 77
        ip netns list-id
        {SCRIPT} list --type net --pid $pid --json
    """
    done = outcome(["unshare", "-npfm", "--mount-proc", "--kill-child", "sh", "-c", script])
    if done.returncode == 77:
        pytest.skip("this kernel has no veth")
    first, _, rest = done.stdout.partition("\n")
    assert first.split()[:2] == ["nsid", "0"]
    assert [row["netnsid"] for row in json.loads(rest)["namespaces"]] == [0]


@pytest.mark.as_root
def test_a_proc_that_hides_processes_is_noticed() -> None:
    script = f"""
        mount -t proc -o hidepid=invisible proc /proc
        exec {sys.executable} -c '
import os
from pyspaces.host import listing
from pyspaces.kernel import libc
os.setgroups([]); os.setuid(65534)  # only now: nobody could not read an interpreter of root
libc.set_dumpable(dumpable=True)  # exec would do it: /proc/self is its own again
print(listing._hides_processes(), [row.nprocs for row in listing.listing(types=["net"]).rows])'
    """
    done = outcome(["unshare", "-mpf", "sh", "-c", script], check=True)
    assert done.stdout == "True [1]\n"


@pytest.mark.as_root
@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("noaccess", "not listed: 1 process that could not be read"),
        ("ptraceable", "not listed: processes of other users, which /proc hides here (hidepid)"),
    ],
)
def test_the_command_works_under_a_proc_that_hides_processes(option: str, said: str) -> None:
    """Pid 1 is root's, and the command somebody else's, who sees only itself."""
    code = """
import difflib, locale, os, sys  # all of it now: nobody cannot read below /root
from pyspaces import cli
from pyspaces.kernel import libc
import pyspaces.commands.list
if os.fork():
    sys.exit(os.waitstatus_to_exitcode(os.wait()[1]))
os.setgroups([]); os.setgid(65534)  # nothing is hidden from group 0: proc(5), gid=
os.setuid(65534)  # only now: nobody could not read an interpreter of root
libc.set_dumpable(dumpable=True)
kept = os.open("/proc/self/ns/uts", os.O_RDONLY)
libc.unshare(0x10000000); libc.unshare(0x04000000)
sys.exit(cli.main(["list", "-n", "-t", "uts", "-o", "nprocs,held"]))
"""
    script = f"mount -t proc -o hidepid={option} proc /proc; exec {sys.executable} -c '{code}'"
    done = outcome(["unshare", "-umpf", "sh", "-c", script])
    assert (done.returncode, done.stderr) == (0, f"pyspaces: {said}\n")
    inside, before = (line.split() for line in sorted(done.stdout.splitlines(), reverse=True))
    assert inside == ["1", "-"]
    assert before[0] == "0"
    assert re.fullmatch(r"/proc/[0-9]+/fd/[0-9]+", before[1])


@pytest.mark.needs("userns", "netns")
@pytest.mark.parametrize("times", [5, pytest.param(100, marks=pytest.mark.stress)])
def test_processes_that_come_and_go_meanwhile_do_no_harm(times: int) -> None:
    script = "while :; do unshare -Urn sh -c 'exec 7</proc/self/ns/net; true'; done"
    storms = [subprocess.Popen(["sh", "-c", script], start_new_session=True) for _ in range(2)]
    try:
        for _ in range(times):
            assert by_inode(listing.listing())[inodes(os.getpid())["user"]].nprocs > 0
    finally:
        for storm in storms:
            os.killpg(storm.pid, 9)
            storm.wait()


@pytest.mark.stress
@pytest.mark.needs("userns")
def test_many_processes_take_no_longer_than_lsns_would() -> None:
    """5,000 processes took 0.3 s, and lsns(8) 1.7 s; here 500, with a limit that both meet."""
    script = "for i in $(seq 500); do sleep 1000 & done; echo; wait"
    storm = subprocess.Popen(["sh", "-c", script], stdout=subprocess.PIPE, start_new_session=True)
    try:
        assert storm.stdout
        storm.stdout.readline()
        begin = time.process_time()
        rows = by_inode(listing.listing())
        # Other users' processes are among them, and the processor is shared with their threads.
        assert time.process_time() - begin < 5
        assert rows[inodes(os.getpid())["user"]].nprocs > 500
    finally:
        os.killpg(storm.pid, 9)
        storm.communicate()


@pytest.mark.needs("userns", "netns")
def test_addresses_are_those_of_one_namespace() -> None:
    """Not of the one that a process is in by now, nor of the next process with its number."""
    with sandbox("--user", "--map-root-user", "--net") as pid:
        inode = os.stat(f"/proc/{pid}/ns/net").st_ino
        assert netproc.addresses(pid, inode) == ()
        assert netproc.addresses(os.getpid(), inode) is None
    assert netproc.addresses(pid, inode) is None
