"""E-mail: notices by SMTP, as plain text with an HTML form beside it."""

from __future__ import annotations

import smtplib
import ssl
from contextlib import suppress
from datetime import datetime
from email.errors import HeaderParseError
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import format_datetime
from html import escape
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from watchkeeper.channels import ChannelSettings, Notice, Secret, channel
from watchkeeper.errors import DeliveryError

TIMEOUT = 10.0
"""Seconds to connect, and again for each answer."""

_PORTS = {"starttls": 587, "tls": 465, "none": 25}
_LOCAL = {"localhost", "127.0.0.1", "::1"}


def _is_mailbox(value: str) -> str:
    try:
        address = Address(addr_spec=value)
    except (HeaderParseError, ValueError, IndexError):
        raise ValueError(f'"{value}" is no e-mail address; write one such as team@example.org') from None
    if not address.domain or not value.isascii() or not value.isprintable():
        raise ValueError(f'"{value}" is no e-mail address; write one such as team@example.org')
    return value


Mailbox = Annotated[str, AfterValidator(_is_mailbox)]


class EmailSettings(ChannelSettings):
    """Where the mail server is and who writes to whom.

    `security` is "starttls" (the usual one, port 587), "tls" (port 465) or "none" (port 25); `port` is set only
    where it differs. A password is never sent unencrypted, except to the same machine.
    """

    host: str = Field(min_length=1)
    port: int | None = Field(default=None, ge=1, le=65535)
    security: Literal["starttls", "tls", "none"] = "starttls"
    username: str = ""
    password: Secret | None = None
    sender: Mailbox
    to: Annotated[tuple[Mailbox, ...], Field(min_length=1, strict=False)]

    @model_validator(mode="after")
    def _logs_in_safely(self) -> EmailSettings:
        if bool(self.username) != (self.password is not None):
            raise ValueError("username and password belong together; write both or neither")
        if self.username and self.security == "none" and self.host not in _LOCAL:
            raise ValueError(
                'a password must not travel unencrypted; set security to "starttls" or "tls", or leave username and'
                " password out"
            )
        return self


@channel("email", EmailSettings)
class Email:
    """Sends each notice as one e-mail to all recipients.

    Its Message-ID is made of the notice's id, so a mail that is sent again is recognised as the same one. Mails
    about one incident refer to it and so stand together in a mail program.

    SMTP codes from 500 on are permanent, those from 400 on and trouble with the network are passing. If the server
    refuses some of the recipients only, the others have the mail, and the delivery fails with the names of the rest.
    """

    def __init__(self, settings: EmailSettings) -> None:
        self._settings = settings

    def send(self, notice: Notice, now: datetime) -> None:
        """Send the notice. Raises DeliveryError."""
        host = self._settings.host
        try:
            refused = self._send(self.message(notice, now))
        except smtplib.SMTPRecipientsRefused as problem:
            refused = problem.recipients
        except smtplib.SMTPResponseException as problem:
            said = f"{problem.smtp_code} {_text(problem.smtp_error)}"
            raise DeliveryError(f"{host} answered {said}", permanent=problem.smtp_code >= 500) from problem
        except smtplib.SMTPNotSupportedError as problem:
            raise DeliveryError(
                f"{host} does not offer what the settings ask for: {problem}", permanent=True
            ) from problem
        except (smtplib.SMTPException, OSError) as problem:
            raise DeliveryError(f"{host} cannot be reached: {problem}", permanent=False) from problem
        if refused:
            rest = "; ".join(f"{who}: {code} {_text(said)}" for who, (code, said) in sorted(refused.items()))
            raise DeliveryError(
                f"{host} refused {len(refused)} of {len(self._settings.to)} recipients: {rest}",
                permanent=all(code >= 500 for code, _ in refused.values()),
            )

    def _send(self, message: EmailMessage) -> dict[str, tuple[int, bytes]]:
        """Hand the mail to the server; returns the recipients it refused."""
        s = self._settings
        port = s.port or _PORTS[s.security]
        trusted = ssl.create_default_context()
        server = (
            smtplib.SMTP_SSL(s.host, port, timeout=TIMEOUT, context=trusted)
            if s.security == "tls"
            else smtplib.SMTP(s.host, port, timeout=TIMEOUT)
        )
        try:
            if s.security == "starttls":
                server.starttls(context=trusted)
            if s.password is not None:
                server.login(s.username, s.password.get_secret_value())
            refused = server.send_message(message, s.sender, list(s.to))
            with suppress(smtplib.SMTPException, OSError):
                server.quit()
            return refused
        finally:
            server.close()

    def message(self, notice: Notice, now: datetime) -> EmailMessage:
        """The mail that says the notice."""
        domain = self._settings.sender.rpartition("@")[2]
        mail = EmailMessage()
        mail["From"] = self._settings.sender
        mail["To"] = ", ".join(self._settings.to)
        mail["Subject"] = notice.title
        mail["Date"] = format_datetime(now)
        mail["Message-ID"] = f"<{notice.id}@{domain}>"
        mail["References"] = f"<{notice.subject}@{domain}>"
        mail["Auto-Submitted"] = "auto-generated"
        mail["X-Watchkeeper-Delivery"] = notice.id
        mail.set_content("\n".join((notice.title, "", *notice.lines)) + "\n")
        lines = "".join(f"<li>{escape(line)}</li>" for line in notice.lines)
        mail.add_alternative(
            f'<!doctype html><html><body style="font-family: sans-serif">'
            f"<p><strong>{escape(notice.title)}</strong></p><ul>{lines}</ul></body></html>\n",
            subtype="html",
        )
        return mail


def _text(said: bytes | str) -> str:
    return said.decode("utf-8", "replace") if isinstance(said, bytes) else said
