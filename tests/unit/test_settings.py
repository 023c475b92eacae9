"""From a plain mapping to a plan: what is implied, inherited, contradicted, all at once."""

from __future__ import annotations

import os
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyspaces import settings
from pyspaces.errors import SpaceError, UsageFault
from pyspaces.features.clocks import Offset
from pyspaces.features.environment import Environment
from pyspaces.features.hostname import Uts
from pyspaces.features.ids.idmap import Extent
from pyspaces.features.network.uplink import WORDS
from pyspaces.kernel import namespaces, procfs
from pyspaces.plan import Plan
from pyspaces.plan.plan import PARTS
from pyspaces.settings import BY_NAME, SETTINGS, plan_from

UID, GID = os.geteuid(), os.getegid()


def plan(**values: Any) -> Plan:
    return plan_from({"command": ["true"], **values})


def faults(**values: Any) -> tuple[str, ...]:
    with pytest.raises(UsageFault) as caught:
        plan(**values)
    return caught.value.faults


def extent(inside: int, outside: int, count: int = 1) -> Extent:
    return Extent(inside=inside, outside=outside, count=count)


# --- the table -------------------------------------------------------------------------------


def test_names_and_short_forms_are_given_once() -> None:
    assert len(BY_NAME) == len(SETTINGS)
    shorts = [setting.short for setting in SETTINGS if setting.short]
    assert len(set(shorts)) == len(shorts)
    letters = [short for short in shorts if short[:2] != "--"]
    assert all(len(short) == 2 and short[0] == "-" for short in letters)
    # Long ones are second names.
    assert not {row.option for row in SETTINGS}.intersection(shorts)
    assert not {"-h", "-v"} & set(shorts)


def test_a_setting_says_what_it_is() -> None:
    for setting in SETTINGS:
        assert setting.option == "--" + setting.name.replace("_", "-")
        assert setting.group in settings.GROUPS
        assert setting.help
        assert set(setting.implies) <= set(namespaces.NAMES)
        takes_text = setting.kind not in (settings.FLAG, settings.TOGGLE)
        # Of an operation, the metavar says how many words follow: perhaps none.
        if setting.kind != settings.ORDERED:
            assert bool(setting.metavar) == takes_text, setting.name
        assert takes_text or not (setting.words or setting.listed or setting.directory)


def test_every_namespace_is_a_setting_that_implies_itself() -> None:
    for name in namespaces.NAMES:
        assert BY_NAME[name].implies == (name,)
        kinds = {"net": settings.OPTIONAL, "mount": settings.OPERATION}
        assert BY_NAME[name].kind == kinds.get(name, settings.FLAG)


# --- namespaces ------------------------------------------------------------------------------


def test_a_command_alone() -> None:
    assert plan() == Plan(command=("true",))


@given(st.sets(st.sampled_from(namespaces.NAMES)))
def test_namespaces_stand_in_their_own_order(names: set[str]) -> None:
    made = plan(**dict.fromkeys(names, True))
    assert made.namespaces == tuple(name for name in namespaces.NAMES if name in names)


@pytest.mark.parametrize(
    ("values", "implied"),
    [
        ({"map_uid": ["0,1,1"]}, ("user",)),
        ({"map_gid": ["none"]}, ("user",)),
        ({"map_root": True}, ("user",)),
        ({"map_current": True}, ("user",)),
        ({"setgroups": "deny"}, ("user",)),
        ({"hostname": "box"}, ("uts",)),
        ({"domainname": "box"}, ("uts",)),
        ({"boottime": "1"}, ("time",)),
        ({"monotonic": "-1"}, ("time",)),
        ({"boottime": 0}, ("time",)),
        ({"mount_proc": True}, ("mount", "pid")),
        ({"propagation": "slave"}, ("mount",)),
        ({"propagation": "private"}, ("mount",)),
        ({"workdir": "/"}, ()),
        ({"setenv": [("A", "B")]}, ()),
        ({"clearenv": True}, ()),
    ],
)
def test_a_setting_implies_its_namespaces(values: dict[str, Any], implied: tuple[str, ...]) -> None:
    assert plan(**values).namespaces == implied


