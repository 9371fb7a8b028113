"""A prediction while it is made: measured, with its errors and timeouts, and logged at its end."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Coroutine, Generator, Mapping
from contextlib import suppress
from contextvars import ContextVar, Token
from dataclasses import dataclass
from time import thread_time
from types import TracebackType
from typing import Any

from watchkeeper import events
from watchkeeper.client.usage import Usage

OK, ERROR, TIMEOUT, CANCELLED = "ok", "error", "timeout", "cancelled"

_FIELDS = frozenset(events.FIELDS[events.PREDICTION]) - {"kind", "model"}
_RESULT = ("score", "prediction")

_current: ContextVar[Prediction | None] = ContextVar("watchkeeper_prediction", default=None)


def current() -> Prediction | None:
    """The prediction that is being made here: in this thread or task, within `with`, a logged function, or a request
    that the middleware watches."""
    return _current.get()


class Prediction:
    """A prediction that is being made. Made by `Client.prediction`.

    Its attributes are the fields of `Client.log`: what was set before or inside is logged at the end. What was not set
    is measured: `latency_ms`, `cpu_ms`, `memory_mb`, `gpu_memory_mb`, `disk_mb`; and `status`, which becomes "error" if
    the block raises (the type goes to the context, as `error`), "timeout" for TimeoutError and "cancelled" if the task
    is cancelled. What it raises is raised on.

    In a coroutine that awaits inside, use `async with`: other tasks then run in the same thread meanwhile, so that
    `cpu_ms` and `disk_mb` are not known.
    """

    def __init__(
        self, log: Callable[..., str], features: Mapping[str, object] | None, fields: Mapping[str, Any]
    ) -> None:
        self._log = log
        self._usage = Usage(own_thread=False)
        self._token: Token[Prediction | None] | None = None
        self.features: Mapping[str, object] = {} if features is None else features
        self.request_id: str | None = None
        self.prediction: object = None
        self.score: object = None
        self.entity_id: object = None
        self.event_time: Any = None
        self.latency_ms: object = None
        self.cpu_ms: object = None
        self.memory_mb: object = None
        self.gpu_memory_mb: object = None
        self.disk_mb: object = None
        self.cost: object = None
        self.status: str | None = None
        self.variant: str = "champion"
        self.version: str | None = None
        self.context: Any = None
        self.set(fields)

    def set(self, fields: Mapping[str, Any]) -> None:
        """Set several fields. Raises TypeError for one that a prediction does not have."""
        for name, value in fields.items():
            if name not in _FIELDS:
                raise TypeError(f'a prediction has no field "{name}"; its fields are {", ".join(sorted(_FIELDS))}')
            setattr(self, name, value)

    def begin(self, *, own_thread: bool = True) -> Prediction:
        """Start measuring, and become `current`."""
        self._token = _current.set(self)
        self._usage = Usage(own_thread=own_thread)
        return self

    def end(self, error: BaseException | None = None, *, log: bool = True) -> None:
        """Stop measuring, and log. What was raised, if anything, decides the status."""
        measured = self._usage.fields()
        if self._token is not None:
            with suppress(ValueError):  # an asynchronous generator may be closed in another context than it began in
                _current.reset(self._token)
            self._token = None
        if not log:
            return
        for name, value in measured.items():
            if getattr(self, name) is None:
                setattr(self, name, value)
        if error is not None:
            self.failed(error)
        fields = {name: getattr(self, name) for name in _FIELDS if name != "features"}
        fields["status"] = self.status or OK
        self.request_id = self._log(self.features, **fields)

    def failed(self, error: BaseException) -> None:
        """Say that the prediction failed, where the error is caught inside and a fallback is answered, for instance."""
        self.status = self.status or (
            TIMEOUT if isinstance(error, TimeoutError) else ERROR if isinstance(error, Exception) else CANCELLED
        )
        if self.context is None or isinstance(self.context, Mapping):
            self.context = {**(self.context or {}), "error": type(error).__name__}

    def __enter__(self) -> Prediction:
        return self.begin()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end(error)

    async def __aenter__(self) -> Prediction:
        return self.begin(own_thread=False)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end(error)


class Stepped:
    """A coroutine that is timed whenever it runs, and not while it waits: its own share of the thread's time."""

    def __init__(self, work: Coroutine[Any, Any, Any]) -> None:
        self._work = work
        self.cpu_ms = 0.0

    def __await__(self) -> Generator[Any, Any, Any]:
        step: Callable[[Any], Any] = self._work.send
        given: Any = None
        while True:
            start = thread_time()
            try:
                wanted = step(given)
            except StopIteration as done:
                return done.value
            finally:
                self.cpu_ms += (thread_time() - start) * 1e3
            try:
                given, step = (yield wanted), self._work.send
            except BaseException as problem:  # noqa: BLE001 (goes on into the coroutine, as it would have)
                given, step = problem, self._work.throw


@dataclass(frozen=True, slots=True)
class Logged:
    """How the calls of a function become predictions; see `Client.logged`."""

    features: Callable[..., Mapping[str, object]] | None
    result: Callable[[Any], Mapping[str, object]] | None
    fields: Mapping[str, Any]


def logged(
    prediction: Callable[..., Prediction], function: Callable[..., Any] | None, how: Logged
) -> Callable[..., Any]:
    """The function, whose calls are logged; or, without one, the decorator."""
    if function is None:
        return lambda given: logged(prediction, given, how)
    signature = inspect.signature(function)

    def begun(arguments: tuple[Any, ...], named: dict[str, Any]) -> Prediction:
        return prediction(_features(how.features, signature, arguments, named), **how.fields)

    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def awaited(*arguments: Any, **named: Any) -> Any:
            async with begun(arguments, named) as made:
                work = Stepped(function(*arguments, **named))
                try:
                    answer = await work
                finally:
                    made.cpu_ms = work.cpu_ms if made.cpu_ms is None else made.cpu_ms
                _take(made, how.result, answer)
            return answer

        return awaited

    @functools.wraps(function)
    def called(*arguments: Any, **named: Any) -> Any:
        with begun(arguments, named) as made:
            answer = function(*arguments, **named)
            _take(made, how.result, answer)
        return answer

    return called


def _features(
    of: Callable[..., Mapping[str, object]] | None,
    signature: inspect.Signature,
    arguments: tuple[Any, ...],
    named: dict[str, Any],
) -> Any:
    """The features out of a call; none if they cannot be had, so that the call goes on all the same."""
    try:
        if of is not None:
            return of(*arguments, **named)
        if arguments and isinstance(arguments[0], Mapping):
            return arguments[0]
        bound = signature.bind(*arguments, **named).arguments
        first = next(iter(bound.values()), None)
        return first if len(bound) == 1 and isinstance(first, Mapping) else bound
    except Exception:  # noqa: BLE001 (the function itself will tell its caller what is wrong with the call)
        return {}


def _take(made: Prediction, of: Callable[[Any], Mapping[str, object]] | None, answer: Any) -> None:
    """Set what the function answered, where that can be told."""
    try:
        if of is not None:
            made.set(of(answer))
        elif isinstance(answer, Mapping):
            made.set({name: answer[name] for name in _RESULT if name in answer})
        elif made.score is None and not isinstance(answer, str):
            made.score = float(answer)
    except Exception:  # noqa: BLE001 (the answer goes to the caller whatever it is)
        return
