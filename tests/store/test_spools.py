"""Spools from outside: they are held as long as something is taken out of them, and never while a client has them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from watchkeeper.client.rows import Line
from watchkeeper.client.spool import Spool
from watchkeeper.errors import StateError
from watchkeeper.store import spools


def left_behind(folder: Path, *names: str) -> None:
    client = Spool(folder, limit=1 << 20, sync="never")
    client.put([Line("m", "prediction", json.dumps({"model": "m", "kind": "prediction", "n": n})) for n in names])
    client.close()


def test_what_clients_left_is_held_and_then_theirs_again(tmp_path: Path) -> None:
    left_behind(tmp_path, "a", "b")
    left_behind(tmp_path, "c")
    later = Spool(tmp_path, limit=1 << 20, sync="never")
    with spools.held([tmp_path, tmp_path]) as folders:
        assert len(folders) == 2
        assert later.adopt() == 0
        later.put([Line("m", "prediction", "{}")])  # a folder of its own it may make meanwhile
    assert later.adopt() == 2
    later.close()


def test_a_client_that_lives_is_not_disturbed(tmp_path: Path) -> None:
    client = Spool(tmp_path, limit=1 << 20, sync="never")
    client.put([Line("m", "prediction", "{}")])
    with pytest.raises(StateError, match=r"a client that lives has .* close it"), spools.held([tmp_path]):
        pass
    client.close()
    with spools.held([tmp_path]) as folders:
        assert len(folders) == 1


def test_what_is_no_spool_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StateError, match="is not the spool of a client"), spools.held([tmp_path]):
        pass
    left_behind(tmp_path, "a")
    descriptor = spools.lock(tmp_path / spools.GUARD)
    assert descriptor is not None
    monkeypatch.setattr(spools, "TRIES", 2)
    with pytest.raises(StateError, match="locked by another process"), spools.held([tmp_path]):
        pass
    spools.unlock(descriptor)
    monkeypatch.setattr(spools, "fcntl", None)
    with pytest.raises(StateError, match="file locks"), spools.held([tmp_path]):
        pass
