"""Contracts that every member of a registry keeps, for the product's own tests and for authors of plug-ins.

from watchkeeper.testing import check_channel, check_metric

def test_my_metric_keeps_the_contract() -> None:
    check_metric(METRICS["my_metric"])

def test_my_channel_keeps_the_contract() -> None:
    check_channel(CHANNELS["my_channel"], {"url": address_of_a_local_server})
"""

from __future__ import annotations

import inspect
import json
import math
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

import numpy as np

from watchkeeper.channels import ChannelType, Notice, build
from watchkeeper.errors import DeliveryError, WatchkeeperError
from watchkeeper.metrics import Metric
from watchkeeper.profiles import Profile, Subject, categorical, merge, numeric
from watchkeeper.records import Severity
from watchkeeper.schema import Config, Kind
from watchkeeper.stats.estimates import Estimate
from watchkeeper.stats.grid import (
    NULL,
    Grid,
)

ALPHAS = (0.05, 1e-6)

Columns = dict[str, Sequence[float | str | None]]

NUMERIC_COLUMNS: Columns = {
    "empty": [],
    "one row": [0.25],
    "all null": [None] * 40,
    "constant": [0.5] * 40,
    "ordinary": [(i * 37 % 101) / 101 for i in range(300)],
    "shifted": [0.5 + (i * 37 % 101) / 202 for i in range(60)],
    "far away": [1e300, -1e300, 1e12, 5.0, -3.0] * 12,
    "not a number": [math.nan] * 20 + [0.1, 0.9, None],
    "infinite": [math.inf, -math.inf] * 20,
    "some of everything": [0.0, 1.0, 0.3, None, math.nan, math.inf, -math.inf, -999.0, 9999.0, 1e-300] * 6,
}
CATEGORICAL_COLUMNS: Columns = {
    "empty": [],
    "one row": ["ok"],
    "all null": [None] * 40,
    "constant": ["ok"] * 40,
    "ordinary": [("ok", "timeout", "error")[i * 37 % 101 % 3] for i in range(300)],
    "new category": ["ok", "never seen", None] * 20,
    "all new": [f"new {i}" for i in range(60)],
}


def profile_of(
    values: Sequence[float | str | None], grid: Grid | None = None, known: Sequence[str] | None = ()
) -> Profile:
    """The profile of a list of values; of numbers (None for null) with a grid, of strings without.

    Args:
        known: the vocabulary of strings; None to take the most frequent of these.
    """
    if grid is None:
        words = [v for v in values if isinstance(v, str)]
        return categorical(Counter(words), len(values) - len(words), known)
    present = np.array([v for v in values if v is not None and not isinstance(v, str)], dtype=float)
    counts = dict(Counter(grid.bins(present).tolist()))
    counts[NULL] = len(values) - len(present)
    finite = present[np.isfinite(present)]
    low, high = (float(finite.min()), float(finite.max())) if len(finite) else (None, None)
    return numeric(grid, counts, low, high)


def check_metric(metric: Metric) -> None:
    """Hold a metric to the contract of all metrics, on every pair of awkward columns.

    On empty, single, null, constant, NaN, infinite, far-away and never-seen values, with and without a baseline,
    it must: not raise or warn, return finite numbers or None, keep `low <= value <= high`, grow wider with
    confidence, leave its subject alone, give the same for merged parts as for the whole in any order, and have no
    value without the baseline or the labels that it says it needs.

    Raises AssertionError that names the metric and the case.
    """
    for kind in sorted(metric.kinds & {Kind.NUMERIC, Kind.CATEGORICAL}):  # the other kinds are summarised as numbers
        numbers = kind is not Kind.CATEGORICAL
        columns = NUMERIC_COLUMNS if numbers else CATEGORICAL_COLUMNS
        for grid_of in ("ordinary", "constant", "all null") if numbers else ("",):
            grid = _grid(metric, grid_of) if grid_of else None
            for current in (None, *columns):
                for baseline in (None, *columns):
                    case = f"{metric.name} on {kind}: {current!r} against {baseline!r}, grid of {grid_of!r}"
                    whole = _subject(metric, columns, current, baseline, grid)
                    parts = _subject(metric, columns, current, baseline, grid, parts=3)
                    _check_case(metric, whole, parts, case)


