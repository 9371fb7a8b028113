"""whylogs: a profile of each table. That is the costly half; comparing two profiles takes next to nothing."""

from __future__ import annotations

import pandas as pd
import whylogs
from worker import serve


def compare(reference: str, current: str, html: str) -> None:
    """From two Parquet files to two profiles."""
    for path in (reference, current):
        whylogs.log(pandas=pd.read_parquet(path)).view()


serve(compare=compare)
