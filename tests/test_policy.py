"""The default policy: what it looks at, in which order, with which limits."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy import stats

from watchkeeper import policy
from watchkeeper.metrics import METRICS
from watchkeeper.monitors import plan
from watchkeeper.profiles import Profile, Subject, categorical, hashed
from watchkeeper.schema import ColumnConfig, Kind, ModelConfig
from watchkeeper.stats.grid import Floats


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


# what a reference cannot have seen

ALPHA, REPS = 3e-4, 4000
SHARES: dict[str, Floats] = {
    "two": np.ones(2),
    "fifty": np.ones(50),
    "a hundred": np.ones(100),
    "a thousand": np.ones(1000),
    "Zipf": 1 / np.arange(1.0, 301),
    "geometric": 0.9 ** np.arange(150),
}


def unseen(baseline: Profile) -> float:
    subject = Subject(None, baseline, None, 0.5, 1, 1, {}, {})
    return policy.unseen(METRICS["new_category"], subject, ALPHA)


@pytest.mark.parametrize("rows", [200, 500, 2000, 10_000])
@pytest.mark.parametrize("shape", SHARES)
def test_what_a_reference_missed_is_no_more_than_is_allowed_for(shape: str, rows: int) -> None:
    share = SHARES[shape] / SHARES[shape].sum()
    drawn = np.random.default_rng(1).multinomial(rows, share, size=REPS)
    missed = (share * (drawn == 0)).sum(axis=1)
    least = unseen(categorical({"a": rows}))
    hashes, failed = np.array([hashed(str(v)) for v in range(len(share))]), 0
    for i in np.flatnonzero(missed > least / 20):  # what little the others missed is always allowed for
        baseline = categorical({str(v): int(n) for v, n in enumerate(drawn[i]) if n})
        # beyond the limit of a baseline that folds, new_category calls nothing new
        sure = share[(drawn[i] == 0) & (hashes < baseline.limit)].sum()
        failed += bool(sure > unseen(baseline))
    assert failed <= stats.binom.ppf(0.9999, REPS, ALPHA)


def test_a_large_reference_allows_for_little() -> None:
    assert unseen(categorical({"a": 6000, "b": 4000})) < 0.002
    assert unseen(categorical({"a": 600_000, "b": 400_000})) < 0.00002


def test_a_tiny_reference_allows_for_all_and_other_metrics_for_nothing() -> None:
    subject = Subject(None, categorical({"a": 5}), None, 0.5, 1, 1, {}, {})
    assert policy.unseen(METRICS["new_category"], subject, ALPHA) == 1.0
    assert policy.unseen(METRICS["psi"], subject, ALPHA) == 0.0
    assert policy.unseen(METRICS["new_category"], replace(subject, baseline=None), ALPHA) == 0.0
