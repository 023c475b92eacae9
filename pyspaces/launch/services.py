"""What a launch takes along besides the child, each loaded only where the plan asks for it.

Runs in the parent: the records (`outer.journal`, `outer.report`, `outer.difference`), a terminal
(`terminal`, `outer.relay`), our own process 1 (`init`, `outer.link`), a name (`names.registry`) and
existing namespaces (`joining`), which the process that creates the child joins.
"""

from __future__ import annotations

import os
import time

from pyspaces.errors import JOIN, Report, SpaceError
from pyspaces.features import environment
from pyspaces.kernel import constants, namespaces, nsfs, procfs
from pyspaces.kernel.libc import KernelError
from pyspaces.launch import outer, signals
from pyspaces.launch.inner.identity import drop_groups

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pyspaces.features.existing.joining import Visit
    from pyspaces.features.existing.registry import Claim
    from pyspaces.features.terminal import Pty
    from pyspaces.kernel.spawn import Spawned
    from pyspaces.launch.init import Post
    from pyspaces.launch.inner.leading import Leading
    from pyspaces.launch.outer import Ended, Observer
    from pyspaces.launch.outer.job import Job
    from pyspaces.launch.outer.link import Link
    from pyspaces.launch.records.difference import Difference
    from pyspaces.launch.records.journal import Journal
    from pyspaces.launch.signals import Reader
    from pyspaces.mounts.building import Building
    from pyspaces.plan import Plan


# What the set-up gets at least, in seconds, of a shorter time limit; it takes milliseconds.
_SET_UP = 1.0


