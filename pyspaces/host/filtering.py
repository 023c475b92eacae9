"""Filter expressions over the columns of rows, such as `type==net && nprocs==0`.

Pure. The syntax is that of scols-filter(5), which lsns(8) uses. Must not know what the rows
describe. Not on the launch path.
"""

from __future__ import annotations

import operator
import re
from typing import NamedTuple

from pyspaces.errors import UsageFault
from pyspaces.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import Any

    Test = Callable[[Any], bool]
    Values = Callable[[Any], Sequence[object]]

LONGEST = 4096
# Each pair of parentheses takes six frames of Python's stack, which is limited to 1000.
DEEPEST = 50
_TOKEN = re.compile(
    r"""(?P<space>\s+)
    | (?P<string>"[^"]*"|'[^']*')
    | (?P<operator>&&|\|\||[=!<>]=|[=!]~|[<>!()])
    | (?P<word>[^\s"'()!=<>&|]+)""",
    re.VERBOSE,
)
_COMPARE: dict[str, Callable[[Any, Any], bool]] = {"==": operator.eq, "!=": operator.ne}
_COMPARE |= {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}
_REGULAR = ("=~", "!~")
_WORDS = {"and": "&&", "or": "||", "not": "!"} | {f.__name__: op for op, f in _COMPARE.items()}


class Column(Record):
    """How a column may be used in an expression.

    number: whether it contains numbers. values: the only possible texts; empty for any. aliases:
    other words for these.
    """

    number: bool = False
    values: tuple[str, ...] = ()
    aliases: Mapping[str, str] = {}


class _Token(NamedTuple):
    kind: str
    text: str
    at: int  # its first character, starting at 1

    def is_value(self) -> bool:
        return self.kind == "string" or (self.text.isascii() and self.text.isdecimal())

    def unexpected(self) -> UsageFault:
        quote = "" if self.kind == "operator" else "; quote text with blanks"
        return _fault(self.at, f"{self.text!r} is not expected here{quote}")


def parse(text: str, columns: Mapping[str, Column]) -> Test:
    """Return a function that returns whether a row, whose attributes are the columns, matches.

    Raises UsageFault, which gives the position of the error in characters, starting at 1.
    """
    if len(text) > LONGEST:
        raise UsageFault([f"filter: the expression is longer than {LONGEST} characters"])
    return _Parser(_tokens(text), columns).whole()


def _fault(at: int, why: str) -> UsageFault:
    return UsageFault([f"filter: character {at}: {why}"])


def _tokens(text: str) -> list[_Token]:
    found, at = [], 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            first = text[at]
            if first in "\"'":
                raise _fault(at + 1, f"the closing {first} is missing")
            raise _fault(at + 1, f"{first!r} is not an operator; did you mean {first * 2!r}?")
        kind, word = str(match.lastgroup), match.group()
        if kind == "string":
            word = word[1:-1]
        elif kind == "word" and word.lower() in _WORDS:
            kind, word = "operator", _WORDS[word.lower()]
        if kind != "space":
            found.append(_Token(kind, word, at + 1))
        at = match.end()
    return [*found, _Token("end", "", len(text) + 1)]


