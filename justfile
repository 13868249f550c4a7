# Recipes for people who work on paddock; `just --list` shows them by group.

set positional-arguments

# Serve from the checkout with the default plugins
[group('run')]
serve *args:
    uv run paddock serve "$@"

# Do the main job once and print it
[group('run')]
demo *args:
    uv run paddock demo "$@"

# All tests, on every core
[group('check')]
test *args:
    uv run --group test pytest -n auto "$@"

# Style, strict types, generated tables
[group('check')]
lint:
    uv run --group test ruff check .
    uv run --group test ruff format --check .
    uv run --group test mypy
    uv run --group test python -m paddock.reference README.md --check

# Format, and make the README's tables anew
[group('check')]
tidy:
    uv run --group test ruff format .
    uv run --group test ruff check --fix .
    uv run --group test python -m paddock.reference README.md

# What a landing has to pass
[group('check')]
ci:
    .ci/run

# Start, memory, ingest, chat: each with its ratio
[group('measure')]
bench *args:
    uv run --group test python tests/benchmarks/all.py "$@"

# Retrieval quality on a folder with the Cranfield collection
[group('measure')]
cranfield folder *args:
    uv run --group test python tests/benchmarks/cranfield.py "$@"
