"""How numbers, times and states are written for people."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from watchkeeper.metrics import METRICS, unit_in
from watchkeeper.records import ActionState, IncidentState, Reason, RolloutState, Severity, Status
from watchkeeper.schema import Ago, Kind, MonitorConfig
from watchkeeper.windows import Window, from_unix, in_calendar, show_duration, show_time

THIN = "\u202f"
NONE = "–"
MINUS = "\u2212"

TREE = {"data": "Data issue", "model": "Model issue", "infrastructure": "Infrastructure issue"}
ACTIONS = {"retrain": "Retraining", "rollback": "Rollback", "review": "Review"}

TONES: dict[str, str] = {
    Severity.P0: "bad", Severity.P1: "bad", Severity.P2: "warn",
    Status.BREACH: "bad", Status.HEALTHY: "good", Status.PROVISIONAL: "info",
    Status.NOT_ENOUGH_DATA: "quiet", Status.NO_DATA: "warn",
    IncidentState.OPEN: "bad", IncidentState.ACKNOWLEDGED: "warn", IncidentState.RESOLVED: "good",
    RolloutState.RUNNING: "info", RolloutState.PROMOTED: "good", RolloutState.ROLLED_BACK: "bad",
    ActionState.PLANNED: "info", ActionState.RUNNING: "info", ActionState.DONE: "good",
    ActionState.REFUSED: "warn", ActionState.FAILED: "bad",
    "fail": "bad", "pass": "good", "inconclusive": "info",
    "sent": "good", "pending": "info", "sending": "info",
}  # fmt: skip
"""Which of the style sheet's tones goes with a word; the word itself is always shown as well."""


def tone(word: str) -> str:
    return TONES.get(word, "quiet")


def number(value: float | None) -> str:
    """Three significant digits, thousands in groups: 0.253, 38, 1,204."""
    if value is None:
        return NONE
    size = abs(value)
    if size < 1e15 and value == int(value):
        form = ",.0f"
    elif size >= 1e9 or size < 5e-4:
        form = ".3g"
    else:
        form = ",.0f" if size >= 100 else ".1f" if size >= 10 else ".2f" if size >= 1 else ".3f"
    return f"{value:{form}}".replace("-", MINUS)


def value(of: float | None, kind: str = Kind.NUMERIC, spread: float = 0.0) -> str:
    """A value of a column as its kind is written: a number, a moment, a length of time.

    Args:
        kind: of the column; one that is not known is written as a number.
        spread: how far the column's values lie apart; a number gets three digits of it.
    """
    if of is None:
        return NONE
    if kind == "datetime" and in_calendar(of):
        at = from_unix(round(of))
        return show_time(at) if not at.second else at.strftime("%Y-%m-%d %H:%M:%S")
    if kind == "duration" and abs(of) < 1e12:
        return span(of)
    size = abs(of)
    if not spread or not math.isfinite(spread) or size >= 1e12 or (size and size < 1e-6):
        return number(of)
    digits = min(max(2 - math.floor(math.log10(spread)), 0), 9)
    text = f"{of:,.{0 if of == int(of) else digits}f}"
    text = text if text.strip("-0.,") else text.lstrip("-")
    return text.replace("-", MINUS)


def span(seconds: float) -> str:
    """A length of time to two units: `2 h 5 min`, `3.25 s`, `−4 d`."""
    sign, size = MINUS if seconds < 0 else "", abs(seconds)
    if size < 60:
        return f"{sign}{size:.3g}{THIN}s"
    parts, rest = [], round(size)
    for length, unit in ((86_400, "d"), (3600, "h"), (60, "min"), (1, "s")):
        count, rest = divmod(rest, length)
        parts.append((count, unit))
    first = next(i for i, (count, _) in enumerate(parts) if count)
    return sign + " ".join(f"{count:,}{THIN}{unit}" for count, unit in parts[first : first + 2] if count)


def shortened(text: str, most: int) -> str:
    """A text cut to so many characters; the end of a long name is kept, as names often differ there."""
    if len(text) <= most:
        return text
    tail = most // 3
    return f"{text[: most - tail - 1]}…{text[-tail:]}"


def plain(text: str) -> str:
    """Without narrow spaces, at which a terminal would break lines and for which nobody searches."""
    return text.replace(THIN, "")


def share(value: float | None) -> str:
    """A share as percent: 12.4 %, 0.37 %."""
    if value is None:
        return NONE
    percent = 100 * value
    size = abs(percent)
    text = f"{percent:.0f}" if size in (0, 100) else f"{percent:.1f}" if size >= 1 else f"{percent:.2g}"
    if 0 < size < 0.01:
        text = "<0.01" if value > 0 else ">-0.01"
    return f"{text}{THIN}%".replace("-", MINUS)


def set_number(value: float) -> str:
    """A number that somebody chose, with no more digits than they gave."""
    return f"{value:g}"


def set_share(value: float | None) -> str:
    """A share that somebody chose, as percent."""
    return NONE if value is None else f"{100 * value:.10g}{THIN}%"


def milliseconds(value: float | None) -> str:
    return NONE if value is None else f"{number(value)}{THIN}ms"


def unit_of(metric: str) -> str:
    """A metric's unit; duplicates are told as shares, though no profile knows of them."""
    return METRICS[metric].unit if metric in METRICS else "share" if metric.startswith("duplicate_") else ""


