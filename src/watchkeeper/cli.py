"""The command line."""

from __future__ import annotations

import itertools
import json
import logging
import signal
import socket
import sys
import threading
import time
import webbrowser
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, date, datetime
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
import uvicorn
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.tree import Tree

from watchkeeper import accounts, config, events, words
from watchkeeper.commands import audit, keep, keys, quarantine
from watchkeeper.commands import config as config_commands
from watchkeeper.commands.evaluate import evaluate
from watchkeeper.commands.events import events as events_command
from watchkeeper.commands.options import CONFIG, STORE, AsJson, ConfigFile, Store, err, escaped, opened, out, tell
from watchkeeper.commands.replay import replay
from watchkeeper.comparison import compare, profile, terminal
from watchkeeper.comparison.contract import propose
from watchkeeper.demo.story import SERVING, Demo, Story
from watchkeeper.engine import Engine
from watchkeeper.errors import DataError, StateError, WatchkeeperError
from watchkeeper.gaps import gaps
from watchkeeper.incidents import NEW
from watchkeeper.records import ALL, Incident, IncidentState, Reason, Rollout, RolloutState, Status, Transition, Verdict
from watchkeeper.server import access
from watchkeeper.server.access import Role
from watchkeeper.server.app import create_app
from watchkeeper.settings import StoreConfig
from watchkeeper.store.files import write
from watchkeeper.store.inbox import Inbox
from watchkeeper.store.places import STATE, open_state
from watchkeeper.store.sources import connect, read
from watchkeeper.why import Node, why
from watchkeeper.windows import DAY, show_time

PORT = 8710
TAKE_IN = 1.0
"""Seconds between two looks into the inbox."""
LOOPBACK = ("127.0.0.1", "localhost", "[::1]", "::1")
BATCH = 5000
"""Events that `log` and `label` put into one file of the inbox."""

app = typer.Typer(
    name="watchkeeper",
    help="Keep machine-learning models in production good over time.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(audit.app, name="audit")
app.add_typer(config_commands.app, name="config")
app.add_typer(keys.app, name="keys")
app.add_typer(quarantine.app, name="quarantine")
app.command("events")(events_command)
app.command()(keep.erase)
app.command()(keep.compact)
app.command()(replay)
app.command()(evaluate)

Host = Annotated[str, typer.Option(help="Address to listen on.")]
Port = Annotated[int, typer.Option(help="Port to listen on.", min=1, max=65535)]


def main() -> None:
    """Run the command line; an error made on purpose becomes one message and exit code 2."""
    try:
        app()
    except WatchkeeperError as problem:
        err.print(f"[bold red]error:[/] {escaped(str(problem))}", highlight=False, soft_wrap=True)
        sys.exit(2)


@app.command()
def demo(
    store: Store = Path(".watchkeeper-demo"),
    serve: Annotated[bool, typer.Option("--serve/--no-serve", help="Open the dashboard at the end.")] = True,
    as_json: AsJson = False,
    host: Host = "127.0.0.1",
    port: Port = PORT,
) -> None:
    """Live through a year of real flights: drift, faults, retraining, a bad candidate; then see the dashboard.

    The year begins anew each time, and tells the same story each time.
    """
    serve = serve and not as_json
    if serve:
        _free(host, port)
    year = Demo(store)
    if not as_json:
        _introduce(store)
    year.load()
    length = -(-(SERVING.end - SERVING.start) // DAY)
    with Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), console=out,
        disable=as_json,
    ) as progress:  # fmt: skip
        bar = progress.add_task("2013-03-01", total=length)
        for day in year.days():
            progress.update(bar, advance=1, description=show_time(day.at)[:10])
            if not as_json:
                for step in day.transitions:
                    _tell(progress.console, step, year)
    if as_json:
        sys.stdout.write(json.dumps(year.story.to_dict(), indent=2) + "\n")
    else:
        _conclude(year.story)
    if serve:
        link = f"http://{host}:{port}"
        out.print(
            f"\nThe dashboard is at [bold]{link}[/] (Ctrl+C ends it)."
            f" Its clock stands at {year.now:%Y-%m-%d %H:%M} UTC."
        )
        if host not in LOOPBACK:  # the year began anew, so it has no keys
            key = access.create(year.engine.state, "demo", Role.OPERATOR, year.now, "demo")
            out.print(
                f"It asks for a name and a password: any name, and the key {key}", soft_wrap=True, highlight=False
            )
        _serve(year.engine, host, port, ticking=False, title="demo: flights of 2013")
    year.close()


