"""STEPS: what the child does between the clone and the command, in its order.

What resolves them runs in the parent, before the fork; the steps run in the new process only. So
does the seal on imports, which comes before all of them.
"""

from __future__ import annotations

import os
import sys

from pyspaces.feature import Step
from pyspaces.kernel.libc import set_dumpable, set_parent_death_signal, set_signal_mask
from pyspaces.kernel.nsfs import has_ended
from pyspaces.launch.channel import STAGE
from pyspaces.plan.plan import PARTS, loaded
from pyspaces.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

    from pyspaces.features.confinement.ruleset import Ruleset
    from pyspaces.features.confinement.seccomp import Filter
    from pyspaces.launch.arranging import Locking
    from pyspaces.launch.channel import Channel
    from pyspaces.launch.handed import Handed
    from pyspaces.launch.init import Post
    from pyspaces.launch.inner import Telling
    from pyspaces.launch.inner.leading import Leading
    from pyspaces.launch.learning import Handover
    from pyspaces.launch.network.inside import Attachment, Inside
    from pyspaces.launch.network.wire import Wire
    from pyspaces.launch.signals import Inherited
    from pyspaces.mounts.building import Building
    from pyspaces.plan import Plan


FALLBACK_SHELL = b"/bin/sh"
NO_INTERPRETER = "the file is there, but not the interpreter that it names"


class ImportSealed(ImportError):
    """A module was imported in the child, where it could come from another root."""


class _Seal:
    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> None:
        raise ImportSealed(f"{name}: nothing is imported between the clone and exec")


def seal_imports() -> None:
    """Refuse every import of a module that is not loaded yet; more than once is fine."""
    sys.meta_path[:0] = [_Seal]


def unseal_imports() -> None:
    """Allow imports again; from here on they come from the command's own root."""
    while _Seal in sys.meta_path:
        sys.meta_path.remove(_Seal)


class Mapped(Record):
    """The ids that the new process takes once its id maps are written; None leaves one as it is.

    keeps_groups: whether the caller's supplementary groups stay. by_others: whether others write
    the maps, and the process has to look into them.
    """

    uid: int | None
    gid: int | None
    keeps_groups: bool
    by_others: bool


class Context(Record):
    """What the parent hands to the child through the fork.

    Whatever can be known before the fork is worked out there: each function that the child calls
    costs it some five pages of memory, each of which the kernel has to copy.

    channel: this side's end. launcher: a pidfd of the parent. inherited: the signal state for the
    command, and mask: the part of it that a sigset_t has. kill_signal: what the command gets when
    the launcher dies; 0 for none. steps: those of STEPS that the plan takes, and the text of each.
    mapped: the ids of a new user namespace; None if there is none. words: those that the command
    sees. candidates: the paths at which it may be, in their order. environment: the command's.
    directory: the caller's working directory; None if it has no path. function: what to call
    instead of executing the command. call: what calls that, or confines the command first. handed:
    its streams, descriptors and the like, if they are not those of the caller. held: whether it
    waits for a word right before exec.
    own_group: whether the command leads a process group of its own, out of the launcher's.
    attach: what gives the command its terminal, if any. post: what our own process 1 needs, if
    there is to be one, and limit: what leaves that no capability which its command, tracing it,
    could use. building: what carries out the plan's mounts, if it has any. guard: what closes
    /proc, if it is to be. leading: what checks where exec would lead, in a root that is not the
    caller's. network, uplink: what gives the launcher a socket of this network, if it needs one.
    between: the same for a network of several commands, and what shows the names on it.
    listening: the sockets that the command is given. ruleset: what the command can reach. filters:
    what it may call. handover: what lets its calls be watched. caller: the process with which it
    dies, if it was the launcher. locking: what locks files.
    """

    plan: Plan
    channel: Channel
    launcher: int
    inherited: Inherited
    mask: bytes
    kill_signal: int
    steps: tuple[tuple[Step, bytes], ...]
    mapped: Mapped | None
    words: tuple[bytes, ...]
    candidates: tuple[bytes, ...]
    environment: dict[bytes, bytes]
    directory: str | None = None
    function: Callable[[], object] | None = None
    call: Callable[[Telling], NoReturn] | None = None
    handed: Handed | None = None
    held: bool = False
    own_group: bool = False
    attach: Callable[[], object] | None = None
    post: Post | None = None
    limit: Callable[[], object] | None = None
    building: Building | None = None
    guard: Callable[[], object] | None = None
    leading: Leading | None = None
    network: Inside | None = None
    uplink: Attachment | None = None
    between: Wire | None = None
    listening: tuple[int, ...] = ()
    ruleset: Ruleset | None = None
    filters: tuple[Filter, ...] = ()
    handover: Handover | None = None
    caller: int = 0
    locking: Locking | None = None

    def tell(self, text: str) -> None:
        """Tell the parent what is about to be done, for the text of a failure."""
        self.channel.say(STAGE, os.fsencode(text))

    def program(self) -> str:
        """Return what is to be executed, as the caller wrote it."""
        return program_of(self.plan, self.handed)


