"""What is kept of what was made lately, beside a list that says the same the long way."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pyspaces.recent import Recent


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 11)), max_size=60))
def test_the_last_eight_that_were_used_are_found(uses: list[tuple[bool, int]]) -> None:
    recent, used = Recent(), dict[int, str]()
    for turn, (makes, number) in enumerate(uses):
        # Equal, and another object each time.
        source = {"of": [number]}
        assert recent.find(source) == used.get(number)
        if makes:
            recent.keep(source, f"in turn {turn}", 100)
        if makes or number in used:
            made = f"in turn {turn}" if makes else used[number]
            others = [(other, its) for other, its in used.items() if other != number]
            used = dict([(number, made), *others][:8])


def test_what_a_handler_makes_meanwhile_is_not_mixed_up() -> None:
    """A handler of a signal can come while sources are compared, and launch something."""
    recent = Recent()

    class Interrupted:
        def __eq__(self, other: object) -> bool:
            recent.keep("of the handler", "made by the handler", 100)
            return False

        __hash__ = None  # type: ignore[assignment]

    recent.keep("first", 1, 100)
    assert recent.find(Interrupted()) is None
    assert (recent.find("first"), recent.find("of the handler")) == (1, "made by the handler")


def test_what_is_large_is_not_kept() -> None:
    recent = Recent()
    recent.keep("small", 1, 1 << 15)
    recent.keep("large", 2, (1 << 15) + 1)
    assert (recent.find("small"), recent.find("large")) == (1, None)
