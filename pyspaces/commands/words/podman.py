"""podman-run(1), and docker-run(1), which has the same words: what a command line becomes.

What these engines do by default is in `_begun`: new namespaces of all types but time, and the ids
of a rootless container. Their capabilities and system call filter are not repeated.
"""

from __future__ import annotations

from pyspaces.commands.words import volumes
from pyspaces.commands.words.table import Line, Translation, Word, none, ours, same, scan, special
from pyspaces.errors import UsageFault

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pyspaces.commands.words.table import Caller

NAME = "podman run"
_NO_ENGINE = "there is no engine that keeps containers"
_NO_IMAGE = "there are no images"
_SHARED = "join namespaces by --join NS=NAME"
TABLE: dict[str, Word] = {
    # What happens anyway: nothing of a launch is left, and streams are passed on.
    **dict.fromkeys(("--rm", "--interactive", "--quiet"), Word()),
    **special("--rootfs"),
    "--tty": ours("--pty"),
    **same("--init"),
    **special("--read-only"),
    **same("--name --hostname --umask --cpus --ip --dns --oom-score-adj", 1),
    **special("--network --net --pid --ipc --uts --cgroupns --userns", 1),
    **special("--uidmap --gidmap --user", 1),
    **special("--volume --mount --tmpfs --device --publish --add-host", 1),
    **special("--env --entrypoint --security-opt --memory --memory-swap --cap-add --cap-drop", 1),
    **special("--timeout --pids-limit", 1),
    "--workdir": ours("--workdir {0}", 1),
    "--unsetenv": ours("--unsetenv {0}", 1),
    "--unsetenv-all": ours("--clearenv"),
    "--env-host": Word(),
    "--cpuset-cpus": ours("--cpu-list {0}", 1),
    "--ulimit": ours("--rlimit {0}", 1),
    "--pidfile": ours("--pid-file {0}", 1),
    "--privileged": none("the command has the capabilities that the options leave to it"),
    "--detach": none("put & behind the line; --name makes `pyspaces stop` find it"),
    "--env-file": none("write --setenv VAR VALUE for each of its lines", 1),
    "--group-add": none("write --groups with all groups", 1),
    "--sysctl": none("write to /proc/sys inside", 1),
    "--shm-size": none("write --size SIZE --tmpfs /dev/shm", 1),
    "--cpu-shares": none("write --cpus", 1),
    "--cpu-period": none("write --cpus", 1),
    "--cpu-quota": none("write --cpus", 1),
    "--memory-reservation": none("write --memory", 1),
    "--blkio-weight": none("write --io-weight, from 1 to 10000", 1),
    "--publish-all": none("write --publish OUTSIDE:INSIDE for each port"),
    "--stop-signal": none("`pyspaces stop` sends TERM", 1),
    "--stop-timeout": none("write `pyspaces stop` with its own limit", 1),
    "--volumes-from": none(_NO_ENGINE, 1),
    **dict.fromkeys(("--pod", "--network-alias"), none(_SHARED, 1)),
    **dict.fromkeys(("--restart", "--label", "--log-driver", "--log-opt"), none(_NO_ENGINE, 1)),
    **dict.fromkeys(("--health-cmd", "--health-interval", "--cidfile"), none(_NO_ENGINE, 1)),
    **dict.fromkeys(("--gpus", "--runtime", "--secret", "--annotation"), none(_NO_ENGINE, 1)),
    **dict.fromkeys(("--replace", "--systemd"), none(_NO_ENGINE)),
    **dict.fromkeys(("--pull", "--platform", "--arch", "--tz"), none(_NO_IMAGE, 1)),
    "--sig-proxy": Word(),
}
SHORT = {
    "i": "--interactive",
    "t": "--tty",
    "q": "--quiet",
    "h": "--hostname",
    "u": "--user",
    "v": "--volume",
    "p": "--publish",
    "P": "--publish-all",
    "e": "--env",
    "w": "--workdir",
    "m": "--memory",
    "d": "--detach",
    "l": "--label",
    "c": "--cpu-shares",
}
# The namespaces of a container, each with the option that says otherwise.
_OWN = {"pid": "--pid", "net": "--network", "uts": "--uts", "ipc": "--ipc", "cgroup": "--cgroupns"}
_FACTORS = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


