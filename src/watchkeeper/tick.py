"""One tick of the engine: what it did, hop by hop."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass
class Tick:
    """What one tick did: how many rows each hop handled, and how many seconds it took; `counted` is what is told of the
    events of each model that came in."""

    rows: Counter[str] = field(default_factory=Counter)
    counted: defaultdict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))

    @contextmanager
    def timed(self, hop: str) -> Iterator[None]:
        begun = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[hop] += time.perf_counter() - begun
