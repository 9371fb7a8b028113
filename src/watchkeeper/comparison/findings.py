"""What a comparison of two tables found: each look in words, the whole ranked, and as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from watchkeeper import policy, words
from watchkeeper.comparison.baselines import ROWS
from watchkeeper.metrics import METRICS
from watchkeeper.profiles import Subject
from watchkeeper.records import Reason, Status
from watchkeeper.schema import Kind
from watchkeeper.store.files import write

MISSING = "missing_column"
"""The metric of a column that the current data lacks."""
DUPLICATES, DUPLICATE_IDS = "duplicate_rate", "duplicate_ids"
"""The metrics of rows, and of ids, that come several times; they need the rows themselves."""


@dataclass(frozen=True, slots=True)
class Look:
    """One metric of one column, held to one limit.

    Attributes:
        column: its name, that of a text's descriptor such as `note.length`, or `ROWS` for whole rows.
        segment: the part of the rows, such as `country=NL`; "" for all.
        metric: the name of one in `METRICS`, or `MISSING`, `DUPLICATES` or `DUPLICATE_IDS`.
        monitor: the name of the one that asked for the look.
        value, low, high: the metric, or its change from the reference where the limit is `relative`, and the interval
            of its true value; None where it has none. In the metric's unit, shares from 0 to 1.
        limit: None for a column that is missing, which nothing limits.
        direction, relative: as in a monitor.
        n_current, n_baseline: the rows behind the value on both sides.
        status, reason: what was found, and why, as a sentence.
        detail: what the metric says beside its value, such as the new categories.
        kind: of the column.
        since: when a breach began, where the current rows have a time.
    """

    column: str
    segment: str
    metric: str
    monitor: str
    value: float | None
    low: float | None
    high: float | None
    limit: float | None
    direction: str
    relative: str | None
    n_current: int
    n_baseline: int
    status: Status
    reason: str
    detail: Mapping[str, Any]
    kind: str = Kind.NUMERIC
    since: datetime | None = None

    @property
    def place(self) -> str:
        """The column, and the segment where it is not all rows."""
        return f"{self.column} [{self.segment}]" if self.segment else self.column

    @property
    def breach(self) -> bool:
        return self.status is Status.BREACH

    @property
    def severity(self) -> str:
        """How grave a breach is, "minor" or "major", by the end of the interval that is nearer to the limit; "" of
        what is no breach."""
        return policy.severity(self.metric, self.low, self.direction) if self.breach else ""

    @property
    def sentence(self) -> str:
        """What was found, in words: `the values moved by 0.61 standard deviations on average (0.57 to 0.65; allowed
        up to 0.1)`."""
        if self.metric == MISSING:
            return self.reason
        began = f", since {words.time(self.since)}" if self.since else ""
        return f"{self.said} ({self.figures}){began}"

    @property
    def said(self) -> str:
        """The sentence without interval, limit and time."""
        return self.reason if self.metric == MISSING or self.value is None else _said(self)

    @property
    def unsure(self) -> bool:
        """Whether the value lies outside the limit without being certain to, and by more than its noise: what equal
        data of so few rows show."""
        known = self.reason == Reason.NOT_CONFIDENT.sentence and self.value is not None and self.limit is not None
        return known and (self.direction == "below" or self.value - self.detail.get("noise", 0.0) > self.limit)

    @property
    def excess(self) -> float:
        """How many times its limit the metric reaches; in a breach, the end of its interval that is nearer to it.

        Looks of different metrics can be ranked by it. Infinite for a missing column, 0 where nothing was measured.
        """
        if self.metric == MISSING:
            return math.inf
        near = self.value
        if self.breach:
            near = self.low if self.direction == "above" else self.high
        if near is None or self.limit is None or not math.isfinite(near):
            return 0.0
        if self.direction == "below" and self.limit > 0:
            return self.limit / max(near, 1e-9)
        return near / self.limit if self.limit else abs(near)

    @property
    def allowed(self) -> str:
        """The limit as it was written, in the metric's unit: `up to 0.1`, `from −5 % on`."""
        value = _allowed(self)
        return f"up to {value}" if self.direction == "above" else f"from {value} on"

    @property
    def figures(self) -> str:
        limit = self.allowed
        if self.low is None or self.high is None:
            return f"allowed {limit}"
        interval = words.interval(self.low, self.high, self.metric, self.column, self.relative)
        return f"{self.relative or ''} {interval}; allowed {limit}".lstrip()

    def to_dict(self) -> dict[str, Any]:
        """As JSON can carry it."""
        return {
            "column": self.column,
            "segment": self.segment,
            "metric": self.metric,
            "value": _finite(self.value),
            "low": _finite(self.low),
            "high": _finite(self.high),
            "limit": _finite(self.limit),
            "n_current": self.n_current,
            "n_baseline": self.n_baseline,
            "breach": self.breach,
            "severity": self.severity,
            "sentence": words.plain(self.sentence),
            "reason": self.reason,
            "since": self.since.isoformat() if self.since else None,
        }


