"""Weak segments of tables: which columns are used, and what is refused."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pytest

from watchkeeper.comparison.weaknesses import weak_segments
from watchkeeper.errors import DataError


def table(rows: int = 20_000) -> pa.Table:
    rng = np.random.default_rng(3)
    age, country = (
        rng.uniform(18, 90, rows),
        rng.choice(["NL", "DE", "FR", "a rare one"], rows, p=[0.4, 0.3, 0.299, 0.001]),
    )
    weak = (age < 36) & (country == "DE")
    return pa.table(
        {
            "age": pa.array(np.where(rng.random(rows) < 0.01, np.nan, age)),
            "country": pa.array(country),
            "member": pa.array(rng.random(rows) < 0.5),
            "user_id": pa.array([f"user {i}" for i in range(rows)]),
            "wrong": pa.array(rng.random(rows) < np.where(weak, 0.3, 0.1)),
        }
    )


def test_where_a_model_is_worse_is_told_in_words() -> None:
    found = weak_segments(table(), "wrong")
    [one] = found.segments
    assert one.segment.startswith("age < 3")
    assert one.segment.endswith(" and country = DE")
    assert one.loss.value == pytest.approx(0.3, abs=0.06)
    assert found.columns == ("age", "country", "member")
    assert "user_id" in found.skipped
    assert (found.n, found.least) == (20_000, 100)
    assert json.loads(json.dumps(found.to_dict()))["segments"][0]["segment"] == one.segment


def test_columns_may_be_chosen() -> None:
    assert weak_segments(table(), "wrong", columns=["member"]).segments == ()


def test_what_is_no_loss_is_refused() -> None:
    with pytest.raises(DataError, match='no column "loss" that holds the loss'):
        weak_segments(table(200), "loss")
    with pytest.raises(DataError, match="a number or true or false; found string"):
        weak_segments(table(200), "country")
    missing = table(200).set_column(4, "wrong", pa.array([None, *[True] * 199]))
    with pytest.raises(DataError, match="1 rows have none: leave out rows without a label"):
        weak_segments(missing, "wrong")
