"""A comparison on a terminal: breaches first, whole words, a line each where it is piped."""

from __future__ import annotations

from io import StringIO

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from watchkeeper.comparison import Comparison, compare
from watchkeeper.comparison.terminal import show


def frame(rows: int, seed: int, shift: float = 0.0) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "temp": random.normal(15 + shift, 8, rows),
            "origin": random.choice(["EWR", "JFK", "LGA"], rows, p=[0.3, 0.4, 0.3]),
            "wet": random.random(rows) < 0.2,
        }
    )


def printed(comparison: Comparison, width: int, *, terminal: bool = True) -> list[str]:
    console = Console(file=StringIO(), width=width, force_terminal=terminal, no_color=True, legacy_windows=False)
    show(comparison, console)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    return [
        line.rstrip() for line in text.replace("\x1b[1m", "").replace("\x1b[0m", "").replace("\x1b[2m", "").split("\n")
    ]


@pytest.fixture(scope="module")
def changed() -> Comparison:
    before = frame(500, 1).assign(id=[f"r{i}" for i in range(500)], gone=1)
    after = frame(500, 2, shift=8).assign(id="[red]x[/red]", new=1)
    return compare(before, after)


def test_the_verdict_comes_first_and_then_the_breaches(changed: Comparison) -> None:
    lines = printed(changed, 140)
    assert lines[0] == "changed: 3 of 5 columns breach a limit: gone, id, temp."
    assert lines[2].split() == [
        "Column", "Worst", "metric", "Value", "Interval", "Allowed", "Missing", "before", "now"
    ]  # fmt: skip
    assert [line.split()[:2] for line in lines[4:9]] == [
        ["✗", "gone"], ["✗", "id"], ["✗", "temp"], ["✓", "origin"], ["✓", "wet"]
    ]  # fmt: skip
    said = [line for line in lines if line.startswith("✗ ") and ": " in line]
    assert said[0] == "✗ gone: column is missing from the current data"
    assert said[1].startswith("✗ id: 99.8% of the rows repeat an earlier id")
    assert said[2].startswith("✗ temp: the values moved by 1.0")
    assert "left out: id: an id: 500 different values in 500 rows of the reference" in lines
    assert "only in the current data: new" in lines
    assert "chance of any breach if nothing changed: at most 5%" in " ".join(lines)


@pytest.mark.parametrize("width", [60, 80, 100, 120, 160])
def test_no_word_is_broken(changed: Comparison, width: int) -> None:
    lines = printed(changed, width)
    assert max(map(len, lines)) <= width
    words = " ".join(" ".join(lines).split())
    for whole in ("Wasserstein", "distance", "temp", "origin", "up to 0.1", "Worst metric", "Value", "Allowed"):
        assert whole in words
    assert "…" not in words


def test_a_pipe_gets_plain_lines_that_are_not_broken(changed: Comparison) -> None:
    lines = printed(changed, 40, terminal=False)
    assert not any("\x1b" in line for line in lines)
    assert sum(line.startswith("✗ temp: ") and line.endswith("allowed up to 0.1)") for line in lines) == 1


def test_a_healthy_comparison_says_so() -> None:
    data = frame(500, 1)
    lines = printed(compare(data, data), 100)
    assert lines[0] == "healthy: No limit is breached: 26 looks at 3 columns."
    assert sum(line.startswith("✓") for line in lines) == 3
    assert not any(line.startswith("✗") for line in lines)


def test_many_healthy_columns_are_counted() -> None:
    data = pd.DataFrame({f"c{i}": np.arange(60.0) % (i + 2) for i in range(50)})
    lines = printed(compare(data, data), 100)
    assert sum(line.startswith("✓") for line in lines) == 40
    assert "and 10 more columns within their limits" in lines


def test_what_could_not_be_judged_is_told_once_a_column() -> None:
    lines = printed(compare(frame(500, 1), frame(500, 2).assign(temp=np.nan)), 200)
    told = [line for line in lines if line.startswith("not judged: temp")]
    assert len(told) == 2
    assert any("Wasserstein distance, population stability index" in line for line in told)


@pytest.mark.parametrize("width", [60, 100])
def test_the_metric_keeps_its_place_beside_the_time_of_a_breach(width: int) -> None:
    when = pd.DataFrame({"at": pd.date_range("2024-01-01", periods=1000, freq="h")})
    before, after = frame(1000, 1).join(when), frame(1000, 2, shift=8).join(when)
    lines = printed(compare(before, after, timestamp="at"), width)
    head = next(line for line in lines if "Column" in line)
    assert "Worst metric" in head
    assert any("Wasserstein" in line for line in lines if line.startswith("✗   "))
    assert ("Since" in head) == (width == 100)


def test_segments_are_named_and_those_without_rows_are_not_listed() -> None:
    before, after = frame(2000, 1), frame(2000, 2)
    after.loc[after["origin"] == "EWR", "temp"] += 12
    lines = printed(compare(before, after, segments=["origin"]), 160, terminal=False)
    assert not [line for line in lines if line.startswith("not judged") and "wet" in line]
    after.loc[after["origin"] == "JFK", "temp"] -= 9
    lines = printed(compare(before, after, segments=["origin"]), 160, terminal=False)
    assert any(line.startswith("✗ temp [origin=EWR]: ") for line in lines)
