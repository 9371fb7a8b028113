"""Nothing that is passed to a client raises into the program that passes it, and all of it is accounted for."""

from __future__ import annotations

import logging
import tempfile
from collections import UserDict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from listener import Hostile, Server, dead_url, ids, inbox

from watchkeeper.client import Client
from watchkeeper.errors import DataError, DeliveryError

HARD = (10**5000, Hostile(), np.float32("nan"), np.arange(3), "\ud800", "x" * 1000, object())
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(),
    st.binary(),
    st.datetimes(),
    st.integers(0, 6).map(lambda i: HARD[i]),
)
anything = st.recursive(
    scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner), max_leaves=8
)
names = st.sampled_from(
    ["prediction", "score", "request_id", "entity_id", "event_time", "latency_ms", "cost", "status", "variant",
     "version", "context"]
)  # fmt: skip


@settings(max_examples=80)
@given(anything, st.dictionaries(names, anything), anything, anything)
def test_nothing_raises(features: Any, fields: dict[str, Any], label: Any, rows: Any) -> None:
    with tempfile.TemporaryDirectory() as folder, patch("os.fsync"):  # which would take most of the time
        with Client(folder, model="delays", interval=3600) as client:
            client.log(features, **fields)
            client.log({"x": features}, **fields)
            client.label(label, features)
            client.label("r", label, features)
            client.log_many(rows)
            client.log_many({"x": rows, "y": label})
            client.label_many(rows, label)
            with client.prediction(features) as p:
                p.score, p.context, p.status, p.features = label, rows, features, rows
            good = client.log({})
            assert client.flush()
            stats = client.stats
        assert stats.logged == stats.delivered + sum(stats.dropped.values())
        assert set(stats.dropped) <= {"invalid"}
        assert good in ids(inbox(Path(folder)))


def test_a_mapping_of_another_type_is_copied(tmp_path: Path) -> None:
    features: UserDict[str, object] = UserDict(distance=1)
    with Client(tmp_path, model="delays") as client:
        client.log(features)
        features["distance"] = 2
    assert inbox(tmp_path)[0]["features"] == {"distance": 1}


def test_a_logging_handler_that_fails_is_no_matter(tmp_path: Path) -> None:
    class Broken(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise RuntimeError("broken")

    handler = Broken()
    logging.getLogger("watchkeeper.client").addHandler(handler)
    try:
        with Client(tmp_path, model="delays") as client:
            client.log([])  # type: ignore[arg-type]
        client.log({})
    finally:
        logging.getLogger("watchkeeper.client").removeHandler(handler)
    assert client.stats.dropped == {"invalid": 1, "closed": 1}


def test_a_fault_of_ours_ends_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    client = Client(tmp_path, model="delays", interval=3600)
    monkeypatch.setattr(client._sender._target, "send", lambda parcel: 1 / 0)
    one = client.log({})
    assert not client.flush()
    monkeypatch.undo()
    assert client.flush()
    client.close()
    assert ids(inbox(tmp_path)) == [one]


def test_strict_tells_what_is_wrong_at_once(tmp_path: Path) -> None:
    with Client(tmp_path, model="delays", strict=True) as client:
        with pytest.raises(DataError, match="must be columns"):
            client.log_many(7)
        with pytest.raises(DataError, match='features has "arrival"'):
            client.log_many([{"cost": 1, "arrival": 2}])
        with pytest.raises(DataError, match="label is missing"):
            client.label_many(["a"], [None])
        with pytest.raises(ValueError, match="digits"):
            client.log({"x": 10**5000})
        one = client.log({"x": 1})
    assert ids(inbox(tmp_path)) == [one]
    assert client.stats.dropped == {}


def test_strict_tells_what_is_not_delivered() -> None:
    client = Client(dead_url(), model="delays", strict=True, timeout=1.0)
    client.log({})
    with pytest.raises(DeliveryError, match=r"not delivered: .* cannot be reached"):
        client.flush()
    with pytest.raises(DeliveryError, match="could not be delivered: 1"):
        client.close()


def test_the_stats_add_up(server: Server, tmp_path: Path) -> None:
    client = Client(server.url, model="delays", interval=3600, buffer=10, spool=tmp_path)
    for _ in range(3):
        client.log({})
    client.log({}, event_time=datetime(2013, 7, 4))  # noqa: DTZ001
    assert (client.stats.logged, client.stats.waiting, client.stats.delivered) == (4, 4, 0)
    assert client.flush()
    assert (client.stats.logged, client.stats.waiting, client.stats.delivered) == (4, 0, 3)
    assert client.stats.dropped == {"invalid": 1}
    server.refuse = lambda events: 503
    client.log_many({"x": range(5)})
    client.label("r", 1, datetime(2013, 7, 4, tzinfo=UTC))
    assert client.stats.waiting == 6
    assert client.flush(), "it is safe in the spool"
    assert (client.stats.logged, client.stats.waiting, client.stats.spooled) == (10, 0, 6)
    server.refuse = lambda events: 200
    assert client.flush()
    assert (client.stats.spooled, client.stats.delivered) == (0, 9)
    client.close()
    assert (client.stats.logged, client.dropped) == (10, 1)
