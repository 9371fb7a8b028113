"""Evaluations of plain tables: the values of scikit-learn, and a clear word on what cannot be evaluated."""

from __future__ import annotations

import json
from io import StringIO
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console
from sklearn import metrics

import watchkeeper as wk
from watchkeeper.errors import ConfigError, DataError
from watchkeeper.evaluation import Evaluation, terminal

CLASSES = np.array(["bird", "cat", "dog"])
N = 3000


def binary(n: int = N, seed: int = 1) -> pa.Table:
    rng = np.random.default_rng(seed)
    score = rng.beta(1, 2, n)
    label = (rng.random(n) < score).astype(int)
    at = np.datetime64("2024-01-01") + rng.integers(0, 10 * 86_400, n).astype("timedelta64[s]")
    country = rng.choice(["NL", "DE", None], n)
    ids = pa.array([f"r{i}" for i in range(n)])
    return pa.table({"request_id": ids, "score": score, "label": label, "country": pa.array(country), "at": at})


def multiclass(n: int = N) -> pa.Table:
    rng = np.random.default_rng(2)
    score = rng.dirichlet([1, 1, 1], n)
    label = CLASSES[[rng.choice(3, p=row) for row in score]]
    said = {f"score:{name}": score[:, i] for i, name in enumerate(CLASSES)}
    return pa.table({"prediction": CLASSES[score.argmax(axis=1)], "label": label, **said})


def regression(n: int = N) -> pa.Table:
    rng = np.random.default_rng(3)
    label = rng.lognormal(3, 0.5, n)
    return pa.table({"prediction": label + rng.normal(0, 2, n), "label": label, "city": rng.choice(["a", "b"], n)})


def column(table: pa.Table, name: str) -> np.ndarray[Any, Any]:
    return np.array(table.column(name).to_pylist())


# known answers


def test_a_binary_evaluation_is_that_of_scikit_learn_in_all_rows_and_in_each_segment() -> None:
    table = binary()
    found = wk.evaluate(table, segments=["country"])
    assert (found.task, found.rows, found.labelled) == ("binary", N, N)
    for segment, own in {"": found.whole, **found.by_segment}.items():
        here = column(table, "country")
        rows = np.full(N, True) if not segment else here == {"country=NL": "NL", "country=DE": "DE"}.get(segment)
        if segment == "country=(missing)":
            rows = np.array([value is None for value in here])
        score, label = column(table, "score")[rows], column(table, "label")[rows]
        said = score >= 0.5
        exact = {
            "accuracy": metrics.accuracy_score(label, said),
            "precision": metrics.precision_score(label, said),
            "recall": metrics.recall_score(label, said),
            "f1": metrics.f1_score(label, said),
            "mcc": metrics.matthews_corrcoef(label, said),
        }
        for name, value in exact.items():
            assert own[name].value == pytest.approx(value, abs=1e-12), (segment, name)
        assert own["auc"].value == pytest.approx(metrics.roc_auc_score(label, score), abs=1e-3)
        assert own["log_loss"].value == pytest.approx(metrics.log_loss(label, score), abs=2e-3)
        assert own["auc"].n == rows.sum()


def test_a_multi_class_evaluation_is_that_of_scikit_learn() -> None:
    table = multiclass()
    found = wk.evaluate(table)
    said, label = column(table, "prediction"), column(table, "label")
    score = np.column_stack([column(table, f"score:{name}") for name in CLASSES])
    assert found.task == "multiclass"
    assert found["accuracy"].value == pytest.approx(metrics.accuracy_score(label, said), abs=1e-12)
    assert found["macro_f1"].value == pytest.approx(metrics.f1_score(label, said, average="macro"), abs=1e-12)
    assert found["macro_auc"].value == pytest.approx(metrics.roc_auc_score(label, score, multi_class="ovr"), abs=1e-3)
    assert found.matrix is not None
    assert found.matrix.counts.tolist() == metrics.confusion_matrix(label, said, labels=CLASSES).tolist()


def test_the_class_with_the_highest_score_is_the_prediction_where_none_is_given() -> None:
    table = multiclass()
    alone = wk.evaluate(table.drop_columns(["prediction"]))
    named = {name: f"p {name}" for name in CLASSES}
    renamed = table.rename_columns(["prediction", "label", *named.values()]).drop_columns(["prediction"])
    for found in (alone, wk.evaluate(renamed, score=named)):
        assert found["accuracy"].value == wk.evaluate(table)["accuracy"].value
        assert found["macro_auc"].value == wk.evaluate(table)["macro_auc"].value


