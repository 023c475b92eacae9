"""The line that says how far a run is."""

from __future__ import annotations

import pytest

from pyspaces.library import progress as module
from pyspaces.library.progress import Progress


def test_it_is_written_over_and_left_at_the_end(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_SHOWN_EVERY", 3600.0)  # on a machine with much else to do
    numbers = iter(range(9))
    progress = Progress(lambda: f"{next(numbers)} done", wanted=True)
    progress.clear()  # nothing is there yet
    progress.show(now=True)
    progress.show()  # too soon
    progress.clear()
    progress.clear(last=True)
    assert capsys.readouterr().err == "\r\x1b[K0 done\r\x1b[K\r\x1b[K1 done\n"


def test_without_a_terminal_there_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    progress = Progress(lambda: "a", wanted=None)
    progress.show(now=True)
    progress.clear(last=True)
    assert capsys.readouterr().err == ""
