"""Values of wrong types, at every public door: a documented error that names the setting, or a use.

No AssertionError, AttributeError, KeyError, IndexError, OverflowError or RecursionError of ours
reaches a program. The values are what programs pass by mistake, and what breaks naive code: texts
that no system call takes, numbers without end, lists that hold themselves.
"""

from __future__ import annotations

import contextlib
import math
import multiprocessing
import os
import subprocess
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest

import pyspaces
from pyspaces import Chroot, Container, Inject, SpaceError, get_context, launch, setns, settings
from pyspaces.cloning import CLONE_NEWUSER, Clone
from pyspaces.features.ids.idmap import Extent
from pyspaces.library import space
from pyspaces.mounts.operations import KINDS, Operation, faults_of
from pyspaces.plan import Plan

CONTEXT: Any = get_context()
ITSELF: list[Any] = []
ITSELF.append(ITSELF)
DEEP: list[Any] = []
for _ in range(5000):
    DEEP = [DEEP]

VALUES: dict[str, Any] = {
    "None": None,
    "True": True,
    "minus one": -1,
    "five": 5,
    "2**31": 2**31,
    "2**64": 2**64,
    "endless": 10**5000,
    "half": 1.5,
    "nan": math.nan,
    "inf": math.inf,
    "text": "x",
    "empty text": "",
    "NUL": "a\0b",
    "surrogate": "\udfff",
    "digits": "9" * 5000,
    "bytes": b"x",
    "object": object(),
    "type": int,
    "function": len,
    "empty list": [],
    "empty tuple": (),
    "list of None": [None],
    "list of texts": ["x", "y"],
    "list of bytes": [b"x"],
    "list of numbers": [1, 2],
    "list of an endless number": [10**5000],
    "list of nan": [math.nan],
    "list of lists": [[]],
    "list of pairs": [("a", "b")],
    "list of wrong pairs": [("a", object())],
    "list of triples": [("a", "b", "c")],
    "itself": ITSELF,
    "deep": DEEP,
    "dict": {"a": 1},
    "dict of numbers": {1: 2},
    "list of dicts": [{"kind": []}],
    "set": {1, "x"},
    "generator": iter([1]),
    "extent": Extent(inside="a", outside=None, count=[]),  # type: ignore[arg-type]
    "plan": Plan(command=("true",)),
}
one_value = pytest.mark.parametrize("value", list(VALUES.values()), ids=list(VALUES))
# Where each value costs processes, a plain run has one of every kind.
USUAL = (
    *("None", "True", "minus one", "five", "2**64", "endless", "half", "nan", "inf", "text", "NUL"),
    *("surrogate", "bytes", "object", "empty list", "list of texts", "itself", "dict", "generator"),
)
REST = tuple(name for name in VALUES if name not in USUAL)


def values(test: Callable[[Any], None]) -> Callable[[], None]:
    """Make a test of all values; where it fails, its output ends with the name of one."""

    def whole() -> None:
        _each(VALUES, test)

    return whole


def few_values(test: Callable[[Any], None]) -> Callable[[tuple[str, ...]], None]:
    parts = [pytest.param(USUAL, id="usual"), pytest.param(REST, id="rest", marks=STRESS)]

    @pytest.mark.parametrize("names", parts)
    def whole(names: tuple[str, ...]) -> None:
        _each(names, test)

    return whole


STRESS = pytest.mark.stress


def _each(names: Iterable[str], test: Callable[[Any], None]) -> None:
    for name in names:
        print(name)
        test(VALUES[name])


def try_out(names: str | tuple[str, ...], use: Callable[[], object]) -> None:
    """Use something: it works, or it says which of `names` is wrong, in a documented error."""
    error = raised_by(use)
    if error is None or type(error) is SpaceError:  # the latter: what the host refuses, or lacks
        return
    named = (names,) if isinstance(names, str) else names
    spelled = {spelling for name in named for spelling in (name, name.replace("_", "-"))}
    text = str(error)
    assert any(name in text for name in spelled), (named, type(error).__name__, text)
    assert len(text) < 20000


def raised_by(use: Callable[[], object]) -> Exception | None:
    try:
        use()
    except (SpaceError, ValueError, TypeError) as error:
        return error
    return None


@values
def test_settings(value: Any) -> None:
    for name in (*settings.BY_NAME, "command", "mounts"):
        mapping = {"command": ["true"], name: value}
        try_out(name, lambda mapping=mapping: settings.plan_from(mapping))  # type: ignore[misc]


@values
def test_a_mapping_of_settings(value: Any) -> None:
    try_out(("settings", "unknown setting", "command"), lambda: settings.plan_from(value))


@few_values
def test_keywords_of_containers_and_contexts(value: Any) -> None:
    for name in sorted({*space.TAKEN, *space.REFUSED} - {"name"}):
        for use in (Container, get_context):
            try_out(name, lambda use=use, name=name: use(**{name: value}))  # type: ignore[misc]


@values
def test_keywords_of_commands(value: Any) -> None:
    for name in sorted({*space.TAKEN, *space.REFUSED}):
        try_out(name, lambda name=name: space.plan_of(["true"], {name: value}, what="Popen()"))  # type: ignore[misc]


