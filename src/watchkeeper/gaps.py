"""Gaps between groups as they were last judged, for whoever shows them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from watchkeeper.records import Point, Verdict
from watchkeeper.schema import ModelConfig
from watchkeeper.store.state import Transaction


@dataclass(frozen=True, slots=True)
class Gap:
    """What a monitor last said of the groups that it compares, and the point that it judged."""

    verdict: Verdict
    point: Point

    @property
    def measure(self) -> str:
        """The metric that differs between the groups."""
        return str(self.point.detail["measure"])

    @property
    def segments(self) -> list[dict[str, Any]]:
        """The groups with `segment`, `n`, `plain`, and `value`, `low`, `high` drawn towards the middle of all groups;
        those first that surely lie furthest from it."""
        return list(self.point.detail["segments"])

    @property
    def left_out(self) -> dict[str, str]:
        """The groups that are not compared, with the reason."""
        return dict(self.point.detail.get("left out", {}))

    @property
    def between(self) -> tuple[str, str] | None:
        """The groups with the least and the greatest value; None where fewer than two are compared."""
        detail = self.point.detail
        return (detail["lowest"], detail["highest"]) if "lowest" in detail else None

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain data."""
        v = self.verdict
        return {
            "monitor": v.monitor,
            "metric": v.metric,
            "status": str(v.status),
            "value": v.value,
            "low": v.low,
            "high": v.high,
            "n": v.n,
            "measure": self.measure,
            "lowest": self.between[0] if self.between else None,
            "highest": self.between[1] if self.between else None,
            "left_out": self.left_out,
            "segments": self.segments,
        }


def gaps(tx: Transaction, verdicts: Iterable[Verdict]) -> list[Gap]:
    """The gaps among some verdicts, in their order."""
    judged = {v.because[0]: v for v in verdicts if v.because and not v.segment}
    if not judged:
        return []
    points = {p.id: p for p in tx.select(Point, id=[*judged])}
    return [Gap(v, points[id]) for id, v in judged.items() if id in points and "segments" in points[id].detail]


def last_gaps(tx: Transaction, model: str, config: ModelConfig) -> list[Gap]:
    """What each of a model's monitors of groups said last; those of labels look at an earlier time than the others."""
    names = [monitor.name for monitor in config.monitors or () if monitor.grouping]
    looks = [tx.select(Verdict, model=model, monitor=name, order="-window_end", limit=1) for name in names]
    return gaps(tx, [verdict for found in looks for verdict in found])
