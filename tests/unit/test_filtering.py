"""Filter expressions: what they choose, and what is said of those that make no sense."""

from __future__ import annotations

import operator
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pyspaces.errors import UsageFault
from pyspaces.host import filtering

COLUMNS = {
    "ns": filtering.Column(number=True),
    "type": filtering.Column(values=("user", "net", "mount", "pid"), aliases={"mnt": "mount"}),
    "nprocs": filtering.Column(number=True),
    "pid": filtering.Column(number=True),
    "ppid": filtering.Column(number=True),
    "user": filtering.Column(),
    "files": filtering.Column(),
    "command": filtering.Column(),
}
EMPTY: dict[str, Any] = {"ns": 1, "type": "net", "nprocs": 0, "pid": None, "ppid": None} | {
    "user": None,
    "files": (),
    "command": None,
}


def chooses(text: str, **row: Any) -> bool:
    return filtering.parse(text, COLUMNS)(SimpleNamespace(**{**EMPTY, **row}))


def fault(text: str) -> str:
    with pytest.raises(UsageFault) as caught:
        filtering.parse(text, COLUMNS)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "row", "expected"),
    [
        ("type==net", {}, True),
        ("type==net && nprocs==0", {}, True),
        ("type==net && nprocs!=0", {}, False),
        ("TYPE == \"net\" AND NProcs eq '0'", {}, True),
        ("type==mnt", {"type": "mount"}, True),
        ("type!=MNT", {"type": "mount"}, False),
        # A type that is a column's name, too: texts are not compared with columns.
        ("type==user", {"type": "user", "user": "root"}, True),
        ("user==type", {"user": "type"}, True),
        ("pid==ppid", {"pid": 3, "ppid": 3}, True),
        ("pid<ppid", {"pid": 3, "ppid": 3}, False),
        ("pid<ppid", {"pid": 3}, False),
        ("0==nprocs", {}, True),
        ("2>pid", {"pid": 1}, True),
        ("2>pid", {"pid": 3}, False),
        ('"ls -l"==command', {"command": "ls -l"}, True),
        # What is not known is neither less nor more than anything.
        ("pid<1 || pid>=0", {}, False),
        ("pid!=1", {}, True),
        ('pid==""', {}, True),
        ('pid==""', {"pid": 1}, False),
        ('user==""', {}, True),
        ("user", {}, False),
        ("user", {"user": "root"}, True),
        ("nprocs", {}, False),
        ("nprocs", {"nprocs": 1}, True),
        ("!nprocs", {}, True),
        # Numbers are compared as numbers.
        ("pid>9", {"pid": 10}, True),
        ("pid==010", {"pid": 10}, True),
        ("command>=b", {"command": "bash"}, True),
        ("command==5", {"command": "5"}, True),
        # A list fits where one of it does.
        ("files==/b", {"files": ("/a", "/b")}, True),
        ("files!=/b", {"files": ("/a", "/b")}, False),
        ("files=~^/b", {"files": ("/a", "/b")}, True),
        ("files!~^/b", {"files": ("/a", "/b")}, False),
        ("files", {"files": ("/a",)}, True),
        ("files || files==''", {}, True),
        ('command=~"^ssh(d)? "', {"command": "sshd -D"}, True),
        ("command=~'a|b'", {"command": "xbx"}, True),
        ("command!~x", {}, True),
        ("pid=~^1", {"pid": 12}, True),
        # && binds tighter than ||, ! than both; a comparison tighter than all.
        ("nprocs==0 || type==pid && type==user", {}, True),
        ("(nprocs==0 || type==pid) && type==user", {}, False),
        ("!type==pid && nprocs==0", {}, True),
        ("!(type==pid || nprocs==0)", {}, False),
        ("not not nprocs==0", {}, True),
        ("!!!nprocs==0", {}, False),
        ("nprocs le 0 and nprocs ge 0 and not (nprocs lt 0 or nprocs gt 0)", {}, True),
        ("nprocs ne 0", {}, False),
        ("\tnprocs\n==0 ", {}, True),
    ],
)  # fmt: skip
def test_what_an_expression_chooses(text: str, row: dict[str, Any], expected: bool) -> None:
    assert chooses(text, **row) is expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "character 1: expected a column or a value, not the end"),
        ("pid==", "character 6: expected a column or a value, not the end"),
        ("pid==1 &&", "character 10: expected a column or a value, not the end"),
        ("nproc==0", "character 1: no such column: 'nproc'; did you mean 'nprocs'?"),
        ("pid==1 || comand=~x", "character 11: no such column: 'comand'; did you mean 'command'?"),
        ("zzz", "character 1: no such column: 'zzz'; choose from ns, type, nprocs,"),
        ("\x1b==1", "character 1: no such column: '\\x1b'; choose from"),
        ("type==nte", "character 7: no such type: 'nte'; did you mean 'net'?"),
        ("type==''", "character 7: no such type: ''; choose from user, net, mount, pid"),
        ("pid==x", "character 6: no such column: 'x'"),
        ("pid=='x'", "character 6: 'pid' is a number, and 'x' is not"),
        ("pid==\u0663", "character 6: no such column: '\u0663'"),
        ("pid==user", "character 6: 'pid' is a number, and 'user' is text"),
        ("pid=1", "character 4: '=' is not an operator; did you mean '=='?"),
        ("pid & 1", "character 5: '&' is not an operator; did you mean '&&'?"),
        ("pid | 1", "character 5: '|' is not an operator; did you mean '||'?"),
        ("user=='x", "character 7: the closing ' is missing"),
        ("(pid==1", "character 1: '(' is never closed"),
        ("((pid==1)", "character 1: '(' is never closed"),
        ("pid==1)", "character 7: ')' is not expected here"),
        ("()", "character 2: ')' is not expected here"),
        ("(pid==1)==1", "character 9: '==' is not expected here"),
        ("1<pid<5", "character 6: a comparison cannot be compared"),
        ("command==a b", "character 12: 'b' is not expected here; quote text with blanks"),
        ("1==1", "character 4: expected a column, not the value '1'"),
        ("'pid'", "character 1: expected a column, not the value 'pid'"),
        ("'x'=~'x'", "character 1: expected a column, not the value 'x'"),
        ("command=~'('", "character 10: '(' is not a regular expression: missing )"),
        ("x" * 4097, "the expression is longer than 4096 characters"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(text: str, expected: str) -> None:
    assert fault(text).startswith(f"filter: {expected}")


@pytest.mark.parametrize("character", ["(", "!", "!(", "pid==1&&(", "pid||", "pid&&"])
def test_depth_is_bounded(character: str) -> None:
    """As long as it may be: never a RecursionError, neither when it is read nor when used."""
    head = character * (4000 // len(character))
    opened = head.count("(")
    text = head + "pid" + ")" * min(opened, 4096 - len(head) - 3)
    if opened > filtering.DEEPEST:
        assert "parentheses are nested more than 50 deep" in fault(text)
    else:
        chooses(text)


def test_as_deep_as_it_may_be() -> None:
    text = "!(" * filtering.DEEPEST + "pid==1" + ")" * filtering.DEEPEST
    assert chooses(text, pid=1) is (filtering.DEEPEST % 2 == 0)


def test_a_pattern_that_is_too_deep_is_wrong_usage() -> None:
    assert "is not a regular expression: too large" in fault(f"command=~'{'(' * 2000}{')' * 2000}'")
    assert "is not a regular expression: too large" in fault("command=~'a{99999999999}'")


@given(
    st.text(max_size=60)
    | st.text(alphabet="pidty=!<>&|~()'\"1 net", max_size=40)
    | st.text().map(lambda pattern: f"user=~'{pattern}'")
)
@example("user=~'(?\x1b)'")
def test_any_text_is_an_expression_or_wrong_usage(text: str) -> None:
    try:
        answer = chooses(text)
    except UsageFault as error:
        said = str(error)
    else:
        assert answer in (True, False)
        return
    assert said.isprintable()


SIGNS = {"==": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le} | {
    ">": operator.gt,
    ">=": operator.ge,
}
comparisons = st.tuples(
    st.sampled_from(["ns", "pid", "ppid", "nprocs"]),
    st.sampled_from(sorted(SIGNS)),
    st.integers(0, 3) | st.sampled_from(["ns", "pid"]),
)
trees = st.recursive(
    comparisons,
    lambda inner: (
        st.tuples(st.just("!"), inner)
        | st.tuples(st.sampled_from(["&&", "||"]), st.lists(inner, min_size=1, max_size=3))
    ),
    max_leaves=8,
)


def written(tree: Any) -> str:
    match tree:
        case ("!", inner):
            return f"!({written(inner)})"
        case ("&&" | "||" as sign, list(parts)):
            return str(sign).join(f"({written(part)})" for part in parts)
        case (left, sign, right):
            return f"{left} {sign} {right}"
    raise AssertionError


def meant(tree: Any, row: dict[str, int]) -> bool:
    match tree:
        case ("!", inner):
            return not meant(inner, row)
        case ("&&", list(parts)):
            return all(meant(part, row) for part in parts)
        case ("||", list(parts)):
            return any(meant(part, row) for part in parts)
        case (left, sign, right):
            return bool(SIGNS[sign](row[left], row.get(right, right)))
    raise AssertionError


@given(
    trees,
    st.fixed_dictionaries({name: st.integers(0, 3) for name in ("ns", "pid", "ppid", "nprocs")}),
)
def test_an_expression_means_what_it_says(tree: Any, row: dict[str, int]) -> None:
    assert chooses(written(tree), **row) is meant(tree, row)


@given(
    st.lists(
        st.tuples(st.sampled_from(["&&", "||"]), st.booleans(), st.integers(0, 1)),
        min_size=1,
        max_size=6,
    )
)
def test_precedence_is_that_of_python(parts: list[tuple[str, bool, int]]) -> None:
    """Without parentheses: or, and, not, comparison; loosest first."""
    text = python = ""
    for at, (sign, negated, value) in enumerate(parts):
        text += (sign if at else "") + ("!" if negated else "") + f"pid=={value}"
        word = {"&&": " and ", "||": " or "}[sign]
        python += (word if at else "") + ("not " if negated else "") + f"pid=={value}"
    assert chooses(text, pid=1) is eval(python, {"pid": 1})
