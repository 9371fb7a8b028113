"""Arrow and Parquet: right rows are taken as columns, wrong ones told by index, and hostile files do no harm."""

from __future__ import annotations

import io
import json
import math
import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from watchkeeper import events
from watchkeeper.server import columns
from watchkeeper.server.formats import Found
from watchkeeper.server.services import RequestError

AT = datetime(2024, 3, 1, 10, tzinfo=UTC)
TIME = pa.timestamp("us", tz="UTC")


def predictions(n: int = 3, **more: Any) -> pa.Table:
    return pa.table(
        {
            "request_id": [f"r{i}" for i in range(n)],
            "event_time": pa.array([AT + timedelta(seconds=i) for i in range(n)], TIME),
            "score": [i / n for i in range(n)],
            "distance": [float(i) for i in range(n)],
            "city": ["Graz"] * n,
            **more,
        }
    )


def stream(table: pa.Table, **options: Any) -> bytes:
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        writer.write_table(table)
    return sink.getvalue()


def parquet(table: pa.Table, **options: Any) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, **options)
    return sink.getvalue()


def tried(read: Callable[..., Any], *given: Any) -> Any:
    """What was read, or the number of the refusal."""
    try:
        return read(*given)
    except RequestError as problem:
        return problem.status


def by_arrow(table: pa.Table, kind: str = events.PREDICTION) -> Found:
    return columns.from_arrow(stream(table), kind)


def by_parquet(table: pa.Table, kind: str = events.PREDICTION) -> Found:
    return columns.from_parquet(parquet(table), kind)


both = pytest.mark.parametrize("read", [by_arrow, by_parquet])
Read = Callable[..., Found]


@both
def test_right_rows_are_taken_with_what_json_would_fill_in(read: Read) -> None:
    found = read(predictions(2))
    assert (found.accepted, found.rejected) == (2, {})
    assert found.table is not None
    first = found.table.to_pylist()[0]
    assert first == {
        "request_id": "r0", "event_time": AT, "score": 0.0, "distance": 0.0, "city": "Graz", "version": "",
        "variant": "champion", "status": "ok",
    }  # fmt: skip


def test_an_empty_table_is_no_trouble() -> None:
    assert by_arrow(predictions(3).slice(0, 0)).accepted == 0


@both
@pytest.mark.parametrize(
    ("column", "values", "said"),
    [
        ("request_id", ["a", None, "c"], "request_id is missing"),
        ("request_id", ["a", "", "c"], "request_id is missing"),
        ("request_id", ["a", "x" * 257, "c"], "more than 256 characters"),
        ("event_time", pa.array([AT, None, AT], TIME), "event_time is missing"),
        ("event_time", pa.array([AT, datetime(1969, 1, 1, tzinfo=UTC), AT], TIME), "outside the years"),
        ("event_time", pa.array([1_700_000_000_000, 2**60, 0], pa.timestamp("ms")), "outside the years"),
        ("event_time", ["2024-03-01T10:00:00Z", "noon", "2024-03-01T10:00:00Z"], "no time"),
        ("event_time", ["2024-03-01T10:00:00Z", "2024-03-01T10:00:00", "2024-03-01T10:00:00Z"], "no time zone"),
        ("version", ["1", "x" * 257, "1"], "more than 256"),
        ("context", ['{"a": 1}', "{", None], "context must be"),
        ("context", ['{"a": 1}', "1, 2", None], "context must be"),
        ("context", ["1", '"a', 'b"'], "context must be"),
    ],
)
def test_a_wrong_row_is_told_by_its_index_and_the_others_are_kept(
    read: Read, column: str, values: Any, said: str
) -> None:
    table = predictions()
    table = table.drop_columns([column]) if column in table.column_names else table
    found = read(table.append_column(column, values if isinstance(values, pa.Array) else pa.array(values)))
    assert 1 in found.rejected
    assert said in found.rejected[1]
    assert found.table is not None
    assert found.table["distance"].to_pylist() == [float(i) for i in range(3) if i not in found.rejected]


def test_outcomes_are_tables_too() -> None:
    table = pa.table({"request_id": ["a", "b", "c"], "label": [1, None, 0], "known_at": pa.array([AT] * 3, TIME)})
    found = by_arrow(table, events.OUTCOME)
    assert found.rejected == {1: "label is missing; send an outcome only once it is known"}
    assert found.table is not None
    assert found.table["label"].to_pylist() == [1, 0]


def values(**more: Any) -> pa.Table:
    """KPIs as columns."""
    given = {"request_id": ["a", "b", "c"], "name": ["revenue"] * 3, "value": [1.0, 2.0, 3.0], "known_at": [AT] * 3}
    return pa.table({**given, **more})


