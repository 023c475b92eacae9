"""The list of slow tests: tests/slow.txt."""

from pathlib import Path

from conftest import SLOW

TOP = SLOW.parent.parent


def test_it_names_tests_that_exist() -> None:
    names = SLOW.read_text().split()
    assert names == sorted(set(names))
    for name in names:
        path, *classes, function = name.split("::")
        # CPython's own tests are in classes that are made when they are imported.
        assert classes or f"def {function}(" in Path(TOP, path).read_text(), name
        assert Path(TOP, path).is_file(), name
