"""Where profiles are found: in the project, among the user's own, and among those that ship.

Runs in the parent. The project is the current directory, which may be anybody's checkout: a profile
of it is used only if it was asked for, and never in place of one of another place.
"""

from __future__ import annotations

import os

from pyspaces.errors import UsageFault
from pyspaces.features.existing.names import name_fault
from pyspaces.record import Record
from pyspaces.settings.profiles import files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    Tables = dict[str, Any]
    Look = Callable[[str, str, list["Overlooked"]], Iterator["Found"]]

PROJECT, USER, SHIPPED, FILE = "project", "user", "pyspaces", "file"
# The user's own comes before one that ships, and both belong to whom the caller trusts.
PLACES = (PROJECT, USER, SHIPPED)
_TRUSTED = (USER, SHIPPED)
_OF_PROJECT = ("./.pyspaces.toml", "./pyproject.toml")
_ENDING = ".toml"
_SHIPPED = os.path.join(os.path.dirname(__file__), "shipped")


class Found(Record):
    """A profile: its name, the kind of its place, its file, and its table as TOML has it.

    base: the directory of relative paths; empty for that of the caller. siblings: the tables of the
    other profiles in its file.
    """

    name: str
    place: str
    path: str
    table: dict[str, Any]
    base: str = ""
    siblings: dict[str, Any] | None = None

    def __str__(self) -> str:
        """Return what messages call it."""
        return self.path if self.place == FILE else f"{self.name} ({self.path})"

    @property
    def option(self) -> str:
        """The value of --profile that means this one, wherever else there is one of its name."""
        return self.path if self.place == FILE else f"{self.place}:{self.name}"


class Overlooked(Record):
    """A file that was left out, and why."""

    path: str
    why: str

    def __str__(self) -> str:
        return f"{self.path} was left out: it {self.why}"


def find(text: str) -> Found:
    """Return the profile that a user has named: NAME, PLACE:NAME, FILE or FILE:NAME.

    Raises UsageFault.
    """
    if "/" in text or text.endswith(_ENDING) or f"{_ENDING}:" in text:
        return _in_file(text)
    place, colon, name = text.rpartition(":")
    if colon and place not in PLACES:
        raise fault(f"{text[:80]!r}: a place is one of {', '.join(PLACES)}")
    if wrong := name_fault(name):
        raise fault(wrong)
    overlooked: list[Overlooked] = []
    found = [
        one for at in ([place] if colon else PLACES) for one in _in_place(at, name, overlooked)
    ]
    if not found:
        raise _missing(text, name, overlooked)
    others = [one for one in found[1:] if one.place != found[0].place]
    if found[0].place == PROJECT and others:
        raise fault(
            f"{name}: is in {found[0].path}, and is also one of"
            f" {'your own' if others[0].place == USER else 'those that ship with pyspaces'}",
            hint=f"say which: {PROJECT}:{name} or {others[0].place}:{name}",
        )
    return found[0]


def extended(by: Found, text: str) -> Found:
    """Return the profile that another one extends, by its name: of the same file, or a trusted one.

    A profile of a project extends none of the user's own, which others do not have. Raises
    UsageFault.
    """
    place, colon, name = text.rpartition(":")
    allowed = {PROJECT: (PROJECT, SHIPPED), SHIPPED: (SHIPPED,)}.get(by.place, _TRUSTED)
    if (colon and place not in allowed) or name_fault(name):
        what = f"is not a name, or one of {' and '.join(f'{one}:NAME' for one in allowed)}"
        raise fault(f"{by}: extends: {text[:80]!r} {what}")
    if by.siblings and name in by.siblings and place in ("", PROJECT):
        return by.replace(name=name, table=_as_table(by.siblings[name], f"{name} ({by.path})"))
    for at in [place] if colon else allowed:
        for one in _in_place(at, name, []) if at != PROJECT else ():
            return one
    raise fault(f"{by}: extends: {text[:80]}: no such profile")


def everything(notes: list[str]) -> Iterator[Found]:
    """Yield all profiles that have a name; say in `notes` what was left out, and why."""
    for path in _OF_PROJECT:
        yield from _noted(_all_in_project, path, "", notes)
    for place, directory in ((USER, user_directory()), (SHIPPED, _SHIPPED)):
        for name in _names(directory):
            yield from _noted(_in_place, place, name, notes)


def _noted(look: Look, place: str, name: str, notes: list[str]) -> list[Found]:
    left: list[Overlooked] = []
    found: list[Found] = []
    try:
        found += look(place, name, left)
    except UsageFault as broken:
        notes.append(broken.message)
    notes += map(str, left)
    return found


def _all_in_project(path: str, name: str, overlooked: list[Overlooked]) -> Iterator[Found]:
    del name
    tables = _tables(path, overlooked)
    for name in tables:
        yield _of_project(name, path, tables)


def user_directory() -> str:
    """Return the directory of the user's own profiles."""
    base = os.environ.get("XDG_CONFIG_HOME", "")
    if not base.startswith("/"):  # as the XDG Base Directory Specification wants it
        base = os.path.join(os.path.expanduser("~"), ".config")
    return os.path.join(base, "pyspaces")


