"""Networks of several commands: who reaches whom, and what is left when one ends."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import networks
import pytest
from boxes import SERVER, box, on_host
from boxes import ask as ask_host
from conftest import IS_ROOT, SCRIPT, outcome
from networks import ask, members, network, own, run, server

from pyspaces import Container, launch
from pyspaces.settings import plan_from

pytestmark = pytest.mark.needs("userns", "netns", "bridge")
Wait = Callable[..., None]
KINDS: list[tuple[str, ...]] = [("--all", "--init", "--throwaway"), ("--sandbox",)]
KINDS += [("--user", "--map-current", "--cap-drop", "all"), *([()] if IS_ROOT else [])]
# Prints the own addresses on the network, and what each place has answered.
ASK_BOTH = """
import socket, sys
own, told = set(), set()
for place in sys.argv[1:]:
    for family, _, _, _, where in socket.getaddrinfo(place, 80, type=socket.SOCK_STREAM):
        with socket.socket(family) as one:
            one.settimeout(60)
            one.connect(where)
            own.add(one.getsockname()[0])
            one.sendall(b"hello")
            one.shutdown(socket.SHUT_WR)
            told.add(one.makefile().read())
print(sorted(own, reverse=True), *told)
"""
# Waits until a name is known, and prints its address.
AWAIT = """
import socket, sys, time
print("ready", flush=True)
limit = time.monotonic() + 60
while True:
    try:
        print(socket.gethostbyname(sys.argv[1]), flush=True)
        break
    except OSError:
        assert time.monotonic() < limit
        time.sleep(0.01)
"""
# Sends its process ID and much more to the first that connects, and ends at once.
SEND_AND_END = """
import os, socket
own = socket.create_server(("", 80))
own.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
print("ready", flush=True)
one, _ = own.accept()
one.sendall(b"%20d" % os.getpid() + bytes(300_000))
"""
# Counts what a place sends, but for a part not before that has ended, and its launcher had time.
COUNT_LATER = """
import os, socket, sys, time
with socket.socket() as one:
    one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 14)
    one.settimeout(10)
    one.connect((sys.argv[1], 80))
    process = f"/proc/{int(one.recv(20, socket.MSG_WAITALL))}"
    limit = time.monotonic() + 60
    while os.path.exists(process):
        assert time.monotonic() < limit
        time.sleep(0.01)
    time.sleep(0.3)
    count = 0
    while data := one.recv(1 << 18):
        count += len(data)
