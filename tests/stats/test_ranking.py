"""Metrics of a ranking are scikit-learn's, hand-worked ones, and means over all orders of ties."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, ndcg_score

from misses import hold, missed, seeded
from watchkeeper.stats import ranking
from watchkeeper.stats.estimates import Estimate
from watchkeeper.stats.grid import Floats
from watchkeeper.stats.ranking import PerQuery, Ranking

AT_K: dict[str, Callable[[Ranking, int], PerQuery]] = {
    "ndcg": ranking.ndcg,
    "average_precision": ranking.average_precision,
    "reciprocal_rank": ranking.reciprocal_rank,
    "hit_rate": ranking.hit_rate,
    "precision": ranking.precision,
    "recall": ranking.recall,
}
tables = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 3), st.sampled_from([0.0, 0.0, 1.0, 2.0])), min_size=1, max_size=16
)


def ranked(rows: list[tuple[int, int, float]]) -> Ranking:
    query, score, relevance = (np.array(side) for side in zip(*rows, strict=True))
    return Ranking.of(query, score * 1.0, relevance * 1.0)


def by_definition(name: str, relevance: Floats, k: int) -> float:
    """One query's metric in the order given."""
    hit = relevance > 0
    first = hit[:k]
    match name:
        case "ndcg":
            discount = 1 / np.log2(np.arange(len(hit)) + 2) * (np.arange(len(hit)) < k)
            return float(relevance @ discount / (np.sort(relevance)[::-1] @ discount))
        case "average_precision":
            gained = np.cumsum(first) / (np.arange(len(first)) + 1)
            return float((gained * first).sum() / min(hit.sum(), k))
        case "reciprocal_rank":
            return float(1 / (np.argmax(first) + 1)) if first.any() else 0.0
        case "hit_rate":
            return float(first.any())
        case "precision":
            return float(first.sum() / k)
        case _:
            return float(first.sum() / hit.sum())


def over_orders(name: str, scores: Floats, relevance: Floats, k: int) -> float:
    """The mean over all orders of rows with equal scores."""
    orders = [np.array(order) for order in permutations(range(len(scores)))]
    falling = [relevance[order] for order in orders if (np.diff(scores[order]) <= 0).all()]
    return float(np.mean([by_definition(name, of, k) for of in falling]))


@given(tables, st.integers(1, 6))
def test_ndcg_is_scikit_learns(rows: list[tuple[int, int, float]], k: int) -> None:
    found = ranking.ndcg(ranked(rows), k)
    for query, value in zip(found.queries, found.values, strict=True):
        own = [row for row in rows if row[0] == query]
        if len(own) > 1:
            said, relevance = ([[row[i] for row in own]] for i in (1, 2))
            assert value == pytest.approx(ndcg_score(relevance, said, k=k), abs=1e-12)
    whole = ranking.ndcg(ranked(rows))
    assert whole.without == len({row[0] for row in rows}) - len(whole.queries)


@pytest.mark.parametrize("name", AT_K)
@given(
    st.lists(st.tuples(st.integers(0, 2), st.sampled_from([0.0, 1.0, 2.0])), min_size=1, max_size=5), st.integers(1, 6)
)
def test_a_metric_is_the_mean_over_the_orders_of_ties(name: str, rows: list[tuple[int, float]], k: int) -> None:
    score, relevance = (np.array(side) * 1.0 for side in zip(*rows, strict=True))
    other = np.zeros(3)
    found = AT_K[name](
        Ranking.of(
            np.concatenate([other, other[:1] - 1, np.ones(len(score))]),
            np.concatenate([[3.0, 2.0, 1.0], [1.0], score]),
            np.concatenate([[0.0, 0.0, 1.0], [1.0], relevance]),
        ),
        k,
    )
    if relevance.any() or name in ("reciprocal_rank", "hit_rate", "precision"):
        assert found.queries.tolist() == [-1, 0, 1]
        assert found.values[-1] == pytest.approx(over_orders(name, score, relevance, k), abs=1e-12)
    else:
        assert found.queries.tolist() == [-1, 0]
        assert found.without == 1
    assert found.values[1] == pytest.approx(by_definition(name, np.array([0.0, 0.0, 1.0]), k))


def test_hand_worked_queries() -> None:
    """Two queries: relevant at ranks 1, 3 of four, and at rank 2 of three."""
    some = ranked([(1, 9, 1), (1, 7, 0), (1, 5, 1), (1, 3, 0), (2, 9, 0), (2, 8, 1), (2, 1, 0)])
    assert ranking.average_precision(some).values == pytest.approx([(1 + 2 / 3) / 2, 1 / 2])
    assert ranking.average_precision(some, 2).values == pytest.approx([1 / 2, 1 / 2])
    assert ranking.reciprocal_rank(some).values == pytest.approx([1, 1 / 2])
    assert ranking.reciprocal_rank(some, 1).values == pytest.approx([1, 0])
    assert ranking.hit_rate(some, 1).values == pytest.approx([1, 0])
    assert ranking.precision(some, 2).values == pytest.approx([1 / 2, 1 / 2])
    assert ranking.precision(some, 10).values == pytest.approx([2 / 10, 1 / 10])
    assert ranking.recall(some, 2).values == pytest.approx([1 / 2, 1])
    assert ranking.click_through_rate(some, 3, 0.05).value == pytest.approx(3 / 6)
    assert ranking.click_through_rate(some, 10, 0.05).value == pytest.approx(3 / 7)


@pytest.mark.parametrize("seed", range(3))
def test_average_precision_without_ties_is_scikit_learns(seed: int) -> None:
    rng = np.random.default_rng(seed)
    query, score = rng.integers(0, 30, 1000), rng.permutation(1000) * 1.0
    relevance = (rng.random(1000) < 0.2) * 1.0
    found = ranking.average_precision(Ranking.of(query, score, relevance))
    expected = [average_precision_score(relevance[query == q], score[query == q]) for q in found.queries]
    assert found.values == pytest.approx(expected, abs=1e-12)


