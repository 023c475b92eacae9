"""Which of the typed bytes a terminal turns into signals to end: Ctrl-C and Ctrl-\\, as set.

Runs in the parent. Loaded only with a terminal of its own. Follows the kernel's n_tty: ISIG decides
whether there are signals, in whatever mode; VLNEXT takes the meaning of the next byte away, in
canonical mode with IEXTEN; ISTRIP comes before both.
"""

from __future__ import annotations

import termios

from pyspaces.launch import signals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_EXTPROC = 0o200000  # asm-generic/termbits.h: somebody else makes the signals
_DISABLED = 0  # _POSIX_VDISABLE: no character has this meaning


class Keys:
    """Finds the bytes that make signals; remembers whether the next one is quoted."""

    def __init__(self) -> None:
        self._quoted = False

    def split(self, data: bytes, attributes: list[Any]) -> tuple[int, int]:
        """Return how many bytes of `data` come before one that makes a signal, and that signal.

        attributes: the modes of the terminal. All of `data`, and 0, if there is no such byte.
        """
        signs, quote, quoted = _signs(attributes), _quote(attributes), self._quoted
        for place, byte in enumerate(_stripped(data, attributes)):
            if byte in signs and not quoted:
                return place, signs[byte]
            quoted = byte == quote and not quoted
        return len(data), 0

    def wrote(self, data: bytes, attributes: list[Any]) -> None:
        """Note what the terminal was given of what `split` has seen."""
        quote = _quote(attributes)
        for byte in _stripped(data, attributes):
            self._quoted = byte == quote and not self._quoted


def _stripped(data: bytes, attributes: list[Any]) -> bytes:
    return bytes(byte & 0x7F for byte in data) if attributes[0] & termios.ISTRIP else data


def _signs(attributes: list[Any]) -> dict[int, int]:
    flags, characters = attributes[3], attributes[6]
    if not flags & termios.ISIG or flags & _EXTPROC:
        return {}
    signs: dict[int, int] = {
        ord(characters[termios.VINTR]): signals.INT,
        ord(characters[termios.VQUIT]): signals.QUIT,
    }
    signs.pop(_DISABLED, None)
    return signs


def _quote(attributes: list[Any]) -> int:
    """Return VLNEXT if the terminal heeds it, else -1."""
    flags = attributes[3]
    if not (flags & termios.ICANON and flags & termios.IEXTEN):
        return -1
    return ord(attributes[6][termios.VLNEXT]) or -1