def measured(value: float | None, metric: str, column: str = "", relative: str | None = None) -> str:
    """A metric's value in its unit; `relative` as in a monitor."""
    if value is None:
        return NONE
    if relative == "ratio":
        return f"{number(value)}{THIN}×"
    sign = "+" if relative == "difference" and value > 0 else ""
    unit = unit_of(metric)
    if unit == "share":
        return sign + share(value)
    if unit == "s":
        return sign + span(value)
    return sign + number(value) + (f"{THIN}{of}" if (of := unit_in(metric, column)) else "")


def of_kpi(value: float | None, metric: str, unit: str) -> str:
    """What is measured of a KPI, in its own unit."""
    kind = unit_of(metric)
    if value is None or kind in ("share", "s"):
        return measured(value, metric)
    return number(value) + (f"{THIN}{unit}" if unit else "")


def interval_of_kpi(low: float | None, high: float | None, metric: str, unit: str) -> str:
    return NONE if low is None or high is None else f"{of_kpi(low, metric, unit)} to {of_kpi(high, metric, unit)}"


def interval(low: float | None, high: float | None, metric: str, column: str = "", relative: str | None = None) -> str:
    if low is None or high is None:
        return NONE
    return f"{measured(low, metric, column, relative)} to {measured(high, metric, column, relative)}"


def metric_title(metric: str, relative: str | None = None) -> str:
    title = METRICS[metric].title if metric in METRICS else metric.replace("_", " ")
    return {"difference": f"{title}, difference", "ratio": f"{title}, ratio"}.get(relative or "", title)


def limit(value: float, direction: str, metric: str, column: str = "", relative: str | None = None) -> str:
    """A limit as one reads it, with no more digits than it was given: "above 0.25", "below −10 %"."""
    unit = unit_of(metric)
    sign = "+" if relative == "difference" and value > 0 else ""
    if relative == "ratio":
        text = f"{value:g}{THIN}×"
    elif unit == "share":
        text = f"{sign}{100 * value:.10g}{THIN}%"
    else:
        text = sign + f"{value:g}"
        text += f"{THIN}{of}" if (of := unit_in(metric, column)) else ""
    return f"{direction} {text}".replace("-", MINUS)


def provisional(told: Mapping[str, Any]) -> str:
    """A value whose labels are not all known yet, as accounts tell it."""
    metric = str(told["metric"])
    ends = interval(told["low"], told["high"], metric)
    value, known = (measured(told[name], metric) for name in ("value", "uncorrected"))
    return plain(
        f"{metric_title(metric)} {value} ({ends}), provisional: {share(told['labelled'])} of the predictions until"
        f" {time(told['end'])} have their label; {known} uncorrected"
    )


def confidence(value: float | None) -> str:
    """How sure one look is, with as many nines as matter: 99.93 %."""
    if value is None:
        return NONE
    digits = 0
    while digits < 6 and 1 - value < 10 ** -(digits + 1):
        digits += 1
    return f"{100 * value:.{digits}f}{THIN}%"


def time(at: datetime | str | None) -> str:
    """A moment to the minute, with UTC."""
    if isinstance(at, str):
        at = datetime.fromisoformat(at)
        at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return NONE if at is None else f"{show_time(at)} UTC"


def day(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%d")


def window(span: Window) -> str:
    """A window in words: one day by its date, others by both ends."""
    if span.length == timedelta(days=1) and show_time(span.start) == day(span.start):
        return f"{day(span.start)} UTC"
    last = span.end - timedelta(microseconds=1)
    if span.length > timedelta(days=1) and show_time(span.end) == day(span.end):
        return f"{day(span.start)} to {day(last)} UTC"
    return str(span)


def duration(length: timedelta) -> str:
    """`7 days`, `36 hours`; configuration's short form for what is not whole."""
    text = show_duration(length)
    word = {"d": "day", "h": "hour", "m": "minute", "s": "second"}[text[-1]]
    return f"{text[:-1]} {word}{'' if text[:-1] == '1' else 's'}"


def baseline(monitor: MonitorConfig) -> str:
    """What a monitor compares with: "the 14 days before", "7 days ago"."""
    match monitor.baseline:
        case None:
            return "the reference"
        case "seasonal":
            return "what the last weeks let expect"
        case timedelta() as length:
            return f"the {duration(length)} before"
        case Ago(back, times):
            ago = f"{duration(back)} ago"
            return ago if times == 1 else f"the last {times} windows that lie {duration(back)} apart"
    return f"the {duration(monitor.window)} before"


def lasted(start: datetime, end: datetime) -> str:
    """How long something lasted, to two units."""
    minutes = (end - start) // timedelta(minutes=1)
    return span(60 * minutes) if minutes > 0 else "under a minute"


def sentence(reason: Reason | str) -> str:
    """A reason as a sentence of its own."""
    text = reason.sentence if isinstance(reason, Reason) else str(reason).replace("_", " ")
    return text[:1].upper() + text[1:]


def cause(name: str) -> str:
    """A cause with a capital."""
    return name[:1].upper() + name[1:]


def count(value: int, word: str) -> str:
    """`1 incident`, `3 incidents`."""
    return f"{value:,} {word}{'' if value == 1 else 's'}"
