"""How good predictions were: every metric of their task with its interval, in all rows, in segments and over time.

evaluation = watchkeeper.evaluate("predictions.parquet", "outcomes.parquet", segments=["country"])
evaluation["auc"].value
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from watchkeeper import monitors
from watchkeeper.comparison.tables import Side
from watchkeeper.costs import Costs, CostsConfig, check_classes
from watchkeeper.errors import ConfigError
from watchkeeper.evaluation import rows as reading
from watchkeeper.evaluation.counting import NEVER, Labels, Place, Ranked, Split, labels, plans, ranked, splits, subjects
from watchkeeper.evaluation.estimating import Learnt, audited_accuracy, by_rows, learn
from watchkeeper.evaluation.findings import ESTIMATED, HEADLINES, Findings
from watchkeeper.evaluation.report import report_of
from watchkeeper.evaluation.rows import MULTILABEL, RANKING, Rows
from watchkeeper.evaluation.searching import weakest
from watchkeeper.metrics import Metric, fits, of_task
from watchkeeper.metrics.fairness import between_groups
from watchkeeper.profiles import Profile, Subject
from watchkeeper.records import ALL, Point
from watchkeeper.report import glance, page
from watchkeeper.schema import Task
from watchkeeper.segments import is_named
from watchkeeper.stats import classes, confusion, ranking
from watchkeeper.stats.estimates import Estimate
from watchkeeper.store import sources
from watchkeeper.store.files import write
from watchkeeper.windows import parse_duration

ALPHA = 0.025
"""Error on each side of every interval."""
REFERENCE = "the reference"
Segments = Sequence[str | Sequence[str]]


class Evaluation(Findings):
    """What `evaluate` found: the attributes of `Findings`.

    It shows itself in a notebook, and writes itself as a report with `save_html` and as data with `save_json`.
    """

    def save_html(self, path: str | Path) -> None:
        """Write a report that opens in any browser, offline. Raises DataError where it cannot be written."""
        write(path, page(report_of(self), datetime.now(UTC)))

    def _repr_html_(self) -> str:
        return glance(report_of(self))


def evaluate(
    predictions: Any,
    outcomes: Any = None,
    *,
    task: str | None = None,
    score: str | Mapping[str, str] | None = None,
    prediction: str | None = None,
    label: str | None = None,
    positive: object = None,
    request_id: str | None = None,
    time: str | None = None,
    every: str | timedelta | None = None,
    segments: Segments = (),
    search: Sequence[str] = (),
    threshold: float = 0.5,
    costs: Costs | Mapping[str, float] | Mapping[str, Mapping[str, float]] | None = None,
    reference: Any = None,
    features: Sequence[str] = (),
    query: str | None = None,
    k: int = 10,
) -> Evaluation:
    """How good predictions were, by their labels.

    Args:
        predictions: a path to CSV or Parquet (a file, a folder or a glob), a pandas or Polars data frame, an Arrow
            table, a DuckDB relation or an Ibis table; it may be larger than memory, save for rankings.
        outcomes: the labels, where they lie apart, in any of these forms: joined by `request_id`. Of several labels of
            a request the one with the latest `known_at` counts.
        task: `binary`, `multiclass`, `regression`, `multilabel` (label and prediction are lists) or `ranking`. Without
            it, it is told from the columns, and `why` says how.
        score: the column of the score, "score" if not given; of a multi-class task a mapping of each class to its
            column, else the columns `score:CLASS`.
        prediction: the column of what was predicted, "prediction" if not given. A binary task without a score takes
            these as scores of 0 and 1.
        label: the column of the label, "label" if not given.
        positive: the label that means yes, where labels are not 0 and 1.
        request_id: the column that joins outcomes, "request_id" if not given.
        time: the column that says when each prediction was made, for metrics over time.
        every: how long each stretch of time is, such as "1d"; without it, as long as gives at most 60.
        segments: columns, or several to be crossed, to look within as well: `["country", ("country", "device")]`. The
            100 most frequent values are segments of their own, all others are one, and so are rows without a value.
        search: columns in whose crossings weak segments are searched for: values of one to three of them where more
            predictions are wrong, or further off, than elsewhere. The rows of these are held in memory.
        threshold: the score from which on a prediction is positive.
        costs: what decisions cost by how they turn out: `false_positive`, `false_negative`, and, if they are not free,
            `true_positive` and `true_negative`; of a multi-class task by label and prediction, such as
            `{"fraud": {"pass": 120}, "pass": {"fraud": 5}}`, where "(other)" stands for all that is not named.
        reference: other predictions of the same model with labels, to tell how much each metric has changed and, of
            binary, multi-class and regression predictions without labels or with some, what the metrics will be once
            all labels are known: `estimated_auc` is that of `auc`. Then no label needs to be known.
        features: columns of both that estimates heed as well, of binary predictions and of regressions, in samples of
            the rows; without them all is estimated from the scores, or from the predictions, alone.
        query: the column that tells the queries of a ranking apart; rows are ranked by `score`, and the label is the
            relevance.
        k: how many of the first rows of a ranking count.

    Every interval has error 2.5 % on each side. Numbers are binned as the engine bins them: scores on a grid of a
    thousand bins, errors on one fitted to them; what that leaves open is told in `detail` of the points, or is half a
    bin at most. Rows are taken as independent; of rankings, queries.

    Raises DataError where the data cannot be read or evaluated, ConfigError for settings that cannot be meant.
    """
    if not 0 < threshold < 1:
        raise ConfigError(f"threshold must lie between 0 and 1, found {threshold!r}")
    if not (isinstance(k, int) and k >= 1):
        raise ConfigError(f"k is how many of the first rows count, 1 or more; found {k!r}")
    if features and reference is None:
        raise ConfigError(
            "features are what estimates heed, and these need a reference; give labelled predictions as reference"
        )
    if every is not None and time is None:
        raise ConfigError("every says how long stretches of time are, and needs time, the column that says when")
    length = parse_duration(every) if isinstance(every, str) else every
    for name, columns in (("segments", segments), ("search", search), ("features", features)):
        if isinstance(columns, str):
            raise ConfigError(f'{name} must be a list of columns, found "{columns}"; write ["{columns}"]')
    by = [(columns,) if isinstance(columns, str) else tuple(columns) for columns in segments]
    what: Costs | None = None if costs is None else TypeAdapter(Costs).validate_python(costs)

    def one(
        data: Any,
        apart: Any,
        title: str,
        parted: list[tuple[str, ...]],
        searched: Sequence[str],
        before: Learnt | None,
    ) -> tuple[Evaluation, Learnt | None]:
        connection = sources.connect()
        try:
            side = Side(title, sources.read(connection, data, "predictions"))
            told = None if apart is None else Side("the outcomes", sources.read(connection, apart, "outcomes"))
            side = reading.joined(side, told, request_id, label or "label")
            columns = list(dict.fromkeys(name for names in parted for name in names))
            found = reading.typed(
                side, task=task, score=score, prediction=prediction, label=label, positive=positive,
                time=time if title != REFERENCE else None, query=query, by=columns,
                search=searched, features=features, like=before.rows if before else None,
            )  # fmt: skip
            return _evaluated(
                found,
                side.rows,
                parted,
                length,
                threshold,
                what,
                k,
                before,
                learnable=before is None and reference is not None,
            )
        finally:
            connection.disconnect()

    if reference is None:
        return one(predictions, outcomes, "the predictions", by, search, None)[0]
    then, learnt = one(reference, None, REFERENCE, [], (), None)
    return replace(one(predictions, outcomes, "the predictions", by, search, learnt)[0], reference=then)


def _evaluated(
    rows: Rows,
    n: int,
    segments: list[tuple[str, ...]],
    every: timedelta | None,
    threshold: float,
    costs: Costs | None,
    k: int,
    before: Learnt | None,
    *,
    learnable: bool,
) -> tuple[Evaluation, Learnt | None]:
    """Every metric of the rows, and what they teach if they are to.

    Args:
        before: what a reference teaches.
    """
    _check_costs(costs, rows)
    learnt = None
    parted = splits(rows, segments, every)
    counted: dict[Place, dict[str, Subject]] = {}
    points: list[Point] = []
    gaps: list[Point] = []
    if rows.task == MULTILABEL:
        of_labels = labels(rows, parted)
        labelled = of_labels[ALL, NEVER].labelled
        for part, of in of_labels.items():
            points += [_point(part, name, e, of.labelled / of.rows) for name, e in _of_labels(of).items()]
    elif rows.task == RANKING:
        labelled = n
        for part, of_part in ranked(rows, parted).items():
            points += [_point(part, name, e, None) for name, e in _of_ranking(of_part, k).items()]
    else:
        known = plans(rows, before.plans if before else None)
        counted = subjects(rows, parted, known, threshold, costs)
        column = {"binary": "score", "multiclass": "prediction"}.get(rows.task, "error")
        whole = counted[ALL, NEVER][column]
        labelled = monitors.labelled(column, whole)
        if rows.task == Task.BINARY and whole.current is not None:
            rows.notes.extend(reading.check_binary(rows, whole.current, labelled))
        if learnable:
            learnt = learn(rows, known, counted[ALL, NEVER])
        before = before if before is not None and labelled < n else None
        if before is not None:
            rows.notes.extend(before.notes)
            counted = {part: _with_baseline(own, before.whole) for part, own in counted.items()}
        better = (
            dict(by_rows(before, rows, parted, counted, partial(_wanted, rows.task, costs), ALPHA)) if before else {}
        )
        for part, own in counted.items():
            share = monitors.labelled(column, own[column]) / own[column].n if own[column].n else None
            found = _of_subjects(rows.task, own, costs) | (_estimates(rows.task, part, own, costs) if before else {})
            points += [_point(part, name, e, share) for name, e in {**found, **better.get(part, {})}.items()]
        gaps = _gaps(rows.task, segments, parted, counted)
    points.sort(key=lambda p: (p.window != NEVER, p.segment != ALL))
    return Evaluation(
        rows.task,
        rows.why,
        n,
        labelled,
        tuple(points),
        counted,
        threshold,
        k,
        tuple(rows.notes),
        rows.classes,
        tuple(gaps),
        weakest(rows, threshold) if labelled else None,
    ), learnt


def _with_baseline(own: Mapping[str, Subject], before: Mapping[str, Subject]) -> dict[str, Subject]:
    """What metrics are taken of, with the reference's labels."""
    nothing: dict[str, Profile] = {}
    return {
        column: replace(subject, baseline_labelled=before[column].labelled if column in before else nothing)
        for column, subject in own.items()
    }


