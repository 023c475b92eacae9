"""Id maps through newuidmap(1) and newgidmap(1), and why those refused.

Runs in the parent, and is loaded only if a map needs more than the writer's own id. The two
programs are set-user-ID, and write what /etc/subuid and /etc/subgid give to the user.
"""

from __future__ import annotations

import errno
import os
import stat

from pyspaces.errors import Hint, Report, SpaceError
from pyspaces.features.ids import accounts, program
from pyspaces.kernel import constants, procfs
from pyspaces.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pyspaces.errors import Stage
    from pyspaces.features.ids.idmap import Extent

_CAPABILITY = {"uid": constants.CAP_SETUID, "gid": constants.CAP_SETGID}
PACKAGE = "install the package uidmap (Debian, Ubuntu) or shadow-utils (Fedora, Arch: shadow)"


class Refusal(Record):
    """What is known about a helper that refused.

    kind: uid or gid. path: of the helper. output: its output. process: the number of the process
    whose map it should have written.
    """

    kind: str
    path: str
    output: str
    process: str
    extents: tuple[Extent, ...]
    user: accounts.User
    ranges: tuple[tuple[int, int], ...]


def write_outer(path: str, extents: Sequence[Extent], *, stage: Stage) -> None:
    """Write the map file `path` through its helper. Raises SpaceError with the cause.

    path: /proc/PROCESS/uid_map or gid_map. stage: what the launch is doing, for the error.
    """
    _, _, process, name = path.split("/")
    kind = name[:3]
    helper = f"new{kind}map"
    found = program.find(helper)
    if found is None:
        own = os.geteuid() if kind == "uid" else os.getegid()
        raise _error(
            stage,
            helper,
            errno.ENOENT,
            why="it is not installed",
            hint=Hint(
                f"more than the own id is mapped by {helper}, which is not installed: {PACKAGE},"
                f" or map one id, its own: --map-{kind} 0,{own},1",
                "newuidmap-missing",
            ),
        )
    numbers = [str(n) for row in extents for n in (row.inside, row.outside, row.count)]
    done = program.run(found, process, *numbers)
    if done.status.ok:
        return
    user = accounts.caller()
    refusal = Refusal(
        kind=kind,
        path=found,
        output=done.output.strip(),
        process=process,
        extents=tuple(extents),
        user=user,
        ranges=tuple(accounts.subordinate_ranges(kind, user)),
    )
    said = refusal.output.splitlines()[-1] if refusal.output else f"it {done.status}"
    why = said.rpartition(f"{helper}: ")[2]
    raise _error(stage, helper, errno.EPERM, why=why, hint=explain(refusal), path=found)


def _error(
    stage: Stage, helper: str, number: int, *, why: str, hint: str | None, path: str = ""
) -> SpaceError:
    report = Report(stage=stage, code=stage.code, call=helper, errno=number, path=path, text=why)
    return SpaceError(f"cannot {stage}: {helper}: {why}", hint=hint, report=report)


def explain(refusal: Refusal) -> Hint | None:
    """Return the remedy for a refusal in one line, or None if the cause is unknown."""
    for code, rule in RULES:
        if hint := rule(refusal):
            return Hint(hint, code)
    return None


def _ids_not_owned(refusal: Refusal) -> str | None:
    if "not allowed" not in refusal.output:
        return None
    if not refusal.ranges:
        return accounts.no_ranges(refusal.kind, refusal.user).hint
    own = os.geteuid() if refusal.kind == "uid" else os.getegid()
    for row in refusal.extents:
        last = row.outside + row.count - 1
        if row.outside == own and row.count == 1:
            continue
        if not any(first <= row.outside and last < first + n for first, n in refusal.ranges):
            have = ", ".join(f"{first} to {first + n - 1}" for first, n in refusal.ranges)
            fit = [first for first, n in refusal.ranges if row.count <= n]
            option = f"--map-{refusal.kind} {row.inside},{fit[0]},{row.count}" if fit else ""
            return (
                f"{row}: not all of these outside ids are subordinate {refusal.kind}s of"
                f" {refusal.user}, who has {have}" + (f": {option} works" if fit else "")
            )
    return None


