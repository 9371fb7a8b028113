"""Events as JSON: the quick way takes exactly what the careful one does, and what is wrong is told by its index."""

from __future__ import annotations

import gzip
import json
import math
from typing import Any, get_type_hints

import msgspec
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_columns import tried

from watchkeeper import events
from watchkeeper.errors import DataError
from watchkeeper.server import formats
from watchkeeper.server.services import RequestError
from watchkeeper.store import fitting

AT = "2024-03-01T10:00:00Z"


def prediction(name: str = "a", **more: Any) -> dict[str, Any]:
    return {"request_id": name, "event_time": AT, "features": {"distance": 3.5, "city": "Graz"}, **more}


def outcome(name: str = "a", **more: Any) -> dict[str, Any]:
    return {"request_id": name, "label": 1, "known_at": AT, **more}


def kpi(request: str = "a", **more: Any) -> dict[str, Any]:
    return {"request_id": request, "name": "revenue", "value": 12.5, "known_at": AT, **more}


def read(found: Any, kind: str = events.PREDICTION) -> formats.Found:
    return formats.from_json(json.dumps(found).encode(), kind, "eta")


def rows(found: formats.Found, kind: str = events.PREDICTION) -> list[dict[str, Any]]:
    return formats.table(kind, found.rows, found.names).to_pylist()


def test_the_quick_form_has_the_fields_of_an_event() -> None:
    assert set(get_type_hints(formats.Prediction)) == set(events.FIELDS[events.PREDICTION])
    assert set(get_type_hints(formats.Outcome)) == set(events.FIELDS[events.OUTCOME])
    assert set(get_type_hints(formats.Kpi)) == set(events.FIELDS[events.KPI])


@pytest.mark.parametrize("form", [lambda e: e[0], lambda e: {"events": e}, lambda e: e], ids=["one", "events", "list"])
@pytest.mark.parametrize(
    ("kind", "event"), [(events.PREDICTION, prediction()), (events.OUTCOME, outcome()), (events.KPI, kpi())]
)
def test_one_event_or_many_in_either_form(form: Any, kind: str, event: dict[str, Any]) -> None:
    found = read(form([event]), kind)
    assert (found.accepted, found.rejected) == (1, {})
    assert rows(found, kind)[0]["request_id"] == "a"


@pytest.mark.parametrize("value", [12.5, -3, 0, True, 1e14])
def test_kpis_are_numbers_or_truth_values(value: Any) -> None:
    found = read([kpi(value=value), kpi("b", kind="kpi", model="eta")], events.KPI)
    assert found.rejected == {}
    assert [(row["name"], row["value"]) for row in rows(found, events.KPI)] == [("revenue", value), ("revenue", 12.5)]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"value": "12"}, "value must be a finite number, found '12'"),
        ({"value": None}, "value is missing; every kpi needs one"),
        ({"value": 1e15}, "value must be smaller than 1e+15"),
        ({"value": -1e300}, "value must be smaller than 1e+15"),
        ({"value": [1]}, "value must be a single value"),
        ({"name": ""}, "name must be a string that is not empty"),
        ({"name": None}, "name is missing"),
        ({"known_at": "soon"}, 'known_at "soon" is no time'),
        ({"request_id": 5}, "request_id must be a string"),
        ({"label": 1}, 'a kpi has no field "label"'),
        ({"kind": "outcome"}, 'kind is "outcome"'),
    ],
)
def test_a_kpi_that_is_wrong_is_told_by_its_index_and_the_others_are_kept(wrong: dict[str, Any], said: str) -> None:
    found = read([kpi(), kpi("b", **wrong), kpi("c")], events.KPI)
    assert [*found.rejected] == [1]
    assert said in found.rejected[1]
    assert [row["request_id"] for row in rows(found, events.KPI)] == ["a", "c"]


def test_a_score_of_each_class_becomes_a_column_of_each() -> None:
    found = read({"events": [prediction(score={"cat": 0.75, "dog": 0.25}), prediction("b", score={"cat": 1.0})]})
    assert not found.rejected
    first, second = rows(found)
    assert (first["score:cat"], first["score:dog"], first["score"]) == (0.75, 0.25, None)
    assert (second["score:cat"], second["score:dog"]) == (1.0, None)


def test_lines_are_events() -> None:
    body = b"\n".join([json.dumps(prediction("a")).encode(), b"", json.dumps(prediction("b")).encode(), b""])
    assert [row.request_id for row in formats.from_lines(body, events.PREDICTION, "eta").rows] == ["a", "b"]
    broken = b'{"request_id": \n' + json.dumps(prediction("b")).encode() + b"\n\xff\n" + b"[" * 100_000
    found = formats.from_lines(broken, events.PREDICTION, "eta")
    assert [row.request_id for row in found.rows] == ["b"]
    assert [*found.rejected] == [0, 2, 3]
    assert all(reason.startswith("not JSON") for reason in found.rejected.values())