def test_a_regression_is_that_of_scikit_learn_within_its_grids_width() -> None:
    table = regression()
    found = wk.evaluate(table, segments=["city"])
    said, label = column(table, "prediction"), column(table, "label")
    exact = {
        "mae": metrics.mean_absolute_error(label, said),
        "rmse": metrics.root_mean_squared_error(label, said),
        "r2": metrics.r2_score(label, said),
        "mape": metrics.mean_absolute_percentage_error(label, said),
    }
    for name, value in exact.items():
        assert abs(found[name].value - value) <= found[name].detail["grid error"] + 1e-12, name
        assert found[name].detail["grid error"] < 0.03 * value
    rows = column(table, "city") == "a"
    part = found.by_segment["city=a"]["mae"]
    assert part.value == pytest.approx(metrics.mean_absolute_error(label[rows], said[rows]), rel=0.02)
    assert part.n == rows.sum()


def test_rows_of_several_labels_are_those_of_scikit_learn() -> None:
    rng = np.random.default_rng(4)
    was = rng.random((500, 3)) < 0.4
    said = np.where(rng.random((500, 3)) < 0.8, was, ~was)
    lists = {
        name: pa.array([[str(CLASSES[i]) for i in range(3) if row[i]] for row in given], pa.list_(pa.string()))
        for name, given in (("label", was), ("prediction", said))
    }
    found = wk.evaluate(pa.table(lists))
    assert found.task == "multilabel"
    for how in ("micro", "macro", "weighted"):
        for name, measure in (("precision", metrics.precision_score), ("recall", metrics.recall_score)):
            value = measure(was, said, average=how)
            assert found[f"{how}_{name}"].value == pytest.approx(value, abs=1e-12), (how, name)
        assert found[f"{how}_f1"].value == pytest.approx(metrics.f1_score(was, said, average=how), abs=1e-12)
    assert found["subset_accuracy"].value == pytest.approx(metrics.accuracy_score(was, said), abs=1e-12)
    assert found["hamming_loss"].value == pytest.approx(metrics.hamming_loss(was, said), abs=1e-12)


def test_a_ranking_is_that_of_scikit_learn() -> None:
    rng = np.random.default_rng(5)
    relevance = rng.integers(0, 4, (200, 12))
    relevance[:, 0] = 1  # a query without a relevant row has no value here, and 0 there
    score = rng.random((200, 12))
    table = pa.table({
        "q": np.repeat(np.arange(200), 12), "score": score.ravel(), "label": relevance.ravel(),
        "device": np.repeat(["phone", "desk"], 1200),
    })  # fmt: skip
    found = wk.evaluate(table, query="q", k=5, segments=["device"])
    assert found["ndcg"].value == pytest.approx(metrics.ndcg_score(relevance, score, k=5), abs=1e-12)
    assert found["ndcg"].n == 200
    part = found.by_segment["device=phone"]["ndcg"]
    assert part.value == pytest.approx(metrics.ndcg_score(relevance[:100], score[:100], k=5), abs=1e-12)


def test_time_is_cut_into_stretches_that_say_how_many_have_labels() -> None:
    table = binary()
    day = np.array([at.day for at in table.column("at").to_pylist()])
    label = [None if d == 3 and i % 2 else y for i, (d, y) in enumerate(zip(day, column(table, "label"), strict=True))]
    table = table.set_column(table.column_names.index("label"), "label", pa.array(label))
    found = wk.evaluate(table, time="at", every="1d")
    points = found.over_time["accuracy"]
    assert [p.window.start.day for p in points] == [*range(1, 11)]
    for p in points:
        rows = (day == p.window.start.day) & np.array([y is not None for y in label])
        said, was = column(table, "score")[rows] >= 0.5, np.array(label)[rows].astype(int)
        assert p.value == pytest.approx(metrics.accuracy_score(was, said), abs=1e-12)
        assert p.coverage == pytest.approx(rows.sum() / (day == p.window.start.day).sum())
    assert sum(p.n for p in points) == found.labelled


# inputs


def test_any_source_gives_the_same(tmp_path: Path) -> None:
    table = binary(400)
    pq.write_table(table, tmp_path / "p.parquet")
    table.to_pandas().to_csv(tmp_path / "p.csv", index=False)
    sources = [
        table, table.to_pandas(), pl.from_arrow(table), duckdb.from_arrow(table), str(tmp_path / "p.parquet"),
        tmp_path / "p.csv",
    ]  # fmt: skip
    values = {wk.evaluate(source, segments=["country"], time="at").to_json() for source in sources}
    assert len(values) == 1


