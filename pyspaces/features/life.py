"""The life of a command: how it begins, how it is tied to its launcher, its time, its terminal.

Pure, but for the steps, which the child takes.
"""

from __future__ import annotations

import os

from pyspaces.feature import LIFE, TERMINAL, Feature, Missing, Part, Step, flag, value
from pyspaces.kernel import constants, libc
from pyspaces.kernel.libc import Naming, c_string_fault
from pyspaces.status import SIGNAL_NAMES, signal_name, signal_number

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyspaces.feature import Given
    from pyspaces.launch.inner.steps import Context
    from pyspaces.plan import Plan
    from pyspaces.plan.equivalent import Caller

KILL_AFTER = 10.0
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_LONGEST = 100 * 365 * 86400.0


class Life(Part):
    """How the launcher looks after its command.

    kill_child: the signal that the command gets when the thread that launched it ends, or None.
    init: whether process 1 is our own init, which reaps orphans and forwards signals. init_wait:
    whether it waits for every process of the namespace. in_place: whether the launcher becomes the
    command. new_session: whether the command leads a session without a terminal. pty: whether it
    gets a terminal of its own. timeout: how many seconds it may run, or None. kill_after: how many
    seconds after the first signal it is killed. argv0: the first word that the command sees, if
    that is not its own. die_with_parent: whether the launcher, and so the command, dies with the
    thread that has started the launcher.
    """

    kill_child: int | None = constants.SIGKILL  # as `Plan.kill_signal` has it
    init: bool = False
    init_wait: bool = False
    in_place: bool = False
    new_session: bool = False
    pty: bool = False
    timeout: float | None = None
    kill_after: float = KILL_AFTER
    argv0: str | None = None
    die_with_parent: bool = False

    @property
    def is_served(self) -> bool:
        """Whether there may be services: not for kill_child alone, which programs change."""
        return self.init or self.pty or self.timeout is not None or self.die_with_parent

    @property
    def own_session(self) -> bool:
        """Whether the command is in a session that the caller's terminal cannot signal."""
        return self.new_session or self.pty

    def faults(self, plan: Plan) -> Iterator[str]:
        del plan
        if self.kill_child is not None and not 1 <= self.kill_child <= constants.SIGNAL_MAX:
            yield f"kill-child: {self.kill_child}: is not a signal"
        if self.timeout is not None and not 0 < self.timeout <= _LONGEST:
            yield f"timeout: {self.timeout:g} s: is not more than 0 and up to 100 years"
        if not 0 <= self.kill_after <= _LONGEST:
            yield f"kill-after: {self.kill_after:g} s: is not between 0 and 100 years"
        if self.argv0 is not None and (fault := _name_fault(self.argv0)):
            yield f"argv0: {self.argv0!r}: {fault}"


def _name_fault(name: str) -> str | None:
    return c_string_fault(name) if name else "is empty"


def _read(given: Given, plan: Plan) -> Life:
    init_wait = given.flag("init_wait")
    in_place = given.flag("no_fork")
    kill_after = _seconds(given, "kill_after")
    # Without a launcher that stays, there is no death to react to.
    stays = not (in_place or (plan.holds("existing") and plan.existing.hold))
    return Life(
        kill_child=_kill_child(given) if stays else None,
        init=init_wait or given.flag("init"),
        init_wait=init_wait,
        in_place=in_place,
        new_session=given.flag("new_session"),
        pty=given.flag("pty"),
        timeout=_seconds(given, "timeout"),
        kill_after=KILL_AFTER if kill_after is None else kill_after,
        argv0=given.text("argv0"),
        die_with_parent=given.flag("die_with_parent"),
    )


def _seconds(given: Given, name: str) -> float | None:
    number = given.values.get(name)
    if isinstance(number, float):
        return number
    found: float | None = given.parsed(name, seconds_of)
    return found


def _kill_child(given: Given) -> int | None:
    if given.flag("no_kill_child"):
        return None
    number: int | None = given.parsed("kill_child", signal_number)
    return constants.SIGKILL if number is None else number


