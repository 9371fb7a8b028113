"""Charts: points, profiles and looks as Plotly figures, plain dicts of `data` and `layout`.

The dashboard, the report and notebooks show the same ones. They carry the light theme as their template; `THEMES`
holds both. Series differ in hue and in dashes, with a contrast of at least 3 to 1 on both themes. All times are UTC.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import numpy as np

import watchkeeper.monitors  # noqa: F401  importing it fills the registry of metrics
from watchkeeper.metrics import METRICS
from watchkeeper.profiles import NAN, NEGATIVE_INFINITY, NULL, POSITIVE_INFINITY, Profile
from watchkeeper.records import Point
from watchkeeper.schema import Kind
from watchkeeper.stats.grid import Floats, Grid, Ints
from watchkeeper.windows import DAY

Figure = dict[str, Any]

SERIES = ("#2f7de1", "#c9681c", "#0f9276", "#a05fc4", "#8b8417", "#d0486e")
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
BLUE, GREY, ALARM = SERIES[0], "#7a8699", "#cf4a1f"
BARS = 40
LITTLE_MORE = 0.15
MOST_CATEGORIES = 20
PSI_STEPS = (0.1, 0.25)
THIN = "\u202f"
"""A narrow space that does not break, between a number and its unit."""


def _theme(ink: str, soft: str, grid: str, paper: str) -> dict[str, Any]:
    axis = {
        "gridcolor": grid, "zerolinecolor": grid, "linecolor": grid, "tickcolor": grid, "automargin": True,
        "tickfont": {"color": soft}, "title": {"font": {"color": soft, "size": 12}, "standoff": 8},
    }  # fmt: skip
    return {
        "layout": {
            "font": {"family": "system-ui, -apple-system, Segoe UI, Roboto, sans-serif", "size": 12, "color": ink},
            "title": {"x": 0, "xanchor": "left", "xref": "paper", "font": {"size": 15, "color": ink}},
            "paper_bgcolor": paper, "plot_bgcolor": paper, "xaxis": axis, "yaxis": axis,
            "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom", "font": {"color": ink}},
            "hoverlabel": {"bgcolor": paper, "bordercolor": grid, "font": {"color": ink}, "align": "left"},
            "annotationdefaults": {"font": {"color": soft, "size": 11}},
            "margin": {"l": 56, "r": 16, "t": 64, "b": 48},
        }
    }  # fmt: skip


THEMES: dict[str, dict[str, Any]] = {
    "light": _theme("#1c232d", "#566273", "#dfe4ea", "#ffffff"),
    "dark": _theme("#e6eaf0", "#a3aebd", "#313a47", "#171c24"),
}


@dataclass(frozen=True, slots=True)
class Unit:
    """How values are drawn: multiplied by `scale`, in d3 number format `form`, with `suffix`; `axis` names them."""

    axis: str
    scale: float = 1.0
    form: str = ".3f"
    suffix: str = ""

    def of(self, value: float | None) -> float | None:
        return None if value is None else value * self.scale

    def shown(self, field: str) -> str:
        return f"%{{{field}:{self.form}}}{self.suffix}"


def unit_of(metric: str, column: str = "", relative: str | None = None) -> Unit:
    """How to draw the values of a metric; `relative` as in a monitor."""
    known = METRICS.get(metric)
    title, kind = (known.title, known.unit) if known else (metric.replace("_", " "), "")
    if column == "latency_ms" and metric in ("p50", "p95", "p99"):
        kind = "ms"
    if relative == "ratio":
        return Unit("ratio to the baseline", form=".2f", suffix=f"{THIN}×")
    if kind == "share":
        short = "share" if title.startswith("share of") else title
        axis = "difference (percentage points)" if relative else f"{short} (%)"
        return Unit(axis, 100, ".2f", f"{THIN}%")
    if kind == "ms":
        return Unit("latency (ms)", 1, ",.1f", f"{THIN}ms")
    if kind == "rows a grain":
        return Unit("predictions", 1, ",.0f")
    if relative:
        return Unit("difference from the baseline")
    return Unit(f"{title} ({kind})" if kind else title)


# Distributions


def distribution(current: Profile | None, baseline: Profile | None, grid: Grid | None, title: str) -> Figure:
    """One column now against its baseline, as shares of the values that are present.

    A continuous column is gathered into about 40 bars of equal width over the middle 99 % of both sides; what lies
    beyond is drawn as one hatched bar at each end and counted in its hover text. A discrete or categorical column
    has a bar for each value, the 20 most frequent of the baseline and the others together, and one for missing values
    and each sentinel; beside a continuous one these are told in words.
    """
    sides = [p for p in (baseline, current) if p is not None]
    if not any(_present(p) for p in sides):
        return nothing(title, "No values in this window")
    asides = [_aside(profile, grid) for profile in (current, baseline)]
    others = list(asides[0] | asides[1])
    if sides[0].kind is Kind.CATEGORICAL:
        names, counts = _by_category(current, baseline)
    elif grid is not None and grid.steps == 1 and len(grid.knots) <= BARS and _inside(sides, grid):
        names, counts = _by_atom(current, baseline, grid)
    else:
        assert grid is not None
        rows = [max(profile.n, 1) if profile else 1 for profile in (current, baseline)]
        return _densities(current, baseline, grid, title, [_told(other, asides, rows) for other in others])
    return _grouped_bars([*names, *others], [counts[0] | asides[0], counts[1] | asides[1]], title, "value")


def _told(other: str, asides: list[dict[str, int]], rows: list[int]) -> str:
    now, before = (f"{100 * asides[i].get(other, 0) / rows[i]:.3g}{THIN}%" for i in (0, 1))
    return f"{other}: {now} of the rows, {before} in the baseline"


def _present(profile: Profile) -> int:
    return int((profile.counts if profile.kind is Kind.CATEGORICAL else profile.regular[1]).sum())


def _inside(sides: Iterable[Profile], grid: Grid) -> bool:
    return all(((p.regular[0] >= 0) & (p.regular[0] <= grid.top)).all() for p in sides)


def _aside(profile: Profile | None, grid: Grid | None) -> dict[str, int]:
    """Rows without a value that could be drawn to scale, by what they hold instead."""
    if profile is None:
        return {}
    found = {"missing": profile.nulls + profile.special(NULL, NAN)}
    found["infinite"] = profile.special(POSITIVE_INFINITY, NEGATIVE_INFINITY)
    found |= {f"{value:g}": count for value, count in profile.sentinels(grid).items()} if grid else {}
    return {name: count for name, count in found.items() if count}


def _by_category(current: Profile | None, baseline: Profile | None) -> tuple[list[str], list[dict[str, int]]]:
    now, before = (p.by_value if p else {} for p in (current, baseline))
    ranked = sorted({*now, *before}, key=lambda v: (-before.get(v, 0), -now.get(v, 0), v))
    top, rest = ranked[:MOST_CATEGORIES], ranked[MOST_CATEGORIES:]
    names = {v: _short(v) or "(empty)" for v in top} | dict.fromkeys(rest, f"{len(rest)} others")
    sides = []
    for counts in (now, before):
        sides.append(dict.fromkeys(names.values(), 0))
        for value, count in counts.items():
            sides[-1][names[value]] += count
    return list(sides[0]), sides


def _by_atom(current: Profile | None, baseline: Profile | None, grid: Grid) -> tuple[list[str], list[dict[str, int]]]:
    names = [f"{knot:.4g}" for knot in grid.knots]
    if len(set(names)) < len(names):
        names = [f"{knot:.12g}" for knot in grid.knots]
    sides = [
        {names[i]: count for i, count in zip(*(a.tolist() for a in p.regular), strict=True)} if p else {}
        for p in (current, baseline)
    ]
    return names, sides


def _grouped_bars(names: list[str], sides: list[dict[str, int]], title: str, x_title: str) -> Figure:
    """A bar for each name and side: `sides` are the counts of the current data and of the baseline."""
    figure = _figure(title, x_title, "share of the rows (%)")
    for name, counts, colour, pattern in (("baseline", sides[1], GREY, "/"), ("current", sides[0], BLUE, "")):
        total = sum(counts.values()) or 1
        figure["data"].append({
            "type": "bar", "name": name, "x": names, "y": _rounded([100 * counts.get(n, 0) / total for n in names]),
            "marker": {"color": colour, "pattern": {"shape": pattern, "size": 5, "solidity": 0.25}},
            "hovertemplate": f"%{{x}}: %{{y:.2f}}{THIN}% of the rows<extra>{name}</extra>",
        })  # fmt: skip
    figure["layout"] |= {"barmode": "group", "bargap": 0.25, "hovermode": "x unified"}
    figure["layout"]["xaxis"] |= {"type": "category"}
    return figure


def _densities(current: Profile | None, baseline: Profile | None, grid: Grid, title: str, told: list[str]) -> Figure:
    edges = _bar_edges([p for p in (baseline, current) if p is not None and _present(p)], grid)
    figure = _figure(title, "value", "share of the values (%)")
    sides = ((baseline, "baseline", GREY, "dot"), (current, "current", BLUE, "solid"))
    for i, (profile, name, colour, dash) in enumerate(sides):
        if profile is None or not _present(profile):
            continue
        below, shares, above = gathered(profile, grid, edges)
        hover = [f"{_plain(a)} to under {_plain(b)}" for a, b in pairwise(edges)]
        figure["data"].append(
            {
                "type": "scatter", "mode": "lines", "name": name, "legendgroup": name,
                "x": _rounded(np.repeat(edges, 2).tolist(), 9),
                "y": _rounded([0.0, *np.repeat(shares, 2).tolist(), 0.0]),
                "customdata": [hover[0], *(h for h in hover for _ in (0, 1)), hover[-1]],
                "line": {"color": colour, "dash": dash, "width": 2}, "fill": "tozeroy",
                "fillcolor": _faded(colour, 0.22),
                "hovertemplate": f"%{{customdata}}: %{{y:.2f}}{THIN}% of the values<extra>{name}</extra>",
            }
        )  # fmt: skip
        figure["data"].append(_ends(i, name, colour, edges, below, above))
    figure["layout"] |= {"barmode": "overlay", "hovermode": "closest"}
    figure["layout"]["annotations"] += [_note("<br>".join(["Not drawn:", *told]))] if told else []
    return figure


def _note(text: str) -> dict[str, Any]:
    return {"text": text, "x": 1, "y": 1, "xref": "paper", "yref": "paper", "xanchor": "right", "yanchor": "top",
            "align": "right", "showarrow": False}  # fmt: skip


def _ends(i: int, name: str, colour: str, edges: Floats, below: float, above: float) -> dict[str, Any]:
    """Two hatched bars, beside the bars proper, for what lies beyond them; side `i` has the place `i`."""
    step = float(edges[1] - edges[0])
    shown = [
        (float(edges[0]) - (1.5 + i) * step, below, f"below {_plain(edges[0])}"),
        (float(edges[-1]) + (1.5 + i) * step, above, f"above {_plain(edges[-1])}"),
    ]
    kept = [s for s in shown if s[1] > 0.005]
    return {
        "type": "bar", "name": name, "legendgroup": name, "showlegend": False,
        "x": [s[0] for s in kept], "y": _rounded([s[1] for s in kept]), "customdata": [s[2] for s in kept],
        "width": 0.8 * step, "marker": {"color": colour, "pattern": {"shape": "x", "size": 5, "solidity": 0.4}},
        "hovertemplate": f"%{{customdata}}: %{{y:.2f}}{THIN}% of the values<extra>{name}</extra>",
    }  # fmt: skip


def _bar_edges(sides: Sequence[Profile], grid: Grid) -> Floats:
    """The edges of equal bars over the middle 99 % of every side, or over all of it where that takes little more."""
    middle, whole = [], []
    for profile in sides:
        lower, upper, counts = _spans(profile, grid)
        cumulative = np.cumsum(counts) / counts.sum()
        first = int(np.searchsorted(cumulative, 0.005))
        last = min(int(np.searchsorted(cumulative, 0.995)), len(counts) - 1)
        middle.append((float(lower[first]), float(upper[last])))
        whole.append((float(lower[0]), float(upper[-1])))
    low, high = min(m[0] for m in middle), max(m[1] for m in middle)
    least, greatest = min(w[0] for w in whole), max(w[1] for w in whole)
    room = LITTLE_MORE * (high - low)
    low, high = least if low - least <= room else low, greatest if greatest - high <= room else high
    if not high > low:
        low, high = low - 0.5, high + 0.5
    return np.linspace(low, high, BARS + 1)


def _spans(profile: Profile, grid: Grid) -> tuple[Floats, Floats, Ints]:
    """The ends and counts of a profile's bins; no bin reaches beyond the least or the greatest value."""
    bins, counts = profile.regular
    low, high = (np.nan if end is None else end for end in (profile.low, profile.high))
    lower, upper = grid.edges(bins)
    return np.fmin(np.fmax(lower, low), upper), np.fmax(np.fmin(upper, high), lower), counts