@app.command()
def serve(
    store: Store = STORE,
    config_file: ConfigFile = CONFIG,
    host: Host = "127.0.0.1",
    port: Port = PORT,
    every: Annotated[int, typer.Option(help="Seconds between ticks.", min=1)] = 60,
) -> None:
    """Run the engine, the way in for events, and the dashboard."""
    settings = config.load(config_file)
    _reachable(store, settings.store, host)
    _free(host, port)
    engine = Engine(store, settings)
    _install_references(engine, config_file)
    out.print(
        f"Watching {', '.join(settings.models)}; the dashboard is at [bold]http://{host}:{port}[/]", soft_wrap=True
    )
    _serve(engine, host, port, ticking=True, every=every)
    engine.close()


@app.command()
def check(
    reference: Annotated[
        Path, typer.Argument(help="What is known to be good: CSV or Parquet, a file, folder or glob; or a baseline.")
    ],
    current: Annotated[Path, typer.Argument(help="What is to be checked against it.")],
    config_file: Annotated[
        Path | None, typer.Option("--config", help="Monitors to use instead of the defaults.")
    ] = None,
    html: Annotated[Path | None, typer.Option(help="Write a report that opens anywhere.")] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write all points as JSON; - for standard output.")
    ] = None,
    timestamp: Annotated[
        str | None, typer.Option(help="The column that says when a row was made: tells since when a limit is breached.")
    ] = None,
    segment: Annotated[
        list[str] | None,
        typer.Option(help="A categorical column to look within as well, or several to cross: country,device."),
    ] = None,
) -> None:
    """Compare two data sets. Exit code 0: healthy. 1: a limit is breached. 2: the comparison could not be made."""
    with _patience("Comparing the two data sets"):
        segments = [tuple(columns.split(",")) for columns in segment or ()]
        found = compare(str(reference), str(current), config=config_file, timestamp=timestamp, segments=segments)
    tell(found, html, json_file, partial(terminal.show, found))
    raise typer.Exit(0 if found.healthy else 1)


@app.command("profile")
def keep_profile(
    reference: Annotated[
        Path, typer.Argument(help="What is known to be good: CSV or Parquet, a file, folder or glob.")
    ],
    baseline: Annotated[Path, typer.Argument(help="Where to keep it: a file whose name ends in .baseline.")],
    config_file: Annotated[
        Path | None, typer.Option("--config", help="Monitors to use instead of the defaults.")
    ] = None,
) -> None:
    """Keep of a reference what `check` needs, so that it is not read again: counts, no rows."""
    found = profile(str(reference), config=config_file)
    found.save(baseline)
    columns = words.count(len(found.columns), "column")
    out.print(f"{columns} of {found.rows:,} rows are kept in {baseline}", soft_wrap=True)


@app.command()
def contract(
    reference: Annotated[
        Path, typer.Argument(help="What is known to be good: CSV or Parquet, a file, folder or glob.")
    ],
    out_file: Annotated[Path | None, typer.Option("--out", help="Write it to this new file.")] = None,
    name: Annotated[str, typer.Option(help="What to call the model; the file's name, if not given.")] = "",
) -> None:
    """Propose what the columns are agreed to be, from data that are known to be good: their kinds, ranges, categories,
    missing values and what stands for them. It is a configuration to edit, for `watchkeeper check --config`."""
    text = propose(str(reference), name or reference.stem.partition(".")[0])
    if out_file is None:
        sys.stdout.write(text)
    else:
        write(out_file, text, new=True)


