"""Files that are written for people, reports, baselines, configurations, and who holds a file."""

from __future__ import annotations

import fcntl
from pathlib import Path

from watchkeeper.errors import DataError


def write(path: str | Path, text: str, *, new: bool = False) -> None:
    """Write a text to a file, in UTF-8.

    Args:
        new: refuse a file that is there already, as somebody may have edited it.

    Raises DataError where that cannot be done.
    """
    try:
        with Path(path).open("x" if new else "w", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise DataError(f"{path} is there already and may have been edited; choose another name") from None
    except OSError as problem:
        raise DataError(f"{path} cannot be written: {problem.strerror}; choose another place") from problem


def held(path: Path) -> bool:
    """Whether another process has locked a file against being written by others."""
    try:
        with path.open("rb") as file:
            fcntl.lockf(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False
