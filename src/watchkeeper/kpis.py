"""KPIs: what is watched of the business values that belong to a prediction and come after it.

A KPI has its value for each prediction in a column of its own name. Two more follow from it: how long after the
prediction it was known, and what it comes to for each user.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta

from watchkeeper.schema import ModelConfig

DELAY, PER_USER = " delay", " per user"
"""What the names of the columns end with that hold a KPI's delay in seconds, and its sum over the predictions of a user
in a grain."""
ENDS = ("", DELAY, PER_USER)


def columns(model: ModelConfig) -> tuple[str, ...]:
    """The columns that a model has because of its KPIs."""
    return tuple(f"{name}{end}" for name in model.kpis for end in ENDS)


def kpi_of(column: str, names: Iterable[str]) -> str:
    """The KPI that a column is of; "" if it is of none."""
    return next((name for name in names if column in {f"{name}{end}" for end in ENDS}), "")


def wait(column: str, model: ModelConfig) -> timedelta:
    """How long after a prediction the column is known."""
    name = kpi_of(column, model.kpis)
    return model.kpis[name].delay if name else timedelta(0)


def unit(column: str, model: ModelConfig) -> str:
    """The unit of the column's values."""
    if column.endswith(DELAY):
        return "s"
    return model.kpis[name].unit if (name := kpi_of(column, model.kpis)) else ""
