"""Rows are frozen, name themselves by their content, and seal the audit chain."""

from __future__ import annotations

import dataclasses
import inspect
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from watchkeeper import records
from watchkeeper.records import AuditEntry, Reason, Severity, row_id

AT = datetime(2020, 1, 1, tzinfo=UTC)
ROWS = [
    row for _, row in inspect.getmembers(records, dataclasses.is_dataclass) if row.__module__ == "watchkeeper.records"
]

parts = st.lists(st.one_of(st.text(), st.integers(), st.booleans(), st.none(), st.floats(allow_nan=False)), max_size=4)


@given(parts, parts)
def test_an_id_depends_on_the_parts_alone(one: list[object], two: list[object]) -> None:
    assert row_id("point", *one) == row_id("point", *one)
    if repr(one) != repr(two) and one != two:
        assert row_id("point", *one) != row_id("point", *two)


def test_an_id_says_its_kind_and_is_the_same_for_ever() -> None:
    assert row_id("verdict", "a", 1, None) == row_id("verdict", "a", 1, None)
    assert row_id("verdict").startswith("verdict-")
    assert len(row_id("verdict").removeprefix("verdict-")) == 12


def test_one_moment_in_two_time_zones_gives_one_id() -> None:
    assert row_id("x", AT) == row_id("x", AT.astimezone(timezone(timedelta(hours=5))))


def test_parts_do_not_run_into_each_other() -> None:
    assert row_id("x", "ab", "c") != row_id("x", "a", "bc")
    assert row_id("x", "a") != row_id("x", "a", "")


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.__name__)
def test_a_row_is_frozen(row: type) -> None:
    parameters = row.__dataclass_params__  # type: ignore[attr-defined]
    assert parameters.frozen


def test_every_reason_is_a_sentence_said_once() -> None:
    sentences = [reason.sentence for reason in Reason]
    assert len(set(sentences)) == len(sentences)
    for reason in Reason:
        assert reason == reason.value
        assert Reason(reason.value) is reason
        assert reason.sentence[0].islower()
        assert not reason.sentence.endswith(".")


def test_severities_sort_by_urgency() -> None:
    assert sorted(Severity) == [Severity.P0, Severity.P1, Severity.P2]


def entry(**changes: object) -> AuditEntry:
    plain = AuditEntry(1, AT, "engine", "promoted", "model", {"version": "2", "at": AT}, "0" * 64)
    return dataclasses.replace(plain, **changes).sealed()


def test_a_seal_does_not_depend_on_the_order_of_the_payload() -> None:
    assert entry(payload={"a": 1, "b": 2}).hash == entry(payload={"b": 2, "a": 1}).hash


@pytest.mark.parametrize(
    "change",
    [
        {"seq": 2},
        {"at": AT + timedelta(microseconds=1)},
        {"actor": "somebody"},
        {"kind": "rolled back"},
        {"subject": "other"},
        {"payload": {"version": "3", "at": AT}},
        {"previous": "1" * 64},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_seal_covers_every_field(change: dict[str, object]) -> None:
    assert entry(**change).hash != entry().hash


def test_sealing_twice_changes_nothing() -> None:
    assert entry().sealed() == entry()
    assert len(entry().hash) == 64
