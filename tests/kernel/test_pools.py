"""Containers and the pools that programs have: joblib and loky, which the README names.

In a program of its own: these pools outlive their last task. For concurrent.futures, see
test_container.py.
"""

from __future__ import annotations

import sys

import pytest
from conftest import outcome

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.needs("userns", "pidns")

# Functions of a module: joblib's backend `multiprocessing` cannot pickle others.
TASK = """
import os
from pyspaces import Container, UsageFault

def look(number):
    return number, os.getpid(), os.uname().nodename

def boxed(number, **settings):
    container = Container(look, args=(number,), user=True, pid=True, hostname="box", **settings)
    container.start()
    try:
        return container.result(60)
    finally:
        container.close()

def refused(number):
    try:
        return boxed(number)
    except UsageFault as fault:
        return "set " + str(fault).partition(": set ")[2].partition("\\n")[0]
"""

PROGRAM = """
import task
from joblib import Parallel, delayed
from joblib.externals.loky import ProcessPoolExecutor, get_reusable_executor
from pyspaces import get_context

if __name__ == "__main__":
    context = get_context(user=True, pid=True, hostname="box")
    with ProcessPoolExecutor(1, context=context) as pool:
        print(list(pool.map(task.look, range(2))))
    print(Parallel(n_jobs=2)(delayed(task.boxed)(n) for n in range(3)))
    get_reusable_executor().shutdown(wait=True)
    some = Parallel(n_jobs=2, backend="multiprocessing")
    print(set(some(delayed(task.refused)(n) for n in range(2))))
    print(some(delayed(task.boxed)(n, kill_child="KILL") for n in range(2)))
"""
SHOWN = [
    *("[(0, 1, 'box'), (1, 1, 'box')]", "[(0, 1, 'box'), (1, 1, 'box'), (2, 1, 'box')]"),
    *("{'set kill_child=\"KILL\"'}", "[(0, 1, 'box'), (1, 1, 'box')]"),
]


def test_pools_and_tasks_of_joblib(tmp_path: Path) -> None:
    """Loky's pool in namespaces; Containers in a task of joblib, and in a daemonic one."""
    (tmp_path / "task.py").write_text(TASK)
    (tmp_path / "program.py").write_text(PROGRAM)
    done = outcome([sys.executable, tmp_path / "program.py"], cwd=tmp_path)
    assert (done.returncode, done.stdout.splitlines()) == (0, SHOWN), done.stderr
