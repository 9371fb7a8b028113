"""Profiles add up: merged parts are the whole, in any order, to the last byte."""

from __future__ import annotations

import json
import math
import zlib
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from watchkeeper.profiles import Key, Profile, Subject, categorical, merge, numeric
from watchkeeper.records import ALL
from watchkeeper.schema import Kind
from watchkeeper.stats.grid import NAN, NULL, SENTINEL, Grid
from watchkeeper.testing import profile_of

GRID = Grid.fit(np.linspace(-1, 1, 500))
numbers = st.lists(st.one_of(st.none(), st.floats(), st.sampled_from([-999.0, 0.0, -0.0, 1.0])), max_size=60)
words = st.lists(st.one_of(st.none(), st.text(max_size=3)), max_size=60)
splits = st.lists(st.integers(0, 4), min_size=60, max_size=60)


def pieces(values: list, where: list[int]) -> list[list]:
    return [[v for v, at in zip(values, where, strict=False) if at == part] for part in range(5)]


@given(numbers, splits, st.randoms(use_true_random=False))
def test_numeric_parts_merge_to_the_whole_in_any_order(values: list, where: list[int], random) -> None:
    parts = [profile_of(piece, GRID) for piece in pieces(values, where)]
    random.shuffle(parts)
    whole = profile_of(values, GRID)
    merged = merge(parts)
    assert merged is not None
    assert merged.to_bytes() == whole.to_bytes()
    assert merged.n == len(values)


@given(words, splits, st.randoms(use_true_random=False))
def test_categorical_parts_merge_to_the_whole_in_any_order(values: list, where: list[int], random) -> None:
    parts = [profile_of(piece) for piece in pieces(values, where)]
    random.shuffle(parts)
    merged = merge(parts)
    assert merged is not None
    assert merged.to_bytes() == profile_of(values).to_bytes()
    assert merged.n == len(values)


@given(numbers)
def test_a_numeric_profile_survives_its_bytes(values: list) -> None:
    profile = profile_of(values, GRID)
    back = Profile.from_bytes(profile.to_bytes())
    assert back.to_bytes() == profile.to_bytes()
    assert back.bins.tolist() == profile.bins.tolist()
    assert back.counts.tolist() == profile.counts.tolist()
    assert (back.grid, back.low, back.high, back.kind) == (GRID.name, profile.low, profile.high, Kind.NUMERIC)


@given(words)
def test_a_categorical_profile_survives_its_bytes(values: list) -> None:
    profile = profile_of(values)
    back = Profile.from_bytes(profile.to_bytes())
    assert back.by_value == profile.by_value
    assert (back.nulls, back.kind) == (profile.nulls, Kind.CATEGORICAL)


def test_bytes_of_another_format_are_refused() -> None:
    body = json.loads(zlib.decompress(profile_of(["a"]).to_bytes()))
    alien = zlib.compress(json.dumps({**body, "format": 99}).encode())
    with pytest.raises(ValueError, match="format 99"):
        Profile.from_bytes(alien)


def test_merging_nothing_gives_nothing_and_one_gives_itself() -> None:
    assert merge([]) is None
    one = profile_of([1.0], GRID)
    assert merge([one]) is one


def test_profiles_on_different_grids_do_not_mix() -> None:
    with pytest.raises(ValueError, match="different grids do not mix"):
        merge([profile_of([0.5], GRID), profile_of([0.5], Grid.unit())])
    with pytest.raises(ValueError, match="different grids do not mix"):
        merge([profile_of([0.5], GRID), profile_of(["a"])])


def test_missing_infinite_and_sentinel_values_are_off_the_grid() -> None:
    profile = profile_of([None, math.nan, math.inf, -math.inf, -999.0, 0.5, 0.5], GRID)
    bins, counts = profile.regular
    assert counts.tolist() == [2]
    assert len(bins) == 1
    assert profile.special(NULL, NAN) == 2
    assert profile.sentinels(GRID) == {-999.0: 1}
    assert (profile.bins >= SENTINEL).sum() == 1
    assert profile.n == 7
    assert profile.low == -999.0


def test_a_count_of_zero_leaves_no_trace() -> None:
    assert categorical({"a": 1, "b": 0}).to_bytes() == categorical({"a": 1}).to_bytes()
    assert numeric(GRID, {3: 1, 4: 0}, 0.0, 0.0).to_bytes() == numeric(GRID, {3: 1}, -0.0, -0.0).to_bytes()


