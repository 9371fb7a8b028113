"""Grids: fixed, numbered bins for a numeric column, chosen once from its first reference data.

A grid is a monotone map of the real line onto whole numbers: linear between knots, logarithmic beyond the
outer knots, hence unbounded. Counts per bin add up over any split of the rows, in any order; distances,
quantiles and moments are read from them. A bin between knots holds at most `LARGEST_BIN` of the reference
mass beside its most frequent single value, which bounds the error of every distribution function read from the
counts (the Kolmogorov distance among them) on data like the reference.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

STEPS = 128
"""Bins between two neighbouring knots of a continuous grid."""
DISCRETE = 2
"""Bins from one knot to the next of a discrete grid: the value at the knot itself, and all that lies between."""
TAIL_STEPS = 8
"""Bins per e-fold beyond the outer knots."""
LARGEST_BIN = 0.004
MAX_KNOTS = 64
MAX_ATOMS = 64
"""A column with at most this many distinct values, seen twice each on average, gets a discrete grid."""
MAX_RATIO = 1e300
"""Distances beyond the outer knots are cut here, in units of the tail's scale; so bins stay numbered."""

NULL, NAN, POSITIVE_INFINITY, NEGATIVE_INFINITY, INVALID, SENTINEL = (2_000_000_000 + i for i in range(6))
"""Bin numbers beside a grid's own; `INVALID` is for what is no number at all, sentinel `i` is `SENTINEL + i`."""

SENTINELS = (
    *(float(s * v) for v in (99, 999, 9999, 99999, 999999, 9999999, 2147483647) for s in (-1, 1)),
    *(-1.0, -9.0, -2147483648.0),
)
"""Values that systems write for "unknown". Those outside a column's reference range are counted apart."""
DATE_SENTINELS = tuple(
    datetime(*day, tzinfo=UTC).timestamp()
    for day in ((1, 1, 1), (1753, 1, 1), (1899, 12, 30), (1900, 1, 1), (1970, 1, 1), (9999, 12, 31))
)
"""The same for moments: the first and last days that systems know, in seconds since 1970."""


