"""Answers as files: what was asked comes back whole, says what it is, and is there whole or not at all."""

from __future__ import annotations

import io
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import csv

from watchkeeper.errors import DataError
from watchkeeper.schema import Config
from watchkeeper.store import exports
from watchkeeper.store.exports import Format
from watchkeeper.store.questions import Question

ROWS = pa.table(
    {
        "request_id": ["a", "b", None],
        "event_time": pa.array([datetime(2024, 3, 1, tzinfo=UTC)] * 3, pa.timestamp("us", "UTC")),
        "score": [0.5, None, float("inf")],
        "city, state": ['New "York"\n', "", None],
    }
)

CONFIG = Config.model_validate({"models": {"m": {"columns": {"city": {"kind": "categorical"}}, "threshold": 0.3}}})


def reader(table: pa.Table = ROWS) -> pa.RecordBatchReader:
    return exports.described(table.to_reader(2), "m", Question(limit=5), CONFIG)


@pytest.mark.parametrize("form", list(Format))
def test_what_is_written_comes_back(form: Format, tmp_path: Path) -> None:
    path = tmp_path / f"out.{form}"
    assert exports.save(reader(), path) == 3
    assert [found.name for found in tmp_path.iterdir()] == [path.name]
    if form is Format.CSV:
        options = csv.ConvertOptions(
            column_types=ROWS.schema, strings_can_be_null=True, quoted_strings_can_be_null=False
        )
        found = csv.read_csv(path, parse_options=csv.ParseOptions(newlines_in_values=True), convert_options=options)
        assert found.equals(ROWS)
        return
    found = pq.read_table(path) if form is Format.PARQUET else pa.ipc.open_stream(path.read_bytes()).read_all()
    assert found.equals(ROWS)
    assert exports.about(found.schema) == {
        "model": "m",
        "question": "newest first; at most 5",
        "config": CONFIG.version,
        "threshold": 0.3,
    }
    assert exports.features(found.schema) == ["city, state"]


@pytest.mark.parametrize("form", list(Format))
def test_an_answer_without_rows_is_a_file_with_columns(form: Format) -> None:
    sink = io.BytesIO()
    assert exports.write(reader(ROWS.slice(0, 0)), sink, form) == 0
    assert len(sink.getvalue()) > 10


def test_a_table_of_another_kind_says_nothing_of_itself() -> None:
    assert exports.about(ROWS.schema) == {}


def test_the_name_must_say_the_format(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=re.escape('did you mean ".parquet"?')):
        exports.save(reader(), tmp_path / "out.parqet")


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be written"):
        exports.save(reader(), tmp_path / "no" / "out.csv")


def test_a_file_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    def broken() -> Iterator[pa.RecordBatch]:
        yield from ROWS.to_batches()
        raise RuntimeError("the log is gone")

    path = tmp_path / "out.parquet"
    path.write_text("older")
    with pytest.raises(RuntimeError):
        exports.save(pa.RecordBatchReader.from_batches(ROWS.schema, broken()), path)
    assert [(found.name, found.read_text()) for found in tmp_path.iterdir()] == [("out.parquet", "older")]


LARGE = """
import sys, resource
from datetime import UTC, datetime
from pathlib import Path
import numpy as np, pyarrow as pa
from watchkeeper.schema import ModelConfig
from watchkeeper.store import exports, questions
from watchkeeper.store.backends import DuckDB
from watchkeeper.store.log import Log
from watchkeeper.store.privacy import Keys

folder, n = Path(sys.argv[1]), 200_000
names = [f"f{i}" for i in range(40)]
model = ModelConfig.model_validate({"columns": {name: {"kind": "numeric"} for name in names}})
log = Log(DuckDB(folder / "log.duckdb", memory="200MB"))
log.open_model("m", model)
dice = np.random.default_rng(1)
for start in range(0, n, 50_000):
    ids = [str(i) for i in range(start, start + 50_000)]
    times = pa.array(dice.integers(0, 10**15, 50_000), pa.timestamp("us"))
    log.append("m", pa.table({"request_id": ids, "event_time": times, **{k: dice.random(50_000) for k in names}}))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
asked = questions.read(model, Keys(), datetime.now(UTC))
with log.answer("m", asked) as batches:
    rows = exports.save(batches, folder / "out.parquet")
print(rows, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


def test_an_export_needs_less_memory_than_its_rows(tmp_path: Path) -> None:
    script = tmp_path / "large.py"  # in a file, for of what is no file DuckDB thinks that somebody watches its progress
    script.write_text(LARGE)
    done = subprocess.run([sys.executable, script, tmp_path], capture_output=True, text=True, timeout=300, check=True)
    rows, megabytes = map(int, done.stdout.split())
    assert rows == 200_000
    assert pq.read_metadata(tmp_path / "out.parquet").num_rows == rows
    assert megabytes < 40, f"the columns alone are {200_000 * 42 * 8 >> 20} MB"
