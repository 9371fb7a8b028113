"""What inference servers report, as columns: both protocols, names of features, and answers that leave a choice."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from watchkeeper import inference
from watchkeeper.errors import DataError
from watchkeeper.schema import ModelConfig
from watchkeeper.settings import InferenceConfig

MODEL = ModelConfig.model_validate({"columns": {"age": {"kind": "numeric"}, "city": {"kind": "categorical"}}})
ONE = ModelConfig.model_validate({"columns": {"age": {"kind": "numeric"}}})


def tensor(name: str, shape: list[int], data: list[Any], datatype: str = "FP64", **more: Any) -> dict[str, Any]:
    return {"name": name, "shape": shape, "datatype": datatype, "data": data, **more}


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ({"instances": [{"age": 3, "city": "Graz"}, {"age": 4}]}, {"age": [3, 4], "city": ["Graz", None]}),
        ({"instances": [[3, "Graz"], [4, "Wien"]]}, {"age": [3, 4], "city": ["Graz", "Wien"]}),
        ({"instances": [[[3, "Graz"]]]}, {"age": [3], "city": ["Graz"]}),
        (
            {"inputs": [tensor("age", [2], [3, 4]), tensor("city", [2, 1], ["Graz", "Wien"], "BYTES")]},
            {"age": [3, 4], "city": ["Graz", "Wien"]},
        ),
        ({"inputs": [tensor("input-0", [2, 2], [1, 2, 3, 4])]}, {"age": [1, 3], "city": [2, 4]}),
        ({"inputs": [tensor("input-0", [2, 2], [[1, 2], [3, 4]])]}, {"age": [1, 3], "city": [2, 4]}),
        (
            {"inputs": [tensor("x", [1, 3], [1, 2, 3], parameters={"feature_names": ["a", "b", "c"]})]},
            {"a": [1], "b": [2], "c": [3]},
        ),
        (
            {"parameters": {"columns": "a, b"}, "inputs": [tensor("x", [1, 2], [1, 2])]},
            {"a": [1], "b": [2]},
        ),
        ({"inputs": [tensor("age", [2], [3, 4])]}, {"age": [3, 4]}),
    ],
)
def test_requests_of_both_protocols_name_their_features(body: Any, found: Any) -> None:
    assert inference.asked(body, MODEL) == found


def test_a_model_of_one_column_needs_no_names() -> None:
    assert inference.asked({"instances": [1, 2]}, ONE) == {"age": [1, 2]}
    assert inference.asked({"inputs": [tensor("input-0", [2], [1, 2])]}, ONE) == {"age": [1, 2]}


@pytest.mark.parametrize(
    ("body", "how", "score", "prediction"),
    [
        ({"predictions": [0.25, 0.5]}, {}, [0.25, 0.5], [None, None]),
        ({"predictions": [1, 0]}, {}, [None, None], [1, 0]),
        ({"predictions": [[0.75, 0.25]]}, {}, [0.25], [None]),
        ({"predictions": [[0.75, 0.25]]}, {"score_index": 0}, [0.75], [None]),
        ({"predictions": [{"score": 0.25, "label": 1}]}, {}, [0.25], [1]),
        ({"predictions": [{"a": 0.1, "b": 0.2}]}, {"score": "b"}, [0.2], [None]),
        ({"outputs": [tensor("p", [2], [0.25, 0.5])]}, {}, [0.25, 0.5], [None, None]),
        ({"outputs": [tensor("p", [2, 2], [1, 0, 0.5, 0.5])]}, {}, [0, 0.5], [None, None]),
        ({"outputs": [tensor("y", [1], [1], "INT64"), tensor("p", [1, 2], [0.2, 0.8])]}, {}, [0.8], [1]),
        ({"outputs": [tensor("p", [1], [1])]}, {}, [1], [None]),
        (
            {"outputs": [tensor("p", [1, 3], [0.1, 0.2, 0.7]), tensor("q", [1], [0.5])]},
            {"score": "p", "score_index": 2, "prediction": "q"},
            [0.7],
            [0.5],
        ),
    ],
)
def test_answers_of_both_protocols(body: Any, how: Any, score: list[Any], prediction: list[Any]) -> None:
    found = inference.answered(body, InferenceConfig.model_validate(how))
    assert (found["score"], found["prediction"]) == (score, prediction)


def test_the_version_is_told_by_the_answer() -> None:
    body = {"model_version": 7, "outputs": [tensor("p", [1], [0.5])]}
    assert inference.answered(body, InferenceConfig())["version"] == ["7"]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (None, "JSON object"),
        ({}, '"instances" \\(V1\\) or "inputs"'),
        ({"instances": [[1, 2, 3]]}, "3 values a row, and there are 2 names"),
        ({"instances": [{"label": 1}]}, 'called "label"'),
        ({"instances": [{"a": 1}, 2]}, "some are not"),
        ({"instances": [[1, {"a": 1}]]}, "holds an object"),
        ({"instances": [[1, [2]]]}, "unevenly"),
        ({"inputs": []}, "no input"),
        ({"inputs": [{"shape": [1]}]}, "no name"),
        ({"inputs": [{"name": "a", "shape": [1], "parameters": {"binary_data_size": 8}}]}, "binary extension"),
        ({"inputs": [tensor("a", [2], [1])]}, "1 values, and its shape says 2"),
        ({"inputs": [tensor("a", [10**9, 10**9], [1])]}, "rows; a request may have"),
        ({"inputs": [tensor("a", [1, 10**18, 10**18], [1])]}, "its shape says"),
        ({"inputs": [tensor("a", [True], [1])]}, "no shape"),
        ({"inputs": [tensor("a", [1], [1]), tensor("a", [1], [1])]}, "two inputs"),
        ({"inputs": [tensor("a", [1], [1]), tensor("b", [2], [1, 2])]}, "different numbers of rows"),
        ({"inputs": [tensor("a", [1, 2], [1, 2], parameters={"columns": 7})]}, "list of strings"),
    ],
)
def test_a_request_that_cannot_be_read_says_why(body: Any, said: str) -> None:
    with pytest.raises(DataError, match=said):
        inference.asked(body, MODEL)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"predictions": [[0.1, 0.2, 0.7]]}, "score_index"),
        ({"predictions": [{"a": 0.1, "b": 0.2}]}, "inference: {score: a}"),
        ({"outputs": [tensor("p", [1], [0.1]), tensor("q", [1], [0.1])]}, "any of the outputs p, q may be the score"),
        ({"outputs": [tensor("p", [2], [0.1, 0.2]), tensor("y", [1], [1], "INT32")]}, "different numbers"),
        ({"error": "no"}, '"predictions" \\(V1\\)'),
    ],
)
def test_an_answer_that_cannot_be_read_says_why(body: Any, said: str) -> None:
    with pytest.raises(DataError, match=said):
        inference.answered(body, InferenceConfig())


def test_a_configured_output_that_is_not_there_is_told() -> None:
    with pytest.raises(DataError, match='no output "p"; it has q'):
        inference.answered({"predictions": [{"q": 0.5}]}, InferenceConfig(score="p"))


def test_rows_of_one_request_have_ids_of_their_own() -> None:
    assert inference.ids("a", 1) == ["a"]
    assert inference.ids("a", 2) == ["a:0", "a:1"]
    with pytest.raises(DataError, match="256"):
        inference.ids("a" * 256, 2)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=12,
)
tensors = st.lists(
    st.fixed_dictionaries(
        {"name": st.sampled_from(["a", "b"]) | values, "shape": st.lists(st.integers(-1, 4), max_size=3) | values,
         "data": st.lists(values, max_size=6) | values},
        optional={"datatype": st.sampled_from(["FP32", "INT64", "BYTES"]) | values,
                  "parameters": st.dictionaries(st.sampled_from(["columns", "feature_names"]), values) | values},
    ),
    max_size=3,
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(body=st.dictionaries(st.sampled_from(["instances", "inputs", "predictions", "outputs", "parameters"]), values)
       | st.fixed_dictionaries({"inputs": tensors, "outputs": tensors}) | values)  # fmt: skip
def test_nothing_that_is_sent_is_a_mistake_of_ours(body: Any) -> None:
    for read in (lambda: inference.asked(body, MODEL), lambda: inference.answered(body, InferenceConfig())):
        try:
            found = read()
        except DataError:
            continue
        assert len({len(column) for column in found.values()}) <= 1
