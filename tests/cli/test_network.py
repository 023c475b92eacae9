"""`pyspaces network`, and --net with the name of a network, a command, a process or a file."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import networks
import pytest
from boxes import box
from conftest import SCRIPT, outcome
from networks import network, own, run, server

pytestmark = pytest.mark.needs("userns", "netns", "bridge")
Run = Callable[..., subprocess.CompletedProcess[str]]


def refused(pyspaces: Run, *words: str, code: int = 125) -> str:
    done = pyspaces(*words)
    assert (done.returncode, done.stdout) == (code, "")
    return done.stderr


def rows_of(*words: str) -> list[list[str]]:
    # The user may have further networks, with longer names.
    return [line.split() for line in run(*words).splitlines()]


def test_a_network_is_listed_with_who_is_on_it() -> None:
    with network("--subnet", "10.5.0.0/16") as name:
        assert [name, "10.5.0.0/16", "-"] in rows_of("network", "list", "-n")
        with server(name, "--hostname", "web") as running:
            shown = rows_of("network", "list")
            assert shown[0] == ["NAME", "SUBNETS", "COMMANDS"]
            assert [name, "10.5.0.0/16", "10.5.0.2=web"] in shown
            (row,) = [row for row in networks.listed() if row["name"] == name]
            member = {"addresses": ["10.5.0.2"], "hostname": "web", "pid": running.record["pid"]}
            assert row["members"] == [member]
            # Of the command, which has no name, it is the kernel that knows the address.
            columns = ("list", "-t", "net", "-o", "name,pid,addresses")
            cells = rows_of(*columns)
            assert [name, "10.5.0.1"] in [[row[0], row[-1]] for row in cells]
            assert ["-", str(running.record["pid"]), "10.5.0.2"] in cells


def test_what_cannot_be_created(pyspaces: Run) -> None:
    with network() as name:
        told = refused(pyspaces, "network", "create", name)
        assert told == f"pyspaces: network: {name}: exists already\n"
    told = refused(pyspaces, "network", "create", "x", "--subnet", "10.1.1.1/24", code=2)
    assert "subnet: 10.1.1.1/24: does not begin there: did you mean 10.1.1.0/24?" in told
    assert "is made of letters" in refused(pyspaces, "network", "create", "a/b", code=2)
    told = refused(pyspaces, "network", "create", "none", code=2)
    assert "network: none: no command could join it: --net=none has a meaning" in told
    assert "missing command" in refused(pyspaces, "network", code=2)
    assert "no such command: x" in refused(pyspaces, "network", "x", code=2)


def test_a_name_is_that_of_one_thing(pyspaces: Run) -> None:
    with network() as name:
        words = ("run", "--user", "--name", name, "--", "true")
        assert f"name: {name}: is held by" in refused(pyspaces, *words)
        held = f"{name}-held"
        run("run", "--user", "--net", "--name", held, "--hold")
        try:
            assert "is held by" in refused(pyspaces, "network", "create", held)
            told = refused(pyspaces, "network", "remove", held)
            assert f"{held}: is the name of a command or hold, and not of a network" in told
        finally:
            run("stop", held)


def test_what_is_in_use_is_removed_only_by_force(pyspaces: Run) -> None:
    assert "name: nowhere: is not registered" in refused(pyspaces, "network", "remove", "nowhere")
    with network() as name:
        with server(name, "--hostname", "web") as running:
            told = refused(pyspaces, "network", "remove", name)
            assert f"network: {name}: is in use\n" in told
            assert f"  10.77.0.2 (web, process {running.record['pid']})\n" in told
            assert "hint: stop these commands first, or cut them off with --force" in told
            running.end()
        run("network", "remove", name)
        assert name not in networks.names()
        assert networks.files(name) == []


def test_one_that_cannot_be_removed_keeps_no_other(pyspaces: Run) -> None:
    with network() as name:
        told = refused(pyspaces, "network", "remove", "nowhere", name, "nothing")
        assert "name: nowhere: is not registered" in told
        assert "name: nothing: is not registered" in told
        assert name not in networks.names()


def test_a_network_can_be_stopped_like_a_hold() -> None:
    with network() as name:
        (row,) = [row for row in rows_of("ps", "-n") if row[0] == name]
        assert row[-1] == "pyspaces-net"
        run("stop", name)
        assert name not in networks.names()
        assert networks.files(name) == []


def test_addresses_and_names_that_cannot_be_had(pyspaces: Run) -> None:
    with network("--subnet", "10.5.0.0/30") as name, server(name, "--hostname", "web") as running:
        on = ("run", *own(name))
        in_use = f"10.5.0.2 (web, process {running.record['pid']})"
        for words, why in (
            (("--ip", "10.5.0.2"), f"ip: 10.5.0.2: is in use: {in_use}"),
            (("--ip", "10.5.0.1"), "ip: 10.5.0.1: is the address of the network itself"),
            (("--ip", "10.5.0.3"), "ip: 10.5.0.3: is the last address of 10.5.0.0/30"),
            (("--ip", "10.9.0.3"), "ip: 10.9.0.3: is not in the subnet 10.5.0.0/30"),
            (("--hostname", "WEB"), f"hostname: WEB: is in use on {name}: {in_use}"),
            ((), f"network: {name}: all addresses of 10.5.0.0/30 are in use"),
        ):
            assert why in refused(pyspaces, *on, *words, "--", "echo", "ran")


def test_wrong_usage(pyspaces: Run) -> None:
    with network() as name:
        on = ("run", *own(name))
        for words, why in (
            (("--ip", "x"), "ip: 'x' is not an IP address"),
            (("--hostname", "a b"), "hostname: 'a b': on a network, a host name is made of"),
            (("--no-fork",), "no-fork: cannot be combined with --net=NETWORK"),
        ):
            assert why in refused(pyspaces, *on, *words, "--", "echo", "ran", code=2)
    told = refused(pyspaces, "run", "--user", f"--net={name}", "--", "true")
    assert f"net: {name}: no network, command or hold has this name" in told
    assert f"hint: create a network: pyspaces network create {name}" in told


@pytest.mark.as_ordinary
def test_an_ordinary_user_needs_a_user_namespace(pyspaces: Run) -> None:
    with network() as name:
        assert "add --user" in refused(pyspaces, "run", f"--net={name}", "--", "true")


def test_a_preview_says_what_would_happen() -> None:
    with network() as name:
        told = run("run", *own(name, "--ip", "10.77.0.9"), "--dry-run", "--", "true")
        assert f"connect to the network: {name}\n" in told
        assert "show the names on the network: /etc/hosts\n" in told
        assert "10.77.0.9" in told
        assert networks.members(name) == {}


def test_names_are_completed() -> None:
    with network() as name:
        for line, at, found in (
            (f"pyspaces network remove {name[:7]}", 3, name),
            ("pyspaces run --ne", 2, f"--net={name}"),
        ):
            more = {"COMP_WORDS": line, "COMP_CWORD": str(at)}
            env = os.environ | more | {"_PYSPACES_COMPLETE": "bash_complete"}
            assert f"plain,{found}\n" in outcome([SCRIPT], env=env, check=True).stdout


def test_the_network_of_another_is_shared() -> None:
    name = f"{os.getpid()}-box"
    with box("--name", name, "--", "sleep", "1000") as running:
        pid = running.record["pid"]
        for place in (name, str(pid), f"/proc/{pid}/ns/net"):
            for words in ([f"--net={place}"], ["--join", f"net={place}"]):
                inside = run("run", *words, "--", "readlink", "/proc/self/ns/net")
                assert inside == f"net:[{running.record['namespaces']['net']}]\n", words


def test_a_file_with_the_name_of_none_is_joined_by_its_name(tmp_path: Path) -> None:
    done = subprocess.run(
        [SCRIPT, "run", "--join", "net=file", "--", "true"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "name: file: is not registered" in done.stderr
    (tmp_path / "file").touch()
    done = subprocess.run(
        [SCRIPT, "run", "--join", "net=file", "--", "true"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "open as a net namespace file: Invalid argument" in done.stderr
