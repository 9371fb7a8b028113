"""Repeats: counted by hand, and few false alarms whatever the sizes."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from scipy.stats import binom

from watchkeeper.stats.copies import SPREAD, Copies, more_repeats, repeats
from watchkeeper.stats.grid import Ints


def of(values: Ints) -> Copies:
    return Copies(dict(Counter(Counter(values.tolist()).values())))


def test_repeats_are_the_rows_that_an_earlier_one_equals() -> None:
    copies = Copies({1: 6, 2: 2, 3: 1})
    assert (copies.seen, copies.repeats, copies.rows) == (13, 4, 13)
    assert repeats(copies, 0.025).value == pytest.approx(4 / 13)
    assert Copies({1: 6}, part=0.5).rows == 12


def test_a_bunch_of_poisson_copies_spreads_no_more_than_is_said() -> None:
    for mean in np.linspace(0.05, 12, 60):
        k = np.arange(80)
        chance = np.exp(k * np.log(mean) - mean - np.cumsum(np.log(np.maximum(k, 1))))
        extra = np.maximum(k - 1, 0)
        average = chance @ extra
        assert (chance @ extra**2 - average**2) / average <= SPREAD


@pytest.mark.parametrize("values", [3, 100, 10_000, 1_000_000, 100_000_000])
@pytest.mark.parametrize(("rows", "reference_rows"), [(500, 500), (500, 5000), (5000, 500), (20_000, 500)])
def test_chance_alone_raises_few_alarms(values: int, rows: int, reference_rows: int) -> None:
    random, alpha, runs = np.random.default_rng(values + rows), 0.01, 60
    skewed = [
        np.minimum(random.pareto(1.0, (runs, n)) * values / 50, values).astype(np.int64) for n in (rows, reference_rows)
    ]
    even = [random.integers(0, values, (runs, n)) for n in (rows, reference_rows)]
    for now, before in (skewed, even):
        alarms = sum((more_repeats(of(a), of(b), alpha).low or 0) > 0 for a, b in zip(now, before, strict=True))
        assert alarms <= binom.ppf(0.9999, runs, alpha)


@pytest.mark.parametrize(("rows", "reference_rows"), [(500, 10_000), (10_000, 10_000), (100_000, 10_000)])
def test_one_row_in_twenty_that_is_sent_twice_is_found(rows: int, reference_rows: int) -> None:
    before, now = Copies({1: reference_rows}), Copies({1: int(rows * 0.9), 2: int(rows * 0.05)})
    assert (more_repeats(now, before, 1e-4).low or 0) > 0.01


def test_repeats_that_the_reference_has_too_are_normal() -> None:
    before, now = Copies({1: 8000, 2: 1000}), Copies({1: 400, 2: 50})
    assert (more_repeats(now, before, 1e-3).low or 0) <= 0
