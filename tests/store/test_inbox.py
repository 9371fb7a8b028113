"""The inbox: whole batches or nothing, from any number of writers, and nothing that came in is lost."""

from __future__ import annotations

import errno
import json
import math
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from watchkeeper.errors import StateError
from watchkeeper.store.inbox import Inbox


def everything(inbox: Inbox) -> list[dict[str, Any]]:
    return [event for _, events in inbox.batches() for event in events]


def kept_aside(inbox: Inbox) -> list[dict[str, Any]]:
    files = sorted(inbox.rejects.glob("*.ndjson"))
    return [json.loads(line) for path in files for line in path.read_text(encoding="utf-8").splitlines()]


def test_what_is_put_comes_out_as_it_was(tmp_path: Path) -> None:
    inbox = Inbox(tmp_path / "store")
    events: list[dict[str, Any]] = [
        {"request_id": "1", "value": 0.1, "none": None, "deep": {"a": [1, True]}},
        {"request_id": "2", "text": 'line\nbreak, "quote", \u2028 and \x85, délai 遅延 🚨'},
        {"request_id": "3", "huge": 10**30, "infinite": math.inf},
    ]
    path = inbox.put(events)
    assert path is not None
    assert [(p, e) for p, e in inbox.batches()] == [(path, events)]


def test_nothing_put_leaves_nothing(tmp_path: Path) -> None:
    inbox = Inbox(tmp_path)
    assert inbox.put([]) is None
    assert list(inbox.batches()) == []
    assert not inbox.folder.exists()
    assert inbox.rejected() == 0


def test_batches_come_oldest_first(tmp_path: Path) -> None:
    inbox = Inbox(tmp_path)
    for i in range(20):
        inbox.put([{"i": i}])
    assert [event["i"] for event in everything(inbox)] == list(range(20))


def test_reading_twice_gives_the_same_until_a_batch_is_done(tmp_path: Path) -> None:
    inbox = Inbox(tmp_path)
    for i in range(3):
        inbox.put([{"i": i}])
    assert everything(inbox) == everything(Inbox(tmp_path))
    first = next(inbox.batches())[0]
    inbox.done(first)
    inbox.done(first)
    assert [event["i"] for event in everything(inbox)] == [1, 2]


def test_a_batch_that_is_not_whole_is_not_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inbox = Inbox(tmp_path)
    written = []

    def interrupted(self: Path, target: Path) -> Path:
        written.append(self.read_text(encoding="utf-8"))
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        inbox.put([{"i": 1}, {"i": 2}])
    assert written == ['{"i":1}\n{"i":2}\n'], "all of it was on disk before it got its name"
    assert everything(inbox) == []
    monkeypatch.undo()
    inbox.put([{"i": 3}])
    assert everything(inbox) == [{"i": 3}]


def test_a_batch_and_its_folder_are_synced_before_put_returns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced, real = [], os.fsync
    monkeypatch.setattr(os, "fsync", lambda handle: synced.append(os.fstat(handle).st_ino) or real(handle))
    inbox = Inbox(tmp_path)
    path = inbox.put([{"i": 1}])
    assert path is not None
    assert synced == [path.stat().st_ino, inbox.folder.stat().st_ino]


def test_what_a_dead_writer_left_is_swept_and_nothing_else(tmp_path: Path) -> None:
    inbox = Inbox(tmp_path)
    kept = inbox.put([{"n": 1}])
    inbox.reject("batch", [{"n": 2}], "wrong")
    for folder in (inbox.folder, inbox.rejects):
        for name, age in (("dead.ndjson.part", 3600), ("slow.arrow.part", 1)):
            (folder / name).write_text("half a li")
            made = time.time() - age
            os.utime(folder / name, (made, made))
    inbox.sweep()
    assert kept is not None
    assert {path.name for path in inbox.folder.iterdir()} == {kept.name, "slow.arrow.part"}
    assert {path.suffix for path in inbox.rejects.iterdir()} == {".ndjson", ".part"}
    assert everything(inbox) == [{"n": 1}]
    Inbox(tmp_path / "nowhere").sweep()


def test_a_writer_whose_file_is_swept_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inbox, synced = Inbox(tmp_path), os.fsync

    def slow(file: int) -> None:
        synced(file)
        for path in inbox.folder.glob("*.part"):
            os.utime(path, (0, 0))
        inbox.sweep()

    monkeypatch.setattr(os, "fsync", slow)
    with pytest.raises(StateError, match="cannot be written"):
        inbox.put([{"n": 1}])
    assert everything(inbox) == []


