"""Summarising, hop 2: what came to the log is added to the profiles of its grains.

Profiles add up. So a row is counted when it comes; one that got another label is taken from the profiles as it was, and
added as it is; what is in the grain beside them is not looked at. A grain is counted whole again only where the counts
do not tell what is left, and where something else than rows and labels has changed: the way of counting, rows that were
erased, or values that were given to rows that lacked them.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime

import numpy as np

from watchkeeper import keeping, traffic
from watchkeeper.profiles import Key, Profile, merge
from watchkeeper.records import ALL, row_id
from watchkeeper.schema import ModelConfig
from watchkeeper.store.layout import Batches
from watchkeeper.store.log import Log
from watchkeeper.store.sources import Part, Plan
from watchkeeper.store.state import Transaction
from watchkeeper.windows import Window, floor, together

FEW, MANY = 100, 10_000
"""Rows from which a model without reference data gets its grids: once its first grain is over, and before that."""
ARRIVAL, PARTED, LATE, WAY, KPIS = "arrival", "parted", "late", "counted", "kpis"
"""The cursors of a model: up to which batch its rows are counted; by which columns they are parted; the grains that are
to be judged again; how they are counted, see `Way`; and in which grain KPIs were counted last, with the grains whose
KPIs are to be counted in the next."""


def summarise(tx: Transaction, own: Log, name: str, model: ModelConfig, now: datetime) -> int:
    """Count what came since the last time, and every grain whole where the configuration has gained segments; how many
    rows were counted. Profiles and cursors are of one transaction, so nothing is counted twice, whoever dies."""
    done = tx.cursor(name, ARRIVAL)
    news = own.news(name, done, model.grain, now)
    fresh = {*model.segmentations} - {*map(tuple, json.loads(tx.cursor(name, PARTED) or "[]"))}
    counted, waiting = _waiting(tx, name)
    over = counted != floor(now, model.grain_length).isoformat()
    idle = news.cursor == done and not fresh and not (waiting and over)
    if not news.some or (idle and not keeping.is_behind(tx, name)):
        return 0
    if not tx.grids(name) and not _enough_for_grids(own, name, model, now):
        return 0
    all_anew = _freeze(tx, own, name, model, news.came, segments=bool(fresh))
    kpis_anew = _freeze_kpis(tx, own, name, model)
    since = keeping.whole_from(tx, name)
    if news.came and (too_late := own.arrived(name, news.came.after, since)):
        tx.add_counts(name, {"too late": too_late})
    [again] = keeping.to_count(tx, name, ())
    by_rows, by_labels, by_kpis = keeping.to_count(tx, name, news.by_rows, news.by_labels, news.by_kpis)
    there = own.touched(name, 0, model.grain)[0] if all_anew or kpis_anew else []
    there = [at for at in there if at >= since]
    counting = _Counting(tx, own, name, model, news.came)
    counting.count(by_rows, by_labels, again, there if all_anew else [])
    waiting |= {*by_rows, *by_kpis} if model.kpis else set()
    due = {at for at in {*again, *there, *(waiting if over else ())} if at >= since}
    counting.count_kpis(due)
    kept = sorted(at.isoformat() for at in waiting - due) if not over else []
    tx.set_cursor(name, KPIS, json.dumps([floor(now, model.grain_length).isoformat(), kept]))
    new_ones = ([*by_rows, *again], [*by_labels, *(due if model.kpis else ())])
    added = [{*old, *new} for old, new in zip(late(tx, name), new_ones, strict=True)]
    tx.set_cursor(name, LATE, json.dumps([sorted(at.isoformat() for at in kind) for kind in added]))
    tx.set_cursor(name, ARRIVAL, news.cursor)
    tx.set_cursor(name, PARTED, json.dumps(model.segmentations))
    return counting.rows


def _waiting(tx: Transaction, name: str) -> tuple[str, set[datetime]]:
    """In which grain KPIs were counted last, and the grains that received rows or KPIs since."""
    counted, waiting = json.loads(tx.cursor(name, KPIS) or '["", []]')
    return counted, {datetime.fromisoformat(at) for at in waiting}


def late(tx: Transaction, name: str) -> list[set[datetime]]:
    """The grains summarised again and not yet judged again: for new rows, and for new labels and KPIs."""
    found = json.loads(tx.cursor(name, LATE) or "[[], []]")
    return [{datetime.fromisoformat(at) for at in kind} for kind in found]


def _freeze(tx: Transaction, own: Log, name: str, model: ModelConfig, came: Batches | None, segments: bool) -> bool:
    """Give what lacks them its grid, its vocabulary, and its segments where there are new ones; whether all grains are
    to be counted by them."""
    if not tx.grids(name):
        tx.put_grids(name, traffic.first_grids(model, own.first_rows(name)))
    if unknown := [column for column in traffic.RESOURCE_GRIDS if column not in tx.grids(name)]:
        held = own.holding(name, unknown, came.after if came else None)
        tx.put_grids(name, {column: traffic.RESOURCE_GRIDS[column] for column in held})
    for column in traffic.without_grid(model, tx.grids(name)):
        rows = own.first_rows(name, column)
        if rows.num_rows:
            tx.put_grids(name, traffic.first_grids(model, rows))
    if answers := traffic.grids_of_answers(name, model, tx.grids(name), own):
        tx.put_grids(name, answers)
    for column in traffic.without_vocabulary(model, tx.vocabularies(name)):
        rows = own.first_rows(name, column)
        if rows.num_rows:
            tx.put_vocabularies(name, traffic.first_vocabularies(model, rows))
    if segments:
        tx.put_segmentations(name, traffic.first_segments(model, own.first_rows(name)))
    return segments or bool(answers)


def _freeze_kpis(tx: Transaction, own: Log, name: str, model: ModelConfig) -> bool:
    """Give KPIs that lack them their grids; whether there are new ones, by which all grains are to be counted."""
    found = traffic.first_kpi_grids(name, model, tx.grids(name), own) if model.kpis else {}
    tx.put_grids(name, found)
    return bool(found)


def _enough_for_grids(own: Log, name: str, model: ModelConfig, now: datetime) -> bool:
    """Whether what was logged says enough of a model without reference data: grids, once chosen, stay."""
    first, rows = own.extent(name)
    over = first is not None and floor(first, model.grain_length) + model.grain_length <= now
    return rows >= (FEW if over else MANY)


@dataclass
class Way:
    """How the rows of a model are counted: counts that were made otherwise do not add up with those.

    Attributes:
        digest: what names the grain, the plans and the segmentations.
        until: the batch up to which rows were counted otherwise.
        mended: the grains with such rows that were counted whole since.
    """

    digest: str
    until: int = 0
    mended: set[datetime] = field(default_factory=set)

    @classmethod
    def read(cls, tx: Transaction, name: str) -> Way:
        found = json.loads(tx.cursor(name, WAY) or '["", 0, []]')
        return cls(found[0], found[1], set(map(datetime.fromisoformat, found[2])))

    def write(self, tx: Transaction, name: str) -> None:
        mended = sorted(at.isoformat() for at in self.mended)
        tx.set_cursor(name, WAY, json.dumps([self.digest, self.until, mended]))


class _Counting:
    """The counting of one model in one tick. `rows` says how many rows were counted."""

    def __init__(self, tx: Transaction, own: Log, name: str, model: ModelConfig, came: Batches | None) -> None:
        self._tx, self._own, self._name, self._grain, self._came = tx, own, name, model.grain, came
        self._length, self._model = model.grain_length, model
        self._plans = traffic.plans(model, tx.grids(name), tx.vocabularies(name))
        self._segments = traffic.segments(tx, name, model)
        self._moved = traffic.moved_by_labels(self._plans)  # labels change the counts by label alone
        self.rows = 0

    def count(
        self,
        by_rows: Sequence[datetime],
        by_labels: Sequence[datetime],
        again: Iterable[datetime],
        every: Sequence[datetime],
    ) -> None:
        """Count what came: rows in some grains, labels in some. The grains `again` are counted whole, and all there
        are, if they are given as `every`."""
        if self._came is None:
            whole = {*by_rows, *again, *every}
            unclear = {*by_labels} - whole
        else:
            whole = {*again, *every, *self._otherwise({*by_rows, *by_labels}, self._came, all_anew=bool(every))}
            unclear = self._add([at for at in by_rows if at not in whole], [at for at in by_labels if at not in whole])
        self._count_whole(sorted(unclear), self._moved)
        self._count_whole(sorted(whole), self._plans)

    def count_kpis(self, grains: Iterable[datetime]) -> None:
        """Count the columns of KPIs in grains whose rows or KPIs have changed. They are counted whole, since what a
        user's predictions come to does not add up; so each is counted once in the time of a grain, when one is over.
        Looks are taken then, so they miss nothing."""
        if plans := traffic.kpi_plans(self._model, self._tx.grids(self._name)):
            self._count_whole(sorted(grains), plans)

    def _otherwise(self, touched: set[datetime], came: Batches, all_anew: bool) -> list[datetime]:
        """Those of the touched grains whose rows were counted otherwise than rows are now; they will not be then."""
        way = Way.read(self._tx, self._name)
        digest = row_id("way", self._grain, *map(_told, self._plans), *map(repr, self._segments))
        if all_anew or way.digest != digest:
            way = Way(digest, 0 if all_anew else came.after)
        found = self._own.begun(self._name, touched - way.mended, self._grain, way.until)
        way.mended |= {*found}
        way.write(self._tx, self._name)
        return found

    def _add(self, by_rows: Sequence[datetime], by_labels: Sequence[datetime]) -> set[datetime]:
        """Add what came to the profiles; the grains whose counts do not tell what labels have changed."""
        assert self._came is not None
        new = self._own.profiles(self._name, self._plans, by_rows, self._grain, self._segments, self._came)
        before, after = self._own.relabelled(
            self._name, self._moved, by_labels, self._grain, self._segments, self._came
        )
        gone, more = self._by_key(before), self._by_key(after)
        for key in [key for key, profile in gone.items() if key in more and _same(profile, more[key])]:
            del gone[key], more[key]
        self._count_rows(new)
        sums: dict[Key, list[Profile]] = defaultdict(list)
        for found in (self._by_key(new), more):
            for key, profile in found.items():
                sums[key].append(profile)
        kept = self._kept([*sums, *gone])
        parts, unclear = [], set()
        for key in {**sums, **gone}:
            there = kept.get(key)
            if key in gone:
                there = there.without(gone[key]) if there else None
            whole = merge([*([there] if there else []), *sums[key]])
            if whole is None or not whole.n or (key in gone and there is None):
                assert key.start is not None
                unclear.add(key.start)
            else:
                parts.append(Part(key.column, key.version, key.label, key.start, whole, key.segment))
        self._tx.put_profiles(self._name, parts)
        return unclear

    def _count_whole(self, grains: Sequence[datetime], plans: Sequence[Plan]) -> None:
        """Count grains whole, in place of what they had."""
        of = Batches(0, self._came.until) if self._came else None
        parts = self._own.profiles(self._name, plans, grains, self._grain, self._segments, of)
        self._tx.put_profiles(self._name, parts, grains, [plan.name for plan in plans])
        self._count_rows(parts)

    def _count_rows(self, parts: Iterable[Part]) -> None:
        self.rows += sum(part.profile.n for part in parts if (part.column, part.segment) == ("status", ALL))

    def _kept(self, keys: Sequence[Key]) -> dict[Key, Profile]:
        """The profiles that there are of these keys, and some others."""
        spans = together(Window(at, at + self._length) for at in {key.start for key in keys} if at)
        columns = sorted({key.column for key in keys})
        return {key: p for span in spans for key, p in self._tx.profiles(self._name, span, None, column=columns)}

    def _by_key(self, parts: Iterable[Part]) -> dict[Key, Profile]:
        return {
            Key(self._name, part.version, part.segment, part.column, part.label, part.start): part.profile
            for part in parts
        }


def _told(plan: Plan) -> str:
    """All that a plan says, in words."""
    said = {one.name: getattr(plan, one.name) for one in fields(plan)}
    return repr({**said, "grid": plan.grid.name if plan.grid else ""})


def _same(one: Profile, other: Profile) -> bool:
    rest = [(p.values, p.nulls, p.low, p.high, p.others, p.limit) for p in (one, other)]
    return np.array_equal(one.bins, other.bins) and np.array_equal(one.counts, other.counts) and rest[0] == rest[1]
