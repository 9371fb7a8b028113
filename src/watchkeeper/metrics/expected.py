"""What the engine expects of rows whose labels are not known, from features: its profiles, and estimates from these.

For a sample of each grain's rows `expecting` keeps, beside the score's own profile, how many positives it expects
among the rows of each bin, in thousandths of a row, so that they add up like all counts. Here they become the `Way`s
that `stats.estimation` takes. Of a regression it keeps how large an error it expects of each sampled row.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from watchkeeper.events import EXPECTED
from watchkeeper.metrics import Compute, metric, of_task, regression
from watchkeeper.profiles import Profile, Subject
from watchkeeper.schema import Kind, Task
from watchkeeper.stats import losses
from watchkeeper.stats.errors import Binned
from watchkeeper.stats.estimates import Estimate
from watchkeeper.stats.estimation import Way
from watchkeeper.stats.scores import Scores

FEATURES, WEIGHTED = f"{EXPECTED}features", f"{EXPECTED}weighted"
"""The columns of what trees expect by features, and of what the reference says once it is weighted to look like the
rows: of a classifier by label, of a regression the reference's errors."""
ABSOLUTE, ROOT = f"{EXPECTED}absolute error", f"{EXPECTED}root squared error"
"""The columns of what trees expect of a regression's errors: their size, and the root of their square."""
CLASSIFIED, PREDICTED = (FEATURES, WEIGHTED), (ABSOLUTE, ROOT, WEIGHTED)
"""Those of a classifier, and those of a regression."""
UNIT = 1000
"""Parts of a row that expected labels and weights are counted in."""
WAS = "was "
"""Begins the labels of what came of the reference's rows that the trees were fitted to, beside what they expect."""
STRANGE, EFFECTIVE = "strange", "effective"
"""The labels of the sampled rows with an input outside the reference, and of the part of them that the reference's rows
are worth once they are weighted to look like them."""
LEAST_EFFECTIVE = 0.3
"""Where less than this share of the reference is left in effect, what its weighted rows say is left out."""
LABELS = ("0", "1")


def ways(subject: Subject, rows: Binned) -> tuple[list[Way], dict[str, Any], float]:
    """What is expected of rows of which the scores are known, by features; details of it; and of which share of the
    rows the features were looked at. No way where nothing was expected.

    Rows of a bin are taken to be like the sampled ones in it, and in bins without such, like those between.
    """
    sampled = _sampled(subject, FEATURES)
    if sampled is None or not rows.n:
        return [], {}, 1.0
    now = _spread(sampled, rows)
    reference = subject.beside[FEATURES].baseline_labelled
    sides = [{label: p for label in LABELS if (p := reference.get(f"{of}{label}"))} for of in (WAS, "")]
    # compared with another time than the reference's, of which nothing like this is kept, nothing is corrected
    seen, fitted = (_scores(subject, FEATURES, side) if all(map(len, sides)) else now for side in sides)
    found, told = [Way(now, seen, fitted)], {**_told(subject, FEATURES, sampled.total), "from": "features"}
    weighted = _sampled(subject, WEIGHTED)
    if weighted is not None and told.get(EFFECTIVE, 0.0) >= LEAST_EFFECTIVE:
        same = _spread(weighted, rows)
        found.append(Way(same, same, same))
        told["from"] = "features and weights"
    return found, told, min(sampled.total / UNIT / rows.n, 1.0)


def _sampled(subject: Subject, column: str) -> Scores | None:
    beside = subject.beside.get(column)
    if beside is None or not {*LABELS} & beside.labelled.keys():
        return None
    return beside.scores


def _scores(subject: Subject, column: str, labelled: dict[str, Profile]) -> Scores:
    return replace(subject.beside[column], labelled=labelled).scores


def _spread(sampled: Scores, rows: Binned) -> Scores:
    total = sampled.negatives + sampled.positives
    share = np.interp((rows.lower + rows.upper) / 2, sampled.middle, sampled.positives / total)
    return Scores(rows.lower, rows.upper, rows.counts * (1 - share), rows.counts * share)


def _told(subject: Subject, column: str, total: float) -> dict[str, Any]:
    """Of the sampled rows, the share with an input outside the reference; and the share of the reference that is left
    in effect once it is weighted."""
    kept = subject.beside[column].labelled
    return {label: kept[label].n / total for label in (STRANGE, EFFECTIVE) if label in kept and total}


def held_against(found: Estimate, real: float | None) -> Estimate:
    """How much higher something was estimated than it turned out, with the band less what it turned out as interval."""
    if found.value is None or found.low is None or found.high is None or real is None:
        return Estimate.absent(found.n, found.n_baseline)
    detail = {"estimated": found.value, "realised": real, "held": found.low <= real <= found.high}
    return replace(found, value=found.value - real, low=found.low - real, high=found.high - real, detail=detail)


# regression


def _register(compute: Compute, power: int) -> None:
    realised = of_task(Task.REGRESSION)[compute.__name__]

    def estimated(subject: Subject, alpha: float) -> Estimate:
        return _loss(subject, power, alpha)

    def error(subject: Subject, alpha: float) -> Estimate:
        return held_against(_loss(subject, power, alpha), compute(subject, alpha).value)

    estimated.__name__ = f"estimated_{realised.name}"
    estimated.__doc__ = (
        f"What {realised.title} will be once the labels are known, from the features of a sample of the rows and from"
        " how large the errors of such rows were in the reference. The interval is the band in which the realised value"
        " will lie, if rows like these still have errors as large. It needs `estimation: features`."
    )
    metric(
        f"estimated {realised.title}", cause="performance", kinds=(Kind.NUMERIC,), column="prediction",
        tasks=(Task.REGRESSION,), baseline_labels=True, beside=PREDICTED,
    )(estimated)  # fmt: skip
    error.__name__ = f"{realised.name}_estimation_error"
    error.__doc__ = (
        f"How much higher {realised.title} was estimated than it turned out: the estimator's own record. The interval"
        " is the band less the realised value, so it holds 0 where the band held. Its detail has both values, and"
        " `held`."
    )
    metric(
        f"error of the estimated {realised.title}", cause="performance", kinds=(Kind.NUMERIC,), column=realised.column,
        tasks=(Task.REGRESSION,), labels=True, baseline_labels=True, beside=PREDICTED,
    )(error)  # fmt: skip


def _loss(subject: Subject, power: int, alpha: float) -> Estimate:
    """What a mean loss will be by what trees expect of the sampled rows, less what they were off by on the reference;
    and by the reference's errors, weighted to look like these rows."""
    column = ABSOLUTE if power == 1 else ROOT
    beside = subject.beside.get(column)
    if beside is None:
        return Estimate.absent(subject.n)
    now = beside.binned
    fitted = beside.of_baseline.binned if beside.baseline else now  # the reference itself is asked
    was = replace(beside, current=beside.baseline_labelled.get(WAS)).binned
    if not (now.n and fitted.n and was.n):
        return Estimate.absent(subject.n)
    by_trees, said, before = (losses.moments(side, power)[0] for side in (now, fitted, was))
    guesses, told = [max(by_trees + before - said, 0.0)], {**_told(subject, ABSOLUTE, now.n * UNIT), "from": "features"}
    weighted = subject.beside.get(WEIGHTED)
    if weighted is not None and weighted.binned.n and told.get(EFFECTIVE, 0.0) >= LEAST_EFFECTIVE:
        guesses.append(losses.moments(weighted.binned, power)[0])
        told["from"] = "features and weights"
    return losses.expected(guesses, now.n, was, power, alpha).about(**told)


_register(regression.mae, 1)
_register(regression.rmse, 2)
