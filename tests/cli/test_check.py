"""`pyspaces check`: what it says is held against unshare(1), mount(8) and the launch itself."""

from __future__ import annotations

import errno
import functools
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import IS_ROOT, SCRIPT, outcome, without

from pyspaces.host import check as host_check

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from conftest import Run

CLONE3 = 435
CLONE, UNSHARE, MOUNT = {"x86_64": (56, 272, 165), "aarch64": (220, 97, 40)}.get(
    os.uname().machine, (0, 0, 0)
)
NEW = 0x7E020000  # the flags of all namespaces but that of time

pytestmark = pytest.mark.needs("userns", "unshare")


def output_of(*words: str) -> str:
    done = outcome(words)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def rows_of(text: str) -> dict[str, Any]:
    data = json.loads(text)
    assert data["version"] == 1
    assert data["launch"] is None
    names = [row["name"] for row in data["rows"]]
    assert names == list(host_check.NAMES)
    assert all(row["answer"] in ("yes", "no", "degraded") for row in data["rows"])
    assert all(row["evidence"] for row in data["rows"])
    return {row["name"]: row for row in data["rows"]} | {"host": data["host"]}


@functools.cache
def check(*around: str) -> dict[str, Any]:
    """Check behind these words, once for all tests."""
    done = outcome([*around, SCRIPT, "check", "--json"])
    works = json.loads(done.stdout)["verdict"]["answer"] == "yes"
    assert done.returncode == (0 if works else 1), done.stderr
    return rows_of(done.stdout)


def check_behind(script: str) -> dict[str, Any]:
    """Check as root of a user and a mount namespace of our own, which `script` has changed."""
    return check("unshare", "-Urm", "sh", "-ec", f'{script}; exec "$@"', "sh")


PEERS = {
    **{
        f"namespace-{name}": [f"--{name}", "--fork"]
        for name in ("user", "mount", "pid", "net", "uts", "ipc", "cgroup", "time")
    },
    **{
        f"namespace-user-{name}": ["-Ur", f"--{name}", "--fork"]
        for name in ("mount", "pid", "net", "uts", "ipc", "cgroup", "time")
    },
    "map-one": ["-Ur"],
    "mount-proc": ["-Urpf", "--mount-proc"],
    "mount-tmpfs": ["-Urm", "mount", "-t", "tmpfs", "none", "/proc"],
    "mount-sysfs": ["-Urmn", "mount", "-t", "sysfs", "none", "/proc"],
}
# For each peer: does it work? Runs wherever the check itself runs.
ASK = 'import json,subprocess,sys; print(json.dumps({k: subprocess.run(["unshare", *v, *([] if "mount" in v else ["true"])], capture_output=True).returncode == 0 for k, v in json.loads(sys.argv[1]).items()}))'  # noqa: E501

PLACES: dict[str, list[str]] = {
    "here": [],
    "in a user namespace": [SCRIPT, "run", "--user", "--"],
    "in a pid namespace with an old /proc": [
        *(SCRIPT, "run", "--user", "--pid", "--no-mount-proc", "--"),
    ],
    "behind a covered /proc": [
        *("unshare", "-Urm", "sh", "-ec", 'mount --bind /dev/null /proc/uptime; exec "$@"', "sh"),
    ],
    "without user namespaces": [
        *(SCRIPT, "run", "--user", "--", "sh", "-ec"),
        *('echo 0 > /proc/sys/user/max_user_namespaces; exec "$@"', "sh"),
    ],
}


@pytest.mark.parametrize("place", PLACES)
def test_each_answer_is_that_of_a_peer(place: str) -> None:
    around = PLACES[place]
    truth = json.loads(output_of(*around, sys.executable, "-c", ASK, json.dumps(PEERS)))
    rows = check(*around)
    # Without a user namespace to make, root tries the rest without one.
    if place == "without user namespaces":
        truth = {name: ok for name, ok in truth.items() if not name.startswith(("mount-", "map-"))}
        assert rows["mount-tmpfs"]["answer"] == "yes"
    assert {name: rows[name]["answer"] == "yes" for name in truth} == truth


