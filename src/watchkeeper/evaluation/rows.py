"""Predictions with their labels, from plain tables: of what they are predictions, and in which types they count."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from watchkeeper.comparison.tables import Side, check_time, type_name
from watchkeeper.errors import ConfigError, DataError, did_you_mean
from watchkeeper.events import SCORES, score_of
from watchkeeper.profiles import Profile
from watchkeeper.schema import Feature, Kind
from watchkeeper.stats.grid import NEGATIVE_INFINITY, POSITIVE_INFINITY
from watchkeeper.store import sources

BINARY, MULTICLASS, REGRESSION = "binary", "multiclass", "regression"
MULTILABEL, RANKING = "multilabel", "ranking"
TASKS = (BINARY, MULTICLASS, REGRESSION, MULTILABEL, RANKING)
ESTIMABLE = (BINARY, MULTICLASS, REGRESSION)
"""The tasks whose metrics can be estimated without labels."""
_HOW_TO_ESTIMATE = (
    "Without labels metrics can only be estimated: give predictions of the same model with their labels as reference="
)
MOST_CLASSES = 100
FEW_NUMBERS = 20
"""Whole numbers of so many different values, as labels and as predictions, are taken for classes."""
AT = "at"
NO_PREDICTION = "without a prediction"


@dataclass(frozen=True)
class Rows:
    """Predictions with labels in the types that they are counted in.

    Attributes:
        table: `label`, and as the task has it `score`, `prediction`, a column for each class's score, `query`; `at`
            where there is a time; the columns that segments are made of, numbered `s0`, `s1`, ...; those that are
            searched for weak segments, `w0`, `w1`, ...; and features, `f0`, `f1`, ...
        why: what the task was told from.
        classes: those of a multi-class task, and the labels of one with several labels a row.
        scored: the classes that there is a score of.
        by: the names of the columns that segments are made of, in the order of their numbers.
        searched: the names of those that are searched, likewise.
        notes: what was left out, and why.
        given: rows of a binary task that have anything as a label, and `of` what its columns were called.
        featured: the features that estimates heed, in the order of their numbers, and what they hold.
        may_lack_labels: whether none needs to have a label, since what is not known can be estimated.
    """

    table: Any
    task: str
    why: str
    classes: tuple[str, ...] = ()
    scored: tuple[str, ...] = ()
    by: tuple[str, ...] = ()
    searched: tuple[str, ...] = ()
    timed: bool = False
    notes: list[str] = field(default_factory=list)
    given: int = 0
    of: Mapping[str, str] = field(default_factory=dict)
    featured: tuple[tuple[str, Kind], ...] = ()
    may_lack_labels: bool = False


def joined(predictions: Side, outcomes: Side | None, request_id: str | None, label: str) -> Side:
    """One table of the predictions and, where the labels come apart, their labels. The last label that a request has
    counts if there is a column `known_at`; without one, a request must not have two."""
    if outcomes is None:
        return predictions
    key = request_id or "request_id"
    for side in (predictions, outcomes):
        _needs(side, key, "to join predictions and outcomes by", "request_id")
    _needs(outcomes, label, "with the labels", "label")
    told = outcomes.table.filter(outcomes.table[label].notnull())
    if "known_at" in told.columns:
        told = told.group_by(key).agg(**{label: told[label].argmax(told["known_at"])})
    else:
        told = told.select(key, label)
        ids = sources.scalars(told, {"rows": told.count(), "different": told[key].nunique()})
        if ids["rows"] > ids["different"]:
            raise DataError(
                f"the outcomes have {ids['rows'] - ids['different']:,} requests with more than one label; keep one of"
                " each, or say when each was known in a column known_at"
            )
    if told.get_backend() is not predictions.table.get_backend():
        told = sources.read(predictions.table.get_backend(), sources.fetch(told), "outcomes")
    told = told.select(**{"(request)": told[key].cast("string"), "(known)": told[label]})
    kept = predictions.table.drop(label) if label in predictions.table.columns else predictions.table
    both = kept.left_join(told, [kept[key].cast("string") == told["(request)"]]).drop("(request)")
    return Side("the predictions with their outcomes", both.rename({label: "(known)"}))


def typed(
    side: Side,
    *,
    task: str | None,
    score: str | Mapping[str, str] | None,
    prediction: str | None,
    label: str | None,
    positive: object,
    time: str | None,
    query: str | None,
    by: Sequence[str],
    search: Sequence[str],
    features: Sequence[str] = (),
    like: Rows | None = None,
) -> Rows:
    """The rows in the types that their task counts. Raises DataError where they do not have them.

    Args:
        like: labelled rows of the same model, whose task and classes these have; then they need no labels.
    """
    label = label or "label"
    if like is not None and like.task in ESTIMABLE and label not in side.table.columns:
        side = Side(side.title, side.table.mutate(**{label: sources.nothing("string")}))
    table = side.table
    _needs(side, label, "with the labels", "label", _HOW_TO_ESTIMATE if like is None else "")
    if task is not None and task not in TASKS:
        raise ConfigError(f'there is no task "{task}"; {did_you_mean(task, TASKS, "the tasks are")}')
    for name, wanted in (("score", score), ("prediction", prediction), ("query", query)):
        if isinstance(wanted, str):
            _needs(side, wanted, f"named as {name}", name)
    for name in by:
        _needs(side, name, "to make segments of", "segments")
    for name in search:
        _needs(side, name, "to search for weak segments", "search")
    for name in features:
        _needs(side, name, "to estimate by", "features")
    featured = like.featured if like else tuple((name, _kind(side, name)) for name in features)
    given = _scores(side, score)
    one = score if isinstance(score, str) else "score" if "score" in table.columns and not given else None
    said = prediction or ("prediction" if "prediction" in table.columns else None)
    found, why = (task, "as told") if task else _inferred(side, label, one, said, given, query, positive)
    if like is not None and not task:
        found, why = like.task, f"{like.why} in the reference"
    columns: dict[str, Any] = {f"s{i}": sources.category(table[name]) for i, name in enumerate(by)}
    columns |= {f"w{i}": table[name] for i, name in enumerate(search)}
    columns |= {f"f{i}": _feature(table, name, kind) for i, (name, kind) in enumerate(featured)}
    if time is not None:
        check_time(side, time)
        columns[AT] = sources.measured(table, Feature(time, Kind.DATETIME))[0]
    start = Rows(
        table, found, why, like.classes if like else (), by=tuple(by), searched=tuple(search), timed=time is not None,
        featured=featured, may_lack_labels=like is not None and found in ESTIMABLE,
    )  # fmt: skip
    return _BY_TASK[found](side, start, columns, label, one, said, given, positive, query)


def _scores(side: Side, score: str | Mapping[str, str] | None) -> dict[str, str]:
    """The column of each class's score, by class."""
    if isinstance(score, Mapping):
        for name in score.values():
            _needs(side, name, "with the score of a class", "score")
        return {score_of(known)[len(SCORES) :]: name for known, name in score.items()}
    return {name[len(SCORES) :]: name for name in side.table.columns if name.startswith(SCORES) and score is None}


