"""The demo tells what it promises: the year, what was injected into it, and a stretch in which nothing happens."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from watchkeeper.demo import flights
from watchkeeper.demo.story import BAD_CANDIDATE, NAME, SENSOR, SERVING, SLOW, TRAINING, Demo, prepare
from watchkeeper.errors import StateError
from watchkeeper.records import Action, ActionState, Incident, Rollout, RolloutState, Severity, Verdict
from watchkeeper.store.state import verify
from watchkeeper.why import Node, why
from watchkeeper.windows import DAY, Window

YEAR = 336_776


@pytest.fixture(scope="module")
def table() -> pa.Table:
    return flights.load()


@pytest.fixture(scope="module")
def year(table: pa.Table, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    demo = Demo(tmp_path_factory.mktemp("demo") / "store")
    demo.load(table)
    for _ in demo.days():
        pass
    yield demo
    demo.close()


def of_cause(demo: Demo, cause: str) -> list[Incident]:
    with demo.engine.state.transaction() as tx:
        return tx.select(Incident, model=NAME, cause=cause, order="opened_at")


def test_every_flight_is_told_of(year: Demo) -> None:
    trained_on = len(year._between(TRAINING))
    assert year.story.rows["read"] == YEAR
    assert year.story.rows["serve"] + trained_on == YEAR
    assert year.engine.log.totals(NAME)["predictions"] == YEAR - trained_on


def test_the_broken_sensor_is_found_by_its_column_on_its_first_day(year: Demo) -> None:
    (incident,) = of_cause(year, "sentinel values")
    assert {signal["column"] for signal in incident.signals.values()} == {"wind_speed"}
    assert incident.since == SENSOR.start
    assert incident.opened_at == SENSOR.start + DAY
    assert incident.severity is Severity.P1
    assert incident.resolved_at is not None
    assert "-999" in incident.evidence["summary"]
    assert all(sample["wind_speed"] == -999 for sample in incident.evidence["samples"]["wind_speed"])


def test_the_slow_spell_is_found_in_its_own_window(year: Demo) -> None:
    (incident,) = of_cause(year, "service")
    assert incident.since == datetime(SLOW.start.year, SLOW.start.month, SLOW.start.day, tzinfo=UTC)
    assert incident.opened_at - SLOW.start <= DAY
    assert {signal["column"] for signal in incident.signals.values()} == {"latency_ms"}


def test_the_bad_candidate_is_stopped_before_it_served_a_quarter_of_a_day(year: Demo) -> None:
    with year.engine.state.transaction() as tx:
        rolled = tx.select(Rollout, candidate=year._shipped)
    (bad,) = rolled
    served = bad.looks[-1]["n_candidate"]
    a_day = len(year._between(Window(BAD_CANDIDATE, BAD_CANDIDATE + DAY)))
    assert bad.state is RolloutState.ROLLED_BACK
    assert 0 < served < a_day / 4
    route = year.engine.registry.route(NAME)
    assert route is not None
    assert bad.candidate not in (route.champion, route.candidate)


def drift_start(values: np.ndarray, days: np.ndarray, before: np.ndarray, window: tuple[int, int]) -> int:
    """The most likely first day of a change to the window's distribution, over deciles, from the raw values."""
    edges = np.quantile(before, np.linspace(0, 1, 11)[1:-1])

    def counts(which: np.ndarray) -> np.ndarray:
        return np.maximum(np.bincount(np.searchsorted(edges, values[which], side="right"), minlength=10), 0.5)

    old = np.bincount(np.searchsorted(edges, before, side="right"), minlength=10)
    new = counts((days >= window[0]) & (days < window[1]))
    gain = np.log((new / new.sum()) / (old / old.sum()))
    first = max(window[0] - (window[1] - window[0]), int(days.min()))
    per_day = [
        (np.bincount(np.searchsorted(edges, values[days == day], side="right"), minlength=10) * gain).sum()
        for day in range(first, window[1])
    ]
    return first + int(np.argmax(np.cumsum(per_day[::-1])[::-1]))


def test_the_drift_of_temperature_is_found_with_its_start(year: Demo, table: pa.Table) -> None:
    first = of_cause(year, "drift")[0]
    signal = next(s for s in first.signals.values() if s["column"] == "temp")
    strongest = max(first.evidence["columns"], key=lambda c: c["value"] / c["limit"])
    assert strongest["column"] == "temp"
    days = (table.column("event_time").to_numpy() - np.datetime64("2013-03-01")).astype("timedelta64[s]").astype(
        int
    ) // 86400
    temp = table.column("temp").to_numpy(zero_copy_only=False)
    known = ~np.isnan(temp)
    serving = known & (days >= 0)
    start = drift_start(temp[serving], days[serving], temp[known & (days < 0)], (0, 14))
    assert abs(datetime.fromisoformat(signal["since"]) - (TRAINING.end + start * DAY)) <= DAY


def test_summer_and_christmas_delays_are_seen_in_performance(year: Demo) -> None:
    spells = [(i.since, i.last_breach) for i in of_cause(year, "performance")]
    for month in (7, 12):
        assert any(since.month <= month <= last.month for since, last in spells), f"nothing seen in month {month}"