@app.command()
def log(
    files: Annotated[list[Path], typer.Argument(help="CSV or Parquet files of predictions.")],
    model: Annotated[str, typer.Option(help="The model that made them.")],
    store: Store = STORE,
    version: Annotated[str, typer.Option(help="The version that made them, where the file has no such column.")] = "",
) -> None:
    """Log predictions from files: request_id, event_time (UTC), and any of score, prediction, version, entity_id,
    latency_ms, cpu_ms, memory_mb, gpu_memory_mb, disk_mb, cost, status, variant, context; every other column is a
    feature."""
    rows = _rows(files, ("request_id", "event_time"))
    total = _send(store, ((place, _prediction(row, model, version)) for place, row in rows))
    out.print(f"{total:,} predictions logged for {model}; the next tick takes them in")


@app.command()
def label(
    files: Annotated[list[Path], typer.Argument(help="CSV or Parquet files of outcomes.")],
    model: Annotated[str, typer.Option(help="The model whose predictions they belong to.")],
    store: Store = STORE,
) -> None:
    """Log outcomes from files: request_id, label (0 or 1), known_at (UTC)."""
    rows = _rows(files, ("request_id", "label", "known_at"))
    total = _send(store, ((place, {**row, "kind": events.OUTCOME, "model": model}) for place, row in rows))
    out.print(f"{total:,} outcomes logged for {model}; the next tick takes them in")


@app.command()
def kpi(
    files: Annotated[list[Path], typer.Argument(help="CSV or Parquet files of KPIs.")],
    model: Annotated[str, typer.Option(help="The model whose predictions they belong to.")],
    store: Store = STORE,
) -> None:
    """Log business values that predictions have led to, from files: request_id, name (as in the model's kpis), value,
    known_at (UTC)."""
    rows = _rows(files, ("request_id", "name", "value", "known_at"))
    total = _send(store, ((place, {**row, "kind": events.KPI, "model": model}) for place, row in rows))
    out.print(f"{words.count(total, 'KPI')} logged for {model}; the next tick takes them in")


@app.command()
def tick(store: Store = STORE, config_file: ConfigFile = CONFIG) -> None:
    """Take in what waits, and go through all eight hops once."""
    engine = Engine(store, config.load(config_file))
    _install_references(engine, config_file)
    done = engine.tick()
    engine.close()
    out.print(
        f"{done.rows['record']:,} events taken in, {done.rows['summarise']:,} rows summarised,"
        f" {done.rows['judge']:,} points judged"
    )
    if aside := done.rows["set aside"]:
        out.print(
            f"[yellow]{aside:,} values do not fit their column's type; they are set aside and count as missing[/]"
        )
    if refused := done.rows["reject"]:
        err.print(f"{refused:,} events were refused; {engine.inbox.rejects} keeps each beside why", soft_wrap=True)


