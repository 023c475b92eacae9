"""A finding about the host, as plain data.

Pure; runs in any process.
"""

from __future__ import annotations

from pyspaces.record import Record

YES, NO, DEGRADED = "yes", "no", "degraded"


class Row(Record):
    """A finding about one feature.

    name: the feature; names are stable. answer: YES, NO, or DEGRADED if it works only in part or
    by a fallback. evidence: what shows this. remedy: the command or file that would fix it; None
    if nothing is wrong, or no remedy is known.
    """

    name: str
    answer: str
    evidence: str
    remedy: str | None = None
