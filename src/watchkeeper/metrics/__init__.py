"""Metrics: pure functions of profiles, in one registry that strangers may add to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import entry_points

from watchkeeper.errors import ConfigError, did_you_mean
from watchkeeper.profiles import Subject
from watchkeeper.schema import Kind, Task
from watchkeeper.stats.estimates import Estimate

Compute = Callable[[Subject, float], Estimate]


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric and all that the product knows of it.

    Attributes:
        name: as written in a configuration.
        title: as shown to people.
        cause: the kind of trouble that a breach is a sign of; incidents are grouped by it.
        kinds: the kinds of column it fits.
        column: the one column it is taken on, for a metric of the whole model.
        needs_baseline: whether it compares with a baseline by nature.
        labels: whether it needs labels.
        any_size: whether it says something however few rows there are; `min_rows` is for the others.
        unit: "" for a pure number, "share", "nats", "ms", "rows a grain", "standard deviations".
        compute: `(subject, alpha) -> Estimate`, with error `alpha` on each side.
        costs: whether it needs the model's `costs`.
        tasks: the tasks of the models that it fits. Metrics of different tasks may bear the same name.
        groups: for a metric that compares groups, the metrics that it compares them by.
        beside: the columns that it needs beside its own; one that ends with a colon stands for all that begin with it.
        baseline_labels: whether it needs the baseline's labels, though the baseline is not what it compares with.
        since_crowned: whether it looks at every grain since the champion was crowned, by label.
        kpi: for a metric of KPIs, what follows the name of a KPI in the name of the column that it looks at.
    """

    name: str
    title: str
    cause: str
    kinds: frozenset[Kind]
    column: str | None
    needs_baseline: bool
    labels: bool
    any_size: bool
    unit: str
    compute: Compute
    costs: bool = False
    tasks: frozenset[Task] = frozenset(Task)
    beside: tuple[str, ...] = ()
    baseline_labels: bool = False
    groups: tuple[str, ...] = ()
    since_crowned: bool = False
    kpi: str | None = None

    @property
    def waits(self) -> bool:
        """Whether it can be said early, provisionally, of those labels that are known: what is realised, not what is
        estimated."""
        return self.labels and not self.baseline_labels

    @property
    def usual(self) -> frozenset[Kind]:
        """The kinds of column that "features" means: moments move on by nature, and drift only where it is asked of."""
        return self.kinds - {Kind.DATETIME} if self.cause == "drift" else self.kinds


UNITS = {"latency_ms": "ms", "cpu_ms": "ms", "memory_mb": "MB", "gpu_memory_mb": "MB", "disk_mb": "MB"}
"""The units of the columns that have one."""


def unit_in(metric: str, column: str) -> str:
    """The unit of a metric that is in that of its column, "" for others."""
    return UNITS.get(column, "") if metric in ("p50", "p95", "p99", "mean_use") else ""


METRICS: dict[str, Metric] = {}
"""Every known metric by name, where several tasks have it the first. Importing `watchkeeper.monitors` fills it."""
_OF_TASK: dict[Task, dict[str, Metric]] = {task: {} for task in Task}


def metric(
    title: str,
    *,
    cause: str,
    kinds: tuple[Kind, ...],
    column: str | None = None,
    needs_baseline: bool = False,
    labels: bool = False,
    any_size: bool = False,
    unit: str = "",
    costs: bool = False,
    tasks: tuple[Task, ...] | None = None,
    beside: tuple[str, ...] = (),
    baseline_labels: bool = False,
    groups: tuple[str, ...] = (),
    since_crowned: bool = False,
    kpi: str | None = None,
) -> Callable[[Compute], Compute]:
    """Register a function as the metric of its own name. Without `tasks` it fits them all; on the score, only binary
    classifiers."""

    def register(compute: Compute) -> Compute:
        name = compute.__name__
        fitting = frozenset(tasks or ([Task.BINARY] if column == "score" else Task))
        made = Metric(
            name, title, cause, frozenset(kinds), column, needs_baseline, labels, any_size, unit, compute, costs,
            fitting, beside, baseline_labels, groups, since_crowned, kpi,
        )  # fmt: skip
        METRICS.setdefault(name, made)
        for task in fitting:
            _OF_TASK[task][name] = made
        return compute

    return register


def load_plugins() -> None:
    """Import the modules that other packages offer under the entry point group `watchkeeper.metrics`."""
    for point in entry_points(group="watchkeeper.metrics"):
        point.load()


def every() -> list[Metric]:
    """All metrics, those of the same name too."""
    return list({id(found): found for of in _OF_TASK.values() for found in of.values()}.values())


def of_task(task: Task) -> dict[str, Metric]:
    """The metrics that fit a model of this task, by name."""
    return _OF_TASK[task]


def find(name: str, task: Task = Task.BINARY) -> Metric:
    """The metric of this name for models of this task; ConfigError, with the nearest name, where there is none."""
    known = _OF_TASK[task]
    if name in known:
        return known[name]
    hint = did_you_mean(name, sorted(known), "known metrics:")
    if name in METRICS:
        others = " and ".join(sorted(METRICS[name].tasks))
        raise ConfigError(f"{name} is for {others} models, and the task is {task}; {hint}", ("metric",))
    raise ConfigError(f'there is no metric "{name}"; {hint}', ("metric",))


def fits(column: str, wanted: str) -> bool:
    """Whether a column is one that a metric asks for beside its own."""
    return column.startswith(wanted) if wanted.endswith(":") else column == wanted
