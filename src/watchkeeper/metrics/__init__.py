"""Metrics: pure functions of profiles, in one registry that strangers may add to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import entry_points

from watchkeeper.errors import ConfigError, did_you_mean
from watchkeeper.profiles import Subject
from watchkeeper.schema import Kind
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

    @property
    def usual(self) -> frozenset[Kind]:
        """The kinds of column that "features" means: moments move on by nature, and drift only where it is asked of."""
        return self.kinds - {Kind.DATETIME} if self.cause == "drift" else self.kinds


METRICS: dict[str, Metric] = {}
"""Every known metric by name. Importing `watchkeeper.monitors` fills it."""


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
) -> Callable[[Compute], Compute]:
    """Register a function as the metric of its own name."""

    def register(compute: Compute) -> Compute:
        name = compute.__name__
        METRICS[name] = Metric(
            name, title, cause, frozenset(kinds), column, needs_baseline, labels, any_size, unit, compute, costs
        )
        return compute

    return register


def load_plugins() -> None:
    """Import the modules that other packages offer under the entry point group `watchkeeper.metrics`."""
    for point in entry_points(group="watchkeeper.metrics"):
        point.load()


def find(name: str) -> Metric:
    """The metric of this name; ConfigError with the nearest name where there is none."""
    try:
        return METRICS[name]
    except KeyError:
        hint = did_you_mean(name, sorted(METRICS), "known metrics:")
        raise ConfigError(f'there is no metric "{name}"; {hint}', ("metric",)) from None
