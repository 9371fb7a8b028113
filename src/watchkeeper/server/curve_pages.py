"""The page of a classifier's curves: how well its scores tell apart, what they say, and its confusion matrix."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Depends, Request
from fastapi.responses import HTMLResponse

from watchkeeper import charts, words
from watchkeeper.costs import OTHER_CLASSES
from watchkeeper.events import score_of
from watchkeeper.history import champion_at
from watchkeeper.metrics.multiclass import matrix
from watchkeeper.profiles import Key, Profile, Subject, merge
from watchkeeper.records import ALL
from watchkeeper.schema import ModelConfig, Task
from watchkeeper.server import reads
from watchkeeper.server.pages import choices
from watchkeeper.server.rendering import embedded, page
from watchkeeper.server.services import RequestError, Services, services
from watchkeeper.stats import calibration
from watchkeeper.stats.confusion import Confusion
from watchkeeper.stats.grid import Floats, Grid
from watchkeeper.stats.scores import Scores, precision_recall_band, roc_band
from watchkeeper.store.state import Transaction
from watchkeeper.tasks import NEGATIVE, POSITIVE
from watchkeeper.windows import DAY, Window, floor

router = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)
Served = Annotated[Services, Depends(services)]

LABELS = (NEGATIVE, POSITIVE)
RANGES = (14, 30, 90)
ALPHA = 0.025
MOST_CLASSES = 6
"""Classes that are drawn: those with the most labels."""

Stored = list[tuple[Key, Profile]]


@dataclass(frozen=True, slots=True)
class Drawn:
    """Scores by the name of their curve, and the rows of the confusion matrix with their names."""

    scores: dict[str, Scores]
    names: Sequence[str]
    cells: Floats

    @property
    def table(self) -> dict[str, Any]:
        """The confusion matrix as a table of the page; nothing without rows."""
        if not self.cells.sum():
            return {}
        columns = [*self.names, OTHER_CLASSES][: self.cells.shape[1]]
        return {"columns": columns, "rows": list(zip(self.names, self.cells.astype(int).tolist(), strict=True))}


@router.get("/models/{model}/curves")
def curves(request: Request, served: Served, model: str, days: int = 30) -> HTMLResponse:
    """What the scores of the last days' labelled predictions are worth, and what was predicted as what."""
    config = served.model(model)
    if config.task is Task.REGRESSION:
        raise RequestError(404, f"{model} is no classifier, so it has no curves", "look at the model's page")
    if not 2 <= days <= 366:
        raise RequestError(422, f"days must be 2 to 366, found {days}", "correct the address")
    with served.state.snapshot() as tx:
        last = reads.newest(tx, model) or served.clock()
        end = floor(last - timedelta(microseconds=1), DAY) + DAY
        window = Window(end - days * DAY, end)
        drawn = (binary if config.task is Task.BINARY else classes)(tx, model, config, window)
    found = drawn.scores
    reliable = {name: calibration.by_mass(s, ALPHA) for name, s in found.items()}
    return page(
        request, "curves.html", model=model, config=config, whole=words.window(window),
        rows=[(name, int(s.positives.sum()), int(s.negatives.sum())) for name, s in found.items()],
        range_links=choices(request, {"days": str(days)})("days", [(str(n), f"{n} days") for n in RANGES]),
        roc=embedded(charts.roc({name: roc_band(s, ALPHA) for name, s in found.items()})),
        precision_recall=embedded(
            charts.precision_recall({name: precision_recall_band(s, ALPHA) for name, s in found.items()})
        ),
        reliability=embedded(charts.reliability(reliable)),
        confusion=embedded(charts.confusion(drawn.names, drawn.cells)),
        cells=drawn.table, reliable=[line for name, curve in reliable.items() for line in _lines(name, curve)],
    )  # fmt: skip


def binary(tx: Transaction, model: str, config: ModelConfig, window: Window) -> Drawn:
    """The window in two halves, beside the champion's reference data."""
    champion = champion_at(tx.champions(model), window.end)
    grid = tx.grids(model).get("score") or Grid.unit()
    stored = tx.profiles(model, window, column="score", label=LABELS)
    middle = window.start + (window.length // DAY + 1) // 2 * DAY
    found = {
        words.window(half).replace(" UTC", ""): _scores(_within(stored, half), grid)
        for half in (Window(window.start, middle), Window(middle, window.end))
    }
    if champion and (reference := tx.profiles(model, None, version=champion, column="score", label=LABELS)):
        found = {f"reference of {champion}": _scores(reference, grid), **found}
    counts = Confusion.at(_scores(stored, grid), config.threshold)
    cells = [[counts.true_negatives, counts.false_positives], [counts.false_negatives, counts.true_positives]]
    return Drawn(found, ("negative", "positive"), np.array(cells, dtype=float))


def classes(tx: Transaction, model: str, config: ModelConfig, window: Window) -> Drawn:
    """The most frequent classes, each against the rest."""
    grids, columns = tx.grids(model), {name: score_of(name) for name in config.classes}
    stored = tx.profiles(model, window, column=(*columns.values(), "prediction"))
    found = {
        name: _scores([part for part in stored if part[0].column == column], grids.get(column) or Grid.unit())
        for name, column in columns.items()
    }
    frequent = sorted(found, key=lambda name: -float(found[name].positives.sum()))[:MOST_CLASSES]
    kept = _by_label(part for part in stored if part[0].column == "prediction" and part[0].label != ALL)
    counted = matrix(kept)
    strange = counted.outside[:, None] if counted.outside.any() else np.zeros((len(counted.classes), 0))
    return Drawn(
        {name: found[name] for name in frequent if found[name].n},
        counted.classes,
        np.concatenate([counted.counts, strange], axis=1),
    )


def _lines(name: str, curve: calibration.Reliability) -> Iterator[dict[str, Any]]:
    """A reliability curve as lines of a table."""
    for rows, said, was, low, high in zip(curve.rows, curve.said, curve.was, curve.low, curve.high, strict=True):
        yield {"name": name, "rows": int(rows), "said": said, "was": was, "low": low, "high": high}


def _within(stored: Stored, window: Window) -> Stored:
    return [(key, profile) for key, profile in stored if key.start is not None and key.start in window]


def _by_label(stored: Iterable[tuple[Key, Profile]]) -> dict[str, Profile]:
    parts: dict[str, list[Profile]] = {}
    for key, profile in stored:
        parts.setdefault(key.label, []).append(profile)
    return {label: whole for label, own in parts.items() if (whole := merge(own)) is not None}


def _scores(stored: Stored, grid: Grid) -> Scores:
    return Subject(None, None, grid, 0.5, 1, 0, _by_label(stored), {}).scores