@app.command()
def status(store: Store = STORE, config_file: ConfigFile = CONFIG, as_json: AsJson = False) -> None:
    """Show how each model is, how many labels found their predictions, how late things come, and what is lost."""
    state = opened(store, config_file)
    known = config.load(config_file).models if config_file.exists() else {}
    with state.snapshot() as tx:
        models = sorted({v.model for v in tx.select(Verdict)})
        rows = [_status(tx, model) for model in models]
        for row in rows:
            if row["model"] in known:
                found = accounts.accounts(tx, row["model"], known[row["model"]], datetime.now(UTC))
                row["accounts"] = found.to_dict()
    state.close()
    if as_json:
        sys.stdout.write(json.dumps(rows, indent=2) + "\n")
        return
    if not rows:
        out.print("Nothing has been judged yet. Log predictions, then run [bold]watchkeeper tick[/].")
        return
    table = Table("Model", "Health", "Champion", "Open incidents", "Last looked at (UTC)", "Looks")
    for row in rows:
        looks = ", ".join(f"{count} {name}" for name, count in row["looks"].items())
        incidents = "\n".join(f"{i['severity']} {i['title']} ({i['id']})" for i in row["incidents"]) or "none"
        table.add_row(row["model"], row["health"], row["champion"] or "none", escaped(incidents), row["until"], looks)
    out.print(table)
    for row in rows:
        for gap in row["groups"]:
            out.print(f"{row['model']}: {_gap(gap)}", highlight=False, soft_wrap=True)
        if told := row.get("accounts"):
            joined = "" if told["join_rate"] is None else f"{words.share(told['join_rate'])} of the outcomes joined, "
            counts = ", ".join(f"{n:,} {name}" for name, n in told["counts"].items() if n)
            out.print(f"{row['model']}: {joined}{counts or 'nothing counted yet'}", highlight=False, soft_wrap=True)
            for point in told["provisional"]:
                out.print(f"  {words.provisional(point)}", highlight=False, soft_wrap=True)


@app.command("why")
def why_command(
    row_id: Annotated[str, typer.Argument(metavar="ID", help="An id, such as incident-1a2b3c4d5e6f.")],
    store: Store = STORE,
    config_file: ConfigFile = CONFIG,
    as_json: AsJson = False,
) -> None:
    """Show why a row is as it is: the chain of rows it came of, and what came of it."""
    state = opened(store, config_file)
    with state.snapshot() as tx:
        node = why(tx, row_id)
    state.close()
    if as_json:
        sys.stdout.write(json.dumps(node.to_dict(), indent=2) + "\n")
    else:
        out.print(_tree(node))


@contextmanager
def _patience(what: str) -> Iterator[None]:
    """Show on a terminal that work goes on, once it has taken a second."""
    status = err.status(f"{what} …")
    timer = threading.Timer(1.0, status.start)
    if err.is_terminal:
        timer.start()
    try:
        yield
    finally:
        timer.cancel()
        status.stop()


# serving


def _serve(engine: Engine, host: str, port: int, *, ticking: bool, every: int = 60, title: str = "") -> None:
    """Serve until interrupted; the engine ticks in a thread of its own."""
    stop = threading.Event()
    local = host in LOOPBACK
    page = create_app(
        engine.state,
        clock=engine.clock,
        operations=engine,
        inbox=engine.inbox if ticking else None,
        title=title,
        hosts=LOOPBACK if local else (),
        keyless=local,
    )
    server = uvicorn.Server(uvicorn.Config(page, host=host, port=port, log_level="warning"))
    if ticking:
        worker = threading.Thread(target=_tick_until, args=(engine, stop, every), daemon=True)
    else:
        worker = threading.Timer(1.0, _open_browser, [f"http://{host}:{port}"])
    worker.start()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with suppress(KeyboardInterrupt):  # the server ends in order, and then hands on the signal it ended for
            server.run()
    finally:
        if page.state.committer is not None:
            page.state.committer.close()
        stop.set()
        worker.join(timeout=30)


def _open_browser(link: str) -> None:
    if sys.stdout.isatty():
        webbrowser.open(link)


def _tick_until(engine: Engine, stop: threading.Event, every: float) -> None:
    """Tick every so many seconds, and between two ticks take in what waits, so that it does not pile up."""
    due = 0.0
    while not stop.is_set():
        ticking = time.monotonic() >= due
        try:
            if ticking:
                due = time.monotonic() + every
                engine.tick()
            else:
                engine.take_in()
        except Exception:  # the watch goes on; what failed is logged, and the next tick tries again
            logging.getLogger("watchkeeper").exception("a tick failed" if ticking else "events could not be taken in")
        stop.wait(min(every, TAKE_IN))


