"""All that a store holds, as bytes to search in: its files as they lie there, and what is packed in them, unpacked."""

from __future__ import annotations

import json
import sqlite3
import zlib
from collections.abc import Iterator
from pathlib import Path

import duckdb
import psycopg
import pyarrow.ipc as ipc
import pyarrow.parquet as pq


def found_in(folder: Path, *texts: str) -> list[str]:
    """Where any of these texts stands in a store, in UTF-8 or UTF-16, whatever its case. No engine may hold the log."""
    wanted = [form for text in texts for form in (text.lower().encode(), text.lower().encode("utf-16-le"))]
    return [where for where, data in contents(folder) if any(form in data.lower() for form in wanted)]


def contents(folder: Path) -> Iterator[tuple[str, bytes]]:
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = str(path.relative_to(folder))
        yield f"{name}, as it lies there", path.read_bytes()
        yield f"the name of {name}", name.encode()
        if path.suffix == ".duckdb":
            yield from ((f"{name}: {table}", rows) for table, rows in _tables_of_duckdb(path))
        elif path.suffix == ".db":
            yield from ((f"{name}: {table}", rows) for table, rows in _tables_of_sqlite(path))
        elif path.suffix == ".parquet":
            yield f"{name}, its rows", json.dumps(pq.read_table(path).to_pylist(), default=str).encode()
        elif path.suffix == ".arrow":
            yield f"{name}, its rows", json.dumps(ipc.open_file(path).read_all().to_pylist(), default=str).encode()


def _tables_of_duckdb(path: Path) -> Iterator[tuple[str, bytes]]:
    with duckdb.connect(str(path), read_only=True) as connection:
        for (name,) in connection.execute("SELECT table_name FROM duckdb_tables()").fetchall():
            yield name, json.dumps(connection.execute(f'FROM "{name}"').fetchall(), default=str).encode()


def _tables_of_sqlite(path: Path) -> Iterator[tuple[str, bytes]]:
    connection = sqlite3.connect(path)
    for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
        for row in connection.execute(f'SELECT * FROM "{name}"'):
            for value in row:
                if isinstance(value, bytes):
                    value = zlib.decompress(value)
                yield name, value if isinstance(value, bytes) else str(value).encode()
    connection.close()


def found_in_postgres(url: str, *texts: str) -> list[str]:
    """The tables of a database whose rows, as text, hold any of these texts."""
    with psycopg.connect(url, autocommit=True) as connection:
        query = "SELECT table_name FROM information_schema.tables WHERE table_schema = current_schema()"
        found = []
        for (name,) in connection.execute(query).fetchall():
            rows = connection.execute(f'SELECT t::text FROM "{name}" t').fetchall()  # type: ignore[arg-type]
            data = "\n".join(row[0] for row in rows).lower()
            found += [name] if any(text.lower() in data for text in texts) else []
        for packed in connection.execute("SELECT data FROM profiles").fetchall():
            data = zlib.decompress(packed[0]).decode().lower()
            found += ["profiles"] if any(text.lower() in data for text in texts) else []
        return found
