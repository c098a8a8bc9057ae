# Two commands set everything up by themselves: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# Two test processes with one thread each: more threads than cores are many times slower than one.
THREADS := OMP_NUM_THREADS=1

.PHONY: env demo docs bench test test-slow test-faults lint types format lock clean

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

# What takes longer, all faults among it. A process that has nothing left takes over tests of the other one.
test-slow: env
	$(THREADS) $(BIN)/pytest -q -n 2 --dist worksteal -m slow

# Faults and hostile input alone, short and long.
test-faults: env
	$(THREADS) $(BIN)/pytest -q -n 2 -m faults

lint: env types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

# mypy finds the package under its own name whatever the folder of the clone is called.
types: env
	cd $(VENV)/source && ../bin/mypy --config-file whyadam/pyproject.toml --cache-dir ../../.mypy_cache -p whyadam

format: env
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

demo: env
	PATH="$(CURDIR)/$(BIN):$$PATH" sh scripts/demo.sh

# The pages of docs/ as HTML in site/, without network; a broken link or reference is an error. The reference is read
# from a copy of the package: what reads it would walk through all of .venv too.
docs: env
	rm -rf build/docs
	$(BIN)/python -W ignore -c "from setuptools import setup; setup()" --quiet build_py --build-lib build/docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

# On a machine that is otherwise idle, three quarters of an hour; writes docs/benchmarks.md.
bench: env
	$(THREADS) $(BIN)/python scripts/bench.py

# Needs uv. Hashes, for all platforms, and no word on where the packages come from.
lock:
	uv pip compile pyproject.toml --extra dev --extra docs --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --no-emit-index-url --output-file requirements.lock

clean:
	rm -rf $(VENV) build site .mypy_cache .pytest_cache .ruff_cache
