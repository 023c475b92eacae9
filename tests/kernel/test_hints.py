"""Each pain, provoked for real, brings its hint; and what only looks like it does not."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import IS_ROOT, SCRIPT, outcome, without

from pyspaces import hints
from pyspaces.errors import EXECUTE, Report, Stage
from pyspaces.features.ids.idmap import Extent
from pyspaces.hints import creation
from pyspaces.host.check import rules

CLONE3, MOUNT_SETATTR = 435, 442
# What they refuse, and a launch that needs it.
OLDER_FILTERS = {
    "pidfd_open": (434, ["--user"]),
    "openat2": (437, ["--user", "--ro-bind", "/", "/"]),
    "mount_setattr": (MOUNT_SETATTR, ["--user", "--ro-bind", "/", "/"]),
}
# A filter that has nothing to do with what is asked for.
UNRELATED = without(1023, answer=errno.EPERM)

pytestmark = pytest.mark.needs("userns", "unshare")


def hint_of(*words: str) -> str:
    """Run what fails with 125, and return its hint; empty without one."""
    done = outcome(words)
    assert done.returncode == 125, done.stdout + done.stderr
    return done.stderr.partition("hint: ")[2].strip()


def changed(script: str, *words: str) -> list[str]:
    """Return the launch as root of a user and a mount namespace that `script` has changed."""
    return ["unshare", "-Urm", "sh", "-ec", f'{script}; exec "$@"', "sh", SCRIPT, "run", *words]


@pytest.mark.as_ordinary
@pytest.mark.parametrize("name", ["pid", "mount", "uts", "time"])
def test_an_ordinary_user_without_user(name: str) -> None:
    more = ["--no-mount-proc"] if name == "pid" else []
    words = [SCRIPT, "run", f"--{name}", *more, "--", "true"]
    assert hint_of(*words).endswith("needs a new user namespace around it: add --user")
    # The filter is not blamed.
    assert hint_of(*UNRELATED, *words).endswith("add --user")


@pytest.mark.parametrize("number", [errno.EPERM, errno.EACCES])
def test_a_filter_that_refuses_clone3(number: int) -> None:
    hint = hint_of(*without(CLONE3, answer=number), SCRIPT, "run", "--user", "--", "true")
    assert hint.startswith("a seccomp filter refuses clone3 for this process")
    assert "seccomp=unconfined" in hint


@pytest.mark.needs("mount", "proc")
@pytest.mark.parametrize("words", ["run --all true", "run --user --throwaway true", "list", "ps"])
def test_whatever_needs_proc_and_has_none(words: str) -> None:
    script = f"mount -t tmpfs none /proc; exec {SCRIPT} {words}"
    assert hint_of("unshare", "-Urm", "sh", "-ec", script).startswith("/proc is not mounted here")


@pytest.mark.needs("mount")
@pytest.mark.parametrize("number", [errno.EPERM, errno.ENOSYS])
@pytest.mark.parametrize(("call", "words"), OLDER_FILTERS.values(), ids=OLDER_FILTERS)
def test_an_older_filter_that_does_not_know_a_call(
    call: int, words: list[str], number: int
) -> None:
    if (call, number) == (MOUNT_SETATTR, errno.ENOSYS):
        return  # which mount(2) does then
    name = next(name for name, row in OLDER_FILTERS.items() if row[0] == call)
    hint = hint_of(*without(call, answer=number), SCRIPT, "run", *words, "--", "true")
    assert hint.startswith(f"a seccomp filter refuses {name} for this process")
    assert "seccomp=unconfined" in hint


def test_a_nested_launch_beneath_a_read_only_proc_and_its_cure() -> None:
    outer, inner = [SCRIPT, "run", "--user", "--ro-bind", "/", "/"], [SCRIPT, "run", "--user"]
    hint = hint_of(*outer, "--", *inner, "--", "true")
    assert hint.startswith("/proc is mounted read-only here")
    assert "add --proc /proc" in hint
    outcome([*outer, "--proc", "/proc", "--", *inner, "--", "true"], check=True)


def test_a_filter_is_not_blamed_for_a_limit() -> None:
    script = "echo 0 > /proc/sys/user/max_user_namespaces"
    words = [*UNRELATED, *changed(script, "--user", "--", "true")]
    assert "user.max_user_namespaces is 0" in hint_of(*words)


def test_a_filter_is_not_blamed_for_unmapped_ids() -> None:
    words = [SCRIPT, "run", "--user", "-M", "none", "-G", "none", "--", SCRIPT, "run", "--user"]
    assert "own uid is not mapped" in hint_of(*UNRELATED, *words, "--", "true")


@pytest.mark.parametrize(
    ("name", "sysctl"),
    [("user", "user"), ("pid", "pid"), ("time", "time"), ("mount", "mnt")],
)
def test_each_limit_of_zero_is_named(name: str, sysctl: str) -> None:
    key = f"max_{sysctl}_namespaces"
    words = changed(f"echo 0 > /proc/sys/user/{key}", f"--{name}", "--no-mount-proc", "--", "true")
    words = [word for word in words if name == "pid" or word != "--no-mount-proc"]
    assert hint_of(*words).startswith(f"user.{key} is 0, so none can be created")


def refusal_of(*words: str) -> list[str]:
    """Run what cannot be executed; return the lines below the error."""
    done = outcome([SCRIPT, "run", *words])
    assert done.returncode == 126, done.stdout + done.stderr
    first, *more = done.stderr.splitlines()
    assert first.endswith(": Permission denied")
    return more


def test_a_file_that_nobody_may_execute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    script = tmp_path / "script"
    script.write_text("#!/bin/sh\n")
    told = ["  nobody has the permission to execute this file"]
    hint = ["hint: to allow it: chmod +x ./script"]
    for words in ((), ("--user",), ("--user", "--allow-read=/", "--allow-exec=/")):
        assert refusal_of(*words, "--", "./script") == told + hint
    # There is no such file for the caller to change.
    shown = ("--user", "--empty-root", "--bind", f"{tmp_path}", "/shown")
    assert refusal_of(*shown, "--", "/shown/script") == told
    script.write_text("data\n")
    assert refusal_of("--", "./script") == told
    # Neither a directory nor the interpreter of a script.
    assert refusal_of("--", str(tmp_path)) == ["  it is a directory"]
    other = tmp_path / "other"
    other.write_text(f"#!{tmp_path}/plain\n")
    (tmp_path / "plain").touch()
    other.chmod(0o755)
    assert refusal_of("--", "./other") == []


def test_a_file_on_a_mount_with_noexec(tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("#!/bin/sh\n")
    words = ("--user", "--noexec", "--bind", str(tmp_path), str(tmp_path), "--", str(script))
    for mode in (0o644, 0o755):
        script.chmod(mode)
        assert refusal_of(*words) == ["  it is on a mount with the option noexec"]


def test_parts_of_proc_are_covered() -> None:
    cover = "mount --bind /dev/null /proc/uptime"
    hint = hint_of(*changed(cover, "--user", "--mount-proc", "--", "true"))
    assert hint.startswith("parts of /proc are covered here (/proc/uptime)")
    done = subprocess.run(
        changed(cover, "--user", "--pid", "--no-mount-proc", "--", "true"), check=False
    )
    assert done.returncode == 0, "the hint's way out"


def test_no_proc_is_mounted() -> None:
    hint = hint_of(*changed("mount -t tmpfs none /proc", "--user", "--", "true"))
    assert hint.startswith("/proc is not mounted here")


def test_a_missing_file_of_another_proc_is_no_missing_proc() -> None:
    report = Report(stage="x", call="open", errno=errno.ENOENT, path="/proc/no-such-file")
    assert hints.explain(hints.Case(report=report)) is None


def test_a_pid_namespace_without_process_1() -> None:
    """`unshare -p sh`: the first program that the shell ran was process 1."""
    hint = hint_of("unshare", "-Urp", "sh", "-c", f"/bin/true; exec {SCRIPT} run -- true")
    assert "process's children has ended, as after unshare --pid without --fork" in hint


@pytest.mark.as_ordinary
def test_an_own_group_with_setgroups_allowed() -> None:
    words = (SCRIPT, "run", "--user", "--setgroups", "allow", "--", "true")
    assert "--setgroups deny" in hint_of(*words)


_CHROOT = """
import os, sys
from pyspaces import hints, launch, settings
from pyspaces.launch import inner
from pyspaces.errors import SpaceError
from pyspaces.kernel import constants, libc, mountapi, procfs
uid, gid, root = os.geteuid(), os.getegid(), sys.argv[1]
plan = settings.plan_from({"command": ("/bin/true",), "user": True})
libc.unshare(constants.CLONE_NEWUSER | constants.CLONE_NEWNS)
procfs.write_once("/proc/self/uid_map", f"0 {uid} 1")
procfs.write_once("/proc/self/setgroups", "deny")
procfs.write_once("/proc/self/gid_map", f"0 {gid} 1")
mountapi.mount("/proc", root + "/proc", None, constants.MS_BIND | constants.MS_REC)
os.chroot(root)
os.chdir("/")
try:
    launch.start(plan)
