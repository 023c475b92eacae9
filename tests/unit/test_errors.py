"""Errors as people read them, and reports as they cross the channel."""

from __future__ import annotations

import builtins
import errno
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyspaces import status
from pyspaces.errors import InternalError, Interrupted, Report, SpaceError, UsageFault
from pyspaces.kernel.libc import KernelError
from pyspaces.launch.outer.prepare import failure
from pyspaces.plan import Plan

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

# Text as it comes from the system: any bytes, decoded; no NUL, which no path can hold.
system_text = st.binary(max_size=60).map(lambda data: os.fsdecode(data.replace(b"\0", b"")))
reports = st.builds(
    lambda stage, call, number, path, text, trace, internal: Report(
        stage=stage,
        call=call,
        errno=number,
        path=path,
        text=text,
        trace=trace,
        internal=internal,
    ),
    system_text,
    system_text,
    st.integers(0, 200),
    system_text,
    system_text,
    system_text,
    st.booleans(),
)


def test_an_error_is_a_message_then_details_then_a_hint() -> None:
    error = SpaceError("cannot x: y", details=["one", "two"], hint="do z")
    assert str(error) == "cannot x: y\n  one\n  two\nhint: do z"
    assert (error.message, error.details, error.hint) == ("cannot x: y", ("one", "two"), "do z")
    assert error.exit_status == status.FAILED == 125
    assert error.report is None


def test_an_error_may_be_a_message_only() -> None:
    assert str(SpaceError("cannot x: y")) == "cannot x: y"


def test_a_usage_fault_tells_every_fault() -> None:
    fault = UsageFault(["one", "two", "three"])
    assert str(fault) == "one\n  two\n  three"
    assert fault.faults == ("one", "two", "three")
    assert fault.exit_status == status.USAGE == 2
    assert isinstance(fault, SpaceError)


def test_an_interruption_names_the_signal() -> None:
    error = Interrupted(15)
    assert error.signal == 15
    assert "SIGTERM" in str(error)


@given(reports)
def test_a_report_comes_back_from_its_bytes(report: Report) -> None:
    assert Report.from_bytes(report.to_bytes()) == report


@given(st.text(), st.text())
def test_any_text_can_be_sent(path: str, text: str) -> None:
    """What cannot be sent as it is (a NUL, half a surrogate pair) may change, but not fail."""
    report = Report(stage="s", errno=2, path=path, text=text)
    back = Report.from_bytes(report.to_bytes())
    assert (back.stage, back.errno) == ("s", 2)


def test_a_nul_cannot_shift_the_fields() -> None:
    report = Report(stage="a\0b", errno=5, path="p\0", text="\0\0")
    assert Report.from_bytes(report.to_bytes()) == Report(stage="ab", errno=5, path="p")


def test_a_report_is_bounded() -> None:
    huge = Report(stage="s", path="p" * 100_000, text="t" * 100_000, trace="x" * 1_000_000)
    data = huge.to_bytes()
    assert len(data) < 64 * 1024
    back = Report.from_bytes(data)
    assert back.stage == "s"
    assert huge.path.startswith(back.path)
    assert len(back.path) >= 4096


def test_a_cut_in_the_middle_of_a_character_does_no_harm() -> None:
    back = Report.from_bytes(Report(stage="s", text="x" + "\u00e9" * 10_000).to_bytes())
    assert back.text.startswith("x\u00e9")


def test_a_report_that_is_cut_short_is_refused() -> None:
    with pytest.raises(ValueError, match="shorter"):
        Report.from_bytes(b"stage\0call")


@pytest.mark.parametrize(
    ("report", "sentence"),
    [
        (
            Report(stage="mount a new /proc", call="mount", errno=errno.EPERM, path="/proc"),
            "cannot mount a new /proc: mount /proc: Operation not permitted",
        ),
        (
            Report(stage="write the id maps", call="write", errno=errno.EPERM),
            "cannot write the id maps: write: Operation not permitted",
        ),
        (
            Report(stage="execute the command", errno=errno.ENOENT, path="nope", text="more"),
            "cannot execute the command: nope: No such file or directory",
        ),
        (Report(stage="x", text="bad"), "cannot x: bad"),
        (Report(stage="x", text="bad", internal=True), "cannot x: internal error: bad"),
        (Report(stage="x", text="a\n b\t", internal=True), "cannot x: internal error: a b"),
        (Report(stage="x", internal=True), "cannot x: internal error"),
        (Report(stage="x"), "cannot x"),
    ],
)
def test_sentences_are_what_which_why(report: Report, sentence: str) -> None:
    assert report.sentence() == sentence


