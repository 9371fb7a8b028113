"""History: a model's stored profiles laid out so that any window and any baseline is a merge of them."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta

from watchkeeper.monitors import Watch
from watchkeeper.profiles import Key, Profile, Subject, merge
from watchkeeper.records import ALL
from watchkeeper.schema import Kind
from watchkeeper.stats.grid import Grid
from watchkeeper.windows import Window

LABELS = ("0", "1")

Kept = tuple[str, Profile]
"""A profile with its id."""


class History:
    """The profiles of one model's grains, its champions' reference profiles, and who was champion when."""

    def __init__(
        self,
        grains: Iterable[tuple[Key, Profile]],
        references: Iterable[tuple[Key, Profile]],
        champions: Sequence[tuple[datetime, str]],
        grids: Mapping[str, Grid],
        grain: timedelta,
        threshold: float,
    ) -> None:
        self._grains: dict[tuple[str, str], list[tuple[datetime, Key, Profile]]] = defaultdict(list)
        for key, profile in grains:
            if key.start is not None:
                self._grains[key.column, key.label].append((key.start, key, profile))
        for kept in self._grains.values():
            kept.sort(key=lambda part: (part[0], part[1].version))
        self._references = {(k.version, k.column, k.label): (k.id, p) for k, p in references}
        self._champions, self._grids, self._grain, self._threshold = champions, grids, grain, threshold
        self._merged: dict[tuple[str, str, Window, str], tuple[Profile | None, tuple[str, ...]]] = {}

    def champion(self, at: datetime) -> str | None:
        """Who was champion just before a moment: the last one crowned until then, or the first ever."""
        crowned = [version for since, version in self._champions if since < at]
        return crowned[-1] if crowned else self._champions[0][1] if self._champions else None

    def versions(self, window: Window) -> list[str]:
        """The versions that answered in the window."""
        return sorted({key.version for _, key, _ in self._within("status", ALL, window, ALL)})

    def profile(self, column: str, window: Window, version: str = ALL, label: str = ALL) -> Profile | None:
        """The profile of a column in a window, of one version or of all."""
        return self._merge(column, label, window, version)[0]

    def subject(self, watch: Watch, window: Window, version: str = ALL) -> tuple[Subject, tuple[str, ...]]:
        """What a watch looks at, and the ids of the profiles it is made of."""
        current, because = self._merge(watch.column, ALL, window, version)
        labelled: dict[str, Profile] = {}
        baseline_labelled: dict[str, Profile] = {}
        baseline, before = None, 0
        if watch.metric.labels:
            labelled, more = self._by_label(watch.column, window, version)
            because = (*because, *more)
        if watch.monitor is not None:
            length = watch.monitor.baseline
            if length is None:
                kept = self._reference(window.end, watch.column, ALL)
                if kept:
                    because, baseline = (*because, kept[0]), kept[1]
                found = {label: self._reference(window.end, watch.column, label) for label in LABELS}
                baseline_labelled = {label: kept[1] for label, kept in found.items() if kept}
                if watch.metric.labels:
                    because = (*because, *(kept[0] for kept in found.values() if kept))
            else:
                earlier = self._known(Window(window.start - length, window.start))
                if earlier is not None:
                    baseline, more = self._merge(watch.column, ALL, earlier, version)
                    baseline_labelled, labelled_ids = self._by_label(watch.column, earlier, version)
                    because, before = (*because, *more), earlier.length // self._grain
                    if watch.metric.labels:
                        because = (*because, *labelled_ids)
        grid = self._grids.get(watch.column) if watch.kind is Kind.NUMERIC else None
        grains = window.length // self._grain
        parts = self._parts(watch.column, Window(window.start - window.length, window.end), version)
        subject = Subject(current, baseline, grid, self._threshold, grains, before, labelled, baseline_labelled, parts)
        return subject, because

    def _parts(self, column: str, window: Window, version: str) -> tuple[tuple[datetime, Profile], ...]:
        """The profiles of a column in a window, those of each grain's versions apart, oldest first."""
        return tuple((start, profile) for start, _, profile in self._within(column, ALL, window, version))

    def _known(self, window: Window) -> Window | None:
        """The part of a window from the first stored grain on; None if there is none."""
        kept = self._grains["status", ALL]
        if not kept or kept[0][0] >= window.end:
            return None
        return Window(max(kept[0][0], window.start), window.end)

    def _by_label(self, column: str, window: Window, version: str) -> tuple[dict[str, Profile], tuple[str, ...]]:
        """The profiles of the rows of each label, and the ids of those they are made of."""
        found = {label: self._merge(column, label, window, version) for label in LABELS}
        ids = tuple(one for _, kept in found.values() for one in kept)
        return {label: profile for label, (profile, _) in found.items() if profile is not None}, ids

    def _reference(self, at: datetime, column: str, label: str) -> Kept | None:
        return self._references.get((self.champion(at) or ALL, column, label))

    def _merge(self, column: str, label: str, window: Window, version: str) -> tuple[Profile | None, tuple[str, ...]]:
        asked = (column, label, window, version)
        if asked not in self._merged:
            chosen = self._within(column, label, window, version)
            self._merged[asked] = merge(p for *_, p in chosen), tuple(key.id for _, key, _ in chosen)
        return self._merged[asked]

    def _within(self, column: str, label: str, window: Window, version: str) -> list[tuple[datetime, Key, Profile]]:
        """The kept profiles of a column in a window, of one version or of all, oldest first."""
        kept = self._grains[column, label]
        chosen = kept[bisect_left(kept, window.start, key=_start) : bisect_left(kept, window.end, key=_start)]
        return [part for part in chosen if version in (ALL, part[1].version)]


def _start(part: tuple[datetime, Key, Profile]) -> datetime:
    return part[0]
