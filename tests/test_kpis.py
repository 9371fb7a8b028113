"""KPIs from their events to points and verdicts, of predictions and of users, whenever they come."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from watchkeeper import events, kpis, summarising, traffic
from watchkeeper.engine import Engine
from watchkeeper.errors import ConfigError
from watchkeeper.profiles import Key
from watchkeeper.records import ALL, Point, Reason, Status, Verdict
from watchkeeper.schema import Config, ModelConfig
from watchkeeper.windows import DAY, HOUR, Window

START = datetime(2024, 1, 1, tzinfo=UTC)
MODEL: dict[str, Any] = {
    "columns": {"age": {"kind": "numeric"}, "country": {"kind": "categorical"}},
    "kpis": {"revenue": {"unit": "EUR", "delay": "2d"}, "clicks": {}},
    "monitors": [],
}
ROWS, USERS = 240, 60


class Shop:
    """A model whose predictions are of 60 users, four a day of each: the first buys for 10, and again for 20 where its
    number is even; each fourth clicks."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.now = START
        config = Config.model_validate({"models": {"shop": {**MODEL, **settings}}})
        self.model = config.models["shop"]
        self.engine = Engine(folder, config, clock=lambda: self.now)

    def day(self, day: int, rows: int = ROWS) -> None:
        self.engine.inbox.put(
            [
                events.prediction(
                    "shop",
                    {"age": i % 50, "country": ("NL", "DE")[i % USERS % 2]},
                    request_id=f"{day}-{i}",
                    event_time=START + day * DAY + timedelta(minutes=i),
                    entity_id=f"user {i % USERS}",
                    score=0.5,
                    version="v1",
                )
                for i in range(rows)
            ]
        )

    def revenue(self, day: int, factor: float = 1.0, after: timedelta = 12 * HOUR, share: int = 1) -> None:
        """What users have bought; of each `share` of them one."""
        some = range(0, USERS, share)
        told = [(i, 10.0) for i in some] + [(i + USERS, 20.0) for i in some if i % 2 == 0]
        self.tell(day, "revenue", [(i, factor * value) for i, value in told], after)

    def clicks(self, day: int) -> None:
        self.tell(day, "clicks", [(i, float(i % 4 == 0)) for i in range(ROWS)], HOUR)

    def tell(self, day: int, name: str, told: list[tuple[int, float]], after: timedelta) -> None:
        self.engine.inbox.put(
            [
                events.kpi("shop", f"{day}-{i}", name, value, known_at=START + day * DAY + timedelta(minutes=i) + after)
                for i, value in told
            ]
        )

    def at(self, day: float) -> None:
        self.now = START + day * DAY
        self.engine.tick()

    def points(self, day: int, **which: Any) -> dict[tuple[str, str], Point]:
        end = START + (day + 1) * DAY
        with self.engine.state.snapshot() as tx:
            found = tx.select(Point, model="shop", monitor="", **({"segment": ALL} | which))
        return {(point.metric, point.column): point for point in found if point.window.end == end}

    def verdicts(self) -> list[Verdict]:
        with self.engine.state.snapshot() as tx:
            return sorted(tx.select(Verdict, model="shop"), key=lambda verdict: verdict.window)

    @property
    def kept(self) -> dict[Key, bytes]:
        columns = list(kpis.columns(self.model))
        with self.engine.state.snapshot() as tx:
            found = tx.profiles("shop", Window(START, START + 99 * DAY), None, column=columns)
        return {key: profile.to_bytes() for key, profile in found}

    @property
    def counted_once(self) -> dict[Key, bytes]:
        """The same, of all that the log holds, counted whole."""
        with self.engine.state.snapshot() as tx:
            plans = traffic.kpi_plans(self.model, tx.grids("shop"))
            segments = traffic.segments(tx, "shop", self.model)
        grains, _ = self.engine.log.touched("shop", 0, "1d")
        parts = self.engine.log.profiles("shop", plans, grains, "1d", segments)
        return {Key("shop", p.version, p.segment, p.column, p.label, p.start): p.profile.to_bytes() for p in parts}


@pytest.fixture
def open_shop(tmp_path: Path) -> Iterator[Any]:
    made: list[Shop] = []

    def start(**settings: Any) -> Shop:
        made.append(Shop(tmp_path, **settings))
        return made[-1]

    yield start
    for shop in made:
        shop.engine.close()


