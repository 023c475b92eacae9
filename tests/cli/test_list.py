"""`pyspaces list`: tables, trees and JSON."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import struct
import subprocess
import termios
from pathlib import Path

import pytest
from children import Child
from conftest import SCRIPT, outcome

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import Run

COLUMNS = (
    *("ns", "type", "nprocs", "pid", "ppid", "uid", "user", "netnsid", "name", "age"),
    *("memory", "network", "addresses", "ports", "files"),
    *("held", "owner", "parent", "command"),
)
INSIDE = ["unshare", "-Urpfmn", "--mount-proc", "--kill-child"]


def test_json_has_every_key(pyspaces: Run) -> None:
    done = pyspaces("list", "--json", "--pid", str(os.getpid()))
    data = json.loads(done.stdout)
    assert (done.returncode, done.stderr) == (0, "")
    assert list(data) == ["namespaces", "unreadable", "hidden", "unsearched"]
    assert all(tuple(row) == COLUMNS for row in data["namespaces"])
    own = {int(os.stat(f"/proc/self/ns/{name}").st_ino) for name in ("user", "mnt", "net")}
    assert own <= {row["ns"] for row in data["namespaces"]}


def test_a_pipe_gets_whole_lines_with_headings(pyspaces: Run) -> None:
    done = pyspaces(
        "list", "-t", "mnt,user", "-o", "type,ns", "-o", "command", "-p", str(os.getpid())
    )
    heading, *rows = done.stdout.splitlines()
    assert heading.split() == ["TYPE", "NS", "COMMAND"]
    found = {row.split()[0]: int(row.split()[1]) for row in rows}
    assert found == {
        "mount": os.stat("/proc/self/ns/mnt").st_ino,
        "user": os.stat("/proc/self/ns/user").st_ino,
    }
    again = pyspaces("list", "-n", "-t", "user", "-o", "ns", "-p", str(os.getpid()))
    assert again.stdout == f"{os.stat('/proc/self/ns/user').st_ino}\n"


@pytest.mark.parametrize("words", ["list", "list --tree", "list --json", "as lsns"])
def test_without_standard_output(words: str) -> None:
    script = f'exec "$@" {words} -p {os.getpid()} >&-'
    done = outcome(["sh", "-c", script, "sh", SCRIPT])
    assert (done.returncode, "error" in done.stderr) == (0, False), done.stderr


@pytest.mark.needs("userns", "pidns", "proc", "netns")
def test_a_tree_by_owner() -> None:
    done = outcome(
        [
            *INSIDE,
            SCRIPT,
            "list",
            "--tree",
            "-n",
            "-o",
            "ns,type,nprocs",
            "-t",
            "user,net,pid",
        ],
        check=True,
        env=os.environ | {"LC_ALL": "C.UTF-8"},
    )
    lines = done.stdout.splitlines()
    assert [line.split()[1:] for line in lines] == [["user", "1"], ["pid", "1"], ["net", "1"]] or [
        line.split()[1:] for line in lines
    ] == [["user", "1"], ["net", "1"], ["pid", "1"]]
    assert [line.rstrip("0123456789 abcdefghijklmnopqrstuvwxyz") for line in lines] == [
        *("", "├─", "└─"),
    ]


@pytest.mark.needs("userns", "pidns", "proc", "netns")
def test_a_tree_of_json_by_parent_and_by_owner() -> None:
    script = f"""
        unshare -Urpf --kill-child sleep 1000 &
        until [ "$(cat /proc/[0-9]*/comm | grep -c sleep)" = 1 ]; do :; done
        {SCRIPT} list --json -o ns,type --tree=$0
    """
    found: dict[str, dict[str, list[str]]] = {}
    for relation in ("owner", "parent"):
        done = outcome([*INSIDE, "sh", "-c", script, relation], check=True)
        found[relation] = {
            row["type"]: [child["type"] for child in row.get("children", [])]
            for row in json.loads(done.stdout)["namespaces"]
        }
    assert sorted(found["owner"]["user"]) == ["mount", "net", "pid", "user"]
    assert (found["parent"]["user"], found["parent"]["pid"]) == (["user"], ["pid"])
    assert found["parent"]["net"] == []


def test_the_value_of_tree_is_taken_behind_an_equals_sign_only(pyspaces: Run) -> None:
    def shown(*words: str) -> str:
        return pyspaces("list", "-n", "-o", "type,ns", "-p", str(os.getpid()), *words).stdout

    assert shown("--tree") == shown("--tree=owner") == shown("--tree=parent", "--tree")
    assert shown("--tree", "-t", "net") == shown("-t", "net") != ""
    for words in (["--tree", "owner"], ["--tree", "parent"], ["--tree="], ["--tree=ow"]):
        done = pyspaces("list", *words)
        assert (done.returncode, done.stdout) == (2, "")


def test_wrong_words_are_wrong_usage(pyspaces: Run) -> None:
    done = pyspaces("list", "-t", "net,nonsense,what")
    assert done.returncode == 2
    assert "type: 'nonsense' is not a namespace" in done.stderr
    assert "type: 'what' is not a namespace" in done.stderr
    done = pyspaces("list", "-o", "ns,size")
    assert (done.returncode, done.stdout) == (2, "")
    assert "output: 'size' is not a column: choose from ns, type" in done.stderr
    assert pyspaces("list", "-p", "0").returncode == 2
    assert pyspaces("list", "extra").returncode == 2


def test_a_filter_chooses_rows_of_every_form(pyspaces: Run) -> None:
    own = os.stat("/proc/self/ns/net").st_ino
    words = ("-o", "ns", "-Q", f"type==net && ns=={own} && nprocs>0")
    assert pyspaces("list", "-n", *words).stdout == f"{own}\n"
    assert pyspaces("list", "-n", "--tree", *words).stdout == f"{own}\n"
    assert json.loads(pyspaces("list", "-J", *words).stdout)["namespaces"] == [{"ns": own}]
    # Each of several has to hold.
    assert pyspaces("list", "-n", *words, "--filter=type==uts").stdout == ""
    assert pyspaces("list", *words, "--filter=type==uts").stdout == "NS\n"


@pytest.mark.anyone
@pytest.mark.parametrize("every", [7, pytest.param(1, marks=pytest.mark.stress)])
def test_a_filter_says_the_same_as_the_columns(pyspaces: Run, every: int) -> None:
    texts, wanted = [], []
    data = json.loads(pyspaces("list", "-J", "-p", str(os.getpid())).stdout)["namespaces"]
    for column in COLUMNS:
        for row in data:
            if isinstance(row[column], list) or row[column] is None:
                continue
            if column in ("nprocs", "pid", "ppid", "command"):  # of others, who come and go
                continue
            texts.append(f"ns=={row['ns']} && {column}=='{row[column]}'")
            wanted.append(f"{row['ns']}\n")
    for text, answer in [*zip(texts, wanted, strict=True)][::every]:
        found = pyspaces("list", "-n", "-o", "ns", "-p", str(os.getpid()), "-Q", text)
        assert (found.returncode, found.stdout) == (0, answer), text


def test_a_wrong_filter_is_wrong_usage(pyspaces: Run) -> None:
    done = pyspaces("list", "--filter", "nproc==0")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "pyspaces: filter: character 1: no such column: 'nproc'; did you mean 'nprocs'?\n"
    )
    for text in ("", "(" * 4000, "!" * 4000, "pid" * 2000, "type==nte"):
        done = pyspaces("list", "-Q", text)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)


@pytest.mark.needs("userns", "netns")
def test_what_a_descriptor_holds_is_in_the_table_and_in_json(pyspaces: Run) -> None:
    with Child[bytes](
        ["unshare", "-Uru", "sh", "-c", "echo; read line"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout
        process.stdout.readline()
        inode = os.stat(f"/proc/{process.pid}/ns/uts").st_ino
        with open(f"/proc/{process.pid}/ns/uts") as kept:
            process.kill()
            process.wait()
            where = f"/proc/{os.getpid()}/fd/{kept.fileno()}"
            words = ("-Q", f"ns=={inode} && nprocs==0")
            done = pyspaces("list", "-n", "-o", "type,pid,held,command", *words)
            assert done.stdout.split() == ["uts", "-", where, "-"]
            (row,) = json.loads(pyspaces("list", "--json", *words).stdout)["namespaces"]
            assert (row["held"], row["nprocs"], row["pid"]) == ([where], 0, None)
            assert pyspaces("list", "--no-held", "-n", *words).stdout == ""
            assert pyspaces("list", "--held", "-n", "-o", "held", *words).stdout == f"{where}\n"


@pytest.mark.needs("userns", "netns")
def test_the_words_of_lsns_mean_what_they_mean_there(pyspaces: Run) -> None:
    words = ["-nr", "-o", "NS,NPROCS,PID,UID", "--task"]
    with Child[bytes](
        ["unshare", "-Urn", "sh", "-c", "echo; read a"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout
        process.stdout.readline()
        done = pyspaces("list", "--list", "-W", "-t", "net", *words, str(process.pid))
        theirs = subprocess.run(
            ["lsns", "-t", "net", *words, str(process.pid)],
            check=True,
            capture_output=True,
            text=True,
        )
        assert (done.returncode, done.stdout) == (0, theirs.stdout)
        # No process is in it, but the descriptor keeps it.
        kept = os.open(f"/proc/{process.pid}/ns/net", os.O_RDONLY)
    done = pyspaces("list", "-P", "--no-held", "-Q", "type==net || type==user")
    inode = str(os.fstat(kept).st_ino)
    assert done.returncode == 0
    assert inode not in done.stdout
    rows = json.loads(pyspaces("list", "--persistent", "--json").stdout)["namespaces"]
    os.close(kept)
    assert inode in {str(row["ns"]) for row in rows}
    assert {row["nprocs"] for row in rows} == {0}


def test_all_columns_are_printed_for_a_word(pyspaces: Run) -> None:
    done = pyspaces("list", "--output-all", "-p", str(os.getpid()))
    assert done.stdout.splitlines()[0].lower().split() == [*COLUMNS]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("--list --tree", "--list: cannot be combined with --tree"),
        ("--output-all -o ns", "--output-all: cannot be combined with --output"),
        ("-H", "--list-columns is lsns's\nhint: `pyspaces list --help` names them"),
    ],
)
def test_words_of_lsns_that_do_not_go_together(words: str, told: str, pyspaces: Run) -> None:
    done = pyspaces("list", *words.split())
    assert (done.returncode, done.stderr) == (2, f"pyspaces: {told}\n")


def test_no_such_process(pyspaces: Run) -> None:
    done = pyspaces("list", "--pid", "4194305")  # PID_MAX_LIMIT + 1
    assert (done.returncode, done.stdout) == (125, "")
    assert done.stderr == (
        "pyspaces: cannot list the namespaces of process 4194305: no such process\n"
    )


@pytest.mark.needs("userns")
def test_raw_rows_are_words_of_a_shell() -> None:
    with process_with("a  b\\\n") as (_, _, pid, *_):
        words = ("-p", pid, "-t", "user", "-r", "-o", "pid,netnsid,command,nprocs")
        done = subprocess.run([SCRIPT, "list", *words], capture_output=True, text=True, check=True)
    row = f"{pid}  sh\\x20-c\\x20echo;\\x20read\\x20a\\x20a\\x20\\x20b\\x5c\\x0a 1"
    assert done.stdout.splitlines() == ["PID NETNSID COMMAND NPROCS", row]


def test_raw_is_for_a_table_only(pyspaces: Run) -> None:
    for other in ("--json", "--tree"):
        done = pyspaces("list", "--raw", other)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr == f"pyspaces: --raw: cannot be combined with {other}\n"


@pytest.mark.as_ordinary
def test_what_could_not_be_read_is_said_once(pyspaces: Run) -> None:
    assert pyspaces("list", "--quiet").stderr == ""
    done = pyspaces("list")
    assert done.returncode == 0
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("pyspaces: not listed: ")
    assert json.loads(pyspaces("list", "--json").stdout)["unreadable"] > 0


def on_terminal(*words: str, columns: int) -> list[str]:
    """Run with standard output on a terminal of so many columns; return what it shows."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    with Child[bytes](
        [SCRIPT, *words], stdin=subprocess.DEVNULL, stdout=theirs, stderr=subprocess.DEVNULL
    ) as process:
        os.close(theirs)
        shown = b""
        while True:
            try:
                data = os.read(ours, 65536)
            except OSError:  # EIO: nobody has the other side open any more
                break
            shown += data
        os.close(ours)
        assert process.wait() == 0
    return shown.decode().splitlines()


