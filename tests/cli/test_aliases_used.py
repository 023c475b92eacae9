"""Options of other tools on our own command line, and the warning about their binds."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from conftest import SCRIPT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from conftest import Run
    from terminal import Shell


@pytest.mark.needs("userns", "pidns", "netns")
def test_words_of_other_tools_work_in_ours(pyspaces: Run) -> None:
    script = 'id -u; echo "$$ $A $PWD"; ls /proc/sys/net/ipv4/conf'
    words = "--unshare-all --uid 0 -e A=b --chdir / --rm --fork"
    done = pyspaces("run", *words.split(), "sh", "-c", script)
    assert (done.returncode, done.stdout) == (0, "0\n1 b /\nall\ndefault\nlo\n")
    done = pyspaces("run", "--map-root-user", "--volume", "/usr:/mnt:ro", "ls", "/mnt/bin/env")
    assert (done.returncode, done.stdout) == (0, "/mnt/bin/env\n")
    assert pyspaces("check", "--map-root-user", "--unshare-uts").returncode == 0
    assert pyspaces("run", "-V").stdout.startswith("pyspaces ")
    # Hidden: from --help and from completion.
    assert "--map-root-user" not in pyspaces("run", "--help").stdout
    variables = {"_PYSPACES_COMPLETE": "bash_complete", "COMP_CWORD": "2"}
    shown = pyspaces(env={**os.environ, **variables, "COMP_WORDS": "pyspaces run --map-r"}).stdout
    assert shown.split() == ["plain,--map-root"]


@pytest.mark.as_ordinary
def test_the_terminal_of_podman_is_explained_where_it_fails(pyspaces: Run) -> None:
    done = pyspaces("run", "-it", "ls")
    assert done.returncode == 125
    assert "hint: -i is --ipc here, which needs --user; " in done.stderr
    assert "-t alone gives a terminal" in done.stderr
    # Not where it belongs to the command.
    assert "--ipc here" not in pyspaces("run", "--uts", "--", "ls", "-it").stderr


def test_a_launch_loads_no_words_of_others() -> None:
    code = (
        "import sys; sys.argv = ['pyspaces', 'run', '--no-such']\n"
        "from pyspaces import cli\n"
        "print(cli.main(['run', '--umask', '022', '--bind-fd', 'x', '/x', 'true']))\n"
        "print([name for name in sys.modules if 'commands.words' in name])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[-2] == "[]"


@pytest.mark.needs("userns")
def test_binds_without_a_root_of_their_own_are_told_on_a_terminal(
    shell: Shell, pyspaces: Run
) -> None:
    words = "run --user --bind /usr /usr true"
    assert pyspaces(*words.split()).stderr == ""
    shell.type(f"{SCRIPT} {words}\n".encode())
    shell.expect(b"warning: --bind /usr /usr changes nothing: ")
    shell.expect(b"`pyspaces as bwrap ...`")
    shell.tells_status(0)
    shell.type(f"{SCRIPT} run --user --empty-root --bind / / true; echo en'd'\n".encode())
    assert b"warning" not in shell.expect(b"end\r\n")


@pytest.mark.needs("userns", "pidns")
def test_a_reader_of_the_hosts_proc_is_told_on_a_terminal(shell: Shell, pyspaces: Run) -> None:
    words = "run --user --pid pidof -V"
    told = b"warning: pidof reads /proc, which shows the host's processes: add --mount-proc"
    assert "warning" not in pyspaces(*words.split()).stderr
    shell.type(f"{SCRIPT} {words} >/dev/null\n".encode())
    shell.expect(told)
    for more in ("--mount-proc --dry-run", "--no-mount-proc --mount --dry-run"):
        shell.type(f"{SCRIPT} run --user --pid {more} /bin/pidof; echo en'd'\n".encode())
        assert b"warning" not in shell.expect(b"end\r\n")
    shell.type(f"{SCRIPT} run --user --pid -- true; echo en'd'\n".encode())
    assert b"warning" not in shell.expect(b"end\r\n")
