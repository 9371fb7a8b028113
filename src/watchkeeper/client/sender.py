"""The sender: what waits to be sent, the thread that sends it, and what becomes of it."""

from __future__ import annotations

import atexit
import logging
import os
import secrets
import sys
import threading
import time
import weakref
from collections import Counter, deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from time import monotonic
from typing import Any

from watchkeeper.client.rows import Line, Rows, words_of
from watchkeeper.client.spool import SYNC_INTERVAL, Spool
from watchkeeper.client.target import INVALID, REFUSED, BusyError, Parcel, Target
from watchkeeper.errors import DeliveryError, StateError
from watchkeeper.events import losses

BATCH = 500
"""Events that are sent together at most; so many waiting are sent at once."""
ROWS = 20_000
"""Rows of a table that are sent together at most."""
AWAY = 5.0
"""Seconds after which a server that cannot take events counts as away, so that they go to the spool."""
ADOPT = 30.0
"""Seconds between two looks for what ended processes left in the spool."""

FULL, CLOSED, UNDELIVERED, SPOOL_FULL = "buffer full", "closed", "undelivered", "spool full"
"""Why events are dropped, beside `INVALID` and `REFUSED`."""

_LONGEST_WAIT = 30.0
_QUIET = 60.0
_LIKE_ONE = 10
"""So many rows of a table take about the memory of one prediction."""
_START_AGAIN = 1.0

_log = logging.getLogger("watchkeeper.client")


@dataclass(frozen=True, slots=True)
class Stats:
    """What became of the events of a client, for a health page.

    Args:
        logged: all that were given to it.
        delivered: on the disk of the store, or taken on by the server; with what earlier processes had spooled.
        waiting: in memory.
        spooled: in the spool folder, with what it took over there from earlier processes.
        dropped: how many were given up, by reason: "invalid" (not of the form of an event), "refused" (by the
            server), "buffer full", "spool full", "undelivered" (the end came first), "closed" (logged after it).
    """

    logged: int
    delivered: int
    waiting: int
    spooled: int
    dropped: dict[str, int]


