"""What the pages of a Parquet file say of themselves, before anything believes them.

Its decoder takes as much memory as the header of a page says that the page expands to, and as the dictionary says that
it has values. So each header is read first: they are structs of Thrift's compact protocol, see
https://github.com/apache/parquet-format and https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow.parquet as pq

LARGEST_HEADER = 1 << 16
"""Bytes of one header, statistics included."""
DEEPEST = 8
_EXPANDING = 7
"""DELTA_BYTE_ARRAY: each text begins as the one before did, so that a few bytes may stand for any number."""

_TYPE, _EXPANDED, _COMPRESSED, _DATA, _DICTIONARY, _DATA_V2 = 1, 2, 3, 5, 7, 8
_VALUES, _ENCODING = 1, {_DATA: 2, _DATA_V2: 4}


@dataclass(frozen=True, slots=True)
class Page:
    """A page as its header describes it: the bytes that it expands to, and how many values it has."""

    expanded: int
    values: int


def pages(body: bytes, about: pq.FileMetaData) -> Iterator[Page]:
    """Every page of a file. ValueError where one cannot be where or what it says, or expands without a known end."""
    for group in range(about.num_row_groups):
        for column in range(about.num_columns):
            chunk = about.row_group(group).column(column)
            first = chunk.data_page_offset
            if chunk.has_dictionary_page and 0 < chunk.dictionary_page_offset < first:
                first = chunk.dictionary_page_offset
            end = first + chunk.total_compressed_size
            if not 0 < first <= end <= len(body):
                raise ValueError("a column lies outside of the file")
            while first < end:
                header = _Struct(memoryview(body)[first : min(end, first + LARGEST_HEADER)])
                found = header.read()
                size, expanded = found.get(_COMPRESSED), found.get(_EXPANDED)
                if not isinstance(size, int) or not isinstance(expanded, int) or size < 0 or expanded < 0:
                    raise ValueError("a page has no size")
                inner = [found[which] for which in (_DATA, _DATA_V2, _DICTIONARY) if isinstance(found.get(which), dict)]
                for which, place in _ENCODING.items():
                    if isinstance(found.get(which), dict) and found[which].get(place) == _EXPANDING:
                        raise ValueError("texts are coded as DELTA_BYTE_ARRAY; code them plain or by a dictionary")
                values = [one.get(_VALUES, 0) for one in inner]
                if any(not isinstance(n, int) or n < 0 for n in values):
                    raise ValueError("a page has no number of values")
                yield Page(expanded, max(values, default=0))
                first += header.at + size
            if first > end:
                raise ValueError("a page reaches beyond its column")


@dataclass(slots=True)
class _Struct:
    """A reader of one struct; `at` is how far it has read."""

    data: memoryview
    at: int = 0
    depth: int = 0

    def read(self) -> dict[int, Any]:
        """The struct's fields by number: whole numbers and structs; of others only that they are there."""
        found: dict[int, Any] = {}
        number = 0
        self.depth += 1
        if self.depth > DEEPEST:
            raise ValueError("a header of a page is nested too deep")
        while (head := self._byte()) != 0:
            number = number + (head >> 4) if head >> 4 else self._zigzag()
            found[number] = self._value(head & 15)
        self.depth -= 1
        return found

    def _byte(self) -> int:
        if self.at >= len(self.data):
            raise ValueError("a header of a page is cut off or too long")
        self.at += 1
        return self.data[self.at - 1]

    def _varint(self) -> int:
        value = shift = 0
        while True:
            part = self._byte()
            value |= (part & 127) << shift
            if part < 128:
                return value
            shift += 7
            if shift > 63:
                raise ValueError("a header of a page holds a number without end")

    def _zigzag(self) -> int:
        value = self._varint()
        return (value >> 1) ^ -(value & 1)

    def _skip(self, count: int) -> None:
        self.at += count
        if self.at > len(self.data):
            raise ValueError("a header of a page is cut off or too long")

    def _value(self, kind: int) -> Any:
        if kind in (1, 2):  # true, false
            return kind == 1
        if kind == 3:
            return self._byte()
        if kind in (4, 5, 6):
            return self._zigzag()
        if kind == 7:
            return self._skip(8)
        if kind == 8:
            return self._skip(self._varint())
        if kind in (9, 10):
            head = self._byte()
            count = head >> 4 if head >> 4 != 15 else self._varint()
            for _ in range(count):
                self._byte() if head & 15 in (1, 2) else self._value(head & 15)
            return None
        if kind == 12:
            return self.read()
        raise ValueError("a header of a page cannot be read")
