"""A real server under the load of real programs, which are killed: what was acknowledged must be in its log, once.

Each story is run in a folder of its own and gives its `Counts`. All that is random comes of the story's seed; when a
process is at which step is up to the machine, and so is what a kill hits.
"""

from __future__ import annotations

import json
import os
import random
import resource
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic, sleep
from typing import Any

import pyarrow.parquet
import yaml

import forked
import load_writer
from load_writer import MODEL, Writing, labelled
from own_postgres import OwnPostgres
from small_world import reference
from watchkeeper import Client, cli, config, events
from watchkeeper.engine import Engine
from watchkeeper.store.inbox import FORMS
from watchkeeper.windows import Window

PATIENCE = 60.0
"""Seconds that anything may take that a machine under load does in a few."""
PORTS = range(20_000, 32_000)
"""Below those that the system gives to connections: one of them could take the port of a server that is dead."""
SETTINGS: dict[str, Any] = {
    "models": {
        MODEL: {
            "columns": {"amount": {"kind": "numeric"}, "country": {"kind": "categorical"}},
            "grain": "1h",
            "reference": "reference.parquet",
            "champion": "base",
            "kpis": {load_writer.PAID: {}},
            "monitors": [{"name": "errors", "metric": "error_rate", "above": 0.5, "severity": "P2"}],
        }
    }
}


@dataclass
class Counts:
    """What a story came to: events (predictions, outcomes and KPIs) that were acknowledged, that are not in the log,
    that are there more than once, and by how much the profiles are off."""

    kills: int = 0
    acked: int = 0
    lost: int = 0
    doubled: int = 0
    stored: int = 0
    miscounted: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(*(a + b for a, b in zip(asdict(self).values(), asdict(other).values(), strict=True)))


class Server:
    """`watchkeeper serve` on a store, in a process of its own.

    Args:
        store: the folder of the store, if it is to be elsewhere.
        databases: where state and events are, if not in the store.
        serve: the command line, or what is in its place.
    """

    def __init__(
        self,
        folder: Path,
        seed: int,
        store: Path | None = None,
        databases: dict[str, str] | None = None,
        serve: Callable[[list[str]], None] = cli.app,
    ) -> None:
        self.folder, self.store, self.kills, self._serve = folder, store or folder / "store", 0, serve
        self.port = _free_port(random.Random(seed))
        self.url = f"http://127.0.0.1:{self.port}"
        self._process: BaseProcess | None = None
        self.config = folder / "watchkeeper.yaml"
        self.config.write_text(yaml.safe_dump(SETTINGS | ({"store": databases} if databases else {})))
        pyarrow.parquet.write_table(reference(), folder / "reference.parquet")

    @property
    def pid(self) -> int:
        assert self._process is not None
        assert self._process.pid is not None
        return self._process.pid

    def start(self) -> None:
        arguments = ["serve", "--store", self.store, "--config", self.config, "--port", self.port, "--every", 1]
        self._process = forked.begin(self._serve, self.folder / "server.txt", [str(argument) for argument in arguments])

    def ready(self) -> None:
        """Return once it answers."""
        until = monotonic() + PATIENCE
        while monotonic() < until:
            self._check()
            try:
                with urllib.request.urlopen(f"{self.url}/healthz", timeout=1):
                    return
            except OSError:
                sleep(0.02)
        raise AssertionError(f"the server is not ready:\n{self.said()}")

    def drained(self) -> None:
        """Return once the engine has taken in what waits, that is, what waits now."""
        until = monotonic() + PATIENCE
        first = {path.name for path in self._waiting()}
        while first & {path.name for path in self._waiting()}:
            self._check()
            assert monotonic() < until, f"the engine does not take in what waits:\n{self.said()}"
            sleep(0.1)

    def _waiting(self) -> list[Path]:
        return [path for path in (self.store / "inbox").glob("*") if path.suffix in FORMS]

    def kill(self) -> None:
        self._check()
        forked.kill(self._process)
        self._process = None
        self.kills += 1

    def end(self) -> None:
        if self._process is not None:
            forked.kill(self._process)

    def _check(self) -> None:
        assert self._process is not None, "the server is not started"
        assert self._process.is_alive(), f"the server ended by itself:\n{self.said()}"

    def said(self) -> str:
        return (self.folder / "server.txt").read_text()[-4000:]