def gathered(profile: Profile, grid: Grid, edges: Floats) -> tuple[float, Floats, float]:
    """Shares, in percent, below the first edge, between each two, and from the last on.

    A fine bin that an edge cuts is split as if its values were spread evenly; a bin without width, a single value,
    falls into the bar that it starts.
    """
    lower, upper, counts = _spans(profile, grid)
    width = upper - lower
    with np.errstate(divide="ignore", invalid="ignore"):
        part = np.clip((edges[:, None] - lower) / width, 0.0, 1.0)
    closed = np.append(edges[:-1], np.nextafter(edges[-1], np.inf))  # the last bar holds its upper edge as well
    under = np.where(width > 0, part, closed[:, None] > lower)
    cumulative = (under * counts).sum(axis=1) / counts.sum() * 100
    return float(cumulative[0]), np.diff(cumulative), max(float(100 - cumulative[-1]), 0.0)


# Drift map


def drift_map(points: Sequence[Point], steps: tuple[float, float] = PSI_STEPS, title: str = "") -> Figure:
    """Features by days, coloured by how far each drifted; the feature that drifted most is on top.

    Args:
        points: of one drift metric, one per column and window; windows are named by the last day they cover.
        steps: where the colour says "watch" and "large".
    """
    metric = points[0].metric if points else "psi"
    unit = unit_of(metric)
    title = title or f"{title_of(metric)} of each feature"
    cells = {(p.column, at(p)): p for p in points if p.value is not None}
    if not cells:
        return nothing(title, "No drift has been measured yet")
    columns = by_drift(points)
    times = _all_times(sorted({time for _, time in cells}))
    rows = [[cells.get((column, time)) for time in times] for column in columns]
    figure = _figure(title, "last day of the window (UTC)", "")
    figure["data"] = [_heat(columns, times, rows, unit, steps)]
    figure["layout"]["height"] = 130 + 22 * len(columns)
    figure["layout"]["yaxis"] |= {"autorange": "reversed", "type": "category", "showgrid": False, "ticks": ""}
    figure["layout"]["xaxis"] |= {"showgrid": False}
    figure["layout"]["xaxis"]["title"] |= {"standoff": 20}
    return figure


