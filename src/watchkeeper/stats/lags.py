"""Labels that come late: which share of them is known at which age, and what the known ones say of all.

A label's lag is the whole number of grains from its prediction's grain to the grain in which it became known. The
counts by grain and lag are a run-off triangle: of the newest grains only short lags have been seen.

The share of a label that is known by an age is the product limit of its reverse hazards (Kalbfleisch and Lawless 1989,
"Inference based on retrospective ascertainment"; the chain ladder of insurers, Mack 1993), which uses the mature
grains and what is known of the others: `F(a) = prod over u > a of (1 - q(u))`, where `q(u)` is the share of lag `u`
among the labels of lag `u` at most, in the grains of which lag `u` has been seen. Nothing later than the lag at which
labels count as mature is counted, so `F` is 1 there.

A label that is known at age `a` then stands for `1 / F(a)` labels: inverse probability of censoring weighting (Robins
and Rotnitzky 1992; of delayed clicks, Chapelle 2014 and Ktena et al. 2019). It is right where the chance to be known by
an age depends on the label and on the band alone, and stays as it was. The band tells apart

- of a binary model scores, by their log odds (`bands`);
- of one of several classes those that were predicted right and those that were not, of each class;
- of a regression the errors, by their sign and size (`bands_of_errors`). `F(a)` is then the share of the errors of a
  band that are known by the age `a`, so `n / F(a)` are all, whatever the delay depends on: the label, the prediction or
  both, so long as those of a band are mixed as they were. Bands of the label, which would not need that, ask for counts
  of the errors by label, which are not kept; those of the prediction ask for the same.

Neighbouring bands are taken together until each part holds `FEW` labels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from watchkeeper.stats.estimates import Estimate
from watchkeeper.stats.grid import Floats, Grid, Ints
from watchkeeper.stats.scores import Scores

BANDS, MIDDLE = 20, 10
"""Bands of scores, each a factor of two in the odds; `MIDDLE` is the one that begins at even odds."""
NEAREST = 0.0005
"""Scores are taken this far from 0 and 1 when they are put into bands."""
LAGS = 2048
"""Lags that are told apart; the last one stands for all from there on."""
GRID = Grid((0.0, float(BANDS * LAGS)), BANDS * LAGS, 1.0, ())
"""The grid of the column that holds band and lag as one number, `band * LAGS + lag`."""
FEW = 40
"""Labels that a part of the scores holds at least to get a share of its own."""
LEAST = 0.05
"""The share of a label that must be known by an age for the known ones to speak for all."""
PASSED_OVER = 0.01
"""The part of a label that may lie in scores of which less than `LEAST` is known."""
CELLS = 4
"""Parts of the scores on each side of the threshold over which a metric is linearised."""
STEP = 1e-3
"""The part of a label by which its counts are moved to see what that does to a metric."""


def bands(scores: Floats) -> Ints:
    """The band of each score: the whole part of the binary logarithm of its odds, from `MIDDLE` on.

    >>> bands(np.array([0.0, 0.4, 0.5, 0.67, 1.0])).tolist()
    [0, 9, 10, 11, 19]
    """
    inside = np.clip(scores, NEAREST, 1 - NEAREST)
    found: Ints = np.clip(np.floor(np.log2(inside / (1 - inside))) + MIDDLE, 0, BANDS - 1).astype(np.int64)
    return found


def bands_of_errors(errors: Floats, scale: float) -> Ints:
    """The band of each error: its sign, and its size in factors of two of `scale`, from large negative ones on.

    >>> bands_of_errors(np.array([-9.0, -1.0, -0.001, 0.0, 0.3, 1.0, 9.0]), 1.0).tolist()
    [0, 1, 9, 10, 16, 18, 19]
    """
    size = np.log2(np.maximum(np.abs(errors) / scale, 2.0 ** (-MIDDLE)))
    steps = np.clip(np.floor(size) + MIDDLE - 2, 0, MIDDLE - 1).astype(np.int64)
    found: Ints = np.where(errors < 0, MIDDLE - 1 - steps, MIDDLE + steps)
    return found


@dataclass(frozen=True)
class Known:
    """Which share of one label is known by each age, in grains, by the part of the bands.

    Attributes:
        part: of each band, the part of the scores it belongs to, shape (BANDS,).
        share: shape (parts, lags), 1 at the last.
        variance: of the logarithm of each factor `1 - q(u)`, shape (parts, lags).
        mass: the share of the labels that each part holds once all are known, shape (parts,).
        dispersion: how many times more the lags vary from grain to grain than chance has it; 1 at least.
        labels: how many there are in the mature grains.
    """

    part: Ints
    share: Floats
    variance: Floats
    mass: Floats
    dispersion: float
    labels: float

    def by(self, age: float) -> Floats:
        """The share known by an age, linear between whole ones, shape (parts,)."""
        whole = min(int(age), self.share.shape[1] - 1)
        after = min(whole + 1, self.share.shape[1] - 1)
        shares: Floats = self.share[:, whole] + (age - whole) * (self.share[:, after] - self.share[:, whole])
        return shares


def known_by(counts: Floats, seen: Ints) -> Known | None:
    """The shares that a run-off triangle gives.

    Args:
        counts: labels by grain, band and lag up to the one at which they count as mature, shape (grains, BANDS, lags).
        seen: the largest lag that has been seen of each grain, shape (grains,).

    None where no grain is mature, or no mature one holds a label.

    >>> triangle = np.zeros((3, BANDS, 3))
    >>> triangle[:, 0] = [[10, 30, 60], [20, 60, 0], [40, 0, 0]]
    >>> known_by(triangle, np.array([2, 1, 0])).share.tolist()
    [[0.1, 0.4, 1.0]]
    """
    lags = counts.shape[2]
    there = np.arange(lags) <= seen[:, None]
    counts = counts * there[:, None, :]
    of_band = counts.sum(axis=(0, 2))
    if not (seen >= lags - 1).any() or not counts[seen >= lags - 1].sum():
        return None
    part = _parts(counts[seen >= lags - 1].sum(axis=(0, 2)))
    number = int(part[-1]) + 1
    together = np.zeros((len(counts), number, lags))
    for band in np.flatnonzero(of_band):
        together[:, part[band]] += counts[:, band]
    running = np.cumsum(together, axis=2) * there[:, None, :]
    came, among = together.sum(axis=0), running.sum(axis=0)
    hazard = np.divide(came, among, out=np.zeros_like(came), where=among > 0)
    hazard[:, 0] = 0.0
    left = np.clip(1 - hazard, 0.0, 1.0)
    share = np.cumprod(np.concatenate([left[:, 1:], np.ones((number, 1))], axis=1)[:, ::-1], axis=1)[:, ::-1]
    odds = np.divide(hazard, left * among, out=np.zeros_like(hazard), where=(left > 0) & (among > 0))
    dispersion = _dispersion(together, running, hazard)
    weights = np.stack([share[:, min(int(age), lags - 1)] for age in seen])
    whole = np.divide(together.sum(axis=2), weights, out=np.zeros_like(weights), where=weights > LEAST).sum(axis=0)
    mature = float(counts[seen >= lags - 1].sum())
    return Known(part, share, odds * dispersion, whole / whole.sum(), dispersion, mature)


def _parts(labels: Floats) -> Ints:
    """The part of each band: neighbours together, from the lowest on, until each holds `FEW` labels."""
    part, number, held = np.zeros(BANDS, dtype=np.int64), 0, 0.0
    for band, count in enumerate(labels):
        if held >= FEW and labels[band:].sum() >= FEW:
            number, held = number + 1, 0.0
        part[band] = number
        held += count
    return part


def _dispersion(came: Floats, running: Floats, hazard: Floats) -> float:
    """Pearson's statistic over its degrees of freedom, of the lags of each grain given how many came until then."""
    expected = running * hazard
    varied = expected * (1 - hazard)
    enough = varied >= 1
    free = int(enough.sum()) - int(enough.any(axis=0).sum())
    if free < 10:
        return 1.0
    return max(1.0, float(((came - expected) ** 2 / np.where(enough, varied, 1.0))[enough].sum()) / free)


