"""Where events go: the inbox of a store on this machine, or a watchkeeper server."""

from __future__ import annotations

import json
import os
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Sequence
from email.utils import parsedate_to_datetime
from http.client import HTTPException
from pathlib import Path
from typing import Any, Protocol

from watchkeeper.client.rows import Line, Rows
from watchkeeper.errors import ConfigError, DeliveryError, StateError
from watchkeeper.events import LOSSES, Event
from watchkeeper.store.inbox import Inbox

INVALID, REFUSED = "invalid", "refused"
"""Why an event was not delivered: it has not the form of one, or the server does not take it."""

Parcel = Sequence[Line] | Rows
"""What is sent at once."""

ARROW = "application/vnd.apache.arrow.stream"

_LONGEST_ANSWER = 1 << 20
_LONGEST_PAUSE = 3600.0
_REFUSED = {400, 413, 422}
"""Answers that concern these very events; any other failure may be mended and is tried again."""
_NO_ARROW = 415


class BusyError(DeliveryError):
    """The server asks to be left alone for so many seconds."""

    def __init__(self, message: str, seconds: float) -> None:
        super().__init__(message, permanent=False)
        self.seconds = seconds


class Target(Protocol):
    def send(self, parcel: Parcel) -> list[tuple[str, str]]:
        """Hand events over for good; returns for each that was not taken why: `INVALID` or `REFUSED`, and in words.
        Raises DeliveryError if none was taken, permanent if they never will be."""

    def tell(self, losses: Event) -> None:
        """Say what was dropped so far. Raises DeliveryError if that cannot be done."""


class Folder:
    """The inbox of a store on this machine."""

    def __init__(self, folder: Path) -> None:
        self._inbox = Inbox(folder)

    def send(self, parcel: Parcel) -> list[tuple[str, str]]:
        lines, wrong = _lines(parcel)
        try:
            self._inbox.put_lines([line.text for line in lines])
        except StateError as problem:
            raise DeliveryError(str(problem), permanent=False) from problem
        return wrong

    def tell(self, losses: Event) -> None:
        try:
            self._inbox.put([losses])
        except StateError as problem:
            raise DeliveryError(str(problem), permanent=False) from problem


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirected POST would arrive as a GET without its events, so redirects are answers like others."""

    def redirect_request(self, *_: Any) -> None:
        return None


class Server:
    """A watchkeeper server. Rows go to it as an Arrow stream, if pyarrow is installed here and the server takes it."""

    def __init__(self, address: str, api_key: str | None, timeout: float) -> None:
        self._address = address.rstrip("/")
        self._host = urllib.parse.urlsplit(address).hostname
        self._timeout = timeout
        self._headers = {"User-Agent": "watchkeeper-client"}
        if api_key:
            self._headers["Authorization"] = f"Bearer {api_key}"
        self._open = urllib.request.build_opener(_NoRedirect).open
        self._takes_arrow = True

    def send(self, parcel: Parcel) -> list[tuple[str, str]]:
        stream = parcel.arrow() if isinstance(parcel, Rows) and self._takes_arrow else None
        if isinstance(parcel, Rows) and stream is not None:
            try:
                return self._post(parcel.model, f"{parcel.kind}s", ARROW, stream)
            except DeliveryError as problem:
                cause = problem.__cause__
                if not (isinstance(cause, urllib.error.HTTPError) and cause.code == _NO_ARROW):
                    raise
                self._takes_arrow = False
        lines, refused = _lines(parcel)
        groups: dict[tuple[str, str], list[str]] = {}
        for line in lines:
            groups.setdefault((line.model, line.kind), []).append(line.text)
        for (model, kind), texts in groups.items():
            refused += self._post(model, f"{kind}s", "application/json", f'{{"events":[{",".join(texts)}]}}'.encode())
        return refused

    def tell(self, losses: Event) -> None:
        body = json.dumps({name: losses[name] for name in ("client", "dropped")}).encode()
        self._post(losses["model"], LOSSES, "application/json", body)

    def _post(self, model: str, what: str, form: str, body: bytes) -> list[tuple[str, str]]:
        url = f"{self._address}/v1/models/{urllib.parse.quote(model, safe='')}/{what}"
        request = urllib.request.Request(url, body, {**self._headers, "Content-Type": form}, method="POST")
        try:
            with self._open(request, timeout=self._timeout) as answer:
                return [(REFUSED, why) for why in _refused(answer.read(_LONGEST_ANSWER))]
        except urllib.error.HTTPError as problem:
            with problem:
                said = f"{self._host} answered {problem.code} {_opening(problem)}"
            if pause := _pause(problem.headers.get("Retry-After")):
                raise BusyError(said, pause) from problem
            raise DeliveryError(said, permanent=problem.code in _REFUSED) from problem
        except (OSError, HTTPException) as problem:
            raise DeliveryError(f"{self._host} cannot be reached: {problem}", permanent=False) from problem


def _lines(parcel: Parcel) -> tuple[list[Line], list[tuple[str, str]]]:
    if not isinstance(parcel, Rows):
        return list(parcel), []
    lines, wrong = parcel.lines()
    return lines, [(INVALID, why) for why in wrong]


def _refused(answer: bytes) -> list[str]:
    """Why the server took some events not on, out of its answer."""
    try:
        found = json.loads(answer)
    except ValueError:
        return []
    rejected = found.get("rejected") if isinstance(found, dict) else None
    return [str(r.get("reason", "")) if isinstance(r, dict) else "" for r in rejected or ()]


def _opening(answer: urllib.error.HTTPError) -> str:
    """The first words of an answer, for the log."""
    try:
        return answer.read(300).decode("utf-8", "replace").strip()
    except (OSError, HTTPException):
        return answer.reason


def _pause(found: str | None) -> float:
    """The seconds that a header `Retry-After` asks for, as a number or as a date; 0 without a sensible one."""
    try:
        seconds = float(found or 0)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(found or "").timestamp() - time.time()
        except (ValueError, OverflowError):
            return 0.0
    return min(seconds, _LONGEST_PAUSE) if seconds > 0 else 0.0


def target_of(target: str | os.PathLike[str], api_key: str | None, timeout: float) -> Target:
    """What a client was told to send to. Raises ConfigError for what is neither a folder nor an address."""
    text = os.fspath(target)
    scheme, separator, _ = text.partition("://")
    if not separator:
        return Folder(Path(text))
    if scheme not in ("http", "https") or not urllib.parse.urlsplit(text).hostname:
        raise ConfigError(f'"{text}" is neither a folder nor an address such as https://watchkeeper.example.org')
    if api_key is not None and not (api_key.isascii() and api_key.isprintable()):
        raise ConfigError("api_key holds a character that no key has, perhaps the end of a line; remove it")
    return Server(text, api_key, timeout)
