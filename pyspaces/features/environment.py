"""The environment of the command: what is cleared, kept, unset and set.

Pure; the parent builds the environment before the fork. Must not know os.environ.
"""

from __future__ import annotations

import os

from pyspaces.feature import ENVIRONMENT, PAIRS, Feature, Part, Setting, flag, many
from pyspaces.kernel.libc import c_string_fault
from pyspaces.pattern import matches

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pyspaces.feature import Given
    from pyspaces.plan import Plan

# What makes a program run code of whoever set it: ld.so(8), "secure-execution mode", and what
# sudo(8) takes away by itself, for shells and interpreters.
_STEERING = (
    *("LD_*", "GCONV_PATH", "GETCONF_DIR", "GLIBC_TUNABLES", "HOSTALIASES", "LOCALDOMAIN"),
    *("LOCPATH", "MALLOC_*", "NIS_PATH", "NLSPATH", "RESOLV_HOST_CONF", "RES_OPTIONS", "TMPDIR"),
    *("TZDIR", "IFS", "ENV", "BASH_ENV", "BASH_FUNC_*", "BASHOPTS", "SHELLOPTS", "PS4", "CDPATH"),
    *("GLOBIGNORE", "FPATH", "ZDOTDIR", "TERMINFO*", "TERMCAP", "PYTHON*", "PERL*", "RUBY*"),
    *("NODE_*", "JAVA_TOOL_OPTIONS", "_JAVA_OPTIONS", "JDK_JAVA_OPTIONS", "LUA_*", "GIT_*"),
)


class Environment(Part):
    """Changes to an environment, in this precedence: set, unset, keep, clear.

    set: (name, value) pairs; the last one of a name wins. unset: names. clear: whether all other
    variables are removed. keep: names, and patterns with `*` and `?`, that clear leaves.
    """

    clear: bool = False
    keep: tuple[str, ...] = ()
    unset: tuple[str, ...] = ()
    set: tuple[tuple[str, str], ...] = ()

    def faults(self, plan: Plan) -> Iterator[str]:
        del plan
        for name, text in self.set:
            if fault := name_fault(name) or value_fault(name, text):
                yield f"setenv: {fault}"
        for setting, names in (("unsetenv", self.unset), ("keep-env", self.keep)):
            for name in names:
                if fault := name_fault(name):
                    yield f"{setting}: {fault}"

    def apply(self, base: Mapping[bytes, bytes]) -> dict[bytes, bytes]:
        """Return the environment that results from `base`."""
        result = {name: value for name, value in base.items() if self._survives(os.fsdecode(name))}
        for name in self.unset:
            result.pop(os.fsencode(name), None)
        result.update((os.fsencode(name), os.fsencode(value)) for name, value in self.set)
        return result

    def leaves(self, name: str) -> bool:
        """Return whether a variable stays as it is: not set, unset or cleared."""
        said = (*self.unset, *(name for name, _ in self.set))
        return name not in said and self._survives(name)

    def _survives(self, name: str) -> bool:
        return not self.clear or any(matches(name, pattern) for pattern in self.keep)


def name_fault(name: str) -> str | None:
    """Return what is wrong with the name of a variable, or None."""
    if not name:
        return "the name of a variable cannot be empty"
    if "=" in name:
        return f"{name!r}: the name of a variable cannot hold '='"
    return value_fault(name, name)


def value_fault(name: str, value: str) -> str | None:
    """Return what is wrong with the value of variable `name`, or None."""
    fault = c_string_fault(value)
    return f"{name!r}: {fault}" if fault else None


def without_steering(variables: Mapping[bytes, bytes]) -> tuple[dict[bytes, bytes], list[str]]:
    """Return an environment without variables that control the loader, shells and interpreters.

    Also returns the names that were left out, sorted. Shell functions are known by their value.
    """
    dropped = {
        name
        for name, value in variables.items()
        if value.startswith(b"() ") or any(matches(os.fsdecode(name), one) for one in _STEERING)
    }
    kept = {name: value for name, value in variables.items() if name not in dropped}
    return kept, sorted(map(os.fsdecode, dropped))


def _read(given: Given, plan: Plan) -> Environment:
    del plan
    keep = tuple(given.words("keep_env"))
    pairs = given.values.get("setenv", ())
    return Environment(
        clear=bool(keep) or given.flag("clearenv"),
        keep=keep,
        unset=tuple(given.texts("unsetenv")),
        set=tuple((str(name), str(text)) for name, text in pairs),
    )


FEATURE = Feature(
    name="environment",
    part=Environment,
    settings=(
        Setting(
            name="setenv",
            kind=PAIRS,
            group=ENVIRONMENT,
            metavar="VAR VALUE",
            help="set an environment variable; repeatable",
            everyday=True,
        ),
        many("unsetenv", ENVIRONMENT, "VAR", "unset a variable; repeatable"),
        flag("clearenv", ENVIRONMENT, "start with an empty environment"),
        many(
            "keep_env",
            ENVIRONMENT,
            "VAR[,VAR...]",
            "clear the environment except for these variables; patterns such as LC_* match",
            listed=True,
        ),
    ),
    read=_read,
    options={"clear": "clearenv", "keep": "keep-env", "unset": "unsetenv", "set": "setenv"},
    quiet=Environment._fields,
    no_equivalent=dict.fromkeys(
        Environment._fields, "unshare(1) leaves the environment as it is; env(1) changes it"
    ),
)
