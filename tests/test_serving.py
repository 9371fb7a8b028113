"""Serving: the right version answers the right entity, and something answers when a model does not."""

from __future__ import annotations

import logging
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from scipy.stats import binom, kstest

import toy_trainer
from watchkeeper.errors import ModelError
from watchkeeper.registry import Registry, Route
from watchkeeper.serving import FALLBACK, Breaker, Server, bucket

NOW = datetime(2024, 1, 1, tzinfo=UTC)
ENTITIES = [f"customer {i}" for i in range(20_000)]


def rows(n: int) -> pa.Table:
    return pa.table({"x": np.linspace(0, 1, n)})


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    """Version v1 answers 0.1, v2 answers 0.2."""
    registry = Registry(tmp_path / "registry")
    for value in (0.1, 0.2):
        add(registry, tmp_path, kind="constant", value=value)
    registry.set_route("loans", Route("v1"))
    return registry


def add(registry: Registry, folder: Path, **rule: Any) -> str:
    files = folder / f"files-{len(registry.versions('loans'))}"
    files.mkdir()
    toy_trainer.write(files, **rule)
    return registry.add("loans", files, "toy_trainer:load", {}).version


# who gets whom


@pytest.mark.parametrize("share", [0.01, 0.05, 0.25, 0.5, 0.9])
def test_a_candidate_gets_its_share_of_the_entities(registry: Registry, share: float) -> None:
    registry.set_route("loans", Route("v1", "", "v2", share))
    answers = Server(registry, "loans").predict(rows(len(ENTITIES)), ENTITIES, NOW)
    taken = answers.versions.count("v2")
    low, high = binom.interval(0.9999, len(ENTITIES), share)
    assert low <= taken <= high
    assert set(zip(answers.versions, answers.variants, answers.scores.tolist(), answers.statuses, strict=True)) == {
        ("v1", "champion", 0.1, "ok"),
        ("v2", "candidate", 0.2, "ok"),
    }


def test_buckets_are_evenly_spread_and_depend_on_entity_and_salt_alone() -> None:
    found = [bucket(entity, "v2") for entity in ENTITIES]
    assert kstest(found, "uniform").pvalue > 0.001
    assert found[:5] == [bucket(entity, "v2") for entity in ENTITIES[:5]]
    assert min(found) >= 0
    assert max(found) < 1


def test_an_entity_keeps_the_candidate_as_its_share_grows(registry: Registry) -> None:
    server = Server(registry, "loans")
    before: set[str] = set()
    for share in (0.05, 0.25, 0.6, 1.0):
        registry.set_route("loans", Route("v1", "", "v2", share))
        answers = server.predict(rows(2000), ENTITIES[:2000], NOW)
        now = {entity for entity, version in zip(ENTITIES, answers.versions, strict=False) if version == "v2"}
        assert before < now
        before = now
    assert len(before) == 2000


def test_each_candidate_begins_with_other_entities() -> None:
    first, second = ({e for e in ENTITIES if bucket(e, salt) < 0.1} for salt in ("v2", "v3"))
    low, high = binom.interval(0.9999, len(first), 0.1)
    assert low <= len(first & second) <= high


def test_without_a_share_or_a_candidate_the_champion_answers_all(registry: Registry) -> None:
    for route in (Route("v1"), Route("v1", "", "v2", 0.0)):
        registry.set_route("loans", route)
        assert set(Server(registry, "loans").predict(rows(500), ENTITIES[:500], NOW).versions) == {"v1"}


def test_no_rows_are_answered_with_none(registry: Registry) -> None:
    answers = Server(registry, "loans").predict(rows(0), [], NOW)
    assert (len(answers.scores), answers.versions, answers.statuses) == (0, [], [])


def test_rows_and_entities_must_be_as_many(registry: Registry) -> None:
    with pytest.raises(ModelError, match="each row needs an entity: found 3 rows and 2 entities"):
        Server(registry, "loans").predict(rows(3), ["a", "b"], NOW)


def test_a_model_without_a_champion_cannot_answer(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match='model "loans" has no champion yet; install one first'):
        Server(Registry(tmp_path), "loans", 0.5).predict(rows(1), ["a"], NOW)


# what answers when a model fails


def broken(registry: Registry, folder: Path, kind: str) -> None:
    version = add(registry, folder, kind=kind if kind != "gone" else "constant", value=0.5)
    if kind == "gone":
        (registry.folder / "loans" / version / "rule.json").unlink()
    registry.set_route("loans", Route(version))


