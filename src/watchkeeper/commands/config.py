"""`watchkeeper config`: whether a configuration is right, what it comes to, and how it has changed."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from watchkeeper import config, monitors, words
from watchkeeper.commands.options import CONFIG, STORE, AsJson, ConfigFile, Store, escaped, opened, out, paper
from watchkeeper.errors import DataError
from watchkeeper.store.state import Transaction
from watchkeeper.windows import show_duration, show_time

app = typer.Typer(help="The configuration: checked, compared, and as it was.", no_args_is_help=True)

File = Annotated[Path, typer.Argument(help="The configuration.")]


@app.command()
def check(file: File = CONFIG, as_json: AsJson = False) -> None:
    """Check a configuration, and show how many looks it asks for and how confident each must be. Exit code 2 if it is
    wrong."""
    found = config.load(file)
    rows: list[dict[str, Any]] = []
    for name, model in found.models.items():
        planned = [(watch.monitor, watch.alpha) for watch in monitors.plan(model) if watch.monitor]
        for severity in sorted({monitor.severity for monitor, _ in planned}):
            looks = [(monitor.name, alpha) for monitor, alpha in planned if monitor.severity == severity]
            rows.append(
                {
                    "model": name,
                    "severity": str(severity),
                    "monitors": len({monitor for monitor, _ in looks}),
                    "looks": len(looks),
                    "every": show_duration(model.grain_length),
                    "false_alarms_in_30_days": model.alarm_budget[severity],
                    "confidence": 1 - looks[0][1],
                }
            )
    if as_json:
        sys.stdout.write(json.dumps({"version": found.version, "looks": rows}, indent=2) + "\n")
        return
    out.print(
        f"{escaped(str(file))} is right: {found.version}, {words.count(len(found.models), 'model')}", soft_wrap=True
    )
    table = Table(box=None, pad_edge=False, title_justify="left")
    for heading in ("model", "severity"):
        table.add_column(heading)
    for heading in ("monitors", "looks", "false alarms in 30 days", "confidence of a look"):
        table.add_column(heading, justify="right")
    for row in rows:
        looks_each = f"{row['looks']:,} every {row['every']}"
        confidence = f"{100 * row['confidence']:.6g} %"
        table.add_row(
            row["model"],
            row["severity"],
            f"{row['monitors']:,}",
            looks_each,
            f"{row['false_alarms_in_30_days']:g}",
            confidence,
        )
    paper(100).print(table)
    if any(model.segments for model in found.models.values()):
        out.print("Segments add looks, and confidence, once it is known which there are.")


@app.command()
def history(store: Store = STORE, config_file: ConfigFile = CONFIG, as_json: AsJson = False) -> None:
    """Show the configurations that were in force, newest first, and what changed with each."""
    state = opened(store, config_file)
    with state.snapshot() as tx:
        kept = tx.configs()
    state.close()
    rows = [
        {
            "version": one["version"],
            "since": show_time(one["at"]),
            "author": one["author"],
            "changes": [asdict(c) for c in config.changes(before["body"], one["body"])] if before else None,
        }
        for before, one in zip([None, *kept], kept, strict=False)
    ][::-1]
    if as_json:
        sys.stdout.write(json.dumps(rows, indent=2) + "\n")
        return
    table = Table(box=None, pad_edge=False)
    for heading in ("version", "first in force (UTC)", "author", "changes"):
        table.add_column(heading, overflow="fold")
    for row in rows:
        changes = row["changes"]
        told = "the first one" if changes is None else words.count(len(changes), "change")
        table.add_row(row["version"], row["since"], escaped(row["author"]), told)
    paper(100).print(table)


@app.command()
def diff(
    old: Annotated[str | None, typer.Argument(help="A file or a version; the last one in force if left out.")] = None,
    new: Annotated[str, typer.Argument(help="A file or a version.")] = str(CONFIG),
    store: Store = STORE,
    config_file: ConfigFile = CONFIG,
    as_json: AsJson = False,
) -> None:
    """Show what differs between two configurations. Exit code 1 if anything does.

    Settings that were left out are compared as what they are then.
    """
    if old is not None and Path(old).exists() and Path(new).exists():
        before, after = _in_file(old), _in_file(new)
    else:
        state = opened(store, config_file)
        with state.snapshot() as tx:
            before, after = _body(tx, old), _body(tx, new)
        state.close()
    found = config.changes(before, after)
    if as_json:
        sys.stdout.write(json.dumps([asdict(c) for c in found], indent=2) + "\n")
    else:
        for change in found:
            out.print(
                escaped(change.sentence), style={"added": "green", "removed": "red"}.get(change.what), soft_wrap=True
            )
        if not found:
            out.print("nothing differs")
    raise typer.Exit(1 if found else 0)


@app.command()
def schema() -> None:
    """Print the JSON Schema of configurations, for editors.

    Save it, and write `# yaml-language-server: $schema=FILE` in the first line of a configuration.
    """
    sys.stdout.write(json.dumps(config.json_schema(), indent=2) + "\n")


def _in_file(path: str) -> dict[str, Any]:
    return config.load(Path(path)).model_dump(mode="json")


def _body(tx: Transaction, what: str | None) -> dict[str, Any]:
    """What a file holds, or what was in force under this version; the last one for None."""
    if what is not None and Path(what).exists():
        return _in_file(what)
    kept = {one["version"]: one["body"] for one in tx.configs()}
    if not kept:
        raise DataError("no configuration was in force in this store yet; run watchkeeper tick, or name two files")
    if what is None:
        return kept[next(reversed(kept))]  # type: ignore[no-any-return]
    if what not in kept:
        raise DataError(f"there is no file and no version {what}; watchkeeper config history lists the versions")
    return kept[what]  # type: ignore[no-any-return]
