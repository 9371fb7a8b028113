"""Estimates from features in the loop: stories in which the mix of inputs moves, and the scores alone do not see it."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from watchkeeper import expecting, training
from watchkeeper.engine import Engine
from watchkeeper.errors import StateError
from watchkeeper.metrics import expected
from watchkeeper.profiles import numeric
from watchkeeper.records import Point
from watchkeeper.schema import Config, ModelConfig
from watchkeeper.stats.grid import Grid
from watchkeeper.windows import DAY, Window

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


def send(keeper: Engine, rows: dict[str, Any], day: int, labels: bool = False, first: int = 0) -> None:
    answer = "score" if "score" in rows else "prediction"
    made = []
    for i in range(len(rows["x"])):
        at = START + day * DAY + timedelta(seconds=20 * i)
        features = {"x": float(rows["x"][i]), "age": str(rows["age"][i])}
        of = {"model": "m", "request_id": f"{day}-{first + i}"}
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


# what is asked of whom


class Quick:
    """Stands for what is fitted: remembers which rows it was asked about."""

    def __init__(self, model: ModelConfig, rows: pa.Table, grid: Grid) -> None:
        self.fitted, self.asked, self.grid = rows, list[pa.Table](), grid
        self.of_reference: list[Any] = []

    def of_rows(self, rows: pa.Table) -> list[Any]:
        self.asked.append(rows)
        whole = numeric(self.grid, {500: rows.num_rows * expected.UNIT // 2}, None, None)
        return [(expected.FEATURES, label, whole) for label in expected.LABELS]


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> list[Quick]:
    made: list[Quick] = []

    def fit(*about: Any) -> Quick:
        made.append(Quick(*about))
        return made[-1]

    monkeypatch.setattr(expecting, "Classified", fit)
    return made


def kept(keeper: Engine, day: int) -> int:
    """How many rows of a day the features were looked at."""
    with keeper.state.snapshot() as tx:
        found = tx.profiles("m", Window(START + day * DAY, START + (day + 1) * DAY), column=expected.FEATURES)
    return sum(profile.n for _, profile in found) // expected.UNIT


def test_a_bounded_random_sample_is_asked_once_and_again_where_rows_come_late(
    tmp_path: Path, quick: list[Quick], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(expecting, "SAMPLE", 300)
    clock = [START]
    keeper = engine(tmp_path, "binary", clock)
    keeper.install("m", "v1", pa.table(classified(2000, 0.3, 0)))
    rows = classified(1200, 0.3, 1)
    send(keeper, {name: column[:1000] for name, column in rows.items()}, 0)
    clock[0] = START + DAY / 2
    assert "estimate" not in +keeper.tick().rows  # the day is not over
    clock[0] = START + DAY
    asked = keeper.tick().rows["estimate"]
    assert 240 < asked < 360
    assert kept(keeper, 0) == pytest.approx(asked, abs=1)
    assert "estimate" not in +keeper.tick().rows
    sample = quick[0].asked[0]
    assert sample.column("score").to_numpy().mean() == pytest.approx(rows["score"].mean(), abs=0.06)
    send(keeper, {name: column[1000:] for name, column in rows.items()}, 0, first=1000)
    clock[0] = START + DAY + timedelta(hours=1)
    assert keeper.tick().rows["estimate"] > 0
    assert len(quick) == 1  # nothing is fitted twice
    keeper.close()


def test_what_is_far_behind_is_left_to_the_scores(
    tmp_path: Path, quick: list[Quick], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(expecting, "GRAINS", 2)
    clock = [START]
    keeper = engine(tmp_path, "binary", clock)
    keeper.install("m", "v1", pa.table(classified(1500, 0.3, 0)))
    for day in range(4):
        send(keeper, classified(100, 0.3, day), day)
    clock[0] = START + 4 * DAY
    assert keeper.tick().rows["estimate"] == 200
    assert [kept(keeper, day) for day in range(4)] == [0, 0, 100, 100]
    found = points(keeper, "estimated_auc")
    assert [p.detail.get("from") for p in found] == [None, None, "features", "features"]
    keeper.close()


def test_few_labelled_rows_are_not_learnt_from_and_none_are_kept_where_nobody_asks(
    tmp_path: Path, quick: list[Quick]
) -> None:
    for folder, settings, rows in (("few", {}, 500), ("scores", {"estimation": "scores"}, 1500)):
        clock = [START]
        keeper = engine(tmp_path / folder, "binary", clock, **settings)
        keeper.install("m", "v1", pa.table(classified(rows, 0.3, 0)))
        send(keeper, classified(100, 0.3, 1), 0)
        clock[0] = START + DAY
        keeper.tick()
        assert [p.detail.get("from") for p in points(keeper, "estimated_auc")] == [None]
        assert (tmp_path / folder / expecting.FOLDER).exists() == (folder == "few")
        keeper.close()
    assert not quick


def test_a_reference_can_be_given_later_and_at_most_so_many_rows_of_it_stay(
    tmp_path: Path, quick: list[Quick], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(expecting, "REFERENCE", 1200)
    clock = [START]
    before = engine(tmp_path, "binary", clock, estimation="scores")
    table = pa.table(classified(1500, 0.3, 0))
    before.install("m", "v1", table)
    before.close()
    keeper = engine(tmp_path, "binary", clock)
    assert keeper.expecting.lacks("m", keeper.config.models["m"], "v1")
    keeper.refer("m", "v1", table)
    assert not keeper.expecting.lacks("m", keeper.config.models["m"], "v1")
    send(keeper, classified(100, 0.3, 1), 0)
    clock[0] = START + DAY
    assert keeper.tick().rows["estimate"] == 100
    assert quick[0].fitted.num_rows == 1200
    keeper.close()


def test_a_version_trained_here_is_fitted_to_the_rows_of_its_gate(tmp_path: Path, quick: list[Quick]) -> None:
    clock = [START]
    keeper = engine(tmp_path, "binary", clock)
    keeper.install("m", "base", pa.table(classified(1500, 0.3, 0)))
    job, files, rows = tmp_path / "jobs" / "action-1", tmp_path / "files", classified(1500, 0.3, 1)
    job.mkdir(parents=True)
    files.mkdir()
    about = training.Job("m", "toy_trainer:train", "base", str(tmp_path / "registry"), ["x", "age"])
    (job / "job.json").write_text(json.dumps(asdict(about)))
    pq.write_table(pa.table(rows).drop_columns(["score"]), job / "holdout.parquet")
    scores = pa.table({"label": rows["label"], "candidate": rows["score"], "champion": rows["score"]})
    pq.write_table(scores, job / "scores.parquet")
    keeper.registry.add("m", files, "toy_trainer:load", {"action": "action-1"})  # called v1
    send(keeper, classified(100, 0.3, 2), 0)
    clock[0] = START + DAY
    assert keeper.tick().rows["estimate"] == 100
    assert quick[0].fitted.column("score").to_pylist() == rows["score"].tolist()
    pq.write_table(pa.table(rows).drop_columns(["score"]).slice(10), job / "holdout.parquet")  # a subject was erased
    keeper.expecting.forget()
    send(keeper, classified(100, 0.3, 3), 1)
    clock[0] = START + 2 * DAY
    assert not keeper.tick().rows["estimate"]
    keeper.close()


def test_inputs_become_numbers_and_strange_ones_are_told() -> None:
    model = ModelConfig.model_validate(
        {"columns": {"size": {"kind": "numeric", "missing": [-1]}, "colour": {"kind": "categorical"},
                     "told": {"kind": "text"}}}
    )  # fmt: skip
    reference = pa.table({"size": [1.0, 5.0, -1.0], "colour": ["red", "red", "blue"], "told": ["a", "b", "c"]})
    encoder = expecting.Encoder(model, reference)
    assert encoder.categorical == (1,)
    np.testing.assert_array_equal(encoder.matrix(reference), [[1, 0], [5, 0], [np.nan, 1]])
    rows = pa.table({"size": [5.0, 6.0, None, 2.0, 2.0], "colour": ["red", "red", "blue", "green", None]})
    assert encoder.strange(encoder.matrix(rows)).tolist() == [False, True, False, True, True]


def test_the_store_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ModuleNotFoundError("No module", name="sklearn")

    monkeypatch.setattr(expecting, "import_module", missing)
    with pytest.raises(StateError, match=r"needs sklearn.*watchkeeper\[estimation\]"):
        engine(tmp_path, "binary", [START])


def test_rows_of_a_reference_that_name_a_subject_are_erased_with_it(tmp_path: Path) -> None:
    clock = [START]
    keeper = engine(tmp_path, "binary", clock)
    rows = classified(1500, 0.3, 0)
    rows["age"] = np.where(np.arange(1500) < 3, "alice@example.org", rows["age"])
    keeper.install("m", "v1", pa.table(rows))
    keeper.inbox.put([
        {"kind": "prediction", "model": "m", "request_id": "r-1", "event_time": START.isoformat(), "version": "v1",
         "score": 0.5, "entity_id": "alice@example.org", "features": {"x": 0.5, "age": "old"}}
    ])  # fmt: skip
    keeper.tick()
    done = keeper.erase("alice@example.org", "m")
    assert done.training_rows == 3
    [path] = (tmp_path / expecting.FOLDER).glob("*/*.parquet")
    assert pq.read_table(path).num_rows == 1497
    keeper.close()
