"""Where state and events are: in the folder, in a database, in one that a variable names."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from watchkeeper.errors import ConfigError, StateError
from watchkeeper.settings import StoreConfig
from watchkeeper.store.backends import DuckDB
from watchkeeper.store.places import Held, open_events, open_state
from watchkeeper.store.postgres import Postgres


def test_by_itself_all_is_in_the_folder(tmp_path: Path) -> None:
    state, events = open_state(StoreConfig(), tmp_path), open_events(StoreConfig(), tmp_path)
    assert isinstance(events, DuckDB)
    assert {path.name for path in tmp_path.iterdir()} >= {"state.db", "log.duckdb"}
    state.close()
    events.close()


@pytest.mark.parametrize("named", [True, False])
def test_both_may_be_in_one_postgres(
    tmp_path: Path, new_postgres: Callable[[], str], named: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = new_postgres()
    monkeypatch.setenv("WATCHKEEPER_TESTS", url)
    written = "env:WATCHKEEPER_TESTS" if named else url
    settings = StoreConfig(state=written, events=written)
    state, events = open_state(settings, tmp_path), open_events(settings, tmp_path)
    assert isinstance(events, Postgres)
    assert "value" in events.columns("cursors"), "the tables of the state"
    assert not list(tmp_path.iterdir())
    state.close()
    events.close()


@pytest.mark.parametrize(("held", "told"), [(None, "is not set"), ("word", "holds no address")])
def test_a_variable_that_is_not_set_or_holds_something_else_is_told(
    tmp_path: Path, held: str | None, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WATCHKEEPER_TESTS", raising=False)
    if held:
        monkeypatch.setenv("WATCHKEEPER_TESTS", held)
    with pytest.raises(ConfigError, match=f"WATCHKEEPER_TESTS {told}") as found:
        open_state(StoreConfig(state="env:WATCHKEEPER_TESTS"), tmp_path)
    assert found.value.path == ("store", "state")
    assert "word" not in str(found.value).replace("password", "")


def test_a_folder_is_held_by_one_process_until_it_ends(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from watchkeeper.store.places import Held\n"
        "held = Held(Path(sys.argv[1])); print('held', flush=True); sys.stdin.read()"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert other.stdout is not None
    assert other.stdout.readline() == "held\n"
    with pytest.raises(StateError, match="another engine works in"):
        Held(tmp_path)
    other.kill()
    other.communicate()
    Held(tmp_path).close()
