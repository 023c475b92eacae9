"""Commands and tasks in namespaces on the workers of a Dask cluster.

Requires `pyspaces[dask]`, here and on the workers. `run` runs commands; `Spaces` gives the workers
an executor whose processes are in namespaces, for ordinary tasks. Runs in the client, but for
`_perform` and the executor, which are in the workers.
"""

from __future__ import annotations

import os
import queue
import time
import uuid
import warnings
from collections.abc import Generator, Iterable, Iterator, Sized
from typing import Any

import distributed
from distributed import Client, WorkerPlugin

from pyspaces.errors import SpaceError, UsageFault
from pyspaces.library import job, space
from pyspaces.library.boxes import Boxes
from pyspaces.library.container import get_context
from pyspaces.library.job import Job, Result, Task
from pyspaces.library.progress import Progress
from pyspaces.plan import Plan, checked
from pyspaces.visible import visible

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Unpack

    from pyspaces.library import keywords as kw
    from pyspaces.library.job import Command

__all__ = ["Job", "Result", "Run", "Spaces", "run"]

# Seconds: between two looks at the workers; until a worker must have sent a result that it has; for
# a run without a worker; for the workers to end the commands of a run that is given up.
_LOOK, _FETCH, _PATIENCE, _ENDING = 1.0, 10.0, 60.0, 10.0
_FETCHES = 10  # attempts


def run(
    client: Client,
    commands: Iterable[Command],
    *,
    plan: Plan | None = None,
    place: str | None = None,
    shared: str | os.PathLike[str] | None = None,
    timeout: float | None = None,
    retries: int = 3,
    progress: bool | None = None,
    **settings: Unpack[kw.Space],
) -> Run:
    """Run commands in namespaces on the workers of a cluster; return their results as they come.

    client: a Client of distributed, not an asynchronous one. commands: each a text for /bin/sh, a
    sequence of words, or a `Job`, which also has standard input and files: `files` are written to a
    directory of the command's own, and those of `collect` are brought back from there. commands may
    be endless: only as many as keep the workers busy are taken ahead. Output and files are held in
    memory on their way: `shared` is for large ones.

    place: the path at which the command sees its own directory, which is mounted there; without
    one, where it is on the host. shared: a directory that all workers have, such as one of NFS;
    what the commands have written stays there, in a directory for each, which the result names.
    timeout: seconds for each command, which is then killed. retries: how often a command is run
    again whose worker has died: so a command may run more than once. progress: whether to show the
    progress on standard error; by default, if that is a terminal.

    Further keywords are the settings of `pyspaces.run`: rlimit="as=2G" limits the memory of a
    process, for example. user and pid are True by default, and kill_child is "KILL": a command ends
    with its worker. They are plain data, and each worker makes its own plan of them, for its user.
    plan: a Plan instead of settings, with the ids of the user who has made it.

    Each worker is tried first, also one that joins later. One that cannot create the namespaces
    gets no command; a RuntimeWarning and `Run.refused` say why. Raises UsageFault for invalid
    settings, here, and SpaceError, from the iterator, if no worker is left.
    """
    return Run(
        client, commands, _task_of(plan, place, shared, timeout, settings), retries, progress
    )


def _task_of(
    plan: Plan | None,
    place: str | None,
    shared: str | os.PathLike[str] | None,
    timeout: float | None,
    settings: Mapping[str, Any],
) -> Task:
    """Return what all commands of a run have in common. Raises UsageFault."""
    given: dict[str, Any] = {"user": True, "pid": True, "kill_child": "KILL", **settings}
    if plan is not None and settings:
        raise UsageFault([f"plan: cannot be combined with {', '.join(settings)}"])
    if plan is not None and place is not None:
        raise UsageFault(["place: cannot be combined with plan: mount it in the plan"])
    if place is not None and not place.startswith("/"):
        raise UsageFault([f"place: {place[:80]!r} is not an absolute path"])
    space.plan_of(["command"], given, what="Popen()")
    return Task(
        run=uuid.uuid4().hex[:12],
        settings=given,
        plan=checked(plan).to_data() if plan else None,
        place=place,
        shared=os.path.abspath(shared) if shared is not None else None,
        timeout=timeout,
    )


def _perform(task: Task, index: int, one: Job) -> Result:
    """Run a command in a worker."""
    return job.perform(task, index, one, str(distributed.get_worker().address))


