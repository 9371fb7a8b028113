"""Performance without labels where the inputs have moved: what rows with such features, scored so, came to before.

The scores alone (`stats.estimation`) are enough while rows with the same score are as often positive as in the
reference. Where the mix of inputs moves that fails, for a score that is right on average may be too high for one kind
of row and too low for another. Two ways learn from a labelled reference's rows what the score does not say:

- `FeatureAware`: trees correct the calibrated score by the features. Fitted once, on out-of-fold rows.
- reweighting: the calibration is fitted anew to the reference's rows, weighted to look like the rows at hand (after
  PAPE; Bialek and others). A domain classifier is fitted to each batch.

`ErrorModel` is the same for regression: trees learn how large an error to expect. All see that inputs have moved, and
none that what makes a row positive has changed: only labels show that (`stats.estimation.prediction_powered`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import isotonic_regression
from scipy.special import expit, logit, ndtri
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from threadpoolctl import threadpool_limits

from watchkeeper.stats import estimation
from watchkeeper.stats.estimates import Estimate
from watchkeeper.stats.estimation import Value, Way
from watchkeeper.stats.grid import Floats
from watchkeeper.stats.scores import Scores

FOLDS, THIRDS = 5, 3
BINS = 1000
SURE = 0.001
"""No calibrated score is taken closer to 0 or 1 than this when it is corrected."""
MOST_ODDS = 20.0
"""Rows of the reference weigh at most so much: a few must not speak for all."""
EFFECTIVE = 0.3
"""Share of the reference that must effectively be left once it is weighted, or the weights are not trusted."""
COMPARED = 20_000
"""Rows of the reference that a domain classifier is fitted to, at most."""


@dataclass(frozen=True)
class Rows:
    """Labelled rows of a binary classifier: features (rows, columns) as numbers, categories as codes and NaN where
    missing, scores and labels (rows,). `categorical` are the places of columns that hold codes."""

    features: Floats
    scores: Floats
    labels: Floats
    categorical: tuple[int, ...] = ()


class FeatureAware:
    """The share of positives by features and score: trees that correct the log odds of the calibrated score.

    One Newton step from the isotonic calibration by gradient boosting, stopped early on rows held out, so that where
    the features say nothing more it stays what it was. Trees of four leaves, since larger ones go further astray on
    rows unlike the reference. `fitted` are the out-of-fold shares of the reference's own rows.
    """

    def __init__(self, reference: Rows) -> None:
        folds = np.random.default_rng(0).permutation(len(reference.labels)) % FOLDS
        self.fitted, self._parts = np.zeros(len(folds)), []
        with threadpool_limits(limits=1):
            for fold in range(FOLDS):
                rest, out = folds != fold, folds == fold
                at, share = _isotonic(reference.scores[rest], reference.labels[rest], np.ones(rest.sum()))
                trees = HistGradientBoostingRegressor(
                    learning_rate=0.05, max_iter=400, max_leaf_nodes=4, min_samples_leaf=200, l2_regularization=5.0,
                    categorical_features=list(reference.categorical), early_stopping=True, validation_fraction=0.15,
                    random_state=0,
                )  # fmt: skip
                said = _sure(np.interp(reference.scores[rest], at, share))
                noise = said * (1 - said)
                trees.fit(
                    np.column_stack([reference.features[rest], logit(said)]),
                    (reference.labels[rest] - said) / noise,
                    sample_weight=noise,
                )
                self._parts.append((at, share, trees))
                self.fitted[out] = self._shares(fold, reference.features[out], reference.scores[out])

    def shares(self, features: Floats, scores: Floats) -> Floats:
        """The share of positives among rows like each of these, shape (rows,): the mean over the folds."""
        with threadpool_limits(limits=1):
            found: Floats = np.mean([self._shares(fold, features, scores) for fold in range(FOLDS)], axis=0)
        return found

    def _shares(self, fold: int, features: Floats, scores: Floats) -> Floats:
        at, share, trees = self._parts[fold]
        odds = logit(_sure(np.interp(scores, at, share)))
        found: Floats = expit(odds + trees.predict(np.column_stack([features, odds])))
        return found


def weights(reference: Rows, features: Floats) -> Floats:
    """How much more often rows like each of the reference's occur among others, shape (reference rows,): the odds of a
    domain classifier, at most `MOST_ODDS`."""
    chosen = np.random.default_rng(0).permutation(len(reference.labels))[:COMPARED]
    both = np.concatenate([reference.features[chosen], features])
    side = np.repeat([0, 1], [len(chosen), len(features)])
    with threadpool_limits(limits=1):
        trees = HistGradientBoostingClassifier(
            learning_rate=0.1, max_iter=40, max_leaf_nodes=15, min_samples_leaf=50, l2_regularization=5.0,
            categorical_features=list(reference.categorical), early_stopping=False, random_state=0,
        ).fit(both, side)  # fmt: skip
        chance = trees.predict_proba(reference.features)[:, 1]
    found: Floats = len(chosen) / len(features) * chance / np.maximum(1 - chance, 1 / MOST_ODDS)
    return found


def effective(weight: Floats) -> float:
    """The share of rows that weighted rows are worth (Kish 1965): small where most rows are unlike those they stand
    for, so that nothing is known of them."""
    return float(weight.sum() ** 2 / (weight**2).sum() / len(weight))


def reweighted(reference: Rows, weight: Floats, scores: Floats) -> Floats:
    """The share of positives by score alone, as in the reference once its rows are weighted, shape (scores,)."""
    at, share = _isotonic(reference.scores, reference.labels, weight)
    found: Floats = np.interp(scores, at, share)
    return found


def ways(reference: Rows, model: FeatureAware, features: Floats, scores: Floats) -> list[Way]:
    """What is expected of rows by the calibration that heeds features; and by that of the reference weighted to look
    like them, where the weights leave an `EFFECTIVE` share of it.

    Args:
        model: fitted to the reference.
        features, scores: of the rows, as of `Rows`.
    """
    by_features = Way(
        counts(scores, model.shares(features, scores)),
        counts(reference.scores, reference.labels),
        counts(reference.scores, model.fitted),
    )
    weight = weights(reference, features)
    if effective(weight) < EFFECTIVE:
        return [by_features]
    now, fitted = (reweighted(reference, weight, part) for part in (scores, reference.scores))
    seen = counts(reference.scores, reference.labels, weight)
    return [by_features, Way(counts(scores, now), seen, counts(reference.scores, fitted, weight))]


def estimate(
    value: Value, reference: Rows, found: Sequence[Way], scores: Floats, threshold: float, alpha: float,
    within: tuple[float, float] = (-np.inf, np.inf),
) -> Estimate:  # fmt: skip
    """What a metric will be of rows of which features and scores are known; see `stats.estimation.estimate`.

    Args:
        found: the `ways` of these rows; the estimate is their mean.
    """
    seen = counts(reference.scores, reference.labels)
    rows = counts(scores, np.zeros(len(scores)))
    return estimation.estimate(value, seen, rows.lower, rows.upper, rows.negatives, threshold, alpha, within, found)


def counts(scores: Floats, shares: Floats, weight: Floats | None = None) -> Scores:
    """Expected counts by label over thousandths of the score, those that hold rows.

    Args:
        scores, shares: each row's score and its chance of being positive, shape (rows,).
    """
    bins = np.clip(np.floor(scores * BINS + 1e-9), 0, BINS - 1).astype(np.int64)
    weight = np.ones(len(scores)) if weight is None else weight
    rows, positives = (np.bincount(bins, part, BINS) for part in (weight, weight * shares))
    held = np.flatnonzero(np.bincount(bins, minlength=BINS))
    lower = held / BINS
    return Scores(
        lower, (held + 1) / BINS, np.maximum(rows - positives, 0.0)[held].astype(float), positives[held].astype(float)
    )


class ErrorModel:
    """How large a regression's errors are by features and prediction (loss-based estimation, after NannyML's DLE).

    `fitted` are the absolute and the squared errors expected of the reference's own rows, out of fold, shape (2, rows).

    Args:
        features: shape (rows, columns), as of `Rows`, the prediction among them.
        errors: prediction less label of the reference's rows, shape (rows,).
    """

    def __init__(self, features: Floats, errors: Floats, categorical: Sequence[int] = ()) -> None:
        folds = np.random.default_rng(0).permutation(len(errors)) % THIRDS
        self._losses = np.stack([np.abs(errors), errors**2])
        self.fitted, self._parts = np.zeros(self._losses.shape), []
        with threadpool_limits(limits=1):
            for fold in range(THIRDS):
                rest, out = folds != fold, folds == fold
                trees = [
                    HistGradientBoostingRegressor(
                        learning_rate=0.1, max_iter=200, categorical_features=list(categorical), early_stopping=False,
                        random_state=0,
                    ).fit(features[rest], loss[rest])
                    for loss in self._losses
                ]  # fmt: skip
                self._parts.append(trees)
                self.fitted[:, out] = [tree.predict(features[out]) for tree in trees]

    def estimate(self, features: Floats, alpha: float) -> tuple[Estimate, Estimate]:
        """What the mean absolute and the root mean squared error will be of rows of which only features and prediction
        are known, with the bands that they will lie in.

        The mean of what the trees expect, less what they were off by on the reference's rows, out of fold. The band
        allows for the labels to come and for the reference's size by the spread of the losses about what was expected,
        which is taken to grow as the losses do, and for what the trees of the three parts differ by.
        """
        guessed, found, n, before = self._by_part(features).mean(axis=2), [], len(features), self._losses.shape[1]
        for i, losses in enumerate(self._losses):
            off = losses - self.fitted[i]
            each = np.maximum(guessed[:, i] + off.mean(), 0.0)
            mean = float(each.mean())
            scale = max(mean / float(losses.mean()), 1e-12) if losses.any() else 1.0
            noise = float(off.var()) * (max(scale, 1.0) ** 2 / before + scale**2 / n) + float(np.ptp(each)) ** 2 / 4
            reach = -float(ndtri(alpha)) * noise**0.5
            ends = max(mean - reach, 0.0), mean, mean + reach
            low, value, high = (end**0.5 if i else end for end in ends)
            found.append(Estimate(value, low, high, n, before))
        return found[0], found[1]

    def expected(self, features: Floats) -> Floats:
        """The absolute and the squared error that is expected of each row, shape (2, rows); some may be below zero."""
        found: Floats = self._by_part(features).mean(axis=0)
        return found

    def _by_part(self, features: Floats) -> Floats:
        """What the trees of each part expect, shape (parts, 2, rows)."""
        with threadpool_limits(limits=1):
            return np.array([[tree.predict(features) for tree in trees] for trees in self._parts])


def _isotonic(scores: Floats, labels: Floats, weight: Floats) -> tuple[Floats, Floats]:
    at, where = np.unique(scores, return_inverse=True)
    rows = np.bincount(where, weight)
    return at, isotonic_regression(np.bincount(where, weight * labels) / rows, weights=rows).x


def _sure(share: Floats) -> Floats:
    return np.clip(share, SURE, 1 - SURE)
