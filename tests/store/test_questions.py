"""Questions to the log: what is understood, what is refused and in which words, and answers that a loop confirms."""

from __future__ import annotations

import base64
import json
import math
import operator
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from watchkeeper.errors import QuestionError
from watchkeeper.schema import ModelConfig
from watchkeeper.store import questions
from watchkeeper.store.backends import Backend, DuckDB
from watchkeeper.store.fitting import table
from watchkeeper.store.log import Log
from watchkeeper.store.postgres import Postgres
from watchkeeper.store.privacy import Key, Keys
from watchkeeper.store.questions import ERROR, FIELDS, Order, Question
from watchkeeper.windows import DAY, HOUR

START = datetime(2024, 3, 1, tzinfo=UTC)
NOW = START + 30 * DAY
M = "flights"
MODEL = ModelConfig.model_validate(
    {
        "columns": {
            "distance": {"kind": "numeric", "missing": [-999]},
            "origin": {"kind": "categorical", "missing": ["?"]},
            "dep time": {"kind": "datetime"},
            "Robert'); DROP TABLE": {"kind": "categorical"},
            "error": {"kind": "numeric"},
        }
    }
)
NOBODY = Keys()
NASTY = [
    "'; DROP TABLE predictions_flights; --",
    "' OR '1'='1",
    '" OR ""="',
    "\\'; SELECT 1; --",
    "%s %(x)s {} $1 ?",
    "1) OR (1=1",
    "/* */ UNION SELECT 1",
]


def ask(*where: str, model: ModelConfig = MODEL, keys: Keys = NOBODY, **rest: Any) -> Question:
    return questions.read(model, keys, NOW, where=where, **rest)


def packed(*parts: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(parts).encode()).decode()


# reading


@pytest.mark.parametrize(
    ("said", "means"),
    [
        ("distance > 500", "distance > 500"),
        ("distance>=-1e3", "distance >= -1000"),
        ("distance == 2.5", "distance = 2.5"),
        ("distance <> 0", "distance != 0"),
        ("origin = JFK", "origin = JFK"),
        ("  origin  !=  'New York'  ", 'origin != "New York"'),
        ('origin = "O\'Hare"', 'origin = "O\'Hare"'),
        ("origin = 'O''Hare'", 'origin = "O\'Hare"'),
        ("origin in (JFK, 'a, b', \"(c)\")", 'origin in (JFK, "a, b", "(c)")'),
        ("origin NOT IN (JFK)", "origin not in (JFK)"),
        ("origin is missing", "origin is missing"),
        ("origin IS NULL", "origin is missing"),
        ("origin is not missing", "origin is known"),
        ("origin = is", "origin = is"),
        ('"dep time" < 2024-03-01T01:00:00+01:00', "dep time < 2024-03-01T00:00:00+00:00"),
        ("'dep time' >= 2024-03-01", "dep time >= 2024-03-01T00:00:00+00:00"),
        ("label is known", "label is known"),
        ("score>0.9", "score > 0.9"),
        ("error > 0.5", "error > 0.5"),
    ],
)
def test_a_condition_is_read(said: str, means: str) -> None:
    assert str(ask(said).where[0]) == means


