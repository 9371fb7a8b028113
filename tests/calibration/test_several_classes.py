"""Every interval of a metric of several classes, or of several labels, misses the truth no more often than it says:
from a hundred rows to a hundred thousand, with a class that is one row in a thousand to one in two."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from misses import hold, missed, seeded
from scored_rows import GRID
from watchkeeper.stats import classes, confusion
from watchkeeper.stats.classes import Matrix
from watchkeeper.stats.confusion import Confusion
from watchkeeper.stats.estimates import Estimate
from watchkeeper.stats.grid import Floats
from watchkeeper.stats.scores import Scores

NAMES = (
    "accuracy", "micro_precision", "micro_f1", "macro_precision", "macro_recall", "macro_f1", "weighted_precision",
    "weighted_f1", "balanced_accuracy", "kappa", "mcc",
)  # fmt: skip
METRICS: dict[str, Callable[[Matrix, float], Estimate]] = {name: getattr(classes, name) for name in NAMES}
ALPHAS = (0.025, 1e-3)
sizes = pytest.mark.parametrize("n", [100, 1000, 100_000])
bases = pytest.mark.parametrize("base", [0.001, 0.05, 0.5])
CLASSIFIERS = {
    "fair": [[0.8, 0.1, 0.08, 0.02], [0.02, 0.9, 0.07, 0.01], [0.001, 0.05, 0.939, 0.01]],
    "sharp": [[0.99, 0.005, 0.005, 0], [0.0005, 0.999, 0.0005, 0], [0, 0.001, 0.999, 0]],
    "poor": [[0.3, 0.3, 0.4, 0], [0.05, 0.5, 0.45, 0], [0.02, 0.28, 0.7, 0]],
}
"""The share of each prediction, last of one outside the classes, by label."""


@bases
@sizes
@pytest.mark.parametrize("classifier", CLASSIFIERS)
def test_a_metric_of_the_matrix_misses_no_more_often_than_alpha(classifier: str, n: int, base: float) -> None:
    """A mean over classes is of those that occur: its truth here is known where all do."""
    share = np.array([base, (1 - base) * 0.3, (1 - base) * 0.7])[:, None] * np.array(CLASSIFIERS[classifier])
    share /= share.sum()
    whole = np.round(share * 10**12)
    truth = {
        name: metric(Matrix(("a", "b", "c"), whole[:, :3], whole[:, 3]), 0.05).value for name, metric in METRICS.items()
    }
    reps, rng = 150, seeded("matrix", classifier, n, base)
    drawn, times = np.unique(rng.multinomial(n, share.ravel(), reps), axis=0, return_counts=True)
    misses = {(name, alpha): np.zeros(2) for name in NAMES for alpha in ALPHAS}
    for row, often in zip(drawn.reshape(-1, 3, 4).astype(float), times, strict=True):
        matrix = Matrix(("a", "b", "c"), row[:, :3], row[:, 3])
        for name in NAMES:
            if matrix.support.all() or not name.startswith(("macro", "balanced")):
                for alpha in ALPHAS:
                    misses[name, alpha] += often * np.array(missed(METRICS[name](matrix, alpha), truth[name] or 0.0))
    for (name, alpha), ends in misses.items():
        for end, number in zip(("low", "high"), ends, strict=True):
            hold(f"{name}, {end} end", int(number), reps, alpha)


COSTS = np.array([[0.0, 10.0, 120.0, 50.0], [5.0, 0.0, 20.0, 5.0], [5.0, 1.0, 0.0, 5.0]])


@bases
@sizes
@pytest.mark.parametrize("classifier", CLASSIFIERS)
def test_the_cost_of_decisions_misses_no_more_often_than_alpha(classifier: str, n: int, base: float) -> None:
    share = np.array([base, (1 - base) * 0.3, (1 - base) * 0.7])[:, None] * np.array(CLASSIFIERS[classifier])
    share /= share.sum()
    reps = 400
    drawn = seeded("costs", classifier, n, base).multinomial(n, share.ravel(), reps).reshape(-1, 3, 4).astype(float)
    for gain in (0.0, 20.0):  # what a right prediction brings
        costs = COSTS - gain * np.eye(3, 4)
        truth = float((share * costs).sum())
        for alpha in ALPHAS:
            found = [
                classes.decision_cost(Matrix(("a", "b", "c"), row[:, :3], row[:, 3]), costs, alpha) for row in drawn
            ]
            for end, number in zip(("low", "high"), np.sum([missed(e, truth) for e in found], axis=0), strict=True):
                hold(f"gain {gain}, {end} end", int(number), reps, alpha)


def test_means_over_twenty_classes_hold() -> None:
    share = np.full((20, 20), 0.2 / 19) + np.diag(np.full(20, 0.8 - 0.2 / 19))
    share = share * np.geomspace(1, 50, 20)[:, None]
    share /= share.sum()
    reps, none, names = 150, np.zeros(20), tuple(map(str, range(20)))
    whole = Matrix(names, np.round(share * 10**12), none)
    for n in (1000, 20_000):
        every = [
            Matrix(names, row.reshape(20, 20).astype(float), none)
            for row in seeded("twenty", n).multinomial(n, share.ravel(), reps)
        ]
        for name, metric in METRICS.items():
            truth = metric(whole, 0.05).value or 0.0
            kept = [matrix for matrix in every if matrix.support.all()]
            for alpha in ALPHAS:
                ends = np.sum([missed(metric(matrix, alpha), truth) for matrix in kept], axis=0)
                for end, number in zip(("low", "high"), ends, strict=True):
                    hold(f"{name} of {n} rows, {end} end", int(number), reps, alpha)


def drawn_scores(base: float) -> tuple[Floats, Floats]:
    """Kinds of rows, each with its scores of three classes, and how frequent they are: the scores are probabilities."""
    rng = np.random.default_rng(11)
    prior = np.array([base, (1 - base) * 0.3, (1 - base) * 0.7])
    said = np.concatenate([rng.dirichlet(prior * strength, 60) for strength in (0.5, 2.0, 20.0)])
    said = (np.minimum(np.floor(said * 1000), 999) + 0.5) / 1000
    return said / said.sum(axis=1, keepdims=True), np.full(180, 1 / 180)


def each_class(said: Floats, counts: Floats) -> dict[str, Scores]:
    """The score-by-label counts of every class, from rows by kind and label."""
    out = {}
    for k in range(3):
        bins, at = np.unique(GRID.bins(said[:, k]), return_inverse=True)
        sides = (np.bincount(at, rows, len(bins)) for rows in (counts.sum(axis=1) - counts[:, k], counts[:, k]))
        out[str(k)] = Scores(*GRID.edges(bins), *sides)
    return out


@bases
@sizes
def test_a_metric_of_the_scores_misses_no_more_often_than_alpha(n: int, base: float) -> None:
    said, share = drawn_scores(base)
    joint = share[:, None] * said
    whole = each_class(said, joint * 1e9)
    middles = (np.minimum(np.floor(said * 1000), 999) + 0.5) / 1000
    truth = {
        "macro_auc": classes.macro_auc(whole, 0.05).value,
        "weighted_auc": classes.weighted_auc(whole, 0.05).value,
        "log_loss": float(-(joint * np.log(middles)).sum()),
        "brier": float((joint[:, :, None] * (np.eye(3)[None] - middles[:, None, :]) ** 2).sum()),
    }
    reps, rng = 100, seeded("scores of classes", n, base)
    every = [
        each_class(said, row.reshape(-1, 3) * 1.0) for row in rng.multinomial(n, joint.ravel() / joint.sum(), reps)
    ]
    for name, value in truth.items():
        for alpha in ALPHAS:
            ends = np.sum([missed(getattr(classes, name)(each, alpha), value or 0.0) for each in every], axis=0)
            for end, number in zip(("low", "high"), ends, strict=True):
                hold(f"{name}, {end} end", int(number), reps, alpha)


@bases
@sizes
def test_classwise_calibration_is_not_called_worse_than_it_is(n: int, base: float) -> None:
    """The gaps of one class may cancel within its ten bins, so that only the low end has a known truth."""
    said, share = drawn_scores(base)
    joint = share[:, None] * said
    middles = (np.minimum(np.floor(said * 1000), 999) + 0.5) / 1000
    truth = float((share[:, None] * np.abs(said - middles)).sum() / 3)
    reps, rng = 100, seeded("calibration of classes", n, base)
    for alpha in ALPHAS:
        every = rng.multinomial(n, joint.ravel() / joint.sum(), reps)
        misses = [
            missed(classes.classwise_calibration_error(each_class(said, row.reshape(-1, 3) * 1.0), alpha), truth)[0]
            for row in every
        ]
        hold("classwise_calibration_error, low end", sum(misses), reps, alpha)


@bases
@sizes
def test_a_metric_of_several_labels_misses_no_more_often_than_alpha(n: int, base: float) -> None:
    """Labels that all come from one cause, so that they move together."""
    kinds = np.array([(cause, *wrong) for cause in (0, 1) for wrong in np.ndindex(2, 2, 2)])
    label = np.stack([kinds[:, 0], kinds[:, 0], 1 - kinds[:, 0]], axis=1)
    said = label ^ kinds[:, 1:]
    rate = np.array([0.1, 0.2, 0.3])
    share = np.where(kinds[:, 0] == 1, base, 1 - base) * np.where(kinds[:, 1:] == 1, rate, 1 - rate).prod(axis=1)

    def counted(rows: Floats) -> list[Confusion]:
        cells = (label & said, (1 - label) & said, label & (1 - said), (1 - label) & (1 - said))
        return [Confusion(*(int(rows @ cell[:, k]) for cell in cells)) for k in range(3)]

    whole = counted(np.round(share * 10**12))
    measures = (confusion.precision, confusion.recall, confusion.f1)
    averages = (classes.label_macro, classes.label_weighted, classes.label_micro)
    reps = 150
    every = [counted(row) for row in seeded("labels", n, base).multinomial(n, share, reps)]
    for alpha in ALPHAS:
        for average in averages:
            for measure in measures:
                truth = average(measure, whole, 0.05).value or 0.0
                ends = np.sum([missed(average(measure, each, alpha), truth) for each in every], axis=0)
                for end, number in zip(("low", "high"), ends, strict=True):
                    hold(f"{average.__name__} {measure.__name__}, {end} end", int(number), reps, alpha)
        truth = classes.hamming_loss(whole, 0.05).value or 0.0
        ends = np.sum([missed(classes.hamming_loss(each, alpha), truth) for each in every], axis=0)
        for end, number in zip(("low", "high"), ends, strict=True):
            hold(f"hamming_loss, {end} end", int(number), reps, alpha)
