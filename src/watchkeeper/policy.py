"""The default policy: what is watched, and with which limits, where a configuration names no monitors."""

from __future__ import annotations

from typing import Any

from scipy.special import gammaincinv

from watchkeeper.metrics import METRICS, Metric
from watchkeeper.profiles import Subject
from watchkeeper.records import Severity
from watchkeeper.schema import Kind, ModelConfig, MonitorConfig, Task
from watchkeeper.windows import DAY

MAJOR = {
    "psi": 0.25, "jensen_shannon": 0.2, "ks": 0.2, "wasserstein": 0.5,
    "null_rate": 0.05, "out_of_range": 0.05, "new_category": 0.05, "vanished_category": 0.05,
}  # fmt: skip
"""From where on a breach is a major one; of a metric that is not named here, each is.

0.25 is where the index is usually called a large shift; it is about what half a standard deviation does to a normal
column, which brings the three distances to 0.2, 0.2 and 0.5.
"""


EXPLAINING = frozenset({"invalid_rate", "sentinel_rate", "unit_change", "encoding_change", "constant"})
"""Metrics of faults that explain why a distribution moved; they stand for a column before the distances do."""

DUPLICATES = 0.01
"""The limit on how many more rows, or ids, come twice in one of two tables than in the other."""


def severity(metric: str, low: float | None, direction: str = "above") -> str:
    """How grave a breach is, by the end of the interval that is nearer to the limit: "minor" or "major"."""
    if metric in MAJOR and direction == "above" and (low or 0.0) <= MAJOR[metric]:
        return "minor"
    return "major"


def for_model(config: ModelConfig) -> tuple[MonitorConfig, ...]:
    """What is watched where the configuration names no monitors."""
    week = 7 * DAY
    answer = "score" if config.task is Task.BINARY else "prediction"
    service = (
        MonitorConfig(name="prediction drift", metric="psi", columns=(answer,), window=week, above=0.25),
        *_of_labels(config.task),
        MonitorConfig(name="errors", metric="error_rate", above=0.02, severity=Severity.P1),
        MonitorConfig(
            name="latency", metric="p95", columns=("latency_ms",), above=2.0, relative="ratio", baseline=2 * week,
            severity=Severity.P1,
        ),
        MonitorConfig(name="volume", metric="volume", below=0.5, relative="ratio", baseline=4 * week),
    )  # fmt: skip
    return (
        *_of_columns(
            config,
            MonitorConfig(
                name="missing values", metric="null_rate", columns="features", above=0.05, relative="difference",
                severity=Severity.P1,
            ),
            MonitorConfig(
                name="sentinel values", metric="sentinel_rate", columns="features", above=0.005, severity=Severity.P1
            ),
            MonitorConfig(
                name="changed unit", metric="unit_change", columns="features", above=0.05, severity=Severity.P1
            ),
            MonitorConfig(
                name="changed encoding", metric="encoding_change", columns="features", above=0.005,
                severity=Severity.P1,
            ),
            MonitorConfig(name="constant values", metric="constant", columns="features", above=0.9),
            MonitorConfig(name="input drift", metric="psi", columns="features", window=week, above=0.25),
            MonitorConfig(name="values out of range", metric="out_of_range", columns="features", above=0.05),
            MonitorConfig(name="new categories", metric="new_category", columns="features", above=0.02),
            MonitorConfig(
                name="vanished categories", metric="vanished_category", columns="features", window=week, above=0.05
            ),
        ),
        *service,
    )  # fmt: skip


def _of_labels(task: Task) -> tuple[MonitorConfig, ...]:
    """What is watched of how good the predictions are."""
    limits: dict[Task, tuple[tuple[str, str, dict[str, Any]], ...]] = {
        Task.BINARY: (
            ("log loss", "log_loss", {"above": 0.05, "relative": "difference"}),
            ("AUC", "auc", {"below": -0.05, "relative": "difference"}),
            ("concept drift", "concept_drift", {"above": 1.1}),
        ),
        Task.MULTICLASS: (
            ("accuracy", "accuracy", {"below": -0.05, "relative": "difference"}),
            ("macro F1", "macro_f1", {"below": -0.05, "relative": "difference"}),
        ),
        Task.REGRESSION: (("mean absolute error", "mae", {"above": 1.2, "relative": "ratio"}),),
    }
    shared: dict[str, Any] = {"window": 7 * DAY, "severity": Severity.P1, "min_rows": 200}
    return tuple(MonitorConfig(name=name, metric=metric, **limit, **shared) for name, metric, limit in limits[task])


