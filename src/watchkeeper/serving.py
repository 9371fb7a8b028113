"""Serving: which version answers whom, and what answers when a model fails."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from watchkeeper.errors import ModelError
from watchkeeper.registry import Predictor, Registry, Route, checked

_logger = logging.getLogger(__name__)
FALLBACK = "fallback"


def bucket(entity: str, salt: str) -> float:
    """A number in [0, 1) that depends on the entity and the salt alone, evenly spread.

    An entity whose bucket lies under the candidate's share gets the candidate; it keeps it as the share grows. The
    salt is the candidate's version, so that each rollout begins with other entities.
    """
    return int.from_bytes(hashlib.blake2b(f"{salt}|{entity}".encode(), digest_size=8).digest()) / 2**64


@dataclass
class Breaker:
    """A circuit breaker: after `failures` failures in a row the model is not asked for `rest`."""

    failures: int = 3
    rest: timedelta = timedelta(seconds=30)
    _row: int = field(default=0, init=False)
    _until: datetime | None = field(default=None, init=False)

    def allows(self, now: datetime) -> bool:
        return self._until is None or now >= self._until

    def record(self, ok: bool, now: datetime) -> None:
        self._row = 0 if ok else self._row + 1
        self._until = now + self.rest if self._row >= self.failures else None


@dataclass(frozen=True, slots=True)
class Answers:
    """One answer for each row: its score, the version it was routed to, which variant gave it, and with what status.

    A row that the fallback answered keeps the version that failed it, so that the failure counts against that
    version; log it without its score, which is not that version's.
    """

    scores: NDArray[np.float64]
    versions: list[str]
    variants: list[str]
    statuses: list[str]


class Server:
    """Answers predictions by the registry's route, split between champion and candidate.

    A version that raises, or whose breaker is open, is replaced by `fallback_score` for its rows: they carry the
    variant "fallback" and the status "error". With no fallback score the model's error is raised.
    """

    def __init__(self, registry: Registry, model: str, fallback_score: float | None = None) -> None:
        self.registry, self.model, self.fallback_score = registry, model, fallback_score
        self._loaded: dict[str, Predictor] = {}
        self._breakers: dict[str, Breaker] = {}

    def predict(self, features: pa.Table, entities: Sequence[str], now: datetime) -> Answers:
        """Score rows.

        Args:
            features: one row each.
            entities: who each row is about; the same entity always gets the same version within a rollout.
            now: the time, for the breaker.

        Raises ModelError before the first champion, and where a model fails and there is no fallback score.
        """
        if len(entities) != features.num_rows:
            raise ModelError(f"each row needs an entity: found {features.num_rows} rows and {len(entities)} entities")
        route = self.registry.route(self.model)
        if route is None:
            raise ModelError(f'model "{self.model}" has no champion yet; install one first')
        chosen = np.array([self._version(route, entity) for entity in entities], dtype=object)
        answers = Answers(
            np.zeros(len(chosen)), list(chosen), ["candidate" if v == route.candidate else "champion" for v in chosen],
            ["ok"] * len(chosen),
        )  # fmt: skip
        for version in dict.fromkeys(chosen):
            at = np.flatnonzero(chosen == version)
            scores = self._scores(version, features.take(at), now)
            if scores is not None:
                answers.scores[at] = scores
                continue
            for i in at:
                answers.scores[i] = self.fallback_score
                answers.variants[i], answers.statuses[i] = FALLBACK, "error"
        return answers

    @staticmethod
    def _version(route: Route, entity: str) -> str:
        if route.candidate and bucket(entity, route.candidate) < route.share:
            return route.candidate
        return route.champion

    def _scores(self, version: str, features: pa.Table, now: datetime) -> NDArray[np.float64] | None:
        """The version's scores, or None where the fallback must answer."""
        breaker = self._breakers.setdefault(version, Breaker())
        if self.fallback_score is not None and not breaker.allows(now):
            return None
        try:
            if version not in self._loaded:
                self._loaded[version] = self.registry.load(self.model, version)
            scores = checked(self._loaded[version].scores(features), features.num_rows)
        except Exception:  # a model is foreign code and may raise anything
            breaker.record(False, now)
            if self.fallback_score is None:
                raise
            _logger.exception("%s %s failed; the fallback answers", self.model, version)
            return None
        breaker.record(True, now)
        return scores
