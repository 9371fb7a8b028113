"""Rolling windows: where they begin and end, and that each is the sum of its grains."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from small_world import NAME, ROWS, World, config, moment
from watchkeeper import measuring, monitors
from watchkeeper.errors import ConfigError
from watchkeeper.records import Point
from watchkeeper.windows import DAY, HOUR


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """Two days of hourly grains."""
    world = World(tmp_path, config(grain="1h", monitors=[], label_delay="2h"))
    for day in range(2):
        world.day(day)
    world.at(2)
    yield world
    world.engine.close()


def rolling(world: World, metric: str, length: timedelta, since: datetime) -> list[Point]:
    model = world.settings.models[NAME]
    watches = [watch for watch in monitors.shown(model) if watch.metric.name == metric]
    with world.engine.state.snapshot() as tx:
        return measuring.rolling(tx, NAME, model, watches, length, since, moment(2), "config")


def test_windows_up_to_a_day_end_at_each_grain(world: World) -> None:
    found = rolling(world, "volume", DAY, moment(0))
    assert [p.window.end for p in found] == [moment(1) + i * HOUR for i in range(25)]
    assert {p.window.length for p in found} == {DAY}
    assert found[0].n == found[-1].n == ROWS


def test_longer_windows_end_at_each_day(world: World) -> None:
    found = rolling(world, "volume", 36 * HOUR, moment(0))
    assert [p.window.end for p in found] == [moment(2)], "none before the log covers it whole"
    [whole] = rolling(world, "volume", 2 * DAY, moment(0))
    assert whole.n == 2 * ROWS


def test_only_windows_that_end_later_are_measured(world: World) -> None:
    assert [p.window.end for p in rolling(world, "volume", HOUR, moment(2) - 2 * HOUR)] == [
        moment(2) - HOUR,
        moment(2),
    ]


def test_windows_whose_labels_are_not_mature_are_provisional(world: World) -> None:
    found = rolling(world, "accuracy", DAY, moment(0))
    assert {p.window.end for p in found if p.provisional} <= {moment(2), moment(2) - HOUR}
    assert max(p.window.end for p in found if not p.provisional) == moment(2) - 2 * HOUR


def test_too_many_windows_are_refused(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, "MOST", 20)
    with pytest.raises(ConfigError, match="that would be 25 windows, and 20 at most"):
        rolling(world, "volume", DAY, moment(0))


@pytest.mark.parametrize("length", [HOUR / 2, 90 * HOUR / 60, 400 * DAY])
def test_a_window_is_made_of_whole_grains_and_no_longer_than_a_year(world: World, length: timedelta) -> None:
    with pytest.raises(ConfigError, match="must be a multiple of the grain 1h and 366d at most"):
        rolling(world, "volume", length, moment(0))
