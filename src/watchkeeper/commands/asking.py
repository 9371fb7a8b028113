"""Asking the log from the command line: the log of a store, or through a running server."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import typer

from watchkeeper import config
from watchkeeper.commands.options import CONFIG, STORE
from watchkeeper.errors import ConfigError, DataError, QuestionError, StateError, did_you_mean
from watchkeeper.store import exports, privacy, questions
from watchkeeper.store.files import held
from watchkeeper.store.log import Log
from watchkeeper.store.places import EVENTS, open_events
from watchkeeper.store.questions import Order
from watchkeeper.store.warehouse import Warehouse

Where = Annotated[
    list[str] | None,
    typer.Option(
        help="A condition: distance > 500, origin = JFK, carrier in (AA, UA), weight is missing; all must hold."
    ),
]
Since = Annotated[str, typer.Option(help="From this time on: ISO 8601, UTC where it has no zone, or how long ago: 7d.")]
Until = Annotated[str, typer.Option(help="Until just before this time.")]
User = Annotated[list[str] | None, typer.Option(help="The entity id, as it was before it was protected.")]
Request = Annotated[list[str] | None, typer.Option(help="The request id.")]
Version = Annotated[list[str] | None, typer.Option(help="The version that made the prediction.")]
Error = Annotated[str, typer.Option(help="How far the score lies from the label, such as '>= 0.5'.")]
Sorted = Annotated[Order, typer.Option(help="What comes first.")]
Limit = Annotated[int | None, typer.Option(help="How many predictions.", min=1)]
Server = Annotated[
    str, typer.Option(envvar="WATCHKEEPER_SERVER", help="Ask this running server, such as http://127.0.0.1:8710.")
]
Key = Annotated[str, typer.Option(envvar="WATCHKEEPER_API_KEY", help="The API key for the server.")]

PIECE = 1 << 20
PATIENCE = httpx.Timeout(10, read=600)


@dataclass(frozen=True)
class Ask:
    """A question to the log of one model, as it was typed, and where the log is."""

    model: str
    where: tuple[str, ...] = ()
    since: str = ""
    until: str = ""
    user: tuple[str, ...] = ()
    request: tuple[str, ...] = ()
    version: tuple[str, ...] = ()
    error: str = ""
    order: str = Order.NEWEST
    limit: int | None = None
    store: Path = STORE
    config_file: Path = CONFIG
    server: str = ""
    key: str = ""

    @property
    def typed(self) -> dict[str, Any]:
        """What is asked."""
        names = ("where", "since", "until", "user", "request", "version", "error", "order", "limit")
        return {name: value for name in names if (value := getattr(self, name))}

    @contextmanager
    def answer(self) -> Iterator[pa.RecordBatchReader]:
        """The predictions, batch by batch; the schema says what they are."""
        with _from_server(self) if self.server else _from_store(self) as batches:
            yield batches


@contextmanager
def _from_store(ask: Ask) -> Iterator[pa.RecordBatchReader]:
    settings = config.load(ask.config_file)
    if ask.model not in settings.models:
        near = did_you_mean(ask.model, settings.models, "there are")
        raise ConfigError(f'{ask.config_file} has no model "{ask.model}"; {near}')
    file, keys = ask.store / EVENTS, privacy.load_keys(settings.privacy, ask.store)
    question = questions.read(settings.models[ask.model], keys, datetime.now(UTC), **ask.typed)
    model = settings.models[ask.model]
    if model.events:
        with closing(Warehouse(ask.model, model, model.events)) as table, table.answer(ask.model, question) as batches:
            yield exports.described(batches, ask.model, question, settings)
        return
    if settings.store.events is None and not file.is_file():
        raise StateError(f"there is no log in {ask.store}; name its folder with --store, or ask a server with --server")
    if settings.store.events is None and held(file):
        raise StateError(
            f"{file} is held by another process, such as watchkeeper serve; ask that one, with --server"
            " http://127.0.0.1:8710 or the address that it has, or stop it"
        )
    with closing(Log(open_events(settings.store, ask.store))) as log:
        log.open_model(ask.model, settings.models[ask.model])
        with log.answer(ask.model, question) as batches:
            yield exports.described(batches, ask.model, question, settings)


@contextmanager
def _from_server(ask: Ask) -> Iterator[pa.RecordBatchReader]:
    address = f"{ask.server.rstrip('/')}/api/v1/models/{ask.model}/events"
    headers = {"Authorization": f"Bearer {ask.key}"} if ask.key else {}
    with ExitStack() as opened:
        with _told_of(ask.server):
            client = opened.enter_context(httpx.Client(timeout=PATIENCE))
            asked = client.stream("GET", address, params={**ask.typed, "format": "arrow"}, headers=headers)
            answer = opened.enter_context(asked)
            if answer.status_code != 200:
                raise _refused(ask.server, answer)
            source = io.BufferedReader(_Incoming(answer.iter_bytes()), PIECE)
            batches = opened.enter_context(pa.ipc.open_stream(source))
        yield pa.RecordBatchReader.from_batches(batches.schema, _incoming(batches, ask.server))


def _incoming(batches: pa.RecordBatchReader, server: str) -> Iterator[pa.RecordBatch]:
    with _told_of(server):
        yield from batches


@contextmanager
def _told_of(server: str) -> Iterator[None]:
    """What goes wrong on the way, in words."""
    try:
        yield
    except (httpx.HTTPError, httpx.InvalidURL, pa.ArrowInvalid, OSError) as problem:
        raise StateError(
            f"the server {server} gave no whole answer: {problem}; check the address, and that it runs"
        ) from problem


def _refused(server: str, answer: httpx.Response) -> StateError | QuestionError:
    answer.read()
    try:
        told = answer.json()["error"]
        said = "; ".join(filter(None, (told["message"], told.get("hint", ""))))
    except (ValueError, KeyError, TypeError):
        said = f"it answered {answer.status_code}, as no watchkeeper does; check the address"
    if answer.status_code == 422:
        return QuestionError(said)
    return StateError(f"the server {server}: {said}" + ("; give it with --key" if answer.status_code == 401 else ""))


class _Incoming(io.RawIOBase):
    """What arrives, as a file that can be read once."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces, self._rest = pieces, memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._rest:
            piece = next(self._pieces, None)
            if piece is None:
                return 0
            self._rest = memoryview(piece)
        size = min(len(buffer), len(self._rest))
        buffer[:size], self._rest = self._rest[:size], self._rest[size:]
        return size


def from_file(path: Path) -> pa.RecordBatchReader:
    """The predictions that were exported to a Parquet file. Raises DataError where it is none."""
    try:
        file = pq.ParquetFile(path)
    except (OSError, pa.ArrowInvalid) as problem:
        raise DataError(f"{path} cannot be read as a Parquet file: {problem}") from problem
    return pa.RecordBatchReader.from_batches(file.schema_arrow, file.iter_batches())
