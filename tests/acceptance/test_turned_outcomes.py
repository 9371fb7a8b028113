"""A story of outcomes that no longer follow from the inputs: found, dated, said in words, and over when it is."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest

from small_world import World, config, moment
from watchkeeper.records import Status, Verdict

MONITOR = {"name": "concept drift", "metric": "concept_drift", "above": 1.1, "severity": "P1", "window": "2d"}


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path, config(monitors=[MONITOR]))
    yield world
    world.engine.close()


def test_outcomes_that_turn_open_one_incident_that_says_since_when_and_what_of(world: World) -> None:
    for day in range(6):
        world.day(day)
        world.at(day + 1).want()
    assert {verdict.status for verdict in world.rows(Verdict)} == {Status.HEALTHY}
    for day in range(6, 8):
        world.day(day, labels=False)
        world.labels(day, wrong=True)
    world.at(7).want()  # labels take a day
    world.at(8).want("performance of score since 6: new to open")
    incident = world.incident("performance")
    assert incident.since == moment(6)
    [signal] = incident.evidence["columns"]
    low, high = (datetime.fromisoformat(signal["detail"][f"began_{end}"]) for end in ("earliest", "latest"))
    assert low <= moment(6) <= high
    assert signal["detail"]["parts"]["relation"]["low"] > 0
    assert "The relation between inputs and outcomes changed: of +" in incident.evidence["summary"]
    for day in range(8, 14):
        world.day(day)
    steps = [step for day in range(9, 15) for step in world.at(day).steps]
    assert [step.after for step in steps] == ["resolved"]
