"""A config.json of a stranger: whatever a number in it is, it is read or refused in words."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from conftest import Run

MEMBERS = (
    *("process.user.uid", "process.user.umask", "process.oomScoreAdj"),
    *("linux.resources.memory.limit", "linux.resources.memory.swap"),
    *("linux.resources.cpu.quota", "linux.resources.cpu.period", "linux.resources.pids.limit"),
    *("linux.timeOffsets.boottime.secs", "linux.timeOffsets.monotonic.nanosecs"),
)


@pytest.mark.parametrize("number", [10**400, -(10**400), 10**4290], ids=["+", "-", "longest"])
@pytest.mark.parametrize("member", MEMBERS)
def test_numbers_of_any_size(pyspaces: Run, tmp_path: Path, member: str, number: int) -> None:
    (tmp_path / "root/dev").mkdir(parents=True)
    config = {
        "process": {"args": ["true"], "cwd": "/"},
        "root": {"path": "root"},
        "linux": {
            "namespaces": [{"type": kind} for kind in ("user", "mount", "time")],
            "resources": {"cpu": {"quota": 50_000}},
        },
    }
    place: dict[str, object] = config
    *names, last = member.split(".")
    for name in names:
        place = place.setdefault(name, {})  # type: ignore[assignment]
    place[last] = number
    (tmp_path / "config.json").write_text(json.dumps(config))
    done = pyspaces("run", "--bundle", str(tmp_path), "--dry-run")
    assert done.returncode in (0, 2), done.stderr
    assert "internal error" not in done.stderr
