"""Channels: how a notice reaches people, in one registry that strangers may add to.

A channel is a small class that is built from its settings and has one method, `send`. To add one, write the class,
register it, and name its module under the entry point group `watchkeeper.channels`:

    class PagerSettings(ChannelSettings):
        key: Secret

    @channel("pager", PagerSettings)
    class Pager:
        def __init__(self, settings: PagerSettings) -> None: ...
        def send(self, notice: Notice, now: datetime) -> None: ...
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from importlib.metadata import entry_points
from typing import Annotated, Any, Protocol, TypeVar, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, SecretStr, ValidationError, ValidationInfo
from pydantic_core import ErrorDetails, PydanticCustomError

from watchkeeper.errors import ConfigError, DeliveryError, did_you_mean
from watchkeeper.records import Severity
from watchkeeper.schema import ChannelConfig, Config

GROUP = "watchkeeper.channels"


@dataclass(frozen=True, slots=True)
class Notice:
    """What a channel is given to say: one step in the life of an incident, a rollout or an action.

    It holds numbers about columns, never rows of features.

    Attributes:
        id: the delivery's id, the same each time it is sent again, so that a receiver can drop repeats.
        title: one line: severity, model, what, and where it stands.
        subject: the id of the incident, rollout or action; the same for all notices about it.
        before, after: its states, such as "open" and "resolved"; `before` is "new" for the first notice.
        reason: why it changed, as a sentence.
        actor: who changed it: "watchkeeper" or a person.
        note: what was said with the change; often "".
        lines: the whole message in plain text.
        details: the subject as JSON can carry it: its "kind", and what is known of it.
    """

    id: str
    title: str
    severity: Severity
    model: str
    subject: str
    before: str
    after: str
    reason: str
    at: datetime
    actor: str
    note: str
    lines: tuple[str, ...]
    details: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """The same as JSON can carry it; times are ISO 8601 in UTC."""
        found = {field.name: getattr(self, field.name) for field in fields(self)}
        return found | {
            "severity": str(self.severity),
            "at": self.at.astimezone(UTC).isoformat(),
            "lines": list(self.lines),
        }


class Channel(Protocol):
    """Where notices go."""

    def send(self, notice: Notice, now: datetime) -> None:
        """Hand the notice over; when this returns, the receiver has it.

        The same notice may come again after a crash, with the same id. Whatever takes long must give up within
        about ten seconds.

        Raises DeliveryError: `permanent` if the receiver will never take it, passing if it is worth trying again;
        RetryLaterError if the receiver said when.
        """


class RetryLaterError(DeliveryError):
    """The receiver is busy and said how long it wants to be left alone: `after`."""

    def __init__(self, message: str, after: timedelta) -> None:
        super().__init__(message, permanent=False)
        self.after = after


class ChannelSettings(BaseModel):
    """What a channel can be told in the configuration; unknown keys and wrong types are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


def _from_environment(value: object, info: ValidationInfo) -> object:
    if not (isinstance(value, str) and value.startswith("env:")):
        return value
    name = value.removeprefix("env:")
    found = (info.context or {}).get("environ", os.environ).get(name)
    if not found:
        raise PydanticCustomError(
            "environment", "the environment variable {name} is not set; set it, or write the value", {"name": name}
        )
    return found


Secret = Annotated[SecretStr, BeforeValidator(_from_environment)]
"""A setting that is never shown. Written as `env:NAME` it is read from the environment when the channel is built."""


@dataclass(frozen=True, slots=True)
class ChannelType:
    """A kind of channel: its name in a configuration, its settings, and what builds it from them."""

    name: str
    settings: type[ChannelSettings]
    make: Callable[[Any], Channel]


CHANNELS: dict[str, ChannelType] = {}
"""Every known kind of channel by name. Importing `watchkeeper.notify` fills it."""

Maker = TypeVar("Maker", bound=Callable[[Any], Channel])


def channel(name: str, settings: type[ChannelSettings]) -> Callable[[Maker], Maker]:
    """Register a class as the channel of this type name."""

    def register(make: Maker) -> Maker:
        CHANNELS[name] = ChannelType(name, settings, make)
        return make

    return register


def load_plugins() -> None:
    """Import the modules that other packages offer under the entry point group `watchkeeper.channels`."""
    for point in entry_points(group=GROUP):
        point.load()


def build(config: Config, environ: Mapping[str, str] | None = None) -> dict[str, Channel]:
    """The channels of a configuration, by their names there.

    Args:
        environ: where `env:NAME` is looked up; the process's environment for None.

    Raises ConfigError, with its path in the configuration, for an unknown type, a wrong setting or a variable that
    is not set. Nothing is connected to yet.
    """
    variables = os.environ if environ is None else environ
    return {name: _build(name, channel, variables) for name, channel in config.channels.items()}


def _build(name: str, config: ChannelConfig, environ: Mapping[str, str]) -> Channel:
    kind = CHANNELS.get(config.type)
    if kind is None:
        raise ConfigError(
            f'channel "{name}": there is no channel type "{config.type}"; {did_you_mean(config.type, CHANNELS)}',
            ("channels", name, "type"),
        )
    try:
        settings = kind.settings.model_validate(config.settings, context={"environ": environ})
    except ValidationError as problem:
        first = problem.errors(include_url=False)[0]
        text, place = _explained(kind, first), tuple(first["loc"])
        raise ConfigError(f'channel "{name}": {text}', ("channels", name, *place)) from None
    return kind.make(settings)


def _explained(kind: ChannelType, error: ErrorDetails) -> str:
    key = str(error["loc"][0]) if error["loc"] else ""
    known = {field.alias or name: field for name, field in kind.settings.model_fields.items()}
    if error["type"] == "extra_forbidden":
        return f'a channel of type {kind.name} has no setting "{key}"; {did_you_mean(key, known)}'
    if error["type"] == "missing":
        return f"a channel of type {kind.name} needs {key}; add it"
    said = error["msg"].removeprefix("Value error, ")
    text = f"{key}: {said[0].lower()}{said[1:]}" if key else said
    if error["type"] in ("value_error", "environment") or (key in known and _is_secret(known[key].annotation)):
        return text
    return f"{text}, found {error['input']!r}"


def _is_secret(annotation: Any) -> bool:
    return annotation is SecretStr or any(_is_secret(inner) for inner in get_args(annotation))
