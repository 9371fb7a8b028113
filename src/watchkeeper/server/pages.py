"""The pages of the fleet, of a model and of one of its columns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any
from urllib.parse import quote, urlencode

from fastapi import APIRouter, Depends, Request
from fastapi.responses import HTMLResponse

from watchkeeper import accounts, charts, words
from watchkeeper.accounts import Accounts
from watchkeeper.errors import ConfigError
from watchkeeper.gaps import last_gaps
from watchkeeper.kpis import kpi_of
from watchkeeper.metrics import METRICS
from watchkeeper.monitors import Watch, plan
from watchkeeper.profiles import Profile, Subject
from watchkeeper.records import Incident, Point, Rollout, Severity, Status, Verdict, place
from watchkeeper.schema import Kind, ModelConfig, MonitorConfig
from watchkeeper.server import reads, series
from watchkeeper.server.rendering import embedded, page
from watchkeeper.server.services import RequestError, Services, absent, services
from watchkeeper.windows import DAY, HOUR, Window, floor, parse_duration

router = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)
Served = Annotated[Services, Depends(services)]

RANGES = (14, 30, 90, 365)
SPANS = (1, 7, 30)
TABLE_ROWS = 21
RANK = (Status.BREACH, Status.NO_DATA, Status.PROVISIONAL, Status.NOT_ENOUGH_DATA, Status.HEALTHY)
"""The order in which a reader wants to see what looks found."""


@dataclass(frozen=True, slots=True)
class Health:
    word: str
    tone: str


@dataclass(frozen=True, slots=True)
class MonitorRow:
    """A line of the table of monitors: the monitor, what it looks at, and what its last looks found."""

    name: str
    severity: Severity
    what: str
    columns: str
    limit: str
    window: str
    confidence: str
    counts: list[tuple[Status, int]]
    looked: str
    verdicts: list[Verdict]
    relative: str | None

    @property
    def reason(self) -> str:
        """Why the last look of the first column to show ended as it did."""
        return words.sentence(self.verdicts[0].reason) if self.verdicts else "Not looked at yet"


def health(standing: reads.Standing) -> Health:
    """The worst open incident; without one, healthy if anything has been heard."""
    if standing.severity is not None:
        return Health(f"{standing.severity} incident", words.tone(standing.severity))
    statuses = {status for counts in standing.checks.values() for status in counts}
    if standing.until is None or statuses == {Status.NO_DATA}:
        return Health("no data", "quiet")
    return Health("healthy", "good")


# The fleet


@router.get("/")
def fleet(request: Request, served: Served) -> HTMLResponse:
    with served.state.snapshot() as tx:
        found = [reads.standing(tx, name, config) for name, config in served.config.models.items()]
    found.sort(key=lambda s: s.need)
    rows = [{"standing": s, "health": health(s), "checks": check_words(s.checks), "spark": spark(s)} for s in found]
    tally = Counter(incident.severity for s in found for incident in s.incidents)
    return page(
        request, "fleet.html", rows=rows, tally={severity: tally[severity] for severity in Severity},
        healthy=sum(health(s).word == "healthy" for s in found), incidents_open=sum(tally.values()),
    )  # fmt: skip


def check_words(checks: dict[str, Counter[Status]]) -> dict[str, Any]:
    """The causes whose last looks found something, with their counts, and the healthy ones in a line."""
    known = [cause for cause in reads.CAUSES if cause in checks]
    healthy = [cause for cause in known if set(checks[cause]) == {Status.HEALTHY}]
    return {
        "found": [{"cause": words.cause(c), "counts": ranked(checks[c])} for c in known if c not in healthy],
        "healthy": ", ".join(f"{cause} {checks[cause].total()}" for cause in healthy),
    }


def ranked(counts: Counter[Status]) -> list[tuple[Status, int]]:
    return [(status, counts[status]) for status in RANK if counts[status]]


def spark(standing: reads.Standing) -> dict[str, Any] | None:
    """The points of a small line in a box of 120 by 28, and what it shows in words."""
    values = [p.value for p in standing.spark if p.value is not None]
    if len(values) < 2:
        return None
    low, high = min(values), max(values)
    times = [p.window.end for p in standing.spark if p.value is not None]
    span = (times[-1] - times[0]) / HOUR or 1
    line = " ".join(
        f"{120 * ((t - times[0]) / HOUR) / span:.1f},{26 - 24 * ((v - low) / (high - low) if high > low else 0.5):.1f}"
        for t, v in zip(times, values, strict=True)
    )
    return {
        "line": line,
        "last": words.measured(values[-1], standing.metric),
        "metric": words.metric_title(standing.metric),
        "range": f"{words.measured(low, standing.metric)} to {words.measured(high, standing.metric)}",
        "days": len({t.date() for t in times}),
    }


# One model


@router.get("/models/{model}")
def model(
    request: Request, served: Served, model: str, metric: str = "", drift: str = "", days: int = 0, window: str = ""
) -> HTMLResponse:
    config = served.model(model)
    days = days or (14 if config.grain == "1h" else 90)
    performance = reads.PERFORMANCE[config.task]
    check_choice("metric", metric, performance)
    drifts = drift_metrics(config)
    check_choice("drift metric", drift, drifts)
    chosen, drifted = metric or performance[0], drift or drifts[0]
    rolling = series.read_window(config, window)
    with served.state.snapshot() as tx:
        standing = reads.standing(tx, model, config)
        champions = tx.champions(model)
        since = (standing.until or served.clock()) - timedelta(days=max(days, 1))
        points = reads.chart_points(tx, model, since, drifted)
        shown = series.points(tx, served, model, [chosen, f"estimated_{chosen}"], rolling, since)
        verdicts = reads.latest_verdicts(tx, model)
        judged = reads.judged_points(tx, verdicts)
        incidents = tx.select(Incident, model=model, order="-opened_at", limit=50)
        rollouts = tx.select(Rollout, model=model, order="-started_at", limit=50)
        told = accounts.accounts(tx, model, config, served.clock())
        apart = last_gaps(tx, model, config)
    drift_points = reads.main_series(p for p in points if p.metric == drifted and p.column in config.features)
    service = [p for p in points if p.monitor == "" and p.version == ""]
    links = choices(request, {"metric": chosen, "drift": drifted, "days": str(days), "window": window})
    return page(
        request, "model.html", name=model, config=config, standing=standing, health=health(standing),
        champions=champions, days=days, performance=performance_section(shown, champions, chosen, rolling),
        window_links=links("window", window_options(config, window)),
        metric_links=links("metric", [(m, words.metric_title(m)) for m in performance]),
        drift_links=links("drift", [(m, words.metric_title(m)) for m in drifts]),
        range_links=links("days", [(str(d), f"{d} days") for d in RANGES]),
        drift=drift_section(model, drift_points, drifted), service=service_section(service),
        business=business_section(service), kpis=kpi_sections(service, config),
        monitors=monitor_rows(config, verdicts, judged), incidents=incidents, rollouts=rollouts,
        accounts=accounts_rows(told), gaps=apart, relative={m.name: m.relative for m in config.monitors or ()},
    )  # fmt: skip


def accounts_rows(told: Accounts) -> list[tuple[str, str, str]]:
    """What became of a model's events: what is told, its number, and what it means."""
    n = told.counts
    rows = [
        ("Labels due", words.number(told.due), "predictions of the last 30 days that are old enough for their label"),
        ("Labelled", words.share(told.labelled), "of them that have it"),
        ("Outcomes that found their prediction", words.share(told.join_rate), "of all requests with an outcome"),
    ]
    for title, times in (("Label delay", told.label_delay), ("Arrival lag", told.arrival_lag)):
        what = "until the label was known" if title == "Label delay" else "until the prediction was in the log"
        shown = ", ".join(words.span(seconds) for seconds in times) or words.NONE
        rows.append((title, shown, f"{what}: median, 90 % and 99 % of the last 30 days"))
    rows += [
        (title, words.number(n[name]), meaning) for name, (title, meaning) in COUNTED.items() if n.get(name) is not None
    ]
    rows += [
        (f"Outcomes, {name.removeprefix('source ')}", words.number(n[name]), "kept, by their source")
        for name in sorted(n)
        if name.startswith("source ")
    ]
    rows += [
        (f"Dropped by clients: {name.removeprefix(accounts.LOST)}", words.number(n[name]), LOST[name])
        for name in LOST
        if n.get(name)
    ]
    return rows


