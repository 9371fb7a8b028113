"""A random sample of a grain's predictions, for what is too costly to ask of all of them."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from watchkeeper.store.backends import quoted, text
from watchkeeper.store.log import Log, moment, tables
from watchkeeper.store.retention import chosen
from watchkeeper.windows import Window


def sample(log: Log, model: str, window: Window, version: str, columns: Sequence[str], share: float) -> pa.Table:
    """These columns of about a share of a version's predictions in a window, those that have a value in the first.

    They are chosen by the hash of their request ids (see `retention`), so independently of anything that a row holds,
    and the same ones each time.
    """
    names = ", ".join(map(quoted, columns))
    drawn = f"AND {chosen(share)}" if share < 1 else ""
    return log.backend.arrow(
        f"SELECT {names} FROM {quoted(tables(model)[0])} WHERE event_time >= {moment(window.start)}"
        f" AND event_time < {moment(window.end)} AND version = {text(version)} AND {quoted(columns[0])} IS NOT NULL"
        f" {drawn} ORDER BY request_id"
    )
