"""Windows are half-open, in UTC, and made of whole grains."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from watchkeeper.errors import ConfigError
from watchkeeper.windows import (
    DAY,
    GRAINS,
    HOUR,
    Window,
    floor,
    from_unix,
    in_calendar,
    parse_duration,
    show_duration,
    show_time,
    starts,
    together,
)

NOON = datetime(2013, 7, 4, 12, tzinfo=UTC)

moments = st.integers(-(10**10), 4 * 10**10).map(
    lambda tenths: datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=tenths / 10)
)
grains = st.sampled_from(sorted(GRAINS.values()))


def test_a_window_holds_its_start_and_not_its_end() -> None:
    window = Window(NOON, NOON + HOUR)
    assert NOON in window
    assert NOON + HOUR - timedelta(microseconds=1) in window
    assert NOON + HOUR not in window
    assert window.length == HOUR


@pytest.mark.parametrize("end", [NOON, NOON - HOUR])
def test_a_window_must_end_after_it_starts(end: datetime) -> None:
    with pytest.raises(ValueError, match="must end after it starts"):
        Window(NOON, end)


@pytest.mark.parametrize("start", [NOON.replace(tzinfo=None), NOON.astimezone(timezone(timedelta(hours=2)))])
def test_a_window_is_in_utc(start: datetime) -> None:
    with pytest.raises(ValueError, match="needs UTC times"):
        Window(start, NOON + DAY)


@given(moments, grains)
def test_a_floor_is_the_latest_whole_grain_at_or_before(at: datetime, grain: timedelta) -> None:
    down = floor(at, grain)
    assert down <= at < down + grain
    assert floor(down, grain) == down
    assert (down - datetime(1970, 1, 1, tzinfo=UTC)) % grain == timedelta(0)


@given(moments, st.integers(1, 50), grains)
def test_the_starts_of_a_window_cut_it_into_grains(at: datetime, count: int, grain: timedelta) -> None:
    window = Window(floor(at, grain), floor(at, grain) + count * grain)
    found = list(starts(window, grain))
    assert len(found) == count
    assert found[0] == window.start
    assert found[-1] + grain == window.end


def test_a_time_is_shown_without_its_midnight() -> None:
    assert show_time(datetime(2013, 7, 4, tzinfo=UTC)) == "2013-07-04"
    assert show_time(NOON) == "2013-07-04 12:00"
    assert show_time(NOON.astimezone(timezone(timedelta(hours=-12)))) == "2013-07-04 12:00"
    assert str(Window(NOON, NOON + HOUR / 2)) == "2013-07-04 12:00 to 2013-07-04 12:30 UTC"


@pytest.mark.parametrize(
    ("text", "length"),
    [("90s", HOUR / 40), ("15m", HOUR / 4), ("1h", HOUR), ("7d", 7 * DAY), ("2w", 14 * DAY), (" 1d ", DAY)],
)
def test_a_duration_is_a_number_and_a_unit(text: str, length: timedelta) -> None:
    assert parse_duration(text) == length


@pytest.mark.parametrize("text", ["", "7", "d", "0d", "-1d", "1.5h", "1 h", "1y", "1h30m", "١x"])
def test_anything_else_is_no_duration_and_says_what_is(text: str) -> None:
    with pytest.raises(ConfigError, match="such as 15m, 1h, 7d or 2w"):
        parse_duration(text)


@given(st.integers(1, 10**8))
def test_a_shown_duration_reads_back(seconds: int) -> None:
    length = timedelta(seconds=seconds)
    assert parse_duration(show_duration(length)) == length


@pytest.mark.parametrize("length", [timedelta(0), timedelta(milliseconds=1), -DAY])
def test_only_positive_whole_seconds_are_shown(length: timedelta) -> None:
    with pytest.raises(ValueError, match="not a positive whole number of seconds"):
        show_duration(length)


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(1, 10)), max_size=12))
def test_windows_together_cover_the_same_time_and_do_not_touch(spans: list[tuple[int, int]]) -> None:
    windows = [Window(NOON + start * HOUR, NOON + (start + length) * HOUR) for start, length in spans]
    joined = together(windows)
    assert {h for w in joined for h in starts(w, HOUR)} == {h for w in windows for h in starts(w, HOUR)}
    assert all(one.end < two.start for one, two in pairwise(joined))


@given(st.floats(-61.9e9, 252.9e9))
def test_a_unix_time_in_the_calendar_is_a_datetime(seconds: float) -> None:
    assert in_calendar(seconds)
    assert from_unix(seconds).utcoffset() == timedelta(0)
    assert abs(from_unix(seconds).timestamp() - seconds) < 1e-4


@pytest.mark.parametrize("seconds", [-1e11, 1e12])
def test_other_unix_times_have_no_datetime(seconds: float) -> None:
    assert not in_calendar(seconds)
    with pytest.raises(OverflowError):
        from_unix(seconds)