def program_of(plan: Plan, handed: Handed | None) -> str:
    """Return what is to be executed, as the caller wrote it."""
    return (handed and handed.executable) or plan.command[0]


def make_ready(context: Context) -> None:
    """Do what comes right before every exec."""
    if context.handed:
        context.handed.take_inner()
    if context.leading:
        # Until exec, which undoes it: processes inside find no file of the host by /proc/PID.
        set_dumpable(dumpable=False)


def _tie_to_launcher(context: Context) -> None:
    """Die when the launcher dies; at once if it is dead already.

    After the ids have changed, since that clears the signal again (commit_creds() in
    kernel/cred.c). getppid(2) cannot tell: across a pid namespace it is always 0.
    """
    set_parent_death_signal(context.kill_signal)
    if has_ended(context.launcher):
        os._exit(0)


def _is_tied_again(plan: Plan) -> bool:
    changes = plan.holds("identity") and plan.identity.changes
    return changes and plan.kill_signal() is not None


def _restore_signals(context: Context) -> None:
    """Handlers first, mask last: a signal that came meanwhile does what it would to the command."""
    if context.function is None:  # a Python function keeps Python's handlers
        context.inherited.restore_actions_inner()
    set_signal_mask(context.mask)


TIE = Step(
    title="tie the command to the life of the launcher",
    applies=lambda plan: plan.kill_signal() is not None,
    act=_tie_to_launcher,
)
TIE_AGAIN = Step(
    title="tie the command to the life of the launcher again",
    applies=_is_tied_again,
    act=_tie_to_launcher,
    for_command=True,
)
RESTORE_SIGNALS = Step(
    title="restore the signals",
    applies=lambda plan: True,
    act=_restore_signals,
    for_command=True,
)

