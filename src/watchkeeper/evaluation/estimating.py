"""What the metrics of rows without labels will be, by labelled rows of the same model.

From counts of scores alone for every part of the rows; these are the metrics `estimated_*`. Where features are given,
and of regressions, from samples of the rows themselves (`adaptation`), which needs scikit-learn.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from watchkeeper.errors import ConfigError
from watchkeeper.evaluation.counting import NEVER, Place, Split
from watchkeeper.evaluation.rows import BINARY, REGRESSION, Rows
from watchkeeper.metrics.estimation import ESTIMATED, SHARE, value_of
from watchkeeper.metrics.expected import held_against
from watchkeeper.profiles import Subject
from watchkeeper.records import ALL
from watchkeeper.schema import Kind
from watchkeeper.stats import estimation
from watchkeeper.stats.confusion import predicted_positive
from watchkeeper.stats.estimates import Estimate
from watchkeeper.stats.grid import Floats
from watchkeeper.store import sources
from watchkeeper.store.sources import SEGMENT, Plan
from watchkeeper.store.tallies import sample, sample_of_parts

if TYPE_CHECKING:
    from watchkeeper.adaptation import ErrorModel, FeatureAware
    from watchkeeper.adaptation import Rows as Labelled

_ADAPTATION = "watchkeeper.adaptation"
LOSSES = ("mae", "rmse")
LEAST = 1000
"""Labelled rows of the reference below which nothing is learnt from features."""
MOST, MOST_OF_A_PART = 200_000, 20_000
"""Rows that are asked about their features, of all parts together and of one."""
MOST_WORDS = 200
"""So many values of a category are told apart, the most frequent ones of the reference."""


@dataclass(frozen=True)
class Sample:
    """Some rows in memory: features as numbers, with categories as codes and NaN where missing, shape (rows, columns);
    scores or predictions; and labels, NaN where unknown. `part` is the number of each row's part."""

    features: Floats
    said: Floats
    labels: Floats
    part: Floats

    def where(self, chosen: NDArray[np.bool_]) -> Sample:
        return Sample(*(each[chosen] for each in (self.features, self.said, self.labels, self.part)))


@dataclass(frozen=True)
class Learnt:
    """What a labelled reference teaches.

    Attributes:
        rows: the reference, in the types of its task, and `plans` how its columns were counted.
        whole: its counts, by column.
        seen: a sample of its labelled rows, where features are heeded.
        words: the values of each category, by the place of its column.
        notes: what estimates go without, and why.
    """

    rows: Rows
    plans: Sequence[Plan]
    whole: Mapping[str, Subject]
    seen: Sample | None = None
    words: Mapping[int, Sequence[str]] | None = None
    notes: tuple[str, ...] = ()

    @cached_property
    def reference(self) -> Labelled:
        assert self.seen is not None
        made: Labelled = _adaptation().Rows(
            self.seen.features, self.seen.said, self.seen.labels, tuple(self.words or ())
        )
        return made

    @cached_property
    def feature_aware(self) -> FeatureAware:
        made: FeatureAware = _adaptation().FeatureAware(self.reference)
        return made

    @cached_property
    def errors(self) -> ErrorModel:
        assert self.seen is not None
        both = np.column_stack([self.seen.features, self.seen.said])
        made: ErrorModel = _adaptation().ErrorModel(both, self.seen.said - self.seen.labels, tuple(self.words or ()))
        return made


