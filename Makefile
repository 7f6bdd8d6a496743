# `make test` and `make run` do all their own set-up.
SHELL := /bin/bash
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: help run test gates kubernetes bench bench-index bench-models bench-slate bench-tuning sbom audit chaos chaos-nodes trained clean

help: ## Show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | column -t -s $$'\t'

$(INSTALLED): pyproject.toml requirements.lock
	@echo "installing pinned dependencies into $(VENV) (about 2 minutes, downloads aside)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install --quiet --disable-pip-version-check torch==2.13.0
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps -r requirements.lock
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

# In an environment of their own: what they need is none of ours.
AUDITORS := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/recmesh/auditors
STATE := $(or $(RECMESH_HOME),.recmesh)

$(STATE)/dataset/dataset.json: | $(INSTALLED)
	$(BIN)/recmesh world generate --out $(STATE)/world
	$(BIN)/recmesh ingest $(STATE)/world

trained: $(INSTALLED) $(STATE)/dataset/dataset.json
	@missing=$$(for model in cf behavioral nlp network; do \
		test -f $(STATE)/artifacts/$$model/live.json || echo $$model; done); \
		test -z "$$missing" || $(BIN)/recmesh train $$missing
	@$(BIN)/recmesh index

run: trained ## Make the sample world, train, index, and serve until Ctrl-C; reuses what exists
	@exec $(BIN)/recmesh up --show-slates

test: gates ## All gates and all tests
	$(BIN)/pytest -n 2 --dist loadfile tests/unit tests/conformance tests/kubernetes tests/edge
	$(BIN)/pytest tests/mesh

gates: $(INSTALLED) ## Format, lint, types, imports, contract
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/python protos/generate.py --check
	$(BIN)/python k8s/generate.py --check

kubernetes: $(INSTALLED) ## Every Kubernetes overlay through the whole chain, checkov too
	$(BIN)/python -m k8s.validate

bench: $(INSTALLED) ## CPU per request, requests/s and latency of four arrangements, side by side
	$(BIN)/python -m benchmarks.arrangements $(BENCH)

bench-index: $(INSTALLED) ## Vector indexes side by side: build, recall, latency, CPU, memory
	$(BIN)/python -m benchmarks.vector_index $(BENCH)

bench-slate: $(INSTALLED) ## What blend and slate cost, and how far slates are from the best
	$(BIN)/python -m benchmarks.slate_and_blend $(BENCH)

bench-models: $(INSTALLED) ## CPU per call of every trained model, and what each measure gains
	$(BIN)/python -m benchmarks.model_costs $(BENCH)

bench-tuning: $(INSTALLED) $(STATE)/dataset/dataset.json ## Trials a minute of tuning, beside a plain Optuna study
	$(BIN)/python -m benchmarks.tuning_trials $(BENCH)

$(AUDITORS):
	@$(PYTHON) -m venv $@
	@$@/bin/pip install --quiet --disable-pip-version-check \
		cyclonedx-bom==7.5.0 pip-licenses==5.5.5 pip-audit==2.10.1

sbom: $(INSTALLED) $(AUDITORS) ## What we are made of: build/sbom.json (CycloneDX), build/licences.md
	@mkdir -p build
	@$(AUDITORS)/bin/cyclonedx-py environment $(BIN)/python --output-format JSON -o build/sbom.json
	@$(AUDITORS)/bin/pip-licenses --python $(BIN)/python --format=markdown --order=license \
		--with-urls --output-file build/licences.md

audit: $(AUDITORS) ## Known vulnerabilities of what is pinned; asks PyPI
	$(AUDITORS)/bin/pip-audit --requirement requirements.lock --no-deps --disable-pip --strict

SERVER := $(BIN)/python -W ignore -m benchmarks.postgresql_server

chaos: trained ## Break each part of a mesh with two orchestrators in turn, under load
	@export RECMESH_ORCHESTRATOR__MIN_REPLICAS=2 RECMESH_ORCHESTRATOR__MAX_REPLICAS=2; \
		uri=$$($(SERVER) start $(STATE)/postgresql) || exit; export RECMESH_DATABASE__URI=$$uri; \
		$(BIN)/recmesh up --detach; ended=$$?; \
		if [ $$ended = 0 ]; then \
			$(BIN)/python -m benchmarks.chaos $(BENCH); ended=$$?; $(BIN)/recmesh down; \
		fi; \
		$(SERVER) stop $(STATE)/postgresql; exit $$ended

chaos-nodes: trained ## Lose a node of a mesh on several, under load
	@$(BIN)/python -m benchmarks.node_faults $(BENCH)

clean: ## Forget data, models and logs (not the virtual environment)
	rm -rf .recmesh
