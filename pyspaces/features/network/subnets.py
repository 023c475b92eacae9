"""IP subnets and their addresses: the arithmetic of networks, and of addresses on a bridge.

Pure; runs in any process. Addresses are numbers here, and texts everywhere else.
"""

from __future__ import annotations

import _socket

from pyspaces.feature import is_number
from pyspaces.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

# By the bits of an address: its family, the lengths of a prefix, and what no network of hosts has,
# as first address and bits. IPv4: this host, loopback, multicast, reserved. IPv6: unspecified,
# loopback and mapped addresses; those of one link, which each interface has of itself; multicast.
_FAMILIES = {32: _socket.AF_INET, 128: _socket.AF_INET6}
_LENGTHS = {32: (8, 30), 128: (16, 126)}
_SPECIAL = {
    32: ((0, 8), (127 << 24, 8), (224 << 24, 4), (240 << 24, 4)),
    128: ((0, 8), (0xFE80 << 112, 10), (0xFF << 120, 8)),
}
# The largest prime of 40 bits.
_MODULUS = (1 << 40) - 87
_FORM = "10.77.0.0/24 or fd00:77::/64"


class Subnet(Record):
    """A subnet: its first address, which is that of the network itself, and the prefix length.

    size: the bits of its addresses, 32 or 128.
    """

    first: int
    bits: int
    size: int = 32

    def __str__(self) -> str:
        return f"{text_of(self.first, self.size)}/{self.bits}"

    @property
    def gateway(self) -> int:
        """The address of the bridge."""
        return self.first + 1

    @property
    def last(self) -> int:
        """The last address; of IPv4, for broadcasts."""
        return self.first + (1 << (self.size - self.bits)) - 1

    def text(self, address: int) -> str:
        """Return one of its addresses as a text."""
        return text_of(address, self.size)

    def for_commands(self) -> Iterator[int]:
        """Yield the addresses that commands can have."""
        yield from range(self.gateway + 1, self.last + (self.size == 128))

    def holds(self, text: str) -> bool:
        """Return whether an address, as a text, is in the subnet."""
        number, size = address_of(text)
        return size == self.size and self.first <= number <= self.last

    def fault(self, address: int) -> str | None:
        """Return why a command cannot have an address, or None."""
        if not self.first <= address <= self.last:
            return f"is not in the subnet {self}"
        if address == self.gateway:
            return "is the address of the network itself"
        return self.fault_of_host(address)

    def fault_of_host(self, address: int) -> str | None:
        """Return why no host can have an address of this subnet, or None."""
        if address == self.first:
            return f"is the first address of {self}"
        if address == self.last and self.size == 32:
            return f"is the last address of {self}"
        return None


def subnet_of(text: str) -> Subnet:
    """Read a subnet, as in 10.77.0.0/24. Raises ValueError."""
    place, slash, length = text.partition("/")
    if not slash or not is_number(length, 3):
        raise ValueError(f"{text[:60]!r} is not a subnet such as {_FORM}")
    (first, size), bits = address_of(place), int(length)
    least, most = _LENGTHS[size]
    if not least <= bits <= most:
        raise ValueError(f"{text}: the prefix has a length of {least} to {most}")
    if rest := first % (1 << (size - bits)):
        begin = text_of(first - rest, size)
        raise ValueError(f"{text}: does not begin there: did you mean {begin}/{bits}?")
    _check_usual(text, first, size)
    return Subnet(first=first, bits=bits, size=size)


def subnets_of(texts: Iterable[str]) -> tuple[Subnet, ...]:
    """Read the subnets of one network: at most one of each family. Raises ValueError."""
    found = tuple(map(subnet_of, texts))
    for at, one in enumerate(found):
        if any(one.size == other.size for other in found[:at]):
            raise ValueError(f"{one}: a network has one subnet of IPv4 and one of IPv6 at most")
    return found


def host_of(text: str) -> tuple[str, Subnet]:
    """Read the address of a host with the length of its prefix, as in 10.0.0.5/24.

    Returns the address and the subnet that it is in. Raises ValueError.
    """
    place, slash, length = text.partition("/")
    if not slash or not is_number(length, 3):
        raise ValueError(f"{text[:60]!r} is not an address with a prefix, such as 10.0.0.5/24")
    (number, size), bits = address_of(place), int(length)
    if not 0 < bits <= size:
        raise ValueError(f"{text}: the prefix has a length of 1 to {size}")
    _check_usual(text, number, size)
    subnet = Subnet(first=number - number % (1 << (size - bits)), bits=bits, size=size)
    # Of shorter subnets, every address can be that of a host: RFC 3021, RFC 6164.
    if bits < size - 1 and (fault := subnet.fault_of_host(number)):
        raise ValueError(f"{text}: {fault}")
    return text_of(number, size), subnet


def address_of(text: str) -> tuple[int, int]:
    """Read an IP address, as in 10.77.0.2 or fd00::2; return it and its bits. Raises ValueError."""
    for size, family in _FAMILIES.items():
        try:
            return int.from_bytes(_socket.inet_pton(family, text)), size
        except (OSError, ValueError):  # ValueError: a NUL, or what has no encoding
            continue
    raise ValueError(f"{text[:60]!r} is not an IP address")


def text_of(address: int, size: int = 32) -> str:
    """Return an address as a text."""
    return _socket.inet_ntop(_FAMILIES[size], address.to_bytes(size // 8))


def hardware_address(text: str) -> bytes:
    """Return the hardware address of an interface with an IP address.

    Who has that after another one has both, and is found by those who remember them.
    """
    return b"\2" + (address_of(text)[0] % _MODULUS).to_bytes(5)


def _check_usual(text: str, address: int, size: int) -> None:
    for special, bits in _SPECIAL[size]:
        if address >> (size - bits) == special >> (size - bits):
            raise ValueError(f"{text}: addresses of {text_of(special, size)}/{bits} are special")
