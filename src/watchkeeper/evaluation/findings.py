"""What an evaluation finds: every metric with its interval, in all rows, in segments and over time."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from watchkeeper.comparison.weaknesses import WeakSegments
from watchkeeper.errors import did_you_mean
from watchkeeper.evaluation.counting import NEVER, Place
from watchkeeper.metrics import multiclass
from watchkeeper.profiles import Subject
from watchkeeper.records import ALL, Point
from watchkeeper.schema import Task
from watchkeeper.stats.classes import Matrix
from watchkeeper.stats.estimates import Estimate, difference
from watchkeeper.store.files import write

HEADLINES = {
    "binary": ("auc", "f1", "precision", "recall", "accuracy", "log_loss", "calibration_error"),
    "multiclass": ("accuracy", "macro_f1", "balanced_accuracy", "macro_auc", "log_loss"),
    "regression": ("mae", "rmse", "bias", "r2", "mape"),
    "multilabel": ("micro_f1", "macro_f1", "subset_accuracy", "hamming_loss"),
    "ranking": ("ndcg", "mean_average_precision", "mean_reciprocal_rank", "hit_rate", "recall_at_k"),
}
"""What is told first, and of segments and over time, by task."""


ESTIMATED = "estimated_"
"""What the names of estimates begin with."""


@dataclass(frozen=True)
class Findings:
    """What `evaluate` found.

    Attributes:
        task: what the predictions are of, and `why` it was taken for that.
        rows, labelled: how many rows there are, and how many have a label.
        points: every metric in all rows, then in each segment, then over time.
        subjects: the counts that they were taken of, by segment and stretch of time and by column; of binary and
            multi-class predictions and of regressions.
        threshold: from which score on a prediction is positive.
        k: how many of the first rows of a ranking count.
        notes: what was left out.
        gaps: how far the values of each of the segments' columns lie apart, which the points' `segment` names.
        weak: the weak segments, if they were searched for.
        reference: the same of the reference data, if there are any.
    """

    task: str
    why: str
    rows: int
    labelled: int
    points: tuple[Point, ...]
    subjects: Mapping[Place, Mapping[str, Subject]]
    threshold: float
    k: int
    notes: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    gaps: tuple[Point, ...] = ()
    weak: WeakSegments | None = None
    reference: Findings | None = field(default=None, repr=False)

    def __getitem__(self, metric: str) -> Point:
        """The value of a metric in all rows."""
        if metric not in self.whole:
            hint = did_you_mean(metric, self.whole, "there are")
            raise KeyError(f'there is no metric "{metric}" of {self.task} predictions; {hint}')
        return self.whole[metric]

    @cached_property
    def whole(self) -> dict[str, Point]:
        """The metrics of all rows."""
        return {p.metric: p for p in self.points if p.segment == ALL and p.window == NEVER}

    @cached_property
    def by_segment(self) -> dict[str, dict[str, Point]]:
        """The metrics of each segment."""
        found: dict[str, dict[str, Point]] = {}
        for p in self.points:
            if p.segment != ALL:
                found.setdefault(p.segment, {})[p.metric] = p
        return found

    @cached_property
    def over_time(self) -> dict[str, list[Point]]:
        """Each metric over time."""
        found: dict[str, list[Point]] = {}
        for p in self.points:
            if p.window != NEVER:
                found.setdefault(p.metric, []).append(p)
        return found

    @property
    def coverage(self) -> float:
        """The share of rows that have a label."""
        return self.labelled / self.rows if self.rows else 0.0

    @cached_property
    def estimated(self) -> dict[str, Point]:
        """What metrics of all rows are estimated to be, by the metric; none where all rows have labels."""
        start = len(ESTIMATED)
        return {
            name[start:]: point
            for name, point in self.whole.items()
            if name.startswith(ESTIMATED) and point.value is not None
        }

    @property
    def headlines(self) -> list[Point]:
        """The metrics that are told first, those of them that have a value; estimates where none is realised."""
        found = [self.whole[name] for name in HEADLINES[self.task] if name in self.whole]
        told = [point for point in found if point.value is not None]
        return told or [self.estimated[name] for name in HEADLINES[self.task] if name in self.estimated]

    @property
    def matrix(self) -> Matrix | None:
        """How many rows of each class were predicted as which, of a multi-class task."""
        own = self.subjects.get((ALL, NEVER), {}).get("prediction")
        return multiclass.matrix(own.labelled) if own is not None and self.task == Task.MULTICLASS else None

    def before(self, metric: str) -> Point | None:
        """What a metric, or what is estimated here, was in the reference."""
        return self.reference.whole.get(metric.removeprefix(ESTIMATED)) if self.reference else None

    def change(self, metric: str) -> Estimate | None:
        """How much a metric has changed since the reference, with its interval; of an estimate, since what was realised
        there."""
        before = self.before(metric)
        if before is None or metric not in self.whole:
            return None
        now, then = (Estimate(p.value, p.low, p.high, p.n) for p in (self.whole[metric], before))
        return difference(now, then)

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain data that JSON can carry."""
        found: dict[str, Any] = {
            "task": self.task,
            "why": self.why,
            "rows": self.rows,
            "labelled": self.labelled,
            "notes": list(self.notes),
            "points": [_plain(point) for point in self.points],
            "gaps": [_plain(point) for point in self.gaps],
        }
        if (matrix := self.matrix) is not None:
            found["confusion"] = {
                "classes": list(matrix.classes),
                "counts": matrix.counts.astype(int).tolist(),
                "other predictions": matrix.outside.astype(int).tolist(),
            }
        if self.weak is not None:
            found["weak segments"] = self.weak.to_dict()
        if self.reference is not None:
            found["reference"] = self.reference.to_dict()
        return found

    def to_json(self) -> str:
        return json.dumps(self.to_dict(), indent=2, allow_nan=False)

    def save_json(self, path: str | Path) -> None:
        """Write everything as JSON. Raises DataError where it cannot be written."""
        write(path, self.to_json() + "\n")


def _plain(point: Point) -> dict[str, Any]:
    timed = point.window != NEVER
    return {
        "metric": point.metric,
        "segment": point.segment,
        "start": point.window.start.isoformat() if timed else None,
        "end": point.window.end.isoformat() if timed else None,
        "value": point.value,
        "low": point.low,
        "high": point.high,
        "n": point.n,
        "coverage": point.coverage,
        "detail": {
            name: value for name, value in point.detail.items() if not isinstance(value, float) or math.isfinite(value)
        },
    }
