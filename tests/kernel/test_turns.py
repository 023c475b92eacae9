"""Threads of one process launch one after the other: each in its turn."""

import _thread
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from pyspaces.kernel import spawn


@contextmanager
def others(count: int) -> Iterator[list[int]]:
    """Threads that take the lock all the time; yields their turns."""
    turns = [0] * count
    stop = threading.Event()

    def take(number: int) -> None:
        while not stop.is_set():
            with spawn.forks_held():
                time.sleep(0.002)
                turns[number] += 1

    threads = [threading.Thread(target=take, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    yield turns
    stop.set()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()


def test_nobody_takes_two_turns_while_another_waits() -> None:
    waited = []
    with others(3) as turns:
        while min(turns) == 0:
            time.sleep(0.001)
        for _ in range(50):
            before = list(turns)
            with spawn.forks_held(), spawn.forks_held():
                # One turn may have begun, and another thread may have asked, before we did.
                waited.append(max(now - then for now, then in zip(turns, before, strict=True)))
    assert max(waited) <= 2, waited


def test_a_handler_that_raises_keeps_the_lock_from_nobody() -> None:
    class Interrupted(Exception):
        pass

    def handler(*_: object) -> None:
        raise Interrupted

    interrupted = 0
    before = signal.signal(signal.SIGALRM, handler)
    try:
        with others(1):
            for number in range(200):
                try:
                    signal.setitimer(signal.ITIMER_REAL, 0.0001 * (number % 50 + 1))
                    while True:
                        with spawn.forks_held():
                            pass
                except Interrupted:
                    interrupted += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert interrupted == 200


def test_a_turn_that_nobody_passes_on_is_given_up() -> None:
    lost = _thread.allocate_lock()
    lost.acquire()
    spawn._waiting.append(lost)  # as of a thread that was interrupted right before it passed it on
    begun = time.monotonic()
    with spawn.forks_held():
        pass
    first = time.monotonic() - begun
    for _ in range(3):
        with spawn.forks_held():
            pass
    assert spawn._waiting == []
    assert first < 3
    assert time.monotonic() - begun - first < 0.5
