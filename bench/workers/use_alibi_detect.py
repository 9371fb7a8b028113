"""alibi-detect: its drift test for tables (Kolmogorov-Smirnov and chi-squared)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from alibi_detect.cd import TabularDrift
from worker import serve


def compare(reference: str, current: str, html: str) -> dict[str, Any]:
    """From two Parquet files to a decision; categories as numbers, as its own examples have them."""
    before, after = pd.read_parquet(reference), pd.read_parquet(current)
    codes: dict[int, Any] = {}
    for i, name in enumerate(before):
        if not pd.api.types.is_numeric_dtype(before[name]):
            known = pd.Index(before[name].unique()).append(pd.Index(after[name].unique())).unique()
            before[name], after[name] = (known.get_indexer(side[name]) for side in (before, after))
            codes[i] = None
    detector = TabularDrift(before.to_numpy(dtype=np.float64), p_val=0.05, categories_per_feature=codes)
    found = detector.predict(after.to_numpy(dtype=np.float64), drift_type="feature")
    return {"flagged": int(np.sum(found["data"]["is_drift"]))}


serve(compare=compare)
