"""What a relay carries between two connections: by random uses of both, over real sockets."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyspaces.launch.network.loop import IN, Loop
from pyspaces.launch.network.tcp import Connections, Pair


class Both:
    """Two peers, and the pair between them."""

    def __init__(self, **more: object) -> None:
        self.loop = Loop()
        self.peers, ours = zip(*(socket.socketpair() for _ in range(2)), strict=True)
        self.over = 0
        for one in (*self.peers, *ours):
            one.setblocking(False)
        # As small as the kernel makes them, so that some of it has to wait.
        for one in (*self.peers, *ours):
            one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
        self.pair = Pair(self.loop, ours[0], ours[1], gone=self._gone, **more)  # type: ignore[arg-type]
        self.got = [b"", b""]
        self.ended = [False, False]

    def _gone(self, pair: Pair) -> None:
        self.over += 1

    def turn(self) -> None:
        """Let the pair do what there is to do by now."""
        self.loop._runs = True
        self.loop.at(0.0, self.loop.stop)
        self.loop.run()

    def read(self, number: int) -> None:
        """Read all that one peer can read now."""
        with contextlib.suppress(BlockingIOError, ConnectionResetError):
            while data := self.peers[number].recv(1 << 20):
                self.got[number] += data
            self.ended[number] = True

    def settle(self, wanted: list[bytes], ends: list[bool]) -> None:
        """Read until both peers have got what they should."""
        limit = time.monotonic() + 60
        while self.got != wanted or self.ended != ends:
            assert time.monotonic() < limit, [len(one) for one in self.got]
            self.turn()
            self.read(0)
            self.read(1)


@contextlib.contextmanager
def both(**more: object) -> Iterator[Both]:
    made = Both(**more)
    try:
        yield made
    finally:
        if not made.over:
            made.pair.reset()
        made.turn()
        for one in made.peers:
            one.close()
        made.loop._poll.close()


STEP = st.tuples(st.sampled_from(["send", "read", "turn", "end"]), st.integers(0, 1), st.binary())


@given(st.lists(STEP, max_size=30), st.integers(1, 30_000))
@settings(max_examples=60)
def test_each_gets_what_the_other_has_sent_and_its_end(
    steps: list[tuple[str, int, bytes]], times: int
) -> None:
    with both() as made:
        sent, closed = [b"", b""], [False, False]
        for verb, number, data in steps:
            if verb == "send" and not closed[number]:
                with contextlib.suppress(BlockingIOError):
                    size = made.peers[number].send(data * times)
                    sent[number] += (data * times)[:size]
            elif verb == "read":
                made.read(number)
            elif verb == "turn":
                made.turn()
            elif verb == "end" and not closed[number]:
                closed[number] = True
                made.peers[number].shutdown(socket.SHUT_WR)
        made.settle(sent[::-1], closed[::-1])
        assert made.over == all(closed)


@pytest.mark.parametrize("sizes", [(5,), (3, 2), (3, 4), (9,)])
def test_no_more_than_was_announced_is_carried(sizes: tuple[int, ...]) -> None:
    with both(left=5, first=b"head.", answer=b"hello.") as made:
        data = b"0123456789"
        for size in sizes:
            made.peers[0].send(data[:size])
            data = data[size:]
            made.turn()
        made.settle([b"hello.", b"head.01234"], [False, sum(sizes) > 5])
        made.peers[1].send(b"answer")
        made.settle([b"hello.answer", b"head.01234"], [False, sum(sizes) > 5])


def test_what_came_already_beyond_that_ends_it() -> None:
    with both(left=0, first=b"head", ended=True) as made:
        made.settle([b"", b"head"], [False, True])
        made.peers[1].send(b"answer")
        made.settle([b"answer", b"head"], [False, True])


def test_a_socket_that_is_closed_leaves_its_number_to_nobody_in_the_same_turn() -> None:
    loop, seen = Loop(), []
    ends = [socket.socketpair() for _ in range(2)]
    numbers = {one.fileno() for one, _ in ends}

    def act(events: int) -> None:
        for one, _ in ends:
            loop.close(one)
        made = os.dup(ends[0][1].fileno())
        seen.append(made)
        os.close(made)
        loop.stop()

    for one, other in ends:
        other.send(b".")
        loop.watch(one.fileno(), IN, act)
    loop.run()
    # The other one was ready, too, and is not seen to any more.
    assert len(seen) == 1
    assert not {*seen} & numbers
    assert all(one.fileno() == -1 for one, _ in ends)
    for _, other in ends:
        other.close()
    loop._poll.close()


def test_nobody_is_accepted_where_there_is_no_room() -> None:
    loop = Loop()
    connections = Connections(loop, 2, inside=0)
    watched: list[bool] = []

    class Door:
        socket = None

        def watch(self, *, on: bool) -> None:
            watched.append(on)

    connections.listen(Door())  # type: ignore[arg-type]
    connections.enter()
    connections.enter()
    connections.leave()
    assert watched == [True, False, True]
    loop._poll.close()
