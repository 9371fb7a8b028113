"""Measuring, hop 3: which looks are due at a time, and the points that they find in the stored profiles."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from watchkeeper import kpis, late, monitors, summarising
from watchkeeper.errors import ConfigError
from watchkeeper.history import History, run, seen
from watchkeeper.metrics import fits
from watchkeeper.monitors import Watch
from watchkeeper.records import ALL, Point
from watchkeeper.schema import ModelConfig
from watchkeeper.segments import is_named
from watchkeeper.store import times
from watchkeeper.store.state import Transaction
from watchkeeper.tasks import model_columns
from watchkeeper.windows import DAY, Window, floor, show_duration, starts, together

LOOK_BACK = 1000
"""Grains before now that a model's first looks go back to, at most; older rows serve as baselines only."""
JUDGED = "judged"
"""The cursor of a model that says up to when it was looked at."""
LONGEST, MOST = 366 * DAY, 1000
"""The longest rolling window, and how many of them are measured at once."""

Due = Sequence[tuple[Watch, Window]]


def measure(
    tx: Transaction, name: str, model: ModelConfig, watches: Sequence[Watch], now: datetime, config: str
) -> list[tuple[Watch, Point]]:
    """Take every look that is due: those at the grains that ended since the last tick, and again those whose rows,
    labels or KPIs came late. A window is first looked at when the log covers all of it."""
    span, judged, ended = tx.span(name), tx.cursor(name, JUDGED), floor(now, model.grain_length)
    if span is None or (judged is None and span[0] >= ended):  # nothing yet, or nothing that has ended
        return []
    last = datetime.fromisoformat(judged) if judged else max(span[0], ended - LOOK_BACK * model.grain_length)
    horizon = max(ended, last)
    late_rows, late_labels = summarising.late(tx, name)
    due = [
        (watch, window)
        for watch in watches
        for again in [late_rows | late_labels if _comes_late(watch, model) and watch.early is None else late_rows]
        for end in _ends(watch, model, last, horizon, again)
        for window in [_window(watch, model, end)]
        if window.start >= span[0]
    ]
    if horizon > last or judged is None:
        due += [(watch, window) for watch, window in _provisional(watches, model, horizon) if window.start >= span[0]]
    tx.set_cursor(name, JUDGED, horizon.isoformat())
    tx.set_cursor(name, summarising.LATE, "[[], []]")
    return take(tx, name, model, due, now, config)


def take(
    tx: Transaction, name: str, model: ModelConfig, due: Due, now: datetime, config: str,
    columns: Sequence[str] | None = None,
) -> list[tuple[Watch, Point]]:  # fmt: skip
    """What looks find in their windows; nothing where there is nothing to look at.

    Args:
        columns: those whose profiles are read; all without them.
    """
    span = tx.span(name)
    if not due or span is None:
        return []
    history = _history(tx, name, model, due, span[0], now, columns)
    points = []
    for watch, window in due:
        for version in history.versions(window) if watch.by_version else [ALL]:
            subject, because = history.subject(watch, window, version)
            if (subject.n and watch.sees(subject)) or (watch.monitor and is_named(watch.segment)):
                points.append((watch, monitors.measure(watch, subject, name, version, window, config, because)))
    return points


def check_rolling(model: ModelConfig, length: timedelta) -> None:
    """Raises ConfigError for a window that is not made of whole grains, or that is longer than a year."""
    if length % model.grain_length or length > LONGEST:
        raise ConfigError(
            f"a window must be a multiple of the grain {model.grain} and {show_duration(LONGEST)} at most; found"
            f" {show_duration(length)}"
        )


def rolling(
    tx: Transaction, name: str, model: ModelConfig, watches: Iterable[Watch], length: timedelta, since: datetime,
    now: datetime, config: str, segment: str = ALL,
) -> list[Point]:  # fmt: skip
    """What shown metrics were over windows of a length that end after `since`, at each day, or at each grain where the
    window is no longer than a day. Profiles add up, so a window is the sum of its grains, and its interval that of its
    rows; windows that overlap share rows, so such points do not vary independently.

    Metrics of labels are of windows that are mature, and at a few ages of those that are not, provisionally.

    Raises ConfigError where `check_rolling` does, and where that would be more than `MOST` windows.
    """
    check_rolling(model, length)
    span, judged = tx.span(name), tx.cursor(name, JUDGED)
    if span is None or judged is None:
        return []
    horizon, step = datetime.fromisoformat(judged), model.grain_length if length <= DAY else DAY
    first = max(floor(since, step) + step, floor(span[0] + length - timedelta(microseconds=1), step) + step)
    last = floor(horizon, step)
    if (last - first) // step >= MOST:
        raise ConfigError(
            f"that would be {(last - first) // step + 1:,} windows, and {MOST:,} at most are measured at once; ask for"
            " fewer days, or for windows longer than a day"
        )
    ends = [*starts(Window(first, last + step), step)] if first <= last else []
    early = {floor(horizon - age, step) for age in late.ages(model)}
    at = min(now, horizon + model.grain_length)  # a tick that is long past knew no later labels
    due = []
    for watch in (replace(watch, window=length, segment=segment) for watch in watches):
        mature = horizon - _delay(watch, model)
        due += [(watch, Window(end - length, end)) for end in ends if end <= mature or (end in early and _waits(watch))]
    return [point for _, point in take(tx, name, model, due, at, config, _columns(model, due))]


