"""The logging client: predictions and labels from a serving process to watchkeeper.

It runs in other people's programs, so it is light (standard library only), never waits for the network or the disk
in `log` and `label`, and never raises there because something could not be delivered.
"""

from __future__ import annotations

import atexit
import json
import logging
import os
import threading
import urllib.error
import urllib.parse
import urllib.request
import uuid
import weakref
from collections import deque
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from http.client import HTTPException
from itertools import islice
from pathlib import Path
from time import monotonic
from types import TracebackType
from typing import Any, Protocol

from watchkeeper import events
from watchkeeper.errors import ConfigError, DataError, DeliveryError, StateError
from watchkeeper.store.inbox import Inbox

BATCH = 500
"""Events that are sent together at most; so many waiting are sent at once."""

_LONGEST_WAIT = 30.0
_LONGEST_ANSWER = 1 << 20
_QUIET = 60.0
_REFUSED = {400, 413, 422}
"""Answers that concern these very events; any other failure may be mended and is tried again."""

_log = logging.getLogger(__name__)


class Client:
    """Logs the predictions of one model, and later their labels.

        with Client("./store", model="delays", version="3") as client:
            request_id = client.log({"distance": 733, "origin": "JFK"}, score=0.83)
            client.label(request_id, 1)

    Events wait in memory and are sent by a thread of the client's own, each second or as soon as 500 wait. Until then
    they are lost if the process is killed; what was logged before a `flush` that returned True is not: it is on the
    disk, or the server has said that it took it on. `close` is called by itself when the interpreter ends in order,
    which a process that ends by `os._exit` (such as a worker of `multiprocessing`) does not.

    A server that cannot be reached, or answers that it cannot now, is tried again after 1, 2, 4, up to 30 seconds,
    while events wait in their order. Sending again does no harm: a row is kept once per request id. Events that the
    server refuses as wrong are dropped.

    May be used from many threads. After a fork the child begins with an empty buffer; what waited is the parent's.

    Args:
        target: the folder of a store, or the address of a server.
        model: the model's name in the configuration.
        version: of the model; may be given with each prediction instead.
        api_key: for a server that asks for one.
        buffer: events that may wait. When it is full the oldest are dropped, counted in `dropped`, and a warning is
            logged, once a minute at most.
        interval: seconds between two sendings.
        timeout: seconds that a server may take to answer.
        spool: a folder for what could not be delivered when the client closes. The next client with the same folder
            sends it. Without one such events are dropped, and an error is logged.

    Raises ConfigError for a target, buffer, interval or timeout that cannot be meant, DataError for a wrong model.
    """

    def __init__(
        self,
        target: str | os.PathLike[str],
        *,
        model: str,
        version: str = "",
        api_key: str | None = None,
        buffer: int = 10_000,
        interval: float = 1.0,
        timeout: float = 10.0,
        spool: str | os.PathLike[str] | None = None,
    ) -> None:
        if buffer < 1 or interval <= 0 or timeout <= 0:
            raise ConfigError(
                f"buffer must be 1 or more, interval and timeout above 0; found {buffer}, {interval}, {timeout}"
            )
        if not isinstance(model, str) or not model:
            raise DataError(f"model must be a name, found {model!r}")
        if not isinstance(version, str):
            raise DataError(f"version must be a string, found {version!r}")
        self._model, self._version = model, version
        self._target = _target(target, api_key, timeout)
        self._spool = None if spool is None else Inbox(Path(spool))
        self._buffer, self._interval, self._timeout = buffer, interval, timeout
        self._closed = False
        self._reset()
        _clients.add(self)

    def _reset(self) -> None:
        """Begin with nothing waiting and no thread: at the start, and in a forked child."""
        self._waiting: deque[events.Event] = deque()
        self._change = threading.Condition()
        """Guards what waits and what was counted; never held while sending."""
        self._sending = threading.Lock()
        """Held by the one who sends, so that events go in their order."""
        self._thread: threading.Thread | None = None
        self._first = 0
        """The number of the oldest event that waits; each has the next number."""
        self._dropped = 0
        self._said: dict[str, float] = {}
        self._spool_read = self._spool is None
        self._failures = 0
        """Sendings that failed in a row."""
        self._size = BATCH
        """Events in one batch: fewer once the server has refused a batch, to find out which event it means."""

    @property
    def dropped(self) -> int:
        """Events that were given up: the buffer was full, the server refused them, or the end came first."""
        return self._dropped

    def log(
        self,
        features: Mapping[str, object],
        *,
        prediction: object = None,
        score: object = None,
        request_id: str | None = None,
        entity_id: object = None,
        event_time: datetime | None = None,
        latency_ms: object = None,
        status: str = "ok",
        variant: str = "champion",
        version: str | None = None,
        context: Mapping[str, object] | None = None,
    ) -> str:
        """Log one prediction; returns its request id, by which it is labelled later.

        Args:
            features: name to value, as the model saw them; NumPy scalars, NaN and None are welcome.
            prediction: the class that was decided, 0 or 1.
            score: the probability of class 1.
            request_id: a new one is made if there is none. A second prediction under the same id is ignored.
            entity_id: whom or what the prediction is about.
            event_time: when, with a time zone; now if not given.
            latency_ms: how long the prediction took, in milliseconds.
            status: "ok", or what went wrong.
            variant: "champion" or "candidate".
            version: of the model, where it is not the client's.
            context: anything else worth keeping; it is not monitored.

        Raises DataError for wrong use, such as a time without a zone; never for trouble with the delivery.
        """
        request_id = str(uuid.uuid4()) if request_id is None else request_id
        self._add(
            events.prediction(
                self._model,
                features,
                request_id=request_id,
                event_time=datetime.now(UTC) if event_time is None else event_time,
                version=self._version if version is None else version,
                variant=variant,
                entity_id=entity_id,
                prediction=prediction,
                score=score,
                latency_ms=latency_ms,
                status=status,
                context=context,
            )
        )
        return request_id

    def label(self, request_id: str, value: object, known_at: datetime | None = None) -> None:
        """Say what a prediction should have been.

        Args:
            value: 0 or 1.
            known_at: since when this is known, with a time zone; now if not given.

        Raises DataError for wrong use; never for trouble with the delivery.
        """
        at = datetime.now(UTC) if known_at is None else known_at
        self._add(events.outcome(self._model, request_id, value, known_at=at))

    def flush(self, timeout: float = 30.0) -> bool:
        """Send all that was logged so far, now.

        Returns True if it is safe: on disk, or taken on by the server. False if it could not be delivered, now or
        within about `timeout` seconds; it then goes on waiting. Does not say anything about dropped events.
        """
        until = monotonic() + timeout
        with self._change:
            end = self._first + len(self._waiting)
        if not self._sending.acquire(timeout=max(timeout, 0)):
            return False
        try:
            self._send(end, until)
        finally:
            self._sending.release()
        return self._first >= end

    def close(self) -> None:
        """Send what waits, and end. What cannot be delivered goes to the spool folder, or is dropped with an error in
        the log. What is logged afterwards is dropped and counted."""
        with self._change:
            if self._closed:
                return
            self._closed = True
            self._change.notify_all()
        self.flush(self._timeout)
        with self._change:
            rest = list(self._waiting)
            self._remove(len(rest))
        if not rest or self._keep(rest):
            return
        with self._change:
            self._dropped += len(rest)
        _log.error("%d events could not be delivered before the end and are lost", len(rest))

    def _keep(self, rest: list[events.Event]) -> bool:
        """Put what could not be delivered into the spool folder, if there is one that can be written."""
        if self._spool is None:
            return False
        try:
            self._spool.put(rest)
        except StateError as problem:
            _log.error("%s", problem)
            return False
        _log.warning("%d events could not be delivered and are kept in %s", len(rest), self._spool.folder)
        return True

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # in the caller's thread

    def _add(self, event: events.Event) -> None:
        lost = ""
        with self._change:
            if self._closed:
                self._dropped += 1
                lost = "the client is closed"
            else:
                if len(self._waiting) >= self._buffer:
                    self._remove(1)
                    self._dropped += 1
                    lost = f"the buffer of {self._buffer} events is full"
                self._waiting.append(event)
                if self._thread is None:
                    self._start()
                elif len(self._waiting) == BATCH:
                    self._change.notify_all()
        if lost:
            self._say("drop", "events are being dropped, %d so far: %s", self._dropped, lost)

    def _start(self) -> None:
        thread = threading.Thread(target=self._run, name="watchkeeper-client", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # the interpreter is ending, or has no room for a thread: a later log or close sends
            return
        self._thread = thread

    def _remove(self, count: int) -> None:
        """Forget the oldest events. The caller holds `_change`."""
        for _ in range(count):
            self._waiting.popleft()
        self._first += count

    def _say(self, what: str, message: str, *values: object) -> None:
        """Log a warning of its kind, once a minute at most."""
        now = monotonic()
        last = self._said.get(what)
        if last is None or now - last >= _QUIET:
            self._said[what] = now
            _log.warning(message, *values)

    # in the sending thread, or in the one that flushes; one at a time, under `_sending`

    def _run(self) -> None:
        while not self._closed:
            wait = min(2.0 ** (self._failures - 1), _LONGEST_WAIT) if self._failures else self._interval
            with self._change:
                self._change.wait_for(self._is_due, wait)
            with self._sending:
                if self._closed:
                    return
                self._spool_read = self._spool_read or self._send_spool()
                with self._change:
                    end = self._first + min(len(self._waiting), BATCH)
                self._failures = 0 if self._send(end, monotonic() + self._timeout) else self._failures + 1

    def _is_due(self) -> bool:
        return self._closed or (not self._failures and len(self._waiting) >= BATCH)

    def _send(self, end: int, until: float) -> bool:
        """Send the events numbered below `end`, or as many as can be sent before `until`. False if the target could
        not take them just now. An event goes on waiting until it is delivered."""
        while self._first < end and monotonic() < until:
            with self._change:
                first = self._first
                batch = list(islice(self._waiting, min(self._size, end - first)))
            if not batch:
                return True
            try:
                refused = self._target.send(batch)
            except DeliveryError as problem:
                if not problem.permanent:
                    self._say("wait", "%d events wait: %s", len(self._waiting), problem)
                    return False
                if len(batch) > 1:
                    self._size = len(batch) // 2
                    continue
                refused = [str(problem)]
            else:
                self._size = min(2 * self._size, BATCH)
            with self._change:
                gone = min(self._first - first, len(batch))
                self._remove(len(batch) - gone)
                if not self._closed:  # what was pushed out meanwhile was counted as dropped, and is delivered after all
                    self._dropped -= gone
                self._dropped += len(refused)
            if refused:
                self._say("refuse", "%d events were refused and are dropped: %s", len(refused), refused[0])
        return True

    def _send_spool(self) -> bool:
        """Send what an earlier client left in the spool folder. False if that is for another time."""
        if self._spool is None:
            return True
        try:
            for path, found in self._spool.batches():
                for at in range(0, len(found), BATCH):
                    batch = found[at : at + BATCH]
                    if self._closed:
                        return False
                    try:
                        refused = self._target.send(batch)
                    except DeliveryError as problem:
                        if not problem.permanent:
                            return False
                        self._spool.reject(f"{path.stem}-{at}", batch, str(problem))
                        refused = [str(problem)]
                    if refused:
                        self._say("spool", "%d events of the spool were refused: %s", len(refused), refused[0])
                self._spool.done(path)
        except (OSError, StateError) as problem:
            self._say("spool", "the spool %s cannot be read: %s", self._spool.folder, problem)
            return False
        return True


class _Target(Protocol):
    def send(self, batch: Sequence[events.Event]) -> list[str]:
        """Hand events over for good; returns why some of them were refused. Raises DeliveryError if none was taken,
        permanent if they never will be."""


class _Folder:
    """The inbox of a store on this machine."""

    def __init__(self, folder: Path) -> None:
        self._inbox = Inbox(folder)

    def send(self, batch: Sequence[events.Event]) -> list[str]:
        try:
            self._inbox.put(batch)
            return []
        except StateError as problem:
            raise DeliveryError(str(problem), permanent=False) from problem


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirected POST would arrive as a GET without its events, so redirects are answers like others."""

    def redirect_request(self, *_: Any) -> None:
        return None


class _Server:
    """A watchkeeper server."""

    def __init__(self, address: str, api_key: str | None, timeout: float) -> None:
        self._address = address.rstrip("/")
        self._host = urllib.parse.urlsplit(address).hostname
        self._timeout = timeout
        self._headers = {"Content-Type": "application/json", "User-Agent": "watchkeeper-client"}
        if api_key:
            self._headers["Authorization"] = f"Bearer {api_key}"
        self._open = urllib.request.build_opener(_NoRedirect).open

    def send(self, batch: Sequence[events.Event]) -> list[str]:
        groups: dict[tuple[str, str], list[events.Event]] = {}
        for event in batch:
            groups.setdefault((event["model"], f"{event['kind']}s"), []).append(event)
        refused = []
        for (model, kind), group in groups.items():
            refused += self._post(f"{self._address}/v1/models/{urllib.parse.quote(model, safe='')}/{kind}", group)
        return refused

    def _post(self, url: str, group: list[events.Event]) -> list[str]:
        body = json.dumps({"events": group}, separators=(",", ":")).encode()
        request = urllib.request.Request(url, body, self._headers, method="POST")
        try:
            with self._open(request, timeout=self._timeout) as answer:
                return _refused(answer.read(_LONGEST_ANSWER))
        except urllib.error.HTTPError as problem:
            with problem:
                said = _opening(problem)
            raise DeliveryError(
                f"{self._host} answered {problem.code} {said}", permanent=problem.code in _REFUSED
            ) from problem
        except (OSError, HTTPException) as problem:
            raise DeliveryError(f"{self._host} cannot be reached: {problem}", permanent=False) from problem


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


def _target(target: str | os.PathLike[str], api_key: str | None, timeout: float) -> _Target:
    text = os.fspath(target)
    scheme, separator, _ = text.partition("://")
    if not separator:
        return _Folder(Path(text))
    if scheme not in ("http", "https") or not urllib.parse.urlsplit(text).hostname:
        raise ConfigError(f'"{text}" is neither a folder nor an address such as https://watchkeeper.example.org')
    if api_key is not None and not (api_key.isascii() and api_key.isprintable()):
        raise ConfigError("api_key holds a character that no key has, perhaps the end of a line; remove it")
    return _Server(text, api_key, timeout)


_clients: weakref.WeakSet[Client] = weakref.WeakSet()


def _close_all() -> None:
    for client in list(_clients):
        client.close()


def _begin_anew() -> None:
    for client in list(_clients):
        client._reset()


atexit.register(_close_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew)
