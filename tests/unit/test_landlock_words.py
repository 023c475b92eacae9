"""What people write of access."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyspaces import settings
from pyspaces.commands import fast
from pyspaces.errors import SpaceError, UsageFault
from pyspaces.features.confinement import ruleset
from pyspaces.features.confinement.landlock import Landlock
from pyspaces.features.confinement.ruleset import Ruleset
from pyspaces.plan import Plan


def part_of(**mapping: object) -> Landlock:
    return settings.plan_from({"command": ["true"], **mapping}).landlock


@given(st.sets(st.integers(0, 65535), min_size=1))
def test_ports(ports: set[int]) -> None:
    text = ",".join(map(str, ports))
    assert part_of(allow_connect=text).connect == tuple(sorted(ports))
    assert part_of(allow_bind=list(ports)).bind == tuple(sorted(ports))


def test_nothing_is_limited_of_what_nothing_is_said() -> None:
    assert not part_of()
    part = part_of(allow_read=["/usr", "/etc"])
    assert (part.read, part.connect, part.bind, part.limits_files) == (
        *(("/usr", "/etc"), None, None, True),
    )
    part = part_of(allow_connect="none")
    assert (part.connect, part.bind, part.limits_files) == ((), None, False)
    assert part
    assert part_of(scope="signal,abstract,signal").scope == ("signal", "abstract")


@pytest.mark.parametrize(
    ("mapping", "fault"),
    [
        ({"allow_read": [""]}, "allow-read: a path cannot be empty"),
        ({"allow_exec": ["a\0b"]}, "allow-exec: 'a\\x00b': holds a NUL"),
        ({"allow_connect": "http"}, "allow-connect: 'http' is not the number of a port, or none"),
        ({"allow_bind": "65536"}, "allow-bind: 65536: is not a port"),
        ({"allow_bind": "none,80"}, "allow-bind: none cannot be combined with a port"),
        ({"scope": "network"}, "scope: 'network': choose from abstract, signal"),
        ({"landlock_best_effort": True}, "landlock-best-effort: there is nothing to limit"),
        ({"allow_write": ["/"], "hold": True, "name": "x"}, "hold: cannot be combined"),
    ],
)
def test_each_fault_is_told(mapping: dict[str, object], fault: str) -> None:
    words = {} if "hold" in mapping else {"command": ["true"]}
    with pytest.raises(UsageFault) as caught:
        settings.plan_from({**words, **mapping})
    assert any(fault in line for line in caught.value.faults), caught.value.faults


def test_a_plan_with_access_survives_json() -> None:
    plan = settings.plan_from(
        {"command": ["true"], "allow_write": ["."], "allow_connect": 443, "scope": "signal"}
    )
    assert Plan.from_data(plan.to_data()) == plan


PARTS = {
    "files": (Landlock(read=("/",)), 3, "truncating files"),
    "connect": (Landlock(connect=()), 4, "connecting to ports"),
    "bind": (Landlock(bind=(80,)), 4, "binding to ports"),
    "scope": (Landlock(scope=("signal",)), 6, "the scope"),
}


@pytest.mark.parametrize("kind", PARTS)
def test_what_a_kernel_lacks_is_refused_or_left_out(
    monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    part, since, what = PARTS[kind]
    for abi in range(1, 9):
        monkeypatch.setattr(ruleset, "version", lambda abi=abi: abi)
        if abi >= since:
            assert Ruleset(part).left_out == ()
            continue
        with pytest.raises(SpaceError, match=f"ABI {abi} of this kernel does not cover {what}"):
            Ruleset(part)
        assert Ruleset(part.replace(best_effort=True)).left_out == (what,)


@pytest.mark.parametrize("number", [38, 95])
def test_without_landlock_nothing_is_left_out(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    from pyspaces.kernel.libc import KernelError

    def refuse() -> int:
        raise KernelError(number, "landlock_create_ruleset")

    monkeypatch.setattr(ruleset, "version", refuse)
    for best_effort in (False, True):
        with pytest.raises(SpaceError, match="not in this kernel, or disabled at boot"):
            Ruleset(Landlock(read=("/",), best_effort=best_effort))


def test_each_option_has_a_second_name() -> None:
    line = "--landlock-ro /a --landlock-rw=/b --landlock-exec /c --landlock-connect 80"
    taken = fast.line_of_run([*line.split(), "--landlock-bind", "none", "--landlock-scope=signal"])
    assert taken is not None
    assert taken[1] == {
        "allow_read": ("/a",),
        "allow_write": ("/b",),
        "allow_exec": ("/c",),
        "allow_connect": ("80",),
        "allow_bind": ("none",),
        "scope": ("signal",),
    }
