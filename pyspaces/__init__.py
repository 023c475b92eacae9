"""Run commands and Python functions in Linux namespaces."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyspaces.errors import SpaceError as SpaceError
    from pyspaces.errors import UsageFault as UsageFault
    from pyspaces.library.container import Chroot as Chroot
    from pyspaces.library.container import Container as Container
    from pyspaces.library.container import get_context as get_context
    from pyspaces.library.function import ChildTraceback as ChildTraceback
    from pyspaces.library.function import NoResult as NoResult
    from pyspaces.library.function import UnpicklableResult as UnpicklableResult
    from pyspaces.library.visit import Inject as Inject
    from pyspaces.library.visit import setns as setns

__version__ = "0.1.0"

# The modules of the public names, which are imported on first use: the command line needs none of
# them.
_PLACES = {
    "ChildTraceback": "library.function",
    "Chroot": "library.container",
    "Container": "library.container",
    "Inject": "library.visit",
    "NoResult": "library.function",
    "SpaceError": "errors",
    "UnpicklableResult": "library.function",
    "UsageFault": "errors",
    "get_context": "library.container",
    "setns": "library.visit",
}
__all__ = ["__version__", *_PLACES]  # noqa: PLE0604


def __getattr__(name: str) -> object:
    """Import the module of a public name, and return the object."""
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"{__name__}.{_PLACES[name]}"), name)


def __dir__() -> list[str]:
    """Return the names of the module, including those that are not imported yet."""
    return sorted({*globals(), *_PLACES})
