"""An evaluation as a report: every metric with its interval, then curves, classes, segments and time."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from watchkeeper import charts, words
from watchkeeper.charts.figures import Figure
from watchkeeper.evaluation.counting import NEVER
from watchkeeper.evaluation.findings import ESTIMATED, HEADLINES, Findings
from watchkeeper.metrics import METRICS, multiclass
from watchkeeper.records import ALL, Point
from watchkeeper.report import Cell, Column, Report, Row, Table
from watchkeeper.schema import Task
from watchkeeper.stats import calibration, classes, confusion
from watchkeeper.stats.confusion import Confusion
from watchkeeper.stats.estimates import Estimate
from watchkeeper.stats.grid import Floats
from watchkeeper.stats.scores import Scores, precision_recall_band, roc_band

ALPHA = 0.025
TOLD = 3
"""So many metrics are told of each segment, and drawn over time."""
MOST_CURVES, MOST_CELLS = 6, 20
LONG = 60
ERROR, AUDITED = "_estimation_error", "audited_"
FEW_OUTSIDE = 0.01

TITLES = {
    "ndcg": "NDCG", "mean_average_precision": "mean average precision", "mean_reciprocal_rank": "mean reciprocal rank",
    "hit_rate": "hit rate", "precision_at_k": "precision", "recall_at_k": "recall",
    "click_through_rate": "click-through rate", "subset_accuracy": "all labels right", "hamming_loss": "Hamming loss",
}  # fmt: skip


def title_of(found: Findings, metric: str) -> str:
    """What a metric is called; of a ranking with the number of rows that count."""
    if metric.startswith(ESTIMATED) and metric not in METRICS:
        return f"estimated {title_of(found, metric.removeprefix(ESTIMATED))}"
    if metric in TITLES:
        return TITLES[metric] + (f" at {found.k}" if found.task == "ranking" else "")
    return words.metric_title(metric)


def verdict_of(found: Findings) -> tuple[str, str]:
    """The first metric, and all about the rows, in words."""
    first = next(iter(found.headlines), None)
    labelled = f"{found.labelled:,} of {found.rows:,} rows have a label" if found.labelled < found.rows else ""
    rows = labelled or f"all {found.rows:,} rows have a label"
    if not found.labelled:
        rows = f"none of the {found.rows:,} rows has a label, so all is estimated from the reference's"
    kind = {"multiclass": "multi-class", "multilabel": "multi-label"}.get(found.task, found.task)
    told = f"{kind} predictions, {found.why}; {rows}"
    if first is None:
        return "No metric has a value.", f"{told[:1].upper()}{told[1:]}."
    title = title_of(found, first.metric)
    value = f"{title[:1].upper()}{title[1:]} {words.measured(first.value, first.metric)}"
    between = words.interval(first.low, first.high, first.metric)
    bounds = f"Between {between.replace(' to ', ' and ')}. " if between != words.NONE else ""
    return f"{value}.", f"{bounds}{told[:1].upper()}{told[1:]}."


def report_of(found: Findings) -> Report:
    """The report on an evaluation."""
    verdict, summary = verdict_of(found)
    parts = [
        part
        for part in (
            _estimated(found),
            _curves(found),
            _classes(found),
            _segments(found),
            _groups(found),
            _weak(found),
            _time(found),
        )
        if part is not None
    ]
    return Report(
        title="Evaluation of predictions",
        tone="quiet",
        verdict=verdict,
        summary=summary,
        assurance="Each interval holds the true value with 95 % confidence, for rows like these.",
        facts=tuple(_fact(found, point) for point in found.headlines[:6]),
        findings=(),
        overview=_overview(found),
        columns=tuple(parts),
        undrawn=0,
        notes=tuple(_notes(found)),
        footer=(
            "Rows are taken as independent (of rankings, queries): many rows of one person or one hour count for more"
            " than they say. Scores and errors are counted in fine bins. All times are UTC."
        ),
        heading="In detail",
        thing="metric",
    )


def _fact(found: Findings, point: Point) -> tuple[str, str]:
    title = title_of(found, point.metric)
    return title[:1].upper() + title[1:], words.measured(point.value, point.metric)


def _overview(found: Findings) -> Table:
    compared = found.reference is not None
    header = [
        "Metric",
        "Value",
        "95 % interval",
        "Rows",
        *(["Reference", "Change", "95 % interval"] if compared else []),
    ]
    rows = []
    for point in _ordered(found):
        cells = [title_of(found, point.metric), *_measured(point), f"{point.n:,}"]
        if found.reference is not None:
            change, before = found.change(point.metric), found.before(point.metric)
            cells.append(words.measured(before.value if before else None, point.metric))
            cells += [words.NONE, words.NONE] if change is None else _change(change, point.metric)
        rows.append(Row("quiet", tuple(map(Cell, cells))))
    numbers = frozenset(range(1, len(header)))
    return Table("Metrics", tuple(header), numbers, tuple(rows))


def _ordered(found: Findings) -> list[Point]:
    """All realised metrics of all rows, the headlines first, those without a value last; estimates without labels."""
    first, sides = HEADLINES[found.task], _estimates(found)
    if not found.labelled:
        return sides
    of_labels = [p for p in found.whole.values() if not _is_estimate(p.metric)]
    return sorted(
        of_labels,
        key=lambda p: (p.value is None, first.index(p.metric) if p.metric in first else len(first)),
    )


def _is_estimate(metric: str) -> bool:
    return metric.startswith((ESTIMATED, AUDITED)) or metric.endswith(ERROR)


def _estimates(found: Findings) -> list[Point]:
    """The estimates of all rows, the headlines first."""
    first = [name for name in HEADLINES[found.task] if name in found.estimated]
    return [found.estimated[name] for name in dict.fromkeys([*first, *found.estimated])]


def _estimated(found: Findings) -> Column | None:
    """What is estimated of all rows beside what is realised of those with a label, and how far estimates were off."""
    if not found.estimated:
        return None
    header = ["Metric", "Estimated, all rows", "95 % band"]
    if found.labelled:
        header += ["Realised, labelled rows", "95 % interval", "Estimate off by, labelled rows", "Interval"]
    rows = []
    off = []
    for point in _estimates(found):
        name = point.metric.removeprefix(ESTIMATED)
        title = title_of(found, name)
        cells = [title[:1].upper() + title[1:], *_measured(point)]
        if found.labelled:
            error = found.whole.get(f"{name}{ERROR}")
            cells += _measured(found.whole[name]) if name in found.whole else [words.NONE] * 2
            cells += _change(error, name) if error else [words.NONE] * 2
            off += [title] if error is not None and error.detail.get("held") is False else []
        rows.append(Row("quiet", tuple(map(Cell, cells))))
    note = "The intervals of what estimates were off by hold for all metrics at once." if found.labelled else ""
    table = Table("Estimated", tuple(header), frozenset(range(1, len(header))), tuple(rows), note)
    return Column(
        "estimated", "Estimated without labels", "warn" if off else "quiet", "", "from a labelled reference",
        tuple(_said_of_estimates(found, off)), (), (table,) if found.labelled else (),
    )  # fmt: skip


def _said_of_estimates(found: Findings, off: list[str]) -> Iterator[str]:
    """What the estimates assume, and whether the labelled rows contradict that."""
    first = _estimates(found)[0]
    features = first.detail.get("features")
    of = "from counts of all rows' scores"
    if features is not None:
        beside = f" and {words.count(features, 'feature')}" if features else ""
        said = "prediction" if found.task == Task.REGRESSION else "score"
        of = f"from samples of the rows, by {said}{beside}"
    yield (
        f"Metrics of all {found.rows:,} rows once their labels are known, {of}: right where such rows turn out as they"
        " did in the reference. No estimate sees a change of that before there are labels."
    )
    if off:
        yield (
            f"Do not trust them: of the labelled rows {', '.join(off)} came out beyond what was estimated, so such"
            " rows do not turn out as in the reference any more."
        )
    for name, audited in found.whole.items():
        if name.startswith(AUDITED) and audited.value is not None:
            of = name.removeprefix(AUDITED)
            yield (
                f"If the labelled rows are a random sample of all, the {title_of(found, of)} of all is"
                f" {words.measured(audited.value, of)}"
                f" ({words.interval(audited.low, audited.high, of)}), whatever has changed."
            )
    outside = max(point.detail.get("outside", 0.0) for point in _estimates(found))
    if outside > FEW_OUTSIDE:
        yield f"{words.share(outside)} of the rows have scores beyond all of the reference's; the bands allow for that."


def _change(point: Point | Estimate, metric: str) -> list[str]:
    return [
        words.measured(point.value, metric, relative="difference"),
        words.interval(point.low, point.high, metric, relative="difference"),
    ]


def _measured(point: Point) -> list[str]:
    return [words.measured(point.value, point.metric), words.interval(point.low, point.high, point.metric)]


def _curves(found: Findings) -> Column | None:
    own = found.subjects.get((ALL, NEVER), {})
    if found.task == Task.BINARY:
        scores = {"all rows": own["score"].scores}
    else:
        scores = {name: subject.scores for name, subject in own.items() if name.startswith("score:")}
        scores = {name.removeprefix("score:"): one for name, one in [*scores.items()][:MOST_CURVES]}
    scores = {name: one for name, one in scores.items() if one.n}
    if not scores:
        return None
    note = "" if found.task == Task.BINARY else "each class against all others"
    return Column("curves", "Curves", "quiet", "", note, (), _drawn(scores), ())


def _drawn(scores: dict[str, Scores]) -> tuple[Figure, ...]:
    return (
        charts.roc({name: roc_band(one, ALPHA) for name, one in scores.items()}),
        charts.precision_recall({name: precision_recall_band(one, ALPHA) for name, one in scores.items()}),
        charts.reliability({name: calibration.by_mass(one, ALPHA) for name, one in scores.items()}),
    )


def _classes(found: Findings) -> Column | None:
    own = found.subjects.get((ALL, NEVER), {})
    if not found.labelled:
        return None
    if found.task == Task.BINARY:
        counts = Confusion.at(own["score"].scores, found.threshold)
        four = [[counts.true_negatives, counts.false_positives], [counts.false_negatives, counts.true_positives]]
        figure = charts.confusion(["negative", "positive"], np.array(four, dtype=float))
        return Column(
            "classes", "Right and wrong", "quiet", "", f"at the threshold {found.threshold:g}", (), (figure,), ()
        )
    if found.task != Task.MULTICLASS:
        return None
    matrix = multiclass.matrix(own["prediction"].labelled)
    shown: Floats = matrix.counts
    if matrix.outside.any():
        shown = np.column_stack([matrix.counts, matrix.outside])
    measures = {"Precision": confusion.precision, "Recall": confusion.recall, "F1": confusion.f1}
    each = {title: classes.per_class(matrix, measure, ALPHA) for title, measure in measures.items()}
    rows: list[Row] = []
    for i, name in enumerate(matrix.classes):
        cells: list[str] = [words.shortened(name, LONG), f"{int(matrix.support[i]):,}"]
        for title in measures:
            one = each[title][name]
            cells += [words.share(one.value), words.interval(one.low, one.high, "accuracy")]
        rows.append(Row("quiet", tuple(map(Cell, cells))))
    header = ["Class", "Rows", *(cell for title in measures for cell in (title, "95 % interval"))]
    table = Table("Class by class", tuple(header), frozenset(range(1, len(header))), tuple(rows))
    figures = (charts.confusion(matrix.classes, shown),) if len(matrix.classes) <= MOST_CELLS else ()
    return Column("classes", "Classes", "quiet", "", f"{len(rows):,} classes", (), figures, (table,))


def _segments(found: Findings) -> Column | None:
    if not found.by_segment:
        return None
    told = [point.metric for point in found.headlines[:TOLD]]
    rows = []
    for name, own in found.by_segment.items():
        most = max(point.n for point in own.values() if not (found.labelled and _is_estimate(point.metric)))
        cells = [words.shortened(name, LONG), f"{most:,}"]
        for metric in told:
            cells += _measured(own[metric])
        rows.append(Row("quiet", tuple(map(Cell, cells))))
    titles = [title_of(found, metric) for metric in told]
    header = [
        "Segment",
        "Labelled rows" if found.labelled else "Rows",
        *(cell for t in titles for cell in (t[:1].upper() + t[1:], "95 % interval")),
    ]
    table = Table("Segment by segment", tuple(header), frozenset(range(1, len(header))), tuple(rows))
    return Column("segments", "Segments", "quiet", "", words.count(len(rows), "segment"), (), (), (table,))


def _groups(found: Findings) -> Column | None:
    """How far groups lie apart, where two can be compared at all."""
    rows = []
    for point in found.gaps:
        if point.value is None:
            continue
        title = title_of(found, point.metric)
        between = (words.shortened(point.detail[end], LONG) for end in ("lowest", "highest"))
        cells = (point.segment, title[:1].upper() + title[1:], *_measured(point), *between, f"{point.detail['groups']}")
        rows.append(Row("quiet", tuple(map(Cell, cells))))
    if not rows:
        return None
    header = ("Groups of", "What differs", "By", "95 % interval", "Least in", "Greatest in", "Compared")
    table = Table("The groups that lie furthest apart", header, frozenset((2, 3, 6)), tuple(rows))
    return Column("groups", "Groups", "quiet", "", words.count(len(rows), "gap"), (), (), (table,))


def _weak(found: Findings) -> Column | None:
    """Where predictions are worse than elsewhere, what it costs most first."""
    if found.weak is None or not found.weak.segments:
        return None
    error, metric = ("Mean absolute error", "mae") if found.task == Task.REGRESSION else ("Wrong", "accuracy")
    rows = []
    for one in found.weak.segments:
        worse = words.measured(one.worse.value, metric, relative="difference")
        between = words.interval(one.worse.low, one.worse.high, metric, relative="difference")
        values = (words.measured(side.value, metric) for side in (one.loss, one.rest))
        rows.append(Row("quiet", tuple(map(Cell, (one.segment, f"{one.n:,}", *values, worse, between)))))
    header = ("Segment", "Rows", error, "Elsewhere", "Worse by", "Interval")
    table = Table("Where predictions are worse", header, frozenset(range(1, 6)), tuple(rows))
    return Column("weak", "Weak segments", "quiet", "", words.count(len(rows), "segment"), (), (), (table,))


def _notes(found: Findings) -> Iterator[tuple[str, tuple[str, ...]]]:
    if found.notes:
        yield "Left out", found.notes
    if found.weak is not None:
        searched = words.count(len(found.weak.columns), "column")
        if not found.weak.segments:
            yield "Weak segments", (f"none in the crossings of {searched}",)
        if found.weak.skipped:
            yield "Not searched", tuple(f"{name}: {why}" for name, why in found.weak.skipped.items())


def _time(found: Findings) -> Column | None:
    told = [point.metric for point in found.headlines if point.metric in found.over_time][:TOLD]
    if not told:
        return None
    figures = [_drawn_over_time(found, metric) for metric in told]
    points = found.over_time[told[0]]
    estimates = {point.window: point for point in found.over_time.get(f"{ESTIMATED}{told[0]}", ())}
    labelled = [(point.window.start, point.coverage) for point in points]
    if any(share is not None and share < 1 for _, share in labelled):
        figures.append(charts.values_over_time(labelled, "Rows that have a label", "labelled", share=True))
    rows = [
        Row(
            "quiet",
            tuple(
                map(
                    Cell,
                    (
                        words.window(p.window),
                        f"{p.n:,}",
                        words.share(p.coverage),
                        *_measured(p),
                        *(_measured(estimates[p.window]) if estimates else ()),
                    ),
                )
            ),
        )
        for p in points
    ]
    title = title_of(found, told[0])
    header = ["Stretch of time", "Rows", "Labelled", title[:1].upper() + title[1:], "95 % interval"]
    header += ["Estimated, all rows", "95 % band"] if estimates else []
    table = Table("By time", tuple(header), frozenset(range(1, len(header))), tuple(rows))
    return Column("time", "Over time", "quiet", "", f"{len(points):,} stretches of time", (), tuple(figures), (table,))


def _drawn_over_time(found: Findings, metric: str) -> Figure:
    title = title_of(found, metric)
    title, realised = title[:1].upper() + title[1:], found.over_time[metric]
    if estimated := found.over_time.get(f"{ESTIMATED}{metric}"):
        return charts.realised_and_estimated(realised, estimated, title)
    return charts.metric_over_time(realised, title=title)
