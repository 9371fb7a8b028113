"""Telling people: each transition goes to each channel that takes its severity. Hop 6.

A delivery is written before it is sent, so a crash loses nothing: the guarantee is *at least once*. Where a process
dies between sending and writing that it was sent, the notice goes out again, under the same delivery id, by which a
receiver can tell. Notices about one subject reach a channel in their order.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from time import monotonic
from typing import Any

import watchkeeper.channels.built_in  # noqa: F401  importing it fills the registry of channels
from watchkeeper.channels import Channel, Notice, RetryLaterError
from watchkeeper.errors import ConflictError, DeliveryError
from watchkeeper.incidents import ENGINE, NEW, strength
from watchkeeper.records import (
    ALL,
    Action,
    ActionState,
    Delivery,
    DeliveryState,
    Incident,
    IncidentState,
    Reason,
    Rollout,
    RolloutState,
    Transition,
    place,
    row_id,
)
from watchkeeper.schema import Config
from watchkeeper.store.state import State, Transaction
from watchkeeper.windows import show_time

LEASE = timedelta(minutes=5)
"""How long a worker that claimed a delivery has it to itself."""

MOST_ATTEMPTS = 10
"""After so many a delivery has failed; about four hours after the first."""

_FIRST_WAIT = timedelta(minutes=1)
_LONGEST_WAIT = timedelta(hours=1)
_LONGEST_ASKED = timedelta(days=1)
_SIGNALS_SHOWN = 5

_log = logging.getLogger(__name__)

Subject = Incident | Rollout | Action
_SUBJECTS: dict[str, type[Any]] = {"incident": Incident, "rollout": Rollout, "action": Action}
"""The first word of a subject's id to its class."""


def plan(transitions: Iterable[Transition], config: Config, now: datetime) -> list[Delivery]:
    """One delivery per transition and channel that takes its severity: a channel of severity P1 takes P0 and P1.

    To be written in the same transaction as the transitions, once: writing a plan again would send again.
    """
    return [
        Delivery(
            id=row_id("delivery", transition.id, name),
            transition=transition.id,
            channel=name,
            state=DeliveryState.PENDING,
            attempts=0,
            next_attempt=now,
            sent_at=None,
            error="",
            revision=0,
            because=(transition.id,),
        )
        for transition in transitions
        for name, channel in config.channels.items()
        if transition.severity <= channel.severity
    ]


def deliver(state: State, channels: Mapping[str, Channel], now: datetime, *, patience: float = 60.0) -> list[Delivery]:
    """Send what is due: the pending, and those that a worker claimed and did not finish within its lease.

    Any number of workers may do this at the same time; a delivery belongs to the one that claimed it. Notices about
    one subject go to a channel one after the other: while one waits for its next attempt, those behind it wait too.
    A channel that fails for a while is left alone until the next call.

    Args:
        channels: by their names in the configuration, as `channels.build` makes them.
        patience: seconds after which no further delivery is begun; the rest is left to the next call.

    Returns the deliveries that were tried, as they are afterwards. An exception other than DeliveryError out of a
    channel is a fault in that channel: it goes up, and the delivery is tried again when its lease has run out.
    """
    begun = monotonic()
    tried: list[Delivery] = []
    failing: set[str] = set()
    for queue in _queues(state):
        for delivery, transition in queue:
            if monotonic() - begun >= patience:
                return tried
            if delivery.next_attempt > now or delivery.channel in failing:
                break
            try:
                after = _try(state, channels, delivery, transition, now)
            except ConflictError:
                _log.info("%s is with another worker", delivery.id)
                break
            tried.append(after)
            if after.state is DeliveryState.PENDING:
                failing.add(after.channel)
                break
    return tried


def _queues(state: State) -> list[list[tuple[Delivery, Transition | None]]]:
    """Deliveries that are not done, those of one channel and subject in their order; the most severe queue first."""
    with state.transaction() as tx:
        waiting = tx.select(Delivery, state=[DeliveryState.PENDING, DeliveryState.SENDING])
        transitions = {t.id: t for t in tx.select(Transition, id=[d.transition for d in waiting])}
    found = [(delivery, transitions.get(delivery.transition)) for delivery in waiting]
    queues: dict[tuple[str, str], list[tuple[Delivery, Transition | None]]] = {}
    for delivery, transition in sorted(found, key=_age):
        subject = transition.subject if transition else delivery.id
        queues.setdefault((delivery.channel, subject), []).append((delivery, transition))
    return sorted(queues.values(), key=_urgency)


def _age(pair: tuple[Delivery, Transition | None]) -> tuple[datetime, bool, str]:
    delivery, transition = pair
    if transition is None:
        return delivery.next_attempt, False, delivery.id
    return transition.at, transition.before != NEW, delivery.id


def _urgency(queue: Sequence[tuple[Delivery, Transition | None]]) -> tuple[str, datetime]:
    return min((t.severity for _, t in queue if t), default=""), _age(queue[0])[0]


