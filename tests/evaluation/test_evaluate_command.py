"""`watchkeeper evaluate`: what it prints, writes and exits with."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from watchkeeper.cli import app
from watchkeeper.errors import ConfigError, DataError


@pytest.fixture
def file(tmp_path: Path) -> Path:
    rng = np.random.default_rng(1)
    score = rng.beta(1, 2, 1000)
    label = (rng.random(1000) < score).astype(int)
    pq.write_table(pa.table({"score": score, "label": label, "country": ["NL", "DE"] * 500}), tmp_path / "p.parquet")
    return tmp_path / "p.parquet"


def test_metrics_are_printed_and_written(file: Path) -> None:
    written = file.with_suffix(".json"), file.with_suffix(".html")
    done = CliRunner().invoke(
        app, ["evaluate", str(file), "--segment", "country", "--json", str(written[0]), "--html", str(written[1])]
    )
    assert done.exit_code == 0
    assert "AUC" in done.stdout
    assert "country=NL" in done.stdout
    assert json.loads(written[0].read_text())["task"] == "binary"
    assert written[1].read_text().startswith("<!doctype html>")


def test_json_goes_to_standard_output(file: Path) -> None:
    done = CliRunner().invoke(app, ["evaluate", str(file), "--json", "-"])
    assert {point["metric"] for point in json.loads(done.stdout)["points"]} >= {"auc", "f1", "log_loss"}


@pytest.mark.parametrize(
    ("limits", "code"),
    [
        (["--at-least", "auc=0.5", "--at-most", "log_loss=2"], 0),
        (["--at-least", "auc=0.99"], 1),
        (["--at-most", "log_loss=0.01"], 1),
    ],
)
def test_a_limit_is_breached_where_the_whole_interval_lies_beyond_it(file: Path, limits: list[str], code: int) -> None:
    done = CliRunner().invoke(app, ["evaluate", str(file), *limits])
    assert done.exit_code == code
    assert ("the limit is" in done.stdout) is bool(code)


@pytest.mark.parametrize(
    ("arguments", "kind", "said"),
    [
        (["--at-least", "auc"], ConfigError, "is no limit"),
        (["--at-least", "acu=1"], ConfigError, "no metric"),
        (["--false-positive", "1"], ConfigError, "both mistakes"),
        (["--label", "lable"], DataError, "did you mean"),
    ],
)
def test_what_cannot_be_meant_is_refused(file: Path, arguments: list[str], kind: type[Exception], said: str) -> None:
    done = CliRunner().invoke(app, ["evaluate", str(file), *arguments])
    assert isinstance(done.exception, kind)
    assert said in str(done.exception)
