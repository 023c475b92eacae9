"""`pyspaces completion`: print or install the completion script of a shell."""

from __future__ import annotations

import os

import click

from pyspaces.commands import shells
from pyspaces.commands.optional import help_option
from pyspaces.commands.say import put
from pyspaces.errors import SpaceError

_HELP = """Print the completion script for SHELL, or install it.

With --install, SHELL is by default the one that $SHELL names. What is there already is not written
again.
"""
# Where bash-completion is, which loads completions of users when they are needed.
_LOADERS = ("/usr/share/bash-completion", "/usr/local/share/bash-completion")


def _completion(shell: str | None, *, install: bool) -> None:
    if install:
        for line in _install(shell or _own_shell()):
            put(f"{line}\n")
        put("New shells have it.\n")
    elif shell is None:
        raise click.UsageError("Missing argument 'SHELL'.", click.get_current_context())
    else:
        put(shells.SCRIPTS[shell])


def _own_shell() -> str:
    name = os.path.basename(os.environ.get("SHELL", ""))
    if name in shells.SHELLS:
        return name
    said = f"$SHELL names {name}" if name else "$SHELL is not set"
    raise click.UsageError(
        f"{said}, and not one of {', '.join(shells.SHELLS)}: name the shell",
        click.get_current_context(),
    )


def _install(shell: str) -> list[str]:
    """Install the script for the shells that start from now on; return what was done."""
    home = os.path.expanduser("~")
    data = os.environ.get("XDG_DATA_HOME") or f"{home}/.local/share"
    settings = os.environ.get("XDG_CONFIG_HOME") or f"{home}/.config"
    lazy = os.environ.get("BASH_COMPLETION_USER_DIR") or f"{data}/bash-completion"
    script = {
        "bash": f"{lazy}/completions/pyspaces",
        "zsh": f"{data}/pyspaces/completion.zsh",
        "fish": f"{settings}/fish/completions/pyspaces.fish",
    }[shell]
    start = {"bash": f"{home}/.bashrc", "zsh": f"{os.environ.get('ZDOTDIR') or home}/.zshrc"}
    done = [_write(script, shells.SCRIPTS[shell])]
    if shell == "zsh" or (shell == "bash" and not any(map(os.path.isdir, _LOADERS))):
        import shlex

        path = shlex.quote(script)
        done.append(_add_line(start[shell], f"[ -r {path} ] && . {path}  # pyspaces completion"))
    return done


def _write(path: str, text: str) -> str:
    """Write a file as a whole, unless it is so already; return what was done."""
    try:
        if _content(path) == text:
            return f"{path} is up to date"
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w") as file:
            file.write(text)
    except OSError as error:
        raise _cannot_write(path, error) from error
    return f"wrote {path}"


def _add_line(path: str, line: str) -> str:
    """Append a line to a file that does not have it; return what was done."""
    try:
        text = _content(path) or ""
        if line in text.splitlines():
            return f"{path} is up to date"
        with open(path, "a") as file:
            file.write(f"\n{line}\n" if text and text[-1] != "\n" else f"{line}\n")
    except OSError as error:
        raise _cannot_write(path, error) from error
    return f"added a line to {path}"


def _content(path: str) -> str | None:
    try:
        with open(path, errors="surrogateescape") as file:
            return file.read()
    except FileNotFoundError:
        return None


def _cannot_write(path: str, error: OSError) -> SpaceError:
    return SpaceError(f"cannot install the completion: {path}: {error.strerror}")


completion = click.Command(
    "completion",
    help=_HELP,
    callback=_completion,
    add_help_option=False,
    params=[
        click.Option(
            ["--install"], is_flag=True, help="install it for this user, and print what is written"
        ),
        help_option(),
        click.Argument(
            ["shell"], metavar="SHELL", required=False, type=click.Choice(shells.SHELLS)
        ),
    ],
)
