"""Answers of the log as files: Parquet, CSV or an Arrow stream, written batch by batch.

A file says in its metadata which model, question and configuration it came of, and the model's threshold, so that it
can be replayed; CSV has no place for that.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import csv

from watchkeeper.errors import DataError, did_you_mean
from watchkeeper.schema import Config
from watchkeeper.store.questions import FIELDS, Question

ABOUT = b"watchkeeper"
"""The key of a file's metadata that says what the file is."""


class Format(StrEnum):
    PARQUET = "parquet"
    CSV = "csv"
    ARROW = "arrow"


MEDIA = {
    Format.PARQUET: "application/vnd.apache.parquet",
    Format.CSV: "text/csv; charset=utf-8",
    Format.ARROW: "application/vnd.apache.arrow.stream",
}


def format_of(path: Path) -> Format:
    """The format that a file's name asks for. Raises DataError where there is no such."""
    ending = path.suffix.lower().removeprefix(".")
    if ending not in list(Format):
        known = [f".{name}" for name in Format]
        raise DataError(f'"{path}" has the ending of no format; {did_you_mean(path.suffix, known, "there are")}')
    return Format(ending)


def described(batches: pa.RecordBatchReader, model: str, question: Question, config: Config) -> pa.RecordBatchReader:
    """The same answer, whose schema says what it is."""
    told = {
        "model": model,
        "question": str(question),
        "config": config.version,
        "threshold": config.models[model].threshold,
    }
    said = json.dumps(told, ensure_ascii=False)
    return pa.RecordBatchReader.from_batches(batches.schema.with_metadata({ABOUT: said}), batches)


def about(schema: pa.Schema) -> Mapping[str, Any]:
    """What a schema says of its rows; nothing where it is not of an export."""
    found = (schema.metadata or {}).get(ABOUT)
    return json.loads(found) if found else {}


def features(schema: pa.Schema) -> list[str]:
    """The columns of an answer that are features."""
    return [name for name in schema.names if name not in FIELDS]


def write(batches: pa.RecordBatchReader, sink: IO[bytes], form: Format) -> int:
    """Write an answer; how many rows it had."""
    rows = 0
    with _writer(sink, batches.schema, form) as writer:
        for batch in batches:
            writer.write_batch(batch)
            rows += batch.num_rows
    return rows


def _writer(sink: IO[bytes], schema: pa.Schema, form: Format) -> Any:
    if form is Format.PARQUET:
        return pq.ParquetWriter(sink, schema, compression="zstd")
    return csv.CSVWriter(sink, schema) if form is Format.CSV else pa.ipc.new_stream(sink, schema)


def save(batches: pa.RecordBatchReader, path: Path) -> int:
    """Write an answer to a file, whose name says the format; how many rows it had. The file is there whole or not at
    all. Raises DataError where it cannot be written."""
    form, waiting = format_of(path), path.with_name(f".{path.name}.part")
    try:
        with waiting.open("wb") as sink:
            rows = write(batches, sink, form)
        waiting.replace(path)
    except OSError as problem:
        raise DataError(f"{path} cannot be written: {problem.strerror}; choose another place") from problem
    finally:
        waiting.unlink(missing_ok=True)
    return rows