def _check_case(metric: Metric, subject: Subject, parts: Subject, case: str) -> None:
    before = [p.to_bytes() for p in (subject.current, subject.baseline) if p is not None]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        wide, narrow = (_computed(metric, subject, alpha, case) for alpha in sorted(ALPHAS))
        merged = _computed(metric, parts, max(ALPHAS), case)
        no_grid = _computed(metric, replace(subject, grid=None), max(ALPHAS), case)
    after = [p.to_bytes() for p in (subject.current, subject.baseline) if p is not None]
    assert before == after, f"{case}: the metric changed its subject"
    assert merged == narrow, f"{case}: merged parts give {merged}, the whole {narrow}"
    assert isinstance(no_grid, Estimate), case
    assert (wide.value is None) == (narrow.value is None), f"{case}: whether there is a value depends on alpha"
    for smaller, larger in ((wide.low, narrow.low), (narrow.high, wide.high)):
        if smaller is not None and larger is not None:
            assert smaller <= larger + 1e-9 * max(1, abs(larger)), f"{case}: more confidence gave a narrower interval"
    if metric.needs_baseline and subject.baseline is None:
        assert narrow.value is None, f"{case}: a value without the baseline that it needs"
    if metric.labels and not subject.labelled:
        assert narrow.value is None, f"{case}: a value without labels"
    if metric.baseline_labels and not subject.baseline_labelled:
        assert narrow.value is None, f"{case}: a value without the baseline's labels"


def _computed(metric: Metric, subject: Subject, alpha: float, case: str) -> Estimate:
    try:
        estimate = metric.compute(subject, alpha)
    except Exception as problem:
        raise AssertionError(f"{case}: raised {problem!r}") from problem
    for part in (estimate.value, estimate.low, estimate.high):
        assert part is None or math.isfinite(part), f"{case}: {estimate} is not finite"
    if estimate.value is None:
        assert estimate.low is None, f"{case}: an interval without a value"
        assert estimate.high is None, f"{case}: an interval without a value"
    else:
        assert estimate.low is None or estimate.low <= estimate.value, f"{case}: low > value in {estimate}"
        assert estimate.high is None or estimate.value <= estimate.high, f"{case}: value > high in {estimate}"
    assert estimate.n >= 0, f"{case}: negative n"
    json.dumps(estimate.detail, allow_nan=False)
    return estimate


def _grid(metric: Metric, column: str) -> Grid:
    if metric.labels or metric.baseline_labels:
        return Grid.unit()
    values = [v for v in NUMERIC_COLUMNS[column] if v is not None]
    return Grid.fit(np.array(values, dtype=float))


def _subject(
    metric: Metric,
    columns: Columns,
    current: str | None,
    baseline: str | None,
    grid: Grid | None,
    parts: int = 1,
) -> Subject:
    def profile(name: str | None, keep: int | None = None) -> Profile | None:
        if name is None:
            return None
        values = columns[name]
        rows = [v for i, v in enumerate(values) if keep is None or i % 2 == keep]
        return merge(profile_of(rows[i::parts], grid) for i in reversed(range(parts)))

    def labelled(name: str | None) -> dict[str, Profile]:
        if not (metric.labels or metric.baseline_labels) or name is None:
            return {}
        sides = {str(label): profile(name, label) for label in (0, 1)}
        return {label: side for label, side in sides.items() if side is not None and side.n}

    made = Subject(profile(current), profile(baseline), grid, 0.5, 1, 4, labelled(current), labelled(baseline))
    made = replace(made, beside=_beside(metric, columns, current, baseline, parts, made))
    return replace(made, groups={"one": made, "other": made.of_baseline}) if metric.groups else made


def _beside(
    metric: Metric, columns: Columns, current: str | None, baseline: str | None, parts: int, found: Subject
) -> dict[str, Subject]:
    """What the metric looks at beside its column: the same rows for numbers, rows of the same sort for others."""
    names = [f"{name}{i}" for name in metric.beside for i in ((0, 1) if name.endswith(":") else ("",))]
    if columns is NUMERIC_COLUMNS or not names:
        return dict.fromkeys(names, found)
    here, before = (
        name and (name if name in NUMERIC_COLUMNS else "some of everything") for name in (current, baseline)
    )
    numbers = _subject(replace(metric, beside=()), NUMERIC_COLUMNS, here, before, Grid.unit(), parts)
    return dict.fromkeys(names, numbers)