def test_features_that_differ_between_events_are_columns_with_gaps() -> None:
    found = read(
        [prediction("a", features={"x": 1}), prediction("b", features={"y": "w"}), prediction("c", features={})]
    )
    assert found.names == ("x", "y")
    assert [(row["x"], row["y"]) for row in rows(found)] == [(1, None), (None, "w"), (None, None)]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (7, "must be a JSON object"),
        (prediction(event_time="noon"), "no time"),
        (prediction(event_time="2024-03-01T10:00:00"), "no time zone"),
        (prediction(event_time="1969-03-01T10:00:00Z"), "outside the years"),
        (prediction(event_time="9999-12-31T23:59:59-10:00"), "outside the years"),
        (prediction(request_id=""), "not empty"),
        (prediction(request_id="x" * 257), "257 characters"),
        (prediction(request_id=None), "request_id is missing"),
        (prediction(model="other"), 'model is "other"'),
        (prediction(kind="outcome"), 'kind is "outcome"'),
        (prediction(scoer=1), 'did you mean "score"?'),
        (prediction(features={"label": 1}), "a meaning of its own"),
        (prediction(features={"": 1}), "names"),
        (prediction(features=[1]), "must map names"),
        (prediction(context="{"), "context must be"),
        (prediction(score=[1]), "single value"),
    ],
)
def test_a_wrong_event_is_told_by_its_index_and_the_others_are_kept(wrong: Any, said: str) -> None:
    found = read([prediction("first"), wrong, prediction("last")])
    assert [row["request_id"] for row in rows(found)] == ["first", "last"]
    assert [*found.rejected] == [1]
    assert said in found.rejected[1]


def test_what_is_odd_and_right_is_taken() -> None:
    odd = [
        prediction("n", score="NaN", features={"a": 2**70, "b": -(2**63), "c": True, "d": None, "e": "\ud800"}),
        prediction("t", event_time="20240301T100000+0000", version=None, entity_id=12, context={"a": [1]}),
        prediction("m", model="eta", kind="prediction", context='{"a": 1}', features={"a": [1], "b": {"c": 1}}),
    ]
    found = read(odd)
    assert found.rejected == {}
    first, second, third = rows(found)
    assert (second["version"], second["entity_id"], second["context"]) == ("", "12", '{"a":[1]}')
    assert third["context"] == '{"a": 1}'
    assert (first["e"], third["a"]) == ("?", "[1]")


def test_many_names_and_many_events_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RequestError, match="2,001 different names"):
        read([prediction(features={str(i): 1 for i in range(2001)})])
    monkeypatch.setattr(formats, "MOST_ROWS", 2)
    with pytest.raises(RequestError, match="3 events"):
        read([prediction(str(i)) for i in range(3)])


def test_an_answer_tells_so_many_mistakes_at_most() -> None:
    found = read([7] * (formats.MOST_TOLD + 5) + [prediction()])
    answer = found.answer()
    assert (answer["accepted"], len(answer["rejected"]), answer["rejected_beside"]) == (1, formats.MOST_TOLD, 5)
    assert "rejected_beside" not in read([7]).answer()


scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
nested = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3)
)
moments = st.datetimes(timezones=st.timezones()).map(lambda at: at.isoformat()) | st.just(AT) | nested
fields = st.sampled_from([*events.FIELDS[events.PREDICTION], "scroe", "label"])
features = st.dictionaries(
    st.sampled_from(["distance", "city", "score", "x"]) | st.text(max_size=3), nested, max_size=4
)
likely = st.fixed_dictionaries(
    {"request_id": st.text(min_size=1, max_size=5) | nested, "event_time": moments, "features": features | nested},
    optional={"score": nested, "version": nested, "context": nested, "entity_id": nested, "status": nested},
)


@settings(max_examples=300, deadline=None)
@given(found=st.lists(likely | st.dictionaries(fields, nested) | nested, max_size=4))
def test_the_quick_way_takes_what_the_careful_way_takes(found: list[Any]) -> None:
    quick = formats.from_json(json.dumps(found).encode(), events.PREDICTION, "eta")
    careful, rejected = [], []
    for index, event in enumerate(json.loads(json.dumps(found))):
        try:
            careful.append(events.read(event, kind=events.PREDICTION, model="eta"))
        except DataError:
            rejected.append(index)
    assert sorted(quick.rejected) == rejected
    table = formats.table(events.PREDICTION, quick.rows, quick.names)
    assert table.num_rows == len(careful)
    wanted = fitting.table(events.columns(careful))
    for name in set(wanted.column_names) - {"event_time"}:
        if name in table.column_names:
            assert list(map(str, table[name].to_pylist())) == list(map(str, wanted[name].to_pylist())), name
    assert [at.isoformat() for at in table["event_time"].to_pylist()] == [event["event_time"] for event in careful]


def test_compressed_requests_are_expanded_up_to_a_limit() -> None:
    body = b"x" * 1000
    assert formats.expanded(gzip.compress(body), "gzip", 1000) == body
    assert formats.expanded(pa.compress(body, "zstd", asbytes=True), "zstd", 1000) == body
    bomb = gzip.compress(bytes(50 << 20))
    with pytest.raises(RequestError, match="expands to more than 1 MiB") as refused:
        formats.expanded(bomb, "gzip", 1 << 20)
    assert refused.value.status == 413
    for broken in (b"", b"nonsense", bomb[:1000]):
        assert tried(formats.expanded, broken, "gzip", 1 << 20) in (b"", 400, 413)


def test_numbers_without_end_are_no_trouble() -> None:
    for text in ("NaN", "Infinity", "1e999", "-1e999", "9" * 400, "9" * 5000):
        body = json.dumps([prediction(score=0)]).replace('"score": 0', f'"score": {text}').encode()
        found = tried(formats.from_json, body, events.PREDICTION, "eta")
        if found != 400:
            value = rows(found)[0]["score"]
            assert not isinstance(value, float) or math.isfinite(value)


def test_the_decoder_is_strict() -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(json.dumps(prediction(score="x" * 3, features={"a": [1]})), type=formats.Prediction)
