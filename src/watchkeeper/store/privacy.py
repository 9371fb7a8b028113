"""Protecting personal data before it is stored: keyed hashes, masks, or nothing at all.

A pseudonym is BLAKE2b of the value's UTF-8 bytes, keyed (the MAC of RFC 7693) and cut to 128 bits, behind the name of
its key: `p3f9c.` and 32 hex digits. Equal values get equal pseudonyms in every column and model, so that the rows of a
person can be found and erased together; without the key nobody can tell which value one stands for, nor try values.

A value that is a pseudonym by one of the keys already stays as it is, and a protected table says so in its metadata,
so that nothing is protected twice.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from watchkeeper.errors import ConfigError
from watchkeeper.events import FIELDS, KPI
from watchkeeper.schema import Config, Kind, ModelConfig, Protection
from watchkeeper.settings import KeyConfig
from watchkeeper.store.sources import show
from watchkeeper.tasks import score_columns

MARK = b"watchkeeper.protected"
"""The key of a table's metadata that says that it is protected."""
SHORTEST = 32
"""Characters of a key, at least: as hex digits they hold 128 bits."""
DIGITS = 32
"""Hex digits of a pseudonym: 128 bits, of which a billion values share one with a probability below 1e-20."""
PSEUDONYM = re.compile(r"(p[0-9a-f]{4})\.[0-9a-f]{32}")
NOT_ASCII = "×"
"""What stands for a letter or digit beyond ASCII in a mask."""

_SHAPE = {
    **dict.fromkeys(map(ord, "ABCDEFGHIJKLMNOPQRSTUVWXYZ"), "X"),
    **dict.fromkeys(map(ord, "abcdefghijklmnopqrstuvwxyz"), "x"),
    **dict.fromkeys(map(ord, "0123456789"), "9"),
}
_FIELDS = frozenset(name for kind, fields in FIELDS.items() if kind != KPI for name in fields)
_PERSONAL = frozenset({"entity_id", "context", "features"})

Change = Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class Key:
    """A secret, and the name that pseudonyms made with it begin with; the name tells nothing of the secret."""

    name: str
    secret: bytes

    @classmethod
    def of(cls, text: str) -> Key:
        secret = hashlib.blake2b(text.encode(), digest_size=32, person=b"watchkeeper key").digest()
        return cls("p" + hashlib.blake2b(b"name", key=secret, digest_size=2).hexdigest(), secret)

    def pseudonym(self, value: str) -> str:
        return f"{self.name}.{hashlib.blake2b(value.encode(), key=self.secret, digest_size=DIGITS // 2).hexdigest()}"


@dataclass(frozen=True, slots=True)
class Keys:
    """The key that new pseudonyms are made with, first, and those that older ones were made with."""

    all: tuple[Key, ...] = ()

    def pseudonym(self, value: str) -> str:
        """The value's pseudonym; one by any of the keys stays as it is. ConfigError without a key."""
        if not self.all:
            raise ConfigError("there is no key to pseudonymise with; add privacy: {key: env:NAME}", ("privacy",))
        found = PSEUDONYM.fullmatch(value)
        if found and any(found[1] == key.name for key in self.all):
            return value
        return self.all[0].pseudonym(value)

    def names_of(self, subject: str) -> tuple[str, ...]:
        """All that a subject may be stored as: itself, and its pseudonym by each key."""
        return (subject, *(key.pseudonym(subject) for key in self.all))


def load_keys(settings: KeyConfig, store: Path, environ: Mapping[str, str] | None = None) -> Keys:
    """Read the keys that the configuration names.

    Args:
        store: the folder that no key may lie in, since whoever copies it would have the key with the pseudonyms.
        environ: where `env:NAME` is looked up; the process's environment for None.

    Raises ConfigError, which never tells a key, for one that is not there, too short, in the store, or twice there.
    """
    written = [settings.key, *settings.previous_keys] if settings.key else []
    places: list[tuple[str | int, ...]] = [("privacy", "key"), *(("privacy", "previous_keys", i) for i in range(99))]
    found: dict[str, str] = {}
    keys = []
    for where, place in zip(written, places, strict=False):
        text = secret(str(where), store, place, environ)
        if len(text) < SHORTEST:
            raise ConfigError(
                f"the key in {where} has {len(text)} characters; make one of at least {SHORTEST},"
                " such as openssl rand -hex 32 gives",
                place,
            )
        key = Key.of(text)
        if key.name in found:
            raise ConfigError(
                f"the keys {found[key.name]} and {where} are the same, or cannot be told apart; use another one", place
            )
        found[key.name] = str(where)
        keys.append(key)
    return Keys(tuple(keys))


