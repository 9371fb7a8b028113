"""Columns that follow from others of a row: how far a regression was off, and how sure of a class it was predicted."""

from __future__ import annotations

from collections.abc import Collection

import ibis
import ibis.expr.types as ir

from watchkeeper.events import SAID, score_of
from watchkeeper.schema import ERRORS
from watchkeeper.store.sources import category


def made_of(names: Collection[str]) -> set[str]:
    """The stored columns that those of these are made of that follow from others, labels apart."""
    said = [name[len(SAID) :] for name in names if name.startswith(SAID)]
    return {*map(score_of, said), *(["prediction"] if said or {*ERRORS} & {*names} else [])}


def with_derived(table: ir.Table, wanted: Collection[str]) -> ir.Table:
    """The table with those wanted columns that follow from what it has.

    Those of `ERRORS` are null where prediction or label is missing; the percentage error also where the label is 0, and
    the symmetric one is 0 where both are. `said:CLASS` is the probability of a class in the rows that were predicted as
    it, and null in all others.
    """
    return _with_errors(_with_said(table, wanted), wanted)


def _with_said(table: ir.Table, wanted: Collection[str]) -> ir.Table:
    known = {name: name[len(SAID) :] for name in wanted if name.startswith(SAID)}
    here = {name: of for name, of in known.items() if {score_of(of), "prediction"} <= {*table.columns}}
    if not here:
        return table
    predicted = category(table["prediction"])
    said = {name: (predicted == of).ifelse(table[score_of(of)].cast("float64"), None) for name, of in here.items()}
    return table.mutate(**said)


def _with_errors(table: ir.Table, wanted: Collection[str]) -> ir.Table:
    if not {*ERRORS} & {*wanted} or not {"prediction", "label"} <= {*table.columns}:
        return table
    said, was = (table[name].cast("float64") for name in ("prediction", "label"))
    off, sizes = said - was, said.abs() + was.abs()
    symmetric = ibis.ifelse(sizes == 0.0, sizes, off.abs() * 2.0 / sizes.nullif(0.0))
    every = dict(zip(ERRORS, (off, off.abs() / was.abs().nullif(0.0), symmetric), strict=True))
    return table.mutate(**{name: column for name, column in every.items() if name in wanted})
