"""How fast two tables are compared: rows x columns a second, and how many plain scans that is worth.

python bench/compare.py [--quick] [--json]
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from time import perf_counter

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from watchkeeper.comparison import compare

COLUMNS = 25


def table(rows: int, seed: int) -> pa.Table:
    """Numeric columns of several shapes: normal, lognormal, whole numbers, uniform, two modes."""
    random = np.random.default_rng(seed)
    shapes = (
        lambda: random.normal(15, 8, rows),
        lambda: random.lognormal(5, 1, rows),
        lambda: random.integers(0, 500, rows).astype(float),
        lambda: random.random(rows),
        lambda: np.where(random.random(rows) < 0.3, random.normal(0, 1, rows), random.normal(50, 2, rows)),
    )
    return pa.table({f"x{i}": shapes[i % len(shapes)]() for i in range(COLUMNS)})


def scan(data: pa.Table) -> float:
    """Seconds for the sum of every column, the least that any summary can cost; the best of three."""
    connection = duckdb.connect()
    connection.register("data", data)
    query = f"SELECT {', '.join(f'sum({name})' for name in data.column_names)} FROM data"
    return min(timed(lambda: connection.execute(query).fetchall()) for _ in range(3))


def timed(work: object) -> float:
    start = perf_counter()
    work()  # type: ignore[operator]
    return perf_counter() - start


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--quick", action="store_true", help="a smaller table, under 50 seconds in all")
    arguments.add_argument("--json", action="store_true", help="the figures as one JSON object in the last line")
    asked = arguments.parse_args()
    rows = 300_000 if asked.quick else 1_000_000
    reference, current = table(rows, 1), table(rows, 2)
    values = 2 * rows * COLUMNS
    compare(reference.slice(0, 1000), current.slice(0, 1000))  # imports and first compilation are not counted
    plain = scan(reference) + scan(current)
    figures: dict[str, float] = {"rows": rows, "columns": COLUMNS, "scan_seconds": plain}
    with tempfile.TemporaryDirectory() as folder:
        paths = {kind: [Path(folder) / f"{side}.{kind}" for side in ("a", "b")] for kind in ("parquet", "csv")}
        for i, data in enumerate((reference, current)):
            pa.parquet.write_table(data, paths["parquet"][i])
            pa.csv.write_csv(data, paths["csv"][i])
        for name, sides in (("arrow", (reference, current)), *paths.items()):
            seconds = min(timed(lambda sides=sides: compare(*sides)) for _ in range(1 if name == "csv" else 2))
            figures |= {f"{name}_seconds": seconds, f"{name}_values_per_second": values / seconds}
            speed, ratio = values / seconds / 1e6, seconds / plain
            print(f"{name:8} {seconds:6.2f} s  {speed:6.1f} million values/s  {ratio:6.1f} plain scans", flush=True)
    figures["ratio_to_scan"] = figures["arrow_seconds"] / plain
    print(f"scan     {plain:6.3f} s  for {rows:,} rows x {COLUMNS} columns on each side")
    if asked.json:
        print(json.dumps({name: round(value, 4) for name, value in figures.items()}))


if __name__ == "__main__":
    main()
