"""A fraud model whose labels come one to three months late: what is said of it before, and when.

One row in a hundred is a fraud. What was no fraud is known 30 to 45 days later; frauds are reported after 30 to 90
days, those with a low score, which the model misses, last. So the labels that come first flatter the model. From day
100 on frauds get lower scores than before.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from scipy.special import expit

from small_world import CHAMPION, DAY, NAME, START, World, config, moment
from watchkeeper.records import Incident, Point, Status, Verdict
from watchkeeper.stats.grid import Floats

DAYS, A_DAY, BASE = 203, 4000, 0.01
DROP = 100
LOOKED = 7
"""Days from one tick to the next."""
MATURE, EARLY = 90, 60
BEFORE, AFTER = 1.0, -1.0
"""The mean log odds of frauds."""
MONITORS = [
    {"name": "recall", "metric": "recall", "below": 0.6, "window": "14d", "early": f"{EARLY}d", "severity": "P1"},
    {"name": "frauds", "metric": "positive_rate", "below": 0.006, "window": "7d", "severity": "P1"},
]


@dataclass(frozen=True)
class Row:
    """All rows: when each was predicted and when its label is known, in days; its score, label and id."""

    at: Floats
    known: Floats
    score: Floats
    label: Floats


@cache
def rows() -> Row:
    rng = np.random.default_rng(5)
    at = np.sort(rng.uniform(0, DAYS, DAYS * A_DAY))
    fraud = rng.random(len(at)) < BASE
    mean = np.where(fraud, np.where(at < DROP, BEFORE, AFTER), -4.0)
    score = np.round(expit(rng.normal(mean, np.where(fraud, 1.5, 1.0))), 6)
    easy = score > 0.5
    wait = np.where(easy, rng.beta(1.2, 2.5, len(at)), rng.beta(1.6, 1.6, len(at)))
    known = at + 30 + np.where(fraud, 60 * wait, 15 * rng.random(len(at)))
    return Row(at, known, score, fraud.astype(float))


@cache
def truth(metric: str, day: int) -> float:
    """What a metric is of a day's predictions once all labels are known."""
    every = rows()
    of_day = (every.at >= day) & (every.at < day + 1)
    fraud, alarmed = every.label[of_day] == 1, every.score[of_day] >= 0.5
    shares = {
        "recall": alarmed[fraud],
        "precision": fraud[alarmed],
        "positive_rate": fraud,
        "false_positive_rate": alarmed[~fraud],
    }
    return float(shares[metric].mean())


METRICS = ("recall", "precision", "positive_rate", "false_positive_rate")


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[World, list[Point], list[tuple[int, str]]]]:
    """The world at the end, every provisional point that there was, and the steps of incidents with their days."""
    folder: Path = tmp_path_factory.mktemp("fraud")
    settings = config(monitors=MONITORS, label_delay=f"{MATURE}d", resolve_after="14d")
    world, every = World(folder, settings), rows()
    points: dict[tuple[str, float | None], Point] = {}
    steps: list[tuple[int, str]] = []
    for day in range(LOOKED, DAYS + 1, LOOKED):
        append(world, every, day)
        found = world.at(day)
        steps += [(day, step.after) for step in found.steps]
        shown = world.rows(Point, monitor="", metric=list(METRICS))
        points |= {(p.id, p.coverage): p for p in shown if p.detail.get("provisional")}
    yield world, [*points.values()], steps
    world.engine.close()