def test_what_predictions_led_to_is_told_for_each_prediction_and_each_user(open_shop: Any) -> None:
    shop = open_shop()
    for day in range(2):
        shop.day(day)
        shop.revenue(day)
        shop.clicks(day)
    shop.at(2)
    clicks = shop.points(0)
    assert clicks["kpi_sum", "clicks"].value == ROWS / 4
    assert clicks["kpi_mean", "clicks"].value == clicks["kpi_per_prediction", "clicks"].value == 0.25
    assert clicks["kpi_coverage", "clicks"].value == 1
    assert clicks["kpi_user_share", "clicks per user"].value == 1
    assert clicks["kpi_delay", "clicks delay"].value == pytest.approx(3600, rel=0.02)
    assert ("kpi_sum", "revenue") not in clicks, "its delay of two days is not over"
    shop.at(4)
    found = shop.points(1)
    spent = 10 * USERS + 20 * USERS / 2
    assert found["kpi_sum", "revenue"].value == spent
    assert found["kpi_mean", "revenue"].value == pytest.approx(spent / (1.5 * USERS))
    assert found["kpi_per_prediction", "revenue"].value == pytest.approx(spent / ROWS)
    assert found["kpi_coverage", "revenue"].value == 1.5 * USERS / ROWS
    assert found["kpi_per_user", "revenue per user"].value == pytest.approx(spent / USERS)
    assert found["kpi_per_user", "revenue per user"].n == USERS
    assert found["kpi_user_share", "revenue per user"].value == 1
    assert found["kpi_delay", "revenue delay"].value == pytest.approx(12 * 3600, rel=0.02)


def test_a_late_value_is_counted_in_its_prediction_s_grain_and_judged_again(open_shop: Any) -> None:
    shop = open_shop(segments=["country"])
    for day in range(2):
        shop.day(day)
        shop.revenue(day)
    shop.at(4)
    before = shop.points(0)["kpi_sum", "revenue"].value
    kept = shop.kept
    assert kept == shop.counted_once
    shop.tell(0, "revenue", [(239, 500.0), (0, 0.0)], 6 * DAY)  # a new one, and one that is taken back
    shop.at(6.5)
    assert shop.kept == shop.counted_once
    changed = {key for key, profile in shop.kept.items() if kept[key] != profile}
    assert {key.start for key in changed} == {START}, "no other grain"
    assert {key.segment for key in changed} == {ALL, "country=NL", "country=DE"}
    assert shop.points(0)["kpi_sum", "revenue"].value == pytest.approx(before + 500 - 10, rel=3e-3)


def test_grains_are_counted_once_in_the_time_of_a_grain(open_shop: Any) -> None:
    shop = open_shop()
    for day in range(2):
        shop.day(day)
        shop.revenue(day)
    shop.at(4)
    before = shop.kept
    shop.tell(0, "revenue", [(239, 500.0)], DAY)
    shop.at(4.4)
    shop.tell(1, "revenue", [(239, 500.0)], DAY)
    shop.at(4.9)
    assert shop.kept == before, "the day is not over"
    shop.at(5)  # though nothing came
    assert shop.kept == shop.counted_once
    assert shop.points(0)["kpi_sum", "revenue"].value == pytest.approx(1700, rel=3e-3)
    shop.at(6)
    assert shop.kept == shop.counted_once


def test_summaries_of_grains_whose_rows_are_gone_stay(open_shop: Any) -> None:
    shop = open_shop(retention={"age": "3d"})
    for day in range(4):
        shop.day(day)
        shop.revenue(day)
        shop.at(day + 1)
    kept = shop.kept
    shop.tell(0, "revenue", [(239, 500.0)], DAY)  # its prediction is there no more
    shop.tell(1, "revenue", [(239, 500.0)], DAY)  # counted in the last tick in which its prediction is
    for day in (4.5, 5, 6):
        shop.at(day)
    changed = {key.start for key, profile in kept.items() if shop.kept.get(key) != profile}
    assert changed == {START + DAY}
    assert shop.points(1)["kpi_sum", "revenue"].value == pytest.approx(1700, rel=3e-3)


def test_rows_are_thinned_once_their_kpis_are_known_and_the_sums_stay(open_shop: Any) -> None:
    shop = open_shop(retention={"keep": 0.25})
    for day in range(4):
        shop.day(day)
        shop.revenue(day)
        shop.at(day + 1)
        left = shop.engine.log.totals("shop")["predictions"]
        assert (left == (day + 1) * ROWS) is (day < 2), "two days pass until revenue is known"
    shop.at(6)
    assert shop.points(0)["kpi_sum", "revenue"].value == 10 * USERS + 20 * USERS / 2


