"""A process that is killed anywhere in a tick loses nothing and doubles nothing: the next one goes on."""

from __future__ import annotations

import multiprocessing
import shutil
import signal
from pathlib import Path

import pytest

import crash_story
import forked
from small_world import state_of
from watchkeeper.records import IncidentState

PLACES = {
    "record": [
        "Log._insert:before:1",
        "Log._insert:after:1",
        "Log._insert:after:2",
        "Inbox.reject:after:1",
        "Inbox.done:before:1",
    ],
    "summarise": [
        "Engine.summarise:before:1",
        "Transaction.put_profiles:after:1",
        "Transaction.set_cursor:after:2",
        "Engine.summarise:after:1",
    ],
    "measure, judge, gather": [
        "Engine.measure:after:1",
        "Engine.judge:after:1",
        "Transaction.change:after:1",
        "timeline.write:after:1",
        "Transaction.audit:after:1",
        "Engine.gather:after:1",
    ],
    "tell": ["Engine.tell:before:1", "notify._try:before:1", "notify._settle:before:1", "Engine.tell:after:1"],
    "act": [
        "Engine.act:before:1",
        "Retraining.start:before:1",
        "Retraining._launch:before:1",
        "subprocess.Popen:before:1",
        "subprocess.Popen:after:1",
        "Registry.add:before:1",
        "Registry.add:after:1",
        "traffic.offer:after:1",
        "Engine.act:after:1",
    ],
    "prove": [
        "Engine.prove:before:1",
        "traffic.prove:after:1",
        "Registry.set_route:before:1",
        "Registry.set_route:after:1",
        "traffic.prove:after:2",
        "Transaction.crown:after:1",
        "traffic._close_incidents:after:1",
        "traffic.steer:before:1",
        "Engine.prove:after:1",
    ],
}


@pytest.fixture(scope="module")
def processes() -> multiprocessing.context.ForkServerContext:
    return forked.context()


@pytest.fixture(scope="module")
def quiet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("quiet") / "store"
    crash_story.begin(folder)
    return folder


@pytest.fixture(scope="module")
def undisturbed(quiet: Path, processes: multiprocessing.context.ForkServerContext) -> dict[str, object]:
    folder = quiet.with_name("undisturbed")
    shutil.copytree(quiet, folder)
    assert _live(processes, folder) == 0
    return _end(folder)


def _live(processes: multiprocessing.context.ForkServerContext, folder: Path, point: str = "") -> int | None:
    life = processes.Process(target=crash_story.live, args=(folder, point))
    life.start()
    life.join(60)
    return life.exitcode


def _end(folder: Path) -> dict[str, object]:
    world = crash_story.world(folder)
    try:
        return {**state_of(world.engine), "rejected": world.engine.inbox.rejected()}
    finally:
        world.engine.close()


def test_the_story_has_all_that_can_be_interrupted(undisturbed: dict[str, object]) -> None:
    incidents = undisturbed["Incident"].values()
    assert {i.cause for i in incidents} == {"sentinel values", "performance"}
    assert {i.state for i in incidents} == {IncidentState.RESOLVED}
    [rollout] = undisturbed["Rollout"].values()
    assert rollout.state == "promoted"
    assert undisturbed["champions"] == ["base", "v1"]
    assert undisturbed["route"]["champion"] == "v1"
    assert undisturbed["rejected"] == 8
    assert not undisturbed["waiting"]
    assert set(undisturbed["deliveries"].values()) == {"sent"}


@pytest.mark.parametrize("hop", PLACES)
def test_deaths_in_a_hop_lose_nothing_and_double_nothing(
    hop: str,
    quiet: Path,
    undisturbed: dict[str, object],
    processes: multiprocessing.context.ForkServerContext,
    tmp_path: Path,
) -> None:
    folder = tmp_path / "store"
    shutil.copytree(quiet, folder)
    for point in PLACES[hop]:
        assert _live(processes, folder, point) == -signal.SIGKILL, f"{point} was not come to"
    assert _live(processes, folder) == 0
    found = _end(folder)
    for name, wanted in undisturbed.items():
        assert found[name] == wanted, name
