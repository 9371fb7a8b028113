"""Recording, hop 1: what waits in the inbox becomes rows of the log, once each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from watchkeeper import accounts, events, keeping, quarantine
from watchkeeper.errors import DataError
from watchkeeper.incidents import ENGINE
from watchkeeper.schema import Config
from watchkeeper.store import arrivals, fitting, halves, log, privacy
from watchkeeper.store.inbox import Inbox
from watchkeeper.store.state import State
from watchkeeper.store.warehouse import Warehouse
from watchkeeper.tick import Tick

AT_ONCE = 64 << 20
"""Bytes of the inbox that are taken into the log at once."""
NO_REQUEST = "this is an answer whose request never came; see that the inference server reports both"
NO_MODEL = 'there is no model "{}" in the configuration'


class Recorder:
    """Takes events in for the engine. A file of the inbox goes only once all that it held is stored or kept aside, so
    whoever dies in between does it again, and the log keeps each row once.

    Args:
        logs: where the events of each model go.
    """

    def __init__(
        self,
        inbox: Inbox,
        state: State,
        logs: Mapping[str, log.Log],
        config: Config,
        keys: privacy.Keys,
        clock: Callable[[], datetime],
    ) -> None:
        self.inbox, self.state, self.logs = inbox, state, logs
        self.config, self.keys, self.clock = config, keys, clock

    def record(self, tick: Tick) -> None:
        """Take the waiting batches into the log; events of no known model or form are kept among the rejects."""
        for paths in _stretches(p for p in self.inbox.waiting() if not p.name.endswith(halves.FORM)):
            columns: dict[arrivals.Shape, list[tuple[Path, arrivals.Batch]]] = {}
            for path in paths:
                try:
                    for batch in [arrivals.read(path)] if path.suffix == ".arrow" else self._sorted(path, tick):
                        if batch.model in self.config.models:
                            columns.setdefault(batch.shape, []).append((path, batch))
                        else:
                            self._reject(path, batch, NO_MODEL.format(batch.model), tick)
                except DataError as problem:
                    self.inbox.reject_file(path, str(problem))
                    tick.rows["reject"] += 1
            for some in columns.values():
                self._append(some, tick)
            for path in paths:
                self.inbox.done(path)

    def replay(self, tick: Tick, now: datetime) -> None:
        """Take in what fits now of the quarantine, if somebody asked for it."""
        with self.state.snapshot() as tx:
            asked = tx.cursor("", quarantine.REPLAY)
        if not asked:
            return
        count = {"events": quarantine.replay_events(self.inbox, self.config, now, self.protect), "values": 0}
        for name, own in self.logs.items():
            if isinstance(own, Warehouse):
                continue
            told = partial(self._count_again, name)
            count["values"] += quarantine.replay_values(own, name, self.config, self.keys, told)
        with self.state.transaction() as tx:
            tx.set_cursor("", quarantine.REPLAY, "")
            tx.audit(now, ENGINE, "quarantine", "replay", {"asked": asked, **count})
        tick.rows["replay"] += sum(count.values())

    def _count_again(self, name: str, grains: Iterable[datetime]) -> None:
        with self.state.transaction() as tx:
            keeping.count_again(tx, name, grains)

    def join(self, tick: Tick, now: datetime) -> None:
        """Make predictions of the halves whose other one has come; what waits on is written anew before that."""
        found: dict[str, list[tuple[Path, arrivals.Batch]]] = {}
        for path in self.inbox.waiting():
            if path.name.endswith(halves.FORM):
                try:
                    batch = arrivals.read(path)
                except DataError as problem:
                    self.inbox.reject_file(path, str(problem))
                    tick.rows["reject"] += 1
                else:
                    found.setdefault(batch.model, []).append((path, batch))
        for name, some in found.items():
            path, model = some[0][0], self.config.models.get(name)
            if model is None:
                for _, batch in some:
                    self._reject(path, replace(batch, kind=events.PREDICTION), NO_MODEL.format(name), tick)
            else:
                joined = halves.join([batch for _, batch in some], now - model.inference.wait)
                if not joined.changed:
                    continue
                arrivals.put(self.inbox, joined.waiting, halves.FORM)
                for batch in joined.whole:
                    self._append([(path, batch)], tick)
                for batch in joined.orphans:
                    self._reject(path, batch, NO_REQUEST, tick)
            for path, _ in some:
                self.inbox.done(path)

    def _sorted(self, path: Path, tick: Tick) -> list[arrivals.Batch]:
        """The events of a batch of JSON, those of each model and kind as columns."""
        taken: dict[tuple[str, str], list[events.Event]] = {}
        refused: dict[str, list[Any]] = {}
        for found in self.inbox.read(path):
            try:
                if isinstance(found, dict) and found.get("kind") == events.LOSSES:
                    self._lose(events.read_losses(found))
                    continue
                event = events.read(found)
                if event["model"] not in self.config.models:
                    raise DataError(NO_MODEL.format(event["model"]))
                taken.setdefault((event["model"], event["kind"]), []).append(event)
            except DataError as problem:
                refused.setdefault(str(problem), []).append(found)
        for reason, some in refused.items():
            self.inbox.reject(path.stem, some, reason)
            tick.rows["reject"] += len(some)
            for name in (found.get("model") if isinstance(found, dict) else None for found in some):
                known = isinstance(name, str) and name in self.config.models
                tick.counted[str(name) if known else ""]["rejected"] += 1
        return [
            arrivals.Batch(model, kind, fitting.table(events.columns(rows))) for (model, kind), rows in taken.items()
        ]

    def _lose(self, told: events.Event) -> None:
        if told["model"] not in self.config.models:
            raise DataError(NO_MODEL.format(told["model"]))
        accounts.lose(self.state, told)

    def _append(self, found: Sequence[tuple[Path, arrivals.Batch]], tick: Tick) -> None:
        """Store batches of one shape at once; if the log cannot take them, one by one, to keep the others."""
        batch = found[0][1]
        own, now, kind = self.logs[batch.model], self.clock(), batch.kind
        try:
            rows = arrivals.together([self.protect(one).rows for _, one in found])
            if kind == events.PREDICTION:
                taken = own.append(batch.model, rows, now)
            elif kind == events.OUTCOME:
                taken = own.append_outcomes(batch.model, rows)
            else:
                taken = own.append_kpis(batch.model, rows)
        except (DataError, pa.ArrowInvalid, UnicodeError) as problem:
            if len(found) == 1:
                self._reject(found[0][0], batch, str(problem), tick)
            for one in found if len(found) > 1 else ():
                self._append([one], tick)
        else:
            tick.rows["record"] += taken.stored
            tick.rows["set aside"] += taken.set_aside
            tick.counted[batch.model] += Counter(
                {
                    f"{kind}s again": taken.duplicates - taken.conflicting,
                    "contradicted": taken.conflicting,
                    "set aside": taken.set_aside,
                }
            )

    def protect(self, batch: arrivals.Batch) -> arrivals.Batch:
        """A batch as it may be stored: what the configuration calls sensitive is protected."""
        if batch.kind == events.KPI:
            return replace(batch, rows=privacy.protect_kpis(batch.rows, self.config.models[batch.model]))
        own = [name for name in batch.rows.column_names if name in (halves.SOURCE, halves.RECEIVED)]
        rows = privacy.protect(batch.rows.drop_columns(own), self.config.models[batch.model], self.keys)
        for name in own:
            rows = rows.append_column(name, batch.rows[name])
        return replace(batch, rows=rows)

    def _reject(self, path: Path, batch: arrivals.Batch, reason: str, tick: Tick) -> None:
        self.inbox.reject(path.stem, batch.events(), reason)
        tick.rows["reject"] += batch.rows.num_rows
        tick.counted[batch.model if batch.model in self.config.models else ""]["rejected"] += batch.rows.num_rows


def _stretches(paths: Iterable[Path]) -> Iterator[list[Path]]:
    """Files, some after others, in stretches that are not too large to be held in memory."""
    stretch: list[Path] = []
    size = 0
    for path in paths:
        size += path.stat().st_size
        stretch.append(path)
        if size >= AT_ONCE:
            yield stretch
            stretch, size = [], 0
    if stretch:
        yield stretch
