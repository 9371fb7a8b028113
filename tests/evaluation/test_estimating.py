"""Evaluations without labels: what is estimated is what turns out, and where it is not, labelled rows say so."""

from __future__ import annotations

import json
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console
from typer.testing import CliRunner

import watchkeeper as wk
from watchkeeper.cli import app
from watchkeeper.errors import ConfigError, DataError
from watchkeeper.evaluation import Evaluation, terminal
from watchkeeper.evaluation.findings import HEADLINES

ESTIMABLE = [name for name in HEADLINES["binary"] if name != "calibration_error"]


def binary(n: int, seed: int, *, labelled: float = 1.0, drifted: bool = False, young: float = 0.5) -> pa.Table:
    """A model that does not know who is young, of whom half as many are positive."""
    rng = np.random.default_rng(seed)
    score, is_young = rng.beta(1, 1, n), rng.random(n) < young
    chance = np.where(is_young, score / 2, score)
    label = (rng.random(n) < (1 - chance if drifted else chance)).astype(int)
    at = np.datetime64("2024-01-01") + rng.integers(0, 4 * 86_400, n).astype("timedelta64[s]")
    columns: dict[str, Any] = {"score": score, "age": np.where(is_young, "young", "old"), "at": at}
    return pa.table({**columns, "label": pa.array(label, mask=rng.random(n) >= labelled)})


def regression(n: int, seed: int, *, least: float = 0.0, labelled: float = 1.0) -> pa.Table:
    rng = np.random.default_rng(seed)
    x = rng.uniform(least, 1, n)
    label = rng.normal(10, 8, n)
    mask = rng.random(n) >= labelled
    return pa.table({"prediction": label + rng.normal(0, 1 + 4 * x), "x": x, "label": pa.array(label, mask=mask)})


@pytest.fixture(scope="module")
def reference() -> pa.Table:
    return binary(20_000, 0)


def without_labels(table: pa.Table) -> pa.Table:
    return table.drop_columns(["label"])


def test_without_any_label_every_metric_is_estimated_and_turns_out_so(reference: pa.Table) -> None:
    now = binary(10_000, 1)
    found = wk.evaluate(without_labels(now), reference=reference)
    real = wk.evaluate(now)
    assert (found.task, found.rows, found.labelled, found.coverage) == ("binary", 10_000, 0, 0.0)
    assert {"mcc", "average_precision", "brier", *ESTIMABLE} <= {*found.estimated}
    for name, point in found.estimated.items():
        assert point.low is not None
        assert point.high is not None
        assert point.low <= real[name].value <= point.high, name
        assert point.n == 10_000
    assert [p.metric for p in found.headlines] == [f"estimated_{name}" for name in ESTIMABLE]
    change = found.change("estimated_auc")
    assert change is not None
    assert change.low is not None
    assert change.high is not None
    assert change.low < 0 < change.high


def test_estimates_stand_beside_what_is_realised_in_parts_and_over_time(reference: pa.Table) -> None:
    now = binary(12_000, 2, labelled=0.2)
    found = wk.evaluate(now, reference=reference, time="at", every="1d", segments=["age"])
    assert found["auc"].n < 3000
    assert found["estimated_auc"].n == 12_000
    assert len(found.over_time["auc"]) == len(found.over_time["estimated_auc"]) == 4
    assert all("estimated_f1" in own for own in found.by_segment.values())
    assert not any("estimated_brier" in own for own in found.by_segment.values())  # those that are told first
    assert found["accuracy_estimation_error"].detail["held"]
    whole = wk.evaluate(binary(12_000, 2))
    audited = found["audited_accuracy"]
    assert audited.low is not None
    assert audited.high is not None
    assert audited.low < whole["accuracy"].value < audited.high
    assert audited.high - audited.low < found["accuracy"].high - found["accuracy"].low  # guesses are worth something


def test_where_all_rows_have_labels_nothing_is_estimated(reference: pa.Table) -> None:
    found = wk.evaluate(binary(2000, 3), reference=reference)
    assert not found.estimated
    assert not any("estimat" in name for name in found.whole)


def test_labelled_rows_tell_that_the_relation_has_changed(reference: pa.Table) -> None:
    found = wk.evaluate(binary(5000, 4, labelled=0.1, drifted=True), reference=reference)
    assert not found["auc_estimation_error"].detail["held"]
    shown = StringIO()
    terminal.show(found, Console(file=shown))
    assert "Do not trust them: of the labelled rows AUC" in shown.getvalue()
    audited, real = found["audited_accuracy"], wk.evaluate(binary(5000, 4, drifted=True))["accuracy"].value
    assert audited.low is not None
    assert audited.high is not None
    assert audited.low < real < audited.high


def test_features_tell_what_the_scores_do_not(reference: pa.Table) -> None:
    now = binary(8000, 5, young=0.9)
    real = wk.evaluate(now)
    blind, heeding = (
        wk.evaluate(without_labels(now), reference=reference, features=features) for features in ((), ("age",))
    )
    for name in ("accuracy", "precision"):
        truth, seen, missed = real[name].value, heeding[f"estimated_{name}"], blind[f"estimated_{name}"]
        assert seen.low is not None
        assert seen.high is not None
        assert seen.low < truth < seen.high, name
        assert abs(missed.value - truth) > 0.02
        assert seen.detail["features"] == 1
        assert "spread" in seen.detail