LOST = {
    f"{accounts.LOST}{reason}": meaning
    for reason, meaning in {
        "invalid": "they have not the form of an event",
        "refused": "this server did not take them",
        "buffer full": "more came than may wait in a client's memory",
        "spool full": "the oldest that a client kept on disk made room for newer ones",
        "undelivered": "a client ended before it could deliver them",
        "closed": "they were logged after their client was closed",
    }.items()
}
"""What clients say that they dropped, which never came here, and what it means."""

COUNTED = {
    "orphans": ("Orphans", "requests with an outcome and no prediction so far"),
    "early": ("Early", "requests whose outcome came before their prediction"),
    "conflicting": ("Conflicting", "requests told different labels; the latest counts"),
    "contradicted": ("Contradicted", "outcomes of the same moment with another label; the first counts"),
    "outcomes again": ("Outcomes sent again", "the same once more; kept once"),
    "kpis again": ("KPIs sent again", "the same once more; kept once"),
    "predictions again": ("Predictions sent again", "the same request once more; kept once"),
    "set aside": ("Values set aside", "they do not fit their column, or nobody declared it"),
    "rejected": ("Rejected", "events that could not be read"),
    "too late": ("Too late", "predictions of times whose rows were deleted; not in the summaries"),
}
"""What is counted of a model's events, and in which words."""


