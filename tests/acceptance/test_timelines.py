"""Stories of weeks, told in seconds: what happens to a model, and what the engine makes of it and when."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from small_world import HOUR, MONITORS, ROWS, START, Event, World, config, moment, prediction, sentinel
from watchkeeper.records import Incident, IncidentState, Reason, Status, Transition, Verdict

SENTINEL = "sentinel values of amount since"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    yield world
    world.engine.close()


def test_unchanged_data_is_silent(world: World) -> None:
    for day in range(14):
        world.day(day)
        world.at(day + 1).want()
    found = world.rows(Verdict)
    assert {verdict.status for verdict in found} == {Status.HEALTHY}
    looks = {(v.monitor, v.column, v.window.end) for v in found}
    assert len(looks) == len(found) == 14 * 5 - 1, "each look once; log loss looks back a day"
    assert not world.told.notices


def test_a_spell_of_sentinels_opens_one_incident_and_resolves_it_when_it_is_over(world: World) -> None:
    world.day(0, 1)
    world.at(2).want()
    world.day(2, change=sentinel)
    world.at(3).want(f"{SENTINEL} 2: new to open")
    world.day(3, change=sentinel)
    world.at(4).want()
    world.day(4)
    world.at(5).want()
    world.day(5)
    world.at(6).want(f"{SENTINEL} 2: open to resolved")
    incident = world.incident("sentinel values")
    assert (incident.since, incident.last_breach, incident.resolved_at) == (moment(2), moment(4), moment(6))
    [shown] = incident.evidence["columns"]
    assert shown["detail"]["values"] == {"-999": ROWS // 5}
    assert {row["amount"] for row in incident.evidence["samples"]["amount"]} == {-999.0}
    assert [notice.after for notice in world.told.notices] == ["open", "resolved"]


def test_a_spell_that_comes_back_soon_reopens_its_incident_and_one_that_comes_late_is_a_new_one(world: World) -> None:
    spoilt = {1, 5, 14}
    steps = []
    for day in range(18):
        world.day(day, change=sentinel if day in spoilt else lambda _: None)
        steps += [(day + 1, step.after) for step in world.at(day + 1).steps]
    assert steps == [(2, "open"), (4, "resolved"), (6, "open"), (8, "resolved"), (15, "open"), (17, "resolved")]
    assert [i.since for i in world.rows(Incident, order="since")] == [moment(1), moment(14)]


def test_a_pause_of_days_is_caught_up_grain_by_grain_as_if_it_had_not_been(tmp_path: Path) -> None:
    spoilt = {2, 3, 6, 15}

    def live(world: World, ticks: set[int]) -> list[tuple[str, str]]:
        for day in range(20):
            world.day(day, change=sentinel if day in spoilt else lambda _: None)
            if day + 1 in ticks:
                world.at(day + 1)
        found = [(step.before, step.after) for step in sorted(world.rows(Transition), key=lambda s: s.at)]
        verdicts = {v.id: (v.status, v.value) for v in world.rows(Verdict)}
        incidents = [(i.since, i.last_breach, i.state, i.signals) for i in world.rows(Incident, order="since")]
        assert len(world.told.notices) == len(found)
        world.engine.close()
        return [sorted(found), verdicts, incidents]

    each_day = live(World(tmp_path / "each"), {*range(1, 21)})
    once = live(World(tmp_path / "once"), {20})
    assert once == each_day
    assert len(each_day[0]) == 6


def test_late_labels_judge_the_right_windows_again(world: World) -> None:
    world.day(0, 1, 2, labels=False)
    world.labels(0, 2)
    world.at(4).want()
    assert [world.verdict("log loss", day).status for day in (1, 2, 3)] == ["healthy", "provisional", "healthy"]
    before = {v.id: v for v in world.rows(Verdict)}
    world.labels(1, wrong=True)
    world.at(4.1).want("performance of score since 1: new to open")
    changed = {v.id for v in world.rows(Verdict) if before.get(v.id) != v}
    assert changed == {world.verdict("log loss", 2).id}
    assert world.verdict("log loss", 2).status is Status.BREACH


def test_late_rows_are_summarised_and_judged_again(world: World) -> None:
    world.day(0, 1, 2)
    world.at(3).want()
    late = [prediction(i, 900 + i, moment(1) + HOUR) for i in range(100)]
    for event in late:
        event["features"]["amount"] = -999
    world.engine.inbox.put(late)
    before = {v.id: v for v in world.rows(Verdict)}
    world.at(3.1).want(f"{SENTINEL} 1: new to open")
    assert world.counted(1) == ROWS + 100
    changed = {v.window for v in world.rows(Verdict) if before.get(v.id) != v}
    assert {(window.start, window.end) for window in changed} <= {(moment(0), moment(2)), (moment(1), moment(2))}
    assert world.verdict("sentinel values", 2, "amount").status is Status.BREACH


def test_a_late_row_whose_label_was_there_first_is_judged_by_its_label_too(world: World) -> None:
    world.day(1, 2)
    world.labels(0)
    world.at(3).want()
    assert not world.rows(Verdict, monitor="log loss", window_end=moment(1))
    world.day(0, labels=False)
    world.at(3.1).want()
    assert world.verdict("log loss", 1).status is Status.HEALTHY


def test_late_rows_of_a_spell_that_is_over_do_not_reopen_its_incident(world: World) -> None:
    for day in range(6):
        world.day(day, change=sentinel if day == 1 else lambda _: None)
        world.at(day + 1)
    assert world.incident("sentinel values").state is IncidentState.RESOLVED
    late = [prediction(i, 900 + i, moment(1) + HOUR) for i in range(10)]
    for event in late:
        event["features"]["amount"] = -999
    world.engine.inbox.put(late)
    world.at(6.1).want()
    assert world.incident("sentinel values").state is IncidentState.RESOLVED


def test_events_of_the_future_wait_for_their_time(world: World) -> None:
    world.day(30, change=sentinel)
    world.at(0.5).want()
    assert not world.rows(Verdict), "nothing has ended yet"
    world.day(0)
    world.at(0.9).want()
    assert not world.rows(Verdict), "the first day is not over"
    world.at(1).want()
    assert {v.window.end for v in world.rows(Verdict)} == {moment(1)}
    world.at(30.5).want()
    world.at(31).want(f"{SENTINEL} 30: new to open")


def test_hours_are_judged_as_they_end(tmp_path: Path) -> None:
    monitors = [{**monitor, "window": "1h", "min_rows": 30} for monitor in MONITORS]
    world = World(tmp_path, config(grain="1h", label_delay="1h", resolve_after="3h", monitors=monitors))
    for hour in range(12):
        at = START + hour * HOUR
        rows = [prediction(i, 100 + hour, at + timedelta(seconds=10 * i)) for i in range(ROWS)]
        for event in rows:
            if hour == 5:
                sentinel(event)
        world.engine.inbox.put(rows)
        seen = world.at((hour + 1) / 24)
        want = {5: "new to open", 8: "open to resolved"}.get(hour)
        seen.want(*([f"sentinel values of amount since {5 / 24:g}: {want}"] if want else []))
    world.engine.close()


def test_missing_data_resolves_nothing_and_a_tick_without_any_is_quiet(world: World) -> None:
    world.at(3).want()
    world.day(3, change=sentinel)
    world.at(4).want(f"{SENTINEL} 3: new to open")
    world.at(9).want()
    assert {v.status for v in world.rows(Verdict, window_end=moment(8))} == {Status.NO_DATA}
    world.day(9, 10)
    world.at(11).want(f"{SENTINEL} 3: open to resolved")


def test_a_column_of_nothing_but_nan_is_missing_values_and_breaks_nothing(world: World) -> None:
    def unknown(event: Event) -> None:
        event["features"] = {"amount": float("nan"), "country": None}

    world.day(0)
    world.at(1).want()
    world.day(1, change=unknown)
    world.at(2).want("missing values of amount+country since 1: new to open")


def test_a_person_takes_an_incident_on_and_ends_it(world: World) -> None:
    world.day(0, 1, change=sentinel)
    world.at(2)
    incident = world.incident("sentinel values")
    world.engine.acknowledge(incident.id, "dana", "looking at the sensor")
    assert (world.incident("sentinel values").state, world.incident("sentinel values").owner) == (
        "acknowledged",
        "dana",
    )
    world.day(2, change=sentinel)
    world.at(3).want(f"{SENTINEL} 0: open to acknowledged")
    assert world.incident("sentinel values").state is IncidentState.ACKNOWLEDGED
    world.engine.resolve(incident.id, "dana", "mended")
    world.day(3)
    world.at(4).want(f"{SENTINEL} 0: acknowledged to resolved")
    by_hand = [step for step in world.rows(Transition, order="at") if step.reason is Reason.BY_HAND]
    assert [(step.actor, step.note) for step in by_hand] == [("dana", "looking at the sensor"), ("dana", "mended")]
    with world.engine.state.transaction() as tx:
        trail = [entry for entry in tx.audit_trail(incident.id) if entry.kind == "transition"]
    assert [(e.actor, e.payload["to"]) for e in trail[::-1]] == [
        ("watchkeeper", "open"), ("dana", "acknowledged"), ("dana", "resolved"),
    ]  # fmt: skip
    assert [notice.after for notice in world.told.notices] == ["open", "acknowledged", "resolved"]


def test_a_model_without_reference_data_takes_its_first_rows_for_its_grids(tmp_path: Path) -> None:
    world = World(tmp_path, referred=False)
    world.day(0)
    world.at(0.5).want()
    assert not world.rows(Verdict)
    world.day(1)
    world.at(2).want()
    assert world.verdict("sentinel values", 2, "amount").status is Status.HEALTHY
    assert world.verdict("log loss", 1).reason is Reason.NOT_COMPARABLE
    world.day(2, change=sentinel)
    world.at(3).want(f"{SENTINEL} 2: new to open")
    world.engine.close()


def test_a_column_that_the_configuration_gains_is_watched_from_then_on(world: World) -> None:
    def with_age(event: Event) -> None:
        event["features"]["age"] = float(len(event["request_id"]) * 10 + int(event["request_id"].partition("-")[2]) % 7)

    world.day(0)
    world.at(1).want()
    columns = {**world.settings.models["loans"].model_dump(mode="json")["columns"], "age": {"kind": "numeric"}}
    world.settings = config(columns=columns)
    world.reopen()
    world.at(1.5).want()
    world.day(1)
    world.at(2).want()
    assert world.verdict("missing values", 2, "age").status is Status.NO_DATA
    world.day(2, change=with_age)
    world.at(3).want()
    assert world.verdict("sentinel values", 3, "age").status is Status.HEALTHY
    assert world.counted(2, "age") == ROWS


def test_a_tick_at_the_same_time_again_changes_nothing(world: World) -> None:
    world.day(0, 1, change=sentinel)
    world.at(2)
    world.day(2)
    first = world.at(3)
    kept = {kind: world.rows(kind) for kind in (Verdict, Incident, Transition)}
    again = world.at(3).want()
    assert first.tick.rows["judge"]
    assert not +again.tick.rows
    assert {kind: world.rows(kind) for kind in (Verdict, Incident, Transition)} == kept


def test_a_clock_that_was_set_back_judges_nothing_twice_and_nothing_early(world: World) -> None:
    world.day(0, 1, 2)
    world.at(3).want()
    kept = world.rows(Verdict)
    world.day(3)
    world.at(2.5).want()
    assert world.rows(Verdict) == kept
    world.at(4).want()
    assert {v.window.end for v in world.rows(Verdict)} - {v.window.end for v in kept} == {moment(4)}
    assert replace(kept[0]) in world.rows(Verdict)
