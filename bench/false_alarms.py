"""How often the default policy alarms though nothing changed, and how surely it finds what did.

python bench/false_alarms.py [--quick] [--json]

Null data: reference and current rows of one distribution. A comparison may have any breach in at most 5 % of them. The
columns of one run are drawn apart; columns are counted and judged as `watchkeeper.compare` does it, which is checked
first. One drawn column serves runs of 1, 20 and 200 columns, which differ in the confidence that each look is given.
Every column has a reference of its own, save those of 100,000 rows, whose own noise is small: 40 take turns.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor, wait
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import perf_counter
from typing import Any

import columns
import numpy as np
import peers
import pyarrow as pa
import pyarrow.parquet as pq
from columns import BUDGET, SHAPES, Reference, Values
from rich.console import Console
from rich.table import Table
from scipy.stats import beta

from watchkeeper.engine import Engine
from watchkeeper.monitors import MONTH
from watchkeeper.records import Severity, Status, Verdict
from watchkeeper.schema import Config, Kind

CONSOLE = Console(width=120)
STARTED = perf_counter()
ERROR = 1e-3
"""The chance that any cell that keeps its budget is called above it."""
WIDTHS = (1, 20, 200)
LARGE, TURNS = 100_000, 40
FEATURES = [
    *(name for name in ("normal", "lognormal", "Cauchy", "Poisson(4)") for _ in range(4)),
    "2 categories", "10 categories", "100 categories", "100 categories, Zipf",
]  # fmt: skip
"""The shapes of the 20 columns of a table."""


def seeded(*parts: object) -> np.random.Generator:
    return np.random.default_rng(zlib.crc32(repr(parts).encode()))


def left() -> float:
    """Seconds until a quick run must come to its end."""
    return max(45 - (perf_counter() - STARTED), 1)


# Null data


@dataclass(frozen=True)
class Cell:
    """Runs of one kind: how many, how many of them had any breach, and in which metrics."""

    shape: str
    reference: int
    current: int
    columns: int
    runs: int
    alarms: int
    metrics: tuple[tuple[str, int], ...]

    def over_budget(self, cells: int) -> float:
        """The lower bound of the rate of alarms, over the budget: above 1, the budget is not kept.

        Clopper and Pearson's bound, one-sided, with the error shared among so many cells.
        """
        if not self.alarms:
            return 0.0
        return float(beta.ppf(ERROR / cells, self.alarms, self.runs - self.alarms + 1)) / BUDGET


def null_cells(shape: str, m: int, n: int, draws: int) -> list[Cell]:
    """The cells of one shape and two numbers of rows, from so many drawn columns: those of five runs at least."""
    random, (kind, draw) = seeded("null", shape, m, n), SHAPES[shape]
    turns = [Reference.of(kind, draw(random, m)) for _ in range(TURNS)] if m >= LARGE else []
    found: dict[int, list[set[str]]] = {width: [] for width in WIDTHS if 5 * width <= draws}
    for i in range(draws):
        reference = turns[i % TURNS] if turns else Reference.of(kind, draw(random, m))
        subject, broken = reference.against(draw(random, n)), {"any"}
        for width in found:  # what does not breach does not with more confidence either
            broken = columns.breaches(reference, subject, width) if broken else broken
            found[width].append(broken)
    cells = []
    for width, each in found.items():
        runs = [set().union(*each[i : i + width]) for i in range(0, draws - width + 1, width)]
        metrics = Counter(metric for run in runs for metric in run)
        cells.append(Cell(shape, m, n, width, len(runs), sum(map(bool, runs)), tuple(metrics.most_common())))
    return cells


def null_jobs(quick: bool) -> Iterable[tuple[str, int, int, int]]:
    if quick:
        shapes = ("normal", "Cauchy", "Poisson(4)", "10 categories", "1000 categories")
        return [(shape, m, n, 240) for shape in shapes for m in (500, 5000) for n in (50, 1000)]
    sizes = [(m, n) for m in (500, 5000, LARGE) for n in (50, 1000, LARGE)]
    return [(shape, m, n, 1000 if n == LARGE else 4000) for m, n in sizes for shape in SHAPES]


# What must be found


@dataclass(frozen=True)
class Case:
    """A change of one of 20 columns, against 10,000 reference rows, and how often it must be found.

    `metric` is what must breach; "" for any. `unchanged` cases hold that no verdict differs from that without the
    change.
    """

    name: str
    rows: int
    required: float
    shape: str
    change: Callable[[np.random.Generator, Values], Values]
    metric: str = ""
    unchanged: bool = False


def _replaced(share: float, value: float) -> Callable[[np.random.Generator, Values], Values]:
    return lambda random, values: np.where(random.random(len(values)) < share, value, values)


def _one(value: float) -> Callable[[np.random.Generator, Values], Values]:
    return lambda random, values: np.where(np.arange(len(values)) == 0, value, values)


CASES = (
    Case("mean moved by 0.5 sd", 1000, 0.95, "normal", lambda _, x: x + 0.5),
    Case("mean moved by 0.3 sd", 10_000, 0.95, "normal", lambda _, x: x + 0.3),
    Case("a category from 10 % to 25 %", 2000, 0.95, "10 categories", _replaced(1 / 6, 0)),
    Case("variance doubled", 2000, 0.95, "normal", lambda _, x: x * np.sqrt(2)),
    Case("5 % hold -999", 500, 0.99, "normal", _replaced(0.05, -999), "sentinel_rate"),
    Case("3 % in a new category", 500, 0.99, "10 categories", _replaced(0.03, 10), "new_category"),
    Case("missing from 0 to 10 %", 500, 0.99, "normal", _replaced(0.1, np.nan), "null_rate"),
    Case("unit changed, x 1000", 500, 0.99, "lognormal", lambda _, x: x * 1000, "unit_change"),
    Case("one outlier of 1e6", 1000, 1.0, "normal", _one(1e6), unchanged=True),
)


def power(number: int, runs: int) -> tuple[int, int, Counter[str]]:
    """How many runs found the change of a case, and what they found, by metric."""
    case = CASES[number]
    random, (kind, draw), found, metrics = seeded("power", case.name), SHAPES[case.shape], 0, Counter[str]()
    for _ in range(runs):
        reference, values = Reference.of(kind, draw(random, 10_000)), draw(random, case.rows)
        broken = columns.breaches(reference, reference.against(case.change(random, values)), 20)
        metrics.update(broken)
        if case.unchanged:
            found += broken == columns.breaches(reference, reference.against(values), 20)
        else:
            found += case.metric in broken if case.metric else bool(broken)
    return number, found, metrics


# A year of days


def features(random: np.random.Generator, rows: int, shapes: Sequence[str] = FEATURES) -> dict[str, Any]:
    """A column of each shape."""
    drawn = {f"x{i}": (SHAPES[shape][0], SHAPES[shape][1](random, rows)) for i, shape in enumerate(shapes)}
    return {
        name: pa.array(values if kind is Kind.NUMERIC else [f"category{code}" for code in values.tolist()])
        for name, (kind, values) in drawn.items()
    }


def scored(random: np.random.Generator, rows: int) -> dict[str, Any]:
    """Scores, and labels that are as likely as the scores say."""
    score = random.beta(2, 5, rows)
    return {"score": pa.array(score), "label": pa.array((random.random(rows) < score).astype(np.int32))}


def year(seed: int, days: int) -> dict[str, int]:
    """Breaches of each severity in so many days of 1,000 rows each, against a reference of 10,000, by the engine."""
    random, start = seeded("year", seed), datetime(2025, 1, 1, tzinfo=UTC)
    kinds = {f"x{i}": {"kind": SHAPES[shape][0]} for i, shape in enumerate(FEATURES)}
    config = Config.model_validate({"models": {"m": {"columns": kinds, "label_delay": "1d"}}, "channels": {}})
    now = start
    with tempfile.TemporaryDirectory() as folder:
        engine = Engine(Path(folder), config, clock=lambda: now)
        engine.install("m", "v1", pa.table({**features(random, 10_000), **scored(random, 10_000)}))
        rows = days * 1000
        ids, at = pa.array([str(i) for i in range(rows)]), [start + timedelta(days=i / 1000) for i in range(rows)]
        events = {**features(random, rows), **scored(random, rows)}
        labels = events.pop("label")
        served = {"latency_ms": pa.array(random.lognormal(3, 0.5, rows)), "status": pa.array(["ok"] * rows)}
        version = pa.array(["v1"] * rows)
        engine.log.append("m", pa.table({"request_id": ids, "event_time": at, "version": version, **events, **served}))
        engine.log.append_outcomes("m", pa.table({"request_id": ids, "label": labels, "known_at": at}))
        now = start + timedelta(days=days + 2)
        engine.tick()
        with engine.state.snapshot() as tx:
            verdicts = tx.select(Verdict)
        engine.close()
    verdicts = [v for v in verdicts if v.window.end <= start + timedelta(days=days)]  # the days after it are silent
    found = Counter(f"{v.severity} {v.metric}" for v in verdicts if v.status is Status.BREACH)
    return {"looks": sum(v.status in (Status.BREACH, Status.HEALTHY) for v in verdicts), **found}


# Other tools on the same tables


@dataclass(frozen=True)
class Stream:
    """Many current tables against one reference, all of the same distribution; of `FEATURES`, or all normal."""

    reference: int
    current: int
    tables: int
    shapes: str = "mixed"

    def write(self, folder: Path) -> dict[str, Any]:
        random, shapes = seeded("stream", self), FEATURES if self.shapes == "mixed" else ["normal"] * len(FEATURES)
        paths = [folder / f"{self.shapes}-{self.reference}-{self.current}-{i}.parquet" for i in range(self.tables + 1)]
        for i, path in enumerate(paths):
            pq.write_table(pa.table(features(random, self.current if i else self.reference, shapes)), path)
        return {"reference": str(paths[0]), "current": [str(path) for path in paths[1:]]}


TOOLS = ("watchkeeper", "evidently", "nannyml")
Said = dict[str, Any] | str
"""What a tool found, or why it found nothing."""


def beside(tool: str, jobs: Mapping[Stream, dict[str, Any]], seconds: float) -> dict[Stream, Said]:
    """What a tool says of each stream, all of them within so many seconds."""
    end = perf_counter() + seconds
    found: dict[Stream, Said] = {}
    try:
        with peers.Worker(tool, seconds) as worker:
            for stream, job in jobs.items():
                found[stream] = worker.ask("alarms", end - perf_counter(), **job)
    except peers.PeerError as problem:
        found |= {stream: str(problem) for stream in jobs if stream not in found}
    return found


# Results


def show_null(cells: list[Cell], late: int) -> dict[str, float]:
    table = Table("shape", "reference", "current", "columns", "runs", "any breach", "bound / budget", "in")
    for cell in sorted(cells, key=lambda c: (-c.over_budget(len(cells)), -c.alarms / c.runs))[:12]:
        rate, over = cell.alarms / cell.runs, cell.over_budget(len(cells))
        metrics = ", ".join(f"{metric} {count}" for metric, count in cell.metrics[:3])
        table.add_row(
            cell.shape, f"{cell.reference:,}", f"{cell.current:,}", str(cell.columns), f"{cell.runs:,}",
            f"{rate:.1%}", f"[red]{over:.2f}[/]" if over > 1 else f"{over:.2f}", metrics,
        )  # fmt: skip
    CONSOLE.print(f"\nNull data: the worst of {len(cells)} cells; a budget of {BUDGET:.0%} for each comparison")
    CONSOLE.print(table)
    if late:
        CONSOLE.print(f"{late} pairs of sizes were left out, for no time was left", style="yellow")
    return {
        "worst_rate_over_budget": max(cell.over_budget(len(cells)) for cell in cells),
        "worst_rate": max(cell.alarms / cell.runs for cell in cells),
        "cells_above_budget": sum(cell.over_budget(len(cells)) > 1 for cell in cells),
    }


def show_power(results: Iterable[tuple[int, int, Counter[str]]], runs: int) -> dict[str, float]:
    table = Table("change of one column in 20", "rows", "by", "found", "required", "what breached, in how many runs")
    worst = 1 / max(case.required for case in CASES)
    for number, found, metrics in results:
        case = CASES[number]
        worst = min(worst, found / runs / case.required)
        missed = found / runs < case.required
        table.add_row(
            case.name, f"{case.rows:,}", "no change" if case.unchanged else case.metric or "any",
            f"[red]{found / runs:.1%}[/]" if missed else f"{found / runs:.1%}", f"{case.required:.0%}",
            ", ".join(f"{metric} {count}" for metric, count in metrics.most_common(5)),
        )  # fmt: skip
    CONSOLE.print(f"\nWhat must be found, against 10,000 reference rows, in {runs} runs each")
    CONSOLE.print(table)
    return {"power_worst": worst}


def show_year(results: list[dict[str, int]], days: int) -> dict[str, float]:
    budget = Config.model_validate({"models": {"m": {"columns": {"x": {"kind": "numeric"}}}}}).models["m"].alarm_budget
    total: Counter[str] = sum((Counter(result) for result in results), Counter())
    months, figures = days * len(results) / MONTH.days, {}
    table = Table("severity", "breaches", "in 30 days", "budget for 30 days", "in")
    for severity in Severity:
        broken = {name.split()[1]: n for name, n in total.items() if name.startswith(severity)}
        rate = sum(broken.values()) / months
        figures[f"{severity.lower()}_in_30_days"] = rate
        shown = ", ".join(f"{metric} {count}" for metric, count in sorted(broken.items(), key=lambda item: -item[1]))
        table.add_row(severity, str(sum(broken.values())), f"{rate:.2f}", f"{budget[severity]:g}", shown)
    CONSOLE.print(
        f"\nThe engine with its default monitors: {len(results)} x {days} days of 1,000 rows, 20 columns,"
        f" {total['looks']:,} looks"
    )
    CONSOLE.print(table)
    return figures


def show_beside(found: Mapping[str, Mapping[Stream, Said]]) -> dict[str, float | None]:
    table = Table("20 columns", "tool", "tables", "with any alarm", "columns flagged a table")
    figures: dict[str, float | None] = {}
    for tool, stream, reply in ((tool, *said) for tool, each in found.items() for said in each.items()):
        what = f"{stream.shapes}: {stream.current:,} rows against {stream.reference:,}"
        rate = None
        if isinstance(reply, str):
            table.add_row(what, tool, "", f"not measured: {reply}", "")
        else:
            flagged = reply["flagged"]
            rate = sum(map(bool, flagged)) / len(flagged)
            table.add_row(what, tool, str(len(flagged)), f"{rate:.0%}", f"{np.mean(flagged):.2f}")
        figures[f"{tool}_alarms_{stream.shapes}_{stream.reference}_{stream.current}"] = rate
    CONSOLE.print("\nOther tools on the same null tables, with their defaults")
    CONSOLE.print(table)
    return figures


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    arguments.add_argument("--quick", action="store_true", help="few cells and runs, under 50 seconds in all")
    arguments.add_argument("--json", action="store_true", help="the figures as one JSON object in the last line")
    quick = (asked := arguments.parse_args()).quick
    columns.agree(1)
    runs, (years, days) = (50, (1, 30)) if quick else (200, (2, 365))
    streams = [Stream(10_000, 1000, 4)]
    if not quick:
        streams = [Stream(500, 50, 30), Stream(10_000, 1000, 30, "normal"), Stream(10_000, 1000, 60)]
    with (
        ProcessPoolExecutor(os.cpu_count()) as pool,
        ThreadPoolExecutor(len(TOOLS)) as threads,
        tempfile.TemporaryDirectory() as folder,
    ):
        powers = [pool.submit(power, i, runs) for i in range(len(CASES))]
        simulated = [pool.submit(year, seed, days) for seed in range(years)]
        nulls: list[Future[list[Cell]]] = [pool.submit(null_cells, *job) for job in null_jobs(quick)]
        jobs = {stream: stream.write(Path(folder)) for stream in streams}
        others = {tool: threads.submit(beside, tool, jobs, left() - 3 if quick else 3600) for tool in TOOLS}
        figures: dict[str, float | None] = {**show_power([job.result() for job in powers], runs)}
        figures |= show_year([job.result() for job in simulated], days)
        done, late = wait(nulls, left() if quick else None)
        for job in late:
            job.cancel()
        figures |= show_null([cell for job in nulls if job in done for cell in job.result()], len(late))
        figures |= show_beside({tool: job.result() for tool, job in others.items()})
    figures["bench_seconds"] = perf_counter() - STARTED
    CONSOLE.print(f"done in {figures['bench_seconds']:.0f} s")
    if asked.json:
        print(json.dumps({name: None if value is None else round(value, 4) for name, value in figures.items()}))


if __name__ == "__main__":
    main()
