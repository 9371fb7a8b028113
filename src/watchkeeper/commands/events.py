"""`watchkeeper events`: predictions with their labels, as a table, as JSON lines or as a file."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import pyarrow as pa
import typer
from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from watchkeeper import words
from watchkeeper.commands import asking
from watchkeeper.commands.asking import Ask
from watchkeeper.commands.options import CONFIG, STORE, AsJson, ConfigFile, Store, out, paper
from watchkeeper.comparison import terminal
from watchkeeper.comparison.mistakes import mistakes
from watchkeeper.store import exports, questions
from watchkeeper.store.questions import Order

SHOWN = 20
"""Predictions in a table, if nobody says how many."""
EXPLAINED = 200_000
"""Labelled predictions that mistakes are looked for in, at most."""
WIDEST, GAP = 32, 3
HEADS = {
    "event_time": "Time (UTC)", "request_id": "Request", "version": "Version", "variant": "Variant",
    "entity_id": "User", "score": "Score", "label": "Label", "latency_ms": "ms", "status": "Status",
}  # fmt: skip
"""The fields that a table has room for."""
USUAL = {"variant": "champion", "status": "ok"}
"""What is not worth a column where it holds for all."""


def events(
    model: Annotated[str, typer.Argument(help="The model whose predictions are asked for.")],
    where: asking.Where = None,
    since: asking.Since = "",
    until: asking.Until = "",
    user: asking.User = None,
    request: asking.Request = None,
    version: asking.Version = None,
    error: asking.Error = "",
    order: asking.Sorted = Order.NEWEST,
    limit: asking.Limit = None,
    out_file: Annotated[
        Path | None, typer.Option("--out", help="Write all of them to this file: .parquet, .csv or .arrow.")
    ] = None,
    as_json: AsJson = False,
    explain_errors: Annotated[
        bool, typer.Option("--explain-errors", help="Tell which features set wrong predictions apart from right ones.")
    ] = False,
    store: Store = STORE,
    config_file: ConfigFile = CONFIG,
    server: asking.Server = "",
    key: asking.Key = "",
) -> None:
    """Ask the log: show predictions with their features and latest labels, or export them."""
    ask = Ask(
        model, tuple(where or ()), since, until, tuple(user or ()), tuple(request or ()), tuple(version or ()), error,
        order, limit, store, config_file, server, key,
    )  # fmt: skip
    if explain_errors:
        _explain(ask)
    elif out_file is not None:
        exports.format_of(out_file)
        with ask.answer() as batches:
            rows = exports.save(batches, out_file)
        out.print(f"{words.count(rows, 'prediction')} of {model} written to {out_file}", soft_wrap=True)
    elif as_json:
        with ask.answer() as batches:
            for batch in batches:
                for row in batch.to_pylist():
                    sys.stdout.write(json.dumps(questions.event(row), ensure_ascii=False) + "\n")
    else:
        with replace(ask, limit=limit or SHOWN).answer() as batches:
            _show(batches.read_all(), ask)


def _explain(ask: Ask) -> None:
    asked = replace(ask, where=(*ask.where, "label is known"), limit=ask.limit or EXPLAINED)
    with asked.answer() as batches:
        rows = batches.read_all()
    found = mistakes(rows, exports.features(rows.schema), exports.about(rows.schema)["threshold"])
    out.print(
        f"{found.rows:,} wrong predictions of {ask.model} (now), held against {found.reference_rows:,} right ones (the"
        " reference). A feature that differs goes with the mistakes; it need not cause them.\n",
        soft_wrap=True,
    )
    terminal.show(found, out)


# the table


def _show(rows: pa.Table, ask: Ask) -> None:
    if not rows.num_rows:
        out.print("No prediction is as asked for.")
        return
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="bold", highlight=False)
    columns, left_out = _columns(rows)
    for title, cells, right in columns:
        width = max(map(len, (title, *cells)))
        table.add_column(Text(title), justify="right" if right else "left", no_wrap=True, min_width=min(width, WIDEST))
    for row in zip(*(cells for _, cells, _ in columns), strict=True):
        table.add_row(*map(Text, row))
    paper(sum(map(_width, columns))).print(table)
    notes = [f"and {words.count(len(left_out), 'feature')} more: {', '.join(left_out)}"] if left_out else []
    if rows.num_rows == (ask.limit or SHOWN):
        notes.append("there may be more predictions: ask for them with --limit, or write all to a file with --out")
    for note in notes:
        out.print(Text(note, "dim"), soft_wrap=not out.is_terminal)


Shown = tuple[str, list[str], bool]


def _columns(rows: pa.Table) -> tuple[list[Shown], list[str]]:
    """Title, cells and whether they are numbers, of the columns that fit the terminal; and the features that do not."""
    known = [name for name in HEADS if {*rows[name].unique().to_pylist()} - {None, USUAL.get(name)}]
    shown = [_column(rows[name], HEADS[name]) for name in known]
    if "score" in known and "label" in known and pa.types.is_integer(rows.schema.field("label").type):
        errors = [
            "" if s is None or y is None else f"{abs(s - y):.4f}"
            for s, y in zip(rows["score"].to_pylist(), rows["label"].to_pylist(), strict=True)
        ]
        shown.insert(known.index("label") + 1, ("Error", errors, True))
    left_out, room = [], out.width - sum(map(_width, shown))
    for name in exports.features(rows.schema):
        column = _column(rows[name], name)
        room -= _width(column)
        if room < 0 and out.is_terminal:
            left_out.append(name)
        else:
            shown.append(column)
    return shown, left_out


def _width(column: Shown) -> int:
    return GAP + max(map(len, (column[0], *column[1])))


def _column(column: pa.ChunkedArray, title: str) -> Shown:
    number = pa.types.is_floating(column.type) or pa.types.is_integer(column.type)
    values = column.to_pylist()
    if pa.types.is_timestamp(column.type):
        part = "milliseconds" if any(value and value.microsecond for value in values) else "seconds"
        values = [value and value.isoformat(" ", part).removesuffix("+00:00") for value in values]
    elif title == HEADS["score"]:
        values = [None if value is None else f"{value:.4f}" for value in values]
    return words.shortened(title, WIDEST), [_cell(value) for value in values], number


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.6g}"
    return words.shortened(words.plain(str(value)), WIDEST)
