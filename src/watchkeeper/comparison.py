"""Comparing two tables: what changed, by how much, and whether that is more than chance.

comparison = watchkeeper.compare("train.parquet", "today.csv")
comparison.healthy
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text
from scipy.special import gammaincinv

from watchkeeper import charts, report
from watchkeeper.config import load, only_model
from watchkeeper.errors import ConfigError, DataError
from watchkeeper.metrics import METRICS, Metric
from watchkeeper.monitors import LARGEST_ERROR, MODEL_COLUMNS, Watch, judge, measure, plan
from watchkeeper.profiles import Subject
from watchkeeper.records import ALL, Reason, Status
from watchkeeper.schema import ColumnConfig, Config, Kind, ModelConfig, MonitorConfig
from watchkeeper.server import words
from watchkeeper.store import sources
from watchkeeper.tables import Side, count, infer, listed, near
from watchkeeper.windows import Window

MISSING = "missing_column"
"""The metric of a column that the current data lacks."""

_NEVER = Window(datetime(1970, 1, 1, tzinfo=UTC), datetime(1970, 1, 2, tzinfo=UTC))
"""Rows need a window; tables that are compared as a whole have none."""


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
        _write(path, self.to_json() + "\n")

    def save_html(self, path: str | Path) -> None:
        """Write a report that opens in any browser, offline. Raises DataError where it cannot be written."""
        _write(path, report.page(self._report(), datetime.now(UTC)))

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


def compare(
    reference: Any,
    current: Any,
    *,
    config: ModelConfig | Config | str | Path | None = None,
    columns: Sequence[str] | None = None,
    false_alarms: float = 0.05,
) -> Comparison:
    """What changed from the reference to the current data.

    Args:
        reference, current: each a path to CSV or Parquet (a file, a folder or a glob), a pandas or Polars data
            frame, or an Arrow table.
        config: a model's configuration, or the path of a `watchkeeper.yaml` with one model: its columns and its
            monitors. What needs labels or the live service is left out, and the reference stands in for every
            baseline. Without one, the columns are those of the reference: numbers, texts and booleans. Left out
            are dates, times and nested values; columns without any value; and text that is an id or free text,
            which is one with more than 100 different values and more of them than half of its rows.
        columns: compare only these.
        false_alarms: the probability that the whole comparison has any breach though nothing changed, at most.
            Each of the `k` looks is given `false_alarms / k`, whatever depends on what.

    Without a configuration these limits hold, each breached only if the whole interval lies beyond it:

    - share of missing values: 0.05 above the reference's;
    - population stability index: 0.1, from which a shift is usually called worth a look (0.25 is a large one);
    - Kolmogorov-Smirnov and Jensen-Shannon distance: 0.1 (both reach from 0 to 1);
    - Wasserstein distance: 0.1 standard deviations;
    - share of numbers that often mean "unknown", such as -999, and lie outside the reference range: 0.005;
    - share of values outside the reference range: 0.05;
    - share of categories that the reference does not have: 0.01.

    The last three are raised where the reference is so small that it cannot have seen all that is normal. A limit in
    a configuration is taken as it stands. A column that the current data lacks is a breach of its own.

    Rows are taken as independent: many rows of one person or one hour count for more than they say.

    Raises DataError where the data cannot be read or compared, ConfigError where the configuration is wrong.
    """
    if not 0 < false_alarms < 1:
        raise ConfigError(f"false_alarms must lie between 0 and 1, found {false_alarms}")
    model = None if config is None else _model(config)
    connection = sources.connect()
    try:
        before = Side("the reference", sources.read(connection, reference, "reference"))
        after = Side("the current data", sources.read(connection, current, "current"))
        return _compare(before, after, model, columns, false_alarms)
    finally:
        connection.disconnect()


def _model(config: ModelConfig | Config | str | Path) -> ModelConfig:
    if isinstance(config, ModelConfig):
        return config
    if isinstance(config, Config):
        return only_model(config, "the configuration")[1]
    return only_model(load(Path(config)), str(config))[1]


def _compare(
    before: Side, after: Side, model: ModelConfig | None, only: Sequence[str] | None, false_alarms: float
) -> Comparison:
    reference_rows, rows = before.rows, after.rows
    skipped: dict[str, str] = {}
    given = model is not None
    if model is None:
        columns, skipped = infer(before, only)
        model = default_model(columns)
    watches = _watches(model, before, after, only, skipped)
    chosen = list(dict.fromkeys(watch.column for watch in watches))
    missing = [name for name in chosen if name not in after.table.columns]
    watches = [watch for watch in watches if watch.column not in missing]
    if not watches:
        why = "; ".join(f"{name}: {reason}" for name, reason in skipped.items())
        raise DataError(
            f"there is nothing to compare: the reference has {listed(before.table.columns)}, the current data has"
            f" {listed(after.table.columns)}" + (f" ({why})" if why else "")
        )
    version = Config.model_construct(models={"comparison": model}, channels={}).version
    subjects = count(before, after, model, [name for name in chosen if name not in missing])
    found = [_lacking(name, rows, reference_rows) for name in missing]
    found += looks(watches, subjects, version, false_alarms, raise_limits=not given)
    place = {name: i for i, name in enumerate(chosen)}
    return Comparison(
        points=tuple(sorted(found, key=lambda look: (not look.breach, place[look.column]))),
        skipped=skipped,
        extra_columns=tuple(name for name in after.table.columns if name not in before.table.columns),
        rows=rows,
        reference_rows=reference_rows,
        false_alarms=false_alarms,
        config=version,
        subjects=subjects,
    )


# What to look at


def default_model(columns: Mapping[str, ColumnConfig]) -> ModelConfig:
    """What `compare` uses without a configuration. Not validated: a column of a plain table may bear any name."""
    monitors = _monitors({column.kind for column in columns.values()})
    return ModelConfig.model_construct(columns=dict(columns), monitors=monitors)


def _monitors(kinds: set[Kind]) -> tuple[MonitorConfig, ...]:
    """What is looked at without a configuration, in the order in which it is told."""
    every = (
        MonitorConfig(
            name="missing values", metric="null_rate", columns="features", above=0.05, relative="difference", min_rows=1
        ),
        MonitorConfig(name="sentinel values", metric="sentinel_rate", columns="features", above=0.005, min_rows=1),
        MonitorConfig(name="new categories", metric="new_category", columns="features", above=0.01, min_rows=1),
        MonitorConfig(name="values out of range", metric="out_of_range", columns="features", above=0.05, min_rows=1),
        MonitorConfig(name="moved values", metric="wasserstein", columns="features", above=0.1, min_rows=10),
        MonitorConfig(name="drift", metric="psi", columns="features", above=0.1, min_rows=1),
        MonitorConfig(name="drift (KS)", metric="ks", columns="features", above=0.1, min_rows=1),
        MonitorConfig(name="drift (JS)", metric="jensen_shannon", columns="features", above=0.1, min_rows=1),
    )
    return tuple(monitor for monitor in every if METRICS[monitor.metric].kinds & kinds)


def _watches(
    model: ModelConfig, before: Side, after: Side, only: Sequence[str] | None, skipped: dict[str, str]
) -> list[Watch]:
    """The looks that two plain tables allow."""
    for name in model.columns:
        if name not in before.table.columns:
            raise DataError(
                f'the configuration has a column "{name}" and the reference has none;'
                f" {near(name, before.table.columns)}"
            )
    for name in only or ():
        if name not in model.columns and name not in skipped:
            raise DataError(f'the configuration has no column "{name}"; {near(name, model.columns)}')
    kept = []
    for watch in plan(model) if model.columns else ():
        why = _not_here(watch, before, after)
        if why and watch.monitor:
            skipped[f'monitor "{watch.monitor.name}"'] = why
        elif only is None or watch.column in only:
            kept.append(watch)
    return kept


def _not_here(watch: Watch, before: Side, after: Side) -> str:
    if watch.metric.labels:
        return f"{watch.metric.title} needs labels, which a comparison of tables does not have"
    if watch.metric.column is not None:
        return f"{watch.metric.title} is of the live service"
    if watch.column in MODEL_COLUMNS:
        for side in (before, after):
            if watch.column not in side.table.columns:
                return f'{side.title} has no column "{watch.column}"'
    return ""


# From counts to findings


def looks(
    watches: Sequence[Watch],
    subjects: Mapping[str, Subject],
    version: str,
    false_alarms: float,
    *,
    raise_limits: bool,
) -> list[Look]:
    """Every look at these counts, each with its share of the false alarms.

    Args:
        version: the name of the configuration.
        raise_limits: give way where the reference is too small to have seen all that is normal.
    """
    alpha = min(false_alarms / len(watches), LARGEST_ERROR)
    return [_look(replace(watch, alpha=alpha), subjects[watch.column], version, raise_limits) for watch in watches]


def _look(watch: Watch, subject: Subject, version: str, raise_limits: bool) -> Look:
    monitor = watch.monitor
    assert monitor is not None
    if raise_limits and monitor.above is not None:
        unseen = _unseen(watch.metric, subject, watch.alpha)
        if unseen > monitor.above:
            monitor = monitor.model_copy(update={"above": unseen})
    point = measure(watch, subject, model="", version=ALL, window=_NEVER, config=version, because=())
    verdict = judge(monitor, watch.metric, point, 1.0)
    detail = dict(point.detail)
    if watch.metric.name == "out_of_range" and subject.baseline:
        detail |= {"reference_low": subject.baseline.low, "reference_high": subject.baseline.high}
    return Look(
        column=watch.column,
        segment=point.segment,
        metric=point.metric,
        monitor=monitor.name,
        value=point.value,
        low=point.low,
        high=point.high,
        limit=monitor.limit,
        direction=monitor.direction,
        relative=monitor.relative,
        n_current=point.n,
        n_baseline=subject.n_baseline if point.n_baseline is None else point.n_baseline,
        status=verdict.status,
        reason=verdict.reason.sentence,
        detail=detail,
    )


def _unseen(metric: Metric, subject: Subject, alpha: float) -> float:
    """How much of unchanged data a reference of this size may not have seen, with error `alpha`.

    Beyond the least and the greatest of m values lies a share of the distribution that two spacings cover: a
    gamma variable with shape 2, over m (David and Nagaraja 2003, section 2.5). The share of unseen categories
    averages the number of those seen once, over m (Good 1953); that number is taken as Poisson.
    """
    baseline = subject.baseline
    if baseline is None or metric.name not in ("out_of_range", "sentinel_rate", "new_category"):
        return 0.0
    if metric.name == "new_category":
        events, rows = int((baseline.counts == 1).sum()) + 1, int(baseline.counts.sum())
    else:
        events, rows = 2, int(baseline.regular[1].sum())
    return min(float(gammaincinv(events, 1 - alpha)) / rows, 1.0) if rows else 1.0


def _lacking(name: str, rows: int, reference_rows: int) -> Look:
    return Look(
        name, ALL, MISSING, MISSING, None, None, None, None, "above", None, rows, reference_rows, Status.BREACH,
        "column is missing from the current data", {},
    )  # fmt: skip


# Words


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


def _write(path: str | Path, text: str) -> None:
    try:
        Path(path).write_text(text, encoding="utf-8")
    except OSError as problem:
        raise DataError(f"{path} cannot be written: {problem.strerror}") from problem
