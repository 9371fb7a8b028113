"""A contract: what the columns of a table are, read off data that are known to be good, as YAML to edit."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from watchkeeper.comparison.tables import Side, boolean_columns, counts, fitted, infer
from watchkeeper.errors import DataError, listed
from watchkeeper.events import RESERVED
from watchkeeper.profiles import Profile
from watchkeeper.schema import ColumnConfig, Kind, ModelConfig
from watchkeeper.stats.estimates import proportion
from watchkeeper.stats.grid import SENTINELS
from watchkeeper.store import sources

MOST_CATEGORIES = 100
"""A column with more categories has them learned from the reference at each comparison."""
UNKNOWN = frozenset(
    {"", "-", "--", "?", ".", "na", "n/a", "#n/a", "nan", "null", "none", "nil", "unknown", "missing", "undefined",
     "not available", "not known", "1900-01-01", "1970-01-01", "0000-00-00", "9999-12-31"}
)  # fmt: skip
"""Texts that systems write for "unknown", in lower case."""
SURE = 0.001
"""A share of missing values above what is proposed would bring as few as were found once in a thousand times."""
NUMBERS = 0.9
"""A text column of many values, of which at least this share are numbers, is proposed as a numeric one."""


def propose(data: Any, name: str) -> str:
    """A configuration with one model, whose columns are described as these data show them.

    Args:
        data: a path, a data frame or an Arrow table, as `compare` takes it.
        name: what to call the model; what is not allowed in a name is replaced.

    Raises DataError where the data cannot be read or hold no column that can be described.
    """
    connection = sources.connect()
    try:
        side = Side("the reference", sources.read(connection, data, "reference"))
        return _proposed(side, side.sample(), _model_name(name))
    finally:
        connection.disconnect()


def _proposed(side: Side, probe: Side, name: str) -> str:
    rows = side.rows
    columns, skipped, unique = infer(side, probe, None)
    for column in [c for c in columns if _reserved(c)]:
        skipped[column] = "the name has a meaning of its own; rename the column to watch it"
        del columns[column]
    ids = {c for c in unique if not _reserved(c)}
    texts = [c for c in skipped if side.table[c].type().is_string()]
    values = {c: probe.table[c].to_pyarrow().to_pylist() for c in {*columns, *ids, *texts}}
    columns |= {c: ColumnConfig(kind=Kind.TEXT if c in texts else Kind.NUMERIC) for c in skipped if c in ids}
    described = {c: _described(config, values[c], c in ids) for c, config in columns.items()}
    numbers = {c: _described(ColumnConfig(kind=Kind.TEXT), values[c], False) for c in texts if c not in columns}
    described |= {c: config for c, config in numbers.items() if config.kind is Kind.NUMERIC and not _reserved(c)}
    skipped = {c: why for c, why in skipped.items() if c not in described}
    columns = {c: described[c] for c in side.table.columns if c in described}
    if not columns:
        why = "; ".join(f"{column}: {reason}" for column, reason in skipped.items())
        raise DataError(f"the reference has no column that can be described: {why or listed(side.table.columns)}")
    model = ModelConfig.model_construct(columns=columns)
    shown = {c: f"{c}.length" if config.kind is Kind.TEXT else c for c, config in columns.items()}
    booleans, features = boolean_columns(side), {name: model.features[name] for name in shown.values()}
    profiles = counts(side, features, fitted(probe, features, booleans), booleans)
    lines = [
        f"# What the columns of the reference are, read off its {rows:,} rows. Edit it: it says what is right,",
        "# not what is usual. Then: watchkeeper check REFERENCE CURRENT --config THIS_FILE",
        "#   missing     values that stand for unknown and count as missing",
        "#   min, max    the least and the greatest value that are right",
        "#   categories  all values that are right",
        "#   max_nulls   the largest share of missing values that is right",
        "#   unique      no value comes twice",
        "models:",
        f"  {name}:",
        "    columns:",
    ]
    for column, config in columns.items():
        lines += _lines(column, config, profiles[shown[column]])
    if skipped:
        lines += ["    # Left out:", *(f"    #   {_plain(column)}: {_plain(why)}" for column, why in skipped.items())]
    return "\n".join(lines) + "\n"


def _reserved(name: str) -> bool:
    return not name or name.lower() in RESERVED


def _described(config: ColumnConfig, values: Sequence[Any], unique: bool) -> ColumnConfig:
    """The column's kind and what stands for "unknown" in it, from a sample of its values."""
    present = [value for value in values if value is not None]
    if config.kind in (Kind.CATEGORICAL, Kind.TEXT) and any(isinstance(value, str) for value in present):
        found = Counter(present)
        missing = [value for value in found if value.strip().lower() in UNKNOWN]
        others = [value for value in found if value not in missing]
        numbers = [value for value in others if _number(value) is not None]
        if not unique and len(others) > MOST_CATEGORIES and len(numbers) >= NUMBERS * len(others):
            tokens = [value.strip() for value in [*missing, *(v for v in others if _number(v) is None)]]
            return ColumnConfig(kind=Kind.NUMERIC, missing=tuple(sorted({t for t in tokens if t})))
        return ColumnConfig(kind=config.kind, missing=tuple(sorted(missing)), unique=unique)
    if config.kind is Kind.NUMERIC:
        sentinels = () if unique else _sentinels([float(value) for value in present])
        return ColumnConfig(kind=config.kind, missing=sentinels, unique=unique)
    return config.model_copy(update={"unique": unique})


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _sentinels(values: Sequence[float]) -> tuple[float, ...]:
    """Numbers that often mean "unknown", come more than once, and lie apart from all others: further beyond them than
    half their range, or the only one below zero."""
    found = Counter(value for value in values if math.isfinite(value))
    others = [value for value in found if value not in SENTINELS] or [0.0]
    low, high = min(others), max(others)
    apart = (high - low) / 2
    kept = [
        value
        for value, times in found.items()
        if value in SENTINELS
        and value != 1
        and times > 1
        and (value < low - apart or value > high + apart or value < 0 <= low)
    ]
    return tuple(sorted(kept))


