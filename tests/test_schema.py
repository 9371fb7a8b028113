"""The configuration's words are strict: what cannot be meant is refused, with where and why."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from watchkeeper.errors import ConfigError
from watchkeeper.records import Severity
from watchkeeper.schema import (
    Ago,
    ChannelConfig,
    ColumnConfig,
    Config,
    Kind,
    ModelConfig,
    MonitorConfig,
    RetrainConfig,
    RolloutConfig,
)
from watchkeeper.settings import KeyConfig, RetentionConfig
from watchkeeper.windows import DAY, HOUR, Window

COLUMNS = {"age": {"kind": "numeric"}, "country": {"kind": "categorical"}}
MONITOR = {"name": "drift", "metric": "psi", "columns": "features", "above": 0.2}


def model(**settings: Any) -> ModelConfig:
    return ModelConfig.model_validate({"columns": COLUMNS, **settings})


def monitor(**settings: Any) -> MonitorConfig:
    return MonitorConfig.model_validate({**MONITOR, **settings})


def test_a_model_needs_its_columns_alone() -> None:
    config = model()
    assert (config.task, config.grain, config.grain_length) == ("binary", "1d", DAY)
    assert config.columns["age"] == ColumnConfig(kind=Kind.NUMERIC)
    assert config.monitors is None
    assert config.retrain is None
    assert config.alarm_budget == {Severity.P0: 0.1, Severity.P1: 0.5, Severity.P2: 2.0}


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        (ColumnConfig, {"kind": "numeric"}),
        (MonitorConfig, MONITOR),
        (RetrainConfig, {"trainer": "jobs:train"}),
        (RolloutConfig, {}),
        (ModelConfig, {"columns": COLUMNS}),
        (Config, {"models": {}}),
    ],
)
def test_an_unknown_key_is_refused_everywhere(kind: Any, settings: dict[str, Any]) -> None:
    kind.model_validate(settings)
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        kind.model_validate({**settings, "no_such_key": 1})


def test_a_channel_keeps_what_it_does_not_know_for_the_channel_itself() -> None:
    channel = ChannelConfig.model_validate({"type": "slack", "severity": "P0", "url": "https://example.org"})
    assert (channel.type, channel.severity, channel.settings) == (
        "slack", Severity.P0, {"url": "https://example.org"},
    )  # fmt: skip


def test_a_configuration_cannot_be_altered_in_place() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        model().grain = "1h"  # type: ignore[misc]


# durations


@pytest.mark.parametrize(("text", "length"), [("1d", DAY), ("36h", 36 * HOUR), ("2w", 14 * DAY)])
def test_a_duration_is_read_as_written(text: str, length: timedelta) -> None:
    assert monitor(window=text).window == length
    assert monitor(window=length).window == length


@pytest.mark.parametrize("wrong", ["P7D", "7 days", "", "0d", 7, 0.5, True, None, -DAY, 0 * DAY, DAY / 86_400_001])
def test_what_is_no_duration_is_refused_with_an_example(wrong: object) -> None:
    with pytest.raises(ValidationError, match="such as 15m, 1h, 7d or 2w"):
        monitor(window=wrong)


def test_a_baseline_is_the_reference_or_a_duration() -> None:
    assert monitor().baseline is None
    assert monitor(baseline="reference").baseline is None
    assert monitor(baseline=None).baseline is None
    assert monitor(baseline="28d").baseline == 28 * DAY
    for wrong in ("last month", "previously", "yesterday", "4 x 7d"):
        with pytest.raises(ValidationError, match="is no baseline; write reference, previous, seasonal, a duration"):
            monitor(baseline=wrong)
    with pytest.raises(ValidationError, match="is no baseline"):
        monitor(baseline=28)


AT_NOON = Window(datetime(2024, 3, 8, 12, tzinfo=UTC), datetime(2024, 3, 8, 13, tzinfo=UTC))


@pytest.mark.parametrize(
    ("written", "kept", "compared"),
    [
        ("reference", None, []),
        ("24h", DAY, [("03-07 12", "03-08 12")]),
        ("previous", "previous", [("03-08 11", "03-08 12")]),
        ("7d ago", Ago(7 * DAY), [("03-01 12", "03-01 13")]),
        ("1w ago", Ago(7 * DAY), [("03-01 12", "03-01 13")]),
        ("52w ago", Ago(364 * DAY), [("03-10 12", "03-10 13")]),
        ("2 x 7d ago", Ago(7 * DAY, 2), [("03-01 12", "03-01 13"), ("02-23 12", "02-23 13")]),
        ("2x1d ago", Ago(DAY, 2), [("03-07 12", "03-07 13"), ("03-06 12", "03-06 13")]),
    ],
)
def test_a_baseline_is_so_many_windows_of_the_past(written: str, kept: object, compared: list[tuple[str, str]]) -> None:
    found = monitor(baseline=written, window="1h")
    assert found.baseline == kept
    assert [(f"{w.start:%m-%d %H}", f"{w.end:%m-%d %H}") for w in found.before(AT_NOON)] == compared
    assert monitor(**{**found.model_dump(mode="json"), "name": "drift"}) == found
    assert MonitorConfig.model_validate_json(found.model_dump_json(), strict=True) == found


def test_a_baseline_a_year_ago_is_of_the_same_weekday() -> None:
    [before] = monitor(baseline="364d ago", window="1d").before(Window(AT_NOON.start, AT_NOON.start + DAY))
    assert (before.start.weekday(), before.start.year) == (AT_NOON.start.weekday(), 2023)


def test_a_baseline_some_time_ago_lies_before_the_window() -> None:
    with pytest.raises(ValidationError, match="overlaps its window: look back at least 14d, found 2 x 7d ago"):
        monitor(baseline="2 x 7d ago", window="14d")
    assert monitor(baseline="7d ago", window="7d").before(Window(AT_NOON.start, AT_NOON.start + 7 * DAY))
    for times in (0, 54):
        with pytest.raises(ValidationError, match=f"looks back {times} times; write 1 to 53"):
            monitor(baseline=f"{times} x 7d ago")
    with pytest.raises(ValidationError, match='"7y" is no duration'):
        monitor(baseline="7y ago")


# monitors


def test_a_monitor_has_one_limit_on_one_side() -> None:
    assert (monitor().limit, monitor().direction) == (0.2, "above")
    below = monitor(above=None, below=0.0)
    assert (below.limit, below.direction) == (0.0, "below")
    for limits in ({"above": None}, {"below": 0.1}):
        with pytest.raises(ValidationError, match='monitor "drift" needs one limit: either above or below'):
            monitor(**limits)


@pytest.mark.parametrize("limit", [math.nan, math.inf, -math.inf])
def test_a_limit_that_nothing_can_cross_is_refused(limit: float) -> None:
    with pytest.raises(ValidationError, match="finite"):
        monitor(above=limit)


@pytest.mark.parametrize("columns", [[], ["age", "age"]])
def test_a_monitor_names_each_of_its_columns_once(columns: list[str]) -> None:
    with pytest.raises(ValidationError, match="each of its columns once, and one at least"):
        monitor(columns=columns)


def test_the_windows_of_a_model_are_whole_grains() -> None:
    assert model(grain="1h", monitors=[{**MONITOR, "window": "90m"} | {"window": "3h"}]).grain_length == HOUR
    with pytest.raises(ValidationError, match='of monitor "drift" must be a multiple of the grain 1d, found 36h'):
        model(monitors=[{**MONITOR, "window": "36h"}])
    with pytest.raises(ValidationError, match='baseline of monitor "drift" must be a multiple of the grain 1d'):
        model(monitors=[{**MONITOR, "baseline": "36h"}])
    with pytest.raises(ValidationError, match='baseline of monitor "drift" must be a multiple of the grain 1d'):
        model(monitors=[{**MONITOR, "baseline": "36h ago"}])
    with pytest.raises(ValidationError, match="label_delay must be a multiple of the grain 1d"):
        model(label_delay="1h")


def test_two_monitors_of_one_name_are_refused() -> None:
    with pytest.raises(ValidationError, match='two monitors are called "drift"'):
        model(monitors=[MONITOR, {**MONITOR, "above": 0.3}])


# names


@pytest.mark.parametrize("name", ["score", "request_id", "label", "arrival", "grain_start", "Score", "LABEL", ""])
def test_a_feature_cannot_take_a_name_with_a_meaning_of_its_own(name: str) -> None:
    with pytest.raises(ValidationError, match="a feature cannot be called"):
        model(columns={name: {"kind": "numeric"}})


def test_features_and_models_differ_in_more_than_case() -> None:
    with pytest.raises(ValidationError, match='two features are called "Age" and "age", which differ only in case'):
        model(columns={"Age": {"kind": "numeric"}, "age": {"kind": "numeric"}})
    with pytest.raises(ValidationError, match='two models are called "fraud" and "Fraud"'):
        Config.model_validate({"models": {"fraud": {"columns": COLUMNS}, "Fraud": {"columns": COLUMNS}}})


@pytest.mark.parametrize("name", ["", "1st", "a b", 'a"b', "ä", "a/b", "a" * 64])
def test_a_model_has_a_plain_name(name: str) -> None:
    Config.model_validate({"models": {"a" * 63: {"columns": COLUMNS}}})
    with pytest.raises(ValidationError, match="cannot name a model"):
        Config.model_validate({"models": {name: {"columns": COLUMNS}}})


def test_a_model_without_features_is_refused() -> None:
    with pytest.raises(ValidationError, match="at least 1 item"):
        model(columns={})


# budgets, retraining, rollouts


@pytest.mark.parametrize("budget", [{"P1": 1, "P2": 1}, {"P0": 0, "P1": 1, "P2": 1}, {"P0": -1, "P1": 1, "P2": 1}])
def test_every_severity_has_a_budget_above_zero(budget: dict[str, float]) -> None:
    with pytest.raises(ValidationError, match="alarm_budget needs a number above 0 for P0"):
        model(alarm_budget=budget)


def test_a_budget_is_a_number() -> None:
    with pytest.raises(ValidationError, match="finite"):
        model(alarm_budget={"P0": math.nan, "P1": 1, "P2": 1})


def test_a_hold_out_is_shorter_than_what_it_is_cut_from() -> None:
    with pytest.raises(ValidationError, match="hold_out must be shorter than train_on"):
        RetrainConfig.model_validate({"trainer": "jobs:train", "train_on": "14d", "hold_out": "14d"})


@pytest.mark.parametrize("trainer", ["jobs", "jobs:", ":train", "jobs.py:train now", "../jobs:train"])
def test_a_trainer_is_a_module_and_a_function(trainer: str) -> None:
    with pytest.raises(ValidationError, match="should match pattern"):
        RetrainConfig.model_validate({"trainer": trainer})


@pytest.mark.parametrize("stages", [[], [1.0], [0.1, 0.5], [0.0, 1.0], [0.5, 1.5], [-0.1, 1.0]])
def test_stages_are_shares_that_end_with_all_and_begin_with_less(stages: list[float]) -> None:
    with pytest.raises(ValidationError, match=r"end with 1\.0, such as \[0\.05, 0\.25, 1\.0\]"):
        RolloutConfig.model_validate({"stages": stages})


@pytest.mark.parametrize("stages", [[0.5, 0.1, 1.0], [0.1, 0.1, 1.0]])
def test_stages_grow(stages: list[float]) -> None:
    with pytest.raises(ValidationError, match="stages must grow"):
        RolloutConfig.model_validate({"stages": stages})


def test_a_rollout_has_time_for_its_stages() -> None:
    RolloutConfig.model_validate({"stages": [0.1, 0.5, 1.0], "hold": "2d", "max_duration": "5d"})
    with pytest.raises(ValidationError, match="max_duration must be longer than all the stages are held"):
        RolloutConfig.model_validate({"stages": [0.1, 0.5, 1.0], "hold": "2d", "max_duration": "4d"})


# versions


def config(**settings: Any) -> Config:
    return Config.model_validate({"models": {"churn": {"columns": COLUMNS, **settings}}})


def test_a_configuration_is_named_by_its_meaning() -> None:
    named = config(resolve_after="3d").version
    assert named.startswith("config-")
    assert len(named) == len("config-") + 12
    assert config(resolve_after="72h").version == named
    assert config().version == named, "a default that is written out changes nothing"
    assert config(resolve_after="4d").version != named
    assert config(threshold=0.4).version != named


def test_a_configuration_survives_json() -> None:
    whole = config(
        monitors=[
            {**MONITOR, "baseline": "28d"},
            {**MONITOR, "name": "other", "columns": ["age"], "baseline": "4 x 7d ago"},
        ],
        retrain={"trainer": "jobs:train", "causes": ["drift"]},
        fallback_score=0.1,
    )
    back = Config.model_validate(json.loads(json.dumps(whole.model_dump(mode="json"), allow_nan=False)))
    assert back == whole
    assert back.version == whole.version


def test_a_mistake_inside_a_monitor_knows_its_place() -> None:
    with pytest.raises(ValidationError) as caught:
        model(monitors=[MONITOR, {**MONITOR, "name": "other", "columns": []}])
    (problem,) = caught.value.errors()
    assert problem["loc"] == ("monitors", 1)
    assert isinstance(problem["ctx"]["error"], ConfigError)
    assert problem["ctx"]["error"].path == ("columns",)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"kind": "categorical", "min": 0}, "min is for numeric columns, this one is categorical"),
        ({"kind": "text", "max": 0}, "max is for numeric columns, this one is text"),
        ({"kind": "numeric", "min": 2, "max": 1}, "min must not be above max, found 2 and 1"),
        ({"kind": "numeric", "categories": ["a"]}, "categories is for categorical columns, this one is numeric"),
        ({"kind": "categorical", "categories": []}, "categories must name each category once, and one at least"),
        ({"kind": "categorical", "categories": ["1", 1]}, "categories must name each category once"),
        ({"kind": "categorical", "categories": ["a", "NA"], "missing": ["NA"]}, '"NA" is both a category and missing'),
        ({"kind": "numeric", "max_nulls": 1.2}, "less than or equal to 1"),
    ],
)
def test_a_contract_that_contradicts_itself_is_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        ColumnConfig.model_validate(settings)


def test_categories_may_be_written_without_quotes() -> None:
    column = ColumnConfig.model_validate({"kind": "categorical", "categories": [1, 2.0, 2.5, True, "x"]})
    assert column.categories == ("1", "2", "2.5", "true", "x")


# privacy and retention


def _private(**settings: Any) -> ModelConfig:
    columns = {"a": {"kind": "categorical", "sensitive": "mask"}, "b": {"kind": "categorical"}, "c": {"kind": "text"}}
    return ModelConfig.model_validate({"columns": columns, **settings})


def test_values_of_sensitive_columns_are_named_from_five_rows_on() -> None:
    assert {name: f.named_from for name, f in _private().features.items() if name in "ab"} == {"a": 5, "b": 0}
    for_all = _private(privacy={"k_anonymity": 20}).features
    assert {name: f.named_from for name, f in for_all.items() if name in "ab"} == {"a": 20, "b": 20}


def test_dropped_columns_are_neither_stored_nor_watched() -> None:
    model = ModelConfig.model_validate(
        {"columns": {"a": {"kind": "text", "sensitive": "drop"}, "b": {"kind": "numeric"}}}
    )
    assert (list(model.stored), list(model.features)) == (["b"], ["b"])


@pytest.mark.parametrize(("written", "size"), [("20GB", 20 * 10**9), ("1.5 TB", 1_500 * 10**9), ("500MB", 5 * 10**8)])
def test_sizes_are_written_with_their_unit(written: str, size: int) -> None:
    retention = _private(retention={"size": written}).retention
    assert retention.size == size
    again = RetentionConfig.model_validate(retention.model_dump(mode="json"))
    assert again == retention


def test_a_previous_key_needs_a_present_one() -> None:
    with pytest.raises(ValidationError, match="previous keys and no key"):
        KeyConfig.model_validate({"previous_keys": ["env:OLD"]})
