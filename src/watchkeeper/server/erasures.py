"""The way to erase a subject while the server holds the store."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, ConfigDict, Field

from watchkeeper.server.access import ERASURES
from watchkeeper.server.services import RequestError, Services, services

router = APIRouter(tags=["administer"])
Served = Annotated[Services, Depends(services)]


class Subject(BaseModel):
    """Whom to erase, and from which model, if not from all."""

    model_config = ConfigDict(extra="forbid", strict=True)

    subject: str = Field(min_length=1, max_length=1000)
    model: str | None = None


@router.post(ERASURES)
async def erasures(body: Subject, request: Request, served: Served) -> dict[str, Any]:
    """Erase a subject from everything that is stored, and answer what was deleted and what a search of every file
    found: `{"subject": "...", "model": "..."}`, the model only to erase it from that one alone.

    Needs a key of role admin. `complete` says that nothing is left. Takes as long as writing the log anew does.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":  # no form of any page
        raise RequestError(415, "an erasure is taken as application/json only", "set the header Content-Type")
    if body.model is not None:
        served.model(body.model)
    done = await run_in_threadpool(served.operations.erase, body.subject, body.model, "an administrator")
    return {"data": done.to_dict()}
