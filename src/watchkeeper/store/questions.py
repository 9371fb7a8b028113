"""Questions to the log: which predictions, in which order, how many. From short texts to a checked form, and to SQL.

A condition is one comparison: `distance > 500`, `origin = JFK`, `carrier in (AA, UA)`, `weight is missing`. Besides the
features it may name any field of a prediction, `label`, `known_at`, and `error`, which is `abs(score - label)`. Every
value is checked against its column's type and quoted before it becomes part of SQL.
"""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import pyarrow as pa

from watchkeeper.errors import QuestionError, did_you_mean
from watchkeeper.events import EARLIEST, LATEST, RESOURCES, plain
from watchkeeper.schema import Kind, ModelConfig, Protection
from watchkeeper.store.backends import Backend, quoted, text
from watchkeeper.store.privacy import PSEUDONYM, Keys
from watchkeeper.store.sources import show
from watchkeeper.tasks import label_type
from watchkeeper.windows import parse_duration

ERROR = "(error)"
"""How far the score, or the number predicted, lies from the label; of classes 1 where they differ. A feature may be
called "error", never this."""
ERRORS = {
    "INTEGER": "abs(score - label)",
    "DOUBLE": "abs(prediction - label)",
    "VARCHAR": "CASE WHEN prediction IS NULL OR label IS NULL THEN NULL WHEN prediction = label THEN 0.0 ELSE 1.0 END",
}
"""The same as SQL, by the type of the labels."""
FIELDS = {
    "request_id": "VARCHAR",
    "event_time": "TIMESTAMP",
    "version": "VARCHAR",
    "variant": "VARCHAR",
    "entity_id": "VARCHAR",
    "prediction": "INTEGER",
    "score": "DOUBLE",
    "label": "INTEGER",
    "known_at": "TIMESTAMP",
    "latency_ms": "DOUBLE",
    **dict.fromkeys(RESOURCES, "DOUBLE"),
    "status": "VARCHAR",
    "context": "VARCHAR",
}
"""What an answer holds of a prediction beside its features, in this order."""
OF_LABEL = frozenset({"label", "known_at", ERROR})
"""What is known only once the label is."""
LONGEST, MOST = 10_000, 50
"""Characters of a condition, and conditions of a question."""
MOST_ROWS = 10**12
_TYPES = {Kind.NUMERIC: "DOUBLE", Kind.DURATION: "DOUBLE", Kind.DATETIME: "TIMESTAMP"}
_HOLDS = {"VARCHAR": "texts", "DOUBLE": "numbers", "INTEGER": "whole numbers", "TIMESTAMP": "times"}
_NAN = "CAST('NaN' AS FLOAT8)"
_EXAMPLES = "distance > 500, origin = JFK, carrier in (AA, UA), or weight is missing"


class Order(StrEnum):
    """Which predictions come first. Those without an error, or without a latency, are left out of the last two."""

    NEWEST = "newest"
    OLDEST = "oldest"
    ERROR = "error"
    SLOWEST = "slowest"


_KEYS = {
    Order.NEWEST: ("event_time", "TIMESTAMP", True),
    Order.OLDEST: ("event_time", "TIMESTAMP", False),
    Order.ERROR: (ERROR, "DOUBLE", True),
    Order.SLOWEST: ("latency_ms", "DOUBLE", True),
}
"""What each order goes by, of what type that is, and whether the largest comes first."""


@dataclass(frozen=True, slots=True)
class Column:
    """Something that a condition can name: its type in the log, what stands for "unknown" in it, and whether its
    values are stored as pseudonyms."""

    name: str
    kind: str
    missing: tuple[float | str, ...] = ()
    pseudonyms: bool = False


@dataclass(frozen=True, slots=True)
class Condition:
    """One comparison. `operator` is one of `= != < <= > >= in`, `not in`, `missing` and `known`; `values` are texts,
    numbers or moments in UTC, as the column's type asks. In words, what is stored as a pseudonym is not named."""

    column: Column
    operator: str
    values: tuple[Any, ...] = ()

    def __str__(self) -> str:
        name = "error" if self.column.name == ERROR else self.column.name
        if self.operator in ("missing", "known"):
            return f"{name} is {self.operator}"
        told = [v for v in self.values if not self.column.pseudonyms or PSEUDONYM.fullmatch(v)]
        shown = [_shown(value) for value in told]
        return f"{name} {self.operator} " + (f"({', '.join(shown)})" if "in" in self.operator else shown[0])


