"""Monitors: which looks a configuration asks for, what each may cost, and what it finds. Hops 3 and 4.

A false alarm is a breach where the truth lies within the limit. Expected false alarms add up whatever depends on
what, so a budget of `b` in 30 days is kept by giving each of the `k` looks of that severity in 30 days an error
of `b / k`: the confidence of its interval. Sample sizes set confidence; limits set what matters.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial

import numpy as np

from watchkeeper import late, policy
from watchkeeper.errors import ConfigError, did_you_mean
from watchkeeper.events import RESOURCES
from watchkeeper.metrics import (
    METRICS,
    Metric,
    business,
    concept,
    drift,
    encoding,
    estimation,
    estimation_of_classes,
    expected,
    fairness,
    find,
    kpis,
    load_plugins,
    multiclass,
    of_task,
    performance,
    quality,
    regression,
    service,
)
from watchkeeper.profiles import Subject
from watchkeeper.records import ALL, Point, Reason, Status, Verdict, row_id
from watchkeeper.schema import (
    ERRORS,
    SEASONAL,
    WEEK,
    WEEKS,
    YEAR,
    ColumnConfig,
    Kind,
    ModelConfig,
    MonitorConfig,
    Task,
)
from watchkeeper.segments import Segmentation, is_named
from watchkeeper.stats import seasonal
from watchkeeper.stats.estimates import Estimate, difference, proportion, ratio
from watchkeeper.tasks import model_columns
from watchkeeper.windows import Window

BUILT_IN = (
    quality,
    encoding,
    drift,
    performance,
    concept,
    multiclass,
    regression,
    expected,
    estimation,
    estimation_of_classes,
    fairness,
    service,
    business,
    kpis,
)
load_plugins()

MONTH = timedelta(days=30)
LARGEST_ERROR = 0.05
"""No look is less confident than this, however generous the budget."""
EARLY = "(early)"
"""Ends the name of a monitor that looks before the labels are mature."""
ESTIMATES = (
    *(f"estimated_{compute.__name__}" for compute in estimation.HEADLINES),
    *("estimated_macro_f1", "estimated_balanced_accuracy", "estimated_macro_auc"),
    *("estimated_mae", "estimated_rmse"),
)
SHOWN = 0.025
"""Error on each side of the intervals of values that are shown and not judged."""


@dataclass(frozen=True, slots=True)
class Watch:
    """One metric on one column, in all rows or in a segment, looked at once a grain with error at most `alpha` on each
    side.

    Without a `monitor` the value is shown and not judged. `contract` is what was agreed about the column, and `groups`
    are the segments that are compared.
    """

    metric: Metric
    column: str
    kind: Kind
    window: timedelta
    alpha: float
    monitor: MonitorConfig | None = None
    segment: str = ALL
    contract: ColumnConfig | None = None
    groups: tuple[str, ...] = ()

    @property
    def by_version(self) -> bool:
        """Whether each version is looked at on its own: performance that is shown."""
        return self.monitor is None and (self.metric.labels or self.metric.baseline_labels)

    def sees(self, subject: Subject) -> bool:
        """Whether there is what to look at: no estimate is shown of a model whose reference has no labels."""
        known = subject.baseline_labelled or expected.ABSOLUTE in subject.beside
        return self.monitor is not None or not self.metric.baseline_labels or bool(known)

    @property
    def early(self) -> timedelta | None:
        """How long after the predictions it looks, where that is before their labels are mature."""
        return self.monitor.early if self.monitor else None


def plan(config: ModelConfig, segmentations: Iterable[Segmentation] = ()) -> list[Watch]:
    """Every look that the configuration asks for, with its share of the alarm budget.

    Args:
        segmentations: the model's, once their values are known; without them the looks at all rows are planned.

    Raises ConfigError, with the path to the mistake, for an unknown metric or column and for a metric that does
    not fit its column or its baseline.
    """
    pairs: list[tuple[MonitorConfig, Metric, str, Kind]] = []
    for i, monitor in enumerate(_monitors(config)):
        try:
            metric = find(monitor.metric, config.task)
            _check_baseline(monitor, metric)
            _check_segments(monitor, config)
            _check_groups(monitor, metric, config)
            _check_costs(metric, config)
            _check_estimation(metric, config)
            looks_at = _columns(monitor, metric, config)
            pairs += [(one, metric, column, kind) for one in _twice(monitor, metric) for column, kind in looks_at]
        except ConfigError as problem:
            raise ConfigError(f'monitor "{monitor.name}": {problem}', ("monitors", i, *problem.path)) from problem
    if config.retrain is not None:
        _causes_exist(config.retrain.causes)
    grains = MONTH / config.grain_length
    parts = [part for part in segmentations if part.columns in config.segmentations]
    looks = [(*pair, segment) for pair in pairs for segment in _segments(pair[0], pair[2], parts)]
    number = Counter(monitor.severity for monitor, *_ in looks)
    alpha = {s: min(config.alarm_budget[s] / (count * grains), LARGEST_ERROR) for s, count in number.items()}
    return [
        Watch(
            metric,
            column,
            kind,
            m.window,
            alpha[m.severity],
            m,
            segment,
            config.columns.get(column),
            tuple(name for part in parts if part.columns == m.grouping for name in part.names if is_named(name)),
        )
        for m, metric, column, kind, segment in looks
    ]


def _monitors(config: ModelConfig) -> Iterable[MonitorConfig]:
    if config.monitors is not None:
        return config.monitors
    return [m.model_copy(update={"segments": bool(config.segments)}) for m in policy.for_model(config)]


def _twice(monitor: MonitorConfig, metric: Metric) -> list[MonitorConfig]:
    """A monitor, and what looks before it does if that is asked for."""
    if monitor.early is None:
        return [monitor]
    if not late.correctable(metric, metric.column) or monitor.groups:
        raise ConfigError(
            f"{metric.name} waits for no labels, or cannot be corrected for those to come; leave early out", ("early",)
        )
    if metric.since_crowned:
        raise ConfigError(
            f"{metric.name} runs over every grain, and the first labels would speak for all; leave early out",
            ("early",),
        )
    return [
        monitor.model_copy(update={"early": None}),
        monitor.model_copy(update={"name": f"{monitor.name} {EARLY}"}),
    ]


def _segments(monitor: MonitorConfig, column: str, segmentations: Iterable[Segmentation]) -> list[str]:
    """Where a monitor looks at a column: in all rows, and in each segment that the column does not make."""
    if not monitor.segments:
        return [ALL]
    return [ALL, *(name for part in segmentations if column not in part.columns for name in part.names)]


def _check_segments(monitor: MonitorConfig, config: ModelConfig) -> None:
    if monitor.segments and not config.segments:
        raise ConfigError(
            "it looks at segments and the model has none; name some in the model's segments, or leave this out",
            ("segments",),
        )


def _check_groups(monitor: MonitorConfig, metric: Metric, config: ModelConfig) -> None:
    known = [", ".join(columns) for columns in config.segmentations]
    if metric.groups and not monitor.grouping:
        raise ConfigError(
            f"{metric.name} compares groups; say which, such as groups: gender, and name them in the model's segments",
            ("groups",),
        )
    if not monitor.grouping:
        return
    if monitor.grouping not in config.segmentations:
        hint = did_you_mean(", ".join(monitor.grouping), known, "its segments are") if known else "it has no segments"
        raise ConfigError(
            f'"{", ".join(monitor.grouping)}" is none of the model\'s segments, so its groups are not counted; {hint}',
            ("groups",),
        )
    if monitor.segments:
        raise ConfigError("it either looks at segments or compares groups; leave one of the two out", ("segments",))
    if metric.any_size or metric.cause == "drift":
        raise ConfigError(f"{metric.name} says nothing of a difference between groups; leave groups out", ("groups",))


def _check_costs(metric: Metric, config: ModelConfig) -> None:
    if metric.costs and config.costs is None:
        binary, example = config.task is Task.BINARY, '{fraud: {pass: 120}, pass: {"(other)": 5}}'
        raise ConfigError(
            f"{metric.name} needs the model's costs; add them to the model, such as"
            f" costs: {'{false_positive: 5, false_negative: 120}' if binary else example}",
            ("metric",),
        )


def _check_estimation(metric: Metric, config: ModelConfig) -> None:
    if expected.ABSOLUTE in metric.beside and config.estimation != "features":
        raise ConfigError(
            f"{metric.name} is estimated from features; add estimation: features to the model", ("metric",)
        )


def shown(config: ModelConfig) -> list[Watch]:
    """Looks that are only shown: performance, realised and estimated, for each version, and the service, whatever is
    judged."""
    without = config.costs is None
    known, kinds = of_task(config.task), model_columns(config)
    realised = {
        name: m for name, m in known.items() if m.labels and not (m.needs_baseline or m.groups or (m.costs and without))
    }
    wanted = [(name, m.column) for name, m in realised.items()]
    wanted += [(name, known[name].column) for name in ESTIMATES if name in known]
    wanted += [(name, "latency_ms") for name in ("p50", "p95", "p99")]
    wanted += [("mean_use", name) for name in RESOURCES if name != "cost"]
    wanted += [
        (name, known[name].column)
        for name in (
            "error_rate", "timeout_rate", "availability", "fallback_rate", "volume", "mean_cost", "total_cost",
            "predicted_positive_rate",
        )
        if name in known
    ]  # fmt: skip
    wanted += [(name, f"{kpi}{m.kpi}") for kpi in config.kpis for name, m in known.items() if m.kpi is not None]
    return [
        Watch(known[name], column, kinds[column], config.grain_length, SHOWN)
        for name, column in wanted
        if column is not None
    ]


def _check_baseline(monitor: MonitorConfig, metric: Metric) -> None:
    if monitor.baseline == SEASONAL and (metric.labels or metric.beside or metric.baseline_labels):
        raise ConfigError(
            f"{metric.name} needs labels or several columns, and a seasonal baseline is of one column alone; choose"
            " another baseline, such as 4 x 7d ago",
            ("baseline",),
        )
    if monitor.relative is None:
        return
    if metric.needs_baseline:
        raise ConfigError(f"{metric.name} compares with the baseline by nature; leave relative out", ("relative",))
    if (metric.any_size or metric.kpi is not None) and monitor.baseline is None:
        raise ConfigError(
            f"{metric.name} counts what comes over time, and the reference did not come over time;"
            " set baseline to a duration, such as 28d, or to how long ago, such as 7d ago",
            ("baseline",),
        )


def _columns(monitor: MonitorConfig, metric: Metric, config: ModelConfig) -> Iterable[tuple[str, Kind]]:
    if metric.column is not None:
        if monitor.columns is not None and monitor.columns != (metric.column,):
            raise ConfigError(
                f"{metric.name} is of the whole model and takes no columns; leave columns out", ("columns",)
            )
        return [(metric.column, model_columns(config)[metric.column])]
    if metric.kpi is not None:
        return [(f"{name}{metric.kpi}", Kind.NUMERIC) for name in _kpis(monitor, metric, config)]
    features = config.features
    if monitor.columns is None or monitor.columns == "features":
        presence = metric.cause == "missing values"
        usual = {name: f for name, f in features.items() if f.first or not presence}
        fitting = [(name, f.kind) for name, f in usual.items() if f.kind in metric.usual]
        if not fitting:
            raise ConfigError(
                f"{metric.name} fits no feature of this model; it is for {_kinds(metric)} ones", ("columns",)
            )
        return fitting
    known = {**{name: feature.kind for name, feature in features.items()}, **model_columns(config)}
    for name in monitor.columns:
        if name not in known:
            hint = did_you_mean(name, known, "known columns:")
            raise ConfigError(f'there is no column "{name}"; {hint}', ("columns",))
        if known[name] not in metric.kinds:
            raise ConfigError(
                f'{metric.name} does not fit "{name}": it is for {_kinds(metric)} columns and "{name}" is'
                f" {known[name]}; choose another metric or column",
                ("metric",),
            )
    return [(name, known[name]) for name in monitor.columns]


def _kpis(monitor: MonitorConfig, metric: Metric, config: ModelConfig) -> Iterable[str]:
    """The KPIs that a monitor looks at: those that it names, or all."""
    if not config.kpis:
        raise ConfigError(
            f"{metric.name} is of KPIs and the model has none; add them to the model, such as kpis: {{revenue: {{unit:"
            " EUR}}",
            ("metric",),
        )
    named = (*config.kpis,) if monitor.columns is None else monitor.columns
    if isinstance(named, str):
        raise ConfigError(f"{metric.name} is of KPIs and not of features; leave columns out", ("columns",))
    for name in named:
        if name not in config.kpis:
            hint = did_you_mean(name, config.kpis, "its KPIs are")
            raise ConfigError(f'there is no KPI "{name}"; {hint}', ("columns",))
    return named


def _causes_exist(causes: Iterable[str]) -> None:
    known = sorted({metric.cause for metric in METRICS.values()})
    for cause in causes:
        if cause not in known:
            hint = did_you_mean(cause, known, "known causes:")
            raise ConfigError(f'retrain: no metric has the cause "{cause}"; {hint}', ("retrain", "causes"))


def _kinds(metric: Metric) -> str:
    return " or ".join(kind for kind in Kind if kind in metric.kinds)


def _against_the_season(watch: Watch, monitor: MonitorConfig, subject: Subject) -> Estimate:
    """How far a metric lies from what its past lets expect; see `stats.seasonal.change`."""
    weeks, year = WEEKS * WEEK // watch.window, YEAR // watch.window

    def value(back: int) -> float:
        if back and back not in subject.past:
            return float("nan")
        of = replace(subject, current=subject.past[back] if back else subject.current, past={}, parts=())
        found = watch.metric.compute(of, watch.alpha).value
        return float("nan") if found is None else found

    values = np.array([value(back) for back in range(weeks, -1, -1)])
    known = all(back in subject.past for back in range(year, year + weeks + 1))
    earlier = np.array([value(back) for back in range(year + weeks, year - 1, -1)]) if known else None
    found = seasonal.change(values, WEEK // watch.window, watch.alpha, ratio=monitor.relative == "ratio", year=earlier)
    return replace(found, n=subject.n, n_baseline=found.n).about(year=known)


def measure(
    watch: Watch, subject: Subject, model: str, version: str, window: Window, config: str, because: tuple[str, ...]
) -> Point:
    """The point of one look: the metric's value and interval, or those of its change against the baseline."""
    compute = partial(fairness.between_groups, watch.metric) if _compares(watch) else watch.metric.compute
    estimate = late.estimate(compute, subject, watch.alpha)
    monitor = watch.monitor
    if monitor and monitor.baseline == SEASONAL:
        estimate = _against_the_season(watch, monitor, subject)
    elif monitor and monitor.relative:
        before = compute(subject.of_baseline, watch.alpha)
        change = difference if monitor.relative == "difference" else ratio
        estimate = change(estimate, before).about(**estimate.detail)
    if monitor and _outside(monitor, estimate.low, estimate.high):
        if watch.metric.cause in ("drift", "changed format"):
            start = drift.began(subject)
            estimate = estimate.about(began=start.isoformat() if start else "")
        realised = watch.metric.cause == "performance" and watch.metric.labels and watch.column == "score"
        if realised and (parts := concept.parts_of_change(watch.metric.name, subject)):
            estimate = estimate.about(parts=parts)
    name = monitor.name if monitor else ""
    coverage = None
    if watch.metric.labels and subject.n:
        coverage = labelled(watch.column, subject) / subject.n
    return Point(
        id=row_id(
            "point",
            model,
            version,
            watch.column,
            watch.segment,
            watch.metric.name,
            name,
            window.start,
            window.end,
            config,
        ),
        model=model,
        version=version,
        segment=watch.segment,
        column=watch.column,
        metric=watch.metric.name,
        monitor=name,
        window=window,
        value=estimate.value,
        low=estimate.low,
        high=estimate.high,
        confidence=1 - watch.alpha,
        n=estimate.n,
        n_baseline=estimate.n_baseline,
        coverage=coverage,
        detail=estimate.detail,
        config=config,
        because=because,
    )


