"""Why the kernel refused: each rule held against the state of this very process and host."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path

import pytest
from conftest import outcome

from pyspaces import hints
from pyspaces.errors import CREATE, EXECUTE, PROC, Report, Stage
from pyspaces.features.ids.idmap import Extent
from pyspaces.hints import Case
from pyspaces.kernel import constants, namespaces, procfs

UID, GID = os.geteuid(), os.getegid()
HAS_SYS_ADMIN = procfs.has_capability(constants.CAP_SYS_ADMIN)
HAS_SETUID = procfs.has_capability(constants.CAP_SETUID)
FILTERED = procfs.status_field("self", "Seccomp") == "2"
APPARMOR = procfs.sysctl("kernel.apparmor_restrict_unprivileged_userns") == "1"


def extent(inside: int, outside: int, count: int = 1) -> Extent:
    return Extent(inside=inside, outside=outside, count=count)


ROOT = (extent(0, UID),)


def explain(
    report: Report,
    *,
    new: tuple[str, ...] = ("user",),
    uids: tuple[Extent, ...] = ROOT,
    gids: tuple[Extent, ...] = (extent(0, GID),),
) -> str | None:
    return hints.explain(Case(report=report, namespaces=new, uids=uids, gids=gids))


def refused(call: str, number: int, path: str = "", stage: str = CREATE) -> Report:
    code = stage.code if isinstance(stage, Stage) else ""
    return Report(stage=stage, code=code, call=call, errno=number, path=path)


def test_an_unknown_failure_gets_no_hint() -> None:
    assert explain(refused("mount", errno.EIO, "/proc")) is None
    assert explain(Report(stage="think", text="ValueError: no")) is None
    assert explain(Report(stage=EXECUTE, code=EXECUTE.code, errno=errno.ENOENT, path="x")) is None


@pytest.mark.parametrize("call", ["clone3", "clone", "unshare"])
def test_without_privilege_other_namespaces_need_a_user_namespace(call: str) -> None:
    hint = explain(refused(call, errno.EPERM), new=("mount", "pid"), uids=(), gids=())
    if HAS_SYS_ADMIN:
        assert hint is None or "--user" not in hint
    else:
        assert hint is not None
        assert "add --user" in hint
        assert "mount, pid" in hint


def test_a_refusal_that_names_no_namespace_is_not_explained_by_one() -> None:
    hint = explain(refused("clone3", errno.EPERM), new=(), uids=(), gids=())
    assert hint is None or "--user" not in hint


def test_add_user_is_no_hint_where_user_is_given() -> None:
    hint = explain(refused("clone3", errno.EPERM), new=("user", "pid"))
    assert hint is None or "--user" not in hint


def test_nor_for_another_call_or_another_errno() -> None:
    for report in (refused("mount", errno.EPERM, "/x"), refused("clone3", errno.ENOMEM)):
        hint = explain(report, new=("pid",), uids=(), gids=())
        assert hint is None or "--user" not in hint


def test_enospc_shows_the_limits_of_the_namespaces_in_question() -> None:
    hint = explain(refused("clone3", errno.ENOSPC), new=("user", "mount"))
    assert hint is not None
    for name in ("user.max_user_namespaces", "user.max_mnt_namespaces"):
        value = procfs.sysctl(name)
        assert value is None or f"{name}={value}" in hint or value == "0"
    assert "max_net" not in hint


_ZERO_LIMIT = """
import errno, os
from pyspaces import hints
from pyspaces.errors import Report
from pyspaces.kernel import constants, libc, procfs
uid = os.geteuid()
libc.unshare(constants.CLONE_NEWUSER)
procfs.write_once("/proc/self/uid_map", f"0 {uid} 1")
procfs.write_once("/proc/sys/user/max_net_namespaces", "0")
try:
    libc.unshare(constants.CLONE_NEWNET)
except OSError as error:
    report = Report.of("create the namespaces", error)
print(report.errno == errno.ENOSPC)
print(hints.explain(hints.Case(report=report, namespaces=("mount", "net"), uids=(), gids=())))
"""


def in_own_user_namespace(script: str) -> str:
    done = outcome([sys.executable, "-c", script], timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.needs("userns")
def test_a_limit_of_zero_is_named_with_its_cure() -> None:
    """The limits count per user namespace, so that one of our own can have one of zero."""
    real, hint, *_ = in_own_user_namespace(_ZERO_LIMIT).splitlines()
    assert real == "True"
    assert "user.max_net_namespaces is 0" in hint
    assert "sysctl user.max_net_namespaces=" in hint


_UNMAPPED = """
import os
from pyspaces import hints
from pyspaces.errors import Report
from pyspaces.kernel import constants, libc
libc.unshare(constants.CLONE_NEWUSER)
try:
    libc.unshare(constants.CLONE_NEWUSER)
except OSError as error:
    report = Report.of("create the namespaces", error)
print(hints.explain(hints.Case(report=report, namespaces=("user",), uids=(), gids=())))
"""


@pytest.mark.needs("userns")
def test_a_caller_without_an_id_of_its_own() -> None:
    """clone(2): EPERM where the caller's ids have no mapping in its user namespace."""
    assert "own uid is not mapped" in in_own_user_namespace(_UNMAPPED)


