"""Group commit: acknowledged only when safe, together with others, within bounds, and each by itself when one fails."""

from __future__ import annotations

import asyncio
import errno
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from watchkeeper import events
from watchkeeper.errors import StateError
from watchkeeper.server import commit, formats
from watchkeeper.server.commit import Committer
from watchkeeper.server.services import RequestError
from watchkeeper.store import arrivals
from watchkeeper.store.arrivals import Batch
from watchkeeper.store.inbox import Inbox


def committing(inbox: Inbox) -> Committer:
    return Committer(inbox, lambda batch: batch)


def found(*names: str, **features: Any) -> formats.Found:
    sent = [
        {"request_id": name, "event_time": "2024-03-01T10:00:00Z", "features": features or {"x": 1}} for name in names
    ]
    return formats._one_by_one(sent, events.PREDICTION, "eta")


def kept(inbox: Inbox) -> list[str]:
    batches = [arrivals.read(path) for path in inbox.waiting()]
    return sorted(name for batch in batches for name in batch.rows["request_id"].to_pylist())


async def together(committer: Committer, requests: list[formats.Found]) -> list[Any]:
    sent = [committer.commit("eta", events.PREDICTION, request) for request in requests]
    return await asyncio.gather(*sent, return_exceptions=True)


def test_what_came_during_a_sync_is_written_in_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inbox, syncing, go = Inbox(tmp_path), threading.Event(), threading.Event()
    real = os.fsync

    def slow(handle: int) -> None:
        syncing.set()
        go.wait(10)
        real(handle)

    monkeypatch.setattr(os, "fsync", slow)

    async def scene() -> None:
        committer = committing(inbox)
        first = asyncio.create_task(committer.commit("eta", events.PREDICTION, found("first")))
        await asyncio.to_thread(syncing.wait, 10)
        rest = asyncio.create_task(together(committer, [found(f"r{i}") for i in range(50)]))
        await asyncio.sleep(0.05)
        assert not first.done(), "nothing is acknowledged before it is synced"
        go.set()
        await first
        assert await rest == [None] * 50
        await asyncio.to_thread(committer.close)

    asyncio.run(scene())
    assert [arrivals.read(path).rows.num_rows for path in inbox.waiting()] == [1, 50]


def test_each_model_kind_and_shape_has_a_file_of_its_own(tmp_path: Path) -> None:
    inbox = Inbox(tmp_path)
    entries = [
        commit._Entry(model, events.PREDICTION, request, None)  # type: ignore[arg-type]
        for model, request in [("a", found("1")), ("b", found("2")), ("a", found("3")), ("a", found("4", y=1))]
    ]
    arrivals.put(inbox, commit._batches(entries))
    assert sorted((b.model, b.rows.num_rows) for b in map(arrivals.read, inbox.waiting())) == [
        ("a", 1), ("a", 2), ("b", 1),
    ]  # fmt: skip


def test_a_full_disk_acknowledges_nothing_and_leaves_nothing_and_the_next_request_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inbox = Inbox(tmp_path)

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    async def scene() -> None:
        committer = committing(inbox)
        with monkeypatch.context() as patched:
            patched.setattr(os, "fsync", full)
            for problem in await together(committer, [found("a"), found("b", y=1)]):
                assert isinstance(problem, StateError)
                assert "No space left on device" in str(problem)
        assert list(inbox.folder.iterdir()) == []
        assert await together(committer, [found("c")]) == [None]

    asyncio.run(scene())
    assert kept(inbox) == ["c"]


def test_a_request_that_cannot_be_written_fails_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    inbox, real = Inbox(tmp_path), formats.table

    def picky(kind: str, rows: Any, names: Any) -> Any:
        if any(row.request_id == "bad" for row in rows):
            raise ValueError("a mistake of ours")
        return real(kind, rows, names)

    monkeypatch.setattr(formats, "table", picky)
    outcomes = asyncio.run(together(committing(inbox), [found("a"), found("bad"), found("b")]))
    assert [type(outcome) for outcome in outcomes] == [type(None), ValueError, type(None)]
    assert kept(inbox) == ["a", "b"]
    assert "could not be written together" in caplog.text


def test_what_is_private_is_protected_before_it_is_written(tmp_path: Path) -> None:
    def hide(batch: Batch) -> Batch:
        return Batch(batch.model, batch.kind, batch.rows.drop_columns(["x"]))

    asyncio.run(together(Committer(Inbox(tmp_path), hide), [found("a", x="secret", y=1)]))
    [path] = Inbox(tmp_path).waiting()
    assert arrivals.read(path).rows["y"].to_pylist() == [1]
    assert b"secret" not in path.read_bytes()


def test_bytes_in_memory_are_bounded(tmp_path: Path) -> None:
    committer = committing(Inbox(tmp_path))
    committer.hold(commit.MOST_HELD)
    with pytest.raises(RequestError, match="busy") as refused:
        committer.hold(1)
    assert (refused.value.status, refused.value.headers) == (429, {"retry-after": "1"})
    committer.release(commit.MOST_HELD)
    committer.hold(1)


def test_the_backlog_is_bounded_until_the_engine_has_taken_it_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inbox = Inbox(tmp_path)
    monkeypatch.setattr(commit, "MOST_FILES", 3)
    monkeypatch.setattr(commit, "LOOK_EVERY", 0)

    async def scene() -> None:
        committer = committing(inbox)
        for i in range(3):
            committer.check_backlog()
            await committer.commit("eta", events.PREDICTION, found(str(i)))
        with pytest.raises(RequestError, match="wait for the engine") as refused:
            committer.check_backlog()
        assert (refused.value.status, refused.value.headers) == (429, {"retry-after": "10"})
        inbox.done(inbox.waiting()[0])
        committer.check_backlog()

    asyncio.run(scene())


def test_the_end_waits_for_what_was_sent(tmp_path: Path) -> None:
    inbox = Inbox(tmp_path)

    async def scene() -> None:
        committer = committing(inbox)
        sent = asyncio.create_task(together(committer, [found("a"), found("b")]))
        for _ in range(3):  # until both stand in the queue
            await asyncio.sleep(0)
        await asyncio.to_thread(committer.close)
        await sent
        with pytest.raises(RequestError, match="the server is ending"):
            await committer.commit("eta", events.PREDICTION, found("late"))
        await committer.commit("eta", events.PREDICTION, formats.Found())

    asyncio.run(scene())
    assert kept(inbox) == ["a", "b"]
    committing(inbox).close()


def test_a_sender_that_went_away_holds_nothing_up(tmp_path: Path) -> None:
    inbox = Inbox(tmp_path)

    async def scene() -> None:
        committer = committing(inbox)
        gone = asyncio.create_task(committer.commit("eta", events.PREDICTION, found("gone")))
        await asyncio.sleep(0)
        gone.cancel()
        await committer.commit("eta", events.PREDICTION, found("here"))

    asyncio.run(scene())
    assert "here" in kept(inbox)
