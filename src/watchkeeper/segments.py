"""Segments: parts of the traffic that are watched apart, by the values of a column or of several at once.

The values are frozen: those that the reference holds most often, so that a segment never changes by itself. Whatever
else comes is the rest, and rows that lack one of the columns are apart too. So the segments of a segmentation add up
to all rows.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

MOST = 100
"""Values, or crossings of values, that are segments of their own."""
REST, MISSING = "=(other)", "=(missing)"
"""How the names of the two segments end that hold the other values, and the rows that lack one."""


@dataclass(frozen=True)
class Segmentation:
    """The columns to part by, and their values that are segments of their own, most frequent first."""

    columns: tuple[str, ...]
    values: tuple[tuple[str, ...], ...]

    @cached_property
    def key(self) -> str:
        """What names the columns, whatever their values."""
        return json.dumps(self.columns)

    @property
    def rest(self) -> str:
        """The name of the segment of all other values."""
        return ", ".join(map(_plain, self.columns)) + REST

    @property
    def missing(self) -> str:
        """The name of the segment of rows that lack one of the columns."""
        return ", ".join(map(_plain, self.columns)) + MISSING

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The names of all segments: those of the values in their order, the rest, the missing."""
        return (*(self._name(value) for value in self.values), self.rest, self.missing)

    def _name(self, value: Iterable[str]) -> str:
        pairs = zip(self.columns, value, strict=True)
        return ", ".join(f"{_plain(column)}={_plain(part)}" for column, part in pairs)


def freeze(columns: tuple[str, ...], counts: Iterable[tuple[tuple[str, ...], int]]) -> Segmentation:
    """The segmentation by the most frequent values; of equally frequent ones, those first in the alphabet.

    Args:
        counts: the values of the columns, none missing, and how many rows of the reference hold them.
    """
    ranked = sorted(counts, key=lambda counted: (-counted[1], counted[0]))
    return Segmentation(columns, tuple(value for value, _ in ranked[:MOST]))


def is_named(segment: str) -> bool:
    """Whether the segment is of a value of its own: neither the rest nor the missing."""
    return not segment.endswith((REST, MISSING))


def _plain(text: str) -> str:
    """A column or a value as it is, or in quotes where it could be taken for more than one, or for the rest."""
    clear = text.isprintable() and text == text.strip() and re.fullmatch(r'[^,=()"]+', text)
    return text if clear else json.dumps(text, ensure_ascii=not text.isprintable())