@pytest.mark.parametrize("unused", [None, False, (), []], ids=repr)
def test_a_setting_that_is_not_used_implies_nothing(unused: object) -> None:
    for name, setting in BY_NAME.items():
        if setting.kind != settings.TOGGLE:
            assert plan(**{name: unused}) == plan(), name


def test_all_is_every_namespace_of_this_kernel() -> None:
    assert set(plan(all=True).namespaces) == set(namespaces.supported())


def test_share_takes_some_out_of_all() -> None:
    made = plan(all=True, share=["net,ipc", "uts"])
    assert set(made.namespaces) == set(namespaces.supported()) - {"net", "ipc", "uts"}


def test_share_may_have_blanks_after_its_commas() -> None:
    assert plan(all=True, share="net, ipc") == plan(all=True, share=["net", "ipc"])


def test_shared_user_leaves_the_ids_alone() -> None:
    made = plan(all=True, share=["user"])
    assert (made.maps.uid_map, made.maps.gid_map) == ((), ())


def test_share_without_all_is_a_fault() -> None:
    assert any("share: requires --all" in fault for fault in faults(share=["net"]))


def test_share_of_what_is_no_namespace_is_a_fault() -> None:
    (fault,) = faults(all=True, share=["nett"])
    assert "'nett'" in fault


@pytest.mark.parametrize(
    ("values", "option", "name"),
    [
        ({"net": True}, "--net", "net"),
        ({"hostname": "box"}, "--hostname", "uts"),
        ({"map_uid": ["root"]}, "--map-uid", "user"),
        ({"mount_proc": True}, "--mount-proc", "pid"),
        ({"boottime": "1"}, "--boottime", "time"),
    ],
)
def test_sharing_what_another_setting_wants_new_names_both(
    values: dict[str, Any], option: str, name: str
) -> None:
    assert f"share: {name}: {option} asks for a new one" in faults(all=True, share=[name], **values)


# --- id maps ---------------------------------------------------------------------------------


def test_user_alone_is_root_inside() -> None:
    made = plan(user=True)
    assert made.maps.uid_map == (extent(0, UID),)
    assert made.maps.gid_map == (extent(0, GID),)


def test_map_current() -> None:
    made = plan(map_current=True)
    assert made.maps.uid_map == (extent(UID, UID),)
    assert made.maps.gid_map == (extent(GID, GID),)


def test_a_word_for_uids_holds_for_gids() -> None:
    assert plan(map_uid=["current"]).maps.gid_map == (extent(GID, GID),)
    assert plan(map_uid="root").maps.gid_map == (extent(0, GID),)
    none = plan(map_uid=["none"])
    assert (none.maps.uid_map, none.maps.gid_map) == ((), ())
    own = tuple(extent(row[0], row[0], row[2]) for row in procfs.id_map("gid_map"))
    assert plan(map_uid=["all"]).maps.gid_map == own


def test_a_word_for_uids_gives_way_to_map_gid() -> None:
    made = plan(map_uid=["current"], map_gid=["7,8,9"])
    assert made.maps.uid_map == (extent(UID, UID),)
    assert made.maps.gid_map == (extent(7, 8, 9),)
    assert plan(map_uid=["none"], map_gid=["root"]).maps.gid_map == (extent(0, GID),)


def test_records_for_uids_are_not_taken_for_gids() -> None:
    made = plan(map_uid=["0,7,1"])
    assert made.maps.uid_map == (extent(0, 7),)
    assert made.maps.gid_map == (extent(0, GID),)


def test_map_gid_alone_leaves_uids_at_root() -> None:
    made = plan(map_gid=["3,4,5"])
    assert made.maps.uid_map == (extent(0, UID),)
    assert made.maps.gid_map == (extent(3, 4, 5),)


