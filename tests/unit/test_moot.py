"""The warning about binds that cannot matter."""

from __future__ import annotations

import os

from pyspaces.commands.words import moot

WARNED = {
    "bind /etc /etc": "changes nothing",
    "dev_bind /dev /dev": "changes nothing",
    "bind_try . .": "changes nothing",
    "ro_bind /usr /usr,proc /proc,dev /dev,tmpfs /tmp": "hides nothing",
    "tmpfs /tmp,bind /srv /srv/": "changes nothing",
}
SILENT = (
    "bind /etc /mnt",
    "tmpfs /home,bind /home/me /home/me",
    "read_only,bind /srv /srv",
    "ro_bind / /",
    "ro_bind / /,bind /srv /srv",
    "host_ro,bind /srv /srv",
    "throwaway,bind /srv /srv",
    "overlay_src /usr,tmp_overlay /usr,bind /usr/local /usr/local",
    "mask /srv,bind /srv /srv",
    "tmpfs /tmp",
)


def test_binds_that_cannot_matter_are_told() -> None:
    def of(line: str, **more: object) -> str | None:
        return moot.warning({"mounts": [one.split() for one in line.split(",")], **more})

    for line, text in WARNED.items():
        assert text in (of(line) or ""), line
        assert of(line, empty_root=True) is None
        assert of(line, root="/srv") is None
        assert of(line, sandbox=True) is None
    assert [line for line in SILENT if of(line)] == []
    assert "--ro-bind /usr /usr hides nothing" in (of("ro_bind /usr /usr,dev /dev") or "")
    assert "--empty-root" in (of("bind /etc /etc") or "")
    # Protects what the caller could write to.
    assert (of("ro_bind /usr /usr") is None) == os.access("/usr", os.W_OK)