print(count)
"""


@pytest.fixture(scope="module")
def lab() -> Iterator[str]:
    """A network with a server called `web` at 10.77.0.2, for tests that only ask it."""
    with network() as name, server(name, "--hostname", "web"):
        yield name


@pytest.mark.parametrize("words", KINDS, ids=" ".join)
def test_two_commands_reach_each_other_by_name_and_by_address(
    lab: str, words: tuple[str, ...]
) -> None:
    assert ask(lab, "web", "10.77.0.2", words=words) == ["hello", "hello"]


@pytest.mark.needs("many")
def test_whoever_the_command_is(lab: str) -> None:
    """The directory of the files belongs to the launcher alone."""
    many = "0 100000 65536" if IS_ROOT else "auto"
    maps = ("--map-uid", many, "--map-gid", many)
    ids = ("--setuid", "1000", "--setgid", "1000")
    command = ("--", "/usr/bin/python3", "-c", networks.ASK, "web")
    assert run("run", *maps, *ids, f"--net={lab}", *command) == '["hello"]\n'


def test_three_that_begin_at_once_have_three_addresses() -> None:
    names = [f"box{number}" for number in range(3)]
    with network() as name, contextlib.ExitStack() as stack:
        launchers = []
        for one in names:
            words = [*own(name, "--hostname", one), "--", sys.executable, SERVER, "echo"]
            launcher = subprocess.Popen(
                [SCRIPT, "run", *words, "0.0.0.0", "80"], stdout=subprocess.PIPE, text=True
            )
            stack.enter_context(launcher)
            stack.callback(launcher.terminate)
            launchers.append(launcher)
        for launcher in launchers:
            assert launcher.stdout
            assert launcher.stdout.readline() == "ready 80\n"
        found = members(name)
        assert sorted(found) == [f"10.77.0.{last}" for last in range(2, 5)]
        assert sorted(found.values()) == names
        assert ask(name, *names, *found) == ["hello"] * 6


def test_nothing_else_is_reached(lab: str) -> None:
    with network() as other, on_host("echo", "0.0.0.0") as port:
        # The server of the other network has this address, and so has no one here.
        refused = ask(other, "web", "10.77.0.2", f"127.0.0.1:{port}", f"10.77.0.1:{port}")
        assert refused == ["unknown", "ECONNREFUSED", "ECONNREFUSED", "ECONNREFUSED"]
        assert ask(other, "10.78.0.2", "192.0.2.1") == ["ENETUNREACH"] * 2


def test_who_comes_later_is_known_to_those_before() -> None:
    with network() as name, box("--", sys.executable, "-c", AWAIT, "late", own=own(name)) as early:
        assert early.line() == "ready"
        with server(name, "--hostname", "late", "--ip", "10.77.0.99"):
            assert early.line() == "10.77.0.99"


def test_without_a_host_name_a_command_is_known_by_its_name() -> None:
    with network() as name:
        known = f"{name}-web"
        with server(name, "--name", known) as running:
            assert members(name) == {"10.77.0.2": known}
            assert ask(name, known) != ["unknown"]
            words = ["run", *own(name, "--hostname", known.upper()), "--", "true"]
            done = outcome([SCRIPT, *words])
            assert f"hostname: {known.upper()}: is in use on {name}" in done.stderr
            # One that is killed leaves its address to the kernel, which takes its time.
            running.end()
        with server(name, "--name", known, "--hostname", "other"):
            assert members(name) == {"10.77.0.2": "other"}
        assert run("run", *own(name, "--name", "localhost"), "--", "id", "-u") == "0\n"


def test_the_address_is_free_as_soon_as_the_command_has_ended() -> None:
    stay = "import os\nif os.fork(): os._exit(0)\nprint(os.getpid(), flush=True)\nos.close(1)\n"
    stay += "os.close(2)\nimport signal\nsignal.pause()"
    with network() as name:
        # A process that stays behind has no network any more.
        done = run("run", *own(name, "--hostname", "web"), "--", sys.executable, "-c", stay)
        try:
            assert members(name) == {}
            with server(name, "--hostname", "web") as running:
                assert (running.record["network"], running.record["addresses"]) == (
                    name,
                    ["10.77.0.2"],
                )
                assert members(name) == {"10.77.0.2": "web"}
                running.end()
        finally:
            os.kill(int(done), signal.SIGKILL)
        assert networks.files(name) == [f"lock:{name}", name]


def test_what_a_command_sends_before_it_ends_arrives() -> None:
    with (
        network() as name,
        box("--", sys.executable, "-c", SEND_AND_END, own=own(name)) as running,
    ):
        assert running.line() == "ready"
        words = own(name, "--", "/usr/bin/python3", "-c", COUNT_LATER, "10.77.0.2")
        assert run("run", *words) == "300000\n"


@pytest.mark.parametrize("kind", [("--user", "--pid", "--init")], ids=" ".join)
def test_a_launcher_that_is_killed_leaves_nothing(kind: tuple[str, ...], wait_until: Wait) -> None:
    with network() as name:
        words = (*kind, f"--net={name}", "--hostname", "web")
        with box("--", "sleep", "1000", own=words) as running:
            running.launcher.kill()
            running.launcher.wait()
            wait_until(lambda: not members(name), "the interface has gone with its namespace")
        with server(name) as running:
            assert running.record["addresses"] == ["10.77.0.2"]
            # What it left of files has been removed with this.
            assert ask(name, "web") == ["unknown"]
            assert len(networks.files(name)) == 3
            running.end()
        assert networks.files(name) == [f"lock:{name}", name]


def test_a_launch_that_fails_leaves_nothing() -> None:
    with network() as name:
        run("run", *own(name), "--", "/nowhere", check=False)
        run("run", *own(name, "--ip", "10.77.0.1"), "--", "true", check=False)
        assert members(name) == {}
        assert networks.files(name) == [f"lock:{name}", name]


def test_a_network_that_was_killed_is_not_there_any_more(wait_until: Wait) -> None:
    with network() as name, server(name, "--hostname", "web") as running:
        (row,) = [row for row in networks.listed() if row["name"] == name]
        os.kill(row["pid"], signal.SIGKILL)
        wait_until(lambda: name not in networks.names(), "it is not listed")
        run("network", "create", name)
        # The new one knows nothing of those on the old one, and they end as ever.
        assert members(name) == {}
        assert ask(name, "web") == ["unknown"]
        assert running.end() in (-signal.SIGTERM, 143)
        assert networks.files(name) == [f"lock:{name}", name]


def test_who_is_on_a_removed_network_has_none() -> None:
    with network() as name, server(name, "--hostname", "web") as running:
        run("network", "remove", "--force", name)
        assert networks.names().count(name) == 0
        assert networks.files(name) == []
        look = ("enter", str(running.record["pid"]), "--", "cat", "/proc/self/net/dev")
        assert "eth0" not in run(*look)


def test_a_hold_is_on_a_network_until_it_is_stopped(wait_until: Wait) -> None:
    with network() as name:
        held = f"{name}-held"
        run("run", *own(name, "--hostname", "held"), "--hold", "--name", held)
        try:
            assert members(name) == {"10.77.0.2": "held"}
            assert ask(name, "held") == ["ECONNREFUSED"]
        finally:
            run("stop", held)
        wait_until(lambda: not members(name), "the interface has gone with its namespace")
        assert ask(name, "held") == ["unknown"]


def test_a_root_without_etc_hosts_gets_one() -> None:
    words = ["--empty-root", "--ro-bind", "/usr", "/usr"]
    for place in ("bin", "lib", "lib64"):
        if os.path.islink(f"/{place}"):
            words += ["--symlink", f"usr/{place}", f"/{place}"]
    with network() as name:
        words += own(name, "--hostname", "box")
        assert run("run", *words, "--", "cat", "/etc/hosts").splitlines()[-1] == "10.77.0.2 box"


def test_a_root_that_exists_is_not_changed(tmp_path: Path) -> None:
    words = ["--root", str(tmp_path)]
    with network() as name:
        done = outcome([SCRIPT, "run", *words, *own(name), "--", "/true"])
        assert done.returncode == 125
        told = "cannot show the names on the network: open /etc/hosts: No such file or directory"
        assert told in done.stderr
        assert list(tmp_path.iterdir()) == []
        # Nor does a link in it lead to the host.
        (tmp_path / "etc").symlink_to(f"/proc/{os.getpid()}/root{tmp_path}")
        (tmp_path / "proc").mkdir()
        assert outcome([SCRIPT, "run", *words, *own(name), "--", "/true"]).returncode == 125
        assert sorted(os.listdir(tmp_path)) == ["etc", "proc"]
        assert members(name) == {}


def test_its_ports_can_be_published() -> None:
    with network() as name, server(name, "-P", "0:80") as running:
        assert ask_host(running.ports[0]) == b"hello"


def test_a_library_has_the_same_settings(lab: str) -> None:
    plan = plan_from(
        {"command": ["cat", "/etc/hosts"], "user": True, "net": lab, "ip": "10.77.0.50"}
    )
    assert launch.run(plan.replace(command=("true",))).status.code == 0
    seen = Container(target=_hosts_have, args=("web",), user=True, net=lab, ip="10.77.0.50")
    seen.start()
    seen.join()
    assert seen.exitcode == 0


def _hosts_have(name: str) -> None:
    with open("/etc/hosts") as file:
        assert name in file.read()


def test_a_network_of_both_families() -> None:
    subnets = ("--subnet", "fd00:77::/64", "--subnet", "10.5.0.0/24")
    serve = (sys.executable, SERVER, "echo", "::", "80")
    with network(*subnets) as name:
        words = own(name, "--hostname", "web", "--ip", "FD00:77::0:9")
        with box("--", *serve, own=words) as running:
            assert running.line() == "ready 80"
            addresses = ["fd00:77::9", "10.5.0.2"]
            assert running.record["addresses"] == addresses
            assert members(name) == dict.fromkeys(addresses, "web")
            on = ("--sandbox", f"--net={name}", "--")
            shown = run("run", *on, "cat", "/etc/hosts").splitlines()[2:]
            assert shown == [f"{address} web" for address in addresses]
            found = run("run", *on, "/usr/bin/python3", "-c", ASK_BOTH, "web", *addresses)
            assert found == "['fd00:77::2', '10.5.0.3'] hello\n"
            also = own(name, "--ip", "FD00:77::0:9", "--ip", "10.5.0.9")
            told = outcome([SCRIPT, "run", *also, "--", "echo", "ran"])
            assert "ip: FD00:77::0:9: is in use: fd00:77::9 and 10.5.0.2 (web" in told.stderr


def test_a_network_of_ipv6_alone() -> None:
    with (
        network("--subnet", "fd00::/126") as name,
        server(name, "--hostname", "web", address="::") as running,
    ):
        assert running.record["addresses"] == ["fd00::2"]
        found = run("run", *own(name), "--", "/usr/bin/python3", "-c", ASK_BOTH, "web")
        assert found == "['fd00::3'] hello\n"
        for address, why in (
            ("fd00::1", "is the address of the network itself"),
            ("fd00::", "is the first address of fd00::/126"),
            ("fd00::4", "is not in the subnet fd00::/126"),
            ("10.77.0.2", "is not in the subnet fd00::/126"),
        ):
            words = own(name, "--ip", address)
            done = outcome([SCRIPT, "run", *words, "--", "echo", "ran"])
            assert (done.returncode, done.stdout) == (125, "")
            assert f"ip: {address}: {why}" in done.stderr
