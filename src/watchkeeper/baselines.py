"""Baselines: what is kept of a reference table, enough to compare any data with it without reading it again."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from watchkeeper import policy
from watchkeeper.config import load, only_model
from watchkeeper.errors import DataError
from watchkeeper.monitors import MODEL_COLUMNS, Watch, plan
from watchkeeper.profiles import Profile
from watchkeeper.schema import AGE, ColumnConfig, Config, Feature, ModelConfig
from watchkeeper.stats.grid import INVALID, Grid
from watchkeeper.store import sources
from watchkeeper.store.tallies import sample
from watchkeeper.tables import Side, counts, fitted, infer, near, truths

ENDING = ".baseline"
"""Of the files that baselines are saved in."""
FORMAT = 1


@dataclass(frozen=True)
class Baseline:
    """What is kept of a reference table: counts on grids, and which columns it had.

    Attributes:
        config: the configuration that was given, or None: then `columns` were found in the data.
        columns: what each compared column holds.
        skipped: columns that were left out, with the reason.
        names: all columns of the table.
        truths: those that are true or false.
        rows: how many rows there are.
        grids, profiles: by feature.
    """

    config: ModelConfig | None
    columns: Mapping[str, ColumnConfig]
    skipped: Mapping[str, str]
    names: tuple[str, ...]
    truths: tuple[str, ...]
    rows: int
    grids: Mapping[str, Grid]
    profiles: Mapping[str, Profile]

    @property
    def model(self) -> ModelConfig:
        return self.config or default_model(self.columns)

    @property
    def watches(self) -> list[Watch]:
        """Every look that the configuration, or else the default policy, asks for; of any table."""
        return plan(self.model) if self.model.columns else []

    def save(self, path: str | Path) -> None:
        """Write it to a file whose name must end in `.baseline`. Raises DataError where it cannot be written."""
        if Path(path).suffix != ENDING:
            raise DataError(f'a baseline is saved in a file whose name ends in "{ENDING}", found {path}')
        body = {
            "format": FORMAT,
            "config": self.config.model_dump(mode="json") if self.config else None,
            "columns": {name: column.model_dump(mode="json") for name, column in self.columns.items()},
            "skipped": dict(self.skipped),
            "names": self.names,
            "truths": self.truths,
            "rows": self.rows,
            "grids": {name: grid.to_dict() for name, grid in self.grids.items()},
            "profiles": {name: base64.b64encode(p.to_bytes()).decode() for name, p in self.profiles.items()},
        }
        write(path, json.dumps(body))

    @classmethod
    def load(cls, path: str | Path) -> Baseline:
        """Read what `save` wrote. Raises DataError where it cannot be read."""
        try:
            body = json.loads(Path(path).read_text(encoding="utf-8"))
            if body["format"] != FORMAT:
                raise DataError(f"{path} is of format {body['format']}; this release reads format {FORMAT}")
            return cls(
                config=ModelConfig.model_validate(body["config"]) if body["config"] else None,
                columns={name: ColumnConfig.model_validate(column) for name, column in body["columns"].items()},
                skipped=body["skipped"],
                names=tuple(body["names"]),
                truths=tuple(body["truths"]),
                rows=body["rows"],
                grids={name: Grid.from_dict(grid) for name, grid in body["grids"].items()},
                profiles={name: Profile.from_bytes(base64.b64decode(p)) for name, p in body["profiles"].items()},
            )
        except OSError as problem:
            raise DataError(f"{path} cannot be read: {problem.strerror}") from problem
        except (ValueError, KeyError, TypeError, ValidationError) as problem:
            raise DataError(f"{path} is no baseline, or a damaged one; make it anew from the reference") from problem


def profile(
    reference: Any,
    *,
    config: ModelConfig | Config | str | Path | None = None,
    columns: Sequence[str] | None = None,
) -> Baseline:
    """Keep of a reference table what comparing needs: `compare(profile("train.parquet"), "today.parquet")`.

    Args:
        reference, config, columns: as in `compare`.

    Raises DataError where the data cannot be read, ConfigError where the configuration is wrong.
    """
    model = None if config is None else _model(config)
    connection = sources.connect()
    try:
        return _profile(Side("the reference", sources.read(connection, reference, "reference")), model, columns)
    finally:
        connection.disconnect()


def _model(config: ModelConfig | Config | str | Path) -> ModelConfig:
    if isinstance(config, ModelConfig):
        return config
    if isinstance(config, Config):
        return only_model(config, "the configuration")[1]
    return only_model(load(Path(config)), str(config))[1]


def _profile(side: Side, model: ModelConfig | None, only: Sequence[str] | None) -> Baseline:
    rows, names = side.rows, tuple(side.table.columns)
    probe = Side(side.title, sample(side.table))
    if model is None:
        columns, skipped = infer(side, probe, only)
    else:
        columns, skipped = _configured(model, names, only), {}
    features = (model or default_model(columns)).features
    wanted = {name: f for name, f in features.items() if f.column in columns and f.descriptor != AGE}
    if model:
        watched = {watch.column for watch in plan(model)} & set(MODEL_COLUMNS) & set(names)
        wanted |= {name: Feature(name, MODEL_COLUMNS[name]) for name in watched}
    true = truths(side)
    grids = fitted(probe, wanted, true) if wanted else {}
    profiles = counts(side, wanted, grids, true) if wanted else {}
    for name, feature in wanted.items():
        if profiles[name].special(INVALID) == profiles[name].n:
            skipped[feature.column] = f"it is {feature.kind} in the configuration, and nothing in the reference is"
            del profiles[name]
    return Baseline(model, columns, skipped, names, true, rows, grids, profiles)


def _configured(model: ModelConfig, names: Sequence[str], only: Sequence[str] | None) -> dict[str, ColumnConfig]:
    """The columns of a configuration that are asked for."""
    for name in model.columns:
        if name not in names:
            raise DataError(f'the configuration has a column "{name}" and the reference has none; {near(name, names)}')
    for name in only or ():
        if name not in model.columns:
            raise DataError(f'the configuration has no column "{name}"; {near(name, model.columns)}')
    return {name: column for name, column in model.columns.items() if only is None or name in only}


def default_model(columns: Mapping[str, ColumnConfig]) -> ModelConfig:
    """What is looked at without a configuration. Not validated: a column of a plain table may bear any name."""
    model = ModelConfig.model_construct(columns=dict(columns))
    return model.model_copy(update={"monitors": policy.for_tables({f.kind for f in model.features.values()})})


def write(path: str | Path, text: str) -> None:
    """Write a file. Raises DataError where that cannot be done."""
    try:
        Path(path).write_text(text, encoding="utf-8")
    except OSError as problem:
        raise DataError(f"{path} cannot be written: {problem.strerror}") from problem
