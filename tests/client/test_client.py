"""The logging client: nothing lost or doubled, whatever happens to the server, the process or its threads."""

from __future__ import annotations

import logging
import os
import re
import signal
import threading
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import numpy as np
import pytest
from listener import Server, dead_url, ids, inbox, run, serve, wait_until

from watchkeeper import events
from watchkeeper.client import BATCH, Client
from watchkeeper.client import sender as sender_module
from watchkeeper.errors import ConfigError, DataError

AT = datetime(2013, 7, 4, 15, tzinfo=UTC)


# Into a folder


def test_events_reach_the_inbox(tmp_path: Path) -> None:
    with Client(tmp_path, model="delays", version="3") as client:
        made = client.log({"distance": np.float32(0.5), "origin": None}, prediction=np.int64(1), score=0.83)
        given = client.log(
            {"distance": float("nan")}, request_id="r2", entity_id=7, event_time=AT, latency_ms=4.2, status="timeout",
            variant="candidate", version="4", context={"page": 2},
        )  # fmt: skip
        client.label("r2", np.int64(1), AT)
        client.label("r3", 0)
    assert given == "r2"
    first, second, label, other = inbox(tmp_path)
    assert first["request_id"] == made
    assert (first["version"], first["variant"], first["status"]) == ("3", "champion", "ok")
    assert (first["prediction"], first["score"], first["features"]) == (1, 0.83, {"distance": 0.5, "origin": None})
    assert abs(datetime.fromisoformat(first["event_time"]) - datetime.now(UTC)).total_seconds() < 60
    assert second == {
        "kind": "prediction", "model": "delays", "request_id": "r2", "event_time": "2013-07-04T15:00:00+00:00",
        "version": "4", "variant": "candidate", "entity_id": "7", "prediction": None, "score": None,
        "latency_ms": 4.2, **dict.fromkeys(events.RESOURCES), "status": "timeout", "context": '{"page":2}',
        "features": {"distance": "NaN"},
    }  # fmt: skip
    assert label == {
        "kind": "outcome", "model": "delays", "request_id": "r2", "label": 1, "known_at": "2013-07-04T15:00:00+00:00",
    }  # fmt: skip
    assert other["request_id"] == "r3"


def test_nothing_is_made_before_something_is_logged(tmp_path: Path) -> None:
    threads = threading.active_count()
    with Client(tmp_path / "store", model="delays") as client:
        assert client.flush()
        assert threading.active_count() == threads
    assert not (tmp_path / "store").exists()


def test_it_sends_by_itself_after_a_while(tmp_path: Path, open_client: Callable[..., Client]) -> None:
    open_client(tmp_path, interval=0.05).log({})
    wait_until(lambda: len(inbox(tmp_path)) == 1)


def test_it_sends_by_itself_as_soon_as_there_are_many(tmp_path: Path, open_client: Callable[..., Client]) -> None:
    client = open_client(tmp_path, interval=3600)
    for _ in range(BATCH - 1):
        client.log({})
    sleep(0.1)
    assert inbox(tmp_path) == []
    client.log({})
    wait_until(lambda: len(inbox(tmp_path)) == BATCH)


def test_flush_returns_when_all_is_on_disk(tmp_path: Path, open_client: Callable[..., Client]) -> None:
    client = open_client(tmp_path, interval=3600)
    wanted = [client.log({}) for _ in range(2 * BATCH + 7)]
    assert client.flush()
    assert ids(inbox(tmp_path)) == wanted


def test_what_is_changed_after_logging_is_logged_as_it_was(tmp_path: Path) -> None:
    features = {"distance": 1}
    with Client(tmp_path, model="delays") as client:
        client.log(features)
        features["distance"] = 2
    assert inbox(tmp_path)[0]["features"] == {"distance": 1}


def test_many_threads(tmp_path: Path) -> None:
    client = Client(tmp_path, model="delays", interval=0.01)
    made: list[list[str]] = [[] for _ in range(8)]

    def work(own: list[str]) -> None:
        for i in range(1000):
            own.append(client.log({"i": i}))
            if i % 250 == 0:
                client.flush()

    threads = [threading.Thread(target=work, args=(own,)) for own in made]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    client.close()
    found = ids(inbox(tmp_path))
    assert client.dropped == 0
    assert Counter(found) == Counter(one for own in made for one in own)
    for own in made:
        mine = set(own)
        assert [one for one in found if one in mine] == own


