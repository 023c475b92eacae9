"""OCI bundles: what each member of a config.json means, and what is refused or left out."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from pyspaces import UsageFault, run
from pyspaces.features.ids import capabilities
from pyspaces.settings import plan_from
from pyspaces.settings.bundle import reading

PLAIN: dict[str, Any] = {
    "ociVersion": "1.0.2",
    "process": {"args": ["true"], "cwd": "/", "user": {"uid": 0, "gid": 0}},
    "root": {"path": "rootfs"},
    "mounts": [{"destination": "/dev", "type": "tmpfs"}],
    "linux": {"namespaces": [{"type": "user"}, {"type": "mount"}]},
}


def merged(below: Any, above: Any) -> Any:
    if not (isinstance(below, dict) and isinstance(above, dict)):
        return above
    return {**below, **{key: merged(below.get(key), value) for key, value in above.items()}}


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    for name in ("dev", "proc", "sys", "x"):
        (tmp_path / "rootfs" / name).mkdir(parents=True)
    return tmp_path


def read(place: Path, more: dict[str, Any]) -> reading.Bundle:
    (place / "config.json").write_text(json.dumps(merged(PLAIN, more)))
    return reading.read(str(place))


def in_linux(**members: Any) -> dict[str, Any]:
    return {"linux": members}


def mount(**members: Any) -> dict[str, Any]:
    return {"mounts": [PLAIN["mounts"][0], {"destination": "/x", **members}]}


LAYERS = ["lowerdir=a:b", "upperdir=u", "workdir=w"]


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({"process": {"args": ["a", "b"]}}, {"command": ("a", "b")}),
        ({"process": {"env": ["A=b=c"]}}, {"setenv": [("A", "b=c")], "clearenv": True}),
        ({"process": {"user": {"uid": 3, "umask": 18}}}, {"setuid": "3", "umask": "0022"}),
        ({"process": {"user": {"additionalGids": [1, 2]}}}, {"groups": ["1,2"]}),
        ({"process": {"noNewPrivileges": True}}, {"no_new_privs": True}),
        ({"process": {"noNewPrivileges": False}}, {"allow_new_privs": True}),
        ({"process": {"oomScoreAdj": 7}}, {"oom_score_adj": "7"}),
        (
            {"process": {"ioPriority": {"class": "IOPRIO_CLASS_BE", "priority": 3}}},
            {"ionice": "best-effort:3"},
        ),
        (
            {
                "process": {
                    "rlimits": [{"type": "RLIMIT_CORE", "soft": 1, "hard": 18446744073709551615}]
                }
            },
            {"rlimit": ["core=1:unlimited"]},
        ),
        ({"hostname": "h", "domainname": "d"}, {"hostname": "h", "domainname": "d"}),
        ({"root": {"readonly": True}}, {"mounts": [["dev", "/dev"], ["remount_ro", "/"]]}),
        (mount(type="proc"), {"mounts": [["dev", "/dev"], ["proc", "/x"]]}),
        (
            mount(type="sysfs", options=["ro", "noexec"]),
            {"mounts": [["dev", "/dev"], ["sysfs", "/x"], ["remount_ro", "/x"]]},
        ),
        (
            mount(type="tmpfs", options=["size=1k", "mode=700", "noexec"]),
            {
                "mounts": [
                    *(["dev", "/dev"], ["size", "1k"], ["perms", "700"], ["noexec"]),
                    ["tmpfs", "/x"],
                ]
            },
        ),
        (
            mount(type="none", source="/s", options=["rbind", "ro", "noexec"]),
            {"mounts": [["dev", "/dev"], ["noexec"], ["ro_bind", "/s", "/x"]]},
        ),
        (
            mount(type="overlay", options=LAYERS),
            {
                "mounts": [
                    *(["dev", "/dev"], ["overlay_src", "DIR/b"], ["overlay_src", "DIR/a"]),
                    ["overlay", "DIR/u", "DIR/w", "/x"],
                ]
            },
        ),
        (
            in_linux(namespaces=[{"type": "network"}, {"type": "uts", "path": "/n"}]),
            {"net": True, "join": ["uts=/n"]},
        ),
        (
            in_linux(uidMappings=[{"containerID": 0, "hostID": 5, "size": 2}]),
            {"map_uid": ["0:5:2"]},
        ),
        (
            in_linux(
                resources={
                    "memory": {"limit": 100, "swap": 150},
                    "pids": {"limit": 9},
                    "cpu": {"quota": 50000, "period": 100000, "cpus": "0"},
                    "devices": [{"allow": False, "access": "rwm"}],
                }
            ),
            {"memory": "100", "swap": "50", "pids": "9", "cpus": "0.50000", "cpu_list": "0"},
        ),
        (
            in_linux(timeOffsets={"boottime": {"secs": -1, "nanosecs": 5}}),
            {"boottime": "-0.999999995"},
        ),
        (in_linux(rootfsPropagation="rslave"), {"propagation": "slave"}),
        (in_linux(seccomp={"defaultAction": "SCMP_ACT_ALLOW"}), {"seccomp": "DIR/config.json"}),
        (in_linux(maskedPaths=["/a"]), {"mounts": [["dev", "/dev"], ["mask", "/a"]]}),
        (in_linux(readonlyPaths=["/proc/sys"]), {"mounts": [["dev", "/dev"]]}),
    ],
)
def test_a_member_is_a_setting(
    bundle: Path, more: dict[str, Any], expected: dict[str, Any]
) -> None:
    found = read(bundle, more)
    assert found.warnings == ()
    text = json.dumps({name: found.settings[name] for name in expected})
    assert json.loads(text.replace(str(bundle), "DIR")) == json.loads(json.dumps(expected))


def test_capabilities_are_those_of_the_bounding_set(bundle: Path) -> None:
    sets = {kind: ["CAP_KILL"] for kind in ("bounding", "permitted", "effective", "ambient")}
    found = read(bundle, {"process": {"capabilities": sets}}).settings
    assert set(capabilities.NAMES) - set(found["cap_drop"]) - {"CAP_KILL"} == set(
        capabilities.unknown_here(capabilities.NAMES)
    )
    assert "cap_add" not in found
    sets["permitted"] = []
    found_2 = read(bundle, {"process": {"user": {"uid": 7}, "capabilities": sets}})
    assert found_2.settings["cap_add"] == ["CAP_KILL"]
    assert read(bundle, {"process": {"capabilities": sets}}).warnings


@pytest.mark.parametrize(
    ("more", "fault"),
    [
        ({"ociVersion": "2.0"}, "ociVersion: '2.0' is not a version 1"),
        ({"process": {"args": []}}, "process.args: is missing"),
        ({"process": {"args": "ls"}}, "process.args: has to be a list"),
        ({"process": {"args": [1]}}, "process.args: each of it has to be a text"),
        ({"process": {"args": ["a\0b"]}}, "process.args: each of it has to be a text"),
        ({"process": {"env": ["A"]}}, "process.env: 'A' is not NAME=VALUE"),
        ({"process": {"apparmorProfile": "p"}}, "process.apparmorProfile: is not supported"),
        ({"process": {"selinuxLabel": "l"}}, "process.selinuxLabel: is not supported"),
        ({"process": {"capabilities": {"bounding": ["CAP_X"]}}}, "CAP_X: is not a capability"),
        ({"hooks": {"prestart": [{"path": "/x"}]}}, "hooks: are not run"),
        (mount(type="nfs"), "mounts[1].type: 'nfs' is not supported"),
        (mount(type="bind", source="/", options=["idmap"]), "options: 'idmap' is not supported"),
        (mount(type="bind", source="/", options=["ro", "dev"]), "only one of ro, suid and dev"),
        ({"mounts": [{"destination": "/none", "type": "proc"}]}, "rootfs: /none: create what"),
        (in_linux(sysctl={"a": "b"}), "linux.sysctl: is not supported"),
        (in_linux(namespaces=[{"type": "x"}]), "linux.namespaces[0].type: 'x' is not a names"),
        (
            in_linux(namespaces=[], uidMappings=[{"containerID": 0, "hostID": 5, "size": 2}]),
            "linux.uidMappings: requires a user namespace",
        ),
        (in_linux(resources={"memory": {"kernel": 5}}), "memory.kernel: this limit is not supp"),
        (in_linux(resources={"hugepageLimits": [{}]}), "hugepageLimits: this limit is not supp"),
        (in_linux(readonlyPaths=["/etc"]), "/etc: only paths in /proc are supported"),
        (in_linux(rootfsPropagation="shared"), "rootfsPropagation: 'shared' is not supported"),
    ],
)
def test_what_cannot_be_done_is_named(bundle: Path, more: dict[str, Any], fault: str) -> None:
    with pytest.raises(UsageFault) as caught:
        read(bundle, more)
    assert fault in "\n".join(caught.value.faults)


def test_what_the_command_lacks_is_named_and_left_out(bundle: Path) -> None:
    more = mount(type="cgroup") | in_linux(
        devices=[{"path": "/dev/null"}, {"path": "/dev/fuse"}], cgroupsPath="a", unknown=[1]
    )
    warnings = "\n".join(read(bundle, more).warnings)
    for text in ("cgroup on /x", "/dev/fuse", "cgroupsPath", "linux.unknown: is left out"):
        assert text in warnings
    assert "/dev/null" not in warnings
    read(bundle, mount(type="cgroup"))
    with pytest.warns(UserWarning, match="cgroup on /x is left out") as told:
        assert plan_from({"bundle": bundle, "hostname": "h"}).command == ("true",)
    assert told[0].filename == __file__
    with pytest.raises(UsageFault, match="bundle: make a plan by plan_from"):
        run(["true"], bundle=bundle)  # type: ignore[call-arg]


def test_a_file_that_is_none_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    for text, why in (
        ("", "Expecting value"),
        ("[" * 100_000, "is nested too deeply"),
        ("[]", "has to be an object"),
        (" " * (1 << 20) + "{}", "is larger than 1 MiB"),
        ("9" * 100_000, "limit"),
    ):
        file.write_text(text)
        with pytest.raises(UsageFault, match=why):
            reading.read(str(tmp_path))
    file.unlink()
    os.mkfifo(file)
    with pytest.raises(UsageFault, match="is not a regular file"):
        reading.read(str(tmp_path))
    file.unlink()
    with pytest.raises(UsageFault, match="No such file"):
        reading.read(str(tmp_path))
