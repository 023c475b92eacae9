"""Allow-lists of hosts: what they let through, and which addresses are private."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pyspaces.features.network import hosts
from pyspaces.features.network.hosts import Rules


@pytest.mark.parametrize(
    ("rule", "name", "port", "allowed"),
    [
        ("a.test", "a.test", 443, True),
        ("A.Test.", "a.test", 80, True),
        ("a.test", "a.test", 8080, False),
        ("a.test:8080", "a.test", 8080, True),
        ("a.test:8080", "a.test", 443, False),
        ("a.test:*", "a.test", 1, True),
        ("a.test", "b.a.test", 443, False),
        ("a.test", "ba.test", 443, False),
        ("*.a.test", "a.test", 443, False),
        ("*.a.test", "b.a.test", 443, True),
        ("*.a.test", "c.b.a.test", 443, True),
        ("*.a.test", "ba.test", 443, False),
        ("*.a.test:22", "b.a.test", 22, True),
        ("*", "anything.test", 443, True),
        ("*", "anything.test", 22, False),
        ("*:*", "anything.test", 22, True),
        ("127.0.0.1", "a.test", 443, False),
    ],
)
def test_a_name_at_a_port(rule: str, name: str, port: int, allowed: bool) -> None:
    assert Rules([rule]).allow_name(name, port) == allowed


@pytest.mark.parametrize(
    ("rule", "address", "port", "allowed"),
    [
        ("10.0.0.1", "10.0.0.1", 80, True),
        ("10.0.0.1", "10.0.0.2", 80, False),
        ("10.0.0.1:5432", "10.0.0.1", 5432, True),
        ("10.0.0.1:5432", "10.0.0.1", 80, False),
        ("10.0.0.0/8", "10.200.0.1", 80, True),
        ("10.0.0.0/8", "11.0.0.1", 80, False),
        ("0.0.0.0/0", "127.0.0.1", 80, True),
        ("::1", "::1", 80, True),
        ("[::1]:8080", "::1", 8080, True),
        ("[fd00::/8]:*", "fd12::1", 8080, True),
        ("0.0.0.0/0", "::1", 80, False),
        ("*", "8.8.8.8", 443, True),
        ("*", "10.0.0.1", 443, False),
        ("*", "2606:4700::1", 443, True),
        ("a.test", "8.8.8.8", 443, False),
    ],
)
def test_an_address_at_a_port(rule: str, address: str, port: int, allowed: bool) -> None:
    packed = hosts.address_of(address)
    assert packed
    assert Rules([rule]).allow_address(packed, port) == allowed


@pytest.mark.parametrize(
    "text",
    [
        *("", ".", "a..b", "-a.test", "a b", "a/b", "http://a.test", "a.test/path", "b*.test"),
        *("*.*.test", "**", "*.", "a.test:", "a.test:0", "a.test:65536", "a.test:x", "[::1", "[]"),
        *("[::1]x", "10.0.0.0/33", "::/129", "10.0.0.0/", "1.2.3", "0x7f000001", "2130706433"),
        *("münchen.test", "a" * 64 + ".test", "a\0b", "a.test\n", "[a.test]:5x"),
    ],
)
def test_what_is_no_entry(text: str) -> None:
    with pytest.raises(ValueError, match=r"is|bracket"):
        hosts.parse(text)
    assert list(hosts.faults([text, "a.test"])) != []


PRIVATE = [
    *("127.0.0.1", "127.255.255.255", "0.0.0.0", "10.1.2.3", "172.16.0.1", "172.31.255.255"),
    *("192.168.1.1", "169.254.169.254", "100.64.0.1", "224.0.0.1", "255.255.255.255", "240.0.0.1"),
    *("::", "::1", "fe80::1", "fc00::1", "fd12:3456::1", "ff02::1", "::ffff:127.0.0.1"),
    *("::ffff:10.0.0.1", "::127.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a00:1", "2002:7f00:1::"),
    *("2001:0:4136:e378::1", "2001:db8::1", "100::1", "fec0::1", "64:ff9b:1::1"),
]
PUBLIC = [
    *("8.8.8.8", "1.1.1.1", "172.32.0.1", "172.15.0.1", "100.128.0.1", "11.0.0.1", "223.255.255.1"),
    *("2606:4700:4700::1111", "2a00:1450::1", "::ffff:8.8.8.8", "64:ff9b::808:808"),
]


@pytest.mark.parametrize(
    ("text", "public"), [(t, False) for t in PRIVATE] + [(t, True) for t in PUBLIC]
)
def test_which_addresses_are_out_in_the_internet(text: str, public: bool) -> None:
    address = hosts.address_of(text)
    assert address
    assert hosts.is_public(address) == public


@given(st.ip_addresses())
@example(ipaddress.ip_address("192.0.0.9"))
def test_nothing_is_public_that_python_calls_private_or_of_this_host(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    """Python's own lists are older or newer than ours; ours is the stricter one."""
    if hosts.is_public(address.packed) and not getattr(address, "ipv4_mapped", None):
        nat64 = ipaddress.ip_network("64:ff9b::/96")
        assert address in nat64 or not (
            address.is_private or address.is_loopback or address.is_link_local
            or address.is_multicast or address.is_unspecified
        )  # fmt: skip


@given(st.text(max_size=80) | st.from_regex(r"[*a-z0-9.:/\[\]-]{0,40}", fullmatch=True))
def test_any_text_is_an_entry_or_a_fault(text: str) -> None:
    try:
        rule = hosts.parse(text)
    except ValueError:
        return
    assert rule.network or rule.name == "*" or hosts.is_name(rule.name.removeprefix("*."))


@given(st.binary(min_size=4, max_size=4) | st.binary(min_size=16, max_size=16), st.data())
def test_a_network_holds_what_pythons_own_does(address: bytes, data: st.DataObject) -> None:
    bits = data.draw(st.integers(0, len(address) * 8))
    other = data.draw(st.binary(min_size=len(address), max_size=len(address)))
    ours = hosts.Network(address=address, bits=bits)
    theirs = ipaddress.ip_network((address, bits), strict=False)
    assert ours.holds(other) == (ipaddress.ip_address(other) in theirs)
    assert ours.holds(address)
