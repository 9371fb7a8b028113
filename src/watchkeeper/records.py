"""The rows that flow through the eight hops.

Each row is frozen, has an `id` that says its kind (`verdict-4f0c…`), and names the rows it came `because` of;
`watchkeeper why ID` follows that chain. Ids of computed rows are hashes of what identifies them, so computing
a row again replaces it instead of doubling it.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from watchkeeper.windows import Window

ALL = ""
"""The segment, version or label that stands for all of them together."""


def place(column: str, segment: str) -> str:
    """What was looked at, in words: a column, in a segment if not in all rows."""
    return f"{column} in {segment}" if segment else column


def row_id(kind: str, *parts: object) -> str:
    """`kind-` and 12 hexadecimal digits that depend on the parts alone."""
    text = json.dumps([_plain(p) for p in parts], sort_keys=True, separators=(",", ":"))
    return f"{kind}-{hashlib.blake2b(text.encode(), digest_size=6).hexdigest()}"


def _plain(value: object) -> object:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    if isinstance(value, (str, int, float, bool, list, tuple, dict)) or value is None:
        return value
    return str(value)


class Severity(StrEnum):
    """How soon a person must look: P0 at once, P1 today, P2 when convenient."""

    P0 = "P0"
    P1 = "P1"
    P2 = "P2"


class Status(StrEnum):
    """What one look at one limit found."""

    BREACH = "breach"
    HEALTHY = "healthy"
    PROVISIONAL = "provisional"
    NOT_ENOUGH_DATA = "not enough data"
    NO_DATA = "no data"


class Reason(StrEnum):
    """Why a decision was taken: a closed list, shown in the same words everywhere."""

    def __new__(cls, value: str, sentence: str) -> Reason:
        member = str.__new__(cls, value)
        member._value_ = value
        member.sentence = sentence
        return member

    sentence: str

    # verdicts
    OUTSIDE_LIMIT = "outside_limit", "the whole interval lies outside the limit"
    INSIDE_LIMIT = "inside_limit", "the value lies within the limit"
    NOT_CONFIDENT = "not_confident", "the value lies outside the limit, but its interval does not"
    TOO_FEW_ROWS = "too_few_rows", "the window holds too few rows to judge by"
    NOTHING_ARRIVED = "nothing_arrived", "the window holds no rows"
    LABELS_IMMATURE = "labels_immature", "too few of the window's predictions have their label yet"
    NOT_COMPARABLE = "not_comparable", "there is no value, or no baseline to compare it with"
    # incidents
    FIRST_BREACH = "first_breach", "a limit was breached and no incident of this cause was open"
    BREACH_SPREADS = "breach_spreads", "another column or metric of the same cause breached"
    BREACH_WORSENS = "breach_worsens", "a breach of higher severity joined the incident"
    RECOVERED = "recovered", "no limit of this cause has been breached for long enough"
    BREACHED_AGAIN = "breached_again", "the cause came back soon after the incident was resolved"
    BY_HAND = "by_hand", "a person decided"
    NEW_CHAMPION = "new_champion", "a new model with a new baseline took over"
    # actions
    INCIDENT_ASKS = "incident_asks", "an open incident of this cause asks for it"
    TOO_LITTLE_DATA = "too_little_data", "there are too few labelled rows to train on"
    BEATS_CHAMPION = "beats_champion", "the candidate is better than the champion on the hold-out"
    NO_WORSE = "no_worse", "the candidate is not worse than the champion by more than the margin"
    WORSE_ON_HOLDOUT = "worse_on_holdout", "the candidate does not hold up against the champion on the hold-out"
    RUN_FAILED = "run_failed", "the process that ran it failed"
    INTERRUPTED = "interrupted", "the process that ran it was gone before it ended"
    # rollouts
    STAGE_HELD = "stage_held", "the stage lasted long enough and no guardrail was breached"
    ARM_WORSE = "arm_worse", "the candidate's arm is worse than the champion's, with confidence"
    ARM_PROVEN = "arm_proven", "the candidate's arm is not worse than the champion's by more than the margin"
    OUT_OF_TIME = "out_of_time", "the rollout could not prove the candidate within its time"
    WAITING = "waiting", "the stage has not lasted long enough or has too few rows"


@dataclass(frozen=True, slots=True)
class Point:
    """One measured value with its interval: hop 3.

    `low` and `high` bound the true value at `confidence` on each side. `value` is None where the metric has
    no value (no rows, one class only, no baseline); the interval is then None as well.
    """

    id: str
    model: str
    version: str
    segment: str
    column: str
    metric: str
    monitor: str
    window: Window
    value: float | None
    low: float | None
    high: float | None
    confidence: float
    n: int
    n_baseline: int | None
    coverage: float | None
    detail: dict[str, Any]
    config: str
    because: tuple[str, ...]

    @property
    def provisional(self) -> bool:
        """Whether labels of its window are still to come; the value is then corrected for those."""
        return bool(self.detail.get("provisional"))


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a monitor says of a point: hop 4."""

    id: str
    model: str
    monitor: str
    cause: str
    column: str
    segment: str
    metric: str
    severity: Severity
    window: Window
    status: Status
    reason: Reason
    value: float | None
    low: float | None
    high: float | None
    limit: float
    direction: str
    n: int
    config: str
    because: tuple[str, ...]


