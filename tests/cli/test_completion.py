"""Completion, asked of the real shells."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from conftest import SCRIPT, outcome

TYPE_CHECKING = False
if TYPE_CHECKING:
    from conftest import Run

PATH = f"{Path(sys.executable).parent}:{os.environ['PATH']}"


def in_bash(line: str, cwd: Path | None = None) -> set[str]:
    """Complete the last word of `line` through the function that our script gives to bash."""
    words = line.split(" ")
    quoted = " ".join(f"'{word}'" for word in words)
    script = f"""
        eval "$({SCRIPT} completion bash)"
        COMP_WORDS=({quoted}) COMP_CWORD={len(words) - 1}
        $(complete -p pyspaces | sed 's/.*-F \\([^ ]*\\).*/\\1/') pyspaces
        printf '%s\\n' "${{COMPREPLY[@]}}"
        compopt() {{ :; }}
    """
    done = outcome(
        ["bash", "--norc", "-c", f"compopt() {{ echo compopt $*; }}; {script}"],
        check=True,
        cwd=cwd,
        env={"PATH": PATH, "HOME": "/"},
    )
    return set(done.stdout.split("\n")) - {""}


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("pyspaces r", {"run"}),
        ("pyspaces completion ", {"bash", "zsh", "fish"}),
        ("pyspaces run --map-u", {"--map-uid"}),
        ("pyspaces run --no-m", {"--no-mount-proc"}),
        ("pyspaces run --no-n", {"--no-new-privs", "--no-nested-users"}),
        ("pyspaces run --share ne", {"net"}),
        ("pyspaces run --share net,p", {"net,pid"}),
        ("pyspaces run -M ", {"root", "current", "auto", "subids", "all", "none"}),
        ("pyspaces run --map-gid cur", {"current"}),
        ("pyspaces run --propagation s", {"slave", "shared"}),
        ("pyspaces run --setgroups ", {"allow", "deny"}),
        ("pyspaces run --user unshar", {"unshare"}),
        ("pyspaces run --user -- unshar", {"unshare"}),
        ("pyspaces list --tr", {"--tree", "--tree=owner", "--tree=parent"}),
        ("pyspaces list --tree --tree", set()),
        ("pyspaces list --tree ow", set()),
        ("pyspaces list --tree --ou", {"--ours", "--output"}),
    ],
)
@pytest.mark.needs("bash", "unshare")
def test_words_in_bash(line: str, expected: set[str]) -> None:
    assert in_bash(line) == expected


@pytest.mark.needs("bash")
@pytest.mark.parametrize(
    "line", ["pyspaces run --user -- ls fi", "pyspaces run --user ls -l -- fi", "pyspaces run ./fi"]
)
def test_the_arguments_of_the_command_are_files_in_bash(line: str) -> None:
    assert "compopt -o default" in in_bash(line)


@pytest.mark.needs("bash")
def test_workdir_is_a_directory_in_bash() -> None:
    assert "compopt -o dirnames" in in_bash("pyspaces run --workdir /")


@pytest.mark.needs("fish")
@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("pyspaces ru", {"run"}),
        ("pyspaces run --map-u", {"--map-uid"}),
        ("pyspaces run --share net,p", {"net,pid"}),
        ("pyspaces run --user -- unshar", {"unshare"}),
    ],
)
def test_words_in_fish(line: str, expected: set[str], tmp_path: Path) -> None:
    script = f"{SCRIPT} completion fish | source; complete --do-complete '{line}'"
    done = outcome(
        ["fish", "--no-config", "-c", script], check=True, env={"PATH": PATH, "HOME": str(tmp_path)}
    )
    assert {row.split("\t")[0] for row in done.stdout.splitlines()} == expected


@pytest.mark.needs("zsh")
def test_words_in_zsh(pyspaces: Run) -> None:
    """The script is right for zsh, and what it asks of us has the answer it reads."""
    script = pyspaces("completion", "zsh").stdout
    done = outcome(["zsh", "-n"], input=script, check=True)
    assert done.stderr == ""
    done = outcome(
        [SCRIPT],
        env={
            "PATH": PATH,
            "_PYSPACES_COMPLETE": "zsh_complete",
            "COMP_WORDS": "pyspaces run --share net,p",
            "COMP_CWORD": "3",
        },
    )
    # zsh reads three lines for each word: kind, word, help.
    assert done.stdout.splitlines() == ["plain", "net,pid", "_"]


def test_another_shell_is_wrong_usage(pyspaces: Run) -> None:
    done = pyspaces("completion", "tcsh")
    assert done.returncode == 2
    assert "invalid value for 'SHELL'" in done.stderr
