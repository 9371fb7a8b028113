"""The values of a metric over time: of each grain as stored, or over rolling windows, measured when asked for."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query

from watchkeeper import measuring, monitors
from watchkeeper.errors import ConfigError
from watchkeeper.records import ALL, Point
from watchkeeper.schema import ModelConfig
from watchkeeper.server import reads
from watchkeeper.server.services import RequestError, Services, absent, services
from watchkeeper.store.state import Transaction
from watchkeeper.windows import DAY, parse_duration, show_duration

router = APIRouter(tags=["read"])
Served = Annotated[Services, Depends(services)]

ROLLING = {"1h": ("1d", "7d", "30d"), "1d": ("7d", "30d")}
"""The windows that a model's page offers beside the grain itself."""


def read_window(config: ModelConfig, written: str) -> timedelta | None:
    """A rolling window as it is asked for; None for that of the grain alone, which is stored. RequestError for none."""
    if not written:
        return None
    try:
        length = parse_duration(written)
        measuring.check_rolling(config, length)
    except (ConfigError, OverflowError) as problem:
        example = ", ".join(ROLLING[config.grain])
        raise RequestError(422, f"window: {problem}", f"ask for window={config.grain}, or such as {example}") from None
    return length if length > config.grain_length else None


def points(
    tx: Transaction, served: Services, model: str, metrics: Sequence[str], window: timedelta | None, since: datetime,
    segment: str = ALL,
) -> list[Point]:  # fmt: skip
    """What is shown of some metrics in windows that end after `since`, oldest first; those of each version apart where
    that is shown. Of a segment it is measured as it is asked for."""
    config = served.model(model)
    watches = [w for w in monitors.shown(config) if w.metric.name in metrics]
    if window is None and segment == ALL:
        later = reads.POINTS.window_end > since
        return tx.select(Point, later, model=model, monitor="", segment=ALL, metric=[*metrics], order="window_end")
    length = window or config.grain_length
    try:
        return measuring.rolling(
            tx, model, config, watches, length, since, served.clock(), served.config.version, segment
        )
    except ConfigError as problem:
        raise RequestError(422, str(problem), "") from None


@router.get("/api/v1/models/{model}/series")
def series(
    model: str,
    served: Served,
    metric: Annotated[str, Query(description="A metric that the model's page shows, such as `auc`.")],
    window: Annotated[
        str, Query(description="The length of rolling windows, such as `7d`; without it each grain.")
    ] = "",
    days: Annotated[int, Query(ge=1, le=366, description="How many days back the windows end.")] = 90,
    segment: Annotated[str, Query(description="A segment of the model, such as `country=NL`.")] = "",
) -> dict[str, Any]:
    """What a shown metric was over time, with its intervals.

    With `window` each value is of the rows of so long a time: it ends at each day, or at each grain where it is no
    longer than a day, so windows overlap, and values that share rows do not vary independently. Each point says its
    version (empty for all together), and whether labels were still to come (`provisional`).
    """
    config = served.model(model)
    known = sorted({watch.metric.name for watch in monitors.shown(config)})
    if metric not in known:
        raise absent("metric that is shown", metric, known)
    length = read_window(config, window)
    with served.state.snapshot() as tx:
        if segment and segment not in (names := [n for part in tx.segmentations(model) for n in part.names]):
            raise absent("segment", segment, names)
        since = (reads.newest(tx, model) or served.clock()) - days * DAY
        found = points(tx, served, model, [metric], length, since, segment or ALL)
    told = ("version", "column", "value", "low", "high", "n", "coverage", "provisional")
    rows = [
        {
            "from": p.window.start.isoformat(),
            "until": p.window.end.isoformat(),
            **{name: getattr(p, name) for name in told},
        }
        for p in found
    ]
    return {
        "data": {
            "metric": metric,
            "segment": segment,
            "window": show_duration(length or config.grain_length),
            "overlapping": length is not None,
            "points": rows,
        }
    }
