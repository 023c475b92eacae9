"""The documentation says what the code does: options, commands, exit status, hints, README.

Its examples are run by test_doc_examples.py.
"""

from __future__ import annotations

import inspect
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import click
import pytest
from conftest import MUST_RUN, outcome

from pyspaces import cli, errors, hints, settings, status
from pyspaces.commands.run import run as run_command
from pyspaces.features.existing import keeping
from pyspaces.features.ids import accounts, newidmap
from pyspaces.hints import confinement, creation, ids, joining, mounts, network

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
REFERENCE = ROOT / "docs" / "reference"
HINTS_PAGE = REFERENCE / "hints.md"
RUN_PAGE = ROOT / "man" / "pyspaces-run.1"
PAGE = ROOT / "man" / "pyspaces.1"

# Each rule of diagnosis, and recognisable pieces of the hints that it gives.
HINTS = {
    "needs_user_namespace": ("a new user namespace around it: add --user",),
    "user_namespaces_disabled": ("so only root can create user namespaces",),
    "own_ids_unmapped": ("so it cannot create another one",),
    "limit_reached": ("so none can be created", "too many namespaces for this user"),
    "not_in_kernel": ("this kernel does not support",),
    "process_limit": ("a limit on processes is reached",),
    "descriptor_limit": ("this process cannot open more files",),
    "setgroups_rule": (
        "setgroups(2) is denied in this user namespace",
        "setgroups(2) is denied in the new user namespace",
    ),
    "ids_need_capability": ("a process cannot change its ids: add --user",),
    "lacks_capability": (
        "capabilities cannot be dropped permanently: add --user",
        "to pass on to the command: add --user",
    ),
    "not_to_be_executed": ("only files beneath --allow-exec be executed",),
    "needs_no_new_privs": ("is confined by CAP_SYS_ADMIN only: omit",),
    "hard_limit": ("outside of every user namespace may raise the hard",),
    "priority": (
        "may set a nice value below",
        "may use the class realtime",
    ),
    "oom_score": ("outside of every user namespace may lower it",),
    "nested_users": ("add --no-nested-users, which prevents it",),
    "read_only_proc": ("/proc is mounted read-only here",),
    "read_only_sysctls": ("/proc/sys is mounted read-only here",),
    "map_rule": (
        "a user can map only its own id",
        "setgroups must be denied",
        "not all of these outside ids exist in this user namespace",
        "mapping outside user 0 requires CAP_SETFCAP",
    ),
    "masked_proc": ("parts of /proc are covered here", "no procfs is mounted here"),
    "no_proc_directory": ("the new root has no directory proc",),
    "not_dumpable": ("this process is not dumpable",),
    "no_permission": ("to allow it: chmod +x",),
    "missing_source": ("to ignore a missing source, use the option with -try",),
    "target_of_host": ("create it first, or add --create-targets",),
    "tilde": ("a shell leaves ~ as it is",),
    "hidden_outside": ("is not shown inside: add",),
    "namespace_of_its_own": ("procfs can be mounted only for a new pid namespace",),
    "clock_range": ("a clock cannot be negative or exceed 146 years",),
    "foreign_process": ("only that user or root may enter it",),
    "foreign_namespace": (
        "its owner is a user namespace outside this process's own",
        "only that user or root may join it",
    ),
    "pid_namespace_over": ("process 1 of the pid namespace has ended",),
    "pid_namespace_above": ("a process can join only pid namespaces that are nested in its own",),
    "map_below_joined": ("nested in the one that owns the joined namespaces",),
    "keep_on_shared_mount": ("the file of a mount namespace must be on a private mount",),
    "low_port": ("a user may listen only on ports from",),
    "no_file_of_hosts": ("the root has no file",),
    "no_such_address": ("no interface of this host has the address",),
    "apparmor": ("this interpreter has no AppArmor profile",),
    "seccomp": ("a seccomp filter refuses",),
    "chrooted": ("this process is in a chroot",),
    "no_procfs": ("/proc is not mounted here",),
    "pid_namespace_ended": (
        "process 1 of the pid namespace for this process's children has ended",
    ),
}

