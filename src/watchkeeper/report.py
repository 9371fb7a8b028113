"""Reports: one HTML file that opens anywhere, offline, in light and dark, on a phone and on paper.

A report is data (`Report`); `page` makes the file, `glance` the few lines that a notebook shows. Everything that
comes from outside is escaped, the text in the figures too, and the page forbids itself every request.
"""

from __future__ import annotations

import gzip
import json
from base64 import b64encode
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from importlib.resources import files
from itertools import accumulate
from typing import Any, Literal

from jinja2 import Environment, StrictUndefined, Template
from markupsafe import Markup

from watchkeeper.charts import BLUE, GREY, THEMES, Figure
from watchkeeper.windows import show_time

Tone = Literal["bad", "warn", "good", "quiet"]

OPEN_COLUMNS = 12
"""So many columns that breach nothing are open at once; the rest unfold on demand."""
OPEN_FINDINGS = 8
GLANCED = 12
"""So many findings are shown in a notebook."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong with one thing, in sentences; `anchor` is the column that shows it, "" for none.

    `figures` are what is wrong in words, the value of the worst metric, its interval, what is allowed, and since when
    ("" if not known).
    """

    title: str
    sentences: tuple[str, ...]
    anchor: str
    figures: tuple[str, str, str, str, str]


@dataclass(frozen=True, slots=True)
class Cell:
    """A text in a table, and the column of the page that it leads to."""

    text: str
    anchor: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    tone: Tone
    cells: tuple[Cell, ...]


@dataclass(frozen=True, slots=True)
class Table:
    """A table whose columns of `numbers` are set to the right; the first cell of each row names the row."""

    title: str
    header: tuple[str, ...]
    numbers: frozenset[int]
    rows: tuple[Row, ...]
    note: str = ""


@dataclass(frozen=True, slots=True)
class Column:
    """All about one column of the data: sentences, figures of `charts`, tables."""

    anchor: str
    title: str
    tone: Tone
    mark: str
    note: str
    sentences: tuple[str, ...]
    figures: tuple[Figure, ...]
    tables: tuple[Table, ...]


@dataclass(frozen=True, slots=True)
class Report:
    """What a page says, in its order.

    Attributes:
        assurance: how sure the verdict is.
        undrawn: how many columns have no part of their own.
        heading: what stands over the parts, and `thing` what the rows of the overview are of.
    """

    title: str
    tone: Tone
    verdict: str
    summary: str
    assurance: str
    facts: tuple[tuple[str, str], ...]
    findings: tuple[Finding, ...]
    overview: Table
    columns: tuple[Column, ...]
    undrawn: int
    notes: tuple[tuple[str, tuple[str, ...]], ...]
    footer: str
    heading: str = "Column by column"
    thing: str = "column"


def page(report: Report, made: datetime) -> str:
    """The whole report as one HTML file.

    Plotly's script and the figures stand in it compressed; a browser too old to unpack them shows the sketches.
    """
    figures = [_escaped(figure) for column in report.columns for figure in column.figures]
    open_columns = sum(column.tone in ("bad", "warn") for column in report.columns)
    return _template().render(
        report=report,
        made=f"{show_time(made)} UTC",
        sketch=sketch,
        starts=[0, *accumulate(len(column.figures) for column in report.columns)],
        open_columns=max(open_columns, OPEN_COLUMNS),
        open_findings=OPEN_FINDINGS,
        figures=_packed(_json(figures)),
        themes=_packed(_json(THEMES)),
        plotly=_plotly(),
    )


def glance(report: Report) -> str:
    """The report's verdict and findings as a small piece of HTML, without scripts or style sheets.

    It takes its colours from the notebook, light or dark.
    """
    accent = {"bad": "#cf4a1f", "warn": "#b7791f", "good": "#0f9276", "quiet": GREY}[report.tone]
    pictures = {column.anchor: sketch(column.figures[0]) for column in report.columns if column.figures}
    left = "text-align:left;vertical-align:top;white-space:normal"
    since = any(finding.figures[4] for finding in report.findings)
    header = ["Column", "Reference (grey), now (blue)", "What", "Value", "Interval", "Allowed"]
    header += ["Since"] if since else []
    rows = []
    for finding in report.findings[:GLANCED]:
        metric, *figures = finding.figures
        more = len(finding.sentences) - 1
        what = metric + (f" (and {more} more)" if more else "")
        cells = [pictures.get(finding.anchor, Markup("")), what, *(figures if since else figures[:-1])]
        told = Markup("").join(
            Markup('<td style="{}{}">{}</td>').format(left, "" if i == 1 else ";white-space:nowrap", cell)
            for i, cell in enumerate(cells)
        )
        name = Markup('<th scope="row" style="{};max-width:16em;overflow-wrap:anywhere">{}</th>')
        rows.append(Markup("<tr>{}{}</tr>").format(name.format(left, finding.title), told))
    parts = [
        Markup('<p style="margin:.3em 0"><b style="color:{}">{}</b> {}</p>').format(
            accent, report.verdict, report.summary
        ),
        Markup('<p style="opacity:.8;margin:.3em 0">{}. {}</p>').format(
            " · ".join(f"{name}: {value}" for name, value in report.facts), report.assurance
        ),
    ]
    if rows:
        names = Markup("").join(Markup('<th scope="col" style="{}">{}</th>').format(left, name) for name in header)
        parts.append(
            Markup('<table style="font-size:.92em;margin:.4em 0"><thead><tr>{}</tr></thead><tbody>{}</tbody></table>')
            .format(names, Markup("").join(rows))
        )  # fmt: skip
    over = len(report.findings) - len(rows)
    if over > 0:
        parts.append(Markup('<p style="margin:.3em 0">and {} more; save_html writes them all</p>').format(over))
    for title, items in report.notes:
        shown = "; ".join(items[:GLANCED]) + (f"; and {len(items) - GLANCED} more" if len(items) > GLANCED else "")
        parts.append(Markup('<p style="opacity:.8;margin:.3em 0">{}: {}</p>').format(title, shown))
    return str(Markup("<div>{}</div>").format(Markup("").join(parts)))


