"""Comparing two tables: what changed, by how much, and whether that is more than chance.

comparison = watchkeeper.compare("train.parquet", "today.csv")
comparison.healthy
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from numbers import Real
from pathlib import Path
from typing import Any

from watchkeeper import policy
from watchkeeper.comparison import structure
from watchkeeper.comparison.baselines import ENDING, ROWS, Baseline, Segments, profiled
from watchkeeper.comparison.findings import Findings, Look
from watchkeeper.comparison.report import report_of
from watchkeeper.comparison.tables import (
    Side,
    check_time,
    counts,
    counts_by_period,
    counts_by_segment,
    first_time,
    row_copies,
)
from watchkeeper.errors import ConfigError, DataError, did_you_mean, listed
from watchkeeper.monitors import LARGEST_ERROR, Watch, judge, measure
from watchkeeper.periods import since
from watchkeeper.profiles import Subject
from watchkeeper.records import ALL, Status
from watchkeeper.report import glance, page
from watchkeeper.schema import Config, Feature, Kind, ModelConfig
from watchkeeper.stats.copies import Copies
from watchkeeper.store import sources
from watchkeeper.store.files import write
from watchkeeper.store.tallies import copies
from watchkeeper.tasks import model_columns
from watchkeeper.windows import Window, from_unix

_NEVER = Window(from_unix(0), from_unix(1))
"""Rows need a window; tables that are compared as a whole have none."""


class Comparison(Findings):
    """What `compare` found: the attributes of `Findings`.

    It shows itself in a notebook, and writes itself as a report with `save_html` and as data with `save_json`.
    """

    def save_html(self, path: str | Path) -> None:
        """Write a report that opens in any browser, offline. Raises DataError where it cannot be written."""
        write(path, page(report_of(self), datetime.now(UTC)))

    def _repr_html_(self) -> str:
        return glance(report_of(self))


def compare(
    reference: Any,
    current: Any,
    *,
    config: ModelConfig | Config | str | Path | None = None,
    columns: Sequence[str] | None = None,
    false_alarms: float = 0.05,
    importance: Mapping[str, float] | None = None,
    timestamp: str | None = None,
    segments: Segments = (),
) -> Comparison:
    """What changed from the reference to the current data.

    Args:
        reference, current: each a path to CSV or Parquet (a file, a folder or a glob), a pandas or Polars data
            frame, an Arrow table, a DuckDB relation or an Ibis table. The reference may be a `Baseline` too, which
            `profile` makes, or the path that one was saved to; then it is not read again.
        config: a model's configuration, or the path of a `watchkeeper.yaml` with one model: its columns and its
            monitors. What needs labels or the live service is left out, and the reference stands in for every
            baseline. Without one, the columns are those of the reference. Left out are nested values, columns
            without any value, and ids: more than 100 different values and more of them than half of the rows, if
            they are single words, row numbers, or whole numbers whose name says so. Other text with so many
            different values is looked at by its descriptors: length, words, shares of digits and of characters
            that are not ASCII.
        columns: compare only these.
        false_alarms: the probability that the whole comparison has any breach though nothing changed, at most.
            Each of the `k` looks is given `false_alarms / k`, whatever depends on what.
        importance: how much each column matters, from 0 on, such as a model's feature importances: it orders what
            is told and weighs the share of drifted columns, and moves no limit. A column without one weighs nothing.
        timestamp: the column of the current data that says when each row was made, in UTC where it names no zone.
            It tells since when a limit is breached, and how each column went. By default the only column of dates
            or times on both sides, if the current data begin no sooner than the reference's end.
        segments: categorical columns, or several to be crossed, to look within as well: `["country", ("country",
            "device")]`. The 100 values that the reference holds most often are segments of their own, all others are
            one, and so are rows without a value. Every look in a segment takes its share of the false alarms.

    Without monitors in a configuration these limits hold, each breached only if the whole interval lies beyond it:

    - share of missing values: 0.02 above the reference's; of values of another type, and of infinite ones: 0.001;
    - share of numbers that often mean "unknown", such as -999, and lie outside the reference range: 0.005;
    - share of values outside the reference range: 0.01;
    - share of categories that the reference does not have, and of those that are known ones written in another way:
      0.001; share of the reference in categories that vanished: 0.005;
    - how far a column got stuck at one value: 0.9, where 1 is wholly;
    - Kolmogorov-Smirnov distance that a change of unit explains: 0.05;
    - population stability index: 0.1, from which a shift is usually called worth a look (0.25 is a large one);
    - Kolmogorov-Smirnov and Jensen-Shannon distance: 0.1 (both reach from 0 to 1);
    - Wasserstein distance: 0.1 standard deviations;
    - rows, and values of an id, that come several times: a share of 0.01 more than chance and the reference explain.

    Dates and times move on by nature, so no limit holds on where they lie; of a unique column no distribution is
    looked at.

    Where the reference is so small that it cannot have seen all that is normal, the limits on what it has not seen are
    raised. A limit in a configuration is taken as it stands. What a configuration says of its columns (`min`, `max`,
    `categories`, `max_nulls`, `unique`) goes before what the reference shows. A column that the current data lacks is a
    breach of its own; if another one that came looks like it, its name is told.

    Rows are taken as independent: many rows of one person or one hour count for more than they say.

    Raises DataError where the data cannot be read or compared, ConfigError where the configuration is wrong.
    """
    if not (isinstance(false_alarms, Real) and 0 < false_alarms < 1):
        raise ConfigError(f"false_alarms must lie between 0 and 1, found {false_alarms!r}")
    weights = _weights(importance or {})
    connection = sources.connect()
    other = sources.connect(connection)
    try:
        after = Side("the current data", sources.read(connection, current, "current"))
        with ThreadPoolExecutor(1) as beside:
            ahead = None
            if config is None and columns is None and sources.is_ours(after.table):  # which nobody else asks
                ahead = beside.submit(lambda: row_copies(after, after.table.columns, after.rows)[0])
            baseline = _baseline(other, reference, config, columns, segments)
        for name in weights:
            if name not in baseline.names:
                raise ConfigError(
                    f'importance has a column "{name}" and the reference has none; {did_you_mean(name, baseline.names)}'
                )
        if timestamp is not None:
            check_time(after, timestamp)
        clock = _time_column(baseline, after) if timestamp is None else timestamp
        same = (
            ahead.result()
            if ahead and ROWS in baseline.copies and {*after.table.columns} == {*baseline.names}
            else None
        )
        return replace(_compare(baseline, after, false_alarms, clock, same), importance=weights)
    finally:
        other.disconnect()
        connection.disconnect()


def _baseline(
    connection: Any,
    reference: Any,
    config: ModelConfig | Config | str | Path | None,
    columns: Sequence[str] | None,
    segments: Segments,
) -> Baseline:
    if isinstance(reference, (str, Path)) and Path(reference).suffix == ENDING:
        reference = Baseline.load(reference)
    if not isinstance(reference, Baseline):
        return profiled(connection, reference, config=config, columns=columns, segments=segments)
    if config is not None or columns is not None or segments:
        raise ConfigError(
            "a baseline has its columns, segments and configuration already; give them to `profile` instead"
        )
    return reference


def _weights(importance: Mapping[str, float]) -> dict[str, float]:
    if not isinstance(importance, Mapping):
        raise ConfigError(
            f"importance is a {type(importance).__name__}; give each column its weight: {{name: weight, ...}}"
        )
    for name, weight in importance.items():
        if not (isinstance(weight, Real) and math.isfinite(weight) and weight >= 0):
            raise ConfigError(f'the importance of "{name}" must be a number from 0 on, found {weight!r}')
    return {str(name): float(weight) for name, weight in importance.items()}


def _time_column(baseline: Baseline, after: Side) -> str:
    """The column that says when a row was made, as far as the data show it: the only one of moments on both sides,
    where those of the current data begin no sooner than the reference's end. Else "".
    """
    moments = [
        name
        for name, column in baseline.columns.items()
        if column.kind is Kind.DATETIME
        and name in after.table.columns
        and sources.kind_of(after.table[name]) is Kind.DATETIME
    ]
    if len(moments) != 1:
        return ""
    end, start = baseline.profiles[moments[0]].high, first_time(after, moments[0])
    return moments[0] if end is not None and start is not None and start >= end else ""


def _compare(
    baseline: Baseline, after: Side, false_alarms: float, timestamp: str, same_rows: Copies | None
) -> Comparison:
    model, rows, names = baseline.model, after.rows, after.table.columns
    skipped = dict(baseline.skipped)
    watches = _watches(baseline, names, skipped)
    homes = {w.column: model.features[w.column].column if w.column in model.features else w.column for w in watches}
    missing = [name for name in dict.fromkeys(homes.values()) if name not in names]
    watches = [watch for watch in watches if homes[watch.column] not in missing]
    if not watches:
        why = "; ".join(f"{name}: {reason}" for name, reason in skipped.items())
        raise DataError(
            f"there is nothing to compare: the reference has {listed(baseline.names)}, the current data has"
            f" {listed(names)}" + (f" ({why})" if why else "")
        )
    version = Config.model_construct(models={"comparison": model}, channels={}).version
    own, chosen = model_columns(model), list(dict.fromkeys(watch.column for watch in watches))
    features = {name: model.features.get(name) or Feature(name, own[name]) for name in chosen}
    sides = after, features, baseline.grids, baseline.booleans, baseline.profiles
    current, parts = counts_by_period(*sides, timestamp) if timestamp else (counts(*sides), [])
    subjects = {
        name: Subject(
            current=current[name],
            baseline=baseline.profiles[name],
            grid=baseline.grids.get(name),
            threshold=model.threshold,
            grains=1,
            baseline_grains=1,
            labelled={},
            baseline_labelled={},
            parts=tuple((start, part[name]) for start, part in parts),
            contract=model.columns.get(name),
            costs=model.costs,
        )
        for name in chosen
    }
    parted = {}
    for part in baseline.segmentations:
        if any(name not in features for name in part.columns):
            skipped[f"segments by {' and '.join(part.columns)}"] = "the current data lacks a column of these"
            continue
        for segment, found_there in counts_by_segment(*sides, part).items():
            before = baseline.parted[segment]
            parted[segment] = {
                name: replace(subject, current=found_there[name], baseline=before[name], parts=())
                for name, subject in subjects.items()
            }
    watches = [watch for watch in watches if watch.segment == ALL or watch.segment in parted]
    extra = tuple(name for name in names if name not in baseline.names)
    renamed = structure.renamed(baseline, after, missing, extra)
    wholes = structure.wholes(baseline, names)
    total = len(watches) + len(wholes)
    alpha = min(false_alarms / total, LARGEST_ERROR)
    found = [structure.lacking(name, renamed.get(name), rows, baseline.rows) for name in missing]
    for name in wholes:
        if name == ROWS:
            now = same_rows or row_copies(after, baseline.names, rows)[0]
        else:
            now = copies(after.table, [name], rows)
        found.append(structure.duplicates(baseline, now, rows, name, alpha))
    found += looks(
        watches,
        {ALL: subjects, **parted},
        version,
        false_alarms * len(watches) / total,
        raise_limits=baseline.by_default_policy,
    )
    place = {name: i for i, name in enumerate(dict.fromkeys([ROWS, *baseline.names, *chosen]))}
    return Comparison(
        points=tuple(sorted(found, key=lambda look: (not look.breach, place[look.column]))),
        skipped=skipped,
        extra_columns=extra,
        rows=rows,
        reference_rows=baseline.rows,
        false_alarms=false_alarms,
        config=version,
        subjects=subjects,
        kinds={name: model.features[name].kind if name in model.features else own[name] for name in subjects},
        timestamp=timestamp,
    )


# What to look at


def _watches(baseline: Baseline, names: Sequence[str], skipped: dict[str, str]) -> list[Watch]:
    """The looks that two plain tables allow; `names` are the columns of the current one."""
    kept = []
    for watch in baseline.watches:
        why = _not_here(watch, baseline, names)
        if why and watch.monitor:
            skipped[f'monitor "{watch.monitor.name}"'] = why
        elif watch.column in baseline.profiles:
            kept.append(watch)
    return kept


def _not_here(watch: Watch, baseline: Baseline, after: Sequence[str]) -> str:
    if watch.metric.labels:
        return f"{watch.metric.title} needs labels, which a comparison of tables does not have"
    if watch.metric.column is not None:
        return f"{watch.metric.title} is of the live service"
    if watch.column in model_columns(baseline.model):
        for title, names in (("the reference", baseline.names), ("the current data", after)):
            if watch.column not in names:
                return f'{title} has no column "{watch.column}"'
    return ""


# From counts to findings


def looks(
    watches: Sequence[Watch],
    subjects: Mapping[str, Mapping[str, Subject]],
    version: str,
    false_alarms: float,
    *,
    raise_limits: bool,
) -> list[Look]:
    """Every look at these counts, each with its share of the false alarms.

    Args:
        subjects: by segment and by column.
        version: the name of the configuration.
        raise_limits: give way where the reference is too small to have seen all that is normal.
    """
    alpha = min(false_alarms / len(watches), LARGEST_ERROR)
    return [
        _look(replace(watch, alpha=alpha), subjects[watch.segment][watch.column], version, raise_limits)
        for watch in watches
    ]


def _look(watch: Watch, subject: Subject, version: str, raise_limits: bool) -> Look:
    monitor = watch.monitor
    assert monitor is not None
    if raise_limits and monitor.above is not None and watch.metric.name in policy.CAN_BE_UNSEEN:
        watch = replace(watch, alpha=watch.alpha / 2)  # the other half is for what the reference has not seen
        unseen = policy.unseen(watch.metric, subject, watch.alpha)
        if unseen > monitor.above:
            monitor = monitor.model_copy(update={"above": unseen})
    point = measure(watch, subject, model="", version=ALL, window=_NEVER, config=version, because=())
    verdict = judge(monitor, watch.metric, point, 1.0)
    detail = dict(point.detail)
    if watch.metric.name == "out_of_range" and subject.baseline:
        detail |= {"reference_low": subject.baseline.low, "reference_high": subject.baseline.high}
        agreed = subject.contract
        if agreed is not None and (agreed.min is not None or agreed.max is not None):
            detail |= {"reference_low": agreed.min, "reference_high": agreed.max, "range": "agreed range"}
    return Look(
        column=watch.column,
        segment=point.segment,
        metric=point.metric,
        monitor=monitor.name,
        value=point.value,
        low=point.low,
        high=point.high,
        limit=monitor.limit,
        direction=monitor.direction,
        relative=monitor.relative,
        n_current=point.n,
        n_baseline=subject.n_baseline if point.n_baseline is None else point.n_baseline,
        status=verdict.status,
        reason=verdict.reason.sentence,
        detail=detail,
        kind=watch.kind,
        since=since(watch.metric, subject) if verdict.status is Status.BREACH else None,
    )