def _heat(
    columns: list[str], times: list[datetime], rows: list[list[Point | None]], unit: Unit, steps: tuple[float, float]
) -> dict[str, Any]:
    watch, large = steps
    top = 2 * large
    colours = [
        (0.0, _faded(GREY, 0.12)), (watch / top, _faded(GREY, 0.38)), (watch / top, "#f0bd4a"),
        (large / top, "#e39a1f"), (large / top, "#d3541f"), (1.0, "#8e1d3f"),
    ]  # fmt: skip
    length = next(p.window.length for row in rows for p in row if p is not None)
    return {
        "type": "heatmap", "x": [_x(t) for t in times], "y": [_short(c, 28) for c in columns],
        "z": [_rounded([p.value if p else None for p in row], 4) for row in rows],
        "customdata": [[[c, *_rounded([p.low, p.high], 4), p.n] if p else [c] for p in row]
                       for c, row in zip(columns, rows, strict=True)],
        "zmin": 0, "zmax": top, "colorscale": [list(c) for c in colours], "xgap": int(len(times) <= 45), "ygap": 2,
        "hoverongaps": False, "showscale": True,
        "colorbar": {
            "orientation": "h", "thickness": 10, "len": 0.5, "lenmode": "fraction", "x": 1, "xanchor": "right",
            "y": 1.0, "yanchor": "bottom", "ypad": 4, "outlinewidth": 0, "tickvals": [0, watch, large, top],
            "ticktext": ["0", f"{watch:g}", f"{large:g}", f"{top:g}+"], "tickfont": {"size": 11}, "tickangle": 0,
        },
        "hovertemplate": (
            "<b>%{customdata[0]}</b>, window of " + _length(length) + " to the end of %{x|%Y-%m-%d}<br>"
            f"{unit.axis} %{{z:.3f}}, between %{{customdata[1]:.3f}} and %{{customdata[2]:.3f}}<br>"
            "%{customdata[3]:,} rows<extra></extra>"
        ),
    }  # fmt: skip


