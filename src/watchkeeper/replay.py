"""Replays: logged features through another version of a model, and what it would have answered instead.

The two versions are compared on the same rows: how their scores are spread, how often they agree, and, where labels are
known, which of them is better.
"""

from __future__ import annotations

import importlib.util
import json
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from watchkeeper.comparison import Comparison, compare
from watchkeeper.errors import DataError, ModelError
from watchkeeper.registry import VERSION, Registry, checked, resolve
from watchkeeper.stats.estimates import Estimate, mean, paired_difference, proportion
from watchkeeper.store import exports
from watchkeeper.store.files import write
from watchkeeper.training import log_losses

Scorer = Callable[[pa.Table], Any]
"""A model: from a table of features, one row each, to a probability of the positive class for each row."""

ALPHA = 0.025
"""The error on each side of the intervals: they are two-sided ones at 95 %."""
HOPELESS = 1000
"""So many rows that a model fails on, before any that it answers, end a replay."""
KEPT = ["request_id", "event_time", "version", "score", "label"]
CHANGED = 20
"""Requests that changed most which are told of."""
LONGEST = 300


@dataclass(frozen=True, slots=True)
class Failure:
    """A row that the new version gave no answer for, and why."""

    request_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class Change:
    """A request, with the score that was served and the new one."""

    request_id: str
    event_time: datetime
    version: str | None
    before: float
    after: float
    label: int | None


@dataclass(frozen=True, slots=True)
class Measure:
    """A metric of both versions on the labelled rows, and the new one's less the old one's on the same rows."""

    name: str
    before: Estimate
    after: Estimate
    difference: Estimate


@dataclass(frozen=True)
class Replay:
    """What came of a replay.

    Attributes:
        model: whose predictions were replayed; `version` is what the new version was called.
        question: which predictions, in words.
        rows: how many of them.
        failures: those that the new version failed on; they are in nothing else.
        unscored: those that had no score when they were served, which are compared with nothing.
        agreement: the share of the rows that both scored on which both answer the same.
        to_positive, to_negative: of the others, how many the new version answers with 1 and with 0.
        measures: log loss and accuracy, on the rows with a label.
        scores: the distribution of the new scores against that of the served ones.
    """

    model: str
    version: str
    question: str
    threshold: float
    rows: int
    failures: tuple[Failure, ...]
    unscored: int
    agreement: Estimate
    to_positive: int
    to_negative: int
    labelled: int
    measures: tuple[Measure, ...]
    scores: Comparison
    changed: tuple[Change, ...] = field(default=())

    @property
    def worse(self) -> bool:
        """Whether the new version is worse: its log loss is higher with confidence, or it failed on rows."""
        return bool(self.failures) or self._sure(1)

    def _sure(self, sign: int) -> bool:
        loss = self.measures[0].difference if self.measures else Estimate.absent(0)
        near = loss.low if sign > 0 else loss.high
        return near is not None and sign * near > 0

    @cached_property
    def verdict(self) -> str:
        if self.failures:
            return "Worse: it fails."
        if not self.labelled:
            return "Not judged: no labels."
        return "Worse." if self._sure(1) else "Better." if self._sure(-1) else "No difference shown."

    @property
    def sentences(self) -> tuple[str, ...]:
        """What was found, what matters most first."""
        told = []
        if self.failures:
            first = self.failures[0]
            told.append(
                f"It failed on {len(self.failures):,} of {self.rows:,} rows, first on request {first.request_id}:"
                f" {first.reason}."
            )
        for measure in self.measures:
            change = measure.difference
            told.append(
                f"{measure.name.capitalize()} {show(measure.before.value)} became {show(measure.after.value)}:"
                f" {show_interval(change, signed=True)}."
            )
        told.append(
            f"{self.agreement.value:.1%} of {self.agreement.n:,} answers stay; {self.to_positive:,} turn to 1 and"
            f" {self.to_negative:,} to 0, at the threshold {self.threshold:g}."
        )
        return tuple(told)

    @property
    def summary(self) -> str:
        return " ".join(self.sentences)

    def to_dict(self) -> dict[str, Any]:
        """Everything, as plain values that JSON can carry."""
        return {
            "model": self.model,
            "version": self.version,
            "question": self.question,
            "worse": self.worse,
            "verdict": self.verdict,
            "summary": self.summary,
            "rows": self.rows,
            "unscored": self.unscored,
            "failures": [{"request_id": f.request_id, "reason": f.reason} for f in self.failures],
            "threshold": self.threshold,
            "agreement": _plain(self.agreement),
            "to_positive": self.to_positive,
            "to_negative": self.to_negative,
            "labelled": self.labelled,
            "measures": {
                m.name: {"before": _plain(m.before), "after": _plain(m.after), "difference": _plain(m.difference)}
                for m in self.measures
            },
            "changed": [
                {
                    "request_id": c.request_id,
                    "event_time": c.event_time.isoformat(),
                    "version": c.version,
                    "before": c.before,
                    "after": c.after,
                    "label": c.label,
                }
                for c in self.changed
            ],
            "scores": self.scores.to_dict(),
        }

    def to_json(self) -> str:
        return json.dumps(self.to_dict(), indent=2, ensure_ascii=False, allow_nan=False)

    def save_json(self, path: str | Path) -> None:
        """Write `to_dict` as JSON. Raises DataError where that cannot be written."""
        write(path, self.to_json() + "\n")


