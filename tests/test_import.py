"""Importing is silent, light and without effect."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = {
    "alembic",
    "asyncio",
    "duckdb",
    "fastapi",
    "ibis",
    "numpy",
    "pandas",
    "plotly",
    "polars",
    "pyarrow",
    "pydantic",
    "pynvml",
    "scipy",
    "sqlalchemy",
}
SECONDS = 0.2

LOADED = """
import sys
import {module}
print(*sys.modules)
"""

TIMED = """
from time import perf_counter
start = perf_counter()
import {module}
print(perf_counter() - start)
"""

WATCHED = """
import sys

def watch(event, args):
    if event.startswith("socket.") or event in ("os.putenv", "os.unsetenv", "subprocess.Popen", "os.system"):
        raise SystemExit(f"importing did {{event}} {{args}}")
    if event == "open" and (args[2] or 0) & 0o3:
        raise SystemExit(f"importing opened {{args[0]}} for writing")

sys.addaudithook(watch)
import {module}
"""

each_door = pytest.mark.parametrize("module", ["watchkeeper", "watchkeeper.client"])


def run(script: str) -> subprocess.CompletedProcess[str]:
    """Run a script in a fresh interpreter that treats warnings as errors and writes no byte code."""
    return subprocess.run(
        [sys.executable, "-B", "-W", "error", "-c", script], capture_output=True, text=True, timeout=60
    )


@each_door
def test_importing_is_silent(module: str) -> None:
    done = run(f"import {module}")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@each_door
def test_importing_loads_nothing_heavy(module: str) -> None:
    done = run(LOADED.format(module=module))
    assert done.returncode == 0, done.stderr
    assert HEAVY & set(done.stdout.split()) == set()


def test_importing_is_fast() -> None:
    best = min(float(run(TIMED.format(module="watchkeeper")).stdout) for _ in range(5))
    assert best < SECONDS, f"import watchkeeper took {best:.2f} s at best"


@each_door
def test_importing_has_no_effect(module: str) -> None:
    done = run(WATCHED.format(module=module))
    assert done.returncode == 0, done.stderr
