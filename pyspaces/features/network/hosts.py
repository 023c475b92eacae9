"""Allow-lists of hosts: their syntax, and which names and addresses they allow.

Pure; runs in the parent, which checks them, and in the proxy.
"""

from __future__ import annotations

import _socket

from pyspaces.feature import is_number
from pyspaces.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

# For a rule without a port: those of http and https.
USUAL_PORTS = (80, 443)
LONGEST = 253  # characters of a host name: RFC 1123
_FAMILIES = {4: _socket.AF_INET, 16: _socket.AF_INET6}

# The registries of special-purpose addresses of IANA (RFC 6890), multicast and what is reserved:
# nothing that is out in the internet. Of IPv6, only 2000::/3 is out there at all.
_PRIVATE = (
    *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12"),
    *("192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15"),
    *("198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/3"),
    *("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20"),
)
_PUBLIC_6 = "2000::/3"
# What carries an IPv4 address in its last bytes, and means that: mapped ones, and NAT64 (RFC 6052).
_CARRYING = ("::ffff:0:0/96", "64:ff9b::/96")


class Network(Record):
    """All addresses that begin with the same bits."""

    address: bytes
    bits: int

    def holds(self, address: bytes) -> bool:
        """Return whether an address, as 4 or 16 bytes, is one of them."""
        if len(address) != len(self.address):
            return False
        rest = len(address) * 8 - self.bits
        return int.from_bytes(address) >> rest == int.from_bytes(self.address) >> rest


class Rule(Record):
    """One entry of an allow-list.

    name: a host name, or one that begins with `*.` for all names below, or `*` for all; or empty.
    network: the addresses that it names otherwise. ports: those that it allows; empty for all.
    """

    name: str = ""
    network: Network | None = None
    ports: tuple[int, ...] = USUAL_PORTS

    def allows_port(self, port: int) -> bool:
        """Return whether it allows a port."""
        return not self.ports or port in self.ports

    def allows_name(self, name: str) -> bool:
        """Return whether it allows a host name, in lower case."""
        if self.name == "*":
            return True
        if self.name.startswith("*."):
            return name.endswith(self.name[1:])
        return bool(self.name) and name == self.name


class Rules:
    """An allow-list."""

    def __init__(self, texts: Iterable[str]) -> None:
        self._rules = [parse(text) for text in texts]

    def allow_name(self, name: str, port: int) -> bool:
        """Return whether a client may ask for a host name and port."""
        return any(rule.allows_name(name) for rule in self._at(port))

    def allow_address(self, address: bytes, port: int) -> bool:
        """Return whether a client may ask for an address instead of a name."""
        named = self.name_address(address, port)
        everything = any(rule.name == "*" for rule in self._at(port))
        return named or (everything and is_public(address))

    def name_address(self, address: bytes, port: int) -> bool:
        """Return whether a rule lists an address. Such an address need not be public."""
        return any(rule.network and rule.network.holds(address) for rule in self._at(port))

    def _at(self, port: int) -> Iterator[Rule]:
        return (rule for rule in self._rules if rule.allows_port(port))


def parse(text: str) -> Rule:
    """Read NAME, *.NAME, *, an address or ADDRESS/BITS, each with or without :PORT or :*.

    An IPv6 address needs brackets if a port follows. Raises ValueError.
    """
    host, port = _split(text)
    ports = USUAL_PORTS if port is None else _ports(text, port)
    if network := _network(text, host):
        return Rule(network=network, ports=ports)
    name = host if host == "*" else host.lower().removesuffix(".")
    if host != "*" and not is_name(name.removeprefix("*.")):
        raise ValueError(
            f"{text[:60]!r} is neither a host name, such as example.org or *.example.org, nor an"
            " address"
        )
    return Rule(name=name, ports=ports)


def faults(texts: Iterable[str]) -> Iterator[str]:
    """Yield what is wrong with an allow-list, a line each."""
    for text in texts:
        try:
            parse(text)
        except ValueError as error:
            yield str(error)


def is_name(text: str) -> bool:
    """Return whether a text, in lower case, is a host name. Non-ASCII names need their xn-- form.

    Underscores are allowed, since they are in use, though not in RFC 1123. The last label must not
    be a number: the C library would take 127.1 or 0x7f000001 for an address.
    """
    labels = text.split(".")
    if len(text) > LONGEST or not all(map(_is_label, labels)):
        return False
    last = labels[-1]
    return not (last.isdigit() or last.startswith("0x"))


def _is_label(text: str) -> bool:
    plain = text.isascii() and text.replace("-", "a").replace("_", "a").isalnum()
    return plain and len(text) < 64 and text[0] != "-" and text[-1] != "-" and text == text.lower()


def address_of(text: str) -> bytes | None:
    """Return an address as 4 or 16 bytes, or None for other texts. Takes no brackets."""
    for family in (_socket.AF_INET, _socket.AF_INET6):
        try:
            return _socket.inet_pton(family, text)
        except (OSError, ValueError):
            continue
    return None


def text_of(address: bytes) -> str:
    """Return an address as text."""
    return _socket.inet_ntop(_FAMILIES[len(address)], address)


def is_public(address: bytes) -> bool:
    """Return whether an address is on the internet, not on this host or a private network.

    address: 4 or 16 bytes.
    """
    for network in _CARRYING_NETWORKS:
        if network.holds(address):
            return is_public(address[12:])
    if len(address) == 16 and not _PUBLIC_6_NETWORK.holds(address):
        return False
    return not any(network.holds(address) for network in _PRIVATE_NETWORKS)


def _split(text: str) -> tuple[str, str | None]:
    """Return the host and the port, if one is given."""
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and rest[0] != ":"):
            raise ValueError(f"{text[:60]!r}: a bracket is left open, or something follows it")
        return host, rest[1:] if rest else None
    if text.count(":") > 1:
        return text, None
    host, colon, port = text.partition(":")
    return host, port if colon else None


def _ports(text: str, port: str) -> tuple[int, ...]:
    if port == "*":
        return ()
    if not is_number(port, 5) or not 0 < int(port) < 65536:
        raise ValueError(f"{text[:60]!r}: {port[:20]!r} is neither a port nor *")
    return (int(port),)


def _network(text: str, host: str) -> Network | None:
    """Return the network that a text stands for, or None if it is a host name."""
    first, slash, bits = host.partition("/")
    address = address_of(first)
    if address is None:
        return None
    longest = len(address) * 8
    if not slash:
        return Network(address=address, bits=longest)
    if not is_number(bits, 3) or int(bits) > longest:
        raise ValueError(f"{text[:60]!r}: {bits[:20]!r} is not a number of bits up to {longest}")
    return Network(address=address, bits=int(bits))


def _known(text: str) -> Network:
    network = _network(text, text)
    assert network
    return network


_PRIVATE_NETWORKS = tuple(map(_known, _PRIVATE))
_CARRYING_NETWORKS = tuple(map(_known, _CARRYING))
_PUBLIC_6_NETWORK = _known(_PUBLIC_6)
