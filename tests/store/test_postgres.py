"""Postgres as the log's home: what the log's own tests do not see of it."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pytest

from watchkeeper.errors import DataError, StateError
from watchkeeper.schema import ModelConfig
from watchkeeper.store import postgres
from watchkeeper.store.fitting import table
from watchkeeper.store.log import Log
from watchkeeper.store.postgres import Postgres, secret

NOON = datetime(2024, 3, 1, 12, tzinfo=UTC)
M = "churn"


@pytest.fixture
def url(new_postgres: Callable[[], str]) -> str:
    return new_postgres()


@pytest.fixture
def backend(url: str) -> Iterator[Postgres]:
    backend = Postgres(url)
    yield backend
    backend.close()


Opened = Callable[..., Log]


@pytest.fixture
def opened(url: str) -> Iterator[Opened]:
    """Opens the one log of the test, for a model of these columns, once more at each call."""
    logs: list[Log] = []

    def new(**columns: str) -> Log:
        logs.append(Log(Postgres(url)))
        logs[-1].open_model(M, model(**columns))
        return logs[-1]

    yield new
    for log in logs:
        log.close()


def model(**columns: str) -> ModelConfig:
    kinds = columns or {"age": "numeric"}
    return ModelConfig.model_validate({"columns": {name: {"kind": kind} for name, kind in kinds.items()}})


def rows(ids: list[str], **columns: Any) -> pa.Table:
    return table({"request_id": ids, "event_time": [NOON] * len(ids), **columns})


AWKWARD = pa.table(
    {
        "text": ["", " ", None, '"', "a,b", "two\nlines", "\r\n", "\\.", "\\N", "NULL", "it's", "遅延 🚨", "%s {x}"],
        "number": [
            1.5,
            -0.0,
            None,
            math.inf,
            -math.inf,
            5e-324,
            1.7976931348623157e308,
            0.1,
            1e22,
            1e-7,
            3.0,
            2.5,
            9.0,
        ],
        "whole": pa.array([1, -1, None, *range(10)], pa.int64()),
        "small": pa.array([1, -1, None, *range(10)], pa.int32()),
        "truth": [True, False, None, *[True] * 10],
        "moment": pa.array([NOON.replace(tzinfo=None), None, *range(0, 11_000_001, 1_000_001)], pa.timestamp("us")),
    }
)


def test_what_goes_in_comes_out(backend: Postgres) -> None:
    with backend.known("awkward", AWKWARD):
        assert backend.arrow("SELECT * FROM awkward").equals(AWKWARD)
        for name in AWKWARD.column_names:
            assert backend.arrow(f"SELECT {name} FROM awkward").equals(AWKWARD.select([name]))
        assert backend.arrow("SELECT * FROM awkward WHERE FALSE").equals(AWKWARD.schema.empty_table())
    with backend.known("numbers", pa.table({"x": [math.nan]})):
        assert math.isnan(backend.arrow("SELECT x FROM numbers")["x"][0].as_py())


def test_a_large_answer_comes_in_batches_and_sees_one_moment(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres, "BLOCK", 1 << 20)
    log = opened()
    log.append(M, rows([str(i) for i in range(300_000)], age=[1.5] * 300_000))
    with log.backend.stream(f"SELECT request_id, age FROM predictions_{M}") as answer:
        first = answer.read_next_batch()
        assert 0 < first.num_rows < 300_000
        log.append(M, rows(["late"]))
        assert first.num_rows + sum(batch.num_rows for batch in answer) == 300_000
    with log.backend.stream(f"SELECT request_id FROM predictions_{M}") as answer:
        answer.read_next_batch()  # the rest is not wanted
    with log.backend.stream(f"SELECT request_id, age FROM predictions_{M} WHERE age > 2") as answer:
        assert answer.read_all().to_pydict() == {"request_id": [], "age": []}


def test_a_character_that_postgres_has_no_place_for_is_replaced(opened: Opened) -> None:
    log = opened(age="numeric", word="categorical")
    assert log.append(M, rows(["a\0b"], word=["\0"])).stored == 1
    assert log.append(M, rows(["a\0b"])).duplicates == 1
    assert log.backend.rows(f"SELECT request_id, word FROM predictions_{M}") == [("a\ufffdb", "\ufffd")]


def test_a_batch_with_a_value_that_postgres_cannot_hold_is_refused_whole(opened: Opened) -> None:
    log = opened()
    far = pa.table({"request_id": ["a", "b"], "event_time": pa.array([0, 2**63 - 1], pa.timestamp("us"))})
    with pytest.raises(DataError, match="Postgres cannot hold one of the values"):
        log.append(M, far)
    assert log.append(M, rows(["a"])).stored == 1


def test_writers_at_once_double_nothing_and_number_their_batches_in_order(opened: Opened) -> None:
    logs = [opened() for _ in range(3)]
    seen: list[int] = []
    stored = [0] * len(logs)

    def write(at: int) -> None:
        for i in range(15):
            stored[at] += logs[at].append(M, rows([f"{i}", f"{at}-{i}"], age=[1.0, 2.0])).stored
            seen.append(logs[at].arrival(M))

    threads = [threading.Thread(target=write, args=(at,)) for at in range(len(logs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(stored) == logs[0].totals(M)["predictions"] == 15 + 3 * 15
    by_batch = logs[0].backend.rows(f"SELECT arrival, count(*) FROM predictions_{M} GROUP BY arrival ORDER BY arrival")
    assert [arrival for arrival, _ in by_batch] == list(range(1, 46)), "no number twice"
    assert max(seen) == 45


def test_a_lost_connection_is_made_anew(opened: Opened, url: str) -> None:
    log, other = opened(), Postgres(url)
    backend = log.backend
    (process,) = backend.rows("SELECT pg_backend_pid()")[0]
    other.rows(f"SELECT pg_terminate_backend({process})")
    with pytest.raises(StateError, match="cannot be used now"):
        log.append(M, rows(["a"]))
    assert log.append(M, rows(["a"])).stored == 1
    other.close()


def test_names_that_postgres_would_cut_are_refused(opened: Opened) -> None:
    long = "x" * 54
    with pytest.raises(StateError, match=f'"{long}" has 54 bytes, and in Postgres there may be 53'):
        opened(**{long: "numeric"})
    log = opened()
    with pytest.raises(StateError, match="there may be 53"):
        opened(age="numeric", **{long: "numeric"})
    with pytest.raises(StateError, match="there may be 63"):
        log.open_model("m" * 60, model())


def test_a_server_that_is_not_there_is_told_without_its_password() -> None:
    with pytest.raises(StateError, match=r"postgresql://me@/none\?host=/no/such cannot be opened") as told:
        Postgres("postgresql://me:word@/none?host=/no/such")
    assert "word" not in str(told.value).replace("password", "")
    assert secret("postgresql://host/db") == "postgresql://host/db"


def test_what_to_install_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres, "psycopg", None)
    with pytest.raises(StateError, match=r'pip install "watchkeeper\[postgres\]"'):
        Postgres("postgresql://host/db")