@dataclass(frozen=True, slots=True)
class Place:
    """A prediction's place in an order, after which the next page begins."""

    order: Order
    key: Any
    request_id: str

    def __str__(self) -> str:
        key = self.key.isoformat() if isinstance(self.key, datetime) else self.key
        packed = json.dumps([self.order.value, key, self.request_id], separators=(",", ":"))
        return base64.urlsafe_b64encode(packed.encode()).decode().rstrip("=")


@dataclass(frozen=True, slots=True)
class Question:
    """Which predictions: those from `since` until just before `until` that fulfil all conditions, after a place, as
    many as `limit` (None for all)."""

    since: datetime | None = None
    until: datetime | None = None
    where: tuple[Condition, ...] = ()
    order: Order = Order.NEWEST
    limit: int | None = None
    after: Place | None = None

    def __str__(self) -> str:
        """The question in words. A subject is named by pseudonyms alone, where there are such."""
        parts = [f"since {self.since.isoformat()}"] if self.since else []
        parts += [f"until {self.until.isoformat()}"] if self.until else []
        parts += [*map(str, self.where), f"{self.order} first"]
        return "; ".join([*parts, *([f"at most {self.limit:,}"] if self.limit is not None else [])])


def columns(model: ModelConfig) -> dict[str, Column]:
    """What conditions on a model's predictions can name."""
    hidden = model.privacy.entity_id is not None
    fields = {**FIELDS, "prediction": label_type(model), "label": label_type(model)}
    found = {name: Column(name, kind, pseudonyms=name == "entity_id" and hidden) for name, kind in fields.items()}
    found["error"] = Column(ERROR, "DOUBLE")
    for name, column in model.stored.items():
        pseudonyms = column.sensitive is Protection.PSEUDONYMISE
        found[name] = Column(name, _TYPES.get(column.kind, "VARCHAR"), column.missing, pseudonyms)
    return found


def read(
    model: ModelConfig,
    keys: Keys,
    now: datetime,
    *,
    where: Iterable[str] = (),
    since: str = "",
    until: str = "",
    user: Sequence[str] = (),
    request: Sequence[str] = (),
    version: Sequence[str] = (),
    error: str = "",
    order: str = Order.NEWEST,
    limit: int | None = None,
    after: str = "",
) -> Question:
    """A question as people and programs ask it.

    Args:
        keys: whose pseudonyms `user`, and the values of pseudonymised columns, may be stored as.
        where: conditions, all of which must hold.
        since, until: ISO 8601, in UTC where there is no zone, or how long ago, such as 7d.
        user, request, version: any of these.
        error: such as `>= 0.5`.
        after: the place that the page before ended at.

    Raises QuestionError, which says what was wrong and what to do.
    """
    known = columns(model)
    if user and model.privacy.entity_id == "drop":
        raise QuestionError("the entity ids of this model are dropped before they are stored; ask in another way")
    conditions = [condition(one, known, keys) for one in where]
    for name, values in (("entity_id", user), ("request_id", request), ("version", version)):
        if values:
            conditions.append(Condition(known[name], "in", _stored(known[name], values, keys)))
    if error:
        conditions.append(condition(f"error {error}", {"error": Column(ERROR, "DOUBLE")}, keys))
    if len(conditions) > MOST:
        raise QuestionError(f"the question has {len(conditions)} conditions; it may have {MOST}: use in (...)")
    if order not in list(Order):
        raise QuestionError(f'there is no order "{order}"; {did_you_mean(order, list(Order), "there are")}')
    if limit is not None and not 1 <= limit <= MOST_ROWS:
        raise QuestionError(f"limit is {limit}; ask for 1 at least, and {MOST_ROWS:,} at most")
    start = _time("since", since, now) if since else None
    end = _time("until", until, now) if until else None
    if start and end and start >= end:
        raise QuestionError(f"since {since} is not before until {until}, so no time is left; exchange them")
    chosen = Order(order)
    return Question(start, end, tuple(conditions), chosen, limit, _place(after, chosen) if after else None)


