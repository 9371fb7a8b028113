"""Encoding: do the values still mean what they meant? A change of unit, or of how categories are written."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from watchkeeper.metrics import metric
from watchkeeper.metrics.quality import known_categories, new_categories
from watchkeeper.profiles import Profile, Subject
from watchkeeper.schema import Kind
from watchkeeper.stats import units
from watchkeeper.stats.distances import aligned, ks_estimate
from watchkeeper.stats.estimates import Estimate, proportion
from watchkeeper.stats.grid import Grid

TRIED = 1000
"""So many of the most frequent new categories are looked at."""


@metric(
    "distance that a change of unit explains",
    cause="changed format",
    kinds=(Kind.NUMERIC, Kind.DURATION),
    needs_baseline=True,
)
def unit_change(subject: Subject, alpha: float) -> Estimate:
    """By how much the Kolmogorov-Smirnov distance falls once a change of unit is undone: a power of ten, 60, 3600,
    another sign, Celsius and Fahrenheit or kelvin, kilometres and miles, kilograms and pounds, centimetres and inches.
    0 if none of them makes the distributions alike. The detail names it."""
    current, baseline, grid = subject.current, subject.baseline, subject.grid
    if current is None or baseline is None or grid is None or current.grid != baseline.grid:
        return Estimate.absent(subject.n, subject.n_baseline)
    _, now, before = aligned(*current.regular, *baseline.regular)
    if not now.sum() or not before.sum():
        return Estimate.absent(int(now.sum()), int(before.sum()))
    plain = ks_estimate(now, before, alpha / 2)
    found, formula = units.unit_change(_shape(current, grid), _shape(baseline, grid), plain, alpha)
    return found.about(formula=formula.words if formula else "")


def _shape(profile: Profile, grid: Grid) -> units.Shape:
    """The finite values, those that may stand for "unknown" among them: in another unit they may be ordinary ones."""
    bins, counts = profile.regular
    found = profile.sentinels(grid)
    if found:
        among = replace(grid, sentinels=()).bins(np.array([*found]))
        bins, where = np.unique(np.concatenate([bins, among]), return_inverse=True)
        counts = np.bincount(where, [*counts, *found.values()]).astype(np.int64)
    lower, upper = grid.edges(bins)
    inner = grid.discrete & (bins > 0) & (bins < grid.top) & (lower < upper)
    return units.Shape(lower, upper, counts.astype(float), inner, profile.low, profile.high)


@metric(
    "share of values written in another way",
    cause="changed format",
    kinds=(Kind.CATEGORICAL,),
    needs_baseline=True,
    unit="share",
)
def encoding_change(subject: Subject, alpha: float) -> Estimate:
    """Share of the present values that are new and are a known category once case, spaces, punctuation, leading zeros,
    a trailing `.0`, the Unicode form, or a prefix or suffix that several of them share are left out of account. The
    detail says which stands for which."""
    if subject.current is None or subject.baseline is None:
        return Estimate.absent(subject.n, subject.n_baseline)
    known = known_categories(subject)
    new = Counter(new_categories(subject)[0])
    meant = _meant(dict(new.most_common(TRIED)), known) if known else {}
    estimate = proportion(sum(new[value] for value in meant), subject.n - subject.current.nulls, alpha)
    named = sorted(meant, key=lambda value: (-new[value], value))[:10]
    return estimate.about(meant={value: meant[value] for value in named})


def _digits(text: str) -> str:
    """A number without leading zeros and without a fraction of zeros."""
    match = re.fullmatch(r"([+-]?)0*(\d+?)(?:[.,]0*)?", text.strip())
    return f"{match[1].removeprefix('+')}{match[2]}" if match else text


WRITINGS: tuple[Callable[[str], str], ...] = (
    lambda text: unicodedata.normalize("NFKC", text),
    lambda text: " ".join(text.split()),
    lambda text: " ".join(text.casefold().split()),
    _digits,
    lambda text: re.sub(r"[\W_]+", "", unicodedata.normalize("NFKC", text).casefold()),
    lambda text: re.sub(r"[\W_]+", "", _bare(text)),
)
"""What two ways of writing one category may differ in, mildest first."""


def _bare(text: str) -> str:
    """Without accents and case."""
    parts = unicodedata.normalize("NFKD", text.casefold())
    return "".join(sign for sign in parts if not unicodedata.combining(sign))


def _meant(new: Mapping[str, int], known: set[str]) -> dict[str, str]:
    """The known category that each new one stands for, of those that stand for one."""
    meant: dict[str, str] = {}
    for writing in WRITINGS:
        plain: dict[str, list[str]] = defaultdict(list)
        for value in known:
            plain[writing(value)].append(value)
        for value in new:
            found = plain.get(writing(value), ())
            if value not in meant and len(found) == 1 and writing(value):
                meant[value] = found[0]
    left = {value: count for value, count in new.items() if value not in meant}
    return meant | _affixed(left, known)


def _affixed(new: Mapping[str, int], known: set[str]) -> dict[str, str]:
    """New categories that are known ones with a prefix or a suffix that at least two share, and most of their rows.

    Digits next to digits are no affix: 17 is no 1 with a 7.
    """
    found: dict[tuple[str, str], dict[str, str]] = defaultdict(dict)
    for value in new:
        for i in range(1, len(value)):
            head, tail = value[:i], value[i:]
            if not (head[-1].isdigit() and tail[0].isdigit()):
                if tail in known:
                    found[head, ""][value] = tail
                if head in known:
                    found["", tail][value] = head
    best = max(found.values(), key=lambda group: sum(new[value] for value in group), default={})
    enough = len(best) >= 2 and 2 * sum(new[value] for value in best) > sum(new.values())
    return best if enough else {}
