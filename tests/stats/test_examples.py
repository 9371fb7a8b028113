"""The examples in the docstrings of the statistics run and give what they show."""

from __future__ import annotations

import doctest
from types import ModuleType

import pytest

from watchkeeper import testing
from watchkeeper.stats import (
    calibration,
    confusion,
    decomposition,
    detectors,
    distances,
    estimates,
    goodness_of_fit,
    grid,
    scores,
    sequential,
)


@pytest.mark.parametrize(
    "module",
    [
        calibration,
        confusion,
        decomposition,
        detectors,
        distances,
        estimates,
        goodness_of_fit,
        grid,
        scores,
        sequential,
        testing,
    ],
    ids=lambda m: m.__name__,
)
def test_the_examples_run(module: ModuleType) -> None:
    assert doctest.testmod(module).failed == 0
