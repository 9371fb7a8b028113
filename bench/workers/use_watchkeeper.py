"""watchkeeper: the comparison with its defaults."""

from __future__ import annotations

from time import perf_counter
from typing import Any

from worker import serve

from watchkeeper import compare, evaluate, profile


def both(reference: str, current: str, html: str = "") -> dict[str, Any]:
    """From two Parquet files to a page; without a name for the page, to the findings."""
    start = perf_counter()
    found = compare(reference, current)
    compared = perf_counter() - start
    if html:
        found.save_html(html)
    return {"compare_seconds": compared, "flagged": len({look.column for look in found.breaches})}


def alarms(reference: str, current: list[str]) -> dict[str, Any]:
    """How many columns breach a limit in each current table."""
    return {"flagged": [len({look.column for look in compare(reference, path).breaches}) for path in current]}


def stored(reference: str, current: str, baseline: str) -> dict[str, Any]:
    """The same comparison with the stored counts of the reference, and with its table."""
    profile(reference).save(baseline)
    seconds = []
    for before in (baseline, reference):
        start = perf_counter()
        compare(before, current)
        seconds.append(perf_counter() - start)
    return {"stored_seconds": seconds[0], "read_seconds": seconds[1]}


def realised(rows: str) -> dict[str, Any]:
    """From a Parquet file to every metric of all rows and of each segment, with intervals."""
    start = perf_counter()
    found = evaluate(rows, segments=["segment"])
    return {"seconds": perf_counter() - start, "auc": found["auc"].value, "segments": len(found.by_segment)}


serve(realised=realised, stored=stored, compare=both, alarms=alarms)