class Sender:
    """Takes what was logged to its target, in its order, by a thread of its own.

    Args:
        model: whose events they are.
        line: makes an event's line of what was logged; it may raise anything, and the event is then dropped.
        buffer, interval, timeout: see `Client`.
    """

    def __init__(
        self,
        target: Target,
        spool: Spool | None,
        line: Callable[[Any], Line],
        *,
        model: str,
        buffer: int,
        interval: float,
        timeout: float,
    ) -> None:
        self._target, self._spool, self._line, self._model = target, spool, line, model
        self._buffer, self._interval, self._timeout = buffer, interval, timeout
        self._closed = self.ended = False
        self.reset()
        _senders.add(self)
        if spool is not None and spool.folder.is_dir():
            self._start()  # something may lie there

    def reset(self) -> None:
        """Begin with nothing waiting and no thread: at the start, and in a forked child."""
        self.waiting: deque[Any] = deque()
        """What was logged and not yet taken to be sent: a tuple for a prediction or a label, a finished `Line`, `Rows`.
        Appending and taking need no lock, so that a caller waits for nobody."""
        self._held: list[Parcel] = []
        """What was taken and not yet delivered."""
        self._lock = threading.RLock()
        """Guards the counts. A signal handler may log while its own thread holds it."""
        self._sending = threading.Lock()
        """Held by the one who sends, so that events go in their order."""
        self._wake = threading.Event()
        self.wake_at = min(BATCH, self._buffer)
        """So many events wake the sender before its time."""
        self._woken = False
        self.thread: threading.Thread | None = None
        self._start_at = 0.0
        self._taken = self._delivered = self._rows_waiting = 0
        self._dropped: Counter[str] = Counter()
        self._client = secrets.token_hex(8)
        """What tells this sender, in this process, from all others when it says what it dropped."""
        self._told: dict[str, int] = {}
        self._tell_at = 0.0
        self._why: dict[str, str] = {}
        """An example of each reason, until it is said."""
        self._said: dict[str, float] = {}
        self._failures = 0
        """Sendings that failed in a row."""
        self._failing_since = self._try_at = self._busy_until = 0.0
        self.trouble = ""
        self._adopted_at = -ADOPT
        self._sizes = {True: ROWS, False: BATCH}
        """How much is sent at once, of `Rows` and of lines: less once the server has refused some, to find out which
        event it means."""
        if self._spool is not None:
            self._spool.forget()

    # in the caller's thread

    def stats(self) -> Stats:
        """What became of the events so far."""
        with self._lock:
            waiting = sum(map(_rows, self.waiting.copy()))
            held = sum(map(len, self._held))
            dropped = {reason: count for reason, count in self._dropped.items() if count}
            spooled = 0 if self._spool is None else self._spool.rows
            return Stats(self._taken + waiting, self._delivered, waiting + held, spooled, dropped)

    def add(self, rows: Rows) -> None:
        """Append a table, if there is room for it."""
        if not len(rows):
            return
        with self._lock:
            if self._rows_waiting and self._rows_waiting + len(rows) > _LIKE_ONE * self._buffer:
                why = f"{self._rows_waiting} rows of tables wait already; flush between them, or enlarge the buffer"
                self.drop(FULL, len(rows), why, early=True)
                return
            self._rows_waiting += len(rows)
            self.waiting.append(rows)
        self.attend()

    def attend(self) -> None:
        """See to what an append may call for: room, the thread, a sender that should come at once."""
        if self.ended:
            self._sweep(CLOSED, "the client is closed")
            self._tell()
            return
        if len(self.waiting) > self._buffer:
            self._push_out()
        if self.thread is None:
            self._start()
        elif not self._woken and len(self.waiting) >= self.wake_at:
            self._woken = True
            self._wake.set()

    def _push_out(self) -> None:
        """Drop the oldest while more wait than may."""
        with self._lock:
            while len(self.waiting) > self._buffer:
                try:
                    gone = self._popped()
                except IndexError:
                    return
                self.drop(FULL, _rows(gone), f"the buffer of {self._buffer} events is full", early=True)

    def _popped(self) -> Any:
        """The oldest that waits, taken out. Raises IndexError if there is none."""
        item = self.waiting.popleft()
        if isinstance(item, Rows):
            with self._lock:
                self._rows_waiting -= len(item)
        return item

    def _start(self) -> None:
        with self._lock:
            if self.thread is not None or self._closed or monotonic() < self._start_at:
                return
            thread = threading.Thread(target=self._run, name="watchkeeper-client", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # the interpreter is ending, or has no room for a thread: a flush or close sends
                self._start_at = monotonic() + _START_AGAIN
                return
            self.thread = thread
        _close_with_the_process()

    def drop(self, reason: str, count: int, why: str, *, early: bool = False) -> None:
        """Count what is given up; `early` if it was not taken yet."""
        with self._lock:
            self._dropped[reason] += count
            self._taken += count * early
            self._why.setdefault(reason, why)

    def _sweep(self, reason: str, why: str) -> int:
        """Drop all that waits; returns how much that was."""
        count = 0
        with self._lock, suppress(IndexError):
            while True:
                count += _rows(self._popped())
        if count:
            self.drop(reason, count, why, early=True)
        return count

    def _tell(self, *, last: bool = False) -> None:
        """Log what was dropped and why, each reason once a minute at most, or for the last time."""
        now = monotonic()
        with self._lock:
            due = [why for why in self._why if last or now - self._said.get(why, -_QUIET) >= _QUIET]
            said = [(self._dropped[reason], reason, self._why.pop(reason)) for reason in due]
            self._said.update(dict.fromkeys(due, now))
        for count, reason, why in said:
            _warn("events dropped so far: %d, %s: %s", count, reason, why)

    def _say(self, what: str, message: str, *values: object) -> None:
        """Log a warning of its kind, once a minute at most."""
        now = monotonic()
        if now - self._said.get(what, -_QUIET) >= _QUIET:
            self._said[what] = now
            _warn(message, *values)

    # sending: in the client's own thread, or in the one that flushes; one at a time, under `_sending`

    def _run(self) -> None:
        begin = self._spool is not None  # something may lie there
        while not self._closed:
            if not begin:
                self._wake.wait(self._pause())
            begin = False
            self._wake.clear()
            with self._sending:
                if self._closed:
                    return
                self._guarded(self._work)
            self._woken = bool(self._failures) and len(self.waiting) >= self.wake_at  # to wake it again is of no use

    def _pause(self) -> float:
        if not self._failures:
            return self._interval
        wait = max(self._try_at - monotonic(), 0.0)
        return wait if self._spool is None else min(wait, self._interval, SYNC_INTERVAL)

    def _guarded(self, work: Callable[[], Any]) -> Any:
        """Do what must never end the thread or reach a caller; None if it failed."""
        try:
            return work()
        except Exception as problem:  # noqa: BLE001 (a fault of ours must not become the fault of a serving process)
            self.trouble = f"{type(problem).__name__}: {words_of(problem)}"
            self._say("fault", "the client failed, and goes on: %s", self.trouble)
            return None

    def _work(self) -> None:
        now = monotonic()
        if now >= self._try_at:
            self._deliver(len(self.waiting), now + self._timeout)
        if self._spool is not None:
            away = now - self._failing_since >= AWAY or len(self.waiting) > self._buffer // 2
            if self._failures and away:
                self._put_aside(self._spool)
            self._spool.sync(every=SYNC_INTERVAL)
        self._tell()
        if now >= self._tell_at:
            self._tell_target()

    def _tell_target(self) -> None:
        """Say what was dropped to whom it would have come, if it can be reached; if not, a minute later again."""
        with self._lock:
            dropped = {reason: count for reason, count in self._dropped.items() if count}
        if self._failures or dropped == self._told:
            return
        try:
            self._target.tell(losses(self._model, self._client, dropped))
            self._told = dropped
        except DeliveryError:  # such as a server that is older than this client
            self._tell_at = monotonic() + _QUIET

    def _deliver(self, count: int, until: float) -> bool:
        """Send what is spooled and then so many of those that wait, or as many as can be sent before `until`. False if
        not all of it is delivered."""
        done = self._deliver_spool(until) and self._deliver_waiting(count, until)
        if done and self._failures:
            self._failures, self._try_at, self.wake_at = 0, 0.0, min(BATCH, self._buffer)
            self._wake.set()  # for the thread, if it is not the one that delivered, waits for the next try
        return done

    def _deliver_spool(self, until: float) -> bool:
        if self._spool is None:
            return True
        try:
            if monotonic() - self._adopted_at >= ADOPT:
                self._spool.adopt()
                self._adopted_at = monotonic()
            while lines := self._spool.next(BATCH):
                sent = self._send(lines, until)
                self._spool.done(sent)
                if sent < len(lines):
                    return False
        except (OSError, StateError) as problem:
            self._say("spool", "the spool %s cannot be read: %s", self._spool.folder, problem)
        return True

    def _deliver_waiting(self, count: int, until: float) -> bool:
        while True:
            while self._held:
                size = len(self._held[0])
                sent = self._send(self._held[0], until)
                self._done(sent)
                if self._held and sent < size:
                    self._give_back()
                    return False
            taken = self._take(count)
            if not taken:
                return True
            count -= taken

    def _take(self, most: int) -> int:
        """Take the oldest that wait to be sent, a batch or so many; returns how many they were, tables as one."""
        lines: list[Line] = []
        parcels: list[Parcel] = [lines]
        taken = rows = 0
        while taken < min(most, BATCH) and len(parcels) == 1:
            try:
                item = self._popped()
            except IndexError:
                break
            taken += 1
            rows += _rows(item)
            if isinstance(item, Rows):
                parcels.append(item)
                continue
            try:
                lines.append(self._line(item))
            except Exception as problem:  # noqa: BLE001 (a value of any type may fail in any way)
                self.drop(INVALID, 1, words_of(problem))
        with self._lock:
            self._taken += rows
            self._held += [parcel for parcel in parcels if len(parcel)]
        return taken

    def _send(self, parcel: Parcel, until: float) -> int:
        """Send events in parts; returns how many are done with: not all if the target could not take them just now,
        or the time was over."""
        at, table = 0, isinstance(parcel, Rows)
        while at < len(parcel) and monotonic() < until:
            part = parcel[at : at + self._sizes[table]]
            try:
                wrong = self._target.send(part)
            except DeliveryError as problem:
                if not problem.permanent:
                    self._fail(problem)
                    break
                if len(part) > (BATCH if table else 1):
                    self._sizes[table] = len(part) // 2
                    continue
                if isinstance(part, Rows):  # as single events, of which only the wrong ones will be refused
                    lines, reasons = part.lines()
                    if self._send(lines, until) < len(lines):
                        break
                    for why in reasons:
                        self.drop(INVALID, 1, why)
                    at += len(part)
                    continue
                wrong = [(REFUSED, str(problem))]
            except Exception as problem:  # noqa: BLE001 (a fault of ours; what waits is not given up for it)
                self._fail(DeliveryError(f"{type(problem).__name__}: {words_of(problem)}", permanent=False))
                break
            else:
                self._sizes[table] = min(2 * self._sizes[table], ROWS if table else BATCH)
            at += len(part)
            with self._lock:
                self._delivered += max(len(part) - len(wrong), 0)
            for reason, why in wrong:
                self.drop(reason, 1, why)
        return at

    def _fail(self, problem: DeliveryError) -> None:
        now = monotonic()
        if not self._failures:
            self._failing_since = now
        wait = min(2.0**self._failures, _LONGEST_WAIT)
        self._failures += 1
        if isinstance(problem, BusyError):
            wait = problem.seconds
            self._busy_until = now + wait
        self._try_at = now + wait
        self.wake_at = self._buffer // 2 + 1 if self._spool else self._buffer + 1
        self.trouble = str(problem)
        self._say("wait", "events waiting: %d: %s", len(self.waiting) + sum(map(len, self._held)), problem)

    def _put_aside(self, spool: Spool) -> bool:
        """Put all that waits into the spool. False if it cannot be written."""
        count = len(self.waiting)
        while self._held or count:
            if not self._held:
                taken = self._take(count)
                if not taken:
                    break
                count -= taken
                continue
            part = self._held[0][:BATCH]
            lines, wrong = part.lines() if isinstance(part, Rows) else (part, [])
            try:
                older = spool.put(lines)
            except StateError as problem:
                self.trouble = str(problem)
                self._say("spool", "%s", problem)
                self._give_back()
                return False
            for why in wrong:
                self.drop(INVALID, 1, why)
            if older:
                self.drop(SPOOL_FULL, older, f"the spool {spool.folder} is full, and its oldest events make room")
            self._done(len(part))
        return True

    def _done(self, count: int) -> None:
        """So many of the events that are held are done with."""
        with self._lock:
            self._held[0] = self._held[0][count:]
            if not len(self._held[0]):
                del self._held[0]

    def _give_back(self) -> None:
        """Put what is held back before what waits, for it cannot be sent now, and is the first to go if more comes than
        may wait."""
        with self._lock:
            while self._held:
                parcel = self._held.pop()
                self._taken -= len(parcel)
                if isinstance(parcel, Rows):
                    self.waiting.appendleft(parcel)
                    self._rows_waiting += len(parcel)
                else:
                    self.waiting.extendleft(reversed(parcel))
        self._push_out()

    # the end

    def flush(self, timeout: float) -> bool:
        """Make safe what was logged so far; False if that cannot be done within so many seconds."""
        until = monotonic() + timeout
        if not self._sending.acquire(timeout=max(timeout, 0)):
            self.trouble = "the server has not answered yet"
            return False
        try:
            return bool(self._guarded(lambda: self._secure(until)))
        finally:
            self._sending.release()
            self._tell()

    def _secure(self, until: float) -> bool:
        """Deliver what waits, or at least put it into the spool."""
        now = monotonic()
        if now < self._busy_until < until:
            time.sleep(self._busy_until - now)
        safe = monotonic() >= self._busy_until and self._deliver(len(self.waiting), until)
        if not safe and self._spool is not None:
            safe = self._put_aside(self._spool)
            self._spool.sync()
        return safe

    def close(self) -> int:
        """Make safe what waits, and end; returns how many events are lost."""
        with self._lock:
            if self._closed:
                return 0
            self._closed = True
        self._wake.set()
        until = monotonic() + self._timeout
        mine = self._sending.acquire(timeout=self._timeout + 1)
        try:
            if mine:
                self._guarded(lambda: self._secure(until))
                self._guarded(self._tell_target)
            self.ended = True
            if mine and self._spool is not None:
                self._guarded(lambda: self._spool and self._put_aside(self._spool))
                self._guarded(self._spool.close)
            with self._lock:
                held = sum(map(len, self._held))
                self.drop(UNDELIVERED, held, self.trouble)
                if mine:
                    self._held.clear()
        finally:
            if mine:
                self._sending.release()
        lost = held + self._sweep(UNDELIVERED, self.trouble)
        self._why.pop(UNDELIVERED, None)
        self._tell(last=True)
        if lost:
            with suppress(Exception):
                _log.error("events lost, since they could not be delivered before the end: %d: %s", lost, self.trouble)
        return lost


def _rows(item: Any) -> int:
    return len(item) if isinstance(item, Rows) else 1


def _warn(message: str, *values: object) -> None:
    """Log a warning, whatever the handlers of the program do."""
    with suppress(Exception):
        _log.warning(message, *values)


_senders: weakref.WeakSet[Sender] = weakref.WeakSet()
_closes_with = 0
"""The process of `multiprocessing` that was told to close its clients at its end."""


def _close_all() -> None:
    for sender in list(_senders):
        with suppress(Exception):
            sender.close()


def _close_with_the_process() -> None:
    """A process of `multiprocessing` ends without what `atexit` was told; it has a list of its own."""
    global _closes_with
    process, ends = (sys.modules.get(f"multiprocessing.{name}") for name in ("process", "util"))
    if process and ends and process.parent_process() is not None and _closes_with != os.getpid():
        _closes_with = os.getpid()
        ends.Finalize(None, _close_all, exitpriority=10)


def _begin_anew() -> None:
    for sender in list(_senders):
        sender.reset()


atexit.register(_close_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew)
