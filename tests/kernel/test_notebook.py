"""Functions that are defined in cells, as in a notebook: Container forks, and pickles none."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from conftest import outcome

pytestmark = pytest.mark.needs("userns", "pidns")

CELLS = """
import pyspaces
from pyspaces import Container, Sandbox
# --
secret = [3, 4]
class Point:
    def __init__(self, x):
        self.x = x
def inside(function, *args, **settings):
    container = Container(function, args=args, user=True, pid=True, **settings)
    container.start()
    try:
        return container.result(60)
    finally:
        container.close()
# --
def adder(number):
    def add(other):
        return Point(number + other + secret[0])
    return add
print(inside(adder(10), 5).x)
# --
print(inside(lambda: sum(secret)))
# --
def fails():
    raise LookupError("in a cell")
try:
    inside(fails)
except LookupError as error:
    print(error, "in fails" in str(error.__cause__))
# --
with Sandbox(user=True, hostname="cell") as box:
    print(box.call(lambda: open("/proc/sys/kernel/hostname").read().strip() + str(secret)))
# --
process = await pyspaces.create_subprocess_exec("echo", "awaited", stdout=-1, user=True)
print((await process.communicate())[0])
"""

PROGRAM = """
import sys
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
for cell in sys.argv[1].split("# --"):
    shell.run_cell(cell, store_history=True).raise_error()
"""


def test_functions_of_cells_run_in_containers(tmp_path: Path) -> None:
    around = os.environ | {"IPYTHONDIR": str(tmp_path), "HOME": str(tmp_path), "TERM": "dumb"}
    done = outcome([sys.executable, "-c", PROGRAM, CELLS], env=around)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        *("18", "7", "in a cell True", "cell[3, 4]", "b'awaited\\n'"),
    ]
