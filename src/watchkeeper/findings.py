"""What a comparison of two tables found: each look in words, and the whole as a report, JSON or terminal text."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from watchkeeper import charts, report, words
from watchkeeper.baselines import write
from watchkeeper.metrics import METRICS
from watchkeeper.profiles import Subject
from watchkeeper.records import Reason, Status

MISSING = "missing_column"
"""The metric of a column that the current data lacks."""


@dataclass(frozen=True, slots=True)
class Look:
    """One metric of one column, held to one limit.

    Attributes:
        segment: "" for all rows; there are no others yet.
        value, low, high: the metric and the interval of its true value; None where it has none.
        limit: None for a column that is missing, which nothing limits.
        direction, relative: as in a monitor.
        status, reason: what was found, and why, as a sentence.
        detail: what the metric says beside its value, such as the new categories.
    """

    column: str
    segment: str
    metric: str
    monitor: str
    value: float | None
    low: float | None
    high: float | None
    limit: float | None
    direction: str
    relative: str | None
    n_current: int
    n_baseline: int
    status: Status
    reason: str
    detail: Mapping[str, Any]

    @property
    def breach(self) -> bool:
        return self.status is Status.BREACH

    @property
    def sentence(self) -> str:
        """What was found, in words: `the values moved by 0.61 standard deviations on average (0.57 to 0.65; allowed
        up to 0.1)`."""
        if self.metric == MISSING:
            return self.reason
        return f"{_said(self)} ({self.figures})"

    @property
    def figures(self) -> str:
        value = _allowed(self)
        limit = f"up to {value}" if self.direction == "above" else f"from {value} on"
        if self.low is None or self.high is None:
            return f"allowed {limit}"
        interval = words.interval(self.low, self.high, self.metric, self.column, self.relative)
        return f"{self.relative or ''} {interval}; allowed {limit}".lstrip()

    def to_dict(self) -> dict[str, Any]:
        """As JSON can carry it."""
        return {
            "column": self.column,
            "segment": self.segment,
            "metric": self.metric,
            "value": _finite(self.value),
            "low": _finite(self.low),
            "high": _finite(self.high),
            "limit": _finite(self.limit),
            "n_current": self.n_current,
            "n_baseline": self.n_baseline,
            "breach": self.breach,
            "reason": self.reason,
        }


@dataclass(frozen=True, repr=False)
class Comparison:
    """What `compare` found.

    Attributes:
        points: every look that was taken, breaches first, then by column as the reference has them.
        skipped: columns (and monitors of a configuration) that were left out, with the reason.
        extra_columns: columns that only the current data has. They are no breach.
        rows, reference_rows: how many rows each side has.
        false_alarms: the probability that any of the looks breaches though nothing changed, at most.
        config: the name (a hash) of the configuration that was used; equal for equal columns and monitors.
        subjects: the counts behind each compared column.
    """

    points: tuple[Look, ...]
    skipped: Mapping[str, str]
    extra_columns: tuple[str, ...]
    rows: int
    reference_rows: int
    false_alarms: float
    config: str
    subjects: Mapping[str, Subject]

    @property
    def breaches(self) -> tuple[Look, ...]:
        return tuple(look for look in self.points if look.breach)

    @property
    def healthy(self) -> bool:
        """True if no limit is breached. That is no proof that nothing changed: few rows prove little."""
        return not self.breaches

    @property
    def summary(self) -> str:
        """The whole in one or two sentences."""
        looked = {look.column for look in self.points}
        changed = list(dict.fromkeys(look.column for look in self.breaches))
        if changed:
            names = ", ".join(changed[:5]) + (f" and {len(changed) - 5} more" if len(changed) > 5 else "")
            return f"{len(changed)} of {words.count(len(looked), 'column')} breach a limit: {names}."
        judged = sum(look.status is Status.HEALTHY for look in self.points)
        text = f"No limit is breached: {words.count(judged, 'look')} at {words.count(len(looked), 'column')}."
        unsure = sum(look.reason == Reason.NOT_CONFIDENT.sentence for look in self.points)
        if unsure:
            text += f" {words.count(unsure, 'value')} outside the limit, but not with confidence: more rows would tell."
        if judged < len(self.points):
            text += f" {words.count(len(self.points) - judged, 'look')} could not be judged."
        return text

    def to_dict(self) -> dict[str, Any]:
        """Everything but the counts, as plain values that JSON can carry."""
        return {
            "healthy": self.healthy,
            "summary": self.summary,
            "breaches": [look.to_dict() for look in self.breaches],
            "points": [look.to_dict() for look in self.points],
            "config": self.config,
            "skipped": dict(self.skipped),
            "extra_columns": list(self.extra_columns),
            "rows": {"reference": self.reference_rows, "current": self.rows},
            "false_alarms": self.false_alarms,
        }

    def to_json(self) -> str:
        return json.dumps(self.to_dict(), indent=2, ensure_ascii=False, allow_nan=False)

    def save_json(self, path: str | Path) -> None:
        """Write `to_dict` as JSON. Raises DataError where that cannot be written."""
        write(path, self.to_json() + "\n")

    def save_html(self, path: str | Path) -> None:
        """Write a report that opens in any browser, offline. Raises DataError where it cannot be written."""
        write(path, report.page(self._report(), datetime.now(UTC)))

    def _repr_html_(self) -> str:
        return report.glance(self._report())

    def __repr__(self) -> str:
        lines = [self.summary, *(f"  {look.column}: {look.sentence}" for look in self.breaches[:10])]
        if len(self.breaches) > 10:
            lines.append(f"  and {len(self.breaches) - 10} more in .breaches")
        return "\n".join(lines)

    def _report(self) -> report.Report:
        anchors = {column: f"column-{i}" for i, column in enumerate(self.subjects)}
        found: dict[str, list[str]] = {}
        for look in self.breaches:
            found.setdefault(look.column, []).append(look.sentence)
        drawn = [self._chart(column, anchors[column], column in found) for column in self.subjects]
        notes = [
            ("Left out", tuple(f"{name}: {why}" for name, why in self.skipped.items())),
            ("Only in the current data", self.extra_columns),
        ]
        return report.Report(
            title="Comparison with the reference",
            tone="good" if self.healthy else "bad",
            verdict="Healthy." if self.healthy else "Changed.",
            summary=self.summary,
            facts=(
                ("Rows in the reference", f"{self.reference_rows:,}"),
                ("Rows now", f"{self.rows:,}"),
                ("Columns compared", f"{len(self.subjects):,}"),
                ("Looks", f"{len(self.points):,}"),
                ("Breaches", f"{len(self.breaches):,}"),
            ),
            findings=tuple(
                report.Finding(column, tuple(f"{s[:1].upper()}{s[1:]}." for s in sentences), anchors.get(column, ""))
                for column, sentences in found.items()
            ),
            charts=tuple(sorted(drawn, key=lambda chart: chart.tone != "bad")),
            table=report.Table(
                "Every look",
                ("Column", "Metric", "Value", "Interval", "Breach if", "Rows now", "Reference rows", "Found"),
                frozenset({2, 3, 4, 5, 6}),
                tuple(map(_row, self.points)),
            ),
            notes=tuple((title, items) for title, items in notes if items),
            footer=(
                f"If nothing had changed, the chance of any breach on this page would be at most {self.false_alarms:g}."
                " Each interval holds the true value; a limit is breached only where the whole interval lies beyond it."
                f" Rows are taken as independent. {self.config}"
            ),
        )

    def _chart(self, column: str, anchor: str, bad: bool) -> report.Chart:
        subject = self.subjects[column]
        now, before = subject.current, subject.baseline
        figure = _of_reference(charts.distribution(now, before, subject.grid, ""))
        return report.Chart(anchor, column, "bad" if bad else "good", "", figure)


def show(comparison: Comparison, console: Console) -> None:
    """Print a comparison for a terminal: breaches first, a line each, then what else there is to know."""
    mark = Text("healthy", "bold green") if comparison.healthy else Text("changed", "bold red")
    console.print(mark, Text(comparison.summary), sep=": ")
    for look in comparison.breaches:
        console.print(Text("  ✗ ", "red") + Text(look.column, "bold") + Text(f": {look.sentence}"))
    unsure = [look for look in comparison.points if look.reason == Reason.NOT_CONFIDENT.sentence]
    for look in unsure:
        console.print(Text("  ? ", "yellow") + Text(look.column, "bold") + Text(f": {look.sentence}, not certain"))
    unjudged = [look for look in comparison.points if look.status not in (Status.HEALTHY, Status.BREACH)]
    healthy = len(comparison.points) - len(comparison.breaches) - len(unjudged)
    console.print(
        f"{words.count(healthy, 'look')} of {len(comparison.points):,} within the limit;"
        f" {comparison.reference_rows:,} rows in the reference, {comparison.rows:,} now",
        style="dim",
        highlight=False,
    )
    for look in unjudged:
        console.print(Text(f"  not judged: {look.column}, {words.metric_title(look.metric)}: {look.reason}", "dim"))
    for name, why in comparison.skipped.items():
        console.print(Text(f"  left out: {name}: {why}", "dim"))
    if comparison.extra_columns:
        console.print(Text(f"  only in the current data: {', '.join(comparison.extra_columns)}", "dim"))


def _said(look: Look) -> str:
    value, detail = look.value or 0.0, look.detail
    match look.metric:
        case "null_rate" if look.relative == "difference":
            return (
                f"{words.share(detail['current'])} of the rows have no value,"
                f" {words.share(detail['baseline'])} in the reference"
            )
        case _ if look.relative:
            pass
        case "psi":
            size = "a large shift" if (look.low or 0.0) > 0.25 else "a shift"
            return f"{size} of the distribution, population stability index {words.number(value)}"
        case "ks":
            return (
                f"Kolmogorov-Smirnov distance {words.number(value)}, the most that the distribution functions are apart"
            )
        case "jensen_shannon":
            return f"Jensen-Shannon distance {words.number(value)} between the distributions"
        case "wasserstein":
            return f"the values moved by {words.number(value)} standard deviations on average"
        case "sentinel_rate":
            held = ", ".join(detail.get("values", ()))
            return f"{words.share(value)} of the rows hold {held}, which often means “unknown”"
        case "new_category":
            new = ", ".join(f"“{name}” ({count:,})" for name, count in [*detail.get("values", {}).items()][:3])
            return f"{words.share(value)} of the values are not in the reference: {new}"
        case "out_of_range":
            reach = [words.number(detail.get(k)) for k in ("reference_low", "reference_high", "low", "high")]
            return (
                f"{words.share(value)} of the values lie outside the reference range {reach[0]} to {reach[1]};"
                f" they reach from {reach[2]} to {reach[3]}"
            )
    title = words.metric_title(look.metric, look.relative)
    return f"{title} is {words.measured(look.value, look.metric, look.column, look.relative)}"


def _allowed(look: Look) -> str:
    """The limit as it was written, in the metric's unit."""
    known = METRICS.get(look.metric)
    if look.limit is None:
        return words.NONE
    if look.relative is None and (known is None or known.unit != "share"):
        return f"{look.limit:.4g}"
    return words.measured(look.limit, look.metric, look.column, look.relative)


