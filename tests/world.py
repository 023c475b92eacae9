"""A world in a box: a network with an "internet" beside it, and nothing that leaves either.

Run in new user, mount and network namespaces, with a resolv.conf that names 11.0.0.1. The internet
is another network namespace, with public addresses, a web server at port 80 and 443 of each, and a
DNS server. Runs the command lines given as JSON, one after the other, and prints what became of
them: [[status, output, errors], ...].
"""

from __future__ import annotations

import json
import os
import socket
import struct
import subprocess
import sys
import threading
import time

SERVER, OTHER, HOST = "11.0.0.1", "11.0.0.5", "11.0.0.2"
NAMES = {
    "good.test": [SERVER],
    "www.good.test": [OTHER],
    "evil.test": [SERVER],
    "local.test": ["127.0.0.1"],
    "host.test": [HOST],  # an address of the host itself, which is public
    "mixed.test": ["127.0.0.1", SERVER],
    "inner.test": ["10.0.0.1"],
    "dead.test": ["11.0.0.77"],
}
asked: dict[str, int] = {}


def answers(name: str) -> list[str]:
    asked[name] = asked.get(name, 0) + 1
    if name == "rebind.test":  # another answer each time
        return [SERVER] if asked[name] % 2 else ["127.0.0.1"]
    return NAMES.get(name, [])


def serve_names(own: socket.socket) -> None:
    while True:
        data, peer = own.recvfrom(512)
        at, labels = 12, []
        while data[at]:
            labels.append(data[at + 1 : at + 1 + data[at]].decode())
            at += 1 + data[at]
        kind = data[at + 1 : at + 3]
        found = answers(".".join(labels).lower()) if kind == b"\0\1" else []
        known = ".".join(labels).lower() in {*NAMES, "rebind.test"}
        head = data[:2] + struct.pack(">HHHHH", 0x8180 if known else 0x8183, 1, len(found), 0, 0)
        rows = b"".join(
            b"\xc0\x0c\0\1\0\1\0\0\0\0\0\4" + socket.inet_aton(address) for address in found
        )
        own.sendto(head + data[12 : at + 5] + rows, peer)


def serve_web(own: socket.socket) -> None:
    while True:
        one, _ = own.accept()
        threading.Thread(target=answer, args=(one,), daemon=True).start()


def answer(one: socket.socket) -> None:
    """Send back what came: the request, up to the end of its body, and all that follows it."""
    with one:
        data = b""
        while b"\r\n\r\n" not in data:
            piece = one.recv(4096)
            if not piece:
                return
            data += piece
        head, _, rest = data.partition(b"\r\n\r\n")
        body = bytearray(rest)
        length = 0
        for line in head.split(b"\r\n")[1:]:
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
        while len(body) < length:
            body += one.recv(1 << 16)
        # No test sends more behind a request without a body.
        one.settimeout(0.3 if length else 0)
        try:
            while piece := one.recv(1 << 16):
                body += piece
        except (TimeoutError, BlockingIOError):
            pass
        one.settimeout(None)
        told = (
            head + b"\n--\n%d bytes" % len(body) + (b": " + bytes(body) if len(body) < 100 else b"")
        )
        one.sendall(
            b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nX-At: %s\r\n\r\n%s"
            % (len(told), one.getsockname()[0].encode(), told)
        )


def sink(own: socket.socket, counts: list[int]) -> None:
    """Count what comes in each connection, to its end."""
    while True:
        one, _ = own.accept()
        with one:
            total = 0
            while data := one.recv(1 << 18):
                total += len(data)
        counts.append(total)


def count(own: socket.socket, counts: list[int]) -> None:
    """Tell the counts to whoever asks, which the host does."""
    while True:
        one, _ = own.accept()
        with one:
            one.sendall(json.dumps(counts).encode())


def be_internet(ready: int) -> None:
    words = [*("ip", "addr", "add")]
    for place in (SERVER, OTHER):
        subprocess.run([*words, f"{place}/24", "dev", "eth0"], check=True)
    subprocess.run(["ip", "link", "set", "eth0", "up"], check=True)
    names = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    names.bind((SERVER, 53))
    serving = [(serve_names, names)]
    for place in (SERVER, OTHER):
        serving += [(serve_web, socket.create_server((place, port))) for port in (80, 443, 8080)]
    for act, own in serving:
        threading.Thread(target=act, args=(own,), daemon=True).start()
    counts: list[int] = []
    sinks = (socket.create_server((SERVER, 9009)), socket.create_server((SERVER, 9007)))
    for tell, own in zip((sink, count), sinks, strict=True):
        threading.Thread(target=tell, args=(own, counts), daemon=True).start()
    os.write(ready, b".")
    time.sleep(600)


def main() -> None:
    if sys.argv[1] == "internet":
        be_internet(int(sys.argv[2]))
        return
    holder = subprocess.Popen(["unshare", "--net", "sleep", "600"])
    while os.readlink(f"/proc/{holder.pid}/ns/net") == os.readlink("/proc/self/ns/net"):
        time.sleep(0.01)
    for line in (
        f"ip link add wan0 type veth peer name eth0 netns {holder.pid}",
        f"ip addr add {HOST}/24 dev wan0",
        "ip link set wan0 up",
        # pasta takes addresses and routes from the interface of this one.
        f"ip route add default via {SERVER}",
    ):
        subprocess.run(line.split(), check=True)
    reading, writing = os.pipe()
    own = [sys.executable, __file__, "internet", str(writing)]
    internet = subprocess.Popen(
        ["nsenter", f"--net=/proc/{holder.pid}/ns/net", *own], pass_fds=[writing]
    )
    os.close(writing)
    assert os.read(reading, 1) == b"."
    # What a sandbox must not reach: a service of the host, at each of its addresses.
    hidden = socket.create_server(("", 80))
    threading.Thread(target=serve_web, args=(hidden,), daemon=True).start()
    # A resolver of the host that nobody else reaches, as systemd-resolved is one.
    stub = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    stub.bind(("127.0.0.53", 53))
    threading.Thread(target=serve_names, args=(stub,), daemon=True).start()
    told = []
    for words in json.loads(sys.argv[1]):
        done = subprocess.run(
            words, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
        )
        told.append([done.returncode, done.stdout, done.stderr])
    internet.kill()
    holder.kill()
    print(json.dumps(told))


if __name__ == "__main__":
    main()
