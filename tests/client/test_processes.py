"""Clients in programs of many processes, threads and coroutines."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path
from time import monotonic, sleep

import pytest
from listener import Server, ids, inbox, run

from watchkeeper.client import Client

FORKS = "import warnings; warnings.simplefilter('ignore', DeprecationWarning)  # newer Pythons warn of threads\n"

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")


def test_request_ids_are_uuids_and_differ() -> None:
    one, other = (Client("x", model="m") for _ in range(2))
    made = [client.log({}) for client in (one, other) for _ in range(100)]
    for client in (one, other):
        client._sender.waiting.clear()
        client.close()
    assert len({*made}) == 200
    assert all(re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", m) for m in made)


@needs_fork
def test_prefork_workers(tmp_path: Path) -> None:
    """As gunicorn does with `preload_app`: the client is made and used before the workers are forked."""
    done = run(
        FORKS + "import os, sys, watchkeeper\n"
        "client = watchkeeper.Client(sys.argv[1], model='m', interval=0.05, spool=sys.argv[1] + '/spool')\n"
        "client.log({'who': 'master'}); client.flush()\n"
        "children = []\n"
        "for i in range(4):\n"
        "    child = os.fork()\n"
        "    if not child:\n"
        "        for j in range(500): client.log({'who': i})\n"
        "        sys.exit(0)\n"
        "    children.append(child)\n"
        "for j in range(500): client.log({'who': 'master'})\n"
        "assert all(os.waitpid(child, 0)[1] == 0 for child in children)\n",
        str(tmp_path),
    )
    assert (done.returncode, done.stderr) == (0, "")
    found = inbox(tmp_path)
    assert len({*ids(found)}) == len(found) == 2501
    assert Counter(event["features"]["who"] for event in found) == {"master": 501, **dict.fromkeys(range(4), 500)}


@pytest.mark.parametrize("start", ["fork", "spawn", "forkserver"])
def test_processes_of_multiprocessing_flush_at_their_end(tmp_path: Path, start: str) -> None:
    """They end by `os._exit`, and do not call what `atexit` was told."""
    if start != "spawn" and not hasattr(os, "fork"):
        pytest.skip("this system cannot fork")
    script = tmp_path / "script.py"
    script.write_text(
        FORKS + "import multiprocessing, sys, watchkeeper\n"
        "client = watchkeeper.Client(sys.argv[1], model='m', interval=3600)\n"
        "def work(i):\n"
        "    for j in range(10): client.log({'who': i})\n"
        "if __name__ == '__main__':\n"
        f"    context = multiprocessing.get_context('{start}')\n"
        "    for i in range(3):\n"
        "        process = context.Process(target=work, args=(i,)); process.start(); process.join()\n"
        "        assert process.exitcode == 0\n"
    )
    command = [sys.executable, "-W", "error", str(script), str(tmp_path / "store")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert Counter(e["features"]["who"] for e in inbox(tmp_path / "store")) == dict.fromkeys(range(3), 10)


def test_a_process_that_ends_by_exit_must_close(tmp_path: Path) -> None:
    for end, wanted in (("client.close()", ["r"]), ("pass", [])):
        done = run(
            "import os, sys, watchkeeper\n"
            "client = watchkeeper.Client(sys.argv[1], model='m', interval=3600)\n"
            f"client.log({{}}, request_id='r'); {end}; os._exit(0)\n",
            str(tmp_path / end),
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert ids(inbox(tmp_path / end)) == wanted


def test_a_coroutine_may_log_and_flush_without_holding_up_the_others(server: Server) -> None:
    held = threading.Event()
    server.refuse = lambda events: 200 if held.wait(10) else 500

    async def story() -> tuple[bool, float]:
        with Client(server.url, model="delays", interval=3600) as client:
            for _ in range(1000):
                client.log({})
            flushing = asyncio.ensure_future(client.aflush())
            longest, last = 0.0, monotonic()
            for _ in range(20):
                await asyncio.sleep(0.01)
                longest, last = max(longest, monotonic() - last), monotonic()
                client.log({})
            held.set()
            return await flushing, longest

    flushed, longest = asyncio.run(story())
    assert flushed
    assert longest < 2
    assert len(server.kept) == 1020


def test_many_threads_with_a_small_buffer_account_for_all(tmp_path: Path) -> None:
    client = Client(tmp_path, model="delays", interval=0.001, buffer=50)

    def work() -> None:
        for i in range(2000):
            client.log({"i": i})
            if i % 100 == 0:
                sleep(0)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    client.close()
    stats = client.stats
    assert stats.logged == 12_000
    assert stats.delivered == len({*ids(inbox(tmp_path))})
    assert stats.delivered + stats.dropped.get("buffer full", 0) == 12_000
