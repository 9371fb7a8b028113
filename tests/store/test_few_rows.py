"""Few rows counted in memory have the counts that the summarising expression gives."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from watchkeeper.profiles import KNOWN
from watchkeeper.schema import Kind
from watchkeeper.stats.grid import Grid
from watchkeeper.store.few_rows import counts, shown
from watchkeeper.store.sources import SEGMENT, Part, Plan, collect, connect, fetch, read, summary

CLASSES = ("no", "perhaps", "yes")


def rows(n: int, label: pa.DataType) -> pa.Table:
    rng = np.random.default_rng(n)
    number = np.where(
        rng.random(n) < 0.2, rng.choice([np.nan, np.inf, -np.inf, -999.0, 1e200, -3.0], n), rng.normal(size=n)
    )
    labels = rng.integers(0, 3, n)
    return pa.table(
        {
            "version": pa.array(rng.choice(["v1", "v2"], n), mask=rng.random(n) < 0.1),
            "grain_start": pa.array(np.datetime64("2024-01-01", "us") + rng.integers(0, 3, n) * np.timedelta64(1, "D")),
            "label": pa.array([CLASSES[i] if label == pa.string() else i % 2 for i in labels], label, mask=labels == 0),
            SEGMENT: rng.integers(0, 3, n),
            "x": pa.array(number, mask=rng.random(n) < 0.1),
            "whole": pa.array(rng.integers(-5, 40, n), pa.int32()),
            "score": pa.array(rng.random(n)),
            "word": pa.array(rng.choice(["a", "b", "", "?", "x" * 300], n), mask=rng.random(n) < 0.1),
            "many": pa.array([f"id {i}" for i in range(n)]),
            "yes": rng.random(n) < 0.5,
        }
    )  # fmt: skip


def plans(label: pa.DataType) -> list[Plan]:
    rng, of_classes = np.random.default_rng(0), label == pa.string()
    return [
        Plan("x", Kind.NUMERIC, Grid.fit(rng.normal(size=5000)), missing=(1e200,)),
        Plan("whole", Kind.NUMERIC, Grid.fit(np.repeat(np.arange(30.0), 5))),
        Plan("score", Kind.NUMERIC, Grid.unit(), by_label=True, positive="yes" if of_classes else None),
        Plan("word", Kind.CATEGORICAL, None, missing=("?",), known=("a", "c")),
        Plan("many", Kind.CATEGORICAL, None, known=("id 3",), by_label=True, classes=CLASSES[:2] if of_classes else ()),
        Plan("yes", Kind.CATEGORICAL, None, known=None),
    ]


def told(parts: list[Part]) -> dict[tuple[object, ...], bytes]:
    return {(p.column, p.version, p.label, p.start, p.segment): p.profile.to_bytes() for p in parts}


@pytest.mark.parametrize("label", [pa.int64(), pa.string()], ids=["binary", "multi-class"])
@pytest.mark.parametrize("n", [0, 1, 700, 20 * KNOWN])
@pytest.mark.parametrize("parted", [False, True], ids=["whole", "segments"])
def test_the_counts_are_those_of_the_summarising_expression(n: int, label: pa.DataType, parted: bool) -> None:
    table, wanted, names = rows(n, label), plans(label), ("one", "two", "three")
    table = table if parted else table.drop_columns([SEGMENT])
    source = read(connect(), table, "rows")
    expected = collect(summary(source, wanted).to_pyarrow(), wanted, names if parted else ("",))
    found = collect(counts(fetch(shown(source, wanted)), wanted), wanted, names if parted else ("",))
    assert told(found) == told(expected)
    assert len(found) > len(wanted) or n < 2
