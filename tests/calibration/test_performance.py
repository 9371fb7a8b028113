"""Every interval of a classifier's metric misses the truth no more often than it says: from a hundred rows to a hundred
thousand, with positives from one in a thousand to one in two.

Rates are held to their nominal error as in `test_null_rates`: by a binomial bound that a right interval exceeds less
than once in ten thousand runs of one case. A sample in which a metric is absent misses nothing.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats

from misses import hold, missed, seeded
from watchkeeper.stats import calibration, confusion, scores
from watchkeeper.stats.confusion import Confusion, Costs, decision_cost
from watchkeeper.stats.estimates import Estimate, proportion
from watchkeeper.stats.grid import Floats
from watchkeeper.stats.scores import Scores

COSTS = Costs(true_positive=-1, false_positive=5, false_negative=120, true_negative=0)
AT_A_THRESHOLD: dict[str, Callable[[Confusion, float], Estimate]] = {
    **{
        name: getattr(confusion, name)
        for name in (
            "accuracy", "precision", "recall", "specificity", "false_positive_rate", "false_negative_rate", "f1",
            "balanced_accuracy", "mcc", "lift",
        )
    },
    "decision_cost": lambda counts, alpha: decision_cost(counts, COSTS, alpha),
    "predicted_positive_rate": lambda counts, alpha: proportion(counts.predicted, counts.n, alpha),
}  # fmt: skip
RATES = {"fair": (0.6, 0.1), "sharp": (0.99, 0.002), "blind": (0.3, 0.3), "contrary": (0.2, 0.4)}
"""The true and the false positive rate of classifiers."""
SIZES, BASES = (100, 1000, 100_000), (0.001, 0.05, 0.5)
ALPHAS = (0.05, 1e-3)
sizes = pytest.mark.parametrize("n", SIZES)
bases = pytest.mark.parametrize("base", BASES)

AT = np.unique(np.concatenate([np.arange(12), np.geomspace(12, 999, 40).astype(int), np.arange(500, 1000, 25)]))
LOWER, UPPER, MIDDLE = AT / 1000, (AT + 1) / 1000, (AT + 0.5) / 1000
"""The bins that scores fall into: thousandths, dense among the small ones."""


@bases
@sizes
@pytest.mark.parametrize("classifier", RATES)
def test_a_metric_at_a_threshold_misses_no_more_often_than_alpha_on_either_side(
    classifier: str, n: int, base: float
) -> None:
    found, alarmed = RATES[classifier]
    shares = np.array([base * found, (1 - base) * alarmed, base * (1 - found), (1 - base) * (1 - alarmed)])
    reps, rng = 600, seeded("confusion", classifier, n, base)
    drawn, times = np.unique(rng.multinomial(n, shares, reps), axis=0, return_counts=True)
    every = [Confusion(*row) for row in drawn.tolist()]
    whole = Confusion(*(int(share) for share in np.round(shares * 10**15)))
    for name, estimate in AT_A_THRESHOLD.items():
        truth = estimate(whole, 0.05).value
        assert truth is not None
        for alpha in ALPHAS:
            misses = np.array([missed(estimate(counts, alpha), truth) for counts in every])
            for end, number in zip(("low end", "high end"), times @ misses, strict=True):
                hold(f"{name}, {end}", int(number), reps, alpha)


def model(name: str, base: float) -> tuple[Floats, Floats]:
    """The probability of each score, and of a positive there."""
    edges = np.append(LOWER, 1.0)
    match name:
        case "calibrated":
            share, p = np.diff(stats.beta(2 * base, 2 * (1 - base)).cdf(edges)), MIDDLE
        case "underestimating":
            share, p = np.diff(stats.beta(2 * base / 3, 2 - 2 * base / 3).cdf(edges)), np.minimum(3 * MIDDLE, 1)
        case "overestimating":
            share, p = np.diff(stats.beta(3 * base, 2 - 3 * base).cdf(edges)), 0.7 * MIDDLE
        case _:  # knowing nothing
            share, p = np.zeros(len(AT)), np.full(len(AT), base)
            share[[1, 20, 40, 60]] = 0.4, 0.3, 0.2, 0.1
    return share / share.sum(), p


def truths(share: Floats, p: Floats) -> dict[Callable[[Scores, float], Estimate], float]:
    ones, zeros = share * p, share * (1 - p)
    found, alarmed = np.cumsum(ones[::-1]), np.cumsum(zeros[::-1])
    with np.errstate(invalid="ignore"):
        precision = np.where(found > 0, found / (found + alarmed), 0)
    return {
        scores.auc: float((ones * (np.cumsum(zeros) - zeros / 2)).sum() / ones.sum() / zeros.sum()),
        scores.average_precision: float((ones[::-1] * precision).sum() / ones.sum()),
        scores.log_loss: float(-(ones * np.log(MIDDLE) + zeros * np.log1p(-MIDDLE)).sum()),
        calibration.brier: float((ones * (1 - MIDDLE) ** 2 + zeros * MIDDLE**2).sum()),
        calibration.calibration_error: float((share * np.abs(p - MIDDLE)).sum()),
    }


@bases
@sizes
@pytest.mark.parametrize("name", ["calibrated", "underestimating", "overestimating", "knowing nothing"])
def test_a_metric_of_the_scores_misses_no_more_often_than_alpha_on_either_side(name: str, n: int, base: float) -> None:
    share, p = model(name, base)
    one_sided = bool((p >= MIDDLE).all() or (p <= MIDDLE).all())  # or gaps cancel within the ten bins
    tenth = np.minimum((MIDDLE * 10).astype(int), 9)
    gaps, held = np.bincount(tenth, share * (p - MIDDLE), 10), np.bincount(tenth, share, 10)
    reps, rng = 120, seeded("scores", name, n, base)
    rows = rng.multinomial(n, share, reps)
    positives = rng.binomial(rows, p)
    drawn = [
        Scores(LOWER[some], UPPER[some], (all_ - ones)[some] * 1.0, ones[some] * 1.0)
        for all_, ones, some in zip(rows, positives, rows > 0, strict=True)
    ]
    for alpha in ALPHAS:
        for estimate, truth in truths(share, p).items():
            misses = np.array([missed(estimate(s, alpha), truth) for s in drawn]).sum(axis=0)
            hold(f"{estimate.__name__}, low end", int(misses[0]), reps, alpha)
            if estimate is not calibration.calibration_error or one_sided:
                hold(f"{estimate.__name__}, high end", int(misses[1]), reps, alpha)
        misses = np.zeros(2)
        for s, all_ in zip(drawn, rows, strict=True):
            here = np.unique(tenth[all_ > 0])
            truth = float(np.mean(np.abs(gaps[here]) / held[here]))
            misses += missed(calibration.mean_absolute_calibration_error(s, alpha), truth)
        for end, number in zip(("low", "high"), misses, strict=True):
            hold(f"mean_absolute_calibration_error, {end} end", int(number), reps, alpha)


def test_average_precision_holds_where_positives_are_few_and_its_value_is_biased() -> None:
    at = np.linspace(-6, 8, 201)
    share = np.diff(stats.norm(2).cdf(at)), np.diff(stats.norm().cdf(at))
    ones, zeros = (part / part.sum() for part in share)
    lower, reps, alpha = np.arange(200) / 200, 400, 0.05
    for n, base in ((1000, 0.01), (10_000, 0.01), (100_000, 0.001)):
        found, alarmed = np.cumsum(base * ones[::-1]), np.cumsum((1 - base) * zeros[::-1])
        truth = float((ones[::-1] * found / (found + alarmed)).sum())
        drawn = seeded("few positives", n, base).multinomial(n, np.concatenate([base * ones, (1 - base) * zeros]), reps)
        every = [Scores(lower, lower + 0.005, row[200:] * 1.0, row[:200] * 1.0) for row in drawn]
        values = [scores.average_precision(s, alpha) for s in every]
        assert np.mean([e.value for e in values if e.value is not None]) > truth
        for end, number in zip(("low", "high"), np.sum([missed(e, truth) for e in values], axis=0), strict=True):
            hold(f"average_precision of {n} rows, {end} end", int(number), reps, alpha)


POWER = {
    "precision": (0.75, "below"), "recall": (0.67, "below"), "specificity": (0.95, "below"),
    "false_positive_rate": (0.06, "above"), "false_negative_rate": (0.33, "above"), "f1": (0.69, "below"),
    "balanced_accuracy": (0.8, "below"), "mcc": (0.61, "below"), "lift": (3.8, "below"), "accuracy": (0.9, "below"),
    "decision_cost": (7.5, "above"), "predicted_positive_rate": (0.16, "above"),
}  # fmt: skip
"""Limits that a classifier with recall 0.6 and a false positive rate of 0.08 among 20 % positives does not keep, each
by about six standard errors."""


@pytest.mark.parametrize("name", POWER)
def test_a_broken_limit_is_seen_in_ten_thousand_rows(name: str) -> None:
    limit, direction = POWER[name]
    shares = np.array([0.2 * 0.6, 0.8 * 0.08, 0.2 * 0.4, 0.8 * 0.92])
    found = [
        AT_A_THRESHOLD[name](Confusion(*row), 1e-3)
        for row in seeded("power", name).multinomial(10_000, shares, 200).tolist()
    ]
    seen = [(e.low or 0) > limit if direction == "above" else (e.high or 0) < limit for e in found]
    assert np.mean(seen) > 0.95


@pytest.mark.parametrize(
    ("estimate", "limit", "direction"),
    [(scores.average_precision, 0.65, "below"), (calibration.brier, 0.2, "above"), (scores.log_loss, 0.58, "above")],
)
def test_a_worse_model_is_seen(estimate: Callable[[Scores, float], Estimate], limit: float, direction: str) -> None:
    share, reps = np.full(len(AT), 1 / len(AT)), 100
    rng = seeded("power of scores")
    seen = 0
    for rows in rng.multinomial(5000, share, reps):
        positives = rng.binomial(rows, 0.3 + 0.4 * MIDDLE)
        found = estimate(Scores(LOWER, UPPER, rows - positives * 1.0, positives * 1.0), 1e-3)
        seen += (found.low or 0) > limit if direction == "above" else (found.high or 1) < limit
    assert seen / reps > 0.95
