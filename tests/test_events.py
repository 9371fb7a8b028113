"""The shape of events: what is accepted, what it becomes, and what a wrong one is told."""

from __future__ import annotations

import json
import math
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from enum import StrEnum
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from watchkeeper import events
from watchkeeper.errors import DataError

AT = datetime(2013, 7, 4, 15, tzinfo=UTC)
WIRE = {
    "kind": "prediction",
    "model": "delays",
    "request_id": "r1",
    "event_time": "2013-07-04T15:00:00+00:00",
    "version": "2",
    "variant": "champion",
    "entity_id": "7",
    "prediction": 1,
    "score": 0.83,
    "latency_ms": 4.2,
    "cpu_ms": 3.9,
    "memory_mb": 0.5,
    "gpu_memory_mb": 120.0,
    "disk_mb": 0.0,
    "cost": 0.002,
    "status": "ok",
    "context": '{"a":[1,"NaN"]}',
    "features": {"distance": 733, "origin": "JFK"},
}
OUTCOME = {
    "kind": "outcome",
    "model": "delays",
    "request_id": "r1",
    "label": 0,
    "known_at": "2013-07-05T08:00:00+00:00",
}


def test_a_prediction_has_exactly_its_fields() -> None:
    found = events.prediction(
        "delays", {"distance": 733, "origin": "JFK"}, request_id="r1", event_time=AT, version="2", entity_id=7,
        prediction=1, score=0.83, latency_ms=4.2, cpu_ms=3.9, memory_mb=0.5, gpu_memory_mb=120.0, disk_mb=0.0,
        cost=0.002, context={"a": (1, math.nan)},
    )  # fmt: skip
    assert found == WIRE
    assert tuple(found) == events.FIELDS[events.PREDICTION]


def test_an_outcome_has_exactly_its_fields() -> None:
    found = events.outcome("delays", "r1", np.int64(0), known_at=datetime(2013, 7, 5, 8, tzinfo=UTC))
    assert found == OUTCOME
    sourced = events.outcome("delays", "r1", 0, known_at=OUTCOME["known_at"], source="implicit")
    assert sourced == {**OUTCOME, "source": "implicit"}
    assert tuple(sourced) == events.FIELDS[events.OUTCOME]
    with pytest.raises(DataError, match="source must be one of explicit, implicit, delayed, found 'guess'"):
        events.read({**OUTCOME, "source": "guess"})


@pytest.mark.parametrize("event", [WIRE, OUTCOME])
def test_reading_a_written_event_changes_nothing(event: dict[str, Any]) -> None:
    assert events.read(json.loads(json.dumps(event))) == event


def test_what_may_be_left_out_is_filled_in() -> None:
    short = {"request_id": "r1", "event_time": "2013-07-04T17:00:00+02:00", "features": {}}
    found = events.read(short, kind="prediction", model="delays")
    nothing = dict.fromkeys(("entity_id", "prediction", "score", "latency_ms", *events.RESOURCES, "context"))
    assert found == WIRE | nothing | {"version": "", "features": {}}
    assert short.keys() == {"request_id", "event_time", "features"}
    null = {"status": None, "variant": None, "version": None}
    assert events.read(short | null, kind="prediction", model="delays") == found


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"kind": "guess"}, "kind must be"),
        ({"kind": None}, "kind must be"),
        ({"kind": ["prediction"]}, "kind must be"),
        ({"model": "other"}, 'model is "other"'),
        ({"scor": 1}, 'no field "scor"; did you mean "score"?'),
        ({"label": 1}, 'a prediction has no field "label"'),
        ({"request_id": None}, "request_id is missing"),
        ({"request_id": ""}, "request_id must be a string that is not empty, found ''"),
        ({"request_id": 5}, "request_id must be a string that is not empty, found 5 (int)"),
        ({"request_id": "x" * 257}, "request_id has 257 characters"),
        ({"event_time": "yesterday"}, 'event_time "yesterday" is no time'),
        ({"event_time": "2013-07-04T15:00:00"}, "event_time 2013-07-04T15:00:00 has no time zone"),
        ({"event_time": 1372950000}, "event_time must be a time"),
        ({"event_time": "0001-01-01T00:00:00+14:00"}, "lies outside the years"),
        ({"features": [1, 2]}, "features must map names to values"),
        ({"features": {"score": 1}}, 'features has "score"'),
        ({"features": {"": 1}}, "features must have names"),
        ({"score": [0.5]}, "score must be a single value"),
        ({"version": 3}, "version must be a string"),
        ({"context": "{"}, "context must be a JSON object or a string of JSON"),
        ({"context": [1]}, "context must be a JSON object or a string of JSON, found a list"),
    ],
)  # fmt: skip
def test_a_wrong_prediction_is_told_its_field(change: dict[str, Any], text: str) -> None:
    with pytest.raises(DataError) as caught:
        events.read(WIRE | change, model="delays")
    assert text in str(caught.value)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"label": None}, "label is missing"),
        ({"known_at": None}, "known_at is missing"),
        ({"known_at": "x"}, "known_at"),
        ({"lable": 1}, 'did you mean "label"?'),
        ({"kind": "prediction"}, 'kind is "prediction", but the event was sent as one of "outcome"'),
    ],
)  # fmt: skip
def test_a_wrong_outcome_is_told_its_field(change: dict[str, Any], text: str) -> None:
    with pytest.raises(DataError) as caught:
        events.read(OUTCOME | change, kind="outcome")
    assert text in str(caught.value)