@dataclass(frozen=True)
class Grid:
    """The numbered bins of one numeric column.

    Bin `k * steps + i` covers `[a(i), a(i + 1))` with `a(i) = knots[k] + i * (knots[k+1] - knots[k]) / steps`.
    The last knot is a bin of its own, number `top`. Above it, bin `top + 1 + j` covers the values whose
    `TAIL_STEPS * log1p((x - knots[-1]) / scale)` lies in `[j, j + 1)`; below the first knot, bin `-1 - j`
    likewise. On a discrete grid the knots are the distinct values; bin `2 k` is the knot itself, bin `2 k + 1` what
    lies between it and the next.
    """

    knots: tuple[float, ...]
    steps: int
    scale: float
    sentinels: tuple[float, ...]

    @cached_property
    def name(self) -> str:
        """`grid-` and 12 hexadecimal digits of the content's hash; profiles on other grids do not mix."""
        text = json.dumps([self.knots, self.steps, self.scale, self.sentinels, TAIL_STEPS])
        return f"grid-{hashlib.blake2b(text.encode(), digest_size=6).hexdigest()}"

    @property
    def discrete(self) -> bool:
        return self.steps == DISCRETE

    @property
    def top(self) -> int:
        """The number of the last bin that reference data can fall into."""
        return (len(self.knots) - 1) * self.steps

    @classmethod
    def fit(cls, values: Floats, sentinels: tuple[float, ...] = SENTINELS) -> Grid:
        """Choose a grid for a column.

        Args:
            values: reference values, one dimension, any order; what is not finite is passed over. A random
                sample of the column will do.
            sentinels: values that would stand for "unknown"; those within the range are ordinary ones.

        Without any finite value the grid has the single knot 0.
        """
        finite = np.sort(np.clip(values[np.isfinite(values)], -MAX_RATIO, MAX_RATIO))
        finite = finite + 0.0 if len(finite) else np.zeros(1)  # no signed zero: the name would depend on the order
        first = np.flatnonzero(np.diff(finite, prepend=-np.inf))
        atoms, counts = finite[first], np.diff(first, append=len(finite))
        if len(atoms) == 1 or (len(atoms) <= MAX_ATOMS and 2 * len(atoms) <= len(finite)):
            knots, steps = atoms, DISCRETE
        else:
            knots, steps = _refine(atoms, counts / counts.sum()), STEPS
        least, greatest = float(atoms[0]), float(atoms[-1])
        reach = max(abs(least), abs(greatest)) or 1.0
        scale = float(np.std(finite / reach)) * reach or reach  # squares of very large values would overflow
        return cls(
            knots=tuple(float(k) for k in knots),
            steps=steps,
            scale=scale,
            sentinels=tuple(s for s in sentinels if not least <= s <= greatest),
        )

    @classmethod
    def unit(cls, bins: int = 1000) -> Grid:
        """Equal bins on [0, 1], for scores that are probabilities. A threshold of `i / bins` is an edge."""
        return cls(knots=(0.0, 1.0), steps=bins, scale=1.0, sentinels=())

    @classmethod
    def logarithmic(cls, low: float, high: float, knots: int = 17) -> Grid:
        """Bins whose width grows with the value, between two positive numbers; at most 2% wide for latencies."""
        return cls(tuple(float(k) for k in np.geomspace(low, high, knots)), STEPS, low, ())

    def bins(self, values: Floats) -> Ints:
        """The bin number of each value.

        Args:
            values: doubles of any kind, NaN and infinities too, shape (rows,).

        Example:
            >>> Grid.unit(10).bins(np.array([0.5, 2.0, np.nan])).tolist()
            [5, 16, 2000000001]
        """
        knots = np.asarray(self.knots)
        out = np.full(len(values), NAN, dtype=np.int64)
        out[values == np.inf], out[values == -np.inf] = POSITIVE_INFINITY, NEGATIVE_INFINITY
        inside = (values >= knots[0]) & (values < knots[-1])
        out[inside] = self.bins_inside(values[inside])
        out[values == knots[-1]] = self.top
        finite = np.isfinite(values)
        for sign, end in ((1, knots[-1]), (-1, knots[0])):
            at = np.flatnonzero(finite & (sign * values > sign * end))
            with np.errstate(over="ignore"):
                ratio = np.minimum(np.abs(values[at] - end) / self.scale, MAX_RATIO)
            beyond = np.floor(TAIL_STEPS * np.log1p(ratio)).astype(np.int64)
            out[at] = self.top + 1 + beyond if sign > 0 else -1 - beyond
        for i, value in enumerate(self.sentinels):
            out[values == value] = SENTINEL + i
        return out

    def bins_inside(self, values: Floats, room: Workspace | None = None) -> Ints:
        """The bins of values from the first knot on and below the last, which need no logarithm; what it gives for
        others has no meaning.

        Args:
            room: memory to work in, where the bins are given too, until it is used again; new memory without it.
        """
        if room is None or room.rows < len(values):
            room = Workspace(len(values))
        bins: Ints
        above, piece, bins, place, other, whole = room.parts(len(values))
        knots = np.asarray(self.knots)
        piece.fill(0)
        for knot in knots[1:-1]:  # a few hundred times as many comparisons as a search makes, and five times as fast
            np.greater_equal(values, knot, out=above)
            np.add(piece, above.view(np.int8), out=piece)
        np.copyto(bins, piece)
        knots.take(bins, out=place, mode="clip")
        if self.discrete:
            np.greater(values, place, out=above)
            np.multiply(bins, DISCRETE, out=bins)
            np.add(bins, above, out=bins)
            return bins
        with np.errstate(over="ignore", invalid="ignore"):
            np.subtract(values, place, out=place)
            (self.steps / np.diff(knots)).take(bins, out=other, mode="clip")
            np.multiply(place, other, out=place)
            np.copyto(whole, place, casting="unsafe")
        np.multiply(bins, self.steps, out=bins)
        np.add(bins, whole, out=bins)
        return bins

    def edges(self, bins: Ints) -> tuple[Floats, Floats]:
        """The lower and upper end of each bin, two arrays of the shape of `bins`; equal for a bin of one value."""
        lower, upper = self._inner
        beyond = (bins < 0) | (bins > self.top)
        if not beyond.any():
            return lower[bins], upper[bins]
        known = np.where(beyond, 0, bins)
        lower, upper = lower[known], upper[known]
        lower[beyond], upper[beyond] = self._edges(bins[beyond])
        return lower, upper

    @cached_property
    def _inner(self) -> tuple[Floats, Floats]:
        """The ends of all bins that reference data can fall into: most that are asked for, and often."""
        return self._edges(np.arange(self.top + 1))

    def _edges(self, bins: Ints) -> tuple[Floats, Floats]:
        knots = np.asarray(self.knots)
        inside = np.clip(bins, 0, max(self.top - 1, 0))
        k, i = np.divmod(inside, self.steps)
        right = np.minimum(k + 1, len(knots) - 1)
        if self.discrete:
            lower, upper = knots[k], np.where(i == 0, knots[k], knots[right])
        else:
            gap = knots[right] - knots[k]
            lower = knots[k] + i * gap / self.steps
            upper = np.where(i + 1 == self.steps, knots[right], knots[k] + (i + 1) * gap / self.steps)
        at_top = bins == self.top
        lower, upper = np.where(at_top, knots[-1], lower), np.where(at_top, knots[-1], upper)
        beyond = np.where(bins > self.top, bins - self.top - 1, np.where(bins < 0, -1 - bins, 0))
        with np.errstate(over="ignore"):
            near = np.minimum(self.scale * np.expm1(np.minimum(beyond / TAIL_STEPS, 700.0)), MAX_RATIO)
            far = np.minimum(self.scale * np.expm1(np.minimum((beyond + 1) / TAIL_STEPS, 700.0)), MAX_RATIO)
        lower = np.where(bins > self.top, knots[-1] + near, np.where(bins < 0, knots[0] - far, lower))
        upper = np.where(bins > self.top, knots[-1] + far, np.where(bins < 0, knots[0] - near, upper))
        return lower, upper

    def to_dict(self) -> dict[str, object]:
        return {
            "knots": list(self.knots),
            "steps": self.steps,
            "scale": self.scale,
            "sentinels": list(self.sentinels),
        }

    @classmethod
    def from_dict(cls, data: dict[str, object]) -> Grid:
        knots, sentinels = data["knots"], data["sentinels"]
        assert isinstance(knots, list)
        assert isinstance(sentinels, list)
        return cls(tuple(knots), int(str(data["steps"])), float(str(data["scale"])), tuple(sentinels))