def test_a_namespace_that_this_kernel_lacks_is_named() -> None:
    missing = [row for row in namespaces.NAMESPACES if row.name not in namespaces.supported()]
    hint = explain(refused("clone3", errno.EINVAL), new=namespaces.NAMES)
    if missing:
        assert hint is not None
        assert all(f"does not support {row.name} namespaces" in hint for row in missing)
    else:
        assert not hint


def test_limits_on_processes_and_files() -> None:
    hint = explain(refused("clone3", errno.EAGAIN))
    assert hint is not None
    assert "ulimit -u" in hint
    hint = explain(refused("socketpair", errno.EMFILE))
    assert hint is not None
    assert "ulimit -n" in hint


def map_refused(kind: str) -> Report:
    return refused("write", errno.EPERM, f"/proc/7/{kind}", "write the id maps")


def test_what_an_ordinary_user_may_map() -> None:
    hint = explain(map_refused("uid_map"), uids=(extent(0, UID + 1),))
    if HAS_SETUID:
        assert hint is None or "a user can map only its own id" not in hint
    else:
        assert hint is not None
        assert "without CAP_SETUID" in hint
        assert f"--map-uid 0,{UID},1" in hint


def test_what_an_ordinary_users_group_may_map() -> None:
    hint = explain(map_refused("gid_map"), gids=(extent(0, GID, 2),))
    if not procfs.has_capability(constants.CAP_SETGID):
        assert hint is not None
        assert f"--map-gid 0,{GID},1" in hint


def test_one_own_group_needs_setgroups_denied() -> None:
    if not procfs.has_capability(constants.CAP_SETGID):
        hint = explain(map_refused("gid_map"), gids=(extent(0, GID),))
        assert hint is not None
        assert "--setgroups deny" in hint


def test_outside_ids_that_do_not_exist_here_are_named() -> None:
    rows = procfs.id_map("uid_map")
    whole = rows == [(0, 0, 4294967295)]
    wanted = extent(5, 4294967295 if whole else rows[-1][0] + rows[-1][2])
    hint = explain(map_refused("uid_map"), uids=(extent(0, UID), wanted))
    if HAS_SETUID:
        assert hint is not None
        assert str(wanted) in hint
        assert "not all of these outside ids exist" in hint


_SMALL_MAP = """
import errno, os
from pyspaces import hints
from pyspaces.errors import Report
from pyspaces.features.ids.idmap import Extent
from pyspaces.kernel import constants, libc, procfs
uid, gid = os.geteuid(), os.getegid()
libc.unshare(constants.CLONE_NEWUSER)
procfs.write_once("/proc/self/uid_map", f"0 {uid} 1")
report = Report(stage="write the id maps", call="write", errno=errno.EPERM, path="/proc/7/uid_map")
rows = (Extent(inside=0, outside=0, count=1), Extent(inside=1, outside=1, count=1))
print(hints.explain(hints.Case(report=report, namespaces=("user",), uids=rows, gids=())))
"""


@pytest.mark.needs("userns")
def test_in_a_namespace_of_one_id_only_that_one_exists() -> None:
    hint = in_own_user_namespace(_SMALL_MAP)
    assert hint.startswith("1 1 1: not all of these outside ids exist")
    assert "it has 0 to 0" in hint


def test_setgroups_that_is_denied_already() -> None:
    hint = explain(refused("write", errno.EPERM, "/proc/7/setgroups", "write the id maps"))
    assert hint is not None
    assert "setgroups(2) is denied" in hint


def test_proc_that_is_covered_in_parts() -> None:
    covered = [
        line.split(" ")[4]
        for line in Path("/proc/self/mountinfo").read_text().splitlines()
        if line.split(" ")[4].startswith("/proc/")
    ]
    covered = [path for path in covered if path != "/proc/sys/fs/binfmt_misc"]
    hint = explain(refused("mount", errno.EPERM, "/proc", PROC), new=("user", "mount", "pid"))
    if covered:
        assert hint is not None
        assert covered[0] in hint
        assert "--no-mount-proc" in hint
    else:
        assert hint is None or "covered" not in hint


def test_a_clock_out_of_range_shows_the_uptime() -> None:
    hint = explain(
        refused("write", errno.ERANGE, "/proc/self/timens_offsets", "enter a new time namespace")
    )
    assert hint is not None
    before = float(Path("/proc/uptime").read_text().split()[0])
    shown = float(hint.split()[-2])
    assert abs(shown - before) < 60
    assert explain(refused("write", errno.ERANGE, "/elsewhere")) is None


def test_a_seccomp_filter_is_blamed_only_where_there_is_one() -> None:
    hint = explain(refused("clone3", errno.EPERM), new=("user",))
    mentions = hint is not None and "seccomp" in hint
    assert not mentions or FILTERED


def test_apparmor_is_blamed_only_where_it_restricts() -> None:
    for report in (refused("clone3", errno.EPERM), refused("mount", errno.EACCES, "/x")):
        hint = explain(report)
        mentions = hint is not None and "apparmor" in hint
        assert not mentions or (APPARMOR and not HAS_SYS_ADMIN)


@pytest.mark.parametrize("call", ["clone3", "unshare", "mount", "write", "setresuid", ""])
def test_whatever_fails_a_hint_is_one_line_or_none(call: str) -> None:
    for number in (0, *errno.errorcode, 999):
        for new in (("user",), ("pid", "mount"), ()):
            hint = explain(refused(call, number, "/proc/7/uid_map"), new=new)
            assert not hint or "\n" not in hint
