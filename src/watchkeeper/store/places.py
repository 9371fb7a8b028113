"""Where the state and the events are: in the store's folder, or in the databases that the configuration names."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Mapping
from pathlib import Path

from watchkeeper.errors import ConfigError, StateError
from watchkeeper.settings import StoreConfig
from watchkeeper.store.backends import Backend, DuckDB
from watchkeeper.store.postgres import Postgres
from watchkeeper.store.state import State

STATE, EVENTS, HELD = "state.db", "log.duckdb", "engine.lock"


def open_state(settings: StoreConfig, folder: Path) -> State:
    return State(_address(settings.state, "state") if settings.state else folder / STATE)


def open_events(settings: StoreConfig, folder: Path) -> Backend:
    return Postgres(_address(settings.events, "events")) if settings.events else DuckDB(folder / EVENTS)


def _address(written: str, setting: str, environ: Mapping[str, str] | None = None) -> str:
    """The address, which may stand in a variable. ConfigError for one that is not set or holds something else."""
    if not written.startswith("env:"):
        return written
    name = written.removeprefix("env:")
    found = (os.environ if environ is None else environ).get(name, "")
    if not found.startswith(("postgresql://", "postgres://")):
        raise ConfigError(
            f"the environment variable {name} {'holds no' if found else 'is not set; it should hold the'} address of a"
            " Postgres; write it there as postgresql://user:password@host/database",
            ("store", setting),
        )
    return found


class Held:
    """A folder that one engine works in: its inbox and its jobs are for one at a time.

    The embedded log keeps a second engine away by itself; with events elsewhere, this does. It ends with the process.

    Raises StateError where another engine holds the folder.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._connection = sqlite3.connect(folder / HELD, timeout=0, isolation_level=None, check_same_thread=False)
        try:
            self._connection.execute("BEGIN EXCLUSIVE")
        except sqlite3.OperationalError:
            self._connection.close()
            raise StateError(
                f"another engine works in {folder}; stop that one, or give this one a folder of its own with --store"
            ) from None

    def close(self) -> None:
        self._connection.close()
