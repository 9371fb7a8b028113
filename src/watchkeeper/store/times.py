"""Columns that tell how predictions and labels come, and how the log works them out. Summarised for all rows alone."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta

from watchkeeper.schema import ERRORS
from watchkeeper.stats.lags import BANDS, LAGS, MIDDLE, NEAREST
from watchkeeper.store.sources import Plan

SCORE_BAND = f"floor(ln({{0}} / (1 - {{0}})) / ln(2)) + {MIDDLE}".format(
    f"least(greatest(chosen.score, {NEAREST}), {1 - NEAREST})"
)
RIGHT_BAND = "CASE WHEN chosen.prediction = known.label THEN 1 ELSE 0 END"

LABEL_DELAY, ARRIVAL_LAG, LABEL_LAG = "label_delay", "arrival_lag", "label_lag"
"""Seconds from a prediction until its label was known, and until it was in the log; and its band (see `lags`) with the
grains until its label was known, see `lags.GRID`."""
COLUMNS = (LABEL_DELAY, ARRIVAL_LAG, LABEL_LAG)


ANSWER = {"INTEGER": "score", "VARCHAR": "prediction", "DOUBLE": "prediction"}
"""The column that the band is told from with the label, by how the log types labels."""


def sql(column: str, grain: timedelta, label: str = "INTEGER", scale: float = 1.0) -> str:
    """The expression of a column, over a row of predictions called `chosen` and its label, `known`.

    Args:
        label: how the log types labels.
        scale: what the sizes of errors are told in, of a regression.
    """
    predicted, known = "extract(epoch FROM chosen.event_time)", "extract(epoch FROM known.known_at)"
    if column == LABEL_DELAY:
        return f"CAST({known} - {predicted} AS FLOAT8)"
    if column == ARRIVAL_LAG:
        return f"CAST(extract(epoch FROM chosen.recorded_at) - {predicted} AS FLOAT8)"
    length = grain // timedelta(seconds=1)
    band = {"INTEGER": SCORE_BAND, "VARCHAR": RIGHT_BAND, "DOUBLE": _of_error(scale)}[label]
    lag = f"floor({known} / {length}) - floor({predicted} / {length})"
    both = f"{_between(band, BANDS)} * {LAGS} + {_between(lag, LAGS)} + 0.5"
    return f"CASE WHEN {known} IS NOT NULL AND chosen.{ANSWER[label]} IS NOT NULL THEN CAST({both} AS FLOAT8) END"


def scale(plans: Iterable[Plan]) -> float:
    """What the sizes of errors are told in: how far the errors of the first rows spread."""
    return next((plan.grid.scale for plan in plans if plan.name == ERRORS[0] and plan.grid), 1.0)


def _of_error(scale: float) -> str:
    """The band of an error, as `lags.bands_of_errors` has it."""
    off = "(chosen.prediction - known.label)"
    size = f"greatest(abs({off}) / CAST('{scale!r}' AS FLOAT8), {2.0**-MIDDLE!r})"
    steps = _between(f"floor(ln({size}) / ln(2)) + {MIDDLE - 2}", MIDDLE)
    return f"CASE WHEN {off} < 0 THEN {MIDDLE - 1} - {steps} ELSE {MIDDLE} + {steps} END"


def _between(number: str, end: int) -> str:
    return f"least(greatest({number}, 0), {end - 1})"
