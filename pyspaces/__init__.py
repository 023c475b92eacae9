"""Run commands and Python functions in Linux namespaces."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyspaces.errors import SpaceError as SpaceError
    from pyspaces.errors import UsageFault as UsageFault
    from pyspaces.function import ChildTraceback as ChildTraceback
    from pyspaces.function import NoResult as NoResult
    from pyspaces.function import UnpicklableResult as UnpicklableResult
    from pyspaces.process import Chroot as Chroot
    from pyspaces.process import Container as Container
    from pyspaces.process import get_context as get_context
    from pyspaces.visiting import Inject as Inject
    from pyspaces.visiting import setns as setns

__version__ = "0.1.0"

# Where the names of the library are: imported when they are asked for, as the command line, which
# loads this package too, needs none of them.
_PLACES = {
    "ChildTraceback": "function",
    "Chroot": "process",
    "Container": "process",
    "Inject": "visiting",
    "NoResult": "function",
    "SpaceError": "errors",
    "UnpicklableResult": "function",
    "UsageFault": "errors",
    "get_context": "process",
    "setns": "visiting",
}
__all__ = [
    "ChildTraceback",
    "Chroot",
    "Container",
    "Inject",
    "NoResult",
    "SpaceError",
    "UnpicklableResult",
    "UsageFault",
    "__version__",
    "get_context",
    "setns",
]


def __getattr__(name: str) -> object:
    """Import the module of a public name, and give the name."""
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"{__name__}.{_PLACES[name]}"), name)


def __dir__() -> list[str]:
    """Name what can be asked for."""
    return sorted({*globals(), *_PLACES})
