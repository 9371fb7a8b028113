"""The inbox: where events wait, safely on disk, until the engine takes them into the log.

Anyone may put events in, many processes at once: a batch is written to a file of its own, synced, and then
renamed to its final name, so a reader sees whole batches only. Reading twice does no harm, since the log keeps
one row per request id. Standard library only: the logging client runs in other people's serving processes.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from watchkeeper.errors import StateError

_count = itertools.count()


class Inbox:
    """Batches of events in a folder, one JSON object a line, oldest first."""

    def __init__(self, store: Path, hide: Callable[[Any], Any] = lambda event: event) -> None:
        """`hide` is what takes personal data out of an event before it is kept among the rejects."""
        self.folder = store / "inbox"
        self.rejects = store / "rejected"
        self._hide = hide

    def put(self, events: Iterable[dict[str, Any]]) -> Path | None:
        """Write events durably; when this returns they survive a crash. None if there were no events."""
        lines = [json.dumps(event, separators=(",", ":"), allow_nan=True) for event in events]
        if not lines:
            return None
        name = f"{time.time_ns():020d}-{os.getpid()}-{next(_count)}.ndjson"
        return _write(self.folder, name, lines)

    def batches(self) -> Iterator[tuple[Path, list[dict[str, Any]]]]:
        """Each waiting batch with its file. A line that is not JSON is kept among the rejects instead."""
        if not self.folder.is_dir():
            return
        for path in sorted(self.folder.glob("*.ndjson")):
            events = []
            for line in filter(None, path.read_bytes().split(b"\n")):
                try:
                    events.append(json.loads(line))
                except (ValueError, RecursionError) as problem:
                    self.reject(path.stem, [{"line": line.decode(errors="replace")}], f"not JSON: {problem}")
            yield path, events

    def done(self, path: Path) -> None:
        """Forget a batch that the log has taken in."""
        path.unlink(missing_ok=True)

    def reject(self, batch: str, events: Iterable[dict[str, Any]], reason: str) -> None:
        """Keep events that cannot be taken in, beside why; rejecting the same ones of a batch again changes nothing."""
        kept = ({"reason": reason, "event": self._hide(event)} for event in events)
        lines = [json.dumps(reject, separators=(",", ":")) for reject in kept]
        if lines:
            digest = hashlib.blake2b("\n".join(lines).encode(), digest_size=6).hexdigest()
            _write(self.rejects, f"{batch}-{digest}.ndjson", lines)

    def rejected(self) -> int:
        """Events kept in the rejects."""
        if not self.rejects.is_dir():
            return 0
        return sum(len(path.read_text(encoding="utf-8").splitlines()) for path in self.rejects.glob("*.ndjson"))


def _write(folder: Path, name: str, lines: list[str]) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        waiting, final = folder / f"{name}.part", folder / name
        with waiting.open("w", encoding="utf-8") as file:
            file.write("\n".join(lines) + "\n")
            file.flush()
            os.fsync(file.fileno())
        waiting.replace(final)
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as problem:
        raise StateError(
            f"events cannot be written to {folder}: {problem.strerror}; check space and rights"
        ) from problem
    return final
