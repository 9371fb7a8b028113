"""Traffic: who serves, from the first champion over each candidate's rollout to the next champion. Hop 8."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from watchkeeper import incidents, kpis, rollouts, timeline
from watchkeeper.errors import ConflictError, DataError, ModelError, StateError
from watchkeeper.incidents import ENGINE
from watchkeeper.late import fill
from watchkeeper.profiles import Key, Profile, Subject, merge
from watchkeeper.records import ALL, Action, Incident, IncidentState, Rollout, RolloutState
from watchkeeper.registry import Registry, Route
from watchkeeper.rollouts import ArmData
from watchkeeper.schema import ERRORS, Config, Kind, ModelConfig, Task
from watchkeeper.segments import Segmentation
from watchkeeper.stats import lags
from watchkeeper.stats.grid import Grid
from watchkeeper.stats.scores import log_loss_arm
from watchkeeper.stats.sequential import Arm
from watchkeeper.store.labelled import with_derived
from watchkeeper.store.log import Log
from watchkeeper.store.sources import (
    Part,
    Plan,
    connect,
    read,
    segmentation,
    show,
    summarise,
    summarise_segments,
    typed,
)
from watchkeeper.store.state import Transaction
from watchkeeper.store.tallies import fit_grids
from watchkeeper.store.times import ARRIVAL_LAG, LABEL_DELAY, LABEL_LAG
from watchkeeper.tasks import NEGATIVE, POSITIVE, known_with_label, model_columns, said_columns, score_columns
from watchkeeper.windows import Window, floor

FEW = 100
"""Labelled rows from which a regression without reference data gets the grids of its errors."""
LATENCY = Grid.logarithmic(0.1, 60_000.0)
"""Latencies lie between 0.1 ms and a minute."""
RESOURCE_GRIDS = {
    "cpu_ms": Grid.logarithmic(0.01, 600_000.0),
    "memory_mb": Grid.logarithmic(0.1, 1_000_000.0),
    "gpu_memory_mb": Grid.logarithmic(0.1, 1_000_000.0),
    "disk_mb": Grid.logarithmic(0.001, 100_000.0),
    "cost": Grid.logarithmic(1e-6, 10_000.0),
}
"""Grids of what predictions used, which are summarised from the first prediction on that says it."""
VARIANTS = ("candidate", "champion", "fallback")
TIMES = {LABEL_DELAY: Grid.logarithmic(1.0, 32_000_000.0), ARRIVAL_LAG: Grid.logarithmic(0.001, 1_000_000.0)}
"""What is summarised of how predictions and labels come, in seconds: up to a year, and up to eleven days."""
KPI_DELAY = TIMES[LABEL_DELAY]
"""The grid of how long KPIs take, in seconds."""


def plans(model: ModelConfig, grids: dict[str, Grid], known: dict[str, tuple[str, ...]] | None = None) -> list[Plan]:
    """How each column of a model is summarised; a numeric one is not before it has a grid.

    Args:
        known: the vocabularies.
    """
    known = known or {}
    features = [
        Plan(
            name,
            feature.kind,
            grids.get(name),
            feature.missing,
            known=known.get(name, ()),
            named_from=feature.named_from,
        )
        for name, feature in model.features.items()
        if feature.kind is Kind.CATEGORICAL or name in grids
    ]
    return [
        *features,
        *_of_task(model, grids),
        Plan("latency_ms", Kind.NUMERIC, grids["latency_ms"]),
        *(Plan(name, Kind.NUMERIC, grids[name]) for name in RESOURCE_GRIDS if name in grids),
        Plan("status", Kind.CATEGORICAL, None, known=("ok",)),
        Plan("variant", Kind.CATEGORICAL, None, known=VARIANTS),
        *(Plan(name, Kind.NUMERIC, grid) for name, grid in TIMES.items()),
    ]


def kpi_plans(model: ModelConfig, grids: dict[str, Grid]) -> list[Plan]:
    """How the columns of a model's KPIs are summarised, those that have a grid."""
    return [Plan(name, Kind.NUMERIC, grids[name]) for name in kpis.columns(model) if name in grids]


