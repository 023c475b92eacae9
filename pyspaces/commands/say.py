"""What is told to people, on standard error, and results, on standard output."""

from __future__ import annotations

import click

from pyspaces import status


def say(text: str) -> None:
    """Write a line to standard error; one that is closed or full changes nothing else."""
    try:
        click.echo(text, err=True)
    except OSError:
        return


def put(text: str) -> None:
    """Write a result to standard output; where nobody reads it any more, end as SIGPIPE would."""
    try:
        click.echo(text, nl=False)
    except BrokenPipeError:
        status.die_of(status.SIGPIPE)
