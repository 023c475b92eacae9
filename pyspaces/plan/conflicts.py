"""Which options exclude each other, and which require another: one table each.

Pure; runs in any process.
"""

from __future__ import annotations

from pyspaces.feature import CONFINING

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

_OUTPUTS = ("status-fd", "status-file", "pid-file", "report", "overlay-diff")
_CONFINEMENT = ("sandbox", *(name.replace("_", "-") for name in CONFINING))
_LIMITS = ("rlimit", "umask", "nice", "oom-score-adj", "cpu-list", "ionice")
_RESOURCES = ("memory", "swap", "pids", "cpus", "io-weight")
_HELD = ("sync-fd", "lock-file", "json-status-fd")
_ARRANGED = ("info-fd", "block-fd", "userns-block-fd", *_HELD)
_MAPS = ("map-uid", "map-gid", "map-root", "map-current", "map-auto", "setgroups")
_NO_COMMAND = "there is no command"
_NO_LAUNCHER = "no launcher is left"

# One option, others, and why they exclude each other.
_CONFLICTS = (
    ("empty-root", ("root",), ""),
    ("allow-new-privs", ("no-new-privs",), ""),
    ("kill-child", ("no-kill-child",), ""),
    ("kill-child", ("hold",), "the launcher does not stay"),
    ("die-with-parent", ("hold",), "the launcher does not stay"),
    ("die-with-parent", ("no-kill-child",), "the command is killed by the death of the launcher"),
    ("as-pid-1", ("init",), "the init would be process 1"),
    ("new-session", ("pty",), "which begins a session, with a terminal"),
    ("no-fork", ("pid",), "process 1 is a child of the launcher"),
    ("no-fork", ("init",), "process 1 is a child of the launcher"),
    ("no-fork", ("pty",), "somebody has to relay what the terminal reads and writes"),
    ("no-fork", ("new-session",), "the leader of a process group cannot begin one"),
    ("no-fork", ("timeout",), "somebody has to watch the clock"),
    ("no-fork", ("kill-child", "no-kill-child"), _NO_LAUNCHER),
    ("no-fork", _OUTPUTS, f"{_NO_LAUNCHER} to write it"),
    ("no-fork", ("name",), f"{_NO_LAUNCHER} to release it"),
    ("no-fork", ("net=NETWORK", "veth"), f"{_NO_LAUNCHER} to connect it"),
    ("no-fork", ("publish", "forward", "allow-host"), f"{_NO_LAUNCHER} beside the command"),
    ("hold", ("init", "no-fork", "pty", "new-session", "timeout", *_OUTPUTS), _NO_COMMAND),
    ("hold", ("listen", "allow-host", "argv0"), _NO_COMMAND),
    (
        *("seccomp-learn", ("seccomp", "seccomp-deny", "seccomp-allow", "seccomp-fd")),
        "nothing is refused while it learns",
    ),
    ("seccomp-learn", ("no-terminal-injection",), "nothing is refused while it learns"),
    ("no-fork", _ARRANGED, f"{_NO_LAUNCHER} for it"),
    ("hold", ("close-fds", "keep-fd"), _NO_COMMAND),
    ("hold", _HELD, "the launcher does not stay"),
    ("no-kill-child", _HELD, "the command may outlive the launcher"),
    ("userns-block-fd", _MAPS, "somebody else writes the maps"),
    ("no-fork", ("seccomp-learn",), f"{_NO_LAUNCHER} to write it"),
    ("no-fork", _RESOURCES, f"{_NO_LAUNCHER} to remove the cgroup"),
    ("hold", (*_CONFINEMENT, *_LIMITS, *_RESOURCES), _NO_COMMAND),
    ("hold", ("setenv", "unsetenv", "clearenv", "keep-env"), _NO_COMMAND),
)
# One option, and the one that it requires.
_REQUIREMENTS = (
    ("init-wait", "init"),
    ("kill-after", "timeout"),
    ("keep-fd", "close-fds"),
    ("share", "all"),
)


def conflicts(used: Collection[str]) -> Iterator[str]:
    """Yield the conflicts and missing requirements among the options used, a line each.

    used: names of options, without dashes in front, and of new namespaces.
    """
    for option, others, why in _CONFLICTS:
        if option in used:
            for other in others:
                if other in used:
                    yield f"{option}: cannot be combined with --{other}{why and ': ' + why}"
    for option, other in _REQUIREMENTS:
        if option in used and other not in used:
            yield f"{option}: requires --{other}"
