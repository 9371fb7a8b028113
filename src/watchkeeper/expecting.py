"""Estimating from features, in the loop: what is expected of each grain's rows is kept as profiles beside their own.

For models with `estimation: features`. Trees are fitted to at most `REFERENCE` labelled rows of a version's reference,
once in the life of a process, by a fixed seed, so that every process has the same (`adaptation`). At a tick at most
`SAMPLE` rows of each version are drawn from each grain that has ended or got rows late, and what is expected of them is
stored as counts; metrics do the rest (`metrics.expected`). So a window is estimated of any number of grains, and again,
without asking the trees.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from watchkeeper import summarising, training
from watchkeeper.errors import ModelError, StateError
from watchkeeper.metrics.expected import ABSOLUTE, EFFECTIVE, FEATURES, LABELS, ROOT, STRANGE, UNIT, WAS, WEIGHTED
from watchkeeper.profiles import Profile, numeric
from watchkeeper.records import ALL, row_id
from watchkeeper.registry import Registry
from watchkeeper.schema import Feature, Kind, ModelConfig, Task
from watchkeeper.stats.grid import Floats, Grid
from watchkeeper.store.backends import overwrite
from watchkeeper.store.log import Log
from watchkeeper.store.sampling import sample
from watchkeeper.store.sources import Part, show
from watchkeeper.store.state import State, Transaction
from watchkeeper.windows import Window, floor

REFERENCE, SAMPLE = 20_000, 5000
"""Labelled rows that trees are fitted to, and rows of a grain and version that they are asked about, at most."""
FEWEST = 1000
"""Labelled rows of a reference below which the scores alone are asked."""
GRAINS = 24
"""Grains that a tick looks at, at most, the latest ones: what is behind for longer is estimated from scores alone."""
CATEGORIES = 200
"""Values of a categorical feature that are told apart, the most frequent ones."""
COLUMNS = (FEATURES, WEIGHTED, ABSOLUTE, ROOT)
_ADAPTATION = "watchkeeper.adaptation"
"""What is imported only where it is asked for, since it needs what need not be installed."""
FOLDER = "references"
"""Where the labelled rows of references are, in the store: `references/MODEL/VERSION.parquet`."""

Grain = tuple[datetime, str, int]
"""The start of a grain, a version, and how many rows it has there."""


class Expecting:
    """What is expected of the rows of one configuration's models.

    Args:
        store: the folder of the store.
        log_of: where the events of a model are.
    """

    def __init__(self, store: Path, state: State, log_of: Callable[[str], Log], registry: Registry) -> None:
        self._store, self._state, self._log_of, self._registry = store, state, log_of, registry
        self._fitted: dict[tuple[str, str], Fitted | None] = {}

    def keep(self, name: str, model: ModelConfig, version: str, reference: pa.Table) -> None:
        """Keep the labelled rows of a version's reference, if they will be asked for."""
        answer = _answer(model)
        if model.estimation == "scores" or not {answer, "label"} <= {*reference.column_names}:
            return
        held = [n for n in (*_features(model), answer, "label") if n in reference.column_names]
        rows = reference.select(held)
        rows = rows.filter(pc.and_(pc.is_valid(rows.column(answer)), pc.is_valid(rows.column("label"))))
        path = self._path(name, version)
        path.parent.mkdir(parents=True, exist_ok=True)
        sink = pa.BufferOutputStream()
        pq.write_table(_drawn(rows), sink)
        overwrite(path, sink.getvalue().to_pybytes())

    def lacks(self, name: str, model: ModelConfig, version: str) -> bool:
        """Whether a version's reference will be asked for, and none of its rows were kept."""
        return model.estimation == "features" and not self._path(name, version).is_file()

    def expect(self, name: str, model: ModelConfig, now: datetime) -> int:
        """Store what is expected of the grains that are due; of how many rows that was asked.

        Nothing is locked while trees are asked. What dies before it is stored is asked again or, where a later tick
        has judged those grains, stays unknown: they are then estimated from the scores alone.
        """
        with self._state.snapshot() as tx:
            due, grids = _due(tx, name, model, now), tx.grids(name)
        grid = grids.get("score" if model.task is Task.BINARY else "error")
        parts: list[Part] = []
        asked = 0
        if grid is None or not due:
            return 0
        for start, version, rows in due:
            known = self._known(name, model, version, grid)
            if known is None:
                continue
            drawn = sample(
                self._log_of(name), name, Window(start, start + model.grain_length), version,
                [_answer(model), *_features(model)], min(SAMPLE / max(rows, 1), 1.0),
            )  # fmt: skip
            if drawn.num_rows:
                asked += drawn.num_rows
                parts += [Part(column, version, label, start, p) for column, label, p in known.of_rows(drawn)]
                parts += [Part(column, version, label, None, p) for column, label, p in known.of_reference]
        with self._state.transaction() as tx:
            tx.put_grids(name, dict.fromkeys(COLUMNS, grid))
            tx.put_profiles(name, parts, sorted({start for start, *_ in due}), COLUMNS)
        return asked

    def forget(self) -> None:
        """Let go of what was fitted: what it was fitted to has changed."""
        self._fitted.clear()

    def _known(self, name: str, model: ModelConfig, version: str, grid: Grid) -> Fitted | None:
        if (name, version) not in self._fitted:
            rows = self._reference(name, model, version)
            fit = Classified if model.task is Task.BINARY else Predicted
            enough = rows is not None and rows.num_rows >= FEWEST
            self._fitted[name, version] = fit(model, rows, grid) if enough else None
        return self._fitted[name, version]

    def _reference(self, name: str, model: ModelConfig, version: str) -> pa.Table | None:
        """The labelled rows of a version's reference: those that were kept of it or, of a version that was trained
        here, those that it was held against when it was gated."""
        path = self._path(name, version)
        if path.is_file():
            return pq.read_table(path)
        try:
            action = self._registry.manifest(name, version).facts.get("action", "")
        except ModelError:
            return None
        folder = self._store / "jobs" / str(action)
        if not action or not all((folder / part).is_file() for part in ("holdout.parquet", "scores.parquet")):
            return None
        scores = pq.read_table(folder / "scores.parquet")
        rows = training.held_out(folder, _features(model))
        if rows.num_rows != scores.num_rows:  # some were erased, so that which score is whose is not known any more
            return None
        return _drawn(
            rows.append_column("score", scores.column("candidate")).append_column("label", scores.column("label"))
        )

    def _path(self, name: str, version: str) -> Path:
        return self._store / FOLDER / name / f"{row_id('reference', version)}.parquet"


