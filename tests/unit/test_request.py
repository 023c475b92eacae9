"""The request that a proxy reads: what is taken, what is refused, what a server gets to read."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pyspaces.features.network import hosts
from pyspaces.launch.network import request
from pyspaces.launch.network.request import BadRequest, Request, parse


def head_of(*lines: str) -> bytes:
    return "\r\n".join(lines).encode("latin-1")


@pytest.mark.parametrize(
    ("target", "host", "port"),
    [
        ("a.test:443", "a.test", 443),
        ("A.TEST.:443", "a.test", 443),
        ("127.0.0.1:1", "127.0.0.1", 1),
        ("[::1]:443", "::1", 443),
        ("[0:0::1]:443", "::1", 443),
    ],
)
def test_a_tunnel(target: str, host: str, port: int) -> None:
    found = parse(head_of(f"CONNECT {target} HTTP/1.1", "Host: other.test"))
    assert (found.host, found.port, found.tunnel, found.head) == (host, port, True, b"")
    assert (found.address is None) == (host == "a.test")


@pytest.mark.parametrize(
    ("target", "first"),
    [
        ("http://a.test", "GET / HTTP/1.1|Host: a.test"),
        ("http://a.test/", "GET / HTTP/1.1|Host: a.test"),
        ("HTTP://a.test:80/x?y", "GET /x?y HTTP/1.1|Host: a.test:80"),
        ("http://a.test?y", "GET /?y HTTP/1.1|Host: a.test"),
        ("http://a.test//b.test/", "GET //b.test/ HTTP/1.1|Host: a.test"),
    ],
)
def test_the_first_lines_of_a_plain_request(target: str, first: str) -> None:
    found = parse(head_of(f"GET {target} HTTP/1.1", "Host: evil.test", "A: b"))
    lines = found.head.decode().split("\r\n")
    assert lines == [*first.split("|"), "A: b", "Connection: close", "", ""]
    assert (found.host, found.port, found.tunnel, found.body) == ("a.test", 80, False, 0)


def test_what_is_of_one_connection_stays_behind() -> None:
    names = ("Connection: x-one, X-Two, content-length", "Proxy-Connection: a", "Keep-Alive: 5",
             "TE: a", "Trailer: b", "Upgrade: c", "Proxy-Authorization: d", "X-One: 1",
             "x-two: 2", "X-Three: 3", "content-LENGTH: 7", "Host: e")  # fmt: skip
    found = parse(head_of("POST http://a.test/ HTTP/1.0", *names))
    assert found.head.decode().split("\r\n")[1:-3] == [
        *("Host: a.test", "X-Three: 3", "content-LENGTH: 7"),
    ]
    assert found.body == 7


@pytest.mark.parametrize(
    "lines",
    [
        [""],
        ["GET"],
        ["GET / HTTP/1.1"],
        ["GET  http://a.test/ HTTP/1.1"],
        ["GET http://a.test/ HTTP/1.1 "],
        ["GET http://a.test/ HTTP/2.0"],
        ["GET http://a.test/ http/1.1"],
        ["G(T http://a.test/ HTTP/1.1"],
        ["GET https://a.test/ HTTP/1.1"],
        ["GET ftp://a.test/ HTTP/1.1"],
        ["GET http:///x HTTP/1.1"],
        ["GET http://u@a.test/ HTTP/1.1"],
        ["GET http://u:p@a.test/ HTTP/1.1"],
        ["GET http://a.test\\@b.test/ HTTP/1.1"],
        ["GET http://a.test#b.test/ HTTP/1.1"],
        ["GET http://a.test:/ HTTP/1.1"],
        ["GET http://a.test:080x/ HTTP/1.1"],
        ["GET http://a.test:65536/ HTTP/1.1"],
        ["GET http://127.1/ HTTP/1.1"],
        ["GET http://0x7f000001/ HTTP/1.1"],
        ["GET http://[::1/ HTTP/1.1"],
        ["GET http://[a.test]/ HTTP/1.1"],
        ["GET http://[::1%lo]/ HTTP/1.1"],
        ["GET http://[127.0.0.1]/ HTTP/1.1"],
        ["GET http://::1/ HTTP/1.1"],
        ["GET http://ä.test/ HTTP/1.1"],
        ["GET http://a.test/\0 HTTP/1.1"],
        ["GET http://a.test/\n HTTP/1.1"],
        ["GET http://a.test/ HTTP/1.1", "A b"],
        ["GET http://a.test/ HTTP/1.1", "A : b"],
        ["GET http://a.test/ HTTP/1.1", ": b"],
        ["GET http://a.test/ HTTP/1.1", "A: b", " folded"],
        ["GET http://a.test/ HTTP/1.1", "A: b\nHost: c"],
        ["GET http://a.test/ HTTP/1.1", "A: b\rHost: c"],
        ["POST http://a.test/ HTTP/1.1", "Content-Length: 1", "Content-Length: 2"],
        ["POST http://a.test/ HTTP/1.1", "Content-Length: +1"],
        ["POST http://a.test/ HTTP/1.1", "Content-Length: -1"],
        ["POST http://a.test/ HTTP/1.1", "Content-Length: 1, 1"],
        ["POST http://a.test/ HTTP/1.1", "Content-Length:"],
        ["POST http://a.test/ HTTP/1.1", "Transfer-Encoding: chunked"],
        ["POST http://a.test/ HTTP/1.1", "transfer-encoding: identity", "Content-Length: 1"],
        ["CONNECT a.test HTTP/1.1"],
        ["CONNECT http://a.test:443 HTTP/1.1"],
        ["CONNECT a.test:443/x HTTP/1.1"],
        ["CONNECT a.test:0 HTTP/1.1"],
        ["CONNECT a.test:443:443 HTTP/1.1"],
    ],
)
def test_what_is_refused(lines: list[str]) -> None:
    with pytest.raises(BadRequest) as caught:
        parse(head_of(*lines))
    assert caught.value.status[:3].isdigit()
    answer = request.answer(caught.value.status, caught.value.reason)
    assert answer.startswith((b"HTTP/1.1 4", b"HTTP/1.1 505"))


def check(found: Request) -> None:
    """What holds for each request that is let through."""
    assert 0 < found.port < 65536
    assert hosts.address_of(found.host) == found.address
    assert found.address is not None or hosts.is_name(found.host)
    if found.tunnel:
        assert (found.head, found.body) == (b"", None)
        return
    assert found.body is not None
    assert found.body >= 0
    head, end, rest = found.head.partition(request.END)
    assert (end, rest) == (request.END, b"")
    lines = head.split(b"\r\n")
    assert not any(byte in line for line in lines for byte in b"\r\n\0")
    names = [line.partition(b":")[0].lower() for line in lines[1:]]
    assert names.count(b"host") == 1
    assert names.count(b"connection") == 1
    assert names.count(b"content-length") <= 1
    assert not {b"transfer-encoding", b"upgrade", b"te", b"proxy-authorization"} & {*names}
    place = lines[1].partition(b": ")[2].decode("ascii").lower()
    name = f"[{found.host}]" if found.address and len(found.address) == 16 else found.host
    if found.address is None:
        assert place.partition(":")[0].removesuffix(".") == name
    # As the server reads it, it leads to nowhere else.
    method, path, _ = lines[0].split(b" ")
    assert path[:1] == b"/"
    assert method != b"CONNECT"


TOKEN = st.sampled_from(
    [
        *(
            "GET",
            "POST",
            "CONNECT",
            "http://",
            "https://",
            "a.test",
            "evil.test",
            "127.0.0.1",
            "[::1]",
        ),
        *(
            " ",
            "\r\n",
            "\n",
            "\r",
            "\0",
            "\t",
            ":",
            "/",
            "?",
            "#",
            "@",
            "%0d%0a",
            "\\",
            ".",
            "80",
            "-1",
        ),
        *("HTTP/1.1", "HTTP/1.0", "Host", "Content-Length", "Transfer-Encoding", "chunked", "5"),
        *("Connection", "close", ",", "x", "ä", "*", "localhost", "0x7f.1", ";", "\x7f", "\x85"),
    ]
)


@given(st.binary(max_size=400))
@example(b"GET http://a.test/ HTTP/1.1\r\n\r\n")
def test_any_bytes_are_a_request_or_refused(data: bytes) -> None:
    try:
        found = parse(data.partition(request.END)[0])
    except BadRequest:
        return
    check(found)


@given(st.lists(TOKEN, max_size=25))
def test_any_words_are_a_request_or_refused(words: list[str]) -> None:
    test_any_bytes_are_a_request_or_refused.hypothesis.inner_test(  # type: ignore[attr-defined]
        "".join(words).encode("latin-1")
    )


@given(
    st.sampled_from(["GET http://", "POST HTTP://", "CONNECT "]),
    st.lists(TOKEN, min_size=1, max_size=6),
    st.lists(st.tuples(TOKEN, TOKEN, TOKEN), max_size=5),
)
def test_requests_that_are_nearly_right(
    begin: str, target: list[str], headers: list[tuple[str, str, str]]
) -> None:
    lines = [f"{begin}{''.join(target)} HTTP/1.1"]
    lines += [f"{name}: {value}{more}" for name, value, more in headers]
    test_any_bytes_are_a_request_or_refused.hypothesis.inner_test(  # type: ignore[attr-defined]
        "\r\n".join(lines).encode("latin-1")
    )
