"""Options made of settings: every setting has one, each takes and completes what it should."""

from __future__ import annotations

from typing import Any

import click
import pytest
from click.testing import CliRunner

from pyspaces import settings
from pyspaces.commands import options
from pyspaces.commands.helping import GENERAL, help_options
from pyspaces.commands.optional import Command, OptionalValue
from pyspaces.commands.options import GroupedCommand
from pyspaces.commands.run import run
from pyspaces.kernel import namespaces
from pyspaces.settings import (
    BY_NAME,
    FLAG,
    MANY,
    OPERATION,
    OPTIONAL,
    ORDERED,
    PAIRS,
    SETTINGS,
    TOGGLE,
    VALUE,
)


def parse(*arguments: str) -> dict[str, Any]:
    """Return what a command with all our options makes of `arguments`."""
    taken: dict[str, Any] = {}
    command = GroupedCommand(
        "x",
        params=[*options.launch_options(), click.Argument(["command"], nargs=-1)],
        callback=lambda **values: taken.update(values),
    )
    command.main(list(arguments), standalone_mode=False)
    return taken


def complete(name: str, incomplete: str) -> list[tuple[str, str]]:
    option = next(option for option in options.launch_options() if option.name == name)
    ctx = click.Context(click.Command("x"))
    return [(item.value, item.type) for item in option.shell_complete(ctx, incomplete)]


def test_one_option_for_each_setting_in_their_order() -> None:
    assert [option.name for option in options.launch_options()] == [row.name for row in SETTINGS]


def test_an_option_has_the_names_of_its_setting() -> None:
    for setting, option in zip(SETTINGS, options.launch_options(), strict=True):
        assert setting.option in option.opts
        assert not setting.short or setting.short in option.opts
        assert (setting.kind == TOGGLE) == bool(option.secondary_opts)
        assert setting.kind != TOGGLE or option.secondary_opts == [f"--no-{setting.option[2:]}"]
        assert option.is_flag == (setting.kind in (FLAG, TOGGLE))
        words = len(setting.metavar.split())
        ordered = setting.kind == ORDERED
        assert option.multiple == (
            setting.kind in (MANY, PAIRS, OPERATION) or (ordered and words > 0)
        )
        assert option.nargs == (2 if setting.kind == PAIRS else (ordered and words) or 1)
        bare = ordered and not words
        assert option.count == (bare or setting.kind in (OPTIONAL, OPERATION))
        assert option.help == setting.help


def test_nothing_given_is_nothing_used() -> None:
    taken = parse()
    empty: dict[str, object] = {FLAG: False, TOGGLE: None, VALUE: None, MANY: (), PAIRS: ()}
    empty |= {OPTIONAL: None, OPERATION: False}
    assert options.used(taken, BY_NAME) == {
        row.name: empty[row.kind] for row in SETTINGS if row.kind != ORDERED
    }


def test_operations_are_one_list_in_the_order_of_the_command_line() -> None:
    found: dict[str, Any] = {}
    command = GroupedCommand(
        "x",
        params=[*options.launch_options(), click.Argument(["command"], nargs=-1)],
        callback=lambda **values: found.update(options.used(values, BY_NAME)),
    )
    words = (
        "--tmpfs /a --bind b /b --read-only --user --tmpfs /c --size=1 --bind d /d"
        " --overlay u w /o --read-only --mount --mount=type=proc -m -- --bind x y"
    )
    command.main(words.split(), standalone_mode=False)
    assert found["mounts"] == [
        ["tmpfs", "/a"], ["bind", "b", "/b"], ["read_only"], ["tmpfs", "/c"], ["size", "1"],
        ["bind", "d", "/d"], ["overlay", "u", "w", "/o"], ["read_only"], ["mount", "type=proc"],
    ]  # fmt: skip
    assert found["user"] is found["mount"] is True
    assert not {"tmpfs", "bind", "read_only", "overlay"} & set(found)


