"""Diagnosis: what an incident's signals say, in words, and what to do about it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from watchkeeper.incidents import strength
from watchkeeper.metrics import METRICS
from watchkeeper.records import ALL, Incident, Point, place
from watchkeeper.windows import show_time

TREE = {
    "missing values": ("data", "Check the source of the column; until it is mended, do not train on these rows."),
    "sentinel values": (
        "data",
        "A number stands for unknown. Mend the source, or declare the number as missing in the configuration;"
        " do not train on these rows.",
    ),
    "new values": ("data", "Check whether the new values are meant; if they are, retrain with them."),
    "changed format": (
        "data",
        "The same is written in another way: another unit, another spelling. Mend the source, or convert it before the"
        " model; do not train on these rows.",
    ),
    "wrong type": ("data", "Values are not of the column's type. Mend the source; do not train on these rows."),
    "constant value": (
        "data",
        "The column has stopped changing. Check what writes it; do not train on these rows.",
    ),
    "volume": ("infrastructure", "Check the traffic to the model and the logging of its predictions."),
    "drift": ("data", "The world moved. Check that performance holds; retrain on recent data if it does not."),
    "performance": ("model", "The model fits worse than it did. Retrain, and roll back if a new version began it."),
    "fairness": (
        "model",
        "Groups are treated more unequally than was agreed. See which groups, and whether inputs or labels of theirs"
        " changed; review the model before it decides further.",
    ),
    "service": (
        "infrastructure",
        "Check the serving hosts and what they depend on; the model itself is not the cause.",
    ),
    "business": (
        "model",
        "Check what changed around the model: its prices, its traffic, what is done with its answers.",
    ),
}
"""By cause: which branch of data, model and infrastructure the trouble lies on, and the recommended action."""

SPOILT = ("missing values", "sentinel values", "changed format", "wrong type", "constant value")
"""Causes that spoil the rows they last for: a model must not learn from them."""

SAMPLES = {"sentinel_rate": "extreme", "null_rate": "missing", "out_of_range": "extreme", "error_rate": "failed"}
"""By metric: which predictions show the trouble best, in the words of the log's `samples`."""


MOST = 50
"""Signals that the evidence details, the strongest; segments may bring hundreds."""


def explain(incident: Incident, points: Mapping[str, Point]) -> dict[str, Any]:
    """The evidence of an incident: summary, branch, recommendation, and its columns ranked by strength, `MOST` at most.

    Args:
        points: the points that the signals' verdicts judged, by verdict id.
    """
    ranked = sorted(incident.signals.values(), key=strength, reverse=True)
    columns = []
    for signal in ranked[:MOST]:
        point = points.get(signal["verdict"])
        columns.append(
            {
                "column": signal["column"],
                "segment": signal.get("segment", ALL),
                "metric": signal["metric"],
                "since": signal["since"],
                "value": signal["value"],
                "limit": signal["limit"],
                "detail": point.detail if point else {},
            }
        )
    branch, recommendation = TREE.get(incident.cause, ("model", "Look at the evidence and decide."))
    parts = next((c["detail"]["parts"] for c in columns if "parts" in c["detail"]), None)
    return {
        "summary": " ".join([*(_sentence(c) for c in columns[:3]), *([_parts(parts)] if parts else [])]),
        "tree": branch,
        "recommendation": recommendation,
        "columns": columns,
    }


def sample_order(metric: str, cause: str) -> str:
    """Which predictions to show for a breach of this metric."""
    if metric in SAMPLES:
        return SAMPLES[metric]
    return {"performance": "loss", "service": "slowest"}.get(cause, "extreme")


def _sentence(column: dict[str, Any]) -> str:
    metric = METRICS[column["metric"]]
    since = show_time(datetime.fromisoformat(column["since"]))
    where = place(column["column"], column["segment"])
    text = f"{where}: {metric.title} {column['value']:.3g}, limit {column['limit']:g}, since {since} UTC"
    values = column["detail"].get("values")
    if values:
        text += f"; most often {max(values, key=values.get)}"
    return text + "."


def _parts(parts: Mapping[str, Any]) -> str:
    """What a change of performance is made of, in words."""
    change, inputs, relation = (parts[name] for name in ("change", "inputs", "relation"))
    scale, unit = (100, " points") if parts["of"] == "errors" else (1, "")
    what = {"errors": "the share of wrong predictions", "log_loss": "log loss", "brier": "Brier score"}[parts["of"]]

    def amount(part: Mapping[str, float]) -> str:
        value, low, high = (scale * part[end] for end in ("value", "low", "high"))
        return f"{value:+.2g}{unit} ({low:+.2g} to {high:+.2g})"

    reasons = {"the relation between inputs and outcomes changed": relation, "the inputs changed": inputs}
    told = (
        " and ".join(r for r, part in reasons.items() if part["low"] > 0 or part["high"] < 0)
        or "what changed cannot be told apart from chance"
    )
    return (
        f"{told[0].upper()}{told[1:]}: of {scale * change['value']:+.2g}{unit} in {what},"
        f" {amount(relation)} came of the relation and {amount(inputs)} of the inputs."
    )
