"""The demo's year: a model is trained on two months of flights, serves the other ten, and is watched.

The flights, their weather and their delays are real. Injected, on the dates below: a broken wind sensor, a slow
spell of the serving host, and a bad candidate that somebody ships past the gate. Latencies are simulated.
"""

from __future__ import annotations

import os
import shutil
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from watchkeeper import config
from watchkeeper.demo import flights
from watchkeeper.engine import Engine
from watchkeeper.errors import StateError
from watchkeeper.records import Action, ActionState, Incident, Rollout, RolloutState, Transition
from watchkeeper.registry import resolve
from watchkeeper.serving import FALLBACK, Server
from watchkeeper.store.backends import DuckDB
from watchkeeper.store.state import Transaction
from watchkeeper.windows import DAY, Window, show_time, starts

NAME = "flight-delays"
TRAINER = "watchkeeper.demo.model:train"
SEED = 2013
MARK = "demo-store"
"""A file in the store's folder that says that the demo made it and may begin it anew."""

GONE = ".gone-"
"""In the name of a demo store that is being deleted."""

TRAINING = Window(datetime(2013, 1, 1, tzinfo=UTC), datetime(2013, 3, 1, tzinfo=UTC))
HOLD_OUT = datetime(2013, 2, 15, tzinfo=UTC)
SERVING = Window(datetime(2013, 3, 1, tzinfo=UTC), datetime(2014, 1, 1, 6, tzinfo=UTC))
SENSOR = Window(datetime(2013, 8, 12, tzinfo=UTC), datetime(2013, 8, 19, tzinfo=UTC))
"""While it lasts, La Guardia's wind sensor is broken, and its unknown wind speed arrives as -999."""
SLOW = Window(datetime(2013, 11, 6, 14, tzinfo=UTC), datetime(2013, 11, 6, 22, tzinfo=UTC))
"""While it lasts, answers take eight times as long."""
BAD_CANDIDATE = datetime(2013, 10, 8, tzinfo=UTC)
"""From this day on, as soon as no other rollout runs, somebody ships a model trained on mixed-up labels."""

_MEDIAN_MS, _SPREAD = 18.0, 0.35


@dataclass
class Day:
    """A day of the story as it ends: what happened on it."""

    at: datetime
    flights: int
    transitions: list[Transition]


@dataclass(frozen=True)
class Event:
    """Something that happened in the year: `origin` says whether it is real, injected, or watchkeeper's own doing."""

    id: str
    origin: str
    what: str
    began: datetime
    noticed: datetime
    done: str


@dataclass
class Story:
    """The whole year: what happened, what was noticed when, what was done, and how fast it went."""

    events: list[Event] = field(default_factory=list)
    rows: Counter[str] = field(default_factory=Counter)
    seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))

    def to_dict(self) -> dict[str, Any]:
        rates = {hop: round(self.rows[hop] / self.seconds[hop]) for hop in self.rows if self.seconds[hop]}
        seconds = {hop: round(spent, 2) for hop, spent in self.seconds.items()}
        events = [{**asdict(e), "began": e.began.isoformat(), "noticed": e.noticed.isoformat()} for e in self.events]
        return {"events": events, "rows": dict(self.rows), "seconds": seconds, "rows_per_second": rates}


def prepare(store: Path) -> None:
    """Make way for a new demo store. Raises StateError if the folder holds anything that no demo made."""
    if store.exists():
        if not store.is_dir() or (not (store / MARK).is_file() and any(store.iterdir())):
            raise StateError(
                f"{store} is not empty and no demo made it; name another folder with --store, or empty this one"
            )
        DuckDB(store / "log.duckdb").close()  # raises if another process lives in it
        store.rename(store.with_name(f".{store.name}{GONE}{os.getpid()}"))
    # It goes under another name first, so that no half of it is ever begun from.
    for gone in store.parent.glob(f".{store.name}{GONE}*"):
        shutil.rmtree(gone, ignore_errors=True)
    store.mkdir(parents=True)
    (store / MARK).write_text("made by watchkeeper demo; it may be deleted at any time\n", encoding="utf-8")


