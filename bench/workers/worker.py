"""What every worker does: say that its imports are done, then take jobs from standard input, one JSON object a line.

A worker runs in the environment of the tool that it measures, so it imports nothing of this project's.
"""

from __future__ import annotations

import json
import os
import resource
import sys
from collections.abc import Callable
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

Task = Callable[..., dict[str, Any] | None]


def serve(**tasks: Task) -> None:
    """Answer each job `{"task": name, ...}` with what the task returns, its seconds and its peak memory."""
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what the tool itself prints must not pass for a reply
    print(json.dumps({"ready": True}), file=replies, flush=True)
    for line in sys.stdin:
        job = json.loads(line)
        task = tasks[job.pop("task")]
        start, busy = perf_counter(), process_time()
        try:
            reply = task(**job) or {}
        except Exception as problem:  # noqa: BLE001  whatever went wrong is told, and the other tools go on
            reply = {"problem": f"{type(problem).__name__}: {problem}"}
        spent = {"seconds": perf_counter() - start, "cpu_seconds": process_time() - busy, "peak_mb": peak_mb()}
        reply = {**spent, **reply}
        print(json.dumps(reply), file=replies, flush=True)


def peak_mb() -> float:
    """The most memory that this process has had, in units of 10^6 bytes.

    Linux also counts what a process had before it became this program in `ru_maxrss`, so its own figure is taken.
    """
    status = Path("/proc/self/status")
    if status.exists():
        found = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(found.split()[1]) * 1024 / 1e6
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / 1e6 if sys.platform == "darwin" else most * 1024 / 1e6
