"""What the log's tables hold, and what the log tells of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from watchkeeper.events import RESOURCES
from watchkeeper.schema import Kind

EVENT = {
    "request_id": "VARCHAR",
    "event_time": "TIMESTAMP",
    "version": "VARCHAR",
    "variant": "VARCHAR",
    "entity_id": "VARCHAR",
    "prediction": "INTEGER",
    "score": "DOUBLE",
    "latency_ms": "DOUBLE",
    **dict.fromkeys(RESOURCES, "DOUBLE"),
    "status": "VARCHAR",
    "context": "VARCHAR",
    "recorded_at": "TIMESTAMP",
}
OUTCOME = {"request_id": "VARCHAR", "label": "INTEGER", "known_at": "TIMESTAMP", "source": "VARCHAR"}
KPI = {"request_id": "VARCHAR", "name": "VARCHAR", "value": "DOUBLE", "known_at": "TIMESTAMP"}
ASIDE = {"request_id": "VARCHAR", "name": "VARCHAR", "value": "VARCHAR"}
TYPES = {Kind.NUMERIC: "DOUBLE", Kind.DURATION: "DOUBLE", Kind.DATETIME: "TIMESTAMP"}
KINDS = {"DOUBLE": Kind.NUMERIC, "VARCHAR": Kind.CATEGORICAL, "TIMESTAMP": Kind.DATETIME}
SHAPES = {"DOUBLE": "float64", "VARCHAR": "string", "TIMESTAMP": "timestamp", "INTEGER": "int32"}


@dataclass(frozen=True, slots=True)
class Appended:
    """What became of appended rows. `set_aside` counts values, each once however often it is sent, the others rows.
    `conflicting` counts those of the duplicates that are outcomes of another label than the one of that moment."""

    stored: int
    duplicates: int
    set_aside: int
    conflicting: int = 0


@dataclass(frozen=True, slots=True)
class Deleted:
    """How many rows were deleted of predictions, of outcomes and of KPIs, and how many values that were set aside."""

    predictions: int = 0
    outcomes: int = 0
    set_aside: int = 0
    kpis: int = 0

    def __add__(self, other: Deleted) -> Deleted:
        return Deleted(
            self.predictions + other.predictions,
            self.outcomes + other.outcomes,
            self.set_aside + other.set_aside,
            self.kpis + other.kpis,
        )


@dataclass(frozen=True, slots=True)
class Batches:
    """The batches after the one of a number, up to and with that of another."""

    after: int
    until: int

    @property
    def sql(self) -> str:
        """The condition that their rows fulfil."""
        return f"arrival > {self.after} AND arrival <= {self.until}" if self.after else f"arrival <= {self.until}"


@dataclass(frozen=True, slots=True)
class News:
    """What there is to summarise.

    Attributes:
        cursor: what to give the next time, to hear what came since; equal to the last one if nothing did.
        some: whether there are any events at all.
        by_rows: the starts of the grains that received predictions.
        by_labels: those of the grains whose predictions received outcomes.
        by_kpis: those of the grains whose predictions received KPIs.
        came: the batches that brought it; None where rows have no order of arrival.
    """

    cursor: str
    some: bool
    by_rows: list[datetime]
    by_labels: list[datetime]
    came: Batches | None = None
    by_kpis: Sequence[datetime] = ()
