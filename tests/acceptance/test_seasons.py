"""A story of a season: amounts that are high each afternoon alarm nobody who compares with the same time last week."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from small_world import CHAMPION, NAME, ROWS, START, World, config, moment, prediction, reference, values
from watchkeeper.profiles import Key
from watchkeeper.records import Incident, Point, Reason, Status, Verdict
from watchkeeper.why import why

HALF = 0.5
LOOKS = [
    {"name": name, "metric": "psi", "columns": ["amount"], "above": 0.25, "window": "12h", "baseline": baseline}
    for name, baseline in (("training", "reference"), ("last week", "7d ago"), ("two weeks", "2 x 7d ago"))
]
VOLUME = {
    "name": "volume", "metric": "volume", "above": 3.0, "relative": "ratio", "window": "12h", "baseline": "7d ago",
}  # fmt: skip


def afternoon(event: dict[str, Any]) -> None:
    """From noon to midnight amounts are 200 higher."""
    if datetime.fromisoformat(event["event_time"]).hour >= 12:
        event["features"]["amount"] += 200


def tripled(event: dict[str, Any]) -> None:
    afternoon(event)
    event["features"]["amount"] *= 3


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Sixteen days of the same season; on the last one amounts are three times as high, from its first hour on."""
    folder: Path = tmp_path_factory.mktemp("seasons")
    world = World(folder, config(grain="1h", monitors=[*LOOKS, VOLUME]), referred=False)
    world.engine.install(NAME, CHAMPION, _year(), actor="tests")
    for day in range(16):
        world.day(day, change=afternoon if day < 15 else tripled, labels=False)
        world.at(day + 1)
    yield world
    world.engine.close()


def _year() -> pa.Table:
    """Reference data of mornings and afternoons alike."""
    table = reference()
    high = [values(i % ROWS)["amount"] + (200 if i % ROWS >= ROWS / 2 else 0) for i in range(table.num_rows)]
    return table.set_column(table.column_names.index("amount"), "amount", pa.array(high))


def statuses(world: World, monitor: str, first: float, last: float) -> set[Status]:
    found = world.rows(Verdict, monitor=monitor)
    return {v.status for v in found if moment(first) < v.window.end <= moment(last)}


def test_against_the_training_data_every_afternoon_is_a_drift(world: World) -> None:
    for day in range(1, 15):
        assert world.verdict("training", day).status is Status.BREACH


def test_against_the_same_time_last_week_only_the_change_is(world: World) -> None:
    for monitor in ("last week", "two weeks"):
        assert statuses(world, monitor, 7 + HALF, 15) == {Status.HEALTHY}
        assert world.verdict(monitor, 16).status is Status.BREACH
    assert statuses(world, "volume", 7 + HALF, 16) == {Status.HEALTHY}


def test_before_there_was_a_last_week_nothing_is_said(world: World) -> None:
    for monitor in ("last week", "two weeks", "volume"):
        early = [v for v in world.rows(Verdict, monitor=monitor) if v.window.start < moment(7)]
        assert len(early) > 24
        assert {(v.status, v.reason) for v in early} == {(Status.NOT_ENOUGH_DATA, Reason.NOT_COMPARABLE)}


def test_the_average_of_weeks_counts_their_rows(world: World) -> None:
    [one], [two] = (
        world.rows(Point, id=world.verdict(monitor, 16).because[0]) for monitor in ("last week", "two weeks")
    )
    assert (one.n, one.n_baseline, two.n_baseline) == (99, 99, 198)
    with world.engine.state.snapshot() as tx:
        keys: list[Key] = [key for key, _ in tx.profile_keys(two.because)]
        texts = [node.text for node in why(tx, two.id).causes[1:]]
    days = {(key.start - START).days for key in keys if key.start}
    assert days == {1, 8, 15}
    assert texts[0].startswith("12 profiles of amount, 2024-01-16 12:00 to")
    assert texts[1].startswith("baseline: 24 profiles of amount, 2024-01-02 12:00 to 2024-01-09 23:00 UTC, 198 rows")


def test_a_change_against_last_week_begins_with_the_first_breach(world: World) -> None:
    """When a change began is not looked for among hours of other seasons."""
    [incident] = world.rows(Incident)
    signal = incident.signals["last week|amount"]
    first = min(v.window.end for v in world.rows(Verdict, monitor="last week", status=Status.BREACH))
    assert datetime.fromisoformat(signal["since"]) == first - world.settings.models[NAME].grain_length
    assert moment(15) <= first <= moment(15 + HALF)


def made(day: int) -> int:
    """How many predictions a day has: ever more of them, and few at weekends."""
    return (12 if day % 7 < 5 else 4) * (30 + day) // 30 + day * day % 3


def test_a_volume_that_grows_and_rests_at_weekends_alarms_only_when_it_falls(tmp_path: Path) -> None:
    monitors = [
        {"name": name, "metric": "volume", "below": 0.75, "relative": "ratio", "baseline": baseline}
        for name, baseline in (("the days before", "14d"), ("the season", "seasonal"))
    ]
    world = World(tmp_path, config(monitors=monitors))
    for day in range(71):
        rows = made(day) if day < 70 else made(day) // 3
        world.engine.inbox.put([prediction(i, day) for i in range(rows)])
        if day in (1, 40, 70):
            world.at(day + 1)
    seasonal = [v for v in world.rows(Verdict, monitor="the season") if v.window.end <= moment(70)]
    assert {v.status for v in seasonal if v.window.end > moment(36)} == {Status.HEALTHY}
    assert {v.status for v in seasonal if v.window.end < moment(30)} == {Status.NOT_ENOUGH_DATA}
    assert world.verdict("the season", 71).status is Status.BREACH
    [point] = world.rows(Point, monitor="the season", window_end=moment(71))
    assert point.detail["expected"] == pytest.approx(made(70), rel=0.15)
    assert point.detail["year"] is False
    world.engine.close()


def test_what_comes_each_year_is_expected_once_there_is_a_year(tmp_path: Path) -> None:
    monitor = {"name": "the season", "metric": "volume", "below": 0.75, "relative": "ratio", "baseline": "seasonal"}
    world = World(tmp_path, config(monitors=[monitor]))
    holiday = range(420, 424)  # as 364 days before
    spans = (*range(63), *range(364, 424))
    for day in spans:
        rows = 20 + day * 7 % 3 + day // 40 - (12 if day in holiday or day + 364 in holiday else 0)
        world.engine.inbox.put([prediction(i, day) for i in range(rows)])
    world.at(424)
    found = {v.window.start: v for v in world.rows(Verdict, monitor="the season")}
    [point] = world.rows(Point, monitor="the season", window_end=moment(424))
    assert point.detail["year"] is True
    assert found[moment(423)].status is Status.HEALTHY
    assert found[moment(420)].status is Status.HEALTHY
    assert found[moment(57)].status is Status.BREACH, "in the first year nobody could know"
    world.engine.close()
