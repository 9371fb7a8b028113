"""Words: what people read."""

from __future__ import annotations

import pytest

from watchkeeper import words
from watchkeeper.schema import MonitorConfig


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("reference", "the reference"),
        ("14d", "the 14 days before"),
        ("previous", "the 6 hours before"),
        ("7d ago", "7 days ago"),
        ("4 x 7d ago", "the last 4 windows that lie 7 days apart"),
    ],
)
def test_a_baseline_is_told_in_words(written: str, told: str) -> None:
    settings = {"name": "drift", "metric": "psi", "above": 0.2, "window": "6h", "baseline": written}
    assert words.baseline(MonitorConfig.model_validate(settings)) == told