# one condition

_TOKEN = re.compile(
    r"""\s*(?:
        (?P<quoted>"(?:[^"]|"")*"|'(?:[^']|'')*')
      | (?P<sign><=|>=|!=|<>|==|=|<|>|\(|\)|,)
      | (?P<word>[^\s"'=<>!(),]+)
    )""",
    re.VERBOSE,
)
_SAME = {"==": "=", "<>": "!="}
_ENDS = ("(", ")", ",")


def condition(said: str, known: Mapping[str, Column], keys: Keys) -> Condition:
    """Read one condition. Raises QuestionError."""
    if len(said) > LONGEST:
        raise QuestionError(f"a condition has {len(said):,} characters; it may have {LONGEST:,}")
    tokens = _tokens(said)
    if not tokens:
        raise QuestionError(f"a condition is empty; write such as {_EXAMPLES}")
    kind, name = tokens[0]
    if kind == "sign":
        raise QuestionError(f'"{said}" begins with {name}, and a condition begins with a column: {_EXAMPLES}')
    if name not in known:
        raise QuestionError(
            f'there is no column "{name}"; {did_you_mean(name, known, "there are")}'
            " (one that is dropped by its configuration cannot be asked for)"
        )
    column, rest = known[name], tokens[1:]
    words = [value.lower() if kind == "word" else value if kind == "sign" else "" for kind, value in rest]
    match words:
        case ["is", "missing" | "null"] | ["is", "not", "known"]:
            return Condition(column, "missing")
        case ["is", "known"] | ["is", "not", "missing" | "null"]:
            return Condition(column, "known")
        case ["in", "(", *_, ")"]:
            return Condition(column, "in", _stored(column, _listed(said, rest[2:-1]), keys))
        case ["not", "in", "(", *_, ")"]:
            return Condition(column, "not in", _stored(column, _listed(said, rest[3:-1]), keys))
        case [("=" | "==" | "!=" | "<>" | "<" | "<=" | ">" | ">=") as sign, _] if words[1] not in (*_ENDS, *_SIGNS):
            return _compared(column, _SAME.get(sign, sign), rest[1][1], keys)
        case [("=" | "==" | "!=" | "<>" | "<" | "<=" | ">" | ">="), _, _, *_]:
            raise QuestionError(
                f'"{said}" goes on after its value; give each condition by itself, and put a value with spaces or'
                " signs in quotes"
            )
    raise QuestionError(f'"{said}" is no condition; write such as {_EXAMPLES}')


_SIGNS = ("=", "==", "!=", "<>", "<", "<=", ">", ">=")


def _tokens(said: str) -> list[tuple[str, str]]:
    found, at, end = [], 0, len(said.rstrip())
    while at < end:
        match = _TOKEN.match(said, at)
        if match is None:
            raise QuestionError(f'"{said}" cannot be read from {said[at:].strip()[:20]!r} on; is a quote left open?')
        kind = str(match.lastgroup)
        value = match[kind]
        if kind == "quoted":
            value = value[1:-1].replace(value[0] * 2, value[0])
        found.append((kind, value))
        at = match.end()
    return found


def _listed(said: str, tokens: Sequence[tuple[str, str]]) -> list[str]:
    values = [value for _, value in tokens[::2]]
    if any(kind == "sign" for kind, _ in tokens[::2]) or any(token != ("sign", ",") for token in tokens[1::2]):
        raise QuestionError(
            f'"{said}" has no list that can be read; write such as in (AA, UA), values with spaces quoted'
        )
    if not len(tokens) % 2:
        raise QuestionError(f'"{said}" lists no value, or none after a comma; write such as in (AA, UA)')
    return values


