"""Searching predictions for weak segments: where more of them are wrong than elsewhere, or further off."""

from __future__ import annotations

from watchkeeper.comparison.weaknesses import WeakSegments, weak_segments
from watchkeeper.errors import ConfigError
from watchkeeper.evaluation.rows import BINARY, MULTICLASS, REGRESSION, Rows

LOSS = "(loss)"


def weakest(rows: Rows, threshold: float) -> WeakSegments | None:
    """The weak segments in crossings of the columns that are to be searched; None where there are none to search.

    The loss of a classifier's row is whether it is wrong (of a binary task at the threshold), that of a regression's
    its absolute error. Rows without a label or a prediction are left out.
    """
    if not rows.searched:
        return None
    if rows.task not in (BINARY, MULTICLASS, REGRESSION):
        raise ConfigError(
            f"weak segments are searched for in {BINARY}, {MULTICLASS} and {REGRESSION} predictions, and these are of"
            f" the task {rows.task}; leave out search"
        )
    table = rows.table
    said = table["score" if rows.task == BINARY else "prediction"]
    ready = table["label"].notnull() & said.notnull()
    if rows.task == BINARY:
        ready &= ~said.isnan()
        loss = ((said >= threshold) != (table["label"] == 1)).cast("float64")
    elif rows.task == MULTICLASS:
        loss = (said != table["label"]).cast("float64")
    else:
        ready &= ~(said.isnan() | said.isinf())
        loss = (said - table["label"]).abs()
    chosen = table.mutate(**{LOSS: loss}).filter(ready)
    columns = {name: chosen[f"w{i}"] for i, name in enumerate(rows.searched)}
    return weak_segments(chosen.select(**{LOSS: chosen[LOSS]}, **columns), LOSS)