def by_drift(points: Iterable[Point]) -> list[str]:
    """The columns, the one with the strongest drift first; strongest by the lower end, which noise does not raise."""
    best: dict[str, tuple[float, float]] = {}
    for p in points:
        if p.value is not None:
            best[p.column] = max(best.get(p.column, (0.0, 0.0)), (p.low or 0.0, p.value))
    return sorted(best, key=lambda c: (-best[c][0], -best[c][1], c))


# Over time


def performance_over_time(
    points: Sequence[Point], champions: Sequence[tuple[datetime, str]], metric: str, title: str = ""
) -> Figure:
    """A performance metric of each version, with its 95 % band; vertical lines mark new champions."""
    unit = unit_of(metric)
    title = title or f"{title_of(metric)} of each version"
    kept = [p for p in points if p.metric == metric and p.value is not None]
    if not kept:
        return nothing(title, "No labelled predictions yet")
    versions = sorted({p.version for p in kept}, key=lambda v: min(p.window.end for p in kept if p.version == v))
    order = [version for _, version in champions if version in versions]
    versions = list(dict.fromkeys([*order, *versions]))
    figure = _figure(title, "day (UTC)", unit.axis)
    for i, version in enumerate(versions):
        own = [p for p in kept if p.version == version]
        figure["data"] += _line_with_band(own, f"version {version}" if version else "all versions", i, unit)
    _mark_champions(figure, champions, kept)
    figure["layout"]["showlegend"] = True
    return figure


