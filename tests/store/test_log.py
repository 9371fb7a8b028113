"""The log: every event once, whatever order and shape it comes in, and counts that equal a recount by hand."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from watchkeeper import events, profiles
from watchkeeper.errors import DataError, StateError
from watchkeeper.profiles import Profile, merge
from watchkeeper.records import ALL
from watchkeeper.schema import Kind, ModelConfig
from watchkeeper.segments import Segmentation
from watchkeeper.stats.grid import Grid
from watchkeeper.store import log as log_of_events
from watchkeeper.store.backends import Backend, DuckDB
from watchkeeper.store.fitting import table
from watchkeeper.store.layout import Appended, Batches
from watchkeeper.store.log import Log
from watchkeeper.store.postgres import Postgres
from watchkeeper.store.sources import Part, Plan
from watchkeeper.testing import profile_of
from watchkeeper.windows import DAY, HOUR, Window

NOON = datetime(2024, 3, 1, 12, tzinfo=UTC)
MIDNIGHT = NOON - 12 * HOUR
TODAY = Window(MIDNIGHT, MIDNIGHT + DAY)
UNIT = Grid.unit()
M = "churn"


def model(**columns: str) -> ModelConfig:
    kinds = columns or {"age": "numeric", "country": "categorical"}
    return ModelConfig.model_validate({"columns": {name: {"kind": kind} for name, kind in kinds.items()}})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store" / "log.duckdb"


@pytest.fixture(params=["duckdb", "postgres"])
def opened(request: pytest.FixtureRequest, path: Path) -> Iterator[Callable[[], Log]]:
    """Opens the one log of the test, again at each call."""
    if request.param == "duckdb":
        backend: Callable[[], Backend] = lambda: DuckDB(path)  # noqa: E731
    else:
        url = request.getfixturevalue("new_postgres")()
        backend = lambda: Postgres(url)  # noqa: E731
    logs: list[Log] = []

    def new() -> Log:
        logs.append(Log(backend()))
        logs[-1].open_model(M, model())
        return logs[-1]

    yield new
    for log in logs:
        log.close()


@pytest.fixture
def log(opened: Callable[[], Log]) -> Log:
    return opened()


def rows(ids: Sequence[str], at: datetime | Sequence[Any] = NOON, **columns: Any) -> pa.Table:
    times = [at] * len(ids) if isinstance(at, datetime) else at
    return table({"request_id": list(ids), "event_time": times, **columns})


def outcomes(ids: Sequence[str], labels: Sequence[Any], known_at: datetime = NOON) -> pa.Table:
    return table({"request_id": list(ids), "label": list(labels), "known_at": [known_at] * len(ids)})


def all_rows(log: Log, columns: str = "*", of: str = "predictions") -> list[tuple[Any, ...]]:
    return sorted(
        log.backend.rows(f'SELECT {columns} FROM "{of}_{M}"'),
        key=lambda row: [(value is None, value if value is not None else 0) for value in row],
    )


def aside(log: Log) -> set[tuple[str, str, str]]:
    return {row[:3] for row in all_rows(log, of="set_aside")}


# once each


def test_a_request_is_kept_once_however_often_it_is_sent(log: Log) -> None:
    first = log.append(M, rows("abc", age=[1.0, 2.0, 3.0]))
    assert first == Appended(stored=3, duplicates=0, set_aside=0)
    again = log.append(M, rows("abcd", age=[9.0, 9.0, 9.0, 4.0]))
    assert again == Appended(stored=1, duplicates=3, set_aside=0)
    assert all_rows(log, "request_id, age") == [("a", 1.0), ("b", 2.0), ("c", 3.0), ("d", 4.0)]


def test_a_request_is_kept_once_within_a_batch(log: Log) -> None:
    assert log.append(M, rows("aab", age=[1.0, 2.0, 3.0])) == Appended(stored=2, duplicates=1, set_aside=0)
    assert all_rows(log, "request_id, age") == [("a", 1.0), ("b", 3.0)], "the first of them"


def test_a_request_is_kept_once_though_its_hash_is_that_of_another(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("watchkeeper.store.backends._hash", lambda key: "7")
    assert log.append(M, rows("ab")).stored == 2
    assert log.append(M, rows("bc")) == Appended(stored=1, duplicates=1, set_aside=0)
    assert log.append_outcomes(M, outcomes("ab", [1, 0])).stored == 2
    assert log.append_outcomes(M, outcomes("ba", [1, 0], NOON + HOUR)).stored == 2


def test_an_outcome_is_kept_once_per_moment_at_which_it_was_known(log: Log) -> None:
    assert log.append_outcomes(M, outcomes("aab", [1, 1, 0])).stored == 2
    assert log.append_outcomes(M, outcomes("ab", [1, 0])) == Appended(0, 2, 0)
    assert log.append_outcomes(M, outcomes("a", [0], NOON + HOUR)).stored == 1


def test_only_what_was_stored_counts_as_an_arrival(log: Log) -> None:
    assert log.arrival(M) == 0
    log.append(M, rows("a"))
    assert log.arrival(M) == 1
    log.append(M, rows("a"))
    assert log.arrival(M) == 1
    log.append_outcomes(M, outcomes("a", [1]))
    assert log.arrival(M) == 2
    log.append(M, rows("b"))
    assert log.arrival(M) == 3


def test_an_empty_batch_changes_nothing(log: Log) -> None:
    assert log.append(M, rows([])) == Appended(0, 0, 0)
    assert log.append_outcomes(M, outcomes([], [])) == Appended(0, 0, 0)
    assert log.arrival(M) == 0


def test_models_do_not_share_their_rows(log: Log) -> None:
    log.open_model("other", model(age="numeric"))
    log.append(M, rows("a"))
    assert log.append("other", rows("a")).stored == 1
    assert log.totals("other") == {"predictions": 1, "labelled": 0, "orphans": 0, "set_aside": 0}


# what does not fit


def test_a_value_that_does_not_fit_its_column_is_set_aside_and_the_row_is_kept(log: Log) -> None:
    done = log.append(M, rows("abcd", age=[1.5, "old", None, "2"], score=["high", 0.5, None, 0.25]))
    assert done == Appended(stored=4, duplicates=0, set_aside=2)
    assert all_rows(log, "request_id, age, score") == [
        ("a", 1.5, None), ("b", None, 0.5), ("c", None, None), ("d", 2.0, 0.25),
    ]  # fmt: skip
    assert aside(log) == {("b", "age", "old"), ("a", "score", "high")}
    assert log.totals(M)["set_aside"] == 2


def test_columns_that_the_model_does_not_have_are_set_aside(log: Log) -> None:
    done = log.append(M, rows("ab", Age=[3, None], colour=["red", "blue"], arrival=[7, 7]))
    assert done.set_aside == 5
    assert aside(log) == {
        ("a", "Age", "3"), ("a", "colour", "red"), ("b", "colour", "blue"),
        ("a", "arrival", "7"), ("b", "arrival", "7"),
    }  # fmt: skip
    assert log.arrival(M) == 1


def test_what_is_set_aside_is_counted_once_however_often_it_is_sent(log: Log) -> None:
    batch = rows("a", age=["old"], colour=["red"])
    assert [log.append(M, batch).set_aside for _ in range(3)] == [2, 0, 0]


@pytest.mark.parametrize(
    ("values", "stored", "lost"),
    [
        ([1, 2.5, None], [1.0, 2.5, None], 0),
        ([True, False, None], [1.0, 0.0, None], 0),
        (["1", " 2.5 ", "1e3"], [1.0, 2.5, 1000.0], 0),
        (["NaN", "Infinity", "-Infinity"], [math.nan, math.inf, -math.inf], 0),
        ([math.nan, math.inf, -math.inf], [math.nan, math.inf, -math.inf], 0),
        ([10**400, 2**60 + 1, "x"], [math.inf, float(2**60), None], 1),
        ([[1], {"a": 1}, 5], [None, None, 5.0], 2),
        ([None, None, None], [None, None, None], 0),
    ],
)
def test_numbers_come_in_many_forms(log: Log, values: list[Any], stored: list[Any], lost: int) -> None:
    assert log.append(M, rows("abc", age=values)).set_aside == lost
    found = [row[0] for row in log.backend.rows(f"SELECT age FROM predictions_{M} ORDER BY request_id")]
    assert found == pytest.approx(stored, nan_ok=True)


@pytest.mark.parametrize(
    ("values", "stored"),
    [
        ([1, 2], ["1", "2"]),
        ([1.0, 2.5], ["1", "2.5"]),
        ([1.0, "b"], ["1", "b"]),
        ([True, False], ["true", "false"]),
        ([True, "b"], ["true", "b"]),
        (["", " "], ["", " "]),
        (["délai", "遅延 🚨"], ["délai", "遅延 🚨"]),
        ([math.nan, 1.5], [None, "1.5"]),
        (["NaN", None], [None, None]),
    ],
)
def test_a_category_is_the_same_word_whatever_came_with_it(log: Log, values: list[Any], stored: list[Any]) -> None:
    log.append(M, rows("ab", country=values))
    assert [row[1] for row in all_rows(log, "request_id, country")] == stored
    assert aside(log) == set()


def test_an_empty_numeric_value_is_set_aside_and_a_fraction_is_no_class(log: Log) -> None:
    log.append(M, rows("ab", age=["", "1"], prediction=[0.5, 1.0]))
    assert aside(log) == {("a", "age", ""), ("a", "prediction", "0.5")}
    assert all_rows(log, "request_id, prediction") == [("a", None), ("b", 1)]


@pytest.mark.parametrize("name", ["request_id", "event_time"])
@pytest.mark.parametrize("missing", [None, "absent"])
def test_a_prediction_needs_its_request_and_its_time(log: Log, name: str, missing: str | None) -> None:
    whole = rows("ab")
    broken = whole.drop_columns(name)
    if missing is None:
        broken = broken.append_column(name, pa.array([whole.column(name)[0], None], whole.column(name).type))
    with pytest.raises(DataError, match=f'every prediction of model "churn" needs a {name} that can be read'):
        log.append(M, broken)
    assert log.totals(M)["predictions"] == 0


def test_a_time_that_cannot_be_read_is_refused_with_its_batch(log: Log) -> None:
    with pytest.raises(DataError, match="needs a event_time that can be read; 1 rows have none"):
        log.append(M, rows("ab", at=[NOON.isoformat(), "soon"]))
    with pytest.raises(DataError, match="every outcome for model"):
        log.append_outcomes(M, table({"request_id": ["a"], "label": [1], "known_at": ["soon"]}))
    log.append(M, rows("ab"))
    assert log.totals(M)["predictions"] == 2


PARIS = timezone(timedelta(hours=1))
TIMES: dict[str, Any] = {
    "in UTC": [NOON],
    "in Paris": [NOON.astimezone(PARIS)],
    "without a zone": [NOON.replace(tzinfo=None)],
    "as text": ["2024-03-01T12:00:00+00:00"],
    "as text in Paris": ["2024-03-01T13:00:00+01:00"],
    "as text with Z": ["2024-03-01T12:00:00Z"],
    "as text without a zone": ["2024-03-01 12:00:00"],
    "mixed": [NOON, "2024-03-01T13:00:00+01:00"],
    "in nanoseconds": pa.array([1709294400000000123], pa.timestamp("ns")),
    "in nanoseconds in Paris": pa.array([1709294400000000123], pa.timestamp("ns", "Europe/Paris")),
    "in seconds": pa.array([1709294400], pa.timestamp("s", "UTC")),
    "from pandas": pa.Table.from_pandas(pd.DataFrame({"t": pd.to_datetime(["2024-03-01T12:00:00Z"])})).column("t"),
    "from polars": pl.DataFrame({"t": [NOON]}).to_arrow().column("t"),
}


@pytest.mark.parametrize("form", TIMES)
def test_a_moment_is_the_same_in_every_form(log: Log, form: str) -> None:
    times = TIMES[form]
    column = times if isinstance(times, (pa.Array, pa.ChunkedArray)) else table({"t": times}).column("t")
    ids = [str(i) for i in range(len(column))]
    log.append(M, pa.table({"request_id": ids, "event_time": column}))
    assert {row[0] for row in all_rows(log, "event_time")} == {NOON.replace(tzinfo=None)}


def test_tables_of_other_libraries_are_taken_as_they_are(log: Log) -> None:
    frame = pd.DataFrame(
        {"request_id": ["a", "b"], "event_time": [NOON, NOON], "age": [1, 2], "country": pd.Categorical(["NL", None])}
    )
    log.append(M, pa.Table.from_pandas(frame))
    log.append(M, pl.DataFrame({"request_id": ["c"], "event_time": [NOON], "age": [3], "country": ["DE"]}).to_arrow())
    assert all_rows(log, "request_id, age, country") == [("a", 1.0, "NL"), ("b", 2.0, None), ("c", 3.0, "DE")]


def test_what_the_client_writes_is_what_the_log_holds(log: Log) -> None:
    event = events.prediction(
        M, {"age": np.float32(0.5), "country": math.nan}, request_id="a", event_time=NOON.astimezone(PARIS),
        version="v1", prediction=np.int64(1), score=math.nan, latency_ms=12, entity_id=7, context={"page": 3},
    )  # fmt: skip
    log.append(M, table(events.columns([json.loads(json.dumps(event))])))
    names = "event_time, version, variant, entity_id, prediction, score, latency_ms, status, context, age, country"
    ((at, version, variant, entity, prediction, score, *rest),) = all_rows(log, names)
    assert (at, version, variant, entity, prediction) == (NOON.replace(tzinfo=None), "v1", "champion", "7", 1)
    assert math.isnan(score)
    assert rest == [12.0, "ok", '{"page":3}', 0.5, None]


# outcomes


def labels(log: Log, window: Window = TODAY) -> dict[str, int]:
    found = log.labelled(M, window).to_pydict()
    return dict(zip(found["request_id"], found["label"], strict=True))


def test_the_latest_outcome_counts_and_the_earlier_ones_are_kept(log: Log) -> None:
    log.append(M, rows("a"))
    log.append_outcomes(M, outcomes("a", [1], NOON + 2 * HOUR))
    assert labels(log) == {"a": 1}
    log.append_outcomes(M, outcomes("a", [0], NOON + HOUR))
    assert labels(log) == {"a": 1}, "it came later, but was known earlier"
    log.append_outcomes(M, outcomes("a", [0], NOON + 3 * HOUR))
    assert labels(log) == {"a": 0}
    assert [row[0] for row in all_rows(log, "label", of="outcomes")] == [0, 0, 1]


def test_an_outcome_may_come_before_its_prediction(log: Log) -> None:
    log.append_outcomes(M, outcomes("ab", [1, 0]))
    assert log.totals(M) == {"predictions": 0, "labelled": 0, "orphans": 2, "set_aside": 0}
    assert log.touched(M, 0, "1d") == ([], [])
    log.append(M, rows("a"))
    assert log.totals(M) == {"predictions": 1, "labelled": 1, "orphans": 1, "set_aside": 0}
    assert labels(log) == {"a": 1}


def test_a_label_is_zero_or_one(log: Log) -> None:
    log.append(M, rows("abcdef"))
    done = log.append_outcomes(M, outcomes("abcdef", [1, 0, 2, -1, "yes", 0.5]))
    assert done == Appended(stored=6, duplicates=0, set_aside=4)
    assert labels(log) == {"a": 1, "b": 0}
    assert aside(log) == {("c", "label", "2"), ("d", "label", "-1"), ("e", "label", "yes"), ("f", "label", "0.5")}
    assert log.totals(M)["labelled"] == 2


def test_true_and_false_are_labels(log: Log) -> None:
    log.append(M, rows("abcd"))
    log.append_outcomes(M, outcomes("ab", [True, False]))
    log.append_outcomes(M, outcomes("cd", ["1", 0.0]))
    assert labels(log) == {"a": 1, "b": 0, "c": 1, "d": 0}


def test_a_label_that_cannot_be_read_does_not_undo_one_that_could(log: Log) -> None:
    log.append(M, rows("a"))
    log.append_outcomes(M, outcomes("a", [1], NOON))
    log.append_outcomes(M, outcomes("a", ["what"], NOON + HOUR))
    assert labels(log) == {"a": 1}


# what must be summarised again


def test_grains_are_touched_by_rows_and_by_labels(log: Log) -> None:
    log.append(M, rows("ab", at=[NOON, NOON + DAY]))
    assert log.touched(M, 0, "1d") == ([MIDNIGHT, MIDNIGHT + DAY], [])
    assert log.touched(M, 0, "1h") == ([NOON, NOON + DAY], [])
    done = log.arrival(M)
    log.append_outcomes(M, outcomes("a", [1], NOON + 9 * DAY))
    assert log.touched(M, done, "1d") == ([], [MIDNIGHT])
    done = log.arrival(M)
    log.append(M, rows("c", at=[NOON - 5 * DAY]))
    assert log.touched(M, done, "1d") == ([MIDNIGHT - 5 * DAY], [])
    assert log.touched(M, log.arrival(M), "1d") == ([], [])


def test_the_extent_is_the_earliest_prediction_and_their_number(log: Log) -> None:
    assert log.extent(M) == (None, 0)
    log.append(M, rows("ab", at=[NOON, NOON - DAY]))
    assert log.extent(M) == (NOON - DAY, 2)


# profiles

GRIDS = {"age": Grid.fit(np.random.default_rng(3).normal(40, 12, 2000)), "score": UNIT}
PLANS = (
    Plan("age", Kind.NUMERIC, GRIDS["age"], (-1.0,)),
    Plan("country", Kind.CATEGORICAL, None, ("??",)),
    Plan("score", Kind.NUMERIC, UNIT, by_label=True),
)


def keyed(parts: Sequence[Part]) -> dict[tuple[str, str, str, datetime | None], Profile]:
    found = {(p.column, p.version, p.label, p.start): p.profile for p in parts}
    assert len(found) == len(parts), "each is given once"
    return found


def ugly(rng: np.random.Generator, n: int) -> list[Any]:
    special = [None, math.nan, math.inf, -math.inf, -1.0, -999.0, 9999.0, 1e300, -0.0, *GRIDS["age"].knots]
    return [special[rng.integers(len(special))] if rng.random() < 0.3 else float(rng.normal(45, 15)) for _ in range(n)]


def test_profiles_equal_a_recount_by_hand(log: Log) -> None:
    rng, n = np.random.default_rng(1), 600
    ids = [str(i) for i in range(n)]
    columns: dict[str, list[Any]] = {
        "age": ugly(rng, n),
        "country": rng.choice(np.array(["NL", "DE", "??", None, "it's"], dtype=object), n).tolist(),
        "score": rng.random(n).round(3).tolist(),
        "version": rng.choice(np.array(["v1", "v2", None], dtype=object), n).tolist(),
    }
    at = [MIDNIGHT + timedelta(minutes=int(m)) for m in rng.integers(0, 3 * 24 * 60, n)]
    log.append(M, rows(ids, at, **columns))
    known = {i: int(rng.integers(2)) for i in ids if rng.random() < 0.6}
    log.append_outcomes(M, outcomes(list(known), list(known.values())))
    days = [MIDNIGHT, MIDNIGHT + DAY]
    expected = {}
    unknown: dict[str, Any] = {"age": -1.0, "country": "??", "score": None}
    for column, grid in (("age", GRIDS["age"]), ("country", None), ("score", UNIT)):
        for version in ("v1", "v2", ""):
            for day in days:
                for label in (ALL, "0", "1") if column == "score" else (ALL,):
                    chosen = [
                        None if value == unknown[column] else value
                        for i, value, v, t in zip(ids, columns[column], columns["version"], at, strict=True)
                        if (v or "") == version and day <= t < day + DAY and label in (ALL, str(known.get(i)))
                    ]
                    expected[column, version, label, day] = profile_of(chosen, grid)
    found = keyed(log.profiles(M, PLANS, days, "1d"))
    assert {k: p.to_bytes() for k, p in found.items()} == {k: p.to_bytes() for k, p in expected.items()}


def test_very_many_values_are_folded_in_the_engine(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("KNOWN", "STRANGERS"):
        monkeypatch.setattr(profiles, name, 20)
    rng = np.random.default_rng(6)
    ids, values = [str(i) for i in range(3000)], [f"v{v}" for v in rng.geometric(0.005, 3000)]
    log.append(M, rows(ids, country=values))
    for known in ((), tuple(f"v{i}" for i in range(10))):
        plan = Plan("country", Kind.CATEGORICAL, None, known=known)
        found = log.profiles(M, [plan], [MIDNIGHT], "1d", [Segmentation(("country",), (("v1",),))])
        whole = profile_of(values, known=known)
        assert whole.others
        assert [p.profile.to_bytes() for p in found if p.segment == ALL] == [whole.to_bytes()]
        merged = merge(p.profile for p in found if p.segment != ALL)
        assert merged is not None
        assert merged.to_bytes() == whole.to_bytes()


COUNTRIES = Segmentation(("country",), (("NL",), ("it's",)))
CROSSED = Segmentation(("country", "device"), (("NL", "web"), ("DE", "web"), ("DE", "app")))


def crowd(rng: np.random.Generator, n: int) -> dict[str, list[Any]]:
    """Columns of rows, many of which lack something."""
    return {
        "age": ugly(rng, n),
        "country": rng.choice(np.array(["NL", "DE", "??", None, "it's"], dtype=object), n).tolist(),
        "device": rng.choice(np.array(["web", "app", None], dtype=object), n).tolist(),
        "score": rng.random(n).round(3).tolist(),
        "version": rng.choice(np.array(["v1", "v2", None], dtype=object), n).tolist(),
    }


@pytest.fixture
def crowded(log: Log) -> Log:
    """A log with devices; "??" is no country."""
    columns = {name: {"kind": "categorical"} for name in ("device", "country")}
    columns["country"] |= {"missing": ("??",)}
    log.open_model(M, ModelConfig.model_validate({"columns": {"age": {"kind": "numeric"}, **columns}}))
    return log


def segment_of(row: dict[str, Any], segments: Segmentation) -> str:
    """The name of a row's segment, worked out by hand."""
    value = tuple(None if row[name] == "??" else row[name] for name in segments.columns)
    if None in value:
        return segments.missing
    return segments.names[segments.values.index(value)] if value in segments.values else segments.rest


