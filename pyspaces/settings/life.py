"""The rows of the table of settings that say how a command is looked after, and their reading.

Pure; runs in the parent.
"""

from __future__ import annotations

from pyspaces.features.life import KILL_AFTER, Life, Outputs, seconds_of
from pyspaces.kernel import constants
from pyspaces.settings.shape import FLAG, LIFE, RECORDS, TERMINAL, VALUE, Setting
from pyspaces.status import SIGNAL_NAMES, signal_number

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any


LIFE_ROWS = (
    Setting(
        name="kill_child",
        kind=VALUE,
        group=LIFE,
        metavar="SIGNAL",
        words=SIGNAL_NAMES,
        help="signal to send to the command when the launcher dies (KILL)",
    ),
    Setting(
        name="no_kill_child",
        kind=FLAG,
        group=LIFE,
        help="let the command outlive the launcher",
    ),
    Setting(
        name="init",
        kind=FLAG,
        group=LIFE,
        implies=("pid",),
        help="run an init as process 1 that reaps orphans and forwards signals to the command",
    ),
    Setting(
        name="init_wait",
        kind=FLAG,
        group=LIFE,
        implies=("pid",),
        help="like --init, and wait until every process inside has ended",
    ),
    Setting(
        name="no_fork",
        short="-F",
        kind=FLAG,
        group=LIFE,
        help="execute the command in place of the launcher",
    ),
    Setting(
        name="timeout",
        kind=VALUE,
        group=LIFE,
        metavar="DURATION",
        help="send TERM after DURATION, such as 90, 1.5s, 2m or 1h; exit with status 124",
    ),
    Setting(
        name="kill_after",
        kind=VALUE,
        group=LIFE,
        metavar="DURATION",
        help="send KILL this long after the TERM of --timeout (10)",
    ),
    Setting(
        name="pty",
        short="-t",
        kind=FLAG,
        group=TERMINAL,
        help="run the command in a new session with a terminal of its own",
    ),
    Setting(
        name="new_session",
        kind=FLAG,
        group=TERMINAL,
        help="run the command in a new session without a terminal",
    ),
    Setting(
        name="status_fd",
        kind=VALUE,
        group=RECORDS,
        metavar="N",
        help="write the status record, one JSON object per line, to the open descriptor N",
    ),
    Setting(
        name="status_file",
        kind=VALUE,
        group=RECORDS,
        metavar="PATH",
        help="write the status record to PATH when the command has ended",
    ),
    Setting(
        name="pid_file",
        kind=VALUE,
        group=RECORDS,
        metavar="PATH",
        help="write the command's process ID to PATH while it runs",
    ),
    Setting(
        name="report",
        kind=FLAG,
        group=RECORDS,
        help="print a summary at the end: exit status, time and memory",
    ),
)


def life_from(values: Mapping[str, Any], faults: list[str]) -> Life:
    """Return how the launcher looks after its command; what is wrong is added to `faults`.

    values: the settings of the group LIFE and TERMINAL that are used; others are not looked at.
    """
    timeout = _seconds("timeout", values, faults)
    kill_after = _seconds("kill_after", values, faults)
    if kill_after is not None and "timeout" not in values:
        faults.append("kill-after: requires --timeout")
    init_wait = bool(values.get("init_wait"))
    in_place = bool(values.get("no_fork"))
    if in_place:
        faults.extend(
            f"no-fork: cannot be combined with --{name.replace('_', '-')}: no launcher is left"
            for name in ("kill_child", "no_kill_child")
            if values.get(name)
        )
    return Life(
        kill_child=None if in_place else _kill_child(values, faults),
        init=init_wait or bool(values.get("init")),
        init_wait=init_wait,
        in_place=in_place,
        new_session=bool(values.get("new_session")),
        pty=bool(values.get("pty")),
        timeout=timeout,
        kill_after=KILL_AFTER if kill_after is None else kill_after,
    )


def outputs_from(values: Mapping[str, Any], faults: list[str]) -> Outputs:
    """Return where the launcher tells what became of the command; likewise, of group RECORDS."""
    return Outputs(
        status_fd=_number("status_fd", values, faults),
        status_file=_path("status_file", values),
        pid_file=_path("pid_file", values),
        report=bool(values.get("report")),
        overlay_diff=_path("overlay_diff", values),
    )


def _seconds(name: str, values: Mapping[str, Any], faults: list[str]) -> float | None:
    given = values.get(name)
    if given is None or isinstance(given, float):
        return given
    try:
        return seconds_of(str(given))
    except ValueError as error:
        faults.append(f"{name.replace('_', '-')}: {error}")
        return None


def _number(name: str, values: Mapping[str, Any], faults: list[str]) -> int | None:
    given = values.get(name)
    if given is None:
        return None
    text = str(given)
    if not (text.isascii() and text.isdecimal()) or len(text) > 9:
        faults.append(f"{name.replace('_', '-')}: {text[:40]!r} is not the number of a descriptor")
        return None
    return int(text)


def _path(name: str, values: Mapping[str, Any]) -> str | None:
    given = values.get(name)
    return None if given is None else str(given)


def _kill_child(values: Mapping[str, Any], faults: list[str]) -> int | None:
    given = values.get("kill_child")
    if values.get("no_kill_child"):
        if given is not None:
            faults.append("kill-child: cannot be combined with --no-kill-child")
        return None
    if given is None:
        return constants.SIGKILL
    try:
        return signal_number(str(given))
    except ValueError as error:
        faults.append(f"kill-child: {error}")
        return constants.SIGKILL
