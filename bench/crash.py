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
from dataclasses import asdict
from pathlib import Path
from time import perf_counter

from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import under_load
from under_load import Counts

Story = Callable[[Path, int], Counts]


def stories(quick: bool) -> dict[str, Story]:
    def of(short: float, long: float) -> float:
        return short if quick else long

    return {
        "the server is killed": lambda folder, seed: under_load.killed_servers(folder, seed, int(of(4, 50))),
        "clients are killed": lambda folder, seed: under_load.killed_clients(folder, seed, int(of(8, 50))),
        "two send the same events": lambda folder, seed: under_load.same_ids(folder, seed, int(of(1, 5))),
        "the server is away": lambda folder, seed: under_load.server_away(folder, seed, of(3, 60)),
    }


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    arguments.add_argument("--quick", action="store_true", help="few kills, under 50 seconds in all")
    arguments.add_argument("--json", action="store_true", help="the figures as one JSON object in the last line")
    arguments.add_argument("--seed", type=int, default=1, help="of all that is random")
    asked = arguments.parse_args()
    begun, total = perf_counter(), Counts()
    shown = Table("story", "killed", "acknowledged", "stored", "lost", "doubled", "miscounted", "seconds")
    with tempfile.TemporaryDirectory() as folder:
        for number, (name, story) in enumerate(stories(asked.quick).items()):
            started = perf_counter()
            found = story(Path(folder) / str(number), asked.seed + number)
            figures = (found.kills, found.acked, found.stored, found.lost, found.doubled, found.miscounted)
            shown.add_row(name, *(f"{figure:,}" for figure in figures), f"{perf_counter() - started:.0f}")
            total += found
    Console(width=100).print(shown)
    print(f"done in {perf_counter() - begun:.0f} s")
    if asked.json:
        print(json.dumps(asdict(total)))
    sys.exit(1 if total.lost or total.doubled or total.miscounted else 0)


if __name__ == "__main__":
    main()
