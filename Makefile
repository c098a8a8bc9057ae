# Two commands set everything up by themselves: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# One pool of two threads a process: several pools on few cores are many times slower.
THREADS := OMP_NUM_THREADS=1

.PHONY: env demo test test-slow lint format lock clean

env: $(READY)

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "whyadam needs Python 3.11 or newer; say which with make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@mkdir -p $(VENV)/source && ln -sfn ../.. $(VENV)/source/whyadam
	@touch $@

test: env
	$(THREADS) $(BIN)/pytest -q -n 2 -m "not slow"

test-slow: env
	$(THREADS) $(BIN)/pytest -q -n 2 -m slow

# mypy finds the package under its own name whatever the folder of the clone is called.
lint: env
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	cd $(VENV)/source && ../bin/mypy --config-file whyadam/pyproject.toml -p whyadam

format: env
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

demo: env
	PATH="$(CURDIR)/$(BIN):$$PATH" sh scripts/demo.sh

# Needs uv (https://docs.astral.sh/uv). Hashes, all platforms, no address of a package index.
lock:
	uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --no-emit-index-url --output-file requirements.lock

clean:
	rm -rf $(VENV) build .mypy_cache .pytest_cache .ruff_cache
