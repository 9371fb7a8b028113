"""Stories of groups: a model begins to treat one of them unequally, is found out, and the groups are named."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from small_world import NAME, Event, World, config, moment, outcome, prediction
from watchkeeper.cli import app
from watchkeeper.gaps import last_gaps
from watchkeeper.records import ALL, Point, Status, Verdict

FIFTHS = {"name": "four fifths", "metric": "four_fifths", "below": 0.8, "groups": "country", "severity": "P1"}
PARITY = {"name": "parity", "metric": "demographic_parity", "above": 0.1, "groups": "country"}
CHANCE = {"name": "chance", "metric": "equal_opportunity", "above": 0.1, "groups": "country", "window": "2d"}
ODDS = {"name": "odds", "metric": "equalised_odds", "above": 0.15, "groups": "country", "window": "2d"}
WORTH = {"name": "worth", "metric": "predictive_parity", "above": 0.1, "groups": "country"}
RANKS = {"name": "ranks", "metric": "auc", "above": 0.1, "groups": "country", "relative": "difference"}


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    monitors = [FIFTHS, PARITY, CHANCE, ODDS, WORTH, RANKS]
    world = World(tmp_path, config(segments=["country"], monitors=monitors, label_delay="1d"))
    yield world
    world.engine.close()


def harsh(country: str) -> Callable[[Event], None]:
    """Nobody of a country is said yes to any more."""

    def change(event: Event) -> None:
        if event["features"]["country"] == country:
            event["score"] = round(event["score"] / 2, 4)

    return change


def point(world: World, monitor: str, day: float) -> Point:
    [found] = world.rows(Point, monitor=monitor, window_end=moment(day))
    return found


def test_equal_groups_are_healthy_and_shown(world: World) -> None:
    world.day(0, 1)
    world.at(2).want()
    world.at(3).want()
    verdicts = {v.monitor: v.status for v in world.rows(Verdict, window_end=moment(2))}
    assert Status.BREACH not in verdicts.values()
    assert verdicts["parity"] is Status.HEALTHY
    found = point(world, "parity", 2)
    assert found.segment == ALL
    assert found.detail["groups"] == 3
    assert found.detail["measure"] == "predicted_positive_rate"
    assert {line["segment"] for line in found.detail["segments"]} == {"country=DE", "country=FR", "country=NL"}
    for line in found.detail["segments"]:
        assert line["low"] <= line["value"] <= line["high"]
    assert sum(line["n"] for line in found.detail["segments"]) == found.n == 200


def test_a_group_that_is_no_longer_said_yes_to_is_found_and_named(world: World) -> None:
    world.day(0, 1)
    world.at(2).want()
    world.day(2, change=harsh("NL"))
    world.at(3).want("fairness of score since 2: new to open")
    found = point(world, "four fifths", 3)
    assert found.detail["lowest"] == "country=NL"
    assert found.high is not None
    assert found.high < 0.8
    assert found.detail["segments"][0]["segment"] == "country=NL", "the one that surely lies furthest off comes first"
    incident = world.incident("fairness")
    assert incident.evidence["tree"] == "model"
    world.day(3, change=harsh("NL"))
    world.at(4)
    world.at(5)
    verdicts = {v.monitor: v.status for v in world.rows(Verdict, window_end=moment(4))}
    assert verdicts["chance"] is verdicts["odds"] is Status.BREACH
    assert point(world, "odds", 4).detail["measure"] in ("recall", "false_positive_rate")


def test_a_measure_that_is_none_of_groups_is_compared_too(world: World) -> None:
    world.day(0)
    world.engine.inbox.put([outcome(i, 1, i % 2) for i in range(200)])
    world.day(1, labels=False)
    world.at(3)
    found = point(world, "ranks", 1)
    assert found.metric == "auc"
    assert found.value == pytest.approx(0, abs=0.05), "as in the reference, so the difference has not changed"
    assert {line["segment"] for line in found.detail["segments"]} == {"country=DE", "country=FR", "country=NL"}


def test_groups_of_too_few_rows_are_not_enough_data(tmp_path: Path) -> None:
    world = World(tmp_path, config(segments=["country"], monitors=[{**PARITY, "min_rows": 1}]))
    try:
        few = [i for i in range(200) if i % 3 == 0 or i < 30]
        world.engine.inbox.put([prediction(i, 0) for i in few])
        world.at(1).want()
        [verdict] = world.rows(Verdict, window_end=moment(1))
        assert verdict.status is Status.NOT_ENOUGH_DATA
        assert point(world, "parity", 1).detail["left out"] == {
            "country=FR": "10 rows, fewer than 30", "country=NL": "10 rows, fewer than 30",
        }  # fmt: skip
    finally:
        world.engine.close()


def test_the_gaps_are_told_by_status_with_the_time_of_each(world: World) -> None:
    world.day(0, 1)
    world.at(2)
    with world.engine.state.snapshot() as tx:
        found = {gap.verdict.monitor: gap for gap in last_gaps(tx, NAME, world.settings.models[NAME])}
    assert {*found} == {"four fifths", "parity", "chance", "odds", "worth", "ranks"} - {"chance", "odds"}
    assert found["parity"].verdict.window.end == moment(2)
    assert found["worth"].verdict.window.end == moment(1), "labels take a day"
    assert found["worth"].measure == "precision"
    told = found["parity"].to_dict()
    assert json.loads(json.dumps(told))["segments"][0].keys() == {"segment", "n", "plain", "value", "low", "high"}
    world.engine.close()
    shown = CliRunner().invoke(app, ["status", "--store", str(world.folder)])
    assert "parity: healthy, demographic parity difference" in shown.output
    world.open()
