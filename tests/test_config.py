"""Configurations: what is read as what, and what is said of each mistake."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from watchkeeper.config import load, loads, only_model
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
