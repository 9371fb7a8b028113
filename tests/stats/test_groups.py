"""Gaps between groups: their values are fairlearn's, and their intervals hold whichever groups are the extreme ones."""

from __future__ import annotations

import zlib
from functools import partial

import numpy as np
import pytest
from fairlearn import metrics as fairlearn
from scipy import stats

from watchkeeper.stats import groups
from watchkeeper.stats.confusion import Confusion
from watchkeeper.stats.estimates import mean, mean_of_counts
from watchkeeper.stats.groups import difference_of, difference_of_shares, ratio_of_shares

FAIR = {
    "demographic_parity": fairlearn.demographic_parity_difference,
    "four_fifths": fairlearn.demographic_parity_ratio,
    "equal_opportunity": fairlearn.equal_opportunity_difference,
    "equalised_odds": fairlearn.equalized_odds_difference,
}


def drawn(seed: int, number: int, rows: int = 5000) -> tuple[np.ndarray, np.ndarray, np.ndarray, dict[str, Confusion]]:
    rng = np.random.default_rng(seed)
    group = rng.integers(number, size=rows)
    label = rng.random(rows) < 0.2 + 0.1 * (group % 3)
    said = rng.random(rows) < np.where(label, 0.6, 0.2) + 0.05 * (group % 4)
    counts = {
        str(one): Confusion(
            *(
                int((kind & (group == one)).sum())
                for kind in (label & said, ~label & said, label & ~said, ~label & ~said)
            )
        )
        for one in range(number)
    }
    return label, said, group, counts


@pytest.mark.parametrize("number", [2, 5, 20])
@pytest.mark.parametrize("name", FAIR)
def test_a_gap_is_that_of_fairlearn(name: str, number: int) -> None:
    label, said, group, counts = drawn(number, number)
    found = getattr(groups, name)(counts, 0.025)
    assert found.value == pytest.approx(FAIR[name](label, said, sensitive_features=group), abs=1e-12)
    assert 0 <= found.low <= found.value <= found.high <= 1


@pytest.mark.parametrize("number", [2, 5])
def test_predictive_parity_is_the_difference_of_precision(number: int) -> None:
    label, said, group, counts = drawn(number, number)
    precision = {one: label[said & (group == one)].mean() for one in range(number)}
    found = groups.predictive_parity(counts, 0.025)
    assert found.value == pytest.approx(max(precision.values()) - min(precision.values()), abs=1e-12)
    assert found.detail["highest"] == str(max(precision, key=precision.__getitem__))
    assert found.detail["lowest"] == str(min(precision, key=precision.__getitem__))


def test_the_example_of_the_four_fifths_rule() -> None:
    """Of the Uniform Guidelines' questions and answers (1979): 48 of 80 whites and 12 of 40 blacks hired, a
    rate of half."""
    found = groups.four_fifths({"white": Confusion(48, 0, 32, 0), "black": Confusion(12, 0, 28, 0)}, 0.05)
    assert found.value == pytest.approx(0.5)
    assert found.high is not None
    assert found.high < 0.95
    assert (found.detail["highest"], found.detail["lowest"]) == ("white", "black")


def test_a_small_group_is_left_out_and_named() -> None:
    found = difference_of_shares({"a": (300, 1000), "b": (290, 1000), "c": (1, 1), "d": (0, 0)}, 0.025)
    assert found.value == pytest.approx(0.01)
    assert found.detail["left out"] == {"c": "1 row, fewer than 30", "d": "0 rows, fewer than 30"}
    assert found.n == 2001


@pytest.mark.parametrize("shares", [{}, {"a": (3, 1000)}, {"a": (3, 1000), "b": (2, 29)}])
def test_fewer_than_two_groups_have_no_gap(shares: dict[str, tuple[int, int]]) -> None:
    for found in (difference_of_shares(shares, 0.025), ratio_of_shares(shares, 0.025)):
        assert found.value is found.low is found.high is None
        assert found.detail["groups"] < 2
    assert groups.odds(shares, {"a": (1, 100), "b": (2, 100)}, 0.025).value is None


def test_a_ratio_of_nothing_is_absent_and_one_of_none_to_some_is_zero() -> None:
    assert ratio_of_shares({"a": (0, 1000), "b": (0, 1000)}, 0.025).value is None
    found = ratio_of_shares({"a": (0, 1000), "b": (500, 1000)}, 0.025)
    assert (found.value, found.low) == (0.0, 0.0)
    assert found.high is not None
    assert 0 < found.high < 0.02


def test_no_group_without_a_value_or_an_interval_is_compared() -> None:
    measures = {"a": partial(mean, 50, 500, 100), "b": partial(mean, 250, 900, 100), "c": partial(mean, 1, 1, 1)}
    found = difference_of(measures, 0.025, least=1)
    assert found.value == 2.0
    assert found.detail["left out"] == {"c": "no value"}


