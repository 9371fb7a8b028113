"""An evaluation on a terminal: the verdict, every metric with its interval, then segments and time."""

from __future__ import annotations

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from watchkeeper import words
from watchkeeper.evaluation.findings import Findings
from watchkeeper.evaluation.report import report_of
from watchkeeper.report import Column
from watchkeeper.report import Table as Told

PIPED = 160
MOST_ROWS = 60


def show(found: Findings, console: Console) -> None:
    """Print an evaluation. Where the output is no terminal, lines are not broken, so that they can be searched."""
    if not console.is_terminal:
        console = Console(file=console.file, width=max(console.width, PIPED))
    report = report_of(found)
    console.print(Text.assemble((words.plain(report.verdict), "bold"), f" {words.plain(report.summary)}"))
    console.print(_table(report.overview))
    for column in report.columns:
        if column.anchor != "curves":
            _part(column, console)
    for title, items in report.notes:
        console.print(Text(f"{title.lower()}: {'; '.join(items)}", "dim"))


def _part(column: Column, console: Console) -> None:
    for sentence in column.sentences:
        console.print(Text(words.plain(sentence)))
    for table in column.tables:
        console.print(Text(column.title, "bold"))
        console.print(_table(table))
        if len(table.rows) > MOST_ROWS:
            console.print(Text(f"and {len(table.rows) - MOST_ROWS:,} more", "dim"))


def _table(told: Told) -> Table:
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="bold", highlight=False)
    for i, name in enumerate(told.header):
        table.add_column(name, justify="right" if i in told.numbers else "left", no_wrap=i > 0)
    for row in told.rows[:MOST_ROWS]:
        table.add_row(*_cells([cell.text for cell in row.cells]))
    return table


def _cells(texts: Sequence[str]) -> list[Text]:
    return [Text(words.plain(text)) for text in texts]