def test_who_may_do_what_without_a_user_namespace() -> None:
    row = check()["namespace-mount"]
    if IS_ROOT:
        assert row["answer"] == "yes"
    else:
        assert (row["answer"], row["remedy"].endswith("add --user")) == ("no", True)


def test_inside_a_user_namespace_of_one_id() -> None:
    rows = check(SCRIPT, "run", "--user", "--")
    assert rows["host"]["nested_user_namespace"] is True
    assert rows["host"]["uid"] == 0
    assert rows["map-many"]["answer"] == "no"
    assert "only one user id" in rows["map-many"]["evidence"]


def test_a_limit_of_zero() -> None:
    rows = check(*PLACES["without user namespaces"])
    assert rows["namespace-user"]["answer"] == "no"
    assert "No space left on device" in rows["namespace-user"]["evidence"]
    assert "sysctl user.max_user_namespaces=" in rows["namespace-user"]["remedy"]
    assert rows["limits-allow"]["answer"] == "no"
    assert rows["limits-allow"]["evidence"].startswith("user.max_user_namespaces: 0")
    assert rows["namespace-mount"]["answer"] == "yes"


def test_a_covered_proc() -> None:
    rows = check(*PLACES["behind a covered /proc"])
    assert rows["proc-visible"]["answer"] == "no"
    assert rows["proc-visible"]["evidence"] == "covered: /proc/uptime"
    assert "systempaths=unconfined" in rows["mount-proc"]["remedy"]


def test_no_proc_at_all() -> None:
    rows = check_behind("mount -t tmpfs none /proc")
    assert rows["proc-visible"] == {
        "name": "proc-visible",
        "answer": "no",
        "evidence": "not mounted",
        "remedy": "mount -t proc proc /proc",
    }
    assert rows["namespace-user"]["answer"] == "no"
    assert "/proc is not mounted here" in rows["namespace-user"]["remedy"]


def test_a_filter_without_clone3() -> None:
    rows = check(*without(CLONE3))
    assert rows["clone3"]["answer"] == "degraded"
    assert rows["unfiltered"]["answer"] == "degraded"
    assert rows["namespace-user"]["answer"] == "yes"


def test_a_filter_that_refuses() -> None:
    rows = check(*without(CLONE3, answer=errno.EPERM))
    for name in ("clone3", "unfiltered", "namespace-user"):
        assert rows[name]["answer"] == "no", name
    assert "seccomp=unconfined" in rows["namespace-user"]["remedy"]
    assert (
        rows["unfiltered"]["evidence"]
        == "a seccomp filter refuses clone3 (Operation not permitted)"
    )


@pytest.mark.skipif(not MOUNT, reason="the number of mount(2) is not known here")
def test_a_filter_without_mount() -> None:
    rows = check(*without(MOUNT, answer=errno.EPERM))
    assert rows["mount-tmpfs"]["answer"] == "no"
    assert "refuses mount" in rows["mount-tmpfs"]["remedy"]
    assert rows["namespace-user-uts"]["answer"] == "yes"


def test_a_filter_on_something_else_is_not_blamed() -> None:
    rows = check(*without(1023, answer=errno.EPERM))
    assert rows["unfiltered"]["answer"] == "yes"
    assert not [row for row in rows.values() if "seccomp=" in str(row.get("remedy"))]


def test_where_we_are() -> None:
    keys = ("GITHUB_ACTIONS", "GITLAB_CI", "CI", "container")
    clean = {name: value for name, value in os.environ.items() if name not in keys}
    for variables, expected in (
        ({"CI": "true"}, "a CI runner"),
        ({"CI": "true", "GITHUB_ACTIONS": "true"}, "GitHub Actions"),
        ({"GITLAB_CI": "true"}, "GitLab CI"),
    ):
        done = outcome(
            [sys.executable, "-c", "from pyspaces.host import check; print(check.facts())"],
            env=clean | variables,
            check=True,
        )
        assert f"'runner': '{expected}'" in done.stdout
        assert f"'interpreter': '{Path(sys.executable).resolve()}'" in done.stdout


