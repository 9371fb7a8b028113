"""The event log: one typed, wide table of predictions, one of outcomes and one of KPIs per model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import ibis
import pyarrow as pa
import pyarrow.compute as pc

from watchkeeper.errors import DataError, StateError
from watchkeeper.events import plain
from watchkeeper.kpis import DELAY
from watchkeeper.records import ALL
from watchkeeper.schema import Feature, ModelConfig
from watchkeeper.segments import Segmentation
from watchkeeper.store import few_rows, kpis, questions, times
from watchkeeper.store.backends import Backend, quoted
from watchkeeper.store.fitting import fitted, possible
from watchkeeper.store.labelled import made_of, with_derived
from watchkeeper.store.layout import ASIDE, EVENT, KINDS, KPI, OUTCOME, SHAPES, TYPES, Appended, Batches, Deleted, News
from watchkeeper.store.questions import Question
from watchkeeper.store.sources import (
    SEGMENT,
    Part,
    Plan,
    added,
    collect,
    numbered,
    segmented,
    summary,
    typed,
    vocabularies,
)
from watchkeeper.tasks import label_type, logged
from watchkeeper.windows import GRAINS, Window, together

Home = Callable[[str], str]
"""The table of a model that holds its rows of one sort."""
_BATCH, _PARTED, _RELABELLED = "batch", "parted", "relabelled"
"""The temporary tables that the summarising expression reads: rows as they are, and parted into segments; and the one
that rows with new labels are taken from."""
UNITS = {"1h": "hour", "1d": "day"}
PORTION = 500_000
"""Rows that are summarised at a time: those of 20 features then lie in memory, whole."""
_KNOWN = "known_segments"
"""What the numbers of segments are looked up in."""
_VOCABULARIES = "vocabularies"
"""What the values of the columns' vocabularies are looked up in."""