def secret(where: str, store: Path, place: tuple[str | int, ...], environ: Mapping[str, str] | None = None) -> str:
    """What a variable or a file outside of the store holds; arguments and errors as for `load_keys`.

    Args:
        where: `env:NAME` or `file:PATH`.
        place: where the configuration says so.
    """
    form, _, name = where.partition(":")
    if form == "env":
        text = (os.environ if environ is None else environ).get(name, "")
        if not text:
            raise ConfigError(f"the environment variable {name}, which should hold the key, is not set; set it", place)
    else:
        path = Path(name).expanduser().resolve()
        if path.is_relative_to(store.resolve()):
            raise ConfigError(
                f"the key file {name} lies in the store {store}, so a copy of the store would hold the key as well;"
                " move it elsewhere",
                place,
            )
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as problem:
            said = problem.strerror if isinstance(problem, OSError) else "it is no UTF-8 text"
            raise ConfigError(f"the key file {name} cannot be read: {said}", place) from None
    return text.strip()


def shape(text: str) -> str:
    """A text with each letter and digit replaced: capitals by X, small letters by x, digits by 9, others by ×.

    Spaces and signs stay, so length, words and the shares of digits and of non-ASCII characters are as they were.
    """
    masked = text.translate(_SHAPE)
    return masked if masked.isascii() else "".join(c if c.isascii() or not c.isalnum() else NOT_ASCII for c in masked)


def protect(table: pa.Table, model: ModelConfig, keys: Keys) -> pa.Table:
    """A table of predictions, columns named as in `events.columns`, as it may be stored; marked as protected.

    Names are compared without regard to case. Dropped columns are left out. Each different value is changed once.
    """
    if is_protected(table):
        return table
    changes = _changes(model, keys)
    declared, undeclared = _declared(model), _undeclared(model)
    names, arrays = [], []
    for name, column in zip(table.column_names, table.columns, strict=True):
        low = name.lower()
        change = changes.get(low, _as_it_is if low in declared else undeclared)
        if change is None:
            continue
        names.append(name)
        arrays.append(column if change is _as_it_is else _changed(column, change))
    return pa.table(arrays, names=names).replace_schema_metadata({**(table.schema.metadata or {}), MARK: b"1"})


def protect_kpis(table: pa.Table, model: ModelConfig) -> pa.Table:
    """A table of KPIs as it may be stored, marked as protected: of those that the model does not declare, the values
    are treated as those of undeclared columns."""
    how = model.privacy.undeclared
    if how and not is_protected(table):
        declared = pc.is_in(table["name"], pa.array([*model.kpis], pa.string()))
        if how == "drop":
            table = table.filter(declared)
        elif not pc.all(declared).as_py():
            at, values = table.column_names.index("value"), table["value"].cast(pa.float64())
            table = table.set_column(at, "value", pc.if_else(declared, values, _changed(values, _masked)))
    return table.replace_schema_metadata({**(table.schema.metadata or {}), MARK: b"1"})


def is_protected(table: pa.Table) -> bool:
    return MARK in (table.schema.metadata or {})


def protect_event(found: Any, config: Config, keys: Keys) -> Any:
    """Something that was sent as an event and refused, as it may be kept among the rejects.

    Where its model is known, its fields are protected like stored ones, and those that no event has are masked. Where
    it is not, or the event is no event at all, everything is masked if any model protects anything.
    """
    if not any(protects(model) for model in config.models.values()):
        return found
    if not isinstance(found, Mapping):
        return shape(found) if isinstance(found, str) else _masked(found)
    name = found.get("model")
    model = config.models.get(name) if isinstance(name, str) else None
    if model is not None and not protects(model):
        return found
    kept: dict[str, Any] = {}
    for field, value in found.items():
        if field == "features" and model is not None and isinstance(value, Mapping):
            kept[field] = _protected_features(value, model, keys)
        elif field in ("entity_id", "context") and model is not None:
            change = _changes(model, keys).get(field, _as_it_is)
            if change is not None:
                kept[field] = None if value is None else change(value if isinstance(value, str) else json.dumps(value))
        elif field in _FIELDS - _PERSONAL or (field in ("name", "value") and _is_kpi(found, model)):
            kept[field] = value
        else:
            kept[field] = _masked(value)
    return kept


def _is_kpi(found: Mapping[str, Any], model: ModelConfig | None) -> bool:
    """Whether something is the event of a KPI that the model declares."""
    return found.get("kind") == KPI and model is not None and str(found.get("name")) in model.kpis


def protects(model: ModelConfig) -> bool:
    """Whether anything of a model is protected."""
    own = model.privacy
    return any((own.entity_id, own.context, own.undeclared)) or any(c.sensitive for c in model.columns.values())


