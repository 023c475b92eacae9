"""The proxy for allowed hosts, in a world in a box: no packet leaves this machine."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from boxes import box
from conftest import SCRIPT, outcome
from usage import assert_refused

pytestmark = [
    pytest.mark.needs("userns", "netns", "ip", "unshare", "nsenter"),
]
Run = Callable[..., subprocess.CompletedProcess[str]]
HERE = Path(__file__).parents[1]
CLIENT = [sys.executable, str(HERE / "network_client.py")]
GET = "GET {} HTTP/1.1\\n\\n"
Told = list[tuple[int, list[str], str]]
Answers = dict[str, tuple[int, list[str], str]]


def in_world(directory: Path, lines: list[list[str]], own: tuple[str, ...] = ("--user",)) -> Told:
    """Run command lines in a world of their own; return status, lines and errors of each."""
    resolv = directory / "resolv.conf"
    resolv.write_text("nameserver 11.0.0.1\noptions timeout:5 attempts:5\n")
    hosts = directory / "hosts"
    hosts.write_text("127.0.0.1 localhost\n")
    binds = [word for path in (resolv, hosts) for word in ("--ro-bind", str(path))]
    binds = [*binds[:2], "/etc/resolv.conf", *binds[2:], "/etc/hosts"]
    # Without a pid namespace, so that the nested launches see a /proc of theirs.
    done = outcome(
        [SCRIPT, "run", *own, "--net", "--mount", *binds, "--",
         sys.executable, str(HERE / "world.py"), json.dumps(lines)],
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return [(code, text.splitlines(), errors) for code, text, errors in json.loads(done.stdout)]


def allowing(hosts: str, *words: str, own: tuple[str, ...] = ("--user", "--net")) -> list[str]:
    """Return a command line of a sandbox with an allow-list."""
    return [SCRIPT, "run", *own, "--allow-host", hosts, "--", *words]


# What runs in one world, one after the other, and which test looks at it.
LINES: dict[str, list[str]] = {}


@pytest.fixture(scope="module")
def status(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The status file of the line called `record`."""
    return tmp_path_factory.mktemp("status") / "status"


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory, status: Path) -> Answers:
    LINES["record"][2:2] = ["--status-file", str(status), "--report"]
    found = in_world(tmp_path_factory.mktemp("world"), list(LINES.values()))
    return dict(zip(LINES, found, strict=True))


URLS = ["http://good.test/a?b", "http://GOOD.test./", "http://www.good.test/",
        "http://evil.test/", "http://good.test.evil.test/", "http://11.0.0.1/",
        "http://good.test:8080/"]  # fmt: skip
LINES["list"] = allowing("good.test,*.good.test", *CLIENT, "get", *URLS)


@pytest.mark.parametrize("own", ["user", pytest.param("root", marks=pytest.mark.as_root)])
def test_the_hosts_of_the_list_are_reached_and_no_others(
    told: Answers, own: str, tmp_path: Path
) -> None:
    code, lines, errors = (
        told["list"] if own == "user" else in_world(tmp_path, [LINES["list"]], own=())[0]
    )
    assert (code, errors) == (0, "")
    refused = "403 pyspaces: {}: not an allowed host"
    assert lines == [
        "200 11.0.0.1",
        "200 11.0.0.1",
        "200 11.0.0.5",
        refused.format("evil.test:80"),
        refused.format("good.test.evil.test:80"),
        refused.format("11.0.0.1:80"),
        refused.format("good.test:8080"),
    ]


TUNNEL = "CONNECT {} HTTP/1.1\\n\\nGET /inside HTTP/1.1\\n\\n"
PLACES = ["good.test:443", "good.test:80", "evil.test:443", "good.test:8080", "good.test"]
LINES["tunnel"] = allowing("good.test", *CLIENT, "raw", *map(TUNNEL.format, PLACES))


def test_a_tunnel(told: Answers) -> None:
    _, lines, _ = told["tunnel"]
    for line in lines[:2]:
        assert "200 Connection established\\r\\n\\r\\nHTTP/1.1 200 OK" in line
        assert "GET /inside HTTP/1.1" in line
    for line in lines[2:4]:
        assert "403 Forbidden (pyspaces: " in line.partition("\\r\\n")[0]
        assert "inside" not in line
    assert "400 Bad Request" in lines[4]


LINES["direct"] = allowing(
    "good.test", *CLIENT, "direct",
    "11.0.0.1:80", "11.0.0.2:80", "10.0.2.2:80", "127.0.0.1:80", "good.test:80",
)  # fmt: skip


def test_there_is_no_way_around_the_proxy(told: Answers) -> None:
    _, lines, _ = told["direct"]
    assert all(line.startswith("failed") for line in lines)
    assert len(lines) == 5