class Workspace:
    """Memory that counting works in, taken once: new memory for each batch costs as much as the counting."""

    def __init__(self, rows: int) -> None:
        kinds = (np.bool_, np.int8, np.int64, np.float64, np.float64, np.int32)
        self.rows, self._parts = rows, [np.empty(rows, kind) for kind in kinds]

    def parts(self, rows: int) -> list[NDArray[Any]]:
        """Arrays of truth values, int8, int64, float64 twice, and int32, with so many rows and whatever they hold."""
        return [part[:rows] for part in self._parts]


class Tally:
    """Counts of a numeric column on its grid, gathered chunk by chunk, for each group of rows apart.

    Values between the outer knots are counted in a dense array, at a few nanoseconds a value; the others, rare in
    data like the reference, take the long way.
    """

    def __init__(self, grid: Grid, groups: int = 1) -> None:
        self._grid = grid
        self._dense = np.zeros((groups, grid.top + 1), dtype=np.int64)
        self._others: list[Counter[int]] = [Counter() for _ in range(groups)]
        self._low, self._high = np.full(groups, np.inf), np.full(groups, -np.inf)

    def add(self, values: Floats, groups: Ints | None = None, room: Workspace | None = None) -> None:
        """Count values.

        Args:
            values: doubles, NaN for what is not a number, shape (rows,).
            groups: the number of each one's group, if there are several.
            room: memory to work in.
        """
        if not len(values):
            return
        first, last = self._grid.knots[0], self._grid.knots[-1]
        low, high = values.min(), values.max()
        beyond = None
        if not (low >= first and high < last):  # so too where there is a NaN
            beyond = np.flatnonzero(~((values >= first) & (values < last)))
            self._add_beyond(values[beyond], None if groups is None else groups[beyond])
        self._widen(values, groups, low, high)
        if beyond is not None and len(beyond) == len(values):
            return
        bins = self._grid.bins_inside(values, room)
        if beyond is not None:
            bins[beyond] = 0
        if groups is not None:
            bins += groups * self._dense.shape[1]
        self._dense += np.bincount(bins, minlength=self._dense.size).reshape(self._dense.shape)
        if beyond is not None:
            own = 0 if groups is None else groups[beyond]
            np.subtract.at(self._dense[:, 0], own, len(beyond) if groups is None else 1)

    def add_special(self, code: int, count: int, group: int = 0) -> None:
        """Count rows that have no value, under a special bin number such as `NULL`."""
        self._others[group][code] += count

    def _add_beyond(self, values: Floats, groups: Ints | None) -> None:
        bins = self._grid.bins(values)
        for group in (0,) if groups is None else np.unique(groups):
            found, counts = np.unique(bins if groups is None else bins[groups == group], return_counts=True)
            self._others[group].update(dict(zip(found.tolist(), counts.tolist(), strict=True)))

    def _widen(self, values: Floats, groups: Ints | None, low: float, high: float) -> None:
        if groups is None and np.isfinite(low) and np.isfinite(high):
            self._low[0], self._high[0] = min(self._low[0], low), max(self._high[0], high)
            return
        own = np.zeros(len(values), dtype=np.int64) if groups is None else groups
        if not (np.isfinite(low) and np.isfinite(high)):
            finite = np.isfinite(values)
            values, own = values[finite], own[finite]
        np.minimum.at(self._low, own, values)
        np.maximum.at(self._high, own, values)

    def counts(self, group: int = 0) -> dict[int, int]:
        """Rows by bin number."""
        at = np.flatnonzero(self._dense[group])
        inside = dict(zip(at.tolist(), self._dense[group][at].tolist(), strict=True))
        beyond = {code: rows + inside.get(code, 0) for code, rows in self._others[group].items() if rows}
        return inside | beyond

    def ends(self, group: int = 0) -> tuple[float | None, float | None]:
        """The least and greatest finite value; None without one."""
        low, high = float(self._low[group]), float(self._high[group])
        return (low, high) if low <= high else (None, None)


