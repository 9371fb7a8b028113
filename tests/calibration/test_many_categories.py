"""A column of 20,000 different values: sides drawn alike raise no alarm, and what changed is seen and named."""

from __future__ import annotations

from collections import Counter
from functools import cache

import numpy as np
import pytest
from scipy import stats

from watchkeeper.metrics import drift, find, quality
from watchkeeper.policy import unseen
from watchkeeper.profiles import OTHER_VALUES, Profile, Subject, categorical, hashed

VALUES, ROWS, RUNS = 20_000, 50_000, 60
ALPHA = 0.01


@cache
def shares(exponent: float) -> np.ndarray:
    weights = np.arange(1, VALUES + 1) ** -exponent
    return weights / weights.sum()


def drawn(rng: np.random.Generator, exponent: float, *without: int, rows: int = ROWS) -> dict[str, int]:
    """Rows per value, the value of rank 0 being the most frequent, but for some ranks."""
    chances = shares(exponent).copy()
    chances[[*without]] = 0
    counts = rng.multinomial(rows, chances / chances.sum())
    return {f"zip {i:05}": int(counts[i]) for i in np.flatnonzero(counts)}


def subject(current: Profile, baseline: Profile) -> Subject:
    return Subject(current, baseline, None, 0.5, 1, 1, {}, {})


def alike(rng: np.random.Generator, exponent: float) -> Subject:
    baseline = categorical(drawn(rng, exponent), known=None)
    return subject(categorical(drawn(rng, exponent), known=baseline.words), baseline)


@pytest.mark.parametrize("exponent", [1.0, 0.5, 0.0])
def test_sides_drawn_alike_raise_no_alarm(exponent: float) -> None:
    rng, missed = np.random.default_rng(int(10 * exponent)), Counter[str]()
    for _ in range(RUNS):
        sides = alike(rng, exponent)
        distances = {"psi": drift.psi(sides, ALPHA), "jensen_shannon": drift.jensen_shannon(sides, ALPHA)}
        for name, found in distances.items():
            assert found.value is not None
            assert found.value < 0.1
            missed[name] += (found.low or 0) > 1e-9
        new = quality.new_category(sides, ALPHA)
        missed["new_category"] += (new.low or 0) > unseen(find("new_category"), sides, ALPHA)
    most = stats.binom.ppf(0.9999, RUNS, ALPHA)
    assert max(missed.values()) <= most, missed


@pytest.mark.parametrize(("rows", "now"), [(500, 100_000), (1000, 20_000), (5000, 100_000)])
def test_values_that_a_small_reference_lacks_are_no_drift(rows: int, now: int) -> None:
    rng, missed = np.random.default_rng(rows), Counter[str]()
    for _ in range(RUNS):
        baseline = categorical(drawn(rng, 1.0, *range(1000, VALUES), rows=rows), known=None)
        current = categorical(drawn(rng, 1.0, *range(1000, VALUES), rows=now), known=baseline.words)
        for name in ("psi", "jensen_shannon", "hellinger", "total_variation", "l_infinity", "chi_square"):
            missed[name] += (find(name).compute(subject(current, baseline), ALPHA).low or 0) > 1e-9
    assert max(missed.values()) <= stats.binom.ppf(0.9999, RUNS, ALPHA), missed


def test_a_vanished_value_is_named() -> None:
    rng = np.random.default_rng(4)
    baseline = categorical(drawn(rng, 1.0), known=None)
    current = categorical(drawn(rng, 1.0, 1), known=baseline.words)
    found = drift.l_infinity(subject(current, baseline), ALPHA)
    assert found.detail["category"] == "zip 00001"
    assert (found.low or 0) > 0.03


def test_a_new_frequent_value_is_named_where_its_hash_is_small_and_told_of_otherwise() -> None:
    rng = np.random.default_rng(5)
    baseline = categorical(drawn(rng, 1.0), known=None)
    names = sorted((f"new {i}" for i in range(500)), key=hashed)
    for name in (*names[:5], *names[-5:]):
        counts = {**drawn(rng, 1.0, rows=ROWS - 5000), name: 5000}
        sides = subject(categorical(counts, known=baseline.words), baseline)
        new, moved = quality.new_category(sides, ALPHA), drift.l_infinity(sides, ALPHA)
        assert (moved.low or 0) > 0.04
        if name in names[:5]:
            assert next(iter(new.detail["values"])) == name
            assert moved.detail["category"] == name
            assert (new.low or 0) > 0.09
        else:
            assert moved.detail["category"] == OTHER_VALUES


def test_a_new_frequent_value_of_a_column_of_few_values_is_always_named() -> None:
    baseline = categorical({f"{i}": 100 for i in range(50)}, known=None)
    current = categorical({f"{i}": 100 for i in range(50)} | {"new": 500}, known=baseline.words)
    new = quality.new_category(subject(current, baseline), ALPHA)
    assert new.detail["values"] == {"new": 500}