@dataclass(frozen=True)
class Side:
    """The counts of one label over bins of scores, in a window some of whose labels are not known yet.

    Attributes:
        known: labels that are known, shape (bins,).
        counts: what they stand for, shape (bins,).
        rows: the counts that variances are taken from: with one known label more, anywhere, and where fewer are known
            in a part of the scores than are to be expected, with those, so that not knowing any is no certainty.
        thinned: the variance that knowing only some labels adds, shape (bins,).
        shared: by part and lag, what the counts move by for one standard deviation of the factor there, shape
            (parts * lags, bins).
    """

    known: Floats
    counts: Floats
    rows: Floats
    thinned: Floats
    shared: Floats


def side(known: Known, band: Ints, found: Floats, ages: Sequence[float], whole: Floats) -> Side | None:
    """What the known labels of one kind say of all of that kind.

    Args:
        band: that each bin lies in, shape (bins,).
        found: labels that are known by grain and bin, shape (grains, bins).
        ages: of the grains, in grains.
        whole: all rows, labelled or not, shape (grains, bins).

    None where so little is known that nothing can be said.
    """
    part = known.part[band]
    number = len(known.mass)
    shares = np.stack([known.by(age) for age in ages])  # (grains, parts)
    heavy = whole.sum(axis=1) / max(whole.sum(), 1)
    mean_share = heavy @ shares
    if known.mass[mean_share < LEAST].sum() > PASSED_OVER:
        return None
    at = shares[:, part]
    weight = np.divide(1.0, at, out=np.zeros_like(at), where=at > LEAST / 2)
    counts = (found * weight).sum(axis=0)
    thinned = (found * weight * np.maximum(weight - 1, 0)).sum(axis=0) * known.dispersion
    rows, every = counts.copy(), whole.sum(axis=0)
    total = float(found.sum()) / float(known.mass @ mean_share)
    for i in range(number):
        here = part == i
        own, wanted = float(counts[here].sum()), total * float(known.mass[i])
        if own >= wanted or mean_share[i] < LEAST or not every[here].sum():
            continue
        shape = counts[here] / own if own else every[here] / every[here].sum()
        extra = (wanted - own) * shape
        rows[here] += extra
        thinned[here] += extra * (1 / mean_share[i] - 1) * known.dispersion
    for_one = 1 / float(known.mass @ mean_share)
    anywhere = every / every.sum() * for_one
    rows, thinned = rows + anywhere, thinned + anywhere * (for_one - 1) * known.dispersion
    lags = known.share.shape[1]
    before = np.asarray(ages, dtype=float)[:, None] < np.arange(lags)  # (grains, lags): factors that the weight holds
    moved = before.T.astype(float) @ (found * weight)  # (lags, bins)
    shared = [np.sqrt(known.variance[i])[:, None] * moved * (part == i) for i in range(number)]
    stacked = np.concatenate(shared)
    return Side(found.sum(axis=0), counts, rows, thinned, stacked[stacked.any(axis=1)])


