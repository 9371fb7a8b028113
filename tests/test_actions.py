"""Acting: when a retraining is planned, what it learns from, how it ends, and that its candidate is gated."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from small_world import NAME, ROWS, World, config, moment, sentinel
from test_training import Here, until
from watchkeeper import actions, training
from watchkeeper.errors import ConflictError
from watchkeeper.profiles import merge
from watchkeeper.records import (
    Action,
    ActionState,
    Incident,
    IncidentState,
    Reason,
    Rollout,
    RolloutState,
    Severity,
    Transition,
)
from watchkeeper.stats.estimates import Estimate

RETRAIN = {
    "trainer": "toy_trainer:constant", "causes": ["performance"], "train_on": "6d", "hold_out": "2d",
    "min_rows": 100, "margin": 0.0, "cool_down": "5d", "timeout": "1h",
}  # fmt: skip
SETTINGS = config(retrain=RETRAIN).models[NAME]
NOW = moment(20)


def incident(cause: str = "performance", **other: Any) -> Incident:
    found = Incident(
        f"incident-{cause}", NAME, cause, Severity.P1, IncidentState.OPEN, cause.capitalize(), moment(18), moment(19),
        moment(19), None, "", {}, {}, "config-1", 0, (),
    )  # fmt: skip
    return replace(found, **other)


def action(**other: Any) -> Action:
    found = Action(
        "action-1", NAME, "retrain", ActionState.DONE, Reason.NO_WORSE, moment(1), None, None, {}, "config-1", 0, (),
    )  # fmt: skip
    return replace(found, **other)


def rollout(state: RolloutState) -> Rollout:
    return Rollout(
        "rollout-1", NAME, "v2", "v1", state, 0, 0.1, Reason.WAITING, moment(1), moment(1), None, (), "config-1", 0, (),
    )  # fmt: skip


def plan(incidents: Any = (), past: Any = (), rollouts: Any = (), settings: Any = SETTINGS) -> list[Action]:
    return actions.plan(NAME, settings, "config-1", incidents, past, rollouts, NOW)


# when


def test_an_open_incident_of_a_configured_cause_asks_for_a_retraining() -> None:
    [planned] = plan([incident(), incident("drift")])
    assert (planned.state, planned.reason, planned.because) == (
        ActionState.PLANNED, Reason.INCIDENT_ASKS, ("incident-performance",),
    )  # fmt: skip
    assert planned.detail == {"trainer": "toy_trainer:constant", "note": "Performance"}
    assert plan([incident()])[0].id == planned.id


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"incidents": [incident(state=IncidentState.RESOLVED)]},
        {"incidents": [incident("drift")]},
        {"incidents": [incident()], "settings": config().models[NAME]},
        {"incidents": [incident()], "rollouts": [rollout(RolloutState.RUNNING)]},
        {"incidents": [incident()], "past": [action(planned_at=moment(15.1))]},
        {"incidents": [incident()], "past": [action(planned_at=moment(16), state=ActionState.REFUSED)]},
        {"incidents": [incident()], "past": [action(state=ActionState.RUNNING)]},
        {"incidents": [incident()], "past": [action(state=ActionState.PLANNED)]},
    ],
    ids=[
        "none",
        "over",
        "another cause",
        "no policy",
        "rollout runs",
        "too recent",
        "refused lately",
        "runs",
        "planned",
    ],
)
def test_otherwise_nothing_is_planned(given: dict[str, Any]) -> None:
    assert plan(**given) == []


def test_what_is_long_over_stands_in_nobodys_way() -> None:
    past = [action(planned_at=moment(15))]
    assert plan([incident()], past, [rollout(RolloutState.PROMOTED), rollout(RolloutState.ROLLED_BACK)])
    assert plan([incident(state=IncidentState.ACKNOWLEDGED)])


@pytest.mark.parametrize(
    ("high", "margin", "wanted"),
    [
        (-0.01, 0.0, Reason.BEATS_CHAMPION),
        (0.0, 0.0, Reason.WORSE_ON_HOLDOUT),
        (0.004, 0.005, Reason.NO_WORSE),
        (0.006, 0.005, Reason.WORSE_ON_HOLDOUT),
        (-0.01, 0.005, Reason.BEATS_CHAMPION),
        (None, 1.0, Reason.WORSE_ON_HOLDOUT),
        (float("nan"), 1.0, Reason.WORSE_ON_HOLDOUT),
    ],
)
def test_a_candidate_passes_if_the_whole_interval_lies_under_the_margin(
    high: float | None, margin: float, wanted: Reason
) -> None:
    assert actions.conclude(Estimate(-0.02, -0.03, high, 100), margin) is wanted


def test_the_steps_of_an_action_have_an_id_each() -> None:
    states = [None, *(action(state=state) for state in (ActionState.PLANNED, ActionState.RUNNING, ActionState.DONE))]
    steps = [actions.step(before, after, NOW) for before, after in pairwise(states) if after]
    assert [(step.before, step.after) for step in steps] == [
        ("new", "planned"), ("planned", "running"), ("running", "done"),
    ]  # fmt: skip
    assert len({step.id for step in steps}) == 3


def test_the_training_time_without_what_was_excluded() -> None:
    def pieces(*excluded: tuple[float, float]) -> list[tuple[float, float]]:
        facts = {
            "window": [moment(0).isoformat(), moment(10).isoformat()],
            "excluded": [[moment(a).isoformat(), moment(b).isoformat()] for a, b in excluded],
        }
        return [tuple((at - moment(0)) / timedelta(days=1) for at in (w.start, w.end)) for w in actions._pieces(facts)]

    assert pieces() == [(0, 10)]
    assert pieces((2, 3), (5, 7)) == pieces((5, 7), (2, 3)) == [(0, 2), (3, 5), (7, 10)]
    assert pieces((2, 5), (3, 4)) == [(0, 2), (5, 10)]
    assert pieces((-5, 1), (9, 20)) == [(1, 9)]
    assert pieces((-5, -1), (12, 20)) == [(0, 10)]
    assert pieces((-1, 11)) == []


# how it goes


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Training jobs are done in this process."""
    monkeypatch.setattr(training.subprocess, "Popen", Here)


