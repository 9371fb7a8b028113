"""Rows of several classes whose probabilities are right, laid out for estimates, for the tests of these."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from watchkeeper.stats import classes
from watchkeeper.stats.classes import Matrix
from watchkeeper.stats.errors import Binned
from watchkeeper.stats.estimated_classes import Side, estimate
from watchkeeper.stats.estimates import Estimate
from watchkeeper.stats.grid import Floats, Ints
from watchkeeper.stats.scores import Scores

ALPHA = 0.025
BINS = 100
NAMES = ("bird", "cat", "dog")
MEASURES = (
    classes.accuracy,
    classes.balanced_accuracy,
    classes.macro_precision,
    classes.macro_recall,
    classes.macro_f1,
    classes.weighted_precision,
    classes.weighted_f1,
    classes.kappa,
    classes.mcc,
)


def drawn(n: int, sure: tuple[float, ...], rng: np.random.Generator) -> tuple[Floats, Ints]:
    """Probabilities that are right, and the classes that came of them."""
    said = rng.dirichlet(sure, n)
    return said, (rng.random(n)[:, None] > np.cumsum(said, axis=1)).sum(axis=1).clip(0, 2)


def bins(score: Floats) -> tuple[Floats, Floats, Ints]:
    at = np.minimum((score * BINS).astype(int), BINS - 1)
    lower = np.arange(BINS) / BINS
    return lower, lower + 1 / BINS, at


def seen(score: Floats, is_it: Floats) -> Scores:
    lower, upper, at = bins(score)
    rows, hits = np.bincount(at, minlength=BINS), np.bincount(at, is_it, BINS)
    some = rows > 0
    return Scores(lower[some], upper[some], (rows - hits)[some] * 1.0, hits[some] * 1.0)


def now(score: Floats) -> Binned:
    lower, upper, at = bins(score)
    rows = np.bincount(at, minlength=BINS)
    return Binned(lower[rows > 0], upper[rows > 0], rows[rows > 0] * 1.0)


def matrix(label: Ints, said: Ints) -> Matrix:
    counts = np.zeros((3, 3))
    np.add.at(counts, (label, said), 1)
    return Matrix(NAMES, counts, np.zeros(3))


def sides(before: tuple[Floats, Ints], after: Floats) -> dict[str, tuple[Side, Side]]:
    score, label = before
    said, saying = score.argmax(axis=1), after.argmax(axis=1)
    return {
        name: (
            Side(seen(score[said == i, i], label[said == i] == i), now(after[saying == i, i])),
            Side(seen(score[said != i, i], label[said != i] == i), now(after[saying != i, i])),
        )
        for i, name in enumerate(NAMES)
    }


def predicted(score: Floats) -> dict[str, float]:
    return dict(zip(NAMES, np.bincount(score.argmax(axis=1), minlength=3).astype(float), strict=True))


def of(measure: Callable[[Matrix, float], Estimate], before: tuple[Floats, Ints], after: Floats) -> Estimate:
    reference = matrix(before[1], before[0].argmax(axis=1))
    return estimate(
        lambda m: measure(m, ALPHA).value, reference, predicted(after), sides(before, after), ALPHA, (-1, 1)
    )  # fmt: skip