@dataclass(frozen=True)
class Correction:
    """Score-by-label counts of a window some of whose labels are not known yet, corrected for those.

    Attributes:
        plain: the counts of the known labels.
        negatives, positives: what is known of each label; None where it is not counted by itself, but is what remains
            of all rows (labels by timeout). One of both is there.
        whole: all rows, shape (bins,).
        threshold: the score from which on a prediction is positive; both sides of it are told apart.
    """

    plain: Scores
    negatives: Side | None
    positives: Side | None
    whole: Floats
    threshold: float

    @cached_property
    def scores(self) -> Scores:
        """The counts once all labels are known, as far as can be said now."""
        if self.positives is None or self.negatives is None:
            one = self.positives or self.negatives
            assert one is not None
            counts = self._within(one.counts)
            both = (self.whole - counts, counts) if one is self.positives else (counts, self.whole - counts)
        else:
            both = self.negatives.counts, self.positives.counts
        return replace(self.plain, negatives=both[0], positives=both[1])

    @cached_property
    def above(self) -> NDArray[np.bool_]:
        """Which bins are predicted positive."""
        return self.plain.lower >= self.threshold - 1e-9

    def _within(self, counts: Floats) -> Floats:
        """Counts of which no bin holds more than there are rows: what is too much goes to the other bins on the same
        side of the threshold."""
        kept = np.minimum(counts, self.whole)
        for here in (self.above, ~self.above):
            excess, room = (counts - kept)[here].sum(), (self.whole - kept)[here]
            if excess > 0 and room.sum() > 0:
                kept[here] += room * min(1.0, excess / room.sum())
        return kept

    @property
    def complete(self) -> float:
        """The share of the labels that will be there that are known."""
        sides = [one for one in (self.negatives, self.positives) if one is not None]
        return float(sum(one.known.sum() for one in sides)) / max(float(sum(one.counts.sum() for one in sides)), 1e-9)

    @property
    def coverage(self) -> float:
        """The share of all rows that will have a label."""
        return min(self.scores.total / max(float(self.whole.sum()), 1e-9), 1.0)


