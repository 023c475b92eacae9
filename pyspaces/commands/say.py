"""What is told to people, on standard error, and results, on standard output."""

from __future__ import annotations

import click

from pyspaces import status
from pyspaces.errors import SpaceError
from pyspaces.visible import visible_lines


def say(text: str) -> None:
    """Write lines to standard error; one that is closed or full changes nothing else."""
    try:
        click.echo(visible_lines(text), err=True)
    except OSError:
        return


def put(text: str) -> None:
    """Write a result to standard output; where nobody reads it any more, end as SIGPIPE would.

    What the encoding of standard output has no character for is written as \\uNNNN.
    Raises SpaceError where it cannot be written.
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
