"""Rows with a score and a label, and their counts."""

from __future__ import annotations

import numpy as np

from watchkeeper.stats.grid import Floats, Grid
from watchkeeper.stats.scores import Scores

GRID = Grid.unit()
EMPTY = Scores(*(np.zeros(0) for _ in range(4)))


def scores_of(said: Floats, labels: Floats) -> Scores:
    bins = GRID.bins(said)
    union = np.unique(bins)
    at = np.searchsorted(union, bins)
    lower, upper = GRID.edges(union)
    sides = (np.bincount(at[labels == label], minlength=len(union)).astype(float) for label in (0, 1))
    return Scores(lower, upper, *sides)


def sample(n: int, seed: int, sharp: float = 1.0) -> tuple[Floats, Floats]:
    """Scores of a calibrated model, the nearer to 0 and 1 the smaller `sharp` is, and labels."""
    rng = np.random.default_rng(seed)
    said = rng.beta(sharp, sharp, n)
    return said, (rng.random(n) < said).astype(float)