def show(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def show_interval(estimate: Estimate, *, signed: bool = False) -> str:
    """`+0.0123 (0.0010 to 0.0236)`: the value and its interval."""
    if estimate.value is None:
        return "–"
    value = f"{estimate.value:+.4f}" if signed else show(estimate.value)
    return f"{value} ({show(estimate.low)} to {show(estimate.high)})".replace("-", "−")


def _plain(estimate: Estimate) -> dict[str, Any]:
    return {"value": estimate.value, "low": estimate.low, "high": estimate.high, "n": estimate.n}


# the model


def load(name: str, registry: Registry, model: str) -> Scorer:
    """A version of a model by name: `v2` of the registry, `path/to/file.py:name` or `package.module:name`.

    What the name stands for is a function from a table of features to scores, or an object whose `scores` is one.
    Raises ModelError where there is no such.
    """
    if VERSION.fullmatch(name):
        return registry.load(model, name).scores
    place, _, attribute = name.rpartition(":")
    if not place or not attribute:
        raise ModelError(
            f'"{name}" names no model: write a version of the registry such as v2, path/to/file.py:name, or'
            " package.module:name"
        )
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    found = getattr(_module(Path(place)), attribute, None) if place.endswith(".py") else resolve(name)
    scores = getattr(found, "scores", found)
    if not callable(scores) or isinstance(found, type):
        raise ModelError(
            f'"{name}" is {"not there" if found is None else f"a {type(found).__name__}"}; it must be a function that'
            " takes a pyarrow Table of features and gives a score for each row, or an object whose method scores does"
        )
    return scores  # type: ignore[no-any-return]


def _module(path: Path) -> Any:
    if not path.is_file():
        raise ModelError(f"there is no file {path}; name one that defines the model")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(path.parent.resolve()))
    try:
        spec.loader.exec_module(module)
    except Exception as problem:
        raise ModelError(f"{path} cannot be loaded: {type(problem).__name__}: {problem}; mend it") from problem
    return module


class _Asked:
    """A model that is asked about rows: how many it `answered`, and its `failures`.

    Where it fails on many rows at once, they are asked in ever smaller parts, until it is known on which it fails.
    """

    def __init__(self, scorer: Scorer) -> None:
        self._scorer = scorer
        self.answered = 0
        self.failures: list[Failure] = []

    def scores(self, features: pa.Table, ids: list[str]) -> NDArray[np.float64]:
        """A score for each row, NaN where the model failed. ModelError once it has failed on many and answered none."""
        try:
            found = checked(self._scorer(features), features.num_rows)
        except Exception as problem:  # noqa: BLE001 (a model is foreign code; whatever it raises is told of its row)
            if features.num_rows > 1:
                half = features.num_rows // 2
                parts = [(features.slice(0, half), ids[:half]), (features.slice(half), ids[half:])]
                return np.concatenate([self.scores(*part) for part in parts])
            said = next(iter(str(problem).splitlines()), "")
            self.failures.append(Failure(ids[0], f"{type(problem).__name__}: {said}"[:LONGEST]))
            if len(self.failures) >= HOPELESS:
                self.check()
            return np.array([math.nan])
        self.answered += len(found)
        return found

    def check(self) -> None:
        """Raise ModelError if it failed on all it was asked."""
        if self.failures and not self.answered:
            first = self.failures[0]
            raise ModelError(
                f"the model fails on each of the first {len(self.failures):,} predictions; on request"
                f" {first.request_id} with {first.reason}. Mend it, or check that it takes the logged features"
            )


