"""What a tick costs while one grain fills: rows come in batches of the same size, and each batch is summarised.

python bench/ticks.py            five million rows of one day, 100,000 a tick
python bench/ticks.py --quick    a tenth of that, 50,000 a tick, in under 50 s
python bench/ticks.py --json     the figures as one JSON object, in the last line
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from watchkeeper.engine import Engine, Tick
from watchkeeper.schema import Config
from watchkeeper.windows import DAY, Window

NAME, NUMBERS, WORDS = "m", 16, 4
"""Features of a prediction: 20 in all."""
START = datetime(2025, 1, 1, tzinfo=UTC)
LABELLED = 0.1
"""The share of the rows whose labels come with the next batch."""


def batch(first: int, rows: int, random: np.random.Generator) -> pa.Table:
    at = int(START.timestamp() * 1e6) + random.integers(0, DAY.total_seconds() * 1e6, rows, dtype=np.int64)
    words = np.array(["north", "east", "south", "west"])
    return pa.table(
        {
            "request_id": ids(np.arange(first, first + rows)),
            "event_time": pa.array(at, pa.timestamp("us", "UTC")),
            "version": pa.array(np.full(rows, "v1")),
            "score": random.beta(2, 5, rows),
            **{f"x{i}": random.normal(size=rows) for i in range(NUMBERS)},
            **{f"w{i}": pa.array(words[random.integers(0, 4, rows)]) for i in range(WORDS)},
        }
    )


def ids(numbers: np.ndarray[Any, Any]) -> pa.Array:
    return pa.array(numbers).cast(pa.string())


def labels(rows: int, count: int, random: np.random.Generator) -> pa.Table:
    known = [START + DAY] * count
    return pa.table(
        {
            "request_id": ids(random.choice(rows, count, replace=False)),
            "label": random.integers(0, 2, count, dtype=np.int32),
            "known_at": pa.array(known, pa.timestamp("us", "UTC")),
        }
    )


def measure(rows: int, at_once: int) -> dict[str, float]:
    """Seconds, and seconds of processor time, of the first ticks and of the last."""
    random = np.random.default_rng(1)
    columns = {f"x{i}": {"kind": "numeric"} for i in range(NUMBERS)}
    columns |= {f"w{i}": {"kind": "categorical"} for i in range(WORDS)}
    config = Config.model_validate({"models": {NAME: {"columns": columns}}})
    taken: list[tuple[float, float]] = []
    with tempfile.TemporaryDirectory() as folder:
        engine = Engine(Path(folder), config, clock=lambda: START + 2 * DAY)
        for first in range(0, rows, at_once):
            engine.log.append(NAME, batch(first, at_once, random))
            if first:
                engine.log.append_outcomes(NAME, labels(first, int(at_once * LABELLED), random))
            begun = time.perf_counter(), time.process_time()
            engine.summarise(NAME, config.models[NAME], Tick())
            taken.append((time.perf_counter() - begun[0], time.process_time() - begun[1]))
            print(f"{first + at_once:10,} rows: {taken[-1][0]:6.2f} s, {taken[-1][1]:6.2f} s of processor", flush=True)
        with engine.state.snapshot() as tx:
            kept = tx.profiles(NAME, Window(START, START + DAY), column="status")
            assert sum(profile.n for _, profile in kept) == rows
        engine.close()
    early, late = taken[1:4], taken[-3:]  # the first tick chooses the grids as well
    return {
        "rows": rows,
        "early_s": float(np.median([wall for wall, _ in early])),
        "late_s": float(np.median([wall for wall, _ in late])),
        "early_cpu_s": float(np.median([cpu for _, cpu in early])),
        "late_cpu_s": float(np.median([cpu for _, cpu in late])),
        "all_s": sum(wall for wall, _ in taken),
        "all_cpu_s": sum(cpu for _, cpu in taken),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tenth of the rows")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON in the last line")
    asked = parser.parse_args()
    found = measure(500_000, 50_000) if asked.quick else measure(5_000_000, 100_000)
    if asked.json:
        print(json.dumps({name: round(value, 3) for name, value in found.items()}))


if __name__ == "__main__":
    main()
