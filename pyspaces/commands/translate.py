"""`pyspaces translate`: print our command line for one of another tool."""

from __future__ import annotations

import click

from pyspaces.commands.optional import help_option
from pyspaces.commands.say import put, say
from pyspaces.visible import visible

_HELP = """Print the command line of pyspaces that does what one of bwrap, unshare, nsenter,
lsns or `podman run` does.

\b
pyspaces translate -- bwrap --ro-bind / / --unshare-net make
pyspaces translate -- unshare -r --net ip link

What has no counterpart is left out, and named on standard error.
"""
_EPILOG = "Exit status: 0; 1 if something has no counterpart; 2 for usage errors."


def _translate(words: tuple[str, ...]) -> int:
    from pyspaces.commands.words import translating
    from pyspaces.launch import preview

    # As root, if `sudo` is in front.
    caller = translating.this_caller()
    before = ["sudo"] if words[:1] == ("sudo",) else []
    if before:
        caller = caller.replace(uid=0, gid=0)
    found = translating.of(words[len(before) :], caller)
    put(preview.joined([*before, "pyspaces", *found.words]) + "\n")
    for text in found.missing:
        say(f"pyspaces: no counterpart: {visible(text)}")
    for text in found.notes:
        say(f"pyspaces: note: {visible(text)}")
    return 1 if found.missing else 0


translate = click.Command(
    "translate",
    help=_HELP,
    epilog=_EPILOG,
    options_metavar="[OPTIONS] [--]",
    add_help_option=False,
    callback=_translate,
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
    params=[
        help_option(),
        click.Argument(["words"], nargs=-1, metavar="COMMAND-LINE...", type=click.UNPROCESSED),
    ],
)