@pytest.mark.parametrize("segments", [COUNTRIES, CROSSED, Segmentation(("device",), ())], ids=lambda s: s.key)
def test_the_segments_equal_a_recount_by_hand_and_add_up_to_all_rows(crowded: Log, segments: Segmentation) -> None:
    rng, n = np.random.default_rng(4), 900
    columns = crowd(rng, n)
    ids = [str(i) for i in range(n)]
    crowded.append(M, rows(ids, **columns))
    known = {i: int(rng.integers(2)) for i in ids if rng.random() < 0.6}
    crowded.append_outcomes(M, outcomes(list(known), list(known.values())))
    parts = crowded.profiles(M, PLANS, [MIDNIGHT], "1d", [segments])
    whole = keyed([p for p in parts if p.segment == ALL])
    alone = keyed(crowded.profiles(M, PLANS, [MIDNIGHT], "1d"))
    assert {key: p.to_bytes() for key, p in whole.items()} == {key: p.to_bytes() for key, p in alone.items()}
    for key, profile in whole.items():
        own = [p.profile for p in parts if p.segment and (p.column, p.version, p.label, p.start) == key]
        merged = merge(own)
        assert merged is not None
        assert merged.to_bytes() == profile.to_bytes()
    table = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    named = Counter((segment_of(row, segments), row["version"] or "") for row in table)
    assert {(p.segment, p.version): p.profile.n for p in parts if p.segment and p.column == "age"} == named
    assert {name for name, _ in named} == {*segments.names}


