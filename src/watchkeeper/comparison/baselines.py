"""Baselines: what is kept of a reference table, enough to compare any data with it without reading it again."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from watchkeeper import policy
from watchkeeper.comparison.tables import (
    Side,
    boolean_columns,
    counts,
    counts_by_segment,
    fitted,
    infer,
    row_copies,
    segmentation,
)
from watchkeeper.config import load, only_model
from watchkeeper.errors import ConfigError, DataError, did_you_mean
from watchkeeper.monitors import Watch, plan
from watchkeeper.profiles import Profile
from watchkeeper.schema import AGE, ColumnConfig, Config, Feature, Kind, ModelConfig
from watchkeeper.segments import Segmentation
from watchkeeper.stats.copies import Copies
from watchkeeper.stats.grid import INVALID, Grid
from watchkeeper.store import sources, tallies
from watchkeeper.store.files import write
from watchkeeper.tasks import model_columns

ENDING = ".baseline"
"""Of the files that baselines are saved in."""
FORMAT = 1
ROWS = "all columns"
"""The name of whole rows beside those of columns."""


@dataclass(frozen=True)
class Baseline:
    """What is kept of a reference table: counts on grids, and which columns it had.

    Attributes:
        config: the configuration that was given, or None: then `columns` were found in the data.
        columns: what each compared column holds.
        skipped: columns that were left out, with the reason.
        names: all columns of the table.
        booleans: those of them that are true or false.
        rows: how many rows there are.
        grids, profiles: by feature.
        segmentations: the parts of the rows that are looked at apart.
        parted: the profiles of each segment, by its name and by feature.
        copies: how often rows occur, under `ROWS`, and values of ids, under the columns' names. With a configuration,
            of the columns that it says are unique.
    """

    config: ModelConfig | None
    columns: Mapping[str, ColumnConfig]
    skipped: Mapping[str, str]
    names: tuple[str, ...]
    booleans: tuple[str, ...]
    rows: int
    grids: Mapping[str, Grid]
    profiles: Mapping[str, Profile]
    segmentations: tuple[Segmentation, ...] = ()
    parted: Mapping[str, Mapping[str, Profile]] = field(default_factory=dict)
    copies: Mapping[str, Copies] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"Baseline({len(self.columns)} columns of {self.rows:,} rows)"

    @property
    def by_default_policy(self) -> bool:
        """Whether the default policy says what to look at."""
        return self.config is None or self.config.monitors is None

    @cached_property
    def model(self) -> ModelConfig:
        if self.config is None:
            return default_model(self.columns, [part.columns for part in self.segmentations])
        return self.config if self.config.monitors is not None else _with_monitors(self.config)

    @property
    def watches(self) -> list[Watch]:
        """Every look that the configuration, or else the default policy, asks for; of any table."""
        return plan(self.model, self.segmentations) if self.model.columns else []

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
            "booleans": self.booleans,
            "rows": self.rows,
            "grids": {name: grid.to_dict() for name, grid in self.grids.items()},
            "profiles": _written(self.profiles),
            "segments": [{"columns": part.columns, "values": part.values} for part in self.segmentations],
            "parted": {segment: _written(profiles) for segment, profiles in self.parted.items()},
            "copies": {name: {"times": [*c.times.items()], "part": c.part} for name, c in self.copies.items()},
        }
        write(path, json.dumps(body))

    @classmethod
    def load(cls, path: str | Path) -> Baseline:
        """Read what `save` wrote. Raises DataError where it cannot be read."""
        try:
            body = json.loads(Path(path).read_text(encoding="utf-8"))
            if body["format"] != FORMAT:
                raise DataError(
                    f"{path} is of format {body['format']}; this release reads format {FORMAT}: make it anew"
                )
            return cls(
                config=ModelConfig.model_validate(body["config"]) if body["config"] else None,
                columns={name: ColumnConfig.model_validate(column) for name, column in body["columns"].items()},
                skipped=body["skipped"],
                names=tuple(body["names"]),
                booleans=tuple(body["booleans"]),
                rows=body["rows"],
                grids={name: Grid.from_dict(grid) for name, grid in body["grids"].items()},
                profiles=_read(body["profiles"]),
                segmentations=tuple(
                    Segmentation(tuple(part["columns"]), tuple(map(tuple, part["values"]))) for part in body["segments"]
                ),
                parted={segment: _read(profiles) for segment, profiles in body["parted"].items()},
                copies={name: Copies(dict(c["times"]), c["part"]) for name, c in body["copies"].items()},
            )
        except OSError as problem:
            raise DataError(f"{path} cannot be read: {problem.strerror}; check the path") from problem
        except (ValueError, KeyError, TypeError, ValidationError) as problem:
            raise DataError(f"{path} is no baseline, or a damaged one; make it anew from the reference") from problem


def _written(profiles: Mapping[str, Profile]) -> dict[str, str]:
    return {name: base64.b64encode(profile.to_bytes()).decode() for name, profile in profiles.items()}


def _read(profiles: Mapping[str, str]) -> dict[str, Profile]:
    return {name: Profile.from_bytes(base64.b64decode(text)) for name, text in profiles.items()}


Segments = Sequence[str | Sequence[str]]


def profile(
    reference: Any,
    *,
    config: ModelConfig | Config | str | Path | None = None,
    columns: Sequence[str] | None = None,
    segments: Segments = (),
) -> Baseline:
    """Keep of a reference table what comparing needs: `compare(profile("train.parquet"), "today.parquet")`.

    Args:
        reference, config, columns, segments: as in `compare`.

    Raises DataError where the data cannot be read, ConfigError where the configuration is wrong.
    """
    connection = sources.connect()
    try:
        return profiled(connection, reference, config=config, columns=columns, segments=segments)
    finally:
        connection.disconnect()


def profiled(
    connection: Any,
    reference: Any,
    *,
    config: ModelConfig | Config | str | Path | None,
    columns: Sequence[str] | None,
    segments: Segments,
) -> Baseline:
    """What `profile` keeps, of a reference that is read through this connection."""
    if isinstance(columns, str):
        raise ConfigError(f'columns are a list of names, found "{columns}"; write ["{columns}"]')
    model = None if config is None else _model(config)
    if model and segments:
        raise ConfigError("segments are given twice; name them in the configuration, or leave that out", ("segments",))
    return _profile(Side("the reference", sources.read(connection, reference, "reference")), model, columns, segments)


def _model(config: ModelConfig | Config | str | Path) -> ModelConfig:
    if isinstance(config, ModelConfig):
        return config
    if isinstance(config, Config):
        return only_model(config, "the configuration")[1]
    if not isinstance(config, (str, Path)):
        raise ConfigError(f"config is a {type(config).__name__}; give the path of a configuration, or a ModelConfig")
    return only_model(load(Path(config)), str(config))[1]


def _profile(side: Side, model: ModelConfig | None, only: Sequence[str] | None, segments: Segments) -> Baseline:
    rows, names = side.rows, tuple(side.table.columns)
    whole = model is None and only is None and len(names) > 1
    of_rows, keys = row_copies(side, names, rows) if whole else (None, None)
    probe = side.sample(keys)
    if model is None:
        columns, skipped, ids = infer(side, probe, only)
    else:
        columns, skipped = _configured(model, names, only), {}
        ids = [name for name, column in columns.items() if column.unique]
    features = (model or default_model(columns)).features
    wanted = {name: f for name, f in features.items() if f.column in columns and f.descriptor != AGE}
    if model:
        own = model_columns(model)
        watched = {watch.column for watch in plan(model)} & own.keys() & set(names)
        wanted |= {name: Feature(name, own[name]) for name in watched}
    booleans = boolean_columns(side)
    with ThreadPoolExecutor(1) as beside:
        fitting = beside.submit(fitted, probe, wanted, booleans)
        if probe.table is side.table:  # both would ask one connection, which answers one question at a time
            fitting.result()
        copies = {ROWS: of_rows} if of_rows else {}
        copies |= {name: tallies.copies(side.table, [name], rows) for name in ids}
        grids = fitting.result()
    profiles = counts(side, wanted, grids, booleans) if wanted else {}
    for name, feature in wanted.items():
        if profiles[name].special(INVALID) == profiles[name].n:
            skipped[feature.column] = f"it is {feature.kind} in the configuration, and nothing in the reference is"
            del profiles[name]
    parts = []
    for by in model.segmentations if model else _segmentations(segments, columns):
        if all(name in profiles for name in by):
            parts.append(segmentation(side, wanted, booleans, by))
    present = {name: feature for name, feature in wanted.items() if name in profiles}
    parted = {
        name: one
        for part in parts
        for name, one in counts_by_segment(side, present, grids, booleans, profiles, part).items()
    }
    return Baseline(model, columns, skipped, names, booleans, rows, grids, profiles, tuple(parts), parted, copies)


def _segmentations(segments: Segments, columns: Mapping[str, ColumnConfig]) -> list[tuple[str, ...]]:
    """The columns of each of the segments. Raises ConfigError for one that no segments can be made of."""
    if isinstance(segments, str):
        raise ConfigError(f'segments are a list of columns, found "{segments}"; write ["{segments}"]')
    wanted = [(by,) if isinstance(by, str) else tuple(by) for by in segments]
    known = [name for name, column in columns.items() if column.kind is Kind.CATEGORICAL]
    for name in (name for by in wanted for name in by):
        if name not in known:
            raise ConfigError(
                f'segments are made of categorical columns, and "{name}" is none;'
                f" {did_you_mean(name, known, 'the categorical columns are')}"
            )
    return wanted


def _configured(model: ModelConfig, names: Sequence[str], only: Sequence[str] | None) -> dict[str, ColumnConfig]:
    """The columns of a configuration that are asked for."""
    for name in model.stored:
        if name not in names:
            raise DataError(
                f'the configuration has a column "{name}" and the reference has none; {did_you_mean(name, names)}'
            )
    for name in only or ():
        if name not in model.stored:
            raise DataError(f'the configuration has no column "{name}"; {did_you_mean(name, model.stored)}')
    return {name: column for name, column in model.stored.items() if only is None or name in only}


def default_model(columns: Mapping[str, ColumnConfig], segments: Sequence[tuple[str, ...]] = ()) -> ModelConfig:
    """What is looked at without a configuration. Not validated: a column of a plain table may bear any name."""
    return _with_monitors(ModelConfig.model_construct(columns=dict(columns), segments=tuple(segments)))


def _with_monitors(model: ModelConfig) -> ModelConfig:
    """The model with the default policy for tables, in its segments too."""
    monitors = [m.model_copy(update={"segments": bool(model.segments)}) for m in policy.for_tables(model)]
    return model.model_copy(update={"monitors": tuple(monitors)})
