"""A comparison on a terminal: the verdict, a line a column with the breaches first, and what was left out."""

from __future__ import annotations

from itertools import zip_longest

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from watchkeeper import words
from watchkeeper.comparison.findings import Findings
from watchkeeper.comparison.overview import MARKS, Line, lines
from watchkeeper.records import Status

STYLES = {"bad": "bold red", "warn": "yellow", "good": "green", "quiet": "dim"}
WIDE, MIDDLE, NARROW = 116, 84, 60
"""From these widths on there is room for every column of the table, for most, and for the metric; without Since."""
SINCE = 18
PIPED = 160
TOLD = 20
"""So many columns are told of in a sentence beside the table."""
HEALTHY_LINES = 40
"""So many columns within their limits are listed; more would push the breaches off the screen."""


def show(findings: Findings, console: Console) -> None:
    """Print a comparison: the verdict, a line a column with the breaches first, and these in words.

    Where the output is no terminal, lines are not broken, so that they can be searched.
    """
    wrapped = console.is_terminal
    if not wrapped:
        console = Console(file=console.file, width=max(console.width, PIPED))

    def say(*parts: tuple[str, str]) -> None:
        console.print(Text.assemble(*((words.plain(text), style) for text, style in parts)), soft_wrap=not wrapped)

    verdict = ("healthy", "bold green") if findings.healthy else ("changed", "bold red")
    say(verdict, (f": {findings.summary}", ""))
    console.print()
    found = sorted(lines(findings), key=lambda line: ("bad", "warn", "quiet", "good").index(line.tone))
    quiet = [line for line in found if line.tone == "good"]
    console.print(_table([line for line in found if line.tone != "good"] + quiet[:HEALTHY_LINES], console.width))
    if len(quiet) > HEALTHY_LINES:
        say((f"and {len(quiet) - HEALTHY_LINES:,} more columns within their limits", "dim"))
    console.print()
    for line in [line for line in found if line.tone in ("bad", "warn")][:TOLD]:
        end = "" if line.tone == "bad" else ", not certain"
        say(
            (f"{MARKS[line.tone]} ", STYLES[line.tone]), (line.look.place, "bold"), (f": {line.look.sentence}{end}", "")
        )
    for (column, reason), metrics in _not_judged(findings).items():
        say((f"not judged: {column}: {', '.join(metrics)}: {reason}", "dim"))
    for name, why in findings.skipped.items():
        say((f"left out: {name}: {why}", "dim"))
    if findings.extra_columns:
        say((f"only in the current data: {', '.join(findings.extra_columns)}", "dim"))
    say((_figures(findings), "dim"))


def _not_judged(findings: Findings) -> dict[tuple[str, str], list[str]]:
    """The metrics that could not be judged, by column and reason; of segments, which are many, there is no list."""
    found: dict[tuple[str, str], list[str]] = {}
    for look in findings.points:
        if not look.segment and look.status not in (Status.HEALTHY, Status.BREACH):
            found.setdefault((look.column, look.reason), []).append(words.metric_title(look.metric))
    return found


def _figures(findings: Findings) -> str:
    healthy = sum(look.status is Status.HEALTHY and not look.unsure for look in findings.points)
    weighted = findings.weighted_drifted_share
    drifted = f"{len(findings.drifted)} of {words.count(len(findings.subjects), 'column')} drifted"
    drifted += "" if weighted is None else f" ({words.share(weighted)} of the importance)"
    return (
        f"{words.count(healthy, 'look')} of {len(findings.points):,} within the limit; {drifted};"
        f" {findings.reference_rows:,} rows in the reference, {findings.rows:,} now;"
        f" chance of any breach if nothing changed: at most {words.set_share(findings.false_alarms)}"
    )


def _table(found: list[Line], width: int) -> Table:
    """At a narrow terminal the columns that matter least are left out before any word is broken."""
    since = any(line.since for line in found) and width >= NARROW + SINCE
    room = width - (SINCE if since else 0)
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="bold", highlight=False)
    table.add_column("", no_wrap=True)
    table.add_column("Column", overflow="ellipsis", no_wrap=True, min_width=8, max_width=max(width // 4, 16))
    table.add_column("Worst metric", overflow="fold", min_width=12)
    table.add_column("Value", justify="right", no_wrap=True)
    if room >= MIDDLE:
        table.add_column("Interval", justify="right", no_wrap=True)
    table.add_column("Allowed", no_wrap=True)
    if room >= WIDE:
        table.add_column("Missing before", justify="right", no_wrap=True)
        table.add_column("now", justify="right", no_wrap=True)
    if since:
        table.add_column("Since", no_wrap=True)
    for line in found:
        cells = [MARKS[line.tone], line.column, line.metric + (f" (+{line.others})" if line.others else ""), line.value]
        cells += [line.interval] if room >= MIDDLE else []
        cells += [line.limit]
        cells += [line.missing_before, line.missing_now] if room >= WIDE else []
        cells += [line.since] if since else []
        first = [STYLES[line.tone], "bold" if line.tone == "bad" else ""]
        table.add_row(*(Text(words.plain(cell), style) for cell, style in zip_longest(cells, first, fillvalue="")))
    return table
