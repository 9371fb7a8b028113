"""Training: a process of its own that succeeds, fails, dies or lasts too long, and the gate for its candidate."""

from __future__ import annotations

import gc
import json
import re
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import toy_trainer
from watchkeeper import training
from watchkeeper.errors import TrainingError
from watchkeeper.registry import Registry

PATIENCE = timedelta(minutes=1)
NONE = timedelta(0)


def table(n: int = 40, served: float | None = 0.4) -> pa.Table:
    x = (np.arange(n) * 7 % 10) / 10
    columns: dict[str, Any] = {"x": x, "label": (x >= 0.5).astype(np.int32)}
    return pa.table({**columns, "score": pa.array([served] * n, pa.float64())})


@pytest.fixture
def job(tmp_path: Path) -> Path:
    return tmp_path / "job"


def start(job: Path, trainer: str, patience: timedelta = PATIENCE, champion: str = "", registry: str = "") -> None:
    what = training.Job("loans", f"toy_trainer:{trainer}", champion, registry, ["x"])
    training.start(job, what, table(), table(20), patience)


def test_a_trainer_that_succeeds_leaves_a_candidate_and_its_scores(job: Path) -> None:
    start(job, "by_x")
    assert training.result(job) == {"loader": "toy_trainer:load", "rows": 40}
    assert not training.alive(job)
    scores = pq.read_table(job / "scores.parquet")
    assert scores.column_names == ["label", "candidate", "champion"]
    assert scores.column("champion").to_pylist() == [0.4] * 20, "served scores stand in for a champion from elsewhere"
    assert training.gate(scores, 0.95).high < 0


def test_the_champion_of_the_registry_scores_the_same_rows(job: Path, tmp_path: Path) -> None:
    registry = Registry(tmp_path / "registry")
    files = tmp_path / "files"
    files.mkdir()
    registry.add("loans", files, toy_trainer.write(files, kind="constant", value=0.7), {})
    start(job, "constant", champion="v1", registry=str(registry.folder))
    assert pq.read_table(job / "scores.parquet").column("champion").to_pylist() == [0.7] * 20


@pytest.mark.parametrize(
    ("trainer", "said"),
    [
        ("raises", "it seems"),
        ("nothing", "must return the loader as module:function, found None"),
        ("no_loader", '"toy_trainer:there_is_none" cannot be loaded'),
        ("two_columns", r"one score a row, shape \(20,\), found shape \(20, 2\)"),
        ("not_a_number", "between 0 and 1, found nan among 20"),
        ("there_is_no_such_trainer", "cannot be loaded: .*has no attribute"),
    ],
)
def test_a_trainer_that_fails_says_why_in_the_last_line(
    job: Path, trainer: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training.subprocess, "Popen", Here)
    start(job, trainer)
    with pytest.raises(TrainingError) as failed:
        training.result(job)
    last = str(failed.value).strip().splitlines()[-1]
    assert re.search(said, last), last


class Here:
    """The job done in this process."""

    pid = 0

    def __init__(self, command: list[str], **_: Any) -> None:
        self.returncode = training.main(Path(command[-1]))

    def wait(self, timeout: float) -> int:
        return self.returncode

    def poll(self) -> int:
        return self.returncode


@pytest.mark.parametrize("trainer", ["raises", "leaves", "dies"])
def test_a_process_that_ends_badly_is_seen_to_have_ended(job: Path, trainer: str) -> None:
    start(job, trainer)
    assert training.started(job)
    assert not training.alive(job)
    if trainer == "raises":
        with pytest.raises(TrainingError, match="not enough memory"):
            training.result(job)
        assert "not enough memory" in (job / "output.txt").read_text(), "what it printed is kept"
    else:
        assert training.result(job) is None


def test_a_process_goes_on_by_itself_and_can_be_stopped(job: Path) -> None:
    start(job, "sleeps", NONE)
    gc.collect()  # a warning about a process that still runs would be an error here
    assert training.started(job)
    assert training.alive(job)
    assert training.result(job) is None
    training.stop(job)
    until(lambda: not training.alive(job))
    assert training.result(job) is None
    training.stop(job)


def test_a_process_that_outlives_the_patience_is_found_later(job: Path) -> None:
    start(job, "by_x", NONE)
    until(lambda: training.result(job) is not None)
    until(lambda: not training.alive(job))


def until(done: Any, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_a_job_that_was_never_begun_is_not_started(job: Path) -> None:
    assert not training.started(job)
    job.mkdir()
    (job / "output.txt").touch()
    assert not training.started(job), "its process died before it could begin"


def test_a_job_begins_anew_with_nothing_of_an_earlier_try(job: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training.subprocess, "Popen", Here)
    start(job, "raises")
    start(job, "constant")
    assert training.result(job)
    assert not (job / "failure.txt").exists()


# the gate


def scores(candidate: Any, champion: Any, label: Any) -> pa.Table:
    return pa.table({"label": label, "candidate": candidate, "champion": champion})


def test_the_gate_is_the_mean_difference_of_the_log_losses_in_pairs() -> None:
    label, candidate, champion = np.array([1, 0, 1, 1]), np.array([0.9, 0.2, 0.6, 0.8]), np.array([0.7, 0.4, 0.6, 0.5])
    gap = training.gate(scores(candidate, champion, label), 0.95)
    losses = [-np.log(np.where(label == 1, p, 1 - p)) for p in (candidate, champion)]
    assert gap.value == pytest.approx(np.mean(losses[0] - losses[1]))
    assert gap.detail == pytest.approx({"candidate": losses[0].mean(), "champion": losses[1].mean()})
    assert gap.low < gap.value < gap.high
    assert gap.n == 4


def test_pairs_tell_a_small_difference_apart_that_two_samples_would_not() -> None:
    rng = np.random.default_rng(4)
    truth = rng.uniform(0.05, 0.95, 400)
    label = (rng.random(400) < truth).astype(int)
    worse = np.clip(truth + 0.04 * np.where(label == 1, -1, 1), 0.01, 0.99)
    gap = training.gate(scores(worse, truth, label), 0.95)
    assert gap.low > 0


def test_scores_of_nought_and_one_have_a_finite_loss() -> None:
    gap = training.gate(scores([0.0, 1.0, 0.0], [1.0, 1.0, 0.5], [1, 1, 0]), 0.95)
    assert np.isfinite([gap.value, gap.low, gap.high]).all()


def test_one_row_bounds_nothing() -> None:
    assert training.gate(scores([0.9], [0.1], [1]), 0.95).high is None


def test_the_result_is_written_last_and_whole(job: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    real = Path.replace

    def replace(self: Path, target: Path) -> Path:
        order.append(target.name)
        assert (job / "scores.parquet").exists() or target.name != "result.json"
        return real(self, target)

    monkeypatch.setattr(training.subprocess, "Popen", Here)
    monkeypatch.setattr(Path, "replace", replace)
    start(job, "constant")
    assert order[0] == "result.json"
    assert json.loads((job / "result.json").read_text())["loader"] == "toy_trainer:load"
