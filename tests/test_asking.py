"""`watchkeeper events`: the table, JSON, files, what sets mistakes apart, and each mistake of the user's own."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

import test_cli
from test_cli import Run, refused
from watchkeeper import config
from watchkeeper.store import exports
from watchkeeper.store.backends import DuckDB
from watchkeeper.store.fitting import table
from watchkeeper.store.log import Log
from watchkeeper.windows import DAY, HOUR

START = datetime(2024, 3, 1, tzinfo=UTC)
YAML = """\
models:
  delays:
    columns:
      distance: {kind: numeric}
      origin: {kind: categorical}
"""
N = 3000
run = test_cli.run


def stored(folder: Path, text: str = YAML, model: str = "delays") -> Log:
    (folder / "watchkeeper.yaml").write_text(text)
    log = Log(DuckDB(folder / ".watchkeeper" / "log.duckdb"))
    log.open_model(model, config.load(folder / "watchkeeper.yaml").models[model])
    return log


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a log whose model is often wrong about long flights."""
    dice = np.random.default_rng(1)
    distance = np.round(dice.random(N) * 1000)
    label = dice.integers(0, 2, N)
    wrong = dice.random(N) < np.where(distance > 700, 0.6, 0.1)
    score = np.where(wrong, 1 - label, label) * 0.6 + 0.2
    log = stored(tmp_path)
    log.append(
        "delays",
        table(
            {
                "request_id": [f"r{i}" for i in range(N)],
                "event_time": [START + i * HOUR / 10 for i in range(N)],
                "version": ["v1" if i % 2 else "v2" for i in range(N)],
                "entity_id": [f"u{i % 50}" for i in range(N)],
                "score": score,
                "distance": distance,
                "origin": dice.choice(["JFK", "[bold]LGA"], N).tolist(),
            }
        ),
    )
    log.append_outcomes(
        "delays", table({"request_id": [f"r{i}" for i in range(N)], "label": label, "known_at": [START] * N})
    )
    log.close()
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("WATCHKEEPER_SERVER", raising=False)
    return tmp_path


def test_a_table_shows_predictions_with_their_features_and_labels(run: Run, folder: Path) -> None:
    done = run("events", "delays", "--where", "distance > 900", "--error", ">= 0.5", "--order", "oldest", "--limit", 3)
    assert (done.code, done.err) == (0, "")
    lines = done.out.splitlines()
    assert lines[0].split() == [
        "Time", "(UTC)", "Request", "Version", "User", "Score", "Label", "Error", "distance", "origin",
    ]  # fmt: skip
    assert len([line for line in lines if line.startswith("2024-03-")]) == 3
    first = next(line for line in lines if line.startswith("2024-03-")).split()
    assert float(first[7]) == 0.8
    assert float(first[8]) > 900
    assert first[9] in ("JFK", "[bold]LGA")
    assert "there may be more predictions" in done.out


def test_numbers_stand_under_each_other(run: Run, folder: Path) -> None:
    lines = run("events", "delays", "--limit", 40).out.splitlines()
    end = lines[0].index("distance") + len("distance")
    rows = [line for line in lines if line.startswith("2024-03-")]
    assert len(rows) == 40
    assert all(row[end - 1].isdigit() and row[end : end + 2].strip() == "" for row in rows)