def corrected(metric: Callable[[Scores], Estimate], correction: Correction, alpha: float) -> Estimate:
    """A metric of corrected counts, with an interval that allows for what is not known yet.

    Args:
        metric: any function of score-by-label counts, with the interval that it has of rows whose labels are all known.
        alpha: the error of that interval on each side.

    Its variance is found by linearisation over parts of the scores: that of the rows themselves, that of the weights,
    and that of the shares they come from. The ratio of all to the first is the design effect (Kish 1965); the metric's
    own interval is taken at that many times fewer rows. Where one label is what the other leaves of all rows, the
    interval reaches as far as moving the counts of the other by what they may be wrong moves the value. Absent where
    the metric is.
    """
    scores = correction.scores
    here = metric(scores)
    if here.value is None:
        return Estimate.absent(correction.plain.n)
    sides = correction.negatives, correction.positives
    rows = [
        own.rows if own is not None else counts + correction.whole / correction.whole.sum()
        for own, counts in zip(sides, (scores.negatives, scores.positives), strict=True)
    ]
    slopes = _slopes(metric, replace(scores, negatives=rows[0], positives=rows[1]), correction.above)
    plain = sum(float(slope**2 @ count) for slope, count in zip(slopes, rows, strict=True))
    added, reached = 0.0, [here.value]
    for label, (own, other) in enumerate(zip(sides, reversed(sides), strict=True)):
        if own is not None:
            slope = slopes[label] if other is not None else slopes[label] - slopes[1 - label]
            variance = float(slope**2 @ own.thinned) + float(((own.shared @ slope) ** 2).sum())
            added += variance
            if other is None and (thinned := float(slope**2 @ own.thinned)):
                steepest = slope * own.thinned / thinned
                reached += _reached(metric, correction, own, steepest * -float(ndtri(alpha)) * variance**0.5)
    if plain <= 0 < added:
        return Estimate(here.value, None, None, correction.plain.n)
    effect = 1 + added / plain if plain else 1.0
    fewer = replace(scores, negatives=scores.negatives / effect, positives=scores.positives / effect)
    found = metric(fewer)
    low, high = (None if end is None else pick(end, *reached) for end, pick in ((found.low, min), (found.high, max)))
    return Estimate(here.value, low, high, correction.plain.n, None, here.detail)


def _reached(metric: Callable[[Scores], Estimate], correction: Correction, own: Side, moved: Floats) -> list[float]:
    """What a metric becomes where the counts of a label are moved either way."""
    found = []
    for sign in (-1, 1):
        other = replace(own, counts=np.maximum(own.counts + sign * moved, 0.0))
        negatives, positives = (None, other) if correction.negatives is None else (other, None)
        value = metric(replace(correction, negatives=negatives, positives=positives).scores).value
        found += [] if value is None else [value]
    return found


