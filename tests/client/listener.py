"""A server that listens to clients: what the tests of the client send to, and how they look at it."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import pyarrow as pa

from watchkeeper.store.inbox import Inbox


def inbox(store: Path) -> list[dict[str, Any]]:
    """The events that wait, without what clients tell of their losses."""
    return [event for _, batch in Inbox(store).batches() for event in batch if event["kind"] != "losses"]


def ids(found: list[dict[str, Any]]) -> list[str]:
    return [event["request_id"] for event in found]


def wait_until(true: Callable[[], bool], seconds: float = 10) -> None:
    until = monotonic() + seconds
    while not true():
        assert monotonic() < until, "it did not come true in time"
        sleep(0.01)


@dataclass
class Server:
    """A server that keeps what it is sent and answers as it was told to, then 200."""

    url: str = ""
    answers: list[int] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    """Sent with answers that are not 200."""
    arrow: bool = True
    """Whether it takes Arrow."""
    refuse: Callable[[list[dict[str, Any]]], int] = lambda events: 200
    rejected: list[dict[str, Any]] = field(default_factory=list)
    posts: list[tuple[str, dict[str, str], int]] = field(default_factory=list)
    kept: list[dict[str, Any]] = field(default_factory=list)
    losses: list[dict[str, Any]] = field(default_factory=list)
    close: Callable[[], None] = lambda: None


def serve(port: int = 0, kept: list[dict[str, Any]] | None = None) -> Server:
    """A server that goes on with the list of an earlier one, if that is given."""
    found = Server(kept=[] if kept is None else kept)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body, form = self.rfile.read(int(self.headers["Content-Length"])), self.headers["Content-Type"]
            if self.path.endswith("/losses"):
                found.losses.append(json.loads(body))
                got = []
            elif form == "application/json":
                got = json.loads(body)["events"]
            else:
                assert form == "application/vnd.apache.arrow.stream"
                got = pa.ipc.open_stream(body).read_all().to_pylist() if found.arrow else []
            code = (
                415
                if form != "application/json" and not found.arrow
                else found.answers.pop(0)
                if found.answers
                else found.refuse(got)
            )
            found.posts.append((self.path, dict(self.headers.items()), code))
            if code == 200:
                found.kept.extend(got)
            body = json.dumps({"accepted": len(got), "rejected": found.rejected}).encode()
            self.send_response(code)
            for name, value in found.headers.items() if code != 200 else ():
                self.send_header(name, value)
            if 300 <= code < 400:
                self.send_header("Location", found.url)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self) -> None:
            raise AssertionError("a redirect was followed")

        def log_message(self, *_: Any) -> None:
            pass

    until = monotonic() + 10
    while True:
        try:
            server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
            break
        except OSError:  # a connection of somebody else has the port, for a moment
            if monotonic() > until:
                raise
            sleep(0.1)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()

    def close() -> None:
        server.shutdown()
        thread.join()
        server.server_close()

    found.url, found.close = f"http://127.0.0.1:{server.server_port}", close
    return found


def dead_url() -> str:
    dead = serve()
    dead.close()
    return dead.url


class Hostile:
    """A value that fails whatever is done with it."""

    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("no comparison")

    def __hash__(self) -> int:
        return 1

    def __bool__(self) -> bool:
        raise RuntimeError("no truth")

    def __len__(self) -> int:
        raise RuntimeError("no length")

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(f"no {name}")


def run(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", "-c", script, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)