class Demo:
    """The simulated year in a store. `days` runs it; `clock` tells the simulated time throughout.

    Args:
        training: what the first model learns from; its scores on the part after `hold_out` become the baseline.
        serving: the days that are lived through.
    """

    def __init__(
        self, store: Path, training: Window = TRAINING, hold_out: datetime = HOLD_OUT, serving: Window = SERVING
    ) -> None:
        prepare(store)
        self.training, self.hold_out, self.serving = training, hold_out, serving
        self.now = training.end
        source = resources.files("watchkeeper.demo") / "watchkeeper.yaml"
        self.config = config.loads(source.read_text(encoding="utf-8"))
        self.engine = Engine(store, self.config, self.clock, patience=timedelta(minutes=10))
        self.server = Server(self.engine.registry, NAME, self.config.models[NAME].fallback_score)
        self.story = Story()
        self._random = np.random.default_rng(SEED)
        self._work = store / "jobs"
        self._shipped = ""

    def clock(self) -> datetime:
        return self.now

    def load(self, table: pa.Table | None = None) -> None:
        """Read the flights, train the first champion and install it with its training data as the baseline.

        Args:
            table: other rows of the same columns, ordered by `event_time`.
        """
        with self._timed("read"):
            self.flights = flights.load() if table is None else table
            self._moments = self.flights.column("event_time").to_numpy()
            self.story.rows["read"] = self.flights.num_rows
        with self._timed("train"):
            known = self._between(self.training)
            early = pc.less(known.column("event_time"), _naive(self.hold_out))
            version = self._register(known.filter(early), "first", "the first champion")
            unseen = known.filter(pc.invert(early))
            scores = self.engine.registry.load(NAME, version).scores(unseen)
            blank = pa.nulls(known.num_rows - unseen.num_rows, pa.float64())
            score = pa.chunked_array([blank, pa.array(scores)])
            label = pa.chunked_array([blank.cast(pa.int32()), *unseen.column("label").chunks])
            reference = known.drop_columns(["label"]).append_column("score", score).append_column("label", label)
            self.engine.install(NAME, version, reference, actor="demo")

    def days(self) -> Iterator[Day]:
        """Serve each day's flights, deliver the labels of the day before, and let the engine tick at midnight."""
        seen: set[str] = set()
        for start in starts(self.serving, DAY):
            day = Window(start, min(start + DAY, self.serving.end))
            flown = self._serve(day)
            self._deliver_labels(Window(start - DAY, start))
            self.now = day.end
            tick = self.engine.tick()
            self.story.rows.update(tick.rows)
            for hop, spent in tick.seconds.items():
                self.story.seconds[hop] += spent
            self._ship_bad_candidate()
            with self.engine.state.snapshot() as tx:
                fresh = [t for t in tx.select(Transition, at=self.now) if t.id not in seen]
            seen.update(t.id for t in fresh)
            yield Day(self.now, flown, fresh)
        self.story.events = self._events()

    def close(self) -> None:
        self.engine.close()

    def _serve(self, day: Window) -> int:
        """Answer a day's flights, with what is broken that day, and log the answers."""
        rows = self._between(day)
        if not rows.num_rows:
            return 0
        moments = rows.column("event_time")
        broken = pc.and_(_within(moments, SENSOR), pc.equal(rows.column("origin"), "LGA"))
        wind = pc.if_else(broken, pa.scalar(-999.0), rows.column("wind_speed"))
        rows = rows.set_column(rows.column_names.index("wind_speed"), "wind_speed", wind)
        with self._timed("serve"):
            answers = self.server.predict(rows, rows.column("entity_id").to_pylist(), day.start)
        slow = np.where(_within(moments, SLOW).to_numpy(zero_copy_only=False), 8.0, 1.0)
        latency = self._random.lognormal(np.log(_MEDIAN_MS), _SPREAD, rows.num_rows) * slow
        logged = rows.drop_columns(["label"])
        for name, values in {
            "score": [
                None if v == FALLBACK else s for s, v in zip(answers.scores.tolist(), answers.variants, strict=True)
            ],
            "prediction": (answers.scores >= self.config.models[NAME].threshold).astype(np.int32),
            "version": answers.versions,
            "variant": answers.variants,
            "status": answers.statuses,
            "latency_ms": latency,
        }.items():
            logged = logged.append_column(name, pa.array(values))
        with self._timed("log"):
            self.story.rows["log"] += self.engine.log.append(NAME, logged).stored
        self.story.rows["serve"] += rows.num_rows
        flown: int = rows.num_rows
        return flown

    def _deliver_labels(self, day: Window) -> None:
        """The day's outcomes become known a day later; cancelled flights never get one."""
        known = self._between(day).select(["request_id", "label", "event_time"])
        known = known.filter(pc.is_valid(known.column("label")))
        when = pc.add(known.column("event_time"), pa.scalar(DAY, pa.duration("us")))
        with self._timed("log"):
            outcomes = known.drop_columns(["event_time"]).append_column("known_at", when)
            self.story.rows["log"] += self.engine.log.append_outcomes(NAME, outcomes).stored

    def _ship_bad_candidate(self) -> None:
        """Somebody ships a model trained on mixed-up labels, once no other rollout runs."""
        if self.now < BAD_CANDIDATE or self._shipped:
            return
        with self.engine.state.snapshot() as tx:
            if tx.select(Rollout, state=RolloutState.RUNNING):
                return
        rows = self._between(Window(self.now - 60 * DAY, self.now - DAY))
        rows = rows.filter(pc.is_valid(rows.column("label")))
        mixed = pa.array(self._random.permutation(1 - rows.column("label").to_numpy()))
        rows = rows.set_column(rows.column_names.index("label"), "label", mixed)
        version = self._register(rows, "bad", "trained on mixed-up labels and shipped past the gate")
        self.engine.offer(NAME, version, actor="somebody in a hurry")
        self._shipped = version

    def _register(self, rows: pa.Table, name: str, note: str) -> str:
        rows = rows.filter(pc.is_valid(rows.column("label")))
        files = self._work / name
        files.mkdir(parents=True)
        loader = resolve(TRAINER)(rows, files)
        return self.engine.registry.add(NAME, files, loader, {"note": note, "rows": rows.num_rows}).version

    def _between(self, window: Window) -> pa.Table:
        moments = self._moments
        first, last = np.searchsorted(
            moments, [np.datetime64(at.replace(tzinfo=None)) for at in (window.start, window.end)]
        )
        return self.flights.slice(first, last - first)

    @contextmanager
    def _timed(self, hop: str) -> Iterator[None]:
        begun = time.perf_counter()
        yield
        self.story.seconds[hop] += time.perf_counter() - begun

    def _events(self) -> list[Event]:
        """What happened in the year, in the order in which it began."""
        with self.engine.state.snapshot() as tx:
            found = [
                *(_of_incident(incident, tx) for incident in tx.select(Incident)),
                *(_of_refusal(action) for action in tx.select(Action, state=ActionState.REFUSED)),
                *(_of_rollout(rollout, rollout.candidate == self._shipped) for rollout in tx.select(Rollout)),
            ]
        return sorted(found, key=lambda event: (event.began, event.noticed))


