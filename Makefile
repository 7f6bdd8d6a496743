# Two commands matter: `make run` and `make test`. Both do all their own set-up.
SHELL := /bin/bash
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: help run test gates bench clean

help: ## Show this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | column -t -s $$'\t'

$(INSTALLED): pyproject.toml requirements.lock
	@echo "installing pinned dependencies into $(VENV) (about 2 minutes, downloads aside)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install --quiet --disable-pip-version-check torch==2.13.0
	@$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.lock
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

run: $(INSTALLED) ## Set up everything, print one slate per surface, serve until Ctrl-C
	@exec $(BIN)/recmesh run

test: gates ## All gates and all tests
	$(BIN)/pytest

gates: $(INSTALLED) ## Format, lint, types, imports, contract
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/python protos/generate.py --check

bench: $(INSTALLED) ## CPU per request and throughput, side by side
	$(BIN)/python -m benchmarks

clean: ## Forget data, models and logs (not the virtual environment)
	rm -rf .recmesh
