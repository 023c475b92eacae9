"""`overlay apply` where the owner of a directory changes it meanwhile: nothing is given away."""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path
from typing import Any

import pytest
from conftest import IS_ROOT

from pyspaces.host.overlay.applying import apply
from pyspaces.host.overlay.kept import Kept
from pyspaces.kernel import libc

OWNER = 65534


@pytest.mark.skipif(not IS_ROOT, reason="only root gives files away")
@pytest.mark.parametrize("call", ["mknod", "symlink"])
def test_what_takes_the_place_of_a_new_file_stays_who_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """The owner of the directory renames a file of root to the name right after it was made."""
    upper, directory = tmp_path / "upper", tmp_path / "directory"
    for place, name, owner in ((upper, "new", OWNER), (directory, "of-root", 0)):
        place.mkdir()
        os.chown(place, OWNER, OWNER)
        file = place / name
        file.symlink_to("x") if call == "symlink" else os.mkfifo(file)
        os.lchown(file, owner, owner)
    before = (directory / "of-root").lstat()
    make = getattr(os, call)
    around = os.open(directory, os.O_PATH)

    def make_and_lose(*words: Any, dir_fd: int) -> None:
        make(*words, dir_fd=dir_fd)
        name = words[1] if call == "symlink" else words[0]
        os.seteuid(OWNER)
        try:
            with contextlib.suppress(PermissionError):
                os.rename("of-root", name, src_dir_fd=around, dst_dir_fd=dir_fd)
        finally:
            os.seteuid(0)
            libc.set_dumpable(dumpable=True)  # which a change of ids takes away

    monkeypatch.setattr(os, call, make_and_lose)
    with Kept(str(upper), str(directory), "apply") as kept:
        assert apply(kept) == 1
    os.close(around)
    there = {path.name: path.lstat() for path in directory.iterdir()}
    assert sorted(there) == ["new", "of-root"]
    assert there["new"].st_uid == OWNER
    after = there["of-root"]
    assert (after.st_ino, after.st_uid, after.st_ctime_ns) == (before.st_ino, 0, before.st_ctime_ns)
    assert stat.S_IFMT(there["new"].st_mode) == stat.S_IFMT(before.st_mode)
