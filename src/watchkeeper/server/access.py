"""Who may do what: API keys, their roles, and the rights that requests need.

A key is `wk_`, the name it is looked up by, and 256 random bits. The store keeps its SHA-256 alone. Slow hashes are for
passwords, which can be guessed one after the other; so many random bits cannot be, however fast the hash is, and a
slow one would only hold up each request.

Every request needs a right, by its method and address, so that a route that is added later cannot lack one.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
import time
from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum

from fastapi.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.types import Scope

from watchkeeper.errors import ConflictError, StateError, did_you_mean
from watchkeeper.records import ApiKey
from watchkeeper.server.services import RequestError
from watchkeeper.store.state import State

REMEMBERED = 2.0
"""Seconds for which the keys are remembered; a key that is revoked works for so long at most."""
ERASURES = "/api/v1/erasures"
"""The address of what cannot be undone."""
OPEN = ("/healthz", "/static/")
"""Addresses for everybody: whether the server lives, and style sheets and scripts, which say nothing."""
_NO_KEY = hashlib.sha256(secrets.token_bytes(32)).hexdigest()


class Right(StrEnum):
    READ = "read"
    WRITE = "write"
    OPERATE = "operate"
    ADMINISTER = "administer"


class Role(StrEnum):
    """What a key is for: sending events, looking, working with incidents, or everything."""

    WRITER = "writer"
    READER = "reader"
    OPERATOR = "operator"
    ADMIN = "admin"

    @property
    def rights(self) -> frozenset[Right]:
        return {
            Role.WRITER: frozenset({Right.WRITE}),
            Role.READER: frozenset({Right.READ}),
            Role.OPERATOR: frozenset({Right.READ, Right.WRITE, Right.OPERATE}),
            Role.ADMIN: frozenset(Right),
        }[self]


def right_for(method: str, path: str) -> Right | None:
    """The right that a request needs; None for what is open to everybody."""
    if method in ("GET", "HEAD", "OPTIONS"):
        return None if path == OPEN[0] or path.startswith(OPEN[1]) else Right.READ
    if method == "POST" and path != ERASURES:
        return Right.WRITE if path.startswith("/v1/") else Right.OPERATE
    return Right.ADMINISTER


def create(state: State, name: str, role: Role, now: datetime, actor: str) -> str:
    """Make a key; it is returned this once and kept nowhere. ConflictError if a key of this name is in use."""
    key_id = secrets.token_hex(4)
    key = f"wk_{key_id}_{secrets.token_urlsafe(32)}"
    with state.transaction() as tx:
        if any(known.name == name and known.revoked_at is None for known in tx.api_keys()):
            raise ConflictError(f'there is a key "{name}" already; revoke it first, or choose another name')
        tx.put_key(ApiKey(key_id, name, role, _hash(key), now))
        tx.audit(now, actor, "key", key_id, {"name": name, "role": role, "done": "created"})
    return key


def revoke(state: State, name: str, now: datetime, actor: str) -> ApiKey:
    """End the key of this name or id; StateError, with the nearest name, if there is none in use."""
    with state.transaction() as tx:
        used = [key for key in tx.api_keys() if key.revoked_at is None]
        found = next((key for key in used if name in (key.id, key.name)), None)
        if found is None:
            near = did_you_mean(name, [key.name for key in used], "those in use are")
            raise StateError(f'there is no key "{name}" in use; {near}')
        tx.revoke_key(found.id, now)
        tx.audit(now, actor, "key", found.id, {"name": found.name, "role": found.role, "done": "revoked"})
    return found


def _hash(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def holder(keys: Sequence[ApiKey], key: str) -> ApiKey | None:
    """Whose key this is; None if it is nobody's, or revoked. Takes as long whether it is or not."""
    parts = key.split("_", 2)
    known = {one.id: one for one in keys if one.revoked_at is None}
    found = known.get(parts[1]) if len(parts) == 3 else None
    same = hmac.compare_digest(found.hash if found else _NO_KEY, _hash(key))
    return found if same else None


class Access:
    """Decides whether a request may be served.

    Args:
        keyless: let everybody in as long as no key was ever made; for a server that only this machine can reach.
    """

    def __init__(self, state: State, *, keyless: bool) -> None:
        self._state, self._keyless = state, keyless
        self._keys: list[ApiKey] = []
        self._read = float("-inf")

    async def check(self, scope: Scope) -> None:
        """RequestError: 401 without a key that is known, 403 with one that has not the right."""
        right = right_for(scope["method"], scope["path"])
        if right is None:
            return
        if time.monotonic() - self._read > REMEMBERED:
            self._keys = await run_in_threadpool(self._look)
            self._read = time.monotonic()
        if self._keyless and not self._keys:
            return
        key = _sent(Headers(scope=scope).get("authorization", ""))
        found = holder(self._keys, key) if key else None
        if found is None:
            raise RequestError(
                401,
                "this needs an API key" if not key else "this API key is not known, or was revoked",
                "send it as Authorization: Bearer KEY, or as the password that a browser asks for;"
                " watchkeeper keys create makes one",
            )
        role = Role(found.role)
        if right not in role.rights:
            able = " or ".join(str(other) for other in Role if right in other.rights)
            raise RequestError(
                403, f'the key "{found.name}" is a {role}\'s and may not {right} here', f"use a key of role {able}"
            )

    def _look(self) -> list[ApiKey]:
        with self._state.snapshot() as tx:
            return tx.api_keys()


def _sent(header: str) -> str:
    """The key that a request carries: as a bearer, or as the password of a browser."""
    scheme, _, value = header.partition(" ")
    if scheme.lower() == "bearer":
        return value.strip()
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(value.strip(), validate=True).decode().partition(":")[2]
        except (binascii.Error, UnicodeDecodeError, ValueError):
            return ""
    return ""
