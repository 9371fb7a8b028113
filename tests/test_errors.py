from __future__ import annotations

from watchkeeper.errors import LISTED, did_you_mean, listed


def test_a_name_that_is_nearly_known_is_asked_about() -> None:
    assert did_you_mean("scor", ["label", "score"]) == 'did you mean "score"?'


def test_other_names_bring_all_that_are_known() -> None:
    assert did_you_mean("zzzz", iter(["age", "income"])) == "known are: age, income"
    assert did_you_mean("zzzz", ["age"], "its features are") == "its features are age"
    assert did_you_mean("zzzz", []) == "known are: none"


def test_a_long_list_is_cut() -> None:
    names = [f"c{i}" for i in range(LISTED + 1200)]
    assert listed(names[:LISTED]).endswith(f", c{LISTED - 1}")
    assert listed(names).endswith(f", c{LISTED - 1} and 1,200 more")
