from __future__ import annotations

import hashlib
import hmac
import json
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from watchkeeper.channels import CHANNELS, Notice, RetryLaterError, webhook
from watchkeeper.channels.webhook import Webhook, WebhookSettings, sign
from watchkeeper.errors import DeliveryError
from watchkeeper.testing import check_channel


@dataclass
class Receiver:
    """A server that notes what it is sent and gives the answers it was told to, then 200."""

    url: str = ""
    answers: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    got: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    found = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            found.got.append((self.path, dict(self.headers.items()), body))
            code, headers = found.answers.pop(0) if found.answers else (200, {})
            self.send_response(code)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found.url = f"http://127.0.0.1:{server.server_port}/hook?token=t0p"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield found
    server.shutdown()
    thread.join()
    server.server_close()


def hook(url: str, secret: str | None = "s3cret") -> Webhook:
    return Webhook(WebhookSettings.model_validate({"url": url, "secret": secret}))


def test_it_posts_a_signed_notice(receiver: Receiver, notice: Notice, now: datetime) -> None:
    hook(receiver.url).send(notice, now)
    [(path, headers, body)] = receiver.got
    assert path == "/hook?token=t0p"
    assert json.loads(body) == notice.to_dict()
    assert headers["Content-Type"] == "application/json"
    assert headers["X-Watchkeeper-Delivery"] == notice.id
    assert headers["X-Watchkeeper-Timestamp"] == str(int(now.timestamp()))
    text = headers["X-Watchkeeper-Timestamp"].encode() + b"." + body
    wanted = "v1=" + hmac.new(b"s3cret", text, hashlib.sha256).hexdigest()
    assert hmac.compare_digest(headers["X-Watchkeeper-Signature"], wanted)


def test_the_signature_has_a_known_answer() -> None:
    # printf '1372950000.{}' | openssl dgst -sha256 -hmac key
    assert sign("key", "1372950000", b"{}") == "v1=db7f42772127cc7a867d2c6c3c3c38ff135c10b6eca210f390738370248abacf"


def test_the_notice_as_json_holds_all_that_is_known(notice: Notice) -> None:
    found = json.loads(json.dumps(notice.to_dict(), allow_nan=False))
    assert found["at"] == "2013-07-04T15:00:00+00:00"
    assert found["severity"] == "P1"
    assert found["lines"] == list(notice.lines)
    assert found["details"] == notice.details
    assert {"id", "title", "model", "subject", "before", "after", "reason", "actor", "note"} <= found.keys()


def test_nothing_is_signed_without_a_secret(receiver: Receiver, notice: Notice, now: datetime) -> None:
    hook(receiver.url, None).send(notice, now)
    assert "X-Watchkeeper-Signature" not in receiver.got[0][1]


@pytest.mark.parametrize("code", [200, 201, 202, 204])
def test_any_success_will_do(receiver: Receiver, notice: Notice, now: datetime, code: int) -> None:
    receiver.answers = [(code, {})]
    hook(receiver.url).send(notice, now)


@pytest.mark.parametrize("code", [408, 425, 429, 500, 502, 503, 504])
def test_trouble_that_passes(receiver: Receiver, notice: Notice, now: datetime, code: int) -> None:
    receiver.answers = [(code, {})]
    with pytest.raises(DeliveryError, match=f"127.0.0.1 answered {code}") as caught:
        hook(receiver.url).send(notice, now)
    assert not caught.value.permanent
    assert not isinstance(caught.value, RetryLaterError)
    hook(receiver.url).send(notice, now)
    first, second = receiver.got
    assert first[1]["X-Watchkeeper-Delivery"] == second[1]["X-Watchkeeper-Delivery"]


@pytest.mark.parametrize("code", [301, 307, 400, 401, 403, 404, 410, 422])
def test_trouble_that_stays(receiver: Receiver, notice: Notice, now: datetime, code: int) -> None:
    receiver.answers = [(code, {"Location": receiver.url} if code < 400 else {})]
    with pytest.raises(DeliveryError, match=str(code)) as caught:
        hook(receiver.url).send(notice, now)
    assert caught.value.permanent
    assert "t0p" not in str(caught.value)
    assert len(receiver.got) == 1


@pytest.mark.parametrize(
    ("header", "wanted"),
    [
        ("120", timedelta(seconds=120)),
        (format_datetime(datetime.fromisoformat("2013-07-04T15:07:00+00:00"), usegmt=True), timedelta(minutes=7)),
        (format_datetime(datetime.fromisoformat("2013-07-04T14:00:00+00:00"), usegmt=True), timedelta(0)),
        ("soon", None),
        ("-3", None),
        ("9" * 40, timedelta(seconds=10**6)),
    ],
)  # fmt: skip
@pytest.mark.parametrize("code", [429, 503])
def test_the_time_that_is_asked_for_is_passed_on(
    receiver: Receiver, notice: Notice, now: datetime, code: int, header: str, wanted: timedelta | None
) -> None:
    receiver.answers = [(code, {"Retry-After": header})]
    with pytest.raises(DeliveryError) as caught:
        hook(receiver.url).send(notice, now)
    assert not caught.value.permanent
    assert (caught.value.after if isinstance(caught.value, RetryLaterError) else None) == wanted


def test_a_dead_port_is_passing(notice: Notice, now: datetime) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    with pytest.raises(DeliveryError, match=r"127\.0\.0\.1 cannot be reached") as caught:
        hook(f"http://127.0.0.1:{port}/?token=t0p").send(notice, now)
    assert not caught.value.permanent
    assert "t0p" not in str(caught.value)


def test_a_server_that_never_answers_is_passing(notice: Notice, now: datetime, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook, "TIMEOUT", 0.1)
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        pytest.raises(DeliveryError, match="cannot be reached") as caught,
    ):
        hook(f"http://127.0.0.1:{silent.getsockname()[1]}/").send(notice, now)
    assert not caught.value.permanent


def test_a_server_that_hangs_up_is_passing(notice: Notice, now: datetime) -> None:
    with socket.create_server(("127.0.0.1", 0)) as rude:

        def hang_up() -> None:
            connection, _ = rude.accept()
            with connection:
                connection.recv(100)

        thread = threading.Thread(target=hang_up)
        thread.start()
        with pytest.raises(DeliveryError) as caught:
            hook(f"http://127.0.0.1:{rude.getsockname()[1]}/").send(notice, now)
        thread.join()
    assert not caught.value.permanent


def test_it_keeps_the_contract(receiver: Receiver) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        dead = f"http://127.0.0.1:{taken.getsockname()[1]}/"
    check_channel(CHANNELS["webhook"], {"url": receiver.url, "secret": "s"}, {"url": dead})
