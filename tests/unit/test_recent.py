"""What is kept of what was made of late, beside a list that says the same the long way."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pyspaces.recent import Recent


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 11)), max_size=60))
def test_the_last_eight_that_were_used_are_found(uses: list[tuple[bool, int]]) -> None:
    recent, used = Recent(), list[int]()
    for makes, number in uses:
        # Equal, and another object each time.
        source = {"of": [number]}
        assert recent.find(source) == (f"made of {number}" if number in used else None)
        if number in used or makes:
            used = [number, *[other for other in used if other != number]][:8]
        if makes and recent.find(source) is None:
            recent.keep(source, f"made of {number}")


def test_what_is_made_meanwhile_by_a_handler_takes_nothing_away() -> None:
    """A handler of a signal can come while sources are compared, and launch something."""
    recent = Recent()

    class Interrupted:
        def __eq__(self, other: object) -> bool:
            recent.keep("of the handler", "made by the handler")
            return False

        __hash__ = None  # type: ignore[assignment]

    recent.keep("first", 1)
    assert recent.find(Interrupted()) is None
    assert (recent.find("first"), recent.find("of the handler")) == (1, "made by the handler")
