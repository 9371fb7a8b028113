"""Reports: one HTML file that opens anywhere, offline, in light and dark, on a phone and on paper.

A report is data (`Report`); `page` makes the file, `glance` the few lines that a notebook shows. Everything that
comes from outside is escaped, the text in the figures too, and the page forbids itself every request.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from importlib.resources import files
from typing import Any, Literal

from jinja2 import Environment, StrictUndefined, Template
from markupsafe import Markup

from watchkeeper.charts import BLUE, GREY, THEMES, Figure
from watchkeeper.windows import show_time

Tone = Literal["bad", "warn", "good", "quiet"]

OPEN_CHARTS = 24
"""So many charts are open at once; the rest unfold on demand."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong with one thing, in sentences; `anchor` is the chart that shows it, "" for none."""

    title: str
    sentences: tuple[str, ...]
    anchor: str


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the table. A cell's text may be long; columns of numbers are right-aligned."""

    tone: Tone
    cells: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Table:
    title: str
    header: tuple[str, ...]
    numbers: frozenset[int]
    rows: tuple[Row, ...]


@dataclass(frozen=True, slots=True)
class Chart:
    """A figure of `charts` under a title; the figure's own title is not drawn."""

    anchor: str
    title: str
    tone: Tone
    note: str
    figure: Figure


@dataclass(frozen=True, slots=True)
class Report:
    """What a page says, in its order."""

    title: str
    tone: Tone
    verdict: str
    summary: str
    facts: tuple[tuple[str, str], ...]
    findings: tuple[Finding, ...]
    charts: tuple[Chart, ...]
    table: Table
    notes: tuple[tuple[str, tuple[str, ...]], ...]
    footer: str


def page(report: Report, made: datetime) -> str:
    """The whole report as one HTML file."""
    figures = [_escaped(chart.figure) for chart in report.charts]
    return _template().render(
        report=report,
        made=f"{show_time(made)} UTC",
        sketches=[sketch(chart.figure) for chart in report.charts],
        open_charts=OPEN_CHARTS,
        figures=_script_json(figures),
        themes=_script_json(THEMES),
        plotly=Markup(_plotly()),
    )


def glance(report: Report) -> str:
    """The report's verdict and findings as a small piece of HTML, without scripts or style sheets."""
    mark = {"bad": "#cf4a1f", "warn": "#b7791f", "good": "#0f9276", "quiet": GREY}[report.tone]
    pictures = {chart.anchor: sketch(chart.figure) for chart in report.charts}
    line = Markup('<tr><td style="text-align:left;vertical-align:top"><b>{}</b></td><td>{}</td>{}</tr>')
    said = Markup('<td style="text-align:left;white-space:normal;vertical-align:top">{}</td>')
    rows = [
        line.format(f.title, pictures.get(f.anchor, ""), said.format(Markup("<br>").join(f.sentences)))
        for f in report.findings
    ]
    notes = [
        Markup('<p style="opacity:.75;margin:.3em 0">{}: {}</p>').format(title, "; ".join(items))
        for title, items in report.notes
    ]
    return str(
        Markup('<div><p style="margin:.3em 0"><b style="color:{}">{}</b> {}</p>{}{}</div>').format(
            mark,
            report.verdict,
            report.summary,
            Markup("<table>{}</table>").format(Markup("").join(rows)) if rows else "",
            Markup("").join(notes),
        )
    )


def sketch(figure: Figure, width: int = 160, height: int = 48) -> Markup:
    """A figure's lines and bars as a small drawing, for where no script runs."""
    drawn = []
    traces = [t for t in figure["data"] if t.get("y") and (t["type"] == "bar" or t.get("mode") == "lines")]
    lines = [t for t in traces if t["type"] == "scatter"]
    bars = [] if lines else [t for t in traces if t["type"] == "bar"]
    top = max((y for t in (lines or bars) for y in t["y"] if y is not None), default=0) or 1
    xs = [x for t in lines for x in t["x"]]
    left, span = min(xs, default=0), (max(xs, default=1) - min(xs, default=0)) or 1
    for trace in lines:
        colour = trace["line"]["color"]
        points = " ".join(
            f"{(x - left) / span * width:.1f},{height - y / top * (height - 2):.1f}"
            for x, y in zip(trace["x"], trace["y"], strict=True)
        )
        drawn.append(
            Markup('<polyline points="{}" fill="{}" fill-opacity=".15" stroke="{}" stroke-width="1.2"/>').format(
                points, colour, colour
            )
        )
    for i, trace in enumerate(bars):
        step = width / max(len(trace["y"]), 1)
        for j, y in enumerate(trace["y"]):
            tall = y / top * (height - 2)
            drawn.append(
                Markup('<rect x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}" fill="{}"/>').format(
                    (j + i * 0.4 + 0.1) * step, height - tall, step * 0.38, tall, (GREY, BLUE)[i % 2]
                )
            )
    return Markup('<svg viewBox="0 0 {} {}" width="{}" height="{}" role="img" aria-hidden="true">{}</svg>').format(
        width, height, width, height, Markup("").join(drawn)
    )


def _escaped(figure: Figure) -> Figure:
    """The figure with the values from outside spelled so that Plotly shows them as they are.

    Plotly takes text for a small HTML: `<b>`, links. Names of categories must stay names.
    """
    data = [
        {key: _texts(value) if key in ("x", "y", "customdata") else value for key, value in trace.items()}
        for trace in figure["data"]
    ]
    return {"data": data, "layout": {k: v for k, v in figure["layout"].items() if k not in ("title", "template")}}


def _texts(value: Any) -> Any:
    if isinstance(value, str):
        return value.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return [_texts(v) for v in value] if isinstance(value, (list, tuple)) else value


def _script_json(value: Any) -> Markup:
    """JSON that may stand in a script element: no `<` can end it."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return Markup(text.replace("<", "\\u003c").replace("&", "\\u0026"))


@cache
def _template() -> Template:
    source = files("watchkeeper").joinpath("report.html").read_text(encoding="utf-8")
    return Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True).from_string(
        source
    )


@cache
def _plotly() -> str:
    return files("plotly").joinpath("package_data", "plotly.min.js").read_text(encoding="utf-8")