Kept = tuple[str, str, Profile]
"""A column, a label, and the profile under both."""


class Fitted:
    """What was fitted to one version's reference, and `of_reference`, the profiles of that."""

    of_reference: list[Kept]

    def __init__(self, model: ModelConfig, rows: pa.Table, grid: Grid) -> None:
        self._adaptation, self._answer, self._grid = load(), _answer(model), grid
        self._encoder = Encoder(model, rows)
        self._inputs = self._encoder.matrix(rows)

    def of_rows(self, rows: pa.Table) -> list[Kept]:
        """The profiles of what is expected of some rows."""
        raise NotImplementedError

    def _told(self, column: str, inputs: Floats, effective: float) -> list[Kept]:
        """How many rows are unlike all of the reference, and how many its weighted rows are worth."""
        strange, rows = self._encoder.strange(inputs), len(inputs)
        found = (STRANGE, int(strange.sum()) * UNIT), (EFFECTIVE, round(effective * rows * UNIT))
        return [(column, label, numeric(self._grid, {0: count}, None, None)) for label, count in found]


class Classified(Fitted):
    """Of a binary classifier: the share of positives among rows like these, by trees and by weights."""

    def __init__(self, model: ModelConfig, rows: pa.Table, grid: Grid) -> None:
        super().__init__(model, rows, grid)
        scores, labels = (_numbers(rows.column(name)) for name in ("score", "label"))
        self._rows = self._adaptation.Rows(self._inputs, scores, labels, self._encoder.categorical)
        self._trees = self._adaptation.FeatureAware(self._rows)
        was, fitted = (self._by_label(FEATURES, scores, side) for side in (labels, self._trees.fitted))
        self.of_reference = [*fitted, *((column, f"{WAS}{label}", p) for column, label, p in was)]

    def of_rows(self, rows: pa.Table) -> list[Kept]:
        scores, inputs = _numbers(rows.column("score")), self._encoder.matrix(rows)
        weight = self._adaptation.weights(self._rows, inputs)
        by_weights = self._adaptation.reweighted(self._rows, weight, scores)
        return [
            *self._by_label(FEATURES, scores, self._trees.shares(inputs, scores)),
            *self._by_label(WEIGHTED, scores, by_weights),
            *self._told(FEATURES, inputs, self._adaptation.effective(weight)),
        ]

    def _by_label(self, column: str, scores: Floats, shares: Floats) -> list[Kept]:
        return [
            (column, label, _profile(self._grid, scores, part))
            for label, part in zip(LABELS, (1 - shares, shares), strict=True)
        ]