def _wanted(task: str, costs: Costs | None, part: Place) -> dict[str, Metric]:
    """The metrics that are estimated of a part, and of all rows how far these were off."""
    first = {f"{ESTIMATED}{name}" for name in HEADLINES[task]}
    return {
        name: metric
        for name, metric in of_task(Task(task)).items()
        if metric.baseline_labels and (part == (ALL, NEVER) or name in first) and (costs or not metric.costs)
    }


def _estimates(task: str, part: Place, own: Mapping[str, Subject], costs: Costs | None) -> dict[str, Estimate]:
    """What metrics are estimated to be by counts: all in all rows, with how far they were off on the labelled ones, and
    in a part those that are told first."""
    found = {}
    for name, metric in _wanted(task, costs, part).items():
        if (column := metric.column) is not None and column in own:
            alpha = ALPHA / len(HEADLINES[task]) if metric.labels else ALPHA
            found[name] = metric.compute(_seen(metric, column, own), alpha)
    if task == Task.BINARY and part == (ALL, NEVER) and own["score"].labelled:
        found["audited_accuracy"] = audited_accuracy(own["score"], ALPHA)
    return found


def _check_costs(costs: Costs | None, rows: Rows) -> None:
    form = Task.BINARY if isinstance(costs, CostsConfig) else Task.MULTICLASS
    if costs is not None and rows.task != form:
        raise ConfigError(f"these costs are of a {form} task, and the task is {rows.task}; leave them out")
    if isinstance(costs, dict):
        check_classes(costs, rows.classes)


