"""The command lines of pasta and slirp4netns, and how the ports of each are published.

The words are made in the parent; what ends in _inner runs in the process beside the program. A
program has the network namespace as its descriptor 0, its owner as 1, and messages as 2.
"""

from __future__ import annotations

import _socket
import os

from pyspaces.errors import Refusal
from pyspaces.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pyspaces.features.network.values import Port

# Where the resolver of the host is reached inside. pasta is given an address that no host has
# (RFC 5737); that of slirp4netns is fixed.
FORWARDERS = {"pasta": "198.51.100.53", "slirp4netns": "10.0.2.3"}
_GUEST = "10.0.2.100"
_LONGEST_ANSWER = 4096
_PATIENCE = 60.0  # seconds for an answer, which comes at once


class Asked(Record):
    """What a program is to do.

    path: its own. ours: whether the network belongs to our own user namespace. host_loopback:
    whether the loopback of the host can be reached. ports: those to publish, of TCP. forward:
    whether the name server of the host is on its loopback.
    """

    path: str
    ours: bool
    host_loopback: bool
    ports: tuple[Port, ...]
    forward: bool


class Program:
    """A program: its command line, and what is done in the process beside it."""

    def __init__(self, words: list[str]) -> None:
        self.words = words

    def before_inner(self) -> None:
        """Do what has to be done before it is started. Raises OSError."""

    def ready_inner(self) -> None:
        """Do what has to be done once it is ready. Raises OSError."""

    def after_inner(self) -> None:
        """Remove what the first of these has made, after the second or a failure."""


class Api(Program):
    """slirp4netns with ports: each is a request to the socket at which it takes them."""

    def __init__(self, words: list[str], ports: Iterable[Port]) -> None:
        from pyspaces.features.existing import runtime  # noqa: PLC0415 - for ports only

        own = runtime.own_directory()
        base = own if own and os.access(own, os.W_OK) else "/tmp"  # noqa: S108 - the name cannot be guessed
        self._directory = f"{base}/pyspaces-uplink-{os.urandom(12).hex()}"
        self._socket = f"{self._directory}/api"
        self._ports = tuple(ports)
        super().__init__([*words[:-2], f"--api-socket={self._socket}", *words[-2:]])

    def before_inner(self) -> None:
        """Make a directory that only this user can enter: the socket is not to be others'."""
        os.mkdir(self._directory, 0o700)

    def ready_inner(self) -> None:
        """Publish the ports. Raises OSError."""
        for port in self._ports:
            _publish_inner(self._socket, port)

    def after_inner(self) -> None:
        """Remove the socket: nothing more is asked for."""
        for remove, path in ((os.unlink, self._socket), (os.rmdir, self._directory)):
            try:
                remove(path)
            except FileNotFoundError:
                continue


def pasta(asked: Asked) -> Program:
    """Return pasta.

    Newer versions close what they inherit beyond descriptor 2, and all drop their rights before
    they open anything. So pasta is given the namespaces as standard streams. The file for its pid
    is the pipe of its messages: it is written when the network is ready.
    """
    words = [asked.path, "-f", "-q", "-P", "/proc/self/fd/2", "--config-net"]
    words += ["--netns", "/proc/self/fd/0"]
    words += ["--netns-only"] if asked.ours else ["--userns", "/proc/self/fd/1"]
    if os.geteuid() == 0:
        words += ["--runas", "0"]
    for port in asked.ports:
        words += ["-t", f"{port.address}/{port.outside}:{port.inside}"]
    words += [] if asked.ports else ["-t", "none"]
    words += ["-u", "none", "-T", "none", "-U", "none"]
    if asked.forward:
        # Not otherwise: it takes an answer of the name server itself for one of the forwarder's.
        words += ["--dns-forward", FORWARDERS["pasta"]]
    return Program([*words, *([] if asked.host_loopback else ["--no-map-gw"])])


def slirp4netns(asked: Asked) -> Program:
    """Return slirp4netns."""
    for port in asked.ports:
        if ":" in port.address:
            raise Refusal("publishes ports of IPv4 addresses only", what="slirp4netns")
    words = [asked.path, "--configure", "--mtu=65520", "--ready-fd=3", "--exit-fd=4"]
    words += ["--enable-seccomp"]
    if os.geteuid() == 0:
        # Otherwise it fails with a path of a user namespace: slirp4netns issue 317.
        words += ["--enable-sandbox"]
    words += [] if asked.host_loopback else ["--disable-host-loopback"]
    words += [] if asked.ours else ["--userns-path=/proc/self/fd/1"]
    words += ["--netns-type=path", "/proc/self/fd/0", "tap0"]
    return Api(words, asked.ports) if asked.ports else Program(words)


ENGINES: dict[str, Callable[[Asked], Program]] = {"pasta": pasta, "slirp4netns": slirp4netns}


def _publish_inner(path: str, port: Port) -> None:
    asked = (
        f'{{"execute": "add_hostfwd", "arguments": {{"proto": "{port.protocol}",'
        f' "host_addr": "{port.address}", "host_port": {port.outside},'
        f' "guest_addr": "{_GUEST}", "guest_port": {port.inside}}}}}'
    )
    own = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM, 0)
    try:
        own.settimeout(_PATIENCE)
        own.connect(path)
        own.sendall(asked.encode())
        own.shutdown(_socket.SHUT_WR)
        answer = own.recv(_LONGEST_ANSWER)
    finally:
        own.close()
    if b'"return"' not in answer:
        text = answer.decode(errors="replace").strip() or "no answer"
        raise Refusal(f"{port.place()}: {text}", what="slirp4netns")