def _lines(name: str, config: ColumnConfig, profile: Profile) -> Iterator[str]:
    """One column, and what there is to know of it as comments."""
    notes: list[str] = []
    missing = profile.missing
    settings: dict[str, Any] = {"kind": config.kind.value}
    if config.missing:
        settings["missing"] = list(config.missing)
        notes.append(f"{', '.join(_scalar(m) for m in config.missing)} often means unknown; take it out if it does not")
    if config.kind is Kind.NUMERIC and not config.unique and profile.low is not None:
        settings |= {"min": _tidy(profile.low), "max": _tidy(profile.high)}
    if config.kind is Kind.CATEGORICAL:
        if len(profile.values) <= MOST_CATEGORIES and not profile.others:
            settings["categories"] = list(profile.values)
        else:
            notes.append(
                f"{'more than ' if profile.others else ''}{len(profile.values):,} categories; the reference says which"
            )
        notes += _alike(profile.values)
    most = proportion(missing, profile.n, SURE).high or 0.0
    settings["max_nulls"] = _rounded_up(most)
    if missing:
        notes.append(f"{100 * missing / profile.n:.3g}% are missing")
    if config.unique:
        settings["unique"] = True
    yield from (f"      # {_plain(note)}" for note in notes)
    yield f"      {_scalar(name)}:"
    yield from (f"        {key}: {_value(value)}" for key, value in settings.items())


def _alike(values: Sequence[str]) -> list[str]:
    """Categories that differ in case or blanks alone."""
    groups: dict[str, list[str]] = {}
    for value in values:
        groups.setdefault(" ".join(value.casefold().split()), []).append(value)
    return [f"{', '.join(map(_scalar, group))}: are they one category?" for group in groups.values() if len(group) > 1]


def _tidy(number: float | None) -> float | int | None:
    return int(number) if number is not None and number == int(number) and abs(number) < 1e15 else number


def _rounded_up(share: float) -> float:
    """To two significant digits, so that somebody can read it."""
    if not 0 < share < 1:
        return min(share, 1.0)
    unit = 10.0 ** (math.floor(math.log10(share)) - 1)
    return min(round(math.ceil(share / unit) * unit, 12), 1.0)


def _value(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_scalar, value))}]"
    return _scalar(value) if isinstance(value, str) else json.dumps(value)


def _scalar(value: Any) -> str:
    """A text or a number as YAML reads it back."""
    if not isinstance(value, str):
        return json.dumps(_tidy(value))
    if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", value) and value.lower() not in ("true", "false", "null"):
        return value
    text = json.dumps(value, ensure_ascii=False)
    return "".join(sign if sign.isprintable() else f"\\U{ord(sign):08x}" for sign in text)


def _plain(text: str) -> str:
    """On one line, for a comment."""
    return "".join(sign if sign.isprintable() else " " for sign in text)


def _model_name(name: str) -> str:
    plain = re.sub(r"[^A-Za-z0-9_-]+", "-", name).strip("-_")[:60]
    return plain if re.match(r"[A-Za-z]", plain) else f"model-{plain}".rstrip("-")
