"""State: rows go in and come out as they are, changes never overwrite one another, and the record cannot be bent."""

from __future__ import annotations

import dataclasses
import json
import math
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np
import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

from watchkeeper import records
from watchkeeper.errors import ConflictError, StateError
from watchkeeper.profiles import Profile
from watchkeeper.records import (
    ALL,
    Action,
    AuditEntry,
    Delivery,
    DeliveryState,
    Incident,
    IncidentState,
    Point,
    Rollout,
    Transition,
    Verdict,
)
from watchkeeper.segments import Segmentation
from watchkeeper.stats.grid import Grid
from watchkeeper.store.sources import Part
from watchkeeper.store.state import KINDS, METADATA, TABLES, State, Transaction, verify
from watchkeeper.testing import profile_of
from watchkeeper.windows import DAY, Window

NOON = datetime(2024, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)
MIDNIGHT = datetime(2024, 3, 1, tzinfo=UTC)
CLASSES = sorted(TABLES, key=lambda cls: cls.__name__)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store" / "state.db"


@pytest.fixture(params=["sqlite", "postgres"])
def home(request: pytest.FixtureRequest, path: Path) -> str | Path:
    """Where the state of the test is kept."""
    return path if request.param == "sqlite" else str(request.getfixturevalue("new_postgres")())


@pytest.fixture
def state(home: str | Path) -> Iterator[State]:
    state = State(home)
    yield state
    state.close()


def row(cls: Any, number: int = 1, empty: bool = False, **settings: Any) -> Any:
    """A row of any record class with a value in each field; `empty` leaves out what may be missing."""
    plain: dict[Any, Any] = {
        str: "délai 遅延 'quoted'", int: 2**31 - 1, float: 0.1 + 0.2, datetime: NOON,
        Window: Window(MIDNIGHT, MIDNIGHT + DAY),
    }  # fmt: skip
    values: dict[str, Any] = {}
    for name, hint in get_type_hints(cls).items():
        optional = next((kind for kind in plain if hint == kind | None), None)
        if optional is not None:
            values[name] = None if empty else plain[optional]
        elif hint in plain:
            values[name] = plain[hint]
        elif isinstance(hint, type) and issubclass(hint, str):
            values[name] = list(hint)[-1]
        elif str(hint).startswith("dict"):
            values[name] = {} if empty else {"a": {"b": [1, None, "ü"]}, "c": {"d": 0.1}}
        elif hint == tuple[str, ...]:
            values[name] = () if empty else ("point-1", "point-2")
        else:
            values[name] = () if empty else ({"low": 0.1, "breached": []}, {})
    return cls(**{**values, "id": f"{cls.__name__.lower()}-{number:012x}", **settings})


def put(state: State, *rows: Any) -> None:
    with state.transaction() as tx:
        tx.put(rows)


def read(state: State, cls: Any, **equal: Any) -> list[Any]:
    with state.transaction() as tx:
        found: list[Any] = tx.select(cls, **equal)
        return found


# rows


@pytest.mark.parametrize("empty", [False, True])
@pytest.mark.parametrize("cls", CLASSES)
def test_a_row_comes_out_as_it_went_in(home: str | Path, cls: Any, empty: bool) -> None:
    one = row(cls, empty=empty)
    state = State(home)
    put(state, one)
    state.close()
    state = State(home)
    assert read(state, cls) == [one]
    for field in dataclasses.fields(cls):
        value = getattr(read(state, cls)[0], field.name)
        assert type(value) is type(getattr(one, field.name)), field.name
    state.close()


def test_every_record_that_has_an_id_has_a_table_of_its_kind() -> None:
    kept = {c for c in vars(records).values() if dataclasses.is_dataclass(c) and "id" in get_type_hints(c)}
    assert kept == {*TABLES, records.ApiKey}
    assert KINDS["verdict"] is Verdict
    assert set(KINDS) == {"point", "verdict", "incident", "transition", "delivery", "action", "rollout"}


def test_a_moment_is_kept_in_utc_to_the_microsecond(state: State) -> None:
    elsewhere = NOON.astimezone(timezone(timedelta(hours=-7)))
    put(state, row(Transition, at=elsewhere))
    (found,) = read(state, Transition)
    assert found.at == NOON
    assert (found.at.utcoffset(), found.at.microsecond) == (timedelta(0), 123456)
    with state.transaction() as tx:
        assert tx.select(Transition, TABLES[Transition].c.at == elsewhere) == [found]
        assert tx.select(Transition, TABLES[Transition].c.at > elsewhere) == []


