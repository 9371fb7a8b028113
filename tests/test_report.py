"""The report's page: everything in one file, everything escaped."""

from __future__ import annotations

import base64
import gzip
import json
import re
from dataclasses import replace
from datetime import UTC, datetime
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from watchkeeper.charts import distribution, shares_by_period
from watchkeeper.comparison import Comparison, compare
from watchkeeper.comparison.report import report_of
from watchkeeper.errors import DataError
from watchkeeper.report import OPEN_COLUMNS, Cell, Column, Finding, Report, Row, Table, glance, page, sketch
from watchkeeper.stats.grid import Grid
from watchkeeper.testing import profile_of

EVIL = "<script>alert(1)</script> & \"quotes\" 'n' </script>"
MADE = datetime(2013, 7, 4, 12, tzinfo=UTC)
VOID = {"meta", "link", "br", "img", "input", "hr"}


class Reader(HTMLParser):
    """The page's text, its elements, and whether they close in order."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.text: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self._open: list[str] = []
        self.feed(source)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        (self.scripts if self._open and self._open[-1] in ("script", "style") else self.text).append(data)

    @property
    def words(self) -> str:
        return " ".join(" ".join(self.text).replace("\u202f", " ").split())


def frame(rows: int, seed: int, shift: float = 0.0) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "temp": random.normal(15 + shift, 8, rows),
            EVIL: random.choice(["a", EVIL], rows, p=[0.5 + shift / 40, 0.5 - shift / 40]),
            "id": [f"<b>{i}" for i in range(rows)],
            "wet": random.random(rows) < 0.2,
        }
    )


@pytest.fixture(scope="module")
def changed() -> Comparison:
    return compare(frame(1000, 1), frame(800, 2, shift=10).assign(**{f"new {EVIL}": 1}))


@pytest.fixture(scope="module")
def source(changed: Comparison, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("report") / "report.html"
    changed.save_html(path)
    return path.read_text(encoding="utf-8")


def small(**changes: Any) -> Report:
    grid = Grid.fit(np.arange(10.0))
    figure = distribution(profile_of([1.0, 2.0], grid), profile_of([2.0, 3.0], grid), grid, "Distribution")
    table = Table("Values", ("", "Current"), frozenset({1}), (Row("quiet", (Cell("Mean"), Cell("1.5"))),))
    report = Report(
        title="A title",
        tone="bad",
        verdict="Changed.",
        summary="1 of 1 column.",
        assurance="At most 5 %.",
        facts=(("Rows", "10"),),
        findings=(
            Finding("x", ("It moved.", "Much."), "column-0", ("distance", "0.5", "0.4 to 0.6", "up to 0.1", "")),
        ),
        overview=Table(
            "All columns", ("Column", "Value"), frozenset({1}), (Row("bad", (Cell("x", "column-0"), Cell("0.5"))),)
        ),
        columns=(Column("column-0", "x", "bad", "✗ breach", "numeric", ("It moved.",), (figure,), (table,)),),
        undrawn=0,
        notes=(("Left out", ("y: a date",)),),
        footer="The end.",
    )
    return replace(report, **changes)


def test_the_page_is_whole(source: str) -> None:
    read = Reader(source)
    assert source.startswith("<!doctype html>")
    assert ("html", {"lang": "en"}) in read.elements
    assert any(e == "meta" and a.get("name") == "viewport" for e, a in read.elements)


def test_the_page_asks_for_nothing(source: str) -> None:
    read = Reader(source)
    assert [a for e, a in read.elements if e in ("link", "img", "iframe", "object", "embed")] == []
    assert [a for e, a in read.elements if e == "script" and "src" in a] == []
    assert {a["href"] for e, a in read.elements if e == "a" and not str(a["href"]).startswith("#")} == set()
    policy = next(a["content"] for _, a in read.elements if a.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert policy.startswith("default-src 'none';")
    style = next(text for text in read.scripts if "prefers-color-scheme" in text)
    assert "url(" not in style
    assert "@import" not in style


def test_what_broke_how_sure_and_what_it_was_comes_first(source: str) -> None:
    words = Reader(source).words
    assert "Changed. 2 of 4 columns breach a limit: temp, <script>alert(1)</script>" in words
    assert "the chance of any breach on this page would be at most 5 %" in words
    order = ("What is wrong", "All columns", "Column by column", "Left out", "Made by watchkeeper")
    assert [words.index(title) for title in order] == sorted(words.index(title) for title in order)
    assert re.search(r"The values moved by 1\.\d\d standard deviations on average \(1\.\d\d to 1\.\d\d;", words)
    assert "Drifted columns 66.7 % (2 of 3)" in words


def test_every_column_has_a_line_and_a_part(source: str, changed: Comparison) -> None:
    read = Reader(source)
    anchors = [a["href"] for e, a in read.elements if e == "a"]
    parts = [a["id"] for e, a in read.elements if e == "section"]
    assert parts == [f"column-{i}" for i in range(3)]
    assert {f"#{part}" for part in parts} == set(anchors)
    rows = [a.get("class") for e, a in read.elements if e == "tr"]
    assert rows.count("is-bad") == 2 + len(changed.breaches)
    for name in ("Median", "99 %", "Standard deviation", "Missing", "2 categories in the reference"):
        assert name in read.words


def test_it_can_be_read_aloud(source: str) -> None:
    read = Reader(source)
    heads = [a for e, a in read.elements if e == "th"]
    assert all(a.get("scope") in ("col", "row") for a in heads)
    levels = [int(e[1]) for e, _ in read.elements if re.fullmatch("h[1-6]", e)]
    assert levels[0] == 1
    assert all(b - a <= 1 for a, b in pairwise(levels))
    drawings = [a for e, a in read.elements if "data-figure" in a]
    assert all(a["role"] == "img" and a["aria-label"] for a in drawings)


def test_what_was_left_out_is_told(source: str) -> None:
    words = Reader(source).words
    assert "id: an id: 1,000 different values" in words
    assert "Only in the current data new <script>" in words


def test_nothing_from_outside_is_markup(source: str) -> None:
    read = Reader(source)
    assert EVIL in read.words
    assert "alert(1)" not in "".join(read.scripts)
    assert all(not key.startswith("on") for _, attributes in read.elements for key in attributes)
    names = [x for f in figures(source) for t in f["data"] for x in t.get("x", ()) if isinstance(x, str)]
    assert any("&lt;script&gt;" in name for name in names)
    assert not any("<" in name for name in names)


def figures(source: str) -> Any:
    packed = re.search(r'id="figures">([^<]*)<', source)
    assert packed is not None
    return json.loads(gzip.decompress(base64.b64decode(packed[1])))


def test_every_column_is_drawn_with_titles(source: str) -> None:
    assert len(figures(source)) == 3
    for figure in figures(source):
        assert figure["layout"]["xaxis"]["title"]["text"]
        assert figure["layout"]["yaxis"]["title"]["text"]
        assert {trace["name"] for trace in figure["data"]} == {"reference", "current"}


def test_a_name_in_a_legend_stays_a_name() -> None:
    start = datetime(2024, 3, 1, tzinfo=UTC)
    figure = shares_by_period([start], {EVIL: [0.5]}, {}, "Categories")
    column = replace(small().columns[0], figures=(figure,))
    (drawn,) = figures(page(small(columns=(column,)), MADE))
    assert "<" not in drawn["data"][0]["name"]
    assert EVIL not in drawn["data"][0]["hovertemplate"]


def test_a_page_depends_on_its_report_alone() -> None:
    assert page(small(), MADE) == page(small(), MADE)
    assert "Made by watchkeeper, 2013-07-04 12:00 UTC." in page(small(), MADE)


def test_a_page_without_charts_has_no_script() -> None:
    text = page(small(columns=(), findings=()), MADE)
    assert "<script" not in text
    assert len(text) < 20_000
    assert "What is wrong" not in text


def test_many_columns_are_folded_but_those_that_breach() -> None:
    column = small().columns[0]
    bad = [replace(column, anchor=f"column-{i}") for i in range(3)]
    good = [replace(column, anchor=f"column-{i}", tone="good") for i in range(3, OPEN_COLUMNS + 6)]
    read = Reader(page(small(columns=(*bad, *good)), MADE))
    assert "6 more columns" in read.words
    assert [a["data-figure"] for e, a in read.elements if e == "div" and "data-figure" in a] == [
        str(i) for i in range(OPEN_COLUMNS + 6)
    ]


def test_numbers_are_set_to_the_right() -> None:
    read = Reader(page(small(), MADE))
    assert [a.get("class") for e, a in read.elements if e == "td"] == ["number", None, "number"]
    assert [a.get("class") for e, a in read.elements if e == "th" and a["scope"] == "col"] == [None, "number", "number"]


def wide(rows: int, seed: int, columns: int) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    data: dict[str, Any] = {"ts": pd.Timestamp("2024-01-01") + pd.to_timedelta(np.arange(rows) + seed * rows, unit="h")}
    for i in range(columns):
        name = f"{'a rather long name of a column ' * 2}{i:04}"
        moved = seed * (i % 7 == 0)
        data[name] = (
            random.lognormal(moved, 1, rows) if i % 10 else random.integers(0, 30 + 30 * moved, rows).astype(str)
        )
    return pd.DataFrame(data)


@pytest.mark.parametrize("columns", [200, 500])
def test_a_report_is_small_whatever_the_columns(columns: int, tmp_path: Path) -> None:
    comparison = compare(wide(400, 0, columns), wide(400, 1, columns))
    assert comparison.timestamp == "ts"
    comparison.save_html(tmp_path / "wide.html")
    assert (tmp_path / "wide.html").stat().st_size < 6e6
    assert len(comparison._repr_html_()) < 60_000
    words = Reader((tmp_path / "wide.html").read_text(encoding="utf-8")).words
    assert f"of {columns + 1} columns breach a limit" in words


def test_the_important_come_first() -> None:
    before, after = frame(1000, 1), frame(800, 2, shift=10)
    source = page(report_of(compare(before, after, importance={"wet": 3, "temp": 1})), MADE)
    read = Reader(source)
    titles = re.findall(r'<h3 id="column-\d+-title">([^<]*)<', source)
    assert titles[:2] == ["wet", "temp"]
    assert "Drifted, by importance 25.0 %" in read.words


def test_a_breach_has_its_beginning_and_its_course() -> None:
    after = frame(2000, 2).assign(ts=pd.Timestamp("2024-03-01") + pd.to_timedelta(np.arange(2000), unit="h") / 2)
    late = np.arange(2000) >= 1200
    comparison = compare(frame(1000, 1), after.assign(temp=after["temp"] + 9 * late), timestamp="ts")
    report = report_of(comparison)
    assert "began 2024-03-26 UTC" in report.assurance
    assert all(len(column.figures) == 2 for column in report.columns)
    course = report.columns[0].figures[1]
    assert course["layout"]["title"]["text"] == "Values, day by day"
    assert [note["text"] for note in course["layout"]["annotations"]] == ["since 2024-03-26"]
    assert "2024-03-26 UTC" in Reader(comparison._repr_html_()).words


def test_moments_and_lengths_of_time_are_written_as_such() -> None:
    random = np.random.default_rng(1)
    sides = [
        pd.DataFrame(
            {
                "seen": pd.Timestamp(start) + pd.to_timedelta(random.integers(0, 86_400 * 30, 500), unit="s"),
                "took": pd.to_timedelta(random.gamma(2, 1800, 500), unit="s"),
            }
        )
        for start in ("2024-01-01", "2024-01-02")
    ]
    report = report_of(compare(*sides))
    by_name = {column.title: column for column in report.columns}
    medians = {
        name: next(row.cells[1].text for row in column.tables[0].rows if row.cells[0].text == "Median")
        for name, column in by_name.items()
    }
    assert medians["seen"].startswith("2024-01-1")
    assert re.fullmatch(r"\d+\u202fmin \d+\u202fs", medians["took"])
    assert by_name["seen"].figures[0]["layout"]["xaxis"]["type"] == "date"
    assert by_name["took"].figures[0]["layout"]["xaxis"]["title"]["text"].startswith("length of time (hours)")


def test_a_notebook_is_shown_a_small_piece(changed: Comparison) -> None:
    text = changed._repr_html_()
    read = Reader(text)
    assert len(text) < 20_000
    assert not {"script", "style", "link", "img"} & {e for e, _ in read.elements}
    assert "Changed. 2 of 4 columns breach a limit" in read.words
    assert EVIL in read.words
    assert sum(e == "svg" for e, _ in read.elements) == 2


def test_a_healthy_notebook_shows_two_lines() -> None:
    text = glance(small(tone="good", verdict="Healthy.", findings=(), notes=()))
    assert Reader(text).words == "Healthy. 1 of 1 column. Rows: 10. At most 5 %."


@pytest.mark.parametrize(
    ("now", "before"), [([1.0, 2.0], [2.0, 3.0]), ([0.5] * 5, [0.1, 0.9] * 400), ([], [1.0]), ([], [])]
)
def test_a_sketch_is_drawn_of_any_figure(now: list[float], before: list[float]) -> None:
    for grid in (Grid.fit(np.asarray(before)), Grid.fit(np.random.default_rng(1).normal(size=500)), Grid.unit(100)):
        read = Reader(str(sketch(distribution(profile_of(now, grid), profile_of(before, grid), grid, ""))))
        assert read.elements[0][0] == "svg"
        assert "nan" not in str(read.elements)


def test_a_place_that_cannot_be_written_is_told(changed: Comparison, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be written"):
        changed.save_html(tmp_path)


def test_what_explains_a_drift_is_told_before_the_drift() -> None:
    random = np.random.default_rng(1)
    before = pd.DataFrame({"distance": random.gamma(2, 1500, 1000), "rate": random.beta(2, 5, 1000)})
    after = before.iloc[::-1].assign(distance=before["distance"] / 1000).rename(columns={"rate": "Rate"})
    words = Reader(page(report_of(compare(before, after)), MADE)).words
    wrong = words[words.index("What is wrong") : words.index("All columns")]
    assert "distance It looks like the reference divided by 1,000" in wrong
    assert 'renamed to "Rate"? ' in wrong


def test_a_notebook_is_told_what_is_wrong_in_words() -> None:
    before = pd.DataFrame({"distance": np.random.default_rng(1).gamma(2, 1500, 1000)})
    words = Reader(compare(before, before.iloc[::-1] / 1000)._repr_html_()).words
    assert "it looks like the reference divided by 1,000" in words
