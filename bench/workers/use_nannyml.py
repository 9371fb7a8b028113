"""NannyML: univariate drift and data quality, fitted on the reference."""

from __future__ import annotations

import warnings
from time import perf_counter
from typing import Any

import nannyml
import pandas as pd
from worker import serve

warnings.simplefilter("ignore")


NUMBERS, TEXTS = ["kolmogorov_smirnov", "jensen_shannon", "wasserstein"], ["chi2", "jensen_shannon"]
"""Those of its methods that watchkeeper uses too; its own default is the Jensen-Shannon distance alone."""


def compare(reference: str, current: str, html: str) -> dict[str, Any]:
    """From two Parquet files to the drift, the missing and the unseen values of every column in ten chunks; it has no
    page to write. Then its defaults alone, which have a time of their own."""
    start = perf_counter()
    before, after = pd.read_parquet(reference), pd.read_parquet(current)
    names = list(before)
    texts = [name for name in names if not pd.api.types.is_numeric_dtype(before[name])]
    drift = nannyml.UnivariateDriftCalculator(names, continuous_methods=NUMBERS, categorical_methods=TEXTS)
    drift.fit(before).calculate(after)
    nannyml.MissingValuesCalculator(names).fit(before).calculate(after)
    nannyml.UnseenValuesCalculator(texts).fit(before).calculate(after)
    seconds = perf_counter() - start
    start = perf_counter()
    before, after = pd.read_parquet(reference), pd.read_parquet(current)
    found = nannyml.UnivariateDriftCalculator(column_names=names).fit(before).calculate(after)
    flagged = int(_alerts(found).any().sum())
    return {"flagged": flagged, "seconds": seconds, "defaults_seconds": perf_counter() - start}


def alarms(reference: str, current: list[str]) -> dict[str, Any]:
    """How many columns have an alert in each current table: one chunk each, all of the same size."""
    before, tables = pd.read_parquet(reference), [pd.read_parquet(path) for path in current]
    calculator = nannyml.UnivariateDriftCalculator(column_names=list(before), chunk_size=len(tables[0])).fit(before)
    found = calculator.calculate(pd.concat(tables, ignore_index=True))
    return {"flagged": _alerts(found).sum(axis=1).tolist()}


def estimate(reference: str, analysis: str, chunk: int, kind: str, features: list[str]) -> dict[str, Any]:
    """Estimated metrics of each chunk: CBPE of a classifier by its `score`, or by those of its classes, `score:CLASS`;
    DLE of a regression."""
    before, after = pd.read_parquet(reference), pd.read_parquet(analysis)
    if kind == "binary":
        metrics = ["roc_auc", "f1", "accuracy"]
        method = nannyml.CBPE(
            y_pred_proba="score", y_pred="prediction", y_true="label", problem_type="classification_binary",
            metrics=metrics, chunk_size=chunk,
        )  # fmt: skip
    elif kind == "multiclass":
        metrics = ["roc_auc", "f1", "accuracy"]
        each = {name.removeprefix("score:"): name for name in before if name.startswith("score:")}
        method = nannyml.CBPE(
            y_pred_proba=each, y_pred="prediction", y_true="label", problem_type="classification_multiclass",
            metrics=metrics, chunk_size=chunk,
        )  # fmt: skip
    else:
        metrics = ["mae", "rmse"]
        method = nannyml.DLE(
            feature_column_names=features, y_pred="prediction", y_true="label", metrics=metrics, chunk_size=chunk
        )
    found = method.fit(before).estimate(after.drop(columns="label")).filter(period="analysis").to_df()
    return {name: found[(name, "value")].tolist() for name in metrics}


METRICS = ["roc_auc", "f1", "precision", "recall", "specificity", "accuracy"]


def realised(rows: str, reference: str) -> dict[str, Any]:
    """From two Parquet files to the realised performance of all rows and of each segment, a chunk each, since it has no
    segments itself."""
    start = perf_counter()
    now, before = pd.read_parquet(rows), pd.read_parquet(reference)
    for table in (now, before):
        table["said"] = (table["score"] >= 0.5).astype(int)
    whole = _performance(before, now)
    parts = dict(tuple(before.groupby("segment")))
    each = {name: _performance(parts[name], own) for name, own in now.groupby("segment")}
    return {"seconds": perf_counter() - start, "auc": whole, "segments": len(each)}


def _performance(before: pd.DataFrame, now: pd.DataFrame) -> float:
    calculator = nannyml.PerformanceCalculator(
        y_true="label", y_pred="said", y_pred_proba="score", problem_type="classification_binary", metrics=METRICS,
        chunk_number=1,
    )  # fmt: skip
    found = calculator.fit(before).calculate(now).filter(period="analysis").to_df()
    return float(found["roc_auc", "value"].iloc[0])


def _alerts(found: Any) -> pd.DataFrame:
    """Alerts by chunk and column; only those of the analysed period."""
    table = found.filter(period="analysis").to_df()
    return table.loc[:, [key for key in table.columns if key[-1] == "alert"]].astype(bool)


serve(compare=compare, alarms=alarms, estimate=estimate, realised=realised)
