# Every target says what it does: `make help`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
EXTRA ?=
INSTALL := $(PYTHON) deploy/install.py $(if $(EXTRA),--extra $(EXTRA))
# The command replaces the recipe's shell, so that signals reach it, and ends if make is killed.
EXEC := exec $(shell setpriv --pdeathsig TERM true 2>/dev/null && echo setpriv --pdeathsig TERM)
PYTEST := $(BIN)/python -m pytest
# An empty PORT= or REDIS_URL= on the command line means the default.
GIVEN := PORT REDIS_URL
SETTINGS := env $(foreach name,$(GIVEN),$(if $($(name)),,-u $(name))) \
	$(foreach name,$(GIVEN),$(if $($(name)),$(name)='$($(name))'))

.DEFAULT_GOAL := help
.PHONY: help install install-dev system-tools demo test lint format types contracts unit \
	integration e2e test-faults test-fuzz bench-beside bench-compress bench-cost bench-gateway \
	bench-latency bench-speed train-model clean dashboards browser screenshots release images docs reference figures

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: ## make .venv with pinned dependencies (EXTRA=cpu or gpu; by default as the machine is)
	@$(INSTALL)

install-dev:
	@$(INSTALL) --dev

system-tools: ## the browser and Prometheus that tests drive, by Debian's package manager
	@$(PYTHON) deploy/system.py

demo: install ## compress, serve and compare the bundled model (ONCE=1, RECOVERY=1000, PORT=8080, REDIS_URL=redis://...)
	@$(EXEC) $(SETTINGS) $(BIN)/infoprune demo $(if $(filter-out 0,$(ONCE)),--once) $(if $(RECOVERY),--recovery $(RECOVERY))

# One after another, whatever -j says: the steps share two cores, and the first failure counts.
test: install-dev system-tools ## lint, types, contracts, unit, integration, browser and end-to-end tests
	@for step in lint types contracts unit integration browser e2e; do \
		echo "== $$step"; $(MAKE) --no-print-directory $$step || exit 1; done

lint: install-dev ## check style and formatting
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

format: install-dev ## put formatting and imports right
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

types: install-dev ## check types
	@$(BIN)/mypy

contracts: install-dev ## check which package may import which
	@$(BIN)/lint-imports

unit: install-dev ## seconds: no network, no processes
	@$(PYTEST) tests/unit

integration: install-dev ## a real Redis, the real gateway, a fake engine
	@$(PYTEST) tests/integration

browser: install-dev ## the web page in a real Chromium, as a person uses it
	@$(PYTEST) tests/browser

screenshots: install-dev ## docs/images/ from a running service (URL=http://127.0.0.1:8080)
	@$(BIN)/python -m deploy.screenshots $(if $(URL),--url $(URL))

e2e: install-dev ## real vLLM, minutes
	@$(PYTEST) tests/e2e

bench-compress: install-dev ## compare all methods at all budgets (hours; goes on where it was; MINUTES=30)
	@$(EXEC) $(BIN)/python -m bench.compress $(if $(MINUTES),--minutes $(MINUTES))

bench-speed: install ## speed of original and compressed in vLLM, 25 minutes (ARGS='--heads', '--tiny', '--gpu')
	@$(EXEC) $(BIN)/python -m bench.speed $(ARGS)

bench-latency: install ## is the target latency met in vLLM? ten minutes on a quiet machine (ARGS='--shares 0.8')
	@$(EXEC) $(BIN)/python -m bench.latency $(ARGS)

test-faults: install-dev ## kill, stop and cut off workers, store and gateway under load, minutes
	@$(PYTEST) tests/faults

test-fuzz: install-dev ## thousands of hostile requests against the gateway, minutes
	@$(PYTEST) tests/fuzz

bench-gateway: install-dev ## added latency and throughput beside LiteLLM, vllm-router and a bare proxy
	@$(EXEC) $(BIN)/python -m bench.gateway $(if $(filter-out 0,$(QUICK)),--quick)

train-model: install ## train the bundled model, or go on where it was (hours on a CPU)
	@$(EXEC) env OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m models.training.train

bench-beside: install-dev ## what clients feel while a job compresses the model that they ask (minutes)
	@$(EXEC) $(BIN)/python -m bench.beside

bench-cost: install ## cost of compressing against model size (SIZES="15M 60M"; hours for all four)
	@$(EXEC) $(BIN)/python -m bench.cost $(if $(SIZES),--sizes $(SIZES))

dashboards: install-dev ## write deploy/grafana/ anew from deploy/dashboards/
	@$(BIN)/python -m deploy.dashboards

release: install-dev ## sdist, wheel, SBOM and checksums into dist/; the version is the last tag's
	@$(BIN)/python -m deploy.release

images: install-dev ## build all images with Docker (PROFILE=cpu or gpu); their tag is the version
	@VERSION=$$($(BIN)/python -m hatchling version | tr + -) && export VERSION && docker compose \
		-f deploy/compose.yaml --profile $(or $(PROFILE),cpu) build

docs: install-dev ## build the documentation into site/
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet
	@echo "site/index.html; with its search: python3 -m http.server --directory site"

reference: install-dev ## write the documentation's reference pages from the code
	@$(BIN)/python -m deploy.reference

figures: install ## compress the bundled model to 0.3125 of its FLOPs and draw the documentation's figures (minutes)
	@$(EXEC) $(BIN)/python -m deploy.reference.figures

clean: ## remove caches and build outputs; .venv and runs/ stay
	rm -rf build dist site .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -path ./$(VENV) -prune -o -name __pycache__ -type d -exec rm -rf {} +
