"""`watchkeeper erase` and `watchkeeper compact`: what is taken out of a store by hand."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from watchkeeper import config, words
from watchkeeper.commands.options import CONFIG, STORE, AsJson, ConfigFile, Store, err, escaped, out
from watchkeeper.engine import Engine
from watchkeeper.keeping import Erasure


def erase(
    subject: Annotated[
        str, typer.Argument(help="The entity_id of the subject; - to read it from standard input, out of sight.")
    ],
    model: Annotated[str | None, typer.Option(help="Erase it from this model alone.")] = None,
    spool: Annotated[
        list[Path] | None, typer.Option(help="A client's spool that is to be cleared too; may be given many times.")
    ] = None,
    store: Store = STORE,
    config_file: ConfigFile = CONFIG,
    as_json: AsJson = False,
) -> None:
    """Erase a subject from everything that is stored, and search every file for what might be left of it. Exit code 1
    if something is.

    It is found under its pseudonyms by the present key and all previous ones. A spool that a client uses is refused,
    and nothing is erased then. While a server holds the store, ask that
    server instead: POST /api/v1/erasures.
    """
    subject = sys.stdin.read().strip() if subject == "-" else subject
    engine = _engine(store, config_file)
    try:
        done = engine.erase(subject, model, "command line", spool or ())
    finally:
        engine.close()
    if as_json:
        sys.stdout.write(json.dumps(done.to_dict(), indent=2) + "\n")
    else:
        _tell(done)
    raise typer.Exit(0 if done.complete else 1)


def _tell(done: Erasure) -> None:
    for name, gone in done.deleted.items():
        out.print(
            f"{escaped(name)}: {words.count(gone.predictions, 'prediction')},"
            f" {words.count(gone.outcomes, 'outcome')}, {words.count(gone.kpis, 'KPI')} and"
            f" {words.count(gone.set_aside, 'value')} set aside deleted"
        )
    state = done.state
    out.print(
        f"taken out of {words.count(done.rejects, 'reject')}, {words.count(done.training_rows, 'training row')},"
        f" {words.count(state.rows, 'row')} of the state, {words.count(state.profiles, 'profile')} and"
        f" {state.entries:,} audit entries"
    )
    if done.spools:
        out.print(f"taken out of {words.count(done.spools, 'spool')}: {words.count(done.spooled, 'event')}")
    if state.resealed_from:
        out.print(
            f"the audit record was sealed anew from entry {state.resealed_from} on; its latest hash was"
            f" {state.former_hash}",
            soft_wrap=True,
        )
    out.print(
        f"searched {words.count(done.searched.files, 'file')} ({done.searched.bytes:,} bytes) for the subject and"
        f" {done.looked_for:,} of its {words.count(done.requests, 'request id')}:"
        f" {'nothing found' if not done.searched.found else 'found in'}"
    )
    for name in done.searched.found:
        err.print(f"  {escaped(name)}", soft_wrap=True)
    for job in done.running:
        err.print(f"the training job {job} still runs and holds rows; erase again when it has ended", soft_wrap=True)
    out.print(f"the audit record calls the subject {done.digest}", soft_wrap=True)
    if done.receipt:
        out.print(f"keep this receipt, which proves whom that means and is stored nowhere: {done.receipt}")


def compact(store: Store = STORE, config_file: ConfigFile = CONFIG) -> None:
    """Write the log anew, so that what was deleted takes no space any more. The engine does so by itself where much of
    it lies idle."""
    engine = _engine(store, config_file)
    try:
        done = engine.compact()
    finally:
        engine.close()
    out.print("the log was written anew" if done else "nothing was deleted since the log was last written")


def _engine(store: Path, config_file: Path) -> Engine:
    return Engine(store, config.load(config_file))
