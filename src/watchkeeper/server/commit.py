"""Group commit: what all connections sent while the last sync ran is written and synced together.

A request is answered only after its events are safely on disk. What waits is bounded, in memory and in the inbox: a
sender that is faster than the disk, or than the engine, is told to come back later.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from watchkeeper.errors import StateError
from watchkeeper.server import formats
from watchkeeper.server.services import RequestError
from watchkeeper.store import arrivals, halves
from watchkeeper.store.arrivals import Batch
from watchkeeper.store.inbox import Inbox

MOST_HELD = 64 << 20
"""Bytes of requests that are being read, checked or written, all connections together."""
MOST_WAITING = 2 << 30
"""Bytes that may wait in the inbox for the engine."""
MOST_FILES = 20_000
"""Files that may wait in the inbox for the engine."""
LOOK_EVERY = 0.5
"""Seconds between two looks at what waits in the inbox."""
SOON, LATER = 1, 10
"""Seconds after which a sender may try again."""


@dataclass(slots=True)
class _Entry:
    """The events of one request, and who waits for them."""

    model: str
    kind: str
    found: formats.Found
    waiter: asyncio.Future[None]


Outcome = tuple[_Entry, Exception | None]


class Committer:
    """Writes events into an inbox, in a thread of its own.

    Args:
        protect: hides what is private in a batch before it is written.
    """

    def __init__(self, inbox: Inbox, protect: Callable[[Batch], Batch]) -> None:
        self._inbox, self._protect = inbox, protect
        self._held = 0  # only the thread of the event loop touches it
        self._waiting: list[_Entry] = []
        self._change = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closed = False
        self._backlog, self._looked = (0, 0), float("-inf")

    def hold(self, size: int) -> None:
        """Count bytes that a request brings, until `release`; 429 if all of them together are too many."""
        if self._held + size > MOST_HELD:
            raise _busy("the server is busy writing", SOON)
        self._held += size

    def release(self, size: int) -> None:
        self._held -= size

    def check_backlog(self) -> None:
        """429 if the engine is too far behind."""
        files, size = self._backlog
        if files >= MOST_FILES or size >= MOST_WAITING:
            self._look()
            files, size = self._backlog
            if files >= MOST_FILES or size >= MOST_WAITING:
                raise _busy(
                    f"{size >> 20:,} MiB of events in {files:,} files wait for the engine, which is behind", LATER
                )

    def _look(self) -> None:
        if time.monotonic() - self._looked >= LOOK_EVERY:
            self._backlog, self._looked = self._inbox.backlog(), time.monotonic()

    async def commit(self, model: str, kind: str, found: formats.Found) -> None:
        """Returns once the events are safe. StateError if they could not be written: none of them is then taken."""
        if not found.accepted:
            return
        entry = _Entry(model, kind, found, asyncio.get_running_loop().create_future())
        with self._change:
            if self._closed:
                raise RequestError(503, "the server is ending", "send the events again in a moment")
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="watchkeeper-commit", daemon=True)
                self._thread.start()
            self._waiting.append(entry)
            self._change.notify()
        await entry.waiter

    def close(self) -> None:
        """Write what waits, and end."""
        with self._change:
            self._closed = True
            self._change.notify()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while True:
            with self._change:
                self._change.wait_for(lambda: self._waiting or self._closed)
                entries, self._waiting = self._waiting, []
            if not entries:
                return
            _settle(self._write(entries))

    def _write(self, entries: list[_Entry]) -> list[Outcome]:
        try:
            batches = [self._protect(batch) for batch in _batches(entries)]
            written = []
            for form, some in ((".arrow", False), (halves.FORM, True)):
                apart = [batch for batch in batches if (batch.kind in halves.KINDS) is some]
                written += arrivals.put(self._inbox, apart, form) if apart else []
        except StateError as problem:
            return [(entry, problem) for entry in entries]
        except Exception as problem:  # of one request, which must not take the others with it
            logging.getLogger("watchkeeper").exception(
                "the events of %d requests could not be written together", len(entries)
            )
            if len(entries) == 1:
                return [(entries[0], problem)]
            return [outcome for entry in entries for outcome in self._write([entry])]
        self._look()
        files, size = self._backlog
        self._backlog = files + len(written), size + sum(batch.rows.nbytes for batch in batches)
        return [(entry, None) for entry in entries]


def _batches(entries: Iterable[_Entry]) -> list[Batch]:
    """The events of many requests as few batches: those of the same model, kind and columns together."""
    groups: dict[Any, list[_Entry]] = {}
    for entry in entries:
        found = entry.found
        form = found.names if found.table is None else tuple(found.table.column_names)
        groups.setdefault((entry.model, entry.kind, found.table is None, form), []).append(entry)
    return [
        Batch(model, kind, _rows(kind, group, form) if as_rows else _tables(group))
        for (model, kind, as_rows, form), group in groups.items()
    ]


def _rows(kind: str, group: Sequence[_Entry], names: tuple[str, ...]) -> Any:
    return formats.table(kind, [row for entry in group for row in entry.found.rows], names)


def _tables(group: Sequence[_Entry]) -> Any:
    return arrivals.together([entry.found.table for entry in group])


def _settle(outcomes: Iterable[Outcome]) -> None:
    """Tell those who wait, with one call into each event loop."""
    loops: dict[asyncio.AbstractEventLoop, list[Outcome]] = {}
    for outcome in outcomes:
        loops.setdefault(outcome[0].waiter.get_loop(), []).append(outcome)
    for loop, some in loops.items():
        with suppress(RuntimeError):  # the loop is closed, and nobody waits any more
            loop.call_soon_threadsafe(_tell, some)


def _tell(outcomes: Iterable[Outcome]) -> None:
    for entry, problem in outcomes:
        if not entry.waiter.done():  # a sender that went away has cancelled it
            if problem is None:
                entry.waiter.set_result(None)
            else:
                entry.waiter.set_exception(problem)


def _busy(message: str, seconds: int) -> RequestError:
    return RequestError(429, message, f"send the events again in {seconds} s", {"retry-after": str(seconds)})