def sketch(figure: Figure, width: int = 160, height: int = 48) -> Markup:
    """A figure's lines and bars as a small drawing, for where no script runs."""
    lines = [t for t in figure["data"] if t["type"] == "scatter" and t.get("mode", "").startswith("lines")]
    bars = [] if lines else [t for t in figure["data"] if t["type"] == "bar"]
    values = [y for t in (lines or bars) for y in t["y"] if isinstance(y, int | float)]
    filled = bool(bars) or any(t["line"].get("shape") for t in lines)
    least = 0.0 if filled else min(values, default=0.0)
    top = max(values, default=0.0)
    top = figure["layout"]["yaxis"].get("range", (0.0, top))[1] if bars else top
    reach = (top - least) or 1.0

    def up(y: Any) -> str:
        return f"{height - 1 - min((y - least) / reach, 1.0) * (height - 3):.1f}"

    drawn = []
    for trace in lines:
        if not trace["line"]["width"] or not all(isinstance(y, int | float) for y in trace["y"]):
            continue
        colour, step = trace["line"]["color"], width / max(len(trace["y"]) - 1, 1)
        if trace["line"].get("shape"):  # a bar for each value; the first and last only end the outer ones
            inner = trace["y"][1:-1]
            step = width / max(len(inner), 1)
            path = f"M0 {height - 1}" + "".join(f"V{up(y)}H{(i + 1) * step:.0f}" for i, y in enumerate(inner))
            path += f"V{height - 1}"
        else:
            path = "M" + "L".join(f"{i * step:.0f} {up(y)}" for i, y in enumerate(trace["y"]))
        fill = Markup('fill="{}" fill-opacity=".15"').format(colour) if filled else Markup('fill="none"')
        drawn.append(Markup('<path d="{}" {} stroke="{}" stroke-width="1.2"/>').format(path, fill, colour))
    for i, trace in enumerate(bars):
        step = width / max(len(trace["y"]), 1)
        path = "".join(
            f"M{(j + i * 0.4 + 0.1) * step:.1f} {height - 1}V{up(y)}h{step * 0.38:.1f}V{height - 1}z"
            for j, y in enumerate(trace["y"])
        )
        drawn.append(Markup('<path d="{}" fill="{}"/>').format(path, (GREY, BLUE)[i % 2]))
    return Markup(
        '<svg viewBox="0 0 {} {}" width="{}" height="{}" preserveAspectRatio="none" aria-hidden="true">{}</svg>'
    ).format(width, height, width, height, Markup("").join(drawn))


def _escaped(figure: Figure) -> Figure:
    """The figure with the values from outside spelled so that Plotly shows them as they are.

    Plotly takes text for a small HTML: `<b>`, links. Names of categories must stay names.
    """
    data = [
        {key: _texts(value) if key in ("x", "y", "customdata", "name") else value for key, value in trace.items()}
        for trace in figure["data"]
    ]
    return {"data": data, "layout": {k: v for k, v in figure["layout"].items() if k not in ("template", "height")}}


def _texts(value: Any) -> Any:
    if isinstance(value, str):
        return value.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return [_texts(v) for v in value] if isinstance(value, (list, tuple)) else value


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def _packed(text: str) -> str:
    """A text as base64 of its gzip form, which no script element ends too soon; the same for the same text."""
    return b64encode(gzip.compress(text.encode(), 6, mtime=0)).decode()


@cache
def _template() -> Template:
    source = files("watchkeeper").joinpath("report.html").read_text(encoding="utf-8")
    return Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True).from_string(
        source
    )


@cache
def _plotly() -> str:
    return _packed(files("plotly").joinpath("package_data", "plotly.min.js").read_text(encoding="utf-8"))
