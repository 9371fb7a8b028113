"""The quarantine over HTTP: what came in and did not fit, and its way back."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from fastapi.encoders import jsonable_encoder

from watchkeeper import quarantine
from watchkeeper.server.services import RequestError, Services, services

router = APIRouter(prefix="/api/v1/quarantine", tags=["quarantine"])
Served = Annotated[Services, Depends(services)]


@router.get("")
def show(
    served: Served,
    model: Annotated[str, Query(description="Values of this model only.")] = "",
    limit: Annotated[int, Query(ge=1, le=1000, description="Of the events, and of each model's values.")] = 100,
) -> dict[str, Any]:
    """What came in and did not fit, the newest first: `events` that were refused, each beside why, and `values` that
    were set aside, by model."""
    chosen = [model] if model else [*served.config.models]
    for name in chosen:
        served.model(name)
    values = {name: quarantine.values(served.operations.log_of(name), name, limit) for name in chosen}
    events = [*quarantine.rejects(served.inbox.rejects, limit)] if served.inbox else []
    return {"data": jsonable_encoder({"events": events, "values": values})}


@router.post("/replay", status_code=202)
def replay(served: Served) -> dict[str, Any]:
    """Take in what fits now, after the configuration has changed: the next tick does it. The rest stays."""
    if served.inbox is None:
        raise RequestError(503, "this server takes no events", "ask the server that runs the engine")
    with served.state.transaction() as tx:
        tx.set_cursor("", quarantine.REPLAY, served.clock().isoformat())
    return {"data": {"replay": "with the next tick"}}
