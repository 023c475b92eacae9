"""What a test does with a launch on a bridge, on the host of a network namespace of its own.

`python veth_trial.py VERB ARGUMENT... -- LAUNCHER OPTION...` creates the bridge br0, with servers
that answer at its addresses and at those of the loopback, and prints JSON. run: run the words, and
print status, output and errors of that, the interfaces meanwhile, and those afterwards. kill WHO
COUNT SEED: launch `sleep` so often, end the launcher, the helper or the command at some moment, and
print what has ever been left.
"""

from __future__ import annotations

import json
import os
import random
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable

from pyspaces.kernel import rtnetlink

BRIDGE = "br0"
ON_BRIDGE, BEHIND = (("10.9.0.1", 24), ("fd09::1", 64)), (("11.0.0.1", 32), ("fd11::1", 128))
LIMIT = 120.0


def serve(address: str) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    own = socket.create_server((address, 80), family=family)
    threading.Thread(target=answer, args=(own,), daemon=True).start()


def answer(own: socket.socket) -> None:
    while True:
        one, peer = own.accept()
        with one:
            one.sendall(peer[0].encode())


def ports(links: rtnetlink.Interfaces) -> list[str]:
    """Return the interfaces of the host but for lo and the bridge."""
    return [link.name for link in links.links() if link.name not in ("lo", BRIDGE)]


def run(links: rtnetlink.Interfaces, words: list[str]) -> object:
    """Let the command say what it sees, and look at the host until it has read a line."""
    with subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as launcher:
        assert launcher.stdout
        first = launcher.stdout.readline()
        there = [[link.name, link.alias, link.up] for link in links.links() if link.master]
        output, errors = launcher.communicate("go\n", timeout=LIMIT)
    return [launcher.returncode, first + output, errors, there, ports(links)]


def children(launcher: int) -> dict[str, int]:
    """Return the helper and the command of a launch, as far as they are there."""
    found = {}
    for entry in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{entry}/stat", errors="replace") as file:
                text = file.read()
        except OSError:
            continue
        name, _, rest = text.partition("(")[2].rpartition(")")
        if int(rest.split()[1]) == launcher:
            found["helper" if name.startswith("pyspaces-relay") else "command"] = int(entry)
    return found


def kill(links: rtnetlink.Interfaces, words: list[str], who: str, count: str, seed: str) -> object:
    chance = random.Random(f"{who} {seed}")
    return [left for _ in range(int(count)) if (left := killed(links, words, who, chance))]


def killed(
    links: rtnetlink.Interfaces, words: list[str], who: str, chance: random.Random
) -> list[str]:
    launcher = subprocess.Popen(
        [*words, "--", "sleep", "600"], stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    handles = [os.pidfd_open(launcher.pid)]
    try:
        while who != "launcher" and launcher.poll() is None:
            if (found := children(launcher.pid).get(who)) is not None:
                handles.append(os.pidfd_open(found))
                break
        # No order is meant: any moment will do, before the launch is complete or after.
        time.sleep(chance.uniform(0, 0.3 if who == "launcher" else 0.1))
        signal.pidfd_send_signal(handles[-1], signal.SIGKILL)
        left = [] if ends(handles[0]) else ["launcher"]
    except ProcessLookupError:  # a process that has made another one, and ended
        left = []
    finally:
        launcher.kill()
        launcher.wait()
        for handle in handles:
            os.close(handle)
    limit = time.monotonic() + LIMIT
    while (there := ports(links)) and time.monotonic() < limit:
        time.sleep(0.005)
    return left + there


def ends(handle: int) -> bool:
    return bool(select.select([handle], [], [], LIMIT)[0])


def main() -> None:
    links = rtnetlink.Interfaces(rtnetlink.socket())
    links.bring_up("lo")
    links.create_bridge(BRIDGE)
    for name, places in ((BRIDGE, ON_BRIDGE), ("lo", BEHIND)):
        for address, bits in places:
            links.add_address(name, address, bits)
            serve(address)
    at = sys.argv.index("--")
    verb, *arguments = sys.argv[1:at]
    act: dict[str, Callable[..., object]] = {"run": run, "kill": kill}
    print(json.dumps(act[verb](links, sys.argv[at + 1 :], *arguments)))


if __name__ == "__main__":
    main()