OF_THE_HOST = [
    "http://local.test/", "http://host.test/", "http://inner.test/", "http://127.0.0.1/",
    "http://11.0.0.2/", "http://[::1]/", "http://[::ffff:127.0.0.1]/", "http://2130706433/",
    "http://0x7f000001/", "http://127.1/", "http://localhost/", "http://0.0.0.0/",
    "http://169.254.169.254/", "http://mixed.test/",
]  # fmt: skip
LINES["of the host"] = allowing("*", *CLIENT, "raw", *map(GET.format, OF_THE_HOST))


def test_nothing_of_the_host_is_reached_by_whatever_name(told: Answers) -> None:
    _, lines, _ = told["of the host"]
    for url, line in zip(OF_THE_HOST[:-1], lines[:-1], strict=True):
        assert "200 OK" not in line, url
        assert ("403 Forbidden" in line) or ("400 Bad Request" in line), (url, line)
    # Of two addresses, the one that may be.
    assert "X-At: 11.0.0.1" in lines[-1]


PRIVATE = ["http://local.test/", "http://127.0.0.1/", "http://127.0.0.2/", "http://host.test/"]
LINES["named"] = allowing("local.test,127.0.0.1", *CLIENT, "get", *PRIVATE[:1])
LINES["network"] = allowing("127.0.0.0/8,host.test", *CLIENT, "raw", *map(GET.format, PRIVATE))
LINES["only"] = allowing("127.0.0.1", *CLIENT, "raw", GET.format(PRIVATE[0]))


def test_an_address_that_is_named_is_reached_though_it_is_private(told: Answers) -> None:
    named, network, only = told["named"], told["network"], told["only"]
    assert named[1] == ["200 127.0.0.1"]
    assert ["200 OK" in line for line in network[1]] == [False, True, True, False]
    # To name an address allows no name.
    assert "403" in only[1][0]


LINES["rebind"] = allowing("rebind.test", *CLIENT, "get", *["http://rebind.test/"] * 4)


def test_an_address_is_looked_up_once_and_that_one_is_connected_to(told: Answers) -> None:
    _, lines, _ = told["rebind"]
    private = "403 pyspaces: rebind.test:80: a private address"
    assert lines == ["200 11.0.0.1", private, "200 11.0.0.1", private]


LINES["nowhere"] = allowing(
    "nowhere.test,good.test:*", *CLIENT, "get", "http://nowhere.test/", "http://good.test:9/"
)


def test_what_cannot_be_reached(told: Answers) -> None:
    _, lines, _ = told["nowhere"]
    assert lines == ["502 pyspaces: nowhere.test: no such host",
                     "502 pyspaces: good.test:9: cannot be reached"]  # fmt: skip


MORE = "GET http://evil.test/ HTTP/1.1\\nHost: evil.test\\n\\n"
LINES["read"] = allowing(
    "good.test", *CLIENT, "raw",
    "GET http://good.test:80/x?y=1 HTTP/1.1\\nHost: evil.test\\nConnection: x-own, close\\n"
    "X-Own: 1\\nProxy-Connection: a\\nProxy-Authorization: Basic abc\\nAccept: */*\\n\\n" + MORE,
    "POST http://good.test HTTP/1.0\\nContent-Length: 5\\n\\nhello" + MORE,
)  # fmt: skip


def test_what_the_server_gets_to_read(told: Answers) -> None:
    """One request for the host that was asked for, and nothing that follows it."""
    _, lines, _ = told["read"]
    first, second = (line.split("\\r\\n\\r\\n", 1)[1] for line in lines)
    assert first == (
        "GET /x?y=1 HTTP/1.1\\r\\nHost: good.test:80\\r\\nAccept: */*\\r\\nConnection: close"
        "\\n--\\n0 bytes: '"
    )
    assert second == (
        "POST / HTTP/1.0\\r\\nHost: good.test\\r\\nContent-Length: 5\\r\\nConnection: close"
        "\\n--\\n5 bytes: hello'"
    )


LARGE = (
    "import urllib.request\n"
    "data = bytes(20_000_000)\n"
    "print(urllib.request.urlopen('http://good.test/', data, timeout=60).read()[-14:])\n"
)
LINES["large"] = allowing("good.test", sys.executable, "-c", LARGE)


def test_a_large_body_in_both_directions(told: Answers) -> None:
    _, lines, errors = told["large"]
    assert (lines, errors) == (["b'20000000 bytes'"], "")


MORE_THAN_ONE = """
import socket, sys
with socket.create_server(("127.0.0.1", 0)) as own:
    port = own.getsockname()[1]
    print(port, flush=True)
    one, _ = own.accept()
    with one:
        one.recv(1 << 16)
        sys.stdin.readline()
        one.sendall(b"HTTP/1.1 200 OK\\r\\n\\r\\n" + bytes(8_000_000))
"""
ASK_MORE = """
import os, socket, sys
port = int(os.environ["http_proxy"].rpartition(":")[2])
with socket.create_connection(("127.0.0.1", port), timeout=60) as one:
    one.sendall(b"GET http://127.0.0.1:%s/ HTTP/1.1\\r\\n\\r\\n" % sys.argv[1].encode() * 30_000)
    print("asked", flush=True)
    count = 0
    while data := one.recv(1 << 18):
        count += len(data)
print(count)
"""


