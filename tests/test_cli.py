"""The command line: what each command does with files, its exit code, and one clear message for each mistake."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

import seals
from small_world import ROWS, moment, values
from test_training import until
from watchkeeper import cli
from watchkeeper.commands import options
from watchkeeper.engine import Engine

YAML = """\
models:
  loans:
    columns:
      amount: {kind: numeric}
      country: {kind: categorical}
    monitors:
      - {name: sentinel values, metric: sentinel_rate, columns: [amount], above: 0.005, severity: P1}
      - {name: missing values, metric: null_rate, columns: features, above: 0.05, severity: P1}
    reference: reference.csv
"""


@dataclass
class Done:
    code: int
    out: str
    err: str


Run = Callable[..., Done]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run the command line as a shell would: words in, exit code and two streams out."""
    for console in (options.out, options.err):
        monkeypatch.setattr(console, "width", 200)

    def run(*words: object) -> Done:
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["watchkeeper", *map(str, words)])
        try:
            cli.main()
            code = 0
        except SystemExit as ended:
            code = int(ended.code or 0)
        found = capsys.readouterr()
        assert "Traceback" not in found.out + found.err
        return Done(code, found.out, found.err)

    return run


def refused(done: Done, *said: str) -> None:
    """One message on the error stream that holds these words, and exit code 2."""
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("error: ")
    assert done.err.count("error:") == 1
    for words in said:
        assert words in done.err, done.err


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a configuration, reference data, and the current directory in it."""
    (tmp_path / "watchkeeper.yaml").write_text(YAML)
    rows = [values(i) for i in range(ROWS) for _ in range(3)]
    write(tmp_path / "reference.csv", rows)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def predictions(*days: int, spoilt: tuple[int, ...] = (), **other: Any) -> list[dict[str, Any]]:
    """Rows as a file of predictions has them."""
    rows = []
    for day in days:
        for i in range(ROWS):
            row = values(i)
            rows.append(
                {
                    "request_id": f"{day}-{i}",
                    "event_time": (moment(day) + timedelta(seconds=400 * i)).replace(tzinfo=None).isoformat(sep=" "),
                    "score": row["score"],
                    "amount": -999 if day in spoilt and i % 4 == 0 else row["amount"],
                    "country": row["country"],
                    **other,
                }
            )
    return rows


def outcomes(*days: int) -> list[dict[str, Any]]:
    return [
        {"request_id": f"{day}-{i}", "label": values(i)["label"], "known_at": f"2024-01-{day + 1:02} 23:00:00"}
        for day in days
        for i in range(ROWS)
    ]


# a model's life on files


def test_the_commands_find_what_is_kept_in_a_database(
    run: Run, folder: Path, new_postgres: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = "store: {state: env:WATCHKEEPER_TESTS, events: env:WATCHKEEPER_TESTS}\n"
    (folder / "watchkeeper.yaml").write_text(YAML + kept)
    refused(run("status"), "the environment variable WATCHKEEPER_TESTS is not set", "write it there as")
    monkeypatch.setenv("WATCHKEEPER_TESTS", new_postgres())
    write(folder / "predictions.csv", predictions(0, 1, 2, spoilt=(2,)))
    run("log", "predictions.csv", "--model", "loans", "--version", "3")
    done = run("tick")
    assert (done.code, done.out[:42]) == (0, "600 events taken in, 600 rows summarised, ")
    [found] = json.loads(run("status", "--json").out)
    assert (found["model"], found["health"]) == ("loans", "P1")
    assert "because" in run("why", found["incidents"][0]["id"]).out
    assert "unbroken" in run("audit", "verify").out
    assert not [*(folder / ".watchkeeper").glob("*.d*b*")], "neither state nor events are in the folder"


def test_from_files_to_an_incident_and_why(run: Run, folder: Path) -> None:
    write(folder / "predictions.csv", predictions(0, 1, 2, spoilt=(2,)))
    write(folder / "outcomes.csv", outcomes(0, 1))
    done = run("log", "predictions.csv", "--model", "loans", "--version", "3")
    assert (done.code, done.out) == (0, "600 predictions logged for loans; the next tick takes them in\n")
    done = run("label", "outcomes.csv", "--model", "loans")
    assert (done.code, done.out) == (0, "400 outcomes logged for loans; the next tick takes them in\n")

    done = run("tick")
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("1,000 events taken in, 600 rows summarised, ")
    assert run("tick").out.startswith("0 events taken in, 0 rows summarised, 0 points judged")

    done = run("status", "--json")
    [found] = json.loads(done.out)
    assert (done.code, found["model"], found["health"]) == (0, "loans", "P1")
    assert found["champion"]
    [incident] = found["incidents"]
    done = run("status")
    assert done.code == 0
    assert incident["id"] in done.out.replace("\n", "")

    done = run("why", incident["id"])
    assert done.code == 0
    assert 'monitor "sentinel values" says breach' in done.out
    assert "because" in done.out
    assert "led to" in done.out
    assert json.loads(run("why", incident["id"], "--json").out)["id"] == incident["id"]

    done = run("audit", "verify")
    assert done.code == 0
    assert done.out.endswith("entries, unbroken\n")


def test_a_record_is_sealed_exported_and_examined_elsewhere(
    run: Run, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHKEEPER_SEAL", seals.PRIVATE_PEM)
    public = tmp_path / "public.pem"
    public.write_bytes(seals.PUBLIC_PEM)
    kept = tmp_path / "elsewhere" / "checkpoints.ndjson"
    with (folder / "watchkeeper.yaml").open("a") as file:
        file.write(f"audit: {{key: env:WATCHKEEPER_SEAL, checkpoints: {kept}}}\n")
    run("tick")
    done = run("audit", "verify")
    assert (done.code, done.err) == (0, "")
    first, second = done.out.splitlines()
    assert first.endswith("unbroken")
    assert second.startswith("1 checkpoint, vouch for entries 1 to ")
    assert "entries written to record.ndjson" in run("audit", "export", "record.ndjson").out
    assert run("audit", "export", "-").out == (folder / "record.ndjson").read_text()

    record = folder / "record.ndjson"
    away = ("audit", "verify", "--record", str(record), "--checkpoints", str(kept))
    monkeypatch.chdir(kept.parent)
    there = run(*away, "--public-key", str(public))
    assert (there.code, there.err, there.out) == (0, "", done.out)
    assert run(*away).err == "their signatures were not checked; give --public-key\n"
    nowhere = run(*away[:-1], "nowhere", "--public-key", str(public))
    refused(nowhere, "there are no checkpoints in nowhere; name their file")
    lines = record.read_text().splitlines(keepends=True)
    record.write_text("".join(lines[:-1]))
    cut = run(*away, "--public-key", str(public))
    assert cut.code == 1
    assert cut.err.startswith(f"broken: entry {len(lines)} is missing, which was there on ")


def test_a_configuration_is_checked_and_its_looks_are_counted(run: Run, folder: Path) -> None:
    done = run("config", "check")
    assert done.code == 0
    assert done.out.startswith("watchkeeper.yaml is right: config-")
    told = json.loads(run("config", "check", "--json").out)
    for row in told["looks"]:
        expected = row["looks"] * 30 * (1 - row["confidence"])
        assert expected <= row["false_alarms_in_30_days"] * (1 + 1e-9), "looks a day, each as often wrong as it may be"
    (folder / "wrong.yaml").write_text("models: {loans: {columns: {amount: {kind: numbre}}}}\n")
    refused(run("config", "check", "wrong.yaml"), "wrong.yaml:1: columns.amount.kind: must be")


def test_what_was_in_force_is_listed_and_compared(run: Run, folder: Path) -> None:
    refused(run("config", "history"), "there is no store in .watchkeeper")
    run("tick")
    [first] = json.loads(run("config", "history", "--json").out)
    assert (first["author"], first["changes"]) == ("watchkeeper", None)
    done = run("config", "diff")
    assert (done.code, done.out) == (0, "nothing differs\n")
    written = (folder / "watchkeeper.yaml").read_text()
    (folder / "before.yaml").write_text(written)
    (folder / "watchkeeper.yaml").write_text(
        written.replace("models:\n  loans:\n", "models:\n  loans:\n    threshold: 0.4\n")
    )
    done = run("config", "diff")
    assert (done.code, done.out) == (1, "models.loans.threshold: 0.5 becomes 0.4\n")
    assert run("config", "diff", "before.yaml", "watchkeeper.yaml").out == done.out
    assert run("config", "diff", first["version"], "watchkeeper.yaml").out == done.out
    [change] = json.loads(run("config", "diff", "--json").out)
    assert change == {"place": "models.loans.threshold", "what": "changed", "old": 0.5, "new": 0.4}
    run("tick")
    second, _ = json.loads(run("config", "history", "--json").out)
    assert second["changes"] == [change]
    assert "1 change" in run("config", "history").out
    refused(
        run("config", "diff", "config-none"), "there is no file and no version config-none; watchkeeper config history"
    )


def test_editors_are_given_a_schema(run: Run) -> None:
    assert json.loads(run("config", "schema").out)["title"] == "watchkeeper.yaml"


def test_a_changed_record_is_found_and_is_exit_code_1(run: Run, folder: Path) -> None:
    run("tick")
    engine = Engine(folder / ".watchkeeper", cli.config.load(folder / "watchkeeper.yaml"))
    with engine.state.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE audit SET actor = 'nobody' WHERE seq = 1")
    engine.close()
    done = run("audit", "verify")
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("broken: entry 1 of ")


def test_a_feature_may_be_called_model_or_kind(run: Run, folder: Path) -> None:
    text = YAML.replace("country: {kind: categorical}", "model: {kind: categorical}\n      kind: {kind: categorical}")
    (folder / "watchkeeper.yaml").write_text(text.replace("    reference: reference.csv\n", ""))
    rows = [{**row, "model": "Golf", "kind": "estate"} for row in predictions(0, 1)]
    for row in rows:
        del row["country"]
    write(folder / "predictions.csv", rows)
    assert run("log", "predictions.csv", "--model", "loans").code == 0
    assert run("tick").out.startswith("400 events taken in")
    engine = Engine(folder / ".watchkeeper", cli.config.load(folder / "watchkeeper.yaml"))
    first = engine.log.first_rows("loans", "model", limit=1).to_pylist()
    engine.close()
    assert [row["model"] for row in first] == ["Golf"]


def test_numbers_stand_for_names_and_dates_for_moments(run: Run, folder: Path) -> None:
    rows = [
        {"request_id": i, "event_time": "2024-01-01", "version": 3, "entity_id": 77, "amount": 1.5, "country": "DE"}
        for i in range(5)
    ]
    write(folder / "predictions.csv", rows)
    assert run("log", "predictions.csv", "--model", "loans").code == 0
    assert run("tick").out.startswith("5 events taken in")


def test_events_of_an_unknown_model_are_refused_by_the_tick_and_said_to_be(run: Run, folder: Path) -> None:
    write(folder / "predictions.csv", predictions(0))
    run("log", "predictions.csv", "--model", "laons")
    done = run("tick")
    assert done.code == 0
    assert done.out.startswith("0 events taken in")
    assert done.err == "200 events were refused; .watchkeeper/rejected keeps each beside why\n"


def test_a_row_that_is_wrong_is_named_and_what_came_before_it_too(
    run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli, "BATCH", 100)
    rows = predictions(0)
    rows[150]["request_id"] = ""
    write(folder / "predictions.csv", rows)
    refused(
        run("log", "predictions.csv", "--model", "loans"),
        "predictions.csv, row 151: request_id is missing; every prediction needs one; 100 rows before it are logged,",
        "and may be logged again",
    )


# mistakes


def test_no_command_shows_the_help_and_an_unknown_one_is_wrong_use(run: Run) -> None:
    done = run()
    assert "Keep machine-learning models in production good over time." in done.out + done.err
    for word in (
        "demo",
        "serve",
        "check",
        "log",
        "label",
        "kpi",
        "tick",
        "status",
        "why",
        "audit",
        "keys",
        "erase",
        "compact",
        "quarantine",
    ):
        assert word in done.out + done.err
    done = run("chekc")
    assert (done.code, done.out) == (2, "")
    assert "No such command 'chekc'" in done.err
    assert run("audit", "--help").code == run("check", "--help").code == 0


@pytest.mark.parametrize(
    "words", [("tick",), ("serve",), ("check", "reference.csv", "reference.csv", "--config", "watchkeeper.yaml")]
)
@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("models: [", "watchkeeper.yaml:1: this is not YAML"),
        ("", "watchkeeper.yaml:1: the file is empty"),
        (
            YAML.replace("numeric", "numerical"),
            'watchkeeper.yaml:4: columns.amount.kind: must be "numeric", "categorical", "datetime", "duration" or',
        ),
        (YAML.replace("[amount]", "[amonut]"), 'there is no column "amonut"; did you mean "amount"?'),
        (
            YAML.replace("sentinel_rate", "sentinel_rat"),
            'there is no metric "sentinel_rat"; did you mean "sentinel_rate"?',
        ),
        (YAML.replace("models:", "modles:"), 'did you mean "models"?'),
    ],
    ids=["no YAML", "empty", "kind", "column", "metric", "key"],
)
def test_a_wrong_configuration_stops_every_command_that_reads_it(
    run: Run, folder: Path, words: tuple[str, ...], text: str, said: str
) -> None:
    (folder / "watchkeeper.yaml").write_text(text)
    refused(run(*words), said)
    assert not (folder / ".watchkeeper").exists(), "nothing was begun"


def test_a_missing_configuration_is_told_of(run: Run, folder: Path) -> None:
    (folder / "watchkeeper.yaml").unlink()
    refused(run("tick"), "there is no configuration file watchkeeper.yaml; check the path, or write one")


@pytest.mark.parametrize("words", [("status",), ("why", "incident-1"), ("audit", "verify")])
def test_where_there_is_no_store_what_reads_one_says_so_and_makes_none(run: Run, folder: Path, words: Any) -> None:
    refused(
        run(*words), "there is no store in .watchkeeper; name its folder with --store, or begin with watchkeeper serve"
    )
    assert not (folder / ".watchkeeper").exists()


def test_an_id_that_is_none_or_nobodys_is_told_of(run: Run, folder: Path) -> None:
    run("tick")
    refused(run("why", "nonsense"), '"nonsense" is not an id that has a why; those begin with one of action-,')
    refused(run("why", "incident-000000000000"), "there is no incident incident-000000000000")
    assert run("status").out == "Nothing has been judged yet. Log predictions, then run watchkeeper tick.\n"


@pytest.mark.parametrize(
    ("command", "text", "said"),
    [
        ("log", None, "there is no file rows.csv; check the path"),
        ("log", "", "rows.csv is empty: it has no header and no rows"),
        ("log", "request_id,event_time\n", "rows.csv has a header and no rows"),
        ("log", "request_id,amount\n1,2\n", 'rows.csv has no column "event_time"; found request_id, amount'),
        ("log", "request_id,event_time\n1,noon\n", 'rows.csv, row 1: event_time "noon" is no time'),
        ("kpi", "request_id,name,known_at\n1,a,2024-01-01\n", 'rows.csv has no column "value"'),
        ("kpi", "request_id,name,value,known_at\n1,a,much,2024-01-01\n", "row 1: value must be a finite number"),
        ("label", "request_id,known_at\n1,2024-01-01\n", 'rows.csv has no column "label"'),
        ("label", "request_id,label,known_at\n1,,2024-01-01\n", "rows.csv, row 1: label is missing"),
        ("label", "request_id,label,known_at,amount\n1,1,2024-01-01,3\n", 'row 1: a', ),
        ("label", "request_id,label,known_at\n,1,2024-01-01\n", "row 1: request_id is missing"),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_logged_is_told_of(
    run: Run, folder: Path, command: str, text: str | None, said: str
) -> None:
    if text is not None:
        (folder / "rows.csv").write_text(text)
    refused(run(command, "rows.csv", "--model", "loans"), said)


def test_another_process_that_holds_the_store_is_told_of(run: Run, folder: Path) -> None:
    code = (
        "import sys, duckdb; kept = duckdb.connect('.watchkeeper/log.duckdb'); print('held', flush=True);"
        " sys.stdin.read()"
    )
    (folder / ".watchkeeper").mkdir()
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        refused(run("tick"), "the event log .watchkeeper/log.duckdb cannot be opened", "Only one process may hold it")


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        ("amount", "twelve", "a number in each row, or nothing; found twelve in row 21"),
        ("score", "high", "a number in each row, or nothing; found high in row 21"),
        ("label", "yes", "a number in each row, or nothing; found yes in row 21"),
        ("label", 2, "0 or 1 in each row, or nothing; found 2"),
    ],
)
def test_text_in_a_numeric_column_of_the_reference_is_told_of(
    run: Run, folder: Path, column: str, value: Any, said: str
) -> None:
    rows = [values(i) for i in range(50)]
    rows[20][column] = value
    write(folder / "reference.csv", rows)
    refused(run("tick"), f'the column "{column}" in the reference data of model "loans" must hold {said}')


def test_a_reference_that_is_missing_or_lacks_a_column_is_told_of(run: Run, folder: Path) -> None:
    write(folder / "reference.csv", [{"amount": 1.0}, {"amount": 2.0}])
    refused(run("tick"), 'the reference data of model "loans" has no column "country"')
    (folder / "reference.csv").unlink()
    refused(run("tick"), "there is no file reference.csv")


@pytest.mark.parametrize("command", ["serve", "demo"])
def test_a_busy_port_is_told_of_before_any_work(run: Run, folder: Path, command: str) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        refused(
            run(command, "--port", port),
            f"port {port} on 127.0.0.1 cannot be used: Address already in use;"
            " stop what uses it or choose another with --port",
        )
    assert not list(folder.glob(".watchkeeper*"))


def test_a_host_that_is_nobodys_is_told_of(run: Run, folder: Path) -> None:
    run("keys", "create", "boss", "--role", "admin")
    refused(run("serve", "--host", "256.1.1.1"), "on 256.1.1.1 cannot be used")


# check

CONFIGURED = ("--config", "watchkeeper.yaml")


def test_check_says_0_for_healthy_1_for_a_breach_and_2_for_wrong_use(run: Run, folder: Path) -> None:
    rows = [values(i) for i in range(ROWS) for _ in range(5)]
    write(folder / "same.csv", rows)
    for row in rows[::3]:
        row["amount"] = -999
    write(folder / "spoilt.csv", rows)
    done = run("check", "reference.csv", "same.csv")
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("healthy")
    done = run("check", "reference.csv", "spoilt.csv")
    assert (done.code, done.err) == (1, "")
    assert "amount: 33" in done.out
    assert run("check", "reference.csv").code == 2


def test_check_writes_data_and_a_report(run: Run, folder: Path) -> None:
    done = run("check", "reference.csv", "reference.csv", "--json", "found.json", "--html", "found.html")
    assert done.code == 0
    found = json.loads((folder / "found.json").read_text())
    assert json.loads(run("check", "reference.csv", "reference.csv", "--json", "-").out) == found
    assert (folder / "found.html").read_text().startswith("<!doctype html>")
    done = run("check", "reference.csv", "reference.csv", "--config", "watchkeeper.yaml", "--json", "-")
    assert {point["metric"] for point in json.loads(done.out)["points"]} == {"sentinel_rate", "null_rate"}


def test_check_looks_within_segments(run: Run, folder: Path) -> None:
    assert (folder / "reference.csv").exists()
    done = run("check", "reference.csv", "reference.csv", "--segment", "country", "--json", "-")
    assert done.code == 0, done.err
    assert {"", "country=DE", "country=(missing)"} <= {point["segment"] for point in json.loads(done.out)["points"]}
    refused(run("check", "reference.csv", "reference.csv", "--segment", "amount"), "made of categorical columns")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("nowhere.csv", "reference.csv"), "there is no file nowhere.csv"),
        (("reference.csv", "empty.csv"), "empty.csv is empty: it has no header and no rows"),
        (("reference.csv", "header.csv"), "the current data has no rows"),
        (("other.csv", "reference.csv"), "there is nothing to compare"),
        (("other.csv", "reference.csv", *CONFIGURED), 'has a column "amount" and the reference has none'),
        (("reference.csv", "reference.csv", "--html", "no/such/folder.html"), "no/such/folder.html cannot be written"),
        (("reference.csv", "reference.csv", "--json", "no/such.json"), "no/such.json cannot be written"),
        (("reference.csv", "reference.csv", "--config", "nowhere.yaml"), "there is no configuration file nowhere.yaml"),
    ],
)  # fmt: skip
def test_check_tells_one_mistake_in_one_message(run: Run, folder: Path, words: tuple[str, ...], said: str) -> None:
    (folder / "empty.csv").write_text("")
    (folder / "header.csv").write_text("amount,country,score,label\n")
    (folder / "other.csv").write_text("colour\nred\n")
    done = run("check", *words)
    assert done.code == 2
    assert done.err.startswith("error: ")
    assert said in done.err


# keys


def test_keys_are_made_listed_and_revoked(folder: Path, run: Run) -> None:
    made = run("keys", "create", "ci", "--role", "writer")
    assert made.code == 0
    assert made.out.startswith("wk_")
    assert "cannot be shown again" in made.err
    key = made.out.strip()
    [row] = json.loads(run("keys", "list", "--json").out)
    assert (row["name"], row["role"], row["revoked_at"]) == ("ci", "writer", None)
    assert key.split("_")[1] == row["id"]
    assert key not in run("keys", "list").out
    refused(run("keys", "create", "ci", "--role", "admin"), 'there is a key "ci" already')
    assert "is revoked" in run("keys", "revoke", "ci").out
    refused(run("keys", "revoke", "ci"), 'there is no key "ci" in use')
    assert json.loads(run("keys", "list", "--json").out)[0]["revoked_at"]


def test_a_server_that_others_reach_needs_a_key_first(folder: Path, run: Run) -> None:
    said = run("serve", "--host", "0.0.0.0")
    refused(said, "other machines can reach 0.0.0.0", "watchkeeper keys create NAME --role admin")
    assert not (folder / ".watchkeeper").exists()
    run("keys", "create", "boss", "--role", "admin")
    run("keys", "revoke", "boss")
    refused(run("serve", "--host", "0.0.0.0"), "no API key was made")


# quarantine


def test_the_quarantine_is_listed_and_replayed(folder: Path, run: Run) -> None:
    assert "The quarantine is empty" in run("quarantine", "list").out
    engine = Engine(folder / ".watchkeeper", cli.config.load(folder / "watchkeeper.yaml"))
    engine.inbox.put(
        [
            {
                "kind": "prediction", "model": "loans", "request_id": "a", "event_time": moment(0).isoformat(),
                "features": {"amount": "much"},
            },
            {"kind": "prophecy"},
        ]
    )  # fmt: skip
    engine.tick()
    engine.close()
    shown = run("quarantine", "list").out
    assert "prophecy" in shown
    assert "much" in shown
    found = json.loads(run("quarantine", "list", "--json").out)
    assert found["values"] == {"loans": [{"request_id": "a", "column": "amount", "value": "much"}]}
    assert "next tick takes in what fits" in run("quarantine", "replay").out


# serve


def _port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_serve_answers_takes_events_in_ticks_and_stops_when_told(folder: Path) -> None:
    ends = {"one": signal.SIGTERM, "two": signal.SIGINT}
    ports = {store: _port() for store in ends}
    servers = {store: _serving(folder, store, port) for store, port in ports.items()}
    try:
        for store, server in servers.items():
            with httpx.Client(base_url=f"http://127.0.0.1:{ports[store]}", timeout=10) as http:
                until(lambda http=http, server=server: _answers(http) or server.poll() is not None)
                assert http.get("/healthz").json()["status"] == "ok"
                features = {"amount": 1, "country": "DE"}
                event = {"request_id": "a", "event_time": "2024-01-01T10:00:00Z", "features": features}
                wrong = {"request_id": "b", "features": {}}
                answer = http.post("/v1/models/loans/predictions", json={"events": [event, wrong]}).json()
                assert answer["accepted"] == 1
                assert "event_time is missing" in answer["rejected"][0]["reason"]
                inbox = folder / store / "inbox"
                until(lambda inbox=inbox: not list(inbox.glob("*")))
            server.send_signal(ends[store])
            assert server.wait(20) == 0
    finally:
        for server in servers.values():
            server.kill()
            server.wait()
    for store, port in ports.items():
        told = (folder / f"{store}.txt").read_text()
        assert told == f"Watching loans; the dashboard is at http://127.0.0.1:{port}\n"
        engine = Engine(folder / store, cli.config.load(folder / "watchkeeper.yaml"))
        assert engine.log.totals("loans")["predictions"] == 1
        engine.close()


def _serving(folder: Path, store: str, port: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "watchkeeper", "serve", "--store", store, "--port", str(port), "--every", "1"]
    with (folder / f"{store}.txt").open("wb") as said:
        return subprocess.Popen(command, cwd=folder, stdout=said, stderr=said, env={**os.environ, "COLUMNS": "60"})


def _answers(http: httpx.Client) -> bool:
    try:
        return http.get("/healthz").status_code == 200
    except httpx.TransportError:
        return False


def test_a_tick_that_fails_is_logged_and_the_next_one_tries_again(
    folder: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop, ticks = threading.Event(), []

    class Failing:
        def tick(self) -> None:
            ticks.append(1)
            if len(ticks) == 3:
                stop.set()
            raise RuntimeError("no luck")

    monkeypatch.setattr(stop, "wait", lambda _: None)
    cli._tick_until(Failing(), stop, 0)  # type: ignore[arg-type]
    assert len(ticks) == 3
    assert [record.message for record in caplog.records] == ["a tick failed"] * 3


def test_between_two_ticks_what_waits_is_taken_in(monkeypatch: pytest.MonkeyPatch) -> None:
    stop, done = threading.Event(), []

    class Counting:
        def tick(self) -> None:
            done.append("tick")

        def take_in(self) -> None:
            done.append("take in")
            if len(done) == 3:
                stop.set()

    monkeypatch.setattr(stop, "wait", lambda _: None)
    cli._tick_until(Counting(), stop, 60)  # type: ignore[arg-type]
    assert done == ["tick", "take in", "take in"]


# erasing


def test_a_subject_is_erased_and_the_search_finds_nothing(run: Run, folder: Path) -> None:
    rows = predictions(0)
    for row in rows[:3]:
        row["entity_id"] = "ann@example.org"
        row["request_id"] = f"of-ann-{row['request_id']}"
    for row in rows[3:]:
        row["entity_id"] = "somebody"
    run("log", write(folder / "predictions.csv", rows), "--model", "loans")
    done = run("erase", "ann@example.org")
    assert (done.code, done.err) == (0, "")
    assert "loans: 3 predictions, 0 outcomes, 0 KPIs and 0 values set aside deleted" in done.out
    assert "3 of its 3 request ids: nothing found" in done.out
    assert "keep this receipt" in done.out
    found = json.loads(run("erase", "ann@example.org", "--model", "loans", "--json").out)
    assert (found["complete"], found["requests"], found["deleted"]["loans"]["predictions"]) == (True, 0, 0)
    assert run("audit", "verify").out.endswith("unbroken\n")
    (folder / ".watchkeeper" / "registry").mkdir(exist_ok=True)
    (folder / ".watchkeeper" / "registry" / "model.bin").write_bytes(b"ann@example.org")
    done = run("erase", "ann@example.org")
    assert (done.code, done.err) == (1, "  registry/model.bin\n")


def test_a_subject_can_be_kept_out_of_sight(run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("ann@example.org\n"))
    assert "nothing found" in run("erase", "-").out
    refused(run("erase", "ann", "--model", "lons"), 'there is no model "lons"', 'did you mean "loans"')


def test_a_log_is_written_anew_only_after_deletions(run: Run, folder: Path) -> None:
    run("log", write(folder / "predictions.csv", predictions(0)), "--model", "loans")
    run("tick")
    assert run("compact").out == "nothing was deleted since the log was last written\n"


def test_kpis_are_logged_from_files(run: Run, folder: Path) -> None:
    (folder / "watchkeeper.yaml").write_text(YAML + "    kpis: {repaid: {unit: EUR}}\n")
    run("log", write(folder / "predictions.csv", predictions(0)), "--model", "loans")
    known = [{"request_id": f"0-{i}", "name": "repaid", "value": 10.5, "known_at": "2024-01-02"} for i in range(3)]
    done = run("kpi", write(folder / "kpis.csv", known), "--model", "loans")
    assert (done.code, done.out) == (0, "3 KPIs logged for loans; the next tick takes them in\n")
    assert run("tick").out.startswith(f"{ROWS + 3} events taken in")
