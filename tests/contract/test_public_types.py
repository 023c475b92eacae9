"""The whole public API, used as a program would; mypy --strict reads this file as all others.

What it asserts at run time is little: that no name is missing, and that pydoc shows each.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack, assert_type, get_type_hints

import pytest
from conftest import outcome

import pyspaces
from pyspaces import (
    ChildTraceback,
    Chroot,
    Completed,
    Container,
    Inject,
    NoResult,
    Popen,
    Sandbox,
    SpaceError,
    UnpicklableResult,
    UsageFault,
    cloning,
    create_subprocess_exec,
    create_subprocess_shell,
    get_context,
    launch,
    run,
    setns,
    settings,
)
from pyspaces.features.ids.idmap import Extent
from pyspaces.library import space
from pyspaces.library.keywords import Command, Space
from pyspaces.mounts.operations import Bind
from pyspaces.status import Status

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.context import BaseContext


def half(number: int, *, exact: bool = False) -> float:
    return number / 2 if exact else number // 2


def every_container() -> tuple[Container, ...]:
    return (
        Container(half, args=(4,), kwargs={"exact": True}, name="half", daemon=True, user=True),
        Container(half, args=[4], all=True, uid_map=True, gid_map=[1000], map_zero=False),
        Container(user=True, uid_map="0 1000 1", gid_map=["0,1000,1"], hostname="box"),
        Container(net=True, mount=True, uts=True, ipc=True, cgroup=True, time=True, pid=True),
        Container(workdir="/", mount_proc=False, flags=cloning.CLONE_NEWUTS, root="/srv"),
        Container(newuser=True, newpid=True, newnet=True, newns=True, newuts=True, newipc=True),
        Container(uid_map=[1000, 1001], gid_map=(0, 1000, 1), setuid=0, groups=[0, "0"]),
        Container(uid_map=Extent(inside=0, outside=7, count=1), gid_map=[True, (1, 5, 2), "3 9 1"]),
        Container(host_ro=True, read_only=True, mounts=[["tmpfs", "/tmp"], Bind(**BIND)]),
        Container(init=True, setenv={"A": "1"}, unsetenv="B", boottime=1.5, kill_child="KILL"),
        Chroot(Path("/srv"), half, args=(4,), user=True, registered="box"),
        wrapped(half, user=True, hostname="box"),
    )


BIND: Any = {"source": "/usr", "target": "/usr"}


def wrapped(target: Callable[..., Any], **given: Unpack[Space]) -> Container:
    """As a program passes settings on."""
    return Container(target, **given)


def what_a_type_checker_refuses() -> None:
    """Not called: mypy, which warns of an ignore without need, sees each of these as an error."""
    Container(hostnam="box")  # type: ignore[call-arg]
    Container(user="yes")  # type: ignore[arg-type]
    Container(uid_map=1.5)  # type: ignore[arg-type]
    Container(timeout=5)  # type: ignore[call-arg]
    Chroot("/srv", root="/")  # type: ignore[call-arg]
    get_context(registered="box")  # type: ignore[call-arg]
    Inject(1, hostname="box")  # type: ignore[call-arg]
    setns(1, net="yes")  # type: ignore[arg-type]


def use_of_a_container(container: Container) -> None:
    container.start()
    assert_type(container.result(timeout=1.5), Any)
    assert_type(container.pid, int | None)
    assert_type(container.exitcode, int | None)
    container.terminate()
    container.close()


def use_of_others(pid: int) -> None:
    visitor = Inject(pid, half, args=(1,), net=True, user=True)
    assert_type(visitor.result(), Any)
    with setns(pid, net=True) as names:
        assert_type(names, tuple[str, ...])
    context = get_context(user=True, pid=True)
    base: BaseContext = context
    with base.Pool(2) as pool:
        pool.map(half, [1, 2])
    context.Process(target=half, args=(1,)).start()


def use_of_launch() -> Status:
    plan = settings.plan_from({"command": ["true"], "user": True})
    with launch.start(plan) as running:
        running.send_signal(15)
        assert_type(running.poll(), Status | None)
        return running.wait(timeout=3)


def use_of_commands() -> Completed:
    with Popen(["cat"], stdin=-1, user=True, pid=True, mounts=[["tmpfs", "/tmp"]]) as process:
        assert_type(process.poll(), int | None)
        assert_type(process.status, Status | None)
        assert_type(process.pidfd, int)
    plan = settings.plan_from({"command": ["true"], "user": True})
    run("true", plan=plan, shell=True, timeout=1.5, check=True, env={"A": "b"}, cwd="/")
    run(["true"], cwd=b"/", executable=b"/bin/true", env={"A": Path("/")}, pass_fds={3})
    run(["cat"], input=bytearray(b"a"), user=True)
    run(["true"], hostnam="box")  # type: ignore[call-arg]
    run(["true"], user="yes")  # type: ignore[arg-type]
    return run(["true"], input=b"", capture_output=True, user=True, uid_map=[1000])


def use_of_a_sandbox() -> Any:
    with Sandbox(user=True, net=True, mounts=[["tmpfs", "/tmp"]]) as box:
        assert_type(box.pid, int)
        assert_type(box.run(["true"], check=True, cwd="/"), Completed)
        with box.popen("true", shell=True, stdout=-1) as process:
            assert_type(process, Popen)
        return box.call(half, 4, exact=True)


async def use_of_asyncio() -> bytes:
    process = await create_subprocess_exec("true", stdout=-1, user=True, hostname="box")
    other = await create_subprocess_shell("true", user=True, cwd="/")
    assert_type(await other.wait(), int)
    assert_type(process.status, Status | None)
    return (await process.communicate(b""))[0]


class Description:
    """A process object as Clone takes it."""

    clone_flags = cloning.CLONE_NEWUSER | cloning.CLONE_NEWPID
    uid_map = True


def use_of_clone(process_obj: Any) -> int | None:
    child = cloning.Clone(process_obj)
    assert_type(child.pid, int)
    assert_type(child.pipe_fd, tuple[int, int])
    child.terminate()
    child.kill()
    code = child.wait(timeout=1.0)
    child.poll()
    child.close()
    return code


def use_of_errors(error: Exception) -> str | None:
    if isinstance(error, NoResult | UnpicklableResult):
        return str(error)
    if isinstance(error.__cause__, ChildTraceback):
        return error.__cause__.text
    if isinstance(error, UsageFault):
        return ", ".join(error.faults)
    return error.hint if isinstance(error, SpaceError) else None


def test_every_public_name_is_used_here() -> None:
    names = set(pyspaces.__all__) - {"__version__"}
    assert names <= set(globals())


def test_containers_are_made_and_wrong_ones_told() -> None:
    assert len(every_container()) == 12
    assert use_of_errors(UsageFault(["a", "b"])) == "a, b"
    with pytest.raises(UsageFault, match="hostname"):
        Container(half, uid_map=True, all=False, user=False, hostname="a b\0")


@pytest.mark.parametrize(
    ("name", "keywords", "refused"),
    [
        ("run", Command, space.REFUSED_FOR_COMMAND),
        ("Popen", Command, space.REFUSED_FOR_COMMAND),
        ("Container", Space, space.REFUSED),
    ],
)
def test_help_tells_every_setting(name: str, keywords: type, refused: dict[str, str]) -> None:
    text = outcome([sys.executable, "-m", "pydoc", f"pyspaces.{name}"], check=True).stdout
    shown = set(re.findall(r"^ +(?:\| +)?(\w+)(?: \(.*?\))?: ", text, re.MULTILINE))
    settings_of_it = set(get_type_hints(keywords)) & {*space.TAKEN, *space.FOR_COMMAND}
    assert settings_of_it - set(space.ALIASES) - {"flags"} <= shown
    assert not (set(refused) - set(settings_of_it)) & shown - {"timeout"}


# What an editor or a type checker knows, in its own words.
REVEALED = {
    'pyspaces.run(["a"], user=True, pid=True, text=True)': "Completed",
    'pyspaces.run(["a"], mounts=[["tmpfs", "/tmp"]], uid_map=[1]).usage': "Usage | None",
    "pyspaces.Popen('a', shell=True, net=True).status": "Status | None",
    'pyspaces.Sandbox(net=True).run(["a"], cwd="/")': "Completed",
    "pyspaces.Sandbox(host_ro=True).popen(['a'])": "Popen",
    "pyspaces.Container(len, host_ro=True).result()": "Any",
}
WRONG = (
    'pyspaces.run(["a"], hostnam="a")',
    'pyspaces.Popen(["a"], user="yes")',
    'pyspaces.Sandbox(hostnames="a")',
    "pyspaces.Container(len, timeout=3)",
)


def run_pyright(path: Path) -> list[str]:
    """Return what pyright says of a file; skip the test if it cannot be had here."""
    if find_spec("pyright") is None:
        pytest.skip("pyright is not installed")
    words = [sys.executable, "-m", "pyright"]
    try:  # the first run may have to download it
        outcome([*words, "--version"], check=True, timeout=120)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        pytest.skip(f"pyright does not run here: {error}")
    done = outcome([*words, "--pythonpath", sys.executable, str(path)])
    return [line.partition(" - ")[2] for line in done.stdout.splitlines() if " - " in line]


@pytest.mark.stress
def test_pyright_accepts_the_public_interface_and_knows_its_types(tmp_path: Path) -> None:
    assert run_pyright(Path(__file__)) == []
    file = tmp_path / "revealed.py"
    lines = [*(f"reveal_type({text})" for text in REVEALED), *WRONG]
    file.write_text("\n".join(["import pyspaces", *lines]))
    told = run_pyright(file)
    ends = [re.sub(r'.*is "(.*)"$', r"\1", line) for line in told if line.startswith("info")]
    assert ends == list(REVEALED.values())
    assert len([line for line in told if line.startswith("error")]) >= len(WRONG)


@pytest.mark.parametrize(
    ("module", "names"),
    [("pyspaces.cloning", cloning.__all__), ("pyspaces", pyspaces.__all__)],
)
def test_pydoc_shows_every_documented_name(module: str, names: list[str]) -> None:
    shown = outcome(
        [sys.executable, "-m", "pydoc", module],
        env=os.environ | {"PAGER": "cat", "MANPAGER": "cat"},
        check=True,
    ).stdout
    words = set(shown.replace("(", " ").split())
    assert set(names) - {"__version__"} <= words  # it has a heading VERSION for that
