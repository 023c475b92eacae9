"""Limits of a command, asked of the kernel from inside; each reached on purpose, and told."""

from __future__ import annotations

import json
import os
import resource
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from conftest import SCRIPT, outcome, without

from pyspaces import launch, settings
from pyspaces.errors import SpaceError
from pyspaces.features.limits import NAMES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from conftest import Run

SPIN = [sys.executable, "-I", "-S", "-c", "while True: pass"]
AROUND = pytest.mark.parametrize(
    "around",
    [
        [],
        ["--no-fork"],
        pytest.param(["--user"], marks=pytest.mark.needs("userns")),
        pytest.param(["--user", "--init"], marks=pytest.mark.needs("userns", "pidns")),
    ],
    ids=lambda words: "".join(words) or "plain",
)


def seen(pyspaces: Run, *words: str, fact: str) -> Any:
    """Return what a Python expression says inside."""
    code = f"import json, os, resource; print(json.dumps({fact}))"
    done = pyspaces("run", *words, "--", sys.executable, "-I", "-S", "-c", code)
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


@AROUND
def test_each_limit_and_priority_is_what_was_asked_for(pyspaces: Run, around: list[str]) -> None:
    wanted = {}
    for number, name in enumerate(NAMES):
        soft, hard = resource.getrlimit(number)
        if name not in ("as", "data", "cpu", "stack", "nproc", "nofile", "fsize"):
            soft = hard = 0 if hard == -1 else hard // 2
        wanted[name] = [soft, hard]
    words = [f"--rlimit={name}={soft}:{hard}" for name, (soft, hard) in wanted.items()]
    words = [word.replace("-1", "unlimited") for word in words]
    cpu = max(os.sched_getaffinity(0))
    # Whoever is nice already cannot be less so, and likewise with the other one.
    nice = min(19, os.getpriority(os.PRIO_PROCESS, 0) + 7)
    score = max(700, int(Path("/proc/self/oom_score_adj").read_text()))
    words += ["--umask", "027", "--nice", str(nice), "--oom-score-adj", str(score)]
    words += ["--cpu-list", str(cpu)]
    fact = (
        f"[[resource.getrlimit(number) for number in range({len(NAMES)})],"
        " os.umask(0), os.getpriority(os.PRIO_PROCESS, 0),"
        " int(open('/proc/self/oom_score_adj').read()), sorted(os.sched_getaffinity(0))]"
    )
    found = seen(pyspaces, *around, *words, fact=fact)
    assert found == [list(wanted.values()), 0o27, nice, score, [cpu]]


def test_the_numbers_are_those_of_the_system() -> None:
    for number, name in enumerate(NAMES):
        assert getattr(resource, f"RLIMIT_{name.upper()}", number) == number


def test_the_same_leaves_one_of_the_two(pyspaces: Run) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    fact = "resource.getrlimit(resource.RLIMIT_NOFILE)"
    assert seen(pyspaces, "--rlimit", "nofile=64:same", fact=fact) == [64, hard]
    if hard != -1 and soft < hard:
        assert seen(pyspaces, "--rlimit", f"nofile=same:{soft}", fact=fact) == [soft, soft]


@pytest.mark.needs("ionice")
def test_the_priority_of_io(pyspaces: Run) -> None:
    done = pyspaces("run", "--ionice", "best-effort:6", "--", "sh", "-c", "ionice -p $$")
    assert done.stdout == "best-effort: prio 6\n"


@pytest.mark.needs("userns", "pidns", "proc")
def test_the_limits_are_not_those_of_process_1(pyspaces: Run) -> None:
    """It has to fork and to pass signals on, whatever the command may do."""
    words = ["--user", "--init", "--rlimit", "nofile=40"]
    done = pyspaces("run", *words, "--", "cat", "/proc/1/limits", "/proc/self/limits")
    of_process_1, own = (line for line in done.stdout.splitlines() if "Max open files" in line)
    assert "Max open files            40 " in own
    assert "Max open files            40 " not in of_process_1


# --- reached on purpose, and told ------------------------------------------------------------


