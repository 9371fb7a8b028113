"""What predictions have led to, over time."""

from __future__ import annotations

from collections.abc import Sequence

from watchkeeper.charts.figures import Figure, Unit, blank, length_of, line_with_band, nothing, time_title, unit_of
from watchkeeper.records import Point

HEIGHT = 280


def kpi(points: Sequence[Point], name: str, unit: str = "") -> list[Figure]:
    """A KPI's sum, what it comes to for a prediction and for a user, how many have it, and how long it takes. Where
    nobody says whose predictions they are there are no lines of users.

    Args:
        points: of the metrics of this KPI, in windows of one length.
        unit: what the KPI is counted in.
    """
    value = Unit(f"{name} ({unit})" if unit else name, form=",.4~g")
    share, hours = unit_of("kpi_coverage"), Unit("hours", 1 / 3600, ",.3~g")
    length = length_of(points[0].window.length) if points else "a grain"
    each = {"kpi_per_prediction": "per prediction", "kpi_per_user": "per user"}
    return [
        _lines(points, {"kpi_sum": "sum"}, f"{name} in {length}", value),
        _lines(points, each, f"{name} per prediction and per user", value),
        _lines(points, {"kpi_coverage": "predictions", "kpi_user_share": "users"}, f"How many have {name}", share),
        _lines(points, {"kpi_delay": "median"}, f"Time until {name} is known, median", hours),
    ]


def _lines(points: Sequence[Point], metrics: dict[str, str], title: str, unit: Unit) -> Figure:
    """A line and a band for each metric that was measured, called by its name here."""
    own = {metric: [p for p in points if p.metric == metric and p.value is not None] for metric in metrics}
    there = {metric: some for metric, some in own.items() if some}
    if not there:
        return nothing(title, "No values in this stretch of time")
    figure = blank(title, time_title(next(iter(there.values()))[0]), "share (%)" if unit.scale == 100 else unit.axis)
    for i, (metric, some) in enumerate(there.items()):
        figure["data"] += line_with_band(some, metrics[metric], i, unit)
    figure["layout"] |= {"height": HEIGHT, "showlegend": len(metrics) > 1}
    figure["layout"]["yaxis"] |= {"rangemode": "tozero"}
    return figure
