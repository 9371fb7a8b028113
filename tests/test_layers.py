"""The shape of the source, read from its imports: what may lean on what, and what stays out of where."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from fnmatch import fnmatch
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import pytest

PACKAGE = "watchkeeper"
SOURCE = Path(__file__).parents[1] / "src" / PACKAGE

LAYERS: dict[int, tuple[str, ...]] = {
    0: ("errors", "events", "windows", "settings", "costs", "schema", "records", "kpis", "tasks"),
    1: ("stats", "stats.*"),
    2: (
        "profiles",
        "metrics",
        "metrics.*",
        "monitors",
        "policy",
        "history",
        "late",
        "segments",
        "incidents",
        "diagnosis",
        "rollouts",
        "summaries",
        "periods",
    ),
    3: ("store", "store.*"),
    4: (
        "accounts",
        "adaptation",
        "audit",
        "gaps",
        "engine",
        "expecting",
        "inference",
        "cloudevents",
        "quarantine",
        "recording",
        "summarising",
        "measuring",
        "tick",
        "keeping",
        "notify",
        "timeline",
        "channels",
        "channels.*",
        "actions",
        "training",
        "registry",
        "traffic",
        "serving",
        "comparison.tables",
        "why",
    ),
    5: (
        "",
        "__main__",
        "client",
        "client.*",
        "comparison",
        "comparison.*",
        "evaluation",
        "evaluation.*",
        "words",
        "config",
        "cli",
        "commands",
        "commands.*",
        "charts",
        "charts.*",
        "report",
        "replay",
        "exporters",
        "server",
        "server.*",
        "testing",
        "demo",
        "demo.*",
    ),
}
"""Words, maths, judgement, store, response, doors. A module imports its own layer and those below; "" is the
package itself."""

PACKAGES_OF_LAYER = {0: {"pydantic"}, 1: {"numpy", "scipy"}, 2: {"pydantic", "numpy", "scipy"}}
"""What the pure layers may import beside the standard library."""

IMPURE = {
    "asyncio", "http", "multiprocessing", "os", "pathlib", "random", "secrets", "shutil", "socket", "sqlite3",
    "subprocess", "tempfile", "threading", "time", "urllib",
}  # fmt: skip
"""Parts of the standard library that reach for the clock, the disk, the network or chance."""

ONLY_IN = {
    "sqlalchemy": ("store.*",),
    "alembic": ("store.*",),
    "duckdb": ("store.*", "demo.*"),
    "ibis": ("store.*",),
    "plotly": ("charts.*", "server.*"),
    "fastapi": ("server", "server.*"),
    "typer": ("cli", "commands.*"),
}
"""Packages that one part of the house keeps to itself."""

READS_THE_CLOCK = {"engine": "starts a tick", "client": "stamps events", "store.inbox": "names its files by age"}
"""Who may, below the doors, and what for. No decision is taken on a time that was not given as an argument."""
MOST_LINES = 700
EMPTY_NAMES = {"util", "utils", "common", "base", "helper", "helpers", "manager", "legacy", "misc", "v2"}


class Import(NamedTuple):
    """One imported name: `line` is where, `hidden` whether it stands inside a function."""

    target: str
    line: int
    hidden: bool


def modules() -> dict[str, Path]:
    """Every module by its name without the package's: `stats.grid`, and "" for the package itself."""
    found = {}
    for path in sorted(SOURCE.rglob("*.py")):
        parts = path.relative_to(SOURCE).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()
every_module = pytest.mark.parametrize("module", MODULES)


@cache
def tree(module: str) -> ast.Module:
    return ast.parse(MODULES[module].read_text(encoding="utf-8"))


@cache
def imports(module: str) -> tuple[Import, ...]:
    return tuple(_imports(tree(module), module, hidden=False))


