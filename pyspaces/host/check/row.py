"""A finding about the host, as plain data.

Pure; runs in any process.
"""

from __future__ import annotations

from pyspaces.record import Record

YES, NO, DEGRADED = "yes", "no", "degraded"


class Row(Record):
    """What was found out about one thing.

    name: of the thing, for machines as for people; names stay. answer: YES, NO, or DEGRADED where
    it works by another way or in part. evidence: what shows it. remedy: the command or the file
    that would mend it; None where nothing has to be, or where none is known.
    """

    name: str
    answer: str
    evidence: str
    remedy: str | None = None
