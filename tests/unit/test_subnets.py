"""Subnets and addresses: their grammar, and who may have which address."""

from __future__ import annotations

import ipaddress
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyspaces.errors import SpaceError, UsageFault
from pyspaces.features.network import subnets
from pyspaces.features.network.between import Between, host_fault
from pyspaces.settings import plan_from

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@given(st.ip_addresses())
def test_an_address_is_read_as_it_is_written(address: Address) -> None:
    size = address.max_prefixlen
    assert subnets.address_of(str(address)) == (int(address), size)
    text = subnets.text_of(int(address), size)
    assert ipaddress.ip_address(text) == address
    hardware = subnets.hardware_address(text)
    assert (len(hardware), hardware[0]) == (6, 2)


@given(st.text("0123456789./ -x", max_size=20) | st.text("0123456789abcf:.%", max_size=20))
def test_what_is_an_address_is_one_for_python_as_well(text: str) -> None:
    try:
        known = ipaddress.ip_address(text)
    except ValueError:
        known = None
    if known is None or "%" in text:  # of one link
        with pytest.raises(ValueError, match="is not an IP address"):
            subnets.address_of(text)
    else:
        assert subnets.address_of(text) == (int(known), known.max_prefixlen)


@given(st.integers(0, 2**32 - 1), st.integers(8, 30))
def test_a_subnet_has_the_addresses_that_it_says(number: int, bits: int) -> None:
    known = ipaddress.IPv4Network((number, bits), strict=False)
    if known.is_loopback or known.is_multicast or known.is_reserved or str(known)[:2] == "0.":
        with pytest.raises(ValueError, match="are special"):
            subnets.subnet_of(str(known))
        return
    subnet = subnets.subnet_of(str(known))
    assert str(subnet) == str(known)
    assert subnet.last == int(known.broadcast_address)
    first = next(subnet.for_commands(), None)
    assert first == (subnet.first + 2 if subnet.last > subnet.first + 2 else None)
    for address in (subnet.first, subnet.gateway, subnet.last, subnet.last + 1):
        assert subnet.fault(address)
    assert subnet.fault(subnet.first + 2) is None


@given(st.integers(0, 2**128 - 1), st.integers(16, 126))
def test_a_subnet_of_ipv6_has_the_addresses_that_it_says(number: int, bits: int) -> None:
    known = ipaddress.IPv6Network((number, bits), strict=False)
    if number >> 120 in (0, 0xFF) or known.is_link_local:
        with pytest.raises(ValueError, match="are special"):
            subnets.subnet_of(str(known))
        return
    subnet = subnets.subnet_of(str(known))
    assert str(subnet) == str(known)
    assert next(subnet.for_commands()) == subnet.first + 2
    for address in (subnet.first, subnet.gateway, subnet.last + 1):
        assert subnet.fault(address)
    assert subnet.last == int(known[-1])
    assert subnet.fault(subnet.last) is None
    assert subnet.holds(str(known[-1]))
    assert not subnet.holds("10.0.0.1")


def test_a_network_has_one_subnet_of_a_family() -> None:
    both = subnets.subnets_of(["fd00:77::/64", "10.77.0.0/24"])
    assert [str(one) for one in both] == ["fd00:77::/64", "10.77.0.0/24"]
    with pytest.raises(ValueError, match="has one subnet of IPv4 and one of IPv6 at most"):
        subnets.subnets_of(["10.1.0.0/24", "10.2.0.0/24"])