@both
@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"value": [1.0, None, 3.0]}, "value is missing; send a KPI only once it is known"),
        ({"value": [1.0, math.nan, 3.0]}, "value must be a finite number smaller than 1e+15"),
        ({"value": [1, -(10**15), 3]}, "value must be a finite number smaller than 1e+15"),
        ({"name": ["revenue", None, "revenue"]}, "name is missing; every kpi needs one"),
        ({"name": ["revenue", "", "revenue"]}, "name is missing; every kpi needs one"),
        ({"name": ["revenue", "x" * 257, "revenue"]}, "name has more than 256 characters"),
        ({"request_id": ["a", None, "c"]}, "request_id is missing"),
    ],
)
def test_a_kpi_that_is_wrong_is_told_by_its_index(read: Read, wrong: dict[str, Any], said: str) -> None:
    found = read(values(**wrong), events.KPI)
    assert found.rejected == {1: said}
    assert found.table is not None
    assert found.table["value"].to_pylist() == [1, 3]


@pytest.mark.parametrize("numbers", [[1, 2, 3], [True, False, True], [Decimal("1.5")] * 3])
def test_kpis_are_numbers_of_any_type(numbers: list[Any]) -> None:
    found = by_arrow(values(value=numbers), events.KPI)
    assert found.rejected == {}
    assert found.table is not None
    assert found.table["value"].to_pylist() == [float(number) for number in numbers]


@pytest.mark.parametrize(
    ("table", "said"),
    [
        (values(value=["1", "2", "3"]), "must hold numbers"),
        (values(name=[1, 2, 3]), "must hold strings"),
        (values(amount=[1, 2, 3]), 'no field "amount"'),
        (values().drop_columns(["value"]), 'no column "value"; every kpi needs it'),
    ],
)
def test_a_table_that_holds_no_kpis_is_explained(table: pa.Table, said: str) -> None:
    with pytest.raises(RequestError, match=said):
        by_arrow(table, events.KPI)


@both
@pytest.mark.parametrize(
    ("table", "said"),
    [
        (predictions().drop_columns(["request_id"]), 'no column "request_id"'),
        (predictions().drop_columns(["event_time"]), 'no column "event_time"'),
        (predictions(x=[[1], [2], [3]]), "only single values"),
        (predictions(x=[{"a": 1}] * 3), "only single values"),
        (predictions(x=[b"\xff"] * 3), "only single values"),
        (predictions(label=[1, 2, 3]), "no feature can be"),
        (predictions(arrival=[1, 2, 3]), "no feature can be"),
        (predictions(version=[1, 2, 3]), "must hold strings"),
        (
            predictions().drop_columns(["event_time"]).append_column("event_time", pa.array([1, 2, 3])),
            "hold timestamps",
        ),
        (pa.table([["a"], ["b"]], names=["request_id", "request_id"]), "2 columns"),
    ],
)
def test_a_table_that_cannot_be_meant_is_explained(read: Read, table: pa.Table, said: str) -> None:
    with pytest.raises(RequestError, match=said) as refused:
        read(table)
    assert refused.value.status == 400


def test_an_outcome_has_no_other_columns() -> None:
    table = pa.table({"request_id": ["a"], "lable": [1], "known_at": pa.array([AT], TIME)})
    with pytest.raises(RequestError, match='no field "lable"') as refused:
        by_arrow(table, events.OUTCOME)
    assert "label" in refused.value.hint


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "UTC", "America/New_York"])
def test_moments_of_any_unit_and_zone_are_told_in_utc(unit: str, zone: str | None) -> None:
    seconds = int(AT.timestamp())
    scale = {"s": 1, "ms": 1000, "us": 10**6, "ns": 10**9}[unit]
    moments = pa.array([seconds * scale], pa.int64()).cast(pa.timestamp(unit, zone))
    table = predictions(1).drop_columns(["event_time"]).append_column("event_time", moments)
    found = by_arrow(table).table
    assert found is not None
    assert found["event_time"].to_pylist() == [AT]


def test_columns_coded_by_a_dictionary_are_taken() -> None:
    table = predictions(3, version=pa.array(["1", "2", "1"]).dictionary_encode())
    found = by_arrow(table).table
    assert found is not None
    assert found["version"].to_pylist() == ["1", "2", "1"]


def test_numbers_may_name_an_entity() -> None:
    found = by_arrow(predictions(2, entity_id=[1, None])).table
    assert found is not None
    assert found["entity_id"].to_pylist() == ["1", None]


# hostile files


def test_a_dictionary_cannot_expand_without_end() -> None:
    big = pa.DictionaryArray.from_arrays(pa.array([0] * 1000, pa.int32()), pa.array(["x" * 1_000_000]))
    with pytest.raises(RequestError, match="expand to more than"):
        by_arrow(predictions(1000, city=big))


def test_buffers_compressed_by_themselves_are_refused() -> None:
    for codec in ("zstd", "lz4"):
        with pytest.raises(RequestError, match="compressed") as refused:
            columns.from_arrow(stream(predictions(1000), compression=codec), events.PREDICTION)
        assert "Content-Encoding" in refused.value.hint


