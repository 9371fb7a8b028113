from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from small_world import CHAMPION, NAME, ROWS, World, config, moment, outcome, values
from watchkeeper import late
from watchkeeper.errors import ConfigError
from watchkeeper.monitors import plan
from watchkeeper.profiles import Key, numeric
from watchkeeper.records import ALL, Point
from watchkeeper.schema import ModelConfig
from watchkeeper.settings import UnlabelledConfig
from watchkeeper.stats.grid import Grid
from watchkeeper.windows import DAY, HOUR, Window

GRID = Grid.unit()
POSITIVES = [i for i in range(ROWS) if values(i)["label"]]
RECALL = {"name": "recall", "metric": "recall", "below": 0.3, "severity": "P1"}


def key(label: str, day: float = 0, segment: str = ALL) -> Key:
    return Key(NAME, CHAMPION, segment, "score", label, moment(day))


def test_rows_without_a_label_count_as_one_once_they_are_old_enough() -> None:
    whole, ones = numeric(GRID, {3: 10, 700: 5}, 0.003, 0.7), numeric(GRID, {700: 2}, 0.7, 0.7)
    zeros = numeric(GRID, {3: 4}, 0.003, 0.003)
    kept = [(key(label, day), p) for day in (0, 1) for label, p in ((ALL, whole), ("0", zeros), ("1", ones))]
    kept.append((key("1", 0, "country=NL"), ones))
    kept.append((key(ALL, 0, "country=NL"), ones))
    found = dict(late.fill(kept, UnlabelledConfig(label=0, after=timedelta(hours=12)), DAY, moment(1.5)))
    assert dict(zip(found[key("0")].bins.tolist(), found[key("0")].counts.tolist(), strict=True)) == {3: 10, 700: 3}
    assert found[key("1")] is ones
    assert found[key("0", 1)] is zeros, "this grain is over at day 2, and old enough at 2.5"
    assert not found[key("0", 0, "country=NL")].n
    assert late.fill(kept, None, DAY, moment(9)) == kept


def test_windows_are_looked_at_again_at_ages_that_grow() -> None:
    model = config(label_delay="30d").models[NAME]
    assert [age // DAY for age in late.ages(model)] == [0, 1, 2, 3, 4, 6, 9, 13, 19, 28]
    assert late.ages(config().models[NAME]) == [timedelta(0)]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    settings = config(unlabelled={"label": 0, "after": "24h"}, monitors=[RECALL], label_delay="2d")
    world = World(tmp_path, settings)
    yield world
    world.engine.close()


def rate(world: World, day: int) -> Point:
    [found] = world.rows(Point, metric="positive_rate", monitor="", window_end=moment(day + 1))
    return found  # type: ignore[no-any-return]


def test_no_answer_is_a_no_and_one_that_comes_late_still_counts(world: World) -> None:
    for day in range(4):
        world.day(day, labels=False)
        world.engine.inbox.put([outcome(i, day) for i in POSITIVES[5:]])
        world.at(day + 1)
    mature = rate(world, 1)
    assert not mature.provisional
    assert (mature.value, mature.n, mature.coverage) == ((len(POSITIVES) - 5) / ROWS, ROWS, 1)
    world.engine.inbox.put([outcome(i, 1) for i in POSITIVES[:5]])
    world.at(4 + HOUR / DAY)
    assert rate(world, 1).value == len(POSITIVES) / ROWS


def test_who_trains_a_model_sees_the_rows_without_a_label_too(world: World) -> None:
    world.day(0, labels=False)
    world.engine.inbox.put([outcome(i, 0) for i in POSITIVES])
    world.at(1)
    day = Window(moment(0), moment(1))
    labels = world.engine.log.labelled(NAME, day, unlabelled=0).column("label").to_pylist()
    assert (len(labels), sum(labels)) == (ROWS, len(POSITIVES))
    assert world.engine.log.labelled(NAME, day).num_rows == len(POSITIVES)


def test_before_the_time_is_over_the_positives_speak_for_all(world: World) -> None:
    """Half of the positives are known on the day itself and the others on the day after."""
    for day in range(30):
        world.day(day, labels=False)
        soon, later = POSITIVES[::2], POSITIVES[1::2]
        events = [outcome(i, day) for i in soon]
        if day:
            again = [outcome(i, day - 1) for i in later]
            for event in again:
                event["known_at"] = (moment(day) + 5 * HOUR).isoformat()
            events += again
        world.engine.inbox.put(events)
        world.at(day + 1)
    young = rate(world, 29)
    assert young.provisional
    assert young.value == pytest.approx(len(POSITIVES) / ROWS, rel=0.05)
    assert young.detail["complete"] == pytest.approx(0.5, abs=0.03)
    assert young.detail["plain"] == 1, "no negative is known so soon"
    assert young.low is not None
    assert young.high is not None
    assert young.low < len(POSITIVES) / ROWS < young.high


def test_a_monitor_that_is_early_is_two_that_share_the_alarm_budget() -> None:
    model = config(label_delay="9d", monitors=[{**RECALL, "early": "4d"}]).models[NAME]
    mature, early = plan(model)
    assert (mature.monitor and mature.monitor.name, mature.early) == ("recall", None)
    assert (early.monitor and early.monitor.name, early.early) == ("recall (early)", 4 * DAY)
    [alone] = plan(config(label_delay="9d", monitors=[RECALL]).models[NAME])
    assert mature.alpha == early.alpha == alone.alpha / 2


def test_only_a_metric_of_labelled_scores_can_be_early() -> None:
    nulls = {"name": "nulls", "metric": "null_rate", "columns": "features", "above": 0.1, "early": "1d"}
    with pytest.raises(ConfigError, match="null_rate waits for no labels"):
        plan(config(label_delay="9d", monitors=[nulls]).models[NAME])


@pytest.mark.parametrize(("metric", "early"), [("accuracy", True), ("kappa", True), ("macro_auc", False)])
def test_of_several_classes_what_is_told_by_predictions_can_be_early(metric: str, early: bool) -> None:
    look = {"name": "x", "metric": metric, "below": 0.2, "early": "4d"}
    model = ModelConfig.model_validate(
        {
            "task": "multiclass",
            "classes": ["a", "b"],
            "columns": {"amount": {"kind": "numeric"}},
            "label_delay": "9d",
            "monitors": [look],
        }
    )
    if early:
        assert [watch.early for watch in plan(model)] == [None, 4 * DAY]
    else:
        with pytest.raises(ConfigError, match="cannot be corrected for those to come"):
            plan(model)
