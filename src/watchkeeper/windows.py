"""Time: half-open windows in UTC, made of whole grains."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from watchkeeper.errors import ConfigError

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
GRAINS = {"1h": HOUR, "1d": DAY}

DURATION = r"(\d+)([smhdw])"
"""How a duration is written, as a regular expression."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_UNITS = {"s": timedelta(seconds=1), "m": timedelta(minutes=1), "h": HOUR, "d": DAY, "w": 7 * DAY}


@dataclass(frozen=True, slots=True, order=True)
class Window:
    """The half-open stretch of time `[start, end)`; both ends are time-zone aware, in UTC."""

    start: datetime
    end: datetime

    def __post_init__(self) -> None:
        if self.start.utcoffset() != timedelta(0) or self.end.utcoffset() != timedelta(0):
            raise ValueError(f"a window needs UTC times, found {self.start!r} and {self.end!r}")
        if self.end <= self.start:
            raise ValueError(f"a window must end after it starts, found {self.start} to {self.end}")

    def __contains__(self, at: datetime) -> bool:
        return self.start <= at < self.end

    @property
    def length(self) -> timedelta:
        return self.end - self.start

    def __str__(self) -> str:
        return f"{show_time(self.start)} to {show_time(self.end)} UTC"


def floor(at: datetime, grain: timedelta) -> datetime:
    """The latest whole grain at or before `at`; grains are counted from 1970-01-01T00:00Z."""
    return at - (at - _EPOCH) % grain


def starts(window: Window, grain: timedelta) -> Iterator[datetime]:
    """The start of each whole grain in the window, in order. The window must be made of whole grains."""
    at = window.start
    while at < window.end:
        yield at
        at += grain


def from_unix(seconds: float) -> datetime:
    """The datetime of a Unix time: seconds since 1970-01-01T00:00Z. It must be `in_calendar`."""
    return _EPOCH + timedelta(seconds=seconds)


def in_calendar(seconds: float) -> bool:
    """Whether a Unix time has a datetime, with years to spare at both ends: those from 6 to 9986 have."""
    return -62e9 < seconds < 253e9


def together(windows: Iterable[Window]) -> list[Window]:
    """The stretches of time that windows cover, in order; those that touch or overlap become one."""
    joined: list[Window] = []
    for window in sorted(windows):
        if joined and window.start <= joined[-1].end:
            joined[-1] = Window(joined[-1].start, max(joined[-1].end, window.end))
        else:
            joined.append(window)
    return joined


def show_time(at: datetime) -> str:
    """`2013-07-04` at midnight, else `2013-07-04 15:00`; always UTC."""
    at = at.astimezone(UTC)
    return at.strftime("%Y-%m-%d" if at == floor(at, DAY) else "%Y-%m-%d %H:%M")


def parse_duration(text: str) -> timedelta:
    """`"90s"`, `"15m"`, `"1h"`, `"7d"`, `"2w"` as a timedelta.

    Raises ConfigError for anything else, zero included.
    """
    match = re.fullmatch(DURATION, text.strip())
    if match is None or int(match[1]) == 0:
        raise ConfigError(f'"{text}" is no duration; write a whole number and a unit, such as 15m, 1h, 7d or 2w')
    return int(match[1]) * _UNITS[match[2]]


def show_duration(length: timedelta) -> str:
    """The shortest form that `parse_duration` reads back: `7d`, `90m`, `36h`."""
    for unit in ("d", "h", "m", "s"):
        count, rest = divmod(length, _UNITS[unit])
        if not rest and count > 0:
            return f"{count}{unit}"
    raise ValueError(f"{length} is not a positive whole number of seconds")
