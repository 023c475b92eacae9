"""The architecture, held against the syntax trees of the modules.

Every module has a rank, and imports strictly lower ranks only. A new module is a new row here.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

import pyspaces

ROOT = Path(pyspaces.__file__).parent

RANKS = {
    "pyspaces": 0,
    "pyspaces.record": 0,
    "pyspaces.kernel": 0,
    "pyspaces.kernel.constants": 0,
    "pyspaces.kernel.libc": 0,
    "pyspaces.kernel.procfs": 0,
    "pyspaces.kernel.nsfs": 0,
    "pyspaces.kernel.netnsid": 0,
    "pyspaces.kernel.held": 0,
    "pyspaces.kernel.filtered": 0,
    "pyspaces.kernel.cgroupfs": 0,
    "pyspaces.kernel.mountapi": 0,
    "pyspaces.pattern": 0,
    "pyspaces.visible": 0,
    "pyspaces.errors": 1,
    "pyspaces.status": 1,
    "pyspaces.kernel.spawn": 1,
    "pyspaces.kernel.namespaces": 2,
    "pyspaces.launch.channel": 2,
    "pyspaces.features.ids.program": 2,
    "pyspaces.features.ids.accounts": 2,
    "pyspaces.features.ids.idmap": 3,
    "pyspaces.features.ids.newidmap": 3,
    "pyspaces.features.environment": 3,
    "pyspaces.features.existing.joining": 3,
    "pyspaces.mounts": 3,
    "pyspaces.mounts.proc": 3,
    "pyspaces.mounts.propagation": 3,
    "pyspaces.mounts.root": 3,
    "pyspaces.mounts.tree": 3,
    "pyspaces.mounts.classic": 3,
    "pyspaces.mounts.failing": 3,
    "pyspaces.mounts.guard": 3,
    "pyspaces.mounts.changes": 3,
    "pyspaces.mounts.operation": 3,
    "pyspaces.mounts.binds": 3,
    "pyspaces.mounts.places": 3,
    "pyspaces.mounts.devices": 3,
    "pyspaces.mounts.overlays": 3,
    "pyspaces.mounts.sets": 3,
    "pyspaces.mounts.operations": 3,
    "pyspaces.mounts.words": 3,
    "pyspaces.features.clocks": 3,
    "pyspaces.features.ids.capabilities": 3,
    "pyspaces.features.hostname": 3,
    "pyspaces.features.loopback": 3,
    "pyspaces.features.life": 3,
    "pyspaces.launch.signals": 3,
    "pyspaces.features.terminal": 3,
    "pyspaces.hints": 3,
    "pyspaces.hints.joining": 3,
    "pyspaces.features.existing.values": 3,
    "pyspaces.hints.mounts": 3,
    "pyspaces.features.existing.names": 3,
    "pyspaces.features.existing.registry": 3,
    "pyspaces.features.existing.keeping": 3,
    "pyspaces.plan": 4,
    "pyspaces.settings": 5,
    "pyspaces.settings.shape": 5,
    "pyspaces.settings.mounts": 5,
    "pyspaces.settings.joining": 5,
    "pyspaces.settings.table": 5,
    "pyspaces.settings.life": 5,
    "pyspaces.settings.fitting": 5,
    "pyspaces.settings.reading": 5,
    "pyspaces.launch.outer": 6,
    "pyspaces.launch.outer.prepare": 6,
    "pyspaces.launch.outer.ending": 6,
    "pyspaces.launch.outer.watch": 6,
    "pyspaces.launch.outer.process_1": 6,
    "pyspaces.launch.outer.stops": 6,
    "pyspaces.launch.outer.link": 6,
    "pyspaces.launch.outer.job": 6,
    "pyspaces.launch.outer.sentinel": 6,
    "pyspaces.launch.outer.relay": 6,
    "pyspaces.launch.outer.keys": 6,
    "pyspaces.launch.outer.readers": 6,
    "pyspaces.launch.records.journal": 6,
    "pyspaces.launch.records.files": 6,
    "pyspaces.launch.records.difference": 6,
    "pyspaces.launch.records.report": 6,
    "pyspaces.launch.outer.helper": 6,
    "pyspaces.launch.init": 6,
    "pyspaces.launch.services": 6,
    "pyspaces.launch.inner": 6,
    "pyspaces.launch.inner.seal": 6,
    "pyspaces.launch.inner.identity": 6,
    "pyspaces.launch.inner.steps": 6,
    "pyspaces.launch.inner.join": 6,
    "pyspaces.launch.inner.directory": 6,
    "pyspaces.launch.inner.hold": 6,
    "pyspaces.launch.inner.execute": 6,
    "pyspaces.launch.inner.leading": 6,
    "pyspaces.launch": 7,
    "pyspaces.library.popen": 8,
    "pyspaces.cloning": 8,
    "pyspaces.library.function": 8,
    "pyspaces.library.keywords": 8,
    "pyspaces.library.space": 8,
    "pyspaces.library.container": 8,
    "pyspaces.library.visit": 8,
    "pyspaces.host.targets": 8,
    "pyspaces.host.listing": 8,
    "pyspaces.host.filtering": 8,
    "pyspaces.host.check": 8,
    "pyspaces.host.check.row": 8,
    "pyspaces.host.check.trial": 8,
    "pyspaces.host.check.where": 8,
    "pyspaces.host.check.probes": 8,
    "pyspaces.host.check.rules": 8,
    "pyspaces.plan.equivalent": 8,
    "pyspaces.plan.file": 8,
    "pyspaces.launch.preview": 8,
    "pyspaces.commands": 9,
    "pyspaces.commands.help": 9,
    "pyspaces.commands.say": 9,
    "pyspaces.commands.optional": 9,
    "pyspaces.commands.options": 9,
    "pyspaces.commands.run": 9,
    "pyspaces.commands.check": 9,
    "pyspaces.commands.table": 9,
    "pyspaces.commands.targets": 9,
    "pyspaces.commands.enter": 9,
    "pyspaces.commands.stop": 9,
    "pyspaces.commands.drop": 9,
    "pyspaces.commands.list": 9,
    "pyspaces.commands.completion": 9,
    "pyspaces.cli": 10,
    "pyspaces.__main__": 10,
}

# Imports within one rank. Each leads one way only, so that no circle can arise.
SAME_RANK = {
    # What a finding is, how a thing is tried, what is tried and what is read; the door has all.
    ("pyspaces.host.check.trial", "pyspaces.host.check.row"),
    # What a name may be.
    ("pyspaces.features.existing.registry", "pyspaces.features.existing.names"),
    ("pyspaces.host.check.probes", "pyspaces.host.check.row"),
    ("pyspaces.host.check.probes", "pyspaces.host.check.trial"),
    ("pyspaces.host.check.rules", "pyspaces.host.check.row"),
    ("pyspaces.host.check", "pyspaces.host.check.row"),
    ("pyspaces.host.check", "pyspaces.host.check.trial"),
    ("pyspaces.host.check", "pyspaces.host.check.where"),
    ("pyspaces.host.check", "pyspaces.host.check.probes"),
    ("pyspaces.host.check", "pyspaces.host.check.rules"),
    # The options mean the same plan.
    ("pyspaces.commands.check", "pyspaces.commands.run"),
    ("pyspaces.commands.check", "pyspaces.commands.options"),
    ("pyspaces.commands.check", "pyspaces.commands.help"),
    # What they print is a result, too.
    ("pyspaces.commands.help", "pyspaces.commands.say"),
    ("pyspaces.commands.completion", "pyspaces.commands.say"),
    ("pyspaces.commands.check", "pyspaces.commands.say"),
    ("pyspaces.commands.check", "pyspaces.commands.table"),
    # Within the kernel's room: numbers, then calls, then the files that are read through them.
    ("pyspaces.kernel.libc", "pyspaces.kernel.constants"),
    ("pyspaces.kernel.procfs", "pyspaces.kernel.libc"),
    ("pyspaces.kernel.nsfs", "pyspaces.kernel.libc"),
    ("pyspaces.kernel.nsfs", "pyspaces.kernel.constants"),
    ("pyspaces.kernel.netnsid", "pyspaces.kernel.constants"),
    *(
        ("pyspaces.kernel.held", f"pyspaces.kernel.{name}")
        for name in ("constants", "libc", "nsfs")
    ),
    ("pyspaces.kernel.filtered", "pyspaces.kernel.constants"),
    ("pyspaces.kernel.filtered", "pyspaces.kernel.libc"),
    ("pyspaces.kernel.cgroupfs", "pyspaces.kernel.libc"),
    ("pyspaces.kernel.cgroupfs", "pyspaces.kernel.procfs"),
    ("pyspaces.kernel.mountapi", "pyspaces.kernel.constants"),
    ("pyspaces.kernel.mountapi", "pyspaces.kernel.libc"),
    # The rules, and those among them that are about mounts.
    ("pyspaces.hints", "pyspaces.hints.mounts"),
    # A fresh procfs must not propagate: one room, two files.
    ("pyspaces.mounts.proc", "pyspaces.mounts.propagation"),
    # What is not as a plan has it by itself: told by the one, translated by the other.
    ("pyspaces.launch.preview", "pyspaces.plan.equivalent"),
    # Operations: what they are applied to, what all are, their kinds; then all of them in one
    # place, the sets made of them, and how they are written.
    *(
        (f"pyspaces.mounts.{kind}", f"pyspaces.mounts.{base}")
        for kind in ("binds", "places", "devices", "overlays")
        for base in ("tree", "operation")
        if (kind, base) != ("overlays", "tree")
    ),
    *(
        (f"pyspaces.mounts.{whole}", f"pyspaces.mounts.{kind}")
        for whole in ("operations", "sets", "words")
        for kind in ("binds", "places", "devices", "overlays")
    ),
    ("pyspaces.mounts.operations", "pyspaces.mounts.tree"),
    ("pyspaces.mounts.tree", "pyspaces.mounts.classic"),
    ("pyspaces.mounts.tree", "pyspaces.mounts.failing"),
    ("pyspaces.mounts.guard", "pyspaces.mounts.tree"),
    ("pyspaces.mounts.places", "pyspaces.mounts.classic"),
    ("pyspaces.mounts.operations", "pyspaces.mounts.operation"),
    ("pyspaces.mounts.words", "pyspaces.mounts.operation"),
    ("pyspaces.mounts.words", "pyspaces.mounts.sets"),
    # An error carries an exit status, of the table in status.
    ("pyspaces.errors", "pyspaces.status"),
    # The keywords of a Container, read for all that is made with them.
    ("pyspaces.library.container", "pyspaces.library.space"),
    # What a row is, the rows, then what reads a mapping by them; the room's door offers all.
    ("pyspaces.settings.mounts", "pyspaces.settings.shape"),
    ("pyspaces.settings.table", "pyspaces.settings.shape"),
    ("pyspaces.settings.table", "pyspaces.settings.mounts"),
    ("pyspaces.settings.table", "pyspaces.settings.joining"),
    ("pyspaces.settings.joining", "pyspaces.settings.shape"),
    ("pyspaces.settings.fitting", "pyspaces.settings.shape"),
    ("pyspaces.settings.reading", "pyspaces.settings.fitting"),
    ("pyspaces.settings.reading", "pyspaces.settings.joining"),
    ("pyspaces.settings.reading", "pyspaces.settings.shape"),
    ("pyspaces.settings", "pyspaces.settings.shape"),
    # Subordinate ranges are asked of getsubids(1).
    ("pyspaces.features.ids.accounts", "pyspaces.features.ids.program"),
    ("pyspaces.settings", "pyspaces.settings.table"),
    ("pyspaces.settings", "pyspaces.settings.reading"),
    ("pyspaces.settings", "pyspaces.settings.life"),
    ("pyspaces.settings.reading", "pyspaces.settings.table"),
    ("pyspaces.settings.reading", "pyspaces.settings.life"),
    ("pyspaces.settings.table", "pyspaces.settings.life"),
    ("pyspaces.settings.life", "pyspaces.settings.shape"),
    # The parent's room: the launch, and then the watch over it; both end a child.
    ("pyspaces.launch.outer", "pyspaces.launch.outer.prepare"),
    ("pyspaces.launch.outer", "pyspaces.launch.outer.ending"),
    ("pyspaces.launch.outer", "pyspaces.launch.outer.watch"),
    ("pyspaces.launch.outer.prepare", "pyspaces.launch.outer.ending"),
    ("pyspaces.launch.outer.watch", "pyspaces.launch.outer.ending"),
    ("pyspaces.launch.outer.watch", "pyspaces.launch.outer.process_1"),
    ("pyspaces.launch.outer.watch", "pyspaces.launch.outer.stops"),
    ("pyspaces.launch.outer.relay", "pyspaces.launch.outer.readers"),
    ("pyspaces.launch.outer.relay", "pyspaces.launch.outer.keys"),
    ("pyspaces.launch.outer.helper", "pyspaces.launch.outer.prepare"),
    # Both have a process of ours beside them that sees what the launcher cannot.
    *(
        (f"pyspaces.launch.outer.{name}", "pyspaces.launch.outer.sentinel")
        for name in ("job", "relay")
    ),
    # Process 1 speaks what the launcher's end of the pipe reads.
    ("pyspaces.launch.init", "pyspaces.launch.outer.link"),
    # What a launch takes along, each part loaded when it is used.
    ("pyspaces.launch.services", "pyspaces.launch.outer"),
    ("pyspaces.launch.services", "pyspaces.launch.records.journal"),
    ("pyspaces.launch.services", "pyspaces.launch.records.difference"),
    *(
        (f"pyspaces.launch.outer.{name}", "pyspaces.launch.records.files")
        for name in ("journal", "difference")
    ),
    ("pyspaces.launch.services", "pyspaces.launch.records.report"),
    ("pyspaces.launch.services", "pyspaces.launch.outer.relay"),
    ("pyspaces.launch.services", "pyspaces.launch.outer.link"),
    ("pyspaces.launch.services", "pyspaces.launch.outer.job"),
    ("pyspaces.launch.services", "pyspaces.launch.init"),
    ("pyspaces.launch.services", "pyspaces.launch.inner.join"),
    # Processes that join a user namespace, or create one, give up their groups before.
    ("pyspaces.launch.services", "pyspaces.launch.inner.identity"),
    ("pyspaces.launch.records.difference", "pyspaces.launch.inner.identity"),
    ("pyspaces.launch.services", "pyspaces.launch.inner.leading"),
    # The child's room: its door runs what its files have.
    ("pyspaces.launch.inner", "pyspaces.launch.inner.seal"),
    ("pyspaces.launch.inner.join", "pyspaces.launch.inner.seal"),
    ("pyspaces.launch.inner.join", "pyspaces.launch.inner.identity"),
    ("pyspaces.launch.inner", "pyspaces.launch.inner.identity"),
    ("pyspaces.launch.inner.steps", "pyspaces.launch.inner.identity"),
    ("pyspaces.launch.inner.steps", "pyspaces.launch.inner.directory"),
    ("pyspaces.launch.inner", "pyspaces.launch.inner.steps"),
    ("pyspaces.launch.inner", "pyspaces.launch.inner.execute"),
    # What a Popen over clone and one over launch share.
    ("pyspaces.cloning", "pyspaces.library.popen"),
    ("pyspaces.library.function", "pyspaces.library.popen"),
    ("pyspaces.library.container", "pyspaces.library.function"),
    ("pyspaces.library.visit", "pyspaces.library.function"),
    # Commands are made of options, one of which is --help.
    ("pyspaces.commands.run", "pyspaces.commands.options"),
    ("pyspaces.commands.run", "pyspaces.commands.help"),
    ("pyspaces.commands.run", "pyspaces.commands.say"),
    ("pyspaces.commands.completion", "pyspaces.commands.help"),
    ("pyspaces.commands.list", "pyspaces.commands.help"),
    ("pyspaces.commands.list", "pyspaces.commands.optional"),
    ("pyspaces.commands.options", "pyspaces.commands.optional"),
    ("pyspaces.commands.list", "pyspaces.commands.say"),
    ("pyspaces.commands.list", "pyspaces.commands.table"),
    ("pyspaces.commands.list", "pyspaces.commands.targets"),
    ("pyspaces.commands.enter", "pyspaces.commands.help"),
    ("pyspaces.commands.enter", "pyspaces.commands.options"),
    ("pyspaces.commands.enter", "pyspaces.commands.targets"),
    # A command in old namespaces is waited for as one in new ones is.
    ("pyspaces.commands.enter", "pyspaces.commands.run"),
    ("pyspaces.commands.stop", "pyspaces.commands.help"),
    ("pyspaces.commands.stop", "pyspaces.commands.targets"),
    ("pyspaces.commands.drop", "pyspaces.commands.help"),
    # The entry point has nothing but a signal to see to before it hands over to the group.
    ("pyspaces.__main__", "pyspaces.cli"),
}

# Imported by the package when a name of the library is asked for; the command line asks for none.
LAZY = {("pyspaces", "importlib")}

# What the launch path may load of the standard library; the rest costs more than the launch.
LAUNCH_PATH_RANK = 7
# By rank they would be on it, and no launch loads them: test_imports holds what one does load.
OFF_THE_LAUNCH_PATH = {"pyspaces.kernel.netnsid"}
LAUNCH_PATH_LIBRARY = {
    *("os", "sys", "errno", "time", "select", "fcntl", "stat", "struct", "termios", "ctypes"),
    # _thread is built in and costs nothing; `threading` would.
    # warnings: in spawn alone, and only where there are threads.
    *("signal", "__future__", "_thread", "warnings"),
    # json, _socket, resource: in what is loaded where a status record or a difference is asked for.
    *("json", "_socket", "resource"),
    # pwd, grp: in accounts alone, which is loaded where a setting names a user.
    *("pwd", "grp"),
}


class Import(NamedTuple):
    """An import that happens at run time: who, what, and in which line."""

    importer: str
    imported: str
    line: int


class Use(NamedTuple):
    """A use of a name: in which module, inside which functions, and which name."""

    module: str
    functions: tuple[str, ...]
    name: str
    line: int


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


PATHS = {name_of(path): path for path in sorted(ROOT.rglob("*.py"))}


@cache
def tree_of(module: str) -> ast.Module:
    return ast.parse(PATHS[module].read_text(encoding="utf-8"))


def is_for_type_checkers(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.If)
        and isinstance(node.test, ast.Name | ast.Attribute)
        and ast.unparse(node.test).rpartition(".")[2] == "TYPE_CHECKING"
    )


def running(node: ast.AST) -> Iterator[ast.AST]:
    """Walk what runs: everything but the bodies of `if TYPE_CHECKING:`."""
    yield node
    children: Iterator[ast.AST] = ast.iter_child_nodes(node)
    if is_for_type_checkers(node):
        assert isinstance(node, ast.If)
        children = iter(node.orelse)
    for child in children:
        yield from running(child)


def imports_of(module: str, tree: ast.AST | None = None) -> list[Import]:
    """Return the run-time imports of `module`; of ours, the module and not the name in it."""
    found: list[Import] = []
    for node in running(tree_of(module) if tree is None else tree):
        if isinstance(node, ast.Import):
            found.extend(Import(module, alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}:{node.lineno}: a relative import"
            assert node.module is not None
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                name = whole if whole in PATHS else node.module
                found.append(Import(module, name, node.lineno))
    return found


def is_ours(name: str) -> bool:
    return name.partition(".")[0] == "pyspaces"


def room_of(module: str) -> str:
    return module.removeprefix("pyspaces").removeprefix(".").partition(".")[0]


ALL_IMPORTS = [row for module in PATHS for row in imports_of(module)]
OUR_IMPORTS = [row for row in ALL_IMPORTS if is_ours(row.imported)]


def told(rows: list[Import]) -> list[str]:
    return [f"{row.importer}:{row.line} imports {row.imported}" for row in rows]


def test_every_module_has_a_rank_and_every_rank_a_module() -> None:
    assert set(PATHS) == set(RANKS)


def test_modules_import_lower_ranks_only() -> None:
    wrong = [
        row
        for row in OUR_IMPORTS
        if RANKS[row.imported] >= RANKS[row.importer]
        and (row.importer, row.imported) not in SAME_RANK
    ]
    assert told(wrong) == []


def test_imports_within_a_rank_are_few_and_lead_one_way() -> None:
    assert all(RANKS[one] == RANKS[other] for one, other in SAME_RANK)
    assert not {(other, one) for one, other in SAME_RANK} & SAME_RANK
    used = {(row.importer, row.imported) for row in OUR_IMPORTS}
    assert used >= SAME_RANK, "an exception that nothing needs any more"


def test_nothing_is_imported_by_a_name_made_at_run_time() -> None:
    """But for two tables, of the commands and of the public names."""
    for module in PATHS:
        names = {row.name for row in uses_of(module)}
        assert not {"__import__", "exec", "eval", "exec_module"} & names, module
        assert "import_module" not in names or module in {"pyspaces.cli", "pyspaces"}


@pytest.mark.parametrize(
    ("module", "allowed"),
    [
        ("pyspaces.record", set()),
        ("pyspaces.kernel.constants", set()),
        ("pyspaces.status", {"pyspaces.record"}),
        ("pyspaces.visible", set()),
        (
            "pyspaces.errors",
            {"pyspaces.kernel.libc", "pyspaces.record", "pyspaces.status", "pyspaces.visible"},
        ),
    ],
)
def test_what_the_lowest_may_know(module: str, allowed: set[str]) -> None:
    ours = {row.imported for row in OUR_IMPORTS if row.importer == module}
    assert ours <= allowed


def test_the_record_imports_nothing_at_all() -> None:
    assert {row.imported for row in imports_of("pyspaces.record")} == {"__future__"}


def test_the_kernels_room_knows_nobody_else() -> None:
    rows = [row for row in OUR_IMPORTS if room_of(row.importer) == "kernel"]
    assert rows
    assert all(room_of(row.imported) == "kernel" for row in rows)


def test_process_creation_knows_the_kernel_and_records_only() -> None:
    rows = [row for row in OUR_IMPORTS if row.importer == "pyspaces.kernel.spawn"]
    assert {room_of(row.imported) for row in rows} == {"kernel", "record"}


def test_commands_know_neither_the_kernel_nor_the_two_sides() -> None:
    rows = [row for row in OUR_IMPORTS if room_of(row.importer) == "commands"]
    assert rows
    wrong = [row for row in rows if room_of(row.imported) in {"kernel", "inner", "outer", "spawn"}]
    assert told(wrong) == []


def test_features_do_not_know_each_other() -> None:
    """Rooms of rank 3; two modules of mounts would be one room."""
    features = {module for module, rank in RANKS.items() if rank == 3}
    wrong = [
        row
        for row in OUR_IMPORTS
        if row.importer in features
        and row.imported in features
        and room_of(row.importer) != room_of(row.imported)
    ]
    assert told(wrong) == []


def test_the_launch_path_keeps_to_its_budget() -> None:
    wrong = [
        row
        for row in ALL_IMPORTS
        if RANKS[row.importer] <= LAUNCH_PATH_RANK
        and row.importer not in OFF_THE_LAUNCH_PATH
        and not is_ours(row.imported)
        and (row.importer, row.imported) not in LAZY
        and row.imported.partition(".")[0] not in LAUNCH_PATH_LIBRARY
    ]
    assert told(wrong) == []


def importers_of(name: str) -> set[str]:
    return {row.importer for row in ALL_IMPORTS if row.imported.partition(".")[0] == name}


def test_json_is_for_what_is_told_at_the_end() -> None:
    importers = importers_of("json")
    assert {name for name in importers if RANKS[name] <= LAUNCH_PATH_RANK} == {
        *("pyspaces.launch.records.journal", "pyspaces.launch.records.difference")
    }


def test_one_door_to_ctypes() -> None:
    assert importers_of("ctypes") == {"pyspaces.kernel.libc"}


def test_who_may_know_signals() -> None:
    assert importers_of("signal") == {
        *("pyspaces.launch.signals", "pyspaces.status", "pyspaces.__main__"),
        "pyspaces.features.ids.program",  # in a process of its own: SIGCHLD
    }


def test_only_the_edge_knows_click() -> None:
    importers = importers_of("click")
    assert importers
    assert all(RANKS[module] >= 9 for module in importers)


def uses_of(module: str) -> list[Use]:
    """Return every use of a name or an attribute in `module`, with the functions around it."""
    found: list[Use] = []

    def walk(node: ast.AST, functions: tuple[str, ...]) -> None:
        if is_for_type_checkers(node):
            return
        if isinstance(node, ast.Name):
            found.append(Use(module, functions, node.id, node.lineno))
        elif isinstance(node, ast.Attribute):
            found.append(Use(module, functions, node.attr, node.lineno))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            functions = (*functions, node.name)
        for child in ast.iter_child_nodes(node):
            walk(child, functions)

    walk(tree_of(module), ())
    return found


ALL_USES = [use for module in PATHS for use in uses_of(module)]


def test_one_module_creates_processes() -> None:
    creating = {"fork", "forkpty", "clone", "clone3", "posix_spawn", "posix_spawnp", "before_fork"}
    users = {use.module for use in ALL_USES if use.name in creating}
    assert users - {"pyspaces.kernel.libc"} == {"pyspaces.kernel.spawn"}


def test_libc_defines_these_calls_and_uses_none() -> None:
    for use in ALL_USES:
        if use.module == "pyspaces.kernel.libc":
            assert use.name not in {"clone3", "clone", "fork"}, f"line {use.line}"


def test_the_child_does_not_print_or_log() -> None:
    assert not importers_of("logging")
    assert not importers_of("subprocess")
    names = {use.name for use in ALL_USES if room_of(use.module) == "inner"}
    assert not {"print", "logging", "subprocess", "stdout", "stderr", "warn"} & names


# The seams: here a function of one side is handed over, not called. spawn.spawn() runs it.
HANDED_OVER = {
    ("pyspaces.launch", "start_inner"),
    # What the processes beside the launcher do, handed to the fork.
    *(("pyspaces.launch.outer.sentinel", f"be_{name}_inner") for name in ("sentinel", "guard")),
    *(("pyspaces.launch.services", name) for name in ("attach_inner", "keep_inner", "guard_inner")),
}


def side_errors(suffix: str, room: str) -> list[str]:
    """Return the uses of `*suffix` outside `room` and outside functions of that side."""
    return [
        f"{use.module}:{use.line} uses {use.name}"
        for use in ALL_USES
        if use.name.endswith(suffix)
        and room_of(use.module) != room
        and not any(function.endswith(suffix) for function in use.functions)
        and (use.module, use.name) not in HANDED_OVER
    ]


def test_functions_of_the_child_are_called_by_the_child() -> None:
    assert side_errors("_inner", "inner") == []


def test_functions_of_the_parent_are_called_by_the_parent() -> None:
    assert side_errors("_outer", "outer") == []


def test_what_is_handed_over_is_not_called() -> None:
    for module, name in HANDED_OVER:
        called = [
            node.lineno
            for node in ast.walk(tree_of(module))
            if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] == name
        ]
        assert called == [], f"{module} calls {name}"


def test_features_say_on_which_side_their_functions_run() -> None:
    """Whatever changes a process from within a feature says so in its name."""
    changing = {"unshare", "setns", "mount", "sethostname", "setdomainname", "write_once"}
    features = {module for module, rank in RANKS.items() if rank == 3}
    for use in ALL_USES:
        if use.module in features and use.name in changing and use.functions:
            assert any(
                part.removeprefix("_").endswith(("_inner", "_outer")) or part == "_write_setgroups"
                for part in use.functions
            ), f"{use.module}:{use.line}: {use.name} in {use.functions}"


# --- that these tests can fail ---------------------------------------------------------------


def test_imports_for_type_checkers_do_not_count_and_others_do() -> None:
    tree = ast.parse(
        "TYPE_CHECKING = False\n"
        "if TYPE_CHECKING:\n"
        "    import typing\n"
        "else:\n"
        "    import one\n"
        "def f():\n"
        "    from pyspaces import cli, __version__\n"
        "    import two.three as four\n"
    )
    found = [row.imported for row in imports_of("x", tree)]
    assert found == ["one", "pyspaces.cli", "pyspaces", "two.three"]