def test_numbers_keep_every_bit(state: State) -> None:
    values = [0.1, 1 / 3, 1e-300, -1e300, math.pi]
    put(state, *(row(Point, i, value=v) for i, v in enumerate(values)))
    assert [p.value for p in read(state, Point, order="id")] == values


def test_putting_again_replaces(state: State) -> None:
    put(state, row(Point, value=1.0), row(Point, 2))
    put(state, row(Point, value=None, because=()))
    found = read(state, Point, order="id")
    assert [p.value for p in found] == [None, 0.1 + 0.2]
    assert found[0].because == ()


def test_rows_of_several_kinds_go_in_together_and_no_rows_do_no_harm(state: State) -> None:
    put(state)
    put(state, *(row(cls) for cls in CLASSES))
    assert all(len(read(state, cls)) == 1 for cls in CLASSES)


def test_a_row_is_got_by_its_id_or_not_at_all(state: State) -> None:
    put(state, row(Verdict))
    with state.transaction() as tx:
        assert tx.get(Verdict, row(Verdict).id) == row(Verdict)
        with pytest.raises(StateError, match="there is no verdict verdict-none"):
            tx.get(Verdict, "verdict-none")


def test_rows_are_selected_ordered_and_limited(state: State) -> None:
    put(state, *(row(Incident, i, model=f"m{i % 2}", opened_at=NOON + i * DAY) for i in range(5)))
    with state.transaction() as tx:

        def ids(**asked: Any) -> list[int]:
            return [int(i.id.split("-")[1]) for i in tx.select(Incident, **asked)]

        assert ids(model="m0", order="opened_at") == [0, 2, 4]
        assert ids(model="m0", order="-opened_at", limit=2) == [4, 2]
        assert ids(model=["m0", "m1"], order="id") == [0, 1, 2, 3, 4]
        assert ids(model=[]) == []
        assert ids(model="m0", state=IncidentState.OPEN) == []
        assert ids(state=[IncidentState.OPEN, IncidentState.RESOLVED], order="id") == [0, 1, 2, 3, 4]
        late = TABLES[Incident].c.opened_at >= NOON + 3 * DAY
        assert [i.opened_at for i in tx.select(Incident, late, model="m1")] == [NOON + 3 * DAY]


# changes


def test_a_change_is_written_once_and_counts_up(state: State) -> None:
    put(state, row(Delivery, revision=0, state=DeliveryState.PENDING))
    (read_first,) = read(state, Delivery)
    with state.transaction() as tx:
        newer = tx.change(dataclasses.replace(read_first, state=DeliveryState.SENDING))
    assert (newer.revision, newer.state) == (1, DeliveryState.SENDING)
    assert read(state, Delivery) == [newer]


@pytest.mark.parametrize("cls", [Incident, Delivery, Action, Rollout])
def test_who_read_before_somebody_else_changed_it_must_read_again(state: State, cls: Any) -> None:
    put(state, row(cls, revision=0))
    (mine,), (theirs,) = read(state, cls), read(state, cls)
    with state.transaction() as tx:
        changed = tx.change(theirs)
    with pytest.raises(ConflictError, match=f"{mine.id} was changed by somebody else"), state.transaction() as tx:
        tx.change(mine)
    assert read(state, cls) == [changed]


def test_what_is_not_there_cannot_be_changed(state: State) -> None:
    with pytest.raises(ConflictError), state.transaction() as tx:
        tx.change(row(Incident))


# transactions


def test_a_transaction_that_fails_leaves_nothing(state: State) -> None:
    put(state, row(Incident, revision=0))
    with pytest.raises(ConflictError), state.transaction() as tx:
        everything(tx)
    with state.transaction() as tx:
        assert [tx.select(cls) for cls in CLASSES if cls is not Incident] == [[]] * (len(CLASSES) - 1)
        assert [i.revision for i in tx.select(Incident)] == [0]
        assert (tx.grids("churn"), tx.champions("churn"), tx.cursor("churn", "late")) == ({}, [], None)
        assert (tx.config("config-1"), tx.audit_trail(), tx.span("churn")) == (None, [], None)


