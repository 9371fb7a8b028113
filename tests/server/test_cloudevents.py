"""CloudEvents of inference servers, as KServe's logger sends them, up to the log."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import live
import pytest

from watchkeeper.cloudevents import KINDS
from watchkeeper.engine import Engine
from watchkeeper.schema import Config
from watchkeeper.server.cloudevents import MANY, ONE

COLUMNS = {"age": {"kind": "numeric"}, "city": {"kind": "categorical"}}
SETTINGS = Config.model_validate(
    {
        "models": {
            "eta": {"columns": COLUMNS},
            "fraud": {"columns": COLUMNS, "inference": {"service": "fraud-isvc", "score": "proba", "score_index": 0}},
        }
    }
)
AT = "2024-03-01T10:00:00.000Z"
REQUEST, RESPONSE = KINDS


class Scene:
    def __init__(self, folder: Path) -> None:
        self.now = live.NOW
        self.engine = Engine(folder / "store", SETTINGS, clock=self.clock)

    def clock(self) -> datetime:
        return self.now


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    scene = Scene(tmp_path)
    yield scene
    scene.engine.close()


@pytest.fixture
def http(scene: Scene) -> Iterator[httpx.Client]:
    with live.serving(live.application(scene.engine)) as url, httpx.Client(base_url=url, timeout=30) as http:
        yield http


def ce(kind: str, name: str = "id-1", **more: str) -> dict[str, str]:
    return {
        "specversion": "1.0",
        "id": name,
        "source": "http://localhost:9081/",
        "type": kind,
        "time": AT,
        "inferenceservicename": "eta",
        **more,
    }


def binary(http: httpx.Client, event: dict[str, str], body: Any, path: str = "/v1/cloudevents") -> dict[str, Any]:
    headers = {"content-type": "application/json"} | {f"ce-{name}": value for name, value in event.items()}
    found = http.post(path, headers=headers, content=json.dumps(body))
    assert found.status_code == 200
    answer: dict[str, Any] = found.json()
    return answer


def logged(scene: Scene, model: str = "eta") -> list[tuple[Any, ...]]:
    scene.engine.tick()
    query = f'SELECT request_id, age, city, score, prediction, status, latency_ms FROM "predictions_{model}" ORDER BY 1'
    return scene.engine.log.backend.rows(query)


V1_ASKED = {"instances": [[30, "Graz"], [40, "Wien"]]}
V1_SAID = {"predictions": [0.25, 0.5]}
V2_ASKED = {
    "id": "x",
    "inputs": [
        {"name": "age", "shape": [2], "datatype": "FP64", "data": [30, 40]},
        {"name": "city", "shape": [2], "datatype": "BYTES", "data": ["Graz", "Wien"]},
    ],
}
V2_SAID = {"outputs": [{"name": "p", "shape": [2], "datatype": "FP64", "data": [0.25, 0.5]}]}
ROWS = [("id-1:0", 30.0, "Graz", 0.25, None, "ok", 12.0), ("id-1:1", 40.0, "Wien", 0.5, None, "ok", 12.0)]
LATER = "2024-03-01T10:00:00.012Z"


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
@pytest.mark.parametrize(("asked", "said"), [(V1_ASKED, V1_SAID), (V2_ASKED, V2_SAID)], ids=["V1", "V2"])
def test_a_request_and_its_answer_become_predictions(
    scene: Scene, http: httpx.Client, order: tuple[int, int], asked: Any, said: Any
) -> None:
    halves = [(ce(REQUEST), asked), (ce(RESPONSE, time=LATER), said)]
    for i in order:
        assert binary(http, *halves[i]) == {"accepted": 1, "rejected": []}
        if i == order[0]:
            assert logged(scene) == []
    assert logged(scene) == ROWS
    assert scene.engine.inbox.waiting() == []


def test_a_half_waits_through_a_restart(tmp_path: Path) -> None:
    for body, event in ((V1_ASKED, ce(REQUEST)), (V1_SAID, ce(RESPONSE, time=LATER))):
        scene = Scene(tmp_path)
        with live.serving(live.application(scene.engine)) as url, httpx.Client(base_url=url, timeout=30) as http:
            binary(http, event, body)
        found = logged(scene)
        scene.engine.close()
    assert found == ROWS


def test_structured_and_batched_events(scene: Scene, http: httpx.Client) -> None:
    structured = {**ce(REQUEST), "data": V1_ASKED}
    coded = {**ce(RESPONSE, time=LATER), "data_base64": base64.b64encode(json.dumps(V1_SAID).encode()).decode()}
    one = http.post("/v1/cloudevents", json=structured, headers={"content-type": ONE})
    assert one.json() == {"accepted": 1, "rejected": []}
    batch = [coded, {**ce(REQUEST, "id-2"), "data": V1_ASKED}, 7, {**ce("com.example.other"), "data": 1}]
    many = http.post("/v1/cloudevents", json=batch, headers={"content-type": f"{MANY}; charset=utf-8"}).json()
    assert many["accepted"] == 2
    assert [row["index"] for row in many["rejected"]] == [2, 3]
    assert "com.example.other" in many["rejected"][1]["reason"]
    assert scene.engine.inbox.rejected() == 2, "no sender reads the answer, so what was refused is kept"
    assert logged(scene) == ROWS


def test_the_same_event_again_changes_nothing(scene: Scene, http: httpx.Client) -> None:
    for _ in range(2):
        for event, body in ((ce(REQUEST), V1_ASKED), (ce(RESPONSE, time=LATER), V1_SAID)):
            for _ in range(2):
                binary(http, event, body)
        assert logged(scene) == ROWS
    assert scene.engine.inbox.waiting() == []


def test_what_waited_too_long_is_told(scene: Scene, http: httpx.Client) -> None:
    binary(http, ce(REQUEST, "asked"), {"instances": [[30, "Graz"]]})
    binary(http, ce(RESPONSE, "answered"), {"predictions": [0.5]})
    assert logged(scene) == []
    scene.now += timedelta(minutes=11)
    assert logged(scene) == [("asked", 30.0, "Graz", None, None, "unanswered", None)]
    assert scene.engine.inbox.rejected() == 1
    [kept] = scene.engine.inbox.rejects.iterdir()
    assert "whose request never came" in kept.read_text()


def test_the_configuration_names_service_and_output(scene: Scene, http: httpx.Client) -> None:
    binary(http, ce(REQUEST, inferenceservicename="fraud-isvc"), {"instances": [[30, "Graz"]]})
    said = {"predictions": [{"proba": [0.75, 0.25], "other": 0.5}]}
    assert binary(http, ce(RESPONSE, inferenceservicename="fraud-isvc", time=LATER), said)["accepted"] == 1
    assert logged(scene, "fraud") == [("id-1", 30.0, "Graz", 0.75, None, "ok", 12.0)]


def test_the_address_names_the_model_where_the_event_does_not(scene: Scene, http: httpx.Client) -> None:
    event = ce(REQUEST)
    del event["inferenceservicename"]
    assert "inferenceservicename" in binary(http, event, V1_ASKED)["rejected"][0]["reason"]
    assert binary(http, event, V1_ASKED, "/v1/models/eta/cloudevents")["accepted"] == 1
    assert http.post("/v1/models/etta/cloudevents").status_code == 404


@pytest.mark.parametrize(
    ("event", "body", "said"),
    [
        (ce(REQUEST, inferenceservicename="etta"), V1_ASKED, 'did you mean "eta"?'),
        (ce(REQUEST, specversion="0.3"), V1_ASKED, "1.0 is understood"),
        (ce(REQUEST, time="noon"), V1_ASKED, "no time"),
        (ce(REQUEST, name="x" * 300), V1_ASKED, "300 characters"),
        (ce(REQUEST), {"instances": []}, "no rows"),
        (ce(REQUEST), {"instances": [[1, 2, 3]]}, "3 values a row"),
        (ce(RESPONSE), {"predictions": [{"a": 0.1, "b": 0.2}]}, "inference: {score: a}"),
    ],
)
def test_an_event_that_cannot_be_taken_is_kept_beside_why(
    scene: Scene, http: httpx.Client, event: dict[str, str], body: Any, said: str
) -> None:
    answer = binary(http, event, body)
    assert said in answer["rejected"][0]["reason"]
    [kept] = [json.loads(path.read_text()) for path in scene.engine.inbox.rejects.iterdir()]
    assert said in kept["reason"]
    assert kept["event"]["data"] == body


def test_what_is_no_event_is_refused(http: httpx.Client) -> None:
    for headers, body in (({}, b"{}"), ({"content-type": ONE}, b"{"), ({"content-type": MANY}, b"{}")):
        found = http.post("/v1/cloudevents", headers=headers, content=body)
        assert found.status_code == 400, found.text


def test_a_request_with_its_answer_is_a_prediction_at_once(scene: Scene, http: httpx.Client) -> None:
    both = {"id": "id-1", "time": AT, "request": V2_ASKED, "response": V2_SAID}
    wrong = [{**both, "response": V1_SAID | {"predictions": [0.1]}}, {"id": "x"}, 7, {**both, "id": None}]
    answer = http.post("/v1/models/eta/inferences", json=[both, *wrong]).json()
    assert answer["accepted"] == 2
    assert [row["index"] for row in answer["rejected"]] == [1, 2, 3]
    assert [(*row[:6], None) for row in logged(scene)] == [
        *((*row[:6], None) for row in ROWS),
        *((f"x:{i}", *row[1:6], None) for i, row in enumerate(ROWS)),
    ]
    assert http.post("/v1/models/eta/inferences", content=b"{").status_code == 400


def test_what_is_sensitive_in_a_half_is_protected(tmp_path: Path) -> None:
    columns = {"age": {"kind": "numeric"}, "city": {"kind": "categorical", "sensitive": "mask"}}
    model = {"columns": columns, "privacy": {"undeclared": "drop"}}
    engine = Engine(tmp_path, Config.model_validate({"models": {"eta": model}}), clock=lambda: live.NOW)
    with live.serving(live.application(engine)) as url, httpx.Client(base_url=url, timeout=30) as http:
        binary(http, ce(REQUEST), V1_ASKED)
        assert not any(b"Graz" in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
        binary(http, ce(RESPONSE), V1_SAID)
        engine.tick()
    assert engine.log.totals("eta")["predictions"] == 2
    engine.close()