class IncidentState(StrEnum):
    OPEN = "open"
    ACKNOWLEDGED = "acknowledged"
    RESOLVED = "resolved"


@dataclass(frozen=True, slots=True)
class Incident:
    """One cause of trouble with one model, from its first breach to its end: hop 5.

    `signals` holds, per monitor, column and segment, since when it breaches, what the last breach found, and when it
    was first healthy again; `evidence` what was gathered to explain it. `revision` grows by one with every change
    and is what compare-and-set compares.
    """

    id: str
    model: str
    cause: str
    severity: Severity
    state: IncidentState
    title: str
    since: datetime
    opened_at: datetime
    last_breach: datetime
    resolved_at: datetime | None
    owner: str
    signals: dict[str, dict[str, Any]]
    evidence: dict[str, Any]
    config: str
    revision: int
    because: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Transition:
    """A step in an incident's or a rollout's life; the entries of its timeline."""

    id: str
    model: str
    subject: str
    at: datetime
    before: str
    after: str
    severity: Severity
    reason: Reason
    actor: str
    note: str
    because: tuple[str, ...]


class DeliveryState(StrEnum):
    PENDING = "pending"
    SENDING = "sending"
    SENT = "sent"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Delivery:
    """One transition on its way to one channel: hop 6. Written before it is sent."""

    id: str
    transition: str
    channel: str
    state: DeliveryState
    attempts: int
    next_attempt: datetime
    sent_at: datetime | None
    error: str
    revision: int
    because: tuple[str, ...]


class ActionState(StrEnum):
    PLANNED = "planned"
    RUNNING = "running"
    DONE = "done"
    REFUSED = "refused"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Action:
    """Something done about an incident: hop 7. Written before it is done."""

    id: str
    model: str
    kind: str
    state: ActionState
    reason: Reason
    planned_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    detail: dict[str, Any]
    config: str
    revision: int
    because: tuple[str, ...]


class RolloutState(StrEnum):
    RUNNING = "running"
    PROMOTED = "promoted"
    ROLLED_BACK = "rolled back"


@dataclass(frozen=True, slots=True)
class Rollout:
    """A candidate on its way from its first share of the traffic to all of it: hop 8.

    `looks` is what each comparison of the two arms found, oldest first.
    """

    id: str
    model: str
    candidate: str
    champion: str
    state: RolloutState
    stage: int
    share: float
    reason: Reason
    started_at: datetime
    stage_at: datetime
    ended_at: datetime | None
    looks: tuple[dict[str, Any], ...]
    config: str
    revision: int
    because: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key that requests are made with; `hash` is the SHA-256 of it in hex, the key itself is kept nowhere."""

    id: str
    name: str
    role: str
    hash: str
    created_at: datetime
    revoked_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One line of the tamper-evident record; `hash` covers all of it and the entry before."""

    seq: int
    at: datetime
    actor: str
    kind: str
    subject: str
    payload: dict[str, Any]
    previous: str
    hash: str = field(default="")

    def sealed(self) -> AuditEntry:
        """The same entry with its hash: SHA-256 of its fields and the previous hash, as canonical JSON."""
        body = [self.seq, _plain(self.at), self.actor, self.kind, self.subject, self.payload, self.previous]
        text = json.dumps(body, sort_keys=True, separators=(",", ":"), default=_plain)
        return replace(self, hash=hashlib.sha256(text.encode()).hexdigest())
