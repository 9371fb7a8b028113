"""A server that is away, busy, or back; and clients that are killed meanwhile."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from time import monotonic, sleep

import pytest
from listener import Server, dead_url, ids, serve, wait_until

from watchkeeper.client import BATCH, Client
from watchkeeper.client import sender as sender_module

Open = Callable[..., Client]


def port(url: str) -> int:
    return int(url.rpartition(":")[2])


# a busy server


@pytest.mark.parametrize("code", [429, 503])
def test_a_server_that_says_when_is_left_alone_until_then(server: Server, open_client: Open, code: int) -> None:
    server.answers, server.headers = [code], {"Retry-After": "1"}
    client = open_client(server.url, interval=0.01)
    begun = monotonic()
    one = client.log({})
    wait_until(lambda: len(server.posts) == 1)
    assert not client.flush(timeout=0.1)
    assert len(server.posts) == 1
    wait_until(lambda: ids(server.kept) == [one])
    assert monotonic() - begun >= 1


def test_flush_waits_for_a_busy_server_if_it_may(server: Server, open_client: Open) -> None:
    server.answers, server.headers = [503], {"Retry-After": "1"}
    client = open_client(server.url, interval=3600)
    client.log({})
    assert not client.flush()
    begun = monotonic()
    assert client.flush()
    assert 0.9 < monotonic() - begun < 5


@pytest.mark.parametrize(
    ("header", "least", "most"),
    [
        (format_datetime(datetime.now(UTC) + timedelta(hours=2), usegmt=True), 3599, 3600),
        ("7200", 3599, 3600),
        ("30.5", 30, 30.5),
        ("soon", 0, 2),
        ("-4", 0, 2),
        ("Mon, 01 Jan 2001 00:00:00 GMT", 0, 2),
    ],
)  # fmt: skip
def test_when_it_may_be_asked_again(server: Server, open_client: Open, header: str, least: float, most: float) -> None:
    server.answers, server.headers = [503], {"Retry-After": header}
    client = open_client(server.url, interval=3600)
    client.log({})
    assert not client.flush()
    assert least <= client._sender._try_at - monotonic() <= most


def test_flush_knows_of_what_the_sender_has_just_taken(server: Server, open_client: Open) -> None:
    """It was taken when the flush began, and given back when its sending failed."""
    held = threading.Event()

    def hang(events: list[dict[str, object]]) -> int:
        held.wait(10)
        return 503

    server.refuse = hang
    client = open_client(server.url, interval=0.01)
    client.log({})
    wait_until(lambda: not client._sender.waiting)
    threading.Timer(0.1, held.set).start()
    assert not client.flush()
    assert client.stats.waiting == 1


def test_an_event_that_a_server_fails_on_is_pushed_out_at_last(server: Server, open_client: Open) -> None:
    client = open_client(server.url, interval=3600, buffer=20)
    bad = client.log({})
    server.refuse = lambda events: 500 if bad in ids(events) else 200
    assert not client.flush()
    good = [client.log({}) for _ in range(20)]
    assert client.flush()
    assert ids(server.kept) == good
    assert client.stats.dropped == {"buffer full": 1}


# a spool


def test_a_flush_to_a_dead_server_is_safe_in_the_spool(tmp_path: Path, open_client: Open, server: Server) -> None:
    first = open_client(dead_url(), interval=3600, spool=tmp_path)
    wanted = [first.log({"i": i}) for i in range(BATCH + 20)]
    assert first.flush()
    assert (first.stats.spooled, first.stats.waiting, first.dropped) == (BATCH + 20, 0, 0)
    wanted += first.log_many({"i": range(7)})
    first.close()
    server.answers = [200, 503]  # it fails in the middle
    second = Client(server.url, model="delays", interval=0.01, spool=tmp_path)
    wait_until(lambda: list(dict.fromkeys(ids(server.kept))) == wanted)
    one = second.log({})
    second.close()
    assert ids(server.kept)[-1] == one
    assert second.stats.delivered == len(wanted) + 1
    assert [path.name for path in tmp_path.iterdir()] == [".guard"]


def test_what_waits_goes_to_the_spool_when_the_server_stays_away(
    tmp_path: Path, open_client: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sender_module, "AWAY", 0.2)
    client = open_client(dead_url(), interval=0.05, spool=tmp_path)
    client.log({})
    wait_until(lambda: client.stats.spooled == 1)
    client.log({})
    wait_until(lambda: client.stats.spooled == 2)
    assert client.stats.waiting == 0


def test_it_waits_in_memory_while_the_server_is_away_for_a_moment(tmp_path: Path, open_client: Open) -> None:
    client = open_client(dead_url(), interval=0.01, spool=tmp_path)
    client.log({})
    sleep(0.3)
    assert (client.stats.spooled, client.stats.waiting) == (0, 1)


def test_a_buffer_that_fills_goes_to_the_spool_at_once(tmp_path: Path, open_client: Open) -> None:
    client = open_client(dead_url(), interval=0.05, spool=tmp_path, buffer=100)
    client.log({})
    wait_until(lambda: client._sender._failures > 0)
    for _ in range(20):
        for _ in range(60):
            client.log({})
        wait_until(lambda: client.stats.waiting <= 51)
    assert client.dropped == 0
    assert client.stats.spooled >= 1150


def test_all_arrives_in_order_when_the_server_is_back(
    tmp_path: Path, open_client: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sender_module, "AWAY", 0.1)
    monkeypatch.setattr(sender_module, "_LONGEST_WAIT", 0.3)
    url = dead_url()
    client = open_client(url, interval=0.05, spool=tmp_path)
    wanted = [client.log({"i": i}) for i in range(1200)]
    wait_until(lambda: client.stats.spooled == 1200)
    back = serve(port(url))
    try:
        wanted += [client.log({"i": i}) for i in range(1200, 2000)]
        wait_until(lambda: len(back.kept) >= 2000)
    finally:
        back.close()
    assert ids(back.kept) == wanted
    assert (client.stats.spooled, client.dropped) == (0, 0)


def test_a_full_spool_drops_the_oldest_and_says_so(
    tmp_path: Path, open_client: Open, server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    first = open_client(dead_url(), interval=3600, spool=tmp_path, spool_limit=300_000)
    made = []
    for _ in range(4):
        made += [first.log({}) for _ in range(BATCH)]
        assert first.flush()
    lost = first.stats.dropped["spool full"]
    assert 0 < lost < len(made)
    assert "is full, and its oldest events make room" in caplog.text
    first.close()
    with Client(server.url, model="delays", spool=tmp_path):
        wait_until(lambda: len(server.kept) >= len(made) - lost)
    assert ids(server.kept) == made[lost:]


def test_what_the_spool_holds_and_the_server_refuses_is_dropped(
    tmp_path: Path, open_client: Open, server: Server
) -> None:
    first = Client(dead_url(), model="delays", timeout=1.0, spool=tmp_path)
    bad = first.log({})
    first.close()
    server.refuse = lambda events: 422 if bad in ids(events) else 200
    second = open_client(server.url, interval=0.01, spool=tmp_path)
    one = second.log({})
    wait_until(lambda: ids(server.kept) == [one])
    assert second.stats.dropped == {"refused": 1}
    assert second.stats.spooled == 0


def test_a_spool_that_cannot_be_written(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "spool").write_text("a file is in the way")
    client = Client(dead_url(), model="delays", timeout=1.0, spool=tmp_path / "spool")
    client.log({})
    assert not client.flush()
    client.close()
    assert client.stats.dropped == {"undelivered": 1}
    assert "events lost" in caplog.text


def test_clients_of_several_models_may_share_a_spool(tmp_path: Path, server: Server) -> None:
    dead = dead_url()
    for model in ("a", "b c"):
        with Client(dead, model=model, timeout=1.0, spool=tmp_path) as client:
            client.log({})
    with Client(server.url, model="other", spool=tmp_path) as client:
        assert client.flush()
    assert [path for path, _, _ in server.posts] == ["/v1/models/a/predictions", "/v1/models/b%20c/predictions"]


# killed clients

WORKER = """
import sys, time, watchkeeper
url, spool, name = sys.argv[1:]
client = watchkeeper.Client(url, model="delays", interval=0.02, timeout=0.5, spool=spool, buffer=2000)
n = 0
while True:
    made = [client.log({"i": i}, request_id=f"{name}-{n + i}") for i in range(50)]
    if n % 500 == 0:
        made += client.log_many({"request_id": [f"{name}-{n}-{i}" for i in range(20)], "i": range(20)})
    n += 50
    if client.flush():
        print(*made, flush=True)
    time.sleep(0.001)
