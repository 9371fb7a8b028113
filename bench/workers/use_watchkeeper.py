"""watchkeeper: the comparison with its defaults."""

from __future__ import annotations

from time import perf_counter
from typing import Any

from worker import serve

from watchkeeper import compare


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


serve(compare=both, alarms=alarms)
