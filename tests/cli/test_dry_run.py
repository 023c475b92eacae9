"""--dry-run, --json and --plan: what would happen, told, written, and run from what was written."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from children import refused
from conftest import IS_ROOT, SCRIPT, outcome, without

from pyspaces.features.ids import accounts
from pyspaces.kernel import constants

TYPE_CHECKING = False
if TYPE_CHECKING:
    from conftest import Run

pytestmark = pytest.mark.needs("userns")
UID, GID = os.geteuid(), os.getegid()
# Who and where a command is. Not through /proc/self/ns of the kernel's pid 1: readlink is enough.
FACTS = """
cat /proc/self/uid_map /proc/self/gid_map /proc/self/setgroups
grep -E '^(Uid|Gid|Groups|Cap...):' /proc/self/status
cd /proc/self/ns && echo * && exec readlink *
"""


def facts(words: list[str]) -> str:
    """Run a command; return what it says of itself, each namespace as new or shared."""
    done = outcome(words, timeout=60)
    assert (done.returncode, done.stderr) == (0, ""), words
    lines = done.stdout.splitlines()
    count = sum(":[" in line for line in lines)
    names, links = lines[-count - 1].split(), lines[-count:]
    assert set(names) == set(os.listdir("/proc/self/ns"))
    told = lines[: -count - 1]
    for name, link in zip(names, links, strict=True):
        shared = os.readlink(f"/proc/self/ns/{name}") == link
        told.append(f"{name} {'shared' if shared else 'new'}")
    return "\n".join(told)


EQUAL = [
    [],
    ["--user", "--uts", "--ipc", "--net", "--no-loopback", "--setgroups", "deny"],
    ["--all", "--share", "net,time", "--workdir", "/"],
    ["--map-current"],
    ["--map-uid", f"5,{UID},1", "--map-gid", f"6,{GID},1"],
    ["--map-uid", f"5,{UID},1", "--map-gid", f"6,{GID},1", "--keep-caps"],
    ["--map-uid", "none"],
    ["--map-gid", "none", "--setgroups", "deny"],
    ["--user", "--pid", "--mount", "--propagation", "slave", "--kill-child", "TERM"],
    ["--user", "--pid", "--mount", "--no-kill-child"],
    ["--user", "--no-fork"],
    ["--user", "--pid", "--mount-proc", "--propagation", "unchanged"],
]
FOR_ROOT = [
    ["--user", "--groups", "keep", "--setgroups", "deny"],
    ["--setuid", "33", "--allow-new-privs"],
    ["--setuid", "33", "--setgid", "34", "--groups", "none", "--allow-new-privs"],
    ["--pid", "--mount", "--uts"],
]


def equivalent_of(run: Run, *options: str) -> list[str]:
    done = run("run", "--dry-run", *options, "--", "sh", "-c", FACTS)
    assert (done.returncode, done.stderr) == (0, "")
    told, _, line = done.stdout.partition("\nequivalent: ")
    assert line, told
    return ["bash", "-c", line]


@pytest.mark.needs("bash", "unshare", "proc", "timens", "netns")
@pytest.mark.parametrize("options", EQUAL, ids=" ".join)
def test_the_command_of_unshare_does_the_same(pyspaces: Run, options: list[str]) -> None:
    if IS_ROOT and any(word in {"--user", "--all"} or "--map-" in word for word in options):
        options = [*options, "--setgroups", "deny"]
    ours = facts([SCRIPT, "run", *options, "--", "sh", "-c", FACTS])
    assert facts(equivalent_of(pyspaces, *options)) == ours


@pytest.mark.as_root
@pytest.mark.needs("bash", "unshare")
@pytest.mark.parametrize("options", FOR_ROOT, ids=" ".join)
def test_and_for_root(pyspaces: Run, options: list[str]) -> None:
    ours = facts([SCRIPT, "run", *options, "--", "sh", "-c", FACTS])
    assert facts(equivalent_of(pyspaces, *options)) == ours


@pytest.mark.as_ordinary
@pytest.mark.needs("bash", "unshare", "newuidmap")
def test_and_for_subordinate_ids(pyspaces: Run) -> None:
    """One range of them: before util-linux 2.40 unshare(1) takes no more."""
    caller = accounts.caller()
    maps = ["--map-uid", "root", "--map-gid", "root"]
    for option, kind in (("--map-uid", "uid"), ("--map-gid", "gid")):
        first, _ = accounts.subordinate_ranges(kind, caller)[0]
        maps += [option, f"1,{first},100"]
    for more in (
        [],
        ["--setuid", "7", "--setgid", "8", "--allow-new-privs"],
        ["--setgroups", "allow"],
    ):
        ours = facts([SCRIPT, "run", *maps, *more, "--", "sh", "-c", FACTS])
        assert facts(equivalent_of(pyspaces, *maps, *more)) == ours


@pytest.mark.needs("bash", "unshare", "timens")
def test_and_for_clocks(pyspaces: Run) -> None:
    options = ("--user", "--setgroups", "deny", "--boottime", "864000", "--monotonic", "-1")
    done = pyspaces("run", "--dry-run", *options, "--", "cat", "/proc/self/timens_offsets")
    line = done.stdout.partition("\nequivalent: ")[2]
    told = outcome(["sh", "-c", line], check=True).stdout
    assert told.split() == ["monotonic", "-1", "0", "boottime", "864000", "0"]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--hostname", "a"], "hostname: unshare(1) sets none"),
        (["--net"], "loopback: unshare(1) leaves lo down"),
        (["--root", "/"], "root: unshare(1) changes it by chroot(2)"),
        (["--setenv", "A", "B"], "setenv: unshare(1) leaves the environment as it is"),
        (["--cap-drop", "kill"], "cap-drop: unshare(1) drops none"),
        (["--no-new-privs"], "no-new-privs: unshare(1) does not set it"),
        (["--no-nested-users"], "no-nested-users: unshare(1) sets no limit"),
        (["--pid", "--init"], "init: unshare(1) has no such thing"),
        (["--timeout", "5"], "timeout: unshare(1) has no such thing"),
        (["--pid-file", "x"], "pid-file: unshare(1) has no such thing"),
        (["--pid", "--kill-child", "40"], "life.kill_child: signal 40 has no name for unshare(1)"),
        (["--boottime", "1.5"], "boottime: unshare(1) takes whole seconds"),
        (["--groups", "0"], "groups: unshare(1) can drop them, and set none"),
        (["--user"], "setgroups: unshare(1) denies it here, as --setgroups deny does"),
        (["-M", "0 0 9"], "uid_map: unshare(1) before 2.40 writes no range for root"),
        (["-G", "0 0 9"], "gid_map: unshare(1) before 2.40 writes no range for root"),
        (["-M", "1 70000 1,2 70002 1"], "uid_map: unshare(1) before 2.40 takes one range only"),
    ],
)
def test_what_unshare_cannot_do_is_named(
    capsys: pytest.CaptureFixture[str], options: list[str], reason: str
) -> None:
    if (
        reason.startswith(("uid_map", "gid_map", "setgroups"))
        and ("one range" in reason) == IS_ROOT
    ):
        pytest.skip("the rule of another user")
    code, output, told = refused(capsys, "run", "--dry-run", "--user", *options, "--", "true")
    assert (code, told) == (0, "")
    assert f"\nno equivalent: {reason}" in output
    assert "\nequivalent:" not in output


@pytest.mark.needs("proc", "timens")
@pytest.mark.parametrize("more", [(), ("--init",)])
def test_everything_is_told_in_the_order_in_which_it_happens(
    pyspaces: Run, more: tuple[str, ...]
) -> None:
    """The same words as --verbose says while it happens, where it happens."""
    options = (
        *more,
        "--all",
        "--hostname",
        "box",
        "--root",
        "/",
        "--boottime",
        "5",
        "--workdir",
        "/",
    )
    identity = ("--setuid", "0", "--cap-drop", "kill", "--no-new-privs", "--no-nested-users")
    words = (*options, *identity, "--", "sh", "-c", "echo ran; :")
    told = pyspaces("run", "--dry-run", *words).stdout.partition("\n\n")[0].splitlines()
    done = pyspaces("run", "--verbose", *words)
    assert done.stdout == "ran\n"
    happened = [line.removeprefix("pyspaces: ") for line in done.stderr.splitlines()[:-1]]
    become = next(line for line in told if line.startswith("become the mapped user"))
    told.remove(become)
    if "--init" in options:
        told.remove("with life.init = True")
        told.remove("become process 1, and start the command beneath it")
    assert told[:-1] == happened[:-1]
    assert told[-1] == "execute the command: sh -c 'echo ran; :'"


def test_an_environment_is_told(pyspaces: Run) -> None:
    options = ("--keep-env", "LC_*", "--unsetenv", "A", "--setenv", "B", "c d")
    told = pyspaces("run", "--dry-run", *options, "--", "true").stdout
    assert told.startswith("change the environment: clear it, keep 'LC_*', unset A, set 'B=c d'\n")


def denied(*words: str) -> list[str]:
    """Return a command that runs `words` where no process and no namespace can be made.

    Neither by clone3 nor clone nor unshare, nor by the two calls of old.
    """
    size = 8 if sys.maxsize > 2**32 else 4
    numbers = [constants.SYS_clone3, constants.SYS_clone[os.uname().machine, size]]
    numbers += [56, 57, 58, 272] if os.uname().machine == "x86_64" else []
    return [*without(*numbers, answer=errno.EPERM), *words]


def test_a_dry_run_makes_no_process_and_no_namespace(tmp_path: Path) -> None:
    options = ["--all", "--hostname", "box", "--setuid", "0", "--root", str(tmp_path)]
    options += ["--pid-file", "pid", "--status-file", "status", "--init", "--pty"]
    for more in ([], ["--json"]):
        words = denied(SCRIPT, "run", "--dry-run", *more, *options, "--", "touch", "here")
        done = outcome(words, cwd=tmp_path)
        assert (done.returncode, done.stderr) == (0, "")
        assert "box" in done.stdout
    assert list(tmp_path.iterdir()) == []
    control = outcome(denied(SCRIPT, "run", "--user", "--", "true"))
    assert control.returncode == 125
    assert "Operation not permitted" in control.stderr


def written(run: Run, *words: str) -> str:
    done = run("run", "--dry-run", "--json", *words)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.needs("pidns")
def test_a_plan_is_run_from_a_file_and_from_standard_input(pyspaces: Run, tmp_path: Path) -> None:
    plan = written(
        pyspaces, "--user", "--pid", "--uts", "--hostname", "box", "--setenv", "A", "b\tc", "--",
        "sh", "-c", 'echo "$(hostname) $$ $(id -u) $A"; exit 7',
    )  # fmt: skip
    (tmp_path / "plan.json").write_text(plan)
    done = pyspaces("run", "--plan", str(tmp_path / "plan.json"))
    assert (done.returncode, done.stdout, done.stderr) == (7, "box 1 0 b\tc\n", "")
    done = pyspaces("run", "--plan", "-", input=plan)
    assert (done.returncode, done.stdout, done.stderr) == (7, "box 1 0 b\tc\n", "")
    assert pyspaces("run", "--dry-run", "--json", "--plan", "-", input=plan).stdout == plan


def test_a_command_replaces_that_of_the_plan(pyspaces: Run) -> None:
    plan = written(pyspaces, "--uts", "--user", "--hostname", "box", "--", "false")
    done = pyspaces("run", "--plan", "-", "--", "hostname", input=plan)
    assert (done.returncode, done.stdout) == (0, "box\n")
    told = pyspaces("run", "--dry-run", "--plan", "-", "hostname", "-s", input=plan).stdout
    assert "execute the command: hostname -s\n" in told


def test_bytes_of_arguments_survive_the_journey(pyspaces: Run) -> None:
    """Arguments are bytes; those that are no UTF-8 stand in JSON as lone surrogates."""
    word = os.fsdecode(b"\xff\xfe")
    plan = written(pyspaces, "--", "printf", "%s", word)
    done = subprocess.run(
        [SCRIPT, "run", "--plan", "-"], input=plan.encode(), capture_output=True, check=False
    )
    assert (done.stdout, done.stderr) == (b"\xff\xfe", b"")
    shown = subprocess.run(
        [SCRIPT, "run", "--dry-run", "--", "printf", word], capture_output=True, check=False
    )
    assert shown.returncode == 0
    assert b"execute the command: printf $'\\xff\\xfe'\n" in shown.stdout


@pytest.mark.needs("bash")
def test_what_is_printed_is_one_line_that_a_terminal_can_show(pyspaces: Run) -> None:
    """And a shell reads the same words from it."""
    words = ("printf", "%s|", "\x1b]0;title\x07", "two\nlines", "it's \\ \x7f", "plain é", "\u2028")
    more = ("--setenv", "A", "\x1b[2J", "--workdir", "/\x1b[2J")
    told = pyspaces("run", "--dry-run", *more, "--", *words).stdout
    assert all(line.isprintable() for line in told.splitlines())
    line = told.partition("execute the command: ")[2].splitlines()[0]
    done = outcome(["bash", "-c", line], check=True)
    assert done.stdout == "".join(f"{word}|" for word in words[2:])


def test_other_options_are_refused_beside_a_plan(pyspaces: Run) -> None:
    plan = written(pyspaces, "--", "echo", "ran")
    for options, word in (
        (["--user"], "--user"),
        (["--no-loopback"], "--loopback"),
        (["--hostname", "a"], "--hostname"),
        (["--setenv", "A", "B"], "--setenv"),
        (["--clearenv"], "--clearenv"),
    ):
        done = pyspaces("run", *options, "--plan", "-", input=plan)
        assert (done.returncode, done.stdout) == (2, "")
        assert f"plan: cannot be combined with {word}\n" in done.stderr


def test_json_is_no_option_of_its_own(pyspaces: Run) -> None:
    done = pyspaces("run", "--json", "--", "echo", "ran")
    assert (done.returncode, done.stdout) == (2, "")
    assert "json: requires --dry-run" in done.stderr


def test_wrong_usage_is_wrong_in_a_dry_run_too(pyspaces: Run) -> None:
    done = pyspaces("run", "--dry-run", "--setgroups", "maybe", "--", "true")
    assert (done.returncode, done.stdout) == (2, "")
    assert "setgroups: maybe: is neither allow nor deny" in done.stderr
    assert pyspaces("run", "--dry-run").returncode == 2


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "is not JSON: line 1 column 1: Expecting value"),
        ("{", "is not JSON: line 1 column 2"),
        ("[" * 100_000, "is nested too deeply"),
        ('{"command": ["a"], "command": ["b"]}', "is not JSON: 'command' is given twice in"),
        ('{"command": ["a"], "uid": NaN}', "is not JSON: NaN is no number"),
        ('{"command": ["a"], "uid": 1' + "0" * 5000 + "}", "is not JSON: "),
        ("null", "is null, and has to be an object"),
        ("{}", "version: is missing"),
        ('{"version": 2}', "command: is missing"),
        ('{"version": 3, "command": ["a"]}', "version: is 3, and this program reads version 2"),
        (
            '{"command": ["a"], "hostname": "b"}',
            "has no version, as before version 2: make it again",
        ),
        ('{"version": 2, "command": ["a"], "hostnam": "b"}', "hostnam: is not a field of a plan"),
        ('{"version": 2, "command": "a b"}', "command: is a text, and has to be a list"),
        (
            '{"version": 2, "command": ["a", 1]}',
            "command[1]: is a whole number, and has to be a text",
        ),
        (
            '{"version": 2, "command": ["a"], "uts": {"hostname": 5}}',
            "uts.hostname: is a whole number, and has to be a text or null",
        ),
        (
            '{"version": 2, "command": ["a"], "identity": {"uid": true}}',
            "identity.uid: is true or false, and has to be a whole number or null",
        ),
        (
            '{"version": 2, "command": ["a"], "maps": {"uid_map": [{"outside": 0.5}]}}',
            "maps.uid_map[0].outside: is a number, and has to be a whole number",
        ),
        (
            '{"version": 2, "command": ["a"], "environment": {"set": [["A"]]}}',
            "environment.set[0]: is a list of 1, and has to be one of 2",
        ),
        (
            '{"version": 2, "command": ["a"], "clocks": {"boottime": {"second": 1}}}',
            "clocks.boottime.second: is not a field of a",
        ),
        (
            '{"version": 2, "command": ["a"], "identity": {"groups": [null]}}',
            "identity.groups[0]: is null, and has to be a whole",
        ),
    ],
)
def test_a_plan_of_the_wrong_shape_is_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, text: str, fault: str
) -> None:
    file = tmp_path / "plan"
    file.write_text(text)
    code, output, told = refused(capsys, "run", "--plan", str(file))
    assert (code, output) == (2, "")
    assert f"plan: {file}: {fault}" in told


def test_a_plan_that_contradicts_itself_is_refused(pyspaces: Run) -> None:
    done = pyspaces("run", "--plan", "-", input="{")
    assert (done.returncode, done.stdout) == (2, "")
    assert "plan: standard input: is not JSON" in done.stderr
    text = json.dumps(
        {
            "version": 2,
            "command": ["echo", "ran"],
            "uts": {"hostname": "a"},
            "namespaces": ["flying"],
        }
    )
    done = pyspaces("run", "--plan", "-", input=text)
    assert (done.returncode, done.stdout) == (2, "")
    assert "flying: is not a namespace" in done.stderr
    assert "hostname: needs a new uts namespace" in done.stderr


def test_files_that_cannot_be_read(pyspaces: Run, tmp_path: Path) -> None:
    (tmp_path / "latin").write_bytes(b'{"command": ["\xe9"]}')
    rows = [
        (str(tmp_path / "missing"), "No such file or directory"),
        (str(tmp_path), "Is a directory"),
        (str(tmp_path / "latin"), "is not UTF-8 at byte 14"),
        ("/dev/zero", "is larger than 16 MiB"),
        ("", "No such file or directory"),
    ]
    for path, why in rows:
        done = pyspaces("run", "--plan", path)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr == f"pyspaces: --plan: {path}: {why}\n"


@pytest.mark.as_ordinary
def test_a_file_of_somebody_else(pyspaces: Run) -> None:
    done = pyspaces("run", "--plan", "/etc/shadow")
    assert (done.returncode, done.stderr) == (
        2,
        "pyspaces: --plan: /etc/shadow: Permission denied\n",
    )


def test_standard_input_that_is_closed() -> None:
    words = ["sh", "-c", 'exec "$@" <&-', "sh", SCRIPT, "run", "--plan", "-"]
    done = outcome(words)
    assert (done.returncode, done.stderr) == (2, "pyspaces: --plan: standard input: is closed\n")
