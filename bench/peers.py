"""Tools in processes of their own: each in its own environment, made once by uv and kept in the temporary folder."""

from __future__ import annotations

import hashlib
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

WORKERS = Path(__file__).parent / "workers"
HOME = Path(tempfile.gettempdir()) / "watchkeeper-bench"
PYTHON = "3.11"
PEERS = {
    "evidently": ("evidently==0.7.*", "pandas<3", "pyarrow>=20"),
    "nannyml": ("nannyml==0.13.1", "pandas<3", "statsmodels", "pyarrow>=20"),
    "whylogs": ("whylogs==1.6.*", "numpy<2", "pandas<3", "setuptools<81", "pyarrow<18"),
    # its bounds let newer releases of what it needs in than it works with
    "alibi-detect": ("alibi-detect==0.11.4", "pandas<3", "numba>=0.57", "scipy<1.12", "pyarrow<18"),
}
"""What each tool needs to run today."""
NO_TELEMETRY = {"DO_NOT_TRACK": "1", "NML_DISABLE_USAGE_LOGGING": "1", "WHYLOGS_NO_ANALYTICS": "True"}


class PeerError(Exception):
    """A tool could not be installed, started or run in time. Says why."""


def interpreter(tool: str, seconds: float) -> Path:
    """The Python that has the tool, made now if it is not there.

    Raises PeerError where that takes longer than `seconds`, or does not work.
    """
    if tool not in PEERS:
        return Path(sys.executable)
    wanted = PEERS[tool]
    folder = HOME / f"{tool}-{hashlib.sha256(repr((PYTHON, wanted)).encode()).hexdigest()[:8]}"
    python = folder / "bin" / "python"
    if (folder / "made").exists():
        return python
    uv = shutil.which("uv")
    if uv is None:
        raise PeerError("needs uv, which was not found; see https://docs.astral.sh/uv")
    shutil.rmtree(folder, ignore_errors=True)
    HOME.mkdir(exist_ok=True)
    steps = ([uv, "venv", "--python", PYTHON, folder], [uv, "pip", "install", "--python", python, *wanted])
    for step in steps:
        try:
            done = subprocess.run([*map(str, step), "--quiet"], capture_output=True, text=True, timeout=seconds)
        except subprocess.TimeoutExpired:
            raise PeerError(f"its environment was not made within {seconds:.0f} seconds") from None
        if done.returncode:
            raise PeerError(f"cannot be installed: {done.stderr.strip().splitlines()[-1]}")
    (folder / "made").write_text(" ".join(wanted))
    return python


class Worker:
    """A process that has imported its tool and waits for jobs. Use it in a `with` statement.

    Raises PeerError where the environment is not there and cannot be made within `seconds`.
    """

    def __init__(self, tool: str, seconds: float = 900) -> None:
        self.tool = tool
        env = {**os.environ, "PYTHONWARNINGS": "ignore", **NO_TELEMETRY}
        env.pop("PYTHONDONTWRITEBYTECODE", None)  # else each start compiles the tool anew
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115  closed with the worker
        self._process = subprocess.Popen(
            [interpreter(tool, seconds), WORKERS / f"use_{tool.replace('-', '_')}.py"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, text=True,
            env=env,
        )  # fmt: skip
        self._ready = False

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()
        self._log.close()

    def wait(self, seconds: float = 120) -> None:
        """Until the tool is imported. Raises PeerError where that does not work."""
        if not self._ready:
            self._reply(seconds)
            self._ready = True

    def ask(self, task: str, seconds: float = 3600, **job: Any) -> dict[str, Any]:
        """What the worker found, with `seconds` and `peak_mb`. Raises PeerError where it failed or took too long."""
        self.wait()
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"task": task, **job}) + "\n")
        self._process.stdin.flush()
        reply = self._reply(seconds)
        if "problem" in reply:
            raise PeerError(reply["problem"])
        return reply

    def _reply(self, seconds: float) -> dict[str, Any]:
        assert self._process.stdout is not None
        if seconds <= 0:
            raise PeerError("was not run, for no time was left")
        there, _, _ = select.select([self._process.stdout], [], [], seconds)
        if not there:
            raise PeerError(f"had not finished after {seconds:.0f} seconds")
        line = self._process.stdout.readline()
        if not line:
            self._log.seek(0)
            said = self._log.read().strip().splitlines() or ["it said nothing"]
            raise PeerError(f"the process ended: {said[-1]}")
        reply: dict[str, Any] = json.loads(line)
        return reply
