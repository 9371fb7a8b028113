"""Tallies: the counts that stream through grids are those of the grids' definition, in any order and any split."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from watchkeeper import profiles
from watchkeeper.profiles import merge
from watchkeeper.schema import Kind
from watchkeeper.stats.grid import DATE_SENTINELS, INVALID, NULL, Grid
from watchkeeper.store import tallies
from watchkeeper.store.sources import Plan, connect, read, summarise
from watchkeeper.store.tallies import GROUP, fit_grids, invalid, sample, tally
from watchkeeper.testing import CATEGORICAL_COLUMNS, NUMERIC_COLUMNS, profile_of

# grids


def fitted(values: Any, missing: tuple[float | str, ...] = ()) -> Grid:
    return fit_grids(read(connect(), pa.table({"x": values}), "rows"), {"x": missing})["x"]


def test_a_grid_is_fitted_to_the_finite_values_that_are_known() -> None:
    known = np.random.default_rng(1).normal(size=500)
    dirty = pa.array([*known, None, np.nan, np.inf, -np.inf, -999.0, -1.0])
    assert fitted(dirty, (-999.0, -1.0, "n/a")) == Grid.fit(known)
    assert -999.0 in fitted(dirty, (-999.0, -1.0)).sentinels


@pytest.mark.parametrize("values", [pa.array([], pa.float64()), pa.array([None, np.nan, np.inf], pa.float64())])
def test_a_grid_of_nothing_has_the_single_knot_zero(values: pa.Array) -> None:
    assert fitted(values).knots == (0.0,)


def test_no_columns_need_no_grids() -> None:
    assert fit_grids(read(connect(), pa.table({"x": [1]}), "rows"), {}) == {}


def test_integers_have_a_grid_like_the_numbers_they_are() -> None:
    assert fitted(pa.array([1, 2, 3] * 5)) == fitted(pa.array([1.0, 2.0, 3.0] * 5))


def test_dates_have_sentinels_of_their_own() -> None:
    moments = pa.table({"x": np.linspace(1.6e9, 1.7e9, 500)})
    grid = fit_grids(read(connect(), moments, "rows"), {"x": ()}, dates=("x",))["x"]
    assert grid.sentinels == DATE_SENTINELS


def test_a_sample_is_spread_evenly_and_the_same_each_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tallies, "SAMPLE", 1000)
    connection = connect()
    table = read(connection, pa.table({"x": np.arange(20_000), "word": ["a"] * 20_000}), "rows")
    first, again = (sample(table, 20_000).to_pyarrow().column("x").to_numpy() for _ in range(2))
    assert first.tolist() == again.tolist()
    assert 850 < len(first) < 1150
    assert abs(first.mean() - 10_000) < 100
    for period in (2, 7, 10, 24, 60):
        counts = np.bincount(first % period, minlength=period)
        assert counts.min() > 0.5 * len(first) / period
        assert counts.max() < 1.5 * len(first) / period + 1
    small = table.limit(1000)
    assert sample(small, 1000) is small


def test_a_sample_by_what_tells_rows_apart_is_the_same_in_any_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tallies, "SAMPLE", 1000)
    rows = pa.table({"x": np.arange(20_000) / 7, "word": [f"w{i % 3}" for i in range(20_000)]})
    turned = rows.take(np.arange(20_000)[::-1])
    first, again = (
        sorted(sample(read(connect(), one, "rows"), 20_000, ("x", "word")).to_pyarrow().column("x").to_pylist())
        for one in (rows, turned)
    )
    assert first == again
    assert 850 < len(first) < 1150
    assert abs(np.mean(first) - 10_000 / 7) < 100


# counts


@pytest.mark.parametrize("grid_of", ["ordinary", "constant", "all null", "far away", "some of everything"])
def test_numbers_are_counted_as_their_grid_says(grid_of: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tallies, "BATCH", 7)
    known = np.array([v for v in NUMERIC_COLUMNS[grid_of] if v is not None], dtype=float)
    grid = Grid.fit(known)
    for name, values in NUMERIC_COLUMNS.items():
        table = read(connect(), pa.table({"x": pa.array(values, pa.float64())}), "rows")
        (found,) = tally(table, [Plan("x", Kind.NUMERIC, grid)])
        assert found["x"].to_bytes() == profile_of(values, grid).to_bytes(), name


def test_categories_are_counted() -> None:
    for name, values in CATEGORICAL_COLUMNS.items():
        table = read(connect(), pa.table({"x": pa.array(values, pa.string())}), "rows")
        (found,) = tally(table, [Plan("x", Kind.CATEGORICAL, None, ("never seen",))])
        known = [None if value == "never seen" else value for value in values]
        assert found["x"].to_bytes() == profile_of(known).to_bytes(), name


def mixed(rows: int) -> pa.Table:
    chance = np.random.default_rng(3)
    heavy = chance.standard_cauchy(rows)
    heavy[chance.random(rows) < 0.1] = np.nan
    heavy[chance.random(rows) < 0.05] = np.inf
    absent = chance.random(rows) < 0.2
    return pa.table(
        {
            "x": pa.array(heavy, mask=absent),
            invalid("x"): pa.array(absent & (chance.random(rows) < 0.5)),
            "word": chance.choice(["a", "b", "c"], rows),
            GROUP: chance.integers(0, 5, rows),
        }
    )


def test_groups_are_counted_apart_and_add_up_to_the_whole() -> None:
    rows = mixed(3000)
    plans = [
        Plan("x", Kind.NUMERIC, Grid.fit(rows.column("x").drop_null().to_numpy())),
        Plan("word", Kind.CATEGORICAL, None),
    ]
    connection = connect()
    (whole,) = tally(read(connection, rows, "rows"), plans)
    apart = tally(read(connection, rows, "rows"), plans, groups=5)
    for name in ("x", "word"):
        merged = merge(one[name] for one in reversed(apart))
        assert merged is not None
        assert merged.to_bytes() == whole[name].to_bytes()
    for group, found in enumerate(apart):
        mask = pa.compute.equal(rows.column(GROUP), group)
        (alone,) = tally(read(connection, rows.filter(mask), f"group_{group}"), plans)
        assert {name: p.to_bytes() for name, p in alone.items()} == {name: p.to_bytes() for name, p in found.items()}


def test_what_is_not_of_the_columns_type_is_told_from_what_is_missing() -> None:
    rows = mixed(3000)
    (found,) = tally(read(connect(), rows, "rows"), [Plan("x", Kind.NUMERIC, Grid.unit())])
    wrong = int(np.sum(rows.column(invalid("x")).to_numpy()))
    assert found["x"].special(INVALID) == wrong
    assert found["x"].special(NULL) == rows.column("x").null_count - wrong


def test_an_engines_query_gives_the_same_profiles() -> None:
    rows = mixed(2000).select(["x", "word"])
    plans = [
        Plan("x", Kind.NUMERIC, Grid.fit(np.random.default_rng(1).normal(size=1000)), (7.0,)),
        Plan("word", Kind.CATEGORICAL, None, ("b",)),
    ]
    table = read(connect(), rows, "rows")
    (found,) = tally(table, plans)
    assert {part.column: part.profile.to_bytes() for part in summarise(table, plans)} == {
        name: profile.to_bytes() for name, profile in found.items()
    }


def crowd(rows: int = 6000, values: int = 4000) -> pa.Table:
    """A few frequent values and very many rare ones, very long ones and missing ones among them, in three groups."""
    rng = np.random.default_rng(5)
    names = [None, *(f"{i:x}" * (200 if i % 50 == 7 else 1) for i in range(1, values))]
    weights = 1 / np.arange(1, values + 1)
    drawn = rng.choice(values, rows, p=weights / weights.sum())
    return pa.table({"x": pa.array([names[i] for i in drawn]), GROUP: rng.integers(0, 3, rows)})


@pytest.mark.parametrize("few", [0, 20_000])
@pytest.mark.parametrize("known", [(), None, tuple(f"{i:x}" for i in range(1, 300))])
def test_very_many_values_are_folded_in_the_engine_as_here(
    few: int, known: tuple[str, ...] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tallies, "FEW", few)
    for name, value in {"KNOWN": 300, "STRANGERS": 50}.items():
        monkeypatch.setattr(profiles, name, value)
    rows, connection = crowd(), connect()
    table = read(connection, rows, "rows")
    plans = [Plan("x", Kind.CATEGORICAL, None, known=known)]
    values, groups = rows.column("x").to_pylist(), rows.column(GROUP).to_pylist()
    whole = profile_of(values, known=known)
    assert whole.others
    assert tally(table, plans)[0]["x"].to_bytes() == whole.to_bytes()
    assert summarise(table, plans)[0].profile.to_bytes() == whole.to_bytes()
    for group, found in enumerate(tally(table, plans, groups=3)):
        own = [value for value, at in zip(values, groups, strict=True) if at == group]
        assert found["x"].to_bytes() == profile_of(own, known=known).to_bytes()
    assert connection.con.execute("SELECT table_name FROM duckdb_tables()").fetchall() == []
