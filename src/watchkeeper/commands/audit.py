"""`watchkeeper audit`: the tamper-evident record, examined and taken along."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from watchkeeper import audit, words
from watchkeeper.commands.options import CONFIG, STORE, ConfigFile, Store, configured, err, escaped, opened, out
from watchkeeper.errors import DataError
from watchkeeper.records import AuditEntry
from watchkeeper.settings import AuditConfig

app = typer.Typer(help="The tamper-evident record of everything that was decided and done.", no_args_is_help=True)


@app.command()
def verify(
    record: Annotated[Path | None, typer.Option(help="An exported record, instead of the store's.")] = None,
    checkpoints: Annotated[Path | None, typer.Option(help="The file of checkpoints, if it is another one.")] = None,
    public_key: Annotated[
        Path | None, typer.Option(help="A PEM file: whose signatures the checkpoints bear, if not the configuration's.")
    ] = None,
    store: Store = STORE,
    config_file: ConfigFile = CONFIG,
) -> None:
    """Check that no entry of the audit record was changed, moved or taken out. Exit code 1 if one was.

    Checkpoints show in addition that the end was not cut off, and that the record was not written anew as a whole.
    """
    configuration = configured(config_file)
    settings = configuration.audit if configuration else AuditConfig()
    entries = audit.read_entries(record) if record else _entries(store, config_file)
    private = None if public_key else audit.signing_key(settings, store)
    own = private.public_key() if private else None
    key = audit.public_key(public_key) if public_key else own
    made = checkpoints or audit.path(settings, store)
    if (checkpoints or key) and not made.exists():
        raise DataError(f"there are no checkpoints in {made}; name their file, or wait until the first is made")
    found = audit.examine(entries, audit.read(made), key)
    for problem in found.problems:
        err.print(f"[bold red]broken:[/] {escaped(problem)}", soft_wrap=True)
    if not found.problems:
        out.print(f"{_counted(found.entries)}, unbroken")
    if found.checkpoints:
        before = f", {found.superseded:,} of them from before an erasure" if found.superseded else ""
        out.print(f"{words.count(found.checkpoints, 'checkpoint')}{before}, vouch for entries 1 to {found.sealed:,}")
        if key is None:
            err.print("their signatures were not checked; give --public-key", style="yellow")
    raise typer.Exit(1 if found.problems else 0)


@app.command()
def export(
    file: Annotated[Path, typer.Argument(help="Where to; - for standard output.")],
    store: Store = STORE,
    config_file: ConfigFile = CONFIG,
) -> None:
    """Write the audit record to a file, an entry a line in JSON, oldest first."""
    entries = _entries(store, config_file)
    text = "".join(map(audit.line, entries))
    if file == Path("-"):
        sys.stdout.write(text)
    else:
        file.write_text(text, encoding="utf-8")
        out.print(f"{_counted(len(entries))} written to {escaped(str(file))}")


def _entries(store: Path, config_file: Path) -> Sequence[AuditEntry]:
    state = opened(store, config_file)
    with state.snapshot() as tx:
        entries = tx.audit_trail()
    state.close()
    return entries[::-1]


def _counted(entries: int) -> str:
    return f"{entries:,} {'entry' if entries == 1 else 'entries'}"
