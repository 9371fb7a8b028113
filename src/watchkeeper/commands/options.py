"""What commands share: their options, the two streams, where findings go, and the way to the store."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Protocol

import typer
from rich.console import Console

from watchkeeper import config
from watchkeeper.errors import StateError
from watchkeeper.schema import Config
from watchkeeper.settings import StoreConfig
from watchkeeper.store.places import STATE, open_state
from watchkeeper.store.state import State

out, err = Console(), Console(stderr=True)

Store = Annotated[Path, typer.Option(help="Folder that holds the log, the state and the models.")]
ConfigFile = Annotated[Path, typer.Option("--config", help="The configuration.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print data instead of words.")]
STORE, CONFIG = Path(".watchkeeper"), Path("watchkeeper.yaml")


class Told(Protocol):
    """What a comparison and an evaluation found."""

    def save_html(self, path: Path) -> None: ...

    def save_json(self, path: Path) -> None: ...

    def to_json(self) -> str: ...


def tell(found: Told, html: Path | None, json_file: Path | None, show: Callable[[Console], None]) -> None:
    """Write what was found where it was asked for, and show it; JSON on standard output ("-") stands there alone."""
    if html is not None:
        found.save_html(html)
    if json_file == Path("-"):
        sys.stdout.write(found.to_json() + "\n")
        return
    if json_file is not None:
        found.save_json(json_file)
    show(out)


def configured(config_file: Path) -> Config | None:
    """The configuration; None where none was named and none is at its usual place."""
    return config.load(config_file) if config_file.exists() or config_file != CONFIG else None


def settings(config_file: Path) -> StoreConfig:
    """Where the configuration, if there is one, says that things are kept."""
    found = configured(config_file)
    return found.store if found else StoreConfig()


def opened(store: Path, config_file: Path) -> State:
    """The state of the folder, or of the database that the configuration names; StateError if there is none yet."""
    found = settings(config_file)
    if found.state is None and not (store / STATE).is_file():
        raise StateError(f"there is no store in {store}; name its folder with --store, or begin with watchkeeper serve")
    return open_state(found, store)


def escaped(text: str) -> str:
    """A text as it is, without Rich's marks in it."""
    return text.replace("[", r"\[")


def paper(width: int) -> Console:
    """Where a table of this width is printed: the terminal as it is, and what is none as wide as it takes."""
    return out if out.is_terminal else Console(file=out.file, width=max(out.width, width))
