"""A launcher that kills itself with SIGKILL at a chosen point of the handshake.

    python suicide.py POINT TOKEN MARKER

The command of the launch writes its uid to MARKER and then sleeps; TOKEN is in its command line.
"""

from __future__ import annotations

import os
import signal
import sys

from pyspaces import launch, settings
from pyspaces.features.ids import maps
from pyspaces.launch import channel
from pyspaces.launch.channel import Channel, Conversation, Message


def end() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    point, token, marker = sys.argv[1:]
    say, accept = Channel.say, Conversation.accept
    stages = 0

    def say_and_end(self: Channel, kind: bytes, body: bytes = b"") -> None:
        if kind == channel.MAPPED and point == "before the word":
            end()
        say(self, kind, body)
        if kind == channel.MAPPED and point == "after the word":
            end()

    def accept_and_end(self: Conversation, message: Message) -> Message:
        nonlocal stages
        stages += message.kind == channel.STAGE
        if point == f"at stage {stages}" or (
            point == "before exec" and message.kind == channel.EXECUTING
        ):
            end()
        return accept(self, message)

    def write_maps_and_end(*_: object, **__: object) -> bool:
        end()
        raise AssertionError("not reached")

    Channel.say = say_and_end  # type: ignore[method-assign]
    Conversation.accept = accept_and_end  # type: ignore[method-assign]
    if point == "before the maps":
        maps.write_outer = write_maps_and_end
    script = f": {token}; id -u > {marker}; sleep 1000; :"
    plan = settings.plan_from(
        {"all": True, "hostname": "a", "boottime": 1, "command": ["sh", "-c", script]}
    )
    launch.start(plan)
    if point == "after exec":
        end()
    raise AssertionError(f"{point}: was not reached")


main()
