"""What a command does that has a proxy, and what one tries that wants more than that.

`python network_client.py VERB ARGUMENT...`, each of which prints one line. get: URLs, by urllib,
which finds the proxy by the environment. raw: requests as they are to be sent, of which the status
and the body of the answer are printed; "\\n" stands for a line's end. direct: HOST:PORT to connect
to without the proxy.
"""

from __future__ import annotations

import os
import socket
import sys
import urllib.error
import urllib.request


def get(url: str) -> str:
    try:
        with urllib.request.urlopen(url, timeout=60) as answer:
            return f"{answer.status} {answer.headers['X-At']}"
    except urllib.error.HTTPError as error:
        return f"{error.code} {error.read().decode().strip()}"
    except OSError as error:
        return f"failed {error}"


def raw(text: str) -> str:
    host, _, port = os.environ["http_proxy"].removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=60) as one:
        one.sendall(text.replace("\\n", "\r\n").encode("latin-1"))
        found = b""
        try:
            while data := one.recv(1 << 16):
                found += data
        except OSError:
            found += b"(reset)"
    return repr(found.decode("latin-1"))


def direct(place: str) -> str:
    host, _, port = place.rpartition(":")
    try:
        with socket.create_connection((host, int(port)), timeout=5):
            return "connected"
    except OSError as error:
        return f"failed {type(error).__name__} {error.errno}"


if __name__ == "__main__":
    for argument in sys.argv[2:]:
        print(globals()[sys.argv[1]](argument), flush=True)