@dataclass
class Writers:
    """The programs that log, and what they noted."""

    folder: Path
    start: datetime = field(
        default_factory=lambda: (datetime.now(UTC) - timedelta(hours=24)).replace(minute=0, second=0, microsecond=0)
    )
    running: dict[str, BaseProcess] = field(default_factory=dict)
    spools: set[Path] = field(default_factory=set)
    seen_in_spools: set[tuple[str, str]] = field(default_factory=set)

    @property
    def stop(self) -> Path:
        return self.folder / "stop"

    def begin(self, how: str, target: str, name: str, key: str = "", spool: bool = False, **how_much: int) -> None:
        """Start a writer. It is known by `key`, if another one has the same name; its lives share a spool."""
        key = key or name
        assert key not in self.running
        place = self.folder / f"spool-{key.partition('.')[0]}" if spool else None
        if place:
            self.spools.add(place)
        writing = Writing(
            how, target, name, str(self.folder / f"journal-{key}"), str(self.stop), self.start.isoformat(),
            spool=place and str(place), **how_much,
        )  # fmt: skip
        self.running[key] = forked.begin(load_writer.write, self.folder / f"writer-{key}.txt", writing)

    def busy(self) -> None:
        """Return once each of them has noted something."""
        until = monotonic() + PATIENCE
        for key, process in self.running.items():
            while not any(not line.endswith(" 0") for line in self.journal(key).split("\n")[:-1]):
                assert process.is_alive(), f"{key} ended by itself:\n{self.said(key)}"
                assert monotonic() < until, f"{key} gets nothing acknowledged:\n{self.said(key)}"
                sleep(0.05)

    def journal(self, key: str) -> str:
        path = self.folder / f"journal-{key}"
        return path.read_text() if path.exists() else ""

    def kill(self, key: str) -> None:
        process = self.running.pop(key)
        assert process.is_alive(), f"{key} ended by itself:\n{self.said(key)}"
        forked.kill(process)
        self.look_into_spools()

    def look_into_spools(self) -> None:
        """What whole lines are in the spools: they are on disk, and must arrive."""
        for path in (path for spool in self.spools for path in spool.rglob("*.ndjson")):
            for line in path.read_bytes().split(b"\n")[:-1]:
                event = json.loads(line)
                self.seen_in_spools.add((event["kind"], event["request_id"]))

    def end(self) -> None:
        """Let all of them send what they have; they must end well."""
        self.stop.touch()
        for key, process in self.running.items():
            process.join(3 * PATIENCE)
            assert process.exitcode == 0, f"{key} ended with {process.exitcode}:\n{self.said(key)}"
        self.running.clear()
        self.stop.unlink()

    def end_all(self) -> None:
        for process in self.running.values():
            forked.kill(process)

    def said(self, key: str) -> str:
        return (self.folder / f"writer-{key}.txt").read_text()[-4000:]

    def empty_spools(self, url: str) -> None:
        """What a client left on the disk when it ended, the next one sends."""
        for spool in self.spools:
            with Client(url, model=MODEL, version="base", spool=spool):
                until = monotonic() + PATIENCE
                while any(spool.rglob("*.ndjson")) and monotonic() < until:
                    sleep(0.1)

    def acknowledged(self) -> dict[str, set[str]]:
        """The request ids of each kind of event that was acknowledged."""
        found: dict[str, set[str]] = {kind: set() for kind in events.FIELDS}
        for kind, request_id in self.seen_in_spools:
            found[kind].add(request_id)
        for path in self.folder.glob("journal-*"):
            spans: dict[tuple[str, str], list[tuple[int, int]]] = {}
            for line in path.read_text().splitlines():
                kind, name, first, end = line.split()
                spans.setdefault((kind, name), []).append((int(first), int(end)))
            for (kind, name), some in spans.items():
                numbers = {n for first, end in _joined(some) for n in _of(kind, first, end)}
                found[kind].update(f"{name}-{number}" for number in numbers)
        return found


@contextmanager
def at_work(folder: Path, seed: int, **how: Any) -> Iterator[tuple[Server, Writers]]:
    """A server that answers, and writers that are yet to begin; none of them outlives this."""
    folder.mkdir(parents=True, exist_ok=True)
    serving, writers = Server(folder, seed, **how), Writers(folder)
    try:
        serving.start()
        serving.ready()
        yield serving, writers
    finally:
        writers.end_all()
        serving.end()


