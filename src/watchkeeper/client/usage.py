"""What a prediction uses: time, processor, memory, memory of the GPU, disk."""

from __future__ import annotations

import os
import sys
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from time import monotonic, perf_counter, thread_time
from typing import Any

try:
    import resource
except ImportError:  # Windows has no such counts
    resource = None  # type: ignore[assignment]

_MB = float(1 << 20)
_NVML = "pynvml"
_GPU_EVERY = 1.0
"""Seconds that a reading of the GPU is good for: asking it costs more than a prediction may."""
_BLOCK = 512
"""Bytes in a block, as Linux counts them."""
_OF_THREAD = getattr(resource, "RUSAGE_THREAD", None)
_STATM = "/proc/self/statm"
_PAGE = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096


class Usage:
    """A measurement that begins when it is made.

    Args:
        own_thread: whether all of the work is done in this thread, with no other work between, so that the thread's
            processor time and disk blocks are the work's.
    """

    def __init__(self, *, own_thread: bool = True) -> None:
        self._own_thread = own_thread
        self._blocks = _blocks() if own_thread else None
        self._cpu = thread_time() if own_thread else 0.0
        self._start = perf_counter()

    def fields(self) -> dict[str, float | None]:
        """What was used until now, as fields of `log`.

        `latency_ms` is wall time, `cpu_ms` the processor time of this thread (work that a library does in threads of
        its own is not seen), `memory_mb` the memory of the process now, `gpu_memory_mb` what is taken of the GPUs that
        it sees, by whomever, `disk_mb` what this thread read from and wrote to the disk. What the system does not tell
        is None.
        """
        latency = (perf_counter() - self._start) * 1e3
        cpu = (thread_time() - self._cpu) * 1e3 if self._own_thread else None
        blocks = _blocks() if self._own_thread else None
        disk = None if blocks is None or self._blocks is None else (blocks - self._blocks) * _BLOCK / _MB
        return {
            "latency_ms": latency,
            "cpu_ms": cpu,
            "memory_mb": _memory(),
            "gpu_memory_mb": gpu_memory(),
            "disk_mb": disk,
        }


def _blocks() -> int | None:
    if _OF_THREAD is None:
        return None
    found = resource.getrusage(_OF_THREAD)
    return found.ru_inblock + found.ru_oublock


def _memory() -> float | None:
    """The memory of this process in MB: what it has now, or where the system does not tell that, the most it had."""
    try:
        with open(_STATM, "rb") as file:  # noqa: PTH123 (a Path would cost more than the reading)
            return int(file.read().split()[1]) * _PAGE / _MB
    except (OSError, LookupError, ValueError):
        if resource is None:
            return None
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return float(peak) / _MB if sys.platform == "darwin" else peak / 1024.0


@cache
def _gpus() -> tuple[Any, list[Any]]:
    """NVML and the devices that it shows; none where it is not installed or there is no driver."""
    if find_spec(_NVML) is None:
        return None, []
    try:
        nvml = import_module(_NVML)
        nvml.nvmlInit()
        return nvml, [nvml.nvmlDeviceGetHandleByIndex(i) for i in range(nvml.nvmlDeviceGetCount())]
    except Exception:  # noqa: BLE001 (a driver that is missing or broken is no reason to fail a prediction)
        return None, []


_reading: tuple[float, float | None] = (-_GPU_EVERY, None)


def gpu_memory() -> float | None:
    """MB taken of the GPUs that this process sees; None without a GPU or NVML (`pip install nvidia-ml-py`)."""
    global _reading
    nvml, devices = _gpus()
    if not devices:
        return None
    now = monotonic()
    if now - _reading[0] >= _GPU_EVERY:
        try:
            taken: float | None = sum(nvml.nvmlDeviceGetMemoryInfo(device).used for device in devices) / _MB
        except Exception:  # noqa: BLE001 (as above)
            taken = None
        _reading = now, taken
    return _reading[1]