def test_a_folder_that_cannot_be_written(
    tmp_path: Path, open_client: Callable[..., Client], caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "store").write_text("a file is in the way")
    client = open_client(tmp_path / "store", interval=0.01)
    one = client.log({})
    assert not client.flush()
    assert "events wait" in caplog.text
    (tmp_path / "store").unlink()
    wait_until(lambda: (tmp_path / "store").exists())
    assert client.flush()
    assert ids(inbox(tmp_path / "store")) == [one]


def test_what_predictions_led_to_reaches_the_inbox(tmp_path: Path) -> None:
    with Client(tmp_path, model="delays") as client:
        client.kpi("r1", "refund", np.float32(12.5), AT)
        client.kpi("r2", "claimed", True)
        client.kpi("r3", "refund", Decimal("3.25"))
    first, second, third = inbox(tmp_path)
    assert first == {
        "kind": "kpi", "model": "delays", "request_id": "r1", "name": "refund", "value": 12.5,
        "known_at": "2013-07-04T15:00:00+00:00",
    }  # fmt: skip
    assert (second["name"], second["value"]) == ("claimed", 1)
    assert abs(datetime.fromisoformat(second["known_at"]) - datetime.now(UTC)).total_seconds() < 60
    assert third["value"] == 3.25


# Wrong use


@pytest.mark.parametrize(
    ("use", "text"),
    [
        (lambda c: c.log([1, 2]), "features must map names to values"),
        (lambda c: c.log({1: 2}), "names that are strings"),
        (lambda c: c.log({"score": 2}), 'features has "score"'),
        (lambda c: c.log({}, event_time=datetime(2013, 7, 4)), "no time zone"),  # noqa: DTZ001
        (lambda c: c.log({}, event_time="tomorrow"), "event_time"),
        (lambda c: c.log({}, request_id=5), "request_id must be a string"),
        (lambda c: c.log({}, request_id=""), "request_id must be a string that is not empty"),
        (lambda c: c.log({}, version=3), "version must be a string"),
        (lambda c: c.label("r", None), "label is missing"),
        (lambda c: c.label("r", 1, datetime(2013, 7, 4)), "no time zone"),  # noqa: DTZ001
        (lambda c: c.label(None, 1), "request_id"),
        (lambda c: c.kpi("r", "revenue", "much"), "value must be a finite number, found 'much'"),
        (lambda c: c.kpi("r", "revenue", None), "value must be a finite number"),
        (lambda c: c.kpi("r", "revenue", float("nan")), "value must be a finite number"),
        (lambda c: c.kpi("r", "revenue", 1e15), "value must be smaller than"),
        (lambda c: c.kpi("r", "", 1), "name must be a string that is not empty"),
        (lambda c: c.kpi(None, "revenue", 1), "request_id"),
        (lambda c: c.kpi("r", "revenue", 1, datetime(2013, 7, 4)), "no time zone"),  # noqa: DTZ001
    ],
)  # fmt: skip
def test_wrong_use_is_told_at_once_if_strict_and_counted_if_not(
    tmp_path: Path, use: Callable[[Client], object], text: str, caplog: pytest.LogCaptureFixture
) -> None:
    with Client(tmp_path, model="delays", strict=True) as client, pytest.raises(DataError, match=text):
        use(client)
    assert inbox(tmp_path) == []
    with Client(tmp_path, model="delays") as client:
        use(client)
        one = client.log({})
    assert ids(inbox(tmp_path)) == [one]
    assert client.stats.dropped == {"invalid": 1}
    assert re.search(f"events dropped so far: 1, invalid: .*{text}", caplog.text)


