"""A plugin for pytest: `@pytest.mark.namespaces(...)` and the fixture `sandbox`.

Fixtures are set up and torn down in the process of pytest; only the body of a marked test runs in
a Container, `_run_inner`. Output, logs, exceptions and coverage are passed back.
"""

from __future__ import annotations

import logging
import pickle
import sys
from functools import partial
from typing import Any, NamedTuple

import pytest

from pyspaces.errors import SpaceError, UsageFault
from pyspaces.library.container import Container
from pyspaces.library.function import NoResult
from pyspaces.library.sandbox import Sandbox

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_REQUIRED = "namespaces_required"
_HELP = "fail instead of skip if this host does not allow the namespaces of a test"
# Outcomes that pytest knows by their class, none of which pickles.
_OUTCOMES: dict[str, Any] = {
    "skip": pytest.skip.Exception,
    "xfail": pytest.xfail.Exception,
    "fail": pytest.fail.Exception,
}
_SHOWN = "_pyspaces_shown"
_NO_DEBUGGER = "--pdb: the test ran in another process, which has ended; call breakpoint() there"


class _Outcome(NamedTuple):
    """How the body of a test ended: what it raised, how pytest shows that, its logs and coverage.

    kind: a key of _OUTCOMES, "error" for any other exception; empty if none was raised. text: the
    message. error, shown: the exception, and pytest's representation of it, if they can be pickled.
    """

    kind: str
    text: str
    error: BaseException | None
    shown: Any
    records: list[logging.LogRecord]
    coverage: bytes | None


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the setting of the ini file."""
    parser.addini(_REQUIRED, _HELP, type="bool", default=False)


def pytest_configure(config: pytest.Config) -> None:
    """Declare the marks."""
    for line in (
        "namespaces(**settings): run the body of the test in new namespaces; the settings are"
        " those of pyspaces.Container, user=True by default, and timeout in seconds",
        "sandbox(**settings): the settings of the fixture `sandbox`, a pyspaces.Sandbox",
    ):
        config.addinivalue_line("markers", line)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> None:
    """Make the next hook run the body of a marked test in a Container."""
    mark = item.get_closest_marker("namespaces")
    if mark is None:
        return
    settings = {"user": True, **mark.kwargs}
    timeout = settings.pop("timeout", None)
    body, show = item.runtest, item.repr_failure
    item.runtest = partial(_run, item, body, settings, timeout)  # type: ignore[method-assign]
    item.repr_failure = partial(_shown, item, show)  # type: ignore[method-assign]


@pytest.fixture
def sandbox(request: pytest.FixtureRequest) -> Iterator[Sandbox]:
    """Yield a running pyspaces.Sandbox, with the settings of the mark `sandbox`."""
    mark = request.node.get_closest_marker("sandbox")
    box = Sandbox(**{"user": True, **(mark.kwargs if mark else {})})
    try:
        box.start()
    except SpaceError as error:
        _not_allowed(request.config, error)
    try:
        yield box
    finally:
        box.close()


def _run(
    item: pytest.Item, body: Callable[[], object], settings: dict[str, Any], timeout: float | None
) -> None:
    """Run the body of a test in a Container, and raise what it raised."""
    outcome = _outcome_of(item, body, settings, timeout)
    if isinstance(outcome, str):
        pytest.fail(outcome, pytrace=False)
    for record in outcome.records:
        logging.getLogger(record.name).handle(record)
    _add_coverage(outcome.coverage)
    if not outcome.kind:
        return
    vars(item)[_SHOWN] = outcome.shown
    if outcome.kind in _OUTCOMES:
        raised = _OUTCOMES[outcome.kind](outcome.text)
        raised._use_item_location = True  # of a skip: pytest shows the test, and not this line
        raise raised
    raise outcome.error or pytest.fail.Exception(outcome.text, pytrace=False)


def _outcome_of(
    item: pytest.Item, body: Callable[[], object], settings: dict[str, Any], timeout: float | None
) -> _Outcome | str:
    """Run the body in a Container; return its outcome, or why there is none."""
    try:
        container = Container(_run_inner, args=(item, body), **settings)
    except (TypeError, UsageFault) as error:
        return f"namespaces: {error}"
    try:
        container.start()
    except SpaceError as error:
        _not_allowed(item.config, error)
    try:
        outcome: _Outcome = container.result(timeout)
    except TimeoutError:
        container.kill()
        container.join()
        return f"the test has not ended after {timeout} s"
    except NoResult as error:
        return str(error)
    finally:
        container.close()
    return outcome


def _not_allowed(config: pytest.Config, error: SpaceError) -> None:
    """Skip a test whose namespaces this host does not allow, or fail it if they are required."""
    if isinstance(error, UsageFault) or config.getini(_REQUIRED):
        pytest.fail(str(error), pytrace=False)
    pytest.skip(str(error))


def _shown(
    item: pytest.Item, show: Callable[..., Any], excinfo: pytest.ExceptionInfo[BaseException]
) -> Any:
    shown = vars(item).pop(_SHOWN, None)
    if shown is None:
        return show(excinfo)
    return f"{shown}\n{_NO_DEBUGGER}" if item.config.getoption("usepdb", default=False) else shown


def _run_inner(item: pytest.Item, body: Callable[[], object]) -> _Outcome:
    """Run the body, and return how it ended."""
    records = _Records()
    logging.getLogger().addHandler(records)
    kind, text, error, shown = "", "", None, None
    subtests = _Subtests()
    item.config.pluginmanager.register(subtests)
    try:
        body()
        _raise_recorded(item, subtests)
    except tuple(_OUTCOMES.values()) as outcome:
        kind = next(name for name, cls in _OUTCOMES.items() if isinstance(outcome, cls))
        text = str(outcome.msg)
        shown = _representation(item, outcome) if kind == "fail" else None
    except BaseException as raised:  # noqa: BLE001 - KeyboardInterrupt and SystemExit, too
        kind, error = "error", _if_it_pickles(raised)
        shown = _representation(item, raised)
        text = str(shown)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    return _Outcome(kind, text, error, shown, records.found, _coverage())


def _representation(item: pytest.Item, raised: BaseException) -> Any:
    """Return what pytest shows of an exception; its text, if it cannot be pickled."""
    shown = item.repr_failure(pytest.ExceptionInfo.from_exception(raised))
    return _if_it_pickles(shown) or str(shown)


def _raise_recorded(item: pytest.Item, subtests: _Subtests) -> None:
    """Raise what was recorded, in this process only, and not raised."""
    # pytest's item of a unittest.TestCase collects all outcomes, skips among them.
    for recorded in getattr(item, "_excinfo", None) or ():
        raise recorded.value
    if subtests.failed:
        count = len(subtests.failed)
        texts = [f"contains {count} failed subtest{'s' if count > 1 else ''}", *subtests.failed]
        pytest.fail("\n\n".join(texts), pytrace=False)


class _Subtests:
    """Collects the texts of subtests that fail: nothing else is reported during a test."""

    def __init__(self) -> None:
        self.failed: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take note of the report of a subtest."""
        if report.failed:
            self.failed.append(report.longreprtext)


class _Records(logging.Handler):
    """Collects what is logged, as text: the arguments of a record may not pickle."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        record.msg, record.args = record.getMessage(), None
        if record.exc_info:
            record.exc_text = logging.Formatter().formatException(record.exc_info)
            record.exc_info = None
        self.found.append(record)


def _if_it_pickles(value: Any) -> Any:
    try:
        same = type(pickle.loads(pickle.dumps(value))) is type(value)  # noqa: S301 - our own
    except Exception:  # noqa: BLE001 - a reducer may raise anything
        return None
    return value if same else None


def _coverage() -> bytes | None:
    """Return what coverage.py, if it is at work, has measured in this process."""
    module = sys.modules.get("coverage")
    current = module.Coverage.current() if module else None
    return current.get_data().dumps() if current else None


def _add_coverage(data: bytes | None) -> None:
    module = sys.modules.get("coverage")
    current = module.Coverage.current() if module else None
    if module and current and data:
        other = module.CoverageData(no_disk=True)
        other.loads(data)
        current.get_data().update(other)
