"""What is told to people, on standard error."""

from __future__ import annotations

import click


def say(text: str) -> None:
    """Write a line to standard error; one that is closed or full changes nothing else."""
    try:
        click.echo(text, err=True)
    except OSError:
        return
