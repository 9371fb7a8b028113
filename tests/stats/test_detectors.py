"""The e-detector: known answers, its run length without a change, delays with one, and the change date's interval."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from watchkeeper.stats import detectors
from watchkeeper.stats.detectors import Detector, changed, gains_of_grains, gains_of_rows, merged, standing, wealth
from watchkeeper.stats.grid import Floats


def by_hand(losses: Floats, risk: float) -> Floats:
    """The e-detector as the paper has it: the mean over the bets of M = (M + 1) L, row by row."""
    odds = detectors.ODDS * risk / (1 - risk)
    bets = odds / (1 + odds)
    own, path = np.zeros(len(bets)), []
    for loss in losses:
        own = (own + 1) * (1 + (bets - risk) / (risk * (1 - risk)) * (loss - risk))
        path.append(own.mean())
    return np.array(path)


def test_it_is_the_published_recursion() -> None:
    losses = np.random.default_rng(1).random(300)
    detector, _ = Detector(0.4, 1e300).follow(losses)
    assert np.exp(detector.log_e) == pytest.approx(by_hand(losses, 0.4)[-1], rel=1e-9)


def test_the_alarm_comes_with_the_first_row_that_reaches_the_run_length() -> None:
    losses = (np.random.default_rng(2).random(400) < 0.3).astype(float)
    first = int(np.flatnonzero(by_hand(losses, 0.1) >= 1e4)[0])
    assert int(Detector(0.1, 1e4).follow(losses)[1][0]) == first


def test_full_losses_are_likelihood_ratios() -> None:
    gains = gains_of_rows(np.array([1.0, 0.0]), 0.2)
    bets = detectors.alternatives(0.2)
    assert gains == pytest.approx(np.stack([np.log(bets / 0.2), np.log((1 - bets) / 0.8)], axis=1))


@given(st.integers(0, 2**32 - 1), st.integers(1, 50))
def test_a_grain_is_the_product_of_its_rows_in_any_order(seed: int, rows: int) -> None:
    losses = (np.random.default_rng(seed).random(rows) < 0.3).astype(float)
    grain = gains_of_grains(np.array([rows]), np.array([losses.sum()]), 0.1)[:, 0]
    assert grain == pytest.approx(gains_of_rows(losses, 0.1).sum(axis=1), abs=1e-9)


@given(st.integers(0, 2**32 - 1))
def test_a_grain_of_partial_losses_bets_no_more_than_its_rows(seed: int) -> None:
    losses = np.random.default_rng(seed).random(20)
    grain = gains_of_grains(np.array([20]), np.array([losses.sum()]), 0.4)[:, 0]
    assert (grain <= gains_of_rows(losses, 0.4).sum(axis=1) + 1e-9).all()


@given(st.integers(0, 2**32 - 1))
def test_a_grains_factor_is_a_fair_bet_where_its_rows_differ(seed: int) -> None:
    """Exactly, over all outcomes of eight rows with a risk each, against the mean of the risks."""
    risks = np.random.default_rng(seed).uniform(0.02, 0.9, 8)
    outcomes = (np.arange(256)[:, None] >> np.arange(8)) & 1
    chance = np.where(outcomes, risks, 1 - risks).prod(axis=1)
    factor = np.exp(gains_of_grains(np.full(256, 8.0), outcomes.sum(axis=1).astype(float), float(risks.mean())))
    assert (factor @ chance <= 1 + 1e-9).all()


@given(st.integers(0, 2**32 - 1), st.integers(0, 600), st.integers(0, 300))
def test_going_on_from_where_it_stood_is_one_run(seed: int, cut: int, cool_down: int) -> None:
    losses = (np.random.default_rng(seed).random(600) < 0.3).astype(float)
    start = Detector(0.1, 100.0, cool_down)
    whole, alarms = start.follow(losses)
    part, first = start.follow(losses[:cut])
    rest, second = part.follow(losses[cut:])
    assert [*first, *(second + cut)] == alarms.tolist()
    assert rest.rest == whole.rest
    assert rest.logs == pytest.approx(whole.logs, abs=1e-6)


def test_blocks_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    losses = (np.random.default_rng(5).random(3000) < 0.2).astype(float)
    whole = Detector(0.1, 1000.0, 50).follow(losses)
    monkeypatch.setattr(detectors, "BLOCK", (7, 7))
    parts = Detector(0.1, 1000.0, 50).follow(losses)
    assert parts[1].tolist() == whole[1].tolist()
    assert parts[0].logs == pytest.approx(whole[0].logs, abs=1e-6)


def test_after_an_alarm_it_rests_and_starts_anew() -> None:
    detector, alarms = Detector(0.1, 1e4, cool_down=100).follow(np.ones(250))
    fresh = Detector(0.1, 1e4).follow(np.ones(20))[1][0]
    assert np.diff(alarms).tolist() == [101 + fresh] * (len(alarms) - 1)
    assert detector.rest + 250 == alarms[-1] + 101 or detector.rest == 0


def test_alarms_close_together_are_one_episode() -> None:
    assert merged(np.array([5, 8, 12, 40, 46]), 5).tolist() == [5, 40, 46]
    assert merged(np.array([], dtype=np.int64), 5).tolist() == []


@pytest.mark.parametrize("risk", [0.0, 1.0, -0.1, float("nan")])
def test_a_risk_that_bounds_nothing_is_refused(risk: float) -> None:
    with pytest.raises(ValueError, match="upper bound"):
        Detector(risk, 1000.0)


def test_what_is_no_loss_is_refused() -> None:
    with pytest.raises(ValueError, match="divide them"):
        Detector(0.1, 1000.0).follow(np.array([0.0, 1.5]))
    with pytest.raises(ValueError, match="run length"):
        Detector(0.1, 1.0)


# its error rate


@pytest.mark.parametrize(("rows", "run_length"), [(1, 1000), (50, 100), (2000, 50)])
def test_without_a_change_false_alarms_are_so_far_apart_on_average(rows: int, run_length: int) -> None:
    """At the boundary itself, where the risk is the bound; alarms in a hundred thousand steps."""
    random = np.random.default_rng(7)
    steps = 100_000
    lost = random.binomial(rows, 0.1, steps).astype(float)
    _, alarms = Detector(0.1, float(run_length)).follow_grains(np.full(steps, float(rows)), lost)
    assert len(alarms) + 2 * len(alarms) ** 0.5 <= 1.1 * steps / run_length


def test_losses_that_depend_on_each_other_change_nothing_while_their_mean_given_the_past_does_not() -> None:
    random = np.random.default_rng(8)
    drawn = random.random(200_000)
    losses = np.zeros(200_000)
    for at in range(1, len(losses)):  # partial losses after a full one, full ones else: 0.1 on average either way
        losses[at] = 0.1 if losses[at - 1] == 1 else float(drawn[at] < 0.1)
    assert len(Detector(0.1, 1000.0).follow(losses)[1]) <= 200


@pytest.mark.parametrize(("after", "rows"), [(0.15, 550), (0.20, 200), (0.30, 80)])
def test_a_higher_risk_is_found_soon(after: float, rows: int) -> None:
    random = np.random.default_rng(9)
    delays = []
    for _ in range(200):
        losses = (random.random(8000) < np.where(np.arange(8000) < 5000, 0.1, after)).astype(float)
        alarms = Detector(0.106, 1e4).follow(losses)[1]
        delays.append(int(alarms[alarms >= 5000][0]) - 5000)
    assert np.mean(delays) <= rows


def test_a_standing_detector_first_reaches_its_run_length_where_a_plain_one_does() -> None:
    random = np.random.default_rng(10)
    gains = gains_of_grains(np.full(60, 100.0), random.binomial(100, 0.16, 60).astype(float), 0.1)
    plain = Detector(0.1, 500.0).follow_grains(np.full(60, 100.0), np.zeros(60))[0]
    path = detectors.log_mean(wealth(gains, np.array(plain.logs) - np.inf))
    first = int(np.flatnonzero(path >= np.log(500))[0])
    held = [float(standing(gains[:, : end + 1], 500.0)) for end in range(60)]
    assert int(np.flatnonzero(np.array(held) >= np.log(500))[0]) == first
    assert held[:first] == pytest.approx(path[:first])


def test_a_standing_detector_falls_as_soon_as_the_risk_does() -> None:
    lost = np.array([30.0] * 100 + [10.0] * 3)
    gains = gains_of_grains(np.full(103, 100.0), lost, 0.12)
    assert standing(gains[:, :100], 1000.0) >= np.log(1000)
    assert standing(gains, 1000.0) < np.log(1000)


def test_a_standing_detector_is_lower_for_a_higher_risk() -> None:
    lost = np.random.default_rng(11).binomial(100, 0.15, 50).astype(float)
    levels = [float(standing(gains_of_grains(np.full(50, 100.0), lost, m), 1000.0)) for m in np.linspace(0.08, 0.3, 12)]
    assert levels == sorted(levels, reverse=True)


# since when

CHANGES = [
    (0.1, 0.12, 1, 12_000, 1e4), (0.1, 0.15, 1, 6000, 1e4), (0.1, 0.3, 1, 2000, 1e4), (0.01, 0.03, 1, 8000, 1e4),
    (0.1, 0.12, 50, 300, 1e3), (0.1, 0.12, 200, 100, 300), (0.1, 0.11, 2000, 300, 1e3),
]  # fmt: skip


@pytest.mark.parametrize(("before", "after", "size", "steps", "run_length"), CHANGES)
def test_the_interval_holds_the_change_date(
    before: float, after: float, size: int, steps: int, run_length: float
) -> None:
    random = np.random.default_rng(12)
    rows, date = np.full(steps, float(size)), steps // 3
    held = []
    for _ in range(150):
        lost = random.binomial(size, np.where(np.arange(steps) < date, before, after)).astype(float)
        _, alarms = Detector(before * 1.05, run_length).follow_grains(rows, lost)
        if len(alarms) and alarms[0] >= date:
            end = int(alarms[0]) + 1
            first, low, high = changed(rows[:end], lost[:end], before, 0.025)
            assert low <= first <= high
            held.append(low <= date <= high)
    assert len(held) >= 75
    assert np.mean(held) >= 0.93


def test_a_clear_change_is_dated_to_its_grain() -> None:
    lost = np.array([10.0, 9.0, 11.0, 30.0, 28.0, 31.0])
    assert changed(np.full(6, 100.0), lost, np.full(6, 0.1), 0.025) == (3, 3, 3)


def test_a_detector_can_be_stored() -> None:
    detector, _ = Detector(0.1, 1e4).follow(np.ones(2))
    assert replace(Detector(0.1, 1e4), logs=detector.logs) == detector
