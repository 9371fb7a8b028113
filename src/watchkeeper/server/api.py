"""The JSON interface: what the pages show, for machines. Every answer is `{"data": ...}` or `{"error": ...}`."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from fastapi.encoders import jsonable_encoder

from watchkeeper import accounts
from watchkeeper.gaps import last_gaps
from watchkeeper.records import Incident, IncidentState, Rollout, RolloutState
from watchkeeper.server import reads
from watchkeeper.server.services import Services, absent, services

router = APIRouter(tags=["read"])
Served = Annotated[Services, Depends(services)]
VERDICTS = {
    RolloutState.PROMOTED: "pass",
    RolloutState.ROLLED_BACK: "fail",
    RolloutState.RUNNING: "inconclusive",
}


@router.get("/healthz")
def healthz(served: Served) -> dict[str, str]:
    """Whether the server answers and can read its state."""
    with served.state.snapshot() as tx:
        tx.audit_trail(limit=1)
    return {"status": "ok", "config": served.config.version}


@router.get("/api/v1/models")
def models(served: Served) -> dict[str, Any]:
    """Every model, the one that needs a person most first."""
    with served.state.snapshot() as tx:
        found = [reads.standing(tx, name, config) for name, config in served.config.models.items()]
    return {"data": [_summary(standing) for standing in sorted(found, key=lambda s: s.need)]}


@router.get("/api/v1/models/{model}")
def model(model: str, served: Served) -> dict[str, Any]:
    """One model with its champions, its open incidents, its rollouts and the last verdict of every look.

    `accounts` says what became of its events: how many labels found their predictions, how late predictions and labels
    come, and what was sent twice, contradicted, set aside, rejected, dropped by clients, or came too late. `service` is
    what was measured last of how requests were answered, what that took, and what it cost. `groups` are the gaps
    between groups that are watched, each with the values of its groups.
    """
    config = served.model(model)
    with served.state.snapshot() as tx:
        standing = reads.standing(tx, model, config)
        champions = tx.champions(model)
        verdicts = reads.latest_verdicts(tx, model)
        rollouts = tx.select(Rollout, model=model, order="-started_at")
        told = accounts.accounts(tx, model, config, served.clock())
        service = reads.last_of_service(tx, model, standing.until)
        apart = last_gaps(tx, model, config)
    return {
        "data": {
            **_summary(standing),
            "champions": [{"version": version, "since": since.isoformat()} for since, version in champions],
            "accounts": told.to_dict(),
            "service": [
                {
                    **{name: getattr(p, name) for name in ("metric", "column", "value", "low", "high", "n")},
                    "from": p.window.start.isoformat(),
                    "until": p.window.end.isoformat(),
                }
                for p in service
            ],
            "groups": [gap.to_dict() for gap in apart],
            "incidents": jsonable_encoder(standing.incidents),
            "rollouts": [{**jsonable_encoder(rollout), "looks": len(rollout.looks)} for rollout in rollouts],
            "verdicts": [{**jsonable_encoder(v), "reason_sentence": v.reason.sentence} for v in verdicts],
        }
    }


@router.get("/api/v1/incidents")
def incidents(
    served: Served,
    model: str | None = None,
    state: IncidentState | None = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> dict[str, Any]:
    """Incidents, the newest first; of one model or in one state, where asked for."""
    wanted = {"model": model, "state": state.value if state else None}
    where: dict[str, Any] = {name: value for name, value in wanted.items() if value}
    with served.state.snapshot() as tx:
        found = tx.select(Incident, order="-opened_at", limit=limit, **where)
    return {"data": jsonable_encoder(found)}


@router.get("/api/v1/incidents/{incident}")
def incident(incident: str, served: Served) -> dict[str, Any]:
    """One incident with its transitions, deliveries, actions and rollouts."""
    with served.state.snapshot() as tx:
        found = tx.select(Incident, id=incident)
        if not found:
            raise absent("incident", incident, [])
        story = reads.story(tx, found[0])
    parts = {name: jsonable_encoder(getattr(story, name)) for name in ("transitions", "deliveries", "actions")}
    return {"data": {**jsonable_encoder(found[0]), **parts, "rollouts": [r.id for r in story.rollouts]}}


@router.get("/api/v1/rollouts/{rollout}/verdict")
def verdict(rollout: str, served: Served) -> dict[str, Any]:
    """Whether a candidate may go on, for tools that ask: `pass`, `fail` or `inconclusive`. `ok` is false for
    `fail` alone; `n` counts the candidate's predictions."""
    with served.state.snapshot() as tx:
        found = tx.select(Rollout, id=rollout)
    if not found:
        raise absent("rollout", rollout, [])
    state = VERDICTS[found[0].state]
    last = found[0].looks[-1] if found[0].looks else {}
    n = int(last.get("n_candidate") or 0)
    return {"data": {"ok": state != "fail", "state": state, "n": n, "reason": found[0].reason.sentence}}


def _summary(standing: reads.Standing) -> dict[str, Any]:
    since, version = standing.champion or (None, None)
    last = standing.spark[-1] if standing.spark else None
    return {
        "name": standing.name,
        "severity": standing.severity,
        "champion": version,
        "champion_since": since.isoformat() if since else None,
        "open_incidents": [incident.id for incident in standing.incidents],
        "checks": {
            cause: {str(status): n for status, n in sorted(counts.items())} for cause, counts in standing.checks.items()
        },
        "until": standing.until.isoformat() if standing.until else None,
        "predictions_last_day": standing.predictions,
        "performance": {"metric": standing.metric, "value": last.value if last else None, "n": last.n if last else 0},
    }
