"""What decisions cost by how they turn out, as it is written in a configuration."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any

from pydantic import BeforeValidator, Discriminator, Tag

from watchkeeper.errors import ConfigError, did_you_mean
from watchkeeper.settings import Strict

OTHER_CLASSES = "(other)"
"""The label of all rows whose label is none of the model's classes."""


def word(value: Any) -> Any:
    """A category as text: 1 and true may be written without quotes."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return str(int(value)) if value == int(value) else str(value)
    return value


Word = Annotated[str, BeforeValidator(word)]


class CostsConfig(Strict):
    """What a prediction costs by how it turns out, in any one currency; a gain is a negative cost.

    `decision_cost` is the mean. They are not what making a prediction costs, which each event may say itself.

    Those of a multi-class model are a table, a line for each class that it was with what it costs to predict the
    others: `costs: {fraud: {review: 10, pass: 120}, review: {fraud: 5, pass: 20}, pass: {"(other)": 5}}`. `"(other)"`
    stands for all that a line, or the table, does not name. A right prediction costs nothing, unless it is named.
    """

    false_positive: float
    false_negative: float
    true_positive: float = 0.0
    true_negative: float = 0.0


ClassCosts = dict[Word, dict[Word, float]]
"""The cost of a prediction of several classes: by label, then by prediction."""


def _shape(value: Any) -> str:
    table = isinstance(value, Mapping) and value and all(isinstance(line, Mapping) for line in value.values())
    return "table" if table else "four"


Costs = Annotated[Annotated[CostsConfig, Tag("four")] | Annotated[ClassCosts, Tag("table")], Discriminator(_shape)]
"""Either form, told apart by whether maps stand within it."""


def check_classes(costs: ClassCosts, classes: Sequence[str]) -> None:
    """Raises ConfigError, with the path within the table, unless it names only known classes and says, of each, what
    every other prediction costs."""
    for label, line in costs.items():
        for name, path in ((label, (label,)), *((said, (label, said)) for said in line)):
            if name not in (known := [*classes, OTHER_CLASSES]):
                raise ConfigError(f'there is no class "{name}"; {did_you_mean(name, known, "its classes are")}', path)
    for label in classes:
        for said in classes:
            if math.isnan(cost_of(costs, label, said)):
                raise ConfigError(
                    f'nothing is said of what it costs to predict "{said}" where it is "{label}"; add it to the line of'
                    f' "{label}", or "{OTHER_CLASSES}" for all that is not named',
                    (),
                )


def cost_of(costs: ClassCosts, label: str, said: str) -> float:
    """What a prediction costs: what the line of the label names, or its `OTHER_CLASSES`, or those of the line
    `OTHER_CLASSES`; NaN where nothing is said."""
    own = costs.get(label, {})
    if label == said != OTHER_CLASSES and said not in own:
        return 0.0
    found = (
        line[name] for line in (own, costs.get(OTHER_CLASSES, {})) for name in (said, OTHER_CLASSES) if name in line
    )
    return next(found, math.nan)


def by_cell(costs: ClassCosts, classes: Iterable[str]) -> list[list[float]]:
    """The costs as a table of labels by predictions, the last column being predictions that are none of the classes."""
    names = [*classes]
    return [[cost_of(costs, label, said) for said in (*names, OTHER_CLASSES)] for label in names]
