"""Accounts: what became of what was sent: which labels found their predictions, how late things come, what is lost."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from watchkeeper import events, traffic
from watchkeeper.metrics import METRICS
from watchkeeper.profiles import Profile, merge
from watchkeeper.records import ALL, Point
from watchkeeper.schema import ModelConfig
from watchkeeper.store.joins import joins
from watchkeeper.store.log import Log
from watchkeeper.store.state import TABLES, State, Transaction
from watchkeeper.store.times import ARRIVAL_LAG, LABEL_DELAY
from watchkeeper.summaries import quantiles
from watchkeeper.windows import Window, floor

POINTS = TABLES[Point].c
LOOK_BACK = timedelta(days=30)
"""How far back the times of arrival and of labels are told of."""
LEVELS = (0.5, 0.9, 0.99)
EFFORT = 60
"""Outcomes are counted again after this many times the time that it took."""
LOST = "dropped by clients, "
"""What the names of the counts begin with that clients tell; the reason follows."""
LOOKED = "accounts"
"""The cursor that says when they were, at which arrival, and how long it took."""


@dataclass(frozen=True, slots=True)
class Accounts:
    """What became of a model's events.

    `counts` are those of `joins`, and of what came in since counting began: `predictions again`, `outcomes again` and
    `kpis again` (sent twice, kept once), `contradicted` (an outcome of the same moment as one before, with another
    label, which is not kept), `set aside` (values that do not fit), `rejected`, `too late` (rows of times whose
    summaries stay as they are, since rows of them were deleted), and `dropped by clients, REASON` (events that never
    came).

    `labelled` is the share of the predictions old enough for their labels that have them, of `due` ones. `label_delay`
    and `arrival_lag` are quantiles, in seconds, of the last 30 days. `provisional` is the newest value of each
    performance metric whose labels are not all known yet, of the version with the most rows.
    """

    counts: Mapping[str, int]
    due: int
    labelled: float | None
    label_delay: tuple[float, ...]
    arrival_lag: tuple[float, ...]
    provisional: tuple[Point, ...] = ()

    @property
    def join_rate(self) -> float | None:
        """The share of the requests with an outcome whose prediction is there."""
        requests = self.counts.get("requests", 0)
        return self.counts.get("joined", 0) / requests if requests else None

    def to_dict(self) -> dict[str, object]:
        def told(times: tuple[float, ...]) -> dict[str, float] | None:
            return {f"p{level * 100:g}": value for level, value in zip(LEVELS, times, strict=True)} if times else None

        return {
            "counts": dict(sorted(self.counts.items())),
            "join_rate": self.join_rate,
            "due": self.due,
            "labelled": self.labelled,
            "label_delay_seconds": told(self.label_delay),
            "arrival_lag_seconds": told(self.arrival_lag),
            "provisional": [
                {
                    "metric": point.metric,
                    "version": point.version,
                    "start": point.window.start.isoformat(),
                    "end": point.window.end.isoformat(),
                    "value": point.value,
                    "low": point.low,
                    "high": point.high,
                    "uncorrected": point.detail["plain"],
                    "labelled": point.coverage,
                    "complete": point.detail["complete"],
                }
                for point in self.provisional
            ],
        }


def accounts(tx: Transaction, name: str, model: ModelConfig, now: datetime) -> Accounts:
    """The accounts of a model, from what is counted in the state."""
    grain = model.grain_length
    end = floor(now, grain) + grain
    kept = tx.profiles(name, Window(end - LOOK_BACK, end), column=[LABEL_DELAY, ARRIVAL_LAG], label=ALL)
    times: dict[str, list[Profile]] = {LABEL_DELAY: [], ARRIVAL_LAG: []}
    mature: list[Profile] = []
    for key, profile in kept:
        times[key.column].append(profile)
        if key.column == LABEL_DELAY and key.start is not None and key.start + grain + model.label_delay <= now:
            mature.append(profile)
    due = sum(profile.n for profile in mature)
    return Accounts(
        counts=tx.counts(name),
        due=due,
        labelled=1 - sum(profile.missing for profile in mature) / due if due else None,
        label_delay=_quantiles(LABEL_DELAY, times[LABEL_DELAY]),
        arrival_lag=_quantiles(ARRIVAL_LAG, times[ARRIVAL_LAG]),
        provisional=_provisional(tx, name, model, end),
    )


def _provisional(tx: Transaction, name: str, model: ModelConfig, end: datetime) -> tuple[Point, ...]:
    waited = [metric for metric, one in METRICS.items() if one.labels]
    since = POINTS.window_end > end - model.label_delay
    found = tx.select(Point, since, model=name, monitor="", segment=ALL, metric=waited, order="window_end")
    newest: dict[str, Point] = {}
    for point in found:
        other = newest.get(point.metric)
        later = other is None or (point.window.end, point.n) > (other.window.end, other.n)
        if point.provisional and point.value is not None and later:
            newest[point.metric] = point
    return tuple(newest[metric] for metric in waited if metric in newest)


def _quantiles(column: str, parts: list[Profile]) -> tuple[float, ...]:
    grid = traffic.TIMES[column]
    whole = merge([part for part in parts if part.grid == grid.name])
    if whole is None or not len(whole.regular[0]):
        return ()
    return tuple(float(value) for value in quantiles(whole, grid, LEVELS))


def add(state: State, counted: Mapping[str, Counter[str]]) -> None:
    """Add to the counts of models."""
    if any(+counts for counts in counted.values()):
        with state.transaction() as tx:
            for name, counts in counted.items():
                tx.add_counts(name, +counts)


def lose(state: State, told: events.Event) -> None:
    """Count what a client says that it dropped. It tells all since it began, so only what is new is added."""
    name, cursor = told["model"], f"losses {told['client']}"
    with state.transaction() as tx:
        before: Counter[str] = Counter(json.loads(tx.cursor(name, cursor) or "{}"))
        after = {**before, **{r: max(n, before[r]) for r, n in told["dropped"].items()}}
        tx.add_counts(name, {f"{LOST}{reason}": n - before[reason] for reason, n in after.items()})
        tx.set_cursor(name, cursor, json.dumps(after))


def look(state: State, log: Log, name: str, now: datetime) -> None:
    """Count anew how outcomes met predictions, if anything came, and not so often that it takes much of the time."""
    arrival = log.arrival(name)
    with state.snapshot() as tx:
        last = json.loads(tx.cursor(name, LOOKED) or "null")
    if last and (last[0] == arrival or now < datetime.fromisoformat(last[1]) + timedelta(seconds=EFFORT * last[2])):
        return
    begun = time.perf_counter()
    found = joins(log, name)
    took = time.perf_counter() - begun
    with state.transaction() as tx:
        tx.put_counts(name, found)
        tx.set_cursor(name, LOOKED, json.dumps([arrival, now.isoformat(), took]))
