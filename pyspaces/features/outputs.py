"""What the launcher reports about a command, and where.

Pure; runs in any process.
"""

from __future__ import annotations

from pyspaces.feature import RECORDS, Feature, Part, descriptor_of, flag, value
from pyspaces.kernel.libc import path_fault

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyspaces.feature import Given
    from pyspaces.plan import Plan


class Outputs(Part):
    """What the launcher reports about a command, and where.

    status_fd: the number of an open descriptor for the status record.
    status_file: the file for it. pid_file: the file that holds the pid while the command runs.
    report: whether a summary is printed at the end. overlay_diff: the file for the changes that the
    command made in temporary overlays; JSON if its name ends in .json, else text.
    """

    is_served = True

    status_fd: int | None = None
    status_file: str | None = None
    pid_file: str | None = None
    report: bool = False
    overlay_diff: str | None = None

    def __bool__(self) -> bool:
        return self != Outputs()

    def faults(self, plan: Plan) -> Iterator[str]:
        if self.status_fd is not None and self.status_fd < 0:
            yield f"status-fd: {self.status_fd}: is not a descriptor"
        for field in ("status_file", "pid_file", "overlay_diff"):
            if fault := path_fault(getattr(self, field)):
                yield f"{field.replace('_', '-')}: {fault}"
        if self.overlay_diff is not None and not any(
            type(one).__name__ == "TmpOverlay" for one in plan.mounts.operations
        ):
            yield "overlay-diff: needs --tmp-overlay or --throwaway, whose changes it reports"


def _read(given: Given, plan: Plan) -> Outputs:
    del plan
    return Outputs(
        status_fd=given.parsed("status_fd", descriptor_of),
        status_file=given.text("status_file"),
        pid_file=given.text("pid_file"),
        report=given.flag("report"),
        overlay_diff=given.text("overlay_diff"),
    )


FEATURE = Feature(
    name="outputs",
    part=Outputs,
    settings=(
        value(
            "status_fd",
            RECORDS,
            "N",
            "write the status record, one JSON object per line, to the open descriptor N",
        ),
        value(
            "status_file",
            RECORDS,
            "PATH",
            "write the status record to PATH when the command has ended",
        ),
        value("pid_file", RECORDS, "PATH", "write the command's process ID to PATH while it runs"),
        flag("report", RECORDS, "print a summary at the end: exit status, time and memory"),
    ),
    read=_read,
    also=("overlay_diff",),
)
