"""Messages on standard error, and results on standard output."""

from __future__ import annotations

import click

from pyspaces import status
from pyspaces.errors import SpaceError
from pyspaces.visible import visible_lines


def say(text: str) -> None:
    """Write lines to standard error; ignore errors, such as a full disk."""
    try:
        click.echo(visible_lines(text), err=True)
    except OSError:
        return


def put(text: str) -> None:
    """Write a result to standard output; end by SIGPIPE if nobody reads it any more.

    Characters that the encoding of standard output lacks are written as \\uNNNN.
    Raises SpaceError if it cannot be written.
    """
    try:
        try:
            click.echo(text, nl=False)
        except UnicodeEncodeError as error:  # nothing has been written
            plain = text.encode(error.encoding, "backslashreplace").decode(error.encoding)
            click.echo(plain, nl=False)
    except BrokenPipeError:
        status.die_of(status.SIGPIPE)
    except OSError as error:
        raise SpaceError(f"standard output: cannot write: {error.strerror}") from error