def _row(look: Look) -> report.Row:
    healthy: report.Tone = "warn" if look.reason == Reason.NOT_CONFIDENT.sentence else "good"
    tone: report.Tone = "bad" if look.breach else healthy if look.status is Status.HEALTHY else "quiet"
    unit = METRICS[look.metric].unit if look.metric in METRICS else ""
    title = words.metric_title(look.metric, look.relative)
    as_read = (look.metric, look.column, look.relative)
    limit = words.NONE if look.limit is None else f"{look.direction} {_allowed(look)}"
    return report.Row(
        tone,
        (
            look.column,
            title if unit in ("", "share") or look.relative == "ratio" else f"{title} ({unit})",
            words.measured(look.value, *as_read),
            words.interval(look.low, look.high, *as_read),
            limit,
            f"{look.n_current:,}",
            f"{look.n_baseline:,}",
            look.reason,
        ),
    )


def _of_reference(figure: charts.Figure) -> charts.Figure:
    """The figure in the words of a comparison, whose baseline is called the reference."""
    for trace in figure["data"]:
        trace["name"] = {"baseline": "reference"}.get(trace["name"], trace["name"])
        trace["hovertemplate"] = trace.get("hovertemplate", "").replace("<extra>baseline<", "<extra>reference<")
    for note in figure["layout"].get("annotations", ()):
        note["text"] = note["text"].replace("in the baseline", "in the reference")
    return figure


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
