"""Weak segments of a table: where a model's loss is higher than elsewhere, found and confirmed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from watchkeeper.comparison.tables import Side, infer
from watchkeeper.errors import DataError, did_you_mean
from watchkeeper.schema import Kind
from watchkeeper.stats import weak_segments as search
from watchkeeper.stats.estimates import Estimate
from watchkeeper.store.sources import connect, read


@dataclass(frozen=True, slots=True)
class WeakSegments:
    """What was found in a table: the segments that cost most first, and what was looked at.

    Attributes:
        segments: each with what its rows have in common in words.
        columns: those that segments were made of.
        skipped: those that were not, with the reason.
        loss: the mean loss of all rows.
        margin: by how much more a segment's loss had to be above the rest's.
        least: rows of the smallest segment that was looked for.
    """

    segments: tuple[Weak, ...]
    columns: tuple[str, ...]
    skipped: dict[str, str]
    n: int
    loss: float
    margin: float
    least: int

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain data."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Weak:
    """A weak segment: see `watchkeeper.stats.weak_segments.WeakSegment`."""

    segment: str
    n: int
    loss: Estimate
    rest: Estimate
    worse: Estimate
    lost: float
    sure: float


def weak_segments(
    table: Any,
    loss: str,
    columns: Sequence[str] | None = None,
    alpha: float = 0.05,
    margin: float | None = None,
    least: int | None = None,
) -> WeakSegments:
    """Where a model is worse: values of one to three columns whose rows have a higher mean loss than all others.

    Args:
        table: a data frame, an Arrow table or a path.
        loss: the column that holds each row's loss, such as the squared error, or whether the prediction was wrong.
        columns: those to make segments of; all others, if not given. Ids, texts and times are left out.
        alpha: the probability of reporting any segment that is no worse than the rest by the margin.
        margin: in units of the loss; a tenth of the mean loss, if not given.
        least: rows of a segment; one in 200 and 100 at least, if not given.

    Raises DataError where a column is not there, or the loss is missing or no number in some row.
    """
    side = Side("the table", read(connect(), table, "the table"))
    here = side.table.columns
    if loss not in here:
        raise DataError(f'the table has no column "{loss}" that holds the loss; {did_you_mean(loss, here, "it has")}')
    asked = [name for name in here if name != loss] if columns is None else [*columns]
    kinds, skipped, _ = infer(side, side.sample(), asked)
    unfit = {
        name: f"{config.kind} columns make no segments"
        for name, config in kinds.items()
        if config.kind not in (Kind.NUMERIC, Kind.CATEGORICAL)
    }
    used = [name for name in asked if name in kinds and name not in unfit]
    rows = side.table.select(loss, *used).to_pyarrow()
    losses = _losses(rows.column(loss), loss)
    mean = float(losses.mean()) if len(losses) else 0.0
    least = search.smallest(len(losses)) if least is None else least
    margin = mean / 10 if margin is None else margin
    cuts = [_cut(name, rows.column(name), kinds[name].kind, least) for name in used]
    found = search.weak_segments(cuts, losses, alpha, margin, least)
    weak = tuple(Weak(one.text(cuts), one.n, one.loss, one.rest, one.worse, one.lost, one.sure) for one in found)
    return WeakSegments(weak, tuple(used), {**skipped, **unfit}, len(losses), mean, margin, least)


def _losses(column: pa.ChunkedArray, name: str) -> Any:
    if not (pa.types.is_boolean(column.type) or pa.types.is_integer(column.type) or pa.types.is_floating(column.type)):
        raise DataError(
            f'the column "{name}" must hold the loss of each row, a number or true or false; found {column.type}'
        )
    values = pc.cast(column, pa.float64()).to_numpy()
    if not np.isfinite(values).all():
        raise DataError(
            f'the column "{name}" must hold the loss of each row; {int((~np.isfinite(values)).sum()):,} rows have none:'
            " leave out rows without a label"
        )
    return values


def _cut(name: str, column: pa.ChunkedArray, kind: Kind, least: int) -> search.Cut:
    if kind is Kind.CATEGORICAL:
        encoded = pc.cast(column, pa.string()).combine_chunks().dictionary_encode()
        codes = pc.fill_null(encoded.indices, -1).to_numpy(zero_copy_only=False)
        return search.cut_words(name, codes, encoded.dictionary.to_pylist(), least)
    return search.cut_numbers(name, pc.cast(column, pa.float64()).to_numpy(zero_copy_only=False))
