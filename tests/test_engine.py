"""The engine, hop by hop: what goes in, what is refused, what is kept, and who may hold the store."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from small_world import (
    NAME,
    ROWS,
    Recorder,
    World,
    config,
    in_postgres,
    moment,
    outcome,
    prediction,
    reference,
    sentinel,
    state_of,
)
from watchkeeper import notify
from watchkeeper.engine import Engine, Tick
from watchkeeper.errors import ConflictError, StateError
from watchkeeper.records import Delivery, DeliveryState, Incident, Point, Status, Transition, Verdict
from watchkeeper.registry import Route
from watchkeeper.schema import Config
from watchkeeper.store.places import open_state


@pytest.fixture(params=["embedded", "postgres"])
def settings(request: pytest.FixtureRequest) -> Config:
    if request.param == "embedded":
        return config()
    return in_postgres(config(), request.getfixturevalue("new_postgres")())


@pytest.fixture
def world(tmp_path: Path, settings: Config) -> Iterator[World]:
    world = World(tmp_path, settings)
    yield world
    world.engine.close()


# 1. record


def test_what_cannot_be_taken_in_is_kept_with_its_reason_and_nothing_is_lost(world: World) -> None:
    good = [prediction(i, 0) for i in range(3)]
    strange: list[Any] = [
        {**prediction(4, 0), "model": "nobody"},
        {**prediction(5, 0), "model": "nobody"},
        {**prediction(6, 0), "event_time": "yesterday"},
        {"kind": "prophecy"},
        ["no", "object"],
        {**prediction(7, 0), "score": [1]},
        "text",
        None,
    ]
    world.engine.inbox.put([*good, *strange])
    seen = world.at(0.5)
    assert seen.tick.rows["record"] == 3
    assert seen.tick.rows["reject"] == len(strange)
    kept = world.rejects()
    assert sorted(json.dumps(reject["event"]) for reject in kept) == sorted(map(json.dumps, strange))
    assert {'there is no model "nobody" in the configuration'} < {reject["reason"] for reject in kept}
    assert not list(world.engine.inbox.folder.glob("*"))
    assert world.engine.log.totals(NAME)["predictions"] == 3


@pytest.mark.parametrize(
    "line",
    [
        b"not json at all",
        b'{"kind": "prediction"',
        b"\xff\xfe\x00 no text",
        b"[" * 100_000,
        b"9" * 5000,
        b'{"kind":"prediction","model":"loans","request_id":"x","event_time":"2024-01-01T00:00:00Z","features":5}',
    ],
    ids=["words", "cut off", "no text", "deep", "endless number", "no features"],
)
def test_a_line_that_nobody_can_read_is_kept_and_holds_nothing_up(world: World, line: bytes) -> None:
    good = json.dumps(prediction(1, 0)).encode()
    world.engine.inbox.folder.mkdir()
    (world.engine.inbox.folder / "1-1.ndjson").write_bytes(line + b"\n" + good + b"\n")
    assert world.at(0.5).tick.rows["record"] == 1
    assert len(world.rejects()) == 1


ODD = [
    *(2**70, -(2**200), "twelve", True, [1], {"a": 1}, "NaN", "Infinity"),
    *(float("nan"), float("-inf"), 1e308, "\x00", "\ud800", ""),
]
"""Values that somebody may send for a number or a category."""


def test_no_value_of_a_feature_stops_the_engine(world: World) -> None:
    world.day(0)
    sent = []
    for i, value in enumerate(ODD):
        event = prediction(i, 50, moment(0.5))
        event["features"] = {"amount": value, "country": value, "unheard of": value}
        world.engine.inbox.put([event, prediction(i, 51, moment(0.5))])
        sent.append({**event, "request_id": f"together-{i}"})
    world.engine.inbox.put(sent)
    world.at(1)
    assert world.counted(0) == ROWS + 3 * len(ODD)
    assert not world.rejects()


def test_an_event_sent_twice_is_one_row_whatever_the_second_says(world: World) -> None:
    world.engine.inbox.put([prediction(1, 0), {**prediction(1, 0), "score": 0.9}, outcome(1, 0), outcome(1, 0)])
    world.engine.inbox.put([prediction(1, 0)])
    world.at(1).want()
    assert world.counted(0) == 1
    assert world.engine.log.totals(NAME) == {"predictions": 1, "labelled": 1, "orphans": 0, "set_aside": 0}


def test_an_outcome_may_come_before_its_prediction(world: World) -> None:
    world.engine.inbox.put([outcome(i, 0) for i in range(ROWS)])
    world.at(0.5).want()
    assert world.engine.log.totals(NAME)["orphans"] == ROWS
    world.day(0, labels=False)
    world.day(1)
    world.at(2).want()
    assert world.verdict("log loss", 1).n == ROWS


# 2. and 3. summarise, measure


def test_nothing_comes_of_nothing(tmp_path: Path) -> None:
    world = World(tmp_path, referred=False)
    for day in (0, 0, 5):
        tick = world.at(day).want().tick
        assert not +tick.rows
    assert not world.rows(Point)
    world.engine.close()


def test_a_window_is_looked_at_once_it_is_over_and_the_log_covers_it(tmp_path: Path) -> None:
    weekly = {"name": "drift", "metric": "psi", "columns": "features", "window": "7d", "above": 0.25}
    world = World(tmp_path, config(monitors=[weekly]))
    for day in range(9):
        world.day(day)
        world.at(day + 0.5)
    world.at(9)
    assert {(v.window.start, v.window.end) for v in world.rows(Verdict)} == {
        (moment(d), moment(d + 7)) for d in range(3)
    }
    world.engine.close()


def test_each_row_names_the_rows_it_came_of(world: World) -> None:
    world.day(0, change=sentinel)
    world.at(1)
    [incident] = world.rows(Incident)
    [opened] = world.rows(Transition)
    [delivery] = world.rows(Delivery)
    verdict = world.verdict("sentinel values", 1, "amount")
    [point] = world.rows(Point, id=verdict.because[0])
    assert delivery.because == (opened.id,)
    assert opened.because == incident.because == (verdict.id,)
    with world.engine.state.transaction() as tx:
        assert {key.column for key, _ in tx.profile_keys(point.because)} == {"amount"}
    assert {row.config for row in (point, verdict, incident)} == {world.settings.version}


def test_performance_is_estimated_before_any_label_comes(world: World) -> None:
    world.day(0, labels=False)
    world.at(1)
    [auc] = world.rows(Point, metric="estimated_auc", monitor="")
    seen = reference()
    said, was = (np.array(seen[name].to_pylist()) for name in ("score", "label"))
    assert auc.value == pytest.approx(roc_auc_score(was, said), abs=1e-9)  # each day is as the reference was
    assert auc.low < auc.value < auc.high
    assert (auc.n, auc.n_baseline, auc.coverage, auc.version) == (ROWS, len(seen), None, "base")


def test_an_estimate_is_held_against_what_turns_out(tmp_path: Path) -> None:
    """The labels of the second day are all the other way round: no estimate could know, and its record says so."""
    monitor = {"name": "another world", "metric": "accuracy_estimation_error", "above": 0.05}
    world = World(tmp_path, config(monitors=[monitor]))
    world.day(0)
    world.day(1, labels=False)
    world.labels(1, wrong=True)
    world.at(2)
    world.at(3).want("performance of score since 1: new to open")
    first, second = (
        world.rows(Point, metric="accuracy_estimation_error", monitor="", window_end=moment(day))[0] for day in (1, 2)
    )
    assert first.detail["held"]
    assert first.low < 0 < first.high
    assert not second.detail["held"]
    assert second.value == pytest.approx(second.detail["estimated"] - second.detail["realised"])
    assert world.rows(Point, metric="estimated_accuracy", monitor="", window_end=moment(2))[0].value == pytest.approx(
        second.detail["estimated"]
    )


def test_an_estimate_that_falls_breaches_at_once(tmp_path: Path) -> None:
    """Scores come from the unsure middle only; no label is ever told."""
    monitor = {"name": "worse", "metric": "estimated_accuracy", "relative": "difference", "below": -0.05}
    world = World(tmp_path, config(monitors=[monitor], label_delay="30d"))

    def unsure(event: dict[str, Any]) -> None:
        event["score"] = 0.5 + (event["score"] - 0.5) / 4

    for day in range(2):
        world.day(day, change=unsure if day else lambda _: None, labels=False)
    world.at(1)
    world.at(2).want("performance of score since 1: new to open")
    assert [world.verdict("worse", day).status for day in (1, 2)] == [Status.HEALTHY, Status.BREACH]


def test_performance_is_shown_for_each_version_that_answered(world: World) -> None:
    world.day(0)
    world.engine.inbox.put([prediction(i, 100, moment(0.3), version="other") for i in range(50)])
    world.engine.inbox.put([outcome(i, 100) for i in range(50)])
    world.day(1)
    world.at(2)
    shown = world.rows(Point, metric="log_loss", monitor="", window_end=moment(1))
    assert {point.version: point.n for point in shown} == {"base": ROWS, "other": 50}


# 5. gather


def test_what_predictions_use_and_cost_is_measured_from_the_first_that_says_it(world: World) -> None:
    def used(event: dict[str, Any]) -> None:
        number = int(event["request_id"].partition("-")[2])
        event |= {"cpu_ms": 4.0 + number % 3, "cost": 0.01 * (1 + number % 2)}
        event["variant"] = "fallback" if number % 50 == 0 else "champion"

    world.day(0)
    world.at(1)
    world.day(1, change=used)
    world.at(2)
    found = {(p.metric, p.column, p.window.start): p for p in world.rows(Point) if not p.version}
    assert ("mean_use", "cpu_ms", moment(0)) not in found
    assert found["mean_use", "cpu_ms", moment(1)].value == pytest.approx(5.0, rel=0.02)
    assert found["mean_cost", "cost", moment(1)].value == pytest.approx(0.015, rel=0.02)
    assert found["total_cost", "cost", moment(1)].value == pytest.approx(0.015 * ROWS, rel=0.02)
    assert ("mean_use", "memory_mb", moment(1)) not in found
    assert found["fallback_rate", "variant", moment(1)].value == pytest.approx(0.02)
    assert found["availability", "status", moment(0)].value == 1
    assert found["fallback_rate", "variant", moment(0)].value == 0  # an event that names no variant is a champion's


def test_two_people_cannot_both_take_an_incident_on(world: World) -> None:
    world.day(0, change=sentinel)
    world.at(1)
    [incident] = world.rows(Incident)
    world.engine.acknowledge(incident.id, "dana")
    with pytest.raises(ConflictError, match="acknowledged already; only an open incident can be acknowledged"):
        world.engine.acknowledge(incident.id, "sam")
    world.engine.resolve(incident.id, "dana")
    with pytest.raises(ConflictError, match="is resolved already"):
        world.engine.resolve(incident.id, "sam")
    with pytest.raises(StateError, match="there is no incident incident-none"):
        world.engine.resolve("incident-none", "sam")
    assert [step.actor for step in world.rows(Transition, order="at")] == ["watchkeeper", "dana", "dana"]


def test_the_samples_of_an_incident_can_be_written_as_json(world: World) -> None:
    def no_number(event: dict[str, Any]) -> None:
        event["features"]["amount"] = float("nan")

    world.day(0, change=no_number)
    world.at(1)
    [incident] = world.rows(Incident)
    json.dumps(incident.evidence, allow_nan=False)


# 6. tell


def test_a_channel_that_is_down_is_tried_again_by_later_ticks(world: World) -> None:
    class Down(Recorder):
        def send(self, notice: Any, now: Any) -> None:
            raise notify.DeliveryError("no route to host", permanent=False)

    world.engine.channels = {"ops": Down()}
    world.day(0, change=sentinel)
    world.at(1)
    [waiting] = world.rows(Delivery)
    assert (waiting.state, waiting.attempts) == (DeliveryState.PENDING, 1)
    world.engine.channels = {"ops": world.told}
    world.at(1.01).want()
    assert [d.state for d in world.rows(Delivery)] == [DeliveryState.SENT]
    assert len(world.told.notices) == 1


# 8. prove


def test_the_traffic_follows_what_is_written_and_mends_what_was_not_carried_out(world: World) -> None:
    registry = world.engine.registry
    assert registry.route(NAME) == Route("base")
    rollout = world.engine.offer(NAME, world.register(), "dana")
    assert registry.route(NAME) == Route("base", "", "v1", rollout.share)
    registry.set_route(NAME, Route("v7"))
    world.at(0.1)
    assert registry.route(NAME) == Route("base", "", "v1", rollout.share)


def test_the_route_stays_as_it_was_if_the_decision_cannot_be_written(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise StateError("the disk is full")

    world.register()
    monkeypatch.setattr("watchkeeper.store.state.Transaction.audit", full)
    with pytest.raises(StateError, match="full"):
        world.engine.offer(NAME, "v1", "dana")
    assert world.engine.registry.route(NAME) == Route("base")


# who may hold the store


def test_a_second_engine_on_the_store_is_told_so_and_harms_nothing(world: World) -> None:
    world.day(0, change=sentinel)
    world.at(1)
    before = state_of(world.engine)
    code = (
        "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[2])\n"
        "from watchkeeper.schema import Config\nfrom watchkeeper.engine import Engine\n"
        "from watchkeeper.errors import StateError\n"
        "try: Engine(Path(sys.argv[1]), Config.model_validate_json(sys.argv[3]))\n"
        "except StateError as problem: print(problem)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(world.folder), str(Path(__file__).parent), world.settings.model_dump_json()],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    if world.settings.store.events:
        assert f"another engine works in {world.folder}; stop that one, or give this one a folder" in done.stdout
    else:
        assert "log.duckdb cannot be opened" in done.stdout
        assert "Only one process may hold it; if another one does, stop that one or write through" in done.stdout
    assert not done.stderr
    assert state_of(world.engine) == before


def test_two_workers_on_one_state_do_not_double_what_a_person_and_the_engine_do(world: World) -> None:
    world.day(0, change=sentinel)
    world.at(1)
    [incident] = world.rows(Incident)
    outcomes: list[str] = []
    barrier = threading.Barrier(4)

    def work(name: str) -> None:
        state = open_state(world.settings.store, world.folder)
        barrier.wait()
        try:
            with state.transaction() as tx:
                tx.change(incident)
            outcomes.append(name)
        except ConflictError:
            pass
        finally:
            state.close()

    workers = [threading.Thread(target=work, args=(str(i),)) for i in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(outcomes) == 1
    assert world.rows(Incident)[0].revision == incident.revision + 1


def test_two_workers_that_tell_send_each_notice_once(world: World) -> None:
    world.engine.channels = {}
    for day in range(6):
        world.day(day, change=sentinel if day % 3 == 0 else lambda _: None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(world.engine, "tell", lambda now: None)
        world.at(6)
    planned = len(world.rows(Delivery))
    assert planned >= 2
    told, barrier = Recorder(), threading.Barrier(3)

    def work() -> None:
        state = open_state(world.settings.store, world.folder)
        barrier.wait()
        for _ in range(planned):
            notify.deliver(state, {"ops": told}, moment(6))
        state.close()

    workers = [threading.Thread(target=work) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len({notice.id for notice in told.notices}) == len(told.notices) == planned


def test_two_engines_on_one_database_do_together_what_one_does_alone(
    tmp_path: Path, new_postgres: Callable[[], str]
) -> None:
    alone = World(tmp_path / "alone", in_postgres(config(), new_postgres()))
    shared = in_postgres(config(), new_postgres())
    pair = [World(tmp_path / name, shared) for name in ("one", "two")]
    told = Recorder()
    for world in pair:
        world.engine.channels = dict.fromkeys(world.engine.channels, told)
    for day in range(5):
        events = [prediction(i, day) for i in range(ROWS)]
        if day in (1, 2):
            for event in events:
                sentinel(event)
        events += [outcome(i, day) for i in range(ROWS)]
        alone.engine.inbox.put(events)
        for i, world in enumerate(pair):
            world.engine.inbox.put([event for j, event in enumerate(events) if j % 2 == i or j % 3 == 0])
        for world in (alone, *pair):
            world.now = moment(day + 1)
        at_once(lambda world: world.engine.record(Tick()), pair)
        at_once(lambda world: world.engine.tick(), pair)
        alone.engine.tick()
    assert [notice.title for notice in told.notices] == [notice.title for notice in alone.told.notices]
    assert len({notice.id for notice in told.notices}) == len(told.notices) > 0
    expected, found = state_of(alone.engine), state_of(pair[0].engine)
    for what in ("profiles None", "totals", "champions", "waiting", "route"):
        assert found[what] == expected[what]
    for kind in ("Point", "Verdict", "Incident", "Transition"):
        assert len(found[kind]) == len(expected[kind]), kind
    counted = [key for key in expected if key.startswith("profiles")]
    assert [found[key] for key in counted] == [expected[key] for key in counted]
    for world in (alone, *pair):
        world.engine.close()


class Theirs:
    """A table of predictions in a DuckDB file of somebody else's."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.run(
            "CREATE TABLE scored (id VARCHAR, moment TIMESTAMP, model_version VARCHAR, p DOUBLE, latency_ms DOUBLE,"
            " status VARCHAR, amount DOUBLE, country VARCHAR, paid_back BOOLEAN)"
        )

    def run(self, sql: str, values: Sequence[Any] = ()) -> None:
        with duckdb.connect(str(self.path)) as connection:
            connection.executemany(sql, values) if values else connection.execute(sql)

    def day(self, day: int, change: Callable[[dict[str, Any]], None] = lambda _: None) -> None:
        rows = []
        for i in range(ROWS):
            event = prediction(i, day)
            change(event)
            at = datetime.fromisoformat(event["event_time"]).replace(tzinfo=None)
            told = [event["request_id"], at, event["version"], event["score"], event["latency_ms"], event["status"]]
            rows.append((*told, *event["features"].values(), bool(outcome(i, day)["label"])))
        self.run("INSERT INTO scored VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)

    @property
    def settings(self) -> Config:
        columns = {"request_id": "id", "event_time": "moment", "version": "model_version", "score": "p"}
        columns["label"] = "paid_back"
        return config(events={"url": f"duckdb:///{self.path}", "table": "scored", "columns": columns})


def test_a_table_that_others_keep_is_watched_like_events_that_are_logged(tmp_path: Path) -> None:
    theirs = Theirs(tmp_path / "theirs.duckdb")
    world, logged = World(tmp_path / "one", theirs.settings), World(tmp_path / "two")
    for day in range(5):
        change = sentinel if day in (1, 2) else lambda _: None
        theirs.day(day, change)
        logged.day(day, change=change)
        size = theirs.path.read_bytes()
        steps = logged.at(day + 1).steps
        assert [step.after for step in world.at(day + 1).steps] == [step.after for step in steps]
        assert theirs.path.read_bytes() == size, "nothing is written to it"

    def judged(of: World) -> list[Any]:
        return sorted((v.monitor, v.column, v.window.end, v.value, v.n, v.status) for v in of.rows(Verdict))

    assert judged(world) == judged(logged) != []
    assert world.rows(Incident)[0].evidence["samples"].keys() == logged.rows(Incident)[0].evidence["samples"].keys()
    assert world.at(5).tick.rows["summarise"] == 0, "what was counted is not counted again"
    world.engine.inbox.put([prediction(1, 0)])
    assert world.at(5).tick.rows["reject"] == 1
    assert "read from scored; nothing can be logged of it here" in world.rejects()[0]["reason"]
    for each in (world, logged):
        each.engine.close()


def test_a_table_that_cannot_be_read_holds_nothing_else_up(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    theirs = Theirs(tmp_path / "theirs.duckdb")
    other = config().models[NAME]
    settings = theirs.settings.model_copy(update={"models": {NAME: theirs.settings.models[NAME], "other": other}})
    world = World(tmp_path / "store", settings, referred=False)
    theirs.day(0)
    away = theirs.path.rename(tmp_path / "away")
    world.engine.inbox.put([prediction(i, 0, name="other") for i in range(ROWS)])
    assert world.at(1).tick.rows["unreadable"] == 1
    assert "read again at the next tick: there is no file" in caplog.text
    assert {point.model for point in world.rows(Point)} == {"other"}
    away.rename(theirs.path)
    assert world.at(1.5).tick.rows["summarise"] == ROWS
    world.engine.close()


def at_once(work: Callable[[World], object], worlds: Sequence[World]) -> None:
    with ThreadPoolExecutor(len(worlds)) as pool:
        list(pool.map(work, worlds))


def test_a_new_configuration_is_kept_once_and_goes_into_the_record(world: World) -> None:
    first = world.settings
    world.reopen()
    world.settings = config(resolve_after="5d").model_copy(update={"store": first.store})
    world.reopen()
    world.reopen()
    with world.engine.state.transaction() as tx:
        entries = [entry.subject for entry in tx.audit_trail() if entry.kind == "config"]
    assert entries == [world.settings.version, first.version]


def test_reference_data_without_a_column_is_refused_by_name(tmp_path: Path) -> None:
    world = World(tmp_path, referred=False)
    with pytest.raises(StateError, match='has no column "country"; add it, or take it out of the configuration'):
        world.engine.install(NAME, "base", reference().drop_columns(["country"]))
    assert not world.champions()
    world.engine.close()


def test_a_tick_tells_how_many_rows_each_hop_handled_and_how_long_it_took(world: World) -> None:
    world.day(0)
    tick = world.at(1).tick
    assert dict(+tick.rows) == {"record": 2 * ROWS, "summarise": ROWS, "judge": len(world.rows(Point))}
    assert set(tick.seconds) == {"record", "summarise", "judge", "tell", "keep", "act", "prove"}
    assert all(seconds >= 0 for seconds in tick.seconds.values())


def test_nothing_is_logged_by_ticks_that_go_well(world: World, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        world.day(0, change=sentinel)
        world.at(1)
    assert not caplog.records


def test_an_engine_of_no_models_ticks(tmp_path: Path) -> None:
    engine = Engine(tmp_path, config().model_copy(update={"models": {}}), clock=lambda: moment(0))
    assert not +engine.tick().rows
    engine.close()