def first_kpi_grids(name: str, model: ModelConfig, grids: dict[str, Grid], log: Log) -> dict[str, Grid]:
    """The grids that KPIs lack and that what is logged gives: of those with `FEW` values, and with `FEW` sums of a user
    in a grain."""
    found: dict[str, Grid] = {}
    for kpi in model.kpis:
        if kpi in grids and kpi + kpis.PER_USER in grids:
            continue
        for rows in log.first_kpis(name, kpi, model.grain):
            (column,) = rows.column_names
            if column not in grids and rows.num_rows >= FEW:
                found |= {kpi + kpis.DELAY: KPI_DELAY, **_answer_grids([column], rows)}
    return found


def _of_task(model: ModelConfig, grids: dict[str, Grid]) -> list[Plan]:
    """How the columns are summarised that depend on the model's task."""
    if model.task is Task.BINARY:
        lag = Plan(LABEL_LAG, Kind.NUMERIC, lags.GRID, by_label=True)
        return [Plan("score", Kind.NUMERIC, grids["score"], by_label=True), lag]
    if model.task is Task.MULTICLASS:
        classes = model.classes
        return [
            Plan("prediction", Kind.CATEGORICAL, None, by_label=True, known=classes, classes=classes),
            Plan(LABEL_LAG, Kind.NUMERIC, lags.GRID, by_label=True, classes=classes),
            *(
                Plan(name, Kind.NUMERIC, grids[name], by_label=True, positive=known)
                for names in (score_columns(model), said_columns(model))
                for name, known in zip(names, classes, strict=True)
                if name in grids
            ),
        ]
    wanted = ("prediction", *known_with_label(model))
    own = [Plan(name, Kind.NUMERIC, grids[name]) for name in wanted if name in grids]
    return [*own, *([Plan(LABEL_LAG, Kind.NUMERIC, lags.GRID)] if ERRORS[0] in grids else [])]


def fixed_grids(model: ModelConfig) -> dict[str, Grid]:
    """Grids that need no data: scores are probabilities."""
    names = ("score",) if model.task is Task.BINARY else (*score_columns(model), *said_columns(model))
    return {**dict.fromkeys(names, Grid.unit()), "latency_ms": LATENCY}


def moved_by_labels(plans: Iterable[Plan]) -> list[Plan]:
    """The columns whose summaries change when labels come."""
    return [plan for plan in plans if plan.by_label or plan.name in (LABEL_DELAY, LABEL_LAG, *ERRORS, "label")]


def grids_of_answers(name: str, model: ModelConfig, grids: dict[str, Grid], log: Log) -> dict[str, Grid]:
    """The grids that a model's own columns lack and that what is logged gives: those of a regression's predictions, and
    once `FEW` labels are known those of its errors; and those of classes that the configuration has gained."""
    found = {column: grid for column, grid in fixed_grids(model).items() if column not in grids}
    lacking = _lacking(model, grids)
    if "prediction" in lacking:
        found |= _answer_grids(["prediction"], log.first_rows(name, "prediction"))
    if [*lacking] not in ([], ["prediction"]) and (rows := log.first_labelled(name)).num_rows >= FEW:
        found |= _answer_grids([column for column in lacking if column != "prediction"], rows)
    return found


def _lacking(model: ModelConfig, grids: dict[str, Grid]) -> list[str]:
    """The columns of a regression's predictions and errors that have no grid."""
    own = ("prediction", *known_with_label(model)) if model.task is Task.REGRESSION else ()
    return [name for name in own if name not in grids]


def _answer_grids(columns: list[str], rows: pa.Table) -> dict[str, Grid]:
    """The grids of predictions and errors, of those columns that these rows have a value for. No value stands for
    "unknown" in them."""
    if not columns or not rows.num_rows:
        return {}
    table = with_derived(read(connect(), rows, "answers"), columns)
    here = [name for name in columns if name in table.columns]
    return fit_grids(table, dict.fromkeys(here, ()), ordinary=here)


def without_grid(model: ModelConfig, grids: dict[str, Grid]) -> list[str]:
    """The columns that the model's configuration has gained, that need a grid, and that no data is known of yet."""
    needing = (f.column for name, f in model.features.items() if f.kind is not Kind.CATEGORICAL and name not in grids)
    return list(dict.fromkeys(needing))


