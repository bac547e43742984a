VENV ?= .venv
PYTHON ?= python3
BIN := $(abspath $(VENV))/bin
STAMP := $(VENV)/.installed

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help env demo test test-faults check bench

demo test test-faults check bench: export PATH := $(BIN):$(PATH)

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

env: $(STAMP)  ## build .venv with the suite (editable) and all tools; quick when up to date

# pip and setuptools first, pinned like the rest: the build then needs no environment of its own.
$(STAMP): setup.py pyproject.toml constraints.txt common/version.py
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed (PYTHON=...)")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --constraint constraints.txt --upgrade pip setuptools
	@PYTHONWARNINGS=ignore $(BIN)/python -m pip install --quiet --constraint constraints.txt --no-build-isolation \
		--editable '.[postgres,uwsgi,progress,test,dev]'
	@touch $@

demo: env  ## start the suite, upload, download, show what happened
	@bash docs/demo/run.sh

test:  ## run the tests, with real servers and clients (installs Debian packages when root)
	@PYTHON=$(PYTHON) tests/system/prepare
	@$(MAKE) --no-print-directory env
	@PYTHONPATH=.namespace $(BIN)/python -m pacifica.tests.system.apart
	@$(BIN)/python -m pytest -n 3 --dist loadscope --ignore tests/faults $(if $(RESULTS),--results $(RESULTS)) $(or $(TESTS),tests)

# Outcomes go into the document that names the tests; CI leaves its checkout as it is.
test-faults: RESULTS ?= $(if $(CI),,docs/reliability.md)
test-faults:  ## run the fault tests: kills, power cuts, full disks, lost brokers
	@PYTHON=$(PYTHON) tests/system/prepare
	@$(MAKE) --no-print-directory env
	@PYTHONPATH=.namespace $(BIN)/python -m pacifica.tests.system.apart
	@$(BIN)/python -m pytest --timeout 600 -n 2 --dist loadfile $(if $(RESULTS),--results $(RESULTS)) $(or $(TESTS),tests/faults)

check: env  ## lint, format, types, import rules
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/python -m pytest -q tests/test_architecture.py

bench:  ## measure against the limits of the machine
	@PYTHON=$(PYTHON) tests/system/prepare wrk:wrk
	@$(MAKE) --no-print-directory env
	@PYTHONPATH=.namespace $(BIN)/python benchmarks/run.py $(ARGS)
