"""A small, lifelike store for the tests of the server: the real engine, driven through 60 days of made-up traffic.

`checkout-fraud` has an incident of missing values that ended, a drift incident that a new champion ended, and an open
one of sentinel values; `eta` is well and has a candidate without traffic; `search-ranking` is configured and has
never logged anything.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa

from watchkeeper.engine import Engine
from watchkeeper.records import (
    Action,
    ActionState,
    Delivery,
    DeliveryState,
    Incident,
    Reason,
    Rollout,
    Transition,
    row_id,
)
from watchkeeper.schema import Config

START = datetime(2024, 3, 1, tzinfo=UTC)
DAYS = 60
ROWS = 400
COUNTRIES = ("DE", "FR", "NL", "PL", "ES", "IT", "SE", "US")
DEVICES = ("phone", "laptop", "tablet")

CONFIG = Config.model_validate(
    {
        "models": {
            "checkout-fraud": {
                "columns": {
                    "amount": {"kind": "numeric"},
                    "account_age_days": {"kind": "numeric"},
                    "hour_of_day": {"kind": "numeric"},
                    "items": {"kind": "numeric"},
                    "distance_to_billing_address_km": {"kind": "numeric"},
                    "country": {"kind": "categorical"},
                    "device": {"kind": "categorical"},
                },
                "rollout": {"hold": "3d", "margin": 0.08},
            },
            "eta": {"columns": {"distance": {"kind": "numeric"}, "city": {"kind": "categorical"}}},
            "search-ranking": {"columns": {"position": {"kind": "numeric"}}},
        }
    }
)


@dataclass(frozen=True)
class Ids:
    """What in the store the tests ask for: an open incident, two that ended, and two rollouts."""

    sentinel: str
    drift: str
    missing: str
    rollout: str
    waiting: str


def tell(folder: Path, days: int = DAYS) -> Ids:
    """Fill a store in this folder."""
    now = [START]
    engine = Engine(folder, CONFIG, clock=lambda: now[0])
    rng = np.random.default_rng(7)
    engine.install("checkout-fraud", "2024-02", _reference(_fraud(rng, 6000, 0, START)))
    engine.install("eta", "7", _reference(_eta(rng, 4000, START)))
    for day, at in _each_day(days):
        _log(engine, "checkout-fraud", rng, _versions(_fraud(rng, ROWS, day, at), day, rng), at)
        _log(engine, "eta", rng, {"7": _eta(rng, ROWS // 2, at)}, at)
        now[0] = at + timedelta(days=1, hours=1)
        if day == 50:
            _offer(engine, now[0])
        if day == days - 3:
            engine.offer("eta", "8", "sam")
        engine.tick()
    sentinel, drift, missing = (_incident(engine, c) for c in ("sentinel values", "drift", "missing values"))
    with engine.state.transaction() as tx:
        rollouts = [tx.select(Rollout, model=model)[0].id for model in ("checkout-fraud", "eta")]
        tx.put(_deliveries(tx.select(Transition, subject=[sentinel, drift, missing])))
    engine.close()
    return Ids(sentinel, drift, missing, *rollouts)


def _each_day(days: int) -> Iterator[tuple[int, datetime]]:
    return ((day, START + timedelta(days=day)) for day in range(days))


def _offer(engine: Engine, now: datetime) -> None:
    """A candidate, as if the drift had asked for it."""
    incident = _incident(engine, "drift")
    action = Action(
        row_id("action", incident), "checkout-fraud", "retrain", ActionState.DONE, Reason.BEATS_CHAMPION,
        now - timedelta(hours=2), now - timedelta(hours=2), now, {"version": "2024-04"}, CONFIG.version, 1, (incident,),
    )  # fmt: skip
    rollout = engine.offer("checkout-fraud", "2024-04", "dana")
    with engine.state.transaction() as tx:
        tx.put([action, dataclasses.replace(rollout, because=(action.id,))])


def _incident(engine: Engine, cause: str) -> str:
    """The first incident of a cause."""
    with engine.state.transaction() as tx:
        return tx.select(Incident, model="checkout-fraud", cause=cause, order="opened_at")[0].id


def _fraud(rng: np.random.Generator, n: int, day: int, at: datetime) -> dict[str, np.ndarray]:
    grown = 1.0 + 0.12 * max(day - 38, 0)
    age = rng.gamma(1.4, 300, n)
    age[rng.random(n) < (0.3 if 20 <= day < 24 else 0.01)] = np.nan
    age[rng.random(n) < (0.06 if day >= 56 else 0.0)] = -999
    weights = np.array([30, 20, 12, 10, 9, 8, 6, 5], dtype=float)
    rows = {
        "amount": np.round(rng.lognormal(3.4, 0.9, n) * grown, 2),
        "account_age_days": age,
        "hour_of_day": rng.choice(24, n, p=_daily()).astype(float),
        "items": rng.poisson(2.2, n) + 1.0,
        "distance_to_billing_address_km": rng.exponential(40, n) * (rng.random(n) > 0.5),
        "country": rng.choice(COUNTRIES, n, p=weights / weights.sum()),
        "device": rng.choice(DEVICES, n, p=[0.62, 0.3, 0.08]),
    }
    logit = -2.2 + 0.5 * (np.log(rows["amount"]) - 3.4) + 0.6 * (rows["country"] == "US") - 0.1 * rows["items"]
    return rows | _answers(rng, n, logit, at, noise=0.25 + 0.02 * max(day - 40, 0))


def _eta(rng: np.random.Generator, n: int, at: datetime) -> dict[str, np.ndarray]:
    rows = {"distance": rng.gamma(2.0, 3.0, n), "city": rng.choice(["Lyon", "Porto", "Graz"], n, p=[0.5, 0.3, 0.2])}
    return rows | _answers(rng, n, 0.3 * (rows["distance"] - 6), at, noise=0.2)


def _answers(rng: np.random.Generator, n: int, logit: np.ndarray, at: datetime, noise: float) -> dict[str, np.ndarray]:
    truth = 1 / (1 + np.exp(-logit))
    score = 1 / (1 + np.exp(-(logit + rng.normal(0, noise, n))))
    return {
        "score": np.clip(score, 0.001, 0.999),
        "label": (rng.random(n) < truth).astype(int),
        "latency_ms": (latency := rng.lognormal(3.2, 0.35, n)),
        "cpu_ms": 0.6 * latency,
        "cost": np.where(latency > 40, 0.004, 0.002),
        "status": np.where(rng.random(n) < 0.003, "timeout", "ok"),
        "event_time": np.array([at + timedelta(seconds=s) for s in np.sort(rng.uniform(0, 86_000, n))]),
    }


def _daily() -> np.ndarray:
    shape = 1.2 + np.sin((np.arange(24) - 9) * np.pi / 12)
    return np.asarray(shape / shape.sum())


def _reference(rows: dict[str, np.ndarray]) -> pa.Table:
    live = ("event_time", "latency_ms", "cpu_ms", "cost", "status")
    return pa.table({name: v.tolist() for name, v in rows.items() if name not in live})


def _versions(rows: dict[str, np.ndarray], day: int, rng: np.random.Generator) -> dict[str, dict[str, np.ndarray]]:
    """The rows by who answered them: the candidate gets a quarter from day 51 on, and fits a little better."""
    if day <= 50:
        return {"2024-02": rows}
    mine = rng.random(len(rows["score"])) < 0.3
    closer = np.clip(0.75 * rows["score"] + 0.25 * (0.1 + 0.6 * rows["label"]), 0.001, 0.999)
    return {
        "2024-02": {name: v[~mine] for name, v in rows.items()},
        "2024-04": {name: v[mine] for name, v in (rows | {"score": closer}).items()},
    }


def _log(
    engine: Engine, model: str, rng: np.random.Generator, parts: dict[str, dict[str, np.ndarray]], at: datetime
) -> None:
    for version, rows in parts.items():
        n = len(rows["score"])
        ids = [f"{model[:2]}-{at:%m%d}-{version}-{i}" for i in range(n)]
        sent = {name: [None if v != v else v for v in rows[name].tolist()] for name in rows if name != "label"}
        engine.log.append(model, pa.table({"request_id": ids, "version": [version] * n, **sent}))
        known = [at + timedelta(hours=20)] * n
        engine.log.append_outcomes(
            model, pa.table({"request_id": ids, "label": rows["label"].tolist(), "known_at": known})
        )


def _deliveries(transitions: list[Transition]) -> list[Delivery]:
    return [
        Delivery(
            row_id("delivery", t.id), t.id, "on-call", DeliveryState.SENT, 1, t.at, t.at + timedelta(seconds=4), "", 1,
            (t.id,),
        )
        for t in transitions
    ]  # fmt: skip