def _try(
    state: State, channels: Mapping[str, Channel], delivery: Delivery, transition: Transition | None, now: datetime
) -> Delivery:
    """Claim, send, write down what came of it. Raises ConflictError if somebody else has the delivery."""
    channel = channels.get(delivery.channel)
    if transition is None:
        return _settle(state, delivery, None, now, DeliveryState.FAILED, "the transition to tell of is gone")
    if channel is None:
        error = f'the configuration has no channel "{delivery.channel}" any more'
        return _settle(state, delivery, transition, now, DeliveryState.FAILED, error)
    if delivery.attempts >= MOST_ATTEMPTS:
        error = f"given up after {delivery.attempts} attempts, of which the last was broken off"
        return _settle(state, delivery, transition, now, DeliveryState.FAILED, error)
    with state.transaction() as tx:
        claimed: Delivery = tx.change(
            replace(delivery, state=DeliveryState.SENDING, attempts=delivery.attempts + 1, next_attempt=now + LEASE)
        )
        message = notice(claimed.id, transition, *_look_up(tx, transition))
    try:
        channel.send(message, now)
    except DeliveryError as problem:
        error = str(problem)
        if problem.permanent:
            return _settle(state, claimed, transition, now, DeliveryState.FAILED, error)
        if claimed.attempts >= MOST_ATTEMPTS:
            error = f"given up after {claimed.attempts} attempts: {error}"
            return _settle(state, claimed, transition, now, DeliveryState.FAILED, error)
        again = now + _wait(claimed.attempts, problem)
        return _settle(state, claimed, transition, now, DeliveryState.PENDING, error, again)
    return _settle(state, claimed, transition, now, DeliveryState.SENT)


def _wait(attempts: int, problem: DeliveryError) -> timedelta:
    own = min(_FIRST_WAIT * (1 << attempts - 1), _LONGEST_WAIT)
    return max(own, min(problem.after, _LONGEST_ASKED)) if isinstance(problem, RetryLaterError) else own


def _settle(
    state: State,
    delivery: Delivery,
    transition: Transition | None,
    now: datetime,
    outcome: DeliveryState,
    error: str = "",
    next_attempt: datetime | None = None,
) -> Delivery:
    """Write the outcome of an attempt, with a line in the record."""
    sent = outcome is DeliveryState.SENT
    after = replace(
        delivery,
        state=outcome,
        error=error,
        next_attempt=next_attempt or delivery.next_attempt,
        sent_at=now if sent else None,
    )
    with state.transaction() as tx:
        written: Delivery = tx.change(after)
        payload = {
            "delivery": after.id,
            "transition": after.transition,
            "channel": after.channel,
            "state": str(outcome),
            "attempts": after.attempts,
            "error": error,
        }
        tx.audit(now, ENGINE, "delivery", transition.subject if transition else after.transition, payload)
    if not sent:
        _log.warning("%s by channel %s is %s: %s", after.id, after.channel, outcome, error)
    return written


def _look_up(tx: Transaction, transition: Transition) -> tuple[Subject | None, list[Action]]:
    """What a transition is about, and what is being done about it."""
    kind = _SUBJECTS.get(transition.subject.partition("-")[0])
    found: list[Subject] = tx.select(kind, id=transition.subject) if kind else []
    running = tx.select(Action, model=transition.model, state=[ActionState.PLANNED, ActionState.RUNNING])
    return (found[0] if found else None), [a for a in running if transition.subject in a.because]


def notice(delivery: str, transition: Transition, subject: Subject | None, under_way: Sequence[Action] = ()) -> Notice:
    """The message of a transition.

    Args:
        delivery: the id that the notice bears.
        subject: the incident, rollout or action; None if it is gone, and then only the transition itself is told.
        under_way: actions about it that are planned or running.
    """
    word = _WORDS.get(transition.reason, transition.after)
    what, lines = transition.subject, []
    details: dict[str, Any] = {"kind": transition.subject.partition("-")[0], "id": transition.subject}
    if isinstance(subject, Incident):
        what, lines, facts = subject.title, _of_incident(subject, under_way), _incident_facts(subject)
        details |= facts
    elif isinstance(subject, Rollout):
        what, lines = f"Candidate {subject.candidate}", _of_rollout(subject)
        details |= _rollout_facts(subject)
    elif isinstance(subject, Action):
        what, lines = subject.kind.capitalize(), []
        details |= {"action": subject.kind, "state": str(subject.state)}
    step = transition.after if transition.before == transition.after else f"{transition.before} to {transition.after}"
    happened = f"{_sentence(transition.reason.sentence)} ({step})"
    if transition.actor != ENGINE:
        happened += f", by {transition.actor}"
    said = [f"Note: {transition.note}"] if transition.note else []
    return Notice(
        id=delivery,
        title=_clean(f"{transition.severity} {transition.model}: {what} [{word}]", 200),
        severity=transition.severity,
        model=transition.model,
        subject=transition.subject,
        before=transition.before,
        after=transition.after,
        reason=transition.reason.sentence,
        at=transition.at,
        actor=transition.actor,
        note=_clean(transition.note),
        lines=tuple(map(_clean, (happened, *said, *lines, f"More: watchkeeper why {transition.subject}"))),
        details=_plain(details),
    )


