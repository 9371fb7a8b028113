"""Why: the chain of rows behind any row, down to the profiles and the configuration it was judged by."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from watchkeeper.errors import StateError
from watchkeeper.profiles import Key
from watchkeeper.records import (
    ALL,
    Action,
    Delivery,
    Incident,
    Point,
    Rollout,
    Transition,
    Verdict,
    place,
)
from watchkeeper.store.state import KINDS, Transaction
from watchkeeper.windows import show_time

Row = Point | Verdict | Incident | Transition | Delivery | Action | Rollout


@dataclass(frozen=True)
class Node:
    """A row in words, the rows it came of, and (at the top of a chain) what came of it."""

    id: str
    text: str
    causes: list[Node] = field(default_factory=list)
    effects: list[Node] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        below = {name: [n.to_dict() for n in getattr(self, name)] for name in ("causes", "effects")}
        return {"id": self.id, "text": self.text, **{name: nodes for name, nodes in below.items() if nodes}}


def why(tx: Transaction, row_id: str) -> Node:
    """The whole chain of a row. Raises StateError if there is no row of this id."""
    row = _find(tx, row_id)
    return Node(row_id, describe(row), _causes(tx, row), _effects(tx, row))


def _find(tx: Transaction, row_id: str) -> Row:
    kind = row_id.partition("-")[0]
    if kind not in KINDS:
        kinds = ", ".join(f"{kind}-" for kind in sorted(KINDS))
        raise StateError(f'"{row_id}" is not an id that has a why; those begin with one of {kinds}')
    row: Row = tx.get(KINDS[kind], row_id)
    return row


def _causes(tx: Transaction, row: Row) -> list[Node]:
    if isinstance(row, Point):
        return [_configuration(tx, row.config), *_profiles(tx, row)]
    ids = list(row.because)
    if isinstance(row, Transition) and row.subject not in ids:
        ids.append(row.subject)
    nodes = []
    for cause in ids:
        found = _find(tx, cause)
        nodes.append(Node(cause, describe(found), _causes(tx, found)))
    return nodes


def _effects(tx: Transaction, row: Row) -> list[Node]:
    """What came of an incident, an action or a rollout: its timeline, actions, rollouts and deliveries."""
    if isinstance(row, (Point, Verdict, Delivery)):
        return []
    if isinstance(row, Transition):
        return [Node(d.id, describe(d)) for d in tx.select(Delivery, transition=row.id)]
    steps = tx.select(Transition, subject=row.id, order="at")
    nodes = [Node(s.id, describe(s), effects=_effects(tx, s)) for s in steps]
    followers: list[Row] = [a for a in tx.select(Action, model=row.model) if row.id in a.because]
    followers += [r for r in tx.select(Rollout, model=row.model) if row.id in r.because]
    return nodes + [Node(f.id, describe(f), effects=_effects(tx, f)) for f in followers]


def _configuration(tx: Transaction, version: str) -> Node:
    kept = tx.config(version)
    text = f"configuration of {show_time(kept['at'])} UTC by {kept['author']}" if kept else "configuration not kept"
    return Node(version, text)


def _profiles(tx: Transaction, point: Point) -> list[Node]:
    """One node for the current profiles and one for the baseline's, since a window may hold very many."""
    keys = tx.profile_keys(point.because)
    groups: dict[str, list[tuple[Key, int]]] = {"": [], "baseline: ": [], "reference data of ": []}
    for key, n in keys:
        side = "reference data of " if key.start is None else "" if key.start in point.window else "baseline: "
        groups[side].append((key, n))
    return [Node(group[0][0].id, what + _profile_text(group)) for what, group in groups.items() if group]


def _profile_text(group: list[tuple[Key, int]]) -> str:
    first = group[0][0]
    whole = [n for key, n in group if key.label == ALL]  # those by label count the same rows again
    rows = sum(whole or [n for _, n in group])
    if first.start is None:
        return f"{first.version}: {place(first.column, first.segment)}, {rows:,} rows"
    moments = sorted(key.start for key, _ in group if key.start is not None)
    spread = f"{show_time(moments[0])} to {show_time(moments[-1])} UTC"
    profiles = f"{len(group):,} profiles" if len(group) > 1 else "1 profile"
    return f"{profiles} of {place(first.column, first.segment)}, {spread}, {rows:,} rows"


def describe(row: Row) -> str:
    """A row in one line of words."""
    match row:
        case Point():
            return f"{_value(row)} in {row.window} on {row.n:,} rows, at {row.confidence:.4%} confidence a side"
        case Verdict():
            limit = f"limit {row.direction} {row.limit:g}"
            return f'monitor "{row.monitor}" says {row.status}: {_value(row)}, {limit}; {row.reason.sentence}'
        case Incident():
            return f"{row.severity} {row.title}, {row.state}, since {show_time(row.since)} UTC"
        case Transition():
            note = f" ({row.note})" if row.note else ""
            return f"{show_time(row.at)} UTC {row.before} → {row.after} by {row.actor}: {row.reason.sentence}{note}"
        case Delivery():
            return f"to {row.channel}: {row.state}{f', {row.error}' if row.error else ''}"
        case Action():
            return f"{row.kind} {row.state}: {row.reason.sentence}"
        case Rollout():
            return f"rollout of {row.candidate} against {row.champion}: {row.state}; {row.reason.sentence}"


def _value(row: Point | Verdict) -> str:
    if row.value is None:
        return f"{place(row.column, row.segment)} {row.metric} has no value"
    low, high = ("unbounded" if end is None else f"{end:.4g}" for end in (row.low, row.high))
    return f"{place(row.column, row.segment)} {row.metric} {row.value:.4g} [{low}, {high}]"
