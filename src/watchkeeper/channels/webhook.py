"""Webhooks: notices as JSON over HTTP, signed."""

from __future__ import annotations

import hashlib
import hmac
import json
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Annotated

import httpx
from pydantic import AfterValidator, SecretStr

from watchkeeper.channels import ChannelSettings, Notice, RetryLaterError, Secret, channel
from watchkeeper.errors import DeliveryError

TIMEOUT = 10.0
"""Seconds to connect, and again for each answer."""

_PASSING = {408, 425, 429}


def _is_address(value: SecretStr) -> SecretStr:
    try:
        url = httpx.URL(value.get_secret_value())
    except httpx.InvalidURL as problem:
        raise ValueError(f"is no address: {problem}") from None
    if url.scheme not in ("http", "https") or not url.host:
        raise ValueError("must be an address that begins with https:// or http://")
    return value


class WebhookSettings(ChannelSettings):
    """`url` is where to post; it counts as a secret, since many carry a token. `secret` signs what is posted;
    without it nothing is signed."""

    url: Annotated[Secret, AfterValidator(_is_address)]
    secret: Secret | None = None


def sign(secret: str, timestamp: str, body: bytes) -> str:
    """The signature of a request: `v1=` and HMAC-SHA256 of `timestamp.body` in hexadecimal."""
    digest = hmac.new(secret.encode(), f"{timestamp}.".encode() + body, hashlib.sha256).hexdigest()
    return f"v1={digest}"


@channel("webhook", WebhookSettings)
class Webhook:
    """Posts each notice as a JSON object, the form of `Notice.to_dict`, with these headers:

    - `X-Watchkeeper-Delivery`: the notice's id; the same when it is sent again.
    - `X-Watchkeeper-Timestamp`: when it was sent, in seconds since 1970.
    - `X-Watchkeeper-Signature`: `v1=` and, in hexadecimal, HMAC-SHA256 of the timestamp, a full stop and the body as
      it came, keyed with the secret. Only with a secret.

    A receiver computes the signature anew from the raw body, compares it in constant time (`hmac.compare_digest`),
    refuses timestamps older than some minutes, and ignores a delivery that it has seen before. Any answer from 200
    to 299 means that it has taken the notice on.

    Answers 408, 425, 429 and from 500 on, and trouble with the network, are passing: the notice is sent again, not
    before the time that `Retry-After` asks for. Any other answer is permanent. Redirects are not followed.
    """

    def __init__(self, settings: WebhookSettings) -> None:
        self._url = httpx.URL(settings.url.get_secret_value())
        self._secret = settings.secret.get_secret_value() if settings.secret else ""

    def send(self, notice: Notice, now: datetime) -> None:
        """Post the notice. Raises DeliveryError, RetryLaterError."""
        body = json.dumps(notice.to_dict(), separators=(",", ":")).encode()
        timestamp = str(int(now.timestamp()))
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "watchkeeper",
            "X-Watchkeeper-Delivery": notice.id,
            "X-Watchkeeper-Timestamp": timestamp,
        }
        if self._secret:
            headers["X-Watchkeeper-Signature"] = sign(self._secret, timestamp, body)
        try:
            with httpx.stream("POST", self._url, content=body, headers=headers, timeout=TIMEOUT) as response:
                code, wait = response.status_code, response.headers.get("Retry-After", "")
        except httpx.TransportError as problem:
            said = str(problem) or type(problem).__name__
            raise DeliveryError(f"{self._url.host} cannot be reached: {said}", permanent=False) from problem
        if 200 <= code < 300:
            return
        message = f"{self._url.host} answered {code} {httpx.codes.get_reason_phrase(code)}".rstrip()
        if code not in _PASSING and code < 500:
            hint = "; redirects are not followed: write the new address" if 300 <= code < 400 else ""
            raise DeliveryError(message + hint, permanent=True)
        after = _wait(wait, now)
        if after is not None:
            raise RetryLaterError(message, after)
        raise DeliveryError(message, permanent=False)


def _wait(header: str, now: datetime) -> timedelta | None:
    """What a `Retry-After` header asks for: seconds, or a date; None where it says neither."""
    if header.strip().isdecimal():
        return timedelta(seconds=min(int(header), 10**6))
    try:
        until = parsedate_to_datetime(header)
    except ValueError:
        return None
    return max((until if until.tzinfo else until.replace(tzinfo=UTC)) - now, timedelta(0))