class Predicted(Fitted):
    """Of a regression: how large an error is expected of each row, and the reference's errors, weighted."""

    def __init__(self, model: ModelConfig, rows: pa.Table, grid: Grid) -> None:
        super().__init__(model, rows, grid)
        said, labels = (_numbers(rows.column(name)) for name in ("prediction", "label"))
        self._errors = said - labels
        inputs = np.column_stack([self._inputs, said])
        self._rows = self._adaptation.Rows(inputs, said, labels, self._encoder.categorical)
        self._trees = self._adaptation.ErrorModel(inputs, self._errors, self._encoder.categorical)
        self.of_reference = [
            *self._of_losses(self._trees.fitted),
            *((column, WAS, _profile(grid, self._errors)) for column in (ABSOLUTE, ROOT)),
        ]

    def of_rows(self, rows: pa.Table) -> list[Kept]:
        inputs = np.column_stack([self._encoder.matrix(rows), _numbers(rows.column("prediction"))])
        weight = self._adaptation.weights(self._rows, inputs)
        return [
            *self._of_losses(self._trees.expected(inputs)),
            (WEIGHTED, ALL, _profile(self._grid, self._errors, weight)),
            *self._told(ABSOLUTE, inputs[:, :-1], self._adaptation.effective(weight)),
        ]

    def _of_losses(self, losses: Floats) -> list[Kept]:
        absolute, squared = np.maximum(losses, 0.0)
        return [(ABSOLUTE, ALL, _profile(self._grid, absolute)), (ROOT, ALL, _profile(self._grid, squared**0.5))]


class Encoder:
    """The inputs of a model as numbers: categories as codes, the most frequent ones apart, and NaN where a value is
    missing, or a category not among these. Moments and texts are left out."""

    def __init__(self, model: ModelConfig, reference: pa.Table) -> None:
        here = {name: feature for name, feature in _features(model).items() if name in reference.column_names}
        self._numbers = {name: f for name, f in here.items() if f.kind is not Kind.CATEGORICAL}
        self._codes: dict[str, dict[str, int]] = {}
        for name, feature in here.items():
            if feature.kind is Kind.CATEGORICAL:
                counts = {
                    word: count for word, count in _counts(reference.column(name)) if word not in _unknown(feature)
                }
                ranked = sorted(counts, key=lambda word: (-counts[word], word))[:CATEGORIES]
                self._codes[name] = {word: code for code, word in enumerate(ranked)}
        self.categorical = tuple(range(len(self._numbers), len(here)))
        inputs = self.matrix(reference)
        known = ~np.isnan(inputs)
        self._low = np.min(np.where(known, inputs, np.inf), axis=0, initial=np.inf)
        self._high = np.max(np.where(known, inputs, -np.inf), axis=0, initial=-np.inf)
        self._whole = known.all(axis=0)

    def matrix(self, rows: pa.Table) -> Floats:
        """The inputs, shape (rows, columns)."""
        numbers = [_numbers(rows.column(name), feature.missing) for name, feature in self._numbers.items()]
        codes = [_coded(rows.column(name), known) for name, known in self._codes.items()]
        return np.column_stack([*numbers, *codes]) if numbers or codes else np.zeros((rows.num_rows, 0))

    def strange(self, inputs: Floats) -> NDArray[np.bool_]:
        """Which rows have a number beyond those of the reference, or lack a value that no row there lacked (so also: a
        category that none there had)."""
        found: NDArray[np.bool_] = (
            (inputs < self._low) | (inputs > self._high) | (np.isnan(inputs) & self._whole)
        ).any(axis=1)
        return found


