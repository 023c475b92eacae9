"""What a test does with a launch that has a way out, on the host of a world in a box.

`python uplink_trial.py VERB ARGUMENT... -- LAUNCHER OPTION...` prints JSON. publish: start an echo
server inside with these options, ask its first port, and print the answers and the record. kill
WHO: end the launcher, the command, the program or the process beside it, and print the launcher's
status, its errors, and what is left. many COUNT: launch `true` so often, and print what is left.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SERVER = str(Path(__file__).with_name("network_server.py"))
PROGRAMS = ("pasta", "pasta.avx2", "passt", "passt.avx2", "slirp4netns", "pyspaces-uplink")


def processes() -> dict[int, tuple[int, str]]:
    """Return the parent and the name of each process that is no zombie."""
    found = {}
    for entry in filter(str.isdigit, os.listdir("/proc")):
        try:
            text = Path(f"/proc/{entry}/stat").read_text(errors="replace")
        except OSError:
            continue
        name, _, rest = text.partition("(")[2].rpartition(")")
        state, parent = rest.split()[:2]
        if state != "Z":
            found[int(entry)] = (int(parent), name)
    return found


def of_launch(launcher: int) -> dict[str, int]:
    """Return the process beside a launch and the program below it."""
    there = processes()
    beside = [pid for pid, row in there.items() if row == (launcher, "pyspaces-uplink")]
    program = [pid for pid, (parent, _) in there.items() if parent in beside]
    return {"beside": beside[0], "program": program[0]}


def begin(words: list[str], *command: str) -> tuple[subprocess.Popen[str], dict[str, object]]:
    reading, writing = os.pipe()
    launcher = subprocess.Popen(
        [*words, "--status-fd", str(writing), "--", *command],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        pass_fds=[writing],
    )  # fmt: skip
    os.close(writing)
    records = os.fdopen(reading)  # open to the end of this process: a launch writes its end there
    line = records.readline()
    return launcher, {**(json.loads(line) if line else {}), "records": records}


def publish(words: list[str], verb: str) -> object:
    launcher, record = begin(words, sys.executable, SERVER, verb, "0.0.0.0", "80")
    assert launcher.stdout
    assert launcher.stderr
    if launcher.stdout.readline() != "ready 80\n":
        launcher.kill()
        return launcher.stderr.read()
    try:
        return [*asked(record, verb), record["network"]]
    finally:
        launcher.terminate()
        launcher.wait(60)


def asked(record: dict[str, object], verb: str) -> list[str]:
    """Return what the server answers."""
    port = record["ports"][0]  # type: ignore[index]
    if verb == "udp":
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as own:
            own.connect((port["address"], port["outside"]))
            # A datagram may get lost while those who pass it on begin.
            own.settimeout(1)
            for _ in range(60):
                own.send(b"hello")
                with contextlib.suppress(TimeoutError):
                    found = own.recv(100)
                    break
    else:
        with socket.create_connection((port["address"], port["outside"]), timeout=60) as own:
            own.sendall(b"hello")
            own.shutdown(socket.SHUT_WR)
            found = own.recv(100)
    return [found.decode()]


def kill(words: list[str], who: str) -> object:
    launcher, record = begin(words, "sleep", "600")
    numbers = {"launcher": launcher.pid, "command": record["pid"], **of_launch(launcher.pid)}
    handles = {name: os.pidfd_open(int(str(number))) for name, number in numbers.items()}
    signal.pidfd_send_signal(handles[who], signal.SIGKILL)
    _, errors = launcher.communicate(timeout=120)
    left = [name for name, handle in handles.items() if not ends(handle)]
    return [launcher.returncode, errors, sorted(numbers), left]


def look(words: list[str]) -> object:
    """Return the descriptors and the environment of the two processes of a launch."""
    os.environ["PYSPACES_SECRET"] = "yes"
    secret = os.open(__file__, os.O_RDONLY)
    os.set_inheritable(secret, True)
    launcher, _ = begin(words, "sleep", "600")
    found = []
    for name, pid in of_launch(launcher.pid).items():
        place = f"/proc/{pid}"
        links = [os.readlink(f"{place}/fd/{number}") for number in os.listdir(f"{place}/fd")]
        # Of ours, a copy of the launcher, the memory is closed to all but root of the host.
        variables = Path(f"{place}/environ").read_text() if name == "program" else ""
        found.append([links, variables])
    launcher.terminate()
    launcher.wait(60)
    return found


def ends(handle: int) -> bool:
    return bool(select.select([handle], [], [], 120)[0])


def many(words: list[str], count: str) -> object:
    with tempfile.TemporaryDirectory() as runtime:
        variables = os.environ | {"XDG_RUNTIME_DIR": runtime}
        statuses = {
            subprocess.run(
                [*words, "--", "true"], check=False, stdin=subprocess.DEVNULL, env=variables
            ).returncode
            for _ in range(int(count))
        }
        files = os.listdir(runtime)
    devices = subprocess.run(["ip", "-br", "link"], capture_output=True, text=True, check=True)
    names = sorted(line.split()[0].partition("@")[0] for line in devices.stdout.splitlines())
    return [sorted(statuses), names, files, left()]


SEND = """
import os, socket, sys
one = socket.create_connection(("11.0.0.1", 9009), timeout=60)
one.sendall(bytes(int(sys.argv[1])))
os._exit(0)
"""


def last(words: list[str], size: str, count: str) -> object:
    """Send something as the last act of a command, and ask what has arrived."""
    for _ in range(int(count)):
        subprocess.run([*words, "--", sys.executable, "-c", SEND, size], check=True)
    until = time.monotonic() + 60
    while len(found := counted()) < int(count) and time.monotonic() < until:
        time.sleep(0.02)
    return found


def counted() -> list[int]:
    with socket.create_connection(("11.0.0.1", 9007), timeout=60) as own:
        found: list[int] = json.loads(own.makefile().read())
    return found


def left() -> list[str]:
    """Return the programs beneath us that run."""
    until = time.monotonic() + 60
    while (found := below()) and time.monotonic() < until:
        time.sleep(0.02)
    return found


def below() -> list[str]:
    """Return the names of those in this user namespace."""
    own, found = os.readlink("/proc/self/ns/user"), []
    for pid, (_, name) in processes().items():
        try:
            if name in PROGRAMS and os.readlink(f"/proc/{pid}/ns/user") == own:
                found.append(name)
        except OSError:
            continue
    return found


def main() -> None:
    at = sys.argv.index("--")
    verb, *arguments = sys.argv[1:at]
    print(json.dumps(globals()[verb](sys.argv[at + 1 :], *arguments)))


if __name__ == "__main__":
    main()