def test_two_means_are_compared_as_by_welch() -> None:
    rng = np.random.default_rng(3)
    one, two = rng.normal(1, 1, 3000), rng.normal(0, 3, 2000)
    measures = {
        "one": partial(mean, one.sum(), (one**2).sum(), len(one)),
        "two": partial(mean, two.sum(), (two**2).sum(), len(two)),
    }
    found, welch = difference_of(measures, 0.025), stats.ttest_ind(one, two, equal_var=False).confidence_interval(0.95)
    assert found.value == pytest.approx(one.mean() - two.mean())
    assert found.high == pytest.approx(welch.high, abs=1e-3)
    paired = stats.ttest_ind(one, two, equal_var=False).confidence_interval(0.975)
    assert found.low == pytest.approx(paired.low, abs=1e-3), "two ordered pairs share the error of the low end"


def hold(what: str, misses: int, reps: int, alpha: float) -> None:
    most = stats.binom.ppf(0.9999, reps, alpha)
    assert misses <= most, f"{what} missed {misses} of {reps} times at alpha {alpha}; at most {most:.0f} are fair"


SPREADS = {"equal": (0.0, 0.0), "some": (0.1, 0.3), "far": (0.3, 0.9)}
"""How far the groups' true log-odds reach, around each base rate, as parts of 4: none, a little, much."""


@pytest.mark.parametrize("n", [100, 1000, 100_000])
@pytest.mark.parametrize("number", [2, 5, 20])
@pytest.mark.parametrize("spread", SPREADS)
def test_a_gap_misses_no_more_often_than_alpha_on_either_side(spread: str, number: int, n: int) -> None:
    """Groups of `n` rows each, of unequal sizes about it."""
    rng = np.random.default_rng(zlib.crc32(repr((spread, number, n)).encode()))
    reps = 120
    for base in (0.05, 0.5):
        apart = np.linspace(-SPREADS[spread][1], SPREADS[spread][1], number) * 2
        truth = 1 / (1 + (1 - base) / base * np.exp(-apart))
        rows = (n * np.linspace(0.6, 1.4, number)).astype(int)
        every = rng.binomial(rows, truth, (reps, number))
        gap, ratio = truth.max() - truth.min(), truth.min() / truth.max()
        for alpha in (0.05, 1e-3):
            misses = np.zeros(4, dtype=int)
            for hits in every.tolist():
                shares = {str(i): (hit, int(of)) for i, (hit, of) in enumerate(zip(hits, rows, strict=True))}
                one, two = difference_of_shares(shares, alpha), ratio_of_shares(shares, alpha)
                misses[0] += one.low is not None and one.low > gap + 1e-9
                misses[1] += one.high is not None and one.high < gap - 1e-9
                misses[2] += two.low is not None and two.low > ratio + 1e-9
                misses[3] += two.high is not None and two.high < ratio - 1e-9
            for end, number_missed in zip(("low", "high", "ratio low", "ratio high"), misses, strict=True):
                hold(f"{end} end, base {base}", int(number_missed), reps, alpha)


def test_the_plain_range_would_be_shouted() -> None:
    """Twenty equal groups of 200 rows at 20 % differ by ten points by chance; the low end says it means nothing."""
    rng, rows = np.random.default_rng(5), 200
    values, lows = [], []
    for _ in range(50):
        found = difference_of_shares({str(i): (int(rng.binomial(rows, 0.2)), rows) for i in range(20)}, 0.025)
        values.append(found.value)
        lows.append(found.low)
    assert np.mean(values) > 0.08
    assert max(lows) < 0.02


def test_a_gap_of_ten_points_is_found_among_many_groups() -> None:
    rng, found = np.random.default_rng(6), 0
    for _ in range(50):
        rates = [0.3] + [0.2] * 19
        shares = {str(i): (int(rng.binomial(2000, rate)), 2000) for i, rate in enumerate(rates)}
        gap = difference_of_shares(shares, 0.025)
        found += gap.low is not None and gap.low > 0.03
    assert found >= 48


def test_a_gap_of_means_misses_no_more_often_than_alpha() -> None:
    rng, reps, alpha = np.random.default_rng(7), 200, 0.05
    misses = np.zeros(2, dtype=int)
    for _ in range(reps):
        errors = {str(i): rng.exponential(1 + 0.2 * (i == 0), 300) for i in range(6)}
        measures = {name: partial(mean_of_counts, np.sort(each), np.ones(len(each))) for name, each in errors.items()}
        found = difference_of(measures, alpha)
        misses += [found.low > 0.2, found.high < 0.2]
    for end in misses.tolist():
        hold("the gap of means", end, reps, alpha)