except SpaceError as error:
    print(error)
"""


def test_a_chroot(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    done = outcome([sys.executable, "-c", _CHROOT, str(tmp_path)])
    assert "hint: this process is in a chroot" in done.stdout, done.stdout + done.stderr


# AppArmor cannot be had everywhere: its explanation on recorded evidence (Ubuntu 24.04).

OWN = Extent(inside=0, outside=os.geteuid(), count=1)
RESTRICTED = creation.Confinement(restricts="1", label="unconfined")


def case(number: int, stage: str, names: tuple[str, ...] = ("user", "uts")) -> hints.Case:
    code = stage.code if isinstance(stage, Stage) else ""
    report = Report(stage=stage, code=code, call="sethostname", errno=number)
    return hints.Case(report=report, namespaces=names, uids=(OWN,), gids=())


@pytest.mark.parametrize("number", [errno.EPERM, errno.EACCES])
def test_apparmor_is_named(number: int) -> None:
    hint = creation.explain_apparmor(case(number, "set the host name"), RESTRICTED)
    if IS_ROOT:
        assert hint is None, "it restricts the unprivileged only"
    else:
        assert hint is not None
        assert "this interpreter has no AppArmor profile" in hint
        assert "sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0" in hint


@pytest.mark.parametrize(
    ("what", "confinement"),
    [
        (case(errno.EPERM, "x"), RESTRICTED.replace(restricts="0")),
        (case(errno.EPERM, "x"), RESTRICTED.replace(restricts=None)),
        (case(errno.EPERM, "x"), RESTRICTED.replace(label="firefox (enforce)")),
        (case(errno.EPERM, "x"), RESTRICTED.replace(label=None)),
        (case(errno.ENOSPC, "x"), RESTRICTED),
        (case(errno.EPERM, "x", ("uts",)), RESTRICTED),
        (case(errno.EACCES, EXECUTE), RESTRICTED),
    ],
)
def test_apparmor_is_not_blamed(what: hints.Case, confinement: creation.Confinement) -> None:
    assert creation.explain_apparmor(what, confinement) is None


def test_apparmor_stands_before_the_rule_of_maps_and_leaves_wrong_maps_to_it() -> None:
    names = [rule.__name__ for rule in hints.RULES]
    assert names.index("apparmor") < names.index("map_rule")
    assert creation._maps_own_ids(case(errno.EPERM, "write the id maps"))
    wrong = case(errno.EPERM, "write the id maps").replace(uids=(OWN.replace(count=2),))
    assert not creation._maps_own_ids(wrong)


def test_the_profile_is_for_the_real_interpreter() -> None:
    path = "/opt/my python/bin/python3.12"
    row = rules.apparmor_row(RESTRICTED, path)
    assert row.answer == ("degraded" if IS_ROOT else "no")
    assert row.remedy is not None
    assert f'profile pyspaces "{path}" flags=(unconfined) {{\n  userns,' in row.remedy
    assert row.remedy.endswith("sudo apparmor_parser -r /etc/apparmor.d/pyspaces")
    assert rules.apparmor_row(RESTRICTED.replace(restricts="0"), path).remedy is None


def test_a_root_without_the_file_that_names_cover(tmp_path: Path) -> None:
    host, name = ("--add-host", "web=10.0.0.1"), "/etc/hosts"
    root = (SCRIPT, "run", "--user", "--root", str(tmp_path), *host, "--", "/true")
    assert hint_of(*root) == f"the root has no file {name}: create an empty one there"
    (tmp_path / "etc").mkdir()
    (tmp_path / name[1:]).touch()
    assert outcome(root).returncode == 127  # there is no /true either
    empty = (SCRIPT, "run", "--user", "--empty-root", "--ro-bind", "/usr", "/usr", *host)
    told = f"the root has no file {name}: add --ro-bind {name} {name}"
    assert hint_of(*empty, "--", "/usr/bin/true") == told
