"""Settings that stand for several others: --sandbox.

Pure; runs in the parent.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

_NAMESPACES = ("user", "pid", "net", "mount", "uts", "ipc", "cgroup")
_NAMES = (*_NAMESPACES, "time")
# What the sandbox sets, and the settings of the caller that replace each.
_FLAGS = (
    ("map_current", ("map_uid", "map_gid", "map_root", "map_auto", "userns_block_fd")),
    ("no_new_privs", ("allow_new_privs",)),
    ("no_nested_users", ()),
    ("new_session", ("pty",)),
)
# Each of these provides the root; without one, the sandbox has the host's programs only.
_ROOTS = ("host_ro", "throwaway", "read_only")


def expanded(mapping: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the settings, plus those that --sandbox stands for and that are not given."""
    if mapping.get("sandbox") is not True or mapping.get("hold"):
        return mapping
    found = dict(mapping)
    shared = _words(found.get("share"))
    joined = (word.partition("=")[0] for word in _words(found.get("join")))
    left = {*shared, *joined}
    found.update((name, found.get(name) or True) for name in _NAMESPACES if name not in left)
    if shared and not found.get("all") and set(shared) <= set(_NAMES):
        del found["share"]  # which is about --all otherwise
    for name, others in _FLAGS:
        if "user" in left and name == "map_current":
            continue
        if not any(found.get(other) for other in others):
            found[name] = True
    if not found.get("cap_drop"):
        found["cap_drop"] = ["all"]
    if not (found.get("seccomp") or found.get("seccomp_learn")):
        found["seccomp"] = "default"
    return found | {"mounts": _with_root(found)}


def _with_root(found: Mapping[str, Any]) -> Any:
    mounts = found.get("mounts") or ()
    if found.get("root") or found.get("empty_root") or not isinstance(mounts, list | tuple):
        return mounts
    if any(isinstance(one, list | tuple) and one and one[0] in _ROOTS for one in mounts):
        return mounts
    return [["host_ro"], *mounts]


def _words(value: Any) -> list[str]:
    texts = [value] if isinstance(value, str) else value if isinstance(value, list | tuple) else ()
    return [word.strip() for text in texts if isinstance(text, str) for word in text.split(",")]
