"""How fast realised performance is counted: all metrics of a binary classifier, of all rows and of 50 segments.

python bench/evaluate.py            ten million rows, NannyML on the same rows beside
python bench/evaluate.py --quick    two million rows, NannyML on a hundred thousand beside, in under 50 s
python bench/evaluate.py --json     the figures as one JSON object, in the last line

Each tool runs in a process and an environment of its own; what is timed is all from the Parquet file to the values,
after a first run on few rows. NannyML has no segments: each is given to it as a table of its own, and all rows as one
more, one chunk each. It is asked for six metrics (AUC, F1, precision, recall, specificity, accuracy), with its bands;
watchkeeper finds these and all others it has of a score, with intervals, and how far the segments lie apart. NannyML
needs a reference, a tenth as many rows, which is read and fitted within its time.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import peers
import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console

CONSOLE = Console(width=120)
SEGMENTS = 50
STARTED = perf_counter()


def write(path: Path, rows: int, seed: int) -> Path:
    """Scores, labels that they say the chance of, and a segment, a million rows at a time."""
    rng = np.random.default_rng(seed)
    names = pa.array([f"segment {i}" for i in range(SEGMENTS)])
    schema = pa.schema({"score": pa.float64(), "label": pa.int64(), "segment": pa.string()})
    with pq.ParquetWriter(path, schema) as file:
        for at in range(0, rows, 1_000_000):
            n = min(1_000_000, rows - at)
            score = rng.beta(1, 3, n)
            label = (rng.random(n) < score).astype(np.int64)
            segment = names.take(pa.array(rng.integers(0, SEGMENTS, n)))
            file.write_table(pa.table([pa.array(score), pa.array(label), segment], schema=schema))
    return path


def beside(folder: Path, rows: int, ours: peers.Worker, warm: Path, seconds: float) -> dict[str, Any]:
    """Both tools on the same rows."""
    path, reference = write(folder / "same.parquet", rows, 1), write(folder / "reference.parquet", rows // 10, 2)
    mine = ours.ask("realised", rows=str(path))
    try:
        with peers.Worker("nannyml", seconds) as worker:
            worker.wait(seconds)
            worker.ask("realised", seconds, rows=str(warm), reference=str(warm))
            theirs = worker.ask("realised", seconds, rows=str(path), reference=str(reference))
    except peers.PeerError as problem:
        CONSOLE.print(f"NannyML on {rows:,} rows: {problem}")
        return {"same_rows": rows, "vs_nannyml": None}
    ratio = theirs["seconds"] / mine["seconds"]
    CONSOLE.print(
        f"{rows:,} rows: watchkeeper {mine['seconds']:.2f} s, {mine['peak_mb']:,.0f} MB; NannyML"
        f" {theirs['seconds']:.1f} s, {theirs['peak_mb']:,.0f} MB: {ratio:.0f} times as"
        f" long, {theirs['cpu_seconds'] / mine['cpu_seconds']:.0f} times the processor time; AUC {mine['auc']:.4f}"
        f" and {theirs['auc']:.4f}"
    )
    return {
        "same_rows": rows, "same_seconds": mine["seconds"], "nannyml_seconds": theirs["seconds"],
        "nannyml_peak_mb": theirs["peak_mb"], "vs_nannyml": ratio,
        "vs_nannyml_cpu": theirs["cpu_seconds"] / mine["cpu_seconds"],
        "auc_difference": abs(mine["auc"] - theirs["auc"]),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer rows, in under 50 s")
    parser.add_argument("--json", action="store_true", help="the figures as JSON in the last line")
    asked = parser.parse_args()
    rows, same = (2_000_000, 100_000) if asked.quick else (10_000_000, 10_000_000)
    with tempfile.TemporaryDirectory() as name, peers.Worker("watchkeeper") as ours:
        folder = Path(name)
        warm = write(folder / "warm.parquet", 5_000, 3)
        ours.ask("realised", rows=str(warm))
        found = ours.ask("realised", rows=str(write(folder / "rows.parquet", rows, 0)))
        CONSOLE.print(
            f"{rows:,} rows in {found['segments']} segments: {found['seconds']:.2f} s ({found['cpu_seconds']:.2f} s of"
            f" processor time), {found['peak_mb']:,.0f} MB"
        )
        left = 42 - (perf_counter() - STARTED) if asked.quick else 3600.0
        figures = {
            "rows": rows, "segments": found["segments"], "seconds": found["seconds"],
            "cpu_seconds": found["cpu_seconds"], "peak_mb": found["peak_mb"],
            **beside(folder, same, ours, warm, left),
        }  # fmt: skip
    if asked.json:
        print(json.dumps(figures))


if __name__ == "__main__":
    main()