def test_a_full_disk_is_told_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StateError, match="No space left on device; check space and rights"):
        Inbox(tmp_path).put([{"i": 1}])


def test_a_store_that_cannot_be_a_folder_is_told_in_words(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("here")
    with pytest.raises(StateError, match="events cannot be written to"):
        Inbox(tmp_path / "file").put([{"i": 1}])


# broken lines and rejects


@pytest.mark.parametrize(
    "broken",
    [b'{"i": ', b"not json", b"\xff\xfe\x00", b'{"a": "\xe9"}', b"[" * 100_000, b"1" * 5000, b'{"i": 1} {"i": 2}'],
    ids=["cut off", "words", "binary", "latin-1", "too deep", "too long a number", "two in a line"],
)
def test_a_broken_line_is_kept_aside_and_the_rest_is_read(tmp_path: Path, broken: bytes) -> None:
    inbox = Inbox(tmp_path)
    inbox.folder.mkdir()
    path = inbox.folder / "00000000000000000001-1-0.ndjson"
    path.write_bytes(b'{"i":1}\n' + broken + b'\n\n{"i":2}')
    for _ in range(2):
        assert everything(inbox) == [{"i": 1}, {"i": 2}]
        (kept,) = kept_aside(inbox)
        assert kept["reason"].startswith("not JSON: ")
        assert kept["event"] == {"line": broken.decode(errors="replace")}
    assert inbox.rejected() == 1


def test_an_empty_batch_is_a_batch_of_nothing(tmp_path: Path) -> None:
    inbox = Inbox(tmp_path)
    inbox.folder.mkdir()
    (inbox.folder / "1-1-0.ndjson").touch()
    assert [events for _, events in inbox.batches()] == [[]]


def test_rejects_are_kept_beside_why(tmp_path: Path) -> None:
    inbox = Inbox(tmp_path)
    inbox.reject("batch", [{"request_id": "a"}, {"request_id": "b"}], "no such model")
    assert kept_aside(inbox) == [
        {"reason": "no such model", "event": {"request_id": "a"}},
        {"reason": "no such model", "event": {"request_id": "b"}},
    ]
    assert inbox.rejected() == 2
    assert everything(inbox) == []


def test_events_of_one_batch_that_look_alike_are_all_kept_aside(tmp_path: Path) -> None:
    inbox = Inbox(tmp_path)
    for name in ("a1", "a2", "b1"):
        inbox.reject("batch", [{"request_id": name}], "no such model")
    assert sorted(kept["event"]["request_id"] for kept in kept_aside(inbox)) == ["a1", "a2", "b1"]


def test_rejecting_again_changes_nothing(tmp_path: Path) -> None:
    inbox = Inbox(tmp_path)
    for _ in range(3):
        inbox.reject("batch", [{"request_id": "a"}], "no such model")
        inbox.reject("batch", [], "nothing at all")
    assert inbox.rejected() == 1


# many writers


def test_many_threads_and_processes_lose_nothing(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from watchkeeper.store.inbox import Inbox\n"
        "inbox = Inbox(Path(sys.argv[1]))\n"
        "for i in range(25): inbox.put([{'id': f'{sys.argv[2]}-{i}'}])"
    )
    writers = [subprocess.Popen([sys.executable, "-c", program, str(tmp_path), str(p)]) for p in range(3)]
    inbox = Inbox(tmp_path)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: inbox.put([{"id": f"thread-{i}"}]), range(100)))
    while any(writer.poll() is None for writer in writers):
        everything(inbox)  # reading meanwhile sees whole batches only, or raises
    assert [writer.returncode for writer in writers] == [0, 0, 0]
    found = [event["id"] for event in everything(inbox)]
    expected = {f"thread-{i}" for i in range(100)} | {f"{p}-{i}" for p in range(3) for i in range(25)}
    assert len(found) == len(expected)
    assert set(found) == expected
    assert inbox.rejected() == 0


def test_refused_events_are_kept_as_they_may_be(tmp_path: Path) -> None:
    inbox = Inbox(tmp_path, hide=lambda event: {"hidden": list(event)})
    inbox.reject("batch", [{"name": "Ann"}], "why")
    [file] = inbox.rejects.glob("*")
    assert json.loads(file.read_text()) == {"reason": "why", "event": {"hidden": ["name"]}}
