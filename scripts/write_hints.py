#!/usr/bin/env python3
"""Write man/pyspaces-hints.7 from docs/reference/hints.md; --check only compares."""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "docs" / "reference" / "hints.md"
PAGE = ROOT / "man" / "pyspaces-hints.7"
HEAD = """.\\" Written by scripts/write_hints.py from docs/reference/hints.md.
.Dd November 28, 2026
.Dt PYSPACES-HINTS 7
.Os
.Sh NAME
.Nm pyspaces-hints
.Nd why a launch of pyspaces was refused
.Sh DESCRIPTION
"""
TAIL = """.Sh SEE ALSO
.Xr pyspaces 1 ,
.Xr pyspaces-check 1 ,
.Xr pyspaces-run 1 ,
.Xr user_namespaces 7
"""


def written(text: str) -> str:
    """Return the man page for the text of the documentation's page."""
    lines, listed = [HEAD.rstrip()], False
    for block in text.partition("\n\n")[2].strip().split("\n\n"):
        if block.startswith("### "):
            lines += [] if listed else [".Bl -tag -width Ds"]
            lines.append(f".It Sy {block[4:]}")
            listed = True
        elif block.startswith("## "):
            lines += [".El"] if listed else []
            lines.append(f".Ss {block[3:]}")
            listed = False
        else:
            begins = lines[-1].rpartition("\n")[2].startswith((".It", ".Ss", ".Sh"))
            lines += [*([] if begins else [".Pp"]), *sentences(block)]
    return "\n".join([*lines, ".El" if listed else "", TAIL]).replace("\n\n", "\n")


def sentences(block: str) -> list[str]:
    """Return a paragraph in roff, a line for each sentence, as mdoc(7) wants it."""
    text = " ".join(block.split())
    text = re.sub(r"\[([^]]+)\]\([^)]+\)", r"\1", text).replace("\\", "\\e").replace("-", "\\-")
    text = re.sub(r"\*\*(.+?)\*\*", r"\\fI\1\\fR", text)
    text = re.sub(r"`(.+?)`", r"\\fB\1\\fR", text)
    found = re.split(r"(?<=[.:]) (?=[A-Z\\])", text)
    return [f"\\&{line}" if line[0] in ".'" else line for line in found]


def main() -> None:
    """Write the page, or check that it is up to date."""
    new = written(SOURCE.read_text())
    if "--check" not in sys.argv[1:]:
        PAGE.write_text(new)
    elif PAGE.read_text() != new:
        raise SystemExit(f"{PAGE.name} is outdated: run scripts/write_hints.py")


if __name__ == "__main__":
    main()