@pytest.mark.parametrize("found", [None, 3, "x", [], [WIRE]])
def test_what_is_no_object_is_no_event(found: object) -> None:
    with pytest.raises(DataError, match="must be a JSON object"):
        events.read(found)


class Origin(StrEnum):
    JFK = "JFK"


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        (None, None),
        (True, True),
        (5, 5),
        (10**30, 10**30),
        ("ü", "ü"),
        ("\ud800", "?"),
        (1.5, 1.5),
        (math.nan, "NaN"),
        (math.inf, "Infinity"),
        (-math.inf, "-Infinity"),
        (np.float64(1.5), 1.5),
        (np.float32(0.5), 0.5),
        (np.float32("nan"), "NaN"),
        (np.float64("-inf"), "-Infinity"),
        (np.int64(3), 3),
        (np.bool_(True), True),
        (np.str_("a"), "a"),
        (np.array(2.5), 2.5),
        (np.array([2.5]), 2.5),
        (np.array([1, 2]), "[1 2]"),
        (np.datetime64("2013-07-04"), "2013-07-04"),
        (pd.NA, None),
        (pd.NaT, None),
        (pd.Timestamp("2013-07-04T17:00+02:00"), "2013-07-04T15:00:00+00:00"),
        (datetime(2013, 7, 4, 17, tzinfo=timezone(timedelta(hours=2))), "2013-07-04T15:00:00+00:00"),
        (datetime(2013, 7, 4), "2013-07-04T00:00:00"),  # noqa: DTZ001
        (date(2013, 7, 4), "2013-07-04"),
        (Decimal("1.25"), 1.25),
        (Decimal("NaN"), "NaN"),
        (Origin.JFK, "JFK"),
        (["a", 1], "['a', 1]"),
    ],
)  # fmt: skip
def test_a_value_as_json_carries_it(value: object, wanted: object) -> None:
    found = events.plain(value)
    assert found == wanted
    assert type(found) is type(wanted) or isinstance(found, str)
    assert json.loads(json.dumps(found, allow_nan=False)) == wanted


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
names = st.text(min_size=1).filter(lambda name: name not in events.RESERVED)


@settings(max_examples=200)
@given(st.dictionaries(names, scalars), scalars, scalars)
def test_whatever_is_logged_survives_the_wire(features: dict[str, Any], score: object, entity: object) -> None:
    found = events.prediction("m", features, request_id="r", event_time=AT, score=score, context={"e": entity})
    assert events.read(json.loads(json.dumps(found, allow_nan=False))) == found


anything = scalars | st.lists(scalars, max_size=3) | st.dictionaries(st.text(max_size=5), scalars, max_size=3)


@pytest.mark.parametrize("event", [WIRE, OUTCOME])
@settings(max_examples=200)
@given(st.data())
def test_whatever_is_sent_is_read_or_refused(event: dict[str, Any], data: st.DataObject) -> None:
    changed = event | {data.draw(st.sampled_from(sorted(event))): data.draw(anything)}
    try:
        found = events.read(changed)
    except DataError:
        return
    assert events.read(json.loads(json.dumps(found, allow_nan=False))) == found


def test_columns_put_features_beside_the_fields() -> None:
    one = events.prediction("m", {"a": 1, "kind": "x"}, request_id="r1", event_time=AT)
    two = events.prediction("m", {"b": "y", "model": "T"}, request_id="r2", event_time=AT, score=0.5)
    found = events.columns([one, two])
    assert found["request_id"] == ["r1", "r2"]
    assert found["score"] == [None, 0.5]
    assert (found["a"], found["b"]) == ([1, None], [None, "y"])
    assert (found["kind"], found["model"]) == (["x", None], [None, "T"])
    assert "features" not in found
    assert events.columns([OUTCOME]) == {"request_id": ["r1"], "label": [0], "known_at": [OUTCOME["known_at"]]}
    assert events.columns([]) == {}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"client": "a b"}, "client must be"),
        ({"dropped": [1]}, "dropped must map"),
        ({"dropped": {"by magic": 1}}, "dropped for one of invalid"),
        ({"dropped": {"closed": -1}}, "whole number"),
        ({"dropped": {"closed": True}}, "whole number"),
        ({"more": 1}, "losses have the fields"),
    ],
)
def test_losses_have_one_form(change: dict[str, Any], said: str) -> None:
    told = events.losses("delays", "a1", {"closed": 2})
    assert events.read_losses(told) == told
    with pytest.raises(DataError, match=said):
        events.read_losses(told | change)