def _group_differs(refusal: Refusal) -> str | None:
    """newuidmap(1) requires the caller's group to be that of its entry in passwd(5)."""
    user = refusal.user
    if "owned by a different user" not in refusal.output or user.gid in (None, os.getgid()):
        return None
    return (
        f"the group of this process, {os.getgid()}, is not {user.gid}, the group of user {user},"
        " and newuidmap wants them equal: leave newgrp or sg, or run the command with that group"
    )


def _not_dumpable(refusal: Refusal) -> str | None:
    """proc(5): the files of a process that is not dumpable belong to root, and it looks foreign."""
    if "owned by a different user" not in refusal.output:
        return None
    try:
        owner = os.stat(f"/proc/{refusal.process}").st_uid
    except OSError:
        return None
    if owner == os.geteuid():
        return None
    return (
        f"the files of the new process in /proc belong to user {owner}: this interpreter is not"
        " dumpable, as one is that its user may execute but not read"
    )


def _no_entry(refusal: Refusal) -> str | None:
    if "determine your user name" not in refusal.output or refusal.user.name:
        return None
    return f"user {refusal.user} has no entry in the user database, which newuidmap asks for"


def _no_new_privileges(refusal: Refusal) -> str | None:
    if not _lacked_privilege(refusal) or procfs.status_field("self", "NoNewPrivs") != "1":
        return None
    return (
        f"no_new_privs is set on this process, so {refusal.path} runs without its privilege:"
        " start pyspaces without it (systemd: NoNewPrivileges=no, containers:"
        " no --security-opt no-new-privileges)"
    )


def _bit_lost(refusal: Refusal) -> str | None:
    if not _lacked_privilege(refusal):
        return None
    try:
        info = os.stat(refusal.path)
        nosuid = os.statvfs(refusal.path).f_flag & os.ST_NOSUID
    except OSError:
        return None
    if nosuid:
        return f"{refusal.path} is on a file system mounted with nosuid: remount it with suid"
    if info.st_mode & stat.S_ISUID and info.st_uid == 0:
        return None
    if _has_file_capability(refusal.path):
        return None
    return (
        f"{refusal.path} has lost its set-user-ID bit or file capability, as copies do;"
        f" run: sudo chown root: {refusal.path}; sudo chmod u+s {refusal.path}"
    )


def _has_file_capability(path: str) -> bool:
    try:
        return bool(os.getxattr(path, "security.capability"))
    except OSError:
        return False


def _bounded(refusal: Refusal) -> str | None:
    """capabilities(7): exec of a set-user-ID program gives no more than the bounding set."""
    if not _lacked_privilege(refusal):
        return None
    bounding = int(procfs.status_field("self", "CapBnd") or "0", 16)
    if bounding >> _CAPABILITY[refusal.kind] & 1:
        return None
    name = f"CAP_SET{refusal.kind.upper()}"
    return f"{name} is not in the bounding set of this process, so {refusal.path} cannot have it"


def _lacked_privilege(refusal: Refusal) -> bool:
    return "not permitted" in refusal.output


# Each with the code of its hint.
RULES: tuple[tuple[str, Callable[[Refusal], str | None]], ...] = (
    ("subordinate-ids", _ids_not_owned),
    ("newuidmap-caller", _group_differs),
    ("newuidmap-caller", _not_dumpable),
    ("newuidmap-caller", _no_entry),
    ("newuidmap-privilege", _no_new_privileges),
    # Before _bit_lost: without the capability in the bounding set, no bit helps.
    ("newuidmap-privilege", _bounded),
    ("newuidmap-privilege", _bit_lost),
)