def test_a_kpi_is_summarised_from_its_hundredth_value_on_and_then_all_of_it(open_shop: Any) -> None:
    shop = open_shop()
    shop.day(0)
    shop.revenue(0)  # 90 values
    shop.at(3)
    assert shop.kept == {}
    assert shop.points(0) == {k: v for k, v in shop.points(0).items() if not k[0].startswith("kpi_") or not v.n}
    shop.day(1)
    shop.revenue(1)
    shop.at(4)
    assert {key.start for key in shop.kept} == {START, START + DAY}
    assert shop.kept == shop.counted_once


def test_values_wait_for_predictions_that_come_after_them(open_shop: Any) -> None:
    shop = open_shop()
    shop.clicks(0)
    shop.at(0.5)
    shop.day(0)
    shop.at(1)
    shop.at(3)
    assert shop.points(0)["kpi_sum", "clicks"].value == ROWS / 4


def test_a_monitor_alarms_when_revenue_falls_against_the_weeks_before(open_shop: Any) -> None:
    monitor = {
        "name": "revenue",
        "metric": "kpi_per_user",
        "below": -0.3,
        "relative": "difference",
        "baseline": "7d",
        "min_rows": 30,
    }
    share = {**monitor, "name": "share", "metric": "kpi_user_share", "columns": ["revenue"]}
    shop = open_shop(monitors=[monitor | {"below": -5.0}, share])
    for day in range(10):
        shop.day(day)
        shop.revenue(day, share=4 if day == 9 else 1)
    shop.at(10)
    shop.at(12)
    last = START + 10 * DAY
    found = {v.monitor: v.status for v in shop.verdicts() if v.window.end == last and v.column == "revenue per user"}
    assert found == {"revenue": Status.BREACH, "share": Status.BREACH}
    calm = [v for v in shop.verdicts() if v.window.end < last]
    assert calm
    assert all(v.status is not Status.BREACH for v in calm)


def test_a_sum_is_compared_with_what_the_season_lets_expect(open_shop: Any) -> None:
    monitor = {
        "name": "season",
        "metric": "kpi_sum",
        "columns": ["clicks"],
        "below": 0.5,
        "relative": "ratio",
        "baseline": "seasonal",
    }
    shop = open_shop(monitors=[monitor])
    for day in range(63):
        shop.day(day)
        shop.tell(day, "clicks", [(i, 1.0) for i in range(100 + 40 * (day % 7 == 5) + day % 3)], HOUR)
    shop.at(64)
    shop.day(63)
    shop.tell(63, "clicks", [(i, 1.0) for i in range(20)], HOUR)
    shop.at(65)
    *before, last = shop.verdicts()
    assert last.status is Status.BREACH
    assert all(v.status is not Status.BREACH for v in before)
    assert before[-1].status is Status.HEALTHY


def test_segments_have_their_own(open_shop: Any) -> None:
    monitor = {"name": "coverage", "metric": "kpi_coverage", "columns": ["revenue"], "below": 0.01, "segments": True}
    shop = open_shop(monitors=[monitor], segments=["country"])
    for day in range(2):
        shop.day(day)
        shop.revenue(day)
    shop.at(4)
    found = {v.segment: v.value for v in shop.verdicts() if v.window.end == START + DAY}
    assert found == {ALL: 90 / ROWS, "country=NL": 60 / (ROWS / 2), "country=DE": 30 / (ROWS / 2)}


def test_a_kpi_that_nobody_ever_logged_is_no_data_and_no_alarm(open_shop: Any) -> None:
    shop = open_shop(monitors=[{"name": "sum", "metric": "kpi_sum", "below": 1.0}])
    shop.day(0)
    shop.at(1)
    shop.at(3)
    assert {(v.status, v.reason) for v in shop.verdicts()} == {(Status.NO_DATA, Reason.NOTHING_ARRIVED)}


def test_counting_again_counts_nothing_twice(open_shop: Any) -> None:
    shop = open_shop()
    for day in range(2):
        shop.day(day)
        shop.revenue(day)
        shop.revenue(day)
    shop.at(4)
    first = shop.kept
    shop.revenue(0)
    shop.at(4.1)
    with shop.engine.state.transaction() as tx:
        assert summarising.summarise(tx, shop.engine.log, "shop", shop.model, shop.now) == 0
        assert tx.counts("shop")["kpis again"] == 3 * 90
    assert shop.kept == first


