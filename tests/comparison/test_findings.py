"""What a comparison found, in words."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from watchkeeper.comparison import compare
from watchkeeper.comparison.findings import Look
from watchkeeper.config import loads


def frame(rows: int = 1000, seed: int = 1) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    born = pd.Timestamp("1950-01-01") + pd.to_timedelta(random.integers(0, 20_000, rows), unit="D")
    return pd.DataFrame({"income": random.lognormal(10, 0.5, rows).round(2), "born": born})


def told(**change: Any) -> str:
    """The first breach of a changed table, in words."""
    first: Look = compare(frame(), frame(seed=2).assign(**change)).breaches[0]
    return first.sentence.replace("\u202f", " ")


def some(value: Any, column: str) -> Any:
    """The column with every tenth value replaced."""
    values = frame(seed=2)[column].astype(object)
    values[::10] = value
    return values


@pytest.mark.parametrize(
    ("column", "value", "sentence"),
    [
        ("born", pd.Timestamp("1900-01-01"), "10.0 % of the rows hold 1900-01-01, which often means “unknown”"),
        ("income", -2147483648.0, "10.0 % of the rows hold -2147483648, which often means “unknown”"),
        ("income", "n/a", "10.0 % of the rows hold something that is no number"),
    ],
)
def test_values_are_written_as_their_column_writes_them(column: str, value: object, sentence: str) -> None:
    values = some(value, column)
    values = values.astype(str) if isinstance(value, str) else values.infer_objects()
    assert told(**{column: values}).startswith(sentence)


def test_a_stuck_moment_is_a_moment() -> None:
    assert told(born=pd.Timestamp("1983-05-07 12:30:05")).startswith(
        "the column is stuck: 100 % of its values are “1983-05-07 12:30:05”"
    )


def test_a_changed_unit_says_what_its_figures_are() -> None:
    said = told(income=frame(seed=2)["income"] * 100)
    assert said.startswith(
        "it looks like the reference multiplied by 100 (percent instead of shares, or cents), which explains a"
        " Kolmogorov-Smirnov distance of 0.9"
    )


def test_a_limit_is_told_as_it_was_written() -> None:
    comparison = compare(frame(), frame(seed=2).assign(income=1.5))
    allowed = {look.metric: look.allowed.replace("\u202f", " ") for look in comparison.points}
    assert allowed["constant"] == "up to 90 %"
    assert allowed["null_rate"] == "up to +2 %"
    assert allowed["ks"] == "up to 0.1"


def test_one_column_breaches_and_two_breach() -> None:
    one = compare(frame(), frame(seed=2).assign(income=1.5), columns=["income", "born"])
    two = compare(frame(), frame(seed=2).assign(income=1.5, born=pd.Timestamp("1983-05-07")))
    assert one.summary == "1 of 2 columns breaches a limit: income."
    assert two.summary.startswith("2 of 2 columns breach a limit: ")


def test_an_agreed_share_of_missing_values_is_told_in_words() -> None:
    config = loads("models: {m: {columns: {income: {kind: numeric, max_nulls: 0.01}}}}")
    (breach,) = compare(
        frame(), frame(seed=2).assign(income=some(np.nan, "income").astype(float)), config=config
    ).breaches
    assert breach.sentence.replace("\u202f", " ").startswith("10.0 % of the rows have no value (")


def test_each_point_of_the_json_has_its_sentence() -> None:
    comparison = compare(frame(), frame(seed=2).assign(income=-999.0), columns=["income"])
    sentences = [point["sentence"] for point in comparison.to_dict()["breaches"]]
    assert sentences[0].startswith("100% of the rows hold -999, which often means “unknown”")