def drift_metrics(config: ModelConfig) -> list[str]:
    """The distances that the model's monitors measure on its features, in the usual order."""
    used = {watch.metric.name for _, watch in planned(config) if watch.column in config.features}
    return [name for name in reads.DRIFT if name in used] or [reads.DRIFT[0]]


def check_choice(what: str, value: str, known: Sequence[str]) -> None:
    if value and value not in known:
        raise absent(what, value, list(known))


def choices(request: Request, now: dict[str, str]) -> Any:
    """Makes lists of links that change one of the page's choices and keep the others."""

    def links(name: str, options: Iterable[tuple[str, str]]) -> list[dict[str, Any]]:
        return [
            {
                "href": f"{quote(request.url.path)}?{urlencode({k: v for k, v in {**now, name: value}.items() if v})}"
                f"#{name}",
                "text": text,
                "current": value == now[name],
            }
            for value, text in options
        ]

    return links


def window_options(config: ModelConfig, window: str) -> list[tuple[str, str]]:
    """The windows that the performance can be shown over, and the one that it is shown over."""
    grain = "each hour" if config.grain == "1h" else "each day"
    lengths = series.ROLLING[config.grain]
    more = [window] if window and window not in lengths else []
    return [("", grain), *((w, last_of(parse_duration(w))) for w in (*lengths, *more))]


def last_of(length: timedelta) -> str:
    return f"last {charts.length_of(length).removeprefix('1 ')}"


def performance_section(
    points: Sequence[Point], champions: Sequence[tuple[datetime, str]], metric: str, rolling: timedelta | None
) -> dict[str, Any]:
    """A performance metric of each version over time, of each grain or over rolling windows."""
    title = ""
    if rolling is not None:
        title = f"{charts.title_of(metric)} of each version, {last_of(rolling)} (points overlap)"
    own = [p for p in points if p.metric == metric and p.monitor == "" and p.value is not None]
    versions = [p for p in own if p.version] or own
    estimated = [p for p in points if p.metric == f"estimated_{metric}" and p.monitor == ""]
    return {
        "chart": embedded(charts.performance_over_time([*versions, *estimated], champions, metric, title)),
        "coverage": embedded(charts.label_coverage(points, metric)) if any(p.provisional for p in versions) else None,
        "metric": metric,
        "rows": sorted(versions, key=lambda p: p.window.end, reverse=True)[:TABLE_ROWS],
    }


