"""A config.json, read with care: its size, its types, and what of it is left.

https://github.com/opencontainers/runtime-spec, config.md. Runs in the parent.
"""

from __future__ import annotations

import json
import os
import stat

from pyspaces.errors import UsageFault

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_LARGEST = 1 << 20  # as for profiles of system calls, of which it can hold one
_MOST = 4096
_SHOWN = 60
_WORDS = {dict: "an object", list: "a list", str: "a text", int: "a whole number"}
_WORDS |= {bool: "true or false"}


class Node:
    """An object in a config: its members are taken one by one, and the rest is told.

    faults, warnings: shared by all nodes: what cannot be done, and what is left out.
    """

    def __init__(
        self, data: dict[str, Any], where: str, faults: list[str], warnings: list[str]
    ) -> None:
        self._data = dict(data)
        self._where = where
        self._faults = faults
        self._warnings = warnings

    def take(self, name: str, kind: type, default: Any = None) -> Any:
        """Take a member of this type; `default` if it is missing, null or wrong."""
        value = self._data.pop(name, None)
        if value is None:
            return default
        if type(value) is not kind or (isinstance(value, str) and "\0" in value):
            self.fault(name, f"has to be {_WORDS[kind]}")
            return default
        return value

    def texts(self, name: str) -> list[str]:
        """Take a list of texts."""
        return self._each(name, str)

    def numbers(self, name: str) -> list[int]:
        """Take a list of whole numbers."""
        return self._each(name, int)

    def node(self, name: str) -> Node:
        """Take an object; an empty one if it is missing."""
        return Node(self.take(name, dict, {}), self.place(name), self._faults, self._warnings)

    def nodes(self, name: str) -> list[Node]:
        """Take a list of objects."""
        return [
            Node(data, f"{self.place(name)}[{index}]", self._faults, self._warnings)
            for index, data in enumerate(self._each(name, dict))
        ]

    def has(self, name: str) -> bool:
        """Return whether a member is there and says something."""
        return self._data.get(name) not in (None, "", [], {})

    def names(self) -> list[str]:
        """Return the members that are left."""
        return [*self._data]

    def forget(self, *names: str) -> None:
        """Leave members out that mean nothing for a launch."""
        for name in names:
            self._data.pop(name, None)

    def refuse(self, *names: str, why: str = "is not supported") -> None:
        """Make it a fault if one of these is there and says something."""
        for name in names:
            if self.has(name):
                self.fault(name, why)
            self.forget(name)

    def end(self) -> None:
        """Warn of what has not been taken."""
        for name in self._data:
            if self.has(name):
                self.warn(name, "is left out")

    def fault(self, name: str, why: str) -> None:
        """Add what cannot be done. name: the member, or empty."""
        self._faults.append(f"bundle: {self.place(name)}: {why}")

    def warn(self, name: str, why: str) -> None:
        """Add what is left out. name: the member, or empty."""
        self._warnings.append(f"bundle: {self.place(name)}: {why}")

    def place(self, name: str) -> str:
        """Return the path of a member."""
        return ".".join(filter(None, (self._where, name[:_SHOWN])))

    def _each(self, name: str, kind: type) -> list[Any]:
        items = self.take(name, list, [])
        if len(items) > _MOST:
            self.fault(name, f"is a list of {len(items)}; {_MOST} are the most")
            return []
        wrong = [item for item in items if type(item) is not kind or "\0" in str(item)]
        if wrong:
            self.fault(name, f"each of it has to be {_WORDS[kind]}")
        return [] if wrong else items


def read(path: str) -> dict[str, Any]:
    """Return the data of a config.json. Raises UsageFault."""
    try:
        found = json.loads(_content(path))
    except OSError as error:
        why = error.strerror or "cannot be read"
    except RecursionError:
        why = "is nested too deeply"
    except ValueError as error:
        why = str(error)[:200]
    else:
        if isinstance(found, dict):
            return found
        why = "has to be an object"
    raise UsageFault([f"bundle: {path}: {why}"])


def _content(path: str) -> str:
    if not stat.S_ISREG(os.stat(path).st_mode):  # opening a FIFO would wait
        raise ValueError("is not a regular file")
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    with open(descriptor, "rb") as file:
        content = file.read(_LARGEST + 1)
    if len(content) > _LARGEST:
        raise ValueError(f"is larger than {_LARGEST >> 20} MiB")
    return content.decode()
