"""Concept drift: whether outcomes follow from the scores as they did in the reference, from score-by-label counts.

Errors are wrong predictions at the model's threshold. Those of the reference, by cells of about equal mass of the
score, say how many are to be expected of any other scores. Inputs that moved change what is expected, and are not
taken for a relation that has changed, as far as the score tells them apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from watchkeeper.metrics import metric
from watchkeeper.profiles import Profile, Subject
from watchkeeper.schema import Kind
from watchkeeper.stats import detectors
from watchkeeper.stats.confusion import predicted_positive
from watchkeeper.stats.decomposition import Losses, split
from watchkeeper.stats.distances import mass_cells
from watchkeeper.stats.estimates import Estimate, proportion
from watchkeeper.stats.grid import Floats, Grid, Ints
from watchkeeper.stats.scores import EXTREME

CELLS = 20
RATIOS = np.concatenate([np.arange(0.5, 1, 0.1), np.arange(1, 1.5, 0.02), 1.5 * 2.0 ** np.arange(0, 4.5, 0.25)])
"""How many times the errors expected the detector holds the null to, closest together where limits are usual."""
UNLUCKY = 1.645
"""Standard errors that the reference's errors may be too few by: more in one of twenty references, for which a limit
above 1 leaves room."""
SHOWN = 0.025
"""Error on each side of the intervals of what is told beside the value."""
RISK = 1e-9, 1 - 1e-9


@metric(
    "errors over those expected", cause="performance", kinds=(Kind.NUMERIC,), column="score", needs_baseline=True,
    labels=True, since_crowned=True,
)  # fmt: skip
def concept_drift(subject: Subject, alpha: float) -> Estimate:
    """How many times as many predictions are wrong as the reference leads one to expect of such scores: 1 where
    outcomes follow from the scores as they did. The lower end of its interval is that of an e-detector that runs over
    the grains since the champion was crowned: false alarms are at least `1 / alpha` looks apart on average, however
    often one looks. Its detail says since when, with an interval."""
    reference, window = subject.baseline_labelled, subject.labelled
    if subject.grid is None or not subject.baseline or not _rows(window) or not _rows(reference):
        return Estimate.absent(_rows(window), _rows(reference))
    starts = [start for start, _ in subject.labelled_parts]
    lower, _, counts = _laid_out([reference, window, *(sides for _, sides in subject.labelled_parts)], subject.grid)
    yes = predicted_positive(lower, subject.threshold)
    cell = _cells(counts[0].sum(axis=0), yes)
    rows, wrong = (_by_cell(each, cell) for each in (counts.sum(axis=1), np.where(yes, counts[:, 0], counts[:, 1])))
    n, lost = rows.sum(axis=1), wrong.sum(axis=1)
    usual = (lost[0] + 0.5) / (n[0] + 1)
    risk = (wrong[0] + usual) / (rows[0] + 1)
    share = rows / np.maximum(n, 1)[:, None]
    expected, error = share @ risk, (share**2 @ (risk * (1 - risk) / (rows[0] + 1))) ** 0.5
    value = float(lost[1] / n[1] / expected[1])
    most = proportion(int(lost[1]), int(n[1]), alpha).high or 0.0
    high = max(most / max(float(expected[1] - UNLUCKY * error[1]), RISK[0]), value)
    estimate = Estimate(value, None, high, int(n[1]), int(n[0])).about(expected=float(expected[1]))
    if not starts:
        return estimate
    null = np.clip(np.multiply.outer(RATIOS, (expected + UNLUCKY * error)[2:]), *RISK)
    logs = detectors.standing(detectors.gains_of_grains(n[2:], lost[2:], null), 1 / alpha)
    found = RATIOS[logs >= -np.log(alpha)]
    low = min(float(found[-1]), value) if len(found) else 0.0
    if low > 1:
        dates = detectors.changed(n[2:], lost[2:], np.clip(expected[2:], *RISK), SHOWN)
        names = ("began", "began_earliest", "began_latest")
        estimate = estimate.about(**{k: starts[at].isoformat() for k, at in zip(names, dates, strict=True)})
    return replace(estimate, low=low)


def parts_of_change(name: str, subject: Subject) -> dict[str, Any] | None:
    """How much of a change of performance against the labelled baseline came of other inputs, and how much of another
    relation between inputs and outcomes; see `stats.decomposition`. None without labels on both sides.

    Log loss and Brier score are split as they are, every other metric by the share of wrong predictions.
    """
    if subject.grid is None or not _rows(subject.labelled) or not _rows(subject.baseline_labelled):
        return None
    lower, upper, counts = _laid_out([subject.baseline_labelled, subject.labelled], subject.grid)
    yes, said = predicted_positive(lower, subject.threshold), np.clip((lower + upper) / 2, EXTREME, 1 - EXTREME)
    losses = {
        "log_loss": np.stack([-np.log1p(-said), -np.log(said)]),
        "brier": np.stack([said**2, (1 - said) ** 2]),
    }.get(name, np.stack([yes, ~yes]).astype(float))
    cell = _cells(counts.sum(axis=(0, 1)), yes)
    sides = [Losses(*(_by_cell((side * losses**power).sum(axis=0), cell) for power in range(3))) for side in counts]
    found = split(sides[0], sides[1], SHOWN)
    told = {"change": found.change, "inputs": found.inputs, "relation": found.relation}
    return {
        "of": name if name in ("log_loss", "brier") else "errors",
        **{part: {"value": one.value, "low": one.low, "high": one.high} for part, one in told.items()},
    }


def _rows(sides: Mapping[str, Profile]) -> int:
    return sum(int(profile.regular[1].sum()) for profile in sides.values())


def _cells(rows: Floats, yes: NDArray[np.bool_]) -> Ints:
    """Which cell each of the ascending bins falls into: `CELLS` of about equal mass, cut at the threshold."""
    return np.unique(mass_cells(rows, CELLS) + CELLS * yes, return_inverse=True)[1]


def _by_cell(counts: Floats, cell: Ints) -> Floats:
    """Sums over the bins of each cell, along the last axis."""
    return np.add.reduceat(counts, np.unique(cell, return_index=True)[1], axis=-1)


def _laid_out(sides: Sequence[Mapping[str, Profile]], grid: Grid) -> tuple[Floats, Floats, Floats]:
    """The ends of all bins that any side has, and the counts of negatives and positives: shape (sides, 2, bins)."""
    rows = [(2 * i + int(label), *profile.regular) for i, side in enumerate(sides) for label, profile in side.items()]
    bins, column = np.unique(np.concatenate([own for _, own, _ in rows]), return_inverse=True)
    row = np.repeat([at for at, _, _ in rows], [len(own) for _, own, _ in rows])
    tallies = np.concatenate([tallies for *_, tallies in rows])
    counts = np.bincount(row * len(bins) + column, tallies, 2 * len(sides) * len(bins))
    return (*grid.edges(bins), counts.astype(float).reshape(len(sides), 2, len(bins)))