# The verdict, and what does not work.

# As Docker's filter for a process without CAP_SYS_ADMIN: clone with a flag of a namespace.
DOCKER = [*without(CLONE3), *without(UNSHARE, MOUNT, f"{CLONE}&{NEW}", answer=errno.EPERM)]


@pytest.mark.skipif(not MOUNT, reason="the numbers of system calls are not known here")
def test_the_verdict_and_the_cause_under_a_filter_of_docker() -> None:
    done = outcome([*DOCKER, SCRIPT, "check"])
    verdict, _, cause, reason, *_ = done.stdout.splitlines()
    assert done.returncode == 1
    assert verdict == (
        "an ordinary launch does not work here: pyspaces run --all:"
        " cannot create the namespaces: clone: Operation not permitted"
    )
    assert cause.startswith("unfiltered ")
    assert reason.strip().startswith("for the same reason: namespace-user, ")
    assert "add --user" not in done.stdout
    for name, line in (
        ("GITHUB_ACTIONS", "in the workflow, under container: options: --security-opt seccomp="),
        ("GITLAB_CI", "in the runner's config.toml, under [runners.docker]: privileged = true"),
    ):
        there = outcome([*DOCKER, SCRIPT, "check"], env={**os.environ, name: "true"})
        assert f"remedy: {line}" in there.stdout


def test_a_healthy_host_is_told_in_few_lines(pyspaces: Run) -> None:
    done = pyspaces("check")
    verdict, _, *rows, last = done.stdout.splitlines()
    assert (done.returncode, verdict) == (0, "an ordinary launch works here: pyspaces run --all")
    assert done.stderr == ""
    assert "namespace-" not in done.stdout
    assert not [row for row in rows if " yes " in row]
    assert "--all" in last


def test_nothing_depends_on_the_standard_streams_that_are_open() -> None:
    """A file of ours that has the number of one gets nothing that was meant for people."""
    done = outcome(["sh", "-c", 'exec "$@" <&- 2>&-', "sh", SCRIPT, "check"])
    assert done.returncode == 0
    assert done.stdout.startswith("an ordinary launch works here")


def test_a_caller_that_ignores_the_end_of_children() -> None:
    ignore = functools.partial(signal.signal, signal.SIGCHLD, signal.SIG_IGN)
    done = outcome([SCRIPT, "check", "--user", "--", "true"], preexec_fn=ignore)
    assert done.returncode == 0, done.stdout


def test_causes_come_first_and_what_still_works_is_named() -> None:
    script = "mount --bind /dev/null /proc/uptime; echo 0 > /proc/sys/user/max_net_namespaces"
    done = outcome(["unshare", "-Urm", "sh", "-ec", f'{script}; exec "$@"', "sh", SCRIPT, "check"])
    verdict, _, *lines = done.stdout.splitlines()
    assert (done.returncode, verdict.endswith("; what works is pyspaces run --user")) == (1, True)
    names = [line.split()[0] for line in lines if line[0] != " "]
    assert names[:2] == ["limits-allow", "proc-visible"]
    assert not {"namespace-user-net", "mount-proc", "loopback"} & set(names)
    proc = done.stdout.partition("\nproc-visible ")[2].splitlines()
    assert proc[1].strip() == "for the same reason: mount-proc"


def test_rows_that_are_required(pyspaces: Run) -> None:
    done = pyspaces("check", "--require", "namespace-user", "--require=map-one")
    assert (done.returncode, done.stderr) == (0, "")
    assert [line.split()[:2] for line in done.stdout.splitlines()] == [
        ["namespace-user", "yes"],
        ["map-one", "yes"],
    ]
    without_user = [*PLACES["without user namespaces"], SCRIPT, "check", "--json"]
    done = outcome([*without_user, "--require", "namespace-user", "--require", "pidfd"])
    data = json.loads(done.stdout)
    assert (done.returncode, data["launch"], data["verdict"]) == (1, None, None)
    assert [row["answer"] for row in data["rows"]] == ["no", "yes"]
    done = pyspaces("check", "--require", "namespace-usr")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.endswith(
        "'namespace-usr' is not a row\nhint: did you mean namespace-user?\n"
    )
    assert pyspaces("check", "--require", "pidfd", "--user").returncode == 2