def count(server: Server, writers: Writers) -> Counts:
    """End the writers in order and the server not, take in what waits, and compare the log and the profiles with what
    was acknowledged."""
    writers.end()
    writers.empty_spools(server.url)
    server.kill()
    acked = writers.acknowledged()
    engine = Engine(server.store, config.load(server.config))
    try:
        engine.tick()
        counts = Counts(server.kills)
        for kind, ids in acked.items():
            rows = engine.log.backend.rows(f'SELECT request_id FROM "{kind}s_{MODEL}"')
            found = Counter(row[0] for row in rows)
            counts.acked += len(ids)
            counts.lost += len(ids - found.keys())
            counts.doubled += found.total() - len(found)
            counts.stored += found.total()
        totals = engine.log.totals(MODEL)
        with engine.state.transaction() as tx:
            whole = Window(writers.start, writers.start + timedelta(days=2))
            kept = tx.profiles(MODEL, whole, column="status")
            labels = tx.profiles(MODEL, whole, column="score")
        summarised = sum(profile.n for key, profile in kept if key.label == "")
        by_label = sum(profile.n for key, profile in labels if key.label)
        counts.miscounted = abs(summarised - totals["predictions"]) + abs(by_label - totals["labelled"])
        assert engine.inbox.rejected() == 0, "events were rejected"
        assert totals["set_aside"] == 0
    finally:
        engine.close()
    return counts


# the stories


def killed_servers(folder: Path, seed: int, kills: int, databases: dict[str, str] | None = None) -> Counts:
    """The server is killed while clients and raw requests write, and is started again."""
    chance = random.Random(seed)
    with at_work(folder, seed, databases=databases) as (server, writers):
        writers.begin(load_writer.HALVES, server.url, "halves")
        _all_kinds(server, writers)
        for _ in range(kills):
            if chance.random() < 0.8:
                server.ready()
                sleep(chance.uniform(0, 2))
            else:  # it may not even be up
                sleep(chance.uniform(0, 2))
            server.kill()
            server.start()
        server.ready()
        return count(server, writers)


def killed_servers_with_postgres(folder: Path, seed: int, kills: int) -> Counts:
    """The same with state and events in a database."""
    database = OwnPostgres()
    try:
        place = database.place()
        return killed_servers(folder, seed, kills, {"state": place, "events": place})
    finally:
        database.stop()


def killed_clients(folder: Path, seed: int, kills: int) -> Counts:
    """Clients are killed, one that has a spool and one that writes into the folder; others take their place."""
    chance = random.Random(seed)
    with at_work(folder, seed) as (server, writers):
        keys = {"remote": server.url, "local": str(server.store)}
        lives = Counter[str]()
        for name in keys:
            writers.begin("client", keys[name], f"{name}.0", spool=name == "remote")
        writers.busy()
        for at in range(kills):
            sleep(chance.uniform(0.2, 1))
            name = chance.choice(list(keys))
            writers.kill(f"{name}.{lives[name]}")
            lives[name] += 1
            writers.begin("client", keys[name], f"{name}.{lives[name]}", spool=name == "remote")
            if at % 10 == 5:  # for a while there is no server, so that the spool is used
                server.kill()
            elif at % 10 == 8:
                server.start()
        if kills % 10 in range(6, 9):
            server.start()
        server.ready()
        found = count(server, writers)
        return replace(found, kills=found.kills + kills)


def same_ids(folder: Path, seed: int, kills: int) -> Counts:
    """Two programs send the same events at the same time, each by two ways, while the server is killed."""
    chance = random.Random(seed)
    with at_work(folder, seed) as (server, writers):
        for key in ("one", "two"):
            writers.begin("client", server.url, "same", key=f"client-{key}", spool=True)
            writers.begin("application/json", server.url, "same", key=f"raw-{key}")
        writers.busy()
        for _ in range(kills):
            server.ready()
            sleep(chance.uniform(0.5, 2))
            server.kill()
            server.start()
        server.ready()
        sleep(1)
        return count(server, writers)


def server_away(folder: Path, seed: int, seconds: float) -> Counts:
    """The server is away for a while; clients go on."""
    with at_work(folder, seed) as (server, writers):
        writers.begin("client", server.url, "spooling", spool=True)
        writers.begin("client", server.url, "waiting")
        writers.busy()
        server.kill()
        sleep(seconds)
        server.start()
        server.ready()
        sleep(1)
        return count(server, writers)


def killed_postgres(folder: Path, seed: int, kills: int) -> Counts:
    """The database of state and events is killed, and now and then the server too."""
    chance, database = random.Random(seed), OwnPostgres(durable=True)
    try:
        place = database.place()
        with at_work(folder, seed, databases={"state": place, "events": place}) as (server, writers):
            _all_kinds(server, writers)
            for at in range(kills):
                server.ready()
                sleep(chance.uniform(0, 2))
                if at % 3 == 2:
                    server.kill()
                database.kill()
                if at % 3 == 2:
                    server.start()
            server.ready()
            sleep(1)
            server.drained()
            found = count(server, writers)
            return replace(found, kills=found.kills + kills)
    finally:
        database.stop()


