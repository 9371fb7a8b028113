"""Servers and clients that are killed under load, or cannot do their work: nothing acknowledged is lost or doubled.

`bench/crash.py` lives through the same stories for longer.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import under_load
from under_load import Counts

STORIES: dict[str, Callable[[Path], Counts]] = {
    "the server is killed": lambda folder: under_load.killed_servers(folder, 1, 3),
    "clients are killed": lambda folder: under_load.killed_clients(folder, 2, 8),
    "two send the same": lambda folder: under_load.same_ids(folder, 3, 1),
    "the server is away": lambda folder: under_load.server_away(folder, 4, 3.0),
}


@pytest.mark.parametrize("story", STORIES)
def test_nothing_that_was_acknowledged_is_lost_or_doubled(story: str, tmp_path: Path) -> None:
    found = STORIES[story](tmp_path / "world")
    assert found.kills > 0
    assert found.acked > 0
    assert (found.lost, found.doubled, found.miscounted) == (0, 0, 0)
