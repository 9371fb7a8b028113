"""Processes that are forked from one that has imported what takes long, and has nothing open."""

from __future__ import annotations

import multiprocessing

PRELOADED = ["pytest", "pandas", "pyarrow.parquet", "watchkeeper.cli", "watchkeeper.engine"]
"""DuckDB imports pandas once it is given a table, where there is one."""


def context() -> multiprocessing.context.ForkServerContext:
    """The same for all tests of a run, as there is one such process to fork from."""
    found = multiprocessing.get_context("forkserver")
    found.set_forkserver_preload(PRELOADED)
    return found
