"""Comparing two tables: what changed, by how much, and whether that is more than chance.

comparison = watchkeeper.compare("train.parquet", "today.csv")
comparison.healthy
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from watchkeeper import policy
from watchkeeper.config import load, only_model
from watchkeeper.errors import ConfigError, DataError
from watchkeeper.findings import MISSING, Comparison, Look
from watchkeeper.monitors import LARGEST_ERROR, MODEL_COLUMNS, Watch, judge, measure, plan
from watchkeeper.profiles import Subject
from watchkeeper.records import ALL, Status
from watchkeeper.schema import ColumnConfig, Config, ModelConfig
from watchkeeper.store import sources
from watchkeeper.store.tallies import sample
from watchkeeper.tables import Side, count, infer, listed, near
from watchkeeper.windows import Window

_NEVER = Window(datetime(1970, 1, 1, tzinfo=UTC), datetime(1970, 1, 2, tzinfo=UTC))
"""Rows need a window; tables that are compared as a whole have none."""


def compare(
    reference: Any,
    current: Any,
    *,
    config: ModelConfig | Config | str | Path | None = None,
    columns: Sequence[str] | None = None,
    false_alarms: float = 0.05,
) -> Comparison:
    """What changed from the reference to the current data.

    Args:
        reference, current: each a path to CSV or Parquet (a file, a folder or a glob), a pandas or Polars data
            frame, or an Arrow table.
        config: a model's configuration, or the path of a `watchkeeper.yaml` with one model: its columns and its
            monitors. What needs labels or the live service is left out, and the reference stands in for every
            baseline. Without one, the columns are those of the reference: numbers, texts and booleans. Left out
            are dates, times and nested values; columns without any value; and text that is an id or free text,
            which is one with more than 100 different values and more of them than half of its rows.
        columns: compare only these.
        false_alarms: the probability that the whole comparison has any breach though nothing changed, at most.
            Each of the `k` looks is given `false_alarms / k`, whatever depends on what.

    Without a configuration these limits hold, each breached only if the whole interval lies beyond it:

    - share of missing values: 0.05 above the reference's;
    - population stability index: 0.1, from which a shift is usually called worth a look (0.25 is a large one);
    - Kolmogorov-Smirnov and Jensen-Shannon distance: 0.1 (both reach from 0 to 1);
    - Wasserstein distance: 0.1 standard deviations;
    - share of numbers that often mean "unknown", such as -999, and lie outside the reference range: 0.005;
    - share of values outside the reference range: 0.05;
    - share of categories that the reference does not have: 0.01.

    The last three are raised where the reference is so small that it cannot have seen all that is normal. A limit in
    a configuration is taken as it stands. A column that the current data lacks is a breach of its own.

    Rows are taken as independent: many rows of one person or one hour count for more than they say.

    Raises DataError where the data cannot be read or compared, ConfigError where the configuration is wrong.
    """
    if not 0 < false_alarms < 1:
        raise ConfigError(f"false_alarms must lie between 0 and 1, found {false_alarms}")
    model = None if config is None else _model(config)
    connection = sources.connect()
    try:
        before = Side("the reference", sources.read(connection, reference, "reference"))
        after = Side("the current data", sources.read(connection, current, "current"))
        return _compare(before, after, model, columns, false_alarms)
    finally:
        connection.disconnect()


def _model(config: ModelConfig | Config | str | Path) -> ModelConfig:
    if isinstance(config, ModelConfig):
        return config
    if isinstance(config, Config):
        return only_model(config, "the configuration")[1]
    return only_model(load(Path(config)), str(config))[1]


def _compare(
    before: Side, after: Side, model: ModelConfig | None, only: Sequence[str] | None, false_alarms: float
) -> Comparison:
    reference_rows, rows = before.rows, after.rows
    skipped: dict[str, str] = {}
    probe = Side(before.title, sample(before.table, "probe"))
    given = model is not None
    if model is None:
        columns, skipped = infer(before, probe, only)
        model = default_model(columns)
    watches = _watches(model, before, after, only, skipped)
    chosen = list(dict.fromkeys(watch.column for watch in watches))
    homes = {name: model.features[name].column if name in model.features else name for name in chosen}
    missing = [name for name in dict.fromkeys(homes.values()) if name not in after.table.columns]
    watches = [watch for watch in watches if homes[watch.column] not in missing]
    if not watches:
        why = "; ".join(f"{name}: {reason}" for name, reason in skipped.items())
        raise DataError(
            f"there is nothing to compare: the reference has {listed(before.table.columns)}, the current data has"
            f" {listed(after.table.columns)}" + (f" ({why})" if why else "")
        )
    version = Config.model_construct(models={"comparison": model}, channels={}).version
    subjects = count(before, probe, after, model, [name for name in chosen if homes[name] not in missing])
    found = [_lacking(name, rows, reference_rows) for name in missing]
    found += looks(watches, subjects, version, false_alarms, raise_limits=not given)
    place = {name: i for i, name in enumerate([*homes.values(), *chosen])}
    return Comparison(
        points=tuple(sorted(found, key=lambda look: (not look.breach, place[look.column]))),
        skipped=skipped,
        extra_columns=tuple(name for name in after.table.columns if name not in before.table.columns),
        rows=rows,
        reference_rows=reference_rows,
        false_alarms=false_alarms,
        config=version,
        subjects=subjects,
    )


# What to look at


def default_model(columns: Mapping[str, ColumnConfig]) -> ModelConfig:
    """What `compare` uses without a configuration. Not validated: a column of a plain table may bear any name."""
    model = ModelConfig.model_construct(columns=dict(columns))
    return model.model_copy(update={"monitors": policy.for_tables({f.kind for f in model.features.values()})})


def _watches(
    model: ModelConfig, before: Side, after: Side, only: Sequence[str] | None, skipped: dict[str, str]
) -> list[Watch]:
    """The looks that two plain tables allow."""
    for name in model.columns:
        if name not in before.table.columns:
            raise DataError(
                f'the configuration has a column "{name}" and the reference has none;'
                f" {near(name, before.table.columns)}"
            )
    for name in only or ():
        if name not in model.columns and name not in skipped:
            raise DataError(f'the configuration has no column "{name}"; {near(name, model.columns)}')
    kept = []
    for watch in plan(model) if model.columns else ():
        why = _not_here(watch, before, after)
        if why and watch.monitor:
            skipped[f'monitor "{watch.monitor.name}"'] = why
        elif only is None or watch.column in only:
            kept.append(watch)
    return kept


def _not_here(watch: Watch, before: Side, after: Side) -> str:
    if watch.metric.labels:
        return f"{watch.metric.title} needs labels, which a comparison of tables does not have"
    if watch.metric.column is not None:
        return f"{watch.metric.title} is of the live service"
    if watch.column in MODEL_COLUMNS:
        for side in (before, after):
            if watch.column not in side.table.columns:
                return f'{side.title} has no column "{watch.column}"'
    return ""


# From counts to findings


def looks(
    watches: Sequence[Watch],
    subjects: Mapping[str, Subject],
    version: str,
    false_alarms: float,
    *,
    raise_limits: bool,
) -> list[Look]:
    """Every look at these counts, each with its share of the false alarms.

    Args:
        version: the name of the configuration.
        raise_limits: give way where the reference is too small to have seen all that is normal.
    """
    alpha = min(false_alarms / len(watches), LARGEST_ERROR)
    return [_look(replace(watch, alpha=alpha), subjects[watch.column], version, raise_limits) for watch in watches]


def _look(watch: Watch, subject: Subject, version: str, raise_limits: bool) -> Look:
    monitor = watch.monitor
    assert monitor is not None
    if raise_limits and monitor.above is not None:
        unseen = policy.unseen(watch.metric, subject, watch.alpha)
        if unseen > monitor.above:
            monitor = monitor.model_copy(update={"above": unseen})
    point = measure(watch, subject, model="", version=ALL, window=_NEVER, config=version, because=())
    verdict = judge(monitor, watch.metric, point, 1.0)
    detail = dict(point.detail)
    if watch.metric.name == "out_of_range" and subject.baseline:
        detail |= {"reference_low": subject.baseline.low, "reference_high": subject.baseline.high}
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
    )


def _lacking(name: str, rows: int, reference_rows: int) -> Look:
    return Look(
        name, ALL, MISSING, MISSING, None, None, None, None, "above", None, rows, reference_rows, Status.BREACH,
        "column is missing from the current data", {},
    )  # fmt: skip
