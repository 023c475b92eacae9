"""The files of names: what they become, and the words for that."""

from __future__ import annotations

import re
from typing import Any

import pytest

from pyspaces import UsageFault
from pyspaces.features.network import naming
from pyspaces.features.network.naming import Host
from pyspaces.settings import plan_from


def plan(**values: Any) -> Any:
    return plan_from({"command": ["true"], "user": True, **values})


@pytest.mark.parametrize(
    ("found", "forwarder", "expected"),
    [
        (b"nameserver 127.0.0.53\noptions a\n", "9.9.9.9", b"nameserver 9.9.9.9\noptions a\n"),
        (b"nameserver\t::1\nnameserver 127.0.0.1", "9.9.9.9", b"nameserver 9.9.9.9\n"),
        (b"nameserver 1.1.1.1\nsearch a", "9.9.9.9", None),
        (b"nameserver 1.1.1.1\nnameserver 127.0.0.1\n", None, b"nameserver 1.1.1.1\n"),
        (b"nameserver 127.0.0.1\nnameserver 1.1.1.1\n", "9.9.9.9",
         b"nameserver 9.9.9.9\nnameserver 1.1.1.1\n"),
        (b"", "9.9.9.9", b"nameserver 9.9.9.9\n"),
        (b"# nameserver 127.0.0.1\nnameserver \xff\n", "9.9.9.9", None),
    ],
)  # fmt: skip
def test_a_name_server_on_the_loopback_is_replaced(
    found: bytes, forwarder: str | None, expected: bytes | None
) -> None:
    assert naming.forwarding(found, forwarder) == expected


def test_the_words() -> None:
    made = plan(dns=["1.1.1.1", "::1"], add_host=["a.test=[::1]", "B_c=1.2.3.4"]).naming
    assert made.servers == ("1.1.1.1", "::1")
    assert made.hosts == (Host(name="a.test", address="::1"), Host(name="B_c", address="1.2.3.4"))
    assert not made.forward


@pytest.mark.parametrize(
    ("values", "fault"),
    [
        ({"dns": ["x"]}, "dns: 'x' is not an IP address"),
        ({"dns": ["1.1.1.1\nsearch evil"]}, "dns: .* is not an IP address"),
        ({"dns": ["1.1.1.1", "none"]}, "dns: none cannot be combined with an address"),
        ({"dns": ["1.1.1.1"] * 4}, "dns: 4 addresses, and the C library asks 3"),
        ({"add_host": ["a"]}, "add-host: 'a' is not of the form NAME=ADDRESS"),
        ({"add_host": ["a b=1.1.1.1"]}, "add-host: 'a b=1.1.1.1' is not of the form NAME=ADDRESS"),
        ({"add_host": ["a=1.1.1"]}, "add-host: 'a=1.1.1': '1.1.1' is not an IP address"),
        ({"dns": ["1.1.1.1"], "propagation": "shared"}, "propagation: shared: what covers /etc"),
        ({"dns": ["1.1.1.1"], "join": ["mount=1"]}, "join: mount: --dns asks for a new one"),
    ],
)
def test_what_cannot_be_meant(values: dict[str, Any], fault: str) -> None:
    with pytest.raises(UsageFault) as caught:
        plan(**values)
    assert any(re.search(fault, line) for line in caught.value.faults)


@pytest.mark.parametrize(
    ("values", "mount", "forward"),
    [
        ({"net": "user"}, True, True),
        ({"net": "pasta", "dns": ["none"]}, True, False),
        ({"net": "user", "dns": ["1.1.1.1"]}, True, False),
        ({"net": "user", "share": ["mount"], "all": True}, False, False),
        ({"net": "none"}, False, False),
    ],
)
def test_a_way_out_comes_with_names(values: dict[str, Any], mount: bool, forward: bool) -> None:
    made = plan(**values)
    assert made.has("mount") == mount
    assert made.naming.forward == forward


@pytest.mark.parametrize(
    ("values", "fault"),
    [
        ({"no_fork": True}, "no-fork: cannot be combined with --net=user: no launcher is left"),
        ({"loopback": False}, "net: user cannot be combined with --no-loopback"),
        ({"allow_host": ["a"]}, "allow-host: cannot be combined with --net=user"),
    ],
)
def test_what_a_way_out_excludes(values: dict[str, Any], fault: str) -> None:
    with pytest.raises(UsageFault, match=fault):
        plan(net="user", **values)


def test_the_loopback_of_the_host_takes_a_way_out() -> None:
    with pytest.raises(UsageFault, match="allow-host-loopback: requires --net=user"):
        plan(net=True, allow_host_loopback=True)
