"""A comparison as a report: what broke, how sure that is, since when; then every column with its distribution."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import numpy as np

from watchkeeper import charts, words
from watchkeeper.charts.distributions import others
from watchkeeper.charts.periods import BANDS
from watchkeeper.comparison.findings import Findings, Look
from watchkeeper.comparison.overview import MARKS, WORDS, Line, lines, rank, tone_of
from watchkeeper.metrics import METRICS
from watchkeeper.periods import share_of, step_of
from watchkeeper.profiles import OTHER_VALUES, Profile, Subject
from watchkeeper.report import Cell, Column, Finding, Report, Row, Table
from watchkeeper.summaries import LEVELS, Numbers, missing_share, numbers, quantiles, shares

MOST_DRAWN = 400
"""So many columns are drawn, the first of `Findings.columns`; the table of columns tells of the others."""
MOST_LINES = 3000
MOST_CATEGORIES = 12
MOST_LOOKS = 40
LONG_NAME, LONG_VALUE = 120, 48
LINES_OVER_TIME = 5


def report_of(findings: Findings) -> Report:
    """The report on a comparison."""
    found = lines(findings)
    drawn = [line for line in found if line.column in findings.subjects][:MOST_DRAWN]
    anchors = {line.column: f"column-{i}" for i, line in enumerate(drawn)}
    notes = [
        ("Left out", tuple(f"{_named(name)}: {why}" for name, why in findings.skipped.items())),
        ("Only in the current data", tuple(map(_named, findings.extra_columns))),
    ]
    return Report(
        title="Comparison with the reference",
        tone="good" if findings.healthy else "bad",
        verdict="Healthy." if findings.healthy else "Changed.",
        summary=findings.summary,
        assurance=_assurance(findings),
        facts=_facts(findings),
        findings=tuple(
            Finding(
                _named(line.column),
                tuple(_sentence(look) for look in _worst_first(findings.by_column[line.column]) if look.breach),
                anchors.get(line.column, ""),
                (_glanced(line.look), line.value, line.interval, line.limit, line.since),
            )
            for line in found
            if line.tone == "bad"
        ),
        overview=_overview(findings, found, anchors),
        columns=tuple(_column(findings, line, anchors[line.column], findings.by_column[line.column]) for line in drawn),
        undrawn=len(findings.subjects) - len(drawn),
        notes=tuple((title, items) for title, items in notes if items),
        footer=(
            "Each interval holds the true value with the confidence that the stated chance leaves; a limit is"
            " breached only where the whole interval lies beyond it. Rows are taken as independent: many rows of one"
            " person or one hour count for more than they say. Quantiles, means and deviations are read from counts"
            f" in fine bins. All times are UTC. {findings.config}"
        ),
    )


def _named(name: str) -> str:
    return words.shortened(name, LONG_NAME)


def _sentence(look: Look) -> str:
    text = look.sentence + (", not certain" if look.unsure else "")
    text = f"{text[:1].upper()}{text[1:]}{f' [{look.segment}]' if look.segment else ''}"
    return text if text.endswith("?") else f"{text}."


def _glanced(look: Look) -> str:
    return f"{look.said}, {look.segment}" if look.segment else look.said


def _worst_first(looks: Sequence[Look]) -> list[Look]:
    return sorted(looks, key=rank)


def _assurance(findings: Findings) -> str:
    chance = words.set_share(findings.false_alarms)
    text = f"If nothing had changed, the chance of any breach on this page would be at most {chance}."
    began = [look.since for look in findings.breaches if look.since]
    if began:
        text += f" The first breach began {words.time(min(began))}, by the column “{_named(findings.timestamp)}”."
    return text


def _facts(findings: Findings) -> tuple[tuple[str, str], ...]:
    weighted = findings.weighted_drifted_share
    drifted = f"{words.share(findings.drifted_share)} ({len(findings.drifted):,} of {len(findings.subjects):,})"
    return (
        ("Rows in the reference", f"{findings.reference_rows:,}"),
        ("Rows now", f"{findings.rows:,}"),
        ("Breaches", f"{len(findings.breaches):,} in {words.count(len(findings.points), 'look')}"),
        ("Drifted columns", drifted),
        *((("Drifted, by importance", words.share(weighted)),) if weighted is not None else ()),
    )


def _overview(findings: Findings, found: Sequence[Line], anchors: dict[str, str]) -> Table:
    since, weighed = any(line.since for line in found), bool(findings.importance)
    header = ["Column", "Verdict", "Worst metric", "Value", "Interval", "Allowed", "Missing before", "now"]
    header += (["Since (UTC)"] if since else []) + (["Importance"] if weighed else [])
    rows = []
    for line in found[:MOST_LINES]:
        more = f", and {line.others} more" if line.others else ""
        cells = [
            Cell(_named(line.column), anchors.get(line.column, "")),
            Cell(f"{MARKS[line.tone]} {WORDS[line.tone]}"),
            Cell(line.metric + more),
            *(Cell(text) for text in (line.value, line.interval, line.limit, line.missing_before, line.missing_now)),
        ]
        cells += [Cell(line.since.removesuffix(" UTC"))] if since else []
        cells += [Cell(words.number(findings.importance.get(line.column, 0.0)))] if weighed else []
        rows.append(Row(line.tone, tuple(cells)))
    over = len(found) - len(rows)
    numbers = {3, 4, 6, 7} | ({8 + since} if weighed else set())
    note = f"{over:,} more columns are not listed here; the JSON of this comparison has them." if over else ""
    return Table("All columns", tuple(header), frozenset(numbers), tuple(rows), note)


def _column(findings: Findings, line: Line, anchor: str, looks: Sequence[Look]) -> Column:
    subject = findings.subjects[line.column]
    kind = findings.kinds.get(line.column, line.look.kind)
    weight = findings.importance.get(line.column)
    words_of = [str(kind), *([f"importance {words.number(weight)}"] if weight is not None else [])]
    figures = [
        charts.distribution(
            subject.current, subject.baseline, subject.grid, "Distribution", before="reference", kind=kind
        )
    ]
    notes = figures[0]["layout"]["annotations"]  # the table beside it tells what is not drawn
    notes[:] = [note for note in notes if not note["text"].startswith("Not drawn")]
    if subject.parts:
        figures.append(_over_time(subject, line.look, kind))
    tables = [_categories(subject)] if subject.grid is None else [_quantiles(subject, kind)]
    tables.append(_looks(_worst_first(looks)[:MOST_LOOKS]))
    sentences = tuple(_sentence(look) for look in _worst_first(looks) if look.breach or look.unsure)
    return Column(
        anchor, _named(line.column), line.tone, f"{MARKS[line.tone]} {WORDS[line.tone]}", ", ".join(words_of),
        sentences, tuple(figures), tuple(tables),
    )  # fmt: skip


def _quantiles(subject: Subject, kind: str) -> Table:
    sides = [_numbers(profile, subject) for profile in (subject.baseline, subject.current)]
    spread = min((side.spread for side in sides if side and side.spread), default=0.0)

    def told(value: float | None) -> str:
        return words.value(value, kind, spread)

    def length(value: float | None) -> str:
        return words.value(value, "duration" if kind in ("datetime", "duration") else kind, spread)

    rows = [("Least", [told(side.low) if side else words.NONE for side in sides])]
    for i, level in enumerate(LEVELS):
        name = "Median" if level == 0.5 else f"{100 * level:g}{words.THIN}%"
        rows.append((name, [told(side.quantiles[i]) if side and side.quantiles else words.NONE for side in sides]))
    rows += [
        ("Greatest", [told(side.high) if side else words.NONE for side in sides]),
        ("Mean", [told(side.mean) if side else words.NONE for side in sides]),
        ("Standard deviation", [length(side.deviation) if side else words.NONE for side in sides]),
        ("Missing", [words.share(side.missing) if side else words.NONE for side in sides]),
    ]
    rest = [others(profile, subject.grid, kind) if profile else {} for profile in (subject.baseline, subject.current)]
    for name in {**rest[0], **rest[1]}:
        if name != "missing":
            rows.append((name.capitalize(), [words.share(side.get(name, 0.0)) for side in rest]))
    return Table(
        "Values", ("", "Reference", "Current"), frozenset({1, 2}),
        tuple(Row("quiet", (Cell(name), *map(Cell, cells))) for name, cells in rows),
    )  # fmt: skip


def _numbers(profile: Profile | None, subject: Subject) -> Numbers | None:
    return numbers(profile, subject.grid) if profile is not None and subject.grid is not None else None


def _categories(subject: Subject) -> Table:
    """The categories by how much their share changed and how large it is; the rest of them together."""
    before, now = shares([subject.baseline, subject.current])
    pooled = [OTHER_VALUES] if OTHER_VALUES in {**before, **now} else []
    known, held = set(before) - {*pooled}, set(now) - {*pooled}
    every = sorted(known | held, key=lambda v: (-abs(now.get(v, 0) - before.get(v, 0)), -before.get(v, 0), v))
    top, rest = every[:MOST_CATEGORIES], every[MOST_CATEGORIES:]
    top.sort(key=lambda v: (-before.get(v, 0.0), -now.get(v, 0.0), v))
    rows = []
    for value in top:
        mark = "new" if value not in known else "vanished" if value not in held else ""
        rows.append((words.shortened(value, LONG_VALUE) or "(empty)", before.get(value, 0), now.get(value, 0), mark))
    if rest or pooled:
        fresh, gone = len(held - known - {*top}), len(known - held - {*top})
        marks = [f"{fresh:,} new"] * bool(fresh) + [f"{gone:,} vanished"] * bool(gone)
        one, two = (sum(side.get(v, 0.0) for v in (*rest, *pooled)) for side in (before, now))
        rows.append((f"{'All' if pooled else f'{len(rest):,}'} others, together", one, two, ", ".join(marks)))
    gone_before, gone_now = (missing_share(p) if p else None for p in (subject.baseline, subject.current))
    many = "more than " if pooled else ""
    counted = f"{many}{len(known):,} categories in the reference, {many}{len(held):,} now: {len(held - known):,} new,"
    return Table(
        "Categories", ("", "Reference", "Current", ""), frozenset({1, 2}),
        (
            *(
                Row("warn" if mark else "quiet", (Cell(name), Cell(words.share(a)), Cell(words.share(b)), Cell(mark)))
                for name, a, b, mark in rows
            ),
            Row("quiet", (Cell("Missing, of all rows"), Cell(words.share(gone_before)), Cell(words.share(gone_now)),
                          Cell(""))),
        ),
        f"{counted} {len(known - held):,} vanished",
    )  # fmt: skip


def _looks(looks: Sequence[Look]) -> Table:
    rows = []
    for look in looks:
        unit = words.unit_of(look.metric)
        title = words.metric_title(look.metric, look.relative)
        title += f", {look.segment}" if look.segment else ""
        title += "" if unit in ("", "share") or look.relative == "ratio" else f" ({unit})"
        told = (look.metric, look.column, look.relative)
        cells = (
            title, words.measured(look.value, *told), words.interval(look.low, look.high, *told),
            words.NONE if look.limit is None else look.allowed, look.reason,
        )  # fmt: skip
        rows.append(Row(tone_of(look), tuple(map(Cell, cells))))
    return Table("Looks", ("Metric", "Value", "Interval", "Allowed", "Found"), frozenset({1, 2}), tuple(rows))


# Over time


def _over_time(subject: Subject, worst: Look, kind: str) -> charts.Figure:
    """The column period by period: the share that its worst look is about, else its quantiles or categories."""
    starts = [start for start, _ in subject.parts]
    parts = [profile for _, profile in subject.parts]
    step = _step(step_of(tuple(starts)))
    metric = METRICS.get(worst.metric)
    if metric and metric.unit == "share" and (worst.breach or worst.unsure) and subject.baseline is not None:
        title = f"{charts.title_of(worst.metric)}{step}"
        found = {"current": [share_of(metric, subject, part) for part in parts]}
        usual = {"current": share_of(metric, subject, subject.baseline)}
        return charts.shares_by_period(starts, found, usual, title, since=worst.since)
    if subject.grid is None:
        before, now, *by_part = shares([subject.baseline, subject.current, *parts])
        moved = sorted({*before, *now}, key=lambda v: (-abs(now.get(v, 0) - before.get(v, 0)), -now.get(v, 0), v))
        lines = {
            words.shortened(v, 24) or "(empty)": [own.get(v, 0.0) if own else None for own in by_part]
            for v in moved[:LINES_OVER_TIME]
        }
        title = f"Categories whose share changed most{step}" if len(moved) > LINES_OVER_TIME else f"Categories{step}"
        return charts.shares_by_period(starts, lines, {}, title, since=worst.since, y_title="share of the values (%)")
    found_quantiles = np.array([quantiles(part, subject.grid, BANDS) for part in parts])
    reference = None if subject.baseline is None else quantiles(subject.baseline, subject.grid, BANDS)
    if reference is not None and np.isnan(reference).any():
        reference = None
    return charts.quantiles_by_period(starts, found_quantiles, reference, f"Values{step}", since=worst.since, kind=kind)


def _step(length: timedelta | None) -> str:
    """`, day by day`, as a title ends."""
    if length is None:
        return ""
    hours = length / timedelta(hours=1)
    name = "hour" if hours < 2 else f"{hours:.0f} hours" if hours < 24 else "day" if hours < 48 else "week"
    name = "month" if hours > 24 * 20 else name
    return f", {name} by {name}" if " " not in name else f", every {name}"