@pytest.mark.parametrize(
    ("said", "because"),
    [
        ("", "empty"),
        ("   ", "empty"),
        ("> 5", "begins with >"),
        ("distanse > 5", 'no column "distanse"; did you mean "distance"?'),
        ("distance > far", '"distance" holds numbers, and "far" is none'),
        ("distance > nan", "ask distance is missing"),
        ("distance > inf", "is none"),
        ("label = yes", "holds whole numbers"),
        ("event_time > noon", "holds times"),
        ("event_time > 0001-01-01", "holds times"),
        ("origin > JFK", "not compared with >"),
        ("distance > 5 and origin = JFK", "each condition by itself"),
        ("origin = New York", "spaces or signs in quotes"),
        ("origin = a=b", "spaces or signs in quotes"),
        ("origin = 'JFK", "quote left open"),
        ("origin = (", "is no condition"),
        ("origin =", "is no condition"),
        ("origin", "is no condition"),
        ("origin like J%", "is no condition"),
        ("origin in ()", "lists no value"),
        ("origin in (JFK,)", "lists no value"),
        ("origin in (JFK LGA)", "no list that can be read"),
        ("origin in (,)", "no list that can be read"),
        ("origin in JFK", "is no condition"),
        ("origin is JFK", "is no condition"),
        ("origin = a\0b", "no stored text"),
        ("origin = a\udc80b", "no stored text"),
        (ERROR + " > 1", "begins with ("),
        ('"(error)" > 1', "no column"),
        ("origin = " + "x" * 20_000, "characters"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_words(said: str, because: str) -> None:
    with pytest.raises(QuestionError) as refused:
        ask(said)
    assert because in str(refused.value)


@pytest.mark.parametrize(
    ("wrong", "because"),
    [
        ({"since": "yesterday"}, "how long ago such as 7d"),
        ({"since": "99999999999d"}, "how long ago such as 7d"),
        ({"since": "2024-03-02", "until": "2024-03-01"}, "is not before"),
        ({"order": "newst"}, 'did you mean "newest"'),
        ({"limit": 0}, "ask for 1 at least"),
        ({"error": "large"}, "is no condition"),
        ({"error": ">= much"}, "holds numbers"),
        ({"after": "xyz"}, "is no place"),
        ({"after": "ÿ"}, "is no place"),
        ({"after": packed("newest", "0001-01-01T00:00:00+23:59", "a")}, "is no place"),
        ({"after": packed("newest", 5, "a")}, "is no place"),
        ({"after": packed("newest", "2024-03-01", "a\0")}, "is no place"),
        ({"after": packed("newest", "2024-03-01", "\ud800")}, "is no place"),
        ({"after": packed("error", 10**400, "a"), "order": "error"}, "is no place"),
        ({"after": packed("error", [1], "a"), "order": "error"}, "is no place"),
        ({"after": packed("error", 1.0, "a", "b"), "order": "error"}, "is no place"),
        ({"since": "9" * 5000 + "d"}, "how long ago such as 7d"),
        ({"limit": 10**30}, "at most"),
        ({"after": str(questions.Place(Order.SLOWEST, 1.0, "a"))}, "is no place"),
        ({"where": ["distance > 1"] * 51}, "it may have 50"),
    ],
)
def test_what_else_cannot_be_meant_is_refused_in_words(wrong: dict[str, Any], because: str) -> None:
    with pytest.raises(QuestionError) as refused:
        questions.read(MODEL, NOBODY, NOW, **wrong)
    assert because in str(refused.value)


@given(st.text(max_size=40))
def test_any_text_is_a_condition_or_refused(said: str) -> None:
    try:
        read = str(ask(said).where[0])
    except QuestionError:
        return
    assert read


def test_times_are_utc_and_may_be_ages() -> None:
    asked = ask(since="7d", until="2024-03-30T12:00")
    assert (asked.since, asked.until) == (NOW - 7 * DAY, START + 29.5 * DAY)
    assert ask(since="2024-03-01T02:00:00+02:00").since == START


def test_a_question_says_what_it_asks() -> None:
    asked = ask("distance > 5", since="2024-03-01", user=["u1"], error=">= 0.5", order="error", limit=1000)
    assert str(asked) == (
        "since 2024-03-01T00:00:00+00:00; distance > 5; entity_id in (u1); error >= 0.5; error first; at most 1,000"
    )


# answers

N = 400


@pytest.fixture(scope="module")
def rows() -> list[dict[str, Any]]:
    dice = np.random.default_rng(5)
    found = []
    for i in range(N):
        score = None if i % 29 == 0 else math.nan if i % 31 == 0 else float(dice.integers(0, 21)) / 20
        found.append(
            {
                "request_id": f"r{i:03d}" if i >= len(NASTY) else NASTY[i],
                "event_time": START + int(dice.integers(0, 200)) * HOUR,
                "version": ["v1", "v2", None][i % 3],
                "entity_id": f"u{i % 17}" if i % 11 else NASTY[i % len(NASTY)],
                "score": score,
                "latency_ms": [None, math.nan, 5.0, 7.5, 7.5, 1e300][i % 6],
                "status": "ok" if i % 9 else "error",
                "distance": [None, math.nan, -999.0, math.inf][i % 4] if i % 5 == 0 else float(dice.integers(0, 1000)),
                "origin": [None, "?", "JFK", "LGA", *NASTY][i % (4 + len(NASTY))],
                "dep time": None if i % 7 == 0 else START + i * HOUR,
                "Robert'); DROP TABLE": NASTY[i % len(NASTY)],
                "error": float(i),
            }
        )
    return found


@pytest.fixture(scope="module")
def labels() -> dict[str, tuple[int, datetime]]:
    found = {}
    for i in range(0, N, 2):
        found[f"r{i:03d}" if i >= len(NASTY) else NASTY[i]] = (int(i % 3 == 0), START + DAY + i * HOUR)
    return found


@pytest.fixture(scope="module", params=["duckdb", "postgres"])
def backend(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Backend:
    if request.param == "duckdb":
        return DuckDB(tmp_path_factory.mktemp("asked") / "log.duckdb")
    server = request.getfixturevalue("postgres_server")
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute("CREATE SCHEMA asked")
    return Postgres(f"{server}&options=-csearch_path%3Dasked")


@pytest.fixture(scope="module")
def log(backend: Backend, rows: list[dict[str, Any]], labels: dict[str, tuple[int, datetime]]) -> Iterator[Log]:
    log = Log(backend)
    log.open_model(M, MODEL)
    log.append(M, table({name: [row[name] for row in rows] for name in rows[0]}))
    for shift, flip in ((-timedelta(hours=1), True), (timedelta(0), False)):  # the first ones are corrected by others
        log.append_outcomes(
            M,
            table(
                {
                    "request_id": [*labels, "orphan"],
                    "label": [*(1 - one if flip else one for one, _ in labels.values()), 1],
                    "known_at": [*(at + shift for _, at in labels.values()), START],
                }
            ),
        )
    yield log
    log.close()


def answer(log: Log, asked: Question) -> list[dict[str, Any]]:
    with log.answer(M, asked) as batches:
        return batches.read_all().to_pylist()


def found_by(log: Log, asked: Question) -> set[str]:
    return {row["request_id"] for row in answer(log, asked)}


def test_an_answer_holds_everything_about_a_prediction(log: Log, rows: list[dict[str, Any]]) -> None:
    with log.answer(M, ask(request=["r010"])) as batches:
        schema = batches.schema
        (found,) = batches.read_all().to_pylist()
    assert schema.names == [*FIELDS, *MODEL.columns]
    assert {schema.field(name).type for name in ("event_time", "known_at", "dep time")} == {pa.timestamp("us", "UTC")}
    assert {name: value for name, value in found.items() if value is not None} == {
        **{name: value for name, value in rows[10].items() if value is not None},
        "label": 0,
        "known_at": START + DAY + 10 * HOUR,
    }


def there(value: Any) -> bool:
    return value is not None and not (isinstance(value, float) and math.isnan(value))


def missing(value: Any) -> bool:
    return not there(value) or value in (-999.0, "?")


Holds = Callable[[dict[str, Any]], bool]


def compared(name: str, sign: Callable[[Any, Any], bool], to: Any) -> Holds:
    return lambda row: there(row[name]) and sign(row[name], to)


CONDITIONS: list[tuple[str, Holds]] = [
    ("distance > 500", compared("distance", operator.gt, 500)),
    ("distance >= 500", compared("distance", operator.ge, 500)),
    ("distance < 0", compared("distance", operator.lt, 0)),
    ("distance <= -999", compared("distance", operator.le, -999)),
    ("distance = -999", compared("distance", operator.eq, -999)),
    ("distance != 3", compared("distance", operator.ne, 3)),
    ("distance in (1, 2, -999)", lambda row: row["distance"] in (1, 2, -999)),
    ("distance is missing", lambda row: missing(row["distance"])),
    ("distance is known", lambda row: not missing(row["distance"])),
    ("origin is missing", lambda row: missing(row["origin"])),
    ("origin is known", lambda row: not missing(row["origin"])),
    ("origin = JFK", compared("origin", operator.eq, "JFK")),
    ("origin != JFK", compared("origin", operator.ne, "JFK")),
    ("origin not in (JFK, LGA)", lambda row: there(row["origin"]) and row["origin"] not in ("JFK", "LGA")),
    ('"dep time" >= 2024-03-05', compared("dep time", operator.ge, START + 4 * DAY)),
    ('"dep time" is missing', lambda row: row["dep time"] is None),
    ("score <= 0.15", compared("score", operator.le, 0.15)),
    ("version is missing", lambda row: row["version"] is None),
    ("version = v2", compared("version", operator.eq, "v2")),
    ("status != ok", compared("status", operator.ne, "ok")),
    ("latency_ms > 7", compared("latency_ms", operator.gt, 7)),
    ("event_time < 2024-03-02", compared("event_time", operator.lt, START + DAY)),
    ("error >= 390", compared("error", operator.ge, 390)),
    *((f"origin = {questions.quoted(nasty)}", compared("origin", operator.eq, nasty)) for nasty in NASTY),
    *((f"entity_id in ({questions.quoted(nasty)})", compared("entity_id", operator.eq, nasty)) for nasty in NASTY),
    *((f"request_id = {questions.quoted(nasty)}", compared("request_id", operator.eq, nasty)) for nasty in NASTY),
    (f'"Robert\'); DROP TABLE" = {questions.quoted(NASTY[0])}', lambda r: r["Robert'); DROP TABLE"] == NASTY[0]),
]


@pytest.mark.parametrize(("said", "holds"), CONDITIONS, ids=lambda value: value if isinstance(value, str) else "")
def test_a_condition_chooses_the_rows_that_a_loop_would(
    log: Log, rows: list[dict[str, Any]], said: str, holds: Holds
) -> None:
    wanted = {row["request_id"] for row in rows if holds(row)}
    assert wanted
    assert found_by(log, ask(said)) == wanted


@pytest.mark.parametrize("many", [("label = 1", "score < 0.5"), ("label is missing",), ("known_at < 2024-03-05",)])
def test_conditions_on_the_label_take_the_latest_one(
    log: Log, rows: list[dict[str, Any]], labels: dict[str, tuple[int, datetime]], many: tuple[str, ...]
) -> None:
    def holds(row: dict[str, Any]) -> bool:
        label, at = labels.get(row["request_id"], (None, None))
        if len(many) == 2:
            return label == 1 and there(row["score"]) and row["score"] < 0.5
        return label is None if "label" in many[0] else at is not None and at < START + 4 * DAY

    assert found_by(log, ask(*many)) == {row["request_id"] for row in rows if holds(row)}


def errors(rows: list[dict[str, Any]], labels: dict[str, tuple[int, datetime]]) -> dict[str, float]:
    return {
        row["request_id"]: abs(row["score"] - labels[row["request_id"]][0])
        for row in rows
        if row["request_id"] in labels and there(row["score"])
    }


def test_the_error_is_how_far_the_score_lies_from_the_label(
    log: Log, rows: list[dict[str, Any]], labels: dict[str, tuple[int, datetime]]
) -> None:
    of = errors(rows, labels)
    assert found_by(log, ask(error=">=0.5")) == {name for name, error in of.items() if error >= 0.5}
    assert found_by(log, ask(error="is missing")) == {row["request_id"] for row in rows} - {*of}


def test_time_users_requests_and_versions_narrow_it_down(log: Log, rows: list[dict[str, Any]]) -> None:
    asked = ask(since="2024-03-02", until="2024-03-04", user=["u1", "u2"], version=["v1"])
    assert found_by(log, asked) == {
        row["request_id"]
        for row in rows
        if START + DAY <= row["event_time"] < START + 3 * DAY
        and row["entity_id"] in ("u1", "u2")
        and row["version"] == "v1"
    }
    assert found_by(log, ask(request=["r100", NASTY[0], "none"])) == {"r100", NASTY[0]}


@pytest.mark.parametrize("order", list(Order))
@pytest.mark.parametrize("where", [(), ("label is known",), ("distance > 100",)])
def test_pages_put_together_are_the_whole_in_order(
    log: Log, rows: list[dict[str, Any]], labels: dict[str, tuple[int, datetime]], order: Order, where: tuple[str, ...]
) -> None:
    whole = answer(log, ask(*where, order=order))
    of = errors(rows, labels)
    key: Callable[[dict[str, Any]], tuple[Any, str]] = {
        Order.NEWEST: lambda row: (-row["event_time"].timestamp(), row["request_id"]),
        Order.OLDEST: lambda row: (row["event_time"], row["request_id"]),
        Order.ERROR: lambda row: (-of[row["request_id"]], row["request_id"]),
        Order.SLOWEST: lambda row: (-row["latency_ms"], row["request_id"]),
    }[order]
    assert [row["request_id"] for row in whole] == [row["request_id"] for row in sorted(whole, key=key)]
    pages, after = [], ""
    while True:
        asked = ask(*where, order=order, limit=37, after=after)
        page = answer(log, asked)
        pages += page
        if len(page) < 37:
            break
        after = str(questions.place(asked, page[-1]))
    assert [row["request_id"] for row in pages] == [row["request_id"] for row in whole]
    if order in (Order.NEWEST, Order.OLDEST) and not where:
        assert len(whole) == N


def test_any_text_is_found_as_it_is_and_finds_nothing_else(log: Log) -> None:
    dice = np.random.default_rng(9)
    signs = [*"ab'\"\\%_;-/*$`{}()=<>!, \n\t", "ö", "\u2028", "\U0001f600", "\u202e"]
    texts = {"".join(dice.choice(signs, dice.integers(1, 9))) for _ in range(150)} | {"NULL", "null", "is", "in", "-1"}
    ids = {text: f"any-{i}" for i, text in enumerate(sorted(texts))}
    log.append(M, table({"request_id": [*ids.values()], "event_time": [START] * len(ids), "origin": [*ids]}))
    for text, request in ids.items():
        asked = ask(f"origin = {questions.quoted(text)}", "status is missing")
        assert found_by(log, asked) == {request}, repr(text)
    log.delete(M, "request_id LIKE 'any-%'")


def test_nothing_that_was_asked_is_run(log: Log) -> None:
    """The last of all, on a log that was asked all the questions above."""
    assert log.totals(M) == {"predictions": N, "labelled": N // 2, "orphans": 1, "set_aside": 0}


# privacy

OLD, NEW = Key.of("old " * 10), Key.of("new " * 10)
HIDDEN = ModelConfig.model_validate(
    {
        "columns": {
            "city": {"kind": "categorical", "sensitive": "pseudonymise"},
            "name": {"kind": "categorical", "sensitive": "drop"},
        },
        "privacy": {"entity_id": "pseudonymise"},
    }
)


def test_a_subject_is_found_by_all_its_pseudonyms_and_the_question_does_not_name_it(tmp_path: Path) -> None:
    keys = Keys((NEW, OLD))
    log = Log(DuckDB(tmp_path / "log.duckdb"))
    log.open_model(M, HIDDEN)
    stored = ["ann", NEW.pseudonym("ann"), OLD.pseudonym("ann"), NEW.pseudonym("bob")]
    log.append(M, table({"request_id": [*"abcd"], "event_time": [START] * 4, "entity_id": stored, "city": stored}))
    for asked in (
        ask(model=HIDDEN, keys=keys, user=["ann"]),
        ask("entity_id = ann", model=HIDDEN, keys=keys),
        ask("city in (ann, ann)", model=HIDDEN, keys=keys),
    ):
        assert found_by(log, asked) == {*"abc"}
        assert "ann" not in str(asked)
    assert found_by(log, ask("city != ann", model=HIDDEN, keys=keys)) == {"d"}
    log.close()


def test_what_is_not_stored_cannot_be_asked_for() -> None:
    with pytest.raises(QuestionError, match='no column "name"'):
        ask("name = ann", model=HIDDEN)
    dropped = HIDDEN.model_copy(update={"privacy": HIDDEN.privacy.model_copy(update={"entity_id": "drop"})})
    with pytest.raises(QuestionError, match="dropped before they are stored"):
        ask(model=dropped, user=["ann"])


# while others write


def test_many_ask_while_one_writes_and_each_sees_whole_batches(tmp_path: Path) -> None:
    log = Log(DuckDB(tmp_path / "log.duckdb"))
    log.open_model(M, MODEL)
    size, batches, odd, over = 500, 10, [], threading.Event()

    def reader() -> None:
        last = 0
        while not over.is_set():
            with log.answer(M, ask("distance >= 0")) as found:
                rows = found.read_all().num_rows
            if rows % size or rows < last:
                odd.append(rows)
            last = rows

    readers = [threading.Thread(target=reader) for _ in range(4)]
    for one in readers:
        one.start()
    for b in range(batches):
        names = [f"{b}-{i}" for i in range(size)]
        log.append(M, table({"request_id": names, "event_time": [START] * size, "distance": [float(b)] * size}))
        log.touched(M, b, "1d")
    over.set()
    for one in readers:
        one.join()
    assert odd == []
    assert log.totals(M)["predictions"] == size * batches
    log.close()


def test_an_answer_that_is_not_read_to_its_end_blocks_nobody(tmp_path: Path) -> None:
    log = Log(DuckDB(tmp_path / "log.duckdb"))
    log.open_model(M, MODEL)
    n = 50_000
    log.append(M, table({"request_id": [*map(str, range(n))], "event_time": [START] * n}))
    with log.answer(M, ask()) as batches:
        first = batches.read_next_batch()
        log.append(M, table({"request_id": ["new"], "event_time": [START]}))
        assert first.num_rows + sum(batch.num_rows for batch in batches) == n, "as it was when it began"
    backend = log.backend
    assert isinstance(backend, DuckDB)
    with backend.readers.none():
        pass
    log.close()


def test_the_file_is_exchanged_only_when_nobody_reads(tmp_path: Path) -> None:
    backend = DuckDB(tmp_path / "log.duckdb")
    exchanged = threading.Event()

    def exchange() -> None:
        with backend.readers.none():
            exchanged.set()

    with backend.stream("SELECT 1 AS a"):
        other = threading.Thread(target=exchange)
        other.start()
        assert not exchanged.wait(0.1)
    other.join(5)
    assert exchanged.is_set()
    backend.close()
