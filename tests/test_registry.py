"""The registry: what is added is what is loaded, or nothing is."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import toy_trainer
from watchkeeper.errors import ModelError
from watchkeeper.registry import MANIFEST, Registry, Route, checked, resolve

ROWS = pa.table({"x": [0.1, 0.9]})


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "registry")


@pytest.fixture
def files(tmp_path: Path) -> Path:
    folder = tmp_path / "files"
    (folder / "parts").mkdir(parents=True)
    (folder / "parts" / "weights.bin").write_bytes(b"\x00\x01")
    toy_trainer.write(folder, kind="constant", value=0.25)
    return folder


def add(registry: Registry, files: Path, **facts: Any) -> str:
    return registry.add("loans", files, "toy_trainer:load", facts).version


def test_what_is_added_is_loaded_with_its_facts(registry: Registry, files: Path) -> None:
    manifest = registry.add("loans", files, "toy_trainer:load", {"rows": 10})
    assert manifest == registry.manifest("loans", "v1")
    assert set(manifest.files) == {"rule.json", "parts/weights.bin"}
    assert manifest.facts == {"rows": 10}
    assert registry.load("loans", "v1").scores(ROWS).tolist() == [0.25, 0.25]


def test_versions_are_numbered_in_their_order_beyond_nine(registry: Registry, files: Path) -> None:
    assert [add(registry, files) for _ in range(11)] == registry.versions("loans") == [f"v{i}" for i in range(1, 12)]
    assert registry.versions("nobody") == []


def test_a_number_is_not_given_again_where_an_old_version_was_taken_away(registry: Registry, files: Path) -> None:
    add(registry, files)
    add(registry, files)
    for path in sorted((registry.folder / "loans" / "v1").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    (registry.folder / "loans" / "v1").rmdir()
    assert add(registry, files) == "v3"


def test_the_same_key_twice_is_one_version(registry: Registry, files: Path) -> None:
    first = registry.add("loans", files, "toy_trainer:load", {}, key="action-1")
    again = registry.add("loans", files, "toy_trainer:load", {"more": 1}, key="action-1")
    other = registry.add("loans", files, "toy_trainer:load", {}, key="action-2")
    assert first == again
    assert registry.versions("loans") == [first.version, other.version] == ["v1", "v2"]


@pytest.mark.parametrize("change", ["altered", "gone", "longer"])
def test_a_version_whose_files_are_not_what_was_registered_is_not_loaded(
    registry: Registry, files: Path, change: str
) -> None:
    add(registry, files)
    path = registry.folder / "loans" / "v1" / "parts" / "weights.bin"
    if change == "gone":
        path.unlink()
    else:
        path.write_bytes(b"\x00\x02" if change == "altered" else b"\x00\x01\x00")
    with pytest.raises(ModelError, match=r"weights\.bin is not what was registered: expected \w{12}, found"):
        registry.load("loans", "v1")


def test_a_copy_that_was_broken_off_is_no_version_and_is_begun_anew(
    registry: Registry, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dies(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", dies)
        with pytest.raises(KeyboardInterrupt):
            add(registry, files)
    assert registry.versions("loans") == []
    assert add(registry, files) == "v1"
    assert registry.load("loans", "v1")
    assert sorted(path.name for path in (registry.folder / "loans").iterdir()) == ["v1"]


def test_a_folder_without_a_manifest_is_told_of_and_not_overwritten(registry: Registry, files: Path) -> None:
    (registry.folder / "loans" / "v1").mkdir(parents=True)
    with pytest.raises(ModelError, match=r"broken version .*v1 without a manifest; remove it"):
        add(registry, files)


def test_other_folders_are_no_versions(registry: Registry, files: Path) -> None:
    add(registry, files)
    for name in ("backup", "v1-old", "v01", ".v2.part"):
        folder = registry.folder / "loans" / name
        folder.mkdir()
        (folder / MANIFEST).write_text("{}")
    assert registry.versions("loans") == ["v1"]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"model": "loans"}', "\x00"])
def test_a_manifest_or_route_that_cannot_be_read_is_told_of_by_name(registry: Registry, files: Path, text: str) -> None:
    add(registry, files)
    (registry.folder / "loans" / "v1" / MANIFEST).write_text(text)
    with pytest.raises(ModelError, match=r"v1/manifest\.json cannot be read as a manifest: .*; restore it"):
        registry.load("loans", "v1")
    (registry.folder / "loans" / "route.json").write_text(text)
    with pytest.raises(ModelError, match=r"route\.json cannot be read as a route: .*; restore it"):
        registry.route("loans")


def test_a_file_called_like_the_manifest_is_refused(registry: Registry, files: Path) -> None:
    (files / MANIFEST).write_text("{}")
    with pytest.raises(ModelError, match="a name that the registry needs"):
        add(registry, files)


def test_a_version_that_is_not_there_is_told_of(registry: Registry) -> None:
    with pytest.raises(ModelError, match='there is no version "v9" of model "loans"'):
        registry.load("loans", "v9")


def test_the_route_is_read_back_and_replaced_whole(registry: Registry) -> None:
    assert registry.route("loans") is None
    for route in (Route("v1"), Route("v1", "", "v2", 0.05), Route("v2", "v1")):
        registry.set_route("loans", route)
        assert registry.route("loans") == route
    assert [path.name for path in (registry.folder / "loans").iterdir()] == ["route.json"]


def test_a_route_that_is_being_written_is_never_seen_half(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    registry.set_route("loans", Route("v1"))

    def dies(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", dies)
    with pytest.raises(KeyboardInterrupt):
        registry.set_route("loans", Route("v2"))
    assert registry.route("loans") == Route("v1")


def test_a_route_that_somebody_else_writes_at_the_same_time_is_noticed(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    def replace(self: Path, target: Path) -> None:
        os.rename(self, target)  # noqa: PTH104 (Path's own is the one replaced here)
        target.write_text(json.dumps({"champion": "somebody else's"}))

    monkeypatch.setattr(Path, "replace", replace)
    with pytest.raises(ModelError, match="is another process writing it"):
        registry.set_route("loans", Route("v2"))


@pytest.mark.parametrize("name", ["nowhere:load", "toy_trainer:nothing_of_the_kind", "toy_trainer", "", ":", "a.b.c:d"])
def test_a_loader_that_is_not_there_is_told_of(name: str) -> None:
    with pytest.raises(ModelError, match=f'"{name}" cannot be loaded: .*must be module:function and importable'):
        resolve(name)


@pytest.mark.parametrize(
    ("scores", "said"),
    [
        ([0.1], r"one score a row, shape \(2,\), found shape \(1,\)"),
        ([[0.1, 0.9], [0.2, 0.8]], r"found shape \(2, 2\)"),
        ([0.1, 1.01], "between 0 and 1, found 1.01 among 2"),
        ([np.nan, 0.5], "between 0 and 1, found nan"),
        ([-0.001, 0.5], "between 0 and 1, found -0.001"),
    ],
)
def test_answers_that_are_no_probabilities_are_refused(scores: Any, said: str) -> None:
    with pytest.raises(ModelError, match=said):
        checked(scores, 2)


def test_answers_in_any_form_of_numbers_are_taken() -> None:
    assert checked([0, 1], 2).tolist() == [0.0, 1.0]
    assert checked(np.array([0.5], dtype=np.float32), 1).dtype == np.float64
    assert checked(pa.array([0.5]), 1).tolist() == [0.5]
    assert len(checked([], 0)) == 0
