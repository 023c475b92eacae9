"""The first lines of a request to a proxy: HTTP/1.1 (RFC 9112), the parts that a proxy needs.

Pure; runs in the proxy. What can be read in two ways is refused: a server might read it the other
way.
"""

from __future__ import annotations

from pyspaces.features.network import hosts
from pyspaces.record import Record

LARGEST = 1 << 15  # bytes of the request line and all headers
END = b"\r\n\r\n"
_TOKEN = frozenset(b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
_VERSIONS = (b"HTTP/1.0", b"HTTP/1.1")
# What is about one connection, and not about the request: RFC 9110, 7.6.1.
_ONE_HOP = frozenset(
    (
        *(b"connection", b"proxy-connection", b"keep-alive", b"te", b"trailer", b"upgrade"),
        *(b"proxy-authorization", b"proxy-authenticate", b"host", b"transfer-encoding"),
    )
)


class BadRequest(Exception):
    """A malformed request. status: the status line of the answer."""

    def __init__(self, reason: str, status: str = "400 Bad Request") -> None:
        super().__init__(reason)
        self.reason, self.status = reason, status


class Request(Record):
    """A request.

    host: in lower case; an address without brackets. address: its bytes, if it is one. tunnel:
    whether it is a CONNECT. head: what the server gets to read first; empty for a tunnel. body: how
    many bytes the client sends after the head; None for a tunnel.
    """

    host: str
    port: int
    address: bytes | None
    tunnel: bool
    head: bytes = b""
    body: int | None = None


def parse(head: bytes) -> Request:
    """Read a request, up to the empty line and without that. Raises BadRequest."""
    lines = head.split(b"\r\n")
    if any(_has_controls(line) for line in lines):
        raise BadRequest("a control character in the request")
    method, target, version = _words(lines[0])
    headers = [_header(line) for line in lines[1:]]
    if method == b"CONNECT":
        host, port, address = _authority(target, None)
        return Request(host=host, port=port, address=address, tunnel=True)
    scheme, found, rest = target.partition(b"://")
    if not found or scheme.lower() != b"http":
        raise BadRequest("this is a proxy: it takes CONNECT and http:// only")
    place, path = _split_target(rest)
    host, port, address = _authority(place, 80)
    body = _length(headers)
    kept = [b"%s: %s" % header for header in headers if _is_kept(header[0], headers)]
    first = b"%s %s %s" % (method, path, version)
    text = b"\r\n".join([first, b"Host: " + place, *kept, b"Connection: close", b"", b""])
    return Request(host=host, port=port, address=address, tunnel=False, head=text, body=body)


def _has_controls(line: bytes) -> bool:
    return any((byte < 0x20 and byte != 0x09) or byte == 0x7F for byte in line)


def _words(line: bytes) -> tuple[bytes, bytes, bytes]:
    words = line.split(b" ")
    if len(words) != 3 or not words[0] or not _TOKEN.issuperset(words[0]):
        raise BadRequest("this is not a request line of HTTP/1.1")
    method, target, version = words
    if version not in _VERSIONS:
        raise BadRequest("only HTTP/1.0 and HTTP/1.1 are known", "505 HTTP Version Not Supported")
    if not target or any(not 0x21 <= byte <= 0x7E for byte in target) or b"#" in target:
        raise BadRequest("the target has invalid characters")
    return method, target, version


def _header(line: bytes) -> tuple[bytes, bytes]:
    name, colon, value = line.partition(b":")
    if not colon or not name or not _TOKEN.issuperset(name):
        raise BadRequest("a header line has no name")
    return name, value.strip(b" \t")


def _split_target(rest: bytes) -> tuple[bytes, bytes]:
    """Return the authority and what stands behind it, as a server takes that."""
    for at, byte in enumerate(rest):
        if byte in b"/?":
            path = rest[at:]
            return rest[:at], path if path[:1] == b"/" else b"/" + path
    return rest, b"/"


def _authority(place: bytes, usual: int | None) -> tuple[str, int, bytes | None]:
    """Return the host, the port, and the bytes of the address, if the host is one."""
    text = place.decode("ascii")
    if text[:1] == "[":
        host, bracket, rest = text[1:].partition("]")
        address = hosts.address_of(host)
        if not bracket or address is None or len(address) != 16 or rest[:1] not in ("", ":"):
            raise BadRequest("the host is not an IPv6 address")
        port = rest[1:] if rest else None
        host = hosts.text_of(address)
    else:
        host, colon, rest = text.partition(":")
        port = rest if colon else None
        address = hosts.address_of(host)
        host = host.lower().removesuffix(".")
        if (address is None and not hosts.is_name(host)) or (address and len(address) != 4):
            raise BadRequest("the host is neither a name nor an address")
    return host, _port(port, usual), address


def _port(text: str | None, usual: int | None) -> int:
    if text is None and usual is not None:
        return usual
    if not text or not text.isdecimal() or len(text) > 5 or not 0 < int(text) < 65536:
        raise BadRequest("the port is not a number from 1 to 65535")
    return int(text)


def _length(headers: list[tuple[bytes, bytes]]) -> int:
    """Return how long the body is. Raises BadRequest if the headers do not say it."""
    if any(name.lower() == b"transfer-encoding" for name, _ in headers):
        raise BadRequest("the length of the body has to be given", "411 Length Required")
    found = [value for name, value in headers if name.lower() == b"content-length"]
    if not found:
        return 0
    value, *more = found
    if more or not value.isdigit() or len(value) > 18:
        raise BadRequest("the length of the body is not one number")
    return int(value)


def _is_kept(name: bytes, headers: list[tuple[bytes, bytes]]) -> bool:
    """Return whether a header is for the server."""
    named = b",".join(value for other, value in headers if other.lower() == b"connection")
    of_connection = {word.strip(b" \t").lower() for word in named.split(b",")} - {b"content-length"}
    return name.lower() not in _ONE_HOP | of_connection


def answer(status: str, text: str) -> bytes:
    """Return an answer of our own, after which the connection ends.

    text: without control characters. It is in the first line too: of the answer to CONNECT, clients
    show nothing else.
    """
    body = f"pyspaces: {text}\n".encode()
    head = (
        f"HTTP/1.1 {status} (pyspaces: {text})\r\nContent-Type: text/plain; charset=utf-8\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + body


ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"
