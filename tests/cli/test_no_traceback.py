"""No command line gives a traceback, whatever is on it.

Real processes of the console script. The command is one of a few harmless words, always behind
`--`; random text is only ever glued to an option (`--option=text`), so that it is never executed.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import SCRIPT
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from usage import said

from pyspaces.settings import FLAG, ORDERED, TOGGLE
from pyspaces.settings import SETTINGS as ALL_SETTINGS

# 0 or what `true` cannot give; 124 and 137 where the random time is a very short one.
STATUSES = {0, 2, 124, 125, 126, 127, 137}

# A hold would outlive the test: it has tests of its own.
SETTINGS = tuple(row for row in ALL_SETTINGS if row.name != "hold")
FLAGS = [
    *("-v", "--verbose", "-h", "--help", "--dry-run", "--json", "--plan=/etc/passwd"),
    *(row.option for row in SETTINGS if row.kind in (FLAG, TOGGLE)),
    *(row.option for row in SETTINGS if row.kind == ORDERED and not row.metavar),
    *(f"--no-{row.option[2:]}" for row in SETTINGS if row.kind == TOGGLE),
    *(row.short for row in SETTINGS if row.kind in (FLAG, TOGGLE) and row.short),
]
TAKES_TEXT = [
    row
    for row in SETTINGS
    if row.kind not in (FLAG, TOGGLE) and not (row.kind == ORDERED and not row.metavar)
]
LONG = [row.option for row in TAKES_TEXT]
SHORT = [row.short for row in TAKES_TEXT if row.short]

GOOD = {
    "overlay_diff": ["/nowhere/diff"],
    "map_uid": ["root", "current", "none", "all", f"0,{os.geteuid()},1", "0 0 1,1 1 1", "0:5:1"],
    "map_gid": ["root", "none", f"0:{os.getegid()}:1", "7"],
    "share": ["net", "net,ipc", "user", "time,uts,"],
    "join": ["net=/proc/self/ns/net", "user=1", "uts=/etc/passwd", "mount=999999999", "net=", "x"],
    "keep": ["net=/nonexistent/file", "pid=", "net=/", "what=x", "uts=/etc/passwd/x"],
    "name": ["test-no-traceback", "4711", "a/b", "-x", "x" * 65],
    "setgroups": ["allow", "deny"],
    "hostname": ["box", "x" * 64, "x" * 65],
    "domainname": ["box"],
    "boottime": ["0", "864000", "-1.5", "-99999999999", "999999999999"],
    "monotonic": ["1.000000001", "-.5"],
    "propagation": ["private", "slave", "shared", "unchanged"],
    "setuid": ["0", "root", "5", "nobody-such"],
    "setgid": ["0", "root", "-1"],
    "groups": ["none", "keep", "0,1", "keep,0", "root"],
    "cap_drop": ["all", "kill", "CAP_NET_ADMIN,chown", "flying"],
    "cap_add": ["kill", "all", "Net_Admin", "flying"],
    "root": ["/", "/usr", "/nonexistent", "/etc/passwd"],
    "workdir": ["/", ".", "/nonexistent", "/etc/passwd"],
    "publish": ["0:80", "[::1]:0:80-81/udp", "192.0.2.1:0:80", "80", "0:0", "0:1-65535"],
    "forward": ["80:80", "53:10.0.0.1:53/udp", "80:0", "x:1"],
    "listen": ["0", "web=127.0.0.1:0", "0/udp", "=1", "70000"],
    "allow_host": ["example.org", "*.example.org:*,10.0.0.0/8", "*", "a b", "x" * 300],
    "setenv": ["A", "PATH", "LC_ALL", "="],
    "unsetenv": ["HOME", "PATH", "A=B"],
    "rlimit": ["nofile=16:32", "core=0", "core=unlimited", "cpu=1X", "as", "files=3", "nice=same"],
    "umask": ["022", "9", "00000"],
    "nice": ["5", "-20", "99", "x"],
    "oom_score_adj": ["500", "-1000", "1001", "x"],
    "cpu_list": ["0", "0-9999", "1-0", "4000", "a"],
    "ionice": ["idle", "best-effort:7", "realtime:9", "x"],
    "memory": ["64M", "0", "1GiB", "x", "9" * 30],
    "swap": ["0", "unlimited", "-1", "x"],
    "pids": ["1", "64", "0", "x"],
    "cpus": ["0.5", "1.5", "0", "x", "9999"],
    "io_weight": ["1", "10001", "x"],
    "allow_read": ["/", "/nonexistent", "", "."],
    "allow_write": ["/", "/dev/null", "/etc/passwd/x"],
    "allow_exec": ["/", "/usr", "/etc/passwd"],
    "allow_connect": ["80", "none", "none,80", "65536", "x"],
    "allow_bind": ["0", "none", "80,81", "-1"],
    "scope": ["signal", "abstract,signal", "x", ","],
    "seccomp": ["default", "/etc/passwd", "/nonexistent", "/", ""],
    "seccomp_deny": ["@mount", "mkdir:EIO,@keyring", "@x", "x", "mkdir:x", "execve", "@default"],
    "seccomp_allow": ["@system-service", "mkdir:EIO", "x", "@clock"],
    "seccomp_fd": ["0", "1", "77", "99999999999", "x"],
    "seccomp_learn": ["/nonexistent/x", "/etc", ""],
    "kill_child": ["TERM", "SIGKILL", "9", "0", "65"],
    "timeout": ["9", "1.5m", "0", "-1", "1e3"],
    "kill_after": ["0", "2s", "-1"],
    "status_fd": ["0", "1", "2", "77", "99999999999"],
    "status_file": ["/nonexistent/x", "/dev/null", ""],
    "pid_file": ["/nonexistent/x", "/etc", ""],
    "keep_env": ["LC_*", "*", "HOME,PATH", ",,"],
    # Operations: the further words come from whatever is drawn next.
    "size": ["1M", "0", "-1", "9" * 30, "1X"],
    "perms": ["0755", "8", "77777", ""],
    "chmod": ["0755", "x"],
    "file": ["0", "99", "-1", "x"],
    **{name: ["0", "99", "x"] for name in ("bind_data", "ro_bind_data", "bind_fd", "ro_bind_fd")},
    **{
        row.name: ["/", "/tmp", "relative", "/a/../..", "/usr/share", "/nonexistent/x", "/dev", "."]
        for row in SETTINGS
        if row.kind == ORDERED
        and row.metavar.split()[:1] in (["SRC"], ["DST"], ["TEXT"], ["PATH"], ["DIR"])
    },
    "overlay": ["/nonexistent", "/proc"],
    "mount": [
        "type=tmpfs,target=/mnt",
        "type=x",
        "target=/",
        "x=",
        "type=bind,source=/,target=/mnt",
    ],
    "net": ["none", "no-such-name", "999999999", "/etc/passwd", ""],
    "ip": ["10.77.0.2", "x"],
    "dns": ["192.0.2.1", "none", "x"],
    "add_host": ["a=192.0.2.1", "a=", "x"],
    "veth": ["lo", "no-such-bridge", "", "a/b"],
    "gateway": ["10.77.0.1", "fd00::1", "x"],
    "profile": ["fakeroot", "no-such-profile", "/etc/passwd", "/nonexistent.toml", "project:x", ""],
    "bundle": ["/", "/nonexistent", ""],
    "argv0": ["name", "", "-"],
    "keep_fd": ["0", "99", "x"],
    **{
        name: ["0", "1", "99", "x"]
        for name in ("info_fd", "json_status_fd", "block_fd", "userns_block_fd", "sync_fd")
    },
    "lock_file": ["/etc/passwd", "/nonexistent", ""],
}


def test_every_option_has_values() -> None:
    assert {row.name for row in TAKES_TEXT} <= set(GOOD)


# No NUL, which no argument can hold; no surrogates here, they come with the bytes.
odd_text = st.one_of(
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=30),
    # Lone surrogates: what Python makes of arguments that are no UTF-8.
    st.binary(max_size=30).map(lambda data: os.fsdecode(data.replace(b"\0", b""))),
    st.text("0123456789,: -.", max_size=30),
    st.sampled_from(["", " ", "=", "-", "--", "\n", "\r\n", "\u2028", "\ufeff", "%s%n", "{}{0}"]),
    st.builds(lambda char, count: char * count, st.sampled_from("09ax,:*- "), st.just(5000)),
    st.builds(lambda text, count: text * count, st.sampled_from(["9,", "\u00e9"]), st.just(30000)),
)


@st.composite
def _with_text(draw: st.DrawFn) -> str:
    row = draw(st.sampled_from(TAKES_TEXT))
    text = draw(st.sampled_from(GOOD[row.name]) | odd_text)
    if row.short and text and draw(st.booleans()):
        return row.short + text
    return f"{row.option}={text}"


@st.composite
def _unknown(draw: st.DrawFn) -> str:
    """Draw an option that does not exist, or may; never `-` or `--` alone, which are none."""
    text = draw(odd_text.filter(lambda text: text.strip("-")))
    word = draw(st.sampled_from(["-", "--", "--no-", "--user", "-U"])) + text
    return word if word.strip("-") else "--unknown"


pieces = st.one_of(
    st.sampled_from(FLAGS), _with_text(), _with_text(), _unknown(), st.sampled_from(LONG + SHORT)
)
commands = st.sampled_from([["true"], ["/nonexistent"], ["/etc/passwd"], ["--"], []])


@st.composite
def _command_lines(draw: st.DrawFn) -> list[str]:
    before = draw(st.lists(st.sampled_from(["--version", "-h", "--nonsense", "-x"]), max_size=1))
    if draw(st.integers(0, 9)):
        before = []
    options = draw(st.lists(pieces, max_size=5))
    # As root in a mount namespace alone, a shared mount would be seen by the host: with a user
    # namespace around it, the kernel keeps it inside.
    if any("propagation" in word for word in options):
        options.insert(0, "--user")
    return [*before, "run", *options, "--", *draw(commands)]


def run(words: list[str], directory: Path) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "pyspaces", *map(os.fsencode, words)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        timeout=60,
        cwd=directory,
    )


def check(done: subprocess.CompletedProcess[bytes]) -> None:
    assert b"Traceback (most recent call last)" not in done.stderr, done.stderr.decode(
        errors="replace"
    )
    assert b"internal error" not in done.stderr, done.stderr.decode(errors="replace")
    assert done.returncode in STATUSES, done.stderr.decode(errors="replace")
    if done.returncode in {2, 125}:
        assert b"pyspaces: " in done.stderr


@pytest.fixture(scope="module")
def empty_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("empty")


@pytest.mark.anyone
@settings(
    max_examples=settings().max_examples,
    deadline=None,
    # Each example is a process: a long search for the shortest one is not worth its time.
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(_command_lines())
def test_random_command_lines(empty_directory: Path, words: list[str]) -> None:
    check(run(words, empty_directory))


CAME_TO_MIND: list[list[str]] = [
    [],
    ["--"],
    ["run"],
    ["run", "--"],
    ["run", "--user"],
    ["nonsense"],
    ["completion"],
    ["completion", "tcsh"],
    ["completion", "bash", "zsh"],
    ["run", "--user", "--", ""],
    ["run", "--setenv"],
    ["run", "--plan"],
    ["run", "--plan", ""],
    ["run", "--plan=\udcff"],
    ["run", "--dry-run", "--setenv=\udcff", "\udcfe", "--workdir=\udcff", "--", "\udcff"],
    ["run", "--setenv", "A"],
    ["run", "--setenv", "A", "B"],
    ["run", "--map-uid"],
    ["run", "--user=yes", "--", "true"],
    ["run", "--no-user", "--", "true"],
    ["run", "--map-uid=" + "0" * 5000, "--", "true"],
    ["run", "--map-uid=0:0:" + "0" * 5000, "--", "true"],
    ["run", "--map-uid=" + "9" * 5000, "--", "true"],
    ["run", "--map-uid=" + "0,1," * 30000, "--", "true"],
    ["run", "--user" + "9," * 30000, "--", "true"],
    ["run", "--boottime=" + "0" * 5000, "--", "true"],
    ["run", "--hostname=\udcff\udcfe", "--", "true"],
    ["run", "--hostname=\udcff" * 65, "--", "true"],
    ["run", "--workdir=/\udcff", "--", "true"],
    ["run", "--\udcff", "--", "true"],
    ["run", "-\udcff", "--", "true"],
    ["run", "--setenv=\udcff", "\udcfe", "--", "true"],
    ["run", "--setenv", "PATH", "", "--", "true"],
    ["run", "-v", "--workdir=\udcff\n", "--", "true"],
    ["\udcff"],
    ["--\udcff"],
]


def test_command_lines_that_came_to_mind(tmp_path: Path) -> None:
    for words, (status, told) in zip(CAME_TO_MIND, said(CAME_TO_MIND, cwd=tmp_path), strict=True):
        check(subprocess.CompletedProcess(words, status, b"", told.encode(errors="replace")))


@pytest.mark.anyone
@pytest.mark.parametrize("times", [8, pytest.param(100, marks=pytest.mark.stress)])
def test_ctrl_c_while_the_program_is_loaded(times: int) -> None:
    """The script gives Ctrl-C its default action first; what comes before that is Python's own."""
    ended = []
    for _ in range(times):
        with subprocess.Popen(
            [SCRIPT, "run", "--user", "--", "sleep", "5"], stderr=subprocess.PIPE, text=True
        ) as process:
            time.sleep(random.uniform(0, 0.04))
            process.send_signal(signal.SIGINT)
            ended.append(process.communicate(timeout=60)[1])
    assert not [told for told in ended if "__main__.py" in told or "cli.py" in told]
