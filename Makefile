# Fairlane: `make` lists the verbs. Each makes its environment by itself on a machine with Python 3.11+.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
LLAMA := 2026.10.11549

.PHONY: help env demo test lint check fix bench chaos lock clean

help: ## list the verbs
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

env: $(READY) ## make the environment in .venv from requirements.lock

$(READY): requirements.lock pyproject.toml producer_sdk/pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Fairlane needs Python 3.11 or newer")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -e ./producer_sdk -e .
	@touch $@

MODEL ?= twin

demo: $(READY) ## the main job: an embedded fleet, three tenants, 345 jobs, a table (MODEL=local: a small real model)
	$(if $(filter local,$(MODEL)),-$(BIN)/python -m pip install --quiet --disable-pip-version-check 'xllamacpp==$(LLAMA)')
	$(BIN)/fairlane demo --model $(MODEL)

test: $(READY) ## the whole test suite; starts every server it needs
	$(BIN)/python -m pytest -n 2

lint: $(READY) ## format, lint, strict types, import contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

check: lint test ## what CI runs

fix: $(READY) ## format and mend what can be mended
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(READY) ## every benchmark, as ratios; prints tables
	$(BIN)/python -m benchmarks

chaos: $(READY) ## kill workers and the broker for minutes, then compare the books
	$(BIN)/python -m tests.chaos
	$(BIN)/python -m tests.chaos.money
	$(BIN)/python -m tests.chaos.broker_away

lock: $(READY) ## compile requirements.lock anew
	uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-annotate --no-header \
	  --python-version 3.11 --extra dev --no-emit-package fairlane-sdk --no-emit-package fairlane \
	  pyproject.toml producer_sdk/pyproject.toml -o requirements.lock
	uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-annotate --no-header \
	  --python-version 3.11 --extra flower --no-emit-package fairlane-sdk --no-emit-package fairlane \
	  --constraint requirements.lock pyproject.toml producer_sdk/pyproject.toml -o deploy/requirements.lock

clean: ## remove the environment and caches
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis
