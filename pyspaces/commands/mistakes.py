"""What is added to an error of a command line: the option as it was typed, and what to write.

Loaded only for an error whose exit status says that the command line may be wrong. It reads
the words again, and does not know what the launch found.
"""

from __future__ import annotations

import os

from pyspaces import status
from pyspaces.commands import arguments as words_of
from pyspaces.commands import meant
from pyspaces.errors import TILDE, UsageFault, visible
from pyspaces.settings import nearest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from pyspaces.errors import SpaceError

_NO_COMMAND = "no command given"
_NOT_INTERACTIVE = (
    "-i is --ipc here, which needs --user; standard input is passed on in any case, and -t alone"
    " gives a terminal"
)
_DASHES = "\N{EN DASH}\N{EM DASH}\N{MINUS SIGN}"
_IMAGES = (
    *("almalinux", "alpine", "archlinux", "centos", "debian", "fedora", "hello-world", "mysql"),
    *("nginx", "postgres", "redis", "rockylinux", "ubuntu"),
)

_OPTIONAL = {"--net": "--net={}", "--mount": "--mount=type={},dst=/PATH"}

# What only a shell knows: characters that it takes, and commands that are part of it.
_SHELLS = {*";&|<>$`*?~"}
_BUILTIN = ("alias", "cd", "eval", "exec", "export", "set", "source", "ulimit", "umask", "unset")


class Line:
    """The words of a command line, as they were read.

    options: each with its values. command: the words behind the options. dashes: whether `--` is
    between them. known: how many values each option has.
    """

    def __init__(self, name: str, words: Sequence[str]) -> None:
        self.known = words_of.value_counts(name)
        self.options: list[list[str]] = []
        # The target of `enter` may stand before its options.
        at = 1 if name == "enter" and words and words[0][:1] != "-" else 0
        while at < len(words) and (length := words_of.length_of(words[at], self.known)):
            self.options.append([*words[at : at + length]])
            at += length
        self.dashes = at < len(words) and words[at] == "--"
        self.command = [*words[at + self.dashes :]]

    @property
    def last(self) -> list[str]:
        """The last option, with its values."""
        return self.options[-1] if self.options else [""]

    def typed(self, option: str) -> str | None:
        """Return the word by which an option was given, without a value; None if it was not."""
        short = words_of.short_of(option)
        for word, *_ in self.options:
            name = word.partition("=")[0]
            if name in (option, short, f"--no-{option[2:]}"):
                return name
        return None


def explain(error: SpaceError, words: Sequence[str]) -> None:
    """Add to an error what the command line `words` shows about it; mutates it.

    words: without the program's name.
    """
    if not words or words[0] not in words_of.COMMANDS:
        return
    line = Line(words[0], words[1:])
    if error.report and error.exit_status != status.NOT_FOUND:
        hint = _of_letters(error.message, line) or _of_launch(error.message, line)
        error.hint = hint or error.hint
        return
    if error.exit_status != status.NOT_FOUND:
        error.message = _as_typed(error.message, line)
        error.details = tuple(_as_typed(detail, line) for detail in error.details)
        readers = (_of_letters, _of_tilde, _of_usage)
        found = (reader(error.message, line) for reader in readers)
        error.hint = next(filter(None, found), error.hint)
    elif not error.hint:
        error.hint = _of_command(_as_read(line, words))


def _as_read(line: Line, words: Sequence[str]) -> Line:
    """Return the line as it was read, if it has options of other tools."""
    if line.dashes or "".join(line.command)[:1] != "-":
        return line
    from pyspaces.commands.words import aliases

    return Line(words[0], aliases.rewritten(words[0], [*words[1:]]))


def refuse_dashes(name: str, words: Sequence[str]) -> None:
    """Raise UsageFault if an option has taken `--`, which ends the options, as its value.

    The value of --setenv, and the text of --symlink, may be any word; so may one behind `=`.
    """
    for word, *values in Line(name, words).options:
        if "--" in values[word == "--symlink" :] and word != "--setenv":
            from pyspaces import settings

            option = word.partition("=")[0]
            rows = {row.option: row.metavar for row in settings.SETTINGS}
            rows |= {row.short: row.metavar for row in settings.SETTINGS if row.short}
            usage = f"{option} {rows.get(option, 'VALUE')}"
            raise UsageFault(
                [f"{option} took -- as its value"], hint=f"its value comes before --: {usage}"
            )


