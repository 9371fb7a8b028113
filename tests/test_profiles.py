"""Profiles add up: merged parts are the whole, in any order, to the last byte."""

from __future__ import annotations

import json
import math
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from watchkeeper import profiles
from watchkeeper.profiles import (
    KNOWN,
    OTHER_VALUES,
    STRANGERS,
    Key,
    Profile,
    Subject,
    categorical,
    common,
    cut,
    hashed,
    merge,
    numeric,
)
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


# columns of very many different values


@contextmanager
def little_room() -> Iterator[None]:
    """With a small vocabulary and few strangers."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"KNOWN": 8, "STRANGERS": 12, "ENOUGH": 3, "ROOM": 60, "LONGEST": 10, "HEAD": 4}.items():
            patch.setattr(profiles, name, value)
        patch.setattr(profiles, "TAIL", 5)
        yield


def many_values(seed: int, rows: int = 4000, values: int = 3000) -> list[str | None]:
    """Rows of a column with a few frequent values and very many rare ones, of several lengths, some missing."""
    rng = np.random.default_rng(seed)
    names = [f"{i:x}" * (1 + i % 5) for i in rng.permutation(10 * values)[:values]]
    weights = 1 / np.arange(1, values + 1)
    drawn = rng.choice(values, rows, p=weights / weights.sum())
    return [None if i == 3 else names[i] for i in drawn]


@given(st.integers(0, 10**6), st.integers(2, 30), st.booleans())
@settings(max_examples=25, deadline=None)
def test_parts_of_very_many_values_merge_to_the_whole_in_any_order(seed: int, parts: int, vocabulary: bool) -> None:
    with little_room():
        rows, rng = many_values(seed, 1500, 1000), np.random.default_rng(seed)
        known = profile_of(many_values(seed), known=None).words if vocabulary else ()
        at = rng.integers(0, parts, len(rows))
        pieces = [profile_of([r for r, a in zip(rows, at, strict=True) if a == i], known=known) for i in range(parts)]
        whole = profile_of(rows, known=known)
        while len(pieces) > 1:  # as a tree of random shape
            taken = [pieces.pop(int(rng.integers(len(pieces)))) for _ in range(min(len(pieces), 2 + seed % 3))]
            merged = merge(taken)
            assert merged is not None
            pieces.append(Profile.from_bytes(merged.to_bytes()))
    assert pieces[0].to_bytes() == whole.to_bytes()
    assert whole.others
    assert whole.n == len(rows)


@given(st.integers(0, 10**6))
@settings(max_examples=20, deadline=None)
def test_each_value_that_is_kept_is_counted_exactly(seed: int) -> None:
    with little_room():
        rows = [many_values(seed + i, 1500, 800) for i in range(3)]
        sides = [profile_of(own, known=None if i < 2 else ()) for i, own in enumerate(rows)]
        merged = merge(sides)
        backwards = merge(sides[::-1])
        truth = Counter(cut(v) for own in rows for v in own if v is not None)
        values, counts = common(sides[:2])
        truths = [Counter(cut(v) for v in own if v is not None) for own in rows]
    assert merged is not None
    assert backwards is not None
    assert merged.to_bytes() == backwards.to_bytes()
    assert merged.n == sum(map(len, rows))
    assert merged.by_value == {value: truth[value] for value in merged.values}
    assert merged.known <= 8
    for own, exact in zip(counts, truths, strict=False):
        assert own.sum() == sum(exact.values())
        assert own[:-1].tolist() == [exact[value] for value in values[:-1]]
    assert values[-1] == OTHER_VALUES


def test_a_vocabulary_is_all_values_or_the_most_frequent_ones() -> None:
    few = {"b": 1, "a": 2}
    assert categorical(few, known=None).words == ("a", "b")
    many = {f"{i:04}": 1 + i for i in range(2000)}
    found = categorical(many, known=None)
    assert (found.known, len(found.values)) == (KNOWN, KNOWN + STRANGERS)
    assert found.words == tuple(f"{i:04}" for i in range(1500, 2000))
    rest = sorted(many.keys() - {*found.words}, key=hashed)
    assert found.values[KNOWN:] == tuple(sorted(rest[:STRANGERS]))
    assert found.limit == hashed(rest[STRANGERS])
    assert found.others == sum(many[value] for value in rest[STRANGERS:])
    rare = categorical(dict.fromkeys(many, 1), known=None)
    assert rare.known == 0  # which of them occurred twice would be chance


def test_values_of_a_vocabulary_are_counted_however_many_strangers_come() -> None:
    before = categorical({"a": 50, "b": 50, "gone": 50}, known=None)
    now = categorical({"a": 5, "b": 6, **{f"{i}": 1 for i in range(5000)}}, known=before.words)
    sides = Subject(now, before, None, 0.5, 1, 1, {}, {}).sides
    assert sides is not None
    cells = dict(zip(sides.values, zip(sides.current.tolist(), sides.baseline.tolist(), strict=True), strict=True))
    assert (cells["a"], cells["b"], cells["gone"]) == ((5, 50), (6, 50), (0, 50))
    assert cells[OTHER_VALUES] == (now.others, 0)
    assert (len(now.values), now.others) == (2 + STRANGERS, 5000 - STRANGERS)


ALPHABETS = {
    "letters": "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789",
    "ideographs": "".join(map(chr, range(0x4E00, 0x9000))),
    "controls": "".join(map(chr, range(1, 32))),
    "quotes and accents": '"\\' + "".join(map(chr, range(0x20, 0x250))),
}


@pytest.mark.parametrize("alphabet", ALPHABETS)
@pytest.mark.parametrize("length", [1, 5, 12, 20, 100, 10_000])
def test_a_profile_takes_less_than_20_kb_whatever_the_values(alphabet: str, length: int) -> None:
    rng, signs = np.random.default_rng(length), list(ALPHABETS[alphabet])
    values = {"".join(rng.choice(signs, length)): int(rng.integers(20, 10**7)) for _ in range(60 + 20_000 // length)}
    first, second = categorical(values, known=None), categorical(values)
    assert len(first.to_bytes()) < 20_000
    both = merge([first, second])
    assert both is not None
    assert len(both.to_bytes()) < 20_000
    assert sum(values.values()) == first.n == second.n


def test_a_profile_of_a_million_values_is_small() -> None:
    found = categorical({f"{i:07}": 1 for i in range(1_000_000)}, known=None)
    assert found.n == 1_000_000
    assert len(found.to_bytes()) < 5_000
    assert len(categorical({f"value {i}": 1000 + i for i in range(40)}).to_bytes()) < 500


def test_very_long_values_keep_their_beginning_and_stay_apart() -> None:
    one, two = "x" * 10_000 + "a", "x" * 10_000 + "b"
    found = categorical({one: 3, two: 4, "short": 1})
    assert sorted(found.counts.tolist()) == [1, 3, 4]
    assert all(len(value) <= 100 for value in found.values)
    assert {value[:80] for value in found.values} == {"x" * 80, "short"}
    assert cut(cut(one)) == cut(one)
    assert categorical({one: 3}, known=(one,)).words == (cut(one),)


# k-anonymity


def test_values_of_few_rows_are_not_named() -> None:
    first = categorical({"a": 9, "b": 5, "c": 4}, known=None, named_from=5)
    assert (first.by_value, first.others, first.n) == ({"a": 9, "b": 5}, 4, 18)
    later = categorical({"a": 1, "c": 100, "d": 2}, known=first.words, named_from=5)
    assert (later.by_value, later.others) == ({"a": 1}, 102)


@given(words, splits, st.integers(1, 6))
def test_parts_that_name_no_strangers_add_up_to_the_whole(values: list, where: list[int], least: int) -> None:
    counts = Counter(v for v in values if v is not None)
    vocabulary = categorical(counts, known=None, named_from=least).words
    assert all(counts[value] >= least for value in vocabulary)
    parts = [
        categorical(Counter(v for v in piece if v is not None), piece.count(None), vocabulary, named_from=least)
        for piece in pieces(values, where)
    ]
    whole = categorical(counts, values[:60].count(None), vocabulary, named_from=least)
    merged = merge(parts)
    assert merged is not None
    assert merged.to_bytes() == whole.to_bytes()
    assert set(merged.values) <= set(vocabulary)


def test_a_vocabulary_without_rare_values_still_tells_how_many_rows_are_new() -> None:
    before = categorical({"a": 50, "b": 50}, known=None, named_from=5)
    now = categorical({"a": 40, "b": 40, "new": 20}, known=before.words, named_from=5)
    cells, (current, baseline) = common([now, before])
    assert cells == ("a", "b", OTHER_VALUES)
    assert (current.tolist(), baseline.tolist()) == ([40, 40, 20], [50, 50, 0])
