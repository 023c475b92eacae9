"""Text of others, made harmless to a terminal: one function, for every place where it is shown.

Pure; runs in any process. Must not know what the text is, nor where it goes.
"""

from __future__ import annotations


def visible(text: str) -> str:
    r"""Return `text` in one line, with what a terminal would obey, or not show, as \xNN.

    That is whatever str.isprintable() denies: the controls C0, DEL and C1, line and paragraph
    separators, format characters (among them those that turn the direction of writing), blanks
    other than the space, what Unicode does not assign, and bytes that are no text. One \xNN for
    each byte of its UTF-8, which is what the quotes $'...' of bash and zsh read.
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else _escaped(char) for char in text)


def visible_lines(text: str) -> str:
    """Return `text` as `visible` does, but with its line feeds: for what we have put into lines.

    Whoever makes the lines answers for what is in each: text of others goes through `visible`
    before, or a line feed in it would begin a line that looks like ours.
    """
    return "\n".join(map(visible, text.split("\n")))


def _escaped(char: str) -> str:
    try:
        data = char.encode(errors="surrogateescape")
    except UnicodeEncodeError:  # a lone surrogate that stands for no byte, as JSON can hold one
        data = char.encode(errors="surrogatepass")
    return "".join(f"\\x{byte:02x}" for byte in data)
