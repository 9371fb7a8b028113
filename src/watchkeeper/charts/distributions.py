"""One column now against its baseline."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from watchkeeper import words
from watchkeeper.charts.figures import BLUE, GREY, THIN, Figure, blank, faded, note, nothing, plain, rounded, short
from watchkeeper.profiles import OTHER_VALUES, Profile, common
from watchkeeper.schema import Kind
from watchkeeper.stats.grid import DISCRETE, INVALID, NEGATIVE_INFINITY, POSITIVE_INFINITY, Floats, Grid
from watchkeeper.summaries import spans
from watchkeeper.windows import from_unix, in_calendar

BARS = 40
LITTLE_MORE = 0.15
HEAVY = 4
"""Tails are heavy where the middle 99 % are so many times as wide as the middle 90 %."""
MOST_CATEGORIES = 20


def distribution(
    current: Profile | None,
    baseline: Profile | None,
    grid: Grid | None,
    title: str,
    *,
    before: str = "baseline",
    kind: str = Kind.NUMERIC,
) -> Figure:
    """One column now against its baseline, as shares of the values that are present.

    A continuous column is gathered into about 40 bars of equal width over the middle 99 % of both sides; what lies
    beyond is drawn as one hatched bar at each end and counted in its hover text. A discrete or categorical column
    has a bar for each value, the 20 most frequent of the baseline and the others together, and one for missing values
    and each sentinel; beside a continuous one these are told in words.

    Args:
        before: how the baseline is called.
        kind: what the column holds: moments and lengths of time are drawn as such.
    """
    sides = [p for p in (baseline, current) if p is not None]
    if not any(_present(p) for p in sides):
        return nothing(title, "No values on either side")
    asides = [_aside(profile, grid, kind) for profile in (current, baseline)]
    others = list(asides[0] | asides[1])
    if sides[0].kind is Kind.CATEGORICAL:
        names, counts = _by_category(current, baseline)
    elif grid is not None and grid.discrete and len(grid.knots) <= BARS and _inside(sides, grid):
        names, counts = _by_atom(current, baseline, grid, kind)
    else:
        assert grid is not None
        rows = [max(profile.n, 1) if profile else 1 for profile in (current, baseline)]
        told = [_told(other, asides, rows, before) for other in others]
        return _densities(current, baseline, grid, title, told, before, kind)
    return _grouped_bars([*names, *others], [counts[0] | asides[0], counts[1] | asides[1]], title, "value", before)


def _told(other: str, asides: list[dict[str, int]], rows: list[int], before: str) -> str:
    now, then = (f"{100 * asides[i].get(other, 0) / rows[i]:.3g}{THIN}%" for i in (0, 1))
    return f"{other}: {now} of the rows, {then} in the {before}"


def _present(profile: Profile) -> int:
    return profile.present if profile.kind is Kind.CATEGORICAL else int(profile.regular[1].sum())


def _inside(sides: Iterable[Profile], grid: Grid) -> bool:
    return all(((p.regular[0] >= 0) & (p.regular[0] <= grid.top) & (p.regular[0] % DISCRETE == 0)).all() for p in sides)


def _aside(profile: Profile | None, grid: Grid | None, kind: str) -> dict[str, int]:
    """Rows without a value that could be drawn to scale, by what they hold instead."""
    if profile is None:
        return {}
    found = {"missing": profile.missing}
    found["not of its type"] = profile.special(INVALID)
    found["infinite"] = profile.special(POSITIVE_INFINITY, NEGATIVE_INFINITY)
    held = profile.sentinels(grid) if grid else {}
    found |= {f"{v:g}" if kind == Kind.NUMERIC else words.value(v, kind): count for v, count in held.items()}
    return {name: count for name, count in found.items() if count}


def others(profile: Profile, grid: Grid | None, kind: str) -> dict[str, float]:
    """The shares of the rows that stand beside a chart: missing, not of the column's type, infinite, sentinels."""
    return {name: count / max(profile.n, 1) for name, count in _aside(profile, grid, kind).items()}