@pytest.mark.parametrize(
    "wrong",
    [
        {"target": "ftp://example.org"},
        {"target": "https://"},
        {"target": "http://example.org", "api_key": "key\n"},
        {"buffer": 0},
        {"interval": 0},
        {"timeout": -1},
        {"model": ""},
        {"model": None},
        {"version": 3},
    ],
)  # fmt: skip
def test_a_client_that_cannot_be_meant(tmp_path: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises((ConfigError, DataError)):
        Client(**{"target": tmp_path, "model": "delays"} | wrong)


# To a server


def test_events_reach_the_server(server: Server) -> None:
    with Client(server.url + "/", model="delays", api_key="k1") as client:
        one = client.log({"distance": float("inf")})
        client.label(one, 1)
        two = client.log({})
    assert [path for path, _, _ in server.posts] == ["/v1/models/delays/predictions", "/v1/models/delays/outcomes"]
    assert {headers["Authorization"] for _, headers, _ in server.posts} == {"Bearer k1"}
    assert {headers["Content-Type"] for _, headers, _ in server.posts} == {"application/json"}
    assert ids(server.kept) == [one, two, one]
    assert server.kept[0]["features"] == {"distance": "Infinity"}


def test_no_key_is_sent_where_there_is_none(server: Server) -> None:
    with Client(server.url, model="delays") as client:
        client.log({})
    assert "Authorization" not in server.posts[0][1]


@pytest.mark.parametrize("code", [301, 307, 401, 404, 408, 429, 500, 503])
def test_an_answer_that_may_change_is_tried_again(
    server: Server, open_client: Callable[..., Client], code: int
) -> None:
    server.answers = [code]
    client = open_client(server.url, interval=3600)
    one = client.log({})
    assert not client.flush()
    assert client.flush()
    assert ids(server.kept) == [one]
    assert client.dropped == 0


def test_a_dead_server_that_comes_back_gets_all_in_order(open_client: Callable[..., Client]) -> None:
    dead = serve()
    dead.close()
    client = open_client(dead.url, interval=0.01)
    wanted = []
    for _ in range(3):
        wanted += [client.log({}) for _ in range(300)]
        assert not client.flush()
    back = serve(int(dead.url.rpartition(":")[2]))
    try:
        wait_until(lambda: len(back.kept) >= 900, 20)
    finally:
        back.close()
    assert ids(back.kept) == wanted
    assert client.dropped == 0


def test_it_waits_longer_the_longer_the_server_is_dead(
    server: Server, open_client: Callable[..., Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    server.refuse = lambda events: 503
    client = open_client(server.url, interval=0.01)
    client.log({})
    wait_until(lambda: len(server.posts) >= 2)
    for _ in range(2 * BATCH):
        client.log({})
    sleep(0.3)
    assert len(server.posts) == 2  # one at once, one after a second; many events do not hurry it
    assert client._sender._failures == 2


def test_log_does_not_wait_for_a_server_that_hangs(server: Server, open_client: Callable[..., Client]) -> None:
    held = threading.Event()

    def hang(events: list[dict[str, Any]]) -> int:
        held.wait(10)
        return 200

    server.refuse = hang
    client = open_client(server.url, interval=0.01, timeout=5.0)
    client.log({})
    sleep(0.1)
    begun = monotonic()
    for _ in range(1000):
        client.log({})
    assert monotonic() - begun < 1
    assert not client.flush(timeout=0.05)
    held.set()
    assert client.flush()
    assert len(server.kept) == 1001


@pytest.mark.parametrize("code", [400, 413, 422])
def test_only_the_event_that_is_refused_is_dropped(
    server: Server, open_client: Callable[..., Client], caplog: pytest.LogCaptureFixture, code: int
) -> None:
    client = open_client(server.url, interval=3600)
    wanted = [client.log({"i": i}) for i in range(100)]
    server.refuse = lambda events: code if wanted[41] in ids(events) else 200
    assert client.flush()
    assert ids(server.kept) == wanted[:41] + wanted[42:]
    assert client.stats.dropped == {"refused": 1}
    assert f"answered {code}" in caplog.text
    more = [client.log({}) for _ in range(BATCH)]
    before = len(server.posts)
    assert client.flush()
    assert ids(server.kept)[99:] == more
    assert len(server.posts) - before < 5


def test_a_server_that_refuses_everything_is_not_asked_again_and_again(
    server: Server, open_client: Callable[..., Client]
) -> None:
    server.refuse = lambda events: 422
    client = open_client(server.url, interval=3600)
    for _ in range(50):
        client.log({})
    assert client.flush()
    assert client.dropped == 50
    assert len(server.posts) < 60


def test_too_large_a_request_is_split(server: Server, open_client: Callable[..., Client]) -> None:
    server.refuse = lambda events: 413 if len(events) > 10 else 200
    client = open_client(server.url, interval=3600)
    wanted = [client.log({}) for _ in range(100)]
    assert client.flush()
    assert ids(server.kept) == wanted
    assert client.dropped == 0


def test_what_the_server_rejects_one_by_one_is_counted(
    server: Server, open_client: Callable[..., Client], caplog: pytest.LogCaptureFixture
) -> None:
    server.rejected = [{"index": 0, "reason": "no such thing"}]
    client = open_client(server.url, interval=3600)
    client.log({})
    client.log({})
    assert client.flush()
    assert client.dropped == 1
    assert "events dropped so far: 1, refused: no such thing" in caplog.text


# A full buffer, the end


def test_a_full_buffer_drops_the_oldest_and_says_so_once(
    server: Server, open_client: Callable[..., Client], caplog: pytest.LogCaptureFixture
) -> None:
    server.answers = [503]
    client = open_client(server.url, interval=3600, buffer=10)
    client.log({})
    assert not client.flush()
    server.refuse = lambda events: 503
    wanted = [client.log({}) for _ in range(25)]
    assert client.stats.dropped == {"buffer full": 16}
    assert not client.flush()
    assert not client.flush()
    warnings = [r for r in caplog.records if "dropped" in r.message]
    assert [(r.levelno, r.message) for r in warnings] == [
        (logging.WARNING, "events dropped so far: 16, buffer full: the buffer of 10 events is full")
    ]
    server.refuse = lambda events: 200
    assert client.flush()
    assert ids(server.kept) == wanted[15:]


def test_what_is_pushed_out_while_it_is_sent_is_not_lost(server: Server, open_client: Callable[..., Client]) -> None:
    client = open_client(server.url, interval=3600, buffer=10)
    first = [client.log({}) for _ in range(10)]
    more: list[str] = []

    def busy(events: list[dict[str, Any]]) -> int:
        if not more:
            more.extend(client.log({}) for _ in range(4))
        return 200

    server.refuse = busy
    assert client.flush()
    assert client.flush()
    assert ids(server.kept) == first + more
    assert client.dropped == 0


def test_closing_twice_is_fine_and_later_events_are_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    client = Client(tmp_path, model="delays")
    client.log({})
    client.close()
    client.close()
    assert client.log({}, request_id="late") == "late"
    assert client.flush()
    assert (client.dropped, len(inbox(tmp_path))) == (1, 1)
    assert "the client is closed" in caplog.text


def test_closing_with_a_dead_server_and_no_spool(caplog: pytest.LogCaptureFixture) -> None:
    client = Client(dead_url(), model="delays", timeout=1.0)
    client.log({})
    client.log({})
    begun = monotonic()
    client.close()
    assert monotonic() - begun < 5
    assert client.dropped == 2
    assert "events lost, since they could not be delivered before the end: 2" in caplog.text


# Processes


def test_the_end_of_the_process_flushes(tmp_path: Path) -> None:
    done = run(
        "import sys, watchkeeper\n"
        "client = watchkeeper.Client(sys.argv[1], model='delays', interval=3600)\n"
        "client.log({}, request_id='r1')\n",
        str(tmp_path),
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert ids(inbox(tmp_path)) == ["r1"]


def test_what_was_flushed_survives_a_kill(tmp_path: Path) -> None:
    done = run(
        "import os, signal, sys, watchkeeper\n"
        "client = watchkeeper.Client(sys.argv[1], model='delays', interval=3600)\n"
        "for i in range(1200): client.log({}, request_id=str(i))\n"
        "assert client.flush()\n"
        "client.log({}, request_id='too late')\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n",
        str(tmp_path),
    )
    assert done.returncode == -signal.SIGKILL
    assert ids(inbox(tmp_path)) == [str(i) for i in range(1200)]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_forked_child_begins_anew(tmp_path: Path) -> None:
    done = run(
        "import os, sys, warnings, watchkeeper\n"
        "warnings.simplefilter('ignore', DeprecationWarning)  # newer Pythons warn of threads before a fork\n"
        "client = watchkeeper.Client(sys.argv[1], model='delays', interval=3600)\n"
        "client.log({}, request_id='parent before')\n"
        "client._sender._lock.acquire(), client._sender._sending.acquire()  # as if another thread held them\n"
        "child = os.fork()\n"
        "if child: client._sender._lock.release(), client._sender._sending.release(), os.waitpid(child, 0)\n"
        "client.log({}, request_id=f\"{'parent' if child else 'child'} after\")\n",
        str(tmp_path),
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(ids(inbox(tmp_path))) == ["child after", "parent after", "parent before"]


def test_it_goes_on_where_no_thread_can_be_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(threading.Thread):
        def start(self) -> None:
            raise RuntimeError("can't start new thread")

    monkeypatch.setattr(sender_module.threading, "Thread", Full)
    with Client(tmp_path, model="delays") as client:
        client.log({})
        client.log({})
    assert len(inbox(tmp_path)) == 2
