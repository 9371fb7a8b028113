"""Models of several classes and of numbers whose labels come late: what is said of them before all are known.

Of claims, frauds are settled last, above all those that were taken for something else. Of deliveries, those that take
longer than was said are known later. So what is known first flatters the one, and makes the other look too careful.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from watchkeeper import measuring, monitors
from watchkeeper.engine import Engine
from watchkeeper.records import ALL, Point, Verdict
from watchkeeper.schema import Config
from watchkeeper.stats.grid import Bools, Floats
from watchkeeper.windows import DAY

START = datetime(2024, 1, 1, tzinfo=UTC)
DAYS, A_DAY, MATURE, LOOKED = 60, 500, 15, 3
CLASSES = np.array(["fraud", "ok", "review"])
SHARES = np.array([0.08, 0.72, 0.2])
SAID = np.array([[0.7, 0.2, 0.1], [0.02, 0.93, 0.05], [0.05, 0.15, 0.8]])
COSTS = {"fraud": {"ok": 100.0, "review": 20.0}, "ok": {"(other)": 2.0}, "review": {"(other)": 5.0}}
REGIONS = np.array(["north", "south"])


@dataclass(frozen=True)
class Rows:
    """All rows: when each was predicted and when its label is known, in days; what was said, what it was, and where."""

    at: Floats
    known: Floats
    said: np.ndarray
    was: np.ndarray
    region: np.ndarray


def claims() -> Rows:
    rng = np.random.default_rng(3)
    n = DAYS * A_DAY
    was = rng.choice(3, n, p=SHARES)
    said = np.array([rng.choice(3, p=SAID[i]) for i in was])
    slow = np.where(was == 0, np.where(said == 0, 7.0, 10.0), 2.0)
    wait = np.minimum(slow * rng.gamma(4, 0.25, n), MATURE - 0.5)
    at = np.sort(rng.uniform(0, DAYS, n))
    return Rows(at, at + wait, CLASSES[said], CLASSES[was], REGIONS[(rng.random(n) < 0.1).astype(int)])


def deliveries() -> Rows:
    rng = np.random.default_rng(4)
    n = DAYS * A_DAY
    said = np.round(rng.lognormal(2, 0.3, n), 3)
    late = rng.normal(0.3, 2, n)
    wait = np.minimum(rng.exponential(3, n) * np.exp(0.35 * late), MATURE - 0.5)
    at = np.sort(rng.uniform(0, DAYS, n))
    return Rows(at, at + wait, said, said + late, REGIONS[(rng.random(n) < 0.1).astype(int)])


CLAIMS: dict[str, Any] = {"task": "multiclass", "classes": CLASSES.tolist(), "costs": COSTS}
EARLY = {"name": "wrong", "metric": "accuracy", "below": 0.2, "window": "7d", "early": "6d", "segments": True}
STORIES: dict[str, tuple[Callable[[], Rows], dict[str, Any], tuple[str, ...]]] = {
    "claims": (claims, {**CLAIMS, "monitors": [EARLY]}, ("accuracy", "macro_f1", "decision_cost")),
    "deliveries": (deliveries, {"task": "regression", "monitors": []}, ("bias", "mae", "rmse")),
}


def right(metric: str, rows: Rows, of: Bools) -> float:
    """What a metric is once all labels are known."""
    said, was = rows.said[of], rows.was[of]
    if metric in ("bias", "mae", "rmse"):
        off = said - was
        return float({"bias": off.mean(), "mae": np.abs(off).mean(), "rmse": (off**2).mean() ** 0.5}[metric])
    if metric == "accuracy":
        return float((said == was).mean())
    if metric == "macro_f1":
        each = [(2 * ((said == c) & (was == c)).sum() / ((said == c).sum() + (was == c).sum())) for c in CLASSES]
        return float(np.mean(each))
    cost = [0.0 if a == b else COSTS[b].get(a, COSTS[b].get("(other)", 0.0)) for a, b in zip(said, was, strict=True)]
    return float(np.mean(cost))


@dataclass
class Told:
    rows: Rows
    engine: Engine
    provisional: list[Point]
    metrics: tuple[str, ...]

    def right(self, point: Point, region: str | None = None) -> float:
        begin, end = ((at - START) / DAY for at in (point.window.start, point.window.end))
        of = (self.rows.at >= begin) & (self.rows.at < end)
        return right(point.metric, self.rows, of if region is None else of & (self.rows.region == region))


@pytest.fixture(scope="module", params=STORIES)
def told(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Told]:
    make, settings, metrics = STORIES[request.param]
    model = {
        "columns": {"region": {"kind": "categorical"}},
        "segments": ["region"],
        "label_delay": f"{MATURE}d",
        **settings,
    }
    now, rows = [START], make()
    config = Config.model_validate({"models": {"m": model}})
    engine = Engine(Path(tmp_path_factory.mktemp(request.param)), config, clock=lambda: now[0])
    first = slice(0, 5000)
    reference = {"region": rows.region[first], "prediction": rows.said[first], "label": rows.was[first]}
    engine.install("m", "v1", pa.table(reference))
    epoch = np.datetime64(START.replace(tzinfo=None), "us")
    at, known = (epoch + (each * 86_400e6).astype("timedelta64[us]") for each in (rows.at, rows.known))
    points: dict[tuple[str, float | None], Point] = {}
    for day in range(LOOKED, DAYS + 1, LOOKED):
        new = np.flatnonzero((rows.at >= day - LOOKED) & (rows.at < day))
        made = {"request_id": new.astype(str), "event_time": at[new], "version": np.full(len(new), "v1"),
                "prediction": rows.said[new], "region": rows.region[new]}  # fmt: skip
        engine.log.append("m", pa.table({name: pa.array(values) for name, values in made.items()}))
        came = np.flatnonzero((rows.known >= day - LOOKED) & (rows.known < day))
        outcomes = {"request_id": came.astype(str), "label": rows.was[came], "known_at": known[came]}
        engine.log.append_outcomes("m", pa.table({name: pa.array(values) for name, values in outcomes.items()}))
        now[0] = START + day * DAY
        engine.tick()
        with engine.state.snapshot() as tx:
            shown = tx.select(Point, model="m", monitor="", metric=list(metrics))
        points |= {(p.id, p.coverage): p for p in shown if p.provisional}
    yield Told(rows, engine, [*points.values()], metrics)
    engine.close()


def held(points: list[Point], truth: Callable[[Point], float]) -> float:
    """How many of the points hold the truth in their band."""
    inside = [p.low is not None and p.high is not None and p.low <= truth(p) <= p.high for p in points]
    return sum(inside) / len(inside)


def test_the_corrected_band_holds_the_truth_before_the_labels_are_mature(told: Told) -> None:
    for metric in told.metrics:
        shown = [p for p in told.provisional if p.metric == metric and p.low is not None]
        assert len(shown) > 60, metric
        assert held(shown, told.right) >= 0.93, metric
        assert all(0 < p.detail["complete"] <= 1 for p in shown)
        assert all(p.detail["coverage"] == pytest.approx(1, abs=0.15) for p in shown)


def test_the_plain_value_of_the_labels_that_came_first_is_biased(told: Told) -> None:
    for metric in ("accuracy", "decision_cost", "bias"):
        if metric not in told.metrics:
            continue
        young = [p for p in told.provisional if p.metric == metric and p.value is not None]
        young = [p for p in young if p.detail["complete"] < 0.95]
        assert len(young) > 10
        plain = np.array([p.detail["plain"] - told.right(p) for p in young])
        corrected = np.array([(p.value or 0.0) - told.right(p) for p in young])
        assert abs(plain.mean()) > 3 * abs(corrected.mean()), metric


def test_the_mature_value_is_that_of_all_labels(told: Told) -> None:
    with told.engine.state.snapshot() as tx:
        shown = tx.select(Point, model="m", monitor="", metric=list(told.metrics))
    mature = [p for p in shown if not p.provisional and p.version == "v1"]
    assert len(mature) == len(told.metrics) * (DAYS - MATURE)
    for point in mature:
        assert point.coverage == 1
        exact = point.metric in ("accuracy", "macro_f1", "decision_cost")
        assert point.value == pytest.approx(told.right(point), abs=1e-12 if exact else 0.01)


def test_a_small_segment_is_corrected_by_the_delays_of_all_rows(told: Told) -> None:
    config = told.engine.config.models["m"]
    watches = [watch for watch in monitors.shown(config) if watch.metric.name in told.metrics]
    now = told.engine.clock()
    with told.engine.state.snapshot() as tx:
        found = [
            (point, region)
            for region in REGIONS
            for point in measuring.rolling(tx, "m", config, watches, 3 * DAY, START, now, "c", f"region={region}")
        ]
    shown = [(p, region) for p, region in found if p.provisional and p.low is not None]
    assert len(shown) > 20
    assert sum((p.low or 0.0) <= told.right(p, region) <= (p.high or 0.0) for p, region in shown) >= 0.9 * len(shown)
    mature = [(p, region) for p, region in found if not p.provisional]
    assert all(p.coverage == 1 for p, _ in mature)
    if "accuracy" in told.metrics:
        assert all(p.value == pytest.approx(told.right(p, region)) for p, region in mature if p.metric == "accuracy")


def test_a_monitor_may_judge_early_in_segments_too(told: Told) -> None:
    with told.engine.state.snapshot() as tx:
        verdicts = tx.select(Verdict, model="m", monitor="wrong (early)")
    if "accuracy" not in told.metrics:
        assert verdicts == []
        return
    assert {v.segment for v in verdicts} == {ALL, "region=north", "region=south"}
    assert {str(v.status) for v in verdicts if v.window.start > START + 40 * DAY} == {"healthy"}
