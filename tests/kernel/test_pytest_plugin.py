"""The plugin for pytest, as a suite of somebody else would use it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

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
    **dict.fromkeys(("bad", "exit", "long", "wrong"), "FAILED"),
    "xfail": "XFAIL",
    "skip": "SKIPPED",
}


def run_suite(folder: Path, text: str, *options: str) -> subprocess.CompletedProcess[str]:
    """Run pytest on a suite of its own, outside of this project."""
    (folder / "test_it.py").write_text(text)
    (folder / "pytest.ini").write_text("[pytest]\n")
    variables = {name: os.environ[name] for name in os.environ if not name.startswith("PYTEST")}
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-rA", *options, "."]
    return outcome(command, cwd=folder, env=variables)


def ends(text: str) -> dict[str, str]:
    """Return the outcome of each test of the summary; skipped ones are told by their line."""
    lines = re.findall(r"^([A-Z]+) test_it\.py::test_(\S+)", text, re.MULTILINE)
    found = {name: word for word, name in lines}
    if "SKIPPED [1]" in text:
        found["skip"] = "SKIPPED"
    return found


@pytest.mark.parametrize("options", [(), ("-n", "2")], ids=["plain", "xdist"])
def test_outcomes_come_home(tmp_path: Path, options: tuple[str, ...]) -> None:
    done = run_suite(tmp_path, SUITE, *options)
    assert ends(done.stdout) == EXPECTED
    for text in (
        "E       assert [1, 2] == [1, 3]",
        "At index 1 diff: 2 != 3",
        "WARNING  a:test_it.py",
        "logged <class 'object'>",
        "Container-",
        "ended with exit code 3",
        "has not ended after 0.5 s",
        "unexpected keyword argument 'hostnam'",
        ": the reason",
    ):
        assert text in done.stdout
    assert done.stdout.count("\nprinted\n") == 1


def test_coverage_comes_home(tmp_path: Path) -> None:
    suite = "import pytest\n@pytest.mark.namespaces()\ndef test_a():\n    a = 1\n    assert a\n"
    done = run_suite(tmp_path, suite, "--cov=test_it", "--cov-report=term-missing")
    assert re.search(r"test_it\.py +5 +0 +100%", done.stdout), done.stdout


def test_the_debugger_is_told_where_the_test_was(tmp_path: Path) -> None:
    suite = "import pytest\n@pytest.mark.namespaces()\ndef test_a():\n    assert 0\n"
    (tmp_path / "input").write_text("q\n")
    with (tmp_path / "input").open() as stdin:
        command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--pdb", "."]
        (tmp_path / "test_it.py").write_text(suite)
        done = outcome(command, cwd=tmp_path, stdin=stdin)
    assert "the test ran in another process, which has ended" in done.stdout


@pytest.mark.as_ordinary
@pytest.mark.parametrize("required", [False, True])
def test_a_host_that_does_not_allow_it(tmp_path: Path, required: bool) -> None:
    suite = (
        "import pytest\n@pytest.mark.namespaces(user=False, net=True)\ndef test_a():\n    pass\n"
        "@pytest.mark.sandbox(user=False)\ndef test_b(sandbox):\n    pass\n"
    )
    done = run_suite(tmp_path, suite, "-o", f"namespaces_required={required}")
    assert ("2 skipped" in done.stdout) is not required
    assert ("1 failed, 1 error" in done.stdout) is required
    assert "Operation not permitted" in done.stdout
