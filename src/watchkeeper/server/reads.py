"""What the pages and the JSON interface read from the state. Each function takes an open transaction, reads, and
returns plain rows; nothing is drawn or worded here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from watchkeeper.history import champion_at
from watchkeeper.metrics import METRICS
from watchkeeper.profiles import Key, Profile, merge
from watchkeeper.records import (
    ALL,
    Action,
    Delivery,
    Incident,
    IncidentState,
    Point,
    Rollout,
    Severity,
    Status,
    Transition,
    Verdict,
)
from watchkeeper.schema import Kind, ModelConfig, Task
from watchkeeper.stats.grid import Grid
from watchkeeper.store.state import TABLES, Transaction
from watchkeeper.tasks import model_columns
from watchkeeper.windows import DAY, Window, floor

POINTS, VERDICTS = TABLES[Point].c, TABLES[Verdict].c
ALIVE = (IncidentState.OPEN, IncidentState.ACKNOWLEDGED)
CAUSES = tuple(dict.fromkeys(metric.cause for metric in METRICS.values()))
"""Every cause that a known metric is a sign of."""
PERFORMANCE = {
    Task.BINARY: (
        "log_loss",
        "auc",
        "accuracy",
        "calibration_error",
        "positive_rate",
        "precision",
        "recall",
        "estimated_auc",
        "estimated_accuracy",
        "auc_estimation_error",
    ),
    Task.MULTICLASS: ("accuracy", "macro_f1", "log_loss", "macro_auc", "kappa", "accuracy_estimation_error"),
    Task.REGRESSION: ("mae", "rmse", "bias", "r2", "mape", "mae_estimation_error"),
}
"""What a model's page shows of its performance, by task; the fleet shows the first of the first two that there is."""
DRIFT = (
    "psi", "ks", "jensen_shannon", "wasserstein", "hellinger", "total_variation", "l_infinity", "chi_square",
    "cramer_von_mises", "anderson_darling",
)  # fmt: skip
LATENCY = ("p50", "p95", "p99")
FAILURES = ("error_rate", "timeout_rate", "fallback_rate")
SERVICE = (*LATENCY, *FAILURES, "availability", "volume", "mean_use")
BUSINESS = ("mean_cost", "total_cost")
KPIS = tuple(name for name, metric in METRICS.items() if metric.kpi is not None)
"""What the sections on the service and on the business show, beside the latency."""
LOOK_BACK = timedelta(days=120)
"""Verdicts older than this before the newest are not looked for."""
SPARK = 30


@dataclass(frozen=True, slots=True)
class Standing:
    """How one model stands: the row of the fleet page."""

    name: str
    champion: tuple[datetime, str] | None
    incidents: list[Incident]
    checks: dict[str, Counter[Status]]
    until: datetime | None
    predictions: int
    metric: str
    spark: list[Point]

    @property
    def severity(self) -> Severity | None:
        return min((incident.severity for incident in self.incidents), default=None)

    @property
    def need(self) -> tuple[str, int, int, str]:
        """Sorts the model that needs a person most to the front."""
        unheard = 0 if self.until is None and not self.incidents else 1
        return (self.severity or "P9", unheard, -len(self.incidents), self.name)


@dataclass(frozen=True, slots=True)
class Story:
    """An incident with everything that happened because of it."""

    incident: Incident
    transitions: list[Transition]
    deliveries: list[Delivery]
    actions: list[Action]
    rollouts: list[Rollout]


@dataclass(frozen=True, slots=True)
class ColumnView:
    """One column in one window, beside its baseline, and day by day."""

    current: Profile | None
    baseline: Profile | None
    version: str
    grid: Grid | None
    days: list[tuple[datetime, Profile]]
    points: list[Point]


def standing(tx: Transaction, name: str, config: ModelConfig) -> Standing:
    champions = tx.champions(name)
    until = newest(tx, name)
    spark_metric, spark = sparkline(tx, name, until, config) if until else (PERFORMANCE[config.task][0], [])
    return Standing(
        name=name,
        champion=champions[-1] if champions else None,
        incidents=open_incidents(tx, name),
        checks=checks(latest_verdicts(tx, name)),
        until=until,
        predictions=predictions_between(tx, name, Window(until - DAY, until)) if until else 0,
        metric=spark_metric,
        spark=spark,
    )


def open_incidents(tx: Transaction, model: str | None = None) -> list[Incident]:
    """Incidents that are not resolved, the most severe and then the newest first."""
    where: dict[str, Any] = {"model": model} if model else {}
    found = tx.select(Incident, state=[s.value for s in ALIVE], order="-opened_at", **where)
    return sorted(found, key=lambda incident: incident.severity)


def newest(tx: Transaction, model: str) -> datetime | None:
    """The end of the last window that anything was measured in."""
    found = tx.select(Point, model=model, order="-window_end", limit=1)
    return found[0].window.end if found else None


def latest_verdicts(tx: Transaction, model: str) -> list[Verdict]:
    """The verdicts of each cause at the last window that this cause was judged in; causes have different delays.

    Of the looks at segments, of which there may be very many, those that breach.
    """
    last = tx.select(Verdict, model=model, order="-window_end", limit=1)
    if not last:
        return []
    found: list[Verdict] = []
    bound = VERDICTS.window_end > last[0].window.end - LOOK_BACK
    told = (VERDICTS.segment == ALL) | (VERDICTS.status == Status.BREACH.value)
    for cause in CAUSES:
        of_cause = tx.select(Verdict, bound, model=model, cause=cause, order="-window_end", limit=1)
        if of_cause:
            found += tx.select(Verdict, told, model=model, cause=cause, window_end=of_cause[0].window.end)
    return found


