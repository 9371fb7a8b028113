"""The registry: model versions in a local folder, each with a manifest of content hashes, and who serves what.

    registry/MODEL/VERSION/...            a version's files, as its trainer wrote them
    registry/MODEL/VERSION/manifest.json  loader, origin, facts and the SHA-256 of every file
    registry/MODEL/route.json             champion, previous champion, candidate and its share of the traffic

Serving processes read `route.json`; only the engine writes it, from its state, by atomic replacement.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import re
import shutil
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from watchkeeper.errors import ModelError

MANIFEST = "manifest.json"
VERSION = re.compile(r"v[1-9][0-9]*")


class Predictor(Protocol):
    """A loaded model."""

    def scores(self, features: pa.Table) -> NDArray[np.float64]:
        """The probability of the positive class for each row, shape (rows,), in [0, 1]."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a version is: its files' hashes, the `module:function` that loads it, and facts of its making."""

    model: str
    version: str
    loader: str
    files: dict[str, str]
    facts: dict[str, Any]
    key: str = ""


@dataclass(frozen=True, slots=True)
class Route:
    """Who serves: the candidate, if there is one, takes `share` of the entities, the champion the rest."""

    champion: str
    previous: str = ""
    candidate: str = ""
    share: float = 0.0


Row = TypeVar("Row", Manifest, Route)


class Registry:
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def add(
        self, model: str, files: Path, loader: str, facts: dict[str, Any], key: str = "", taken: Collection[str] = ()
    ) -> Manifest:
        """Take over a folder of files as the model's next version (`v1`, `v2`, ...).

        Args:
            key: names what the version came of; adding again under the same key gives the version that is there.
            taken: versions that are known from elsewhere, whose names cannot be given again.
        """
        versions = self.versions(model)
        for manifest in (self.manifest(model, version) for version in versions if key):
            if manifest.key == key:
                return manifest
        if (files / MANIFEST).exists():
            raise ModelError(f"{files} holds a file {MANIFEST}, a name that the registry needs; write it elsewhere")
        used = [*versions, *(name for name in taken if VERSION.fullmatch(name))]
        version = f"v{max(map(_number, used), default=0) + 1}"
        target = self.folder / model / version
        if target.exists():
            raise ModelError(f"the registry holds a broken version {target} without a manifest; remove it")
        hashes = {p.relative_to(files).as_posix(): _digest(p) for p in sorted(files.rglob("*")) if p.is_file()}
        manifest = Manifest(model, version, loader, hashes, facts, key)
        target.parent.mkdir(parents=True, exist_ok=True)
        waiting = target.with_name(f".{version}.part")
        shutil.rmtree(waiting, ignore_errors=True)
        shutil.copytree(files, waiting)
        (waiting / MANIFEST).write_text(json.dumps(asdict(manifest), indent=2), encoding="utf-8")
        waiting.replace(target)
        return manifest

    def versions(self, model: str) -> list[str]:
        """The model's versions, oldest first. A folder with another name, or without a manifest, is none."""
        found = [path.parent.name for path in (self.folder / model).glob(f"*/{MANIFEST}")]
        return sorted((name for name in found if VERSION.fullmatch(name)), key=_number)

    def manifest(self, model: str, version: str) -> Manifest:
        """The manifest of a version; ModelError if there is none or it cannot be read."""
        path = self.folder / model / version / MANIFEST
        if not VERSION.fullmatch(version) or not path.is_file():
            raise ModelError(f'there is no version "{version}" of model "{model}" in {self.folder}')
        return _read(path, Manifest)

    def load(self, model: str, version: str) -> Predictor:
        """Load a version after checking its files against its manifest; ModelError if any was altered."""
        manifest = self.manifest(model, version)
        folder = self.folder / model / version
        for name, digest in manifest.files.items():
            path = folder / name
            found = _digest(path) if path.is_file() else "nothing"
            if found != digest:
                raise ModelError(f"{path} is not what was registered: expected {digest[:12]}, found {found[:12]}")
        loader: Callable[[Path], Predictor] = resolve(manifest.loader)
        return loader(folder)

    def route(self, model: str) -> Route | None:
        """Who serves the model now; None before its first champion."""
        path = self.folder / model / "route.json"
        return _read(path, Route) if path.is_file() else None

    def set_route(self, model: str, route: Route) -> None:
        """Change who serves, at one stroke, and read it back."""
        path = self.folder / model / "route.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        waiting = path.with_suffix(f".{os.getpid()}.part")
        with waiting.open("w", encoding="utf-8") as file:
            file.write(json.dumps(asdict(route), indent=2))
            file.flush()
            os.fsync(file.fileno())
        waiting.replace(path)
        if self.route(model) != route:
            raise ModelError(f"{path} does not hold what was written to it; is another process writing it?")


def resolve(name: str) -> Any:
    """The object that `module:function` names; ModelError if there is none."""
    module, _, attribute = name.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as problem:
        raise ModelError(
            f'"{name}" cannot be loaded: {problem}; it must be module:function and importable'
        ) from problem


def checked(scores: Any, rows: int) -> NDArray[np.float64]:
    """What a model answered, as one probability a row; ModelError if it is anything else."""
    found = np.asarray(scores, dtype=float)
    if found.shape != (rows,):
        raise ModelError(f"a model must give one score a row, shape ({rows},), found shape {found.shape}")
    wrong = found[~((found >= 0) & (found <= 1))]
    if len(wrong):
        raise ModelError(f"a model's scores must lie between 0 and 1, found {wrong[0]} among {rows:,}")
    return found


def _number(version: str) -> int:
    return int(version[1:])


def _read(path: Path, kind: type[Row]) -> Row:
    try:
        return kind(**json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as problem:
        raise ModelError(f"{path} cannot be read as a {kind.__name__.lower()}: {problem}; restore it") from problem


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
