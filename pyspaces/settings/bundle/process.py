"""`process` of a config: the command, its user, environment, capabilities and limits."""

from __future__ import annotations

from pyspaces.features.ids import capabilities

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyspaces.settings.bundle.config import Node

_UNLIMITED = (1 << 64) - 1  # RLIM_INFINITY
_CLASSES = {
    "IOPRIO_CLASS_RT": "realtime",
    "IOPRIO_CLASS_BE": "best-effort",
    "IOPRIO_CLASS_IDLE": "idle",
}
# Without these, the command would be less confined than the bundle says.
_REFUSED = ("apparmorProfile", "selinuxLabel", "scheduler", "execCPUAffinity", "commandLine")


def settings_of(node: Node, *, terminal: bool) -> dict[str, Any]:
    """Return the settings of `process`. terminal: whether standard input is one."""
    found: dict[str, Any] = {"command": tuple(node.texts("args")), "clearenv": True}
    if not found["command"]:
        node.fault("args", "is missing")
    if node.take("terminal", bool, False) and terminal:
        found["pty"] = True
    found["setenv"] = [_variable(node, text) for text in node.texts("env")]
    found["workdir"] = node.take("cwd", str)
    found |= _user(node.node("user"))
    given = found["setuid"] or "0"
    found |= _capabilities(node, uid=int(given))
    limits = [_rlimit(one) for one in node.nodes("rlimits")]
    found["rlimit"] = [text for text in limits if text]
    allowed = not node.take("noNewPrivileges", bool, False)
    found["allow_new_privs" if allowed else "no_new_privs"] = True
    if node.has("oomScoreAdj"):
        found["oom_score_adj"] = str(node.take("oomScoreAdj", int, 0))
    found |= _priority(node.node("ioPriority"))
    node.refuse(*_REFUSED)
    node.forget("consoleSize")
    node.end()
    return found


def _variable(node: Node, text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        node.fault("env", f"{text[:40]!r} is not NAME=VALUE")
    return name, value


def _user(node: Node) -> dict[str, Any]:
    found: dict[str, Any] = {
        "setuid": str(node.take("uid", int, 0)),
        "setgid": str(node.take("gid", int, 0)),
    }
    if groups := node.numbers("additionalGids"):
        found["groups"] = [",".join(map(str, groups))]
    umask = node.take("umask", int)
    if umask is not None:
        found["umask"] = f"{umask & 0o7777:04o}"
    node.end()
    return found


def _capabilities(node: Node, *, uid: int) -> dict[str, Any]:
    """Return the capabilities that the command lacks and, if it is not root, has."""
    sets = node.node("capabilities")
    kinds = ("bounding", "effective", "inheritable", "permitted", "ambient")
    named = {kind: [name.upper() for name in sets.texts(kind)] for kind in kinds}
    sets.end()
    for kind, names in named.items():
        for name in names:
            if name not in capabilities.NAMES:
                sets.fault(kind, f"{name[:40]}: is not a capability")
    absent = capabilities.unknown_here(capabilities.NAMES)
    lost = [one for one in capabilities.NAMES if one not in (*named["bounding"], *absent)]
    found: dict[str, Any] = {"cap_drop": lost}
    if uid and named["ambient"]:
        found["cap_add"] = named["ambient"]
    if not uid and set(named["permitted"]) != set(named["bounding"]):
        sets.warn("permitted", "root has all that is in bounding")
    return found


def _rlimit(node: Node) -> str:
    name = node.take("type", str, "").removeprefix("RLIMIT_").lower()
    soft, hard = (_amount(node.take(key, int, 0)) for key in ("soft", "hard"))
    node.end()
    return f"{name}={soft}:{hard}"


def _amount(number: int) -> str:
    return "unlimited" if number in (_UNLIMITED, -1) else str(number)


def _priority(node: Node) -> dict[str, Any]:
    if not node.has("class"):
        return {}
    name = node.take("class", str, "")
    level = node.take("priority", int, 0)
    node.end()
    if name not in _CLASSES:
        node.fault("class", f"{name[:40]!r} is not one of {', '.join(_CLASSES)}")
        return {}
    word = _CLASSES[name]
    return {"ionice": word if word == "idle" else f"{word}:{level}"}
