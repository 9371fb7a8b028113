"""Columns that tell how predictions and labels come, and how the log works them out. Summarised for all rows alone."""

from __future__ import annotations

from datetime import timedelta

from watchkeeper.stats.lags import BANDS, LAGS, MIDDLE, NEAREST

LABEL_DELAY, ARRIVAL_LAG, LABEL_LAG = "label_delay", "arrival_lag", "label_lag"
"""Seconds from a prediction until its label was known, and until it was in the log; and the band of its score with the
grains until its label was known, see `lags.GRID`."""
COLUMNS = (LABEL_DELAY, ARRIVAL_LAG, LABEL_LAG)


def sql(column: str, grain: timedelta) -> str:
    """The expression of a column, over a row of predictions called `chosen` and its label, `known`."""
    predicted, known = "extract(epoch FROM chosen.event_time)", "extract(epoch FROM known.known_at)"
    if column == LABEL_DELAY:
        return f"CAST({known} - {predicted} AS FLOAT8)"
    if column == ARRIVAL_LAG:
        return f"CAST(extract(epoch FROM chosen.recorded_at) - {predicted} AS FLOAT8)"
    length = grain // timedelta(seconds=1)
    score = f"least(greatest(chosen.score, {NEAREST}), {1 - NEAREST})"
    band = f"floor(ln({score} / (1 - {score})) / ln(2)) + {MIDDLE}"
    lag = f"floor({known} / {length}) - floor({predicted} / {length})"
    both = f"{_between(band, BANDS)} * {LAGS} + {_between(lag, LAGS)} + 0.5"
    return f"CASE WHEN {known} IS NOT NULL AND chosen.score IS NOT NULL THEN CAST({both} AS FLOAT8) END"


def _between(number: str, end: int) -> str:
    return f"least(greatest({number}, 0), {end - 1})"
