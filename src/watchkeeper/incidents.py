"""Incidents: verdicts of one cause gathered into one story with a beginning and an end. Hop 5.

All functions are pure: they take rows and the time and return the changed rows with their transitions.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from watchkeeper.errors import ConflictError
from watchkeeper.records import (
    ALL,
    Incident,
    IncidentState,
    Reason,
    Severity,
    Status,
    Transition,
    Verdict,
    place,
    row_id,
)

ENGINE = "watchkeeper"
"""The actor of everything that no person did."""

NEW = "new"
"""The state before the first."""

CLOSED_BY = "closed_by"
"""In the evidence of an incident that a new champion ended: the id of its rollout."""

NAMED = 10
"""How many of the signals that join an incident at once its timeline names; segments may bring hundreds."""

BY_COLUMN = frozenset(
    {"missing values", "sentinel values", "new values", "changed format", "wrong type", "constant value", "drift"}
)
"""Causes whose incidents are told by the columns they are in; the others by the monitors that found them."""


def gather(
    verdicts: Iterable[Verdict],
    incidents: Iterable[Incident],
    now: datetime,
    grain: timedelta,
    resolve_after: timedelta,
    began: Mapping[str, datetime] | None = None,
) -> list[tuple[Incident, list[Transition]]]:
    """Bring a model's incidents up to date with its newest verdicts.

    Args:
        verdicts: of one model and one window end.
        incidents: the model's, oldest first; the last one of each cause counts.
        now: when this is decided.
        grain: a breach is taken to begin with the last grain of the first window that breached.
        began: when what a verdict shows began, by verdict id, where that is known better.
        resolve_after: how long no limit may be breached before an incident is resolved, which asks for healthy
            verdicts on all its signals: missing data resolves nothing. A cause that is back within twice this time
            of its last breach reopens the incident.

    Late data may bring verdicts on earlier windows again. They correct what is known of an open incident, but do not
    reopen one that was resolved after them.

    Returns the incidents that are new or changed, each with its transitions (none if only numbers changed).
    """
    by_cause: dict[str, list[Verdict]] = {}
    for verdict in verdicts:
        by_cause.setdefault(verdict.cause, []).append(verdict)
    present = {incident.cause: incident for incident in incidents}
    changed = []
    for cause, group in by_cause.items():
        found = _one_cause(group, present.get(cause), now, grain, resolve_after, began or {})
        if found is not None:
            changed.append(found)
    return changed


def _one_cause(
    verdicts: list[Verdict],
    before: Incident | None,
    now: datetime,
    grain: timedelta,
    resolve_after: timedelta,
    began: Mapping[str, datetime],
) -> tuple[Incident, list[Transition]] | None:
    breaches = [v for v in verdicts if v.status is Status.BREACH]
    if before is not None and before.state is IncidentState.RESOLVED:
        breaches = [v for v in breaches if v.window.end > _settled(before)]
        if breaches and not _comes_back(before, breaches, resolve_after):
            before = None
    if before is None:
        return _open(breaches, now, grain, began) if breaches else None
    if before.state is IncidentState.RESOLVED and not breaches:
        return None
    signals = _updated(before.signals, verdicts, grain, began)
    over = _is_over(before, signals, verdicts, resolve_after)
    if signals == before.signals and not over:
        return None
    active = [s for s in signals.values() if not s["recovered"]]
    after = replace(
        before,
        signals=signals,
        severity=min([Severity(s["severity"]) for s in active], default=before.severity),
        title=_title(before.cause, signals),
        last_breach=max([before.last_breach, *(v.window.end for v in breaches)]),
    )
    because = tuple(v.id for v in breaches)
    if before.state is IncidentState.RESOLVED:
        after = replace(after, state=IncidentState.OPEN, resolved_at=None)
        return after, [step(before, after, now, Reason.BREACHED_AGAIN, because=because)]
    if over:
        after = replace(after, state=IncidentState.RESOLVED, severity=before.severity, resolved_at=now)
        return after, [step(before, after, now, Reason.RECOVERED, because=tuple(v.id for v in verdicts))]
    if after.severity < before.severity:
        return after, [step(before, after, now, Reason.BREACH_WORSENS, because=because)]
    new = sorted(set(signals) - set(before.signals))
    if new:
        names = [_name(before.cause, signals[at]) for at in new]
        note = ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")
        return after, [step(before, after, now, Reason.BREACH_SPREADS, note=note, because=because)]
    return after, []


def _settled(incident: Incident) -> datetime:
    """The end of the last window that a resolved incident answers for."""
    if CLOSED_BY in incident.evidence and incident.resolved_at is not None:
        return max(incident.last_breach, incident.resolved_at)
    return incident.last_breach


def _comes_back(incident: Incident, breaches: list[Verdict], resolve_after: timedelta) -> bool:
    if CLOSED_BY in incident.evidence:  # it was judged against a baseline that is no longer in force
        return False
    return min(v.window.end for v in breaches) - incident.last_breach <= 2 * resolve_after


def _is_over(
    incident: Incident, signals: dict[str, dict[str, Any]], verdicts: list[Verdict], resolve_after: timedelta
) -> bool:
    judged = [v for v in verdicts if _key(v) in signals]
    healthy = bool(judged) and all(v.status is Status.HEALTHY for v in judged)
    since = max((v.window.end for v in judged), default=incident.last_breach) - incident.last_breach
    return healthy and since >= resolve_after and all(s["recovered"] for s in signals.values())


def _open(
    breaches: list[Verdict], now: datetime, grain: timedelta, began: Mapping[str, datetime]
) -> tuple[Incident, list[Transition]]:
    first = breaches[0]
    signals = _updated({}, breaches, grain, began)
    since = min(datetime.fromisoformat(s["since"]) for s in signals.values())
    incident = Incident(
        id=row_id("incident", first.model, first.cause, first.window.end),
        model=first.model,
        cause=first.cause,
        severity=min(v.severity for v in breaches),
        state=IncidentState.OPEN,
        title=_title(first.cause, signals),
        since=since,
        opened_at=now,
        last_breach=max(v.window.end for v in breaches),
        resolved_at=None,
        owner="",
        signals=signals,
        evidence={},
        config=first.config,
        revision=0,
        because=tuple(v.id for v in breaches),
    )
    return incident, [step(None, incident, now, Reason.FIRST_BREACH, because=incident.because)]


def _updated(
    before: dict[str, dict[str, Any]], verdicts: list[Verdict], grain: timedelta, began: Mapping[str, datetime]
) -> dict[str, dict[str, Any]]:
    signals = dict(before)
    for verdict in verdicts:
        at, end = _key(verdict), verdict.window.end.isoformat()
        old = signals.get(at)
        if verdict.status is Status.BREACH and (old is None or end >= old["last"]):
            signals[at] = {
                "monitor": verdict.monitor,
                "column": verdict.column,
                "segment": verdict.segment,
                "metric": verdict.metric,
                "since": old["since"] if old else began.get(verdict.id, verdict.window.end - grain).isoformat(),
                "last": end,
                "value": verdict.value,
                "low": verdict.low,
                "high": verdict.high,
                "limit": verdict.limit,
                "direction": verdict.direction,
                "severity": str(verdict.severity),
                "verdict": verdict.id,
                "recovered": old["recovered"] if old and old["recovered"] > end else "",
            }
        elif old is not None and verdict.status is Status.HEALTHY and end > old["last"]:
            signals[at] = {**old, "recovered": old["recovered"] or end}
    return signals


def key(monitor: str, column: str, segment: str) -> str:
    """What a signal of an incident is kept under."""
    return f"{monitor}|{column}|{segment}" if segment else f"{monitor}|{column}"


def _key(verdict: Verdict) -> str:
    return key(verdict.monitor, verdict.column, verdict.segment)


def _name(cause: str, signal: dict[str, Any]) -> str:
    return place(signal["column"] if cause in BY_COLUMN else signal["monitor"], signal.get("segment", ALL))


def _title(cause: str, signals: dict[str, dict[str, Any]]) -> str:
    active = [s for s in signals.values() if not s["recovered"]] or list(signals.values())
    names: list[str] = []
    for signal in sorted(active, key=strength, reverse=True):
        name = _name(cause, signal)
        if name not in names:
            names.append(name)
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"{cause.capitalize()}: {', '.join(names[:3])}{more}"


def strength(signal: dict[str, Any]) -> float:
    """How far a signal's value lies outside its limit, in units of the limit: for ranking."""
    limit = abs(signal["limit"]) or 1.0
    over = signal["value"] - signal["limit"] if signal["direction"] == "above" else signal["limit"] - signal["value"]
    return float(over / limit)


