"""Subnets and addresses: their grammar, and who may have which address."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyspaces.errors import SpaceError, UsageFault
from pyspaces.features.network import subnets
from pyspaces.features.network.between import Between, host_fault
from pyspaces.settings import plan_from


@given(st.integers(0, 2**32 - 1))
def test_an_address_is_read_as_it_is_written(number: int) -> None:
    text = subnets.text_of(number)
    assert text == str(ipaddress.IPv4Address(number))
    assert subnets.address_of(text) == number


@given(st.text("0123456789./ -x", max_size=20))
def test_what_is_an_address_is_one_for_python_as_well(text: str) -> None:
    try:
        known = int(ipaddress.IPv4Address(text))
    except ValueError:
        with pytest.raises(ValueError, match="is not an IPv4 address"):
            subnets.address_of(text)
    else:
        assert subnets.address_of(text) == known


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


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "is not a subnet"),
        ("10.0.0.0", "is not a subnet"),
        ("10.0.0.0/", "is not a subnet"),
        ("10.0.0.0/255.0.0.0", "is not a subnet"),
        ("::/64", "is not an IPv4 address"),
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
    for part, why in (
        (Between(network="x"), "hostname: 'a b': on a network"),
        (Between(network="x", address="a"), "ip: 'a' is not an IPv4 address"),
        (Between(subnet="10.0.0.0/24"), "subnet: only a hold can be a network"),
        (Between(subnet="x"), "subnet: 'x' is not a subnet"),
        (Between(subnet="10.0.0.0/24", network="x"), "subnet: a network cannot be on another one"),
    ):
        assert any(fault.startswith(why) for fault in plan.replace(between=part).faults())
    alone = plan.replace(between=Between(network="x"), namespaces=("net",))
    assert "net=NETWORK: needs a new mount namespace" in list(alone.faults())
