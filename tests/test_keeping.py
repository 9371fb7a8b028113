"""Keeping: rows go when their time is over and summaries stay; a subject that is erased is nowhere to be found."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import seals
from small_world import MONITORS, NAME, ROWS, World, in_postgres, moment, outcome, prediction, sentinel
from store_bytes import found_in, found_in_postgres
from watchkeeper import audit
from watchkeeper.client.rows import Line
from watchkeeper.client.spool import Spool
from watchkeeper.errors import StateError
from watchkeeper.keeping import samples
from watchkeeper.records import Incident
from watchkeeper.schema import Config
from watchkeeper.settings import AuditConfig
from watchkeeper.store import arrivals, halves
from watchkeeper.store.privacy import Key
from watchkeeper.store.retention import in_sample
from watchkeeper.store.state import verify
from watchkeeper.windows import DAY, Window

SUBJECT = "ann.smith@example.org"
COLUMNS = {"amount": {"kind": "numeric"}, "country": {"kind": "categorical"}}
NEW, OLD = "n" * 40, "o" * 40


def settings(keys: dict[str, Any] | None = None, **more: Any) -> Config:
    model = {"columns": COLUMNS, "monitors": MONITORS, "resolve_after": "2d", **more}
    return Config.model_validate({"models": {NAME: model}, "privacy": keys or {}})


@pytest.fixture(params=["embedded", "postgres"])
def open_world(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Any]:
    made: list[World] = []
    url = request.getfixturevalue("new_postgres")() if request.param == "postgres" else ""

    def make(config: Config) -> World:
        made.append(World(tmp_path, in_postgres(config, url) if url else config))
        return made[-1]

    yield make
    for world in made:
        world.engine.close()


def places_of(world: World, *texts: str) -> list[str]:
    """Where any of these texts is, in the files and in the databases. Closes the engine."""
    world.engine.close()
    url = world.settings.store.events
    return found_in(world.folder, *texts) + (found_in_postgres(url, *texts) if url else [])


def profiles_of(world: World, *days: int) -> dict[str, bytes]:
    with world.engine.state.snapshot() as tx:
        return {
            key.id: profile.to_bytes()
            for day in days
            for key, profile in tx.profiles(NAME, Window(moment(day), moment(day + 1)))
        }


# retention


def test_rows_go_by_age_and_summaries_stay(open_world: Any) -> None:
    world = open_world(settings(retention={"age": "3d"}))
    for day in range(6):
        world.day(day)
        world.at(day + 1)
    before = profiles_of(world, *range(6))
    world.labels(0, 1, wrong=True)  # late ones, of rows that are gone
    world.engine.inbox.put([{**prediction(7, 0), "request_id": "late"}])  # and a row that comes too late to be counted
    world.at(6.5)
    assert world.engine.log.totals(NAME)["predictions"] == 3 * ROWS + 1
    assert profiles_of(world, *range(6)) == before
    assert world.counted(0) == ROWS
    world.at(7.1)
    assert world.engine.log.totals(NAME) == {
        "predictions": 2 * ROWS, "labelled": 2 * ROWS, "orphans": 0, "set_aside": 0,
    }  # fmt: skip
    with world.engine.state.snapshot() as tx:
        trail = [entry for entry in tx.audit_trail() if entry.kind == "retention"]
    assert sum(entry.payload["expired"]["predictions"] for entry in trail) == 4 * ROWS + 1


def test_the_oldest_rows_go_beyond_a_size(open_world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    world = open_world(settings(retention={"size": "1MB"}))
    monkeypatch.setattr(world.engine.log.backend, "size", lambda _: 2 * 10**6 if world.now == moment(4) else 1)
    for day in range(4):
        world.day(day)
        world.at(day + 1)
    assert world.engine.log.extent(NAME) == (moment(2), 2 * ROWS)
    assert world.counted(0) == ROWS


def test_a_sample_is_kept_once_labels_have_come_and_stands_for_all_rows(open_world: Any) -> None:
    world = open_world(settings(retention={"keep": 0.25}, label_delay="2d"))
    for day in range(5):
        world.day(day)
        world.at(day + 1)
    kept = world.engine.log.first_rows(NAME)
    expected = {f"{day}-{i}" for day in range(3) for i in range(ROWS) if in_sample(f"{day}-{i}", 0.25)}
    assert kept.num_rows == len(expected) + 2 * ROWS
    rows = world.engine.log.labelled(NAME, Window(moment(0), moment(3)))
    assert set(rows.column("request_id").to_pylist()) == expected
    assert world.counted(0) == ROWS  # the summaries are of all rows
    with world.engine.state.snapshot() as tx:
        assert samples(tx, NAME) == [(moment(3), 0.25)]
    before = profiles_of(world, 0, 1, 2)
    world.labels(0, wrong=True)
    world.at(5.5)
    assert profiles_of(world, 0, 1, 2) == before


def test_arrivals_go_on_though_the_latest_rows_are_deleted(open_world: Any) -> None:
    world = open_world(settings())
    world.day(0)
    world.at(1)
    world.engine.log.delete(NAME, "true")
    world.day(1)
    world.at(2)
    assert world.counted(1) == ROWS


def test_rejects_are_deleted_with_the_shortest_age(open_world: Any) -> None:
    world = open_world(settings(retention={"age": "3d"}))
    rejects = world.engine.inbox.rejects
    rejects.mkdir()
    for day in (0, 6):
        (rejects / f"{int(moment(day).timestamp() * 1e9):020d}-1-1-ab.ndjson").write_text("{}\n")
    world.day(6)
    world.at(7)
    assert len([*rejects.glob("*")]) == 1


# erasure


def of_subject(event: dict[str, Any]) -> None:
    if int(event["request_id"].partition("-")[2]) % 40 == 0:
        event["entity_id"] = SUBJECT
        event["request_id"] = f"request-of-ann-{event['request_id']}"


def mixed(event: dict[str, Any]) -> None:
    sentinel(event)
    of_subject(event)


def a_store_with_the_subject_everywhere(world: World) -> None:
    for day in range(2):
        world.day(day, change=mixed, labels=False)
        requests = [f"request-of-ann-{day}-{i}" for i in range(0, ROWS, 40)]
        world.engine.inbox.put([{**outcome(0, day), "request_id": request} for request in requests])
        world.labels(day)
        world.at(day + 1)
    extra = {**prediction(120, 1), "request_id": "request-of-ann-x", "entity_id": SUBJECT}
    features = {"amount": "many", "country": "DE", "who": SUBJECT, "other": {"deep": [SUBJECT]}}
    world.engine.inbox.put([{**extra, "features": features}])
    world.engine.inbox.put([{**extra, "model": "nobody"}, {**extra, "event_time": "yesterday"}, SUBJECT])
    [incident] = [one for one in world.rows(Incident) if one.evidence["samples"]]
    world.engine.acknowledge(incident.id, "tests", f"{SUBJECT} complained about request-of-ann-1-40, I look into it")


def test_after_an_erasure_nothing_of_the_subject_is_found(open_world: Any, tmp_path: Path) -> None:
    world = open_world(settings())
    a_store_with_the_subject_everywhere(world)
    world.engine.inbox.put([{**prediction(77, 1), "request_id": "request-of-ann-late", "entity_id": SUBJECT}])
    done = world.engine.erase(SUBJECT, actor="tests")
    assert done.complete
    assert done.deleted[NAME].predictions == done.requests == 2 * 5 + 2
    assert done.deleted[NAME].outcomes == 2 * 5
    assert done.deleted[NAME].set_aside > 0
    assert (done.rejects, done.looked_for) == (3, 12)
    assert done.state.rows > 0
    assert done.state.entries == 1
    with world.engine.state.snapshot() as tx:
        trail = tx.audit_trail()
    assert verify(trail) is None
    assert (trail[0].kind, trail[0].subject, trail[0].actor) == ("erasure", done.digest, "tests")
    assert trail[0].payload["state"]["resealed_from"] == trail[1].seq
    assert not places_of(world, SUBJECT, "request-of-ann")
    assert not list(tmp_path.rglob("*.fresh"))
    world.open()
    again = world.engine.erase(SUBJECT)
    assert (again.requests, again.deleted[NAME].predictions) == (0, 0)


def test_others_stay_and_summaries_follow(open_world: Any) -> None:
    world = open_world(settings())
    a_store_with_the_subject_everywhere(world)
    world.at(2.2)
    own = world.counted(0), world.counted(1)
    world.engine.erase(SUBJECT)
    world.at(2.4)
    assert (world.counted(0), world.counted(1)) == (own[0] - 5, own[1] - 6)
    assert world.engine.log.totals(NAME)["predictions"] == sum(own) - 11
    [incident] = [one for one in world.rows(Incident) if one.evidence["samples"]]
    shown = [sample for some in incident.evidence["samples"].values() for sample in some]
    assert all(sample["entity_id"] is None for sample in shown)


def test_summaries_follow_an_erasure_that_was_interrupted(open_world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    world = open_world(settings())
    world.day(0, change=of_subject)
    world.at(1)
    before, delete = world.counted(0), world.engine.log.delete

    def dying(*arguments: Any) -> None:
        delete(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(world.engine.log, "delete", dying)
    with pytest.raises(KeyboardInterrupt):
        world.engine.erase(SUBJECT)
    monkeypatch.undo()
    world.at(1)
    left = world.engine.log.totals(NAME)["predictions"]
    assert left < before
    assert world.counted(0) == left


def test_an_erasure_finds_pseudonyms_by_every_key(open_world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OLD_KEY", OLD)
    monkeypatch.setenv("NEW_KEY", NEW)
    private = {"privacy": {"entity_id": "pseudonymise"}}
    world = open_world(settings({"key": "env:OLD_KEY"}, **private))
    world.day(0, change=of_subject)
    world.at(1)
    world.engine.close()
    both = settings({"key": "env:NEW_KEY", "previous_keys": ["env:OLD_KEY"]}, **private)
    world.settings = both.model_copy(update={"store": world.settings.store})
    world.open()
    world.day(1, change=of_subject)
    world.at(2)
    pseudonyms = [Key.of(key).pseudonym(SUBJECT) for key in (NEW, OLD)]
    assert all(places_of(world, pseudonym) for pseudonym in pseudonyms)
    world.open()
    done = world.engine.erase(SUBJECT)
    assert done.complete
    assert (done.names, done.requests, done.receipt) == (3, 10, "")
    assert not places_of(world, SUBJECT, *pseudonyms, "request-of-ann")


def test_without_a_key_the_receipt_proves_whom_the_digest_is_of(open_world: Any) -> None:
    world = open_world(settings())
    world.day(0, change=of_subject)
    first, second = world.engine.erase(SUBJECT), world.engine.erase(SUBJECT)
    assert len(first.receipt) == 64
    assert first.digest != second.digest
    with world.engine.state.snapshot() as tx:
        assert first.receipt not in json.dumps([entry.payload for entry in tx.audit_trail()])


def test_after_an_erasure_the_record_is_sealed_anew(open_world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEAL", seals.PRIVATE_PEM)
    world = open_world(settings().model_copy(update={"audit": AuditConfig(key="env:SEAL")}))
    a_store_with_the_subject_everywhere(world)
    world.at(9)  # seals the entry that names the subject
    assert world.engine.erase(SUBJECT).state.entries == 1
    with world.engine.state.snapshot() as tx:
        trail = tx.audit_trail()
    made = audit.read(world.engine.checkpoints.path)
    found = audit.examine(trail, made, seals.KEY.public_key())
    assert (found.problems, found.sealed, found.checkpoints) == ([], len(trail), len(made))
    assert found.superseded
    assert audit.examine(trail[1:], made, seals.KEY.public_key()).problems


def test_one_model_alone_can_be_cleared(open_world: Any) -> None:
    world = open_world(settings())
    world.day(0, change=of_subject)
    assert world.engine.erase(SUBJECT, NAME).deleted[NAME].predictions == 5
    with pytest.raises(StateError, match='there is no model "lons" in the log; did you mean "loans"'):
        world.engine.erase(SUBJECT, "lons")
    with pytest.raises(StateError, match="without a name"):
        world.engine.erase("")


def test_halves_that_wait_for_an_answer_forget_the_subject(open_world: Any) -> None:
    world = open_world(settings())
    half = {"request_id": ["a", "b"], "event_time": [moment(0)] * 2, "entity_id": [SUBJECT, "somebody"]}
    more = {halves.SOURCE: ["s"] * 2, halves.RECEIVED: [moment(0)] * 2}
    arrivals.put(world.engine.inbox, [arrivals.Batch(NAME, halves.REQUEST, pa.table(half | more))], halves.FORM)
    assert world.engine.erase(SUBJECT).waiting == 1
    [path] = world.engine.inbox.waiting()
    assert arrivals.read(path).rows.column("entity_id").to_pylist() == ["somebody"]


def test_training_data_forget_the_subject(open_world: Any, tmp_path: Path) -> None:
    world = open_world(settings())
    world.day(0, change=of_subject)
    world.labels(0)
    world.engine.inbox.put([{**outcome(0, 0), "request_id": f"request-of-ann-0-{i}"} for i in range(0, ROWS, 40)])
    world.at(1)
    rows = world.engine.log.labelled(NAME, Window(moment(0), moment(0) + DAY))
    job = tmp_path / "jobs" / "action-1"
    job.mkdir(parents=True)
    for name in ("train", "holdout"):
        pq.write_table(rows, job / f"{name}.parquet")
    (job / "job.json").write_text("{}")
    (job / "output.txt").write_text("")
    assert world.engine.erase(SUBJECT).training_rows == 2 * 5
    assert pq.read_table(job / "train.parquet").num_rows == ROWS - 5


def test_spools_of_clients_forget_the_subject(open_world: Any, tmp_path: Path) -> None:
    world = open_world(settings())
    world.day(0, change=of_subject)
    world.at(1)
    folder = tmp_path.parent / f"{tmp_path.name}-spool"
    spool = Spool(folder, limit=1 << 20, sync="always")
    own = [
        {**prediction(77, 1), "request_id": "request-of-ann-spooled", "entity_id": SUBJECT},
        {**outcome(0, 0), "request_id": "request-of-ann-0-40"},
        {**outcome(0, 0), "request_id": "request-of-ann-spooled"},  # the log has never heard of it
    ]
    others = [prediction(78, 1), {**own[0], "model": "another"}]
    spool.put([Line(NAME, "prediction", json.dumps(event)) for event in (*own, *others)])
    with pytest.raises(StateError, match="close it"):
        world.engine.erase(SUBJECT, spools=[folder])
    assert world.engine.log.totals(NAME)["predictions"] == ROWS, "nothing is erased then"
    spool.close()
    torn = next(folder.glob("*/*.ndjson"))
    torn.write_text(torn.read_text() + '{"entity_id": "' + SUBJECT)
    done = world.engine.erase(SUBJECT, NAME, spools=[folder])
    assert (done.spools, done.spooled, done.requests) == (1, 4, 6)
    assert found_in(folder, "another")
    done = world.engine.erase(SUBJECT, spools=[folder])
    assert (done.spooled, done.complete) == (1, True)
    assert not found_in(folder, SUBJECT, "request-of-ann")
    with world.engine.state.snapshot() as tx:
        assert tx.audit_trail()[0].payload["spooled"] == 1
    after = Spool(folder, limit=1 << 20, sync="always")
    after.adopt()
    assert [json.loads(line.text) for line in after.next(10)] == [others[0]]
    after.close()


def test_what_is_left_in_a_spool_is_told(open_world: Any, tmp_path: Path) -> None:
    world = open_world(settings())
    folder = tmp_path.parent / f"{tmp_path.name}-spool"
    spool = Spool(folder, limit=1 << 20, sync="always")
    spool.put([Line(NAME, "prediction", json.dumps(prediction(0, 0)))])
    spool.close()
    (folder / "notes.txt").write_text(SUBJECT)
    done = world.engine.erase(SUBJECT, spools=[folder])
    assert done.searched.found == (str(folder / "notes.txt"),)


def test_what_cannot_be_taken_out_is_told(open_world: Any, tmp_path: Path) -> None:
    world = open_world(settings())
    (tmp_path / "registry").mkdir(exist_ok=True)
    (tmp_path / "registry" / "notes.bin").write_bytes(b"\0" + SUBJECT.encode("utf-16-le"))
    done = world.engine.erase(SUBJECT)
    assert not done.complete
    assert done.searched.found == ("registry/notes.bin",)


def test_without_a_retention_nothing_is_deleted(open_world: Any) -> None:
    world = open_world(settings())
    world.day(0)
    world.at(400)
    assert world.engine.log.totals(NAME)["predictions"] == ROWS
    assert not world.engine.keeping.compact()
