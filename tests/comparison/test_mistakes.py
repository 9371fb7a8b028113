"""What goes with wrong predictions: found where it is, not where it is not."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from watchkeeper.comparison.mistakes import mistakes
from watchkeeper.errors import DataError


def world(seed: int, harm: float, n: int = 4000) -> pa.Table:
    """Predictions that are wrong more often, by `harm`, where `a` is large; half of them without the prediction."""
    dice = np.random.default_rng(seed)
    a, label = dice.normal(size=n), dice.integers(0, 2, n)
    wrong = dice.random(n) < 0.2 + harm * (a > 1)
    answer = np.where(wrong, 1 - label, label)
    return pa.table(
        {
            "a": a,
            "b": dice.normal(size=n),
            "c": dice.choice(["x", "y"], n).tolist(),
            "score": np.where(answer == 1, 0.4, 0.2),
            "prediction": pa.array(answer, mask=np.arange(n) % 2 == 0),
            "label": label,
        }
    )


def test_the_feature_that_goes_with_mistakes_is_found() -> None:
    found = mistakes(world(1, 0.5), ["a", "b", "c"], 0.3)
    assert found.drifted == ("a",)
    assert 700 < found.rows < 1500
    assert found.rows + found.reference_rows == 4000


def test_without_any_such_feature_nothing_is_found() -> None:
    alarms = sum(not mistakes(world(seed, 0.0, 1000), ["a", "b", "c"], 0.3).healthy for seed in range(40))
    assert alarms <= 6, "at 5 in 100 each, more than 6 of 40 come with a probability of 0.7 %"


def test_rows_without_label_or_answer_are_left_out() -> None:
    rows = world(1, 0.5)
    label = pa.array(rows["label"].to_pylist(), mask=np.arange(4000) < 1000)
    score = pa.array(rows["score"].to_pylist(), mask=np.arange(4000) >= 3000)
    rows = rows.set_column(5, "label", label).set_column(3, "score", score)
    found = mistakes(rows, ["a"], 0.3)
    assert found.rows + found.reference_rows == 2500, "of the last thousand, half have a prediction"


@pytest.mark.parametrize(("labels", "said"), [([0, 1], "is wrong"), ([1, 0], "is right"), ([None, None], "is right")])
def test_all_of_one_kind_cannot_be_compared(labels: list[int | None], said: str) -> None:
    rows = pa.table(
        {
            "a": [1.0, 2.0],
            "score": [0.1, 0.9],
            "prediction": pa.nulls(2, pa.int32()),
            "label": pa.array(labels, pa.int32()),
        }
    )
    with pytest.raises(DataError, match=said):
        mistakes(rows, ["a"], 0.5)
