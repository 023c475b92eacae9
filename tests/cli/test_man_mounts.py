"""The man page's examples of mounts, run as they stand."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest
from conftest import SCRIPT

from pyspaces.settings import ORDERED, SETTINGS

PAGE = Path(__file__).parents[2] / "man" / "pyspaces-run.1"
OPTIONS = [row.option for row in SETTINGS if row.kind == ORDERED]

pytestmark = pytest.mark.needs("userns", "overlay", "pidns")


def examples() -> list[list[tuple[str, str]]]:
    """Return the blocks: each a list of commands, with what they print."""
    section = PAGE.read_text().partition(".Sh EXAMPLES\n")[2].partition("\n.Sh ")[0]
    blocks = re.findall(r"^\.Bd -literal.*?\n(.*?)^\.Ed$", section, re.MULTILINE | re.DOTALL)
    found = []
    for block in blocks:
        text = block.replace("\\&", "").replace("\\e", "\\").replace("\\-", "-")
        rows = re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", text, re.MULTILINE)
        if any(option in text for option in OPTIONS):
            found.append([(command, output) for command, output in rows])
    return found


def test_there_are_examples() -> None:
    assert sum(len(block) for block in examples()) >= 6


@pytest.mark.parametrize("block", examples(), ids=lambda block: block[0][0][:60])
def test_an_example_of_the_man_page(block: list[tuple[str, str]], tmp_path: Path) -> None:
    environment = os.environ | {"PATH": f"{Path(SCRIPT).parent}:{os.environ['PATH']}"}
    for command, output in block:
        done = subprocess.run(
            ["sh", "-c", command], cwd=tmp_path, env=environment, timeout=60,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
        )  # fmt: skip
        assert done.stdout == output, command
