# Modelyard. `make help` lists the targets. Everything is installed in .venv (and uv in .tools, where it is missing);
# both can be deleted at any time. Works with GNU make 4.3, a POSIX shell and any Python >= 3.11.

PYTHON ?= python3
SHELL := /bin/sh
.DEFAULT_GOAL := help
.NOTPARALLEL:
.SUFFIXES:
.DELETE_ON_ERROR:

UV := .tools/bin/uv
PY := .venv/bin/python
READY := .venv/.ready
PORT ?= 8000
DASHBOARDS_PORT ?= 8501
MLFLOW_PORT ?= 5000

# The interpreter is the one the user has: uv never fetches another.
export UV_PYTHON_DOWNLOADS := never
unexport PYTHONPATH PYTHONHOME VIRTUAL_ENV MAKEFLAGS MFLAGS

# An empty environment is enough.
ifeq ($(strip $(PATH)),)
export PATH := /usr/local/bin:/usr/bin:/bin
endif
ifeq ($(strip $(HOME)),)
export HOME := $(CURDIR)/.tools/home
endif

# An environment whose interpreter has gone, as after an upgrade of the system, is made anew.
ifneq ($(shell $(PY) -c 'print("alive")' 2>/dev/null),alive)
.PHONY: $(READY)
endif

# Importing modelyard turns off third parties' telemetry, for the server, too.
define MLFLOW_UI
import os, sys, modelyard
settings = modelyard.Settings()
if settings.tracking.startswith("http"):
    sys.exit(f"MLflow is the server that MODELYARD_MLFLOW_URI names: {settings.tracking}")
settings.home.mkdir(parents=True, exist_ok=True)
server = ["server", "--host", "127.0.0.1", "--port", sys.argv[1], "--backend-store-uri", settings.tracking]
os.execv(sys.executable, [sys.executable, "-m", "mlflow", *server])
endef
export MLFLOW_UI

.PHONY: help demo test check serve dashboards mlflow lock clean setup

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "make %-11s %s\n", $$1, $$2}' Makefile

demo: $(READY) ## run the whole experiment cycle on the embedded defaults and answer a prompt
	@$(PY) -m pipelines demo

test: $(READY) ## run all tests
	@$(PY) -m pytest -n auto --maxprocesses 8

check: $(READY) ## format, lint, types, import contracts, fast tests
	@$(PY) -m ruff format --check .
	@$(PY) -m ruff check .
	@$(PY) -m pyright
	@.venv/bin/lint-imports
	@$(PY) -m pytest -n auto --maxprocesses 8 -m "not slow and not browser"

serve: $(READY) ## serve the OpenAI-compatible API (PORT=8000)
	@.venv/bin/modelyard serve --port $(PORT)

dashboards: $(READY) ## open the Streamlit dashboards (DASHBOARDS_PORT=8501)
	@$(PY) -m streamlit run dashboards/app.py --server.port $(DASHBOARDS_PORT)

mlflow: $(READY) ## open the MLflow UI (MLFLOW_PORT=5000)
	@$(PY) -c "$$MLFLOW_UI" $(MLFLOW_PORT)

setup: $(READY) ## make the environment only

lock: $(UV) ## pin all dependencies again from pyproject.toml
	@$(UV) pip compile --quiet --universal --generate-hashes --no-header --no-annotate --group lab --group dev \
	  --python-version 3.11 pyproject.toml -o requirements.lock

clean: ## delete the environment and what tools left; keeps .yard, where results are
	@rm -rf .venv .tools dist build .pytest_cache .ruff_cache .import_linter_cache .hypothesis .benchmarks
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

define CHECK_PYTHON
if ! $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
  echo "Modelyard needs Python 3.11 or newer, but $(PYTHON) is $$($(PYTHON) --version 2>/dev/null || echo missing):" \
    "name another one, as in: make PYTHON=python3.12" >&2; exit 1; \
fi
endef

$(READY): requirements.lock pyproject.toml | $(UV)
	@$(CHECK_PYTHON)
	@$(PY) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  rm -rf .venv; $(UV) venv --quiet --no-project --python "$$(command -v $(PYTHON))" .venv; }
	@echo "Setting up .venv"
	@$(UV) pip sync --quiet --python $(PY) --require-hashes --compile-bytecode requirements.lock
	@$(UV) pip install --quiet --python $(PY) --no-deps --no-build-isolation -e .
	@touch $@

# uv as the lock pins it: the user's own where it is new enough, else from the package registry, checked against its hashes.
# `pip --target` is allowed on a Python that is externally managed; a Python without pip may still be able to make a venv.
$(UV):
	@$(CHECK_PYTHON)
	@rm -rf .tools && mkdir -p .tools
	@awk '/^uv==/{found=1} found{print} found && !/\\$$/{exit}' requirements.lock > .tools/uv.txt
	@if uv pip compile --help 2>/dev/null | grep -q -- --group; then \
	  mkdir .tools/bin && ln -s "$$(command -v uv)" $@; \
	elif $(PYTHON) -m pip --version >/dev/null 2>&1; then \
	  echo "Fetching uv"; \
	  PIP_USER=0 PIP_ROOT_USER_ACTION=ignore $(PYTHON) -m pip install --quiet --disable-pip-version-check --no-warn-script-location \
	    --require-hashes --target .tools -r .tools/uv.txt; \
	elif $(PYTHON) -m venv .tools/venv >/dev/null 2>&1; then \
	  echo "Fetching uv"; \
	  .tools/venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r .tools/uv.txt && \
	  mkdir .tools/bin && ln -s ../venv/bin/uv $@; \
	else \
	  echo "$(PYTHON) has neither pip nor venv: install python3-venv or python3-pip, then run make again." >&2; exit 1; \
	fi