def test_records_add_up_in_the_order_given() -> None:
    made = plan(map_uid=["5,100,1", "0:200:1", "7 300 1,8 400 1"])
    assert made.maps.uid_map == (extent(5, 100), extent(0, 200), extent(7, 300), extent(8, 400))


def test_a_word_and_records_add_up_and_only_the_word_is_inherited() -> None:
    made = plan(map_uid=["root", "1,100000,10"])
    assert made.maps.uid_map == (extent(0, UID), extent(1, 100000, 10))
    assert made.maps.gid_map == (extent(0, GID),)


@pytest.mark.parametrize("value", [0, "0", ["0"], [0]])
def test_zero_is_a_value(value: object) -> None:
    """0 as a Python int: user 0 outside is root inside; not the same as no value."""
    made = plan(map_uid=value)
    assert made.namespaces == ("user",)
    assert made.maps.uid_map == (extent(0, 0),)
    assert made.maps.gid_map == (extent(0, GID),)


def test_a_map_that_cannot_be_meant_names_option_and_record() -> None:
    (fault,) = faults(map_uid=["0,1,1", "0,5,1"])
    assert fault == "map-uid: 0 5 1: overlaps with 0 1 1 in its inside ids"
    (fault,) = faults(map_gid=["0,1,x"])
    assert fault.startswith("map-gid: 0,1,x")
    (fault,) = faults(map_uid=["none", "0,1,1"])
    assert fault.startswith("map-uid: none")


def test_huge_numbers_of_digits_are_faults() -> None:
    for text in ("9" * 10_000, "0,0," + "9" * 10_000, "0" * 10_000 + "x"):
        (fault,) = faults(map_uid=[text])
        assert fault.startswith("map-uid: ")


@pytest.mark.parametrize("text", ["0" * 5000, "0" * 5000 + ",0,1"])
def test_huge_numbers_of_zeros_are_no_crash(text: str) -> None:
    try:
        made = plan(map_uid=[text])
    except UsageFault:
        return
    assert made.maps.uid_map == (extent(0, 0),)


@pytest.mark.parametrize("word", ["allow", "deny"])
def test_setgroups(word: str) -> None:
    assert plan(setgroups=word).maps.setgroups == word


def test_setgroups_takes_no_other_word() -> None:
    (fault,) = faults(setgroups="")
    assert fault.startswith("setgroups: ")


# --- set-up ----------------------------------------------------------------------------------


def test_proc_comes_with_pid_and_mount_together() -> None:
    assert plan(pid=True, mount=True).mounts.mount_proc is True
    assert plan(pid=True).mounts.mount_proc is False
    assert plan(mount=True).mounts.mount_proc is False
    assert plan(pid=True, mount=True, mount_proc=False).mounts.mount_proc is False
    assert plan(mount_proc=True).namespaces == ("mount", "pid")


def test_no_mount_proc_implies_nothing() -> None:
    assert plan(mount_proc=False).namespaces == ()


def test_loopback_is_up_unless_told() -> None:
    assert plan(net=True).net.loopback is True
    assert plan(net=True, loopback=False).net.loopback is False
    assert plan(net=True, loopback=None).net.loopback is True


@pytest.mark.parametrize("value", ["-1.5", -1.5])
def test_clocks(value: object) -> None:
    made = plan(boottime=value)
    assert made.clocks.boottime == Offset(seconds=-2, nanoseconds=500_000_000)
    assert made.clocks.monotonic is None
    assert plan(monotonic=10).clocks.monotonic == Offset(seconds=10)
    assert plan(boottime=0).clocks.boottime == Offset(seconds=0)


def test_a_clock_that_is_no_number_is_a_fault() -> None:
    assert faults(boottime="soon", monotonic="") == (
        "boottime: 'soon' is not a number of seconds, or one with s, m, h or d",
        "monotonic: '' is not a number of seconds, or one with s, m, h or d",
    )


def test_names_and_directory() -> None:
    made = plan(hostname="box", domainname="example", workdir="/tmp")
    assert (made.uts.hostname, made.uts.domainname, made.workdir) == ("box", "example", "/tmp")