def test_every_kind_of_value() -> None:
    taken = parse("-U", "--no-mount-proc", "--loopback", "-w", "/x", "-M0,1,1", "--map-uid=2:3:4")
    assert taken["user"] is True
    assert taken["mount_proc"] is False
    assert taken["loopback"] is True
    assert taken["workdir"] == "/x"
    assert taken["map_uid"] == ("0,1,1", "2:3:4")
    taken = parse("--setenv", "A", "1", "--setenv", "B", "--", "--setenv", "A", "")
    assert taken["setenv"] == (("A", "1"), ("B", "--"), ("A", ""))


def test_short_flags_can_be_joined() -> None:
    taken = parse("-Upnmrc")
    assert {name for name in BY_NAME if taken[name] in (True, (True,))} == {
        *("user", "pid", "net", "mount", "map_root", "map_current")
    }


def test_options_end_at_the_first_word_that_is_none() -> None:
    taken = parse("--user", "ls", "-p", "--net")
    assert taken["command"] == ("ls", "-p", "--net")
    assert (taken["user"], taken["pid"], taken["net"]) == (True, False, None)


def test_options_end_at_two_dashes() -> None:
    assert parse("--user", "--", "-p", "--", "x")["command"] == ("-p", "--", "x")


def test_negative_numbers_are_values() -> None:
    assert parse("--boottime", "-1.5")["boottime"] == "-1.5"
    assert parse("--monotonic=-1")["monotonic"] == "-1"


def test_an_option_is_not_known_by_its_beginning() -> None:
    with pytest.raises(click.NoSuchOption):
        parse("--host", "x")


def test_a_wrong_option_knows_its_command() -> None:
    with pytest.raises(click.UsageError) as caught:
        parse("--nonsense")
    assert caught.value.ctx is not None
    assert caught.value.ctx.command.name == "x"


def test_used_takes_only_the_names_asked_for() -> None:
    assert options.used({"a": 1, "b": None, "debug": True}, ["a", "b"]) == {"a": 1, "b": None}


@pytest.mark.parametrize(
    ("name", "incomplete", "expected"),
    [
        ("map_uid", "", ["root", "current", "auto", "subids", "all", "none"]),
        ("map_uid", "r", ["root"]),
        ("map_gid", "x", []),
        ("setgroups", "", ["allow", "deny"]),
        ("propagation", "s", ["slave", "shared"]),
        ("share", "u", ["user", "uts"]),
        ("share", "net,u", ["net,user", "net,uts"]),
        ("share", "net,ipc,", [f"net,ipc,{name}" for name in namespaces.NAMES]),
        ("hostname", "", []),
        ("setenv", "PAT", ["PATH"]),
        ("timeout", "1", []),
    ],
)
def test_words_are_completed(name: str, incomplete: str, expected: list[str]) -> None:
    assert complete(name, incomplete) == [(value, "plain") for value in expected]


def test_a_directory_is_left_to_the_shell() -> None:
    assert complete("workdir", "/et") == [("/et", "dir")]


def test_help_stands_under_headings() -> None:
    command = GroupedCommand(
        "x",
        params=[*options.launch_options(), *options.general_options(), *help_options()],
        help="Do it.",
        add_help_option=False,
    )
    done = CliRunner().invoke(command, ["--help-all"], terminal_width=100)
    assert done.exit_code == 0
    lines = done.output.splitlines()
    headings = [line[:-1] for line in lines if line.endswith(":") and not line.startswith(" ")]
    assert headings == [*settings.GROUPS, GENERAL]
    for group in settings.GROUPS:
        section = done.output.partition(f"\n{group}:\n")[2].partition("\n\n")[0]
        for setting in SETTINGS:
            shown = any(
                setting.option
                in line.split("  ")[1]
                .replace(",", " ")
                .replace("/", " ")
                .replace("[=", " ")
                .split()
                for line in section.splitlines()
                if line.startswith("  -")
            )
            assert shown == (setting.group == group), setting.name
    assert "--verbose" in done.output.partition("\nGeneral:\n")[2]


