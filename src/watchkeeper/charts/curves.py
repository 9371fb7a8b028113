"""What a classifier's scores are worth: curves with bands, and the confusion matrix."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from watchkeeper.charts.figures import DASHES, GREY, SERIES, THIN, Figure, area, blank, nothing, rounded, short
from watchkeeper.stats.calibration import Reliability
from watchkeeper.stats.grid import Floats
from watchkeeper.stats.scores import Curve

MOST_POINTS = 200
NO_LABELS = "No stretch of time here has labels of both kinds"
Band = tuple[list[float], list[float], list[float], list[float]]
"""The upper edge's x and y, and the lower edge's."""
SQUARE = {"range": [-2, 102], "constrain": "domain"}


def roc(curves: Mapping[str, Curve | None], title: str = "ROC curve") -> Figure:
    """ROC curves by name, each with its 95 % band; the diagonal is guessing."""
    kept = {name: curve for name, curve in curves.items() if curve is not None}
    if not kept:
        return nothing(title, NO_LABELS)
    figure = _square(title, "negatives predicted positive (%)", "positives found (%)")
    for i, (name, curve) in enumerate(kept.items()):
        at = _some(curve)
        band = (
            _percent(curve.x_low[at]),
            _percent(curve.y_high[at]),
            _percent(curve.x_high[at]),
            _percent(curve.y_low[at]),
        )
        figure["data"] += _line(name, i, curve, at, band, ("of negatives", "of positives"))
    return _diagonal(figure)


def precision_recall(curves: Mapping[str, Curve | None], title: str = "Precision and recall") -> Figure:
    """Precision over recall by name, each with its 95 % band."""
    kept = {name: curve for name, curve in curves.items() if curve is not None}
    if not kept:
        return nothing(title, NO_LABELS)
    figure = _square(title, "positives found, recall (%)", "right when predicted positive, precision (%)")
    for i, (name, curve) in enumerate(kept.items()):
        at = _some(curve)
        x = _percent(curve.x[at])
        band = x, _percent(curve.y_high[at]), x, _percent(curve.y_low[at])
        figure["data"] += _line(name, i, curve, at, band, ("recall", "precision"))
    return figure


def reliability(curves: Mapping[str, Reliability], title: str = "Reliability of the scores") -> Figure:
    """The share of positives over the mean score by name, each with the intervals of its shares; the diagonal is a
    calibrated model."""
    kept = {name: curve for name, curve in curves.items() if len(curve.rows)}
    if not kept:
        return nothing(title, NO_LABELS)
    figure = _square(title, "mean score (%)", "share of positives (%)")
    for i, (name, curve) in enumerate(kept.items()):
        colour, x = SERIES[i % len(SERIES)], _percent(curve.said)
        low, high = _percent(curve.low), _percent(curve.high)
        line = _style(name, i) | {
            "mode": "lines+markers", "x": rounded(x), "y": rounded(_percent(curve.was)),
            "customdata": [[a, b, int(n)] for a, b, n in zip(rounded(low), rounded(high), curve.rows, strict=True)],
            "hovertemplate": (
                f"said %{{x:.1f}}{THIN}%, was <b>%{{y:.1f}}{THIN}%</b>, between %{{customdata[0]:.1f}} and"
                f" %{{customdata[1]:.1f}}{THIN}%<br>%{{customdata[2]:,}} rows<extra>{name}</extra>"
            ),
        }  # fmt: skip
        figure["data"] += [_area(x, high, x, low, colour, name), line]
    return _diagonal(figure)


def confusion(classes: Sequence[str], counts: Floats, title: str = "Confusion matrix") -> Figure:
    """How many rows of each class were predicted as which: cells in the share of their class's rows.

    Args:
        classes: names of the rows; where there is one column more than rows, it is of other predictions.
        counts: shape (classes, classes) or (classes, classes + 1).
    """
    if not counts.sum():
        return nothing(title, "No labelled predictions yet")
    names = [short(name) for name in classes]
    columns = [*names, "(other)"][: counts.shape[1]]
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    figure = blank(title, "predicted", "label")
    figure["data"].append({
        "type": "heatmap", "x": columns, "y": names, "z": [rounded((100 * row).tolist(), 4) for row in share],
        "text": [[f"{int(rows):,}" for rows in row] for row in counts], "zmin": 0, "zmax": 100, "xgap": 1, "ygap": 1,
        "colorscale": [[0.0, "rgba(47,125,225,0.04)"], [1.0, SERIES[0]]],
        "colorbar": {"title": {"text": "share of the label's rows (%)", "side": "right"}, "thickness": 12},
        "texttemplate": f"%{{text}}<br>%{{z:.1f}}{THIN}%" if len(names) <= 12 else "",
        "hovertemplate": (
            f"label %{{y}}, predicted %{{x}}<br><b>%{{text}} rows</b>, %{{z:.2f}}{THIN}% of the label"
            "<extra></extra>"
        ),
    })  # fmt: skip
    figure["layout"]["xaxis"] |= {"type": "category"}
    figure["layout"]["yaxis"] |= {"type": "category", "autorange": "reversed"}
    figure["layout"]["height"] = min(max(220 + 36 * len(names), 300), 900)
    return figure


def _square(title: str, x_title: str, y_title: str) -> Figure:
    figure = blank(title, x_title, y_title)
    figure["layout"]["xaxis"] |= SQUARE
    figure["layout"]["yaxis"] |= {"range": [-2, 102]}
    figure["layout"] |= {"height": 380, "showlegend": True}
    return figure


def _diagonal(figure: Figure) -> Figure:
    figure["layout"]["shapes"].append(
        {"type": "line", "x0": 0, "y0": 0, "x1": 100, "y1": 100, "line": {"color": GREY, "width": 1, "dash": "dot"}}
    )
    return figure


def _some(curve: Curve) -> list[int]:
    """Points of a curve, evenly along it: a thousand thresholds would draw the same line."""
    length = np.concatenate([[0.0], np.cumsum(np.abs(np.diff(curve.x)) + np.abs(np.diff(curve.y)))])
    marks = np.linspace(0, length[-1], MOST_POINTS)
    kept = np.unique(np.concatenate([np.searchsorted(length, marks[:-1]), [len(length) - 1]]))
    return [int(i) for i in kept]


def _percent(values: Floats) -> list[float]:
    return [float(v) for v in 100 * values]


def _style(name: str, i: int) -> dict[str, Any]:
    return {
        "type": "scatter", "name": name, "legendgroup": name,
        "line": {"color": SERIES[i % len(SERIES)], "dash": DASHES[i % len(DASHES)], "width": 2},
    }  # fmt: skip


def _line(name: str, i: int, curve: Curve, at: list[int], band: Band, of: tuple[str, str]) -> list[dict[str, Any]]:
    """A curve with its band."""
    ends = zip(
        *(rounded(_percent(side[at])) for side in (curve.x_low, curve.x_high, curve.y_low, curve.y_high)), strict=True
    )
    threshold = [None if np.isinf(t) else round(float(t), 4) for t in curve.threshold[at]]
    line = _style(name, i) | {
        "mode": "lines", "x": rounded(_percent(curve.x[at])), "y": rounded(_percent(curve.y[at])),
        "customdata": [[t, *row] for t, row in zip(threshold, ends, strict=True)],
        "hovertemplate": (
            f"<b>%{{y:.1f}}{THIN}%</b> {of[1]}, between %{{customdata[3]:.1f}} and %{{customdata[4]:.1f}}{THIN}%<br>"
            f"%{{x:.1f}}{THIN}% {of[0]}, between %{{customdata[1]:.1f}} and %{{customdata[2]:.1f}}{THIN}%<br>"
            f"threshold %{{customdata[0]}}<extra>{name}</extra>"
        ),
    }  # fmt: skip
    return [_area(*band, SERIES[i % len(SERIES)], name), line]


def _area(
    x_high: list[float], high: list[float], x_low: list[float], low: list[float], colour: str, name: str
) -> dict[str, Any]:
    drawn = area([], [], [], colour, name)
    return drawn | {"x": rounded([*x_high, *reversed(x_low)]), "y": rounded([*high, *reversed(low)])}