def test_what_is_erased_is_counted_no_more_and_found_nowhere(open_shop: Any) -> None:
    shop = open_shop()
    for day in range(2):
        shop.day(day)
        shop.revenue(day)
    shop.at(4)
    done = shop.engine.erase("user 0")
    assert done.complete
    assert done.deleted["shop"].kpis == 4
    shop.at(4.1)
    assert shop.kept == shop.counted_once
    shop.at(5)
    assert shop.points(0)["kpi_sum", "revenue"].value == 10 * USERS + 20 * USERS / 2 - 30


def test_values_of_a_name_that_the_configuration_gains_count_from_the_first(open_shop: Any, tmp_path: Path) -> None:
    shop = open_shop()
    for day in range(2):
        shop.day(day)
        shop.tell(day, "refund", [(i, 5.0) for i in range(120)], HOUR)
    shop.at(2)
    with shop.engine.state.snapshot() as tx:
        assert tx.counts("shop")["set aside"] == 240
    shop.engine.close()
    later = open_shop(kpis={"refund": {}})
    later.day(2)
    later.at(3)
    later.at(4)
    assert {key.start for key in later.kept} == {START + day * DAY for day in range(3)}
    assert later.kept == later.counted_once


# the configuration


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"kpis": {"age": {}}}, "not like a feature"),
        ({"kpis": {"Score": {}}}, "not like a feature"),
        ({"kpis": {"a b": {}}}, "named by a letter"),
        ({"kpis": {"a": {}, "A": {}}}, "differ only in case"),
        ({"kpis": {"a": {"delay": "90m"}}}, "multiple of the grain"),
        ({"kpis": {"a": {"delay": "30d"}}, "retention": {"age": "7d"}}, "at least 31d"),
        ({"kpis": {"a": {}}, "events": {"url": "duckdb:///f", "table": "t"}}, "leave events or kpis out"),
        ({"kpis": {"a": {"units": "EUR"}}}, "units"),
    ],
)
def test_kpis_that_cannot_be_are_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        ModelConfig.model_validate({**MODEL, **settings})


@pytest.mark.parametrize(
    ("monitor", "said"),
    [
        ({"metric": "kpi_sum", "columns": ["revenu"]}, 'no KPI "revenu"; did you mean "revenue"'),
        ({"metric": "kpi_sum", "columns": "features"}, "of KPIs and not of features"),
        ({"metric": "kpi_sum", "relative": "ratio"}, "set baseline to a duration"),
        ({"metric": "error_rate", "columns": ["revenue"]}, "takes no columns"),
    ],
)
def test_monitors_that_cannot_look_at_kpis_say_so(open_shop: Any, monitor: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        open_shop(monitors=[{"name": "m", "below": 0.5, **monitor}])


def test_a_model_without_kpis_has_no_metric_of_them(open_shop: Any) -> None:
    with pytest.raises(ConfigError, match="the model has none; add them"):
        open_shop(kpis={}, monitors=[{"name": "m", "metric": "kpi_sum", "below": 0.5}])


def test_other_metrics_of_numbers_look_at_kpis_too(open_shop: Any) -> None:
    monitor = {"name": "late", "metric": "p95", "columns": ["revenue delay"], "above": 86_400, "min_rows": 30}
    shop = open_shop(monitors=[monitor])
    for day in range(2):
        shop.day(day)
        shop.revenue(day, after=(1 + 36 * day) * HOUR)
    shop.at(4)
    assert [v.status for v in shop.verdicts()] == [Status.HEALTHY, Status.BREACH]


def test_columns_know_their_kpi_their_unit_and_how_long_they_take() -> None:
    model = ModelConfig.model_validate(MODEL)
    assert kpis.columns(model)[:3] == ("revenue", "revenue delay", "revenue per user")
    assert [kpis.kpi_of(name, model.kpis) for name in ("clicks per user", "clicks", "age")] == ["clicks", "clicks", ""]
    assert [kpis.wait(name, model) for name in ("revenue delay", "clicks", "age")] == [2 * DAY, DAY, 0 * DAY]
    assert [kpis.unit(name, model) for name in ("revenue per user", "revenue delay", "age")] == ["EUR", "s", ""]
