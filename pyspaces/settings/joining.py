"""The settings of existing namespaces, and of names: their rows, and how they are read.

Pure; runs in the parent.
"""

from __future__ import annotations

from pyspaces.features.existing.values import HOLDING, Joining, Keep, parse_join, parse_keep
from pyspaces.kernel import namespaces
from pyspaces.settings.shape import EXISTING, FLAG, MANY, VALUE, Setting

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_WORDS = tuple(f"{name}=" for name in namespaces.NAMES)

JOINING = (
    Setting(
        name="join",
        kind=MANY,
        group=EXISTING,
        metavar="NS=PATH|PID",
        words=_WORDS,
        help="join this namespace, of a file or a process, instead of creating one; repeatable",
    ),
    Setting(
        name="keep",
        kind=MANY,
        group=EXISTING,
        metavar="NS=FILE",
        words=_WORDS,
        help="create a namespace and persist it by binding it to FILE; repeatable",
    ),
    Setting(
        name="name",
        kind=VALUE,
        group=EXISTING,
        metavar="NAME",
        help="register NAME for `pyspaces enter`, `list` and `stop` while the command runs",
    ),
    Setting(
        name="hold",
        kind=FLAG,
        group=EXISTING,
        help="run no command; keep the namespaces until `pyspaces stop NAME`",
    ),
)


def command_from(words: Sequence[str], *, hold: bool, faults: list[str]) -> tuple[str, ...]:
    """Return the words of the command; a hold has none, but for a label."""
    if not hold:
        return tuple(words)
    if words:
        faults.append("hold: takes no command; without --hold, the command itself holds")
    return HOLDING


def joining_from(texts: Sequence[str], faults: list[str]) -> Joining:
    """Read the values of `join`; add what is wrong to `faults`."""
    joins = []
    for text in texts:
        try:
            joins.append(parse_join(text))
        except ValueError as error:
            faults.append(f"join: {error}")
    return Joining(joins=tuple(joins))


def keeps_from(texts: Sequence[str], faults: list[str]) -> tuple[Keep, ...]:
    """Read the values of `keep`; add what is wrong to `faults`."""
    keeps = []
    for text in texts:
        try:
            keeps.append(parse_keep(text))
        except ValueError as error:
            faults.append(f"keep: {error}")
    return tuple(keeps)


def namespaces_from(texts: Sequence[str]) -> Iterator[str]:
    """Yield the names in values of the form NS=..., wrong ones left out."""
    for text in texts:
        name = text.partition("=")[0]
        if name in namespaces.NAMES:
            yield name
