"""The short help: whole clauses, a line each."""

from __future__ import annotations

import subprocess

from conftest import SCRIPT


def test_the_short_help_is_whole_in_80_columns() -> None:
    for name in ("run", "enter", "check"):
        done = subprocess.run(
            [SCRIPT, name, "-h"],
            capture_output=True,
            text=True,
            check=True,
            env={"COLUMNS": "80", "LANG": "C.UTF-8"},
        )
        assert "\N{HORIZONTAL ELLIPSIS}" not in done.stdout
        assert max(map(len, done.stdout.splitlines())) <= 80
