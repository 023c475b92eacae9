"""Options of other tools on our own command lines."""

from __future__ import annotations

import os

import pytest

from pyspaces.commands import arguments
from pyspaces.commands.words import aliases, answers, podman, translating
from pyspaces.errors import UsageFault

UID, GID = os.geteuid(), os.getegid()
# What is typed behind `run`, and what we make of it.
RUN = {
    "--map-root-user --fork id": "--map-root id",
    "-Upf --mount-proc ps": "-U -p --mount-proc ps",
    "--map-current-user --wd /tmp --forward-signals --clear-env pwd": "--map-current --workdir"
    " /tmp --clearenv pwd",
    "--map-user=5 --map-group 7 id": f"--map-uid 5:{UID}:1 --map-gid 7:{GID}:1 id",
    "--map-users 10,0,1 --map-groups 0:10:1 id": "--map-uid 0:10:1 --map-gid 0:10:1 id",
    "-S 5 --uts=/tmp/x --net=/tmp/x id": "--setuid 5 --keep uts=/tmp/x --net=/tmp/x id",
    "--user --mount-proc=/x --mount-proc id": "--user --pid --no-mount-proc --proc /x"
    " --mount-proc id",
    "--unshare-all --share-net id": "--map-current --ipc --pid --uts --cgroup id",
    "--unshare-all -r id": "--user --ipc --pid --net --uts --cgroup -r id",
    "--unshare-user --uid 0 id": f"--user --map-uid 0:{UID}:1 --map-gid current id",
    "--gid 0 --uid 0 id": f"--map-gid 0:{GID}:1 --map-uid 0:{UID}:1 id",
    "--unshare-pid --unshare-net --unshare-cgroup --chdir / ls": "--pid --net --cgroup"
    " --workdir / ls",
    "--disable-userns --add-seccomp-fd 3 ls": "--no-nested-users --seccomp-fd 3 ls",
    "--all --share-net ls": "--all --share net ls",
    "--all --network host ls": "--all --share net ls",
    "--network none --network=blue ls": "--net=none --net=blue ls",
    "--network container:web ls": "--net=web ls",
    "--rm -e A=b=c --env=D= --interactive --tty ls": "--setenv A b=c --setenv D  --pty ls",
    "--clearenv -e A ls": "--clearenv --keep-env A ls",
    "-e A ls -e": "ls -e",
    "--volume /a:/b:ro,noexec --volume ./c:/d ls": "--noexec --ro-bind /a /b --bind ./c /d ls",
    "--device /dev/fuse ls": "--dev-bind /dev/fuse /dev/fuse ls",
    "--ulimit nofile=1 --pids-limit 5 --cpuset-cpus 0 ls": "--rlimit nofile=1 --pids 5"
    " --cpu-list 0 ls",
    "--security-opt no-new-privileges --security-opt seccomp=unconfined ls": "--no-new-privs ls",
    "--caps.drop=all --private-tmp --blacklist /root ls": "--cap-drop all --perms 1777"
    " --tmpfs /tmp --mask /root ls",
    # Ours, and what is behind them.
    "--user -- ls --rm -v /a:/b": "--user -- ls --rm -v /a:/b",
    "--user --no-such --rm ls": "--user --no-such --rm ls",
    "--bind /a": "--bind /a",
    "--wd": "--wd",
}
ENTER = {
    "box --net=/run/netns/a -S 5 -G 6 -W /x id": "box --net-file /run/netns/a --setuid 5"
    " --setgid 6 --workdir /x id",
    "-t 1 -r --mount=/x ls -r": "-t 1 --root --mount-file /x ls -r",
    "box --tty sh --tty": "box --pty sh --tty",
}


def test_words_of_others_are_taken_for_ours() -> None:
    for command, rows in (("run", RUN), ("check", RUN), ("enter", ENTER)):
        for typed, ours in rows.items():
            assert aliases.rewritten(command, typed.split(" ")) == ours.split(" "), typed
    assert aliases.rewritten("list", ["--rm"]) == ["--rm"]


REFUSED = {
    "run --unshare-user-try id": ("--unshare-user-try is bubblewrap's", "write --user"),
    "run --userns=keep-id id": ("--userns is bubblewrap's and podman's", "--map-current"),
    "run -d ls": ("-d is podman's", "put & behind"),
    "run --rm -it ls": ("-i is --ipc here, not --interactive", "write -t"),
    "run --volume data:/b ls": ("--volume: a volume by a name", ""),
    "run --volume /a:/b:z ls": ("--volume: z: no labels", ""),
    "run --security-opt label=disable ls": ("--security-opt: 'label=disable': labels", ""),
    "run --uid me ls": ("--uid: 'me' is not a number", ""),
    "run --map-users 1:2 ls": ("--map-users: '1:2' is not INSIDE:OUTSIDE:COUNT", ""),
    "run --map-user no-such-user ls": ("--map-user: 'no-such-user': no such user", ""),
    "enter box -e env": ("-e is nsenter's and podman's", "--env-of-target"),
    "enter -t 1 --wd /x ls": ("--wd is nsenter's", "--workdir"),
}


def test_words_that_have_no_counterpart_say_what_to_write() -> None:
    for line, (text, hint) in REFUSED.items():
        command, *words = line.split()
        with pytest.raises(UsageFault) as caught:
            aliases.rewritten(command, words)
        assert caught.value.message.startswith(text), line
        assert hint in (caught.value.hint or "")


def test_no_word_of_others_is_one_of_ours() -> None:
    """But for those with a value behind `=`, which the same word has not here."""
    for command, table in (("run", aliases.OF_RUN), ("enter", aliases.OF_ENTER)):
        own = {*arguments.value_counts(command), "--args", "--help", "-h", "--version"}
        plain = {name for name, word in table.items() if word.values > -2}
        assert plain & own == set()
        assert {*(answers.ON_ENTER if command == "enter" else answers.ANSWERS)} & own == set()
        assert {*(answers.ON_ENTER if command == "enter" else answers.ANSWERS)} & plain == set()


def test_every_option_without_a_counterpart_has_an_answer() -> None:
    own = {*arguments.value_counts("run"), *aliases.OF_RUN, *answers.ANSWERS}
    for tool in ("bwrap", "unshare"):
        table = translating.TABLES[tool]
        assert {name for name, word in table.items() if word.why} <= own
        # --pid FILE and the like are options of ours, and the rest has our own name or an alias.
        assert {*table} - {"--args", "--seccomp"} <= own | {"--map-auto"}
    assert {"--rm", "--volume", "--env", "--network", "--userns"} <= own & {*podman.TABLE}
