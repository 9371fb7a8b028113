"""Acting on incidents: when a model is retrained, on what, and whether the candidate may go on. Hop 7."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from watchkeeper import diagnosis, timeline, traffic, training
from watchkeeper.errors import TrainingError
from watchkeeper.incidents import ENGINE
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
from watchkeeper.store.state import State
from watchkeeper.windows import Window, floor

RETRAIN = "retrain"


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

    A model is retrained for an open incident of one of the configured causes, unless a candidate is being rolled
    out, or the last retraining was planned within the cool-down.

    Args:
        version: the configuration's.
        past, rollouts: the model's so far.
    """
    if config.retrain is None:
        return []
    if any(a.kind == RETRAIN and a.planned_at > now - config.retrain.cool_down for a in past):
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

    It passes if the whole interval lies under the margin.
    """
    if gap.high is None or gap.high >= margin:
        return Reason.WORSE_ON_HOLDOUT
    return Reason.BEATS_CHAMPION if gap.high < 0 else Reason.NO_WORSE


def step(before: Action | None, after: Action, now: datetime) -> Transition:
    """The timeline entry from one form of an action to the next."""
    start = str(before.state) if before else "new"
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

    def __init__(self, state: State, log: Log, registry: Registry, config: Config, jobs: Path) -> None:
        self.state, self.log, self.registry, self.config, self.jobs = state, log, registry, config, jobs

    def start(self, action: Action, now: datetime, patience: timedelta) -> Action:
        """Claim a planned retraining and start its process; wait for it up to `patience`.

        Rows of the time of incidents that spoil data are left out. Raises ConflictError if another worker claimed it.
        """
        model = self.config.models[action.model]
        retrain = _policy(model)
        with self.state.transaction() as tx:
            action = tx.change(replace(action, state=ActionState.RUNNING, started_at=now))
            spoilt = tx.select(Incident, model=action.model, cause=diagnosis.SPOILT)
        end = floor(now, model.grain_length) - model.label_delay
        cut = end - retrain.hold_out
        excluded = [Window(i.since, i.last_breach) for i in spoilt if i.last_breach > i.since]
        rows = self.log.labelled(action.model, Window(end - retrain.train_on, end), excluded)
        early = pc.less(rows.column("event_time"), pa.scalar(cut.replace(tzinfo=None), pa.timestamp("us")))
        train, holdout = rows.filter(early), rows.filter(pc.invert(early))
        facts = {
            "window": [(end - retrain.train_on).isoformat(), end.isoformat()],
            "hold_out": [cut.isoformat(), end.isoformat()],
            "excluded": [[w.start.isoformat(), w.end.isoformat()] for w in excluded],
            "rows": train.num_rows,
        }
        if train.num_rows < retrain.min_rows or not holdout.num_rows:
            return self._end(action, ActionState.REFUSED, Reason.TOO_LITTLE_DATA, now, **facts)
        route = self.registry.route(action.model)
        champion = route.champion if route and route.champion in self.registry.versions(action.model) else ""
        job = training.Job(action.model, retrain.trainer, champion, str(self.registry.folder), list(model.columns))
        training.start(self.jobs / action.id, job, train, holdout, patience)
        with self.state.transaction() as tx:
            changed: Action = tx.change(replace(action, detail={**action.detail, **facts}))
        return changed

    def finish(self, action: Action, now: datetime) -> None:
        """If the process has ended, gate its candidate: one that passes is registered and begins its rollout."""
        retrain = _policy(self.config.models[action.model])
        folder = self.jobs / action.id
        try:
            found = training.result(folder)
        except TrainingError as problem:
            self._end(action, ActionState.FAILED, Reason.RUN_FAILED, now, note=str(problem).strip().splitlines()[-1])
            return
        if found is None:
            if action.started_at is not None and now - action.started_at > retrain.timeout:
                self._end(action, ActionState.FAILED, Reason.INTERRUPTED, now)
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
        manifest = self.registry.add(action.model, folder / "candidate", found["loader"], made, key=action.id)
        ended, entry = _ended(action, ActionState.DONE, reason, now, **facts, version=manifest.version)
        with self.state.transaction() as tx:
            tx.change(ended)
            timeline.write(tx, [entry], self.config, now)
            traffic.offer(
                tx, self.config, action.model, manifest.version, now, (action.id,), _pieces(made),
                scores.select(["candidate", "label"]).rename_columns(["score", "label"]),
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


def _policy(model: ModelConfig) -> RetrainConfig:
    assert model.retrain is not None, "a retraining was planned for a model without a retrain policy"
    return model.retrain


def _pieces(facts: dict[str, Any]) -> tuple[Window, ...]:
    """The training window without what was excluded from it."""
    start, end = (datetime.fromisoformat(at) for at in facts["window"])
    pieces = []
    for begin, stop in sorted((datetime.fromisoformat(a), datetime.fromisoformat(b)) for a, b in facts["excluded"]):
        if start < begin:
            pieces.append(Window(start, min(begin, end)))
        start = max(start, stop)
        if start >= end:
            return tuple(pieces)
    return (*pieces, Window(start, end))
