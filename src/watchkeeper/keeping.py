"""How long things are kept: retention and compaction, seldom; and the erasure of a subject, when somebody asks."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from watchkeeper import training
from watchkeeper.errors import StateError, did_you_mean
from watchkeeper.incidents import ENGINE
from watchkeeper.records import Action
from watchkeeper.schema import Config, ModelConfig
from watchkeeper.store import erasure, kpis, retention, spools
from watchkeeper.store.inbox import Inbox
from watchkeeper.store.layout import Deleted
from watchkeeper.store.log import Log, tables
from watchkeeper.store.privacy import Keys
from watchkeeper.store.search import SHORTEST, Searched, search
from watchkeeper.store.state import State, Transaction
from watchkeeper.windows import floor

WASTE = 0.3
"""The share of the log's file that may lie idle before it is written anew."""
WORK = 10**12
"""Bytes times texts that the search after an erasure looks through at most; a subject may have very many requests."""
FROM, SAMPLES, AGAIN, LOOKED = "kept from", "kept samples", "count again", "retention"
"""The cursors of a model: since when its rows are whole; up to when which share of them was kept; the grains that are
to be summarised again; when its retention was last looked at."""


def whole_from(tx: Transaction, model: str) -> datetime:
    """Since when no row of a model was deleted or left out of a sample: summaries of earlier grains stay as they are,
    whatever rows or labels come for them."""
    return datetime.fromisoformat(tx.cursor(model, FROM) or "1970-01-01T00:00:00+00:00")


def samples(tx: Transaction, model: str) -> list[tuple[datetime, float]]:
    """Up to when which share of a model's rows was kept; see `retention.weights`."""
    return [(datetime.fromisoformat(at), share) for at, share in json.loads(tx.cursor(model, SAMPLES) or "[]")]


def to_count(tx: Transaction, model: str, *found: Iterable[datetime]) -> list[list[datetime]]:
    """The grains, of those that received something and of those that lost a subject, that are summarised again."""
    since = whole_from(tx, model)
    again = [datetime.fromisoformat(at) for at in json.loads(tx.cursor(model, AGAIN) or "[]")]
    tx.set_cursor(model, AGAIN, "[]")
    first, *rest = found
    return [[start for start in sorted({*some}) if start >= since] for some in ([*first, *again], *rest)]


def count_again(tx: Transaction, model: str, grains: Iterable[datetime]) -> None:
    """Have grains summarised again, though they received nothing."""
    again = {*json.loads(tx.cursor(model, AGAIN) or "[]")} | {at.isoformat() for at in grains}
    tx.set_cursor(model, AGAIN, json.dumps(sorted(again)))


def is_behind(tx: Transaction, model: str) -> bool:
    """Whether some grains are to be summarised again for what they lost."""
    return (tx.cursor(model, AGAIN) or "[]") != "[]"


@dataclass
class Erasure:
    """What became of a subject. `digest` stands for it in the audit record; where there is no key, `receipt` is the
    secret that proves later which subject the digest was of, and is kept nowhere.

    `names` counts what the subject was looked for as, and `requests` its requests, of which `looked_for` were searched
    for in the files; `running` names training jobs that still hold its rows. `spooled` events were taken out of the
    `spools` that were named.
    """

    digest: str
    receipt: str
    names: int
    requests: int
    deleted: dict[str, Deleted] = field(default_factory=dict)
    rejects: int = 0
    waiting: int = 0
    spools: int = 0
    spooled: int = 0
    training_rows: int = 0
    running: list[str] = field(default_factory=list)
    state: erasure.Scrubbed = field(default_factory=erasure.Scrubbed)
    looked_for: int = 0
    searched: Searched = field(default_factory=lambda: Searched(0, 0, ()))

    @property
    def complete(self) -> bool:
        return not self.running and not self.searched.found

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "complete": self.complete}