class _Flight:
    """A command that has been sent: its number, and the workers that it may run on."""

    def __init__(self, index: int, one: Job, tries: int = 0) -> None:
        self.index, self.job, self.tries = index, one, tries
        self.future: Any = None
        self.workers: frozenset[str] = frozenset()
        self.fetches = 0


class Run(Iterator[Result]):
    """The results of the commands of `run`, in the order in which they come.

    refused: the workers that cannot run the commands, by their addresses, and why. done, failed:
    the numbers of commands that have ended, and of those among them that are not `ok`. `close`
    gives the rest up, and kills what runs; so does the end of a `with` statement.
    """

    def __init__(
        self,
        client: Client,
        commands: Iterable[Command],
        task: Task,
        retries: int,
        progress: bool | None,
    ) -> None:
        if client.asynchronous:
            raise TypeError("client: has to be a Client that is not asynchronous")
        self.refused: dict[str, str] = {}
        self.done = self.failed = 0
        self._client: Any = client
        self._task, self._retries = task, retries
        self._total = len(commands) if isinstance(commands, Sized) else None
        self._waiting = enumerate(map(job.job_of, commands))
        self._again: list[_Flight] = []
        self._flying: dict[str, _Flight] = {}
        self._landed: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._able: dict[str, int] = {}  # the workers, and their numbers of threads
        self._had_one = False
        self._looked, self._seen = 0.0, time.monotonic()  # when there was a worker
        self._progress = Progress(self._state, progress)
        self._results = self._each()

    def __next__(self) -> Result:
        """Wait for the next result."""
        return next(self._results)

    def close(self) -> None:
        """Give up the commands that have not ended, and kill those that run."""
        self._results.close()
        self._waiting = enumerate(())

    def _state(self) -> str:
        of = f" of {self._total}" if self._total is not None else ""
        failed = f", {self.failed} failed" if self.failed else ""
        return f"{self.done}{of} done{failed}; {len(self._able)} workers"

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _each(self) -> Generator[Result, None, None]:
        try:
            while True:
                self._look()
                self._fill()
                if not self._flying:
                    if not self._able:
                        time.sleep(_LOOK / 10)
                        continue
                    return
                for result in self._arrivals():
                    self.done += 1
                    self.failed += not result.ok
                    self._progress.show()
                    yield result
        finally:
            self._end()

    # --- the workers ----------------------------------------------------------------------------

    def _look(self) -> None:
        """Try workers that are new, and call back what was sent to workers that are gone."""
        now = time.monotonic()
        if now - self._looked < _LOOK and self._able:
            return
        self._looked = now
        # Not scheduler_info(): every two seconds the client replaces what that returns by an answer
        # without workers. All would seem to be gone, and their commands would be run again.
        threads: dict[str, int] = self._client.nthreads()
        self._try(sorted(set(threads) - set(self._able) - set(self.refused)))
        self._able = {name: threads[name] for name in self._able if name in threads}
        if self._able:
            self._had_one, self._seen = True, now
        elif (threads and not self._had_one) or now - self._seen > _PATIENCE:
            reasons = [f"{name}: {why}" for name, why in self.refused.items()]
            raise SpaceError("no worker can run the commands", details=reasons)
        for key, flight in list(self._flying.items()):
            if not flight.workers & self._able.keys():
                del self._flying[key]
                self._client.cancel([flight.future], force=True)
                self._again.append(flight)

    def _try(self, workers: list[str]) -> None:
        if not workers:
            return
        answers = self._client.run(job.refusal, self._task, workers=workers, on_error="return")
        for name in workers:
            why = answers.get(name, "it has gone")
            if why is None:
                self._able[name] = 1
                continue
            self.refused[name] = visible(str(why))
            self._progress.clear()
            warnings.warn(
                f"worker {name} cannot run the commands: {self.refused[name]}",
                RuntimeWarning,
                stacklevel=2,
            )

    # --- the commands ---------------------------------------------------------------------------

    def _fill(self) -> None:
        """Send as many commands as keep the workers busy, in one message."""
        room = 8 * sum(self._able.values()) + 8
        if not self._able or len(self._flying) > room // 2:
            return
        flights: list[_Flight] = []
        while len(flights) < room - len(self._flying):
            if self._again:
                flights.append(self._again.pop())
            elif (following := next(self._waiting, None)) is not None:
                flights.append(_Flight(*following))
            else:
                break
        if flights:
            self._send(flights)

    def _send(self, flights: list[_Flight]) -> None:
        names = [f"pyspaces-{self._task.run}-{one.index}-{one.tries}" for one in flights]
        for one in flights:
            one.tries += 1
            one.workers = frozenset(self._able)
        futures = self._client.map(
            _perform,
            [self._task] * len(flights),
            [one.index for one in flights],
            [one.job for one in flights],
            key=names,
            workers=list(self._able),
            pure=False,
        )
        for one, future in zip(flights, futures, strict=True):
            one.future = future
            self._flying[future.key] = one
            future.add_done_callback(self._landed.put)

    def _arrivals(self) -> Iterator[Result]:
        """Wait for results, at most until the next look at the workers."""
        try:
            futures = [self._landed.get(timeout=_LOOK)]
        except queue.Empty:
            return
        while not self._landed.empty():
            futures.append(self._landed.get())
        known = [one for one in futures if one.key in self._flying]
        for future in [one for one in known if one.status in ("error", "cancelled")]:
            if failed := self._failed(self._flying.pop(future.key)):
                yield failed
        ready = [one for one in known if one.key in self._flying]
        for key, result in self._fetched({one.key: one for one in ready}):
            if self._flying.pop(key, None):
                yield result

    def _fetched(self, futures: dict[str, Any]) -> list[tuple[str, Result]]:
        """Return the results, by keys; without those that a worker has but does not send."""
        if not futures:
            return []

        async def fetch() -> list[Result]:
            waiting = self._client.gather(list(futures.values()), asynchronous=True)
            found: list[Result] = await waiting
            return found

        try:
            results = self._client.sync(fetch, callback_timeout=_FETCH)
        except Exception as error:  # noqa: BLE001 - of whatever has become of the worker
            time.sleep(_LOOK / 10)
            return list(self._unfetched(futures, error))
        return list(zip(futures, results, strict=True))

    def _unfetched(self, futures: dict[str, Any], error: Exception) -> Iterator[tuple[str, Result]]:
        """Wait for these results again, and give up those that have failed too often.

        The next look sees whether a worker has gone, and sends its commands again.
        """
        for key, future in futures.items():
            flight = self._flying[key]
            flight.fetches += 1
            if flight.fetches <= _FETCHES:
                future.add_done_callback(self._landed.put)
                continue
            text = visible(f"its result cannot be fetched: {error}")
            yield key, Result(index=flight.index, words=flight.job.words, error=text)

    def _failed(self, flight: _Flight) -> Result | None:
        """Send a command again whose worker has died; after some tries, return that as a result."""
        error = None if flight.future.status == "cancelled" else flight.future.exception()
        is_lost = error is None or isinstance(error, distributed.scheduler.KilledWorker)
        if is_lost and flight.tries <= self._retries:
            self._again.append(flight)
            return None
        text = str(error) if error else "its worker has gone"
        return Result(index=flight.index, words=flight.job.words, error=visible(text))

    def _end(self) -> None:
        self._progress.clear(last=True)
        flights, self._flying = list(self._flying.values()), {}
        if not flights:
            return
        self._client.cancel([one.future for one in flights], force=True)

        async def end() -> None:
            await self._client.run(
                job.end, self._task.run, workers=list(self._able), on_error="ignore"
            )

        try:
            self._client.sync(end, callback_timeout=_ENDING)
        except (TimeoutError, OSError):  # workers that do not answer
            return