def load() -> Any:
    """What estimates from features, which needs scikit-learn; StateError where that is not installed."""
    try:
        return import_module(_ADAPTATION)
    except ModuleNotFoundError as problem:
        raise StateError(
            f"estimation: features needs {problem.name}, which is not installed:"
            " pip install 'watchkeeper[estimation]', or leave estimation out of the configuration"
        ) from problem


def _due(tx: Transaction, name: str, model: ModelConfig, now: datetime) -> list[Grain]:
    """The grains, by version, that ended since the last look at the model or got rows late: the latest `GRAINS`."""
    grain, judged, span = model.grain_length, tx.cursor(name, "judged"), tx.span(name)
    ended = floor(now, grain)
    if span is None or span[0] >= ended:
        return []
    since = max(span[0], ended - GRAINS * grain)
    late, _ = summarising.late(tx, name)
    last = datetime.fromisoformat(judged) if judged else since
    kept = tx.profiles(name, Window(since, ended), column=_answer(model), label=ALL)
    return [
        (key.start, key.version, profile.n)
        for key, profile in kept
        if key.start is not None and (key.start >= last or key.start in late)
    ]


def _answer(model: ModelConfig) -> str:
    return "score" if model.task is Task.BINARY else "prediction"


def _features(model: ModelConfig) -> dict[str, Feature]:
    """The features that are asked: numbers and categories."""
    asked = (Kind.NUMERIC, Kind.CATEGORICAL)
    return {name: f for name, f in model.features.items() if f.kind in asked and not f.descriptor}


def _drawn(rows: pa.Table) -> pa.Table:
    """At most `REFERENCE` rows, drawn by a fixed seed."""
    if rows.num_rows <= REFERENCE:
        return rows
    chosen = np.random.default_rng(0).choice(rows.num_rows, REFERENCE, replace=False)
    return rows.take(pa.array(np.sort(chosen)))


def _profile(grid: Grid, values: Floats, parts: Floats | None = None) -> Profile:
    """Rows by bin; in thousandths, where parts of them are counted."""
    bins = grid.bins(values)
    if parts is None:
        found, counts = np.unique(bins, return_counts=True)
        return numeric(
            grid, dict(zip(found.tolist(), counts.tolist(), strict=True)), float(values.min()), float(values.max())
        )
    found, where = np.unique(bins, return_inverse=True)
    counts = np.round(np.bincount(where, parts) * UNIT).astype(np.int64)
    return numeric(grid, dict(zip(found.tolist(), counts.tolist(), strict=True)), None, None)


def _numbers(column: pa.ChunkedArray, missing: Sequence[float | str] = ()) -> Floats:
    found: Floats = pc.cast(column, pa.float64()).to_numpy().astype(float)
    unknown = [value for value in missing if isinstance(value, (int, float))]
    return np.where(np.isin(found, unknown), np.nan, found) if unknown else found


def _unknown(feature: Feature) -> set[str]:
    return {show(value) for value in feature.missing}


def _words(column: pa.ChunkedArray) -> tuple[list[str | None], NDArray[np.int64]]:
    """The different values as words, and which of them each row has, -1 for none."""
    encoded = column.combine_chunks().dictionary_encode()
    words = [None if value is None else show(value) for value in encoded.dictionary.to_pylist()]
    return words, encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)


def _counts(column: pa.ChunkedArray) -> list[tuple[str, int]]:
    words, at = _words(column)
    tallies = np.bincount(at[at >= 0], minlength=len(words))
    return [(word, int(count)) for word, count in zip(words, tallies, strict=True) if word is not None]


def _coded(column: pa.ChunkedArray, known: dict[str, int]) -> Floats:
    words, at = _words(column)
    codes = np.array(
        [*(known.get(word, np.nan) if word is not None else np.nan for word in words), np.nan], dtype=float
    )
    return codes[at]