@dataclass(frozen=True, repr=False)
class Findings:
    """What a comparison of two tables found.

    Attributes:
        points: every look that was taken, breaches first, then by column as the reference has them.
        skipped: columns (and monitors of a configuration) that were left out, with the reason.
        extra_columns: columns that only the current data has. They are no breach.
        rows, reference_rows: how many rows each side has.
        false_alarms: the probability that any of the looks breaches though nothing changed, at most.
        config: the name (a hash) of the configuration that was used; equal for equal columns and monitors.
        subjects: the counts behind each compared column.
        kinds: what each compared column holds.
        importance: the weight of each column that was given one.
        timestamp: the column by which the current rows are cut into periods, "" for none.
    """

    points: tuple[Look, ...]
    skipped: Mapping[str, str]
    extra_columns: tuple[str, ...]
    rows: int
    reference_rows: int
    false_alarms: float
    config: str
    subjects: Mapping[str, Subject]
    kinds: Mapping[str, str] = field(default_factory=dict)
    importance: Mapping[str, float] = field(default_factory=dict)
    timestamp: str = ""

    @property
    def breaches(self) -> tuple[Look, ...]:
        return tuple(look for look in self.points if look.breach)

    @property
    def healthy(self) -> bool:
        """True if no limit is breached. That is no proof that nothing changed: few rows prove little."""
        return not self.breaches

    @cached_property
    def by_column(self) -> Mapping[str, Sequence[Look]]:
        """The looks at each column, and at whole rows under `ROWS`, in the order of `points`."""
        found: dict[str, list[Look]] = {}
        for look in self.points:
            found.setdefault(look.column, []).append(look)
        return found

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """Every column that was looked at: the important ones first, among equals those that breach a limit, and
        among these the one that lies farthest beyond."""

        def rank(column: str) -> tuple[float, bool, float]:
            looks = self.by_column[column]
            broken = [look for look in looks if look.breach]
            return -self.importance.get(column, 0.0), not broken, -max(look.excess for look in broken or looks)

        # whole rows are no column, but where they break
        looked = [c for c, looks in self.by_column.items() if c != ROWS or any(look.breach for look in looks)]
        return tuple(sorted(looked, key=rank))

    @property
    def drifted(self) -> tuple[str, ...]:
        """The columns whose distribution breaches a limit, in the order of `columns`; missing values are no drift."""
        moved = {
            look.column for look in self.breaches if look.metric in METRICS and METRICS[look.metric].needs_baseline
        }
        return tuple(column for column in self.columns if column in moved)

    @property
    def drifted_share(self) -> float:
        """The share of the compared columns whose distribution breaches a limit."""
        return len(self.drifted) / len(self.subjects) if self.subjects else 0.0

    @property
    def weighted_drifted_share(self) -> float | None:
        """The same with each column counted by its importance; None where no column has any.

        A column without a given importance weighs nothing.
        """
        total = math.fsum(self.importance.get(column, 0.0) for column in self.subjects)
        return math.fsum(self.importance.get(column, 0.0) for column in self.drifted) / total if total else None

    @property
    def summary(self) -> str:
        """The whole in one or two sentences."""
        looked = {look.column for look in self.points} - {ROWS}
        broken = {look.column for look in self.breaches}
        changed = [column for column in self.columns if column in broken - {ROWS}]
        repeated = " Rows come several times." if ROWS in broken else ""
        if changed:
            names = ", ".join(words.shortened(name, 48) for name in changed[:5]) + (
                f" and {len(changed) - 5} more" if len(changed) > 5 else ""
            )
            verb = "breaches" if len(changed) == 1 else "breach"
            return f"{len(changed)} of {words.count(len(looked), 'column')} {verb} a limit: {names}.{repeated}"
        if repeated:
            return f"No column breaches a limit.{repeated}"
        judged = sum(look.status is Status.HEALTHY for look in self.points)
        text = f"No limit is breached: {words.count(judged, 'look')} at {words.count(len(looked), 'column')}."
        unsure = sum(look.unsure for look in self.points)
        if unsure:
            text += f" {words.count(unsure, 'value')} outside the limit, but not with confidence: more rows would tell."
        if judged < len(self.points):
            text += f" {words.count(len(self.points) - judged, 'look')} could not be judged."
        return text

    def to_dict(self) -> dict[str, Any]:
        """Everything but the counts, as plain values that JSON can carry."""
        return {
            "healthy": self.healthy,
            "summary": self.summary,
            "breaches": [look.to_dict() for look in self.breaches],
            "points": [look.to_dict() for look in self.points],
            "config": self.config,
            "skipped": dict(self.skipped),
            "extra_columns": list(self.extra_columns),
            "rows": {"reference": self.reference_rows, "current": self.rows},
            "false_alarms": self.false_alarms,
            "drifted_share": self.drifted_share,
            "weighted_drifted_share": self.weighted_drifted_share,
            "importance": dict(self.importance),
        }

    def to_json(self) -> str:
        return json.dumps(self.to_dict(), indent=2, ensure_ascii=False, allow_nan=False)

    def save_json(self, path: str | Path) -> None:
        """Write `to_dict` as JSON. Raises DataError where that cannot be written."""
        write(path, self.to_json() + "\n")

    def __repr__(self) -> str:
        lines = [self.summary, *(f"  {look.place}: {look.sentence}" for look in self.breaches[:10])]
        if len(self.breaches) > 10:
            lines.append(f"  and {len(self.breaches) - 10} more in .breaches")
        return "\n".join(lines)