def _refine(atoms: Floats, mass: Floats) -> Floats:
    """Knots for a continuous column: deciles, then the fullest bin's edges, until none is too full.

    Laying knots at the edges of the fullest bin zooms in on it by a factor of `STEPS`, so gaps between modes
    and heavy tails cost two knots each.
    """
    cumulative = np.concatenate([[0.0], np.cumsum(mass)])
    quantiles = np.searchsorted(cumulative[1:], np.linspace(0, 1, 11)[1:-1])
    knots = np.unique(np.concatenate([atoms[[0, -1]], atoms[quantiles]]))
    while len(knots) < MAX_KNOTS:
        edges = np.append(np.linspace(knots[:-1], knots[1:], STEPS, endpoint=False, axis=1), knots[-1])
        first = np.searchsorted(atoms, edges)  # the first atom of each bin; the last bin is the last knot alone
        full = np.diff(cumulative[first], append=cumulative[-1])
        filled = np.flatnonzero(np.diff(first, append=len(atoms)))
        spread = full[filled] - np.maximum.reduceat(mass, first[filled])
        worst = int(filled[np.argmax(spread)])
        if spread.max() <= LARGEST_BIN or worst + 1 >= len(edges):
            break
        finer = np.unique(np.concatenate([knots, edges[worst : worst + 2]]))
        tight = np.diff(finer) > 1e-12 * np.maximum(np.abs(finer[1:]), np.abs(finer[:-1]))
        if len(finer) == len(knots) or not tight.all():
            break
        knots = finer
    return knots
