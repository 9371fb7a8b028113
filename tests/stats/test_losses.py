"""What a mean loss will be: known moments, coverage of the band, and how ways that differ widen it."""

from __future__ import annotations

import numpy as np
import pytest

from watchkeeper.stats import losses
from watchkeeper.stats.errors import Binned

ALPHA = 0.025


def binned(values: np.ndarray) -> Binned:
    return Binned(values, values, np.ones(len(values)))


@pytest.mark.parametrize("power", [1, 2])
def test_moments_are_those_of_numpy(power: int) -> None:
    values = np.random.default_rng(0).normal(size=500)
    mean, variance = losses.moments(binned(values), power)
    assert mean == pytest.approx(np.mean(np.abs(values) ** power), rel=1e-12)
    assert variance == pytest.approx(np.var(np.abs(values) ** power), rel=1e-12)


@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize("scale", [0.5, 1.0, 3.0])
def test_the_band_holds_the_realised_value(power: int, scale: float) -> None:
    rng, held, runs = np.random.default_rng(1), 0, 1000
    for _ in range(runs):
        reference, now = rng.normal(size=2000), scale * rng.normal(size=500)
        seen = float(np.mean(np.abs(reference) ** power))
        found = losses.expected([scale**power * seen], len(now), binned(reference), power, ALPHA)
        realised = float(np.mean(np.abs(now) ** power) ** (1 / power))
        held += (found.low or 0) <= realised <= (found.high or 0)
    assert held / runs >= 0.93


def test_ways_that_differ_widen_the_band_and_are_told() -> None:
    reference = binned(np.linspace(-1, 1, 101))
    one, two = losses.expected([0.5], 1000, reference, 1, ALPHA), losses.expected([0.3, 0.7], 1000, reference, 1, ALPHA)
    assert one.value == two.value == 0.5
    assert "spread" not in one.detail
    assert two.detail["spread"] == pytest.approx(0.4)
    assert two.low is not None
    assert one.low is not None
    assert two.low < 0.15 < one.low


def test_a_reference_without_errors_expects_what_is_guessed() -> None:
    found = losses.expected([2.0], 10, binned(np.zeros(50)), 2, ALPHA)
    assert (found.low, found.value, found.high) == (2**0.5, 2**0.5, 2**0.5)