def _said(look: Look) -> str:
    value, detail = look.value or 0.0, look.detail
    match look.metric:
        case "null_rate" if look.relative == "difference":
            return (
                f"{words.share(detail['current'])} of the rows have no value,"
                f" {words.share(detail['baseline'])} in the reference"
            )
        case "null_rate" if not look.relative:
            return f"{words.share(value)} of the rows have no value"
        case "invalid_rate" if look.relative == "difference":
            return f"{words.share(detail['current'])} of the rows hold something that is no {_HOLDS[look.kind]}"
        case "infinite_rate" if look.relative == "difference":
            return f"{words.share(detail['current'])} of the rows are infinite"
        case "duplicate_rate" | "duplicate_ids" if "current" in detail:
            what = "are copies of an earlier one" if look.metric == DUPLICATES else "repeat an earlier id"
            normal = words.share(detail["baseline"])
            return f"{words.share(detail['current'])} of the rows {what}, {normal} would be normal"
        case "duplicate_ids":
            return f"{words.share(value)} of the rows repeat a value that must be unique"
        case _ if look.relative:
            pass
        case "unit_change" if detail.get("formula"):
            return (
                f"it looks like the reference {detail['formula']}, which explains a Kolmogorov-Smirnov distance of"
                f" {words.number(value)}"
            )
        case "encoding_change" if detail.get("meant"):
            pairs = ", ".join(f"“{now}” for “{then}”" for now, then in [*detail["meant"].items()][:3])
            return f"{words.share(value)} of the values are known ones written in another way: {pairs}"
        case "constant" if "most_frequent" in detail:
            held = _written(detail["most_frequent"], look.kind)
            return f"the column is stuck: {words.share(detail['share'])} of its values are “{held}”"
        case "vanished_category":
            gone = ", ".join(f"“{name}”" for name in [*detail.get("values", {})][:3])
            return f"values that made up {words.share(value)} of the reference are gone: {gone}"
        case "psi":
            size = "a large shift" if look.severity == "major" else "a shift"
            return f"{size} of the distribution, population stability index {words.number(value)}"
        case "ks":
            return (
                f"Kolmogorov-Smirnov distance {words.number(value)}, the most that the distribution functions are apart"
            )
        case "jensen_shannon":
            return f"Jensen-Shannon distance {words.number(value)} between the distributions"
        case "wasserstein":
            return f"the values moved by {words.number(value)} standard deviations on average"
        case "sentinel_rate":
            held = ", ".join(_written(value, look.kind) for value in detail.get("values", ()))
            return f"{words.share(value)} of the rows hold {held}, which often means “unknown”"
        case "new_category":
            new = ", ".join(f"“{name}” ({count:,})" for name, count in [*detail.get("values", {}).items()][:3])
            return f"{words.share(value)} of the values are not in the reference: {new}"
        case "out_of_range":
            reach = [words.value(detail.get(k), look.kind) for k in ("reference_low", "reference_high", "low", "high")]
            agreed = detail.get("range", "reference range")
            return (
                f"{words.share(value)} of the values lie outside the {agreed} {reach[0]} to {reach[1]};"
                f" they reach from {reach[2]} to {reach[3]}"
            )
    title = words.metric_title(look.metric, look.relative)
    return f"{title} is {words.measured(look.value, look.metric, look.column, look.relative)}"


_HOLDS: dict[str, str] = {
    Kind.NUMERIC: "number", Kind.DATETIME: "date or time", Kind.DURATION: "length of time",
    Kind.CATEGORICAL: "category", Kind.TEXT: "text",
}  # fmt: skip
"""What a column of each kind holds."""


def _written(value: str, kind: str) -> str:
    """A value that a metric found, as its column writes it; of moments and lengths of time the metric has seconds."""
    if kind not in (Kind.DATETIME, Kind.DURATION):
        return value
    return words.value(float(value), kind)


def _allowed(look: Look) -> str:
    """The limit as it was written, in the metric's unit."""
    if look.limit is None:
        return words.NONE
    unit = words.unit_of(look.metric)
    if look.relative is None and unit != "share":
        return f"{look.limit:.4g}"
    if look.relative != "ratio" and unit == "share" and round(look.limit, 4) == look.limit:
        sign = "+" if look.relative and look.limit > 0 else ""
        return sign + words.set_share(look.limit).replace("-", words.MINUS)
    return words.measured(look.limit, look.metric, look.column, look.relative)


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