@pytest.mark.parametrize("kind", ["raise", "shape", "nan", "gone", "unheard of"])
def test_the_fallback_answers_for_a_model_that_does_not(
    registry: Registry, tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    broken(registry, tmp_path, kind)
    with caplog.at_level(logging.ERROR):
        answers = Server(registry, "loans", 0.23).predict(rows(3), ["a", "b", "c"], NOW)
    assert answers.scores.tolist() == [0.23] * 3
    assert answers.variants == [FALLBACK] * 3
    assert answers.statuses == ["error"] * 3
    assert "loans v3 failed; the fallback answers" in caplog.text


@pytest.mark.parametrize(("kind", "said"), [("raise", "a bad day"), ("shape", "one score a row"), ("nan", "found nan")])
def test_without_a_fallback_the_error_is_raised(registry: Registry, tmp_path: Path, kind: str, said: str) -> None:
    broken(registry, tmp_path, kind)
    with pytest.raises((ModelError, RuntimeError), match=said):
        Server(registry, "loans").predict(rows(3), ["a", "b", "c"], NOW)


def test_only_the_rows_of_the_failing_version_fall_back(registry: Registry, tmp_path: Path) -> None:
    version = add(registry, tmp_path, kind="raise")
    registry.set_route("loans", Route("v1", "", version, 0.5))
    answers = Server(registry, "loans", 0.23).predict(rows(1000), ENTITIES[:1000], NOW)
    assert set(zip(answers.variants, answers.scores.tolist(), answers.statuses, strict=True)) == {
        ("champion", 0.1, "ok"),
        (FALLBACK, 0.23, "error"),
    }
    routed = {
        version for version, variant in zip(answers.versions, answers.variants, strict=True) if variant != FALLBACK
    }
    assert routed == {"v1"}
    fallen = {entity for entity, variant in zip(ENTITIES, answers.variants, strict=False) if variant == FALLBACK}
    assert fallen == {entity for entity in ENTITIES[:1000] if bucket(entity, version) < 0.5}


def test_a_breaker_opens_after_failures_in_a_row_rests_and_closes() -> None:
    breaker = Breaker(failures=3, rest=timedelta(seconds=30))
    for _ in range(2):
        breaker.record(False, NOW)
    breaker.record(True, NOW)
    for _ in range(2):
        breaker.record(False, NOW)
        assert breaker.allows(NOW)
    breaker.record(False, NOW)
    assert not breaker.allows(NOW + timedelta(seconds=29))
    assert breaker.allows(NOW + timedelta(seconds=30))
    breaker.record(False, NOW + timedelta(seconds=30))
    assert not breaker.allows(NOW + timedelta(seconds=59)), "one more failure opens it again at once"
    breaker.record(True, NOW + timedelta(seconds=60))
    assert breaker.allows(NOW + timedelta(seconds=60))


def test_a_model_that_keeps_failing_is_left_alone_and_then_asked_again(registry: Registry, tmp_path: Path) -> None:
    broken(registry, tmp_path, "raise")
    server = Server(registry, "loans", 0.23)
    asked: list[int] = []
    server.predict(rows(1), ["a"], NOW)
    model = server._loaded["v3"]

    class Counting:
        def scores(self, features: pa.Table) -> Any:
            asked.append(1)
            return model.scores(features) if len(asked) < 3 else np.full(features.num_rows, 0.3)

    server._loaded["v3"] = Counting()
    for second in range(60):
        answers = server.predict(rows(1), ["a"], NOW + timedelta(seconds=second))
        assert answers.scores[0] == (0.23 if second < 31 else 0.3)
    assert len(asked) == 2 + 29, "two failures more, a rest of 30 seconds, then each second"


def test_a_fallback_answers_within_20_ms_while_the_breaker_is_open(registry: Registry, tmp_path: Path) -> None:
    broken(registry, tmp_path, "raise")
    server = Server(registry, "loans", 0.23)
    for _ in range(3):
        server.predict(rows(1), ["a"], NOW)
    spent = []
    for _ in range(20):
        begun = time.perf_counter()
        server.predict(rows(1), ["a"], NOW)
        spent.append(time.perf_counter() - begun)
    assert sorted(spent)[10] < 0.020


def test_a_new_route_is_followed_without_a_restart(registry: Registry) -> None:
    server = Server(registry, "loans")
    assert server.predict(rows(1), ["a"], NOW).scores.tolist() == [0.1]
    registry.set_route("loans", Route("v2", "v1"))
    assert server.predict(rows(1), ["a"], NOW).scores.tolist() == [0.2]