def _by_category(current: Profile | None, baseline: Profile | None) -> tuple[list[str], list[dict[str, int]]]:
    values, laid_out = common([p for p in (current, baseline) if p is not None])
    laid = iter([dict(zip(values, map(int, side), strict=True)) for side in laid_out])
    now, before = (next(laid) if p is not None else {} for p in (current, baseline))
    ranked = sorted({*now, *before} - {OTHER_VALUES}, key=lambda v: (-before.get(v, 0), -now.get(v, 0), v))
    kept = set(ranked[:MOST_CATEGORIES])
    if len(ranked) > MOST_CATEGORIES:  # what is frequent now is seen as well, however rare it was
        kept = set(ranked[: MOST_CATEGORIES // 2])
        kept |= set(sorted({*ranked} - kept, key=lambda v: (-now.get(v, 0), v))[: MOST_CATEGORIES - len(kept)])
    top, rest = [v for v in ranked if v in kept], [v for v in ranked if v not in kept]
    names = {v: short(v) or "(empty)" for v in top} | dict.fromkeys(rest, f"{len(rest)} others")
    if OTHER_VALUES in values:
        names |= dict.fromkeys([*rest, OTHER_VALUES], "all others")
    sides = []
    for counts in (now, before):
        sides.append(dict.fromkeys(names.values(), 0))
        for value, count in counts.items():
            sides[-1][names[value]] += count
    return list(sides[0]), sides


def _by_atom(
    current: Profile | None, baseline: Profile | None, grid: Grid, kind: str
) -> tuple[list[str], list[dict[str, int]]]:
    names = [f"{knot:.4g}" if kind == Kind.NUMERIC else words.value(knot, kind) for knot in grid.knots]
    if len(set(names)) < len(names):
        names = [f"{knot:.12g}" for knot in grid.knots]
    sides = [
        {names[i // DISCRETE]: count for i, count in zip(*(a.tolist() for a in p.regular), strict=True)} if p else {}
        for p in (current, baseline)
    ]
    return names, sides


def _grouped_bars(names: list[str], sides: list[dict[str, int]], title: str, x_title: str, before: str) -> Figure:
    """A bar for each name and side: `sides` are the counts of the current data and of the baseline."""
    figure = blank(title, x_title, "share of the rows (%)")
    for name, counts, colour, pattern in ((before, sides[1], GREY, "/"), ("current", sides[0], BLUE, "")):
        total = sum(counts.values()) or 1
        figure["data"].append({
            "type": "bar", "name": name, "x": names, "y": rounded([100 * counts.get(n, 0) / total for n in names], 4),
            "marker": {"color": colour, "pattern": {"shape": pattern, "size": 5, "solidity": 0.25}},
            "hovertemplate": f"%{{x}}: %{{y:.2f}}{THIN}% of the rows<extra>{name}</extra>",
        })  # fmt: skip
    figure["layout"] |= {"barmode": "group", "bargap": 0.25, "hovermode": "x unified"}
    figure["layout"]["xaxis"] |= {"type": "category"}
    if len(names) > MOST_CATEGORIES:
        _let_run_out(figure)
    return figure


def _let_run_out(figure: Figure) -> None:
    """Where the rare categories together are most of the rows, their bar runs out of the chart and is told."""
    before, now = figure["data"]
    for i, name in enumerate(before["x"]):
        named = max(v for side in (before, now) for v in [*side["y"][:i], *side["y"][i + 1 :]])
        if name.endswith(" others") and max(before["y"][i], now["y"][i]) > 2 * named > 0:
            figure["layout"]["yaxis"] |= {"range": [0, 1.25 * named]}
            said = f"{name}: {before['y'][i]:.3g}{THIN}% → {now['y'][i]:.3g}{THIN}%"
            figure["layout"]["annotations"].append(note(said) | {"x": 0.5, "xanchor": "center"})


@dataclass(frozen=True, slots=True)
class Scale:
    """How the values of a column stand on an axis: as numbers divided by `unit`, or as moments."""

    title: str
    unit: float = 1.0
    moments: bool = False

    @classmethod
    def of(cls, kind: str, edges: Floats) -> Scale:
        reach = float(np.abs(edges).max())
        if kind == "datetime" and in_calendar(edges[0]) and in_calendar(edges[-1]):
            return cls("time (UTC)", moments=True)
        if kind == "duration":
            lengths = ((172_800, 86_400, "days"), (7200, 3600, "hours"), (120, 60, "minutes"), (0, 1, "seconds"))
            _, unit, name = next(length for length in lengths if reach >= length[0])
            return cls(f"length of time ({name})", unit)
        return cls("value")

    def places(self, values: Floats | list[float]) -> list[Any]:
        if not self.moments:
            return rounded([v / self.unit for v in values], 7)
        return [from_unix(float(v)).strftime("%Y-%m-%dT%H:%M:%S") for v in values]

    def length(self, width: float) -> float:
        """A width on the axis; Plotly counts that of moments in milliseconds."""
        return width * 1000 if self.moments else width / self.unit


def _densities(
    current: Profile | None,
    baseline: Profile | None,
    grid: Grid,
    title: str,
    told: list[str],
    before: str,
    kind: str,
) -> Figure:
    edges = _bar_edges([p for p in (baseline, current) if p is not None and _present(p)], grid)
    scale = Scale.of(kind, edges)
    middles = scale.places(edges[:-1] + np.diff(edges) / 2)
    first, last = scale.places([edges[0], edges[-1]])
    step = "" if scale.moments else f"; a step is {plain(scale.length(float(edges[1] - edges[0])))}"
    figure = blank(title, f"{scale.title}{step}", "share of the values (%)")
    sides = ((baseline, before, GREY, "dot"), (current, "current", BLUE, "solid"))
    for i, (profile, name, colour, dash) in enumerate(sides):
        if profile is None or not _present(profile):
            continue
        below, shares, above = gathered(profile, grid, edges)
        y = rounded(shares.tolist(), 4)
        figure["data"].append(
            {
                "type": "scatter", "mode": "lines", "name": name, "legendgroup": name,
                "x": [first, *middles, last], "y": [y[0], *y, y[-1]],
                "line": {"color": colour, "dash": dash, "width": 2, "shape": "hvh"}, "fill": "tozeroy",
                "fillcolor": faded(colour, 0.22),
                "hovertemplate": f"about %{{x}}: %{{y:.2f}}{THIN}% of the values<extra>{name}</extra>",
            }
        )  # fmt: skip
        figure["data"] += _ends(i, name, colour, edges, below, above, scale)
    figure["layout"] |= {"barmode": "overlay", "hovermode": "closest"}
    room = 3.2 * float(edges[1] - edges[0])
    ends = scale.places([float(edges[0]) - room, float(edges[-1]) + room])
    figure["layout"]["xaxis"] |= {"type": "date" if scale.moments else "linear", "range": ends}
    figure["layout"]["yaxis"] |= {"rangemode": "tozero"}
    figure["layout"]["annotations"] += [note("<br>".join(["Not drawn:", *told]))] if told else []
    return figure


def _ends(
    i: int, name: str, colour: str, edges: Floats, below: float, above: float, scale: Scale
) -> list[dict[str, Any]]:
    """Two hatched bars, beside the bars proper, for what lies beyond them; side `i` has the place `i`."""
    step = float(edges[1] - edges[0])
    ends = [plain(float(v) / scale.unit) if not scale.moments else scale.places([v])[0] for v in edges[[0, -1]]]
    shown = [
        (float(edges[0]) - (1.5 + i) * step, below, f"below {ends[0]}"),
        (float(edges[-1]) + (1.5 + i) * step, above, f"above {ends[1]}"),
    ]
    kept = [s for s in shown if s[1] > 0.005]
    if not kept:
        return []
    return [{
        "type": "bar", "name": name, "legendgroup": name, "showlegend": False,
        "x": scale.places([s[0] for s in kept]), "y": rounded([s[1] for s in kept]), "customdata": [s[2] for s in kept],
        "width": scale.length(0.8 * step),
        "marker": {"color": colour, "pattern": {"shape": "x", "size": 5, "solidity": 0.4}},
        "hovertemplate": f"%{{customdata}}: %{{y:.2f}}{THIN}% of the values<extra>{name}</extra>",
    }]  # fmt: skip


def _bar_edges(sides: Sequence[Profile], grid: Grid) -> Floats:
    """The edges of equal bars over the middle 99 % of every side, or over all of it where that takes little more.

    Where the tails are so heavy that the middle 90 % would fall into a few bars, these are drawn, with some room.
    """
    middle: list[tuple[float, float]] = []
    core: list[tuple[float, float]] = []
    whole: list[tuple[float, float]] = []
    for profile in sides:
        lower, upper, counts = spans(profile, grid)
        cumulative = np.cumsum(counts) / counts.sum()
        for ends, tail in ((middle, 0.005), (core, 0.05)):
            first = int(np.searchsorted(cumulative, tail))
            last = min(int(np.searchsorted(cumulative, 1 - tail)), len(counts) - 1)
            ends.append((float(lower[first]), float(upper[last])))
        whole.append((float(lower[0]), float(upper[-1])))
    low, high = min(m[0] for m in middle), max(m[1] for m in middle)
    inner, outer = min(c[0] for c in core), max(c[1] for c in core)
    if high - low > HEAVY * (outer - inner) > 0:
        room = (outer - inner) / 4
        low, high = max(low, inner - room), min(high, outer + room)
    least, greatest = min(w[0] for w in whole), max(w[1] for w in whole)
    room = LITTLE_MORE * (high - low)
    low, high = least if low - least <= room else low, greatest if greatest - high <= room else high
    if not high > low:
        low, high = low - 0.5, high + 0.5
    return np.linspace(low, high, BARS + 1)


def gathered(profile: Profile, grid: Grid, edges: Floats) -> tuple[float, Floats, float]:
    """Shares, in percent, below the first edge, between each two, and from the last on.

    A fine bin that an edge cuts is split as if its values were spread evenly; a bin without width, a single value,
    falls into the bar that it starts.
    """
    lower, upper, counts = spans(profile, grid)
    closed = np.append(edges[:-1], np.nextafter(edges[-1], np.inf))  # the last bar holds its upper edge as well
    last = np.searchsorted(lower, closed) - 1  # the last bin that starts below each edge: all before it lie below
    width = upper[last] - lower[last]
    with np.errstate(divide="ignore", invalid="ignore"):
        part = np.where(width > 0, np.clip((edges - lower[last]) / width, 0.0, 1.0), 1.0)
    through = np.cumsum(counts)
    under = np.where(last < 0, 0.0, through[last] - (1 - part) * counts[last])
    cumulative = under / through[-1] * 100
    return float(cumulative[0]), np.diff(cumulative), max(float(100 - cumulative[-1]), 0.0)
