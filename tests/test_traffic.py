"""Traffic: the first champion, a candidate's way through its stages, and the next champion or the old one again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from small_world import NAME, ROWS, World, config, moment, outcome, prediction, reference
from watchkeeper import traffic
from watchkeeper.errors import ConflictError, StateError
from watchkeeper.records import Incident, Point, Reason, Rollout, RolloutState, Verdict
from watchkeeper.registry import Route
from watchkeeper.stats.grid import Grid

ROLLOUT = {"stages": [0.25, 0.5, 1.0], "hold": "1d", "margin": 0.15, "max_duration": "20d", "score_shift": 0.5}


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path, config(rollout=ROLLOUT))
    assert [world.register(), world.register()] == ["v1", "v2"]
    yield world
    world.engine.close()


def arms(world: World, day: int, **candidate: Any) -> None:
    """A day that both arms share evenly; the candidate's rows may differ."""
    rows = [prediction(i, day, version="v1" if i % 2 else "base") for i in range(ROWS)]
    for event in rows:
        if event["version"] == "v1":
            event.update(candidate)
    world.engine.inbox.put(rows)
    world.engine.inbox.put([outcome(i, day) for i in range(ROWS)])


def test_a_candidate_goes_from_stage_to_stage_and_becomes_champion(world: World) -> None:
    world.engine.offer(NAME, "v1", "dana")
    assert world.engine.registry.route(NAME) == Route("base", "", "v1", 0.25)
    told = []
    for day in range(12):
        arms(world, day)
        told += [f"{day + 1}: {step.after}" for step in world.at(day + 1).steps]
        if world.champions() == ["base", "v1"]:
            break
    [rollout] = world.rows(Rollout)
    assert rollout.state is RolloutState.PROMOTED
    assert rollout.reason is Reason.ARM_PROVEN
    assert told[1] == "2: running 50%", "the labels of the first day are there a day later"
    assert told[-1].endswith("promoted 100%")
    assert world.engine.registry.route(NAME) == Route("v1", "base")
    assert not world.rows(Incident)


@pytest.mark.parametrize(
    ("change", "breached"),
    [
        ({"status": "timeout"}, "error rate"),
        ({"status": "error", "variant": "fallback", "score": None}, "error rate"),
        ({"latency_ms": 500.0}, "latency"),
        ({"score": 0.999}, "scores"),
    ],
)
def test_a_candidate_that_does_harm_goes_back_without_labels(
    world: World, change: dict[str, Any], breached: str
) -> None:
    world.engine.offer(NAME, "v1", "dana")
    arms(world, 0, **change)
    world.at(1)
    [rollout] = world.rows(Rollout)
    assert (rollout.state, rollout.reason, rollout.share) == (RolloutState.ROLLED_BACK, Reason.ARM_WORSE, 0.0)
    assert breached in rollout.looks[-1]["breached"]
    assert world.engine.registry.route(NAME) == Route("base")
    assert world.champions() == ["base"]


