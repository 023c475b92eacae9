"""The grammar of ports."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyspaces.features.network import ports
from pyspaces.features.network.values import Port


def published(text: str) -> list[Port]:
    return [Port(**fields) for fields in ports.published(text)]


@pytest.mark.parametrize(
    ("text", "place", "inside"),
    [
        ("8080:80", "127.0.0.1:8080/tcp", 80),
        ("0:80", "127.0.0.1:0/tcp", 80),
        ("53:53/udp", "127.0.0.1:53/udp", 53),
        ("53:53/tcp", "127.0.0.1:53/tcp", 53),
        ("0.0.0.0:8080:80", "0.0.0.0:8080/tcp", 80),
        ("[::1]:8080:80", "[::1]:8080/tcp", 80),
        ("[::]:8080:80/udp", "[::]:8080/udp", 80),
    ],
)
def test_a_port_that_is_published(text: str, place: str, inside: int) -> None:
    (port,) = published(text)
    assert (port.place(), port.inside) == (place, inside)


@pytest.mark.parametrize(
    ("text", "place", "inside"),
    [
        ("80:8080", "127.0.0.1:8080/tcp", 80),
        ("80:10.0.0.5:8080", "10.0.0.5:8080/tcp", 80),
        ("53:[fe80::1]:5353/udp", "[fe80::1]:5353/udp", 53),
    ],
)
def test_a_port_that_is_forwarded(text: str, place: str, inside: int) -> None:
    (fields,) = ports.forwarded(text)
    port = Port(**fields)
    assert (port.place(), port.inside) == (place, inside)


def test_ranges() -> None:
    pairs = [(port.outside, port.inside) for port in published("8000-8002:80-82")]
    assert pairs == [(8000, 80), (8001, 81), (8002, 82)]
    assert [(p.outside, p.inside) for p in published("0:80-81")] == [(0, 80), (0, 81)]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("80", "is not of the form"),
        (":80", "is not of the form"),
        ("80:", "is not of the form"),
        ("a:80", "'a' is not a port"),
        ("80:65536", "'65536' is not a port"),
        ("1:2/sctp", "'sctp' is neither tcp nor udp"),
        ("1:2/", "'' is neither tcp nor udp"),
        ("localhost:1:2", "'localhost' is not an IP address"),
        ("::1:8080:80", "is not an IP address"),
        ("[127.0.0.1]:1:2", "is not an IP address"),
        ("[::1:1:2", "is not an IP address"),
        ("8-9:8", "the two ranges have 2 and 1 ports"),
        ("9-8:1-2", "9-8 is not a range"),
        ("0-5:0-5", "0-5 is not a range"),
        ("²:1", "'²' is not a port"),
        ("127.0.0.1\0:1:2", "is not an IP address"),
    ],
)
def test_what_is_none(text: str, fault: str) -> None:
    with pytest.raises(ValueError, match=fault.replace("²", ".")) as caught:
        ports.published(text)
    assert fault in str(caught.value)


@given(st.text(alphabet="0123456789:.-[]/udptcpa\0é", max_size=30) | st.text(max_size=30))
def test_any_text_is_ports_or_a_fault(text: str) -> None:
    for parse in (ports.published, ports.forwarded):
        try:
            found = parse(text)
        except ValueError:
            continue
        assert found
        assert all(one["inside"] <= 65535 and ports.family_of(one["address"]) for one in found)


@given(
    st.integers(1, 65535), st.integers(0, 65535), st.ip_addresses(), st.sampled_from(["tcp", "udp"])
)
def test_a_port_as_it_is_shown_is_read_again(
    inside: int, outside: int, address: object, protocol: str
) -> None:
    port = Port(inside=inside, outside=outside, address=str(address), protocol=protocol)
    place, _, _ = port.place().partition("/")
    assert published(f"{place}:{inside}/{protocol}") == [port]
