"""A story that is killed on the way: four days with an incident, a retraining, a rollout and a promotion.

`live` is run in processes of their own, which die at a point such as `Log._insert:after:2`: after the second time that
`Log._insert` is called. The next life goes on with the day that was not over.
"""

from __future__ import annotations

import os
import signal
import subprocess
from datetime import timedelta
from pathlib import Path
from typing import Any

from small_world import ROWS, World, config, outcome, prediction, sentinel
from watchkeeper import actions, engine, notify, training
from watchkeeper import timeline as timeline_module
from watchkeeper import traffic as traffic_module
from watchkeeper.registry import Registry
from watchkeeper.store.inbox import Inbox
from watchkeeper.store.log import Log
from watchkeeper.store.state import Transaction

PLACES: dict[str, Any] = {
    "Engine": engine.Engine,
    "Log": Log,
    "Inbox": Inbox,
    "Transaction": Transaction,
    "Registry": Registry,
    "Retraining": actions.Retraining,
    "notify": notify,
    "timeline": timeline_module,
    "traffic": traffic_module,
    "training": training,
    "subprocess": subprocess,
}
BEFORE, DAYS = 8, range(8, 12)
SETTINGS = config(
    retrain={
        "trainer": "toy_trainer:constant", "causes": ["performance"], "train_on": "6d", "hold_out": "2d",
        "min_rows": 100, "margin": 5.0,
    },
    rollout={"stages": [0.5, 1.0], "hold": "1d", "margin": 5.0, "score_shift": 1.0, "max_duration": "10d"},
)  # fmt: skip


class AtOnce:
    """In place of a training process: the job is done here and now."""

    pid = 2**22 + 1

    def __init__(self, command: list[str], **_: Any) -> None:
        self.returncode = training.main(Path(command[-1]))

    def wait(self, timeout: float | None = None) -> int:
        return self.returncode

    def poll(self) -> int:
        return self.returncode


def world(folder: Path) -> World:
    return World(folder, SETTINGS, patience=timedelta(minutes=1))


def begin(folder: Path) -> None:
    """The quiet days before the story."""
    quiet = world(folder)
    quiet.day(*range(BEFORE - 1))
    quiet.day(BEFORE - 1, labels=False)
    quiet.at(BEFORE).want()
    quiet.engine.close()


def live(folder: Path, point: str = "") -> None:
    """Live the story on from the day that is not over, until its end or until death."""
    training.subprocess.Popen = AtOnce  # type: ignore[misc, assignment]
    story = world(folder)
    over = folder / "day"
    if point:
        _die(point)
    for day in DAYS:
        if day <= int(over.read_text() if over.exists() else -1):
            continue
        arrived = folder / f"arrived-{day}"
        if not arrived.exists():
            story.engine.inbox.put(_events(day))
            arrived.touch()
        story.at(day + 1)
        over.write_text(str(day))
    story.engine.close()


def _events(day: int) -> list[dict[str, Any]]:
    """A day's predictions, half of them by the candidate once there is one, and labels; some lines are of no use."""
    rows = [prediction(i, day, version="v1" if day > BEFORE and i % 2 else "base") for i in range(ROWS)]
    for event in rows if day == BEFORE else ():
        sentinel(event)
    known = [outcome(i, day - 1, i % 2 if day == BEFORE else None) for i in range(ROWS)]
    return [*rows, *known, {"kind": "outcome", "model": "loans", "nonsense": day}, {"model": "unknown"}]


def _die(point: str) -> None:
    name, when, count = point.split(":")
    place, _, attribute = name.partition(".")
    original = getattr(PLACES[place], attribute)
    left = [int(count)]

    def dying(*args: Any, **kwargs: Any) -> Any:
        left[0] -= 1
        if when == "before" and left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        found = original(*args, **kwargs)
        if when == "after" and left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return found

    setattr(PLACES[place], attribute, dying)