def test_outcomes_are_joined_and_the_latest_counts() -> None:
    table = binary(200)
    ids, label = table.column("request_id"), table.column("label")
    flipped = pa.array([1 - y for y in label.to_pylist()])
    times = [np.datetime64("2024-02-01"), np.datetime64("2024-02-02")]
    told = pa.concat_tables(
        pa.table({"request_id": ids, "label": given, "known_at": pa.array(np.repeat(at, 200))})
        for given, at in ((flipped, times[0]), (label, times[1]))
    )
    for outcomes in (told, told.to_pandas()):
        found = wk.evaluate(table.drop_columns(["label"]), outcomes)
        assert found["accuracy"].value == wk.evaluate(table)["accuracy"].value
    part = wk.evaluate(table.drop_columns(["label"]), told.slice(200, 50))
    assert (part.rows, part.labelled, part["auc"].coverage) == (200, 50, 0.25)
    with pytest.raises(DataError, match="more than one label"):
        wk.evaluate(table.drop_columns(["label"]), told.drop_columns(["known_at"]))
    with pytest.raises(DataError, match='no column "request_id" to join'):
        wk.evaluate(table, told.rename_columns(["id", "label", "known_at"]))


def test_labels_of_words_and_truths_are_understood() -> None:
    table = binary(200)
    value = wk.evaluate(table)["accuracy"].value
    i = table.column_names.index("label")
    truths = pa.array([bool(y) for y in table.column("label").to_pylist()])
    words = pa.array(["fraud" if y else "fine" for y in table.column("label").to_pylist()])
    texts = pa.array([str(y) for y in table.column("label").to_pylist()])
    assert wk.evaluate(table.set_column(i, "label", truths))["accuracy"].value == value
    assert wk.evaluate(table.set_column(i, "label", texts))["accuracy"].value == value
    assert wk.evaluate(table.set_column(i, "label", words), positive="fraud")["accuracy"].value == value
    with pytest.raises(DataError, match="positive="):
        wk.evaluate(table.set_column(i, "label", words))


def test_predictions_of_yes_and_no_alone_are_evaluated() -> None:
    table = binary(300)
    said = pa.array([int(s >= 0.5) for s in table.column("score").to_pylist()])
    found = wk.evaluate(pa.table({"prediction": said, "label": table.column("label")}))
    assert found.task == "binary"
    assert found["f1"].value == wk.evaluate(table)["f1"].value


# ugly inputs


def changed(name: str, values: list[Any], kind: pa.DataType | None = None) -> pa.Table:
    table = binary(len(values))
    return table.set_column(table.column_names.index(name), name, pa.array(values, kind))


def test_labels_that_are_all_missing_are_an_error() -> None:
    with pytest.raises(DataError, match="none of the 5 rows has a label"):
        wk.evaluate(changed("label", [None] * 5, pa.int64()))


def test_labels_of_one_kind_give_what_there_is() -> None:
    found = wk.evaluate(changed("label", [1] * 50))
    assert found["auc"].value is None
    assert found["recall"].value is not None
    assert found["positive_rate"].value == 1.0
    found.to_json()


def test_scores_that_are_missing_are_left_out_and_told() -> None:
    scores = [0.5, None, float("nan"), *[0.1, 0.9] * 20]
    found = wk.evaluate(changed("score", scores))
    assert found["accuracy"].n == 41
    assert found.notes == ("2 rows without a score",)


def test_scores_that_are_no_probabilities_are_an_error() -> None:
    with pytest.raises(DataError, match="must lie between 0 and 1; found -3 to 2"):
        wk.evaluate(changed("score", [-3.0, 2.0, 0.5]))
    with pytest.raises(DataError, match="must be a number"):
        wk.evaluate(pa.table({"score": [np.datetime64("2024-01-01", "s")], "label": [1]}))


@pytest.mark.parametrize("table", [binary(1), multiclass(1), regression(1)], ids=["binary", "multiclass", "regression"])
def test_one_row_is_evaluated(table: pa.Table) -> None:
    found = wk.evaluate(table)
    assert found.labelled == 1
    json.loads(found.to_json())
    found._repr_html_()


def test_no_rows_are_an_error() -> None:
    with pytest.raises(DataError):
        wk.evaluate(binary(3).slice(0, 0))


