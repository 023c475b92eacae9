"""The small parser against click: the same reading of a command line, or none.

Click is asked for every line, so that the small parser can neither read one in another way nor
leave all of them.
"""

from __future__ import annotations

import contextlib
import copy
import io
from typing import Any

import click
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from pyspaces.commands import fast, options
from pyspaces.commands.enter import enter
from pyspaces.commands.optional import OptionalValue
from pyspaces.commands.run import run
from pyspaces.commands.words import aliases
from pyspaces.errors import UsageFault
from pyspaces.settings import BY_NAME, TOGGLE

READERS = {"run": fast.line_of_run, "enter": fast.line_of_enter}
COMMANDS = {"run": run, "enter": enter}
# What the small parser leaves although click would take it: how to talk, and files, which click
# looks at.
LEFT = {
    name: {option.name for option in options.general_options()}
    | {param.name for param in command.params if isinstance(param.type, click.Path)}
    for name, command in COMMANDS.items()
}


def by_click(name: str, words: list[str]) -> tuple[tuple[str, ...], dict[str, Any]] | None:
    """Return what click hands to the plan; None where it has an error, help, or more to do."""
    taken: list[tuple[tuple[str, ...], dict[str, Any]]] = []

    def take(command: tuple[str, ...], **values: Any) -> None:
        if any(values.get(option) not in (None, False) for option in LEFT[name]):
            return
        if name == "run":
            values = options.used(values, BY_NAME)
        taken.append((command, {key: value for key, value in values.items() if used(key, value)}))

    def used(key: str, value: object) -> bool:
        toggle = key in BY_NAME and BY_NAME[key].kind == TOGGLE
        # `--root` of `enter` is a toggle, and that of `run` a directory.
        return value is not None and value != () and (value is not False or toggle or key == "root")

    command = copy.copy(COMMANDS[name])
    command.callback = take
    errors = (click.ClickException, UsageFault)
    with contextlib.suppress(*errors), contextlib.redirect_stdout(io.StringIO()):
        command.main(words, standalone_mode=False, obj={})
    return taken[0] if taken else None


def has_words_of_others(name: str, words: list[str]) -> bool:
    try:
        return aliases.rewritten(name, words) != words
    except UsageFault:
        return True


def has_dashes(values: object) -> bool:
    """Return whether one of the values is `--`, which is a mistake with most options."""
    if isinstance(values, dict):
        values = tuple(values.values())
    if isinstance(values, tuple | list):
        return any(map(has_dashes, values))
    return values == "--"


def check(name: str, words: list[str]) -> None:
    """Compare both readings of a line; those of `run` in the order of the values, too."""
    expected, found = by_click(name, list(words)), READERS[name](words)
    if found is None and (has_words_of_others(name, words) or has_dashes(expected and expected[1])):
        return  # left to click
    assert found == expected
    if name == "run" and found and expected:
        assert list(found[1]) == list(expected[1])


VALUES = st.sampled_from(
    [
        "a",
        "/x",
        "",
        "1",
        "-1",
        "0,0,1",
        "b=c",
        "=",
        "--",
        "-",
        "-x",
        "-U",
        "--user",
        "\u00fc",
        "\udcff",
    ]
)
NAMES = {
    name: [
        word
        for param in command.params
        if isinstance(param, click.Option)
        for word in (*param.opts, *param.secondary_opts)
    ]
    for name, command in COMMANDS.items()
}
# Those whose value may be left out, and is behind `=` otherwise.
OPTIONAL = {
    name: [
        word
        for param in command.params
        if isinstance(param, OptionalValue)
        for word in param.opts
        if len(word) > 2
    ]
    for name, command in COMMANDS.items()
}
COUNTS = {
    name: {
        word: 0 if param.is_flag or param.count else param.nargs
        for param in command.params
        if isinstance(param, click.Option)
        for word in (*param.opts, *param.secondary_opts)
    }
    for name, command in COMMANDS.items()
}


def odd(name: str, word: str) -> st.SearchStrategy[list[str]]:
    """Draw what is wrong, or not all of it: letters put together, a name cut off, values lost."""
    letters = [word[1] for word in NAMES[name] if len(word) == 2]
    joined = st.lists(st.sampled_from([*letters, "=", "-"]), max_size=5)
    return st.one_of(
        joined.map(lambda chosen: ["-" + "".join(chosen)]),
        joined.map(lambda chosen: ["-" + "".join(chosen)]),
        st.sampled_from([word[:-1], word + "x", word.upper(), "--no" + word[1:]]).map(
            lambda w: [w]
        ),
        VALUES.map(lambda value: [value]),
        VALUES.map(lambda value: [f"{word}={value}"]),
        st.lists(VALUES, max_size=3).map(lambda values: [word, *values]),
    )


