"""The syntax of ports, and their checks.

Pure; runs in the parent. Loaded only if a launch has ports.
"""

from __future__ import annotations

import _socket

from pyspaces.feature import is_number

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any, TypeVar

    from pyspaces.features.network.values import Network, Port
    from pyspaces.plan import Plan

    Fields = dict[str, Any]

    Thing = TypeVar("Thing")

PROTOCOLS = ("tcp", "udp")
LARGEST = 65535
# Each takes a descriptor in the launcher, and all of them go through one message: SCM_MAX_FD, 253.
MOST = 200


def published(text: str) -> list[Fields]:
    """Read [ADDRESS:]OUTSIDE:INSIDE[/udp], with ports or ranges, into fields. Raises ValueError."""
    body, protocol = protocol_of(text)
    ends, _, inside = body.rpartition(":")
    address, outside = split_address(ends, text)
    if not outside or not inside:
        raise ValueError(f"{text!r} is not of the form [ADDRESS:]OUTSIDE:INSIDE[/udp]")
    return _paired(text, inside, outside, address, protocol)


def forwarded(text: str) -> list[Fields]:
    """Read INSIDE:[ADDRESS:]OUTSIDE[/udp], with ports or ranges, into fields. Raises ValueError."""
    body, protocol = protocol_of(text)
    inside, _, ends = body.partition(":")
    address, outside = split_address(ends, text)
    if not outside or not inside:
        raise ValueError(f"{text!r} is not of the form INSIDE:[ADDRESS:]OUTSIDE[/udp]")
    return _paired(text, inside, outside, address, protocol)


def listening(text: str) -> Fields:
    """Read the fields of [NAME=][ADDRESS:]PORT[/udp]. Raises ValueError."""
    name, equals, rest = text.rpartition("=")
    if equals and not is_name(name):
        raise ValueError(f"{text!r}: a name has letters, digits and any of _.-")
    body, protocol = protocol_of(rest)
    address, port = split_address(body, text)
    port_number = number(text, port)
    return {"port": port_number, "address": address, "protocol": protocol, "name": name}


def is_name(name: str) -> bool:
    """Return whether a text can name a socket in LISTEN_FDNAMES, whose separator is a colon."""
    return 0 < len(name) <= 255 and name.isascii() and all(c.isalnum() or c in "_.-" for c in name)


def protocol_of(text: str) -> tuple[str, str]:
    """Return the text without the protocol, and the protocol. Raises ValueError."""
    body, slash, protocol = text.partition("/")
    if slash and protocol not in PROTOCOLS:
        raise ValueError(f"{text!r}: {protocol!r} is neither tcp nor udp")
    return body, protocol or "tcp"


def split_address(text: str, whole: str, default: str = "127.0.0.1") -> tuple[str, str]:
    """Return the address and the rest of ADDRESS:REST; an IPv6 one has brackets."""
    address, colon, rest = text.rpartition(":")
    if not colon:
        return default, rest
    bare = address[1:-1] if address[:1] == "[" and address[-1:] == "]" else address
    if (":" in bare) != (bare != address) or not family_of(bare):
        raise ValueError(f"{whole!r}: {address!r} is not an IP address, such as 0.0.0.0 or [::1]")
    return bare, rest


def family_of(address: str) -> int:
    """Return AF_INET or AF_INET6, or 0 if the text is not an address."""
    for family in (_socket.AF_INET, _socket.AF_INET6):
        try:
            _socket.inet_pton(family, address)
        except (OSError, ValueError):  # ValueError: a NUL, or what has no encoding
            continue
        return family
    return 0


def _paired(text: str, inside: str, outside: str, address: str, protocol: str) -> list[Fields]:
    insides, outsides = _range(text, inside), _range(text, outside)
    chosen = [0] * len(insides) if outsides == range(1) else [*outsides]  # 0: by the kernel
    if len(insides) != len(chosen):
        raise ValueError(f"{text!r}: the two ranges have {len(outsides)} and {len(insides)} ports")
    return [
        {"inside": one, "outside": other, "address": address, "protocol": protocol}
        for one, other in zip(insides, chosen, strict=True)
    ]


