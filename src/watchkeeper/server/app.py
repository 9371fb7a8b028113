"""The application: the routes put together, with security headers and one way to answer errors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.datastructures import Headers as RequestHeaders
from starlette.exceptions import HTTPException
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from watchkeeper.errors import QuestionError, StateError, WatchkeeperError
from watchkeeper.server import (
    answers,
    api,
    assets,
    cloudevents,
    curve_pages,
    erasures,
    incident_pages,
    ingest,
    pages,
    quarantine,
    series,
)
from watchkeeper.server.access import Access
from watchkeeper.server.commit import Committer
from watchkeeper.server.rendering import page
from watchkeeper.server.services import Operations, RequestError, Services
from watchkeeper.store.inbox import Inbox
from watchkeeper.store.state import State

__all__ = ["ROUTERS", "Operations", "create_app"]

ROUTERS = (
    ingest.router, cloudevents.router, pages.router, incident_pages.router, curve_pages.router, api.router,
    answers.router, series.router, erasures.router, quarantine.router, assets.router,
)  # fmt: skip
"""The routes are tried in this order, so those that are asked for most come first."""
MACHINES = ("/api/", "/v1/", "/healthz", "/static/")
"""Addresses that machines ask; they are told errors as JSON."""

POLICY = (
    "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; object-src 'none';"
    " base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
"""Nothing from elsewhere and no script in a page. Styles in a page are for Plotly alone, which writes its own."""

HEADERS = [
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
]


def create_app(
    state: State,
    *,
    clock: Callable[[], datetime],
    operations: Operations,
    inbox: Inbox | None = None,
    title: str = "",
    hosts: Sequence[str] = (),
    keyless: bool = False,
) -> FastAPI:
    """The dashboard, the JSON interface and, given an inbox, the way in for events.

    Args:
        clock: says the time, in UTC.
        hosts: the host names that requests may be for; any, if there are none. A server on the loopback address
            names its own, so that no web page can reach it under a name of that page's.
        keyless: let everybody in as long as no API key was ever made.
        title: shown beside the product's name, to tell one installation from another.
    """
    app = FastAPI(title="watchkeeper", docs_url=None, redoc_url=None, openapi_url="/api/v1/openapi.json")
    app.state.services = Services(state, clock, operations, inbox, title)
    app.state.committer = Committer(inbox, operations.protect) if inbox else None
    for router in ROUTERS:
        app.include_router(router)
    for kind in (HTTPException, RequestValidationError, WatchkeeperError):
        app.add_exception_handler(kind, answer)
    app.add_exception_handler(Exception, failure)
    app.add_middleware(Guard, access=Access(state, keyless=keyless))
    app.add_middleware(Headers)
    if hosts:
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(hosts))
    return app


class Headers:
    """Sets the security headers on every answer."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *HEADERS]
            await send(message)

        await self.app(scope, receive, with_headers if scope["type"] == "http" else send)


def refuse_foreign(scope: Scope) -> None:
    """Refuse what a page of another site has a browser send: it would come with the browser's own rights."""
    site = RequestHeaders(scope=scope).get("sec-fetch-site", "none")
    if scope["method"] not in ("GET", "HEAD", "OPTIONS") and site not in ("none", "same-origin"):
        raise RequestError(403, "this request was made by a page of another site", "make it from a page of this server")


class Guard:
    """Lets a request through to its route if it may be served."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self.app, self.access = app, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            try:
                refuse_foreign(scope)
                await self.access.check(scope)
            except WatchkeeperError as problem:
                response = answer(Request(scope), problem)
                await response(scope, receive, send)
                return
        await self.app(scope, receive, send)


def answer(request: Request, error: Exception) -> Response:
    """An error, told to a machine as JSON and to a person as a page."""
    status, message, hint = explained(error)
    if request.url.path.startswith(MACHINES):
        response: Response = JSONResponse({"error": {"message": message} | ({"hint": hint} if hint else {})}, status)
        asked = "Bearer"
    else:
        response = page(request, "error.html", status, code=status, message=message, hint=hint)
        asked = 'Basic realm="watchkeeper: any name, and an API key as password", charset="UTF-8"'
    if status == 401:
        response.headers["www-authenticate"] = asked
    if isinstance(error, RequestError):
        response.headers.update(error.headers)
    return response


def failure(request: Request, error: Exception) -> Response:
    """The answer to a mistake of ours; it is given outside of `Headers`, so it sets them itself."""
    response = answer(request, error)
    for name, value in HEADERS:
        response.headers[name.decode()] = value.decode()
    return response


def explained(error: Exception) -> tuple[int, str, str]:
    """HTTP's number, what was wrong, and what to do."""
    if isinstance(error, RequestError):
        return error.status, str(error), error.hint
    if isinstance(error, RequestValidationError):
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"][1:])
        return 422, f"{where}: {first['msg']}", "correct the address and try again"
    if isinstance(error, HTTPException):
        if error.status_code == 404:
            return 404, "there is nothing at this address", "check the address"
        return error.status_code, str(error.detail), ""
    if isinstance(error, QuestionError):
        return 422, str(error), ""
    if isinstance(error, StateError):
        return 503, str(error), "try again in a moment"
    return 500, "something went wrong on the server", "try again; the server's log says more"
