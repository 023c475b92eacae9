"""What a program that a function starts in a sandbox can do to the result, which is unpickled."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from pyspaces import Sandbox

pytestmark = pytest.mark.needs("userns", "pidns")
# Looks for the function: by its open files, its memory, and as a tracer.
SEEK = """
import ctypes, errno, json, os, sys
found = []
libc = ctypes.CDLL(None, use_errno=True)
function = os.getppid()
for act in (
    lambda: [os.readlink(f"/proc/{function}/fd/{number}") for number in range(100)],
    lambda: open(f"/proc/{function}/mem", "r+b").close(),
):
    try:
        act()
    except OSError as error:
        found.append(errno.errorcode[error.errno])
found.append(libc.ptrace(0x4206, function, 0, 0))  # PTRACE_SEIZE
for number in os.listdir("/proc/self/fd"):  # what it was given itself
    if os.path.lexists(path := f"/proc/self/fd/{number}"):
        found += ["given"] if "result" in os.readlink(path) else []
print(json.dumps(found))
"""


def seek() -> list[object]:
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", SEEK], capture_output=True, text=True, check=True
    )
    found: list[object] = json.loads(done.stdout)
    return found


def test_a_program_cannot_get_at_the_result_of_a_call() -> None:
    with Sandbox(user=True, pid=True, mount=True) as sandbox:
        assert sandbox.call(seek) == ["EACCES", "EACCES", -1]
