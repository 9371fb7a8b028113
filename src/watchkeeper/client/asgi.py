"""Predictions of a web application, one a request: ASGI middleware for any framework."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from fnmatch import fnmatchcase
from typing import Any

from watchkeeper.client.client import Client
from watchkeeper.client.prediction import ERROR, TIMEOUT, Stepped

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_TIMED_OUT = 504
_FAILED = 500


class PredictionMiddleware:
    """Logs one prediction for each request to some paths: how long it took until the answer was sent, what it used, and
    whether it failed.

        app.add_middleware(PredictionMiddleware, client=client, paths=["/predict"])

        @app.post("/predict")
        def predict(request: Request, flight: Flight) -> float:
            p = request.state.prediction            # or watchkeeper.client.current()
            p.features = flight.model_dump()
            p.score = model(p.features)
            return p.score

    The application says what was predicted, through `scope["state"]["prediction"]` (`request.state.prediction` in
    Starlette and FastAPI) or `current()`. A request whose features were not set was none for a prediction (it was
    refused as malformed, for instance) and is not logged, unless it failed: with an exception or an answer from 500 on
    (504 is a timeout), which `error_rate` counts.

    Args:
        app: the application.
        client: what logs.
        paths: of the requests, exact or with `*` and `?`.
        fields: as for `Client.log`, for each request.
    """

    def __init__(self, app: App, *, client: Client, paths: Iterable[str], **fields: Any) -> None:
        self._app, self._client, self._paths, self._fields = app, client, tuple(paths), fields

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not any(fnmatchcase(scope["path"], path) for path in self._paths):
            await self._app(scope, receive, send)
            return
        prediction = self._client.prediction(**self._fields)
        scope.setdefault("state", {})["prediction"] = prediction
        answered = 0

        async def noting(message: MutableMapping[str, Any]) -> None:
            nonlocal answered
            if message["type"] == "http.response.start":
                answered = message["status"]
            await send(message)

        async def work() -> None:
            await self._app(scope, receive, noting)

        problem: BaseException | None = None
        prediction.begin(own_thread=False)
        stepped = Stepped(work())
        try:
            await stepped
        except BaseException as raised:
            problem = raised
            raise
        finally:
            if prediction.cpu_ms is None:
                prediction.cpu_ms = stepped.cpu_ms
            if problem is None and answered >= _FAILED:
                prediction.status = prediction.status or (TIMEOUT if answered == _TIMED_OUT else ERROR)
            prediction.end(problem, log=bool(prediction.features) or answered >= _FAILED or problem is not None)