def _as_typed(text: str, line: Line) -> str:
    """Put the option in front of a message as it was typed: `--net: ...` for `net: ...`."""
    name, colon, rest = text.partition(": ")
    typed = line.typed(f"--{name}") if name.replace("-", "").isalnum() else None
    return f"{typed}{colon}{rest}" if typed else text


def _of_launch(message: str, line: Line) -> str | None:
    """Return what to write instead of what could be read, and could not be done."""
    for word, *values in line.options:
        if word in ("-it", "-ti"):
            return _NOT_INTERACTIVE
        option, value = _parts(word, values[0] if values else "")
        if option in ("--map-uid", "--map-gid", "-M", "-G") and _is_number(line.command[:1]):
            return _of_numbers(option)
        if option == "--net" and value[:4] == "ns:/":
            return meant.of_joined(value)
        if option == "--tmpfs" and ":" in value and visible(value) in message:
            return _of_tmpfs(value)
    option, *values = line.last
    is_meant = not values and line.command[1:2] == ["--"]  # as the value of a letter
    return _of_letter(option, visible(line.command[0])) if is_meant else None


def _is_number(words: Sequence[str]) -> bool:
    return bool(words) and words[0].isdecimal()


def _of_numbers(option: str) -> str:
    return f"{option} takes one value: put its numbers in one word, with commas between"


def _of_tmpfs(value: str) -> str | None:
    """Return what to write for podman's TARGET:OPTION,..."""
    from pyspaces.commands.words import volumes

    try:
        return f"write {visible(' '.join(volumes.tmpfs(value)))}"
    except volumes.Unknown:
        return None


def _of_letters(message: str, line: Line) -> str | None:
    """Return what to write for a letter and a value with = between, as in -w=DIR."""
    for word in (*(word for word, *_ in line.options), *line.command[:1]):
        letter, equals, value = word[:2], word[2:3], word[3:]
        if equals != "=" or letter[:1] != "-" or letter == "--":
            continue
        if message.endswith("no such option: -="):
            long = {"-n": "--net", "-m": "--mount"}.get(letter)
            return f"write {long}={visible(value)}" if long else f"{letter} takes no value"
        if f"={visible(value)}" in message:
            return _write(f"{letter} {value}", "without =")
    return None


def _of_tilde(message: str, line: Line) -> str | None:
    for word, *values in line.options:
        paths = (text.rpartition("=")[2] for text in (word, *values))
        if any(path[:1] == "~" and visible(path) in message for path in paths):
            return TILDE
    return None


def _of_usage(message: str, line: Line) -> str | None:
    for word, *values in line.options:
        option, first = _parts(word, values[0] if values else "")
        source, _, target = first.partition(":")
        takes_two = line.known.get(option) == 2 and option not in ("--setenv", "--symlink")
        if takes_two and source and target[:1] == "/":
            return _write(f"{option} {source} {target.partition(':')[0]}", "with a blank between")
        if line.known.get(option) == 2 and "=" in first and option == "--setenv":
            return _write(f"{option} {first.replace('=', ' ', 1)}", "with a blank between")
        if first[2:] and first[:2] == "--" and message.startswith(f"{option}: "):
            return f"{option} took {visible(first)} as its value"
        if hint := meant.of_value(message, option, first):
            return hint
    if message.startswith(_NO_COMMAND) and len(line.last) > 1:
        return f"{line.last[0]} took {visible(line.last[-1])!r} as its value"
    return None


def _parts(option: str, value: str) -> tuple[str, str]:
    name, equals, attached = option.partition("=")
    return (name, attached) if equals else (option, value)


def _of_command(line: Line) -> str | None:
    """Return what to write where a word was taken for the command, and is none."""
    return next(_answers(line, visible(line.command[0])), None) if line.command else None


def _answers(line: Line, command: str) -> Iterator[str]:
    if command[:1] == "-":
        yield "options come before --"
    elif command[:1] in _DASHES:
        yield f"{command[0]} is not a hyphen: write --{command.strip(_DASHES + '-')}"
    elif _is_image(command):
        yield (
            f"{command} is an image, of which there are none here:"
            " --root DIR runs a command in a directory tree"
        )
    elif " " in command and len(line.command) == 1:
        yield _of_line(command)
    elif "/" not in command and os.path.isfile(line.command[0]):
        yield f"to execute the file that is here: ./{command}"
    elif command in _BUILTIN:
        yield f"{command} is part of a shell: -- sh -c {_quoted(' '.join(line.command))}"
    elif not line.dashes or line.command[1:2] == ["--"]:
        yield from _among_options(line, command)


