"""Filter expressions over the columns of rows, such as `type==net && nprocs==0`.

Pure. The syntax is that of scols-filter(5), which lsns(8) uses. Must not know what the rows
describe. Not on the launch path.
"""

from __future__ import annotations

import re

from pyspaces.errors import UsageFault

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    Test = Callable[[Any], bool]

LONGEST = 4096
# Each pair of parentheses takes four frames of Python's stack, which is limited to 1000.
DEEPEST = 50
_TOKEN = re.compile(
    r"""(?P<space>\s+)
    | (?P<string>"[^"]*"|'[^']*')
    | (?P<operator>&&|\|\||[=!<>]=|[=!]~|[<>!()])
    | (?P<word>[^\s"'()!=<>&|]+)""",
    re.VERBOSE,
)
_WORDS = dict(
    zip(
        ("and", "or", "not", "eq", "ne", "lt", "le", "gt", "ge"),
        ("&&", "||", "!", "==", "!=", "<", "<=", ">", ">="),
        strict=True,
    )
)
_MIRRORED = {"==": "==", "!=": "!=", "<": ">", "<=": ">=", ">": "<", ">=": "<="}
_REGULAR = ("=~", "!~")


class Column:
    """How a column may be used in an expression.

    number: whether it contains numbers. values: the only possible texts; empty for any. aliases:
    other words for these.
    """

    __slots__ = ("aliases", "number", "values")

    def __init__(
        self,
        *,
        number: bool = False,
        values: Sequence[str] = (),
        aliases: Mapping[str, str] | None = None,
    ) -> None:
        self.number = number
        self.values = tuple(values)
        self.aliases = dict(aliases or {})


class _Token:
    __slots__ = ("at", "kind", "text")

    def __init__(self, kind: str, text: str, at: int) -> None:
        self.kind = kind
        self.text = text
        self.at = at


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
            raise _fault(at + 1, _why_no_token(text[at:]))
        kind, word = str(match.lastgroup), match.group()
        if kind == "string":
            word = word[1:-1]
        elif kind == "word" and word.lower() in _WORDS:
            kind, word = "operator", _WORDS[word.lower()]
        if kind != "space":
            found.append(_Token(kind, word, at + 1))
        at = match.end()
    return [*found, _Token("end", "", len(text) + 1)]


def _why_no_token(rest: str) -> str:
    if rest[0] in "\"'":
        return f"the closing {rest[0]} is missing"
    return f"{rest[0]!r} is not an operator; did you mean {rest[0] * 2!r}?"


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
            raise _unexpected(token)
        return test

    def _take(self, *operators: str) -> _Token | None:
        token = self._tokens[self._next]
        if token.kind != "operator" or token.text not in operators:
            return None
        self._next += 1
        return token

    def _or(self) -> Test:
        tests = [self._and()]
        while self._take("||"):
            tests.append(self._and())
        return tests[0] if len(tests) == 1 else lambda row: any(test(row) for test in tests)

    def _and(self) -> Test:
        tests = [self._not()]
        while self._take("&&"):
            tests.append(self._not())
        return tests[0] if len(tests) == 1 else lambda row: all(test(row) for test in tests)

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
            raise (
                _fault(opening.at, "'(' is never closed")
                if token.kind == "end"
                else (_unexpected(token))
            )
        self._depth -= 1
        return test

    def _operand(self) -> _Token:
        token = self._tokens[self._next]
        if token.kind == "end":
            raise _fault(token.at, "expected a column or a value, not the end of the expression")
        if token.kind == "operator":
            raise _unexpected(token)
        self._next += 1
        return token

    def _comparison(self) -> Test:
        left = self._operand()
        operator = self._take(*_MIRRORED, *_REGULAR)
        if operator is None:
            return _is_there(self._column(left))
        right = self._operand()
        if again := self._take(*_MIRRORED, *_REGULAR):
            raise _fault(again.at, "a comparison cannot be compared; combine two with '&&'")
        if operator.text in _REGULAR:
            return _matching(self._column(left), operator.text, right)
        if _is_value(left):
            name = self._column(right)
            return self._against_value(name, _MIRRORED[operator.text], left)
        name = self._column(left)
        # In `type==user` and `user==pid`, the right side is text: only numbers can be columns.
        if self._columns[name].number and not _is_value(right):
            return self._against_column(name, operator.text, right)
        return self._against_value(name, operator.text, right)

    def _column(self, token: _Token) -> str:
        """Return the name of the column in a token. Raises UsageFault if there is none."""
        name = token.text.lower()
        if _is_value(token):
            raise _fault(token.at, f"expected a column, not the value {token.text!r}")
        if name not in self._columns:
            raise _fault(token.at, f"no such column: {token.text!r}; {_near(name, self._columns)}")
        return name

    def _against_column(self, name: str, operator: str, token: _Token) -> Test:
        other = self._column(token)
        if not self._columns[other].number:
            raise _fault(token.at, f"{name!r} is a number, and {other!r} is text")
        return _comparing(name, operator, lambda row: getattr(row, other))

    def _against_value(self, name: str, operator: str, token: _Token) -> Test:
        column = self._columns[name]
        value: int | str = token.text
        if column.number and value != "":
            if not (token.text.isascii() and token.text.isdecimal()):
                raise _fault(token.at, f"{name!r} is a number, and {token.text!r} is not")
            value = int(token.text)
        elif column.values:
            word = token.text.lower()
            value = column.aliases.get(word, word)
            if value not in column.values and operator in ("==", "!="):
                near = _near(word, column.values)
                raise _fault(token.at, f"no such {name}: {token.text!r}; {near}")
        return _comparing(name, operator, lambda row: value)


