"""The spool: where a client keeps on disk, in their order, what it cannot deliver just now.

Each client writes in a folder of its own inside the spool, and holds a lock on it as long as it lives. The folder of a
process that was killed has no such lock any more, so that the next client takes it over; see `store.spools`.
"""

from __future__ import annotations

import itertools
import json
import os
import secrets
import time
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from watchkeeper.client.rows import Line
from watchkeeper.errors import ConfigError, StateError
from watchkeeper.store.spools import GUARD, LOCK, PAUSE, TRIES, available, lock, unlock

Sync = Literal["always", "interval", "never"]

SEGMENT = 4 << 20
"""Bytes in one file at most, unless a single batch is larger."""
SYNC_INTERVAL = 1.0
"""Seconds between two syncs to the disk, with the policy "interval"."""


@dataclass
class _Segment:
    path: Path
    size: int
    rows: int


class Spool:
    """Lines in files of a folder, first in, first out; at most `limit` bytes, all clients of the folder together.

    When it is full the oldest file of this client is dropped. May not be used by two threads at once.

    Args:
        sync: when what was written must have reached the disk, to survive a machine that loses its power: "always"
            after each writing, "interval" once a second and at the end, "never" when the system sees fit. A process
            that is killed loses nothing that was written, whichever.

    Raises ConfigError for a limit or a policy that cannot be meant, and where the system has no file locks.
    """

    def __init__(self, folder: Path, *, limit: int, sync: Sync) -> None:
        if limit < 1 or sync not in get_args(Sync):
            raise ConfigError(
                f'a spool needs a limit above 0 bytes and sync "always", "interval" or "never", found {limit}, "{sync}"'
            )
        if not available():
            raise ConfigError("a spool needs file locks, which this system does not have; leave `spool` out")
        self.folder, self._limit, self._sync = folder, limit, sync
        self._descriptors: dict[Path, int] = {}
        """The open locks: of each folder that is ours, and of the whole for a moment."""
        self._own: Path | None = None
        self._count = itertools.count()
        self._segments: deque[_Segment] = deque()
        self._file = -1
        """The last segment, as long as it is open for writing."""
        self._unsynced, self._synced_at = False, time.monotonic()
        self._read: list[Line] = []
        self._at = 0
        """How far the first segment, which was read, is delivered."""

    @property
    def rows(self) -> int:
        """Events that wait here. Another thread may ask."""
        return max(sum(segment.rows for segment in self._segments.copy()) - self._at, 0)

    def __bool__(self) -> bool:
        return bool(self._segments)

    def put(self, lines: Iterable[Line]) -> int:
        """Write lines behind those that are there. Returns how many older ones were dropped to make room.

        Raises StateError if they cannot be written; none of them is then.
        """
        texts = [line.text for line in lines]
        if not texts:
            return 0
        data = ("\n".join(texts) + "\n").encode()
        try:
            dropped = self._make_room(len(data))
            if self._file < 0 or self._segments[-1].size + len(data) > SEGMENT:
                self._begin_segment()
            segment = self._segments[-1]
            self._write(segment, data)
            segment.size += len(data)
            segment.rows = segment.rows + len(texts)
            self._unsynced = True
            if self._sync == "always":
                self.sync()
        except OSError as problem:
            raise StateError(
                f"the spool {self.folder} cannot be written: {problem.strerror}; check space and rights"
            ) from problem
        return dropped

    def next(self, most: int) -> list[Line]:
        """The oldest lines, so many at most; the same ones until they are `done`. Empty if there are none."""
        while self._segments:
            first = self._segments[0]
            if not self._read:
                if len(self._segments) == 1:
                    self._end_segment()
                self._read, self._at = self._lines(first), 0
                first.rows = len(self._read)
            if self._at < len(self._read):
                return self._read[self._at : self._at + most]
            self._drop_first()
        return []

    def done(self, count: int) -> None:
        """So many of the oldest lines are delivered."""
        self._at += count
        if self._at >= len(self._read):
            self._drop_first()

    def adopt(self) -> int:
        """Take over what clients that are no more have left; returns how many files."""
        if not self.folder.is_dir():
            return 0
        found: list[_Segment] = []
        with self._guarded() as entered:
            if not entered:
                return 0
            for path in sorted(self.folder.iterdir()):
                if path in self._descriptors or not path.is_dir() or not self._locked(path / LOCK, path):
                    continue
                for part in sorted(path.glob("*.ndjson")):
                    data = part.read_bytes()
                    found.append(_Segment(part, len(data), data.count(b"\n")))
                if not any(segment.path.parent == path for segment in found):
                    self._release(path)
        # older than our own, but what is being read stays first
        reading = [self._segments.popleft()] if self._read else []
        self._segments.extendleft(reversed([*reading, *found]))
        return len(found)

    def sync(self, *, every: float = 0.0) -> None:
        """Bring what was written to the disk, unless that was done less than `every` seconds ago."""
        now = time.monotonic()
        if self._unsynced and self._sync != "never" and now - self._synced_at >= every and self._file >= 0:
            os.fsync(self._file)
            self._unsynced, self._synced_at = False, now

    def close(self) -> None:
        """Sync, and leave what is there to the next client."""
        with suppress(OSError):
            self.sync()
        self._end_segment()
        left = {segment.path.parent for segment in self._segments}
        for path in [*self._descriptors]:
            if path in left:
                os.close(self._descriptors.pop(path))
            else:
                self._release(path)
        self._segments.clear()
        self._read, self._at, self._own = [], 0, None

    def forget(self) -> None:
        """Let go of everything without a change on disk: in a forked child, where all of it is the parent's."""
        for descriptor in [*self._descriptors.values(), self._file]:
            if descriptor >= 0:
                os.close(descriptor)
        self._descriptors.clear()
        self._segments.clear()
        self._file, self._read, self._at, self._own = -1, [], 0, None

    # files

    def _begin_segment(self) -> None:
        self._end_segment()
        if self._own is None:
            self._own = self._make_own()
        path = self._own / f"{next(self._count):08d}.ndjson"
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._segments.append(_Segment(path, 0, 0))
        if self._sync != "never":
            _sync_folder(self._own)

    def _end_segment(self) -> None:
        if self._file >= 0:
            with suppress(OSError):
                self.sync()
            os.close(self._file)
            self._file = -1

    def _write(self, segment: _Segment, data: bytes) -> None:
        try:
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(self._file, rest) :]
        except OSError:
            with suppress(OSError):
                os.ftruncate(self._file, segment.size)
            raise

    def _make_room(self, size: int) -> int:
        """Drop this client's oldest segments until so many bytes fit in; returns how many lines that were."""
        dropped = 0
        there = sum(path.stat().st_size for path in self._files())
        while self._segments and there + size > self._limit:
            first = self._segments[0]
            there -= first.size
            dropped += first.rows - self._at
            if len(self._segments) == 1:
                self._end_segment()
            self._drop_first()
        if there + size > self._limit:
            raise OSError(0, f"its limit of {self._limit} bytes is reached")
        return dropped

    def _files(self) -> list[Path]:
        return list(self.folder.glob("*/*.ndjson"))

    def _drop_first(self) -> None:
        if len(self._segments) == 1:
            self._end_segment()
        gone = self._segments.popleft()
        self._read, self._at = [], 0
        gone.path.unlink(missing_ok=True)
        folder = gone.path.parent
        if folder != self._own and not any(segment.path.parent == folder for segment in self._segments):
            self._release(folder)

    def _lines(self, segment: _Segment) -> list[Line]:
        """The lines of a file; one that is torn, since the writer died in the middle of it, is left out."""
        found: list[Line] = []
        try:
            whole = segment.path.read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return found
        for text in whole.split("\n"):
            try:
                event = json.loads(text)
                found.append(Line(event["model"], event["kind"], text))
            except (ValueError, LookupError, TypeError, RecursionError):
                continue
        return found

    # locks

    def _make_own(self) -> Path:
        path = self.folder / f"{time.time_ns():020d}-{os.getpid()}-{secrets.token_hex(4)}"
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._guarded() as entered:
            if not entered:
                raise OSError(0, "another process keeps it locked")
            path.mkdir(mode=0o700)
            self._locked(path / LOCK, path)
        if self._sync != "never":
            _sync_folder(self.folder)
        return path

    def _guarded(self) -> _Guard:
        return _Guard(self)

    def _locked(self, path: Path, key: Path) -> bool:
        """Whether the lock could be had; it is then kept under this key."""
        descriptor = lock(path)
        if descriptor is None:
            return False
        self._descriptors[key] = descriptor
        return True

    def _release(self, folder: Path) -> None:
        """Remove a folder of ours that is empty."""
        with suppress(OSError):
            (folder / LOCK).unlink(missing_ok=True)
            folder.rmdir()
        descriptor = self._descriptors.pop(folder, -1)
        if descriptor >= 0:
            os.close(descriptor)


class _Guard:
    """The lock of the whole spool, held for a moment while folders are made, taken over or removed."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool

    def __enter__(self) -> bool:
        guard = self._spool.folder / GUARD
        for _ in range(TRIES):
            if self._spool._locked(guard, guard):
                return True
            time.sleep(PAUSE)
        return False

    def __exit__(self, *_: object) -> None:
        descriptor = self._spool._descriptors.pop(self._spool.folder / GUARD, -1)
        if descriptor >= 0:
            unlock(descriptor)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
