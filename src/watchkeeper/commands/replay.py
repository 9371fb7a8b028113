"""`watchkeeper replay`: logged predictions through another version of their model, and how the two compare."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import pyarrow as pa
import typer
from rich.box import SIMPLE_HEAD
from rich.table import Table as Lines
from rich.text import Text

from watchkeeper import words
from watchkeeper.commands import asking
from watchkeeper.commands.asking import Ask
from watchkeeper.commands.options import CONFIG, STORE, ConfigFile, Store, out, paper
from watchkeeper.comparison.report import report_of
from watchkeeper.errors import ConfigError, DataError
from watchkeeper.registry import Registry
from watchkeeper.replay import Replay, load, show, show_interval
from watchkeeper.replay import replay as replayed
from watchkeeper.report import Cell, Column, Report, Row, Table, Tone, page
from watchkeeper.store import exports
from watchkeeper.store.files import write
from watchkeeper.store.questions import Order

WIDE = 100
FAILED = 20
"""Failures that are told of one by one; the JSON has them all."""


def replay(
    model: Annotated[str, typer.Argument(help="The model whose predictions are replayed.")],
    new: Annotated[
        str,
        typer.Option(
            "--model",
            help="The other version: v2 of the registry, path/to/file.py:name, or package.module:name. A function from"
            " a pyarrow Table of features to scores, or an object whose method scores is one.",
        ),
    ],
    where: asking.Where = None,
    since: asking.Since = "",
    until: asking.Until = "",
    user: asking.User = None,
    request: asking.Request = None,
    version: asking.Version = None,
    error: asking.Error = "",
    order: asking.Sorted = Order.NEWEST,
    limit: asking.Limit = None,
    from_file: Annotated[
        Path | None, typer.Option("--from", help="Replay what watchkeeper events wrote to this .parquet file.")
    ] = None,
    html: Annotated[Path | None, typer.Option(help="Write a report that opens anywhere.")] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write everything as JSON; - for standard output.")
    ] = None,
    store: Store = STORE,
    config_file: ConfigFile = CONFIG,
    server: asking.Server = "",
    key: asking.Key = "",
) -> None:
    """Give logged predictions to another version of their model, and compare what it answers with what was served.

    Exit code 0: it is not shown to be worse. 1: it is worse, by a log loss on the labelled rows that is higher with
    95 % confidence, or as it failed on rows. 2: the replay could not be made.
    """
    ask = Ask(
        model, tuple(where or ()), since, until, tuple(user or ()), tuple(request or ()), tuple(version or ()), error,
        order, limit, store, config_file, server, key,
    )  # fmt: skip
    scorer = load(new, Registry(store / "registry"), model)
    answer: AbstractContextManager[pa.RecordBatchReader] = ask.answer()
    if from_file is not None:
        if {*ask.typed} - {"order"}:
            raise ConfigError("--from replays a whole file; leave out what else asks for predictions")
        answer = nullcontext(_exported(from_file, model))
    with answer as batches:
        found = replayed(batches, scorer, new)
    if html is not None:
        write(html, page(_report(found), datetime.now(UTC)))
    if json_file == Path("-"):
        sys.stdout.write(found.to_json() + "\n")
    else:
        if json_file is not None:
            found.save_json(json_file)
        _show(found)
    raise typer.Exit(1 if found.worse else 0)


def _exported(path: Path, model: str) -> pa.RecordBatchReader:
    batches = asking.from_file(path)
    of = exports.about(batches.schema).get("model")
    if of is None:
        raise DataError(f"{path} says nothing of a model; make it with watchkeeper events {model} --out {path}")
    if of != model:
        raise DataError(f'{path} holds predictions of model "{of}", not of "{model}"; name that one, or another file')
    return batches


HEADS = ("", "Served", "New version", "Difference, 95 %")


def _lines(found: Replay, *, intervals: bool = True) -> list[tuple[str, ...]]:
    """The measures; with the intervals of each side too, if there is room."""
    return [
        (
            measure.name.capitalize(),
            *(show_interval(side) if intervals else show(side.value) for side in (measure.before, measure.after)),
            show_interval(measure.difference, signed=True),
        )
        for measure in found.measures
    ]


CHANGES = ("Request", "Time (UTC)", "Version", "Served", "New", "Label")


def _changes(found: Replay) -> list[tuple[str, ...]]:
    return [
        (
            change.request_id, f"{change.event_time:%Y-%m-%d %H:%M:%S}", change.version or "", show(change.before),
            show(change.after), "" if change.label is None else str(change.label),
        )
        for change in found.changed
    ]  # fmt: skip


def _show(found: Replay) -> None:
    style = "bold red" if found.worse else "bold green" if found.verdict == "Better." else "bold"
    out.print(Text.assemble((found.verdict, style), " ", found.summary), soft_wrap=not out.is_terminal)
    measures = _lines(found, intervals=not out.is_terminal or out.width >= WIDE)
    for heads, rows, numbers in ((HEADS, measures, (1, 2, 3)), (CHANGES, _changes(found)[:10], (3, 4, 5))):
        if rows:
            table = Lines(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="bold", highlight=False)
            for i, head in enumerate(heads):
                table.add_column(head, justify="right" if i in numbers else "left", no_wrap=True)
            for row in rows:
                table.add_row(*map(Text, row))
            out.print()
            paper(WIDE).print(table)
    for failure in found.failures[:FAILED]:
        out.print(Text(f"failed: request {failure.request_id}: {failure.reason}", "red"), soft_wrap=True)
    if len(found.failures) > FAILED:
        out.print(Text(f"and {len(found.failures) - FAILED:,} more failures; --json has them all", "red"))
    out.print()
    moved = "; ".join(words.plain(look.said) for look in found.scores.breaches[:2]) or "no shift is shown"
    out.print(Text(f"Scores: {moved}. Replayed: {found.question}.", "dim"), soft_wrap=not out.is_terminal)


def _report(found: Replay) -> Report:
    scores = report_of(found.scores)
    tone: Tone = "bad" if found.worse else "good" if found.verdict == "Better." else "quiet"
    measured = Table("Against the labels", HEADS, frozenset({1, 2, 3}), _rows(_lines(found)))
    changed = Table("Requests that changed most", CHANGES, frozenset({3, 4, 5}), _rows(_changes(found)))
    failed = Table(
        "Failures", ("Request", "What it raised"), frozenset(),
        _rows([(f.request_id, f.reason) for f in found.failures[:1000]]),
    )  # fmt: skip
    tables = tuple(table for table in (measured, changed, failed) if table.rows)
    answers = Column("answers", "Answers", tone, "", "", found.sentences, (), tables)
    share = f"{found.agreement.value:.1%}" if found.agreement.value is not None else "–"
    return replace(
        scores,
        title=f"Replay of {found.model} with {found.version}",
        tone=tone,
        verdict=found.verdict,
        summary=found.sentences[0],
        assurance="Intervals hold with 95 %, rows taken as independent. The reference is what was served.",
        facts=(
            ("Predictions", f"{found.rows:,}"),
            ("Labelled", f"{found.labelled:,}"),
            ("Answers that stay", share),
            ("Failures", f"{len(found.failures):,}"),
        ),
        findings=(),  # scores that are spread otherwise are nothing wrong by themselves
        columns=((answers,) if tables else ()) + scores.columns,
        notes=(*scores.notes, ("Replayed", (found.question,))),
    )


def _rows(rows: list[tuple[str, ...]]) -> tuple[Row, ...]:
    return tuple(Row("quiet", tuple(map(Cell, row))) for row in rows)
