from __future__ import annotations

from datetime import UTC, datetime

import pytest

from watchkeeper.channels import Notice
from watchkeeper.records import Severity


@pytest.fixture
def now() -> datetime:
    return datetime(2013, 7, 4, 15, tzinfo=UTC)


@pytest.fixture
def notice(now: datetime) -> Notice:
    return Notice(
        id="delivery-0123456789ab",
        title="P1 delays: Drift: dep_delay and [weiß] [new]",
        severity=Severity.P1,
        model="delays",
        subject="incident-ba9876543210",
        before="new",
        after="open",
        reason="a limit was breached and no incident of this cause was open",
        at=now,
        actor="watchkeeper",
        note="",
        lines=("dep_delay: psi 0.31 (0.28 to 0.35), limit: not above 0.2 <b>", "More: watchkeeper why incident-ba98"),
        details={"kind": "incident", "id": "incident-ba9876543210", "cause": "drift"},
    )
