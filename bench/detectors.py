"""How soon a rise of the error rate is found, and how often one that is not there is: watchkeeper and River.

python bench/detectors.py            three million stationary rows and 200 changes of each size for each detector
python bench/detectors.py --quick    half the changes, and far fewer of all for River's, in under 50 s
python bench/detectors.py --json     the figures as one JSON object, in the last line

The error rate is 0.10, and after 5,000 rows 0.12, 0.15, 0.20 or 0.30. watchkeeper's detector knows the reference's
errors: 1,000 in 10,000 rows on average, drawn anew for each stream, and takes the upper end of their exact 95% interval
as the risk. A delay is that of the first alarm after the change; a change that is not found within 10,000 rows counts
as 10,000. After an alarm every detector starts anew at once.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator

import numpy as np
from river import base, drift
from river.drift.binary import DDM

from watchkeeper.stats.detectors import Detector
from watchkeeper.stats.estimates import proportion

BEFORE, AFTER, FIRST, LAST = 0.10, (0.12, 0.15, 0.20, 0.30), 5000, 10_000
REFERENCE, RUN_LENGTH = 10_000, 10_000.0
STREAM = 100_000

Floats = np.ndarray[tuple[int], np.dtype[np.float64]]
Watch = Callable[[Floats, np.random.Generator], Iterator[int]]
"""The rows at which a detector raises an alarm."""


def watchkeeper(losses: Floats, random: np.random.Generator) -> Iterator[int]:
    known = proportion(int(random.binomial(REFERENCE, BEFORE)), REFERENCE, 0.025).high
    assert known is not None
    yield from map(int, Detector(known, RUN_LENGTH).follow(losses)[1])


def river(make: Callable[[], base.DriftDetector | base.BinaryDriftDetector]) -> Watch:
    def watch(losses: Floats, _random: np.random.Generator) -> Iterator[int]:
        detector = make()
        for at, wrong in enumerate(losses.astype(int).tolist()):
            detector.update(wrong)
            if detector.drift_detected:
                yield at
                detector = make()

    return watch


DETECTORS: dict[str, Watch] = {
    "watchkeeper": watchkeeper,
    "ADWIN": river(drift.ADWIN),
    "Page-Hinkley": river(lambda: drift.PageHinkley(mode="up")),
    "DDM": river(DDM),
}


def false_alarms(watch: Watch, rows: int) -> tuple[float, float]:
    """Alarms in 100,000 stationary rows, and microseconds of a processor a row."""
    random, found, took = np.random.default_rng(1), 0, 0.0
    for _ in range(rows // STREAM):
        losses = (random.random(STREAM) < BEFORE).astype(float)
        started = time.process_time()
        found += sum(1 for _ in watch(losses, random))
        took += time.process_time() - started
    return found * 100_000 / rows, took / rows * 1e6


def delay(watch: Watch, after: float, runs: int) -> tuple[float, int]:
    """The mean delay in rows, and how many changes were not found."""
    random, delays = np.random.default_rng(2), []
    for _ in range(runs):
        risk = np.where(np.arange(FIRST + LAST) < FIRST, BEFORE, after)
        losses = (random.random(len(risk)) < risk).astype(float)
        delays.append(next((at - FIRST + 1 for at in watch(losses, random) if at >= FIRST), None))
    found = [each for each in delays if each is not None]
    return (sum(found) + LAST * (runs - len(found))) / runs, runs - len(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    figures: dict[str, dict[str, float]] = {}
    for name, watch in DETECTORS.items():
        rows, runs = (3_000_000, 100 if asked.quick else 200)
        if asked.quick and name != "watchkeeper":
            rows, runs = 200_000, 10
        alarms, cost = false_alarms(watch, rows)
        figures[name] = {"stationary_rows": rows, "false_alarms_per_100k": alarms, "us_per_row": cost, "runs": runs}
        for after in AFTER:
            figures[name][f"delay_{after:.2f}"], figures[name][f"missed_{after:.2f}"] = delay(watch, after, runs)
        line = ", ".join(f"{key} {value:,.2f}".rstrip("0").rstrip(".") for key, value in figures[name].items())
        print(f"{name}: {line}", file=sys.stderr)
    if asked.json:
        print(json.dumps(figures))


if __name__ == "__main__":
    main()
