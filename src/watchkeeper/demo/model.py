"""The demo's model: gradient-boosted trees that say how likely a flight is to arrive over 15 minutes late."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier
from threadpoolctl import threadpool_limits

CATEGORIES = ("carrier", "origin", "dest", "weekday")
NUMBERS = ("hour", "distance", "plane_age", "temp", "dewp", "humid", "wind_speed", "precip", "pressure", "visib")
LOADER = "watchkeeper.demo.model:load"


class FlightModel:
    """A fitted classifier and the codes of its categories; a category it has not seen counts as missing."""

    def __init__(self, classifier: Any, codes: dict[str, dict[str, int]]) -> None:
        self.classifier, self.codes = classifier, codes

    def scores(self, features: pa.Table) -> NDArray[np.float64]:
        """The probability of each flight to be late, shape (rows,)."""
        with threadpool_limits(limits=1):
            found: NDArray[np.float64] = self.classifier.predict_proba(_matrix(features, self.codes))[:, 1]
        return found


def train(rows: pa.Table, folder: Path) -> str:
    """Fit on labelled flights, write the model into the folder, and name its loader."""
    codes = {
        name: {value: i for i, value in enumerate(sorted(set(rows.column(name).drop_null().to_pylist())))}
        for name in CATEGORIES
    }
    classifier = HistGradientBoostingClassifier(
        max_iter=60, learning_rate=0.12, max_leaf_nodes=31, min_samples_leaf=40, l2_regularization=5.0,
        categorical_features=list(range(len(CATEGORIES))), early_stopping=False, random_state=0,
    )  # fmt: skip
    with threadpool_limits(limits=1):  # more threads than idle cores make it many times slower
        classifier.fit(_matrix(rows, codes), rows.column("label").to_numpy())
    joblib.dump((classifier, codes), folder / "model.joblib")
    return LOADER


def load(folder: Path) -> FlightModel:
    """The model that `train` wrote into the folder."""
    return FlightModel(*joblib.load(folder / "model.joblib"))


def _matrix(rows: pa.Table, codes: dict[str, dict[str, int]]) -> NDArray[np.float64]:
    columns = [
        np.array([codes[name].get(value, np.nan) for value in rows.column(name).to_pylist()], dtype=float)
        for name in CATEGORIES
    ]
    columns += [rows.column(name).to_numpy().astype(float) for name in NUMBERS]
    return np.column_stack(columns)
