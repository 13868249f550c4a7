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

# Build the real llama-server that the tests run, once, and print its path
[group('check')]
llama-server:
    .ci/llama-server

# Fetch the real all-MiniLM-L6-v2 that the tests import, once, and print its folder
[group('check')]
minilm:
    .ci/minilm

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

# Start, idle memory, ingest, chat: each figure beside its goal and the alternative
[group('measure')]
bench:
    uv run --group test python tests/benchmarks/start.py
    uv run --group test python tests/benchmarks/ingest.py
    uv run --group test python tests/benchmarks/chat.py

# The gateway in front of a mock upstream; `--against litellm` installs LiteLLM beside and measures it too
[group('measure')]
bench-gateway *args:
    uv run --group test python tests/benchmarks/gateway.py "$@"

# What the first request to a stopped instance adds to llama-server's own start
[group('measure')]
bench-cold-start *args:
    uv run --group test python tests/benchmarks/cold_start.py "$@"

# Retrieval quality on a folder with the Cranfield collection, in process and through HTTP
[group('measure')]
cranfield folder:
    uv run --group test python tests/benchmarks/cranfield.py "$1"
    uv run --group test python tests/benchmarks/cranfield_http.py "$1"

# OCR on a folder of pictures with their texts
[group('measure')]
bench-ocr folder:
    uv run --group test python tests/benchmarks/ocr.py "$1"

# 100,000 chunks made of Cranfield's sentences: the store alone, and queries through HTTP
[group('measure')]
bench-queries folder:
    uv run --group test python tests/benchmarks/store_100k.py --corpus "$1" --dimension 512
    uv run --group test python tests/benchmarks/query.py "$1"

# Few-shot classifiers on a folder with banking77, beside plain logistic regression
[group('measure')]
classifier folder *args:
    uv run --group test python tests/benchmarks/classifier.py "$@"

# Anomaly detectors on a folder of labelled tables, beside scikit-learn's defaults
[group('measure')]
anomaly folder *args:
    uv run --group test python tests/benchmarks/anomaly.py "$@"

# MiniLM's embeddings through HTTP, against sentence-transformers of another environment's Python
[group('measure')]
bench-embeddings folder reference:
    uv run --group test python tests/benchmarks/embeddings.py "$(.ci/minilm)" "$1" --reference "$2"
