#!/usr/bin/env python3
"""Record the picture of README, docs/session.svg, from a real session; run it as an ordinary user.

Each command is typed into a shell at a terminal of 80 columns, and its output taken as it comes.
The lines of the picture appear one after the other; without animations, all are there.
"""

from __future__ import annotations

import contextlib
import os
import pty
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from xml.sax.saxutils import escape

TARGET = Path(__file__).parents[1] / "docs" / "session.svg"
COLUMNS, ROWS = 80, 26
# What is typed, each with its comment.
SESSION = (
    ("root, but only inside", "pyspaces run --user --hostname box -- sh -c 'id -un; hostname'"),
    ("no network", "pyspaces run --user --net -- curl -s https://pypi.org || echo none"),
    (
        "what would it change?",
        "pyspaces run --user --throwaway --overlay-diff diff -- sh -c 'rm notes; >new'",
    ),
    ("", "sed s,$PWD/,, diff; ls notes"),
    (
        "a box for code that nobody trusts",
        "pyspaces run --sandbox -- sh -c 'ls /home; id -u; echo x > /etc/motd'",
    ),
    ("an error says what to do", "pyspaces run --pid -- true"),
)
WIDTH, HEIGHT, LEFT, TOP = 8.4, 18, 16, 44
TYPING, READING = 1.1, 0.25  # seconds before the output of a command, and for each line of it


def typed(command: str, directory: Path) -> list[str]:
    """Run a command at a terminal; return the lines that it shows."""
    ours, theirs = pty.openpty()
    size = f"stty cols {COLUMNS} rows {ROWS}; {command}"
    around = {**os.environ, "TERM": "xterm", "PS1": "", "HOME": str(directory), "NO_COLOR": "1"}
    with subprocess.Popen(
        ["sh", "-c", size],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        cwd=directory,
        env=around,
        start_new_session=True,
    ):
        os.close(theirs)
        data = b""
        with contextlib.suppress(OSError):  # EIO: the other end is closed
            while some := os.read(ours, 4096):
                data += some
    os.close(ours)
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", data.decode()).expandtabs().replace("\r", "")
    lines = text.rstrip("\n").splitlines()
    return [line[at : at + COLUMNS] for line in lines for at in range(0, len(line), COLUMNS)]


def recorded() -> list[tuple[str, str, float]]:
    """Return the lines of the session: the kind, the text, and the second at which it appears."""
    if os.geteuid() == 0 or shutil.which("pyspaces") is None:
        raise SystemExit("run this as an ordinary user, with pyspaces on the path")
    lines: list[tuple[str, str, float]] = []
    now = 0.0
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        (directory / "notes").touch()
        for comment, command in SESSION:
            lines += [("comment", f"# {comment}", now)] if comment else []
            lines.append(("command", command, now))
            now += TYPING
            for line in typed(command, directory):
                lines.append(("output", line, now))
                now += READING
            now += TYPING
    return lines


def drawn(lines: list[tuple[str, str, float]]) -> str:
    """Return the picture."""
    width = LEFT * 2 + COLUMNS * WIDTH
    height = TOP + HEIGHT * len(lines) + LEFT
    rows = []
    for at, (kind, text, when) in enumerate(lines):
        prompt = '<tspan class="prompt">$ </tspan>' if kind == "command" else ""
        rows.append(
            f'<text class="{kind}" x="{LEFT}" y="{TOP + HEIGHT * at + HEIGHT / 2:g}"'
            f' style="animation-delay:{when:.2f}s">{prompt}{escape(text)}</text>'
        )
    box = f"0 0 {width:g} {height:g}"
    return f"""<svg xmlns="http://www.w3.org/2000/svg" role="img" viewBox="{box}">
<!-- Written by scripts/record.py from a real session. -->
<title>A session with pyspaces in a terminal</title>
<style>
text {{ font: 14px ui-monospace, "DejaVu Sans Mono", Menlo, monospace; fill: #d0d4dc;
  white-space: pre; animation: shown 0.01s both; }}
.comment {{ fill: #7f8a9c }} .command {{ fill: #ffffff }} .prompt {{ fill: #7fd08a }}
@keyframes shown {{ from {{ opacity: 0 }} to {{ opacity: 1 }} }}
@media (prefers-reduced-motion: reduce) {{ text {{ animation: none }} }}
</style>
<rect width="100%" height="100%" rx="8" fill="#1b1f27"/>
<circle cx="20" cy="18" r="6" fill="#e0605a"/>
<circle cx="40" cy="18" r="6" fill="#e0b04a"/>
<circle cx="60" cy="18" r="6" fill="#62b356"/>
{chr(10).join(rows)}
</svg>
"""


def main() -> None:
    """Write the picture, or what is named on the command line."""
    Path(sys.argv[1] if len(sys.argv) > 1 else TARGET).write_text(drawn(recorded()))


if __name__ == "__main__":
    main()
