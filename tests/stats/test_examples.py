"""The examples in the docstrings of the statistics run and give what they show."""

from __future__ import annotations

import doctest
import pkgutil
from importlib import import_module

import pytest

from watchkeeper import stats

MODULES = [f"{stats.__name__}.{found.name}" for found in pkgutil.iter_modules(stats.__path__)]


@pytest.mark.parametrize("module", [*MODULES, "watchkeeper.testing"])
def test_the_examples_run(module: str) -> None:
    assert doctest.testmod(import_module(module)).failed == 0
