"""Estimates from features in the loop: stories in which the mix of inputs moves, and the scores alone do not see it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from watchkeeper.engine import Engine
from watchkeeper.records import Point
from watchkeeper.schema import Config
from watchkeeper.windows import DAY

START = datetime(2024, 1, 1, tzinfo=UTC)
ROWS = 3000


def classified(n: int, young: float, seed: int) -> dict[str, Any]:
    """A model that does not know who is young: its score is right for the others, twice too high for the young."""
    rng = np.random.default_rng(seed)
    x, is_young = rng.uniform(0.05, 0.95, n), rng.random(n) < young
    labels = rng.random(n) < np.where(is_young, x / 2, x)
    return {"x": x, "age": np.where(is_young, "young", "old"), "score": x, "label": labels.astype(int)}


def predicted(n: int, young: float, seed: int) -> dict[str, Any]:
    """A model whose errors are four times as large for the young."""
    rng = np.random.default_rng(seed)
    x, is_young = rng.uniform(0, 1, n), rng.random(n) < young
    labels = 10 * x + rng.normal(0, np.where(is_young, 4.0, 1.0))
    return {"x": x, "age": np.where(is_young, "young", "old"), "prediction": 10 * x, "label": labels}


def engine(folder: Path, task: str, clock: list[datetime], **settings: Any) -> Engine:
    model = {
        "task": task,
        "columns": {"x": {"kind": "numeric"}, "age": {"kind": "categorical"}},
        "monitors": [],
        "estimation": "features",
        "label_delay": "2d",
        **settings,
    }
    return Engine(folder, Config.model_validate({"models": {"m": model}}), clock=lambda: clock[0])


def send(keeper: Engine, rows: dict[str, Any], day: int, labels: bool = False) -> None:
    answer = "score" if "score" in rows else "prediction"
    made = []
    for i in range(len(rows["x"])):
        at = START + day * DAY + timedelta(seconds=20 * i)
        features = {"x": float(rows["x"][i]), "age": str(rows["age"][i])}
        of = {"model": "m", "request_id": f"{day}-{i}"}
        if labels:
            known = (START + day * DAY + timedelta(hours=23)).isoformat()
            made.append({**of, "kind": "outcome", "label": rows["label"][i].item(), "known_at": known})
        else:
            made.append({**of, "kind": "prediction", "event_time": at.isoformat(), "version": "v1",
                         answer: float(rows[answer][i]), "features": features})  # fmt: skip
    keeper.inbox.put(made)


def points(keeper: Engine, metric: str) -> list[Point]:
    with keeper.state.snapshot() as tx:
        found: list[Point] = tx.select(Point, metric=metric, version="v1")
    return sorted(found, key=lambda point: point.window.end)


def test_a_moved_mix_is_seen_before_the_labels_come_and_the_estimates_are_held_against_them(tmp_path: Path) -> None:
    clock = [START]
    keeper = engine(tmp_path, "binary", clock)
    keeper.install("m", "v1", pa.table(classified(6000, 0.3, 0)))
    days = [classified(ROWS, young, 1 + day) for day, young in enumerate((0.3, 0.9))]
    for day, rows in enumerate(days):
        send(keeper, rows, day)
        clock[0] = START + (day + 1) * DAY
        tick = keeper.tick()
        assert tick.rows["estimate"] == ROWS
    truths = [float(((rows["score"] >= 0.5) == rows["label"]).mean()) for rows in days]
    found = points(keeper, "estimated_accuracy")
    assert [p.detail["from"] for p in found] == ["features and weights"] * 2
    for point, truth in zip(found, truths, strict=True):
        assert point.value == pytest.approx(truth, abs=0.025)
        assert point.low is not None
        assert point.high is not None
        assert point.low < truth < point.high
        assert point.detail["strange"] < 0.01
        assert point.detail["effective"] > 0.3
    assert found[0].detail["effective"] > 0.9
    assert truths[0] - truths[1] > 0.05  # the score's own distribution has not moved at all
    for day, rows in enumerate(days):
        send(keeper, rows, day, labels=True)
    clock[0] = START + 4 * DAY
    keeper.tick()
    record = points(keeper, "accuracy_estimation_error")
    assert [p.detail["held"] for p in record] == [True, True]
    keeper.close()


def test_a_regression_has_estimates_of_its_errors(tmp_path: Path) -> None:
    clock = [START]
    keeper = engine(tmp_path, "regression", clock)
    keeper.install("m", "v1", pa.table(predicted(6000, 0.3, 0)))
    days = [predicted(ROWS, young, 1 + day) for day, young in enumerate((0.3, 0.9))]
    for day, rows in enumerate(days):
        send(keeper, rows, day)
        send(keeper, rows, day, labels=True)
        clock[0] = START + (day + 1) * DAY
        keeper.tick()
    off = [rows["prediction"] - rows["label"] for rows in days]
    real = {"mae": [float(np.abs(o).mean()) for o in off], "rmse": [float((o**2).mean() ** 0.5) for o in off]}
    for metric, truths in real.items():
        for point, truth in zip(points(keeper, f"estimated_{metric}"), truths, strict=True):
            assert point.value == pytest.approx(truth, rel=0.06)
            assert point.low is not None
            assert point.high is not None
            assert point.low < truth < point.high
            assert point.detail["from"] == "features and weights"
    clock[0] = START + 4 * DAY
    keeper.tick()
    assert [p.detail["held"] for p in points(keeper, "mae_estimation_error")] == [True, True]
    keeper.close()
