"""What a hostile command does to reach the host's loopback by way of the program that leads out.

`python loopback_seeker.py PORT`: sends what is for 127.0.0.1 out of its network, by its own packets
and by routes, and prints which of the two a server of the host has answered.
"""

from __future__ import annotations

import socket
import struct
import subprocess
import sys

LOOPBACK = "127.0.0.1"
OWN_PORT = 40123
_ALL_PROTOCOLS, _IPV4 = 3, 0x0800
_SYN, _SYN_ACK = 0x02, 0x12


def way_out() -> tuple[str, str, str]:
    """Return the device, the gateway, and the address there."""
    words = subprocess.run(
        ["ip", "-4", "route", "show", "default"], capture_output=True, text=True, check=True
    ).stdout.split()
    device, gateway = words[words.index("dev") + 1], words[words.index("via") + 1]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.connect((gateway, 9))
        return device, gateway, one.getsockname()[0]


def checksum(data: bytes) -> int:
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return int(~total & 0xFFFF)


def request(own: str, port: int) -> bytes:
    """Return a packet that asks for a connection to the loopback."""
    ends = socket.inet_aton(own) + socket.inet_aton(LOOPBACK)
    tcp = struct.pack(">HHIIBBHHH", OWN_PORT, port, 1, 0, 5 << 4, _SYN, 65535, 0, 0)
    whole = ends + struct.pack(">BBH", 0, socket.IPPROTO_TCP, len(tcp)) + tcp
    tcp = tcp[:16] + struct.pack(">H", checksum(whole)) + tcp[18:]
    head = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(tcp), 1, 0, 64, socket.IPPROTO_TCP, 0) + ends
    return head[:10] + struct.pack(">H", checksum(head)) + head[12:] + tcp


def by_packets(port: int) -> bool:
    device, _, own = way_out()
    kind, mine = struct.pack(">H", _IPV4), struct.pack(">H", OWN_PORT)
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ALL_PROTOCOLS)) as one:
        one.bind((device, _ALL_PROTOCOLS))
        one.settimeout(2)
        one.send(b"\xff" * 6 + one.getsockname()[4] + kind + request(own, port))
        while True:
            frame = one.recv(2048)
            if frame[12:14] == kind and frame[36:38] == mine:
                return frame[47] & 0x3F == _SYN_ACK


def by_routes(port: int) -> bool:
    device, gateway, _ = way_out()
    for line in (
        "echo 1 > /proc/sys/net/ipv4/conf/all/route_localnet",
        "ip addr flush dev lo; ip link set lo down; ip route flush table local dev lo",
        f"ip route add 127.0.0.0/8 via {gateway} dev {device} onlink",
    ):
        subprocess.run(["sh", "-c", line], stderr=subprocess.DEVNULL, check=False)
    with socket.create_connection((LOOPBACK, port), timeout=2):
        return True


def main() -> None:
    for act in (by_packets, by_routes):
        try:
            reached = act(int(sys.argv[1]))
        except OSError as error:
            print(act.__name__, type(error).__name__)
        else:
            print(act.__name__, "reached" if reached else "refused")


if __name__ == "__main__":
    main()