def drift_section(model: str, points: list[Point], metric: str) -> dict[str, Any]:
    """The map, and each feature's last and strongest drift."""
    length = points[0].window.length if points else DAY
    link = f"/models/{model}/columns/{{column}}?day={{day}}&days={max(length // DAY, 1)}"
    rows = []
    for column in charts.by_drift(points):
        own = [p for p in points if p.column == column and p.value is not None]
        rows.append({"column": column, "last": own[-1], "most": max(own, key=lambda p: p.value or 0.0)})
    return {
        "chart": embedded(charts.drift_map(points), link),
        "rows": rows,
        "metric": metric,
    }


def service_section(points: Sequence[Point]) -> dict[str, Any]:
    """How requests were answered, and what that took, of what was measured."""
    by_time: dict[datetime, dict[str, Point]] = {}
    for p in points:
        if p.column in ("status", "latency_ms", "variant"):
            by_time.setdefault(p.window.start, {})[p.metric] = p
    used = [p for p in points if p.metric == "mean_use" and p.value is not None]
    return {
        "latency": embedded(charts.latency([p for p in points if p.column == "latency_ms"])),
        "volume": embedded(charts.volume([p for p in points if p.metric == "volume"])),
        "failures": embedded(charts.shares_over_time(points, reads.FAILURES, "Errors, timeouts, fallbacks")),
        "uses": [
            embedded(charts.metric_over_time([p for p in used if p.column == column], title=USES[column]))
            for column in USES
            if any(p.column == column for p in used)
        ],
        "rows": sorted(by_time.items(), reverse=True)[:TABLE_ROWS],
    }


USES = {
    "cpu_ms": "Processor time of a prediction",
    "memory_mb": "Memory of the process",
    "gpu_memory_mb": "Memory of the GPU",
    "disk_mb": "Reading and writing of a prediction",
}
"""What predictions use, in the titles of charts."""


def business_section(points: Sequence[Point]) -> dict[str, Any]:
    """What predictions cost, of what was measured."""
    own = [p for p in points if p.metric in reads.BUSINESS and p.value is not None]
    series: dict[tuple[str, str], list[Point]] = {}
    for p in own:
        series.setdefault((p.metric, p.column), []).append(p)
    shown = sorted(series.values(), key=lambda some: (some[0].column, reads.BUSINESS.index(some[0].metric)))
    return {
        "charts": [embedded(charts.metric_over_time(some, title=business_title(some[0]))) for some in shown],
        "rows": [(business_title(some[-1]), some[-1]) for some in shown],
    }


def kpi_sections(points: Sequence[Point], config: ModelConfig) -> list[dict[str, Any]]:
    """What predictions have led to: for each KPI its charts, and the last value of each metric of it."""
    sections = []
    for name, kpi in config.kpis.items():
        own = [p for p in points if p.metric in KPIS and p.value is not None and kpi_of(p.column, [name])]
        last = {p.metric: p for p in sorted(own, key=lambda p: p.window.end)}
        if own:
            sections.append(
                {
                    "name": name,
                    "unit": kpi.unit,
                    "delay": words.span(kpi.delay.total_seconds()),
                    "charts": [embedded(figure) for figure in charts.kpi(own, name, kpi.unit)],
                    "rows": [(title, of, last[metric]) for metric, (title, of) in KPIS.items() if metric in last],
                }
            )
    return sections


KPIS = {
    "kpi_sum": ("Sum of a grain", "predictions"),
    "kpi_per_prediction": ("Per prediction", "predictions"),
    "kpi_mean": ("Mean, where there is one", "predictions"),
    "kpi_coverage": ("Predictions that have one", "predictions"),
    "kpi_per_user": ("Per user", "users"),
    "kpi_user_share": ("Users that have one", "users"),
    "kpi_delay": ("Median time until it is known", "predictions"),
}
"""What is told of a KPI, in which words, and what it is of."""


def business_title(p: Point) -> str:
    return words.cause(words.metric_title(p.metric))


