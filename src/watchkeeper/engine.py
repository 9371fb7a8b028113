"""The engine: one tick takes events through the eight hops, from the inbox to a proven model."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa

from watchkeeper import (
    accounts,
    actions,
    audit,
    channels,
    diagnosis,
    expecting,
    incidents,
    keeping,
    measuring,
    monitors,
    notify,
    summarising,
    timeline,
    traffic,
)
from watchkeeper.errors import ConflictError, StateError
from watchkeeper.incidents import ENGINE
from watchkeeper.monitors import Watch
from watchkeeper.recording import Recorder
from watchkeeper.records import (
    Action,
    ActionState,
    Incident,
    IncidentState,
    Point,
    Rollout,
    Transition,
    Verdict,
    place,
)
from watchkeeper.registry import Registry
from watchkeeper.schema import Config, ModelConfig
from watchkeeper.store import log, places, privacy
from watchkeeper.store.arrivals import Batch
from watchkeeper.store.inbox import Inbox
from watchkeeper.store.state import Transaction
from watchkeeper.store.warehouse import Warehouse
from watchkeeper.tick import Tick

_log = logging.getLogger(__name__)
SAMPLED = 3
"""Columns of an incident that sample predictions are kept for."""


class Engine:
    """Keeps the models of one configuration. Any number of ticks, at any time, in any order, do no harm.

    Args:
        store: the folder that holds everything: `state.db`, `log.duckdb`, `inbox/`, `registry/`, `jobs/`; the first
            two are elsewhere where the configuration says so.
        config: the configuration in force.
        clock: what time it is; simulated in tests and in the demo.
        patience: how long a tick waits for a training process; else later ticks find its result.
    """

    def __init__(
        self,
        store: Path,
        config: Config,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        patience: timedelta = timedelta(0),
    ) -> None:
        self.store, self.config, self.clock, self.patience = store, config, clock, patience
        self.channels, self.keys = channels.build(config), privacy.load_keys(config.privacy, store)
        self.checkpoints = audit.Checkpoints(store, config.audit)
        self.watches = {name: [*monitors.plan(model), *monitors.shown(model)] for name, model in config.models.items()}
        self.held = places.Held(store) if config.store.events else None
        self.log = log.Log(places.open_events(config.store, store))  # first, since it may be another engine's
        self.state = places.open_state(config.store, store)
        self.inbox = Inbox(store, lambda event: privacy.protect_event(event, config, self.keys))
        self.inbox.sweep()
        self.registry = Registry(store / "registry")
        self.retraining = actions.Retraining(self.state, self.log_of, self.registry, config, store / "jobs")
        self.expecting = expecting.Expecting(store, self.state, self.log_of, self.registry)
        if any(model.estimation == "features" for model in config.models.values()):
            expecting.load()
        self.keeping = keeping.Keeping(store, self.state, self.log, self.inbox, config, self.keys)
        self._turn = threading.Lock()
        self.tables = {name: Warehouse(name, m, m.events) for name, m in config.models.items() if m.events}
        logs = {name: self.log_of(name) for name in config.models}
        for name, model in config.models.items():
            logs[name].open_model(name, model)
        self.recorder = Recorder(self.inbox, self.state, logs, config, self.keys, clock)
        with self.state.transaction() as tx:
            if tx.put_config(config.version, config.model_dump(mode="json"), clock(), ENGINE):
                tx.audit(clock(), ENGINE, "config", config.version, {"models": sorted(config.models)})

    def log_of(self, name: str) -> log.Log:
        """Where the events of a model are."""
        return self.tables.get(name, self.log)

    def close(self) -> None:
        for table in self.tables.values():
            table.close()
        self.log.close()
        self.state.close()
        if self.held:
            self.held.close()

    def tick(self) -> Tick:
        """The eight hops, in order. What they decide is written before anything is done about it, so a process
        that dies between two hops, or two processes that tick at once, lose nothing and double nothing."""
        with self._turn:
            return self._tick()

    def _tick(self) -> Tick:
        now, tick = self.clock(), Tick()
        with tick.timed("record"):  # 1. events in the inbox become rows of the log
            self.recorder.replay(tick, now)
            self.record(tick)
            self.recorder.join(tick, now)
            accounts.add(self.state, tick.counted)
        for name, model in self.config.models.items():
            with tick.timed("summarise"):  # 2. grains that received rows become profiles
                self._summarised(name, model, tick)
                if name not in self.tables:
                    accounts.look(self.state, self.log, name, now)
            if model.estimation == "features":
                with tick.timed("estimate"):  # what is expected of rows without labels becomes profiles beside theirs
                    tick.rows["estimate"] += self.expecting.expect(name, model, now)
            with tick.timed("judge"), self.state.transaction() as tx:
                points = self.measure(tx, name, model, now)  # 3. profiles become points
                verdicts = self.judge(tx, model, points, tick)  # 4. points become verdicts
                self.gather(tx, name, model, points, verdicts, now)  # 5. verdicts become incidents
        with tick.timed("tell"):  # 6. what happened reaches the channels
            self.tell(now)
        with tick.timed("keep"):  # what is to be kept no longer goes, seldom
            for gone in self.keeping.retain(now).values():
                tick.rows["expire"] += gone.predictions
            self.checkpoints.make(self.state, now)
        for name, model in self.config.models.items():
            with tick.timed("act"):  # 7. incidents become actions: a candidate is trained and gated
                self.act(name, model, now)
            with tick.timed("prove"):  # 8. the candidate earns its traffic, or goes back
                self.prove(name, now)
        return tick

    def take_in(self) -> Tick:
        """The first hop alone, for between two ticks."""
        tick = Tick()
        with self._turn, tick.timed("record"):
            self.record(tick)
            accounts.add(self.state, tick.counted)
        return tick

    # 1. record

    def record(self, tick: Tick) -> None:
        """Take what waits in the inbox into the log."""
        self.recorder.record(tick)

    def protect(self, batch: Batch) -> Batch:
        """A batch as it may be stored: what the configuration calls sensitive is protected."""
        return self.recorder.protect(batch)

    # 2. summarise

    def _summarised(self, name: str, model: ModelConfig, tick: Tick) -> None:
        """Summarise; a table of others that cannot be read now holds up no other model, and is read by a later tick."""
        try:
            self.summarise(name, model, tick)
        except StateError as problem:
            if name not in self.tables:
                raise
            tick.rows["unreadable"] += 1
            _log.warning("the events of %s are read again at the next tick: %s", name, problem)

    def summarise(self, name: str, model: ModelConfig, tick: Tick) -> None:
        """Add what came since the last time to the profiles of its grains."""
        with self.state.transaction() as tx:
            tick.rows["summarise"] += summarising.summarise(tx, self.log_of(name), name, model, self.clock())

    # 3. measure

    def measure(self, tx: Transaction, name: str, model: ModelConfig, now: datetime) -> list[tuple[Watch, Point]]:
        """Take every look that is due; see `measuring.measure`."""
        return measuring.measure(tx, name, model, self._watches(tx, name, model), now, self.config.version)

    def _watches(self, tx: Transaction, name: str, model: ModelConfig) -> list[Watch]:
        """The looks of a model, those at segments included once it is known which there are."""
        if model.segments:
            return [*monitors.plan(model, traffic.segments(tx, name, model)), *monitors.shown(model)]
        return self.watches[name]

    # 4. judge

    def judge(
        self, tx: Transaction, model: ModelConfig, points: Sequence[tuple[Watch, Point]], tick: Tick
    ) -> list[Verdict]:
        """Hold each monitored point against its limit; keep points and verdicts."""
        verdicts = [
            monitors.judge(watch.monitor, watch.metric, point, model.label_coverage)
            for watch, point in points
            if watch.monitor is not None
        ]
        tx.put([point for _, point in points])
        tx.put(verdicts)
        tick.rows["judge"] += len(points)
        return verdicts

    # 5. gather

    def gather(
        self,
        tx: Transaction,
        name: str,
        model: ModelConfig,
        points: Iterable[tuple[Watch, Point]],
        verdicts: Iterable[Verdict],
        now: datetime,
    ) -> None:
        """Open, update and resolve incidents, one look after the other, each with its evidence."""
        starts_of = {point.id: point.detail["began"] for _, point in points if point.detail.get("began")}
        began = {v.id: datetime.fromisoformat(starts_of[v.because[0]]) for v in verdicts if v.because[0] in starts_of}
        self._retire(tx, name, now)
        by_end: dict[datetime, list[Verdict]] = {}
        for verdict in verdicts:
            by_end.setdefault(verdict.window.end, []).append(verdict)
        for _, looked in sorted(by_end.items()):
            present = sorted(tx.select(Incident, model=name), key=lambda i: (i.opened_at, i.last_breach))
            for incident, steps in incidents.gather(
                looked, present, now, model.grain_length, model.resolve_after, began
            ):
                if steps and incident.state is not IncidentState.RESOLVED:
                    incident = replace(incident, evidence=self._evidence(tx, incident))
                if steps and steps[0].before == incidents.NEW:
                    tx.put([incident])
                else:
                    tx.change(incident)
                timeline.write(tx, steps, self.config, now)

    def _retire(self, tx: Transaction, name: str, now: datetime) -> None:
        """End the incidents of which nothing is watched any more: no verdict will ever be given on them."""
        watches = self._watches(tx, name, self.config.models[name])
        watched = {incidents.key(w.monitor.name, w.column, w.segment) for w in watches if w.monitor}
        for incident in tx.select(Incident, model=name, state=[IncidentState.OPEN, IncidentState.ACKNOWLEDGED]):
            if not watched & set(incident.signals):
                note = "its monitors are no longer in the configuration"
                ended, step = incidents.resolve(incident, now, ENGINE, note)
                tx.change(ended)
                timeline.write(tx, [step], self.config, now)

    def _evidence(self, tx: Transaction, incident: Incident) -> dict[str, Any]:
        """Why: the points behind the signals, ranked and in words, and predictions that show it."""
        verdicts = tx.select(Verdict, id=[signal["verdict"] for signal in incident.signals.values()])
        points = {point.id: point for point in tx.select(Point, id=[v.because[0] for v in verdicts])}
        evidence = diagnosis.explain(incident, {v.id: points[v.because[0]] for v in verdicts})
        windows = {(v.column, v.segment): v.window for v in verdicts}
        segments = {name: one for one in tx.segmentations(incident.model) for name in one.names}
        strongest: dict[str, dict[str, Any]] = {}
        for found in evidence["columns"]:
            strongest.setdefault(found["column"], found)
        samples = {}
        for column, shown in [*strongest.items()][:SAMPLED]:
            segment, order = shown["segment"], diagnosis.sample_order(shown["metric"], incident.cause)
            within = (segments[segment], segment) if segment else None
            samples[place(column, segment)] = self.log_of(incident.model).samples(
                incident.model, windows[column, segment], order, column, within=within
            )
        return {**evidence, "samples": samples}

    def acknowledge(self, incident_id: str, actor: str, note: str = "") -> None:
        """A person takes an incident on."""
        self._by_hand(incident_id, incidents.acknowledge, actor, note)

    def resolve(self, incident_id: str, actor: str, note: str = "") -> None:
        """A person declares an incident over."""
        self._by_hand(incident_id, incidents.resolve, actor, note)

    def _by_hand(self, incident_id: str, change: ByHand, actor: str, note: str) -> None:
        now = self.clock()
        with self.state.transaction() as tx:
            incident, step = change(tx.get(Incident, incident_id), now, actor, note)
            tx.change(incident)
            timeline.write(tx, [step], self.config, now)

    # 6. tell

    def tell(self, now: datetime) -> None:
        """Send what is due to its channels."""
        notify.deliver(self.state, self.channels, now)

    # 7. act

    def act(self, name: str, model: ModelConfig, now: datetime) -> None:
        """Plan what the open incidents ask for, start what is planned, and conclude what has ended."""
        with self.state.transaction() as tx:
            past, rolled = tx.select(Action, model=name), tx.select(Rollout, model=name)
            found = tx.select(Incident, model=name)
            asked = actions.plan(name, model, self.config.version, found, past, rolled, now)
            planned = asked if tx.champions(name) else []  # with no champion there is nothing to compare with
            tx.put(planned)
            timeline.write(tx, [actions.step(None, action, now) for action in planned], self.config, now)
            todo = tx.select(Action, model=name, state=actions.UNDER_WAY)
        for action in todo:
            with suppress(ConflictError):  # another worker has it
                if action.state is ActionState.PLANNED:
                    action = self.retraining.start(action, now, self.patience)
                if action.state is ActionState.RUNNING:
                    self.retraining.finish(action, now, self.patience)

    # 8. prove

    def prove(self, name: str, now: datetime) -> None:
        """Compare the arms of a running rollout, decide, and make the traffic follow."""
        with self.state.transaction() as tx:
            traffic.prove(tx, self.config, name, now)
        self._steer(name)

    def _steer(self, name: str) -> None:
        """Make the traffic follow what was decided and is written; whoever ticks next does it if this process dies."""
        with self.state.transaction() as tx:
            traffic.steer(tx, name, self.registry)

    # by hand

    def erase(
        self, subject: str, model: str | None = None, actor: str = ENGINE, spools: Sequence[Path] = ()
    ) -> keeping.Erasure:
        """Erase a subject from everything that is stored; see `Keeping.erase`. Events that wait are taken in first."""
        with self._turn:
            tick = Tick()
            self.record(tick)
            accounts.add(self.state, tick.counted)
            self.inbox.sweep()
            self.expecting.forget()
            done = self.keeping.erase(subject, model, self.clock(), actor, spools)
            self.checkpoints.make(self.state, self.clock(), at_once=True)  # the record may be sealed anew
            return done

    def compact(self) -> bool:
        """Write the log anew, so that what was deleted takes no space, if there is anything; whether it was."""
        with self._turn:
            return self.keeping.compact(most=0)

    def install(self, name: str, version: str, reference: pa.Table, actor: str = ENGINE) -> None:
        """Make a version the model's first champion; see `traffic.install`. The data are protected like logged ones."""
        reference = privacy.protect(reference, self.config.models[name], self.keys)
        with self.state.transaction() as tx:
            traffic.install(tx, self.config, name, version, reference, self.clock(), actor)
        self.expecting.keep(name, self.config.models[name], version, reference)
        self._steer(name)

    def refer(self, name: str, version: str, reference: pa.Table) -> None:
        """Give the rows of an installed version's reference, for a model that estimates from features only now."""
        reference = privacy.protect(reference, self.config.models[name], self.keys)
        self.expecting.keep(name, self.config.models[name], version, reference)

    def offer(self, name: str, version: str, actor: str) -> Rollout:
        """Begin the rollout of a registered version that no gate has seen: its share of the traffic judges it."""
        route = self.registry.route(name)
        if route is not None and route.champion in self.registry.versions(name):
            self.registry.manifest(name, version)  # what serves from the registry can only give way to what is in it
        with self.state.transaction() as tx:
            rollout = traffic.offer(tx, self.config, name, version, self.clock(), actor=actor)
        self._steer(name)
        return rollout


ByHand = Callable[[Incident, datetime, str, str], tuple[Incident, Transition]]
