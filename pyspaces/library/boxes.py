"""An executor of processes in namespaces that survives the end of one of them.

Runs in the worker that has it, but for `_call`, which runs in the processes.
"""

from __future__ import annotations

from concurrent.futures import Executor, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from threading import Lock
from typing import Any

import cloudpickle

from pyspaces.library.container import get_context

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


class Boxes(Executor):
    """A pool of processes in namespaces, which is made anew after one of them has died."""

    def __init__(self, processes: int, settings: dict[str, Any]) -> None:
        self._processes, self._settings = processes, settings
        self._lock = Lock()
        self._pool = self._made()

    def _made(self) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(self._processes, mp_context=get_context(**self._settings))

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Call a function in one of the processes."""
        # Functions of notebooks and programs cannot be pickled by the standard library.
        packed = cloudpickle.dumps((fn, args, kwargs))
        with self._lock:
            try:
                return self._pool.submit(_call, packed)
            except BrokenProcessPool:
                self._pool.shutdown(wait=False)
                self._pool = self._made()
                return self._pool.submit(_call, packed)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the processes."""
        self._pool.shutdown(wait=wait, cancel_futures=cancel_futures)


def _call(packed: bytes) -> Any:
    function, args, kwargs = cloudpickle.loads(packed)  # of this worker
    return function(*args, **kwargs)
