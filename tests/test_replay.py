"""Replays: what another version would have answered, which is better and how sure that is, and models that fail."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import accuracy_score, log_loss

import test_cli
from test_asking import stored
from test_cli import Run, refused
from watchkeeper.errors import DataError, ModelError
from watchkeeper.registry import Registry
from watchkeeper.replay import Replay, load, replay
from watchkeeper.schema import Config
from watchkeeper.store import exports
from watchkeeper.store.fitting import table
from watchkeeper.store.questions import FIELDS, Question
from watchkeeper.windows import HOUR

run = test_cli.run
START = datetime(2024, 3, 1, tzinfo=UTC)
CONFIG = Config.model_validate(
    {"models": {"delays": {"columns": {"x": {"kind": "numeric"}, "at": {"kind": "datetime"}}, "threshold": 0.4}}}
)


def sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-np.asarray(x, dtype=float)))


def answer(n: int, seed: int = 1, labelled: float = 1.0) -> pa.Table:
    """Predictions of a fair model that knows `x` but for some noise."""
    dice = np.random.default_rng(seed)
    x = dice.normal(size=n)
    rows: dict[str, Any] = {name: pa.nulls(n, pa.string()) for name in FIELDS}
    rows |= {
        "request_id": [f"r{i}" for i in range(n)],
        "event_time": pa.array([START + i * HOUR for i in range(n)], pa.timestamp("us", "UTC")),
        "version": ["v1"] * n,
        "score": sigmoid(x + dice.normal(size=n) * 0.5),
        "label": pa.array((dice.random(n) < sigmoid(x)).astype(np.int32), mask=dice.random(n) >= labelled),
        "x": x,
        "at": pa.array([START] * n, pa.timestamp("us", "UTC")),
    }
    return pa.table(rows)


def replayed(rows: pa.Table, scorer: Any, size: int = 700) -> Replay:
    return replay(exports.described(rows.to_reader(size), "delays", Question(), CONFIG), scorer, "new")


def better(features: pa.Table) -> Any:
    return sigmoid(features["x"].to_numpy())


def worse(features: pa.Table) -> Any:
    return sigmoid(-0.3 * features["x"].to_numpy())


def test_the_measures_are_those_of_the_field() -> None:
    rows = answer(3000)
    found = replayed(rows, better)
    label, old, new = rows["label"].to_numpy(), rows["score"].to_numpy(), better(rows)
    loss, accuracy = found.measures
    assert loss.before.value == pytest.approx(log_loss(label, old))
    assert loss.after.value == pytest.approx(log_loss(label, new))
    assert loss.difference.value == pytest.approx(log_loss(label, new) - log_loss(label, old))
    assert accuracy.before.value == pytest.approx(accuracy_score(label, old >= 0.4))
    assert accuracy.after.value == pytest.approx(accuracy_score(label, new >= 0.4))
    assert accuracy.difference.value == pytest.approx(accuracy.after.value - accuracy.before.value)
    assert found.agreement.value == pytest.approx(np.mean((old >= 0.4) == (new >= 0.4)))
    assert found.to_positive == np.sum((new >= 0.4) & (old < 0.4))
    assert found.to_negative == np.sum((new < 0.4) & (old >= 0.4))
    assert (found.verdict, found.worse) == ("Better.", False)
    first = np.argmax(np.abs(new - old))
    assert found.changed[0].request_id == f"r{first}"
    assert (found.changed[0].before, found.changed[0].after) == (old[first], new[first])


def test_a_worse_version_is_worse_with_confidence_and_the_same_one_never() -> None:
    assert replayed(answer(2000), worse).verdict == "Worse."
    rows = answer(500)
    same = dict(zip(rows["x"].to_pylist(), rows["score"].to_pylist(), strict=True))
    found = replayed(rows, lambda features: [same[x] for x in features["x"].to_pylist()])
    assert found.verdict == "No difference shown."
    assert found.agreement.value == 1.0
    assert found.scores.healthy
    assert found.changed == ()


def test_a_version_that_is_as_good_is_seldom_called_worse() -> None:
    def as_good(seed: int) -> Replay:
        dice = np.random.default_rng(1000 + seed)
        return replayed(answer(400, seed), lambda f: sigmoid(f["x"].to_numpy() + dice.normal(size=f.num_rows) * 0.5))

    alarms = sum(as_good(seed).worse for seed in range(60))
    assert alarms <= 5, "at 2.5 in 100 each, more than 5 of 60 come with a probability of 0.4 %"


def test_without_labels_it_is_not_judged() -> None:
    found = replayed(answer(300, labelled=0.0), worse)
    assert (found.labelled, found.measures, found.worse, found.verdict) == (0, (), False, "Not judged: no labels.")
    assert not found.scores.healthy


def test_the_model_gets_the_features_as_it_was_trained_on_them() -> None:
    def scorer(features: pa.Table) -> Any:
        assert features.schema.names == ["x", "at"]
        assert features.schema.field("at").type == pa.timestamp("us")
        return np.full(features.num_rows, 0.5)

    assert not replayed(answer(50), scorer).failures


def test_rows_that_the_model_fails_on_are_told_and_the_others_are_compared() -> None:
    def scorer(features: pa.Table) -> Any:
        x = features["x"].to_numpy()
        if (x > 2).any():
            raise ValueError("x is too large\nand more lines")
        return np.where(x < -2, math.nan, sigmoid(x))

    rows = answer(3000)
    x = rows["x"].to_numpy()
    found = replayed(rows, scorer)
    assert {f.request_id for f in found.failures} == {f"r{i}" for i in np.flatnonzero(np.abs(x) > 2)}
    assert {f.reason for f in found.failures} == {
        "ValueError: x is too large",
        "ModelError: a model's scores must lie between 0 and 1, found nan among 1",
    }
    assert found.agreement.n == np.sum(np.abs(x) <= 2)
    assert found.worse
    assert found.verdict == "Worse: it fails."
    assert json.loads(found.to_json())["failures"][0]["request_id"] == found.failures[0].request_id


def test_a_model_that_fails_on_everything_ends_the_replay_soon() -> None:
    calls = []

    def scorer(features: pa.Table) -> Any:
        calls.append(features.num_rows)
        raise KeyError("distance")

    with pytest.raises(ModelError, match=r"first 1,000 predictions; on request r0 with KeyError: 'distance'"):
        replayed(answer(5000), scorer)
    assert len(calls) < 3000
    with pytest.raises(ModelError, match=r"first 40 predictions"):
        replayed(answer(40), scorer)


def test_rows_without_a_served_score_are_left_out() -> None:
    rows = answer(100)
    score = pa.array(rows["score"].to_pylist(), mask=np.arange(100) < 40)
    found = replayed(rows.set_column(rows.schema.get_field_index("score"), "score", score), better)
    assert (found.rows, found.unscored, found.agreement.n) == (100, 40, 60)
    none = rows.set_column(rows.schema.get_field_index("score"), "score", pa.nulls(100, pa.float64()))
    with pytest.raises(DataError, match="none of the predictions has a score of both"):
        replayed(none, better)
    with pytest.raises(DataError, match="nothing to replay"):
        replayed(rows.slice(0, 0), better)


# models by name

SOURCE = """\
import numpy as np
from beside import SHIFT

