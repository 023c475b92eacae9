"""--no-new-privs and --no-nested-users: what can be had no more, and every way to have it again."""

from __future__ import annotations

import errno
import os
import shutil
import sys

import pytest
from conftest import SCRIPT
from usage import assert_refused

from pyspaces import Container
from pyspaces.errors import UsageFault
from pyspaces.kernel import constants, libc, procfs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import Run

pytestmark = pytest.mark.needs("userns")
UID, GID = os.geteuid(), os.getegid()
LIMIT = "/proc/sys/user/max_user_namespaces"
NNU = ("--user", "--no-nested-users")
# Who is inside, besides root: somebody else, with all capabilities that are left.
OTHER = ("-M", f"5,{UID},1", "-G", f"5,{GID},1", "--keep-caps")
SYS_RESOURCE = 1 << constants.CAP_SYS_RESOURCE

# The calls themselves, without a library in between that could refuse for reasons of its own.
CALLS = """
import ctypes, errno, struct
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
args = ctypes.create_string_buffer(struct.pack("11Q", 0x10000000, *[0] * 3, 17, *[0] * 6), 88)
made = libc.syscall(ctypes.c_long(435), args, ctypes.c_size_t(88))
if made == 0:
    libc._exit(0)
print("clone3", errno.errorcode.get(ctypes.get_errno(), made))
print("unshare", libc.unshare(0x10000000), errno.errorcode.get(ctypes.get_errno()))
"""


def no_new_privs(run: Run, *options: str) -> str:
    done = run("run", *options, "--", "grep", "NoNewPrivs", "/proc/self/status")
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.split()[1]


@pytest.mark.parametrize("options", [(), ("--user",), OTHER])
def test_no_new_privs_is_set_where_it_is_asked_for(pyspaces: Run, options: tuple[str, ...]) -> None:
    assert no_new_privs(pyspaces, *options) == "0"
    assert no_new_privs(pyspaces, *options, "--no-new-privs") == "1"


@pytest.mark.as_root
def test_a_set_user_id_program_gives_nothing(pyspaces: Run, tmp_path: Path) -> None:
    if os.statvfs(tmp_path).f_flag & os.ST_NOSUID:
        pytest.skip(f"{tmp_path} is mounted with nosuid")
    program = tmp_path / "id"
    shutil.copy(shutil.which("id") or "", program)
    program.chmod(0o4755)
    for directory in (tmp_path, *tmp_path.parents[:2]):
        directory.chmod(0o755)
    words = ("--setuid", "33", "--", str(program), "-u")
    assert pyspaces("run", "--allow-new-privs", *words).stdout == "0\n"
    assert pyspaces("run", "--no-new-privs", *words).stdout == "33\n"


@pytest.mark.as_ordinary
@pytest.mark.needs("newuidmap")
def test_nor_does_newuidmap(pyspaces: Run) -> None:
    done = pyspaces("run", "--no-new-privs", "--", SCRIPT, "run", "--map-auto", "--", "true")
    assert done.returncode == 125
    assert "no_new_privs is set on this process" in done.stderr


@pytest.mark.parametrize("options", [NNU, (*OTHER, "--no-nested-users")], ids=["root", "another"])
def test_no_user_namespace_is_made_inside(pyspaces: Run, options: tuple[str, ...]) -> None:
    done = pyspaces("run", *options, "--", sys.executable, "-I", "-S", "-c", CALLS)
    assert (done.stdout, done.stderr) == ("clone3 ENOSPC\nunshare -1 ENOSPC\n", "")
    control = [word for word in options if word != "--no-nested-users"]
    assert (
        "unshare 0"
        in pyspaces("run", *control, "--", sys.executable, "-I", "-S", "-c", CALLS).stdout
    )


def test_other_namespaces_are_made_all_the_same(pyspaces: Run) -> None:
    done = pyspaces("run", *NNU, "--", "unshare", "-m", "-u", "-i", "-n", "echo", "made")
    assert (done.stdout, done.stderr) == ("made\n", "")


@pytest.mark.needs("proc")
@pytest.mark.parametrize("options", [NNU, (*OTHER, "--no-nested-users")], ids=["root", "another"])
def test_the_limit_cannot_be_raised_again(pyspaces: Run, options: tuple[str, ...]) -> None:
    """Through the old /proc, a fresh one, and one mounted by the command itself."""
    again = f"echo 1000 > {LIMIT}; cat {LIMIT}; unshare -U echo made"
    for more in ((), ("--pid", "--mount"), ("--pid", "--mount", "--no-mount-proc")):
        script = again
        if "--no-mount-proc" in more:
            script = f"mount -t proc proc /proc && echo mounted; {again}"
        if "--no-mount-proc" in more and options != NNU:
            continue  # mount(8) wants to be run by user 0
        done = pyspaces("run", *options, *more, "--", "sh", "-c", script)
        assert done.stdout == ("mounted\n0\n" if "mount -t" in script else "0\n")
        assert "No space left on device" in done.stderr


def test_the_control_of_these_tests(pyspaces: Run) -> None:
    """Without giving the capability up, root inside does raise the limit again."""
    again = f"echo 0 > {LIMIT}; unshare -U true || echo 1000 > {LIMIT}; unshare -U echo made"
    assert pyspaces("run", "--user", "--", "sh", "-c", again).stdout == "made\n"


