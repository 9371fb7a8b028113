"""`watchkeeper quarantine`: what came in and did not fit, and its way back once the configuration has changed."""

from __future__ import annotations

import json
import sys
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from watchkeeper import config, quarantine
from watchkeeper.commands.options import CONFIG, STORE, AsJson, ConfigFile, Store, escaped, opened, out
from watchkeeper.errors import StateError
from watchkeeper.schema import Config
from watchkeeper.store.inbox import Inbox
from watchkeeper.store.log import Log
from watchkeeper.store.places import open_events

app = typer.Typer(help="What came in and did not fit: refused events, values set aside.", no_args_is_help=True)


@app.command("list")
def show(
    store: Store = STORE,
    config_file: ConfigFile = CONFIG,
    limit: Annotated[int, typer.Option(help="How many at most: events, and values of each model.", min=1)] = 100,
    as_json: AsJson = False,
) -> None:
    """Show what came in and did not fit, the newest first, and why."""
    settings = config.load(config_file)
    found = [*quarantine.rejects(Inbox(store).rejects, limit)]
    values = _values(store, settings, limit)
    if as_json:
        sys.stdout.write(json.dumps({"events": found, "values": values}, indent=2, default=str) + "\n")
        return
    if not found and not values:
        out.print("The quarantine is empty.")
    if found:
        table = Table("Why", "Event", title="Events that were refused")
        for one in found:
            table.add_row(escaped(one["reason"]), escaped(json.dumps(one["event"])[:200]))
        out.print(table)
    for model, rows in values.items():
        table = Table("Request", "Column", "Value", title=f"Values set aside of {model}")
        for row in rows:
            table.add_row(escaped(row["request_id"]), escaped(row["column"]), escaped(str(row["value"])[:200]))
        out.print(table)


def _values(store: Path, settings: Config, limit: int) -> dict[str, list[dict[str, Any]]]:
    if settings.store.events is None and not (store / "log.duckdb").is_file():
        return {}
    try:
        log = Log(open_events(settings.store, store))
    except StateError as problem:
        raise StateError(f"{problem}; a running server tells it at /api/v1/quarantine") from problem
    with closing(log):
        there = set(log.models())
        found = {model: quarantine.values(log, model, limit) for model in settings.models if model in there}
    return {model: rows for model, rows in found.items() if rows}


@app.command("replay")
def replay(store: Store = STORE, config_file: ConfigFile = CONFIG) -> None:
    """Take in what fits now, after the configuration has changed: the next tick does it. The rest stays."""
    state = opened(store, config_file)
    with state.transaction() as tx:
        tx.set_cursor("", quarantine.REPLAY, datetime.now(UTC).isoformat())
    state.close()
    out.print("The next tick takes in what fits now; the audit record tells how much that was")
