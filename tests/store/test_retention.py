"""Retention: what goes and what stays, and that a sample stands for all rows without bias."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from watchkeeper.schema import ModelConfig
from watchkeeper.store import retention
from watchkeeper.store.backends import DuckDB
from watchkeeper.store.layout import Deleted
from watchkeeper.store.log import Log, tables
from watchkeeper.store.postgres import Postgres

START = datetime(2024, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
NAME = "loans"


@pytest.fixture
def log(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Log]:
    elsewhere = getattr(request, "param", "duckdb") == "postgres"
    log = Log(Postgres(request.getfixturevalue("new_postgres")()) if elsewhere else DuckDB(tmp_path / "log.duckdb"))
    log.open_model(NAME, ModelConfig.model_validate({"columns": {"amount": {"kind": "numeric"}}}))
    yield log
    log.close()


def fill(log: Log, days: int = 4, rows: int = 100, **columns: Any) -> None:
    ids = [f"{day}-{i}" for day in range(days) for i in range(rows)]
    times = [START + day * DAY + i * timedelta(minutes=1) for day in range(days) for i in range(rows)]
    log.append(NAME, pa.table({"request_id": ids, "event_time": times, "extra": ["odd", *[None] * (len(ids) - 1)]}))
    known = [at + timedelta(hours=30) for at in times]
    log.append_outcomes(NAME, pa.table({"request_id": ids, "label": [1] * len(ids), "known_at": known}))


on_every_backend = pytest.mark.parametrize("log", ["duckdb", "postgres"], indirect=True)


@on_every_backend
def test_rows_from_before_a_moment_go_with_their_outcomes_and_values_set_aside(log: Log) -> None:
    fill(log)
    orphans = {"request_id": ["old", "new"], "label": [1, 1], "known_at": [START, START + 3 * DAY]}
    log.append_outcomes(NAME, pa.table(orphans))
    assert retention.expire(log, NAME, START + 2 * DAY) == Deleted(200, 201, 1)
    assert log.totals(NAME) == {"predictions": 200, "labelled": 200, "orphans": 1, "set_aside": 0}
    assert retention.expire(log, NAME, START + 2 * DAY) == Deleted()


@on_every_backend
def test_a_sample_is_of_requests_and_the_same_always(log: Log) -> None:
    fill(log)
    retention.thin(log, NAME, START + 3 * DAY, 0.5)
    first = {row[0] for row in log.backend.rows(f'SELECT request_id FROM "{tables(NAME)[0]}"')}
    assert first == {
        f"{day}-{i}" for day in range(4) for i in range(100) if day == 3 or retention.in_sample(f"{day}-{i}", 0.5)
    }
    assert retention.thin(log, NAME, START + 3 * DAY, 0.5) == Deleted()
    retention.thin(log, NAME, START + 3 * DAY, 0.1)
    second = {row[0] for row in log.backend.rows(f'SELECT request_id FROM "{tables(NAME)[0]}"')}
    assert second < first
    assert log.totals(NAME)["orphans"] == 0


def test_sums_over_a_sample_with_its_weights_are_unbiased() -> None:
    """The mean of the estimates of 400 samples of other requests lies within 4 standard errors of what is true, for a
    count, a sum of skewed amounts and the count of a rare segment; and their spread is the one that the theory gives,
    the square root of the sum of squares times (1 - share) / share."""
    rng = np.random.default_rng(5)
    amounts, share, rows = rng.lognormal(3, 1, 2000), 0.1, 2000
    rare = np.arange(rows) % 50 == 0
    estimates = []
    for seed in range(400):
        kept = np.array([retention.in_sample(f"{seed}:{i}", share) for i in range(rows)])
        estimates.append((kept.sum() / share, amounts[kept].sum() / share, (kept & rare).sum() / share))
    means, spreads = np.mean(estimates, axis=0), np.std(estimates, axis=0, ddof=1)
    truth = np.array([rows, amounts.sum(), rare.sum()])
    theory = np.sqrt((1 - share) / share * np.array([rows, (amounts**2).sum(), rare.sum()]))
    assert (np.abs(means - truth) < 4 * theory / np.sqrt(400)).all()
    assert np.allclose(spreads, theory, rtol=0.15)


def test_a_biased_sample_would_be_seen() -> None:
    """The power of the test above: if rows of large amounts were kept a tenth more often, the sum would be off."""
    rng = np.random.default_rng(5)
    amounts, rows = rng.lognormal(3, 1, 2000), 2000
    likely = np.where(amounts > np.median(amounts), 0.11, 0.1)
    estimates = [
        amounts[[retention.in_sample(f"{s}:{i}", likely[i]) for i in range(rows)]].sum() / 0.1 for s in range(100)
    ]
    theory = np.sqrt(9 * (amounts**2).sum())
    assert abs(np.mean(estimates) - amounts.sum()) > 4 * theory / np.sqrt(100)


def test_each_row_stands_for_as_many_as_its_share_says() -> None:
    spans = [(START + DAY, 0.1), (START + 2 * DAY, 0.5)]
    times = pa.chunked_array([[(START + shift * DAY).replace(tzinfo=None) for shift in (0, 1, 1.5, 2, 9)]])
    assert retention.weights(times, spans).to_pylist() == [10, 2, 2, 1, 1]
    assert retention.weights(times, []).to_pylist() == [1] * 5


@pytest.mark.parametrize(
    ("spans", "day", "share", "expected"),
    [
        ([], 1, 0.5, [(1, 0.5)]),
        ([(1, 0.5)], 2, 0.5, [(2, 0.5)]),
        ([(1, 0.5)], 2, 0.1, [(2, 0.1)]),
        ([(1, 0.1)], 2, 0.5, [(1, 0.1), (2, 0.5)]),
        ([(1, 0.1), (3, 0.5)], 2, 0.2, [(1, 0.1), (2, 0.2), (3, 0.5)]),
        ([(3, 0.1)], 2, 0.5, [(3, 0.1)]),
    ],
)
def test_what_was_kept_of_which_time_is_remembered(
    spans: list[tuple[int, float]], day: int, share: float, expected: list[tuple[int, float]]
) -> None:
    told = retention.after_thinning([(START + d * DAY, s) for d, s in spans], START + day * DAY, share)
    assert told == [(START + d * DAY, s) for d, s in expected]


def test_the_oldest_grains_go_beyond_a_size(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(log, days=10)
    monkeypatch.setattr(log.backend, "size", lambda names: 1000 if {*tables(NAME)} < {*names} else 0)
    assert retention.start_within(log, NAME, 1000, "1d", DAY) is None
    assert retention.start_within(log, NAME, 500, "1d", DAY) == START + 5 * DAY
    assert retention.start_within(log, NAME, 599, "1d", DAY) == START + 5 * DAY
    assert retention.start_within(log, NAME, 1, "1d", DAY) == START + 10 * DAY


def test_a_size_is_that_of_the_blocks_on_the_disk(log: Log, tmp_path: Path) -> None:
    fill(log, days=20, rows=10_000)
    size, file = log.backend.size(tables(NAME)), (tmp_path / "log.duckdb").stat().st_size
    assert file / 2 < size <= file
    retention.expire(log, NAME, START + 19 * DAY)
    log.backend.rewrite(tables(NAME))
    assert (tmp_path / "log.duckdb").stat().st_size < file / 2


@on_every_backend
def test_tables_have_a_size_and_can_be_written_anew(log: Log) -> None:
    fill(log)
    retention.expire(log, NAME, START + 2 * DAY)
    before = log.totals(NAME)
    log.backend.rewrite(tables(NAME))
    assert log.totals(NAME) == before
    assert log.backend.size(tables(NAME)) > 0
    assert log.backend.waste() == 0
    assert log.models() == [NAME]


# compaction


def test_a_log_written_anew_holds_the_same_rows_in_the_same_order(log: Log, tmp_path: Path) -> None:
    fill(log, days=10, rows=5000)
    retention.expire(log, NAME, START + 6 * DAY)
    before = log.backend.arrow(f'FROM "{tables(NAME)[0]}"')
    assert log.backend.waste() > 0.3
    log.backend.rewrite(tables(NAME))
    assert log.backend.arrow(f'FROM "{tables(NAME)[0]}"').equals(before)
    assert log.backend.waste() == 0
    fill(log)  # and takes rows as before, each once
    assert log.totals(NAME)["predictions"] == before.num_rows + 400
    assert [path.name for path in tmp_path.iterdir() if path.suffix != ".wal"] == ["log.duckdb"]


@pytest.mark.parametrize("step", ["copy", "sync", "replace"])
def test_a_rewriting_that_fails_leaves_the_log_as_it_was(
    log: Log, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    fill(log)

    def broken(*_: Any) -> None:
        raise OSError("no space left")

    with monkeypatch.context() as patch:
        if step == "sync":
            patch.setattr("watchkeeper.store.backends.sync", broken)
        elif step == "replace":
            patch.setattr(Path, "replace", broken)
        else:
            run = log.backend.run
            patch.setattr(log.backend, "run", lambda sql: broken() if sql.startswith("COPY") else run(sql))
        with pytest.raises(OSError, match="no space"):
            log.backend.rewrite(tables(NAME))
    assert log.totals(NAME)["predictions"] == 400
    log.close()
    again = Log(DuckDB(tmp_path / "log.duckdb"))
    assert again.models() == [NAME]
    assert [path.name for path in tmp_path.iterdir()] == ["log.duckdb"]
    again.close()
