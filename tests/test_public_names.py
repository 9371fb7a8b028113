"""The names that others rely on."""

from __future__ import annotations

import importlib.metadata

import pytest

import watchkeeper

NAMES = ["Baseline", "Client", "Comparison", "Evaluation", "__version__", "compare", "evaluate", "profile"]


def test_the_public_names_are_exactly_these() -> None:
    assert sorted(watchkeeper.__all__) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_public_name_resolves(name: str) -> None:
    assert getattr(watchkeeper, name) is not None


def test_dir_shows_the_public_names() -> None:
    assert set(NAMES) <= set(dir(watchkeeper))


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = watchkeeper.no_such_name


def test_the_version_is_the_installed_one() -> None:
    assert watchkeeper.__version__ == importlib.metadata.version("watchkeeper")
