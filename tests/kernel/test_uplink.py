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
from conftest import SCRIPT, outcome

from pyspaces.features.network.uplink import ENGINES

pytestmark = pytest.mark.needs("userns", "netns", "tun", *ENGINES, "ip", "unshare", "nsenter")
Run = Callable[..., subprocess.CompletedProcess[str]]
HERE = Path(__file__).parents[1]
CLIENT = [sys.executable, str(HERE / "network_client.py")]
TRIAL = [sys.executable, str(HERE / "uplink_trial.py")]
SEEK = ["--", sys.executable, str(HERE / "loopback_seeker.py"), "80"]
STUB, SERVER = "127.0.0.53", "11.0.0.1"
Told = list[tuple[int, list[str], str]]
Led = tuple[str, dict[str, tuple[int, list[str], str]]]
engines = pytest.mark.parametrize("engine", ENGINES)


def in_world(
    directory: Path,
    lines: list[list[str]],
    own: tuple[str, ...] = ("--user",),
    server: str = STUB,
) -> Told:
    """Run command lines in a world of their own; return status, lines and errors of each."""
    hosts, resolv = directory / "hosts", directory / "resolv.conf"
    hosts.write_text("127.0.0.1 localhost\n11.0.0.5 old.test\n")
    resolv.write_text(f"nameserver {server}\noptions timeout:5 attempts:5\n")
    binds = ["--bind", str(resolv), "/etc/resolv.conf", "--bind", str(hosts), "/etc/hosts"]
    # Without a pid namespace, so that the nested launches see a /proc of theirs.
    done = outcome(
        [SCRIPT, "run", *own, "--net", "--mount", *binds, "--",
         sys.executable, str(HERE / "world.py"), json.dumps(lines)],
        stdin=subprocess.DEVNULL, timeout=230,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    # What a launch does to its names never reaches the files of the host.
    assert resolv.read_text().startswith(f"nameserver {server}\n")
    assert hosts.read_text() == "127.0.0.1 localhost\n11.0.0.5 old.test\n"
    return [(code, text.splitlines(), errors) for code, text, errors in json.loads(done.stdout)]


@pytest.fixture
def world(tmp_path: Path) -> Callable[..., Told]:
    return lambda *lines, **more: in_world(tmp_path, [*lines], **more)


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
GET = ["--", *CLIENT, "get", "http://11.0.0.1/", "http://www.good.test/", "http://no.test/"]
GATEWAYS = {"pasta": SERVER, "slirp4netns": "10.0.2.2"}
VICTIMS = ("launcher", "command", "program", "beside")
# Those who lead out, and could be looked into.
NAMES = {"pasta": "pasta,passt,pyspaces-uplink", "slirp4netns": "slirp4netns,pyspaces-uplink"}


def lines_of(engine: str) -> dict[str, list[str]]:
    """Return what runs in one world, one after the other."""
    places = ["127.0.0.1", "[::1]", GATEWAYS[engine]]
    get = ["--", *CLIENT, "get", *(f"http://{place}/" for place in places)]
    return {
        "reached": leading(engine, *GET),
        "reached by a user": [*ORDINARY, *leading(engine, *GET)],
        "closed": leading(engine, *get),
        "opened": leading(engine, "--allow-host-loopback", *get),
        "sought": leading(engine, *SEEK),
        "sought in vain": leading(engine, "--cap-drop", "net_admin,net_raw", *SEEK),
        "echo": trial("publish", "echo", launch=leading(engine, "-P", "0:80")),
        "udp": trial("publish", "udp", launch=leading(engine, "-P", "0:80/udp")),
        "taken": leading(engine, "-P", "0.0.0.0:80:80", "--", "echo", "ran"),
        **{who: trial("kill", who, launch=leading(engine, "-P", "0:80")) for who in VICTIMS},
        "many": trial("many", "2", launch=leading(engine, "-P", "0:80")),
        "last": trial("last", "100000", "2", launch=leading(engine)),
        "inside": leading(engine, "--", sys.executable, "-c", LOOK, NAMES[engine]),
    }


@pytest.fixture(scope="module", params=ENGINES)
def led(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Led:
    """One of the programs, and what became of each line in a world with it."""
    lines = lines_of(request.param)
    found = in_world(tmp_path_factory.mktemp("world"), list(lines.values()))
    return request.param, dict(zip(lines, found, strict=True))


def assert_reached(one: tuple[int, list[str], str]) -> None:
    code, found, errors = one
    assert (code, errors) == (0, "")
    assert found[:2] == ["200 11.0.0.1", "200 11.0.0.5"]
    assert found[2].startswith("failed ")


def test_the_internet_is_reached_by_address_and_by_name(led: Led) -> None:
    assert_reached(led[1]["reached"])
    assert_reached(led[1]["reached by a user"])


@pytest.mark.as_root
def test_root_reaches_it_and_what_leads_out_has_nothing_of_the_command(
    world: Callable[..., Told],
) -> None:
    lines = [
        line
        for engine in ENGINES
        for line in (
            leading(engine, *GET, own=()),
            [*ORDINARY, *leading(engine, *GET)],
            trial("look", launch=leading(engine)),
        )
    ]
    found = world(*lines, own=())
    for one in (*found[0::3], *found[1::3]):
        assert_reached(one)
    for one in found[2::3]:
        for places, variables in told(one):
            kinds = {place.partition(":")[0] for place in places}
            assert kinds <= {"/", "socket", "pipe", "anon_inode", "net", "user", "/dev/net/tun"}
            assert not variables or "PYSPACES_SECRET" not in variables


def test_a_name_server_that_is_reached_from_inside_is_left(world: Callable[..., Told]) -> None:
    show = ["--", "sh", "-c", f"cat /etc/resolv.conf; {' '.join(CLIENT)} get http://good.test/"]
    for code, found, errors in world(
        *(leading(engine, *show) for engine in ENGINES), server=SERVER
    ):
        assert (code, errors) == (0, "")
        assert found == ["nameserver 11.0.0.1", "options timeout:5 attempts:5", "200 11.0.0.1"]


def test_the_loopback_of_the_host_is_closed_and_can_be_opened(led: Led) -> None:
    engine, closed, opened = led[0], led[1]["closed"], led[1]["opened"]
    assert all(line.startswith("failed ") for line in closed[1][:2])
    # That address is a server of the internet for pasta, and the host is not behind it.
    assert closed[1][2] == "200 11.0.0.1" if engine == "pasta" else "failed " in closed[1][2]
    assert all(line.startswith("failed ") for line in opened[1][:2])
    assert opened[1][2] == "200 127.0.0.1"


def test_without_rights_over_its_network_no_command_opens_the_loopback_of_the_host(
    led: Led,
) -> None:
    """With them, it depends on the program: Debian 12's pasta and slirp4netns pass that on."""
    tried = dict(line.split() for line in led[1]["sought"][1])
    assert set(tried) == {"by_packets", "by_routes"}
    assert tried["by_packets"] != "PermissionError"
    assert led[1]["sought in vain"] == (
        0, ["by_packets PermissionError", "by_routes ConnectionRefusedError"], ""
    )  # fmt: skip


def test_a_port_is_published_by_the_program(led: Led) -> None:
    engine, found = led
    assert told(found["echo"]) == ["hello", engine]
    assert told(found["udp"]) == ["olleh", engine]


def test_a_port_that_is_taken_is_an_error_before_the_command_runs(led: Led) -> None:
    one = led[1]["taken"]
    assert one[:2] == (125, [])
    assert "cannot open the ports: bind 0.0.0.0:80: Address already in use" in one[2]


def test_nothing_outlives_a_part_that_is_killed(led: Led) -> None:
    engine, found = led
    for who in VICTIMS:
        code, errors, there, left = told(found[who])
        assert there == ["beside", "command", "launcher", "program"]
        assert left == []
        if who in ("program", "beside"):
            assert code == 125
            assert errors.count(f"pyspaces: {engine} died: the command was killed") == 1
        else:
            assert code == (-9 if who == "launcher" else 137)
            assert errors == ""


def test_launches_leave_nothing_behind(led: Led) -> None:
    assert_nothing_is_left(led[1]["many"])


@pytest.mark.stress
@engines
def test_a_hundred_launches_leave_nothing_behind(world: Callable[..., Told], engine: str) -> None:
    (one,) = world(trial("many", "100", launch=leading(engine, "-P", "0:80")))
    assert_nothing_is_left(one)


def assert_nothing_is_left(one: tuple[int, list[str], str]) -> None:
    statuses, devices, sockets, left = told(one)
    assert (statuses, sockets, left) == ([0], [], [])
    assert devices == ["lo", "wan0"]


def test_what_a_command_sends_last_arrives(led: Led) -> None:
    assert told(led[1]["last"]) == [100000] * 2


@pytest.mark.stress
@engines
def test_what_thirty_commands_send_last_arrives(world: Callable[..., Told], engine: str) -> None:
    (one,) = world(trial("last", "100000", "30", launch=leading(engine)))
    assert told(one) == [100000] * 30


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


def test_root_inside_cannot_look_into_what_leads_out(led: Led) -> None:
    """Without a pid namespace, it sees both processes, and has all capabilities in its own."""
    assert led[1]["inside"] == (0, ["True"], "")


def hidden(*paths: str) -> list[str]:
    """Return a launch in which these files are not there."""
    words = [word for path in paths for word in ("--mask", path)]
    return [SCRIPT, "run", "--user", "--net", "--mount", *words, "--"]


def test_a_host_without_the_programs_is_told_what_to_install() -> None:
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


def test_a_host_without_a_tun_device_is_an_error() -> None:
    for engine in ENGINES:
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
            ["--ro-bind", "/", "/", "--tmpfs", "/run"],
        )
    ]
    *named, unnamed = world(
        *lines, leading("user", "--dns", "none", "--", "cat", "/etc/resolv.conf")
    )
    assert unnamed[1][0] == f"nameserver {STUB}"
    for code, found, errors in named:
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
