"""A program that logs predictions, labels and KPIs until it is told to end, and notes what was acknowledged.

It is run as a process of its own, so that it can be killed. What it was told is safe, by an HTTP answer or by `flush`,
it writes into its journal, which is synced: lines such as `prediction w1 40 60`, the events w1-40 to w1-59.
"""

from __future__ import annotations

import json
import os
import random
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from http.client import HTTPException
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import pyarrow as pa

from watchkeeper import Client, events
from watchkeeper.cloudevents import KINDS

MODEL = "loans"
GRAINS = 6
"""Hours that the events lie in: each batch brings late rows to grains that were summarised before."""
LABELLED = 4
"""Every so many events one is labelled."""
PAID = "paid"
"""The KPI of events that have a label."""
HALVES = "application/cloudevents-batch+json"
PATIENCE = 60.0
"""Seconds that the writer goes on trying at its end."""


@dataclass(frozen=True)
class Writing:
    """What a writer does.

    Args:
        how: "client", or the content type of raw requests.
        target: the address of a server, or for a client the folder of a store.
        name: its events are called `{name}-{number}`; whoever has the same name sends the same events.
        journal: where it notes what was acknowledged.
        stop: the writer sends what it has, and ends, when this file is there.
        start: since when its events are; the same for all writers.
        rate: events a second at most, in batches.
        spool: for a client.
    """

    how: str
    target: str
    name: str
    journal: str
    stop: str
    start: str
    rate: int = 300
    batch: int = 25
    spool: str | None = None


class Journal:
    """What was acknowledged, on the disk before anything else is done."""

    def __init__(self, path: str) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def note(self, kind: str, name: str, first: int, end: int) -> None:
        os.write(self._file, f"{kind} {name} {first} {end}\n".encode())
        os.fsync(self._file)


def moment(writing: Writing, number: int) -> datetime:
    return datetime.fromisoformat(writing.start) + timedelta(seconds=number * 7919 % (GRAINS * 3600))


def known(writing: Writing, number: int) -> datetime:
    return moment(writing, number) + timedelta(minutes=1)


def values(number: int) -> dict[str, Any]:
    """What event number `number` holds."""
    return {"amount": float(number * 37 % 101) + 0.5, "country": ("DE", "FR", "NL")[number % 3]}


def score(number: int) -> float:
    return round(0.1 + 0.8 * (number * 7 % 100) / 100, 4)


def prediction(writing: Writing, number: int) -> events.Event:
    return events.prediction(
        MODEL, values(number), request_id=f"{writing.name}-{number}", event_time=moment(writing, number),
        version="base", score=score(number), latency_ms=5.0,
    )  # fmt: skip


def outcome(writing: Writing, number: int) -> events.Event:
    return events.outcome(MODEL, f"{writing.name}-{number}", number % 2, known_at=known(writing, number))


def paid(writing: Writing, number: int) -> events.Event:
    return events.kpi(MODEL, f"{writing.name}-{number}", PAID, number % 7, known_at=known(writing, number))


