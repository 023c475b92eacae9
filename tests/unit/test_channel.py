"""The dialogue of parent and child: its order, and its frames over a real socket pair."""

from __future__ import annotations

import errno
import os
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyspaces.kernel.libc import KernelError
from pyspaces.launch import channel
from pyspaces.launch.channel import (
    EXECUTING,
    FAILED,
    KEEP,
    MAPPED,
    STAGE,
    Conversation,
    Message,
    OutOfTurn,
)

# Everything the child may say, as one regular expression over the kinds.
WRITTEN_ORDER = re.compile(b"X?(S+X)*S*F?", re.DOTALL)

kinds = st.sampled_from([STAGE, EXECUTING, FAILED, MAPPED, b"", b"?", b"s"])


@given(st.lists(kinds, max_size=8))
def test_exactly_the_written_order_is_accepted(said: list[bytes]) -> None:
    talk = Conversation()
    heard = b""
    for kind in said:
        # A kind that is empty would leave the text of the expression as it is.
        allowed = kind != b"" and WRITTEN_ORDER.fullmatch(heard + kind) is not None
        if not allowed:
            with pytest.raises(OutOfTurn):
                talk.accept(Message(kind=kind))
            assert talk.executing == heard.endswith(EXECUTING)
            return
        message = Message(kind=kind, body=b"x")
        assert talk.accept(message) is message
        heard += kind
        assert talk.executing == heard.endswith(EXECUTING)


@pytest.mark.parametrize(
    "said",
    [
        *([MAPPED], [STAGE, MAPPED], [EXECUTING, KEEP], [EXECUTING, EXECUTING], [FAILED, FAILED]),
        *([FAILED, STAGE], [FAILED, EXECUTING], [EXECUTING, FAILED, FAILED], [b"?"], [b""]),
    ],
)
def test_messages_out_of_turn(said: list[bytes]) -> None:
    talk = Conversation()
    *before, last = said
    for kind in before:
        talk.accept(Message(kind=kind))
    with pytest.raises(OutOfTurn, match=re.escape(repr(last))):
        talk.accept(Message(kind=last))


def test_a_refused_message_does_not_count() -> None:
    talk = Conversation()
    talk.accept(Message(kind=STAGE, body=b"one"))
    with pytest.raises(OutOfTurn):
        talk.accept(Message(kind=MAPPED))
    assert talk.stage == "one"
    talk.accept(Message(kind=EXECUTING))
    assert talk.executing


def test_the_stage_is_the_last_one_told() -> None:
    talk = Conversation()
    assert talk.stage == ""
    talk.accept(Message(kind=STAGE, body=b"one"))
    talk.accept(Message(kind=STAGE, body=b"caf\xc3\xa9 \xff"))
    assert talk.stage == "caf\u00e9 \udcff"
    talk.accept(Message(kind=FAILED, body=b"not a stage"))
    assert talk.stage == "caf\u00e9 \udcff"


def test_kinds_are_one_byte_each_and_differ() -> None:
    assert len({MAPPED, STAGE, EXECUTING, FAILED}) == 4
    assert all(len(kind) == 1 for kind in (MAPPED, STAGE, EXECUTING, FAILED))


@given(st.lists(st.tuples(st.sampled_from([MAPPED, STAGE, FAILED]), st.binary()), max_size=8))
def test_messages_arrive_whole_and_in_order(messages: list[tuple[bytes, bytes]]) -> None:
    one, other = channel.pair()
    try:
        for kind, body in messages:
            one.say(kind, body)
        one.close()
        heard = []
        while message := other.hear():
            heard.append((message.kind, message.body))
        assert heard == messages
        assert other.hear() is None
    finally:
        one.close()
        other.close()


def test_the_largest_report_fits() -> None:
    from pyspaces.errors import Report

    long = "\u00e9" * 100_000
    data = Report(stage=long, call=long, path=long, text=long, trace=long).to_bytes()
    one, other = channel.pair()
    try:
        one.say(FAILED, data)
        message = other.hear()
        assert message == Message(kind=FAILED, body=data)
    finally:
        one.close()
        other.close()


def test_both_directions() -> None:
    one, other = channel.pair()
    try:
        one.say(MAPPED, b"deny")
        other.say(STAGE, b"x")
        assert one.hear() == Message(kind=STAGE, body=b"x")
        assert other.hear() == Message(kind=MAPPED, body=b"deny")
    finally:
        one.close()
        other.close()


def test_what_is_on_the_board_is_heard_at_the_end() -> None:
    for said, heard in (
        ([], None),
        ([(STAGE, b"x")], Message(kind=STAGE, body=b"x")),
        ([(STAGE, b"x"), (FAILED, b"why")], Message(kind=FAILED, body=b"why")),
        ([(STAGE, b"a longer one"), (EXECUTING, b"")], None),
        ([(FAILED, b"y" * (1 << 20))], Message(kind=FAILED, body=b"y" * ((1 << 16) - 1))),
    ):
        one, other = channel.pair(channel.new_board())
        one.say(EXECUTING)
        one.go_mute()
        for kind, body in said:
            one.say(kind, body)
        one.close()
        assert other.hear() == Message(kind=EXECUTING)
        assert other.hear() == heard
        assert other.hear() is None
        other.close()


def test_stages_that_nobody_watches_are_on_the_board_until_exec_comes() -> None:
    other, one = channel.pair(channel.new_board(), watched=False)
    try:
        assert other.stage() == ""
        for stage in (b"a long one", b"two"):
            one.say(STAGE, stage)
            assert other.stage() == stage.decode()
        os.set_blocking(other.fileno(), False)
        with pytest.raises(BlockingIOError):
            other.hear()
        one.say(EXECUTING, b"x")
        assert other.stage() == ""
        one.close()
        assert other.hear() == Message(kind=EXECUTING, body=b"x")
        assert other.hear() is None
    finally:
        one.close()
        other.close()
    # Nor is the death of a child at a stage, or a failure there, told in other words.
    other, one = channel.pair(channel.new_board(), watched=False)
    try:
        one.say(STAGE, b"three")
        one.say(FAILED, b"why")
        assert other.hear() == Message(kind=FAILED, body=b"why")
        one.close()
        assert other.hear() == Message(kind=STAGE, body=b"three")
    finally:
        one.close()
        other.close()


def test_without_a_board_only_a_failure_is_said() -> None:
    one, other = channel.pair()
    one.go_mute()
    one.say(STAGE, b"x")
    one.say(FAILED, b"y")
    one.close()
    assert other.hear() == Message(kind=FAILED, body=b"y")
    assert other.hear() is None
    other.close()


def test_to_speak_to_nobody_is_epipe_and_no_signal() -> None:
    one, other = channel.pair()
    other.close()
    with pytest.raises(KernelError) as caught:
        one.say(STAGE)
    assert (caught.value.errno, caught.value.call) == (errno.EPIPE, "send")
    one.close()


def test_a_peer_that_leaves_our_word_unread_is_end_of_file() -> None:
    one, other = channel.pair()
    one.say(MAPPED)
    other.close()
    assert one.hear() is None
    one.close()


def test_both_ends_are_close_on_exec_and_closing_twice_is_fine() -> None:
    one, other = channel.pair()
    assert not os.get_inheritable(one.fileno())
    assert not os.get_inheritable(other.fileno())
    descriptor = one.fileno()
    one.close()
    one.close()
    other.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)