def _imports(node: ast.AST, module: str, *, hidden: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        inside = hidden or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        if isinstance(child, ast.Import):
            yield from (Import(alias.name, child.lineno, hidden) for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            origin = child.module or ""
            if child.level:
                raise AssertionError(f"{where(module, child.lineno)}: write the import out, from {PACKAGE} downwards")
            yield from (Import(f"{origin}.{alias.name}", child.lineno, hidden) for alias in child.names)
        elif isinstance(child, ast.Call) and _loads_by_name(child):
            yield Import(str(ast.literal_eval(child.args[0])), child.lineno, hidden)
        yield from _imports(child, module, hidden=inside)


def _loads_by_name(call: ast.Call) -> bool:
    """Whether this is `import_module("...")` of a name that stands in the source."""
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    return (
        name in {"import_module", "__import__"}
        and bool(call.args)
        and isinstance(call.args[0], ast.Constant)
        and isinstance(call.args[0].value, str)
    )


def own(target: str) -> str | None:
    """The module of ours that an import reaches; None for someone else's."""
    if target.split(".")[0] != PACKAGE:
        return None
    name = target.removeprefix(PACKAGE).removeprefix(".")
    while name and name not in MODULES:
        name = name.rpartition(".")[0]
    return name


def layer(module: str) -> int | None:
    for number, patterns in LAYERS.items():
        if any(fnmatch(module, pattern) for pattern in patterns):
            return number
    return None


def where(module: str, line: int) -> str:
    return f"{MODULES[module].relative_to(SOURCE.parent)}:{line}"


def shown(module: str) -> str:
    return f"{PACKAGE}.{module}" if module else PACKAGE


def test_the_package_is_found() -> None:
    assert {"", "errors", "stats.grid"} <= MODULES.keys()


@every_module
def test_a_module_has_a_layer(module: str) -> None:
    assert layer(module) is not None, (
        f"{shown(module)} has no layer: decide what it may lean on and add it to LAYERS in tests/test_layers.py"
    )


@every_module
def test_imports_point_down(module: str) -> None:
    upward = [
        f"{where(module, found.line)}: {shown(module)} (layer {layer(module)}) imports"
        f" {shown(target)} (layer {layer(target)})"
        for found in imports(module)
        if (target := own(found.target)) is not None and (layer(target) or 0) > (layer(module) or 0)
    ]
    assert not upward, "\n".join(upward)


def test_no_import_ring() -> None:
    graph = {
        module: {target for found in imports(module) if (target := own(found.target)) not in (None, module)}
        for module in MODULES
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail("these modules import each other in a ring: " + " <- ".join(map(shown, error.args[1])))


@every_module
def test_no_import_inside_a_function(module: str) -> None:
    if module == "":
        return  # the package resolves its public names on first use
    hidden = [f"{where(module, found.line)}: {found.target}" for found in imports(module) if found.hidden]
    assert not hidden, "imports belong at the top of the file:\n" + "\n".join(hidden)


def test_the_package_hides_imports_in_getattr_alone() -> None:
    for node in tree("").body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name != "__getattr__":
            assert not list(_imports(node, "", hidden=True)), f"{node.name} imports; only __getattr__ may"


@every_module
def test_the_lower_half_is_pure(module: str) -> None:
    number = layer(module)
    if number not in PACKAGES_OF_LAYER:
        return
    wrong = [
        f"{where(module, found.line)}: {found.target}"
        for found in imports(module)
        if (root := found.target.split(".")[0]) != PACKAGE
        and (root in IMPURE or (root not in sys.stdlib_module_names and root not in PACKAGES_OF_LAYER[number]))
    ]
    assert not wrong, (
        f"layer {number} may import the standard library's pure parts and {sorted(PACKAGES_OF_LAYER[number])}:\n"
        + "\n".join(wrong)
    )


@every_module
def test_packages_stay_in_their_part_of_the_house(module: str) -> None:
    wrong = [
        f"{where(module, found.line)}: {root} is for {', '.join(allowed)}"
        for found in imports(module)
        if (allowed := ONLY_IN.get(root := found.target.split(".")[0]))
        and not any(fnmatch(module, pattern) for pattern in allowed)
    ]
    assert not wrong, "\n".join(wrong)


@every_module
def test_time_is_an_argument(module: str) -> None:
    if layer(module) == 5 or module in READS_THE_CLOCK:
        return
    readings = [f"{where(module, line)}: {what}" for what, line in _clock_readings(tree(module))]
    assert not readings, "take the time as an argument; only engine, client and the doors read the clock:\n" + (
        "\n".join(readings)
    )


CLOCKS = {"datetime": {"now", "utcnow", "today"}, "date": {"today"}, "time": {"time", "time_ns"}}


def _clock_readings(module: ast.Module) -> Iterator[tuple[str, int]]:
    for node in ast.walk(module):
        if isinstance(node, ast.Attribute):
            holder = node.value.attr if isinstance(node.value, ast.Attribute) else getattr(node.value, "id", "")
            if node.attr in CLOCKS.get(holder, ()):
                yield f"{holder}.{node.attr}", node.lineno
        elif isinstance(node, ast.ImportFrom) and node.module == "time":
            yield from ((f"time.{a.name}", node.lineno) for a in node.names if a.name in CLOCKS["time"])


def test_the_clock_is_seen_when_read() -> None:
    source = "import datetime as d, time\nfrom time import time_ns\nd.datetime.now()\ntime.time()\ntime.monotonic()"
    assert sorted(what for what, _ in _clock_readings(ast.parse(source))) == [
        "datetime.now",
        "time.time",
        "time.time_ns",
    ]


@every_module
def test_a_file_is_short(module: str) -> None:
    lines = len(MODULES[module].read_text(encoding="utf-8").splitlines())
    assert lines <= MOST_LINES, f"{shown(module)} has {lines} lines: split it by idea, at most {MOST_LINES}"


@every_module
def test_a_name_says_what_is_inside(module: str) -> None:
    empty = EMPTY_NAMES.intersection(word for part in module.split(".") for word in part.split("_"))
    assert not empty, f"{shown(module)}: {sorted(empty)} says nothing; name it by the noun that a user would say"
