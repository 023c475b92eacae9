"""How the command line finds its own modules: by one look each, at the .pyc that Python wrote.

Python's own finder looks for each module on a path that may hold anything, in seven forms; for the
40 modules of a launch that is a tenth of its time. This one takes a file of this package whose .pyc
is up to date, and leaves everything else to Python: no .pyc, one that is stale, checked by a hash
or kept elsewhere, another level of optimisation. Only a process that is nothing but the command
line has it; the child seals it with the rest.

`load` takes several modules at once that a command line is known to need. An import statement
spends more on locks and questions than on finding and running a small module: of 165,000
instructions for an empty one, 118,000 (Python 3.11). A process with one thread needs none of that.
"""

from __future__ import annotations

import posix
import sys
from _frozen_importlib import ModuleSpec
from _frozen_importlib_external import MAGIC_NUMBER
from marshal import loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType
    from typing import Any

_TAG = f".{sys.implementation.cache_tag}.pyc"
# PEP 552: the magic number, flags, and of the source the time and the size, 4 bytes each.
_HEADER, _WORD = 16, 1 << 32
# In the form that `load` takes: what every command line needs, and what one of a launch needs to be
# read. What it needs then is in settings/_table.py.
FIRST = (
    "record status commands/ commands.fast kernel/ kernel.constants kernel.foreign kernel.libc "
    "errors cli"
)
OF_LAUNCH = (
    "feature kernel.nsfs kernel.namespaces plan.plan plan/ settings._table settings.reading "
    "settings/"
)


class Finder:
    """A finder and loader of importlib's."""

    @staticmethod
    def find_spec(
        name: str, path: Sequence[str] | None = None, target: object = None
    ) -> ModuleSpec | None:
        """Return the spec of a module of ours, or None to leave it to Python."""
        del target
        if not path or not name.startswith("pyspaces."):
            return None
        stem = name.rpartition(".")[2]
        package = f"{path[0]}/{stem}"
        return _spec(name, path[0], stem) or _spec(name, package, "__init__", [package])

    @staticmethod
    def create_module(spec: ModuleSpec) -> None:
        """Let Python make the module."""

    @staticmethod
    def exec_module(module: ModuleType) -> None:
        """Run the code that was found."""
        spec = module.__spec__
        assert spec
        code, spec.loader_state = spec.loader_state, None
        exec(code, module.__dict__)  # noqa: S102 - as importlib does


def _spec(
    name: str, directory: str, stem: str, inside: list[str] | None = None
) -> ModuleSpec | None:
    """Return the spec of the module `stem` in a directory. inside: for a package, its directory."""
    source, cached = f"{directory}/{stem}.py", f"{directory}/__pycache__/{stem}{_TAG}"
    try:
        status = posix.stat(source)
        file = posix.open(cached, posix.O_RDONLY | posix.O_CLOEXEC)
    except OSError:
        return None
    try:
        data = posix.read(file, posix.fstat(file).st_size)
    finally:
        posix.close(file)
    words = int(status.st_mtime) % _WORD * _WORD + status.st_size % _WORD * _WORD * _WORD
    if data[:_HEADER] != MAGIC_NUMBER + words.to_bytes(12, "little"):
        return None
    loader: Any = Finder
    spec = ModuleSpec(name, loader, origin=source, is_package=inside is not None)
    spec.loader_state = loads(memoryview(data)[_HEADER:])  # noqa: S302 - as importlib does
    spec.submodule_search_locations = inside
    spec.has_location = True
    spec.cached = cached
    return spec


def install() -> None:
    """Use this finder in this process, unless Python's settings differ from the default."""
    if sys.flags.optimize == 0 and sys.pycache_prefix is None:
        sys.meta_path.insert(0, Finder)
        load(FIRST)


def load(words: str) -> None:
    """Load modules that are known to be needed, and are not loaded yet; leave what fails to Python.

    words: their names without `pyspaces.`, each behind what it imports itself; a package has a
    slash behind its name, and may follow its modules. Does nothing in a process without this
    finder. Only for a process with one thread.
    """
    if Finder not in sys.meta_path:
        return
    root = sys.modules["pyspaces"].__path__[0]
    specs = []
    for word in words.split():
        name = f"pyspaces.{word.rstrip('/')}"
        if name in sys.modules:
            continue
        directory, _, stem = f"{root}/{word.replace('.', '/')}".rpartition("/")
        spec = (
            _spec(name, directory, stem)
            if stem
            else _spec(name, directory, "__init__", [directory])
        )
        if spec is None:
            return
        specs.append(spec)
    modules = [_module(spec) for spec in specs]
    # Before its own code is run, a package is where its modules are found.
    sys.modules.update({one.__name__: one for one in modules if hasattr(one, "__path__")})
    for module in modules:
        sys.modules[module.__name__] = module
        Finder.exec_module(module)
        above, _, stem = module.__name__.rpartition(".")
        setattr(sys.modules[above], stem, module)


def _module(spec: ModuleSpec) -> ModuleType:
    """Return an empty module, with what importlib gives one."""
    module = type(sys)(spec.name)
    module.__spec__, module.__loader__ = spec, spec.loader
    module.__package__, module.__file__ = spec.parent, spec.origin
    module.__dict__["__cached__"] = spec.cached
    if spec.submodule_search_locations is not None:
        module.__path__ = spec.submodule_search_locations
    return module
