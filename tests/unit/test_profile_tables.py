"""Profiles: what tables mean, how they add up, and that what is written is read again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyspaces import UsageFault
from pyspaces.settings import BY_NAME, FLAG, MANY, ORDERED, PAIRS, SETTINGS, TOGGLE, plan_from
from pyspaces.settings.profiles import files, layers, places, reading, tables, writing
from pyspaces.settings.profiles.places import Found


def content(text: str, *, place: str = places.FILE, base: str = "") -> tables.Content:
    table = files.decode(text.encode())
    found = Found(name="x", place=place, path="./x.toml", table=table, base=base)
    return tables.content_of(found)


def values(text: str, **more: str) -> dict[str, Any]:
    return dict(content(text, **more).layer.values)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("user = true\nmap-root = true", {"user": True, "map_root": True}),
        ("map_root = true", {"map_root": True}),
        ('net = true\nhostname = "h"', {"net": True, "hostname": "h"}),
        ('net = "user"\nloopback = false', {"net": "user", "loopback": False}),
        ("nice = 3\nnet = false", {"nice": "3"}),
        ('dns = "1.1.1.1"', {"dns": ["1.1.1.1"]}),
        ('allow-read = ["/a", "/b"]', {"allow_read": ["/a", "/b"]}),
        (
            'size = "1M"\ntmpfs = ["/a", "/b"]\nbind = ["/c", "/d"]\nhost-ro = true',
            {
                "mounts": [
                    *(["size", "1M"], ["tmpfs", "/a"], ["tmpfs", "/b"]),
                    *(["bind", "/c", "/d"], ["host_ro"]),
                ]
            },
        ),
        (
            'ro-bind = [["/a", "/b"], ["/c", "/d"]]\nmounts = [["chmod", 755, "/x"],["read-only"]]',
            {
                "mounts": [
                    *(["ro_bind", "/a", "/b"], ["ro_bind", "/c", "/d"]),
                    *(["chmod", "755", "/x"], ["read_only"]),
                ]
            },
        ),
        ('mount = "type=tmpfs,target=/x"', {"mounts": [["mount", "type=tmpfs,target=/x"]]}),
        ("mount = true", {"mount": True}),
        ('[environment]\nA = "b"\nN = 4', {"setenv": [("A", "b"), ("N", "4")]}),
        ('setenv = [["A", "b"]]', {"setenv": [("A", "b")]}),
    ],
)
def test_the_keys_are_the_settings(text: str, expected: dict[str, Any]) -> None:
    assert values(text) == expected


@pytest.mark.parametrize(
    ("text", "fault", "hint"),
    [
        ("hostnmae = 'x'", "x.toml: hostnmae: unknown setting", "did you mean hostname?"),
        ("host-r0 = true", "unknown setting", "did you mean host-ro?"),
        ("[env]\nA = '1'", "env: unknown setting", None),
        ("user = 1", "user: takes true or false", None),
        ("hostname = true", "hostname: takes a text or a number, and is of type bool", None),
        ("hostname = 1979-05-27", "takes a text or a number, and is of type date", None),
        ("hostname = ['a']", "of type list", None),
        ("dns = [['a']]", "of type list", None),
        ("map-root = true\nmap_root = true", "map_root: is given twice", None),
        ("bind = ['/a']", "bind: takes 2 texts, and not 1", None),
        ("bind = '/a'", "takes a list of lists", None),
        ("host-ro = 'x'", "takes true or false", None),
        ("mounts = [['nonsense']]", "'nonsense' is not an operation", None),
        ("mounts = [[]]", "one is empty", None),
        ("mounts = [['file', 3, '/x']]", "mounts: file: is the number of an open desc", None),
        ("seccomp-fd = [3]", "which a file cannot know", None),
        ("command = ['ls']", "command: a profile has settings only", None),
        ("profile = 'x'", "profile: use extends", None),
        ("environment = 3", "takes a table", None),
        ("[environment]\nA = true", "environment: A: takes a text", None),
        ('hostname = "a\\u0000b"', "a text with a NUL", None),
    ],
)
def test_what_is_wrong_is_said_with_the_file_and_the_nearest_key(
    text: str, fault: str, hint: str | None
) -> None:
    with pytest.raises(UsageFault) as caught:
        content(text)
    assert fault in caught.value.message
    assert caught.value.message.startswith("profile: ./x.toml: ")
    if hint:
        assert caught.value.hint == hint


@pytest.mark.parametrize("name", sorted(tables.OF_CALLER))
def test_a_project_names_no_file_that_the_launcher_writes(name: str) -> None:
    text = f"{name} = 'x'"
    assert values(text)
    with pytest.raises(UsageFault, match="names a file that the launcher writes"):
        content(text, place=places.PROJECT)


def test_every_refusal_is_about_a_setting_and_every_path_about_one() -> None:
    names = {*tables.REFUSED, *tables.OF_CALLER} - {"command", "bundle"}
    assert names <= set(BY_NAME)


def test_later_layers_win_lists_add_up_and_false_takes_away() -> None:
    below = content(
        "user = true\nhostname = 'a'\ndns = ['1.1.1.1']\nrlimit = ['nofile=1', 'core=0']\n"
        "size = '1M'\ntmpfs = '/a'\nbind = ['/x', '/y']\n"
        "[environment]\nA = '1'\nB = '2'\nC = '3'"
    ).layer
    above = content(
        "user = false\nhostname = 'b'\ndns = '2.2.2.2'\nrlimit = 'nofile=9'\ntmpfs = false\n"
        "mounts = [['dir', '/d']]\n[environment]\nA = false\nB = '9'"
    ).layer
    line = layers.of_mapping(
        {"hostname": "c", "unsetenv": ["C"], "pid": None, "dns": (), "mounts": [["dir", "/e"]]}
    )
    assert layers.merged([below, above, line]) == {
        "hostname": "c",
        "dns": ["1.1.1.1", "2.2.2.2"],
        "rlimit": ["core=0", "nofile=9"],
        "mounts": [["bind", "/x", "/y"], ["dir", "/d"], ["dir", "/e"]],
        "setenv": [("B", "2"), ("B", "9")],
        "unsetenv": ["A", "C"],
    }
    gone = layers.of_mapping({"mounts": False, "dns": False, "loopback": False})
    assert layers.merged([below, gone])["loopback"] is False
    assert not {"mounts", "dns"} & layers.merged([below, gone]).keys()


def test_relative_paths_are_those_of_the_directory_of_the_file(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HOME", "/h")
    text = (
        "bind = [['.', '.'], ['a', '/b'], ['~/c', '~/c']]\nseccomp = 'default'\nroot = 'r'\n"
        "workdir = 'w'\njoin = ['net=box', 'uts=./f']\nmount = 'type=bind,source=s,target=t'"
    )
    assert values(text, base="/p") == {
        "mounts": [
            *(["bind", "/p", "/p"], ["bind", "/p/a", "/b"], ["bind", "/h/c", "/h/c"]),
            ["mount", "type=bind,source=/p/s,target=t"],
        ],
        "seccomp": "default",
        "root": "/p/r",
        "workdir": "w",
        "join": ["net=box", "uts=/p/f"],
    }
    assert values(text)["root"] == "r"
    for net, read in (("./n/f", "/p/n/f"), ("~/f", "/h/f"), ("user", "user"), ("42", "42")):
        assert values(f"net = '{net}'", base="/p") == {"net": read}
    for diff, read in (("-", "-"), ("./-", "/p/-")):
        assert values(f"overlay-diff = '{diff}'", base="/p") == {"overlay_diff": read}


def test_profiles_of_a_file_extend_each_other_once(tmp_path: Path) -> None:
    rows = [f"[profile.p{n}]\nextends = ['p{n + 1}', 'p{n + 1}']\ndns = '{n}'" for n in range(20)]
    file = tmp_path / "many.toml"
    file.write_text("\n".join([*rows, "[profile.p20]\nextends = 'pyspaces:untrusted'"]))
    found = reading.read(f"{file}:p0")
    # Not 2 ** 20 of them.
    assert found.settings["dns"] == [str(n) for n in range(19, -1, -1)]
    assert found.extends[0] == "pyspaces:untrusted"
    file.write_text(file.read_text().replace("pyspaces:untrusted", "p3"))
    with pytest.raises(UsageFault, match=r"extends itself: p0 → p1 → .*p20 → p3"):
        reading.read(f"{file}:p0")


def test_a_program_names_profiles_and_takes_settings_away(tmp_path: Path) -> None:
    file = tmp_path / "x.toml"
    file.write_text("user = true\nhostname = 'a'\nhost-ro = true")
    plan = plan_from({"command": ["true"], "profile": file, "hostname": "b", "host_ro": False})
    assert (plan.namespaces, plan.uts.hostname) == (("user", "uts"), "b")
    assert not plan.mounts.operations
    assert plan_from({"command": ["true"], "profile": [file], "net": True}).mounts.operations
    for wrong in (3, [None], "\0", {"a": 1}):
        with pytest.raises(UsageFault, match="profile: "):
            plan_from({"command": ["true"], "profile": wrong})


# Any text that TOML can hold.
WORDS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12)


def of_kind(name: str) -> st.SearchStrategy[Any]:
    row = BY_NAME[name]
    if row.kind in (FLAG, TOGGLE):
        return st.just(True)
    if row.kind == MANY:
        return st.lists(WORDS, min_size=1, max_size=3)
    return WORDS


SAVED = [
    row.name for row in SETTINGS if row.kind not in (ORDERED, PAIRS) and row.kind != "operation"
]


@given(
    st.fixed_dictionaries(
        {},
        optional={name: of_kind(name) for name in SAVED if name not in tables.REFUSED},
    ),
    st.dictionaries(WORDS, WORDS, max_size=3),
    st.lists(st.sampled_from(["tmpfs", "bind", "symlink", "read_only", "size"]), max_size=4),
    st.data(),
)
def test_what_is_written_is_read_again(
    settings: dict[str, Any], pairs: dict[str, str], names: list[str], data: st.DataObject
) -> None:
    for name in names:
        count = len(BY_NAME[name].metavar.split())
        words = data.draw(st.lists(WORDS, min_size=count, max_size=count))
        settings.setdefault("mounts", []).append([name, *words])
    if pairs:
        settings["setenv"] = [*pairs.items()]
    typed = writing.as_typed(settings, absolute=False)
    assert values(writing.toml_of(typed)) == typed