def monitor_rows(config: ModelConfig, verdicts: Sequence[Verdict], judged: dict[str, Point]) -> list[MonitorRow]:
    """A line for each monitor of the configuration, those with breaches first."""
    groups: dict[MonitorConfig, list[Watch]] = {}
    for monitor, watch in planned(config):
        groups.setdefault(monitor, []).append(watch)
    rows = [
        monitor_row(monitor, watches, [v for v in verdicts if v.monitor == monitor.name], judged.get(monitor.name))
        for monitor, watches in groups.items()
    ]
    return sorted(rows, key=lambda row: (RANK.index(row.counts[0][0]) if row.counts else len(RANK), row.severity))


def planned(config: ModelConfig) -> list[tuple[MonitorConfig, Watch]]:
    """The looks of the configuration; none where it names a metric that is not installed here."""
    try:
        return [(watch.monitor, watch) for watch in plan(config) if watch.monitor is not None]
    except ConfigError:
        return []


def monitor_row(
    monitor: MonitorConfig, watches: Sequence[Watch], verdicts: Sequence[Verdict], point: Point | None
) -> MonitorRow:
    columns = [w.column for w in watches]
    one = columns[0] if len(columns) == 1 else ""
    own = sorted(verdicts, key=lambda v: (RANK.index(v.status), v.column, v.segment))
    sure = point.confidence if point else 1 - watches[0].alpha
    title = words.metric_title(monitor.metric, monitor.relative)
    compares = monitor.relative is not None or watches[0].metric.needs_baseline
    return MonitorRow(
        name=monitor.name,
        severity=monitor.severity,
        what=f"{title} against {words.baseline(monitor)}" if compares else title,
        columns=(one or words.count(len(columns), "column")) + (", and in segments" if monitor.segments else ""),
        limit=words.limit(monitor.limit, monitor.direction, monitor.metric, one, monitor.relative),
        window=words.duration(monitor.window),
        confidence=words.confidence(sure),
        counts=ranked(Counter(v.status for v in own)),
        looked=words.window(own[0].window) if own else words.NONE,
        verdicts=own,
        relative=monitor.relative,
    )


# One column


@router.get("/models/{model}/columns/{column:path}")
def column(
    request: Request, served: Served, model: str, column: str, day: str = "", days: int = 7, segment: str = ""
) -> HTMLResponse:
    config = served.model(model)
    known = reads.kinds(config)
    if column not in known:
        raise absent("column", column, list(known))
    with served.state.snapshot() as tx:
        segments = [name for one in tx.segmentations(model) for name in one.names]
        if segment and segment not in segments:
            raise absent("segment", segment, segments)
        last = reads.newest(tx, model) or served.clock()
        window = chosen_window(day, days, last)
        since = min(window.start, last - timedelta(days=90))
        view = reads.column_view(tx, model, column, segment, window, since)
    address = f"/models/{model}/columns/{quote(column, safe='')}"
    later = words.day(window.end + (days - 1) * DAY) if window.end < last else ""
    title = f"{place(column, segment)}, {words.window(window)}"
    distribution = charts.distribution(view.current, view.baseline, view.grid, title)
    return page(
        request, "column.html", model=model, column=column, kind=known[column], config=config, window=window,
        day=words.day(window.end - DAY), days=days, view=view, segment=segment, segments=segments,
        address=address, spans=SPANS,
        earlier=words.day(window.start - DAY), later=later,
        distribution=embedded(distribution), facts=facts(view, known[column]),
        history=history(view, known[column]), watched=watched(config, column, view.points),
    )  # fmt: skip


def chosen_window(day: str, days: int, last: datetime) -> Window:
    """The whole days that end with `day`, or with the last day that has data."""
    if not 1 <= days <= 366:
        raise RequestError(422, f"days must be 1 to 366, found {days}", "correct the address")
    end = floor(last - timedelta(microseconds=1), DAY) + DAY
    if day:
        try:
            end = datetime.fromisoformat(day[:10]).replace(tzinfo=UTC) + DAY
        except ValueError:
            raise RequestError(422, f'"{day}" is no day', "write it as 2013-07-04") from None
    return Window(end - timedelta(days=days), end)