def _mark_champions(figure: Figure, champions: Sequence[tuple[datetime, str]], points: Sequence[Point]) -> None:
    first, last = min(p.window.start for p in points), max(p.window.end for p in points)
    shown = [(since, version) for since, version in champions if first < since <= last]
    for i, (since, version) in enumerate(shown):
        _vertical(figure, since, f"champion {_short(version, 16)}", 1.0 - 0.08 * (i % 3))


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
    figure = _figure(title, _time_title(kept[0]), unit.axis)
    groups = _series(kept)
    for i, ((monitor, version), own) in enumerate(groups.items()):
        name = " · ".join(x for x in (monitor, version and f"version {version}") if x) or title_of(own[0].metric)
        figure["data"] += _line_with_band(own, name, i, unit)
    figure["layout"]["showlegend"] = len(groups) > 1
    if limit is not None:
        word = "limit, trouble above" if direction == "above" else "limit, trouble below"
        _horizontal(figure, unit.of(limit) or 0.0, word, ALARM, "dash")
    if since is not None:
        _vertical(figure, since, "since", 1.0)
    return figure


def latency(points: Sequence[Point], title: str = "Latency") -> Figure:
    """Median, 95th and 99th percentile of the latency over time."""
    kept = [p for p in points if p.metric in ("p50", "p95", "p99") and p.value is not None]
    if not kept:
        return nothing(title, "No latencies were logged")
    figure = _figure(title, _time_title(kept[0]), "latency (ms)")
    unit = Unit("latency (ms)", 1, ",.1f", f"{THIN}ms")
    for i, (metric, name) in enumerate((("p50", "median"), ("p95", "95th percentile"), ("p99", "99th percentile"))):
        own = [p for p in kept if p.metric == metric]
        figure["data"] += _line_with_band(own, name, i, unit, band=False) if own else []
    figure["layout"]["yaxis"] |= {"rangemode": "tozero"}
    return figure


