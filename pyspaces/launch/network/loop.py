"""A loop over descriptors that are ready: epoll(7).

Runs in the helper processes of a network.
"""

from __future__ import annotations

import select
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket
    from collections.abc import Callable

IN, OUT = select.EPOLLIN, select.EPOLLOUT


class Loop:
    """Waits for descriptors and moments, and calls what is to be done."""

    def __init__(self) -> None:
        self._poll = select.epoll()
        self._acts: dict[int, Callable[[int], object]] = {}
        self._masks: dict[int, int] = {}
        self._moments: dict[Callable[[], object], float] = {}
        self._closing: list[socket] = []
        self._runs = True

    def watch(self, descriptor: int, events: int, act: Callable[[int], object]) -> None:
        """Call `act` with the events that occur at a descriptor. events: 0 for none.

        Without any it is taken out altogether: the kernel reports errors unasked, again and again.
        """
        self._acts[descriptor] = act
        known = self._masks.get(descriptor, 0)
        if known == events:
            return
        self._masks[descriptor] = events
        if not events:
            self._poll.unregister(descriptor)
        elif known:
            self._poll.modify(descriptor, events)
        else:
            self._poll.register(descriptor, events)

    def close(self, one: socket) -> None:
        """Close a socket once all that is ready now has been seen to.

        Earlier, another could get its number, and the events that were meant for this one.
        """
        descriptor = one.fileno()
        if self._masks.pop(descriptor, 0):
            self._poll.unregister(descriptor)
        self._acts.pop(descriptor, None)
        self._closing.append(one)

    def at(self, moment: float, act: Callable[[], object]) -> None:
        """Call `act` once, when its moment by the monotonic clock has come."""
        self._moments[act] = moment

    def stop(self) -> None:
        """Make `run` return."""
        self._runs = False

    def run(self) -> None:
        """Do what there is to do, until `stop`."""
        while self._runs:
            for descriptor, events in self._poll.poll(self._pause()):
                act = self._acts.get(descriptor)
                if act:
                    act(events)
            for one in self._closing:
                one.close()
            self._closing.clear()
            now = time.monotonic()
            for act_now in [act for act, moment in self._moments.items() if moment <= now]:
                self._moments.pop(act_now, None)
                act_now()

    def _pause(self) -> float:
        """Return the seconds up to the next moment; -1 if there is none."""
        if not self._moments:
            return -1
        return max(0.0, min(self._moments.values()) - time.monotonic())
