"""A command on a bridge of the host, which is a network namespace of the test's own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import IS_ROOT, SCRIPT, again, outcome

pytestmark = pytest.mark.needs("userns", "netns", "bridge")
Run = Callable[..., subprocess.CompletedProcess[str]]
TRIAL = [sys.executable, str(Path(__file__).parents[1] / "veth_trial.py")]
# The caller of --veth is root there: of the real host, if the tests are, else of its own.
HOST = [SCRIPT, "run", *([] if IS_ROOT else ["--user"]), "--net", "--"]
ADDRESSES = ["--ip", "10.9.0.2/24", "--ip", "fd09::2/64"]
WAYS = ["--gateway", "10.9.0.1", "--gateway", "fd09::1"]
# Says what it sees, and ends once it has read a line.
SEE = """
import json, socket, sys
found = {}
for place in sys.argv[1:]:
    try:
        with socket.create_connection((place, 80), timeout=60) as one:
            found[place] = one.makefile().read()
    except OSError as error:
        found[place] = error.strerror
print(json.dumps([socket.if_nameindex(), found]), flush=True)
sys.stdin.readline()
"""


def on_host(*words: str, verb: tuple[str, ...] = ("run",), **more: Any) -> Any:
    """Do something on the host, and return what the trial prints."""
    done = outcome([*HOST, *TRIAL, *verb, "--", *words], timeout=200, **more)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def connected(*words: str) -> list[str]:
    return [SCRIPT, "run", "--net", "--veth", "br0", *words]


def see(*places: str) -> list[str]:
    return ["--", sys.executable, "-I", "-S", "-c", SEE, *places]


@pytest.mark.parametrize("own", [[], ["--user", "--pid"]], ids=["root", "a user namespace"])
def test_the_host_is_reached_and_nothing_stays(own: list[str], tmp_path: Path) -> None:
    record = tmp_path / "record"
    places = ("10.9.0.1", "fd09::1", "11.0.0.1", "fd11::1")
    words = connected(*own, *ADDRESSES, *WAYS, "--status-file", str(record), *see(*places))
    code, output, errors, there, left = on_host(*words)
    assert (code, errors, left) == (0, "", [])
    interfaces, found = json.loads(output)
    assert [name for _, name in interfaces] == ["lo", "eth0"]
    assert found == dict(zip(places, ["10.9.0.2", "fd09::2"] * 2, strict=True))
    told = json.loads(record.read_text().splitlines()[0])
    assert (told["network"], told["addresses"]) == ("br0", ["10.9.0.2", "fd09::2"])
    assert there == [[told["interface"], f"pyspaces: process {told['pid']}", True]]


def test_without_a_gateway_there_is_the_bridge_alone() -> None:
    code, output, *_, left = on_host(*connected(*ADDRESSES, *see("10.9.0.1", "11.0.0.1")))
    assert (code, left) == (0, [])
    found = json.loads(output)[1]
    assert found == {"10.9.0.1": "10.9.0.2", "11.0.0.1": "Network is unreachable"}


def test_who_stays_behind_has_no_network_any_more() -> None:
    stay = "import os, signal, sys\nif os.fork():\n os._exit(0)\n"
    stay += "print(os.getpid(), flush=True)\nfor at in range(3):\n os.close(at)\nsignal.pause()"
    code, output, errors, _, left = on_host(*connected("--", sys.executable, "-c", stay))
    os.kill(int(output), 9)
    assert (code, errors, left) == (0, "", [])


def test_a_hold_is_connected_until_it_is_stopped(tmp_path: Path) -> None:
    name = f"veth-{os.getpid()}"
    hold = [*connected(*ADDRESSES, "--name", name), "--hold"]
    look = [SCRIPT, "list", "-t", "net", "-o", "name,network,addresses", "--json"]
    script = f'"$@" && {" ".join(look)} | tr "\\n" " "; echo; read line; "$0" stop {name}'
    # Root of a user namespace has no runtime directory, and would leave one in /tmp.
    variables = os.environ | {"XDG_RUNTIME_DIR": str(tmp_path)}
    code, output, errors, there, left = on_host("sh", "-c", script, SCRIPT, *hold, env=variables)
    assert (code, errors, len(there)) == (0, "", 1)
    rows = json.loads(output)["namespaces"]
    row = {"name": name, "network": "br0", "addresses": ["10.9.0.2", "fd09::2"]}
    assert row in rows
    # The kernel removes it with the namespace, which `stop` does not wait for.
    assert left in ([], [there[0][0]])


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (
            ["--veth", "br1"],
            "veth: br1: no bridge has this name\n  bridges: br0\nhint: create one:",
        ),
        (["--veth", "lo"], "veth: lo: is an interface of this host, and not a bridge\n  bridges: "),
        (["--veth", "br0", "--", "/nowhere"], "/nowhere"),
    ],
)
def test_what_fails_leaves_nothing(words: list[str], why: str) -> None:
    more = [] if "--" in words else ["--", "echo", "ran"]
    code, output, errors, there, left = on_host(SCRIPT, "run", "--net", *words, *more)
    assert code in (2, 125, 127)
    assert (output, there, left) == ("", [], [])
    assert why in errors


@pytest.mark.parametrize("own", [[], ["--user"]], ids=["shared", "a user namespace"])
def test_who_has_no_right_on_the_host_is_told_what_to_do(own: list[str]) -> None:
    """Root in a user namespace below, as any user can be: the network is that of the host."""
    below = [SCRIPT, "run", "--user", "--", *connected(*own, "--", "echo", "ran")]
    code, output, errors, there, left = on_host(*below)
    assert (code, output, there, left) == (125, "", [], [])
    first, hint, *_ = errors.splitlines()
    takes = "connecting with a bridge of the host takes CAP_NET_ADMIN there"
    assert first == f"pyspaces: --veth: br0: {takes}"
    assert hint.startswith("hint: run this as root; or, without root, use --net=user")


@pytest.mark.as_ordinary
def test_an_ordinary_user_is_told_what_to_do(pyspaces: Run) -> None:
    done = pyspaces("run", "--user", "--net", "--veth", "br0", "--", "echo", "ran")
    assert (done.returncode, done.stdout) == (125, "")
    assert "veth: br0: connecting with a bridge of the host takes CAP_NET_ADMIN" in done.stderr


@pytest.mark.parametrize("who", ["launcher", "helper", "command"])
@pytest.mark.parametrize("number", again(1, 20))
def test_nothing_stays_when_one_is_killed(who: str, number: int) -> None:
    launch = connected(*ADDRESSES, *WAYS, "-P", "0:80")
    assert on_host(*launch, verb=("kill", who, "5", str(number))) == []


def test_a_check_knows_whether_there_are_bridges() -> None:
    look = "import sys\nfrom pyspaces.host import check\n(row,) = check.examine(['veth'])\n"
    look += "print(row.answer, row.evidence, row.remedy, sep='; ', flush=True)\nsys.stdin.read()"
    show = [sys.executable, "-c", look]
    assert on_host(*show)[1] == "yes; bridges: br0; None\n"
    refused = on_host(SCRIPT, "run", "--user", "--", *show)[1]
    assert refused.startswith("no; takes CAP_NET_ADMIN in the network namespace of the host; run")
    empty = outcome([*HOST, *show], stdin=subprocess.DEVNULL).stdout
    assert empty == "no; this host has no bridge; ip link add br0 up type bridge\n"


def test_a_program_has_the_same_setting() -> None:
    program = "import sys\nfrom pyspaces import Container\none = Container(target=print, args=(1,),"
    program += " net=True, veth='br0', ip='10.9.0.2/24')\none.start()\none.join()\nprint()\n"
    program += "sys.exit(one.exitcode)"
    code, _, errors, _, left = on_host(sys.executable, "-c", program)
    assert (code, errors, left) == (0, "", [])
