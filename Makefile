# Set-up is a virtual environment from the hash-locked requirements; everything else follows.
# `make demo` and `make test` are all that a newcomer needs.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.ready
UV := $(VENV)/bin/uv
UV_VERSION := 0.13.8
# Where this is set, every pytest worker would rewrite every assertion on every run.
unexport PYTHONDONTWRITEBYTECODE
# Tests of one file share what they start, so a file stays with one worker.
# Many wait for blocks and beats: one worker more than there are cores keeps these busy.
CORES = $(shell $(PYTHON) -c 'import os; print(os.cpu_count() or 1)')
BY_FILE := --dist loadfile --no-loadscope-reorder
PYTEST_WORKERS = -n $(shell expr $(CORES) + 1) $(BY_FILE)
# Every file there has a network of its own, which mostly waits.
E2E_WORKERS := -n 4 $(BY_FILE)

.PHONY: demo test e2e check types light fix bench clean lock spec docs contracts contracts-near setup

# On Sei; CHAIN=near or CHAIN=both for the others.
demo: $(STAMP)
	$(BIN)/deai demo $(if $(CHAIN),--chain $(CHAIN))

test: $(STAMP) contracts/sei/node_modules/.ready
	$(BIN)/python -m pytest $(PYTEST_WORKERS) --ignore=tests/e2e --ignore=tests/benchmarks
	$(MAKE) --no-print-directory e2e
	@if [ -e contracts/sei/node_modules/.ready ]; then $(MAKE) --no-print-directory -C contracts/sei test; \
	else echo "SKIPPED: the contracts' own tests (npm is missing)"; fi

# The last part of `make test`: faults on whole networks, and every benchmark once, quickly.
e2e: $(STAMP)
	$(BIN)/python -m pytest $(E2E_WORKERS) tests/e2e tests/benchmarks

# Offline, no chain process, no sockets, under a minute: twenty examples of each property, of which
# `make test` tries the full number, and nothing that runs whole programs. Types beside the tests.
check: $(STAMP)
	$(BIN)/ruff format --check --quiet .
	$(BIN)/ruff check --quiet .
	$(BIN)/lint-imports --no-logo >/dev/null || $(BIN)/lint-imports
	$(BIN)/python contracts/spec/generate.py --check
	$(BIN)/python docs/generate.py --check
	$(MAKE) --no-print-directory --jobs=2 --output-sync=target types light

types: $(STAMP)
	$(BIN)/mypy

# Importing is half of it, so no more workers than cores.
light: $(STAMP)
	$(BIN)/python -m pytest -q -n $(CORES) $(BY_FILE) --light

fix: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(STAMP) .venv-ray/.ready
	$(BIN)/python -m benchmarks

spec: $(STAMP)
	$(BIN)/python contracts/spec/generate.py

docs: $(STAMP)
	$(BIN)/python docs/generate.py

# Artifacts compared byte for byte, format, coverage of lines, static analysis.
contracts: contracts/sei/node_modules/.ready .venv-slither/.ready
	$(MAKE) --no-print-directory -C contracts/sei check-artifacts check-fmt coverage
	PATH="$(CURDIR)/.venv-slither/bin:$$PATH" $(MAKE) --no-print-directory -C contracts/sei slither

# Formatting, lints and tests of the Rust contracts; compiles for minutes the first time.
contracts-near:
	@command -v cargo >/dev/null || { echo "cargo is missing: see contracts/near/README.md"; exit 3; }
	$(MAKE) --no-print-directory -C contracts/near check-fmt clippy test

# An environment of its own: its web3 is not ours.
.venv-slither/.ready: contracts/sei/slither.lock $(STAMP)
	$(UV) venv --quiet --clear .venv-slither
	$(UV) pip install --quiet --python .venv-slither/bin/python --require-hashes \
		-r contracts/sei/slither.lock
	@touch $@

# What people would otherwise use for remote calls, measured beside the fast lane.
.venv-ray/.ready: benchmarks/ray.lock $(STAMP)
	$(UV) venv --quiet --clear .venv-ray
	$(UV) pip install --quiet --python .venv-ray/bin/python --require-hashes -r benchmarks/ray.lock
	@touch $@

# Resolve again; keeps hashes, leaves out the index's address.
lock: $(STAMP)
	$(UV) pip compile pyproject.toml --all-extras --generate-hashes --no-emit-index-url \
		--python-version 3.11 --quiet --output-file requirements.lock --upgrade

setup: $(STAMP)

# Compiled once here: a network starts dozens of processes, each of which imports a lot.
# trio-typing (needed by libp2p at run time) brings stubs that break trio's own types: removed.
$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed: apt-get install python3"; exit 3; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || $(MAKE) --no-print-directory python-venv
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	@echo "Installing into $(VENV): about 6 GB, some minutes the first time"
	$(UV) pip install --quiet --compile-bytecode --python $(BIN)/python --require-hashes \
		-r requirements.lock
	$(UV) pip install --quiet --python $(BIN)/python --no-deps --editable .
	rm -rf $(VENV)/lib/python3.*/site-packages/trio-stubs
	@touch $@

.PHONY: python-venv
python-venv:
	@if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		apt-get update -qq && apt-get install -y -qq python3-venv; \
	else echo "Python's venv module is missing: sudo apt-get install python3-venv"; exit 3; fi

# `npm ci` wants every platform's build in the lock, and a lock holds only those that its registry has.
# The Solidity tools and anvil are for development; without npm their tests are skipped, loudly.
contracts/sei/node_modules/.ready: contracts/sei/package-lock.json
	@if command -v npm >/dev/null; then \
		(cd contracts/sei && npm install --no-save --silent --no-audit --no-fund) && touch $@; \
	else echo "npm is missing: contract tools and anvil are left out"; fi

clean:
	rm -rf $(VENV) .venv-slither .venv-ray build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
	rm -rf contracts/sei/node_modules contracts/sei/out contracts/sei/cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
