"""Segments: frozen, named so that no two can be taken for one another."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from watchkeeper.segments import MOST, Segmentation, freeze, is_named


def test_the_most_frequent_values_are_segments_and_then_come_the_rest_and_the_missing() -> None:
    found = freeze(("country",), [(("DE",), 5), (("NL",), 9), (("BE",), 5)])
    assert found.values == (("NL",), ("BE",), ("DE",))
    assert found.names == ("country=NL", "country=BE", "country=DE", "country=(other)", "country=(missing)")
    assert [is_named(name) for name in found.names] == [True, True, True, False, False]


def test_a_crossing_names_each_of_its_columns() -> None:
    found = freeze(("country", "device"), [(("NL", "web"), 2), (("NL", "New York"), 1)])
    assert found.names == (
        "country=NL, device=web", "country=NL, device=New York", "country, device=(other)", "country, device=(missing)",
    )  # fmt: skip


def test_a_hundred_values_are_segments_and_no_more() -> None:
    found = freeze(("sku",), [((f"{i:03}",), 1000 - i) for i in range(250)][::-1])
    assert found.values == tuple((f"{i:03}",) for i in range(MOST))
    assert len(found.names) == MOST + 2


@pytest.mark.parametrize(
    ("value", "name"),
    [
        ("(other)", 'c="(other)"'),
        ("(missing)", 'c="(missing)"'),
        ("", 'c=""'),
        (" NL", 'c=" NL"'),
        ("NL, d=web", 'c="NL, d=web"'),
        ('"NL"', r'c="\"NL\""'),
        ("\x00", r'c="\u0000"'),
        ("Zürich", "c=Zürich"),
        ("a=b", 'c="a=b"'),
    ],
)
def test_a_value_that_could_be_misread_is_quoted(value: str, name: str) -> None:
    found = Segmentation(("c",), ((value,),))
    assert found.names == (name, "c=(other)", "c=(missing)")
    assert is_named(name)


values = st.text(st.sampled_from('ab,= ()"\\cd'), max_size=6)
columns = st.lists(st.text(st.sampled_from('ab,="'), min_size=1, max_size=3), min_size=1, max_size=2, unique=True)


@given(columns, columns, st.data())
def test_no_two_segments_share_a_name(one: list[str], two: list[str], data: st.DataObject) -> None:
    found = set()
    total = 0
    for names in {tuple(one), tuple(two)}:
        some = data.draw(st.lists(st.tuples(*[values] * len(names)), max_size=6, unique=True))
        parted = Segmentation(names, tuple(some))
        found |= {*parted.names}
        total += len(parted.names)
    assert len(found) == total