def test_where_nobody_looks_nothing_is_cut_off(run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    done = run("events", "delays", "--limit", 200)
    assert "…" not in done.out
    rows = [line.split() for line in done.out.splitlines() if line.startswith("2024-03-")]
    assert len(rows) == 200
    assert all(row[-1] in ("JFK", "[bold]LGA") and len(row) == 10 for row in rows)


def test_the_filters_narrow_it_down(run: Run, folder: Path) -> None:
    done = run(
        "events", "delays", "--user", "u7", "--user", "u8", "--version", "v1", "--since", "2024-03-02", "--until",
        "2024-03-05T00:00", "--where", "origin = '[bold]LGA'", "--json",
    )  # fmt: skip
    found = [json.loads(line) for line in done.out.splitlines()]
    assert found
    for event in found:
        assert event["entity_id"] == "u7"  # u8 only ever got v2
        assert event["version"] == "v1"
        assert START + DAY <= datetime.fromisoformat(event["event_time"]) < START + 4 * DAY
        assert event["features"]["origin"] == "[bold]LGA"
        assert event["label"] in (0, 1)
    assert run("events", "delays", "--request", "r5", "--json").out.count("\n") == 1
    assert run("events", "delays", "--request", "none").out == "No prediction is as asked for.\n"


def test_an_export_holds_all_and_says_what_it_is(run: Run, folder: Path) -> None:
    done = run("events", "delays", "--where", "distance <= 500", "--out", "short.parquet")
    found = pq.read_table("short.parquet")
    assert done.out == f"{found.num_rows:,} predictions of delays written to short.parquet\n"
    assert max(found["distance"].to_pylist()) <= 500
    assert exports.about(found.schema) == {
        "model": "delays",
        "question": "distance <= 500; newest first",
        "config": config.load(Path("watchkeeper.yaml")).version,
        "threshold": 0.5,
    }
    assert run("events", "delays", "--out", "all.csv").out.startswith("3,000 predictions")
    assert (folder / "all.csv").read_text().count("\n") == N + 1


def test_what_goes_with_mistakes_is_told(run: Run, folder: Path) -> None:
    done = run("events", "delays", "--explain-errors")
    assert done.code == 0
    assert "wrong predictions of delays (now), held against" in done.out
    assert "1 of 2 columns breaches a limit: distance" in done.out


def test_mistakes_need_wrong_and_right_predictions(run: Run, folder: Path) -> None:
    refused(run("events", "delays", "--explain-errors", "--error", "< 0.5"), "none with a label is wrong")
    refused(run("events", "delays", "--explain-errors", "--error", "> 0.5"), "none with a label is right")


def test_each_mistake_is_told_in_words(run: Run, folder: Path) -> None:
    refused(run("events", "delay"), 'no model "delay"; did you mean "delays"?')
    refused(run("events", "delays", "--where", "distanse > 5"), 'did you mean "distance"?')
    refused(run("events", "delays", "--out", "all.xls"), "has the ending of no format")
    refused(
        run("events", "delays", "--store", "elsewhere"), "there is no log in elsewhere; name its folder with --store"
    )
    refused(run("events", "delays", "--server", "http://127.0.0.1:9"), "the server http://127.0.0.1:9 gave no whole")
    refused(run("events", "delays", "--server", "nothing"), "the server nothing gave no whole answer")
    assert not (folder / "elsewhere").exists()


def test_a_log_that_is_held_says_so_and_what_to_type(run: Run, folder: Path) -> None:
    code = (
        "import sys, duckdb\nheld = duckdb.connect('.watchkeeper/log.duckdb')\n"
        "print('held', flush=True)\nsys.stdin.read()"
    )
    holder = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert holder.stdin is not None
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    refused(
        run("events", "delays"), "log.duckdb is held by another process, such as watchkeeper serve", "--server http://"
    )
    holder.stdin.close()
    holder.wait(30)
    holder.stdout.close()
    assert run("events", "delays").code == 0


def test_a_subject_is_asked_for_by_its_plain_name(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SECRET", "0123456789" * 4)
    from_plain = """\
models:
  loans:
    columns: {amount: {kind: numeric}}
    privacy: {entity_id: pseudonymise}
privacy: {key: env:SECRET}
"""
    stored(tmp_path, from_plain, "loans").close()
    (tmp_path / "p.csv").write_text("request_id,event_time,entity_id,amount\na,2024-03-01,ann,1\nb,2024-03-01,bob,2\n")
    assert run("log", "p.csv", "--model", "loans").code == 0
    assert run("tick").code == 0
    done = run("events", "loans", "--user", "ann", "--json")
    (found,) = [json.loads(line) for line in done.out.splitlines()]
    assert found["request_id"] == "a"
    assert "ann" not in done.out
    run("events", "loans", "--user", "ann", "--out", "ann.parquet")
    assert b"ann" not in Path("ann.parquet").read_bytes().replace(b"ann.parquet", b"")