# --- an executor for tasks ------------------------------------------------------------------------


class Spaces(WorkerPlugin):
    """Gives each worker an executor of processes in namespaces, for ordinary tasks.

    `client.register_plugin(Spaces(net=True))`, then `with dask.annotate(executor="pyspaces")`.

    processes: for each worker; by default as many as it has threads. executor: its name. settings:
    those of `pyspaces.get_context`; user is True by default. A process runs one task after the
    other; if one ends its process, the tasks of that moment fail, and the next has new processes.
    """

    def __init__(
        self,
        *,
        processes: int | None = None,
        executor: str = "pyspaces",
        **settings: Unpack[kw.Shared],
    ) -> None:
        self.name = f"pyspaces-{executor}"
        self._settings: dict[str, Any] = {"user": True, "kill_child": "KILL", **settings}
        self._processes, self._executor = processes, executor
        get_context(**self._settings)  # raises for invalid settings, here

    def setup(self, worker: distributed.Worker) -> None:
        """Add the executor to a worker."""
        count = self._processes or worker.state.nthreads
        worker.executors[self._executor] = Boxes(count, self._settings)

    def teardown(self, worker: distributed.Worker) -> None:
        """Take it away again."""
        executor = worker.executors.pop(self._executor, None)
        if executor:
            executor.shutdown(wait=False, cancel_futures=True)
