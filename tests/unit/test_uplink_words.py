"""The value of --net: which words there are, and what they stand for."""

from __future__ import annotations

from typing import Any

import pytest

from pyspaces import UsageFault
from pyspaces.features.network.uplink import MODES
from pyspaces.library import space
from pyspaces.settings import plan_from


def plan(**values: Any) -> Any:
    return plan_from({"command": ["true"], "user": True, **values})


@pytest.mark.parametrize("value", [True, "none"])
def test_a_network_with_nothing_but_lo_has_no_uplink(value: bool | str) -> None:
    made = plan(net=value)
    assert made == plan(net=True)
    assert made.has("net")
    assert not made.holds("uplink")


def test_no_network() -> None:
    assert plan(net=False) == plan(net=None) == plan()


@pytest.mark.parametrize("value", ["", "none ", "user,pasta"])
def test_an_unknown_value_is_refused_with_a_list_of_what_there_is(value: str) -> None:
    with pytest.raises(UsageFault) as caught:
        plan(net=value)
    assert caught.value.faults[0] == (f"net: {value!r}: choose from none, user, pasta, slirp4netns")


@pytest.mark.parametrize(
    ("value", "told"), [(["user"], "a list"), (1.5j, "1.5j"), (b"user", "b'user'")]
)
def test_a_value_of_another_type_is_refused(value: object, told: str) -> None:
    with pytest.raises(UsageFault, match="net: takes True, False, a text or a number, and is"):
        plan(net=value)


def test_a_sandbox_and_the_bits_of_a_program_leave_the_value() -> None:
    for mode in MODES:
        for more in ({"sandbox": True}, {"flags": 0x40000000}, {"newnet": True}):
            mapping = space._mapping_of({"net": mode, **more}, [])
            assert mapping["net"] == mode
