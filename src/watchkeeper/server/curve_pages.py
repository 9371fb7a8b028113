"""The page of a binary classifier's curves: how well its scores tell apart, what they say, and its confusion matrix."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Annotated

import numpy as np
from fastapi import APIRouter, Depends, Request
from fastapi.responses import HTMLResponse

from watchkeeper import charts, words
from watchkeeper.history import champion_at
from watchkeeper.profiles import Key, Profile, Subject, merge
from watchkeeper.schema import Task
from watchkeeper.server import reads
from watchkeeper.server.pages import choices
from watchkeeper.server.rendering import embedded, page
from watchkeeper.server.services import RequestError, Services, services
from watchkeeper.stats import calibration
from watchkeeper.stats.confusion import Confusion
from watchkeeper.stats.grid import Grid
from watchkeeper.stats.scores import Scores, precision_recall_band, roc_band
from watchkeeper.tasks import NEGATIVE, POSITIVE
from watchkeeper.windows import DAY, Window, floor

router = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)
Served = Annotated[Services, Depends(services)]

LABELS = (NEGATIVE, POSITIVE)
RANGES = (14, 30, 90)
ALPHA = 0.025


@router.get("/models/{model}/curves")
def curves(request: Request, served: Served, model: str, days: int = 30) -> HTMLResponse:
    """The labelled predictions of the last days in two halves, beside the champion's reference data."""
    config = served.model(model)
    if config.task is not Task.BINARY:
        raise RequestError(404, f"{model} is no binary classifier, so it has no curves", "look at the model's page")
    if not 2 <= days <= 366:
        raise RequestError(422, f"days must be 2 to 366, found {days}", "correct the address")
    with served.state.snapshot() as tx:
        last = reads.newest(tx, model) or served.clock()
        end = floor(last - timedelta(microseconds=1), DAY) + DAY
        champion = champion_at(tx.champions(model), end)
        grid = tx.grids(model).get("score") or Grid.unit()
        reference = tx.profiles(model, None, version=champion, column="score", label=LABELS) if champion else []
        stored = tx.profiles(model, Window(end - days * DAY, end), column="score", label=LABELS)
    middle = end - (days // 2) * DAY
    halves = {
        w: [part for part in stored if _within(part, w)]
        for w in (Window(end - days * DAY, middle), Window(middle, end))
    }
    found = {words.window(w).replace(" UTC", ""): _scores(parts, grid) for w, parts in halves.items()}
    if reference:
        found = {f"reference of {champion}": _scores(reference, grid), **found}
    counts = Confusion.at(_scores(stored, grid), config.threshold)
    cells = [[counts.true_negatives, counts.false_positives], [counts.false_negatives, counts.true_positives]]
    whole = words.window(Window(end - days * DAY, end))
    return page(
        request, "curves.html", model=model, threshold=config.threshold, whole=whole,
        rows=[(name, int(s.positives.sum()), int(s.negatives.sum())) for name, s in found.items()],
        range_links=choices(request, {"days": str(days)})("days", [(str(n), f"{n} days") for n in RANGES]),
        roc=embedded(charts.roc({name: roc_band(s, ALPHA) for name, s in found.items()})),
        precision_recall=embedded(
            charts.precision_recall({name: precision_recall_band(s, ALPHA) for name, s in found.items()})
        ),
        reliability=embedded(charts.reliability({name: calibration.by_mass(s, ALPHA) for name, s in found.items()})),
        confusion=embedded(charts.confusion(["negative", "positive"], np.array(cells, dtype=float))),
    )  # fmt: skip


def _within(part: tuple[Key, Profile], window: Window) -> bool:
    return part[0].start is not None and part[0].start in window


def _scores(parts: Iterable[tuple[Key, Profile]], grid: Grid) -> Scores:
    by_label: dict[str, list[Profile]] = {}
    for key, profile in parts:
        by_label.setdefault(key.label, []).append(profile)
    merged = {label: whole for label, own in by_label.items() if (whole := merge(own)) is not None}
    return Subject(None, None, grid, 0.5, 1, 0, merged, {}).scores