@st.composite
def groups(draw: st.DrawFn, name: str) -> list[str]:
    """Draw an option with its values, most of the time; now and then something odd."""
    kind, word = draw(st.integers(0, 10)), draw(st.sampled_from(NAMES[name]))
    if kind == 0:
        return draw(odd(name, word))
    if kind == 10 and OPTIONAL[name]:
        return [f"{draw(st.sampled_from(OPTIONAL[name]))}={draw(VALUES)}"]
    count = COUNTS[name][word]
    values = draw(st.lists(VALUES, min_size=count, max_size=count))
    if kind < 4 and values:
        return [f"{word}{'=' * (len(word) > 2)}{values[0]}", *values[1:]]
    return [word, *values]


def lines(name: str) -> st.SearchStrategy[list[str]]:
    words = st.lists(groups(name), max_size=6).map(
        lambda parts: [w for part in parts for w in part]
    )
    command = st.sampled_from(
        [
            [],
            ["ls"],
            ["--", "ls", "-l"],
            ["--"],
            ["box", "--user", "--", "-p"],
            ["box", "-Up", "ls"],
        ]
    )
    return st.tuples(words, command).map(lambda both: [*both[0], *both[1]])


def both(count: int) -> settings:
    return settings(max_examples=count, suppress_health_check=list(HealthCheck), database=None)


@both(4 * settings().max_examples)
@given(lines("run"))
@example(["--setenv", "A", "--", "--", "x"])
@example(["--net", "user", "--net=x"])
@example(["--net=", "--net=-U", "-n", "--net=user", "--", "ls"])
@example(["-Un=user"])
@example(["-Upw/x", "-w=y", "--tmpfs=/a", "--read-only", "--size", "1", "--bind=a", "b"])
def test_random_lines_of_run_are_read_as_click_reads_them_or_left(words: list[str]) -> None:
    check("run", words)


@both(4 * settings().max_examples)
@given(lines("enter"))
@example(["--setenv", "A", "--", "box", "x"])
@example(["--target=", "box", "x"])
@example(["box", "-t", "other", "x"])
@example(["--allow-read", "--", "box", "-Up", "ls"])  # `--` is the value
@example(["-N"])  # nsenter's
@example(["--wd=/", "-U", "--mount-proc=/x"])
def test_random_lines_of_enter_are_read_as_click_reads_them_or_left(words: list[str]) -> None:
    check("enter", words)


@pytest.mark.stress
@pytest.mark.as_root  # once is enough: who reads a line makes no difference
@pytest.mark.parametrize("part", range(10))  # of 20,000 lines in all, each within the time limit
@pytest.mark.parametrize("name", COMMANDS)
def test_many_random_lines_are_read_as_click_reads_them_or_left(name: str, part: int) -> None:
    both(1000)(given(lines(name))(lambda words: check(name, words)))()


@pytest.mark.parametrize(
    ("line", "command", "values"),
    [
        ("", (), {}),
        ("--net ls", ("ls",), {"net": True}),
        ("--net=user ls", ("ls",), {"net": "user"}),
        ("--net=user -n --net= ls", ("ls",), {"net": ""}),
        (
            "--user -pm --ro-bind /usr /u --hostname=x -w /u --setenv A 1 -- ls -l",
            ("ls", "-l"),
            {
                "user": True,
                "pid": True,
                "mount": True,
                "hostname": "x",
                "workdir": "/u",
                "setenv": (("A", "1"),),
                "mounts": [["ro_bind", "/usr", "/u"]],
            },
        ),
    ],
)
def test_the_usual_lines_of_run_are_taken(
    line: str, command: tuple[str, ...], values: dict[str, object]
) -> None:
    assert fast.line_of_run(line.split()) == (command, values)


def test_the_usual_lines_of_enter_are_taken() -> None:
    assert fast.line_of_enter(["box", "sh"]) == (("sh",), {"target": "box"})
    assert fast.line_of_enter(["-t", "7", "-Un", "--no-root", "--", "sh", "-c"]) == (
        ("sh", "-c"),
        {"target": "7", "user": True, "net": True, "root": False},
    )


@pytest.mark.parametrize(
    "line",
    [
        *("--help", "-h", "--version", "-Uh", "--dry-run", "--json", "-v", "--debug", "--plan x"),
        *("--use", "--user=", "--user=1", "--host x", "--nonsense", "-Z", "-UZ", "---user", "-U="),
        *("--hostname", "--bind a", "--setenv A", "--overlay=a b", "-w", "-Uw"),
    ],
)
def test_the_rest_is_left(line: str) -> None:
    assert fast.line_of_run(line.split()) is None
    assert fast.launch(["run", *line.split()]) is None


@pytest.mark.parametrize("name", ["--net-file", "--user-file", "--plan"])
def test_files_of_enter_are_left_to_click_which_looks_at_them(name: str) -> None:
    assert fast.line_of_enter([name, "/x", "sh"]) is None


@pytest.mark.parametrize(
    "words", [[], ["list"], ["--version"], ["ru"], ["run", "--help"], ["r", "un"]]
)
def test_other_commands_are_left(words: list[str]) -> None:
    assert fast.launch(words) is None


def test_completion_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_PYSPACES_COMPLETE", "bash_complete")
    assert fast.launch(["run", "--", "true"]) is None
    assert fast.launch(["enter", "box"]) is None
