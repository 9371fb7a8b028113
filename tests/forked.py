"""Processes that are forked from one that has imported what takes long, and has nothing open."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

PRELOADED = ["pytest", "pandas", "pyarrow.parquet", "watchkeeper.cli", "watchkeeper.engine"]
"""DuckDB imports pandas once it is given a table, where there is one."""


def context() -> multiprocessing.context.ForkServerContext:
    """The same for all tests of a run, as there is one such process to fork from."""
    found = multiprocessing.get_context("forkserver")
    found.set_forkserver_preload(PRELOADED)
    return found


def begin(work: Callable[[Any], None], said: Path, argument: object) -> BaseProcess:
    """Do work in a process of its own; what it says goes into a file."""
    process = context().Process(target=_apart, args=(work, said, argument))
    process.start()
    return process


def _apart(work: Callable[[Any], None], said: Path, argument: object) -> None:
    with said.open("ab") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    work(argument)


def kill(process: BaseProcess | None) -> None:
    assert process is not None
    process.kill()
    process.join()
