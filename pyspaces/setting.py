"""What a setting is: its kind, its heading, and the record that describes it.

Pure; runs in any process.
"""

from __future__ import annotations

from pyspaces.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# How often a setting is given, and with what.
FLAG, TOGGLE, VALUE, MANY, PAIRS = "flag", "toggle", "value", "many", "pairs"
# Those whose order among each other counts; in a mapping they are one list, `mounts`.
ORDERED = "ordered"

# The headings of --help, in their order.
NAMESPACES, IDENTITY, SETUP, MOUNTS, ENVIRONMENT = (
    "Namespaces",
    "Identity",
    "Set-up",
    "Mounts",
    "Environment",
)
EXISTING = "Existing namespaces and names"
# What any command that starts one takes, in new namespaces or in old ones.
LIFE, TERMINAL, RECORDS = "Life of the command", "Terminal", "Records"
GROUPS = (NAMESPACES, EXISTING, IDENTITY, SETUP, MOUNTS, ENVIRONMENT, LIFE, TERMINAL, RECORDS)


class Setting(Record):
    """One setting: its name (as a key; the option has dashes), shape, help and meaning.

    kind: FLAG (bool), TOGGLE (bool, or absent for the default), VALUE (text), MANY (a
    list of texts), PAIRS (a list of two texts each) or ORDERED (the words of the metavar).
    words: what a value may be, or begin with. listed: whether a value is a comma-separated list of
    words. directory: whether it is one. implies: the namespaces that come with it.
    """

    name: str
    kind: str
    group: str
    help: str
    short: str = ""
    metavar: str = ""
    words: tuple[str, ...] = ()
    listed: bool = False
    directory: bool = False
    implies: tuple[str, ...] = ()

    @property
    def option(self) -> str:
        """The long option of the command line."""
        return "--" + self.name.replace("_", "-")


def flag(name: str, group: str, text: str, **more: Any) -> Setting:
    """Return a setting that is on or off. text: its help. more: other fields of Setting."""
    return Setting(name=name, kind=FLAG, group=group, help=text, **more)


def toggle(name: str, group: str, text: str, **more: Any) -> Setting:
    """Return a setting that is on, off, or left to its default; likewise."""
    return Setting(name=name, kind=TOGGLE, group=group, help=text, **more)


def value(name: str, group: str, metavar: str, text: str, **more: Any) -> Setting:
    """Return a setting with one value; likewise."""
    return Setting(name=name, kind=VALUE, group=group, metavar=metavar, help=text, **more)


def many(name: str, group: str, metavar: str, text: str, **more: Any) -> Setting:
    """Return a setting that can be repeated; likewise."""
    return Setting(name=name, kind=MANY, group=group, metavar=metavar, help=text, **more)
