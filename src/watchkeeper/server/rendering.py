"""Templates, and charts as the pages embed them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

from fastapi import Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from watchkeeper import words
from watchkeeper.charts import THEMES, Figure
from watchkeeper.server.assets import address
from watchkeeper.server.services import services

ENVIRONMENT = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
ENVIRONMENT.globals |= {"words": words, "asset": address}
ENVIRONMENT.filters["part"] = lambda text: quote(str(text), safe="")
"""A name as one part of an address."""


def data_block(value: object) -> Markup:
    """JSON that can stand in a script element: nothing in it ends the element or opens a comment."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))


ENVIRONMENT.globals["themes"] = data_block(THEMES)


def embedded(figure: Figure, link: str = "") -> dict[str, Any]:
    """A figure for the chart macro: its title becomes the heading above it, the theme is put in by the browser.

    Args:
        link: where a click on a point leads; `{column}` and `{day}` are filled in from the point.
    """
    layout = {name: value for name, value in figure["layout"].items() if name not in ("template", "title")}
    title = figure["layout"]["title"]["text"]
    notes = [] if figure["data"] else [a["text"] for a in layout.get("annotations", ())]
    return {
        "title": title,
        "empty": notes[0] if notes else "",
        "height": layout.get("height", 340),
        "block": data_block({"data": figure["data"], "layout": layout}),
        "link": link,
    }


def page(request: Request, template: str, status: int = 200, **context: Any) -> HTMLResponse:
    served = services(request)
    html = ENVIRONMENT.get_template(template).render(
        installation=served.title, path=request.url.path, token=served.token, **context
    )
    return HTMLResponse(html, status, headers={"cache-control": "no-store"})