def test_the_time_of_the_cpu_is_over(pyspaces: Run, tmp_path: Path) -> None:
    """Both at once: a second each, which is the least that can be given."""
    cases = {
        "cpu=1:5": (128 + 24, "SIGXCPU: its CPU time reached the limit", "--rlimit cpu=1:5"),
        "cpu=1": (128 + 9, "s of CPU time", "--rlimit cpu=1:1"),
    }
    with ThreadPoolExecutor() as pool:
        done = {
            limit: pool.submit(
                pyspaces,
                *("run", "--rlimit", limit, "--status-file", str(tmp_path / limit), "--", *SPIN),
            )
            for limit in cases
        }
    for limit, (code, *words) in cases.items():
        ended = done[limit].result()
        assert ended.returncode == code
        assert [word for word in words if word not in ended.stderr] == [], ended.stderr
        assert json.loads((tmp_path / limit).read_text().splitlines()[-1])["limit"] == "cpu"


@AROUND
def test_a_file_becomes_too_large(pyspaces: Run, tmp_path: Path, around: list[str]) -> None:
    if around == ["--no-fork"]:
        pytest.skip("no launcher is left to tell it")
    file = tmp_path / "file"
    words = ["sh", "-c", f"exec dd if=/dev/zero of={file} bs=1024 count=8"]
    done = pyspaces("run", *around, "--rlimit", "fsize=4K", "--", *words)
    assert done.returncode == 128 + 25
    assert "SIGXFSZ: a file was to become larger than --rlimit fsize=4096:4096" in done.stderr
    assert file.stat().st_size == 4096


def test_a_shell_tells_of_a_process_of_its_own(pyspaces: Run, tmp_path: Path) -> None:
    words = ["sh", "-c", f"head -c 5000 /dev/zero > {tmp_path / 'x'}; exit $?"]
    done = pyspaces("run", "--rlimit", "fsize=1K", "--", *words)
    assert done.returncode == 128 + 25
    assert "a process of the command was probably ended by SIGXFSZ" in done.stderr


def test_another_end_blames_no_limit(pyspaces: Run, tmp_path: Path) -> None:
    record = tmp_path / "record"
    words = ["--rlimit", "fsize=1K", "--rlimit", "cpu=9", "--status-file", str(record)]
    done = pyspaces("run", *words, "--", "sh", "-c", "kill -9 $$")
    assert (done.returncode, done.stderr) == (137, "")
    assert json.loads(record.read_text().splitlines()[-1])["limit"] is None


@pytest.mark.parametrize(
    ("limit", "code"),
    [
        ("nofile=16", "import os; [os.pipe() for _ in range(20)]"),
        ("as=200M", "bytearray(1 << 30)"),
        ("data=100M", "bytearray(1 << 30)"),
        ("memlock=0", "import mmap; mmap.mmap(-1, 4096, flags=0x2022)"),
    ],
)
def test_others_are_errors_of_the_command(pyspaces: Run, limit: str, code: str) -> None:
    if limit.startswith("memlock") and os.geteuid() == 0:
        pytest.skip("root may lock what it wants")
    done = pyspaces("run", "--rlimit", limit, "--", sys.executable, "-I", "-S", "-c", code)
    assert done.returncode == 1
    assert "Error" in done.stderr


@pytest.mark.as_ordinary
def test_processes_are_counted(pyspaces: Run) -> None:
    done = pyspaces("run", "--rlimit", "nproc=1", "--", "sh", "-c", "true & wait; echo no")
    assert done.returncode != 0
    assert "fork" in done.stderr


# --- what cannot be applied is an error before the command runs ------------------------------


@pytest.mark.as_ordinary
@pytest.mark.parametrize(
    ("words", "what"),
    [
        (["--nice", "-5"], "set the scheduling: setpriority -5: Permission denied"),
        (["--oom-score-adj", "-500"], "oom_score_adj: Permission denied"),
        (["--ionice", "realtime"], "set the scheduling: ioprio_set: Operation not permitted"),
        (["--cpu-list", "8000"], "set the scheduling: sched_setaffinity 8000: Invalid argument"),
    ],
)
def test_what_a_user_may_not(pyspaces: Run, tmp_path: Path, words: list[str], what: str) -> None:
    done = pyspaces("run", *words, "--", "touch", str(tmp_path / "ran"))
    assert done.returncode == 125
    assert what in done.stderr
    assert not (tmp_path / "ran").exists()


