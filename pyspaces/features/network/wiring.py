"""The grammar of --veth: the name of a bridge of the host, and addresses on it.

Pure; runs in the parent. Loaded only if a launch is connected with a bridge.
"""

from __future__ import annotations

from pyspaces.features.network import subnets
from pyspaces.kernel import constants

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from pyspaces.features.network.subnets import Subnet

MOST = 100
_LINK_LOCAL = subnets.Subnet(first=0xFE80 << 112, bits=10, size=128)


def faults(bridge: str, addresses: Sequence[str], gateways: Sequence[str]) -> Iterator[str]:
    """Yield what is wrong with a connection, a line each."""
    if fault := name_fault(bridge):
        yield f"veth: {bridge[:60]!r} {fault}"
    if len(addresses) > MOST:
        yield f"ip: {len(addresses)} addresses, and a launch takes {MOST}"
    hosts: dict[str, Subnet] = {}
    for text in addresses:
        try:
            address, subnet = subnets.host_of(text)
        except ValueError as error:
            yield f"ip: {error}"
            continue
        if address in hosts:
            yield f"ip: {address}: is given twice"
        hosts[address] = subnet
    yield from _gateway_faults(gateways, hosts)


def name_fault(name: str) -> str | None:
    """Return why no interface can have a name, or None: dev_valid_name() in net/core/dev.c."""
    if not name or name in (".", "..") or any(c in "/:\0" or c.isspace() for c in name):
        return "cannot be the name of a bridge"
    if len(name.encode(errors="surrogatepass")) >= constants.IFNAMSIZ:
        return f"is longer than the name of a bridge can be, {constants.IFNAMSIZ - 1} bytes"
    return None


def _gateway_faults(gateways: Iterable[str], hosts: dict[str, Subnet]) -> Iterator[str]:
    sizes = []
    for text in gateways:
        try:
            number, size = subnets.address_of(text)
        except ValueError as error:
            yield f"gateway: {error}"
            continue
        sizes.append(size)
        if subnets.text_of(number, size) in hosts:
            yield f"gateway: {text}: is the address of the command itself"
        elif not any(one.holds(text) for one in (*hosts.values(), _LINK_LOCAL)):
            yield f"gateway: {text}: is in no subnet of the addresses of --ip"
    if len(set(sizes)) < len(sizes):
        yield "gateway: there is one of IPv4 and one of IPv6 at most"