def _of_subjects(task: str, own: Mapping[str, Subject], costs: Costs | None) -> dict[str, Estimate]:
    found = {}
    for name, metric in of_task(Task(task)).items():
        column = metric.column
        if column is None or column not in own or not metric.labels or metric.needs_baseline or metric.groups:
            continue
        if metric.baseline_labels:
            continue
        if metric.costs and costs is None:
            continue
        found[name] = metric.compute(_seen(metric, column, own), ALPHA)
    return found


def _seen(metric: Metric, column: str, own: Mapping[str, Subject]) -> Subject:
    """What a metric looks at in one part."""
    beside = {other: s for other, s in own.items() if any(fits(other, wanted) for wanted in metric.beside)}
    return replace(own[column], beside=beside) if beside else own[column]


def _gaps(
    task: str,
    segments: Sequence[tuple[str, ...]],
    parted: Sequence[Split],
    counted: Mapping[Place, Mapping[str, Subject]],
) -> list[Point]:
    """How far the values of each of the segments' columns lie apart: by the metrics of groups, or without such by those
    that are told first."""
    known = of_task(Task(task))
    compared = [m for m in known.values() if m.groups] or [known[name] for name in HEADLINES[task] if name in known]
    found = []
    for columns, split in zip(segments, parted, strict=False):
        groups = {p[0]: counted[p] for p in split.parts if p is not None and p in counted and is_named(p[0])}
        for metric in compared:
            if (column := metric.column) is not None and all(column in own for own in groups.values()):
                each = {name: _seen(metric, column, own) for name, own in groups.items()}
                whole = replace(counted[ALL, NEVER][column], groups=each)
                apart = between_groups(metric, whole, ALPHA)
                found.append(_point((", ".join(columns), NEVER), metric.name, apart, None))
    return found


