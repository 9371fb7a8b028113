"""The split of a change of performance: published figures, coverage, and that it finds what was put in."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from watchkeeper.stats.decomposition import Losses, split
from watchkeeper.stats.grid import Floats

ALPHA = 0.025


def errors(rows: Floats, wrong: Floats) -> Losses:
    return Losses(np.asarray(rows, float), np.asarray(wrong, float), np.asarray(wrong, float))


def drawn(random: np.random.Generator, n: int, share: Floats, risk: Floats) -> Losses:
    rows = random.multinomial(n, share)
    return errors(rows.astype(float), random.binomial(rows, risk).astype(float))


def test_two_cells_worked_by_hand() -> None:
    found = split(errors([500, 500], [50, 100]), errors([250, 750], [25, 300]), ALPHA)
    assert found.change.value == pytest.approx(0.325 - 0.15)
    assert found.inputs.value == pytest.approx(-0.25 * 0.1 + 0.25 * 0.3)
    assert found.relation.value == pytest.approx(0.2 * 0.625)


@given(st.integers(0, 2**32 - 1))
def test_the_parts_add_up_to_the_change_and_turn_round_with_it(seed: int) -> None:
    random = np.random.default_rng(seed)
    cells = int(random.integers(1, 12))
    sides = [drawn(random, 200, random.dirichlet(np.ones(cells)), random.random(cells)) for _ in range(2)]
    found, back = split(sides[0], sides[1], ALPHA), split(sides[1], sides[0], ALPHA)
    for one in (found, back):
        assert one.inputs.value is not None
        assert one.relation.value is not None
        assert one.inputs.value + one.relation.value == pytest.approx(one.change.value, abs=1e-12)
    assert back.relation.value == pytest.approx(-(found.relation.value or 0.0), abs=1e-12)


def test_rows_of_any_loss_are_summed_by_cell() -> None:
    losses = Losses.of_rows(np.array([0, 2, 2]), np.array([0.5, 0.25, 0.75]), 3)
    assert losses.rows.tolist() == [1, 0, 2]
    assert losses.total.tolist() == [0.5, 0, 1.0]
    assert losses.squares.tolist() == [0.25, 0, 0.625]


def test_a_cell_that_is_new_counts_as_input() -> None:
    found = split(errors([1000, 0], [100, 0]), errors([500, 500], [50, 250]), ALPHA)
    assert found.inputs.value == pytest.approx(found.change.value)
    assert found.relation.value == pytest.approx(0.0)


def test_a_side_without_rows_says_nothing() -> None:
    found = split(errors([0, 0], [0, 0]), errors([5, 5], [1, 1]), ALPHA)
    assert found.change.value is found.inputs.value is found.relation.value is None


WORLDS = [(10, 2000, 500, 0.1), (20, 10_000, 1000, 0.1), (20, 10_000, 1000, 0.01), (10, 500, 200, 0.3)]


@pytest.mark.parametrize(("cells", "n_reference", "n", "base"), WORLDS)
def test_a_change_that_is_not_there_is_not_told(cells: int, n_reference: int, n: int, base: float) -> None:
    random = np.random.default_rng(1)
    share, risk = random.dirichlet(np.full(cells, 3.0)), base * random.uniform(0.2, 2, cells)
    held = np.zeros(3)
    for _ in range(1000):
        found = split(drawn(random, n_reference, share, risk), drawn(random, n, share, risk), ALPHA)
        held += [(one.low or 0) <= 0 <= (one.high or 0) for one in (found.change, found.inputs, found.relation)]
    assert held.min() >= 930


def test_the_intervals_hold_the_true_parts() -> None:
    random = np.random.default_rng(2)
    shares = random.dirichlet(np.full(10, 5.0), 2)
    before = 0.1 * random.uniform(0.5, 2, 10)
    risks = np.stack([before, before * random.uniform(0.8, 1.8, 10)])
    moved = float(((shares[1] - shares[0]) * risks.mean(axis=0)).sum())
    risen = float(((risks[1] - risks[0]) * shares.mean(axis=0)).sum())
    held = np.zeros(3)
    for _ in range(1000):
        found = split(drawn(random, 20_000, shares[0], risks[0]), drawn(random, 3000, shares[1], risks[1]), ALPHA)
        pairs = zip((found.change, found.inputs, found.relation), (moved + risen, moved, risen), strict=True)
        held += [(one.low or 0) <= truth <= (one.high or 0) for one, truth in pairs]
    assert held.min() >= 930


def test_a_relation_that_changed_is_told_from_inputs_that_did() -> None:
    """Of a logistic world: labels flipped in a part of the inputs, and inputs that moved."""
    random = np.random.default_rng(3)

    def world(n: int, centre: float = 0.0, flipped: float = 0.0) -> Losses:
        x = random.normal(centre, 1, n)
        label = random.random(n) < 1 / (1 + np.exp(-2 * x))
        label ^= (x > 0.5) & (random.random(n) < flipped)
        score = 1 / (1 + np.exp(-2 * x))
        return Losses.of_rows(np.minimum((score * 20).astype(np.int64), 19), ((score > 0.5) != label).astype(float), 20)

    reference = world(20_000)
    rules, moved = split(reference, world(5000, flipped=0.2), ALPHA), split(reference, world(5000, centre=1.5), ALPHA)
    assert (rules.relation.low or 0) > 0.02
    assert (rules.inputs.low or 0) <= 0 <= (rules.inputs.high or 0)
    assert (moved.inputs.high or 0) < -0.03
    assert (moved.relation.low or 0) <= 0 <= (moved.relation.high or 0)
