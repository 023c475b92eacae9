"""Find out what this host allows, by trying each feature in a child process.

Runs in the parent, and only on request. Must not know how findings are shown.
"""

from __future__ import annotations

from pyspaces.host.check.probes import PROBES
from pyspaces.host.check.rules import RULES
from pyspaces.host.check.trial import DEGRADED, NO, YES, Row, finding, launchable, of_trial
from pyspaces.host.check.verdict import ORDINARY, Trouble, ordinary, troubles
from pyspaces.host.check.where import facts
from pyspaces.kernel.libc import KernelError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "DEGRADED",
    "NAMES",
    "NO",
    "ORDINARY",
    "YES",
    "Row",
    "Trouble",
    "examine",
    "facts",
    "launchable",
    "of_trial",
    "ordinary",
    "troubles",
]

_ALL = {**PROBES, **RULES}
NAMES = tuple(_ALL)


def examine(names: Iterable[str] = NAMES) -> list[Row]:
    """Try the features `names`, which are in NAMES, and return a row for each.

    Each takes about 2 ms, and leaves nothing behind. Raises KeyError for an unknown name.
    """
    return [_row(name).replace(name=name) for name in names]


def _row(name: str) -> Row:
    try:
        return _ALL[name]()
    except KernelError as error:  # in this process: no descriptors, no /proc
        where = f" {error.filename}" if error.filename else ""
        return finding(NO, f"{error.call}{where}: {error.strerror}")