def learn(rows: Rows, plans: Sequence[Plan], whole: Mapping[str, Subject]) -> Learnt:
    """What a labelled reference teaches.

    Raises ConfigError where features are given, and scikit-learn is missing or the task heeds none.
    """
    plain = Learnt(rows, plans, whole)
    if rows.featured and rows.task not in (BINARY, REGRESSION):
        raise ConfigError(f"features are heeded for {BINARY} and {REGRESSION} predictions; leave features out")
    if not rows.featured and rows.task != REGRESSION:
        return plain
    if find_spec("sklearn") is None:
        missing = "estimates from rows need scikit-learn; install it with: pip install 'watchkeeper[estimation]'"
        if rows.featured:
            raise ConfigError(missing)
        return replace(plain, notes=(missing,))
    ready = _ready(rows, rows.table)
    ready = ready.filter(ready["label"].notnull())
    n = sources.scalars(ready, {"n": ready.count()})["n"]
    if n < LEAST:
        few = f"estimates from rows: the reference has {n:,} rows with a label, and {LEAST:,} are needed"
        return replace(plain, notes=(few,))
    table = sources.fetch(sample(_chosen(rows, ready), n))
    words = {i: _words(table.column(f"f{i}")) for i, (_, kind) in enumerate(rows.featured) if kind is Kind.CATEGORICAL}
    return Learnt(rows, plans, whole, _in_memory(table, len(rows.featured), words), words)


