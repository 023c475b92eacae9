"""Compiled filters in turns: the cases of bubblewrap's tests/test-seccomp.py, in our own words.

An allow list answers ENOSYS for what is not on it, a deny list ECONNREFUSED for what is. Of two
filters that refuse a call, the answer is that of the one that was installed last: seccomp(2).
"""

from __future__ import annotations

import ctypes.util
import errno
import os
import subprocess
import sys
import termios
from pathlib import Path

import pytest
from conftest import SCRIPT, outcome

from pyspaces.features.confinement.groups import members
from pyspaces.kernel import constants, libseccomp

CALLS = str(Path(__file__).parents[1] / "security" / "calls.py")
pytestmark = [
    pytest.mark.skipif(os.uname().machine != "x86_64", reason="the numbers are those of x86_64"),
    pytest.mark.skipif(ctypes.util.find_library("seccomp") is None, reason="no libseccomp"),
]
IOCTL, TIOCNOTTY, TIOCSTI = 16, termios.TIOCNOTTY, termios.TIOCSTI
BAD = 0xFFFFFFFF  # a descriptor
TRIES = {
    "chmod": "native:90",
    "chroot": "native:161",
    "clone3": "native:435:1:88",
    "TIOCNOTTY": f"native:{IOCTL}:{BAD}:{TIOCNOTTY}",
    "TIOCSTI": f"native:{IOCTL}:{BAD}:{TIOCSTI}",
    # The kernel looks at the lower half alone: CVE-2019-10063 was a filter that looked at all.
    "TIOCSTI, more": f"native:{IOCTL}:{BAD}:{TIOCSTI | 1 << 32}",
    "listen": f"native:50:{BAD}",
    "prctl": "native:157:37:1",  # PR_GET_CHILD_SUBREAPER, to an address that is none
}
KERNEL = {
    **dict.fromkeys(("chmod", "chroot", "clone3", "prctl"), "EFAULT"),
    **dict.fromkeys(("TIOCNOTTY", "TIOCSTI", "TIOCSTI, more", "listen"), "EBADF"),
}
NOT_ALLOWED = dict.fromkeys(("chroot", "clone3", "listen"), "ENOSYS")
DENIED = dict.fromkeys(("chmod", "chroot", "TIOCSTI", "TIOCSTI, more"), "ECONNREFUSED")
NAMES = [
    *members("@default"),
    *members("@basic-io"),
    *members("@file-system"),
    # What an interpreter takes to start, and to call.
    *("arch_prctl", "ioctl", "madvise", "mprotect", "mremap", "prctl", "umask", "rt_sigaction"),
    *("rt_sigprocmask", "sigaltstack", "memfd_create"),
]


def allowing() -> bytes:
    library = libseccomp.Library()
    with library.filter(constants.SECCOMP_RET_ERRNO | errno.ENOSYS, [], 0) as made:
        for name in set(NAMES) - {"chroot", "clone3", "listen"}:
            if (number := library.number(name)) is not None:
                made.add(constants.SECCOMP_RET_ALLOW, number)
        return made.program()


def denying(*names: str) -> bytes:
    library = libseccomp.Library()
    answer = constants.SECCOMP_RET_ERRNO | errno.ECONNREFUSED
    terminal = libseccomp.Comparison(index=1, operator="MASKED_EQ", value=BAD, other=TIOCSTI)
    with library.filter(constants.SECCOMP_RET_ALLOW, [], 0) as made:
        for name in ("chmod", "chroot", *names):
            number = library.number(name)
            assert number is not None
            made.add(answer, number)
        made.add(answer, IOCTL, [terminal])
        return made.program()


def run_with(programs: list[bytes], *command: str) -> subprocess.CompletedProcess[str]:
    files = [os.memfd_create("filter", 0) for _ in programs]
    try:
        for file, content in zip(files, programs, strict=True):
            os.pwrite(file, content, 0)
        words = [word for file in files for word in ("--seccomp-fd", str(file))]
        return outcome([SCRIPT, "run", *words, "--", *command], pass_fds=files)
    finally:
        for file in files:
            os.close(file)


def answers(*programs: bytes) -> dict[str, str]:
    done = run_with([*programs], sys.executable, "-I", "-S", CALLS, *TRIES.values())
    assert (done.returncode, done.stderr) == (0, "")
    return dict(zip(TRIES, done.stdout.split(), strict=True))


def test_no_filter() -> None:
    assert answers() == KERNEL


def test_an_allow_list() -> None:
    assert answers(allowing()) == {**KERNEL, **NOT_ALLOWED}


def test_a_deny_list() -> None:
    expected = {**KERNEL, **DENIED, "prctl": "ECONNREFUSED"}
    assert answers(denying("prctl")) == expected


def test_a_deny_list_and_then_an_allow_list() -> None:
    assert answers(denying(), allowing()) == {**KERNEL, **DENIED, **NOT_ALLOWED}


def test_an_allow_list_and_then_a_deny_list() -> None:
    """The last one may refuse prctl(2) too, which installs filters."""
    expected = {**KERNEL, **NOT_ALLOWED, **DENIED, "prctl": "ECONNREFUSED"}
    assert answers(allowing(), denying("prctl")) == expected


def test_what_is_no_descriptor_or_no_filter(tmp_path: Path) -> None:
    command = ["touch", str(tmp_path / "ran")]
    for word in ("-1", "0a", "99999"):
        done = outcome([SCRIPT, "run", "--seccomp-fd", word, "--", *command])
        assert (done.returncode, "seccomp-fd" in done.stderr) == (2, True), done.stderr
    done = run_with([denying(), b"\1"], *command)
    assert (done.returncode, "has 1 bytes, and an instruction has 8" in done.stderr) == (2, True)
    with (tmp_path / "filter").open("w+b") as file:
        file.write(denying())
        file.seek(0)
        number = str(file.fileno())
        words = ["--seccomp-fd", number, "--seccomp-fd", number]
        done = outcome([SCRIPT, "run", *words, "--", *command], pass_fds=[file.fileno()])
    assert (done.returncode, "a descriptor is given twice" in done.stderr) == (2, True), done.stderr
    assert not (tmp_path / "ran").exists()