def test_the_loop_closes(year: Demo) -> None:
    with year.engine.state.transaction() as tx:
        trained = tx.select(Action, state=ActionState.DONE)
        promoted = {r.candidate: r for r in tx.select(Rollout, state=RolloutState.PROMOTED)}
        champions = tx.champions(NAME)
    assert trained
    assert promoted
    assert champions[0][1] == "v1"
    assert [version for _, version in champions[1:]] == [
        r.candidate for r in sorted(promoted.values(), key=lambda r: r.ended_at or SERVING.end)
    ]
    closed = [i for i in of_cause(year, "drift") if "closed_by" in i.evidence]
    assert closed
    assert all(i.resolved_at is not None for i in closed)


def test_why_leads_from_an_incident_to_its_profiles(year: Demo) -> None:
    (incident,) = of_cause(year, "sentinel values")
    with year.engine.state.transaction() as tx:
        node = why(tx, incident.id)
    kinds = set()

    def walk(node: Node) -> None:
        kinds.add(node.id.partition("-")[0])
        for child in [*node.causes, *node.effects]:
            walk(child)

    walk(node)
    assert {"incident", "verdict", "point", "profile", "config", "transition"} <= kinds


def test_the_audit_record_is_unbroken(year: Demo) -> None:
    with year.engine.state.transaction() as tx:
        entries = tx.audit_trail()
    assert len(entries) > 50
    assert verify(entries) is None


def test_the_same_story_is_told_every_time(year: Demo, table: pa.Table, tmp_path: Path) -> None:
    again = Demo(tmp_path / "store")
    again.load(table)
    days = again.days()
    for _ in range(30):
        last = next(days)
    with again.engine.state.transaction() as tx:
        fresh = {(v.id, v.value, v.status) for v in tx.select(Verdict)}
    again.close()
    with year.engine.state.transaction() as tx:
        told = {(v.id, v.value, v.status) for v in tx.select(Verdict) if v.window.end <= last.at - DAY}
    assert {v for v in fresh if v in told} == told
    assert len(told) > 500


def test_nothing_alarms_where_nothing_changes(table: pa.Table, tmp_path: Path) -> None:
    # January and February with the flights dealt to the times at random: every day is like every other.
    serving = Window(datetime(2013, 1, 22, tzinfo=UTC), TRAINING.end)
    whole = table.slice(0, int(np.searchsorted(table.column("event_time").to_numpy(), np.datetime64("2013-03-01"))))
    dealt = np.random.default_rng(7).permutation(whole.num_rows)
    mixed = whole.take(dealt)
    for name in ("event_time", "request_id"):
        mixed = mixed.set_column(mixed.column_names.index(name), name, whole.column(name))
    control = Demo(
        tmp_path / "store", Window(TRAINING.start, serving.start), datetime(2013, 1, 15, tzinfo=UTC), serving
    )
    control.load(mixed)
    for _ in control.days():
        pass
    with control.engine.state.transaction() as tx:
        incidents, looks = tx.select(Incident), tx.select(Verdict)
    control.close()
    assert len(looks) > 1000
    assert [i.title for i in incidents if i.severity < Severity.P2] == []


def test_a_demo_that_was_killed_begins_anew(table: pa.Table, tmp_path: Path) -> None:
    store = tmp_path / "store"
    command = [sys.executable, "-m", "watchkeeper", "demo", "--no-serve", "--store", str(store)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as running:
        deadline = time.monotonic() + 120
        while not days_lived(store) and running.poll() is None and time.monotonic() < deadline:
            time.sleep(0.2)
        second = subprocess.run(command, capture_output=True, text=True, check=False)
        running.kill()
    assert second.returncode == 2, "a store that a demo lives in is not taken from it"
    assert "Only one process may hold it" in " ".join(second.stderr.split())
    again = Demo(store)
    again.load(table)
    for _, day in zip(range(2), again.days(), strict=False):
        assert day.flights > 0
    with again.engine.state.snapshot() as tx:
        assert verify(tx.audit_trail()) is None
        assert tx.champions(NAME) == [(TRAINING.end, "v1")]
    again.close()
    assert [path.name for path in tmp_path.iterdir()] == ["store"]


def days_lived(store: Path) -> bool:
    """Whether the demo of a store has come as far as its first ticks."""
    route = store / "registry" / NAME / "route.json"
    return route.is_file() and (store / "log.duckdb.wal").is_file()


def test_a_folder_that_no_demo_made_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work", encoding="utf-8")
    with pytest.raises(StateError, match="is not empty and no demo made it"):
        prepare(tmp_path)
    assert (tmp_path / "thesis.txt").read_text(encoding="utf-8") == "years of work"


def test_the_injected_spells_lie_within_the_year() -> None:
    for spell in (SENSOR, SLOW, Window(BAD_CANDIDATE, BAD_CANDIDATE + timedelta(days=1))):
        assert SERVING.start <= spell.start < spell.end <= SERVING.end
