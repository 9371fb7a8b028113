"""Comparing two tables: the same from every source, right numbers, few false alarms, clear words."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import ibis
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet
import pytest
from scipy.stats import binom, ks_2samp, wasserstein_distance

from watchkeeper.comparison import Comparison, compare, looks
from watchkeeper.comparison.baselines import Baseline, default_model, profile
from watchkeeper.comparison.findings import Look
from watchkeeper.errors import ConfigError, DataError
from watchkeeper.monitors import plan
from watchkeeper.profiles import Subject
from watchkeeper.records import Status
from watchkeeper.schema import ColumnConfig, Kind, ModelConfig, MonitorConfig
from watchkeeper.stats.grid import INVALID, NULL, Grid
from watchkeeper.testing import profile_of

POINT = {
    "column", "segment", "metric", "value", "low", "high", "limit", "n_current", "n_baseline", "breach", "severity",
    "sentence", "reason", "since",
}  # fmt: skip


def frame(rows: int, seed: int, shift: float = 0.0) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "temp": random.normal(15 + shift, 8, rows),
            "month": random.integers(1, 13, rows),
            "wind speed": np.where(random.random(rows) < 0.1, np.nan, random.gamma(2, 3, rows)),
            "origin": random.choice(["EWR", "JFK", "LGA"], rows, p=[0.3, 0.4, 0.3]),
            "wet": random.random(rows) < 0.2,
        }
    )


def found(comparison: Comparison, column: str, metric: str) -> Look:
    return next(look for look in comparison.points if (look.column, look.metric) == (column, metric))


def breached(comparison: Comparison) -> set[tuple[str, str]]:
    return {(look.column, look.metric) for look in comparison.breaches}


# The same from every source


def written(kind: str, data: pd.DataFrame, folder: Path) -> Any:
    folder.mkdir()
    half = len(data) // 2
    match kind:
        case "pandas":
            return data
        case "polars":
            return pl.from_pandas(data)
        case "arrow":
            return pa.Table.from_pandas(data, preserve_index=False)
        case "csv":
            data.to_csv(folder / "all.csv", index=False)
            return str(folder / "all.csv")
        case "compressed csv":
            data.to_csv(folder / "all.csv.gz", index=False)
            return folder / "all.csv.gz"
        case "parquet":
            data.to_parquet(folder / "all.parquet", index=False)
            return folder / "all.parquet"
        case "folder":
            data[:half].to_parquet(folder / "a.parquet", index=False)
            data[half:].to_parquet(folder / "b.parquet", index=False)
            return folder
    data[:half].to_csv(folder / "a.csv", index=False)
    data[half:].to_csv(folder / "b.csv", index=False)
    return folder / "*.csv"


@pytest.mark.parametrize("kind", ["polars", "arrow", "csv", "compressed csv", "parquet", "folder", "glob"])
def test_every_source_gives_the_same(kind: str, tmp_path: Path) -> None:
    before, after = frame(1000, 1), frame(700, 2, shift=6)
    expected = compare(before, after).to_dict()
    given = compare(written(kind, before, tmp_path / "before"), written(kind, after, tmp_path / "after")).to_dict()
    assert given == expected
    assert not expected["healthy"]


def test_sources_of_two_kinds_mix(tmp_path: Path) -> None:
    before, after = frame(1000, 1), frame(700, 2)
    assert compare(written("csv", before, tmp_path / "x"), pl.from_pandas(after)).to_dict() == (
        compare(before, after).to_dict()
    )


def test_the_order_of_rows_and_columns_does_not_matter() -> None:
    before, after = frame(1000, 1), frame(700, 2, shift=6)
    mixed = compare(
        before.sample(frac=1, random_state=3), after.sample(frac=1, random_state=4)[[*reversed(after.columns)]]
    )
    assert mixed.to_dict() == compare(before, after).to_dict()


def test_the_same_twice_is_healthy() -> None:
    data = frame(1000, 1)
    comparison = compare(data, data)
    assert comparison.healthy
    assert comparison.breaches == ()
    assert all(abs(look.value or 0) < 1e-9 for look in comparison.points)


# Known answers


@pytest.mark.parametrize("shape", ["normal", "lognormal", "two modes", "whole numbers"])
def test_distances_are_those_of_the_raw_values(shape: str) -> None:
    random = np.random.default_rng(5)
    draw: dict[str, Callable[[int, float], np.ndarray]] = {
        "normal": lambda n, d: random.normal(15 + d, 8, n),
        "lognormal": lambda n, d: random.lognormal(5 + d / 10, 1, n),
        "two modes": lambda n, d: np.where(random.random(n) < 0.3, random.normal(d, 1, n), random.normal(50, 2, n)),
        "whole numbers": lambda n, d: np.floor(random.gamma(3 + d, 10, n)),
    }
    before, after = draw[shape](20_000, 0.0), draw[shape](8_000, 1.0)
    comparison = compare(pd.DataFrame({"x": before}), pd.DataFrame({"x": after}))
    assert found(comparison, "x", "ks").value == pytest.approx(ks_2samp(before, after).statistic, abs=0.005)
    exact = wasserstein_distance(before, after) / before.std()
    assert found(comparison, "x", "wasserstein").value == pytest.approx(exact, abs=0.01)


def test_psi_is_that_of_the_deciles_of_the_reference() -> None:
    random = np.random.default_rng(6)
    before, after = random.normal(0, 1, 50_000), random.normal(0.6, 1.2, 50_000)
    edges = np.quantile(before, np.linspace(0, 1, 11)[1:-1])
    q = np.bincount(np.searchsorted(edges, before), minlength=10) / len(before)
    p = np.bincount(np.searchsorted(edges, after), minlength=10) / len(after)
    exact = float(((p - q) * np.log(p / q)).sum())
    comparison = compare(pd.DataFrame({"x": before}), pd.DataFrame({"x": after}))
    assert found(comparison, "x", "psi").value == pytest.approx(exact, rel=0.01)


def test_shares_are_exact() -> None:
    before = pd.DataFrame({"x": [1.0, 2.0, 3.0, 4.0] * 50, "c": ["a", "b"] * 100})
    after = pd.DataFrame({"x": [1.0, None, -999.0, 4.0] * 50, "c": ["a", "b", "z", None] * 50})
    comparison = compare(before, after)
    assert found(comparison, "x", "null_rate").value == 0.25
    assert found(comparison, "x", "sentinel_rate").value == 0.25
    assert found(comparison, "x", "sentinel_rate").detail["values"] == {"-999": 50}
    assert found(comparison, "c", "null_rate").value == 0.25
    assert found(comparison, "c", "new_category").value == pytest.approx(1 / 3)
    assert found(comparison, "c", "new_category").detail["values"] == {"z": 50}


# False alarms and power

Draw = Callable[[np.random.Generator, int], Any]


def words(count: int, power: float) -> Draw:
    p = 1 / np.arange(1, count + 1) ** power
    return lambda random, n: [f"v{i}" for i in random.choice(count, n, p=p / p.sum())]


NUMERIC: tuple[Draw, ...] = (
    lambda random, n: random.normal(15, 8, n),
    lambda random, n: random.lognormal(5, 1.5, n),
    lambda random, n: random.exponential(1, n),
    lambda random, n: random.random(n),
    lambda random, n: np.where(random.random(n) < 0.3, random.normal(0, 1, n), random.normal(50, 2, n)),
    lambda random, n: random.integers(0, 100, n).astype(float),
    lambda random, n: random.poisson(3, n).astype(float),
    lambda random, n: random.integers(0, 1000, n).astype(float),
    lambda random, n: np.where(random.random(n) < 0.9, 0.0, random.gamma(2, 3, n)),
    lambda random, n: random.standard_cauchy(n),
    lambda random, n: np.where(random.random(n) < 0.2, np.nan, random.normal(size=n)),
    lambda random, n: random.binomial(1, 0.1, n).astype(float),
)
CATEGORICAL: tuple[Draw, ...] = (
    lambda random, n: [str(v) for v in random.choice(["a", "b", "c"], n, p=[0.6, 0.3, 0.1])],
    lambda random, n: ["true" if v else "false" for v in random.random(n) < 0.02],
    words(10, 1.0),
    words(50, 1.0),
    words(300, 1.0),
    words(60, 0.5),
    words(1000, 1.3),
    lambda random, n: [None if v < 0.1 else "x" for v in random.random(n)],
)
COLUMNS = {f"n{i}": ColumnConfig(kind=Kind.NUMERIC) for i in range(len(NUMERIC))} | {
    f"c{i}": ColumnConfig(kind=Kind.CATEGORICAL) for i in range(len(CATEGORICAL))
}
SIZES = [(n, m) for n in (50, 200, 1000) for m in (500, 5000)]


def subject(before: Any, after: Any, kind: Kind) -> Subject:
    """The counts, by the slow twin of what the engine does."""
    grid = None
    if kind is Kind.NUMERIC:
        grid = Grid.fit(np.asarray(before))
        before, after = ([None if np.isnan(v) else float(v) for v in side] for side in (before, after))
    return Subject(profile_of(after, grid), profile_of(before, grid), grid, 0.5, 1, 1, {}, {})


def judged(random: np.random.Generator, rows: int, reference_rows: int) -> list[Look]:
    """Twenty columns of which none changed."""
    subjects = {
        name: subject(draw(random, reference_rows), draw(random, rows), COLUMNS[name].kind)
        for name, draw in zip(COLUMNS, (*NUMERIC, *CATEGORICAL), strict=True)
    }
    return looks(plan(default_model(COLUMNS)), {"": subjects}, "", 0.05, raise_limits=True)


def test_the_twin_finds_what_the_engine_finds() -> None:
    random = np.random.default_rng(8)
    sides = [
        {name: draw(random, rows) for name, draw in zip(COLUMNS, (*NUMERIC, *CATEGORICAL), strict=True)}
        for rows in (500, 200)
    ]
    subjects = {name: subject(sides[0][name], sides[1][name], kind.kind) for name, kind in COLUMNS.items()}
    real = compare(*(pa.table(side) for side in sides))
    points = [look for look in real.points if not look.metric.startswith("duplicate")]
    budget = 0.05 * len(points) / len(real.points)
    twin = looks(plan(default_model(COLUMNS)), {"": subjects}, "", budget, raise_limits=True)
    assert {(p.column, p.metric): (p.limit, p.n_current, p.n_baseline, p.reason) for p in points} == {
        (p.column, p.metric): (p.limit, p.n_current, p.n_baseline, p.reason) for p in twin
    }
    for look in twin:
        known = found(real, look.column, look.metric)
        assert (known.value, known.low, known.high) == pytest.approx((look.value, look.low, look.high), abs=1e-9)


def test_unchanged_data_raises_few_false_alarms() -> None:
    random = np.random.default_rng(9)
    runs = [any(look.breach for look in judged(random, n, m)) for n, m in SIZES for _ in range(34)]
    assert len(runs) >= 200
    assert sum(runs) <= binom.ppf(0.999, len(runs), 0.05)


@pytest.mark.parametrize("rows", [1, 2, 5, 12])
def test_a_few_rows_raise_few_false_alarms(rows: int) -> None:
    random = np.random.default_rng(10)
    runs = [any(look.breach for look in judged(random, rows, m)) for m in (50, 500) for _ in range(30)]
    assert sum(runs) <= binom.ppf(0.999, len(runs), 0.05)


@pytest.mark.parametrize(
    ("column", "change", "metrics"),
    [
        ("n0", lambda v: v + 8, {"wasserstein", "psi", "ks", "jensen_shannon"}),
        ("n0", lambda v: np.where(np.arange(len(v)) % 5 == 0, np.nan, v), {"null_rate"}),
        ("n0", lambda v: np.where(np.arange(len(v)) % 20 == 0, -999, v), {"sentinel_rate"}),
        ("n0", lambda v: np.where(np.arange(len(v)) % 4 == 0, 100.5, v), {"out_of_range"}),
        ("c0", lambda v: ["z" if i % 10 == 0 else x for i, x in enumerate(v)], {"new_category"}),
        ("c0", lambda v: ["c" if i % 2 == 0 else x for i, x in enumerate(v)], {"psi", "jensen_shannon"}),
    ],
)
def test_a_change_is_found_among_twenty_columns(column: str, change: Any, metrics: set[str]) -> None:
    random = np.random.default_rng(11)
    subjects = {}
    for name, draw in zip(COLUMNS, (*NUMERIC, *CATEGORICAL), strict=True):
        before, after = draw(random, 5000), draw(random, 1000)
        subjects[name] = subject(before, change(after) if name == column else after, COLUMNS[name].kind)
    taken = looks(plan(default_model(COLUMNS)), {"": subjects}, "", 0.05, raise_limits=True)
    breaches = {(look.column, look.metric) for look in taken if look.breach}
    assert {(column, metric) for metric in metrics} <= breaches
    assert {name for name, _ in breaches} == {column}


def test_the_limits_give_way_to_a_small_reference() -> None:
    small, large = (compare(frame(rows, 1), frame(500, 2)) for rows in (60, 20_000))
    assert found(large, "temp", "out_of_range").limit == 0.01
    assert found(small, "temp", "out_of_range").limit > 0.01  # type: ignore[operator]
    assert found(small, "origin", "new_category").limit > 0.001  # type: ignore[operator]


def test_false_alarms_are_shared_out() -> None:
    before, after = frame(2000, 1), frame(500, 2, shift=2.5)
    strict = found(compare(before, after, false_alarms=0.0001), "temp", "wasserstein")
    loose = found(compare(before, after, false_alarms=0.2), "temp", "wasserstein")
    assert strict.low < loose.low  # type: ignore[operator]


@pytest.mark.parametrize("share", [0, 1, -0.1, 5])
def test_a_share_of_false_alarms_lies_between_0_and_1(share: float) -> None:
    with pytest.raises(ConfigError, match="false_alarms must lie between 0 and 1"):
        compare(frame(10, 1), frame(10, 2), false_alarms=share)


# Columns of every kind


def test_what_cannot_be_compared_is_left_out_with_a_reason() -> None:
    data = frame(400, 1).assign(
        id=[f"r{i}" for i in range(400)],
        row=range(7, 407),
        nothing=None,
        tags=[["a"]] * 400,
        code=[f"k{i % 100}" for i in range(400)],
    )
    comparison = compare(data, data)
    assert dict(comparison.skipped) == {
        "id": "an id: 400 different values in 400 rows of the reference",
        "row": "an id: 400 different whole numbers in 400 rows of the reference",
        "nothing": "the reference holds no value of it",
        "tags": "array columns are not compared",
    }
    assert "code" in {look.column for look in comparison.points}


def test_a_missing_column_is_a_breach_of_its_own() -> None:
    comparison = compare(frame(300, 1), frame(300, 2).drop(columns="temp"))
    assert breached(comparison) == {("temp", "missing_column")}
    assert comparison.to_dict()["breaches"] == [
        {
            "column": "temp", "segment": "", "metric": "missing_column", "value": None, "low": None, "high": None,
            "limit": None, "n_current": 300, "n_baseline": 300, "breach": True,
            "severity": "major",
            "sentence": "column is missing from the current data",
                "reason": "column is missing from the current data", "since": None,
        }
    ]  # fmt: skip


def test_an_extra_column_is_told_and_no_breach() -> None:
    comparison = compare(frame(300, 1), frame(300, 1).assign(new=1))
    assert comparison.extra_columns == ("new",)
    assert comparison.healthy


def test_only_the_columns_asked_for_are_compared() -> None:
    comparison = compare(frame(300, 1), frame(300, 2).drop(columns="month"), columns=["temp", "wet"])
    assert {look.column for look in comparison.points} == {"temp", "wet"}


def test_text_that_reads_as_numbers_is_taken_as_numbers() -> None:
    before, after = frame(500, 1), frame(400, 2)
    as_text = after.assign(temp=[f" {v!r}" for v in after["temp"]], month=after["month"].astype(str))
    as_text.loc[0, "month"] = ""
    after = after.astype({"month": float})
    after.loc[0, "month"] = np.nan
    assert compare(before, as_text).to_dict() == compare(before, after).to_dict()


def test_what_is_no_number_is_counted_and_the_rest_is_compared() -> None:
    after = frame(100, 2)
    as_text = after.assign(temp=after["temp"].map(repr))
    as_text.loc[[16, 40, 41], "temp"] = ["abc", "n/a", " "]
    comparison = compare(frame(100, 1), as_text)
    counts = comparison.subjects["temp"].current
    assert counts is not None
    assert (counts.special(INVALID), counts.special(NULL), counts.n) == (2, 1, 100)
    assert found(comparison, "temp", "ks").n_current == 97


def test_dates_in_a_numeric_column_are_no_numbers() -> None:
    counts = compare(frame(100, 1), frame(100, 2).assign(temp=pd.Timestamp("2013-07-04"))).subjects["temp"].current
    assert counts is not None
    assert counts.special(INVALID) == counts.n == 100


MIDNIGHT = pd.Timestamp("2024-03-01")


def test_moments_are_compared_but_for_what_moves_on_by_nature() -> None:
    before = pd.DataFrame({"when": MIDNIGHT + pd.to_timedelta(np.arange(400), unit="h")})
    after = before + pd.Timedelta(days=30)
    after.loc[:99, "when"] = pd.Timestamp("1900-01-01")
    for current in (
        after,
        after.assign(when=after["when"].astype(str)),
        after.assign(when=after["when"].dt.tz_localize("UTC")),
    ):
        comparison = compare(before, current)
        assert breached(comparison) == {("when", "sentinel_rate")}
        assert found(comparison, "when", "sentinel_rate").value == 0.25
        subject = comparison.subjects["when"]
        assert subject.baseline is not None
        assert subject.baseline.low == MIDNIGHT.timestamp()
    named = MonitorConfig(name="when", metric="ks", columns=("when",), above=0.1)
    config = ModelConfig(columns={"when": ColumnConfig(kind=Kind.DATETIME)}, monitors=(named,))
    assert breached(compare(before, after, config=config)) == {("when", "ks")}


def test_durations_and_times_of_day_are_compared_as_seconds() -> None:
    chance = np.random.default_rng(1)
    seconds = chance.integers(0, 80_000, 2000)
    at = pa.array(seconds.astype("int32"), pa.time32("s"))
    before = pa.table({"took": pa.array(seconds, pa.duration("s")), "at": at})
    after = pa.table({"took": pa.array(seconds // 2, pa.duration("s")), "at": at})
    comparison = compare(before, after)
    assert {column for column, _ in breached(comparison)} == {"took"}
    profile = comparison.subjects["at"].baseline
    assert profile is not None
    assert (profile.low, profile.high) == (seconds.min(), seconds.max())


def test_free_text_is_compared_by_its_descriptors() -> None:
    chance = np.random.default_rng(1)
    words = np.array(["late", "parcel", "again", "thanks", "where", "is", "my", "order", "42"])

    def comments(rows: int, of: int) -> list[str]:
        return [" ".join(chance.choice(words, of + chance.integers(0, 9))) for _ in range(rows)]

    before, same, longer = ({"note": comments(1000, of)} for of in (4, 4, 9))
    foreign = {"note": ["où est mon colis, il n’est pas arrivé à l’école"] * 200 + same["note"][200:]}
    assert compare(pa.table(before), pa.table(same)).healthy
    assert {"note.length", "note.words"} <= {
        column for column, _ in breached(compare(pa.table(before), pa.table(longer)))
    }
    assert "note.non_ascii" in {column for column, _ in breached(compare(pa.table(before), pa.table(foreign)))}


@pytest.mark.parametrize("kind", [bool, int, float, object])
def test_truth_values_are_known_in_every_dress(kind: type) -> None:
    before = pd.DataFrame({"wet": [True, False, False] * 100})
    after = before.astype({"wet": kind})
    assert compare(before, after).healthy
    assert found(compare(before, after), "wet", "psi").value == 0


def test_codes_that_became_fractions_are_the_same_codes() -> None:
    columns = {"code": ColumnConfig(kind=Kind.CATEGORICAL, missing=(-1,))}
    before = pd.DataFrame({"code": [1, 2, 3, -1] * 100})
    after = pd.DataFrame({"code": [1.0, 2.0, 3.0, None] * 100})
    comparison = compare(before, after, config=ModelConfig(columns=columns))
    assert comparison.healthy
    assert found(comparison, "code", "null_rate").value == 0


def test_names_of_every_kind_are_taken() -> None:
    names = [
        'a "quoted" name',
        "it's",
        "größe 🌡",
        "select",
        "score",
        "label",
        "version",
        "<b>",
        "a.b",
        " x ",
        "c0",
        "%",
    ]
    random = np.random.default_rng(3)
    before = pd.DataFrame({name: random.normal(size=300) for name in names})
    comparison = compare(before, before + 2)
    assert {look.column for look in comparison.breaches} == set(names)


UGLY: dict[str, list[Any]] = {
    "all null now": [None] * 50,
    "constant": [3.0] * 50,
    "another constant": [4.0] * 50,
    "one row": [3.0],
    "infinite": [float("inf"), float("-inf")] * 25,
    "not a number": [float("nan")] * 50,
    "huge": [1e308, -1e308] * 25,
    "tiny": [5e-324] * 50,
}


@pytest.mark.parametrize("current", UGLY)
@pytest.mark.parametrize("reference", ["constant", "one row", "infinite", "huge", "normal"])
def test_ugly_numbers_are_survived(reference: str, current: str) -> None:
    random = np.random.default_rng(2)
    sides = UGLY | {"normal": random.normal(size=50).tolist()}
    before, after = (pa.table({"x": pa.array(sides[side], pa.float64())}) for side in (reference, current))
    comparison = compare(before, after)
    json.loads(comparison.to_json())
    assert all(look.breach is (look.status is Status.BREACH) for look in comparison.points)
    if reference == current:
        assert comparison.healthy


@pytest.mark.parametrize("current", [[None] * 50, ["x"] * 50, ["y"], ["", " "] * 25, ["x", None] * 25])
def test_ugly_texts_are_survived(current: list[str | None]) -> None:
    comparison = compare(pa.table({"c": ["x", "y"] * 25}), pa.table({"c": pa.array(current, pa.string())}))
    json.loads(comparison.to_json())


def test_a_column_that_lost_all_its_values_is_a_breach() -> None:
    assert ("temp", "null_rate") in breached(compare(frame(500, 1), frame(500, 2).assign(temp=np.nan)))


def test_infinities_are_out_of_range() -> None:
    after = frame(500, 2)
    after.loc[after.index % 4 == 0, "temp"] = np.inf
    assert ("temp", "out_of_range") in breached(compare(frame(500, 1), after))


# With a configuration

YAML = """\
models:
  flights:
    columns:
      temp: {kind: numeric}
      origin: {kind: categorical}
    monitors:
      - {name: moved, metric: wasserstein, columns: features, above: 0.2}
      - {name: median, metric: p50, columns: [temp], above: 1.5, relative: ratio}
      - {name: log loss, metric: log_loss, above: 0.6}
      - {name: prediction drift, metric: psi, columns: [score], above: 0.1}
      - {name: errors, metric: error_rate, above: 0.02}