def translate(words: Sequence[str], caller: Caller) -> Translation:
    """Translate the words behind `podman run`. Raises UsageFault for what it would refuse."""
    given, rest = scan(NAME, words, TABLE, SHORT)
    given = [("--network" if option == "--net" else option, values) for option, values in given]
    last = dict(given)
    line = Line(NAME, caller)
    rooted = "--rootfs" in last
    first, command = _root(line, last, rest, rooted=rooted)
    begun = [*_namespaces(line, last), *_identity(line, given, last), *first]
    for option, values in given:
        if TABLE[option].special:
            _take(line, option, values, last)
        else:
            line.take(option, TABLE[option], values)
    if not command and not any(last.get("--entrypoint", ())):
        line.lacks("command", "an image may name one, but a directory does not: add it")
    entry = _entry(*last.get("--entrypoint", ("",)))
    return line.ended("run", begun, [*entry, *command])


def _entry(text: str) -> list[str]:
    """Return the words of --entrypoint: a list as JSON, or one word; an empty one takes it away."""
    if text[:1] == "[":
        import json  # what few lines need

        try:
            words = json.loads(text)
        except (ValueError, RecursionError):
            return [text]
        if all(isinstance(word, str) for word in words):
            return [*words]
    return [text] if text else []


def _root(
    line: Line, given: dict[str, tuple[str, ...]], rest: list[str], *, rooted: bool
) -> tuple[list[str], list[str]]:
    """Return the options for the root directory, and the command."""
    if not rest:
        raise UsageFault([f"{NAME}: no {'directory' if rooted else 'image'} given"])
    image, command = rest[0], rest[1:]
    root = image.partition(":")[0]
    if not rooted:
        line.lacks(
            image,
            f"{_NO_IMAGE}: put a directory with its files in the place of DIR (podman export)",
        )
        root = "DIR"
    read_only = ["--read-only"] if "--read-only" in given else []
    workdir = [] if "--workdir" in given else ["--workdir", "/"]
    return ["--root", root, *read_only, "--dev", "/dev", *workdir], command


def _namespaces(line: Line, given: dict[str, tuple[str, ...]]) -> list[str]:
    found = []
    for name, option in _OWN.items():
        value = given.get(option, ("",))[0]
        mode, _, other = value.partition(":")
        if name == "net":
            found += _network(line, value)
        elif mode == "host":
            continue
        elif mode in ("", "private", "shareable"):
            found.append(f"--{name}")
        elif mode in ("container", "ns") and other:
            found += ["--join", f"{name}={other}"]
        else:
            line.lacks(f"{option}={value}", "give private, host, container:NAME or ns:PATH")
    return found


def _network(line: Line, value: str) -> list[str]:
    mode, _, other = value.partition(":")
    if mode in ("", "bridge", "private", "slirp4netns", "pasta"):
        if other:
            line.lacks(f"--network={value}", f"options of {mode} are chosen by --net=user")
        return [f"--net={mode if mode in ('slirp4netns', 'pasta') else 'user'}"]
    if mode in ("container", "ns") and other:
        return [f"--net={other}"]
    return {"none": ["--net"], "host": []}.get(mode, [f"--net={value}"])


def _identity(
    line: Line, given: list[tuple[str, tuple[str, ...]]], last: dict[str, tuple[str, ...]]
) -> list[str]:
    """Return the options for ids: root inside is the caller, and the others are subordinate."""
    maps = []
    for option, values in given:
        if option in ("--uidmap", "--gidmap"):
            text = values[0] if values[0].count(":") == 2 else f"{values[0]}:1"
            maps += [f"--map-{option[2:5]}", text]
    if maps and not line.caller.is_root:
        line.lacks("--uidmap", "podman counts in a namespace of its own: give the ids of the host")
    if maps:
        return maps
    mode = last.get("--userns", ("",))[0]
    if mode == "host" or (not mode and line.caller.is_root):
        return []
    if mode in ("keep-id", "nomap"):
        return ["--map-current"]
    if mode not in ("", "auto", "private"):
        line.lacks(f"--userns={mode}", "give --map-uid and --map-gid")
        return []
    return ["--map-auto"]


