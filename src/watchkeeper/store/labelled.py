"""What a row says once its label is known: how far a regression was off."""

from __future__ import annotations

from collections.abc import Container

import ibis
import ibis.expr.types as ir

from watchkeeper.schema import ERRORS


def with_errors(table: ir.Table, wanted: Container[str]) -> ir.Table:
    """The table with those columns of `ERRORS` that are wanted, where it has predictions and labels.

    Null where either is missing; the percentage error also where the label is 0, and the symmetric one is 0 where both
    are.
    """
    if not {"prediction", "label"} <= {*table.columns}:
        return table
    said, was = (table[name].cast("float64") for name in ("prediction", "label"))
    off, sizes = said - was, said.abs() + was.abs()
    symmetric = ibis.ifelse(sizes == 0.0, sizes, off.abs() * 2.0 / sizes.nullif(0.0))
    every = dict(zip(ERRORS, (off, off.abs() / was.abs().nullif(0.0), symmetric), strict=True))
    return table.mutate(**{name: column for name, column in every.items() if name in wanted})
