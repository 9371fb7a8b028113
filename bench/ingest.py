"""How much logging costs the program that logs, and how many events a server takes in.

python bench/ingest.py [--quick] [--json]
"""

from __future__ import annotations

import argparse
import json
import logging
import logging.handlers
import queue
import random
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import perf_counter_ns

from prometheus_client import CollectorRegistry, Counter
from served import server_figures

from watchkeeper import Client

NUMBERS, WORDS = 16, 4
"""Features of a prediction: 20 in all."""
BETWEEN = 100_000
"""Nanoseconds that the program computes between two predictions, which makes them about 9,000 a second."""


def features() -> dict[str, object]:
    chance = random.Random(1)
    return {f"number{i}": chance.gauss(0, 100) for i in range(NUMBERS)} | {f"word{i}": "north" for i in range(WORDS)}


def microseconds(call: Callable[[], object], calls: int) -> list[float]:
    """How long each call took, with some computing between the calls; the time of reading the clock included."""
    found = []
    for _ in range(calls):
        start = perf_counter_ns()
        call()
        end = perf_counter_ns()
        found.append((end - start) / 1e3)
        while perf_counter_ns() - end < BETWEEN:
            pass
    return sorted(found)


def client(quick: bool) -> dict[str, float]:
    """What one prediction costs the thread that logs it, against other things that it might do with it: a line to a
    file, a line to a queue that another thread writes to a file, and a counter of prometheus-client."""
    calls = 20_000 if quick else 200_000
    row = features()
    figures: dict[str, float] = {}

    def measured(name: str, call: Callable[[], object]) -> None:
        microseconds(call, 1000)
        times = microseconds(call, calls)
        p50, p99 = times[calls // 2], times[calls * 99 // 100]
        figures.update({f"{name}_p50_us": p50, f"{name}_p99_us": p99})
        print(f"{name:14} p50 {p50:6.1f} µs   p99 {p99:6.1f} µs   longest {times[-1] / 1e3:5.1f} ms", flush=True)

    with tempfile.TemporaryDirectory() as folder:
        with Client(folder, model="bench", version="1") as watched:
            measured("log", lambda: watched.log(row, score=0.5, entity_id="customer-17"))
            assert watched.flush()
            stats = watched.stats
        if stats.delivered != calls + 1000:
            raise SystemExit(f"not all of {calls + 1000} predictions were delivered: {stats}")
        handler = logging.FileHandler(Path(folder) / "file.log")
        measured("logging_file", _line(handler, row))
        handler.close()
        behind = logging.FileHandler(Path(folder) / "queue.log")
        waiting: queue.SimpleQueue[logging.LogRecord] = queue.SimpleQueue()
        listener = logging.handlers.QueueListener(waiting, behind)  # type: ignore[arg-type]
        listener.start()
        measured("logging_queue", _line(logging.handlers.QueueHandler(waiting), row))  # type: ignore[arg-type]
        listener.stop()
        behind.close()
    counter = Counter("predictions", "What was predicted.", ["version"], registry=CollectorRegistry()).labels("1")
    measured("counter", counter.inc)
    return figures


def _line(handler: logging.Handler, row: dict[str, object]) -> Callable[[], None]:
    logger = logging.Logger("bench", logging.INFO)
    logger.addHandler(handler)
    return lambda: logger.info("prediction of version %s for %s: %s, of %s", "1", "customer-17", 0.5, row)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--quick", action="store_true", help="fewer events, under 50 seconds in all")
    arguments.add_argument("--json", action="store_true", help="the figures as one JSON object in the last line")
    asked = arguments.parse_args()
    figures = client(asked.quick) | server_figures(5 if asked.quick else 60, 30 if asked.quick else 60)
    if asked.json:
        print(json.dumps({name: round(value, 4) for name, value in figures.items()}))


if __name__ == "__main__":
    main()
