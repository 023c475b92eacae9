"""Every command but run: its options against its man page, its --help and the reference."""

from __future__ import annotations

import re

import click
import pytest
from test_docs import ROOT, _help, _options_of_click, _options_of_help, _options_of_page

from pyspaces import cli
from pyspaces.commands.options import launch_options
from pyspaces.host import check as host_check

COMMANDS = [name for name in cli.COMMANDS if name not in ("run", "completion", "help")]


def command(name: str) -> click.Command:
    found = cli.group.get_command(click.Context(cli.group), name)
    assert found is not None
    return found


def own_options(name: str) -> set[frozenset[str]]:
    """Return the options of a command that are not those of a launch, which pyspaces-run(1) has."""
    found = set(_options_of_click(command(name)))
    if isinstance(group := command(name), click.Group):
        found.update(*map(_options_of_click, group.commands.values()))
    if name != "check":
        return found
    launch = set(_options_of_click(click.Command("launch", params=[*launch_options()])))
    launch.discard(frozenset({"--help"}))  # click's own
    assert launch <= found, "an option of a launch is missing"
    return found - launch


def test_rows_of_check_stand_in_its_man_page() -> None:
    text = (ROOT / "man" / "pyspaces-check.1").read_text()
    rows = re.findall(r"^\.It Cm (\S+)$", text, re.MULTILINE)
    assert [row for row in rows if "namespace-" not in row] == [
        name for name in host_check.NAMES if "namespace-" not in name
    ]


def test_there_are_commands_to_look_at() -> None:
    assert "list" in COMMANDS


@pytest.mark.parametrize("name", COMMANDS)
def test_options_are_those_of_the_man_page(name: str) -> None:
    page = _options_of_page(ROOT / "man" / f"pyspaces-{name}.1")
    assert len(page) == len(set(page)), "an option stands there twice"
    assert set(page) == own_options(name)


@pytest.mark.parametrize("name", COMMANDS)
def test_options_are_those_of_the_help(name: str) -> None:
    assert set(_options_of_help(_help(name))) == set(_options_of_click(command(name)))


@pytest.mark.parametrize("name", COMMANDS)
def test_options_stand_in_the_reference(name: str) -> None:
    text = (ROOT / "docs" / "reference" / "options.md").read_text()
    _, found, after = text.partition(f"| option of `pyspaces {name}` | meaning |\n| --- | --- |\n")
    assert found
    rows = re.findall(r"^\| (`.*)$", after.partition("\n\n")[0], re.MULTILINE)
    cells = [re.split(r"(?<!\\)\|", row)[0] for row in rows]
    shown = {word for cell in cells for word in re.findall(r"(?<![\w-])--?[a-zA-Z][\w-]*", cell)}
    assert shown == {word for option in own_options(name) for word in option}


@pytest.mark.parametrize("name", COMMANDS)
def test_the_man_page_is_installed(name: str) -> None:
    page = f"man/pyspaces-{name}.1"
    assert f'"{page}" = "share/man/man1/pyspaces-{name}.1"' in (ROOT / "pyproject.toml").read_text()