def labelled(first: int, end: int) -> range:
    """The numbers of those events that have a label, and a KPI."""
    return range(-(-first // LABELLED) * LABELLED, end, LABELLED)


def batches(writing: Writing) -> Any:
    """The first and the end of each batch in turn, at the rate that is wanted, until the writer is to stop."""
    first = 0
    while not Path(writing.stop).exists():
        yield first, first + writing.batch
        first += writing.batch
        sleep(writing.batch / writing.rate)


def _row(writing: Writing, number: int) -> dict[str, Any]:
    return {
        **values(number), "request_id": f"{writing.name}-{number}", "event_time": moment(writing, number),
        "score": score(number), "latency_ms": 5.0,
    }  # fmt: skip


def by_client(writing: Writing, journal: Journal) -> None:
    """Log by the client; a flush comes at random, and may well fail."""
    chance = random.Random(f"{writing.name} flushes")
    client = Client(
        writing.target, model=MODEL, version="base", interval=0.2, timeout=3.0, buffer=500_000, spool=writing.spool
    )
    logged = 0

    def flushed(timeout: float) -> bool:
        safe = client.flush(timeout)
        if client.dropped:
            raise SystemExit(f"the client has dropped {client.dropped} events")
        if safe:
            for kind in events.FIELDS:
                journal.note(kind, writing.name, 0, logged)
        return safe

    for first, end in batches(writing):
        if chance.random() < 0.3:
            client.log_many([_row(writing, number) for number in range(first, end)])
        else:
            for number in range(first, end):
                row = _row(writing, number)
                client.log({name: row.pop(name) for name in values(number)}, **row)
        for number in labelled(first, end):
            client.label(f"{writing.name}-{number}", number % 2, known(writing, number))
            client.kpi(f"{writing.name}-{number}", PAID, number % 7, known(writing, number))
        logged = end
        if chance.random() < 0.2:
            flushed(0.5)
    until = monotonic() + PATIENCE
    while not flushed(5.0) and monotonic() < until:
        sleep(0.1)
    client.close()


def by_requests(writing: Writing, journal: Journal) -> None:
    """Log by raw requests, each sent until it is answered with 200."""
    for first, end in batches(writing):
        rows = {
            events.PREDICTION: [prediction(writing, number) for number in range(first, end)],
            events.OUTCOME: [outcome(writing, number) for number in labelled(first, end)],
            events.KPI: [paid(writing, number) for number in labelled(first, end)],
        }
        for kind, some in rows.items():
            if some and _insist(f"{writing.target}/v1/models/{MODEL}/{kind}s", some, writing):
                journal.note(kind, writing.name, first, end)


def by_halves(writing: Writing, journal: Journal) -> None:
    """Report what a model was asked and what it answered apart, as an inference server does, in either order."""
    chance, place = random.Random(writing.name), f"{writing.target}/v1/models/{MODEL}"
    for first, end in batches(writing):
        numbers = range(first, end)
        asked = [{"instances": [values(number)]} for number in numbers]
        answered = [{"predictions": [score(number)]} for number in numbers]
        halves = [
            [_half(writing, kind, number, data) for number, data in zip(numbers, some, strict=True)]
            for kind, some in zip(KINDS, (asked, answered), strict=True)
        ]
        chance.shuffle(halves)
        if all(_insist(f"{place}/cloudevents", half, writing) for half in halves):
            journal.note(events.PREDICTION, writing.name, first, end)


def _half(writing: Writing, kind: str, number: int, data: object) -> dict[str, Any]:
    return {
        "specversion": "1.0", "id": f"{writing.name}-{number}", "source": "http://localhost:9081/", "type": kind,
        "time": moment(writing, number).isoformat(), "data": data,
    }  # fmt: skip


def _insist(url: str, rows: Sequence[events.Event], writing: Writing) -> bool:
    """Whether the events were acknowledged at last."""
    encode, until = ENCODE.get(writing.how, lambda rows: json.dumps(rows).encode()), None
    body = encode(rows)
    while until is None or monotonic() < until:
        request = urllib.request.Request(url, body, {"Content-Type": writing.how}, method="POST")
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:
                said = json.load(answer)
        except urllib.error.HTTPError as problem:
            with problem:
                if problem.code not in (429, 503):
                    raise SystemExit(f"the server answered {problem.code}: {problem.read()!r}") from problem
        except (OSError, HTTPException, ValueError):  # it is dead, dies, or is not up yet
            pass
        else:
            if said["accepted"] != len(rows) or said["rejected"]:
                raise SystemExit(f"the server took not all: {said}")
            return True
        if until is None and Path(writing.stop).exists():
            until = monotonic() + PATIENCE
        sleep(0.05)
    return False


def _arrow(rows: Sequence[events.Event]) -> bytes:
    columns = events.columns(rows)
    for name in ("event_time", "known_at"):
        if name in columns:
            columns[name] = [datetime.fromisoformat(at) for at in columns[name]]
    table, found = pa.table(columns), pa.BufferOutputStream()
    with pa.ipc.new_stream(found, table.schema) as stream:
        stream.write_table(table)
    return bytes(found.getvalue())


ENCODE: dict[str, Callable[[Sequence[events.Event]], bytes]] = {
    "application/json": lambda rows: json.dumps({"events": rows}).encode(),
    "application/x-ndjson": lambda rows: "".join(json.dumps(row) + "\n" for row in rows).encode(),
    "application/vnd.apache.arrow.stream": _arrow,
}


def write(writing: Writing) -> None:
    """Be such a program."""
    work = {"client": by_client, HALVES: by_halves}.get(writing.how, by_requests)
    work(writing, Journal(writing.journal))