# The same of the modules whose errors bring their hint with them.
HELPER_HINTS = (
    *("not all of these outside ids are subordinate", "no subordinate ids are given"),
    "and so none to pass on",
    *("which is not installed", "no_new_privs is set on this process", "mounted with nosuid"),
    *("has lost its set-user-ID bit", "is not in the bounding set of this process"),
    "only root binds a namespace to a file here",
    *("newuidmap wants them equal", "this interpreter is not", "has no entry in the user"),
)

EXIT_CODES = {
    str(status.USAGE),
    str(status.TIMED_OUT),
    str(status.FAILED),
    str(status.CANNOT_EXECUTE),
    str(status.NOT_FOUND),
    f"{status.SIGNAL_BASE}+N",
}


def _section(heading: str, page: Path = README) -> str:
    """Return the text of a section of a page, its heading left out."""
    before, found, after = page.read_text().partition(f"\n## {heading}\n")
    assert found, f"{page.name} has no section {heading!r} behind {before[-40:]!r}"
    return after.partition("\n## ")[0]


def _block(mark: str, language: str) -> str:
    """Return the one code block of the README that follows the comment `mark`."""
    pattern = rf"^<!-- {re.escape(mark)} -->\n```{language}\n(.*?)^```$"
    blocks: list[str] = re.findall(pattern, README.read_text(), re.MULTILINE | re.DOTALL)
    assert len(blocks) == 1, mark
    return blocks[0]


def _page_section(page: Path, heading: str) -> str:
    before, found, after = page.read_text().partition(f"\n.Sh {heading}\n")
    assert found, f"{page.name} has no section {heading} behind {before[-40:]!r}"
    return after.partition("\n.Sh ")[0]


# Options: a set for each, of all the words that mean it and, of a toggle, its opposite.


def _options_of_click(command: click.Command) -> list[frozenset[str]]:
    context = click.Context(command, **command.context_settings)
    return [
        frozenset((*param.opts, *param.secondary_opts))
        for param in command.get_params(context)
        if isinstance(param, click.Option) and not param.hidden
    ]


def _options_of_page(page: Path) -> list[frozenset[str]]:
    """Return the options of the .It lines; mdoc writes -x as `Fl x`, and --xy as `Fl -xy`."""
    entries = re.findall(r"^\.It (Fl .*)$", page.read_text(), re.MULTILINE)
    found = [frozenset("-" + word for word in re.findall(r"Fl (\S+)", line)) for line in entries]
    assert len(found) == len(page.read_text().split("\n.It Fl ")) - 1
    return found


def _options_of_help(text: str) -> list[frozenset[str]]:
    """Return the options of --help: lines such as `  -M, --map-uid SPEC   user ids inside`."""
    entries = re.findall(r"^  (-\S.*?)(?:  +.*)?$", text, re.MULTILINE)
    word = r"(?<!\S)--?[a-zA-Z][\w-]*"
    return [frozenset(re.findall(word, entry)) for entry in entries]


def _help(*words: str) -> str:
    whole = "--help-all" if words[:1] in (("run",), ("enter",), ("check",)) else "--help"
    command = [sys.executable, "-m", "pyspaces", *words, whole]
    wide = os.environ | {"COLUMNS": "120"}
    return outcome(command, check=True, env=wide).stdout


def test_options_of_run_are_those_of_its_man_page() -> None:
    page = _options_of_page(RUN_PAGE)
    assert len(page) == len(set(page)), "an option stands there twice"
    assert set(page) == set(_options_of_click(run_command))


def test_options_of_run_are_those_of_its_help() -> None:
    shown = _options_of_help(_help("run"))
    assert len(shown) == len(set(shown)), "an option stands there twice"
    assert set(shown) == set(_options_of_click(run_command))


def test_no_word_means_two_options() -> None:
    words = [word for option in _options_of_page(RUN_PAGE) for word in option]
    assert len(words) == len(set(words))


