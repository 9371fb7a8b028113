"""The inbox: where events wait, safely on disk, until the engine takes them into the log.

Anyone may put events in, many processes at once: a batch is written to a file of its own, synced, and then
renamed to its final name, so a reader sees whole batches only. Reading twice does no harm, since the log keeps
one row per request id. A batch is a file of JSON, one object a line (`.ndjson`), or of columns (`.arrow`, see
`arrivals`). Standard library only: the logging client runs in other people's serving processes.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from watchkeeper.errors import StateError

FORMS = (".ndjson", ".arrow")
"""How the names of the files end that hold a batch."""

ABANDONED = 60.0
"""Seconds after which a file that is not whole is one whose writer has died."""

Writer = Callable[[BinaryIO], None]

_count = itertools.count()


class Inbox:
    """Batches of events in a folder, oldest first."""

    def __init__(self, store: Path, hide: Callable[[Any], Any] = lambda event: event) -> None:
        """`hide` is what takes personal data out of an event before it is kept among the rejects."""
        self.folder = store / "inbox"
        self.rejects = store / "rejected"
        self._hide = hide

    def put(self, events: Iterable[dict[str, Any]]) -> Path | None:
        """Write events durably; when this returns they survive a crash. None if there were no events."""
        return self.put_lines([json.dumps(event, separators=(",", ":"), allow_nan=True) for event in events])

    def put_lines(self, lines: list[str]) -> Path | None:
        """The same with events that are JSON already."""
        return self.keep(".ndjson", [_lines(lines)])[0] if lines else None

    def keep(self, form: str, batches: Sequence[Writer]) -> list[Path]:
        """Write batches durably, a file each, with one sync of the folder for all of them."""
        names = [f"{time.time_ns():020d}-{os.getpid()}-{next(_count)}{form}" for _ in batches]
        return _write(self.folder, dict(zip(names, batches, strict=True)))

    def waiting(self) -> list[Path]:
        """The files of all batches, oldest first."""
        if not self.folder.is_dir():
            return []
        return sorted(path for path in self.folder.iterdir() if path.suffix in FORMS)

    def sweep(self) -> None:
        """Remove what writers that died in the middle of it have left, of which nothing was acknowledged. One that was
        only slow is told that its events could not be written."""
        for folder in (self.folder, self.rejects):
            for path in folder.glob("*.part"):
                with suppress(FileNotFoundError):
                    if path.stat().st_mtime < time.time() - ABANDONED:
                        path.unlink()

    def backlog(self) -> tuple[int, int]:
        """How many files wait, and how many bytes they have."""
        files = size = 0
        with suppress(FileNotFoundError), os.scandir(self.folder) as found:
            for entry in found:
                if entry.name.endswith(FORMS):
                    with suppress(FileNotFoundError):  # the engine has just taken it in
                        size += entry.stat().st_size
                        files += 1
        return files, size

    def batches(self) -> Iterator[tuple[Path, list[dict[str, Any]]]]:
        """Each waiting batch of JSON with its file."""
        for path in self.waiting():
            if path.suffix == ".ndjson":
                yield path, self.read(path)

    def read(self, path: Path) -> list[dict[str, Any]]:
        """The events of a batch of JSON. A line that is not JSON is kept among the rejects instead."""
        events = []
        for line in filter(None, path.read_bytes().split(b"\n")):
            try:
                events.append(json.loads(line))
            except (ValueError, RecursionError) as problem:
                self.reject(path.stem, [{"line": line.decode(errors="replace")}], f"not JSON: {problem}")
        return events

    def done(self, path: Path) -> None:
        """Forget a batch that the log has taken in."""
        path.unlink(missing_ok=True)

    def reject(self, batch: str, events: Iterable[dict[str, Any]], reason: str) -> None:
        """Keep events that cannot be taken in, beside why; rejecting the same ones of a batch again changes nothing."""
        kept = ({"reason": reason, "event": self._hide(event)} for event in events)
        lines = [json.dumps(reject, separators=(",", ":")) for reject in kept]
        if lines:
            digest = hashlib.blake2b("\n".join(lines).encode(), digest_size=6).hexdigest()
            _write(self.rejects, {f"{batch}-{digest}.ndjson": _lines(lines)})

    def reject_file(self, path: Path, reason: str) -> None:
        """Keep a batch that cannot be read as it is among the rejects, beside why."""
        self.reject(path.stem, [{"file": path.name}], reason)
        path.replace(self.rejects / path.name)

    def rejected(self) -> int:
        """Events kept in the rejects."""
        if not self.rejects.is_dir():
            return 0
        return sum(len(path.read_text(encoding="utf-8").splitlines()) for path in self.rejects.glob("*.ndjson"))


def _lines(lines: Iterable[str]) -> Writer:
    def write(file: BinaryIO) -> None:
        file.write(("\n".join(lines) + "\n").encode())

    return write


def _write(folder: Path, files: dict[str, Writer]) -> list[Path]:
    """Write files so that each is there whole or not at all, and stays through a crash once this returns."""
    parts = {folder / f"{name}.part": folder / name for name in files}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for part, write in zip(parts, files.values(), strict=True):
            with part.open("wb") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
        for part, final in parts.items():
            part.replace(final)
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as problem:
        for part in parts:  # what was written of them may be the space that others need
            with suppress(OSError):
                part.unlink(missing_ok=True)
        raise StateError(
            f"events cannot be written to {folder}: {problem.strerror}; check space and rights"
        ) from problem
    return [*parts.values()]
