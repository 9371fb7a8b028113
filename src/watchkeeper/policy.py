"""The default policy: what is watched, and with which limits, where a configuration names no monitors."""

from __future__ import annotations

from scipy.special import gammaincinv

from watchkeeper.metrics import METRICS, Metric
from watchkeeper.profiles import Subject
from watchkeeper.records import Severity
from watchkeeper.schema import Kind, ModelConfig, MonitorConfig
from watchkeeper.windows import DAY


def for_model(config: ModelConfig) -> tuple[MonitorConfig, ...]:
    """What is watched where the configuration names no monitors."""
    week = 7 * DAY
    kinds = {feature.kind for feature in config.features.values()}
    every = (
        MonitorConfig(
            name="missing values", metric="null_rate", columns="features", above=0.05, relative="difference",
            severity=Severity.P1,
        ),
        MonitorConfig(name="input drift", metric="psi", columns="features", window=week, above=0.25),
        MonitorConfig(name="prediction drift", metric="psi", columns=("score",), window=week, above=0.25),
        MonitorConfig(
            name="log loss", metric="log_loss", window=week, above=0.05, relative="difference", severity=Severity.P1,
            min_rows=200,
        ),
        MonitorConfig(
            name="AUC", metric="auc", window=week, below=-0.05, relative="difference", severity=Severity.P1,
            min_rows=200,
        ),
        MonitorConfig(name="errors", metric="error_rate", above=0.02, severity=Severity.P1),
        MonitorConfig(
            name="latency", metric="p95", columns=("latency_ms",), above=2.0, relative="ratio", baseline=2 * week,
            severity=Severity.P1,
        ),
        MonitorConfig(name="volume", metric="volume", below=0.5, relative="ratio", baseline=4 * week),
        MonitorConfig(
            name="sentinel values", metric="sentinel_rate", columns="features", above=0.005, severity=Severity.P1
        ),
        MonitorConfig(name="values out of range", metric="out_of_range", columns="features", above=0.05),
        MonitorConfig(name="new categories", metric="new_category", columns="features", above=0.02),
    )  # fmt: skip
    return tuple(m for m in every if m.columns != "features" or METRICS[m.metric].usual & kinds)


def for_tables(kinds: set[Kind]) -> tuple[MonitorConfig, ...]:
    """What two tables are compared by where no configuration says so, in the order in which it is told."""
    every = (
        MonitorConfig(
            name="missing values", metric="null_rate", columns="features", above=0.05, relative="difference", min_rows=1
        ),
        MonitorConfig(name="sentinel values", metric="sentinel_rate", columns="features", above=0.005, min_rows=1),
        MonitorConfig(name="new categories", metric="new_category", columns="features", above=0.01, min_rows=1),
        MonitorConfig(name="values out of range", metric="out_of_range", columns="features", above=0.05, min_rows=1),
        MonitorConfig(name="moved values", metric="wasserstein", columns="features", above=0.1, min_rows=10),
        MonitorConfig(name="drift", metric="psi", columns="features", above=0.1, min_rows=1),
        MonitorConfig(name="drift (KS)", metric="ks", columns="features", above=0.1, min_rows=1),
        MonitorConfig(name="drift (JS)", metric="jensen_shannon", columns="features", above=0.1, min_rows=1),
    )
    return tuple(monitor for monitor in every if METRICS[monitor.metric].usual & kinds)


def unseen(metric: Metric, subject: Subject, alpha: float) -> float:
    """How much of unchanged data a reference of this size may not have seen, with error `alpha`.

    Beyond the least and the greatest of m values lies a share of the distribution that two spacings cover: a
    gamma variable with shape 2, over m (David and Nagaraja 2003, section 2.5). The share of unseen categories
    averages the number of those seen once, over m (Good 1953); that number is taken as Poisson.
    """
    baseline = subject.baseline
    if baseline is None or metric.name not in ("out_of_range", "sentinel_rate", "new_category"):
        return 0.0
    if metric.name == "new_category":
        events, rows = int((baseline.counts == 1).sum()) + 1, int(baseline.counts.sum())
    else:
        events, rows = 2, int(baseline.regular[1].sum())
    return min(float(gammaincinv(events, 1 - alpha)) / rows, 1.0) if rows else 1.0