def test_an_empty_text_is_a_value_and_a_fault() -> None:
    assert len(faults(hostname="", domainname="", workdir="")) == 3


@pytest.mark.parametrize("word", ["private", "slave", "shared", "unchanged"])
def test_propagation(word: str) -> None:
    assert plan(propagation=word).mounts.propagation == word


@pytest.mark.parametrize("word", ["", "odd"])
def test_propagation_takes_no_other_word(word: str) -> None:
    (fault,) = faults(propagation=word)
    assert fault.startswith("propagation: ")


# --- environment -----------------------------------------------------------------------------


def test_environment() -> None:
    made = plan(
        setenv=[("A", "1"), ["B", "2"]], unsetenv=["C", "D"], keep_env=["LC_*,HOME", "TERM"]
    )
    assert made.environment == Environment(
        clear=True, keep=("LC_*", "HOME", "TERM"), unset=("C", "D"), set=(("A", "1"), ("B", "2"))
    )


def test_clearenv_alone() -> None:
    assert plan(clearenv=True).environment == Environment(clear=True)


def test_a_name_to_unset_is_not_cut_at_its_commas() -> None:
    assert plan(unsetenv=["A,B"]).environment.unset == ("A,B",)


def test_one_text_is_one_item() -> None:
    assert plan(unsetenv="HOME").environment.unset == ("HOME",)
    assert plan(keep_env="HOME,TERM").environment.keep == ("HOME", "TERM")


# --- the whole -------------------------------------------------------------------------------


def test_an_unknown_setting_is_a_fault() -> None:
    assert faults(hostnam="x") == ("hostnam: unknown setting",)


@pytest.mark.parametrize("command", [(), [], None])
def test_no_command_is_a_fault(command: object) -> None:
    with pytest.raises(UsageFault, match="command"):
        plan_from({"command": command})
    with pytest.raises(UsageFault, match="command"):
        plan_from({})


def test_a_command_that_is_one_text_is_not_taken_apart() -> None:
    """`command="true"` in Python: one word or a fault, but never the four words t, r, u, e."""
    try:
        made = plan_from({"command": "true"})
    except UsageFault:
        return
    assert made.command == ("true",)


def test_every_fault_is_told_at_once_and_once() -> None:
    told = faults(
        colour="red",
        map_uid=["0,1,0", "x"],
        map_gid=["0,1,1,0,2,1"],
        setgroups="maybe",
        hostname="",
        boottime="soon",
        propagation="odd",
        all=True,
        share=["nett", "uts"],
        workdir="",
        setenv=[("", "x")],
        unsetenv=["A=B"],
    )
    for part in (
        "colour: unknown setting",
        "map-uid: 0,1,0",
        "map-uid: x",
        "map-gid: 0 2 1",
        "setgroups: maybe",
        "hostname: a name cannot be empty",
        "boottime: 'soon'",
        "propagation: odd",
        "share: 'nett'",
        "share: uts: --hostname asks",
        "workdir: ",
        "setenv: ",
        "unsetenv: 'A=B'",
    ):
        assert len([fault for fault in told if fault.startswith(part)]) == 1, part
    assert len(told) == len(set(told)) == 13


def test_a_plan_has_been_checked() -> None:
    plan_from({"command": ["true"], "all": True, "hostname": "box", "boottime": "-5"}).check()


def test_the_mapping_is_not_changed() -> None:
    mapping: dict[str, Any] = {"command": ["true"], "all": True, "share": ["net"], "user": None}
    before = {name: (list(v) if isinstance(v, list) else v) for name, v in mapping.items()}
    plan_from(mapping)
    assert mapping == before


texts_of = {
    settings.FLAG: st.none() | st.booleans(),
    settings.TOGGLE: st.none() | st.booleans(),
    settings.OPERATION: st.none() | st.booleans(),
    settings.VALUE: st.none() | st.text(max_size=8),
    settings.OPTIONAL: st.none() | st.booleans() | st.sampled_from(WORDS) | st.text(max_size=8),
    settings.MANY: st.lists(st.text(max_size=8), max_size=3),
    settings.PAIRS: st.lists(st.tuples(st.text(max_size=4), st.text(max_size=4)), max_size=2),
}