def _unexpected(token: _Token) -> UsageFault:
    if token.kind == "operator":
        return _fault(token.at, f"{token.text!r} is not expected here")
    return _fault(token.at, f"{token.text!r} is not expected here; quote text with blanks")


def _is_value(token: _Token) -> bool:
    return token.kind == "string" or (token.text.isascii() and token.text.isdecimal())


def _near(word: str, words: Mapping[str, object] | Sequence[str]) -> str:
    import difflib  # 3 ms that only a mistake needs

    near = difflib.get_close_matches(word, list(words), 1)
    return f"did you mean {near[0]!r}?" if near else f"choose from {', '.join(words)}"


def _values(row: object, name: str) -> Sequence[int | str]:
    """Return the values of a row in a column: all of a list, or the empty text for none."""
    value = getattr(row, name)
    if isinstance(value, tuple):
        return value or ("",)
    return ("" if value is None else value,)


def _is_there(name: str) -> Test:
    return lambda row: any(value not in ("", 0) for value in _values(row, name))


def _comparing(name: str, operator: str, other: Callable[[Any], Any]) -> Test:
    """Compare; an unknown value is neither less nor greater, and equals only the empty text."""
    if operator == "!=":
        equal = _comparing(name, "==", other)
        return lambda row: not equal(row)
    compare = _COMPARE[operator]

    def test(row: Any) -> bool:
        right = other(row)
        return any(
            type(left) is type(right) and compare(left, right) for left in _values(row, name)
        )

    return test


_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "==": lambda left, right: left == right,
    "<": lambda left, right: left < right,
    "<=": lambda left, right: left <= right,
    ">": lambda left, right: left > right,
    ">=": lambda left, right: left >= right,
}


def _matching(name: str, operator: str, token: _Token) -> Test:
    try:
        pattern = re.compile(token.text)
    # A pattern can also be too deep or too large for the compiler.
    except (re.error, RecursionError, OverflowError) as error:
        # Python's message may quote any character of the pattern.
        why = repr(str(error))[1:-1] if isinstance(error, re.error) else "too large"
        raise _fault(token.at, f"{token.text!r} is not a regular expression: {why}") from None
    wanted = operator == "=~"

    def test(row: Any) -> bool:
        found = any(pattern.search(str(value)) for value in _values(row, name))
        return found is wanted

    return test
