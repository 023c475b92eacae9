"""Completion, asked of the real shells."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

import pytest
from conftest import SCRIPT, outcome
from terminal import Screen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from conftest import Run

PATH = f"{Path(sys.executable).parent}:{os.environ['PATH']}"


def in_bash(*lines: str) -> list[set[str]]:
    """Complete the last word of each line through the function that our script gives to bash."""
    script = f"""
        compopt() {{ echo compopt $*; }}
        eval "$({SCRIPT} completion bash)"
        function=$(complete -p pyspaces | sed 's/.*-F \\([^ ]*\\).*/\\1/')
    """
    for line in lines:
        words = line.split(" ")
        quoted = " ".join(f"'{word}'" for word in words)
        script += f"""
            COMP_WORDS=({quoted}) COMP_CWORD={len(words) - 1} COMPREPLY=()
            COMP_LINE='{line}' COMP_POINT={len(line)}
            $function pyspaces
            printf '%s\\n' "${{COMPREPLY[@]}}" "end of line"
        """
    done = outcome(["bash", "--norc", "-c", script], check=True, env={"PATH": PATH, "HOME": "/"})
    return [set(part.split("\n")) - {""} for part in done.stdout.split("end of line\n")[:-1]]


@pytest.mark.needs("bash", "unshare")
def test_words_in_bash() -> None:
    rows: tuple[tuple[str, set[str]], ...] = (
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
        ("pyspaces run --unsetenv COMP_", set()),
        ("pyspaces run --setenv _PYSPACES_", set()),
        ("pyspaces run --keep-env HOM", {"HOME"}),
        ("pyspaces list --tr", {"--tree", "--tree=owner", "--tree=parent"}),
        ("pyspaces overlay ", {"diff", "apply"}),
        ("pyspaces overlay apply --dr", {"--dry-run"}),
        ("pyspaces list --tree --tree", set()),
        ("pyspaces list --tree ow", set()),
        ("pyspaces list --tree --ou", {"--ours", "--output", "--output-all"}),
    )
    assert in_bash(*(line for line, _ in rows)) == [expected for _, expected in rows]


@pytest.mark.needs("bash")
def test_the_arguments_of_the_command_are_files_in_bash() -> None:
    files = ("run --user -- ls fi", "run --user ls -l -- fi", "run ./fi", "run --allow-read fi")
    directories = ("run --workdir /", "overlay diff u", "overlay apply up lo")
    found = in_bash(*(f"pyspaces {line}" for line in (*files, *directories)))
    assert all("compopt -o default" in told for told in found[: len(files)])
    assert all("compopt -o dirnames" in told for told in found[len(files) :])


@pytest.mark.needs("fish")
def test_words_in_fish(tmp_path: Path) -> None:
    rows = (
        ("pyspaces ru", {"run"}),
        ("pyspaces run --map-u", {"--map-uid"}),
        ("pyspaces run --share net,p", {"net,pid"}),
        ("pyspaces run --user -- unshar", {"unshare"}),
    )
    script = f"{SCRIPT} completion fish | source"
    for line, _ in rows:
        script += f"; complete --do-complete '{line}'; echo end of line"
    environment = {"PATH": PATH, "HOME": str(tmp_path)}
    done = outcome(["fish", "--no-config", "-c", script], check=True, env=environment)
    parts = done.stdout.split("end of line\n")[:-1]
    for told, (_, expected) in zip(parts, rows, strict=True):
        assert {row.split("\t")[0] for row in told.splitlines()} == expected


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


VALUES = [
    ("--setuid nob", "nobody"),
    ("--setuid=nob", "--setuid=nobody"),
    ("--setgid nogr", "nogroup"),
    ("--cap-drop CAP_SYS_ADM", "CAP_SYS_ADMIN"),
    ("--cap-drop chown,sys_adm", "chown,sys_admin"),
    ("--kill-child SIGTE", "SIGTERM"),
    ("--seccomp-deny mkdir,@mou", "mkdir,@mount"),
    ("--seccomp-deny mkdir:EPE", "mkdir:EPERM"),
    ("--profile untr", "untrusted"),
    ("--rlimit nofi", "nofile="),
    ("--unsetenv HOM", "HOME"),
    ("--net=us", "--net=user"),
    ("--mount=type=bind,source=/etc/pass", "--mount=type=bind,source=/etc/passwd"),
    ("--plan=/etc/hostn", "--plan=/etc/hostname"),
    ("--keep net=/etc/hostn", "net=/etc/hostname"),
]


def answered(*words: str) -> list[str]:
    """Return the answers to zsh, which has a line for the kind and one for the help."""
    around = os.environ | {
        "PATH": PATH,
        "_PYSPACES_COMPLETE": "zsh_complete",
        "COMP_WORDS": " ".join(["pyspaces", *words]),
        "COMP_CWORD": str(len(words)),
    }
    return outcome([SCRIPT], env=around, check=True).stdout.split("\n")[1::3]


def test_values(tmp_path: Path) -> None:
    for words, value in VALUES:
        assert value in answered("run", *words.split()), words
    # What a shell would read as more than a word is no answer: it is put on the line as it is.
    (tmp_path / "x;reboot").touch()
    (tmp_path / "x-y").touch()
    assert answered("run", f"--plan={tmp_path}/x") == [f"--plan={tmp_path}/x-y"]
    # Both words of a bind, and the second one of --chmod, are paths.
    for words in ("--bind /et", "--bind / /et", "--chmod 0755 /et", "--seccomp /et"):
        assert answered("run", *words.split()) == ["/et"], words


def installed(shell: str, home: Path) -> str:
    around = {"PATH": PATH, "HOME": str(home)}
    done = outcome([SCRIPT, "completion", "--install", shell], env=around)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.needs("bash", "zsh", "fish")
def test_the_shells_complete_once_it_is_installed(tmp_path: Path) -> None:
    (tmp_path / ".bashrc").write_text("PS1='ready> '")  # no line feed at its end
    (tmp_path / ".zshrc").write_text("PS1='ready> '\n")
    around = [f"PATH={PATH}", f"HOME={tmp_path}", "TERM=dumb", "LANG=C.UTF-8"]
    for shell in ("bash", "zsh", "fish"):
        assert installed(shell, tmp_path).startswith(f"wrote {tmp_path}/.")
        files = {path: path.read_text() for path in tmp_path.rglob("*") if path.is_file()}
        assert "up to date" in installed(shell, tmp_path)
        assert "wrote" not in installed(shell, tmp_path)
        assert all(path.read_text() == text for path, text in files.items())
        if shell == "fish":
            line = "complete --do-complete 'pyspaces run --setuid nob'"
            done = outcome(["/usr/bin/env", "-i", *around, shell, "-c", line])
            assert done.stdout.split() == ["nobody"]
            continue
        with contextlib.closing(Screen(["/usr/bin/env", "-i", *around, shell, "-i"])) as screen:
            screen.expect(b"ready> ")
            if shell == "bash":  # with bash-completion, it would be loaded at the first TAB
                screen.type(b". ~/.local/share/bash-completion/completions/pyspaces\n")
                screen.expect(b"ready> ")
            screen.type(b"pyspaces run --setuid nob\t")
            screen.expect(b"--setuid nobody ")
            screen.type(b"--cap-drop=CAP_SYS_ADM\t")
            screen.expect(b"--cap-drop=CAP_SYS_ADMIN ")


def test_what_cannot_be_installed_is_named(pyspaces: Run) -> None:
    done = pyspaces("completion", "--install", "fish", env={"PATH": PATH, "HOME": "/dev/null"})
    assert (done.returncode, done.stdout) == (125, "")
    path = "/dev/null/.config/fish/completions/pyspaces.fish"
    assert done.stderr == f"pyspaces: cannot install the completion: {path}: Not a directory\n"
    done = pyspaces("completion", "--install", env={"PATH": PATH, "SHELL": "/bin/dash"})
    assert done.returncode == 2
    assert "$SHELL names dash" in done.stderr


def test_another_shell_is_wrong_usage(pyspaces: Run) -> None:
    done = pyspaces("completion", "tcsh")
    assert done.returncode == 2
    assert "invalid value for 'SHELL'" in done.stderr
