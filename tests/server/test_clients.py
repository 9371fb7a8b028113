"""The client and the server together: whatever was logged, and however it went, is in the log once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import fraud_story
import live
import numpy as np
import pyarrow as pa
import pytest

from watchkeeper.client import Client
from watchkeeper.engine import Engine
from watchkeeper.server import access
from watchkeeper.server.access import Role
from watchkeeper.server.app import create_app

AT = datetime(2024, 3, 1, 10, tzinfo=UTC)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    made = Engine(tmp_path / "store", fraud_story.CONFIG, clock=lambda: live.NOW)
    yield made
    made.close()


def totals(engine: Engine) -> dict[str, int]:
    engine.tick()
    return engine.log.totals("eta")


def several(client: Client) -> None:
    """A prediction in each way that there is, and two labels."""
    one = client.log({"distance": 3.5, "city": "Graz"}, score=0.2, event_time=AT, cost=0.5, entity_id=7)
    client.log({"distance": float("nan"), "city": "Graz\ud800"}, event_time=AT, status="timeout", context={"a": [1]})
    with client.prediction({"distance": 1, "city": None}, event_time=AT) as p:
        p.score = np.float32(0.25)
    many = client.log_many({"distance": np.arange(5.0), "city": ["Graz"] * 5, "score": [0.5] * 5}, event_time=AT)
    client.log_many(pa.table({"distance": [1.0], "city": pa.array(["Wien"]).dictionary_encode()}), event_time=AT)
    client.log_many([{"distance": 1, "city": "Linz"}, {"distance": "two", "city": "Linz"}], event_time=AT)
    client.label(one, 1)
    client.label_many(many, [0, 1, 0, 1, 0])


WANTED = {"predictions": 11, "labelled": 6, "orphans": 0, "set_aside": 1}


def test_everything_reaches_the_log_over_http(engine: Engine) -> None:
    with live.serving(live.application(engine)) as url, Client(url, model="eta", version="v1") as client:
        several(client)
        assert client.flush()
        stats = client.stats
    assert (stats.delivered, stats.dropped) == (17, {})
    assert totals(engine) == WANTED


def test_everything_reaches_the_log_through_the_inbox(engine: Engine, tmp_path: Path) -> None:
    with Client(tmp_path / "store", model="eta", version="v1") as client:
        several(client)
    assert totals(engine) == WANTED


def test_everything_reaches_the_log_through_a_spool(engine: Engine, tmp_path: Path) -> None:
    with live.serving(live.application(engine)) as url:
        pass
    with Client(url, model="eta", spool=tmp_path / "spool", timeout=1.0) as client:
        several(client)
        assert client.flush()
        assert client.stats.spooled == 17
    with live.serving(live.application(engine)) as url, Client(url, model="eta", spool=tmp_path / "spool") as client:
        assert client.flush()
        assert client.stats.delivered == 17
    assert totals(engine) == WANTED


def test_sending_again_changes_nothing(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """As after an answer that was lost on the way."""
    with live.serving(live.application(engine)) as url, Client(url, model="eta", interval=3600) as client:
        target = client._sender._target
        real: Callable[[Any], Any] = target.send
        monkeypatch.setattr(target, "send", lambda parcel: [real(parcel), real(parcel)][-1])
        several(client)
        assert client.flush()
    assert totals(engine) == WANTED


def test_with_a_key(engine: Engine) -> None:
    key = access.create(engine.state, "the service", Role.WRITER, live.NOW, "tests")
    app = create_app(engine.state, clock=engine.clock, operations=engine, inbox=engine.inbox)
    with live.serving(app) as url:
        client = Client(url, model="eta", timeout=1.0, interval=3600)
        client.log({"distance": 3.5, "city": "Graz"})
        assert not client.flush()
        client.close()
        assert client.stats.dropped == {"undelivered": 1}
        with Client(url, model="eta", api_key=key) as client:
            several(client)
        assert client.stats.delivered == 17
    assert totals(engine) == WANTED


def test_what_clients_drop_is_told_in_the_accounts(engine: Engine, tmp_path: Path) -> None:
    with live.serving(live.application(engine)) as url:
        for target in (url, tmp_path / "store"):
            with Client(target, model="eta", version="v1") as client:
                for _ in range(3):
                    client.log({"distance": 1.0}, event_time=datetime(2024, 3, 1))  # no zone  # noqa: DTZ001
                    client.flush()
                    engine.tick()
    engine.tick()
    with engine.state.snapshot() as tx:
        assert tx.counts("eta")["dropped by clients, invalid"] == 6


def test_labels_come_with_their_source(engine: Engine, tmp_path: Path) -> None:
    with Client(tmp_path / "store", model="eta", version="v1") as client:
        many = client.log_many({"distance": [1.0, 2.0, 3.0], "city": ["Graz"] * 3}, event_time=AT)
        client.label_many(many[:2], [0, 1], source="implicit")
        client.label_many(many[2:], [1], source=["delayed"])
    engine.tick()
    with engine.state.snapshot() as tx:
        counts = tx.counts("eta")
    assert (counts["source implicit"], counts["source delayed"]) == (2, 1)
