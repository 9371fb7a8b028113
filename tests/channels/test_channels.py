"""Building channels from a configuration, and channels from outside the package."""

from __future__ import annotations

import sys
import types
from datetime import datetime
from importlib.metadata import EntryPoint
from typing import Any, ClassVar

import pytest
from pydantic import ConfigDict

import watchkeeper.notify  # noqa: F401  importing it registers the built-in channels
from watchkeeper import channels
from watchkeeper.channels import CHANNELS, ChannelSettings, Notice, Secret, build, channel, load_plugins
from watchkeeper.channels.email import Email
from watchkeeper.channels.webhook import Webhook
from watchkeeper.errors import ConfigError, DeliveryError
from watchkeeper.schema import Config
from watchkeeper.testing import check_channel

WEBHOOK = {"type": "webhook", "url": "https://example.org/hook"}
EMAIL = {"type": "email", "host": "mail.example.org", "sender": "a@example.org", "to": ["b@example.org"]}


def config(**settings: Any) -> Config:
    return Config.model_validate({"models": {}, "channels": {"ops": settings}})


def test_the_built_in_channels_are_registered() -> None:
    assert {"console", "webhook", "email"} <= CHANNELS.keys()


@pytest.mark.parametrize("settings", [{"type": "console"}, WEBHOOK, EMAIL])
def test_a_channel_is_built_from_its_settings(settings: dict[str, Any]) -> None:
    built = build(config(**settings))
    assert isinstance(built["ops"], CHANNELS[settings["type"]].make)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("settings", "path", "text"),
    [
        ({"type": "webhok"}, ("type",), 'no channel type "webhok"; did you mean "webhook"?'),
        ({"type": "pigeon"}, ("type",), "console, email, webhook"),
        ({"type": "console", "colour": True}, ("colour",), 'no setting "colour"; known are: details'),
        ({"type": "console", "detail": True}, ("detail",), 'did you mean "details"?'),
        ({"type": "console", "details": "yes"}, ("details",), "found 'yes'"),
        ({"type": "webhook"}, ("url",), "a channel of type webhook needs url"),
        ({**WEBHOOK, "secrt": "s3"}, ("secrt",), 'did you mean "secret"?'),
        ({**WEBHOOK, "url": "example.org"}, ("url",), "url: must be an address that begins with https://"),
        ({**WEBHOOK, "url": "ftp://example.org"}, ("url",), "must be an address"),
        ({**WEBHOOK, "url": "https://exa mple.org:x"}, ("url",), "url: is no address"),
        ({**WEBHOOK, "secret": "env:WK_NO"}, ("secret",), "the environment variable WK_NO is not set"),
        ({**EMAIL, "to": "b@example.org"}, ("to",), "found 'b@example.org'"),
        ({**EMAIL, "to": []}, ("to",), "at least 1"),
        ({**EMAIL, "to": ["b@example.org", "nobody"]}, ("to", 1), '"nobody" is no e-mail address'),
        ({**EMAIL, "sender": "a@example.org\nBcc: c@example.org"}, ("sender",), "is no e-mail address"),
        ({**EMAIL, "port": "25"}, ("port",), "found '25'"),
        ({**EMAIL, "security": "ssl"}, ("security",), "'starttls', 'tls' or 'none'"),
        ({**EMAIL, "username": "u"}, (), "username and password belong together"),
        ({**EMAIL, "username": "u", "password": "p", "security": "none"}, (), "must not travel unencrypted"),
    ],
)  # fmt: skip
def test_a_wrong_setting_names_its_place(settings: dict[str, Any], path: tuple[Any, ...], text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        build(config(**settings), {})
    assert caught.value.path == ("channels", "ops", *path)
    assert text in str(caught.value)
    assert 'channel "ops": ' in str(caught.value)


def test_a_secret_is_read_from_the_environment() -> None:
    built = build(config(type="webhook", url="env:HOOK", secret="env:KEY"), {"HOOK": "http://a.b/c", "KEY": "k"})
    assert isinstance(built["ops"], Webhook)
    assert (str(built["ops"]._url), built["ops"]._secret) == ("http://a.b/c", "k")


def test_a_secret_is_read_from_the_process_where_no_environment_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WK_PASSWORD", "p")
    built = build(config(**EMAIL, username="u", password="env:WK_PASSWORD"))["ops"]
    assert isinstance(built, Email)
    assert built._settings.password is not None
    assert built._settings.password.get_secret_value() == "p"


def test_a_wrong_secret_is_not_shown() -> None:
    with pytest.raises(ConfigError) as caught:
        build(config(type="webhook", url="hxxps://example.org/token"))
    assert "token" not in str(caught.value)
    with pytest.raises(ConfigError) as caught:
        build(config(**WEBHOOK, secret=123456))
    assert "123456" not in str(caught.value)


# From outside the package


class PagerSettings(ChannelSettings):
    key: Secret
    loud: bool = False


class Pager:
    """A channel as somebody else would write it."""

    def __init__(self, settings: PagerSettings) -> None:
        self.settings = settings
        self.sent: list[Notice] = []

    def send(self, notice: Notice, now: datetime) -> None:
        self.sent.append(notice)


def test_a_channel_from_outside_comes_in_by_its_entry_point(monkeypatch: pytest.MonkeyPatch) -> None:
    class Stranger(types.ModuleType):
        def __getattr__(self, name: str) -> Any:
            raise AttributeError(name)

    def entry_points(*, group: str) -> list[EntryPoint]:
        assert group == "watchkeeper.channels"
        channel("pager", PagerSettings)(Pager)  # what importing the stranger's module does
        return [EntryPoint("pager", "stranger_pager", group)]

    monkeypatch.setitem(sys.modules, "stranger_pager", Stranger("stranger_pager"))
    monkeypatch.setattr(channels, "CHANNELS", dict(CHANNELS))
    monkeypatch.setattr(channels, "entry_points", entry_points)
    load_plugins()
    built = build(config(type="pager", key="env:PAGER"), {"PAGER": "k"})["ops"]
    assert isinstance(built, Pager)
    assert built.settings.key.get_secret_value() == "k"
    with pytest.raises(ConfigError, match="did you mean"):
        build(config(type="pager", key="k", lout=True))


def test_no_plugins_is_fine() -> None:
    before = dict(CHANNELS)
    load_plugins()
    assert before.items() <= CHANNELS.items()


# The contract


class LaxSettings(ChannelSettings):
    model_config: ClassVar[ConfigDict] = ConfigDict(extra="allow")


class Altering(Pager):
    """Writes into what it is given."""

    def send(self, notice: Notice, now: datetime) -> None:
        notice.details["seen"] = True


class Failing(Pager):
    """Never delivers."""

    def send(self, notice: Notice, now: datetime) -> None:
        raise DeliveryError("no", permanent=True)


class Undocumented(Pager):
    __doc__ = ""


@pytest.mark.parametrize(
    ("make", "settings", "dead", "text"),
    [
        (Pager, PagerSettings, None, None),
        (Pager, PagerSettings, {"key": "k"}, "does not notice that the receiver cannot be reached"),
        (Pager, LaxSettings, None, "accepts a setting that it does not have"),
        (Altering, PagerSettings, None, "alters the notice 'plain'"),
        (Failing, PagerSettings, None, "does not send the notice 'plain': no"),
        (Undocumented, PagerSettings, None, "needs a docstring"),
    ],
)  # fmt: skip
def test_the_contract_finds_what_is_wrong(
    monkeypatch: pytest.MonkeyPatch,
    make: type[Pager],
    settings: type[ChannelSettings],
    dead: dict[str, Any] | None,
    text: str | None,
) -> None:
    monkeypatch.setattr(channels, "CHANNELS", dict(CHANNELS))
    channel("checked", settings)(make)
    if text is None:
        check_channel(channels.CHANNELS["checked"], {"key": "k"}, dead)
        return
    with pytest.raises(AssertionError, match=text):
        check_channel(channels.CHANNELS["checked"], {"key": "k"}, dead)
