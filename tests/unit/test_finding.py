"""The finder of the command line: what Python's own would find, or nothing."""

from __future__ import annotations

import importlib.util
import marshal
import os
import py_compile
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import outcome

import pyspaces
from pyspaces.finding import Finder

ROOT = Path(pyspaces.__file__).parent
NAMES = [
    ".".join(("pyspaces", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__")
    for path in sorted(ROOT.rglob("*.py"))
    if path != ROOT / "__init__.py"
]


@pytest.fixture
def module(tmp_path: Path) -> Path:
    """Give a module with a .pyc that is up to date."""
    source = tmp_path / "one.py"
    source.write_text("value = 1\n")
    py_compile.compile(str(source), doraise=True)
    return source


def found(source: Path) -> int | None:
    """Return what the module of the finder has as its value; None if it finds none."""
    spec = Finder.find_spec(f"pyspaces.{source.stem}", [str(source.parent)])
    if spec is None:
        return None
    made = importlib.util.module_from_spec(spec)
    Finder.exec_module(made)
    assert made.__file__ == str(source)
    value: int = made.value
    return value


def test_every_module_is_the_one_that_python_finds() -> None:
    for name in NAMES:
        is_the_same(name)


def is_the_same(name: str) -> None:
    theirs = importlib.util.find_spec(name)
    assert theirs
    assert theirs.origin
    assert theirs.cached
    py_compile.compile(theirs.origin, doraise=True)
    path = Path(theirs.origin).parents[1 if theirs.submodule_search_locations else 0]
    ours = Finder.find_spec(name, [str(path)])
    assert ours
    assert (ours.name, ours.origin, ours.cached) == (name, theirs.origin, theirs.cached)
    assert ours.submodule_search_locations == theirs.submodule_search_locations
    assert ours.parent == theirs.parent
    code = marshal.loads(Path(theirs.cached).read_bytes()[16:])
    assert ours.loader_state == code


def test_it_is_run(module: Path) -> None:
    assert found(module) == 1


def test_one_whose_source_is_another_is_left_to_python(module: Path) -> None:
    module.write_text("value = 22\n")
    assert found(module) is None


def test_so_is_one_of_the_same_size_and_another_time(module: Path) -> None:
    module.write_text("value = 2\n")
    os.utime(module, (1, 1))
    assert found(module) is None


def test_so_is_one_that_is_checked_by_a_hash(module: Path) -> None:
    mode = py_compile.PycInvalidationMode.CHECKED_HASH
    py_compile.compile(str(module), doraise=True, invalidation_mode=mode)
    assert found(module) is None


def test_so_is_one_of_another_python(module: Path) -> None:
    cached = Path(importlib.util.cache_from_source(str(module)))
    cached.write_bytes(b"abcd" + cached.read_bytes()[4:])
    assert found(module) is None


def test_so_is_one_that_is_cut_short_or_has_none(module: Path) -> None:
    cached = Path(importlib.util.cache_from_source(str(module)))
    cached.write_bytes(cached.read_bytes()[:12])
    assert found(module) is None
    cached.unlink()
    assert found(module) is None


def test_so_is_what_is_not_ours(module: Path) -> None:
    assert Finder.find_spec("one", [str(module.parent)]) is None
    assert Finder.find_spec("pyspaces", None) is None


ATTRIBUTES = """
import sys
from importlib.util import module_from_spec
from pyspaces import finding

def of(module):
    names = "__name__ __package__ __file__ __loader__ __path__ __cached__ __doc__".split()
    return [getattr(module, name, None) for name in names]

finding.install()
for name in ("pyspaces.kernel", "pyspaces.kernel.libc"):
    module = sys.modules[name]
    empty = module_from_spec(module.__spec__)
    empty.__doc__ = module.__doc__
    assert of(module) == of(empty), (of(module), of(empty))
    assert vars(empty).keys() <= vars(module).keys(), vars(empty).keys() - vars(module).keys()
    above, _, stem = name.rpartition(".")
    assert getattr(sys.modules[above], stem) is module
from pyspaces.kernel import libc
import pyspaces.kernel.libc as again
assert libc is again is module
"""


def run(script: str, root: Path = ROOT) -> None:
    """Run a script in an interpreter of its own that finds the package in this directory."""
    done = outcome(
        [sys.executable, "-I", "-c", f"import sys; sys.path[:0] = {[str(root.parent)]}\n{script}"]
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_what_is_loaded_at_once_is_as_importlib_makes_it() -> None:
    subprocess.run([sys.executable, "-m", "compileall", "-q", str(ROOT)], check=True)
    run(ATTRIBUTES)


@pytest.mark.parametrize("spoil", ["errors.py", "kernel/__init__.py", None])
def test_what_is_not_found_is_left_to_python(tmp_path: Path, spoil: str | None) -> None:
    """With all that was to be loaded at once: a package without its code would be half a one."""
    root = tmp_path / "pyspaces"
    shutil.copytree(ROOT, root, ignore=shutil.ignore_patterns("__pycache__"))
    subprocess.run([sys.executable, "-m", "compileall", "-q", str(root)], check=True)
    if spoil:
        os.utime(root / spoil, (1, 1))
    run(
        "from pyspaces import finding\n"
        "finding.install()\n"
        f"assert ('pyspaces.errors' in sys.modules) is {not spoil}\n"
        f"assert ('pyspaces.kernel' in sys.modules) is {not spoil}\n"
        "from pyspaces import errors\n"
        "assert errors.SpaceError and errors.KernelError",
        root,
    )


def test_nothing_is_loaded_at_once_without_the_finder() -> None:
    run(
        "from pyspaces import finding\n"
        "finding.load(finding.FIRST)\n"
        "assert 'pyspaces.errors' not in sys.modules"
    )


PRINT = (
    "import sys; from pyspaces import finding; finding.install();"
    " from pyspaces import errors; print(errors.__spec__.loader is finding.Finder)"
)


def test_what_changes_where_pyc_files_are_is_heeded() -> None:
    subprocess.run([sys.executable, "-m", "compileall", "-q", str(ROOT)], check=True)
    elsewhere = {"PYTHONPYCACHEPREFIX": "/nowhere"}
    for options, variables, expected in (
        ([], {}, "True"),
        (["-O"], {}, "False"),
        ([], elsewhere, "False"),
    ):
        done = outcome([sys.executable, *options, "-c", PRINT], env={**os.environ, **variables})
        assert done.stdout.strip() == expected, done.stderr
