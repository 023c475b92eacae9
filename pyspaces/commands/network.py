"""`pyspaces network`: create, list and remove networks of several commands."""

from __future__ import annotations

from functools import partial

import click

from pyspaces.commands import table
from pyspaces.commands.optional import Command, Group, help_option, listing_options
from pyspaces.commands.say import put
from pyspaces.commands.targets import for_each
from pyspaces.host import networks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyspaces.host.networks import Network

_HELP = """Create, list and remove networks that several commands share.

A command is on a network with `pyspaces run --net=NAME`. Commands on one network reach each other
by address and by host name (--hostname), and nothing else.
"""
_CREATE = """Create the network NAME.

It needs no root. A process keeps it until `pyspaces network remove NAME`.
"""
_LIST = """List your networks, and the commands on each."""
_REMOVE = """Remove the networks called NAME.

A network that commands are on is removed only with --force.
"""
_HEADINGS = ["NAME", "SUBNETS", "COMMANDS"]


def complete_network(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Complete the name of a network."""
    return [name for name in networks.names() if name.startswith(incomplete)]


def _list(*, as_json: bool, noheadings: bool) -> None:
    found = networks.networks()
    if as_json:
        import json  # 2 ms that only this needs

        put(json.dumps([network.to_data() for network in found], indent=2) + "\n")
        return
    cells = [_row(network) for network in found]
    if not noheadings:
        cells.insert(0, _HEADINGS)
    limit = table.terminal_width()
    shown = table.lines(cells, right=[False] * 3, limit=limit, shrinkable=[2])
    put("".join(line + "\n" for line in shown))


def _row(network: Network) -> list[str]:
    members = [
        f"{address}={member.hostname}" if member.hostname else address
        for member in network.members
        for address in member.addresses
    ]
    return [network.name, ",".join(network.subnets), table.printable(",".join(members)) or "-"]


def _remove(names: tuple[str, ...], *, force: bool) -> None:
    for_each(names, partial(networks.remove, force=force))


network = Group(
    "network",
    help=_HELP,
    others={
        **dict.fromkeys(("delete", "drop", "rm", "stop"), "remove NAME"),
        **dict.fromkeys(("ls", "ps", "show", "inspect"), "list"),
        **dict.fromkeys(("add", "new", "start"), "create NAME"),
    },
    add_help_option=False,
    no_args_is_help=False,
    params=[help_option()],
    commands={
        "create": Command(
            "create",
            help=_CREATE,
            short_help="Create a network.",
            add_help_option=False,
            callback=networks.create,
            params=[
                click.Option(
                    ["subnets_of_it", "--subnet"],
                    metavar="SUBNET",
                    multiple=True,
                    help=f"the subnet of its addresses ({networks.SUBNET}); given twice, one of"
                    " IPv4 and one of IPv6",
                ),
                help_option(),
                click.Argument(["name"], metavar="NAME"),
            ],
        ),
        "list": Command(
            "list",
            help=_LIST,
            short_help="List networks, and the commands on them.",
            add_help_option=False,
            callback=_list,
            params=[
                *listing_options(),
                help_option(),
            ],
        ),
        "remove": Command(
            "remove",
            help=_REMOVE,
            short_help="Remove networks.",
            add_help_option=False,
            callback=_remove,
            params=[
                click.Option(
                    ["-f", "--force"], is_flag=True, help="cut off the commands that are on it"
                ),
                help_option(),
                click.Argument(
                    ["names"],
                    nargs=-1,
                    required=True,
                    metavar="NAME...",
                    shell_complete=complete_network,
                ),
            ],
        ),
    },
)