def grown(folder: Path, patience: timedelta = timedelta(minutes=1), **retrain: Any) -> Iterator[World]:
    """Eight days, on the fifth a spell of sentinels; the labels of the last are the wrong way round."""
    world = World(folder, config(retrain={**RETRAIN, **retrain}, segments=["country"]), patience=patience)
    world.day(0, 1, 2, 3, 5, 6)
    world.day(4, change=sentinel)
    world.day(7, labels=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(world.engine, "act", lambda *_: None)
        world.at(8)
        world.labels(7, wrong=True)
        world.at(9).want("performance of score since 7: new to open")
    yield world
    world.engine.close()


@pytest.fixture
def world(tmp_path: Path, here: None) -> Iterator[World]:
    yield from grown(tmp_path)


def job(world: World) -> Path:
    [found] = world.rows(Action)
    return world.folder / "jobs" / str(found.id)


def test_rows_of_a_spell_that_spoils_data_are_not_learnt_from(world: World) -> None:
    world.at(9.1)
    [done] = world.rows(Action)
    assert done.detail["window"] == [moment(2).isoformat(), moment(8).isoformat()]
    assert done.detail["hold_out"] == [moment(6).isoformat(), moment(8).isoformat()]
    assert done.detail["excluded"] == [[moment(4).isoformat(), moment(5).isoformat()]]
    train, holdout = (pq.read_table(job(world) / name) for name in ("train.parquet", "holdout.parquet"))
    assert train.num_rows == 3 * ROWS == done.detail["rows"]
    assert holdout.num_rows == 2 * ROWS
    days = {at.day - 1 for at in train.column("event_time").to_pylist()}
    assert days == {2, 3, 5}
    assert -999 not in train.column("amount").to_pylist()
    assert not {"amount", "country", "label"} - {*train.column_names}


def test_a_worse_candidate_is_refused_and_said_how_much(tmp_path: Path, here: None) -> None:
    for world in grown(tmp_path, trainer="toy_trainer:wrong"):
        world.at(9.1).want("action: new to planned", "action: running to refused")
        [ended] = world.rows(Action)
        assert (ended.state, ended.reason) == (ActionState.REFUSED, Reason.WORSE_ON_HOLDOUT)
        assert ended.detail["difference"][1] > 0
        assert ended.detail["note"].startswith("log loss ")
        assert world.engine.registry.versions(NAME) == []
        assert not world.rows(Rollout)


def test_a_candidate_that_is_no_worse_is_registered_and_rolled_out(tmp_path: Path, here: None) -> None:
    for world in grown(tmp_path, margin=5.0):
        world.at(9.1).want("action: new to planned", "action: running to done", "rollout: new to running 5%")
        [ended], [begun] = world.rows(Action), world.rows(Rollout)
        assert (ended.state, ended.detail["version"]) == (ActionState.DONE, "v1")
        assert (begun.candidate, begun.champion, begun.because) == ("v1", "base", (ended.id,))
        manifest = world.engine.registry.manifest(NAME, "v1")
        assert (manifest.key, manifest.facts["window"]) == (ended.id, ended.detail["window"])
        with world.engine.state.transaction() as tx:
            kept = {(k.column, k.label): p.n for k, p in tx.profiles(NAME, None, version="v1")}
        assert kept["amount", ""] == kept["country", ""] == 5 * ROWS, "its training days, without the spoilt one"
        assert kept["score", ""] == 2 * ROWS


def test_a_candidate_brings_a_baseline_of_each_segment(tmp_path: Path, here: None) -> None:
    for world in grown(tmp_path, margin=5.0):
        world.at(9.1)
        with world.engine.state.snapshot() as tx:
            known = tx.profiles(NAME, None, None, version="v1")
            [segments] = tx.segmentations(NAME)
        whole = {(k.column, k.label): p for k, p in known if not k.segment}
        for place, profile in whole.items():
            own = merge(p for k, p in known if k.segment in segments.names and (k.column, k.label) == place)
            assert own is not None
            assert own.to_bytes() == profile.to_bytes(), place
        held_out = {k.segment: p.n for k, p in known if (k.column, k.label) == ("score", "")}
        assert held_out == {"": 2 * ROWS, "country=DE": 134, "country=FR": 134, "country=NL": 132}


def test_a_better_candidate_beats_the_champion(tmp_path: Path, here: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def good(scores: pa.Table, confidence: float) -> Estimate:
        label = scores.column("label").to_numpy()
        better = np.where(label == 1, 0.9, 0.1)
        return real(scores.set_column(1, "candidate", pa.array(better)), confidence)

    real = training.gate
    monkeypatch.setattr(training, "gate", good)
    for world in grown(tmp_path):
        world.at(9.1)
        assert world.rows(Action)[0].reason is Reason.BEATS_CHAMPION


@pytest.mark.parametrize("retrain", [{"min_rows": 601}, {"hold_out": "2h"}])
def test_too_little_data_is_refused_before_any_process_starts(
    tmp_path: Path, here: None, retrain: dict[str, Any]
) -> None:
    for world in grown(tmp_path, **retrain):
        world.at(9.1).want("action: new to planned", "action: planned to refused")
        [ended] = world.rows(Action)
        assert (ended.state, ended.reason) == (ActionState.REFUSED, Reason.TOO_LITTLE_DATA)
        assert not job(world).exists()


@pytest.mark.parametrize(
    ("trainer", "state", "note"),
    [
        ("raises", ActionState.FAILED, "it seems"),
        ("nothing", ActionState.FAILED, "must return the loader"),
        ("not_a_number", ActionState.FAILED, "between 0 and 1, found nan"),
    ],
)
def test_a_trainer_that_fails_ends_its_action_in_words(
    tmp_path: Path, here: None, trainer: str, state: ActionState, note: str
) -> None:
    for world in grown(tmp_path, trainer=f"toy_trainer:{trainer}"):
        world.at(9.1).want("action: new to planned", "action: running to failed")
        [ended] = world.rows(Action)
        assert (ended.state, ended.reason) == (state, Reason.RUN_FAILED)
        assert note in ended.detail["note"]
        world.at(9.2).want()
        assert len(world.rows(Action)) == 1, "the cool-down holds after a failure too"


def test_a_process_that_is_gone_without_a_word_is_noticed_at_once(tmp_path: Path) -> None:
    for world in grown(tmp_path, trainer="toy_trainer:dies"):
        world.at(9.1).want("action: new to planned", "action: running to failed")
        [ended] = world.rows(Action)
        assert ended.reason is Reason.INTERRUPTED
        assert "neither a result nor what was wrong" in ended.detail["note"]


def test_a_process_that_takes_too_long_is_stopped(tmp_path: Path) -> None:
    for world in grown(tmp_path, trainer="toy_trainer:sleeps", patience=timedelta(0)):
        world.at(9.1).want("action: new to planned")
        world.at(9.12).want()
        assert training.alive(job(world))
        world.at(9.2).want("action: running to failed")
        [ended] = world.rows(Action)
        assert ended.detail["note"] == "stopped after 1h, the timeout of the configuration"
        folder = job(world)
        until(lambda folder=folder: not training.alive(folder))


def test_of_two_workers_one_claims_a_retraining(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[str] = []
    monkeypatch.setattr(world.engine.retraining, "_launch", lambda action, *_: started.append(action.id))
    with world.engine.state.transaction() as tx:
        [planned] = actions.plan(
            NAME, world.settings.models[NAME], "config-1", tx.select(Incident, cause="performance"), [], [], moment(9.1)
        )
        tx.put([planned])
    world.engine.retraining.start(planned, moment(9.1), timedelta(0))
    with pytest.raises(ConflictError):
        world.engine.retraining.start(planned, moment(9.1), timedelta(0))
    assert started == [planned.id]


def test_a_candidate_waits_while_another_is_rolled_out_by_hand(
    tmp_path: Path, here: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for world in grown(tmp_path, margin=5.0, timeout="30d"):
        with monkeypatch.context() as patch:
            patch.setattr(world.engine.retraining, "finish", lambda *_: None)
            world.at(9.1).want("action: new to planned")
        world.engine.offer(NAME, world.register(), "dana")
        world.at(9.2).want("rollout: new to running 5%")
        assert [a.state for a in world.rows(Action)] == [ActionState.RUNNING]
        with world.engine.state.transaction() as tx:
            [running] = tx.select(Rollout)
            tx.change(replace(running, state=RolloutState.ROLLED_BACK))
        world.at(9.3).want("action: running to done", "rollout: new to running 5%")
        assert [r.candidate for r in world.rows(Rollout, order="started_at")] == ["v1", "v2"]


def test_nobody_hears_of_a_plan_and_everybody_of_its_end(tmp_path: Path, here: None) -> None:
    for world in grown(tmp_path, margin=5.0):
        world.told.notices.clear()
        world.at(9.1)
        world.at(9.2)
        told = {(notice.subject.partition("-")[0], notice.after) for notice in world.told.notices}
        assert told == {("action", "done"), ("rollout", "running 5%")}
        assert len(world.rows(Transition)) == 6
