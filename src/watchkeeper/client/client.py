"""The logging client: predictions, labels and KPIs from a serving process to watchkeeper.

It runs in other people's programs, so it is light (standard library only), never waits for the network or the disk
in `log`, `label` and `kpi`, and never raises there. What the caller's thread does is to copy and to append; a thread
of the client's own checks, writes as JSON and sends.
"""

from __future__ import annotations

import itertools
import os
import sys
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

from watchkeeper import events
from watchkeeper.client.prediction import Logged, Prediction, logged
from watchkeeper.client.rows import Line, Rows, columns_of, line, words_of
from watchkeeper.client.sender import BATCH, Sender, Stats
from watchkeeper.client.spool import Spool, Sync
from watchkeeper.client.target import INVALID, target_of
from watchkeeper.errors import ConfigError, DataError, DeliveryError

_FIELDS = (
    "request_id", "features", "event_time", "version", "variant", "entity_id", "prediction", "score", "latency_ms",
    *events.RESOURCES, "status", "context",
)  # fmt: skip
"""What `log` appends, in this order, and then the time of it."""


class Client:
    """Logs the predictions of one model, and later their labels and what came of them.

        with Client("./store", model="delays", version="3") as client:
            request_id = client.log({"distance": 733, "origin": "JFK"}, score=0.83)
            client.label(request_id, 1)
            client.kpi(request_id, "refund", 12.5)

    Events wait in memory and are sent by a thread of the client's own, each second or as soon as 500 wait. Until then
    they are lost if the process is killed; what was logged before a `flush` that returned True is not. `close` is
    called by itself when the interpreter ends in order, and when a process of `multiprocessing` does; one that ends by
    `os._exit` must call it.

    A server that cannot be reached, or answers that it cannot now, is tried again after 1, 2, 4, up to 30 seconds, or
    when it asked to be, while events wait in their order. With a spool they go there once it has been away for 5
    seconds or half of the buffer is taken, and from there to the server when it is back, before the newer ones. Sending
    again does no harm: a row is kept once per request id.

    Nothing here raises into the caller once the client is made. An event that is none, such as one without a zone in
    its time, is dropped, counted in `stats` by reason, and a warning is logged, once a minute at most. With `strict`,
    which is meant for tests, `log`, `label` and `kpi` raise DataError at once, and `flush` and `close` raise
    DeliveryError for what could not be delivered.

    May be used from many threads, and in a coroutine: `log` never waits; await `aflush`. After a fork the child begins
    with an empty buffer; what waited is the parent's.

    Args:
        target: the folder of a store, or the address of a server.
        model: the model's name in the configuration.
        version: of the model; may be given with each prediction instead.
        api_key: for a server that asks for one.
        buffer: events that may wait in memory. When it is full the oldest are dropped. Of the tables of `log_many`
            ten times as many rows may wait (a first one may have any size); a further one is dropped.
        interval: seconds between two sendings.
        timeout: seconds that a server may take to answer.
        spool: a folder for what cannot be delivered now. Many clients and processes may share it; what a killed one
            left there is sent by the next. It needs a system with `flock`, which Windows is not.
        spool_limit: bytes that the spool may take; the oldest are dropped first, for the newest tell how the model is.
        spool_sync: when the spool must have reached the disk, for the case that the machine loses its power: "always",
            "interval" (each second, and in `flush`), or "never".
        strict: raise, instead of dropping and going on.

    Raises ConfigError for arguments that cannot be meant, DataError for a wrong model or version.
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
        spool_limit: int = 256 << 20,
        spool_sync: Sync = "interval",
        strict: bool = False,
    ) -> None:
        if buffer < 1 or interval <= 0 or timeout <= 0:
            raise ConfigError(
                f"buffer must be 1 or more, interval and timeout above 0; found {buffer}, {interval}, {timeout}"
            )
        if not isinstance(model, str) or not model:
            raise DataError(f"model must be a name, found {model!r}")
        if not isinstance(version, str):
            raise DataError(f"version must be a string, found {version!r}")
        self._model, self._version, self._strict = model, version, strict
        self._number_anew()
        _clients.add(self)
        self._sender = Sender(
            target_of(target, api_key, timeout),
            None if spool is None else Spool(Path(spool), limit=spool_limit, sync=spool_sync),
            self._line,
            model=model,
            buffer=buffer,
            interval=interval,
            timeout=timeout,
        )

    def _number_anew(self) -> None:
        """Begin request ids that no other process has: at the start, and in a forked child."""
        self._prefix = _prefix()
        self._count = itertools.count()

    @property
    def stats(self) -> Stats:
        """What became of the events so far."""
        return self._sender.stats()

    @property
    def dropped(self) -> int:
        """Events that were given up; `stats` says why."""
        return sum(self.stats.dropped.values())

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
        cpu_ms: object = None,
        memory_mb: object = None,
        gpu_memory_mb: object = None,
        disk_mb: object = None,
        cost: object = None,
        status: str = "ok",
        variant: str = "champion",
        version: str | None = None,
        context: Mapping[str, object] | None = None,
    ) -> str:
        """Log one prediction; returns its request id, by which it is labelled later.

        Args:
            features: name to value, as the model saw them; NumPy scalars, NaN and None are welcome. The mapping is
                copied, its values are not.
            prediction: the class that was decided, 0 or 1.
            score: the probability of class 1.
            request_id: a new one is made if there is none. A second prediction under the same id is ignored.
            entity_id: whom or what the prediction is about.
            event_time: when, with a time zone; now if not given.
            latency_ms: how long the prediction took, in milliseconds.
            cpu_ms, memory_mb, gpu_memory_mb, disk_mb, cost: what it used. `prediction` measures all but the last.
            status: "ok", or what went wrong.
            variant: "champion", "candidate", or any other part that the version plays, such as "shadow" or "fallback".
            version: of the model, where it is not the client's.
            context: anything else worth keeping; it is not monitored.

        With `strict`, raises DataError for what is not the form of a prediction.
        """
        if request_id is None:
            request_id = f"{self._prefix}{next(self._count):012x}"
        if type(features) is dict:
            features = features.copy()
        elif not self._strict:
            features = _copied(features)
        item = (
            request_id, features, event_time, self._version if version is None else version, variant, entity_id,
            prediction, score, latency_ms, cpu_ms, memory_mb, gpu_memory_mb, disk_mb, cost, status, context,
            time.time_ns(),
        )  # fmt: skip
        sender = self._sender
        waiting = sender.waiting
        waiting.append(self._line(item) if self._strict else item)
        if len(waiting) >= sender.wake_at or sender.thread is None or sender.ended:
            sender.attend()
        return request_id

    def log_many(
        self,
        rows: Any,
        *,
        event_time: datetime | None = None,
        version: str | None = None,
        variant: str = "champion",
        status: str = "ok",
    ) -> list[str]:
        """Log many predictions; returns their request ids.

        Args:
            rows: columns (a mapping of names to sequences of equal length), a table of pyarrow, Polars or pandas, or a
                list of mappings, one a row. Columns named as arguments of `log` are that (`request_id`, `score`, ...),
                all others are features. They are copied, save Arrow's, which do not change. Moments without a zone are
                in UTC.
            event_time, version, variant, status: for all rows, where there is no such column.

        A server is sent them as Arrow, which is many times faster, if pyarrow is installed and each column is of one
        type. With `strict`, raises DataError for what cannot be rows.
        """
        try:
            columns, length = columns_of(rows)
            if "request_id" in columns:
                ids = list(columns["request_id"])
            else:
                ids = [f"{self._prefix}{n:012x}" for n in itertools.islice(self._count, length)]
                columns["request_id"] = ids
            fields = {
                "event_time": datetime.now(UTC) if event_time is None else event_time,
                "version": self._version if version is None else version,
                "variant": variant,
                "status": status,
            }
            self._add_rows(Rows(self._model, events.PREDICTION, columns, fields, length))
            return [str(one) for one in ids]
        except Exception as problem:
            if self._strict:
                raise
            self._sender.drop(INVALID, _length(rows), words_of(problem), early=True)
            return []

    def label(
        self, request_id: str, value: object, known_at: datetime | None = None, source: str | None = None
    ) -> None:
        """Say what a prediction should have been.

        Args:
            value: 0 or 1.
            known_at: since when this is known, with a time zone; now if not given.
            source: how it is known: "explicit", "implicit" or "delayed".

        With `strict`, raises DataError for what is no label.
        """
        item = (request_id, value, known_at, source, time.time_ns())
        self._sender.waiting.append(self._line(item) if self._strict else item)
        self._sender.attend()

    def label_many(
        self,
        request_ids: Sequence[str],
        values: Sequence[object],
        known_at: datetime | None = None,
        source: str | Sequence[str | None] | None = None,
    ) -> None:
        """Say what many predictions should have been.

        Args:
            request_ids, values: for each prediction one.
            known_at: since when all of this is known, with a time zone; now if not given.
            source: how it is known: "explicit", "implicit" or "delayed", of all or of each.
        """
        try:
            each = {} if source is None or isinstance(source, str) else {"source": source}
            columns, length = columns_of({"request_id": request_ids, "label": values, **each})
            fields: dict[str, Any] = {"known_at": datetime.now(UTC) if known_at is None else known_at}
            fields |= {"source": source} if isinstance(source, str) else {}
            self._add_rows(Rows(self._model, events.OUTCOME, columns, fields, length))
        except Exception as problem:
            if self._strict:
                raise
            self._sender.drop(INVALID, _length(request_ids), words_of(problem), early=True)

    def kpi(self, request_id: str, name: str, value: object, known_at: datetime | None = None) -> None:
        """Log a business value that a prediction has led to: revenue, a click, a refund, minutes watched.

        Args:
            name: of the KPI, as in the model's configuration.
            value: a number, or whether it happened.
            known_at: since when this is known, with a time zone; now if not given. Of several values the one that
                became known last counts.

        With `strict`, raises DataError for what is no KPI.
        """
        item = (request_id, name, value, known_at, events.KPI, time.time_ns())
        self._sender.waiting.append(self._line(item) if self._strict else item)
        self._sender.attend()

    def kpi_many(
        self,
        request_ids: Sequence[str],
        name: str | Sequence[str],
        values: Sequence[object],
        known_at: datetime | None = None,
    ) -> None:
        """Log business values of many predictions.

        Args:
            request_ids, values: for each prediction one.
            name: of the KPI, of all or of each.
            known_at: since when all of this is known, with a time zone; now if not given.
        """
        try:
            each = {} if isinstance(name, str) else {"name": name}
            columns, length = columns_of({"request_id": request_ids, "value": values, **each})
            fields: dict[str, Any] = {"known_at": datetime.now(UTC) if known_at is None else known_at}
            fields |= {"name": name} if isinstance(name, str) else {}
            self._add_rows(Rows(self._model, events.KPI, columns, fields, length))
        except Exception as problem:
            if self._strict:
                raise
            self._sender.drop(INVALID, _length(request_ids), words_of(problem), early=True)

    def prediction(self, features: Mapping[str, object] | None = None, **fields: Any) -> Prediction:
        """A prediction to be made in a `with` block (or `async with`), measured, and logged at its end.

            with client.prediction({"distance": 733}, entity_id="customer-17") as p:
                p.score = model(p.features)

        Args:
            features: may be set inside, as `p.features`, as well.
            fields: as for `log`; each may be set inside, too.
        """
        return Prediction(self.log, features, fields)

    def logged(
        self,
        function: Callable[..., Any] | None = None,
        *,
        features: Callable[..., Mapping[str, object]] | None = None,
        result: Callable[[Any], Mapping[str, object]] | None = None,
        **fields: Any,
    ) -> Any:
        """A decorator: each call of the function is measured and logged as a prediction.

            @client.logged
            def score(features: dict[str, float]) -> float: ...

        Args:
            function: usual or `async`. What it raises is recorded, and raised on.
            features: makes the features out of the arguments of a call. Without it they are the first argument if that
                is a mapping, else all arguments by their names.
            result: makes fields of `log` out of what the function returns. Without it a number is the score, and of a
                mapping the entries "score" and "prediction" are taken.
            fields: as for `log`, for each call.
        """
        return logged(self.prediction, function, Logged(features, result, fields))

    def _line(self, item: tuple[Any, ...]) -> Line:
        """The line of what was logged. Raises DataError where it is no event."""
        if isinstance(item, Line):
            return item
        given: dict[str, Any]
        if len(item) == 5:
            request_id, value, known_at, source, now = item
            known_at = known_at or _moment(now)
            return line(events.outcome(self._model, request_id, value, known_at=known_at, source=source))
        if len(item) == 6:
            request_id, name, value, known_at, _, now = item
            return line(events.kpi(self._model, request_id, name, value, known_at=known_at or _moment(now)))
        given = dict(zip(_FIELDS, item, strict=False))
        if given["event_time"] is None:
            given["event_time"] = _moment(item[-1])
        return line(events.prediction(self._model, given.pop("features"), **given))

    def _add_rows(self, rows: Rows) -> None:
        if self._strict:
            for at in range(0, len(rows), BATCH):
                _, wrong = rows[at : at + BATCH].lines()
                if wrong:
                    raise DataError(wrong[0])
        self._sender.add(rows)

    def flush(self, timeout: float = 30.0) -> bool:
        """Send all that was logged so far, now.

        Returns True if it is safe from the end of this process: in the store, taken on by the server, or in the spool.
        False if it could not be delivered, now or within about `timeout` seconds; it then goes on waiting. Does not say
        anything about dropped events. With `strict`, raises DeliveryError instead of returning False.
        """
        safe = self._sender.flush(timeout)
        if not safe and self._strict:
            raise DeliveryError(f"what was logged is not delivered: {self._sender.trouble}", permanent=False)
        return safe

    async def aflush(self, timeout: float = 30.0) -> bool:
        """The same for a coroutine: the event loop goes on meanwhile."""
        asyncio: Any = sys.modules["asyncio"]  # who awaits has it; to import it would take as long as all of the client
        return bool(await asyncio.to_thread(self.flush, timeout))

    def close(self) -> None:
        """Send what waits, and end. What cannot be delivered goes to the spool, or is dropped with an error in the log.
        What is logged afterwards is dropped and counted. With `strict`, raises DeliveryError if events were lost."""
        lost = self._sender.close()
        if lost and self._strict:
            raise DeliveryError(f"events that could not be delivered: {lost}: {self._sender.trouble}", permanent=False)

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _prefix() -> str:
    """The beginning of this process' request ids: of a UUID of version 8, with 70 random bits; the last 12 digits
    count. So an id costs a tenth of what a random one does."""
    h = os.urandom(10).hex()
    return f"{h[:8]}-{h[8:12]}-8{h[12:15]}-{'89ab'[int(h[15], 16) & 3]}{h[16:19]}-"


def _moment(nanoseconds: int) -> datetime:
    return datetime.fromtimestamp(nanoseconds / 1e9, UTC)


def _copied(features: Any) -> Any:
    """A copy of a mapping of another type; what is none is left for the sender to refuse."""
    try:
        return dict(features) if isinstance(features, Mapping) else features
    except Exception:  # noqa: BLE001 (whatever was passed, the caller goes on)
        return features


def _length(rows: Any) -> int:
    """How many events were meant, as far as can be told."""
    try:
        if isinstance(rows, Mapping):
            return max((len(values) for values in rows.values()), default=1)
        return max(len(rows), 1)
    except Exception:  # noqa: BLE001 (whatever was passed, the caller goes on)
        return 1


_clients: weakref.WeakSet[Client] = weakref.WeakSet()


def _begin_anew() -> None:
    for client in list(_clients):
        client._number_anew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew)
