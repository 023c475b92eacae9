"""The plugin for pytest, as a suite of somebody else would use it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import outcome

pytestmark = pytest.mark.needs("userns", "pidns", "netns")

SUITE = """
import logging, os, socket, time, pytest

@pytest.mark.namespaces(hostname="box")
def test_ok(tmp_path):
    assert os.uname().nodename == "box"
    (tmp_path / "x").write_text("a")

@pytest.mark.namespaces(net=True)
@pytest.mark.parametrize("n", range(3))
def test_port(n):
    socket.create_server(("127.0.0.1", 80))

@pytest.mark.namespaces()
def test_bad():
    print("printed")
    logging.getLogger("a").warning("logged %s", object)
    a = [1, 2]
    assert a == [1, 3]

@pytest.mark.namespaces()
def test_raises():
    with pytest.raises(KeyError):
        {}.get("a")

@pytest.mark.namespaces()
def test_skip():
    pytest.skip("the reason")

@pytest.mark.namespaces()
@pytest.mark.xfail(raises=KeyError, strict=True)
def test_xfail():
    {}["a"]

@pytest.mark.namespaces(pid=True)
def test_exit():
    os._exit(3)

@pytest.mark.namespaces(pid=True, timeout=0.5)
def test_long():
    time.sleep(1000)

@pytest.mark.sandbox(hostname="sandbox")
def test_sandbox(sandbox):
    assert sandbox.run(["uname", "-n"], capture_output=True).stdout == b"sandbox\\n"

@pytest.mark.namespaces(hostnam=1)
def test_wrong():
    pass
"""
EXPECTED = {
    **dict.fromkeys(("ok", "port[0]", "port[1]", "port[2]", "sandbox"), "PASSED"),
    **dict.fromkeys(("bad", "raises", "exit", "long", "wrong"), "FAILED"),
    "xfail": "XFAIL",
    "skip": "SKIPPED",
}


def run_suite(
    directory: Path, text: str, *options: str, beside: tuple[str, ...] | None = (), **more: Any
) -> subprocess.CompletedProcess[str]:
    """Run pytest on a suite of its own, outside of this project.

    beside: the plugins that are loaded beside ours; with None, all that are installed.
    """
    (directory / "test_it.py").write_text(text)
    (directory / "pytest.ini").write_text("[pytest]\n")
    variables = {name: os.environ[name] for name in os.environ if not name.startswith("PYTEST")}
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-rA", *options, "."]
    if beside is not None:
        variables["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
        plugins = ("pyspaces.library.pytest_plugin", *beside)
        command[3:3] = [word for name in plugins for word in ("-p", name)]
    return outcome(command, cwd=directory, env=variables, **more)


def ends(text: str) -> dict[str, str]:
    """Return the outcome of each test of the summary; skipped ones are told by their line."""
    lines = re.findall(r"^([A-Z]+) test_it\.py::test_(\S+)", text, re.MULTILINE)
    found = {name: word for word, name in lines}
    if "SKIPPED [1]" in text:
        found["skip"] = "SKIPPED"
    return found


def test_outcomes_come_home(tmp_path: Path) -> None:
    assert_all_came_home(run_suite(tmp_path, SUITE))


RECORDED = """
import unittest, pytest

@pytest.mark.namespaces()
class TestCase(unittest.TestCase):
    def test_ok(self):
        pass
    def test_bad(self):
        self.assertEqual("mine", "yours")
    def test_error(self):
        raise KeyError("key")
    def test_skip(self):
        self.skipTest("the reason")
    def test_sub(self):
        for number in range(3):
            with self.subTest(number=number):
                self.assertNotEqual(number, 1)
    @unittest.expectedFailure
    def test_expected(self):
        self.fail()
    @unittest.expectedFailure
    def test_unexpected(self):
        pass

@pytest.mark.namespaces()
def test_subtests(subtests):
    for number in range(3):
        with subtests.test(number=number):
            assert number != 1
"""


def test_what_is_recorded_and_not_raised_comes_home(tmp_path: Path) -> None:
    done = run_suite(tmp_path, RECORDED)
    found = re.findall(
        r"^([A-Z]+) test_it\.py::(?:TestCase::)?test_(\w+)", done.stdout, re.MULTILINE
    )
    assert sorted(found) == [
        ("FAILED", "bad"),
        ("FAILED", "error"),
        ("FAILED", "sub"),
        ("FAILED", "subtests"),
        ("FAILED", "unexpected"),
        ("PASSED", "ok"),
        ("XFAIL", "expected"),
    ]
    for text in (
        "'mine' != 'yours'",
        "KeyError: 'key'",
        "contains 1 failed subtest",
        ": the reason",
    ):
        assert text in done.stdout


@pytest.mark.stress
def test_outcomes_come_home_from_processes_of_xdist(tmp_path: Path) -> None:
    assert_all_came_home(run_suite(tmp_path, SUITE, "-n", "2", beside=None))


def assert_all_came_home(done: subprocess.CompletedProcess[str]) -> None:
    assert ends(done.stdout) == EXPECTED
    for text in (
        "E       assert [1, 2] == [1, 3]",
        "At index 1 diff: 2 != 3",
        ">       with pytest.raises(KeyError):",
        "E       Failed: DID NOT RAISE",
        "WARNING  a:test_it.py",
        "logged <class 'object'>",
        "Container-",
        "ended with exit code 3",
        "has not ended after 0.5 s",
        "unexpected keyword argument 'hostnam'",
        ": the reason",
    ):
        assert text in done.stdout
    assert "pytest_plugin.py" not in done.stdout  # what is shown is the test
    assert done.stdout.count("\nprinted\n") == 1


def test_coverage_comes_home(tmp_path: Path) -> None:
    suite = "import pytest\n@pytest.mark.namespaces()\ndef test_a():\n    a = 1\n    assert a\n"
    options = ("--cov=test_it", "--cov-report=term-missing")
    done = run_suite(tmp_path, suite, *options, beside=None)
    assert re.search(r"test_it\.py +5 +0 +100%", done.stdout), done.stdout


def test_the_debugger_is_told_where_the_test_was(tmp_path: Path) -> None:
    suite = "import pytest\n@pytest.mark.namespaces()\ndef test_a():\n    assert 0\n"
    (tmp_path / "input").write_text("q\n")
    with (tmp_path / "input").open() as stdin:
        done = run_suite(tmp_path, suite, "--pdb", stdin=stdin)
    assert "the test ran in another process, which has ended" in done.stdout


@pytest.mark.as_ordinary
def test_a_host_that_does_not_allow_it(tmp_path: Path) -> None:
    suite = (
        "import pytest\n@pytest.mark.namespaces(user=False, net=True)\ndef test_a():\n    pass\n"
        "@pytest.mark.sandbox(user=False)\ndef test_b(sandbox):\n    pass\n"
    )
    for required in (False, True):
        done = run_suite(tmp_path, suite, "-o", f"namespaces_required={required}")
        assert ("2 skipped" in done.stdout) is not required
        assert ("1 failed, 1 error" in done.stdout) is required
        assert "Operation not permitted" in done.stdout
