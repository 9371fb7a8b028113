"""How outcomes and predictions meet in the log."""

from __future__ import annotations

from watchkeeper.store.backends import quoted
from watchkeeper.store.log import Log, tables

TOLD = ("outcomes", "requests", "joined", "early", "orphans", "conflicting")


def joins(log: Log, model: str) -> dict[str, int]:
    """Counts of a model's outcomes, kept ones, by what became of them.

    `outcomes` are rows; the others are requests: those with an outcome, with a prediction as well (`joined`), whose
    first outcome was in the log before its prediction (`early`), without a prediction so far (`orphans`), and those
    told different labels, of which the latest counts (`conflicting`). `source NAME` counts outcomes by their source,
    `source not stated` those that do not say it.
    """
    p, o, _ = (quoted(name) for name in tables(model))
    same = ", ".join(map(quoted, log.backend.match))
    found = log.backend.rows(
        "SELECT sum(n), count(*), count(there), sum(CASE WHEN first < there THEN 1 ELSE 0 END),"
        " sum(CASE WHEN there IS NULL THEN 1 ELSE 0 END), sum(CASE WHEN least <> most THEN 1 ELSE 0 END)"
        " FROM (SELECT o.n, o.first, o.least, o.most, p.arrival AS there FROM"
        f" (SELECT {same}, count(*) AS n, min(arrival) AS first, min(label) AS least, max(label) AS most"
        f" FROM {o} GROUP BY {same}) o LEFT JOIN {p} p USING ({same})) j"
    )[0]
    sources = log.backend.rows(f"SELECT coalesce(source, 'not stated'), count(*) FROM {o} GROUP BY source")
    counts = dict(zip(TOLD, (int(n or 0) for n in found), strict=True))
    return counts | {f"source {name}": int(n) for name, n in sources}
