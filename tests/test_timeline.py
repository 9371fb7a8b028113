"""The timeline: a step is kept, told and recorded together, or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from test_notify import NOW, config, incident, opened, resolved
from watchkeeper import incidents, timeline
from watchkeeper.records import Delivery, Reason, Transition
from watchkeeper.store.state import State, verify


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    state = State(tmp_path / "state.db")
    yield state
    state.close()


def rows(state: State, kind: type) -> list[Any]:
    with state.transaction() as tx:
        return tx.select(kind)


def test_a_step_is_kept_told_and_recorded(state: State) -> None:
    with state.transaction() as tx:
        timeline.write(tx, [opened()], config(loud="P0", ops="P1", all="P2"), NOW)
        [entry] = tx.audit_trail()
    assert rows(state, Transition) == [opened()]
    assert {delivery.channel for delivery in rows(state, Delivery)} == {"ops", "all"}
    assert (entry.actor, entry.kind, entry.subject) == ("watchkeeper", "transition", opened().subject)
    assert entry.payload == {
        "transition": opened().id, "from": "new", "to": "open", "reason": "first_breach", "note": "",
    }  # fmt: skip


@pytest.mark.parametrize("reason", sorted(timeline.SILENT))
def test_what_is_silent_is_kept_and_recorded_and_sent_to_nobody(state: State, reason: Reason) -> None:
    step = replace(opened(), reason=reason)
    with state.transaction() as tx:
        timeline.write(tx, [step], config(all="P2"), NOW)
        assert len(tx.audit_trail()) == 1
    assert rows(state, Transition) == [step]
    assert rows(state, Delivery) == []


def test_no_steps_write_nothing(state: State) -> None:
    with state.transaction() as tx:
        timeline.write(tx, iter([]), config(all="P2"), NOW)
        assert tx.audit_trail() == []


def test_steps_of_a_generator_are_all_written_in_their_order(state: State) -> None:
    with state.transaction() as tx:
        timeline.write(tx, (step for step in (opened(), resolved(NOW))), config(all="P2"), NOW)
        trail = tx.audit_trail()
    assert [entry.payload["to"] for entry in reversed(trail)] == ["open", "resolved"]
    assert verify(trail) is None
    assert len(rows(state, Delivery)) == 2


def test_all_of_it_is_written_or_nothing(state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr("watchkeeper.store.state.Transaction.audit", full)
    with pytest.raises(OSError, match="full"), state.transaction() as tx:
        timeline.write(tx, [opened()], config(all="P2"), NOW)
    assert rows(state, Transition) == rows(state, Delivery) == []


def test_steps_that_are_alike_but_for_their_turn_have_an_id_each() -> None:
    first = incidents.step(incident(), incident(state="resolved"), NOW, Reason.RECOVERED)
    again = incidents.step(incident(revision=4), incident(state="resolved", revision=4), NOW, Reason.RECOVERED)
    assert first.id != again.id
