from __future__ import annotations

import asyncio
import shutil
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, Envelope, LoginPassword, Session

from watchkeeper.channels import CHANNELS, Notice
from watchkeeper.channels.email import Email, EmailSettings
from watchkeeper.errors import DeliveryError
from watchkeeper.testing import NOTICES, check_channel

TO = ["team@example.org", "Ünicode".encode("idna").decode() + "@example.org"]


@dataclass
class Post:
    """A mail server's handler that notes what it is sent and answers as it was told to, then takes everything."""

    answers: list[str] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)
    got: list[tuple[str, list[str], EmailMessage]] = field(default_factory=list)

    async def handle_RCPT(  # noqa: N802
        self, server: Any, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if address in self.refused:
            return self.refused[address]
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Session, envelope: Envelope) -> str:  # noqa: N802
        if self.answers:
            return self.answers.pop(0)
        assert isinstance(envelope.content, bytes)
        mail = message_from_bytes(envelope.content, policy=policy.default)
        assert isinstance(mail, EmailMessage)
        self.got.append((str(envelope.mail_from), list(envelope.rcpt_tos), mail))
        return "250 taken"


Open = Callable[..., int]


@pytest.fixture
def post() -> Post:
    return Post()


@pytest.fixture
def serve(post: Post) -> Iterator[Open]:
    """Starts a mail server and returns its port."""
    running: list[Controller] = []

    def start(**options: Any) -> int:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port: int = free.getsockname()[1]
        controller = Controller(post, "127.0.0.1", port, **options)
        running.append(controller)
        controller.start()
        return port

    yield start
    for controller in running:
        until = monotonic() + 5
        while asyncio.all_tasks(controller.loop) and monotonic() < until:
            sleep(0.01)  # until it has seen that the client has gone, else it leaves connections behind
        controller.stop()


def mailer(port: int, **settings: Any) -> Email:
    given = {"host": "127.0.0.1", "port": port, "security": "none", "sender": "watch@example.org", "to": TO}
    return Email(EmailSettings.model_validate(given | settings))


def test_it_sends_a_mail_in_text_and_html(serve: Open, post: Post, notice: Notice, now: datetime) -> None:
    mailer(serve()).send(notice, now)
    [(sender, to, mail)] = post.got
    assert (sender, to) == ("watch@example.org", TO)
    assert mail["Subject"] == notice.title
    assert mail["Message-ID"] == f"<{notice.id}@example.org>"
    assert mail["References"] == f"<{notice.subject}@example.org>"
    assert mail["Date"].datetime == now
    assert mail["Auto-Submitted"] == "auto-generated"
    text, html = (mail.get_body((kind,)) for kind in ("plain", "html"))
    assert text is not None
    assert text.get_content().splitlines() == [notice.title, "", *notice.lines]
    assert html is not None
    assert "above 0.2 &lt;b&gt;" in html.get_content()
    assert "weiß" in html.get_content()


def test_a_mail_sent_again_is_the_same_mail(serve: Open, post: Post, notice: Notice, now: datetime) -> None:
    channel = mailer(serve())
    channel.send(notice, now)
    channel.send(notice, now)
    first, second = (mail for _, _, mail in post.got)
    assert first["Message-ID"] == second["Message-ID"]


def test_a_title_cannot_forge_a_header(serve: Open, notice: Notice, now: datetime) -> None:
    with pytest.raises(ValueError, match="Header"):  # `notify.notice` writes no such titles
        mailer(serve()).send(replace(notice, title="a\nBcc: b@example.org"), now)


@pytest.mark.parametrize(("answer", "permanent"), [("451 try later", False), ("554 not from you", True)])
def test_the_code_says_whether_it_passes(
    serve: Open, post: Post, notice: Notice, now: datetime, answer: str, permanent: bool
) -> None:
    post.answers = [answer]
    channel = mailer(serve())
    with pytest.raises(DeliveryError, match=f"answered {answer}") as caught:
        channel.send(notice, now)
    assert caught.value.permanent is permanent
    channel.send(notice, now)
    assert len(post.got) == 1


