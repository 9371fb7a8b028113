"""A process that keeps a log: events come in, subjects are erased, the file is written anew. It is killed anywhere."""

from __future__ import annotations

import random
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import monotonic

import forked
import load_writer
from load_writer import MODEL
from own_postgres import OwnPostgres
from under_load import PATIENCE, SETTINGS, Counts
from watchkeeper import events
from watchkeeper.engine import Engine
from watchkeeper.schema import Config
from watchkeeper.windows import Window


def killed_keeping(folder: Path, seed: int, kills: int, url: str = "") -> Counts:
    """A process that takes events in, erases subjects and writes the log anew is killed anywhere in that.

    Args:
        url: the database that holds state and events, if they are not in the store's folder.
    """
    chance, counts, said = random.Random(seed), Counts(), folder / "said.txt"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "url").write_text(url)
    engine = _keeper(folder)
    engine.inbox.put(map(_of_a_subject, range(KEPT)))
    engine.tick()
    engine.close()
    length = PATIENCE
    while counts.kills < kills:
        begun, life = monotonic(), forked.begin(_keep, said, folder)
        life.join(chance.uniform(0, 1) * length)
        if life.is_alive() and length < PATIENCE:
            forked.kill(life)
            counts.kills += 1
        else:
            life.join()
            assert life.exitcode == 0, said.read_text()
            length = min(length, monotonic() - begun)
    life = forked.begin(_keep, said, folder)
    life.join(PATIENCE)
    assert life.exitcode == 0, said.read_text()
    engine = _keeper(folder)
    try:
        engine.tick()
        rows = engine.log.backend.rows(f'SELECT request_id, entity_id FROM "predictions_{MODEL}"')
        with engine.state.transaction() as tx:
            kept = tx.profiles(MODEL, Window(KEPT_FROM, KEPT_FROM + timedelta(days=1)), column="status", label="")
    finally:
        engine.close()
    erased = {_subject(number) for number in range(_lines(folder / "erased"))}
    put = map(_of_a_subject, range(KEPT + FRESH * _lines(folder / "put")))
    wanted, found = (
        {event["request_id"] for event in put if event["entity_id"] not in erased},
        Counter(r[0] for r in rows),
    )
    assert not erased & {subject for _, subject in rows}, "a subject that was erased is there"
    counts.acked, counts.lost, counts.stored = len(wanted), len(wanted - found.keys()), len(rows)
    counts.doubled = found.total() - len(found)
    counts.miscounted = abs(sum(profile.n for _, profile in kept) - len(rows))
    return counts


def killed_keeping_in_postgres(folder: Path, seed: int, kills: int) -> Counts:
    database = OwnPostgres()
    try:
        return killed_keeping(folder, seed, kills, database.place())
    finally:
        database.stop()


KEPT, FRESH = 20_000, 500
KEPT_FROM = datetime(2024, 1, 1, tzinfo=UTC)
ERASED = 100
"""So many subjects may be erased; those of later events are others."""


def _keep(folder: Path) -> None:
    """Events come in, a subject is erased, the log is written anew; each life goes on from where the last one was."""
    put, erased = folder / "put", folder / "erased"
    engine = _keeper(folder)
    first = KEPT + FRESH * _lines(put)
    engine.inbox.put(map(_of_a_subject, range(first, first + FRESH)))
    _add_line(put)
    engine.tick()
    engine.erase(_subject(_lines(erased)))
    _add_line(erased)
    engine.compact()
    engine.tick()
    engine.close()


def _keeper(folder: Path) -> Engine:
    model = {**SETTINGS["models"][MODEL], "monitors": []}
    url = (folder / "url").read_text()
    places = {"store": {"state": url, "events": url}} if url else {}
    return Engine(folder / "store", Config.model_validate({"models": {MODEL: model}, **places}))


def _of_a_subject(number: int) -> events.Event:
    return events.prediction(
        MODEL, load_writer.values(number), request_id=f"request-{number}", score=load_writer.score(number),
        event_time=KEPT_FROM + timedelta(seconds=number * 7919 % (6 * 3600)), version="base",
        entity_id=_subject(number % (2 * ERASED) if number < KEPT else ERASED + number % ERASED),
    )  # fmt: skip


def _subject(number: int) -> str:
    return f"subject-{number}@example.org"


def _lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def _add_line(path: Path) -> None:
    with path.open("a") as file:
        file.write("\n")
