"""The default monitor of concept drift: how often it breaches without a change, and how soon with one."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest

from watchkeeper.metrics.concept import concept_drift, parts_of_change
from watchkeeper.profiles import Profile, Subject, merge, numeric
from watchkeeper.stats.grid import Grid
from watchkeeper.windows import DAY

START = datetime(2024, 1, 1, tzinfo=UTC)
UNIT = Grid.unit()
LIMIT = 1.1
Sides = dict[str, Profile]


def labelled(random: np.random.Generator, rows: int, tilt: float = 0.0, flipped: float = 0.0) -> Sides:
    """Scores of a calibrated model, moved by `tilt` on the logit scale; a share of the labels turned."""
    logits = random.normal(-1.5 + tilt, 1.5, rows)
    score = 1 / (1 + np.exp(-logits))
    label = (random.random(rows) < score) ^ (random.random(rows) < flipped)
    bins = UNIT.bins(score)
    return {
        str(int(of)): numeric(UNIT, dict(zip(*np.unique(bins[label == of], return_counts=True), strict=True)), 0, 1)
        for of in (False, True)
    }


def together(sides: list[Sides]) -> Sides:
    return {label: whole for label in ("0", "1") if (whole := merge(s[label] for s in sides)) is not None}


def subject(reference: Sides, days: list[Sides], window: int = 7) -> Subject:
    now = together(days[-window:])
    dated = tuple((START + i * DAY, sides) for i, sides in enumerate(days))
    return Subject(
        merge(now.values()), merge(reference.values()), UNIT, 0.5, window, 0, now, reference, labelled_parts=dated,
    )  # fmt: skip


def breaches(reference: Sides, days: list[Sides], alpha: float) -> list[int]:
    """The days whose look finds the limit breached, from the seventh on."""
    found = []
    for end in range(7, len(days) + 1):
        low = concept_drift(subject(reference, days[:end]), alpha).low
        assert low is not None
        if low > LIMIT:
            found.append(end)
    return found


@pytest.mark.parametrize("tilt", [0.0, 1.0], ids=["unchanged", "inputs moved"])
def test_a_relation_that_holds_is_left_alone(tilt: float) -> None:
    """Each world has its own reference, so that its error counts. Inputs that moved bring more errors, as expected."""
    random, alpha, looks, found = np.random.default_rng(1), 0.02, 0, 0
    for _ in range(8):
        reference = labelled(random, 3000)
        days = [labelled(random, 100, tilt) for _ in range(50)]
        found += len(breaches(reference, days, alpha))
        looks += 44
    assert found <= alpha * looks


def test_a_relation_that_changed_is_found_and_dated() -> None:
    random = np.random.default_rng(2)
    held, delays = [], []
    for _ in range(20):
        reference = labelled(random, 5000)
        days = [labelled(random, 500, flipped=0.15 if day >= 30 else 0.0) for day in range(45)]
        found = breaches(reference, days[:30], 1e-4)
        assert not found
        for end in range(31, 46):
            estimate = concept_drift(subject(reference, days[:end]), 1e-4)
            if (estimate.low or 0) > LIMIT:
                delays.append(end - 30)
                early, late = (datetime.fromisoformat(estimate.detail[f"began_{s}"]) for s in ("earliest", "latest"))
                held.append(early <= START + 30 * DAY <= late)
                break
    assert len(delays) == 20
    assert np.mean(delays) <= 8
    assert np.mean(held) >= 0.93


def test_the_parts_tell_rules_that_moved_from_a_world_that_did() -> None:
    random = np.random.default_rng(3)
    reference = labelled(random, 20_000)
    rules = parts_of_change("accuracy", subject(reference, [labelled(random, 5000, flipped=0.1)]))
    world = parts_of_change("log_loss", subject(reference, [labelled(random, 5000, tilt=1.0)]))
    assert rules is not None
    assert world is not None
    assert rules["relation"]["low"] > 0.02
    assert rules["inputs"]["low"] <= 0 <= rules["inputs"]["high"]
    assert world["inputs"]["low"] > 0.02
    assert world["relation"]["low"] <= 0 <= world["relation"]["high"]
    assert (rules["of"], world["of"]) == ("errors", "log_loss")


def test_without_a_run_of_grains_there_is_a_value_and_nothing_to_judge() -> None:
    random = np.random.default_rng(4)
    alone = replace(subject(labelled(random, 2000), [labelled(random, 500)]), labelled_parts=())
    estimate = concept_drift(alone, 0.01)
    assert estimate.value is not None
    assert estimate.low is None
    assert estimate.high is not None


def test_the_value_is_the_errors_over_those_of_the_reference_at_such_scores() -> None:
    """Two scores: 10 of 100 wrong at 0.2 and 30 of 100 at 0.8. Of 100 and 300 rows, 10 + 90 errors are expected."""

    def sides(below: tuple[int, int], above: tuple[int, int]) -> Sides:
        low, high = (int(UNIT.bins(np.array([score]))[0]) for score in (0.2, 0.8))
        negatives, positives = {low: below[0], high: above[0]}, {low: below[1], high: above[1]}
        return {"0": numeric(UNIT, negatives, 0, 1), "1": numeric(UNIT, positives, 0, 1)}

    estimate = concept_drift(subject(sides((90, 10), (30, 70)), [sides((80, 20), (160, 140))]), 0.01)
    assert estimate.value == pytest.approx((20 + 160) / (10 + 90), rel=0.01)
    assert estimate.detail["expected"] == pytest.approx(100 / 400, rel=0.01)
    assert (estimate.n, estimate.n_baseline) == (400, 200)