class Gear:
    """What one launch takes along, from before it starts to the end of the command.

    calls: whether a function is called instead of a command. foreground: whether the launcher waits
    in the foreground and passes signals on. own_group: whether the command gets a process group of
    its own. deadline: when its time is over, by the monotonic clock, or None. start_by: when it
    is given up if it has not started. attach: what gives the command its terminal, in the child.
    post: what process 1 needs.
    """

    def __init__(
        self,
        plan: Plan,
        tell: Callable[[str], object],
        observe: Observer,
        *,
        calls: bool = False,
        foreground: bool = False,
    ) -> None:
        begun = time.monotonic()
        limit = plan.life.timeout
        self.deadline = None if limit is None else begun + limit
        # A limit shorter than that is one for the command, which is then started and ended.
        self.start_by = None if limit is None else begun + max(limit, _SET_UP)
        self.own_group = False
        self._foreground = foreground
        self._job: Job | None = None
        self._plan = plan
        self._calls = calls
        self._tell = tell
        self._observe = observe
        self._visit: Visit | None = None
        self._claim: Claim | None = None
        self._journal: Journal | None = None
        self._pty: Pty | None = None
        self._link: Link | None = None
        self._difference: Difference | None = None
        self._peak_floor = 0
        self._inodes: dict[str, int] = {}  # of the namespaces that are joined
        self.post: Post | None = None
        if plan.outputs:
            from pyspaces.launch.records.journal import Journal

            self._journal = Journal(plan.outputs, tell)
        try:
            self._open()
        except BaseException as error:
            self.fail(error)
            raise

    def _open(self) -> None:
        self._open_existing()
        life = self._plan.life
        if life.pty:
            from pyspaces.features.terminal import Pty

            self._pty = Pty()
        if self._plan.outputs.overlay_diff is not None:
            from pyspaces.launch.records.difference import Difference

            self._difference = Difference(self._plan, self._tell)
        if life.init:
            from pyspaces.launch import init
            from pyspaces.launch.outer.link import Link

            reading, writing = os.pipe()
            self._link = Link(reading)
            self.post = init.make_post(
                link=writing,
                wait_all=life.init_wait,
                own_session=life.own_session,
                shares_memory=self._calls,
            )
        self._open_group()

    def _open_group(self) -> None:
        """Decide whether the command leaves our process group, where kill(0, SIGKILL) reaches us.

        Only where it is in another pid namespace: elsewhere it can name us all the same.
        """
        visit, life = self._visit, self._plan.life
        apart = self._plan.has("pid") or (
            visit is not None and any(handle.name == "pid" for handle in visit.handles)
        )
        if not (self._foreground and apart) or life.own_session:
            return
        if signals.has_terminal():
            # A group that is out of our sight could never be given the terminal back.
            if not os.getpgrp():
                return
            from pyspaces.launch.outer.job import open_job

            self._job = open_job()
        self.own_group = True

    def _open_existing(self) -> None:
        """Take the name, and open what is to be joined: all of it, before any of it is."""
        plan = self._plan
        if plan.existing.keeps:
            from pyspaces.features.existing import keeping

            keeping.check(plan.existing.keeps)
        if plan.existing.name is not None:
            from pyspaces.features.existing.registry import Claim

            self._claim = Claim(plan.existing.name)
        if plan.existing.joining:
            from pyspaces.features.existing import joining
            from pyspaces.launch.inner import join  # noqa: F401 - loaded before imports are sealed

            if plan.life.in_place:  # and so is what explains a failure in the same process
                from pyspaces import hints  # noqa: F401

            self._observe(
                f"join the namespaces: {', '.join(plan.existing.joining.names()) or 'none'}"
            )
            try:
                visit = joining.open_visit(plan.existing.joining)
            except KernelError as error:
                raise outer.failure(Report.of(JOIN, error), plan) from error
            clocks = (
                (plan.clocks.boottime, plan.clocks.monotonic)
                if plan.makes_clocks_by_joining()
                else None
            )
            self._visit = visit.replace(
                keep_groups=plan.identity.keep_groups,
                new_clocks=clocks,
                open_child=_may_be_open(plan, visit),
                variables=self._variables_of(visit),
            )
            self._inodes = {h.name: os.fstat(h.descriptor).st_ino for h in visit.handles}

    def _variables_of(self, visit: Visit) -> Mapping[bytes, bytes] | None:
        """Return the environment of the target, as far as the command may have it.

        Where the target has neither a root nor a mount namespace of its own, the command is a
        program of this host: what the target says does not decide what that loads.
        """
        if visit.variables is None or visit.root >= 0:
            return visit.variables
        if any(handle.name == "mount" for handle in visit.handles):
            return visit.variables
        kept, dropped = environment.without_steering(visit.variables)
        if dropped:
            self._observe(f"leave out of the environment: {', '.join(dropped)}")
        return kept

    def before(self, given: Callable[[], object] | None) -> Callable[[], object] | None:
        """Return what the process that creates the child does first: the given, then joining."""
        acts = [given] if given else []
        # Root of the host may, as long as it is outside; anybody else may not, inside or outside.
        stranded = self._plan.strands_groups() and procfs.has_capability(constants.CAP_SETGID)
        if stranded and os.getgroups():
            acts.append(drop_groups)
        if visit := self._visit:
            from pyspaces.launch.inner.join import join

            acts += [self.release_descriptors, lambda: join(visit)]

        def prepare() -> None:
            for act in acts:
                act()

        return prepare if acts else None

    @property
    def variables(self) -> Mapping[bytes, bytes] | None:
        """The environment of the process that is entered; None where that is not asked for."""
        return self._visit.variables if self._visit else None

    def joined(self) -> None:
        """Release what is held open for joining: the child is created."""
        if self._visit:
            self._visit.close()
            self._visit = None

    @property
    def attach(self) -> Callable[[], object] | None:
        """What gives the command its terminal, in the child; None where it keeps its own."""
        return self._pty.attach_inner if self._pty else None

    def building(self) -> Building | None:
        """Return what carries out the mounts of the plan; None where it has none."""
        if not self._plan.mounts.operations:
            return None
        from pyspaces.mounts.building import Building
        from pyspaces.mounts.tree import Tree

        keep = self._difference.keep_inner if self._difference else None
        tree = Tree(empty=self._plan.mounts.empty_root, keep=keep)
        return Building(self._plan.mounts.operations, tree)

    def release_descriptors(self) -> None:
        """Close what the child has no need for, being open on directories of the host."""
        if self._journal:
            self._journal.release()
        if self._difference:
            self._difference.release_descriptors()

    def guard(self) -> Callable[[], object] | None:
        """Return what closes /proc, in the child; None where it stays as it is."""
        plan = self._plan
        if not plan.mounts.guard_proc:
            return None
        from pyspaces.mounts.guard import Guard

        return Guard(
            builds_tree=plan.mounts.builds_tree, sysfs="ALL" in plan.privileges.cap_drop
        ).guard_inner

    def leading(self) -> Leading | None:
        """Return what tells where exec would lead; None where the root is the caller's own."""
        joining = self._plan.existing.joining
        joined = joining.root or "mount" in joining.names()
        if not (joined or self._plan.mounts.builds_tree):
            return None
        from pyspaces.launch.inner.leading import Leading

        return Leading()

    def holding(
        self, hold: Callable[[Spawned], object] | None
    ) -> Callable[[Spawned], object] | None:
        """Return what happens while the child is held; None where nothing has to."""
        journal, claim, difference = self._journal, self._claim, self._difference
        plan, job = self._plan, self._job
        if journal is None and claim is None and difference is None and job is None:
            return hold

        def hold_all(child: Spawned) -> None:
            if hold:
                hold(child)
            if job:
                job.begin(child.pid, has_init=self.post is not None)
            if difference:
                difference.held(user=plan.has("user"))
            if claim:
                number = procfs.pid_of_pidfd(child.pidfd)
                # Who is told to stop a name asks the process that watches it: a program that
                # has started a function is no mere launcher, and must not be the one.
                watched = not (plan.existing.hold or self._calls)
                members = self._members(child)
                claim.pass_to(number, made=plan.namespaces, watched=watched, members=members)
            if journal:
                self._peak_floor = journal.held(plan, child, self._members(child))

        return hold_all

    def _members(self, child: Spawned) -> dict[str, int]:
        """Return the inode of each namespace that the command will be in, as far as it is known."""
        number = procfs.pid_of_pidfd(child.pidfd)
        told = dict(child.told)
        found = {}
        for row in namespaces.NAMESPACES:
            is_new = row.name in self._plan.namespaces
            places = [f"/proc/{number}/ns/{row.link}"]
            if not is_new and row.name not in (*self._inodes, "user"):
                places.append(f"/proc/self/ns/{row.link}")
            # What was joined, we have held in our hands; what is new, the child alone may see.
            inode = self._inodes.get(row.name) or (told.get(row.name) if is_new else None)
            for place in places:
                inode = inode or nsfs.inode_or_none(place)
            if inode:
                found[row.name] = inode
        return found

    def watch(self, child: Spawned, reader: Reader | None) -> outer.Watch:
        """Return the watch over the command, which runs now."""
        group = None
        if self.own_group:
            delegate = child.pidfd if self.post else -1
            group = signals.Group(number=child.pid, delegate=delegate)
        self._close_post()
        relay = None
        if self._pty:
            from pyspaces.launch.outer.relay import Relay

            relay = Relay(self._pty, child)
        if self._journal:
            self._journal.started(child.pid)
        return outer.Watch(
            child,
            self._plan.life,
            pid_1=self._plan.has("pid") and not self.post,
            alone=self._plan.has("pid"),
            reader=reader,
            link=self._link,
            relay=relay,
            group=group,
            job=self._job,
            deadline=self.deadline,
            peak_floor=self._peak_floor,
            finished=self._finish,
        )

    def fail(self, error: BaseException) -> None:
        """Release everything after a launch that failed, and record why."""
        self._close_post()
        self.joined()
        if self._job:
            self._job.close()
        if self._claim:
            self._claim.give_up()
        if self._link:
            self._link.close()
        if self._pty:
            self._pty.close()
        if self._difference:
            self._difference.close()
        if self._journal:
            if isinstance(error, SpaceError):
                self._journal.failed(error)
            self._journal.close()

    def _close_post(self) -> None:
        if self.post and self.post.link >= 0:
            os.close(self.post.link)
            self.post = self.post.replace(link=-1)

    def _finish(self, ended: Ended) -> None:
        if self._job:
            self._job.close()
        if self._link:
            self._link.close()
        if ended.timed_out:
            self._tell(_time_is_over(self._plan, ended))
        if self._claim:
            self._attempt("give up the name", self._claim.give_up)
        if self._difference:
            self._attempt("tell what was changed", self._difference.ended)
        if journal := self._journal:
            self._attempt("write the records", lambda: journal.ended(ended))
        if self._plan.outputs.report:
            self._attempt("report", lambda: self._report(ended))

    def _report(self, ended: Ended) -> None:
        from pyspaces.launch.records.report import report

        self._tell(report(self._plan, ended))

    def _attempt(self, what: str, act: Callable[[], object]) -> None:
        """Do what comes after the command; if that fails, say so: how it ended is worth more."""
        try:
            act()
        except Exception as error:  # noqa: BLE001 - whatever it is, the status comes first
            self._tell(f"cannot {what}: {error}")


def _may_be_open(plan: Plan, visit: Visit) -> bool:
    """Tell whether a process that joins, with a user namespace to be made, may be open to others.

    Where no user namespace is joined, nobody there has a right over it. Where one is, whoever has
    all capabilities in it can trace the command as well, which has the same root directory unless
    that is changed on the way.
    """
    return plan.has("user") and not (visit.joins_user and plan.has("mount"))


def working_directory() -> str | None:
    """Return the path of the working directory; None where it has none, being removed."""
    try:
        return os.getcwd()
    except OSError:
        return None


def _time_is_over(plan: Plan, ended: Ended) -> str:
    wall = ended.usage.wall if ended.usage else 0.0
    limit = plan.life.timeout or 0.0
    what = "it was killed" if ended.killed else "it was sent SIGTERM"
    return f"the command ran for {wall:.1f} s, and its time is {limit:g} s: {what}"
