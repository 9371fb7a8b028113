from __future__ import annotations

from pathlib import Path

import pytest

from watchkeeper.errors import DataError
from watchkeeper.store.files import write


def test_a_text_is_written_over_what_was_there(tmp_path: Path) -> None:
    write(tmp_path / "a.txt", "a longer text")
    write(str(tmp_path / "a.txt"), "käse")
    assert (tmp_path / "a.txt").read_text(encoding="utf-8") == "käse"


def test_a_new_file_replaces_none(tmp_path: Path) -> None:
    write(tmp_path / "a.txt", "first", new=True)
    with pytest.raises(DataError, match=r"a\.txt is there already and may have been edited; choose another name"):
        write(tmp_path / "a.txt", "second", new=True)
    assert (tmp_path / "a.txt").read_text(encoding="utf-8") == "first"


def test_a_place_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a\.txt cannot be written: No such file or directory; choose another place"):
        write(tmp_path / "nowhere" / "a.txt", "text")
