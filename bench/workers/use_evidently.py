"""Evidently: the preset for data drift, with its defaults."""

from __future__ import annotations

from typing import Any

import pandas as pd
from evidently import DataDefinition, Dataset, Report
from evidently.presets import DataDriftPreset
from worker import serve


def compare(reference: str, current: str, html: str) -> dict[str, Any]:
    """From two Parquet files to a page."""
    result = Report([DataDriftPreset()]).run(table(current), table(reference))
    result.save_html(html)
    return {"flagged": len(drifted(result.dict()))}


def alarms(reference: str, current: list[str]) -> dict[str, Any]:
    """How many columns are called drifted in each current table, and in how many tables the data set as a whole is."""
    before = table(reference)
    flagged, whole = [], []
    for path in current:
        found = Report([DataDriftPreset()]).run(table(path), before).dict()
        flagged.append(len(drifted(found)))
        whole.append(2 * flagged[-1] >= len(before.as_dataframe().columns))  # the preset's own rule: half of them
    return {"flagged": flagged, "whole": sum(whole)}


def table(path: str) -> Dataset:
    """With each column's kind stated: left to guess, it takes some categories for free text and trains a classifier."""
    data = pd.read_parquet(path)
    numbers = [name for name in data if pd.api.types.is_numeric_dtype(data[name])]
    texts = [name for name in data if name not in numbers]
    return Dataset.from_pandas(data, DataDefinition(numerical_columns=numbers, categorical_columns=texts))


def drifted(found: dict[str, Any]) -> list[str]:
    """The columns on the wrong side of their threshold: p-values below it, distances at or above it."""
    columns = []
    for metric in found["metrics"]:
        settings = metric["config"]
        if settings["type"] == "evidently:metric_v2:ValueDrift":
            value, limit = float(metric["value"]), settings["threshold"]
            if value < limit if "p_value" in settings["method"] else value >= limit:
                columns.append(settings["column"])
    count = next(m["value"]["count"] for m in found["metrics"] if "DriftedColumnsCount" in m["config"]["type"])
    assert len(columns) == count, f"{len(columns)} columns were read as drifted, and Evidently counts {count}"
    return columns


serve(compare=compare, alarms=alarms)
