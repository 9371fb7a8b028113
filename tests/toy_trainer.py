"""Trainers for the tests: each is named in a job as `toy_trainer:NAME` and runs in a process of its own."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa


class Toy:
    """Answers by rule: a constant, the good score of the column `score`-to-be, or nonsense."""

    def __init__(self, rule: dict[str, Any]) -> None:
        self.rule = rule

    def scores(self, features: pa.Table) -> Any:
        n = features.num_rows
        match self.rule["kind"]:
            case "constant":
                return np.full(n, self.rule["value"])
            case "shape":
                return np.full((n, 2), 0.5)
            case "nan":
                return np.full(n, np.nan)
            case "raise":
                raise RuntimeError("the model has a bad day")
            case "by x":
                return np.clip(np.asarray(features.column("x").to_numpy(), dtype=float), 0.01, 0.99)
        raise AssertionError(self.rule)


def write(folder: Path, **rule: Any) -> str:
    (folder / "rule.json").write_text(json.dumps(rule))
    return "toy_trainer:load"


def load(folder: Path) -> Toy:
    return Toy(json.loads((folder / "rule.json").read_text()))


def constant(rows: pa.Table, folder: Path) -> str:
    return write(folder, kind="constant", value=float(np.mean(rows.column("label").to_numpy())))


def by_x(rows: pa.Table, folder: Path) -> str:
    return write(folder, kind="by x")


def wrong(rows: pa.Table, folder: Path) -> str:
    return write(folder, kind="constant", value=0.99)


def not_a_number(rows: pa.Table, folder: Path) -> str:
    return write(folder, kind="nan")


def two_columns(rows: pa.Table, folder: Path) -> str:
    return write(folder, kind="shape")


def nothing(rows: pa.Table, folder: Path) -> None:
    return None


def no_loader(rows: pa.Table, folder: Path) -> str:
    return "toy_trainer:there_is_none"


def raises(rows: pa.Table, folder: Path) -> str:
    raise RuntimeError("there is not enough memory,\nit seems")


def leaves(rows: pa.Table, folder: Path) -> str:
    sys.exit(3)


def dies(rows: pa.Table, folder: Path) -> str:
    os._exit(9)


def sleeps(rows: pa.Table, folder: Path) -> str:
    time.sleep(60)
    return "toy_trainer:load"
