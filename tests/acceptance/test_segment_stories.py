"""Stories of segments: one of them drifts, is found and named; the rest of the world is well."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from small_world import (
    CHAMPION,
    NAME,
    ROWS,
    Event,
    World,
    config,
    moment,
    outcome,
    prediction,
    reference,
    state_of,
    values,
)
from watchkeeper.profiles import Key, Profile, merge
from watchkeeper.records import ALL, Incident, Point, Severity, Status, Transition, Verdict
from watchkeeper.schema import Config
from watchkeeper.store.times import COLUMNS
from watchkeeper.why import why
from watchkeeper.windows import DAY, Window

DRIFT = {"name": "drift", "metric": "psi", "columns": ["amount"], "above": 0.8, "segments": True}
GAPS = {"name": "gaps", "metric": "null_rate", "columns": "features", "above": 0.2, "segments": True, "severity": "P1"}
LOSS = {"name": "log loss", "metric": "log_loss", "above": 0.3, "relative": "difference", "segments": True}
VOLUME = {
    "name": "volume", "metric": "volume", "below": 0.5, "relative": "ratio", "baseline": "3d", "segments": True,
}  # fmt: skip


def settings(**more: Any) -> Config:
    return config(segments=["country"], monitors=[DRIFT, GAPS, LOSS, VOLUME], **more)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path, settings())
    yield world
    world.engine.close()


def country(event: Event) -> str:
    return str(event["features"]["country"])


def only(name: str, change: Callable[[Event], None]) -> Callable[[Event], None]:
    return lambda event: change(event) if country(event) == name else None


def higher(event: Event) -> None:
    event["features"]["amount"] += 200


def lost(event: Event) -> None:
    event["features"]["amount"] = None


def found(world: World, monitor: str, day: float) -> dict[str, Status]:
    """What a monitor said of the amounts, or of the model, in each segment."""
    verdicts = world.rows(Verdict, monitor=monitor, window_end=moment(day))
    return {v.segment: v.status for v in verdicts if v.column != "country"}


def kept(world: World, day: int) -> dict[tuple[str, str, str], list[tuple[Key, Profile]]]:
    """The profiles of a day by version, column and label, but for the times that are kept of all rows alone."""
    places: dict[tuple[str, str, str], list[tuple[Key, Profile]]] = {}
    with world.engine.state.snapshot() as tx:
        for key, profile in tx.profiles(NAME, Window(moment(day), moment(day) + DAY), None):
            if key.column not in COLUMNS:
                places.setdefault((key.version, key.column, key.label), []).append((key, profile))
    return places


def hold_up(world: World, day: int) -> None:
    """The segments of each segmentation add up to all rows, to the byte."""
    places = kept(world, day)
    assert places
    with world.engine.state.snapshot() as tx:
        known = [one.names for one in tx.segmentations(NAME)]
    for found in places.values():
        [whole] = [profile for key, profile in found if key.segment == ALL]
        for names in known:
            merged = merge(profile for key, profile in found if key.segment in names)
            assert merged is not None
            assert merged.to_bytes() == whole.to_bytes()


def test_a_drift_in_one_segment_is_found_named_and_dated(world: World) -> None:
    world.day(0, 1, 2)
    world.at(3).want()
    world.day(3, change=only("NL", higher))
    world.at(4).want("drift of amount since 3: new to open")
    assert found(world, "drift", 4) == {
        ALL: Status.HEALTHY, "country=DE": Status.HEALTHY, "country=FR": Status.HEALTHY, "country=NL": Status.BREACH,
    }  # fmt: skip
    incident = world.incident("drift")
    assert incident.title == "Drift: amount in country=NL"
    [signal] = incident.signals.values()
    assert (signal["column"], signal["segment"], signal["since"]) == ("amount", "country=NL", moment(3).isoformat())
    assert incident.evidence["summary"].startswith("amount in country=NL: population stability index")
    [(heading, samples)] = incident.evidence["samples"].items()
    assert heading == "amount in country=NL"
    assert {int(row["request_id"].partition("-")[2]) % 3 for row in samples} == {2}, "all of them from there"
    [notice] = world.told.notices
    assert notice.title == "P2 loans: Drift: amount in country=NL [new]"
    assert any(line.startswith("amount in country=NL: psi ") for line in notice.lines)
    assert notice.details["signals"][0]["segment"] == "country=NL"


def test_why_leads_down_to_the_profiles_of_the_segment(world: World) -> None:
    world.day(0)
    world.day(1, change=only("NL", higher))
    world.at(2)
    with world.engine.state.snapshot() as tx:
        [verdict] = why(tx, world.incident("drift").id).causes
    assert verdict.text.startswith('monitor "drift" says breach: amount in country=NL psi ')
    _, current, baseline = verdict.causes[0].causes
    assert current.text == "1 profile of amount in country=NL, 2024-01-02 to 2024-01-02 UTC, 66 rows"
    assert baseline.text == "reference data of base: amount in country=NL, 330 rows"


def test_trouble_in_several_segments_and_in_all_is_one_incident(world: World) -> None:
    world.day(0, 1)
    world.at(2)
    world.day(2, change=only("NL", higher))
    world.at(3).want("drift of amount since 2: new to open")
    world.day(3, change=higher)
    world.at(4).want("drift of amount since 2: open to open")
    assert set(found(world, "drift", 4).values()) == {Status.BREACH}
    incident = world.incident("drift")
    assert {s["segment"] for s in incident.signals.values()} == {ALL, "country=DE", "country=FR", "country=NL"}
    [*_, spread] = world.rows(Transition, order="at")
    assert set(spread.note.split(", ")) == {"amount", "amount in country=DE", "amount in country=FR"}
    world.day(4, 5)
    world.at(6).want("drift of amount since 2: open to resolved")


def test_the_segments_add_up_however_late_and_lacking_the_rows_are(world: World) -> None:
    def odd(event: Event) -> None:
        i = int(event["request_id"].partition("-")[2])
        event["features"]["country"] = {0: None, 1: "XX", 2: "(other)"}.get(i % 7, country(event))

    world.day(0, change=odd, labels=False)
    world.at(1)
    hold_up(world, 0)
    world.labels(0)
    late = [prediction(1000 + i, 0) for i in range(ROWS)]
    for event in late:
        event["event_time"] = moment(0.5).isoformat()
        odd(event)
    world.engine.inbox.put(late)
    world.engine.inbox.put([outcome(1000 + i, 0) for i in range(ROWS)])
    world.at(1.5)
    hold_up(world, 0)
    assert world.counted(0) == 2 * ROWS
    sizes = {key.segment: profile.n for key, profile in kept(world, 0)[CHAMPION, "amount", ALL]}
    numbers = [i % 7 for i in (*range(ROWS), *range(1000, 1000 + ROWS))]
    assert sizes["country=(missing)"] == numbers.count(0)
    assert sizes["country=(other)"] == numbers.count(1) + numbers.count(2), (
        "a value that is called like the rest is one of the others"
    )
    before = state_of(world.engine)
    world.at(1.5)
    assert state_of(world.engine) == before


def test_what_was_seldom_in_the_reference_is_the_rest_for_ever(tmp_path: Path) -> None:
    """150 countries; those that were frequent at the start stay segments, whatever comes."""
    world = World(tmp_path, settings(), referred=False)
    table = reference()
    names = [f"C{min(i % 400, 149):03}" for i in range(table.num_rows)]
    world.engine.install(NAME, CHAMPION, table.set_column(1, "country", pa.array(names)), actor="tests")
    with world.engine.state.snapshot() as tx:
        [segments] = tx.segmentations(NAME)
        sizes = {k.segment: p.n for k, p in tx.profiles(NAME, None, None, column="amount", label=ALL)}
    assert len(segments.values) == 100
    assert segments.values[0] == ("C149",)
    assert sizes.pop(ALL) == sum(sizes.values()) == table.num_rows
    assert set(sizes) == {*segments.names[:100], "country=(other)"}

    def new(event: Event) -> None:
        event["features"]["country"] = "C148"

    world.day(0, 1, change=new)
    world.at(2)
    with world.engine.state.snapshot() as tx:
        assert tx.segmentations(NAME) == [segments]
    assert {key.segment for key, _ in kept(world, 1)[CHAMPION, "amount", ALL]} == {ALL, "country=(other)"}
    world.engine.close()


def test_a_segment_that_falls_silent_is_told_by_its_volume(world: World) -> None:
    world.day(0, 1, 2)
    world.at(3).want()

    def silent(event: Event) -> None:
        if country(event) == "NL":
            event["features"]["country"] = "DE"

    world.day(3, change=silent)
    world.at(4).want("volume of status since 3: new to open")
    assert world.incident("volume").title == "Volume: volume in country=NL"
    assert found(world, "gaps", 4)["country=NL"] is Status.NO_DATA
    assert "country=(missing)" not in found(world, "volume", 4), "where nothing is, nothing is missed"


def test_each_segment_has_its_own_labels(world: World) -> None:
    world.day(0, 1, labels=False)
    for day in (0, 1):
        wrong = [outcome(i, day, int(values(i)["score"] < 0.5) if i % 3 == 0 else None) for i in range(ROWS)]
        world.engine.inbox.put(wrong)
    world.at(3)
    assert found(world, "log loss", 2)["country=DE"] is Status.BREACH
    assert {found(world, "log loss", 2)[f"country={c}"] for c in ("FR", "NL")} == {Status.HEALTHY}
    points = world.rows(Point, monitor="log loss", segment="country=DE")
    assert {(p.n, p.coverage) for p in points} == {(67, 1.0)}


def test_segments_that_the_configuration_gains_are_counted_back_and_judged_from_then_on(tmp_path: Path) -> None:
    world = World(tmp_path, config(monitors=[GAPS | {"segments": False}]))
    world.day(0, 1, change=only("FR", lost))
    world.at(2).want("missing values of amount since 0: new to open")
    past = world.rows(Verdict)
    world.settings = config(segments=["country"], monitors=[GAPS])
    world.reopen()
    world.at(2.1).want()
    for day in (0, 1):
        hold_up(world, day)
    assert world.rows(Verdict) == past, "what was judged stays so"
    world.day(2, change=only("FR", lost))
    world.at(3).want("missing values of amount since 0: open to open")
    assert found(world, "gaps", 3)["country=FR"] is Status.BREACH
    assert found(world, "gaps", 3)["country=NL"] is Status.HEALTHY
    world.settings = config(monitors=[GAPS | {"segments": False}])
    world.reopen()
    world.day(3)
    world.at(4)
    assert {key.segment for key, _ in kept(world, 3)[CHAMPION, "amount", ALL]} == {ALL}
    world.settings = config(segments=["country"], monitors=[GAPS])
    world.reopen()
    world.at(4.1)
    hold_up(world, 3)
    world.engine.close()


def test_a_model_without_reference_data_has_segments_of_its_first_rows(tmp_path: Path) -> None:
    world = World(tmp_path, settings(), referred=False)
    world.day(0)
    world.at(1)
    with world.engine.state.snapshot() as tx:
        [segments] = tx.segmentations(NAME)
    assert segments.names == ("country=DE", "country=FR", "country=NL", "country=(other)", "country=(missing)")
    hold_up(world, 0)
    world.day(1, change=only("FR", lost))
    world.at(2).want("missing values of amount since 1: new to open")
    assert world.incident("missing values").title == "Missing values: amount in country=FR, amount"
    world.engine.close()


def test_crossings_are_segments_too(tmp_path: Path) -> None:
    columns = {
        "amount": {"kind": "numeric"}, "country": {"kind": "categorical"}, "device": {"kind": "categorical"},
    }  # fmt: skip
    world = World(
        tmp_path,
        config(columns=columns, segments=["country", ["country", "device"]], monitors=[DRIFT | {"min_rows": 20}]),
        referred=False,
    )
    table = reference()
    devices = ["web" if i % 2 else "app" for i in range(table.num_rows)]
    world.engine.install(NAME, CHAMPION, table.append_column("device", pa.array(devices)), actor="tests")

    def with_device(event: Event) -> None:
        i = int(event["request_id"].partition("-")[2])
        event["features"]["device"] = "web" if i % 2 else "app"

    def broken(event: Event) -> None:
        with_device(event)
        if event["features"]["device"] == "web" and country(event) == "NL":
            event["features"]["amount"] = 1.5

    for day in range(4):
        world.day(day, change=with_device if day < 2 else broken)
    world.at(4)
    hold_up(world, 3)
    assert world.incident("drift").title == "Drift: amount in country=NL, device=web"
    world.engine.close()


def test_an_incident_of_segments_that_are_watched_no_more_ends(world: World) -> None:
    world.day(0)
    world.day(1, change=only("NL", higher))
    world.at(2).want("drift of amount since 1: new to open")
    world.settings = config(segments=["country"], monitors=[DRIFT | {"segments": False}])
    world.reopen()
    world.day(2)
    world.at(3).want("drift of amount since 1: open to resolved")


def test_the_severity_of_a_segment_is_its_monitors(world: World) -> None:
    world.day(0)
    world.day(1, change=only("NL", lost))
    world.at(2)
    [incident] = world.rows(Incident, cause="missing values")
    assert incident.severity is Severity.P1