def _of_incident(incident: Incident, tx: Transaction) -> Event:
    injected = {("sentinel values", "wind_speed"): SENSOR, ("service", "latency_ms"): SLOW}
    columns = {signal["column"] for signal in incident.signals.values()}
    spells = [spell for (cause, column), spell in injected.items() if cause == incident.cause and column in columns]
    caused = any(spell.start - DAY < incident.since < spell.end for spell in spells)
    acted = [action for action in tx.select(Action, model=incident.model) if incident.id in action.because]
    done = [f"retrained as {action.detail['version']}" for action in acted if action.state is ActionState.DONE]
    over = incident.resolved_at
    done.append(f"over {show_time(over)[:10]}" if over else f"still {incident.state}")
    return Event(
        incident.id, "injected" if caused else "real", f"{incident.severity} {incident.title}", incident.since,
        incident.opened_at, ", ".join(done),
    )  # fmt: skip


def _of_refusal(action: Action) -> Event:
    return Event(
        action.id, "action", "Retraining", action.planned_at, action.planned_at,
        f"candidate refused on the hold-out: {action.detail['note']}",
    )  # fmt: skip


def _of_rollout(rollout: Rollout, bad: bool) -> Event:
    served = f"{rollout.looks[-1]['n_candidate'] if rollout.looks else 0:,} flights"
    breached = " and ".join(rollout.looks[-1]["breached"]) if rollout.looks else ""
    done = {
        RolloutState.PROMOTED: f"proven on {served}, promoted",
        RolloutState.ROLLED_BACK: f"rolled back after {served}: {breached or 'not proven in time'}",
        RolloutState.RUNNING: f"at {rollout.share:.0%} of the traffic, {served} so far",
    }[rollout.state]
    what = f"{'Bad candidate' if bad else 'Candidate'} {rollout.candidate} against {rollout.champion}"
    origin = "injected" if bad else "action"
    return Event(rollout.id, origin, what, rollout.started_at, rollout.ended_at or rollout.started_at, done)


def _within(moments: pa.ChunkedArray, window: Window) -> pa.ChunkedArray:
    return pc.and_(pc.greater_equal(moments, _naive(window.start)), pc.less(moments, _naive(window.end)))


def _naive(at: datetime) -> pa.Scalar:
    return pa.scalar(at.replace(tzinfo=None), pa.timestamp("us"))
