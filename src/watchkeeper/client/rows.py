"""Many events at once: columns that a caller gave, and the lines of JSON that events become."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from copy import copy
from datetime import UTC, datetime
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any, NamedTuple

from watchkeeper import events
from watchkeeper.errors import DataError, MissingExtraError

_ARROW = "watchkeeper.client.arrow"
_encode = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode


class Line(NamedTuple):
    """One event as it is sent: a line of JSON, and what must be known to address it."""

    model: str
    kind: str
    text: str


def line(event: events.Event) -> Line:
    """An event as it is sent. Raises ValueError for a number too long to be written."""
    return Line(event["model"], event["kind"], _encode(event))


@cache
def arrow() -> Any:
    """The part of the client that speaks Arrow, or None where pyarrow is not installed. It is loaded on first use, so
    that a client that logs single predictions stays light."""
    return import_module(_ARROW) if find_spec("pyarrow") else None


class Rows:
    """Events of one kind, as columns of equal length named as the events' fields and features.

    Args:
        columns: name to values, for each row one.
        fields: what holds for every row.
    """

    def __init__(self, model: str, kind: str, columns: dict[str, Any], fields: dict[str, Any], length: int) -> None:
        self.model, self.kind = model, kind
        self._columns, self._fields, self._length = columns, fields, length

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, part: slice) -> Rows:
        start, stop, _ = part.indices(self._length)
        columns = {name: values[start:stop] for name, values in self._columns.items()}
        return Rows(self.model, self.kind, columns, self._fields, stop - start)

    def lines(self) -> tuple[list[Line], list[str]]:
        """Each row as a line, and why some rows cannot be one."""
        fields = set(events.FIELDS[self.kind]) - {"kind", "model", "features"}
        own = [name for name in self._columns if name in fields]
        features = [name for name in self._columns if name not in own]
        lines, wrong = [], []
        values = [_plain(self._columns[name]) for name in (*own, *features)]
        for row in zip(*values, strict=True):
            known = {name: _in_utc(value) for name, value in zip(own, row, strict=False)}
            event = {"model": self.model, "kind": self.kind, **self._fields, **known}
            if self.kind == events.PREDICTION:
                event["features"] = dict(zip(features, row[len(own) :], strict=True))
            try:
                lines.append(line(events.read(event)))
            except Exception as problem:  # noqa: BLE001 (a value of any type may fail in any way; its row is dropped)
                wrong.append(words_of(problem))
        return lines, wrong

    def arrow(self) -> bytes | None:
        """An Arrow stream of the rows; None without pyarrow, or if a column is not of one type."""
        speaks = arrow()
        return None if speaks is None else speaks.stream({**self._columns}, self._fields, self._length)


def words_of(problem: Exception) -> str:
    """What an error says, or its kind where it cannot say it."""
    try:
        return str(problem) or type(problem).__name__
    except Exception:  # noqa: BLE001 (it names a value that cannot be named)
        return type(problem).__name__


def columns_of(found: Any) -> tuple[dict[str, Any], int]:
    """A copy of what a caller gave as columns, and how many rows there are.

    Args:
        found: a mapping of names to sequences, a sequence of mappings (one a row), or a table of a library that hands
            over Arrow data, such as pyarrow, Polars or pandas.

    Raises DataError for anything else, and for columns of different lengths.
    """
    if hasattr(found, "__arrow_c_stream__") or hasattr(found, "__arrow_c_array__"):
        speaks = arrow()
        if speaks is None:
            raise MissingExtraError("a table of Arrow data needs pyarrow; install it, or give columns as lists")
        columns = speaks.columns(found)
    elif isinstance(found, Mapping):
        columns = {name: _copied(name, values) for name, values in found.items()}
    elif isinstance(found, Sequence) and not isinstance(found, str) and all(isinstance(r, Mapping) for r in found):
        names = dict.fromkeys(name for row in found for name in row)
        columns = {name: [row.get(name) for row in found] for name in names}
    else:
        raise DataError(
            f"rows must be columns (names to sequences), a list of mappings or a table, found {type(found).__name__}"
        )
    lengths = {name: len(values) for name, values in columns.items()}
    if len({*lengths.values()}) > 1:
        raise DataError(f"columns must have the same length, found {lengths}")
    for name in columns:
        if not isinstance(name, str) or not name:
            raise DataError(f"columns must have names that are strings, found {name!r}")
    return columns, next(iter(lengths.values()), 0)


def _copied(name: object, values: Any) -> Any:
    """A copy that can be cut into parts."""
    if isinstance(values, str | bytes | Mapping) or not isinstance(values, Iterable):
        raise DataError(f'column "{name}" must be a sequence of values, found {type(values).__name__}')
    if hasattr(values, "to_pylist"):
        return values  # Arrow's do not change
    if hasattr(values, "dtype"):
        dimensions = getattr(values, "ndim", 1)
        if dimensions != 1:
            raise DataError(f'column "{name}" must have one dimension, found {dimensions}')
        return copy(values)
    return list(values)


def _in_utc(value: Any) -> Any:
    """A moment of a table that has no zone is in UTC, as the server takes it, too."""
    return value.replace(tzinfo=UTC) if isinstance(value, datetime) and value.tzinfo is None else value


def _plain(values: Any) -> Iterable[Any]:
    """Values as Python's own, where their library knows how."""
    if getattr(getattr(values, "dtype", None), "kind", "") == "M":
        values = values.astype("datetime64[us]")  # finer ones would become bare numbers
    for way in ("to_pylist", "tolist", "to_list"):
        if hasattr(values, way):
            return getattr(values, way)()  # type: ignore[no-any-return]
    return values  # type: ignore[no-any-return]
