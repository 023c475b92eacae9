"""What the owner of a root directory gains who changes /etc while files of names are covered."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from pyspaces.features.network import naming
from pyspaces.kernel import mountapi


def test_what_is_read_is_what_is_covered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file at the first look, and after it a link that leads to one of the host."""
    secret, path = tmp_path / "secret", tmp_path / "resolv.conf"
    secret.write_text("secret\n")
    path.write_text("options edns0\n")
    first = path.stat()
    shown: list[bytes] = []
    covered: list[os.stat_result] = []
    really = os.open

    def open_and_lose(name: Any, *words: Any, **more: Any) -> int:
        found = really(name, *words, **more)
        if name == str(path) and not path.is_symlink():
            path.unlink()
            path.symlink_to(secret)
        return found

    def take(directory: str, text: bytes) -> int:
        shown.append(text)
        return really(directory, os.O_PATH)

    monkeypatch.setattr(os, "open", open_and_lose)
    monkeypatch.setattr(naming, "_file_inner", take)
    monkeypatch.setattr(
        mountapi, "move_mount", lambda _mount, point: covered.append(os.fstat(point))
    )
    naming._replace_inner(str(path), lambda found: naming.resolv(found, ["192.0.2.1"]))
    assert shown == [b"nameserver 192.0.2.1\noptions edns0\n"]
    assert (covered[0].st_dev, covered[0].st_ino) == (first.st_dev, first.st_ino)