def word_for(path: str) -> str:
    """Return by which word `find` finds the profile in a file."""
    directory, file = os.path.split(os.path.abspath(path))
    name = file.removesuffix(_ENDING)
    if name != file and directory == user_directory() and not name_fault(name):
        return name
    # A word alone is a name.
    return path if "/" in path or path.endswith(_ENDING) else f"./{path}"


def fault(text: str, hint: str | None = None) -> UsageFault:
    """Return the error about a profile."""
    return UsageFault([f"profile: {text}"], hint=hint)


def _in_place(place: str, name: str, overlooked: list[Overlooked]) -> Iterator[Found]:
    """Yield the profile of this name, if the place has one. Raises UsageFault for a broken file."""
    if place == PROJECT:
        for path in _OF_PROJECT:
            if name in (tables := _tables(path, overlooked)):
                yield _of_project(name, path, tables)
        return
    path = os.path.join(user_directory() if place == USER else _SHIPPED, f"{name}{_ENDING}")
    table = _read(path, overlooked, named=place == SHIPPED)
    if table is not None:
        yield Found(name=name, place=place, path=path, table=table)


def _of_project(name: str, path: str, tables: Tables) -> Found:
    table = _as_table(tables[name], f"{name} ({path})")
    return Found(
        name=name, place=PROJECT, path=path, table=table, base=os.getcwd(), siblings=tables
    )


def _as_table(data: Any, where: str) -> Tables:
    if not isinstance(data, dict):
        raise fault(f"{where}: has to be a table")
    return data


def _tables(path: str, overlooked: list[Overlooked]) -> Tables:
    """Return the tables of profiles in a file of the project."""
    data = _read(path, overlooked)
    return {} if data is None else _profiles_in(data, path)


def _profiles_in(data: Tables, path: str) -> Tables:
    keys: tuple[str, ...] = ("profile",)
    if os.path.basename(path) == "pyproject.toml":
        keys = ("tool", "pyspaces", "profile")
    else:
        for key in data:
            if key != "profile":
                raise fault(
                    f"{path}: {key[:60]!r}: this file has nothing but tables called profile.NAME"
                )
    found: Any = data
    for index, key in enumerate(keys):
        found = found.get(key, {})
        if not isinstance(found, dict):
            raise fault(f"{path}: {'.'.join(keys[: index + 1])}: has to be a table")
    return dict(found)


def _in_file(text: str) -> Found:
    """Return the profile that a file is, or the one of a name in a file that has several."""
    path, name = text, ""
    if not text.endswith(_ENDING) and f"{_ENDING}:" in text:
        path, _, name = text.rpartition(":")
    try:
        data = files.decoded(path, named=True)
    except FileNotFoundError:
        raise fault(f"{path}: no such file") from None
    except files.Unfit as unfit:
        raise fault(f"{path}: {unfit}") from None
    base = os.path.dirname(os.path.abspath(path))
    if not name:
        if isinstance(data.get("profile"), dict) and data["profile"]:
            some = next(iter(data["profile"]))
            raise fault(f"{path}: has several profiles", hint=f"name one: {path}:{some}")
        return Found(name=os.path.basename(path), place=FILE, path=path, table=data, base=base)
    tables = _profiles_in(data, path)
    if name not in tables:
        raise fault(f"{path}: {name[:60]}: no such profile")
    table = _as_table(tables[name], f"{path}: {name}")
    return Found(name=name, place=FILE, path=path, table=table, base=base, siblings=tables)


def _read(path: str, overlooked: list[Overlooked], *, named: bool = False) -> Tables | None:
    try:
        return files.decoded(path, named=named)
    except FileNotFoundError:
        return None
    except files.Untrusted as why:
        overlooked.append(Overlooked(path=path, why=str(why)))
        return None
    except files.Unfit as unfit:
        raise fault(f"{path}: {unfit}") from None


def _names(directory: str) -> list[str]:
    try:
        found = os.listdir(directory)
    except OSError:
        return []
    names = [name.removesuffix(_ENDING) for name in found if name.endswith(_ENDING)]
    return sorted(name for name in names if not name_fault(name))


def _missing(text: str, name: str, overlooked: list[Overlooked]) -> UsageFault:
    from pyspaces.settings import nearest

    known = {*_names(user_directory()), *_names(_SHIPPED)}
    for path in _OF_PROJECT:
        known.update(_tables(path, []))
    if overlooked:
        why = "; ".join(map(str, overlooked))
        path = overlooked[0].path
        path = f"{path}:{name}" if path in _OF_PROJECT else path
        return fault(f"{text[:80]}: no such profile: {why}", f"to use it, name the file: {path}")
    for file in (f"./{name[:80]}{_ENDING}", f"./{name[:80]}"):
        if text == name and os.path.isfile(file):
            return fault(f"{text[:80]}: no such profile", f"write {file} to name the file")
    near = nearest.words(name[:80], known, most=1)
    hint = f"did you mean {near[0]}?" if near else "see `pyspaces profile list`"
    return fault(f"{text[:80]}: no such profile", hint)
