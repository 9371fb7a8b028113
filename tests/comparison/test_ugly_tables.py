"""Ugly tables: whatever a column holds, on either side and through any door, there is a result or a clear error."""

from __future__ import annotations

import json
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest

from watchkeeper.comparison import Comparison, compare
from watchkeeper.errors import DataError

ROWS = 60
CHANCE = np.random.default_rng(1)
PLAIN = CHANCE.normal(15, 8, ROWS).round(3).tolist()
COLUMNS: dict[str, pa.Array] = {
    "all null": pa.nulls(ROWS),
    "all null, of numbers": pa.nulls(ROWS, pa.float64()),
    "all null, of text": pa.nulls(ROWS, pa.string()),
    "not a number": pa.array([np.nan] * ROWS),
    "infinite": pa.array([np.inf, -np.inf] * (ROWS // 2)),
    "constant": pa.array([3.0] * ROWS),
    "plain": pa.array(PLAIN),
    "tiny and huge": pa.array([1e-300, 1e300, -1e300, 0.0, -0.0, 5e-324] * (ROWS // 6)),
    "epoch seconds": pa.array([1_700_000_000 + 61 * i for i in range(ROWS)]),
    "whole numbers": pa.array([2**63 - 1 - i for i in range(ROWS)], pa.int64()),
    "unsigned": pa.array([2**64 - 1 - i for i in range(ROWS)], pa.uint64()),
    "decimals": pa.array([Decimal(f"{i}.{i:02d}") for i in range(ROWS)], pa.decimal128(30, 2)),
    "truths": pa.array([i % 3 == 0 for i in range(ROWS)]),
    "words": pa.array([("EWR", "JFK", "LGA")[i % 3] for i in range(ROWS)]),
    "empty": pa.array([""] * ROWS),
    "blanks": pa.array([" ", "\t", "\n"] * (ROWS // 3)),
    "mixed": pa.array([str(v) if i % 4 else "n/a" for i, v in enumerate(PLAIN)]),
    "free text": pa.array([f"row {i}, with some words" for i in range(ROWS)]),
    "signs": pa.array(["'; drop table x; --", 'a"b', "größe 🌡", "\\", "\x01", "a\nb"] * (ROWS // 6)),
    "days": pa.array([pd.Timestamp("1900-01-01") + timedelta(days=i) for i in range(ROWS)], pa.timestamp("us")),
    "lists": pa.array([[i, None] for i in range(ROWS)]),
    "structs": pa.array([{"a": i} for i in range(ROWS)]),
    "bytes": pa.array([b"\x00\xff"] * ROWS),
}


def through(kind: str, name: str, column: pa.Array, folder: Path) -> Any:
    """A table of this column and an ordinary one, by one of the ways in."""
    table = pa.table({name: column, "ordinary": [float(i % 7) for i in range(len(column))]})
    match kind:
        case "pandas":
            return table.to_pandas()
        case "polars":
            return pl.from_arrow(table)
        case "csv":
            if pa.types.is_nested(column.type) or pa.types.is_null(column.type) or pa.types.is_binary(column.type):
                table = table.set_column(0, name, pa.array([str(v) for v in column.to_pylist()]))
            table.to_pandas().to_csv(folder / "t.csv", index=False)
            return folder / "t.csv"
        case "parquet":
            pa.parquet.write_table(table, folder / "t.parquet")
            return folder / "t.parquet"
    return table


def told(comparison: Comparison) -> None:
    """The result is whole: it can be written, and the ordinary column was compared."""
    json.loads(comparison.to_json())
    assert "ordinary" in {look.column for look in comparison.points}
    assert not {look.column for look in comparison.breaches} & {"ordinary"}
    assert all(look.sentence for look in comparison.points)


@pytest.mark.parametrize("ugly", COLUMNS)
@pytest.mark.parametrize("kind", ["arrow", "pandas", "polars", "csv", "parquet"])
def test_an_ugly_column_on_either_side_spoils_nothing_else(kind: str, ugly: str, tmp_path: Path) -> None:
    for side in ("a", "b"):
        (tmp_path / side).mkdir()
    bad = through(kind, "x", COLUMNS[ugly], tmp_path / "a")
    good = through(kind, "x", COLUMNS["plain"], tmp_path / "b")
    for before, after in ((bad, good), (good, bad)):
        told(compare(before, after))
    same = compare(bad, bad)
    told(same)
    assert same.healthy


@pytest.mark.parametrize("ugly", COLUMNS)
def test_an_ugly_column_against_words_spoils_nothing_else(ugly: str, tmp_path: Path) -> None:
    bad, good = (through("arrow", "x", COLUMNS[name], tmp_path) for name in (ugly, "words"))
    told(compare(bad, good))
    told(compare(good, bad))


@pytest.mark.parametrize("ugly", COLUMNS)
def test_one_row_is_enough_for_a_result(ugly: str, tmp_path: Path) -> None:
    bad, one = through("arrow", "x", COLUMNS[ugly], tmp_path), through("arrow", "x", COLUMNS[ugly][:1], tmp_path)
    json.loads(compare(bad, one).to_json())
    json.loads(compare(one, bad).to_json())


@pytest.mark.parametrize("side", [0, 1])
def test_no_rows_are_told_with_the_side(side: int) -> None:
    tables = [pa.table({"a": [1.0, 2.0]}), pa.table({"a": [1.0, 2.0]})]
    tables[side] = tables[side].slice(0, 0)
    with pytest.raises(DataError, match=("the reference", "the current data")[side] + " has no rows"):
        compare(*tables)


def test_values_of_several_types_are_read_as_text() -> None:
    before = pd.DataFrame({"a": [1.5, 2.5, 3.5] * 40, "b": ["x", "y", "z"] * 40})
    mixed = before.astype({"a": object})
    mixed.loc[:20, "a"] = "broken"
    found = compare(before, mixed)
    assert ("a", "invalid_rate") in {(look.column, look.metric) for look in found.breaches}
    several = pd.DataFrame({"a": [1, "x", None, 2.5] * 30, "b": ["x", "y", "z"] * 40})
    assert compare(several, several).healthy


def test_a_hundred_thousand_categories_are_survived() -> None:
    chance = np.random.default_rng(2)
    before, after = (
        pa.table({"c": np.char.add("v", chance.integers(0, 100_000, 250_000).astype(str)), "x": chance.random(250_000)})
        for _ in range(2)
    )
    found = compare(before, after)
    assert found.healthy


def test_many_of_the_ugliest_columns_together() -> None:
    table = pa.table(COLUMNS)
    shuffled = table.take(np.random.default_rng(3).permutation(ROWS))
    found = compare(table, shuffled)
    assert found.healthy
    assert {"all null", "lists", "structs"} <= set(found.skipped)


@pytest.mark.parametrize(
    "name", ['"', "'", "a b", "größe 🌡", "a\nb", "%s", "{x}", ";", "select", "row", "x.length", "c0", "\\"]
)
def test_a_column_may_have_any_name(name: str) -> None:
    others = {"id": [f"k{i}" for i in range(4 * ROWS)], "ordinary": [float(i % 7) for i in range(4 * ROWS)]}
    before, after = (pa.table({name: [v + shift for v in PLAIN * 4], **others}) for shift in (0, 40))
    found = compare(before, after)
    assert {look.column for look in found.breaches} == {name}
    renamed = compare(before, after.rename_columns([f"{name}_", *others]))
    assert {look.column for look in renamed.breaches} == {name}
