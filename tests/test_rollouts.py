"""Rollouts: a candidate earns its traffic, stage by stage, or goes back; and rarely goes back by mistake."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from scipy.stats import binom

from watchkeeper.profiles import Profile, categorical, numeric
from watchkeeper.records import Reason, Rollout, RolloutState, Severity, Transition
from watchkeeper.rollouts import ArmData, begin, look
from watchkeeper.schema import RolloutConfig
from watchkeeper.stats.grid import Floats, Grid
from watchkeeper.stats.sequential import Arm
from watchkeeper.windows import DAY, HOUR

START = datetime(2024, 3, 1, tzinfo=UTC)
GRIDS = {"score": Grid.unit(), "latency_ms": Grid.logarithmic(0.1, 60_000.0)}
CONFIG = RolloutConfig(stages=(0.1, 0.5, 1.0), hold=2 * DAY, max_duration=30 * DAY)


def started(config: RolloutConfig = CONFIG) -> Rollout:
    return begin("churn", "v2", "v1", config, "config-1", START, ("action-1",))[0]


def counted(values: Floats, grid: Grid) -> Profile:
    bins, counts = np.unique(grid.bins(values), return_counts=True)
    return numeric(grid, dict(zip(bins.tolist(), counts.tolist(), strict=True)), None, None)


def losses(values: Sequence[Floats], first: int = 0) -> dict[datetime, Arm]:
    """Log losses, one array a day."""
    return {START + (first + i) * DAY: Arm(len(v), float(v.mean()), float(v.var())) for i, v in enumerate(values)}


def arm(
    daily: Sequence[Floats] = (), errors: int = 0, n: int = 1000, latency: float = 20.0, score: float = 0.3
) -> ArmData:
    """An arm with `n` rows in this stage, its errors, median latency and mean score; and its losses by day."""
    spread = np.linspace(0.5, 1.5, n)
    return ArmData(
        n,
        counted(np.clip(score * spread, 0, 1), GRIDS["score"]),
        counted(latency * spread, GRIDS["latency_ms"]),
        categorical({"ok": n - errors, "error": errors}),
        losses(daily),
    )


def bare(daily: dict[datetime, Arm]) -> ArmData:
    return ArmData(0, None, None, None, daily)


def seen(
    rollout: Rollout, day: int, champion: ArmData, candidate: ArmData, config: RolloutConfig = CONFIG
) -> tuple[Rollout, Transition | None]:
    now = START + day * DAY
    return look(rollout, config, champion, candidate, GRIDS, now, now)


def draws(seed: int, days: int, rows: int, mean: float = 0.5) -> list[Floats]:
    """Log losses as they are: skewed, above zero."""
    return list(np.random.default_rng(seed).exponential(mean, (days, rows)))


# the course of it


def test_a_candidate_begins_with_the_first_share() -> None:
    rollout, step = begin("churn", "v2", "v1", CONFIG, "config-1", START, ("action-1",))
    assert (rollout.state, rollout.stage, rollout.share) == (RolloutState.RUNNING, 0, 0.1)
    assert (rollout.candidate, rollout.champion, rollout.because) == ("v2", "v1", ("action-1",))
    assert (rollout.started_at, rollout.stage_at, rollout.ended_at, rollout.looks) == (START, START, None, ())
    assert (step.subject, step.before, step.after) == (rollout.id, "new", "running 10%")
    assert step.note == "v2 gets 10% of the traffic"


def test_a_stage_waits_until_it_has_lasted_long_enough() -> None:
    rollout, step = seen(started(), 1, arm(draws(1, 1, 900)), arm(draws(2, 1, 100)))
    assert (rollout.state, rollout.stage, rollout.reason, step) == (RolloutState.RUNNING, 0, Reason.WAITING, None)
    assert [x["decision"] for x in rollout.looks] == ["waiting"]


def test_a_stage_waits_for_labels() -> None:
    rollout, step = seen(started(), 9, arm(draws(1, 9, 900)), arm(draws(2, 9, 3)))
    assert (rollout.reason, step) == (Reason.WAITING, None)
    assert rollout.looks[0]["labelled_candidate"] == 27 < CONFIG.min_rows
    assert seen(started(), 9, arm(), arm())[0].reason is Reason.WAITING


def test_a_stage_that_was_held_makes_room_for_the_next() -> None:
    rollout, step = seen(started(), 2, arm(draws(1, 2, 900)), arm(draws(2, 2, 100)))
    assert (rollout.stage, rollout.share, rollout.stage_at) == (1, 0.5, START + 2 * DAY)
    assert (rollout.state, rollout.reason) == (RolloutState.RUNNING, Reason.STAGE_HELD)
    assert step is not None
    assert (step.before, step.after, step.note) == ("running 10%", "running 50%", "50% of the traffic")
    assert (step.severity, step.because) == (Severity.P2, ("action-1",))


def last_stage() -> Rollout:
    return replace(started(), stage=1, share=0.5, stage_at=START + 2 * DAY)


def test_a_candidate_is_promoted_once_it_is_proven_no_worse() -> None:
    rollout, step = seen(last_stage(), 4, arm(draws(1, 4, 5000)), arm(draws(2, 4, 5000)))
    assert (rollout.state, rollout.share, rollout.reason) == (RolloutState.PROMOTED, 1.0, Reason.ARM_PROVEN)
    assert rollout.ended_at == START + 4 * DAY
    assert rollout.looks[-1]["high"] < CONFIG.margin
    assert step is not None
    assert (step.after, step.note) == ("promoted 100%", "100% of the traffic")


def test_the_last_stage_waits_for_the_proof() -> None:
    rollout, step = seen(last_stage(), 20, arm(draws(1, 20, 20)), arm(draws(2, 20, 20)))
    assert rollout.looks[-1]["high"] > CONFIG.margin
    assert (rollout.state, rollout.reason, step) == (RolloutState.RUNNING, Reason.WAITING, None)


def test_an_early_proof_waits_for_the_stage_to_be_held() -> None:
    rollout, _ = seen(last_stage(), 3, arm(draws(1, 3, 5000)), arm(draws(2, 3, 5000)))
    assert rollout.looks[-1]["high"] < CONFIG.margin
    assert rollout.state is RolloutState.RUNNING


def test_a_candidate_that_is_not_proven_in_time_goes_back() -> None:
    rollout, step = seen(last_stage(), 30, arm(draws(1, 30, 20)), arm(draws(2, 30, 20)))
    assert (rollout.state, rollout.share, rollout.reason) == (RolloutState.ROLLED_BACK, 0.0, Reason.OUT_OF_TIME)
    assert step is not None
    assert (step.severity, step.after) == (Severity.P1, "rolled back 0%")


def test_a_proof_at_the_last_moment_is_a_proof() -> None:
    rollout, _ = seen(last_stage(), 30, arm(draws(1, 30, 900)), arm(draws(2, 30, 900)))
    assert rollout.state is RolloutState.PROMOTED


def test_without_any_data_it_waits_and_then_goes_back() -> None:
    for day, reason in ((29, Reason.WAITING), (30, Reason.OUT_OF_TIME)):
        rollout, _ = seen(started(), day, bare({}), bare({}))
        assert rollout.reason is reason
        assert (rollout.looks[0]["difference"], rollout.looks[0]["n_candidate"]) == (None, 0)


def test_every_look_is_kept_oldest_first() -> None:
    rollout = started()
    for day in (1, 2, 3):
        rollout, _ = seen(rollout, day, arm(draws(1, day, 900)), arm(draws(2, day, 100)))
    assert [x["until"] for x in rollout.looks] == [(START + d * DAY).isoformat() for d in (1, 2, 3)]
    assert [(x["stage"], x["share"]) for x in rollout.looks] == [(0, 0.1), (0, 0.1), (1, 0.5)]
    assert set(rollout.looks[0]) >= {"error rate", "latency", "scores", "low", "high", "margin", "breached"}
    assert rollout.revision == 0, "only the store counts revisions"


# what stops it

BAD: list[tuple[str, dict[str, Any]]] = [
    ("error rate", {"errors": 100}),
    ("latency", {"latency": 60.0}),
    ("scores", {"score": 0.66}),
    ("log loss", {}),
]


@pytest.mark.parametrize(("guard", "trouble"), BAD)
def test_each_guardrail_stops_a_candidate_that_is_worse(guard: str, trouble: dict[str, Any]) -> None:
    mean = 0.5 if trouble else 1.0
    rollout, step = seen(started(), 1, arm(draws(1, 1, 900)), arm(draws(2, 1, 400, mean), **trouble))
    assert (rollout.state, rollout.share, rollout.reason) == (RolloutState.ROLLED_BACK, 0.0, Reason.ARM_WORSE)
    assert (rollout.looks[-1]["breached"], rollout.looks[-1]["decision"]) == ([guard], "rolled back")
    assert step is not None
    assert (step.note, step.severity, step.before, step.after) == (
        guard, Severity.P1, "running 10%", "rolled back 0%",
    )  # fmt: skip


@pytest.mark.parametrize(
    "better", [{"errors": 0}, {"latency": 5.0}, {"errors": 60}, {"latency": 35.0}, {"score": 0.35}]
)
def test_no_guardrail_stops_a_candidate_that_is_better_or_within_the_margin(better: dict[str, Any]) -> None:
    champion = arm(draws(1, 1, 900), errors=55)
    candidate = arm(draws(2, 1, 400), **{"errors": 55, **better})
    assert seen(started(), 1, champion, candidate)[0].state is RolloutState.RUNNING


def test_guardrails_need_no_labels() -> None:
    rollout, _ = seen(started(), 1, arm(), arm(errors=300))
    assert rollout.state is RolloutState.ROLLED_BACK
    assert rollout.looks[-1]["labelled_candidate"] == 0


def test_a_guardrail_that_cannot_be_taken_stops_nothing() -> None:
    empty = ArmData(5, categorical({}), None, categorical({"ok": 5}), {})
    nan, inf = np.full(50, np.nan), np.full(50, np.inf)
    ok = categorical({"ok": 50})
    silent = ArmData(50, counted(nan, GRIDS["score"]), counted(inf, GRIDS["latency_ms"]), ok, {})
    assert seen(started(), 1, empty, empty)[0].state is RolloutState.RUNNING
    rollout, _ = seen(started(), 1, silent, silent)
    assert rollout.state is RolloutState.RUNNING
    assert rollout.looks[-1]["scores"]["value"] is None


def test_a_breach_counts_for_more_than_the_end_of_time_or_a_held_stage() -> None:
    rollout, _ = seen(last_stage(), 30, arm(draws(1, 30, 900)), arm(draws(2, 30, 900), errors=400))
    assert rollout.reason is Reason.ARM_WORSE


def test_every_look_that_went_before_makes_a_guardrail_stricter() -> None:
    champion, candidate = arm(), arm(errors=40)
    widths = []
    for before in (0, 10, 1000):
        rollout = replace(started(), looks=({},) * before)
        widths.append(seen(rollout, 1, champion, candidate)[0].looks[-1]["error rate"]["low"])
    assert widths == sorted(widths, reverse=True)
    assert widths[0] > widths[-1]


# error rates


def mistakes(rolled_back: int, of: int, alpha: float) -> None:
    assert rolled_back <= binom.ppf(0.999, of, alpha), f"{rolled_back} of {of} went back by mistake"


LONG = RolloutConfig(stages=(0.2, 1.0), hold=29 * DAY, max_duration=30 * DAY, alpha=0.1)


def ends(champion: Floats, candidate: Floats, config: RolloutConfig) -> tuple[Rollout, int]:
    """Look each day at losses of shape (days, rows) until the rollout ends; also how many looks that took."""
    rollout = started(config)
    for day in range(1, len(champion) + 1):
        sides = (bare(losses(list(side[:day]))) for side in (champion, candidate))
        rollout, _ = seen(rollout, day, *sides, config)
        if rollout.state is not RolloutState.RUNNING:
            return rollout, day
    return rollout, len(champion)


def test_a_candidate_that_is_no_worse_is_seldom_rolled_back_in_thirty_daily_looks() -> None:
    rng, times, days = np.random.default_rng(8), 250, 29
    worse = 0
    for _ in range(times):
        level = rng.lognormal(0, 0.5, (days, 1))  # some days are harder than others, for both arms alike
        sides = (level * rng.exponential(0.5, (days, rows)) for rows in (80, 20))
        worse += ends(*sides, LONG)[0].reason is Reason.ARM_WORSE
    mistakes(worse, times, LONG.alpha)


@pytest.mark.parametrize(("every", "rows"), [(DAY, 1000), (HOUR, 40)])
def test_a_guardrail_seldom_stops_a_candidate_whose_truth_lies_on_the_margin(every: timedelta, rows: int) -> None:
    looks, times = 29 * DAY // every, 100
    rng, worse = np.random.default_rng(9), 0
    for _ in range(times):
        good = np.cumsum(rng.binomial(rows * 4 // 5, 0.03, looks)).tolist()
        bad = np.cumsum(rng.binomial(rows // 5, 0.03 + LONG.error_margin, looks)).tolist()
        rollout = started(LONG)
        for k in range(1, looks + 1):
            sides = ((rows * 4 // 5 * k, good[k - 1]), (rows // 5 * k, bad[k - 1]))
            arms = (ArmData(n, None, None, categorical({"ok": n - e, "error": e}), {}) for n, e in sides)
            now = START + k * every
            rollout, _ = look(rollout, LONG, *arms, GRIDS, now, now)
            if rollout.state is RolloutState.ROLLED_BACK:
                worse += 1
                break
    mistakes(worse, times, LONG.alpha)


def test_a_clearly_worse_candidate_goes_back_in_its_first_stage_within_two_looks() -> None:
    rng, times = np.random.default_rng(10), 100
    fast = 0
    for _ in range(times):
        level = rng.lognormal(0, 0.3, (2, 1))
        champion, candidate = level * rng.exponential(0.4, (2, 1800)), level * rng.exponential(0.8, (2, 200))
        rollout, looks = ends(champion, candidate, CONFIG)
        fast += rollout.reason is Reason.ARM_WORSE and rollout.looks[-1]["stage"] == 0 and looks <= 2
    assert fast >= 0.98 * times


def test_an_equal_candidate_takes_over_in_good_time() -> None:
    rng, times = np.random.default_rng(11), 30
    days = []
    for _ in range(times):
        champion = rng.exponential(0.4, (29, 1000))
        candidate = rng.exponential(0.4, (29, 1000))
        rollout, day = ends(champion, candidate, CONFIG)
        days.append(day if rollout.state is RolloutState.PROMOTED else 99)
    assert np.median(days) <= 6
    assert sum(day == 99 for day in days) <= binom.ppf(0.999, times, CONFIG.alpha)


# what must not mislead


def test_hard_days_and_changing_shares_do_not_tell_against_an_equal_candidate() -> None:
    rng = np.random.default_rng(12)
    levels, shares = [0.1, 0.1, 2.0, 2.0], [0.05, 0.05, 0.5, 0.5]  # the share grows just when the days get hard
    sides: list[list[Floats]] = [[], []]
    for level, share in zip(levels, shares, strict=True):
        sides[0].append(rng.exponential(level, int(2000 * (1 - share))))
        sides[1].append(rng.exponential(level, int(2000 * share)))
    champion, candidate = (np.concatenate(side) for side in sides)
    assert candidate.mean() > 1.5 * champion.mean(), "merged over the days, the candidate looks far worse"
    rollout, _ = seen(started(), 4, bare(losses(sides[0])), bare(losses(sides[1])))
    found = rollout.looks[-1]
    assert rollout.state is RolloutState.RUNNING
    assert found["low"] < 0 < found["high"]
    assert abs(found["difference"]) < 0.2


def test_easy_days_and_changing_shares_do_not_hide_a_worse_candidate() -> None:
    rng = np.random.default_rng(13)
    levels, shares = [2.0, 2.0, 0.3, 0.3], [0.05, 0.05, 0.5, 0.5]
    sides: list[list[Floats]] = [[], []]
    for level, share in zip(levels, shares, strict=True):
        sides[0].append(rng.exponential(level, int(2000 * (1 - share))))
        sides[1].append(rng.exponential(1.8 * level, int(2000 * share)))
    assert np.concatenate(sides[1]).mean() < np.concatenate(sides[0]).mean(), "merged, the candidate looks better"
    rollout, _ = seen(started(), 4, bare(losses(sides[0])), bare(losses(sides[1])))
    assert rollout.reason is Reason.ARM_WORSE


def test_a_day_that_only_one_arm_served_says_nothing() -> None:
    shared = draws(1, 1, 500)
    champion = bare({**losses(shared), **losses(draws(2, 3, 500, mean=0.01), first=1)})
    rollout, _ = seen(started(), 1, champion, bare(losses(draws(3, 1, 500))))
    assert abs(rollout.looks[-1]["difference"]) < 0.1
    assert rollout.state is RolloutState.RUNNING