def first_grids(model: ModelConfig, rows: pa.Table) -> dict[str, Grid]:
    """The grids of a model's columns, from the first rows that are known of it."""
    table = typed(read(connect(), rows, "first rows"), model.features)
    here = {name: f for name, f in model.features.items() if name in table.columns and f.kind is not Kind.CATEGORICAL}
    needing = {name: feature.missing for name, feature in here.items()}
    dates = {name for name, feature in here.items() if feature.kind is Kind.DATETIME}
    answers = _answer_grids(_lacking(model, {}), rows)
    return {**fit_grids(table, needing, dates), **answers, **fixed_grids(model)}


def without_vocabulary(model: ModelConfig, known: dict[str, tuple[str, ...]]) -> list[str]:
    """The categorical columns whose vocabulary is not known yet."""
    return [name for name, f in model.features.items() if f.kind is Kind.CATEGORICAL and name not in known]


def first_vocabularies(model: ModelConfig, rows: pa.Table) -> dict[str, tuple[str, ...]]:
    """The vocabularies of a model's columns, from the first rows that are known of it."""
    here = {name: f for name, f in model.features.items() if f.kind is Kind.CATEGORICAL and name in rows.column_names}
    if not here:
        return {}
    plans = [Plan(name, f.kind, None, f.missing, known=None, named_from=f.named_from) for name, f in here.items()]
    parts = summarise(read(connect(), rows, "first rows"), plans)
    return {part.column: part.profile.words for part in parts}


def first_segments(model: ModelConfig, rows: pa.Table) -> list[Segmentation]:
    """The segments of a model, from the first rows that are known of it."""
    if not model.segments:
        return []
    table = read(connect(), rows, "first rows")
    return [
        segmentation(table, columns, _declared(model), max(model.features[name].named_from for name in columns))
        for columns in model.segmentations
    ]


def segments(tx: Transaction, name: str, model: ModelConfig) -> list[Segmentation]:
    """The segmentations that the configuration asks for and whose values are known."""
    known = {one.columns: one for one in tx.segmentations(name)} if model.segments else {}
    return [known[columns] for columns in model.segmentations if columns in known]


def _declared(model: ModelConfig) -> dict[str, tuple[float | str, ...]]:
    """The values that stand for "unknown", by column."""
    return {name: column.missing for name, column in model.columns.items()}


def _in_segments(tx: Transaction, name: str, model: ModelConfig, table: Any, known: list[Plan]) -> list[Part]:
    parts = [summarise_segments(table, known, one, _declared(model)) for one in segments(tx, name, model)]
    return [part for found in parts for part in found]


def install(
    tx: Transaction, config: Config, model: str, version: str, reference: pa.Table, now: datetime, actor: str = ENGINE
) -> None:
    """Make a version the model's first champion, with the data it was trained on as the baseline.

    Args:
        reference: the features, and `score` and `label` where known, one row each.

    Raises ConflictError where there is a champion already, StateError where a feature is missing, DataError where
    something else stands for a number.
    """
    settings = config.models[model]
    if tx.champions(model):
        raise ConflictError(f'model "{model}" has a champion already; offer "{version}" as a candidate instead')
    for name in settings.stored:
        if name not in reference.column_names:
            raise StateError(
                f'the reference data of model "{model}" has no column "{name}";'
                " add it, or take it out of the configuration"
            )
    reference = _with_numbers(model, settings, reference)
    tx.put_grids(model, first_grids(settings, reference))
    tx.put_vocabularies(model, first_vocabularies(settings, reference))
    whole = plans(settings, tx.grids(model), tx.vocabularies(model))
    rows = typed(read(connect(), reference, "reference"), settings.features)
    table = with_derived(rows, {plan.name for plan in whole})
    known = [plan for plan in whole if plan.name in table.columns]
    tx.put_segmentations(model, first_segments(settings, reference))
    parts = [*summarise(table, known), *_in_segments(tx, model, settings, table, known)]
    tx.put_profiles(model, [replace(part, version=version) for part in parts])
    tx.crown(model, version, now, because="install")
    tx.audit(now, actor, "install", version, {"model": model, "rows": reference.num_rows})