"""


def begin(url: str, spool: Path, name: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-W", "error", "-c", WORKER, url, str(spool), name]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def killed(process: subprocess.Popen[str]) -> set[str]:
    """Kill it; what it had been told to be safe, by whole lines."""
    process.send_signal(signal.SIGKILL)
    said, _ = process.communicate()
    return {one for line in said.splitlines(keepends=True) if line.endswith("\n") for one in line.split()}


def test_nothing_that_was_safe_is_lost_when_clients_are_killed(tmp_path: Path) -> None:
    """Two processes share a spool and are killed at random, while the server comes and goes."""
    chance = random.Random(7)
    server = serve()
    kept, where = server.kept, server.url
    safe: set[str] = set()
    up = True
    for life in range(6):
        workers = [begin(where, tmp_path, f"{life}-{i}") for i in range(2)]
        sleep(1.0 + chance.random() / 2)
        if up:
            server.close()
        else:
            server = serve(port(where), kept)
        up = not up
        sleep(chance.random())
        for worker in workers:
            safe |= killed(worker)
    if not up:
        server = serve(port(where), kept)
    try:
        with Client(where, model="delays", spool=tmp_path) as last:
            assert last.flush()
            assert last.stats.spooled == 0
    finally:
        server.close()
    assert len(safe) > 500
    assert safe <= set(ids(kept))
    assert [path.name for path in tmp_path.iterdir()] == [".guard"]
    once = {(e["request_id"], json.dumps(e.get("features", {"i": e.get("i")}))) for e in kept}
    assert max(Counter(one for one, _ in once).values()) == 1, "the same id is always the same event"


def test_a_killed_client_needs_no_sync_to_keep_what_it_spooled(tmp_path: Path, server: Server) -> None:
    script = (
        "import os, signal, sys, watchkeeper\n"
        "client = watchkeeper.Client(sys.argv[1], model='m', interval=3600, spool=sys.argv[2], spool_sync='never')\n"
        "for i in range(1200): client.log({}, request_id=str(i))\n"
        "assert client.flush()\n"
        "client.log({}, request_id='too late')\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, dead_url(), str(tmp_path)], capture_output=True, timeout=60)
    assert done.returncode == -signal.SIGKILL, done.stderr
    with Client(server.url, model="other", spool=tmp_path) as client:
        assert client.flush()
    assert ids(server.kept) == [str(i) for i in range(1200)]
