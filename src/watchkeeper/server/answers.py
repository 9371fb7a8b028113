"""Questions to the log over HTTP: a page of predictions as JSON, or all of them as a file."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import IO, Annotated, Literal

from fastapi import APIRouter, Depends, Query
from fastapi.responses import JSONResponse, Response, StreamingResponse

from watchkeeper.server.services import RequestError, Services, services
from watchkeeper.store import exports, questions
from watchkeeper.store.exports import Format

router = APIRouter(tags=["read"])
Served = Annotated[Services, Depends(services)]

PAGE, LARGEST_PAGE = 100, 1000
"""Predictions on a page of JSON."""
AT_ONCE, PATIENCE = threading.BoundedSemaphore(4), 10.0
"""Questions that are answered at the same time, so that events are taken in meanwhile; seconds that others wait."""
PIECE = 1 << 20


@router.get("/api/v1/models/{model}/events", response_model=None)
def events(
    model: str,
    served: Served,
    where: Annotated[
        list[str] | None, Query(description="A condition, such as `distance > 500`; all must hold.")
    ] = None,
    since: Annotated[str, Query(description="ISO 8601, UTC where it has no zone, or how long ago: `7d`.")] = "",
    until: Annotated[str, Query(description="The same; just before it ends.")] = "",
    user: Annotated[list[str] | None, Query(description="An entity id, as it was before it was protected.")] = None,
    request: Annotated[list[str] | None, Query(description="A request id.")] = None,
    version: Annotated[list[str] | None, Query(description="A version of the model.")] = None,
    error: Annotated[str, Query(description="On how far the score lies from the label: `>= 0.5`.")] = "",
    order: Annotated[str, Query(description="`newest`, `oldest`, `error` or `slowest` first.")] = "newest",
    limit: Annotated[
        int | None, Query(description="How many: as JSON 100 and 1000 at most, in a file all, if not said.")
    ] = None,
    after: Annotated[str, Query(description="What `next` was on the page before.")] = "",
    format: Annotated[
        Literal["json", "parquet", "csv", "arrow"], Query(description="JSON is a page, the others are files.")
    ] = "json",
) -> Response:
    """The predictions that a question asks for, each with its features and its latest label.

    As JSON `{"data": [...], "next": ..., "question": ...}`: `next` is where the next page begins, null on the last one.
    A file is complete when it begins to be sent; its metadata say model, question and configuration.
    """
    config = served.model(model)
    form = None if format == "json" else Format(format)
    if form is None:
        limit = PAGE if limit is None else min(limit, LARGEST_PAGE)
    asked = questions.read(
        config, served.operations.keys, served.clock(), where=where or (), since=since, until=until, user=user or (),
        request=request or (), version=version or (), error=error, order=order, limit=limit, after=after,
    )  # fmt: skip
    if form is None:
        with _turn(), served.operations.log_of(model).answer(model, asked) as batches:
            rows = batches.read_all().to_pylist()
        following = str(questions.place(asked, rows[-1])) if len(rows) == asked.limit else None
        data = [questions.event(row) for row in rows]
        return JSONResponse({"data": data, "next": following, "question": str(asked)})
    file = _made(form, served, model, asked)
    headers = {"Content-Disposition": f'attachment; filename="{model}.{form}"', "Content-Length": str(file.tell())}
    return StreamingResponse(_pieces(file), media_type=exports.MEDIA[form], headers=headers)


def _made(form: Format, served: Services, model: str, asked: questions.Question) -> IO[bytes]:
    """The answer in a file without a name, so that a slow reader keeps nobody from the log, and what goes wrong is
    told before anything is sent."""
    file = tempfile.TemporaryFile()  # noqa: SIM115 (it is closed once it was sent)
    try:
        with _turn(), served.operations.log_of(model).answer(model, asked) as batches:
            exports.write(exports.described(batches, model, asked, served.config), file, form)
    except BaseException:
        file.close()
        raise
    return file


@contextmanager
def _turn() -> Iterator[None]:
    if not AT_ONCE.acquire(timeout=PATIENCE):
        raise RequestError(503, "the server is answering other questions", "try again in a moment")
    try:
        yield
    finally:
        AT_ONCE.release()


def _pieces(file: IO[bytes]) -> Iterator[bytes]:
    with closing(file):
        file.seek(0)
        while piece := file.read(PIECE):
            yield piece
