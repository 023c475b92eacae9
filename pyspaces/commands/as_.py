"""`pyspaces as`: do what another tool would do with the same words.

A link to our script that is named like the tool leads here, too.
"""

from __future__ import annotations

import os
import sys

import click

from pyspaces import __version__
from pyspaces.commands.optional import help_option
from pyspaces.commands.say import put, say
from pyspaces.visible import visible

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pyspaces.commands.words.table import Word

_HELP = """Run a command line of bwrap, unshare, nsenter or lsns, as `pyspaces translate` prints it.

\b
pyspaces as bwrap --ro-bind /usr /usr --symlink usr/bin /bin --symlink usr/lib64 /lib64 ls /

If a word has no counterpart, nothing is run. A link to the script of pyspaces with the name of one
of these tools does the same.
"""
_VERSION = ("--version", "-V")
_ASK = {"bwrap": ("--help", "--version")}
_ASK_SHORT = ("--help", "-h", *_VERSION)


def carry_out(tool: str, words: Sequence[str]) -> int:
    """Do what `tool` would do with these words; return the exit status."""
    from pyspaces.commands.words import translating

    if tool not in translating.CALLED:
        raise click.UsageError(f"{tool!r}: choose from {', '.join(translating.CALLED)}")
    if words and words[0] in _ASK.get(tool, _ASK_SHORT):
        return _describe(tool, translating.TABLES[tool], version=words[0] in _VERSION)
    caller = translating.this_caller().replace(program=_this_program())
    found = translating.of([tool, *words], caller)
    if found.missing:
        raise translating.refusal(tool, found)
    if sys.stderr is not None and sys.stderr.isatty():  # and not in the log of a program
        for text in found.notes:
            say(f"pyspaces: note: {visible(text)}")
    return _launch([*found.words])


def _launch(words: list[str]) -> int:
    """Run a command line of ours."""
    from pyspaces.commands import fast

    ended = fast.launch(words)
    if ended is not None:
        return ended
    from pyspaces.commands import group  # what few lines need

    return group.main(words, click.get_current_context().obj)


def _this_program() -> tuple[str, ...]:
    """Return the words by which the command can start us again, if it can see our files."""
    path = os.path.realpath(sys.argv[0])
    return (path,) if os.access(path, os.X_OK) else (sys.executable, "-m", "pyspaces")


def _describe(tool: str, table: Mapping[str, Word], *, version: bool) -> int:
    """Print how the tool is used, or which program this is."""
    if version:
        put(f"pyspaces {__version__}, as {tool}\n")
        return 0
    rows = "".join(f"    {name}\n" for name, word in table.items() if not word.why)
    # As what it was called, by a link.
    name = sys.argv[0] if sys.argv[0].rpartition("/")[2] == tool else f"pyspaces as {tool}"
    behind = "[NAMESPACE]" if tool == "lsns" else "[--] COMMAND [ARGS...]"
    put(f"usage: {name} [OPTIONS...] {behind}\n\n{rows}")
    return 0


as_ = click.Command(
    "as",
    help=_HELP,
    epilog="Exit status: as of `pyspaces run`; 2 also for a word that has no counterpart.",
    options_metavar="[OPTIONS]",
    add_help_option=False,
    callback=carry_out,
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
    params=[
        help_option(),
        click.Argument(["tool"], metavar="TOOL"),
        click.Argument(["words"], nargs=-1, metavar="[WORDS]...", type=click.UNPROCESSED),
    ],
)
