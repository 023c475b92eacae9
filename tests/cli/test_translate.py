"""`pyspaces translate`: the line that it prints, and what it says of the rest."""

from __future__ import annotations

import os
import shlex

from conftest import IS_ROOT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from conftest import Run

UID, GID = os.geteuid(), os.getegid()


def test_a_line_of_another_tool_is_printed_in_our_words(pyspaces: Run) -> None:
    line = ["unshare", "--user", "--map-user=5", "--map-group=6", "sh", "-c", "echo 'a  b'"]
    done = pyspaces("translate", "--", *line)
    map_ids = f"--map-uid 5:{UID}:1 --map-gid 6:{GID}:1"
    if IS_ROOT:
        map_ids += " --setgroups deny"
    assert done.stdout == f"pyspaces run {map_ids} -- sh -c {shlex.quote(line[-1])}\n"
    assert (done.returncode, done.stderr) == (0, "")
    # Without --, and by a path; sudo stays.
    done = pyspaces("translate", "sudo", "/usr/bin/bwrap", "--dir", "x", "ls")
    assert done.stdout == "sudo pyspaces run --no-new-privs --empty-root --dir /x -- ls\n"


def test_what_has_no_counterpart_is_named_and_left_out(pyspaces: Run) -> None:
    done = pyspaces("translate", "--", "unshare", "--owner", "1:2", "-p", "ls")
    assert done.stdout == "pyspaces run --pid -- ls\n"
    assert done.stderr == (
        "pyspaces: no counterpart: --owner: the owner of a new user namespace is the caller\n"
        "pyspaces: note: --pid without --fork: here, the command itself is in the namespace\n"
    )
    assert done.returncode == 1
    for words in (["ls"], ["bwrap", "--no-such"], []):
        done = pyspaces("translate", *words)
        assert (done.returncode, done.stdout) == (2, "")
    done = pyspaces("as", "podman", "run", "alpine")
    assert done.returncode == 2
    assert "'podman': choose from bwrap, unshare, nsenter, lsns" in done.stderr


def test_a_translation_is_quoted_so_that_nothing_is_said_to_the_terminal(pyspaces: Run) -> None:
    done = pyspaces("translate", "--", "unshare", "-r", "echo", "\x1b]0;x\x07", "$(id)")
    assert done.stdout == "pyspaces run --map-root" + (
        " --setgroups deny" * IS_ROOT + " -- echo $'\\x1b]0;x\\x07' '$(id)'\n"
    )
