"""README and docs/: every example runs, and prints what the page says.

A page is one session: its ```console blocks are typed into one bash, from an empty directory. `$`
begins what everybody can type, `#` what is for root; `> ` continues a line; `...` in the output
stands for anything. Before a block, `<!-- example: user -->` is for an ordinary user only, `root`
for root only, and `if PROGRAM` where there is that program. Each ```python block is a program of
its own; the ```text block behind it is its output. ```sh blocks are not run: they need what a test
has not, such as other hosts. Their launches are tried by --dry-run.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from conftest import SCRIPT, outcome

ROOT = Path(__file__).parents[2]
PAGES = {
    str(path.relative_to(ROOT)): path.read_text()
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
}
BLOCK = re.compile(
    r"^(?:<!-- (?P<mark>[\w: -]+) -->\n)?```(?P<kind>\w*)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
PROGRAM = re.compile(
    r"^(?:<!-- example: (?P<around>[\w -]+) -->\n)?```python\n(?P<program>.*?)^```$\n*"
    r"(?:It prints:\n\n```text\n(?P<shown>.*?)^```$)?",
    re.MULTILINE | re.DOTALL,
)
WHO = "root" if os.geteuid() == 0 else "user"


def blocks(page: str, kind: str) -> list[tuple[str, str]]:
    """Return the code blocks of a page, of one kind, each with its mark."""
    found = BLOCK.finditer(PAGES[page])
    return [(one["mark"] or "", one["text"]) for one in found if one["kind"] == kind]


def having(kind: str) -> list[str]:
    return [page for page in PAGES if blocks(page, kind)]


def for_us(mark: str) -> bool:
    """Return whether a block is to be typed by this user, on this machine."""
    who, _, program = mark.removeprefix("example: ").partition("if ")
    return who in ("", WHO) and (not program or shutil.which(program) is not None)


def typed(page: str) -> list[tuple[str, str]]:
    """Return what is to be typed for a page, by this user, each with what is to be shown."""
    found: list[tuple[str, str]] = []
    for mark, text in blocks(page, "console"):
        if not for_us(mark):
            continue
        steps: list[tuple[str, str]] = []
        for line in text.splitlines(keepends=True):
            if line.startswith(("$ ", "# ")):
                steps.append((line, ""))
            elif line[:2] in ("> ", ">\n") and not steps[-1][1]:
                steps[-1] = (steps[-1][0] + (line[2:] or "\n"), "")
            else:
                steps[-1] = (steps[-1][0], steps[-1][1] + line)
        found += [(line[2:], shown) for line, shown in steps if line[0] == "$" or WHO == "root"]
    return found


def session(page: str, home: Path) -> list[tuple[str, int]]:
    """Type the commands of a page; return the output and the status of each."""
    lines = ["exec 2>&1; trap 'kill $(jobs -p) 2>/dev/null; wait' EXIT"]
    for command, _ in typed(page):
        lines.append(f"{command}\nprintf '\\036%s\\036' $?")
    around = {
        "PATH": f"{Path(SCRIPT).parent}:{os.environ['PATH']}",
        "HOME": str(home),
        "XDG_RUNTIME_DIR": str(home),
        "LANG": "C.UTF-8",
        "TERM": "dumb",
    }
    work = home / "work"
    work.mkdir()
    done = outcome(["bash", "-c", "\n".join(lines)], cwd=work, env=around, stdin=subprocess.DEVNULL)
    assert done.stderr == ""
    fields = done.stdout.split("\036")
    return [(text, int(code)) for text, code in zip(fields[::2], fields[1::2], strict=False)]


def fits(shown: str, printed: str) -> bool:
    pattern = ".*".join(map(re.escape, without_ends(shown).split("...")))
    return re.fullmatch(pattern, without_ends(printed), re.DOTALL) is not None


def without_ends(text: str) -> str:
    return "\n".join(line.rstrip() for line in text.rstrip().splitlines())


@pytest.mark.needs("userns", "pidns", "overlay")
@pytest.mark.parametrize("page", having("console"))
def test_what_a_page_types_prints_what_it_shows(page: str, tmp_path: Path) -> None:
    wanted = typed(page)
    got = session(page, tmp_path)
    assert len(got) == len(wanted), got[-1:]
    for (command, shown), (printed, code) in zip(wanted, got, strict=True):
        assert fits(shown, printed), f"{command}shows:\n{shown}prints:\n{printed}"
        assert code == 0 or shown, f"{command}exits with {code}"


@pytest.mark.needs("userns", "pidns")
@pytest.mark.parametrize("page", having("python"))
def test_the_programs_of_a_page_print_what_it_says(page: str) -> None:
    programs = PROGRAM.findall(PAGES[page])
    assert len(programs) == len(blocks(page, "python"))
    # On a busy machine, Dask tells of workers that take their time to end, and of streams that are
    # closed by then.
    quiet = os.environ | {"DASK_LOGGING__DISTRIBUTED": "critical"}
    for around, program, shown in programs:
        before = [SCRIPT, *shlex.split(around)[1:], "--"] if around else []
        done = outcome([*before, sys.executable, "-c", program], env=quiet)
        assert (done.returncode, done.stderr, done.stdout) == (0, "", shown), program


@pytest.mark.parametrize("page", [name for name in having("sh") if name != "README.md"])
def test_what_is_not_run_is_right_at_least(page: str, tmp_path: Path) -> None:
    texts = [text for _, text in blocks(page, "sh")]
    done = outcome(["bash", "-n"], input="".join(texts))
    assert (done.returncode, done.stderr) == (0, "")
    for line in "".join(texts).replace("\\\n", "").splitlines():
        if not line.startswith("pyspaces run "):
            continue
        words = shlex.split(line.removesuffix("&"), comments=True)
        done = outcome([SCRIPT, "run", "--dry-run", *words[2:]], cwd=tmp_path)
        assert done.returncode == 0, f"{line}\n{done.stderr}"


def test_no_block_is_of_another_kind() -> None:
    known = {"console", "python", "text", "sh", "toml", "ini", "diff"}
    for page, text in PAGES.items():
        found = [one["kind"] for one in BLOCK.finditer(text)]
        assert known.issuperset(found), page
        assert text.count("\n```") == 2 * len(found), page


def test_the_picture_is_of_the_session_that_its_script_types() -> None:
    picture = ET.parse(ROOT / "docs" / "session.svg").getroot()
    texts = picture.findall("{http://www.w3.org/2000/svg}text")
    commands = ["".join(one.itertext()) for one in texts if one.get("class") == "command"]
    script = (ROOT / "scripts" / "record.py").read_text()
    assert len(commands) >= 5
    for command in commands:
        assert f'"{command.removeprefix("$ ")}"' in script