def test_labels_that_no_score_knows_count_as_wrong() -> None:
    table = multiclass(100)
    label = table.column("label").to_pylist()
    label[:10] = ["horse"] * 10
    found = wk.evaluate(table.set_column(1, "label", pa.array(label)))
    said = table.column("prediction").to_pylist()
    assert found["accuracy"].value == np.mean([a == b for a, b in zip(said, label, strict=True)])
    assert found["accuracy"].n == 100


def test_too_many_classes_are_an_error_that_says_what_to_do() -> None:
    words = [f"w{i}" for i in range(300)]
    with pytest.raises(DataError, match="too many for classes"):
        wk.evaluate(pa.table({"prediction": words, "label": words}))


def test_settings_that_cannot_be_meant_are_refused() -> None:
    table = binary(50)
    for settings, said in (
        ({"task": "guess"}, 'no task "guess"'),
        ({"threshold": 1.5}, "threshold"),
        ({"every": "1d"}, "needs time"),
        ({"segments": "country"}, "segments must be a list"),
        ({"k": 0}, "1 or more"),
        ({"time": "at", "every": "1s"}, "choose longer ones"),
    ):
        with pytest.raises(ConfigError, match=said):
            wk.evaluate(table, **settings)  # type: ignore[arg-type]
    for settings, said in (
        ({"score": "scor"}, 'did you mean "score"'),
        ({"label": "lable"}, 'did you mean "label"'),
        ({"segments": ["contry"]}, 'did you mean "country"'),
        ({"time": "score"}, "should say when"),
        ({"task": "multilabel", "prediction": "score"}, "must hold a list"),
        ({"task": "ranking"}, "query="),
        ({"task": "regression", "prediction": "country"}, "no row has both"),
    ):
        with pytest.raises(DataError, match=said):
            wk.evaluate(table, **settings)  # type: ignore[arg-type]


def test_a_metric_that_there_is_none_of_says_which_there_are() -> None:
    with pytest.raises(KeyError, match="did you mean"):
        wk.evaluate(binary(50))["acuracy"]


# what is shown


def shown(found: Evaluation) -> str:
    written = StringIO()
    terminal.show(found, Console(file=written, width=160))
    return written.getvalue()


def test_the_change_since_a_reference_is_told(tmp_path: Path) -> None:
    table, before = binary(), binary(seed=9)
    worse = table.set_column(1, "score", pa.array(1 - column(table, "score")))
    found = wk.evaluate(worse, reference=before)
    change = found.change("auc")
    assert change is not None
    assert change.high is not None
    assert change.high < -0.3
    assert "reference" in found.to_dict()
    found.save_html(tmp_path / "e.html")
    assert "Change" in (tmp_path / "e.html").read_text()


@pytest.mark.parametrize("table", [binary(), multiclass(), regression()], ids=["binary", "multiclass", "regression"])
def test_the_report_shows_what_the_task_has(table: pa.Table, tmp_path: Path) -> None:
    by = [name for name in ("country", "city") if name in table.column_names]
    found = wk.evaluate(table, segments=by, time="at" if "at" in table.column_names else None)
    found.save_html(tmp_path / "e.html")
    found.save_json(tmp_path / "e.json")
    page = (tmp_path / "e.html").read_text()
    assert "Evaluation of predictions" in page
    assert ("ROC curve" in page) is (found.task != "regression")
    assert ("Segment by segment" in page) is bool(by)
    assert json.loads((tmp_path / "e.json").read_text()) == found.to_dict()


def test_groups_are_held_against_each_other() -> None:
    table = binary()
    found = wk.evaluate(table, segments=["country"])
    gaps = {point.metric: point for point in found.gaps}
    assert {*gaps} >= {"demographic_parity", "four_fifths", "equal_opportunity", "equalised_odds", "predictive_parity"}
    recall = {name: own["recall"].value for name, own in found.by_segment.items() if "=(" not in name}
    compared = [value for value in recall.values() if value is not None]
    assert gaps["equal_opportunity"].value == pytest.approx(max(compared) - min(compared))
    assert gaps["equal_opportunity"].segment == "country"
    assert "four-fifths ratio" in shown(found).lower()
    assert {gap["metric"] for gap in json.loads(found.to_json())["gaps"]} == {*gaps}
    assert wk.evaluate(table).gaps == ()


def test_a_terminal_shows_metrics_segments_and_time() -> None:
    told = shown(wk.evaluate(binary(), segments=["country"], time="at", every="1d"))
    for text in ("Binary predictions, since all labels are 0 or 1", "log loss", "country=NL", "2024-01-10", "95 %"):
        assert text in told
    assert "Class by class" not in told
    told = shown(wk.evaluate(multiclass()))
    assert "dog" in told