def _reachable(store: Path, settings: StoreConfig, host: str) -> None:
    """Refuse an address that other machines reach as long as anybody there could read and change everything."""
    if host in LOOPBACK:
        return
    made = False
    if settings.state is not None or (store / STATE).is_file():
        state = open_state(settings, store)
        with state.snapshot() as tx:
            made = any(key.revoked_at is None for key in tx.api_keys())
        state.close()
    if not made:
        raise StateError(
            f"other machines can reach {host}, and no API key was made for {store} yet; make one with"
            f" watchkeeper keys create NAME --role admin --store {store}, or leave out --host"
        )


def _free(host: str, port: int) -> None:
    """Refuse a port that is taken before any work is done."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as problem:
            raise StateError(
                f"port {port} on {host} cannot be used: {problem.strerror};"
                " stop what uses it or choose another with --port"
            ) from problem


def _install_references(engine: Engine, config_file: Path) -> None:
    """Give each model without a champion the reference data that the configuration names."""
    for name, model in engine.config.models.items():
        with engine.state.snapshot() as tx:
            crowned = tx.champions(name)
        lacking = crowned and engine.expecting.lacks(name, model, model.champion)
        if model.reference and (not crowned or lacking):
            table = read(connect(), config_file.parent / model.reference, f"reference of {name}").to_pyarrow()
            if crowned:
                engine.refer(name, model.champion, table)
            else:
                engine.install(name, model.champion, table, actor="configuration")


# logging from files


TEXTS = ("request_id", "entity_id", "version", "variant", "status")
"""Fields that are text though a file may hold them as numbers."""
MOMENTS = ("event_time", "known_at")


def _rows(files: list[Path], needed: tuple[str, ...]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The rows of files, each with where it stands, as dicts without their nulls."""
    for path in files:
        table = read(connect(), path, path.name).to_pyarrow()
        for name in needed:
            if name not in table.column_names:
                raise DataError(f'{path} has no column "{name}"; found {", ".join(table.column_names)}')
        if not table.num_rows:
            raise DataError(f"{path} has a header and no rows")
        for number, row in enumerate(table.to_pylist(), start=1):
            yield f"{path}, row {number}", {k: _value(k, v) for k, v in row.items() if v is not None}


def _value(name: str, value: Any) -> Any:
    """A value as an event has it. A moment without a zone is in UTC, a date alone is its first moment."""
    if name in MOMENTS and isinstance(value, date) and not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day)  # noqa: DTZ001 (it gets its zone in the next line)
    if isinstance(value, datetime):
        return value.replace(tzinfo=value.tzinfo or UTC)
    return str(value) if name in TEXTS else value


def _prediction(row: dict[str, Any], model: str, version: str) -> dict[str, Any]:
    own = {name for name in events.FIELDS[events.PREDICTION] if name not in ("kind", "model", "features")}
    known = {name: value for name, value in row.items() if name in own}
    features = {name: value for name, value in row.items() if name not in own}
    return {"version": version, **known, "kind": events.PREDICTION, "model": model, "features": features}


def _send(store: Path, found: Iterator[tuple[str, dict[str, Any]]]) -> int:
    """Check events and put them into the inbox; how many there were."""
    inbox, total = Inbox(store), 0
    while batch := list(itertools.islice(found, BATCH)):
        checked = []
        for place, event in batch:
            try:
                checked.append(events.read(event))
            except DataError as problem:
                before = f"; {total:,} rows before it are logged, and may be logged again" if total else ""
                raise DataError(f"{place}: {problem}{before}") from problem
        inbox.put(checked)
        total += len(batch)
    return total


# words


def _introduce(store: Path) -> None:
    out.print("[bold]A year of flights out of New York[/]: which will arrive more than 15 minutes late?")
    out.print(
        "The model learns from January and February 2013, then serves every flight of the year, day by day. Flights,"
        " weather and delays are real. Injected: a wind sensor that reports -999 for a week in August, a bad candidate"
        " that somebody ships past the gate in October, and an afternoon of slow answers in November."
    )
    out.print(f"Everything is kept in {store}.\n", highlight=False)


