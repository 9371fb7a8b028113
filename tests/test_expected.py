"""Expected counts become ways of estimating: what is taken from them, the band of a sample, and what is told."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from watchkeeper import monitors
from watchkeeper.metrics import find
from watchkeeper.metrics.expected import ABSOLUTE, EFFECTIVE, FEATURES, LABELS, STRANGE, UNIT, WAS, WEIGHTED, ways
from watchkeeper.profiles import Profile, Subject, merge, numeric
from watchkeeper.schema import Task
from watchkeeper.stats.grid import Floats, Grid

GRID, ALPHA = Grid.unit(), monitors.SHOWN


def profile(scores: Floats, parts: Floats) -> Profile:
    bins, where = np.unique(GRID.bins(scores), return_inverse=True)
    counts = np.round(np.bincount(where, parts) * UNIT).astype(int)
    return numeric(GRID, dict(zip(bins.tolist(), counts.tolist(), strict=True)), None, None)


def by_label(scores: Floats, shares: Floats) -> dict[str, Profile]:
    return dict(zip(LABELS, (profile(scores, 1 - shares), profile(scores, shares)), strict=True))


def whole(profiles: dict[str, Profile]) -> dict[str, Profile]:
    """The same in whole rows."""
    return {label: replace(p, counts=p.counts // UNIT) for label, p in profiles.items()}


def subject(scores: Floats, reference: tuple[Floats, Floats], beside: dict[str, Subject]) -> Subject:
    current = whole({"": profile(scores, np.ones(len(scores)))})[""]
    known = whole(by_label(reference[0], reference[1]))
    return Subject(current, merge(known.values()), GRID, 0.5, 1, 0, {}, known, beside=beside)


def expects(scores: Floats, shares: Floats, reference: dict[str, Profile] | None = None, **told: int) -> Subject:
    """What is beside the score: expected counts of sampled rows, and of the reference."""
    labelled = by_label(scores, shares) | {
        name: numeric(GRID, {0: rows * UNIT}, None, None) for name, rows in told.items()
    }
    return Subject(None, None, GRID, 0.5, 1, 0, labelled, reference or {})


def world(n: int, young: float, rng: np.random.Generator) -> tuple[Floats, Floats, Floats]:
    """Scores that are too high for the young; the chances, and the labels."""
    scores = rng.uniform(0.05, 0.95, n)
    chance = np.where(rng.random(n) < young, scores / 2, scores)
    return scores, chance, (rng.random(n) < chance) * 1.0


def test_of_known_chances_the_estimate_is_that_of_the_expected_counts() -> None:
    rng = np.random.default_rng(0)
    before, now = world(5000, 0.3, rng), world(4000, 0.8, rng)
    known = {**by_label(*before[:2]), **{f"{WAS}{k}": p for k, p in by_label(before[0], before[1]).items()}}
    beside = {FEATURES: expects(*now[:2], known, strange=40, effective=1000)}
    found = find("estimated_accuracy").compute(subject(now[0], (before[0], before[2]), beside), ALPHA)
    bins = np.floor(now[0] * 1000 + 1e-9) / 1000
    assert found.value == pytest.approx(float(np.where(bins >= 0.5, now[1], 1 - now[1]).mean()), abs=1e-4)
    assert found.detail["from"] == "features"
    assert found.detail[STRANGE] == pytest.approx(0.01, abs=1e-5)
    assert found.detail[EFFECTIVE] == pytest.approx(0.25, abs=1e-4)


def test_what_the_trees_were_off_by_on_the_reference_is_taken_off() -> None:
    rng = np.random.default_rng(1)
    scores, chance, labels = world(5000, 0.3, rng)
    flattering = np.where(scores >= 0.5, np.minimum(chance + 0.1, 1), chance)
    known = {**by_label(scores, flattering), **{f"{WAS}{k}": p for k, p in by_label(scores, labels).items()}}
    about = subject(scores, (scores, labels), {FEATURES: expects(scores, flattering, known)})
    realised = find("accuracy").compute(replace(about, labelled=whole(by_label(scores, labels))), ALPHA)
    assert find("estimated_accuracy").compute(about, ALPHA).value == pytest.approx(realised.value, abs=1e-6)


def test_a_relative_limit_compares_with_what_was_realised_of_the_reference() -> None:
    rng = np.random.default_rng(5)
    scores, chance, labels = world(5000, 0.3, rng)
    now = world(3000, 0.8, rng)
    known = {**by_label(scores, chance), **{f"{WAS}{k}": p for k, p in by_label(scores, labels).items()}}
    about = subject(now[0], (scores, labels), {FEATURES: expects(*now[:2], known)})
    realised = find("accuracy").compute(replace(about, labelled=whole(by_label(scores, labels))), ALPHA)
    assert find("estimated_accuracy").compute(about.of_baseline, ALPHA).value == pytest.approx(realised.value, abs=1e-4)


def losses_of(now: Floats, fitted: Floats, was: Floats) -> Subject:
    """A regression whose trees expect these absolute errors of the rows, and these of the reference."""
    grid = Grid.fit(np.concatenate([now, fitted, was]))

    def profile(errors: Floats) -> Profile:
        bins, counts = np.unique(grid.bins(errors), return_counts=True)
        return numeric(grid, dict(zip(bins.tolist(), counts.tolist(), strict=True)), None, None)

    asked = Subject(profile(now), profile(fitted), grid, 0.5, 1, 0, {}, {WAS: profile(was)})
    return Subject(profile(now), None, grid, 0.5, 1, 0, {}, {}, beside={ABSOLUTE: asked})


def test_errors_are_those_of_the_trees_less_what_they_were_off_by_and_of_the_reference_those_that_were() -> None:
    rng = np.random.default_rng(6)
    fitted = rng.uniform(1, 3, 4000)
    about = losses_of(rng.uniform(2, 4, 2000), fitted, fitted + 0.5)
    assert find("estimated_mae", Task.REGRESSION).compute(about, ALPHA).value == pytest.approx(3.5, abs=0.05)
    before = find("estimated_mae", Task.REGRESSION).compute(about.of_baseline, ALPHA)
    assert before.value == pytest.approx(2.5, abs=0.05)
    nothing = find("estimated_mae", Task.REGRESSION).compute(replace(about, beside={}), ALPHA)
    assert nothing.value is None


def test_weights_count_where_enough_of_the_reference_is_left() -> None:
    rng = np.random.default_rng(2)
    before, now = world(3000, 0.3, rng), world(3000, 0.8, rng)
    weighted = expects(now[0], now[0] * 0.6)
    for effective, way in ((2000, "features and weights"), (300, "features")):
        beside = {FEATURES: expects(*now[:2], effective=effective), WEIGHTED: weighted}
        about = subject(now[0], (before[0], before[2]), beside)
        found = find("estimated_accuracy").compute(about, ALPHA)
        assert found.detail["from"] == way
        assert ("spread" in found.detail) == (way != "features")
        known, _, sampled = ways(about, about.binned)
        assert (len(known), sampled) == (1 + (effective == 2000), pytest.approx(1.0))


def test_without_expected_counts_there_is_no_way() -> None:
    rng = np.random.default_rng(3)
    before, now = world(3000, 0.3, rng), world(3000, 0.3, rng)
    about = subject(now[0], (before[0], before[2]), {})
    assert ways(about, about.binned) == ([], {}, 1.0)
    assert "from" not in find("estimated_accuracy").compute(about, ALPHA).detail


@pytest.mark.parametrize("metric", ["accuracy", "f1", "auc"])
def test_the_band_of_a_sample_holds_the_realised_value(metric: str) -> None:
    rng, held, runs = np.random.default_rng(4), 0, 200
    reference = world(20_000, 0.3, rng)
    for _ in range(runs):
        scores, chance, labels = world(4000, 0.8, rng)
        beside = {FEATURES: expects(scores[:800], chance[:800])}
        about = subject(scores, (reference[0], reference[2]), beside)
        found = find(f"estimated_{metric}").compute(about, ALPHA)
        realised = find(metric).compute(replace(about, labelled=whole(by_label(scores, labels))), ALPHA).value
        assert realised is not None
        held += (found.low or 0) <= realised <= (found.high or 0)
    assert held / runs >= 0.93