def test_several_segmentations_are_of_the_same_rows(crowded: Log) -> None:
    crowded.append(M, rows([str(i) for i in range(300)], **crowd(np.random.default_rng(5), 300)))
    parts = crowded.profiles(M, PLANS, [MIDNIGHT], "1d", [COUNTRIES, CROSSED])
    for segments in (COUNTRIES, CROSSED):
        assert sum(p.profile.n for p in parts if p.segment in segments.names and p.column == "age") == 300


@pytest.mark.parametrize("name", [*COUNTRIES.names, *CROSSED.names])
def test_sample_predictions_are_of_the_segment(crowded: Log, name: str) -> None:
    columns = crowd(np.random.default_rng(6), 200)
    crowded.append(M, rows([str(i) for i in range(200)], **columns))
    segments = COUNTRIES if name in COUNTRIES.names else CROSSED
    found = crowded.samples(M, TODAY, "extreme", "age", limit=1000, within=(segments, name))
    table = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    assert {row["request_id"] for row in found} == {
        str(i) for i, row in enumerate(table) if segment_of(row, segments) == name
    }
    assert {"request_id", "event_time", "age"} < found[0].keys()


def test_a_grain_of_many_rows_is_counted_in_portions(crowded: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    columns = crowd(np.random.default_rng(8), 300)
    names = [str(i) for i in range(300)]
    for part in range(0, 300, 60):
        some = slice(part, part + 60)
        crowded.append(M, rows(names[some], **{name: values[some] for name, values in columns.items()}))
    crowded.append_outcomes(M, outcomes(names[:90], [i % 2 for i in range(90)]))
    before = crowded.arrival(M)
    crowded.append_outcomes(M, outcomes(names[50:200], [i % 2 for i in range(150)], NOON + HOUR))
    everything, since = Batches(0, before + 1), Batches(before, before + 1)

    def counted() -> list[dict[tuple[object, ...], bytes]]:
        whole = crowded.profiles(M, PLANS, [MIDNIGHT], "1d", [COUNTRIES], everything)
        moved = crowded.relabelled(M, PLANS, [MIDNIGHT], "1d", [COUNTRIES], since)
        return [
            {(p.column, p.version, p.label, p.start, p.segment): p.profile.to_bytes() for p in parts}
            for parts in (whole, *moved)
        ]

    at_once, asked = counted(), []
    ask = crowded.backend.arrow
    monkeypatch.setattr(crowded.backend, "arrow", lambda sql: asked.append(sql) or ask(sql))
    monkeypatch.setattr(log_of_events, "PORTION", 50)
    assert counted() == at_once
    assert len(asked) >= 2 * (5 + 2 + 2)  # all rows and their segments, of each of the five batches and of what moved


def test_nothing_is_left_of_what_summaries_read(path: Path) -> None:
    log = Log(DuckDB(path))
    log.open_model(M, model())
    log.append(M, rows("ab", score=[0.1, 0.2]))
    log.append_outcomes(M, outcomes("a", [1]))
    log.profiles(M, PLANS, [MIDNIGHT], "1d", [COUNTRIES], Batches(0, 2))
    log.relabelled(M, PLANS, [MIDNIGHT], "1d", [COUNTRIES], Batches(1, 2))
    assert log.backend.rows("SELECT table_name FROM duckdb_tables() WHERE temporary") == []
    log.close()


def test_hours_and_days_hold_the_same_rows(log: Log) -> None:
    rng, n = np.random.default_rng(2), 300
    at = [MIDNIGHT + timedelta(seconds=int(s)) for s in rng.integers(0, 86_400, n)]
    log.append(M, rows([str(i) for i in range(n)], at, score=rng.random(n).tolist()))
    hours, _ = log.touched(M, 0, "1h")
    assert sum(p.profile.n for p in log.profiles(M, PLANS, hours, "1h") if p.column == "score") == n
    assert sum(p.profile.n for p in log.profiles(M, PLANS, [MIDNIGHT], "1d") if p.column == "score") == n


@pytest.mark.parametrize("value", [None, math.nan, math.inf, 0.5])
def test_one_row_of_any_value_has_its_profile(log: Log, value: float | None) -> None:
    log.append(M, rows("a", age=[value], score=[value]))
    found = keyed(log.profiles(M, PLANS, [MIDNIGHT], "1d"))
    assert found["age", "", ALL, MIDNIGHT].to_bytes() == profile_of([value], GRIDS["age"]).to_bytes()
    assert found["country", "", ALL, MIDNIGHT].to_bytes() == profile_of([None]).to_bytes()


def test_grains_without_rows_have_no_profiles(log: Log) -> None:
    assert log.profiles(M, PLANS, [], "1d") == []
    assert log.profiles(M, PLANS, [MIDNIGHT], "1d") == []


def test_thousands_of_grains_are_summarised_at_once(log: Log) -> None:
    n = 2500
    at = [MIDNIGHT + i * HOUR for i in range(n)]
    log.append(M, rows([str(i) for i in range(n)], at, score=[0.5] * n))
    parts = log.profiles(M, PLANS[2:], log.touched(M, 0, "1h")[0], "1h")
    assert len(parts) == n


def test_an_unlabelled_version_and_one_without_a_name_are_the_same(log: Log) -> None:
    log.append(M, rows("ab", version=["", None], score=[0.1, 0.2]))
    log.append_outcomes(M, outcomes("ab", [1, 1]))
    found = keyed(log.profiles(M, PLANS[2:], [MIDNIGHT], "1d"))
    assert {key[1:3]: p.n for key, p in found.items()} == {("", "1"): 2, ("", ALL): 2}


# rows for training


def test_labelled_rows_are_those_of_the_window_oldest_first(log: Log) -> None:
    at = [NOON, NOON - HOUR, MIDNIGHT, MIDNIGHT + DAY, NOON]
    log.append(M, rows("abcde", at, age=[1.0, 2.0, 3.0, 4.0, 5.0], score=[0.1] * 5, version=["v1"] * 5))
    log.append_outcomes(M, outcomes("abcd", [1, 0, 1, 0]))
    found = log.labelled(M, TODAY)
    assert found.column_names == ["request_id", "event_time", "version", "score", "label", "age", "country"]
    assert found.column("request_id").to_pylist() == ["c", "b", "a"]
    assert found.column("label").to_pylist() == [1, 0, 1]


def test_labelled_rows_leave_out_the_windows_that_are_excluded(log: Log) -> None:
    at = [MIDNIGHT + i * HOUR for i in range(10)]
    log.append(M, rows("abcdefghij", at))
    log.append_outcomes(M, outcomes("abcdefghij", [1] * 10))
    without = [Window(at[2], at[5]), Window(at[4], at[6]), Window(at[9], at[9] + DAY)]
    assert log.labelled(M, TODAY, without).column("request_id").to_pylist() == list("abghi")
    assert log.labelled(M, Window(MIDNIGHT - DAY, MIDNIGHT)).num_rows == 0


def test_the_first_rows_are_the_earliest_with_their_time_and_features(log: Log) -> None:
    log.append(M, rows("abc", at=[NOON, NOON - DAY, NOON + DAY], age=[1.0, 2.0, 3.0], country=["NL"] * 3))
    found = log.first_rows(M, limit=2)
    assert found.select(["age", "country"]).to_pydict() == {"age": [2.0, 1.0], "country": ["NL", "NL"]}
    assert found.column_names[0] == "event_time"
    log.append(M, rows("d", at=[NOON - 2 * DAY], country=["DE"]))
    assert log.first_rows(M, "age", limit=2).column("age").to_pylist() == [2.0, 1.0], "of those that have it"


# samples


def sampled(log: Log, order: str, column: str | None = None, limit: int = 2) -> list[str]:
    return [row["request_id"] for row in log.samples(M, TODAY, order, column, limit)]


def test_samples_show_what_is_wrong_first(log: Log) -> None:
    log.append(
        M,
        rows(
            "abcdef",
            age=[40.0, -999.0, None, 41.0, 42.0, math.nan],
            country=["NL", "NL", "NL", "XX", None, "NL"],
            score=[0.9, 0.9, 0.5, 0.1, 0.1, None],
            latency_ms=[1.0, 2.0, 900.0, 3.0, None, 4.0],
            status=["ok", "ok", "ok", "timeout", "error", None],
        ),
    )
    log.append_outcomes(M, outcomes("abcde", [0, 1, 1, 0, 1]))
    assert sampled(log, "extreme", "age") == ["f", "b"]
    assert sampled(log, "extreme", "country") == ["d", "e"]
    assert sampled(log, "missing", "age") == ["c", "f"]
    assert sampled(log, "missing", "country") == ["e", "a"]
    assert sampled(log, "slowest") == ["c", "f"]
    assert sampled(log, "failed") == ["d", "e"]
    assert sampled(log, "loss") == ["a", "e"]
    assert sampled(log, "extreme", "no such column", limit=9)[:2] == ["a", "b"], "of the score, then"


def test_samples_are_such_as_json_can_carry(log: Log) -> None:
    log.append(M, rows("ab", age=[math.nan, math.inf], score=[0.5, -math.inf], country=["NL", None]))
    found = log.samples(M, TODAY, "extreme", "age")
    json.dumps(found, allow_nan=False)
    assert found[0]["event_time"] == "2024-03-01T12:00:00Z"
    assert {row["age"] for row in found} == {"NaN", "Infinity"}
    assert log.samples(M, Window(MIDNIGHT - DAY, MIDNIGHT), "loss") == []


# names, files and processes

AWKWARD = ['we "quote" it', "it's", "select", "a;b", "chosen", "known", "batch", "incoming", "n", "value", "bin", "é",
           "column", "low", "o", "p", "l", "kind", "model", "1st", " ", "%s", "{x}", "?"]  # fmt: skip


def test_any_name_will_do_for_a_feature(log: Log) -> None:
    config = model(**dict.fromkeys(AWKWARD, "numeric"))
    log.open_model("awkward", config)
    log.append("awkward", rows("ab", score=[0.5, 0.5], **{name: [1.0, 2.0] for name in AWKWARD}))
    log.append_outcomes("awkward", outcomes("ab", [1, 0]))
    plans = [Plan(name, Kind.NUMERIC, UNIT) for name in AWKWARD]
    assert {p.column: p.profile.n for p in log.profiles("awkward", plans, [MIDNIGHT], "1d")} == dict.fromkeys(
        AWKWARD, 2
    )
    assert log.labelled("awkward", TODAY).select(AWKWARD).num_rows == 2
    assert log.first_rows("awkward").column_names == ["event_time", *AWKWARD]
    for name in AWKWARD:
        for order in ("extreme", "missing"):
            assert {row[name] for row in log.samples("awkward", TODAY, order, name)} == {1.0, 2.0}


def test_what_was_logged_is_there_when_the_log_is_opened_again(opened: Callable[[], Log]) -> None:
    for i in range(3):
        log = opened()
        assert log.append(M, rows(["same", str(i)])).stored == (2 if i == 0 else 1)
        log.close()
    log = opened()
    assert (log.totals(M)["predictions"], log.arrival(M)) == (4, 3)


def test_a_log_of_an_earlier_release_gains_the_fields_it_lacks(path: Path, log: Log) -> None:
    log.append(M, rows("a", age=[1.0]))
    for name in events.RESOURCES:
        log.backend.run(f"ALTER TABLE predictions_{M} DROP COLUMN {name}")
    log.open_model(M, model())
    log.append(M, rows("b", age=[2.0], cost=[0.5], cpu_ms=[3]))
    assert all_rows(log, "request_id, age, cost, cpu_ms") == [("a", 1.0, None, None), ("b", 2.0, 0.5, 3.0)]


def test_a_log_with_primary_keys_is_brought_up_to_date(path: Path) -> None:
    old = DuckDB(path)
    event = "request_id VARCHAR, event_time TIMESTAMP, version VARCHAR, variant VARCHAR, entity_id VARCHAR"
    event += ", prediction INTEGER, score DOUBLE, latency_ms DOUBLE, status VARCHAR, context VARCHAR"
    old.run(f"CREATE TABLE predictions_{M} ({event}, age DOUBLE, arrival BIGINT, PRIMARY KEY (request_id))")
    old.run(
        f"CREATE TABLE outcomes_{M} (request_id VARCHAR, label INTEGER, known_at TIMESTAMP, arrival BIGINT,"
        " PRIMARY KEY (request_id, known_at))"
    )
    old.run(
        f"CREATE TABLE set_aside_{M} (request_id VARCHAR, name VARCHAR, value VARCHAR, arrival BIGINT,"
        " PRIMARY KEY (request_id, name))"
    )
    at = "TIMESTAMP '2024-03-01 12:00:00'"
    old.run(f"INSERT INTO predictions_{M} (request_id, event_time, age, arrival) VALUES ('a', {at}, 1.5, 1)")
    old.run(f"INSERT INTO outcomes_{M} VALUES ('a', 1, {at}, 2)")
    old.run(f"INSERT INTO set_aside_{M} VALUES ('a', 'colour', 'red', 1)")
    old.close()
    for _ in range(2):
        log = Log(DuckDB(path))
        log.open_model(M, model())
        assert log.append(M, rows("a", age=[9.0], colour=["red"])) == Appended(0, 1, 0)
        assert log.append_outcomes(M, outcomes("a", [0])) == Appended(0, 1, 0, conflicting=1)
        assert all_rows(log, "request_id, age, country, arrival") == [("a", 1.5, None, 1)]
        assert labels(log) == {"a": 1}
        assert log.arrival(M) == 2
        log.close()


def test_a_configuration_may_gain_columns_and_lose_them(opened: Callable[[], Log]) -> None:
    log = opened()
    log.append(M, rows("a", age=[1.0]))
    log.close()
    log = opened()
    log.open_model(M, model(**{"age": "numeric", "income": "numeric", 'a "new" one': "categorical"}))
    log.append(M, rows("b", age=[2.0], income=[3.0], **{'a "new" one': ["x"]}))
    assert all_rows(log, 'request_id, age, income, "a ""new"" one"') == [("a", 1.0, None, None), ("b", 2.0, 3.0, "x")]
    log.open_model(M, model(income="numeric"))
    assert log.append(M, rows("c", age=[2.0], income=[1.0])).set_aside == 1
    assert log.first_rows(M).column_names == ["event_time", "income"]


@pytest.mark.parametrize(
    ("columns", "complaint"),
    [
        ({"age": "categorical"}, 'holds "age" as numeric values, and the configuration wants "age" as categorical'),
        ({"AGE": "numeric"}, 'holds "age" as numeric values, and the configuration wants "AGE" as numeric'),
    ],
)
def test_a_column_stays_what_it_was(log: Log, columns: dict[str, str], complaint: str) -> None:
    with pytest.raises(StateError, match=complaint):
        log.open_model(M, model(new="numeric", **columns))
    assert log.append(M, rows("a", age=[1.0])).set_aside == 0, "the log goes on as it was"
    assert "new" not in log.backend.columns(f"predictions_{M}")


def test_a_second_process_is_told_that_the_first_holds_the_log(path: Path) -> None:
    log = DuckDB(path)
    program = (
        "import sys; from pathlib import Path; from watchkeeper.errors import StateError\n"
        "from watchkeeper.store.backends import DuckDB\n"
        "try: DuckDB(Path(sys.argv[1]))\n"
        "except StateError as problem: print(problem)"
    )
    done = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True)
    assert f"the event log {path} cannot be opened" in done.stdout
    assert "stop that one or write through its server" in done.stdout
    log.close()


