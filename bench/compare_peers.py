"""How fast two tables are compared: beside other tools and a plain scan, and how time and memory grow.

python bench/compare_peers.py [--quick] [--json]

Every tool runs in a process and an environment of its own, which uv makes once. Each first compares two tables of 1,000
rows, so that whatever it imports late is there; what is timed is the work after that, reading the Parquet files
included; one tool after another, in the same run.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
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
LEFT_OUT = ("alibi-detect",)
"""Peers that a quick run has no time for."""
TITLES = {OURS: "watchkeeper, with its page", SCAN: "plain scan by DuckDB"}
CONSOLE = Console(width=120)
STARTED = perf_counter()
Pair = tuple[Path, Path]
Figures = dict[str, float | None]


@dataclass(frozen=True)
class Clock:
    """How long a run may take: a quick one ends in time, whatever must be left out for it."""

    quick: bool

    @property
    def left(self) -> float:
        return 45 - (perf_counter() - STARTED) if self.quick else 7200


def pair(folder: Path, rows: int, columns: int = COLUMNS) -> Pair:
    """A reference and a current table, in which two columns have moved a little."""
    names = [folder / f"{side}-{rows}-{columns}.parquet" for side in ("reference", "current")]
    first, second = (tables.write(name, rows, columns, i, drift=i == 1) for i, name in enumerate(names))
    return first, second


def run(
    tool: str, sides: Pair, times: int = 1, seconds: float = 3600, page: bool = True, warm: Pair | None = None
) -> dict[str, Any]:
    """The median of some runs of a tool on two tables, each in a fresh process that has compared `warm` before."""
    with tempfile.TemporaryDirectory() as folder:
        html = f"{folder}/page.html" if page else ""
        replies = []
        for _ in range(times):
            with peers.Worker(tool) as worker:
                if warm:
                    worker.ask("compare", seconds, **_job(warm), html=html)
                replies.append(worker.ask("compare", seconds, **_job(sides), html=html))
    return {name: median(reply[name] for reply in replies) for name in replies[0]}


def _job(sides: Pair) -> dict[str, str]:
    return {"reference": str(sides[0]), "current": str(sides[1])}


def side_by_side(sides: Pair, warm: Pair, rows: int, clock: Clock) -> Figures:
    """Every tool on the same two tables."""
    tools = [tool for tool in peers.PEERS if tool not in LEFT_OUT or not clock.quick]
    found: dict[str, dict[str, Any]] = {}
    problems = {tool: "is left out of a quick run" for tool in peers.PEERS if tool not in tools}
    found[OURS] = run(OURS, sides, 3, warm=warm)
    found[SCAN] = run(SCAN, sides, 3, warm=warm)
    for two in (tools[i : i + 2] for i in range(0, len(tools), 2)):
        problems |= _beside(two, sides, warm, found, clock)
    ours = found[OURS]
    table = Table(
        "",
        "seconds",
        "times watchkeeper",
        "CPU seconds",
        "peak MB",
        title=f"{rows:,} rows x {COLUMNS} columns on each side",
    )
    for tool, reply in found.items():
        slower = f"{reply['seconds'] / ours['seconds']:.2f}"
        busy, peak = f"{reply['cpu_seconds']:.2f}", f"{reply['peak_mb']:.0f}"
        table.add_row(TITLES.get(tool, tool), f"{reply['seconds']:.3f}", slower, busy, peak)
    CONSOLE.print(table)
    for tool, why in problems.items():
        CONSOLE.print(f"{tool} was not measured: it {why}", style="yellow")
    figures: Figures = {"rows": rows, "columns": COLUMNS, "seconds": ours["seconds"], "peak_mb": ours["peak_mb"]}
    for tool in peers.PEERS:
        ratio = found[tool]["seconds"] / ours["seconds"] if tool in found else None
        figures[f"vs_{tool.replace('-', '_')}"] = ratio
    if "nannyml" in found:
        figures["vs_nannyml_defaults"] = found["nannyml"]["defaults_seconds"] / ours["seconds"]
        CONSOLE.print(f"NannyML with its defaults alone: {found['nannyml']['defaults_seconds']:.3f} s")
    figures["vs_scan"] = ours["compare_seconds"] / found[SCAN]["seconds"]
    CONSOLE.print(f"without the page: {ours['compare_seconds']:.3f} s, {figures['vs_scan']:.1f} plain scans")
    return figures


def _beside(tools: list[str], sides: Pair, warm: Pair, found: dict[str, Any], clock: Clock) -> dict[str, str]:
    """Add what some tools need for the same job. Their imports, which take seconds, run side by side; the jobs do not.

    Returns why others could not be measured.
    """
    problems, workers = {}, {}
    with ExitStack() as stack, tempfile.TemporaryDirectory() as folder:
        for tool in tools:
            try:
                workers[tool] = stack.enter_context(peers.Worker(tool, clock.left - 20))
            except peers.PeerError as problem:
                problems[tool] = str(problem)
        for work in ("wait", "measure"):
            for tool in [tool for tool in workers if tool not in problems]:
                try:
                    if work == "wait":
                        workers[tool].wait(clock.left)
                        workers[tool].ask("compare", clock.left, html=f"{folder}/{tool}.html", **_job(warm))
                    else:
                        job = {**_job(sides), "html": f"{folder}/{tool}.html"}
                        found[tool] = workers[tool].ask("compare", clock.left, **job)
                except peers.PeerError as problem:
                    problems[tool] = str(problem)
    return problems


def growth(what: str, pairs: dict[int, Pair], worker: peers.Worker, clock: Clock) -> float | None:
    """The slope of time over size, both as logarithms: 1 means twice the time for twice the size.

    Time is the processor's, which other work on the machine disturbs less.
    """
    least = {}
    try:
        for size, sides in pairs.items():
            least[size] = min(worker.ask("compare", clock.left, **_job(sides))["cpu_seconds"] for _ in range(2))
    except peers.PeerError as problem:
        CONSOLE.print(f"time against {what} was not measured: it {problem}", style="yellow")
        return None
    slope = float(np.polyfit(np.log([*least]), np.log([*least.values()]), 1)[0])
    shown = ", ".join(f"{size:,}: {seconds:.2f} s" for size, seconds in least.items())
    CONSOLE.print(f"CPU time against {what}: exponent {slope:.2f} ({shown}; the better of two)")
    return slope


def stored(sides: Pair, clock: Clock) -> Figures:
    """What is saved where the reference was counted before and only its counts are read."""
    with tempfile.TemporaryDirectory() as folder, peers.Worker(OURS) as worker:
        try:
            found = worker.ask("stored", clock.left, **_job(sides), baseline=f"{folder}/reference.baseline")
        except peers.PeerError as problem:
            CONSOLE.print(f"a stored baseline was not measured: it {problem}", style="yellow")
            return {"stored_over_read": None}
    ratio = found["stored_seconds"] / found["read_seconds"]
    seconds = f"{found['stored_seconds']:.3f} s instead of {found['read_seconds']:.3f} s"
    CONSOLE.print(f"with a stored baseline: {seconds} ({ratio:.0%})")
    return {"stored_over_read": ratio}


def ten_million(folder: Path, clock: Clock) -> Figures:
    """Time and memory at ten million rows on each side; a quick run has one file twenty times over on both."""
    if clock.quick:
        one = tables.write(folder / "one.parquet", 500_000, COLUMNS, 0)
        sides = (tables.repeat(one, folder / "reference", 20), tables.repeat(one, folder / "current", 20))
    else:
        sides = pair(folder, 10_000_000)
    try:
        found = run(OURS, sides, page=False, seconds=clock.left)
    except peers.PeerError as problem:
        CONSOLE.print(f"10,000,000 rows were not measured: it {problem}", style="yellow")
        return {"peak_mb_10m": None, "seconds_10m": None}
    CONSOLE.print(
        f"10,000,000 rows x {COLUMNS} columns on each side: {found['seconds']:.1f} s, peak {found['peak_mb']:.0f} MB"
        + (" (each side is the same file of 500,000 rows, twenty times over)" if clock.quick else "")
    )
    for path in sides:
        if path.is_file():
            path.unlink()
    return {"peak_mb_10m": found["peak_mb"], "seconds_10m": found["seconds"]}


def small(folder: Path, clock: Clock) -> float:
    """Seconds for two tables of 100 rows: the first call after the import."""
    seconds: float = run(OURS, pair(folder, 100), 1 if clock.quick else 3, page=False)["seconds"]
    CONSOLE.print(f"100 rows x {COLUMNS} columns on each side: {seconds:.3f} s, the first call of a process")
    return seconds


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    arguments.add_argument("--quick", action="store_true", help="smaller tables, under 50 seconds in all")
    arguments.add_argument("--json", action="store_true", help="the figures as one JSON object in the last line")
    asked = arguments.parse_args()
    clock = Clock(asked.quick)
    rows = 50_000 if clock.quick else 1_000_000
    CONSOLE.print(f"{os.cpu_count()} cores, {os.getloadavg()[0]:.1f} of them busy at the start")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        figures = {"small_seconds": small(folder, clock), **ten_million(folder, clock)}
        figures |= side_by_side(pair(folder, rows), pair(folder, 1000), rows, clock)
        figures |= stored(pair(folder, rows), clock)
        sizes = (10_000, 30_000, 100_000) if clock.quick else (100_000, 300_000, 1_000_000, 3_000_000)
        width, counts = (10_000, (5, 25, 50)) if clock.quick else (300_000, (5, 10, 25, 50))
        by_rows = {size: pair(folder, size) for size in sizes}
        by_columns = {count: pair(folder, width, count) for count in counts}
        with peers.Worker(OURS) as worker:
            figures["exponent_rows"] = growth("rows", by_rows, worker, clock)
            figures["exponent_columns"] = growth("columns", by_columns, worker, clock)
    figures["bench_seconds"] = perf_counter() - STARTED
    CONSOLE.print(f"done in {figures['bench_seconds']:.0f} s")
    if asked.json:
        print(json.dumps({name: None if value is None else round(value, 4) for name, value in figures.items()}))


if __name__ == "__main__":
    main()