def labelled(column: str, subject: Subject) -> int:
    """How many rows have their label: those counted by label, or those that have a value that comes with the label."""
    if column in (*ERRORS, "label") and subject.current is not None:
        return subject.n - subject.current.missing
    return sum(profile.n for profile in subject.labelled.values())


def _compares(watch: Watch) -> bool:
    return watch.monitor is not None and bool(watch.monitor.grouping)


def judge(monitor: MonitorConfig, metric: Metric, point: Point, label_coverage: float) -> Verdict:
    """What the monitor says of the point: a breach only if the whole interval lies outside the limit.

    Args:
        label_coverage: the share of labelled predictions from which a label metric counts as mature.
    """
    status, reason = _status(monitor, metric, point, 0.0 if monitor.early else label_coverage)
    return Verdict(
        id=row_id("verdict", point.id),
        model=point.model,
        monitor=monitor.name,
        cause=metric.cause,
        column=point.column,
        segment=point.segment,
        metric=point.metric,
        severity=monitor.severity,
        window=point.window,
        status=status,
        reason=reason,
        value=point.value,
        low=point.low,
        high=point.high,
        limit=monitor.limit,
        direction=monitor.direction,
        n=point.n,
        config=point.config,
        because=(point.id,),
    )


def _status(monitor: MonitorConfig, metric: Metric, point: Point, label_coverage: float) -> tuple[Status, Reason]:
    if point.coverage is not None and point.coverage < label_coverage:
        return Status.PROVISIONAL, Reason.LABELS_IMMATURE
    if not point.n and not metric.any_size:
        return Status.NO_DATA, Reason.NOTHING_ARRIVED
    above = monitor.direction == "above"
    if point.value is None:
        return Status.NOT_ENOUGH_DATA, Reason.NOT_COMPARABLE
    if (point.n < monitor.min_rows and not metric.any_size) or (point.low if above else point.high) is None:
        return Status.NOT_ENOUGH_DATA, Reason.TOO_FEW_ROWS
    if _outside(monitor, point.low, point.high):
        return Status.BREACH, Reason.OUTSIDE_LIMIT
    if not (point.value <= monitor.limit if above else point.value >= monitor.limit):
        return Status.HEALTHY, Reason.NOT_CONFIDENT
    if metric.labels and metric.unit == "share" and monitor.relative is None and not _could_tell(monitor, point):
        return Status.NOT_ENOUGH_DATA, Reason.TOO_FEW_ROWS
    return Status.HEALTHY, Reason.INSIDE_LIMIT


def _could_tell(monitor: MonitorConfig, point: Point) -> bool:
    """Whether so many rows without a single fault would show that a share keeps its limit: of one in a thousand, some
    thousands of rows (the rule of three)."""
    faults = monitor.limit if monitor.direction == "above" else 1 - monitor.limit
    spotless = proportion(0, point.n, 1 - point.confidence)
    return spotless.high is not None and spotless.high <= faults


def _outside(monitor: MonitorConfig, low: float | None, high: float | None) -> bool:
    """Whether the whole interval lies outside the limit."""
    if monitor.direction == "above":
        return low is not None and low > monitor.limit
    return high is not None and high < monitor.limit
