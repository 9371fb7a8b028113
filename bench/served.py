"""Events into a real `watchkeeper serve`, whose engine takes them in meanwhile, from a process of their own.

Each event is acknowledged only once it is synced to disk. Meanwhile a reader asks for the dashboard's pages.
"""

from __future__ import annotations

import asyncio
import io
import json
import multiprocessing
import os
import queue
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa

FEATURES, CATEGORIES = 16, 4
ROWS = 5_000
"""Events in a request as an Arrow stream."""
IN_A_BATCH = 100
CONNECTIONS = 32
PAGES = ("/", "/models/loans", "/incidents", "/models/loans/columns/f0")
WORDS = ("NL", "DE", "FR", "AT", "BE")


@dataclass
class Load:
    """What one kind of load came to."""

    events: int = 0
    seconds: float = 0.0
    waits: list[float] = field(default_factory=list)
    refused: int = 0

    @property
    def rate(self) -> float:
        return self.events / self.seconds

    @property
    def p99(self) -> float:
        return 1000 * float(np.quantile(self.waits, 0.99)) if self.waits else float("nan")


class Server:
    """`watchkeeper serve` on a store of its own."""

    def __init__(self, folder: Path, every: int) -> None:
        columns = {f"f{i}": "{kind: numeric}" for i in range(FEATURES)}
        columns |= {f"c{i}": "{kind: categorical}" for i in range(CATEGORIES)}
        lines = [
            "models:",
            "  loans:",
            "    grain: 1h",
            "    columns:",
            *(f"      {n}: {k}" for n, k in columns.items()),
        ]
        (folder / "watchkeeper.yaml").write_text("\n".join(lines) + "\n")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        command = [sys.executable, "-m", "watchkeeper", "serve", "--port", str(self.port), "--every", str(every)]
        self.inbox = folder / ".watchkeeper" / "inbox"
        self.process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL)
        until = time.monotonic() + 60
        while True:
            try:
                with socket.create_connection(("127.0.0.1", self.port), timeout=1):
                    return
            except OSError:
                if time.monotonic() > until or self.process.poll() is not None:
                    raise RuntimeError("the server did not start") from None
                time.sleep(0.1)

    def megabytes(self) -> float:
        """Memory of its own that the server holds. The log's and the inbox's files are mapped, and not counted."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return sum(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1024

    def seconds(self) -> float:
        """Processor time that it used so far."""
        used = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(used[11]) + int(used[12])) / os.sysconf("SC_CLK_TCK")

    def backlog(self) -> int:
        return sum(1 for _ in self.inbox.iterdir()) if self.inbox.is_dir() else 0

    def close(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()


# what is sent


def arrow_bodies(seed: int) -> Iterator[bytes]:
    """Arrow streams whose request ids never come twice."""
    random = np.random.default_rng(seed)
    numbers = {f"f{i}": pa.array(random.normal(size=ROWS)) for i in range(FEATURES)}
    words = {f"c{i}": pa.array(random.choice(WORDS, ROWS)) for i in range(CATEGORIES)}
    scores = pa.array(random.random(ROWS))
    at = 0
    while True:
        ids = pa.array(np.arange(at, at + ROWS)).cast(pa.string())
        names = pa.compute.binary_join_element_wise(f"a{seed}", pa.compute.utf8_lpad(ids, 12, "0"), "-")
        now = pa.repeat(pa.scalar(int(time.time() * 1e6)), ROWS).cast(pa.timestamp("us", "UTC"))
        table = pa.table({"request_id": names, "event_time": now, "score": scores, **numbers, **words})
        sink = io.BytesIO()
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
        yield sink.getvalue()
        at += ROWS


def json_bodies(seed: int, count: int) -> Iterator[bytes]:
    """JSON of `count` events; written once, with the ids put in, so that the sender costs little."""
    random = np.random.default_rng(seed)
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    texts = []
    for _ in range(count):
        features = {f"f{i}": random.normal() for i in range(FEATURES)}
        features |= {f"c{i}": str(random.choice(WORDS)) for i in range(CATEGORIES)}
        event = {"request_id": "@", "event_time": now, "score": random.random(), "version": "1", "features": features}
        texts.append(json.dumps(event).encode())
    whole = b'{"events":[' + b",".join(texts) + b"]}" if count > 1 else texts[0]
    parts = whole.split(b'"@"')
    at = 0
    while True:
        pieces = [parts[0]]
        for part in parts[1:]:
            pieces += [b'"j%d-%012d"' % (seed, at), part]
            at += 1
        yield b"".join(pieces)


async def _connection(
    port: int, path: str, kind: str, bodies: Iterator[bytes], count: int, until: float, load: Load
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\ncontent-type: {kind}\r\ncontent-length: %d\r\n\r\n"
    try:
        while time.perf_counter() < until:
            body = next(bodies)
            begun = time.perf_counter()
            writer.write((head % len(body)).encode() + body)
            answer = await reader.readuntil(b"\r\n\r\n")
            size = int(answer.lower().split(b"content-length:")[1].split(b"\r\n")[0])
            said = await reader.readexactly(size)
            if answer.startswith(b"HTTP/1.1 429"):
                load.refused += 1
                await asyncio.sleep(1)
                continue
            if not answer.startswith(b"HTTP/1.1 200") or b'"rejected":[]' not in said:
                raise RuntimeError(f"the server answered {answer!r} {said[:300]!r}")
            load.waits.append(time.perf_counter() - begun)
            load.events += count
    finally:
        writer.close()


def send(port: int, what: str, seconds: float, out: Any) -> None:
    """Send one kind of load for some seconds, in a process of its own."""
    connections, count, kind, bodies = _kinds()[what]

    async def run() -> Load:
        load, begun = Load(), time.perf_counter()
        seed = int(time.time()) * 100
        path = "/v1/models/loans/predictions"
        await asyncio.gather(
            *(_connection(port, path, kind, bodies(seed + i), count, begun + seconds, load) for i in range(connections))
        )
        load.seconds = time.perf_counter() - begun
        return load

    out.put(asyncio.run(run()))


def _kinds() -> dict[str, tuple[int, int, str, Callable[[int], Iterator[bytes]]]]:
    return {
        "json_single": (CONNECTIONS, 1, "application/json", lambda seed: json_bodies(seed, 1)),
        "json": (8, IN_A_BATCH, "application/json", lambda seed: json_bodies(seed, IN_A_BATCH)),
        "arrow": (4, ROWS, "application/vnd.apache.arrow.stream", arrow_bodies),
    }


def read_pages(port: int, stop: Any, out: Any) -> None:
    """Ask for pages of the dashboard, one after the other, twice a second; how long each took, in seconds."""
    waits: list[float] = []
    while not stop.wait(0.5):
        begun = time.perf_counter()
        with socket.create_connection(("127.0.0.1", port), timeout=30) as asked:
            asked.sendall(f"GET {PAGES[len(waits) % len(PAGES)]} HTTP/1.0\r\nhost: 127.0.0.1:{port}\r\n\r\n".encode())
            while asked.recv(1 << 16):
                pass
        waits.append(time.perf_counter() - begun)
    out.put(waits)


def server_figures(seconds: float, every: int, say: Callable[[str], None] = print) -> dict[str, float]:
    """The figures of the server, each kind of load for so many seconds; its engine ticks `every` so many.

    `rss_growth_mb` is how much the memory of the server grew in any of them, from its first third to its last.
    """
    context = multiprocessing.get_context("spawn")
    figures: dict[str, float] = {}
    pages: list[float] = []
    acknowledged: list[float] = []
    with TemporaryDirectory() as folder:
        server = Server(Path(folder), every)
        try:
            _run(context, server, "json", seconds / 3)  # what is made once is made
            _run(context, server, "arrow", seconds / 20)
            for what in _kinds():
                load, waits, memory, used = _run(context, server, what, seconds)
                pages += waits
                acknowledged.append(load.p99)
                third = max(len(memory) // 3, 1)
                growth = statistics.median(memory[-third:]) - statistics.median(memory[:third])
                name = f"{what}_per_s" if what == "json_single" else f"{what}_events_per_s"
                figures[name] = round(load.rate)
                figures["rss_growth_mb"] = round(max(growth, figures.get("rss_growth_mb", 0.0)), 1)
                say(
                    f"{what}: {load.rate:,.0f} events/s, p99 {load.p99:.0f} ms, {load.refused} times told to wait,"
                    f" memory {memory[0]:.0f} to {memory[-1]:.0f} MB, {used / load.seconds:.1f} processors,"
                    f" page p95 {1000 * np.quantile(waits, 0.95):.0f} ms, {server.backlog()} files in the inbox,"
                    f" load average {os.getloadavg()[0]:.1f}"
                )
        finally:
            server.close()
    figures["ack_p99_ms"] = round(max(acknowledged), 1)
    figures["page_p95_ms"] = round(1000 * float(np.quantile(pages, 0.95)), 1)
    return figures


def _run(context: Any, server: Server, what: str, seconds: float) -> tuple[Load, list[float], list[float], float]:
    loads, reads, stop = context.Queue(), context.Queue(), context.Event()
    sender = context.Process(target=send, args=(server.port, what, seconds, loads), daemon=True)
    reader = context.Process(target=read_pages, args=(server.port, stop, reads), daemon=True)
    used, memory = server.seconds(), [server.megabytes()]
    reader.start()
    sender.start()
    while True:
        try:
            load = loads.get(timeout=0.5)
            break
        except queue.Empty:
            memory.append(server.megabytes())
            if sender.exitcode not in (None, 0):
                raise RuntimeError(f"sending {what} failed") from None
    used = server.seconds() - used
    stop.set()
    waits = reads.get(timeout=60)
    sender.join()
    reader.join()
    return load, waits, memory, used