_WORDS = {
    Reason.FIRST_BREACH: "new",
    Reason.BREACH_SPREADS: "spreading",
    Reason.BREACH_WORSENS: "worse",
    Reason.BREACHED_AGAIN: "back",
    Reason.RECOVERED: "resolved",
}
"""Where a subject stands, in one word, where its state does not say it."""


def _of_incident(incident: Incident, under_way: Sequence[Action]) -> list[str]:
    lines = [f"Since {show_time(incident.since)} UTC, last seen up to {show_time(incident.last_breach)} UTC"]
    ranked = sorted(incident.signals.values(), key=strength, reverse=True)
    lines += [_of_signal(signal) for signal in ranked[:_SIGNALS_SHOWN]]
    if len(ranked) > _SIGNALS_SHOWN:
        lines.append(f"and {len(ranked) - _SIGNALS_SHOWN} more")
    if incident.state is IncidentState.RESOLVED:
        return [*lines, "Nothing needs to be done"]
    recommendation = incident.evidence.get("recommendation")
    if recommendation:
        lines.append(f"What to do: {recommendation}")
    doing = [f"{action.kind} is {action.state}" for action in under_way]
    if incident.owner:
        doing.append(f"{incident.owner} has taken it on")
    return [*lines, f"Being done: {', '.join(doing) or 'nothing yet; nobody has taken it on'}"]


def _of_signal(signal: Mapping[str, Any]) -> str:
    subject = place(signal["column"] or signal["monitor"], signal.get("segment", ALL))
    since = show_time(datetime.fromisoformat(signal["since"]))
    text = f"{subject}: {signal['metric']} {_number(signal['value'])}{_interval(signal)}"
    text += f", limit: not {signal['direction']} {_number(signal['limit'])}, since {since} UTC"
    if signal.get("recovered"):
        text += f", within it again by {show_time(datetime.fromisoformat(signal['recovered']))} UTC"
    return text


def _incident_facts(incident: Incident) -> dict[str, Any]:
    return {
        "cause": incident.cause,
        "state": str(incident.state),
        "title": incident.title,
        "since": incident.since.isoformat(),
        "last_breach": incident.last_breach.isoformat(),
        "owner": incident.owner,
        "summary": incident.evidence.get("summary", ""),
        "recommendation": incident.evidence.get("recommendation", ""),
        "signals": [{key: signal.get(key) for key in _SIGNAL_KEYS} for signal in incident.signals.values()],
    }


_SIGNAL_KEYS = (
    "monitor",
    "column",
    "segment",
    "metric",
    "since",
    "last",
    "value",
    "low",
    "high",
    "limit",
    "direction",
    "severity",
    "verdict",
    "recovered",
)


def _of_rollout(rollout: Rollout) -> list[str]:
    lines = [
        f"Candidate {rollout.candidate} against champion {rollout.champion}: stage {rollout.stage + 1},"
        f" {rollout.share:.0%} of the traffic, since {show_time(rollout.started_at)} UTC"
    ]
    look = rollout.looks[-1] if rollout.looks else {}
    if look.get("difference") is not None:
        lines.append(
            f"Log loss of the candidate minus the champion's: {_number(look['difference'])}{_interval(look)}"
            + (f", margin {_number(look['margin'])}" if look.get("margin") is not None else "")
        )
    doing = {
        RolloutState.RUNNING: "the rollout goes on by itself",
        RolloutState.PROMOTED: f"{rollout.candidate} serves all traffic",
        RolloutState.ROLLED_BACK: f"{rollout.champion} serves all traffic again",
    }
    return [*lines, f"Being done: {doing[rollout.state]}"]


def _rollout_facts(rollout: Rollout) -> dict[str, Any]:
    return {
        "state": str(rollout.state),
        "candidate": rollout.candidate,
        "champion": rollout.champion,
        "stage": rollout.stage,
        "share": rollout.share,
        "started_at": rollout.started_at.isoformat(),
        "look": rollout.looks[-1] if rollout.looks else None,
    }


def _interval(found: Mapping[str, Any]) -> str:
    if found.get("low") is None or found.get("high") is None:
        return ""
    return f" ({_number(found['low'])} to {_number(found['high'])})"


def _number(value: float | None) -> str:
    return "no value" if value is None else f"{value:.4g}"


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _clean(text: str, longest: int = 1000) -> str:
    """On one line, without control characters, which could forge a header or drive a terminal."""
    flat = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return flat if len(flat) <= longest else flat[: longest - 3] + "..."


def _plain(value: Any) -> Any:
    """JSON has no NaN and no infinity: they become null."""
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
