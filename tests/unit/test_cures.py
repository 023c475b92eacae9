"""The remedies for a host that somebody configures in a file."""

from __future__ import annotations

import errno
import os

import pytest

from pyspaces.host.check import cures
from pyspaces.host.check.trial import NO, Row

DOCKER = {"runner": "no CI service", "container": "docker"}


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.ENOENT, "docker run --device /dev/net/tun"),
        (errno.EPERM, "docker run --device /dev/net/tun"),  # the container's list of devices
        (errno.EACCES, None),  # the mode of the file
    ],
)
def test_a_device_is_missing_or_closed(number: int, remedy: str | None) -> None:
    row = Row(name="tun", answer=NO, evidence=f"/dev/net/tun: {os.strerror(number)}")
    assert cures.here(row, DOCKER) == remedy


def test_a_file_of_the_service_before_the_command_that_starts_its_container() -> None:
    row = Row(name="tun", answer=NO, evidence=f"/dev/net/tun: {os.strerror(errno.ENOENT)}")
    assert cures.here(row, DOCKER | {"runner": "GitHub Actions"}) == (
        "in the workflow, under container: options: --device /dev/net/tun"
    )
    assert cures.here(row.replace(name="cgroup"), DOCKER) is None