def everything(tx: Transaction) -> None:
    tx.put([row(cls, 2) for cls in CLASSES if cls is not Incident])
    tx.put_grids("churn", {"age": Grid.unit()})
    tx.put_profiles("churn", [Part("age", "v1", ALL, MIDNIGHT, profile_of([0.5], Grid.unit()))])
    tx.crown("churn", "v1", NOON, "install")
    tx.set_cursor("churn", "late", "1")
    tx.put_config("config-1", {}, NOON, "ana")
    tx.audit(NOON, "ana", "kind", "subject", {})
    tx.change(row(Incident, revision=0))
    tx.change(row(Incident, revision=0))  # fails, for the row has another revision by now


def test_a_database_that_is_busy_for_too_long_is_told_in_words(
    home: str | Path, state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("watchkeeper.store.state.PATIENCE", 0.05)
    hurried = State(home)
    locked = pytest.raises(
        StateError, match=r"cannot be used now: (database is locked|canceling .* due to lock timeout)"
    )
    with state.transaction(), locked, hurried.transaction():
        pass
    with hurried.transaction() as tx:
        assert tx.audit_trail() == []
    hurried.close()


# profiles and grids


def part(day: int, column: str = "age", label: str = ALL, version: str = "v1", rows: int = 1) -> Part:
    return Part(column, version, label, MIDNIGHT + day * DAY, profile_of([0.5] * rows, Grid.unit()))


def rows_of(found: list[tuple[Any, Profile]]) -> dict[tuple[str, str, int], int]:
    return {(k.column, k.label, (k.start - MIDNIGHT).days): p.n for k, p in found}


TEN_DAYS = Window(MIDNIGHT - 5 * DAY, MIDNIGHT + 5 * DAY)


def test_profiles_are_found_by_window_and_by_what_they_are_of(state: State) -> None:
    with state.transaction() as tx:
        tx.put_profiles("churn", [part(0), part(1), part(1, "score"), part(1, "score", "1"), part(2)])
        tx.put_profiles("other", [part(1)])
        window = Window(MIDNIGHT + DAY, MIDNIGHT + 2 * DAY)
        found = tx.profiles("churn", window)
        assert rows_of(found) == {("age", ALL, 1): 1, ("score", ALL, 1): 1, ("score", "1", 1): 1}
        assert rows_of(tx.profiles("churn", window, column=["age"])) == {("age", ALL, 1): 1}
        assert rows_of(tx.profiles("churn", window, column="score", label="1")) == {("score", "1", 1): 1}
        assert tx.profiles("churn", window, version=[]) == []
        keys = tx.profile_keys([key.id for key, _ in found])
        assert {key for key, _ in keys} == {key for key, _ in found}
        assert [n for _, n in keys] == [1, 1, 1]


def test_a_profile_comes_out_byte_for_byte(state: State) -> None:
    grid = Grid.fit(np.random.default_rng(1).normal(size=500))
    kept = [
        Part("x", "v1", ALL, MIDNIGHT, profile_of([0.1, None, math.nan, math.inf, -999.0, 1e300], grid)),
        Part("c", "v1", ALL, MIDNIGHT, profile_of(["NL", "", "遅延", None])),
    ]
    with state.transaction() as tx:
        tx.put_profiles("churn", kept)
        found = {key.column: profile.to_bytes() for key, profile in tx.profiles("churn", TEN_DAYS)}
    assert found == {p.column: p.profile.to_bytes() for p in kept}


def test_the_grains_that_are_summarised_again_are_replaced_column_by_column(state: State) -> None:
    with state.transaction() as tx:
        old = [part(0, "score", "1"), part(0, "score"), part(0, "age"), part(0, version="v0"), part(1, "score")]
        tx.put_profiles("churn", old)
        starts = [MIDNIGHT, MIDNIGHT + 3 * DAY]
        tx.put_profiles("churn", [part(0, "score", "0", rows=5), part(0, "score", rows=5)], starts, ["score"])
        assert rows_of(tx.profiles("churn", TEN_DAYS, version="v1")) == {
            ("score", "0", 0): 5, ("score", ALL, 0): 5, ("age", ALL, 0): 1, ("score", ALL, 1): 1,
        }  # fmt: skip
        tx.put_profiles("churn", [], [MIDNIGHT], ["age", "score"])
        assert rows_of(tx.profiles("churn", TEN_DAYS)) == {("score", ALL, 1): 1}


def test_reference_profiles_stand_outside_of_time(state: State) -> None:
    reference = Part("age", "v1", ALL, None, profile_of([0.5, 0.6], Grid.unit()))
    with state.transaction() as tx:
        tx.put_profiles("churn", [reference, part(0)])
        ((key, profile),) = tx.profiles("churn", None)
        assert (key.version, key.start, profile.n) == ("v1", None, 2)
        assert tx.profiles("churn", None, version="v2") == []
        assert [key.start for key, _ in tx.profiles("churn", TEN_DAYS)] == [MIDNIGHT]
        tx.put_profiles("churn", [], [MIDNIGHT], ["age"])
        assert len(tx.profiles("churn", None)) == 1


def test_the_span_reaches_from_the_first_grain_to_the_last(state: State) -> None:
    with state.transaction() as tx:
        tx.put_profiles("churn", [Part("age", "v1", ALL, None, profile_of([0.5], Grid.unit()))])
        assert tx.span("churn") is None
        tx.put_profiles("churn", [part(3), part(-2), part(1)])
        assert tx.span("churn") == (MIDNIGHT - 2 * DAY, MIDNIGHT + 3 * DAY)
        assert tx.span("other") is None


def test_a_grid_once_there_stays(state: State) -> None:
    first, second = Grid.unit(10), Grid.fit(np.random.default_rng(1).normal(size=300))
    with state.transaction() as tx:
        tx.put_grids("churn", {"age": first})
        tx.put_grids("churn", {"age": second, "income": second})
        tx.put_grids("churn", {})
        assert tx.grids("churn") == {"age": first, "income": second}
        assert tx.grids("churn")["income"].name == second.name
        assert tx.grids("other") == {}


def test_a_vocabulary_once_there_stays(state: State) -> None:
    with state.transaction() as tx:
        tx.put_grids("churn", {"age": Grid.unit()})
        tx.put_vocabularies("churn", {"country": ("BE", "NL"), "age": ("a number",)})
        tx.put_vocabularies("churn", {"country": ("DE",), "plan": ()})
        assert tx.vocabularies("churn") == {"country": ("BE", "NL"), "plan": ()}
        assert tx.grids("churn") == {"age": Grid.unit()}
        assert tx.vocabularies("other") == {}


def test_segments_once_there_stay(state: State) -> None:
    first, crossed = Segmentation(("country",), (("NL",), ("",))), Segmentation(("country", "plan"), (("NL", "a, b"),))
    with state.transaction() as tx:
        tx.put_segmentations("churn", [first])
        tx.put_segmentations("churn", [Segmentation(("country",), ()), crossed])
        tx.put_segmentations("churn", [])
        assert tx.segmentations("churn") == [crossed, first]
        assert tx.segmentations("other") == []


def test_profiles_of_segments_are_read_where_they_are_asked_for(state: State) -> None:
    parts = [part(0), replace(part(0, rows=3), segment="country=NL"), replace(part(0, rows=2), segment="country=DE")]
    with state.transaction() as tx:
        tx.put_profiles("churn", parts, [MIDNIGHT], ["age"])
        assert [(k.segment, p.n) for k, p in tx.profiles("churn", TEN_DAYS)] == [(ALL, 1)]
        assert [p.n for _, p in tx.profiles("churn", TEN_DAYS, "country=NL")] == [3]
        assert sorted(p.n for _, p in tx.profiles("churn", TEN_DAYS, None)) == [1, 2, 3]
        tx.put_profiles("churn", [part(0)], [MIDNIGHT], ["age"])
        assert len(tx.profiles("churn", TEN_DAYS, None)) == 1, "a grain is replaced with all its segments"


# configurations, champions, cursors


def test_a_configuration_is_kept_once_with_who_and_when(state: State) -> None:
    with state.transaction() as tx:
        assert tx.put_config("config-1", {"models": {}}, NOON, "ana")
        assert not tx.put_config("config-1", {"models": {}}, NOON + DAY, "ben")
        found = tx.config("config-1")
        assert found is not None
        assert (found["author"], found["at"], found["body"]) == ("ana", NOON, {"models": {}})
        assert tx.config("config-2") is None


def test_champions_are_told_oldest_first(state: State) -> None:
    with state.transaction() as tx:
        tx.crown("churn", "v2", NOON + DAY, "rollout-1")
        tx.crown("churn", "v1", NOON, "install")
        tx.crown("other", "v9", NOON, "install")
        assert tx.champions("churn") == [(NOON, "v1"), (NOON + DAY, "v2")]
        tx.crown("churn", "v3", NOON + DAY, "by hand")
        assert tx.champions("churn") == [(NOON, "v1"), (NOON + DAY, "v3")]
        assert tx.champions("nobody") == []


def test_a_cursor_holds_the_last_value(state: State) -> None:
    with state.transaction() as tx:
        assert tx.cursor("churn", "late") is None
        for value in ("1", "", "délai"):
            tx.set_cursor("churn", "late", value)
            assert tx.cursor("churn", "late") == value
        assert (tx.cursor("other", "late"), tx.cursor("churn", "other")) == (None, None)


# the audit record


def audited(state: State, entries: int = 5) -> list[AuditEntry]:
    with state.transaction() as tx:
        for i in range(entries):
            tx.audit(NOON + i * DAY, "ana", "transition", f"incident-{i % 2}", {"i": i, "note": "délai", "at": NOON})
        return tx.audit_trail()


def trail(state: State) -> list[AuditEntry]:
    with state.transaction() as tx:
        return tx.audit_trail()


def test_the_record_is_a_chain_that_verifies(state: State) -> None:
    assert verify([]) is None
    entries = audited(state)
    assert [e.seq for e in entries] == [5, 4, 3, 2, 1], "newest first"
    assert verify(entries) is None
    assert entries[-1].previous == ""
    assert [e.previous for e in entries[:-1]] == [e.hash for e in entries[1:]]
    assert all(len(e.hash) == 64 for e in entries)


def test_the_record_can_be_read_by_subject_and_from_its_end(state: State) -> None:
    audited(state)
    with state.transaction() as tx:
        assert [e.seq for e in tx.audit_trail("incident-0")] == [5, 3, 1]
        assert [e.seq for e in tx.audit_trail(limit=2)] == [5, 4]
        assert tx.audit_trail("nothing") == []


TAMPERING = {
    "an actor": "UPDATE audit SET actor = 'ben' WHERE seq = 3",
    "a kind": "UPDATE audit SET kind = 'config' WHERE seq = 3",
    "a subject": "UPDATE audit SET subject = 'incident-9' WHERE seq = 3",
    "a time": "UPDATE audit SET at = '2024-03-03 12:00:00.123457' WHERE seq = 3",
    "a payload": "UPDATE audit SET payload = '{}' WHERE seq = 3",
    "a hash": "UPDATE audit SET hash = 'x' || substr(hash, 2) WHERE seq = 3",
    "a link": "UPDATE audit SET previous = '' WHERE seq = 3",
    "a removal": "DELETE FROM audit WHERE seq = 3",
    "a removal of the first": "DELETE FROM audit WHERE seq = 1",
    "a removal that is papered over": "DELETE FROM audit WHERE seq = 3; UPDATE audit SET seq = seq - 1 WHERE seq > 3",
    "a new order": "UPDATE audit SET seq = 99 WHERE seq = 3; UPDATE audit SET seq = 3 WHERE seq = 4;"
    " UPDATE audit SET seq = 4 WHERE seq = 99",
    "an insertion": "INSERT INTO audit SELECT 6, at, actor, kind, subject, payload, previous, hash FROM audit"
    " WHERE seq = 3",
}


@pytest.mark.parametrize("what", TAMPERING)
def test_the_record_shows_that_it_was_tampered_with(state: State, what: str) -> None:
    audited(state)
    with state.engine.begin() as connection:
        for statement in TAMPERING[what].split(";"):
            connection.exec_driver_sql(statement)
    found = verify(trail(state))
    assert found is not None
    assert found.seq == {"an insertion": 6, "a removal of the first": 2, "a removal": 4}.get(what, 3)


def test_a_resealed_entry_is_found_by_the_next_one(state: State) -> None:
    third = audited(state)[2]
    forged = dataclasses.replace(third, actor="ben").sealed()
    with state.engine.begin() as connection:
        connection.execute(
            sa.text("UPDATE audit SET actor = :actor, hash = :hash WHERE seq = 3"),
            {"actor": forged.actor, "hash": forged.hash},
        )
    found = verify(trail(state))
    assert found is not None
    assert found.seq == 4


def test_the_record_takes_whatever_describes_what_happened(state: State) -> None:
    with state.transaction() as tx:
        tx.audit(NOON, "ana", "kind", "subject", {"when": NOON, "path": Path("/a"), "deep": [1, (2, 3)], 4: None})
        (entry,) = tx.audit_trail()
    assert entry.payload == {"when": str(NOON), "path": "/a", "deep": [1, [2, 3]], "4": None}
    assert verify([entry]) is None


def test_two_processes_that_open_a_new_database_and_append_keep_one_chain(home: str | Path) -> None:
    program = (
        "import sys; from datetime import UTC, datetime; from pathlib import Path\n"
        "from watchkeeper.store.state import State\n"
        "state = State(sys.argv[1] if '://' in sys.argv[1] else Path(sys.argv[1]))\n"
        "for i in range(30):\n"
        "    with state.transaction() as tx: tx.audit(datetime.now(UTC), sys.argv[2], 'kind', 'subject', {'i': i})\n"
    )
    writers = [subprocess.Popen([sys.executable, "-c", program, str(home), name]) for name in ("ana", "ben")]
    assert [writer.wait(timeout=60) for writer in writers] == [0, 0]
    state = State(home)
    entries = trail(state)
    state.close()
    assert verify(entries) is None
    for name in ("ana", "ben"):
        assert [e.payload["i"] for e in reversed(entries) if e.actor == name] == list(range(30))


# the database itself


def test_the_migrations_make_the_tables_that_the_code_means(state: State) -> None:
    with state.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, METADATA) == []