def _with_numbers(model: str, settings: ModelConfig, reference: pa.Table) -> pa.Table:
    """The reference data with numbers where numbers belong, though a file may hold them as text."""
    numeric = {name: column.missing for name, column in settings.stored.items() if column.kind is Kind.NUMERIC}
    own = {name: () for name, kind in model_columns(settings).items() if kind is Kind.NUMERIC}
    labels = {"label": ()} if settings.task is Task.BINARY else {}
    for name, missing in {**numeric, **own, **labels}.items():
        if name in reference.column_names and pa.types.is_string(reference.schema.field(name).type):
            unknown = {"", *map(str, missing)}
            numbers = []
            for row, text in enumerate(reference.column(name).to_pylist(), start=1):
                try:
                    numbers.append(None if text is None or text.strip() in unknown else float(text))
                except ValueError:
                    raise _no_number(model, name, "a number", f"{text} in row {row}") from None
            reference = reference.set_column(reference.column_names.index(name), name, pa.array(numbers, pa.float64()))
    if settings.task is Task.MULTICLASS and "label" in reference.column_names:
        at, words = (
            reference.column_names.index("label"),
            (None if v is None else show(v) for v in reference.column("label").to_pylist()),
        )
        reference = reference.set_column(at, "label", pa.array([*words], pa.string()))
    binary = settings.task is Task.BINARY and "label" in reference.column_names
    for label in pc.unique(reference.column("label")).to_pylist() if binary else ():
        if label not in (None, 0, 1):
            raise _no_number(model, "label", "0 or 1", str(label))
    return reference


def _no_number(model: str, name: str, wanted: str, found: str) -> DataError:
    return DataError(
        f'the column "{name}" in the reference data of model "{model}" must hold {wanted} in each row, or nothing;'
        f" found {found}"
    )


def offer(
    tx: Transaction,
    config: Config,
    model: str,
    version: str,
    now: datetime,
    because: tuple[str, ...] = (),
    trained_on: tuple[Window, ...] = (),
    scores: pa.Table | None = None,
    actor: str = ENGINE,
) -> Rollout:
    """Begin the rollout of a registered version.

    Its baseline, should it become champion, is made of what is stored already: the features' profiles of the time
    it was trained on, and its scores on the hold-out. What is not known is taken over from the champion.

    Args:
        trained_on: the stretches of logged time that it was trained on.
        scores: `score` and `label` on the hold-out, one row each, with the columns of the segments.

    Raises ConflictError while another rollout runs, StateError where there is nothing to compare.
    """
    if tx.select(Rollout, model=model, state=RolloutState.RUNNING):
        raise ConflictError(f'a candidate of model "{model}" is being rolled out already; wait for its end')
    champions = tx.champions(model)
    if not champions:
        raise StateError(f'model "{model}" has no champion to compare a candidate with; install one first')
    settings, champion = config.models[model], champions[-1][1]
    if settings.task is not Task.BINARY:
        raise StateError(
            f'model "{model}" is a {settings.task} one; candidates are proven by their scores, so only a binary'
            " classifier can be rolled out: put the new version into service yourself"
        )
    if version == champion:
        raise StateError(f'version "{version}" is the champion of model "{model}" already; offer another one')
    fresh: dict[tuple[str, str, str], list[Profile]] = {}
    for window in trained_on:
        for key, profile in tx.profiles(model, window, segment=None, column=list(settings.stored)):
            fresh.setdefault((key.column, key.label, key.segment), []).append(profile)
    if scores is not None:
        score = [plan for plan in plans(settings, tx.grids(model)) if plan.name == "score"]
        table = read(connect(), scores, "held_out")
        for part in (*summarise(table, score), *_in_segments(tx, model, settings, table, score)):
            fresh[part.column, part.label, part.segment] = [part.profile]
    anew = {column for column, *_ in fresh}
    for key, profile in tx.profiles(model, None, segment=None, version=champion):
        if key.column not in anew:
            fresh[key.column, key.label, key.segment] = [profile]
    merged = {place: merge(profiles) for place, profiles in fresh.items()}
    parts = [Part(name, version, label, None, p, segment) for (name, label, segment), p in merged.items() if p]
    tx.put_profiles(model, parts)
    rollout, entry = rollouts.begin(model, version, champion, settings.rollout, config.version, now, because)
    tx.put([rollout])
    timeline.write(tx, [entry], config, now)
    tx.audit(now, actor, "offer", version, {"model": model, "rollout": rollout.id})
    return rollout


