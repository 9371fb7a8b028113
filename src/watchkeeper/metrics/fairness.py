"""Gaps between groups: the segments of one segmentation, held against each other."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
from scipy.special import ndtri

from watchkeeper.metrics import METRICS, Metric, metric
from watchkeeper.profiles import Subject
from watchkeeper.schema import Kind
from watchkeeper.stats import groups
from watchkeeper.stats.confusion import Confusion, predicted_positive
from watchkeeper.stats.estimates import Estimate, proportions
from watchkeeper.stats.grid import Floats, Ints
from watchkeeper.stats.groups import Groups, Shares
from watchkeeper.stats.shrinkage import shrink_shares, shrink_values

SCORE = (Kind.NUMERIC,)
SHOWN = 0.025
"""Error on each side of the intervals of single groups."""


@metric(
    "demographic parity difference",
    cause="fairness",
    kinds=SCORE,
    column="score",
    unit="share",
    groups=("predicted_positive_rate",),
)
def demographic_parity(subject: Subject, alpha: float) -> Estimate:
    """Greatest difference between groups in the share of scores at or above the model's threshold, labelled or not
    (Dwork et al. 2012)."""
    return groups.difference_of_shares(_selected(subject), alpha)


@metric(
    "four-fifths ratio",
    cause="fairness",
    kinds=SCORE,
    column="score",
    groups=("predicted_positive_rate",),
)
def four_fifths(subject: Subject, alpha: float) -> Estimate:
    """The group with the least share of scores at or above the model's threshold over the one with the greatest, from 0
    to 1. Below 0.8 the US Uniform Guidelines of 1978 see adverse impact. Also called disparate impact."""
    return groups.ratio_of_shares(_selected(subject), alpha)


@metric(
    "equal opportunity difference", cause="fairness", kinds=SCORE, column="score", labels=True, unit="share",
    groups=("recall",),
)  # fmt: skip
def equal_opportunity(subject: Subject, alpha: float) -> Estimate:
    """Greatest difference between groups in recall at the model's threshold (Hardt, Price and Srebro 2016)."""
    return groups.equal_opportunity(_counts(subject), alpha)


@metric(
    "equalised odds difference",
    cause="fairness",
    kinds=SCORE,
    column="score",
    labels=True,
    unit="share",
    groups=("recall", "false_positive_rate"),
)
def equalised_odds(subject: Subject, alpha: float) -> Estimate:
    """Greatest difference between groups in recall or in the false positive rate, whichever differs more (Hardt, Price
    and Srebro 2016)."""
    return groups.equalised_odds(_counts(subject), alpha)


@metric(
    "predictive parity difference", cause="fairness", kinds=SCORE, column="score", labels=True, unit="share",
    groups=("precision",),
)  # fmt: skip
def predictive_parity(subject: Subject, alpha: float) -> Estimate:
    """Greatest difference between groups in precision at the model's threshold (Chouldechova 2017)."""
    return groups.predictive_parity(_counts(subject), alpha)


def between_groups(of: Metric, subject: Subject, alpha: float) -> Estimate:
    """What a look at groups finds: a metric of groups itself, or the greatest difference between groups in any other.

    The detail's `measure` is the metric that differs, and its `segments` the groups with their values, those first that
    surely lie furthest from the middle.
    """
    if of.groups:
        found = of.compute(subject, alpha)
    else:
        found = groups.difference_of({g: partial(of.compute, own) for g, own in subject.groups.items()}, alpha)
    second = found.detail.get("rate") == groups.FALSE_POSITIVE
    measure = METRICS[of.groups[1 if second else 0]] if of.groups else of
    return found.about(measure=measure.name, segments=_lines(measure, subject.groups))


def _lines(measure: Metric, subjects: Mapping[str, Subject]) -> list[dict[str, Any]]:
    """The value of each group, plain and drawn to the middle of all, and the latter's interval of 95 %."""
    found = {name: measure.compute(own, SHOWN) for name, own in subjects.items()}
    known = {name: e for name, e in found.items() if None not in (e.value, e.low, e.high) and e.n}
    rows = np.array([e.n for e in known.values()])
    values, low, high = (
        np.array([getattr(e, part) for e in known.values()], float) for part in ("value", "low", "high")
    )
    if _are_shares(values * rows, rows, low, high):
        drawn = shrink_shares(np.round(values * rows), rows.astype(float), SHOWN)
    else:
        drawn = shrink_values(values, np.maximum((high - low) / (2 * ndtri(1 - SHOWN)), 1e-12), rows.tolist(), SHOWN)
    middle = float((values * rows).sum() / rows.sum()) if len(rows) else 0.0
    lines = [_line(name, found[name], e) for name, e in zip(known, drawn, strict=True)]
    lines.sort(key=lambda line: min(middle - line["low"], line["high"] - middle))
    return lines + [_line(name, e, Estimate.absent(e.n)) for name, e in found.items() if name not in known]


def _are_shares(hits: Floats, rows: Ints, low: Floats, high: Floats) -> bool:
    """Whether values with these intervals are shares of whole numbers of rows."""
    ends = proportions(np.round(hits), rows.astype(float), SHOWN)
    return bool(np.allclose(hits, np.round(hits), atol=1e-6) and np.allclose(ends, (low, high), atol=1e-9))


def _line(name: str, plain: Estimate, drawn: Estimate) -> dict[str, Any]:
    return {
        "segment": name, "n": plain.n, "plain": plain.value, "value": drawn.value, "low": drawn.low, "high": drawn.high,
    }  # fmt: skip


def _selected(subject: Subject) -> Shares:
    """Of each group, the scores that are predicted positive, and all scores."""
    return {name: _positive(own) for name, own in subject.groups.items()}


def _positive(subject: Subject) -> tuple[int, int]:
    scores = subject.binned
    return int(scores.counts[predicted_positive(scores.lower, subject.threshold)].sum()), scores.n


def _counts(subject: Subject) -> Groups:
    return {name: Confusion.at(own.scores, own.threshold) for name, own in subject.groups.items()}