def checks(verdicts: Iterable[Verdict]) -> dict[str, Counter[Status]]:
    """Per cause, how many looks found what."""
    counts: dict[str, Counter[Status]] = {}
    for verdict in verdicts:
        counts.setdefault(verdict.cause, Counter())[verdict.status] += 1
    return counts


def predictions_between(tx: Transaction, model: str, window: Window) -> int:
    return sum(profile.n for _, profile in tx.profiles(model, window, column="status", label=ALL))


def sparkline(tx: Transaction, model: str, until: datetime, config: ModelConfig) -> tuple[str, list[Point]]:
    """The last values of the first performance metric that there are any of, whatever the version."""
    since, known = until - SPARK * DAY - config.label_delay, PERFORMANCE[config.task]
    found = tx.select(
        Point, POINTS.window_end > since, model=model, monitor="", metric=list(known[:2]), order="window_end"
    )
    metric = next((m for m in known if any(p.metric == m for p in found)), known[0])
    largest: dict[datetime, Point] = {}
    for p in found:
        if p.metric == metric and p.value is not None and not p.provisional:
            other = largest.get(p.window.end)
            largest[p.window.end] = p if other is None or p.n > other.n else other
    return metric, list(largest.values())[-120:]


def chart_points(tx: Transaction, model: str, since: datetime, drift: str) -> list[Point]:
    """The points of service, business and drift that a model's page draws."""
    shown = (POINTS.monitor == "") & POINTS.metric.in_([*SERVICE, *BUSINESS, *KPIS])
    return tx.select(
        Point, POINTS.window_end > since, shown | (POINTS.metric == drift), model=model, segment=ALL, order="window_end"
    )


def last_of_service(tx: Transaction, model: str, until: datetime | None) -> list[Point]:
    """What was measured of the service and of the business in the last grain."""
    if until is None:
        return []
    metrics = [*SERVICE, *BUSINESS]
    return tx.select(Point, model=model, monitor="", version=ALL, segment=ALL, metric=metrics, window_end=until)


def main_series(points: Iterable[Point]) -> list[Point]:
    """Of points that several monitors took of the same metric, those of the one with the most."""
    groups: dict[tuple[str, timedelta], list[Point]] = {}
    for p in points:
        groups.setdefault((p.monitor, p.window.length), []).append(p)
    return max(groups.values(), key=len, default=[])


def judged_points(tx: Transaction, verdicts: Iterable[Verdict]) -> dict[str, Point]:
    """For each monitor one of the points that it judged, to tell how confident its looks are."""
    ids = {v.monitor: v.because[0] for v in verdicts if v.because}
    return {p.monitor: p for p in tx.select(Point, id=list(ids.values()))} if ids else {}


def story(tx: Transaction, incident: Incident) -> Story:
    """Transitions, deliveries, actions and rollouts that go back to the incident."""
    actions = [a for a in tx.select(Action, model=incident.model) if incident.id in a.because]
    causes = {a.id for a in actions}
    rollouts = [r for r in tx.select(Rollout, model=incident.model) if causes & set(r.because)]
    subjects = [incident.id, *causes, *(r.id for r in rollouts)]
    transitions = tx.select(Transition, model=incident.model, subject=subjects, order="at")
    deliveries = tx.select(Delivery, transition=[t.id for t in transitions]) if transitions else []
    return Story(incident, transitions, deliveries, actions, rollouts)


def signal_points(
    tx: Transaction, model: str, monitor: str, column: str, segment: str, since: datetime, until: datetime
) -> list[Point]:
    """What one monitor measured on one column, in a segment or in all rows, in a stretch of time."""
    span = (POINTS.window_end > since) & (POINTS.window_end <= until)
    return tx.select(Point, span, model=model, monitor=monitor, column=column, segment=segment, order="window_end")


def kinds(config: ModelConfig) -> dict[str, Kind]:
    """Every column that has a page of its own."""
    return {**{name: feature.kind for name, feature in config.features.items()}, **model_columns(config)}


def column_view(tx: Transaction, model: str, column: str, segment: str, window: Window, since: datetime) -> ColumnView:
    """One column in a window, its champion's reference, its days since `since`, and what was measured on it; in a
    segment or in all rows."""
    version = champion_at(tx.champions(model), window.end) or ALL
    reference = tx.profiles(model, None, segment, version=version, column=column, label=ALL)
    until = newest(tx, model)
    span = Window(min(since, window.start), max(until or window.end, window.end))
    stored = tx.profiles(model, span, segment, column=column, label=ALL)
    covered = [profile for key, profile in stored if key.start is not None and key.start in window]
    return ColumnView(
        current=merge(covered),
        baseline=reference[0][1] if reference else None,
        version=version,
        grid=tx.grids(model).get(column),
        days=by_day(stored),
        points=tx.select(
            Point,
            (POINTS.window_end > since) & (POINTS.monitor != ""),
            model=model,
            column=column,
            segment=segment,
            order="window_end",
        ),
    )


def by_day(stored: Iterable[tuple[Key, Profile]]) -> list[tuple[datetime, Profile]]:
    """Profiles of grains, of any version, merged into days; oldest first."""
    groups: dict[datetime, list[Profile]] = {}
    for key, profile in stored:
        if key.start is not None:
            groups.setdefault(floor(key.start, DAY), []).append(profile)
    merged = [(day, merge(parts)) for day, parts in sorted(groups.items())]
    return [(day, profile) for day, profile in merged if profile is not None]