def raised(error: BaseException) -> BaseException:
    try:
        raise error
    except type(error) as caught:
        return caught


def test_the_report_of_a_system_call() -> None:
    error = raised(KernelError(errno.EPERM, "mount", ["proc", "0x0"], "/proc"))
    report = Report.of("mount a new /proc", error)
    assert (report.stage, report.call) == ("mount a new /proc", "mount")
    assert (report.errno, report.path, report.text) == (errno.EPERM, "/proc", "")
    assert "in raised" in report.trace
    assert __file__ in report.trace
    assert report.trace.splitlines()[-1].startswith("KernelError: ")


@pytest.mark.parametrize("path", ["/nonexistent/x", b"/nonexistent/x"])
def test_the_report_of_an_os_error_has_its_path(path: str | bytes) -> None:
    try:
        os.stat(path)
    except OSError as error:
        report = Report.of("look", error)
    assert (report.call, report.errno, report.path) == ("", errno.ENOENT, "/nonexistent/x")


def test_a_given_path_is_stronger_than_that_of_the_error() -> None:
    error = raised(FileNotFoundError(errno.ENOENT, "", "/bin/x"))
    assert Report.of("execute", error, path="x").path == "x"


def test_an_os_error_with_a_number_for_a_path() -> None:
    assert Report.of("close", raised(OSError(errno.EBADF, "bad", 7))).path == ""


def test_the_report_of_a_bug_says_that_it_is_one_and_its_trace_where() -> None:
    report = Report.of("think", raised(ZeroDivisionError("by zero")))
    assert (report.errno, report.text, report.internal) == (0, "by zero", True)
    assert report.sentence() == "cannot think: internal error: by zero"
    assert report.trace.splitlines()[-1] == "ZeroDivisionError: by zero"
    assert Report.of("think", raised(AssertionError())).sentence() == "cannot think: internal error"


def every_exception() -> list[type[BaseException]]:
    """Return Python's own classes of exceptions, and all of ours."""
    found, waiting = set(), [BaseException]
    while waiting:
        kind = waiting.pop()
        found.add(kind)
        waiting += kind.__subclasses__()
    named = {kind.__name__: kind for kind in found if kind.__module__.startswith("pyspaces")}
    named |= {kind.__name__: kind for kind in found if kind in vars(builtins).values()}
    return [named[name] for name in sorted(named)]


def made(kind: type[BaseException]) -> Iterator[BaseException]:
    for arguments in ((), ("text",), (errno.EPERM, "text")):
        try:
            yield kind(*arguments)
        except Exception:  # noqa: BLE001 - one that takes other arguments
            continue


@pytest.mark.parametrize("kind", every_exception(), ids=lambda kind: kind.__name__)
def test_no_message_has_the_class_of_an_exception(kind: type[BaseException]) -> None:
    for error in made(kind):
        report = Report.of("think", error)
        told = [report.sentence(), str(failure(report, Plan(command=("true",))))]
        if isinstance(error, Exception):
            told.append(str(InternalError(error)))
        for text in told:
            assert text.startswith(("cannot think", "internal error")), text
            assert kind.__name__ not in text
            assert "Error" not in text
        assert report.internal == (not isinstance(error, OSError | MemoryError | SpaceError))
        assert f"\n{type(error).__name__}: " in f"\n{report.trace}"


def test_what_a_step_says_in_words_is_no_bug() -> None:
    report = Report.of("think", SpaceError("the helper has died"))
    assert report.sentence() == "cannot think: the helper has died"
    assert Report.of("think", MemoryError()).sentence() == "cannot think: Cannot allocate memory"


def test_a_text_of_the_caller_is_kept() -> None:
    report = Report.of("think", raised(FileNotFoundError(errno.ENOENT, "", "x")), text="why")
    assert report.text == "why"


def test_a_system_call_that_fails_names_itself() -> None:
    error = KernelError(errno.ENOENT, "open", ["O_RDONLY"], "/x")
    assert (error.errno, error.call, error.arguments) == (errno.ENOENT, "open", ("O_RDONLY",))
    assert error.filename == "/x"
    assert error.strerror == os.strerror(errno.ENOENT)
    assert isinstance(error, OSError)