def _columns(model: ModelConfig, due: Due) -> list[str]:
    """The columns that the looks read, and the one that says which versions answered."""
    beside = {wanted for watch, _ in due for wanted in watch.metric.beside}
    there = {name for name in (*model_columns(model), *beside) if any(fits(name, wanted) for wanted in beside)}
    return sorted({"status", *there, *(watch.column for watch, _ in due)})


def _history(
    tx: Transaction, name: str, model: ModelConfig, due: Due, since: datetime, now: datetime,
    columns: Sequence[str] | None,
) -> History:  # fmt: skip
    """All the profiles that the looks read, baselines included, and no others."""
    read = {part for watch, window in due for part in (seen(window), *_before(watch, window))}
    champions = tx.champions(name)
    named = sorted({ALL, *(name for watch, _ in due for name in (watch.segment, *watch.groups))})
    segment = None if columns is None and len(named) > 1 else named
    only: dict[str, object] = {} if columns is None else {"column": columns}
    grains = dict(kept for stretch in together(read) for kept in tx.profiles(name, stretch, segment, **only))
    running = [(watch, window) for watch, window in due if watch.metric.since_crowned]
    for column in {watch.column for watch, _ in running}:
        runs = {run(watch, w, champions, model.grain_length) for watch, w in running if watch.column == column}
        for stretch in together(runs):
            grains |= dict(tx.profiles(name, stretch, segment, column=column))
    immature = any(watch.metric.labels and window.end + model.label_delay > now for watch, window in due)
    learnt = Window(now - late.MATURITIES * model.label_delay - model.grain_length, now)
    lags = tx.profiles(name, learnt, column=times.LABEL_LAG) if immature else []
    return History(
        late.fill(grains.items(), model.unlabelled, model.grain_length, now),
        tx.profiles(name, None, segment, version=[version for _, version in champions], **only),
        champions,
        tx.grids(name),
        model.grain_length,
        model.threshold,
        since,
        model.costs,
        late.Late(lags, model, now) if immature else None,
    )


def _window(watch: Watch, model: ModelConfig, end: datetime) -> Window:
    """The window that a look at `end` covers; label metrics look back past the time that labels take."""
    end -= _delay(watch, model)
    return Window(end - watch.window, end)


def _provisional(watches: Iterable[Watch], model: ModelConfig, end: datetime) -> Iterable[tuple[Watch, Window]]:
    """The windows of shown label metrics that are looked at, at this time, before their labels are mature."""
    waiting = [watch for watch in watches if _waits(watch) and not watch.monitor]
    return [(w, Window(end - age - w.window, end - age)) for w in waiting for age in late.ages(model)]


def _waits(watch: Watch) -> bool:
    """Whether a look can be taken before its labels are mature."""
    return late.correctable(watch.metric, watch.column)


def _before(watch: Watch, window: Window) -> tuple[Window, ...]:
    return watch.monitor.before(window) if watch.monitor else ()


def _ends(
    watch: Watch, model: ModelConfig, last: datetime, horizon: datetime, again: Iterable[datetime]
) -> list[datetime]:
    """When a watch looks: at each grain's end after `last` up to `horizon`, and again at those not after `last` whose
    windows hold a late grain."""
    grain, delay = model.grain_length, _delay(watch, model)
    retaken = {
        end
        for at in again
        for end in starts(Window(at + grain + delay, at + watch.window + delay + grain), grain)
        if end <= last
    }
    return [*sorted(retaken), *(starts(Window(last + grain, horizon + grain), grain) if last < horizon else ())]


def _delay(watch: Watch, model: ModelConfig) -> timedelta:
    return (watch.early or model.label_delay) if watch.metric.labels else kpis.wait(watch.column, model)


def _comes_late(watch: Watch, model: ModelConfig) -> bool:
    """Whether a look is at what comes after the predictions: labels, or a KPI."""
    return watch.metric.labels or bool(kpis.kpi_of(watch.column, model.kpis))
