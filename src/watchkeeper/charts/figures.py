"""What every figure is made of: themes, units, lines with bands, marks, and how a value is written on an axis."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import watchkeeper.monitors  # noqa: F401  importing it fills the registry of metrics
from watchkeeper.metrics import METRICS, unit_in
from watchkeeper.records import Point
from watchkeeper.windows import DAY

Figure = dict[str, Any]

SERIES = ("#2f7de1", "#c9681c", "#0f9276", "#a05fc4", "#8b8417", "#d0486e")
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
BLUE, GREY, ALARM = SERIES[0], "#7a8699", "#cf4a1f"
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
    if of := unit_in(metric, column):
        kind = of
    if relative == "ratio":
        return Unit("ratio to the baseline", form=".2f", suffix=f"{THIN}×")
    if kind == "share":
        short = "share" if title.startswith("share of") else title
        axis = "difference (percentage points)" if relative else f"{short} (%)"
        return Unit(axis, 100, ".2f", f"{THIN}%")
    if kind in ("ms", "MB"):
        what = "latency" if column == "latency_ms" else title
        return Unit(f"{what} ({kind})", 1, ",.1f", f"{THIN}{kind}")
    if kind == "rows a grain":
        return Unit("predictions", 1, ",.0f")
    if relative:
        return Unit("difference from the baseline")
    return Unit(f"{title} ({kind})" if kind else title)


# Parts of figures


def nothing(title: str, why: str) -> Figure:
    """An empty figure that says why."""
    figure = blank(title, "", "")
    figure["layout"] |= {
        "xaxis": {"visible": False}, "yaxis": {"visible": False}, "height": 160,
        "annotations": [note(why) | {"x": 0.5, "y": 0.5, "xanchor": "center"}],
    }  # fmt: skip
    return figure


def blank(title: str, x_title: str, y_title: str) -> Figure:
    return {
        "data": [],
        "layout": {
            "title": {"text": title}, "height": 340, "hovermode": "closest", "template": THEMES["light"],
            "xaxis": {"title": {"text": x_title}}, "yaxis": {"title": {"text": y_title}},
            "shapes": [], "annotations": [],
        },
    }  # fmt: skip


def note(text: str) -> dict[str, Any]:
    return {"text": text, "x": 1, "y": 1, "xref": "paper", "yref": "paper", "xanchor": "right", "yanchor": "top",
            "align": "right", "showarrow": False}  # fmt: skip


def line_with_band(
    points: Sequence[Point], name: str, i: int, unit: Unit, band: bool = True, style: tuple[str, str] | None = None
) -> list[dict[str, Any]]:
    """A line through the values of some points, and what lies between their ends.

    Args:
        i: the number of the line, which its colour and dashes are of unless `style` says them.
    """
    own = sorted(points, key=at)
    by_time = {at(p): p for p in own}
    slots = [by_time[t] if there else None for t, there in with_gaps(sorted(by_time))]
    colour, dash = style or (SERIES[i % len(SERIES)], DASHES[(i + i // len(SERIES)) % len(DASHES)])
    few = len(own) <= 3
    line = {
        "type": "scatter", "mode": "lines+markers" if few else "lines", "name": name, "legendgroup": name,
        "x": [moment(t) for t, _ in with_gaps(sorted(by_time))],
        "y": rounded([unit.of(p.value) if p else None for p in slots]),
        "customdata": [
            [*rounded([unit.of(p.low), unit.of(p.high)]), p.n, str(p.window)] if p else None for p in slots
        ],
        "line": {"color": colour, "dash": dash, "width": 2}, "marker": {"size": 7}, "connectgaps": False,
        "hovertemplate": (
            f"<b>{unit.shown('y')}</b>, between {unit.shown('customdata[0]')} and {unit.shown('customdata[1]')}<br>"
            f"%{{customdata[2]:,}} rows<br>%{{customdata[3]}}<extra>{name}</extra>"
        ),
    }  # fmt: skip
    bands = [
        area(
            [moment(at(p)) for p in part], [unit.of(p.low) for p in part], [unit.of(p.high) for p in part], colour, name
        )
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


def area(
    x: list[str], low: Sequence[float | None], high: Sequence[float | None], colour: str, name: str, shown: bool = False
) -> dict[str, Any]:
    return {
        "type": "scatter", "mode": "lines", "x": [*x, *reversed(x)], "y": rounded([*low, *reversed(high)]),
        "fill": "toself", "fillcolor": faded(colour, 0.16), "line": {"width": 0, "color": colour},
        "hoverinfo": "skip", "showlegend": shown, "name": name, "legendgroup": name,
    }  # fmt: skip


def vertical(figure: Figure, time: datetime, text: str, y: float) -> None:
    figure["layout"]["shapes"].append(
        {"type": "line", "x0": moment(time), "x1": moment(time), "y0": 0, "y1": 1, "yref": "paper",
         "line": {"color": GREY, "width": 1, "dash": "dot"}}
    )  # fmt: skip
    times = sorted(x for trace in figure["data"] for x in trace["x"])
    late = bool(times) and moment(time) > times[len(times) // 2]  # a text that runs out of the chart would widen it
    figure["layout"]["annotations"].append(
        {"text": text, "x": moment(time), "y": y, "yref": "paper", "yanchor": "top", "showarrow": False,
         "xanchor": "right" if late else "left", "xshift": -3 if late else 3}
    )  # fmt: skip


def horizontal(figure: Figure, value: float, text: str, colour: str, dash: str) -> None:
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


def time_title(point: Point) -> str:
    if point.window.length > DAY:
        return "last day of the window (UTC)"
    return "day (UTC)" if point.window.length == DAY else "time (UTC)"


def at(point: Point) -> datetime:
    """Where a point stands on a time axis: at its window's start, or at the last day of a longer window."""
    return max(point.window.start, point.window.end - DAY)


def with_gaps(times: Sequence[datetime]) -> list[tuple[datetime, bool]]:
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


def all_times(times: Sequence[datetime]) -> list[datetime]:
    """The times with those that are missing between them, at the least step; cells of a map are all of one width."""
    if len(times) < 2:
        return list(times)
    step = max(min(b - a for a, b in pairwise(times)), timedelta(hours=1))
    count = (times[-1] - times[0]) // step
    grown = [times[0] + i * step for i in range(count + 1)]
    return grown if set(times) <= set(grown) else list(times)


def rounded(values: Iterable[float | None], digits: int = 6) -> list[float | None]:
    """Numbers cut to significant digits, so that a page stays small."""
    return [None if v is None else float(f"{v:.{digits}g}") for v in values]


def moment(time: datetime) -> str:
    return time.strftime("%Y-%m-%dT%H:%M")


def length_of(length: timedelta) -> str:
    hours = round(length / timedelta(hours=1))
    count, word = (hours // 24, "day") if hours % 24 == 0 else (hours, "hour")
    return f"{count} {word}{'' if count == 1 else 's'}"


def plain(value: float) -> str:
    return f"{value:,.4g}" if abs(value) < 1e4 else f"{value:,.0f}" if abs(value) < 1e9 else f"{value:.3g}"


def short(text: str, most: int = 24) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def faded(colour: str, opacity: float) -> str:
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{opacity})"