def facts(view: reads.ColumnView, kind: Kind) -> list[dict[str, str]]:
    """The plain numbers of the column, now and in the baseline."""
    rows = [{"name": "Rows", "now": _rows(view.current), "before": _rows(view.baseline)}]
    names = ["null_rate", "sentinel_rate", "out_of_range", "infinite_rate"]
    for name in ["null_rate", "new_category"] if kind is Kind.CATEGORICAL else names:
        rows.append({"name": words.metric_title(name).capitalize()} | _both(view, name))
    if kind is not Kind.CATEGORICAL and view.grid is not None:
        grid = view.grid
        sides = [side.mean(grid) if side else None for side in (view.current, view.baseline)]
        rows.append({"name": "Mean", "now": words.number(sides[0]), "before": words.number(sides[1])})
        rows.append({"name": "Median"} | _both(view, "p50"))
        for name, end in (("Least value", "low"), ("Greatest value", "high")):
            ends = [getattr(side, end) if side else None for side in (view.current, view.baseline)]
            rows.append({"name": name, "now": words.number(ends[0]), "before": words.number(ends[1])})
    if kind is Kind.CATEGORICAL:
        rows.append({"name": "Different values", "now": _values(view.current), "before": _values(view.baseline)})
    return rows


def _rows(profile: Profile | None) -> str:
    return f"{profile.n:,}" if profile else words.NONE


def _values(profile: Profile | None) -> str:
    if profile is None:
        return words.NONE
    return f"more than {len(profile.values):,}" if profile.others else f"{len(profile.values):,}"


def _subject(view: reads.ColumnView, current: Profile | None) -> Subject:
    return Subject(current, view.baseline, view.grid, 0.5, 1, 1, {}, {})


def _both(view: reads.ColumnView, metric: str) -> dict[str, str]:
    sides = [METRICS[metric].compute(_subject(view, side), 0.025).value for side in (view.current, view.baseline)]
    return {"now": words.measured(sides[0], metric), "before": words.measured(sides[1], metric)}


def history(view: reads.ColumnView, kind: Kind) -> list[dict[str, Any]]:
    """The column day by day: its mean, and the share that is missing."""
    null_rate = METRICS["null_rate"]

    def missing(profile: Profile) -> float | None:
        return null_rate.compute(_subject(view, profile), 0.025).value

    shown = []
    if kind is not Kind.CATEGORICAL and view.grid is not None:
        grid = view.grid
        means = [(day, profile.mean(grid)) for day, profile in view.days]
        before = view.baseline.mean(grid) if view.baseline else None
        reference = (before, "baseline") if before is not None else None
        shown.append(embedded(charts.values_over_time(means, "Mean, day by day", "mean", reference=reference)))
    shares = [(day, missing(profile)) for day, profile in view.days]
    before = missing(view.baseline) if view.baseline else None
    title = "Share of missing values, day by day"
    shown.append(
        embedded(
            charts.values_over_time(
                shares, title, "missing", share=True, reference=(before, "baseline") if before is not None else None
            )
        )
    )
    return shown


def watched(config: ModelConfig, column: str, points: Sequence[Point]) -> list[dict[str, Any]]:
    """What each monitor measured on the column over time, with its limit; drift first."""
    order = {cause: i for i, cause in enumerate(dict.fromkeys(("drift", *reads.CAUSES)))}
    found = []
    looks = [(order[watch.metric.cause], monitor) for monitor, watch in planned(config) if watch.column == column]
    for _, monitor in sorted(looks, key=lambda look: look[0]):
        own = [p for p in points if p.monitor == monitor.name and p.version == ""]
        own = own or [p for p in points if p.monitor == monitor.name]
        title = f"{monitor.name}: {words.metric_title(monitor.metric, monitor.relative)}"
        figure = charts.metric_over_time(
            own, monitor.limit, monitor.direction, relative=monitor.relative, title=title[:1].upper() + title[1:]
        )
        figure["layout"]["height"] = 260
        found.append(embedded(figure))
    return found
