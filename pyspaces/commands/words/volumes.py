"""Values of --volume, --tmpfs and --device of podman and docker, as our operations on mounts. Pure.

Each function returns the words of options. Raises Unknown for what has no counterpart.
"""

from __future__ import annotations


class Unknown(ValueError):
    """A value without a counterpart: why, and what to write instead."""


def volume(text: str) -> list[str]:
    """Return the words for SOURCE:TARGET[:OPTION,...]."""
    source, colon, rest = text.partition(":")
    target, _, more = rest.partition(":")
    if not colon:
        raise Unknown("a volume without a source has no counterpart: write --tmpfs TARGET")
    if "/" not in source and source not in (".", ".."):
        raise Unknown(f"a volume by a name has no counterpart: write a directory, ./{source}")
    options = [word for word in more.split(",") if word]
    read_only = "ro" in options
    words = [*(["--noexec"] if "noexec" in options else [])]
    if "O" in options:
        return [*words, "--overlay-src", source, "--tmp-overlay", target]
    kind = "--bind"
    if read_only:
        kind = "--ro-bind"
    elif "dev" in options:
        kind = "--dev-bind"
    elif "suid" in options:
        kind = "--bind-suid"
    known = ("ro", "rw", "noexec", "exec", "dev", "nodev", "suid", "nosuid", "rbind", "O")
    for option in options:
        if option in ("z", "Z"):
            raise Unknown(f"{option}: no labels of SELinux are set here: leave it out")
        if option not in known:
            raise Unknown(f"{option}: has no counterpart: leave it out")
    return [*words, kind, source, target]


def tmpfs(text: str) -> list[str]:
    """Return the words for TARGET[:OPTION,...]."""
    target, _, more = text.partition(":")
    words = []
    for option in filter(None, more.split(",")):
        name, _, value = option.partition("=")
        if name == "size":
            words += ["--size", value]
        elif name == "mode":
            words += ["--perms", value]
        elif name == "noexec":
            words.append("--noexec")
        elif name not in ("rw", "exec", "nodev", "nosuid"):
            raise Unknown(f"{option}: has no counterpart: leave it out")
    if "--perms" not in words:
        words += ["--perms", "1777"]  # theirs, as that of /tmp
    return [*words, "--tmpfs", target]


def device(text: str) -> list[str]:
    """Return the words for SOURCE[:TARGET[:rwm]]."""
    source, _, rest = text.partition(":")
    target, _, rights = rest.partition(":")
    if "/" not in target and not rights and target:
        target, rights = "", target
    if rights not in ("", "rwm", "rw"):
        raise Unknown(f"{rights}: the rights to a device are those of its file: leave it out")
    return ["--dev-bind", source, target or source]


def mount(text: str) -> list[str]:
    """Return the words for the value of --mount, which is the same here."""
    if not text.startswith("type=") and ",type=" not in text:
        raise Unknown("without a type it is a volume by a name, which has no counterpart")
    if "type=volume" in text or "type=image" in text or "type=glob" in text:
        raise Unknown("only bind, tmpfs and file systems of the kernel can be mounted")
    return [f"--mount={text}"]


READERS = {"--volume": volume, "--tmpfs": tmpfs, "--device": device, "--mount": mount}