def test_a_dictionary_compressed_by_itself_is_refused() -> None:
    table = predictions(2, city=pa.array(["x" * 100_000, "y"]).dictionary_encode())
    with pytest.raises(RequestError, match="compressed"):
        columns.from_arrow(stream(table, compression="zstd"), events.PREDICTION)


def test_too_many_rows_or_columns_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    nothing = pa.table({"request_id": pa.nulls(2_000_000), "event_time": pa.nulls(2_000_000)})
    for read in (by_arrow, by_parquet):
        with pytest.raises(RequestError, match="more than 1,000,000 events"):
            read(nothing)
    with pytest.raises(RequestError, match="columns; one may have"):
        by_arrow(predictions(1, **{f"f{i}": [1] for i in range(columns.MOST_NAMES)}))


def test_a_parquet_bomb_is_refused() -> None:
    bomb = parquet(predictions(900_000, city=pa.array(["x" * 500] * 900_000)), compression="zstd")
    assert len(bomb) < 32 << 20
    with pytest.raises(RequestError, match="expand to more than"):
        columns.from_parquet(bomb, events.PREDICTION)


def lying(body: bytes, says: int) -> bytes:
    """A file whose last column's page says that it expands to so many bytes."""
    chunk = pq.read_metadata(pa.BufferReader(body)).row_group(0)
    at = chunk.column(chunk.num_columns - 1).data_page_offset
    assert body[at] == body[at + 2] == 0x15  # the type and the size, numbers of 32 bits
    end = at + 3
    while body[end] > 127:
        end += 1
    number, parts = 2 * says, []
    while number > 127:
        parts.append(number & 127 | 128)
        number >>= 7
    return body[: at + 3] + bytes([*parts, number]) + body[end + 1 :]


def test_a_page_that_lies_about_its_size_is_refused_before_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    body = parquet(predictions(10).select(["city", "event_time", "request_id"]), use_dictionary=False)
    assert columns.from_parquet(body, events.PREDICTION).accepted == 10
    monkeypatch.setattr(pq, "ParquetFile", None)
    with pytest.raises(RequestError, match="expand to more than") as refused:
        columns.from_parquet(lying(body, 2**31 - 1), events.PREDICTION)
    assert refused.value.status == 413


def test_a_dictionary_in_parquet_cannot_expand_without_end() -> None:
    rows = 5_000
    word = pa.DictionaryArray.from_arrays(pa.array([0] * rows, pa.int32()), pa.array(["x" * 200_000]))
    bomb = parquet(predictions(rows, city=word), compression="zstd", store_schema=False)
    assert len(bomb) < 1 << 20
    usual = pa.default_memory_pool()
    counted = pa.proxy_memory_pool(usual)
    pa.set_memory_pool(counted)
    with pytest.raises(RequestError, match="expand to more than"):
        columns.from_parquet(bomb, events.PREDICTION)
    pa.set_memory_pool(usual)
    assert counted.max_memory() < 256 << 20


def test_texts_that_lean_on_each_other_are_refused() -> None:
    body = parquet(predictions(9), use_dictionary=False, column_encoding={"city": "DELTA_BYTE_ARRAY"})
    with pytest.raises(RequestError, match="DELTA_BYTE_ARRAY") as refused:
        columns.from_parquet(body, events.PREDICTION)
    assert refused.value.status == 400


def test_text_that_is_none_is_refused() -> None:
    city = pa.Array.from_buffers(pa.string(), 3, pa.array([b"a", b"\xff\xfe", b"c"]).buffers())
    with pytest.raises(RequestError, match="no Arrow stream") as refused:
        by_arrow(predictions(3, city=city))
    assert refused.value.status == 400


@pytest.mark.parametrize("body", [b"", b"nonsense", b"\xff" * 100, b"PAR1" * 10, b"ARROW1\0\0" * 9, bytes(1000)])
def test_what_is_no_table_is_told(body: bytes) -> None:
    for read in (columns.from_arrow, columns.from_parquet):
        with pytest.raises(RequestError) as refused:
            read(body, events.PREDICTION)
        assert refused.value.status == 400


def test_damaged_tables_do_no_harm() -> None:
    chance = random.Random(1)
    wholes = [
        (columns.from_arrow, stream(predictions(50, version=pa.array(["1"] * 50).dictionary_encode()))),
        (columns.from_parquet, parquet(predictions(50))),
    ]
    for read, whole in wholes:
        for _ in range(400):
            body = bytearray(whole)
            for _ in range(chance.choice([1, 2, 10])):
                body[chance.randrange(len(body))] = chance.randrange(256)
            body = body[: chance.randrange(len(body))] if chance.random() < 0.2 else body
            found = tried(read, bytes(body), events.PREDICTION)
            assert found in (400, 413) or json.dumps(found.answer())
