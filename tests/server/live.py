"""A real server in a thread, for the tests of pages and of the HTTP interface."""

from __future__ import annotations

import atexit
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import fraud_story
import uvicorn
from fastapi import FastAPI

from watchkeeper.engine import Engine
from watchkeeper.records import Incident
from watchkeeper.server.app import create_app

__all__ = ["NOW", "Engine", "Incident", "application", "fraud_story", "serving", "story"]

NOW = fraud_story.START + timedelta(days=fraud_story.DAYS, hours=2)


@cache
def _written() -> tuple[Path, fraud_story.Ids]:
    """The story's store, written once for all tests of a run."""
    folder = Path(mkdtemp(prefix="watchkeeper-story-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder, fraud_story.tell(folder)


@contextmanager
def story(folder: Path) -> Iterator[tuple[Engine, fraud_story.Ids]]:
    """A copy of the story's store with an engine on it."""
    written, ids = _written()
    shutil.copytree(written, folder, dirs_exist_ok=True)
    engine = Engine(folder, fraud_story.CONFIG, clock=lambda: NOW)
    try:
        yield engine, ids
    finally:
        engine.close()


def application(engine: Engine, title: str = "tests") -> FastAPI:
    return create_app(
        engine.state, clock=engine.clock, operations=engine, inbox=engine.inbox, title=title, keyless=True
    )


@contextmanager
def serving(app: FastAPI) -> Iterator[str]:
    """The address of the application on a free port of this machine."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="critical", ws="none", lifespan="off"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive(), "the server did not start"
        time.sleep(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join(10)
