"""A comparison as one line a column: the look that lies farthest beyond its limit stands for the column."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from watchkeeper import words
from watchkeeper.comparison.findings import MISSING, Findings, Look
from watchkeeper.policy import EXPLAINING
from watchkeeper.records import Status
from watchkeeper.summaries import missing_share

Tone = Literal["bad", "warn", "good", "quiet"]
MARKS: dict[Tone, str] = {"bad": "✗", "warn": "?", "good": "✓", "quiet": "–"}
WORDS: dict[Tone, str] = {"bad": "breach", "warn": "unsure", "good": "within limits", "quiet": "not judged"}


@dataclass(frozen=True, slots=True)
class Line:
    """One column: its verdict, the look that stands for it, and what else one asks first.

    Attributes:
        others: how many more of its looks breach.
        missing_before, missing_now: shares of missing values, as text.
    """

    column: str
    tone: Tone
    look: Look
    others: int
    missing_before: str
    missing_now: str

    @property
    def metric(self) -> str:
        if self.look.metric == MISSING:
            return "column is missing"
        title = words.metric_title(self.look.metric, self.look.relative)
        return f"{title}, {self.look.segment}" if self.look.segment else title

    @property
    def value(self) -> str:
        return words.measured(self.look.value, self.look.metric, self.look.column, self.look.relative)

    @property
    def interval(self) -> str:
        return words.interval(self.look.low, self.look.high, self.look.metric, self.look.column, self.look.relative)

    @property
    def limit(self) -> str:
        return words.NONE if self.look.limit is None else self.look.allowed

    @property
    def since(self) -> str:
        return words.time(self.look.since) if self.look.since else ""


def tone_of(look: Look) -> Tone:
    if look.breach:
        return "bad"
    if look.unsure:
        return "warn"
    return "good" if look.status is Status.HEALTHY else "quiet"


def rank(look: Look) -> tuple[int, bool, float]:
    """Sorts the looks at a column: breaches first, of these the ones that explain the others, then by `excess`."""
    worst_first: tuple[Tone, ...] = ("bad", "warn", "good", "quiet")
    return worst_first.index(tone_of(look)), look.breach and look.metric not in EXPLAINING, -look.excess


def lines(findings: Findings) -> list[Line]:
    """A line for each column, in the order of `Findings.columns`."""
    return [_line(findings, column, findings.by_column[column]) for column in findings.columns]


def _line(findings: Findings, column: str, looks: Sequence[Look]) -> Line:
    worst = min(looks, key=rank)
    subject = findings.subjects.get(column)
    before = missing_share(subject.baseline) if subject and subject.baseline else None
    now = missing_share(subject.current) if subject and subject.current else None
    return Line(
        column=column,
        tone=tone_of(worst),
        look=worst,
        others=max(sum(look.breach for look in looks) - 1, 0),
        missing_before=words.share(before),
        missing_now=words.share(now),
    )
