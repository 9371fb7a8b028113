"""A PostgreSQL of the tests' own, which runs from a folder, and can be killed."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path
from time import sleep

import psycopg

MISSING = "there is no PostgreSQL here: apt-get install postgresql"
_TRIES, _PAUSE = 300, 0.1
_count = itertools.count()


def programs() -> Path | None:
    """The folder of PostgreSQL's programs, if it is installed."""
    known = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    found = known[-1] if known else shutil.which("initdb")
    return Path(found).parent if found else None


class OwnPostgres:
    """Runs until `stop`, which removes it.

    Args:
        durable: whether what was committed is on the disk; it is many times slower.
    """

    def __init__(self, *, durable: bool = False) -> None:
        found = programs()
        assert found is not None, MISSING
        self._programs, self._folder = found, Path(tempfile.mkdtemp(prefix="watchkeeper-postgres-"))
        self._user = "nobody" if os.geteuid() == 0 else None  # it refuses to run as root
        if self._user:
            shutil.chown(self._folder, self._user)
        (self._folder / "said").touch()
        self._run("initdb", "--username=tests", "--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync")
        quick = "" if durable else "-c fsync=off -c synchronous_commit=off -c full_page_writes=off"
        self._options = f"-c listen_addresses='' -k {self._folder} -c max_connections=60 {quick}"
        self.url = f"postgresql://tests@/postgres?host={self._folder}"
        self.start()

    def start(self) -> None:
        self._run("pg_ctl", "start", "--wait", "-o", self._options)

    def kill(self) -> None:
        """Kill it, and start it again once all of its processes have ended."""
        first = (self._folder / "data" / "postmaster.pid").read_text().split()[0]
        os.kill(int(first), signal.SIGKILL)  # the others end by themselves when they notice
        for _ in range(_TRIES):
            with suppress(AssertionError):
                self.start()
                return
            sleep(_PAUSE)
        raise AssertionError((self._folder / "said").read_text())

    def place(self) -> str:
        """The address of a new and empty place in it."""
        name = f"place_{next(_count)}"
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(f"CREATE SCHEMA {name}")
        return f"{self.url}&options=-csearch_path%3D{name}"

    def stop(self) -> None:
        with suppress(AssertionError):  # it may be dead
            self._run("pg_ctl", "stop", "--mode=immediate")
        shutil.rmtree(self._folder)

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(self._programs / program), "-D", str(self._folder / "data"), *arguments]
        with (self._folder / "said").open("a") as said:
            done = subprocess.run(command, user=self._user, cwd=self._folder, stdout=said, stderr=said, check=False)
        assert done.returncode == 0, (self._folder / "said").read_text()
