"""Incidents: one story per cause, opened once, ended by health and not by silence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from watchkeeper.errors import ConflictError
from watchkeeper.incidents import CLOSED_BY, ENGINE, NEW, acknowledge, gather, resolve, strength, supersede
from watchkeeper.records import Incident, IncidentState, Reason, Severity, Status, Transition, Verdict, row_id
from watchkeeper.windows import DAY, HOUR, Window

MARCH = datetime(2024, 3, 1, tzinfo=UTC)
WEEK, RESOLVE_AFTER = 7 * DAY, 3 * DAY
BREACH, HEALTHY, NOTHING, FEW, PROVISIONAL = (
    Status.BREACH, Status.HEALTHY, Status.NO_DATA, Status.NOT_ENOUGH_DATA, Status.PROVISIONAL,
)  # fmt: skip


def at(day: int) -> datetime:
    """The end of a day of March; windows end there."""
    return MARCH + day * DAY


def verdict(day: int, status: Status = BREACH, column: str = "age", **other: Any) -> Verdict:
    settings = {
        "model": "churn", "monitor": "drift", "cause": "drift", "segment": "", "metric": "psi",
        "severity": Severity.P2, "window": Window(at(day) - WEEK, at(day)), "reason": Reason.OUTSIDE_LIMIT,
        "value": 0.4, "low": 0.3, "high": 0.5, "limit": 0.2, "direction": "above", "n": 1000, "config": "config-1",
        "because": (f"point-{day}",), **other,
    }  # fmt: skip
    name = row_id("verdict", settings["monitor"], column, settings["window"].start, settings["window"].end, status)
    return Verdict(id=name, column=column, status=status, **settings)


class Story:
    """The incidents of one model, kept as the engine keeps them."""

    def __init__(self) -> None:
        self.incidents: list[Incident] = []
        self.steps: list[Transition] = []

    def look(self, *verdicts: Verdict, now: datetime | None = None, **settings: Any) -> list[Transition]:
        moment = now or max(v.window.end for v in verdicts) + HOUR
        found = gather(verdicts, self.incidents, moment, DAY, RESOLVE_AFTER, **settings)
        for incident, _ in found:
            self.keep(incident)
        steps = [step for _, some in found for step in some]
        self.steps += steps
        return steps

    def keep(self, incident: Incident) -> None:
        self.incidents = [i for i in self.incidents if i.id != incident.id] + [incident]
        self.incidents.sort(key=lambda i: i.opened_at)

    @property
    def last(self) -> Incident:
        return self.incidents[-1]

    def reasons(self) -> list[Reason]:
        return [step.reason for step in self.steps]


def opened(*days: int) -> Story:
    story = Story()
    for day in days or (10,):
        story.look(verdict(day))
    return story


# the beginning


def test_a_first_breach_opens_an_incident() -> None:
    story = Story()
    (step,) = story.look(verdict(10))
    incident = story.last
    assert (incident.state, incident.cause, incident.severity) == (IncidentState.OPEN, "drift", Severity.P2)
    assert (incident.title, incident.revision, incident.owner) == ("Drift: age", 0, "")
    assert (incident.opened_at, incident.last_breach, incident.resolved_at) == (at(10) + HOUR, at(10), None)
    assert incident.because == (verdict(10).id,)
    assert (step.reason, step.before, step.after) == (Reason.FIRST_BREACH, NEW, "open")
    assert (step.subject, step.actor, step.because) == (incident.id, ENGINE, incident.because)


@pytest.mark.parametrize("status", [HEALTHY, NOTHING, FEW, PROVISIONAL])
def test_what_is_no_breach_opens_nothing(status: Status) -> None:
    assert Story().look(verdict(10, status)) == []


def test_trouble_is_taken_to_begin_with_the_last_grain_of_the_first_breaching_window() -> None:
    assert opened(10).last.since == at(9)
    hourly = gather([verdict(10)], [], at(10), HOUR, RESOLVE_AFTER)[0][0]
    assert hourly.since == at(10) - HOUR


def test_trouble_begins_when_it_is_known_to_have_begun() -> None:
    story = Story()
    story.look(verdict(10), verdict(10, column="income"), began={verdict(10).id: at(6)})
    assert story.last.since == at(6)
    assert [s["since"] for s in story.last.signals.values()] == [at(6).isoformat(), at(9).isoformat()]


def test_each_cause_has_its_own_incident() -> None:
    story = Story()
    steps = story.look(verdict(10), verdict(10, cause="service", monitor="errors", column="status"))
    assert [s.reason for s in steps] == [Reason.FIRST_BREACH] * 2
    assert {i.title for i in story.incidents} == {"Drift: age", "Service: errors"}


def test_an_incident_is_as_severe_as_its_worst_breach() -> None:
    story = Story()
    story.look(verdict(10, column="income", severity=Severity.P2), verdict(10, severity=Severity.P0))
    assert story.last.severity is Severity.P0


def test_a_title_names_three_and_counts_the_rest_strongest_first() -> None:
    story = Story()
    story.look(*(verdict(10, column=c, value=0.2 + i) for i, c in enumerate(["a", "b", "c", "d", "e"])))
    assert story.last.title == "Drift: e, d, c and 2 more"


def test_the_same_looks_name_the_same_rows() -> None:
    one, two = opened(10, 11), opened(10, 11)
    assert one.last == two.last
    assert [s.id for s in one.steps] == [s.id for s in two.steps]


# while it lasts


def test_an_incident_is_opened_once_however_long_it_lasts() -> None:
    story = opened(10, 11, 12, 13)
    assert story.reasons() == [Reason.FIRST_BREACH]
    assert len(story.incidents) == 1
    assert (story.last.last_breach, story.last.since) == (at(13), at(9))


def test_a_look_taken_again_changes_nothing() -> None:
    story = opened(10)
    before = story.last
    assert gather([verdict(10)], [before], at(11), DAY, RESOLVE_AFTER) == []
    assert story.look(verdict(10, HEALTHY, column="other")) == []
    assert story.last is before


def test_numbers_follow_the_last_breach() -> None:
    story = opened(10)
    assert story.look(verdict(11, value=0.9, low=0.8, high=1.0)) == []
    signal = story.last.signals["drift|age"]
    assert (signal["value"], signal["low"], signal["high"]) == (0.9, 0.8, 1.0)
    assert (signal["since"], signal["last"]) == (at(9).isoformat(), at(11).isoformat())


def test_another_column_spreads_it() -> None:
    story = opened(10)
    (step,) = story.look(verdict(11), verdict(11, column="income"), verdict(11, column="country"))
    assert (step.reason, step.note, step.before, step.after) == (
        Reason.BREACH_SPREADS, "country, income", "open", "open",
    )  # fmt: skip
    assert set(story.last.signals) == {"drift|age", "drift|income", "drift|country"}
    assert story.look(verdict(12), verdict(12, column="income")) == []


def test_a_spread_is_told_by_monitor_where_columns_say_nothing() -> None:
    story = Story()
    performance = {"cause": "performance", "column": "score"}
    story.look(verdict(10, monitor="AUC", **performance))
    (step,) = story.look(verdict(11, monitor="log loss", **performance))
    assert (step.reason, step.note) == (Reason.BREACH_SPREADS, "log loss")


def test_a_graver_breach_worsens_it() -> None:
    story = opened(10)
    (step,) = story.look(verdict(11), verdict(11, column="income", severity=Severity.P0))
    assert (step.reason, step.severity) == (Reason.BREACH_WORSENS, Severity.P0)
    assert story.last.severity is Severity.P0
    assert story.look(verdict(12), verdict(12, column="income", severity=Severity.P0)) == []


def test_severity_and_title_follow_what_still_breaches() -> None:
    story = Story()
    story.look(verdict(10), verdict(10, column="income", severity=Severity.P1, value=0.9))
    assert (story.last.severity, story.last.title) == (Severity.P1, "Drift: income, age")
    assert story.look(verdict(11), verdict(11, HEALTHY, column="income")) == []
    assert (story.last.severity, story.last.title) == (Severity.P2, "Drift: age")


# the end


def test_it_is_resolved_once_no_limit_was_breached_for_long_enough() -> None:
    story = opened(10)
    assert story.look(verdict(11, HEALTHY)) == []
    assert story.look(verdict(12, HEALTHY)) == []
    (step,) = story.look(verdict(13, HEALTHY))
    assert (step.reason, step.before, step.after) == (Reason.RECOVERED, "open", "resolved")
    assert (story.last.state, story.last.resolved_at) == (IncidentState.RESOLVED, at(13) + HOUR)
    assert (story.last.severity, story.last.title) == (Severity.P2, "Drift: age")
    assert story.look(verdict(14, HEALTHY)) == []


@pytest.mark.parametrize("status", [NOTHING, FEW, PROVISIONAL])
def test_missing_data_resolves_nothing(status: Status) -> None:
    story = opened(10)
    for day in range(11, 40):
        assert story.look(verdict(day, status)) == []
    assert story.last.state is IncidentState.OPEN
    assert story.look(verdict(40, HEALTHY))[0].reason is Reason.RECOVERED


def test_health_that_is_followed_by_silence_resolves_nothing_until_data_are_back() -> None:
    story = opened(10)
    story.look(verdict(11, HEALTHY))
    for day in range(12, 20):
        assert story.look(verdict(day, NOTHING)) == []
    assert story.look(verdict(20, HEALTHY))[0].reason is Reason.RECOVERED


def test_all_that_breached_must_be_healthy_again() -> None:
    story = Story()
    story.look(verdict(10), verdict(10, column="income"))
    for day in range(11, 20):
        assert story.look(verdict(day, HEALTHY), verdict(day, FEW, column="income")) == []
    (step,) = story.look(verdict(20, HEALTHY), verdict(20, HEALTHY, column="income"), verdict(20, FEW, column="other"))
    assert step.reason is Reason.RECOVERED


def test_a_breach_in_between_starts_the_wait_anew() -> None:
    story = opened(10)
    for day, status in ((11, HEALTHY), (12, BREACH), (13, HEALTHY), (14, HEALTHY)):
        assert story.look(verdict(day, status)) == []
    assert story.look(verdict(15, HEALTHY))[0].reason is Reason.RECOVERED
    assert story.last.since == at(9)


def test_an_acknowledged_incident_is_resolved_by_health_as_well() -> None:
    story = opened(10)
    story.keep(acknowledge(story.last, at(10), "ana")[0])
    story.look(verdict(11))
    assert (story.last.state, story.last.owner) == (IncidentState.ACKNOWLEDGED, "ana")
    (step,) = story.look(verdict(14, HEALTHY))
    assert (step.before, step.after) == ("acknowledged", "resolved")


# coming back


def resolved(day: int = 13) -> Story:
    story = opened(10)
    story.look(verdict(day, HEALTHY))
    assert story.last.state is IncidentState.RESOLVED
    return story


def test_what_comes_back_soon_reopens_the_incident() -> None:
    story = resolved()
    (step,) = story.look(verdict(16))
    assert (step.reason, step.before, step.after) == (Reason.BREACHED_AGAIN, "resolved", "open")
    assert len(story.incidents) == 1
    assert (story.last.resolved_at, story.last.since, story.last.last_breach) == (None, at(9), at(16))
    assert story.last.signals["drift|age"]["recovered"] == ""


def test_what_comes_back_late_is_a_new_incident() -> None:
    story = resolved()
    (step,) = story.look(verdict(17))
    assert (step.reason, step.before) == (Reason.FIRST_BREACH, NEW)
    assert [i.state for i in story.incidents] == [IncidentState.RESOLVED, IncidentState.OPEN]
    assert story.last.since == at(16)
    assert story.incidents[0].id != story.last.id


def test_an_incident_may_come_back_on_another_column() -> None:
    story = resolved()
    story.look(verdict(15, column="income"), verdict(15, HEALTHY))
    assert story.last.title == "Drift: income"
    assert set(story.last.signals) == {"drift|age", "drift|income"}


# late data


def test_late_data_on_a_resolved_incidents_own_time_do_not_reopen_it() -> None:
    story = resolved()
    before = story.last
    assert story.look(verdict(10, value=0.5), now=at(14)) == []
    assert story.look(verdict(8, column="income"), now=at(14)) == []
    assert story.last is before


def test_late_data_on_an_earlier_window_do_not_overwrite_what_is_known_of_later_ones() -> None:
    story = Story()
    story.look(verdict(10, value=0.9))
    story.look(verdict(11, HEALTHY))
    before = story.last.signals["drift|age"]
    assert story.look(verdict(9, value=0.3), now=at(11)) == []
    assert story.last.signals["drift|age"] == before
    assert story.look(verdict(9, HEALTHY), now=at(11)) == []
    assert story.last.last_breach == at(10)


def test_a_breach_found_late_is_counted_where_it_belongs() -> None:
    story = opened(10)
    story.look(verdict(12, HEALTHY))
    story.look(verdict(11, value=0.7), now=at(12))
    signal = story.last.signals["drift|age"]
    assert (signal["last"], signal["value"], signal["recovered"]) == (at(11).isoformat(), 0.7, at(12).isoformat())
    assert story.look(verdict(13, HEALTHY)) == []
    assert story.look(verdict(14, HEALTHY))[0].reason is Reason.RECOVERED


# a new champion


def test_a_new_champion_ends_the_incident_it_was_trained_for() -> None:
    incident = opened(10).last
    after, step = supersede(incident, "rollout-1", "v2", at(12))
    assert (after.state, after.resolved_at, after.evidence) == (
        IncidentState.RESOLVED, at(12), {CLOSED_BY: "rollout-1"},
    )  # fmt: skip
    assert (step.reason, step.note, step.because) == (Reason.NEW_CHAMPION, "v2 took over", ("rollout-1",))


def test_what_breaches_against_the_new_champions_baseline_is_a_new_incident() -> None:
    story = opened(10)
    story.keep(supersede(story.last, "rollout-1", "v2", at(12) + HOUR)[0])
    assert story.look(verdict(11), now=at(13)) == [], "a window of the old champion's time"
    assert story.look(verdict(12), now=at(13)) == []
    (step,) = story.look(verdict(13), began={verdict(13).id: at(9)})
    assert step.reason is Reason.FIRST_BREACH
    assert len({i.id for i in story.incidents}) == 2, "though both are found to have begun on the same day"


# by hand


def test_a_person_takes_an_incident_on() -> None:
    incident = opened(10).last
    after, step = acknowledge(incident, at(11), "ana", "looking")
    assert (after.state, after.owner) == (IncidentState.ACKNOWLEDGED, "ana")
    assert (step.reason, step.actor, step.note) == (Reason.BY_HAND, "ana", "looking")
    assert (step.before, step.after, step.at) == ("open", "acknowledged", at(11))
    assert (incident.state, incident.owner) == (IncidentState.OPEN, "")


def test_only_an_open_incident_can_be_acknowledged() -> None:
    taken, _ = acknowledge(opened(10).last, at(11), "ana")
    for state in (taken, resolve(taken, at(12), "ana")[0]):
        with pytest.raises(ConflictError, match=f"{state.id} is {state.state} already"):
            acknowledge(state, at(12), "ben")


def test_a_person_declares_an_incident_over_once() -> None:
    incident = opened(10).last
    after, step = resolve(incident, at(11), "ana", "source mended")
    assert (after.state, after.resolved_at) == (IncidentState.RESOLVED, at(11))
    assert (step.reason, step.actor, step.note, step.after) == (Reason.BY_HAND, "ana", "source mended", "resolved")
    with pytest.raises(ConflictError, match="is resolved already"):
        resolve(after, at(12), "ben")


def test_what_goes_on_after_a_person_declared_it_over_reopens_it() -> None:
    story = opened(10)
    story.keep(resolve(story.last, at(10) + HOUR, "ana")[0])
    assert story.look(verdict(10)) == []
    (step,) = story.look(verdict(11))
    assert step.reason is Reason.BREACHED_AGAIN


# whatever happens


@given(
    st.lists(
        st.tuples(st.integers(8, 30), st.lists(st.sampled_from([*Status, None]), min_size=3, max_size=3)), max_size=25
    )
)
def test_no_story_is_told_in_a_way_that_cannot_be(looks: list[tuple[int, Sequence[Status | None]]]) -> None:
    story = Story()
    for day, statuses in looks:
        found = [verdict(day, s, column=c) for s, c in zip(statuses, "abc", strict=True) if s is not None]
        if not found:
            continue
        story.look(*found, now=at(40))
        for incident in story.incidents:
            assert (incident.resolved_at is None) == (incident.state is not IncidentState.RESOLVED)
            assert incident.last_breach == max(datetime.fromisoformat(s["last"]) for s in incident.signals.values())
            for signal in incident.signals.values():
                assert not signal["recovered"] or signal["recovered"] > signal["last"]
        assert sum(i.state is not IncidentState.RESOLVED for i in story.incidents) <= 1
    by_incident = {i.id: [s for s in story.steps if s.subject == i.id] for i in story.incidents}
    for steps in by_incident.values():
        assert steps[0].before == NEW
        assert all(one.after == two.before for one, two in pairwise(steps))


@pytest.mark.parametrize(
    ("direction", "limit", "value", "expected"),
    [("above", 0.2, 0.4, 1.0), ("below", 0.8, 0.4, 0.5), ("above", 0.0, 0.3, 0.3), ("below", -0.05, -0.1, 1.0)],
)
def test_strength_is_the_distance_beyond_the_limit_in_its_units(
    direction: str, limit: float, value: float, expected: float
) -> None:
    assert strength({"direction": direction, "limit": limit, "value": value}) == pytest.approx(expected)


def test_only_the_store_counts_revisions() -> None:
    before = replace(opened(10).last, revision=7)
    assert gather([verdict(11)], [before], at(11), DAY, RESOLVE_AFTER)[0][0].revision == 7


def test_a_window_longer_than_the_time_to_resolve_is_no_hindrance() -> None:
    story = Story()
    long = {"window": Window(at(10) - timedelta(days=28), at(10))}
    story.look(verdict(10, **long))
    for day in (11, 12):
        assert story.look(verdict(day, HEALTHY)) == []
    assert story.look(verdict(13, HEALTHY))[0].reason is Reason.RECOVERED


# segments


def in_segment(day: int, segment: str, status: Status = BREACH, **other: Any) -> Verdict:
    found = verdict(day, status, **other)
    return replace(found, id=row_id("verdict", found.id, segment), segment=segment)


def test_segments_are_signals_of_one_incident_that_names_them() -> None:
    story = Story()
    story.look(verdict(10, HEALTHY), in_segment(10, "country=NL"), in_segment(10, "country=DE", HEALTHY))
    assert story.last.title == "Drift: age in country=NL"
    assert set(story.last.signals) == {"drift|age|country=NL"}
    (step,) = story.look(verdict(11), in_segment(11, "country=NL", value=0.9), in_segment(11, "country=DE", HEALTHY))
    assert (step.reason, step.note) == (Reason.BREACH_SPREADS, "age")
    assert story.last.title == "Drift: age in country=NL, age"
    assert len(story.incidents) == 1


def test_an_incident_of_a_segment_is_over_when_the_segment_is_well() -> None:
    story = Story()
    story.look(in_segment(10, "country=NL"))
    for day in (11, 12, 13):
        story.look(verdict(day, HEALTHY), in_segment(day, "country=NL", NOTHING))
    assert story.last.state is IncidentState.OPEN, "the others being well says nothing of it"
    story.look(verdict(14, HEALTHY), in_segment(14, "country=NL", HEALTHY))
    assert story.last.state is IncidentState.RESOLVED


def test_hundreds_of_segments_that_join_at_once_are_not_all_named() -> None:
    story = Story()
    story.look(verdict(10))
    (step,) = story.look(verdict(11), *(in_segment(11, f"country=C{i:03}") for i in range(100)))
    assert step.note.endswith("age in country=C009 and 90 more")
    assert len(story.last.signals) == 101
