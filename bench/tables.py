"""Tables to measure with: numbers of several shapes and categories, written to Parquet chunk by chunk."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

CHUNK = 250_000
CATEGORIES = (3, 5, 10, 20, 50)
NUMBERS: tuple[Callable[[np.random.Generator, int], np.ndarray], ...] = (
    lambda random, n: random.normal(15, 8, n),
    lambda random, n: random.lognormal(5, 1, n),
    lambda random, n: random.integers(0, 500, n),
    lambda random, n: random.random(n),
    lambda random, n: np.where(random.random(n) < 0.3, random.normal(0, 1, n), random.normal(50, 2, n)),
)
"""Normal, lognormal, whole, uniform, with two modes."""


def chunk(rows: int, columns: int, random: np.random.Generator, drift: bool = False) -> pa.Table:
    """Four in five columns are numbers, the others texts. A drift moves the first of each kind a little."""
    numeric = columns * 4 // 5
    data: dict[str, pa.Array] = {}
    for i in range(numeric):
        values = NUMBERS[i % len(NUMBERS)](random, rows)
        data[f"x{i}"] = pa.array(values + 2.0 if drift and i == 0 else values)
    for i in range(columns - numeric):
        many = CATEGORIES[i % len(CATEGORIES)]
        codes = random.integers(0, many, rows)
        if drift and i == 0:
            codes[random.random(rows) < 0.1] = 0
        words = pa.array([f"category {k}" for k in range(many)])
        data[f"c{i}"] = pa.DictionaryArray.from_arrays(codes.astype(np.int32), words).cast(pa.string())
    return pa.table(data)


def write(path: Path, rows: int, columns: int, seed: int, drift: bool = False) -> Path:
    """A Parquet file of so many rows, compressed with Snappy; never more than a chunk of it is in memory."""
    random, writer = np.random.default_rng(seed), None
    for done in range(0, rows, CHUNK):
        part = chunk(min(CHUNK, rows - done), columns, random, drift)
        writer = writer or pq.ParquetWriter(path, part.schema, compression="snappy")
        writer.write_table(part)
    assert writer is not None
    writer.close()
    return path


def repeat(path: Path, folder: Path, times: int) -> Path:
    """A folder that holds one file so many times over, by hard links: as many rows, at no cost."""
    folder.mkdir()
    for i in range(times):
        os.link(path, folder / f"part{i:03}.parquet")
    return folder
