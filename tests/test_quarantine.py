"""The quarantine: seen, and taken in once the configuration has changed, whole and once."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from small_world import moment
from watchkeeper import quarantine
from watchkeeper.engine import Engine
from watchkeeper.schema import Config
from watchkeeper.windows import Window

BEFORE: dict[str, Any] = {"loans": {"columns": {"amount": {"kind": "numeric"}}, "grain": "1d"}}
AFTER: dict[str, Any] = {
    "loans": {
        "grain": "1d",
        "columns": {"amount": {"kind": "numeric"}, "age": {"kind": "numeric"}, "city": {"kind": "categorical"}},
    },
    "cards": {"columns": {"amount": {"kind": "numeric"}}, "inference": {"score": "p"}},
}


def engine(folder: Path, models: dict[str, Any], day: float = 0.5) -> Engine:
    return Engine(folder, Config.model_validate({"models": models}), clock=lambda: moment(day))


def event(name: str, model: str = "loans", **features: Any) -> dict[str, Any]:
    return {
        "kind": "prediction", "model": model, "request_id": name, "event_time": moment(0.25).isoformat(),
        "score": 0.5, "features": {"amount": 1.0, **features},
    }  # fmt: skip


ASKED = {
    "specversion": "1.0", "id": "c1", "source": "s", "type": "org.kubeflow.serving.inference.request",
    "time": moment(0.25).isoformat(), "inferenceservicename": "cards", "data": {"instances": [[3]]},
}  # fmt: skip
SAID = ASKED | {"type": "org.kubeflow.serving.inference.response", "data": {"predictions": [{"p": 0.1, "q": 0.2}]}}


@pytest.fixture
def filled(tmp_path: Path) -> Path:
    """A store whose quarantine holds what the configuration of that time could not place."""
    first = engine(tmp_path, BEFORE)
    first.inbox.put(
        [
            *(event(f"r{i}", age=30 + i, city="Graz") for i in range(150)),
            event("odd", age="old", amount="much"),
            event("x", model="cards"),
            {"kind": "prophecy"},
        ]
    )
    first.inbox.reject("cloudevents", [ASKED, SAID], "no such service")
    first.tick()
    first.close()
    return tmp_path


def ask(one: Engine) -> None:
    with one.state.transaction() as tx:
        tx.set_cursor("", quarantine.REPLAY, "now")


def test_what_does_not_fit_can_be_seen(filled: Path) -> None:
    one = engine(filled, BEFORE)
    values = quarantine.values(one.log, "loans", 1000)
    assert len(values) == 302
    assert {"request_id": "odd", "column": "amount", "value": "much"} in values
    assert len(quarantine.values(one.log, "loans", 7)) == 7
    kept = [*quarantine.rejects(one.inbox.rejects, 10)]
    assert len(kept) == 4
    assert {'there is no model "cards" in the configuration', "no such service"} < {row["reason"] for row in kept}
    assert len([*quarantine.rejects(one.inbox.rejects, 3)]) == 3
    assert [*quarantine.rejects(filled / "nowhere", 3)] == []
    one.close()


def test_what_fits_now_is_taken_in_once(filled: Path) -> None:
    for again in range(2):
        one = engine(filled, AFTER, 1 + again)
        ask(one)
        one.tick()
        assert one.log.totals("loans")["set_aside"] == 2, "amount was much, and age was old"
        assert one.log.totals("cards")["predictions"] == 2
        rows = one.log.backend.rows('SELECT request_id, age, city FROM "predictions_loans" ORDER BY age NULLS FIRST')
        assert rows[:3] == [("odd", None, None), ("r0", 30.0, "Graz"), ("r1", 31.0, "Graz")]
        assert [row["event"] for row in quarantine.rejects(one.inbox.rejects, 10)] == [{"kind": "prophecy"}]
        answer = one.log.backend.rows("SELECT score FROM \"predictions_cards\" WHERE request_id = 'c1'")
        assert answer == [(0.1,)]
        with one.state.snapshot() as tx:
            done = [entry.payload for entry in tx.audit_trail() if entry.kind == "quarantine"]
            assert tx.cursor("", quarantine.REPLAY) == ""
        assert (done[-1]["events"], done[-1]["values"]) == (3, 300)
        assert all((row["events"], row["values"]) == (0, 0) for row in done[:-1])
        one.close()


def test_what_was_given_back_is_counted_again(filled: Path) -> None:
    one = engine(filled, AFTER, 1)
    one.tick()
    before = _counted(one)
    assert before == {"amount": 150}
    ask(one)
    one.tick()
    assert _counted(one) == {"amount": 150, "age": 150, "city": 150}
    one.close()


def _counted(one: Engine) -> dict[str, int]:
    """The values that were counted of each column."""
    with one.state.snapshot() as tx:
        found = tx.profiles("loans", Window(moment(0), moment(1)))
    kept: Counter[str] = Counter()
    for key, profile in found:
        if key.column in ("amount", "age", "city") and not key.label:
            kept[key.column] += profile.n - profile.missing
    return {column: n for column, n in kept.items() if n}


def test_nobody_asked_and_nothing_happens(filled: Path) -> None:
    one = engine(filled, AFTER, 1)
    one.tick()
    assert one.log.totals("loans")["set_aside"] == 302
    one.close()


def test_an_interrupted_replay_loses_nothing(filled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def dying(*_: Any) -> None:
        raise KeyboardInterrupt

    one = engine(filled, AFTER, 1)
    ask(one)
    monkeypatch.setattr(quarantine, "_rewrite", dying)
    with pytest.raises(KeyboardInterrupt):
        one.tick()
    one.close()
    monkeypatch.undo()
    one = engine(filled, AFTER, 2)
    one.tick()
    assert one.log.totals("cards")["predictions"] == 2
    assert one.inbox.rejected() == 1
    one.close()


def test_files_of_the_rejects_that_are_no_events_stay(tmp_path: Path) -> None:
    one = engine(tmp_path, AFTER)
    one.inbox.folder.mkdir(parents=True)
    (one.inbox.folder / "1-1-0.arrow").write_bytes(b"damaged")
    (one.inbox.folder / "1-1-1.ndjson").write_bytes(b"not json\n")
    one.tick()
    before = sorted(path.name for path in one.inbox.rejects.iterdir())
    ask(one)
    one.tick()
    assert sorted(path.name for path in one.inbox.rejects.iterdir()) == before
    one.close()
