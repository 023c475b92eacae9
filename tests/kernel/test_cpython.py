"""CPython's own tests of `multiprocessing.Process`, over Container.

The interpreter's `test._test_multiprocessing` is loaded once per space, with a Container as
`multiprocessing.Process`, so that the subclasses which it declares are Containers as well. What
does not apply to a space is listed with the reason; the other space runs it. What CPython itself
leaves out for fork (the fork server, inherited descriptors) skips itself.
"""

from __future__ import annotations

import functools
import gc
import importlib.util
import multiprocessing
import sys
import unittest
from multiprocessing import resource_tracker, spawn
from pathlib import Path

import pytest
from conftest import MUST_RUN

import pyspaces

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

pytestmark = pytest.mark.needs("userns", "pidns")

CASES = ("_TestProcess", "_TestSubclassingProcess")
# A plain run has all of them in one space, and in the others the few of the second case.
USUAL = "UserPid"
LONG = ("test_many_processes",)
# They sleep for seconds; tests of our own end, kill and wait in a plain run.
SLOW = ("test_terminate", "test_kill", "test_wait_for_threads", "test_recursion")
# What is long is run in each space by one of the two users of .ci/run.
BY_ROOT = ("User", "UserInitWait")

_PIDS = {"test_process": "compares the pid of the process inside with its pid outside"}
_PID_1 = {
    "test_parent_process": "the grandchild, which should notice the death of pid 1, dies with it",
    **_PIDS,
}
SPACES: dict[str, tuple[dict[str, bool], dict[str, str]]] = {
    "User": ({"user": True}, {}),
    "UserPid": ({"user": True, "pid": True}, _PID_1),
    # An init above the function, which stays until what the function has started has ended.
    "UserInitWait": ({"user": True, "pid": True, "init_wait": True}, _PIDS),
    "UserInit": (
        {"user": True, "pid": True, "init": True},
        {**_PIDS, "test_parent_process": "the init ends with the function, and all with it"},
    ),
}


def _load(process: object) -> Any:
    """Return a copy of CPython's module, for which `process` is `multiprocessing.Process`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(multiprocessing, "Process", process)
        try:
            spec = importlib.util.find_spec("test._test_multiprocessing")
            if spec is None or spec.loader is None:
                raise ImportError("test._test_multiprocessing")
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
        except ImportError as error:
            reason = f"this host lacks: CPython's own tests ({error})"
            if MUST_RUN:
                pytest.fail(reason)
            pytest.skip(reason, allow_module_level=True)
    return module


def _mixin(module: Any, context: Any) -> type:
    """Return CPython's mixin for processes, with what the context has taken from there."""
    base = module.ProcessesMixin
    names = [name for name in vars(base) if not name.startswith("_") and hasattr(context, name)]
    own: dict[str, Any] = {name: staticmethod(getattr(context, name)) for name in names}
    return type("SpaceMixin", (base,), own | {"Process": context.Process})


def _case(module: Any, name: str, mixin: type, reasons: dict[str, str]) -> type:
    base = getattr(module, name)
    own = {
        test: unittest.skip(reason)(getattr(base, test))
        for test, reason in reasons.items()
        if hasattr(base, test)
    }
    return type(name, (base, mixin, unittest.TestCase), {**own, "__module__": __name__})


def _cases() -> Iterator[tuple[str, type]]:
    for space, (settings, reasons) in SPACES.items():
        context: Any = pyspaces.get_context(**settings)  # type: ignore[arg-type]
        module = _load(context.Process)
        mixin = _mixin(module, context)
        for name in CASES:
            yield name.removeprefix("_") + space, _case(module, name, mixin, reasons)


def _mark(case: type, *, usual: bool, by_root: bool) -> None:
    """Leave to `stress` what is long, and where not `usual`, everything."""
    who = pytest.mark.as_root if by_root else pytest.mark.as_ordinary
    for name in dir(case):
        if name.startswith("test_") and (name in LONG + SLOW or not usual):
            test = getattr(case, name)
            own = functools.wraps(test)(lambda self, test=test: test(self))
            setattr(case, name, pytest.mark.stress(who(own) if name in LONG else own))


FOUND = dict(_cases())
for _name, _found in FOUND.items():
    _mark(
        _found,
        usual=USUAL in _name or "Subclassing" in _name,
        by_root=_name.endswith(tuple(f"Process{space}" for space in BY_ROOT)),
    )
globals().update(FOUND)


@pytest.fixture(scope="module", autouse=True)
def start_method() -> Iterator[None]:
    """Start what `multiprocessing` starts once: the resource tracker is a child and has a pipe."""
    # Each test forces three collections: not of what the tests before have left for the report.
    gc.collect()
    gc.freeze()
    before = multiprocessing.get_start_method(allow_none=True)
    multiprocessing.set_start_method("fork", force=True)
    resource_tracker.ensure_running()
    yield
    multiprocessing.set_start_method(before, force=True)
    spawn.set_executable(sys.executable)


@pytest.fixture(autouse=True)
def as_cpython_does(
    request: pytest.FixtureRequest, no_leaks: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """Be in a directory of one's own; collect the processes that a test has dropped unclosed."""
    monkeypatch.chdir(tmp_path)
    if request.cls is not None:
        monkeypatch.setattr(multiprocessing, "Process", request.cls.Process)
    yield
    gc.collect()


@pytest.mark.parametrize("space", SPACES)
def test_the_cases_are_of_containers(space: str) -> None:
    """What CPython's module takes for multiprocessing.Process, and what is left out of it."""
    own, sub = (FOUND[name.removeprefix("_") + space] for name in CASES)
    bases: Any = own, sub
    for case in bases:
        made = case(methodName="assertTrue").Process()
        assert isinstance(made, pyspaces.Container)
        wanted = SPACES[space][0]
        made_of = {*made._plan.namespaces}
        made_of |= {name for name in ("init", "init_wait") if getattr(made._plan.life, name)}
        assert made_of - ({"init"} if "init_wait" in wanted else set()) == set(wanted)
    upper: Any = sub.test_subclassing.__globals__["_UpperCaser"]  # type: ignore[attr-defined]
    assert issubclass(upper, bases[0].Process)
    assert set(SPACES[space][1]) <= set(dir(own)) | set(dir(sub))