def _take(
    line: Line, option: str, values: tuple[str, ...], given: dict[str, tuple[str, ...]]
) -> None:
    """Take an option whose value has to be looked at."""
    value = values[0] if values else ""
    if option in volumes.READERS:
        try:
            line.options += volumes.READERS[option](value)
        except volumes.Unknown as fault:
            line.lacks(f"{option} {value}", str(fault))
    elif option == "--memory-swap":
        _swap(line, value, given.get("--memory", ("0",))[0])
    elif option == "--cap-add" and "--cap-drop" not in given:
        return  # root inside has all of them
    elif option in _TAKERS:  # the others are taken already
        _TAKERS[option](line, option, value)


def _variable(line: Line, option: str, value: str) -> None:
    del option
    name, equals, text = value.partition("=")
    if equals:  # without a value, it is passed on
        line.add("--setenv", name, text)


def _user(line: Line, option: str, value: str) -> None:
    del option
    user, colon, group = value.partition(":")
    line.add("--setuid", user)
    if colon:
        line.add("--setgid", group)


def _host(line: Line, option: str, value: str) -> None:
    line.add(option, value.replace(":", "=", 1))


def _memory(line: Line, option: str, value: str) -> None:
    size = _bytes(value) if "." in value else None
    line.add(option, str(size) if size else value.removesuffix("b") or value)


def _timeout(line: Line, option: str, value: str) -> None:
    if value != "0":  # which is no limit
        line.add(option, value)


def _processes(line: Line, option: str, value: str) -> None:
    del option
    if value not in ("0", "-1"):  # which are no limit
        line.add("--pids", value)


def _publish(line: Line, option: str, value: str) -> None:
    ports, slash, protocol = value.partition("/")
    address, outside, inside = ["", "", *ports.rsplit(":", 2)][-3:]
    # Where these engines listen, and not on the loopback; without a port they pick one.
    ports = f"{address or '0.0.0.0'}:{outside or 0}:{inside}"  # noqa: S104
    line.add(option, ports + (f"/{protocol}" if slash and protocol != "tcp" else ""))


def _security(line: Line, option: str, value: str) -> None:
    name, _, text = value.replace(":", "=", 1).partition("=")
    if name == "no-new-privileges" and text in ("", "true"):
        line.add("--no-new-privs")
    elif name == "seccomp" and text == "unconfined":
        return
    elif name == "seccomp":
        line.add("--seccomp", text)
    else:
        line.lacks(f"{option} {value}", "no labels of SELinux or AppArmor are set here")


def _capabilities(line: Line, option: str, value: str) -> None:
    name = value.lower().removeprefix("cap_")
    if option == "--cap-add" and name == "all":
        line.lacks("--cap-add all", "leave --cap-drop out")
    else:
        line.add(option, name)


def _swap(line: Line, value: str, memory: str) -> None:
    """Add --swap: theirs is the sum of both."""
    if value == "-1":
        line.add("--swap", "unlimited")
        return
    both, one = _bytes(value), _bytes(memory)
    if both is None or one is None or both < one:
        line.lacks(f"--memory-swap {value}", "give --swap, what is beyond --memory")
    else:
        line.add("--swap", str(both - one))


def _bytes(text: str) -> int | None:
    number = text.lower().rstrip("bkmgt")
    suffix = text.lower()[len(number) :]
    suffix = suffix[:-1] if len(suffix) == 2 else suffix
    digits = number.replace(".", "", 1)
    if not (digits.isascii() and digits.isdecimal()) or suffix not in _FACTORS:
        return None
    number = number[:19]
    return int((float if "." in number else int)(number) * _FACTORS[suffix])


_TAKERS: dict[str, Callable[[Line, str, str], None]] = {
    "--env": _variable,
    "--user": _user,
    "--publish": _publish,
    "--add-host": _host,
    "--security-opt": _security,
    "--memory": _memory,
    "--timeout": _timeout,
    "--pids-limit": _processes,
    "--cap-add": _capabilities,
    "--cap-drop": _capabilities,
}