def test_queries_may_be_named_and_stand_in_any_order() -> None:
    rng = np.random.default_rng(4)
    query, score = rng.choice(["pear", "fig", "apple"], 60), rng.integers(0, 9, 60) * 1.0
    relevance, order = rng.integers(0, 3, 60) * 1.0, rng.permutation(60)
    for metric in AT_K.values():
        one = metric(Ranking.of(query, score, relevance), 5)
        two = metric(Ranking.of(query[order], score[order], relevance[order]), 5)
        assert one.queries.tolist() == two.queries.tolist() == ["apple", "fig", "pear"]
        assert one.values == pytest.approx(two.values, abs=1e-12)


def test_no_rows_have_no_metric() -> None:
    none = Ranking.of(np.zeros(0), np.zeros(0), np.zeros(0))
    for metric in AT_K.values():
        assert ranking.mean(metric(none, 3), 0.05) == Estimate.absent(0)
    assert ranking.click_through_rate(none, 3, 0.05) == Estimate.absent(0)


@pytest.mark.parametrize(
    ("scores", "relevance", "message"),
    [
        ([1.0], [1.0, 0.0], "found 2 queries, 1 scores and 2 relevances"),
        ([1.0, np.nan], [1.0, 0.0], "has no rank; leave such rows out"),
        ([1.0, 2.0], [1.0, -1.0], "zero or above"),
        ([1.0, 2.0], [1.0, np.inf], "zero or above"),
    ],
)
def test_rows_that_cannot_be_ranked_are_an_error(scores: list[float], relevance: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Ranking.of(np.zeros(2), np.array(scores), np.array(relevance))


def test_the_first_none_is_an_error() -> None:
    with pytest.raises(ValueError, match="1 or more; found 0"):
        ranking.hit_rate(ranked([(1, 1, 1)]), 0)


def test_queries_without_a_relevant_row_are_told_of() -> None:
    found = ranking.mean(ranking.recall(ranked([(1, 1, 1), (2, 1, 0), (3, 1, 0)]), 5), 0.05)
    assert (found.value, found.n, found.detail["queries without a value"]) == (1.0, 1, 2)
    assert ranking.mean(ranking.reciprocal_rank(ranked([(1, 1, 1), (2, 1, 0)])), 0.05).value == 0.5


def clicked(rng: np.random.Generator, queries: int, base: float) -> Ranking:
    """Queries of 3 to 7 rows, in some of which (`base`) one to three are relevant, the higher the likelier."""
    sizes = rng.integers(3, 8, queries)
    query = np.repeat(np.arange(queries), sizes)
    place = np.arange(len(query)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    has = (rng.random(queries) < base)[query]
    return Ranking.of(query, -place.astype(float), (has & (rng.random(len(query)) < 0.6 / (1 + place))) * 1.0)


@pytest.mark.parametrize("base", [0.001, 0.05, 0.5])
@pytest.mark.parametrize("n", [100, 1000, 100_000])
def test_means_over_queries_miss_no_more_often_than_alpha(n: int, base: float) -> None:
    rng, reps = seeded("ranking", n, base), 15 if n == 100_000 else 200
    world = clicked(rng, 100_000, base)
    values = {name: metric(world, 3) for name, metric in AT_K.items()}
    clicks, shown = values["precision"].values * 3, np.minimum(world.sizes, 3) * 1.0
    of_clicks = float(clicks.sum() / shown.sum())
    tally = {(name, alpha): np.zeros(2) for name in [*AT_K, "CTR"] for alpha in (0.025, 1e-3)}
    for _ in range(reps):
        at = rng.integers(0, 100_000, n)
        drawn = {}
        for name, found in values.items():
            every = np.full(100_000, np.nan)
            every[found.queries] = found.values
            some = every[at][~np.isnan(every[at])]
            drawn[name] = PerQuery(some, some, 0)
        for name, alpha in tally:
            if name == "CTR":
                tally[name, alpha] += missed(ranking.ratio_of_sums(clicks[at], shown[at], alpha), of_clicks)
            else:
                tally[name, alpha] += missed(ranking.mean(drawn[name], alpha), float(values[name].values.mean()))
    for (name, alpha), ends in tally.items():
        for end, number in zip(("low", "high"), ends, strict=True):
            hold(f"{name}, {end} end", int(number), reps, alpha)


def test_a_worse_ranking_is_seen() -> None:
    rng = np.random.default_rng(8)
    limits = {"ndcg": 0.9, "average_precision": 0.87, "reciprocal_rank": 0.55, "hit_rate": 0.55, "precision": 0.25}
    seen = dict.fromkeys([*limits, "CTR"], 0)
    for _ in range(20):
        some = clicked(rng, 3000, 0.5)
        for name, limit in limits.items():
            seen[name] += (ranking.mean(AT_K[name](some, 3), 1e-3).high or 1) < limit
        seen["CTR"] += (ranking.click_through_rate(some, 3, 1e-3).high or 1) < 0.25
    assert min(seen.values()) == 20, seen


def test_a_million_rows_take_no_loop_over_queries() -> None:
    rng = np.random.default_rng(5)
    query, score = rng.integers(0, 200_000, 1_000_000), rng.random(1_000_000)
    relevance = (rng.random(1_000_000) < 0.1) * 1.0
    start = time.process_time()
    some = Ranking.of(query, score, relevance)
    for metric in AT_K.values():
        ranking.mean(metric(some, 10), 0.05)
    assert time.process_time() - start < 10