@dataclass(frozen=True)
class Keeping:
    """What is kept in a store, and how it is taken out. Nobody else may use the log meanwhile."""

    store: Path
    state: State
    log: Log
    inbox: Inbox
    config: Config
    keys: Keys

    # retention

    def retain(self, now: datetime) -> dict[str, Deleted]:
        """Delete what is to be kept no longer, once a grain, and write the log anew where too much of it lies idle."""
        done = {}
        for name, model in self.config.models.items():
            wanted = model.retention
            if model.events or (wanted.age is None and wanted.size is None and wanted.keep is None):
                continue
            looked = floor(now, model.grain_length).isoformat()
            with self.state.snapshot() as tx:
                due = tx.cursor(name, LOOKED) != looked
            if due:
                done[name] = self._retain(name, model, now)
                with self.state.transaction() as tx:
                    tx.set_cursor(name, LOOKED, looked)
        if done:
            self._forget_files(now)
            self.compact()
        return done

    def _retain(self, name: str, model: ModelConfig, now: datetime) -> Deleted:
        wanted, grain = model.retention, model.grain_length
        whole = Deleted()
        old = floor(now - wanted.age, grain) if wanted.age is not None else None
        large = retention.start_within(self.log, name, wanted.size, model.grain, grain) if wanted.size else None
        before = max((at for at in (old, large) if at is not None), default=None)
        if before is not None:
            self._freeze(name, before)
            whole += self._told(name, "expired", before, now, retention.expire(self.log, name, before))
        mature = floor(now - model.longest_delay, grain)
        if wanted.keep is not None and self._summarised(name):
            with self.state.transaction() as tx:
                spans = retention.after_thinning(samples(tx, name), mature, wanted.keep)
                tx.set_cursor(name, SAMPLES, json.dumps([[at.isoformat(), share] for at, share in spans]))
            self._freeze(name, mature)
            whole += self._told(name, "thinned", mature, now, retention.thin(self.log, name, mature, wanted.keep))
        return whole

    def _summarised(self, name: str) -> bool:
        """Whether all rows are in the summaries, so that some of them can be spared."""
        with self.state.snapshot() as tx:
            return int(tx.cursor(name, "arrival") or 0) == self.log.arrival(name)

    def _freeze(self, name: str, before: datetime) -> None:
        """Note first that the summaries stay as they are: half the rows must never be taken for all."""
        with self.state.transaction() as tx:
            tx.set_cursor(name, FROM, max(before, whole_from(tx, name)).isoformat())

    def _told(self, name: str, what: str, before: datetime, now: datetime, deleted: Deleted) -> Deleted:
        if deleted != Deleted():
            with self.state.transaction() as tx:
                tx.audit(now, ENGINE, "retention", name, {what: asdict(deleted), "before": before.isoformat()})
        return deleted

    def _forget_files(self, now: datetime) -> None:
        """Delete rejects that are older than any model's rows may be, and the training data of jobs that have ended
        which hold such rows."""
        ages = [model.retention.age for model in self.config.models.values() if model.retention.age is not None]
        if not ages:
            return
        cut = now - min(ages)
        for path in self.inbox.rejects.glob("*") if self.inbox.rejects.is_dir() else ():
            made = path.name.partition("-")[0]
            if made.isdecimal() and datetime.fromtimestamp(int(made) / 1e9, UTC) < cut:
                path.unlink()
        with self.state.snapshot() as tx:
            ended = [action for action in tx.select(Action) if action.ended_at is not None]
        for action in ended:
            age = self.config.models[action.model].retention.age if action.model in self.config.models else min(ages)
            start = action.detail.get("window", [""])[0]
            if age is not None and start and datetime.fromisoformat(start) < now - age:
                for name in ("train.parquet", "holdout.parquet"):
                    (self.store / "jobs" / action.id / name).unlink(missing_ok=True)

    def compact(self, most: float = WASTE) -> bool:
        """Write the log anew if more than this share of its file lies idle; whether it was."""
        if self.log.backend.waste() <= most:
            return False
        self._rewrite_log()
        return True

    def _rewrite_log(self) -> None:
        own, models = self.log.backend, self.log.models()
        own.rewrite([table for model in models for table in (*tables(model), kpis.made(own, model))])

    # erasure

    def erase(
        self, subject: str, model: str | None, now: datetime, actor: str, folders: Sequence[Path] = ()
    ) -> Erasure:
        """Erase a subject from everything that is stored, of one model or of all, and prove it by a search.

        The log comes last, since it is what tells the subject's requests: an erasure that is interrupted is done again
        from the beginning. Waiting events must have been taken into the log.

        Args:
            folders: spools of clients, which are cleared and searched too.

        Raises StateError for a model that nothing is logged of, for an empty subject, and for a spool that a client
        uses; nothing is erased then.
        """
        known = self.log.models()
        if not subject:
            raise StateError("nobody can be erased without a name; give the entity_id of the subject")
        if model is not None and model not in known:
            raise StateError(f'there is no model "{model}" in the log; {did_you_mean(model, known)}')
        names = self.keys.names_of(subject)
        models = [model] if model is not None else known
        with spools.held(folders) as clients:
            requests = {name: erasure.requests_of(self.log, name, names) for name in models}
            spooled = erasure.spooled_requests(clients, names, model)
            traces = erasure.Traces(names, spooled.union(*requests.values()))
            done = Erasure(*self._digest(subject), names=len(names), requests=len(traces.requests))
            done.spools = len({*folders})
            done.rejects = erasure.erase_lines(self.inbox.rejects, traces)
            done.waiting = erasure.erase_waiting(self.inbox, traces)
            for job in sorted(path.parent for path in (self.store / "jobs").glob("*/job.json")):
                if training.alive(job):
                    done.running.append(job.name)
                else:
                    done.training_rows += erasure.erase_training_rows(job, traces)
            for rows in sorted((self.store / "references").glob("*/*.parquet")):
                done.training_rows += erasure.erase_table(rows, traces)
            done.state = erasure.scrub(self.state, traces, model)
            done.spooled = sum(erasure.erase_lines(client, traces, model) for client in clients)
            for name, ids in requests.items():
                done.deleted[name] = self._erase_rows(name, ids)
            self._rewrite_log()
            erasure.rewrite_state(self.state)
            self._prove(done, traces, model, folders)
        with self.state.transaction() as tx:
            told = {key: value for key, value in done.to_dict().items() if key not in ("digest", "receipt")}
            tx.audit(now, actor, "erasure", done.digest, {"model": model or "all", **told})
        return done

    def _erase_rows(self, name: str, requests: frozenset[str]) -> Deleted:
        """Note first which grains are to be summarised again, since afterwards nothing tells which those are; and once
        more then, since another engine may have summarised them meanwhile."""
        config = self.config.models.get(name)
        grains = erasure.grains_of(self.log, name, config.grain, requests) if config else []
        self._count_again(name, grains)
        deleted = erasure.erase_rows(self.log, name, requests)
        self._count_again(name, grains)
        return deleted

    def _count_again(self, name: str, grains: Sequence[datetime]) -> None:
        if grains:
            with self.state.transaction() as tx:
                count_again(tx, name, grains)

    def _digest(self, subject: str) -> tuple[str, str]:
        """What stands for the subject, and the receipt."""
        secret = self.keys.all[0].secret if self.keys.all else secrets.token_bytes(32)
        digest = hashlib.blake2b(subject.encode(), key=secret, digest_size=16, person=b"erasure").hexdigest()
        return f"subject-{digest}", "" if self.keys.all else secret.hex()

    def _prove(self, done: Erasure, traces: erasure.Traces, model: str | None, folders: Sequence[Path]) -> None:
        """Search every file of the store and of spools for the subject's names and for as many of its request ids as
        is feasible."""
        places = dict.fromkeys([self.store, *folders])
        size = sum(path.stat().st_size for place in places for path in place.rglob("*") if path.is_file())
        ids = sorted(one for one in traces.requests if len(one) >= SHORTEST)[: max(1, WORK // max(size, 1))]
        names = traces.long if model is None else ()
        done.looked_for = len(ids)
        found = [(place, search(place, [*names, *ids])) for place in places]
        done.searched = Searched(
            sum(one.files for _, one in found),
            sum(one.bytes for _, one in found),
            tuple(name if place == self.store else str(place / name) for place, one in found for name in one.found),
        )