# the replay


def replay(batches: pa.RecordBatchReader, scorer: Scorer, version: str) -> Replay:
    """Give logged predictions to another version of their model.

    Args:
        batches: an answer of the log, or an export; its schema says what it is.
        scorer: the new version; it gets the features as they are in the log.
        version: what to call it.

    Raises DataError where there is nothing to compare, ModelError where the model fails on everything.
    """
    about, features = exports.about(batches.schema), exports.features(batches.schema)
    kept: list[pa.Table] = []
    asked = _Asked(scorer)
    for batch in batches:
        rows = pa.table(batch)
        if rows.num_rows:
            found = asked.scores(_as_logged(rows.select(features)), rows["request_id"].to_pylist())
            kept.append(rows.select(KEPT).append_column("after", pa.array(found)))
    if not kept:
        raise DataError("no prediction is as asked for, so there is nothing to replay; ask for others")
    asked.check()
    rows = pa.concat_tables(kept)
    before, after = (rows[name].to_numpy().astype(float) for name in ("score", "after"))
    both = np.isfinite(before) & np.isfinite(after)
    if not both.any():
        raise DataError("none of the predictions has a score of both versions, so there is nothing to compare")
    threshold, label = float(about["threshold"]), rows["label"].to_numpy().astype(float)
    old, new = before[both], after[both]
    positive, was = new >= threshold, old >= threshold
    labelled = both & np.isfinite(label)
    return Replay(
        model=about["model"],
        version=version,
        question=about["question"],
        threshold=threshold,
        rows=rows.num_rows,
        failures=tuple(asked.failures),
        unscored=int((~np.isfinite(before)).sum()),
        agreement=proportion(int((positive == was).sum()), len(old), ALPHA),
        to_positive=int((positive & ~was).sum()),
        to_negative=int((~positive & was).sum()),
        labelled=int(labelled.sum()),
        measures=_measures(label[labelled], before[labelled], after[labelled], threshold),
        scores=compare(pa.table({"score": old}), pa.table({"score": new}), columns=["score"]),
        changed=_changed(rows, both, np.abs(after - before)),
    )


def _as_logged(features: pa.Table) -> pa.Table:
    """The features in the types that models are trained on: moments in UTC without saying so."""
    kinds = [pa.timestamp("us") if pa.types.is_timestamp(f.type) else f.type for f in features.schema]
    return features.cast(pa.schema(zip(features.schema.names, kinds, strict=True)))


def _measures(label: Any, before: Any, after: Any, threshold: float) -> tuple[Measure, ...]:
    if not len(label):
        return ()
    losses = [log_losses(label, score) for score in (before, after)]
    right = [(score >= threshold) == (label == 1) for score in (before, after)]
    gained, lost = int((right[1] & ~right[0]).sum()), int((right[0] & ~right[1]).sum())
    return (
        Measure("log loss", _mean(losses[0]), _mean(losses[1]), _mean(losses[1] - losses[0])),
        Measure(
            "accuracy",
            proportion(int(right[0].sum()), len(label), ALPHA),
            proportion(int(right[1].sum()), len(label), ALPHA),
            paired_difference(gained, lost, len(label), ALPHA),
        ),
    )


def _mean(values: Any) -> Estimate:
    return mean(float(values.sum()), float((values**2).sum()), len(values), ALPHA)


def _changed(rows: pa.Table, both: Any, moved: Any) -> tuple[Change, ...]:
    """The requests whose score moved most, those with the largest first."""
    order = np.argsort(-np.where(both, moved, -1.0), kind="stable")[:CHANGED]
    chosen = rows.take(order[both[order] & (moved[order] > 0)])
    return tuple(
        Change(row["request_id"], row["event_time"], row["version"], row["score"], row["after"], row["label"])
        for row in chosen.to_pylist()
    )
