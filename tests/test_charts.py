"""Figures say what the rows say, in words, with titles, units and UTC; Plotly itself accepts them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import plotly.graph_objects as go
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scored_rows import EMPTY, sample, scores_of
from watchkeeper import charts
from watchkeeper.charts.figures import GREY
from watchkeeper.profiles import Profile, categorical, numeric
from watchkeeper.records import Point
from watchkeeper.stats.calibration import by_mass
from watchkeeper.stats.grid import NULL, Grid
from watchkeeper.stats.scores import precision_recall_band, roc_band
from watchkeeper.windows import DAY, Window

START = datetime(2024, 3, 1, tzinfo=UTC)
RNG = np.random.default_rng(5)
VALUES = RNG.lognormal(3, 0.8, 5000)
GRID = Grid.fit(VALUES)
HOURS = Grid.fit(np.repeat(np.arange(24.0), 50))


def profile(grid: Grid, values: Any, missing: int = 0) -> Profile:
    """Counts of values, each put into the bin whose edges hold it."""
    bins = np.arange(-200, grid.top + 200)
    lower, upper = grid.edges(bins)
    counts: dict[int, int] = {NULL: missing} if missing else {}
    for value in values:
        inside = np.flatnonzero((lower <= value) & (value <= upper) & ((value < upper) | (lower == upper)))
        at = min(inside, key=lambda i: upper[i] - lower[i])
        counts[int(bins[at])] = counts.get(int(bins[at]), 0) + 1
    return numeric(grid, counts, float(min(values)), float(max(values)))


def point(day: int, value: float | None, **change: Any) -> Point:
    length = change.pop("length", DAY)
    end = START + (day + 1) * DAY
    near = (None, None) if value is None else (value - 0.05, value + 0.05)
    fields: dict[str, Any] = {
        "id": f"point-{day}", "model": "m", "version": "", "segment": "", "column": "amount", "metric": "psi",
        "monitor": "input drift", "window": Window(end - length, end), "value": value, "low": near[0],
        "high": near[1], "confidence": 0.99, "n": 1204, "n_baseline": 900, "coverage": None, "detail": {},
        "config": "config-1", "because": (),
    }  # fmt: skip
    return Point(**(fields | change))


def look(hour: int, **change: Any) -> dict[str, Any]:
    at = (START + timedelta(hours=hour)).isoformat()
    return {
        "at": at, "stage": 0, "share": 0.05, "n_champion": 900, "n_candidate": 60, "difference": 0.01, "low": -0.2,
        "high": 0.2, "margin": 0.05, "decision": "waiting", "reason": "waiting",
    } | change  # fmt: skip


SCORED = [scores_of(*sample(3000, seed)) for seed in range(2)]
PERFORMANCE = [point(d, 0.4 + d / 100, metric="log_loss", column="score", version="v1", monitor="") for d in range(9)]
EARLY = {"provisional": True, "plain": 0.3, "plain_low": 0.2, "plain_high": 0.4, "complete": 0.5, "coverage": 0.9}
YOUNG = [
    point(d, 0.5, metric="log_loss", column="score", version="v1", monitor="", coverage=0.45, detail=EARLY)
    for d in range(9, 12)
]
CHAMPIONS = [(START - DAY, "v1"), (START + 5 * DAY, "v2")]
LATENCY = [
    point(d, v, metric=m, column="latency_ms", monitor="") for d in range(5) for m, v in (("p50", 20.0), ("p99", 80.0))
]


def kpis() -> list[Point]:
    """What was measured of a KPI on two days."""
    metrics = ("kpi_sum", "kpi_per_prediction", "kpi_per_user", "kpi_coverage", "kpi_user_share", "kpi_delay")
    return [point(day, 0.5, metric=metric, column="revenue") for day in (1, 2) for metric in metrics]


def figures() -> Iterator[tuple[str, charts.Figure]]:
    base, now = profile(GRID, VALUES[:900]), profile(GRID, VALUES[900:1300] * 2, missing=40)
    yield "densities", charts.distribution(now, base, GRID, "amount")
    yield "densities, one side", charts.distribution(None, base, GRID, "amount")
    yield "atoms", charts.distribution(profile(HOURS, [1, 1, 2, 23.0]), profile(HOURS, [1, 2, 3.0]), HOURS, "hour")
    yield (
        "categories",
        charts.distribution(categorical({"a": 3, "": 1}, 2), categorical({"a": 5, "b": 5}), None, "city"),
    )
    yield "drift map", charts.drift_map([point(d, d / 9, column=c, length=7 * DAY) for d in range(9) for c in "ab"])
    yield "performance", charts.performance_over_time(PERFORMANCE, CHAMPIONS, "log_loss")
    yield "provisional performance", charts.performance_over_time([*PERFORMANCE, *YOUNG], CHAMPIONS, "log_loss")
    yield "label coverage", charts.label_coverage([*PERFORMANCE, *YOUNG], "log_loss")
    yield "metric", charts.metric_over_time([point(d, 0.1) for d in range(5)], 0.25, since=START + DAY)
    yield "latency", charts.latency(LATENCY)
    yield from (("kpi", figure) for figure in charts.kpi(kpis(), "revenue", "EUR"))
    yield "shares", charts.shares_over_time([point(1, 0.01, metric="error_rate")], ["error_rate"], "Errors")
    yield "volume", charts.volume([point(d, 300.0, metric="volume", column="status", monitor="") for d in range(5)])
    yield (
        "values",
        charts.values_over_time([(START + d * DAY, 0.1) for d in range(5)], "Missing", "missing", share=True),
    )
    yield "arms", charts.arms([look(1), look(2, share=0.25)])
    two = {"reference": SCORED[0], "the last days": SCORED[1]}
    yield "ROC", charts.roc({name: roc_band(s, 0.025) for name, s in two.items()})
    yield "precision and recall", charts.precision_recall({n: precision_recall_band(s, 0.025) for n, s in two.items()})
    yield "reliability", charts.reliability({name: by_mass(s, 0.025) for name, s in two.items()})
    yield "confusion", charts.confusion(["cat", "dog"], np.array([[8.0, 1.0, 1.0], [2.0, 5.0, 0.0]]))


ALL = dict(figures())
each = pytest.mark.parametrize("name", ALL)


@each
def test_plotly_accepts_it(name: str) -> None:
    figure = go.Figure(ALL[name])
    assert len(figure.data) == len(ALL[name]["data"]) > 0
    json.dumps(ALL[name], allow_nan=False)


@each
def test_it_has_a_title_units_and_utc(name: str) -> None:
    layout = ALL[name]["layout"]
    assert layout["title"]["text"]
    titles = [layout[axis]["title"]["text"] for axis in ("xaxis", "yaxis")]
    assert titles[0]
    assert titles[1] or name == "drift map"
    on_time = any(str(x).startswith("2024-") for trace in ALL[name]["data"] for x in trace["x"])
    assert not on_time or "UTC" in titles[0]


@each
def test_what_is_told_on_hover_is_in_words(name: str) -> None:
    for trace in ALL[name]["data"]:
        assert "hovertemplate" in trace or trace["hoverinfo"] == "skip"


@each
def test_series_are_named_where_there_are_several(name: str) -> None:
    named = {trace["name"] for trace in ALL[name]["data"] if trace.get("showlegend") is not False and "name" in trace}
    assert all(named)


@pytest.mark.parametrize(
    "figure",
    [
        charts.distribution(None, None, GRID, "amount"),
        charts.distribution(categorical({}, 4), None, None, "city"),
        charts.drift_map([]),
        charts.drift_map([point(0, None)]),
        charts.performance_over_time([], [], "auc"),
        charts.metric_over_time([point(0, None)], 0.2),
        charts.latency([]),
        charts.volume([]),
        charts.shares_over_time([point(0, None)], ["error_rate"], "Errors"),
        charts.values_over_time([(START, None)], "Mean", "mean"),
        charts.arms([]),
        charts.arms([look(1, difference=None)]),
        charts.roc({"nothing": roc_band(EMPTY, 0.025)}),
        charts.precision_recall({}),
        charts.reliability({"nothing": by_mass(EMPTY, 0.025)}),
        charts.confusion(["cat", "dog"], np.zeros((2, 2))),
    ],
)
def test_nothing_to_draw_is_said(figure: charts.Figure) -> None:
    assert figure["data"] == []
    assert figure["layout"]["annotations"][0]["text"]
    go.Figure(figure)


# Distributions


@given(
    st.lists(st.floats(-50, 400), min_size=1, max_size=80),
    st.floats(-60, 200), st.floats(1, 300),
)  # fmt: skip
def test_gathered_shares_are_whole(values: list[float], low: float, width: float) -> None:
    below, shares, above = charts.gathered(profile(GRID, values), GRID, np.linspace(low, low + width, 41))
    assert below + shares.sum() + above == pytest.approx(100)
    assert shares.min() >= -1e-9
    assert min(below, above) >= -1e-9


def test_gathered_shares_are_those_of_the_values() -> None:
    values = VALUES[:3000]
    edges = np.quantile(values, [0.1, 0.4, 0.7, 0.95])
    below, shares, above = charts.gathered(profile(GRID, values), GRID, edges)
    exact = np.histogram(values, edges)[0] / 30
    assert [below, above] == pytest.approx([10, 5], abs=0.4)
    assert shares.tolist() == pytest.approx(exact.tolist(), abs=0.6)


def test_a_single_value_keeps_its_whole_mass() -> None:
    grid = Grid.fit(np.full(50, 7.0))
    figure = charts.distribution(profile(grid, [7.0] * 9), profile(grid, [7.0]), grid, "constant")
    assert [max(trace["y"]) for trace in figure["data"]] == [100, 100]


def test_what_moved_out_of_the_baseline_is_still_seen() -> None:
    base, now = profile(GRID, VALUES[:800]), profile(GRID, [5000.0 + i for i in range(100)])
    figure = charts.distribution(now, base, GRID, "amount")
    current = next(t for t in figure["data"] if t["name"] == "current" and t["type"] == "scatter")
    assert max(current["x"]) >= 5000
    assert sum(current["y"][1:-1]) == pytest.approx(100, abs=1)


def test_missing_values_and_sentinels_are_told() -> None:
    base, now = profile(GRID, VALUES[:300]), profile(GRID, VALUES[300:360], missing=40)
    notes = [a["text"] for a in charts.distribution(now, base, GRID, "amount")["layout"]["annotations"]]
    assert notes == ["Not drawn:<br>missing: 40\u202f% of the rows, 0\u202f% in the baseline"]
    bars = charts.distribution(categorical({"a": 3}, 1), categorical({"a": 4}), None, "city")["data"]
    assert [dict(zip(t["x"], t["y"], strict=True)) for t in bars] == [
        {"a": 100, "missing": 0},
        {"a": 75, "missing": 25},
    ]


def test_categories_frequent_on_either_side_stand_in_the_baselines_order_and_the_rest_together() -> None:
    base = categorical({f"c{i:02}": 100 - i for i in range(30)})
    now = categorical({"c00": 10, "c29": 10, "new": 20})
    first = charts.distribution(now, base, None, "city")["data"][1]
    assert first["x"][:2] == ["c00", "c01"]
    assert first["x"][-1] == "11 others"
    assert dict(zip(first["x"], first["y"], strict=True)) == {
        **dict.fromkeys(first["x"], 0.0), "c00": 25.0, "new": 50.0, "c29": 25.0,
    }  # fmt: skip


# Drift


def test_the_map_is_ordered_by_confident_drift_and_leaves_gaps() -> None:
    points = [point(d, v, column=c) for c, v in (("weak", 0.1), ("strong", 0.6)) for d in (0, 1, 4)]
    noisy = [point(0, 0.9, column="noisy", low=0.0)]
    heat = charts.drift_map([*points, *noisy])["data"][0]
    assert heat["y"] == ["strong", "weak", "noisy"]
    assert heat["x"] == [f"2024-03-0{d}T00:00" for d in (1, 2, 3, 4, 5)]
    assert heat["z"][0] == [0.6, 0.6, None, None, 0.6]


def test_a_week_stands_at_its_last_day() -> None:
    assert charts.at(point(9, 0.1, length=7 * DAY)) == START + 9 * DAY
    assert charts.at(point(9, 0.1, length=DAY / 24)) == START + 10 * DAY - DAY / 24


def test_the_steps_are_where_the_colours_change() -> None:
    heat = charts.drift_map([point(0, 0.3)], steps=(0.05, 0.2))["data"][0]
    assert [stop for stop, _ in heat["colorscale"]] == pytest.approx([0, 0.125, 0.125, 0.5, 0.5, 1])
    assert heat["colorbar"]["ticktext"] == ["0", "0.05", "0.2", "0.4+"]


# Over time


def test_each_version_has_its_line_and_new_champions_are_marked() -> None:
    other = [point(d, 0.3, metric="log_loss", column="score", version="v2", monitor="") for d in range(5, 9)]
    figure = charts.performance_over_time([*other, *PERFORMANCE], CHAMPIONS, "log_loss")
    lines = [t["name"] for t in figure["data"] if t["showlegend" if "showlegend" in t else "name"]]
    assert lines == ["version v1", "version v2"]
    assert [a["text"] for a in figure["layout"]["annotations"]] == ["champion v2"]


def test_a_gap_is_not_drawn_over() -> None:
    days = [*range(4), *range(8, 12)]
    line = charts.metric_over_time([point(d, 0.1) for d in days])["data"][-1]
    assert line["y"].count(None) == 1
    assert line["x"][4] == "2024-03-05T00:00"


def test_shares_are_drawn_in_percent_with_their_limit() -> None:
    figure = charts.metric_over_time([point(d, 0.124, metric="null_rate") for d in range(4)], 0.05)
    line = next(t for t in figure["data"] if t["mode"] == "lines" and "hovertemplate" in t)
    assert line["y"] == [12.4] * 4
    assert figure["layout"]["shapes"][0]["y0"] == 5
    assert figure["layout"]["yaxis"]["title"]["text"] == "share (%)"


@pytest.mark.parametrize(
    ("relative", "axis", "scale"),
    [
        (None, "share (%)", 100),
        ("difference", "difference (percentage points)", 100),
        ("ratio", "ratio to the baseline", 1),
    ],
)
def test_a_relative_limit_has_its_own_unit(relative: str | None, axis: str, scale: float) -> None:
    unit = charts.unit_of("null_rate", "amount", relative)
    assert (unit.axis, unit.scale) == (axis, scale)


def test_a_metric_of_a_stranger_is_drawn_by_its_name() -> None:
    assert charts.unit_of("my_metric").axis == "my metric"
    assert (
        charts.metric_over_time([point(0, 1.0, metric="my_metric")])["layout"]["title"]["text"] == "My metric of amount"
    )


def test_arms_mark_stages_the_margin_and_zero() -> None:
    figure = charts.arms([look(1), look(2, share=0.25), look(3, share=0.25, low=None, high=None)])
    words = [a["text"] for a in figure["layout"]["annotations"]]
    assert words == ["no difference", "margin", "25\u202f% of the traffic"]
    assert len(figure["data"][0]["x"]) == 4  # a band over the two looks that have an interval
    assert figure["layout"]["yaxis"]["range"][1] >= 0.2


# Themes


def luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, two: str) -> float:
    light, dark = sorted((luminance(one), luminance(two)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("theme", charts.THEMES)
def test_every_colour_can_be_seen_in_every_theme(theme: str) -> None:
    layout = charts.THEMES[theme]["layout"]
    paper = layout["paper_bgcolor"]
    assert all(contrast(colour, paper) >= 3 for colour in (*charts.SERIES, charts.GREY, charts.ALARM))
    assert contrast(layout["font"]["color"], paper) >= 7
    assert contrast(layout["xaxis"]["tickfont"]["color"], paper) >= 4.5


def test_a_curve_is_drawn_with_few_points_between_the_edges_of_its_band() -> None:
    figure = charts.roc({"now": roc_band(SCORED[0], 0.025)})
    band, line = figure["data"]
    assert len(line["x"]) <= 201
    assert (line["x"][0], line["y"][0], line["x"][-1], line["y"][-1]) == (0, 0, 100, 100)
    assert len(band["x"]) == 2 * len(line["x"])
    assert line["customdata"][0][0] is None  # the threshold above all scores
    for x, y, (_, x_low, x_high, y_low, y_high) in zip(line["x"], line["y"], line["customdata"], strict=True):
        assert x_low <= x <= x_high
        assert y_low <= y <= y_high


def test_a_confusion_matrix_is_in_shares_of_the_label() -> None:
    cells = charts.confusion(["cat", "dog"], np.array([[8.0, 1.0, 1.0], [3.0, 5.0, 0.0]]))["data"][0]
    assert cells["z"] == [[80, 10, 10], [37.5, 62.5, 0]]
    assert cells["text"] == [["8", "1", "1"], ["3", "5", "0"]]
    assert (cells["x"], cells["y"]) == (["cat", "dog", "(other)"], ["cat", "dog"])


def test_provisional_values_have_a_dashed_band_and_what_the_known_labels_say_beside_them() -> None:
    figure = charts.performance_over_time([*PERFORMANCE, *YOUNG], CHAMPIONS, "log_loss")
    traces = {trace["name"]: trace for trace in figure["data"]}
    assert traces["version v1, provisional band"]["line"]["dash"] == "dash"
    assert traces["version v1, provisional"]["y"] == [0.5] * 3
    assert traces["version v1, provisional"]["customdata"][0] == [0.45, 0.55, 0.3, 45]
    assert traces["version v1, provisional, not corrected"]["y"] == [0.3] * 3
    assert len([y for y in traces["version v1"]["y"] if y is not None]) == len(PERFORMANCE)


def test_estimates_are_drawn_in_grey_beside_what_was_realised_and_where_there_are_no_labels_yet() -> None:
    estimated = [replace(p, metric="estimated_log_loss") for p in PERFORMANCE]
    figure = charts.performance_over_time([*PERFORMANCE[:-2], *estimated], CHAMPIONS, "log_loss")
    traces = {trace["name"]: trace for trace in figure["data"] if trace["mode"] != "none" and "customdata" in trace}
    assert traces["version v1, estimated"]["line"]["color"] == GREY
    assert traces["version v1, estimated"]["x"][-1] > traces["version v1"]["x"][-1]
    heeding = [replace(p, detail={"from": "features and weights"}) for p in estimated]
    named = charts.performance_over_time(heeding, CHAMPIONS, "log_loss")
    assert {trace["name"] for trace in named["data"]} >= {"version v1, estimated from features and weights"}
    alone = charts.performance_over_time(estimated, CHAMPIONS, "log_loss")
    assert {trace["name"] for trace in alone["data"]} == {"version v1, estimated"}


def test_label_coverage_is_told_with_what_is_expected_of_it() -> None:
    unknown = point(12, None, metric="log_loss", monitor="", coverage=0.0, detail={"provisional": True, "plain": None})
    now, expected = charts.label_coverage([*YOUNG, unknown], "log_loss")["data"]
    assert (now["y"], expected["y"]) == ([45] * 3, [90] * 3)
    assert charts.label_coverage([unknown], "log_loss")["layout"]["annotations"]


def test_a_kpi_is_drawn_in_its_unit_for_predictions_and_users() -> None:
    whole, each, shares, delay = charts.kpi(kpis(), "revenue", "EUR")
    assert whole["layout"]["yaxis"]["title"]["text"] == "revenue (EUR)"
    assert {line["name"] for line in each["data"]} == {"per prediction", "per user"}
    assert [line["y"] for line in shares["data"] if line["name"] == "users"][-1] == [50.0, 50.0]
    assert delay["layout"]["yaxis"]["title"]["text"] == "hours"


def test_of_a_kpi_without_users_there_is_no_line_of_users() -> None:
    some = [p for p in kpis() if p.metric in ("kpi_sum", "kpi_per_prediction")]
    figures = charts.kpi(some, "clicks")
    assert {line["name"] for line in figures[1]["data"]} == {"per prediction"}
    assert figures[2]["data"] == figures[3]["data"] == []