@dataclass(frozen=True)
class Weighed:
    """Counts of a window some of whose labels are not known yet, each label's corrected for those.

    Attributes:
        sides: what is known of each label.
        cells: of each label's bins, the cell over which a metric is linearised, each of shape (bins,).
        of: what a metric is taken of, from the counts of each label.
        whole: all rows.
    """

    sides: tuple[Side, ...]
    cells: tuple[Ints, ...]
    of: Callable[[Sequence[Floats]], Any]
    whole: float

    @property
    def complete(self) -> float:
        """The share of the labels that will be there that are known."""
        return sum(float(s.known.sum()) for s in self.sides) / max(self._total, 1e-9)

    @property
    def coverage(self) -> float:
        """The share of all rows that will have a label."""
        return min(self._total / max(self.whole, 1e-9), 1.0)

    @property
    def _total(self) -> float:
        return sum(float(s.counts.sum()) for s in self.sides)


def weighed(metric: Callable[[Any], Estimate], given: Weighed) -> Estimate:
    """A metric of weighed counts, with an interval that allows for what is not known yet; see `corrected`."""

    def at(counts: Sequence[Floats]) -> Estimate:
        return metric(given.of(counts))

    counts, rows = [s.counts for s in given.sides], [s.rows for s in given.sides]
    here, seen = at(counts), int(sum(float(s.known.sum()) for s in given.sides))
    if here.value is None:
        return Estimate.absent(seen)
    plain = added = 0.0
    for i, (one, cells) in enumerate(zip(given.sides, given.cells, strict=True)):

        def value(moved: Floats, i: int = i) -> float | None:
            return at([*rows[:i], moved, *rows[i + 1 :]]).value

        slope = _slope(value, rows[i], cells)
        plain += float(slope**2 @ one.rows)
        added += float(slope**2 @ one.thinned) + float(((one.shared @ slope) ** 2).sum())
    if plain <= 0 < added:
        return Estimate(here.value, None, None, seen)
    effect = 1 + added / plain if plain else 1.0
    found = at([count / effect for count in counts])
    return Estimate(here.value, found.low, found.high, seen, None, here.detail)


def _slope(value: Callable[[Floats], float | None], rows: Floats, cells: Ints) -> Floats:
    """How a function of counts changes with those of each bin: the same for all bins of a cell."""
    slopes, here = np.zeros(len(rows)), value(rows)
    step = float(rows.sum()) * STEP
    for cell in np.unique(cells):
        chosen = cells == cell
        held = float(rows[chosen].sum())
        if held > 0 and here is not None:
            slopes[chosen] = ((value(rows + np.where(chosen, rows * step / held, 0.0)) or 0.0) - here) / step
    return slopes


def _slopes(metric: Callable[[Scores], Estimate], scores: Scores, above: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """How a metric changes with each bin's negatives and positives: the same for all bins of a cell."""

    def slope(of: str, rows: Floats) -> Floats:
        return _slope(
            lambda moved: metric(replace(scores, **{of: moved})).value, rows, _cells(bands(scores.middle), above, rows)
        )

    return slope("negatives", scores.negatives), slope("positives", scores.positives)


def _cells(band: Ints, above: NDArray[np.bool_], rows: Floats) -> Ints:
    """Bands taken together until there are at most `CELLS` that hold about as many rows, on each side of the
    threshold."""
    cells = np.zeros(len(band), dtype=np.int64)
    for side, here in enumerate((~above, above)):
        held = np.bincount(band[here], rows[here], BANDS)
        middle = (np.cumsum(held) - held / 2) / max(float(held.sum()), 1e-9)
        cells[here] = side * CELLS + np.minimum((middle * CELLS).astype(np.int64), CELLS - 1)[band[here]]
    return cells
