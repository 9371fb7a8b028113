"""One column now against its baseline."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from watchkeeper.charts.figures import BLUE, GREY, THIN, Figure, blank, faded, note, nothing, plain, rounded, short
from watchkeeper.profiles import Profile
from watchkeeper.schema import Kind
from watchkeeper.stats.grid import DISCRETE, NAN, NEGATIVE_INFINITY, NULL, POSITIVE_INFINITY, Floats, Grid, Ints

BARS = 40
LITTLE_MORE = 0.15
MOST_CATEGORIES = 20


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
    elif grid is not None and grid.discrete and len(grid.knots) <= BARS and _inside(sides, grid):
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
    return all(((p.regular[0] >= 0) & (p.regular[0] <= grid.top) & (p.regular[0] % DISCRETE == 0)).all() for p in sides)


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
    names = {v: short(v) or "(empty)" for v in top} | dict.fromkeys(rest, f"{len(rest)} others")
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
        {names[i // DISCRETE]: count for i, count in zip(*(a.tolist() for a in p.regular), strict=True)} if p else {}
        for p in (current, baseline)
    ]
    return names, sides


def _grouped_bars(names: list[str], sides: list[dict[str, int]], title: str, x_title: str) -> Figure:
    """A bar for each name and side: `sides` are the counts of the current data and of the baseline."""
    figure = blank(title, x_title, "share of the rows (%)")
    for name, counts, colour, pattern in (("baseline", sides[1], GREY, "/"), ("current", sides[0], BLUE, "")):
        total = sum(counts.values()) or 1
        figure["data"].append({
            "type": "bar", "name": name, "x": names, "y": rounded([100 * counts.get(n, 0) / total for n in names]),
            "marker": {"color": colour, "pattern": {"shape": pattern, "size": 5, "solidity": 0.25}},
            "hovertemplate": f"%{{x}}: %{{y:.2f}}{THIN}% of the rows<extra>{name}</extra>",
        })  # fmt: skip
    figure["layout"] |= {"barmode": "group", "bargap": 0.25, "hovermode": "x unified"}
    figure["layout"]["xaxis"] |= {"type": "category"}
    return figure


def _densities(current: Profile | None, baseline: Profile | None, grid: Grid, title: str, told: list[str]) -> Figure:
    edges = _bar_edges([p for p in (baseline, current) if p is not None and _present(p)], grid)
    figure = blank(title, "value", "share of the values (%)")
    sides = ((baseline, "baseline", GREY, "dot"), (current, "current", BLUE, "solid"))
    for i, (profile, name, colour, dash) in enumerate(sides):
        if profile is None or not _present(profile):
            continue
        below, shares, above = gathered(profile, grid, edges)
        hover = [f"{plain(a)} to under {plain(b)}" for a, b in pairwise(edges)]
        figure["data"].append(
            {
                "type": "scatter", "mode": "lines", "name": name, "legendgroup": name,
                "x": rounded(np.repeat(edges, 2).tolist(), 9),
                "y": rounded([0.0, *np.repeat(shares, 2).tolist(), 0.0]),
                "customdata": [hover[0], *(h for h in hover for _ in (0, 1)), hover[-1]],
                "line": {"color": colour, "dash": dash, "width": 2}, "fill": "tozeroy",
                "fillcolor": faded(colour, 0.22),
                "hovertemplate": f"%{{customdata}}: %{{y:.2f}}{THIN}% of the values<extra>{name}</extra>",
            }
        )  # fmt: skip
        figure["data"].append(_ends(i, name, colour, edges, below, above))
    figure["layout"] |= {"barmode": "overlay", "hovermode": "closest"}
    figure["layout"]["annotations"] += [note("<br>".join(["Not drawn:", *told]))] if told else []
    return figure


def _ends(i: int, name: str, colour: str, edges: Floats, below: float, above: float) -> dict[str, Any]:
    """Two hatched bars, beside the bars proper, for what lies beyond them; side `i` has the place `i`."""
    step = float(edges[1] - edges[0])
    shown = [
        (float(edges[0]) - (1.5 + i) * step, below, f"below {plain(edges[0])}"),
        (float(edges[-1]) + (1.5 + i) * step, above, f"above {plain(edges[-1])}"),
    ]
    kept = [s for s in shown if s[1] > 0.005]
    return {
        "type": "bar", "name": name, "legendgroup": name, "showlegend": False,
        "x": [s[0] for s in kept], "y": rounded([s[1] for s in kept]), "customdata": [s[2] for s in kept],
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