def test_opening_again_migrates_nothing_and_keeps_everything(home: str | Path, state: State) -> None:
    put(state, row(Incident))
    again = State(home)
    assert read(again, Incident) == [row(Incident)]
    again.close()


def test_a_new_database_that_another_one_is_setting_up_is_waited_for(path: Path) -> None:
    path.parent.mkdir()
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("CREATE TABLE other (x)")
    other.execute("BEGIN IMMEDIATE")
    release = threading.Timer(0.3, lambda: other.execute("COMMIT"))
    release.start()
    state = State(path)
    release.join()
    with state.engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
    other.close()
    state.close()


def test_a_database_of_a_newer_release_is_refused(home: str | Path, state: State) -> None:
    with state.engine.begin() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(StateError, match=r"revision 9999, which this release does not know; .* upgrade to that one"):
        State(home)


def test_a_snapshot_sees_one_moment_and_holds_nobody_up(state: State) -> None:
    put(state, row(Incident))
    with state.snapshot() as tx:
        assert len(tx.select(Incident)) == 1
        put(state, row(Incident, 2))
        assert len(tx.select(Incident)) == 1, "as it was when it was first looked at"
    with state.snapshot() as tx:
        assert len(tx.select(Incident)) == 2


def test_a_snapshot_in_postgres_cannot_write(new_postgres: Callable[[], str]) -> None:
    state = State(new_postgres())
    with pytest.raises(sa.exc.DatabaseError, match="read-only"), state.snapshot() as tx:
        tx.set_cursor("churn", "late", "1")
    state.close()


def test_counts_may_be_larger_than_two_billion(state: State) -> None:
    put(state, row(Point, n=3_000_000_000))
    assert read(state, Point)[0].n == 3_000_000_000


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("mysql://me:word@host/db", "kept in SQLite or in Postgres, not in mysql"),
        ("nothing", '"nothing" is no address of a database'),
        ("postgresql://me:word@/none?host=/no/such", r"postgresql\+psycopg://me:\*\*\*@/none.* cannot be opened"),
    ],
)
def test_an_address_that_does_not_work_is_told_without_its_password(url: str, complaint: str) -> None:
    with pytest.raises(StateError, match=complaint) as told:
        State(url)
    assert "word" not in str(told.value)


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "state.db").write_text(json.dumps(["not a database"] * 500))
    with pytest.raises(StateError, match=r"state\.db cannot be opened: file is not a database"):
        State(tmp_path / "state.db")
    with pytest.raises(StateError, match="cannot be opened: unable to open database file"):
        State("sqlite:////no/such/folder/state.db")
