"""Messages on standard error, and results on standard output."""

from __future__ import annotations

import codecs
import sys

from pyspaces import status
from pyspaces.errors import SpaceError
from pyspaces.visible import visible_lines


def say(text: str) -> None:
    """Write lines to standard error; one that is closed or full changes nothing else.

    Without click, which a launch has not loaded. As click.echo does, in UTF-8 where the locale
    would have nothing but ASCII.
    """
    stream, text = sys.stderr, f"{visible_lines(text)}\n"
    if stream is None:  # closed when we were started
        return
    try:
        if hasattr(stream, "buffer") and codecs.lookup(stream.encoding).name == "ascii":
            stream.flush()
            stream.buffer.write(text.encode("utf-8", "replace"))
        else:
            stream.write(text)
        stream.flush()
    except OSError:
        return


def put(text: str) -> None:
    """Write a result to standard output; end by SIGPIPE if nobody reads it any more.

    Characters that the encoding of standard output lacks are written as \\uNNNN.
    Raises SpaceError if it cannot be written.
    """
    import click  # most of a launch, which prints no result

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
