"""Metrics over time, with their intervals, limits and what happened on the way."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from watchkeeper.charts.figures import (
    ALARM,
    BLUE,
    GREY,
    SERIES,
    THIN,
    Figure,
    Unit,
    at,
    blank,
    horizontal,
    length_of,
    line_with_band,
    moment,
    nothing,
    rounded,
    short,
    time_title,
    title_of,
    unit_of,
    vertical,
    with_gaps,
)
from watchkeeper.records import Point


def performance_over_time(
    points: Sequence[Point], champions: Sequence[tuple[datetime, str]], metric: str, title: str = ""
) -> Figure:
    """A performance metric of each version, with its 95 % band; vertical lines mark new champions.

    Values whose labels are not all known yet have a dashed band, and beside them what the known labels say. What was
    estimated without labels, where the points have it, is grey, and named by what it was last estimated from if that is
    more than the scores.
    """
    unit = unit_of(metric)
    title = title or f"{title_of(metric)} of each version"
    estimated = [p for p in points if p.metric == f"estimated_{metric}" and p.value is not None]
    kept = [p for p in points if p.metric == metric and p.value is not None]
    if not kept and not estimated:
        return nothing(title, "No labelled predictions yet")
    both = [*kept, *estimated]
    versions = sorted({p.version for p in both}, key=lambda v: min(p.window.end for p in both if p.version == v))
    order = [version for _, version in champions if version in versions]
    versions = list(dict.fromkeys([*order, *versions]))
    figure = blank(title, "day (UTC)", unit.axis)
    for i, version in enumerate(versions):
        own, name = [p for p in kept if p.version == version], f"version {version}" if version else "all versions"
        mature, early = ([p for p in own if p.provisional is so] for so in (False, True))
        guess = [p for p in estimated if p.version == version]
        if guess:
            ways = max(guess, key=at).detail.get("from")
            said = f"{name}, estimated" + (f" from {ways}" if ways else "")
            figure["data"] += line_with_band(guess, said, i, unit, style=(GREY, "dot"))
        figure["data"] += line_with_band(mature, name, i, unit) if mature else []
        figure["data"] += _provisional(early, name, i, unit) if early else []
    _mark_champions(figure, champions, both)
    figure["layout"]["showlegend"] = True
    return figure


def _provisional(points: Sequence[Point], name: str, i: int, unit: Unit) -> list[dict[str, Any]]:
    """What labels that are known so far say: corrected for those to come, with a dashed band, and as they are."""
    own = sorted(points, key=at)
    x, colour = [moment(at(p)) for p in own], SERIES[i % len(SERIES)]
    ends = ([unit.of(p.low) for p in own], [unit.of(p.high) for p in own])
    plain = [unit.of(p.detail["plain"]) for p in own]
    told = [
        [*rounded([low, high, known]), *rounded([None if p.coverage is None else 100 * p.coverage])]
        for p, low, high, known in zip(own, *ends, plain, strict=True)
    ]
    shared: dict[str, Any] = {"type": "scatter", "x": x, "legendgroup": f"{name}, provisional"}
    quiet = {"mode": "lines", "showlegend": False, "hoverinfo": "skip"}
    edge = {**shared, **quiet, "line": {"color": colour, "width": 1, "dash": "dash"}}
    return [
        *({**edge, "name": f"{name}, provisional band", "y": rounded(end)} for end in ends),
        {
            **shared, "mode": "markers", "name": f"{name}, provisional, not corrected", "y": rounded(plain),
            "marker": {"color": GREY, "size": 6, "symbol": "circle-open"},
            "hovertemplate": f"{unit.shown('y')} by the labels known so far<extra>{name}, not corrected</extra>",
        },
        {
            **shared, "mode": "lines+markers", "name": f"{name}, provisional",
            "y": rounded([unit.of(p.value) for p in own]),
            "customdata": told, "line": {"color": colour, "width": 2, "dash": "dot"},
            "marker": {"size": 6, "symbol": "diamond-open"},
            "hovertemplate": (
                f"<b>{unit.shown('y')}</b>, between {unit.shown('customdata[0]')} and {unit.shown('customdata[1]')}<br>"
                f"provisional: %{{customdata[3]:.1f}}{THIN}% labelled;"
                f" {unit.shown('customdata[2]')} uncorrected<br>%{{x}}<extra>{name}</extra>"
            ),
        },
    ]  # fmt: skip


def label_coverage(points: Sequence[Point], metric: str, title: str = "Label coverage, when last looked at") -> Figure:
    """Which share of the predictions behind the values of a performance metric had their label when it was last looked
    at, and how many will have one."""
    newest: dict[datetime, Point] = {}
    for p in points:
        if p.metric == metric and p.value is not None and p.coverage is not None and p.n >= newest.get(at(p), p).n:
            newest[at(p)] = p
    if not newest:
        return nothing(title, "No labelled predictions yet")
    own = [newest[time] for time in sorted(newest)]
    figure = blank(title, "day (UTC)", "predictions with their label (%)")
    expected = [100 * float(p.detail.get("coverage", p.coverage or 0.0)) for p in own]
    for name, values, line in (
        ("labelled", [100 * (p.coverage or 0.0) for p in own], {"color": BLUE, "width": 2}),
        ("expected", expected, {"color": BLUE, "width": 1, "dash": "dash"}),
    ):
        figure["data"].append(
            {
                "type": "scatter", "mode": "lines", "name": name, "x": [moment(at(p)) for p in own],
                "y": rounded(values), "line": line,
                "hovertemplate": f"%{{y:.1f}}{THIN}%<br>%{{x}}<extra>{name}</extra>",
            }
        )  # fmt: skip
    figure["layout"] |= {"height": 200, "showlegend": True}
    figure["layout"]["yaxis"] |= {"rangemode": "tozero"}
    return figure


def _mark_champions(figure: Figure, champions: Sequence[tuple[datetime, str]], points: Sequence[Point]) -> None:
    first, last = min(p.window.start for p in points), max(p.window.end for p in points)
    shown = [(since, version) for since, version in champions if first < since <= last]
    for i, (since, version) in enumerate(shown):
        vertical(figure, since, f"champion {short(version, 16)}", 1.0 - 0.08 * (i % 3))


def metric_over_time(
    points: Sequence[Point],
    limit: float | None = None,
    direction: str = "above",
    *,
    since: datetime | None = None,
    relative: str | None = None,
    title: str = "",
) -> Figure:
    """One metric with its intervals, and the limit that it is held to.

    Args:
        points: of one metric; each monitor and version gets its own line.
        limit, direction: the limit, and on which side of it trouble lies.
        since: when trouble began, marked by a vertical line.
        relative: "difference" or "ratio" where the points hold those, as in a monitor.
    """
    kept = [p for p in points if p.value is not None]
    if not kept:
        return nothing(title or "Nothing measured", "No values in this stretch of time")
    unit = unit_of(kept[0].metric, kept[0].column, relative)
    title = title or f"{title_of(kept[0].metric)} of {kept[0].column}"
    figure = blank(title, time_title(kept[0]), unit.axis)
    groups = _series(kept)
    for i, ((monitor, version), own) in enumerate(groups.items()):
        name = " · ".join(x for x in (monitor, version and f"version {version}") if x) or title_of(own[0].metric)
        figure["data"] += line_with_band(own, name, i, unit)
    figure["layout"]["showlegend"] = len(groups) > 1
    if limit is not None:
        word = "limit, trouble above" if direction == "above" else "limit, trouble below"
        horizontal(figure, unit.of(limit) or 0.0, word, ALARM, "dash")
    if since is not None:
        vertical(figure, since, "since", 1.0)
    return figure


def realised_and_estimated(realised: Sequence[Point], estimated: Sequence[Point], title: str) -> Figure:
    """A metric by the labels that are known, and in grey what it was estimated to be without labels."""
    sides = {"realised": realised, "estimated": estimated}
    kept = {name: own for name, points in sides.items() if (own := [p for p in points if p.value is not None])}
    if not kept:
        return nothing(title, "No values in this stretch of time")
    first = next(iter(kept.values()))[0]
    unit = unit_of(first.metric)
    figure = blank(title, time_title(first), unit.axis)
    for name in reversed(kept):
        style = (GREY, "dot") if name == "estimated" else None
        figure["data"] += line_with_band(kept[name], name, 0, unit, style=style)
    figure["layout"]["showlegend"] = True
    return figure


def latency(points: Sequence[Point], title: str = "Latency") -> Figure:
    """Median, 95th and 99th percentile of the latency over time."""
    kept = [p for p in points if p.metric in ("p50", "p95", "p99") and p.value is not None]
    if not kept:
        return nothing(title, "No latencies were logged")
    figure = blank(title, time_title(kept[0]), "latency (ms)")
    unit = Unit("latency (ms)", 1, ",.1f", f"{THIN}ms")
    for i, (metric, name) in enumerate((("p50", "median"), ("p95", "95th percentile"), ("p99", "99th percentile"))):
        own = [p for p in kept if p.metric == metric]
        figure["data"] += line_with_band(own, name, i, unit, band=False) if own else []
    figure["layout"]["yaxis"] |= {"rangemode": "tozero"}
    return figure


def shares_over_time(points: Sequence[Point], metrics: Sequence[str], title: str) -> Figure:
    """Several shares of the same rows over time, such as what became of requests: a line for each metric that was
    measured, whose interval one reads beside a point, since several bands on one another tell nothing."""
    kept = [p for p in points if p.metric in metrics and p.value is not None]
    if not kept:
        return nothing(title, "No values in this stretch of time")
    figure = blank(title, time_title(kept[0]), "share (%)")
    for i, metric in enumerate(dict.fromkeys(m for m in metrics if any(p.metric == m for p in kept))):
        own = [p for p in kept if p.metric == metric]
        figure["data"] += line_with_band(own, title_of(metric), i, unit_of(metric), band=False)
    figure["layout"]["showlegend"] = True
    return figure


def volume(points: Sequence[Point], title: str = "Predictions") -> Figure:
    """Predictions in each window, as bars."""
    kept = sorted((p for p in points if p.value is not None), key=lambda p: p.window.end)
    if not kept:
        return nothing(title, "No predictions yet")
    figure = blank(title, time_title(kept[0]), f"predictions in {length_of(kept[0].window.length)}")
    figure["data"] = [
        {
            "type": "bar", "name": "predictions", "x": [moment(at(p)) for p in kept],
            "y": rounded([p.value for p in kept]),
            "customdata": [str(p.window) for p in kept], "marker": {"color": BLUE},
            "hovertemplate": "%{y:,.0f} predictions<br>%{customdata}<extra></extra>",
        }
    ]  # fmt: skip
    figure["layout"] |= {"bargap": 0.15}
    figure["layout"]["yaxis"] |= {"rangemode": "tozero", "tickformat": ",~r"}
    return figure


def values_over_time(
    values: Sequence[tuple[datetime, float | None]],
    title: str,
    y_title: str,
    *,
    share: bool = False,
    reference: tuple[float, str] | None = None,
) -> Figure:
    """One plain number over time, and a reference line, such as the baseline's."""
    kept = [(time, v) for time, v in values if v is not None]
    if not kept:
        return nothing(title, "No values in this stretch of time")
    unit = Unit(f"{y_title} (%)", 100, ".2f", f"{THIN}%") if share else Unit(y_title, form=",.4~g")
    figure = blank(title, "day (UTC)", unit.axis)
    times = with_gaps([time for time, _ in kept])
    by_time = dict(kept)
    figure["data"] = [
        {
            "type": "scatter", "mode": "lines", "name": y_title, "x": [moment(t) for t, _ in times],
            "y": rounded([unit.of(by_time[t]) if there else None for t, there in times]),
            "line": {"color": BLUE, "width": 2}, "hovertemplate": f"{unit.shown('y')}<br>%{{x}}<extra></extra>",
        }
    ]  # fmt: skip
    if reference:
        horizontal(figure, unit.of(reference[0]) or 0.0, reference[1], GREY, "dot")
    figure["layout"]["showlegend"] = False
    if share:
        figure["layout"]["yaxis"] |= {"rangemode": "tozero"}
    return figure


def _series(points: Iterable[Point]) -> dict[tuple[str, str], list[Point]]:
    groups: dict[tuple[str, str], list[Point]] = {}
    for p in points:
        groups.setdefault((p.monitor, p.version), []).append(p)
    return groups
