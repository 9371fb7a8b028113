"""What two tables tell as wholes: columns that are gone or have another name, rows and ids that come twice."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence

from watchkeeper import policy
from watchkeeper.comparison.baselines import ROWS, Baseline
from watchkeeper.comparison.findings import DUPLICATE_IDS, DUPLICATES, MISSING, Look
from watchkeeper.comparison.tables import Side, counts
from watchkeeper.metrics import METRICS
from watchkeeper.profiles import Subject
from watchkeeper.records import ALL, Reason, Status
from watchkeeper.schema import Kind
from watchkeeper.stats.copies import Copies, more_repeats, repeats
from watchkeeper.stats.estimates import Estimate
from watchkeeper.store.sources import kind_of

ALIKE = 0.75
"""Names whose matching parts (Ratcliff and Obershelp 1988) are at least this share of both are similar."""
SAME = 0.1
"""A distance of at most this, with confidence, makes two columns one."""
OTHER = 0.3
"""A distance of at least this, with confidence, makes them two, however similar the names."""
PAIRS = 40
"""So many pairs of columns are compared at most to find a new name."""
VALUES = 3
"""A column with fewer values is not known by its distribution."""
SURE = 0.01
"""Error on each side of the distance between two of them."""


def lacking(name: str, now: str | None, rows: int, reference_rows: int) -> Look:
    """The look at a column that is gone, and the name that it probably has now."""
    said = "column is missing from the current data" + (f'; renamed to "{now}"?' if now else "")
    detail = {"renamed_to": now} if now else {}
    return Look(
        name, ALL, MISSING, MISSING, None, None, None, None, "above", None, rows, reference_rows, Status.BREACH, said,
        detail,
    )  # fmt: skip


def renamed(baseline: Baseline, after: Side, missing: Sequence[str], extra: Sequence[str]) -> dict[str, str]:
    """The new names of columns that are gone, as far as one can tell.

    A column has a new name if another one of its kind came that is called nearly the same and is not distributed
    otherwise, or that is distributed the same.
    """
    table, columns = after.table, baseline.model.columns
    kinds = {name: Kind.CATEGORICAL if c.kind is Kind.TEXT else c.kind for name, c in columns.items()}
    pairs = [(old, new) for old in missing for new in extra if kinds.get(old) is kind_of(table[new])]
    if not pairs:
        return {}
    part = after.sample().table
    scored = []
    for alike, old, new in sorted(((_alike(old, new), old, new) for old, new in pairs), reverse=True)[:PAIRS]:
        near, far = _apart(baseline, Side(after.title, part.select(part[new].name(old))), old)
        if alike == 1 or (alike >= ALIKE and near < OTHER) or far <= SAME:
            scored.append((alike, -far, old, new))
    found: dict[str, str] = {}
    for _, _, old, new in sorted(scored, reverse=True):
        if old not in found and new not in found.values():
            found[old] = new
    return found


def _alike(one: str, other: str) -> float:
    """How similar two names are, 0 to 1, whatever their case and what stands between their words."""
    first, second = (re.sub(r"[\W_]+", "", name.casefold()) for name in (one, other))
    return difflib.SequenceMatcher(None, first, second, autojunk=False).ratio() if first and second else 0.0


def _apart(baseline: Baseline, after: Side, name: str) -> tuple[float, float]:
    """The least and the most that the column may be apart on both sides; 0 and 1 where that is not known, or where
    the reference has so few values that others share them by chance."""
    features = {n: f for n, f in baseline.model.features.items() if f.column == name and n in baseline.profiles}
    if any(len(baseline.profiles[feature].counts) < VALUES for feature in features):
        return 0.0, 1.0
    lows, highs = [0.0], [0.0 if features else 1.0]
    for feature, now in (
        counts(after, features, baseline.grids, baseline.booleans, baseline.profiles).items() if features else ()
    ):
        subject = Subject(now, baseline.profiles[feature], baseline.grids.get(feature), 0.5, 1, 1, {}, {})
        found = METRICS["ks" if subject.grid else "jensen_shannon"].compute(subject, SURE)
        lows.append(found.low or 0.0)
        highs.append(1.0 if found.high is None else found.high)
    return max(lows), max(highs)


def wholes(baseline: Baseline, names: Sequence[str]) -> list[str]:
    """What is looked at for duplicates, of what the baseline kept: each id that is there, and rows if all columns
    are, since fewer would repeat more often."""
    there = {*names}
    return [name for name in baseline.copies if (there >= {*baseline.names} if name == ROWS else name in there)]


def duplicates(baseline: Baseline, now: Copies, rows: int, name: str, alpha: float) -> Look:
    """The look at rows, or at an id, that come several times; `rows` is how many the current data have."""
    contract = baseline.columns.get(name)
    if contract is not None and contract.unique:
        found, limit, relative = repeats(now, alpha), 0.0, None
    else:
        found = more_repeats(now, baseline.copies[name], alpha)
        limit, relative = policy.DUPLICATES, "difference"
    metric = DUPLICATES if name == ROWS else DUPLICATE_IDS
    status, reason = _judged(found, limit)
    return Look(
        name, ALL, metric, metric, found.value, found.low, found.high, limit, "above", relative, rows, baseline.rows,
        status, reason.sentence, {**found.detail, "repeats": now.repeats},
    )  # fmt: skip


def _judged(found: Estimate, limit: float) -> tuple[Status, Reason]:
    if found.value is None or found.low is None:
        return Status.NOT_ENOUGH_DATA, Reason.NOT_COMPARABLE
    if found.low > limit:
        return Status.BREACH, Reason.OUTSIDE_LIMIT
    return Status.HEALTHY, Reason.INSIDE_LIMIT if found.value <= limit else Reason.NOT_CONFIDENT
