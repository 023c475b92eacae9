"""IPv4 subnets and their addresses: the arithmetic of the networks of several commands.

Pure; runs in any process. Addresses are numbers here, and texts everywhere else.
"""

from __future__ import annotations

from pyspaces.feature import is_number
from pyspaces.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_MOST_BITS, _LEAST_BITS = 30, 8
# What no network of hosts has: this host, loopback, multicast, reserved. First address, and bits.
_SPECIAL = ((0, 8), (127 << 24, 8), (224 << 24, 4), (240 << 24, 4))


class Subnet(Record):
    """A subnet: its first address, which is that of the network itself, and the prefix length."""

    first: int
    bits: int

    def __str__(self) -> str:
        return f"{text_of(self.first)}/{self.bits}"

    @property
    def gateway(self) -> int:
        """The address of the bridge."""
        return self.first + 1

    @property
    def last(self) -> int:
        """The broadcast address."""
        return self.first + (1 << (32 - self.bits)) - 1

    def for_commands(self) -> Iterator[int]:
        """Yield the addresses that commands can have."""
        yield from range(self.gateway + 1, self.last)

    def fault(self, address: int) -> str | None:
        """Return why a command cannot have an address, or None."""
        if not self.first <= address <= self.last:
            return f"is not in the subnet {self}"
        if address == self.gateway:
            return "is the address of the network itself"
        if address in (self.first, self.last):
            return f"is the {'first' if address == self.first else 'last'} address of {self}"
        return None


def subnet_of(text: str) -> Subnet:
    """Read a subnet, as in 10.77.0.0/24. Raises ValueError."""
    place, slash, length = text.partition("/")
    if not slash or not is_number(length, 2):
        raise ValueError(f"{text[:40]!r} is not a subnet such as 10.77.0.0/24")
    first, bits = address_of(place), int(length)
    if not _LEAST_BITS <= bits <= _MOST_BITS:
        raise ValueError(f"{text}: the prefix has a length of {_LEAST_BITS} to {_MOST_BITS}")
    if first % (1 << (32 - bits)):
        begin = first - first % (1 << (32 - bits))
        raise ValueError(f"{text}: does not begin there: did you mean {text_of(begin)}/{bits}?")
    for special, size in _SPECIAL:
        if first >> (32 - size) == special >> (32 - size):
            raise ValueError(f"{text}: addresses of {text_of(special)}/{size} are special")
    return Subnet(first=first, bits=bits)


def address_of(text: str) -> int:
    """Read an IPv4 address, as in 10.77.0.2. Raises ValueError."""
    parts = text.split(".")
    if len(parts) != 4 or not all(_is_byte(part) for part in parts):
        raise ValueError(f"{text[:40]!r} is not an IPv4 address")
    first, second, third, fourth = map(int, parts)
    return first << 24 | second << 16 | third << 8 | fourth


def text_of(address: int) -> str:
    """Return an address as a text."""
    return ".".join(str(address >> shift & 255) for shift in (24, 16, 8, 0))


def _is_byte(text: str) -> bool:
    # 010 is 8 for inet_aton(3).
    return is_number(text, 3) and int(text) < 256 and (text == "0" or text[0] != "0")