def test_short_forms_come_first_in_the_man_page() -> None:
    for line in re.findall(r"^\.It Fl (.*)$", RUN_PAGE.read_text(), re.MULTILINE):
        words = re.findall(r"(?:^|Fl )(\S+)", line)
        assert words == sorted(words, key=lambda word: len(word) > 1), line


def test_options_of_run_stand_in_the_reference() -> None:
    section = _section("pyspaces run", REFERENCE / "options.md")
    rows = [line for line in section.splitlines() if line.startswith("| `")]
    cells = [re.split(r"(?<!\\)\|", row)[1] for row in rows]
    shown = {word for cell in cells for word in re.findall(r"(?<![\w-])--?[a-zA-Z][\w-]*", cell)}
    assert shown == {word for option in _options_of_click(run_command) for word in option}


def test_options_of_the_group_are_those_of_its_man_page() -> None:
    options = _options_of_click(cli.group)
    assert set(_options_of_page(PAGE)) == set(options)
    assert set(_options_of_help(_help())) == set(options)


def test_commands_are_those_of_the_man_page() -> None:
    described = re.findall(r"^\.It Cm (\S+)", _page_section(PAGE, "DESCRIPTION"), re.MULTILINE)
    synopsis = re.findall(r"^\.Cm (\S+)", _page_section(PAGE, "SYNOPSIS"), re.MULTILINE)
    assert described == list(cli.COMMANDS)
    assert synopsis == list(cli.COMMANDS)


def test_exit_status_of_the_reference() -> None:
    section = _section("Exit status", REFERENCE / "status.md")
    rows = re.findall(r"^\| (\S+) \|", section, re.MULTILINE)
    assert rows[:2] == ["status", "---"]
    assert len(rows) == len(set(rows))
    assert set(rows[2:]) == EXIT_CODES


def test_exit_status_of_the_man_page() -> None:
    rows = re.findall(r"^\.It (\S+)$", _page_section(RUN_PAGE, "EXIT STATUS"), re.MULTILINE)
    assert len(rows) == len(set(rows))
    assert set(rows) == EXIT_CODES


def test_man_pages_are_clean() -> None:
    if shutil.which("mandoc") is None:
        reason = "mandoc is not installed"
        pytest.fail(reason) if MUST_RUN else pytest.skip(reason)
    pages = sorted(str(page) for page in PAGE.parent.iterdir())
    done = outcome(["mandoc", "-T", "lint", "-W", "warning", *pages])
    assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr


def test_every_rule_of_diagnosis_is_listed_here() -> None:
    rules = hints.RULES
    assert {rule.__name__ for rule in rules} == set(HINTS)


def _hints_of_the_page() -> dict[str, str]:
    """Return the sections of the page on hints by their anchors, each as one line."""
    parts = re.split(r"^### (.+)$", HINTS_PAGE.read_text(), flags=re.MULTILINE)
    return {
        code: " ".join(text.split()) for code, text in zip(parts[1::2], parts[2::2], strict=True)
    }


@pytest.mark.parametrize("rule", HINTS)
def test_every_hint_has_its_section_in_the_reference(rule: str) -> None:
    modules = (confinement, creation, errors, ids, joining, mounts, network)
    source = "".join(map(inspect.getsource, modules))
    section = _hints_of_the_page()[rule.replace("_", "-")]
    for phrase in HINTS[rule]:
        assert phrase in source, "no hint says this any more"
        assert f'"{phrase}"' in section


def test_hints_about_helpers_stand_in_the_reference() -> None:
    sources = [Path(str(module.__file__)).read_text() for module in (newidmap, accounts, keeping)]
    sections = _hints_of_the_page()
    for phrase in HELPER_HINTS:
        assert any(phrase in source for source in sections.values())
        assert any(phrase in source for source in sources), "no hint says this any more"
    assert '"man/pyspaces-hints.7" = "share/man/man7/' in (ROOT / "pyproject.toml").read_text()
    # Their codes, which are written there; and there are no other sections.
    given = {code for code, _ in newidmap.RULES}
    given.update(*(re.findall(r'^ +"([a-z]+-[a-z-]+)",$', text, re.MULTILINE) for text in sources))
    assert given | {rule.replace("_", "-") for rule in HINTS} == set(sections)


