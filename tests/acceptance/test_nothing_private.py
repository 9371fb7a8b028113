"""Nothing private leaks: what is sensitive is not to be found in any file of the store, whatever became of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from small_world import MONITORS, NAME, World, prediction, reference, values
from store_bytes import found_in
from watchkeeper import quarantine
from watchkeeper.records import Incident
from watchkeeper.schema import Config
from watchkeeper.store.privacy import Key

SECRETS = ("Rumpelstilz", "4.417123", "1984-05-06", "gebirge", "goldspinner", "strohhalm", "ziege", "kleider")
COLUMNS = {
    "amount": {"kind": "numeric"},
    "country": {"kind": "categorical", "sensitive": "pseudonymise"},
    "name": {"kind": "categorical", "sensitive": "pseudonymise"},
    "wage": {"kind": "numeric", "sensitive": "mask"},
    "born": {"kind": "datetime", "sensitive": "mask"},
    "story": {"kind": "text", "sensitive": "mask"},
    "address": {"kind": "text", "sensitive": "drop"},
}


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRIVACY_KEY", "k" * 64)


def settings(**more: Any) -> Config:
    model = {
        "columns": COLUMNS,
        "monitors": MONITORS,
        "privacy": {"entity_id": "pseudonymise", "context": "mask", "undeclared": "mask"},
        **more,
    }
    return Config.model_validate({"models": {NAME: model}, "privacy": {"key": "env:PRIVACY_KEY"}})


def with_all(table: pa.Table) -> pa.Table:
    rows = table.num_rows
    for name, column in {
        "name": ["Rumpelstilz" if i < 3 else "Hans" for i in range(rows)],
        "wage": [4.417123 if i < 3 else float(i) for i in range(rows)],
        "born": ["1984-05-06" if i < 3 else "1990-01-01" for i in range(rows)],
        "story": ["gebirge"] * rows,
    }.items():
        table = table.append_column(name, pa.array(column))
    return table


def personal(i: int, **fields: Any) -> dict[str, Any]:
    features = {
        "amount": -999 if i % 3 else 1.0,
        "country": values(i)["country"],
        "name": f"Rumpelstilz {i}",
        "wage": 4.417123,
        "born": "1984-05-06",
        "story": "hinter dem gebirge",
        "address": "strohhalm 7",
        "pet": "ziege",
        "wAGE": "kleider",
    }
    return {
        **prediction(i, 0),
        "features": features,
        "entity_id": "goldspinner",
        "context": {"who": "rumpelstilz"},
        **fields,
    }


def test_nothing_sensitive_is_in_any_file_of_the_store(tmp_path: Path) -> None:
    world = World(tmp_path, settings(), referred=False)
    world.engine.install(NAME, "base", with_all(reference()))
    world.engine.inbox.put([personal(i) for i in range(200)])
    world.engine.inbox.put(
        [
            personal(300, model="laons"),
            personal(301, event_time="yesterday"),
            personal(302, entity_id=["goldspinner"]),
            personal(303, context=7, nick="Rumpelstilz"),
            personal(304, features="Rumpelstilz"),
            {**personal(305), "features": {**personal(305)["features"], "wage": "kleider", "born": "ziege"}},
            "Rumpelstilz",
            ["goldspinner"],
        ]
    )
    (world.engine.inbox.folder / "0-broken.ndjson").write_text('{"name": "Rumpelstilz", strohhalm', encoding="utf-8")
    seen = world.at(2)
    assert (seen.tick.rows["record"], seen.tick.rows["reject"]) == (201, 7)
    assert world.rows(Incident), "an incident with samples was to open"
    assert world.engine.log.totals(NAME)["set_aside"] > 0
    world.engine.close()
    assert not found_in(tmp_path, *SECRETS)
    assert found_in(tmp_path, "xxxx xxx xxxxxxx")  # the mask of the story, so what is there is found


def test_names_of_few_rows_are_not_kept_in_profiles(tmp_path: Path) -> None:
    """The privacy of a column that is stored as it is, but whose rare values are not to be named in summaries."""
    columns = {"amount": {"kind": "numeric"}, "country": {"kind": "categorical"}}
    world = World(tmp_path, settings(columns=columns, privacy={"k_anonymity": 5}), referred=False)
    table = reference()
    rare = pa.array(["Rumpelstilz" if i < 4 else value for i, value in enumerate(table.column("country").to_pylist())])
    world.engine.install(NAME, "base", table.set_column(1, "country", rare))

    def strange(event: dict[str, Any]) -> None:
        if event["request_id"].endswith("7"):
            event["features"]["country"] = "goldspinner"

    world.day(0, change=strange)
    world.at(2)
    world.engine.close()
    places = found_in(tmp_path, "Rumpelstilz", "goldspinner")
    assert places
    assert all(place.startswith(("log.duckdb", "state.db: incidents", "state.db, as")) for place in places), places


def test_values_that_are_taken_in_from_the_quarantine_are_protected_first(tmp_path: Path) -> None:
    plain = {"amount": {"kind": "numeric"}, "country": {"kind": "categorical"}}
    world = World(tmp_path, settings(columns=plain, privacy={}), referred=False)
    event = prediction(0, 0)
    event["features"] |= {"name": "Rumpelstilz", "address": "strohhalm"}
    world.engine.inbox.put([event])
    world.at(0.5)
    world.engine.close()
    world.settings = settings()
    world.open()
    with world.engine.state.transaction() as tx:
        tx.set_cursor("", quarantine.REPLAY, "tests")
    world.at(0.6)
    [row] = world.engine.log.backend.rows(f"SELECT name FROM predictions_{NAME}")
    assert row == (Key.of("k" * 64).pseudonym("Rumpelstilz"),)
    world.engine.close()
