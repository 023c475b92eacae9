"""Values of our options that other tools have: what to write instead.

Loaded only for an error.
"""

from __future__ import annotations

import os

from pyspaces.commands import values
from pyspaces.errors import visible
from pyspaces.features.confinement.seccomp import DEFAULT
from pyspaces.features.network.uplink import WORDS
from pyspaces.settings import nearest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_LONGEST = 80  # letters of a word that is compared with others

# What the default network of other tools is called.
_LEADS_OUT = ("bridge", "default", "private")

# The types of --mount that have an option of their own, which takes nothing but a target.
_TYPES = ("tmpfs", "proc", "sysfs", "mqueue", "dev")


def of_value(message: str, option: str, value: str) -> str | None:
    """Return what to write instead of a value that other tools have."""
    if f"{option} takes no value" in message:
        return _of_no_value(option, value)
    if not message.startswith(f"{option}: "):
        return None
    if "is not a namespace" in message and "mnt" in value.replace("=", ",").split(","):
        return "mnt is called mount here"
    hint = _READERS[option](value) if option in _READERS else None
    return hint or _of_words(message, option, value)


def _of_words(message: str, option: str, value: str) -> str | None:
    """Return the word that is nearest to one that the error is about, of those the option knows."""
    from pyspaces import settings

    row = next((row for row in settings.SETTINGS if option in (row.option, row.short)), None)
    if row is None:
        return None
    known = [word.removesuffix("=") for word in values.of(row.metavar, row.words)]
    for word in value.split(","):
        typed, _, behind = word.strip().partition("=")[0].partition(":")
        if behind and "errno" in message and f"{visible(behind)!r}" in message:
            near = nearest.words(behind[:_LONGEST].upper(), values.actions(), most=1)
            return f"did you mean {typed}:{near[0]}?" if near else None
        bare = values.without_prefix(row.metavar, typed)
        is_told = visible(bare).lower() in message.lower()
        if not bare or not is_told or {bare, bare.upper(), bare.lower()}.intersection(known):
            continue
        cased = bare.upper() if row.metavar == values.SIGNAL else bare.lower()
        if near := nearest.words(cased[:_LONGEST], known, most=1):
            return f"did you mean {near[0]}?"
    return None


def _of_no_value(option: str, value: str) -> str | None:
    kind, _, name = visible(value).partition(":")
    if value == "host":
        return f"leave {option} out, and the command has that of the host"
    if option == "--user":
        return f"to run as another user: {as_user(value)}"
    if option == "--read-only":
        path = visible(value)
        return f"--read-only is for all that is mounted so far; for one: --ro-bind {path} {path}"
    return f"to join that of {name}: --join {option[2:]}={name}" if kind == "container" else None


def _of_added_host(text: str) -> str | None:
    name, colon, address = visible(text).partition(":")
    return f"write --add-host {name}={address}" if colon and "=" not in text else None


def _of_allowed_host(text: str) -> str | None:
    _, slashes, rest = text.partition("://")
    name = visible(rest.partition("/")[0])
    return f"write the host alone: --allow-host {name}" if slashes else None


def _of_user(text: str) -> str | None:
    return f"write {as_user(text)}" if ":" in text else None


def _of_filter(text: str) -> str | None:
    if text == "unconfined":
        return "leave --seccomp out, and no filter is installed"
    if nearest.words(text[:_LONGEST], (DEFAULT,)):
        return f"did you mean {DEFAULT}?"
    if text.lstrip("@").replace("_", "").replace("-", "").isalnum():
        return f"to refuse a system call, or a group of them: --seccomp-deny {visible(text)}"
    return None


def as_user(text: str) -> str:
    """Return what to write for USER or USER:GROUP."""
    user, colon, group = visible(text).partition(":")
    return f"--setuid {user} --setgid {group}" if colon else f"--setuid {user}"


def _of_mount(text: str) -> str | None:
    kind, comma, _ = text.partition(",")
    source, colon, target = kind.partition(":")
    if comma and kind in ("bind", *_TYPES):
        return f"write --mount=type={visible(text)}"
    if kind in _TYPES:
        return f"write --{kind} DST"
    if kind[:5] == "type=" and (near := nearest.words(kind[5:85], ("bind", *_TYPES), most=1)):
        return f"did you mean type={near[0]}?" if near[0] != kind[5:] else None
    if source in _TYPES and target[:1] == "/":
        return f"write --{source} {visible(target)}"
    return f"write --bind {visible(source)} {visible(target)}" if colon else None


def of_joined(text: str) -> str | None:
    """Return what to write for podman's container:NAME and ns:PATH as a network."""
    kind, _, name = visible(text).partition(":")
    return f"write --net={name}" if kind in ("container", "ns") and name else None


def _of_network(name: str) -> str | None:
    if hint := of_joined(name):
        return hint
    if name == "host":
        return "leave --net out, and the command has the network of the host"
    if name in _LEADS_OUT:
        return "to reach what the host reaches: --net=user"
    if name not in ("", ".", "..") and "/" not in name:
        interface = os.path.join("/sys/class/net", name)
        if os.path.isdir(os.path.join(interface, "bridge")):
            return f"{visible(name)} is a bridge of the host: --net --veth {visible(name)}"
        if os.path.isdir(interface):
            return (
                f"{visible(name)} is an interface of the host:"
                " to reach what the host reaches, write --net=user"
            )
    near = nearest.words(name, (*WORDS, "host"), most=1)
    # The error about one of these is another one.
    return f"did you mean --net={near[0]}?" if near and name not in WORDS else None


_READERS: Mapping[str, Callable[[str], str | None]] = {
    "--add-host": _of_added_host,
    "--allow-host": _of_allowed_host,
    "--mount": _of_mount,
    "--net": _of_network,
    "--seccomp": _of_filter,
    "--setuid": _of_user,
}