# The README's commands, run as their text stands in a fresh checkout.


@pytest.fixture
def run_as_it_stands(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a block of the README in a copy of the tree, as on a machine that has only Python."""
    tree = tmp_path / "checkout"
    _copy_tree(tree)
    programs = tmp_path / "bin"
    programs.mkdir()
    # A script, not a link: an interpreter looks for its library from the link's directory.
    python = programs / "python3"
    base = getattr(sys, "_base_executable", sys.executable)
    python.write_text(f"#!/bin/sh\nexec '{base}' \"$@\"\n")
    python.chmod(0o755)

    def run(text: str, **variables: str) -> subprocess.CompletedProcess[str]:
        clean = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("PYTHON", "PYTEST_", "VIRTUAL_ENV"))
        }
        path = f"{programs}:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
        done = outcome(
            ["bash", "-ec", text],
            cwd=tree,
            env={**clean, "PATH": path, **variables},
            stdin=subprocess.DEVNULL,
            timeout=300,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done

    return run


def _copy_tree(target: Path) -> None:
    """Copy what a checkout of this state would hold; without git, all but what tools have made."""
    names = _names_of_git()
    if names is None:
        # fish leaves a FIFO, .notifier, where it has no directory of its own.
        made = shutil.ignore_patterns(
            *(".venv*", ".tox", ".nox", ".git", "__pycache__", ".*_cache"),
            *(".hypothesis", ".notifier"),
        )
        shutil.copytree(ROOT, target, ignore=made)
        return
    for name in names:
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)


def _names_of_git() -> list[str] | None:
    """Return the files that git tracks or would; None where there is no git, or no use of it."""
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        return None
    command = ["git", "-C", str(ROOT), "ls-files", "-coz", "--exclude-standard"]
    done = outcome(command)
    return done.stdout.rstrip("\0").split("\0") if done.returncode == 0 else None


def test_the_readme_marks_two_commands() -> None:
    text = README.read_text()
    assert re.findall(r"<!-- readme-command: (\w+) -->", text) == ["run", "test"]
    assert re.findall(r"readme-command: \w+ -->\n```(\w+)", text) == ["sh", "sh"]
    assert len(text.splitlines()) < 300


@pytest.mark.stress  # it downloads and installs
@pytest.mark.needs("userns", "pidns")
def test_the_first_command_of_the_readme_runs_in_new_namespaces(
    run_as_it_stands: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    done = run_as_it_stands(_block("readme-command: run", "sh"))
    assert done.stdout == "process 1, user 0\n"
    assert f"It prints `{done.stdout.strip()}`." in _section("Two commands to begin with")


@pytest.mark.stress
@pytest.mark.skipif(MUST_RUN, reason="CI runs the whole suite by this very command")
def test_the_second_command_of_the_readme_tests(
    run_as_it_stands: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    # pytest takes further arguments from here. A part of the suite is enough: this test is in it.
    done = run_as_it_stands(
        _block("readme-command: test", "sh"),
        PYTEST_ADDOPTS="tests/unit/test_idmap.py tests/unit/test_namespaces.py -q",
    )
    assert re.search(r"^\d+ passed", done.stdout, re.MULTILINE), done.stdout


def test_the_page_on_security_has_what_the_sandbox_stands_for() -> None:
    page = (PAGE.parent / "pyspaces-security.7").read_text()
    plan = settings.plan_from({"sandbox": True, "command": ["true"]})
    words = [*plan.namespaces, "map-current", "host-ro", "no-new-privs", "no-nested-users"]
    for text in (page.partition("stands for")[2].partition("prints it")[0], RUN_PAGE.read_text()):
        told = {word.lstrip("-") for word in re.findall(r"[\w-]+", text)}
        assert {*words, "new-session", "cap-drop", "seccomp"} <= told
    assert '"man/pyspaces-security.7" = "share/man/man7/' in (ROOT / "pyproject.toml").read_text()