def score(features):
    return 1 / (1 + np.exp(-features["distance"].to_numpy() / 1000 - SHIFT))

class Loaded:
    def scores(self, features):
        return score(features)

loaded = Loaded()
number = 3
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with the source of models and a log."""
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "scoring.py").write_text(SOURCE)
    (tmp_path / "models" / "beside.py").write_text("SHIFT = 0.0\n")
    (tmp_path / "importable_scoring.py").write_text("def score(features):\n    return [0.5] * features.num_rows\n")
    (tmp_path / "broken.py").write_text("import nothing_of_this_name\n")
    dice, n = np.random.default_rng(2), 600
    log = stored(tmp_path)
    ids = [f"r{i}" for i in range(n)]
    distance = dice.normal(size=n) * 1000
    rows = {"request_id": ids, "event_time": [START + i * HOUR for i in range(n)], "version": ["v1"] * n}
    rows |= {"score": sigmoid(-distance / 1000), "distance": distance, "origin": ["JFK"] * n}
    log.append("delays", table(rows))
    label = (dice.random(n) < sigmoid(distance / 1000)).astype(int)
    log.append_outcomes("delays", table({"request_id": ids, "label": label, "known_at": [START] * n}))
    log.close()
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("WATCHKEEPER_SERVER", raising=False)
    return tmp_path


@pytest.mark.parametrize(
    "name", ["models/scoring.py:score", "models/scoring.py:loaded", "importable_scoring:score", "v1"]
)
def test_a_model_is_found_by_its_name(folder: Path, name: str) -> None:
    registry = Registry(folder / "registry")
    (folder / "files").mkdir()
    registry.add("delays", folder / "files", "test_replay:registered", {})
    scores = load(name, registry, "delays")(pa.table({"distance": [0.0, 0.0]}))
    assert [*scores] == [0.5, 0.5]


class Registered:
    def scores(self, features: pa.Table) -> Any:
        return [0.5] * features.num_rows


def registered(folder: Path) -> Registered:
    return Registered()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("scoring", "names no model"),
        ("models/none.py:score", "there is no file models/none.py"),
        ("models/scoring.py:scor", "is not there"),
        ("models/scoring.py:number", "is a int; it must be a function"),
        ("models/scoring.py:Loaded", "is a type; it must be a function"),
        ("broken.py:score", "ModuleNotFoundError: No module named 'nothing_of_this_name'"),
        ("nothing.at_all:score", "must be module:function and importable"),
        ("v7", 'there is no version "v7"'),
    ],
)
def test_a_name_that_stands_for_no_model_is_refused(folder: Path, name: str, said: str) -> None:
    with pytest.raises(ModelError) as refusal:
        load(name, Registry(folder / "registry"), "delays")
    assert said in str(refusal.value)


# from the command line


def test_a_better_version_passes_and_reports(run: Run, folder: Path) -> None:
    done = run("replay", "delays", "--model", "models/scoring.py:score", "--html", "r.html", "--json", "r.json")
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("Better. ")
    assert "Log loss" in done.out
    assert "Requests" not in done.err
    written = json.loads(Path("r.json").read_text())
    assert written["verdict"] == "Better."
    assert written["measures"]["log loss"]["difference"]["high"] < 0
    assert written["question"] == "newest first"
    page = Path("r.html").read_text()
    assert "Replay of delays with models/scoring.py:score" in page
    assert "Against the labels" in page
    assert "Requests that changed most" in page


def test_a_worse_version_fails_the_command(run: Run, folder: Path) -> None:
    Path("models/worse.py").write_text("def score(f):\n    return [0.99] * f.num_rows\n")
    done = run("replay", "delays", "--model", "models/worse.py:score", "--where", "distance > -500", "--json", "-")
    assert done.code == 1
    found = json.loads(done.out)
    assert (found["verdict"], found["question"]) == ("Worse.", "distance > -500; newest first")


def test_failures_are_told_one_by_one(run: Run, folder: Path) -> None:
    Path("models/odd.py").write_text(
        "def score(f):\n    d = f['distance'].to_pylist()\n"
        "    if max(d) > 1500: raise ValueError('too far [bold]away')\n    return [0.5] * len(d)\n"
    )
    done = run("replay", "delays", "--model", "models/odd.py:score")
    assert done.code == 1
    assert "Worse: it fails." in done.out
    assert "ValueError: too far [bold]away" in done.out
    assert "more failures; --json has them all" in done.out


def test_what_was_exported_is_replayed(run: Run, folder: Path) -> None:
    run("events", "delays", "--where", "distance > 0", "--out", "some.parquet")
    Path("watchkeeper.yaml").unlink()
    done = run("replay", "delays", "--model", "models/scoring.py:score", "--from", "some.parquet", "--json", "-")
    assert done.code == 0
    assert json.loads(done.out)["question"] == "distance > 0; newest first"


def test_each_mistake_is_told_in_words(run: Run, folder: Path) -> None:
    model = ("--model", "models/scoring.py:score")
    run("events", "delays", "--out", "all.parquet")
    pq.write_table(pa.table({"a": [1]}), "other.parquet")
    refused(run("replay", "delays", *model, "--from", "none.parquet"), "cannot be read as a Parquet file")
    refused(run("replay", "delays", *model, "--from", "other.parquet"), "make it with watchkeeper events delays --out")
    refused(run("replay", "x", *model, "--from", "all.parquet"), 'holds predictions of model "delays", not of "x"')
    refused(run("replay", "delays", *model, "--from", "all.parquet", "--limit", 5), "leave out what else asks")
    refused(run("replay", "delays", *model, "--where", "distance > 1e9"), "nothing to replay")
    refused(run("replay", "delays", "--model", "scoring"), "names no model")
