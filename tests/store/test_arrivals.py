"""The inbox's batches of columns: what is put comes out as it was, and damage is told."""

from __future__ import annotations

import os
import resource
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest

from watchkeeper import events
from watchkeeper.errors import DataError, StateError
from watchkeeper.store import arrivals, privacy
from watchkeeper.store.arrivals import Batch
from watchkeeper.store.inbox import Inbox

ROWS = pa.table({"request_id": ["a", "b"], "amount": [1.5, None], "country": ["NL", "délai 遅延 🚨"]})


def test_what_is_put_comes_out_as_it_was(tmp_path: Path) -> None:
    inbox = Inbox(tmp_path)
    protected = ROWS.slice(0, 1).replace_schema_metadata({privacy.MARK: b"1"})
    batches = [Batch("loans", events.PREDICTION, ROWS), Batch("eta", events.OUTCOME, protected)]
    paths = arrivals.put(inbox, batches)
    assert inbox.waiting() == paths
    assert [arrivals.read(path) for path in paths] == batches
    assert [privacy.is_protected(arrivals.read(path).rows) for path in paths] == [False, True]
    assert inbox.backlog() == (2, sum(path.stat().st_size for path in paths))


def test_the_two_forms_wait_side_by_side_in_the_order_they_came(tmp_path: Path) -> None:
    inbox = Inbox(tmp_path)
    first = inbox.put([{"i": 1}])
    second = arrivals.put(inbox, [Batch("loans", events.PREDICTION, ROWS)])[0]
    third = inbox.put([{"i": 2}])
    assert inbox.waiting() == [first, second, third]
    assert [events for _, events in inbox.batches()] == [[{"i": 1}], [{"i": 2}]]


def test_batches_without_rows_leave_nothing(tmp_path: Path) -> None:
    inbox = Inbox(tmp_path)
    assert arrivals.put(inbox, [Batch("loans", events.PREDICTION, ROWS.slice(0, 0))]) == []
    assert inbox.waiting() == []


def test_several_batches_share_one_sync_of_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced, real = [], os.fsync
    monkeypatch.setattr(os, "fsync", lambda handle: synced.append(os.fstat(handle).st_ino) or real(handle))
    inbox = Inbox(tmp_path)
    paths = arrivals.put(inbox, [Batch(name, events.PREDICTION, ROWS) for name in ("a", "b", "c")])
    assert synced == [*(path.stat().st_ino for path in paths), inbox.folder.stat().st_ino]


@pytest.mark.parametrize("keep", [0, 10, 200, 800])
def test_a_damaged_file_is_told(tmp_path: Path, keep: int) -> None:
    path = arrivals.put(Inbox(tmp_path), [Batch("loans", events.PREDICTION, ROWS)])[0]
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(DataError, match="no batch of events, or was damaged"):
        arrivals.read(path)


def test_a_table_of_somebody_else_is_told(tmp_path: Path) -> None:
    path = tmp_path / "1.arrow"
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, ROWS.schema) as stream:
        stream.write_table(ROWS)
    with pytest.raises(DataError, match="no batch of events"):
        arrivals.read(path)


def test_rows_become_events_again() -> None:
    at = datetime(2024, 1, 1, tzinfo=UTC)
    rows = pa.table({"request_id": ["a"], "event_time": [at], "score": [0.5], "amount": [2.0], "country": pa.nulls(1)})
    [event] = Batch("loans", events.PREDICTION, rows).events()
    assert event["features"] == {"amount": 2.0}
    assert events.read(event)["event_time"] == "2024-01-01T00:00:00+00:00"
    outcome = pa.table({"request_id": ["a"], "label": [1], "known_at": [at]})
    assert events.read(Batch("loans", events.OUTCOME, outcome).events()[0])["label"] == 1


def test_tables_whose_columns_differ_in_type_become_one() -> None:
    tables = [
        pa.table({"request_id": ["a"], "x": [1], "y": ["word"], "z": pa.nulls(1)}),
        pa.table({"request_id": ["b"], "x": [2.5], "y": [3.0], "z": [True]}),
        pa.table({"request_id": ["c"], "x": pa.nulls(1), "y": [True], "z": ["w"]}),
    ]
    found = arrivals.together(tables)
    assert found["x"].to_pylist() == [1.0, 2.5, None]
    assert found["y"].to_pylist() == ["word", "3", "true"]
    assert found["z"].to_pylist() == [None, "true", "w"]
    assert arrivals.together(tables[:1]) is tables[0]


def test_a_disk_that_fills_up_leaves_nothing_behind(tmp_path: Path) -> None:
    inbox = Inbox(tmp_path)
    large = Batch("loans", events.PREDICTION, pa.table({"request_id": [str(i) for i in range(10_000)]}))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, limits[1]))  # files may have no more, as if the disk were full
    try:
        with pytest.raises(StateError, match="events cannot be written"):
            arrivals.put(inbox, [Batch("loans", events.PREDICTION, ROWS), large])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(inbox.folder.iterdir()) == []
    assert len(arrivals.put(inbox, [large])) == 1
