"""The settings that a caller gave, as the features read them.

Pure; runs in the parent.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from pyspaces.errors import SpaceError


class Given:
    """The values of the settings in use, by name; what is wrong with them is collected.

    namespaces: those that are to be new. joined: those that are joined. faults: what is wrong, a
    line each. lacking: what the host does not have, of what the settings name.
    """

    def __init__(self, values: Mapping[str, Any], faults: list[str]) -> None:
        self.values = values
        self.faults = faults
        self.namespaces: tuple[str, ...] = ()
        self.joined: frozenset[str] = frozenset()
        self.lacking: SpaceError | None = None

    def has(self, name: str) -> bool:
        """Tell whether a setting is in use."""
        return name in self.values

    def flag(self, name: str) -> bool:
        """Return a setting that is on or off."""
        return bool(self.values.get(name))

    def text(self, name: str) -> str | None:
        """Return a value as text; None where there is none."""
        value = self.values.get(name)
        return None if value is None else str(value)

    def texts(self, name: str) -> list[str]:
        """Return the values of a repeatable setting as texts."""
        return [str(text) for text in self.values.get(name, ())]

    def words(self, name: str) -> list[str]:
        """Return the words of a repeatable setting whose values are lists of words."""
        return [word.strip() for text in self.texts(name) for word in text.split(",")]

    def parsed(self, name: str, parse: Callable[[str], Any]) -> Any:
        """Return what `parse` makes of a text, None without one; its ValueError is a fault."""
        text = self.text(name)
        try:
            return None if text is None else parse(text)
        except ValueError as error:
            self.faults.append(f"{name.replace('_', '-')}: {error}")
            return None
