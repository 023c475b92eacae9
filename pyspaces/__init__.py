"""Run commands and Python functions in Linux namespaces."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyspaces.errors import SpaceError as SpaceError
    from pyspaces.errors import UsageFault as UsageFault
    from pyspaces.library.aio import create_subprocess_exec as create_subprocess_exec
    from pyspaces.library.aio import create_subprocess_shell as create_subprocess_shell
    from pyspaces.library.command import Completed as Completed
    from pyspaces.library.command import Popen as Popen
    from pyspaces.library.command import run as run
    from pyspaces.library.container import Chroot as Chroot
    from pyspaces.library.container import Container as Container
    from pyspaces.library.container import get_context as get_context
    from pyspaces.library.function import ChildTraceback as ChildTraceback
    from pyspaces.library.function import NoResult as NoResult
    from pyspaces.library.function import UnpicklableResult as UnpicklableResult
    from pyspaces.library.sandbox import Sandbox as Sandbox
    from pyspaces.library.visit import Inject as Inject
    from pyspaces.library.visit import setns as setns

__version__ = "2.0.0"

# The modules of the public names, which are imported on first use: the command line needs none of
# them.
_PLACES = {
    "ChildTraceback": "library.function",
    "Chroot": "library.container",
    "Completed": "library.command",
    "Container": "library.container",
    "Inject": "library.visit",
    "NoResult": "library.function",
    "Popen": "library.command",
    "Sandbox": "library.sandbox",
    "SpaceError": "errors",
    "UnpicklableResult": "library.function",
    "UsageFault": "errors",
    "create_subprocess_exec": "library.aio",
    "create_subprocess_shell": "library.aio",
    "get_context": "library.container",
    "run": "library.command",
    "setns": "library.visit",
}
__all__ = ["__version__", *_PLACES]  # noqa: PLE0604


def __getattr__(name: str) -> object:
    """Import the module of a public name, and return the object."""
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    found = getattr(importlib.import_module(f"{__name__}.{_PLACES[name]}"), name)
    globals()[name] = found  # the next time, nobody asks here
    return found


def __dir__() -> list[str]:
    """Return the names of the module, including those that are not imported yet."""
    return sorted({*globals(), *_PLACES})
