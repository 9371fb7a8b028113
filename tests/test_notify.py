"""Telling: what is planned, what is said, and that it is said once, or again after a crash, whoever does it."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from watchkeeper import incidents, notify
from watchkeeper.channels import Notice, RetryLaterError
from watchkeeper.errors import DeliveryError
from watchkeeper.records import (
    Action,
    ActionState,
    Delivery,
    DeliveryState,
    Incident,
    IncidentState,
    Reason,
    Rollout,
    RolloutState,
    Severity,
    Transition,
)
from watchkeeper.schema import Config
from watchkeeper.store.state import State, verify

NOW = datetime(2013, 7, 9, 6, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def config(**severities: str) -> Config:
    channels = {name: {"type": "console", "severity": severity} for name, severity in severities.items()}
    return Config.model_validate({"models": {}, "channels": channels})


def signal(column: str = "dep_delay", **other: Any) -> dict[str, Any]:
    return {
        "monitor": "drift",
        "column": column,
        "metric": "psi",
        "since": "2013-07-04T00:00:00+00:00",
        "last": "2013-07-09T00:00:00+00:00",
        "value": 0.3123456,
        "low": 0.28,
        "high": 0.35,
        "limit": 0.2,
        "direction": "above",
        "severity": "P1",
        "verdict": "verdict-000000000001",
        **other,
    }


def incident(**other: Any) -> Incident:
    found = Incident(
        id="incident-000000000001",
        model="delays",
        cause="drift",
        severity=Severity.P1,
        state=IncidentState.OPEN,
        title="Drift: dep_delay",
        since=datetime(2013, 7, 4, tzinfo=UTC),
        opened_at=NOW,
        last_breach=datetime(2013, 7, 9, tzinfo=UTC),
        resolved_at=None,
        owner="",
        signals={"drift|dep_delay": signal()},
        evidence={
            "summary": "dep_delay moved.",
            "recommendation": "Retrain on recent data.",
            "samples": {"dep_delay": [{"request_id": "r1", "dep_delay": 987654.0}]},
        },
        config="config-1",
        revision=0,
        because=("verdict-000000000001",),
    )
    return replace(found, **other)


def opened(at: datetime = NOW, severity: Severity = Severity.P1) -> Transition:
    return incidents.step(None, incident(severity=severity), at, Reason.FIRST_BREACH)


def resolved(at: datetime) -> Transition:
    return incidents.step(incident(), incident(state=IncidentState.RESOLVED), at, Reason.RECOVERED)


# Plan


@pytest.mark.parametrize(
    ("severity", "wanted"),
    [("P0", ["loud", "some", "all"]), ("P1", ["some", "all"]), ("P2", ["all"])],
)  # fmt: skip
def test_a_channel_takes_its_severity_and_what_is_worse(severity: str, wanted: list[str]) -> None:
    planned = notify.plan([opened(severity=Severity(severity))], config(loud="P0", some="P1", all="P2"), NOW)
    assert [delivery.channel for delivery in planned] == wanted


def test_a_delivery_is_pending_and_named_by_what_it_is() -> None:
    [one] = notify.plan([opened()], config(ops="P2"), NOW)
    [again] = notify.plan([opened()], config(ops="P2"), NOW + MINUTE)
    [other] = notify.plan([opened()], config(dev="P2"), NOW)
    assert one.id == again.id != other.id
    assert (one.state, one.attempts, one.next_attempt, one.because) == ("pending", 0, NOW, (opened().id,))


def test_nothing_is_planned_without_transitions_or_channels() -> None:
    assert notify.plan([], config(ops="P2"), NOW) == []
    assert notify.plan([opened()], config(), NOW) == []


# What is said


def test_an_incident_in_plain_words() -> None:
    found = notify.notice("delivery-1", opened(), incident())
    assert found.id == "delivery-1"
    assert found.title == "P1 delays: Drift: dep_delay [new]"
    assert found.reason == Reason.FIRST_BREACH.sentence
    assert found.lines == (
        "A limit was breached and no incident of this cause was open (new to open)",
        "Since 2013-07-04 UTC, last seen up to 2013-07-09 UTC",
        "dep_delay: psi 0.3123 (0.28 to 0.35), limit: not above 0.2, since 2013-07-04 UTC",
        "What to do: Retrain on recent data.",
        "Being done: nothing yet; nobody has taken it on",
        "More: watchkeeper why incident-000000000001",
    )


def test_what_is_being_done_is_said() -> None:
    taken, step = incidents.acknowledge(incident(), NOW, "anna", "on it\nsoon")
    found = notify.notice("delivery-1", step, taken, [action(ActionState.RUNNING)])
    assert found.title == "P1 delays: Drift: dep_delay [acknowledged]"
    assert found.lines[:2] == ("A person decided (open to acknowledged), by anna", "Note: on it soon")
    assert "Being done: retrain is running, anna has taken it on" in found.lines
    assert (found.actor, found.note) == ("anna", "on it soon")


def test_a_resolved_incident_asks_for_nothing() -> None:
    over = incident(
        state=IncidentState.RESOLVED, signals={"drift|dep_delay": signal(recovered="2013-07-06T12:00:00+00:00")}
    )
    found = notify.notice("delivery-1", resolved(NOW), over)
    assert found.title.endswith("[resolved]")
    assert found.lines[2].endswith(", within it again by 2013-07-06 12:00 UTC")
    assert "Nothing needs to be done" in found.lines
    assert not [line for line in found.lines if line.startswith(("What to do", "Being done"))]


def test_many_signals_are_cut_short_the_strongest_first() -> None:
    many = {f"drift|c{i}": signal(f"c{i}", value=0.2 + i / 10) for i in range(1, 9)}
    many["volume|"] = signal("", monitor="volume", value=3.0, low=None, high=None)
    lines = notify.notice("delivery-1", opened(), incident(signals=many)).lines
    assert lines[2] == "volume: psi 3, limit: not above 0.2, since 2013-07-04 UTC"
    assert [line.split(":")[0] for line in lines[3:7]] == ["c8", "c7", "c6", "c5"]
    assert lines[7] == "and 4 more"


def test_a_notice_holds_numbers_but_no_rows() -> None:
    found = notify.notice("delivery-1", opened(), incident(signals={"a|b": signal(high=float("inf"))}))
    text = json.dumps(found.to_dict(), allow_nan=False)
    assert "987654" not in text
    assert "samples" not in text
    assert found.details["kind"] == "incident"
    assert found.details["summary"] == "dep_delay moved."
    assert found.details["signals"][0]["high"] is None
    assert found.details["signals"][0]["value"] == 0.3123456


def test_what_could_forge_a_header_or_drive_a_terminal_is_taken_out() -> None:
    nasty = incident(title="a\r\nBcc: x\x1b[2J\u2028b" + "c" * 300)
    found = notify.notice("delivery-1", opened(), nasty)
    assert found.title.startswith("P1 delays: a Bcc: x [2J b")
    assert len(found.title) == 200
    assert all(line.isprintable() for line in (found.title, *found.lines))


def action(state: ActionState = ActionState.DONE, because: tuple[str, ...] = ("incident-000000000001",)) -> Action:
    return Action(
        id="action-000000000001", model="delays", kind="retrain", state=state, reason=Reason.NO_WORSE,
        planned_at=NOW, started_at=NOW, ended_at=None, detail={}, config="config-1", revision=0, because=because,
    )  # fmt: skip


def rollout(state: RolloutState = RolloutState.RUNNING, **look: Any) -> Rollout:
    return Rollout(
        id="rollout-000000000001", model="delays", candidate="4", champion="3", state=state, stage=1, share=0.25,
        reason=Reason.STAGE_HELD, started_at=NOW, stage_at=NOW, ended_at=None, looks=(look,) if look else (),
        config="config-1", revision=0, because=("action-000000000001",),
    )  # fmt: skip


def about(subject: str, before: str, after: str, reason: Reason) -> Transition:
    return Transition(
        id=f"transition-{subject}", model="delays", subject=subject, at=NOW, before=before, after=after,
        severity=Severity.P2, reason=reason, actor="watchkeeper", note="", because=(),
    )  # fmt: skip


def test_a_rollout_in_plain_words() -> None:
    step = about("rollout-000000000001", "running", "running", Reason.STAGE_HELD)
    subject = rollout(difference=-0.0123, low=-0.04, high=0.0150001, margin=0.05)
    found = notify.notice("delivery-1", step, subject)
    assert found.title == "P2 delays: Candidate 4 [running]"
    assert found.lines == (
        "The stage lasted long enough and no guardrail was breached (running)",
        "Candidate 4 against champion 3: stage 2, 25% of the traffic, since 2013-07-09 06:00 UTC",
        "Log loss of the candidate minus the champion's: -0.0123 (-0.04 to 0.015), margin 0.05",
        "Being done: the rollout goes on by itself",
        "More: watchkeeper why rollout-000000000001",
    )
    assert found.details["look"]["margin"] == 0.05


@pytest.mark.parametrize(
    ("state", "text"),
    [(RolloutState.PROMOTED, "4 serves all traffic"), (RolloutState.ROLLED_BACK, "3 serves all traffic again")],
)  # fmt: skip
def test_the_end_of_a_rollout(state: RolloutState, text: str) -> None:
    found = notify.notice("d", about("rollout-000000000001", "running", state, Reason.ARM_WORSE), rollout(state))
    assert found.title.endswith(f"[{state}]")
    assert f"Being done: {text}" in found.lines
    assert found.details["look"] is None


def test_an_action_and_a_subject_that_is_gone() -> None:
    step = about("action-000000000001", "running", "done", Reason.NO_WORSE)
    assert notify.notice("d", step, action()).title == "P2 delays: Retrain [done]"
    gone = notify.notice("d", step, None)
    assert gone.title == "P2 delays: action-000000000001 [done]"
    assert gone.details == {"kind": "action", "id": "action-000000000001"}


# Deliver


@dataclass
class Fake:
    """A channel that notes what it is sent and fails as it was told to."""

    problems: list[BaseException | None] = field(default_factory=list)
    sent: list[Notice] = field(default_factory=list)
    asked: int = 0

    def send(self, notice: Notice, now: datetime) -> None:
        self.asked += 1
        problem = self.problems.pop(0) if self.problems else None
        if problem is not None:
            raise problem
        self.sent.append(notice)


def passing(text: str = "busy") -> DeliveryError:
    return DeliveryError(text, permanent=False)


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    found = State(tmp_path / "state.db")
    yield found
    found.close()


def write(state: State, *steps: Transition, now: datetime = NOW, **severities: str) -> list[Delivery]:
    planned = notify.plan(steps, config(**(severities or {"ops": "P2"})), now)
    with state.transaction() as tx:
        tx.put([incident(), *steps, *planned])
    return planned


def stored(state: State) -> list[Delivery]:
    with state.transaction() as tx:
        return tx.select(Delivery, order="id")


def outcomes(state: State) -> list[tuple[str, str]]:
    with state.transaction() as tx:
        trail = tx.audit_trail()
        assert verify(trail) is None
    return [(entry.subject, entry.payload["state"]) for entry in reversed(trail) if entry.kind == "delivery"]


def test_what_is_due_is_sent_once(state: State) -> None:
    [planned] = write(state, opened())
    ops = Fake()
    [done] = notify.deliver(state, {"ops": ops}, NOW)
    assert [(n.id, n.title) for n in ops.sent] == [(planned.id, "P1 delays: Drift: dep_delay [new]")]
    assert (done.state, done.attempts, done.sent_at, done.error) == (DeliveryState.SENT, 1, NOW, "")
    assert stored(state) == [done]
    assert outcomes(state) == [("incident-000000000001", "sent")]
    assert notify.deliver(state, {"ops": ops}, NOW + timedelta(days=1)) == []
    assert len(ops.sent) == 1


def test_nothing_is_sent_before_its_time(state: State) -> None:
    write(state, opened(), now=NOW + MINUTE)
    ops = Fake()
    assert notify.deliver(state, {"ops": ops}, NOW) == []
    assert len(notify.deliver(state, {"ops": ops}, NOW + MINUTE)) == 1


def test_actions_under_way_are_looked_up(state: State) -> None:
    write(state, opened())
    running, other = action(ActionState.RUNNING), replace(action(ActionState.PLANNED, ()), id="action-2")
    with state.transaction() as tx:
        tx.put([running, other])
    ops = Fake()
    notify.deliver(state, {"ops": ops}, NOW)
    assert "Being done: retrain is running" in ops.sent[0].lines


@pytest.mark.parametrize("row", [rollout(), action()])
def test_rollouts_and_actions_are_looked_up(state: State, row: Any) -> None:
    write(state, about(row.id, "new", str(row.state), row.reason))
    with state.transaction() as tx:
        tx.put([row])
    ops = Fake()
    notify.deliver(state, {"ops": ops}, NOW)
    assert ops.sent[0].details["state"] == row.state


def test_it_is_written_before_it_is_sent(state: State) -> None:
    write(state, opened())
    seen = []

    class Watching(Fake):
        def send(self, notice: Notice, now: datetime) -> None:
            seen.extend(stored(state))  # would wait for ever if the sending held a transaction

    notify.deliver(state, {"ops": Watching()}, NOW)
    assert [(d.state, d.attempts, d.next_attempt) for d in seen] == [(DeliveryState.SENDING, 1, NOW + notify.LEASE)]


def test_a_passing_failure_waits_longer_each_time_and_is_given_up(state: State) -> None:
    write(state, opened())
    ops, at, waits = Fake([passing()] * 10), NOW, []
    for _ in range(9):
        [tried] = notify.deliver(state, {"ops": ops}, at)
        assert (tried.state, tried.error) == (DeliveryState.PENDING, "busy")
        waits.append((tried.next_attempt - at) // MINUTE)
        assert notify.deliver(state, {"ops": ops}, tried.next_attempt - timedelta(seconds=1)) == []
        at = tried.next_attempt
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    [last] = notify.deliver(state, {"ops": ops}, at)
    assert (last.state, last.attempts) == (DeliveryState.FAILED, 10)
    assert last.error == "given up after 10 attempts: busy"
    assert [what for _, what in outcomes(state)] == ["pending"] * 9 + ["failed"]
    assert notify.deliver(state, {"ops": ops}, at + timedelta(days=9)) == []


def test_a_failure_then_success(state: State) -> None:
    [planned] = write(state, opened())
    ops = Fake([passing()])
    notify.deliver(state, {"ops": ops}, NOW)
    [done] = notify.deliver(state, {"ops": ops}, NOW + MINUTE)
    assert (done.state, done.attempts, done.error) == (DeliveryState.SENT, 2, "")
    assert [n.id for n in ops.sent] == [planned.id]


@pytest.mark.parametrize(
    ("asked", "waits"),
    [
        (timedelta(0), MINUTE),
        (timedelta(seconds=30), MINUTE),
        (timedelta(minutes=7), timedelta(minutes=7)),
        (timedelta(days=9), timedelta(days=1)),
    ],
)  # fmt: skip
def test_the_time_that_the_receiver_asks_for_is_kept(state: State, asked: timedelta, waits: timedelta) -> None:
    write(state, opened())
    [tried] = notify.deliver(state, {"ops": Fake([RetryLaterError("busy", asked)])}, NOW)
    assert tried.next_attempt - NOW == waits


def test_a_permanent_failure_is_not_tried_again(state: State, caplog: pytest.LogCaptureFixture) -> None:
    write(state, opened())
    ops = Fake([DeliveryError("no such address", permanent=True)])
    with caplog.at_level(logging.WARNING):
        [done] = notify.deliver(state, {"ops": ops}, NOW)
    assert (done.state, done.error) == (DeliveryState.FAILED, "no such address")
    assert outcomes(state) == [("incident-000000000001", "failed")]
    assert "no such address" in caplog.text
    assert notify.deliver(state, {"ops": ops}, NOW + timedelta(days=1)) == []


def test_a_channel_that_the_configuration_lost(state: State) -> None:
    write(state, opened())
    [done] = notify.deliver(state, {}, NOW)
    assert done.state is DeliveryState.FAILED
    assert done.error == 'the configuration has no channel "ops" any more'
    assert outcomes(state) == [("incident-000000000001", "failed")]


def test_a_transition_that_is_gone(state: State) -> None:
    [planned] = notify.plan([opened()], config(ops="P2"), NOW)
    with state.transaction() as tx:
        tx.put([planned])
    [done] = notify.deliver(state, {"ops": Fake()}, NOW)
    assert done.state is DeliveryState.FAILED
    assert outcomes(state) == [(planned.transition, "failed")]


# Order


def test_notices_of_one_subject_come_in_their_order(state: State) -> None:
    write(state, resolved(NOW + MINUTE), opened())
    ops = Fake([passing()])
    notify.deliver(state, {"ops": ops}, NOW)
    assert (ops.asked, ops.sent) == (1, [])
    [first, second] = notify.deliver(state, {"ops": ops}, NOW + MINUTE)
    assert first.state is second.state is DeliveryState.SENT
    assert [n.after for n in ops.sent] == ["open", "resolved"]


def test_the_opening_comes_first_among_those_of_one_moment(state: State) -> None:
    worse = incidents.step(incident(), incident(severity=Severity.P0), NOW, Reason.BREACH_WORSENS)
    write(state, worse, opened())
    ops = Fake()
    notify.deliver(state, {"ops": ops}, NOW)
    assert [n.before for n in ops.sent] == ["new", "open"]


def test_the_most_severe_goes_first_and_a_failing_channel_does_not_hold_up_another(state: State) -> None:
    mild = replace(opened(severity=Severity.P2), subject="incident-mild", id="transition-mild", at=NOW - MINUTE)
    grave = replace(opened(severity=Severity.P0), subject="incident-grave", id="transition-grave")
    write(state, mild, grave, broken="P2", works="P2")
    broken, works = Fake([passing(), passing()]), Fake()
    tried = notify.deliver(state, {"broken": broken, "works": works}, NOW)
    assert [n.subject for n in works.sent] == ["incident-grave", "incident-mild"]
    assert broken.asked == 1
    assert sorted(d.state for d in tried) == ["pending", "sent", "sent"]


def test_it_stops_when_its_patience_ends(state: State) -> None:
    write(state, opened(), one="P2", two="P2")
    assert notify.deliver(state, {"one": Fake(), "two": Fake()}, NOW, patience=0) == []
    assert [d.state for d in stored(state)] == ["pending", "pending"]


# Crashes and company


class Killed(BaseException):
    """The process died while it was sending."""


@pytest.mark.parametrize("arrived", [True, False])
def test_after_a_crash_it_is_sent_again_under_the_same_id(state: State, arrived: bool) -> None:
    [planned] = write(state, opened())
    ids = []

    class Dying(Fake):
        def send(self, notice: Notice, now: datetime) -> None:
            if arrived:
                ids.append(notice.id)
            raise Killed

    with pytest.raises(Killed):
        notify.deliver(state, {"ops": Dying()}, NOW)
    ops = Fake()
    assert notify.deliver(state, {"ops": ops}, NOW + notify.LEASE - timedelta(seconds=1)) == []
    [done] = notify.deliver(state, {"ops": ops}, NOW + notify.LEASE)
    assert (done.state, done.attempts) == (DeliveryState.SENT, 2)
    assert [*ids, *(n.id for n in ops.sent)] == [planned.id] * (1 + arrived)


def test_what_crashes_each_time_is_given_up(state: State) -> None:
    write(state, opened())
    at = NOW
    for _ in range(notify.MOST_ATTEMPTS):
        with pytest.raises(Killed):
            notify.deliver(state, {"ops": Fake([Killed()])}, at)
        at += notify.LEASE
    ops = Fake()
    [done] = notify.deliver(state, {"ops": ops}, at)
    assert done.state is DeliveryState.FAILED
    assert "broken off" in done.error
    assert not ops.sent


def test_a_worker_that_was_too_slow_leaves_the_outcome_to_its_successor(state: State) -> None:
    write(state, opened())
    second = Fake()

    class Slow(Fake):
        def send(self, notice: Notice, now: datetime) -> None:
            super().send(notice, now)
            notify.deliver(state, {"ops": second}, NOW + notify.LEASE)

    first = Slow()
    assert notify.deliver(state, {"ops": first}, NOW) == []
    [done] = stored(state)
    assert (done.state, done.attempts) == (DeliveryState.SENT, 2)
    assert [n.id for n in first.sent] == [n.id for n in second.sent]
    assert outcomes(state) == [("incident-000000000001", "sent")]


def test_several_workers_deliver_each_notice_once(state: State, tmp_path: Path) -> None:
    steps = [replace(opened(), id=f"transition-{i}", subject=f"incident-{i}") for i in range(30)]
    planned = write(state, *steps)
    ops, start = Fake(), threading.Barrier(4)

    def work() -> None:
        own = State(tmp_path / "state.db")
        start.wait()
        notify.deliver(own, {"ops": ops}, NOW)
        own.close()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(n.id for n in ops.sent) == sorted(d.id for d in planned)
    assert {d.state for d in stored(state)} == {DeliveryState.SENT}
    assert len(outcomes(state)) == len(planned)
    assert all(d.attempts == 1 for d in stored(state))
