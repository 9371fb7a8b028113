"""Rollouts: a candidate earns its traffic, stage by stage, or goes back. The decisions of hop 8.

Both arms serve at the same time. Log losses are compared day by day (grain by grain), guardrails within a stage, so
that neither a change of their shares nor a hard day tells against one of them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from watchkeeper.incidents import ENGINE, NEW
from watchkeeper.profiles import Profile
from watchkeeper.records import Reason, Rollout, RolloutState, Severity, Transition, row_id
from watchkeeper.schema import RolloutConfig
from watchkeeper.stats.distances import aligned, ks_estimate
from watchkeeper.stats.estimates import Estimate, difference, proportion, quantile, ratio
from watchkeeper.stats.grid import Grid
from watchkeeper.stats.sequential import Arm, stratified_difference


@dataclass(frozen=True, slots=True)
class ArmData:
    """What one arm has shown.

    `score`, `latency` and `status` are profiles of the present stage alone: over a change of shares, merged rows would
    weigh the days differently in the two arms. `n` counts the rows, and `losses` holds the log losses per grain, since
    the rollout began.
    """

    n: int
    score: Profile | None
    latency: Profile | None
    status: Profile | None
    losses: dict[datetime, Arm]

    @property
    def labelled(self) -> int:
        return sum(arm.n for arm in self.losses.values())

    @property
    def loss(self) -> float | None:
        """The mean log loss of the labelled rows; not to be compared plainly, for the arms' days differ."""
        return sum(arm.n * arm.mean for arm in self.losses.values()) / self.labelled if self.labelled else None


def look(
    rollout: Rollout,
    config: RolloutConfig,
    champion: ArmData,
    candidate: ArmData,
    grids: dict[str, Grid],
    now: datetime,
    until: datetime,
) -> tuple[Rollout, Transition | None]:
    """Compare the arms once and decide: roll back, wait, go to the next stage, or promote.

    A guardrail stops the candidate once its error rate, latency or scores differ from the champion's, at the same
    time, by more than the configured margin with confidence; no labels are needed for these. Log loss stops it
    once it is worse with confidence. To take over, it must be proven no worse than the champion by more than the
    margin. A candidate that is no worse is rolled back by mistake with a chance of at most `alpha`, however many
    looks there are: half of it goes to the log loss, a sixth to each guardrail, whose look number k may err by the
    share 1 / (k (k + 1)) of that.

    Args:
        until: the end of the data that the arms cover.
    """
    strata = [(candidate.losses[at], champion.losses[at]) for at in candidate.losses if at in champion.losses]
    value, low, high = stratified_difference(strata, config.alpha)
    k = len(rollout.looks) + 1
    guards = _guardrails(config, champion, candidate, grids, config.alpha / 6 / (k * (k + 1)))
    finding: dict[str, Any] = {
        "at": now.isoformat(),
        "until": until.isoformat(),
        "stage": rollout.stage,
        "share": rollout.share,
        "n_champion": champion.n,
        "n_candidate": candidate.n,
        "labelled_champion": champion.labelled,
        "labelled_candidate": candidate.labelled,
        "loss_champion": champion.loss,
        "loss_candidate": candidate.loss,
        "difference": value,
        "low": low,
        "high": high,
        "margin": config.margin,
        **{
            name: {"value": e.value, "low": e.low, "high": e.high, "limit": limit}
            for name, (e, limit) in guards.items()
        },
    }
    breached = [name for name, (e, limit) in guards.items() if e.low is not None and e.low > limit]
    if low is not None and low > 0:
        breached.append("log loss")
    held = now - rollout.stage_at >= config.hold and min(candidate.labelled, champion.labelled) >= config.min_rows
    last = rollout.stage + 2 >= len(config.stages)
    if breached:
        after, reason = _end(rollout, RolloutState.ROLLED_BACK, now), Reason.ARM_WORSE
    elif held and last and high is not None and high < config.margin:
        after, reason = _end(rollout, RolloutState.PROMOTED, now), Reason.ARM_PROVEN
    elif now - rollout.started_at >= config.max_duration:
        after, reason = _end(rollout, RolloutState.ROLLED_BACK, now), Reason.OUT_OF_TIME
    elif held and not last:
        stage = rollout.stage + 1
        after, reason = replace(rollout, stage=stage, share=config.stages[stage], stage_at=now), Reason.STAGE_HELD
    else:
        after, reason = rollout, Reason.WAITING
    finding |= {"decision": str(after.state) if after.state != rollout.state else reason.value, "breached": breached}
    after = replace(after, reason=reason, looks=(*rollout.looks, finding))
    if reason is Reason.WAITING:
        return after, None
    note = ", ".join(breached) if breached else f"{after.share:.0%} of the traffic"
    return after, step(rollout, after, now, note)


def begin(
    model: str,
    candidate: str,
    champion: str,
    config: RolloutConfig,
    version: str,
    now: datetime,
    because: tuple[str, ...],
) -> tuple[Rollout, Transition]:
    """Give a candidate its first share of the traffic."""
    rollout = Rollout(
        id=row_id("rollout", model, candidate, now),
        model=model,
        candidate=candidate,
        champion=champion,
        state=RolloutState.RUNNING,
        stage=0,
        share=config.stages[0],
        reason=Reason.WAITING,
        started_at=now,
        stage_at=now,
        ended_at=None,
        looks=(),
        config=version,
        revision=0,
        because=because,
    )
    return rollout, step(None, rollout, now, f"{candidate} gets {rollout.share:.0%} of the traffic")


def step(before: Rollout | None, after: Rollout, now: datetime, note: str, actor: str = ENGINE) -> Transition:
    """The timeline entry from one form of a rollout to the next."""
    start = f"{before.state} {before.share:.0%}" if before else NEW
    end = f"{after.state} {after.share:.0%}"
    return Transition(
        id=row_id("transition", after.id, now, start, end, after.reason),
        model=after.model,
        subject=after.id,
        at=now,
        before=start,
        after=end,
        severity=Severity.P1 if after.state is RolloutState.ROLLED_BACK else Severity.P2,
        reason=after.reason,
        actor=actor,
        note=note,
        because=after.because,
    )


def _end(rollout: Rollout, state: RolloutState, now: datetime) -> Rollout:
    return replace(rollout, state=state, share=1.0 if state is RolloutState.PROMOTED else 0.0, ended_at=now)


def _guardrails(
    config: RolloutConfig, champion: ArmData, candidate: ArmData, grids: dict[str, Grid], alpha: float
) -> dict[str, tuple[Estimate, float]]:
    """Each guardrail's estimate, candidate against champion, with its limit; those that can be taken."""
    guards: dict[str, tuple[Estimate, float]] = {}
    if candidate.status and champion.status:
        sides = [proportion(s.n - s.by_value.get("ok", 0), s.n, alpha) for s in (candidate.status, champion.status)]
        guards["error rate"] = (difference(sides[0], sides[1]), config.error_margin)
    if candidate.latency and champion.latency and min(candidate.latency.n, champion.latency.n) >= config.min_rows:
        medians = []
        for profile in (candidate.latency, champion.latency):
            bins, counts = profile.regular
            medians.append(quantile(0.5, *grids["latency_ms"].edges(bins), counts.astype(float), alpha))
        guards["latency"] = (ratio(medians[0], medians[1]), config.latency_ratio)
    if candidate.score and champion.score and min(candidate.score.n, champion.score.n) >= config.min_rows:
        _, one, two = aligned(*candidate.score.regular, *champion.score.regular)
        guards["scores"] = (ks_estimate(one, two, alpha), config.score_shift)
    return guards
