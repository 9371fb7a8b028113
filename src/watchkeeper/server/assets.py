"""The style sheet and the scripts, Plotly's among them: served from here, so the dashboard works without a network."""

from __future__ import annotations

import gzip
import hashlib
from functools import cache
from importlib import resources
from pathlib import Path

from fastapi import APIRouter, Request, Response

from watchkeeper.server.services import absent

STATIC = Path(__file__).parent / "static"
PLOTLY = "plotly.js"
TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
YEAR = 31_536_000

router = APIRouter()


def names() -> list[str]:
    return [PLOTLY, *sorted(path.name for path in STATIC.iterdir() if path.suffix in TYPES)]


@cache
def content(name: str) -> bytes:
    if name == PLOTLY:
        return (resources.files("plotly") / "package_data" / "plotly.min.js").read_bytes()
    return (STATIC / name).read_bytes()


@cache
def packed(name: str) -> bytes:
    return gzip.compress(content(name), 6, mtime=0)


@cache
def digest(name: str) -> str:
    return hashlib.sha256(content(name)).hexdigest()[:12]


def address(name: str) -> str:
    """Where a browser finds a file; it changes with the content, so that it may be kept for ever."""
    return f"/static/{digest(name)}/{name}"


@router.get("/static/{version}/{name}", include_in_schema=False)
def static(version: str, name: str, request: Request) -> Response:
    """A style sheet or script; `version` is the hash of its content."""
    if name not in names():
        raise absent("file", name, names())
    kept = f"public, max-age={YEAR}, immutable" if version == digest(name) else "no-cache"
    headers = {"cache-control": kept, "vary": "accept-encoding"}
    body = content(name)
    if "gzip" in request.headers.get("accept-encoding", ""):
        body, headers["content-encoding"] = packed(name), "gzip"
    return Response(body, media_type=TYPES[Path(name).suffix], headers=headers)