def test_costs_are_counted() -> None:
    found = wk.evaluate(binary(), costs={"false_positive": 1, "false_negative": 10})
    assert found["decision_cost"].value is not None
    assert "decision_cost" not in wk.evaluate(binary()).whole


def test_costs_of_several_classes_are_a_table() -> None:
    table = multiclass()
    found = wk.evaluate(table, costs={"(other)": {"(other)": 3}})
    wrong = sum(a != b for a, b in zip(*(table[name].to_pylist() for name in ("label", "prediction")), strict=True))
    assert found["decision_cost"].value == pytest.approx(3 * wrong / table.num_rows)
    with pytest.raises(ConfigError, match="of a binary task, and the task is multiclass"):
        wk.evaluate(table, costs={"false_positive": 1, "false_negative": 10})
    with pytest.raises(ConfigError, match='there is no class "cow"'):
        wk.evaluate(table, costs={"cow": {"(other)": 3}})


def test_what_comes_from_outside_is_escaped() -> None:
    table = binary(60)
    bad = pa.array(["<script>alert(1)</script>"] * 60)
    found = wk.evaluate(table.set_column(3, "country", bad), segments=["country"])
    assert "<script>alert" not in found._repr_html_()


def test_a_pandas_index_is_no_column() -> None:
    frame = pd.DataFrame({"score": [0.1, 0.9] * 30, "label": [0, 1] * 30}, index=range(5, 65))
    assert wk.evaluate(frame)["auc"].value == 1.0


# weak segments


def crossed(task: str, weak: bool = True) -> pa.Table:
    """20,000 rows, of which those of young people from Germany are worse predicted than all others."""
    rng = np.random.default_rng(7)
    n = 20_000
    age, country = rng.uniform(18, 90, n), rng.choice(["NL", "DE", "FR"], n)
    wrong = rng.random(n) < np.where((age < 36) & (country == "DE") & weak, 0.3, 0.1)
    label = rng.integers(0, 2, n)
    said = np.where(wrong, 1 - label, label)
    columns = {
        "binary": {"score": np.where(said == 1, 0.8, 0.3), "label": label},
        "multiclass": {"prediction": CLASSES[said], "label": CLASSES[label]},
        "regression": {"prediction": label + np.where(wrong, 3.0, 1.0), "label": label + rng.normal(0, 0.2, n)},
    }[task]
    return pa.table({**columns, "age": age, "country": country})


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_the_segment_that_is_worse_than_the_rest_is_found(task: str) -> None:
    found = wk.evaluate(crossed(task), task=task, search=["age", "country"])
    assert found.weak is not None
    (segment,) = found.weak.segments
    assert "country = DE" in segment.segment
    assert "age < 3" in segment.segment
    assert segment.worse.low is not None
    assert segment.worse.low > 0
    told = json.loads(found.to_json())["weak segments"]
    assert told["segments"][0]["segment"] == segment.segment
    out = StringIO()
    terminal.show(found, Console(file=out))
    assert segment.segment in out.getvalue()


def test_where_no_segment_is_weak_that_is_said() -> None:
    found = wk.evaluate(crossed("binary", weak=False), search=["age", "country"])
    out = StringIO()
    terminal.show(found, Console(file=out))
    assert "weak segments: none in the crossings of 2 columns" in out.getvalue()


def test_rows_without_a_label_or_a_score_are_not_searched() -> None:
    table = crossed("binary").to_pandas()
    table["label"] = table["label"].astype("Int64")
    table.loc[:99, "label"] = None
    table.loc[100:149, "score"] = np.nan
    found = wk.evaluate(table, search=["age", "country"])
    assert found.weak is not None
    assert found.weak.n == 20_000 - 150


def test_a_search_that_cannot_be_is_refused() -> None:
    with pytest.raises(DataError, match='no column "aeg" to search for weak segments'):
        wk.evaluate(crossed("binary"), search=["aeg"])
    with pytest.raises(ConfigError, match='search must be a list of columns, found "age"'):
        wk.evaluate(crossed("binary"), search="age")
    ranked = pa.table({"q": ["a", "a"], "score": [0.5, 0.2], "label": [1, 0], "age": [1, 2]})
    with pytest.raises(ConfigError, match="leave out search"):
        wk.evaluate(ranked, query="q", search=["age"])
