"""Every error that watchkeeper raises on purpose. One root; each message says what was wrong, what was
found and what to do."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

LISTED = 30
"""So many names are listed in a message at most."""


class WatchkeeperError(Exception):
    """The root of all errors raised on purpose; a door prints its text and ends with exit code 2."""


class ConfigError(WatchkeeperError, ValueError):
    """A configuration that cannot be meant.

    `path` is where in the configuration the mistake stands, outermost key first, so that the reader of a
    file can be told its line.
    """

    def __init__(self, message: str, path: tuple[str | int, ...] = ()) -> None:
        super().__init__(message)
        self.path = path


class DataError(WatchkeeperError):
    """A file, table or event that cannot be read as what it should be."""


class QuestionError(WatchkeeperError):
    """A question to the log that cannot be meant."""


class StateError(WatchkeeperError):
    """The store is missing, busy, from another version, or a record asked for does not exist."""


class ConflictError(StateError):
    """Somebody else changed the record first; read it again and decide anew."""


class DeliveryError(WatchkeeperError):
    """A message that did not reach its channel. `permanent` says that trying again is of no use."""

    def __init__(self, message: str, *, permanent: bool) -> None:
        super().__init__(message)
        self.permanent = permanent


class ModelError(WatchkeeperError):
    """A model artefact that is missing, was altered, cannot be loaded, or failed to predict."""


class TrainingError(WatchkeeperError):
    """A training run that ended without a usable model."""


class MissingExtraError(WatchkeeperError):
    """An optional package is needed and not installed."""


def did_you_mean(name: str, known: Iterable[str], otherwise: str = "known are:") -> str:
    """How a message about an unknown name ends: with the nearest known one; or else, after the words `otherwise`, with
    all that are known."""
    known = [*known]
    nearest = get_close_matches(name, known, n=1, cutoff=0.5)
    return f'did you mean "{nearest[0]}"?' if nearest else f"{otherwise} {listed(known) or 'none'}"


def listed(names: Iterable[str]) -> str:
    """Names one after another, the first `LISTED` of them."""
    names = [*names]
    return ", ".join(names[:LISTED]) + (f" and {len(names) - LISTED:,} more" if len(names) > LISTED else "")
