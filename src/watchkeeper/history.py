"""History: a model's stored profiles laid out so that any window and any baseline is a merge of them."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from watchkeeper.costs import Costs
from watchkeeper.late import ERROR, LABELS, SCORE, Late, correctable
from watchkeeper.metrics import fits
from watchkeeper.monitors import Watch
from watchkeeper.profiles import Key, Profile, Subject, merge
from watchkeeper.records import ALL
from watchkeeper.schema import SEASONAL, WEEK, WEEKS, YEAR, Ago, Kind, MonitorConfig
from watchkeeper.stats.grid import Grid
from watchkeeper.stats.lags import Correction, Weighed
from watchkeeper.windows import Window

RUN = 100
"""Grains that a metric which runs since the champion was crowned goes back at most, unless two windows hold more."""

Merged = tuple[Profile | None, tuple[str, ...]]
"""A profile, if there is any, and the ids of those it is made of."""


Place = tuple[str, str, str]
"""A segment, a column and a label."""


def champion_at(champions: Sequence[tuple[datetime, str]], at: datetime) -> str | None:
    """Who was champion just before a moment: the last one crowned until then, or the first ever; None if none was."""
    crowned = [version for since, version in champions if since < at]
    return crowned[-1] if crowned else champions[0][1] if champions else None


class History:
    """The profiles of one model's grains, its champions' reference profiles, and who was champion when.

    Args:
        grains: those of every window that will be asked for, baselines included.
        since: the start of the model's first grain; what was before is not known, and what is missing since was silent.
        late: what is known of labels that are still to come; without it all windows count as mature.
    """

    def __init__(
        self,
        grains: Iterable[tuple[Key, Profile]],
        references: Iterable[tuple[Key, Profile]],
        champions: Sequence[tuple[datetime, str]],
        grids: Mapping[str, Grid],
        grain: timedelta,
        threshold: float,
        since: datetime,
        costs: Costs | None = None,
        late: Late | None = None,
    ) -> None:
        self._grains: dict[Place, list[tuple[datetime, Key, Profile]]] = defaultdict(list)
        for key, profile in grains:
            if key.start is not None:
                self._grains[key.segment, key.column, key.label].append((key.start, key, profile))
        for kept in self._grains.values():
            kept.sort(key=lambda part: (part[0], part[1].version))
        self._references: dict[tuple[str, Place], Merged] = {
            (k.version, (k.segment, k.column, k.label)): (p, (k.id,)) for k, p in references
        }
        self._champions, self._grids, self._grain, self._threshold = champions, grids, grain, threshold
        self._since, self._costs, self._late = since, costs, late
        self._labels: dict[tuple[str, str], set[str]] = defaultdict(set)
        for segment, column, label in (*self._grains, *(place for _, place in self._references)):
            self._labels[segment, column] |= {label} - {ALL}
        self._merged: dict[tuple[Place, Window, str], Merged] = {}
        self._corrections: dict[tuple[str, Window, str], Correction | Weighed | None] = {}

    def versions(self, window: Window) -> list[str]:
        """The versions that answered in the window."""
        return sorted({key.version for _, key, _ in self._within((ALL, "status", ALL), window, ALL)})

    def profile(self, column: str, window: Window, version: str = ALL, label: str = ALL) -> Profile | None:
        """The profile of a column in a window, of one version or of all."""
        return self._merge((ALL, column, label), window, version)[0]

    def subject(self, watch: Watch, window: Window, version: str = ALL) -> tuple[Subject, tuple[str, ...]]:
        """What a watch looks at, and the ids of the profiles it is made of; of groups, those of all rows together."""
        subject, because = self._whole(watch, window, version)
        groups = {name: self._whole(replace(watch, segment=name), window, version)[0] for name in watch.groups}
        return replace(subject, groups=groups), because

    def _whole(self, watch: Watch, window: Window, version: str) -> tuple[Subject, tuple[str, ...]]:
        """What a watch looks at in its segment, the columns beside its own included."""
        beside = {name: replace(watch, column=name, kind=self._kind(name)) for name in self._beside(watch)}
        subject, because = self._subject(watch, window, version)
        found = {name: self._subject(other, window, version) for name, other in beside.items()}
        return (
            replace(subject, beside={name: other for name, (other, _) in found.items()}),
            (*because, *(one for _, ids in found.values() for one in ids)),
        )

    def _beside(self, watch: Watch) -> list[str]:
        """The columns that the metric asks for beside its own, those of them that there are."""
        names = sorted(column for segment, column in self._labels if segment == watch.segment)
        return [name for wanted in watch.metric.beside for name in names if fits(name, wanted)]

    def _kind(self, column: str) -> Kind:
        return Kind.NUMERIC if column in self._grids else Kind.CATEGORICAL

    def _subject(self, watch: Watch, window: Window, version: str) -> tuple[Subject, tuple[str, ...]]:
        by_label = watch.metric.labels or watch.metric.baseline_labels
        labels = sorted(self._labels[watch.segment, watch.column]) if by_label else ()
        now = {label: self._merge(_place(watch, label), window, version) for label in (ALL, *labels)}
        then, before = self._baseline(watch, window, version, (ALL, *labels))
        waits = correctable(watch.metric, watch.column)
        late = self._late if waits and self._late and self._late.immature(window.end) else None
        subject = Subject(
            current=now[ALL][0],
            baseline=then[ALL][0],
            grid=self._grids.get(watch.column) if watch.kind is not Kind.CATEGORICAL else None,
            threshold=self._threshold,
            grains=window.length // self._grain,
            baseline_grains=before,
            labelled={label: kept for label in labels if (kept := now[label][0])},
            baseline_labelled={label: kept for label in labels if (kept := then[label][0])},
            parts=() if _seasonal(watch) else self._parts(_place(watch, ALL), seen(window), version),
            contract=watch.contract,
            costs=self._costs,
            provisional=late is not None,
            correction=self._correction(late, watch, window, version) if late else None,
            grain_seconds=self._grain.total_seconds(),
            labelled_parts=self._labelled(watch, window, version) if watch.metric.since_crowned else (),
            past=self._past(watch, window, version),
        )
        return subject, tuple(one for _, ids in (*now.values(), *then.values()) for one in ids)

    def _correction(self, late: Late, watch: Watch, window: Window, version: str) -> Correction | Weighed | None:
        asked = watch.segment, window, version
        if asked not in self._corrections:
            labels = self._labels[watch.segment, watch.column]
            parts = {label: self._within(_place(watch, label), window, version) for label in (*LABELS, *labels)}
            rows = self._within(_place(watch, ALL), window, version)
            if watch.column == SCORE:
                self._corrections[asked] = late.correction(self._grids[SCORE], rows, parts)
            elif watch.column == ERROR:
                grid = self._grids.get(ERROR)
                self._corrections[asked] = late.of_errors(grid, rows) if grid else None
            else:
                self._corrections[asked] = late.of_classes(rows, {label: parts[label] for label in labels})
        return self._corrections[asked]

    def _baseline(
        self, watch: Watch, window: Window, version: str, labels: Sequence[str]
    ) -> tuple[dict[str, Merged], int]:
        """What a look compares with, by label, and how many grains of time that covers."""
        nothing: dict[str, Merged] = dict.fromkeys(labels, (None, ()))
        if watch.monitor is None and not watch.metric.baseline_labels:
            return nothing, 0
        if watch.monitor is None or watch.monitor.baseline is None:
            return {label: self._reference(window.end, _place(watch, label), version) for label in labels}, 0
        if watch.monitor.baseline == SEASONAL:
            return nothing, 0
        known = [part for earlier in watch.monitor.before(window) if (part := self._known(watch.monitor, earlier))]
        grains = sum(part.length // self._grain for part in known)
        return {label: self._together(_place(watch, label), known, version) for label in labels}, grains

    def _past(self, watch: Watch, window: Window, version: str) -> dict[int, Profile | None]:
        """The profiles of a place in the windows that a seasonal baseline looks at, by how many lengths they lie back:
        those of the last weeks, and if all of them are known those of the weeks up to the same one a year before."""
        if watch.monitor is None or watch.monitor.baseline != SEASONAL:
            return {}
        weeks, year = WEEKS * WEEK // window.length, YEAR // window.length
        found = {}
        for back in (*range(1, weeks + 1), *range(year, year + weeks + 1)):
            earlier = Window(window.start - back * window.length, window.end - back * window.length)
            if earlier.start >= self._since:
                found[back] = self._merge(_place(watch, ALL), earlier, version)[0]
        return found

    def _together(self, place: Place, windows: Sequence[Window], version: str) -> Merged:
        found = [self._merge(place, window, version) for window in windows]
        return merge(p for p, _ in found if p is not None), tuple(one for _, ids in found for one in ids)

    def _parts(self, place: Place, window: Window, version: str) -> tuple[tuple[datetime, Profile], ...]:
        """The profiles of a place in a window, those of each grain's versions apart, oldest first."""
        return tuple((start, profile) for start, _, profile in self._within(place, window, version))

    def _labelled(self, watch: Watch, window: Window, version: str) -> tuple[tuple[datetime, dict[str, Profile]], ...]:
        """The profiles of each grain that a watch runs over, by label, oldest first."""
        running = run(watch, window, self._champions, self._grain)
        found: dict[datetime, dict[str, list[Profile]]] = defaultdict(lambda: defaultdict(list))
        for label in self._labels[watch.segment, watch.column]:
            for start, profile in self._parts(_place(watch, label), running, version):
                found[start][label].append(profile)
        together = {start: {label: merge(each) for label, each in sides.items()} for start, sides in found.items()}
        return tuple((start, {k: p for k, p in together[start].items() if p}) for start in sorted(together))

    def _known(self, monitor: MonitorConfig, earlier: Window) -> Window | None:
        """The part of a baseline from the first grain on; None if there is none. Of a window some time ago all or
        nothing, for a part of it would be another time of the day or week."""
        if earlier.end <= self._since or (isinstance(monitor.baseline, Ago) and earlier.start < self._since):
            return None
        return Window(max(self._since, earlier.start), earlier.end)

    def _reference(self, at: datetime, place: Place, version: str) -> Merged:
        """The reference of one version, or else of the champion of a moment."""
        own = version if (version, place) in self._references else champion_at(self._champions, at) or ALL
        return self._references.get((own, place), (None, ()))

    def _merge(self, place: Place, window: Window, version: str) -> Merged:
        asked = (place, window, version)
        if asked not in self._merged:
            chosen = self._within(place, window, version)
            self._merged[asked] = merge(p for *_, p in chosen), tuple(key.id for _, key, _ in chosen)
        return self._merged[asked]

    def _within(self, place: Place, window: Window, version: str) -> list[tuple[datetime, Key, Profile]]:
        """The kept profiles of a place in a window, of one version or of all, oldest first."""
        kept = self._grains[place]
        chosen = kept[bisect_left(kept, window.start, key=_start) : bisect_left(kept, window.end, key=_start)]
        return [part for part in chosen if version in (ALL, part[1].version)]


def run(watch: Watch, window: Window, champions: Sequence[tuple[datetime, str]], grain: timedelta) -> Window:
    """The stretch whose grains a metric runs over: since the champion was crowned, and no longer than costs little."""
    crowned = [since for since, _ in champions[1:] if since < window.end]
    return Window(max([window.end - max(RUN * grain, 2 * watch.window), *crowned[-1:]]), window.end)


def seen(window: Window) -> Window:
    """A window and as long before it: where the beginning of a change is looked for."""
    return Window(window.start - window.length, window.end)


def _place(watch: Watch, label: str) -> Place:
    return watch.segment, watch.column, label


def _seasonal(watch: Watch) -> bool:
    """Whether the baseline lies some time ago: the grains just before the window are then of another hour or day,
    and say nothing of when a change began."""
    return watch.monitor is not None and (isinstance(watch.monitor.baseline, Ago) or watch.monitor.baseline == SEASONAL)


def _start(part: tuple[datetime, Key, Profile]) -> datetime:
    return part[0]
