"""The bodies of inference servers: what a model was asked and what it answered, as columns.

Two protocols are read: V1 (`{"instances": [...]}` and `{"predictions": [...]}`) and the Open Inference Protocol, V2
(`{"inputs": [tensors]}` and `{"outputs": [tensors]}`, https://github.com/kserve/open-inference-protocol). A request of
several rows becomes several predictions, whose ids are the request's with `:0`, `:1` and so on.

What a feature is called: tensors of one value a row, and the keys of instances, name it themselves. A tensor of
several values a row may name them in its parameters (or the request's) as `feature_names` or `columns`; else they are
the model's configured columns in their order, and must be as many.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

from watchkeeper import events
from watchkeeper.errors import DataError
from watchkeeper.schema import ModelConfig
from watchkeeper.settings import InferenceConfig

MOST = 100_000
"""Rows in one request."""

Columns = dict[str, list[Any]]


def asked(body: object, model: ModelConfig) -> Columns:
    """The features of each row of a request. DataError if they cannot be told."""
    if not isinstance(body, Mapping):
        raise DataError("a request must be a JSON object")
    if isinstance(body.get("inputs"), list):
        found = _of_tensors(body, model)
    elif isinstance(body.get("instances"), list):
        found = _of_instances(body["instances"], model)
    else:
        raise DataError('a request must have a list "instances" (V1) or "inputs" (V2)')
    for name in found:
        if not name or name in events.RESERVED:
            raise DataError(f'an input is called "{name}", which no feature can be; rename it in the request')
    return {name: [events.plain(value) for value in values] for name, values in found.items()}


def answered(body: object, how: InferenceConfig) -> Columns:
    """`score`, `prediction`, `status` and `version` of each row of an answer. DataError if they cannot be told."""
    if not isinstance(body, Mapping):
        raise DataError("an answer must be a JSON object")
    if isinstance(body.get("outputs"), list):
        tensors = _tensors(body["outputs"], "output")
        outputs = {name: values for name, (_, values) in tensors.items()}
        whole = {name: kind.startswith(("INT", "UINT", "BOOL")) for name, (kind, _) in tensors.items()}
    elif isinstance(body.get("predictions"), list):
        outputs = _of_predictions(body["predictions"])
        whole = {name: all(_is_whole(v) for v in chain(*rows)) for name, rows in outputs.items()}
    else:
        raise DataError('an answer must have a list "predictions" (V1) or "outputs" (V2)')
    score = _chosen(how.score, "score", [name for name in outputs if not whole[name]])
    prediction = _chosen(how.prediction, "prediction", [name for name in outputs if whole[name] and name != score])
    for name in (score, prediction):
        if name is not None and name not in outputs:
            raise DataError(f'the answer has no output "{name}"; it has {", ".join(outputs)}')
    if score is None and prediction is None:
        raise DataError("the answer holds neither a score nor a prediction")
    rows = len(next(iter(outputs.values())))
    if any(len(values) != rows for values in outputs.values()):
        raise DataError("the outputs of the answer are of different numbers of rows")
    version = body.get("model_version")
    return {
        "score": _one_each(outputs[score], how.score_index, score) if score is not None else [None] * rows,
        "prediction": _one_each(outputs[prediction], None, prediction) if prediction is not None else [None] * rows,
        "status": ["ok"] * rows,
        "version": ["" if version is None else str(version)[: events.LONGEST]] * rows,
    }


def ids(request_id: str, rows: int) -> list[str]:
    """The ids of the rows of one request."""
    longest = f"{request_id}:{rows}" if rows > 1 else request_id
    if len(longest) > events.LONGEST:
        raise DataError(f"the id has {len(request_id)} characters; with those of its rows it may have {events.LONGEST}")
    return [f"{request_id}:{i}" for i in range(rows)] if rows > 1 else [request_id]


def _of_tensors(body: Mapping[str, Any], model: ModelConfig) -> Columns:
    tensors = _tensors(body["inputs"], "input")
    found: Columns = {}
    for given in body["inputs"]:
        name, (_, rows) = given["name"], tensors[given["name"]]
        width = len(rows[0]) if rows else 0
        names = _names(given) or _names(body)
        if width == 1 and (name in model.columns or len(tensors) > 1 or len(model.columns) > 1) and not names:
            names = [name]
        found |= _spread(rows, names, model, f'input "{name}"')
    lengths = {len(values) for values in found.values()}
    if len(lengths) > 1:
        raise DataError("the inputs of the request are of different numbers of rows")
    return found


def _names(holder: Mapping[str, Any]) -> list[str]:
    parameters = holder.get("parameters")
    if not isinstance(parameters, Mapping):
        return []
    names = parameters.get("feature_names") or parameters.get("columns") or []
    if isinstance(names, str):
        names = names.split(",")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise DataError("the names of the features must be a list of strings")
    return [name.strip() for name in names]


def _tensors(found: Sequence[Any], what: str) -> dict[str, tuple[str, list[list[Any]]]]:
    """Each tensor by its name: the type of its values, and its rows."""
    tensors: dict[str, tuple[str, list[list[Any]]]] = {}
    for given in found:
        if not isinstance(given, Mapping) or not isinstance(given.get("name"), str):
            raise DataError(f"an {what} has no name")
        name, shape, data = given["name"], given.get("shape"), given.get("data")
        if name in tensors:
            raise DataError(f'two {what}s are called "{name}"')
        if not isinstance(data, list):
            raise DataError(f'{what} "{name}" has no data in JSON; log it without the binary extension')
        if not isinstance(shape, list) or not shape or not all(type(size) is int and size >= 0 for size in shape):
            raise DataError(f'{what} "{name}" has no shape of whole numbers')
        values = _flat(data, f'{what} "{name}"')
        rows = shape[0]
        _few(rows)
        width = len(values) // rows if rows else 0
        size = 1
        for length in shape:
            size = min(size * length, 2**62)
        if size != len(values):
            raise DataError(f'{what} "{name}" has {len(values)} values, and its shape says {size}')
        kind = str(given.get("datatype", ""))
        tensors[name] = kind, [values[i * width : (i + 1) * width] for i in range(rows)]
    if not tensors:
        raise DataError(f"there is no {what}")
    return tensors


def _flat(data: list[Any], what: str, depth: int = 0) -> list[Any]:
    if not any(isinstance(value, list) for value in data):
        if any(isinstance(value, Mapping) for value in data):
            raise DataError(f"{what} holds an object; a value is expected")
        return data
    if depth > 8 or not all(isinstance(value, list) for value in data):
        raise DataError(f"{what} is nested unevenly or too deeply")
    return [value for inner in data for value in _flat(inner, what, depth + 1)]


def _of_instances(instances: list[Any], model: ModelConfig) -> Columns:
    _few(len(instances))
    if all(isinstance(row, Mapping) for row in instances):
        names = dict.fromkeys(str(name) for row in instances for name in row)
        if len(names) * len(instances) > 10 * MOST:
            raise DataError("the instances have too many names")
        return {name: [row.get(name) for row in instances] for name in names}
    if any(isinstance(row, Mapping) for row in instances):
        raise DataError("some instances are objects and some are not")
    rows = [_flat(row, "an instance") if isinstance(row, list) else [row] for row in instances]
    return _spread(rows, [], model, "an instance")


def _spread(rows: list[list[Any]], names: list[str], model: ModelConfig, what: str) -> Columns:
    names = names or [*model.columns]
    for row in rows:
        if len(row) != len(names):
            raise DataError(
                f"{what} has {len(row)} values a row, and there are {len(names)} names for them;"
                " name them in its parameters, or configure as many columns"
            )
    return {name: [row[i] for row in rows] for i, name in enumerate(names)}


def _of_predictions(predictions: list[Any]) -> dict[str, list[list[Any]]]:
    _few(len(predictions))
    if predictions and all(isinstance(row, Mapping) for row in predictions):
        names = dict.fromkeys(str(name) for row in predictions for name in row)
        if len(names) > 100:
            raise DataError("the predictions have too many names")
        return {name: [_listed(row.get(name), name) for row in predictions] for name in names}
    return {"predictions": [_listed(row, "predictions") for row in predictions]}


def _listed(value: Any, name: str) -> list[Any]:
    if isinstance(value, Mapping):
        raise DataError(f'"{name}" of the answer holds an object; a value is expected')
    return _flat(value, f'"{name}" of the answer') if isinstance(value, list) else [value]


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) or value is None


def _chosen(named: str, what: str, candidates: list[str]) -> str | None:
    if named:
        return named
    if len(candidates) > 1:
        raise DataError(
            f"any of the outputs {', '.join(candidates[:10])} may be the {what}; say which one in the configuration of"
            f" the model, as inference: {{{what}: {candidates[0]}}}"
        )
    return candidates[0] if candidates else None


def _one_each(rows: list[list[Any]], index: int | None, name: str) -> list[Any]:
    """One value of each row: the one that was configured, the only one, or the second of two, which is the class's."""
    found = []
    for row in rows:
        at = index if index is not None else len(row) - 1 if 1 <= len(row) <= 2 else None
        if at is None or at >= len(row):
            raise DataError(
                f'the output "{name}" has {len(row)} values a row; say which one is the score, counted from 0, in the'
                " configuration of the model, as inference: {score_index: 1}"
            )
        found.append(events.plain(row[at]))
    return found


def _few(rows: int) -> None:
    if rows > MOST:
        raise DataError(f"there are {rows:,} rows; a request may have {MOST:,}")
