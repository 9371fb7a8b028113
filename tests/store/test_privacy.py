"""Protecting personal data: what is stored instead, that equal stays equal, and that nothing slips past."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from watchkeeper.errors import ConfigError
from watchkeeper.schema import Config, ModelConfig
from watchkeeper.settings import KeyConfig
from watchkeeper.store.privacy import Key, Keys, is_protected, load_keys, protect, protect_event, protect_kpis, shape

NEW, OLD = "n" * 32, "o" * 32
KEYS = Keys((Key.of(NEW), Key.of(OLD)))
EVENT = {"kind": "prediction", "model": "loans", "request_id": "r1", "event_time": "2024-01-01T00:00:00+00:00"}


def config(columns: dict[str, Any] | None = None, **settings: Any) -> Config:
    columns = columns or {"email": {"kind": "categorical", "sensitive": "pseudonymise"}, "age": {"kind": "numeric"}}
    models = {"loans": {"columns": columns, **settings}}
    return Config.model_validate({"models": models, "privacy": {"key": "env:KEY"}})


def model(columns: dict[str, Any] | None = None, **settings: Any) -> ModelConfig:
    return config(columns, **settings).models["loans"]


def one(kind: str, sensitive: str, *values: Any, **settings: Any) -> list[Any]:
    columns = {"x": {"kind": kind, "sensitive": sensitive, **settings}, "other": {"kind": "numeric"}}
    return list(protect(pa.table({"x": values}), model(columns), KEYS).column("x").to_pylist())


# pseudonyms


def test_a_pseudonym_is_keyed_blake2b_behind_the_name_of_its_key() -> None:
    key = Key.of(NEW)
    secret = hashlib.blake2b(NEW.encode(), digest_size=32, person=b"watchkeeper key").digest()
    expected = hashlib.blake2b(b"ann@example.org", key=secret, digest_size=16).hexdigest()
    assert key.pseudonym("ann@example.org") == f"{key.name}.{expected}"
    assert one("categorical", "pseudonymise", "ann@example.org") == [f"{key.name}.{expected}"]


def test_equal_values_have_equal_pseudonyms_whatever_their_type_and_column() -> None:
    columns = {name: {"kind": "categorical", "sensitive": "pseudonymise"} for name in ("a", "b")}
    table = pa.table({"a": [3.0, None, 4.0], "b": ["3", "x", "4"]})
    got = protect(table, model(columns), KEYS)
    a, b = got.column("a").to_pylist(), got.column("b").to_pylist()
    assert [a[0], a[2]] == [b[0], b[2]]
    assert a[1] is None
    assert len({*a, *b}) == 4


def test_a_pseudonym_is_not_made_again_even_of_one_by_an_older_key() -> None:
    of = Key.of(OLD).pseudonym("ann")
    assert one("categorical", "pseudonymise", of) == [of]
    stranger = Key.of("z" * 32).pseudonym("ann")
    assert one("categorical", "pseudonymise", stranger) != [stranger]


def test_a_table_is_protected_once() -> None:
    table = pa.table({"email": ["ann"]})
    once = protect(table, model(), KEYS)
    assert is_protected(once)
    assert not is_protected(table)
    assert protect(once, model({"email": {"kind": "text", "sensitive": "mask"}}), KEYS) is once


def test_a_table_keeps_its_metadata_and_rows_of_any_layout() -> None:
    chunked = pa.chunked_array([["ann", "bob"], [None, "ann"]])
    table = pa.table({"email": chunked.dictionary_encode(), "age": [1, 2, 3, 4]}).replace_schema_metadata({"m": "x"})
    got = protect(table, model(), KEYS)
    plain = protect(pa.table({"email": ["ann", "bob", None, "ann"]}), model(), KEYS)
    assert got.schema.metadata[b"m"] == b"x"
    assert got.column("email").to_pylist() == plain.column("email").to_pylist()
    assert got.column("age").to_pylist() == [1, 2, 3, 4]


def test_what_stands_for_unknown_stays() -> None:
    assert one("categorical", "pseudonymise", "unknown", "NaN", None, missing=["unknown"]) == ["unknown", "NaN", None]
    assert one("numeric", "mask", -999.0, 4321.0, missing=[-999]) == [-999.0, 4000.0]


def test_without_a_key_nothing_is_stored() -> None:
    with pytest.raises(ConfigError, match="no key"):
        protect(pa.table({"email": ["ann"]}), model(), Keys())


# masks


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("Ann Lee, 12 Elm St.", "Xxx Xxx, 99 Xxx Xx."),
        ("+49 (30) 1234-5", "+99 (99) 9999-9"),
        ("Zoë Ωμ", "Xx× ××"),
        ("", ""),
    ],
)
def test_a_mask_keeps_the_shape(text: str, masked: str) -> None:
    assert shape(text) == masked


@given(st.text())
def test_a_mask_keeps_what_is_measured_of_a_text_and_no_letter(text: str) -> None:
    masked = shape(text)
    assert len(masked) == len(text)
    assert [c.isascii() for c in masked] == [c.isascii() for c in text]
    assert [c in "0123456789" for c in masked] == [c in "0123456789" for c in text]
    assert {c for c in masked if c.isalnum()} <= {"X", "x", "9"}


def test_a_masked_number_keeps_its_first_digit() -> None:
    values = [43_217.0, 0.3, -87.0, 0.0, 1000.0, None]
    assert one("numeric", "mask", *values) == [40_000.0, 0.3, -90.0, 0.0, 1000.0, None]
    assert one("numeric", "mask", 43, 7) == [40.0, 7.0]
    assert one("numeric", "mask", "43", "ann@example.org", "NaN") == ["40", "xxx@xxxxxxx.xxx", "NaN"]
    assert one("duration", "mask", timedelta(seconds=67)) == [70.0]


def test_a_masked_moment_keeps_its_year() -> None:
    assert one("datetime", "mask", datetime(1984, 5, 6, 7, 8)) == [datetime(1984, 1, 1)]  # noqa: DTZ001
    aware = one("datetime", "mask", datetime(1984, 5, 6, 7, 8, tzinfo=UTC))[0]
    assert aware == datetime(1984, 1, 1, tzinfo=UTC)
    text = one("datetime", "mask", "1984-05-06T07:08:09.5+00:00", "Ann")
    assert text == ["1984-01-01T00:00:00+00:00", "Xxx"]
    fine = pa.table({"x": pa.array([456789123456789], pa.timestamp("ns"))})
    columns = {"x": {"kind": "datetime", "sensitive": "mask"}}
    assert protect(fine, model(columns), KEYS).column("x").to_pylist() == [datetime(1970, 1, 1)]  # noqa: DTZ001


def test_a_masked_context_keeps_its_keys() -> None:
    table = pa.table({"context": ['{"who":"Ann","n":[12,true,null]}', "not JSON", None]})
    got = protect(table, model(privacy={"context": "mask"}), KEYS)
    assert got.column("context").to_pylist() == ['{"who":"Xxx","n":[10.0,true,null]}', "xxx XXXX", None]


# fields beside the features


def test_dropped_fields_and_columns_are_left_out() -> None:
    settings = model(
        {"email": {"kind": "text", "sensitive": "drop"}, "age": {"kind": "numeric"}},
        privacy={"entity_id": "drop", "context": "drop", "undeclared": "drop"},
    )
    table = pa.table({"request_id": ["r"], "EMAIL": ["a"], "age": [1], "entity_id": ["e"], "context": ["{}"], "x": [1]})
    assert protect(table, settings, KEYS).column_names == ["request_id", "age"]
    assert list(settings.features) == ["age"]


def test_entities_are_pseudonymised_and_undeclared_values_masked() -> None:
    settings = model(privacy={"entity_id": "pseudonymise", "undeclared": "mask"})
    table = pa.table({"entity_id": ["ann", None], "phone": ["030 12", None], "nested": [{"a": "Bob"}, None]})
    got = protect(table, settings, KEYS)
    assert got.column("entity_id").to_pylist() == [Key.of(NEW).pseudonym("ann"), None]
    assert got.column("phone").to_pylist() == ["999 99", None]
    assert got.column("nested").to_pylist() == [{"a": "Xxx"}, None]


def test_a_model_without_anything_sensitive_stays_as_it_is() -> None:
    table = pa.table({"age": [1], "entity_id": ["ann"], "x": ["y"]})
    assert protect(table, model({"age": {"kind": "numeric"}}), Keys()).equals(table)


# KPIs


@pytest.mark.parametrize(
    ("undeclared", "left"),
    [
        (None, [("revenue", 12.5), ("salary", 5234.0)]),
        ("mask", [("revenue", 12.5), ("salary", 5000.0)]),
        ("drop", [("revenue", 12.5)]),
    ],
)
def test_kpis_that_are_not_declared_are_protected_like_columns_that_are_not(undeclared: Any, left: Any) -> None:
    settings = model({"age": {"kind": "numeric"}}, privacy={"undeclared": undeclared}, kpis={"revenue": {}})
    table = pa.table({"request_id": ["a", "b"], "name": ["revenue", "salary"], "value": [12.5, 5234.0]})
    got = protect_kpis(table, settings)
    assert [*zip(got["name"].to_pylist(), got["value"].to_pylist(), strict=True)] == left
    assert protect_kpis(got, settings).equals(got), "nothing is protected twice"


def test_a_refused_kpi_that_is_not_declared_is_masked() -> None:
    settings = config(privacy={"entity_id": "pseudonymise"}, kpis={"revenue": {}})
    told = {"kind": "kpi", "model": "loans", "request_id": "r1", "known_at": "soon"}
    declared, other = ({**told, "name": name, "value": 17} for name in ("revenue", "Salary"))
    assert protect_event(declared, settings, KEYS) == declared
    assert protect_event(other, settings, KEYS) == {**told, "name": "Xxxxxx", "value": 20.0}


def test_a_feature_may_be_called_like_a_field_of_a_kpi_and_is_protected() -> None:
    settings = model({"age": {"kind": "numeric"}}, privacy={"undeclared": "mask"})
    assert protect(pa.table({"name": ["Ann"]}), settings, KEYS)["name"].to_pylist() == ["Xxx"]


# events that are refused


def test_a_refused_event_is_protected() -> None:
    settings = config(privacy={"entity_id": "pseudonymise", "context": "drop"})
    kept = protect_event(
        {**EVENT, "entity_id": "ann", "context": {"a": 1}, "features": {"Email": "ann", "age": 3}, "nick": "Ann"},
        settings,
        KEYS,
    )
    pseudonym = Key.of(NEW).pseudonym("ann")
    assert kept == {**EVENT, "entity_id": pseudonym, "features": {"Email": pseudonym, "age": 3}, "nick": "Xxx"}


def test_a_refused_event_of_no_known_model_is_masked() -> None:
    kept = protect_event({"model": "laons", "features": {"email": "Ann"}, "entity_id": "ann"}, config(), KEYS)
    assert kept == {"model": "laons", "features": {"email": "Xxx"}, "entity_id": "xxx"}
    assert protect_event(["Ann", 17], config(), KEYS) == ["Xxx", 20.0]
    assert protect_event("{broken Ann", config(), KEYS) == "{xxxxxx Xxx"


def test_refused_events_stay_as_they_are_where_nothing_is_sensitive() -> None:
    event = {"model": "laons", "features": {"email": "Ann"}}
    assert protect_event(event, config({"age": {"kind": "numeric"}}), Keys()) is event


# keys


def test_keys_are_read_from_variables_and_files(tmp_path: Path) -> None:
    file = tmp_path / "key.txt"
    file.write_text(f"{OLD}\n", encoding="utf-8")
    settings = KeyConfig(key="env:KEY", previous_keys=(f"file:{file}",))
    assert load_keys(settings, tmp_path / "store", {"KEY": NEW}) == KEYS
    assert load_keys(KeyConfig(), tmp_path) == Keys()


def test_a_subject_is_known_by_all_its_names() -> None:
    assert KEYS.names_of("ann") == ("ann", Key.of(NEW).pseudonym("ann"), Key.of(OLD).pseudonym("ann"))


@pytest.mark.parametrize(
    ("where", "environ", "said"),
    [
        ("env:KEY", {}, "the environment variable KEY, which should hold the key, is not set"),
        ("env:KEY", {"KEY": "short-secret"}, "the key in env:KEY has 12 characters; make one of at least 32"),
        ("file:STORE/key", {}, "lies in the store"),
        ("file:STORE/../none", {}, "cannot be read: No such file"),
    ],
)
def test_a_key_that_cannot_be_used_is_told_without_it(
    tmp_path: Path, where: str, environ: dict[str, str], said: str
) -> None:
    store = tmp_path / "store"
    store.mkdir()
    (store / "key").write_text(NEW, encoding="utf-8")
    with pytest.raises(ConfigError, match=said) as caught:
        load_keys(KeyConfig(key=where.replace("STORE", str(store))), store, environ)
    assert "short-secret" not in str(caught.value)
    assert caught.value.path == ("privacy", "key")


def test_the_same_key_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="are the same") as caught:
        load_keys(KeyConfig(key="env:A", previous_keys=("env:B",)), tmp_path, {"A": NEW, "B": NEW})
    assert caught.value.path == ("privacy", "previous_keys", 0)
