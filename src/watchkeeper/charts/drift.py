"""The drift of every feature, day by day, as a map."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from watchkeeper.charts.figures import (
    GREY,
    Figure,
    Unit,
    all_times,
    at,
    blank,
    faded,
    length_of,
    moment,
    nothing,
    rounded,
    short,
    title_of,
    unit_of,
)
from watchkeeper.records import Point

PSI_STEPS = (0.1, 0.25)


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
    times = all_times(sorted({time for _, time in cells}))
    rows = [[cells.get((column, time)) for time in times] for column in columns]
    figure = blank(title, "last day of the window (UTC)", "")
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
        (0.0, faded(GREY, 0.12)), (watch / top, faded(GREY, 0.38)), (watch / top, "#f0bd4a"),
        (large / top, "#e39a1f"), (large / top, "#d3541f"), (1.0, "#8e1d3f"),
    ]  # fmt: skip
    length = next(p.window.length for row in rows for p in row if p is not None)
    return {
        "type": "heatmap", "x": [moment(t) for t in times], "y": [short(c, 28) for c in columns],
        "z": [rounded([p.value if p else None for p in row], 4) for row in rows],
        "customdata": [[[c, *rounded([p.low, p.high], 4), p.n] if p else [c] for p in row]
                       for c, row in zip(columns, rows, strict=True)],
        "zmin": 0, "zmax": top, "colorscale": [list(c) for c in colours], "xgap": int(len(times) <= 45), "ygap": 2,
        "hoverongaps": False, "showscale": True,
        "colorbar": {
            "orientation": "h", "thickness": 10, "len": 0.5, "lenmode": "fraction", "x": 1, "xanchor": "right",
            "y": 1.0, "yanchor": "bottom", "ypad": 4, "outlinewidth": 0, "tickvals": [0, watch, large, top],
            "ticktext": ["0", f"{watch:g}", f"{large:g}", f"{top:g}+"], "tickfont": {"size": 11}, "tickangle": 0,
        },
        "hovertemplate": (
            "<b>%{customdata[0]}</b>, window of " + length_of(length) + " to the end of %{x|%Y-%m-%d}<br>"
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
