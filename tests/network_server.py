"""A server for tests of the network: run inside, or on the host; one word says what it does.

`python network_server.py VERB FAMILY PORT`: the port is 0 for one that the kernel picks. Prints
"ready PORT" once it listens. Of the verbs: echo sends back what comes, and its end; flood sends as
long as somebody reads; tail reads all, and then tells how much it was; half sends "bye", and then
tells what came after that; udp sends each datagram back, turned round.
"""

from __future__ import annotations

import socket
import sys
import threading

PIECE = 1 << 18


def echo(one: socket.socket) -> None:
    while data := one.recv(PIECE):
        one.sendall(data)


def flood(one: socket.socket) -> None:
    one.recv(1)
    while True:
        one.sendall(bytes(PIECE))


def tail(one: socket.socket) -> None:
    count = 0
    while data := one.recv(PIECE):
        count += len(data)
    one.sendall(str(count).encode())


def half(one: socket.socket) -> None:
    one.sendall(b"bye")
    one.shutdown(socket.SHUT_WR)
    told = b""
    while data := one.recv(PIECE):
        told += data
    print("told", told.decode(), flush=True)


def udp(own: socket.socket) -> None:
    while True:
        data, peer = own.recvfrom(65535)
        own.sendto(data[::-1], peer)


def serve(one: socket.socket, verb: str) -> None:
    with one:
        try:
            globals()[verb](one)
        except OSError:
            print("broken", flush=True)


def main() -> None:
    verb, address, port = sys.argv[1:]
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    if verb == "udp":
        own = socket.socket(family, socket.SOCK_DGRAM)
        own.bind((address, int(port)))
    else:
        both = address == "::"
        own = socket.create_server(
            (address, int(port)), family=family, backlog=1024, dualstack_ipv6=both
        )
    print("ready", own.getsockname()[1], flush=True)
    if verb == "udp":
        udp(own)
    while True:
        one, _ = own.accept()
        threading.Thread(target=serve, args=(one, verb), daemon=True).start()


if __name__ == "__main__":
    main()
