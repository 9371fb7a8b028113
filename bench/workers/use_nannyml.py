"""NannyML: univariate drift with its defaults, fitted on the reference."""

from __future__ import annotations

import warnings
from typing import Any

import nannyml
import pandas as pd
from worker import serve

warnings.simplefilter("ignore")


def compare(reference: str, current: str, html: str) -> dict[str, Any]:
    """From two Parquet files to the drift of every column in ten chunks; it has no page to write."""
    before = pd.read_parquet(reference)
    calculator = nannyml.UnivariateDriftCalculator(column_names=list(before)).fit(before)
    found = calculator.calculate(pd.read_parquet(current))
    return {"flagged": int(_alerts(found).any().sum())}


def alarms(reference: str, current: list[str]) -> dict[str, Any]:
    """How many columns have an alert in each current table: one chunk each, all of the same size."""
    before, tables = pd.read_parquet(reference), [pd.read_parquet(path) for path in current]
    calculator = nannyml.UnivariateDriftCalculator(column_names=list(before), chunk_size=len(tables[0])).fit(before)
    found = calculator.calculate(pd.concat(tables, ignore_index=True))
    return {"flagged": _alerts(found).sum(axis=1).tolist()}


def _alerts(found: Any) -> pd.DataFrame:
    """Alerts by chunk and column; only those of the analysed period."""
    table = found.filter(period="analysis").to_df()
    return table.loc[:, [key for key in table.columns if key[-1] == "alert"]].astype(bool)


serve(compare=compare, alarms=alarms)
