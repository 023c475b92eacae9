"""CPython's own tests of `multiprocessing.Process`, over Container.

The interpreter's `test._test_multiprocessing` is loaded once per space, with a Container as
`multiprocessing.Process`, so that the subclasses which it declares are Containers as well. What
does not apply to a space is listed with the reason; the other space runs it.
"""

from __future__ import annotations

import gc
import importlib.util
import multiprocessing
import unittest
from multiprocessing import resource_tracker, spawn
from pathlib import Path

import pytest
from conftest import MUST_RUN

import pyspaces

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from multiprocessing.context import BaseContext
    from typing import Any

pytestmark = pytest.mark.needs("userns", "pidns")

CASES = ("_TestProcess", "_TestSubclassingProcess")

_OTHER_METHOD = "tests another start method: CPython skips it for fork as well"
_ANYWHERE = {
    "test_child_fd_inflation": _OTHER_METHOD,
    "test_forkserver_sigint": _OTHER_METHOD,
    "test_forkserver_sigkill": _OTHER_METHOD,
}
_PID_1 = {
    "test_process": "compares the pid of the process inside, 1, with its pid outside",
    "test_process_mainthread_native_id": "",
    "test_parent_process": "",
}
SPACES: dict[str, tuple[dict[str, bool], dict[str, str]]] = {
    "User": ({"user": True}, _ANYWHERE),
    "UserPid": ({"user": True, "pid": True}, _ANYWHERE),
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


def _mixin(module: Any, context: BaseContext) -> type:
    """Return CPython's mixin for processes, with what the context has taken from there."""
    base = module.ProcessesMixin
    names = [name for name in vars(base) if not name.startswith("_") and hasattr(context, name)]
    own = {name: staticmethod(getattr(context, name)) for name in names}
    return type("SpaceMixin", (base,), {**own, "Process": context.Process, "context": context})  # type: ignore[attr-defined]


def _case(module: Any, name: str, mixin: type, reasons: dict[str, str]) -> type:
    base = getattr(module, name)
    own = {
        test: unittest.skip(reason)(getattr(base, test))
        for test, reason in reasons.items()
        if hasattr(base, test)
    }
    return type(name, (base, mixin, unittest.TestCase), {**own, "__module__": __name__})


_found: set[str] = set()
for _space, (_settings, _reasons) in SPACES.items():
    _context = pyspaces.get_context(**_settings)
    _module = _load(_context.Process)  # type: ignore[attr-defined]
    for _name in CASES:
        _class = _case(_module, _name, _mixin(_module, _context), _reasons)
        _found |= set(dir(_class))
        globals()[f"{_name.removeprefix('_')}{_space}"] = _class
_class = None


@pytest.fixture(scope="module", autouse=True)
def start_method() -> Iterator[None]:
    """Start what `multiprocessing` starts once: the resource tracker is a child and has a pipe."""
    before = multiprocessing.get_start_method(allow_none=True)
    multiprocessing.set_start_method("fork", force=True)
    resource_tracker.ensure_running()
    yield
    multiprocessing.set_start_method(before, force=True)
    spawn.set_executable(spawn.sys.executable)


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


def test_what_is_left_out_exists() -> None:
    assert {name for _, reasons in SPACES.values() for name in reasons} <= _found
