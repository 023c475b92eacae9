"""The way out, in a world in a box: no packet leaves this machine."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import IS_ROOT, SCRIPT, outcome

from pyspaces.features.network.uplink import ENGINES

pytestmark = pytest.mark.needs("userns", "netns", "tun", *ENGINES, "ip", "unshare", "nsenter")
Run = Callable[..., subprocess.CompletedProcess[str]]
HERE = Path(__file__).parents[1]
CLIENT = [sys.executable, str(HERE / "network_client.py")]
TRIAL = [sys.executable, str(HERE / "uplink_trial.py")]
STUB, SERVER = "127.0.0.53", "11.0.0.1"
Told = list[tuple[int, list[str], str]]
engines = pytest.mark.parametrize("engine", ENGINES)


@pytest.fixture
def world(tmp_path: Path) -> Callable[..., Told]:
    """Run command lines in a world of their own; return status, lines and errors of each."""
    hosts = tmp_path / "hosts"
    hosts.write_text("127.0.0.1 localhost\n11.0.0.5 old.test\n")
    resolv = tmp_path / "resolv.conf"

    def run(*lines: list[str], own: tuple[str, ...] = ("--user",), server: str = STUB) -> Told:
        resolv.write_text(f"nameserver {server}\noptions timeout:5 attempts:5\n")
        binds = ["--bind", str(resolv), "/etc/resolv.conf", "--bind", str(hosts), "/etc/hosts"]
        # Without a pid namespace, so that the nested launches see a /proc of theirs.
        done = outcome(
            [SCRIPT, "run", *own, "--net", "--mount", *binds, "--",
             sys.executable, str(HERE / "world.py"), json.dumps(lines)],
            stdin=subprocess.DEVNULL, timeout=600,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        # What a launch does to its names never reaches the files of the host.
        assert resolv.read_text().startswith(f"nameserver {server}\n")
        assert hosts.read_text() == "127.0.0.1 localhost\n11.0.0.5 old.test\n"
        return [(code, text.splitlines(), errors) for code, text, errors in json.loads(done.stdout)]

    return run


def leading(engine: str, *words: str, own: tuple[str, ...] = ("--user",)) -> list[str]:
    """Return the command line of a launch with a way out."""
    return [SCRIPT, "run", *own, f"--net={engine}", *words]


def trial(verb: str, *arguments: str, launch: list[str]) -> list[str]:
    return [*TRIAL, verb, *arguments, "--", *launch]


def told(one: tuple[int, list[str], str]) -> Any:
    code, lines, errors = one
    assert code == 0, errors
    return json.loads(lines[0])


# A launcher that is no user 0 in this world, and has no capability.
ORDINARY = [SCRIPT, "run", "--user", "--map-uid", "1000,0,1", "--map-gid", "1000,0,1", "--"]
OWN = {"a user namespace": ["--user"], **({"root": []} if IS_ROOT else {})}


@engines
@pytest.mark.parametrize("own", OWN.values(), ids=list(OWN))
def test_the_internet_is_reached_by_address_and_by_name(
    world: Callable[..., Told], engine: str, own: list[str]
) -> None:
    get = ["--", *CLIENT, "get", "http://11.0.0.1/", "http://www.good.test/", "http://no.test/"]
    lines = [leading(engine, *get, own=tuple(own)), [*ORDINARY, *leading(engine, *get)]]
    for code, found, errors in world(*lines, own=tuple(own)):
        assert (code, errors) == (0, "")
        assert found[:2] == ["200 11.0.0.1", "200 11.0.0.5"]
        assert found[2].startswith("failed ")


@engines
def test_a_name_server_that_is_reached_from_inside_is_left(
    world: Callable[..., Told], engine: str
) -> None:
    show = ["--", "sh", "-c", f"cat /etc/resolv.conf; {' '.join(CLIENT)} get http://good.test/"]
    ((code, found, errors),) = world(leading(engine, *show), server=SERVER)
    assert (code, errors) == (0, "")
    assert found == ["nameserver 11.0.0.1", "options timeout:5 attempts:5", "200 11.0.0.1"]


@engines
def test_the_loopback_of_the_host_is_closed_and_can_be_opened(
    world: Callable[..., Told], engine: str
) -> None:
    gateway = {"pasta": SERVER, "slirp4netns": "10.0.2.2"}[engine]
    places = ["127.0.0.1", "[::1]", gateway]
    get = ["--", *CLIENT, "get", *(f"http://{place}/" for place in places)]
    closed, opened = world(leading(engine, *get), leading(engine, "--allow-host-loopback", *get))
    assert all(line.startswith("failed ") for line in closed[1][:2])
    # That address is a server of the internet for pasta, and the host is not behind it.
    assert closed[1][2] == "200 11.0.0.1" if engine == "pasta" else "failed " in closed[1][2]
    assert all(line.startswith("failed ") for line in opened[1][:2])
    assert opened[1][2] == "200 127.0.0.1"


@engines
@pytest.mark.parametrize("verb", ["echo", "udp"])
def test_a_port_is_published_by_the_program(
    world: Callable[..., Told], engine: str, verb: str
) -> None:
    port = "0:80/udp" if verb == "udp" else "0:80"
    (one,) = world(trial("publish", verb, launch=leading(engine, "-P", port)))
    assert told(one) == ["olleh" if verb == "udp" else "hello", engine]


@engines
def test_a_port_that_is_taken_is_an_error_before_the_command_runs(
    world: Callable[..., Told], engine: str
) -> None:
    (one,) = world(leading(engine, "-P", "0.0.0.0:80:80", "--", "echo", "ran"))
    assert one[:2] == (125, [])
    assert "cannot open the ports: bind 0.0.0.0:80: Address already in use" in one[2]


@engines
@pytest.mark.parametrize("who", ["launcher", "command", "program", "beside"])
def test_nothing_outlives_a_part_that_is_killed(
    world: Callable[..., Told], engine: str, who: str
) -> None:
    (one,) = world(trial("kill", who, launch=leading(engine)))
    code, errors, there, left = told(one)
    assert there == ["beside", "command", "launcher", "program"]
    assert left == []
    if who in ("program", "beside"):
        assert code == 125
        assert f"pyspaces: {engine} died: the command was killed" in errors
    else:
        assert code == (-9 if who == "launcher" else 137)
        assert errors == ""


@engines
@pytest.mark.parametrize("count", [3, pytest.param(100, marks=pytest.mark.stress)])
def test_launches_leave_nothing_behind(world: Callable[..., Told], engine: str, count: int) -> None:
    (one,) = world(trial("many", str(count), launch=leading(engine, "-P", "0:80")))
    statuses, devices, sockets, left = told(one)
    assert (statuses, sockets, left) == ([0], [], [])
    assert devices == ["lo", "wan0"]


@engines
@pytest.mark.parametrize("count", [2, pytest.param(50, marks=pytest.mark.stress)])
def test_what_a_command_sends_last_arrives(
    world: Callable[..., Told], engine: str, count: int
) -> None:
    (one,) = world(trial("last", "100000", str(count), launch=leading(engine)))
    assert told(one) == [100000] * count


LOOK = """
import os, sys
names = ("mem", "environ", "fd", "cwd", "root", "maps", "ns/net")
looked = []
for pid in filter(str.isdigit, os.listdir("/proc")):
    try:
        name = open(f"/proc/{pid}/comm", errors="replace").read().strip()
    except OSError:
        continue
    if not any(name.startswith(word) for word in sys.argv[1].split(",")):
        continue
    looked.append(name)
    for what in names:
        path = f"/proc/{pid}/{what}"
        try:
            # Nothing: of a zombie, which may be another test's.
            if what == "fd":
                if not [os.readlink(f"{path}/{number}") for number in os.listdir(path)]:
                    continue
            elif what in ("cwd", "root"):
                os.stat(path + "/")
            elif not open(path, "rb").read(10):
                continue
        except OSError:
            continue
        print("seen", name, what)
