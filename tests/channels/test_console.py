from __future__ import annotations

import sys
from dataclasses import replace
from datetime import datetime
from io import StringIO, TextIOWrapper

import pytest

from watchkeeper.channels import CHANNELS, Notice
from watchkeeper.channels.console import Console, ConsoleSettings
from watchkeeper.errors import DeliveryError
from watchkeeper.testing import check_channel


def test_it_prints_one_line_and_the_details(notice: Notice, now: datetime, capsys: pytest.CaptureFixture[str]) -> None:
    Console(ConsoleSettings()).send(notice, now)
    out, err = capsys.readouterr()
    assert err == ""
    assert out.splitlines() == [f"2013-07-04 15:00 {notice.title}", *(f"  {line}" for line in notice.lines)]


def test_the_details_can_be_left_out(notice: Notice, now: datetime, capsys: pytest.CaptureFixture[str]) -> None:
    Console(ConsoleSettings(details=False)).send(notice, now)
    assert len(capsys.readouterr().out.splitlines()) == 1


def test_a_long_title_stays_on_one_line(notice: Notice, now: datetime, capsys: pytest.CaptureFixture[str]) -> None:
    Console(ConsoleSettings(details=False)).send(replace(notice, title="word " * 100), now)
    assert len(capsys.readouterr().out.splitlines()) == 1


def test_what_looks_like_markup_is_printed_as_it_is(
    notice: Notice, now: datetime, capsys: pytest.CaptureFixture[str]
) -> None:
    Console(ConsoleSettings()).send(replace(notice, title="[red]a[/red] :smile: [/]"), now)
    assert "[red]a[/red] :smile: [/]" in capsys.readouterr().out


class Closed(StringIO):
    def write(self, text: str) -> int:
        raise BrokenPipeError(32, "Broken pipe")


def test_a_closed_output_is_passing(notice: Notice, now: datetime, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", Closed())
    with pytest.raises(DeliveryError, match="the console is gone") as caught:
        Console(ConsoleSettings()).send(notice, now)
    assert not caught.value.permanent


def test_an_output_without_the_letters_is_permanent(
    notice: Notice, now: datetime, monkeypatch: pytest.MonkeyPatch, tmp_path: object
) -> None:
    with open(f"{tmp_path}/out", "wb") as file, TextIOWrapper(file, encoding="ascii") as narrow:  # noqa: PTH123
        monkeypatch.setattr(sys, "stdout", narrow)
        with pytest.raises(DeliveryError, match="cannot show") as caught:
            Console(ConsoleSettings()).send(notice, now)
    assert caught.value.permanent


def test_it_keeps_the_contract() -> None:
    check_channel(CHANNELS["console"], {})
