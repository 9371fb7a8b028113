"""One summarising expression, the same counts on every engine, to the last bit."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

import ibis
import ibis.expr.types as ir
import numpy as np
import pyarrow as pa
import pytest

from watchkeeper import profiles
from watchkeeper.profiles import merge
from watchkeeper.records import ALL
from watchkeeper.schema import Kind
from watchkeeper.stats.grid import SENTINELS, Floats, Grid
from watchkeeper.store.postgres import Postgres
from watchkeeper.store.sources import Part, Plan, bin_number, collect, connect, read, summary, vocabularies
from watchkeeper.testing import CATEGORICAL_COLUMNS, NUMERIC_COLUMNS, profile_of


class Engine(Protocol):
    """Puts rows into an engine and gives them back as a table of it; gives what an expression of such tables is."""

    def table(self, rows: pa.Table) -> ir.Table: ...

    def fetch(self, expression: ir.Table) -> pa.Table: ...


class InDuckDB:
    def __init__(self) -> None:
        self._connection = connect()

    def table(self, rows: pa.Table) -> ir.Table:
        return read(self._connection, rows, ibis.util.gen_name("rows"))

    def fetch(self, expression: ir.Table) -> pa.Table:
        return expression.to_pyarrow()


class InPostgres:
    """As the log does it: the expression is compiled for an engine that Ibis itself is not connected to."""

    def __init__(self, backend: Postgres) -> None:
        self.backend = backend

    def table(self, rows: pa.Table) -> ir.Table:
        name = ibis.util.gen_name("rows")
        with self.backend.known("incoming", rows):
            self.backend.run(f"CREATE TEMP TABLE {name} AS SELECT * FROM incoming")
        return ibis.table(ibis.Schema.from_pyarrow(rows.schema), name=name)

    def fetch(self, expression: ir.Table) -> pa.Table:
        return self.backend.arrow(str(ibis.to_sql(expression, dialect="postgres")))


ENGINES = ("duckdb", "postgres")
"""An engine that is added here has to pass everything below."""

MIDNIGHT = datetime(2024, 3, 1)  # noqa: DTZ001  engines keep moments in UTC, without saying so
DAY = timedelta(days=1)


@pytest.fixture(params=ENGINES, scope="module")
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    if request.param == "duckdb":
        yield InDuckDB()
        return
    backend = Postgres(request.getfixturevalue("postgres_server"))
    yield InPostgres(backend)
    backend.close()


def _grids() -> dict[str, Grid]:
    rng = np.random.default_rng(1)
    return {
        "normal": Grid.fit(rng.normal(size=4000)),
        "skewed": Grid.fit(rng.lognormal(3, 2, 4000)),
        "far-apart modes": Grid.fit(np.concatenate([rng.normal(size=1000), 1e6 + rng.normal(size=1000)])),
        "tiny": Grid.fit(rng.normal(size=2000) * 1e-300),
        "huge": Grid.fit(rng.normal(size=2000) * 1e300),
        "discrete": Grid.fit(np.repeat(np.sort(rng.normal(size=40)), 5)),
        "sevenths": Grid.fit(np.repeat(np.arange(30) / 7, 5)),
        "constant": Grid.fit(np.full(10, 0.1)),
        "far below": Grid.fit(-1e307 + 1e305 * rng.normal(size=1000)),
        "far above": Grid.fit(1e307 + 1e290 * rng.normal(size=1000)),
        "nothing": Grid.fit(np.array([])),
        "unit": Grid.unit(),
        "logarithmic": Grid.logarithmic(0.1, 60_000.0),
    }


GRIDS = _grids()


def ugly(grid: Grid) -> Floats:
    """Doubles of every sort: knots and edges with their neighbours, far away ones, specials, and ordinary ones."""
    knots = np.asarray(grid.knots)
    edges = grid.edges(np.arange(grid.top + 1))[0]
    exact = np.concatenate([knots, edges])
    rng = np.random.default_rng(2)
    middle, wide = float(np.median(knots)), grid.scale
    largest = np.finfo(float).max
    with np.errstate(over="ignore", invalid="ignore"):
        ordinary = middle + wide * np.concatenate([rng.normal(0, 2, 3000), rng.standard_cauchy(1000)])
    specials = [np.nan, np.inf, -np.inf, 0.0, -0.0, 5e-324, largest, -largest, 1.0, 1e12, -1e12, *SENTINELS]
    return np.concatenate([exact, np.nextafter(exact, -np.inf), np.nextafter(exact, np.inf), ordinary, specials])


@pytest.mark.parametrize("name", GRIDS)
def test_every_double_falls_into_the_bin_that_the_grid_says(engine: Engine, name: str) -> None:
    grid, values = GRIDS[name], ugly(GRIDS[name])
    rows = engine.table(pa.table({"i": np.arange(len(values)), "x": values}))
    binned = rows.select(rows.i, bin=bin_number(rows.x, grid)).order_by("i")
    found = engine.fetch(binned).column("bin").to_numpy()
    wrong = np.flatnonzero(found != grid.bins(values))
    assert [(values[i], found[i]) for i in wrong[:5]] == []


def test_the_knots_of_a_discrete_column_have_a_bin_each(engine: Engine) -> None:
    for name in ("discrete", "sevenths"):
        grid = GRIDS[name]
        rows = engine.table(pa.table({"x": np.asarray(grid.knots)}))
        found = engine.fetch(rows.select(bin=bin_number(rows.x, grid))).column("bin").to_pylist()
        assert sorted(found) == list(range(0, 2 * len(grid.knots), 2))


def parts(engine: Engine, columns: dict[str, Any], plans: Sequence[Plan]) -> list[Part]:
    known = engine.table(vocabularies(plans))
    return collect(engine.fetch(summary(engine.table(pa.table(columns)), plans, known)), plans)


def whole(found: Sequence[Part]) -> dict[str, bytes]:
    return {part.column: part.profile.to_bytes() for part in found if part.label == ALL}


@pytest.mark.parametrize("name", GRIDS)
def test_a_summary_is_the_recount_of_all_the_values(engine: Engine, name: str) -> None:
    grid = GRIDS[name]
    values = [*ugly(grid).tolist(), None, None]
    found = parts(engine, {"x": pa.array(values)}, [Plan("x", Kind.NUMERIC, grid)])
    assert whole(found) == {"x": profile_of(values, grid).to_bytes()}


@pytest.mark.parametrize("name", [n for n, values in NUMERIC_COLUMNS.items() if values])
def test_awkward_numbers_are_counted(engine: Engine, name: str) -> None:
    values = NUMERIC_COLUMNS[name]
    for grid in (GRIDS["unit"], Grid.fit(np.array([v for v in values if v is not None], dtype=float))):
        found = parts(engine, {"x": pa.array(values, pa.float64())}, [Plan("x", Kind.NUMERIC, grid)])
        assert whole(found) == {"x": profile_of(values, grid).to_bytes()}


@pytest.mark.parametrize("name", [n for n, values in CATEGORICAL_COLUMNS.items() if values])
def test_awkward_words_are_counted(engine: Engine, name: str) -> None:
    values = [*CATEGORICAL_COLUMNS[name], "", " ", "it's", '"', "遅延", None]
    found = parts(engine, {"x": pa.array(values, pa.string())}, [Plan("x", Kind.CATEGORICAL, None)])
    assert whole(found) == {"x": profile_of(values).to_bytes()}


@pytest.mark.parametrize("kind", ["int8", "int64", "uint32", "float32", "bool"])
def test_numbers_of_every_type_are_counted_alike(engine: Engine, kind: str) -> None:
    values = pa.array([0, 1, 1, None, 0]).cast(kind)
    found = parts(engine, {"x": values}, [Plan("x", Kind.NUMERIC, Grid.unit(10))])
    assert whole(found) == {"x": profile_of([0.0, 1.0, 1.0, None, 0.0], Grid.unit(10)).to_bytes()}


def test_declared_values_are_counted_as_missing(engine: Engine) -> None:
    columns = {
        "x": pa.array([-999.0, -1.0, 0.1, 0.30000000000000004, None]),
        "c": pa.array(["-1", "??", "a", "b", None]),
    }
    plans = [
        Plan("x", Kind.NUMERIC, Grid.unit(), (-999.0, 0.30000000000000004, "??")),
        Plan("c", Kind.CATEGORICAL, None, (-1.0, "??")),
    ]
    assert whole(parts(engine, columns, plans)) == {
        "x": profile_of([None, -1.0, 0.1, None, None], Grid.unit()).to_bytes(),
        "c": profile_of([None, None, "a", "b", None]).to_bytes(),
    }


def mixed(n: int = 400) -> dict[str, Any]:
    rng = np.random.default_rng(3)
    return {
        "x": pa.array(np.where(rng.random(n) < 0.1, np.nan, rng.normal(size=n))),
        "c": pa.array(rng.choice(np.array(["a", "b", None], dtype=object), n).tolist()),
        "version": pa.array(rng.choice(np.array(["v1", "v2", None], dtype=object), n).tolist()),
        "grain_start": pa.array([MIDNIGHT + int(d) * DAY for d in rng.integers(0, 3, n)]),
        "label": pa.array(rng.choice(np.array([0, 1, None], dtype=object), n).tolist(), pa.int32()),
    }


MIXED = [Plan("x", Kind.NUMERIC, GRIDS["normal"], by_label=True), Plan("c", Kind.CATEGORICAL, None)]


def test_counts_are_kept_by_version_grain_and_label(engine: Engine) -> None:
    columns = mixed()
    rows = [
        dict(zip(columns, row, strict=True)) for row in zip(*(c.to_pylist() for c in columns.values()), strict=True)
    ]
    found = parts(engine, columns, MIXED)
    keys = [(p.column, p.version, p.start, p.label) for p in found]
    assert len({*keys}) == len(keys) == 3 * 3 * (3 + 1)
    for part in found:
        assert part.start is not None
        chosen = [
            row[part.column]
            for row in rows
            if (row["version"] or ALL, row["grain_start"].replace(tzinfo=UTC)) == (part.version, part.start)
            and part.label in (ALL, str(row["label"]))
        ]
        grid = GRIDS["normal"] if part.column == "x" else None
        assert part.profile.to_bytes() == profile_of(chosen, grid).to_bytes()


def test_the_parts_of_a_table_merge_to_the_whole(engine: Engine) -> None:
    columns = mixed()
    halves = [{n: c.slice(*at) for n, c in columns.items()} for at in ((0, 150), (150,))]
    pieces = [part for half in halves for part in parts(engine, half, MIXED)]
    together = parts(engine, columns, MIXED)
    for part in together:
        own = [p.profile for p in pieces if (p.column, p.version, p.start, p.label) == (
            part.column, part.version, part.start, part.label)]  # fmt: skip
        merged = merge(own)
        assert merged is not None
        assert merged.to_bytes() == part.profile.to_bytes()
    assert sum(p.profile.n for p in together if p.column == "c") == 400


@pytest.mark.parametrize("known", [(), None, tuple(f"v{i}" for i in range(40))])
def test_very_many_values_are_folded(
    engine: Engine, known: tuple[str, ...] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"KNOWN": 40, "STRANGERS": 30, "ENOUGH": 2}.items():
        monkeypatch.setattr(profiles, name, value)
    columns = mixed(6000)
    drawn = np.random.default_rng(4).geometric(0.002, 6000)
    columns["c"] = pa.array([None if i == 7 else "é遅" * 80 + str(i) if i % 90 == 8 else f"v{i}" for i in drawn])
    found = parts(engine, columns, [Plan("c", Kind.CATEGORICAL, None, known=known), MIXED[0]])
    rows = list(zip(*(columns[name].to_pylist() for name in ("c", "version", "grain_start")), strict=True))
    for part in (part for part in found if part.column == "c"):
        assert part.start is not None
        place = part.version, part.start.replace(tzinfo=None)
        own = [value for value, version, start in rows if (version or ALL, start) == place]
        assert part.profile.to_bytes() == profile_of(own, known=known).to_bytes()
        assert part.profile.others
    assert sum(part.profile.n for part in found if part.column == "c") == 6000


def test_the_order_of_the_rows_does_not_matter(engine: Engine) -> None:
    columns = mixed()
    back = {name: column.take(pa.array(range(len(column) - 1, -1, -1))) for name, column in columns.items()}
    one, two = (
        {(p.column, p.version, p.start, p.label): p.profile.to_bytes() for p in parts(engine, side, MIXED)}
        for side in (columns, back)
    )
    assert one == two


def test_infinity_is_no_least_or_greatest_value(engine: Engine) -> None:
    found = parts(
        engine, {"x": pa.array([math.inf, -math.inf, 0.2, 0.1, math.nan])}, [Plan("x", Kind.NUMERIC, Grid.unit())]
    )
    assert (found[0].profile.low, found[0].profile.high) == (0.1, 0.2)
