"""History: any window and any baseline is a merge of the grains that are kept."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest

from watchkeeper.history import RUN, History, champion_at, run
from watchkeeper.monitors import Watch, plan, shown
from watchkeeper.profiles import Key, Profile, merge
from watchkeeper.records import ALL
from watchkeeper.schema import ModelConfig
from watchkeeper.stats.grid import Grid
from watchkeeper.testing import profile_of
from watchkeeper.windows import DAY, Window

MARCH = datetime(2024, 3, 1, tzinfo=UTC)
GRIDS = {"age": Grid.fit(np.linspace(0, 100, 500)), "score": Grid.unit(), "latency_ms": Grid.logarithmic(0.1, 1e4)}

Kept = tuple[Key, Profile]


def at(day: int) -> datetime:
    return MARCH + day * DAY


def grain(day: int, version: str, column: str, values: Sequence[Any], label: str = ALL) -> Kept:
    return Key("churn", version, ALL, column, label, at(day)), profile_of(values, GRIDS.get(column))


def reference(version: str, column: str, values: Sequence[Any], label: str = ALL) -> Kept:
    return Key("churn", version, "", column, label, None), profile_of(values, GRIDS.get(column))


def history(
    grains: Sequence[Kept],
    references: Sequence[Kept] = (),
    champions: Sequence[tuple[datetime, str]] = ((MARCH, "v1"),),
) -> History:
    return History(grains, references, champions, GRIDS, DAY, 0.4, MARCH)


def watch(**monitor: Any) -> Watch:
    settings = {"name": "watched", "above": 0.5, **monitor}
    columns = {"age": {"kind": "numeric"}, "country": {"kind": "categorical"}}
    return plan(ModelConfig.model_validate({"columns": columns, "monitors": [settings]}))[0]


def days(first: int, end: int) -> Window:
    return Window(at(first), at(end))


def rows(profile: Profile | None) -> int:
    return profile.n if profile else 0


WEEK = [grain(d, "v1", "age", [float(d)] * (d + 1)) for d in range(7)] + [
    grain(d, "v1", "status", ["ok"] * (d + 1)) for d in range(7)
]


def test_a_window_is_the_merge_of_its_grains_and_half_open() -> None:
    found = history(WEEK).profile("age", days(2, 5))
    expected = merge(p for k, p in WEEK if k.column == "age" and k.start and k.start in days(2, 5))
    assert found is not None
    assert expected is not None
    assert found.to_bytes() == expected.to_bytes()
    assert found.n == 3 + 4 + 5


def test_the_order_of_the_grains_does_not_matter() -> None:
    one, two = history(WEEK), history(WEEK[::-1])
    for window in (days(0, 7), days(1, 3)):
        assert rows(one.profile("age", window)) == rows(two.profile("age", window))
        assert (
            one.subject(watch(metric="psi", columns=["age"]), window)[1]
            == (two.subject(watch(metric="psi", columns=["age"]), window)[1])
        )


def test_there_is_no_profile_where_nothing_is_kept() -> None:
    known = history(WEEK)
    assert known.profile("age", days(7, 9)) is None
    assert known.profile("nothing", days(0, 7)) is None
    assert known.versions(days(7, 9)) == []
    subject, because = known.subject(watch(metric="null_rate", columns=["country"]), days(0, 7))
    assert (subject.current, because) == (None, ())


def test_versions_are_kept_apart_and_can_be_asked_for_together() -> None:
    known = history([*WEEK, grain(3, "v2", "age", [50.0] * 10), grain(3, "v2", "status", ["ok"] * 10)])
    assert known.versions(days(0, 3)) == ["v1"]
    assert known.versions(days(3, 4)) == ["v1", "v2"]
    assert rows(known.profile("age", days(3, 4))) == 14
    assert rows(known.profile("age", days(3, 4), "v2")) == 10
    assert rows(known.profile("age", days(3, 4), "v3")) == 0


def test_a_subject_names_the_profiles_it_is_made_of() -> None:
    kept = [*WEEK, reference("v1", "age", [1.0, 2.0])]
    subject, because = history(WEEK, kept[-1:]).subject(watch(metric="psi", columns=["age"]), days(2, 4))
    assert because == tuple(k.id for k, _ in kept if k.column == "age" and (k.start is None or k.start in days(2, 4)))
    assert (subject.n, subject.n_baseline, subject.grains, subject.threshold) == (7, 2, 2, 0.4)
    assert subject.grid is GRIDS["age"]


# the reference


def test_the_baseline_is_what_the_champion_of_the_windows_end_was_trained_on() -> None:
    references = [reference("v1", "age", [1.0]), reference("v2", "age", [2.0, 2.0])]
    known = history(WEEK, references, [(at(0), "v1"), (at(4), "v2")])
    look = watch(metric="psi", columns=["age"])
    sizes = {end: known.subject(look, days(end - 1, end))[0].n_baseline for end in range(1, 7)}
    assert sizes == {1: 1, 2: 1, 3: 1, 4: 1, 5: 2, 6: 2}, "a window that ends at the coronation was all the old one's"


def test_before_the_first_coronation_the_first_champion_counts() -> None:
    crowned = [(at(4), "v1"), (at(5), "v2")]
    assert [champion_at(crowned, at(d)) for d in (0, 4, 5, 6)] == ["v1", "v1", "v1", "v2"]
    assert champion_at((), at(3)) is None


def test_without_a_champion_there_is_no_reference() -> None:
    known = history(WEEK, [reference("v1", "age", [1.0])], champions=())
    assert known.subject(watch(metric="psi", columns=["age"]), days(0, 1))[0].baseline is None


def test_a_label_metric_sees_each_label_on_both_sides() -> None:
    grains = [
        grain(0, "v1", "score", [0.1, 0.2, 0.9]), grain(0, "v1", "score", [0.1], "0"),
        grain(0, "v1", "score", [0.9], "1"), grain(1, "v1", "score", [0.3]),
    ]  # fmt: skip
    references = [reference("v1", "score", [0.5] * 4), reference("v1", "score", [0.5] * 3, "1")]
    subject, _ = history(grains, references).subject(watch(metric="auc"), days(0, 2))
    assert {label: p.n for label, p in subject.labelled.items()} == {"0": 1, "1": 1}
    assert {label: p.n for label, p in subject.baseline_labelled.items()} == {"1": 3}
    assert subject.n == 4


# the moving baseline


def test_a_moving_baseline_is_the_stretch_before_the_window() -> None:
    subject, because = history(WEEK).subject(watch(metric="psi", columns=["age"], baseline="2d"), days(4, 6))
    assert (subject.n, subject.n_baseline) == (5 + 6, 3 + 4)
    assert (subject.grains, subject.baseline_grains) == (2, 2)
    assert len(because) == 4


@pytest.mark.parametrize(("start", "grains"), [(0, 0), (1, 1), (3, 3), (6, 4)])
def test_a_moving_baseline_counts_the_grains_that_are_known(start: int, grains: int) -> None:
    look = watch(metric="volume", baseline="4d", relative="ratio")
    subject, _ = history(WEEK).subject(look, days(start, start + 1))
    assert subject.baseline_grains == grains
    assert (subject.baseline is None) == (grains == 0)


def test_a_silent_grain_counts_as_one() -> None:
    kept = [part for part in WEEK if part[0].start != at(4)]
    subject, _ = history(kept).subject(watch(metric="volume", baseline="4d", relative="ratio"), days(6, 7))
    assert (subject.baseline_grains, subject.n_baseline) == (4, 3 + 4 + 6)


# baselines of some time ago


def test_the_previous_window_is_a_baseline_of_the_same_length() -> None:
    look = watch(metric="psi", columns=["age"], window="2d", baseline="previous")
    subject, _ = history(WEEK).subject(look, days(4, 6))
    assert (subject.n, subject.n_baseline, subject.baseline_grains) == (5 + 6, 3 + 4, 2)
    assert len(subject.parts) == 4


def test_a_window_some_time_ago_is_that_window_and_no_other() -> None:
    subject, because = history(WEEK).subject(watch(metric="psi", columns=["age"], baseline="3d ago"), days(5, 6))
    assert (subject.n, subject.n_baseline, subject.baseline_grains) == (6, 3, 1)
    assert because == tuple(k.id for k, _ in WEEK if k.column == "age" and k.start in (at(2), at(5)))[::-1]
    assert subject.parts == (), "the days between say nothing of a change against that window"


@pytest.mark.parametrize(("start", "rows", "grains"), [(1, 0, 0), (2, 1, 1), (3, 2, 1), (4, 1 + 3, 2), (6, 3 + 5, 2)])
def test_several_windows_of_the_past_are_merged_as_far_as_they_are_known(start: int, rows: int, grains: int) -> None:
    look = watch(metric="volume", baseline="2 x 2d ago", relative="ratio")
    subject, _ = history(WEEK).subject(look, days(start, start + 1))
    assert (subject.n_baseline, subject.baseline_grains) == (rows, grains)


def test_a_window_some_time_ago_counts_as_a_whole_or_not_at_all() -> None:
    look = watch(metric="psi", columns=["age"], window="2d", baseline="2d ago")
    assert history(WEEK).subject(look, days(1, 3))[0].baseline is None
    assert history(WEEK).subject(look, days(2, 4))[0].n_baseline == 1 + 2


def test_a_silent_window_of_the_past_is_known_to_be_silent() -> None:
    kept = [part for part in WEEK if part[0].start != at(4)]
    subject, _ = history(kept).subject(watch(metric="volume", baseline="2d ago", relative="ratio"), days(6, 7))
    assert (subject.baseline, subject.baseline_grains) == (None, 1)


def test_what_is_only_shown_has_no_baseline() -> None:
    config = ModelConfig.model_validate({"columns": {"age": {"kind": "numeric"}}})
    known = history([grain(0, "v1", "score", [0.5])], [reference("v1", "score", [0.5])])
    look = next(w for w in shown(config) if w.column == "score")
    assert known.subject(look, days(0, 1))[0].baseline is None


def test_a_subject_has_its_parts_from_a_window_before_in_order() -> None:
    subject, _ = history(WEEK[::-1]).subject(watch(metric="psi", columns=["age"], window="2d"), days(3, 5))
    assert [start for start, _ in subject.parts] == [at(1), at(2), at(3), at(4)]
    assert sum(p.n for start, p in subject.parts if start in days(3, 5)) == subject.n


def test_asking_again_gives_the_same_and_asks_nothing_anew() -> None:
    known = history(WEEK)
    assert known.profile("age", days(0, 7)) is known.profile("age", days(0, 7))


def concept_drift(**monitor: Any) -> Watch:
    settings = {"name": "watched", "metric": "concept_drift", "above": 1.1, **monitor}
    return plan(ModelConfig.model_validate({"columns": {"age": {"kind": "numeric"}}, "monitors": [settings]}))[0]


def test_a_metric_that_runs_sees_each_grain_by_label_since_the_champion_was_crowned() -> None:
    grains = [grain(day, "v1", "score", [0.2] * (day + 1), "0") for day in range(6)]
    grains += [grain(day, version, "score", [0.9], "1") for day in (3, 4) for version in ("v1", "v2")]
    champions = [(MARCH, "v1"), (at(2), "v2")]
    subject, _ = history(grains, champions=champions).subject(concept_drift(), days(4, 5))
    assert [start for start, _ in subject.labelled_parts] == [at(2), at(3), at(4)]
    assert [rows(sides.get("0")) for _, sides in subject.labelled_parts] == [3, 4, 5]
    assert [rows(sides.get("1")) for _, sides in subject.labelled_parts] == [0, 2, 2]


def test_a_metric_that_does_not_run_is_given_no_grains_by_label() -> None:
    subject, _ = history([grain(0, "v1", "score", [0.2], "0")]).subject(watch(metric="auc"), days(0, 1))
    assert subject.labelled_parts == ()


@pytest.mark.parametrize(("window", "grains"), [(2, RUN), (90, 180)])
def test_a_metric_runs_over_so_many_grains_at_most_or_two_windows(window: int, grains: int) -> None:
    looked = run(concept_drift(window=f"{window}d"), days(300 - window, 300), [(MARCH, "v1")], DAY)
    assert looked == days(300 - grains, 300)


def test_the_grain_in_which_a_champion_was_crowned_is_not_counted_as_its_own() -> None:
    crowned = at(2) + DAY / 2
    grains = [grain(day, "v1", "score", [0.2], "0") for day in range(5)]
    champions = [(MARCH, "v1"), (crowned, "v2")]
    subject, _ = history(grains, champions=champions).subject(concept_drift(), days(4, 5))
    assert [start for start, _ in subject.labelled_parts] == [at(3), at(4)]