def _inferred(
    side: Side,
    label: str,
    score: str | None,
    said: str | None,
    given: Mapping[str, str],
    query: str | None,
    positive: object,
) -> tuple[str, str]:
    kind, table = side.table[label].type(), side.table
    if query is not None:
        return RANKING, "since there are queries"
    if kind.is_array():
        return MULTILABEL, "since each label is a list"
    if given:
        return MULTICLASS, "since there is a score of each class"
    if positive is not None or kind.is_boolean():
        return BINARY, "since the labels are yes or no"
    if kind.is_string():
        if score is not None and said is None:
            return BINARY, "since there is a score and no class is predicted"
        return MULTICLASS, "since the labels are words"
    number = table[label] if kind.is_integer() else table[label].cast("float64").nullif(float("nan"))
    wanted = {"low": number.min(), "high": number.max()}  # which Parquet files tell of whole numbers unread
    ends = side.scalars(wanted if kind.is_integer() else wanted | {"broken": (number != number.floor()).sum()})
    if not ends.get("broken") and (ends["low"] is None or (ends["low"] >= 0 and ends["high"] <= 1)):
        return BINARY, "since all labels are 0 or 1"
    if said is None or not kind.is_integer() or not table[said].type().is_integer():
        return REGRESSION, "since the labels are numbers"
    seen = side.scalars({"label": table[label].nunique(), "said": table[said].nunique()})
    if max(seen.values()) <= FEW_NUMBERS:
        return MULTICLASS, f"since labels and predictions are at most {FEW_NUMBERS} different whole numbers"
    return REGRESSION, "since the labels are numbers"


def _binary(side: Side, rows: Rows, columns: dict[str, Any], label: str, score: str | None, said: str | None,
            given: Mapping[str, str], positive: object, query: str | None) -> Rows:  # fmt: skip
    table = side.table
    name = score or said
    if name is None:
        raise DataError(
            f'there is neither a column "score" nor "prediction" in {side.title}; name the one with scores with score='
        )
    columns |= {"label": _yes_or_no(side, label, positive), "score": _number(side, name, "score")}
    told = side.scalars({"n": table[label].count()})["n"]
    return replace(rows, table=table.select(**columns), given=told, of={"label": label, "score": name})


