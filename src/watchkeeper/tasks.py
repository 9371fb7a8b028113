"""Tasks: what follows from what a model predicts. Its own columns, what they hold, and how the log types them.

A binary classifier gives a score. A multi-class one gives a class, and where it says so the probability of each class,
in a column `score:CLASS`. A regression gives a number; how far that was off is told in columns derived from prediction
and label.
"""

from __future__ import annotations

from watchkeeper import kpis
from watchkeeper.events import RESOURCES, SAID, score_of
from watchkeeper.schema import ERRORS, Kind, ModelConfig, Task

SERVICE = {
    "latency_ms": Kind.NUMERIC,
    **dict.fromkeys(RESOURCES, Kind.NUMERIC),
    "status": Kind.CATEGORICAL,
    "variant": Kind.CATEGORICAL,
}
POSITIVE, NEGATIVE = "1", "0"
"""The labels of a binary classifier, and of one class against the rest."""

_LOGGED = {Task.BINARY: "INTEGER", Task.MULTICLASS: "VARCHAR", Task.REGRESSION: "DOUBLE"}


def model_columns(config: ModelConfig) -> dict[str, Kind]:
    """The columns that a model has beside its features and that are watched, with their kinds."""
    own = {**SERVICE, **dict.fromkeys(kpis.columns(config), Kind.NUMERIC)}
    if config.task is Task.BINARY:
        return {"score": Kind.NUMERIC, **own}
    if config.task is Task.MULTICLASS:
        return {"prediction": Kind.CATEGORICAL, **dict.fromkeys(score_columns(config), Kind.NUMERIC), **own}
    return {"prediction": Kind.NUMERIC, **dict.fromkeys(known_with_label(config), Kind.NUMERIC), **own}


def known_with_label(config: ModelConfig) -> tuple[str, ...]:
    """The columns that have no value before the label is known."""
    return (*ERRORS, "label") if config.task is Task.REGRESSION else ()


def score_columns(config: ModelConfig) -> tuple[str, ...]:
    """The columns of the classes' probabilities."""
    return tuple(map(score_of, config.classes))


def said_columns(config: ModelConfig) -> tuple[str, ...]:
    """The columns of the classes' probabilities where they were predicted."""
    return tuple(f"{SAID}{known}" for known in config.classes)


def logged(config: ModelConfig) -> dict[str, str]:
    """How the log types the columns that depend on the task: the prediction, and the probability of each class."""
    return {"prediction": _LOGGED[config.task], **dict.fromkeys(score_columns(config), "DOUBLE")}


def label_type(config: ModelConfig) -> str:
    """How the log types labels."""
    return _LOGGED[config.task]