def _compared(column: Column, sign: str, value: str, keys: Keys) -> Condition:
    if column.kind == "VARCHAR" and sign not in ("=", "!="):
        raise QuestionError(
            f'"{column.name}" holds texts, which are not compared with {sign}; use =, !=, in (...), or is missing'
        )
    if column.pseudonyms:
        return Condition(column, "in" if sign == "=" else "not in", _stored(column, [value], keys))
    return Condition(column, sign, (_typed(column, value),))


def _stored(column: Column, values: Iterable[str], keys: Keys) -> tuple[Any, ...]:
    """The values as they may be in the log."""
    if not column.pseudonyms:
        return tuple(_typed(column, value) for value in values)
    return tuple(dict.fromkeys(name for value in values for name in keys.names_of(_typed(column, value))))


def _typed(column: Column, value: str) -> Any:
    name = "error" if column.name == ERROR else column.name
    if column.kind == "VARCHAR":
        if any(sign == "\0" or "\ud800" <= sign <= "\udfff" for sign in value):
            raise QuestionError(f'the value for "{name}" holds characters that no stored text has; check its encoding')
        return value
    if column.kind == "TIMESTAMP":
        return _moment(f'"{name}" holds times', value)
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        hint = f"; ask {name} is missing" if value.lower() in ("nan", "null", "none", "missing") else ""
        raise QuestionError(
            f'"{name}" holds {_HOLDS[column.kind]}, and "{value}" is none{hint or "; write such as 12.5"}'
        )
    return number


def _time(name: str, value: str, now: datetime) -> datetime:
    try:
        return now - parse_duration(value)
    except (ValueError, OverflowError):  # no duration, or one that no clock can show
        return _moment(f"{name} is a time, or how long ago such as 7d", value)


def _moment(what: str, value: str) -> datetime:
    try:
        found = datetime.fromisoformat(value)
        moment = found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        moment = None
    if moment is None or not EARLIEST <= moment.year <= LATEST:
        raise QuestionError(f'{what}, and "{value}" is none; write such as 2013-07-04 or 2013-07-04T15:00:00+02:00')
    return moment


def _place(after: str, order: Order) -> Place:
    try:
        named, key, request_id = json.loads(base64.urlsafe_b64decode(after + "=" * (-len(after) % 4)))
        if named != order or not isinstance(request_id, str):
            raise ValueError(named)
        key = _moment("", key) if _KEYS[order][1] == "TIMESTAMP" else float(key)
        return Place(order, key, _typed(Column("request_id", "VARCHAR"), request_id))
    except (ValueError, TypeError, OverflowError, RecursionError, QuestionError):
        raise QuestionError(
            f'"{after[:40]}" is no place in the order "{order}"; take what the page before gave, and keep the order'
        ) from None


def _shown(value: Any) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, float):
        return show(value)
    return str(value) if re.fullmatch(r"[^\s\"'=<>!(),]+", value) else quoted(value)


# SQL


def sql(
    backend: Backend,
    predictions: str,
    outcomes: str,
    features: Sequence[str],
    question: Question,
    label: str = "INTEGER",
) -> str:
    """The query whose answer is `FIELDS` and then the features, a row for each prediction, with its latest label.

    Args:
        predictions, outcomes: the names of the model's tables.
        features: the columns that the table of predictions has for them.
        label: the type of the labels.
    """
    own = [quoted(name) for name in (*(name for name in FIELDS if name not in OF_LABEL), *features)]
    span = [f"event_time >= {_literal(question.since)}"] if question.since else []
    span += [f"event_time < {_literal(question.until)}"] if question.until else []
    first = [*span, *(_holds(c) for c in question.where if c.column.name not in OF_LABEL)]
    after = [_holds(c) for c in question.where if c.column.name in OF_LABEL]
    (of_order, of_rest) = _ordered(question)
    cut = f" ORDER BY {of_rest}" + (f" LIMIT {int(question.limit)}" if question.limit is not None else "")
    early = not after and question.order is not Order.ERROR
    (first if early else after).extend(of_order)
    chosen = f"SELECT {', '.join(own)} FROM {quoted(predictions)}{_all_of(first)}"
    fields = ", ".join(map(quoted, (*FIELDS, *features)))
    return (
        f"WITH chosen AS ({chosen}{cut if early and question.limit is not None else ''}), known AS ("
        f"SELECT request_id, {backend.latest} AS label, max(known_at) FILTER (WHERE label IS NOT NULL) AS known_at"
        f" FROM {quoted(outcomes)} WHERE request_id IN (SELECT request_id FROM chosen) GROUP BY request_id),"
        " told AS (SELECT chosen.*, known.label, known.known_at FROM chosen LEFT JOIN known USING (request_id)),"
        f" answer AS (SELECT *, {ERRORS[label]} AS {quoted(ERROR)} FROM told)"
        f" SELECT {fields} FROM answer{_all_of(after)}{cut}"
    )