class Log:
    """The predictions and outcomes of every model.

    A row is kept once per request id, however often it is sent: the first that came. Of a request's outcomes the latest
    (by `known_at`) counts; earlier ones are kept. `arrival` numbers the batches in the order they came, so that what
    came since some arrival can be found whatever its event time.
    """

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self._features: dict[str, dict[str, str]] = {}
        self._watched: dict[str, dict[str, Feature]] = {}
        self._fields: dict[str, dict[str, str]] = {}
        self._label: dict[str, str] = {}
        self._kpis: dict[str, tuple[str, ...]] = {}
        self._compiled: dict[tuple[str, str, tuple[str, ...], tuple[Plan, ...], bool], str] = {}

    def close(self) -> None:
        self.backend.close()

    def open_model(self, model: str, config: ModelConfig) -> None:
        """Create the model's tables, or add the columns that its configuration has gained.

        Raises StateError where a column is of another kind, or spelled otherwise, than what is logged already.
        """
        features = {name: TYPES.get(column.kind, "VARCHAR") for name, column in config.stored.items()}
        fields, label = {**EVENT, **logged(config)}, label_type(config)
        outcome = {**OUTCOME, "label": label}
        with self.backend.transaction():
            wanted = {_predictions: {**fields, **features}, _outcomes: outcome, kpis.home: KPI, _aside: ASIDE}
            for table, columns in wanted.items():
                self.backend.create(table(model), {**columns, "arrival": "BIGINT"}, _KEYS[table])
            self.backend.run(f"CREATE TABLE IF NOT EXISTS {quoted(_arrivals(model))} (arrival BIGINT)")
            there = {name.lower(): (name, kind) for name, kind in self.backend.columns(_predictions(model)).items()}
            for name, kind in {**fields, **features}.items():
                found = there.get(name.lower())
                if found is None:
                    self.backend.add_column(_predictions(model), name, kind)
                elif name in features and found != (name, kind):
                    raise StateError(
                        f'the log of model "{model}" holds "{found[0]}" as {KINDS[found[1]]} values, and the'
                        f' configuration wants "{name}" as {config.columns[name].kind} ones; give the column another'
                        " name"
                    )
            found_label = self.backend.columns(_outcomes(model))["label"]
            if there and (there["prediction"][1], found_label) != (fields["prediction"], label):
                raise StateError(
                    f'the log of model "{model}" holds predictions of another task than {config.task}; give the model'
                    " another name"
                )
            for name in OUTCOME.keys() - self.backend.columns(_outcomes(model)):
                self.backend.add_column(_outcomes(model), name, OUTCOME[name])
        self._features[model], self._fields[model], self._label[model] = features, fields, label
        self._watched[model], self._kpis[model] = config.features, tuple(config.kpis)

    def append(self, model: str, rows: pa.Table, at: datetime | None = None) -> Appended:
        """Store predictions.

        Args:
            at: what time it is, from which the lag of arrival is told.
            rows: columns named as the fields of a prediction (see `events`) and as the model's features; `request_id`
                and `event_time` (UTC) must be there and complete, the rest may be missing. Values that do not fit
                their column's type, and columns that the model does not have, are set aside and counted. NaN is no
                category: it is taken as missing.
        """
        known = self._stored(model)
        aside: list[tuple[int, str, str]] = []
        columns = {name: fitted(rows, name, kind, aside) for name, kind in known.items()}
        recorded = None if at is None else at.astimezone(UTC).replace(tzinfo=None)
        columns["recorded_at"] = pa.repeat(pa.scalar(recorded, pa.timestamp("us")), rows.num_rows)
        _need(columns, ("request_id", "event_time"), f'prediction of model "{model}"')
        for name in (n for n, kind in known.items() if kind == "VARCHAR" and (n not in EVENT or n == "prediction")):
            unknown = pc.is_in(columns[name], pa.array(["NaN", "nan"]))
            columns[name] = pc.if_else(unknown, pa.scalar(None, pa.string()), columns[name])
        for name in rows.column_names:
            if name not in known:
                found = rows.column(name).to_pylist()
                aside.extend((i, name, str(value)) for i, value in enumerate(found) if value is not None)
        return self._insert(model, _predictions, pa.table(columns), _noted(columns, aside))

    def append_outcomes(self, model: str, rows: pa.Table) -> Appended:
        """Store outcomes: `request_id`, `label` (0 or 1, a class, or a number, by task), `known_at` (UTC, when it
        became known).

        A label that is none is set aside and counted.
        """
        aside: list[tuple[int, str, str]] = []
        columns = {
            name: fitted(rows, name, kind, aside) for name, kind in {**OUTCOME, "label": self._label[model]}.items()
        }
        _need(columns, ("request_id", "known_at"), f'outcome for model "{model}"')
        labels = columns["label"]
        wrong = pc.and_(pc.is_valid(labels), pc.invert(possible(labels)))
        aside.extend((i, "label", str(labels[i])) for i in pc.indices_nonzero(wrong).to_pylist())
        columns["label"] = pc.if_else(wrong, pa.scalar(None, labels.type), labels)
        done = self._insert(model, _outcomes, pa.table(columns), _noted(columns, aside))
        return replace(done, conflicting=self._conflicting(model, pa.table(columns))) if done.duplicates else done

    def append_kpis(self, model: str, rows: pa.Table) -> Appended:
        """Store KPIs: `request_id`, `name`, `value`, `known_at` (UTC, when it became known). Values that are no
        finite numbers, and those of a name that the model does not have (yet), are set aside and counted."""
        aside: list[tuple[int, str, str]] = []
        columns = {name: fitted(rows, name, kind, aside) for name, kind in KPI.items()}
        _need(columns, ("request_id", "name", "known_at"), f'KPI for model "{model}"')
        kept, more = kpis.parted(pa.table(columns), self._kpis[model])
        return self._insert(model, kpis.home, kept, more)

    def _conflicting(self, model: str, rows: pa.Table) -> int:
        """How many outcomes say another label than what was first said to be known at the same moment."""
        with self.backend.known("again", rows.select(["request_id", "known_at", "label"])):
            ((found,),) = self.backend.rows(
                f"SELECT count(*) FROM again a JOIN {quoted(_outcomes(model))} o"
                " ON a.request_id = o.request_id AND a.known_at = o.known_at WHERE a.label <> o.label"
            )
        return int(found)

    def _insert(self, model: str, table: Home, rows: pa.Table, aside: pa.Table) -> Appended:
        with self.backend.transaction():
            arrival = self.arrival(model) + 1
            stored = self.backend.insert(table(model), _arrived(rows, arrival), _KEYS[table])
            kept = 0
            if aside.num_rows:
                kept = self.backend.insert(_aside(model), _arrived(aside, arrival), _KEYS[_aside])
        return Appended(stored, rows.num_rows - stored, kept)

    def arrival(self, model: str) -> int:
        """The number of the latest batch, 0 before the first."""
        homes = (_predictions, _outcomes, kpis.home, _arrivals)
        query = " UNION ALL ".join(f"SELECT max(arrival) AS a FROM {quoted(table(model))}" for table in homes)
        return int(self.backend.rows(f"SELECT max(a) FROM ({query}) AS latest")[0][0] or 0)

    def delete(self, model: str, chosen: str, orphans: str = "false") -> Deleted:
        """Delete predictions with their outcomes, their KPIs and what was set aside of them. Arrivals are numbered on
        from where they are, though the latest ones be deleted.

        Args:
            chosen: the condition that a prediction fulfils.
            orphans: the condition that outcomes and KPIs without a prediction fulfil that are deleted too.
        """
        run = self.backend.run
        p, o, aside, k, arrivals = map(quoted, (*tables(model), kpis.made(self.backend, model), _arrivals(model)))
        alone = "NOT EXISTS (SELECT 1 FROM {} x WHERE x.request_id = t.request_id)"
        with self.backend.transaction():
            run(f"CREATE TABLE IF NOT EXISTS {arrivals} (arrival BIGINT)")
            last = self.arrival(model)
            run(f"DELETE FROM {arrivals}")
            run(f"INSERT INTO {arrivals} VALUES ({last})")
            theirs = f"request_id IN (SELECT request_id FROM {p} WHERE {chosen})"
            outcomes, late = (run(f"DELETE FROM {home} WHERE {theirs}") for home in (o, k))
            predictions = run(f"DELETE FROM {p} WHERE {chosen}")
            outcomes += run(f"DELETE FROM {o} t WHERE {orphans} AND {alone.format(p)}")
            late += run(f"DELETE FROM {k} t WHERE {orphans} AND {alone.format(p)}")
            values = run(f"DELETE FROM {aside} t WHERE {' AND '.join(map(alone.format, (p, o, k)))}")
        return Deleted(predictions, outcomes, values, late)

    def news(self, model: str, cursor: str | None, grain: str, now: datetime) -> News:
        """What came since the news that had this cursor; all there is for None."""
        done, arrival = int(cursor or 0), self.arrival(model)
        by_rows, by_labels = self.touched(model, done, grain) if arrival != done else ([], [])
        by_kpis = self.reached(model, done, grain) if arrival != done and self._kpis[model] else []
        return News(str(arrival), arrival > 0, by_rows, by_labels, Batches(done, arrival), by_kpis)

    def touched(self, model: str, after: int, grain: str) -> tuple[list[datetime], list[datetime]]:
        """The starts of the grains that received predictions since arrival `after`, and of those whose predictions
        received outcomes."""
        by_rows = self._grains_where(model, f"arrival > {after}", grain)
        return by_rows, self._grains_where(model, self._told(_outcomes(model), after), grain)

    def reached(self, model: str, after: int, grain: str) -> list[datetime]:
        """The starts of the grains whose predictions received KPIs since arrival `after`."""
        return self._grains_where(model, self._told(kpis.home(model), after), grain)

    def _told(self, table: str, after: int) -> str:
        """The condition that predictions fulfil whose requests a table holds something of since arrival `after`."""
        same = quoted(next(iter(self.backend.match)))
        return f"{same} IN (SELECT {same} FROM {quoted(table)} WHERE arrival > {after})"

    def _grains_where(self, model: str, which: str, grain: str) -> list[datetime]:
        found = self.backend.rows(
            f"SELECT DISTINCT date_trunc('{UNITS[grain]}', event_time) AS s FROM {quoted(_predictions(model))}"
            f" WHERE {which} ORDER BY s"
        )
        return [row[0].replace(tzinfo=UTC) for row in found]

    def begun(self, model: str, starts: Iterable[datetime], grain: str, until: int) -> list[datetime]:
        """Which of these grains hold predictions of the batches up to this one."""
        spans = " OR ".join(map(_within, together(Window(start, start + GRAINS[grain]) for start in sorted(starts))))
        if not spans or not until:
            return []
        return self._grains_where(model, f"arrival <= {until} AND ({spans})", grain)

    def arrived(self, model: str, after: int, before: datetime) -> int:
        """How many predictions from before a moment came since arrival `after`."""
        where = f"arrival > {after} AND event_time < {moment(before)}"
        ((found,),) = self.backend.rows(f"SELECT count(*) FROM {quoted(_predictions(model))} WHERE {where}")
        return int(found)

    def holding(self, model: str, columns: Sequence[str], after: int | None) -> list[str]:
        """Those of the columns that a prediction since arrival `after` has a value in; any prediction for None."""
        counts = ", ".join(f"count({quoted(column)})" for column in columns)
        since = "" if after is None else f" WHERE arrival > {after}"
        (found,) = self.backend.rows(f"SELECT {counts} FROM {quoted(_predictions(model))}{since}")
        return [column for column, count in zip(columns, found, strict=True) if count]

    def models(self) -> list[str]:
        """The models that there are tables of, also those that the configuration does not name any more."""
        found = self.backend.rows(
            "SELECT table_name FROM information_schema.tables WHERE table_schema = current_schema()"
        )
        names = {row[0] for row in found}
        models = [name.removeprefix("predictions_") for name in names if name.startswith("predictions_")]
        return sorted(model for model in models if {*tables(model)} <= names)

    def versions(self, model: str) -> list[str]:
        """The versions that predictions were logged of."""
        query = f"SELECT DISTINCT version FROM {quoted(_predictions(model))} WHERE version IS NOT NULL"
        return sorted(row[0] for row in self.backend.rows(query))

    def extent(self, model: str) -> tuple[datetime | None, int]:
        """The time of the earliest prediction, and how many there are."""
        query = f"SELECT min(event_time), count(*) FROM {quoted(_predictions(model))}"
        first, rows = self.backend.rows(query)[0]
        return (first.replace(tzinfo=UTC) if first else None), int(rows)

    def first_rows(self, model: str, feature: str = "", limit: int = 200_000) -> pa.Table:
        """The time and the features of the earliest predictions, or one feature of the earliest that have it."""
        names = ", ".join(quoted(name) for name in ["event_time", *([feature] if feature else self._features[model])])
        known = f"WHERE {quoted(feature)} IS NOT NULL" if feature else ""
        return self.backend.arrow(
            f"SELECT {names} FROM {quoted(_predictions(model))} {known} ORDER BY event_time LIMIT {limit}"
        )

    def first_labelled(self, model: str, limit: int = 200_000) -> pa.Table:
        """The prediction and the label of the earliest labelled predictions."""
        return self.backend.arrow(
            f"WITH chosen AS (SELECT * FROM {quoted(_predictions(model))}), known AS ({self._latest(model)})"
            f" SELECT prediction, known.label FROM chosen JOIN known USING ({self._match})"
            f" WHERE prediction IS NOT NULL AND known.label IS NOT NULL ORDER BY event_time LIMIT {limit}"
        )

    def first_kpis(self, model: str, name: str, grain: str, limit: int = 200_000) -> list[pa.Table]:
        """The earliest values of a KPI, and sums of it for a user in a grain; see `kpis.first_values`."""
        return kpis.first_values(self.backend, model, name, _predictions(model), UNITS[grain], limit)

    def profiles(
        self,
        model: str,
        plans: Sequence[Plan],
        starts: Sequence[datetime],
        grain: str,
        segmentations: Iterable[Segmentation] = (),
        of: Batches | None = None,
    ) -> list[Part]:
        """Summarise the grains that start at `starts`, each version apart: all rows, and each segment.

        The rows of a grain are taken once, so that the segments of a segmentation add up to all rows.

        Args:
            of: the batches whose rows alone are counted, with the labels that were known when the last one had come.
        """
        until = of.until if of else None
        parts: list[Part] = []
        whole = any(kpis.of_users(plan, self._kpis.get(model, ())) for plan in plans)
        for rows, count in self._portions(quoted(_predictions(model)), of, starts, grain, whole):
            parts += self._profiles(model, tuple(plans), rows, count, grain, tuple(segmentations), until)
        return added(parts)

    def relabelled(
        self,
        model: str,
        plans: Sequence[Plan],
        starts: Sequence[datetime],
        grain: str,
        segmentations: Iterable[Segmentation],
        by: Batches,
    ) -> tuple[list[Part], list[Part]]:
        """Summarise, of the predictions from before some batches, those whose outcomes these brought, or nearly those
        alone: with the labels from before them, and with those from after them."""
        before: list[Part] = []
        after: list[Part] = []
        if not starts:
            return before, after
        plans, segmentations, same = tuple(plans), tuple(segmentations), quoted(next(iter(self.backend.match)))
        taken, _, _ = self._needed(model, plans, segmentations)
        told = f"SELECT {same} FROM {quoted(_outcomes(model))} WHERE {by.sql} AND label IS NOT NULL"
        olds = Batches(0, by.after)
        moved = f"SELECT {taken}, arrival FROM {quoted(_predictions(model))} WHERE {olds.sql} AND {same} IN ({told})"
        with self.backend.kept(_RELABELLED, moved):
            for rows, count in self._portions(_RELABELLED, olds, starts, grain):
                for parts, until in ((before, by.after), (after, by.until)):
                    parts += self._profiles(model, plans, rows, count, grain, segmentations, until)
        return added(before), added(after)

    def _portions(
        self, source: str, of: Batches | None, starts: Iterable[datetime], grain: str, whole: bool = False
    ) -> Iterator[tuple[str, int]]:
        """The rows of these grains, in SQL, and how many, in portions of about `PORTION`, so that what is in memory
        does not grow with the log. A grain with more rows comes in several, by its batches, where those are told and it
        need not be `whole`."""
        grains = [Window(start, start + GRAINS[grain]) for start in sorted(starts)]
        if not grains:
            return
        rows = f"FROM {source} WHERE {of.sql if of else 'true'} AND "
        begun = f"date_trunc('{UNITS[grain]}', event_time)"
        every = _within(Window(grains[0].start, grains[-1].end))
        counts = {
            start.replace(tzinfo=UTC): count
            for start, count in self.backend.rows(f"SELECT {begun} AS s, count(*) {rows}{every} GROUP BY s")
        }
        for portion in _filled((window, counts.get(window.start, 0)) for window in grains):
            spans = f"({' OR '.join(map(_within, together(portion)))})"
            count = sum(counts.get(window.start, 0) for window in portion)
            if whole or of is None or count < 2 * PORTION:
                yield rows + spans, count
                continue
            batches = self.backend.rows(f"SELECT arrival, count(*) {rows}{spans} GROUP BY arrival ORDER BY arrival")
            for some in _filled(batches):
                yield f"{rows}{spans} AND arrival BETWEEN {some[0]} AND {some[-1]}", PORTION

    def _profiles(
        self,
        model: str,
        plans: tuple[Plan, ...],
        rows: str,
        count: int,
        grain: str,
        segmentations: Sequence[Segmentation],
        until: int | None,
    ) -> list[Part]:
        few = count <= few_rows.FEW and self.backend.dialect == "duckdb"  # of another engine rows would come from afar
        taken, columns, waits = self._needed(model, plans, segmentations)
        label = self._label.get(model, "INTEGER")
        shown = ", ".join(
            [f"chosen.{quoted(name)}" for name in columns]
            + [f"{times.sql(name, GRAINS[grain], label, times.scale(plans))} AS {name}" for name in waits]
        )
        chosen, joined = f"WITH chosen AS (SELECT {taken} {rows})", ""
        if reached := kpis.columns(plans, self._kpis.get(model, ())):
            chosen += f", reached AS ({kpis.latest(self.backend, model, reached, until)})"
            joined, shown = f" LEFT JOIN reached USING ({self._match})", ", ".join([shown, *kpis.shown(reached)])
        batch = (
            f"{chosen}, known AS ({self._latest(model, until)})"
            f" SELECT {shown}, date_trunc('{UNITS[grain]}', event_time) AS grain_start, known.label"
            f" FROM chosen LEFT JOIN known USING ({self._match}){joined}"
        )
        columns = (*columns, *waits, *(name + end for name in reached for end in ("", DELAY)))
        if few and not segmentations and not any(kpis.of_users(plan, self._kpis.get(model, ())) for plan in plans):
            query = f"SELECT * FROM ({self._compile(model, _BATCH, columns, plans, few)}) AS shown"
            return collect(few_rows.counts(self.backend.arrow(f"WITH {_BATCH} AS ({batch}) {query}"), plans), plans)
        with self.backend.kept(_BATCH, batch):
            parts = self._counts(model, _BATCH, columns, plans, few)
            plans = tuple(plan for plan in plans if plan.name not in times.COLUMNS)
            for segments in segmentations:
                with (
                    self.backend.known(_KNOWN, numbered(segments)),
                    self.backend.kept(_PARTED, self._parted(model, columns, segments)),
                ):
                    parts += self._counts(model, _PARTED, columns, plans, few, segments.names)
        return parts

    def _needed(
        self, model: str, plans: Iterable[Plan], segmentations: Iterable[Segmentation]
    ) -> tuple[str, tuple[str, ...], tuple[str, ...]]:
        """What is taken of the predictions for these summaries, in SQL; the columns that are summarised of it; and
        those of `times.COLUMNS`."""
        needed = {"version", "event_time", *(name for segments in segmentations for name in segments.columns)}
        watched = self._watched[model]
        needed |= {watched[plan.name].column if plan.name in watched else plan.name for plan in plans}
        needed |= made_of(needed)
        needed |= {"recorded_at"} if times.ARRIVAL_LAG in needed else set()
        needed |= {times.ANSWER[self._label.get(model, "INTEGER")]} if times.LABEL_LAG in needed else set()
        needed |= {"entity_id"} if any(kpis.of_users(plan, self._kpis.get(model, ())) for plan in plans) else set()
        columns = tuple(name for name in self._stored(model) if name in needed)
        taken = ", ".join(map(quoted, dict.fromkeys([*self._carried, "event_time", *columns])))
        return taken, columns, tuple(name for name in times.COLUMNS if name in needed)

    def _counts(
        self,
        model: str,
        source: str,
        columns: tuple[str, ...],
        plans: tuple[Plan, ...],
        few: bool,
        segments: Sequence[str] = (ALL,),
    ) -> list[Part]:
        declared = self._kpis.get(model, ())
        users = tuple(plan for plan in plans if kpis.of_users(plan, declared))
        parts: list[Part] = []
        rows = tuple(plan for plan in plans if plan not in users)
        if rows and few:
            found = few_rows.counts(self.backend.arrow(self._compile(model, source, columns, rows, few)), rows)
            parts += collect(found, rows, segments)
        elif rows:
            with self.backend.known(_VOCABULARIES, vocabularies(rows)):
                parts += collect(self.backend.arrow(self._compile(model, source, columns, rows)), rows, segments)
        if users:
            home = f"{source} of users"
            with self.backend.kept(home, kpis.by_user(source, kpis.columns(users, declared), source == _PARTED)):
                query = self._compile(model, home, ("version", *(plan.name for plan in users)), users)
                parts += collect(self.backend.arrow(query), users, segments)
        return parts

    def _compile(
        self, model: str, source: str, columns: tuple[str, ...], plans: tuple[Plan, ...], few: bool = False
    ) -> str:
        key = model, source, columns, plans, few
        if key not in self._compiled:
            shape = {**self._shape(model, columns), **({SEGMENT: "int64"} if source.startswith(_PARTED) else {})}
            features = {plan.name: f for plan in plans if (f := self._watched[model].get(plan.name))}
            table = with_derived(typed(ibis.table(shape, name=source), features), {plan.name for plan in plans})
            known = ibis.table(ibis.Schema.from_pyarrow(vocabularies(plans).schema), name=_VOCABULARIES)
            self._compiled[key] = self._sql(few_rows.shown(table, plans) if few else summary(table, plans, known))
        return self._compiled[key]

    def _stored(self, model: str) -> dict[str, str]:
        """The columns of the predictions, with their types."""
        return {**self._fields.get(model, EVENT), **self._features[model]}

    def _shape(self, model: str, columns: Iterable[str]) -> dict[str, str]:
        """The columns of a batch that holds these columns of the predictions."""
        shapes = {**{name: SHAPES[kind] for name, kind in self._stored(model).items()}, **self._carried}
        return {
            **{name: shapes.get(name, "float64") for name in columns},
            "grain_start": "timestamp",
            "label": SHAPES[self._label.get(model, "INTEGER")],
        }

    def _sql(self, expression: ibis.Table) -> str:
        return str(ibis.to_sql(expression, dialect=self.backend.dialect))

    def _parted(self, model: str, columns: Iterable[str], segments: Segmentation) -> str:
        """The query that gives the batch with the number of the segment of each row."""
        known = ibis.table(ibis.Schema.from_pyarrow(numbered(segments).schema), name=_KNOWN)
        missing = {name: feature.missing for name, feature in self._watched[model].items()}
        found = segmented(ibis.table(self._shape(model, columns), name=_BATCH), known, segments, missing)
        return self._sql(found)

    def labelled(
        self, model: str, window: Window, without: Iterable[Window] = (), unlabelled: int | None = None
    ) -> pa.Table:
        """The labelled predictions of a window, oldest first: `request_id, event_time, version, score, label` and
        the features; rows in the windows `without` are left out.

        Args:
            unlabelled: the label of those that have none; without it they are left out.
        """
        label = "known.label" if unlabelled is None else f"coalesce(known.label, {int(unlabelled)})"
        features = "".join(f", {quoted(name)}" for name in self._features[model])
        skip = " ".join(f"AND NOT {_within(w)}" for w in without)
        return self.backend.arrow(
            f"WITH chosen AS (SELECT * FROM {quoted(_predictions(model))} WHERE {_within(window)} {skip}),"
            f" known AS ({self._latest(model)})"
            f" SELECT request_id, event_time, version, score, {label} AS label{features}"
            f" FROM chosen LEFT JOIN known USING ({self._match}) WHERE {label} IS NOT NULL"
            " ORDER BY event_time, request_id"
        )

    @contextmanager
    def answer(self, model: str, question: Question) -> Iterator[pa.RecordBatchReader]:
        """The predictions that a question asks for: `questions.FIELDS`, then the features, then scores by class. Any
        thread may ask."""
        label, features = self._label.get(model, "INTEGER"), [name for name in self._stored(model) if name not in EVENT]
        sql = questions.sql(self.backend, _predictions(model), _outcomes(model), features, question, label)
        with self.backend.stream(sql) as batches:
            yield questions.zoned(batches)

    @property
    def _carried(self) -> Mapping[str, str]:
        """The columns that the labels of predictions are found by, with their types."""
        return self.backend.match

    @property
    def _match(self) -> str:
        """The columns that join outcomes to predictions."""
        return ", ".join(map(quoted, self.backend.match))

    def _latest(self, model: str, until: int | None = None) -> str:
        """The query that gives the labels of the requests that are `chosen`: those that the batches up to `until`
        brought, or the latest of all."""
        same = quoted(next(iter(self.backend.match)))
        known = "" if until is None else f" AND arrival <= {until}"
        return (
            f"SELECT {self._match}, {self.backend.latest} AS label,"
            f" max(known_at) FILTER (WHERE label IS NOT NULL) AS known_at FROM {quoted(_outcomes(model))}"
            f" WHERE {same} IN (SELECT {same} FROM chosen){known} GROUP BY {self._match}"
        )

    def samples(
        self,
        model: str,
        window: Window,
        order: str,
        column: str | None = None,
        limit: int = 5,
        within: tuple[Segmentation, str] | None = None,
    ) -> list[dict[str, Any]]:
        """A few predictions of a window that show what is wrong.

        Args:
            order: "extreme" (furthest from the column's median, or the rarest value), "missing" (no value),
                "slowest", "failed", "loss" (labelled, furthest from their label).
            column: the feature to show, for the first two.
            within: a segmentation and the name of one of its segments, to show rows of that one only.

        The values are such as JSON can carry.
        """
        home = self._watched[model][column].column if column in self._watched[model] else ""
        shown = [quoted(home)] if home else []
        label = self._label.get(model, "INTEGER")
        answer = "score" if label == "INTEGER" else "prediction"
        value = shown[0] if shown else answer
        kind = self._stored(model)[home or answer]
        number = f"extract(epoch FROM {value})" if kind == "TIMESTAMP" else value
        middle = f"(SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY {number}) FROM chosen)"
        lacking = f"{value} IS NULL" + (f" OR {value} = CAST('NaN' AS FLOAT8)" if kind == "DOUBLE" else "")
        rank = {
            "extreme": f"count(*) OVER (PARTITION BY {value})"
            if kind == "VARCHAR"
            else f"abs({number} - {middle}) DESC",
            "missing": f"({lacking}) DESC",
            "slowest": "latency_ms DESC",
            "failed": "(status <> 'ok') DESC",
            "loss": f"{'({} <> {})' if label == 'VARCHAR' else 'abs({} - {})'} DESC".format(answer, "known.label"),
        }[order]
        names = ["request_id", "event_time", "version", "entity_id", answer, "latency_ms", "status"]
        fields = ", ".join([*names, *shown])
        rows = f"SELECT * FROM {quoted(_predictions(model))} WHERE {_within(window)}"
        if within is not None:
            batch = f"SELECT *, NULL AS grain_start, NULL AS label FROM ({rows}) AS r"
            columns = dict.fromkeys([*self._stored(model), *self._carried])
            chosen = f"SELECT * FROM ({self._parted(model, columns, within[0])}) AS p"
            number_of = within[0].names.index(within[1])
            rows = f"WITH {_BATCH} AS ({batch}) {chosen} WHERE {quoted(SEGMENT)} = {number_of}"
        with self.backend.known(_KNOWN, numbered(within[0])) if within else nullcontext():
            told = self.backend.rows(
                f"WITH chosen AS ({rows}), known AS ({self._latest(model)})"
                f" SELECT {fields}, known.label FROM chosen LEFT JOIN known USING ({self._match})"
                f" ORDER BY {rank} NULLS LAST, request_id LIMIT {limit}"
            )
        names = [*names, *([home] if home else []), "label"]
        return [
            {
                name: value.isoformat() + "Z" if isinstance(value, datetime) else plain(value)
                for name, value in zip(names, row, strict=True)
            }
            for row in told
        ]

    def totals(self, model: str) -> dict[str, int]:
        """Rows of predictions, labelled predictions, orphan outcomes and values set aside."""
        p, o, aside = (quoted(table(model)) for table in (_predictions, _outcomes, _aside))
        known = f"(SELECT request_id FROM {o} WHERE label IS NOT NULL)"
        row = self.backend.rows(
            f"SELECT (SELECT count(*) FROM {p}), (SELECT count(*) FROM {p} WHERE request_id IN {known}),"
            f" (SELECT count(DISTINCT request_id) FROM {o} WHERE request_id NOT IN (SELECT request_id FROM {p})),"
            f" (SELECT count(*) FROM {aside})"
        )[0]
        return dict(zip(("predictions", "labelled", "orphans", "set_aside"), map(int, row), strict=True))