def volume(points: Sequence[Point], title: str = "Predictions") -> Figure:
    """Predictions in each window, as bars."""
    kept = sorted((p for p in points if p.value is not None), key=lambda p: p.window.end)
    if not kept:
        return nothing(title, "No predictions yet")
    figure = _figure(title, _time_title(kept[0]), f"predictions in {_length(kept[0].window.length)}")
    figure["data"] = [
        {
            "type": "bar", "name": "predictions", "x": [_x(at(p)) for p in kept],
            "y": _rounded([p.value for p in kept]),
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
    figure = _figure(title, "day (UTC)", unit.axis)
    times = _with_gaps([time for time, _ in kept])
    by_time = dict(kept)
    figure["data"] = [
        {
            "type": "scatter", "mode": "lines", "name": y_title, "x": [_x(t) for t, _ in times],
            "y": _rounded([unit.of(by_time[t]) if there else None for t, there in times]),
            "line": {"color": BLUE, "width": 2}, "hovertemplate": f"{unit.shown('y')}<br>%{{x}}<extra></extra>",
        }
    ]  # fmt: skip
    if reference:
        _horizontal(figure, unit.of(reference[0]) or 0.0, reference[1], GREY, "dot")
    figure["layout"]["showlegend"] = False
    if share:
        figure["layout"]["yaxis"] |= {"rangemode": "tozero"}
    return figure


# Rollouts


def arms(looks: Sequence[Mapping[str, Any]], margin: float | None = None, title: str = "") -> Figure:
    """The difference of the two arms' log losses over the looks, with its confidence sequence.

    The candidate is worse with confidence once the band lies above zero, and proven once it lies below the margin.
    """
    title = title or "Candidate against champion: difference in log loss"
    kept = [look for look in looks if look.get("difference") is not None]
    if not kept:
        return nothing(title, "The log loss of both arms is not known yet")
    figure = _figure(title, "time of the look (UTC)", "candidate minus champion (nats)")
    x = [_x(datetime.fromisoformat(look["at"])) for look in kept]
    bounded = [i for i, look in enumerate(kept) if look.get("low") is not None and look.get("high") is not None]
    band_x, low, high = [x[i] for i in bounded], [kept[i]["low"] for i in bounded], [kept[i]["high"] for i in bounded]
    figure["data"] = [
        _area(band_x, low, high, BLUE, "confidence sequence", shown=True),
        {
            "type": "scatter", "mode": "lines+markers", "name": "difference", "x": x,
            "y": _rounded([look["difference"] for look in kept]), "line": {"color": BLUE, "width": 2},
            "marker": {"size": 5},
            "customdata": [
                [look.get("low"), look.get("high"), look.get("n_champion"), look.get("n_candidate"),
                 str(look.get("reason", "")).replace("_", " ")] for look in kept
            ],
            "hovertemplate": "difference %{y:.4f}, between %{customdata[0]:.4f} and %{customdata[1]:.4f}<br>"
            "%{customdata[3]:,} rows of the candidate, %{customdata[2]:,} of the champion<br>"
            "%{customdata[4]}<br>%{x}<extra></extra>",
        },
    ]  # fmt: skip
    _horizontal(figure, 0.0, "no difference", GREY, "solid")
    margin = kept[-1].get("margin", margin) if margin is None else margin
    if margin is not None:
        _horizontal(figure, margin, "margin", ALARM, "dash")
    shares = [look.get("share") for look in kept]
    for i, (before, after) in enumerate(pairwise(shares)):
        if after is not None and after != before:
            _vertical(figure, datetime.fromisoformat(kept[i + 1]["at"]), f"{after * 100:g}{THIN}% of the traffic", 1.0)
    _keep_in_view(figure, [*low, *high], [look["difference"] for look in kept], margin)
    return figure


def _keep_in_view(figure: Figure, ends: list[float], values: list[float], margin: float | None) -> None:
    """The first looks' bands are very wide; the axis shows the rest well and lets those run out of it."""
    if not ends:
        return
    far = float(np.quantile(np.abs(ends), 0.75)) * 1.3
    reach = max([far, *(abs(v) * 1.2 for v in values), 2 * abs(margin or 0.0)])
    figure["layout"]["yaxis"] |= {"range": [-reach, reach]}


# Parts of figures


def nothing(title: str, note: str) -> Figure:
    """An empty figure that says why."""
    figure = _figure(title, "", "")
    figure["layout"] |= {
        "xaxis": {"visible": False}, "yaxis": {"visible": False}, "height": 160,
        "annotations": [_note(note) | {"x": 0.5, "y": 0.5, "xanchor": "center"}],
    }  # fmt: skip
    return figure


def _figure(title: str, x_title: str, y_title: str) -> Figure:
    return {
        "data": [],
        "layout": {
            "title": {"text": title}, "height": 340, "hovermode": "closest", "template": THEMES["light"],
            "xaxis": {"title": {"text": x_title}}, "yaxis": {"title": {"text": y_title}},
            "shapes": [], "annotations": [],
        },
    }  # fmt: skip


def _line_with_band(points: Sequence[Point], name: str, i: int, unit: Unit, band: bool = True) -> list[dict[str, Any]]:
    own = sorted(points, key=at)
    by_time = {at(p): p for p in own}
    slots = [by_time[t] if there else None for t, there in _with_gaps(sorted(by_time))]
    colour, dash = SERIES[i % len(SERIES)], DASHES[(i + i // len(SERIES)) % len(DASHES)]
    few = len(own) <= 3
    line = {
        "type": "scatter", "mode": "lines+markers" if few else "lines", "name": name, "legendgroup": name,
        "x": [_x(t) for t, _ in _with_gaps(sorted(by_time))],
        "y": _rounded([unit.of(p.value) if p else None for p in slots]),
        "customdata": [
            [*_rounded([unit.of(p.low), unit.of(p.high)]), p.n, str(p.window)] if p else None for p in slots
        ],
        "line": {"color": colour, "dash": dash, "width": 2}, "marker": {"size": 7}, "connectgaps": False,
        "hovertemplate": (
            f"<b>{unit.shown('y')}</b>, between {unit.shown('customdata[0]')} and {unit.shown('customdata[1]')}<br>"
            f"%{{customdata[2]:,}} rows<br>%{{customdata[3]}}<extra>{name}</extra>"
        ),
    }  # fmt: skip
    bands = [
        _area([_x(at(p)) for p in part], [unit.of(p.low) for p in part], [unit.of(p.high) for p in part], colour, name)
        for part in _stretches(slots)
        if band
    ]
    return [*bands, line]


def _stretches(slots: Iterable[Point | None]) -> list[list[Point]]:
    """The points between gaps, where they have an interval."""
    parts: list[list[Point]] = [[]]
    for p in slots:
        if p is None or p.low is None or p.high is None:
            parts.append([])
        else:
            parts[-1].append(p)
    return [part for part in parts if len(part) > 1]


def _area(
    x: list[str], low: Sequence[float | None], high: Sequence[float | None], colour: str, name: str, shown: bool = False
) -> dict[str, Any]:
    return {
        "type": "scatter", "mode": "lines", "x": [*x, *reversed(x)], "y": _rounded([*low, *reversed(high)]),
        "fill": "toself", "fillcolor": _faded(colour, 0.16), "line": {"width": 0, "color": colour},
        "hoverinfo": "skip", "showlegend": shown, "name": name, "legendgroup": name,
    }  # fmt: skip


def _vertical(figure: Figure, time: datetime, text: str, y: float) -> None:
    figure["layout"]["shapes"].append(
        {"type": "line", "x0": _x(time), "x1": _x(time), "y0": 0, "y1": 1, "yref": "paper",
         "line": {"color": GREY, "width": 1, "dash": "dot"}}
    )  # fmt: skip
    times = sorted(x for trace in figure["data"] for x in trace["x"])
    late = bool(times) and _x(time) > times[len(times) // 2]  # a text that runs out of the chart would widen it
    figure["layout"]["annotations"].append(
        {"text": text, "x": _x(time), "y": y, "yref": "paper", "yanchor": "top", "showarrow": False,
         "xanchor": "right" if late else "left", "xshift": -3 if late else 3}
    )  # fmt: skip


def _horizontal(figure: Figure, value: float, text: str, colour: str, dash: str) -> None:
    figure["layout"]["shapes"].append(
        {"type": "line", "x0": 0, "x1": 1, "xref": "paper", "y0": value, "y1": value,
         "line": {"color": colour, "width": 1.5, "dash": dash}}
    )  # fmt: skip
    figure["layout"]["annotations"].append(
        {"text": text, "x": 1, "xref": "paper", "y": value, "xanchor": "right", "yanchor": "bottom", "showarrow": False}
    )
    # shapes do not widen an axis, an invisible point does
    figure["data"].append(
        {"type": "scatter", "mode": "markers", "x": [figure["data"][-1]["x"][0]], "y": [value], "showlegend": False,
         "marker": {"opacity": 0}, "hoverinfo": "skip"}
    )  # fmt: skip


def title_of(metric: str) -> str:
    """A metric's title with a capital."""
    title = METRICS[metric].title if metric in METRICS else metric.replace("_", " ")
    return title[:1].upper() + title[1:]


def _time_title(point: Point) -> str:
    if point.window.length > DAY:
        return "last day of the window (UTC)"
    return "day (UTC)" if point.window.length == DAY else "time (UTC)"


def at(point: Point) -> datetime:
    """Where a point stands on a time axis: at its window's start, or at the last day of a longer window."""
    return max(point.window.start, point.window.end - DAY)


def _series(points: Iterable[Point]) -> dict[tuple[str, str], list[Point]]:
    groups: dict[tuple[str, str], list[Point]] = {}
    for p in points:
        groups.setdefault((p.monitor, p.version), []).append(p)
    return groups


def _with_gaps(times: Sequence[datetime]) -> list[tuple[datetime, bool]]:
    """The times, and, flagged False, one within each gap that is wider than the usual step."""
    if len(times) < 3:
        return [(t, True) for t in times]
    usual = sorted(b - a for a, b in pairwise(times))[len(times) // 2 - 1]
    out = [(times[0], True)]
    for a, b in pairwise(times):
        if b - a > 1.5 * usual:
            out.append((a + usual, False))
        out.append((b, True))
    return out


def _all_times(times: Sequence[datetime]) -> list[datetime]:
    """The times with those that are missing between them, at the least step; cells of a map are all of one width."""
    if len(times) < 2:
        return list(times)
    step = max(min(b - a for a, b in pairwise(times)), timedelta(hours=1))
    count = (times[-1] - times[0]) // step
    grown = [times[0] + i * step for i in range(count + 1)]
    return grown if set(times) <= set(grown) else list(times)


def _rounded(values: Iterable[float | None], digits: int = 6) -> list[float | None]:
    """Numbers cut to significant digits, so that a page stays small."""
    return [None if v is None else float(f"{v:.{digits}g}") for v in values]


def _x(time: datetime) -> str:
    return time.strftime("%Y-%m-%dT%H:%M")


def _length(length: timedelta) -> str:
    hours = round(length / timedelta(hours=1))
    count, word = (hours // 24, "day") if hours % 24 == 0 else (hours, "hour")
    return f"{count} {word}{'' if count == 1 else 's'}"


def _plain(value: float) -> str:
    return f"{value:,.4g}" if abs(value) < 1e4 else f"{value:,.0f}" if abs(value) < 1e9 else f"{value:.3g}"


def _short(text: str, most: int = 24) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _faded(colour: str, opacity: float) -> str:
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{opacity})"
