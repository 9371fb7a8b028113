"""Training: a candidate is made in a process of its own and measured against the champion on a hold-out.

The process is `python -m watchkeeper.training FOLDER`; the folder holds `job.json`, `train.parquet` and
`holdout.parquet`, and receives `candidate/`, `scores.parquet`, and last `result.json` or `failure.txt`. What the
process prints goes to `output.txt`, which is locked as long as it lives; `process.txt` holds its id.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import traceback
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from watchkeeper.errors import TrainingError
from watchkeeper.registry import Registry, checked, resolve
from watchkeeper.stats.estimates import Estimate, mean

OUTPUT, PROCESS = "output.txt", "process.txt"
_children: list[subprocess.Popen[bytes]] = []
"""Kept until they have ended, so that they are reaped."""

CLIP = 1e-6
"""Scores are kept this far from 0 and 1 where their logarithm is taken."""


@dataclass(frozen=True, slots=True)
class Job:
    """What a training process is to do.

    `trainer` names `module:function`, called as `train(rows: pyarrow.Table, folder: Path) -> str`: it writes the
    model's files into the folder and returns the `module:function` that loads them. `champion` is compared with
    on the hold-out; "" where it is served from outside the registry, and the scores that it served are taken instead.
    """

    model: str
    trainer: str
    champion: str
    registry: str
    features: list[str]


def start(folder: Path, job: Job, train: pa.Table, holdout: pa.Table, patience: timedelta) -> None:
    """Write the job and start its process, which goes on if this process dies; wait for it up to `patience`."""
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "candidate").mkdir(parents=True)
    (folder / "job.json").write_text(json.dumps(asdict(job)), encoding="utf-8")
    pq.write_table(train, folder / "train.parquet")
    pq.write_table(holdout, folder / "holdout.parquet")
    with (folder / OUTPUT).open("wb") as output:
        fcntl.flock(output, fcntl.LOCK_EX)  # the process inherits the file, and with it the lock
        process = subprocess.Popen(
            [sys.executable, "-m", "watchkeeper.training", str(folder)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
        )
    _write(folder / PROCESS, str(process.pid))
    _children[:] = [child for child in _children if child.poll() is None]
    _children.append(process)
    with suppress(subprocess.TimeoutExpired):
        process.wait(patience.total_seconds())


def started(folder: Path) -> bool:
    """Whether a process was started for the job."""
    there = any((folder / name).is_file() for name in (PROCESS, "result.json", "failure.txt"))
    return there or ((folder / OUTPUT).is_file() and alive(folder))


def alive(folder: Path) -> bool:
    """Whether the job's process, or one that it began, still lives. Whoever started it, and whatever else has its id
    by now, does not matter."""
    with (folder / OUTPUT).open("rb") as output:
        try:
            fcntl.flock(output, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def stop(folder: Path) -> None:
    """Kill the job's process with all that it began."""
    if alive(folder) and (folder / PROCESS).is_file():
        with suppress(ProcessLookupError):
            os.killpg(int((folder / PROCESS).read_text(encoding="utf-8")), signal.SIGKILL)


def result(folder: Path) -> dict[str, Any] | None:
    """What a finished job found: `loader`, and `scores.parquet` beside it; None while it runs.

    Raises TrainingError with the end of its output if it failed.
    """
    failure = folder / "failure.txt"
    if failure.is_file():
        raise TrainingError(failure.read_text(encoding="utf-8"))
    done = folder / "result.json"
    return json.loads(done.read_text(encoding="utf-8")) if done.is_file() else None


def gate(scores: pa.Table, confidence: float) -> Estimate:
    """The candidate's log loss minus the champion's on the same rows, with its paired interval.

    Args:
        scores: `label, candidate, champion`, one row each.
        confidence: of each end of the interval.
    """
    label = scores.column("label").to_numpy()
    losses = [log_losses(label, scores.column(name).to_numpy()) for name in ("candidate", "champion")]
    gap = losses[0] - losses[1]
    estimate = mean(float(gap.sum()), float((gap**2).sum()), len(gap), 1 - confidence)
    return estimate.about(candidate=float(losses[0].mean()), champion=float(losses[1].mean()))


def log_losses(label: Any, score: Any) -> Any:
    """The log loss of each row; labels 0 or 1 and scores, shape (rows,)."""
    kept = np.clip(score, CLIP, 1 - CLIP)
    return -np.where(label == 1, np.log(kept), np.log1p(-kept))


def run(folder: Path) -> None:
    """Do the job of a folder: train, then score the hold-out with candidate and champion."""
    job = Job(**json.loads((folder / "job.json").read_text(encoding="utf-8")))
    train, holdout = pq.read_table(folder / "train.parquet"), pq.read_table(folder / "holdout.parquet")
    loader = resolve(job.trainer)(train, folder / "candidate")
    if not isinstance(loader, str):
        raise TrainingError(f"trainer {job.trainer} must return the loader as module:function, found {loader!r}")
    holdout = _scored(holdout, job)
    features = holdout.select(job.features)
    served = Registry(Path(job.registry)).load(job.model, job.champion).scores(features) if job.champion else None
    scores = {
        "label": holdout.column("label"),
        "candidate": checked(resolve(loader)(folder / "candidate").scores(features), features.num_rows),
        "champion": holdout.column("score") if served is None else served,
    }
    pq.write_table(pa.table(scores), folder / "scores.parquet")
    _write(folder / "result.json", json.dumps({"loader": loader, "rows": train.num_rows}))


def held_out(folder: Path, columns: Iterable[str]) -> pa.Table:
    """Columns of the rows that `scores.parquet` of a finished job scores, in its order."""
    job = Job(**json.loads((folder / "job.json").read_text(encoding="utf-8")))
    return _scored(pq.read_table(folder / "holdout.parquet"), job).select([*columns])


def _scored(holdout: pa.Table, job: Job) -> pa.Table:
    """The rows to compare on: of a champion that is not in the registry, those that it scored when it served."""
    return holdout if job.champion else holdout.filter(pc.is_valid(holdout.column("score")))


def main(folder: Path) -> int:
    try:
        run(folder)
    except Exception:  # noqa: BLE001 (a trainer is foreign code; whatever it raises is the job's outcome)
        traceback.print_exc()
        _write(folder / "failure.txt", traceback.format_exc()[-2000:])
        return 1
    return 0


def _write(path: Path, text: str) -> None:
    """The whole text or, if this process dies, nothing."""
    waiting = path.with_suffix(".part")
    waiting.write_text(text, encoding="utf-8")
    waiting.replace(path)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