def _tell(console: Console, step: Transition, year: Demo) -> None:
    kind = step.subject.partition("-")[0]
    with year.engine.state.snapshot() as tx:
        if kind == "incident" and step.before != step.after:
            what, text = f"{step.severity} {WORDS.get(step.after, step.after)}", tx.get(Incident, step.subject).title
            style = {"resolved": "green"}.get(step.after, "bold red" if step.severity < "P2" else "yellow")
        elif kind == "rollout":
            what, text, style = f"rollout {tx.get(Rollout, step.subject).candidate}", step.after, "cyan"
            if step.after.startswith(RolloutState.ROLLED_BACK):
                text, style = (
                    f"rolled back: {step.note if step.reason is Reason.ARM_WORSE else step.reason.sentence}",
                    "bold red",
                )
        elif kind == "action" and step.before != NEW:
            what, text, style = "retrain", f"{step.after}: {step.note}", "cyan"
        else:
            return
    console.print(f"{show_time(step.at)[:10]}  {what:<12} {escaped(text)}", style=style, highlight=False)


WORDS = {"open": "opened", "acknowledged": "taken on", "resolved": "over"}


def _conclude(story: Story) -> None:
    table = Table("Began", "Noticed", "What happened", "What was done", title="The year (UTC)", box=SIMPLE_HEAD)
    for event in story.events:
        injected = "[bold magenta]injected[/] " if event.origin == "injected" else ""
        began, noticed = show_time(event.began)[:10], show_time(event.noticed)[:10]
        table.add_row(began, noticed, injected + escaped(event.what), escaped(event.done))
    out.print(table)
    rates = story.to_dict()["rows_per_second"]
    shown = [(hop, rates[hop]) for hop in ("log", "summarise", "judge")]
    out.print("Rows a second: " + ", ".join(f"{hop} {rate:,}" for hop, rate in shown), highlight=False)
    out.print(f"{story.rows['serve']:,} of {story.rows['read']:,} flights served; the rest trained the first model.")


def _status(tx: Any, model: str) -> dict[str, Any]:
    verdicts = tx.select(Verdict, model=model, segment=ALL, order="-window_end", limit=500)
    until = max(v.window.end for v in verdicts)
    last = {(v.monitor, v.column): v for v in reversed(verdicts)}
    incidents = [i for i in tx.select(Incident, model=model) if i.state is not IncidentState.RESOLVED]
    champions = tx.champions(model)
    return {
        "model": model,
        "health": min((str(i.severity) for i in incidents), default="healthy"),
        "champion": champions[-1][1] if champions else "",
        "incidents": [
            {"id": i.id, "severity": str(i.severity), "title": i.title, "state": str(i.state)} for i in incidents
        ],
        "until": show_time(until),
        "looks": {str(s): n for s in Status if (n := Counter(v.status for v in last.values())[s])},
        "groups": [gap.to_dict() for gap in gaps(tx, last.values())],
    }


def _gap(gap: dict[str, Any]) -> str:
    """A gap between groups in a line: what, how wide, and between whom."""
    found = words.measured(gap["value"], gap["metric"])
    if gap["low"] is not None and gap["high"] is not None:
        found += f" ({words.interval(gap['low'], gap['high'], gap['metric'])})"
    between = f", {gap['lowest']} against {gap['highest']}" if gap["lowest"] else ""
    return f"{gap['monitor']}: {gap['status']}, {words.metric_title(gap['metric'])} {found}{between}"


def _tree(node: Node) -> Tree:
    tree = Tree(f"[bold]{node.id}[/] {escaped(node.text)}", highlight=False)
    for title, below in (("because", node.causes), ("led to", node.effects)):
        if below:
            branch = tree.add(f"[dim]{title}[/]")
            for child in below:
                branch.add(_tree(child))
    return tree