def test_a_regressions_errors_are_estimated_by_features() -> None:
    before, now = regression(8000, 0), regression(5000, 1, least=0.6)
    real = wk.evaluate(now)
    blind, heeding = (wk.evaluate(without_labels(now), reference=before, features=of) for of in ((), ("x",)))
    for name in ("mae", "rmse"):
        assert heeding[f"estimated_{name}"].value == pytest.approx(real[name].value, rel=0.05)
        assert blind[f"estimated_{name}"].value < 0.95 * real[name].value
    partly = wk.evaluate(regression(5000, 1, least=0.6, labelled=0.2), reference=before)
    assert not partly["mae_estimation_error"].detail["held"]
    audited = partly["audited_mae"]
    assert audited.n == partly.labelled
    assert audited.low is not None
    assert audited.high is not None
    assert audited.low < real["mae"].value < audited.high
    shown = StringIO()
    terminal.show(partly, Console(file=shown))
    assert "random sample of all, the mean absolute error of all is" in shown.getvalue()


def several(n: int, seed: int, sure: tuple[float, ...] = (1, 1, 1)) -> pa.Table:
    rng = np.random.default_rng(seed)
    score = rng.dirichlet(sure, n)
    names = np.array(["bird", "cat", "dog"])
    label = names[[rng.choice(3, p=row) for row in score]]
    said = {f"score:{name}": score[:, i] for i, name in enumerate(names)}
    return pa.table({"prediction": names[score.argmax(axis=1)], "label": label, **said})


def test_metrics_of_several_classes_are_estimated_and_turn_out_so() -> None:
    before, now = several(5000, 6), several(3000, 7, (2, 2, 1))
    found, real = wk.evaluate(without_labels(now), reference=before), wk.evaluate(now)
    assert (found.task, found.labelled, found.classes) == ("multiclass", 0, ("bird", "cat", "dog"))
    assert {"accuracy", "macro_f1", "weighted_precision", "kappa", "mcc", "macro_auc"} <= {*found.estimated}
    for name, point in found.estimated.items():
        assert point.low is not None
        assert point.high is not None
        assert point.low < real[name].value < point.high, name
        assert point.high < wk.evaluate(before)[name].value, name


def test_a_report_of_estimates_draws_them_beside_what_is_realised(reference: pa.Table, tmp_path: Path) -> None:
    for labelled in (0.0, 0.3):
        found = wk.evaluate(binary(3000, 7, labelled=labelled), reference=reference, time="at", every="1d")
        found.save_html(tmp_path / "report.html")
        page = (tmp_path / "report.html").read_text(encoding="utf-8")
        assert "Estimated without labels" in page
        assert "Estimated AUC" in page or labelled
        plain = json.loads(found.to_json())
        assert {"estimated_auc", "estimated_brier"} <= {point["metric"] for point in plain["points"]}


@pytest.mark.parametrize(
    ("asked", "problem", "words"),
    [
        ({}, DataError, "give predictions of the same model with their labels as reference="),
        ({"features": ["age"]}, ConfigError, "these need a reference"),
        ({"reference": "binary", "features": "age"}, ConfigError, "features must be a list"),
        ({"reference": "binary", "features": ["agee"]}, DataError, "age"),
        ({"reference": "unlabelled"}, DataError, "with the labels in the reference"),
        ({"reference": "nulls"}, DataError, "none of the 50 rows has a label"),
    ],
)
def test_what_cannot_be_estimated_is_told_with_what_to_do(
    asked: dict[str, Any], problem: type[Exception], words: str
) -> None:
    some = binary(50, 8)
    tables = {"binary": some, "unlabelled": without_labels(some), "nulls": binary(50, 8, labelled=0.0)}
    if "reference" in asked:
        asked = {**asked, "reference": tables[asked["reference"]]}
    with pytest.raises(problem) as told:
        wk.evaluate(without_labels(some), **asked)
    assert words in str(told.value)


def test_features_are_heeded_from_a_thousand_labelled_rows_on() -> None:
    found: Evaluation = wk.evaluate(without_labels(binary(500, 9)), reference=binary(600, 10), features=["age"])
    assert "features" not in found["estimated_auc"].detail
    assert any("600 rows with a label, and 1,000 are needed" in note for note in found.notes)


def test_the_command_estimates_without_labels(reference: pa.Table, tmp_path: Path) -> None:
    before, now = tmp_path / "before.parquet", tmp_path / "now.parquet"
    pq.write_table(reference, before)
    pq.write_table(without_labels(binary(2000, 11)), now)
    limits = ["--at-least", "estimated_auc=0.95"]
    told = CliRunner().invoke(app, ["evaluate", str(now), "--reference", str(before), *limits])
    assert told.exit_code == 1, told.output
    assert "estimated AUC" in told.output
