"""The rules of the house that no linter knows (docs/architecture.md)."""

import ast
import importlib
import re
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "slurm_factory"
TESTS = Path(__file__).parents[1]

LAYERS = (
    ("__main__",),
    ("main",),
    ("farm_commands",),
    ("farm_answers", "session"),
    ("answers", "options"),
    ("completion", "usage"),
    ("farm", "reproduce"),
    ("request",),
    ("builder", "ci_cache", "compare", "deploy", "prefetch"),
    ("verify",),
    ("clean", "findings", "stores", "supplies", "up_to_date"),
    ("recipes",),
    ("buildcaches", "instances"),
    ("fetch", "host", "package", "spack_yaml"),
    ("job",),
    ("plan", "workspace"),
    ("cache_dir",),
    ("config", "output", "relocate"),
    ("config_types",),
    ("util",),
    ("constants", "exceptions", "resources"),
)
"""Rooms from top to bottom. A room imports itself and what lies in lower layers."""

ONLY_IN = {
    "archspec": {"plan"},
    "craft_providers": {"instances"},
    "obstore": {"fetch"},
    "oras": {"fetch"},
    "rich": {"output"},
    "typer": {"farm_commands", "main", "options", "session", "usage"},
}
HEAVY = (
    *("archspec", "craft_providers", "cyclonedx", "elftools", "obstore", "oras", "pylxd"),
    "requests",
)
"""Libraries that would make `slurm-factory --help` slow."""

LONGEST_FUNCTION = 80
MOST_PARAMETERS = 7
OLD_NAMES = ("main", "builder", "config", "constants", "exceptions", "spack_yaml")
"""Modules that the documentation of the predecessor names."""

IMPORTS_TEST = re.compile(r"\s*(from|import)\s+([\w.]+\.)?test_")

LEVELS = {room: level for level, rooms in enumerate(LAYERS) for room in rooms}
SOURCES = {path: ast.parse(path.read_text("utf-8")) for path in sorted(PACKAGE.rglob("*.py"))}


def room_of(path: Path) -> str:
    """The name of the room that a file of the package (host path) belongs to."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def modules_imported_by(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """(line, dotted name); for `from a import b` it is a.b, since b may be a module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def functions(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def place(path: Path, line: int) -> str:
    return f"{path.relative_to(PACKAGE.parent)}:{line}"


def test_every_room_has_its_layer() -> None:
    assert {room_of(path) for path in SOURCES} - set(LEVELS) <= {"__init__"}


def test_no_room_imports_upwards_or_sideways() -> None:
    wrong = [
        f"{place(path, line)}: {room} imports {name}"
        for path, tree in SOURCES.items()
        for line, name in modules_imported_by(tree)
        if name.startswith("slurm_factory.")
        and (room := room_of(path)) != (other := name.split(".")[1])
        and LEVELS.get(other, len(LAYERS)) <= LEVELS.get(room, -1)
    ]
    assert wrong == []


def test_no_modules_import_each_other() -> None:
    """Also not for their types only, or through others: static_order() raises CycleError."""
    modules = {
        ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts): tree
        for path, tree in SOURCES.items()
    }
    graph = {
        module: {
            other
            for _, name in modules_imported_by(tree)
            for other in (name, name.rpartition(".")[0])
            if other in modules and other != module
        }
        for module, tree in modules.items()
    }
    assert len([*TopologicalSorter(graph).static_order()]) == len(SOURCES)


def test_each_framework_stays_in_its_room() -> None:
    wrong = [
        f"{place(path, line)}: {name} belongs in {sorted(ONLY_IN[name.split('.')[0]])}"
        for path, tree in SOURCES.items()
        for line, name in modules_imported_by(tree)
        if room_of(path) not in ONLY_IN.get(name.split(".")[0], {room_of(path)})
    ]
    assert wrong == []


def test_no_function_is_too_long_to_be_read_at_once() -> None:
    wrong = [
        f"{place(path, function.lineno)}: {function.name} has {length} lines"
        for path, tree in SOURCES.items()
        for function in functions(tree)
        if (length := (function.end_lineno or 0) - function.lineno + 1) > LONGEST_FUNCTION
    ]
    assert wrong == []


def test_no_function_outside_the_command_line_takes_too_many_parameters() -> None:
    wrong = [
        f"{place(path, function.lineno)}: {function.name} takes {count} parameters"
        for path, tree in SOURCES.items()
        if room_of(path) not in {"main", "farm_commands"}
        for function in functions(tree)
        if (count := len(function.args.args) + len(function.args.kwonlyargs)) > MOST_PARAMETERS
    ]
    assert wrong == []


def test_no_test_imports_from_another_test() -> None:
    """What tests share lies in tests/support, where nothing runs because it is imported."""
    wrong = [
        f"{path.relative_to(TESTS)}: {line.strip()}"
        for path in TESTS.rglob("*.py")
        for line in path.read_text("utf-8").splitlines()
        if IMPORTS_TEST.match(line)
    ]
    assert wrong == []


def swallows_everything(handler: ast.ExceptHandler) -> bool:
    """Whether it catches every error and does not pass it on after it has tidied up."""
    caught = ast.unparse(handler.type) if handler.type else "BaseException"
    last = handler.body[-1]
    passed_on = isinstance(last, ast.Raise) and last.exc is None
    return caught in {"BaseException", "Exception"} and not passed_on


def test_no_handler_swallows_errors_it_does_not_know() -> None:
    wrong = [
        place(path, node.lineno)
        for path, tree in SOURCES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.ExceptHandler) and swallows_everything(node)
    ]
    assert wrong == []


@pytest.mark.parametrize("name", OLD_NAMES)
def test_module_that_users_documentation_names_can_be_imported(name: str) -> None:
    assert importlib.import_module(f"slurm_factory.{name}")


def test_help_does_not_wait_for_libraries_that_only_a_build_needs() -> None:
    code = "import sys, slurm_factory.main; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(HEAVY) & set(done.stdout.split()) == set()


def test_a_build_on_this_machine_waits_for_no_library_that_talks_to_lxd() -> None:
    code = "import sys, slurm_factory.builder; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert {"craft_providers", "pylxd"} & set(done.stdout.split()) == set()