# A step of every launch, or the name of one: after the parts, or fields, of a plan that it is for,
# and the module that has it, if that is not the feature's own.
# The mapped ids are taken before this table begins: every step needs the rights of that user.
STEPS: tuple[Step | tuple[str, ...], ...] = (
    TIE,
    # Before the mounts: one of cgroup2 shows the cgroups from the root of this namespace on.
    ("resources", "CREATE_NAMESPACE"),
    # Before the mounts: the offsets are written through /proc, which a later root may lack.
    ("clocks", "ENTER"),
    # Through the caller's /proc, before any of what is mounted could take its place; and before
    # there is more than this one process to give the capability up.
    ("privileges", "FORBID_USER_NAMESPACES"),
    ("limits", "SET_OOM_SCORE"),
    # All are there now, and nothing has been mounted in one of them.
    ("existing", "pyspaces.launch.inner.keep", "KEEP"),
    # Before any mount is made, or the mount would be seen outside.
    ("mounts", "SET_PROPAGATION"),
    # Before the root moves: a path of outside may begin at the working directory.
    ("mounts", "FIND"),
    ("mounts", "ATTACH_ROOT"),
    ("mounts", "BUILD_TREE"),
    # While the old root is there: without an older procfs the kernel allows no new one.
    ("mounts", "MOUNT_PROC"),
    # After every mount of a /proc. By paths of the old one, as all that mounts.
    ("mounts", "GUARD_PROC"),
    ("mounts", "CHANGE_ROOT"),
    # In the command's root, and over whatever is there.
    ("between", "SHOW_NAMES"),
    ("uts", "SET_HOSTNAME"),
    ("uts", "SET_DOMAINNAME"),
    ("net", "RAISE"),
    # Its sockets inside have addresses of lo, and may have ports that take a capability.
    ("network", "CONNECT"),
    ("uplink", "ATTACH"),
    ("between", "GIVE"),
    # By the paths that the command has.
    ("naming", "COVER"),
    # After the mounts, which decide where the path leads.
    ("workdir mounts existing", "pyspaces.launch.inner.directory", "CHANGE"),
    ("workdir mounts existing", "pyspaces.launch.inner.directory", "NAME"),
    # By paths inside, with the rights of the mapped user.
    ("descriptors", "LOCK"),
    # While the rights for it are there: needs CAP_SETPCAP, which a change of ids may take. Of a
    # process 1 of ours too: a command that traces it could have it execute something as root.
    ("privileges", "DROP_BOUNDING"),
    ("privileges", "FORBID_NEW_PRIVILEGES"),
    # With the rights of the caller, who may give more than the command could take. The umask after
    # the mounts, whose mount points are made with the caller's.
    ("limits", "SCHEDULE"),
    ("limits", "SET_UMASK"),
    # After all that needs the rights of the mapped user.
    ("identity", "pyspaces.launch.inner.identity", "TAKE_IDS"),
    # After the ids, whose change empties the effective and the ambient set. It clears the signal of
    # the launcher's death no more: the sets only shrink (commit_creds() in kernel/cred.c).
    ("privileges", "SET_CAPABILITIES"),
    # With the capabilities of the command, and before a filter may refuse the attempt, or kill it.
    ("privileges", "ASSERT_NO_USER_NAMESPACES"),
    # A change of credentials clears the signal that the first step asked for: prctl(2).
    TIE_AGAIN,
    ("life", "TIE_TO_CALLER"),
    # After everything that could fail: from here on the terminal's messages are the command's.
    ("life", "BEGIN_SESSION"),
    ("life", "ATTACH_TERMINAL"),
    # By the process that becomes the command: its number is told to it.
    ("network", "HAND_OVER"),
    # Last: from here on a signal does to this process what it would do to the command.
    RESTORE_SIGNALS,
    # From here on `at_exec`. After all mounts, which it forbids; by paths as they are inside.
    ("landlock", "RESTRICT"),
    # The set-up needs the descriptors and the memory that these may deny.
    ("limits", "SET_RLIMITS"),
    # The very last: a filter may refuse whatever comes behind it but exec itself.
    ("seccomp", "INSTALL"),
)


def steps_of(plan: Plan) -> tuple[Step, ...]:
    """Return the steps that a plan takes; loads them, and the parts that the child may ask for.

    Must not be called in the child.
    """
    involved = plan.involved()
    for name in involved & PARTS.keys():
        getattr(plan, name)
    rows = [
        row for row in STEPS if isinstance(row, Step) or not involved.isdisjoint(row[0].split())
    ]
    return tuple([step for step in map(step_of, rows) if step.applies(plan)])


def step_of(row: Step | tuple[str, ...]) -> Step:
    """Return the step of a row of STEPS, loaded."""
    if isinstance(row, Step):
        return row
    part, *module, name = row
    step: Step = loaded(module[0] if module else PARTS[part].module, name)
    return step
