"""The timeline: what happened is kept, told and audited in the one transaction that decided it."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from watchkeeper import notify
from watchkeeper.records import Reason, Transition
from watchkeeper.schema import Config
from watchkeeper.store.state import Transaction

SILENT = frozenset({Reason.BREACH_SPREADS, Reason.INCIDENT_ASKS})
"""Steps that are kept and shown but sent to no channel."""


def write(tx: Transaction, steps: Iterable[Transition], config: Config, now: datetime) -> None:
    """Keep transitions, plan their deliveries, and append them to the audit record."""
    steps = list(steps)
    tx.put(steps)
    tx.put(notify.plan([step for step in steps if step.reason not in SILENT], config, now))
    for step in steps:
        about = {"from": step.before, "to": step.after, "reason": str(step.reason), "note": step.note}
        tx.audit(now, step.actor, "transition", step.subject, {"transition": step.id, **about})