"""


@pytest.fixture
def yaml(tmp_path: Path) -> Path:
    path = tmp_path / "watchkeeper.yaml"
    path.write_text(YAML, encoding="utf-8")
    return path


def test_the_monitors_of_a_configuration_are_used(yaml: Path) -> None:
    comparison = compare(frame(500, 1), frame(500, 2, shift=12), config=yaml)
    assert {(look.column, look.metric) for look in comparison.points} == {("temp", "wasserstein"), ("temp", "p50")}
    assert found(comparison, "temp", "wasserstein").limit == 0.2
    assert breached(comparison) == {("temp", "wasserstein"), ("temp", "p50")}


def test_what_needs_labels_or_the_live_service_is_left_out(yaml: Path) -> None:
    comparison = compare(frame(500, 1), frame(500, 2), config=str(yaml))
    assert dict(comparison.skipped) == {
        'monitor "log loss"': "log loss needs labels, which a comparison of tables does not have",
        'monitor "prediction drift"': 'the reference has no column "score"',
        'monitor "errors"': "error rate is of the live service",
    }


def test_scores_are_compared_where_both_tables_have_them(yaml: Path) -> None:
    before, after = (frame(800, seed).assign(score=np.linspace(0, top, 800)) for seed, top in ((1, 1.0), (2, 0.5)))
    assert ("score", "psi") in breached(compare(before, after, config=yaml))


def test_a_limit_in_a_configuration_is_taken_as_it_stands() -> None:
    monitor = MonitorConfig(name="new", metric="new_category", columns="features", above=0.0, min_rows=1)
    model = ModelConfig(columns={"c": ColumnConfig(kind=Kind.CATEGORICAL)}, monitors=(monitor,))
    comparison = compare(pa.table({"c": ["a"] * 60}), pa.table({"c": ["a", "b"] * 30}), config=model)
    assert found(comparison, "c", "new_category").limit == 0.0
    assert not comparison.healthy


def test_several_models_are_too_many(yaml: Path) -> None:
    yaml.write_text(YAML + "  trains:\n    columns: {delay: {kind: numeric}}\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"has 2 models \(flights, trains\)"):
        compare(frame(10, 1), frame(10, 2), config=yaml)


def test_a_column_that_the_reference_lacks_is_told(yaml: Path) -> None:
    with pytest.raises(DataError, match=r'has a column "temp" and the reference has none; did you mean "tempo"\?'):
        compare(frame(10, 1).rename(columns={"temp": "tempo"}), frame(10, 2), config=yaml)


def test_the_configuration_is_named_by_its_content(yaml: Path) -> None:
    first, again = (compare(frame(300, 1), frame(300, seed), config=yaml).config for seed in (2, 3))
    other = compare(frame(300, 1), frame(300, 2)).config
    assert first == again != other
    assert first.startswith("config-")


# What cannot be compared


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"there is no file .*x\.csv"):
        compare(tmp_path / "x.csv", frame(10, 1))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty: it has no header and no rows"),
        ("temp,month\n", "the current data has no rows"),
        ("temp,month\n1,2\n1,2,3\n", "not all of its rows have the same number of fields"),
        ("other\n1\n", "there is nothing to compare: the reference has temp"),
    ],
)
def test_a_file_that_holds_nothing_to_compare_is_told(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "current.csv"
    path.write_text(text, encoding="utf-8")
    before = frame(10, 1)[["temp", "month"]]
    with pytest.raises(DataError, match=said):
        compare(before, path)


def test_a_file_that_is_not_utf_8_is_told(tmp_path: Path) -> None:
    path = tmp_path / "latin.csv"
    path.write_bytes("name,n\nJosé,1\n".encode("latin-1"))
    with pytest.raises(DataError, match="not utf-8"):
        compare(path, path)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (pa.table([[1], [2]], names=["a", "a"]), 'two columns, "a" and "a"'),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), "cannot be read: Expected unique column names"),
        (pd.DataFrame({"a": [1], "A": [2]}), 'two columns, "a" and "A"'),
        ({"a": [1]}, "is a dict, which cannot be read"),
        (pd.DataFrame({"a": []}), "has no rows"),
        (pd.DataFrame(), "has no columns"),
        (pd.DataFrame({"tags": [["a"]]}), "there is nothing to compare"),
    ],
)
def test_a_table_that_cannot_be_compared_is_told(data: Any, said: str) -> None:
    with pytest.raises(DataError, match=said):
        compare(data, data)


def test_an_unknown_column_is_told_with_the_nearest() -> None:
    with pytest.raises(DataError, match=r'the reference has no column "tmep"; did you mean "temp"\?'):
        compare(frame(10, 1), frame(10, 2), columns=["tmep"])


def test_types_that_show_late_in_a_file_are_seen(tmp_path: Path) -> None:
    path = tmp_path / "late.csv"
    path.write_text("a,b\n" + "1,\n" * 25_000 + "1.5,2\n" * 5_000, encoding="utf-8")
    comparison = compare(path, path)
    assert found(comparison, "a", "ks").value == 0
    assert found(comparison, "b", "ks").n_current == 5_000


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"columns": "temp"}, r'columns are a list of names, found "temp"; write \["temp"\]'),
        ({"importance": ["temp"]}, r"importance is a list; give each column its weight: \{name: weight, ...\}"),
        ({"config": {"models": {}}}, "config is a dict; give the path of a configuration, or a ModelConfig"),
        ({"false_alarms": "few"}, "false_alarms must lie between 0 and 1, found 'few'"),
    ],
)
def test_an_argument_of_another_type_is_told(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        compare(frame(10, 1), frame(10, 2), **given)


# What it says


def test_the_rows_are_the_contract() -> None:
    told = json.loads(compare(frame(500, 1), frame(500, 2, shift=8)).to_json())
    assert {"healthy", "breaches", "points", "config"} <= told.keys()
    assert all(point.keys() == POINT for point in told["points"])
    assert told["breaches"] == [point for point in told["points"] if point["breach"]]
    assert told["points"][0]["breach"], "breaches come first"
    assert told["points"][0]["reason"] == "the whole interval lies outside the limit"
    assert told["healthy"] is False


def test_it_shows_itself_as_text() -> None:
    text = repr(compare(frame(500, 1), frame(500, 2, shift=8)))
    assert text.startswith("1 of 5 columns breaches a limit: temp.\n  temp: the values moved by ")
    assert repr(compare(frame(500, 1), frame(500, 1))) == "No limit is breached: 48 looks at 5 columns."


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"temp": np.nan}, "100 % of the rows have no value, 0 % in the reference"),
        ({"temp": -999.0}, "100 % of the rows hold -999, which often means “unknown”"),
        ({"origin": "ZZ"}, "100 % of the values are not in the reference: “ZZ” (500)"),
    ],
)
def test_a_breach_is_told_in_words(change: dict[str, Any], sentence: str) -> None:
    comparison = compare(frame(500, 1), frame(500, 2).assign(**change))
    assert any(look.sentence.replace("\u202f", " ").startswith(sentence) for look in comparison.breaches)


def test_json_is_written(tmp_path: Path) -> None:
    comparison = compare(frame(100, 1), frame(100, 2))
    comparison.save_json(tmp_path / "found.json")
    assert json.loads((tmp_path / "found.json").read_text(encoding="utf-8")) == comparison.to_dict()


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be written: No such file or directory"):
        compare(frame(100, 1), frame(100, 2)).save_json(tmp_path / "nowhere" / "found.json")


# Importance


def test_important_columns_come_first_and_weigh_more() -> None:
    before, after = frame(500, 1), frame(500, 2, shift=8).assign(origin="ZZ")
    plain = compare(before, after)
    assert plain.columns[:2] == ("origin", "temp")
    assert plain.drifted_share == 2 / 5
    assert plain.weighted_drifted_share is None
    weighed = compare(before, after, importance={"wet": 5, "temp": 3, "month": 0, "origin": 2.0})
    assert weighed.columns[:3] == ("wet", "temp", "origin")
    assert weighed.drifted == ("temp", "origin")
    assert weighed.weighted_drifted_share == pytest.approx(0.5)
    assert weighed.points == plain.points, "importance moves no limit"
    assert weighed.to_dict()["weighted_drifted_share"] == pytest.approx(0.5)


def test_missing_values_alone_are_no_drift() -> None:
    comparison = compare(frame(500, 1), frame(500, 1).assign(temp=np.nan), importance={"temp": 1})
    assert breached(comparison) == {("temp", "null_rate")}
    assert comparison.drifted == ()
    assert comparison.weighted_drifted_share == 0


@pytest.mark.parametrize(
    ("importance", "said"),
    [
        ({"tmep": 1}, 'importance has a column "tmep" and the reference has none; did you mean "temp"?'),
        ({"temp": -1}, 'the importance of "temp" must be a number from 0 on, found -1'),
        ({"temp": float("nan")}, "must be a number from 0 on, found nan"),
        ({"temp": "much"}, "must be a number from 0 on, found 'much'"),
    ],
)
def test_a_wrong_importance_is_refused(importance: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(said)):
        compare(frame(10, 1), frame(10, 2), importance=importance)


# Time


def timed(rows: int, seed: int, start: str, days: float) -> pd.DataFrame:
    """Rows that are evenly spread over some days."""
    at = pd.Timestamp(start) + pd.to_timedelta(np.arange(rows) * days / rows, unit="D").round("s")
    return frame(rows, seed).assign(ts=at)


def spoilt(data: pd.DataFrame, since: str) -> pd.DataFrame:
    late = data["ts"] >= since
    return data.assign(
        temp=data["temp"] + 8 * late,
        origin=data["origin"].where(~late | (data.index % 3 > 0), "ZZ"),
        **{"wind speed": data["wind speed"].where(~late | (data.index % 3 > 0))},
    )


def test_since_when_a_limit_is_breached_is_told() -> None:
    before, after = timed(3000, 1, "2024-01-01", 60), timed(3000, 2, "2024-03-01", 40)
    comparison = compare(before, spoilt(after, "2024-03-21"), timestamp="ts")
    assert {look.column for look in comparison.breaches} == {"temp", "wind speed", "origin"}
    began = datetime(2024, 3, 21, tzinfo=UTC)
    assert all(look.since and abs(look.since - began).days <= 1 for look in comparison.breaches)
    moved = found(comparison, "temp", "wasserstein")
    assert moved.sentence.endswith(", since 2024-03-21 UTC")
    assert all(look.since is None for look in comparison.points if not look.breach)
    assert moved.to_dict()["since"] == "2024-03-21T00:00:00+00:00"


def test_a_time_changes_no_figure() -> None:
    before, after = timed(2000, 1, "2024-01-01", 60), spoilt(timed(2000, 2, "2024-03-01", 40), "2024-03-21")
    plain = compare(before, after.assign(ts=after["ts"] - pd.Timedelta("60D")))
    cut = compare(before, after.assign(ts=after["ts"] - pd.Timedelta("60D")), timestamp="ts")
    assert plain.timestamp == ""
    assert [replace(look, since=None).to_dict() for look in cut.points] == [look.to_dict() for look in plain.points]
    subject = cut.subjects["temp"]
    assert sum(part.n for _, part in subject.parts) == subject.n
    assert [start for start, _ in subject.parts] == sorted(start for start, _ in subject.parts)


def test_the_only_time_serves_where_the_current_data_follow() -> None:
    before, after = timed(600, 1, "2024-01-01", 60), timed(600, 2, "2024-03-01", 40)
    assert compare(before, after).timestamp == "ts"
    assert compare(after, before).timestamp == ""
    assert compare(before.assign(born=before["ts"]), after.assign(born=after["ts"])).timestamp == ""


@pytest.mark.parametrize("days", [0.02, 0.5, 5, 30, 300, 1500, 9000])
def test_time_is_cut_into_a_few_whole_periods(days: float) -> None:
    after = timed(700, 2, "2024-03-01", days)
    late = after.assign(ts=after["ts"].where(after.index % 7 > 0))
    comparison = compare(frame(700, 1), late, timestamp="ts")
    parts = comparison.subjects["temp"].parts
    assert 10 <= len(parts) <= 60
    assert sum(part.n for _, part in parts) == 600, "rows without a time are in no period"
    assert comparison.subjects["temp"].n == 700


def test_times_as_text_and_with_zones_are_read() -> None:
    after = timed(600, 2, "2024-03-01", 40)
    expected = [start for start, _ in compare(frame(600, 1), after, timestamp="ts").subjects["temp"].parts]
    for dressed in (after.assign(ts=after["ts"].astype(str)), after.assign(ts=after["ts"].dt.tz_localize("UTC"))):
        found = compare(frame(600, 1), dressed, timestamp="ts").subjects["temp"].parts
        assert [start for start, _ in found] == expected


@pytest.mark.parametrize(
    ("timestamp", "said"),
    [
        ("tss", 'the current data has no column "tss" to take the time from; did you mean "ts"?'),
        ("temp", "should say when each row was made and holds float64 values"),
        ("origin", "should say when each row was made and holds no date or time"),
    ],
)
def test_a_wrong_time_is_refused(timestamp: str, said: str) -> None:
    with pytest.raises(DataError, match=re.escape(said)):
        compare(frame(50, 1), timed(50, 2, "2024-03-01", 40), timestamp=timestamp)


def test_columns_of_very_many_values_are_compared_and_kept_small(tmp_path: Path) -> None:
    rng = np.random.default_rng(7)

    def zips(*gone: int) -> pa.Table:
        drawn = np.minimum((rng.pareto(0.7, 60_000) * 10).astype(int), 30_000)
        return pa.table({"zip": [f"{i:05}" for i in drawn[~np.isin(drawn, gone)]]})

    kept = profile(zips())
    kept.save(tmp_path / "zips.baseline")
    assert (tmp_path / "zips.baseline").stat().st_size < 20_000
    again = Baseline.load(tmp_path / "zips.baseline")
    assert not compare(again, zips()).breaches
    found = compare(again, zips(0, 1, 2))
    assert {point.column for point in found.breaches} == {"zip"}
    found.save_html(tmp_path / "zips.html")
    shown = (tmp_path / "zips.html").read_text()
    assert "All others, together" in shown
    assert "vanished" in shown


def test_few_rows_are_called_unsure_only_where_they_show_more_than_noise() -> None:
    chance = np.random.default_rng(1)

    def rows(n: int) -> pa.Table:
        numbers = {f"x{i}": chance.normal(size=n) for i in range(10)}
        return pa.table(numbers | {f"c{i}": chance.choice(["a", "b", "c"], n) for i in range(5)})

    reference = rows(5000)
    for n, most in ((1, 0), (20, 4), (100, 4)):
        unsure = [look for look in compare(reference, rows(n)).points if look.unsure]
        assert len(unsure) <= most, [(look.column, look.metric, look.value) for look in unsure]
    moved = rows(20).set_column(0, "x0", pa.array(chance.normal(0.8, 1, 20)))
    assert "x0" in {look.column for look in compare(reference, moved).points if look.unsure or look.breach}


def test_ibis_tables_and_relations_compare_like_the_rows_that_they_are() -> None:
    before, after = (pa.Table.from_pandas(frame(300, seed), preserve_index=False) for seed in (1, 2))
    connection = ibis.duckdb.connect()
    connection.con.register("after", after)
    expected = compare(before, after).to_dict()
    for dressed in (ibis.memtable(after), connection.table("after"), duckdb.connect().from_arrow(after)):
        assert compare(before, dressed).to_dict() == expected
