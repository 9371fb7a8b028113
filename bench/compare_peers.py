"""How fast two tables are compared: beside other tools and a plain scan, and how time and memory grow.

python bench/compare_peers.py [--quick] [--json]

Every tool runs in a process and an environment of its own, which uv makes once. What is timed is the work after the
imports, reading the Parquet files included; one tool after another, in the same run.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
import peers
import tables
from rich.console import Console
from rich.table import Table

OURS, SCAN, COLUMNS = "watchkeeper", "duckdb", 25
TITLES = {OURS: "watchkeeper, with its page", SCAN: "plain scan by DuckDB"}
CONSOLE = Console(width=100)
STARTED = perf_counter()
Pair = tuple[Path, Path]
Figures = dict[str, float | None]


def pair(folder: Path, rows: int, columns: int = COLUMNS) -> Pair:
    """A reference and a current table, in which two columns have moved a little."""
    names = [folder / f"{side}-{rows}-{columns}.parquet" for side in ("reference", "current")]
    first, second = (tables.write(name, rows, columns, i, drift=i == 1) for i, name in enumerate(names))
    return first, second


def run(tool: str, sides: Pair, times: int = 1, seconds: float = 3600, page: bool = True) -> dict[str, Any]:
    """The median of some runs of a tool on two tables, each in a fresh process."""
    with tempfile.TemporaryDirectory() as folder:
        job = {"reference": str(sides[0]), "current": str(sides[1]), "html": f"{folder}/page.html" if page else ""}
        replies = []
        for _ in range(times):
            with peers.Worker(tool) as worker:
                replies.append(worker.ask("compare", seconds, **job))
    return {name: median(reply[name] for reply in replies) for name in replies[0]}


def side_by_side(sides: Pair, rows: int, quick: bool) -> Figures:
    """Every tool on the same two tables."""
    with ExitStack() as stack, tempfile.TemporaryDirectory() as folder:
        waiting: dict[str, peers.Worker | peers.Failed] = {}
        for tool in peers.PEERS:  # imports take seconds: they run side by side, and the measuring does not
            try:
                waiting[tool] = stack.enter_context(peers.Worker(tool, 6 if quick else 900))
            except peers.Failed as problem:
                waiting[tool] = problem
        for worker in waiting.values():
            if isinstance(worker, peers.Worker):
                worker.wait()
        found = {OURS: run(OURS, sides, 3), SCAN: run(SCAN, sides, 3)}
        problems = {}
        for tool, worker in waiting.items():
            try:
                if isinstance(worker, peers.Failed):
                    raise worker
                page = f"{folder}/{tool}.html"
                limit = 15 if quick else 3600
                found[tool] = worker.ask("compare", limit, reference=str(sides[0]), current=str(sides[1]), html=page)
            except peers.Failed as problem:
                problems[tool] = str(problem)
    ours = found[OURS]
    table = Table("", "seconds", "times watchkeeper", "peak MB", title=f"{rows:,} rows x {COLUMNS} columns on each side")
    for tool, reply in found.items():
        slower = f"{reply['seconds'] / ours['seconds']:.2f}"
        table.add_row(TITLES.get(tool, tool), f"{reply['seconds']:.3f}", slower, f"{reply['peak_mb']:.0f}")
    for tool, why in problems.items():
        table.add_row(tool, "not measured", "", "")
    CONSOLE.print(table)
    for tool, why in problems.items():
        CONSOLE.print(f"{tool}: {why}", style="yellow")
    figures: Figures = {"rows": rows, "columns": COLUMNS, "seconds": ours["seconds"], "peak_mb": ours["peak_mb"]}
    for tool in peers.PEERS:
        ratio = found[tool]["seconds"] / ours["seconds"] if tool in found else None
        figures[f"vs_{tool.replace('-', '_')}"] = ratio
    figures["vs_scan"] = ours["compare_seconds"] / found[SCAN]["seconds"]
    CONSOLE.print(f"without the page: {ours['compare_seconds']:.3f} s, {figures['vs_scan']:.1f} plain scans")
    return figures


def growth(what: str, sizes: list[int], tables_of: Callable[[int], Pair]) -> float:
    """The slope of time over size, both as logarithms: 1 means twice the time for twice the size."""
    seconds = [run(OURS, tables_of(size), 2, page=False)["compare_seconds"] for size in sizes]
    slope = float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0])
    shown = ", ".join(f"{size:,}: {t:.2f} s" for size, t in zip(sizes, seconds, strict=True))
    CONSOLE.print(f"time against {what}: exponent {slope:.2f} ({shown})")
    return slope


def ten_million(folder: Path, quick: bool) -> Figures:
    """Time and memory at ten million rows on each side; a quick run has one file of a tenth of it ten times over."""
    if quick:
        first, second = (
            tables.repeat(path, folder / f"many-{i}", 10) for i, path in enumerate(pair(folder, 1_000_000))
        )
    else:
        first, second = pair(folder, 10_000_000)
    found = run(OURS, (first, second), page=False, seconds=3600)
    CONSOLE.print(
        f"10,000,000 rows x {COLUMNS} columns on each side: {found['seconds']:.1f} s, peak {found['peak_mb']:.0f} MB"
        + (" (each side is one file of 1,000,000 rows, ten times over)" if quick else "")
    )
    return {"peak_mb_10m": found["peak_mb"], "seconds_10m": found["seconds"]}


def small(folder: Path) -> float:
    """Seconds for two tables of 100 rows: the first call after the import."""
    seconds: float = run(OURS, pair(folder, 100), 3, page=False)["seconds"]
    CONSOLE.print(f"100 rows x {COLUMNS} columns on each side: {seconds:.3f} s, the first call of a process")
    return seconds


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    arguments.add_argument("--quick", action="store_true", help="smaller tables, under 50 seconds in all")
    arguments.add_argument("--json", action="store_true", help="the figures as one JSON object in the last line")
    asked = arguments.parse_args()
    rows = 30_000 if asked.quick else 1_000_000
    sizes = [30_000, 100_000, 300_000] if asked.quick else [100_000, 300_000, 1_000_000, 3_000_000]
    CONSOLE.print(f"{os.cpu_count()} cores, {os.getloadavg()[0]:.1f} of them busy at the start")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        figures = side_by_side(pair(folder, rows), rows, asked.quick)
        figures["small_seconds"] = small(folder)
        figures |= ten_million(folder, asked.quick)
        figures["exponent_rows"] = growth("rows", sizes, lambda size: pair(folder, size))
        width = 30_000 if asked.quick else 300_000
        counts = [5, 25, 50] if asked.quick else [5, 10, 25, 50]
        figures["exponent_columns"] = growth("columns", counts, lambda count: pair(folder, width, count))
    figures["bench_seconds"] = perf_counter() - STARTED
    CONSOLE.print(f"done in {figures['bench_seconds']:.0f} s")
    if asked.json:
        print(json.dumps({name: None if value is None else round(value, 4) for name, value in figures.items()}))


if __name__ == "__main__":
    main()
