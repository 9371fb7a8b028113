# Everything that the continuous integration runs, in the same order.
check: test lint types

# The tests; arguments go to pytest: `just test tests/test_layers.py`.
test *arguments:
    uv run pytest {{arguments}}

# Style and formatting.
lint:
    uv run ruff check
    uv run ruff format --check

# Types.
types:
    uv run mypy

# The tests on the lowest versions that pyproject.toml allows.
lowest *arguments:
    uv run --isolated --resolution lowest-direct pytest {{arguments}}

# Write the reference pages anew from the code.
docs:
    uv run python docs/generate.py

# The whole loop on real data, then the dashboard.
demo:
    uv run watchkeeper demo