def test_the_mean_is_within_half_a_bin_of_the_exact_one() -> None:
    values = np.random.default_rng(1).normal(3, 2, 5000)
    grid = Grid.fit(values)
    profile = profile_of(values.tolist(), grid)
    assert profile.mean(grid) == pytest.approx(values.mean(), abs=0.02)


def test_the_mean_of_a_discrete_column_is_exact() -> None:
    values = [0.0, 1.0, 1.0, 5.0] * 50
    grid = Grid.fit(np.array(values))
    assert profile_of(values, grid).mean(grid) == pytest.approx(1.75)


def test_there_is_no_mean_without_a_regular_value() -> None:
    assert profile_of([None, math.nan, math.inf], GRID).mean(GRID) is None


def test_a_key_names_its_profile_by_all_its_parts() -> None:
    key = Key("m", "1", ALL, "x", ALL, datetime(2020, 1, 1, tzinfo=UTC))
    others = [
        Key("n", "1", ALL, "x", ALL, key.start),
        Key("m", "2", ALL, "x", ALL, key.start),
        Key("m", "1", "s", "x", ALL, key.start),
        Key("m", "1", ALL, "y", ALL, key.start),
        Key("m", "1", ALL, "x", "1", key.start),
        Key("m", "1", "", "x", "", None),
    ]
    assert len({key.id, *(other.id for other in others)}) == 7
    assert Key("m", "1", "", "x", "", None).start is None


def test_a_subject_counts_missing_sides_as_no_rows() -> None:
    nothing = Subject(None, None, GRID, 0.5, 1, 1, {}, {})
    assert (nothing.n, nothing.n_baseline, nothing.scores.n) == (0, 0, 0)
    assert Subject(None, None, None, 0.5, 1, 1, {}, {}).scores.n == 0


def test_the_baseline_takes_the_place_of_the_current_data() -> None:
    grid = Grid.unit()
    one, two = profile_of([0.1], grid), profile_of([0.9, 0.8], grid)
    subject = Subject(one, two, grid, 0.3, 1, 7, {"0": one}, {"1": two})
    turned = subject.of_baseline
    assert turned.current is two
    assert turned.baseline is None
    assert (turned.grains, turned.threshold) == (7, 0.3)
    assert turned.labelled == {"1": two}


def test_scores_line_up_over_the_bins_of_both_labels() -> None:
    grid = Grid.unit(10)
    labelled = {"0": profile_of([0.05, 0.15, None], grid), "1": profile_of([0.15, 0.95, 1.0], grid)}
    scores = Subject(None, None, grid, 0.5, 1, 1, labelled, {}).scores
    assert scores.negatives.tolist() == [1, 1, 0, 0]
    assert scores.positives.tolist() == [0, 1, 1, 1]
    assert scores.lower.tolist() == pytest.approx([0.0, 0.1, 0.9, 1.0])
    assert scores.n == 5


def test_both_sides_are_laid_out_over_the_same_cells() -> None:
    now, before = categorical({"b": 2, "c": 3}, nulls=1), categorical({"a": 5, "b": 7})
    sides = Subject(now, before, None, 0.5, 1, 1, {}, {}).sides
    assert sides is not None
    assert (sides.values, sides.ordered) == (("a", "b", "c"), False)
    assert (sides.current.tolist(), sides.baseline.tolist()) == ([0, 2, 3], [5, 7, 0])


def test_sides_are_none_where_one_has_no_values_or_another_grid() -> None:
    some, empty = categorical({"a": 1}), categorical({}, nulls=3)
    for now, before in ((some, None), (None, some), (some, empty), (empty, some)):
        assert Subject(now, before, None, 0.5, 1, 1, {}, {}).sides is None
    one, two = (numeric(Grid.unit(bins), {3: 10}, 0.1, 0.9) for bins in (10, 20))
    assert Subject(one, two, Grid.unit(10), 0.5, 1, 1, {}, {}).sides is None
    assert Subject(one, one, None, 0.5, 1, 1, {}, {}).sides is None
    laid = Subject(one, one, Grid.unit(10), 0.5, 1, 1, {}, {}).sides
    assert laid is not None
    assert (laid.bins.tolist(), laid.ordered) == ([3], True)
