"""`pyspaces help`: open a man page of this installation."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import click

from pyspaces.commands.optional import help_option
from pyspaces.commands.say import put
from pyspaces.errors import SpaceError, UsageFault
from pyspaces.settings import nearest

_HELP = """Open the man page about TOPIC: a command, such as `run`, or `security`.

Without TOPIC, print the list of commands and of topics.
"""
_NAME = "pyspaces"


def pages() -> dict[str, Path]:
    """Return the man pages that came with this installation, by topic."""
    places = Path(sys.prefix, "share", "man"), Path(__file__).parents[2] / "man"
    found: dict[str, Path] = {}
    for place in places:
        for path in sorted(place.glob(f"**/{_NAME}*.[1-9]")):
            found.setdefault(path.stem.removeprefix(f"{_NAME}-"), path)
    return found


def _open(topic: str | None) -> None:
    known = pages()
    if topic is None:
        ctx = click.get_current_context().parent
        assert ctx
        put(f"{ctx.get_help()}\n\nTopics of `pyspaces help`: {', '.join(sorted(known))}\n")
        return
    if topic not in known:
        near = nearest.words(topic, known)
        hint = f"did you mean {' or '.join(near)}?" if near else f"topics: {', '.join(known)}"
        raise UsageFault([f"help: no such topic: {topic}"], hint=hint)
    reader = shutil.which("man") or shutil.which("mandoc")
    if reader is None:
        hint = f"the page is {known[topic]}; `pyspaces {topic} --help` is shorter"
        raise SpaceError("help: man is not installed", hint=hint)
    sys.stdout.flush()
    os.execv(reader, [reader, str(known[topic])])


def _complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    return [topic for topic in sorted(pages()) if topic.startswith(incomplete)]


help_ = click.Command(
    "help",
    help=_HELP,
    callback=_open,
    add_help_option=False,
    params=[
        help_option(),
        click.Argument(["topic"], required=False, metavar="[TOPIC]", shell_complete=_complete),
    ],
)