def _ordered(question: Question) -> tuple[list[str], str]:
    """What must hold for a row to have a place in the order after the one asked for, and the order itself."""
    name, kind, down = _KEYS[question.order]
    key = quoted(name)
    needed = [] if kind == "TIMESTAMP" else [f"{key} IS NOT NULL AND {key} <> {_NAN}"]
    if question.after is not None:
        at, of = _literal(question.after.key), text(question.after.request_id)
        beyond = f"{key} {'<' if down else '>'} {at}"
        needed.append(f"({beyond} OR ({key} = {at} AND request_id > {of}))")
    return needed, f"{key}{' DESC' if down else ''}, request_id"


def _holds(condition: Condition) -> str:
    """A condition as SQL. NaN counts as missing, and what is missing fulfils no comparison."""
    column, operator = condition.column, condition.operator
    value = quoted(column.name)
    if operator in ("missing", "known"):
        kinds = (str,) if column.kind == "VARCHAR" else (int, float)
        stand_in = [_literal(show(m) if column.kind == "VARCHAR" else float(m)) for m in column.missing
                    if column.kind == "VARCHAR" or (column.kind == "DOUBLE" and isinstance(m, kinds))]  # fmt: skip
        either = [f"{value} IS NULL", *([f"{value} = {_NAN}"] if column.kind == "DOUBLE" else [])]
        either += [f"{value} IN ({', '.join(stand_in)})"] if stand_in else []
        return ("NOT " if operator == "known" else "") + f"COALESCE({' OR '.join(either)}, FALSE)"
    listed = ", ".join(map(_literal, condition.values))
    if operator in ("in", "not in"):
        return f"{value} {operator.upper()} ({listed})"
    same = {"!=": "<>"}.get(operator, operator)
    number = f" AND {value} <> {_NAN}" if column.kind == "DOUBLE" else ""
    return f"({value} {same} {listed}{number})"


def _all_of(conditions: Sequence[str]) -> str:
    return f" WHERE {' AND '.join(conditions)}" if conditions else ""


def _literal(value: Any) -> str:
    if isinstance(value, datetime):
        return f"TIMESTAMP '{value.astimezone(UTC).replace(tzinfo=None).isoformat(sep=' ')}'"
    if isinstance(value, float):
        return f"CAST('{value!r}' AS FLOAT8)"
    return text(value)


def zoned(batches: pa.RecordBatchReader) -> pa.RecordBatchReader:
    """The answer with moments that say that they are in UTC."""
    kinds = [pa.timestamp("us", "UTC") if pa.types.is_timestamp(f.type) else f.type for f in batches.schema]
    return batches.cast(pa.schema(zip(batches.schema.names, kinds, strict=True)))


def place(question: Question, row: Mapping[str, Any]) -> Place:
    """Where a row of the answer stands in the order."""
    name, _, _ = _KEYS[question.order]
    key = _error(row) if name == ERROR else row[name]
    return Place(question.order, key, row["request_id"])


def _error(row: Mapping[str, Any]) -> float:
    if isinstance(row["label"], str):
        return float(row["prediction"] != row["label"])
    said = row["score"] if row["score"] is not None else row["prediction"]
    return float(abs(said - row["label"]))


def event(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of the answer in the form of an event, with its label, as JSON can carry it."""
    shown = {name: value.isoformat() if isinstance(value, datetime) else plain(value) for name, value in row.items()}
    fields = {name: shown.pop(name) for name in FIELDS}
    return {**fields, "features": shown}
