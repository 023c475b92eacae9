"""CPython's own tests of `subprocess`, over `pyspaces.Popen` and `pyspaces.run`.

The interpreter's `test.test_subprocess` is loaded once per space, with ours as `subprocess.Popen`.
What does not apply is listed with the reason. Marked as stress for its length.
"""

from __future__ import annotations

import importlib.util
import subprocess
import types
import unittest

import pytest
from conftest import IS_ROOT, MUST_RUN

import pyspaces

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

pytestmark = [pytest.mark.needs("userns", "pidns"), pytest.mark.stress]

CASES = ("ProcessTestCase", "RunFuncTestCase", "POSIXProcessTestCase", "ContextManagerTests")
# One for each user that .ci/run has: each takes a minute.
SPACES: dict[str, dict[str, bool]] = (
    {"User": {"user": True}} if IS_ROOT else {"UserPid": {"user": True, "pid": True}}
)
_PREEXEC = "preexec_fn is refused: a Container runs Python functions in namespaces"
_IDS = "setuid, setgid and groups take the place of user, group and extra_groups"
REASONS = {
    "test__use_vfork": "looks into CPython's own way to create a process",
    "test_surrogates_error_message": "expects the message of CPython's own way to create a process",
    "test_stopped": "replaces os.waitpid, which is not what we wait with",
    **dict.fromkeys(
        ("test_user", "test_group", "test_extra_groups", "test_extra_groups_empty_list"), _IDS
    ),
    **dict.fromkeys(
        (
            "test_preexec",
            "test_preexec_exception",
            "test_preexec_errpipe_does_not_double_close_pipes",
            "test_preexec_fork_failure",
            "test_preexec_gc_module_failure",
            "test_close_fds_after_preexec",
        ),
        _PREEXEC,
    ),
}
_PID_1 = {
    "test_run_abort": "process 1 of a pid namespace cannot abort itself",
    "test_communicate_eintr": "the parent has no pid inside: getppid() is 0, the caller's group",
}


def _over(function: types.FunctionType, names: dict[str, Any]) -> types.FunctionType:
    """Return a function of `subprocess` that finds other names in its module."""
    made = types.FunctionType(
        function.__code__, {**vars(subprocess), **names}, function.__name__, function.__defaults__
    )
    made.__kwdefaults__ = function.__kwdefaults__
    return made


def _subprocess_of(settings: dict[str, bool]) -> types.ModuleType:
    """Return the module `subprocess`, whose processes are in new namespaces."""

    class Popen(pyspaces.Popen):
        def __init__(self, *args: Any, **keywords: Any) -> None:
            super().__init__(*args, **{**settings, **keywords})

    module = types.ModuleType("subprocess")
    vars(module).update(vars(subprocess))
    names: dict[str, Any] = {"Popen": Popen}
    names["run"] = lambda *args, **keywords: pyspaces.run(*args, **{**settings, **keywords})
    for name in ("call", "check_call", "check_output", "getoutput", "getstatusoutput"):
        names[name] = _over(getattr(subprocess, name), names)
    vars(module).update(names)
    return module


def _load(settings: dict[str, bool]) -> Any:
    try:
        spec = importlib.util.find_spec("test.test_subprocess")
        if spec is None or spec.loader is None:
            raise ImportError("test.test_subprocess")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    except ImportError as error:
        reason = f"this host lacks: CPython's own tests ({error})"
        if MUST_RUN:
            pytest.fail(reason)
        pytest.skip(reason, allow_module_level=True)
    vars(module)["subprocess"] = _subprocess_of(settings)
    return module


def _cases() -> Iterator[tuple[str, type]]:
    for space, settings in SPACES.items():
        module = _load(settings)
        for name in CASES:
            base = getattr(module, name)
            own = {
                test: unittest.skip(reason)(getattr(base, test))
                for test, reason in {**REASONS, **(_PID_1 if "pid" in settings else {})}.items()
                if hasattr(base, test)
            }
            yield name + space, type(name, (base,), {**own, "__module__": __name__})


FOUND = dict(_cases())
globals().update(FOUND)
