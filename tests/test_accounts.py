"""Accounts: every way in which predictions and outcomes meet, or miss each other, is counted and told."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from small_world import NAME, ROWS, World, config, in_postgres, moment, outcome, prediction, values
from watchkeeper import accounts
from watchkeeper.accounts import Accounts
from watchkeeper.events import losses
from watchkeeper.windows import DAY, Window


@pytest.fixture(params=["embedded", "postgres"])
def world(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[World]:
    settings = config(label_delay="1d")
    if request.param == "postgres":
        settings = in_postgres(settings, request.getfixturevalue("new_postgres")())
    world = World(tmp_path, settings)
    yield world
    world.engine.close()


def told(world: World) -> Accounts:
    with world.engine.state.snapshot() as tx:
        return accounts.accounts(tx, NAME, world.settings.models[NAME], world.now)


def put(world: World, *events: dict[str, Any]) -> None:
    world.engine.inbox.put(events)


def test_each_way_to_meet_is_counted(world: World) -> None:
    put(world, *(prediction(i, 0) for i in range(10)))
    put(world, *({**outcome(i, 0), "source": "explicit"} for i in range(4)))
    put(world, outcome(50, 0))  # early: its prediction comes a tick later
    put(world, outcome(60, 0))  # an orphan
    world.at(0.5)
    assert told(world).counts["orphans"] == 2
    put(world, prediction(50, 0))
    put(world, prediction(3, 0))  # again
    put(
        world, {**outcome(0, 0), "source": "explicit"}, {**outcome(1, 0), "source": "delayed"}
    )  # again, whoever says so
    put(world, outcome(2, 0, 1 - values(2)["label"]))  # the same moment, another label
    later = (moment(2) + timedelta(hours=1)).isoformat()
    put(world, {**outcome(3, 0, 1 - values(3)["label"]), "known_at": later, "source": "implicit"})  # a correction
    put(world, {"kind": "outcome", "model": NAME, "request_id": "x"}, {**prediction(9, 0), "model": "nobody"})
    put(world, {**prediction(11, 0), "features": {"amount": "many", "country": "DE"}})
    world.at(3)
    counts = told(world).counts
    assert counts == {
        "outcomes": 7, "requests": 6, "joined": 5, "early": 1, "orphans": 1, "conflicting": 1, "contradicted": 1,
        "outcomes again": 2, "predictions again": 1, "set aside": 1, "rejected": 1,
        "source explicit": 4, "source implicit": 1, "source not stated": 2,
    }  # fmt: skip
    assert told(world).join_rate == 5 / 6
    with world.engine.state.snapshot() as tx:
        assert tx.counts("") == {"rejected": 1}


def test_the_latest_outcome_counts_and_the_earlier_ones_are_kept(world: World) -> None:
    put(world, prediction(0, 0), outcome(0, 0, 1))
    put(world, {**outcome(0, 0, 0), "known_at": moment(2).isoformat()})
    put(world, {**outcome(0, 0, 1), "known_at": moment(1).isoformat()})
    world.at(3)
    rows = world.engine.log.labelled(NAME, Window(moment(0), moment(1)))
    assert rows.column("label").to_pylist() == [0]
    assert (told(world).counts["outcomes"], told(world).counts["conflicting"]) == (3, 1)


def test_the_share_of_labels_that_are_due_is_told(world: World) -> None:
    world.day(0, 1, 2, labels=False)
    world.labels(0)
    put(world, *(outcome(i, 1) for i in range(50)))
    world.at(3)
    assert (told(world).due, told(world).labelled) == (2 * ROWS, 250 / 400)
    put(world, *(outcome(i, 1) for i in range(50, ROWS)))
    world.at(3.1)
    assert told(world).labelled == 1


def test_delays_of_labels_and_lags_of_arrival_are_those_of_the_rows(world: World) -> None:
    world.day(0)
    world.at(1)
    seconds = np.array([86_000 * i / ROWS for i in range(ROWS)])
    found = told(world)
    for times, exact in ((found.label_delay, 23 * 3600 - seconds), (found.arrival_lag, 86_400 - seconds)):
        wanted = np.quantile(exact, accounts.LEVELS)
        assert np.allclose(times, wanted, rtol=0.03, atol=600)
    assert found.to_dict()["arrival_lag_seconds"].keys() == {"p50", "p90", "p99"}  # type: ignore[attr-defined]


def test_only_touched_grains_are_summarised_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.day(0, 1, 2, 3, labels=False)
    world.at(4)
    seen: list[tuple[set[str], list[float]]] = []

    def watched(count: Any) -> Any:
        def counting(model: str, plans: Any, starts: Any, *rest: Any) -> Any:
            seen.append(({plan.name for plan in plans}, [(start - moment(0)) / DAY for start in starts]))
            return count(model, plans, starts, *rest)

        return counting

    for name in ("profiles", "relabelled"):
        monkeypatch.setattr(world.engine.log, name, watched(getattr(world.engine.log, name)))
    put(world, outcome(5, 1), outcome(7, 3), outcome(900, 0))
    put(world, {**prediction(5, 2), "request_id": "new"})
    world.at(4.5)
    [_, (moved, _)] = some = [look for look in seen if look[1]]
    assert [days for _, days in some] == [[2], [1, 3]]
    assert moved == {"score", "label_lag", "label_delay"}


def test_a_model_of_which_nothing_came_has_accounts(world: World) -> None:
    found = told(world)
    assert (found.counts, found.due, found.labelled, found.join_rate) == ({}, 0, None, None)
    assert found.to_dict()["label_delay_seconds"] is None


def test_counting_takes_a_bounded_part_of_the_time(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.day(0)
    world.at(1)
    calls = []
    monkeypatch.setattr(accounts, "joins", lambda *_: calls.append(1) or {})
    monkeypatch.setattr(accounts.time, "perf_counter", iter(range(0, 10_000, 100)).__next__)
    for hours in (1, 2, 3, 4):
        put(world, outcome(0, hours))
        world.at(1 + hours / 24)
        accounts.look(world.engine.state, world.engine.log, NAME, world.now)
    assert len(calls) == 2  # 100 seconds of counting, so at most one in 100 minutes


def test_what_clients_dropped_is_counted_once(world: World) -> None:
    put(world, losses(NAME, "a1", {"buffer full": 3}), losses(NAME, "b2", {"buffer full": 1}))
    world.at(0.1)
    put(world, losses(NAME, "a1", {"buffer full": 3}), losses(NAME, "a1", {"buffer full": 5, "spool full": 2}))
    put(world, losses(NAME, "a1", {"buffer full": 4}))  # an older one, late
    put(world, losses("nobody", "a1", {"refused": 1}), {**losses(NAME, "a1", {}), "dropped": {"by magic": 1}})
    world.at(0.2)
    counts = told(world).counts
    assert counts["dropped by clients, buffer full"] == 6
    assert counts["dropped by clients, spool full"] == 2
    assert counts["rejected"] == 1