@pytest.mark.parametrize(("code", "permanent"), [("450", False), ("550", True)])
def test_all_recipients_refused(
    serve: Open, post: Post, notice: Notice, now: datetime, code: str, permanent: bool
) -> None:
    post.refused = dict.fromkeys(TO, f"{code} no")
    with pytest.raises(DeliveryError, match="refused 2 of 2 recipients") as caught:
        mailer(serve()).send(notice, now)
    assert caught.value.permanent is permanent
    assert not post.got


@pytest.mark.parametrize(("code", "permanent"), [("450", False), ("550", True)])
def test_some_recipients_refused(
    serve: Open, post: Post, notice: Notice, now: datetime, code: str, permanent: bool
) -> None:
    post.refused = {TO[1]: f"{code} who?"}
    with pytest.raises(DeliveryError, match=rf"refused 1 of 2 recipients: .*{code} who\?") as caught:
        mailer(serve()).send(notice, now)
    assert caught.value.permanent is permanent
    assert [to for _, to, _ in post.got] == [TO[:1]]


def test_a_dead_port_is_passing(notice: Notice, now: datetime) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    with pytest.raises(DeliveryError, match="cannot be reached") as caught:
        mailer(port).send(notice, now)
    assert not caught.value.permanent


# Logging in and encryption


def check_login(server: Any, session: Session, envelope: Envelope, mechanism: str, data: LoginPassword) -> AuthResult:
    return AuthResult(success=(data.login, data.password) == (b"watch", b"s3cret"), handled=False)


@pytest.mark.parametrize("password", ["s3cret", "wrong"])
def test_it_logs_in(serve: Open, post: Post, notice: Notice, now: datetime, password: str) -> None:
    port = serve(authenticator=check_login, auth_require_tls=False)
    channel = mailer(port, username="watch", password=password)
    if password == "s3cret":
        channel.send(notice, now)
        assert len(post.got) == 1
        return
    with pytest.raises(DeliveryError, match="answered 535") as caught:
        channel.send(notice, now)
    assert caught.value.permanent
    assert "wrong" not in str(caught.value)


def test_a_server_without_the_encryption_asked_for(serve: Open, notice: Notice, now: datetime) -> None:
    with pytest.raises(DeliveryError, match="does not offer") as caught:
        mailer(serve(), security="starttls").send(notice, now)
    assert caught.value.permanent


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ssl.SSLContext]:
    """A certificate of its own making for 127.0.0.1, and the server's side of it."""
    if shutil.which("openssl") is None:
        pytest.skip("makes its certificate with openssl")
    folder = tmp_path_factory.mktemp("tls")
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -keyout key -out cert"
    subprocess.run(
        [*command.split(), "-addext", "subjectAltName=IP:127.0.0.1"], cwd=folder, check=True, capture_output=True
    )
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(folder / "cert", folder / "key")
    return folder / "cert", context


@pytest.mark.parametrize("security", ["starttls", "tls"])
def test_it_encrypts(
    serve: Open,
    post: Post,
    notice: Notice,
    now: datetime,
    certificate: tuple[Path, ssl.SSLContext],
    monkeypatch: pytest.MonkeyPatch,
    security: str,
) -> None:
    trusted, context = certificate
    monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
    if security == "tls":
        port = serve(ssl_context=context)
    else:
        port = serve(tls_context=context, require_starttls=True, authenticator=check_login, auth_required=True)
    login = {"username": "watch", "password": "s3cret"} if security == "starttls" else {}
    mailer(port, security=security, **login).send(notice, now)
    assert len(post.got) == 1


def test_a_stranger_s_certificate_is_not_trusted(
    serve: Open, post: Post, notice: Notice, now: datetime, certificate: tuple[Path, ssl.SSLContext]
) -> None:
    with pytest.raises(DeliveryError, match="certificate"):
        mailer(serve(tls_context=certificate[1]), security="starttls").send(notice, now)
    assert not post.got


def test_it_keeps_the_contract(serve: Open, post: Post) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        dead = taken.getsockname()[1]
    settings = {"host": "127.0.0.1", "port": serve(), "security": "none", "sender": "watch@example.org", "to": TO}
    check_channel(CHANNELS["email"], settings, settings | {"port": dead})
    assert [mail["Subject"] for _, _, mail in post.got] == [notice.title for notice in NOTICES.values()]
