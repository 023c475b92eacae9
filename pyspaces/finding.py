"""How the command line finds its own modules: by one look each, at the .pyc that Python wrote.

Python's own finder looks for each module on a path that may hold anything, in seven forms; for the
40 modules of a launch that is a tenth of its time. This one takes a file of this package whose .pyc
is up to date, and leaves everything else to Python: no .pyc, one that is stale, checked by a hash
or kept elsewhere, another level of optimisation. Only a process that is nothing but the command
line has it; the child seals it with the rest.
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
_HEADER = 16


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


def _spec(name: str, folder: str, stem: str, inside: list[str] | None = None) -> ModuleSpec | None:
    """Return the spec of the module `stem` in a directory. inside: for a package, its directory."""
    source, cached = f"{folder}/{stem}.py", f"{folder}/__pycache__/{stem}{_TAG}"
    try:
        status = posix.stat(source)
        file = posix.open(cached, posix.O_RDONLY | posix.O_CLOEXEC)
    except OSError:
        return None
    try:
        data = posix.read(file, posix.fstat(file).st_size)
    finally:
        posix.close(file)
    numbers = (0, int(status.st_mtime), status.st_size)
    words = [(number & 0xFFFFFFFF).to_bytes(4, "little") for number in numbers]
    if data[:_HEADER] != MAGIC_NUMBER + b"".join(words):
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
