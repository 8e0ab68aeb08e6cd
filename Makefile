# Needs Python 3.10 to 3.14 and make; everything else is installed into .venv.
.DEFAULT_GOAL := help
.PHONY: help demo ui test reliability coverage quick docs again e2e e2e-ui soak lint types matrix wheel benchmark benchmark-quick clean

# The first Python that Airflow runs on (a pyenv shim may be there and not work, so each is tried).
PYTHON ?= $(shell for p in python3.12 python3.13 python3.11 python3.10 python3.14 python3 python; do \
	$$p -c 'import sys, venv; sys.exit(not (3, 10) <= sys.version_info < (3, 15))' 2>/dev/null && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
UV := $(VENV)/bin/uv
# Half of a test is waiting, so there are three processes more than cores.
WORKERS ?= $(shell echo $$(( $$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2) + 3 )))
# The tests start hundreds of processes: none of them should have to compile everything anew.
unexport PYTHONDONTWRITEBYTECODE
# What is installed of ours; the groups of pyproject.toml come on top.
EXTRAS := emulator,examples,pandas,warehouse
# What the inner loop runs: no server, no database, no DAG, no kill; so there are as many processes as cores.
QUICK := $(wildcard tests/test_*.py tests/api/test_[cehrs]*.py) tests/capture/test_events.py tests/connection \
	$(filter-out tests/results/test_insight_tables%,$(wildcard tests/results/test_*.py))
# Which Airflow `make test` runs on; .ci/run sets others.
AIRFLOW ?= apache-airflow>=3.3,<3.4

help:  ## show this list
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

# Installs anew when the metadata changed. uv resolves Airflow in seconds where pip takes a minute.
$(VENV)/.installed: setup.cfg pyproject.toml Makefile
	@test -n "$(PYTHON)" || { echo "Python 3.10 to 3.14 is needed: make PYTHON=/path/to/python"; exit 1; }
	@echo "Installing Airflow and the provider into $(VENV) (once, about a minute) ..."
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@test -x $(UV) || $(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	@$(UV) pip install --quiet --compile-bytecode --python $(BIN)/python "$(AIRFLOW)" -e ".[$(EXTRAS)]" --group test --group lint
	@touch $@

# A whole deployment of Airflow, and its pages in a browser. Not at each start: an installation takes the package away for
# a moment, from another deployment too.
$(VENV)/.deployment: $(VENV)/.installed
	@$(UV) pip install --quiet --python $(BIN)/python "$(AIRFLOW)" -e ".[$(EXTRAS)]" --group ui
	@touch $@

demo: $(VENV)/.installed  ## run the main job on real Airflow against an embedded PostHog
	@$(BIN)/python -m demo.run

ui: $(VENV)/.deployment  ## open Airflow's pages with all examples, an embedded PostHog and a warehouse; Ctrl-C stops it all
	@$(BIN)/python -m demo.ui

# Tests write and remove a hundred thousand small files: in memory, where 8 GB of it are free, and else on the disk.
ROOM := $(if $(TMPDIR),,$(shell test "$$(df -kP /dev/shm 2>/dev/null | awk 'NR == 2 { print $$4 }')" -gt 8000000 \
	2>/dev/null && echo TMPDIR=/dev/shm))
# Whole files go to the processes, those that take longest first (tests/conftest.py): none of them ends long after the
# others.
BESIDE := -n $(WORKERS) --dist loadfile --no-loadscope-reorder

# Once, as each of the processes would compile all of it.
$(VENV)/.compiled: $(VENV)/.installed
	@echo "Compiling the tests (once) ..."
	@$(ROOM) $(BIN)/python -m pytest --collect-only -q > /dev/null || true  # what is wrong is told by the tests themselves
	@touch $@

test: $(VENV)/.compiled  ## run the tests, in less than ten minutes; `make reliability` has the rest
	@$(ROOM) $(BIN)/python -m pytest $(BESIDE) -m "not reliability" $(PYTEST_ARGS)

reliability: $(VENV)/.compiled  ## run each task under each fault, kill it, let PostHog lie to it; print the totals
	@$(ROOM) $(BIN)/python -m pytest $(BESIDE) -m reliability $(PYTEST_ARGS)

coverage: $(VENV)/.installed  ## run the tests and tell which lines none of them has run
	@COVERAGE_CORE=$$($(BIN)/python -c 'import sys; print("sysmon" if sys.version_info >= (3, 12) else "ctrace")') \
		$(BIN)/python -m pytest $(BESIDE) --cov --cov-report=term:skip-covered $(PYTEST_ARGS)

quick: $(VENV)/.installed  ## run the tests that need no server: less than a minute
	@$(BIN)/python -m pytest $(BESIDE) -n auto -q $(QUICK)

again: $(VENV)/.installed  ## repeat the tests that failed last, alone
	@$(BIN)/python -m pytest --last-failed --last-failed-no-failures=none -x

e2e: $(VENV)/.deployment  ## kill, clear and starve a whole deployment on PostgreSQL, three times over
	@$(BIN)/python -m pytest tests/e2e

e2e-ui: $(VENV)/.deployment  ## walk Airflow's pages, 3 and 2.11, in a real Chromium; PICTURES=1 renews docs/pictures
	@command -v chromium chromium-browser google-chrome >/dev/null || $(BIN)/playwright install chromium >/dev/null 2>&1 || true
	@$(BIN)/python -m pytest tests/ui

# How long `make soak` goes on.
MINUTES ?= 30

soak: $(VENV)/.deployment  ## run the example DAGs under random faults and kills for half an hour (MINUTES=30), and check the books
	@$(BIN)/python -m tests.soak --minutes $(MINUTES) $(SOAK_ARGS)

docs: $(VENV)/.installed  ## build the documentation into build/site; a warning is an error
	@$(UV) pip install --quiet --python $(BIN)/python --group docs
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build  # with --quiet a warning would not be counted

lint: $(VENV)/.installed  ## check style
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .

types: $(VENV)/.installed  ## check types
	@$(BIN)/mypy

matrix: $(VENV)/.installed  ## run the tests on other Airflow versions
	@$(ROOM) $(BIN)/python -m tests.matrix

wheel: $(VENV)/.installed  ## build what is published, twice, and try it in an empty environment of each Airflow
	@$(BIN)/python -m tests.wheel

benchmark: $(VENV)/.installed  ## measure extraction, loads, downloads and rows into PostHog beside peers, erasure, bytes that PostHog reads, parse cost and the triggerer (75 min)
	@$(BIN)/python -m benchmarks.parse_cost
	@$(BIN)/python -m benchmarks.triggerer
	@$(BIN)/python -m benchmarks.download
	@$(BIN)/python -m benchmarks.load_sql
	@$(BIN)/python -m benchmarks.merge
	@$(BIN)/python -m benchmarks.erasure
	@$(BIN)/python -m benchmarks.erasure_cost
	@$(BIN)/python -m benchmarks.server_cost
	@$(BIN)/python -m benchmarks.foretold
	@$(BIN)/python -m benchmarks.into_posthog
	@$(BIN)/python -m benchmarks.extract

benchmark-quick: $(VENV)/.installed  ## run benchmarks with few rows: each row lands, whatever goes wrong
	@$(ROOM) $(BIN)/python -m pytest -n auto --dist loadfile tests/benchmarks

clean:  ## remove what the other targets made
	rm -rf $(VENV) .venvs .demo .coverage* .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info build dist