def _filled(counted: Iterable[tuple[Any, int]]) -> Iterator[list[Any]]:
    """Things in portions that have about `PORTION` rows each, by how many rows each has; not those that have none."""
    portion, rows = [], 0
    for thing, count in counted:
        portion.append(thing)
        rows += count
        if rows >= PORTION:
            yield portion
            portion, rows = [], 0
    if rows:
        yield portion


def _need(columns: Mapping[str, pa.Array | pa.ChunkedArray], names: Iterable[str], what: str) -> None:
    for name in names:
        if columns[name].null_count:
            raise DataError(f"every {what} needs a {name} that can be read; {columns[name].null_count} rows have none")


def _noted(columns: Mapping[str, pa.Array | pa.ChunkedArray], aside: Sequence[tuple[int, str, str]]) -> pa.Table:
    """What is set aside of rows, each value by the number of its row."""
    ids = columns["request_id"].take(pa.array([row for row, *_ in aside], pa.int64()))
    names, values = (pa.array([each[i] for each in aside], pa.string()) for i in (1, 2))
    return pa.table({"request_id": ids, "name": names, "value": values})


def _within(window: Window) -> str:
    return f"(event_time >= {moment(window.start)} AND event_time < {moment(window.end)})"


def moment(at: datetime) -> str:
    return f"TIMESTAMP '{at.astimezone(UTC).replace(tzinfo=None).isoformat(sep=' ')}'"


def _predictions(model: str) -> str:
    return f"predictions_{model}"


def _outcomes(model: str) -> str:
    return f"outcomes_{model}"


def _aside(model: str) -> str:
    return f"set_aside_{model}"


def _arrivals(model: str) -> str:
    """The table that remembers the latest arrival when rows are deleted."""
    return f"arrivals_{model}"


def tables(model: str) -> tuple[str, str, str]:
    """The names of a model's tables of predictions, of outcomes, and of values set aside."""
    return _predictions(model), _outcomes(model), _aside(model)


def _arrived(rows: pa.Table, arrival: int) -> pa.Table:
    return rows.append_column("arrival", pa.repeat(pa.scalar(arrival, pa.int64()), rows.num_rows))


_KEYS: dict[Home, tuple[str, ...]] = {
    _predictions: ("request_id",),
    _outcomes: ("request_id", "known_at"),
    kpis.home: kpis.KEY,
    _aside: ("request_id", "name"),
}
"""What a row of each table is kept once for."""
