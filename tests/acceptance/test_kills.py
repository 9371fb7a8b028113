"""Servers and clients that are killed under load, or cannot do their work: nothing acknowledged is lost or doubled.

`bench/crash.py` lives through the same stories for longer.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import keeper_story
import under_load
from under_load import Counts

STORIES: dict[str, Callable[[Path], Counts]] = {
    "the server is killed": lambda folder: under_load.killed_servers(folder, 1, 3),
    "clients are killed": lambda folder: under_load.killed_clients(folder, 2, 6),
    "two send the same": lambda folder: under_load.same_ids(folder, 3, 1),
    "the server is away": lambda folder: under_load.server_away(folder, 4, 2.0),
    "the disk is full": lambda folder: under_load.full_disk(folder, 5, 1.0),
    "who erases is killed": lambda folder: keeper_story.killed_keeping(folder, 9, 4),
    "the clock steps back": lambda folder: under_load.clock_steps_back(folder, 6, 1),
}


@pytest.mark.parametrize("story", STORIES)
def test_nothing_that_was_acknowledged_is_lost_or_doubled(story: str, tmp_path: Path) -> None:
    _hold(STORIES[story](tmp_path / "world"))


@pytest.mark.usefixtures("postgres_server")  # or it is skipped
def test_nothing_is_lost_or_doubled_when_the_database_is_killed(tmp_path: Path) -> None:
    _hold(under_load.killed_postgres(tmp_path / "world", 7, 1))


def test_nothing_is_lost_or_doubled_on_a_file_system_that_is_full(tmp_path: Path) -> None:
    if not under_load.can_mount():
        pytest.skip("only root can mount a small file system")
    _hold(under_load.full_file_system(tmp_path / "world", 8, 1.0))


def _hold(found: Counts) -> None:
    assert found.kills > 0
    assert found.acked > 0
    assert (found.lost, found.doubled, found.miscounted) == (0, 0, 0)
