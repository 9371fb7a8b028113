"""Every metric keeps the contract, and says the right thing on cases worked by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.special import ndtri

from watchkeeper.costs import CostsConfig
from watchkeeper.errors import ConfigError
from watchkeeper.metrics import (
    METRICS,
    Metric,
    business,
    concept,
    drift,
    encoding,
    estimation,
    every,
    fairness,
    find,
    load_plugins,
    metric,
    multiclass,
    performance,
    quality,
    service,
)
from watchkeeper.profiles import Profile, Subject, categorical, hashed, numeric
from watchkeeper.schema import ColumnConfig, Kind
from watchkeeper.stats.estimates import Estimate
from watchkeeper.stats.grid import INVALID, NULL, Grid
from watchkeeper.testing import check_metric, profile_of

BUILT_IN = (quality, encoding, drift, performance, concept, estimation, fairness, service, business)
ALPHA = 0.025
DISTANCES = {
    "psi": 0.2, "jensen_shannon": 0.2, "hellinger": 0.2, "chi_square": 0.2, "total_variation": 0.2, "l_infinity": 0.05,
    "ks": 0.2, "cramer_von_mises": 0.03, "anderson_darling": 0.2, "wasserstein": 0.2,
}  # fmt: skip
"""Every distance of a numeric column, and what it is more than where the lower half of all rows is gone."""


def subject(
    current: Profile | None,
    baseline: Profile | None = None,
    grid: Grid | None = None,
    labelled: dict[str, Profile] | None = None,
    threshold: float = 0.5,
    grains: int = 1,
) -> Subject:
    return Subject(current, baseline, grid, threshold, grains, 1, labelled or {}, {})


@pytest.mark.parametrize("metric", every(), ids=lambda m: f"{m.name} of {m.column or 'columns'}")
def test_a_metric_keeps_the_contract(metric: Metric) -> None:
    check_metric(metric)


def test_the_built_in_metrics_are_registered_under_their_functions_names() -> None:
    functions = {m.name: m.compute for m in METRICS.values()}
    for name, compute in [(m.name, m.compute) for m in every()]:
        assert compute.__name__ == name
    assert {"psi", "null_rate", "auc", "p95"} <= set(functions)


def test_every_metric_has_a_title_a_cause_and_a_docstring() -> None:
    for m in every():
        assert m.title
        assert m.cause
        assert m.kinds
        assert m.compute.__doc__


def test_finding_a_metric_by_a_wrong_name_offers_the_nearest() -> None:
    with pytest.raises(ConfigError, match='did you mean "null_rate"'):
        find("nullrate")
    with pytest.raises(ConfigError, match=r"known metrics: .*auc"):
        find("zzzzzz")


def test_a_stranger_registers_a_metric_with_one_decorator(monkeypatch: pytest.MonkeyPatch) -> None:
    def share_of_rows(subject: Subject, alpha: float) -> Estimate:
        return Estimate(1.0, 1.0, 1.0, subject.n)

    try:
        metric("all of it", cause="quality", kinds=(Kind.NUMERIC,))(share_of_rows)
        check_metric(find("share_of_rows"))
    finally:
        METRICS.pop("share_of_rows", None)


def test_plug_ins_load_even_where_there_are_none() -> None:
    load_plugins()


@pytest.mark.parametrize(
    ("bad", "complaint"),
    [
        (lambda s, a: Estimate(math.nan, None, None, s.n), "not finite"),
        (lambda s, a: Estimate(0.5, 0.6, 0.7, s.n), "low > value"),
        (lambda s, a: Estimate(0.5, 0.4, 0.45, s.n), "value > high"),
        (lambda s, a: Estimate(None, 0.1, None, s.n), "interval without a value"),
        (lambda s, a: 1 / 0, "raised ZeroDivisionError"),
        (lambda s, a: Estimate(0.5, 0.5 - a, 0.6, s.n), "narrower"),
        (lambda s, a: s.current.counts.fill(1) or Estimate.absent(0), "raised|changed its subject"),
    ],
)
def test_the_contract_catches_a_metric_that_breaks_it(bad: object, complaint: str) -> None:
    broken = find("null_rate").__class__(
        "broken", "", "quality", frozenset({Kind.NUMERIC}), None, False, False, False, "", bad
    )
    with pytest.raises(AssertionError, match=complaint):
        check_metric(broken)


def test_nulls_and_nans_are_missing_and_infinities_are_not() -> None:
    grid = Grid.unit()
    column = profile_of([None, math.nan, math.inf, 0.5], grid)
    assert find("null_rate").compute(subject(column, None, grid), ALPHA).value == 0.5
    assert find("infinite_rate").compute(subject(column, None, grid), ALPHA).value == 0.25


def test_a_sentinel_is_counted_and_named() -> None:
    grid = Grid.fit(values := np.linspace(0, 100, 500))
    column = profile_of([*values[:97].tolist(), -999.0, -999.0, 9999.0], grid)
    found = find("sentinel_rate").compute(subject(column, None, grid), ALPHA)
    assert found.value == pytest.approx(0.03)
    assert found.detail["values"] == {"-999": 2, "9999": 1}


def test_a_new_category_is_counted_and_named_most_frequent_first() -> None:
    baseline = categorical({"a": 50, "b": 50})
    current = categorical({"a": 5, "d": 1, "c": 4}, nulls=10)
    found = find("new_category").compute(subject(current, baseline), ALPHA)
    assert found.value == 0.5
    assert list(found.detail["values"]) == ["c", "d"]


def test_of_very_many_values_only_those_are_new_that_surely_are() -> None:
    before = categorical({f"{i}": 1 for i in range(5000)}, known=None)
    now = categorical({f"{i}": 1 for i in range(2500, 7500)}, known=before.words)
    found = find("new_category").compute(subject(now, before), ALPHA)
    assert min(map(int, found.detail["values"])) >= 5000
    limit = min(now.limit, before.limit)
    assert found.value == sum(hashed(f"{i}") < limit for i in range(5000, 7500)) / 5000
    agreed = ColumnConfig(kind=Kind.CATEGORICAL, categories=tuple(f"{i}" for i in range(2500, 5000)))
    seen = find("new_category").compute(replace(subject(now, before), contract=agreed), ALPHA)
    assert seen.value is not None
    assert 0 < seen.value < 0.5, "whether the others were agreed is not known"
    single = ColumnConfig(kind=Kind.CATEGORICAL, categories=(next(iter(now.values)),))
    strange = find("new_category").compute(replace(subject(now, before), contract=single), ALPHA)
    assert strange.value == 4999 / 5000


def test_a_value_that_may_be_among_the_others_is_not_taken_as_gone() -> None:
    every = {f"{i}": 1 + 100 * (i < 50) for i in range(5000)}
    before = categorical(every, known=None)
    now = categorical({v: n for v, n in every.items() if v not in ("7", "8")}, known=before.words)
    assert find("vanished_category").compute(subject(now, before), ALPHA).detail["values"] == {"7": 101, "8": 101}
    other = categorical({v: n for v, n in every.items() if v not in ("7", "8")}, known=("1",))
    sure = {v: 101 for v in ("7", "8") if hashed(v) < other.limit}
    assert len(sure) < 2
    assert find("vanished_category").compute(subject(other, before), ALPHA).detail["values"] == sure


def test_a_new_category_is_counted_though_it_is_one_of_very_many() -> None:
    baseline = categorical({"a": 50, "b": 50}, known=None)
    current = categorical({"a": 500, **{f"{i}": 1 for i in range(1500)}}, known=baseline.words)
    found = find("new_category").compute(subject(current, baseline), ALPHA)
    assert found.value == 0.75
    assert len(found.detail["values"]) == 10
    back = find("new_category").compute(subject(baseline, current), ALPHA)
    assert back.value == 0.5, "a value of the vocabulary is counted, though it does not occur"


def test_values_beyond_the_baselines_are_out_of_range() -> None:
    grid = Grid.fit(np.linspace(0, 1, 500))
    baseline = profile_of([i / 499 for i in range(500)], grid)
    current = profile_of([0.5] * 8 + [2.0, -2.0], grid)
    assert find("out_of_range").compute(subject(current, baseline, grid), ALPHA).value == pytest.approx(0.2)


def test_volume_is_rows_a_grain_and_zero_when_nothing_came() -> None:
    column = categorical({"ok": 90, "error": 10})
    assert find("volume").compute(subject(column, grains=4), ALPHA).value == 25
    nothing = find("volume").compute(subject(None, grains=4), ALPHA)
    assert (nothing.value, nothing.low) == (0.0, 0.0)


def test_whatever_status_is_not_ok_is_an_error() -> None:
    column = categorical({"ok": 90, "timeout": 4, "error": 5}, nulls=1)
    assert find("error_rate").compute(subject(column), ALPHA).value == pytest.approx(0.1)


def test_percentiles_of_latency_are_in_its_units() -> None:
    values = [float(v) for v in range(1, 1001)]
    grid = Grid.fit(np.array(values))
    column = subject(profile_of(values, grid), None, grid)
    for name, expected in (("p50", 500), ("p95", 950), ("p99", 990)):
        found = find(name).compute(column, ALPHA)
        assert found.value == pytest.approx(expected, abs=4)
        assert found.low < expected < found.high


def test_the_median_of_a_discrete_column_is_one_of_its_values() -> None:
    grid = Grid.fit(np.array([0.0, 1.0, 5.0] * 20))
    column = profile_of([0.0] * 2 + [1.0] * 7 + [5.0], grid)
    assert find("p50").compute(subject(column, None, grid), ALPHA).value == 1.0


def test_drift_is_nothing_between_equal_columns_and_clear_between_different_ones() -> None:
    grid = Grid.fit(np.linspace(0, 1, 2000))
    baseline = profile_of([i / 1999 for i in range(2000)], grid)
    moved = profile_of([0.5 + i / 3998 for i in range(2000)], grid)
    for name, least in DISTANCES.items():
        same = find(name).compute(subject(baseline, baseline, grid), ALPHA)
        assert same.value == pytest.approx(0, abs=1e-9)
        assert same.low == 0
        assert same.detail["noise"] > 0
        other = find(name).compute(subject(moved, baseline, grid), ALPHA)
        assert other.low > least, name


def test_the_distances_of_categories_are_those_of_their_counts() -> None:
    now, before = categorical({"a": 100, "b": 300, "d": 100}), categorical({"a": 200, "b": 200, "c": 100})
    for name, expected in (
        ("total_variation", 0.4),
        ("l_infinity", 0.2),
        ("hellinger", (1 - 0.08**0.5 - 0.24**0.5) ** 0.5),
        ("chi_square", ((0.04 / 0.6 + 0.04 / 1.0 + 0.2 + 0.2) / 2) ** 0.5),
    ):
        assert find(name).compute(subject(now, before), ALPHA).value == pytest.approx(expected), name


def test_the_category_that_changed_most_is_named() -> None:
    now, before = categorical({"a": 100, "b": 300, "c": 100}), categorical({"a": 110, "b": 200, "c": 190})
    assert find("l_infinity").compute(subject(now, before), ALPHA).detail["category"] == "b"


def test_mean_and_standard_deviation_are_numpys_and_know_nothing_of_other_values() -> None:
    values = np.random.default_rng(1).gamma(2, 3, 2000)
    grid = Grid.fit(values)
    column = subject(profile_of([*values.tolist(), None, math.nan, math.inf], grid), None, grid)
    for name, expected in (("mean", values.mean()), ("standard_deviation", values.std(ddof=1))):
        found = find(name).compute(column, ALPHA)
        assert found.value == pytest.approx(expected, rel=2e-3)
        assert found.low < expected < found.high
        assert found.n == 2000


def test_drift_between_different_grids_has_no_value() -> None:
    one, two = Grid.unit(10), Grid.unit(20)
    current, baseline = profile_of([0.5] * 50, one), profile_of([0.5] * 50, two)
    assert find("ks").compute(subject(current, baseline, one), ALPHA).value is None


def test_performance_is_read_from_the_labelled_rows_alone() -> None:
    grid = Grid.unit()
    labelled = {"0": profile_of([0.1, 0.2, 0.6, None], grid), "1": profile_of([0.9, 0.8, 0.5], grid)}
    s = subject(profile_of([0.3] * 100, grid), None, grid, labelled)
    assert find("accuracy").compute(s, ALPHA).value == pytest.approx(5 / 6)
    assert find("auc").compute(s, ALPHA).value == pytest.approx(8 / 9)
    assert find("positive_rate").compute(s, ALPHA).value == pytest.approx(0.5)
    assert find("accuracy").compute(s, ALPHA).n == 6


def test_metrics_at_the_threshold_are_those_of_the_labelled_rows() -> None:
    grid = Grid.unit()
    labelled = {"0": profile_of([0.1, 0.2, 0.6, None], grid), "1": profile_of([0.9, 0.8, 0.5, 0.3], grid)}
    s = subject(profile_of([0.3] * 90 + [0.5] * 10, grid), None, grid, labelled)
    expected = {
        "precision": 3 / 4, "recall": 3 / 4, "specificity": 2 / 3, "false_positive_rate": 1 / 3,
        "false_negative_rate": 1 / 4, "f1": 3 / 4, "balanced_accuracy": 17 / 24, "mcc": 5 / 12, "lift": 21 / 16,
        "predicted_positive_rate": 0.1,
    }  # fmt: skip
    for name, value in expected.items():
        assert find(name).compute(s, ALPHA).value == pytest.approx(value), name
    assert find("precision").compute(replace(s, threshold=0.7), ALPHA).value == 1.0


def test_what_decisions_cost_takes_the_models_costs() -> None:
    grid = Grid.unit()
    labelled = {"0": profile_of([0.1, 0.2, 0.6], grid), "1": profile_of([0.9, 0.3], grid)}
    s = subject(None, None, grid, labelled)
    assert find("decision_cost").compute(s, ALPHA) == Estimate.absent(5)
    costs = CostsConfig(false_positive=5, false_negative=120, true_positive=-10)
    found = find("decision_cost").compute(replace(s, costs=costs), ALPHA)
    assert found.value == pytest.approx((5 + 120 - 10) / 5)
    assert found.low < 1 < 60 < found.high < 120


def test_what_decisions_of_several_classes_cost_takes_the_models_table() -> None:
    labelled = {
        "cat": categorical({"cat": 6, "dog": 2}, known=("cat", "dog")),
        "dog": categorical({"dog": 9, "cat": 1, "cow": 2}, known=("cat", "dog")),
        "(other)": categorical({"cat": 5}, known=("cat", "dog")),
    }
    s = subject(None, None, None, labelled)
    cost = multiclass.decision_cost
    assert cost(s, ALPHA) == Estimate.absent(0)
    known = cost(replace(s, costs={"cat": {"dog": 10.0}, "dog": {"cat": 4.0}}), ALPHA)
    assert (known.value, known.n) == (
        pytest.approx((2 * 10 + 4) / 18),
        18,
    )  # strange labels and predictions do not count
    every = cost(replace(s, costs={"cat": {"dog": 10.0}, "(other)": {"(other)": 1.0}}), ALPHA)
    assert (every.value, every.n) == (pytest.approx((2 * 10 + 1 + 2 + 5) / 25), 25)


def test_auc_needs_both_labels() -> None:
    grid = Grid.unit()
    s = subject(None, None, grid, {"1": profile_of([0.9, 0.8], grid)})
    assert find("auc").compute(s, ALPHA).value is None
    assert find("accuracy").compute(s, ALPHA).value == 1.0


# Changes of encoding


@pytest.mark.parametrize(
    ("known", "new", "meant"),
    [
        (["EWR", "JFK"], ["ewr", " JFK ", "ord"], {"ewr": "EWR", " JFK ": "JFK"}),
        (["1", "2"], ["1.0", "02", "3"], {"1.0": "1", "02": "2"}),
        (["caf\u00e9"], ["cafe\u0301", "cafe"], {"cafe\u0301": "caf\u00e9", "cafe": "caf\u00e9"}),
        (["new york", "boston"], ["new_york", "BOSTON"], {"new_york": "new york", "BOSTON": "boston"}),
        (["a1", "b2"], ["x-a1", "x-b2"], {"x-a1": "a1", "x-b2": "b2"}),
        (["kg", "lb"], ["kg (net)", "lb (net)"], {"kg (net)": "kg", "lb (net)": "lb"}),
        (["v1", "v8", "v9"], ["v17", "v87", "v97"], {}),
        (["A", "a"], ["\u00c4"], {}),
    ],
)
def test_a_category_in_another_writing_is_known(known: list[str], new: list[str], meant: dict[str, str]) -> None:
    baseline = categorical(dict.fromkeys(known, 50))
    found = find("encoding_change").compute(subject(categorical(dict.fromkeys(new, 10)), baseline), ALPHA)
    assert found.detail["meant"] == meant
    assert found.value == pytest.approx(len(meant) / len(new))


def test_a_change_of_unit_is_named_though_it_looks_like_sentinels() -> None:
    random = np.random.default_rng(1)
    values = random.poisson(4, 3000) * 1.0
    grid = Grid.fit(values)
    sides = profile_of((-values[:1000]).tolist(), grid), profile_of(values.tolist(), grid)
    found = find("unit_change").compute(subject(*sides, grid), ALPHA)
    assert found.detail["formula"] == "with the sign changed"
    assert found.low > 0.5


# Vanished, stuck, of another type


def test_a_vanished_category_counts_once_it_would_be_expected() -> None:
    baseline = categorical({"a": 500, "b": 300, "c": 200 - 1, "rare": 1})
    found = find("vanished_category").compute(subject(categorical({"a": 60, "b": 40}), baseline), ALPHA)
    assert found.value == pytest.approx(0.199)
    assert found.detail["values"] == {"c": 199}
    assert 0.05 < found.low < 0.199 < found.high
    few = find("vanished_category").compute(subject(categorical({"a": 6, "b": 4}), baseline), ALPHA)
    assert (few.value, few.low) == (0.0, 0.0)


def test_a_stuck_column_lost_its_variety() -> None:
    grid = Grid.fit(values := np.linspace(0, 1, 500))
    baseline = profile_of(values.tolist(), grid)
    for stuck in (0.25, 7.0):
        found = find("constant").compute(subject(profile_of([stuck] * 100, grid), baseline, grid), ALPHA)
        assert (found.value, found.detail["most_frequent"]) == (1.0, pytest.approx(f"{stuck:g}"))
        assert found.low > 0.9
    far = find("constant").compute(subject(profile_of([100 + v for v in values], grid), baseline, grid), ALPHA)
    assert far.value == 0.0
    rare = categorical({"no": 98, "yes": 2})
    assert find("constant").compute(subject(categorical({"no": 40}), rare), ALPHA).low == 0.0
    assert find("constant").compute(subject(categorical({"b": 40}), categorical({"a": 40})), ALPHA).value == 0.0


def test_what_is_no_number_is_invalid_and_not_missing() -> None:
    grid = Grid.unit()
    column = numeric(grid, {INVALID: 3, NULL: 1, 5: 6}, 0.005, 0.0055)
    assert find("invalid_rate").compute(subject(column, None, grid), ALPHA).value == 0.3
    assert find("null_rate").compute(subject(column, None, grid), ALPHA).value == 0.1


# What was agreed


def test_the_contracts_range_goes_before_the_baselines() -> None:
    grid = Grid.fit(np.linspace(0, 100, 1000))
    baseline = profile_of(np.linspace(0, 100, 1000).tolist(), grid)
    now = profile_of([5.0] * 10 + [50.0] * 70 + [99.0] * 20, grid)
    for agreed, share in (({"min": 10}, 0.1), ({"max": 80}, 0.2), ({"min": 10, "max": 80}, 0.3), ({}, 0.0)):
        column = replace(subject(now, baseline, grid), contract=ColumnConfig(kind=Kind.NUMERIC, **agreed))
        assert find("out_of_range").compute(column, ALPHA).value == pytest.approx(share), agreed
    edge = profile_of([50.0] * 99 + [100.01], grid)
    for most, share in ((100.0, 0.01), (100.005, 0.01), (100.02, 0.0)):
        column = replace(subject(edge, baseline, grid), contract=ColumnConfig(kind=Kind.NUMERIC, max=most))
        assert find("out_of_range").compute(column, ALPHA).value == pytest.approx(share), most


def test_the_contracts_categories_go_before_the_baselines() -> None:
    column = subject(categorical({"a": 6, "b": 4}), categorical({"a": 10, "b": 10}))
    agreed = ColumnConfig(kind=Kind.CATEGORICAL, categories=("a", "c"))
    assert find("new_category").compute(column, ALPHA).value == 0.0
    assert find("new_category").compute(replace(column, contract=agreed), ALPHA).value == 0.4


# service and business


def test_what_became_of_requests_by_hand() -> None:
    statuses = profile_of(["ok"] * 90 + ["timeout"] * 4 + ["error"] * 1 + ["cancelled"] * 5)
    asked = replace(subject(statuses), grains=2, grain_seconds=100.0)
    assert find("error_rate").compute(asked, ALPHA).value == pytest.approx(0.1)
    assert find("timeout_rate").compute(asked, ALPHA).value == pytest.approx(0.04)
    assert find("availability").compute(asked, ALPHA).value == pytest.approx(90 / 95)
    assert find("throughput").compute(asked, ALPHA).value == pytest.approx(0.5)
    assert find("volume").compute(asked, ALPHA).value == 50
    answered = subject(profile_of(["champion"] * 97 + ["fallback"] * 3))
    assert find("fallback_rate").compute(answered, ALPHA).value == pytest.approx(0.03)


def test_costs_by_hand() -> None:
    grid = Grid.logarithmic(1e-6, 10_000.0)
    asked = replace(subject(profile_of([0.002] * 1000 + [None] * 50, grid), grid=grid), grains=4)
    mean, total = (find(name).compute(asked, ALPHA) for name in ("mean_cost", "total_cost"))
    assert (mean.value, mean.n) == (pytest.approx(0.002), 1000)
    assert total.value == pytest.approx(0.5)
    assert total.low is not None
    assert total.low < 0.49
    spread = subject(profile_of(np.geomspace(0.001, 1.0, 4000).tolist(), grid), grid=grid)
    exact = float(np.geomspace(0.001, 1.0, 4000).mean())
    assert find("mean_cost").compute(spread, ALPHA).value == pytest.approx(exact, rel=0.002)


@pytest.mark.parametrize("name", ["p50", "p95", "p99"])
def test_a_quantile_of_latencies_is_within_its_interval_as_often_as_it_says(name: str) -> None:
    chance, grid, alpha, runs, rows = np.random.default_rng(3), Grid.logarithmic(0.1, 60_000.0), 0.025, 1500, 800
    truth = float(np.exp(3 + ndtri(float(name[1:]) / 100)))
    below = above = 0
    for _ in range(runs):
        bins, counts = np.unique(grid.bins(chance.lognormal(3, 1, rows)), return_counts=True)
        profile = numeric(grid, dict(zip(bins.tolist(), counts.tolist(), strict=True)), None, None)
        found = find(name).compute(subject(profile, grid=grid), alpha)
        assert found.low is not None
        below += found.low > truth
        above += found.high is not None and found.high < truth
    assert max(below, above) <= runs * alpha + 3 * (runs * alpha) ** 0.5