def seconds_of(text: str) -> float:
    """Read a duration such as 90, 1.5s, 2m, 1h or 1d. Raises ValueError saying why not."""
    unit = text[-1:] if text[-1:] in _UNITS else ""
    number = text.removesuffix(unit) if unit else text
    whole, _, fraction = number.partition(".")
    digits = whole + fraction
    if not (digits.isascii() and digits.isdecimal()) or len(whole) > 12:
        raise ValueError(
            f"{text[:40]!r} is not a duration: a number that is not negative, and s, m, h or d"
        )
    return float(number) * _UNITS.get(unit, 1)


def _tie_to_caller_inner(context: Context) -> None:
    # A change of ids has cleared what the launcher had asked for: prctl(2).
    libc.set_parent_death_signal(constants.SIGKILL)
    if os.getppid() != context.caller:
        os._exit(0)


def _begin_session_inner(context: Context) -> None:
    del context
    with Naming("setsid"):
        os.setsid()


def _attach_terminal_inner(context: Context) -> None:
    assert context.attach
    context.attach()


def _equivalent(plan: Plan, caller: Caller) -> Iterator[str]:
    """Yield --fork only if it is needed: otherwise unshare(1) becomes the command."""
    del caller
    if not (plan.has("pid") or plan.has("time")):
        return
    yield "--fork"
    number = plan.life.kill_child
    if number == constants.SIGKILL:
        yield "--kill-child"
    elif number is not None:
        name = signal_name(number)
        yield f"--kill-child={name}"
        if not name.startswith("SIG"):
            yield Missing(f"life.kill_child: {name} has no name for unshare(1)")


TIE_TO_CALLER = Step(
    title="tie the command to the life of the caller",
    # Otherwise the launcher itself is tied to it, and the command to the launcher.
    applies=lambda plan: plan.life.in_place and plan.life.die_with_parent,
    act=_tie_to_caller_inner,
)
BEGIN_SESSION = Step(
    title="begin a new session",
    applies=lambda plan: plan.life.new_session,
    act=_begin_session_inner,
    for_command=True,
)
ATTACH_TERMINAL = Step(
    title="give the command a terminal",
    applies=lambda plan: plan.life.pty,
    act=_attach_terminal_inner,
    for_command=True,
)


FEATURE = Feature(
    name="life",
    part=Life,
    settings=(
        value(
            "kill_child",
            LIFE,
            "SIGNAL",
            "signal to send to the command when the launcher dies (KILL)",
            words=SIGNAL_NAMES,
        ),
        flag("no_kill_child", LIFE, "let the command outlive the launcher"),
        flag(
            "init",
            LIFE,
            "run an init as process 1 that reaps orphans and forwards signals to the command",
            implies=("pid",),
        ),
        flag(
            "init_wait",
            LIFE,
            "like --init, and wait until every process inside has ended",
            implies=("pid",),
        ),
        flag(
            "as_pid_1",
            LIFE,
            "run the command as process 1, without an init: the default with --pid",
            implies=("pid",),
        ),
        flag("no_fork", LIFE, "execute the command in place of the launcher", short="-F"),
        flag("die_with_parent", LIFE, "kill the launcher and the command when the caller dies"),
        value("argv0", LIFE, "NAME", "let the command see NAME as its own name, argv[0]"),
        value(
            "timeout",
            LIFE,
            "DURATION",
            "send TERM after DURATION, such as 90, 1.5s, 2m or 1h; exit with status 124",
            everyday=True,
        ),
        value(
            "kill_after", LIFE, "DURATION", "send KILL this long after the TERM of --timeout (10)"
        ),
        flag(
            "pty",
            TERMINAL,
            "give the command a session and terminal of its own",
            short="-t",
            everyday=True,
        ),
        flag("new_session", TERMINAL, "run the command in a new session without a terminal"),
    ),
    read=_read,
    also=("hold",),  # which has no launcher
    needs={"init": ("pid",)},
    # That the launcher's death is to be survived is said by an option of its own.
    options={"in_place": "no-fork", "kill_child": ""},
    quiet=("new_session", "pty"),
    equivalent=_equivalent,
    translated=("kill_child", "in_place"),  # unshare(1) becomes the command by itself
)