@pytest.mark.parametrize(
    ("text", "address", "subnet"),
    [
        ("10.0.0.5/24", "10.0.0.5", "10.0.0.0/24"),
        ("10.0.0.4/31", "10.0.0.4", "10.0.0.4/31"),
        ("10.0.0.4/32", "10.0.0.4", "10.0.0.4/32"),
        ("FD00::0:5/64", "fd00::5", "fd00::/64"),
        ("10.0.0.5", None, "is not an address with a prefix"),
        ("10.0.0.5/33", None, "a length of 1 to 32"),
        ("10.0.0.0/24", None, "is the first address of 10.0.0.0/24"),
        ("10.0.0.255/24", None, "is the last address of 10.0.0.0/24"),
        ("127.0.0.5/8", None, "are special"),
        ("fe80::5/64", None, "are special"),
    ],
)
def test_an_address_on_a_bridge(text: str, address: str | None, subnet: str) -> None:
    if address:
        found, within = subnets.host_of(text)
        assert (found, str(within)) == (address, subnet)
        return
    with pytest.raises(ValueError, match=subnet):
        subnets.host_of(text)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "is not a subnet"),
        ("10.0.0.0", "is not a subnet"),
        ("10.0.0.0/", "is not a subnet"),
        ("10.0.0.0/255.0.0.0", "is not a subnet"),
        ("a/24", "is not an IP address"),
        ("::/64", "are special"),
        ("fd00::/127", "a length of 16 to 126"),
        ("fd00::1/64", "did you mean fd00::/64"),
        ("10.0.0.0/31", "a length of 8 to 30"),
        ("10.0.0.0/7", "a length of 8 to 30"),
        ("10.1.1.1/24", "did you mean 10.1.1.0/24"),
        ("127.5.0.0/16", "are special"),
        ("224.0.0.0/24", "are special"),
    ],
)
def test_what_is_no_subnet(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        subnets.subnet_of(text)


@pytest.mark.parametrize("name", ["web", "Web-1", "a.b.c", "_x"])
def test_names_on_a_network(name: str) -> None:
    assert host_fault(name) is None


@pytest.mark.parametrize(
    "name", ["a b", "a\n127.0.0.1 b", "a#", "-a", ".", "", "é", "localhost", "LocalHost"]
)
def test_what_is_no_name_on_a_network(name: str) -> None:
    assert host_fault(name)


def test_a_plan_with_a_network_is_checked() -> None:
    with pytest.raises(UsageFault, match=r"ip: requires a network: add --net=NETWORK"):
        plan_from({"command": ["a"], "net": True, "ip": "10.0.0.1"})
    with pytest.raises(SpaceError, match=r"net: none-like: no network, command or hold"):
        plan_from({"command": ["a"], "net": "none-like"})
    plan = plan_from({"command": ["a"], "net": True, "mount": True, "hostname": "a b"})
    one = ("10.0.0.0/24",)
    for part, why in (
        (Between(network="x"), "hostname: 'a b': on a network"),
        (Between(network="x", addresses=("a",)), "ip: 'a' is not an IP address"),
        (Between(network="x", addresses=("10.0.0.1", "10.0.0.2")), "ip: a command has one address"),
        (Between(subnets=one), "subnet: only a hold can be a network"),
        (Between(subnets=("x",)), "subnet: 'x' is not a subnet"),
        (Between(subnets=one, network="x"), "subnet: a network cannot be on another one"),
        (Between(subnets=one, bridge="x"), "subnet: a network cannot be on another one"),
        (Between(gateways=("10.0.0.1",)), "gateway: requires --veth"),
        (Between(bridge="br0", network="x"), "veth: cannot be combined with --net=NETWORK"),
    ):
        assert any(fault.startswith(why) for fault in plan.replace(between=part).faults())
    alone = plan.replace(between=Between(network="x"), namespaces=("net",))
    assert "net=NETWORK: needs a new mount namespace" in list(alone.faults())


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"veth": ""}, "veth: '' cannot be the name of a bridge"),
        ({"veth": "a/b"}, "veth: 'a/b' cannot be the name of a bridge"),
        ({"veth": "a:b"}, "veth: 'a:b' cannot be the name of a bridge"),
        ({"veth": "a" * 16}, "is longer than the name of a bridge can be, 15 bytes"),
        ({"ip": ["10.0.0.5"]}, "ip: '10.0.0.5' is not an address with a prefix"),
        ({"ip": ["10.0.0.5/24", "10.0.0.5/8"]}, "ip: 10.0.0.5: is given twice"),
        ({"ip": [f"fd00::{n}/64" for n in range(5, 106)]}, "ip: 101 addresses"),
        ({"gateway": ["10.0.0.1"]}, "gateway: 10.0.0.1: is in no subnet of the addresses of --ip"),
        ({"ip": ["10.0.0.5/24"], "gateway": ["10.0.0.5"]}, "is the address of the command itself"),
        ({"gateway": ["fe80::1", "fe80::2"]}, "gateway: there is one of IPv4 and one of IPv6"),
        ({"gateway": ["x"]}, "gateway: 'x' is not an IP address"),
        ({"net": "user"}, "veth: cannot be combined with --net=user"),
        ({"allow_host": ["a.test"]}, "veth: cannot be combined with --allow-host"),
        ({"no_fork": True}, "no-fork: cannot be combined with --veth"),
        ({"net": False}, "veth: needs a new net namespace"),
    ],
)
def test_a_plan_with_a_bridge_is_checked(more: dict[str, object], why: str) -> None:
    with pytest.raises(UsageFault, match=re.escape(why)):
        plan_from({"command": ["a"], "net": True, "veth": "br0", **more})


def test_a_plan_with_a_bridge() -> None:
    given = {"ip": ["10.0.0.5/24", "fd00::5/64"], "gateway": ["10.0.0.1", "fe80::1"]}
    plan = plan_from({"command": ["a"], "net": True, "veth": "br0", **given})
    assert plan.between == Between(
        bridge="br0", addresses=tuple(given["ip"]), gateways=tuple(given["gateway"])
    )
    assert type(plan).from_data(plan.to_data()) == plan
