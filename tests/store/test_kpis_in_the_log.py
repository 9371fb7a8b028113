"""KPIs in the log: the latest value of each, beside its prediction and added up for its user, on either database."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from watchkeeper.errors import DataError
from watchkeeper.kpis import DELAY, PER_USER
from watchkeeper.records import ALL
from watchkeeper.schema import Kind, ModelConfig
from watchkeeper.segments import Segmentation
from watchkeeper.stats.grid import Grid
from watchkeeper.store import erasure, kpis, retention
from watchkeeper.store.backends import Backend, DuckDB
from watchkeeper.store.fitting import table
from watchkeeper.store.layout import Appended, Batches, Deleted
from watchkeeper.store.log import Log
from watchkeeper.store.postgres import Postgres
from watchkeeper.store.sources import Plan
from watchkeeper.testing import profile_of
from watchkeeper.windows import DAY, HOUR

M = "shop"
MIDNIGHT = datetime(2024, 3, 1, tzinfo=UTC)
CONFIG = ModelConfig.model_validate(
    {
        "columns": {"age": {"kind": "numeric"}, "country": {"kind": "categorical"}},
        "kpis": {"revenue": {"unit": "EUR"}, "clicks": {}},
    }
)
GRID = Grid.fit(np.arange(-50.0, 200.0, 0.5))
DELAYS = Grid.logarithmic(1.0, 32_000_000.0)
PLANS = [
    Plan(f"{name}{end}", Kind.NUMERIC, DELAYS if end == DELAY else GRID)
    for name in ("revenue", "clicks")
    for end in ("", DELAY, PER_USER)
]
COUNTRIES = Segmentation(("country",), (("NL",), ("it's",)))


@pytest.fixture(params=["duckdb", "postgres"])
def log(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Log]:
    backend: Backend
    if request.param == "duckdb":
        backend = DuckDB(tmp_path / "log.duckdb")
    else:
        backend = Postgres(request.getfixturevalue("new_postgres")())
    opened = Log(backend)
    opened.open_model(M, CONFIG)
    yield opened
    opened.close()


def rows(ids: Sequence[str], at: datetime | Sequence[Any] = MIDNIGHT, **columns: Any) -> pa.Table:
    times = [at] * len(ids) if isinstance(at, datetime) else at
    return table({"request_id": list(ids), "event_time": times, "version": ["v1"] * len(ids), **columns})


def values(ids: Sequence[str], numbers: Sequence[Any], name: str = "revenue", at: datetime = MIDNIGHT) -> pa.Table:
    return table({"request_id": list(ids), "name": [name] * len(ids), "value": numbers, "known_at": [at] * len(ids)})


def kept(log: Log, plans: Sequence[Plan] = PLANS, **how: Any) -> dict[tuple[str, str, str], bytes]:
    """What is counted of the first day, by column, version and segment."""
    parts = log.profiles(M, plans, [MIDNIGHT], "1d", **how)
    found = {(part.column, part.version, part.segment): part.profile.to_bytes() for part in parts}
    assert len(found) == len(parts), "each is given once"
    return found


def aside(log: Log) -> set[tuple[Any, ...]]:
    return set(log.backend.rows(f"SELECT request_id, name, value FROM set_aside_{M}"))


def test_a_value_is_kept_once_however_often_it_is_sent_and_a_correction_beside_it(log: Log) -> None:
    assert log.append_kpis(M, values("ab", [1.0, 2.0])) == Appended(2, 0, 0)
    assert log.append_kpis(M, values("abc", [1.0, 2.0, 3.0])) == Appended(1, 2, 0)
    assert log.append_kpis(M, values("a", [5.0], at=MIDNIGHT + HOUR)) == Appended(1, 0, 0)
    assert log.append_kpis(M, values("a", [1.0], "clicks")) == Appended(1, 0, 0)
    assert log.append_kpis(M, values([], [])) == Appended(0, 0, 0)


def test_names_that_are_not_declared_and_values_that_are_no_numbers_are_set_aside(log: Log) -> None:
    assert log.append_kpis(M, values("ab", [1.0, 2.0], "revenu")) == Appended(2, 0, 2)
    assert log.append_kpis(M, values("cde", [float("nan"), float("inf"), 7.0])) == Appended(1, 0, 2)
    assert log.append_kpis(M, values("ab", [1.0, 2.0], "revenu")) == Appended(0, 2, 0), "each is set aside once"
    assert {(request, name) for request, name, _ in aside(log)} == {
        ("a", "kpi:revenu"), ("b", "kpi:revenu"), ("c", "kpi:revenue"), ("d", "kpi:revenue"),
    }  # fmt: skip
    assert ("a", "kpi:revenu", "1") in aside(log)


def test_values_of_a_name_that_is_declared_later_are_set_aside_no_more(log: Log) -> None:
    log.append_kpis(M, values("ab", [1.0, 2.0], "revenu"))
    log.append_kpis(M, values("cd", [float("nan"), 7.0], "revenu"))
    assert kpis.settle(log.backend, M, ["revenue", "clicks"]) == 0
    assert kpis.settle(log.backend, M, ["revenu"]) == 3
    assert {request for request, *_ in aside(log)} == {"c"}, "what is no number stays"


@pytest.mark.parametrize("lacking", ["request_id", "name", "known_at"])
def test_a_row_that_lacks_what_it_is_known_by_is_refused(log: Log, lacking: str) -> None:
    with pytest.raises(DataError, match=f"needs a {lacking}"):
        log.append_kpis(M, values("a", [1.0]).drop_columns([lacking]))


def test_the_latest_value_counts_whatever_order_they_come_in(log: Log) -> None:
    log.append(M, rows("a"))
    for hours, value in ((2, 30.0), (1, 20.0), (3, 40.0)):
        log.append_kpis(M, values("a", [value], at=MIDNIGHT + hours * HOUR))
    found = kept(log, PLANS[:2])
    assert found["revenue", "v1", ALL] == profile_of([40.0], GRID).to_bytes()
    assert found["revenue delay", "v1", ALL] == profile_of([3 * 3600.0], DELAYS).to_bytes()


def test_counts_see_the_batches_that_they_are_of_and_no_later_ones(log: Log) -> None:
    log.append(M, rows("a"))
    log.append_kpis(M, values("a", [20.0], at=MIDNIGHT + HOUR))
    log.append_kpis(M, values("a", [30.0], at=MIDNIGHT + 2 * HOUR))
    found = kept(log, PLANS[:1], of=Batches(0, 2))
    assert found["revenue", "v1", ALL] == profile_of([20.0], GRID).to_bytes()


@pytest.mark.parametrize("segments", [COUNTRIES, Segmentation(("country",), ())], ids=lambda s: s.names[0])
def test_counts_of_predictions_and_users_equal_a_recount_by_hand(log: Log, segments: Segmentation) -> None:
    rng, n = np.random.default_rng(3), 700
    ids = [str(i) for i in range(n)]
    at = [MIDNIGHT + timedelta(minutes=int(m)) for m in rng.integers(0, 24 * 60, n)]
    users = rng.choice(np.array([*[f"u{i}" for i in range(60)], None], dtype=object), n).tolist()
    countries = rng.choice(np.array(["NL", "DE", None, "it's"], dtype=object), n).tolist()
    log.append(M, rows(ids, at, entity_id=users, country=countries))
    told: dict[str, dict[str, list[float]]] = {"revenue": defaultdict(list), "clicks": defaultdict(list)}
    for hour in range(3):
        for name, of in told.items():
            some = [i for i in ids if rng.random() < 0.3]
            # halves, so that sums of any order are the same to the last bit
            numbers = (rng.integers(-80, 300, len(some)) / 2).tolist()
            log.append_kpis(M, values(some, numbers, name, MIDNIGHT + DAY + hour * HOUR))
            for one, number in zip(some, numbers, strict=True):
                of[one].append(number)
    expected = {}
    for segment in (ALL, *segments.names):
        chosen = [i for i, row in enumerate(countries) if segment in (ALL, place(row, segments))]
        if not chosen:
            continue
        for name, of in told.items():
            latest = [of[str(i)][-1] if of[str(i)] else None for i in chosen]
            expected[name, "v1", segment] = profile_of(latest, GRID)
            sums: dict[str, list[float]] = defaultdict(list)
            for i, value in zip(chosen, latest, strict=True):
                if users[i] is not None:
                    sums[users[i]] += [] if value is None else [value]
            totals = [sum(each) if each else None for each in sums.values()]
            expected[name + PER_USER, "v1", segment] = profile_of(totals, GRID)
    plans = [plan for plan in PLANS if not plan.name.endswith(DELAY)]
    found = kept(log, plans, segmentations=[segments])
    assert found == {key: profile.to_bytes() for key, profile in expected.items()}


def place(country: Any, segments: Segmentation) -> str:
    if country is None:
        return segments.missing
    return segments.names[segments.values.index((country,))] if (country,) in segments.values else segments.rest


def test_a_user_counts_once_in_each_grain_and_version(log: Log) -> None:
    log.append(M, rows("abc", [MIDNIGHT, MIDNIGHT + HOUR, MIDNIGHT + DAY], entity_id=["u", "u", "u"]))
    log.append(M, rows("d", entity_id=["u"]).set_column(2, "version", pa.array(["v2"])))
    log.append_kpis(M, values("abcd", [1.0, 2.0, 4.0, 8.0]))
    parts = log.profiles(M, [PLANS[2]], [MIDNIGHT, MIDNIGHT + DAY], "1d")
    found = {(part.version, part.start): part.profile.to_bytes() for part in parts}
    assert found == {
        ("v1", MIDNIGHT): profile_of([3.0], GRID).to_bytes(),
        ("v2", MIDNIGHT): profile_of([8.0], GRID).to_bytes(),
        ("v1", MIDNIGHT + DAY): profile_of([4.0], GRID).to_bytes(),
    }


def test_a_prediction_that_says_no_user_is_of_none(log: Log) -> None:
    log.append(M, rows("ab", entity_id=["u", None]))
    log.append_kpis(M, values("ab", [1.0, 2.0]))
    assert kept(log, [PLANS[2]])["revenue per user", "v1", ALL] == profile_of([1.0], GRID).to_bytes()


def test_values_of_requests_without_a_prediction_wait_for_it(log: Log) -> None:
    log.append_kpis(M, values("a", [3.0]))
    assert kept(log) == {}
    log.append(M, rows("a"))
    assert kept(log, PLANS[:1])["revenue", "v1", ALL] == profile_of([3.0], GRID).to_bytes()


def test_news_tells_the_grains_whose_predictions_received_values(log: Log) -> None:
    log.append(M, rows("abc", [MIDNIGHT, MIDNIGHT + DAY, MIDNIGHT + 2 * DAY]))
    first = log.news(M, None, "1d", MIDNIGHT)
    assert first.by_kpis == []
    log.append_kpis(M, values("bx", [1.0, 1.0]))
    again = log.news(M, first.cursor, "1d", MIDNIGHT)
    assert (again.by_rows, again.by_labels, again.by_kpis) == ([], [], [MIDNIGHT + DAY])
    assert log.news(M, again.cursor, "1d", MIDNIGHT).by_kpis == []


def test_the_earliest_values_and_sums_of_users_make_the_grids(log: Log) -> None:
    log.append(M, rows("abcd", [*[MIDNIGHT] * 3, MIDNIGHT + DAY], entity_id=["u", "u", "v", "u"]))
    log.append_kpis(M, values("abcd", [1.0, 2.0, 4.0, 8.0]))
    one, summed = log.first_kpis(M, "revenue", "1d")
    assert sorted(one["revenue"].to_pylist()) == [1.0, 2.0, 4.0, 8.0]
    assert sorted(summed["revenue per user"].to_pylist()) == [3.0, 4.0, 8.0]


def test_values_go_with_their_predictions(log: Log) -> None:
    log.append(M, rows("abc", [MIDNIGHT, MIDNIGHT + DAY, MIDNIGHT + 2 * DAY]))
    log.append_kpis(M, values("abcx", [1.0, 2.0, 3.0, 4.0]))
    log.append_kpis(M, values("ab", [1.0, 2.0], "typo"))
    assert retention.expire(log, M, MIDNIGHT + DAY) == Deleted(predictions=1, kpis=3, set_aside=1), "and one of none"
    left = log.backend.rows(f"SELECT request_id FROM {kpis.home(M)} ORDER BY request_id")
    assert left == [("b",), ("b",), ("c",)]


def test_a_subject_is_found_and_erased_with_the_values(log: Log) -> None:
    log.append(M, rows("ab", entity_id=["ann", "bob"]))
    log.append_kpis(M, values("ab", [1.0, 2.0]))
    log.append_kpis(M, values(["order of ann.smith"], [9.0]))
    requests = erasure.requests_of(log, M, ["ann", "ann.smith"])
    assert requests == {"a", "order of ann.smith"}
    assert erasure.erase_rows(log, M, requests) == Deleted(predictions=1, kpis=2)
    assert log.backend.rows(f"SELECT request_id FROM {kpis.home(M)}") == [("b",)]


def test_a_log_of_an_earlier_release_gets_the_table(log: Log) -> None:
    log.backend.run(f"DROP TABLE {kpis.home(M)}")
    assert erasure.requests_of(log, M, ["ann"]) == frozenset()
    assert log.delete(M, "true") == Deleted()


def test_arrivals_are_numbered_over_all_tables(log: Log) -> None:
    log.append(M, rows("a"))
    log.append_kpis(M, values("a", [1.0]))
    assert log.arrival(M) == 2
    log.delete(M, "true")
    assert log.arrival(M) == 2


def test_names_and_texts_are_quoted(log: Log) -> None:
    assert kpis.columns([Plan("revenue per user", Kind.NUMERIC, GRID)], ["revenue"]) == ("revenue",)
    found = kpis.latest(log.backend, M, ["o'clock"], None)
    assert "'o''clock'" in found


def test_a_grain_of_many_rows_is_not_parted_where_users_are_counted(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("watchkeeper.store.log.PORTION", 2)
    for batch in range(4):
        ids = [f"{batch}-{i}" for i in range(3)]
        log.append(M, rows(ids, entity_id=["u", "v", "u"]))
        log.append_kpis(M, values(ids, [1.0, 2.0, 4.0]))
    found = kept(log, PLANS[:3], of=Batches(0, log.arrival(M)))
    assert found["revenue per user", "v1", ALL] == profile_of([20.0, 8.0], GRID).to_bytes()
    assert found["revenue", "v1", ALL] == profile_of([1.0, 2.0, 4.0] * 4, GRID).to_bytes()
