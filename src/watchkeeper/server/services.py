"""What the routes work with, and what they answer when they cannot."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from fastapi import Request

from watchkeeper.errors import WatchkeeperError, did_you_mean
from watchkeeper.keeping import Erasure
from watchkeeper.schema import Config, ModelConfig
from watchkeeper.store.arrivals import Batch
from watchkeeper.store.inbox import Inbox
from watchkeeper.store.log import Log
from watchkeeper.store.privacy import Keys
from watchkeeper.store.state import State


class Operations(Protocol):
    """What the configuration says, and what people may do from the dashboard; the engine offers this."""

    @property
    def config(self) -> Config: ...

    def log_of(self, name: str) -> Log:
        """Where the events of a model are."""

    @property
    def keys(self) -> Keys: ...

    def protect(self, batch: Batch) -> Batch:
        """A batch of events as it may be stored."""

    def acknowledge(self, incident_id: str, actor: str, note: str) -> None:
        """Take an incident on; WatchkeeperError, with a text for people, where that cannot be."""

    def erase(self, subject: str, model: str | None, actor: str) -> Erasure:
        """Erase a subject from everything that is stored, of one model or of all."""

    def resolve(self, incident_id: str, actor: str, note: str) -> None:
        """Declare an incident over; WatchkeeperError, with a text for people, where that cannot be."""


@dataclass(frozen=True)
class Services:
    """What every route works with, kept as `app.state.services`. `token` proves that a form came from here."""

    state: State
    clock: Callable[[], datetime]
    operations: Operations
    inbox: Inbox | None
    title: str
    token: str = field(default_factory=lambda: secrets.token_urlsafe(24))

    @property
    def config(self) -> Config:
        return self.operations.config

    def model(self, name: str) -> ModelConfig:
        """The configuration of a model; RequestError, with the nearest name, where there is none."""
        if name not in self.config.models:
            raise absent("model", name, list(self.config.models))
        return self.config.models[name]


def services(request: Request) -> Services:
    found: Services = request.app.state.services
    return found


class RequestError(WatchkeeperError):
    """A request that cannot be served; `status` is HTTP's number for why, `hint` what to do, `headers` what else goes
    with the answer."""

    def __init__(self, status: int, message: str, hint: str = "", headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.hint, self.headers = status, hint, dict(headers or {})


def absent(kind: str, name: str, known: list[str]) -> RequestError:
    """The answer to a name that nobody bears."""
    return RequestError(404, f'there is no {kind} "{name}"', did_you_mean(name, sorted(known)) if known else "")