def test_an_outage_of_both_arms_while_the_shares_change_does_not_tell_against_the_candidate(world: World) -> None:
    world.engine.offer(NAME, "v1", "dana")
    for day in range(3):  # the candidate has a tenth of the traffic
        rows = [prediction(i, day, version="base" if i % 10 else "v1") for i in range(ROWS)]
        world.engine.inbox.put([*rows, *(outcome(i, day) for i in range(ROWS))])
        world.at(day + 1)
    [rollout] = world.rows(Rollout)
    assert (rollout.stage, rollout.stage_at) == (1, moment(3))
    rows = [prediction(i, 3, version="v1" if i % 2 else "base") for i in range(ROWS)]
    world.engine.inbox.put(
        [{**event, "status": "timeout"} if i // 2 % 5 < 2 else event for i, event in enumerate(rows)]
    )
    world.at(4)
    [rollout] = world.rows(Rollout)
    assert rollout.state is RolloutState.RUNNING
    assert rollout.looks[-1]["error rate"]["value"] == 0
    assert rollout.looks[-1]["n_candidate"] == 3 * ROWS // 10 + ROWS // 2, "what is shown counts the whole rollout"


def test_a_candidate_is_compared_once_a_grain_however_often_the_engine_ticks(world: World) -> None:
    world.engine.offer(NAME, "v1", "dana")
    arms(world, 0)
    for day in (0.2, 0.5, 1, 1.2, 1.9, 2):
        world.at(day)
    [rollout] = world.rows(Rollout)
    assert [look["until"] for look in rollout.looks] == [moment(1).isoformat(), moment(2).isoformat()]


def test_a_candidate_that_nobody_asks_is_given_up_in_the_end(world: World) -> None:
    world.engine.offer(NAME, "v1", "dana")
    world.day(*range(3))
    for day in range(1, 21):
        world.at(day)
    [rollout] = world.rows(Rollout)
    assert (rollout.state, rollout.reason) == (RolloutState.ROLLED_BACK, Reason.OUT_OF_TIME)


def test_two_candidates_at_once_are_one_too_many(world: World) -> None:
    world.engine.offer(NAME, "v1", "dana")
    with pytest.raises(ConflictError, match="being rolled out already; wait for its end"):
        world.engine.offer(NAME, "v2", "sam")
    assert [r.candidate for r in world.rows(Rollout)] == ["v1"]


def test_the_champion_is_no_candidate(world: World) -> None:
    with (
        pytest.raises(StateError, match='"base" is the champion of model "loans" already; offer another one'),
        world.engine.state.transaction() as tx,
    ):
        traffic.offer(tx, world.settings, NAME, "base", moment(0))


def test_a_candidate_needs_a_champion_to_compare_with(tmp_path: Path) -> None:
    world = World(tmp_path, referred=False)
    world.register()
    with pytest.raises(StateError, match="has no champion to compare a candidate with; install one first"):
        world.engine.offer(NAME, "v1", "dana")
    assert world.engine.registry.route(NAME) is None
    world.engine.close()


def test_an_offer_by_hand_takes_the_baseline_of_the_champion_over(world: World) -> None:
    world.engine.offer(NAME, "v1", "dana")
    with world.engine.state.transaction() as tx:
        theirs, ours = ({(k.column, k.label): p for k, p in tx.profiles(NAME, None, version=v)} for v in ("base", "v1"))
        entry = tx.audit_trail()[0]
    assert theirs.keys() == ours.keys()
    assert all(theirs[key].to_bytes() == ours[key].to_bytes() for key in theirs)
    assert (entry.actor, entry.kind, entry.subject) == ("dana", "offer", "v1")


def test_a_new_champion_is_judged_by_its_own_baseline_from_then_on(world: World) -> None:
    world.engine.offer(NAME, "v1", "dana")
    for day in range(12):
        arms(world, day)
        world.at(day + 1)
    crowned = next(r.ended_at for r in world.rows(Rollout))
    with world.engine.state.transaction() as tx:
        for verdict in tx.select(Verdict, monitor="log loss"):
            [point] = tx.select(Point, id=verdict.because[0])
            used = {key.version for key, _ in tx.profile_keys(point.because) if key.start is None}
            assert used == {"base" if verdict.window.end <= crowned else "v1"}


def test_the_reference_may_lack_what_is_not_a_feature(tmp_path: Path) -> None:
    world = World(tmp_path, referred=False)
    world.engine.install(NAME, "base", reference().select(["amount", "country"]))
    world.day(0, 1)
    world.at(2).want()
    assert world.verdict("log loss", 1).reason is Reason.NOT_COMPARABLE
    world.engine.close()


def test_grids_of_scores_and_latencies_need_no_data() -> None:
    grids = traffic.first_grids(
        config().models[NAME], pa.table({"amount": [1.0, 2.0, 3.0], "country": ["a", "b", "a"]})
    )
    assert set(grids) == {"amount", "score", "latency_ms"}
    assert grids["score"] == Grid.unit()


def test_a_numeric_column_is_not_summarised_before_it_has_a_grid() -> None:
    model = config().models[NAME]
    grids = traffic.fixed_grids(model)
    names = ["country", "score", "label_lag", "latency_ms", "status", "variant", "label_delay", "arrival_lag"]
    assert [plan.name for plan in traffic.plans(model, grids)] == names
    assert traffic.without_grid(model, grids) == ["amount"]
    assert traffic.without_grid(model, {**grids, "amount": Grid.unit()}) == []


def test_vocabularies_are_of_the_first_rows_and_failures_are_told_from_the_rest_for_ever() -> None:
    model = config().models[NAME]
    known = traffic.first_vocabularies(model, pa.table({"amount": [1.0, 2.0], "country": ["NL", "BE"]}))
    assert known == {"country": ("BE", "NL")}
    assert traffic.first_vocabularies(model, pa.table({"amount": [1.0]})) == {}
    plans = {plan.name: plan for plan in traffic.plans(model, traffic.fixed_grids(model), known)}
    assert (plans["country"].known, plans["status"].known) == (("BE", "NL"), ("ok",))
    assert traffic.without_vocabulary(model, {}) == ["country"]
    assert traffic.without_vocabulary(model, known) == []


def test_a_route_that_is_right_is_not_written_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(world.engine.registry, "set_route", lambda *_: pytest.fail("it was written"))
    world.at(1)
