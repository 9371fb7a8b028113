"""A small world for the engine: one model, two features, 200 rows a day that are the same each day, a clock to set.

Its stories read `world.at(day).want(...)`: the clock is set, the engine ticks, and the steps that this brought are
those that are wanted, no more and no fewer.
"""

from __future__ import annotations

import atexit
import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp
from typing import Any

import pyarrow as pa

from watchkeeper.channels import Notice
from watchkeeper.engine import Engine, Tick
from watchkeeper.records import Action, Delivery, Incident, Point, Rollout, Transition, Verdict
from watchkeeper.schema import Config
from watchkeeper.settings import StoreConfig
from watchkeeper.store.state import verify
from watchkeeper.windows import DAY, Window

START = datetime(2024, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
ROWS = 200
NAME, CHAMPION = "loans", "base"
Event = dict[str, Any]

MONITORS = [
    {"name": "sentinel values", "metric": "sentinel_rate", "columns": "features", "above": 0.005, "severity": "P1"},
    {"name": "missing values", "metric": "null_rate", "columns": "features", "above": 0.05, "severity": "P1"},
    {"name": "log loss", "metric": "log_loss", "above": 0.1, "relative": "difference", "severity": "P1"},
    {"name": "errors", "metric": "error_rate", "above": 0.05, "severity": "P0"},
]


def config(**settings: Any) -> Config:
    model = {
        "columns": {"amount": {"kind": "numeric"}, "country": {"kind": "categorical"}},
        "monitors": MONITORS,
        "resolve_after": "2d",
        **settings,
    }
    return Config.model_validate({"models": {NAME: model}, "channels": {"ops": {"type": "console"}}})


def in_postgres(settings: Config, url: str) -> Config:
    """The configuration with its state and its events in a database."""
    return settings.model_copy(update={"store": StoreConfig(state=url, events=url)})


def moment(day: float) -> datetime:
    return START + timedelta(days=day)


def values(i: int) -> dict[str, Any]:
    """What row number `i` of any day holds; a share `score` of the rows has the label 1."""
    score = round(0.1 + 0.8 * (i * 7 % 100) / 100, 4)
    return {
        "amount": float(i * 37 % 101) + 0.5,
        "country": ("DE", "FR", "NL")[i % 3],
        "score": score,
        "label": int((i * 61 % 97) / 97 < score),
    }


def reference(days: int = 5) -> pa.Table:
    rows = [values(i) for _ in range(days) for i in range(ROWS)]
    return pa.table({name: [row[name] for row in rows] for name in rows[0]})


def prediction(i: int, day: int, at: datetime | None = None, version: str = CHAMPION, name: str = NAME) -> Event:
    row = values(i)
    return {
        "kind": "prediction",
        "model": name,
        "request_id": f"{day}-{i}",
        "event_time": (at or moment(day) + timedelta(seconds=86_000 * i / ROWS)).isoformat(),
        "version": version,
        "score": row["score"],
        "latency_ms": 10.0 + i % 5,
        "status": "ok",
        "features": {"amount": row["amount"], "country": row["country"]},
    }


def outcome(i: int, day: int, label: int | None = None) -> Event:
    label = values(i)["label"] if label is None else label
    known = moment(day) + timedelta(hours=23)
    return {"kind": "outcome", "model": NAME, "request_id": f"{day}-{i}", "label": label, "known_at": known.isoformat()}


class Recorder:
    """A channel that remembers what it was given."""

    def __init__(self) -> None:
        self.notices: list[Notice] = []

    def send(self, notice: Notice, now: datetime) -> None:
        self.notices.append(notice)


@cache
def _installed(settings: str) -> Path:
    """A store in which the champion was just installed, made once for each configuration."""
    folder = Path(mkdtemp(prefix="watchkeeper-small-world-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    engine = Engine(folder, Config.model_validate_json(settings), clock=lambda: START)
    engine.install(NAME, CHAMPION, reference(), actor="tests")
    engine.close()
    return folder


@dataclass
class World:
    folder: Path
    settings: Config = field(default_factory=config)
    referred: bool = True
    patience: timedelta = timedelta(0)
    now: datetime = START

    def __post_init__(self) -> None:
        self.told = Recorder()
        self.seen: set[str] = set()
        elsewhere = self.settings.store.state
        if self.referred and not elsewhere and not (self.folder / "state.db").exists():
            shutil.copytree(_installed(self.settings.model_dump_json()), self.folder, dirs_exist_ok=True)
        self.open()
        if self.referred and elsewhere and not self.champions():
            self.engine.install(NAME, CHAMPION, reference(), actor="tests")

    def open(self) -> None:
        self.engine = Engine(self.folder, self.settings, clock=lambda: self.now, patience=self.patience)
        self.engine.channels = dict.fromkeys(self.engine.channels, self.told)

    def reopen(self) -> None:
        self.engine.close()
        self.open()

    # what happens

    def day(self, *days: int, change: Callable[[Event], None] = lambda _: None, labels: bool = True) -> None:
        """Predictions of whole days arrive, each perhaps changed, and their labels."""
        for day in days:
            made = [prediction(i, day) for i in range(ROWS)]
            for event in made:
                change(event)
            self.engine.inbox.put(made)
            if labels:
                self.labels(day)

    def register(self) -> str:
        """A version that answers 0.5 to all; its name."""
        with TemporaryDirectory() as folder:
            (Path(folder) / "rule.json").write_text('{"kind": "constant", "value": 0.5}')
            return self.engine.registry.add(NAME, Path(folder), "toy_trainer:load", {}).version

    def labels(self, *days: int, wrong: bool = False) -> None:
        for day in days:
            self.engine.inbox.put([outcome(i, day, 1 - values(i)["label"] if wrong else None) for i in range(ROWS)])

    def at(self, day: float) -> Seen:
        """Set the clock and tick."""
        self.now = moment(day)
        tick = self.engine.tick()
        steps = [step for step in self.rows(Transition) if step.id not in self.seen]
        self.seen |= {step.id for step in steps}
        return Seen(self, tick, steps)

    # what is found

    def rows(self, kind: type, **where: Any) -> list[Any]:
        with self.engine.state.transaction() as tx:
            return tx.select(kind, **where)

    def champions(self) -> list[str]:
        with self.engine.state.transaction() as tx:
            return [version for _, version in tx.champions(NAME)]

    def verdict(self, monitor: str, day: float, column: str | None = None) -> Verdict:
        """The one that a monitor gave at the end of a day."""
        [found] = [
            verdict
            for verdict in self.rows(Verdict, monitor=monitor, window_end=moment(day))
            if column in (None, verdict.column)
        ]
        return found

    def incident(self, cause: str) -> Incident:
        [found] = self.rows(Incident, cause=cause)
        return found

    def rejects(self) -> list[dict[str, Any]]:
        files = sorted(self.engine.inbox.rejects.glob("*.ndjson"))
        return [json.loads(line) for path in files for line in path.read_text().splitlines()]

    def counted(self, day: int, column: str = "amount") -> int:
        """Rows in the stored profiles of a day."""
        with self.engine.state.transaction() as tx:
            kept = tx.profiles(NAME, Window(moment(day), moment(day) + DAY), column=column, label="")
        return sum(profile.n for _, profile in kept)


@dataclass
class Seen:
    """What a tick brought."""

    world: World
    tick: Tick
    steps: list[Transition]

    def want(self, *wanted: str) -> Seen:
        """The new steps, in order, each as `what: before to after, since day`."""
        assert [self._told(step) for step in self.steps] == list(wanted)
        return self

    def _told(self, step: Transition) -> str:
        kind = step.subject.partition("-")[0]
        if kind != "incident":
            return f"{kind}: {step.before} to {step.after}"
        [incident] = self.world.rows(Incident, id=step.subject)
        columns = "+".join(sorted({signal["column"] for signal in incident.signals.values()}))
        return f"{incident.cause} of {columns} since {(incident.since - START) / DAY:g}: {step.before} to {step.after}"


def sentinel(event: Event) -> None:
    """Every fifth amount is unknown, and written as -999."""
    if int(event["request_id"].partition("-")[2]) % 5 == 0:
        event["features"]["amount"] = -999


def state_of(engine: Engine) -> dict[str, Any]:
    """All that must come out the same, whatever was interrupted on the way; claims and attempts may differ."""
    with engine.state.transaction() as tx:
        found: dict[str, Any] = {
            kind.__name__: {row.id: row for row in tx.select(kind)}
            for kind in (Point, Verdict, Incident, Transition, Action, Rollout)
        }
        found["deliveries"] = {d.id: d.state for d in tx.select(Delivery)}
        found["champions"] = [version for _, version in tx.champions(NAME)]
        trail = tx.audit_trail()
        for ends in (None, Window(moment(-1), moment(1000))):
            kept = tx.profiles(NAME, ends)
            found[f"profiles {ends}"] = {key.id: profile.to_bytes() for key, profile in kept}
    assert verify(trail) is None
    entries = [(entry.actor, entry.kind, entry.subject, json.dumps(entry.payload)) for entry in trail]
    found["audit"] = sorted(entry for entry in entries if entry[1] in ("transition", "install", "offer"))
    found["Action"] = {id: replace(action, revision=0) for id, action in found["Action"].items()}
    found["totals"] = engine.log.totals(NAME)
    route = engine.registry.route(NAME)
    found["route"] = route and asdict(route)
    found["waiting"] = (
        sorted(path.name for path in engine.inbox.folder.glob("*")) if engine.inbox.folder.exists() else []
    )
    return found
