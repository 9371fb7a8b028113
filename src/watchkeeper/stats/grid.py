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
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

STEPS = 128
"""Bins between two neighbouring knots of a continuous grid."""
TAIL_STEPS = 8
"""Bins per e-fold beyond the outer knots."""
LARGEST_BIN = 0.004
MAX_KNOTS = 64
MAX_ATOMS = 64
"""A column with at most this many distinct values, seen twice each on average, gets one bin for each."""
MAX_RATIO = 1e300
"""Distances beyond the outer knots are cut here, in units of the tail's scale; so bins stay numbered."""

SENTINELS = (
    *(float(s * v) for v in (1, 9, 99, 999, 9999, 99999, 999999, 9999999, 2147483647) for s in (-1, 1)),
    -2147483648.0,
)
"""Values that systems write for "unknown". Those outside a column's reference range are counted apart."""


@dataclass(frozen=True)
class Grid:
    """The numbered bins of one numeric column.

    Bin `k * steps + i` covers `[a(i), a(i + 1))` with `a(i) = knots[k] + i * (knots[k+1] - knots[k]) / steps`.
    The last knot is a bin of its own, number `top`. Above it, bin `top + 1 + j` covers the values whose
    `TAIL_STEPS * log1p((x - knots[-1]) / scale)` lies in `[j, j + 1)`; below the first knot, bin `-1 - j`
    likewise. With `steps = 1` the knots are the distinct values of a discrete column.
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
    def top(self) -> int:
        """The number of the last bin that reference data can fall into."""
        return (len(self.knots) - 1) * self.steps

    @classmethod
    def fit(cls, values: Floats, low: float | None = None, high: float | None = None) -> Grid:
        """Choose a grid for a column.

        Args:
            values: reference values, one dimension, any order; what is not finite is passed over. A random
                sample of the column will do.
            low, high: the column's true least and greatest finite value, where `values` is a sample.

        Without any finite value the grid has the single knot 0.
        """
        finite = np.sort(values[np.isfinite(values)])
        if low is not None and high is not None:
            finite = np.concatenate([[low], finite, [high]])
        finite = np.clip(finite, -MAX_RATIO, MAX_RATIO) + 0.0  # no signed zero: the name would depend on the order
        if len(finite) == 0:
            finite = np.zeros(1)
        atoms, counts = np.unique(finite, return_counts=True)
        if len(atoms) == 1 or (len(atoms) <= MAX_ATOMS and 2 * len(atoms) <= len(finite)):
            knots, steps = atoms, 1
        else:
            knots, steps = _refine(atoms, counts / counts.sum()), STEPS
        least, greatest = float(atoms[0]), float(atoms[-1])
        reach = max(abs(least), abs(greatest)) or 1.0
        scale = float(np.std(finite / reach)) * reach or reach  # squares of very large values would overflow
        return cls(
            knots=tuple(float(k) for k in knots),
            steps=steps,
            scale=scale,
            sentinels=tuple(s for s in SENTINELS if not least <= s <= greatest),
        )

    @classmethod
    def unit(cls, bins: int = 1000) -> Grid:
        """Equal bins on [0, 1], for scores that are probabilities. A threshold of `i / bins` is an edge."""
        return cls(knots=(0.0, 1.0), steps=bins, scale=1.0, sentinels=())

    @classmethod
    def logarithmic(cls, low: float, high: float, knots: int = 17) -> Grid:
        """Bins whose width grows with the value, between two positive numbers; at most 2% wide for latencies."""
        return cls(tuple(float(k) for k in np.geomspace(low, high, knots)), STEPS, low, ())

    def edges(self, bins: Ints) -> tuple[Floats, Floats]:
        """The lower and upper end of each bin, two arrays of the shape of `bins`."""
        knots = np.asarray(self.knots)
        inside = np.clip(bins, 0, max(self.top - 1, 0))
        k, i = np.divmod(inside, self.steps)
        right = np.minimum(k + 1, len(knots) - 1)
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

    def spread(self, bins: Ints) -> tuple[Floats, Floats]:
        """The ends between which the values of each bin are taken to lie, evenly spread.

        The bin's own ends, but for a discrete column: its values lie at the knots, not between them.
        """
        lower, upper = self.edges(bins)
        if self.steps == 1:
            upper = np.where((bins >= 0) & (bins <= self.top), lower, upper)
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


def _refine(atoms: Floats, mass: Floats) -> Floats:
    """Knots for a continuous column: equal-mass quantiles, then the fullest bin's edges, until none is too full.

    Laying knots at the edges of the fullest bin zooms in on it by a factor of `STEPS`, so gaps between modes
    and heavy tails cost two knots each.
    """
    cumulative = np.cumsum(mass)
    quantiles = np.searchsorted(cumulative, np.linspace(0, 1, 9)[1:-1])
    knots = np.unique(np.concatenate([atoms[[0, -1]], atoms[quantiles]]))
    while len(knots) < MAX_KNOTS:
        edges = np.concatenate([*(np.linspace(a, b, STEPS, endpoint=False) for a, b in pairwise(knots)), knots[-1:]])
        which = np.searchsorted(edges, atoms, side="right") - 1
        full = np.bincount(which, mass, minlength=len(edges))
        largest = np.zeros(len(edges))
        np.maximum.at(largest, which, mass)
        spread = full - largest
        worst = int(np.argmax(spread))
        if spread[worst] <= LARGEST_BIN or worst + 1 >= len(edges):
            break
        finer = np.unique(np.concatenate([knots, edges[worst : worst + 2]]))
        tight = np.diff(finer) > 1e-12 * np.maximum(np.abs(finer[1:]), np.abs(finer[:-1]))
        if len(finer) == len(knots) or not tight.all():
            break
        knots = finer
    return knots