def test_requests_behind_the_first_do_not_cut_its_answer() -> None:
    """A connection that is closed with something unread is reset: tcp(7)."""
    with subprocess.Popen(
        [sys.executable, "-c", MORE_THAN_ONE],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as server:  # fmt: skip
        assert server.stdin
        assert server.stdout
        port = server.stdout.readline().strip()
        words = allowing(f"127.0.0.1:{port}", sys.executable, "-c", ASK_MORE, port)
        with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as client:
            assert client.stdout
            assert client.stdout.readline() == "asked\n"
            server.stdin.write("\n")
            server.stdin.flush()
            assert client.stdout.read() == "8000019\n"


LINES["record"] = allowing(
    "good.test,local.test", *CLIENT, "get", "http://good.test/",
    *["http://evil.test/"] * 3, "http://local.test/",
)  # fmt: skip


def test_the_records_name_what_was_refused(told: Answers, status: Path) -> None:
    code, _, errors = told["record"]
    assert code == 0
    exited = json.loads(status.read_text().splitlines()[1])
    assert exited["refused"] == [
        {"host": "evil.test", "port": 80, "why": "not an allowed host", "count": 3},
        {"host": "local.test", "port": 80, "why": "a private address", "count": 1},
    ]
    assert "  refused      evil.test:80: not an allowed host, 3 times\n" in errors
    assert "  refused      local.test:80: a private address\n" in errors


PRINT = ["-c", "import os, json; print(json.dumps({k: v for k, v in os.environ.items()"
         " if k.lower().endswith('_proxy')}))"]  # fmt: skip


@pytest.mark.parametrize("own", [("--user", "--net"), ("--all", "--init", "--pty")])
def test_the_variables_that_programs_read(pyspaces: Run, own: tuple[str, ...]) -> None:
    done = pyspaces(*allowing("good.test", sys.executable, *PRINT, own=own)[1:])
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    names = ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY")
    (proxy,) = {found.pop(name) for name in names}
    assert proxy.startswith("http://127.0.0.1:")
    assert found == dict.fromkeys(("no_proxy", "NO_PROXY"), "localhost,127.0.0.1,::1")


def test_what_the_caller_says_of_a_variable_counts(pyspaces: Run) -> None:
    words = allowing("good.test", sys.executable, *PRINT)
    words[2:2] = ["--setenv", "http_proxy", "http://own:1", "--unsetenv", "HTTP_PROXY"]
    words[2:2] = ["--clearenv"]
    found = json.loads(pyspaces(*words[1:]).stdout)
    assert found["http_proxy"] == "http://own:1"
    assert "HTTP_PROXY" not in found
    assert found["https_proxy"].startswith("http://127.0.0.1:")


def test_what_has_no_proxy_has_no_network(pyspaces: Run) -> None:
    done = pyspaces(*allowing("*", *CLIENT, "direct", "192.0.2.1:80", "127.0.0.1:22")[1:])
    assert [line.split()[:2] for line in done.stdout.splitlines()] == [
        ["failed", "OSError"], ["failed", "ConnectionRefusedError"],
    ]  # fmt: skip


def test_the_proxy_that_dies_takes_the_command_along() -> None:
    with box("--allow-host", "good.test", "--", "sleep", "60", stderr=subprocess.PIPE) as running:
        (proxy,) = running.helpers()
        subprocess.run(["kill", "-9", str(proxy)], check=True)
        _, errors = running.launcher.communicate(timeout=60)
    assert running.launcher.returncode == 125
    assert "pyspaces: the proxy for allowed hosts died: the command was killed" in errors


FAULTS = [
    (("--user", "--allow-host", "a.test"), "allow-host: needs a new net namespace: add --net"),
    (("--user", "--net", "--allow-host", "a b"), "allow-host: 'a b' is neither a host name"),
    (("--user", "--net", "--allow-host", "a.test:0"), "'0' is neither a port nor *"),
    (("--user", "--net", "-F", "--allow-host", "a.test"), "-F: cannot be combined with"),
    (
        ("--user", "--net", "--no-loopback", "--allow-host", "a"),
        "allow-host: cannot be combined",
    ),
]


def test_what_cannot_be_meant() -> None:
    assert_refused(FAULTS)


def test_a_function_has_it_too(tmp_path: Path) -> None:
    import pyspaces as library

    space: dict[str, Any] = {"user": True, "net": True, "allow_host": "good.test"}
    container = library.Container(_proxy_of_function, **space)
    container.start()
    assert container.result(timeout=60).startswith("http://127.0.0.1:")
    container.close()


def _proxy_of_function() -> str:
    import os

    return os.environ["https_proxy"]
