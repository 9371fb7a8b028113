"""The folders in which clients keep what they cannot deliver, and the locks that say who has them.

A spool holds a folder for each client, with files of events, one object of JSON a line. A client that lives holds the
lock of its folder; whoever makes folders or takes them over holds the spool's guard meanwhile. Locks are `flock`: they
belong to the opened file, so they end with the process however it ends. Standard library only: clients read this.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from watchkeeper.errors import StateError

try:
    import fcntl
except ImportError:  # Windows has no such locks
    fcntl = None  # type: ignore[assignment]

LOCK, GUARD = "lock", ".guard"
TRIES, PAUSE = 100, 0.01


def available() -> bool:
    """Whether this system has the locks."""
    return fcntl is not None


def lock(path: Path) -> int | None:
    """The descriptor that holds the lock until it is closed; None where somebody else has it or the folder is gone."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def unlock(descriptor: int) -> None:
    """Said aloud, for a child that was forked meanwhile may have the descriptor too."""
    fcntl.flock(descriptor, fcntl.LOCK_UN)
    os.close(descriptor)


@contextmanager
def held(spools: Iterable[Path]) -> Iterator[list[Path]]:
    """The folders of all clients in some spools; until the end no client has one of them or takes it over.

    Raises StateError for what is no spool, and where a client that lives uses one: what it holds in its memory could
    not be reached, and its files are its own.
    """
    folders = []
    with ExitStack() as locks:
        for spool in dict.fromkeys(spool.resolve() for spool in spools):
            if not available():
                raise StateError("a spool needs file locks, which this system does not have; delete its files instead")
            if not (spool / GUARD).is_file():
                raise StateError(f"{spool} is not the spool of a client; name the folder that a client was given")
            guard = _guard(spool)
            try:
                for folder in sorted(path for path in spool.iterdir() if path.is_dir()):
                    descriptor = lock(folder / LOCK)
                    if descriptor is None:
                        raise StateError(
                            f"a client that lives has {folder}; close it, so that it delivers what it holds, and erase"
                            " again"
                        )
                    locks.callback(unlock, descriptor)
                    folders.append(folder)
            finally:
                unlock(guard)
        yield folders


def _guard(spool: Path) -> int:
    for _ in range(TRIES):
        if (descriptor := lock(spool / GUARD)) is not None:
            return descriptor
        time.sleep(PAUSE)
    raise StateError(f"the spool {spool} is locked by another process; try again")