def _protected_features(features: Mapping[Any, Any], model: ModelConfig, keys: Keys) -> dict[str, Any]:
    changes, kept = _changes(model, keys), {}
    for name, value in features.items():
        low = str(name).lower()
        change = changes.get(low, _as_it_is if low in _declared(model) else _undeclared(model))
        if change is not None:
            kept[str(name)] = None if value is None else change(value)
    return kept


def _changes(model: ModelConfig, keys: Keys) -> dict[str, Change | None]:
    """What is done to the values of each protected column, by its name in lower case; None for dropped ones."""
    found: dict[str, Change | None] = {}
    for name, column in model.columns.items():
        if column.sensitive is Protection.DROP:
            found[name.lower()] = None
        elif column.sensitive is not None:
            found[name.lower()] = _change(column.sensitive, column.kind, column.missing, keys)
    if model.privacy.entity_id:
        dropped = model.privacy.entity_id == "drop"
        found["entity_id"] = None if dropped else lambda value: keys.pseudonym(show(value))
    if model.privacy.context:
        found["context"] = None if model.privacy.context == "drop" else _masked_context
    return found


def _undeclared(model: ModelConfig) -> Change | None:
    how = model.privacy.undeclared
    return _as_it_is if how is None else None if how == "drop" else _masked


def _declared(model: ModelConfig) -> frozenset[str]:
    return frozenset({name.lower() for name in (*model.columns, *score_columns(model))} | _FIELDS)


def _change(how: Protection, kind: Kind, missing: tuple[float | str, ...], keys: Keys) -> Change:
    """What protects a single value of a column; what stands for "unknown" stays, and so does what is no value."""
    unknown = {show(value) for value in missing} | {"NaN", "nan"}
    if how is Protection.PSEUDONYMISE:
        protected: Change = lambda value: keys.pseudonym(show(value))  # noqa: E731
    else:
        protected = {Kind.NUMERIC: _first_digit, Kind.DURATION: _first_digit, Kind.DATETIME: _year}.get(kind, _shaped)
    return lambda value: value if show(value) in unknown else protected(value)


def _as_it_is(value: Any) -> Any:
    return value


def _shaped(value: Any) -> str:
    return shape(show(value))


def _first_digit(value: Any) -> Any:
    """A number rounded to its first digit, as a number or as text as it came; the shape of what is no number."""
    try:
        number = value.total_seconds() if hasattr(value, "total_seconds") else float(value)
    except (TypeError, ValueError, OverflowError):
        return _shaped(value)
    if not math.isfinite(number):
        return value
    rounded = float(f"{number:.0e}")
    return show(rounded) if isinstance(value, str) else rounded


def _year(value: Any) -> Any:
    """The first moment of a moment's year; the shape of what is no moment."""
    moment = value
    if isinstance(value, str):
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            return shape(value)
    if not hasattr(moment, "year"):
        return _shaped(value)
    first = moment.replace(month=1, day=1)
    if isinstance(first, datetime):
        first = first.replace(hour=0, minute=0, second=0, microsecond=0)
    return first.isoformat() if isinstance(value, str) else first


def _masked(value: Any) -> Any:
    """A plain value with the texts, and the numbers, in it masked; the keys of a mapping stay."""
    if isinstance(value, Mapping):
        return {str(key): _masked(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_masked(inner) for inner in value]
    if value is None or isinstance(value, bool):
        return value
    return shape(value) if isinstance(value, str) else _first_digit(value)


def _masked_context(value: Any) -> str:
    try:
        return json.dumps(_masked(json.loads(value)), separators=(",", ":"), ensure_ascii=False)
    except (ValueError, RecursionError):
        return shape(str(value))


def _changed(column: pa.ChunkedArray, change: Change) -> pa.Array:
    """A column with each of its values changed; as text where not all of them stay of one type."""
    if pa.types.is_null(column.type):
        return column.combine_chunks()
    if pa.types.is_timestamp(column.type):  # Python has no finer moments
        column = column.cast(pa.timestamp("us", column.type.tz), safe=False)
    encoded = column.combine_chunks()
    encoded = encoded if pa.types.is_dictionary(encoded.type) else _encoded(encoded)
    if encoded is None:
        return _array([None if value is None else change(value) for value in column.to_pylist()])
    values = [None if value is None else change(value) for value in encoded.dictionary.to_pylist()]
    return pc.take(_array(values), encoded.indices)


def _encoded(array: pa.Array) -> pa.DictionaryArray | None:
    try:
        return pc.dictionary_encode(array)
    except pa.ArrowNotImplementedError:  # nested values, which are told apart one by one
        return None


def _array(values: list[Any]) -> pa.Array:
    try:
        return pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
        return pa.array([None if value is None else show(value) for value in values], pa.string())
