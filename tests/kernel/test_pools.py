"""Containers and the pools that programs have: concurrent.futures, joblib and loky.

The README names them. Each in a program of its own: these pools outlive their last task.
"""

from __future__ import annotations

import sys

import pytest
from conftest import outcome

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

PROGRAMS = {
    "a pool in namespaces": (
        """
from concurrent.futures import ProcessPoolExecutor
from pyspaces import get_context
with ProcessPoolExecutor(1, mp_context=get_context(user=True, pid=True, hostname="box")) as pool:
    print(list(pool.map(task.look, range(2))))
""",
        "[(0, 1, 'box'), (1, 1, 'box')]\n",
    ),
    "loky in namespaces": (
        """
from joblib.externals.loky import ProcessPoolExecutor
from pyspaces import get_context
with ProcessPoolExecutor(1, context=get_context(user=True, pid=True, hostname="box")) as pool:
    print(list(pool.map(task.look, range(2))))
""",
        "[(0, 1, 'box'), (1, 1, 'box')]\n",
    ),
    "a task of joblib": (
        """
from joblib import Parallel, delayed
from joblib.externals.loky import get_reusable_executor
print(Parallel(n_jobs=2)(delayed(task.boxed)(n) for n in range(3)))
get_reusable_executor().shutdown(wait=True)
""",
        "[(0, 1, 'box'), (1, 1, 'box'), (2, 1, 'box')]\n",
    ),
    "a daemonic task of joblib": (
        """
from joblib import Parallel, delayed
some = Parallel(n_jobs=2, backend="multiprocessing")
print(set(some(delayed(task.refused)(n) for n in range(2))))
print(some(delayed(task.boxed)(n, kill_child="KILL") for n in range(2)))
""",
        "{'set kill_child=\"KILL\"'}\n[(0, 1, 'box'), (1, 1, 'box')]\n",
    ),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_pool(name: str, tmp_path: object) -> None:
    text, shown = PROGRAMS[name]
    with open(f"{tmp_path}/task.py", "w") as file:
        file.write(TASK)
    with open(f"{tmp_path}/program.py", "w") as file:
        file.write(f"import task\nif __name__ == '__main__':\n{indented(text)}")
    done = outcome([sys.executable, f"{tmp_path}/program.py"], cwd=str(tmp_path))
    assert (done.returncode, done.stdout) == (0, shown), done.stderr


def indented(text: str) -> str:
    return "".join(f"    {line}\n" for line in text.splitlines())
