"""Models of other tasks than yes or no, from their events to the counts that their metrics are taken of."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from sklearn import metrics

from watchkeeper import events
from watchkeeper.costs import OTHER_CLASSES
from watchkeeper.engine import Engine
from watchkeeper.errors import ConfigError, StateError
from watchkeeper.metrics import of_task
from watchkeeper.profiles import Profile
from watchkeeper.records import ALL, Incident, Point, Status, Verdict
from watchkeeper.schema import Config
from watchkeeper.store import questions
from watchkeeper.tasks import model_columns
from watchkeeper.windows import DAY, Window

START = datetime(2024, 1, 1, tzinfo=UTC)
CLASSES = ("bird", "cat", "dog")
PETS: dict[str, Any] = {"task": "multiclass", "classes": CLASSES, "columns": {"weight": {"kind": "numeric"}}}
PRICES: dict[str, Any] = {"task": "regression", "columns": {"size": {"kind": "numeric"}}}
ROWS = 600


class Keeper:
    """One model of a task, an engine, and a clock to set."""

    def __init__(self, folder: Path, model: dict[str, Any]) -> None:
        self.folder, self.now = folder, START
        self.engine = Engine(folder, config(model), clock=lambda: self.now)

    def log(self, rows: list[dict[str, Any]], labels: list[Any], day: int = 0) -> None:
        at = START + day * DAY
        made = [
            events.prediction("m", request_id=f"{day}-{i}", event_time=at + timedelta(minutes=i), version="v1", **row)
            for i, row in enumerate(rows)
        ]
        told = [
            events.outcome("m", f"{day}-{i}", label, known_at=at + timedelta(hours=20))
            for i, label in enumerate(labels)
            if label is not None
        ]
        self.engine.inbox.put([*made, *told])

    def tick(self, day: float) -> None:
        self.now = START + day * DAY
        self.engine.tick()

    def profiles(self, day: int = 0) -> dict[tuple[str, str], Profile]:
        """What is kept of a day, by column and label."""
        at = START + day * DAY
        with self.engine.state.snapshot() as tx:
            return {(key.column, key.label): profile for key, profile in tx.profiles("m", Window(at, at + DAY), ALL)}


def config(model: dict[str, Any]) -> Config:
    return Config.model_validate({"models": {"m": model}})


@pytest.fixture
def keep(tmp_path: Path) -> Iterator[Any]:
    made: list[Keeper] = []

    def start(model: dict[str, Any]) -> Keeper:
        made.append(Keeper(tmp_path, model))
        return made[-1]

    yield start
    for keeper in made:
        keeper.engine.close()


def pets(seed: int = 1, rows: int = ROWS) -> tuple[list[dict[str, Any]], list[str]]:
    rng = np.random.default_rng(seed)
    said = rng.dirichlet(np.ones(3), rows)
    labels = [CLASSES[rng.choice(3, p=row)] for row in said]
    events_ = [
        {
            "features": {"weight": float(rng.normal())},
            "prediction": CLASSES[int(row.argmax())],
            "score": dict(zip(CLASSES, map(float, row), strict=True)),
        }
        for row in said
    ]
    return events_, labels


def table(rows: list[dict[str, Any]], labels: list[str]) -> pa.Table:
    """Reference data of such rows."""
    return pa.table(
        {
            "weight": [row["features"]["weight"] for row in rows],
            "prediction": [row["prediction"] for row in rows],
            **{f"score:{name}": [row["score"][name] for row in rows] for name in CLASSES},
            "label": labels,
        }
    )


def prices(seed: int = 1, rows: int = ROWS) -> tuple[list[dict[str, Any]], list[float]]:
    rng = np.random.default_rng(seed)
    labels = rng.lognormal(3, 0.5, rows)
    said = labels + rng.normal(0, 2, rows)
    made = [{"features": {"size": float(a)}, "prediction": float(b)} for a, b in zip(labels, said, strict=True)]
    return made, [float(label) for label in labels]


# multi-class


def test_the_predictions_of_a_multi_class_model_are_counted_by_label(keep: Any) -> None:
    keeper = keep(PETS)
    rows, labels = pets()
    keeper.log(rows, labels)
    keeper.tick(2)
    kept = keeper.profiles()
    for was in CLASSES:
        for said in CLASSES:
            both = sum(row["prediction"] == said and label == was for row, label in zip(rows, labels, strict=True))
            assert kept["prediction", was].by_value.get(said, 0) == both
    assert kept["prediction", ALL].n == ROWS
    one, rest = kept["score:cat", "1"], kept["score:cat", "0"]
    assert one.n == labels.count("cat")
    assert rest.n == ROWS - labels.count("cat")


def test_labels_that_are_no_class_are_counted_together_and_those_that_are_none_set_aside(keep: Any) -> None:
    keeper = keep(PETS)
    rows, _ = pets()
    keeper.log(rows, ["cat", "horse", "cow", "", "NaN", *[None] * (ROWS - 5)])
    keeper.tick(2)
    kept = keeper.profiles()
    assert {label for column, label in kept if column == "prediction"} == {ALL, "cat", OTHER_CLASSES}
    assert kept["prediction", OTHER_CLASSES].n == 2
    assert keeper.engine.log.totals("m")["set_aside"] == 2


def test_labels_that_come_later_are_added(keep: Any) -> None:
    keeper = keep(PETS)
    rows, labels = pets()
    keeper.log(rows, [None] * ROWS)
    keeper.tick(1)
    assert {label for _, label in keeper.profiles()} == {ALL}
    keeper.log([], labels)
    keeper.tick(2)
    assert keeper.profiles()["prediction", "dog"].n == labels.count("dog")


def test_a_class_that_the_configuration_gains_is_counted_from_then_on(keep: Any) -> None:
    keeper = keep(PETS)
    keeper.log(*pets())
    keeper.tick(1)
    keeper.engine.close()
    wider = keep({**PETS, "classes": (*CLASSES, "fish")})
    wider.log(
        [{"features": {"weight": 1.0}, "prediction": "fish", "score": {"fish": 0.9, "cat": 0.1}}], ["fish"], day=1
    )
    wider.tick(2)
    assert wider.profiles(1)["score:fish", "1"].n == 1
    assert wider.profiles(0)["score:cat", "1"].n


# regression


def test_the_errors_of_a_regression_are_summarised_once_labels_are_known(keep: Any) -> None:
    keeper = keep(PRICES)
    rows, labels = prices()
    keeper.log(rows, [None] * ROWS)
    keeper.tick(1)
    assert ("error", ALL) not in keeper.profiles()
    assert ("prediction", ALL) in keeper.profiles()
    keeper.log([], labels)
    keeper.tick(2)
    kept = keeper.profiles()
    errors = np.array([row["prediction"] for row in rows]) - labels
    with keeper.engine.state.snapshot() as tx:
        grid = tx.grids("m")["error"]
    assert kept["error", ALL].mean(grid) == pytest.approx(errors.mean(), abs=0.02)
    assert kept["error", ALL].low == pytest.approx(errors.min())
    assert kept["label", ALL].missing == 0


def test_a_day_of_few_labels_says_how_many_there_are(keep: Any) -> None:
    keeper = keep(PRICES)
    rows, labels = prices()
    keeper.log(rows, labels)
    keeper.log(rows, [*labels[:30], *[None] * (ROWS - 30)], day=1)
    keeper.tick(3)
    assert keeper.profiles(1)["error", ALL].missing == ROWS - 30


def test_errors_over_a_label_of_zero_are_left_out_where_they_have_no_value(keep: Any) -> None:
    keeper = keep(PRICES)
    rows, labels = prices()
    keeper.log(rows, labels)
    odd = [{"features": {"size": 1.0}, "prediction": said} for said in (0.0, 1.0, float("nan"), None)]
    keeper.log(odd, [0.0, 0.0, 1.0, 1.0], day=1)
    keeper.tick(3)
    kept = keeper.profiles(1)
    assert kept["percentage error", ALL].missing == 4
    assert (kept["symmetric error", ALL].missing, kept["symmetric error", ALL].high) == (2, 2.0)


def test_a_reference_gives_the_grids_of_errors_before_any_label_comes(keep: Any) -> None:
    keeper = keep(PRICES)
    rows, labels = prices()
    said = [row["prediction"] for row in rows]
    keeper.engine.install("m", "v1", pa.table({"size": labels, "prediction": said, "label": labels}))
    with keeper.engine.state.snapshot() as tx:
        assert {"prediction", "label", "error", "percentage error", "symmetric error"} <= tx.grids("m").keys()
        kept = {key.column: profile for key, profile in tx.profiles("m", None, ALL)}
    assert kept["error"].n == ROWS


def test_a_label_that_is_no_number_is_set_aside(keep: Any) -> None:
    keeper = keep(PRICES)
    rows, _ = prices(rows=4)
    keeper.log(rows, ["cheap", float("nan"), float("inf"), 3.0])
    keeper.tick(2)
    assert keeper.engine.log.totals("m")["set_aside"] == 3
    assert keeper.engine.log.totals("m")["labelled"] == 1


# metrics


def shown(keeper: Keeper, day: int = 0) -> dict[str, Point]:
    """What is shown of a day, of all metrics of the version."""
    at = START + day * DAY
    with keeper.engine.state.snapshot() as tx:
        found = tx.select(Point, model="m", version="v1", monitor="", window_end=at + DAY)
    return {point.metric: point for point in found}


def test_metrics_of_several_classes_are_those_of_scikit_learn(keep: Any) -> None:
    keeper = keep(PETS)
    rows, labels = pets()
    keeper.log(rows, labels)
    keeper.tick(3)
    found = shown(keeper)
    said = [row["prediction"] for row in rows]
    given = np.array([[row["score"][name] for name in CLASSES] for row in rows])
    exact = {
        "accuracy": metrics.accuracy_score(labels, said),
        "balanced_accuracy": metrics.balanced_accuracy_score(labels, said),
        "macro_precision": metrics.precision_score(labels, said, average="macro"),
        "macro_recall": metrics.recall_score(labels, said, average="macro"),
        "macro_f1": metrics.f1_score(labels, said, average="macro"),
        "weighted_f1": metrics.f1_score(labels, said, average="weighted"),
        "weighted_precision": metrics.precision_score(labels, said, average="weighted"),
        "micro_f1": metrics.f1_score(labels, said, average="micro"),
        "kappa": metrics.cohen_kappa_score(labels, said),
        "mcc": metrics.matthews_corrcoef(labels, said),
    }
    for name, value in exact.items():
        assert found[name].value == pytest.approx(value, abs=1e-12), name
    on_grid = {
        "macro_auc": metrics.roc_auc_score(labels, given, multi_class="ovr", labels=CLASSES),
        "weighted_auc": metrics.roc_auc_score(labels, given, multi_class="ovr", average="weighted", labels=CLASSES),
        "log_loss": metrics.log_loss(labels, given, labels=CLASSES),
    }
    for name, value in on_grid.items():
        assert found[name].value == pytest.approx(value, abs=5e-3), name
    assert found["macro_f1"].detail["classes"]["cat"] == pytest.approx(
        metrics.f1_score(labels, said, labels=["cat"], average="macro")
    )
    assert all(point.n == ROWS and point.coverage == 1 for point in found.values() if point.coverage is not None)


def test_metrics_of_several_classes_are_estimated_before_any_label_comes(keep: Any) -> None:
    keeper = keep(PETS)
    before, known = pets(2, 3000)
    keeper.engine.install("m", "v1", table(before, known))
    rows, labels = pets()
    keeper.log(rows, [None] * ROWS)
    keeper.tick(1.01)
    early = shown(keeper)
    said = [row["prediction"] for row in rows]
    realised = {
        "accuracy": metrics.accuracy_score(labels, said),
        "macro_f1": metrics.f1_score(labels, said, average="macro"),
        "balanced_accuracy": metrics.balanced_accuracy_score(labels, said),
    }
    for name, value in realised.items():
        assert early[f"estimated_{name}"].low < value < early[f"estimated_{name}"].high, name
        assert early[f"estimated_{name}"].n == ROWS
    assert set(early["estimated_macro_f1"].detail["classes"]) == {*CLASSES}
    assert early["estimated_macro_auc"].low < 0.8 < early["estimated_macro_auc"].high


def test_the_estimates_of_several_classes_are_held_against_what_turned_out(keep: Any) -> None:
    keeper = keep({**PETS, "label_delay": "1d"})
    keeper.engine.install("m", "v1", table(*pets(2, 3000)))
    rows, labels = pets()
    shuffled = [str(name) for name in np.random.default_rng(3).permutation(labels)]
    for day, told in ((0, labels), (1, shuffled)):
        keeper.log(rows, told, day)
    keeper.tick(3.01)
    held = [shown(keeper, day)["accuracy_estimation_error"].detail["held"] for day in (0, 1)]
    assert held == [True, False]


def test_a_score_where_it_was_predicted_is_counted_beside_that_of_all(keep: Any) -> None:
    keeper = keep(PETS)
    rows, labels = pets()
    keeper.log(rows, labels)
    keeper.tick(2)
    kept = keeper.profiles()
    cats = [row["prediction"] == "cat" for row in rows]
    assert int(kept["said:cat", ALL].regular[1].sum()) == sum(cats)
    assert int(kept["said:cat", "1"].regular[1].sum()) == sum(
        label == "cat" for is_cat, label in zip(cats, labels, strict=True) if is_cat
    )


def test_metrics_of_a_regression_are_those_of_scikit_learn_within_the_grids_width(keep: Any) -> None:
    keeper = keep(PRICES)
    rows, labels = prices()
    keeper.log(rows, labels)
    keeper.tick(3)
    found = shown(keeper)
    said = [row["prediction"] for row in rows]
    exact = {
        "mae": metrics.mean_absolute_error(labels, said),
        "rmse": metrics.root_mean_squared_error(labels, said),
        "median_absolute_error": metrics.median_absolute_error(labels, said),
        "r2": metrics.r2_score(labels, said),
        "explained_variance": metrics.explained_variance_score(labels, said),
        "mape": metrics.mean_absolute_percentage_error(labels, said),
        "quantile_loss_90": metrics.mean_pinball_loss(labels, said, alpha=0.9),
        "bias": float(np.mean(np.array(said) - labels)),
        "mean_label": float(np.mean(labels)),
        "error_p95": float(np.quantile(np.array(said) - labels, 0.95)),
    }
    for name, value in exact.items():
        open_ = found[name].detail["grid error"]
        assert open_ < 0.05 * max(abs(value), 1.0), name
        assert abs(found[name].value - value) <= open_ + 1e-12, name
        assert found[name].low < value < found[name].high, name
    assert found["mae"].coverage == 1


def test_a_window_of_few_labels_says_so_whatever_the_task(keep: Any) -> None:
    keeper = keep({**PRICES, "monitors": [{"name": "mae", "metric": "mae", "above": 0.5, "min_rows": 10}]})
    rows, labels = prices()
    keeper.log(rows, labels)
    keeper.log(rows, [*labels[:60], *[None] * (ROWS - 60)], day=1)
    keeper.tick(4)
    with keeper.engine.state.snapshot() as tx:
        verdicts = {v.window.start: v for v in tx.select(Verdict, model="m")}
    assert verdicts[START].status is Status.BREACH
    assert verdicts[START + DAY].status is Status.PROVISIONAL


@pytest.mark.parametrize(("model", "rows"), [(PETS, pets), (PRICES, prices)])
def test_metrics_of_a_day_without_labels_and_of_a_day_of_one_row_have_no_value_or_no_narrow_one(
    keep: Any, model: dict[str, Any], rows: Any
) -> None:
    keeper = keep(model)
    made, labels = rows()
    keeper.log(made, labels)
    keeper.log(made, [None] * ROWS, day=1)
    keeper.log(made[:1], labels[:1], day=2)
    keeper.tick(5)
    nothing, one = shown(keeper, 1), shown(keeper, 2)
    of_labels = [name for name, metric in of_task(config(model).models["m"].task).items() if metric.labels]
    assert all(nothing[name].value is None and nothing[name].coverage == 0 for name in of_labels if name in nothing)
    assert one["accuracy" if model is PETS else "mae"].n == 1
    with keeper.engine.state.snapshot() as tx:
        assert not tx.select(Incident, model="m", cause="performance")


@pytest.mark.parametrize(("model", "rows"), [(PETS, pets), (PRICES, prices)])
def test_predictions_can_be_asked_for_by_how_wrong_they_were(keep: Any, model: dict[str, Any], rows: Any) -> None:
    keeper = keep(model)
    made, labels = rows()
    keeper.log(made, labels)
    keeper.tick(1)
    asked = questions.Question(order=questions.Order.ERROR, limit=5)
    with keeper.engine.log.answer("m", asked) as batches:
        found = batches.read_all().to_pylist()
    places = [questions.place(asked, row).key for row in found]
    assert places == sorted(places, reverse=True)
    worst = max(
        float(row["prediction"] != label) if model is PETS else abs(row["prediction"] - label)
        for row, label in zip(made, labels, strict=True)
    )
    assert places[0] == worst


# what does not fit


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({**PETS, "threshold": 0.3}, "threshold is for binary classifiers"),
        ({**PRICES, "costs": {"false_positive": 1, "false_negative": 1}}, "costs are for classifiers"),
        ({**PRICES, "retrain": {"trainer": "a:b"}}, "retrain is for binary"),
        ({**PETS, "rollout": {"alpha": 0.1}}, "rollout is for binary"),
        ({**PETS, "unlabelled": {"label": 0, "after": "24h"}}, "binary models, whose labels are 0 and 1; leave it out"),
        ({**PETS, "classes": ()}, "must name its classes"),
        ({**PETS, "classes": ("a", "a")}, "must name its classes"),
        ({**PETS, "classes": ("a", "")}, "a class cannot be called"),
        ({**PRICES, "classes": ("a", "b")}, "classes is for task: multiclass"),
        ({**PRICES, "columns": {"error": {"kind": "numeric"}}}, "cannot be called"),
        ({**PETS, "columns": {"score:cat": {"kind": "numeric"}}}, "cannot be called"),
        ({**PETS, "task": "ranking"}, "ranking"),
    ],
)
def test_settings_of_another_task_are_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        config(settings)


def test_a_metric_of_another_task_is_refused(tmp_path: Path) -> None:
    monitors = [{"name": "x", "metric": "auc", "below": 0.7}]
    with pytest.raises(ConfigError, match="auc is for binary models, and the task is regression"):
        Engine(tmp_path, config({**PRICES, "monitors": monitors}))


def test_a_model_does_not_change_its_task_over_its_log(keep: Any) -> None:
    keep(PETS).engine.close()
    with pytest.raises(StateError, match="another task than regression"):
        keep(PRICES)


def test_no_candidate_of_another_task_can_be_rolled_out(keep: Any) -> None:
    keeper = keep(PETS)
    keeper.engine.install(
        "m", "v1", pa.table({"weight": [1.0, 2.0], "prediction": ["cat", "dog"], "label": ["cat", "cat"]})
    )
    with pytest.raises(StateError, match="only a binary classifier can be rolled out"):
        keeper.engine.offer("m", "v2", "somebody")


def test_a_score_of_each_class_becomes_a_column_of_each() -> None:
    made = events.prediction("m", {"a": 1}, request_id="1", event_time=START, score={"cat": 0.7, 3: 0.3})
    assert made["features"] == {"a": 1, "score:cat": 0.7, "score:3": 0.3}
    assert made["score"] is None
    assert events.read(made) == made
    assert list(model_columns(config(PETS).models["m"]))[:2] == ["prediction", "score:bird"]
