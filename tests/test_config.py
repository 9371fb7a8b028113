"""Configurations: what is read as what, and what is said of each mistake."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

import watchkeeper.demo
from watchkeeper.config import changes, json_schema, load, loads, only_model
from watchkeeper.errors import ConfigError
from watchkeeper.records import Severity
from watchkeeper.schema import ColumnConfig, Config, Kind, ModelConfig, MonitorConfig

WRONG = sorted((Path(__file__).parent / "wrong_configs").glob("*.yaml"))

MODEL = """\
models:
  flights:
    columns:
      temp: {kind: numeric, missing: [-999]}
      carrier: {kind: categorical}
"""


def wrong(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        loads(text)
    return str(caught.value).splitlines()


def test_there_are_wrong_configurations() -> None:
    assert len(WRONG) >= 25


@pytest.mark.parametrize("path", WRONG, ids=lambda path: path.stem)
def test_a_mistake_is_told_with_its_line(path: Path) -> None:
    expected = path.read_text(encoding="utf-8").splitlines()[0].removeprefix("# ")
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert str(caught.value) == f"{path}:{expected}"


def test_every_mistake_is_told_at_once_in_the_order_of_the_file() -> None:
    told = wrong(
        MODEL.replace("numeric", "number").replace("categorical", "category")
        + "    thresold: 0.4\nchannels:\n  ops: {severity: P9, type: console}\n"
    )
    assert [line.split(": ")[0] for line in told] == [f"watchkeeper.yaml:{n}" for n in (4, 5, 6, 8)]


def test_every_monitor_that_cannot_be_meant_is_told() -> None:
    told = wrong(
        MODEL
        + """\
    monitors:
      - {name: one, metric: psii, above: 0.1}
      - {name: two, metric: ks, columns: [carrier], above: 0.1}
      - {name: three, metric: psi, columns: [tempo], above: 0.1}
channels:
  ops: {type: consol}
"""
    )
    assert [line.split(": ")[0] for line in told] == [f"watchkeeper.yaml:{n}" for n in (7, 8, 9, 11)]
    assert told[0] == 'watchkeeper.yaml:7: monitors: there is no metric "psii"; did you mean "psi"?'


def test_the_path_of_the_first_mistake_is_kept() -> None:
    with pytest.raises(ConfigError) as caught:
        loads(MODEL + "    monitors:\n      - {name: one, metric: psii, above: 0.1}\n")
    assert caught.value.path == ("models", "flights", "monitors", 0, "metric")


def test_the_model_is_named_where_there_are_several() -> None:
    told = wrong(MODEL + "    threshold: 3\n  trains:\n    columns: {delay: {kind: numeric}}\n")
    assert told == ["watchkeeper.yaml:6: models.flights.threshold: must be less than 1, found 3"]


def test_a_whole_configuration_is_read() -> None:
    config = loads(
        MODEL
        + """\
    grain: 1d
    label_delay: 2d
    alarm_budget: {P0: 0.1, P1: 1, P2: 2}
    monitors:
      - name: input drift
        metric: psi
        columns: features
        window: 7d
        above: 0.25
        baseline: 2w
    rollout: {stages: [0.1, 1.0]}
channels:
  ops: {type: webhook, severity: P1, url: "env:NO_SUCH_VARIABLE_IS_SET"}
"""
    )
    model = config.models["flights"]
    assert model.columns["temp"] == ColumnConfig(kind=Kind.NUMERIC, missing=(-999,))
    assert model.label_delay == timedelta(days=2)
    assert model.alarm_budget[Severity.P1] == 1
    assert model.monitors == (
        MonitorConfig(
            name="input drift",
            metric="psi",
            columns="features",
            window=timedelta(days=7),
            above=0.25,
            baseline=timedelta(days=14),
        ),
    )
    assert model.rollout.stages == (0.1, 1.0)
    assert config.channels["ops"].settings == {"url": "env:NO_SUCH_VARIABLE_IS_SET"}


def test_a_file_reads_as_what_it_says_in_code() -> None:
    columns = {
        "temp": ColumnConfig(kind=Kind.NUMERIC, missing=(-999,)),
        "carrier": ColumnConfig(kind=Kind.CATEGORICAL),
    }
    assert loads(MODEL).version == Config(models={"flights": ModelConfig(columns=columns)}).version


@pytest.mark.parametrize(
    "name", ["no", "on", "off", "y", "2013", "2013-07-04", "1:30", "1e3", "null", "~", "0x1f", "é"]
)
def test_a_column_keeps_its_name(name: str) -> None:
    assert [*loads(f"models: {{m: {{columns: {{{name}: {{kind: numeric}}}}}}}}").models["m"].columns] == [name]


@pytest.mark.parametrize(
    ("text", "value"),
    [("0.25", 0.25), ("1e-3", 0.001), ("5.", 5.0), (".5", 0.5), ("010", 10.0), ("0x10", 16.0), ("-1", -1.0)],
)
def test_numbers_are_read_as_yaml_1_2_has_them(text: str, value: float) -> None:
    config = loads(MODEL + f"    monitors:\n      - {{name: a, metric: psi, above: {text}}}\n")
    assert config.models["flights"].monitors is not None
    assert config.models["flights"].monitors[0].above == value


def test_anchors_aliases_and_merges_work() -> None:
    config = loads(
        """\
models:
  one: &one
    columns: &columns
      temp: {kind: numeric}
    threshold: 0.4
  two:
    <<: *one
    threshold: 0.6
  three:
    columns: *columns
