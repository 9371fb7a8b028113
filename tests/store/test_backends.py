"""The embedded log's file when its disk is full, and when a rewriting of it was interrupted; see also `test_log`."""

from __future__ import annotations

import random
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pytest

from watchkeeper.errors import StateError
from watchkeeper.store.backends import DuckDB

KEY = ("request_id",)


def batch(number: int, rows: int = 2000) -> pa.Table:
    """Rows that cannot be made smaller, no two the same."""
    chance = random.Random(number)
    ids = [f"{number}-{i}" for i in range(rows)]
    return pa.table({"request_id": ids, "text": [chance.randbytes(32).hex() for _ in ids]})


@pytest.fixture
def backend(tmp_path: Path) -> Iterator[DuckDB]:
    found = DuckDB(tmp_path / "log.duckdb")
    found.create("rows", {"request_id": "VARCHAR", "text": "VARCHAR"}, KEY)
    yield found
    found.close()


@contextmanager
def no_file_above(size: int) -> Iterator[None]:
    """What a full disk does: a file cannot grow."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def append(backend: DuckDB, number: int) -> int:
    with backend.transaction():
        return backend.insert("rows", batch(number), KEY)


def test_a_disk_that_is_full_at_a_checkpoint_is_no_end(backend: DuckDB, tmp_path: Path) -> None:
    backend.run("SET checkpoint_threshold = '400KB'")
    sent = 0
    while (tmp_path / "log.duckdb").stat().st_size < 2_000_000:
        append(backend, sent)
        sent += 1
    failed = ""
    with no_file_above((tmp_path / "log.duckdb").stat().st_size):
        for number in range(sent, sent + 20):
            try:
                append(backend, number)
            except StateError as problem:
                failed = str(problem)
                break
    assert "cannot be used now" in failed
    assert "has space" in failed
    for number in range(sent + 20):  # whoever has not heard of a commit sends again
        append(backend, number)
    assert backend.rows("SELECT count(*), count(DISTINCT request_id) FROM rows") == [((sent + 20) * 2000,) * 2]


def test_a_disk_that_stays_full_is_told_each_time(backend: DuckDB, tmp_path: Path) -> None:
    append(backend, 0)
    backend.run("CHECKPOINT")
    append(backend, 1)
    with no_file_above(1000):
        with pytest.raises(StateError):
            backend.run("CHECKPOINT")
        for _ in range(2):
            with pytest.raises(StateError), backend.transaction():
                backend.insert("rows", batch(2), KEY)
    assert append(backend, 2) == 2000
    assert backend.rows("SELECT count(*) FROM rows") == [(6000,)]


def test_readers_open_it_anew_as_well(backend: DuckDB) -> None:
    append(backend, 0)
    with no_file_above(1000), pytest.raises(StateError):
        backend.run("CHECKPOINT")
    with backend.stream("SELECT request_id FROM rows") as found:
        assert found.read_all().num_rows == 2000


def test_what_an_interrupted_rewriting_left_is_removed(tmp_path: Path) -> None:
    for name in ("log.duckdb.fresh", "log.duckdb.fresh.wal"):
        (tmp_path / name).write_bytes(b"left")
    DuckDB(tmp_path / "log.duckdb").close()
    assert [path.name for path in tmp_path.iterdir()] == ["log.duckdb"]
