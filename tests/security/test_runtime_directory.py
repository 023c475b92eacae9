"""A directory for runtime files that is another user's, as XDG_RUNTIME_DIR names it after su(1)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pyspaces.features.existing import runtime
from pyspaces.launch.network import engines

ANOTHER = 4711


@pytest.mark.as_root
def test_nothing_is_put_where_another_user_can_replace_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before: slirp4netns had its socket there, and that name was removed there by root."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    own = engines.Api(["slirp4netns", "path", "tap0"], ())
    assert own.words[1].startswith(f"--api-socket={tmp_path}/")
    os.chown(tmp_path, ANOTHER, ANOTHER)
    own = engines.Api(["slirp4netns", "path", "tap0"], ())
    assert str(tmp_path) not in own.words[1]
    assert runtime.own_directory() != str(tmp_path)