def test_a_file_that_is_no_log_is_refused(tmp_path: Path) -> None:
    (tmp_path / "log.duckdb").write_text("not a database " * 1000)
    (tmp_path / "file").touch()
    for path in (tmp_path / "log.duckdb", tmp_path / "file" / "log.duckdb"):
        with pytest.raises(StateError, match="cannot be opened"):
            Log(DuckDB(path))


def test_a_batch_is_stored_whole_or_not_at_all(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> str:
        raise RuntimeError("the power went")

    monkeypatch.setattr("watchkeeper.store.log._aside", broken)
    with pytest.raises(RuntimeError, match="the power went"):
        log.append(M, rows("ab", age=["old", 1.0]))
    monkeypatch.undo()
    assert log.totals(M) == {"predictions": 0, "labelled": 0, "orphans": 0, "set_aside": 0}
    assert log.append(M, rows("ab", age=["old", 1.0])) == Appended(2, 0, 1)


def test_a_log_makes_its_own_folder(tmp_path: Path) -> None:
    DuckDB(tmp_path / "a" / "b" / "log.duckdb").close()
    assert (tmp_path / "a" / "b" / "log.duckdb").is_file()


# every kind of column


def test_moments_durations_and_texts_are_kept_and_counted_as_numbers(log: Log) -> None:
    settings = model(born="datetime", took="duration", note="text")
    log.open_model("kinds", settings)
    moments = [NOON, (NOON - HOUR).isoformat(), "not a moment", None]
    given = table(
        {
            "request_id": list("abcd"),
            "event_time": [NOON] * 4,
            "born": moments,
            "took": [timedelta(minutes=1), timedelta(seconds=2), None, timedelta(hours=1)],
            "note": ["a word", "ünïcode 42", "", None],
        }
    )
    assert log.append("kinds", given).set_aside == 1
    grid = Grid.logarithmic(1.0, 1e10)
    parts = log.profiles("kinds", [Plan(name, Kind.NUMERIC, grid) for name in settings.features], [MIDNIGHT], "1d")
    expected = {
        "born": [NOON.timestamp(), NOON.timestamp() - 3600, None, None],
        "born.age": [0.0, 3600.0, None, None],
        "took": [60.0, 2.0, None, 3600.0],
        "note.length": [6.0, 10.0, 0.0, None],
        "note.words": [2.0, 2.0, 0.0, None],
        "note.non_ascii": [0.0, 0.2, None, None],
        "note.digits": [0.0, 0.2, None, None],
    }
    assert {part.column: part.profile.to_bytes() for part in parts} == {
        name: profile_of(values, grid).to_bytes() for name, values in expected.items()
    }
    shown = log.samples("kinds", TODAY, "extreme", "note.length")
    assert [row["note"] for row in shown if row["note"]] == ["a word", "ünïcode 42"]
    assert log.samples("kinds", TODAY, "extreme", "born", limit=1)[0]["born"].startswith("2024-03-01T1")