def check_binary(rows: Rows, scores: Profile, labelled: int) -> list[str]:
    """What was left out of a binary task, once it is counted. Raises DataError for scores that are no probabilities,
    and without labels."""
    low, high = scores.low, scores.high
    if scores.special(POSITIVE_INFINITY, NEGATIVE_INFINITY) or not 0 <= (low or 0.0) <= (high or 0.0) <= 1:
        raise DataError(
            f'the scores in "{rows.of["score"]}" must lie between 0 and 1; found'
            f" {low or 0.0:g} to {high or 0.0:g}{' and infinite ones' if scores.special(POSITIVE_INFINITY) else ''}."
            " Give probabilities, or say which task it is with task="
        )
    _has_labels(rows, rows.of["label"], labelled, scores.n)
    strange = _left_out(rows.given - labelled, "with a label that is neither 0 nor 1")
    return [*_left_out(scores.missing, "without a score"), *strange]


def _multiclass(side: Side, rows: Rows, columns: dict[str, Any], label: str, score: str | None, said: str | None,
                given: Mapping[str, str], positive: object, query: str | None) -> Rows:  # fmt: skip
    table = side.table
    columns["label"] = sources.category(table[label]).nullif("")
    columns |= {score_of(known): _number(side, name, f"score of {known}") for known, name in given.items()}
    if said is not None:
        columns["prediction"] = sources.category(table[said]).nullif("")
    elif given:
        names = [*given]
        best, top = sources.text(names[0]), columns[score_of(names[0])].fill_null(-1.0)
        for known in names[1:]:
            share = columns[score_of(known)].fill_null(-1.0)
            best, top = (share > top).ifelse(known, best), (share > top).ifelse(share, top)
        columns["prediction"] = best
    else:
        raise DataError(
            f'there is no column "prediction" and no score of each class in {side.title}; name the column of the'
            " class that was predicted with prediction="
        )
    made = table.select(**columns)
    counted = sources.fetch(made.group_by("label").agg(n=made.count()).limit(10 * MOST_CLASSES)).to_pylist()
    labels = [row["label"] for row in counted if row["label"] is not None]
    _has_labels(rows, label, len(labels), side.rows)
    if len(labels) > MOST_CLASSES:
        raise DataError(
            f'"{label}" holds more than {MOST_CLASSES} different labels, which is too many for classes; for numbers say'
            ' task="regression", else group rare classes'
        )
    classes = tuple(sorted({*labels, *given, *rows.classes}))
    without = sources.scalars(made, {"n": made["prediction"].isnull().sum()})["n"]
    return replace(
        rows, table=made, classes=classes, scored=tuple(given), notes=_left_out(without, "without a prediction")
    )


def _regression(side: Side, rows: Rows, columns: dict[str, Any], label: str, score: str | None, said: str | None,
                given: Mapping[str, str], positive: object, query: str | None) -> Rows:  # fmt: skip
    said = said or score
    if said is None:
        raise DataError(f'there is no column "prediction" in {side.title}; name the one that holds it with prediction=')
    columns |= {"label": _finite(side, label, "label"), "prediction": _number(side, said, "prediction")}
    made = side.table.select(**columns)
    facts = sources.scalars(
        made,
        {
            "labelled": made["label"].count(), "rows": made.count(),
            "without": (made["prediction"].isnull() | made["prediction"].isnan()).sum(),
        },
    )  # fmt: skip
    _has_labels(rows, label, facts["labelled"], facts["rows"])
    return replace(rows, table=made, notes=_left_out(facts["without"], NO_PREDICTION))


def _multilabel(side: Side, rows: Rows, columns: dict[str, Any], label: str, score: str | None, said: str | None,
                given: Mapping[str, str], positive: object, query: str | None) -> Rows:  # fmt: skip
    table = side.table
    if said is None:
        raise DataError(
            f'there is no column "prediction" in {side.title}; name the one that holds the lists with prediction='
        )
    for name in (label, said):
        if not table[name].type().is_array():
            raise DataError(
                f'"{name}" must hold a list of labels in each row; it holds {type_name(table[name])} values'
            )
    made = table.select(
        **columns,
        label=table[label].cast("array<string>").unique(),
        prediction=table[said].cast("array<string>").unique(),
    )
    _has_labels(rows, label, sources.scalars(made, {"n": made["label"].count()})["n"], side.rows)
    spread = made.select(value=made["label"].unnest())
    found = sources.fetch(spread.group_by("value").agg(n=spread.count()).limit(10 * MOST_CLASSES)).to_pylist()
    labels = sorted(row["value"] for row in found if row["value"] is not None)
    if len(labels) > MOST_CLASSES:
        raise DataError(f'"{label}" holds more than {MOST_CLASSES} different labels; group rare ones')
    return replace(rows, table=made, classes=tuple(labels))