def append(world: World, every: Row, day: int) -> None:
    """What came in the last days goes into the log at once."""
    new = np.flatnonzero((every.at >= day - LOOKED) & (every.at < day))
    epoch = np.datetime64(START.replace(tzinfo=None), "us")
    times = epoch + (every.at * 86_400e6).astype("timedelta64[us]")
    known = epoch + (every.known * 86_400e6).astype("timedelta64[us]")
    predictions = {
        "request_id": new.astype(str), "event_time": times[new], "version": np.full(len(new), CHAMPION),
        "score": every.score[new], "amount": np.full(len(new), 1.0), "country": np.full(len(new), "DE"),
        "status": np.full(len(new), "ok"),
    }  # fmt: skip
    world.engine.log.append(NAME, pa.table({name: pa.array(values) for name, values in predictions.items()}))
    came = np.flatnonzero((every.known >= day - LOOKED) & (every.known < day))
    if len(came):
        labels = pa.array(every.label[came].astype(np.int32))
        outcomes = {"request_id": pa.array(came.astype(str)), "label": labels, "known_at": pa.array(known[came])}
        world.engine.log.append_outcomes(NAME, pa.table(outcomes))


def day_of(point: Point | Verdict) -> int:
    return (point.window.start - START) // DAY


def share(points: list[Point], metric: str, plain: bool) -> float:
    """How many of the points hold the truth in their band."""
    names = ("plain_low", "plain_high") if plain else ("", "")
    held = []
    for p in points:
        low, high = (p.detail[name] for name in names) if plain else (p.low, p.high)
        right = truth(metric, day_of(p))
        held.append((low is None or low <= right) and (high is None or right <= high))
    return sum(held) / len(held)


Told = tuple[World, list[Point], list[tuple[int, str]]]


@pytest.mark.parametrize("metric", METRICS)
def test_the_corrected_band_holds_the_truth_before_the_labels_are_mature(told: Told, metric: str) -> None:
    shown = [p for p in told[1] if p.metric == metric and p.value is not None]
    assert len(shown) > 30
    assert share(shown, metric, plain=False) >= 0.93
    assert all(0 < p.detail["complete"] <= 1 for p in shown)


@pytest.mark.parametrize(("metric", "worse"), [("recall", 1), ("positive_rate", -1)])
def test_the_plain_value_of_the_labels_that_came_first_is_biased(told: Told, metric: str, worse: int) -> None:
    shown = [p for p in told[1] if p.metric == metric and p.value is not None and p.detail["complete"] < 0.9]
    plain = np.array([p.detail["plain"] - truth(metric, day_of(p)) for p in shown]) * worse
    corrected = np.array([(p.value or 0.0) - truth(metric, day_of(p)) for p in shown]) * worse
    assert plain.mean() > 3 * abs(corrected.mean())
    assert share(shown, metric, plain=True) < share(shown, metric, plain=False)


def test_while_nothing_is_known_nothing_is_said(told: Told) -> None:
    young = [p for p in told[1] if p.metric == "recall" and p.detail.get("complete") is None]
    assert young
    assert all(p.value is None and p.low is None and p.high is None for p in young)


def test_the_mature_value_is_that_of_all_labels(told: Told) -> None:
    mature = [
        p for p in told[0].rows(Point, monitor="", metric="recall") if not p.detail.get("provisional") and p.coverage
    ]
    assert len(mature) > 100
    for point in mature:
        assert point.coverage == 1
        assert point.value == pytest.approx(truth("recall", day_of(point)), abs=1e-12)


def test_nothing_is_judged_before_its_time_and_a_drop_is_told_early_where_that_was_asked_for(told: Told) -> None:
    world, _, steps = told
    verdicts = world.rows(Verdict)
    breaches = [v for v in verdicts if v.status is Status.BREACH]
    assert {v.monitor for v in breaches} == {"recall", "recall (early)"}
    first = {name: min(v.window.end for v in breaches if v.monitor == name) for name in ("recall", "recall (early)")}
    assert all(end > moment(DROP) for end in first.values())
    last = {name: max(v.window.end for v in verdicts if v.monitor == name) for name in ("recall", "frauds")}
    assert set(last.values()) == {moment(DAYS - MATURE)}
    [incident] = world.rows(Incident)
    opened = (incident.opened_at - START) // DAY
    assert DROP + EARLY < opened < DROP + MATURE, "before the labels are mature"
    assert {state for _, state in steps} == {"open"}
    assert max(v.window.end for v in breaches if v.monitor == "recall (early)") == moment(DAYS - EARLY)