def parse_optional(kind: type[click.Command], *arguments: str) -> dict[str, Any]:
    """Return what a command with optional values makes of `arguments`."""
    taken: dict[str, Any] = {}
    command = kind(
        "x",
        params=[
            OptionalValue(["--net"], bare="new", metavar="KIND"),
            OptionalValue(["--keep", "--hold"], bare="", metavar="FILE", multiple=True),
            click.Option(["-n", "--name"]),
            click.Argument(["command"], nargs=-1),
        ],
        callback=lambda **values: taken.update(values),
    )
    command.main(list(arguments), standalone_mode=False)
    return taken


@pytest.mark.parametrize("kind", [Command, GroupedCommand])
@pytest.mark.parametrize(
    ("words", "net", "keep", "name", "command"),
    [
        ([], None, (), None, ()),
        (["--net"], "new", (), None, ()),
        (["--net", "ls"], "new", (), None, ("ls",)),
        (["--net=ls"], "ls", (), None, ()),
        (["--net=", "ls"], "", (), None, ("ls",)),
        (["--net=-x=y"], "-x=y", (), None, ()),
        (["--net", "--", "--net=x"], "new", (), None, ("--net=x",)),
        (["--net=a", "--net"], "new", (), None, ()),
        (["--name", "--net", "x"], None, (), "--net", ("x",)),
        (["--net", "-n", "x"], "new", (), "x", ()),
        (["--keep", "--hold=a", "--keep=b", "x"], None, ("", "a", "b"), None, ("x",)),
    ],
)
def test_a_value_that_may_be_left_out_is_taken_behind_an_equals_sign_only(
    kind: type[click.Command],
    words: list[str],
    net: str | None,
    keep: tuple[str, ...],
    name: str | None,
    command: tuple[str, ...],
) -> None:
    taken = parse_optional(kind, *words)
    assert (taken["net"], taken["keep"]) == (net, keep)
    assert (taken["name"], taken["command"]) == (name, command)


def test_an_optional_value_is_shown_behind_an_equals_sign() -> None:
    command = Command("x", params=[OptionalValue(["--net"], bare="", metavar="K", help="h")])
    done = CliRunner().invoke(command, ["--help"])
    assert "  --net[=K]  h\n" in done.output


@pytest.mark.parametrize("kind", [Command, GroupedCommand])
def test_an_optional_value_is_completed_as_one_word(kind: type[click.Command]) -> None:
    option = OptionalValue(["--net"], bare="", metavar="K", type=click.Choice(["up", "off"]))
    command = kind("x", params=[option, click.Option(["--name"])])
    found = [item.value for item in command.shell_complete(click.Context(command), "--n")]
    assert found == ["--net", "--name", "--net=up", "--net=off"]
    found = [item.value for item in command.shell_complete(click.Context(command), "--na")]
    assert found == ["--name"]


@pytest.mark.parametrize(
    ("words", "net", "name", "command"),
    [
        (["-N"], "new", None, ()),
        (["-N", "ls"], "new", None, ("ls",)),
        (["-Nn", "x", "--net=y"], "y", "x", ()),
        (["--net=y", "-N"], "new", None, ()),
    ],
)
def test_a_short_form_takes_no_optional_value(
    words: list[str], net: str, name: str | None, command: tuple[str, ...]
) -> None:
    """What follows could be the value, or the next flag."""
    taken: dict[str, Any] = {}
    params = [
        OptionalValue(["-N", "--net"], bare="new", metavar="K", help="h"),
        click.Option(["-n", "--name"]),
        click.Argument(["command"], nargs=-1),
    ]
    line = Command("x", params=params, callback=lambda **values: taken.update(values))
    line.main(words, standalone_mode=False)
    assert taken == {"net": net, "name": name, "command": command}
    assert "  -N, --net[=K]" in CliRunner().invoke(line, ["--help"]).output
    with pytest.raises(click.UsageError):
        line.main(["-N=x"], standalone_mode=False)


def test_the_network_is_completed_with_its_fixed_words() -> None:
    found = [item.value for item in run.shell_complete(click.Context(run), "--net")]
    words = ["--net", "--net=none", "--net=user", "--net=pasta", "--net=slirp4netns"]
    assert found[: len(words)] == words  # behind them, networks of whoever runs the tests