@pytest.mark.needs("userns")
def test_a_terminal_gets_lines_that_fit() -> None:
    # A namespace of its own: of those of the host, the first process may end at any time.
    with process_with("x" * 300) as words:
        wide = on_terminal(*words, columns=1000)
        narrow = on_terminal(*words, columns=40)
        whole = on_terminal(*words, "-u", columns=40)
    assert all(len(line) <= 40 for line in narrow)
    assert whole == wide
    assert len(narrow) == len(wide) == 2


@contextlib.contextmanager
def process_with(*words: str) -> Iterator[tuple[str, ...]]:
    """Run a process with these words on its command line; give what lists that."""
    with Child[bytes](
        ["unshare", "-Ur", "sh", "-c", "echo; read a", *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout
        process.stdout.readline()
        yield "list", "-p", str(process.pid), "-t", "user", "-o", "command"


@pytest.mark.needs("userns")
def test_nobody_gets_control_characters_of_a_command_line() -> None:
    with process_with("\x1b[31m\n\r語") as words:
        (_, shown) = on_terminal(*words, columns=80)
        assert shown == "sh -c echo; read a \\x1b[31m\\x0a\\x0d語"
    with process_with("e\x1b[31m\n\x9b\t", "\udcff\u202e") as words:
        shown = "e\\x1b[31m\\x0a\\xc2\\x9b\\x09 \\xff\\xe2\\x80\\xae"
        for form in ([], ["--tree"]):
            done = subprocess.run([SCRIPT, *words, *form, "-n"], capture_output=True, check=True)
            assert done.stdout.decode() == f"sh -c echo; read a {shown}\n"


@pytest.mark.as_root
def test_files_are_written_without_control_characters(tmp_path: Path, pyspaces: Run) -> None:
    file = tmp_path / "a\x1b[31m\nb\\\t,\udcff"
    file.touch()
    subprocess.run(["unshare", f"--uts={file}", "true"], check=True)
    try:
        inode = os.stat(file).st_ino
        lines = pyspaces("list", "-n", "-t", "uts", "-o", "ns,files").stdout.split("\n")
        (line,) = (line for line in lines if line.startswith(f"{inode} "))
        assert line.endswith("/a\\x1b[31m\\x0ab\\\\x09,\\xff")
        rows = json.loads(pyspaces("list", "-J").stdout)["namespaces"]
        assert [row["files"] for row in rows if row["ns"] == inode] == [[str(file)]]
    finally:
        subprocess.run(["umount", str(file)], check=True)


@pytest.mark.needs("userns")
def test_any_encoding_of_the_output_can_show_a_command() -> None:
    with process_with("語\udcff") as words:
        for encoding, shown in (("latin-1", "\\u8a9e"), ("utf-8", "語")):
            more = os.environ | {"PYTHONIOENCODING": encoding}
            done = subprocess.run([SCRIPT, *words, "-n"], capture_output=True, check=True, env=more)
            assert done.stdout.decode() == f"sh -c echo; read a {shown}\\xff\n"


def test_a_reader_that_goes_ends_it_quietly() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run([SCRIPT, "list"], stdout=writing, stderr=subprocess.PIPE, check=False)
    finally:
        os.close(writing)
    assert (done.returncode, b"Traceback" in done.stderr) == (-13, False)


@pytest.mark.as_ordinary
def test_what_could_not_be_read_is_told_once_on_a_terminal(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    told = []
    for _ in range(2):
        ours, theirs = os.openpty()
        try:
            environment = {**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)}
            words = [SCRIPT, "list", "-t", "uts"]
            done = subprocess.run(
                words, stdout=subprocess.DEVNULL, stderr=theirs, env=environment, check=False
            )
            assert done.returncode == 0
            os.set_blocking(ours, False)
            try:
                told.append(os.read(ours, 4096))
            except BlockingIOError:
                told.append(b"")
        finally:
            os.close(theirs)
            os.close(ours)
    assert told[0].startswith(b"pyspaces: not listed: ")
    assert told[1] == b""


def test_watching_and_json_do_not_go_together(pyspaces: Run) -> None:
    done = pyspaces("list", "--watch", "--json")
    assert (done.returncode, done.stderr[:26]) == (2, "pyspaces: --watch: cannot ")
