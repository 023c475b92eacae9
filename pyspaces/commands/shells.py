"""The completion of each shell: the script that it loads, and what that asks us at a TAB key."""

from __future__ import annotations

import os

from click.shell_completion import (
    BashComplete,
    CompletionItem,
    FishComplete,
    ShellComplete,
    ZshComplete,
    add_completion_class,
    split_arg_string,
)

from pyspaces.commands import values

SHELLS = ("bash", "zsh", "fish")
VARIABLE = "_PYSPACES_COMPLETE"

# bash cuts words at = and :, and takes the place of the last piece only. So the line is passed as
# it is, and what comes before the last piece is cut off from each answer.
_BASH = """\
_pyspaces_completion() {
    local IFS=$'\\n' line=${COMP_LINE:0:COMP_POINT} piece=${COMP_WORDS[COMP_CWORD]}
    local answer kind value before
    [[ $piece == [=:] ]] && piece=
    before=${line##*[[:space:]]}
    before=${before%"$piece"}
    COMPREPLY=()
    while read -r answer; do
        kind=${answer%%,*}
        value=${answer#*,}
        case $kind in
            plain) COMPREPLY+=("${value#"$before"}") ;;
            dir) compopt -o dirnames ;;
            file) compopt -o default ;;
        esac
    done < <(COMP_LINE=$line _PYSPACES_COMPLETE=bash_complete "$1")
    [[ ${#COMPREPLY[@]} == 1 && ${COMPREPLY[0]} == *[=,:/] ]] && compopt -o nospace
    return 0
}

complete -o nosort -F _pyspaces_completion pyspaces
"""

_ZSH = """\
#compdef pyspaces

_pyspaces_completion() {
    local -a open closed told answers
    local kind value text
    answers=("${(@f)$(COMP_WORDS="${words[*]}" COMP_CWORD=$((CURRENT-1)) \\
        _PYSPACES_COMPLETE=zsh_complete ${words[1]})}")
    for kind value text in ${answers}; do
        case $kind in
            dir) _path_files -/ ;;
            file) _path_files ;;
            plain)
                if [[ $text != _ ]]; then told+=("${value}:${text}")
                elif [[ $value == *[=,:/] ]]; then open+=("$value")
                else closed+=("$value"); fi ;;
        esac
    done
    (( $#told )) && _describe -V unsorted told -U
    (( $#open )) && compadd -U -S '' -V unsorted -a open
    (( $#closed )) && compadd -U -V unsorted -a closed
}

if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
    _pyspaces_completion "$@"
else
    (( $+functions[compdef] )) || { autoload -Uz compinit && compinit -i }
    compdef _pyspaces_completion pyspaces
fi
"""

_FISH = """\
function _pyspaces_completion
    set -l answers (COMP_WORDS=(commandline -cp) COMP_CWORD=(commandline -t) \\
        _PYSPACES_COMPLETE=fish_complete pyspaces)
    for answer in $answers
        set -l parts (string split -m 1 "," -- $answer)
        switch $parts[1]
            case dir
                __fish_complete_directories $parts[2]
            case file
                __fish_complete_path $parts[2]
            case plain
                echo $parts[2]
        end
    end
end

complete --no-files --command pyspaces --arguments "(_pyspaces_completion)"
"""

SCRIPTS = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}


class _Values(ShellComplete):
    """Values behind `=`, and the place of one among several."""

    def get_completions(self, args: list[str], incomplete: str) -> list[CompletionItem]:
        """Return what the last word can be, as a whole word."""
        values.Place.before = _behind_option(args)
        name, equals, value = incomplete.partition("=")
        if not equals or name[:2] != "--" or "--" in args:
            return super().get_completions(args, incomplete)
        # An option with an optional value is completed as one word, by its command.
        words = super().get_completions([*args], name)
        if any(item.value.startswith(f"{name}=") for item in words):
            found = [item for item in words if item.value.startswith(incomplete)]
            before, _, path = incomplete.rpartition("=")
            if found or "/" not in path:
                return found
            return [CompletionItem(one) for one in values.paths(f"{before}=", path)]
        values.Place.before = 0
        found = []
        for item in super().get_completions([*args, name], value):
            if item.type == "plain":
                found.append(CompletionItem(f"{name}={item.value}", help=item.help))
            else:
                found += [CompletionItem(one) for one in values.paths(f"{name}=", value)]
        return found


def _behind_option(args: list[str]) -> int:
    """Return how many words stand behind the last option."""
    for count, word in enumerate(reversed(args)):
        if word[:1] == "-":
            return count
    return 0


class _Bash(_Values, BashComplete):
    def get_completion_args(self) -> tuple[list[str], str]:
        """Read the line up to the cursor; a script of an earlier version passes words."""
        line = os.environ.get("COMP_LINE")
        if line is None:
            return super().get_completion_args()
        words = split_arg_string(line)
        incomplete = "" if line[-1:].isspace() or len(words) < 2 else words.pop()
        return words[1:], incomplete


class _Zsh(_Values, ZshComplete):
    pass


class _Fish(_Values, FishComplete):
    pass


def register() -> None:
    """Let click answer with these."""
    for kind in (_Bash, _Zsh, _Fish):
        add_completion_class(kind)
