"""A rollout: the candidate against the champion."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import pairwise
from typing import Any

import numpy as np

from watchkeeper.charts.figures import (
    ALARM,
    BLUE,
    GREY,
    THIN,
    Figure,
    area,
    blank,
    horizontal,
    moment,
    nothing,
    rounded,
    vertical,
)


def arms(looks: Sequence[Mapping[str, Any]], margin: float | None = None, title: str = "") -> Figure:
    """The difference of the two arms' log losses over the looks, with its confidence sequence.

    The candidate is worse with confidence once the band lies above zero, and proven once it lies below the margin.
    """
    title = title or "Candidate against champion: difference in log loss"
    kept = [look for look in looks if look.get("difference") is not None]
    if not kept:
        return nothing(title, "The log loss of both arms is not known yet")
    figure = blank(title, "time of the look (UTC)", "candidate minus champion (nats)")
    x = [moment(datetime.fromisoformat(look["at"])) for look in kept]
    bounded = [i for i, look in enumerate(kept) if look.get("low") is not None and look.get("high") is not None]
    band_x, low, high = [x[i] for i in bounded], [kept[i]["low"] for i in bounded], [kept[i]["high"] for i in bounded]
    figure["data"] = [
        area(band_x, low, high, BLUE, "confidence sequence", shown=True),
        {
            "type": "scatter", "mode": "lines+markers", "name": "difference", "x": x,
            "y": rounded([look["difference"] for look in kept]), "line": {"color": BLUE, "width": 2},
            "marker": {"size": 5},
            "customdata": [
                [look.get("low"), look.get("high"), look.get("n_champion"), look.get("n_candidate"),
                 str(look.get("reason", "")).replace("_", " ")] for look in kept
            ],
            "hovertemplate": "difference %{y:.4f}, between %{customdata[0]:.4f} and %{customdata[1]:.4f}<br>"
            "%{customdata[3]:,} rows of the candidate, %{customdata[2]:,} of the champion<br>"
            "%{customdata[4]}<br>%{x}<extra></extra>",
        },
    ]  # fmt: skip
    horizontal(figure, 0.0, "no difference", GREY, "solid")
    margin = kept[-1].get("margin", margin) if margin is None else margin
    if margin is not None:
        horizontal(figure, margin, "margin", ALARM, "dash")
    shares = [look.get("share") for look in kept]
    for i, (before, after) in enumerate(pairwise(shares)):
        if after is not None and after != before:
            vertical(figure, datetime.fromisoformat(kept[i + 1]["at"]), f"{after * 100:g}{THIN}% of the traffic", 1.0)
    _keep_in_view(figure, [*low, *high], [look["difference"] for look in kept], margin)
    return figure


def _keep_in_view(figure: Figure, ends: list[float], values: list[float], margin: float | None) -> None:
    """The first looks' bands are very wide; the axis shows the rest well and lets those run out of it."""
    if not ends:
        return
    far = float(np.quantile(np.abs(ends), 0.75)) * 1.3
    reach = max([far, *(abs(v) * 1.2 for v in values), 2 * abs(margin or 0.0)])
    figure["layout"]["yaxis"] |= {"range": [-reach, reach]}
