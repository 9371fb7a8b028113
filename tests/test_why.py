"""Why: the chain of rows behind a row, from what people were told down to profiles and configuration."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from small_world import World, config, moment, sentinel
from test_training import Here
from watchkeeper import training
from watchkeeper.errors import StateError
from watchkeeper.records import Action, Delivery, Incident, Point, Rollout, Transition, Verdict
from watchkeeper.why import Node, describe, why


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """An incident that asked for a retraining, whose candidate is being rolled out."""
    retrain = {
        "trainer": "toy_trainer:constant", "causes": ["sentinel values"], "train_on": "4d", "hold_out": "2d",
        "min_rows": 10, "margin": 5.0,
    }  # fmt: skip
    world = World(tmp_path_factory.mktemp("why"), config(retrain=retrain), patience=timedelta(minutes=1))
    world.day(*range(5))
    world.at(5)
    world.day(5, change=sentinel)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training.subprocess, "Popen", Here)
        world.at(6)
    world.at(6.1)
    yield world
    world.engine.close()


def ask(world: World, row_id: str) -> Node:
    with world.engine.state.transaction() as tx:
        return why(tx, row_id)


def below(node: Node) -> Iterator[Node]:
    yield node
    for cause in node.causes:
        yield from below(cause)


def kinds(node: Node) -> set[str]:
    return {found.id.partition("-")[0] for found in below(node)}


def test_an_incident_leads_down_to_its_profiles_and_its_configuration(world: World) -> None:
    [incident] = world.rows(Incident)
    [verdict] = ask(world, incident.id).causes
    [point] = verdict.causes
    settings, current, baseline = point.causes
    [signal] = incident.signals.values()
    low, high = f"{signal['low']:.4g}", f"{signal['high']:.4g}"
    assert verdict.text == (
        f'monitor "sentinel values" says breach: amount sentinel_rate 0.2 [{low}, {high}], limit above 0.005;'
        " the whole interval lies outside the limit"
    )
    assert point.text.startswith(
        f"amount sentinel_rate 0.2 [{low}, {high}] in 2024-01-06 to 2024-01-07 UTC on 200 rows"
    )
    assert settings.id == world.settings.version
    assert settings.text == "configuration of 2024-01-01 UTC by watchkeeper"
    assert current.text == "1 profile of amount, 2024-01-06 to 2024-01-06 UTC, 200 rows"
    assert baseline.text == "reference data of base: amount, 1,000 rows"


def test_an_incident_tells_what_came_of_it(world: World) -> None:
    [incident] = world.rows(Incident)
    effects = ask(world, incident.id).effects
    assert [effect.id.partition("-")[0] for effect in effects] == ["transition", "action"]
    opened, action = effects
    assert opened.text == (
        "2024-01-07 UTC new → open by watchkeeper: a limit was breached and no incident of this cause was open"
    )
    assert [delivery.text for delivery in opened.effects] == ["to ops: sent"]
    followed = [effect.id.partition("-")[0] for effect in action.effects]
    assert followed == ["transition", "transition", "rollout"]


def test_every_kind_of_row_has_a_why_that_ends_at_a_configuration(world: World) -> None:
    for kind in (Point, Verdict, Incident, Transition, Delivery, Action, Rollout):
        row = world.rows(kind)[0]
        node = ask(world, row.id)
        assert node.text == describe(row)
        assert "config" in kinds(node), kind
        json.dumps(node.to_dict())


def test_a_delivery_leads_through_its_step_to_the_incident(world: World) -> None:
    [opened] = [step for step in world.rows(Transition) if step.subject.startswith("incident") and step.before == "new"]
    [delivery] = world.rows(Delivery, transition=opened.id)
    assert {"transition", "verdict", "incident", "point", "profile", "config"} <= kinds(ask(world, delivery.id))


def test_a_rollout_leads_through_the_retraining_to_the_incident(world: World) -> None:
    [rollout] = world.rows(Rollout)
    assert {"action", "incident", "verdict", "point", "profile", "config"} <= kinds(ask(world, rollout.id))


def test_a_point_against_a_baseline_names_the_reference_data(world: World) -> None:
    verdict = world.verdict("log loss", 5)
    texts = [node.text for node in below(ask(world, verdict.id))]
    assert "reference data of base: score, 1,000 rows" in texts


def test_the_same_as_data_holds_no_empty_lists(world: World) -> None:
    [incident] = world.rows(Incident)
    found = ask(world, incident.id).to_dict()
    assert set(found) == {"id", "text", "causes", "effects"}
    leaf = found["causes"][0]["causes"][0]["causes"][0]
    assert set(leaf) == {"id", "text"}


@pytest.mark.parametrize("row_id", ["", "nonsense", "profile-1a2b3c4d5e6f", "config-1a2b", "-", "Incident-1"])
def test_an_id_that_has_no_why_is_told_so_with_those_that_have(world: World, row_id: str) -> None:
    with pytest.raises(StateError, match="is not an id that has a why; those begin with one of action-, delivery-"):
        ask(world, row_id)


@pytest.mark.parametrize("kind", ["incident", "verdict", "point", "transition", "delivery", "action", "rollout"])
def test_an_id_that_nobody_has_is_told_so(world: World, kind: str) -> None:
    with pytest.raises(StateError, match=f"there is no {kind} {kind}-000000000000"):
        ask(world, f"{kind}-000000000000")


def test_a_configuration_that_was_not_kept_is_told_so(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.day(0)
    world.at(1)
    [point] = world.rows(Point, monitor="errors", window_end=moment(1))
    with world.engine.state.transaction() as tx:
        tx.put([replace(point, config="config-lost")])
    assert "configuration not kept" in [node.text for node in below(ask(world, point.id))]
    world.engine.close()