"""
    )
    assert [model.threshold for model in config.models.values()] == [0.4, 0.6, 0.5]
    assert len({tuple(model.columns) for model in config.models.values()}) == 1


def test_a_mistake_in_an_alias_is_told_where_it_is_written() -> None:
    told = wrong("models:\n  one:\n    columns: &c\n      temp: {kind: number}\n  two:\n    columns: *c\n")
    assert [line.split(": ")[0] for line in told] == ["watchkeeper.yaml:4"] * 2


def test_aliases_cannot_blow_up() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 8)]
    assert "aliases blow the file up" in wrong("\n".join(lines))[0]


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"there is no configuration file .*nowhere\.yaml; check the path"):
        load(tmp_path / "nowhere.yaml")


def test_a_folder_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is a folder; give the YAML file in it"):
        load(tmp_path)


def test_a_file_that_is_not_utf_8_is_told_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "latin.yaml"
    path.write_bytes((MODEL + "# caf\xe9\n").encode("latin-1"))
    with pytest.raises(ConfigError, match=r"latin\.yaml:6: this is not UTF-8 text"):
        load(path)


def test_a_file_with_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    path = tmp_path / "bom.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + MODEL.encode())
    assert "flights" in load(path).models


def test_a_control_character_is_told_with_its_line() -> None:
    assert wrong(MODEL + "# \x01\n") == [
        "watchkeeper.yaml:6: there is a character that YAML does not allow; delete it",
    ]


def test_an_empty_text_is_told() -> None:
    assert wrong("") == ['watchkeeper.yaml:1: the file is empty; it needs "models:" with at least one model']


def test_the_only_model_is_found() -> None:
    config = loads(MODEL)
    assert only_model(config, "f.yaml") == ("flights", config.models["flights"])


def test_one_of_several_models_is_asked_for() -> None:
    config = loads(MODEL + "  trains:\n    columns: {delay: {kind: numeric}}\n")
    with pytest.raises(ConfigError, match=r"f\.yaml has 2 models \(flights, trains\) and one is needed here"):
        only_model(config, "f.yaml")


# What differs


def plain(text: str) -> dict[str, Any]:
    return loads(text).model_dump(mode="json")


MONITORED = (
    MODEL
    + """\
    monitors:
      - {name: cold, metric: ks, columns: [temp], above: 0.1}
      - {name: late, metric: volume, below: 10}
"""
)


def test_equal_configurations_do_not_differ_however_they_are_written() -> None:
    assert (
        changes(plain(MONITORED), plain(MONITORED.replace("{name: cold, metric: ks", "{metric: ks, name: cold"))) == []
    )


def test_changes_are_named_by_where_they_are() -> None:
    new = MONITORED.replace("above: 0.1", "above: 0.2").replace("carrier: {kind: categorical}", "dep: {kind: numeric}")
    found = changes(plain(MONITORED), plain(new))
    assert [(c.place, c.what) for c in found] == [
        ("models.flights.columns.carrier", "removed"),
        ("models.flights.columns.dep", "added"),
        ("models.flights.monitors.cold.above", "changed"),
    ]
    assert found[2].sentence == "models.flights.monitors.cold.above: 0.1 becomes 0.2"
    assert found[0].sentence.startswith('models.flights.columns.carrier: removed, {"kind": "categorical"')


def test_a_monitor_that_comes_in_between_is_one_change() -> None:
    new = MONITORED.replace(
        "      - {name: late", "      - {name: warm, metric: psi, columns: [temp], above: 0.2}\n      - {name: late"
    )
    [found] = changes(plain(MONITORED), plain(new))
    assert (found.place, found.what, found.new["metric"]) == ("models.flights.monitors.warm", "added", "psi")


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_nothing_differs_from_itself_and_all_is_new_to_nothing(value: Any) -> None:
    assert changes(value, value) == []
    assert [(c.place, c.what) for c in changes({}, {"a": value})] == [("a", "added")]


# For editors


def test_the_schema_takes_what_is_right() -> None:
    schema = jsonschema_rs.Draft202012Validator(json_schema())
    demo = Path(watchkeeper.demo.__file__).parent / "watchkeeper.yaml"
    texts = [MODEL, MONITORED, demo.read_text()]
    texts.append(
        MODEL
        + """\
    grain: 1h
    label_delay: 36h
    retention: {age: 90d, size: 20GB}
    alarm_budget: {P0: 0.1, P1: 1, P2: 3}
    segments: [carrier, [carrier, temp]]
    monitors: [{name: slow, metric: p95, above: 100, window: 1h, baseline: 4 x 7d ago, relative: ratio}]
channels: {team: {type: email, severity: P1, to: [team@example.com]}}
"""
    )
    for text in texts:
        schema.validate(yaml.safe_load(text))


@pytest.mark.parametrize(
    "text",
    [
        MODEL.replace("columns:", "colums:"),
        MODEL.replace("numeric", "number"),
        MODEL + "    grain: 2h\n",
        MODEL + "    label_delay: soon\n",
        MODEL + "    retention: {size: much}\n",
        MODEL + "channels: {team: {type: pigeon}}\n",
        MONITORED.replace("{name: cold, ", "{"),
    ],
)
def test_the_schema_refuses_what_is_wrong_by_itself(text: str) -> None:
    schema = jsonschema_rs.Draft202012Validator(json_schema())
    assert not schema.is_valid(yaml.safe_load(text))


def test_the_schema_names_metrics_and_durations_as_they_are_written() -> None:
    monitor = json_schema()["$defs"]["MonitorConfig"]["properties"]
    assert "psi" in monitor["metric"]["anyOf"][0]["enum"]
    assert monitor["window"]["default"] == "1d"
    assert json_schema()["$defs"]["ModelConfig"]["properties"]["resolve_after"]["default"] == "3d"
