"""Whatever comes in whatever order and whatever ticks, the profiles are those of counting all of it once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy
from hypothesis import given, settings
from hypothesis import strategies as st

from watchkeeper import keeping, profiles, summarising, traffic
from watchkeeper.profiles import Key, categorical, merge, numeric
from watchkeeper.schema import ModelConfig, Task
from watchkeeper.segments import Segmentation
from watchkeeper.stats.grid import Grid
from watchkeeper.store.backends import Backend, DuckDB
from watchkeeper.store.fitting import table
from watchkeeper.store.log import Log, tables
from watchkeeper.store.postgres import Postgres
from watchkeeper.store.state import COUNTS, CURSORS, GRIDS, PROFILES, SEGMENTS, State
from watchkeeper.tasks import known_with_label, score_columns
from watchkeeper.windows import HOUR

START = datetime(2024, 3, 1, tzinfo=UTC)
NOW = START + 1000 * HOUR
GRID = Grid.fit(np.random.default_rng(3).normal(40, 12, 2000))
COUNTRIES = Segmentation(("country",), (("NL",), ("DE",)))


@dataclass
class Model:
    """A model of a log, and the state that it is summarised in."""

    log: Log
    state: State
    name: str = "m"
    settings: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.configure()
        for name in (*tables(self.name), f"arrivals_{self.name}"):  # emptied, since a new name would be compiled anew
            self.log.backend.run(f'DELETE FROM "{name}"')
        with self.state.engine.begin() as connection:
            for of in (PROFILES, CURSORS, COUNTS, GRIDS, SEGMENTS):
                connection.execute(sqlalchemy.delete(of))
        with self.state.transaction() as tx:
            grids = {"age": GRID, **traffic.fixed_grids(self.config)}
            if self.config.task is Task.REGRESSION:
                grids |= dict.fromkeys(("prediction", *known_with_label(self.config)), GRID)
            tx.put_grids(self.name, grids)
            tx.put_vocabularies(self.name, {"country": ("NL", "DE")})
            tx.put_segmentations(self.name, [COUNTRIES])

    def configure(self, **settings: Any) -> None:
        self.settings |= settings
        columns = {"age": {"kind": "numeric"}, "country": {"kind": "categorical"}}
        given = {"columns": columns, "grain": "1h", "segments": ["country"], **self.settings}
        self.config = ModelConfig.model_validate(given)
        self.log.open_model(self.name, self.config)

    def log_row(self, request: int, hour: int = 0, **values: Any) -> None:
        at = START + hour * HOUR + timedelta(seconds=request % 3600)
        if self.config.task is not Task.BINARY:
            score = values.pop("score")
            regression = self.config.task is Task.REGRESSION
            answer = {} if regression else dict.fromkeys(score_columns(self.config)[:1], score)
            values |= answer | {"prediction": score if regression else "a" if score else "c"}
        row = {"request_id": f"r{request}", "event_time": at, "version": "v1", **values}
        self.log.append(self.name, table({name: [value] for name, value in row.items()}), NOW)

    def label(self, request: int, label: int | None, minute: int = 0) -> None:
        known_at = START + timedelta(minutes=minute)
        told: Any = label
        if self.config.task is Task.MULTICLASS and label is not None:
            told = "abc"[label]
        rows = table({"request_id": [f"r{request}"], "label": [told], "known_at": [known_at]})
        self.log.append_outcomes(self.name, rows)

    def tick(self) -> int:
        """How many rows were counted."""
        with self.state.transaction() as tx:
            return summarising.summarise(tx, self.log, self.name, self.config, NOW)

    @property
    def kept(self) -> dict[Key, bytes]:
        with self.state.snapshot() as tx:
            span = tx.span(self.name)
            hours = summarising.Window(span[0], span[1] + HOUR) if span else None
            found = tx.profiles(self.name, hours, None) if hours else []
        return {key: profile.to_bytes() for key, profile in found}

    @property
    def counted_once(self) -> dict[Key, bytes]:
        with self.state.snapshot() as tx:
            plans = traffic.plans(self.config, tx.grids(self.name), tx.vocabularies(self.name))
            segments = traffic.segments(tx, self.name, self.config)
        grains, _ = self.log.touched(self.name, 0, "1h")
        parts = self.log.profiles(self.name, plans, grains, "1h", segments)
        return {Key(self.name, p.version, p.segment, p.column, p.label, p.start): p.profile.to_bytes() for p in parts}


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Log, State]]:
    folder: Path = tmp_path_factory.mktemp("stores")
    log, state = Log(DuckDB(folder / "log.duckdb")), State(folder / "state.db")
    yield log, state
    log.close()
    state.close()


@pytest.fixture
def model(stores: tuple[Log, State]) -> Model:
    return Model(*stores)


rows = st.fixed_dictionaries(
    {
        "hour": st.integers(0, 2),
        "version": st.sampled_from(["v1", "v2"]),
        "age": st.one_of(st.none(), st.sampled_from([-999.0, 40.0]), st.floats(allow_nan=True)),
        "country": st.sampled_from(["NL", "DE", "FR", "BE", "IT", "ES", None]),
        "score": st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0, None]),
    }
)
events = st.one_of(
    st.tuples(st.just("row"), st.integers(0, 15), rows),
    st.tuples(st.just("label"), st.integers(0, 15), st.sampled_from([0, 1, 1, 2, None]), st.integers(0, 9)),
    st.just(("tick",)),
)


TASKS: dict[str, dict[str, Any]] = {
    "binary": {},
    "multiclass": {"task": "multiclass", "classes": ["a", "b"]},
    "regression": {"task": "regression"},
}


@pytest.mark.parametrize("task", TASKS)
@settings(max_examples=12)
@given(story=st.lists(events, min_size=4, max_size=30))
def test_any_ticks_count_like_one(stores: tuple[Log, State], task: str, story: list[tuple[Any, ...]]) -> None:
    with pytest.MonkeyPatch.context() as small:
        small.setattr(profiles, "STRANGERS", 2)  # so that some are folded
        model = Model(*stores, name=task, settings={**TASKS[task]})
        for kind, *event in story:
            if kind == "row":
                model.log_row(event[0], **event[1])
            elif kind == "label":
                model.label(*event)
            else:
                model.tick()
        model.tick()
        assert model.kept == model.counted_once


def test_a_row_is_counted_when_it_comes_and_not_again(model: Model) -> None:
    for i in range(5):
        model.log_row(i, age=30.0, score=0.5)
    assert model.tick() == 5
    assert model.tick() == 0
    model.log_row(9, age=50.0, score=0.1)
    assert model.tick() == 1
    assert model.kept == model.counted_once


@pytest.fixture
def whole(monkeypatch: pytest.MonkeyPatch) -> list[list[datetime]]:
    """The grains that are counted whole, by which columns alone, tick for tick."""
    found: list[list[datetime]] = []
    count_whole = summarising._Counting._count_whole

    def noted(self: Any, grains: list[datetime], plans: Any) -> None:
        found.append([*grains])
        count_whole(self, grains, plans)

    monkeypatch.setattr(summarising._Counting, "_count_whole", noted)
    return found


def test_first_and_other_labels_are_counted_without_their_grain(model: Model, whole: list[list[datetime]]) -> None:
    for i, score in enumerate((0.1, 0.2, 0.3, 0.4, 0.5)):
        model.log_row(i, score=score)
        model.label(i, 1, minute=i)
    model.tick()
    whole.clear()
    model.log_row(7, score=0.9)
    model.tick()
    model.label(7, 0, minute=3)
    model.tick()
    model.label(2, 0, minute=50)
    model.tick()
    assert model.kept == model.counted_once
    # of the last one the label's delay was neither the least nor the greatest, nor was the score
    assert not any(whole)


def test_a_grain_is_counted_again_where_the_least_value_goes(model: Model, whole: list[list[datetime]]) -> None:
    for i, score in enumerate((0.1, 0.2, 0.3)):
        model.log_row(i, score=score)
        model.label(i, 1, minute=10 * i)
    model.tick()
    whole.clear()
    model.label(0, 0, minute=50)
    model.tick()
    assert whole == [[START], []]
    assert model.kept == model.counted_once


def test_an_outcome_that_says_nothing_new_changes_nothing(model: Model, whole: list[list[datetime]]) -> None:
    model.log_row(1, score=0.5)
    model.label(1, 1, minute=5)
    model.tick()
    whole.clear()
    before = model.kept
    model.label(1, 0, minute=2)  # was known earlier than the one that counts
    model.label(1, None, minute=9)
    model.label(99, 1)
    model.tick()
    assert model.kept == before == model.counted_once
    assert not any(whole)


def test_rows_that_were_counted_in_another_way_are_counted_again_once(
    model: Model, whole: list[list[datetime]]
) -> None:
    for hour in (0, 1):
        model.log_row(10 * hour, hour, age=-1.0, score=0.5)
    model.tick()
    whole.clear()
    model.configure(columns={"age": {"kind": "numeric", "missing": [-1]}, "country": {"kind": "categorical"}})
    for i in (1, 2):
        model.log_row(i, 0, age=20.0)
        model.tick()
    model.log_row(11, 1, age=20.0)
    model.log_row(21, 2, age=20.0)
    model.tick()
    assert [grains for grains in whole if grains] == [[START], [START + HOUR]]
    assert model.kept == model.counted_once


def test_segments_that_are_gained_are_counted_in_all_grains(model: Model, whole: list[list[datetime]]) -> None:
    model.configure(segments=[])
    for hour in range(3):
        model.log_row(hour, hour, country="NL")
    model.tick()
    model.configure(segments=["country"])
    model.log_row(5, 1, country="DE")
    model.tick()
    assert whole[-1] == [START + hour * HOUR for hour in range(3)]
    model.log_row(6, 0, country="DE")
    model.tick()
    assert whole[-1] == []
    assert model.kept == model.counted_once


def test_rows_that_were_changed_or_lost_are_counted_again(model: Model) -> None:
    for i in range(4):
        model.log_row(i, score=i / 4)
        model.label(i, i % 2)
    model.tick()
    model.log.delete(model.name, "request_id = 'r0'")
    with model.state.transaction() as tx:
        keeping.count_again(tx, model.name, [START])
    model.log_row(7, score=0.6)
    model.label(3, 0, minute=9)
    model.tick()
    assert model.kept == model.counted_once


def test_a_tick_that_dies_leaves_nothing_counted(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    model.log_row(1, score=0.5)
    model.tick()
    model.log_row(2, score=0.5)
    before = model.kept
    with monkeypatch.context() as patched:
        # by then what came is added
        patched.setattr(summarising._Counting, "_count_whole", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            model.tick()
    assert model.kept == before
    assert model.tick() == 1
    assert model.kept == model.counted_once


@pytest.mark.parametrize("which", ["duckdb", "postgres"])
def test_what_comes_while_it_is_counted_is_counted_by_the_next_tick(
    which: str, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = request.getfixturevalue("new_postgres")() if which == "postgres" else ""
    backend: Backend = Postgres(url) if url else DuckDB(tmp_path / "log.duckdb")
    model = Model(Log(backend), State(tmp_path / "state.db"))
    model.log_row(1, score=0.5)
    model.label(1, 1)
    news = Log.news

    def disturbed(*arguments: Any) -> Any:
        found = news(*arguments)
        model.log_row(2, score=0.7)
        model.label(1, 0, minute=5)
        return found

    with monkeypatch.context() as patched:
        patched.setattr(Log, "news", disturbed)
        assert model.tick() == 1
    assert model.tick() == 1
    assert model.kept == model.counted_once
    model.log.close()
    model.state.close()


# what is left when rows are taken away

cells = st.dictionaries(st.integers(-3, 3), st.integers(1, 4), max_size=5)
words = st.dictionaries(st.sampled_from("abcdefgh"), st.integers(1, 4), max_size=8)


@given(words, words, st.integers(0, 2), st.integers(0, 2), st.sampled_from([0, 2]))
def test_what_merge_adds_can_be_taken_away(one: Any, other: Any, nulls: int, more: int, named: int) -> None:
    first, second = (categorical(c, n, ("a", "b"), named_from=named) for c, n in ((one, nulls), (other, more)))
    whole = merge([first, second])
    assert whole is not None
    rest = whole.without(second)
    assert rest is not None
    assert rest.to_bytes() == first.to_bytes()


@given(cells, cells)
def test_what_merge_adds_to_numbers_can_be_taken_away(one: dict[int, int], other: dict[int, int]) -> None:
    def of(counts: dict[int, int]) -> profiles.Profile:
        return numeric(GRID, counts, float(min(counts)) if counts else None, float(max(counts)) if counts else None)

    whole = merge([of(one), of(other)])
    assert whole is not None
    rest = whole.without(of(other))
    hides = one and other and (min(other) <= min(one) or max(other) >= max(one))
    if hides:
        assert rest is None
    else:
        assert rest is not None
        assert rest.to_bytes() == of(one).to_bytes()


def test_what_was_never_in_a_profile_cannot_be_taken_away() -> None:
    few, many = (categorical({"a": n}) for n in (1, 2))
    assert few.without(many) is None
    assert few.without(categorical({"a": 1}, known=("a",))) is None, "its vocabulary is another"
    assert few.without(numeric(GRID, {1: 1}, 0.0, 0.0)) is None
    assert numeric(GRID, {1: 1}, 0.0, 0.0).without(numeric(GRID, {2: 1}, 0.0, 0.0)) is None


def test_folded_strangers_cannot_be_taken_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profiles, "STRANGERS", 2)
    assert categorical({"a": 1, "b": 1, "c": 1}).without(categorical({"a": 1})) is None
