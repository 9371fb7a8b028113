"""watchkeeper keeps machine-learning models in production good over time.

    import watchkeeper as wk

    wk.compare(reference, current)                 what changed between two tables, judged
    wk.evaluate(predictions, outcomes)             how good predictions were, in segments and over time
    wk.profile(reference).save("train.baseline")   what comparing needs of a table, to be kept
    wk.Client("folder or address", model="m")      logs predictions and labels from a serving process

Importing this is quick and does nothing; each name loads what it needs on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from watchkeeper.client import Client
    from watchkeeper.comparison import Baseline, Comparison, compare, profile
    from watchkeeper.evaluation import Evaluation, evaluate

    __version__: str

__all__ = ["Baseline", "Client", "Comparison", "Evaluation", "__version__", "compare", "evaluate", "profile"]

_HOMES = {
    "Baseline": "watchkeeper.comparison",
    "Client": "watchkeeper.client",
    "Comparison": "watchkeeper.comparison",
    "Evaluation": "watchkeeper.evaluation",
    "compare": "watchkeeper.comparison",
    "evaluate": "watchkeeper.evaluation",
    "profile": "watchkeeper.comparison",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        value = import_module("importlib.metadata").version("watchkeeper")
    elif name in _HOMES:
        value = getattr(import_module(_HOMES[name]), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
