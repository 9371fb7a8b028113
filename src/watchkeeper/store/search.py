"""A byte search over every file of a folder: the proof that something is not there any more.

It is run as a program of its own, since a program that opens and closes a file of a database that it holds loses its
locks on it (POSIX). Standard library only.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from watchkeeper.errors import StateError

CHUNK = 1 << 24
"""Bytes that are searched at once."""
SHORTEST = 6
"""Characters that a text has at least to be searched for: shorter ones stand in any file by chance."""
LISTED = 100
"""Files that are told of at most."""


@dataclass(frozen=True, slots=True)
class Searched:
    """What a search covered, and the files, relative to the folder, that something was found in."""

    files: int
    bytes: int
    found: tuple[str, ...]


def search(folder: Path, texts: Iterable[str]) -> Searched:
    """Look for texts in every file of a folder, and in the files' names.

    Each is looked for in UTF-8, in UTF-16 of both orders, and as JSON writes it; capitals matter.

    Raises StateError where a file cannot be read.
    """
    forms = dict.fromkeys(form for text in texts for form in _forms(text))
    done = subprocess.run(
        [sys.executable, "-m", "watchkeeper.store.search", str(folder)],
        input="\n".join(form.hex() for form in forms).encode(),
        capture_output=True,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
    )
    if done.returncode:
        raise StateError(f"the files of {folder} cannot be searched: {done.stderr.decode().strip().splitlines()[-1]}")
    found = json.loads(done.stdout)
    return Searched(found["files"], found["bytes"], tuple(found["found"][:LISTED]))


def _forms(text: str) -> Iterable[bytes]:
    yield text.encode()
    yield json.dumps(text)[1:-1].encode()
    yield text.encode("utf-16-le")
    yield text.encode("utf-16-be")


def _main(folder: Path, forms: list[bytes]) -> dict[str, object]:
    longest = max(map(len, forms), default=1)
    files, size, found = 0, 0, []
    for path in sorted(folder.rglob("*")):
        if path.is_symlink() or not path.is_file():
            continue
        name = str(path.relative_to(folder))
        files += 1
        there = any(form in name.encode() for form in forms)
        try:
            with path.open("rb") as file:
                rest = b""
                while part := file.read(CHUNK):
                    size += len(part)
                    data = rest + part
                    there = there or any(form in data for form in forms)
                    rest = data[-longest:]
        except FileNotFoundError:  # taken away meanwhile
            continue
        if there:
            found.append(name)
    return {"files": files, "bytes": size, "found": found}


if __name__ == "__main__":
    print(json.dumps(_main(Path(sys.argv[1]), [bytes.fromhex(line) for line in sys.stdin.read().split()])))
