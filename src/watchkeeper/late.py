"""Labels that come late: when a window is looked at before they are all known, and what their counts then stand for."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

import numpy as np

from watchkeeper.metrics import Compute, Metric
from watchkeeper.profiles import Key, Profile, Subject
from watchkeeper.records import ALL
from watchkeeper.schema import ERRORS, ModelConfig
from watchkeeper.settings import UnlabelledConfig
from watchkeeper.stats.classes import Matrix
from watchkeeper.stats.errors import Binned
from watchkeeper.stats.estimates import Estimate
from watchkeeper.stats.grid import Floats, Grid
from watchkeeper.stats.lags import (
    BANDS,
    FEW,
    GRID,
    LAGS,
    Correction,
    Known,
    Side,
    Weighed,
    bands,
    bands_of_errors,
    corrected,
    known_by,
    side,
    weighed,
)
from watchkeeper.stats.scores import Scores
from watchkeeper.tasks import NEGATIVE, POSITIVE

LABELS = (NEGATIVE, POSITIVE)
SCORE, ANSWER, ERROR = "score", "prediction", ERRORS[0]
"""The columns whose counts are corrected: scores by label, predicted classes by label, and errors."""
GROWTH = 1.5
"""A window that is not mature is looked at again at ages that grow by this factor."""
MATURITIES = 4
"""How many times `label_delay` the time is that lags are learnt from: what they were longer ago is passed over."""

Parts = Sequence[tuple[datetime, Key, Profile]]
"""The profiles of grains, each with its start."""


def correctable(metric: Metric, column: str | None) -> bool:
    """Whether a metric can be said before all labels are known. Those of a regression's or a multi-class model's other
    columns (percentage errors, R squared, the probabilities of classes) cannot: what of their counts is still to come
    is not known by label."""
    return metric.waits and (column == SCORE or (column in (ANSWER, ERROR) and not metric.beside))


def ages(model: ModelConfig) -> list[timedelta]:
    """The ages, from 0 up to `label_delay`, at which a window is looked at before its labels are mature."""
    mature, grain = model.label_delay // model.grain_length, model.grain_length
    found, age = [], 0
    while age < mature:
        found.append(age * grain)
        age = max(age + 1, int(age * GROWTH))
    return found


def fill(
    kept: Iterable[tuple[Key, Profile]], unlabelled: UnlabelledConfig | None, grain: timedelta, now: datetime
) -> list[tuple[Key, Profile]]:
    """Stored profiles where rows without a label count as what `unlabelled` says, in the grains that are old enough.

    They are all rows less those of the other label, so nothing is counted anew, and a label that comes later counts.
    """
    kept = list(kept)
    if unlabelled is None:
        return kept
    assumed, other = str(unlabelled.label), str(1 - unlabelled.label)
    over = now - grain - unlabelled.after
    known = {(k.version, k.segment, k.start): p for k, p in kept if k.column == SCORE and k.label == other}
    found = []
    for key, profile in kept:
        old = key.column == SCORE and key.start is not None and key.start <= over
        if old and key.label == assumed:
            continue
        found.append((key, profile))
        if old and key.label == ALL:
            found.append(
                (replace(key, label=assumed), _rest(profile, known.get((key.version, key.segment, key.start))))
            )
    return found


def _rest(whole: Profile, part: Profile | None) -> Profile:
    """The profile of the rows that are not in a part. Its ends are those of the whole: whose they are is not known."""
    if part is None:
        return whole
    counts = whole.counts.copy()
    counts[np.searchsorted(whole.bins, part.bins)] -= part.counts
    left = counts > 0
    return replace(whole, bins=whole.bins[left], counts=counts[left])


class Late:
    """What a model's lags say at a moment of the labels that are not known yet.

    Args:
        kept: the profiles of its `label_lag` by label, of the grains that lags are learnt from.
        now: which labels are known: those until now.
    """

    def __init__(self, kept: Iterable[tuple[Key, Profile]], model: ModelConfig, now: datetime) -> None:
        self._now, self._grain, self._delay = now, model.grain_length, model.label_delay
        self._threshold, self._unlabelled = model.threshold, model.unlabelled
        self._kept: dict[str, dict[datetime, list[Profile]]] = defaultdict(dict)
        for key, profile in kept:
            if key.start is not None and profile.grid == GRID.name:
                self._kept[key.label].setdefault(key.start, []).append(profile)
        self._known: dict[str, Known | None] = {}

    def known(self, label: str, least: int = 1) -> Known | None:
        """Which share of a label is known by each age; of a label with fewer than `least` that are mature, of all
        labels together."""
        if label not in self._known:
            self._known[label] = self._learnt(self._kept.get(label, {}))
        found = self._known[label]
        return self.known(ALL) if label != ALL and least > 1 and (found is None or found.labels < least) else found

    def _learnt(self, grains: Mapping[datetime, Sequence[Profile]]) -> Known | None:
        lags = self._delay // self._grain + 1
        if not grains or lags > LAGS:
            return None
        counts = np.zeros((len(grains), BANDS, lags))
        seen = np.zeros(len(grains), dtype=np.int64)
        for i, (start, profiles) in enumerate(grains.items()):
            seen[i] = min(int(self.age(start)), lags - 1)
            for profile in profiles:
                bins, tallies = profile.regular
                band, lag = np.divmod(bins, LAGS)
                timely = lag < lags
                np.add.at(counts[i], (band[timely], lag[timely]), tallies[timely])
        whole = seen >= 0
        return known_by(counts[whole], seen[whole])

    def immature(self, end: datetime) -> bool:
        """Whether labels of a window that ends then are still to come."""
        return end + self._delay > self._now

    def age(self, start: datetime) -> float:
        """How many grains ago the grain that starts at `start` ended."""
        return (self._now - start) / self._grain - 1

    def correction(self, grid: Grid, rows: Parts, labelled: Mapping[str, Parts]) -> Correction | None:
        """How the score-by-label counts of some grains are corrected; None where too little is known.

        Args:
            rows: the score's profiles of all rows.
            labelled: those by label.
        """
        starts = sorted({start for start, *_ in rows})
        bins = np.unique(np.concatenate([p.regular[0] for *_, p in rows] or [np.zeros(0, dtype=np.int64)]))
        if not len(bins):
            return None

        def counted(parts: Parts) -> Floats:
            counts = np.zeros((len(starts), len(bins)))
            for start, _, profile in parts:
                own, tallies = profile.regular
                counts[starts.index(start), np.searchsorted(bins, own)] += tallies
            return counts

        whole, found = counted(rows), {label: counted(labelled[label]) for label in LABELS}
        lower, upper = grid.edges(bins)
        plain = Scores(lower, upper, found[NEGATIVE].sum(axis=0), found[POSITIVE].sum(axis=0))
        assumed = str(self._unlabelled.label) if self._unlabelled else ""
        sides: dict[str, Side | None] = {}
        for label in LABELS:
            if label == assumed:
                sides[label] = None
                continue
            known = self.known(label)
            if known is None:
                return None
            ages = [self.age(start) for start in starts]
            sides[label] = side(known, bands(plain.middle), found[label], ages, whole)
            if sides[label] is None:
                return None
        return Correction(plain, sides[NEGATIVE], sides[POSITIVE], whole.sum(axis=0), self._threshold)

    def of_classes(self, rows: Parts, labelled: Mapping[str, Parts]) -> Weighed | None:
        """How the counts of predicted classes by label are corrected; None where too little is known.

        Args:
            rows: the profiles of the predicted class, of all rows.
            labelled: those by label.

        The delay is that of the class and of whether it was predicted right; of a class of which fewer than `FEW` are
        mature, that of all classes.
        """
        starts = sorted({start for start, *_ in rows})
        words = {
            word for *_, p in (*rows, *(part for parts in labelled.values() for part in parts)) for word in p.words
        }
        classes = sorted({*labelled, *(self._kept.keys() - {ALL}), *words})
        at = {name: i for i, name in enumerate(classes)}

        def counted(parts: Parts) -> Floats:
            counts = np.zeros((len(starts), len(classes) + 1))
            for start, _, profile in parts:
                row = counts[starts.index(start)]
                for said, times in profile.by_value.items():
                    row[at.get(said, -1)] += times
                row[-1] += profile.others
            return counts

        whole, ages, sides, cells = counted(rows), [self.age(start) for start in starts], [], []
        if not whole.sum():
            return None
        for label in classes:
            known, right = self.known(label, FEW), np.arange(len(classes) + 1) == at[label]
            one = side(known, right.astype(np.int64), counted(labelled.get(label, ())), ages, whole) if known else None
            if one is None:
                return None
            sides.append(one)
            cells.append(right.astype(np.int64))

        def of(counts: Sequence[Floats]) -> Matrix:
            cells = np.stack(counts)
            return Matrix(tuple(classes), cells[:, :-1], cells[:, -1])

        return Weighed(tuple(sides), tuple(cells), of, float(whole.sum()))

    def of_errors(self, grid: Grid, rows: Parts) -> Weighed | None:
        """How the counts of a regression's errors are corrected; None where too little is known.

        Args:
            rows: the profiles of the error, of all rows; those without a label have none.
        """
        known, starts = self.known(ALL), sorted({start for start, *_ in rows})
        bins = np.unique(np.concatenate([p.regular[0] for *_, p in rows] or [np.zeros(0, dtype=np.int64)]))
        if known is None or not len(bins):
            return None
        found, whole = np.zeros((len(starts), len(bins))), np.zeros(len(starts))
        for start, _, profile in rows:
            own, tallies = profile.regular
            found[starts.index(start), np.searchsorted(bins, own)] += tallies
            whole[starts.index(start)] += profile.n
        lower, upper = grid.edges(bins)
        band = bands_of_errors((lower + upper) / 2, grid.scale)
        spread = whole[:, None] * found.sum(axis=0) / found.sum()  # errors of rows without a label are as the others
        one = side(known, band, found, [self.age(start) for start in starts], spread)
        if one is None:
            return None
        return Weighed((one,), (band,), lambda counts: Binned(lower, upper, counts[0]), float(whole.sum()))


def estimate(compute: Compute, subject: Subject, alpha: float) -> Estimate:
    """A metric of a subject, corrected for labels that are not known yet where that is asked for.

    A corrected one has in its detail what the labels known say without correction (`plain`, with its ends), which share
    is known of the labels that will be (`complete`), and which share of the rows will have one (`coverage`).
    """
    plain = compute(subject, alpha)
    if not subject.provisional:
        return plain
    told = {"provisional": True, "plain": plain.value, "plain_low": plain.low, "plain_high": plain.high}
    if subject.correction is None:
        return Estimate.absent(plain.n).about(**told)

    def of(counts: Scores | Matrix | Binned) -> Estimate:
        return compute(replace(subject, expected=counts), alpha)

    given = subject.correction
    found = corrected(of, given, alpha) if isinstance(given, Correction) else weighed(of, given)
    told |= {"complete": subject.correction.complete, "coverage": subject.correction.coverage}
    return replace(found, n=plain.n).about(**told)