def _ranking(side: Side, rows: Rows, columns: dict[str, Any], label: str, score: str | None, said: str | None,
             given: Mapping[str, str], positive: object, query: str | None) -> Rows:  # fmt: skip
    name = score or said
    if query is None or name is None:
        raise DataError("a ranking needs a column that tells queries apart (query=) and one to rank by (score=)")
    columns |= {
        "label": _finite(side, label, "label"),
        "score": _number(side, name, "score"),
        "query": sources.category(side.table[query]),
    }
    made = side.table.select(**columns)
    facts = sources.scalars(made, {"n": made["label"].count(), "low": made["label"].min(), "rows": made.count()})
    _has_labels(rows, label, facts["n"], facts["rows"])
    if facts["low"] < 0:
        raise DataError(f'a relevance in "{label}" must be 0 or above; found {facts["low"]:g}')
    ready = made["query"].notnull() & made["score"].notnull() & ~made["score"].isnan() & made["label"].notnull()
    kept = made.filter(ready)
    left = facts["rows"] - sources.scalars(kept, {"n": kept.count()})["n"]
    return replace(rows, table=kept, notes=_left_out(left, "without a query, a score or a label"))


_BY_TASK = {
    BINARY: _binary, MULTICLASS: _multiclass, REGRESSION: _regression, MULTILABEL: _multilabel, RANKING: _ranking,
}  # fmt: skip


def _yes_or_no(side: Side, label: str, positive: object) -> Any:
    column = side.table[label]
    if positive is not None:
        return (sources.category(column) == sources.show(positive)).cast("int64")
    if column.type().is_string():
        column = column.strip().lower()
        return column.isin(["1", "true"]).ifelse(1, column.isin(["0", "false"]).ifelse(0, sources.nothing("int64")))
    if column.type().is_boolean():
        return column.cast("int64")
    if not column.type().is_numeric():
        raise DataError(f'"{label}" holds {type_name(column)} values; labels of yes or no are 0 and 1')
    if column.type().is_integer():
        return column.between(0, 1).ifelse(column.cast("int64"), sources.nothing("int64"))
    number = column.cast("float64")
    return ((number == 0.0) | (number == 1.0)).ifelse(number, sources.nothing("float64")).cast("int64")


def _number(side: Side, name: str, what: str) -> Any:
    column = side.table[name]
    if column.type().is_string():
        return column.try_cast("float64")
    if column.type().is_boolean():
        return column.cast("int64").cast("float64")
    if not column.type().is_numeric():
        raise DataError(f'"{name}" holds {type_name(column)} values, and the {what} must be a number')
    return column.cast("float64")


def _kind(side: Side, name: str) -> Kind:
    kind = sources.kind_of(side.table[name])
    if kind is None:
        raise DataError(f'"{name}" holds {type_name(side.table[name])} values, which is no feature to estimate by')
    return kind


def _feature(table: Any, name: str, kind: Kind) -> Any:
    return (
        sources.category(table[name]) if kind is Kind.CATEGORICAL else sources.measured(table, Feature(name, kind))[0]
    )


def _finite(side: Side, name: str, what: str) -> Any:
    number = _number(side, name, what).nullif(float("nan"))
    return number.nullif(float("inf")).nullif(float("-inf"))


def _needs(side: Side, name: str, what: str, argument: str, else_: str = "") -> None:
    if name not in side.table.columns:
        raise DataError(
            f'there is no column "{name}" {what} in {side.title};'
            f" {did_you_mean(name, side.table.columns, 'there are')} (say which one it is with {argument}=)"
            + (f". {else_}" if else_ else "")
        )


def _has_labels(found: Rows, label: str, labelled: int, rows: int) -> None:
    if not labelled and not found.may_lack_labels:
        raise DataError(
            f'none of the {rows:,} rows has a label in "{label}" that fits the task; check the join of predictions and'
            " outcomes, and that labels of yes or no are 0 and 1 (or say which one is yes with positive=)."
            f" {_HOW_TO_ESTIMATE}"
        )


def _left_out(rows: int | None, why: str) -> list[str]:
    return [f"{rows:,} rows {why}"] if rows else []