NOW = datetime(2024, 2, 29, 23, 59, 59, tzinfo=UTC)

_PLAIN = Notice(
    id="delivery-000000000001",
    title="P1 delays: Drift: distance [new]",
    severity=Severity.P1,
    model="delays",
    subject="incident-000000000001",
    before="new",
    after="open",
    reason="a limit was breached and no incident of this cause was open",
    at=NOW,
    actor="watchkeeper",
    note="",
    lines=("distance: psi 0.3, limit: not above 0.2", "More: watchkeeper why incident-000000000001"),
    details={"kind": "incident", "signals": [{"column": "distance", "value": 0.3, "low": None}]},
)
NOTICES: dict[str, Notice] = {
    "plain": _PLAIN,
    "sent again": _PLAIN,
    "resolved": replace(_PLAIN, id="delivery-2", title="P1 delays: Drift [resolved]", before="open", after="resolved"),
    "gravest": replace(_PLAIN, id="delivery-3", severity=Severity.P0),
    "bare": replace(_PLAIN, id="delivery-4", lines=(), details={}),
    "any language": replace(_PLAIN, id="delivery-5", title="P2 délais: 遅延 – Füße 🚨 [new]", note="größer als 0,2"),
    "looks like code": replace(
        _PLAIN, id="delivery-6", title="<b>&amp; [red] *x* `y` %s {z}", lines=(".", "..", "<p>")
    ),
    "long": replace(_PLAIN, id="delivery-7", title="P2 " + "x" * 197, lines=("word " * 200,) * 60),
    "rollout": replace(_PLAIN, id="delivery-8", subject="rollout-1", before="running", after="rolled back"),
}
"""Notices of every sort that a channel must be able to send."""


def check_channel(kind: ChannelType, settings: Mapping[str, Any], dead: Mapping[str, Any] | None = None) -> None:
    """Hold a channel to its contract: it is documented, refuses settings that it does not know, takes every sort of
    notice, the same one twice too, and leaves it as it was.

    Args:
        settings: as in a configuration, without `type`, of a receiver that takes everything.
        dead: settings of a receiver that cannot be reached, which must be passing trouble.

    Raises AssertionError, which says what does not hold.
    """
    assert inspect.getdoc(kind.make), f"{kind.name} needs a docstring, which goes into the reference"
    unknown = {**settings, "no_such_setting": 1}
    refused = _problem(lambda: build(_channels(kind, unknown)))
    assert refused is not None, f"{kind.name} accepts a setting that it does not have; forbid extra keys"
    assert getattr(refused, "path", ()) == ("channels", "checked", "no_such_setting"), f"{kind.name}: {refused}"
    channel = build(_channels(kind, settings))["checked"]
    for case, notice in NOTICES.items():
        before = json.dumps(notice.to_dict())
        trouble = _problem(partial(channel.send, notice, NOW))
        assert trouble is None, f"{kind.name} does not send the notice {case!r}: {trouble}"
        assert json.dumps(notice.to_dict()) == before, f"{kind.name} alters the notice {case!r}"
    if dead is None:
        return
    lost = build(_channels(kind, dead))["checked"]
    trouble = _problem(lambda: lost.send(_PLAIN, NOW))
    assert isinstance(trouble, DeliveryError), f"{kind.name} does not notice that the receiver cannot be reached"
    assert not trouble.permanent, f"{kind.name} gives up on a receiver that may come back: {trouble}"


def _problem(of: Callable[[], object]) -> WatchkeeperError | None:
    """What a call raises on purpose."""
    try:
        of()
    except WatchkeeperError as problem:
        return problem
    return None


def _channels(kind: ChannelType, settings: Mapping[str, Any]) -> Config:
    return Config.model_validate({"models": {}, "channels": {"checked": {"type": kind.name, **settings}}})
