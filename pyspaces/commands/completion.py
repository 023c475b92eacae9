"""`pyspaces completion`: print the completion script of a shell."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from pyspaces.commands.optional import help_option
from pyspaces.commands.say import put

_HELP = """Print the completion script for SHELL, which it has to evaluate when it starts.

\b
bash, in ~/.bashrc:   eval "$(pyspaces completion bash)"
zsh, in ~/.zshrc:     eval "$(pyspaces completion zsh)"
fish:                 pyspaces completion fish > ~/.config/fish/completions/pyspaces.fish
"""


def _completion(shell: str) -> None:
    cls = get_completion_class(shell)
    assert cls is not None
    script = cls(click.Command("pyspaces"), {}, "pyspaces", "_PYSPACES_COMPLETE").source()
    # click's script for fish splits an answer at every comma, which breaks our lists of words.
    put(script.replace('string split "," ', 'string split -m 1 "," ') + "\n")


completion = click.Command(
    "completion",
    help=_HELP,
    callback=_completion,
    add_help_option=False,
    params=[
        help_option(),
        click.Argument(["shell"], metavar="SHELL", type=click.Choice(["bash", "zsh", "fish"])),
    ],
)
