"""Run commands and Python functions in Linux namespaces."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyspaces.process import Container as Container
    from pyspaces.process import get_context as get_context

__version__ = "0.1.0"
__all__ = ["Container", "__version__", "get_context"]


def __getattr__(name: str) -> object:
    """Import the names of the library when they are asked for: the command line needs none."""
    if name not in ("Container", "get_context"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from pyspaces import process

    return getattr(process, name)
