"""Labels that come 30 to 90 days late: how long it takes to join them and to count their grains again.

python bench/late_labels.py            ten million predictions in 120 days, a million labels
python bench/late_labels.py --quick    a tenth of that, in under 50 s
python bench/late_labels.py --json     the figures as one JSON object, in the last line
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from watchkeeper.engine import Engine, Tick
from watchkeeper.schema import Config
from watchkeeper.store import arrivals
from watchkeeper.store.arrivals import Batch
from watchkeeper.windows import DAY

NAME, FEATURES, DAYS = "m", 20, 120
START = datetime(2025, 1, 1, tzinfo=UTC)
BATCH = 250_000
LATE = (30 * DAY, 90 * DAY)
SPREAD = np.uint64(0x9E3779B97F4A7C15)
"""An odd number: multiplied by it, numbers in a row become request ids in no order, and stay different."""


def ids(numbers: np.ndarray[Any, Any]) -> pa.Array:
    return pa.array(numbers.astype(np.uint64) * SPREAD).cast(pa.string())


def times(numbers: np.ndarray[Any, Any], rows: int) -> np.ndarray[Any, Any]:
    """When predictions were made, in microseconds since 1970: evenly over the days."""
    return int(START.timestamp() * 1e6) + numbers * (DAYS * DAY // timedelta(microseconds=1) // rows)


def predictions(rows: int, random: np.random.Generator) -> Iterator[pa.Table]:
    for first in range(0, rows, BATCH):
        numbers = np.arange(first, min(first + BATCH, rows))
        yield pa.table(
            {
                "request_id": ids(numbers),
                "event_time": pa.array(times(numbers, rows), pa.timestamp("us", "UTC")),
                "version": pa.array(np.full(len(numbers), "v1")),
                "score": random.beta(2, 5, len(numbers)),
                **{f"x{i}": random.normal(size=len(numbers)) for i in range(FEATURES)},
            }
        )


def labels(rows: int, count: int, random: np.random.Generator) -> pa.Table:
    """What became known in the days that follow, of predictions that were then 30 to 90 days old."""
    length = (LATE[1] - LATE[0]) / (DAYS * DAY)
    newest = 1 - LATE[0] / (DAYS * DAY)
    numbers = random.choice(int(rows * length), count, replace=False) + int(rows * (newest - length))
    known = START + DAYS * DAY
    return pa.table(
        {
            "request_id": ids(numbers),
            "label": random.integers(0, 2, count, dtype=np.int32),
            "known_at": pa.array([known] * count, pa.timestamp("us", "UTC")),
        }
    )


def measure(rows: int, count: int) -> dict[str, float]:
    random = np.random.default_rng(1)
    columns = {f"x{i}": {"kind": "numeric"} for i in range(FEATURES)}
    config = Config.model_validate({"models": {NAME: {"columns": columns}}})
    with tempfile.TemporaryDirectory() as folder:
        engine = Engine(Path(folder), config, clock=lambda: START + DAYS * DAY)
        begun = time.perf_counter()
        for table in predictions(rows, random):
            engine.log.append(NAME, table)
        stored = time.perf_counter()
        engine.summarise(NAME, config.models[NAME], Tick())
        counted = time.perf_counter()
        print(f"{rows:,} predictions: stored in {stored - begun:.1f} s, summarised in {counted - stored:.1f} s")
        arrivals.put(engine.inbox, [Batch(NAME, "outcome", labels(rows, count, random))])
        tick, begun = Tick(), time.perf_counter()
        engine.record(tick)
        stored = time.perf_counter()
        engine.summarise(NAME, config.models[NAME], tick)
        seconds = time.perf_counter() - begun
        assert tick.rows["record"] == count
        with engine.state.snapshot() as tx:
            grains = len(json.loads(tx.cursor(NAME, "late") or "")[1])
        engine.close()
    print(f"{count:,} labels of {grains} days: stored in {stored - begun:.1f} s, all in {seconds:.1f} s")
    return {"rows": rows, "labels": count, "seconds": round(seconds, 2), "grains": grains}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tenth of the rows")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON in the last line")
    asked = parser.parse_args()
    found = measure(1_000_000, 100_000) if asked.quick else measure(10_000_000, 1_000_000)
    if asked.json:
        sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