def full_disk(folder: Path, seed: int, seconds: float) -> Counts:
    """The server may not write files of any size for a while, which is what it finds on a disk that is full."""
    with at_work(folder, seed) as (server, writers):
        _all_kinds(server, writers)
        sleep(2)
        least, most = resource.prlimit(server.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (500, most))
        _refused(server, writers)
        sleep(seconds)
        resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (least, most))
        sleep(1)
        server.drained()
        return count(server, writers)


def full_file_system(folder: Path, seed: int, seconds: float) -> Counts:
    """The file system of the store is full for a while. Needs the right to mount one."""
    place = folder / "small"
    place.mkdir(parents=True)
    with mounted(place, "24m"), at_work(folder, seed, store=place / "store") as (server, writers):
        _all_kinds(server, writers)
        sleep(2)
        with suppress(OSError), (place / "ballast").open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))
        _refused(server, writers)
        sleep(seconds)
        (place / "ballast").unlink()
        sleep(1)
        server.drained()
        return count(server, writers)


def clock_steps_back(folder: Path, seed: int, kills: int) -> Counts:
    """The clock of the server's machine steps back and forth, and the server is killed at times."""
    chance = random.Random(seed)
    with at_work(folder, seed, serve=partial(_serve_by, folder / "clock")) as (server, writers):
        _all_kinds(server, writers)
        for _ in range(kills):
            for hours in chance.sample((-48.0, -1.0, -0.01, 0.0, 30.0), 3):
                (folder / "clock.new").write_text(str(3600 * hours))
                (folder / "clock.new").replace(folder / "clock")
                sleep(chance.uniform(0.5, 1.5))
            server.kill()
            server.start()
            server.ready()
        return count(server, writers)


def _serve_by(offset: Path, arguments: list[str]) -> None:
    """The command line, with a clock that goes by what a file says it is off, in seconds."""
    real, real_ns = time.time, time.time_ns

    def off() -> float:
        return float(offset.read_text()) if offset.exists() else 0.0

    time.time, time.time_ns = lambda: real() + off(), lambda: real_ns() + int(off() * 1e9)
    cli.Engine = partial(Engine, clock=lambda: datetime.fromtimestamp(time.time(), UTC))  # type: ignore[misc]
    cli.app(arguments)


def _all_kinds(server: Server, writers: Writers) -> None:
    """Clients, to the server and to its folder, and raw requests of each kind but halves."""
    writers.begin("client", server.url, "remote", spool=True)
    writers.begin("client", str(server.store), "local")
    for kind in load_writer.ENCODE:
        writers.begin(kind, server.url, kind.rpartition("/")[2].replace(".", "-"))
    writers.busy()


def _refused(server: Server, writers: Writers) -> None:
    """Wait until the server says that it cannot take events; what has another answer, its writer does not bear."""
    row = load_writer.prediction(Writing("", "", "refused", "", "", writers.start.isoformat()), 0)
    body = load_writer.ENCODE["application/json"]([row])
    request = urllib.request.Request(
        f"{server.url}/v1/models/{MODEL}/predictions", body, {"Content-Type": "application/json"}, method="POST"
    )
    until, code = monotonic() + PATIENCE, 200
    while code == 200:
        assert monotonic() < until, "the server goes on taking events on a full disk"
        try:
            urllib.request.urlopen(request, timeout=5).close()
        except urllib.error.HTTPError as problem:
            code = problem.code
            problem.close()
        sleep(0.1)
    assert code in (429, 503)


def can_mount() -> bool:
    """Whether a small file system can be mounted here."""
    if os.geteuid() != 0:
        return False
    with TemporaryDirectory() as folder, suppress(subprocess.CalledProcessError), mounted(Path(folder), "1m"):
        return True
    return False


@contextmanager
def mounted(place: Path, size: str) -> Iterator[None]:
    """A small file system in memory."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", place], check=True, capture_output=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", place], check=True)


# small things


def _free_port(chance: random.Random) -> int:
    while True:
        port = chance.choice(PORTS)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def _of(kind: str, first: int, end: int) -> range:
    return range(first, end) if kind == events.PREDICTION else labelled(first, end)


def _joined(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """The same numbers in spans that do not overlap."""
    found: list[tuple[int, int]] = []
    for first, end in sorted(spans):
        if found and first <= found[-1][1]:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        else:
            found.append((first, end))
    return found
