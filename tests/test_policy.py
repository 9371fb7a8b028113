"""The default policy: what it looks at, in which order, with which limits."""

from __future__ import annotations

from typing import Any

import pytest

from watchkeeper import policy
from watchkeeper.metrics import METRICS
from watchkeeper.monitors import plan
from watchkeeper.schema import ColumnConfig, Kind, ModelConfig


def model(**columns: dict[str, Any]) -> ModelConfig:
    return ModelConfig(columns={name: ColumnConfig.model_validate(column) for name, column in columns.items()})


NUMBER, WORD = {"kind": "numeric"}, {"kind": "categorical"}


def test_what_explains_a_drift_comes_before_the_drift() -> None:
    metrics = [monitor.metric for monitor in policy.for_tables(model(a=NUMBER, b=WORD))]
    drift = [metrics.index(name) for name in ("wasserstein", "psi", "ks", "jensen_shannon")]
    explaining = ("null_rate", "invalid_rate", "sentinel_rate", "unit_change", "encoding_change", "constant")
    assert max(metrics.index(name) for name in explaining) < min(drift)


@pytest.mark.parametrize("kinds", [(NUMBER,), (WORD,), (NUMBER, WORD), ({"kind": "text"},), ({"kind": "datetime"},)])
def test_every_policy_can_be_planned(kinds: tuple[dict[str, Any], ...]) -> None:
    config = model(**{f"c{i}": kind for i, kind in enumerate(kinds)})
    for monitors in (policy.for_tables(config), policy.for_model(config)):
        names = [monitor.name for monitor in monitors]
        assert len({*names}) == len(names)
        assert plan(config.model_copy(update={"monitors": monitors}))


def test_a_columns_own_limit_of_missing_values_takes_the_place_of_the_general_one() -> None:
    found = [m for m in policy.for_tables(model(a={**NUMBER, "max_nulls": 0.2}, b=WORD)) if m.metric == "null_rate"]
    assert [(m.columns, m.above, m.relative) for m in found] == [(("a",), 0.2, None), (("b",), 0.02, "difference")]


def test_of_a_unique_column_no_distribution_is_watched() -> None:
    looks = plan(
        (config := model(a={**NUMBER, "unique": True}, b=NUMBER)).model_copy(
            update={"monitors": policy.for_tables(config)}
        )
    )
    assert {w.metric.name for w in looks if w.column == "a"} == {"null_rate", "invalid_rate"}
    assert {"psi", "null_rate"} < {w.metric.name for w in looks if w.column == "b"}


@pytest.mark.parametrize(
    ("metric", "low", "severity"),
    [("psi", 0.12, "minor"), ("psi", 0.3, "major"), ("ks", 0.25, "major"), ("unit_change", 0.06, "major"),
     ("missing_column", None, "major"), ("wasserstein", 0.3, "minor")],
)  # fmt: skip
def test_severity_goes_by_the_nearer_end(metric: str, low: float | None, severity: str) -> None:
    assert policy.severity(metric, low) == severity


def test_the_bands_are_of_metrics_and_lie_above_the_limits() -> None:
    limits = {m.metric: m.above for m in policy.for_tables(model(a=NUMBER, b=WORD))}
    for metric, band in policy.MAJOR.items():
        assert metric in METRICS
        assert band > (limits[metric] or 0)


def test_what_was_agreed_is_not_widened() -> None:
    assert Kind.NUMERIC in METRICS["out_of_range"].kinds
    assert {METRICS[name].name for name in policy.CAN_BE_UNSEEN} == policy.CAN_BE_UNSEEN
