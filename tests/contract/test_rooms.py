"""The architecture, held against the syntax trees of the modules.

Every room imports only from the rooms beneath it. A new module in a room needs no row here.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

import pyspaces
from pyspaces.launch.inner.steps import STEPS, step_of
from pyspaces.launch.loading import ROWS
from pyspaces.plan.plan import PARTS

ROOT = Path(pyspaces.__file__).parent

# The files of the doorstep that are no room: words that every room uses, and what others import
# or run.
WORDS = {
    "record",
    "record_data",
    "pattern",
    "visible",
    "status",
    "errors",
    "feature",
    "recent",
    "sizes",
}
DOORSTEP = {"", "__main__", "anyio", "cli", "cloning", "dask", "finding"}

# Each room, and the rooms from which it may import; the words are everybody's.
ROOMS = {
    "kernel": set[str](),
    "features": {"kernel"},
    "mounts": {"kernel"},
    "plan": {"kernel", "features", "mounts"},
    "settings": {"kernel", "features", "mounts", "plan"},
    "hints": {"kernel", "features"},
    "launch": {"kernel", "features", "mounts", "plan", "hints"},
    "library": {"kernel", "features", "mounts", "plan", "settings", "launch"},
    "host": {"kernel", "features", "mounts", "plan", "settings", "hints", "launch"},
    # "": the package itself, for its version. finding: to load a launch's modules at once.
    "commands": {"", "finding", "features", "plan", "settings", "launch", "library", "host"},
}
# The modules that create processes: by clone(2), by fork(2), and by posix_spawn(3).
CREATING = [f"pyspaces.kernel.{name}" for name in ("spawn", "through_fork", "executing")]
# The names of the namespaces are everybody's words too.
EVERYBODYS = {"pyspaces.kernel.namespaces"}
# What the words may import: nearly nothing.
WORDS_KNOW = {
    "pyspaces.record": {"pyspaces.record_data"},
    "pyspaces.record_data": {"pyspaces.record"},
    "pyspaces.pattern": set[str](),
    "pyspaces.visible": {"pyspaces.errors"},
    "pyspaces.status": {"pyspaces.record"},
    "pyspaces.feature": {"pyspaces.record"},
    "pyspaces.recent": set[str](),
    "pyspaces.sizes": {"pyspaces.feature"},
    "pyspaces.errors": {
        "pyspaces.status",
        "pyspaces.kernel.libc",
        "pyspaces.record",
    },
}

# Imported by the package when a name of the library is asked for; the command line asks for none.
LAZY = {("pyspaces", "importlib")}

# What a launch from the command line may load of the standard library; the rest costs more than
# the launch.
LAUNCH_PATH = {"kernel", "features", "mounts", "plan", "settings", "hints", "launch", *WORDS, ""}
# In these rooms, and loaded by no launch: test_imports holds what one does load.
OFF_THE_LAUNCH_PATH = {
    *("pyspaces.kernel.held", "pyspaces.kernel.netnsid", "pyspaces.plan.file"),
    "pyspaces.launch.preview",
    "pyspaces.features.confinement.profile",
    "pyspaces.settings.bundle.config",
    *(f"pyspaces.settings.profiles.{name}" for name in ("files", "nearest")),
    *(
        f"pyspaces.launch.server.{name}"
        for name in ("choice", "client", "process", "serving", "wire")
    ),
}
LAUNCH_PATH_LIBRARY = {
    *("os", "sys", "errno", "time", "select", "fcntl", "stat", "struct", "termios", "_ctypes"),
    "_struct",  # without the file of `struct`
    # _thread is built in and costs nothing; `threading` would.
    # warnings: in through_fork alone, and only where there are threads.
    *("_signal", "__future__", "_thread", "warnings"),
    # json, _socket: in what is loaded where a status record or a difference is asked for.
    *("json", "_socket"),
    # resource, gc: in the comparison, which limits itself, and in helpers of the network.
    *("resource", "gc"),
    # array: in accepting alone, which is loaded for sockets that listen.
    "array",
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
    left = [node]
    while left:
        yield (node := left.pop())
        children: Iterable[ast.AST] = ast.iter_child_nodes(node)
        if is_for_type_checkers(node):
            assert isinstance(node, ast.If)
            children = node.orelse
        left += reversed([*children])


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
    """Return the room that a module is in, or its own name on the doorstep; "" for the package."""
    return module.removeprefix("pyspaces").removeprefix(".").partition(".")[0]


def named_in_tables() -> list[Import]:
    """Return what three tables name by texts, to be loaded once a plan asks for it."""
    found = []
    for module, before in TABLES.items():
        for node in ast.walk(tree_of(module)):
            if not (isinstance(node, ast.Constant) and isinstance(node.value, str)):
                continue
            found += [
                Import(module, name, node.lineno)
                for name in (node.value, before + node.value)
                if "." in node.value and name in PATHS
            ]
    return found


# The parts of a plan, the steps of the child, and the services of a launch.
TABLES = {
    "pyspaces.plan.plan": "pyspaces.",
    "pyspaces.launch.inner.steps": "",
    "pyspaces.launch.loading": "pyspaces.launch.",
}
ALL_IMPORTS = [*(row for module in PATHS for row in imports_of(module)), *named_in_tables()]
OUR_IMPORTS = [row for row in ALL_IMPORTS if is_ours(row.imported)]


def told(rows: list[Import]) -> list[str]:
    return [f"{row.importer}:{row.line} imports {row.imported}" for row in rows]


def test_every_module_is_in_a_room_or_on_the_doorstep() -> None:
    assert {room_of(module) for module in PATHS} == {*ROOMS, *WORDS, *DOORSTEP}
    files = {path.stem for path in ROOT.glob("*.py")}
    assert files == {*WORDS, *DOORSTEP, "__init__"} - {""}


def test_rooms_import_only_from_those_beneath() -> None:
    wrong = [
        row
        for row in OUR_IMPORTS
        if (room := room_of(row.importer)) in ROOMS
        and room_of(row.imported) not in {*ROOMS[room], *WORDS, room}
        and row.imported not in EVERYBODYS
    ]
    assert told(wrong) == []


def test_the_kernels_room_knows_two_words_only() -> None:
    rows = [row for row in OUR_IMPORTS if room_of(row.importer) == "kernel"]
    assert {room_of(row.imported) for row in rows} <= {"kernel", "record", "status"}


def test_the_rooms_are_ranked() -> None:
    """No two rooms can import each other: the table itself has no circle."""
    assert circle_in(ROOMS) is None


def test_no_two_modules_of_a_room_import_each_other() -> None:
    for room in ROOMS:
        graph: dict[str, set[str]] = {}
        for row in OUR_IMPORTS:
            if room_of(row.importer) == room_of(row.imported) == room:
                graph.setdefault(row.importer, set()).add(row.imported)
        assert circle_in(graph) is None, room


def test_no_module_imports_the_door_of_its_own_room() -> None:
    """What stands in `__init__.py` is for others; it imports those who would ask for it."""
    wrong = [row for row in OUR_IMPORTS if row.importer.startswith(f"{row.imported}.")]
    doorstep = [row for row in wrong if row.imported == "pyspaces" and is_doorstep(row.importer)]
    assert told([row for row in wrong if row not in doorstep and row.imported != "pyspaces"]) == []


def is_doorstep(module: str) -> bool:
    return room_of(module) in DOORSTEP


def circle_in(graph: dict[str, set[str]]) -> list[str] | None:
    """Return a way round, if there is one."""
    done: set[str] = set()

    def walk(place: str, way: list[str]) -> list[str] | None:
        if place in way:
            return [*way[way.index(place) :], place]
        if place not in done:
            for following in sorted(graph.get(place, ())):
                if found := walk(following, [*way, place]):
                    return found
            done.add(place)
        return None

    return next((found for place in sorted(graph) if (found := walk(place, []))), None)


def test_nothing_is_imported_by_a_name_made_at_run_time() -> None:
    """But for the tables: of the commands, of the public names, and those of `TABLES`."""
    used: dict[str, set[str]] = {module: set() for module in PATHS}
    for row in ALL_USES:
        used[row.module].add(row.name)
    for module, names in used.items():
        assert not {"exec", "eval", "exec_module"} & names or module == "pyspaces.finding"
        assert "__import__" not in names or module == "pyspaces.plan.plan"
        assert "loaded" not in names or module in TABLES
        assert "import_module" not in names or module in {"pyspaces.commands.group", "pyspaces"}


@pytest.mark.parametrize("module", WORDS_KNOW)
def test_what_the_words_may_know(module: str) -> None:
    ours = {row.imported for row in OUR_IMPORTS if row.importer == module}
    assert ours <= WORDS_KNOW[module]


def test_the_record_imports_nothing_but_what_makes_data_of_it_and_that_once_it_is_called() -> None:
    functions = [node for node in running(tree_of("pyspaces.record")) if is_function(node)]
    late = {row for node in functions for row in imports_of("pyspaces.record", node)}
    early = {row.imported for row in imports_of("pyspaces.record") if row not in late}
    assert (early, {row.imported for row in late}) == ({"__future__"}, {"pyspaces.record_data"})


def is_function(node: ast.AST) -> bool:
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)


def test_process_creation_knows_the_kernel_and_records_only() -> None:
    rows = [row for row in OUR_IMPORTS if row.importer in CREATING]
    assert {room_of(row.imported) for row in rows} == {"kernel", "record"}


def test_commands_know_neither_of_the_two_sides() -> None:
    rows = [row for row in OUR_IMPORTS if room_of(row.importer) == "commands"]
    assert rows
    sides = ("pyspaces.launch.inner", "pyspaces.launch.outer")
    assert told([row for row in rows if row.imported.startswith(sides)]) == []


def test_features_do_not_know_each_other() -> None:
    """A feature is a file, or a room of its own beneath the room of features."""

    def feature(module: str) -> str:
        return module.split(".")[2] if module.count(".") > 1 else ""

    wrong = [
        row
        for row in OUR_IMPORTS
        if room_of(row.importer) == room_of(row.imported) == "features"
        and feature(row.importer) not in ("", feature(row.imported))
    ]
    assert told(wrong) == []


def test_the_launch_path_keeps_to_its_budget() -> None:
    wrong = [
        row
        for row in ALL_IMPORTS
        if room_of(row.importer) in LAUNCH_PATH
        and row.importer not in OFF_THE_LAUNCH_PATH
        and not is_ours(row.imported)
        and (row.importer, row.imported) not in LAZY
        and row.imported.partition(".")[0] not in LAUNCH_PATH_LIBRARY
    ]
    assert told(wrong) == []


def importers_of(name: str) -> set[str]:
    return {row.importer for row in ALL_IMPORTS if row.imported.partition(".")[0] == name}


def test_json_is_for_what_is_told_at_the_end() -> None:
    importers = importers_of("json") - OFF_THE_LAUNCH_PATH
    assert {name for name in importers if room_of(name) in LAUNCH_PATH} == {
        *(f"pyspaces.launch.records.{name}" for name in ("journal", "difference", "listed")),
        "pyspaces.launch.learning",
    }


def test_one_door_to_ctypes() -> None:
    assert importers_of("ctypes") == set()
    assert importers_of("_ctypes") == {"pyspaces.kernel.foreign"}
    importers = {row.importer for row in ALL_IMPORTS if row.imported == "pyspaces.kernel.foreign"}
    doors = ("libc", "libseccomp", "memory", "mountapi", "rlimits", "timer")
    assert importers == {f"pyspaces.kernel.{name}" for name in doors}


def test_who_may_know_signals() -> None:
    assert importers_of("signal") == {
        *("pyspaces.library.aio", "pyspaces.library.sandbox")  # with its enums, 3 ms
    }
    assert importers_of("_signal") == {
        "pyspaces.launch.signals",
        "pyspaces.status",
        "pyspaces.__main__",
        "pyspaces.features.ids.program",  # in a process of its own: SIGCHLD
        "pyspaces.launch.network.engine",  # in a process of its own: SIGPIPE
    }


def test_only_the_edge_knows_click() -> None:
    importers = importers_of("click")
    assert importers
    assert all(room_of(module) == "commands" for module in importers)


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


def test_each_way_to_create_a_process_has_one_module() -> None:
    for names, module in zip(
        [
            {"clone", "clone3", "before_fork"},
            {"fork", "forkpty"},
            {"posix_spawn", "posix_spawnp"},
        ],
        CREATING,
        strict=True,
    ):
        users = {use.module for use in ALL_USES if use.name in names}
        assert users - {"pyspaces.kernel.libc"} == {module}


def test_libc_defines_these_calls_and_uses_none() -> None:
    for use in ALL_USES:
        if use.module == "pyspaces.kernel.libc":
            assert use.name not in {"clone3", "clone", "fork"}, f"line {use.line}"


def test_the_child_does_not_print_or_log() -> None:
    assert importers_of("logging") == {"pyspaces.library.pytest_plugin"}
    # Whose Popen ours derives from; off the launch path.
    assert importers_of("subprocess") == {
        *("pyspaces.library.command", "pyspaces.library.aio", "pyspaces.anyio"),
        "pyspaces.library.job",
    }
    names = {use.name for use in ALL_USES if use.module.startswith("pyspaces.launch.inner")}
    assert not {"print", "logging", "subprocess", "stdout", "stderr", "warn"} & names


# The seams: here a function of one side is handed over, not called. spawn.spawn() runs it.
HANDED_OVER = {
    ("pyspaces.launch.starting", "start_inner"),
    ("pyspaces.launch.server.serving", "be_child_inner"),
    # What the processes beside the launcher do, handed to the fork.
    *(("pyspaces.launch.outer.sentinel", f"be_{name}_inner") for name in ("sentinel", "guard")),
    ("pyspaces.launch.outer.terminal", "attach_inner"),
    ("pyspaces.launch.records.difference", "keep_inner"),
    *(("pyspaces.launch.loading", f"{name}_inner") for name in ("guard", "limit")),
    ("pyspaces.library.sandbox", "_stay_inner"),
    ("pyspaces.library.pytest_plugin", "_run_inner"),
    *(("pyspaces.launch.network.helper", f"{name}_inner") for name in ("be_helper", "begin")),
    ("pyspaces.launch.network.engine", "begin_inner"),
    ("pyspaces.launch.network.entry", "make_inner"),
}


def acts() -> Iterator[tuple[str, int]]:
    """Yield the lines of what the steps of features do, each of which the child takes."""
    for module in PATHS:
        for node in ast.walk(tree_of(module)):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name)):
                continue
            if node.func.id == "Step":
                for keyword in node.keywords:
                    if keyword.arg == "act":
                        yield from ((module, line) for line in lines_of(keyword.value))


def lines_of(node: ast.expr) -> range:
    return range(node.lineno, (node.end_lineno or node.lineno) + 1)


ACTS = set(acts())
tree_of.cache_clear()  # 40 MB, of which every launch of the suite would be a copy


def side_errors(suffix: str, side: str) -> list[str]:
    """Return the uses of `*suffix` outside the room `side` and outside functions of that side."""
    return [
        f"{use.module}:{use.line} uses {use.name}"
        for use in ALL_USES
        if use.name.endswith(suffix)
        and not use.module.startswith(side)
        and not any(function.endswith(suffix) for function in use.functions)
        and (use.module, use.line) not in ACTS
        and (use.module, use.name) not in HANDED_OVER
    ]


def test_functions_of_the_child_are_called_by_the_child() -> None:
    assert side_errors("_inner", "pyspaces.launch.inner") == []


def test_functions_of_the_parent_are_called_by_the_parent() -> None:
    assert side_errors("_outer", "pyspaces.launch.outer") == []


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
    for use in ALL_USES:
        if room_of(use.module) not in ("features", "mounts"):
            continue
        if use.name in changing and use.functions:
            assert any(
                part.removeprefix("_").endswith(("_inner", "_outer")) or part == "_write_setgroups"
                for part in use.functions
            ), f"{use.module}:{use.line}: {use.name} in {use.functions}"


def test_every_row_of_the_tables_leads_somewhere() -> None:
    named: dict[str, list[str]] = {row.importer: [] for row in named_in_tables()}
    for row in named_in_tables():
        named[row.importer].append(row.imported)
    assert named.keys() == TABLES.keys()
    assert named["pyspaces.plan.plan"] == [part.module for part in PARTS.values()]
    assert all(step_of(row).title for row in STEPS)
    found = sorted(row.load().__module__ for row in ROWS)
    assert found == sorted(named["pyspaces.launch.loading"])


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


def test_a_circle_is_found() -> None:
    assert circle_in({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]
    assert circle_in({"a": {"b", "c"}, "b": {"c"}}) is None
