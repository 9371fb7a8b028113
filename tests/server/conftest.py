from __future__ import annotations

from collections.abc import Iterator

import fraud_story
import httpx
import live
import pytest

from watchkeeper.engine import Engine


@pytest.fixture(scope="session")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Engine, fraud_story.Ids]]:
    with live.story(tmp_path_factory.mktemp("store")) as found:
        yield found


@pytest.fixture(scope="session")
def engine(told: tuple[Engine, fraud_story.Ids]) -> Engine:
    return told[0]


@pytest.fixture(scope="session")
def ids(told: tuple[Engine, fraud_story.Ids]) -> fraud_story.Ids:
    return told[1]


@pytest.fixture(scope="session")
def http(engine: Engine) -> Iterator[httpx.Client]:
    with live.serving(live.application(engine)) as url, httpx.Client(base_url=url, timeout=30) as client:
        yield client