@few_values
def test_what_a_command_is_made_of(value: Any) -> None:
    raised_by(lambda: pyspaces.run(value, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
    for name in ("cwd", "env", "pass_fds", "executable", "umask", "process_group", "plan"):
        use = {name: value, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        raised_by(lambda use=use: pyspaces.run(["true"], **use))  # type: ignore[misc]


@values
def test_what_a_process_is_made_of(value: Any) -> None:
    for name in ("target", "args", "kwargs", "name", "daemon"):
        given = {name: value}
        if name == "name" and VALUES["endless"] is value:
            continue  # multiprocessing itself turns a name into text
        try_out(name, lambda given=given: Container(**given))  # type: ignore[misc]
        try_out(name, lambda given=given: Inject(os.getpid(), **given))  # type: ignore[misc]


@values
def test_the_path_of_a_chroot(value: Any) -> None:
    try_out(("path", "root"), lambda: Chroot(value, len))


NAMES = ("user", "pid", "net", "mount", "uts", "ipc", "cgroup", "time", "all")


@values
def test_visits(value: Any) -> None:
    try_out("target_pid", lambda: Inject(value, len))
    if value != 5 or isinstance(value, bool):
        try_out("target_pid", lambda: setns(value).__enter__())
    for name in NAMES:
        try_out(name, lambda name=name: Inject(os.getpid(), len, **{name: value}))  # type: ignore[misc]
        if not isinstance(value, bool):
            try_out(name, lambda name=name: setns(os.getpid(), **{name: value}).__enter__())  # type: ignore[misc]


@values
def test_launches_of_what_is_no_plan(value: Any) -> None:
    if not isinstance(value, Plan):
        for start in (launch.start, launch.run, launch.replace):
            try_out("plan", lambda start=start: start(value))  # type: ignore[misc]


@values
def test_fields_of_plans(value: Any) -> None:
    for field in Plan._fields:
        plan = Plan(command=("true",)).replace(**{field: value})
        try_out((field, *_SAID_OTHERWISE.get(field, ())), plan.check)


# What a field is called as a setting.
_SAID_OTHERWISE = {
    "uid": ("setuid",),
    "gid": ("setgid",),
    "uid_map": ("map-uid",),
    "gid_map": ("map-gid",),
    "namespaces": ("is not a namespace",),
}


def wrong_operations(value: Any) -> Iterator[tuple[str, Operation]]:
    right = {"target": "/x", "source": "/x", "fd": 3, "text": "x", "perms": 0o755}
    right |= {"lower": ("/x", "/y"), "upper": "/x", "work": "/y"}
    for kind in KINDS.values():
        fields = {name: right[name] for name in kind._fields if name in right}
        for name in kind._fields:
            yield name, kind(**{**fields, name: value})


@values
def test_operations(value: Any) -> None:
    for name, operation in wrong_operations(value):
        names = (name, "target", "source", "--overlay-src")
        mapping = {"command": ["true"], "mounts": [operation]}
        try_out(names, lambda operation=operation: _check(operation))  # type: ignore[misc]
        try_out(names, lambda mapping=mapping: settings.plan_from(mapping))  # type: ignore[misc]
    try_out(
        ("mounts", "operation"), lambda: settings.plan_from({"command": ["x"], "mounts": [value]})
    )
    try_out("operation", lambda: Operation.from_data(value))
    try_out(
        ("mounts", "bind", "words"),
        lambda: settings.plan_from({"command": ["x"], "mounts": [["bind", value, "/x"]]}),
    )
    for kind in KINDS.values():
        try_out(kind.__name__, lambda kind=kind: kind.from_data(value))  # type: ignore[misc]


def _check(operation: Operation) -> None:
    if faults := list(faults_of([operation])):
        raise ValueError("; ".join(faults))


class Cloned(multiprocessing.Process):
    """A process whose Popen is a Clone."""

    @staticmethod
    def _Popen(process_obj: Any) -> Any:  # noqa: N802 - the name of multiprocessing
        return Clone(process_obj)


@pytest.mark.crossed(1)
@pytest.mark.needs("userns")
@one_value
@pytest.mark.parametrize("name", ["clone_flags", "uid_map", "gid_map", "map_zero", "proc"])
def test_attributes_for_clone(name: str, value: Any) -> None:
    process = Cloned(target=len, args=("",))
    process.__dict__.update({"clone_flags": CLONE_NEWUSER, name: value})
    with contextlib.suppress(OSError):  # a value that can be meant, and that the kernel refuses
        try_out((name, "exit signal", "CLONE_"), process.start)
    if process.pid is not None:
        process.join()
        process.close()


@values
def test_what_is_no_process(value: Any) -> None:
    try_out("process_obj", lambda: Clone(value))
    try_out("process_obj", lambda: Container._Popen(value))
    try_out("process_obj", lambda: CONTEXT.Process._Popen(value))
    plain: Any = Clone.__new__(Clone)
    if not isinstance(value, str) or "\0" in value or value == "\udfff":
        try_out("mapping", lambda: plain.update_map(value, "/nonexistent"))
        try_out("map_file", lambda: plain.update_map("0 0 1", value))


@pytest.mark.needs("userns")
@few_values
def test_waiting(value: Any) -> None:
    with launch.start(settings.plan_from({"command": ["sleep", "0.01"]})) as running:
        with contextlib.suppress(TimeoutError):
            try_out("timeout", lambda: running.wait(value))
        if value != 5:  # SIGTRAP
            try_out("signal", lambda: running.send_signal(value))
        running.wait()
    container = Container(len, args=("",))
    with pytest.raises(ValueError, match="has not been started"):
        container.result(value)
    container.start()
    with contextlib.suppress(TimeoutError):
        try_out("timeout", lambda: container.result(value))
    container.join()
    container.close()
    with pytest.raises(ValueError, match="closed"):
        container.result()


def test_every_public_name_is_tried_here() -> None:
    tried = {"Chroot", "Container", "Inject", "get_context", "setns", "Popen", "run"}
    tried |= {"Completed", "create_subprocess_exec", "create_subprocess_shell"}  # over Popen
    tried |= {"Sandbox"}  # over space.plan_of
    errors = {"ChildTraceback", "NoResult", "SpaceError", "UnpicklableResult", "UsageFault"}
    assert tried | errors | {"__version__"} == set(pyspaces.__all__)
