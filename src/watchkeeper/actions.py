"""Acting on incidents: when a model is retrained, on what, and whether the candidate may go on. Hop 7."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from watchkeeper import diagnosis, timeline, traffic, training
from watchkeeper.errors import TrainingError
from watchkeeper.incidents import ENGINE, NEW
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
    row_id,
)
from watchkeeper.registry import Registry
from watchkeeper.schema import Config, ModelConfig, RetrainConfig
from watchkeeper.stats.estimates import Estimate
from watchkeeper.store.log import Log
from watchkeeper.store.retention import sampled
from watchkeeper.store.state import State
from watchkeeper.windows import Window, floor, show_duration

RETRAIN = "retrain"
UNDER_WAY = (ActionState.PLANNED, ActionState.RUNNING)
FEWEST_HELD_OUT = 100
"""Held-out rows below which nothing is trained: the interval of so few log losses does not hold."""


def plan(
    model: str,
    config: ModelConfig,
    version: str,
    incidents: Sequence[Incident],
    past: Sequence[Action],
    rollouts: Sequence[Rollout],
    now: datetime,
) -> list[Action]:
    """The actions that the open incidents ask for now.

    A model is retrained for an open incident of one of the configured causes, unless a retraining runs, a candidate
    is being rolled out, or the last retraining was planned within the cool-down.

    Args:
        version: the configuration's.
        past, rollouts: the model's so far.
    """
    if config.retrain is None:
        return []
    retrainings = [action for action in past if action.kind == RETRAIN]
    if any(a.state in UNDER_WAY or a.planned_at > now - config.retrain.cool_down for a in retrainings):
        return []
    if any(r.state is RolloutState.RUNNING for r in rollouts):
        return []
    asking = [i for i in incidents if i.state is not IncidentState.RESOLVED and i.cause in config.retrain.causes]
    if not asking:
        return []
    return [
        Action(
            id=row_id("action", RETRAIN, model, now),
            model=model,
            kind=RETRAIN,
            state=ActionState.PLANNED,
            reason=Reason.INCIDENT_ASKS,
            planned_at=now,
            started_at=None,
            ended_at=None,
            detail={"trainer": config.retrain.trainer, "note": ", ".join(i.title for i in asking)},
            config=version,
            revision=0,
            because=tuple(i.id for i in asking),
        )
    ]


def conclude(gap: Estimate, margin: float) -> Reason:
    """Whether a candidate passes the gate, from its log loss minus the champion's on the hold-out.

    It passes if the whole interval lies under the margin; without an interval it does not.
    """
    if gap.high is None or not gap.high < margin:
        return Reason.WORSE_ON_HOLDOUT
    return Reason.BEATS_CHAMPION if gap.high < 0 else Reason.NO_WORSE


def step(before: Action | None, after: Action, now: datetime) -> Transition:
    """The timeline entry from one form of an action to the next."""
    start = str(before.state) if before else NEW
    return Transition(
        id=row_id("transition", after.id, start, after.state),
        model=after.model,
        subject=after.id,
        at=now,
        before=start,
        after=str(after.state),
        severity=Severity.P2,
        reason=after.reason,
        actor=ENGINE,
        note=str(after.detail.get("note", "")),
        because=after.because,
    )


class Retraining:
    """Carries out retrainings: claims them, gathers their data, starts their processes, gates what they made."""

    def __init__(
        self, state: State, log_of: Callable[[str], Log], registry: Registry, config: Config, jobs: Path
    ) -> None:
        self.state, self.log_of, self.registry, self.config, self.jobs = state, log_of, registry, config, jobs

    def start(self, action: Action, now: datetime, patience: timedelta) -> Action:
        """Claim a planned retraining and start its process; wait for it up to `patience`.

        Rows of the time of incidents that spoil data are left out. Raises ConflictError if another worker claimed it.
        """
        facts = self._facts(action, now)
        train, holdout = self._rows(action.model, facts)
        facts["rows"] = train.num_rows
        if train.num_rows < _policy(self.config.models[action.model]).min_rows or holdout.num_rows < FEWEST_HELD_OUT:
            return self._end(replace(action, started_at=now), ActionState.REFUSED, Reason.TOO_LITTLE_DATA, now, **facts)
        with self.state.transaction() as tx:
            claimed: Action = tx.change(
                replace(action, state=ActionState.RUNNING, started_at=now, detail={**action.detail, **facts})
            )
        self._launch(claimed, train, holdout, patience)
        return claimed

    def _facts(self, action: Action, now: datetime) -> dict[str, Any]:
        """What stretch of time to learn from, what of it to hold out, and what to leave out."""
        model = self.config.models[action.model]
        retrain = _policy(model)
        with self.state.snapshot() as tx:
            spoilt = tx.select(Incident, model=action.model, cause=diagnosis.SPOILT, order="since")
        end = floor(now, model.grain_length) - model.label_delay
        return {
            "window": [(end - retrain.train_on).isoformat(), end.isoformat()],
            "hold_out": [(end - retrain.hold_out).isoformat(), end.isoformat()],
            "excluded": [[i.since.isoformat(), i.last_breach.isoformat()] for i in spoilt if i.last_breach > i.since],
        }

    def _rows(self, model: str, facts: dict[str, Any]) -> tuple[pa.Table, pa.Table]:
        """The labelled rows to train on, and those held out."""
        window, held_out = _window(facts["window"]), _window(facts["hold_out"])
        assumed, excluded = self.config.models[model].unlabelled, [_window(ends) for ends in facts["excluded"]]
        rows = self.log_of(model).labelled(model, window, excluded, assumed.label if assumed else None)
        if (share := self.config.models[model].retention.keep) is not None:  # of older rows no more are there
            rows = sampled(rows, share)
        cut = pa.scalar(held_out.start.replace(tzinfo=None), pa.timestamp("us"))
        early = pc.less(rows.column("event_time"), cut)
        return rows.filter(early), rows.filter(pc.invert(early))

    def _launch(self, action: Action, train: pa.Table, holdout: pa.Table, patience: timedelta) -> None:
        model = self.config.models[action.model]
        route = self.registry.route(action.model)
        champion = route.champion if route and route.champion in self.registry.versions(action.model) else ""
        trainer = str(action.detail["trainer"])
        job = training.Job(action.model, trainer, champion, str(self.registry.folder), list(model.stored))
        training.start(self.jobs / action.id, job, train, holdout, patience)

    def finish(self, action: Action, now: datetime, patience: timedelta = timedelta(0)) -> None:
        """If the process has ended, gate its candidate: one that passes is registered and begins its rollout.

        A process that was claimed and never started, since this process died in between, is started now.
        """
        retrain = _policy(self.config.models[action.model])
        folder = self.jobs / action.id
        if not training.started(folder):
            self._launch(action, *self._rows(action.model, action.detail), patience)
        try:
            found = training.result(folder)
        except TrainingError as problem:
            self._end(action, ActionState.FAILED, Reason.RUN_FAILED, now, note=str(problem).strip().splitlines()[-1])
            return
        if found is None:
            if not training.alive(folder) and training.result(folder) is None:
                note = "it wrote neither a result nor what was wrong: killed, or ended by its trainer"
                self._end(action, ActionState.FAILED, Reason.INTERRUPTED, now, note=note)
            elif action.started_at is not None and now - action.started_at > retrain.timeout:
                training.stop(folder)
                note = f"stopped after {show_duration(retrain.timeout)}, the timeout of the configuration"
                self._end(action, ActionState.FAILED, Reason.RUN_FAILED, now, note=note)
            return
        scores = pq.read_table(folder / "scores.parquet")
        gap = training.gate(scores, retrain.confidence)
        reason = conclude(gap, retrain.margin)
        note = f"log loss {gap.detail['candidate']:.4f}, champion's {gap.detail['champion']:.4f} on {gap.n} rows"
        facts = {"note": note, "difference": [gap.value, gap.low, gap.high]}
        if reason is Reason.WORSE_ON_HOLDOUT:
            self._end(action, ActionState.REFUSED, reason, now, **facts)
            return
        made = {**action.detail, **facts, "action": action.id}
        with self.state.snapshot() as tx:
            crowned = [version for _, version in tx.champions(action.model)]
        taken = [*crowned, *self.log_of(action.model).versions(action.model)]
        manifest = self.registry.add(
            action.model, folder / "candidate", found["loader"], made, key=action.id, taken=taken
        )
        ended, entry = _ended(action, ActionState.DONE, reason, now, **facts, version=manifest.version)
        with self.state.transaction() as tx:
            tx.change(ended)
            timeline.write(tx, [entry], self.config, now)
            traffic.offer(
                tx, self.config, action.model, manifest.version, now, (action.id,), _pieces(made),
                _held_out(scores, folder, self.config.models[action.model]),
            )  # fmt: skip

    def _end(self, action: Action, state: ActionState, reason: Reason, now: datetime, **facts: object) -> Action:
        ended, entry = _ended(action, state, reason, now, **facts)
        with self.state.transaction() as tx:
            written: Action = tx.change(ended)
            timeline.write(tx, [entry], self.config, now)
        return written


def _ended(
    action: Action, state: ActionState, reason: Reason, now: datetime, **facts: object
) -> tuple[Action, Transition]:
    after = replace(action, state=state, reason=reason, ended_at=now, detail={**action.detail, **facts})
    return after, step(action, after, now)


def _held_out(scores: pa.Table, folder: Path, model: ModelConfig) -> pa.Table:
    """The candidate's scores and the labels on the hold-out, with the columns that the model's segments are made of."""
    rows = scores.select(["candidate", "label"]).rename_columns(["score", "label"])
    parts = dict.fromkeys(name for columns in model.segmentations for name in columns)
    for name, column in zip(parts, training.held_out(folder, parts).columns if parts else (), strict=True):
        rows = rows.append_column(name, column)
    return rows


def _policy(model: ModelConfig) -> RetrainConfig:
    assert model.retrain is not None, "a retraining was planned for a model without a retrain policy"
    return model.retrain


def _pieces(facts: dict[str, Any]) -> tuple[Window, ...]:
    """The training window without what was excluded from it."""
    whole = _window(facts["window"])
    start, pieces = whole.start, []
    for gap in sorted(_window(ends) for ends in facts["excluded"]):
        if start < min(gap.start, whole.end):
            pieces.append(Window(start, min(gap.start, whole.end)))
        start = max(start, gap.end)
    return (*pieces, Window(start, whole.end)) if start < whole.end else tuple(pieces)


def _window(ends: Sequence[str]) -> Window:
    return Window(*map(datetime.fromisoformat, ends))
