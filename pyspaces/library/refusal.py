"""Errors of refused launches as OSError, which programs that start commands expect.

Runs in the parent.
"""

from __future__ import annotations

import os

from pyspaces.errors import SpaceError

_kinds: dict[type[OSError], type[SpaceError]] = {}


def as_os_error(error: SpaceError, filename: str | None) -> SpaceError:
    """Return the error as one that is also an OSError, if it has an errno.

    Its class derives from SpaceError and from the subclass of OSError that Python has for the
    errno, such as FileNotFoundError. filename: that of the OSError.
    """
    number = error.report.errno if error.report else 0
    if not number:
        return error
    return _rebuilt(_fields(error), number, filename)


def _fields(error: SpaceError) -> dict[str, object]:
    names = ("message", "details", "hint", "exit_status", "report")
    return {name: getattr(error, name) for name in names}


def _rebuilt(fields: dict[str, object], number: int, filename: str | None) -> SpaceError:
    error: SpaceError = _kind_of(type(OSError(number, "")))(**fields)  # type: ignore[arg-type]
    vars(error)["_rest"] = (number, filename)
    # Attributes of the base class, which mypy does not know: it is chosen here.
    for name, value in (
        *(("errno", number), ("strerror", os.strerror(number))),
        ("filename", filename),
    ):
        setattr(error, name, value)
    return error


def _kind_of(base: type[OSError]) -> type[SpaceError]:
    """Return the class that derives from SpaceError and `base`; there is one for each base."""
    if base not in _kinds:
        _kinds[base] = type(base.__name__, (_Refused, base), {"__module__": __name__})
    return _kinds[base]


class _Refused(SpaceError):
    """A SpaceError with an errno; pickled as its parts, since its class is made when needed."""

    def __reduce__(self) -> tuple[object, ...]:
        notes = {name: value for name, value in vars(self).items() if name == "__notes__"}
        return (_rebuilt, (_fields(self), *vars(self)["_rest"]), notes or None)