def prove(tx: Transaction, config: Config, model: str, now: datetime) -> None:
    """Compare the arms of the model's running rollout, once a grain, and write what follows from it."""
    settings = config.models[model]
    grain = settings.grain_length
    for rollout in tx.select(Rollout, model=model, state=RolloutState.RUNNING):
        horizon = floor(now, grain)
        begun, stage = (_first_whole(at, grain) for at in (rollout.started_at, rollout.stage_at))
        seen = Window(begun, horizon) if horizon > begun else None
        if seen is None or (rollout.looks and rollout.looks[-1]["until"] == horizon.isoformat()):
            continue
        grids = tx.grids(model)
        kept = fill(tx.profiles(model, seen, column=["score", "latency_ms", "status"]), settings.unlabelled, grain, now)
        mature = horizon - settings.label_delay
        arms = [_arm(kept, version, stage, mature, grids["score"]) for version in (rollout.champion, rollout.candidate)]
        after, entry = rollouts.look(rollout, settings.rollout, arms[0], arms[1], grids, now, horizon)
        tx.change(after)
        if entry is not None:
            timeline.write(tx, [entry], config, now)
        if after.state is RolloutState.PROMOTED:
            tx.crown(model, after.candidate, now, because=after.id)
            _close_incidents(tx, config, after, now)


def _first_whole(at: datetime, grain: timedelta) -> datetime:
    """The start of the first whole grain from a moment on: before it the arms did not serve side by side."""
    return floor(at, grain) if floor(at, grain) == at else floor(at, grain) + grain


def _close_incidents(tx: Transaction, config: Config, rollout: Rollout, now: datetime) -> None:
    """End the incidents that the new champion was trained for."""
    trained_for = [incident for action in tx.select(Action, id=rollout.because) for incident in action.because]
    for incident in tx.select(Incident, id=trained_for):
        if incident.state is not IncidentState.RESOLVED:
            ended, entry = incidents.supersede(incident, rollout.id, rollout.candidate, now)
            tx.change(ended)
            timeline.write(tx, [entry], config, now)


def _arm(kept: list[tuple[Key, Profile]], version: str, stage: datetime, mature: datetime, grid: Grid) -> ArmData:
    own = [(key, profile) for key, profile in kept if key.version == version]
    whole = {
        column: merge(p for k, p in own if k.column == column and k.label == ALL and k.start and k.start >= stage)
        for column in ("score", "latency_ms", "status")
    }
    rows = sum(profile.n for key, profile in own if key.column == "status")
    grains: dict[datetime, dict[str, Profile]] = {}
    for key, profile in own:
        if key.label in (NEGATIVE, POSITIVE) and key.start is not None and key.start < mature:
            grains.setdefault(key.start, {})[key.label] = profile
    losses: dict[datetime, Arm] = {
        start: log_loss_arm(Subject(None, None, grid, 0.5, 1, 0, sides, {}).scores) for start, sides in grains.items()
    }
    return ArmData(rows, whole["score"], whole["latency_ms"], whole["status"], losses)


def steer(tx: Transaction, model: str, registry: Registry) -> None:
    """Make the registry's route what the state says; only a difference is written."""
    champions = tx.champions(model)
    if not champions:
        return
    names = [version for _, version in champions]
    running = tx.select(Rollout, model=model, state=RolloutState.RUNNING)
    candidate, share = (running[0].candidate, running[0].share) if running else ("", 0.0)
    route = Route(names[-1], names[-2] if len(names) > 1 else "", candidate, share)
    try:
        written = registry.route(model)
    except ModelError:  # cut short when the machine died; the state knows what it should say
        written = None
    if written != route:
        registry.set_route(model, route)
