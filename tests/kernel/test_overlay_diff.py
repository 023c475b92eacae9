"""--overlay-diff: what a command changed in overlays whose changes vanish."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import IS_ROOT, SCRIPT, outcome
from usage import assert_refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from conftest import Run

pytestmark = pytest.mark.needs("userns", "overlay")
# Without a user namespace the kernel keeps its notes elsewhere: in attributes trusted.*.
SPACES = [["--user"]] + ([["--mount"]] if IS_ROOT else [])
AROUND = pytest.mark.parametrize("spaces", SPACES)


@pytest.fixture
def low(tmp_path: Path) -> Path:
    """Return a directory to lie an overlay over."""
    directory = tmp_path / "low"
    for name in ("a", "b", "sub/c", "gone/x", "same/y", "deep/in/z"):
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(name)
    (directory / "link").symlink_to("a")
    return directory


def changes_of(low: Path, script: str, *options: str) -> list[str]:
    """Run `script` in an overlay on /mnt, and return the lines of what it changed."""
    told = low.parent / "diff"
    words = [SCRIPT, "run", *options, "--overlay-src", str(low), "--tmp-overlay", "/mnt"]
    words += ["--overlay-diff", str(told), "--workdir", "/mnt", "--", "sh", "-ec", script]
    done = outcome(words)
    assert (done.returncode, done.stderr) == (0, "")
    return told.read_text().splitlines()


def test_the_changes_on_standard_output(low: Path) -> None:
    words = ["--user", "--overlay-src", str(low), "--tmp-overlay", "/mnt", "--overlay-diff", "-"]
    words = [SCRIPT, "run", *words, "--", "sh", "-ec", "echo said; echo x > /mnt/f"]
    done = outcome(words, cwd=low)
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "said\nadded   /mnt/f\n")
    assert not (low / "-").exists()
    for command, status, error in (
        ('exec "$@" >&-', 2, "--overlay-diff: standard output: Bad file descriptor"),
        ('exec "$@" > /dev/full', 0, "cannot write what was changed: standard output: No space"),
    ):
        done = outcome(["sh", "-c", command, "sh", *words[:-1], "echo x > /mnt/f"])
        assert (done.returncode, error in done.stderr) == (status, True), done.stderr


CASES = {
    "echo new > f": ["added   /mnt/f"],
    "mkdir d; echo x > d/f": ["added   /mnt/d", "added   /mnt/d/f"],
    "echo other > a": ["changed /mnt/a"],
    "echo -n X | dd of=b conv=notrunc status=none": ["changed /mnt/b"],
    "chmod 700 sub": ["changed /mnt/sub"],
    'python3 -c \'import os; os.setxattr("sub", "user.k", b"v")\'': ["changed /mnt/sub"],
    "ln -sfn b link": ["changed /mnt/link"],
    "rm a": ["deleted /mnt/a"],
    "rm -r gone": ["deleted /mnt/gone"],
    "rm sub/c": ["deleted /mnt/sub/c"],
    "rm -r gone; mkdir gone; echo y > gone/y": ["deleted /mnt/gone/x", "added   /mnt/gone/y"],
    "rm -r deep; mkdir deep deep/in; echo y > deep/in/y": [
        *("added   /mnt/deep/in/y", "deleted /mnt/deep/in/z")
    ],
    "rm -r gone; echo now a file > gone": ["changed /mnt/gone"],
    "rm a; mkdir a; echo x > a/x": ["changed /mnt/a", "added   /mnt/a/x"],
    "mv a z": ["deleted /mnt/a", "added   /mnt/z"],
    "mkdir d; mv d e": ["added   /mnt/e"],
    "echo x > f; rm f": [],
    # As they were: opened for writing, touched, and written with what was there.
    "touch a": [],
    ": >> a": [],
    "printf b > b": [],
    "cat same/y": [],
    "echo > 'a\\nline'": ["added   /mnt/a\\x5cnline"],
    'echo > "$(printf "a\\nb")"': ["added   /mnt/a\\x0ab"],
    "mkfifo p": ["added   /mnt/p"],
}


@AROUND
def test_what_was_changed(low: Path, spaces: list[str]) -> None:
    """Each case in a directory of its own, all by one command."""
    bottom = low.parent / "bottom"
    for number in range(len(CASES)):
        shutil.copytree(low, bottom / f"{number:02}", symlinks=True)
    script = "\n".join(f"(cd {number:02}; {script})" for number, script in enumerate(CASES))
    wanted = [
        line.replace("/mnt/", f"/mnt/{number:02}/")
        for number, lines in enumerate(CASES.values())
        for line in lines
    ]
    assert changes_of(bottom, script, *spaces) == wanted
    for directory in bottom.iterdir():
        assert (directory / "a").read_text() == "a"
        assert (directory / "gone" / "x").exists()


@AROUND
def test_several_layers_hide_each_other(low: Path, spaces: list[str], tmp_path: Path) -> None:
    top = tmp_path / "top"
    top.mkdir()
    (top / "a").write_text("the upper one")
    (top / "sub").write_text("a file over a directory")
    told = tmp_path / "diff"
    words = [SCRIPT, "run", *spaces, "--overlay-src", str(low), "--overlay-src", str(top)]
    words += ["--tmp-overlay", "/mnt", "--overlay-diff", str(told), "--", "sh", "-ec"]
    script = "cd /mnt; printf a > a; rm sub; mkdir sub; echo > sub/c"
    subprocess.run([*words, script], check=True, timeout=60)
    assert told.read_text().splitlines() == [
        *("changed /mnt/a", "changed /mnt/sub", "added   /mnt/sub/c")
    ]


@AROUND
def test_a_layer_that_was_an_upper_directory_hides_what_it_hid(
    low: Path, spaces: list[str], tmp_path: Path
) -> None:
    top, work = tmp_path / "top", tmp_path / "work"
    top.mkdir()
    work.mkdir()
    script = "cd /mnt; rm -r deep; mkdir -p deep/in"
    words = [SCRIPT, "run", *spaces, "--overlay-src", str(low), "--overlay", str(top), str(work)]
    done = outcome([*words, "/mnt", "--", "sh", "-ec", script])
    assert (done.returncode, done.stderr) == (0, "")
    told = tmp_path / "diff"
    words = [SCRIPT, "run", *spaces, "--overlay-src", str(low), "--overlay-src", str(top)]
    words += ["--tmp-overlay", "/mnt", "--overlay-diff", str(told), "--", "sh", "-ec"]
    done = outcome([*words, "ls /mnt/deep/in; echo > /mnt/deep/in/z"])
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert told.read_text() == "added   /mnt/deep/in/z\n"


def test_json(low: Path, pyspaces: Run, tmp_path: Path) -> None:
    told = tmp_path / "diff.json"
    done = pyspaces(
        *("run", "--user", "--overlay-src", str(low), "--tmp-overlay", "/mnt"),
        *(
            "--overlay-diff",
            str(told),
            "--",
            "sh",
            "-c",
            "cd /mnt; rm a; echo > b; echo > n; exit 7",
        ),
    )
    assert done.returncode == 7, "that of the command"
    assert json.loads(told.read_text()) == {
        "version": 1,
        "added": ["/mnt/n"],
        "changed": ["/mnt/b"],
        "deleted": ["/mnt/a"],
    }


@pytest.mark.needs("many", "pidns")
@pytest.mark.parametrize("more", [[], ["--init"]])
def test_files_of_other_ids_are_compared_too(low: Path, more: list[str]) -> None:
    """The launcher itself could not read them; nothing runs inside any more when it asks."""
    maps = ["-M", "all", "-G", "all"] if IS_ROOT else ["--map-auto"]
    script = "mkdir d; echo > d/f; chmod 600 d/f; chmod 700 d; chown -R 5:5 d; chmod 0 a"
    assert changes_of(low, script, *maps, "--pid", *more) == [
        *("changed /mnt/a", "added   /mnt/d", "added   /mnt/d/f")
    ]


def test_a_set_that_throws_away(pyspaces: Run, tmp_path: Path) -> None:
    told = tmp_path / "diff"
    script = f"echo > {tmp_path}/new; rm -r /usr/share/doc"
    done = pyspaces(
        *("run", "--user", "--throwaway", "--overlay-diff", str(told), "--", "sh", "-ec", script)
    )
    # What belongs to others cannot be removed by an ordinary user, and all belongs to nobody here.
    assert done.returncode == (0 if IS_ROOT else 1), done.stderr
    removed = ["deleted /usr/share/doc"] if IS_ROOT else []
    assert told.read_text().splitlines() == [f"added   {tmp_path}/new", *removed]
    assert os.path.isdir("/usr/share/doc")
    assert not (tmp_path / "new").exists()


def test_a_file_that_cannot_be_written(tmp_path: Path) -> None:
    told = ["--user", "--throwaway", "--overlay-diff"]
    rows = [
        ([*told, f"{tmp_path}/no/diff"], f"overlay-diff: {tmp_path}/no/diff: No such file or dir"),
        ([*told, str(tmp_path)], f"overlay-diff: {tmp_path}: is not a regular file"),
        ([*told, ""], "overlay-diff: a path cannot be empty"),
        (["--user", "--overlay-diff", f"{tmp_path}/x"], "needs --tmp-overlay or --throwaway"),
        (["-F", *told, f"{tmp_path}/x"], "-F: cannot be combined with --overlay-diff"),
    ]
    assert_refused(rows)


def test_a_launch_that_fails_leaves_no_file_and_no_descriptor(
    pyspaces: Run, low: Path, tmp_path: Path
) -> None:
    told = tmp_path / "diff"
    told.write_text("of an earlier launch")
    done = pyspaces(
        *("run", "--user", "--overlay-src", str(low), "--tmp-overlay", "/mnt"),
        *("--overlay-diff", str(told), "--", "/no/command"),
    )
    assert done.returncode == 127
    assert not told.exists()


def test_a_directory_that_is_gone_meanwhile_is_said(low: Path, tmp_path: Path) -> None:
    told = tmp_path / "diff"
    words = [SCRIPT, "run", "--user", "--overlay-src", str(low), "--tmp-overlay", "/mnt"]
    words += ["--overlay-diff", str(told), "--", "sh", "-c"]
    words += ["echo > /mnt/new; echo up; read line; exit 3"]
    with subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as launcher:
        assert launcher.stdout is not None
        launcher.stdout.readline()
        low.rename(tmp_path / "elsewhere")
        _, errors = launcher.communicate("go on\n", timeout=60)
    assert launcher.returncode == 3, "the command's, whatever becomes of the file"
    assert errors == (f"pyspaces: cannot tell what was changed: {low}: No such file or directory\n")
    assert not told.exists()


# --- whatever the command made -----------------------------------------------------------------

HOSTILE = {
    "deep": "import os\nfor i in range(600): os.mkdir('d'); os.chdir('d')",
    "deeper": (
        "import os\nfor i in range(3000): os.mkdir('d'); open('f', 'w').close(); os.chdir('d')"
    ),
    "both ways": (
        "import os\nfor i in range(200): os.mkdir('x'); os.mkdir('z'); open('z/f','w').close();"
        " os.chdir('x')"
    ),
    "wide": "import os\nfor i in range(20000): os.close(os.open(str(i), os.O_CREAT|os.O_WRONLY))",
    "files that wait": "import os\nfor n in 'abc': os.mkfifo('p'+n)",
    "names": (
        "import os\nfor n in (b'a\\nb', b'\\x1b[31m', b'\\xff\\xfe', b'\\xe2\\x80\\xae', b' ',"
        " b'\\\\'): os.close(os.open(n, os.O_CREAT|os.O_WRONLY))"
    ),
}


LARGE = ("deeper", "wide")


@pytest.mark.crossed(1)
@AROUND
@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=pytest.mark.stress if n in LARGE else ()) for n in HOSTILE],
)
def test_whatever_the_command_made(low: Path, spaces: list[str], tmp_path: Path, name: str) -> None:
    """Its status is told, and nothing but what was changed: 600 directories were a traceback."""
    told = tmp_path / "diff"
    words = [SCRIPT, "run", *spaces, "--overlay-src", str(low), "--tmp-overlay", "/mnt"]
    words += ["--overlay-diff", str(told), "--workdir", "/mnt", "--"]
    script = f"{HOSTILE[name]}\nimport sys; sys.exit(7)"
    done = outcome(
        ["sh", "-c", 'ulimit -n 128; exec "$@"', "sh", *words, sys.executable, "-IS", "-c", script],
        timeout=120,
    )
    assert (done.returncode, done.stderr) == (7, "")
    lines = told.read_text().split("\n")[:-1]
    counts = {"deep": 600, "deeper": 6000, "both ways": 600, "wide": 20000, "names": 6}
    assert len(lines) == counts.get(name, 3)
    assert all(line.isprintable() and line.startswith("added   /mnt/") for line in lines)


@pytest.mark.crossed(1)
@AROUND
@pytest.mark.parametrize("depth", [40, pytest.param(400, marks=pytest.mark.stress)])
def test_deep_in_the_lower_one_as_well(low: Path, spaces: list[str], depth: int) -> None:
    script = f"cd sub; for i in $(seq {depth}); do mkdir d; cd d; done"
    subprocess.run(["bash", "-c", script], cwd=low, check=True)
    change = f"for i in $(seq {depth}); do cd -P d; done; echo x > new"
    found = changes_of(low, f"cd sub; {change}", *spaces)
    assert found == ["added   /mnt/sub" + "/d" * depth + "/new"]


def test_too_much_is_said_to_be(low: Path, pyspaces: Run, tmp_path: Path) -> None:
    """A chain of directories has as many paths, each as long as the chain."""
    told = tmp_path / "diff"
    script = (
        "import os\nfor i in range(1000): os.mkdir('d' * 200); os.chdir('d' * 200)\nos._exit(7)"
    )
    done = pyspaces(
        *("run", "--user", "--overlay-src", str(low), "--tmp-overlay", "/mnt", "--workdir", "/mnt"),
        *("--overlay-diff", str(told), "--", sys.executable, "-IS", "-c", script),
    )
    assert done.returncode == 7
    assert done.stderr == (
        "pyspaces: cannot tell what was changed: the paths have more than 64 MiB\n"
    )
    assert not told.exists()


@pytest.mark.parametrize("how", ["directory", "gone"])
def test_a_report_that_fails_is_a_line(low: Path, pyspaces: Run, tmp_path: Path, how: str) -> None:
    directory = tmp_path / "out"
    directory.mkdir()
    made = {"directory": f"mkdir {directory}/diff", "gone": f"rmdir {directory}"}[how]
    done = pyspaces(
        *("run", "--user", "--overlay-src", str(low), "--tmp-overlay", "/mnt"),
        *("--overlay-diff", f"{directory}/diff", "--", "sh", "-c", f"{made}; exit 9"),
    )
    assert done.returncode == 9
    assert done.stderr.startswith("pyspaces: cannot write what was changed: ")
    assert len(done.stderr.splitlines()) == 1
