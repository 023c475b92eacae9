"""`pyspaces.cloning.Clone`: the documented Popen over clone, on the real kernel."""

from __future__ import annotations

import multiprocessing
import os
import time
from multiprocessing import connection
from typing import Any

import pytest

from pyspaces import cloning
from pyspaces.cloning import Clone

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.needs("userns", "pidns")
UID, GID = os.geteuid(), os.getegid()


class Cloned(multiprocessing.Process):
    """A process whose Popen is a Clone; attributes are set by keyword."""

    def __init__(self, target: Callable[[], object], **attributes: Any) -> None:
        super().__init__(target=target)
        self.__dict__.update({"clone_flags": cloning.CLONE_NEWUSER} | attributes)

    @staticmethod
    def _Popen(process_obj: Any) -> Any:  # noqa: N802 - the name of multiprocessing
        return Clone(process_obj)


def ran(target: Callable[[], object], **attributes: Any) -> int | None:
    process = Cloned(target, **attributes)
    process.start()
    process.join(60)
    code = process.exitcode
    process.close()
    return code


def sleep() -> None:
    time.sleep(1000)


def exit_with_ids() -> None:
    os._exit(10 * os.getuid() + os.getgid())


def test_it_is_pid_1_of_a_new_namespace() -> None:
    flags = cloning.CLONE_NEWUSER | cloning.CLONE_NEWPID
    assert ran(lambda: os._exit(40 + os.getpid()), clone_flags=flags) == 41


@pytest.mark.parametrize(
    "maps",
    [
        {"map_zero": True},
        {"uid_map": True, "gid_map": True},
        {"uid_map": UID, "gid_map": GID},
        {"uid_map": f"0 {UID} 1", "gid_map": f"0,{GID},1"},
        {"uid_map": [f"0:{UID}:1"], "gid_map": ["root"]},
    ],
)
def test_maps_in_every_form_make_root_inside(maps: dict[str, Any]) -> None:
    assert ran(exit_with_ids, **maps) == 0


def test_another_inside_id() -> None:
    assert ran(exit_with_ids, uid_map=f"3 {UID} 1", gid_map=f"4 {GID} 1") == 34


def test_without_maps_the_ids_overflow() -> None:
    assert ran(lambda: os._exit(7 if os.getuid() == 65534 else 8)) == 7


@pytest.mark.as_root
def test_several_records() -> None:
    def look() -> None:
        os.setresuid(5, 5, 5)
        os._exit(os.getuid())

    assert ran(look, uid_map=["root", "1 100000 10"], gid_map=True) == 5


@pytest.mark.as_ordinary
def test_a_refused_map_names_the_file_and_leaves_no_child() -> None:
    process = Cloned(sleep, uid_map=f"0 {UID + 1} 1")
    with pytest.raises(OSError, match=r"Operation not permitted.*uid_map"):
        process.start()


def test_a_refused_clone_is_an_oserror_with_the_call() -> None:
    process = Cloned(sleep, clone_flags=cloning.CLONE_NEWUSER | cloning.CLONE_FS)
    with pytest.raises(OSError, match="Invalid argument") as caught:
        process.start()
    assert getattr(caught.value, "call", None) == "clone3"


def test_flags_with_which_python_cannot_run() -> None:
    names = "VM THREAD SIGHAND SETTLS VFORK FILES PARENT CHILD_SETTID DETACHED"
    for name in names.split():
        flag = getattr(cloning, f"CLONE_{name}")
        with pytest.raises(ValueError, match=f"CLONE_{name}: "):
            Cloned(sleep, clone_flags=flag).start()


def test_sigchld_may_be_among_the_flags() -> None:
    flags = cloning.CLONE_NEWUSER | cloning.SIGCHLD
    assert ran(lambda: os._exit(3), clone_flags=flags) == 3
    with pytest.raises(ValueError, match="exit signal 9"):
        Cloned(sleep, clone_flags=9).start()


def test_wait_has_a_real_timeout_and_the_sentinel_waits_for_the_end() -> None:
    process = Cloned(sleep)
    process.start()
    popen: Any = process._popen  # type: ignore[attr-defined]
    try:
        start = time.monotonic()
        assert popen.wait(timeout=0.05) is None
        assert 0.05 <= time.monotonic() - start < 60
        assert popen.poll() is None
        assert connection.wait([process.sentinel], 0.01) == []
        popen.terminate()
        assert connection.wait([process.sentinel], 60) == [process.sentinel]
    finally:
        popen.kill()
        popen.wait()
    assert popen.wait() == -15
    assert popen.returncode == -15
    popen.close()
    popen.close()


@pytest.mark.parametrize("flags", [0, cloning.CLONE_NEWPID])
def test_terminate_and_kill(flags: int) -> None:
    for end, code in (("terminate", -15), ("kill", -9)):
        process = Cloned(sleep, clone_flags=cloning.CLONE_NEWUSER | flags, map_zero=True)
        process.start()
        getattr(process, end)()
        process.join(60)
        assert process.exitcode == code
        process.close()


def test_what_the_documentation_names() -> None:
    process = Cloned(sleep)
    process.start()
    popen: Any = process._popen  # type: ignore[attr-defined]
    try:
        assert popen.process_obj is process
        assert popen.pid == process.pid
        assert popen.pipe_fd != (-1, -1)
        assert popen.returncode is None
        assert Clone.thread_is_spawning() is False
    finally:
        process.kill()
        process.join()
        process.close()


class Talkative(Clone):
    """A parent that writes into the pipe instead of closing it."""

    def _write_maps(self) -> None:
        os.write(self.pipe_fd[1], b"x")


class Forgetful(Clone):
    """A parent that closes the pipe without writing the maps: one that died looks the same."""

    def _write_maps(self) -> None:
        return


@pytest.mark.parametrize("popen", [Talkative, Forgetful])
def test_a_child_goes_on_only_with_maps_and_an_empty_pipe(popen: Any) -> None:
    process = Cloned(lambda: os._exit(0), map_zero=True)
    process._Popen = popen  # type: ignore[method-assign]
    process.start()
    process.join(60)
    assert process.exitcode not in (0, None)
    process.close()


def test_the_public_names_are_exactly_these() -> None:
    names = """
        CLONE_VM CLONE_FS CLONE_FILES CLONE_SIGHAND CLONE_PTRACE CLONE_VFORK CLONE_PARENT
        CLONE_THREAD CLONE_NEWNS CLONE_SYSVSEM CLONE_SETTLS CLONE_PARENT_SETTID
        CLONE_CHILD_CLEARTID CLONE_DETACHED CLONE_UNTRACED CLONE_CHILD_SETTID CLONE_NEWUTS
        CLONE_NEWIPC CLONE_NEWUSER CLONE_NEWPID CLONE_NEWNET CLONE_IO CLONE_NEWCGROUP
        CLONE_NEWTIME CLONE_PIDFD CLONE_INTO_CGROUP CLONE_CLEAR_SIGHAND
        STACK_SIZE DEFAULT_MODE RTLD_GLOBAL RTLD_LOCAL SIGCHLD SIGKILL Clone
    """
    assert set(cloning.__all__) == set(names.split())
    assert cloning.STACK_SIZE == 1024 * 1024
