"""What is lost, and what is doubled, when servers and clients are killed under load.

Each story runs a real server and the programs that log to it as processes of their own, kills them with SIGKILL at
random moments, and then compares the log with what each program noted as acknowledged. Nothing may be lost or doubled.

python bench/crash.py [--quick] [--json] [--seed N]
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from time import perf_counter
from typing import Any

from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import keeper_story
import own_postgres
import under_load
from under_load import Counts

Story = Callable[[Path, int], Counts]
AT_ONCE = 3
"""Stories that are lived through at the same time; each spends most of its time waiting."""


def stories(quick: bool) -> dict[str, Story]:
    """What is lived through, for how many kills or seconds; shortly those alone in which most may be lost. The tests
    live through all of them shortly."""

    def story(work: Callable[[Path, int, Any], Counts], short: float, long: float) -> Story:
        return lambda folder, seed: work(folder, seed, short if quick else long)

    found = {
        "the server is killed": story(under_load.killed_servers, 1, 50),
        "clients are killed": story(under_load.killed_clients, 3, 50),
        "the server may write no more": story(under_load.full_disk, 1.0, 20.0),
        "who erases and compacts is killed": story(keeper_story.killed_keeping, 1, 50),
    }
    if own_postgres.programs():
        found["the database is killed, Postgres"] = story(under_load.killed_postgres, 1, 50)
    if quick:
        return found
    found["two send the same events"] = story(under_load.same_ids, 0, 5)
    found["the server is away"] = story(under_load.server_away, 0, 60.0)
    found["the clock steps back"] = story(under_load.clock_steps_back, 0, 5)
    if under_load.can_mount():
        found["the disk is full"] = story(under_load.full_file_system, 0, 20.0)
    if own_postgres.programs():
        found["the server is killed, Postgres"] = story(under_load.killed_servers_with_postgres, 0, 50)
        found["who erases is killed, Postgres"] = story(keeper_story.killed_keeping_in_postgres, 0, 50)
    return found


def timed(story: Story, folder: Path, seed: int) -> tuple[Counts, float]:
    begun = perf_counter()
    return story(folder, seed), perf_counter() - begun


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    arguments.add_argument("--quick", action="store_true", help="few kills, under 50 seconds in all")
    arguments.add_argument("--json", action="store_true", help="the figures as one JSON object in the last line")
    arguments.add_argument("--seed", type=int, default=1, help="of all that is random")
    asked = arguments.parse_args()
    begun, total = perf_counter(), Counts()
    shown = Table("story", "killed", "acknowledged", "stored", "lost", "doubled", "miscounted", "seconds")
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(AT_ONCE) as pool:
        told = {
            name: pool.submit(timed, story, Path(folder) / str(number), asked.seed + number)
            for number, (name, story) in enumerate(stories(asked.quick).items())
        }
        failed = []
        for name, job in told.items():
            try:
                found, seconds = job.result()
            except AssertionError as problem:  # the others are told nevertheless
                failed.append(f"{name}: {problem}")
                continue
            figures = (found.kills, found.acked, found.stored, found.lost, found.doubled, found.miscounted)
            shown.add_row(name, *(f"{figure:,}" for figure in figures), f"{seconds:.0f}")
            total += found
    Console(width=100).print(shown)
    print(f"done in {perf_counter() - begun:.0f} s")
    for problem in failed:
        print(f"failed: {problem}", file=sys.stderr)
    if asked.json:
        print(json.dumps(asdict(total)))
    sys.exit(1 if failed or total.lost or total.doubled or total.miscounted else 0)


if __name__ == "__main__":
    main()