def test_a_cpu_that_is_not_there_is_not_dropped_silently(pyspaces: Run) -> None:
    done = pyspaces("run", "--cpu-list", f"{min(os.sched_getaffinity(0))},4000", "--", "true")
    assert done.returncode == 125
    assert "sched_setaffinity 4000: Invalid argument" in done.stderr


@pytest.mark.needs("userns")
def test_a_hard_limit_is_not_raised_in_a_user_namespace(pyspaces: Run, tmp_path: Path) -> None:
    inner = [SCRIPT, "run", "--user", "--rlimit", "core=5"]
    done = pyspaces("run", "--rlimit", "core=4", "--", *inner, "--", "touch", str(tmp_path / "ran"))
    assert done.returncode == 125
    assert "cannot set the resource limits: prlimit core=5:5: Operation not perm" in done.stderr
    assert "CAP_SYS_RESOURCE" in done.stderr
    assert not (tmp_path / "ran").exists()


@pytest.mark.crossed(1)
@pytest.mark.parametrize("around", [[], ["--no-fork"]], ids=["fork", "no-fork"])
@pytest.mark.parametrize(
    ("command", "code"), [("nonesuch", 127), ("/etc/passwd", 126), ("/etc", 126)]
)
def test_a_command_that_is_not_there_is_told_as_always(
    pyspaces: Run, around: list[str], command: str, code: int
) -> None:
    plain = pyspaces("run", *around, "--", command)
    limited = pyspaces("run", *around, "--rlimit", "nofile=3", "--", command)
    assert (limited.returncode, limited.stderr) == (plain.returncode, plain.stderr)
    assert plain.returncode == code


@pytest.mark.parametrize("around", [[], ["--no-fork"]], ids=["fork", "no-fork"])
def test_scripts_without_an_interpreter(pyspaces: Run, tmp_path: Path, around: list[str]) -> None:
    script = tmp_path / "script"
    script.write_text("echo $0 $1")
    script.chmod(0o755)
    done = pyspaces("run", *around, "--rlimit", "core=0", "--", str(script), "a")
    assert done.stdout == f"{script} a\n"
    script.write_text("#!/nonexistent\n")
    done = pyspaces("run", *around, "--rlimit", "core=0", "--", str(script))
    assert done.returncode == 127
    assert "but not the interpreter that it names" in done.stderr


@pytest.mark.needs("userns")
def test_a_hostile_root_is_refused_with_no_descriptors_left(pyspaces: Run, tmp_path: Path) -> None:
    """The look at what exec would lead to needs descriptors: it comes before the limit."""
    (tmp_path / "sh").symlink_to("/proc/self/exe")
    (tmp_path / "proc").mkdir()
    words = ["--user", "--root", str(tmp_path), "--pid", "--rlimit", "nofile=3", "--", "/sh"]
    done = pyspaces("run", *words)
    assert done.returncode == 126
    assert "leads to what is outside of the root" in done.stderr


def test_a_child_killed_on_the_way_is_no_command(monkeypatch: pytest.MonkeyPatch) -> None:
    from pyspaces.features import limits

    def die(context: object) -> None:
        os.kill(os.getpid(), 9)

    monkeypatch.setattr(limits, "SET_RLIMITS", limits.SET_RLIMITS.replace(act=die))
    with pytest.raises(SpaceError, match="cannot set the resource limits: the new process was ki"):
        launch.start(settings.plan_from({"command": ["true"], "rlimit": ["core=0"]}))


def test_a_function_has_its_limits() -> None:
    import pyspaces as library

    def limits() -> object:
        return resource.getrlimit(resource.RLIMIT_NOFILE), os.umask(0)

    process = library.Container(target=limits, rlimit="nofile=40", umask="027", name="x")
    process.start()
    assert process.result() == ((40, 40), 0o27)


def test_a_filter_that_refuses_the_call_fails_the_launch(pyspaces: Run) -> None:
    if os.uname().machine != "x86_64":
        pytest.skip("the number of prlimit64 is that of x86_64")
    words = without(302, answer=1)
    done = outcome([*words, SCRIPT, "run", "--rlimit=core=0", "true"])
    assert done.returncode == 125
    assert "prlimit core=0:0: Operation not permitted" in done.stderr
