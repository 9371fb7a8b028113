"""The report's page: everything in one file, everything escaped."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from watchkeeper.charts import distribution
from watchkeeper.comparison import compare
from watchkeeper.errors import DataError
from watchkeeper.findings import Comparison
from watchkeeper.report import OPEN_CHARTS, Chart, Finding, Report, Row, Table, glance, page, sketch
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
            "id": [f"{EVIL}{i}" for i in range(rows)],
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
    figure = distribution(profile_of([1.0, 2.0], grid), profile_of([2.0, 3.0], grid), grid, "")
    report = Report(
        title="A title",
        tone="bad",
        verdict="Changed.",
        summary="1 of 1 column.",
        facts=(("Rows", "10"),),
        findings=(Finding("x", ("It moved.",), "column-0"),),
        charts=(Chart("column-0", "x", "bad", "a note", figure),),
        table=Table("Every look", ("Column", "Value"), frozenset({1}), (Row("bad", ("x", "0.5")),)),
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


def test_breaches_come_first_in_words(source: str) -> None:
    words = Reader(source).words
    assert "Changed. 2 of 3 columns breach a limit: temp, <script>alert(1)</script>" in words
    assert words.index("What is wrong") < words.index("Distributions") < words.index("Every look")
    assert re.search(r"The values moved by 1\.\d\d standard deviations on average \(1\.\d\d to 1\.\d\d;", words)


def test_every_look_has_a_row(source: str, changed: Comparison) -> None:
    read = Reader(source)
    rows = [a for e, a in read.elements if e == "tr"]
    assert len(rows) == len(changed.points) + 1
    assert [a["class"] for a in rows[1 : len(changed.breaches) + 1]] == ["is-bad"] * len(changed.breaches)


def test_what_was_left_out_is_told(source: str) -> None:
    words = Reader(source).words
    assert "id: an id or free text: 1,000 different values" in words
    assert "Only in the current data new <script>" in words


def test_nothing_from_outside_is_markup(source: str) -> None:
    read = Reader(source)
    assert EVIL in read.words
    assert "alert(1)" not in "".join(text for text in read.scripts if "u003c" not in text)
    assert all(not key.startswith("on") for _, attributes in read.elements for key in attributes)
    figures = next(text for text in read.scripts if text.startswith('[{"data"'))
    assert "<" not in figures
    names = [x for f in json.loads(figures) for t in f["data"] for x in t.get("x", ()) if isinstance(x, str)]
    assert any("&lt;script&gt;" in name for name in names)
    assert not any("<" in name for name in names)


def test_figures_carry_no_title_of_their_own(source: str) -> None:
    figures = json.loads(next(text for text in Reader(source).scripts if text.startswith('[{"data"')))
    assert len(figures) == 3
    assert all("title" not in figure["layout"] for figure in figures)


def test_a_page_depends_on_its_report_alone() -> None:
    assert page(small(), MADE) == page(small(), MADE)
    assert "Made by watchkeeper, 2013-07-04 12:00 UTC." in page(small(), MADE)


def test_a_page_without_charts_has_no_script() -> None:
    text = page(small(charts=(), findings=()), MADE)
    assert "<script" not in text
    assert len(text) < 20_000
    assert "What is wrong" not in text


def test_many_charts_are_folded() -> None:
    chart = small().charts[0]
    charts = tuple(replace(chart, anchor=f"column-{i}") for i in range(OPEN_CHARTS + 6))
    read = Reader(page(small(charts=charts), MADE))
    assert "6 more columns" in read.words
    assert [a["data-figure"] for e, a in read.elements if e == "div" and "data-figure" in a] == [
        str(i) for i in range(OPEN_CHARTS + 6)
    ]


def test_numbers_are_set_to_the_right() -> None:
    read = Reader(page(small(), MADE))
    assert [a.get("class") for e, a in read.elements if e == "td"] == ["number"]
    assert [a.get("class") for e, a in read.elements if e == "th" and a["scope"] == "col"] == [None, "number"]


def test_a_notebook_is_shown_a_small_piece(changed: Comparison) -> None:
    text = changed._repr_html_()
    read = Reader(text)
    assert len(text) < 40_000
    assert not {"script", "style", "link", "img"} & {e for e, _ in read.elements}
    assert "Changed. 2 of 3 columns breach a limit" in read.words
    assert EVIL in read.words
    assert sum(e == "svg" for e, _ in read.elements) == 2


def test_a_healthy_notebook_shows_a_line() -> None:
    text = glance(small(tone="good", verdict="Healthy.", findings=(), notes=()))
    assert Reader(text).words == "Healthy. 1 of 1 column."


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
