"""The byte search: what is there is found, in any form, across pieces, and what is not is not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from watchkeeper.store import search as module
from watchkeeper.store.search import _forms, _main, search

NAME = "Zoë.Müller@example.org"


@pytest.mark.parametrize(
    "data", [NAME.encode(), NAME.encode("utf-16-le"), NAME.encode("utf-16-be"), json.dumps({"x": NAME}).encode()]
)
def test_a_text_is_found_in_every_form(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "file.bin").write_bytes(b"\0\xff" * 100 + data + b"\0")
    (tmp_path / "other").write_bytes(b"nothing")
    found = search(tmp_path, ["somebody else", NAME])
    assert found.found == ("deep/file.bin",)
    assert (found.files, found.bytes) == (2, 200 + len(data) + 1 + 7)
    assert search(tmp_path, ["somebody else"]).found == ()


def test_a_name_of_a_file_is_looked_at_too(tmp_path: Path) -> None:
    (tmp_path / "of somebody.txt").write_bytes(b"")
    assert search(tmp_path, ["somebody"]).found == ("of somebody.txt",)


@pytest.mark.parametrize("cut", [1, 3, 7])
def test_what_lies_across_two_pieces_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cut: int) -> None:
    monkeypatch.setattr(module, "CHUNK", 16)
    (tmp_path / "file").write_bytes(b"." * (16 - cut) + b"somebody" + b"." * 40)
    assert _main(tmp_path, [*_forms("somebody")])["found"] == ["file"]


def test_nothing_to_look_for_finds_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"data")
    assert search(tmp_path, []).found == ()
