"""nox -f examples/ci/noxfile.py: the tests of this project in namespaces, without a network."""

from pathlib import Path

import nox

PROJECT = str(Path(__file__).resolve().parents[2])
BOX = ("pyspaces", "run", "--user", "--pid", "--net", "--init", "--")


@nox.session
def tests(session: nox.Session) -> None:
    """Run the tests; further arguments are for pytest."""
    session.chdir(PROJECT)
    session.install(".[test]")
    session.run("pyspaces", "check", "--user", "--pid", "--net", silent=True)
    wanted = session.posargs or ["tests/unit"]
    session.run(*BOX, f"{session.bin}/pytest", "-p", "no:cacheprovider", *wanted)