def test_all_is_an_option_of_a_launch_beside_others(pyspaces: Run) -> None:
    assert pyspaces("check", "--all", "--share", "time").stdout.startswith("launch yes")
    assert json.loads(pyspaces("check", "--all", "--json").stdout)["launch"] is True


# Would this launch work?


def test_a_launch_that_works_and_is_not_run(pyspaces: Run, tmp_path: Path) -> None:
    words = ("--user", "--uts", "--hostname", "h", "--status-file", f"{tmp_path}/status", "--")
    done = pyspaces("check", *words, "touch", f"{tmp_path}/made")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("launch yes")
    assert not list(tmp_path.iterdir())


def test_a_launch_that_would_not_work(pyspaces: Run, tmp_path: Path) -> None:
    done = pyspaces("check", "--json", "--user", "--workdir", f"{tmp_path}/none")
    data = json.loads(done.stdout)
    assert (done.returncode, data["launch"], done.stderr) == (1, False, "")
    (row,) = data["rows"]
    assert (row["name"], row["answer"]) == ("launch", "no")
    run = pyspaces("run", "--user", "--workdir", f"{tmp_path}/none", "--", "true")
    assert run.returncode == 125
    assert row["evidence"] in run.stderr


def test_a_command_that_could_not_be_executed(pyspaces: Run, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no program")
    for command, why in (
        ("no-such-program", "No such file or directory"),
        (f"{tmp_path}/text", "Permission denied"),
    ):
        done = pyspaces("check", "--user", "--", command)
        assert done.returncode == 1
        assert f"cannot execute the command: {command}: {why}" in done.stdout


def test_a_command_alone_is_a_question(pyspaces: Run) -> None:
    assert pyspaces("check", "true").stdout.startswith("launch yes")


def test_a_plan_is_checked(pyspaces: Run, tmp_path: Path) -> None:
    plan = pyspaces("run", "--user", "--pid", "--dry-run", "--json", "--", "true").stdout
    (tmp_path / "plan").write_text(plan)
    assert pyspaces("check", "--plan", f"{tmp_path}/plan").returncode == 0
    (tmp_path / "plan").write_text(plan.replace('"true"', '"no-such-program"'))
    assert pyspaces("check", "--plan", f"{tmp_path}/plan").returncode == 1


def test_wrong_usage_is_not_an_answer(pyspaces: Run) -> None:
    for words in (("--no-such",), ("--map-uid", "x"), ("--plan", "/nonexistent")):
        done = pyspaces("check", *words)
        assert done.returncode in (2, 125)
        assert done.stdout == ""
    assert pyspaces("check", "--map-uid", "x").returncode == 2


# For people.


def test_plain_where_there_is_no_terminal(pyspaces: Run) -> None:
    done = pyspaces("check", "--all")
    assert "\x1b" not in done.stdout
    verdict, host, *lines = done.stdout.splitlines()
    assert verdict == "an ordinary launch works here: pyspaces run --all"
    assert host.startswith("Linux ")
    assert [line.split()[0] for line in lines if line[0] != " "] == list(host_check.NAMES)
    at = {line.index(" yes ") for line in lines if " yes " in line}
    assert len(at) == 1, "the column is not aligned"


@pytest.mark.parametrize(("variables", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False)])
def test_colours_on_a_terminal(variables: dict[str, str], coloured: bool) -> None:
    ours, theirs = os.openpty()
    base = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    environment = base | {"TERM": "xterm"} | variables
    words: Sequence[str] = [SCRIPT, "check", "--user"]
    done = subprocess.run(words, stdout=theirs, env=environment, check=False)
    os.close(theirs)
    shown = os.read(ours, 65536)
    os.close(ours)
    assert done.returncode == 0
    assert (b"\x1b[32m" in shown) == coloured
