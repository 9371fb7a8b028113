"""Clients and servers for the tests of the client."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from listener import Server, serve

from watchkeeper.client import Client


@pytest.fixture
def open_client() -> Iterator[Callable[..., Client]]:
    """Makes clients that do not spend the time of the tests on closing."""
    made: list[Client] = []

    def make(target: Any, **options: Any) -> Client:
        made.append(Client(target, model="delays", **{"timeout": 2.0, **options}))
        return made[-1]

    yield make
    for client in made:
        client._sender._timeout = 0.0
        client.close()


@pytest.fixture
def server() -> Iterator[Server]:
    found = serve()
    yield found
    found.close()
