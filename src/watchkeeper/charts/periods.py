"""One column period by period: its quantiles or shares, beside what the reference had."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import numpy as np

from watchkeeper.charts.distributions import Scale
from watchkeeper.charts.figures import (
    BLUE,
    DASHES,
    GREY,
    SERIES,
    THIN,
    Figure,
    blank,
    faded,
    nothing,
    rounded,
    vertical,
)
from watchkeeper.stats.grid import Floats
from watchkeeper.windows import show_time

BANDS = (0.05, 0.25, 0.5, 0.75, 0.95)
"""The quantiles that are drawn of each period."""


def quantiles_by_period(
    starts: Sequence[datetime],
    found: Floats,
    reference: Floats | None,
    title: str,
    *,
    since: datetime | None = None,
    kind: str = "numeric",
) -> Figure:
    """The median of each period within its middle half and its middle 90 %.

    Args:
        starts: when each period starts, ascending, in UTC.
        found: the quantiles at `BANDS` of each period, shape (periods, 5); NaN where a period has no value.
        reference: the same of the reference, shape (5,), drawn as dotted lines; None without one.
        since: where a vertical line says that a breach began.
        kind: of the column.
    """
    kept = [i for i in range(len(starts)) if found[i, 2] == found[i, 2]]
    if not kept:
        return nothing(title, "No values in any period")
    values = found[kept] if reference is None else np.vstack([found[kept], reference])
    scale = Scale.of(kind, np.array([np.nanmin(values), np.nanmax(values)]))
    figure = blank(title, "time (UTC)", scale.title)
    x = _places([starts[i] for i in kept])
    lines = [scale.places(found[kept, j].tolist()) for j in range(len(BANDS))]
    for low, high, name, opacity in ((0, 4, f"middle 90{THIN}%", 0.14), (1, 3, "middle half", 0.24)):
        edge = {"type": "scatter", "mode": "lines", "x": x, "line": {"width": 0, "color": BLUE}, "hoverinfo": "skip"}
        figure["data"] += [
            {**edge, "y": lines[low], "showlegend": False, "legendgroup": name},
            {**edge, "y": lines[high], "fill": "tonexty", "fillcolor": faded(BLUE, opacity), "name": name,
             "legendgroup": name},
        ]  # fmt: skip
    figure["data"].append(
        {
            "type": "scatter", "mode": "lines+markers" if len(x) < 4 else "lines", "name": "median", "x": x,
            "y": lines[2], "line": {"color": BLUE, "width": 2},
            "hovertemplate": "median %{y}, from %{x}<extra></extra>",
        }
    )  # fmt: skip
    if reference is not None:
        told = scale.places(reference.tolist())
        for j, dash, name in ((2, "dash", "median"), (0, "dot", f"5{THIN}%"), (4, "dot", f"95{THIN}%")):
            hover = f"{name} of the reference %{{y}}"
            figure["data"].append(_level(x, told[j], dash, "reference" if j == 2 else "", hover))
    _finish(figure, since)
    figure["layout"]["yaxis"] |= {"type": "date" if scale.moments else "linear"}
    return figure


def shares_by_period(
    starts: Sequence[datetime],
    found: Mapping[str, Sequence[float | None]],
    reference: Mapping[str, float | None],
    title: str,
    *,
    since: datetime | None = None,
    y_title: str = "share of the rows (%)",
) -> Figure:
    """Shares over the periods, a line each, beside the share that the reference had, dotted in the same colour.

    Args:
        starts: when each period starts, ascending, in UTC.
        found: by name, the share in each period; None where it has no rows.
        reference: by the same names.
        since: where a vertical line says that a breach began.
    """
    figure = blank(title, "time (UTC)", y_title)
    x = _places(starts)
    for i, (name, values) in enumerate(found.items()):
        colour = SERIES[i % len(SERIES)]
        figure["data"].append(
            {
                "type": "scatter", "mode": "lines+markers" if len(x) < 4 else "lines", "name": name, "x": x,
                "y": rounded([None if v is None else 100 * v for v in values], 4), "connectgaps": False,
                "line": {"color": colour, "width": 2, "dash": DASHES[i % len(DASHES)] if i else "solid"},
                "hovertemplate": f"%{{y:.2f}}{THIN}%, from %{{x}}",
            }
        )  # fmt: skip
    if len(found) == 1:  # with several, as many level lines would hide more than they show
        (name,) = found
        level = reference.get(name)
        if level is not None:
            figure["data"].append(_level(x, 100 * level, "dot", "reference", f"reference %{{y:.2f}}{THIN}%"))
    _finish(figure, since)
    figure["layout"]["yaxis"] |= {"rangemode": "tozero"}
    return figure


def _finish(figure: Figure, since: datetime | None) -> None:
    figure["layout"]["xaxis"] |= {"type": "date"}
    figure["layout"]["showlegend"] = True
    if since is not None:
        vertical(figure, since, f"since {show_time(since)}", 1)


def _level(x: Sequence[str], y: Any, dash: str, name: str, hover: str) -> dict[str, Any]:
    """A horizontal line over all periods; one without a name has no place in the legend."""
    return {
        "type": "scatter", "mode": "lines", "x": [x[0], x[-1]], "y": [y, y], "name": name or "reference",
        "showlegend": bool(name), "legendgroup": "reference", "line": {"color": GREY, "width": 1.5, "dash": dash},
        "hovertemplate": f"{hover}<extra></extra>",
    }  # fmt: skip


def _places(times: Sequence[datetime]) -> list[str]:
    """Moments on an axis; days alone where all start at midnight."""
    whole = all(time.timetz().replace(tzinfo=None) == datetime.min.time() for time in times)
    return [time.strftime("%Y-%m-%d" if whole else "%Y-%m-%dT%H:%M") for time in times]