def _among_options(line: Line, command: str) -> Iterator[str]:
    """Yield what to write for a word that was to belong to the options before it."""
    option, *values = line.last
    if option and not values and "=" not in option:
        yield _of_flag(option, command)
    if values and command.isdecimal():
        yield _of_numbers(option)
    if f"--{command}" in line.known:
        yield f"did you mean --{command}?"
    if "=" in command:
        yield _of_assignment(option, command)
    if values and line.command[1:2] == ["--"]:
        its = "its value" if len(values) == 1 else "its values"
        yield f"{option} has {its}, so {command} was taken for the command{_more(option)}"


def _of_assignment(option: str, command: str) -> str:
    if option == "--rlimit":
        return f"--rlimit has its value: for another, write --rlimit {command}"
    return f"to set a variable: --setenv {command.replace('=', ' ', 1)}"


def _more(option: str) -> str:
    """Return what to write for one more value of an option."""
    from pyspaces import settings

    row = next((row for row in settings.SETTINGS if option in (row.option, row.short)), None)
    if row and row.listed:
        return "; its values are one word, with commas between"
    is_many = row and row.kind == settings.MANY
    return f"; for another, write {option} once more" if is_many else ""


def _of_line(command: str) -> str:
    """Return what to write for a line in one word.

    Without quotes, the caller's shell would take what is for a shell, and run the rest outside.
    """
    if _SHELLS & {*command}:
        return f"a line for a shell is run by one: -- sh -c {_quoted(command)}"
    return f"the command and its arguments are words of their own: -- {command}"


def _quoted(text: str) -> str:
    import shlex  # what only this error needs

    return shlex.quote(text)


def _of_letter(option: str, command: str) -> str | None:
    """Return what to write for a letter that means something else to other tools."""
    hint = None
    if option == "-v" and ":" in command:
        source, _, target = command.partition(":")
        hint = f"-v is --verbose; to mount: --bind {source} {target.partition(':')[0]}"
    elif option == "-p" and ":" in command:
        hint = f"-p is --pid; to publish a port: --net --publish {command}"
    elif option == "-p" and "=" in command:
        hint = "-p is --pid; what systemd-run has as properties are options: --memory, --cpus"
    elif option == "-u" and command.replace(":", "").isdecimal():
        hint = f"-u is --uts; to run as another user: {meant.as_user(command)}"
    elif option == "-t" and command.isdecimal():
        hint = f"-t is --pty; to enter a process: pyspaces enter {command}"
    return hint


def _of_flag(option: str, command: str) -> str:
    """Return what to write for a flag that something was given to as a value."""
    if hint := _of_letter(option, command):
        return hint
    if option == "--mount" and "=" in command:
        return f"a value of --mount follows =: --mount={command}"
    if option in _OPTIONAL:
        return f"a value of {option} follows =: {_OPTIONAL[option].format(command)}"
    return f"{option} takes no value, so {command} was taken for the command"


def _is_image(command: str) -> bool:
    """Return whether a command that is none can only be the name of an image."""
    name, _, tag = command.rpartition(":")
    host, slash, _ = command.partition("/")
    tagged = bool(name and tag) and "/" not in tag and name.rpartition("/")[2] in _IMAGES
    return command in _IMAGES or tagged or (bool(slash) and host.endswith((".io", ".com", ".org")))


def _write(words: str, why: str) -> str:
    return f"write {visible(words)}, {why}"


def command_hint(typed: str, known: Iterable[str], others: Mapping[str, str], path: str) -> str:
    """Return what to write instead of an unknown command.

    known: the commands that there are. others: what other programs call them, and what to write
    instead. path: the words before the command.
    """
    if typed in others:
        return f"write `{path} {others[typed]}`"
    if near := nearest.words(typed, known):
        return f"did you mean {' or '.join(near)}?"
    if path == "pyspaces" and _is_program(typed):
        return f"to run it: {path} run -- {visible(typed)}"
    return f"see `{path} --help`"


def _is_program(name: str) -> bool:
    places = os.environ.get("PATH", os.defpath).split(os.pathsep)
    paths = [os.path.join(place, name) for place in places]
    return any(os.path.isfile(path) and os.access(path, os.X_OK) for path in paths)