def by_rows(
    learnt: Learnt,
    rows: Rows,
    parted: Sequence[Split],
    counted: Mapping[Place, Mapping[str, Subject]],
    wanted: Callable[[Place], Container[str]],
    alpha: float,
) -> Iterator[tuple[Place, dict[str, Estimate]]]:
    """What is estimated from rows, of all and of each part, of those metrics that are wanted of it."""
    if learnt.seen is None:
        return
    known = learnt.words or {}
    whole = Split(rows.table.mutate(**{SEGMENT: sources.text("0")}), ((ALL, NEVER),))
    for split in (whole, *parted):
        named = [part for part in split.parts if part is not None and part in counted]
        ready = _ready(rows, split.table)
        some = _sampled(rows, ready, min(MOST_OF_A_PART, MOST // max(len(named), 1)), known)
        for i, part in enumerate(split.parts):
            own = some.part == i
            if part is None or part not in counted or not own.any():
                continue
            found = _estimated(learnt, some, own, counted[part], wanted(part), alpha)
            if split is whole and rows.task == REGRESSION:
                labelled = _sampled(rows, ready.filter(ready["label"].notnull()), MOST_OF_A_PART, known)
                if len(labelled.said):
                    found |= _against_labels(learnt, labelled, some.where(np.isnan(some.labels)), alpha)
            yield part, found


def _estimated(
    learnt: Learnt, some: Sample, own: Any, subjects: Mapping[str, Subject], wanted: Container[str], alpha: float
) -> dict[str, Estimate]:
    features, said = some.features[own], some.said[own]
    told = {"features": len(learnt.rows.featured)}
    if learnt.rows.task == REGRESSION:
        losses = zip(LOSSES, learnt.errors.estimate(np.column_stack([features, said]), alpha), strict=True)
        return {f"estimated_{name}": one.about(**told) for name, one in losses}
    adaptation, reference, score = _adaptation(), learnt.reference, subjects["score"]
    ways = adaptation.ways(reference, learnt.feature_aware, features, said)
    known = {f"estimated_{compute.__name__}": (compute, within) for compute, within in ESTIMATED.items()}
    return {
        name: adaptation.estimate(
            value_of(compute, score), reference, ways, said, score.threshold, alpha, within
        ).about(**told)
        for name, (compute, within) in known.items()
        if name in wanted
    }


def _against_labels(learnt: Learnt, labelled: Sample, others: Sample, alpha: float) -> dict[str, Estimate]:
    """How far a regression's estimates are off on labelled rows; and the mean absolute error of all rows by these, if
    they are a random sample, and by what is expected of others."""
    inputs, off = _inputs(labelled), np.abs(labelled.said - labelled.labels)
    real = {"mae": float(off.mean()), "rmse": float((off**2).mean()) ** 0.5}
    seen = dict(zip(LOSSES, learnt.errors.estimate(inputs, alpha / len(LOSSES)), strict=True))
    guessed, seen_so = (learnt.errors.expected(rows)[0] for rows in (_inputs(others), inputs))
    audited = estimation.prediction_powered(guessed, seen_so, off, alpha)
    low = None if audited.low is None else max(audited.low, 0.0)
    return {
        **{f"{name}_estimation_error": held_against(seen[name], real[name]) for name in LOSSES},
        "audited_mae": replace(audited, low=low),
    }


def _inputs(some: Sample) -> Floats:
    """What a regression's errors are expected by."""
    return np.column_stack([some.features, some.said])


def audited_accuracy(subject: Subject, alpha: float) -> Estimate:
    """The accuracy of all rows by the labels that are known, if these are of a random sample, and what is expected of
    the other rows: see `estimation.prediction_powered`."""
    calibration = estimation.calibrate(subject.baseline_scores)
    if calibration is None:
        return Estimate.absent(0)
    every, seen = subject.binned, subject.scores
    labelled = np.zeros(len(every.counts))
    at = np.searchsorted(every.lower, seen.lower)
    labelled[at] = seen.negatives + seen.positives
    share = estimation.expected(calibration, every.lower, every.upper, np.ones(len(labelled))).positives
    yes = predicted_positive(every.lower, subject.threshold)
    right = np.where(yes, share, 1 - share)
    hits, misses = np.where(yes[at], (seen.positives, seen.negatives), (seen.negatives, seen.positives))
    sides = [(right[at], hits, 1.0), (right[at], misses, 0.0)]
    audited = np.concatenate([np.repeat(each, times.astype(int)) for each, times, _ in sides])
    actual = np.concatenate([np.full(int(times.sum()), was) for _, times, was in sides])
    guessed = np.repeat(right, (every.counts - labelled).astype(int))
    found = estimation.prediction_powered(guessed, audited, actual, alpha)
    if found.low is None or found.high is None:
        return found
    low, high = (float(np.clip(end, *SHARE)) for end in (found.low, found.high))
    return Estimate(found.value, low, high, found.n, None, found.detail)


def _adaptation() -> Any:
    """The module that needs scikit-learn, once it is known to be there."""
    return import_module(_ADAPTATION)


def _said(rows: Rows) -> str:
    return "score" if rows.task == BINARY else "prediction"


def _ready(rows: Rows, table: Any) -> Any:
    """The rows that have a score or a prediction."""
    said = table[_said(rows)]
    return table.filter(said.notnull() & ~said.isnan() & ~said.isinf())


def _sampled(rows: Rows, table: Any, most: int, words: Mapping[int, Sequence[str]]) -> Sample:
    return _in_memory(sources.fetch(sample_of_parts(_chosen(rows, table), most)), len(rows.featured), words)


def _chosen(rows: Rows, table: Any) -> Any:
    """The columns that a `Sample` is made of."""
    part = table[SEGMENT].cast("int64") if SEGMENT in table.columns else sources.text("0").cast("int64")
    columns = {f"f{i}": table[f"f{i}"] for i in range(len(rows.featured))}
    return table.select(**{SEGMENT: part}, said=table[_said(rows)], label=table["label"].cast("float64"), **columns)


def _words(column: pa.ChunkedArray) -> list[str]:
    counted = sorted(pc.value_counts(column).to_pylist(), key=lambda found: -found["counts"])
    return [found["values"] for found in counted if found["values"] is not None][:MOST_WORDS]


def _in_memory(table: pa.Table, features: int, words: Mapping[int, Sequence[str]]) -> Sample:
    columns = [_numbers(table.column(f"f{i}"), words.get(i)) for i in range(features)]
    made = np.column_stack(columns) if columns else np.zeros((table.num_rows, 0))
    said, labels, part = (_numbers(table.column(name)) for name in ("said", "label", SEGMENT))
    return Sample(made, said, labels, part)


def _numbers(column: pa.ChunkedArray, words: Sequence[str] | None = None) -> Floats:
    if words is not None:
        column = pc.index_in(column, pa.array(words, pa.string()))
    found: Floats = pc.cast(column, pa.float64()).to_numpy(zero_copy_only=False).astype(float)
    return found