def for_tables(config: ModelConfig) -> tuple[MonitorConfig, ...]:
    """What two tables are compared by where no configuration says so, in the order in which it is told: what explains
    a drift comes before the drift.

    The four distances overlap, and each has its case: the index and Jensen-Shannon for categories and few rows,
    Wasserstein for small moves of a whole column, Kolmogorov-Smirnov where single huge values blind the former.
    Leaving one out would hardly make the others sharper: error is shared out, and half as many looks narrow an
    interval by a twentieth.
    """
    limits: tuple[tuple[str, str, float], ...] = (
        ("missing values", "null_rate", 0.02),
        ("values of another type", "invalid_rate", 0.001),
        ("infinite values", "infinite_rate", 0.001),
        ("sentinel values", "sentinel_rate", 0.005),
        ("changed unit", "unit_change", 0.05),
        ("changed encoding", "encoding_change", 0.001),
        ("constant values", "constant", 0.9),
        ("new categories", "new_category", 0.001),
        ("vanished categories", "vanished_category", 0.005),
        ("values out of range", "out_of_range", 0.01),
        ("moved values", "wasserstein", 0.1),
        ("drift", "psi", 0.1),
        ("drift (KS)", "ks", 0.1),
        ("drift (JS)", "jensen_shannon", 0.1),
    )
    return _of_columns(
        config,
        *(
            MonitorConfig(
                name=name,
                metric=metric,
                columns="features",
                above=limit,
                relative="difference" if metric in ("null_rate", "invalid_rate", "infinite_rate") else None,
                min_rows=10 if metric in ("wasserstein", "constant") else 1,
            )
            for name, metric, limit in limits
        ),
    )


def _of_columns(config: ModelConfig, *monitors: MonitorConfig) -> tuple[MonitorConfig, ...]:
    """Those that fit any of the features. A column's own `max_nulls` is the limit on its missing values; of a unique
    column, no distribution is watched."""
    features = config.features
    of = {name: config.columns[feature.column] for name, feature in features.items()}
    own = {name: column.max_nulls for name, column in of.items() if column.max_nulls is not None}
    found: list[MonitorConfig] = []
    for monitor in monitors:
        usual = METRICS[monitor.metric].usual
        fitting = [name for name, feature in features.items() if feature.kind in usual]
        kept = [n for n in fitting if not of[n].unique or monitor.metric in ("null_rate", "invalid_rate")]
        if monitor.metric == "null_rate":
            kept = [name for name in kept if name not in own]
            found += [
                monitor.model_copy(
                    update={"name": f"{monitor.name}: {name}"[:80], "columns": (name,), "above": most, "relative": None}
                )
                for name, most in own.items()
            ]
        if kept:
            columns = "features" if kept == fitting else tuple(kept)
            found.append(monitor.model_copy(update={"columns": columns}))
    return tuple(found)


CAN_BE_UNSEEN = frozenset({"out_of_range", "sentinel_rate", "new_category", "encoding_change"})
"""Metrics of what the baseline did not hold: where that is small, it need not hold all that is normal."""


def unseen(metric: Metric, subject: Subject, alpha: float) -> float:
    """How much of unchanged data a reference of this size may not have seen, with error `alpha`.

    Beyond the least and the greatest of m values lies a share of the distribution that two spacings cover: a
    gamma variable with shape 2, over m (David and Nagaraja 2003, section 2.5). With f1 categories seen once and f2
    seen twice, the share of unseen ones averages f1 / m (Good 1953) with variance (f1 + 2 f2) / m^2 (Esty 1983); it
    is taken as a gamma variable of that mean and variance, with one more of each seen, since few are uncertain.
    Of a baseline that folds, this is the share of the unseen ones before its `limit`: others are not called new.
    """
    baseline = subject.baseline
    if baseline is None or metric.name not in CAN_BE_UNSEEN:
        return 0.0
    agreed = subject.contract
    if agreed is not None and (agreed.categories is not None or agreed.min is not None or agreed.max is not None):
        return 0.0
    if baseline.kind is Kind.CATEGORICAL:
        rows = baseline.present
        once, twice = (int((baseline.counts == times).sum()) + 1 for times in (1, 2))
        scale = 1 + 2 * twice / once
        events = once / scale
    else:
        rows, scale, events = int(baseline.regular[1].sum()), 1.0, 2.0
    return min(scale * float(gammaincinv(events, 1 - alpha)) / rows, 1.0) if rows else 1.0
