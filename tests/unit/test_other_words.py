"""Command lines of other tools: what they become."""

from __future__ import annotations

import os
import re
import shlex
import shutil
from pathlib import Path

import pytest
from conftest import MUST_RUN, outcome

from pyspaces.commands import fast
from pyspaces.commands.words import bwrap, lsns, nsenter, translating, unshare
from pyspaces.commands.words.table import Caller
from pyspaces.errors import UsageFault

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

LINES = Path(__file__).with_name("translations.txt")
USER = Caller(uid=1000, gid=1000, subordinate=lambda kind: (100000, 65536))
ROOT = Caller(uid=0, gid=0)


def cases() -> Iterator[tuple[str, str, list[str]]]:
    """Yield the mark, the words and what they become, of each line in the file."""
    blocks: list[list[str]] = []
    for line in LINES.read_text().splitlines():
        if line[0] in "$#":
            blocks.append([line])
        elif line[0] != ";":
            blocks[-1].append(line)
    for first, *rest in blocks:
        yield first[0], first[2:], rest


def test_lines_of_other_tools_become_what_the_file_says() -> None:
    wrong, tools = [], []
    for mark, line, expected in cases():
        found = translating.of(shlex.split(line), ROOT if mark == "#" else USER)
        told = [f"> {shlex.join(found.words)}", *(f"! {text}" for text in found.missing)]
        told += [f"~ {text}" for text in found.notes]
        if told != expected:
            wrong.append([line, *told])
        # Our own words, which we read without click, but for the files of `enter`.
        read = {"run": fast.line_of_run, "enter": fast.line_of_enter}.get(found.words[0])
        assert read is None or read(found.words[1:]) or "-file" in " ".join(found.words), line
        tools.append(line.split()[0])
    assert wrong == []
    assert len(tools) >= 100
    assert {*tools} == {*translating.TOOLS}


@pytest.mark.parametrize(
    ("line", "creates"),
    [
        ("--bind / / --tmpfs /tmp", False),
        ("--bind / / --tmpfs /new", True),
        ("--bind /a /b --dir /b/c", True),
        ("--bind /a /b/ --dir b/there", False),
        ("--dev-bind-try /a /b --ro-bind /x /b/there/y", True),
        ("--bind / / --tmpfs /b --dir /b/new", False),
        ("--ro-bind / / --dir /new", False),
        ("--bind / / --remount-ro /new", False),
        ("--bind /a /b --dir /bc", False),
    ],
)
def test_what_bwrap_would_create_on_the_host_is_created(line: str, creates: bool) -> None:
    there = {"/tmp", "/a/there", "/b"}
    caller = USER.replace(exists=lambda path: path in there)
    found = bwrap.translate([*line.split(), "true"], caller)
    assert ("--create-targets" in found.words) is creates


@pytest.mark.parametrize("tool", translating.CALLED)
def test_every_option_of_the_installed_tool_is_known(tool: str) -> None:
    if shutil.which(tool) is None:
        pytest.fail(tool) if MUST_RUN else pytest.skip(f"{tool} is not installed")
    text = outcome([tool, "--help"]).stdout
    long = {*re.findall(r"^\s+(?:-\w[.,] )?\s*(--[\w-]+)", text, re.MULTILINE)}
    assert len(long) >= 12
    assert long - {"--help", "--version"} <= {*translating.TABLES[tool]}
    letters = {*re.findall(r"^\s+-(\w)[.,] ", text, re.MULTILINE)} - {"h", "V"}
    short = {"bwrap": {}, "unshare": unshare.SHORT, "nsenter": nsenter.SHORT, "lsns": lsns.SHORT}[
        tool
    ]
    assert letters <= {*short}


def test_what_is_no_list_is_the_name_of_a_program() -> None:
    for text in ("[", "[" * 100_000, "[1]"):
        line = ["podman", "run", "--entrypoint", text, "--rootfs", "/srv/root", "x"]
        assert translating.of(line, USER).words[-2:] == (text, "x")


def test_what_the_tool_itself_would_refuse_is_a_usage_error() -> None:
    refused = {
        "bwrap --no-such ls": "bwrap: --no-such: unknown option",
        "bwrap --bind /a": "bwrap: --bind: requires 2 words",
        "bwrap --cap-add CAP_X ls": "bwrap: --cap-add: 'CAP_X' is not a capability",
        "bwrap --args x ls": "bwrap: --args: 'x' is not the number of a descriptor",
        "bwrap --args 999 ls": "bwrap: --args: 999: cannot be read: Bad file descriptor",
        "unshare --no-such": "unshare: --no-such: unknown option",
        "unshare --map": "unshare: --map: ambiguous option",
        "unshare --map-users 1,2": "unshare: '1,2' is not INSIDE:OUTSIDE:COUNT",
        "unshare --map-user=nobody-at-all ls": "unshare: 'nobody-at-all': no such user",
        "unshare -Y": "unshare: -Y: unknown option",
        "unshare --wd": "unshare: --wd: requires 1 more word",
        "unshare --fork=no": "unshare: --fork: takes no value",
        "unshare -r --boottime 5 ls": "unshare: --monotonic and --boottime require --time",
        "unshare -n --setgroups deny ls": "unshare: --setgroups=deny: requires --user",
        "unshare -r --setgroups=allow": (
            "unshare: --setgroups=allow: cannot be combined with a map of one group"
        ),
        "lsns -o X": "lsns: X: unknown column",
        "lsns x": "lsns: 'x' is not the number of a namespace",
        "lsns --tree=x": "lsns: --tree: 'x' is not owner, parent or process",
        "podman ps": "podman ps: only `podman run` can be translated",
        "podman run": "podman run: no image given",
        "ls -l": "'ls' is not a tool whose words are known",
        "": "no command line given",
    }
    for line, text in refused.items():
        with pytest.raises(UsageFault) as caught:
            translating.of(line.split(), USER)
        assert caught.value.message == text
    with pytest.raises(UsageFault, match="bwrap: --uid: requires --unshare-user"):
        translating.of(["bwrap", "--uid", "5", "ls"], ROOT)


def test_options_of_bwrap_from_a_descriptor() -> None:
    reading, writing = os.pipe()
    os.write(writing, b"--dir\0/a b\0--unshare-net\0")
    os.close(writing)
    found = bwrap.translate(["--args", str(reading), "--dir", "/c", "ls"], USER)
    assert shlex.join(found.words).endswith("--empty-root --net --dir '/a b' --dir /c -- ls")
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(reading)
