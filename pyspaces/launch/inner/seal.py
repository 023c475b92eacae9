"""The seal on imports: between the clone and the command, none.

Runs in the new process only.
"""

from __future__ import annotations

import sys


class ImportSealed(ImportError):
    """A module was imported in the child, where it might come from somebody else's root."""


class _Seal:
    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> None:
        raise ImportSealed(f"{name}: nothing is imported between the clone and exec")


def seal_imports() -> None:
    """Refuse every import of a module that is not loaded yet; more than once is fine."""
    if _Seal not in sys.meta_path:
        sys.meta_path.insert(0, _Seal)


def unseal_imports() -> None:
    """Allow imports again; from here on they come from the command's own root."""
    sys.meta_path.remove(_Seal)
