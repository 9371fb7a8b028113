"""The costs of decisions: four of a binary model, a table of one with several classes."""

from __future__ import annotations

import math
from typing import Any

import pytest
from pydantic import ValidationError

from watchkeeper.costs import CostsConfig, by_cell, cost_of
from watchkeeper.schema import ModelConfig

CLASSES = ["fraud", "review", "pass"]
TABLE: dict[str, dict[str, float]] = {
    "fraud": {"review": 10, "pass": 120},
    "review": {"fraud": 5, "(other)": 20},
    "(other)": {"(other)": 1},
}


def model(**settings: Any) -> ModelConfig:
    return ModelConfig.model_validate({"columns": {"amount": {"kind": "numeric"}}, **settings})


def several(costs: Any) -> ModelConfig:
    return model(task="multiclass", classes=CLASSES, costs=costs)


@pytest.mark.parametrize(
    ("label", "said", "cost"),
    [
        ("fraud", "review", 10),
        ("fraud", "fraud", 0),
        ("review", "pass", 20),
        ("review", "(other)", 20),
        ("pass", "fraud", 1),
        ("pass", "pass", 0),
        ("fraud", "(other)", 1),
        ("(other)", "pass", 1),
        ("(other)", "(other)", 1),
    ],
)
def test_a_cost_is_what_its_line_says_or_what_is_said_of_all_others(label: str, said: str, cost: float) -> None:
    assert cost_of(TABLE, label, said) == cost


def test_what_nothing_is_said_of_is_not_known() -> None:
    assert math.isnan(cost_of({"fraud": {"pass": 1}}, "pass", "fraud"))
    assert math.isnan(cost_of({"fraud": {"pass": 1}}, "(other)", "(other)"))


def test_a_right_prediction_costs_nothing_unless_it_is_named() -> None:
    assert by_cell({"a": {"a": -3, "b": 1}, "b": {"(other)": 2}}, ["a", "b"])[0][:2] == [-3, 1]
    assert by_cell({"a": {"a": -3, "b": 1}, "b": {"(other)": 2}}, ["a", "b"])[1] == [2, 0, 2]


def test_a_binary_model_has_four_costs_and_one_of_several_classes_a_table() -> None:
    assert model(costs={"false_positive": 5, "false_negative": 120}).costs == CostsConfig(
        false_positive=5, false_negative=120
    )
    assert several(TABLE).costs == TABLE


def test_classes_that_are_numbers_need_no_quotes() -> None:
    found = model(task="multiclass", classes=[1, 2], costs={1: {2: 5}, 2: {1: 3}})
    assert found.costs == {"1": {"2": 5.0}, "2": {"1": 3.0}}


@pytest.mark.parametrize(
    ("costs", "said"),
    [
        ({"fraud": {"pas": 1}}, 'there is no class "pas"; did you mean "pass"'),
        ({"frod": {"pass": 1}}, 'there is no class "frod"'),
        ({"fraud": {"pass": 1}}, 'what it costs to predict "review" where it is "fraud"'),
        ({"false_positive": 5, "false_negative": 120}, "the costs of a multiclass model are a table"),
        ({"fraud": {"pass": "much"}}, "valid number"),
        ({"fraud": {"pass": float("inf")}}, "finite"),
    ],
)
def test_a_table_that_cannot_be_meant_is_refused(costs: Any, said: str) -> None:
    with pytest.raises(ValidationError, match="(?i)" + said.replace("?", r"\?")):
        several(costs)


def test_a_table_is_not_for_a_binary_model_and_none_are_for_a_regression() -> None:
    with pytest.raises(ValidationError, match="the costs of a binary model are of false_positive"):
        model(costs=TABLE)
    with pytest.raises(ValidationError, match="costs are for classifiers"):
        model(task="regression", costs={"false_positive": 5, "false_negative": 120})
