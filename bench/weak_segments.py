"""How fast weak segments are found, how often one that is there, and how often one that is not.

python bench/weak_segments.py [--quick] [--json]

A million rows of twenty columns, ten of them numbers; then small worlds. In half of them a crossing of two columns,
3 % of 50,000 rows, has 25 % errors where the rest has 10 %; in the others no segment differs. Of those, losses of 0 and
1 are searched with the usual margin, and skewed ones with none, which is the hardest case.
"""

from __future__ import annotations

import argparse
import json
from time import perf_counter

import numpy as np
import pyarrow as pa

from watchkeeper.comparison.weaknesses import weak_segments as of_table
from watchkeeper.stats.weak_segments import Cut, cut_numbers, cut_words, weak_segments, within

WEAK = "c3 = 3 and c5 = 2"


def columns(rows: int, seed: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    kinds = (2, 5, 7, 12)
    return {
        (f"c{i}" if i % 2 else f"x{i}"): random.integers(kinds[i // 2 % 4], size=rows)
        if i % 2
        else random.normal(size=rows)
        for i in range(20)
    }


def cut(data: dict[str, np.ndarray]) -> list[Cut]:
    return [
        cut_numbers(name, values)
        if name.startswith("x")
        else cut_words(name, values, [str(k) for k in range(values.max() + 1)], 1)
        for name, values in data.items()
    ]


def weak(data: dict[str, np.ndarray]) -> np.ndarray:
    return (data["c3"] == 3) & (data["c5"] == 2)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--quick", action="store_true", help="fewer worlds, under 50 seconds in all")
    arguments.add_argument("--json", action="store_true", help="the figures as one JSON object in the last line")
    asked = arguments.parse_args()
    rows, worlds = 1_000_000, 6 if asked.quick else 200
    data = columns(rows, 1)
    random = np.random.default_rng(2)
    loss = random.random(rows) < np.where(weak(data), 0.25, 0.1)
    named = {name: (values.astype(str) if name.startswith("c") else values) for name, values in data.items()}
    table = pa.table({**named, "wrong": loss})
    start = perf_counter()
    found = of_table(table, "wrong")
    seconds = perf_counter() - start
    texts = [one.segment for one in found.segments]
    print(f"{rows:,} rows x 20 columns: {seconds:.1f} s; found: {'; '.join(texts)}", flush=True)
    exact = overlapping = false = skewed = 0
    for world in range(worlds):
        data = columns(50_000, 100 + world)
        cuts, random = cut(data), np.random.default_rng(world)
        inside = weak(data)
        segments = weak_segments(cuts, (random.random(50_000) < np.where(inside, 0.25, 0.1)).astype(float))
        exact += [one.text(cuts) for one in segments] == [WEAK]
        overlapping += any(
            (inside & (own := within(cuts, one.conditions))).sum() > 0.8 * (inside | own).sum() for one in segments
        )
        false += bool(weak_segments(cuts, (random.random(50_000) < 0.1).astype(float)))
        skewed += bool(weak_segments(cuts, random.exponential(size=50_000), margin=0.0))
    figures = {
        "rows": rows, "columns": 20, "seconds": round(seconds, 2), "worlds": worlds, "found": overlapping / worlds,
        "found_and_nothing_else": exact / worlds, "false": false / worlds, "false_without_margin": skewed / worlds,
    }  # fmt: skip
    print(f"{worlds} worlds each: found in {overlapping}, exactly and alone in {exact};", end=" ")
    print(f"something found where nothing is in {false}, of skewed losses without a margin in {skewed}")
    if asked.json:
        print(json.dumps(figures))


if __name__ == "__main__":
    main()