@given(
    st.fixed_dictionaries(
        {},
        optional={
            **{row.name: texts_of[row.kind] for row in SETTINGS if row.kind != settings.ORDERED},
            "mounts": st.lists(
                st.tuples(
                    st.sampled_from([row.name for row in SETTINGS if row.kind == settings.ORDERED]),
                    *[st.text("/.ax0", max_size=4)] * 2,
                ).map(lambda words: words[: 1 + len(settings.BY_NAME[words[0]].metavar.split())]),
                max_size=3,
            ),
        },
    )
)
def test_any_mapping_of_the_right_kinds_is_a_plan_or_a_usage_fault(mapping: dict[str, Any]) -> None:
    try:
        made = plan_from({"command": ["true"], **mapping})
    except UsageFault:
        return
    except SpaceError as error:  # no usage can be right where the user has no subordinate ids
        if "no network, command or hold has this name" in error.message:
            assert isinstance(mapping["net"], str)
            return
        assert error.message.startswith("cannot map subordinate ")  # noqa: PT017
        assert mapping.get("map_auto") or {"auto", "subids"} & {
            *mapping.get("map_uid", []),
            *mapping.get("map_gid", []),
        }
        return
    assert list(made.faults()) == []
    assert Plan.from_data(made.to_data()) == made
    assert Plan.from_data(made.to_data(whole=False)) == made


# Texts that settings take, each some of them.
_TEXTS = ("0", "1", "root", "all", "none", "keep", "net", "box", "/", "KILL", "net=/x")
_VALUES: dict[str, list[Any]] = {
    settings.FLAG: [True],
    settings.TOGGLE: [True, False],
    settings.VALUE: [*_TEXTS],
    settings.MANY: [[text] for text in _TEXTS],
    settings.PAIRS: [[("A", "1")]],
}


# What is there besides: each value is read beside one of them, and, as `stress`, beside each.
_OTHERS: list[dict[str, Any]] = [
    {},
    {"user": True, "name": "box", "command": []},
    {"all": True},
    {"mounts": [["tmpfs", "/x"]]},
]


@pytest.mark.parametrize("every", [len(_OTHERS), pytest.param(1, marks=pytest.mark.stress)])
def test_to_read_what_is_asked_for_gives_the_same_as_to_read_everything(
    every: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The table says which features read a setting; it leaves none out that would matter."""
    values = [(row.name, value) for row in SETTINGS for value in _VALUES.get(row.kind, ())]
    mappings = [
        {**others, name: value}
        for place, (name, value) in enumerate(values)
        for number, others in enumerate(_OTHERS)
        if (place - number) % every == 0
    ]
    told = [outcome_of(mapping) for mapping in mappings]
    monkeypatch.setattr(Plan, "involved", lambda plan: {*PARTS})
    for mapping, before in zip(mappings, told, strict=True):
        assert before == outcome_of(mapping), mapping


def outcome_of(mapping: dict[str, Any]) -> object:
    """Return the plan, or what is wrong."""
    try:
        return plan_from({"command": ["true"], **mapping}).to_data()
    except SpaceError as error:
        return str(error)


def test_a_plan_holds_what_differs_and_nothing_else() -> None:
    assert [name for name in PARTS if plan().holds(name)] == []
    assert [name for name in PARTS if plan(user=True).holds(name)] == ["maps"]
    assert [name for name in PARTS if plan(hostname="box", pid=True).holds(name)] == ["uts"]
    held = plan(setuid="0", groups=["none"])
    assert [name for name in PARTS if held.holds(name)] == ["identity"]
    assert plan(loopback=True, net=True) == plan(net=True)
    assert Plan(command=("true",), uts=Uts()) == Plan(command=("true",))
    assert Plan(command=("true",), uts=Uts()).uts == Uts()