def _range(text: str, ports: str) -> range:
    first, dash, last = ports.partition("-")
    begin = number(text, first)
    end = number(text, last) if dash else begin
    if end < begin or (dash and not begin):
        raise ValueError(f"{text!r}: {ports} is not a range of ports")
    return range(begin, end + 1)


def number(text: str, digits: str) -> int:
    """Return a port. Raises ValueError."""
    if is_number(digits, 5) and int(digits) <= LARGEST:
        return int(digits)
    raise ValueError(f"{text!r}: {digits!r} is not a port: a number up to {LARGEST}")


def faults(network: Network, plan: Plan) -> Iterator[str]:
    """Yield what is wrong with the ports of a plan, a line each."""
    for name in ("publish", "forward"):
        yield from _crossing_faults(name, getattr(network, name), plan)
    if any(not port.outside for port in network.forward):
        yield "forward: 0 is not a port to connect to"
    yield from _doubles("publish", network.publish, lambda port: port.outside and port.place())
    yield from _doubles("forward", network.forward, lambda port: f"{port.inside}/{port.protocol}")
    yield from _listen_faults(network)
    if network.allow_host:
        yield from _proxy_faults(network, plan)


def _crossing_faults(name: str, ports: tuple[Port, ...], plan: Plan) -> Iterator[str]:
    apart = plan.has("net") or "net" in plan.existing.joining.names()
    if ports and not apart:
        yield f"{name}: needs a new net namespace: add --net"
    if ports and plan.has("net") and not plan.net.loopback:
        yield f"{name}: cannot be combined with --no-loopback: inside, ports are on lo"
    if len(ports) > MOST:
        yield f"{name}: {len(ports)} ports, and a launch takes {MOST}"
    for port in ports:
        yield from (f"{name}: {fault}" for fault in _port_faults(port))


def _listen_faults(network: Network) -> Iterator[str]:
    if len(network.listen) > MOST:
        yield f"listen: {len(network.listen)} sockets, and a launch takes {MOST}"
    for one in network.listen:
        faults = _end_faults(one.address, one.port, one.protocol)
        yield from (f"listen: {fault}" for fault in faults)
        if one.name and not is_name(one.name):
            yield f"listen: {one.name!r}: a name has letters, digits and any of _.-"
    yield from _doubles("listen", network.listen, lambda one: one.port and one.place())


def _proxy_faults(network: Network, plan: Plan) -> Iterator[str]:
    from pyspaces.features.network import hosts  # few launches have a proxy

    # One that exists may have routes of its own: the list would keep nobody from anything.
    if not plan.has("net"):
        yield "allow-host: needs a new net namespace: add --net"
    elif not plan.net.loopback:
        yield "allow-host: cannot be combined with --no-loopback: the proxy is on lo"
    yield from (f"allow-host: {fault}" for fault in hosts.faults(network.allow_host))


def _port_faults(port: Port) -> Iterator[str]:
    yield from _end_faults(port.address, port.outside, port.protocol)
    if not 0 < port.inside <= LARGEST:
        yield f"{port.inside}: is not a port inside: a number from 1 to {LARGEST}"


def _end_faults(address: str, port: int, protocol: str) -> Iterator[str]:
    if protocol not in PROTOCOLS:
        yield f"{protocol!r} is neither tcp nor udp"
    if not family_of(address):
        yield f"{address!r} is not an IP address"
    if not 0 <= port <= LARGEST:
        yield f"{port}: is not a port: a number up to {LARGEST}"


def _doubles(
    name: str, things: Iterable[Thing], key: Callable[[Thing], str | int]
) -> Iterator[str]:
    seen: set[str | int] = set()
    for one in things:
        place = key(one)
        if place and place in seen:
            yield f"{name}: {place}: is given twice"
        seen.add(place)
