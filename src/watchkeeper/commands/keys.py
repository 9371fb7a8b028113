"""`watchkeeper keys`: make, list and revoke API keys."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.table import Table

from watchkeeper.commands.options import CONFIG, STORE, AsJson, ConfigFile, Store, err, escaped, opened, out, settings
from watchkeeper.server import access
from watchkeeper.server.access import Role
from watchkeeper.store.places import open_state
from watchkeeper.windows import show_time

app = typer.Typer(help="API keys: who may send events, look, and decide.", no_args_is_help=True)


@app.command("create")
def create(
    name: Annotated[str, typer.Argument(help="Whose key it is, such as the service that will send events.")],
    role: Annotated[
        Role,
        typer.Option(
            help="writer sends events, reader looks, operator does both and decides, admin may do everything."
        ),
    ],
    store: Store = STORE,
    config_file: ConfigFile = CONFIG,
) -> None:
    """Make an API key and print it. It is shown this once: the store keeps only its hash."""
    state = open_state(settings(config_file), store)
    key = access.create(state, name, role, datetime.now(UTC), "command line")
    state.close()
    sys.stdout.write(f"{key}\n")
    err.print(f'This is the key of "{escaped(name)}", a {role}; keep it, for it cannot be shown again.', soft_wrap=True)


@app.command("list")
def show(store: Store = STORE, config_file: ConfigFile = CONFIG, as_json: AsJson = False) -> None:
    """Show whose keys there are, with which role. The keys themselves are kept nowhere."""
    state = opened(store, config_file)
    with state.snapshot() as tx:
        made = tx.api_keys()
    state.close()
    rows = [
        {
            "id": key.id,
            "name": key.name,
            "role": key.role,
            "created_at": show_time(key.created_at),
            "revoked_at": show_time(key.revoked_at) if key.revoked_at else None,
        }
        for key in made
    ]
    if as_json:
        sys.stdout.write(json.dumps(rows, indent=2) + "\n")
        return
    table = Table("Id", "Name", "Role", "Made (UTC)", "Revoked (UTC)")
    for row in rows:
        table.add_row(row["id"], escaped(str(row["name"])), row["role"], row["created_at"], row["revoked_at"] or "")
    out.print(table if rows else "No key was made yet; watchkeeper keys create makes one.")


@app.command("revoke")
def revoke(
    name: Annotated[str, typer.Argument(help="The key's name or id.")],
    store: Store = STORE,
    config_file: ConfigFile = CONFIG,
) -> None:
    """End a key. A running server refuses it within two seconds."""
    state = opened(store, config_file)
    key = access.revoke(state, name, datetime.now(UTC), "command line")
    state.close()
    out.print(f'The key "{escaped(key.name)}" ({key.id}) is revoked', highlight=False)