def acknowledge(incident: Incident, now: datetime, actor: str, note: str = "") -> tuple[Incident, Transition]:
    """A person takes the incident on. Raises ConflictError unless it is open."""
    if incident.state is not IncidentState.OPEN:
        raise ConflictError(f"{incident.id} is {incident.state} already; only an open incident can be acknowledged")
    after = replace(incident, state=IncidentState.ACKNOWLEDGED, owner=actor)
    return after, step(incident, after, now, Reason.BY_HAND, actor, note)


def resolve(incident: Incident, now: datetime, actor: str, note: str = "") -> tuple[Incident, Transition]:
    """A person declares the incident over. Raises ConflictError if it is resolved already."""
    if incident.state is IncidentState.RESOLVED:
        raise ConflictError(f"{incident.id} is resolved already")
    after = replace(incident, state=IncidentState.RESOLVED, resolved_at=now)
    return after, step(incident, after, now, Reason.BY_HAND, actor, note)


def supersede(incident: Incident, rollout: str, champion: str, now: datetime) -> tuple[Incident, Transition]:
    """A new champion, trained because of the incident, ends it. What still breaches against the new champion's own
    baseline is a new incident.

    Args:
        rollout: the id of the rollout that crowned the champion.
    """
    evidence = {**incident.evidence, CLOSED_BY: rollout}
    after = replace(incident, state=IncidentState.RESOLVED, resolved_at=now, evidence=evidence)
    return after, step(incident, after, now, Reason.NEW_CHAMPION, note=f"{champion} took over", because=(rollout,))


def step(
    before: Incident | None,
    after: Incident,
    now: datetime,
    reason: Reason,
    actor: str = ENGINE,
    note: str = "",
    because: tuple[str, ...] = (),
) -> Transition:
    """The timeline entry from one form of an incident to the next."""
    start = str(before.state) if before else NEW
    return Transition(
        id=row_id("transition", after.id, after.revision, now, start, after.state, reason, actor, note),
        model=after.model,
        subject=after.id,
        at=now,
        before=start,
        after=str(after.state),
        severity=after.severity,
        reason=reason,
        actor=actor,
        note=note,
        because=because,
    )