def _of_labels(found: Labels) -> dict[str, Estimate]:
    each = list(found.each.values())
    means = {"micro": classes.label_micro, "macro": classes.label_macro, "weighted": classes.label_weighted}
    of = {"precision": confusion.precision, "recall": confusion.recall, "f1": confusion.f1}
    return {
        **{f"{how}_{name}": mean(of[name], each, ALPHA) for how, mean in means.items() for name in of},
        "subset_accuracy": classes.subset_accuracy(found.right, found.labelled, ALPHA),
        "hamming_loss": classes.hamming_loss(each, ALPHA),
        **{f"F1 of {name}": confusion.f1(counts, ALPHA) for name, counts in found.each.items()},
    }


def _of_ranking(found: Ranked, k: int) -> dict[str, Estimate]:
    rows = ranking.Ranking.of(found.query, found.score, found.label)
    return {
        "ndcg": ranking.mean(ranking.ndcg(rows, k), ALPHA),
        "mean_average_precision": ranking.mean(ranking.average_precision(rows, k), ALPHA),
        "mean_reciprocal_rank": ranking.mean(ranking.reciprocal_rank(rows, k), ALPHA),
        "hit_rate": ranking.mean(ranking.hit_rate(rows, k), ALPHA),
        "precision_at_k": ranking.mean(ranking.precision(rows, k), ALPHA),
        "recall_at_k": ranking.mean(ranking.recall(rows, k), ALPHA),
        "click_through_rate": ranking.click_through_rate(rows, k, ALPHA),
    }


def _point(part: Place, metric: str, found: Estimate, coverage: float | None) -> Point:
    segment, window = part
    return Point(
        f"{metric}-{segment}-{window}", "", "", segment, "", metric, "", window, found.value, found.low, found.high,
        1 - ALPHA, found.n, found.n_baseline, coverage, found.detail, "", (),
    )  # fmt: skip
