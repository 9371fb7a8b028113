"""Tables as wholes: new names of columns, and what comes twice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from watchkeeper.comparison import Comparison, compare, tables
from watchkeeper.comparison.baselines import profile
from watchkeeper.comparison.findings import Look
from watchkeeper.comparison.tables import Side, row_copies
from watchkeeper.schema import ColumnConfig, Kind, ModelConfig
from watchkeeper.store.sources import connect, read


def frame(rows: int, seed: int) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "order": [f"k{seed}-{i}" for i in range(rows)],
            "temp_min": random.normal(5, 8, rows),
            "temp_max": random.normal(15, 8, rows),
            "origin": random.choice(["EWR", "JFK", "LGA"], rows, p=[0.5, 0.3, 0.2]),
            "wet": random.random(rows) < 0.2,
        }
    )


def gone(comparison: Comparison) -> dict[str, Any]:
    return {look.column: look.detail.get("renamed_to") for look in comparison.points if look.metric == "missing_column"}


def twice(comparison: Comparison) -> dict[str, Look]:
    return {look.column: look for look in comparison.points if look.metric.startswith("duplicate")}


@pytest.mark.parametrize(
    ("names", "found"),
    [
        ({"temp_min": "TempMin"}, {"temp_min": "TempMin"}),
        ({"temp_min": "temp_mn"}, {"temp_min": "temp_mn"}),
        ({"origin": "airport"}, {"origin": "airport"}),
        ({"temp_max": "t2", "temp_min": "t1"}, {"temp_min": "t1", "temp_max": "t2"}),
        ({"wet": "rain"}, {"wet": None}),  # two values are too few to be known by
        ({"origin": "Temp.Min", "temp_min": "orig in"}, {"temp_min": "orig in", "origin": "Temp.Min"}),
    ],
)
def test_a_new_name_is_guessed(names: dict[str, str], found: dict[str, Any]) -> None:
    now = frame(3000, 2).rename(columns=names)
    assert gone(compare(frame(3000, 1), now)) == found


def test_a_similar_name_of_other_values_is_no_new_name() -> None:
    now = frame(3000, 2).rename(columns={"temp_max": "temp_mix"}).assign(temp_mix=np.random.default_rng(1).random(3000))
    assert gone(compare(frame(3000, 1), now)) == {"temp_max": None}


def test_the_guess_is_told_and_the_column_compared_no_further() -> None:
    comparison = compare(frame(3000, 1), frame(3000, 2).rename(columns={"origin": "Origin "}))
    (look,) = comparison.breaches
    assert look.sentence == 'column is missing from the current data; renamed to "Origin "?'
    assert [point.metric for point in comparison.points if point.column == "origin"] == ["missing_column"]
    assert comparison.extra_columns == ("Origin ",)


def test_rows_and_ids_that_come_twice_are_told() -> None:
    now = frame(500, 2)
    found = twice(compare(frame(3000, 1), pd.concat([now, now[:50]])))
    assert set(found) == {"all columns", "order"}
    for look in found.values():
        assert look.breach
        assert look.value == pytest.approx(50 / 550)
        assert look.detail["repeats"] == 50
    rows = found["all columns"].sentence.replace("\u202f", " ")
    assert rows.startswith("9.1 % of the rows are copies of an earlier one, 0 % would be normal")
    assert not any(look.breach for look in twice(compare(frame(3000, 1), now)).values())


def test_two_columns_speak_for_all_only_where_they_tell_all_rows_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "MANY", 100)
    fine = Side("the reference", read(connect(), frame(3000, 1), "fine"))
    coarse = Side("the reference", read(connect(), frame(3000, 1).round({"temp_min": -1, "temp_max": -1}), "coarse"))
    for side, keys in ((fine, ("temp_min", "temp_max")), (coarse, None)):
        found, telling = row_copies(side, side.table.columns, 3000)
        assert (found.repeats, telling) == (0, keys)


def test_a_table_that_repeats_itself_by_nature_may_do_so() -> None:
    small, large = frame(300, 1)[["origin", "wet"]], frame(30_000, 2)[["origin", "wet"]]
    for before, after in ((small, large), (large, small)):
        assert not twice(compare(before, after))["all columns"].breach


def test_repeats_say_in_the_summary_that_rows_repeat() -> None:
    rows = frame(2000, 1).drop(columns="order")
    comparison = compare(rows, pd.concat([rows, rows]))
    assert comparison.summary == "No column breaches a limit. Rows come several times."


def test_rows_are_not_compared_where_a_column_is_gone() -> None:
    now = frame(500, 2).drop(columns="order")[["origin", "wet"]]
    assert "all columns" not in twice(compare(frame(3000, 1), now))


def test_a_column_that_must_be_unique_breaches_with_its_first_repeat() -> None:
    model = ModelConfig(columns={"order": ColumnConfig(kind=Kind.TEXT, unique=True)})
    now = frame(500, 2)
    now.loc[3, "order"] = now.loc[2, "order"]
    found = twice(compare(frame(3000, 1), now, config=model))
    assert (found["order"].breach, found["order"].limit) == (True, 0.0)
    assert not twice(compare(frame(3000, 1), frame(500, 2), config=model))["order"].breach


def test_a_kept_baseline_knows_what_came_twice(tmp_path: Path) -> None:
    path = tmp_path / "train.baseline"
    profile(frame(3000, 1)).save(path)
    now = frame(500, 2)
    now = pd.concat([now, now[:50]])
    assert compare(path, now).to_dict() == compare(frame(3000, 1), now).to_dict()
