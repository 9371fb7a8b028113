"""Questions to the log over HTTP: pages, files, refusals, and answers while the engine works."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import httpx
import live
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fastapi import FastAPI, Response
from pyarrow import csv

import test_cli
from test_cli import Run, refused
from watchkeeper import events
from watchkeeper.engine import Engine
from watchkeeper.server import access, answers
from watchkeeper.server.access import Role
from watchkeeper.server.app import create_app
from watchkeeper.store import exports
from watchkeeper.store.fitting import table
from watchkeeper.store.inbox import Inbox
from watchkeeper.store.questions import read

MODEL = "checkout-fraud"
run = test_cli.run


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """With predictions of three days, half of which have their label."""
    engine = Engine(tmp_path_factory.mktemp("asked"), live.fraud_story.CONFIG, clock=lambda: live.NOW)
    fill(engine, 2500)
    yield engine
    engine.close()


def fill(engine: Engine, n: int) -> None:
    dice = np.random.default_rng(3)
    ids = [f"r{i}" for i in range(n)]
    times = [live.NOW - timedelta(minutes=float(m)) for m in dice.integers(1, 4000, n)]
    rows = {"request_id": ids, "event_time": times, "version": ["7"] * n, "variant": ["champion"] * n}
    rows |= {"status": ["ok"] * n, "score": dice.random(n), "amount": dice.random(n) * 100, "country": ["NL"] * n}
    engine.log.append(MODEL, table(rows))
    known = {
        "request_id": ids[::2],
        "label": dice.integers(0, 2, len(ids[::2])),
        "known_at": [live.NOW] * len(ids[::2]),
    }
    engine.log.append_outcomes(MODEL, table(known))


@pytest.fixture(scope="module")
def http(engine: Engine) -> Iterator[httpx.Client]:
    with live.serving(live.application(engine)) as url, httpx.Client(base_url=url, timeout=30) as client:
        yield client


def asked(engine: Engine, *where: str) -> pa.Table:
    question = read(engine.config.models[MODEL], engine.keys, live.NOW, where=where)
    with engine.log.answer(MODEL, question) as batches:
        return batches.read_all()


@pytest.fixture
def address() -> str:
    return f"/api/v1/models/{MODEL}/events"


def test_a_page_holds_events_with_their_labels(http: httpx.Client, address: str) -> None:
    answer = http.get(address, params={"where": ["label = 1", "score < 0.5"], "order": "error", "limit": 5})
    assert answer.status_code == 200
    found = answer.json()
    assert found["question"] == "label = 1; score < 0.5; error first; at most 5"
    assert len(found["data"]) == 5
    for event in found["data"]:
        assert event["label"] == 1
        assert event["score"] < 0.5
        assert event["event_time"].endswith("+00:00")
        assert set(event["features"]) == set(live.fraud_story.CONFIG.models[MODEL].columns)
        kept = {name: value for name, value in event.items() if name not in ("label", "known_at")}
        assert events.read(kept, kind="prediction", model=MODEL)["request_id"] == event["request_id"]


def test_pages_follow_each_other_to_the_end(http: httpx.Client, engine: Engine, address: str) -> None:
    wanted = asked(engine, "label is known").column("request_id").to_pylist()
    found, after, pages = [], "", 0
    while after is not None and pages < 100:
        page = http.get(address, params={"where": "label is known", "limit": 1000, "after": after}).json()
        found += [event["request_id"] for event in page["data"]]
        after, pages = page["next"], pages + 1
    assert found == wanted
    assert pages == len(wanted) // 1000 + 1


@pytest.mark.parametrize("form", ["parquet", "csv", "arrow"])
def test_a_file_is_sent_whole_and_says_what_it_is(http: httpx.Client, engine: Engine, address: str, form: str) -> None:
    answer = http.get(address, params={"format": form, "where": "label is known"})
    assert answer.status_code == 200
    assert answer.headers["content-disposition"] == f'attachment; filename="{MODEL}.{form}"'
    assert int(answer.headers["content-length"]) == len(answer.content)
    rows = asked(engine, "label is known").num_rows
    if form == "csv":
        assert csv.read_csv(io.BytesIO(answer.content)).num_rows == rows
        return
    content = io.BytesIO(answer.content)
    found = pq.read_table(content) if form == "parquet" else pa.ipc.open_stream(content).read_all()
    assert found.num_rows == rows
    assert exports.about(found.schema) == {
        "model": MODEL,
        "question": "label is known; newest first",
        "config": engine.config.version,
        "threshold": 0.5,
    }


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"where": "amout > 5"}, 'did you mean "amount"?'),
        ({"where": "amount > '); DROP TABLE predictions_x; --"}, "is a quote left open?"),
        ({"since": "then"}, "how long ago such as 7d"),
        ({"order": "odd"}, "there is no order"),
        ({"limit": "0"}, "ask for 1 at least"),
        ({"limit": "many"}, "limit"),
        ({"limit": "-1"}, "ask for 1 at least"),
        ({"since": "9" * 5000 + "d"}, "how long ago such as 7d"),
        ({"after": "x"}, "no place"),
        ({"format": "xls"}, "format"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_words(
    http: httpx.Client, address: str, wrong: dict[str, str], said: str
) -> None:
    for form in ("json", "parquet"):
        answer = http.get(address, params={"format": form, **wrong})
        assert answer.status_code == 422
        assert said in json.dumps(answer.json()["error"], ensure_ascii=False).replace('\\"', '"')


def test_a_model_that_is_not_there_is_told(http: httpx.Client) -> None:
    answer = http.get("/api/v1/models/checkout-frad/events")
    assert answer.status_code == 404
    assert answer.json()["error"]["hint"] == 'did you mean "checkout-fraud"?'


@pytest.mark.parametrize("form", ["json", "csv"])
def test_a_server_that_answers_many_questions_asks_for_patience(
    http: httpx.Client, address: str, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    monkeypatch.setattr(answers, "AT_ONCE", threading.BoundedSemaphore(1))
    monkeypatch.setattr(answers, "PATIENCE", 0.1)
    assert answers.AT_ONCE.acquire()
    answer = http.get(address, params={"format": form})
    assert (answer.status_code, answer.json()["error"]["hint"]) == (503, "try again in a moment")
    answers.AT_ONCE.release()
    assert http.get(address, params={"format": form}).status_code == 200


def test_answers_come_while_the_engine_takes_events_in(tmp_path: Path) -> None:
    engine = Engine(tmp_path, live.fraud_story.CONFIG, clock=lambda: live.NOW)
    fill(engine, 500)
    with live.serving(live.application(engine)) as url:
        inbox, over = Inbox(engine.store), threading.Event()
        batches, size = 8, 200

        def ask(form: str) -> list[int]:
            found = []
            with httpx.Client(base_url=url, timeout=30) as client:
                while not over.is_set():
                    wanted = {"format": form, "where": "version = busy", "limit": 1000}
                    answer = client.get(f"/api/v1/models/{MODEL}/events", params=wanted)
                    assert answer.status_code == 200, answer.text
                    data = answer.json()["data"] if form == "json" else csv.read_csv(io.BytesIO(answer.content))
                    found.append(min(len(data), 1000))
            return found

        with ThreadPoolExecutor(3) as readers:
            asking = [readers.submit(ask, form) for form in ("json", "csv", "json")]
            try:
                for batch in range(batches):
                    rows = [
                        events.prediction(
                            MODEL, {"amount": 5.0}, request_id=f"busy-{batch}-{i}", event_time=live.NOW, version="busy"
                        )
                        for i in range(size)
                    ]
                    inbox.put(rows)
                    done = engine.tick()
                    assert done.rows["record"] == size
            finally:
                over.set()
            for one in asking:
                counts = one.result()
                assert counts == sorted(counts)
                assert all(count % size == 0 for count in counts)
        assert engine.log.totals(MODEL)["predictions"] == 500 + size * batches
    engine.close()


# the command line asks a server


def test_the_command_line_asks_a_server(run: Run, http: httpx.Client, engine: Engine, tmp_path: Path) -> None:
    server = str(http.base_url)
    done = run("events", MODEL, "--server", server, "--where", "label = 1", "--error", ">0.9", "--json")
    assert {json.loads(line)["request_id"] for line in done.out.splitlines()} == {
        *asked(engine, "label = 1", "error > 0.9").column("request_id").to_pylist()
    }
    done = run("events", MODEL, "--server", server, "--out", tmp_path / "all.parquet")
    assert done.out.startswith("2,500 predictions of checkout-fraud written to")
    assert exports.about(pq.read_schema(tmp_path / "all.parquet"))["config"] == engine.config.version
    refused(run("events", MODEL, "--server", server, "--where", "amout > 1"), 'did you mean "amount"?')
    refused(run("events", "x", "--server", server), 'there is no model "x"')
    refused(run("events", MODEL, "--server", f"{server}/elsewhere"), "it answered 404, as no watchkeeper does")


def test_the_command_line_sends_its_key(run: Run, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    key = access.create(engine.state, "asking", Role.READER, live.NOW, "tests")
    app = create_app(engine.state, clock=engine.clock, operations=engine)
    with live.serving(app) as url:
        refused(run("events", MODEL, "--server", url), "this needs an API key", "give it with --key")
        assert run("events", MODEL, "--server", url, "--key", key, "--limit", 1).code == 0
        monkeypatch.setenv("WATCHKEEPER_API_KEY", key)
        monkeypatch.setenv("WATCHKEEPER_SERVER", url)
        assert run("events", MODEL, "--limit", 1).code == 0


def test_an_answer_that_breaks_off_is_no_answer(run: Run, http: httpx.Client, address: str, tmp_path: Path) -> None:
    whole = http.get(address, params={"format": "arrow"}).content
    app = FastAPI()
    app.get(address)(lambda: Response(whole[: len(whole) // 2]))
    with live.serving(app) as url:
        refused(run("events", MODEL, "--server", url, "--out", tmp_path / "all.csv"), "gave no whole answer")
    assert [*tmp_path.iterdir()] == []
