"""Monitors: a plan that keeps the alarm budget, and verdicts that breach only with confidence."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from watchkeeper import policy
from watchkeeper.errors import ConfigError
from watchkeeper.metrics import find, of_task
from watchkeeper.monitors import ESTIMATES, LARGEST_ERROR, Watch, judge, measure, plan, shown
from watchkeeper.profiles import Profile, Subject, categorical, merge, numeric
from watchkeeper.records import ALL, Point, Reason, Severity, Status
from watchkeeper.schema import DESCRIPTORS, Kind, ModelConfig, MonitorConfig, Task
from watchkeeper.segments import Segmentation
from watchkeeper.stats.estimates import difference, proportion, rate
from watchkeeper.stats.grid import Grid
from watchkeeper.tasks import model_columns
from watchkeeper.testing import profile_of
from watchkeeper.windows import DAY, Window

DAY_ONE = Window(datetime(2024, 3, 1, tzinfo=UTC), datetime(2024, 3, 2, tzinfo=UTC))
COLUMNS = {"age": {"kind": "numeric"}, "income": {"kind": "numeric"}, "country": {"kind": "categorical"}}
AGE = Grid.fit(np.linspace(0, 100, 200))
RELATIVE = {"metric": "null_rate", "columns": ["country"], "above": 0.05, "relative": "difference"}


def model(*monitors: dict[str, Any], **settings: Any) -> ModelConfig:
    named = [{"name": f"monitor {i}", **m} for i, m in enumerate(monitors)]
    return ModelConfig.model_validate({"columns": COLUMNS, "monitors": named, **settings})


def watch(config: ModelConfig, at: int = 0) -> tuple[Watch, MonitorConfig]:
    found = plan(config)[at]
    assert found.monitor is not None
    return found, found.monitor


def subject(current: Profile | None, baseline: Profile | None = None, **parts: Any) -> Subject:
    settings = {"grid": None, "threshold": 0.5, "grains": 1, "baseline_grains": 1, "labelled": {}, **parts}
    return Subject(current, baseline, baseline_labelled=settings.pop("before", {}), **settings)


def point_of(found: Watch, seen: Subject) -> Point:
    return measure(found, seen, "churn", ALL, DAY_ONE, "config-1", ("profile-1",))


def verdict_of(config: ModelConfig, seen: Subject) -> tuple[Status, Reason]:
    found, monitor = watch(config)
    verdict = judge(monitor, found.metric, point_of(found, seen), config.label_coverage)
    return verdict.status, verdict.reason


# the plan


def test_a_monitor_looks_at_each_feature_that_its_metric_fits() -> None:
    config = model({"metric": "psi", "columns": "features", "above": 0.2}, {"metric": "ks", "above": 0.2})
    looks = [(w.metric.name, w.column, w.kind) for w in plan(config)]
    assert looks == [
        ("psi", "age", Kind.NUMERIC),
        ("psi", "income", Kind.NUMERIC),
        ("psi", "country", Kind.CATEGORICAL),
        ("ks", "age", Kind.NUMERIC),
        ("ks", "income", Kind.NUMERIC),
    ]


def test_a_metric_of_the_whole_model_finds_its_own_column() -> None:
    config = model(
        {"metric": "auc", "below": 0.7},
        {"metric": "error_rate", "above": 0.1},
        {"metric": "volume", "below": 10, "columns": ["status"]},
        {"metric": "p95", "above": 100, "columns": ["latency_ms"]},
    )
    assert [w.column for w in plan(config)] == ["score", "status", "status", "latency_ms"]


WRONG: list[tuple[dict[str, Any], str, tuple[str | int, ...]]] = [
    ({"metric": "pse", "above": 1}, 'monitor "monitor 1": there is no metric "pse"; did you mean "psi"?', ("metric",)),
    (
        {"metric": "qqqq", "above": 1},
        "known metrics: accuracy, accuracy_estimation_error, anderson_darling",
        ("metric",),
    ),
    ({"metric": "psi", "columns": ["agee"], "above": 1}, 'no column "agee"; did you mean "age"?', ("columns",)),
    ({"metric": "psi", "columns": ["zzzz"], "above": 1}, "known columns: age, income, country, score", ("columns",)),
    (
        {"metric": "ks", "columns": ["country"], "above": 1},
        'ks does not fit "country": it is for numeric or datetime or duration',
        ("metric",),
    ),
    ({"metric": "new_category", "columns": ["score"], "above": 1}, "it is for categorical columns", ("metric",)),
    ({"metric": "auc", "columns": ["age"], "below": 1}, "auc is of the whole model and takes no columns", ("columns",)),
    (
        {"metric": "psi", "columns": ["age"], "above": 1, "relative": "ratio"},
        "psi compares with the baseline by nature; leave relative out",
        ("relative",),
    ),
    (
        {"metric": "volume", "below": 0.5, "relative": "ratio"},
        "the reference did not come over time; set baseline to a duration, such as 28d",
        ("baseline",),
    ),
]


@pytest.mark.parametrize(("wrong", "complaint", "place"), WRONG)
def test_a_monitor_that_cannot_be_meant_is_refused_with_its_place(
    wrong: dict[str, Any], complaint: str, place: tuple[str | int, ...]
) -> None:
    with pytest.raises(ConfigError, match=complaint.replace("?", r"\?")) as caught:
        plan(model({"metric": "psi", "above": 1}, wrong))
    assert caught.value.path == ("monitors", 1, *place)


def test_what_runs_over_every_grain_does_not_look_early() -> None:
    config = model({"metric": "concept_drift", "above": 1.1, "early": "1d"}, label_delay="3d")
    with pytest.raises(ConfigError, match="runs over every grain, and the first labels would speak for all"):
        plan(config)


def test_a_metric_that_fits_no_feature_is_refused() -> None:
    words = {"country": {"kind": "categorical"}}
    with pytest.raises(ConfigError, match="ks fits no feature of this model; it is for numeric or"):
        plan(model({"metric": "ks", "columns": "features", "above": 0.1}, columns=words))


@pytest.mark.parametrize("columns", [COLUMNS, {"age": {"kind": "numeric"}}, {"country": {"kind": "categorical"}}])
def test_what_is_watched_without_monitors_fits_every_model(columns: dict[str, Any]) -> None:
    config = ModelConfig.model_validate({"columns": columns})
    looks = plan(config)
    assert {w.monitor.name for w in looks if w.monitor} == {m.name for m in policy.for_model(config)}
    assert {w.metric.cause for w in looks} >= {"missing values", "drift", "performance", "service", "volume"}
    assert plan(ModelConfig.model_validate({"columns": columns, "monitors": []})) == []


# segments

COUNTRY = Segmentation(("country",), (("NL",), ("DE",)))
CROSSED = Segmentation(("country", "plan"), (("NL", "gold"),))
PARTED: dict[str, Any] = {
    "columns": {**COLUMNS, "plan": {"kind": "categorical"}}, "segments": ["country", ["country", "plan"]],
}  # fmt: skip


def test_a_monitor_looks_at_all_rows_and_at_segments_where_it_says_so() -> None:
    config = model(
        {"metric": "null_rate", "columns": ["age"], "above": 0.1, "segments": True},
        {"metric": "null_rate", "columns": ["age"], "above": 0.1},
        **PARTED,
    )
    assert [(w.monitor.name, w.segment) for w in plan(config, [COUNTRY, CROSSED]) if w.monitor] == [
        ("monitor 0", ALL), *(("monitor 0", name) for name in (*COUNTRY.names, *CROSSED.names)), ("monitor 1", ALL),
    ]  # fmt: skip
    assert [w.segment for w in plan(config)] == [ALL, ALL], "until it is known which segments there are"
    assert [w.segment for w in plan(config, [Segmentation(("plan",), (("gold",),))])] == [ALL, ALL], "of another time"


def test_a_segment_is_not_looked_at_for_its_own_columns() -> None:
    config = model({"metric": "null_rate", "columns": "features", "above": 0.1, "segments": True}, **PARTED)
    looked = {(w.column, w.segment) for w in plan(config, [COUNTRY, CROSSED])}
    assert {segment for column, segment in looked if column == "country"} == {ALL}
    assert {segment for column, segment in looked if column == "plan"} == {ALL, *COUNTRY.names}
    assert {segment for column, segment in looked if column == "age"} == {ALL, *COUNTRY.names, *CROSSED.names}


def test_the_default_monitors_look_at_the_segments_that_the_model_names() -> None:
    config = ModelConfig.model_validate(PARTED)
    assert {w.segment for w in plan(config, [COUNTRY])} == {ALL, *COUNTRY.names}
    assert {w.monitor.segments for w in plan(config) if w.monitor} == {True}


def test_each_look_at_a_segment_is_paid_from_the_budget() -> None:
    many = Segmentation(("country",), tuple((f"{i}",) for i in range(100)))
    config = model({"metric": "psi", "columns": ["age"], "above": 0.1, "segments": True}, **PARTED)
    looks = plan(config, [many])
    assert len(looks) == 1 + 102
    assert sum(w.alpha for w in looks) * 30 == pytest.approx(config.alarm_budget[Severity.P2])


def test_the_budget_is_kept_over_all_segments_on_data_without_trouble() -> None:
    """Shares of missing values in 20 segments of 50 rows each, every one of which truly lies on its limit."""
    settings = {"metric": "null_rate", "columns": ["age"], "above": 0.2, "severity": "P1", "segments": True}
    config = model(settings, **PARTED, alarm_budget={"P0": 1, "P1": 3, "P2": 1})
    some = Segmentation(("country",), tuple((f"{i}",) for i in range(18)))
    looks = plan(config, [some])
    rng, breaches, months = np.random.default_rng(20240302), 0, 40
    for _ in range(months * 30):
        missing = rng.binomial(50, 0.2, size=len(looks) - 1)
        drawn = [(int(missing.sum()), 50 * len(missing)), *((int(nulls), 50) for nulls in missing)]
        for found, (nulls, n) in zip(looks, drawn, strict=True):
            assert found.monitor
            counts = profile_of([None] * nulls + [1.0] * (n - nulls), AGE)
            point = point_of(found, subject(counts, grid=AGE))
            breaches += judge(found.monitor, found.metric, point, 1).status is Status.BREACH
    assert 0 < breaches / months <= 3 + 3 * (3 / months) ** 0.5


def test_a_small_segment_is_not_judged() -> None:
    config = model({"metric": "null_rate", "columns": ["age"], "above": 0.1, "segments": True}, **PARTED)
    found = next(w for w in plan(config, [COUNTRY]) if w.segment == "country=DE")
    assert found.monitor
    verdict = judge(found.monitor, found.metric, point_of(found, subject(profile_of([None] * 49, AGE), grid=AGE)), 1)
    assert (verdict.segment, verdict.status) == ("country=DE", Status.NOT_ENOUGH_DATA)


def test_points_of_segments_are_rows_of_their_own() -> None:
    config = model({"metric": "null_rate", "columns": ["age"], "above": 0.1, "segments": True}, **PARTED)
    points = [point_of(w, subject(None)) for w in plan(config, [COUNTRY])]
    assert [p.segment for p in points] == [ALL, *COUNTRY.names]
    assert len({p.id for p in points}) == len(points)


# the alarm budget


def spent(config: ModelConfig, severity: Severity) -> float:
    """The false alarms to expect in 30 days, were every limit just kept."""
    grains = timedelta(days=30) / config.grain_length
    return sum(w.alpha for w in plan(config) if w.monitor and w.monitor.severity is severity) * grains


monitors = st.lists(
    st.tuples(st.sampled_from(["psi", "null_rate", "auc", "error_rate"]), st.sampled_from(Severity)), max_size=8
)


@given(monitors, st.floats(1e-3, 1e4), st.sampled_from(["1h", "1d"]))
def test_the_looks_of_a_severity_share_its_budget(some: list[tuple[str, Severity]], budget: float, grain: str) -> None:
    settings = [{"metric": name, "above": 0.1, "severity": severity} for name, severity in some]
    config = model(*settings, grain=grain, alarm_budget=dict.fromkeys(Severity, budget))
    for severity in Severity:
        looks = [w for w in plan(config) if w.monitor and w.monitor.severity is severity]
        if looks and max(w.alpha for w in looks) < LARGEST_ERROR:
            assert spent(config, severity) == pytest.approx(budget)
        else:
            assert all(w.alpha == LARGEST_ERROR for w in looks)
            assert spent(config, severity) <= budget * (1 + 1e-12)


def test_severities_do_not_share_a_budget() -> None:
    noisy = [{"metric": "psi", "above": 0.2, "severity": "P2"}] * 20
    urgent = {"metric": "error_rate", "above": 0.1, "severity": "P0"}
    assert plan(model(urgent))[0].alpha == plan(model(urgent, *noisy))[0].alpha == pytest.approx(0.1 / 30)


def test_a_budget_is_kept_on_data_without_trouble() -> None:
    config = model(
        {"metric": "null_rate", "columns": ["country"], "above": 0.1, "severity": "P1"},
        alarm_budget={"P0": 1, "P1": 1.5, "P2": 1},
    )
    found, monitor = watch(config)
    rng, breaches, months = np.random.default_rng(20240301), 0, 40
    for missing in rng.binomial(1000, 0.1, size=months * 30):  # the truth lies on the limit: the hardest case
        verdict = judge(
            monitor, found.metric, point_of(found, subject(categorical({"NL": 1000 - missing}, missing))), 1
        )
        breaches += verdict.status is Status.BREACH
    assert 0 < breaches / months <= 1.5 + 3 * (1.5 / months) ** 0.5


# what is shown and not judged


def test_performance_and_the_service_are_shown_whatever_is_judged() -> None:
    looks = shown(model())
    assert {w.metric.name for w in looks} == {
        *(n for n, m in of_task(Task.BINARY).items() if m.labels and not (m.groups or m.costs or m.needs_baseline)),
        *(n for n in ESTIMATES if n in of_task(Task.BINARY)),
        "p50", "p95", "p99", "error_rate", "timeout_rate", "availability", "fallback_rate", "volume",
        "predicted_positive_rate", "mean_use", "mean_cost", "total_cost",
    }  # fmt: skip
    assert all(w.monitor is None and w.window == DAY and w.kind is model_columns(model())[w.column] for w in looks)


def test_what_decisions_cost_is_shown_and_judged_where_the_costs_are_known() -> None:
    costs = {"false_positive": 5, "false_negative": 120}
    assert "decision_cost" not in {w.metric.name for w in shown(model())}
    assert "decision_cost" in {w.metric.name for w in shown(model(costs=costs))}
    asked = {"metric": "decision_cost", "above": 2}
    assert plan(model(asked, costs=costs))[0].column == "score"
    with pytest.raises(ConfigError, match="decision_cost needs the model's costs"):
        plan(model(asked))


# measuring


def test_a_point_is_the_metric_with_its_interval_and_where_it_came_from() -> None:
    found, monitor = watch(model({"metric": "null_rate", "columns": ["country"], "above": 0.1}))
    point = point_of(found, subject(categorical({"NL": 90}, nulls=10)))
    known = proportion(10, 100, found.alpha)
    assert (point.value, point.low, point.high, point.n) == (known.value, known.low, known.high, 100)
    assert (point.metric, point.column, point.monitor) == ("null_rate", "country", monitor.name)
    assert (point.window, point.config, point.because) == (DAY_ONE, "config-1", ("profile-1",))
    assert point.confidence == 1 - found.alpha
    assert point.coverage is None


def test_a_point_is_named_by_what_it_measures_and_not_by_what_it_found() -> None:
    found, _ = watch(model({"metric": "null_rate", "columns": ["country"], "above": 0.1}))
    one, two = (point_of(found, subject(categorical({"NL": 90}, nulls=n))) for n in (1, 9))
    assert one.id == two.id
    other, _ = watch(model({"metric": "null_rate", "columns": ["age"], "above": 0.1}))
    assert point_of(other, subject(None)).id != one.id
    later = Window(DAY_ONE.end, DAY_ONE.end + DAY)
    assert measure(found, subject(None), "churn", ALL, later, "config-1", ()).id != one.id


def test_a_relative_point_is_the_change_against_the_baseline() -> None:
    now, before = categorical({"NL": 90}, nulls=10), categorical({"NL": 980}, nulls=20)
    found, _ = watch(model(RELATIVE))
    point = point_of(found, subject(now, before))
    known = difference(proportion(10, 100, found.alpha), proportion(20, 1000, found.alpha))
    assert point.value == pytest.approx(0.08)
    assert (point.low, point.high, point.n_baseline) == (known.low, known.high, 1000)
    assert point.detail == {"current": 0.1, "baseline": 0.02}
    found, _ = watch(model({**RELATIVE, "relative": "ratio"}))
    assert point_of(found, subject(now, before)).value == pytest.approx(5)


def test_coverage_is_the_share_of_rows_that_have_their_label() -> None:
    found, _ = watch(model({"metric": "accuracy", "below": 0.5}))
    grid = Grid.unit()
    scores = profile_of([0.1, 0.2, 0.8, 0.9], grid)
    labelled = {"0": profile_of([0.1], grid), "1": profile_of([0.9, 0.8], grid)}
    assert point_of(found, subject(scores, grid=grid, labelled=labelled)).coverage == 0.75
    assert point_of(found, subject(None, grid=grid)).coverage is None


def test_volume_against_grains_that_nobody_knows_has_no_value() -> None:
    found, _ = watch(model({"metric": "volume", "above": 5, "relative": "difference", "baseline": "7d"}))
    rows = categorical({"ok": 1000})
    assert point_of(found, subject(rows, None, baseline_grains=0)).value is None
    assert point_of(found, subject(rows, categorical({"ok": 7000}), baseline_grains=7)).value == 0


# judging


def judged(direction: str, value: float, low: float | None, high: float | None, n: int = 1000) -> tuple[Status, Reason]:
    found, monitor = watch(model({"metric": "null_rate", "columns": ["country"], direction: 0.5, "min_rows": 100}))
    point = replace(point_of(found, subject(None)), value=value, low=low, high=high, n=n)
    verdict = judge(monitor, found.metric, point, 0.8)
    assert (verdict.id, verdict.because) == (judge(monitor, found.metric, point, 0.1).id, (point.id,))
    assert (verdict.value, verdict.low, verdict.high, verdict.n, verdict.limit) == (value, low, high, n, 0.5)
    assert (verdict.cause, verdict.direction, verdict.window) == ("missing values", direction, DAY_ONE)
    return verdict.status, verdict.reason


OUTSIDE, INSIDE = (Status.BREACH, Reason.OUTSIDE_LIMIT), (Status.HEALTHY, Reason.INSIDE_LIMIT)
UNSURE, FEW = (Status.HEALTHY, Reason.NOT_CONFIDENT), (Status.NOT_ENOUGH_DATA, Reason.TOO_FEW_ROWS)


@pytest.mark.parametrize(
    ("value", "low", "high", "found"),
    [
        (0.8, 0.7, 0.9, OUTSIDE),
        (0.8, 0.501, 1.0, OUTSIDE),
        (0.8, 0.5, 0.9, UNSURE),
        (0.8, 0.2, 0.9, UNSURE),
        (0.5, 0.4, 0.6, INSIDE),
        (0.2, 0.1, 0.9, INSIDE),
        (0.8, 0.7, None, OUTSIDE),
        (0.8, None, 0.9, FEW),
    ],
)
def test_a_limit_is_breached_only_by_the_whole_interval(
    value: float, low: float | None, high: float | None, found: tuple[Status, Reason]
) -> None:
    assert judged("above", value, low, high) == found
    mirrored = [None if end is None else 1 - end for end in (high, low)]
    assert judged("below", 1 - value, *mirrored) == found


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1))
def test_no_breach_while_any_truth_within_the_limit_is_believed(a: float, b: float, c: float) -> None:
    low, value, high = sorted((a, b, c))
    assert (judged("above", value, low, high)[0] is Status.BREACH) == (low > 0.5)
    assert (judged("below", value, low, high)[0] is Status.BREACH) == (high < 0.5)


def test_a_window_without_rows_has_no_data() -> None:
    for nothing in (None, categorical({})):
        assert verdict_of(model({"metric": "null_rate", "above": 0.1}), subject(nothing)) == (
            Status.NO_DATA,
            Reason.NOTHING_ARRIVED,
        )


def test_a_few_rows_are_not_enough_however_bad_they_are() -> None:
    config = model({"metric": "null_rate", "columns": ["country"], "above": 0.1, "min_rows": 50})
    assert verdict_of(config, subject(categorical({}, nulls=49))) == FEW
    assert verdict_of(config, subject(categorical({}, nulls=50))) == OUTSIDE


def test_without_a_baseline_nothing_can_be_compared() -> None:
    rows = categorical({"NL": 500}, nulls=500)
    incomparable = (Status.NOT_ENOUGH_DATA, Reason.NOT_COMPARABLE)
    assert verdict_of(model(RELATIVE), subject(rows)) == incomparable
    assert verdict_of(model({"metric": "psi", "columns": ["country"], "above": 0.1}), subject(rows)) == incomparable


def test_silence_is_a_breach_of_volume() -> None:
    config = model({"metric": "volume", "below": 100})
    assert verdict_of(config, subject(None)) == OUTSIDE
    assert verdict_of(config, subject(categorical({"ok": 100}))) == INSIDE
    assert rate(0, 1, plan(config)[0].alpha).high < 100


def labelled_scores(rows: int, labelled: int) -> Subject:
    grid, wrong = Grid.unit(), [0.9] * labelled  # all of them wrong
    sides = {"0": profile_of(wrong, grid)} if labelled else {}
    return subject(profile_of([0.9] * rows, grid), grid=grid, labelled=sides)


def test_a_verdict_on_labels_is_provisional_until_enough_have_come() -> None:
    config = model({"metric": "accuracy", "below": 0.5}, label_coverage=0.8)
    provisional = (Status.PROVISIONAL, Reason.LABELS_IMMATURE)
    assert verdict_of(config, labelled_scores(1000, 0)) == provisional
    assert verdict_of(config, labelled_scores(1000, 799)) == provisional
    assert verdict_of(config, labelled_scores(1000, 800)) == OUTSIDE
    assert verdict_of(config, subject(None, grid=Grid.unit())) == (Status.NO_DATA, Reason.NOTHING_ARRIVED)


@pytest.mark.parametrize(
    ("rows", "false", "expected"),
    [
        (500, 0, (Status.NOT_ENOUGH_DATA, Reason.TOO_FEW_ROWS)),
        (500, 1, (Status.HEALTHY, Reason.NOT_CONFIDENT)),
        (500, 20, (Status.BREACH, Reason.OUTSIDE_LIMIT)),
        (5_000_000, 4_700, (Status.HEALTHY, Reason.INSIDE_LIMIT)),
        (5_000_000, 5_050, (Status.HEALTHY, Reason.NOT_CONFIDENT)),
        (5_000_000, 5_500, (Status.BREACH, Reason.OUTSIDE_LIMIT)),
    ],
)
def test_a_false_positive_rate_of_one_in_a_thousand_is_judged_where_there_are_rows_enough(
    rows: int, false: int, expected: tuple[Status, Reason]
) -> None:
    config = model({"metric": "false_positive_rate", "above": 0.001})
    grid = Grid.unit()
    negatives, positives = numeric(grid, {900: false, 100: rows - false}, 0.1, 0.9), numeric(grid, {900: 50}, 0.9, 0.9)
    seen = subject(merge([negatives, positives]), grid=grid, labelled={"0": negatives, "1": positives})
    assert verdict_of(config, seen) == expected
    point = point_of(watch(config)[0], seen)
    assert point.high - point.low < (0.0003 if rows > 500 else 0.1)


def test_a_share_without_its_denominator_is_not_enough_data() -> None:
    grid = Grid.unit()
    negatives = numeric(grid, {100: 1000}, 0.1, 0.1)
    seen = subject(negatives, grid=grid, labelled={"0": negatives})
    for metric in ("precision", "recall", "f1", "mcc", "lift"):
        found = verdict_of(model({"metric": metric, "below": 0.5}), seen)
        assert found == (Status.NOT_ENOUGH_DATA, Reason.NOT_COMPARABLE), metric


def test_a_verdict_names_its_monitor_and_severity() -> None:
    config = model({"metric": "null_rate", "columns": ["country"], "above": 0.1, "severity": "P0"})
    found, monitor = watch(config)
    verdict = judge(monitor, found.metric, point_of(found, subject(categorical({"NL": 500}))), 0.8)
    assert (verdict.severity, verdict.monitor, verdict.model) == (Severity.P0, "monitor 0", "churn")
    assert verdict.id.startswith("verdict-")


def drifted(shift: float, parts: Iterable[float]) -> Subject:
    grid = Grid.fit(np.linspace(0, 1, 1001))
    rng = np.random.default_rng(5)
    start = DAY_ONE.end - 6 * DAY
    days = [profile_of((rng.random(400) + shift * on).tolist(), grid) for on in parts]
    whole = profile_of(np.concatenate([rng.random(400) + shift * on for on in parts]).tolist(), grid)
    dated = tuple((start + i * DAY, day) for i, day in enumerate(days))
    return replace(subject(whole, profile_of(np.linspace(0, 1, 1001).tolist(), grid), grid=grid), parts=dated)


def test_a_breach_by_drift_says_when_it_began() -> None:
    found, _ = watch(model({"metric": "ks", "columns": ["age"], "above": 0.1}))
    point = point_of(found, drifted(0.9, [0, 0, 0, 1, 1, 1]))
    assert point.detail["began"] == (DAY_ONE.end - 3 * DAY).isoformat()
    assert "began" not in point_of(found, drifted(0.0, [0, 0, 0, 1, 1, 1])).detail
    assert find("ks").cause == "drift"


def test_what_all_descriptors_share_is_looked_at_once_and_moments_drift_only_where_asked() -> None:
    columns = {"note": {"kind": "text"}, "seen": {"kind": "datetime"}, "x": {"kind": "numeric"}}
    config = model({"metric": "null_rate", "columns": "features", "above": 0.1}, columns=columns)
    assert [watch.column for watch in plan(config)] == ["note.length", "seen", "x"]
    config = model({"metric": "ks", "columns": "features", "above": 0.1}, columns=columns)
    assert {watch.column for watch in plan(config)} == {*(f"note.{d}" for d in DESCRIPTORS), "seen.age", "x"}
    config = model({"metric": "ks", "columns": ["seen"], "above": 0.1}, columns=columns)
    assert [watch.column for watch in plan(config)] == ["seen"]