print(len(looked) >= 2)
"""


@engines
def test_root_inside_cannot_look_into_what_leads_out(
    world: Callable[..., Told], engine: str
) -> None:
    """Without a pid namespace, it sees both processes, and has all capabilities in its own."""
    names = {"pasta": "pasta,passt,pyspaces-uplink", "slirp4netns": "slirp4netns,pyspaces-uplink"}
    (one,) = world(leading(engine, "--", sys.executable, "-c", LOOK, names[engine]))
    assert one == (0, ["True"], "")


@pytest.mark.as_root
@engines
def test_what_leads_out_has_nothing_of_the_command(world: Callable[..., Told], engine: str) -> None:
    (one,) = world(trial("look", launch=leading(engine)), own=())
    for places, variables in told(one):
        kinds = {place.partition(":")[0] for place in places}
        assert kinds <= {"/", "socket", "pipe", "anon_inode", "net", "user", "/dev/net/tun"}
        assert not variables or "PYSPACES_SECRET" not in variables


def hidden(*paths: str) -> list[str]:
    """Return a launch in which these files are not there."""
    words = [word for path in paths for word in ("--mask", path)]
    return [SCRIPT, "run", "--user", "--net", "--mount", *words, "--"]


def test_a_host_without_the_programs_is_told_what_to_install(pyspaces: Run) -> None:
    paths = [shutil.which(engine) or "" for engine in ENGINES]
    cases = {
        "user": "neither pasta nor slirp4netns is installed\nhint: install one: Debian's package is"
        " passt or slirp4netns\n",
        "pasta": "pasta is not installed\nhint: install one: Debian's package is passt\n",
    }
    for mode, message in cases.items():
        done = outcome([*hidden(*map(os.path.realpath, paths)), *leading(mode, "--", "true")])
        assert (done.returncode, done.stderr) == (
            125, f"pyspaces: cannot connect the network: {message}"
        )  # fmt: skip


@engines
def test_a_host_without_a_tun_device_is_an_error(pyspaces: Run, engine: str) -> None:
    done = outcome([*hidden("/dev/net"), *leading(engine, "--", "echo", "ran")])
    assert (done.returncode, done.stdout) == (125, "")
    assert done.stderr == (
        "pyspaces: cannot connect the network: /dev/net/tun: No such file or directory\n"
        "hint: as root: modprobe tun\n"
    )


def test_the_words_of_a_program_that_fails_are_shown(pyspaces: Run) -> None:
    """pasta takes the addresses of the interface with the default route, and there is none."""
    done = outcome([SCRIPT, "run", "--user", "--net", "--", *leading("pasta", "--", "echo", "ran")])
    assert (done.returncode, done.stdout) == (125, "")
    assert done.stderr.startswith(
        "pyspaces: cannot connect the network with that of the host: pasta: "
    )
    assert "routable interface" in done.stderr


def test_names(world: Callable[..., Told]) -> None:
    """Those of the user count before those of the file."""
    client = " ".join(CLIENT)
    script = f"cat /etc/resolv.conf /etc/hosts; {client} get http://new.test/ http://old.test/"
    more = ["--add-host", "new.test=11.0.0.5", "--add-host", "old.test=11.0.0.1"]
    lines = [
        leading("user", "--dns", SERVER, *more, *around, "--", "sh", "-c", script)
        for around in (
            [],
            ["--read-only"],
            ["--ro-bind", "/", "/"],
            ["--ro-bind", "/", "/", "--tmpfs", "/run"],
        )
    ]
    for code, found, errors in world(*lines):
        assert (code, errors) == (0, "")
        assert found == [
            "nameserver 11.0.0.1",
            "options timeout:5 attempts:5",
            "11.0.0.5\tnew.test",
            "11.0.0.1\told.test",
            "127.0.0.1 localhost",
            "11.0.0.5 old.test",
            "200 11.0.0.5",
            "200 11.0.0.1",
        ]


def test_no_names(world: Callable[..., Told]) -> None:
    (one,) = world(leading("user", "--dns", "none", "--", "cat", "/etc/resolv.conf"))
    assert one[1][0] == f"nameserver {STUB}"


def test_names_without_a_network_of_its_own(pyspaces: Run) -> None:
    words = ("--dns", "192.0.2.7", "--dns", "192.0.2.8", "--add-host", "box.test=[2001:db8::1]")
    show = ("--", "sh", "-c", "grep nameserver /etc/resolv.conf; head -n 1 /etc/hosts")
    done = pyspaces("run", "--user", *words, *show)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "nameserver 192.0.2.7", "nameserver 192.0.2.8", "2001:db8::1\tbox.test",
    ]  # fmt: skip


def test_a_link_that_leads_nowhere_is_covered_itself(pyspaces: Run, tmp_path: Path) -> None:
    etc = tmp_path / "etc"
    etc.mkdir()
    (etc / "resolv.conf").symlink_to("../run/systemd/resolve/stub-resolv.conf")
    (etc / "hosts").symlink_to("real")
    (etc / "real").write_text("::1 localhost")
    binds = [word for name in ("usr", "bin", "lib", "lib64") if os.path.exists(f"/{name}")
             for word in ("--ro-bind", f"/{name}", f"/{name}")]  # fmt: skip
    words = ("--empty-root", *binds, "--ro-bind", str(etc), "/etc")
    names = ("--dns", "192.0.2.7", "--add-host", "a=192.0.2.9")
    show = ("--", "sh", "-c", "cat /etc/resolv.conf /etc/hosts /etc/real")
    done = pyspaces("run", "--user", *words, *names, *show)
    assert (done.returncode, done.stderr) == (0, "")
    lines = ["192.0.2.9\ta", "::1 localhost"]
    assert done.stdout.splitlines() == ["nameserver 192.0.2.7", *lines, *lines]
    assert (etc / "real").read_text() == "::1 localhost"
    assert os.readlink(etc / "resolv.conf").startswith("../run")


def test_a_root_without_the_file_is_an_error(pyspaces: Run) -> None:
    words = ("--empty-root", "--ro-bind", "/usr", "/usr", "--dir", "/etc")
    done = pyspaces("run", "--user", *words, "--dns", "192.0.2.7", "--", "/usr/bin/true")
    assert done.returncode == 125
    assert "cannot name the hosts: /etc/resolv.conf: No such file or directory" in done.stderr
