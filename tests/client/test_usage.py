"""What a prediction used, as far as this system tells."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from time import sleep, thread_time
from types import SimpleNamespace

import numpy as np
import pytest

from watchkeeper.client import usage
from watchkeeper.client.usage import Usage


@pytest.fixture(autouse=True)
def _no_reading() -> Iterator[None]:
    usage._gpus.cache_clear()
    usage._reading = (-usage._GPU_EVERY, None)
    yield
    usage._gpus.cache_clear()
    usage._reading = (-usage._GPU_EVERY, None)


def number(found: dict[str, float | None], name: str) -> float:
    value = found[name]
    assert value is not None
    return value


def test_waiting_takes_time_and_no_processor() -> None:
    measured = Usage()
    sleep(0.05)
    found = measured.fields()
    assert 50 <= number(found, "latency_ms") < 1000
    assert number(found, "cpu_ms") < 25


def test_work_takes_the_processor() -> None:
    measured = Usage()
    end = thread_time() + 0.05
    while thread_time() < end:
        pass
    found = measured.fields()
    assert 50 <= number(found, "cpu_ms") <= number(found, "latency_ms") + 1


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells what it has now")
def test_memory_is_what_the_process_has() -> None:
    before = number(Usage().fields(), "memory_mb")
    held = np.ones(8 << 20)  # 64 MB
    after = number(Usage().fields(), "memory_mb")
    assert before > 10
    assert 50 < after - before < 100
    assert held.sum()


def test_memory_where_the_system_tells_the_most_only(monkeypatch: pytest.MonkeyPatch) -> None:
    now = number(Usage().fields(), "memory_mb")
    monkeypatch.setattr(usage, "_STATM", "/no/such/file")
    assert number(Usage().fields(), "memory_mb") >= now / 2
    monkeypatch.setattr(usage, "resource", None)
    assert Usage(own_thread=False).fields()["memory_mb"] is None


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a thread's own")
def test_what_is_written_to_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Usage().fields()["disk_mb"] is not None
    counts = iter([SimpleNamespace(ru_inblock=10, ru_oublock=0), SimpleNamespace(ru_inblock=10, ru_oublock=4096)])
    monkeypatch.setattr(usage.resource, "getrusage", lambda who: next(counts))
    assert Usage().fields()["disk_mb"] == 2.0


def test_what_others_do_in_the_thread_is_not_counted() -> None:
    found = Usage(own_thread=False).fields()
    assert (found["cpu_ms"], found["disk_mb"]) == (None, None)
    assert found["latency_ms"] is not None


def test_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usage, "_NVML", "no_such_module")
    assert usage.gpu_memory() is None


NVML = """
used, fails = [100 << 20, 28 << 20], []
def nvmlInit():
    if "init" in fails: raise RuntimeError("no driver")
def nvmlDeviceGetCount(): return len(used)
def nvmlDeviceGetHandleByIndex(i): return i
class Info:
    def __init__(self, used): self.used = used
def nvmlDeviceGetMemoryInfo(i):
    if "read" in fails: raise RuntimeError("lost")
    return Info(used[i])
"""


def test_the_memory_of_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "fake_nvml.py").write_text(NVML)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(usage, "_NVML", "fake_nvml")
    assert usage.gpu_memory() == 128.0
    fake = sys.modules["fake_nvml"]
    fake.used[0] = 0
    assert usage.gpu_memory() == 128.0, "a reading is good for a while"
    monkeypatch.setattr(usage, "_GPU_EVERY", 0.0)
    assert usage.gpu_memory() == 28.0
    fake.fails.append("read")
    assert usage.gpu_memory() is None
    fake.fails.append("init")
    usage._gpus.cache_clear()
    assert usage.gpu_memory() is None


def test_measuring_costs_little() -> None:
    def once() -> float:
        start = thread_time()
        for _ in range(1000):
            Usage().fields()
        return thread_time() - start

    assert min(once() for _ in range(3)) < 0.1, "100 microseconds each"
