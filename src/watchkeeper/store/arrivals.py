"""The inbox's second form: events that are columns already, as the server writes them.

A batch holds events of one model and one kind in Arrow's file format; columns are named as `events.columns` names
them, and the schema's metadata says what they are and whether what is private in them is protected already (see
`privacy`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa

from watchkeeper import events
from watchkeeper.errors import DataError
from watchkeeper.store.inbox import Inbox
from watchkeeper.store.privacy import MARK, is_protected
from watchkeeper.store.sources import show

_ABOUT = b"watchkeeper"
"""The key of the metadata."""

Shape = tuple[str, str, bool, tuple[str, ...]]
"""What two batches share that can be one: model, kind, protected or not, and the names of the columns."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Events of one model and one kind."""

    model: str
    kind: str
    rows: pa.Table

    @property
    def shape(self) -> Shape:
        return self.model, self.kind, is_protected(self.rows), tuple(self.rows.column_names)

    def events(self) -> list[events.Event]:
        """The rows as events again, for those who read them one by one."""
        own = events.FIELDS[self.kind]
        found = []
        for row in self.rows.to_pylist():
            event: events.Event = {"kind": self.kind, "model": self.model}
            event |= {name: events.plain(value) for name, value in row.items() if name in own}
            if self.kind == events.PREDICTION:
                given = {name: events.plain(value) for name, value in row.items() if name not in own}
                event["features"] = {name: value for name, value in given.items() if value is not None}
            found.append(event)
        return found


def put(inbox: Inbox, batches: Iterable[Batch], form: str = ".arrow") -> list[Path]:
    """Write batches durably, a file each; when this returns they survive a crash. StateError if that cannot be done.

    `form` is how the names of the files end.
    """
    return inbox.keep(form, [_writer(batch) for batch in batches if batch.rows.num_rows])


def _writer(batch: Batch) -> Any:
    about = {_ABOUT: json.dumps({"model": batch.model, "kind": batch.kind}).encode()}
    rows = batch.rows.replace_schema_metadata(about | ({MARK: b"1"} if is_protected(batch.rows) else {}))

    def write(file: BinaryIO) -> None:
        with pa.ipc.new_file(file, rows.schema) as stream:
            stream.write_table(rows)

    return write


def read(path: Path) -> Batch:
    """A batch of the inbox; DataError if the file was damaged."""
    try:
        with pa.memory_map(str(path)) as file:
            rows = pa.ipc.open_file(file).read_all()
        rows.validate()
        about = json.loads(rows.schema.metadata[_ABOUT])
        mark = {MARK: b"1"} if is_protected(rows) else None
        return Batch(about["model"], about["kind"], rows.replace_schema_metadata(mark))
    except (pa.ArrowException, OSError, KeyError, TypeError, ValueError) as problem:
        raise DataError(f"{path} is no batch of events, or was damaged: {problem}") from problem


def together(tables: Sequence[pa.Table]) -> pa.Table:
    """Tables of the same columns as one; a column that is of several types becomes text."""
    if len(tables) == 1:
        return tables[0]
    try:
        return pa.concat_tables(tables, promote_options="permissive")
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError):
        return pa.concat_tables(_agreeing(tables), promote_options="permissive")


def _agreeing(tables: Sequence[pa.Table]) -> list[pa.Table]:
    mixed = set()
    for name in tables[0].column_names:
        fields = [pa.schema([table.schema.field(name)]) for table in tables]
        try:
            pa.unify_schemas(fields, promote_options="permissive")
        except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError):
            mixed.add(name)
    return [
        pa.table({name: _text(table[name]) if name in mixed else table[name] for name in table.column_names})
        for table in tables
    ]


def _text(column: pa.ChunkedArray) -> pa.ChunkedArray | pa.Array:
    try:
        return column.cast(pa.string())
    except pa.ArrowException:
        return pa.array([None if value is None else show(value) for value in column.to_pylist()], pa.string())
