"""What every setting is made of, and the settings of what is kept: where, how long, and how protected."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, WithJsonSchema, model_validator

from watchkeeper.errors import ConfigError
from watchkeeper.windows import parse_duration, show_duration


def duration(value: Any) -> timedelta:
    """A duration as written, or a timedelta that can be written as one; a bare number would leave its unit open."""
    if isinstance(value, timedelta) and value > timedelta(0) and not value.microseconds:
        return value
    return parse_duration(str(value))


Duration = Annotated[timedelta, BeforeValidator(duration), PlainSerializer(show_duration, when_used="json")]


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class UnlabelledConfig(Strict):
    """What predictions count as that have no label `after` so long: "no click within 24 hours is a no".

    A label that comes later still counts, and what was measured is measured again. Before that time only the other
    label can be known, and performance is estimated from those that are.
    """

    label: Literal[0, 1] = 0
    after: Duration


class InferenceConfig(Strict):
    """How the requests and answers that an inference server reports become predictions.

    `service` is the inference service that runs the model; the model's own name, if not given. `score` and `prediction`
    name the outputs (or the keys of each answer) that hold them, and `score_index` says which of several values of a
    row is the score, counted from 0; all three are only needed where an answer leaves a choice. A half of a prediction
    waits for so long as `wait` for the other one.
    """

    service: str = ""
    score: str = ""
    score_index: int | None = Field(default=None, ge=0)
    prediction: str = ""
    wait: Duration = timedelta(minutes=10)


KPI_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,39}")


class KpiConfig(Strict):
    """A business value that is logged for predictions once it is known: revenue, a click, a refund, minutes watched.

    `unit` is what it is counted in, such as EUR. `delay` is how long it takes to be known: it is looked at that much
    later than other columns, and one that comes later still counts.
    """

    unit: str = Field(default="", max_length=20)
    delay: Duration = timedelta(days=1)


class PrivacyConfig(Strict):
    """What is kept of a model's fields that are no features.

    `entity_id` and `context` are stored as they come unless they are protected: a pseudonymised `entity_id` is a keyed
    hash, a masked `context` keeps its keys and the shapes of its values. `undeclared` is what becomes of the values of
    columns that the configuration does not name, which are set aside. Values that fewer rows share than `k_anonymity`
    are never named in what is kept of a column: with it that holds for every categorical column, without it for the
    sensitive ones, from 5 rows on.
    """

    entity_id: Literal["pseudonymise", "drop"] | None = None
    context: Literal["mask", "drop"] | None = None
    undeclared: Literal["mask", "drop"] | None = None
    k_anonymity: int | None = Field(default=None, ge=2, le=1000)


_PLACE = re.compile(r"env:[A-Za-z_]\w*|file:.+")
_SAY_WHERE = "must say where the key is, env:NAME or file:PATH; never write the key itself here"


class KeyConfig(Strict):
    """Where the key of pseudonyms is: `env:NAME`, a variable, or `file:PATH`, a file outside of the store.

    The key is at least 32 characters that nobody can guess, such as `openssl rand -hex 32` gives. To rotate it, move
    it to `previous_keys` and name a new one: new rows get pseudonyms by the new key, and a subject is found by all.
    """

    key: str | None = None
    previous_keys: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _names_places(self) -> KeyConfig:
        previous = [(("previous_keys", i), written) for i, written in enumerate(self.previous_keys)]
        for place, written in ((("key",), self.key), *previous):
            if written is not None and not _PLACE.fullmatch(written):
                raise ConfigError(_SAY_WHERE, place)
        if self.previous_keys and self.key is None:
            raise ConfigError("there are previous keys and no key; add key", ("previous_keys",))
        return self


class AuditConfig(Strict):
    """How the audit record is sealed: what was its latest entry is signed `every` so often, by an Ed25519 `key`.

    The key is in `env:NAME`, a variable, or `file:PATH`, a file outside of the store, in PEM, such as
    `openssl genpkey -algorithm ed25519` gives. `checkpoints` is the file that the signatures go to; keep it, or a copy
    of it, where nobody who can write to the store can: then even a record that was cut off at its end is found out.
    """

    key: str | None = None
    checkpoints: str | None = None
    every: Duration = timedelta(days=1)

    @model_validator(mode="after")
    def _names_places(self) -> AuditConfig:
        if self.key is not None and not _PLACE.fullmatch(self.key):
            raise ConfigError(_SAY_WHERE, ("key",))
        if self.key is None and self.checkpoints is not None:
            raise ConfigError("there is no key to sign checkpoints with; add key", ("checkpoints",))
        return self


class EventsConfig(Strict):
    """A table that holds a model's predictions already, and is read where it lies: nothing is ever written to it.

    `url` is `duckdb:///file`, `sqlite:///file`, `postgresql://user@host/database`, or `env:NAME`, the variable that
    holds one of these; `table` its table or view, as SQL names it. `columns` says where the fields of a prediction, the
    features and the `label` are, if their columns are not called like them, and of a multi-class model the probability
    of each class (`score:cat`); `request_id` and `event_time` are needed.

    At each tick the rows and labels of the grains from `look_back` before the latest row on are counted, and the grains
    whose counts have changed are summarised again. So rows and labels that come later than that are not noticed.
    """

    url: str
    table: str = Field(min_length=1)
    columns: dict[str, str] = {}
    look_back: Duration = timedelta(days=7)

    @model_validator(mode="after")
    def _is_an_address(self) -> EventsConfig:
        if not re.match(r"(duckdb|sqlite):///.|postgres(ql)?://.|env:[A-Za-z_]\w*$", self.url):
            raise ConfigError(
                "must be duckdb:///file, sqlite:///file, postgresql://user@host/database or env:NAME", ("url",)
            )
        if re.match(r"\w+://[^/@?]*:[^/]*@", self.url) or "password=" in self.url:
            raise ConfigError("holds a password; write env:NAME, and the whole address in that variable", ("url",))
        return self


_UNITS = {"MB": 10**6, "GB": 10**9, "TB": 10**12}


def _size(value: Any) -> int:
    """Bytes, from how they are written."""
    if isinstance(value, int) and value >= _UNITS["MB"]:
        return value
    found = re.fullmatch(r"(\d+(?:\.\d+)?) ?([A-Z]B)", str(value).strip())
    if not found or found[2] not in _UNITS or not float(found[1]):
        raise ConfigError(f'"{value}" is no size; write a number and MB, GB or TB, such as 20GB')
    return round(float(found[1]) * _UNITS[found[2]])


def show_size(size: int) -> str:
    """The form in which a size is written in a configuration."""
    unit = next((u for u in ("TB", "GB") if size >= _UNITS[u]), "MB")
    return f"{size / _UNITS[unit]:g}{unit}"


Size = Annotated[
    int,
    BeforeValidator(_size),
    PlainSerializer(show_size, when_used="json"),
    WithJsonSchema({"type": "string", "pattern": r"^\d+(\.\d+)? ?[MGT]B$", "examples": ["500MB", "20GB"]}),
]


class RetentionConfig(Strict):
    """How long raw rows stay: predictions, their outcomes and what was set aside. Summaries stay.

    Rows older than `age` are deleted, and the oldest ones beyond `size`, whole grains at a time. With `keep`, such as
    0.1, only this share of the rows stays once `label_delay` is over: those with the smallest hashes of their request
    ids, which are the same ones always, so each of them stands for 1/keep rows.
    """

    age: Duration | None = None
    size: Size | None = None
    keep: float | None = Field(default=None, gt=0, lt=1)


class StoreConfig(Strict):
    """Which databases hold the `state` and the `events`, where these are not the files in the store's folder.

    Each is the address of a Postgres, such as `postgresql://watchkeeper@host/models`, or `env:NAME`, the variable that
    holds the address. A password stands in a variable or in `~/.pgpass`, never here. Both may be the same database.
    Several engines, each with a folder of its own, may share them.
    """

    state: str | None = None
    events: str | None = None

    @model_validator(mode="after")
    def _are_addresses(self) -> StoreConfig:
        for place, written in (("state", self.state), ("events", self.events)):
            if written is None or re.fullmatch(r"env:[A-Za-z_]\w*", written):
                continue
            if not re.match(r"postgres(ql)?://", written):
                raise ConfigError(
                    "must be the address of a Postgres, such as postgresql://user@host/database, or env:NAME; leave it"
                    " out to use the file in the store's folder",
                    (place,),
                )
            if re.match(r"\w+://[^/@?]*:[^/]*@", written) or "password=" in written:
                raise ConfigError("holds a password; write env:NAME, and the whole address in that variable", (place,))
        return self
