"""A proposed contract: what it says of each column, that it loads, and that the data keep it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from watchkeeper.comparison import compare, contract
from watchkeeper.config import loads
from watchkeeper.errors import DataError
from watchkeeper.schema import ColumnConfig


def frame(rows: int = 4000, seed: int = 1) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    temp = random.normal(15, 8, rows).round(2)
    temp[random.random(rows) < 0.02] = -999
    age = random.integers(18, 80, rows).astype(float)
    age[random.random(rows) < 0.1] = np.nan
    age[random.random(rows) < 0.05] = -1
    return pd.DataFrame(
        {
            "order id": [f"k{seed}-{i}" for i in range(rows)],
            "row": range(rows),
            "temp": temp,
            "age": age,
            "origin": random.choice(["EWR", "JFK", "unknown", ""], rows),
            "wet": random.random(rows) < 0.2,
            "price": [("N/A" if random.random() < 0.05 else f"{v:.2f}") for v in random.lognormal(3, 1, rows)],
            "when": pd.Timestamp("2024-01-01") + pd.to_timedelta(random.integers(0, 10**6, rows), unit="s"),
            "no": random.choice(["1", "02", "true", "x: y", "größe 🌡", "a\nb", "null", "{"], rows),
            "code": random.integers(0, 500, rows).astype(str),
            "tags": [["a"]] * rows,
            "score": random.random(rows),
        }
    )


@pytest.fixture(scope="module")
def proposed() -> str:
    return contract.propose(frame(), "orders 2024")


@pytest.fixture(scope="module")
def columns(proposed: str) -> dict[str, ColumnConfig]:
    return loads(proposed).models["orders-2024"].columns


def test_kinds_are_those_of_the_values(columns: dict[str, ColumnConfig]) -> None:
    assert {name: str(column.kind) for name, column in columns.items()} == {
        "order id": "text", "row": "numeric", "temp": "numeric", "age": "numeric", "origin": "categorical",
        "wet": "categorical", "price": "numeric", "when": "datetime", "no": "categorical", "code": "numeric",
    }  # fmt: skip


def test_what_stands_for_unknown_is_missing_and_shapes_no_range(columns: dict[str, ColumnConfig]) -> None:
    assert columns["temp"].missing == (-999,)
    assert columns["age"].missing == (-1,)
    assert columns["origin"].missing == ("", "unknown")
    assert columns["price"].missing == ("N/A",)
    assert (columns["age"].min, columns["age"].max) == (18, 79)
    assert columns["temp"].min is not None
    assert -30 < columns["temp"].min < 0


def test_categories_are_read_back_letter_by_letter(columns: dict[str, ColumnConfig]) -> None:
    assert columns["no"].categories == tuple(sorted(["1", "02", "true", "x: y", "größe 🌡", "a\nb", "{"]))
    assert columns["no"].missing == ("null",)
    assert columns["wet"].categories == ("false", "true")
    assert columns["origin"].categories == ("EWR", "JFK")


def test_a_little_more_missing_than_was_found_is_right(columns: dict[str, ColumnConfig]) -> None:
    share = frame()["age"].isin([-1]).mean() + frame()["age"].isna().mean()
    assert columns["age"].max_nulls is not None
    assert share < columns["age"].max_nulls < share + 0.03
    assert columns["wet"].max_nulls == 0.0018


def test_ids_are_unique(columns: dict[str, ColumnConfig]) -> None:
    assert [name for name, column in columns.items() if column.unique] == ["order id", "row"]


def test_what_was_left_out_is_told(proposed: str) -> None:
    assert "#   tags: array columns are not compared" in proposed
    assert "#   score: the name has a meaning of its own; rename the column to watch it" in proposed


def test_the_data_and_others_like_them_keep_the_contract(proposed: str, tmp_path: Path) -> None:
    path = tmp_path / "watchkeeper.yaml"
    path.write_text(proposed, encoding="utf-8")
    for seed in (1, 2):
        assert compare(frame(), frame(seed=seed), config=path).healthy


@pytest.mark.parametrize(
    ("change", "column", "metric"),
    [
        ({"order id": "k1"}, "order id", "duplicate_ids"),
        ({"age": 300}, "age", "out_of_range"),
        ({"origin": "ORD"}, "origin", "new_category"),
        ({"wet": None}, "wet", "null_rate"),
        ({"price": "cheap"}, "price", "invalid_rate"),
    ],
)
def test_a_broken_contract_is_told(proposed: str, change: dict[str, Any], column: str, metric: str) -> None:
    now = frame(500, 2)
    for name, value in change.items():
        now[name] = now[name].astype(object)
        now.loc[:20, name] = value
    found = compare(frame(), now, config=loads(proposed))
    assert (column, metric) in {(look.column, look.metric) for look in found.breaches}
    assert {look.column for look in found.breaches} == {column}


def test_categories_that_differ_in_case_are_asked_about() -> None:
    text = contract.propose(pd.DataFrame({"c": ["JFK", "jfk", "EWR"] * 10}), "m")
    assert "# JFK, jfk: are they one category?" in text


def test_values_that_are_ordinary_here_are_no_sentinels() -> None:
    random = np.random.default_rng(1)
    data = pd.DataFrame({"a": random.integers(-5, 5, 1000), "b": random.integers(0, 1200, 1000), "c": [1, 0] * 500})
    assert all(not column.missing for column in loads(contract.propose(data, "m")).models["m"].columns.values())


def test_many_categories_are_left_to_the_reference() -> None:
    data = pd.DataFrame({"c": [f"v{i % 150}" for i in range(3000)]})
    text = contract.propose(data, "m")
    assert "# 150 categories; the reference says which" in text
    assert loads(text).models["m"].columns["c"].categories is None


@pytest.mark.parametrize("name", ["", "2024", "a b.c", "größe", "x" * 90])
def test_any_file_name_makes_a_model_name(name: str) -> None:
    assert len(loads(contract.propose(pd.DataFrame({"c": [1, 2, 2]}), name)).models) == 1


def test_a_table_without_columns_that_can_be_described_is_told() -> None:
    with pytest.raises(DataError, match="no column that can be described: tags: array columns"):
        contract.propose(pd.DataFrame({"tags": [["a"]]}), "m")
