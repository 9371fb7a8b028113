"""Which columns go with wrong predictions: right ones and wrong ones compared like any two tables."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from watchkeeper.comparison.comparing import Comparison, compare
from watchkeeper.errors import DataError


def mistakes(rows: pa.Table, features: Sequence[str], threshold: float) -> Comparison:
    """What sets wrong predictions apart from right ones, which are the reference.

    Args:
        rows: with `label`, `score` and `prediction`; those without a label or an answer are left out.
        features: the columns to compare.
        threshold: the score from which on an answer is 1, where the prediction itself is not known.

    A feature that differs goes with the mistakes; that it is the cause is not said. Raises DataError where all the
    predictions are right, or all are wrong.
    """
    by_score = pc.cast(pc.greater_equal(rows["score"], threshold), pa.int32())
    answer = pc.coalesce(pc.cast(rows["prediction"], pa.int32()), by_score)
    wrong = pc.not_equal(answer, pc.cast(rows["label"], pa.int32()))
    parts = {
        name: rows.filter(mask).select([*features]) for name, mask in (("right", pc.invert(wrong)), ("wrong", wrong))
    }
    for name, part in parts.items():
        if not part.num_rows:
            raise DataError(
                f"of {rows.num_rows:,} predictions none with a label is {name}, so there is nothing to compare; ask for"
                " more of them, or wait for labels"
            )
    return compare(parts["right"], parts["wrong"], columns=[*features])
