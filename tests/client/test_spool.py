"""The spool: first in, first out, on disk, bounded, and nobody's twice."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from watchkeeper.client import spool as spool_module
from watchkeeper.client.rows import Line
from watchkeeper.client.spool import Spool
from watchkeeper.errors import ConfigError, StateError
from watchkeeper.store import spools


def lines(*names: object, pad: int = 0) -> list[Line]:
    return [
        Line("m", "prediction", json.dumps({"model": "m", "kind": "prediction", "request_id": n, "pad": "x" * pad}))
        for n in names
    ]


def names(found: list[Line]) -> list[Any]:
    return [json.loads(line.text)["request_id"] for line in found]


def spool(folder: Path, limit: int = 1 << 20, sync: Any = "interval") -> Spool:
    return Spool(folder, limit=limit, sync=sync)


def drained(found: Spool, most: int = 3) -> list[Any]:
    all_names = []
    while batch := found.next(most):
        all_names += names(batch)
        found.done(len(batch))
    return all_names


@pytest.mark.parametrize("sync", ["always", "interval", "never"])
def test_first_in_first_out(tmp_path: Path, sync: str) -> None:
    found = spool(tmp_path / "spool", sync=sync)
    assert not found
    assert found.put([]) == 0
    assert not (tmp_path / "spool").exists()
    found.put(lines(*range(5)))
    found.put(lines(5, 6))
    assert (bool(found), found.rows) == (True, 7)
    assert names(found.next(2)) == [0, 1]
    assert names(found.next(2)) == [0, 1], "until they are done"
    found.done(2)
    found.put(lines(7))
    assert found.rows == 6
    assert drained(found) == [2, 3, 4, 5, 6, 7]
    assert (bool(found), found.rows) == (False, 0)
    found.close()
    assert [path.name for path in (tmp_path / "spool").iterdir()] == [".guard"]


def test_many_files_keep_the_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool_module, "SEGMENT", 300)
    found = spool(tmp_path)
    for i in range(40):
        found.put(lines(2 * i, 2 * i + 1))
    assert len(list(tmp_path.glob("*/*.ndjson"))) > 5
    assert drained(found, 7) == list(range(80))
    assert list(tmp_path.glob("*/*.ndjson")) == []


def test_a_full_spool_drops_the_oldest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool_module, "SEGMENT", 1000)
    found = spool(tmp_path, limit=5000)
    dropped = sum(found.put(lines(i, pad=400)) for i in range(50))
    assert 0 < found.rows < 50
    assert sum(path.stat().st_size for path in tmp_path.glob("*/*.ndjson")) <= 5000
    assert drained(found) == list(range(dropped, 50))


def test_a_full_spool_may_drop_what_is_being_read(tmp_path: Path) -> None:
    found = spool(tmp_path, limit=1000)
    found.put(lines(1, 2, 3, 4, pad=50))
    found.next(1)
    found.done(1)
    assert found.put(lines(5, pad=700)) == 3
    assert drained(found) == [5]


def test_what_can_never_fit_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    found = spool(tmp_path, limit=1000)
    with pytest.raises(StateError, match="its limit of 1000 bytes is reached"):
        found.put(lines(1, pad=2000))
    found.put(lines(2))
    assert drained(found) == [2]


def test_a_disk_that_is_full_tears_no_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = spool(tmp_path)
    found.put(lines(1))
    write = os.write

    def full(descriptor: int, data: Any) -> int:
        if len(data) < 30:
            raise OSError(28, "No space left on device")
        return write(descriptor, data[: len(data) // 2])

    monkeypatch.setattr(spool_module.os, "write", full)
    with pytest.raises(StateError, match="No space left on device; check space and rights"):
        found.put(lines(2))
    monkeypatch.undo()
    found.put(lines(3))
    assert drained(found) == [1, 3]


def test_what_a_client_left_is_taken_over_and_comes_first(tmp_path: Path) -> None:
    first, second = spool(tmp_path), spool(tmp_path)
    first.put(lines(1, 2))
    second.put(lines(10))
    assert second.adopt() == 0, "the first one lives"
    first.close()
    third = spool(tmp_path)
    third.put(lines(20))
    assert third.adopt() == 1
    assert second.adopt() == 0, "it is the third one's now"
    assert third.rows == 3
    assert drained(third) == [1, 2, 20]
    third.close()
    assert drained(second) == [10]
    second.close()
    assert [path.name for path in tmp_path.iterdir()] == [".guard"]


def test_what_is_read_stays_first_when_more_is_taken_over(tmp_path: Path) -> None:
    first, second = spool(tmp_path), spool(tmp_path)
    second.put(lines(1, 2))
    second.next(1)
    second.done(1)
    first.put(lines(5))
    first.close()
    second.adopt()
    second.put(lines(3))
    assert drained(second) == [2, 5, 3]


def test_only_the_user_of_the_process_can_read_it(tmp_path: Path) -> None:
    found = spool(tmp_path)
    found.put(lines(1))
    for path in tmp_path.rglob("*"):
        assert path.stat().st_mode & 0o077 == 0, path


def test_a_torn_line_is_left_out(tmp_path: Path) -> None:
    first = spool(tmp_path)
    first.put(lines(1, 2))
    first.close()
    (path,) = tmp_path.glob("*/*.ndjson")
    with path.open("a") as file:
        file.write('{"model": "m", "kind": "predi')
    second = spool(tmp_path)
    second.adopt()
    assert drained(second) == [1, 2]


def test_files_that_somebody_removed_are_passed_over(tmp_path: Path) -> None:
    found = spool(tmp_path)
    found.put(lines(1))
    for path in tmp_path.glob("*/*.ndjson"):
        path.unlink()
    assert drained(found) == []


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # newer Pythons warn of threads before a fork
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_child_that_forgets_keeps_no_lock(tmp_path: Path) -> None:
    first = spool(tmp_path)
    first.put(lines(1))
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.close(writer)
        first.forget()
        os.read(reader, 1)  # lives on until the parent has looked
        os._exit(0)
    os.close(reader)
    first.close()
    second = spool(tmp_path)
    try:
        assert wait_for_adoption(second)
        assert drained(second) == [1]
    finally:
        os.close(writer)
        os.waitpid(child, 0)


def wait_for_adoption(found: Spool) -> bool:
    """The child needs a moment until it has let go."""
    for _ in range(500):
        if found.adopt():
            return True
        spool_module.time.sleep(0.01)
    return False


@pytest.mark.parametrize("wrong", [{"limit": 0}, {"sync": "sometimes"}])
def test_a_spool_that_cannot_be_meant(tmp_path: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="a spool needs"):
        Spool(tmp_path, **{"limit": 1, "sync": "never", **wrong})


def test_a_system_without_locks_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spools, "fcntl", None)
    with pytest.raises(ConfigError, match="file locks"):
        spool(tmp_path)
