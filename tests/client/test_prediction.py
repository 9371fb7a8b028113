"""Predictions while they are made: in a block, in a function, in threads and coroutines."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from time import sleep, thread_time
from typing import Any

import pytest
from listener import inbox

from watchkeeper import events
from watchkeeper.client import Client, current

Logged = Callable[[], list[dict[str, Any]]]
MEASURED = ("latency_ms", "cpu_ms", "memory_mb", "disk_mb")


@pytest.fixture
def client(tmp_path: Any) -> Iterator[Client]:
    with Client(tmp_path, model="delays", version="3", interval=3600, strict=True) as made:
        yield made


@pytest.fixture
def logged(client: Client, tmp_path: Any) -> Logged:
    def found() -> list[dict[str, Any]]:
        client.flush()
        return inbox(tmp_path)

    return found


def spin(seconds: float) -> None:
    end = thread_time() + seconds
    while thread_time() < end:
        pass


# a block


def test_a_block_is_measured_and_logged(client: Client, logged: Logged) -> None:
    with client.prediction({"distance": 733}, entity_id=7) as p:
        assert current() is p
        sleep(0.02)
        spin(0.01)
        p.score, p.cost = 0.83, 0.002
    assert current() is None
    (event,) = logged()
    assert event["request_id"] == p.request_id
    assert (event["features"], event["entity_id"], event["score"], event["cost"]) == (
        {"distance": 733},
        "7",
        0.83,
        0.002,
    )
    assert (event["status"], event["variant"], event["version"], event["context"]) == ("ok", "champion", "3", None)
    assert event["latency_ms"] >= 30
    assert 10 <= event["cpu_ms"] < event["latency_ms"]
    assert event["memory_mb"] > 10
    assert event["disk_mb"] >= 0
    assert event["gpu_memory_mb"] is None or event["gpu_memory_mb"] >= 0


def test_what_was_set_is_not_measured_over(client: Client, logged: Logged) -> None:
    with client.prediction(version="4", variant="shadow") as p:
        p.features = {"distance": 1}
        p.request_id, p.latency_ms, p.status, p.context = "mine", 5, "fallback", {"page": 2}
        p.prediction = 1
    (event,) = logged()
    assert (event["request_id"], event["latency_ms"], event["status"]) == ("mine", 5, "fallback")
    assert (event["version"], event["variant"], event["prediction"]) == ("4", "shadow", 1)
    assert (event["features"], event["context"]) == ({"distance": 1}, '{"page":2}')


def test_all_fields_of_log_may_be_given(client: Client) -> None:
    known = set(events.FIELDS[events.PREDICTION]) - {"kind", "model"}
    assert known <= set(vars(client.prediction()))
    with pytest.raises(TypeError, match='no field "scor"; its fields are'):
        client.prediction(scor=1)


@pytest.mark.parametrize(
    ("problem", "status"),
    [
        (ValueError("x"), "error"),
        (TimeoutError(), "timeout"),
        (asyncio.CancelledError(), "cancelled"),
        (KeyboardInterrupt(), "cancelled"),
    ],
)  # fmt: skip
def test_what_is_raised_is_recorded_and_goes_on(
    client: Client, logged: Logged, problem: BaseException, status: str
) -> None:
    with pytest.raises(type(problem)), client.prediction({"x": 1}, context={"page": 2}):
        raise problem
    (event,) = logged()
    assert event["status"] == status
    assert json.loads(event["context"]) == {"page": 2, "error": type(problem).__name__}
    assert event["latency_ms"] is not None


def test_a_failure_that_is_caught_inside_can_be_told(client: Client, logged: Logged) -> None:
    with client.prediction({"x": 1}) as p:
        try:
            raise OSError("no model")
        except OSError as problem:
            p.failed(problem)
            p.score, p.variant = 0.5, "fallback"
    (event,) = logged()
    assert (event["status"], event["variant"], event["score"]) == ("error", "fallback", 0.5)
    assert json.loads(event["context"]) == {"error": "OSError"}


def test_a_context_that_is_json_stays_as_it_is(client: Client, logged: Logged) -> None:
    with pytest.raises(ValueError, match="x"), client.prediction(context="[1]"):
        raise ValueError("x")
    assert logged()[0]["context"] == "[1]"


def test_blocks_within_blocks(client: Client, logged: Logged) -> None:
    with client.prediction({"x": 1}) as outer:
        with client.prediction({"x": 2}) as inner:
            assert current() is inner
        assert current() is outer
    assert [event["features"]["x"] for event in logged()] == [2, 1]


def test_each_thread_has_its_own(client: Client) -> None:
    seen = []
    with client.prediction():
        thread = threading.Thread(target=lambda: seen.append(current()))
        thread.start()
        thread.join()
    assert seen == [None]


def test_blocks_of_coroutines_that_run_in_turn(client: Client, logged: Logged) -> None:
    async def one(x: int) -> None:
        async with client.prediction({"x": x}) as p:
            await asyncio.sleep(0.01)
            assert current() is p
            p.score = x / 10

    async def story() -> None:
        await asyncio.gather(*(one(x) for x in range(5)))

    asyncio.run(story())
    found = sorted(logged(), key=lambda event: event["features"]["x"])
    assert [event["score"] for event in found] == [0.0, 0.1, 0.2, 0.3, 0.4]
    assert {(event["cpu_ms"], event["disk_mb"]) for event in found} == {(None, None)}
    assert min(event["latency_ms"] for event in found) >= 9


def test_a_timeout_in_a_coroutine(client: Client, logged: Logged) -> None:
    async def story() -> None:
        async with client.prediction({"x": 1}):
            async with asyncio.timeout(0.01):
                await asyncio.sleep(10)

    with pytest.raises(TimeoutError):
        asyncio.run(story())
    assert logged()[0]["status"] == "timeout"


def test_a_generator_that_is_closed_elsewhere(client: Client, logged: Logged) -> None:
    async def stream() -> AsyncIterator[int]:
        with client.prediction({"x": 1}) as p:
            p.score = 0.5
            yield 1

    async def story() -> None:
        found = stream()
        await asyncio.ensure_future(found.__anext__())  # a task has a context of its own
        await found.aclose()  # type: ignore[attr-defined]

    asyncio.run(story())
    assert logged()[0]["score"] == 0.5


# a function


def test_a_function_of_features(client: Client, logged: Logged) -> None:
    @client.logged
    def score(features: dict[str, float]) -> float:
        """The score."""
        p = current()
        assert p is not None
        p.entity_id = "e"
        return features["x"] / 2

    assert score({"x": 1}) == 0.5
    assert score(features={"x": 2}) == 1.0
    assert (score.__name__, score.__doc__) == ("score", "The score.")
    found = logged()
    assert [(event["features"], event["score"]) for event in found] == [({"x": 1}, 0.5), ({"x": 2}, 1.0)]
    assert {event["entity_id"] for event in found} == {"e"}


def test_a_function_of_values(client: Client, logged: Logged) -> None:
    @client.logged(variant="shadow", version="9")
    def score(distance: float, origin: str = "JFK") -> dict[str, Any]:
        return {"score": 0.25, "prediction": 1, "why": "because"}

    score(7, origin="LGA")
    (event,) = logged()
    assert event["features"] == {"distance": 7, "origin": "LGA"}
    assert (event["score"], event["prediction"], event["variant"], event["version"]) == (0.25, 1, "shadow", "9")


def test_a_function_whose_features_and_result_are_told(client: Client, logged: Logged) -> None:
    @client.logged(features=lambda model, row: {"x": row[0]}, result=lambda answer: {"score": answer[1], "cost": 2})
    def score(model: object, row: list[float]) -> tuple[float, float]:
        return 0.1, 0.9

    assert score(None, [3]) == (0.1, 0.9)
    (event,) = logged()
    assert (event["features"], event["score"], event["cost"]) == ({"x": 3}, 0.9, 2)


def test_a_function_that_fails(client: Client, logged: Logged) -> None:
    @client.logged
    def score(features: dict[str, float]) -> float:
        return features["x"] / 0

    with pytest.raises(ZeroDivisionError):
        score({"x": 1})
    assert (logged()[0]["status"], logged()[0]["context"]) == ("error", '{"error":"ZeroDivisionError"}')


def test_what_cannot_be_told_of_a_call_does_not_change_it(client: Client, logged: Logged) -> None:
    @client.logged(features=lambda x: x.no_such_thing, result=lambda answer: {"no such field": answer})
    def score(x: int) -> list[int]:
        return [x]

    assert score(3) == [3]
    with pytest.raises(TypeError, match="missing 1 required"):
        score()
    first, second = logged()
    assert (first["features"], first["score"], first["status"]) == ({}, None, "ok")
    assert second["status"] == "error"


def test_an_answer_that_is_no_score(client: Client, logged: Logged) -> None:
    @client.logged
    def answer(text: str) -> str:
        return "0.5"

    assert answer("x") == "0.5"
    assert logged()[0]["score"] is None


def test_a_coroutine_is_counted_only_while_it_runs(client: Client, logged: Logged) -> None:
    @client.logged
    async def score(features: dict[str, float]) -> float:
        spin(0.01)
        await asyncio.sleep(0.03)
        spin(0.01)
        return 0.5

    async def busy() -> None:
        for _ in range(10):
            spin(0.005)
            await asyncio.sleep(0)

    async def story() -> None:
        answered, _ = await asyncio.gather(score({"x": 1}), busy())
        assert answered == 0.5

    asyncio.run(story())
    (event,) = logged()
    assert event["score"] == 0.5
    assert 20 <= event["cpu_ms"] < 40
    assert event["latency_ms"] >= 50


def test_a_coroutine_that_fails_or_is_cancelled(client: Client, logged: Logged) -> None:
    @client.logged
    async def score(x: int) -> float:
        try:
            await asyncio.sleep(x)
        except asyncio.CancelledError:
            await asyncio.sleep(0)  # what it does about it still runs
            raise
        raise LookupError("x")

    async def story() -> None:
        with pytest.raises(LookupError):
            await score(0)
        task = asyncio.ensure_future(score(10))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(score(10), 0.01)

    asyncio.run(story())
    assert [event["status"] for event in logged()] == ["error", "cancelled", "cancelled"]