class _Parser:
    """Recursive descent: or, and, not, comparison, from loosest to tightest."""

    def __init__(self, tokens: Sequence[_Token], columns: Mapping[str, Column]) -> None:
        self._tokens = tokens
        self._columns = columns
        self._next = 0
        self._depth = 0

    def whole(self) -> Test:
        test = self._or()
        token = self._tokens[self._next]
        if token.kind != "end":
            raise token.unexpected()
        return test

    def _take(self, *operators: str) -> _Token | None:
        token = self._tokens[self._next]
        if token.kind != "operator" or token.text not in operators:
            return None
        self._next += 1
        return token

    def _or(self) -> Test:
        return self._joined("||", any, self._and)

    def _and(self) -> Test:
        return self._joined("&&", all, self._not)

    def _joined(
        self, operator: str, join: Callable[[Iterable[bool]], bool], part: Callable[[], Test]
    ) -> Test:
        tests = [part()]
        while self._take(operator):
            tests.append(part())
        return tests[0] if len(tests) == 1 else lambda row: join(test(row) for test in tests)

    def _not(self) -> Test:
        negated = False
        while self._take("!"):
            negated = not negated
        test = self._group() or self._comparison()
        return (lambda row: not test(row)) if negated else test

    def _group(self) -> Test | None:
        opening = self._take("(")
        if opening is None:
            return None
        self._depth += 1
        if self._depth > DEEPEST:
            raise _fault(opening.at, f"parentheses are nested more than {DEEPEST} deep")
        test = self._or()
        if not self._take(")"):
            token = self._tokens[self._next]
            never = _fault(opening.at, "'(' is never closed")
            raise never if token.kind == "end" else token.unexpected()
        self._depth -= 1
        return test

    def _operand(self) -> _Token:
        token = self._tokens[self._next]
        if token.kind == "end":
            raise _fault(token.at, "expected a column or a value, not the end of the expression")
        if token.kind == "operator":
            raise token.unexpected()
        self._next += 1
        return token

    def _comparison(self) -> Test:
        left = self._operand()
        operator = self._take(*_COMPARE, *_REGULAR)
        if operator is None:
            name = self._column(left)
            return lambda row: any(value not in ("", 0) for value in _values(row, name))
        right = self._operand()
        if again := self._take(*_COMPARE, *_REGULAR):
            raise _fault(again.at, "a comparison cannot be compared; combine two with '&&'")
        if operator.text in _REGULAR:
            return _matching(self._column(left), operator.text, right)
        if left.is_value():
            name = self._column(right)
            theirs = self._meaning(name, operator.text, left)
            return _comparing(operator.text, theirs, lambda row: _values(row, name))
        name = self._column(left)
        theirs = self._meaning(name, operator.text, right)
        return _comparing(operator.text, lambda row: _values(row, name), theirs)

    def _column(self, token: _Token) -> str:
        """Return the name of the column in a token. Raises UsageFault if there is none."""
        name = token.text.lower()
        if token.is_value():
            raise _fault(token.at, f"expected a column, not the value {token.text!r}")
        if name not in self._columns:
            raise _fault(token.at, f"no such column: {token.text!r}; {_near(name, self._columns)}")
        return name

    def _meaning(self, name: str, operator: str, token: _Token) -> Values:
        """Return a function that returns what to compare column `name` with. Raises UsageFault."""
        column, value = self._columns[name], token.text.lower()
        # In `type==user` and `user==pid`, the right side is text: only numbers can be columns.
        if column.number and not token.is_value():
            other = self._column(token)
            if not self._columns[other].number:
                raise _fault(token.at, f"{name!r} is a number, and {other!r} is text")
            return lambda row: (getattr(row, other),)
        if column.number and value:
            if not (value.isascii() and value.isdecimal()):
                raise _fault(token.at, f"{name!r} is a number, and {token.text!r} is not")
            return lambda row: (int(value),)
        if not column.values:
            return lambda row: (token.text,)
        word = column.aliases.get(value, value)
        if word not in column.values and operator in ("==", "!="):
            near = _near(value, column.values)
            raise _fault(token.at, f"no such {name}: {token.text!r}; {near}")
        return lambda row: (word,)


def _near(word: str, words: Iterable[str]) -> str:
    import difflib  # 3 ms that only a mistake needs

    near = difflib.get_close_matches(word, list(words), 1)
    return f"did you mean {near[0]!r}?" if near else f"choose from {', '.join(words)}"


def _values(row: object, name: str) -> Sequence[int | str]:
    """Return the values of a row in a column: all of a list, or the empty text for none."""
    value = getattr(row, name)
    if isinstance(value, tuple):
        return value or ("",)
    return ("" if value is None else value,)


def _comparing(operator: str, left: Values, right: Values) -> Test:
    """Compare; an unknown value is neither less nor greater, and equals only the empty text."""
    if operator == "!=":
        equal = _comparing("==", left, right)
        return lambda row: not equal(row)
    compare = _COMPARE[operator]
    return lambda row: any(
        type(one) is type(other) and compare(one, other)
        for one in left(row)
        for other in right(row)
    )


def _matching(name: str, operator: str, token: _Token) -> Test:
    try:
        pattern = re.compile(token.text)
    # A pattern can also be too deep or too large for the compiler.
    except (re.error, RecursionError, OverflowError) as error:
        # Python's message may quote any character of the pattern.
        why = repr(str(error))[1:-1] if isinstance(error, re.error) else "too large"
        raise _fault(token.at, f"{token.text!r} is not a regular expression: {why}") from None
    wanted = operator == "=~"
    return lambda row: wanted is any(pattern.search(str(value)) for value in _values(row, name))
