"""What holds for every test, and the PostgreSQL that some of them run against."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator

import psycopg
import pytest
from hypothesis import settings

import own_postgres

settings.register_profile("repeatable", derandomize=True, deadline=None, database=None)
settings.load_profile("repeatable")

_count = itertools.count()


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """The address of a server of its own, which lives as long as the tests do and keeps nothing."""
    if own_postgres.programs() is None:
        if os.environ.get("CI"):
            pytest.fail(own_postgres.MISSING)
        pytest.skip(own_postgres.MISSING)
    server = own_postgres.OwnPostgres()
    yield server.url
    server.stop()


@pytest.fixture(scope="session")
def new_postgres(postgres_server: str) -> Iterator[Callable[[], str]]:
    """Gives the address of a new and empty place in the server at each call."""
    made: list[str] = []

    def new() -> str:
        name = f"test_{next(_count)}"
        made.append(name)
        with psycopg.connect(postgres_server, autocommit=True) as connection:
            connection.execute(f"CREATE SCHEMA {name}")
        return f"{postgres_server}&options=-csearch_path%3D{name}"

    yield new
    with psycopg.connect(postgres_server, autocommit=True) as connection:
        for name in made:
            connection.execute(f"DROP SCHEMA {name} CASCADE")