@pytest.mark.needs("setpriv", "capsh", "setcap")
def test_the_capability_cannot_be_had_again(pyspaces: Run, tmp_path: Path) -> None:
    program, shell = tmp_path / "tee", tmp_path / "sh"
    shutil.copy(shutil.which("tee") or "", program)
    attempts = (
        f"capsh --caps=cap_sys_resource=eip -- -c 'echo 9 > {LIMIT}'",
        f"setpriv --inh-caps +sys_resource --ambient-caps +sys_resource sh -c 'echo 9 > {LIMIT}'",
        f"setcap cap_sys_resource=ep {program}; echo 9 | {program} {LIMIT}",
        f"setcap cap_sys_resource=p {program}; echo 9 | {program} {LIMIT}",
        f"nsenter --user=/proc/self/ns/user sh -c 'echo 9 > {LIMIT}'",
        f"cp /bin/sh {shell}; chmod 4755 {shell}; {shell} -p -c 'echo 9 > {LIMIT}'",
    )
    tries = (f"({{ {attempt}; }} >/dev/null 2>&1); cat {LIMIT}" for attempt in attempts)
    script = "\n".join((*tries, "grep ^Cap /proc/self/status"))
    done = pyspaces("run", *NNU, "--", "sh", "-c", script)
    lines = done.stdout.splitlines()
    assert lines[: len(attempts)] == ["0"] * len(attempts)
    held = lines[len(attempts) :]
    assert len(held) == 5
    assert not any(int(line.split()[1], 16) & SYS_RESOURCE for line in held)


@pytest.mark.parametrize("drop", [[], ["--cap-drop", "all"], ["--cap-drop", "sys_resource"]])
def test_together_with_dropped_capabilities(pyspaces: Run, drop: list[str]) -> None:
    done = pyspaces("run", *NNU, *drop, "--", "sh", "-c", f"echo 9 > {LIMIT}; cat {LIMIT}")
    assert done.stdout == "0\n"


def test_a_function_can_make_none_either() -> None:
    for ids in (None, f"5,{UID},1"):
        group = ids and f"5,{GID},1"
        box = Container(attempt, user=True, uid_map=ids, gid_map=group, no_nested_users=True)
        box.start()
        sets, raised, made = box.result(timeout=60)
        box.close()
        assert not any(value & SYS_RESOURCE for value in sets)
        assert (raised, made) == (errno.EACCES, errno.ENOSPC)


def attempt() -> tuple[tuple[int, int, int], int, int]:
    """Return the sets of this process, and how the two calls are refused."""
    numbers = []
    calls: tuple[tuple[Callable[..., None], tuple[object, ...]], ...] = (
        (procfs.write_once, (LIMIT, "1000")),
        (libc.unshare, (constants.CLONE_NEWUSER,)),
    )
    for call, words in calls:
        try:
            call(*words)
            numbers.append(0)
        except OSError as error:
            numbers.append(error.errno or 0)
    return libc.capabilities(), numbers[0], numbers[1]


def test_functions_take_the_other_settings_too() -> None:
    box = Container(
        status, user=True, no_new_privs=True, cap_drop=["all"], cap_add="kill,net_admin"
    )
    box.start()
    held = box.result(timeout=60)
    box.close()
    assert held == {"NoNewPrivs": "1", "CapEff": f"{1 << 5 | 1 << 12:016x}"}
    with pytest.raises(UsageFault, match="CAP_FLYING: is not a capability"):
        Container(status, user=True, cap_drop="flying")


def status() -> dict[str, str | None]:
    return {name: procfs.status_field("self", name) for name in ("NoNewPrivs", "CapEff")}


def test_a_covered_limit_is_noticed(pyspaces: Run, tmp_path: Path) -> None:
    """Written without an error, and without an effect."""
    (tmp_path / "user").mkdir()
    (tmp_path / "user" / "max_user_namespaces").write_text("")
    # The whole: each user namespace has its own file there, which a mount on this one misses.
    script = f'mount --bind {tmp_path} /proc/sys && exec "$@"'
    around = ("run", "--user", "--mount", "--", "sh", "-c", script, "sh")
    done = pyspaces(*around, SCRIPT, "run", *NNU, "--", "echo", "ran")
    assert (done.returncode, done.stdout) == (125, "")
    assert done.stderr == (
        f"pyspaces: cannot forbid user namespaces inside: write {LIMIT}: Operation not supported\n"
    )


def test_sysctls_that_are_read_only(pyspaces: Run) -> None:
    script = 'mount --bind /proc/sys /proc/sys && mount -o remount,bind,ro /proc/sys && exec "$@"'
    around = ("run", "--user", "--mount", "--", "sh", "-c", script, "sh")
    done = pyspaces(*around, SCRIPT, "run", *NNU, "--", "echo", "ran")
    assert (done.returncode, done.stdout) == (125, "")
    assert f"cannot forbid user namespaces inside: open {LIMIT}: Read-only file" in done.stderr
    assert "hint: /proc/sys is mounted read-only here" in done.stderr


def test_refused_before_anything_is_created() -> None:
    rows = [
        (["--no-nested-users"], "no-nested-users: needs a new user namespace: the limit holds"),
        (
            [*NNU, "--cap-add", "sys_resource"],
            "cap-add: CAP_SYS_RESOURCE: whoever has it can undo no-nested-users",
        ),
    ]
    assert_refused(rows)
